//! The response of one stream of HTTP/2, sent as far as its client reads.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};

use crate::call::link::Link;
use crate::shared::call::Call;
use crate::shared::inbox::Event;

/// The call is over, and with it its task.
#[derive(Debug)]
pub struct Over;

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        // A stream fails because its client or its connection has gone; nobody is left to be told.
        Over
    }
}

impl fmt::Display for Over {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("over")
    }
}

impl std::error::Error for Over {}

/// A response, before and after its headers have gone out.
pub enum Outgoing {
    Unsent(SendResponse<Bytes>),
    Sent(SendStream<Bytes>),
}

impl Outgoing {
    /// Whether the client has reset the stream; if not, the task is woken when it does.
    pub fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Outgoing::Unsent(response) => response.poll_reset(context),
            Outgoing::Sent(stream) => stream.poll_reset(context),
        }
        .is_ready()
    }

    pub fn is_unsent(&self) -> bool {
        matches!(self, Outgoing::Unsent(_))
    }

    /// Sends the headers, once.
    pub fn send_headers(&mut self, response: Response<()>, end: bool) -> Result<(), Over> {
        if let Outgoing::Unsent(unsent) = self {
            *self = Outgoing::Sent(unsent.send_response(response, end)?);
        }
        Ok(())
    }

    /// Gives HTTP/2 of the messages what the client's window and the connection have room for; true if that was all. If
    /// not, the task is woken when there is more room.
    pub fn give(
        &mut self,
        messages: &mut VecDeque<Bytes>,
        call: &Call,
        link: &Link,
        context: &mut Context<'_>,
    ) -> Result<bool, Over> {
        let Outgoing::Sent(stream) = self else { return Ok(false) };
        while let Some(message) = messages.front_mut() {
            if !link.progress.has_room(context) {
                return Ok(false);
            }
            stream.reserve_capacity(message.len());
            let room = stream.capacity();
            if room == 0 {
                // Pending leaves the task to be woken when the client opens its window.
                match stream.poll_capacity(context) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Some(more)) => more?,
                    Poll::Ready(None) => return Err(Over),
                };
                continue;
            }
            let part = message.split_to(room.min(message.len()));
            if message.is_empty() {
                messages.pop_front();
            }
            let size = part.len();
            stream.send_data(part, false)?;
            link.progress.given(size);
            if call.sent(size) {
                link.event(call.id, Event::Writable);
            }
        }
        Ok(true)
    }

    pub fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Over> {
        if let Outgoing::Sent(stream) = self {
            stream.send_trailers(trailers)?;
        }
        Ok(())
    }

    /// Ends a response that has no trailers.
    pub fn end(&mut self) -> Result<(), Over> {
        if let Outgoing::Sent(stream) = self {
            stream.send_data(Bytes::new(), true)?;
        }
        Ok(())
    }

    pub fn reset(&mut self, reason: Reason) {
        match self {
            Outgoing::Unsent(response) => response.send_reset(reason),
            Outgoing::Sent(stream) => stream.send_reset(reason),
        }
    }
}
