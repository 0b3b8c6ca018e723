//! One connection, from its handshakes to its end.

pub mod handshakes;
mod http1;
mod keepalive;
pub mod opening;
mod output;
mod preface;
mod request;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use h2::Reason;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::call::progress::Progress;
use crate::connection::handshakes::Handshakes;
use crate::connection::http1::serve_http1;
use crate::connection::keepalive::until_dead;
use crate::connection::opening::{open, Entrance, Http2, Opened, Serves, Stream};
use crate::connection::output::sending;
use crate::connection::request::begin;
use crate::shared::lifetime::{Alive, Phase};
use crate::shared::Shared;

/// How long the last frames of a connection that is cut off may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a connection that is to end looks whether it still has calls.
const LAST_CALLS: Duration = Duration::from_millis(250);

/// Serves a connection until it ends; whatever is wrong with it is its client's affair.
///
/// What is large is boxed: a future keeps room for every place in which a value ever is, and most connections are idle.
pub async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    entrance: Entrance,
    handshakes: Arc<Handshakes>,
    shared: Arc<Shared>,
    alive: Alive,
) {
    // Without it a small response may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let serves = entrance.serves;
    match Box::pin(open(stream, address, entrance, &handshakes, &shared)).await {
        Some(Opened::Http2(opened)) => serve_http2(opened, serves, &shared, alive).await,
        Some(Opened::Http1(opened)) => Box::pin(serve_http1(opened, &shared, alive)).await,
        None => {}
    }
}

async fn serve_http2(mut opened: Box<Http2>, serves: Serves, shared: &Arc<Shared>, alive: Alive) {
    let Http2 { connection, output, reads, peer, link, .. } = &mut *opened;
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
                    begin(request, response, serves, peer, link, shared, alive.of_call(&calls));
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
