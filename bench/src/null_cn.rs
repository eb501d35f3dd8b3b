//! A CN that answers at once: it logs anybody in and gives every query the same canned reply.
//!
//! It exists so that a benchmark measures what stands before it. Replies are built once; a session owns no memory
//! beyond its slot unless a frame is cut or a client reads slowly. `big N` as a query streams N MiB of 1 KiB rows
//! and holds none of them back in memory. A SET gets an OK, and who asks for system variables gets some, so that
//! corelane can have sessions tracked. It can speak TLS. It checks no password and executes nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::protocol::{self, take_frame};
use crate::sys::{self, Epoll};
use crate::tls::{self, Begin, Channel};

const LISTENER: usize = usize::MAX;
const BACKLOG: i32 = 4096;
/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Events of one wait.
const EVENTS: usize = 512;
/// A client may not send a longer frame.
const FRAME_LIMIT: usize = 16 << 20;
/// Rows of one streamed chunk: as many as there are sequence ids, so that one chunk serves for ever.
const CHUNK_ROWS: usize = 256;
/// Chunks to a MiB of rows.
const CHUNKS_PER_MIB: u64 = 4;

#[derive(clap::Args, Clone)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Bytes of the reply to a query, frames included.
    #[arg(long, default_value_t = 200)]
    pub reply_bytes: usize,
    /// Threads, each with a listener of its own on the same address.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Speak TLS by a certificate that vouches for itself, and from where on. Clients need not, where it begins with the login.
    #[arg(long)]
    pub tls: Option<Begin>,
    /// The CPU of the first thread; the next ones follow. Not pinned when left out.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Serves for ever.
pub fn run(options: &Options) -> io::Result<()> {
    sys::raise_open_files(200_000)?;
    let serve = |thread: usize| -> io::Result<()> {
        if let Some(first) = options.cpu {
            sys::pin(first + thread)?;
        }
        Server::new(options, thread)?.serve()
    };
    std::thread::scope(|scope| {
        for thread in 1..options.threads {
            scope.spawn(move || {
                if let Err(error) = serve(thread) {
                    eprintln!("null CN, thread {thread}: {error}");
                    std::process::exit(1);
                }
            });
        }
        serve(0)
    })
}

/// The replies, for clients with and without DEPRECATE_EOF.
struct Canned {
    text: Vec<u8>,
    binary: Vec<u8>,
    big_head: Vec<u8>,
    big_chunk: Vec<u8>,
    big_tail: Vec<u8>,
}

