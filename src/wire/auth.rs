//! What passes between greeting and OK: plugin switches, plugin data, and the scrambles of two plugins.
//!
//! Sources: MySQL "Protocol::AuthSwitchRequest", "Protocol::AuthMoreData", "Native Authentication",
//! "Caching SHA-2 information"; MariaDB "Authentication plugins". [`Plugin`] lists those that corelane can speak by itself; others
//! (PAM's dialog, sha256) are only ever passed on, so nothing of them is computed here. Passwords are never kept or printed by this
//! page.

pub mod ed25519;
pub mod rsa;
pub mod sha2_crypt;

use bytes::BufMut;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::cursor::{Cursor, put_nul_terminated};
use super::greeting::SALT;
use super::{Error, Result};

pub const NATIVE: &str = "mysql_native_password";
pub const CACHING_SHA2: &str = "caching_sha2_password";
pub const SHA256: &str = "sha256_password";
pub const CLEAR: &str = "mysql_clear_password";
pub const ED25519: &str = "client_ed25519";
/// What the one-byte form of a switch means: the password hash of before MySQL 4.1.
pub const OLD: &str = "mysql_old_password";

/// A plugin that corelane can speak by itself, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    Native,
    CachingSha2,
    Ed25519,
    /// The password as it is.
    Clear,
}

impl Plugin {
    const ALL: [Self; 4] = [Self::Native, Self::CachingSha2, Self::Ed25519, Self::Clear];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => NATIVE,
            Self::CachingSha2 => CACHING_SHA2,
            Self::Ed25519 => ED25519,
            Self::Clear => CLEAR,
        }
    }

    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name().as_bytes() == name)
    }
}

/// First byte of an AuthMoreData.
pub const MORE_DATA: u8 = 0x01;
/// First byte of an AuthSwitchRequest.
pub const SWITCH: u8 = 0xfe;

/// The server knows the password by its fast hash, and goes on by itself with an OK.
pub const SHA2_FAST_OK: u8 = 0x03;
/// The server wants the password itself, over TLS or encrypted by its RSA key.
pub const SHA2_FULL: u8 = 0x04;

/// A client's wish for that key.
pub const SHA2_ASK_KEY: u8 = 0x02;

/// Bytes of an answer to a salt by `mysql_native_password`.
pub const NATIVE_SCRAMBLE: usize = 20;

/// SHA1(password): what answers any salt for an account of `mysql_native_password`.
pub type NativeKey = [u8; 20];
/// SHA1(SHA1(password)): what such an account stores.
pub type NativeHash = [u8; 20];

/// The server wants the client to log in with another plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitchRequest<'a> {
    pub plugin: &'a [u8],
    /// The plugin's first data: a salt and mostly a NUL after it.
    pub data: &'a [u8],
}

impl<'a> AuthSwitchRequest<'a> {
    /// Reads it; a lone header byte is the old form, without name and data.
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(SWITCH, "auth switch request")?;
        if cursor.is_empty() {
            return Ok(Self { plugin: OLD.as_bytes(), data: &[] });
        }
        let plugin = cursor.nul_terminated("plugin name")?;
        Ok(Self { plugin, data: cursor.rest() })
    }

    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u8(SWITCH);
        put_nul_terminated(out, self.plugin);
        out.put_slice(self.data);
    }

    /// The salt of a plugin that uses one of 20 bytes, or of 32.
    pub fn salt<const N: usize>(&self) -> Result<[u8; N]> {
        Cursor::new(self.data).array("salt")
    }
}

/// The salt that a client has been shown by this packet, if it is a request for a plugin with a salt of the greeting's length: a client
/// keeps it in the place of the greeting's.
pub fn salt_shown(packet: &[u8]) -> Option<[u8; SALT]> {
    let request = AuthSwitchRequest::read(packet).ok()?;
    let keeps = matches!(Plugin::named(request.plugin), Some(Plugin::Native | Plugin::CachingSha2));
    request.salt().ok().filter(|_| keeps)
}

