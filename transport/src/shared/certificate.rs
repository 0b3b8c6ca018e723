//! What a client's certificate says, as properties of grpcio's auth context.

use std::net::IpAddr;

use base64::engine::general_purpose::STANDARD;
use base64::engine::Engine;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::shared::distinguished_name;
use crate::shared::identity::Properties;

const COMMON_NAME: &str = "x509_common_name";
const ALTERNATIVE_NAME: &str = "x509_subject_alternative_name";

/// Adds what a certificate says; which of it names the peer. A certificate that cannot be read names nobody.
pub fn add_properties(
    der: &[u8],
    intermediates: &[CertificateDer<'_>],
    properties: &mut Properties,
) -> Option<&'static str> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return None };
    let subject = certificate.subject();
    let common_name = distinguished_name::common_name(subject).unwrap_or_default();
    properties.push(("x509_subject", vec![distinguished_name::rfc2253(subject).into_bytes()]));
    properties.push((COMMON_NAME, vec![common_name]));
    properties.push(("x509_pem_cert", vec![pem(der).into_bytes()]));
    if !intermediates.is_empty() {
        // what was presented beside it, as grpcio has it
        let chain: String = intermediates.iter().map(|certificate| pem(certificate)).collect();
        properties.push(("x509_pem_cert_chain", vec![chain.into_bytes()]));
    }
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = match &extension {
        Some(extension) if !extension.value.general_names.is_empty() => &extension.value.general_names,
        _ => return Some(COMMON_NAME),
    };
    let named: Vec<_> = names.iter().map(alternative_name).collect();
    properties.push((ALTERNATIVE_NAME, named.iter().map(|(_, value)| value.clone()).collect()));
    for kind in ["peer_dns", "peer_uri", "peer_ip", "peer_email"] {
        let values: Vec<_> = named.iter().filter(|(key, _)| *key == kind).map(|(_, value)| value.clone()).collect();
        if !values.is_empty() {
            if let ("peer_uri", [uri]) = (kind, values.as_slice()) {
                if is_spiffe_id(uri) {
                    properties.push(("peer_spiffe_id", vec![uri.clone()]));
                }
            }
            properties.push((kind, values));
        }
    }
    Some(ALTERNATIVE_NAME)
}

fn alternative_name(name: &GeneralName<'_>) -> (&'static str, Vec<u8>) {
    match name {
        GeneralName::DNSName(name) => ("peer_dns", name.as_bytes().to_vec()),
        GeneralName::URI(uri) => ("peer_uri", uri.as_bytes().to_vec()),
        GeneralName::RFC822Name(address) => ("peer_email", address.as_bytes().to_vec()),
        GeneralName::IPAddress(octets) => {
            let address = match octets.len() {
                4 => <[u8; 4]>::try_from(*octets).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(*octets).ok().map(IpAddr::from),
            };
            ("peer_ip", address.map(|address| address.to_string()).unwrap_or_default().into_bytes())
        }
        _ => ("", b"other types of SAN".to_vec()),
    }
}

/// A URI of the scheme with a trust domain and a path, in the length that SPIFFE allows.
fn is_spiffe_id(uri: &[u8]) -> bool {
    let Some(rest) = uri.strip_prefix(b"spiffe://") else { return false };
    let Some(slash) = rest.iter().position(|byte| *byte == b'/') else { return false };
    uri.len() <= 2048 && (1..=255).contains(&slash) && slash + 1 < rest.len()
}

/// A certificate as a text.
pub fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// Whom a certificate names: its common name and its alternative names, each with its length.
pub fn names(properties: &Properties) -> Vec<u8> {
    let named = properties.iter().filter(|(key, _)| matches!(*key, COMMON_NAME | ALTERNATIVE_NAME));
    let mut names = Vec::new();
    for name in named.flat_map(|(_, values)| values) {
        names.extend_from_slice(&name.len().to_be_bytes());
        names.extend_from_slice(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_has_a_trust_domain_and_a_path() {
        assert!(is_spiffe_id(b"spiffe://domain/path"));
        for other in ["https://domain/path", "spiffe://domain", "spiffe://domain/", "spiffe:///path"] {
            assert!(!is_spiffe_id(other.as_bytes()), "{other}");
        }
        assert!(!is_spiffe_id(format!("spiffe://domain/{}", "p".repeat(2048)).as_bytes()));
        assert!(!is_spiffe_id(format!("spiffe://{}/path", "d".repeat(256)).as_bytes()));
    }

    #[test]
    fn addresses_are_text_in_both_families() {
        assert_eq!(alternative_name(&GeneralName::IPAddress(&[127, 0, 0, 1])), ("peer_ip", b"127.0.0.1".to_vec()));
        let mut octets = [0; 16];
        octets[15] = 1;
        assert_eq!(alternative_name(&GeneralName::IPAddress(&octets)), ("peer_ip", b"::1".to_vec()));
        assert_eq!(alternative_name(&GeneralName::IPAddress(&[1, 2])), ("peer_ip", Vec::new()));
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let mut properties = Properties::new();
        assert_eq!(add_properties(b"none", &[], &mut properties), None);
        assert!(properties.is_empty());
    }

    #[test]
    fn names_cannot_be_put_together_into_those_of_another() {
        let named =
            |values: &[&[u8]]| names(&vec![(ALTERNATIVE_NAME, values.iter().map(|value| value.to_vec()).collect())]);
        assert_ne!(named(&[b"a", b"b"]), named(&[b"ab"]));
        assert_ne!(named(&[b"a", b"b"]), named(&[b"b", b"a"]));
        assert_eq!(named(&[b"a"]), names(&vec![("peer_dns", vec![b"x".to_vec()]), (COMMON_NAME, vec![b"a".to_vec()])]));
    }

    #[test]
    fn pem_has_lines_of_64() {
        let text = pem(&[0; 100]);
        let lengths: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [27, 64, 64, 8, 25]);
    }
}
