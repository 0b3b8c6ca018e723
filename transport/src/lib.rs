//! A gRPC server's HTTP/2 half, for the Python package `fetch_transport`.
//!
//! A thread of its own runs connections and calls (`server`, `connection`, `task`); the interpreter takes what has
//! arrived in batches and answers in batches (`inbox`, `outbox`), through the classes in `python`.

mod account;
mod call;
mod connection;
mod distinguished_name;
mod handshakes;
mod inbox;
mod keepalive;
mod lifetime;
mod link;
mod listener;
mod lock;
mod message;
mod metadata;
mod outbox;
mod output;
mod peer;
mod progress;
mod python;
mod server;
mod settings;
mod shared;
mod status;
mod task;
mod tls;

pub use python::_native;
