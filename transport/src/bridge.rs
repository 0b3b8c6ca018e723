//! Between the transport's thread and the interpreter's: what has arrived goes one way, calls with news the other.
//!
//! Each side wakes the other at most once for all that has gathered, so that a busy server pays for a wake-up not
//! each call but each batch. The transport's thread never takes the interpreter's lock.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::event::{eventfd, EventfdFlags};
use tokio::sync::Notify;

use crate::call::Call;

/// A call that has begun, with its first message if that has already come.
pub struct Begun {
    pub call: Arc<Call>,
    pub message: Option<Bytes>,
    /// The client will send no more messages.
    pub ended: bool,
}

/// What happens to a call after it has begun.
pub enum Event {
    Message {
        message: Bytes,
        ended: bool,
    },
    /// The client has sent its last message.
    End,
    /// There is room to write again.
    Writable,
    /// The call is over without the handler's doing: reset, connection lost, or deadline passed.
    Cancelled,
}

#[derive(Default)]
pub struct Arrivals {
    pub begun: Vec<Begun>,
    pub events: Vec<(u64, Event)>,
    /// Every connection is closed and the thread is about to end.
    pub drained: bool,
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave half a state behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the transport has for the interpreter: a list, and an eventfd that is readable while it is not empty.
pub struct Inbox {
    arrivals: Mutex<Arrivals>,
    signalled: AtomicBool,
    eventfd: File,
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Inbox { arrivals: Mutex::default(), signalled: AtomicBool::new(false), eventfd: File::from(eventfd) })
    }

    pub fn eventfd(&self) -> &File {
        &self.eventfd
    }

    pub fn put(&self, add: impl FnOnce(&mut Arrivals)) {
        add(&mut locked(&self.arrivals));
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Fails only if the counter is full, and then the descriptor is readable as it should be.
            let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
        }
    }

    pub fn event(&self, call: u64, event: Event) {
        self.put(|arrivals| arrivals.events.push((call, event)));
    }

    pub fn take(&self) -> Arrivals {
        let _ = (&self.eventfd).read(&mut [0; 8]);
        // Cleared before the list is taken: what comes in between signals once too often, never once too little.
        self.signalled.store(false, Ordering::Release);
        std::mem::take(&mut locked(&self.arrivals))
    }
}

/// Calls of one connection that have begun and that the interpreter has not yet taken.
///
/// Without a bound a client that begins and resets calls faster than the interpreter takes them would fill the memory:
/// the protocol's limit on concurrent calls does not count those that are reset.
#[derive(Default)]
pub struct Backlog {
    waiting: AtomicUsize,
    room: Notify,
}

impl Backlog {
    const LIMIT: usize = 1000;

    pub fn add(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    pub fn remove(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == Self::LIMIT {
            self.room.notify_one();
        }
    }

    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= Self::LIMIT
    }

    /// Returns when it was full and is no longer.
    pub async fn wait_for_room(&self) {
        self.room.notified().await;
    }
}

/// Calls for which a handler has said something since the transport last looked.
#[derive(Default)]
pub struct Outbox {
    stirred: Mutex<Vec<Arc<Call>>>,
    flushed: Notify,
}

impl Outbox {
    pub fn stir(&self, call: &Arc<Call>) {
        locked(&self.stirred).push(call.clone());
    }

    /// Wakes the transport's thread for all calls stirred so far.
    pub fn flush(&self) {
        if !locked(&self.stirred).is_empty() {
            self.flushed.notify_one();
        }
    }

    /// Passes each flush on to the tasks of its calls; runs on the transport's thread, for ever.
    pub async fn pass_on(&self) {
        loop {
            self.flushed.notified().await;
            // Bound to a name, so that the lock is free again before the first task is woken.
            let stirred = std::mem::take(&mut *locked(&self.stirred));
            for call in stirred {
                call.wake();
            }
        }
    }
}
