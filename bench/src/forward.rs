//! A bare TCP forwarder on epoll without any knowledge of the protocol: the practical floor for a proxy's cost.
//!
//! One thread, one buffer, one read and one write per message; what a socket will not take is kept and its source
//! is not read until it is gone. It knows neither time-outs nor limits, so it is a yardstick and no proxy.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::sys::{self, Epoll};

const LISTENER: usize = usize::MAX;
const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 64 << 10;
const EVENTS: usize = 512;

#[derive(clap::Args, Clone)]
pub struct Options {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub target: SocketAddr,
    /// Run on this CPU only.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Never sleep: how fast a proxy that spins can be at all.
    #[arg(long)]
    pub spin: bool,
}

/// Serves for ever.
pub fn run(options: &Options) -> io::Result<()> {
    sys::raise_open_files(200_000)?;
    options.cpu.map_or(Ok(()), sys::pin)?;
    Forwarder::new(options)?.serve(if options.spin { 0 } else { -1 })
}

/// One end of a forwarded connection; its twin stands at the other number of the pair (n and n ^ 1).
struct End {
    socket: TcpStream,
    /// Bytes for this socket that it would not take yet.
    pending: Vec<u8>,
    /// The twin will send nothing more: close when `pending` is out.
    last: bool,
}

struct Forwarder {
    epoll: Epoll,
    listener: TcpListener,
    target: SocketAddr,
    ends: Vec<Option<End>>,
    /// Even numbers of free pairs.
    free: Vec<usize>,
    /// Pairs closed in this turn: their numbers are reused only in the next one, as events for them may wait.
    closed: Vec<usize>,
    buffer: Vec<u8>,
}

impl Forwarder {
    fn new(options: &Options) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(options.listen), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&options.listen.into())?;
        socket.listen(BACKLOG)?;
        let listener = socket.into();
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER, sys::READ)?;
        let buffer = vec![0; READ_BYTES];
        Ok(Self {
            epoll,
            listener,
            target: options.target,
            ends: vec![],
            free: vec![],
            closed: vec![],
            buffer,
        })
    }

    fn serve(&mut self, timeout_ms: i32) -> io::Result<()> {
        let mut events = sys::events(EVENTS);
        loop {
            let ready = self.epoll.wait(&mut events, timeout_ms)?;
            for event in &events[..ready] {
                let token = event.u64 as usize;
                if token == LISTENER {
                    self.accept()?;
                } else if self.ends[token].is_some() && !self.turn(token, event.events).unwrap_or(false) {
                    self.ends[token] = None;
                    self.ends[token ^ 1] = None;
                    self.closed.push(token & !1);
                }
            }
            self.free.append(&mut self.closed);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            client.set_nonblocking(true)?;
            let server =
                Socket::new(Domain::for_address(self.target), Type::STREAM.nonblocking().cloexec(), None)?;
            server.set_tcp_nodelay(true)?;
            client.set_nodelay(true)?;
            match server.connect(&self.target.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => continue,
                _ => {}
            }
            let pair = self.free.pop().unwrap_or(self.ends.len());
            if pair == self.ends.len() {
                self.ends.extend([None, None]);
            }
            for (token, socket) in [(pair, client), (pair + 1, server.into())] {
                self.epoll.add(&socket, token, sys::READ)?;
                self.ends[token] = Some(End { socket, pending: vec![], last: false });
            }
        }
    }

    /// Moves what is ready; false when the pair is done.
    fn turn(&mut self, token: usize, ready: u32) -> io::Result<bool> {
        let [Some(here), Some(there)] =
            self.ends.get_disjoint_mut([token, token ^ 1]).map_err(io::Error::other)?
        else {
            return Ok(false);
        };
        if ready & sys::WRITE != 0 && !here.pending.is_empty() {
            let written = write_some(&here.socket, &here.pending)?;
            here.pending.drain(..written);
            if here.pending.is_empty() {
                if here.last {
                    return Ok(false);
                }
                here.pending = vec![];
                self.epoll.change(&here.socket, token, interest(here, there))?;
                self.epoll.change(&there.socket, token ^ 1, interest(there, here))?;
            }
        }
        if !there.pending.is_empty() || ready & !sys::WRITE == 0 {
            return Ok(true);
        }
        let count = match here.socket.read(&mut self.buffer) {
            Ok(0) => {
                there.last = true;
                return Ok(!there.pending.is_empty());
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let written = write_some(&there.socket, &self.buffer[..count])?;
        if written < count {
            there.pending.extend_from_slice(&self.buffer[written..count]);
            self.epoll.change(&here.socket, token, interest(here, there))?;
            self.epoll.change(&there.socket, token ^ 1, interest(there, here))?;
        }
        Ok(true)
    }
}

/// What to wait for on `end`: room while bytes for it are kept, and its own bytes while the twin takes them.
fn interest(end: &End, twin: &End) -> u32 {
    let write = if end.pending.is_empty() { 0 } else { sys::WRITE };
    let read = if twin.pending.is_empty() { sys::READ } else { 0 };
    write | read
}

/// Writes as much as the socket takes; nothing while it still connects.
fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(0),
        other => other,
    }
}
