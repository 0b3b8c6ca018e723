//! Metadata between HTTP/2 headers and what handlers see, and the headers that gRPC keeps to itself.

use std::time::Duration;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD};
use base64::engine::{DecodePaddingMode, Engine};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Clients send binary values with or without padding; both are read.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const UNPADDED: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD);

/// A value of metadata: bytes where the key ends in `-bin`, text otherwise.
pub enum Value {
    Text(String),
    Binary(Vec<u8>),
}

/// The metadata a client has sent, in its order, without the headers that are gRPC's own.
pub fn received(headers: &HeaderMap) -> Vec<(&str, Value)> {
    let mut metadata = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let key = name.as_str();
        if matches!(key, "content-type" | "te" | "grpc-timeout" | "grpc-encoding" | "grpc-accept-encoding" | "host") {
            continue;
        }
        if key.ends_with("-bin") {
            // Several binary values may have been joined by commas, which base64 itself never holds.
            for part in value.as_bytes().split(|byte| *byte == b',') {
                if let Ok(decoded) = LENIENT.decode(part.trim_ascii()) {
                    metadata.push((key, Value::Binary(decoded)));
                }
            }
        } else {
            let text = match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => text.to_owned(),
                Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
            };
            metadata.push((key, Value::Text(text)));
        }
    }
    metadata
}

/// Adds one pair to the headers that go out; what HTTP/2 or gRPC does not allow is an error with a sentence.
pub fn append(headers: &mut HeaderMap, key: &str, value: &[u8]) -> Result<(), String> {
    let refused = || format!("metadata was invalid: {key:?}");
    // A handler may tell its client when to try again (gRPC's A6); what else begins so is the transport's to say.
    let reserved = key.starts_with("grpc-") && key != "grpc-retry-pushback-ms" && !key.ends_with("-bin");
    if reserved || key.starts_with(':') {
        return Err(refused());
    }
    // HeaderName would lower the case silently; grpcio refuses upper case, and so do we.
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(refused());
    }
    let name = HeaderName::from_bytes(key.as_bytes()).map_err(|_| refused())?;
    let value = if key.ends_with("-bin") {
        HeaderValue::from_str(&UNPADDED.encode(value)).map_err(|_| refused())?
    } else if value.iter().all(|byte| (0x20..=0x7e).contains(byte)) {
        HeaderValue::from_bytes(value).map_err(|_| refused())?
    } else {
        return Err(refused());
    };
    headers.append(name, value);
    Ok(())
}

/// The time a client allows for its call, from `grpc-timeout`: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, String> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let malformed = || format!("malformed grpc-timeout: {:?}", String::from_utf8_lossy(value.as_bytes()));
    let text = value.to_str().map_err(|_| malformed())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let amount: u64 = digits.parse().map_err(|_| malformed())?;
    let duration = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(malformed()),
    };
    Ok(Some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        assert_eq!(timeout(&headers("250m")), Ok(Some(Duration::from_millis(250))));
        assert_eq!(timeout(&headers("99999999H")), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
        for malformed in ["", "m", "1", "123456789S", "-1S", "1x"] {
            assert!(timeout(&headers(malformed)).is_err(), "{malformed}");
        }
    }

    #[test]
    fn binary_values_may_be_padded_and_joined() {
        let sent = HeaderMap::from_iter([(HeaderName::from_static("k-bin"), HeaderValue::from_static("AAE=,AAE"))]);
        let values: Vec<_> = received(&sent);
        assert_eq!(values.len(), 2);
        assert!(values.iter().all(|(_, value)| matches!(value, Value::Binary(bytes) if bytes == &[0, 1])));
    }

    #[test]
    fn what_is_grpcs_own_is_not_metadata() {
        let sent = HeaderMap::from_iter([
            (HeaderName::from_static("te"), HeaderValue::from_static("trailers")),
            (HeaderName::from_static("content-type"), HeaderValue::from_static("application/grpc")),
            (HeaderName::from_static("grpc-timeout"), HeaderValue::from_static("1S")),
            (HeaderName::from_static("user-agent"), HeaderValue::from_static("a client")),
        ]);
        let keys: Vec<_> = received(&sent).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["user-agent"]);
    }

    #[test]
    fn text_that_is_not_utf8_is_taken_byte_by_byte() {
        let value = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        let sent = HeaderMap::from_iter([(HeaderName::from_static("k"), value)]);
        assert!(matches!(&received(&sent)[..], [("k", Value::Text(text))] if text == "café"));
    }

    #[test]
    fn binary_values_go_out_without_padding() {
        let mut headers = HeaderMap::new();
        append(&mut headers, "k-bin", &[0, 1]).unwrap();
        assert_eq!(headers["k-bin"], "AAE");
    }

    #[test]
    fn a_handler_may_send_what_is_not_the_transports_to_say() {
        for allowed in ["k", "grpc-retry-pushback-ms", "grpc-status-details-bin"] {
            assert_eq!(append(&mut HeaderMap::new(), allowed, b"1"), Ok(()), "{allowed}");
        }
        for refused in ["grpc-status", "grpc-message", ":path", "Upper", "a b", ""] {
            assert!(append(&mut HeaderMap::new(), refused, b"1").is_err(), "{refused}");
        }
    }

    #[test]
    fn text_is_printable_ascii() {
        for refused in ["é", "a\n", "\u{7f}"] {
            assert!(append(&mut HeaderMap::new(), "k", refused.as_bytes()).is_err(), "{refused:?}");
        }
    }
}
