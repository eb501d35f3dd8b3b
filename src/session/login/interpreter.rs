//! The full path of `caching_sha2_password` between a client and a CN of which one can be overheard and the other cannot.
//!
//! The plugin hands the password over as it is where nobody can read along, and else encrypted by the server's RSA key. Each side goes
//! by its own leg. Where the legs differ, what one side sends is not what the other waits for:
//!
//! ```text
//! client        corelane                 CN
//!   |  <-- FULL ---|--- FULL --           |     both private, or neither: all passes as it is
//!   |  -- password or wish for the key -> |
//!
//!   |  <-- FULL --- FULL ---------------  |     the client can be overheard:
//!   |  -- wish ->  <- own key             |
//!   |  -- encrypted -> | -- password -->  |
//!
//!   |  <-- FULL --- FULL ---------------  |     the CN can be overheard:
//!   |  -- password -> | -- wish -------> |
//!   |                 | <- the CN's key   |
//!   |                 | -- encrypted -->  |
//! ```
//!
//! Invariant: a password that a client handed over in private is never sent to a CN where somebody may read along, but encrypted by a
//! key that corelane was told to believe.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::CnLoginError;
use super::cn::ClientChannel;
use super::prover::Channel;
use crate::wire::auth::rsa::{self, ServerKey};
use crate::wire::auth::{AuthMoreData, AuthSwitchRequest, CACHING_SHA2, SHA2_ASK_KEY, SHA2_FULL};
use crate::wire::greeting::SALT;

/// What to do with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// As if there were no interpreter.
    Pass,
    ToCn(Vec<u8>),
    ToClient(Vec<u8>),
}

#[derive(Debug)]
pub struct Interpreter {
    /// The client's leg is private.
    private: bool,
    key: Option<Arc<ServerKey>>,
    /// Of the CN's last question by the plugin.
    salt: Option<[u8; SALT]>,
    /// What is waited for.
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    Nothing,
    /// The client's password: as it is from a private client, else encrypted, perhaps after a wish for the key.
    Password([u8; SALT]),
    /// The CN's key.
    Key([u8; SALT], Zeroizing<Vec<u8>>),
}

impl Interpreter {
    pub fn new(client: ClientChannel) -> Self {
        Self { private: client.has_tls || client.local, key: client.key, salt: None, waits: Waits::Nothing }
    }

    /// The CN asks by a plugin.
    pub fn switch(&mut self, request: &AuthSwitchRequest<'_>) {
        self.salt = request.salt().ok().filter(|_| request.plugin == CACHING_SHA2.as_bytes());
        self.waits = Waits::Nothing;
    }

    /// Data of the CN's plugin; empty if it is another one.
    ///
    /// # Errors
    /// The password must not go on: [`CnLoginError::NoKey`], or cannot, [`CnLoginError::BadKey`].
    pub fn cn_says(&mut self, said: &[u8], cn: Channel) -> Result<Heard, CnLoginError> {
        match (std::mem::replace(&mut self.waits, Waits::Nothing), self.salt) {
            (Waits::Key(salt, password), _) => {
                let answer = rsa::encrypt(&password, &salt, said).map_err(CnLoginError::BadKey)?;
                Ok(Heard::ToCn(answer))
            }
            (_, Some(salt)) if said == [SHA2_FULL] && self.private != cn.private => {
                match (self.private, cn.believes_key, &self.key) {
                    (true, false, _) => return Err(CnLoginError::NoKey),
                    // The client is told that it needs TLS, by its own library.
                    (false, _, None) => {}
                    (true, true, _) | (false, _, Some(_)) => self.waits = Waits::Password(salt),
                }
                Ok(Heard::Pass)
            }
            _ => Ok(Heard::Pass),
        }
    }

