//! What the client does not read stays out of h2, which has a bound for each stream but none for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::task::{Context, Waker};

use crate::shared::lock::locked;

/// Bytes of messages that h2 may have been given since everything was last sent.
const AHEAD: usize = 256 * 1024;

/// How far h2 is ahead of what has been sent, so that streams can wait instead of filling it.
#[derive(Default)]
pub struct Progress {
    ahead: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl Progress {
    /// Whether h2 may be given more; if not, the task is woken when it may.
    pub fn has_room(&self, context: &Context<'_>) -> bool {
        if self.ahead.load(Ordering::Relaxed) < AHEAD {
            return true;
        }
        locked(&self.waiting).push(context.waker().clone());
        false
    }

    /// Bytes that h2 has been given, no more than the client's windows have room for.
    pub fn given(&self, bytes: usize) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Everything that h2 was given is sent.
    pub fn caught_up(&self) {
        if self.ahead.swap(0, Ordering::Relaxed) >= AHEAD {
            std::mem::take(&mut *locked(&self.waiting)).into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shared::counting::Count;

    #[test]
    fn streams_wait_until_everything_is_sent() {
        let (progress, count) = (Progress::default(), Arc::new(Count::default()));
        let waker = count.clone().into();
        let context = Context::from_waker(&waker);
        progress.given(AHEAD - 1);
        assert!(progress.has_room(&context));
        progress.given(1);
        assert!(!progress.has_room(&context));
        progress.caught_up();
        assert_eq!(count.wakes(), 1);
        assert!(progress.has_room(&context));
    }
}
