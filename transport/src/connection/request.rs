//! How a call begins: what its headers must say, and the task that it then gets.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::RecvStream;
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};

use crate::call::link::Link;
use crate::call::task::CallTask;
use crate::grpc::message::{Assembler, Encoding};
use crate::grpc::metadata;
use crate::grpc::status::{Status, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED};
use crate::shared::call::Call;
use crate::shared::lifetime::Alive;
use crate::shared::peer::Peer;
use crate::shared::Shared;

/// Gives a request its task, or refuses it.
pub fn begin(
    request: Request<RecvStream>,
    mut response: SendResponse<Bytes>,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    shared: &Shared,
    alive: Alive,
) {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    if let Some(code) = not_grpc(&head.method, &head.headers) {
        let mut refusal = Response::new(());
        *refusal.status_mut() = code;
        let _ = response.send_response(refusal, true);
        return;
    }
    let encoding = Encoding::named(head.headers.get("grpc-encoding").map(HeaderValue::as_bytes));
    let allowed = metadata::timeout(&head.headers).map_err(|error| Status::new(INTERNAL, error));
    let (encoding, allowed) = match (encoding, allowed) {
        (Ok(encoding), Ok(allowed)) => (encoding, allowed),
        (Err(status), _) | (_, Err(status)) => return refuse(response, status),
    };
    if allowed.is_some_and(|allowed| allowed.is_zero()) {
        return refuse(response, Status::new(DEADLINE_EXCEEDED, "Deadline Exceeded"));
    }
    let deadline = allowed.and_then(|allowed| arrived.checked_add(allowed));
    let path = head.uri.path().to_owned();
    let call = Call::new(shared.next_call(), path, head.headers, peer.clone(), deadline);
    let Some(call) = call else {
        return refuse(response, Status::new(RESOURCE_EXHAUSTED, peer.account.refusal().to_owned()));
    };
    let assembler = Assembler::new(encoding, shared.settings.max_receive_message_length);
    tokio::spawn(CallTask::new(Arc::new(call), link.clone(), body, response, assembler, alive));
}

/// The HTTP status for a request that is not gRPC at all.
fn not_grpc(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match kind.strip_prefix(b"application/grpc") {
        Some([] | [b'+' | b';', ..]) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

fn refuse(mut response: SendResponse<Bytes>, status: Status) {
    let mut refusal = Response::new(());
    *refusal.headers_mut() = status.into_trailers();
    refusal.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    refusal.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(Encoding::ACCEPTED));
    // The client may have gone meanwhile.
    let _ = response.send_response(refusal, true);
}
