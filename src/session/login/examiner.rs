//! The examination of a client who says that it is a known user: which plugin it is asked by, and whether its answers are right.
//!
//! The plugin is the one that the user's settings name; else the one that the client has named, if corelane can check the user by it;
//! else `mysql_native_password`. With the password corelane can check by any, and for `caching_sha2_password` its fast path always
//! suffices. With SHA1(SHA1(password)) it can by `mysql_native_password`, and by those that hand the password over:
//! `mysql_clear_password`, and `caching_sha2_password` on its full path. With what `caching_sha2_password` stores it can by these two
//! alone, and the fast path suffices once a client has shown the password.
//!
//! Invariant: a client that fails has been asked by a fresh salt once, as everybody is whom a CN asks, so who is known is not told
//! apart by that. Nobody is asked for a password as it is where somebody may read along.

use std::fmt;

use zeroize::Zeroizing;

use super::{ClientLogin, Proof};
use crate::secret::Secret;
use crate::session::refusal::Refusal;
use crate::session::user::KnownUser;
use crate::wire::auth::rsa::ServerKey;
use crate::wire::auth::sha2_crypt::Digestion;
use crate::wire::auth::{
    AuthMoreData, AuthSwitchRequest, Plugin, SHA2_ASK_KEY, SHA2_FAST_OK, SHA2_FULL, ed25519,
    is_caching_sha2_scramble, native_hash, recover_native_key,
};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::SALT;

/// Random bytes for a plugin: those with a shorter salt take the first of them.
pub type Nonce = [u8; ed25519::NONCE];

/// Bytes of the longest password that is looked at, as the configuration bounds them.
const PASSWORD_MAX: usize = 4096;

/// Who is examined, and where.
#[derive(Clone, Copy, Debug)]
pub struct Examiner<'a> {
    pub known: &'a KnownUser,
    /// For the words of a denial.
    pub user: &'a str,
    pub host: &'a str,
    /// Nobody can read along: there is TLS, or no network.
    pub private: bool,
    /// By which a password can be encrypted.
    pub key: Option<&'a ServerKey>,
}

/// Rounds of a hash that are made before others have their turn: some tenths of a millisecond where the CPU knows SHA-256.
pub const ROUNDS_AT_ONCE: u32 = 2000;

/// What comes of a client's packet.
#[derive(Debug)]
#[must_use]
pub enum ClientStep<'a> {
    /// It is the user. `say` is for the client, before all else.
    Verified {
        proof: Proof,
        say: Option<Vec<u8>>,
    },
    /// Send the packet to the client, and give its answer to `next`.
    Ask {
        packet: Vec<u8>,
        next: Question<'a>,
    },
    /// A password is looked at, which takes long: let others have their turn, then let it go on.
    Think(Thought<'a>),
    Refused(Refusal),
}

/// A password whose hash is being made.
pub struct Thought<'a> {
    examiner: Examiner<'a>,
    password: Secret,
    digestion: Digestion,
}

/// A question that the client has been asked.
pub struct Question<'a> {
    examiner: Examiner<'a>,
    asked: Asked,
}

enum Asked {
    /// To answer by a plugin.
    Answer(Plugin, Nonce),
    /// For the password by `caching_sha2_password`: as it is, or encrypted, perhaps after a wish for the key.
    Password([u8; SALT]),
    /// For the password, by the key that it has been shown.
    Encrypted([u8; SALT]),
}

