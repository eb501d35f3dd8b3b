//! The login of a client at corelane: what it sent, and whether a known user is who it says.
//!
//! Corelane announces `mysql_native_password`. A known user whose client answered with another plugin, or wrongly, is
//! asked to switch, with a fresh salt: everybody else is asked by a CN, and who is known shall not be told apart by that.
//! No secret of an unknown user is ever looked at.

use std::fmt;

use super::Proof;
use crate::session::face::Face;
use crate::session::refusal::Refusal;
use crate::session::user::KnownUser;
use crate::wire::auth::{AuthSwitchRequest, NATIVE, recover_native_key};
use crate::wire::capability::Capabilities;
use crate::wire::compressed::codec::Algorithm;
use crate::wire::greeting::SALT;
use crate::wire::login::{Answer, Attributes, HandshakeResponse};

/// What a client sent to log in, its own copy of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientLogin {
    /// What the client and corelane's face have in common. LONG_PASSWORD is the client's own, because it says
    /// whether the client is one of MySQL or of MariaDB.
    pub capabilities: Capabilities,
    pub max_packet: u32,
    pub charset: u8,
    /// As it was sent: with tenant, role and labels, where there are any.
    pub user: Vec<u8>,
    pub database: Option<Vec<u8>>,
    auth: Vec<u8>,
    plugin: Option<Vec<u8>>,
    attributes: Option<Vec<u8>>,
    /// By what its own connection is compressed from the end of the login on.
    pub compression: Option<Algorithm>,
}

impl ClientLogin {
    /// Reads the client's answer to the face's greeting.
    ///
    /// # Errors
    /// [`Refusal::TlsNotOffered`] and [`Refusal::HandshakeBad`].
    pub fn read(payload: &[u8], face: &Face) -> Result<Self, Refusal> {
        let response = match Answer::read(payload)? {
            Answer::Login(response) => response,
            Answer::Tls(_) => return Err(Refusal::TlsNotOffered),
        };
        Self::new(&response, face)
    }

    /// Whether a packet asks for TLS in the place of a login.
    pub fn asks_for_tls(payload: &[u8]) -> bool {
        matches!(Answer::read(payload), Ok(Answer::Tls(_)))
    }

    /// The attributes to read labels from and to pass on.
    pub fn attributes(&self) -> Option<Attributes<'_>> {
        self.attributes.as_deref().map(Attributes)
    }

    /// Whether the client can be asked by a CN; it cannot without authentication plugins.
    ///
    /// # Errors
    /// [`Refusal::ClientTooOld`].
    pub fn can_relay(&self) -> Result<(), Refusal> {
        if self.capabilities.has(Capabilities::PLUGIN_AUTH) { Ok(()) } else { Err(Refusal::ClientTooOld) }
    }

    /// Whether its answer is one that MatrixOne knows how to check.
    pub fn answers_natively(&self) -> bool {
        self.plugin.as_deref().is_none_or(|plugin| plugin == NATIVE.as_bytes())
    }

    /// Checks a known user. `salt` is that of the greeting, `fresh` another one for a switch; `user` and `host` are for
    /// the text of a denial.
    pub fn verify<'a>(
        &'a self,
        salt: &[u8; SALT],
        fresh: &[u8; SALT],
        known: &'a KnownUser,
        user: &'a str,
        host: &'a str,
    ) -> ClientStep<'a> {
        if !self.capabilities.has(Capabilities::SECURE_CONNECTION) {
            return ClientStep::Refused(Refusal::ClientTooOld);
        }
        // A client of MySQL 8 whose own plugin is another one sends no auth data at all, so that data alone
        // does not tell an empty password.
        if self.answers_natively()
            && let Ok(proof) = prove(known, &self.auth, salt)
        {
            return ClientStep::Verified(proof);
        }
        if let Err(refusal) = self.can_relay() {
            return ClientStep::Refused(refusal);
        }
        let next = AwaitSwitch { salt: *fresh, known, user, host };
        ClientStep::SwitchClient { packet: next.request(), next }
    }

    fn new(response: &HandshakeResponse<'_>, face: &Face) -> Result<Self, Refusal> {
        let mark = response.capabilities & Capabilities::LONG_PASSWORD;
        let common = response.capabilities & face.capabilities;
        let compression = common.compression();
        // TLS and compression are of this leg alone, and lie below all that is said from here on.
        let common = common - Capabilities::SSL - Capabilities::COMPRESSION;
        Ok(Self {
            capabilities: (common - Capabilities::LONG_PASSWORD) | mark,
            max_packet: response.max_packet,
            charset: response.charset,
            user: response.user.to_vec(),
            database: response.database.map(<[u8]>::to_vec),
            auth: response.auth.to_vec(),
            plugin: response.plugin.map(<[u8]>::to_vec),
            attributes: response.attributes.map(|attributes| attributes.0.to_vec()),
            compression,
        })
    }
}

