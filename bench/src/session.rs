//! One MySQL session from the client's side, driven by readiness: TLS, login, commands, where each reply ends.
//!
//! Invariant: every frame's sequence id is checked, so a proxy that loses, repeats or mixes frames is an error here
//! and not a good figure. A session asks again only after all its replies came. It reads no clock.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::protocol::{self, take_frame};
use crate::sys;
use crate::tls::{self, Begin, Channel};

/// Source addresses on the loopback network: each has its own ports.
const SOURCES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("connect: {0}")]
    Connect(std::io::Error),
    #[error("socket: {0}")]
    Socket(#[from] std::io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the server offers no TLS")]
    NoTls,
    #[error("the other side closed the connection {0}")]
    Closed(&'static str),
    #[error("the server answered with error {code}: {text}")]
    Refused { code: u16, text: String },
    #[error("{0}")]
    Protocol(String),
}

/// What the bytes that just came completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Nothing,
    /// The login is done.
    Seated,
    /// So many replies are complete; the second number is how many are still owed.
    Replies(u32, u32),
    /// The connection ended after a COM_QUIT.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// TLS begins as soon as there is a connection.
    Connecting,
    Greeting,
    Auth,
    Ready,
    Quitting,
}

/// Where in a reply the next frame stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Head,
    Columns(u64),
    ColumnsEnd,
    Rows,
}

/// Who logs in, and how it speaks.
pub struct Account {
    pub user: String,
    pub password: String,
    pub tls: Option<tls::Client>,
}

impl Account {
    /// Whether TLS is there from the first byte on.
    fn begins_with_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.begin == Begin::FirstByte)
    }
}

pub struct Session {
    pub socket: TcpStream,
    tls: Option<Channel>,
    phase: Phase,
    expect: Expect,
    sequence: u8,
    deprecate_eof: bool,
    owed: u32,
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// When the oldest thing that is waited for began.
    pub since: Instant,
}

