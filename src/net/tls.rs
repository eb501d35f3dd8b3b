//! TLS on one leg, by rustls: corelane as the server of its clients, or as the client of a CN.
//!
//! A [`Tls`] is a layer of a socket and knows no protocol but TLS; when it is put on is for the login to say. It holds no bytes of its
//! own between two calls, but for a record that has not come whole. What a side is and believes is in a context.

use std::any::Any;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use crate::config::certificates::{ClientContext, ServerContext};
use crate::reactor::Layer;

/// Bytes that TLS adds to each record at most: header, type, explicit nonce, tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 8 + 16;
/// Bytes of the session's own in one record.
const RECORD_MAX: usize = 16 << 10;

/// One connection's TLS.
pub struct Tls {
    side: Side,
    /// Bytes off the wire that are no whole record yet; no memory while there are none.
    sealed: Vec<u8>,
    ready: bool,
    ended: bool,
    /// It is of no use any more.
    failed: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

const FAILED: &str = "TLS has failed before";

/// What one step has come to.
enum Step {
    /// There may be more to do.
    On,
    /// Nothing more before other bytes come.
    Done,
}

impl Tls {
    /// Corelane's side of a client's connection.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn server(context: &ServerContext) -> Result<Box<Self>, rustls::Error> {
        Ok(Box::new(Self::new(Side::Server(UnbufferedServerConnection::new(context.config())?))))
    }

