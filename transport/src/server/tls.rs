//! TLS for a port: the server's certificate, and which clients' certificates it takes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::shared::lock::locked;

/// Serial numbers without leading zeros, by the name of their issuer in DER.
pub type Revoked = HashMap<Vec<u8>, HashSet<Vec<u8>>>;

/// What a port asks for in its handshakes.
pub struct Terms<'a> {
    pub key: &'a [u8],
    pub chain: &'a [u8],
    /// The authorities of clients, whose certificates are required then.
    pub roots: Option<&'a [u8]>,
    pub revoked: Revoked,
    /// Protocol versions by their names, `TLS1.2` and `TLS1.3`; none for both.
    pub versions: Vec<String>,
    /// Cipher suites of TLS 1.2 by their IANA names, none for all; those of TLS 1.3 are not chosen from, as in Go.
    pub cipher_suites: Vec<String>,
}

/// What new handshakes are done with: may be replaced at any time, and connections that there are go on with what they
/// have begun with.
pub struct Tls(Mutex<Arc<ServerConfig>>);

impl Tls {
    pub fn new(terms: Terms<'_>) -> Result<Self, String> {
        Ok(Tls(Mutex::new(Arc::new(server_config(terms)?))))
    }

    pub fn replace(&self, other: &Tls) {
        let config = locked(&other.0).clone();
        *locked(&self.0) = config;
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(locked(&self.0).clone())
    }
}

/// A server's side of TLS 1.2 and 1.3 with HTTP/2, and HTTP/1.1 for those who prefer it; an error is a sentence.
///
/// With `roots` given a client must present a certificate that one of them has signed. Sessions are not resumed: a resumed
/// one would have the certificate of its first handshake, which may have expired, been revoked or lost its authority's
/// trust since.
fn server_config(terms: Terms<'_>) -> Result<ServerConfig, String> {
    let provider = Arc::new(provider(&terms.cipher_suites)?);
    let certificates = certificates(terms.chain, "certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(terms.key).map_err(|error| format!("private key: {error}"))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(&terms.versions)?)
        .map_err(|error| error.to_string())?;
    let builder = match terms.roots {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut store = RootCertStore::empty();
            for root in self::certificates(pem, "root certificates")? {
                store.add(root).map_err(|error| format!("root certificates: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .map_err(|error| format!("root certificates: {error}"))?;
            let verifier: Arc<dyn ClientCertVerifier> = match terms.revoked.is_empty() {
                true => verifier,
                false => Arc::new(Unrevoked { verifier, revoked: terms.revoked }),
            };
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| format!("certificate: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider(cipher_suites: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if cipher_suites.is_empty() {
        return Ok(provider);
    }
    let (of_13, of_12): (Vec<_>, Vec<_>) =
        provider.cipher_suites.into_iter().partition(|suite| suite.version() == &TLS13);
    let named = |name: &String| of_12.iter().find(|suite| format!("{:?}", suite.suite()) == *name).copied();
    let mut chosen = of_13;
    for name in cipher_suites {
        chosen.push(named(name).ok_or_else(|| {
            let served: Vec<_> = of_12.iter().map(|suite| format!("{:?}", suite.suite())).collect();
            format!("{name} is none of the cipher suites that can be served: {}", served.join(", "))
        })?);
    }
    provider.cipher_suites = chosen;
    Ok(provider)
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if names.is_empty() {
        return Ok(vec![&TLS13, &TLS12]);
    }
    names
        .iter()
        .map(|name| match name.as_str() {
            "TLS1.3" => Ok(&TLS13),
            "TLS1.2" => Ok(&TLS12),
            _ => Err(format!("{name} is neither TLS1.2 nor TLS1.3")),
        })
        .collect()
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => Err(format!("{what}: no certificate found")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// Refuses, of those that another verifier lets in, those with a revoked certificate in what they present.
#[derive(Debug)]
struct Unrevoked {
    verifier: Arc<dyn ClientCertVerifier>,
    revoked: Revoked,
}

impl Unrevoked {
    fn is_revoked(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return true };
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let of_issuer = self.revoked.get(certificate.issuer().as_raw());
        of_issuer.is_some_and(|serials| serials.contains(&serial[zeros..]))
    }
}

impl ClientCertVerifier for Unrevoked {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        match self.is_revoked(end_entity) || intermediates.iter().any(|certificate| self.is_revoked(certificate)) {
            true => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            false => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
