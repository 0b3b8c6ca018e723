//! One call, as both threads know it: what its handler has said, and what is on its way to it.
//!
//! A request of plain HTTP is one too: parts of its body are its messages, and a status of gRPC only says whether its
//! response is whole.
//!
//! Memory is bounded both ways. Requests are taken from HTTP/2 only while the handler keeps up (`UNREAD`); what is not
//! taken keeps its share of the stream's window. A handler that writes faster than its client reads is told to wait
//! (`UNSENT`). All that a call holds is counted in its client's account, which may refuse it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::grpc::message::{framed, unframed};
use crate::grpc::status::Status;
use crate::shared::account::Held;
use crate::shared::lock::locked;
use crate::shared::outbox::Outbox;
use crate::shared::peer::Peer;
use crate::shared::request::Opening;

/// Bytes of requests that may wait for the handler before no more are taken.
const UNREAD: usize = 64 * 1024;
/// What a request costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Bytes of responses that may wait for HTTP/2 before a writer waits.
const UNSENT: usize = 64 * 1024;
/// What a call costs here and in the interpreter beside its messages and headers.
const CALL: usize = 4 * 1024;

/// What a handler has said beside messages.
#[derive(Default)]
pub struct Said {
    /// Boxed, since few calls have one before their first message.
    pub initial: Option<Box<Response<()>>>,
    pub status: Option<Status>,
    /// The client holds too much for a response.
    pub refused: bool,
}

/// What a handler has said and the task has not yet taken.
#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Bytes>,
    said: Said,
    /// The task is on the list of stirred calls.
    stirred: bool,
    waker: Option<Waker>,
}

/// What both threads know of a call.
pub struct Call {
    pub id: u64,
    pub path: String,
    pub headers: HeaderMap,
    pub peer: Arc<Peer>,
    pub deadline: Option<Instant>,
    /// How the request began, where it is none of gRPC's.
    pub opening: Option<Box<Opening>>,
    mailbox: Mutex<Mailbox>,
    unread: AtomicUsize,
    unsent: AtomicUsize,
    writer_waits: AtomicBool,
    /// Nothing that is still said will reach the client.
    over: AtomicBool,
    /// The interpreter wants to be told.
    tell_when_over: AtomicBool,
    _held: Held,
}

impl Call {
    /// None if the client holds too much.
    pub fn new(id: u64, path: String, headers: HeaderMap, peer: Arc<Peer>, deadline: Option<Instant>) -> Option<Self> {
        Call::opened(id, path, headers, peer, deadline, None)
    }

    /// The same for a request of plain HTTP.
    pub fn of_http(id: u64, path: String, headers: HeaderMap, peer: Arc<Peer>, opening: Opening) -> Option<Self> {
        Call::opened(id, path, headers, peer, None, Some(Box::new(opening)))
    }

    fn opened(
        id: u64,
        path: String,
        headers: HeaderMap,
        peer: Arc<Peer>,
        deadline: Option<Instant>,
        opening: Option<Box<Opening>>,
    ) -> Option<Self> {
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum();
        let beside = opening.as_ref().map_or(0, |opening| opening.size());
        let held = Held::new(&peer.account, CALL + path.len() + size + beside)?;
        Some(Call {
            id,
            path,
            headers,
            peer,
            deadline,
            opening,
            mailbox: Mutex::default(),
            unread: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            writer_waits: AtomicBool::new(false),
            over: AtomicBool::new(false),
            tell_when_over: AtomicBool::new(false),
            _held: held,
        })
    }

    fn say(self: &Arc<Self>, outbox: &Outbox, what: impl FnOnce(&mut Mailbox)) {
        if self.is_over() {
            return;
        }
        let mut mailbox = locked(&self.mailbox);
        what(&mut mailbox);
        if !std::mem::replace(&mut mailbox.stirred, true) {
            outbox.stir(Waker::from(self.clone()));
        }
    }

    pub fn send_initial(self: &Arc<Self>, outbox: &Outbox, initial: HeaderMap) {
        let mut response = Box::new(Response::new(()));
        *response.headers_mut() = initial;
        self.say(outbox, |mailbox| mailbox.said.initial = Some(response));
    }

    /// Sends one message; false asks the writer to wait for `Event::Writable` before the next, or for the call's end.
    pub fn send(self: &Arc<Self>, outbox: &Outbox, message: &[u8], own: impl FnOnce() -> Bytes) -> bool {
        // Where nothing can be sent any more the writer waits, too: it is about to hear why.
        self.enqueue(outbox, framed(message, own), Said::default()).is_some_and(|unsent| self.has_room(unsent))
    }

