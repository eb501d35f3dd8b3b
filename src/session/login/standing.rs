//! What a login leaves behind by which corelane could log the same user in again, without its client.
//!
//! A user of the configuration leaves its [`Proof`]. A relayed login by `mysql_native_password` leaves the
//! salt that the CN gave and the answer that the CN took: a [`Witness`]. With the hash out of the CN's user
//! table the two give SHA1(password), whether the hash is known at once or learnt later, and a hash that is
//! wrong or old gives nothing. The CN has judged the login by then: no hash lets anybody in or keeps
//! anybody out, and how long the judgement took tells nothing of the hashes.
//!
//! One by `caching_sha2_password` leaves the password, where the client has shown it to corelane, which becomes a proof once it was
//! found to be what a hash of the table's is of; or the salt and the answer, which become one if somebody has shown that password.
//!
//! Invariant: a proof from a witness is of the very password that the CN took.

use std::fmt;
use std::sync::Arc;

use super::{Credential, Inspection, Proof, Replay};
use crate::secret::Secret;
use crate::session::user::{Hashes, Sha2Secret};
use crate::wire::auth::{NATIVE_SCRAMBLE, is_caching_sha2_scramble, recover_native_key};
use crate::wire::greeting::SALT;

/// What a CN took.
#[derive(Clone, PartialEq, Eq)]
pub enum Witness {
    /// A salt of its own, and the client's answer by `mysql_native_password`.
    Native { salt: [u8; SALT], scramble: [u8; NATIVE_SCRAMBLE] },
    /// The same by `caching_sha2_password`.
    Sha2 { salt: [u8; SALT], scramble: [u8; SHA2_SCRAMBLE] },
    /// The password, by that plugin.
    Password(Secret),
}

/// Bytes of an answer to a salt by `caching_sha2_password`.
const SHA2_SCRAMBLE: usize = 32;

impl Witness {
    /// None for an answer that holds no scramble: that of an empty password is empty, and proves nothing.
    pub fn native(salt: [u8; SALT], answer: &[u8]) -> Option<Self> {
        Some(Self::Native { salt, scramble: answer.try_into().ok()? })
    }

    /// The same; an empty password is a NUL.
    pub fn sha2(salt: [u8; SALT], answer: &[u8]) -> Option<Self> {
        Some(Self::Sha2 { salt, scramble: answer.try_into().ok()? })
    }

    /// Whether it is of this password, as far as can be seen at once.
    pub fn is_of(&self, password: &Secret) -> bool {
        match self {
            Self::Native { .. } => false,
            Self::Sha2 { salt, scramble } => is_caching_sha2_scramble(scramble, password, salt),
            Self::Password(own) => own == password,
        }
    }

    /// That of a password which somebody has shown.
    pub fn known_by(&self, secrets: &[Arc<Sha2Secret>]) -> Option<Secret> {
        secrets.iter().filter_map(|secret| secret.shown()).find(|password| self.is_of(password)).cloned()
    }

    /// The proof, if one of `hashes` is known to be of the password.
    pub fn proof(&self, hashes: &Hashes) -> Option<Proof> {
        let Self::Native { salt, scramble } = self else {
            return self.known_by(&hashes.sha2).map(|password| Proof::of(&password));
        };
        let keys = hashes.native.iter().map(|hash| recover_native_key(scramble, salt, hash));
        keys.flatten().next().map(|key| Proof { native_key: Some(key.into()), password: None })
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness(..)")
    }
}

/// Whether the user of a session can be logged in again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Only the client can.
    #[default]
    Unknown,
    /// With the right hash.
    Witnessed(Witness),
    Proven(Proof),
    /// At CNs that take a preamble.
    Replayed(Arc<Replay>),
}

