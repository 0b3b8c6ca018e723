//! The transport's own thread: it accepts connections and serves them until it is told to stop.

pub mod listener;
pub mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::connection;
use crate::connection::handshakes::Handshakes;
use crate::connection::opening::{Entrance, Serves};
use crate::server::tls::Tls;
use crate::shared::lifetime::Alive;
use crate::shared::Shared;

/// A bound port, how its connections are secured, and what they are for.
pub struct Port {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
    pub serves: Serves,
}

/// Starts the thread; it ends, and says so in the inbox, when the phase has changed and every connection is closed.
pub fn start(shared: Arc<Shared>, ports: Vec<Port>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut listening = Vec::with_capacity(ports.len());
    for port in ports {
        listening.push((tokio::net::TcpListener::from_std(port.listener)?, port.tls, port.serves));
    }
    drop(guard);
    std::thread::Builder::new().name("fetch-transport".into()).spawn(move || {
        runtime.block_on(run(&shared, listening));
        // Tasks that are still there hold what the interpreter may be waiting for.
        drop(runtime);
        shared.inbox.drained();
    })?;
    Ok(())
}

type Listening = (tokio::net::TcpListener, Option<Arc<Tls>>, Serves);

async fn run(shared: &Arc<Shared>, listening: Vec<Listening>) {
    let (alive, mut ended) = Alive::new();
    let handshakes = Arc::new(Handshakes::new(shared.settings.max_handshakes));
    let outbox = shared.outbox.clone();
    tokio::spawn(async move { outbox.pass_on().await });
    for (listener, tls, serves) in listening {
        let (handshakes, shared, alive) = (handshakes.clone(), shared.clone(), alive.clone());
        tokio::spawn(async move {
            let phase = shared.phase.subscribe();
            listener::accept(listener, phase, |stream, address| {
                let entrance = Entrance { tls: tls.as_ref().map(|tls| tls.acceptor()), serves };
                let serving =
                    connection::serve(stream, address, entrance, handshakes.clone(), shared.clone(), alive.clone());
                tokio::spawn(serving);
            })
            .await;
        });
    }
    drop(alive);
    ended.recv().await;
}
