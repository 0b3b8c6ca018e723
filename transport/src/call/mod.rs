//! A call: its messages on their way between HTTP/2 and the interpreter.

pub mod link;
pub mod progress;
pub mod task;
