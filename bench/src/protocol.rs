//! As much of the MySQL protocol as a null CN and a load generator need: frames, greeting, login, canned replies.
//!
//! Written apart from the proxy's own `wire`, so that both cannot share a mistake. Invariant: what is built here is
//! whole frames. Not here: TLS itself, compression, anything of 16 MiB and more.

use sha1::{Digest, Sha1};

pub const NATIVE: &str = "mysql_native_password";
pub const COM_QUIT: u8 = 0x01;
pub const COM_INIT_DB: u8 = 0x02;
pub const COM_QUERY: u8 = 0x03;
pub const COM_PING: u8 = 0x0e;
pub const COM_STMT_PREPARE: u8 = 0x16;
pub const COM_STMT_EXECUTE: u8 = 0x17;
pub const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
pub const COM_STMT_CLOSE: u8 = 0x19;
pub const COM_STMT_RESET: u8 = 0x1a;
pub const COM_SET_OPTION: u8 = 0x1b;
pub const COM_RESET_CONNECTION: u8 = 0x1f;

const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
/// In the greeting TLS is offered, in what a client says it is asked for.
const SSL: u32 = 1 << 11;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;
const SESSION_TRACK: u32 = 1 << 23;
pub const DEPRECATE_EOF: u32 = 1 << 24;
/// What MariaDB 10.11 announces (bit 0 unset: extended flags follow), less TLS and compression.
const SERVER_CAPABILITIES: u32 = 0x81ff_f7de;
/// MariaDB's extended flags: progress reports only, as the canned replies know no extended metadata.
const SERVER_EXTENDED: u32 = 1;
/// 4.1 protocol, transactions, multi-results, plugin authentication, session tracking, no EOF packets.
const CLIENT_CAPABILITIES: u32 = 1
    | PROTOCOL_41
    | (1 << 13)
    | SECURE_CONNECTION
    | (1 << 17)
    | (1 << 18)
    | PLUGIN_AUTH
    | PLUGIN_AUTH_LENENC_DATA
    | SESSION_TRACK
    | DEPRECATE_EOF;
const UTF8MB4: u8 = 45;
const AUTOCOMMIT: u16 = 2;
const VAR_STRING: u8 = 0xfd;

/// Bytes of a login's payload before the user, and all of an SSLRequest.
const LOGIN_HEAD: usize = 32;

/// The salt of the null CN: it checks no password, so it needs no fresh one.
pub const SALT: &[u8; 20] = b"abcdefghijklmnopqrst";

/// A frame whose payload is still arriving is `None`; else its sequence id, payload and length with header.
#[must_use]
pub fn take_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [a, b, c, sequence, rest @ ..] = bytes else { return None };
    let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
    rest.get(..length).map(|payload| (*sequence, payload, 4 + length))
}

pub fn put_frame(out: &mut Vec<u8>, sequence: u8, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
    out.push(sequence);
    out.extend_from_slice(payload);
}

/// The greeting of a MariaDB server (MySQL: Protocol::HandshakeV10), which may offer TLS.
#[must_use]
pub fn greeting(connection: u32, tls: bool) -> Vec<u8> {
    let capabilities = SERVER_CAPABILITIES | if tls { SSL } else { 0 };
    let mut payload = vec![10];
    payload.extend_from_slice(b"5.5.5-10.11.14-MariaDB-null\0");
    payload.extend_from_slice(&connection.to_le_bytes());
    payload.extend_from_slice(&SALT[..8]);
    payload.push(0);
    payload.extend_from_slice(&(capabilities as u16).to_le_bytes());
    payload.push(UTF8MB4);
    payload.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
    payload.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&SERVER_EXTENDED.to_le_bytes());
    payload.extend_from_slice(&SALT[8..]);
    payload.push(0);
    payload.extend_from_slice(NATIVE.as_bytes());
    payload.push(0);
    framed(0, &payload)
}

/// Whether a client asks for TLS before it logs in (MySQL: Protocol::SSLRequest).
#[must_use]
pub fn is_ssl_request(payload: &[u8]) -> bool {
    payload.len() == LOGIN_HEAD && payload[1] & (SSL >> 8) as u8 != 0
}

