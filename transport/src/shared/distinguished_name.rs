//! A certificate's subject as text, in the form of RFC 2253 that OpenSSL prints and grpcio shows.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attribute types by the short names OpenSSL gives them; others are printed by number.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The first common name, in UTF-8.
pub fn common_name(name: &X509Name<'_>) -> Option<Vec<u8>> {
    name.iter_common_name().next().map(value_of)
}

/// The whole name, last component first.
pub fn rfc2253(name: &X509Name<'_>) -> String {
    let components: Vec<String> =
        name.iter_rdn().map(|component| component.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    components.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    match SHORT_NAMES.iter().find(|(id, _)| *id == number) {
        Some((_, short)) => format!("{short}={}", escaped(&value_of(attribute))),
        // What has no name is not known to be text either: its bytes in hexadecimal.
        None => {
            let mut text = format!("{number}=#");
            let value = attribute.attr_value();
            let length = value.data.len();
            let header = if length < 128 { vec![length as u8] } else { vec![0x82, (length >> 8) as u8, length as u8] };
            for byte in [value.tag().0 as u8].iter().chain(&header).chain(value.data) {
                let _ = write!(text, "{byte:02X}");
            }
            text
        }
    }
}

fn value_of(attribute: &AttributeTypeAndValue<'_>) -> Vec<u8> {
    let value = attribute.attr_value();
    let data = value.data;
    match value.tag() {
        Tag::BmpString => {
            let units = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into()
        }
        Tag::UniversalString => {
            let units = data.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
            units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into()
        }
        Tag::T61String => data.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
        _ => data.to_vec(),
    }
}

fn escaped(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for (index, &byte) in value.iter().enumerate() {
        let first = index == 0;
        let last = index + 1 == value.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' | b' ' if first => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if last => text.push_str("\\ "),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}