impl fmt::Debug for ClientLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLogin")
            .field("user", &String::from_utf8_lossy(&self.user))
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// What comes of checking a known user.
#[derive(Debug)]
#[must_use]
pub enum ClientStep<'a> {
    Verified(Proof),
    /// Send the packet to the client, and give its answer to `next`.
    SwitchClient {
        packet: Vec<u8>,
        next: AwaitSwitch<'a>,
    },
    Refused(Refusal),
}

/// A known user was asked to switch to `mysql_native_password`.
#[derive(Debug)]
pub struct AwaitSwitch<'a> {
    salt: [u8; SALT],
    known: &'a KnownUser,
    user: &'a str,
    host: &'a str,
}

impl AwaitSwitch<'_> {
    /// Takes the client's answer.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub fn answer(self, payload: &[u8]) -> Result<Proof, Refusal> {
        prove(self.known, payload, &self.salt).map_err(|Wrong| Refusal::AccessDenied {
            user: self.user.to_owned(),
            host: self.host.to_owned(),
            password: !payload.is_empty(),
        })
    }

    fn request(&self) -> Vec<u8> {
        let mut data = self.salt.to_vec();
        data.push(0);
        let mut packet = Vec::with_capacity(48);
        AuthSwitchRequest { plugin: NATIVE.as_bytes(), data: &data }.write(&mut packet);
        packet
    }
}

/// The answer is not that of the known user.
struct Wrong;

