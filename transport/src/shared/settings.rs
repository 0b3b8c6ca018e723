//! What a server is told before it starts; the Python side reads it from grpcio's channel arguments.

use std::time::Duration;

use pyo3::FromPyObject;

/// Limits and intervals of one server, named as the attributes of the Python dataclass they are read from.
#[derive(Clone, Debug, FromPyObject)]
pub struct Settings {
    /// Bytes of one request message; more is RESOURCE_EXHAUSTED.
    pub max_receive_message_length: usize,
    pub max_concurrent_streams: u32,
    pub reuse_port: bool,
    /// Milliseconds until a client must have finished its handshakes.
    pub handshake_timeout_ms: u64,
    /// Milliseconds until a client of HTTP/1.1 must have sent the head of its next request.
    pub http_idle_timeout_ms: u64,
    /// Connections that may be within their handshakes at once.
    pub max_handshakes: usize,
    /// Bytes that one client may hold over all its connections; beyond it is RESOURCE_EXHAUSTED with the refusal.
    pub max_bytes_of_a_client: usize,
    pub refusal: String,
    /// Milliseconds without anything read before a connection is pinged; none: never.
    pub keepalive_time_ms: Option<u64>,
    /// Milliseconds a ping may stay unanswered before the connection is closed.
    pub keepalive_timeout_ms: u64,
    pub keepalive_permit_without_calls: bool,
}

impl Settings {
    pub fn keepalive_time(&self) -> Option<Duration> {
        self.keepalive_time_ms.map(Duration::from_millis)
    }

    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub fn http_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.http_idle_timeout_ms)
    }

    pub fn keepalive_timeout(&self) -> Duration {
        Duration::from_millis(self.keepalive_timeout_ms)
    }
}
