//! Who is at the other end of a connection: its address, and what its certificate says, in grpcio's words.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use base64::engine::general_purpose::STANDARD;
use base64::engine::Engine;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyAny;
use pyo3::Py;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::shared::account::{Account, Accounts};
use crate::shared::distinguished_name;
use crate::shared::lock::locked;

const COMMON_NAME: &str = "x509_common_name";
const ALTERNATIVE_NAME: &str = "x509_subject_alternative_name";

/// The properties of grpcio's auth context, each with its values.
pub type Properties = Vec<(&'static str, Vec<Vec<u8>>)>;

/// What a connection says of its peer; shared by all that say the same, as the many connections of one client do.
pub struct Identity {
    pub properties: Properties,
    /// The property that names the peer; none where it did not present a certificate.
    pub key: Option<&'static str>,
    /// The properties as the interpreter sees them, made when a handler first asks.
    pub auth_context: PyOnceLock<Py<PyAny>>,
}

/// The identities of the connections that there are.
#[derive(Default)]
pub struct Identities(Mutex<HashMap<Properties, Weak<Identity>>>);

impl Identities {
    /// Costs the number of identities only where that has doubled.
    fn of(&self, properties: Properties, key: Option<&'static str>) -> Arc<Identity> {
        let mut known = locked(&self.0);
        if let Some(identity) = known.get(&properties).and_then(Weak::upgrade) {
            return identity;
        }
        if known.len() == known.capacity() {
            known.retain(|_, identity| identity.strong_count() > 0);
        }
        let identity = Arc::new(Identity { properties: properties.clone(), key, auth_context: PyOnceLock::new() });
        known.insert(properties, Arc::downgrade(&identity));
        identity
    }
}

/// What all calls of one connection share; made once.
pub struct Peer {
    pub address: String,
    pub identity: Arc<Identity>,
    /// Shared with the other connections of whom the certificate names.
    pub account: Arc<Account>,
}

impl Peer {
    pub fn insecure(address: SocketAddr, accounts: &Accounts, identities: &Identities) -> Self {
        let properties = vec![
            ("transport_security_type", vec![b"insecure".to_vec()]),
            ("security_level", vec![b"TSI_SECURITY_NONE".to_vec()]),
        ];
        Peer {
            address: address_of(address),
            identity: identities.of(properties, None),
            account: accounts.of(Vec::new()),
        }
    }

    pub fn secure(
        address: SocketAddr,
        session: &ServerConnection,
        accounts: &Accounts,
        identities: &Identities,
    ) -> Self {
        let mut properties: Properties = vec![("transport_security_type", vec![b"ssl".to_vec()])];
        let mut identity_key = None;
        if let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) {
            identity_key = certificate_properties(certificate, &mut properties);
        }
        properties.push(("security_level", vec![b"TSI_PRIVACY_AND_INTEGRITY".to_vec()]));
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        properties.push(("ssl_session_reused", vec![resumed.to_string().into_bytes()]));
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        properties.push(("ssl_tls_version", vec![version.into()]));
        if let Some(group) = session.negotiated_key_exchange_group() {
            let name = format!("{:?}", group.name());
            properties.push(("ssl_negotiated_key_exchange_group", vec![name.into_bytes()]));
        }
        let account = accounts.of(names(&properties));
        Peer { address: address_of(address), identity: identities.of(properties, identity_key), account }
    }
}

/// Whom a certificate names: its common name and its alternative names, each with its length.
fn names(properties: &Properties) -> Vec<u8> {
    let named = properties.iter().filter(|(key, _)| matches!(*key, COMMON_NAME | ALTERNATIVE_NAME));
    let mut names = Vec::new();
    for name in named.flat_map(|(_, values)| values) {
        names.extend_from_slice(&name.len().to_be_bytes());
        names.extend_from_slice(name);
    }
    names
}

/// grpcio's form: the family, and the address as a URI has it.
fn address_of(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("ipv4:{ip}:{port}"),
        IpAddr::V6(ip) => format!("ipv6:%5B{ip}%5D:{port}"),
    }
}

/// Adds what a certificate says; which of it names the peer. A certificate that cannot be read names nobody.
fn certificate_properties(der: &[u8], properties: &mut Properties) -> Option<&'static str> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return None };
    let subject = certificate.subject();
    let common_name = distinguished_name::common_name(subject).unwrap_or_default();
    properties.push(("x509_subject", vec![distinguished_name::rfc2253(subject).into_bytes()]));
    properties.push((COMMON_NAME, vec![common_name]));
    properties.push(("x509_pem_cert", vec![pem(der).into_bytes()]));
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

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
