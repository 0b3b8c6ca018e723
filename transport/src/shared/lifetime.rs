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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;

    #[test]
    fn the_end_is_told_when_nothing_is_left_alive() {
        let (alive, mut ended) = Alive::new();
        let connection = Arc::new(());
        let call = alive.of_call(&connection);
        drop(alive);
        assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
        drop(call);
        assert_eq!(ended.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn a_connection_counts_its_calls() {
        let (alive, _ended) = Alive::new();
        let connection = Arc::new(());
        let call = alive.of_call(&connection);
        assert_eq!(Arc::strong_count(&connection), 2);
        drop(call);
        assert_eq!(Arc::strong_count(&connection), 1);
    }
}
