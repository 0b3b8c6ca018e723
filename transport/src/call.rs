//! One call: what both threads share of it, and the task that moves its messages.
//!
//! Memory is bounded both ways. Requests are taken from HTTP/2 only while the handler keeps up (`UNREAD`); what is not
//! taken keeps its share of the stream's window. A handler that writes faster than its client reads is told to wait
//! (`UNSENT`); messages go to HTTP/2 only as far as the client's window and `SEND_BUFFER` reach, and while the connection
//! gets rid of them. All that a call holds is counted in its client's account, which may refuse it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use tokio::time::Sleep;

use crate::account::{Held, Incoming};
use crate::inbox::{Begun, Event, Inbox};
use crate::lifetime::Alive;
use crate::lock::locked;
use crate::message::{framed, Assembler};
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::status::{Status, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED};

/// Bytes of requests that may wait for the handler before no more are taken.
const UNREAD: usize = 64 * 1024;
/// What a request costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Bytes of responses that may wait for HTTP/2 before a writer waits.
const UNSENT: usize = 64 * 1024;
/// Bytes of one stream's responses that HTTP/2 may hold.
pub const SEND_BUFFER: usize = 128 * 1024;
/// What a call costs here and in the interpreter beside its messages and headers.
const CALL: usize = 4 * 1024;