    pub fn finish(self: &Arc<Self>, outbox: &Outbox, status: Status) {
        self.say(outbox, |mailbox| mailbox.said.status = Some(status));
    }

    /// Sends the one message of a unary response and the status OK.
    pub fn reply(self: &Arc<Self>, outbox: &Outbox, message: &[u8], own: impl FnOnce() -> Bytes) {
        self.enqueue(outbox, framed(message, own), Said { status: Some(Status::ok()), ..Said::default() });
    }

    /// Sends a part of the body of a response of plain HTTP, behind its head if that is given; as `send` does.
    pub fn respond(
        self: &Arc<Self>,
        outbox: &Outbox,
        head: Option<Response<()>>,
        part: &[u8],
        own: impl FnOnce() -> Bytes,
        whole: bool,
    ) -> bool {
        let said = Said { initial: head.map(Box::new), status: whole.then(Status::ok), refused: false };
        self.enqueue(outbox, (unframed(part, own), None), said).is_some_and(|unsent| self.has_room(unsent))
    }

    /// Queues a message's pieces and what is said with them; the bytes now queued, or none if the call is over or its
    /// client holds too much.
    fn enqueue(self: &Arc<Self>, outbox: &Outbox, (piece, rest): (Bytes, Option<Bytes>), said: Said) -> Option<usize> {
        let size = piece.len() + rest.as_ref().map_or(0, Bytes::len);
        if self.is_over() {
            return None;
        }
        if !self.peer.account.take(size) {
            self.say(outbox, |mailbox| mailbox.said.refused = true);
            return None;
        }
        let unsent = self.unsent.fetch_add(size, Ordering::SeqCst) + size;
        self.say(outbox, |mailbox| {
            if !piece.is_empty() {
                mailbox.messages.push_back(piece);
            }
            mailbox.messages.extend(rest);
            mailbox.said.initial = mailbox.said.initial.take().or(said.initial);
            mailbox.said.status = mailbox.said.status.take().or(said.status);
        });
        Some(unsent)
    }

    /// Whether there is room for more beside what is unsent; if not, the writer is told when there is.
    fn has_room(&self, unsent: usize) -> bool {
        if unsent <= UNSENT {
            return true;
        }
        self.writer_waits.store(true, Ordering::SeqCst);
        // The task may have sent everything just before it could see that somebody waits.
        self.unsent.load(Ordering::SeqCst) <= UNSENT && self.writer_waits.swap(false, Ordering::SeqCst)
    }

    /// Has the client of a request of plain HTTP asked for its body; true where that must be flushed.
    pub fn ask(self: &Arc<Self>, outbox: &Outbox) -> bool {
        let asks = self.opening.as_ref().is_some_and(|opening| opening.ask());
        if asks {
            self.say(outbox, |_| {});
        }
        asks
    }

    /// The handler has taken a message; true where that made room for more.
    pub fn consumed(self: &Arc<Self>, outbox: &Outbox, length: usize) -> bool {
        let size = length + OVERHEAD;
        let before = self.unread.fetch_sub(size, Ordering::AcqRel);
        self.peer.account.give_back_request(size);
        let made_room = before >= UNREAD && before - size < UNREAD;
        if made_room {
            self.say(outbox, |_| {});
        }
        made_room
    }

    /// Whether nothing that is still said will reach the client.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Has the interpreter told by `Event::Over`; false if there is nothing left to tell.
    pub fn tell_when_over(&self) -> bool {
        self.tell_when_over.store(true, Ordering::SeqCst);
        !self.over.load(Ordering::SeqCst)
    }

    // For its task

    /// Hands over what the handler has said, messages behind those that there are, and asks to be woken when it says more.
    pub fn collect(&self, messages: &mut VecDeque<Bytes>, waker: &Waker) -> Said {
        let mut mailbox = locked(&self.mailbox);
        if !mailbox.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            mailbox.waker = Some(waker.clone());
        }
        if messages.is_empty() {
            std::mem::swap(messages, &mut mailbox.messages);
        } else {
            messages.append(&mut mailbox.messages);
        }
        std::mem::take(&mut mailbox.said)
    }

    /// Counts a message that is on its way to the handler; false if the client holds too much.
    #[must_use]
    pub fn received(&self, length: usize) -> bool {
        let size = length + OVERHEAD;
        let has_room = self.peer.account.take_request(size);
        if has_room {
            self.unread.fetch_add(size, Ordering::AcqRel);
        }
        has_room
    }

    /// Whether as many messages are on their way to the handler as may be.
    pub fn is_full(&self) -> bool {
        self.unread.load(Ordering::Acquire) >= UNREAD
    }

    /// HTTP/2 has taken so many bytes; true if a writer waits for that, and is now to be told.
    #[must_use]
    pub fn sent(&self, size: usize) -> bool {
        let before = self.unsent.fetch_sub(size, Ordering::SeqCst);
        self.peer.account.give_back(size);
        before - size <= UNSENT && self.writer_waits.swap(false, Ordering::SeqCst)
    }

    /// Nothing that is still said will reach the client; true if the interpreter wants to be told.
    #[must_use]
    pub fn end(&self) -> bool {
        self.over.store(true, Ordering::SeqCst);
        self.tell_when_over.load(Ordering::SeqCst)
    }
}

