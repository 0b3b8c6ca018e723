//! What both threads share of a server.

pub mod account;
pub mod call;
mod certificate;
#[cfg(test)]
pub mod counting;
mod distinguished_name;
pub mod identity;
pub mod inbox;
pub mod lifetime;
pub mod lock;
pub mod outbox;
pub mod peer;
pub mod refusals;
pub mod request;
pub mod settings;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::watch;

use crate::shared::account::Accounts;
use crate::shared::identity::Identities;
use crate::shared::inbox::Inbox;
use crate::shared::lifetime::Phase;
use crate::shared::outbox::Outbox;
use crate::shared::refusals::Refusals;
use crate::shared::settings::Settings;

pub struct Shared {
    pub settings: Settings,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub phase: watch::Sender<Phase>,
    pub accounts: Accounts,
    pub identities: Identities,
    pub refusals: Refusals,
    calls: AtomicU64,
}

impl Shared {
    pub fn new(settings: Settings) -> io::Result<Self> {
        let accounts = Accounts::new(settings.max_bytes_of_a_client, settings.refusal.clone());
        Ok(Shared {
            accounts,
            identities: Identities::default(),
            refusals: Refusals::new()?,
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
