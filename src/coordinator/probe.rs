//! One probe: asks a CN whether it is well, by connect, greeting and a login that is refused. Judges nothing.
//!
//! A probe of a `mysql` flavour CN does not hang up after the greeting, because MySQL and MariaDB count that
//! as a broken handshake, and after `max_connect_errors` of them (100 by default) they block the host: a
//! proxy with no traffic would lock itself out within minutes. Measured on MariaDB 10.11: hanging up at once,
//! by RST, after SSLRequest, after COM_QUIT or during an auth switch all count; a login that was answered,
//! be it with ERR 1045, does not. So the probe logs in as [`USER`] with an empty password and does not mind
//! the answer. Where that user exists, the CN's log stays clean as well.
//!
//! A CN that takes headers of the PROXY protocol is sent one that says that the connection is for nobody but corelane (LOCAL). One
//! that does not take it answers that in place of the login, and is of no use.
//!
//! A CN of MatrixOne's is sent a preamble, as before a login, and shows with its greeting whether it takes one; it is then left.
//!
//! When to probe is for `watch` to say.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use crate::ident::SessionId;
use crate::route::{Flavour, Target};
use crate::session::face::{self, Face};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::frame::{PacketReader, write_packet};
use crate::wire::greeting::{Greeting, Hello, SALT};
use crate::wire::login::HandshakeResponse;
use crate::wire::matrixone::preamble::Preamble;
use crate::wire::proxy_header;
use crate::wire::reply::{self, ErrPacket};

/// The user that a probe logs in as. It needs no rights and need not exist.
pub const USER: &str = "corelane_probe";

/// Bytes of the largest packet that a probe reads; a greeting takes about a hundred.
const PACKET_MAX: usize = 4096;

/// Packets of a CN during the probe's login; one or two is usual.
const LOGIN_PACKETS_MAX: usize = 8;

/// The number of an ERR about a header, where a login would be answered by a later one.
const ABOUT_HEADER: u8 = 1;

/// How a CN failed its probe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no greeting within {0:?}")]
    TimedOut(Duration),
    #[error("it closed the connection instead of greeting")]
    Closed,
    #[error("the connection failed before the greeting: {0}")]
    Lost(io::Error),
    #[error("it greeted with error {code}: {message}")]
    Unwilling { code: u16, message: String },
    /// As [`CnLoginError::NoPreamble`](crate::session::login::CnLoginError::NoPreamble) says it.
    #[error("it has not taken the preamble of a proxy (is proxy-enabled set in its [cn.frontend]?)")]
    NoPreamble,
    /// As [`CnLoginError::NoHeader`](crate::session::login::CnLoginError::NoHeader) says it.
    #[error("it takes no PROXY protocol header from corelane, which [[cn]] proxy_protocol has it sent: {0}")]
    NoHeader(String),
    #[error("no random numbers: {0}")]
    NoRandom(getrandom::Error),
    #[error("what it says is no MySQL greeting: {0}")]
    Wire(#[from] wire::Error),
}

/// Connects, with a `header` where the CN takes one, reads the greeting and takes leave, all within `limit`. Gives the CN's face, and how long it took
/// to show it or to fail.
pub async fn probe(
    target: &Target,
    flavour: Flavour,
    header: bool,
    limit: Duration,
) -> (Result<Face, Error>, Duration) {
    let begun = Instant::now();
    let preamble = match preamble(flavour) {
        Ok(preamble) => preamble,
        Err(error) => return (Err(error), begun.elapsed()),
    };
    let mut opening = Vec::new();
    if header {
        proxy_header::write(&mut opening, None);
    }
    let greeted = timeout(limit, async {
        let mut stream = connect(target).await?;
        if let Some(preamble) = &preamble {
            preamble.write(&mut opening)?;
        }
        stream.write_all(&opening).await.map_err(Error::Lost)?;
        // It keeps what comes behind the greeting: an ERR about the header may.
        let mut reader = PacketReader::new(PACKET_MAX);
        reader.expect_any();
        let payload = read_packet(&mut stream, &mut reader).await?;
        Ok((stream, reader, payload))
    });
    let greeted = greeted.await.unwrap_or(Err(Error::TimedOut(limit)));
    let took = begun.elapsed();
    let (stream, reader, payload) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => return (Err(error), took),
    };
    let greeting = match Hello::read(&payload) {
        Ok(Hello::Greeting(greeting)) => greeting,
        Ok(Hello::Unwilling(err)) => return (Err(unwilling(&err)), took),
        Err(error) => return (Err(error.into()), took),
    };
    if preamble.is_some_and(|preamble| preamble.salt != greeting.salt) {
        return (Err(Error::NoPreamble), took);
    }
    if flavour == Flavour::Mysql {
        // A CN that does not let us take leave has greeted nonetheless; a login will tell.
        let left = timeout(limit.saturating_sub(took), take_leave(stream, reader, &greeting, header)).await;
        if let Ok(Err(error @ Error::NoHeader(_))) = left {
            return (Err(error), took);
        }
    }
    (Ok(Face::of(&greeting)), took)
}

