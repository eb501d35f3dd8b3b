//! A CN's conversation with the login of corelane at it, and the client's that is relayed.

use std::sync::Arc;

use corelane::secret::Secret;
use corelane::session::login::{
    AUTH_ROUNDS_MAX, ClientChannel, ClientLogin, CnAuth, CnLogin, CnLoginError, CnStep, Credential, Proof,
    Speaker, Standing, WantsTls, Witness,
};
use corelane::session::user::{Hashes, Sha2Secret};
use corelane::wire::auth::sha2_crypt::Sha2Hash;
use corelane::wire::auth::{AuthMoreData, AuthSwitchRequest, CACHING_SHA2, NATIVE, native_hash, native_key};
use corelane::wire::capability::Capabilities;
use corelane::wire::greeting::{Greeting, SALT};
use corelane::wire::reply::OK;

use super::client::{Answer, Client};
use super::{OWN_MAX, PASSWORD, PLUGINS, Script, contains, key, login};

const SALT_HERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
const SALT_THERE: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRST\0VWXYZ012345";

/// `first` tells how the two legs are and what is known of the user, `second` which plugin the client has named and whether a table has a
/// hash of `caching_sha2_password`.
pub fn check(first: u8, second: u8, script: &mut Script<'_>) {
    let legs = Legs::new(first);
    let named = PLUGINS[usize::from(second) % PLUGINS.len()];
    let login = login(Some(named), b"", Capabilities::default());
    let hashes = hashes(second & 0x80 != 0);
    let Some(auth) = greeted(&login, &legs, &hashes, first, script) else { return };
    let client = Client::new(named, SALT_HERE, legs.client_tls, legs.client_local);
    let is_relay = first & 3 == 0;
    let (turn, witnessed, showed, rounds) = (Speaker::Cn, false, false, 0);
    Talk { auth, legs, client, hashes, is_relay, turn, witnessed, showed, rounds }.run(script);
}

/// What a table has of the user, of which nobody has shown the password yet.
fn hashes(with_sha2: bool) -> Hashes {
    let stored = [&b"$A$005$"[..], &[b's'; 20], &[b'd'; 43]].concat();
    let secret = || Arc::new(Sha2Secret::new(Sha2Hash::read(&stored).expect("it is one")));
    let sha2 = with_sha2.then(secret).into_iter().collect();
    Hashes { native: [native_hash(&native_key(PASSWORD))].into(), sha2 }
}

/// Who may be overheard.
struct Legs {
    client_tls: bool,
    client_local: bool,
    cn_private: bool,
}

impl Legs {
    fn new(first: u8) -> Self {
        Self { client_tls: first & 0x04 != 0, client_local: first & 0x08 != 0, cn_private: first & 0x30 != 0 }
    }
}

/// The login packet is sent, if the CN's greeting is one.
fn greeted(
    login: &ClientLogin,
    legs: &Legs,
    hashes: &Hashes,
    first: u8,
    script: &mut Script<'_>,
) -> Option<CnAuth> {
    let credential = match first & 3 {
        0 => Credential::Relay,
        1 => Credential::Proof(Proof::of(&Secret::from(PASSWORD))),
        2 => Credential::Proof(Proof { password: None, ..Proof::of(&Secret::from(PASSWORD)) }),
        _ => Credential::Proof(Proof::of(&Secret::from(""))),
    };
    let key = (first & 0x40 != 0).then(|| key().clone());
    let channel = ClientChannel { has_tls: legs.client_tls, local: legs.client_local, key };
    let cn = CnLogin::new(login, b"dora", credential)
        .for_client(channel)
        .believing_key(first & 0x80 != 0)
        .known_by(hashes.sha2.clone())
        .secured(if first & 0x10 != 0 { WantsTls::Yes } else { WantsTls::No }, first & 0x20 != 0);
    let (kind, bytes) = script.next().unwrap_or((1, &[]));
    let greeting = if kind & 1 == 0 { bytes.to_vec() } else { greeting() };
    let (response, auth) = cn.greeting(&greeting).ok()?;
    assert!(response.len() <= OWN_MAX && !contains(&response, PASSWORD));
    Some(auth)
}

fn greeting() -> Vec<u8> {
    let greeting = Greeting {
        version: b"8.0.36",
        connection_id: 7,
        salt: *SALT_HERE,
        capabilities: Capabilities(0xffff_ffff),
        charset: 45,
        status: 2,
        plugin: NATIVE.as_bytes(),
    };
    let mut packet = Vec::new();
    greeting.write(&mut packet);
    packet
}

struct Talk {
    auth: CnAuth,
    legs: Legs,
    client: Client,
    hashes: Hashes,
    is_relay: bool,
    turn: Speaker,
    /// The client's last packet was its answer by the native plugin, and the CN has said nothing since.
    witnessed: bool,
    /// It has answered by `caching_sha2_password` as one does who knows the password.
    showed: bool,
    rounds: u32,
}

