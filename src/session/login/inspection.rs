//! A password that a CN took by `caching_sha2_password`, looked at by the hashes that the CNs' tables have of its user, in pieces.
//!
//! One hash after the other, but for those whose password is known: they are not of this one, or it would be a proof already. Where one is
//! of it, it is kept there ([`Sha2Secret::keep`]). A password that no hash is of waits for another reading of a table.

use std::fmt;
use std::sync::Arc;

use super::examiner::ROUNDS_AT_ONCE;
use crate::secret::Secret;
use crate::session::user::{Hashes, Sha2Secret};
use crate::wire::auth::sha2_crypt::Digestion;

pub struct Inspection {
    password: Secret,
    /// The hashes that are still to be looked at, the last one first.
    left: Vec<Arc<Sha2Secret>>,
    digestion: Option<(Arc<Sha2Secret>, Digestion)>,
}

impl Inspection {
    pub fn new(password: &Secret, hashes: &Hashes) -> Self {
        let left = hashes.sha2.iter().filter(|secret| secret.shown().is_none()).cloned().collect();
        Self { password: password.clone(), left, digestion: None }
    }

    /// Makes up to [`ROUNDS_AT_ONCE`] rounds more; the answer at the end: whether a hash is of the password.
    pub fn go_on(&mut self) -> Option<bool> {
        let Some((secret, mut digestion)) = self.digestion.take().or_else(|| self.begin()) else {
            return Some(false);
        };
        match digestion.go_on(ROUNDS_AT_ONCE) {
            Some(true) => {
                secret.keep(self.password.clone());
                return Some(true);
            }
            Some(false) => {}
            None => self.digestion = Some((secret, digestion)),
        }
        None
    }

    /// None where no hash is left, or the password is too long for any.
    fn begin(&mut self) -> Option<(Arc<Sha2Secret>, Digestion)> {
        let secret = self.left.pop()?;
        let digestion = secret.hash.begin(&self.password)?;
        Some((secret, digestion))
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspection(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::sha2_crypt::{Sha2Hash, tests::secret};

    fn hashes(of: &[Sha2Hash]) -> Hashes {
        let sha2 = of.iter().cloned().map(|hash| Arc::new(Sha2Secret::new(hash))).collect();
        Hashes { sha2, ..Hashes::default() }
    }

    fn other() -> Sha2Hash {
        Sha2Hash::read(format!("$A$005${}{}", "s".repeat(20), "d".repeat(43)).as_bytes()).unwrap()
    }

    /// The verdict, and in how many pieces it was made.
    fn verdict(password: &str, hashes: &Hashes) -> (bool, u32) {
        let (mut inspection, mut pieces) = (Inspection::new(&password.into(), hashes), 1);
        loop {
            match inspection.go_on() {
                Some(verdict) => return (verdict, pieces),
                None => pieces += 1,
            }
        }
    }

    fn shown(hashes: &Hashes) -> Vec<bool> {
        hashes.sha2.iter().map(|secret| secret.shown().is_some()).collect()
    }

    #[test]
    fn the_hash_that_is_of_the_password_keeps_it() {
        let table = hashes(&[secret(), other()]);
        assert_eq!(verdict("secret", &table), (true, 3 + 5), "5,000 rounds and 10,000, 2,000 at once");
        assert_eq!(shown(&table), [true, false]);
        assert_eq!(verdict("secret", &table), (false, 3 + 1), "that one is known");
    }

    #[test]
    fn others_keep_nothing() {
        let table = hashes(&[other(), secret()]);
        for wrong in ["Secret", "secret ", "x"] {
            assert_eq!(verdict(wrong, &table), (false, 3 + 5 + 1), "{wrong}");
        }
        assert_eq!(verdict(&"x".repeat(257), &table), (false, 1), "too long for any");
        assert_eq!(verdict("secret", &Hashes::default()), (false, 1));
        assert_eq!(shown(&table), [false, false]);
    }
}
