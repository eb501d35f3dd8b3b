//! What `caching_sha2_password` stores: `$A$`, thousands of rounds in hexadecimal, `$`, twenty bytes of salt, 43 characters of digest.
//!
//! Sources: MySQL "Caching SHA-2 Pluggable Authentication", and Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512". The digest is
//! that of SHA-crypt, whose salts however have sixteen bytes of an alphabet, so that libraries for it do not take MySQL's. Tested with
//! hashes of MySQL 9.7.
//!
//! A digest takes milliseconds, so it is made in pieces: whoever makes it does something else in between.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::same;

/// Bytes of the salt of a stored hash.
const SALT: usize = 20;
/// Characters of the digest.
const DIGEST: usize = 43;
const PREFIX: &[u8] = b"$A$";
/// Bytes of a hash as tables hold it.
pub const TEXT: usize = PREFIX.len() + 3 + 1 + SALT + DIGEST;
/// The fewest thousands of rounds that MySQL makes; the most are all that three digits can say.
const THOUSANDS_MIN: u32 = 5;
/// The longest password that MySQL takes for such an account, in bytes.
pub const PASSWORD_MAX: usize = 256;

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A stored hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha2Hash {
    rounds: u32,
    salt: [u8; SALT],
    digest: [u8; DIGEST],
}

impl Sha2Hash {
    /// Reads it as tables hold it. None for anything else.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (thousands, rest) = text.strip_prefix(PREFIX)?.split_at_checked(3)?;
        let thousands = u32::from_str_radix(std::str::from_utf8(thousands).ok()?, 16).ok()?;
        let (salt, digest) = rest.strip_prefix(b"$")?.split_first_chunk::<SALT>()?;
        let digest: [u8; DIGEST] = digest.try_into().ok()?;
        let is_right =
            thousands >= THOUSANDS_MIN && digest.iter().all(|character| ALPHABET.contains(character));
        is_right.then_some(Self { rounds: thousands * 1000, salt: *salt, digest })
    }

    /// Begins to look whether it is of a password. None for one that is too long for any.
    pub fn begin(&self, password: &str) -> Option<Digestion> {
        (password.len() <= PASSWORD_MAX).then(|| Digestion::new(self, password.as_bytes()))
    }
}

impl fmt::Debug for Sha2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha2Hash(..)")
    }
}

/// A digest that is being made.
pub struct Digestion {
    expected: [u8; DIGEST],
    rounds: u32,
    /// Rounds made.
    made: u32,
    state: Zeroizing<[u8; 32]>,
    /// As long as the password, and made of it.
    password: Zeroizing<Vec<u8>>,
    /// The same of the salt.
    salt: [u8; SALT],
}

impl Digestion {
    fn new(hash: &Sha2Hash, password: &[u8]) -> Self {
        let salt = &hash.salt;
        let mixed = Zeroizing::new(<[u8; 32]>::from(
            Sha256::new().chain_update(password).chain_update(salt).chain_update(password).finalize(),
        ));
        let mut first = Sha256::new().chain_update(password).chain_update(salt);
        first.update(&*repeated(&mixed, password.len()));
        let mut bits = password.len();
        while bits > 0 {
            first.update(if bits & 1 == 1 { &mixed[..] } else { password });
            bits >>= 1;
        }
        let state = Zeroizing::new(<[u8; 32]>::from(first.finalize()));
        let of_password = password.iter().fold(Sha256::new(), |digest, _| digest.chain_update(password));
        let of_password = Zeroizing::new(<[u8; 32]>::from(of_password.finalize()));
        let of_salt =
            (0..16 + u32::from(state[0])).fold(Sha256::new(), |digest, _| digest.chain_update(salt));
        let of_salt: [u8; 32] = of_salt.finalize().into();
        Self {
            expected: hash.digest,
            rounds: hash.rounds,
            made: 0,
            state,
            password: repeated(&of_password, password.len()),
            salt: *of_salt.first_chunk().expect("a digest is longer than a salt"),
        }
    }

    /// Makes up to `rounds` more; the answer when all are made: whether the hash is of the password.
    pub fn go_on(&mut self, rounds: u32) -> Option<bool> {
        let until = self.rounds.min(self.made.saturating_add(rounds));
        for round in self.made..until {
            let mut digest = Sha256::new();
            let is_odd = round & 1 == 1;
            digest.update(if is_odd { &self.password[..] } else { &self.state[..] });
            if !round.is_multiple_of(3) {
                digest.update(self.salt);
            }
            if !round.is_multiple_of(7) {
                digest.update(&*self.password);
            }
            digest.update(if is_odd { &self.state[..] } else { &self.password[..] });
            *self.state = digest.finalize().into();
        }
        self.made = until;
        (self.made == self.rounds).then(|| same(&encoded(&self.state), &self.expected))
    }
}

