//! Who is at the other end of a connection: its address, and what its certificate says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use crate::shared::account::{Account, Accounts};
use crate::shared::certificate;
use crate::shared::identity::{Identities, Identity, Properties};

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
        if let Some((certificate, intermediates)) = session.peer_certificates().and_then(<[_]>::split_first) {
            identity_key = certificate::add_properties(certificate, intermediates, &mut properties);
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
        let account = accounts.of(certificate::names(&properties));
        Peer { address: address_of(address), identity: identities.of(properties, identity_key), account }
    }
}

/// grpcio's form: the family, and the address as a URI has it.
fn address_of(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("ipv4:{ip}:{port}"),
        IpAddr::V6(ip) => format!("ipv6:%5B{ip}%5D:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_grpcio_writes_them() {
        for (address, written) in [
            ("127.0.0.1:80", "ipv4:127.0.0.1:80"),
            ("[::ffff:127.0.0.1]:80", "ipv4:127.0.0.1:80"),
            ("[::1]:80", "ipv6:%5B::1%5D:80"),
        ] {
            assert_eq!(address_of(address.parse().unwrap()), written);
        }
    }

    #[test]
    fn clients_without_a_certificate_are_one_client() {
        let (accounts, identities) = (Accounts::new(10, String::new()), Identities::default());
        let [first, second] =
            ["127.0.0.1:1", "127.0.0.2:2"].map(|from| Peer::insecure(from.parse().unwrap(), &accounts, &identities));
        assert!(Arc::ptr_eq(&first.account, &second.account));
        assert!(Arc::ptr_eq(&first.identity, &second.identity));
    }
}
