//! From the transport's thread to the interpreter's: what has arrived.
//!
//! The interpreter is woken at most once for all that has gathered, so that a busy server pays for a wake-up not each call
//! but each batch. The transport's thread never takes the interpreter's lock.
//!
//! A batch has a bounded size, and clients take turns in it, and within a client's turns its connections: what one of them
//! has sent, however much and over however many connections, is not in the way of others. Clients are those of accounts.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use rustix::event::{eventfd, EventfdFlags};
use tokio::sync::Notify;

use crate::shared::account::Account;
use crate::shared::call::Call;
use crate::shared::lock::locked;

/// Calls and events that the interpreter takes at once. It serves them before it looks at anything else.
const BATCH: usize = 64;
/// Room of a connection's line that is kept when it is empty.
const KEPT: usize = 8;

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
    /// Nothing is left of the call: what its handler has said is sent, or never will be. For calls that asked for it.
    Over,
}

pub enum Arrival {
    Begun(Begun),
    /// Of the call with this id, which stands before it in the same line.
    Event(u64, Event),
}

#[derive(Default)]
struct Lines {
    /// The clients in whose lines something waits, each once; the first one's turn is next.
    turns: VecDeque<Arc<Client>>,
    drained: bool,
}

/// One batch for the interpreter.
pub struct Batch {
    pub arrivals: Vec<Arrival>,
    /// Every connection is closed and the thread is about to end.
    pub drained: bool,
}

/// What the transport has for the interpreter: a line for each connection, and an eventfd that is readable while
/// something waits in one.
pub struct Inbox {
    lines: Mutex<Lines>,
    /// By the addresses of their accounts, which they keep.
    clients: Mutex<HashMap<usize, Weak<Client>>>,
    signalled: AtomicBool,
    eventfd: File,
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Inbox {
            lines: Mutex::default(),
            clients: Mutex::default(),
            signalled: AtomicBool::new(false),
            eventfd: File::from(eventfd),
        })
    }

    pub fn eventfd(&self) -> &File {
        &self.eventfd
    }

    /// A line for a connection of whom an account is. Costs the number of known clients only where that has doubled.
    pub fn line(&self, account: &Arc<Account>) -> Arc<Line> {
        let mut clients = locked(&self.clients);
        let address = Arc::as_ptr(account) as usize;
        let client = clients.get(&address).and_then(Weak::upgrade).unwrap_or_else(|| {
            if clients.len() == clients.capacity() {
                clients.retain(|_, client| client.strong_count() > 0);
            }
            let client = Arc::new(Client { lines: Mutex::default(), _account: account.clone() });
            clients.insert(address, Arc::downgrade(&client));
            client
        });
        Arc::new(Line { client, waiting: Mutex::default(), begun: AtomicUsize::new(0), room: Notify::new() })
    }

    pub fn begun(&self, line: &Arc<Line>, begun: Begun) {
        line.add();
        self.put(line, Arrival::Begun(begun));
    }

    pub fn event(&self, line: &Arc<Line>, call: u64, event: Event) {
        self.put(line, Arrival::Event(call, event));
    }

    pub fn drained(&self) {
        locked(&self.lines).drained = true;
        self.signal();
    }

    fn put(&self, line: &Arc<Line>, arrival: Arrival) {
        {
            let mut lines = locked(&self.lines);
            let mut waiting = locked(&line.waiting);
            if waiting.is_empty() {
                let mut of_client = locked(&line.client.lines);
                if of_client.is_empty() {
                    lines.turns.push_back(line.client.clone());
                }
                of_client.push_back(line.clone());
            }
            waiting.push_back(arrival);
        }
        self.signal();
    }

    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            // Fails only if the counter is full, and then the descriptor is readable as it should be.
            let _ = (&self.eventfd).write(&1u64.to_ne_bytes());
        }
    }

    /// The next batch: one of each client, then another, up to its size; a client's from its connections in turn. The eventfd
    /// stays readable if that was not all.
    pub fn take(&self) -> Batch {
        let mut arrivals = Vec::with_capacity(BATCH);
        let mut lines = locked(&self.lines);
        while arrivals.len() < BATCH {
            let Some(client) = lines.turns.pop_front() else { break };
            let mut of_client = locked(&client.lines);
            let Some(line) = of_client.pop_front() else { continue };
            let mut waiting = locked(&line.waiting);
            if let Some(Arrival::Begun(_)) = waiting.front() {
                line.remove();
            }
            arrivals.extend(waiting.pop_front());
            if waiting.is_empty() {
                waiting.shrink_to(KEPT);
            } else {
                drop(waiting);
                of_client.push_back(line);
            }
            if !of_client.is_empty() {
                drop(of_client);
                lines.turns.push_back(client);
            }
        }
        if lines.turns.is_empty() {
            // Under the lock under which lines grow: who adds to one from here on signals anew.
            let _ = (&self.eventfd).read(&mut [0; 8]);
            self.signalled.store(false, Ordering::Release);
        }
        Batch { arrivals, drained: lines.drained && lines.turns.is_empty() }
    }
}

