//! One probe: asks a CN whether it is well, by connect, greeting and a login that is refused. Judges nothing.
//!
//! A probe of a `mysql` flavour CN does not hang up after the greeting, because MySQL and MariaDB count that
//! as a broken handshake, and after `max_connect_errors` of them (100 by default) they block the host: a
//! proxy with no traffic would lock itself out within minutes. Measured on MariaDB 10.11: hanging up at once,
//! by RST, after SSLRequest, after COM_QUIT or during an auth switch all count; a login that was answered,
//! be it with ERR 1045, does not. So the probe logs in as [`USER`] with an empty password and does not mind
//! the answer. Where that user exists, the CN's log stays clean as well.
//!
//! The way to the greeting, and TLS behind it, are the road's. A CN that takes no header and is sent one, that offers no TLS where it must,
//! or whose certificate is not believed, is of no use.
//!
//! A CN of MatrixOne's is sent a preamble, as before a login, and shows with its greeting whether it takes one; it is then left.
//!
//! When to probe is for `watch` to say.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::road::{self, Road, Talk};
use crate::ident::SessionId;
use crate::route::Flavour;
use crate::session::face::{self, Face};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::greeting::{Greeting, Hello, SALT};
use crate::wire::login::HandshakeResponse;
use crate::wire::matrixone::preamble::Preamble;
use crate::wire::reply::{self, ErrPacket};

/// The user that a probe logs in as. It needs no rights and need not exist.
pub const USER: &str = "corelane_probe";

/// Bytes of the largest packet that a probe reads; a greeting takes about a hundred.
const PACKET_MAX: usize = 4096;

/// Packets of a CN during the probe's login; one or two is usual.
const LOGIN_PACKETS_MAX: usize = 8;

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
    /// Behind the greeting.
    #[error("{0}")]
    Road(road::Error),
    #[error("no random numbers: {0}")]
    NoRandom(getrandom::Error),
    #[error("what it says is no MySQL greeting: {0}")]
    Wire(#[from] wire::Error),
}

/// As it is before the greeting.
impl From<road::Error> for Error {
    fn from(error: road::Error) -> Self {
        match error {
            road::Error::Connect(error) => Self::Connect(error),
            road::Error::Broken(error) => Self::Lost(error),
            road::Error::Closed => Self::Closed,
            road::Error::Wire(error) => Self::Wire(error),
            error => Self::Road(error),
        }
    }
}

/// Goes the road to the CN, reads the greeting and takes leave, all within `limit`. Gives the CN's face, and how long it took to show
/// it or to fail.
pub async fn probe(road: &Road, flavour: Flavour, limit: Duration) -> (Result<Face, Error>, Duration) {
    let begun = Instant::now();
    let (talk, payload) = match timeout(limit, greeted(road, flavour)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return (Err(error), begun.elapsed()),
        Err(_) => return (Err(Error::TimedOut(limit)), begun.elapsed()),
    };
    let took = begun.elapsed();
    let greeting = match Hello::read(&payload) {
        Ok(Hello::Greeting(greeting)) => greeting,
        Ok(Hello::Unwilling(err)) => return (Err(unwilling(&err)), took),
        Err(error) => return (Err(error.into()), took),
    };
    if flavour == Flavour::Mysql
        && let Err(error) = leave_in_order(talk, road, &greeting, begun + limit).await
    {
        return (Err(error), begun.elapsed());
    }
    (Ok(Face::of(&greeting)), took)
}

/// Connects and waits for the first packet.
async fn greeted(road: &Road, flavour: Flavour) -> Result<(Talk, Vec<u8>), Error> {
    let (preamble, mut opening) = (preamble(flavour)?, Vec::new());
    if let Some(preamble) = &preamble {
        preamble.write(&mut opening)?;
    }
    let mut talk = road.open(&opening, PACKET_MAX).await?;
    let payload = talk.packet().await?;
    if let (Some(preamble), Ok(Hello::Greeting(greeting))) = (preamble, Hello::read(&payload))
        && preamble.salt != greeting.salt
    {
        return Err(Error::NoPreamble);
    }
    Ok((talk, payload))
}

/// Begins TLS where the CN is to have it, and takes leave. A CN that does not let us do the latter has greeted nonetheless; a login will
/// tell.
async fn leave_in_order(
    mut talk: Talk,
    road: &Road,
    greeting: &Greeting<'_>,
    by: Instant,
) -> Result<(), Error> {
    let terms = road.terms(greeting.capabilities);
    let login = login(greeting, matches!(terms, Ok(Some(_))))?;
    if let Ok(Some(terms)) = terms {
        let secured = timeout_at(by, talk.secure(road, terms, &login)).await;
        talk =
            secured.unwrap_or(Err(road::Error::Tls("it takes too long".to_owned()))).map_err(Error::Road)?;
    }
    // Nothing of it is a secret, so it may be said where there should be TLS.
    let left = timeout_at(by, take_leave(talk, &login)).await;
    match (left, terms) {
        (Ok(Err(error @ road::Error::NoHeader(_))), _) | (_, Err(error)) => Err(Error::Road(error)),
        (_, Ok(_)) => Ok(()),
    }
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

/// The login of [`USER`] with an empty password.
fn login(greeting: &Greeting<'_>, has_tls: bool) -> Result<Vec<u8>, wire::Error> {
    let login = HandshakeResponse {
        capabilities: if has_tls { LOGIN | Capabilities::SSL } else { LOGIN },
        max_packet: 1 << 24,
        charset: UTF8MB4_GENERAL_CI,
        user: USER.as_bytes(),
        auth: b"",
        database: None,
        plugin: Some(greeting.plugin),
        attributes: None,
        zstd_level: None,
    };
    let mut payload = Vec::new();
    login.write(&mut payload)?;
    Ok(payload)
}

/// Ends a greeted connection so that the CN does not count it as broken: logs in with an empty password,
/// whatever plugin it asks for, and quits if that was even let in.
async fn take_leave(mut talk: Talk, login: &[u8]) -> Result<(), road::Error> {
    talk.say(login).await?;
    for _ in 0..LOGIN_PACKETS_MAX {
        match talk.packet().await?.first() {
            Some(&reply::ERR) => return Ok(()),
            Some(&reply::OK) => return talk.send(QUIT).await,
            // AuthSwitchRequest: an empty password is an empty packet, whatever the plugin.
            Some(&reply::EOF) => talk.say(b"").await?,
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::route::Target;
    use crate::wire::frame::write_packet;

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
        let (outcome, took) = probe(&Road::plain(target), flavour, Duration::from_millis(500)).await;
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
            let (outcome, _) =
                probe(&Road::plain(target), Flavour::Matrixone, Duration::from_millis(500)).await;
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
            let (outcome, _) = {
                let mut road = Road::plain(target);
                road.header = true;
                probe(&road, Flavour::Mysql, Duration::from_millis(500)).await
            };
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
        let (outcome, _) = probe(&Road::plain(nowhere), Flavour::Mysql, Duration::from_secs(1)).await;
        assert!(matches!(outcome, Err(Error::Connect(_))));
    }
}
