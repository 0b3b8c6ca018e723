//! What one client holds of the server's memory, over all its connections, and how much it may.
//!
//! Clients are told apart by what their certificates name; those without one are one client. Everything a client can make
//! the server keep is counted in one sum: requests from their first byte until their calls have ended, responses until HTTP/2
//! has taken them, and for each connection and call a round figure. Requests may take up a quarter of it, so that there
//! is always room for answers. What would go beyond the bound is refused, so that only the client that is at its bound
//! notices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::shared::lock::locked;

/// The part of what a client may hold that requests may take up: a fourth.
const REQUESTS: usize = 4;

/// How much each client may hold, and what it is told beyond.
#[derive(Debug)]
pub struct Bound {
    pub bytes: usize,
    pub refusal: String,
}

/// The sum of one client, and the part of it that is requests.
#[derive(Debug)]
pub struct Account {
    bound: Arc<Bound>,
    held: AtomicUsize,
    requests: AtomicUsize,
}

impl Account {
    /// Counts bytes that are about to be held; false, and nothing counted, if they are too many.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.bound.bytes {
            self.give_back(bytes);
        }
        held <= self.bound.bytes
    }

    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The same for bytes of requests.
    #[must_use]
    pub fn take_request(&self, bytes: usize) -> bool {
        let requests = self.requests.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let has_room = requests <= self.bound.bytes / REQUESTS && self.take(bytes);
        if !has_room {
            self.requests.fetch_sub(bytes, Ordering::Relaxed);
        }
        has_room
    }

    pub fn give_back_request(&self, bytes: usize) {
        self.requests.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(bytes);
    }

    pub fn refusal(&self) -> &str {
        &self.bound.refusal
    }
}

/// Bytes that are held for as long as this is.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Held {
    /// None if they are too many.
    pub fn new(account: &Arc<Account>, bytes: usize) -> Option<Self> {
        account.take(bytes).then(|| Held { account: account.clone(), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

/// Bytes of a request that is coming in.
#[derive(Debug)]
pub struct Incoming {
    account: Arc<Account>,
    bytes: usize,
}

impl Incoming {
    pub fn new(account: &Arc<Account>) -> Self {
        Incoming { account: account.clone(), bytes: 0 }
    }

    /// Holds as many as this from now on; false, and as many as before, if they are too many.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes && !self.account.take_request(bytes - self.bytes) {
            return false;
        }
        self.shrink(bytes);
        self.bytes = bytes;
        true
    }

    /// Holds at most as many as this from now on.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.account.give_back_request(self.bytes - bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// The accounts of all clients that hold anything.
#[derive(Debug)]
pub struct Accounts {
    bound: Arc<Bound>,
    known: Mutex<HashMap<Vec<u8>, Weak<Account>>>,
}

impl Accounts {
    pub fn new(bytes: usize, refusal: String) -> Self {
        Accounts { bound: Arc::new(Bound { bytes, refusal }), known: Mutex::default() }
    }

    /// The account of whom these names name. Costs the number of known clients only where that has doubled.
    pub fn of(&self, names: Vec<u8>) -> Arc<Account> {
        let mut known = locked(&self.known);
        if let Some(account) = known.get(&names).and_then(Weak::upgrade) {
            return account;
        }
        if known.len() == known.capacity() {
            known.retain(|_, account| account.strong_count() > 0);
        }
        let account =
            Arc::new(Account { bound: self.bound.clone(), held: AtomicUsize::new(0), requests: AtomicUsize::new(0) });
        known.insert(names, Arc::downgrade(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::new(10, "too much".into())
    }

    #[test]
    fn connections_with_the_same_names_share_an_account() {
        let accounts = accounts();
        let first = accounts.of(b"a".to_vec());
        let _held = Held::new(&first, 10).unwrap();
        assert!(Held::new(&accounts.of(b"a".to_vec()), 1).is_none());
        assert!(Held::new(&accounts.of(b"b".to_vec()), 1).is_some());
    }

    #[test]
    fn what_is_let_go_of_is_free_again() {
        let account = accounts().of(Vec::new());
        let held = Held::new(&account, 10).unwrap();
        assert!(!account.take(1));
        drop(held);
        assert!(account.take(10));
    }

    #[test]
    fn requests_leave_room_for_answers() {
        let account = accounts().of(Vec::new());
        let mut incoming = Incoming::new(&account);
        assert!(incoming.resize(2));
        assert!(!incoming.resize(3));
        assert!(account.take(8));
        assert!(!account.take(1));
        assert!(incoming.resize(1));
        assert!(account.take(1));
        drop(incoming);
        assert!(account.take_request(1));
    }

    #[test]
    fn clients_that_hold_nothing_are_forgotten() {
        let accounts = accounts();
        for number in 0..1000u32 {
            accounts.of(number.to_be_bytes().to_vec());
        }
        assert!(accounts.known.lock().unwrap().len() < 10);
    }
}
