//! A gRPC server's HTTP/2 half, for the Python package `fetch_transport`.
//!
//! A thread of its own runs connections and calls (`server`, `connection`, `call`); the interpreter takes what has
//! arrived in batches and answers in batches (`shared`), through the classes in `python`. Each of them knows those below
//! it alone: `python`, `server`, `connection`, `call`, `shared`, `grpc`.

mod call;
mod connection;
mod grpc;
mod python;
mod server;
mod shared;

pub use python::_native;
