//! What the interpreter sees: the transport, its credentials, its calls, and its requests of plain HTTP.

mod call;
mod request;

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::connection::opening::Serves;
use crate::python::call::PyCall;
use crate::python::request::PyRequest;
use crate::server::listener;
use crate::server::tls::{Revoked, Terms, Tls};
use crate::server::{self, Port};
use crate::shared::inbox::{Arrival, Begun, Event};
use crate::shared::lifetime::Phase;
use crate::shared::lock::locked;
use crate::shared::refusals::Refusal;
use crate::shared::settings::Settings;
use crate::shared::Shared;

/// A port's side of TLS.
#[pyclass(module = "fetch_transport._native", frozen)]
struct Credentials {
    tls: Arc<Tls>,
}

#[pymethods]
impl Credentials {
    #[new]
    #[pyo3(signature = (private_key, certificate_chain, client_roots, revoked, versions, cipher_suites))]
    fn new(
        private_key: &[u8],
        certificate_chain: &[u8],
        client_roots: Option<&[u8]>,
        revoked: Revoked,
        versions: Vec<String>,
        cipher_suites: Vec<String>,
    ) -> PyResult<Self> {
        let (key, chain, roots) = (private_key, certificate_chain, client_roots);
        let terms = Terms { key, chain, roots, revoked, versions, cipher_suites };
        Ok(Credentials { tls: Arc::new(Tls::new(terms).map_err(PyValueError::new_err)?) })
    }

    fn replace(&self, other: &Credentials) {
        self.tls.replace(&other.tls);
    }
}

type Batch<'py> = (Bound<'py, PyList>, Bound<'py, PyList>, Bound<'py, PyList>, bool);

/// The server's thread, from the interpreter's side.
#[pyclass(module = "fetch_transport._native", frozen)]
struct Transport {
    shared: Arc<Shared>,
    ports: Mutex<Vec<Port>>,
}

#[pymethods]
impl Transport {
    #[new]
    fn new(settings: Settings) -> PyResult<Self> {
        Ok(Transport { shared: Arc::new(Shared::new(settings)?), ports: Mutex::default() })
    }

    #[pyo3(signature = (address, credentials, http_only))]
    fn add_port(&self, address: &str, credentials: Option<&Credentials>, http_only: bool) -> PyResult<u16> {
        let (listeners, port) = listener::bind(address, self.shared.settings.reuse_port)
            .map_err(|error| PyRuntimeError::new_err(format!("Failed to bind to address {address}: {error}")))?;
        let tls = credentials.map(|credentials| credentials.tls.clone());
        let serves = if http_only { Serves::Http } else { Serves::Grpc };
        locked(&self.ports).extend(listeners.into_iter().map(|listener| Port { listener, tls: tls.clone(), serves }));
        Ok(port)
    }

    fn start(&self, has_application: bool) -> PyResult<()> {
        let mut ports = std::mem::take(&mut *locked(&self.ports));
        for port in &mut ports {
            if has_application && port.serves == Serves::Grpc {
                port.serves = Serves::Both;
            }
        }
        Ok(server::start(self.shared.clone(), ports)?)
    }

    fn fileno(&self) -> i32 {
        self.shared.inbox.eventfd().as_raw_fd()
    }

    fn refusals_fileno(&self) -> i32 {
        self.shared.refusals.eventfd().as_raw_fd()
    }

    fn take_refusals(&self) -> (Vec<Refusal>, u64) {
        self.shared.refusals.take()
    }

    fn drain(&self) {
        self.shared.phase.send_replace(Phase::Draining);
    }

    fn cancel(&self) {
        locked(&self.ports).clear();
        self.shared.phase.send_replace(Phase::Cancelling);
    }

    /// The next batch: calls and requests that have begun, events of others, and whether it is the end.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Batch<'py>> {
        let batch = self.shared.inbox.take();
        let begun = PyList::empty(py);
        let requests = PyList::empty(py);
        let events = PyList::empty(py);
        for arrival in batch.arrivals {
            match arrival {
                // Reset before anybody looked at it: to serve it would be work that a client gets for nothing.
                Arrival::Begun(gone) if gone.call.is_over() => {}
                Arrival::Begun(Begun { call, message, ended }) => {
                    let message = message.map(|message| PyBytes::new(py, &message).unbind());
                    let outbox = self.shared.outbox.clone();
                    if call.opening.is_some() {
                        requests.append(PyRequest { call, outbox, message, ended })?;
                    } else {
                        begun.append(PyCall { call, outbox, message, ended })?;
                    }
                }
                Arrival::Event(call, event) => {
                    let (kind, message, ended) = match event {
                        Event::Message { message, ended } => {
                            (_native::MESSAGE, Some(PyBytes::new(py, &message)), ended)
                        }
                        Event::End => (_native::END, None, true),
                        Event::Writable => (_native::WRITABLE, None, false),
                        Event::Cancelled => (_native::CANCELLED, None, true),
                        Event::Over => (_native::OVER, None, true),
                    };
                    events.append((call, kind, message, ended))?;
                }
            }
        }
        Ok((begun, requests, events, batch.drained))
    }

    fn flush(&self) {
        self.shared.outbox.flush();
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // A server that is dropped without being stopped leaves no thread behind.
        self.cancel();
    }
}

#[pymodule]
#[pyo3(name = "_native")]
pub mod _native {
    #[pymodule_export]
    use super::{Credentials, PyCall, PyRequest, Transport};

    /// Kinds of events that `Transport.take` returns.
    #[pymodule_export]
    pub const MESSAGE: u8 = 0;
    #[pymodule_export]
    pub const END: u8 = 1;
    #[pymodule_export]
    pub const WRITABLE: u8 = 2;
    #[pymodule_export]
    pub const CANCELLED: u8 = 3;
    #[pymodule_export]
    pub const OVER: u8 = 4;
}
