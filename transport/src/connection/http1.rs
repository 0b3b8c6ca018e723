//! One connection of HTTP/1.1, which hyper speaks, from its first request to its end.

use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::connection::opening::Http1;
use crate::connection::request::answering;
use crate::shared::lifetime::{Alive, Phase};
use crate::shared::Shared;

/// Bytes that are read and not yet understood, and that are written and not yet sent: so long may a head be.
const BUFFER: usize = 16 * 1024;

/// Answers requests one after the other until either side has enough.
///
/// The time for a head begins when the one before it is answered: it bounds how long a connection is idle, too.
pub async fn serve_http1(opened: Http1, shared: &Shared, alive: Alive) {
    let Http1 { stream, peer, link, _held } = opened;
    let calls = Arc::new(());
    let service = service_fn(|request| answering(request, &peer, &link, shared, alive.of_call(&calls)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.settings.http_idle_timeout())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let mut phase = shared.phase.subscribe();
    // A connection that was accepted just before the server began to stop has missed the change.
    phase.mark_changed();
    loop {
        tokio::select! {
            biased;
            // Whatever is wrong with it is its client's affair, who has been answered if that was possible.
            _ = serving.as_mut() => return,
            _ = phase.changed() => match *phase.borrow_and_update() {
                Phase::Serving => {}
                Phase::Draining => serving.as_mut().graceful_shutdown(),
                Phase::Cancelling => return,
            },
        }
    }
}
