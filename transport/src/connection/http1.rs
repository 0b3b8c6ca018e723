//! One connection of HTTP/1.1, which hyper speaks, from its first request to its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connection::opening::{Duplex, Http1};
use crate::connection::request::answering;
use crate::shared::lifetime::{Alive, Phase};
use crate::shared::Shared;

/// Bytes that are read and not yet understood, and that are written and not yet sent: so long may a head be.
const BUFFER: usize = 16 * 1024;
/// How long, and how much of it, a request is passed over that has been answered before it was whole. To close at once
/// would reset the connection while the client sends, and what it has not read of its answer would be lost.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Answers requests one after the other until either side has enough.
///
/// The time for a head begins when the one before it is answered: it bounds how long a connection is idle, too.
pub async fn serve_http1(opened: Http1, shared: &Shared, alive: Alive) {
    let Http1 { stream, peer, link, _held } = opened;
    let calls = Arc::new(());
    let service = service_fn(|request| answering(request, &peer, &link, shared, alive.of_call(&calls)));
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.settings.http_idle_timeout())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut phase = shared.phase.subscribe();
    // A connection that was accepted just before the server began to stop has missed the change.
    phase.mark_changed();
    loop {
        tokio::select! {
            biased;
            // Whatever is wrong with it is its client's affair, who has been answered if that was possible.
            _ = poll_fn(|context| serving.poll_without_shutdown(context)) => break,
            _ = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving => {}
                Phase::Draining => Pin::new(&mut serving).graceful_shutdown(),
                Phase::Cancelling => return,
            },
        }
    }
    let closing = timeout(LINGER, close(serving.into_parts().io.into_inner()));
    let cancelled = async { while *phase.borrow_and_update() != Phase::Cancelling && phase.changed().await.is_ok() {} };
    tokio::select! {
        _ = closing => {}
        () = cancelled => {}
    }
}

/// Says that nothing more will be said, and passes over what is still said.
async fn close(mut stream: Box<dyn Duplex>) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut passed = vec![0; BUFFER];
    let mut left = LINGER_BYTES;
    while let Ok(read @ 1..) = stream.read(&mut passed).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}
