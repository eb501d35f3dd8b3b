//! A CN that misbehaves as told: a listener whose every connection is run through a closure.
//!
//! It answers until it is dropped; a connection's thread ends when its script does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::client::frames;

pub struct ScriptedCn {
    pub port: u16,
    /// Connections accepted so far, probes among them.
    pub accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl ScriptedCn {
    /// Runs `script` on every connection, each on a thread of its own; the second argument counts them from 0.
    pub fn start(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a scripted CN");
        let port = listener.local_addr().expect("its address").port();
        let (accepted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, script) = (accepted.clone(), stop.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let nth = count.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                std::thread::spawn(move || script(stream, nth));
            }
        });
        Self { port, accepted, stop }
    }

    /// Sends an ERR in place of the greeting and closes.
    pub fn refusing_with(code: u16, message: &'static str) -> Self {
        Self::start(move |mut stream, _| {
            let _ = stream.write_all(&frames(0, &err_packet(code, "", message)));
        })
    }

    /// Accepts and says nothing, for as long as the peer stays.
    pub fn hanging() -> Self {
        Self::start(|mut stream, _| drain(&mut stream))
    }

    /// Accepts and closes at once.
    pub fn closing() -> Self {
        Self::start(|stream, _| drop(stream))
    }

    /// Greets after `delay` and lets everybody in; then answers each command with `reply`, raw bytes, and
    /// closes where `reply` gives none.
    pub fn answering(
        delay: Duration,
        reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |mut stream, _| {
            std::thread::sleep(delay);
            let _ = serve(&mut stream, &reply);
        })
    }

    /// Greets with further capabilities and lets everybody in; then answers each command with `reply`.
    pub fn answering_as(
        capabilities: u32,
        reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |mut stream, _| {
            if let_in(&mut stream, CAPABILITIES | capabilities).is_ok() {
                let _ = answer(&mut stream, &reply);
            }
        })
    }

    /// Lets everybody in by `mysql_native_password`, then runs `script` on the connection.
    pub fn seating(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream, _| {
            if let_in(&mut stream, CAPABILITIES).is_ok() {
                script(&mut stream);
            }
        })
    }

    /// Greets, takes the login, then goes through `rounds` and lets in. What the client sent in each round is
    /// sent to the receiver, with its sequence number.
    pub fn asking(rounds: Vec<Round>) -> (Self, Receiver<(u8, Vec<u8>)>) {
        let (heard, receiver) = channel();
        let cn = Self::start(move |mut stream, _| {
            let _ = ask(&mut stream, &rounds, &heard);
        });
        (cn, receiver)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// One packet of a CN during an authentication.
#[derive(Clone, Debug)]
pub enum Round {
    /// Wants an answer.
    Ask(Vec<u8>),
    /// Wants none: the CN goes on by itself.
    Tell(Vec<u8>),
}

impl Drop for ScriptedCn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn serve(stream: &mut TcpStream, reply: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> std::io::Result<()> {
    let_in(stream, CAPABILITIES)?;
    answer(stream, reply)
}

fn answer(stream: &mut TcpStream, reply: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> std::io::Result<()> {
    loop {
        let (_, command) = read_frame(stream)?;
        match reply(&command) {
            Some(bytes) => stream.write_all(&bytes)?,
            None => return Ok(()),
        }
    }
}

/// Greets and reads the login: its sequence number and payload. A probe, which logs in too, is sent away; what
/// the script has to say is not for it.
pub fn greet(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    greet_as(stream, CAPABILITIES)
}

fn greet_as(stream: &mut TcpStream, capabilities: u32) -> std::io::Result<(u8, Vec<u8>)> {
    stream.write_all(&frames(0, &greeting_packet(capabilities)))?;
    let (sequence, login) = read_frame(stream)?;
    if login.windows(PROBE.len()).any(|window| window == PROBE) {
        stream.write_all(&frames(sequence.wrapping_add(1), &err_packet(1045, "28000", "Access denied")))?;
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    Ok((sequence, login))
}

/// The login, by an AuthSwitchRequest where the client did not name `mysql_native_password`. Any proof will do.
pub fn let_in(stream: &mut TcpStream, capabilities: u32) -> std::io::Result<()> {
    let (sequence, response) = greet_as(stream, capabilities)?;
    let native = response.windows(22).any(|window| window == b"mysql_native_password\0");
    let mut next = sequence.wrapping_add(1);
    if !native {
        let switch = [b"\xfemysql_native_password\0".as_slice(), SALT, b"\0"].concat();
        stream.write_all(&frames(next, &switch))?;
        next = read_frame(stream)?.0.wrapping_add(1);
    }
    stream.write_all(&frames(next, OK))
}

fn ask(stream: &mut TcpStream, rounds: &[Round], heard: &Sender<(u8, Vec<u8>)>) -> std::io::Result<()> {
    let mut next = greet(stream)?.0.wrapping_add(1);
    for round in rounds {
        let (Round::Ask(packet) | Round::Tell(packet)) = round;
        stream.write_all(&frames(next, packet))?;
        next = next.wrapping_add(1);
        if matches!(round, Round::Ask(_)) {
            let (sequence, answer) = read_frame(stream)?;
            next = sequence.wrapping_add(1);
            let _ = heard.send((sequence, answer));
        }
    }
    stream.write_all(&frames(next, OK))?;
    drain(stream);
    Ok(())
}

/// Reads one frame: its sequence number and payload.
pub fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((header[3], payload))
}

fn drain(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
}

/// OK: no rows, no insert id, autocommit, no warnings.
pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
/// The user that probes log in as, and the end of its name.
const PROBE: &[u8] = b"corelane_probe\0";
const SALT: &[u8] = b"abcdefghijklmnopqrst";

/// An ERR packet; an empty `state` leaves out `#` and the state, as before the login.
pub fn err_packet(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend_from_slice(&code.to_le_bytes());
    if !state.is_empty() {
        packet.push(b'#');
        packet.extend_from_slice(state.as_bytes());
    }
    packet.extend_from_slice(message.as_bytes());
    packet
}

/// The packets of a result of text with one row, as the answer to a command.
pub fn one_row(values: &[&str]) -> Vec<u8> {
    rows(&vec!["v"; values.len()], &[values.to_vec()])
}

/// The packets of a result of text with these columns and rows, as the answer to a command.
pub fn rows(columns: &[&str], rows: &[Vec<&str>]) -> Vec<u8> {
    let short = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 251).expect("a short value");
        [&[length], text.as_bytes()].concat()
    };
    let column = |name: &&str| {
        [b"\x03def\0\0\0".as_slice(), &short(name), b"\0\x0c\x2d\0\0\x04\0\0\xfd\0\0\0\0\0"].concat()
    };
    let mut packets = vec![vec![u8::try_from(columns.len()).expect("few columns")]];
    packets.extend(columns.iter().map(column));
    packets.push(EOF.to_vec());
    packets.extend(rows.iter().map(|row| row.iter().flat_map(|value| short(value)).collect()));
    packets.push(EOF.to_vec());
    let numbers = (0..=u8::MAX).cycle().skip(1);
    packets.iter().zip(numbers).flat_map(|(packet, sequence)| frames(sequence, packet)).collect()
}

/// Capabilities of a plain MySQL 5.7-like server.
pub const CAPABILITIES: u32 = 0x001f_a20f;

fn greeting_packet(capabilities: u32) -> Vec<u8> {
    handshake_v10("5.7.42-scripted", 7, SALT, capabilities, 45)
}

/// Protocol::HandshakeV10, with `mysql_native_password` and autocommit.
pub fn handshake_v10(version: &str, id: u32, salt: &[u8], capabilities: u32, collation: u8) -> Vec<u8> {
    let flags = capabilities.to_le_bytes();
    let mut packet = vec![10];
    packet.extend_from_slice(version.as_bytes());
    packet.push(0);
    packet.extend_from_slice(&id.to_le_bytes());
    packet.extend_from_slice(&salt[..8]);
    packet.push(0);
    packet.extend_from_slice(&flags[..2]);
    packet.push(collation);
    packet.extend_from_slice(&2u16.to_le_bytes());
    packet.extend_from_slice(&flags[2..]);
    packet.push(21);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(&salt[8..]);
    packet.extend_from_slice(b"\0mysql_native_password\0");
    packet
}
