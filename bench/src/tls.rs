//! TLS of the load tools: what client and null CN speak, and a certificate for the proxies between them.
//!
//! By rustls with aws-lc, as corelane. One version, one cipher and one group of keys are spoken, so that whoever stands between has
//! no choice and all peers pay for the same; no session is resumed, so that each login pays for a whole handshake. Nobody's certificate
//! is looked at. It knows no MySQL and owns no socket.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, version,
};

/// Where in a connection TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Begin {
    /// Behind the greeting, when the client asks for it: as MySQL does.
    Login,
    /// With the first byte: as those do who know no MySQL.
    FirstByte,
}

/// What is spoken, for a report.
#[must_use]
pub fn spoken() -> String {
    let provider = provider();
    let suites = provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite()));
    let groups = provider.kx_groups.iter().map(|group| format!("{:?}", group.name()));
    let words: Vec<String> = suites.chain(groups).collect();
    format!("TLS 1.3, {}, ECDSA P-256, no session resumed", words.join(", "))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// What makes the client's side of a connection.
#[derive(Clone)]
pub struct Client {
    pub begin: Begin,
    config: Arc<ClientConfig>,
}

impl Client {
    pub fn new(begin: Begin) -> io::Result<Self> {
        let provider = provider();
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { begin, config: Arc::new(config) })
    }

    pub fn channel(&self) -> Result<Channel, rustls::Error> {
        let name = ServerName::from(std::net::Ipv4Addr::LOCALHOST);
        Ok(Channel::new(ClientConnection::new(self.config.clone(), name)?.into()))
    }
}

/// What makes the server's side of a connection.
#[derive(Clone)]
pub struct Server {
    pub begin: Begin,
    config: Arc<ServerConfig>,
}

impl Server {
    /// With a certificate of its own.
    pub fn new(begin: Begin) -> io::Result<Self> {
        let issued = issue()?;
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .map_err(io::Error::other)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { begin, config: Arc::new(config) })
    }

    pub fn channel(&self) -> Result<Channel, rustls::Error> {
        Ok(Channel::new(ServerConnection::new(self.config.clone())?.into()))
    }
}

/// A certificate in files, as proxies want it.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one, as HAProxy wants it.
    pub both: PathBuf,
}

impl Files {
    /// Writes those of a fresh certificate to `dir`.
    pub fn write(dir: &Path) -> io::Result<Self> {
        let issued = issue()?;
        let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let files = Self {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
        };
        fs::write(&files.both, format!("{certificate}{key}"))?;
        fs::write(&files.certificate, certificate)?;
        fs::write(&files.key, key)?;
        Ok(files)
    }
}

/// A certificate for this host that vouches for itself.
fn issue() -> io::Result<rcgen::CertifiedKey<rcgen::KeyPair>> {
    rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .map_err(io::Error::other)
}

/// One side of one connection, apart from its socket.
pub struct Channel {
    connection: Box<Connection>,
    ended: bool,
}

impl Channel {
    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(None);
        Self { connection: Box::new(connection), ended: false }
    }

    /// Whether the peer has taken leave.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes off the wire and appends what they say. There may be something to [send](Self::send) afterwards.
    pub fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        // None are taken behind the peer's farewell.
        while !wire.is_empty() && self.connection.read_tls(&mut wire)? > 0 {
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            self.ended = state.peer_has_closed();
            let begin = plain.len();
            plain.resize(begin + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[begin..])?;
        }
        Ok(())
    }

    /// Takes what is to be said; before both sides have agreed it waits inside.
    pub fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(plain)
    }

    /// Gives everything that can go on the wire.
    pub fn send(&mut self, mut to: impl Write) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut to)?;
        }
        Ok(())
    }
}

/// Believes any certificate: what is measured is what it costs, not who it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_before_both_agree_is_heard_after_it() {
        let mut client = Client::new(Begin::Login).unwrap().channel().unwrap();
        let mut server = Server::new(Begin::Login).unwrap().channel().unwrap();
        let long = vec![7; 300_000];
        client.seal(b"login").unwrap();
        server.seal(&long).unwrap();
        let (mut at_client, mut at_server) = (vec![], vec![]);
        for _ in 0..3 {
            let mut wire = vec![];
            client.send(&mut wire).unwrap();
            // Cut anywhere.
            for piece in wire.chunks(100) {
                server.open(piece, &mut at_server).unwrap();
            }
            let mut wire = vec![];
            server.send(&mut wire).unwrap();
            client.open(&wire, &mut at_client).unwrap();
        }
        assert_eq!(at_server, b"login");
        assert!(at_client == long);
        let agreed = client.connection.negotiated_cipher_suite().unwrap().suite();
        assert!(spoken().contains(&format!("{agreed:?}")), "{agreed:?} is what is told");
        assert!(spoken().contains("X25519"), "{}", spoken());
        let mut wire = vec![];
        server.connection.send_close_notify();
        server.send(&mut wire).unwrap();
        assert!(!client.has_ended());
        client.open(&wire, &mut at_client).unwrap();
        client.open(b"anything", &mut at_client).unwrap();
        assert!(client.has_ended() && at_client == long);
    }
}
