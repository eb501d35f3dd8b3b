//! Passwords of `caching_sha2_password` on connections on which somebody may read along: encrypted by the server's RSA key.
//!
//! Source: the MySQL page "Caching SHA-2 information", and its server, which takes the password with a NUL behind it, XORed with the
//! salt over and over, in OAEP with SHA-1. The salt keeps an answer from being used again. Who believes a key that comes over the very
//! connection is not safe from somebody in between, only from listeners; whether to do so is not decided here.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use zeroize::Zeroizing;

use super::super::greeting::SALT;

/// What a PEM file calls a public key, and a private one in PKCS #8.
const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";

/// Bytes of the longest key as its owner shows it; one of 16,384 bits has less.
pub const PEM_MAX: usize = 4 << 10;

/// Why a key or what it encrypted is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    #[error("it is no key in PEM")]
    NoPem,
    #[error("it is no private key in PKCS #8 (openssl pkcs8 -topk8 -nocrypt makes one of another)")]
    NotPkcs8,
    #[error("it is no RSA key that can be used")]
    Unfit,
    #[error("the password is too long for it")]
    TooLong,
    #[error("what was encrypted by it cannot be read")]
    Unreadable,
    #[error("no key could be made")]
    NotMade,
}

/// The key of a server.
pub struct ServerKey {
    private: OaepPrivateDecryptingKey,
    /// The public half, as clients are shown it.
    public: String,
}

impl ServerKey {
    /// Makes one of 2048 bits. Takes some tenths of a second.
    ///
    /// # Errors
    /// [`RsaError::NotMade`].
    pub fn generate() -> Result<Self, RsaError> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| RsaError::NotMade)?;
        Self::new(key)
    }

    /// Of a private key in PEM.
    ///
    /// # Errors
    /// It is none in PKCS #8.
    pub fn read(pem: &[u8]) -> Result<Self, RsaError> {
        let pem = pem::parse(pem).map_err(|_| RsaError::NoPem)?;
        if pem.tag() != PRIVATE {
            return Err(RsaError::NotPkcs8);
        }
        let key = PrivateDecryptingKey::from_pkcs8(pem.contents()).map_err(|_| RsaError::Unfit)?;
        Self::new(key)
    }

    /// The public half in PEM, for clients.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The password in a client's answer to a salt.
    ///
    /// # Errors
    /// [`RsaError::Unreadable`].
    pub fn decrypt(&self, answer: &[u8], salt: &[u8; SALT]) -> Result<Zeroizing<Vec<u8>>, RsaError> {
        let mut room = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let plain = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, answer, &mut room, None);
        let plain = plain.map_err(|_| RsaError::Unreadable)?;
        mix(plain, salt);
        let password = plain.strip_suffix(b"\0").ok_or(RsaError::Unreadable)?;
        Ok(Zeroizing::new(password.to_vec()))
    }

    fn new(key: PrivateDecryptingKey) -> Result<Self, RsaError> {
        let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| RsaError::Unfit)?;
        let public = pem::encode_config(
            &pem::Pem::new(PUBLIC, public.as_ref()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        );
        Ok(Self { private: OaepPrivateDecryptingKey::new(key).map_err(|_| RsaError::Unfit)?, public })
    }
}

impl PartialEq for ServerKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

/// The answer to a server that has shown its public key in PEM.
///
/// # Errors
/// The key is none, or too short for the password.
pub fn encrypt(password: &[u8], salt: &[u8; SALT], pem: &[u8]) -> Result<Vec<u8>, RsaError> {
    if pem.len() > PEM_MAX {
        return Err(RsaError::NoPem);
    }
    let pem = pem::parse(pem).ok().filter(|pem| pem.tag() == PUBLIC).ok_or(RsaError::NoPem)?;
    let key =
        PublicEncryptingKey::from_der(pem.contents()).and_then(|key| Ok(OaepPublicEncryptingKey::new(key)?));
    let key = key.map_err(|_| RsaError::Unfit)?;
    let mut plain = Zeroizing::new([password, b"\0"].concat());
    if plain.len() > key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1) {
        return Err(RsaError::TooLong);
    }
    mix(&mut plain, salt);
    let mut room = vec![0; key.ciphertext_size()];
    let answer = key.encrypt(&OAEP_SHA1_MGF1SHA1, &plain, &mut room, None);
    answer.map(|answer| answer.to_vec()).map_err(|_| RsaError::Unfit)
}

fn mix(text: &mut [u8], salt: &[u8; SALT]) {
    text.iter_mut().zip(salt.iter().cycle()).for_each(|(byte, salt)| *byte ^= salt);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT_HERE: &[u8; SALT] = b"abcdefghijklmnopqrst";

    #[test]
    fn what_a_client_encrypts_the_server_reads() {
        let key = ServerKey::generate().unwrap();
        let public = key.public().as_bytes();
        assert!(public.starts_with(b"-----BEGIN PUBLIC KEY-----\n"), "{}", key.public());
        for password in ["", "secret", "p\u{e4}ssw\u{f6}rd", &"long".repeat(53)] {
            let answer = encrypt(password.as_bytes(), SALT_HERE, public).unwrap();
            assert_eq!(answer.len(), 256);
            assert_eq!(key.decrypt(&answer, SALT_HERE).unwrap()[..], *password.as_bytes());
        }
        assert_eq!(encrypt(&[b'x'; 214], SALT_HERE, public), Err(RsaError::TooLong));
        let answer = encrypt(b"secret", SALT_HERE, public).unwrap();
        let of_another_salt = key.decrypt(&answer, b"ABCDEFGHIJKLMNOPQRST");
        assert!(of_another_salt.is_err(), "not even the NUL is one");
        for noise in [&b""[..], &[7; 20], &[7; 256], &answer[1..]] {
            assert_eq!(key.decrypt(noise, SALT_HERE).unwrap_err(), RsaError::Unreadable);
        }
    }

    #[test]
    fn keys_are_read_and_others_are_refused() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let pem = pair.serialize_pem();
        let key = ServerKey::read(pem.as_bytes()).unwrap();
        let answer = encrypt(b"secret", SALT_HERE, pair.public_key_pem().as_bytes()).unwrap();
        assert_eq!(key.decrypt(&answer, SALT_HERE).unwrap()[..], *b"secret");
        let elliptic = rcgen::KeyPair::generate().unwrap();
        assert_eq!(ServerKey::read(elliptic.serialize_pem().as_bytes()).unwrap_err(), RsaError::Unfit);
        assert_eq!(ServerKey::read(pair.public_key_pem().as_bytes()).unwrap_err(), RsaError::NotPkcs8);
        assert_eq!(ServerKey::read(b"secret").unwrap_err(), RsaError::NoPem);
        assert_eq!(encrypt(b"x", SALT_HERE, pem.as_bytes()), Err(RsaError::NoPem));
        assert_eq!(encrypt(b"x", SALT_HERE, elliptic.public_key_pem().as_bytes()), Err(RsaError::Unfit));
        assert_eq!(encrypt(b"x", SALT_HERE, &[b'-'; PEM_MAX + 1]), Err(RsaError::NoPem));
    }
}
