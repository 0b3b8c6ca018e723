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

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    /// One that has no short name.
    const POSTAL_CODE: &[u8] = &[0x55, 4, 17];
    const UTF8: u8 = 0x0c;
    const BMP: u8 = 0x1e;
    const UNIVERSAL: u8 = 0x1c;
    const T61: u8 = 0x14;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[tag, content.len() as u8], content].concat()
    }

    fn attribute_of(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        der(0x30, &[der(6, kind), der(tag, value)].concat())
    }

    /// A name of components, each of which is a set of attributes.
    fn name(components: &[&[Vec<u8>]]) -> Vec<u8> {
        let components: Vec<_> = components.iter().map(|attributes| der(0x31, &attributes.concat())).collect();
        der(0x30, &components.concat())
    }

    fn printed(encoded: &[u8]) -> String {
        rfc2253(&X509Name::from_der(encoded).unwrap().1)
    }

    fn common_name_of(tag: u8, value: &[u8]) -> String {
        let encoded = name(&[&[attribute_of(COMMON_NAME, tag, value)]]);
        let (_, name) = X509Name::from_der(&encoded).unwrap();
        String::from_utf8(common_name(&name).unwrap()).unwrap()
    }

    #[test]
    fn the_last_component_comes_first() {
        let organization = attribute_of(ORGANIZATION, UTF8, b"fetch");
        let common_name = attribute_of(COMMON_NAME, UTF8, b"alice");
        assert_eq!(printed(&name(&[&[organization], &[common_name]])), "CN=alice,O=fetch");
    }

    #[test]
    fn attributes_of_one_component_are_joined_by_a_plus() {
        let attributes = [attribute_of(COMMON_NAME, UTF8, b"a"), attribute_of(ORGANIZATION, UTF8, b"b")];
        assert_eq!(printed(&name(&[&attributes])), "CN=a+O=b");
    }

    #[test]
    fn what_has_a_meaning_is_escaped() {
        for (value, text) in [
            ("a,b+c", "a\\,b\\+c"),
            ("\"<>;\\", "\\\"\\<\\>\\;\\\\"),
            (" a ", "\\ a\\ "),
            ("#a#", "\\#a#"),
            ("é\n", "\\C3\\A9\\0A"),
        ] {
            let encoded = name(&[&[attribute_of(COMMON_NAME, UTF8, value.as_bytes())]]);
            assert_eq!(printed(&encoded), format!("CN={text}"), "{value:?}");
        }
    }

    #[test]
    fn an_attribute_without_a_short_name_is_printed_in_hexadecimal() {
        let encoded = name(&[&[attribute_of(POSTAL_CODE, UTF8, b"a,b")]]);
        assert_eq!(printed(&encoded), "2.5.4.17=#0C03612C62");
    }

    #[test]
    fn every_kind_of_string_is_read_as_utf8() {
        assert_eq!(common_name_of(UTF8, "é".as_bytes()), "é");
        assert_eq!(common_name_of(BMP, &[0, 0xe9, 0xd8, 0x3d, 0xde, 0]), "é😀");
        assert_eq!(common_name_of(UNIVERSAL, &[0, 0, 0, 0xe9, 0, 1, 0xf6, 0]), "é😀");
        assert_eq!(common_name_of(T61, &[0xe9]), "é");
    }

    #[test]
    fn a_name_may_have_no_common_name() {
        let encoded = name(&[&[attribute_of(ORGANIZATION, UTF8, b"fetch")]]);
        assert_eq!(common_name(&X509Name::from_der(&encoded).unwrap().1), None);
    }
}
