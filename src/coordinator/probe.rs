//! Asks each CN whether it is well: connect, greeting, a login that is refused. Reports outcomes, judges
//! nothing.
//!
//! A probe of a `mysql` flavour CN does not hang up after the greeting, because MySQL and MariaDB count that
//! as a broken handshake, and after `max_connect_errors` of them (100 by default) they block the host: a
//! proxy with no traffic would lock itself out within minutes. Measured on MariaDB 10.11: hanging up at once,
//! by RST, after SSLRequest, after COM_QUIT or during an auth switch all count; a login that was answered,
//! be it with ERR 1045, does not. So the probe logs in as [`USER`] with an empty password and does not mind
//! the answer. Where that user exists, the CN's log stays clean as well.
//!
//! One [`Watch`] is one CN at one address; it has at most one probe in flight, by its own loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::settings::Probe;
use crate::ident::{CnSlot, Epoch};
use crate::mailbox::message::CnFailure;
use crate::route::{Cn, Flavour, Target};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::frame::{PacketReader, write_packet};
use crate::wire::greeting::{Greeting, Hello};
use crate::wire::login::HandshakeResponse;
use crate::wire::reply;

/// The user that a probe logs in as. It needs no rights and need not exist.
pub const USER: &str = "corelane_probe";

/// Bytes of the largest packet that a probe reads; a greeting takes about a hundred.
const PACKET_MAX: usize = 4096;

/// Between two probes of a CN that were asked for, however many sessions it fails at once.
const POKED_APART: Duration = Duration::from_millis(100);

/// Packets of a CN during the probe's login; one or two is usual.
const LOGIN_PACKETS_MAX: usize = 8;

/// What a probe found out.
#[derive(Debug)]
pub struct Outcome {
    pub slot: CnSlot,
    /// The epoch of the view by which the CN was dialled.
    pub epoch: Epoch,
    /// The payload of the greeting, which is known to be one.
    pub greeting: Result<Vec<u8>, Error>,
    /// Until the greeting was there, or the failure.
    pub took: Duration,
}

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
    #[error("what it says is no MySQL greeting: {0}")]
    Wire(#[from] wire::Error),
}

impl Error {
    pub fn failure(&self) -> CnFailure {
        match self {
            Self::Connect(_) => CnFailure::Refused,
            Self::TimedOut(_) => CnFailure::TimedOut,
            Self::Closed | Self::Lost(_) => CnFailure::Lost,
            Self::Unwilling { .. } | Self::Wire(_) => CnFailure::Unwilling,
        }
    }
}

/// The probes of one CN at one address, until dropped.
#[derive(Debug)]
pub struct Watch {
    cn: Arc<Cn>,
    poke: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Probes `cn` at once, then after `offset`, then every interval. Different offsets keep the probes of
    /// many CNs apart.
    pub fn new(cn: Arc<Cn>, epoch: Epoch, rules: Probe, offset: Duration, to: mpsc::Sender<Outcome>) -> Self {
        let poke = Arc::new(Notify::new());
        let task = tokio::spawn(keep_probing(cn.clone(), epoch, rules, offset, poke.clone(), to));
        Self { cn, poke, task }
    }

    /// Whether it probes what is known of the CN now.
    pub fn still_fits(&self, cn: &Cn) -> bool {
        self.cn.target == cn.target && self.cn.flavour == cn.flavour && self.cn.id == cn.id
    }

    /// Asks for a probe now instead of at the next interval.
    pub fn poke(&self) {
        self.poke.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_probing(
    cn: Arc<Cn>,
    epoch: Epoch,
    rules: Probe,
    offset: Duration,
    poke: Arc<Notify>,
    to: mpsc::Sender<Outcome>,
) {
    let Some(target) = cn.target.clone() else { return };
    let mut next = Instant::now() + offset;
    loop {
        let begun = Instant::now();
        let outcome = probe(&target, cn.flavour, rules.timeout).await;
        let outcome = Outcome { slot: cn.slot, epoch, greeting: outcome.0, took: outcome.1 };
        if to.send(outcome).await.is_err() {
            return;
        }
        sleep_until(begun + POKED_APART).await;
        while next <= Instant::now() {
            next += rules.interval.max(POKED_APART);
        }
        tokio::select! {
            () = sleep_until(next) => (),
            () = poke.notified() => (),
        }
    }
}

/// Connects, reads the greeting and takes leave; all within `limit`, of which taking leave is not held
/// against the CN.
async fn probe(target: &Target, flavour: Flavour, limit: Duration) -> (Result<Vec<u8>, Error>, Duration) {
    let begun = Instant::now();
    let greeted = timeout(limit, async {
        let mut stream = connect(target).await?;
        let greeting = read_greeting(&mut stream).await?;
        Ok((stream, greeting))
    });
    let greeted = greeted.await.unwrap_or(Err(Error::TimedOut(limit)));
    let took = begun.elapsed();
    let greeting = match greeted {
        Ok((stream, greeting)) => {
            if flavour == Flavour::Mysql {
                // A CN that does not let us take leave has greeted nonetheless; a login will tell.
                let _ = timeout(limit.saturating_sub(took), take_leave(stream, &greeting)).await;
            }
            Ok(greeting)
        }
        Err(error) => Err(error),
    };
    (greeting, took)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(target: &Target) -> Result<Box<dyn Stream>, Error> {
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

async fn read_greeting(stream: &mut impl Stream) -> Result<Vec<u8>, Error> {
    let mut reader = PacketReader::new(PACKET_MAX);
    reader.expect_any();
    let payload = read_packet(stream, &mut reader).await?;
    match Hello::read(&payload)? {
        Hello::Greeting(_) => Ok(payload),
        Hello::Unwilling(err) => {
            let message = String::from_utf8_lossy(err.message).into_owned();
            Err(Error::Unwilling { code: err.code, message })
        }
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
/// whatever plugin it asks for, and quits if that was even let in.
async fn take_leave(mut stream: impl Stream, greeting: &[u8]) -> Result<(), Error> {
    let plugin = Greeting::read(greeting)?.plugin;
    let login = HandshakeResponse {
        capabilities: LOGIN,
        max_packet: 1 << 24,
        charset: UTF8MB4_GENERAL_CI,
        user: USER.as_bytes(),
        auth: b"",
        database: None,
        plugin: Some(plugin),
        attributes: None,
        zstd_level: None,
    };
    let (mut payload, mut out, mut sequence) = (Vec::new(), Vec::new(), 1);
    login.write(&mut payload)?;
    write_packet(&mut out, &mut sequence, &payload);
    let mut reader = PacketReader::new(PACKET_MAX);
    for _ in 0..LOGIN_PACKETS_MAX {
        stream.write_all(&out).await.map_err(Error::Lost)?;
        out.clear();
        reader.expect_any();
        let answer = read_packet(&mut stream, &mut reader).await?;
        sequence = reader.next_sequence();
        match answer.first() {
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
