//! How corelane answers the plugin of a CN by itself, with what it knows of the user.
//!
//! Invariant: the password as it is goes only where nobody can read along, and encrypted only by a key that corelane was told to
//! believe. What it cannot answer ends the login, with the reason.

use super::{CnLoginError, CnStep, Proof};
use crate::wire::auth::rsa;
use crate::wire::auth::{
    AuthSwitchRequest, Plugin, SHA2_ASK_KEY, SHA2_FAST_OK, SHA2_FULL, caching_sha2_scramble, ed25519,
    native_scramble,
};
use crate::wire::greeting::SALT;

/// What may be said to a CN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Nobody can read along: there is TLS, or no network.
    pub private: bool,
    /// The public key that it shows may be believed.
    pub believes_key: bool,
}

/// Where the exchange of `caching_sha2_password` stands.
#[derive(Debug, Default)]
pub struct Prover {
    salt: Option<[u8; SALT]>,
    key_asked: bool,
}

impl Prover {
    /// Answers a CN that asks by a plugin.
    pub fn switch(
        &mut self,
        proof: &Proof,
        request: &AuthSwitchRequest<'_>,
        channel: Channel,
    ) -> Result<CnStep, CnLoginError> {
        let answer = match (Plugin::named(request.plugin), &proof.password) {
            (Some(Plugin::Native), _) => native_answer(proof, &request.salt()?),
            // An empty password is a lone NUL to this plugin.
            (Some(Plugin::CachingSha2), _) if proof.is_empty() => vec![0],
            (Some(Plugin::CachingSha2), Some(password)) => {
                let salt = request.salt()?;
                *self = Self { salt: Some(salt), key_asked: false };
                caching_sha2_scramble(password, &salt).to_vec()
            }
            (Some(Plugin::Ed25519), Some(password)) => ed25519::sign(password, &request.salt()?).to_vec(),
            (Some(Plugin::Clear), Some(password)) if channel.private => in_clear(password),
            (Some(Plugin::Clear), Some(_)) => return Err(CnLoginError::Unprotected),
            (Some(_), None) | (None, _) => return Err(cannot_prove(request.plugin)),
        };
        Ok(CnStep::ToCn(answer))
    }

    /// Answers what `caching_sha2_password` says further.
    pub fn data(&mut self, proof: &Proof, said: &[u8], channel: Channel) -> Result<CnStep, CnLoginError> {
        let cannot_prove = || cannot_prove(Plugin::CachingSha2.name().as_bytes());
        let (Some(salt), Some(password)) = (&self.salt, &proof.password) else { return Err(cannot_prove()) };
        match said {
            [SHA2_FAST_OK] => Ok(CnStep::Wait),
            [SHA2_FULL] if channel.private => Ok(CnStep::ToCn(in_clear(password))),
            [SHA2_FULL] if channel.believes_key => {
                self.key_asked = true;
                Ok(CnStep::ToCn(vec![SHA2_ASK_KEY]))
            }
            [SHA2_FULL] => Err(CnLoginError::NoKey),
            pem if std::mem::take(&mut self.key_asked) => {
                Ok(CnStep::ToCn(rsa::encrypt(password.as_bytes(), salt, pem).map_err(CnLoginError::BadKey)?))
            }
            _ => Err(cannot_prove()),
        }
    }
}

pub fn native_answer(proof: &Proof, salt: &[u8; SALT]) -> Vec<u8> {
    proof.native_key.as_ref().map_or_else(Vec::new, |key| native_scramble(key, salt).to_vec())
}

fn in_clear(password: &str) -> Vec<u8> {
    [password.as_bytes(), b"\0"].concat()
}

