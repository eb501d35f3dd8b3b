//! The client's answer to the greeting: who it is, what it can do, where it wants to go.
//!
//! Sources: MySQL "Protocol::HandshakeResponse41" and "Protocol::SSLRequest", MariaDB "Connection: handshake
//! response packet". The flags in the packet decide which fields follow, so [`HandshakeResponse::read`]
//! goes by the client's own flags, not by those of the session. It is as lenient as MariaDB 10.11 and MySQL 9.7 both are: the
//! plugin's name may lack its NUL or be missing, and what stands behind the last field is not looked at.
//! HandshakeResponse320 (MySQL before 4.1) is refused.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::{Cursor, put_lenenc_bytes, put_nul_terminated};
use super::{Error, Result};

/// Payload bytes of an SSLRequest: the fields before the user name, and nothing more.
pub const SSL_REQUEST: usize = 32;

/// What a client answers a greeting with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Login(HandshakeResponse<'a>),
    /// The client wants TLS before it says who it is.
    Tls(Capabilities),
}

impl<'a> Answer<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        if payload.len() == SSL_REQUEST {
            let (capabilities, ..) = read_head(&mut Cursor::new(payload))?;
            if capabilities.has(Capabilities::SSL) {
                return Ok(Self::Tls(capabilities));
            }
        }
        HandshakeResponse::read(payload).map(Self::Login)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeResponse<'a> {
    pub capabilities: Capabilities,
    /// Bytes of the largest packet that the client takes; 0 leaves it to the server.
    pub max_packet: u32,
    /// The client's collation id, its low byte.
    pub charset: u8,
    pub user: &'a [u8],
    /// What the client's plugin makes of the password and the salt.
    pub auth: &'a [u8],
    pub database: Option<&'a [u8]>,
    pub plugin: Option<&'a [u8]>,
    pub attributes: Option<Attributes<'a>>,
    pub zstd_level: Option<u8>,
}

impl<'a> HandshakeResponse<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        let (capabilities, max_packet, charset) = read_head(&mut cursor)?;
        let has = |flag| capabilities.has(flag);
        let user = cursor.nul_terminated("user name")?;
        let auth = read_auth(&mut cursor, capabilities)?;
        let database = has(Capabilities::CONNECT_WITH_DB)
            .then(|| cursor.nul_terminated("database"))
            .transpose()?
            .filter(|name| !name.is_empty());
        let plugin = has(Capabilities::PLUGIN_AUTH).then(|| read_plugin(&mut cursor));
        let attributes = has(Capabilities::CONNECT_ATTRS)
            .then(|| cursor.lenenc_bytes("connection attributes").map(Attributes))
            .transpose()?;
        let zstd_level = has(Capabilities::ZSTD_COMPRESSION).then(|| cursor.u8("zstd level")).transpose()?;
        Ok(Self { capabilities, max_packet, charset, user, auth, database, plugin, attributes, zstd_level })
    }

    /// Writes the fields that the capabilities call for; a field that is missing then is written empty.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the auth data does not fit the form that the capabilities allow.
    pub fn write(&self, out: &mut impl BufMut) -> Result<()> {
        let has = |flag| self.capabilities.has(flag);
        let extended = if has(Capabilities::LONG_PASSWORD) { 0 } else { self.capabilities.extended() };
        out.put_u32_le(self.capabilities.base());
        out.put_u32_le(self.max_packet);
        out.put_u8(self.charset);
        out.put_bytes(0, 19);
        out.put_u32_le(extended);
        put_nul_terminated(out, self.user);
        write_auth(out, self.auth, self.capabilities)?;
        if has(Capabilities::CONNECT_WITH_DB) {
            put_nul_terminated(out, self.database.unwrap_or_default());
        }
        if has(Capabilities::PLUGIN_AUTH) {
            put_nul_terminated(out, self.plugin.unwrap_or_default());
        }
        if has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(out, self.attributes.map_or(&[], |attributes| attributes.0));
        }
        if has(Capabilities::ZSTD_COMPRESSION) {
            out.put_u8(self.zstd_level.unwrap_or_default());
        }
        Ok(())
    }
}

/// Connection attributes: names and values as the client sent them, not yet taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Each name with its value, without allocation. A malformed pair is an error and the last item.
    pub fn iter(self) -> AttributeIter<'a> {
        AttributeIter(Cursor::new(self.0))
    }

    /// The value of the first attribute of that name.
    pub fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().map_while(Result::ok).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[derive(Clone, Debug)]
pub struct AttributeIter<'a>(Cursor<'a>);