/// What a handler has said and the task has not yet taken.
#[derive(Default)]
struct Mailbox {
    initial: Option<HeaderMap>,
    messages: VecDeque<Bytes>,
    status: Option<Status>,
    /// The client holds too much for what the handler has said.
    refused: bool,
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
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum();
        let held = Held::new(&peer.account, CALL + path.len() + size)?;
        Some(Call {
            id,
            path,
            headers,
            peer,
            deadline,
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
        self.say(outbox, |mailbox| mailbox.initial = Some(initial));
    }

    /// Sends one message; false asks the writer to wait for `Event::Writable` before the next, or for the call's end.
    pub fn send(self: &Arc<Self>, outbox: &Outbox, message: &[u8], own: impl FnOnce() -> Bytes) -> bool {
        // Where nothing can be sent any more the writer waits, too: it is about to hear why.
        let Some(unsent) = self.enqueue(outbox, framed(message, own), None) else { return false };
        if unsent <= UNSENT {
            return true;
        }
        self.writer_waits.store(true, Ordering::SeqCst);
        // The task may have sent everything just before it could see that somebody waits.
        self.unsent.load(Ordering::SeqCst) <= UNSENT && self.writer_waits.swap(false, Ordering::SeqCst)
    }

    pub fn finish(self: &Arc<Self>, outbox: &Outbox, status: Status) {
        self.say(outbox, |mailbox| mailbox.status = Some(status));
    }

    /// Sends the one message of a unary response and the status OK.
    pub fn reply(self: &Arc<Self>, outbox: &Outbox, message: &[u8], own: impl FnOnce() -> Bytes) {
        self.enqueue(outbox, framed(message, own), Some(Status::ok()));
    }

    /// Queues a message's pieces; the bytes now queued, or none if the call is over or its client holds too much.
    fn enqueue(
        self: &Arc<Self>,
        outbox: &Outbox,
        (piece, rest): (Bytes, Option<Bytes>),
        status: Option<Status>,
    ) -> Option<usize> {
        let size = piece.len() + rest.as_ref().map_or(0, Bytes::len);
        if self.is_over() {
            return None;
        }
        if !self.peer.account.take(size) {
            self.say(outbox, |mailbox| mailbox.refused = true);
            return None;
        }
        let unsent = self.unsent.fetch_add(size, Ordering::SeqCst) + size;
        self.say(outbox, |mailbox| {
            mailbox.messages.push_back(piece);
            mailbox.messages.extend(rest);
            mailbox.status = mailbox.status.take().or(status);
        });
        Some(unsent)
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

    fn sent(&self, size: usize, inbox: &Inbox) {
        let before = self.unsent.fetch_sub(size, Ordering::SeqCst);
        self.peer.account.give_back(size);
        self.peer.progress.given(size);
        if before - size <= UNSENT && self.writer_waits.swap(false, Ordering::SeqCst) {
            inbox.event(self, Event::Writable);
        }
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

/// The response, before and after its headers have gone out.
enum Response {
    Unsent(SendResponse<Bytes>),
    Sent(SendStream<Bytes>),
}

/// The call is over, and with it its task.
struct Over;

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        // A stream fails because its client or its connection has gone; nobody is left to be told.
        Over
    }
}

/// Moves one call's messages between HTTP/2 and the interpreter until it is over.
pub struct CallTask {
    call: Arc<Call>,
    inbox: Arc<Inbox>,
    body: RecvStream,
    response: Response,
    assembler: Assembler,
    /// What the assembler has of a message that is not yet whole.
    unfinished: Incoming,
    deadline: Option<Pin<Box<Sleep>>>,
    announced: bool,
    /// The client has sent everything.
    ended: bool,
    messages: VecDeque<Bytes>,
    status: Option<Status>,
    /// The client holds too much for a response.
    refused: bool,
    /// Counts as a call of its connection, and of the server, for as long as the task lives.
    _alive: Alive,
}

impl CallTask {
    pub fn new(
        call: Arc<Call>,
        inbox: Arc<Inbox>,
        body: RecvStream,
        response: SendResponse<Bytes>,
        assembler: Assembler,
        alive: Alive,
    ) -> Self {
        let unfinished = Incoming::new(&call.peer.account);
        let deadline = call.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        CallTask {
            call,
            inbox,
            body,
            response: Response::Unsent(response),
            assembler,
            unfinished,
            deadline,
            announced: false,
            ended: false,
            messages: VecDeque::new(),
            status: None,
            refused: false,
            _alive: alive,
        }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        let initial = self.collect(context);
        self.check_reset(context)?;
        self.check_deadline(context)?;
        if self.refused {
            self.refuse()?;
        }
        self.receive(context)?;
        self.transmit(initial, context)
    }

    /// Takes over what the handler has said, and asks to be woken when it says more.
    fn collect(&mut self, context: &mut Context<'_>) -> Option<HeaderMap> {
        let mut mailbox = locked(&self.call.mailbox);
        if !mailbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            mailbox.waker = Some(context.waker().clone());
        }
        if self.messages.is_empty() {
            std::mem::swap(&mut self.messages, &mut mailbox.messages);
        } else {
            self.messages.append(&mut mailbox.messages);
        }
        if let Some(status) = mailbox.status.take() {
            self.status = Some(status);
        }
        self.refused |= mailbox.refused;
        mailbox.initial.take()
    }

    fn check_reset(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        let reset = match &mut self.response {
            Response::Unsent(response) => response.poll_reset(context),
            Response::Sent(stream) => stream.poll_reset(context),
        };
        if reset.is_ready() {
            return Err(Over);
        }
        Ok(())
    }

    fn check_deadline(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        // A call that the handler has finished in time is not overtaken by its deadline.
        let (Some(deadline), None) = (&mut self.deadline, &self.status) else { return Ok(()) };
        if deadline.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.conclude(Status::new(DEADLINE_EXCEEDED, "Deadline Exceeded"))
    }

    fn receive(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        while !self.ended {
            match self.assembler.next() {
                Ok(Some(message)) => self.deliver(message)?,
                Ok(None) => {
                    if !self.take_frame(context)? {
                        break;
                    }
                }
                Err(status) => return self.conclude(status),
            }
            if self.call.unread.load(Ordering::Acquire) >= UNREAD {
                break;
            }
        }
        if !self.announced {
            self.announce(None);
        }
        Ok(())
    }

    /// Gives the next DATA frame to the assembler; false if there is none yet or none to come.
    fn take_frame(&mut self, context: &mut Context<'_>) -> Result<bool, Over> {
        match self.body.poll_data(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(frame)) => {
                let frame = frame?;
                self.body.flow_control().release_capacity(frame.len())?;
                self.assembler.push(frame);
                if !self.unfinished.resize(self.assembler.held()) {
                    self.refuse()?;
                }
                Ok(true)
            }
            Poll::Ready(None) => {
                if !self.assembler.is_empty() {
                    self.conclude(Status::new(INTERNAL, "the request ended within a message"))?;
                }
                self.ended = true;
                if self.announced {
                    self.inbox.event(&self.call, Event::End);
                }
                Ok(false)
            }
        }
    }