impl<'a> Examiner<'a> {
    /// Looks at what a client has sent along with its login, whose salt was that of the greeting; `fresh` is for a question.
    pub fn begin(self, login: &ClientLogin, salt: &[u8; SALT], fresh: &Nonce) -> ClientStep<'a> {
        if !login.capabilities.has(Capabilities::SECURE_CONNECTION) {
            return ClientStep::Refused(Refusal::ClientTooOld);
        }
        let named = login.plugin().map_or(Some(Plugin::Native), Plugin::named);
        let usual = if self.known.sha2.is_some() { Plugin::CachingSha2 } else { Plugin::Native };
        let asked = self.known.plugin.or(named.filter(|plugin| self.can_ask(*plugin))).unwrap_or(usual);
        // A client of MySQL 8 whose own plugin is another one sends no auth data at all, so that data alone
        // does not tell an empty password.
        if named == Some(asked)
            && let Some(verified) = self.at_once(asked, login.auth(), salt)
        {
            return verified;
        }
        if let Err(refusal) = login.can_relay() {
            return ClientStep::Refused(refusal);
        }
        if asked == Plugin::Clear && !self.private {
            return ClientStep::Refused(Refusal::TlsRequired);
        }
        ClientStep::Ask { packet: request(asked, fresh), next: self.question(Asked::Answer(asked, *fresh)) }
    }

    /// Whether the user can be checked by the plugin.
    fn can_ask(&self, plugin: Plugin) -> bool {
        match plugin {
            Plugin::Native => self.known.sha2.is_none(),
            Plugin::CachingSha2 => self.known.password().is_some() || self.private || self.key.is_some(),
            Plugin::Ed25519 => self.known.password.is_some(),
            Plugin::Clear => self.private,
        }
    }

    /// What the salt of the greeting tells; none if that is not enough.
    fn at_once(self, plugin: Plugin, answer: &[u8], salt: &[u8; SALT]) -> Option<ClientStep<'a>> {
        let step = match plugin {
            Plugin::Native => self.native(answer, salt),
            Plugin::CachingSha2 if !answer.is_empty() && self.known.password().is_some() => {
                self.sha2(answer, salt)
            }
            _ => return None,
        };
        matches!(step, ClientStep::Verified { .. }).then_some(step)
    }

    fn native(self, answer: &[u8], salt: &[u8; SALT]) -> ClientStep<'a> {
        let key = match (&self.known.native_hash, answer) {
            (None, []) if self.known.is_open() => None,
            (Some(hash), scramble) => match recover_native_key(scramble, salt, hash) {
                Some(key) => Some(Zeroizing::new(key)),
                None => return self.denied(answer),
            },
            (None, _) => return self.denied(answer),
        };
        verified(Proof { native_key: key, password: self.known.password.clone() }, None)
    }

    fn sha2(self, answer: &[u8], salt: &[u8; SALT]) -> ClientStep<'a> {
        // An empty password is a lone NUL to this plugin.
        let empty = matches!(answer, [] | [0]);
        match self.known.password() {
            _ if empty && self.known.is_open() => verified(Proof::empty(), None),
            _ if empty => self.denied(b""),
            Some(password) if is_caching_sha2_scramble(answer, password, salt) => {
                verified(Proof::of(password), Some(more(&[SHA2_FAST_OK])))
            }
            None if self.private || self.key.is_some() => {
                ClientStep::Ask { packet: more(&[SHA2_FULL]), next: self.question(Asked::Password(*salt)) }
            }
            Some(_) | None => self.denied(answer),
        }
    }

    fn ed25519(self, answer: &[u8], nonce: &Nonce) -> ClientStep<'a> {
        match &self.known.password {
            Some(password) if ed25519::verify(password, nonce, answer) => verified(Proof::of(password), None),
            _ => self.denied(answer),
        }
    }

    /// The password as it is, with a NUL behind it.
    fn clear(self, answer: &[u8]) -> ClientStep<'a> {
        self.password(answer.strip_suffix(b"\0").unwrap_or(answer))
    }

    fn encrypted(self, answer: &[u8], salt: &[u8; SALT]) -> ClientStep<'a> {
        match self.key.map(|key| key.decrypt(answer, salt)) {
            Some(Ok(password)) => self.password(&password),
            Some(Err(_)) | None => self.denied(answer),
        }
    }

    /// That of a known user is text, and not longer than the configuration takes.
    fn password(self, password: &[u8]) -> ClientStep<'a> {
        let text = std::str::from_utf8(password).ok().filter(|text| text.len() <= PASSWORD_MAX);
        if let (Some(sha2), Some(text)) = (&self.known.sha2, text) {
            return match sha2.hash.begin(text) {
                Some(digestion) if !text.is_empty() => {
                    ClientStep::Think(Thought { examiner: self, password: Secret::from(text), digestion })
                }
                _ => self.denied(password),
            };
        }
        let proof = match text {
            Some("") => Proof::empty(),
            Some(password) => Proof::of(&Secret::from(password)),
            None => return self.denied(password),
        };
        let hash = proof.native_key.as_deref().map(native_hash);
        if hash == self.known.native_hash { verified(proof, None) } else { self.denied(password) }
    }

    fn question(self, asked: Asked) -> Question<'a> {
        Question { examiner: self, asked }
    }

    fn denied(&self, answer: &[u8]) -> ClientStep<'a> {
        let password = !matches!(answer, [] | [0]);
        let (user, host) = (self.user.to_owned(), self.host.to_owned());
        ClientStep::Refused(Refusal::AccessDenied { user, host, password })
    }
}