/// What a CN of MatrixOne's is told before it greets. Without it such a CN would wait for it first, and one that takes none is of no
/// use.
fn preamble(flavour: Flavour) -> Result<Option<Preamble>, Error> {
    if flavour != Flavour::Matrixone {
        return Ok(None);
    }
    let mut random = [0; SALT];
    getrandom::fill(&mut random).map_err(Error::NoRandom)?;
    let (salt, labels, client) = (face::salt(random), BTreeMap::new(), String::new());
    Ok(Some(Preamble { salt, internal: true, connection_id: SessionId::NOBODY.0, labels, client }))
}

fn unwilling(err: &ErrPacket<'_>) -> Error {
    let message = String::from_utf8_lossy(err.message).into_owned();
    Error::Unwilling { code: err.code, message }
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn connect(target: &Target) -> Result<Box<dyn Stream>, Error> {
    match target {
        Target::Tcp(address) => match TcpStream::connect(address).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Error::Connect(error)),
        },
        Target::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Error::Connect(error)),
        },
    }
}

async fn read_packet(stream: &mut impl Stream, reader: &mut PacketReader) -> Result<Vec<u8>, Error> {
    loop {
        if let Some(packet) = reader.take()? {
            return Ok(packet);
        }
        let mut bytes = [0; 512];
        match stream.read(&mut bytes).await.map_err(Error::Lost)? {
            0 => return Err(Error::Closed),
            n => reader.push(&bytes[..n]),
        }
    }
}

/// Ends a greeted connection so that the CN does not count it as broken: logs in with an empty password,
/// whatever plugin it asks for, and quits if that was even let in. What is wrong with a header is told in place of the first answer,
/// perhaps before the login was sent.
async fn take_leave(
    mut stream: impl Stream,
    mut reader: PacketReader,
    greeting: &Greeting<'_>,
    header: bool,
) -> Result<(), Error> {
    let login = HandshakeResponse {
        capabilities: LOGIN,
        max_packet: 1 << 24,
        charset: UTF8MB4_GENERAL_CI,
        user: USER.as_bytes(),
        auth: b"",
        database: None,
        plugin: Some(greeting.plugin),
        attributes: None,
        zstd_level: None,
    };
    let (mut payload, mut out, mut sequence) = (Vec::new(), Vec::new(), 1);
    login.write(&mut payload)?;
    write_packet(&mut out, &mut sequence, &payload);
    for _ in 0..LOGIN_PACKETS_MAX {
        let written = stream.write_all(&out).await.map_err(Error::Lost);
        if !header {
            written?;
        }
        out.clear();
        reader.expect_any();
        let answer = read_packet(&mut stream, &mut reader).await?;
        sequence = reader.next_sequence();
        match answer.first() {
            Some(&reply::ERR) if header && sequence == ABOUT_HEADER + 1 => {
                let Error::Unwilling { code, message } = unwilling(&ErrPacket::read(&answer)?) else {
                    return Ok(());
                };
                return Err(Error::NoHeader(format!("{message} ({code})")));
            }
            Some(&reply::ERR) => return Ok(()),
            Some(&reply::OK) => {
                out.extend_from_slice(QUIT);
                return stream.write_all(&out).await.map_err(Error::Lost);
            }
            // AuthSwitchRequest: an empty password is an empty packet, whatever the plugin.
            Some(&reply::EOF) => write_packet(&mut out, &mut sequence, b""),
            _ => (),
        }
    }
    Ok(())
}

const LOGIN: Capabilities = Capabilities(
    Capabilities::LONG_PASSWORD.0
        | Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0,
);

const UTF8MB4_GENERAL_CI: u8 = 45;

