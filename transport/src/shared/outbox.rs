//! From the interpreter's thread to the transport's: whose tasks have something to send.
//!
//! The transport is woken at most once for all that has gathered, so that a busy server pays for a wake-up not each call
//! but each batch.

use std::sync::Mutex;
use std::task::Waker;

use tokio::sync::Notify;

use crate::shared::lock::locked;

/// What is to be woken since handlers have said something and the transport has not yet looked.
#[derive(Default)]
pub struct Outbox {
    stirred: Mutex<Vec<Waker>>,
    flushed: Notify,
}

impl Outbox {
    pub fn stir(&self, waker: Waker) {
        locked(&self.stirred).push(waker);
    }

    /// Wakes the transport's thread for all that is stirred so far.
    pub fn flush(&self) {
        if !locked(&self.stirred).is_empty() {
            self.flushed.notify_one();
        }
    }

    /// Passes each flush on to what is stirred; runs on the transport's thread, for ever.
    pub async fn pass_on(&self) {
        loop {
            self.flushed.notified().await;
            self.wake_all();
        }
    }

    pub(super) fn wake_all(&self) {
        // Bound to a name, so that the lock is free again before the first is woken.
        let stirred = std::mem::take(&mut *locked(&self.stirred));
        stirred.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Context;

    use super::*;
    use crate::shared::counting::Count;

    #[test]
    fn what_is_stirred_is_woken_once_by_the_next_flush() {
        let (outbox, count) = (Outbox::default(), Arc::new(Count::default()));
        let mut passing = pin!(outbox.pass_on());
        let mut transport = || passing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        outbox.stir(count.clone().into());
        assert!(transport());
        assert_eq!(count.wakes(), 0);
        outbox.flush();
        assert!(transport() && transport());
        assert_eq!(count.wakes(), 1);
        outbox.flush();
        assert!(transport());
        assert_eq!(count.wakes(), 1);
    }
}