impl<'a> Thought<'a> {
    pub fn go_on(mut self) -> ClientStep<'a> {
        match self.digestion.go_on(ROUNDS_AT_ONCE) {
            None => ClientStep::Think(self),
            Some(false) => self.examiner.denied(self.password.as_bytes()),
            Some(true) => {
                if let Some(sha2) = &self.examiner.known.sha2 {
                    sha2.keep(self.password.clone());
                }
                verified(Proof::of(&self.password), None)
            }
        }
    }
}

impl fmt::Debug for Thought<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thought(..)")
    }
}

impl<'a> Question<'a> {
    /// Takes the client's answer.
    pub fn answer(self, answer: &[u8]) -> ClientStep<'a> {
        let Self { examiner, asked } = self;
        match asked {
            Asked::Answer(Plugin::Native, nonce) => examiner.native(answer, first(&nonce)),
            Asked::Answer(Plugin::CachingSha2, nonce) => examiner.sha2(answer, first(&nonce)),
            Asked::Answer(Plugin::Ed25519, nonce) => examiner.ed25519(answer, &nonce),
            Asked::Answer(Plugin::Clear, _) => examiner.clear(answer),
            Asked::Password(_) if examiner.private => examiner.clear(answer),
            Asked::Password(salt) => match (answer, examiner.key) {
                ([SHA2_ASK_KEY], Some(key)) => {
                    let next = examiner.question(Asked::Encrypted(salt));
                    ClientStep::Ask { packet: more(key.public().as_bytes()), next }
                }
                // It has the key already.
                _ => examiner.encrypted(answer, &salt),
            },
            Asked::Encrypted(salt) => examiner.encrypted(answer, &salt),
        }
    }
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question(..)")
    }
}

fn verified<'a>(proof: Proof, say: Option<Vec<u8>>) -> ClientStep<'a> {
    ClientStep::Verified { proof, say }
}

fn request(plugin: Plugin, nonce: &Nonce) -> Vec<u8> {
    let data = match plugin {
        Plugin::Native | Plugin::CachingSha2 => [&first(nonce)[..], b"\0"].concat(),
        Plugin::Ed25519 => nonce.to_vec(),
        Plugin::Clear => Vec::new(),
    };
    let mut packet = Vec::with_capacity(64);
    AuthSwitchRequest { plugin: plugin.name().as_bytes(), data: &data }.write(&mut packet);
    packet
}

fn more(data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(data.len() + 1);
    AuthMoreData(data).write(&mut packet);
    packet
}

