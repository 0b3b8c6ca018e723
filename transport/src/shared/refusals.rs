//! Handshakes that failed, for the interpreter to tell: a few of them, and how many there were besides.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;

use rustix::event::{eventfd, EventfdFlags};

use crate::shared::lock::locked;
use crate::shared::peer::address_of;

/// Refusals that are kept until the interpreter takes them. Whoever makes more of them is told of by number.
const KEPT: usize = 64;

/// The client's address, and why it was refused.
pub type Refusal = (String, String);

#[derive(Default)]
struct Waiting {
    kept: Vec<Refusal>,
    besides: u64,
}

/// What waits for the interpreter, and an eventfd that is readable while something does.
pub struct Refusals {
    waiting: Mutex<Waiting>,
    eventfd: File,
}

impl Refusals {
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Refusals { waiting: Mutex::default(), eventfd: File::from(eventfd) })
    }

    pub fn eventfd(&self) -> &File {
        &self.eventfd
    }

    /// Notes a handshake that failed; not one whose client has gone, which nobody refused.
    pub fn handshake(&self, client: SocketAddr, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof) {
            return;
        }
        let mut waiting = locked(&self.waiting);
        if waiting.kept.is_empty() {
            // Fails only if the counter is full, and then the descriptor is readable as it should be.
            let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
        }
        if waiting.kept.len() < KEPT {
            waiting.kept.push((address_of(client), error.to_string()));
        } else {
            waiting.besides += 1;
        }
    }

    /// All that waits, and how many more there were.
    pub fn take(&self) -> (Vec<Refusal>, u64) {
        let mut waiting = locked(&self.waiting);
        let _ = (&self.eventfd).read(&mut [0; 8]);
        let Waiting { kept, besides } = std::mem::take(&mut *waiting);
        (kept, besides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn those_that_are_too_many_are_counted() {
        let refusals = Refusals::new().unwrap();
        for _ in 0..KEPT + 3 {
            refusals.handshake(client(), &io::Error::new(io::ErrorKind::InvalidData, "no"));
        }
        let (kept, besides) = refusals.take();
        assert_eq!((kept.len(), besides), (KEPT, 3));
        assert_eq!(kept[0], ("ipv4:127.0.0.1:1".into(), "no".into()));
        assert_eq!(refusals.take(), (Vec::new(), 0));
    }

    #[test]
    fn a_client_that_has_gone_was_not_refused() {
        let refusals = Refusals::new().unwrap();
        refusals.handshake(client(), &io::ErrorKind::UnexpectedEof.into());
        assert_eq!(refusals.take(), (Vec::new(), 0));
    }
}