impl Session {
    /// Starts to connect. `number` chooses the source address where the target is on the loopback network.
    pub fn connect(
        target: SocketAddr,
        number: usize,
        account: &Account,
        now: Instant,
    ) -> Result<Self, Fault> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        if let IpAddr::V4(address) = target.ip()
            && address.is_loopback()
        {
            sys::bind_without_port(&socket)?;
            let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(Fault::Connect(error));
            }
            _ => {}
        }
        Ok(Self {
            socket: socket.into(),
            tls: None,
            phase: if account.begins_with_tls() { Phase::Connecting } else { Phase::Greeting },
            expect: Expect::Head,
            sequence: 0,
            deprecate_eof: false,
            owed: 0,
            partial: vec![],
            since: now,
        })
    }

    /// Whether it waits for its connection, and to be [told](Self::connected) of it.
    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// The socket takes bytes now.
    pub fn connected(&mut self, account: &Account) -> Result<(), Fault> {
        self.phase = Phase::Greeting;
        self.begin_tls(account)?;
        self.send(&[])
    }

    fn begin_tls(&mut self, account: &Account) -> Result<(), Fault> {
        self.tls = account.tls.as_ref().map(tls::Client::channel).transpose()?;
        Ok(())
    }

    pub fn is_seated(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub fn is_waiting(&self) -> bool {
        self.owed > 0
    }

    /// Sends `commands` that will have `count` replies.
    pub fn ask(&mut self, commands: &[u8], count: u32, now: Instant) -> Result<(), Fault> {
        self.owed += count;
        self.sequence = 1;
        self.since = now;
        self.send(commands)
    }

    pub fn quit(&mut self) -> Result<(), Fault> {
        self.phase = Phase::Quitting;
        self.send(&protocol::command(protocol::COM_QUIT, &[]))
    }

    /// Reads once into `buffer` and follows the protocol; the count is the bytes that came.
    pub fn receive(&mut self, buffer: &mut [u8], account: &Account) -> Result<(Progress, usize), Fault> {
        let count = match self.socket.read(buffer) {
            Ok(0) if self.phase == Phase::Quitting => return Ok((Progress::Ended, 0)),
            Ok(0) => return Err(Fault::Closed(self.phase_name())),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((Progress::Nothing, 0)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && self.phase == Phase::Quitting => {
                return Ok((Progress::Ended, 0));
            }
            Err(error) => return Err(Fault::Socket(error)),
        };
        let mut opened = vec![];
        let mut received = &buffer[..count];
        if let Some(tls) = &mut self.tls {
            tls.open(received, &mut opened)?;
            tls.send(&self.socket)?;
            received = &opened;
            if tls.has_ended() && self.phase == Phase::Quitting {
                // Some wait for the client to go first.
                return Ok((Progress::Ended, count));
            }
        }
        let mut joined = std::mem::take(&mut self.partial);
        let cut = !joined.is_empty();
        if cut {
            joined.extend_from_slice(received);
        }
        let mut rest = if cut { joined.as_slice() } else { received };
        let mut progress = Progress::Nothing;
        while let Some((sequence, payload, length)) = take_frame(rest) {
            self.frame(sequence, payload, account, &mut progress)?;
            rest = &rest[length..];
        }
        self.partial = rest.to_vec();
        Ok((progress, count))
    }

    fn frame(
        &mut self,
        sequence: u8,
        payload: &[u8],
        account: &Account,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        match self.phase {
            Phase::Connecting | Phase::Greeting => self.greeted(payload, account),
            Phase::Auth => self.auth(sequence, payload, &account.password, progress),
            Phase::Ready => self.reply(sequence, payload, progress),
            Phase::Quitting => Err(strange("after COM_QUIT", payload)),
        }
    }

    fn greeted(&mut self, payload: &[u8], account: &Account) -> Result<(), Fault> {
        refuse_error(payload)?;
        let greeting = protocol::read_greeting(payload).ok_or_else(|| strange("greeting", payload))?;
        let asks = account.tls.is_some() && self.tls.is_none();
        if asks && !greeting.offers_tls() {
            return Err(Fault::NoTls);
        }
        let (login, deprecate_eof) = protocol::login(&greeting, &account.user, &account.password, asks);
        if asks {
            self.send(&protocol::ssl_request(&login))?;
            self.begin_tls(account)?;
        }
        self.deprecate_eof = deprecate_eof;
        self.phase = Phase::Auth;
        self.send(&login)
    }

    fn auth(
        &mut self,
        sequence: u8,
        payload: &[u8],
        password: &str,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        refuse_error(payload)?;
        match payload.first() {
            Some(0) => {
                self.phase = Phase::Ready;
                *progress = Progress::Seated;
                Ok(())
            }
            Some(0xfe) => {
                let answer = protocol::answer_auth_switch(payload, sequence, password)
                    .ok_or_else(|| strange("authentication switch", payload))?;
                self.send(&answer)
            }
            _ => Err(strange("login answer", payload)),
        }
    }

    fn reply(&mut self, sequence: u8, payload: &[u8], progress: &mut Progress) -> Result<(), Fault> {
        if self.owed == 0 {
            refuse_error(payload)?;
            return Err(strange("unasked-for", payload));
        }
        if sequence != self.sequence {
            return Err(Fault::Protocol(format!("sequence id {sequence} where {} is due", self.sequence)));
        }
        self.sequence = self.sequence.wrapping_add(1);
        if !self.follow(payload)? {
            return Ok(());
        }
        self.expect = Expect::Head;
        self.sequence = 1;
        self.owed -= 1;
        let before = if let Progress::Replies(done, _) = progress { *done } else { 0 };
        *progress = Progress::Replies(before + 1, self.owed);
        Ok(())
    }

    /// Takes one frame of a reply; true when it is the last.
    fn follow(&mut self, payload: &[u8]) -> Result<bool, Fault> {
        let ends = payload.first() == Some(&0xfe) && payload.len() < 0xff_ffff;
        let next = match self.expect {
            Expect::Head => match payload.first() {
                Some(0) => return Ok(true),
                Some(0xff) => return refuse_error(payload).map(|()| true),
                Some(&columns @ 1..=250) => Expect::Columns(columns.into()),
                _ => return Err(strange("head of a reply", payload)),
            },
            Expect::Columns(1) if self.deprecate_eof => Expect::Rows,
            Expect::Columns(1) => Expect::ColumnsEnd,
            Expect::Columns(left) => Expect::Columns(left - 1),
            Expect::ColumnsEnd if ends => Expect::Rows,
            Expect::ColumnsEnd => return Err(strange("end of columns", payload)),
            Expect::Rows if ends => return Ok(true),
            Expect::Rows if payload.first() == Some(&0xff) => return refuse_error(payload).map(|()| true),
            Expect::Rows => Expect::Rows,
        };
        self.expect = next;
        Ok(false)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(tls) = &mut self.tls {
            tls.seal(bytes)?;
            return Ok(tls.send(&self.socket)?);
        }
        let written = (&self.socket).write(bytes)?;
        if written < bytes.len() {
            return Err(Fault::Protocol(format!("the socket took {written} of {} bytes", bytes.len())));
        }
        Ok(())
    }

    fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Connecting | Phase::Greeting => "before its greeting",
            Phase::Auth => "during login",
            Phase::Ready if self.owed > 0 => "while a reply was due",
            Phase::Ready => "of an idle session",
            Phase::Quitting => "after COM_QUIT",
        }
    }
}

fn refuse_error(payload: &[u8]) -> Result<(), Fault> {
    let [0xff, low, high, text @ ..] = payload else { return Ok(()) };
    let text = String::from_utf8_lossy(text).into_owned();
    Err(Fault::Refused { code: u16::from_le_bytes([*low, *high]), text })
}

fn strange(what: &str, payload: &[u8]) -> Fault {
    let shown = &payload[..payload.len().min(16)];
    Fault::Protocol(format!("{what} frame of {} bytes begins {shown:02x?}", payload.len()))
}