fn first(nonce: &Nonce) -> &[u8; SALT] {
    nonce.first_chunk().expect("a nonce is longer than a salt")
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::login;
    use super::*;
    use crate::wire::auth::native_key;
    use crate::wire::auth::rsa;
    use crate::wire::auth::sha2_crypt::tests::secret;
    use crate::wire::auth::{CACHING_SHA2, CLEAR, ED25519, NATIVE, caching_sha2_scramble, native_scramble};

    const SALT_HERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
    const FRESH: &Nonce = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

    fn examiner<'a>(known: &'a KnownUser, private: bool, key: Option<&'a ServerKey>) -> Examiner<'a> {
        Examiner { known, user: "napw", host: "localhost", private, key }
    }

    /// What a client is asked that names this plugin and sends this along.
    fn begin<'a>(examiner: Examiner<'a>, plugin: Option<&str>, auth: &[u8]) -> ClientStep<'a> {
        examiner.begin(&login(plugin, auth), SALT_HERE, FRESH)
    }

    /// A client that names this plugin and sends this along, and its answers to what it is asked; gives what it was asked, and the end.
    fn talk(
        examiner: Examiner<'_>,
        plugin: Option<&str>,
        auth: &[u8],
        answers: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Result<Proof, Refusal>) {
        let (mut step, mut asked) = (begin(examiner, plugin, auth), Vec::new());
        let mut answers = answers.iter();
        loop {
            step = match step {
                ClientStep::Verified { proof, say } => {
                    asked.extend(say);
                    assert_eq!(answers.next(), None, "not asked for any more");
                    return (asked, Ok(proof));
                }
                ClientStep::Refused(refusal) => return (asked, Err(refusal)),
                ClientStep::Think(thought) => thought.go_on(),
                ClientStep::Ask { packet, next } => {
                    asked.push(packet);
                    next.answer(answers.next().expect("an answer"))
                }
            };
        }
    }

    fn denied(password: bool) -> Refusal {
        Refusal::AccessDenied { user: "napw".into(), host: "localhost".into(), password }
    }

    fn proof(password: &str) -> Proof {
        if password.is_empty() { Proof::empty() } else { Proof::of(&Secret::from(password)) }
    }

    fn hashed() -> KnownUser {
        KnownUser::with_native_hash(native_hash(&native_key("secret")))
    }

    const NATIVE_ASKED: &[u8] = b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0";
    const SHA2_ASKED: &[u8] = b"\xfecaching_sha2_password\0ABCDEFGHIJKLMNOPQRST\0";
    const ED25519_ASKED: &[u8] = b"\xfeclient_ed25519\0ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    const CLEAR_ASKED: &[u8] = b"\xfemysql_clear_password\0";

    #[test]
    fn the_right_answer_to_the_greeting_suffices() {
        let known = KnownUser::with_password("secret");
        let native = native_scramble(&native_key("secret"), SALT_HERE);
        for plugin in [None, Some(NATIVE)] {
            let (asked, end) = talk(examiner(&known, false, None), plugin, &native, &[]);
            assert_eq!((asked.len(), end), (0, Ok(proof("secret"))));
        }
        let sha2 = caching_sha2_scramble("secret", SALT_HERE);
        let (asked, end) = talk(examiner(&known, false, None), Some(CACHING_SHA2), &sha2, &[]);
        assert_eq!((asked, end), (vec![b"\x01\x03".to_vec()], Ok(proof("secret"))));
        let hashed = hashed();
        let (_, end) = talk(examiner(&hashed, false, None), None, &native, &[]);
        assert_eq!(end, Ok(Proof { native_key: Some(native_key("secret").into()), password: None }));
    }

    /// As one who is not known is asked by a CN.
    #[test]
    fn a_wrong_answer_is_asked_again_and_denied() {
        let known = KnownUser::with_password("secret");
        let wrong = native_scramble(&native_key("wrong"), SALT_HERE);
        for (answer, password) in [(&wrong[..], true), (&wrong[..19], true), (&[][..], false)] {
            let (asked, end) = talk(examiner(&known, false, None), Some(NATIVE), answer, &[answer]);
            assert_eq!((asked, end), (vec![NATIVE_ASKED.to_vec()], Err(denied(password))));
        }
        let right = native_scramble(&native_key("secret"), first(FRESH));
        let (_, end) = talk(examiner(&known, false, None), Some(NATIVE), &wrong, &[&right]);
        assert_eq!(end, Ok(proof("secret")));
        let old = native_scramble(&native_key("secret"), SALT_HERE);
        let (_, end) = talk(examiner(&known, false, None), Some(NATIVE), &wrong, &[&old]);
        assert_eq!(end, Err(denied(true)), "the salt is another one");
        let empty = KnownUser::with_password("");
        let (_, end) = talk(examiner(&empty, false, None), Some(NATIVE), &wrong, &[&wrong]);
        assert_eq!(end, Err(denied(true)));
    }

    /// Each plugin that a client may name, with the password known or only its hash, in private or not.
    #[test]
    fn a_client_is_asked_by_the_plugin_that_it_prefers_if_that_can_be_checked() {
        let (known, hashed) = (KnownUser::with_password("secret"), hashed());
        let table: [(&str, &KnownUser, bool, &[u8]); 12] = [
            (NATIVE, &known, false, NATIVE_ASKED),
            (CACHING_SHA2, &known, false, SHA2_ASKED),
            (ED25519, &known, false, ED25519_ASKED),
            (CLEAR, &known, false, NATIVE_ASKED),
            (CLEAR, &known, true, CLEAR_ASKED),
            ("dialog", &known, true, NATIVE_ASKED),
            (NATIVE, &hashed, false, NATIVE_ASKED),
            (CACHING_SHA2, &hashed, false, NATIVE_ASKED),
            (CACHING_SHA2, &hashed, true, SHA2_ASKED),
            (ED25519, &hashed, true, NATIVE_ASKED),
            (CLEAR, &hashed, true, CLEAR_ASKED),
            ("", &known, true, NATIVE_ASKED),
        ];
        for (plugin, known, private, expected) in table {
            let step = begin(examiner(known, private, None), Some(plugin), b"");
            let ClientStep::Ask { packet, .. } = step else { panic!("{plugin}: {step:?}") };
            assert_eq!(packet, expected, "{plugin} {private}");
        }
    }

    #[test]
    fn a_user_may_need_one_plugin() {
        for (plugin, asked) in [
            (Plugin::Ed25519, ED25519_ASKED),
            (Plugin::CachingSha2, SHA2_ASKED),
            (Plugin::Clear, CLEAR_ASKED),
        ] {
            let known = KnownUser::with_password("secret").by(Some(plugin));
            let native = native_scramble(&native_key("secret"), SALT_HERE);
            let step = begin(examiner(&known, true, None), None, &native);
            let ClientStep::Ask { packet, .. } = step else { panic!("{step:?}") };
            assert_eq!(packet, asked, "though its answer by another one was right");
        }
        let clear = KnownUser::with_password("secret").by(Some(Plugin::Clear));
        let step = begin(examiner(&clear, false, None), None, b"");
        assert!(matches!(step, ClientStep::Refused(Refusal::TlsRequired)), "{step:?}");
    }

    #[test]
    fn answers_by_each_plugin_are_checked() {
        let known = KnownUser::with_password("secret");
        let key = ServerKey::generate().unwrap();
        let (sha2, signed) = (caching_sha2_scramble("secret", first(FRESH)), ed25519::sign("secret", FRESH));
        let table: [(&str, &[u8], bool); 9] = [
            (CACHING_SHA2, &sha2, true),
            (CACHING_SHA2, &sha2[1..], false),
            (CACHING_SHA2, b"\0", false),
            (CACHING_SHA2, b"", false),
            (ED25519, &signed, true),
            (ED25519, &signed[1..], false),
            (CLEAR, b"secret\0", true),
            (CLEAR, b"secre\0", false),
            (CLEAR, b"\xff\xff\0", false),
        ];
        for (plugin, answer, right) in table {
            let (_, end) = talk(examiner(&known, true, Some(&key)), Some(plugin), b"", &[answer]);
            let password = !matches!(answer, [] | [0]);
            assert_eq!(end, if right { Ok(proof("secret")) } else { Err(denied(password)) }, "{plugin}");
        }
        let empty = KnownUser::with_password("");
        for answer in [&b"\0"[..], b""] {
            let (asked, end) = talk(examiner(&empty, false, None), Some(CACHING_SHA2), b"", &[answer]);
            assert_eq!((asked, end), (vec![SHA2_ASKED.to_vec()], Ok(proof(""))), "no fast path is told of");
        }
    }

    #[test]
    fn a_hash_is_enough_where_the_client_hands_its_password_over() {
        let (hashed, key) = (hashed(), ServerKey::generate().unwrap());
        let (sha2, full) = (caching_sha2_scramble("secret", first(FRESH)), b"\x01\x04".to_vec());
        for (password, end) in [("secret", Ok(proof("secret"))), ("wrong", Err(denied(true)))] {
            let answers = [&sha2[..], &[password.as_bytes(), b"\0"].concat()];
            let (asked, ended) = talk(examiner(&hashed, true, Some(&key)), Some(CACHING_SHA2), b"", &answers);
            assert_eq!((asked, ended), (vec![SHA2_ASKED.to_vec(), full.clone()], end.clone()));
            let public = key.public().as_bytes();
            let encrypted = rsa::encrypt(password.as_bytes(), first(FRESH), public).unwrap();
            let answers = [&sha2[..], b"\x02", &encrypted];
            let (asked, ended) =
                talk(examiner(&hashed, false, Some(&key)), Some(CACHING_SHA2), b"", &answers);
            let shown = [b"\x01", public].concat();
            assert_eq!((asked, ended), (vec![SHA2_ASKED.to_vec(), full.clone(), shown], end.clone()));
            let answers = [&sha2[..], &encrypted];
            let (_, ended) = talk(examiner(&hashed, false, Some(&key)), Some(CACHING_SHA2), b"", &answers);
            assert_eq!(ended, end, "it had the key already");
        }
        for noise in [&b""[..], b"secret\0", b"\x02\x02"] {
            let (_, end) =
                talk(examiner(&hashed, false, Some(&key)), Some(CACHING_SHA2), b"", &[&sha2[..], noise]);
            assert_eq!(
                end,
                Err(denied(!noise.is_empty())),
                "not even the password, where others may hear it"
            );
        }
    }

    #[test]
    fn a_hash_of_sha2_is_checked_by_the_password_once_and_then_by_the_fast_path() {
        let (known, key) = (KnownUser::with_sha2_hash(secret()), ServerKey::generate().unwrap());
        let (sha2, full) = (caching_sha2_scramble("secret", first(FRESH)), b"\x01\x04".to_vec());
        let private = examiner(&known, true, Some(&key));
        for wrong in ["wrong", "", &"x".repeat(300)] {
            let (_, end) =
                talk(private, Some(CACHING_SHA2), b"", &[&sha2[..], &[wrong.as_bytes(), b"\0"].concat()]);
            assert_eq!(end, Err(denied(!wrong.is_empty())), "{wrong}");
        }
        for nothing in [&b""[..], b"\0"] {
            let (_, end) = talk(private, Some(CACHING_SHA2), nothing, &[nothing]);
            assert_eq!(end, Err(denied(false)), "that is not its password");
            let (asked, end) = talk(private, Some(NATIVE), nothing, &[nothing]);
            assert_eq!((asked, end), (vec![SHA2_ASKED.to_vec()], Err(denied(false))));
        }
        assert_eq!(known.password(), None, "nobody has shown it");
        let open = examiner(&known, false, Some(&key));
        let encrypted = rsa::encrypt(b"secret", first(FRESH), key.public().as_bytes()).unwrap();
        let (asked, end) = talk(open, Some(ED25519), b"", &[&sha2[..], &encrypted]);
        assert_eq!((asked, end), (vec![SHA2_ASKED.to_vec(), full], Ok(proof("secret"))));
        let at_once = caching_sha2_scramble("secret", SALT_HERE);
        let (asked, end) = talk(open, Some(CACHING_SHA2), &at_once, &[]);
        assert_eq!((asked, end), (vec![b"\x01\x03".to_vec()], Ok(proof("secret"))), "the fast path");
        let wrong = caching_sha2_scramble("wrong", first(FRESH));
        let (_, end) = talk(open, Some(CACHING_SHA2), &wrong, &[&wrong]);
        assert_eq!(end, Err(denied(true)));
        let native = native_scramble(&native_key("secret"), SALT_HERE);
        let (asked, _) = talk(open, Some(NATIVE), &native, &[&sha2]);
        assert_eq!(asked[0], SHA2_ASKED, "its plugins stay the same");
    }

    #[test]
    fn a_hash_of_sha2_is_made_in_pieces() {
        let known = KnownUser::with_sha2_hash(secret());
        let step = begin(examiner(&known, true, None), Some(CLEAR), b"");
        let ClientStep::Ask { next, .. } = step else { panic!("{step:?}") };
        let (mut step, mut thoughts) = (next.answer(b"secret\0"), 0);
        while let ClientStep::Think(thought) = step {
            (step, thoughts) = (thought.go_on(), thoughts + 1);
        }
        assert!(matches!(step, ClientStep::Verified { .. }));
        assert_eq!(thoughts, 10_000 / ROUNDS_AT_ONCE);
    }

    #[test]
    fn who_cannot_be_asked_again_is_told_what_anybody_is_told() {
        let known = KnownUser::with_password("secret");
        let mut old = login(None, b"wrong");
        old.capabilities = old.capabilities - Capabilities::PLUGIN_AUTH;
        let step = examiner(&known, false, None).begin(&old, SALT_HERE, FRESH);
        assert!(matches!(step, ClientStep::Refused(Refusal::ClientTooOld)));
    }

    #[test]
    fn an_empty_password_is_proven_by_nothing() {
        let known = KnownUser::with_password("");
        let (asked, end) = talk(examiner(&known, false, None), Some(NATIVE), b"", &[]);
        assert!(asked.is_empty() && end.unwrap().is_empty());
    }
}
