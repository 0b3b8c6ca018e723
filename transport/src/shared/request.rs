//! What a request says that is not gRPC, beside its path and headers.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method, Uri, Version};

/// How a request of plain HTTP begins.
#[derive(Debug)]
pub struct Opening {
    pub method: Method,
    pub version: Version,
    pub query: String,
    /// What HTTP/2 has for the host.
    pub authority: Option<String>,
    /// The client keeps its body back until it is asked for (`Expect: 100-continue`), and has not been.
    is_awaited: AtomicBool,
}

impl Opening {
    pub fn new(method: Method, version: Version, uri: &Uri, headers: &HeaderMap) -> Self {
        // HTTP/2 has no lines between head and body; what a client asks there for, its windows say.
        let waits = version == Version::HTTP_11
            && headers
                .get(http::header::EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Opening {
            method,
            version,
            query: uri.query().unwrap_or_default().to_owned(),
            authority: uri.authority().map(|authority| authority.as_str().to_owned()),
            is_awaited: AtomicBool::new(waits),
        }
    }

    /// Whether the client waits to be asked for its body.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }

    /// Has the client asked for its body; true if it waited for that.
    pub fn ask(&self) -> bool {
        self.is_awaited.swap(false, Ordering::AcqRel)
    }

    /// Bytes beside those of the struct.
    pub fn size(&self) -> usize {
        self.query.len() + self.authority.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderValue, EXPECT};

    use super::*;

    fn opening(version: Version, expected: &'static str) -> Opening {
        let headers = HeaderMap::from_iter([(EXPECT, HeaderValue::from_static(expected))]);
        Opening::new(Method::POST, version, &Uri::from_static("/a?b=c"), &headers)
    }

    #[test]
    fn a_client_that_waits_is_asked_once() {
        let waiting = opening(Version::HTTP_11, "100-Continue");
        assert!(waiting.is_awaited());
        assert!(waiting.ask());
        assert!(!waiting.is_awaited());
        assert!(!waiting.ask());
    }

    #[test]
    fn only_http_1_1_waits() {
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert!(!opening(version, "100-continue").is_awaited());
        }
        assert!(!opening(Version::HTTP_11, "miracles").is_awaited());
    }
}