/// COM_QUIT as a frame.
const QUIT: &[u8] = b"\x01\0\0\0\x01";

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const GREETING: &[u8] = b"\x64\0\0\0\n5.5.5-10.11.19-MariaDB-0+deb12u1\0\x1b\0\0\0BA\\.lXSu\0\xfe\xf7\
        \x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0uk:|&Eia)Gi]\0mysql_native_password\0";
    const SWITCH: &[u8] = b"\x16\0\0\x02\xfecaching_sha2_password";
    const OK: &[u8] = b"\x07\0\0\x04\0\0\0\x02\0\0\0";

    /// Probes a CN that sends each of `says` and reads an answer after each but the last; gives the outcome
    /// and the answers.
    async fn probed(says: Vec<Vec<u8>>, flavour: Flavour) -> (Result<Face, Error>, Vec<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let cn = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answers = Vec::new();
            for said in says {
                stream.write_all(&said).await.unwrap();
                let mut answer = vec![0; 512];
                let read = stream.read(&mut answer).await.unwrap();
                answer.truncate(read);
                answers.push(answer);
            }
            answers
        });
        let (outcome, took) = probe(&target, flavour, false, Duration::from_millis(500)).await;
        assert!(took < Duration::from_secs(5));
        (outcome, cn.await.unwrap())
    }

    #[tokio::test]
    async fn a_login_is_carried_to_its_end() {
        let switch = b"\x1d\0\0\x02\xfemysql_clear_password\0abcdefg".to_vec();
        assert_eq!(switch.len(), 4 + 0x1d);
        let (outcome, answers) = probed(vec![GREETING.to_vec(), switch, OK.to_vec()], Flavour::Mysql).await;
        assert_eq!(outcome.unwrap().version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
        let login = HandshakeResponse::read(&answers[0][4..]).unwrap();
        assert_eq!((login.user, login.auth), (USER.as_bytes(), &b""[..]));
        assert_eq!(answers[0][3], 1);
        assert_eq!(answers[1], b"\0\0\0\x03", "an empty password, whatever the plugin");
        assert_eq!(answers[2], QUIT);
    }

    #[tokio::test]
    async fn a_cn_of_matrixones_has_to_take_the_preamble() {
        for takes in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::Tcp(listener.local_addr().unwrap());
            let cn = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = stream.read_u16_le().await.unwrap();
                let mut fields = vec![0; length.into()];
                stream.read_exact(&mut fields).await.unwrap();
                let preamble = Preamble::read(&fields).unwrap();
                let salt = if takes { preamble.salt } else { [b'a'; SALT] };
                let greeting = Face::default().greeting(&salt, SessionId(preamble.connection_id));
                let mut bytes = Vec::new();
                write_packet(&mut bytes, &mut 0, &greeting);
                stream.write_all(&bytes).await.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                (preamble, rest)
            });
            let (outcome, _) = probe(&target, Flavour::Matrixone, false, Duration::from_millis(500)).await;
            assert_eq!(matches!(outcome, Err(Error::NoPreamble)), !takes, "{outcome:?}");
            let (preamble, rest) = cn.await.unwrap();
            assert_eq!((preamble.connection_id, preamble.internal), (u32::MAX, true));
            assert_eq!(rest, b"", "it is left without a login");
        }
    }

    #[tokio::test]
    async fn a_cn_that_takes_no_header_is_of_no_use() {
        let told = b"\x25\0\0\x01\xff\x6a\x04#HY000Proxy header is not accepted";
        let denied = b"\x19\0\0\x02\xff\x15\x04#28000Access denied...";
        for (answer, takes) in [(&told[..], false), (&denied[..], true)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Target::Tcp(listener.local_addr().unwrap());
            let cn = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut header = [0; 16];
                stream.read_exact(&mut header).await.unwrap();
                stream.write_all(GREETING).await.unwrap();
                stream.write_all(answer).await.unwrap();
                header
            });
            let (outcome, _) = probe(&target, Flavour::Mysql, true, Duration::from_millis(500)).await;
            assert_eq!(&cn.await.unwrap(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "for nobody but corelane");
            match outcome {
                Ok(_) => assert!(takes),
                Err(error) => {
                    assert!(!takes);
                    assert!(error.to_string().ends_with(": Proxy header is not accepted (1130)"), "{error}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_follows_the_greeting_is_not_held_against_the_cn() {
        let (outcome, _) = probed(vec![GREETING.to_vec(), SWITCH.to_vec()], Flavour::Mysql).await;
        assert!(outcome.is_ok());
    }

    #[tokio::test]
    async fn each_failure_is_named() {
        let full = b"\x17\0\0\0\xff\x10\x04Too many connections".to_vec();
        let (outcome, _) = probed(vec![full], Flavour::Mysql).await;
        assert_eq!(outcome.unwrap_err().to_string(), "it greeted with error 1040: Too many connections");
        let (outcome, _) = probed(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], Flavour::Mysql).await;
        assert!(outcome.unwrap_err().to_string().starts_with("what it says is no MySQL greeting"));
        let (outcome, _) = probed(Vec::new(), Flavour::Mysql).await;
        assert!(matches!(outcome, Err(Error::Closed)));
        let (outcome, _) = probed(vec![GREETING[..40].to_vec()], Flavour::Mysql).await;
        assert!(matches!(outcome, Err(Error::TimedOut(_))));
        let nowhere = Target::Unix("/nowhere".into());
        let (outcome, _) = probe(&nowhere, Flavour::Mysql, false, Duration::from_secs(1)).await;
        assert!(matches!(outcome, Err(Error::Connect(_))));
    }
}
