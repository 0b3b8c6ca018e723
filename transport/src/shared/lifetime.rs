//! How a server ends: its phase, which everybody watches, and what must have ended before.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;

/// How far the server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Serving,
    /// No new calls; those that have begun go on.
    Draining,
    /// What is still going on is cut off.
    Cancelling,
}

/// Held by everything that must end before the server has: listeners, connections and calls.
#[derive(Clone)]
pub struct Alive {
    _server: mpsc::Sender<Infallible>,
    _connection: Option<Arc<()>>,
}

impl Alive {
    /// The server's own, and what tells that none is left of it and its clones.
    pub fn new() -> (Self, mpsc::Receiver<Infallible>) {
        let (server, ended) = mpsc::channel(1);
        (Alive { _server: server, _connection: None }, ended)
    }

    /// The same for a call, which its connection counts.
    pub fn of_call(&self, connection: &Arc<()>) -> Self {
        Alive { _server: self._server.clone(), _connection: Some(connection.clone()) }
    }
}
