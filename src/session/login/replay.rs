//! A client's login, said again to a CN that lets corelane choose the salt: one of MatrixOne's.
//!
//! Corelane tells such a CN the salt that the client has answered, in a [`Preamble`], and then sends the client's own login packet: the
//! CN judges the answer itself, and does so again whenever the session goes to another CN. So corelane knows no password, and need
//! not know the user. The packet goes as it came, with tenant, role and labels in the user's name. Two things are changed where they
//! must: a client that answers by another plugin than MatrixOne knows is asked by corelane to switch, and its second answer put
//! in the first one's place; and capabilities are taken out that corelane has not offered and that would change what the CN sends, as
//! are those of compression, which is of the client's connection alone.

use std::fmt;

use super::ClientLogin;
use super::cn::PROMISED;
use crate::wire;
use crate::wire::auth::{AuthSwitchRequest, NATIVE};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::{Greeting, SALT};
use crate::wire::login::HandshakeResponse;
use crate::wire::matrixone::preamble::Preamble;

/// What logs a session in at any CN that takes a preamble.
#[derive(Clone, PartialEq, Eq)]
pub struct Replay {
    salt: [u8; SALT],
    connection_id: u32,
    preamble: Box<[u8]>,
    login: Box<[u8]>,
}

/// What a client sent to log in, and which salt its answer is for.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    pub login: &'a ClientLogin,
    pub packet: &'a [u8],
    pub salt: [u8; SALT],
    /// Its answer to the request to switch, if it was asked to.
    pub switched: Option<&'a [u8]>,
}

impl Replay {
    /// The salt of `preamble` is taken from `sent`.
    ///
    /// # Errors
    /// The labels are too long for a preamble, or the packet cannot be read.
    pub fn new(sent: Sent<'_>, preamble: Preamble) -> wire::Result<Self> {
        let preamble = Preamble { salt: sent.salt, ..preamble };
        let mut bytes = Vec::new();
        preamble.write(&mut bytes)?;
        let (salt, connection_id) = (sent.salt, preamble.connection_id);
        Ok(Self { salt, connection_id, preamble: bytes.into(), login: login_packet(sent)?.into() })
    }

    /// The same for another connection of the client's.
    ///
    /// # Errors
    /// None that could be met: the preamble was written by [`Replay::new`].
    pub fn with_id(&self, connection_id: u32) -> wire::Result<Self> {
        let preamble = Preamble { connection_id, ..Preamble::read(&self.preamble[2..])? };
        let mut bytes = Vec::with_capacity(self.preamble.len());
        preamble.write(&mut bytes)?;
        Ok(Self { connection_id, preamble: bytes.into(), ..self.clone() })
    }

    /// What is sent before anything is read.
    pub fn preamble(&self) -> &[u8] {
        &self.preamble
    }

    /// What answers the CN's greeting.
    pub fn login(&self) -> &[u8] {
        &self.login
    }

    /// The session's id at every CN.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// Whether a CN has taken the preamble: its greeting shows what was in it.
    pub fn is_taken(&self, greeting: &Greeting<'_>) -> bool {
        greeting.salt == self.salt && greeting.connection_id == self.connection_id
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("connection_id", &self.connection_id).finish_non_exhaustive()
    }
}

/// Asks a client to answer `salt` by the one plugin that MatrixOne knows.
pub fn switch_request(salt: &[u8; SALT]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(48);
    AuthSwitchRequest { plugin: NATIVE.as_bytes(), data: &[&salt[..], &[0]].concat() }.write(&mut packet);
    packet
}

