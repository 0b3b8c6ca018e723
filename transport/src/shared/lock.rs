//! Locks between threads, none of which is held while anything is waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave half a state behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
