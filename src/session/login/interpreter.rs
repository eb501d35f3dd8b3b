//! The full path of `caching_sha2_password` between a client and a CN, where corelane has a part in it: where one of the two can be
//! overheard and the other cannot, and where the password is wanted because a CN's table has a hash of it.
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
//! Where the password is wanted, a client whose leg is private is heard on its way; one that can be overheard is shown corelane's key in
//! the place of the CN's, if corelane has one and that of the CN is believed. And a private client is asked for it although the CN has
//! taken its answer by the fast path (`ask_too`), which costs a client nothing that a CN could not ask of it at any time. Then the CN hears
//! nothing of it. One that can be overheard is not asked: many cannot answer, and the CN has let it in.
//!
//! Invariant: a password that a client handed over in private is never sent to a CN where somebody may read along, but encrypted by a
//! key that corelane was told to believe.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::CnLoginError;
use super::cn::ClientChannel;
use super::prover::Channel;
use crate::secret::Secret;
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
    /// The CN need not hear it.
    Enough,
}

#[derive(Debug)]
pub struct Interpreter {
    /// The client's leg is private.
    private: bool,
    key: Option<Arc<ServerKey>>,
    /// The password is wanted.
    wants: bool,
    /// It, as long as it was the last that was asked for.
    heard: Option<Secret>,
    /// Of the CN's last question by the plugin.
    salt: Option<[u8; SALT]>,
    /// What is waited for.
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    Nothing,
    /// The client's password: as it is from a private client, else encrypted, perhaps after a wish for the key.
    Password([u8; SALT], Awaits),
    /// The CN's key.
    Key([u8; SALT], Zeroizing<Vec<u8>>),
}

/// What the CN waits for meanwhile.
#[derive(Clone, Copy, Debug)]
enum Awaits {
    /// The password as it is.
    Clear,
    /// It, encrypted by the CN's key.
    Encrypted,
    /// Nothing more.
    Nothing,
}

impl Interpreter {
    pub fn new(client: ClientChannel, wants: bool) -> Self {
        let private = client.has_tls || client.local;
        Self { private, key: client.key, wants, heard: None, salt: None, waits: Waits::Nothing }
    }

    /// The password, if the client has shown it and the CN has asked for nothing since.
    pub fn heard(&self) -> Option<&Secret> {
        self.heard.as_ref()
    }

    /// The CN asks by a plugin.
    pub fn switch(&mut self, request: &AuthSwitchRequest<'_>) {
        self.salt = request.salt().ok().filter(|_| request.plugin == CACHING_SHA2.as_bytes());
        (self.waits, self.heard) = (Waits::Nothing, None);
    }

    /// What asks the client for its password although the CN has enough, if it is to be asked.
    pub fn ask_too(&mut self) -> Option<Vec<u8>> {
        let salt = self.salt.filter(|_| self.wants && self.private)?;
        self.waits = Waits::Password(salt, Awaits::Nothing);
        let mut packet = Vec::with_capacity(2);
        AuthMoreData(&[SHA2_FULL]).write(&mut packet);
        Some(packet)
    }

    /// Data of the CN's plugin; empty if it is another one.
    ///
    /// # Errors
    /// The password must not go on: [`CnLoginError::NoKey`], or cannot, [`CnLoginError::BadKey`].
    pub fn cn_says(&mut self, said: &[u8], cn: Channel) -> Result<Heard, CnLoginError> {
        if let Waits::Key(salt, password) = std::mem::replace(&mut self.waits, Waits::Nothing) {
            let answer = rsa::encrypt(&password, &salt, said).map_err(CnLoginError::BadKey)?;
            return Ok(Heard::ToCn(answer));
        }
        self.heard = None;
        if let Some(salt) = self.salt.filter(|_| said == [SHA2_FULL]) {
            let awaits = match (self.private, cn.private, &self.key) {
                (true, false, _) if !cn.believes_key => return Err(CnLoginError::NoKey),
                (true, false, _) => Some(Awaits::Encrypted),
                // Without a key the client is told that it needs TLS, by its own library.
                (false, true, key) => key.as_ref().map(|_| Awaits::Clear),
                (true, true, _) => self.wants.then_some(Awaits::Clear),
                (false, false, key) => {
                    let hears = self.wants && cn.believes_key;
                    key.as_ref().filter(|_| hears).map(|_| Awaits::Encrypted)
                }
            };
            self.waits = awaits.map_or(Waits::Nothing, |awaits| Waits::Password(salt, awaits));
        }
        Ok(Heard::Pass)
    }