impl<'a> Iterator for AttributeIter<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut pair = || {
            let name = self.0.lenenc_bytes("attribute name")?;
            Ok((name, self.0.lenenc_bytes("attribute value")?))
        };
        let pair = pair();
        if pair.is_err() {
            self.0.rest();
        }
        Some(pair)
    }
}

/// Appends one attribute in the form that [`Attributes`] reads.
pub fn put_attribute(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    put_lenenc_bytes(out, name);
    put_lenenc_bytes(out, value);
}

/// The fields that SSLRequest and HandshakeResponse41 have in common: flags, largest packet, collation.
fn read_head(cursor: &mut Cursor<'_>) -> Result<(Capabilities, u32, u8)> {
    let base = read_base(cursor)?;
    let max_packet = cursor.u32("largest packet")?;
    let charset = cursor.u8("character set")?;
    cursor.take(19, "filler")?;
    let filler = cursor.u32("extended capability flags")?;
    let extended = if base & Capabilities::LONG_PASSWORD.base() == 0 { filler } else { 0 };
    Ok((Capabilities::new(base, extended), max_packet, charset))
}

/// The low 16 flags stand first in the old form too, and say which form it is.
fn read_base(cursor: &mut Cursor<'_>) -> Result<u32> {
    const FIELD: &str = "capability flags";
    let mut ahead = *cursor;
    let low = u32::from(ahead.u16(FIELD)?);
    if low & Capabilities::PROTOCOL_41.base() == 0 {
        let expected = "CLIENT_PROTOCOL_41 (a client of MySQL 4.1 or later)";
        return Err(Error::Unexpected { field: FIELD, expected, found: low.into() });
    }
    cursor.u32(FIELD)
}

fn read_auth<'a>(cursor: &mut Cursor<'a>, capabilities: Capabilities) -> Result<&'a [u8]> {
    const FIELD: &str = "auth data";
    if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
        cursor.lenenc_bytes(FIELD)
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = cursor.u8(FIELD)?;
        cursor.take(length.into(), FIELD)
    } else {
        cursor.nul_terminated(FIELD)
    }
}

fn write_auth(out: &mut impl BufMut, auth: &[u8], capabilities: Capabilities) -> Result<()> {
    if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
        put_lenenc_bytes(out, auth);
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let too_large = Error::TooLarge { field: "auth data", limit: 255, found: auth.len() };
        out.put_u8(u8::try_from(auth.len()).map_err(|_| too_large)?);
        out.put_slice(auth);
    } else {
        put_nul_terminated(out, auth);
    }
    Ok(())
}