/// Whoever has a turn: the connections of one account in whose lines something waits, each once.
struct Client {
    lines: Mutex<VecDeque<Arc<Line>>>,
    /// Kept, so that its address is no other's.
    _account: Arc<Account>,
}

/// What of one connection waits for the interpreter, and how many calls have begun in it.
///
/// Without a bound a client that begins and resets calls faster than the interpreter takes them would fill the memory:
/// the protocol's limit on concurrent calls does not count those that are reset.
pub struct Line {
    client: Arc<Client>,
    waiting: Mutex<VecDeque<Arrival>>,
    begun: AtomicUsize,
    room: Notify,
}

impl Line {
    const LIMIT: usize = 1000;

    fn add(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    fn remove(&self) {
        if self.begun.fetch_sub(1, Ordering::AcqRel) == Self::LIMIT {
            self.room.notify_one();
        }
    }

    pub fn is_full(&self) -> bool {
        self.begun.load(Ordering::Acquire) >= Self::LIMIT
    }

    /// Returns when it was full and is no longer.
    pub async fn wait_for_room(&self) {
        self.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::shared::account::Accounts;
    use crate::shared::peer::Peer;

    fn accounts() -> Accounts {
        Accounts::new(usize::MAX, String::new())
    }

    /// An inbox and the lines of two clients.
    fn lines() -> (Inbox, Arc<Line>, Arc<Line>) {
        let (inbox, accounts) = (Inbox::new().unwrap(), accounts());
        let [first, second] = ["first", "second"].map(|name| inbox.line(&accounts.of(name.into())));
        (inbox, first, second)
    }

    fn begun() -> Begun {
        let peer = Peer::anybody(&accounts());
        let call = Call::new(0, String::new(), HeaderMap::new(), peer, None).unwrap();
        Begun { call: Arc::new(call), message: None, ended: true }
    }

    fn calls(batch: &Batch) -> Vec<u64> {
        let of = |arrival: &Arrival| match arrival {
            Arrival::Begun(begun) => begun.call.id,
            Arrival::Event(call, _) => *call,
        };
        batch.arrivals.iter().map(of).collect()
    }

    fn is_readable(inbox: &Inbox) -> bool {
        // What is read is written again.
        let count = inbox.eventfd().read(&mut [0; 8]);
        count.is_ok() && inbox.eventfd().write(&1u64.to_ne_bytes()).is_ok()
    }

    #[test]
    fn connections_of_a_client_share_its_turns() {
        let (inbox, accounts) = (Inbox::new().unwrap(), accounts());
        let many = accounts.of(b"many".to_vec());
        for call in [1, 2, 3] {
            let line = inbox.line(&many);
            inbox.event(&line, call, Event::End);
            inbox.event(&line, 10 + call, Event::End);
        }
        let line = inbox.line(&accounts.of(b"one".to_vec()));
        for call in [4, 5, 6] {
            inbox.event(&line, call, Event::End);
        }
        assert_eq!(calls(&inbox.take()), [1, 4, 2, 5, 3, 6, 11, 12, 13]);
    }

    #[test]
    fn clients_that_have_no_connection_are_forgotten() {
        let (inbox, accounts) = (Inbox::new().unwrap(), accounts());
        for number in 0..1000u32 {
            inbox.line(&accounts.of(number.to_be_bytes().to_vec()));
        }
        assert!(inbox.clients.lock().unwrap().len() < 10);
    }

    #[test]
    fn clients_take_turns() {
        let (inbox, first, second) = lines();
        for call in [1, 2, 3] {
            inbox.event(&first, call, Event::End);
        }
        inbox.event(&second, 4, Event::End);
        assert_eq!(calls(&inbox.take()), [1, 4, 2, 3]);
    }

    #[test]
    fn the_eventfd_is_readable_while_something_waits() {
        let (inbox, line, _) = lines();
        assert!(!is_readable(&inbox));
        for _ in 0..=BATCH {
            inbox.event(&line, 0, Event::End);
        }
        assert_eq!(inbox.take().arrivals.len(), BATCH);
        assert!(is_readable(&inbox));
        assert_eq!(inbox.take().arrivals.len(), 1);
        assert!(!is_readable(&inbox));
        inbox.event(&line, 0, Event::End);
        assert!(is_readable(&inbox));
    }

    #[test]
    fn the_end_comes_with_the_last_batch() {
        let (inbox, line, _) = lines();
        for _ in 0..=BATCH {
            inbox.event(&line, 0, Event::End);
        }
        inbox.drained();
        assert!(!inbox.take().drained);
        assert!(inbox.take().drained);
    }

    #[test]
    fn a_line_is_full_of_calls_and_not_of_events() {
        let (inbox, line, _) = lines();
        for _ in 1..Line::LIMIT {
            inbox.begun(&line, begun());
        }
        for _ in 0..Line::LIMIT {
            inbox.event(&line, 0, Event::End);
        }
        assert!(!line.is_full());
        inbox.begun(&line, begun());
        assert!(line.is_full());
        inbox.take();
        assert!(!line.is_full());
    }
}