/// What the null CN reads of a login.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub deprecate_eof: bool,
    /// The client can only be let in after an AuthSwitchRequest, as the plugin that it names is not ours.
    pub foreign_plugin: bool,
}

/// Reads a login (MySQL: Protocol::HandshakeResponse41); `None` when it is cut short or older than 4.1.
#[must_use]
pub fn read_login(payload: &[u8]) -> Option<Login> {
    let capabilities = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) & SERVER_CAPABILITIES;
    if capabilities & PROTOCOL_41 == 0 {
        return None;
    }
    let (_user, rest) = until_nul(payload.get(LOGIN_HEAD..)?)?;
    let (length, rest) = rest.split_first()?;
    // An authentication answer longer than 250 bytes has no business with the native plugin.
    let mut rest = rest.get(usize::from(*length)..)?;
    if capabilities & CONNECT_WITH_DB != 0 {
        rest = until_nul(rest)?.1;
    }
    let plugin = if capabilities & PLUGIN_AUTH == 0 { NATIVE.as_bytes() } else { until_nul(rest)?.0 };
    Some(Login {
        deprecate_eof: capabilities & DEPRECATE_EOF != 0,
        foreign_plugin: plugin != NATIVE.as_bytes(),
    })
}

/// MySQL: Protocol::AuthSwitchRequest to the native plugin.
#[must_use]
pub fn auth_switch(sequence: u8) -> Vec<u8> {
    let mut payload = vec![0xfe];
    payload.extend_from_slice(NATIVE.as_bytes());
    payload.push(0);
    payload.extend_from_slice(SALT);
    payload.push(0);
    framed(sequence, &payload)
}

/// An OK without news.
#[must_use]
pub fn ok(sequence: u8) -> Vec<u8> {
    framed(sequence, &[0, 0, 0, AUTOCOMMIT as u8, 0, 0, 0])
}

#[must_use]
pub fn error(sequence: u8, code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(b"#HY000");
    payload.extend_from_slice(text.as_bytes());
    framed(sequence, &payload)
}

/// Column count, one column and, for old clients, its EOF: the frames before the rows. The next sequence id follows.
#[must_use]
pub fn result_head(deprecate_eof: bool) -> (Vec<u8>, u8) {
    let mut out = framed(1, &[1]);
    put_frame(&mut out, 2, &column(b"answer"));
    if deprecate_eof {
        return (out, 3);
    }
    put_frame(&mut out, 3, &eof());
    (out, 4)
}

/// The frame after the last row.
#[must_use]
pub fn result_tail(deprecate_eof: bool, sequence: u8) -> Vec<u8> {
    if deprecate_eof {
        framed(sequence, &[0xfe, 0, 0, AUTOCOMMIT as u8, 0, 0, 0])
    } else {
        framed(sequence, &eof())
    }
}

/// A result set of one row whose frames take about `bytes` in all; a binary row when `prepared`.
#[must_use]
pub fn result_set(deprecate_eof: bool, bytes: usize, prepared: bool) -> Vec<u8> {
    let (mut out, sequence) = result_head(deprecate_eof);
    let tail = result_tail(deprecate_eof, sequence + 1);
    let mut row = if prepared { vec![0, 0] } else { vec![] };
    let taken = out.len() + tail.len() + row.len() + 5;
    row.extend(text(bytes.saturating_sub(taken).clamp(1, 0xff_0000)));
    put_frame(&mut out, sequence, &row);
    out.extend(tail);
    out
}

/// A result set of one row in which each of `columns` reads 1, as settings do that are on.
#[must_use]
pub fn settings(deprecate_eof: bool, columns: u8) -> Vec<u8> {
    let mut out = framed(1, &[columns]);
    let mut sequence = 2_u8;
    let mut put = |payload: &[u8]| {
        put_frame(&mut out, sequence, payload);
        sequence = sequence.wrapping_add(1);
    };
    (0..columns).for_each(|_| put(&column(b"setting")));
    if !deprecate_eof {
        put(&eof());
    }
    put(&b"\x011".repeat(usize::from(columns)));
    out.extend(result_tail(deprecate_eof, sequence));
    out
}

