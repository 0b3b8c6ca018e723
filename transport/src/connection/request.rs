//! How a call begins: what its headers must say, and the task that it then gets; and a request of plain HTTP, likewise.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::RecvStream;
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::call::exchange::{reason, Exchange};
use crate::call::http1::Answering;
use crate::call::http2::{refuse_at_once, serve_http};
use crate::call::link::Link;
use crate::call::task::CallTask;
use crate::connection::opening::Serves;
use crate::grpc::message::{Assembler, Encoding};
use crate::grpc::metadata;
use crate::grpc::status::{Status, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED};
use crate::shared::call::Call;
use crate::shared::lifetime::Alive;
use crate::shared::peer::Peer;
use crate::shared::request::Opening;
use crate::shared::Shared;

/// Gives a request of HTTP/2 its task, or refuses it.
pub fn begin(
    request: Request<RecvStream>,
    mut response: SendResponse<Bytes>,
    serves: Serves,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    shared: &Shared,
    alive: Alive,
) {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    if serves == Serves::Http || serves == Serves::Both && !is_grpc(&head.headers) {
        match plain(head, peer, shared) {
            Err(status) => refuse_at_once(response, peer.account.refusal(), status),
            Ok(call) => {
                tokio::spawn(serve_http(Exchange::new(call, link.clone(), body, alive), response));
            }
        }
        return;
    }
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

/// What becomes of a request of HTTP/1.1.
pub fn answering(
    request: Request<Incoming>,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    shared: &Shared,
    alive: Alive,
) -> Answering {
    let (head, body) = request.into_parts();
    match plain(head, peer, shared) {
        Err(status) => Answering::Refused(status, reason(peer.account.refusal(), status)),
        Ok(call) => Answering::Application(Some(Exchange::new(call, link.clone(), body, alive))),
    }
}

/// A request for an application; a status if it is none, or if its client holds too much.
fn plain(head: Parts, peer: &Arc<Peer>, shared: &Shared) -> Result<Call, StatusCode> {
    // What it asks for is a connection to elsewhere.
    if head.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let opening = Opening::new(head.method, head.version, &head.uri, &head.headers);
    let path = head.uri.path().to_owned();
    Call::of_http(shared.next_call(), path, head.headers, peer.clone(), opening).ok_or(StatusCode::TOO_MANY_REQUESTS)
}

/// Whether a request says that it is gRPC, of whatever kind.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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
