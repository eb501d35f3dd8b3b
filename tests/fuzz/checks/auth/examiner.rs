//! A client's conversation with the examiner.

use corelane::secret::Secret;
use corelane::session::login::{ClientStep, Examiner, Nonce, Proof};
use corelane::session::refusal::Refusal;
use corelane::session::user::KnownUser;
use corelane::wire::auth::{CACHING_SHA2, CLEAR, ED25519, NATIVE, Plugin, native_hash, native_key};
use corelane::wire::capability::Capabilities;
use corelane::wire::greeting::SALT;

use super::client::{Answer, Client};
use super::{OWN_MAX, PASSWORD, PLUGINS, Script, contains, key, login};

const SALT_HERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
const FRESH: &Nonce = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// Questions to one client at most: the plugin's salt, the password, the key.
const QUESTIONS_MAX: usize = 3;

/// `first` tells what is known of the user and of the connection, `second` which client comes.
pub fn check(first: u8, second: u8, script: &mut Script<'_>) {
    let known = known(first);
    let private = first & 0x20 != 0;
    let key = (first & 0x40 != 0).then(|| &**key());
    let named = PLUGINS.get(usize::from(second & 7)).copied();
    let without = if second & 0x80 != 0 { Capabilities::SECURE_CONNECTION } else { Capabilities::default() };
    let mut client = Client::new(named.unwrap_or(NATIVE), SALT_HERE, private, false);
    let mut said = Said::next(script, &client);
    let login = login(named, &said.packet, without);
    let examiner = Examiner { known: &known, user: "dora", host: "localhost", private, key };
    let (mut step, mut questions) = (examiner.begin(&login, SALT_HERE, FRESH), 0);
    loop {
        step = match step {
            ClientStep::Verified { proof, say } => return verified(&known, &proof, say.as_deref(), &said),
            ClientStep::Think(thought) => thought.go_on(),
            ClientStep::Refused(refusal) => return refused(&known, &refusal, questions, &said, &client),
            ClientStep::Ask { packet, next } => {
                questions += 1;
                assert!(questions <= QUESTIONS_MAX && packet.len() <= OWN_MAX, "{packet:?}");
                assert!(!contains(&packet, PASSWORD));
                client.hears(&packet);
                assert!(private || client.plugin() != CLEAR, "asked for the password where others hear it");
                said = Said::next(script, &client);
                next.answer(&said.packet)
            }
        };
    }
}

fn known(first: u8) -> KnownUser {
    let known = match first & 3 {
        0 => KnownUser::with_password(PASSWORD),
        1 => KnownUser::with_password(""),
        _ => KnownUser::with_native_hash(native_hash(&native_key(PASSWORD))),
    };
    let plugins = [Plugin::Native, Plugin::CachingSha2, Plugin::Ed25519, Plugin::Clear];
    known.by(plugins.get(usize::from(first >> 2 & 7)).copied())
}

/// What a client has said, and whether it proves that it knows the password.
struct Said {
    packet: Vec<u8>,
    proves: bool,
    /// It did as the plugin has it.
    honest: bool,
}

impl Said {
    /// As it is; or of the model: with the password, with a bit of it wrong, with another password, or to the salt of before. A client
    /// that has nothing more to say says nothing.
    fn next(script: &mut Script<'_>, client: &Client) -> Self {
        let (kind, bytes) = script.next().unwrap_or((0, &[]));
        let (answer, honest) = match kind % 5 {
            0 => (Answer::Step(bytes.to_vec()), false),
            1 => (client.answer(PASSWORD), true),
            2 => (Answer::Step(altered(client.answer(PASSWORD).packet(), bytes)), false),
            3 => (Answer::Step(client.answer("incorrect horse").packet()), false),
            _ => (Answer::Step(of_before(client)), false),
        };
        let proves = matches!(answer, Answer::Proof(_));
        Self { packet: answer.packet(), proves, honest }
    }

    fn is_empty(&self) -> bool {
        matches!(self.packet[..], [] | [0])
    }
}

/// Its right answer to another salt. The password as it is knows none.
fn of_before(client: &Client) -> Vec<u8> {
    match client.plugin() {
        NATIVE | CACHING_SHA2 | ED25519 => {
            let before = Client::new(client.plugin(), b"of another connection, long ago", false, false);
            before.answer(PASSWORD).packet()
        }
        _ => Vec::new(),
    }
}

fn altered(mut packet: Vec<u8>, how: &[u8]) -> Vec<u8> {
    let (at, bit) = (how.first().copied().unwrap_or(0), how.get(1).copied().unwrap_or(0) & 7);
    let length = packet.len().max(1);
    if let Some(byte) = packet.get_mut(usize::from(at) % length) {
        *byte ^= 1 << bit;
    }
    packet
}

fn verified(known: &KnownUser, proof: &Proof, say: Option<&[u8]>, said: &Said) {
    match known.native_hash {
        Some(hash) => {
            assert!(said.proves, "let in without the password by {:?}", said.packet);
            assert_eq!(proof.native_key.as_deref().map(native_hash), Some(hash));
        }
        None => {
            assert!(said.is_empty(), "let in by {:?} in the place of nothing", said.packet);
            assert!(proof.is_empty());
        }
    }
    let right = known.password.clone().unwrap_or_else(|| Secret::from(PASSWORD));
    assert!(proof.password.as_ref().is_none_or(|password| *password == right));
    assert!(say.is_none_or(|say| say == [1, 3]), "{say:?}");
}

/// Nobody is refused who proves the password, where that can be seen by what is known of it.
fn refused(known: &KnownUser, refusal: &Refusal, questions: usize, said: &Said, client: &Client) {
    let Refusal::AccessDenied { .. } = refusal else {
        return assert!(matches!(refusal, Refusal::ClientTooOld | Refusal::TlsRequired), "{refusal:?}");
    };
    assert!(questions > 0, "told apart from one who is not known");
    if known.native_hash.is_none() {
        let proves = match client.plugin() {
            NATIVE => said.packet.is_empty(),
            // It signs as any other does.
            ED25519 => false,
            _ => said.is_empty(),
        };
        return assert!(!proves, "an empty password is proven by nothing");
    }
    let can_see = known.password.is_some() || matches!(client.plugin(), NATIVE | CLEAR);
    assert!(!(said.proves && can_see), "refused though it knows the password: {:?}", said.packet);
    // By the full path of caching_sha2_password all can be seen; its fast path needs the password.
    let is_full = client.plugin() == CACHING_SHA2 && questions > 1;
    assert!(!(is_full && said.honest), "refused though it knows the password: {:?}", said.packet);
}