/// So many bytes of a digest that is said again and again.
fn repeated(digest: &[u8; 32], length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(digest.iter().copied().cycle().take(length).collect())
}

/// In the order and the alphabet of crypt.
fn encoded(digest: &[u8; 32]) -> [u8; DIGEST] {
    let mut text = [0; DIGEST];
    let mut places = text.iter_mut();
    let mut put = |bytes: [u8; 3], characters: usize| {
        let mut number = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for place in places.by_ref().take(characters) {
            *place = ALPHABET[(number & 63) as usize];
            number >>= 6;
        }
    };
    let (mut a, mut b, mut c) = (0, 10, 20);
    for _ in 0..10 {
        put([digest[a], digest[b], digest[c]], 4);
        (a, b, c) = ((c + 1) % 30, (a + 1) % 30, (b + 1) % 30);
    }
    put([0, digest[31], digest[30]], 3);
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// MySQL 9.7.4, which makes 10,000 rounds by itself: the password, and the column in hexadecimal.
    const STORED: [(&str, &str); 3] = [
        (
            "secret",
            "244124303041243F4C061F05433B401A4A7A353D7F5E43765A510E434C705866734A3343464A487558733269457761534755552F734\
             7536B6D744C786E5261465544466F6833",
        ),
        (
            "a password of more than thirty-two bytes, \u{e4} \u{f6} \u{fc} \u{20ac}uro and quite some more of it, so that it spans \
             two blocks",
            "244124303041246F7F79536C7A6D66571F6E574D53502F121A3533677731792E6454626E543155727577504876584F696A6C4368634\
             A736F474A494B43324549584D2F684E33",
        ),
        (
            "x",
            "2441243030412\
             42D0E2F7B6A4F2958467436781E16190D3F054678412F47474C453935542E79326E4B387530307A5549426B4B786D4C6644324A6752\
             72686B5A544C504C6533",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks_exact(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// The hash of `secret`.
    pub fn secret() -> Sha2Hash {
        Sha2Hash::read(&bytes(STORED[0].1)).unwrap()
    }

    fn is_of(hash: &Sha2Hash, password: &str, at_once: u32) -> bool {
        let mut digestion = hash.begin(password).unwrap();
        std::iter::repeat_with(|| digestion.go_on(at_once)).flatten().next().unwrap()
    }

    #[test]
    fn hashes_are_those_of_a_server() {
        for (password, hex) in STORED {
            let hash = Sha2Hash::read(&bytes(hex)).unwrap();
            assert_eq!(hash.rounds, 10_000);
            assert!(is_of(&hash, password, u32::MAX) && is_of(&hash, password, 999), "{password}");
            for wrong in ["", "Secret", "secret ", &password[1..]] {
                assert!(!is_of(&hash, wrong, u32::MAX), "{wrong}");
            }
        }
    }

    #[test]
    fn a_digest_is_made_in_pieces() {
        let mut digestion = secret().begin("secret").unwrap();
        let answers: Vec<_> = (0..5).map(|_| digestion.go_on(2000)).collect();
        assert_eq!(answers, [None, None, None, None, Some(true)]);
    }

    #[test]
    fn what_is_no_hash_is_not_read() {
        let right = bytes(STORED[0].1);
        assert_eq!(right.len(), TEXT);
        for (at, byte) in [(0, b'!'), (1, b'B'), (3, b'x'), (6, b'.'), (69, b'=')] {
            let mut wrong = right.clone();
            wrong[at] = byte;
            assert_eq!(Sha2Hash::read(&wrong), None, "{at}");
        }
        let few = [b"$A$004$", &right[7..]].concat();
        assert_eq!(
            (Sha2Hash::read(&few), Sha2Hash::read(&right[..69]), Sha2Hash::read(b"")),
            (None, None, None)
        );
        assert_eq!(Sha2Hash::read(&[&right[..], b"a"].concat()), None);
        let many = [b"$A$FFF$", &right[7..]].concat();
        assert_eq!(Sha2Hash::read(&many).unwrap().rounds, 4_095_000);
        assert!(
            secret().begin(&"x".repeat(PASSWORD_MAX)).is_some() && secret().begin(&"x".repeat(257)).is_none()
        );
        assert_eq!(format!("{:?}", secret()), "Sha2Hash(..)");
    }
}
