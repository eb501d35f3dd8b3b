//! The road to a CN for connections of corelane's own: where the CN is, and what lies below the login there.
//!
//! A CN that takes headers of the PROXY protocol is sent one that says that the connection is for nobody but corelane (LOCAL), and
//! TLS is begun where the CN's mode asks for it, as for a session's leg. What is said on the road is for [`super::probe`] and
//! [`super::line`] to know.
//!
//! Invariant: from the moment that TLS is wanted and offered, nothing that came before it counts, and nothing but the front of the
//! login packet, which names nobody, was said.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::tls::{CnTerms, CnTls};
use crate::route::{Cn, Flavour, Target, TlsMode};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::frame::{PacketReader, write_packet};
use crate::wire::login::SSL_REQUEST;
use crate::wire::proxy_header;
use crate::wire::reply::ErrPacket;

/// The number of an ERR about a header, where a login would be answered by a later one.
const ABOUT_HEADER: u8 = 1;

/// Why a CN cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("what it says cannot be read: {0}")]
    Wire(#[from] wire::Error),
    /// As [`CnLoginError::NoHeader`](crate::session::login::CnLoginError::NoHeader) says it.
    #[error("it takes no PROXY protocol header from corelane, which [[cn]] proxy_protocol has it sent: {0}")]
    NoHeader(String),
    /// As [`CnLoginError::NoTls`](crate::session::login::CnLoginError::NoTls) says it.
    #[error("it offers no TLS, which [[cn]] tls or [cn_tls] asks for")]
    NoTls,
    #[error("TLS: {0}")]
    Tls(String),
    #[error("it went on in clear text where TLS was to begin")]
    NotSilent,
}

/// How one CN is reached.
#[derive(Clone, PartialEq)]
pub struct Road {
    pub target: Target,
    /// A connection begins with a header.
    pub header: bool,
    /// None: never TLS.
    tls: Option<Tls>,
}

/// TLS as a CN is met with it.
#[derive(Clone, PartialEq)]
struct Tls {
    rules: Arc<CnTls>,
    mode: Option<TlsMode>,
    /// For whom its certificate should be.
    host: String,
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Road {
    /// The road to a CN whose address is known.
    pub fn to(cn: &Cn, rules: &Arc<CnTls>) -> Option<Self> {
        let target = cn.target.clone()?;
        let secured = cn.flavour == Flavour::Mysql && matches!(target, Target::Tcp(_));
        let tls = || Tls { rules: rules.clone(), mode: cn.tls, host: cn.host().to_owned() };
        Some(Self { target, header: cn.proxy_protocol, tls: secured.then(tls) })
    }

    /// One on which nothing lies below the login.
    pub fn plain(target: Target) -> Self {
        Self { target, header: false, tls: None }
    }

    /// Connects, and says first what is to be said first: a header where the CN takes one, and `opening`. No packet of the CN's may be
    /// longer than `packet_max`, in bytes.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Broken`].
    pub async fn open(&self, opening: &[u8], packet_max: usize) -> Result<Talk, Error> {
        let stream: Box<dyn Stream> = match &self.target {
            Target::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(Error::Connect)?),
            Target::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(Error::Connect)?),
        };
        let (reader, header) = (PacketReader::new(packet_max), self.header);
        let mut talk = Talk { stream, reader, packet_max, sequence: 0, header, greeted: false };
        let mut bytes = Vec::new();
        if self.header {
            proxy_header::write(&mut bytes, None);
        }
        bytes.extend_from_slice(opening);
        talk.send(&bytes).await?;
        Ok(talk)
    }

    /// TLS that a CN with this greeting is to be met with, or none.
    ///
    /// # Errors
    /// [`Error::NoTls`].
    pub fn terms(&self, offered: Capabilities) -> Result<Option<CnTerms<'_>>, Error> {
        let Some(terms) = self.wished() else { return Ok(None) };
        match offered.has(Capabilities::SSL) {
            true => Ok(Some(terms)),
            false if terms.is_optional => Ok(None),
            false => Err(Error::NoTls),
        }
    }

    /// TLS that is wanted of the CN, if it offers it.
    pub fn wished(&self) -> Option<CnTerms<'_>> {
        self.tls.as_ref().and_then(|tls| tls.rules.of(tls.mode))
    }

    /// Whether nobody can read along even without TLS.
    pub fn is_local(&self) -> bool {
        matches!(self.target, Target::Unix(_))
    }

    fn host(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.host)
    }
}

impl fmt::Debug for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Road").field("target", &self.target).finish_non_exhaustive()
    }
}

/// An open connection to a CN, as whole packets. What it holds of the CN's is bounded by the longest packet.
pub struct Talk {
    stream: Box<dyn Stream>,
    reader: PacketReader,
    packet_max: usize,
    /// The number of the next packet that is sent.
    sequence: u8,
    /// It began with a header, and since its greeting the CN has said nothing.
    header: bool,
    /// The CN has said something, be it no greeting.
    greeted: bool,
}

