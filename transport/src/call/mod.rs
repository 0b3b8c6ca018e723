//! A call: its messages on their way between HTTP and the interpreter.

pub mod exchange;
pub mod http1;
pub mod http2;
pub mod link;
pub mod progress;
mod response;
pub mod task;