    fn deliver(&mut self, message: Bytes) -> Result<(), Over> {
        let size = message.len() + OVERHEAD;
        self.unfinished.shrink(self.assembler.held());
        if !self.call.peer.account.take_request(size) {
            self.refuse()?;
        }
        self.call.unread.fetch_add(size, Ordering::AcqRel);
        self.ended = self.assembler.is_empty() && self.body.is_end_stream();
        if self.announced {
            self.inbox.event(&self.call, Event::Message { message, ended: self.ended });
        } else {
            self.announce(Some(message));
        }
        Ok(())
    }

    fn announce(&mut self, message: Option<Bytes>) {
        self.announced = true;
        self.inbox.begun(Begun { call: self.call.clone(), message, ended: self.ended });
    }

    fn transmit(&mut self, initial: Option<HeaderMap>, context: &mut Context<'_>) -> Result<(), Over> {
        if matches!(self.response, Response::Unsent(_)) {
            if initial.is_none() && self.messages.is_empty() {
                return match self.status.take() {
                    Some(status) => self.trailers_only(status),
                    None => Ok(()),
                };
            }
            self.send_headers(initial.unwrap_or_default(), false)?;
        }
        let Response::Sent(stream) = &mut self.response else { return Ok(()) };
        while let Some(message) = self.messages.front_mut() {
            if !self.call.peer.progress.has_room(context) {
                return Ok(());
            }
            stream.reserve_capacity(message.len());
            let room = stream.capacity();
            if room == 0 {
                // Pending leaves the task to be woken when the client opens its window.
                match stream.poll_capacity(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(more)) => more?,
                    Poll::Ready(None) => return Err(Over),
                };
                continue;
            }
            let part = message.split_to(room.min(message.len()));
            if message.is_empty() {
                self.messages.pop_front();
            }
            let size = part.len();
            stream.send_data(part, false)?;
            self.call.sent(size, &self.inbox);
        }
        if let Some(status) = self.status.take() {
            stream.send_trailers(status.into_trailers())?;
            return self.finished();
        }
        Ok(())
    }

    fn send_headers(&mut self, mut headers: HeaderMap, end: bool) -> Result<(), Over> {
        let Response::Unsent(unsent) = &mut self.response else { return Ok(()) };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut response = http::Response::new(());
        *response.headers_mut() = headers;
        self.response = Response::Sent(unsent.send_response(response, end)?);
        Ok(())
    }

    fn trailers_only(&mut self, status: Status) -> Result<(), Over> {
        self.send_headers(status.into_trailers(), true)?;
        self.finished()
    }

    /// Ends the call because its client holds too much.
    fn refuse(&mut self) -> Result<(), Over> {
        let details = self.call.peer.account.refusal().to_owned();
        self.conclude(Status::new(RESOURCE_EXHAUSTED, details))
    }

    /// Ends the call with a status of the transport's own.
    fn conclude(&mut self, status: Status) -> Result<(), Over> {
        // What clients take for RESOURCE_EXHAUSTED where there are no trailers, and for CANCELLED.
        let reason = if status.code() == RESOURCE_EXHAUSTED { Reason::ENHANCE_YOUR_CALM } else { Reason::CANCEL };
        match &mut self.response {
            Response::Unsent(_) => {
                self.send_headers(status.into_trailers(), true)?;
            }
            // Trailers would wait behind what the client has no room for; it learns of the end by a reset instead.
            Response::Sent(stream) if !self.messages.is_empty() => stream.send_reset(reason),
            Response::Sent(stream) => stream.send_trailers(status.into_trailers())?,
        }
        Err(Over)
    }

    /// The status that the handler has given is on its way; there is no one to cancel.
    fn finished(&mut self) -> Result<(), Over> {
        self.announced = false;
        Err(Over)
    }
}

impl Future for CallTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        if task.advance(context).is_ok() {
            return Poll::Pending;
        }
        task.call.over.store(true, Ordering::SeqCst);
        if task.announced {
            task.inbox.event(&task.call, Event::Cancelled);
        }
        if task.call.tell_when_over.load(Ordering::SeqCst) {
            task.inbox.event(&task.call, Event::Over);
        }
        Poll::Ready(())
    }
}