impl Talk {
    /// The next packet of the CN's. What it has against a header is told in the place of an answer, perhaps before anything was asked.
    ///
    /// # Errors
    /// Any but [`Error::Connect`] and those about the beginning of TLS.
    pub async fn packet(&mut self) -> Result<Vec<u8>, Error> {
        self.reader.expect_any();
        loop {
            if let Some(packet) = self.reader.take()? {
                self.sequence = self.reader.next_sequence();
                let answers = std::mem::replace(&mut self.greeted, true);
                if self.header && answers && self.sequence == ABOUT_HEADER + 1 {
                    return Err(about_header(&packet));
                }
                self.header &= !answers;
                return Ok(packet);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).await.map_err(Error::Broken)? {
                0 => return Err(Error::Closed),
                n => self.reader.push(&bytes[..n]),
            }
        }
    }

    /// Sends the next packet of the login.
    ///
    /// # Errors
    /// [`Error::Broken`], but where the CN may have closed over a header: then what it says of that is still to be read.
    pub async fn say(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        write_packet(&mut bytes, &mut self.sequence, payload);
        match self.send(&bytes).await {
            Err(_) if self.header => Ok(()),
            sent => sent,
        }
    }

    /// Sends whole frames.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            // TLS holds back what it may.
            self.stream.flush().await
        };
        sent.await.map_err(Error::Broken)
    }

    /// Begins TLS, which the front of the login packet asks for, by terms of this road's.
    ///
    /// # Errors
    /// [`Error::Tls`], [`Error::NotSilent`], [`Error::NoHeader`] and [`Error::Broken`].
    pub async fn secure(mut self, road: &Road, terms: CnTerms<'_>, login: &[u8]) -> Result<Self, Error> {
        if !self.reader.is_empty() {
            // All that a CN may say here is that it takes no header.
            return Err(self.packet().await.err().unwrap_or(Error::NotSilent));
        }
        let name = ServerName::try_from(road.host().to_owned());
        let name =
            name.map_err(|_| Error::Tls("its host is no name that a certificate could have".to_owned()))?;
        self.say(&login[..SSL_REQUEST]).await?;
        let secured = TlsConnector::from(terms.context.config()).connect(name, self.stream).await;
        let stream = secured.map_err(|error| {
            let doubt =
                if road.header { " (does it take a PROXY protocol header from corelane?)" } else { "" };
            Error::Tls(format!("{error}{doubt}"))
        })?;
        let reader = PacketReader::new(self.packet_max);
        Ok(Self { stream: Box::new(stream), reader, ..self })
    }
}

/// The CN has answered the header, and not the login.
fn about_header(answer: &[u8]) -> Error {
    match ErrPacket::read(answer) {
        Ok(err) => Error::NoHeader(format!("{} ({})", String::from_utf8_lossy(err.message), err.code)),
        Err(cause) => Error::NoHeader(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::read;
    use crate::ident::SessionId;
    use crate::route::view::tests::cn;
    use crate::session::face::Face;
    use crate::wire::greeting::{Hello, SALT};

    /// A road with TLS of this mode.
    fn road(target: Target, mode: TlsMode) -> Road {
        let mut cn = cn(0, "cn1", &[]);
        let changed = Arc::get_mut(&mut cn).expect("nobody else has it");
        (changed.target, changed.tls, changed.address) = (Some(target), Some(mode), "127.0.0.1:1".into());
        let rules = read("", "test").unwrap_or_else(|mistakes| panic!("{mistakes}")).cn_tls;
        Road::to(&cn, &rules).expect("its address is known")
    }

    #[test]
    fn tls_is_begun_where_the_mode_says_so() {
        let (offered, not) = (Capabilities::SSL, Capabilities::default());
        let tcp = || Target::Tcp(([127, 0, 0, 1], 1).into());
        for (mode, there, elsewhere) in [
            (TlsMode::Off, false, Some(false)),
            (TlsMode::Preferred, true, Some(false)),
            (TlsMode::Required, true, None),
            (TlsMode::VerifyCa, true, None),
            (TlsMode::VerifyName, true, None),
        ] {
            let road = road(tcp(), mode);
            assert_eq!(road.terms(offered).expect("it is offered").is_some(), there, "{mode:?}");
            assert_eq!(road.terms(not).ok().map(|terms| terms.is_some()), elsewhere, "{mode:?}");
        }
        let local = road(Target::Unix("/run/cn.sock".into()), TlsMode::Required);
        assert!(local.wished().is_none() && local.is_local());
    }

    /// Whoever is between the two could have written it.
    #[tokio::test]
    async fn what_comes_ahead_of_tls_is_never_taken_for_what_comes_through_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let road = road(Target::Tcp(listener.local_addr().unwrap()), TlsMode::Required);
        let cn = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let greeting = Face::default().with_tls().greeting(&[b'a'; SALT], SessionId(7));
            let mut bytes = Vec::new();
            write_packet(&mut bytes, &mut 0, &greeting);
            bytes.extend_from_slice(b"\x07\0\0\x03\0\0\0\x02\0\0\0");
            stream.write_all(&bytes).await.unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            said
        });
        let mut talk = road.open(b"", 4096).await.unwrap();
        let greeting = talk.packet().await.unwrap();
        let Ok(Hello::Greeting(greeting)) = Hello::read(&greeting) else { panic!("a greeting") };
        let terms = road.terms(greeting.capabilities).unwrap().expect("TLS");
        let failure = talk.secure(&road, terms, &[0; SSL_REQUEST]).await.err().expect("no TLS");
        assert!(matches!(failure, Error::NotSilent), "{failure}");
        assert_eq!(cn.await.unwrap(), b"", "not even a wish for TLS was said");
    }
}
