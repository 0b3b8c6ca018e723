//! One HTTP/2 connection, from its handshake to its end.

pub mod handshakes;
mod keepalive;
mod output;

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

use crate::call::link::Link;
use crate::call::progress::Progress;
use crate::call::task::CallTask;
use crate::connection::handshakes::Handshakes;
use crate::connection::keepalive::{until_dead, Watched};
use crate::connection::output::Output;
use crate::grpc::message::{Assembler, Encoding};
use crate::grpc::metadata;
use crate::grpc::status::{Status, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED};
use crate::shared::account::Held;
use crate::shared::call::Call;
use crate::shared::lifetime::{Alive, Phase};
use crate::shared::peer::Peer;
use crate::shared::Shared;

/// Bytes that one stream may send before its handler takes any.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes that all streams of a connection together may send before their handlers take any.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one stream's responses that HTTP/2 may hold.
const SEND_BUFFER: usize = 128 * 1024;
/// Bytes of a request's headers, as they are when decoded.
const HEADER_LIST: u32 = 16 * 1024;
/// Streams that may have been reset before they were accepted, and streams reset here that are remembered for a while.
/// h2's own bounds are so low that a client which drops some calls at once, as one does that loses its own callers, would
/// lose its connection and with it every watch; what a reset costs here is little, since the interpreter never sees it.
const RESETS: usize = 1000;
/// What a connection counts for in its client's account: its buffers, sessions and tables.
const CONNECTION: usize = 64 * 1024;
/// How long the last frames of a connection that is cut off may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a connection that is to end looks whether it still has calls.
const LAST_CALLS: Duration = Duration::from_millis(250);

/// What a connection is read from and written to: TLS, or the socket itself.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

type Stream = Output<Watched<Box<dyn Duplex>>>;

/// A connection whose handshakes are done.
struct Opened {
    connection: Connection<Stream, Bytes>,
    output: Stream,
    reads: Arc<AtomicU64>,
    peer: Arc<Peer>,
    link: Arc<Link>,
    _held: Held,
}

/// Serves a connection until it ends; whatever is wrong with it is its client's affair.
///
/// What is large is boxed: a future keeps room for every place in which a value ever is, and most connections are idle.
pub async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    handshakes: Arc<Handshakes>,
    shared: Arc<Shared>,
    alive: Alive,
) {
    // Without it a small response may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    if let Some(opened) = Box::pin(open(stream, address, tls, &handshakes, &shared)).await {
        serve_http2(opened, &shared, alive).await;
    }
}

/// The handshakes of TLS and HTTP/2; none if one fails or takes too long, loses its place, or if the server stops meanwhile.
async fn open(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    handshakes: &Handshakes,
    shared: &Shared,
) -> Option<Box<Opened>> {
    let mut place = handshakes.begin();
    let mut phase = shared.phase.subscribe();
    let stopping = async { while *phase.borrow_and_update() == Phase::Serving && phase.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        opened = timeout(shared.settings.handshake_timeout(), shake_hands(stream, address, tls, shared)) => opened.ok()?,
        () = stopping => None,
        () = place.lost() => None,
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: &Shared,
) -> Option<Box<Opened>> {
    let (stream, peer): (Box<dyn Duplex>, _) = match tls {
        None => (Box::new(stream), Peer::insecure(address, &shared.accounts, &shared.identities)),
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await.ok()?;
            let session = stream.get_ref().1;
            if session.alpn_protocol() != Some(b"h2") {
                return None;
            }
            let peer = Peer::secure(address, session, &shared.accounts, &shared.identities);
            (Box::new(stream), peer)
        }
    };
    let held = Held::new(&peer.account, CONNECTION)?;
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
    let link = Arc::new(Link::new(shared.inbox.clone()));
    let connection = sending(&output, &link.progress, preface).await.ok()?;
    Some(Box::new(Opened { connection, output, reads, peer: Arc::new(peer), link, _held: held }))
}

async fn serve_http2(mut opened: Box<Opened>, shared: &Arc<Shared>, alive: Alive) {
    let Opened { connection, output, reads, peer, link, .. } = &mut *opened;
    let Some(pings) = connection.ping_pong() else { return };

    let calls = Arc::new(());
    let has_calls = || Arc::strong_count(&calls) > 1;
    let always = shared.settings.keepalive_permit_without_calls;
    let settings = &shared.settings;
    let dead = until_dead(pings, reads.clone(), settings.keepalive_time(), settings.keepalive_timeout(), || {
        always || has_calls()
    });
    tokio::pin!(dead);
    let mut phase = shared.phase.subscribe();
    let mut draining = false;
    let mut idle_looks = 0;
    let mut look = interval(LAST_CALLS);
    // A connection that was accepted just before the server began to stop has missed the change.
    phase.mark_changed();
    loop {
        let full = link.line.is_full();
        tokio::select! {
            // In this order: while calls come in, nothing else costs anything.
            biased;
            // Not accepting is not reading: a client that is too fast for the interpreter waits.
            () = link.line.wait_for_room(), if full => {}
            accepted = sending(output, &link.progress, connection.accept()), if !full => match accepted {
                Some(Ok((_, mut response))) if draining => response.send_reset(Reason::REFUSED_STREAM),
                Some(Ok((request, response))) => {
                    begin(request, response, peer, link, shared, alive.of_call(&calls));
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
                        let _ = timeout(FAREWELL, finish(connection, output, &link.progress)).await;
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

async fn finish(connection: &mut Connection<Stream, Bytes>, output: &Stream, progress: &Progress) {
    while let Some(Ok(_)) = sending(output, progress, connection.accept()).await {}
}

/// What `driving` comes to, which drives h2's side of the output; what h2 has to say meanwhile is sent when it rests.
async fn sending<T>(output: &Stream, progress: &Progress, driving: impl Future<Output = T>) -> T {
    tokio::pin!(driving);
    poll_fn(|context| {
        let driven = driving.as_mut().poll(context);
        if driven.is_pending() {
            // Where it fails the connection's own reads and writes fail, too.
            if output.send(context).is_ready() {
                progress.caught_up();
            }
        }
        driven
    })
    .await
}

fn begin(
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