/// Wakes the call's task for what its handler has said.
impl Wake for Call {
    fn wake(self: Arc<Self>) {
        let mut mailbox = locked(&self.mailbox);
        mailbox.stirred = false;
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.peer.account.give_back_request(*self.unread.get_mut());
        self.peer.account.give_back(*self.unsent.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::account::Accounts;
    use crate::shared::counting::Count;

    const BOUND: usize = 1024 * 1024;

    fn call() -> Arc<Call> {
        let peer = Peer::anybody(&Accounts::new(BOUND, String::new()));
        Arc::new(Call::new(0, "/a/b".into(), HeaderMap::new(), peer, None).unwrap())
    }

    fn send(call: &Arc<Call>, length: usize) -> bool {
        let message = Bytes::from(vec![0; length]);
        call.send(&Outbox::default(), &message, || message.clone())
    }

    fn collect(call: &Call) -> (usize, Said) {
        let mut messages = VecDeque::new();
        let said = call.collect(&mut messages, Waker::noop());
        (messages.iter().map(Bytes::len).sum(), said)
    }

    #[test]
    fn a_writer_waits_while_too_much_is_unsent() {
        let call = call();
        assert!(send(&call, UNSENT / 2));
        assert!(!send(&call, UNSENT));
        assert!(!call.sent(UNSENT / 4));
        assert!(call.sent(UNSENT));
        assert!(!call.sent(0), "it is told once");
    }

    #[test]
    fn what_a_handler_says_is_collected_once() {
        let call = call();
        call.send_initial(&Outbox::default(), HeaderMap::new());
        call.reply(&Outbox::default(), b"abc", || unreachable!());
        let (bytes, said) = collect(&call);
        assert_eq!((bytes, said.initial.is_some(), said.status.is_some()), (8, true, true));
        let (bytes, said) = collect(&call);
        assert_eq!((bytes, said.initial.is_some(), said.status.is_some()), (0, false, false));
    }

    #[test]
    fn the_task_is_woken_once_for_all_that_is_said_until_then() {
        let (call, outbox, count) = (call(), Outbox::default(), Arc::new(Count::default()));
        call.collect(&mut VecDeque::new(), &count.clone().into());
        call.send(&outbox, b"a", || unreachable!());
        call.send(&outbox, b"b", || unreachable!());
        outbox.wake_all();
        assert_eq!(count.wakes(), 1);
        call.send(&outbox, b"c", || unreachable!());
        outbox.wake_all();
        assert_eq!(count.wakes(), 2);
    }

    #[test]
    fn requests_are_full_until_the_handler_takes_some() {
        let call = call();
        assert!(call.received(UNREAD));
        assert!(call.is_full());
        assert!(call.consumed(&Outbox::default(), UNREAD));
        assert!(!call.is_full());
    }

    #[test]
    fn empty_requests_count_too() {
        let call = call();
        while !call.is_full() {
            assert!(call.received(0));
        }
    }

    #[test]
    fn a_call_that_is_over_takes_nothing_more() {
        let call = call();
        assert!(!call.end());
        assert!(!send(&call, 1), "its writer is about to hear why");
        assert_eq!(collect(&call).0, 0);
        assert!(!call.tell_when_over(), "there is nothing left to tell");
    }

    #[test]
    fn who_asks_in_time_is_told_of_the_end() {
        let call = call();
        assert!(call.tell_when_over());
        assert!(call.end());
    }

    #[test]
    fn a_response_beyond_what_the_client_may_hold_is_refused() {
        let call = call();
        assert!(!send(&call, BOUND));
        assert!(collect(&call).1.refused);
    }

    #[test]
    fn with_a_call_goes_all_that_it_holds() {
        let call = call();
        let account = call.peer.account.clone();
        assert!(call.received(1000));
        assert!(send(&call, 1000));
        assert!(!account.take(BOUND));
        drop(call);
        assert!(account.take(BOUND));
    }
}
