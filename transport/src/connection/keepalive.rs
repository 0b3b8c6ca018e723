//! Whether a silent connection is still alive: pings where nothing has been read for a while.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that counts its reads.
pub struct Watched<S> {
    stream: S,
    reads: Arc<AtomicU64>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, reads: Arc<AtomicU64>) -> Self {
        Watched { stream, reads }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if polled.is_ready() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Returns when the peer has not answered a ping in time; `wanted` says whether a silent peer matters just now.
pub async fn until_dead(
    mut pings: PingPong,
    reads: Arc<AtomicU64>,
    interval: Option<Duration>,
    timeout: Duration,
    wanted: impl Fn() -> bool,
) {
    let Some(interval) = interval else { return std::future::pending().await };
    loop {
        let before = reads.load(Ordering::Relaxed);
        tokio::time::sleep(interval).await;
        if reads.load(Ordering::Relaxed) != before || !wanted() {
            continue;
        }
        match tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own future tells what is wrong with it.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
