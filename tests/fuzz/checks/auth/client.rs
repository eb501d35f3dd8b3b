//! A client that does as the plugins have it: it follows what it is told, and makes its answers of a password.

use corelane::wire::auth::rsa;
use corelane::wire::auth::{
    AuthSwitchRequest, CACHING_SHA2, CLEAR, ED25519, MORE_DATA, NATIVE, SHA2_ASK_KEY, SHA2_FULL, SHA256,
    SWITCH, caching_sha2_scramble, ed25519, native_key, native_scramble,
};
use corelane::wire::greeting::SALT;

pub struct Client {
    plugin: String,
    salt: Vec<u8>,
    /// It has TLS, or a Unix socket.
    pub private: bool,
    has_tls: bool,
    stage: Stage,
}

enum Stage {
    Salt,
    /// `caching_sha2_password` wants the password itself.
    Password,
    /// And shows a key, or what is to be one.
    Key(Vec<u8>),
}

impl Client {
    pub fn new(plugin: &str, salt: &[u8], has_tls: bool, local: bool) -> Self {
        let private = has_tls || local;
        Self { plugin: plugin.to_owned(), salt: salt.to_vec(), private, has_tls, stage: Stage::Salt }
    }

    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// A packet of the server's. The byte before a plugin's data is there only where the data needs it.
    pub fn hears(&mut self, packet: &[u8]) {
        if packet.first() == Some(&SWITCH)
            && let Ok(request) = AuthSwitchRequest::read(packet)
        {
            self.plugin = String::from_utf8_lossy(request.plugin).into_owned();
            self.salt = request.data.to_vec();
            self.stage = Stage::Salt;
            return;
        }
        let data = packet.strip_prefix(&[MORE_DATA]).unwrap_or(packet);
        if self.plugin == CACHING_SHA2 {
            self.stage = match (&self.stage, data) {
                (_, [SHA2_FULL]) => Stage::Password,
                (Stage::Password, key) => Stage::Key(key.to_vec()),
                _ => Stage::Salt,
            };
        }
    }

    /// What it says now, if the password is this one.
    pub fn answer(&self, password: &str) -> Answer {
        let salt: Option<&[u8; SALT]> = self.salt.first_chunk();
        let clear = || Answer::Proof([password.as_bytes(), b"\0"].concat());
        match (self.plugin.as_str(), &self.stage, salt) {
            (CACHING_SHA2, Stage::Password, _) if self.private => clear(),
            (CACHING_SHA2, Stage::Password, _) => Answer::Step(vec![SHA2_ASK_KEY]),
            (CACHING_SHA2, Stage::Key(key), Some(salt)) => {
                rsa::encrypt(password.as_bytes(), salt, key).map_or(Answer::Step(Vec::new()), Answer::Proof)
            }
            (CACHING_SHA2, Stage::Salt, Some(salt)) => {
                Answer::Proof(caching_sha2_scramble(password, salt).to_vec())
            }
            (NATIVE, _, Some(salt)) => Answer::Proof(native_scramble(&native_key(password), salt).to_vec()),
            (ED25519, ..) => self.salt.first_chunk().map_or(Answer::Step(Vec::new()), |nonce| {
                Answer::Proof(ed25519::sign(password, nonce).to_vec())
            }),
            (SHA256, ..) if !self.has_tls => Answer::Step(vec![1]),
            (CLEAR | SHA256 | "dialog", ..) => clear(),
            _ => Answer::Step(Vec::new()),
        }
    }
}

pub enum Answer {
    /// It proves that the password is known.
    Proof(Vec<u8>),
    /// It does not, or not yet.
    Step(Vec<u8>),
}

impl Answer {
    pub fn packet(self) -> Vec<u8> {
        match self {
            Self::Proof(packet) | Self::Step(packet) => packet,
        }
    }
}
