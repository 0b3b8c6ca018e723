//! A request of plain HTTP as an ASGI application receives and answers it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::grpc::status::{Status, INTERNAL};
use crate::python::call::shared_bytes;
use crate::shared::call::Call;
use crate::shared::identity::{Identity, Tls};
use crate::shared::outbox::Outbox;
use crate::shared::request::Opening;

/// Headers of an application, as ASGI has them.
type Headers<'py> = Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>;

#[pyclass(name = "Request", module = "fetch_transport._native", frozen)]
pub struct PyRequest {
    pub(super) call: Arc<Call>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) message: Option<Py<PyBytes>>,
    pub(super) ended: bool,
}

#[pymethods]
impl PyRequest {
    #[getter]
    fn id(&self) -> u64 {
        self.call.id
    }

    #[getter]
    fn message(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.message.as_ref().map(|message| message.clone_ref(py))
    }

    #[getter]
    fn ended(&self) -> bool {
        self.ended
    }

    fn scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let call = &self.call;
        let scope = PyDict::new(py);
        let Some(opening) = &call.opening else { return Ok(scope) };
        let asgi = PyDict::new(py);
        asgi.set_item("version", "3.0")?;
        asgi.set_item("spec_version", "2.4")?;
        scope.set_item("type", "http")?;
        scope.set_item("asgi", asgi)?;
        scope.set_item("http_version", version(opening.version))?;
        scope.set_item("method", opening.method.as_str())?;
        let tls = call.peer.identity.particulars.tls.as_ref();
        scope.set_item("scheme", if tls.is_some() { "https" } else { "http" })?;
        scope.set_item("path", percent_decode_str(&call.path).decode_utf8_lossy())?;
        scope.set_item("raw_path", PyBytes::new(py, call.path.as_bytes()))?;
        scope.set_item("query_string", PyBytes::new(py, opening.query.as_bytes()))?;
        scope.set_item("root_path", "")?;
        scope.set_item("headers", headers(py, call, opening)?)?;
        scope.set_item("client", address(py, call.peer.ends.remote)?)?;
        scope.set_item("server", address(py, call.peer.ends.local)?)?;
        let extensions = PyDict::new(py);
        if let Some(tls) = tls {
            extensions.set_item("tls", tls_extension(py, &call.peer.identity, tls)?)?;
        }
        scope.set_item("extensions", extensions)?;
        Ok(scope)
    }

    fn respond(&self, status: u16, headers: Headers<'_>, body: &Bound<'_, PyBytes>, whole: bool) -> PyResult<bool> {
        let head = head(status, &headers).map_err(PyValueError::new_err)?;
        Ok(self.call.respond(&self.outbox, Some(head), body.as_bytes(), || shared_bytes(body), whole))
    }

    fn send(&self, body: &Bound<'_, PyBytes>, whole: bool) -> bool {
        self.call.respond(&self.outbox, None, body.as_bytes(), || shared_bytes(body), whole)
    }

    fn abort(&self) {
        self.call.finish(&self.outbox, Status::new(INTERNAL, ""));
    }

    fn ask(&self) -> bool {
        self.call.ask(&self.outbox)
    }

    fn consumed(&self, length: usize) -> bool {
        self.call.consumed(&self.outbox, length)
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn headers<'py>(py: Python<'py>, call: &Call, opening: &Opening) -> PyResult<Bound<'py, PyList>> {
    let headers = PyList::empty(py);
    let pair = |name: &str, value: &[u8]| (PyBytes::new(py, name.as_bytes()), PyBytes::new(py, value));
    if let (Some(authority), false) = (&opening.authority, call.headers.contains_key(HOST)) {
        headers.append(pair("host", authority.as_bytes()))?;
    }
    for (name, value) in &call.headers {
        headers.append(pair(name.as_str(), value.as_bytes()))?;
    }
    Ok(headers)
}

fn address<'py>(py: Python<'py>, address: SocketAddr) -> PyResult<Bound<'py, PyTuple>> {
    (address.ip().to_canonical().to_string(), address.port()).into_pyobject(py)
}

/// What ASGI's extension for TLS tells; a copy for each request, since an application may change its scope.
fn tls_extension<'py>(py: Python<'py>, identity: &Identity, tls: &Tls) -> PyResult<Bound<'py, PyDict>> {
    let made = identity.tls_extension.get_or_try_init(py, || -> PyResult<_> {
        let extension = PyDict::new(py);
        let subject = identity.particulars.properties.iter().find(|(key, _)| *key == "x509_subject");
        let subject = subject.and_then(|(_, values)| values.first());
        // It is not kept: what the server presents is its operator's, who has it.
        extension.set_item("server_cert", py.None())?;
        extension.set_item("client_cert_chain", PyTuple::new(py, &tls.chain)?)?;
        extension
            .set_item("client_cert_name", subject.map(|name| PyString::new(py, &String::from_utf8_lossy(name))))?;
        extension.set_item("client_cert_error", py.None())?;
        extension.set_item("tls_version", tls.version)?;
        extension.set_item("cipher_suite", tls.cipher_suite)?;
        Ok(extension.into_any().unbind())
    })?;
    let extension = made.bind(py).downcast::<PyDict>()?.copy()?;
    extension.set_item("client_cert_chain", PyList::new(py, &tls.chain)?)?;
    Ok(extension)
}

/// What goes out before the body; an error is a sentence. How the body's end is told is for HTTP to say, not for applications.
fn head(status: u16, headers: &Headers<'_>) -> Result<Response<()>, String> {
    let mut head = Response::new(());
    let code = StatusCode::from_u16(status).ok().filter(|code| !code.is_informational());
    *head.status_mut() = code.ok_or_else(|| format!("no status of a response: {status}"))?;
    for (name, value) in headers {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        let wrong = |_| format!("no header of a response: {:?}", String::from_utf8_lossy(name));
        let name = HeaderName::from_bytes(name).map_err(|_| wrong(()))?;
        if name == TRANSFER_ENCODING || name == UPGRADE || name == "keep-alive" || name == "proxy-connection" {
            continue;
        }
        head.headers_mut().append(name, HeaderValue::from_bytes(value).map_err(|_| wrong(()))?);
    }
    Ok(head)
}
