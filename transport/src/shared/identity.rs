//! What connections say of their peers, in grpcio's words; once for all that say the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use pyo3::sync::PyOnceLock;
use pyo3::types::PyAny;
use pyo3::Py;

use crate::shared::lock::locked;

/// The properties of grpcio's auth context, each with its values.
pub type Properties = Vec<(&'static str, Vec<Vec<u8>>)>;

/// What plain HTTP is told of a session of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// As TLS numbers its versions and suites.
    pub version: u16,
    pub cipher_suite: u16,
    /// What the client has presented, its own certificate first, in PEM.
    pub chain: Vec<String>,
}

/// All that a connection says of its peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Particulars {
    pub properties: Properties,
    /// None on a connection without.
    pub tls: Option<Tls>,
}

/// What a connection says of its peer; shared by all that say the same, as the many connections of one client do.
pub struct Identity {
    pub particulars: Particulars,
    /// The property that names the peer; none where it did not present a certificate.
    pub key: Option<&'static str>,
    /// The properties as the interpreter sees them, made when a handler first asks.
    pub auth_context: PyOnceLock<Py<PyAny>>,
    /// The same for a scope's extension `tls`.
    pub tls_extension: PyOnceLock<Py<PyAny>>,
}

/// The identities of the connections that there are.
#[derive(Default)]
pub struct Identities(Mutex<HashMap<Particulars, Weak<Identity>>>);

impl Identities {
    /// Costs the number of identities only where that has doubled.
    pub fn of(&self, particulars: Particulars, key: Option<&'static str>) -> Arc<Identity> {
        let mut known = locked(&self.0);
        if let Some(identity) = known.get(&particulars).and_then(Weak::upgrade) {
            return identity;
        }
        if known.len() == known.capacity() {
            known.retain(|_, identity| identity.strong_count() > 0);
        }
        let identity = Arc::new(Identity {
            particulars: particulars.clone(),
            key,
            auth_context: PyOnceLock::new(),
            tls_extension: PyOnceLock::new(),
        });
        known.insert(particulars, Arc::downgrade(&identity));
        identity
    }
}