/// A name that has no NUL goes on to the end.
fn read_plugin<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    match cursor.nul_terminated("plugin name") {
        Ok(name) => name,
        Err(_) => cursor.rest(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::auth::NATIVE;
    use proptest::prelude::*;

    /// The `mariadb` command line 10.11 (libmariadb 3.3.20), user `ed`, database `d1`.
    pub(crate) const LIBMARIADB: &[u8] = include_bytes!("../../tests/data/login-libmariadb-3.3.20.bin");
    /// The `mysql` command line 9.7.4, user `app`, database `d`.
    const LIBMYSQLCLIENT: &[u8] = include_bytes!("../../tests/data/login-libmysqlclient-9.7.4.bin");
    /// A client with MySQL's flags, session tracking and two attributes.
    pub(crate) const TRACKING: &[u8] =
        b"\x0d\xa2\xbf\x01\0\0\0\x01-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        napw\0\x14]\xbeH\xca\xd2\xe8Gk#;oO\xcf\0=\x11\x9c\xeb\x8c\xccd1\0mysql_native_password\0\
        !\x0c_client_name\x07capture\x06tenant\x04acme";

    #[test]
    fn captures_are_read_and_written_back() {
        let login = HandshakeResponse::read(TRACKING).unwrap();
        assert_eq!(login.capabilities, Capabilities::new(0x01bf_a20d, 0));
        assert_eq!((login.max_packet, login.charset), (1 << 24, 45));
        assert_eq!((login.user, login.auth.len()), (&b"napw"[..], 20));
        assert_eq!(login.database, Some(&b"d1"[..]));
        assert_eq!(login.plugin, Some(&b"mysql_native_password"[..]));
        let attributes = login.attributes.unwrap();
        assert_eq!(attributes.iter().count(), 2);
        assert_eq!(attributes.get(b"tenant"), Some(&b"acme"[..]));
        for bytes in [TRACKING, LIBMARIADB, LIBMYSQLCLIENT] {
            let mut out = Vec::new();
            HandshakeResponse::read(bytes).unwrap().write(&mut out).unwrap();
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_mariadb_client_has_extended_flags() {
        let login = HandshakeResponse::read(LIBMARIADB).unwrap();
        assert_eq!(login.capabilities, Capabilities::new(0x00bf_a28c, 0x1d));
        assert_eq!(login.user, b"ed");
        assert_eq!(login.attributes.unwrap().get(b"program_name"), Some(&b"mysql"[..]));
    }

    #[test]
    fn a_mysql_client_proves_itself_by_sha2() {
        let login = HandshakeResponse::read(LIBMYSQLCLIENT).unwrap();
        assert_eq!(login.capabilities, Capabilities::new(0x19bf_a28d, 0));
        assert_eq!((login.user, login.auth.len(), login.database), (&b"app"[..], 32, Some(&b"d"[..])));
        assert_eq!(login.plugin, Some(&b"caching_sha2_password"[..]));
        assert_eq!(login.attributes.unwrap().get(b"_client_version"), Some(&b"9.7.4"[..]));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for bytes in [TRACKING, LIBMARIADB, LIBMYSQLCLIENT] {
            for cut in 0..bytes.len() {
                assert!(Answer::read(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    /// All of these log in at MariaDB 10.11 and MySQL 9.7; the two at the end are refused.
    #[test]
    fn what_servers_take_is_taken() {
        let attributes = TRACKING.len() - 34;
        let without = |flags: u32| {
            let mut login = TRACKING[..attributes].to_vec();
            login[2] &= !(flags >> 16) as u8;
            login
        };
        let plain = without(Capabilities::CONNECT_ATTRS.base());
        let nameless = plain.len() - NATIVE.len() - 1;
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (&plain, Some(NATIVE.as_bytes())),
            (&[&plain, &b"\0\0"[..]].concat(), Some(NATIVE.as_bytes())),
            (&[&plain, &b"xyz"[..]].concat(), Some(NATIVE.as_bytes())),
            (&plain[..plain.len() - 1], Some(NATIVE.as_bytes())),
            (&plain[..nameless], Some(b"")),
            (&[TRACKING, b"\0x"].concat(), Some(NATIVE.as_bytes())),
        ];
        for (bytes, plugin) in cases {
            assert_eq!(HandshakeResponse::read(bytes).unwrap().plugin, plugin, "{}", bytes.escape_ascii());
        }
        let mut broken = TRACKING.to_vec();
        broken[attributes] += 1;
        assert!(HandshakeResponse::read(&broken).is_err(), "attributes beyond the end");
        assert!(HandshakeResponse::read(&TRACKING[..attributes]).is_err(), "no attributes");
    }

    #[test]
    fn a_wish_for_tls_is_seen() {
        let mut request = TRACKING[..SSL_REQUEST].to_vec();
        assert!(Answer::read(&request).is_err(), "without the flag it is a login cut short");
        request[1] |= 0x08;
        assert!(matches!(Answer::read(&request), Ok(Answer::Tls(_))));
    }

    #[test]
    fn the_old_form_is_named() {
        let old = HandshakeResponse::read(b"\x85\x24\0\0\0old\0\x47\x44\x53\x43\x51\x59\x52\x5f");
        assert!(old.unwrap_err().to_string().contains("MySQL 4.1"));
    }

    #[test]
    fn a_malformed_attribute_ends_the_list() {
        let all: Vec<_> = Attributes(b"\x01a\x01b\x05x").iter().collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].is_ok() && all[1].is_err());
    }

    proptest! {
        #[test]
        fn logins_come_back(
            base: u32,
            extended: u32,
            (max_packet, charset) in any::<(u32, u8)>(),
            user in "[^\0]{0,32}",
            auth in proptest::collection::vec(1u8.., 0..250),
            name in "[a-z]{1,20}",
            attributes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let base = base | Capabilities::PROTOCOL_41.base();
            let capabilities = Capabilities::new(base, if base & 1 == 0 { extended } else { 0 });
            let has = |flag| capabilities.has(flag);
            let login = HandshakeResponse {
                capabilities,
                max_packet,
                charset,
                user: user.as_bytes(),
                auth: &auth,
                database: has(Capabilities::CONNECT_WITH_DB).then_some(name.as_bytes()),
                plugin: has(Capabilities::PLUGIN_AUTH).then_some(name.as_bytes()),
                attributes: has(Capabilities::CONNECT_ATTRS).then_some(Attributes(&attributes)),
                zstd_level: has(Capabilities::ZSTD_COMPRESSION).then_some(3),
            };
            let mut out = Vec::new();
            login.write(&mut out).unwrap();
            prop_assert_eq!(HandshakeResponse::read(&out), Ok(login));
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = Answer::read(&bytes);
            let _ = Answer::read(&[&TRACKING[..32], &bytes].concat());
            Attributes(&bytes).iter().for_each(drop);
        }
    }
}