/// A row of one string, `payload_bytes` long in all (between 260 and 65,538).
#[must_use]
pub fn long_row(payload_bytes: usize) -> Vec<u8> {
    text(payload_bytes - 3)
}

/// COM_STMT_PREPARE_OK with one column and a parameter for each question mark of `query`.
#[must_use]
pub fn prepared(deprecate_eof: bool, statement: u32, query: &[u8]) -> Vec<u8> {
    let parameters = query.iter().filter(|&&byte| byte == b'?').count() as u16;
    let mut payload = vec![0];
    payload.extend_from_slice(&statement.to_le_bytes());
    payload.extend_from_slice(&1_u16.to_le_bytes());
    payload.extend_from_slice(&parameters.to_le_bytes());
    payload.extend_from_slice(&[0, 0, 0]);
    let mut out = framed(1, &payload);
    let mut sequence = 1_u8;
    for (count, name) in [(parameters, b"?".as_slice()), (1, b"answer")] {
        for _ in 0..count {
            sequence = sequence.wrapping_add(1);
            put_frame(&mut out, sequence, &column(name));
        }
        if count > 0 && !deprecate_eof {
            sequence = sequence.wrapping_add(1);
            put_frame(&mut out, sequence, &eof());
        }
    }
    out
}

/// What a client needs of a greeting.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    pub capabilities: u32,
    pub salt: [u8; 20],
}

/// Reads a greeting of protocol 10; `None` when it is none.
#[must_use]
pub fn read_greeting(payload: &[u8]) -> Option<Greeting> {
    let (&protocol, rest) = payload.split_first()?;
    let (_version, rest) = until_nul(rest)?;
    let mut salt = [0; 20];
    salt[..8].copy_from_slice(rest.get(4..12)?);
    salt[8..].copy_from_slice(rest.get(31..43)?);
    let low = u16::from_le_bytes(rest.get(13..15)?.try_into().ok()?);
    let high = u16::from_le_bytes(rest.get(18..20)?.try_into().ok()?);
    (protocol == 10).then_some(Greeting { capabilities: u32::from(low) | u32::from(high) << 16, salt })
}

impl Greeting {
    #[must_use]
    pub fn offers_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }
}

/// An SSLRequest ahead of `login`, which was made for it.
#[must_use]
pub fn ssl_request(login: &[u8]) -> Vec<u8> {
    framed(1, &login[4..4 + LOGIN_HEAD])
}

/// A login with the native plugin, and whether EOF packets are left out after it. With `tls` it stands behind an SSLRequest.
#[must_use]
pub fn login(greeting: &Greeting, user: &str, password: &str, tls: bool) -> (Vec<u8>, bool) {
    let wanted = CLIENT_CAPABILITIES | if tls { SSL } else { 0 };
    let capabilities = wanted & (greeting.capabilities | 1);
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    payload.push(UTF8MB4);
    payload.extend_from_slice(&[0; 23]);
    payload.extend_from_slice(user.as_bytes());
    payload.push(0);
    let scramble = native_scramble(&greeting.salt, password);
    payload.push(scramble.len() as u8);
    payload.extend(scramble);
    payload.extend_from_slice(NATIVE.as_bytes());
    payload.push(0);
    (framed(1 + u8::from(tls), &payload), capabilities & DEPRECATE_EOF != 0)
}

/// The answer to an AuthSwitchRequest; `None` when it asks for another plugin than the native one.
#[must_use]
pub fn answer_auth_switch(payload: &[u8], sequence: u8, password: &str) -> Option<Vec<u8>> {
    let (plugin, data) = until_nul(payload.get(1..)?)?;
    let salt = data.get(..20)?.try_into().ok()?;
    (plugin == NATIVE.as_bytes()).then(|| framed(sequence.wrapping_add(1), &native_scramble(&salt, password)))
}

/// A command in one frame.
#[must_use]
pub fn command(code: u8, argument: &[u8]) -> Vec<u8> {
    let mut payload = vec![code];
    payload.extend_from_slice(argument);
    framed(0, &payload)
}

