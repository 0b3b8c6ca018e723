//! What both threads share of a server.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::watch;

use crate::account::Accounts;
use crate::inbox::Inbox;
use crate::lifetime::Phase;
use crate::outbox::Outbox;
use crate::peer::Identities;
use crate::settings::Settings;

pub struct Shared {
    pub settings: Settings,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub phase: watch::Sender<Phase>,
    pub accounts: Accounts,
    pub identities: Identities,
    calls: AtomicU64,
}

impl Shared {
    pub fn new(settings: Settings) -> io::Result<Self> {
        let accounts = Accounts::new(settings.max_bytes_of_a_client, settings.refusal.clone());
        Ok(Shared {
            accounts,
            identities: Identities::default(),
            settings,
            inbox: Arc::new(Inbox::new()?),
            outbox: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
            calls: AtomicU64::new(0),
        })
    }

    pub fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}
