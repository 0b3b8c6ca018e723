//! The task of one call: it moves the call's messages between HTTP/2 and the interpreter.
//!
//! It takes frames only while the handler keeps up, and gives HTTP/2 messages only as far as the client's window and the
//! stream's buffer reach, and while the connection gets rid of them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use http::Response;
use tokio::time::Sleep;

use crate::call::link::Link;
use crate::call::response::{Outgoing, Over};
use crate::grpc::message::Assembler;
use crate::grpc::status::{Status, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED};
use crate::shared::account::Incoming;
use crate::shared::call::Call;
use crate::shared::inbox::{Begun, Event};
use crate::shared::lifetime::Alive;

/// Moves one call's messages between HTTP/2 and the interpreter until it is over.
pub struct CallTask {
    call: Arc<Call>,
    link: Arc<Link>,
    body: RecvStream,
    response: Outgoing,
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
        link: Arc<Link>,
        body: RecvStream,
        response: SendResponse<Bytes>,
        assembler: Assembler,
        alive: Alive,
    ) -> Self {
        let unfinished = Incoming::new(&call.peer.account);
        let deadline = call.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        CallTask {
            call,
            link,
            body,
            response: Outgoing::Unsent(response),
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
        if self.response.is_reset(context) {
            return Err(Over);
        }
        self.check_deadline(context)?;
        if self.refused {
            self.refuse()?;
        }
        self.receive(context)?;
        self.transmit(initial, context)
    }

    fn collect(&mut self, context: &mut Context<'_>) -> Option<Box<Response<()>>> {
        let said = self.call.collect(&mut self.messages, context.waker());
        if said.status.is_some() {
            self.status = said.status;
        }
        self.refused |= said.refused;
        said.initial
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
            if self.call.is_full() {
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
                    self.link.event(self.call.id, Event::End);
                }
                Ok(false)
            }
        }
    }

    fn deliver(&mut self, message: Bytes) -> Result<(), Over> {
        self.unfinished.shrink(self.assembler.held());
        if !self.call.received(message.len()) {
            self.refuse()?;
        }
        self.ended = self.assembler.is_empty() && self.body.is_end_stream();
        if self.announced {
            self.link.event(self.call.id, Event::Message { message, ended: self.ended });
        } else {
            self.announce(Some(message));
        }
        Ok(())
    }

    fn announce(&mut self, message: Option<Bytes>) {
        self.announced = true;
        self.link.begun(Begun { call: self.call.clone(), message, ended: self.ended });
    }

    fn transmit(&mut self, initial: Option<Box<Response<()>>>, context: &mut Context<'_>) -> Result<(), Over> {
        if self.response.is_unsent() {
            if initial.is_none() && self.messages.is_empty() {
                return match self.status.take() {
                    Some(status) => self.trailers_only(status),
                    None => Ok(()),
                };
            }
            self.send_headers(initial.map(|initial| *initial).unwrap_or_default(), false)?;
        }
        if self.response.give(&mut self.messages, &self.call, &self.link, context)? {
            if let Some(status) = self.status.take() {
                self.response.send_trailers(status.into_trailers())?;
                return self.finished();
            }
        }
        Ok(())
    }

    fn send_headers(&mut self, mut response: Response<()>, end: bool) -> Result<(), Over> {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.response.send_headers(response, end)
    }

    fn trailers_only(&mut self, status: Status) -> Result<(), Over> {
        self.send_headers(of_trailers(status.into_trailers()), true)?;
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
        if self.response.is_unsent() {
            self.send_headers(of_trailers(status.into_trailers()), true)?;
        } else if self.messages.is_empty() {
            self.response.send_trailers(status.into_trailers())?;
        } else {
            // Trailers would wait behind what the client has no room for; it learns of the end by a reset instead.
            self.response.reset(reason);
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
        let tell = task.call.end();
        if task.announced {
            task.link.event(task.call.id, Event::Cancelled);
        }
        if tell {
            task.link.event(task.call.id, Event::Over);
        }
        Poll::Ready(())
    }
}

/// A response that is nothing but trailers.
fn of_trailers(trailers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = trailers;
    response
}