/// Data of a plugin, from the server, behind the byte that keeps it apart from OK, ERR and switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMoreData<'a>(pub &'a [u8]);

impl<'a> AuthMoreData<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(MORE_DATA, "auth more data")?;
        Ok(Self(cursor.rest()))
    }

    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u8(MORE_DATA);
        out.put_slice(self.0);
    }
}

pub fn native_key(password: &str) -> NativeKey {
    Sha1::digest(password.as_bytes()).into()
}

pub fn native_hash(key: &NativeKey) -> NativeHash {
    Sha1::digest(key).into()
}

/// SHA1(password) XOR SHA1(salt, SHA1(SHA1(password))).
pub fn native_scramble(key: &NativeKey, salt: &[u8; SALT]) -> [u8; 20] {
    xor(key, &native_mask(&native_hash(key), salt))
}

/// Takes SHA1(password) out of a client's scramble; `None` when it is not of the password that the hash is
/// of.
pub fn recover_native_key(scramble: &[u8], salt: &[u8; SALT], hash: &NativeHash) -> Option<NativeKey> {
    let scramble: &[u8; 20] = scramble.try_into().ok()?;
    let key = xor(scramble, &native_mask(hash, salt));
    same(&native_hash(&key), hash).then_some(key)
}

/// SHA256(password) XOR SHA256(SHA256(SHA256(password)), salt).
pub fn caching_sha2_scramble(password: &str, salt: &[u8; SALT]) -> [u8; 32] {
    let key: [u8; 32] = Sha256::digest(password.as_bytes()).into();
    let hash = Sha256::digest(key);
    let mask: [u8; 32] = Sha256::new().chain_update(hash).chain_update(salt).finalize().into();
    xor(&key, &mask)
}

/// Whether an answer to a salt is of the password.
pub fn is_caching_sha2_scramble(answer: &[u8], password: &str, salt: &[u8; SALT]) -> bool {
    answer.try_into().is_ok_and(|answer| same(answer, &caching_sha2_scramble(password, salt)))
}

/// Reads the text form of a native hash: `*` and 40 hexadecimal digits.
pub fn parse_native_hash(text: &str) -> Result<NativeHash> {
    const FIELD: &str = "native hash";
    let digits = text.strip_prefix('*').unwrap_or(text).as_bytes();
    if digits.len() != 40 {
        return Err(Error::Unexpected { field: FIELD, expected: "40 digits", found: digits.len() as u64 });
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Ok(hash)
}

fn digit(byte: u8) -> Result<u8> {
    let wrong =
        Error::Unexpected { field: "native hash", expected: "a hexadecimal digit", found: byte.into() };
    char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or(wrong)
}

fn native_mask(hash: &NativeHash, salt: &[u8; SALT]) -> [u8; 20] {
    Sha1::new().chain_update(salt).chain_update(hash).finalize().into()
}

fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    std::array::from_fn(|at| a[at] ^ b[at])
}