impl Talk {
    fn run(mut self, script: &mut Script<'_>) {
        while let Some((kind, bytes)) = script.next() {
            let ended = match kind % 8 {
                // The worker listens to whose turn it is.
                0..=4 if self.turn == Speaker::Client => false,
                0..=4 => {
                    let packet = cn_packet(kind % 8, bytes);
                    let step = self.auth.from_cn(&packet);
                    self.rounds += 1;
                    assert!(self.rounds <= AUTH_ROUNDS_MAX || step == Err(CnLoginError::TooManyRounds));
                    self.cn_said(&packet, step)
                }
                kind => self.client_speaks(kind, bytes),
            };
            if ended {
                return;
            }
        }
    }

    /// Whether that was the end.
    fn cn_said(&mut self, packet: &[u8], step: Result<CnStep, CnLoginError>) -> bool {
        match step {
            Ok(CnStep::Seated { .. }) => {
                assert_eq!(packet.first(), Some(&OK), "seated by what is no OK");
                return self.check_standing();
            }
            Ok(CnStep::Refused { .. }) | Err(_) => return true,
            Ok(CnStep::Wait) => assert!(!self.is_relay),
            Ok(CnStep::ToClient { packet, next }) => self.tell_client(&packet, next),
            Ok(CnStep::ToCn(packet)) => self.tell_cn(&packet),
        }
        self.witnessed = false;
        false
    }

    fn client_speaks(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let answer = if kind == 5 { Answer::Step(bytes.to_vec()) } else { self.client.answer(PASSWORD) };
        let proves = matches!(answer, Answer::Proof(_));
        let packet = answer.packet();
        let step = self.auth.from_client(&packet);
        assert_eq!(step == Err(CnLoginError::OutOfTurn), self.turn == Speaker::Cn);
        let Ok(step) = step else { return false };
        self.turn = Speaker::Cn;
        self.witnessed = proves && self.client.plugin() == NATIVE;
        self.showed |= proves && self.client.plugin() == CACHING_SHA2;
        match step {
            CnStep::ToCn(packet) => self.tell_cn(&packet),
            CnStep::ToClient { packet, next } => self.tell_client(&packet, next),
            CnStep::Wait => {
                assert!(self.client.private && !self.hashes.sha2.is_empty(), "it was not to be asked")
            }
            other => panic!("{other:?}"),
        }
        false
    }

    fn tell_client(&mut self, packet: &[u8], next: Speaker) {
        assert!(self.is_relay, "the client is not part of it");
        assert!(packet.len() <= OWN_MAX && !contains(packet, PASSWORD));
        self.client.hears(packet);
        self.turn = next;
    }

    /// What was handed over in private is not heard there. A client that says its password as it is by a Unix socket would say it anywhere.
    fn tell_cn(&self, packet: &[u8]) {
        assert!(packet.len() <= OWN_MAX, "{} bytes", packet.len());
        let is_private = !self.is_relay
            || self.legs.client_tls
            || (self.legs.client_local && self.client.plugin() == CACHING_SHA2);
        let is_heard = is_private && !self.legs.cn_private;
        assert!(!is_heard || !contains(packet, PASSWORD), "the password went on an open line");
    }

    /// A proof of the user comes of its own answer alone.
    fn check_standing(&mut self) -> bool {
        let auth = std::mem::replace(&mut self.auth, another());
        let mut standing = auth.standing();
        let natively = standing.proof(Some(&self.hashes)).is_some();
        if !self.is_relay {
            return true;
        }
        assert!(!natively || self.witnessed);
        assert!(
            !matches!(standing, Standing::Witnessed(Witness::Password(_))) || !self.hashes.sha2.is_empty()
        );
        self.hashes.sha2.iter().for_each(|secret| secret.keep(PASSWORD.into()));
        assert!(standing.proof(Some(&self.hashes)).is_none() || self.witnessed || self.showed);
        true
    }
}

/// Stands in for one that has ended.
fn another() -> CnAuth {
    let login = login(Some(NATIVE), b"", Capabilities::default());
    CnLogin::new(&login, b"", Credential::Relay).greeting(&greeting()).expect("it is one").1
}

/// As it is; or a switch, data of `caching_sha2_password`, the key, or the verdict.
fn cn_packet(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let which = usize::from(bytes.first().copied().unwrap_or(0));
    let mut packet = Vec::new();
    match kind {
        0 => packet.extend_from_slice(bytes),
        1 => {
            let data = &SALT_THERE[..if which & 0x80 != 0 { 21 } else { 32 }];
            let plugin = PLUGINS[which % PLUGINS.len()].as_bytes();
            AuthSwitchRequest { plugin, data }.write(&mut packet);
        }
        2 => AuthMoreData(&[[3, 4][which & 1]]).write(&mut packet),
        3 => AuthMoreData(key().public().as_bytes()).write(&mut packet),
        _ => packet.extend_from_slice(&[OK, 0, 0, 2, 0, 0, 0]),
    }
    packet
}
