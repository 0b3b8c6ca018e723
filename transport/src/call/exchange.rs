//! A request of plain HTTP and its response, whichever version carries them: what the interpreter is told, and what it says.
//!
//! Parts of the body are taken only while the application keeps up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Response, StatusCode};

use crate::call::link::Link;
use crate::call::response::Over;
use crate::grpc::status::{Status, OK};
use crate::shared::call::Call;
use crate::shared::inbox::{Begun, Event};
use crate::shared::lifetime::Alive;

/// The body of a request as its version of HTTP has it.
pub trait Parts {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Over>>>;

    /// Whether nothing more will come.
    fn is_whole(&self) -> bool;
}

/// One request and what has been said to it. When it is dropped it is over; the interpreter is told if that was too early.
pub struct Exchange<B> {
    call: Arc<Call>,
    link: Arc<Link>,
    /// None once nothing more is received.
    body: Option<B>,
    announced: bool,
    /// The client has sent everything.
    ended: bool,
    head: Option<Box<Response<()>>>,
    parts: VecDeque<Bytes>,
    /// How the application has ended its response.
    end: Option<Status>,
    refused: Option<StatusCode>,
    /// Counts as a call of its connection, and of the server.
    _alive: Alive,
}

impl<B: Parts> Exchange<B> {
    pub fn new(call: Call, link: Arc<Link>, body: B, alive: Alive) -> Self {
        let ended = body.is_whole();
        Exchange {
            call: Arc::new(call),
            link,
            body: Some(body),
            announced: false,
            ended,
            head: None,
            parts: VecDeque::new(),
            end: None,
            refused: None,
            _alive: alive,
        }
    }

    /// Takes what the application has said, and what has come of the request.
    pub fn advance(&mut self, context: &mut Context<'_>) {
        let said = self.call.collect(&mut self.parts, context.waker());
        self.head = self.head.take().or(said.initial);
        self.end = self.end.take().or(said.status);
        if said.refused {
            self.refused = Some(StatusCode::TOO_MANY_REQUESTS);
        }
        self.receive(context);
    }

    fn receive(&mut self, context: &mut Context<'_>) {
        let is_awaited = self.call.opening.as_ref().is_some_and(|opening| opening.is_awaited());
        while !is_awaited && !self.ended && !self.call.is_full() {
            let Some(body) = &mut self.body else { return };
            match body.poll_part(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(part))) => {
                    self.ended = body.is_whole();
                    if !self.call.received(part.len()) {
                        self.refused = Some(StatusCode::TOO_MANY_REQUESTS);
                        return;
                    }
                    self.deliver(part);
                }
                Poll::Ready(Some(Err(Over))) => {
                    self.refused = Some(StatusCode::BAD_REQUEST);
                    return;
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    if self.announced {
                        self.link.event(self.call.id, Event::End);
                    }
                }
            }
        }
        if !self.announced {
            self.announce(None);
        }
    }

    fn deliver(&mut self, part: Bytes) {
        if self.announced {
            self.link.event(self.call.id, Event::Message { message: part, ended: self.ended });
        } else {
            self.announce(Some(part));
        }
    }

    fn announce(&mut self, part: Option<Bytes>) {
        self.announced = true;
        self.link.begun(Begun { call: self.call.clone(), message: part, ended: self.ended });
    }

    /// The status that the request ends with for the transport's own reasons.
    pub fn refused(&self) -> Option<StatusCode> {
        self.refused
    }

    /// The head of the response, once.
    pub fn take_head(&mut self) -> Option<Response<()>> {
        self.head.take().map(|head| *head)
    }

    /// The next part of the response's body, of at most so many bytes; told to its writer as sent.
    pub fn take_part(&mut self, most: usize) -> Option<Bytes> {
        let front = self.parts.front_mut()?;
        let part = front.split_to(most.min(front.len()));
        if front.is_empty() {
            self.parts.pop_front();
        }
        if self.call.sent(part.len()) {
            self.link.event(self.call.id, Event::Writable);
        }
        Some(part)
    }

    /// What of the body is said and not taken, with all that it takes to send it elsewhere.
    pub fn untaken(&mut self) -> (&mut VecDeque<Bytes>, &Call, &Link) {
        (&mut self.parts, &self.call, &self.link)
    }

    /// Whether the application has ended its response, and then, whether it is as it meant it to be.
    pub fn end(&self) -> Option<bool> {
        self.end.as_ref().map(|status| status.code() == OK)
    }

    /// The body of the request, if more of it is to come.
    pub fn take_body(&mut self) -> Option<B> {
        self.body.take().filter(|_| !self.ended)
    }

    /// Whether nothing is missing but what is already taken.
    pub fn is_whole(&self) -> bool {
        self.parts.is_empty() && self.end() == Some(true)
    }

    /// Bytes of the body that are said and not taken.
    pub fn untaken_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// What the client reads beside the status that a request is refused with.
    pub fn reason(&self, status: StatusCode) -> String {
        reason(&self.call.peer.account.refusal(), status)
    }
}

impl<B> Drop for Exchange<B> {
    fn drop(&mut self) {
        let tell = self.call.end();
        let is_whole = self.parts.is_empty() && self.end.as_ref().is_some_and(|status| status.code() == OK);
        if self.announced && !is_whole {
            self.link.event(self.call.id, Event::Cancelled);
        }
        if tell {
            self.link.event(self.call.id, Event::Over);
        }
    }
}

/// A sentence for a status of the transport's own.
pub fn reason(refusal: &str, status: StatusCode) -> String {
    let reason = match status {
        StatusCode::TOO_MANY_REQUESTS => refusal,
        _ => status.canonical_reason().unwrap_or_default(),
    };
    format!("{reason}\n")
}

/// The head of an answer of the transport's own, with a text of so many bytes.
pub fn head_of(status: StatusCode, length: usize) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}