impl Canned {
    fn new(deprecate_eof: bool, reply_bytes: usize) -> Self {
        let (big_head, first) = protocol::result_head(deprecate_eof);
        let row = protocol::long_row(1024);
        let mut big_chunk = Vec::with_capacity(CHUNK_ROWS * (row.len() + 4));
        for offset in 0..CHUNK_ROWS {
            protocol::put_frame(&mut big_chunk, first.wrapping_add(offset as u8), &row);
        }
        Self {
            text: protocol::result_set(deprecate_eof, reply_bytes, false),
            binary: protocol::result_set(deprecate_eof, reply_bytes, true),
            big_head,
            big_chunk,
            big_tail: protocol::result_tail(deprecate_eof, first),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Login,
    /// The client has asked for TLS, and all further bytes are of it.
    TlsBegins,
    AuthSwitched,
    Ready,
    Quit,
}

/// Rows still to be streamed.
struct Stream {
    chunks: u64,
    /// Bytes of the current chunk that are already out.
    sent: usize,
}

struct Session {
    socket: TcpStream,
    tls: Option<Channel>,
    phase: Phase,
    deprecate_eof: bool,
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// What the socket would not take yet.
    pending: Vec<u8>,
    stream: Option<Stream>,
}

impl Session {
    fn is_blocked(&self) -> bool {
        self.stream.is_some() || !self.pending.is_empty()
    }

    /// Puts TLS on; what has come already goes through it.
    fn begin_tls(&mut self, server: &tls::Server, opened: &mut Vec<u8>) -> io::Result<()> {
        let mut channel = server.channel().map_err(io::Error::other)?;
        opened.clear();
        channel.open(&std::mem::take(&mut self.partial), opened)?;
        self.tls = Some(channel);
        self.phase = Phase::Login;
        Ok(())
    }

    /// Sends what the socket takes, and with TLS nothing yet; the rest is pending then.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.seal(bytes)?;
            return tls.send(&mut self.pending);
        }
        let written = write_some(&self.socket, bytes)?;
        self.pending.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}

struct Server {
    epoll: Epoll,
    listener: TcpListener,
    sessions: Slab<Session>,
    canned: [Canned; 2],
    next_connection: u32,
    tls: Option<tls::Server>,
    input: Vec<u8>,
    /// What came through TLS.
    opened: Vec<u8>,
    output: Vec<u8>,
}

impl Server {
    fn new(options: &Options, thread: usize) -> io::Result<Self> {
        let listener = listen(options.listen)?;
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER, sys::READ)?;
        Ok(Self {
            epoll,
            listener,
            sessions: Slab::new(),
            canned: [false, true].map(|deprecate_eof| Canned::new(deprecate_eof, options.reply_bytes)),
            next_connection: 1 + ((thread as u32) << 24),
            tls: options.tls.map(tls::Server::new).transpose()?,
            input: vec![0; READ_BYTES],
            opened: vec![],
            output: Vec::with_capacity(READ_BYTES),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = sys::events(EVENTS);
        loop {
            let ready = self.epoll.wait(&mut events, -1)?;
            for event in &events[..ready] {
                let token = event.u64 as usize;
                if token == LISTENER {
                    self.accept()?;
                } else if self.sessions.contains(token) && !self.turn(token).unwrap_or(false) {
                    // Dropping the socket closes it, which also takes it out of the epoll set.
                    self.sessions.remove(token);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    eprintln!("null CN: {error} at {} sessions", self.sessions.len());
                    std::thread::sleep(Duration::from_millis(10));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let begin = self.tls.as_ref().map(|tls| tls.begin);
            let greeting = protocol::greeting(self.next_connection, begin == Some(Begin::Login));
            self.next_connection = self.next_connection.wrapping_add(1);
            let mut channel = None;
            if let Some(tls) = self.tls.as_ref().filter(|tls| tls.begin == Begin::FirstByte) {
                // It goes out when both sides have agreed.
                channel.insert(tls.channel().map_err(io::Error::other)?).seal(&greeting)?;
            } else {
                // A greeting always fits the buffer of a fresh socket; a client that is gone shows at the next read.
                let _ = (&socket).write(&greeting);
            }
            let entry = self.sessions.vacant_entry();
            self.epoll.add(&socket, entry.key(), sys::READ)?;
            entry.insert(Session {
                socket,
                tls: channel,
                phase: Phase::Login,
                deprecate_eof: false,
                partial: vec![],
                pending: vec![],
                stream: None,
            });
        }
    }

    /// Reads, answers, writes; false when the session is over.
    fn turn(&mut self, token: usize) -> io::Result<bool> {
        let session = &mut self.sessions[token];
        let was_blocked = session.is_blocked();
        let mut count = 0;
        if was_blocked {
            if !flush(session, &self.canned)? {
                return Ok(true);
            }
        } else {
            count = match (&session.socket).read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
        }
        let mut received = &self.input[..count];
        if let Some(tls) = &mut session.tls {
            self.opened.clear();
            tls.open(received, &mut self.opened)?;
            received = &self.opened;
        }
        loop {
            self.output.clear();
            answer_all(session, received, &self.canned, &mut self.output)?;
            session.put(&self.output)?;
            if session.is_blocked() && !flush(session, &self.canned)? {
                if !was_blocked {
                    self.epoll.change(&session.socket, token, sys::WRITE)?;
                }
                return Ok(true);
            }
            if session.phase == Phase::TlsBegins {
                let Some(tls) = &self.tls else { return Ok(false) };
                session.begin_tls(tls, &mut self.opened)?;
                received = &self.opened;
                continue;
            }
            // A stream that is out lets the commands behind it have their turn.
            if take_frame(&session.partial).is_none() || session.phase == Phase::Quit {
                break;
            }
            received = &[];
        }
        if was_blocked {
            self.epoll.change(&session.socket, token, sys::READ)?;
        }
        Ok(session.phase != Phase::Quit)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Answers each whole frame of `received` (after what was left of earlier ones) and keeps what is cut or stands
/// behind a stream.
fn answer_all(
    session: &mut Session,
    received: &[u8],
    canned: &[Canned; 2],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let joined = if session.partial.is_empty() {
        None
    } else {
        let mut partial = std::mem::take(&mut session.partial);
        partial.extend_from_slice(received);
        Some(partial)
    };
    let mut rest = joined.as_deref().unwrap_or(received);
    while session.stream.is_none()
        && session.phase != Phase::TlsBegins
        && let Some((sequence, payload, length)) = take_frame(rest)
    {
        answer(session, sequence, payload, canned, out)?;
        rest = &rest[length..];
    }
    if rest.len() > FRAME_LIMIT {
        return Err(ErrorKind::InvalidData.into());
    }
    session.partial.extend_from_slice(rest);
    Ok(())
}

fn answer(
    session: &mut Session,
    sequence: u8,
    payload: &[u8],
    canned: &[Canned; 2],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    match session.phase {
        Phase::Login if session.tls.is_none() && protocol::is_ssl_request(payload) => {
            session.phase = Phase::TlsBegins;
        }
        Phase::Login => {
            let login = protocol::read_login(payload).ok_or(ErrorKind::InvalidData)?;
            session.deprecate_eof = login.deprecate_eof;
            if login.foreign_plugin {
                session.phase = Phase::AuthSwitched;
                out.extend(protocol::auth_switch(sequence.wrapping_add(1)));
            } else {
                session.phase = Phase::Ready;
                out.extend(protocol::ok(sequence.wrapping_add(1)));
            }
        }
        Phase::AuthSwitched => {
            session.phase = Phase::Ready;
            out.extend(protocol::ok(sequence.wrapping_add(1)));
        }
        Phase::Ready => command(session, payload, canned, out),
        Phase::TlsBegins | Phase::Quit => {}
    }
    Ok(())
}

fn command(session: &mut Session, payload: &[u8], canned: &[Canned; 2], out: &mut Vec<u8>) {
    let canned = &canned[usize::from(session.deprecate_eof)];
    let Some((&code, argument)) = payload.split_first() else {
        out.extend(protocol::error(1, 1047, "empty command"));
        return;
    };
    match code {
        protocol::COM_QUERY => match mebibytes(argument) {
            Some(mebibytes) => {
                out.extend_from_slice(&canned.big_head);
                session.stream = Some(Stream { chunks: mebibytes * CHUNKS_PER_MIB, sent: 0 });
            }
            None if argument.starts_with(b"SET ") => out.extend(protocol::ok(1)),
            None if argument.starts_with(b"SELECT @@") => {
                let asked = argument.windows(2).filter(|pair| pair == b"@@").count();
                out.extend(protocol::settings(session.deprecate_eof, asked.min(250) as u8));
            }
            None => out.extend_from_slice(&canned.text),
        },
        protocol::COM_STMT_EXECUTE => out.extend_from_slice(&canned.binary),
        protocol::COM_STMT_PREPARE => out.extend(protocol::prepared(session.deprecate_eof, 1, argument)),
        protocol::COM_STMT_CLOSE | protocol::COM_STMT_SEND_LONG_DATA => {}
        protocol::COM_SET_OPTION => out.extend(protocol::result_tail(session.deprecate_eof, 1)),
        protocol::COM_QUIT => session.phase = Phase::Quit,
        protocol::COM_PING
        | protocol::COM_INIT_DB
        | protocol::COM_STMT_RESET
        | protocol::COM_RESET_CONNECTION => out.extend(protocol::ok(1)),
        _ => out.extend(protocol::error(1, 1047, "the null CN does not know this command")),
    }
}

/// N of a query that reads `big N`.
fn mebibytes(query: &[u8]) -> Option<u64> {
    std::str::from_utf8(query.strip_prefix(b"big ")?).ok()?.trim().parse().ok()
}

/// Writes what is pending and streamed; false when the socket takes no more for now.
fn flush(session: &mut Session, canned: &[Canned; 2]) -> io::Result<bool> {
    let canned = &canned[usize::from(session.deprecate_eof)];
    loop {
        let written = write_some(&session.socket, &session.pending)?;
        session.pending.drain(..written);
        if !session.pending.is_empty() {
            return Ok(false);
        }
        let Some(stream) = &mut session.stream else {
            session.pending = vec![];
            return Ok(true);
        };
        let source = if stream.chunks == 0 { &canned.big_tail } else { &canned.big_chunk };
        if let Some(tls) = &mut session.tls {
            tls.seal(source)?;
            tls.send(&mut session.pending)?;
        } else {
            stream.sent += write_some(&session.socket, &source[stream.sent..])?;
            if stream.sent < source.len() {
                return Ok(false);
            }
        }
        stream.sent = 0;
        match stream.chunks.checked_sub(1) {
            Some(left) => stream.chunks = left,
            None => session.stream = None,
        }
    }
}

/// Writes as much as the socket takes.
fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match socket.write(&bytes[done..]) {
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