    /// A packet of the client's. One that cannot be read passes as it is: the CN denies it in its own words.
    pub fn client_says(&mut self, packet: &[u8]) -> Heard {
        let Waits::Password(salt, awaits) = std::mem::replace(&mut self.waits, Waits::Nothing) else {
            return Heard::Pass;
        };
        let password = match self.key.as_ref().filter(|_| !self.private) {
            None => Some(Zeroizing::new(packet.strip_suffix(b"\0").unwrap_or(packet).to_vec())),
            Some(key) if packet == [SHA2_ASK_KEY] => {
                let mut shown = Vec::with_capacity(key.public().len() + 1);
                AuthMoreData(key.public().as_bytes()).write(&mut shown);
                self.waits = Waits::Password(salt, awaits);
                return Heard::ToClient(shown);
            }
            Some(key) => key.decrypt(packet, &salt).ok(),
        };
        if let Some(text) = password.as_ref().and_then(|password| std::str::from_utf8(password).ok()) {
            self.heard = (self.wants && !text.is_empty()).then(|| text.into());
        }
        match (awaits, password) {
            (Awaits::Nothing, _) => Heard::Enough,
            (_, None) => Heard::Pass,
            (Awaits::Clear, Some(_)) if self.private => Heard::Pass,
            (Awaits::Clear, Some(password)) => Heard::ToCn([&password[..], b"\0"].concat()),
            (Awaits::Encrypted, Some(password)) => {
                self.waits = Waits::Key(salt, password);
                Heard::ToCn(vec![SHA2_ASK_KEY])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::SHA2_FAST_OK;

    const SALT_THERE: &[u8; SALT] = b"abcdefghijklmnopqrst";

    fn interpreter(private: bool, key: Option<&Arc<ServerKey>>) -> Interpreter {
        asked(private, key, false)
    }

    /// One that wants the password.
    fn wanting(private: bool, key: Option<&Arc<ServerKey>>) -> Interpreter {
        asked(private, key, true)
    }

    fn asked(private: bool, key: Option<&Arc<ServerKey>>, wants: bool) -> Interpreter {
        let client = ClientChannel { has_tls: private, local: false, key: key.cloned() };
        let mut interpreter = Interpreter::new(client, wants);
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
        assert_eq!(wanting(true, None).cn_says(&[SHA2_FULL], cn(false, false)), Err(CnLoginError::NoKey));
    }

    const SECRET: Option<&str> = Some("secret");

    fn heard(interpreter: &Interpreter) -> Option<&str> {
        interpreter.heard().map(|password| &**password)
    }

    #[test]
    fn a_password_that_is_wanted_is_heard_on_its_way() {
        let key = Arc::new(ServerKey::generate().unwrap());
        let mut private = wanting(true, None);
        assert_eq!(private.cn_says(&[SHA2_FULL], cn(true, false)), Ok(Heard::Pass));
        assert_eq!((private.client_says(b"secret\0"), heard(&private)), (Heard::Pass, SECRET));
        assert_eq!(private.cn_says(b"", cn(true, false)), Ok(Heard::Pass));
        assert_eq!(heard(&private), None, "it wants something else");
        let mut trusting = wanting(true, None);
        assert_eq!(trusting.cn_says(&[SHA2_FULL], cn(false, true)), Ok(Heard::Pass));
        assert_eq!(trusting.client_says(b"secret\0"), Heard::ToCn(vec![SHA2_ASK_KEY]));
        assert!(trusting.cn_says(key.public().as_bytes(), cn(false, true)).is_ok());
        assert_eq!(heard(&trusting), SECRET);
        let encrypted = rsa::encrypt(b"secret", SALT_THERE, key.public().as_bytes()).unwrap();
        let mut open = wanting(false, Some(&key));
        assert_eq!(open.cn_says(&[SHA2_FULL], cn(true, false)), Ok(Heard::Pass));
        assert_eq!(open.client_says(&encrypted), Heard::ToCn(b"secret\0".to_vec()));
        assert_eq!(heard(&open), SECRET);
        open.switch(&AuthSwitchRequest { plugin: b"dialog", data: &[1; 21] });
        assert_eq!(heard(&open), None, "another plugin is asked for");
        let mut unwanted = interpreter(false, Some(&key));
        assert_eq!(unwanted.cn_says(&[SHA2_FULL], cn(true, false)), Ok(Heard::Pass));
        assert_eq!(unwanted.client_says(&encrypted), Heard::ToCn(b"secret\0".to_vec()));
        assert_eq!(heard(&unwanted), None);
    }

    #[test]
    fn between_open_legs_it_is_heard_by_own_key_if_that_of_the_cn_is_believed() {
        let (own, theirs) =
            (Arc::new(ServerKey::generate().unwrap()), Arc::new(ServerKey::generate().unwrap()));
        let mut open = wanting(false, Some(&own));
        assert_eq!(open.cn_says(&[SHA2_FULL], cn(false, true)), Ok(Heard::Pass));
        let shown = [b"\x01", own.public().as_bytes()].concat();
        assert_eq!(open.client_says(&[SHA2_ASK_KEY]), Heard::ToClient(shown));
        let encrypted = rsa::encrypt(b"secret", SALT_THERE, own.public().as_bytes()).unwrap();
        assert_eq!(open.client_says(&encrypted), Heard::ToCn(vec![SHA2_ASK_KEY]));
        let Ok(Heard::ToCn(answer)) = open.cn_says(theirs.public().as_bytes(), cn(false, true)) else {
            panic!("not encrypted")
        };
        assert_eq!(theirs.decrypt(&answer, SALT_THERE).unwrap()[..], *b"secret");
        assert_eq!(heard(&open), SECRET);
        let mut has_theirs = wanting(false, Some(&own));
        assert_eq!(has_theirs.cn_says(&[SHA2_FULL], cn(false, true)), Ok(Heard::Pass));
        let encrypted = rsa::encrypt(b"secret", SALT_THERE, theirs.public().as_bytes()).unwrap();
        assert_eq!(has_theirs.client_says(&encrypted), Heard::Pass, "by the key of the CN, which it has");
        assert_eq!(heard(&has_theirs), None);
        for (key, believes) in [(Some(&own), false), (None, true)] {
            let mut other = wanting(false, key);
            assert_eq!(other.cn_says(&[SHA2_FULL], cn(false, believes)), Ok(Heard::Pass));
            assert_eq!(other.client_says(&[SHA2_ASK_KEY]), Heard::Pass, "the CN shows its key");
        }
    }

    #[test]
    fn a_private_client_is_asked_although_the_cn_has_enough() {
        let key = Arc::new(ServerKey::generate().unwrap());
        for (answer, password) in [(&b"secret\0"[..], SECRET), (b"\0", None), (b"", None), (b"\xff\0", None)]
        {
            let mut private = wanting(true, Some(&key));
            assert_eq!(private.ask_too(), Some(b"\x01\x04".to_vec()));
            assert_eq!((private.client_says(answer), heard(&private)), (Heard::Enough, password));
        }
        assert_eq!(wanting(false, Some(&key)).ask_too(), None, "it may not be able to answer");
        assert_eq!(interpreter(true, Some(&key)).ask_too(), None);
    }
}