    /// A packet of the client's. One that cannot be read passes as it is: the CN denies it in its own words.
    pub fn client_says(&mut self, packet: &[u8]) -> Heard {
        let Waits::Password(salt) = std::mem::replace(&mut self.waits, Waits::Nothing) else {
            return Heard::Pass;
        };
        let key = self.key.as_ref().filter(|_| !self.private);
        let Some(key) = key else {
            let password = packet.strip_suffix(b"\0").unwrap_or(packet);
            self.waits = Waits::Key(salt, Zeroizing::new(password.to_vec()));
            return Heard::ToCn(vec![SHA2_ASK_KEY]);
        };
        if packet == [SHA2_ASK_KEY] {
            let mut shown = Vec::with_capacity(key.public().len() + 1);
            AuthMoreData(key.public().as_bytes()).write(&mut shown);
            self.waits = Waits::Password(salt);
            return Heard::ToClient(shown);
        }
        key.decrypt(packet, &salt)
            .map_or(Heard::Pass, |password| Heard::ToCn([&password[..], b"\0"].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::SHA2_FAST_OK;

    const SALT_THERE: &[u8; SALT] = b"abcdefghijklmnopqrst";

    fn interpreter(private: bool, key: Option<&Arc<ServerKey>>) -> Interpreter {
        let mut interpreter =
            Interpreter::new(ClientChannel { has_tls: private, local: false, key: key.cloned() });
        let data = [&SALT_THERE[..], b"\0"].concat();
        interpreter.switch(&AuthSwitchRequest { plugin: CACHING_SHA2.as_bytes(), data: &data });
        interpreter
    }

    fn cn(private: bool, believes_key: bool) -> Channel {
        Channel { private, believes_key }
    }

    #[test]
    fn equal_legs_and_other_rounds_need_no_interpreter() {
        let key = Arc::new(ServerKey::generate().unwrap());
        for private in [false, true] {
            let mut interpreter = interpreter(private, Some(&key));
            for (said, answer) in [(&[SHA2_FAST_OK][..], &b""[..]), (&[SHA2_FULL], b"\x02"), (b"a key", b"x")]
            {
                assert_eq!(interpreter.cn_says(said, cn(private, false)), Ok(Heard::Pass));
                assert_eq!(interpreter.client_says(answer), Heard::Pass);
            }
        }
        let mut interpreter = interpreter(true, None);
        interpreter.switch(&AuthSwitchRequest { plugin: b"dialog", data: &[1; 21] });
        assert_eq!(interpreter.cn_says(&[SHA2_FULL], cn(false, false)), Ok(Heard::Pass), "of another plugin");
    }

    #[test]
    fn a_client_that_can_be_overheard_encrypts_for_corelane() {
        let key = Arc::new(ServerKey::generate().unwrap());
        let public = key.public().as_bytes();
        let encrypted = rsa::encrypt(b"secret", SALT_THERE, public).unwrap();
        for asks in [true, false] {
            let mut interpreter = interpreter(false, Some(&key));
            assert_eq!(interpreter.cn_says(&[SHA2_FULL], cn(true, false)), Ok(Heard::Pass));
            if asks {
                let shown = [b"\x01", public].concat();
                assert_eq!(interpreter.client_says(&[SHA2_ASK_KEY]), Heard::ToClient(shown));
            }
            assert_eq!(interpreter.client_says(&encrypted), Heard::ToCn(b"secret\0".to_vec()));
            assert_eq!(interpreter.client_says(b"more"), Heard::Pass);
        }
        let mut interpreter = interpreter(false, Some(&key));
        assert_eq!(interpreter.cn_says(&[SHA2_FULL], cn(true, false)), Ok(Heard::Pass));
        assert_eq!(interpreter.client_says(b"noise"), Heard::Pass, "for the CN to deny");
    }

    #[test]
    fn a_private_password_is_encrypted_for_a_cn_that_is_believed_and_for_no_other() {
        let key = Arc::new(ServerKey::generate().unwrap());
        let mut trusting = interpreter(true, None);
        assert_eq!(trusting.cn_says(&[SHA2_FULL], cn(false, true)), Ok(Heard::Pass));
        assert_eq!(trusting.client_says(b"secret\0"), Heard::ToCn(vec![SHA2_ASK_KEY]));
        let Ok(Heard::ToCn(answer)) = trusting.cn_says(key.public().as_bytes(), cn(false, true)) else {
            panic!("not encrypted")
        };
        assert_eq!(key.decrypt(&answer, SALT_THERE).unwrap()[..], *b"secret");
        let mut lied_to = interpreter(true, None);
        assert_eq!(lied_to.cn_says(&[SHA2_FULL], cn(false, true)), Ok(Heard::Pass));
        assert_eq!(lied_to.client_says(b"secret\0"), Heard::ToCn(vec![SHA2_ASK_KEY]));
        assert!(matches!(lied_to.cn_says(b"no key", cn(false, true)), Err(CnLoginError::BadKey(_))));
        let mut other = interpreter(true, None);
        assert_eq!(other.cn_says(&[SHA2_FULL], cn(false, false)), Err(CnLoginError::NoKey));
    }
}