    /// Corelane's side of a connection to a CN, whose host name or IP address this is.
    ///
    /// # Errors
    /// It is no name, or there is no randomness.
    pub fn client(context: &ClientContext, host: &str) -> Result<Box<Self>, rustls::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            rustls::Error::General("its host is no name that a certificate could have".to_owned())
        })?;
        Ok(Box::new(Self::new(Side::Client(UnbufferedClientConnection::new(context.config(), name)?))))
    }

    fn new(side: Side) -> Self {
        Self { side, sealed: Vec::new(), ready: false, ended: false, failed: false }
    }

    /// `TLSv1.3` and the like, as MySQL's `Ssl_version` has it; none before both sides have agreed.
    pub fn version(&self) -> Option<&'static str> {
        let version = match &self.side {
            Side::Server(connection) => connection.protocol_version(),
            Side::Client(connection) => connection.protocol_version(),
        };
        Some(match version? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLS",
        })
    }

    /// The certificate that the peer has shown, in DER. One that has resumed a session has shown it before.
    pub fn certificate(&self) -> Option<&[u8]> {
        let chain = match &self.side {
            Side::Server(connection) => connection.peer_certificates(),
            Side::Client(connection) => connection.peer_certificates(),
        };
        chain?.first().map(|certificate| &**certificate)
    }

    /// Takes what is sealed from `at` on one step further; moves `at` behind what is done with.
    fn step(
        &mut self,
        at: &mut usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Step, rustls::Error> {
        let Self { side, sealed, ready, ended, .. } = self;
        let sealed = &mut sealed[*at..];
        let (discard, step) = match side {
            Side::Server(connection) => {
                take(connection.process_tls_records(sealed), plain, wire, (ready, ended))
            }
            Side::Client(connection) => {
                take(connection.process_tls_records(sealed), plain, wire, (ready, ended))
            }
        };
        *at += discard;
        step
    }

    /// Steps as far as it goes. The rest moves to the front only then: a peer may send thousands of tiny records in one go.
    fn run(&mut self, plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), rustls::Error> {
        let mut at = 0;
        let stepped = loop {
            match self.step(&mut at, plain, wire) {
                Ok(Step::On) => {}
                Ok(Step::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if at == self.sealed.len() {
            self.sealed = Vec::new();
        } else {
            self.sealed.drain(..at);
        }
        stepped
    }

    /// Appends what `plain` is on the wire, or a farewell.
    fn write(&mut self, plain: Option<&[u8]>, wire: &mut Vec<u8>) -> Result<(), String> {
        if self.failed {
            return Err(FAILED.to_owned());
        }
        let sealed = &mut self.sealed[..];
        match &mut self.side {
            Side::Server(connection) => seal(connection.process_tls_records(sealed), plain, wire),
            Side::Client(connection) => seal(connection.process_tls_records(sealed), plain, wire),
        }
    }
}

/// Does what rustls asks for. Gives how many bytes it has taken.
fn take<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
    (ready, ended): (&mut bool, &mut bool),
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::On),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            grow(wire, |room| match data.encode(room) {
                Ok(n) => Ok(n),
                Err(EncodeError::InsufficientSize(needs)) => Err(Some(needs)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
            Ok(Step::On)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // What is in `wire` goes out in order, whenever that is.
            data.done();
            Ok(Step::On)
        }
        Ok(ConnectionState::WriteTraffic(_)) => {
            *ready = true;
            Ok(Step::Done)
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            *ended = true;
            Ok(Step::Done)
        }
        Ok(_) => Ok(Step::Done),
    };
    (discard, step)
}

/// Lets `write` append to `wire`, with the room that it says it needs.
fn grow(wire: &mut Vec<u8>, write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>) {
    let begin = wire.len();
    grow_from(wire, begin, write);
}

/// The same where there is room from `begin` on already.
fn grow_from(
    wire: &mut Vec<u8>,
    begin: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) {
    loop {
        match write(&mut wire[begin..]) {
            Ok(n) => return wire.truncate(begin + n),
            Err(Some(needs)) => wire.resize(begin + needs.required_size, 0),
            Err(None) => return wire.truncate(begin),
        }
    }
}

/// Appends what `plain` is on the wire, or a farewell; the connection has nothing else to do.
fn seal<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: Option<&[u8]>,
    wire: &mut Vec<u8>,
) -> Result<(), String> {
    let mut traffic = match status.state {
        Ok(ConnectionState::WriteTraffic(traffic)) => traffic,
        Ok(other) => return Err(format!("TLS takes no bytes now ({other:?})")),
        Err(error) => return Err(error.to_string()),
    };
    let begin = wire.len();
    if let Some(plain) = plain {
        let records = plain.len().div_ceil(RECORD_MAX);
        wire.resize(begin + plain.len() + records * RECORD_OVERHEAD, 0);
    }
    let mut exhausted = false;
    grow_from(wire, begin, |room| {
        let written = match plain {
            Some(plain) => traffic.encrypt(plain, room),
            None => traffic.queue_close_notify(room),
        };
        match written {
            Ok(n) => Ok(n),
            Err(EncryptError::InsufficientSize(needs)) => Err(Some(needs)),
            Err(EncryptError::EncryptExhausted) => {
                exhausted = true;
                Err(None)
            }
        }
    });
    if exhausted { Err("TLS has used up its keys".to_owned()) } else { Ok(()) }
}

impl Layer for Tls {
    fn open(
        &mut self,
        sealed: &[u8],
        _room: usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        if self.failed {
            return Err(FAILED.to_owned());
        }
        self.sealed.extend_from_slice(sealed);
        let Err(error) = self.run(plain, wire) else { return Ok(()) };
        // The alert that tells the peer waits now. What has come stays until then, as rustls refers to it, and no further step is
        // taken: it would look at the same bytes again.
        let _ = self.step(&mut 0, &mut Vec::new(), wire);
        (self.failed, self.sealed) = (true, Vec::new());
        Err(error.to_string())
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
        self.write(Some(plain), wire)
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        // Before both sides have agreed there is nobody to take leave of.
        let _ = self.write(None, wire);
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn parts(&self) -> Vec<&dyn Any> {
        vec![self]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::RootCertStore;

    use super::*;
    use crate::config::certificates::{
        ClientCertificates, ContextError, Identity, Oldest, Trust, authorities,
    };

    /// Somebody who vouches, in PEM, and a certificate with key for a host.
    struct Issued {
        authority: String,
        certificate: String,
        key: String,
    }

    fn issue(host: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap().pem();
        Issued { authority, certificate, key: key.serialize_pem() }
    }

    impl Issued {
        fn identity(&self) -> Identity {
            Identity::read(self.certificate.as_bytes(), self.key.as_bytes()).unwrap()
        }

        fn roots(&self) -> RootCertStore {
            authorities(self.authority.as_bytes()).unwrap()
        }
    }

    /// Two layers that can speak to each other, the server's first.
    pub(crate) fn pair() -> (Box<Tls>, Box<Tls>) {
        pair_of(Oldest::Tls12, Oldest::Tls12)
    }

    fn pair_of(server: Oldest, client: Oldest) -> (Box<Tls>, Box<Tls>) {
        let issued = issue("db1");
        let server = ServerContext::new(issued.identity(), ClientCertificates::No, server).unwrap();
        let client = ClientContext::new(None, Trust::Name(issued.roots()), client).unwrap();
        (Tls::server(&server).unwrap(), Tls::client(&client, "db1").unwrap())
    }

    /// Gives what is on the wire to `to`, in pieces; what it says to that.
    fn pass(wire: &mut Vec<u8>, to: &mut Tls, piece: usize, heard: &mut Vec<u8>) -> Result<Vec<u8>, String> {
        let mut back = Vec::new();
        for piece in std::mem::take(wire).chunks(piece) {
            to.open(piece, usize::MAX, heard, &mut back)?;
        }
        Ok(back)
    }

    /// Lets both agree, over a wire that cuts.
    fn agree(server: &mut Tls, client: &mut Tls, piece: usize) -> Result<(), String> {
        let (mut heard, mut wire) = (Vec::new(), Vec::new());
        client.open(&[], usize::MAX, &mut heard, &mut wire)?;
        for _ in 0..4 {
            let mut back = pass(&mut wire, server, piece, &mut heard)?;
            wire = pass(&mut back, client, piece, &mut heard)?;
        }
        assert!(server.is_ready() && client.is_ready() && wire.is_empty() && heard.is_empty());
        Ok(())
    }

    #[test]
    fn both_sides_hear_what_was_said_however_it_is_cut() {
        for (oldest, version) in [(Oldest::Tls12, "TLSv1.3"), (Oldest::Tls13, "TLSv1.3")] {
            for piece in [1, 2, 5, 100, 4096, 1 << 20] {
                let (mut server, mut client) = pair_of(oldest, Oldest::Tls12);
                agree(&mut server, &mut client, piece).unwrap();
                assert_eq!((server.version(), client.version()), (Some(version), Some(version)));
                assert!(client.certificate().is_some() && server.certificate().is_none());
                for length in [0, 1, 16_383, 16_384, 16_385, 100_000] {
                    let said: Vec<u8> = (0..length).map(|at| at as u8).collect();
                    let (mut wire, mut heard) = (Vec::new(), Vec::new());
                    server.seal(&said, &mut wire).unwrap();
                    pass(&mut wire, &mut client, piece, &mut heard).unwrap();
                    assert_eq!(heard, said);
                    let (mut wire, mut heard) = (Vec::new(), Vec::new());
                    client.seal(&said, &mut wire).unwrap();
                    client.seal(b"more", &mut wire).unwrap();
                    pass(&mut wire, &mut server, piece, &mut heard).unwrap();
                    assert_eq!(heard, [&said[..], b"more"].concat());
                }
                assert_eq!((server.sealed.capacity(), client.sealed.capacity()), (0, 0), "idle");
                let (mut wire, mut heard) = (Vec::new(), Vec::new());
                client.close(&mut wire);
                assert!(!server.has_ended());
                pass(&mut wire, &mut server, piece, &mut heard).unwrap();
                assert!(server.has_ended() && heard.is_empty());
            }
        }
    }

    #[test]
    fn thousands_of_tiny_records_in_one_go_are_heard_in_order() {
        let (mut server, mut client) = pair();
        agree(&mut server, &mut client, 1 << 20).unwrap();
        let said: Vec<u8> = (0..5000).map(|at| at as u8).collect();
        let mut sealed = Vec::new();
        said.chunks(1).for_each(|byte| client.seal(byte, &mut sealed).unwrap());
        // The last record is cut.
        let (whole, cut) = sealed.split_at(sealed.len() - 7);
        let mut heard = Vec::new();
        pass(&mut whole.to_vec(), &mut server, whole.len(), &mut heard).unwrap();
        assert!(heard == said[..4999] && server.sealed.len() == sealed.len() / 5000 - 7, "the rest stays");
        pass(&mut cut.to_vec(), &mut server, 1, &mut heard).unwrap();
        assert!(heard == said && server.sealed.capacity() == 0);
    }

    #[test]
    fn one_flipped_bit_ends_it_with_an_alert() {
        let (mut server, mut client) = pair();
        agree(&mut server, &mut client, 1 << 20).unwrap();
        let mut wire = Vec::new();
        client.seal(b"SELECT 1", &mut wire).unwrap();
        *wire.last_mut().unwrap() ^= 1;
        let (mut heard, mut alert) = (Vec::new(), Vec::new());
        let error = server.open(&wire, usize::MAX, &mut heard, &mut alert).unwrap_err();
        assert!(error.contains("decrypt") && heard.is_empty(), "{error}");
        assert_eq!(alert.first(), Some(&23), "an alert, sealed as all else");
        assert!(server.seal(b"x", &mut Vec::new()).is_err());
        assert!(server.open(&wire, usize::MAX, &mut heard, &mut alert).is_err() && heard.is_empty());
        assert_eq!(
            client.open(&alert, usize::MAX, &mut heard, &mut Vec::new()).unwrap_err(),
            "received fatal alert: BadRecordMac"
        );
    }

    #[test]
    fn nothing_is_said_before_both_have_agreed() {
        let (mut server, mut client) = pair();
        for tls in [&mut server, &mut client] {
            let mut wire = Vec::new();
            assert!(tls.seal(b"secret", &mut wire).is_err() && wire.is_empty());
            tls.close(&mut wire);
            assert!(wire.is_empty() && !tls.is_ready());
        }
    }

    #[test]
    fn garbage_is_an_error_with_at_most_an_alert() {
        for garbage in
            [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 300], &[22, 3, 1, 0xff, 0xff, 1], &[22, 3, 1, 0, 0]]
        {
            let (mut server, _) = pair();
            let (mut heard, mut wire) = (Vec::new(), Vec::new());
            let opened = server.open(&garbage.repeat(20), usize::MAX, &mut heard, &mut wire);
            assert!(opened.is_err(), "{garbage:?}");
            assert!(heard.is_empty() && (wire.is_empty() || wire[0] == 21), "{wire:?}");
        }
    }

    #[test]
    fn a_certificate_is_trusted_as_far_as_it_was_said() {
        let (issued, other) = (issue("db1"), issue("db1"));
        let server = ServerContext::new(issued.identity(), ClientCertificates::No, Oldest::Tls12).unwrap();
        let meet = |trust: Trust, host: &str| {
            let client = ClientContext::new(None, trust, Oldest::Tls12).unwrap();
            agree(&mut Tls::server(&server).unwrap(), &mut Tls::client(&client, host).unwrap(), 1 << 20)
        };
        assert_eq!(meet(Trust::Anybody, "elsewhere"), Ok(()));
        assert_eq!(meet(Trust::Authority(issued.roots()), "elsewhere"), Ok(()));
        assert_eq!(meet(Trust::Authority(issued.roots()), "10.0.0.1"), Ok(()));
        assert_eq!(meet(Trust::Name(issued.roots()), "db1"), Ok(()));
        assert!(meet(Trust::Name(issued.roots()), "elsewhere").unwrap_err().contains("not valid for name"));
        assert!(meet(Trust::Name(issued.roots()), "10.0.0.1").is_err());
        assert!(
            meet(Trust::Authority(other.roots()), "db1").unwrap_err().contains("invalid peer certificate")
        );
        assert!(meet(Trust::Name(other.roots()), "db1").is_err());
    }

    #[test]
    fn a_client_shows_a_certificate_where_it_must() {
        let (issued, clients, other) = (issue("db1"), issue("app"), issue("app"));
        let meet = |rule: fn(RootCertStore) -> ClientCertificates, shown: Option<&Issued>| {
            let server = ServerContext::new(issued.identity(), rule(clients.roots()), Oldest::Tls12).unwrap();
            let shown = shown.map(Issued::identity);
            let client = ClientContext::new(shown, Trust::Anybody, Oldest::Tls12).unwrap();
            let (mut server, mut client) =
                (Tls::server(&server).unwrap(), Tls::client(&client, "db1").unwrap());
            agree(&mut server, &mut client, 1 << 20).map(|()| server.certificate().is_some())
        };
        assert_eq!(meet(ClientCertificates::Optional, None), Ok(false));
        assert_eq!(meet(ClientCertificates::Optional, Some(&clients)), Ok(true));
        assert!(meet(ClientCertificates::Optional, Some(&other)).is_err());
        assert_eq!(meet(ClientCertificates::Required, Some(&clients)), Ok(true));
        assert!(meet(ClientCertificates::Required, None).is_err());
    }

    #[test]
    fn what_is_wrong_with_files_is_said() {
        let (one, two) = (issue("db1"), issue("db1"));
        let read = |chain: &str, key: &str| {
            Identity::read(chain.as_bytes(), key.as_bytes()).map(|_| ()).unwrap_err()
        };
        assert!(matches!(read("", &one.key), ContextError::NoCertificate));
        assert!(matches!(read(&one.key, &one.key), ContextError::NoCertificate));
        let broken = one.certificate.replace("-----END", "");
        assert!(matches!(read(&broken, &one.key), ContextError::Certificate(_)));
        assert!(matches!(read(&one.certificate, &one.certificate), ContextError::Key(_)));
        let mixed = Identity::read(one.certificate.as_bytes(), two.key.as_bytes()).unwrap();
        let error = ServerContext::new(mixed, ClientCertificates::No, Oldest::Tls12).unwrap_err();
        assert!(matches!(error, ContextError::Pair(_)), "{error}");
        assert!(authorities(one.key.as_bytes()).is_err());
    }
}