impl Standing {
    /// What to log the user in with. `hashes` are those that the CNs' tables hold of it now; once one of them
    /// has fitted, none is needed any more.
    pub fn proof(&mut self, hashes: Option<&Hashes>) -> Option<&Proof> {
        if let Self::Witnessed(witness) = self
            && let Some(proof) = hashes.and_then(|hashes| witness.proof(hashes))
        {
            *self = Self::Proven(proof);
        }
        match self {
            Self::Proven(proof) => Some(proof),
            Self::Unknown | Self::Witnessed(_) | Self::Replayed(_) => None,
        }
    }

    /// Looks whether one of `hashes` is of the password that the CN took, if that is all that is missing for a proof.
    pub fn inspect(&self, hashes: &Hashes) -> Option<Inspection> {
        match self {
            Self::Witnessed(Witness::Password(password)) => Some(Inspection::new(password, hashes)),
            _ => None,
        }
    }

    /// What logs the user in again as things stand.
    pub fn credential(&self) -> Option<Credential> {
        match self {
            Self::Proven(proof) => Some(Credential::Proof(proof.clone())),
            Self::Replayed(replay) => Some(Credential::Replay(replay.clone())),
            Self::Unknown | Self::Witnessed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::sha2_crypt::tests::secret;
    use crate::wire::auth::{NativeHash, caching_sha2_scramble, native_hash, native_key, native_scramble};

    fn natives(hashes: &[NativeHash]) -> Hashes {
        Hashes { native: hashes.into(), ..Hashes::default() }
    }

    #[test]
    fn a_witness_becomes_a_proof_when_its_hash_is_learnt() {
        let (salt, key, other) = (*b"abcdefghijklmnopqrst", native_key("secret"), native_key("other"));
        let witness = Witness::native(salt, &native_scramble(&key, &salt)).unwrap();
        let mut standing = Standing::Witnessed(witness);
        assert_eq!(standing.proof(None), None);
        assert!(standing.inspect(&Hashes::default()).is_none());
        let before = natives(&[native_hash(&other)]);
        assert_eq!(standing.proof(Some(&before)), None, "a hash of before or after");
        let proof = Proof { native_key: Some(key.into()), password: None };
        let both = natives(&[native_hash(&other), native_hash(&key)]);
        assert_eq!(standing.proof(Some(&both)), Some(&proof));
        assert_eq!(standing.proof(None), Some(&proof), "a proof stays one");
    }

    #[test]
    fn a_password_is_a_proof_once_it_was_checked_and_then_so_are_answers_made_of_it() {
        let hashes = Hashes { sha2: [Arc::new(Sha2Secret::new(secret()))].into(), ..Hashes::default() };
        let salt = *b"abcdefghijklmnopqrst";
        let answered = |password: &str| Witness::sha2(salt, &caching_sha2_scramble(password, &salt)).unwrap();
        let shown = Standing::Witnessed(Witness::Password("secret".into()));
        let mut standings = [shown.clone(), Standing::Witnessed(answered("secret"))];
        for standing in &mut standings {
            assert_eq!(standing.proof(Some(&hashes)), None, "nobody has looked yet");
        }
        assert!(standings[1].inspect(&hashes).is_none());
        let mut inspection = shown.inspect(&hashes).unwrap();
        while inspection.go_on().is_none() {}
        for mut standing in standings {
            assert_eq!(standing.proof(Some(&natives(&[[1; 20]]))), None, "a hash of something else");
            assert_eq!(standing.proof(Some(&hashes)), Some(&Proof::of(&"secret".into())));
            assert!(standing.inspect(&hashes).is_none());
        }
        for other in [answered("Secret"), Witness::Password("Secret".into())] {
            assert_eq!(Standing::Witnessed(other).proof(Some(&hashes)), None);
        }
    }

    #[test]
    fn other_answers_are_no_witness() {
        for answer in [&b""[..], &[0], &[7; 19], &[7; 21], &[7; 31], &[7; 33]] {
            let witnesses = (Witness::native([1; SALT], answer), Witness::sha2([1; SALT], answer));
            assert_eq!(witnesses, (None, None), "{} bytes", answer.len());
        }
        assert_eq!(Standing::Unknown.proof(Some(&natives(&[[1; 20]]))), None);
    }
}
