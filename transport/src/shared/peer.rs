//! Who is at the other end of a connection: its address, and what its certificate says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use crate::shared::account::{Account, Accounts};
use crate::shared::certificate;
use crate::shared::identity::{Identities, Identity, Particulars, Properties, Tls};

/// The addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

/// What all calls of one connection share; made once.
pub struct Peer {
    pub ends: Ends,
    pub identity: Arc<Identity>,
    /// Shared with the other connections of whom the certificate names.
    pub account: Arc<Account>,
}

impl Peer {
    pub fn insecure(ends: Ends, accounts: &Accounts, identities: &Identities) -> Self {
        let properties = vec![
            ("transport_security_type", vec![b"insecure".to_vec()]),
            ("security_level", vec![b"TSI_SECURITY_NONE".to_vec()]),
        ];
        let identity = identities.of(Particulars { properties, tls: None }, None);
        Peer { ends, identity, account: accounts.of(Vec::new()) }
    }

    pub fn secure(ends: Ends, session: &ServerConnection, accounts: &Accounts, identities: &Identities) -> Self {
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
        let particulars = Particulars { properties, tls: Some(tls_of(session)) };
        Peer { ends, identity: identities.of(particulars, identity_key), account }
    }

    /// The client's address in grpcio's form.
    pub fn address(&self) -> String {
        address_of(self.ends.remote)
    }
}

/// What of a session plain HTTP is told beyond grpcio's properties.
fn tls_of(session: &ServerConnection) -> Tls {
    let chain = session.peer_certificates().unwrap_or_default();
    Tls {
        version: session.protocol_version().map_or(0, u16::from),
        cipher_suite: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        chain: chain.iter().map(|certificate| certificate::pem(certificate)).collect(),
    }
}

/// grpcio's form: the family, and the address as a URI has it.
pub fn address_of(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("ipv4:{ip}:{port}"),
        IpAddr::V6(ip) => format!("ipv6:%5B{ip}%5D:{port}"),
    }
}

#[cfg(test)]
impl Peer {
    /// Somebody without a certificate.
    pub fn anybody(accounts: &Accounts) -> Arc<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let ends = Ends { remote: address, local: address };
        Arc::new(Peer::insecure(ends, accounts, &Identities::default()))
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
        let [first, second] = ["127.0.0.1:1", "127.0.0.2:2"].map(|from| {
            let ends = Ends { remote: from.parse().unwrap(), local: "127.0.0.1:3".parse().unwrap() };
            Peer::insecure(ends, &accounts, &identities)
        });
        assert!(Arc::ptr_eq(&first.account, &second.account));
        assert!(Arc::ptr_eq(&first.identity, &second.identity));
    }
}
