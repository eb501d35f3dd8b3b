//! The server's first packet: its version, its salt and what it can do.
//!
//! Sources: MySQL "Protocol::HandshakeV10", MariaDB "Connection: initial handshake packet". A server that
//! does not want us sends an ERR in its place, often without an SQL state: [`Hello`] is either. HandshakeV9
//! (before MySQL 3.21) is not spoken.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::{Cursor, put_nul_terminated};
use super::reply::{self, ErrPacket};
use super::{Error, Result};

/// Bytes of the random challenge, without the NUL that ends it.
pub const SALT: usize = 20;

const VERSION: u8 = 10;
/// Bytes of the salt in its first place.
const SALT_HEAD: usize = 8;

/// What a server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello<'a> {
    Greeting(Greeting<'a>),
    /// It does not serve us: too many connections, host blocked, host not allowed.
    Unwilling(ErrPacket<'a>),
}

impl<'a> Hello<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        match payload.first() {
            Some(&reply::ERR) => ErrPacket::read(payload).map(Self::Unwilling),
            _ => Greeting::read(payload).map(Self::Greeting),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting<'a> {
    pub version: &'a [u8],
    pub connection_id: u32,
    pub salt: [u8; SALT],
    pub capabilities: Capabilities,
    /// The default collation id, its low byte.
    pub charset: u8,
    pub status: u16,
    /// The plugin that the salt is for; empty without PLUGIN_AUTH.
    pub plugin: &'a [u8],
}

impl<'a> Greeting<'a> {
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        let protocol = cursor.u8("protocol version")?;
        if protocol != VERSION {
            return Err(Error::Unexpected {
                field: "protocol version",
                expected: "10",
                found: protocol.into(),
            });
        }
        let version = cursor.nul_terminated("server version")?;
        let connection_id = cursor.u32("connection id")?;
        let head: [u8; SALT_HEAD] = cursor.array("first 8 bytes of the salt")?;
        cursor.u8("filler after the salt")?;
        let low = cursor.u16("low capability flags")?;
        let charset = cursor.u8("character set")?;
        let status = cursor.u16("status flags")?;
        let high = cursor.u16("high capability flags")?;
        let base = u32::from(low) | (u32::from(high) << 16);
        let salt_length = cursor.u8("length of the salt")?;
        cursor.take(6, "reserved bytes")?;
        let reserved = cursor.u32("extended capability flags")?;
        let extended = if base & Capabilities::LONG_PASSWORD.base() == 0 { reserved } else { 0 };
        let capabilities = Capabilities::new(base, extended);
        let salt = read_salt(&mut cursor, head, salt_length, capabilities)?;
        let plugin = match capabilities.has(Capabilities::PLUGIN_AUTH) {
            true => cursor.nul_terminated("plugin name")?,
            false => b"",
        };
        cursor.end("greeting")?;
        Ok(Self { version, connection_id, salt, capabilities, charset, status, plugin })
    }

    pub fn write(&self, out: &mut impl BufMut) {
        let base = self.capabilities.base();
        let mariadb = !self.capabilities.has(Capabilities::LONG_PASSWORD);
        let plugin = self.capabilities.has(Capabilities::PLUGIN_AUTH);
        out.put_u8(VERSION);
        put_nul_terminated(out, self.version);
        out.put_u32_le(self.connection_id);
        out.put_slice(&self.salt[..SALT_HEAD]);
        out.put_u8(0);
        out.put_u16_le(base as u16);
        out.put_u8(self.charset);
        out.put_u16_le(self.status);
        out.put_u16_le((base >> 16) as u16);
        out.put_u8(if plugin { SALT as u8 + 1 } else { 0 });
        out.put_bytes(0, 6);
        out.put_u32_le(if mariadb { self.capabilities.extended() } else { 0 });
        if self.capabilities.has(Capabilities::SECURE_CONNECTION) {
            out.put_slice(&self.salt[SALT_HEAD..]);
            out.put_u8(0);
        }
        if plugin {
            put_nul_terminated(out, self.plugin);
        }
    }
}

