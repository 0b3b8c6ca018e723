//! How a call ends: a gRPC status, and the trailers it is sent as.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use percent_encoding::{percent_encode, AsciiSet, CONTROLS};

pub const OK: u32 = 0;
pub const DEADLINE_EXCEEDED: u32 = 4;
pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNIMPLEMENTED: u32 = 12;
pub const INTERNAL: u32 = 13;

/// Everything that the protocol does not let stand in grpc-message: all but printable ASCII, and the escape itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// A status with the metadata that goes out beside it.
#[derive(Debug)]
pub struct Status {
    code: u32,
    details: Cow<'static, str>,
    /// Boxed, since most have none and errors are passed on by value.
    trailing: Option<Box<HeaderMap>>,
}

impl Status {
    pub fn new(code: u32, details: impl Into<Cow<'static, str>>) -> Self {
        Status { code, details: details.into(), trailing: None }
    }

    pub fn ok() -> Self {
        Status::new(OK, "")
    }

    pub fn code(&self) -> u32 {
        self.code
    }

    pub fn with_trailing(mut self, trailing: HeaderMap) -> Self {
        if !trailing.is_empty() {
            self.trailing = Some(Box::new(trailing));
        }
        self
    }

    pub fn into_trailers(self) -> HeaderMap {
        let mut trailers = self.trailing.map(|trailing| *trailing).unwrap_or_default();
        let code = if self.code == OK { HeaderValue::from_static("0") } else { HeaderValue::from(self.code) };
        trailers.insert("grpc-status", code);
        if !self.details.is_empty() {
            let escaped = percent_encode(self.details.as_bytes(), ESCAPED).to_string();
            // Percent-encoded text holds nothing that a header value may not.
            if let Ok(message) = HeaderValue::from_str(&escaped) {
                trailers.insert("grpc-message", message);
            }
        }
        trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        let trailers = Status::new(5, "é 100%\n").into_trailers();
        assert_eq!(trailers["grpc-status"], "5");
        assert_eq!(trailers["grpc-message"], "%C3%A9 100%25%0A");
    }

    #[test]
    fn success_has_no_message() {
        let trailers = Status::ok().into_trailers();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(!trailers.contains_key("grpc-message"));
    }

    #[test]
    fn metadata_goes_out_beside_the_status() {
        let trailing = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("1"))]);
        let trailers = Status::new(8, "").with_trailing(trailing).into_trailers();
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["retry-after"], "1");
    }
}
