//! gRPC on HTTP/2, as its protocol has it: messages, metadata and status.

pub mod message;
pub mod metadata;
pub mod status;
