//! What a login leaves behind by which corelane could log the same user in again, without its client.
//!
//! A user of the configuration leaves its [`Proof`]. A relayed login by `mysql_native_password` leaves the
//! salt that the CN gave and the answer that the CN took: a [`Witness`]. With the hash out of the CN's user
//! table the two give SHA1(password), whether the hash is known at once or learnt later, and a hash that is
//! wrong or old gives nothing. The CN has judged the login by then: no hash lets anybody in or keeps
//! anybody out, and how long the judgement took tells nothing of the hashes.
//!
//! Invariant: a proof from a witness is of the very password that the CN took.

use std::fmt;
use std::sync::Arc;

use super::{Credential, Proof, Replay};
use crate::wire::auth::{NATIVE_SCRAMBLE, NativeHash, recover_native_key};
use crate::wire::greeting::SALT;

/// A salt of a CN's, and the answer of the client's that this CN took.
#[derive(Clone, PartialEq, Eq)]
pub struct Witness {
    salt: [u8; SALT],
    scramble: [u8; NATIVE_SCRAMBLE],
}

impl Witness {
    /// None for an answer that holds no scramble: that of an empty password is empty, and proves nothing.
    pub fn new(salt: [u8; SALT], answer: &[u8]) -> Option<Self> {
        Some(Self { salt, scramble: answer.try_into().ok()? })
    }

    /// The proof, if one of `hashes` is of the password.
    pub fn proof(&self, hashes: &[NativeHash]) -> Option<Proof> {
        let keys = hashes.iter().map(|hash| recover_native_key(&self.scramble, &self.salt, hash));
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
    pub fn proof(&mut self, hashes: &[NativeHash]) -> Option<&Proof> {
        if let Self::Witnessed(witness) = self
            && let Some(proof) = witness.proof(hashes)
        {
            *self = Self::Proven(proof);
        }
        match self {
            Self::Proven(proof) => Some(proof),
            Self::Unknown | Self::Witnessed(_) | Self::Replayed(_) => None,
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
    use crate::wire::auth::{native_hash, native_key, native_scramble};

    #[test]
    fn a_witness_becomes_a_proof_when_its_hash_is_learnt() {
        let (salt, key, other) = (*b"abcdefghijklmnopqrst", native_key("secret"), native_key("other"));
        let witness = Witness::new(salt, &native_scramble(&key, &salt)).unwrap();
        let mut standing = Standing::Witnessed(witness);
        assert_eq!(standing.proof(&[]), None);
        assert_eq!(standing.proof(&[native_hash(&other)]), None, "a hash of before or after");
        let proof = Proof { native_key: Some(key.into()), password: None };
        assert_eq!(standing.proof(&[native_hash(&other), native_hash(&key)]), Some(&proof));
        assert_eq!(standing.proof(&[]), Some(&proof), "a proof stays one");
    }

    #[test]
    fn other_answers_are_no_witness() {
        for answer in [&b""[..], &[7; 19], &[7; 21], &[7; 32]] {
            assert_eq!(Witness::new([1; SALT], answer), None, "{} bytes", answer.len());
        }
        assert_eq!(Standing::Unknown.proof(&[[1; 20]]), None);
    }
}
