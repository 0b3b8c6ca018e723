//! TLS for a port: the server's certificate, and which clients' certificates it takes.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

/// A server's side of TLS 1.2 and 1.3 with HTTP/2 as the only protocol; an error is a sentence.
///
/// With `roots` given a client must present a certificate that one of them has signed. Sessions are not resumed: a resumed
/// one would have the certificate of its first handshake, which may have expired or lost its authority's trust since.
pub fn server_config(key: &[u8], chain: &[u8], roots: Option<&[u8]>) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates(chain, "certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("private key: {error}"))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut store = RootCertStore::empty();
            for root in self::certificates(pem, "root certificates")? {
                store.add(root).map_err(|error| format!("root certificates: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .map_err(|error| format!("root certificates: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| format!("certificate: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => Err(format!("{what}: no certificate found")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
