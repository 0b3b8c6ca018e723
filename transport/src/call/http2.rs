//! The task of one request of HTTP/2 that is not gRPC.

use std::future::poll_fn;
use std::task::{ready, Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{HeaderName, HeaderValue, CONNECTION, DATE};
use http::{Response, StatusCode};
use httpdate::HttpDate;
use tokio::time::timeout;

use crate::call::exchange::{head_of, reason, Exchange, Parts};
use crate::call::response::{Outgoing, Over};

/// How long a client that has been answered may go on sending, and how much.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

impl Parts for RecvStream {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Over>>> {
        let Some(frame) = ready!(self.poll_data(context)) else { return Poll::Ready(None) };
        let taken = frame.and_then(|frame| self.flow_control().release_capacity(frame.len()).map(|()| frame));
        Poll::Ready(Some(taken.map_err(Over::from)))
    }

    fn is_whole(&self) -> bool {
        self.is_end_stream()
    }
}

/// Moves a request and its response between HTTP/2 and the interpreter until it is over.
///
/// A client that is answered before it has sent everything is listened to for a while: some take it for an error if their
/// stream ends while they are still sending.
pub async fn serve_http(exchange: Exchange<RecvStream>, response: SendResponse<Bytes>) {
    let mut moving = Moving { exchange, response: Outgoing::Unsent(response) };
    let answered = poll_fn(|context| match moving.advance(context) {
        Ok(false) => Poll::Pending,
        Ok(true) => Poll::Ready(true),
        Err(Over) => Poll::Ready(false),
    })
    .await;
    let rest = if answered { moving.exchange.take_body() } else { None };
    // Nothing of it is for the interpreter any more.
    drop(moving);
    if let Some(rest) = rest {
        let _ = timeout(LINGER, pass_over(rest)).await;
    }
}

async fn pass_over(mut body: RecvStream) {
    let mut passed = 0;
    while passed < LINGER_BYTES {
        match poll_fn(|context| body.poll_part(context)).await {
            Some(Ok(part)) => passed += part.len(),
            _ => return,
        }
    }
}

struct Moving {
    exchange: Exchange<RecvStream>,
    response: Outgoing,
}

impl Moving {
    /// Does what there is to do; whether the client has been answered.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<bool, Over> {
        self.exchange.advance(context);
        if self.response.is_reset(context) {
            return Err(Over);
        }
        if let Some(status) = self.exchange.refused() {
            if !self.response.is_unsent() {
                self.response.reset(Reason::ENHANCE_YOUR_CALM);
                return Err(Over);
            }
            refuse(&mut self.response, status, self.exchange.reason(status))?;
            return Ok(true);
        }
        if self.response.is_unsent() {
            if let Some(mut head) = self.exchange.take_head() {
                head.headers_mut().remove(CONNECTION);
                let end = self.exchange.is_whole();
                self.response.send_headers(dated(head), end)?;
                if end {
                    return Ok(true);
                }
            }
        }
        let (parts, call, link) = self.exchange.untaken();
        let is_all = self.response.give(parts, call, link, context)?;
        match self.exchange.end() {
            Some(true) if is_all => {
                self.response.end()?;
                Ok(true)
            }
            Some(false) => {
                self.response.reset(Reason::INTERNAL_ERROR);
                Err(Over)
            }
            _ => Ok(false),
        }
    }
}

/// Answers a request that never becomes one of the interpreter's.
pub fn refuse_at_once(response: SendResponse<Bytes>, refusal: &str, status: StatusCode) {
    // The client may have gone meanwhile.
    let _ = refuse(&mut Outgoing::Unsent(response), status, reason(refusal, status));
}

fn refuse(response: &mut Outgoing, status: StatusCode, text: String) -> Result<(), Over> {
    response.send_headers(dated(head_of(status, text.len())), false)?;
    if let Outgoing::Sent(stream) = response {
        stream.send_data(text.into(), true)?;
    }
    Ok(())
}

/// With the date that hyper adds where it writes heads.
fn dated(mut response: Response<()>) -> Response<()> {
    let date = HttpDate::from(SystemTime::now()).to_string();
    if let (false, Ok(date)) = (response.headers().contains_key::<HeaderName>(DATE), HeaderValue::try_from(date)) {
        response.headers_mut().insert(DATE, date);
    }
    response
}
