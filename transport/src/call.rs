//! One call: what both threads share of it, and the task that moves its messages.
//!
//! Memory is bounded both ways. Requests are taken from HTTP/2 only while the handler keeps up (`UNREAD`); what is not
//! taken keeps its share of the stream's window. A handler that writes faster than its client reads is told to wait
//! (`UNSENT`); messages go to HTTP/2 only as far as the client's window and `SEND_BUFFER` reach.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use tokio::time::Sleep;

use crate::bridge::{locked, Begun, Event, Inbox, Outbox};
use crate::message::{framed, Assembler};
use crate::peer::Peer;
use crate::server::Alive;
use crate::status::{Status, DEADLINE_EXCEEDED, INTERNAL};

/// Bytes of requests that may wait for the handler before no more are taken.
const UNREAD: usize = 64 * 1024;
/// What a request costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Bytes of responses that may wait for HTTP/2 before a writer waits.
const UNSENT: usize = 256 * 1024;
/// Bytes of one stream's responses that HTTP/2 may hold.
pub const SEND_BUFFER: usize = 128 * 1024;
/// Up to here a response goes to HTTP/2 without asking for room first: a call has only one.
const SMALL_RESPONSE: usize = 16 * 1024;

/// What a handler has said and the task has not yet taken.
#[derive(Default)]
struct Mailbox {
    initial: Option<HeaderMap>,
    messages: VecDeque<Bytes>,
    status: Option<Status>,
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
}

impl Call {
    pub fn new(id: u64, path: String, headers: HeaderMap, peer: Arc<Peer>, deadline: Option<Instant>) -> Self {
        Call {
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
        }
    }

    fn say(self: &Arc<Self>, outbox: &Outbox, what: impl FnOnce(&mut Mailbox)) {
        if self.is_over() {
            return;
        }
        let mut mailbox = locked(&self.mailbox);
        what(&mut mailbox);
        if !std::mem::replace(&mut mailbox.stirred, true) {
            outbox.stir(self);
        }
    }

    pub fn send_initial(self: &Arc<Self>, outbox: &Outbox, initial: HeaderMap) {
        self.say(outbox, |mailbox| mailbox.initial = Some(initial));
    }

    /// Sends one message; false asks the writer to wait for `Event::Writable` before the next.
    pub fn send(self: &Arc<Self>, outbox: &Outbox, message: &[u8], own: impl FnOnce() -> Bytes) -> bool {
        let unsent = self.enqueue(outbox, framed(message, own), None);
        if unsent <= UNSENT || self.is_over() {
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

    /// Queues a message's pieces; the bytes now queued.
    fn enqueue(
        self: &Arc<Self>,
        outbox: &Outbox,
        (piece, rest): (Bytes, Option<Bytes>),
        status: Option<Status>,
    ) -> usize {
        let size = piece.len() + rest.as_ref().map_or(0, Bytes::len);
        let unsent = self.unsent.fetch_add(size, Ordering::SeqCst) + size;
        self.say(outbox, |mailbox| {
            mailbox.messages.push_back(piece);
            mailbox.messages.extend(rest);
            mailbox.status = mailbox.status.take().or(status);
        });
        unsent
    }

    /// The handler has taken a message; true where that made room for more.
    pub fn consumed(self: &Arc<Self>, outbox: &Outbox, length: usize) -> bool {
        let size = length + OVERHEAD;
        let before = self.unread.fetch_sub(size, Ordering::AcqRel);
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

    pub fn wake(&self) {
        let mut mailbox = locked(&self.mailbox);
        mailbox.stirred = false;
        if let Some(waker) = &mailbox.waker {
            waker.wake_by_ref();
        }
    }

    fn sent(&self, size: usize, inbox: &Inbox) {
        let before = self.unsent.fetch_sub(size, Ordering::SeqCst);
        if before - size <= UNSENT && self.writer_waits.swap(false, Ordering::SeqCst) {
            inbox.event(self.id, Event::Writable);
        }
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
    deadline: Option<Pin<Box<Sleep>>>,
    announced: bool,
    /// The client has sent everything.
    ended: bool,
    messages: VecDeque<Bytes>,
    status: Option<Status>,
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
        let deadline = call.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        CallTask {
            call,
            inbox,
            body,
            response: Response::Unsent(response),
            assembler,
            deadline,
            announced: false,
            ended: false,
            messages: VecDeque::new(),
            status: None,
            _alive: alive,
        }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Result<(), Over> {
        let initial = self.collect(context);
        self.check_reset(context)?;
        self.check_deadline(context)?;
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
                Ok(Some(message)) => self.deliver(message),
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
                Ok(true)
            }
            Poll::Ready(None) => {
                if !self.assembler.is_empty() {
                    self.conclude(Status::new(INTERNAL, "the request ended within a message"))?;
                }
                self.ended = true;
                if self.announced {
                    self.inbox.event(self.call.id, Event::End);
                }
                Ok(false)
            }
        }
    }

    fn deliver(&mut self, message: Bytes) {
        self.call.unread.fetch_add(message.len() + OVERHEAD, Ordering::AcqRel);
        self.ended = self.assembler.is_empty() && self.body.is_end_stream();
        if self.announced {
            self.inbox.event(self.call.id, Event::Message { message, ended: self.ended });
        } else {
            self.announce(Some(message));
        }
    }

    fn announce(&mut self, message: Option<Bytes>) {
        self.announced = true;
        self.call.peer.backlog.add();
        let begun = Begun { call: self.call.clone(), message, ended: self.ended };
        self.inbox.put(|arrivals| arrivals.begun.push(begun));
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
        let small = self.status.is_some() && self.messages.iter().map(Bytes::len).sum::<usize>() <= SMALL_RESPONSE;
        while let Some(message) = self.messages.front_mut() {
            let part = if small {
                self.messages.pop_front().unwrap_or_default()
            } else {
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
                part
            };
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

    /// Ends the call with a status of the transport's own.
    fn conclude(&mut self, status: Status) -> Result<(), Over> {
        match &mut self.response {
            Response::Unsent(_) => {
                self.send_headers(status.into_trailers(), true)?;
            }
            // Trailers would wait behind what the client has no room for; it learns of the end by a reset instead.
            Response::Sent(stream) if !self.messages.is_empty() => stream.send_reset(Reason::CANCEL),
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
        task.call.over.store(true, Ordering::Release);
        if task.announced {
            task.inbox.event(task.call.id, Event::Cancelled);
        }
        Poll::Ready(())
    }
}