fn login_packet(sent: Sent<'_>) -> wire::Result<Vec<u8>> {
    let Some(answer) = sent.switched else {
        let mut packet = sent.packet.to_vec();
        if let Some(flags) = packet.first_chunk_mut() {
            let said = Capabilities::new(u32::from_le_bytes(*flags), 0);
            let surplus = (said - sent.login.capabilities) & (PROMISED | Capabilities::COMPRESSION);
            *flags = (said - surplus).base().to_le_bytes();
        }
        return Ok(packet);
    };
    let response = HandshakeResponse {
        auth: answer,
        plugin: Some(NATIVE.as_bytes()),
        capabilities: sent.login.capabilities,
        ..HandshakeResponse::read(sent.packet)?
    };
    let mut packet = Vec::with_capacity(sent.packet.len() + 32);
    response.write(&mut packet)?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::client::tests::face;
    use super::*;
    use crate::session::face::Face;
    use crate::wire::compressed::codec::Algorithm;
    use crate::wire::login::tests::TRACKING;

    const SALT_HERE: [u8; SALT] = *b"abcdefghijklmnopqrst";

    fn preamble() -> Preamble {
        let labels = BTreeMap::from([("account".to_owned(), "acme".to_owned())]);
        Preamble { salt: [0; SALT], internal: false, connection_id: 7, labels, client: "10.0.0.7:5".into() }
    }

    fn replay(face: &Face, switched: Option<&[u8]>) -> Replay {
        let login = &ClientLogin::read(TRACKING, face).unwrap();
        Replay::new(Sent { login, packet: TRACKING, salt: SALT_HERE, switched }, preamble()).unwrap()
    }

    #[test]
    fn a_packet_goes_as_it_came() {
        let replay = replay(&face(), None);
        assert_eq!(replay.login(), TRACKING);
        let fields = Preamble::read(&replay.preamble()[2..]).unwrap();
        assert_eq!(fields, Preamble { salt: SALT_HERE, ..preamble() });
        let said = format!("{replay:?}");
        assert!(!said.contains("acme") && said.contains('7'), "{said}");
    }

    #[test]
    fn another_connection_has_another_id() {
        let other = replay(&face(), None).with_id(9).unwrap();
        let fields = Preamble::read(&other.preamble()[2..]).unwrap();
        assert_eq!((other.connection_id(), fields.connection_id, fields.salt), (9, 9, SALT_HERE));
    }

    #[test]
    fn what_was_not_offered_and_would_be_seen_is_taken_out() {
        let replay = replay(&Face::default(), None);
        let (sent, came) =
            (HandshakeResponse::read(replay.login()).unwrap(), HandshakeResponse::read(TRACKING).unwrap());
        let gone = came.capabilities - sent.capabilities;
        assert_eq!(gone, came.capabilities & (PROMISED - Face::default().capabilities));
        assert!(gone.has(Capabilities::DEPRECATE_EOF));
        assert_eq!(replay.login()[4..], TRACKING[4..]);
    }

    #[test]
    fn compression_is_not_asked_of_the_cn() {
        let mut packet = TRACKING.to_vec();
        packet[0] |= Capabilities::COMPRESS.base() as u8;
        packet[3] |= (Capabilities::ZSTD_COMPRESSION.base() >> 24) as u8;
        packet.push(3);
        let face = face().with_compression([Algorithm::Zlib, Algorithm::Zstd]);
        let login = &ClientLogin::read(&packet, &face).unwrap();
        assert_eq!(login.compression, Some(Algorithm::Zlib));
        let sent = Sent { login, packet: &packet, salt: SALT_HERE, switched: None };
        let replay = Replay::new(sent, preamble()).unwrap();
        assert_eq!(replay.login()[..TRACKING.len()], *TRACKING);
    }

    #[test]
    fn a_second_answer_takes_the_place_of_the_first() {
        let replay = replay(&face(), Some(b"ABCDEFGHIJKLMNOPQRST"));
        let sent = HandshakeResponse::read(replay.login()).unwrap();
        let came = HandshakeResponse::read(TRACKING).unwrap();
        assert_eq!(
            (sent.plugin, sent.auth),
            (Some(&b"mysql_native_password"[..]), &b"ABCDEFGHIJKLMNOPQRST"[..])
        );
        assert_eq!((sent.user, sent.database, sent.attributes), (came.user, came.database, came.attributes));
        assert_eq!(switch_request(&SALT_HERE), b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    }
}
