//! A call as a handler's context speaks to it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyMappingProxy, PyString, PyTuple};

use crate::grpc::metadata::{self, Value};
use crate::grpc::status::Status;
use crate::shared::call::Call;
use crate::shared::outbox::Outbox;

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
pub fn shared_bytes(message: &Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(PyBackedBytes::from(message.clone()))
}

/// A call, as a handler's context speaks to it. Also the handler call details that generic handlers are asked with.
#[pyclass(name = "Call", module = "fetch_transport._native", frozen)]
pub struct PyCall {
    pub(super) call: Arc<Call>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) message: Option<Py<PyBytes>>,
    pub(super) ended: bool,
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

    fn peer(&self) -> String {
        self.call.peer.address()
    }

    fn peer_identity_key(&self) -> Option<&'static str> {
        self.call.peer.identity.key
    }

    /// The same read-only mapping for all calls of a connection, and for all connections that say the same.
    fn auth_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let identity = &self.call.peer.identity;
        let context = identity.auth_context.get_or_try_init(py, || -> PyResult<_> {
            let properties = PyDict::new(py);
            for (key, values) in &identity.particulars.properties {
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