/// SHA1(password) XOR SHA1(salt + SHA1(SHA1(password))); empty for an empty password.
fn native_scramble(salt: &[u8; 20], password: &str) -> Vec<u8> {
    if password.is_empty() {
        return vec![];
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(salt).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + payload.len());
    put_frame(&mut out, sequence, payload);
    out
}

fn eof() -> [u8; 5] {
    [0xfe, 0, 0, AUTOCOMMIT as u8, 0]
}

/// Protocol::ColumnDefinition41 of a string.
fn column(name: &[u8]) -> Vec<u8> {
    let mut payload = b"\x03def\0\0\0".to_vec();
    payload.push(name.len() as u8);
    payload.extend_from_slice(name);
    payload.extend_from_slice(&[0, 12, UTF8MB4, 0]);
    payload.extend_from_slice(&1024_u32.to_le_bytes());
    payload.extend_from_slice(&[VAR_STRING, 0, 0, 0x27, 0, 0]);
    payload
}

/// A length-encoded string of `length` letters.
fn text(length: usize) -> Vec<u8> {
    let mut out = match length {
        0..=250 => vec![length as u8],
        251..=0xffff => vec![0xfc, length as u8, (length >> 8) as u8],
        _ => vec![0xfd, length as u8, (length >> 8) as u8, (length >> 16) as u8],
    };
    out.resize(out.len() + length, b'x');
    out
}

fn until_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        let bytes = greeting(7, false);
        let (sequence, payload, length) = take_frame(&bytes).unwrap();
        assert_eq!((sequence, length), (0, bytes.len()));
        assert_eq!(read_greeting(payload), Some(Greeting { capabilities: SERVER_CAPABILITIES, salt: *SALT }));
        assert_eq!(read_greeting(&payload[..40]), None);
        assert!(!read_greeting(payload).unwrap().offers_tls());
        assert!(read_greeting(&greeting(7, true)[4..]).unwrap().offers_tls());
    }

    #[test]
    fn tls_is_asked_for_ahead_of_a_login() {
        let greeting = read_greeting(&greeting(7, true)[4..]).unwrap();
        let (bytes, _) = login(&greeting, "bench", "secret", true);
        let request = ssl_request(&bytes);
        let (sequence, payload, _) = take_frame(&request).unwrap();
        assert!(sequence == 1 && is_ssl_request(payload));
        let (sequence, payload, _) = take_frame(&bytes).unwrap();
        assert!(sequence == 2 && !is_ssl_request(payload) && read_login(payload).is_some());
        let (plain, _) = login(&greeting, "bench", "secret", false);
        assert!(!is_ssl_request(&plain[4..36]), "who asks for none");
    }

    #[test]
    fn a_login_is_read_as_it_was_written() {
        let greeting = Greeting { capabilities: SERVER_CAPABILITIES, salt: *SALT };
        let (bytes, deprecate_eof) = login(&greeting, "bench", "secret", false);
        let (_, payload, _) = take_frame(&bytes).unwrap();
        assert!(deprecate_eof);
        assert_eq!(read_login(payload), Some(Login { deprecate_eof: true, foreign_plugin: false }));
        let mut foreign = payload.to_vec();
        let name = foreign.len() - NATIVE.len() - 1;
        foreign[name] = b'?';
        assert!(read_login(&foreign).unwrap().foreign_plugin);
        assert_eq!(read_login(&payload[..40]), None);
    }

    #[test]
    fn the_native_scramble_is_the_known_one() {
        let scramble = native_scramble(SALT, "secret");
        let hex: String = scramble.iter().map(|byte| format!("{byte:02x}")).collect();
        // Worked out with Python's hashlib.
        assert_eq!(hex, "8817c50fa779daef010ee7577825b0847df9842e");
    }

    #[test]
    fn a_result_set_has_the_size_asked_for() {
        for (eof, size, prepared) in [(true, 200, false), (false, 200, false), (true, 200, true)] {
            let bytes = result_set(eof, size, prepared);
            assert!(bytes.len().abs_diff(size) <= 2, "{} for {size}", bytes.len());
        }
    }
}
