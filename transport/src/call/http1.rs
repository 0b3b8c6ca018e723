//! A request of HTTP/1.1 within its connection: hyper asks for the response, and for its body as far as the client reads.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, CONNECTION};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::call::exchange::{head_of, Exchange, Parts};
use crate::call::response::Over;

/// Bytes of a response that hyper is given at once.
const PIECE: usize = 16 * 1024;

impl Parts for Incoming {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Over>>> {
        loop {
            match ready!(Pin::new(&mut *self).poll_frame(context)) {
                // Trailers are not for applications.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) => return Poll::Ready(Some(Ok(part))),
                    Err(_) => continue,
                },
                Some(Err(_)) => return Poll::Ready(Some(Err(Over))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.is_end_stream()
    }
}

/// The response to be; an error where there is nobody to be answered.
pub enum Answering {
    Application(Option<Exchange<Incoming>>),
    Refused(StatusCode, String),
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Over>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answering = match self.get_mut() {
            Answering::Refused(status, text) => return Poll::Ready(Ok(refusal(*status, std::mem::take(text)))),
            Answering::Application(answering) => answering,
        };
        let Some(exchange) = answering else { return Poll::Ready(Err(Over)) };
        exchange.advance(context);
        if let Some(status) = exchange.refused() {
            return Poll::Ready(Ok(refusal(status, exchange.reason(status))));
        }
        match (exchange.take_head(), exchange.end()) {
            (Some(head), _) => {
                let body = answering.take().map_or(Answer::Text(Bytes::new()), Answer::Application);
                Poll::Ready(Ok(head.map(|()| body)))
            }
            (None, Some(_)) => Poll::Ready(Err(Over)),
            (None, None) => Poll::Pending,
        }
    }
}

/// The body of a response: the application's, or a text of the transport's own.
pub enum Answer {
    Application(Exchange<Incoming>),
    Text(Bytes),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Over;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        let exchange = match self.get_mut() {
            Answer::Text(text) if text.is_empty() => return Poll::Ready(None),
            Answer::Text(text) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Answer::Application(exchange) => exchange,
        };
        exchange.advance(context);
        if exchange.refused().is_some() {
            return Poll::Ready(Some(Err(Over)));
        }
        match (exchange.take_part(PIECE), exchange.end()) {
            (Some(part), _) => Poll::Ready(Some(Ok(Frame::data(part)))),
            (None, Some(true)) => Poll::Ready(None),
            (None, Some(false)) => Poll::Ready(Some(Err(Over))),
            (None, None) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Application(exchange) => exchange.is_whole(),
            Answer::Text(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Text(text) => SizeHint::with_exact(text.len() as u64),
            Answer::Application(exchange) if exchange.end() == Some(true) => {
                SizeHint::with_exact(exchange.untaken_bytes())
            }
            Answer::Application(_) => SizeHint::default(),
        }
    }
}

fn refusal(status: StatusCode, text: String) -> Response<Answer> {
    let mut response = head_of(status, text.len()).map(|()| Answer::Text(text.into()));
    // What is left of the request is not read.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
