//! The transport's own thread: it accepts connections and serves them until it is told to stop.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::account::Accounts;
use crate::bridge::{Inbox, Outbox};
use crate::connection;
use crate::handshakes::Handshakes;
use crate::listener;
use crate::peer::Identities;
use crate::settings::Settings;

/// How far the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Serving,
    /// No new calls; those that have begun go on.
    Draining,
    /// What is still going on is cut off.
    Cancelling,
}

/// What the server's parts have in common.
pub struct Shared {
    pub settings: Settings,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub phase: watch::Sender<Phase>,
    pub accounts: Accounts,
    pub identities: Identities,
    pub handshakes: Handshakes,
    calls: AtomicU64,
}

impl Shared {
    pub fn new(settings: Settings) -> io::Result<Self> {
        let accounts = Accounts::new(settings.max_bytes_of_a_client, settings.refusal.clone());
        Ok(Shared {
            accounts,
            identities: Identities::default(),
            handshakes: Handshakes::new(settings.max_handshakes),
            settings,
            inbox: Arc::new(Inbox::new()?),
            outbox: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
            calls: AtomicU64::new(0),
        })
    }

    pub fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

/// Held by everything that must end before the server has: listeners, connections and calls.
#[derive(Clone)]
pub struct Alive {
    _server: mpsc::Sender<Infallible>,
    _connection: Option<Arc<()>>,
}

impl Alive {
    /// The same for a call, which its connection counts.
    pub fn of_call(&self, connection: &Arc<()>) -> Self {
        Alive { _server: self._server.clone(), _connection: Some(connection.clone()) }
    }
}

/// A bound port and how its connections are secured.
pub struct Port {
    pub listener: TcpListener,
    pub tls: Option<TlsAcceptor>,
}

/// Starts the thread; it ends, and says so in the inbox, when the phase has changed and every connection is closed.
pub fn start(shared: Arc<Shared>, ports: Vec<Port>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut listening = Vec::with_capacity(ports.len());
    for port in ports {
        listening.push((tokio::net::TcpListener::from_std(port.listener)?, port.tls));
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

async fn run(shared: &Arc<Shared>, listening: Vec<(tokio::net::TcpListener, Option<TlsAcceptor>)>) {
    let (server, mut ended) = mpsc::channel::<Infallible>(1);
    let alive = Alive { _server: server, _connection: None };
    let outbox = shared.outbox.clone();
    tokio::spawn(async move { outbox.pass_on().await });
    for (listener, tls) in listening {
        let (shared, alive) = (shared.clone(), alive.clone());
        tokio::spawn(async move {
            let phase = shared.phase.subscribe();
            listener::accept(listener, phase, |stream, address| {
                tokio::spawn(connection::serve(stream, address, tls.clone(), shared.clone(), alive.clone()));
            })
            .await;
        });
    }
    drop(alive);
    ended.recv().await;
}