/// Checks an answer to a salt: a scramble, or nothing for an empty password.
fn prove(known: &KnownUser, answer: &[u8], salt: &[u8; SALT]) -> Result<Proof, Wrong> {
    let native_key = match (&known.native_hash, answer) {
        (None, []) => None,
        (Some(hash), scramble) => Some(recover_native_key(scramble, salt, hash).ok_or(Wrong)?),
        (None, _) => return Err(Wrong),
    };
    Ok(Proof { native_key, password: known.password.clone() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::auth::{native_key, native_scramble};
    use crate::wire::greeting::Greeting;
    use crate::wire::greeting::tests::MARIADB_10_11;
    use crate::wire::login::tests::{LIBMARIADB, TRACKING};

    const SALT_HERE: &[u8; SALT] = b"abcdefghijklmnopqrst";
    const FRESH: &[u8; SALT] = b"ABCDEFGHIJKLMNOPQRST";

    pub(in crate::session::login) fn face() -> Face {
        Face::common([&Face::of(&Greeting::read(MARIADB_10_11).unwrap())], None)
    }

    fn login(plugin: Option<&str>, auth: &[u8]) -> ClientLogin {
        let mut login = ClientLogin::read(TRACKING, &face()).unwrap();
        login.plugin = plugin.map(|name| name.as_bytes().to_vec());
        login.auth = auth.to_vec();
        login
    }

    fn verify<'a>(login: &'a ClientLogin, known: &'a KnownUser) -> ClientStep<'a> {
        login.verify(SALT_HERE, FRESH, known, "napw", "localhost")
    }

    fn denied(password: bool) -> Refusal {
        Refusal::AccessDenied { user: "napw".into(), host: "localhost".into(), password }
    }

    #[test]
    fn capabilities_are_what_both_have() {
        let login = ClientLogin::read(TRACKING, &face()).unwrap();
        assert_eq!((&login.user[..], login.database.as_deref()), (&b"napw"[..], Some(&b"d1"[..])));
        assert!(login.capabilities.has(Capabilities::LONG_PASSWORD), "the client's own");
        assert!(login.capabilities.has(Capabilities::SESSION_TRACK | Capabilities::DEPRECATE_EOF));
        assert_eq!(login.attributes().unwrap().get(b"tenant"), Some(&b"acme"[..]));
        let login = ClientLogin::read(LIBMARIADB, &face()).unwrap();
        assert_eq!(login.capabilities.extended(), 0x1d);
        let login = ClientLogin::read(LIBMARIADB, &Face::default()).unwrap();
        assert_eq!(login.capabilities.extended(), 0);
        assert!(!login.capabilities.has(Capabilities::SESSION_TRACK));
    }

    #[test]
    fn compression_is_of_this_leg_alone() {
        use Algorithm::{Zlib, Zstd};
        for (offered, asked, agreed) in [
            (&[][..], Capabilities::COMPRESSION, None),
            (&[Zlib, Zstd], Capabilities::COMPRESSION, Some(Zlib)),
            (&[Zlib, Zstd], Capabilities::ZSTD_COMPRESSION, Some(Zstd)),
            (&[Zstd], Capabilities::COMPRESSION, Some(Zstd)),
            (&[Zlib, Zstd], Capabilities::default(), None),
        ] {
            let face = face().with_compression(offered.iter().copied());
            let mut packet = TRACKING.to_vec();
            let flags = Capabilities::new(u32::from_le_bytes(packet[..4].try_into().unwrap()), 0) | asked;
            packet[..4].copy_from_slice(&flags.base().to_le_bytes());
            packet.push(3);
            let login = ClientLogin::read(&packet, &face).unwrap();
            assert_eq!(login.compression, agreed, "{offered:?} {asked:?}");
            assert_eq!(login.capabilities & Capabilities::COMPRESSION, Capabilities::default());
        }
    }

    #[test]
    fn a_wish_for_tls_is_refused_in_words() {
        let mut request = TRACKING[..32].to_vec();
        request[1] |= 0x08;
        assert_eq!(ClientLogin::read(&request, &face()), Err(Refusal::TlsNotOffered));
        let refusal = ClientLogin::read(&TRACKING[..40], &face()).unwrap_err();
        assert!(refusal.to_string().contains("auth data"), "{refusal}");
    }

    #[test]
    fn a_known_user_proves_its_password() {
        let known = KnownUser::with_password("secret");
        let key = native_key("secret");
        for plugin in [None, Some(NATIVE)] {
            let login = login(plugin, &native_scramble(&key, SALT_HERE));
            let ClientStep::Verified(proof) = verify(&login, &known) else { panic!("not verified") };
            assert_eq!(proof, Proof { native_key: Some(key), password: Some("secret".into()) });
        }
    }

    /// A known user with these answers, first to the greeting and then to a switch.
    fn twice(known: &KnownUser, plugin: Option<&str>, first: &[u8], then: &[u8]) -> Result<Proof, Refusal> {
        let login = login(plugin, first);
        let ClientStep::SwitchClient { packet, next } = verify(&login, known) else { panic!("not switched") };
        assert_eq!(packet, b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0");
        next.answer(then)
    }

    /// As one who is not known is asked by a CN.
    #[test]
    fn a_wrong_password_is_asked_again_and_denied() {
        let known = KnownUser::with_password("secret");
        let wrong = native_scramble(&native_key("wrong"), SALT_HERE);
        for (answer, password) in [(&wrong[..], true), (&wrong[..19], true), (&[][..], false)] {
            assert_eq!(twice(&known, Some(NATIVE), answer, answer), Err(denied(password)));
        }
        let (right, old) = (native_key("secret"), native_scramble(&native_key("secret"), SALT_HERE));
        let proof = twice(&known, Some(NATIVE), &wrong, &native_scramble(&right, FRESH)).unwrap();
        assert_eq!(proof.native_key, Some(right));
        assert_eq!(twice(&known, Some(NATIVE), &wrong, &old), Err(denied(true)), "the salt is another one");
        assert_eq!(twice(&KnownUser::with_password(""), Some(NATIVE), &wrong, &wrong), Err(denied(true)));
    }

    #[test]
    fn who_cannot_be_asked_again_is_told_what_anybody_is_told() {
        let known = KnownUser::with_password("secret");
        let mut login = login(None, b"wrong");
        login.capabilities = login.capabilities - Capabilities::PLUGIN_AUTH;
        assert!(matches!(verify(&login, &known), ClientStep::Refused(Refusal::ClientTooOld)));
    }

    #[test]
    fn another_plugin_is_switched_even_without_data() {
        let known = KnownUser::with_password("secret");
        let scramble = native_scramble(&native_key("secret"), FRESH);
        let proof = twice(&known, Some("caching_sha2_password"), b"", &scramble).unwrap();
        assert_eq!(proof.native_key, Some(native_key("secret")));
        assert_eq!(twice(&known, Some("caching_sha2_password"), b"", b""), Err(denied(false)));
    }

    #[test]
    fn an_empty_password_is_proven_by_nothing() {
        let (login, known) = (login(Some(NATIVE), b""), KnownUser::with_password(""));
        let ClientStep::Verified(proof) = verify(&login, &known) else { panic!("not verified") };
        assert!(proof.is_empty());
    }

    #[test]
    fn an_old_client_cannot_be_relayed() {
        let mut login = login(None, b"");
        assert_eq!(login.can_relay(), Ok(()));
        login.capabilities = login.capabilities - Capabilities::PLUGIN_AUTH;
        assert_eq!(login.can_relay(), Err(Refusal::ClientTooOld));
    }
}
