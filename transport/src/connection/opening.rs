//! How a connection begins: the handshakes of TLS and HTTP/2, or what is to be HTTP/1.1, and the bounds that it has from
//! then on.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::call::link::Link;
use crate::connection::handshakes::Handshakes;
use crate::connection::keepalive::Watched;
use crate::connection::output::{sending, Output};
use crate::connection::preface::look;
use crate::shared::account::Held;
use crate::shared::lifetime::Phase;
use crate::shared::peer::{Ends, Peer};
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
/// How long a client of HTTP/1.1, which knows no pings, may be silent before its system is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(15);

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Serves {
    Grpc,
    /// gRPC, and everything else for an application.
    Both,
    /// Everything, whatever it says that it is, for an application.
    Http,
}

/// How the connections of a port are secured, and what they are for.
#[derive(Clone)]
pub struct Entrance {
    pub tls: Option<TlsAcceptor>,
    pub serves: Serves,
}

/// What a connection is read from and written to: TLS, or the socket itself.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub type Stream = Output<Watched<Box<dyn Duplex>>>;

/// A connection whose handshakes are done.
pub enum Opened {
    Http1(Http1),
    Http2(Box<Http2>),
}

/// A connection of HTTP/2.
pub struct Http2 {
    pub connection: Connection<Stream, Bytes>,
    pub output: Stream,
    pub reads: Arc<AtomicU64>,
    pub peer: Arc<Peer>,
    pub link: Arc<Link>,
    _held: Held,
}

/// A connection that is to be HTTP/1.1; nothing has been read of it.
pub struct Http1 {
    pub stream: Box<dyn Duplex>,
    pub peer: Arc<Peer>,
    pub link: Arc<Link>,
    pub _held: Held,
}

/// The handshakes of TLS and HTTP/2; none if one fails or takes too long, loses its place, or if the server stops meanwhile.
pub async fn open(
    stream: TcpStream,
    remote: SocketAddr,
    entrance: Entrance,
    handshakes: &Handshakes,
    shared: &Shared,
) -> Option<Opened> {
    let mut place = handshakes.begin();
    let mut phase = shared.phase.subscribe();
    let stopping = async { while *phase.borrow_and_update() == Phase::Serving && phase.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        opened = timeout(shared.settings.handshake_timeout(), shake_hands(stream, remote, entrance, shared)) => opened.ok()?,
        () = stopping => None,
        () = place.lost() => None,
    }
}

async fn shake_hands(stream: TcpStream, remote: SocketAddr, entrance: Entrance, shared: &Shared) -> Option<Opened> {
    let ends = Ends { remote, local: stream.local_addr().ok()? };
    let (accounts, identities) = (&shared.accounts, &shared.identities);
    let (stream, peer, is_http2): (Box<dyn Duplex>, _, _) = match entrance.tls {
        None => {
            let peer = Peer::insecure(ends, accounts, identities);
            if entrance.serves == Serves::Grpc {
                (Box::new(stream), peer, true)
            } else {
                ask_when_silent(&stream);
                let (stream, is_http2) = look(stream).await?;
                (Box::new(stream), peer, is_http2)
            }
        }
        Some(acceptor) => {
            let accepted = acceptor.accept(stream).await;
            let stream = accepted.inspect_err(|error| shared.refusals.handshake(remote, error)).ok()?;
            let session = stream.get_ref().1;
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            if !is_http2 {
                ask_when_silent(stream.get_ref().0);
            }
            let peer = Peer::secure(ends, session, accounts, identities);
            (Box::new(stream), peer, is_http2)
        }
    };
    if !is_http2 && entrance.serves == Serves::Grpc {
        return None;
    }
    let held = Held::new(&peer.account, CONNECTION)?;
    let link = Arc::new(Link::new(shared.inbox.clone(), &peer.account));
    let peer = Arc::new(peer);
    if !is_http2 {
        return Some(Opened::Http1(Http1 { stream, peer, link, _held: held }));
    }
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
    let connection = sending(&output, &link.progress, preface).await.ok()?;
    Some(Opened::Http2(Box::new(Http2 { connection, output, reads, peer, link, _held: held })))
}

/// Has the system notice when a client that speaks HTTP/1.1 is no longer there.
fn ask_when_silent(stream: &TcpStream) {
    let asking = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE);
    // Without it such a client is noticed when something is sent to it.
    let _ = SockRef::from(stream).set_tcp_keepalive(&asking);
}
