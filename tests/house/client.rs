//! A tiny blocking MySQL client for sequences that no driver sends: half packets, pipelines, stalls.
//!
//! It speaks Protocol::41 with 4.1 authentication and keeps no state but the bytes it has not read.
//! Every read has a limit of [`READ_LIMIT`], so that a proxy that hangs fails a test and does not hang it.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use sha1::{Digest, Sha1};

/// How long one read may wait for bytes.
pub const READ_LIMIT: Duration = Duration::from_secs(60);

/// The largest payload of one frame.
pub const FRAME_MAX: usize = 0xff_ffff;

/// Commands as the protocol numbers them.
pub struct Com;

impl Com {
    pub const PROCESS_KILL: u8 = 0x0c;
    pub const QUIT: u8 = 0x01;
    pub const INIT_DB: u8 = 0x02;
    pub const QUERY: u8 = 0x03;
    pub const FIELD_LIST: u8 = 0x04;
    pub const PING: u8 = 0x0e;
    pub const CHANGE_USER: u8 = 0x11;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_SEND_LONG_DATA: u8 = 0x18;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const STMT_RESET: u8 = 0x1a;
    pub const SET_OPTION: u8 = 0x1b;
    pub const STMT_FETCH: u8 = 0x1c;
    pub const STMT_BULK_EXECUTE: u8 = 0xfa;
    pub const RESET_CONNECTION: u8 = 0x1f;
}

/// Capabilities as the protocol numbers them.
pub struct Can;

impl Can {
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const NO_SCHEMA: u32 = 1 << 4;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const IGNORE_SPACE: u32 = 1 << 8;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const INTERACTIVE: u32 = 1 << 10;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const SESSION_TRACK: u32 = 1 << 23;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    pub const QUERY_ATTRIBUTES: u32 = 1 << 27;

    /// What a login of this client cannot do without.
    pub const LOG_IN: u32 =
        Self::PROTOCOL_41 | Self::TRANSACTIONS | Self::SECURE_CONNECTION | Self::PLUGIN_AUTH;
    /// What it asks for unless it is told otherwise.
    pub const USUAL: u32 =
        Self::LOG_IN | Self::MULTI_STATEMENTS | Self::MULTI_RESULTS | Self::PS_MULTI_RESULTS;
}

/// MariaDB's extended capabilities as the protocol numbers them.
pub struct Extended;

impl Extended {
    pub const STMT_BULK_OPERATIONS: u32 = 1 << 2;
    pub const METADATA: u32 = 1 << 3;
    pub const CACHE_METADATA: u32 = 1 << 4;
}

/// utf8mb4_general_ci.
const COLLATION: u8 = 45;

/// An ERR packet taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrPacket {
    pub code: u16,
    pub state: String,
    pub message: String,
}

/// Who logs in, and with what.
pub struct LoginAs<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: &'a str,
}

pub struct RawClient {
    stream: BufReader<TcpStream>,
    /// The sequence number of the last frame read.
    pub sequence: u8,
    /// The id of the session, by the greeting.
    pub session: u32,
    /// What it was shown last to answer to.
    pub salt: Vec<u8>,
    /// What it asks for when it logs in, of [`Can`].
    pub capabilities: u32,
    /// The same of [`Extended`].
    pub extended: u32,
    /// The number of the collation that it logs in with.
    pub collation: u8,
}

