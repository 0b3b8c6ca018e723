//! What the tasks of one connection's calls have in common.

use std::sync::Arc;

use crate::call::progress::Progress;
use crate::shared::account::Account;
use crate::shared::inbox::{Begun, Event, Inbox, Line};

/// A connection's line before the interpreter, and how far HTTP/2 is ahead of what has been sent.
pub struct Link {
    inbox: Arc<Inbox>,
    pub line: Arc<Line>,
    pub progress: Progress,
}

impl Link {
    pub fn new(inbox: Arc<Inbox>, account: &Arc<Account>) -> Self {
        let line = inbox.line(account);
        Link { inbox, line, progress: Progress::default() }
    }

    pub fn begun(&self, begun: Begun) {
        self.inbox.begun(&self.line, begun);
    }

    pub fn event(&self, call: u64, event: Event) {
        self.inbox.event(&self.line, call, event);
    }
}