/// Compares in a time that does not depend on where the two differ.
fn same<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MariaDB 10.11, password `secret`: the server's switch and the answer that it took.
    const SWITCHED: &[u8] = b"\xfemysql_native_password\0unH\\tR~F#uHIr&c?R]]<\0";
    const ANSWERED: &[u8] = b"\xe5\x9e\x1c\xf0\x01\xfc\xcc\xb7\x0bR>=\x85\xfe\x9b\xbf\x8aq\x95\xd2";
    /// MariaDB 10.11: an ed25519 account.
    const ED25519_SWITCH: &[u8] =
        b"\xfeclient_ed25519\0s9\xb4vWPz_\xa5\xf2MIn\x07Yx6\x06\xfe\xc3\x98\x1e@\xae\xe4\
        \xe8\xeb\x05\x8dMv^";

    #[test]
    fn a_client_keeps_the_salt_of_some_plugins() {
        let salt = *b"abcdefghijklmnopqrst";
        let shown = |plugin: &str, data: &[u8]| {
            let mut packet = Vec::new();
            AuthSwitchRequest { plugin: plugin.as_bytes(), data }.write(&mut packet);
            salt_shown(&packet)
        };
        for plugin in [NATIVE, CACHING_SHA2] {
            assert_eq!(shown(plugin, b"abcdefghijklmnopqrst\0"), Some(salt));
            assert_eq!(shown(plugin, b"abcdefg"), None);
        }
        assert_eq!(shown(ED25519, b"abcdefghijklmnopqrstuvwxyz012345"), None);
        assert_eq!((salt_shown(b"\x01\x04"), salt_shown(b"\xfe")), (None, None));
    }

    #[test]
    fn the_native_scramble_is_the_one_a_server_took() {
        let switch = AuthSwitchRequest::read(SWITCHED).unwrap();
        assert_eq!(switch.plugin, NATIVE.as_bytes());
        let key = native_key("secret");
        let salt = switch.salt().unwrap();
        assert_eq!(native_scramble(&key, &salt), ANSWERED);
        assert_eq!(recover_native_key(ANSWERED, &salt, &native_hash(&key)), Some(key));
        assert_eq!(recover_native_key(ANSWERED, &salt, &native_hash(&native_key("other"))), None);
        assert_eq!(recover_native_key(&ANSWERED[1..], &salt, &native_hash(&key)), None);
    }

    #[test]
    fn hashes_are_those_of_the_password_function() {
        let hash = native_hash(&native_key("secret"));
        assert_eq!(parse_native_hash("*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"), Ok(hash));
        assert_eq!(parse_native_hash("14e65567abdb5135d0cfd9a70b3032c179a49ee7"), Ok(hash));
        assert!(parse_native_hash("*14").is_err());
        assert!(parse_native_hash("*14E65567ABDB5135D0CFD9A70B3032C179A49EEx").is_err());
    }

    #[test]
    fn packets_are_written_as_they_were_read() {
        for bytes in [SWITCHED, ED25519_SWITCH] {
            let mut out = Vec::new();
            AuthSwitchRequest::read(bytes).unwrap().write(&mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(AuthSwitchRequest::read(ED25519_SWITCH).unwrap().data.len(), 32);
        assert_eq!(AuthSwitchRequest::read(&[SWITCH]).unwrap().plugin, OLD.as_bytes());
        let mut out = Vec::new();
        AuthMoreData(&[SHA2_FAST_OK]).write(&mut out);
        assert_eq!(AuthMoreData::read(&out), Ok(AuthMoreData(&[SHA2_FAST_OK])));
    }

    #[test]
    fn truncations_are_errors() {
        assert!(AuthSwitchRequest::read(b"").is_err());
        for cut in 2..SWITCHED.len() {
            let read = AuthSwitchRequest::read(&SWITCHED[..cut]).and_then(|switch| switch.salt::<SALT>());
            assert_eq!(read.is_ok(), cut >= SWITCHED.len() - 1, "cut at {cut}: only the NUL may be missing");
        }
        assert!(AuthMoreData::read(b"").is_err());
    }

    /// Computed by the formula of the page with another implementation of SHA-256.
    #[test]
    fn the_caching_sha2_scramble_follows_the_page() {
        let salt = *b"abcdefghijklmnopqrst";
        let scramble = caching_sha2_scramble("secret", &salt);
        assert_eq!(
            scramble,
            *b"\xc7\x6e\x28\x98\x61\x2a\x4c\xf0\x42\xc7\x7f\xa8\xc4\x70\x2c\x4c\
            \x64\xc0\xc2\xc5\x57\xc5\x3c\x4d\x75\x59\x5a\xaa\x6a\xba\xe8\x09"
        );
    }

    proptest! {
        #[test]
        fn the_key_comes_out_of_the_scramble(password: String, salt: [u8; SALT], flip in 0usize..160) {
            let key = native_key(&password);
            let mut scramble = native_scramble(&key, &salt);
            prop_assert_eq!(recover_native_key(&scramble, &salt, &native_hash(&key)), Some(key));
            scramble[flip / 8] ^= 1 << (flip % 8);
            prop_assert_eq!(recover_native_key(&scramble, &salt, &native_hash(&key)), None);
        }
    }
}