impl RawClient {
    /// Connects without reading the greeting.
    pub fn dial(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(READ_LIMIT)).expect("set a read limit");
        stream.set_write_timeout(Some(READ_LIMIT)).expect("set a write limit");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        let stream = BufReader::new(stream);
        let (capabilities, collation) = (Can::USUAL, COLLATION);
        Self { stream, sequence: 0, session: 0, salt: Vec::new(), capabilities, extended: 0, collation }
    }

    /// Connects and logs in with `mysql_native_password`, by an AuthSwitchRequest where one comes.
    pub fn login(port: u16, who: &LoginAs) -> Result<Self, ErrPacket> {
        let mut client = Self::dial(port);
        let last = client.log_in(who)?;
        assert_eq!(last[0], 0, "the login ends with OK");
        Ok(client)
    }

    /// The login on a fresh connection; the OK packet, or the ERR.
    pub fn log_in(&mut self, who: &LoginAs) -> Result<Vec<u8>, ErrPacket> {
        let mut answer = self.begin_login(who)?;
        while answer[0] == 0xfe {
            self.answer_switch(&answer, who.password);
            answer = self.packet();
        }
        check(&answer)?;
        Ok(answer)
    }

    /// The login up to the first answer to it, which is an OK, an ERR or a question of a plugin.
    pub fn begin_login(&mut self, who: &LoginAs) -> Result<Vec<u8>, ErrPacket> {
        let greeting = self.packet();
        check(&greeting)?;
        self.session = session_of_greeting(&greeting);
        self.salt = salt_of_greeting(&greeting);
        let response = self.handshake_response(who, &self.salt);
        self.send(self.sequence.wrapping_add(1), &response);
        Ok(self.packet())
    }

    fn handshake_response(&self, who: &LoginAs, salt: &[u8]) -> Vec<u8> {
        let with_database = if who.database.is_empty() { 0 } else { Can::CONNECT_WITH_DB };
        let scramble = native_scramble(who.password, salt);
        let mut packet = (self.capabilities | with_database).to_le_bytes().to_vec();
        packet.extend_from_slice(&(1u32 << 30).to_le_bytes());
        packet.push(self.collation);
        packet.extend_from_slice(&[0; 19]);
        packet.extend_from_slice(&self.extended.to_le_bytes());
        packet.extend_from_slice(who.user.as_bytes());
        packet.push(0);
        packet.push(u8::try_from(scramble.len()).expect("0 or 20"));
        packet.extend_from_slice(&scramble);
        if !who.database.is_empty() {
            packet.extend_from_slice(who.database.as_bytes());
            packet.push(0);
        }
        packet.extend_from_slice(b"mysql_native_password\0");
        packet
    }

    /// Answers an AuthSwitchRequest for `mysql_native_password`.
    pub fn answer_switch(&mut self, request: &[u8], password: &str) {
        self.salt = salt_of_switch(request);
        self.answer(password);
    }

    /// Answers to the salt that it was shown last, whatever it has been asked since.
    pub fn answer(&mut self, password: &str) {
        let scramble = native_scramble(password, &self.salt);
        self.send(self.sequence.wrapping_add(1), &scramble);
    }

    /// Sends a COM_CHANGE_USER as libmariadb does: with the answer to the salt that it was shown last. Gives what is said to it.
    pub fn change_user(&mut self, who: &LoginAs, collation: u16, plugin: &str) -> Vec<u8> {
        let scramble = native_scramble(who.password, &self.salt);
        let mut change = [who.user.as_bytes(), b"\0"].concat();
        change.push(u8::try_from(scramble.len()).expect("0 or 20"));
        change.extend_from_slice(&scramble);
        change.extend_from_slice(who.database.as_bytes());
        change.push(0);
        change.extend_from_slice(&collation.to_le_bytes());
        change.extend_from_slice(plugin.as_bytes());
        change.push(0);
        self.command(Com::CHANGE_USER, &change);
        self.packet()
    }

    /// Sends one packet, split into frames where it is longer than a frame may be.
    pub fn send(&mut self, sequence: u8, payload: &[u8]) {
        self.send_bytes(&frames(sequence, payload)).expect("send a packet");
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The same connection, for a second thread to write to.
    pub fn writer(&self) -> TcpStream {
        self.stream.get_ref().try_clone().expect("share the connection")
    }

    /// Sends a command and its argument as a new conversation.
    pub fn command(&mut self, com: u8, argument: &[u8]) {
        self.send(0, &[&[com], argument].concat());
    }

    /// Prepares a statement; its id. Its definitions are read and dropped.
    pub fn prepare(&mut self, text: &str) -> Result<u32, ErrPacket> {
        self.command(Com::STMT_PREPARE, text.as_bytes());
        let ok = self.packet();
        check(&ok)?;
        for count in [u16::from_le_bytes([ok[7], ok[8]]), u16::from_le_bytes([ok[5], ok[6]])] {
            let eof = u16::from(count > 0 && self.capabilities & Can::DEPRECATE_EOF == 0);
            for _ in 0..count + eof {
                self.packet();
            }
        }
        Ok(u32::from_le_bytes(ok[1..5].try_into().expect("4 bytes")))
    }

    /// Reads one packet: as many frames as it has.
    pub fn packet(&mut self) -> Vec<u8> {
        self.try_packet().expect("read a packet").expect("a packet before the end")
    }

    /// The same; `None` when the peer has closed between packets.
    pub fn try_packet(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut packet = Vec::new();
        loop {
            let mut header = [0; 4];
            if self.stream.read(&mut header[..1])? == 0 {
                return if packet.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            self.stream.read_exact(&mut header[1..])?;
            let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
            self.sequence = header[3];
            let start = packet.len();
            packet.resize(start + length, 0);
            self.stream.read_exact(&mut packet[start..])?;
            if length < FRAME_MAX {
                return Ok(Some(packet));
            }
        }
    }

    /// Reads all packets until the peer closes; a reset counts as the end.
    pub fn packets_to_end(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            match self.try_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return packets,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return packets,
                Err(e) => panic!("expected the end of the connection, got {e}; packets so far: {packets:?}"),
            }
        }
    }

    /// Reads the reply to a text query (without DEPRECATE_EOF): the rows as raw payloads, or the ERR.
    pub fn rows(&mut self) -> Result<Vec<Vec<u8>>, ErrPacket> {
        let head = self.packet();
        check(&head)?;
        if head[0] == 0 {
            return Ok(Vec::new());
        }
        for _ in 0..head[0] {
            self.packet();
        }
        assert!(is_eof(&self.packet()), "EOF after the column definitions");
        self.rows_to_eof()
    }

    /// Rows up to the EOF packet that ends them.
    pub fn rows_to_eof(&mut self) -> Result<Vec<Vec<u8>>, ErrPacket> {
        let mut rows = Vec::new();
        loop {
            let packet = self.packet();
            check(&packet)?;
            if is_eof(&packet) {
                return Ok(rows);
            }
            rows.push(packet);
        }
    }

    /// A text query whose answer is one short value.
    pub fn value(&mut self, sql: &str) -> Result<String, ErrPacket> {
        self.command(Com::QUERY, sql.as_bytes());
        let rows = self.rows()?;
        Ok(short_text(rows.first().expect("a row")))
    }

    /// Whether the proxy has sent something by itself, or closed.
    pub fn has_ended(&self) -> bool {
        let socket = self.stream.get_ref();
        socket.set_nonblocking(true).expect("a socket");
        let seen = socket.peek(&mut [0]);
        socket.set_nonblocking(false).expect("a socket");
        seen.is_ok()
    }

    /// Closes the sending side only.
    pub fn half_close(&self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    pub fn set_read_limit(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("set a read limit");
    }
}