/// The second part of the salt takes max(13, length - 8) bytes, the last of which is a NUL.
fn read_salt(
    cursor: &mut Cursor<'_>,
    head: [u8; SALT_HEAD],
    length: u8,
    capabilities: Capabilities,
) -> Result<[u8; SALT]> {
    let mut salt = [0; SALT];
    salt[..SALT_HEAD].copy_from_slice(&head);
    if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let tail = cursor.take(usize::from(length).saturating_sub(SALT_HEAD).max(13), "rest of the salt")?;
        salt[SALT_HEAD..].copy_from_slice(&tail[..SALT - SALT_HEAD]);
    }
    Ok(salt)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MariaDB 10.11.19.
    pub(crate) const MARIADB_10_11: &[u8] =
        b"\n5.5.5-10.11.19-MariaDB-0+deb12u1\0\x1b\0\0\0BA\\.lXSu\0\xfe\xf7\
        \x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0uk:|&Eia)Gi]\0mysql_native_password\0";
    /// MySQL 8.0, put together by the protocol's page.
    pub(crate) const MYSQL_8: &[u8] = b"\n8.0.36\0\x0c\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\xff\xff\
        \xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\0\
        caching_sha2_password\0";
    /// MySQL 9.7.4, Debian.
    const MYSQL_9_7: &[u8] = b"\n9.7.4-2\0\xd6\0\0\0k.\x1e4`;Xf\0\xff\xff\
        \xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0;f\n\t:Gi%qW%[\0caching_sha2_password\0";
    /// The protocol page's example of MySQL 5.5.2, which has no plugins.
    const MYSQL_5_5: &[u8] = b"\n5.5.2-m2\0\x0b\0\0\0dvH@I-CJ\0\xff\xf7\x08\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        *4d|cZwk4^]:\0";

    #[test]
    fn mariadb_announces_extended_capabilities() {
        let greeting = Greeting::read(MARIADB_10_11).unwrap();
        assert_eq!(greeting.version, b"5.5.5-10.11.19-MariaDB-0+deb12u1");
        assert_eq!(greeting.connection_id, 27);
        assert_eq!(&greeting.salt, b"BA\\.lXSuuk:|&Eia)Gi]");
        assert_eq!(greeting.capabilities, Capabilities::new(0x81ff_f7fe, 0x1d));
        assert!(greeting.capabilities.has(Capabilities::MARIADB_CACHE_METADATA));
        assert_eq!((greeting.charset, greeting.status), (8, 2));
        assert_eq!(greeting.plugin, b"mysql_native_password");
    }

    #[test]
    fn mysql_has_none() {
        let greeting = Greeting::read(MYSQL_8).unwrap();
        assert_eq!(greeting.capabilities, Capabilities::new(0xdfff_ffff, 0));
        assert_eq!(greeting.salt[7..9], [8, 0x11]);
        assert_eq!(greeting.plugin, b"caching_sha2_password");
        let greeting = Greeting::read(MYSQL_9_7).unwrap();
        assert_eq!((greeting.version, greeting.connection_id), (&b"9.7.4-2"[..], 214));
        assert_eq!(greeting.capabilities, Capabilities::new(0xdfff_ffff, 0));
        assert_eq!((greeting.charset, greeting.status), (255, 2));
        assert_eq!(&greeting.salt, b"k.\x1e4`;Xf;f\n\t:Gi%qW%[");
        assert_eq!(Greeting::read(MYSQL_5_5).unwrap().plugin, b"");
        assert_eq!(&Greeting::read(MYSQL_5_5).unwrap().salt, b"dvH@I-CJ*4d|cZwk4^]:");
    }

    #[test]
    fn captures_are_written_as_they_were_read() {
        for bytes in [MARIADB_10_11, MYSQL_8, MYSQL_9_7, MYSQL_5_5] {
            let mut out = Vec::new();
            Greeting::read(bytes).unwrap().write(&mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for bytes in [MARIADB_10_11, MYSQL_8, MYSQL_9_7, MYSQL_5_5] {
            for cut in 0..bytes.len() {
                assert!(Greeting::read(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn an_err_may_stand_in_for_it() {
        let Hello::Unwilling(err) = Hello::read(b"\xff\x10\x04Too many connections").unwrap() else {
            panic!("not taken for an ERR")
        };
        assert_eq!((err.code, err.sqlstate, err.message), (1040, None, &b"Too many connections"[..]));
    }

    proptest! {
        #[test]
        fn greetings_come_back(
            version in "[0-9a-zA-Z.-]{0,60}",
            salt: [u8; SALT],
            base: u32,
            extended: u32,
            (connection_id, charset, status) in any::<(u32, u8, u16)>(),
        ) {
            let base = base | Capabilities::SECURE_CONNECTION.base() | Capabilities::PLUGIN_AUTH.base();
            let extended = if base & 1 == 0 { extended } else { 0 };
            let greeting = Greeting {
                version: version.as_bytes(),
                connection_id,
                salt,
                capabilities: Capabilities::new(base, extended),
                charset,
                status,
                plugin: b"mysql_native_password",
            };
            let mut out = Vec::new();
            greeting.write(&mut out);
            prop_assert_eq!(Greeting::read(&out), Ok(greeting));
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = Hello::read(&bytes);
            let _ = Greeting::read(&[b"\n1\0".as_slice(), &bytes].concat());
        }
    }
}
