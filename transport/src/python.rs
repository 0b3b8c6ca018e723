//! What the interpreter sees: the transport, its credentials, and its calls.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyString, PyTuple};

use crate::grpc::metadata::{self, Value};
use crate::grpc::status::Status;
use crate::server::listener;
use crate::server::tls::{Revoked, Terms, Tls};
use crate::server::{self, Port};
use crate::shared::call::Call;
use crate::shared::inbox::{Arrival, Begun, Event};
use crate::shared::lifetime::Phase;
use crate::shared::lock::locked;
use crate::shared::outbox::Outbox;
use crate::shared::settings::Settings;
use crate::shared::Shared;

/// Pairs of metadata that a handler sends; text or bytes, as it has them.
type Sent<'py> = Vec<(PyBackedStr, Bound<'py, PyAny>)>;

fn headers_of(pairs: Sent<'_>) -> PyResult<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(pairs.len() + 2);
    for (key, value) in pairs {
        let appended = match value.downcast::<PyString>() {
            Ok(text) => metadata::append(&mut headers, &key, text.to_cow()?.as_bytes()),
            Err(_) => metadata::append(&mut headers, &key, value.downcast::<PyBytes>()?.as_bytes()),
        };
        appended.map_err(PyValueError::new_err)?;
    }
    Ok(headers)
}

/// The bytes of a message as they are, kept by the interpreter until they are sent.
fn shared_bytes(message: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(PyBackedBytes::from(message.clone()))
}

/// A call, as a handler's context speaks to it. Also the handler call details that generic handlers are asked with.
#[pyclass(name = "Call", module = "fetch_transport._native", frozen)]
struct PyCall {
    call: Arc<Call>,
    outbox: Arc<Outbox>,
    message: Option<Py<PyBytes>>,
    ended: bool,
}

#[pymethods]
impl PyCall {
    #[getter]
    fn id(&self) -> u64 {
        self.call.id
    }

    #[getter]
    fn method(&self) -> &str {
        &self.call.path
    }

    #[getter]
    fn message(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.message.as_ref().map(|message| message.clone_ref(py))
    }

    #[getter]
    fn ended(&self) -> bool {
        self.ended
    }

    #[getter]
    fn invocation_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        static METADATUM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let metadatum = METADATUM.get_or_try_init(py, || -> PyResult<_> {
            Ok(py.import("fetch_transport._metadata")?.getattr("Metadatum")?.unbind())
        })?;
        let mut pairs = Vec::new();
        for (key, value) in metadata::received(&self.call.headers) {
            let value = match value {
                Value::Text(text) => PyString::new(py, &text).into_any(),
                Value::Binary(bytes) => PyBytes::new(py, &bytes).into_any(),
            };
            pairs.push(metadatum.bind(py).call1((key, value))?);
        }
        PyTuple::new(py, pairs)
    }

    fn peer(&self) -> &str {
        &self.call.peer.address
    }

    fn peer_identity_key(&self) -> Option<&'static str> {
        self.call.peer.identity.key
    }

    /// The same read-only mapping for all calls of a connection, and for all connections that say the same.
    fn auth_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let identity = &self.call.peer.identity;
        let context = identity.auth_context.get_or_try_init(py, || -> PyResult<_> {
            let properties = PyDict::new(py);
            for (key, values) in &identity.properties {
                let values = values.iter().map(|value| PyBytes::new(py, value));
                properties.set_item(*key, PyList::new(py, values)?)?;
            }
            Ok(PyMappingProxy::new(py, properties.as_mapping()).into_any().unbind())
        })?;
        Ok(context.bind(py).clone())
    }

    fn time_remaining(&self) -> Option<f64> {
        self.call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    fn reply(&self, message: &Bound<'_, PyBytes>) {
        self.call.reply(&self.outbox, message.as_bytes(), || shared_bytes(message));
    }

    fn send(&self, message: &Bound<'_, PyBytes>) -> bool {
        self.call.send(&self.outbox, message.as_bytes(), || shared_bytes(message))
    }

    fn send_initial_metadata(&self, pairs: Sent<'_>) -> PyResult<()> {
        self.call.send_initial(&self.outbox, headers_of(pairs)?);
        Ok(())
    }

    fn finish(&self, code: u32, details: String, trailing: Sent<'_>) -> PyResult<()> {
        let status = Status::new(code, details).with_trailing(headers_of(trailing)?);
        self.call.finish(&self.outbox, status);
        Ok(())
    }

    fn consumed(&self, length: usize) -> bool {
        self.call.consumed(&self.outbox, length)
    }

    fn tell_when_over(&self) -> bool {
        self.call.tell_when_over()
    }
}

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

    #[pyo3(signature = (address, credentials))]
    fn add_port(&self, address: &str, credentials: Option<&Credentials>) -> PyResult<u16> {
        let (listeners, port) = listener::bind(address, self.shared.settings.reuse_port)
            .map_err(|error| PyRuntimeError::new_err(format!("Failed to bind to address {address}: {error}")))?;
        let tls = credentials.map(|credentials| credentials.tls.clone());
        locked(&self.ports).extend(listeners.into_iter().map(|listener| Port { listener, tls: tls.clone() }));
        Ok(port)
    }

    fn start(&self) -> PyResult<()> {
        let ports = std::mem::take(&mut *locked(&self.ports));
        Ok(server::start(self.shared.clone(), ports)?)
    }

    fn fileno(&self) -> i32 {
        self.shared.inbox.eventfd().as_raw_fd()
    }

    fn drain(&self) {
        self.shared.phase.send_replace(Phase::Draining);
    }

    fn cancel(&self) {
        locked(&self.ports).clear();
        self.shared.phase.send_replace(Phase::Cancelling);
    }

    /// The next batch: calls that have begun, events of others, and whether it is the end.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>, bool)> {
        let batch = self.shared.inbox.take();
        let begun = PyList::empty(py);
        let events = PyList::empty(py);
        for arrival in batch.arrivals {
            match arrival {
                // Reset before anybody looked at it: to serve it would be work that a client gets for nothing.
                Arrival::Begun(gone) if gone.call.is_over() => {}
                Arrival::Begun(Begun { call, message, ended }) => {
                    let message = message.map(|message| PyBytes::new(py, &message).unbind());
                    begun.append(PyCall { call, outbox: self.shared.outbox.clone(), message, ended })?;
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
        Ok((begun, events, batch.drained))
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
    use super::{Credentials, PyCall, Transport};

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
