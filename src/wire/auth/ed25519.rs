//! MariaDB's plugin `client_ed25519`: the client signs the server's nonce with a key that is made of the password.
//!
//! Source: the MariaDB page "Authentication Plugin - ed25519". The secret key is SHA512(password), in the expanded form of RFC 8032, so
//! what signs is that form and not a seed. Whoever knows the password can sign, and can tell whether somebody else did.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Sha512, Signature, VerifyingKey};
use sha2::Digest;
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub const NONCE: usize = 32;
/// Bytes of an answer to one.
pub const SIGNATURE: usize = 64;

/// The answer to a nonce.
pub fn sign(password: &str, nonce: &[u8; NONCE]) -> [u8; SIGNATURE] {
    let (secret, public) = keys(password);
    raw_sign::<Sha512>(&secret, nonce, &public).to_bytes()
}

/// Whether an answer to a nonce is of somebody who knows the password.
pub fn verify(password: &str, nonce: &[u8; NONCE], answer: &[u8]) -> bool {
    let (_, public) = keys(password);
    Signature::from_slice(answer).is_ok_and(|signature| public.verify_strict(nonce, &signature).is_ok())
}

fn keys(password: &str) -> (ExpandedSecretKey, VerifyingKey) {
    let expanded: Zeroizing<[u8; 64]> = Zeroizing::new(sha2::Sha512::digest(password.as_bytes()).into());
    let secret = ExpandedSecretKey::from_bytes(&expanded);
    let public = VerifyingKey::from(&secret);
    (secret, public)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the page says that an account with the password `secret` stores, there in base 64.
    #[test]
    fn the_public_key_is_what_mariadb_stores() {
        let (_, public) = keys("secret");
        let hex: String = public.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "648814444520e4f56043a2ec9215e63be7992d2d270bc6dee873e36164786096");
    }

    proptest! {
        #[test]
        fn only_the_password_signs(password: String, other: String, nonce: [u8; NONCE], flip in 0usize..512) {
            let mut answer = sign(&password, &nonce);
            prop_assert!(verify(&password, &nonce, &answer));
            prop_assert_eq!(verify(&other, &nonce, &answer), other == password);
            prop_assert!(!verify(&password, &nonce, &answer[1..]));
            answer[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!verify(&password, &nonce, &answer));
        }
    }
}
