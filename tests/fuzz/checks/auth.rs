//! Any conversation of a login: a client's with the examiner, and a CN's and a client's with the login at a CN. Only who knows the password
//! is let in, and whoever knows it is; every conversation ends; and a password that was handed over in private goes nowhere else.
//!
//! Input: a byte whose lowest bit tells which of the two, two bytes of settings, then packets: a byte of kind, a byte of length, and as many
//! bytes. Packets are sent as they are or are those of a model, which knows the password as the input cannot.

#[path = "auth/client.rs"]
mod client;
#[path = "auth/cn.rs"]
mod cn;
#[path = "auth/examiner.rs"]
mod examiner;

use std::sync::{Arc, OnceLock};

use corelane::session::face::Face;
use corelane::session::login::ClientLogin;
use corelane::wire::auth::rsa::ServerKey;
use corelane::wire::auth::{CACHING_SHA2, CLEAR, ED25519, NATIVE, SHA256};
use corelane::wire::capability::Capabilities;
use corelane::wire::login::HandshakeResponse;

/// No input has it, so who sends it has been told it.
const PASSWORD: &str = "correct horse battery staple";

/// What clients name and CNs ask by.
const PLUGINS: [&str; 7] = [NATIVE, CACHING_SHA2, ED25519, CLEAR, SHA256, "dialog", "corelane_relay"];

/// Bytes of the longest packet that is not one that came in: a key.
const OWN_MAX: usize = 4 << 10;

pub fn check(data: &[u8]) {
    let [side, first, second, rest @ ..] = data else { return };
    let mut script = Script(rest);
    match side & 1 {
        0 => examiner::check(*first, *second, &mut script),
        _ => cn::check(*first, *second, &mut script),
    }
}

/// The packets of an input.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The next packet, with its kind.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [kind, length, rest @ ..] = self.0 else { return None };
        let (packet, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        self.0 = rest;
        Some((*kind, packet))
    }
}

/// The key of corelane, and of the CN.
fn key() -> &'static Arc<ServerKey> {
    static KEY: OnceLock<Arc<ServerKey>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(ServerKey::generate().expect("a key")))
}

/// A client's login that names a plugin, or is of a client that knows none, and sends this along.
fn login(plugin: Option<&str>, auth: &[u8], without: Capabilities) -> ClientLogin {
    let plugins = match plugin {
        Some(_) => Capabilities::PLUGIN_AUTH | Capabilities::PLUGIN_AUTH_LENENC_DATA,
        None => Capabilities::default(),
    };
    let spoken = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::LONG_PASSWORD;
    let response = HandshakeResponse {
        capabilities: (spoken | plugins) - without,
        max_packet: 1 << 24,
        charset: 45,
        user: b"dora",
        auth,
        database: None,
        plugin: plugin.map(str::as_bytes),
        attributes: None,
        zstd_level: None,
    };
    let mut packet = Vec::new();
    response.write(&mut packet).expect("a length of one byte");
    ClientLogin::read(&packet, &Face::default()).expect("it was written as it is read")
}

fn contains(packet: &[u8], secret: &str) -> bool {
    packet.windows(secret.len()).any(|bytes| bytes == secret.as_bytes())
}
