//! The login of a client at corelane: what it sent. Whether a known user is who it says, its [`examiner`](super::examiner) tells; no
//! secret of an unknown user is ever looked at.

use std::fmt;

use zeroize::Zeroizing;

use crate::session::face::Face;
use crate::session::refusal::Refusal;
use crate::wire::auth::NATIVE;
use crate::wire::capability::Capabilities;
use crate::wire::change_user::ChangeUser;
use crate::wire::compressed::codec::Algorithm;
use crate::wire::login::{Answer, Attributes, HandshakeResponse};

/// What corelane asks for by itself: bytes of a packet, and the collation `utf8mb4_general_ci`.
const OWN_PACKET_MAX: u32 = 1 << 24;
const UTF8MB4: u8 = 45;

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
    /// The password itself, by some plugins.
    auth: Zeroizing<Vec<u8>>,
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

    /// That of corelane itself, by an account of its own.
    pub fn own() -> Self {
        let asked =
            Face::default().capabilities - Capabilities::CONNECT_WITH_DB - Capabilities::CONNECT_ATTRS;
        Self {
            capabilities: asked - Capabilities::LOCAL_FILES - Capabilities::MULTI_STATEMENTS,
            compression: None,
            max_packet: OWN_PACKET_MAX,
            charset: UTF8MB4,
            user: Vec::new(),
            database: None,
            auth: Zeroizing::default(),
            plugin: None,
            attributes: None,
        }
    }

    /// What a session wants to be that has logged in with these capabilities, as if it had said so at a login.
    pub fn changed(change: &ChangeUser<'_>, capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            max_packet: OWN_PACKET_MAX,
            charset: change.charset.to_le_bytes()[0],
            user: change.user.to_vec(),
            database: change.database.map(<[u8]>::to_vec),
            auth: change.auth.to_vec().into(),
            plugin: change.plugin.map(<[u8]>::to_vec),
            attributes: change.attributes.map(|attributes| attributes.0.to_vec()),
            compression: None,
        }
    }

    /// The same without its answer, which nobody needs any more.
    pub fn without_answer(self) -> Self {
        Self { auth: Zeroizing::default(), ..self }
    }

    /// Whether something was sent that may be the answer to a password.
    pub fn has_password(&self) -> bool {
        !matches!(self.auth[..], [] | [0])
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

    /// The plugin that it answered by, if it said so.
    pub(super) fn plugin(&self) -> Option<&[u8]> {
        self.plugin.as_deref()
    }

    /// Its answer to the salt of the greeting.
    pub(super) fn auth(&self) -> &[u8] {
        &self.auth
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
            auth: response.auth.to_vec().into(),
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::greeting::Greeting;
    use crate::wire::greeting::tests::MARIADB_10_11;
    use crate::wire::login::tests::{LIBMARIADB, TRACKING};

    pub(in crate::session::login) fn face() -> Face {
        Face::common([&Face::of(&Greeting::read(MARIADB_10_11).unwrap())], None)
    }

    pub(in crate::session::login) fn login(plugin: Option<&str>, auth: &[u8]) -> ClientLogin {
        let mut login = ClientLogin::read(TRACKING, &face()).unwrap();
        login.plugin = plugin.map(|name| name.as_bytes().to_vec());
        login.auth = auth.to_vec().into();
        login
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
    fn an_old_client_cannot_be_relayed() {
        let mut login = login(None, b"");
        assert_eq!(login.can_relay(), Ok(()));
        login.capabilities = login.capabilities - Capabilities::PLUGIN_AUTH;
        assert_eq!(login.can_relay(), Err(Refusal::ClientTooOld));
    }
}
