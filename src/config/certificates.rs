//! What corelane is in TLS, made of certificates and keys: as the server of its clients a [`ServerContext`], as the client of a CN a
//! [`ClientContext`]. Each is made once and shared by all workers.
//!
//! Sessions are resumed by tickets, whose keys a server context makes anew every few hours. Versions are TLS 1.2 and 1.3, as rustls
//! speaks no other. Nothing here reads a file or speaks to anybody.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oldest {
    Tls12,
    Tls13,
}

impl Oldest {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// Why no context can be made.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("it is no file of certificates in PEM: {0}")]
    Certificate(String),
    #[error("it has no private key in PEM: {0}")]
    Key(String),
    #[error("the key does not belong to the certificate, or cannot be used: {0}")]
    Pair(rustls::Error),
    #[error("a certificate in it cannot be trusted by: {0}")]
    Authority(String),
    #[error("{0}")]
    Tls(rustls::Error),
}

/// A certificate with those that vouch for it, and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// Of the contents of a file of certificates and one with the key, both in PEM.
    ///
    /// # Errors
    /// [`ContextError::NoCertificate`], [`ContextError::Certificate`] and [`ContextError::Key`].
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, ContextError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| ContextError::Key(error.to_string()))?;
        Ok(Self { chain, key })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ContextError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| ContextError::Certificate(error.to_string()))?;
    if all.is_empty() { Err(ContextError::NoCertificate) } else { Ok(all) }
}

/// Those who may vouch for a peer, from a file of certificates in PEM.
///
/// # Errors
/// It has none, or one that cannot vouch.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, ContextError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| ContextError::Authority(error.to_string()))?;
    }
    Ok(roots)
}

/// Whether a client must show a certificate.
pub enum ClientCertificates {
    /// It is not asked for one.
    No,
    /// One that it shows must be vouched for.
    Optional(RootCertStore),
    Required(RootCertStore),
}

/// What corelane is as a server.
#[derive(Clone, Debug)]
pub struct ServerContext(Arc<ServerConfig>);

impl ServerContext {
    /// # Errors
    /// Certificate and key are no pair, or cannot be used.
    pub fn new(
        identity: Identity,
        clients: ClientCertificates,
        oldest: Oldest,
    ) -> Result<Self, ContextError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(oldest.versions())
            .map_err(ContextError::Tls)?;
        let verifier =
            |roots: RootCertStore| WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        let verifier = match clients {
            ClientCertificates::No => None,
            ClientCertificates::Optional(roots) => Some(verifier(roots).allow_unauthenticated().build()),
            ClientCertificates::Required(roots) => Some(verifier(roots).build()),
        };
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => {
                let verifier = verifier.map_err(|error| ContextError::Authority(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(identity.chain, identity.key).map_err(ContextError::Pair)?;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(ContextError::Tls)?;
        Ok(Self(Arc::new(config)))
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

/// What corelane believes of a CN's certificate.
pub enum Trust {
    /// Anything: it is encrypted, and nobody knows to whom.
    Anybody,
    /// One of these must vouch for it, whoever it is for.
    Authority(RootCertStore),
    /// That, and it must be for the CN's host name or address.
    Name(RootCertStore),
}

/// What corelane is as a client.
#[derive(Clone, Debug)]
pub struct ClientContext(Arc<ClientConfig>);

impl ClientContext {
    /// # Errors
    /// Certificate and key are no pair, or cannot be used.
    pub fn new(identity: Option<Identity>, trust: Trust, oldest: Oldest) -> Result<Self, ContextError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(oldest.versions())
            .map_err(ContextError::Tls)?;
        let builder = match trust {
            Trust::Name(roots) => builder.with_root_certificates(roots),
            trust => builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient::new(trust)?)),
        };
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain, identity.key).map_err(ContextError::Pair)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes a certificate for whatever name, as MySQL's `VERIFY_CA` and `REQUIRED` do.
#[derive(Debug)]
struct Lenient {
    /// None: it takes any.
    authority: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Lenient {
    fn new(trust: Trust) -> Result<Self, ContextError> {
        let authority = match trust {
            Trust::Anybody => None,
            Trust::Authority(roots) | Trust::Name(roots) => {
                let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
                Some(builder.build().map_err(|error| ContextError::Authority(error.to_string()))?)
            }
        };
        Ok(Self { authority, provider: provider() })
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        let verified = authority.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
