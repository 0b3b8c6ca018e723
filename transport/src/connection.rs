//! One HTTP/2 connection, from its handshake to its end.

use std::future::{poll_fn, Future};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;

use crate::call::{Call, CallTask, SEND_BUFFER};
use crate::keepalive::{until_dead, Watched};
use crate::message::{Assembler, Encoding};
use crate::metadata;
use crate::output::Output;
use crate::peer::Peer;
use crate::server::{Alive, Phase, Shared};
use crate::status::{Status, INTERNAL};

/// A client that has not finished its handshakes by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Bytes that one stream may send before its handler takes any.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that all streams of a connection together may send before their handlers take any.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes of a request's headers, as they are when decoded.
const HEADER_LIST: u32 = 16 * 1024;
/// Streams that may have been reset before they were accepted, and streams reset here that are remembered for a while.
/// h2's own bounds are so low that a client which drops some calls at once, as one does that loses its own callers, would
/// lose its connection and with it every watch; what a reset costs here is little, since the interpreter never sees it.
const RESETS: usize = 1000;
/// How long the last frames of a connection that is cut off may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a connection that is to end looks whether it still has calls.
const LAST_CALLS: Duration = Duration::from_millis(250);

/// Serves a connection until it ends; whatever is wrong with it is its client's affair.
pub async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    alive: Alive,
) {
    // Without it a small response may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve_http2(stream, Peer::insecure(address), shared, alive).await,
        Some(acceptor) => {
            let Some(Ok(stream)) = handshake(&shared, acceptor.accept(stream)).await else { return };
            let session = stream.get_ref().1;
            if session.alpn_protocol() != Some(b"h2") {
                return;
            }
            let peer = Peer::secure(address, session);
            serve_http2(stream, peer, shared, alive).await;
        }
    }
}

/// What a handshake comes to; none if it takes too long, or if the server stops meanwhile.
async fn handshake<T>(shared: &Shared, handshake: impl Future<Output = T>) -> Option<T> {
    let mut phase = shared.phase.subscribe();
    let stopping =
        async move { while *phase.borrow_and_update() == Phase::Serving && phase.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        done = timeout(HANDSHAKE, handshake) => done.ok(),
        () = stopping => None,
    }
}

async fn serve_http2<S>(stream: S, peer: Peer, shared: Arc<Shared>, alive: Alive)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reads = Arc::new(AtomicU64::new(0));
    let output = Output::new(Watched::new(stream, reads.clone()));
    let preface = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(shared.settings.max_concurrent_streams)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(RESETS)
        .max_concurrent_reset_streams(RESETS)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(output.clone());
    let preface = sending(&output, preface);
    let Some(Ok(mut connection)) = handshake(&shared, preface).await else { return };
    let Some(pings) = connection.ping_pong() else { return };

    let peer = Arc::new(peer);
    let calls = Arc::new(());
    let has_calls = || Arc::strong_count(&calls) > 1;
    let always = shared.settings.keepalive_permit_without_calls;
    let settings = &shared.settings;
    let dead =
        until_dead(pings, reads, settings.keepalive_time(), settings.keepalive_timeout(), || always || has_calls());
    tokio::pin!(dead);
    let mut phase = shared.phase.subscribe();
    let mut draining = false;
    let mut idle_looks = 0;
    let mut look = interval(LAST_CALLS);
    // A connection that was accepted just before the server began to stop has missed the change.
    phase.mark_changed();
    loop {
        let full = peer.backlog.is_full();
        tokio::select! {
            // In this order: while calls come in, nothing else costs anything.
            biased;
            // Not accepting is not reading: a client that is too fast for the interpreter waits.
            () = peer.backlog.wait_for_room(), if full => {}
            accepted = sending(&output, connection.accept()), if !full => match accepted {
                Some(Ok((_, mut response))) if draining => response.send_reset(Reason::REFUSED_STREAM),
                Some(Ok((request, response))) => {
                    begin(request, response, &peer, &shared, alive.of_call(&calls));
                }
                Some(Err(_)) | None => return,
            },
            _ = &mut dead => return,
            _ = phase.changed() => {
                let now = *phase.borrow_and_update();
                match now {
                    Phase::Serving => {}
                    Phase::Draining => {
                        draining = true;
                        connection.graceful_shutdown();
                    }
                    Phase::Cancelling => {
                        connection.abrupt_shutdown(Reason::NO_ERROR);
                        let _ = timeout(FAREWELL, finish(connection, output)).await;
                        return;
                    }
                }
            }
            // A client that does not answer the farewell must not hold up a server that has nothing left to do.
            _ = look.tick(), if draining => {
                idle_looks = if has_calls() { 0 } else { idle_looks + 1 };
                if idle_looks > 2 {
                    return;
                }
            }
        }
    }
}

async fn finish<S: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<Output<S>, Bytes>, output: Output<S>) {
    while let Some(Ok(_)) = sending(&output, connection.accept()).await {}
}

/// What `driving` comes to, which drives h2's side of the output; what h2 has to say meanwhile is sent when it rests.
async fn sending<S: AsyncWrite + Unpin, T>(output: &Output<S>, driving: impl Future<Output = T>) -> T {
    tokio::pin!(driving);
    poll_fn(|context| {
        let driven = driving.as_mut().poll(context);
        if driven.is_pending() {
            // Where it fails the connection's own reads and writes fail, too.
            let _ = output.send(context);
        }
        driven
    })
    .await
}

fn begin(
    request: Request<RecvStream>,
    mut response: SendResponse<Bytes>,
    peer: &Arc<Peer>,
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
    let deadline = allowed.and_then(|allowed| arrived.checked_add(allowed));
    let path = head.uri.path().to_owned();
    let call = Arc::new(Call::new(shared.next_call(), path, head.headers, peer.clone(), deadline));
    let assembler = Assembler::new(encoding, shared.settings.max_receive_message_length);
    tokio::spawn(CallTask::new(call, shared.inbox.clone(), body, response, assembler, alive));
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
