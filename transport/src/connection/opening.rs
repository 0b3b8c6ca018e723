//! How a connection begins: the handshakes of TLS and HTTP/2, and the bounds that it has from then on.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::call::link::Link;
use crate::connection::handshakes::Handshakes;
use crate::connection::keepalive::Watched;
use crate::connection::output::{sending, Output};
use crate::shared::account::Held;
use crate::shared::lifetime::Phase;
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

/// What a connection is read from and written to: TLS, or the socket itself.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub type Stream = Output<Watched<Box<dyn Duplex>>>;

/// A connection whose handshakes are done.
pub struct Opened {
    pub connection: Connection<Stream, Bytes>,
    pub output: Stream,
    pub reads: Arc<AtomicU64>,
    pub peer: Arc<Peer>,
    pub link: Arc<Link>,
    _held: Held,
}

/// The handshakes of TLS and HTTP/2; none if one fails or takes too long, loses its place, or if the server stops meanwhile.
pub async fn open(
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