fn cannot_prove(plugin: &[u8]) -> CnLoginError {
    CnLoginError::CannotProve { plugin: String::from_utf8_lossy(plugin).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::wire::auth::rsa::ServerKey;
    use crate::wire::auth::{CACHING_SHA2, CLEAR, ED25519, native_key};

    const SALT_THERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
    const OPEN: Channel = Channel { private: false, believes_key: false };
    const BELIEVING: Channel = Channel { private: false, believes_key: true };
    const PRIVATE: Channel = Channel { private: true, believes_key: false };

    fn proof(known: bool) -> Proof {
        let password = known.then(|| Secret::from("secret"));
        Proof { native_key: Some(native_key("secret").into()), password }
    }

    fn switch(proof: &Proof, plugin: &str, data: &[u8], channel: Channel) -> Result<CnStep, CnLoginError> {
        Prover::default().switch(proof, &AuthSwitchRequest { plugin: plugin.as_bytes(), data }, channel)
    }

    fn asked(channel: Channel) -> Prover {
        let mut prover = Prover::default();
        let data = [&SALT_THERE[..], b"\0"].concat();
        let request = AuthSwitchRequest { plugin: CACHING_SHA2.as_bytes(), data: &data };
        let answer = caching_sha2_scramble("secret", SALT_THERE).to_vec();
        assert_eq!(prover.switch(&proof(true), &request, channel), Ok(CnStep::ToCn(answer)));
        prover
    }

    #[test]
    fn a_password_answers_every_plugin_and_a_hash_only_its_own() {
        let nonce = b"abcdefghijklmnopqrstuvwxyz012345";
        let signed = ed25519::sign("secret", nonce).to_vec();
        assert_eq!(switch(&proof(true), ED25519, nonce, OPEN), Ok(CnStep::ToCn(signed)));
        assert_eq!(switch(&proof(true), CLEAR, b"", PRIVATE), Ok(CnStep::ToCn(b"secret\0".to_vec())));
        assert_eq!(switch(&proof(true), CLEAR, b"", BELIEVING), Err(CnLoginError::Unprotected));
        assert!(matches!(switch(&proof(true), ED25519, b"short", OPEN), Err(CnLoginError::Wire(_))));
        for plugin in [ED25519, CLEAR, CACHING_SHA2, "dialog"] {
            let refused = CnLoginError::CannotProve { plugin: plugin.to_owned() };
            assert_eq!(switch(&proof(false), plugin, nonce, PRIVATE), Err(refused));
        }
    }

    #[test]
    fn the_password_goes_only_where_it_is_safe() {
        let full = [SHA2_FULL];
        assert_eq!(asked(OPEN).data(&proof(true), &[SHA2_FAST_OK], OPEN), Ok(CnStep::Wait));
        assert_eq!(asked(OPEN).data(&proof(true), &full, OPEN), Err(CnLoginError::NoKey));
        let clear = CnStep::ToCn(b"secret\0".to_vec());
        assert_eq!(asked(PRIVATE).data(&proof(true), &full, PRIVATE), Ok(clear));
        let key = ServerKey::generate().unwrap();
        let mut prover = asked(BELIEVING);
        assert_eq!(prover.data(&proof(true), &full, BELIEVING), Ok(CnStep::ToCn(vec![SHA2_ASK_KEY])));
        let answer = prover.data(&proof(true), key.public().as_bytes(), BELIEVING);
        let Ok(CnStep::ToCn(answer)) = answer else { panic!("{answer:?}") };
        assert_eq!(key.decrypt(&answer, SALT_THERE).unwrap()[..], *b"secret");
        let again = prover.data(&proof(true), key.public().as_bytes(), BELIEVING);
        assert!(matches!(again, Err(CnLoginError::CannotProve { .. })), "it was not asked for");
        let mut lied_to = asked(BELIEVING);
        assert_eq!(lied_to.data(&proof(true), &full, BELIEVING), Ok(CnStep::ToCn(vec![SHA2_ASK_KEY])));
        assert!(matches!(lied_to.data(&proof(true), b"no key", BELIEVING), Err(CnLoginError::BadKey(_))));
    }
}