/// A packet as bytes on the wire.
pub fn frames(mut sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    let mut rest = payload;
    loop {
        let (frame, after) = rest.split_at(rest.len().min(FRAME_MAX));
        bytes.extend_from_slice(&u32::try_from(frame.len()).expect("24 bits").to_le_bytes()[..3]);
        bytes.push(sequence);
        bytes.extend_from_slice(frame);
        sequence = sequence.wrapping_add(1);
        if frame.len() < FRAME_MAX {
            return bytes;
        }
        rest = after;
    }
}

/// Takes an ERR packet apart; anything else is well.
pub fn check(packet: &[u8]) -> Result<(), ErrPacket> {
    if packet.first() != Some(&0xff) {
        return Ok(());
    }
    let code = u16::from_le_bytes([packet[1], packet[2]]);
    let text = String::from_utf8_lossy(&packet[3..]).into_owned();
    let (state, message) = match text.strip_prefix('#') {
        Some(rest) => (rest[..5].to_string(), rest[5..].to_string()),
        None => (String::new(), text),
    };
    Err(ErrPacket { code, state, message })
}

pub fn is_eof(packet: &[u8]) -> bool {
    packet[0] == 0xfe && packet.len() < 9
}

/// The first value of a text row, where it is shorter than 251 bytes.
pub fn short_text(row: &[u8]) -> String {
    assert!(row[0] < 251, "a short value");
    String::from_utf8_lossy(&row[1..=usize::from(row[0])]).into_owned()
}

/// Protocol::HandshakeV10: 8 bytes of salt after the version and the connection id, 12 more further on.
fn salt_of_greeting(greeting: &[u8]) -> Vec<u8> {
    let version_end = greeting.iter().position(|&byte| byte == 0).expect("the version's end");
    let first = version_end + 5;
    let second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10;
    [&greeting[first..first + 8], &greeting[second..second + 12]].concat()
}

/// The connection id stands behind the version.
fn session_of_greeting(greeting: &[u8]) -> u32 {
    let at = 1 + greeting.iter().position(|&byte| byte == 0).expect("the version's end");
    u32::from_le_bytes(greeting[at..at + 4].try_into().expect("4 bytes"))
}

/// AuthSwitchRequest: 0xfe, plugin, salt with a closing zero.
fn salt_of_switch(request: &[u8]) -> Vec<u8> {
    let end = 1 + request[1..].iter().position(|&byte| byte == 0).expect("the plugin's end");
    assert_eq!(&request[1..end], b"mysql_native_password", "the plugin asked for");
    request[end + 1..end + 21].to_vec()
}

/// SHA1(password) XOR SHA1(salt + SHA1(SHA1(password))); nothing for an empty password.
pub fn native_scramble(password: &str, salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(salt).chain_update(twice).finalize();
    once.iter().zip(mask.iter()).map(|(a, b)| a ^ b).collect()
}
