//! COM_CHANGE_USER: who a session wants to be from now on.
//!
//! Sources: the MySQL page "COM_CHANGE_USER", `parse_com_change_user_packet` of MySQL and MariaDB. Unlike in a login the length of the
//! answer is always one byte, and the collation has two. What an old client leaves out at the end cannot be told from a cut packet by
//! anybody, so the form that is read here is the whole one, of a client that knows plugins. As in a login a plugin's name may lack its
//! NUL.

use bytes::BufMut;

use super::capability::Capabilities;
use super::cursor::{Cursor, put_lenenc_bytes, put_nul_terminated};
use super::login::Attributes;
use super::{Error, Result};

/// Its command byte.
pub const CHANGE_USER: u8 = 0x11;

/// What both sides of a leg must know for the form that is read and written here.
pub const NEEDED: Capabilities =
    Capabilities(Capabilities::SECURE_CONNECTION.0 | Capabilities::PLUGIN_AUTH.0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    pub user: &'a [u8],
    /// What the client's plugin makes of the password and the salt that it was shown last.
    pub auth: &'a [u8],
    pub database: Option<&'a [u8]>,
    /// The client's collation id.
    pub charset: u16,
    pub plugin: Option<&'a [u8]>,
    pub attributes: Option<Attributes<'a>>,
}

impl<'a> ChangeUser<'a> {
    /// Reads the payload of a client with these capabilities, which has those of [`NEEDED`].
    pub fn read(payload: &'a [u8], capabilities: Capabilities) -> Result<Self> {
        let mut cursor = Cursor::new(payload);
        cursor.header(CHANGE_USER, "COM_CHANGE_USER")?;
        let user = cursor.nul_terminated("user name")?;
        let length = cursor.u8("auth data")?;
        let auth = cursor.take(length.into(), "auth data")?;
        let database = Some(cursor.nul_terminated("database")?).filter(|name| !name.is_empty());
        let charset = cursor.u16("character set")?;
        let plugin = cursor.nul_terminated("plugin name").unwrap_or_else(|_| cursor.rest());
        let attributes = (capabilities.has(Capabilities::CONNECT_ATTRS) && !cursor.is_empty())
            .then(|| cursor.lenenc_bytes("connection attributes").map(Attributes))
            .transpose()?;
        let plugin = Some(plugin).filter(|name| !name.is_empty());
        Ok(Self { user, auth, database, charset, plugin, attributes })
    }

    /// Writes the payload for a server with these capabilities, which has those of [`NEEDED`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the auth data is longer than 255 bytes.
    pub fn write(&self, out: &mut impl BufMut, capabilities: Capabilities) -> Result<()> {
        let too_large = Error::TooLarge { field: "auth data", limit: 255, found: self.auth.len() };
        out.put_u8(CHANGE_USER);
        put_nul_terminated(out, self.user);
        out.put_u8(u8::try_from(self.auth.len()).map_err(|_| too_large)?);
        out.put_slice(self.auth);
        put_nul_terminated(out, self.database.unwrap_or_default());
        out.put_u16_le(self.charset);
        put_nul_terminated(out, self.plugin.unwrap_or_default());
        if capabilities.has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(out, self.attributes.map_or(&[], |attributes| attributes.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ATTRIBUTES: Capabilities = Capabilities(NEEDED.0 | Capabilities::CONNECT_ATTRS.0);
    const WHOLE: &[u8] = b"\x11app\0\x03abctest\0\x00\x09mysql_native_password\0\x06\x02_x\x02ab";

    #[test]
    fn all_of_it_is_read() {
        let change = ChangeUser {
            user: b"app",
            auth: b"abc",
            database: Some(b"test"),
            charset: 0x900,
            plugin: Some(b"mysql_native_password"),
            attributes: Some(Attributes(b"\x02_x\x02ab")),
        };
        assert_eq!(ChangeUser::read(WHOLE, ATTRIBUTES), Ok(change));
        let mut written = Vec::new();
        change.write(&mut written, ATTRIBUTES).unwrap();
        assert_eq!(written, WHOLE);
        let without = ChangeUser { attributes: None, ..change };
        assert_eq!(ChangeUser::read(WHOLE, NEEDED), Ok(without), "the client knows no attributes");
        written.clear();
        change.write(&mut written, NEEDED).unwrap();
        assert_eq!(written, WHOLE[..WHOLE.len() - 7]);
    }

    #[test]
    fn what_may_be_missing_is_not_asked_for() {
        let least = ChangeUser::read(b"\x11\0\0\0\x2d\0", ATTRIBUTES).unwrap();
        let nothing =
            ChangeUser { user: b"", auth: b"", database: None, charset: 45, plugin: None, attributes: None };
        assert_eq!(least, nothing);
        assert_eq!(ChangeUser::read(b"\x11\0\0\0\x2d\0\0", ATTRIBUTES), Ok(nothing));
    }

    #[test]
    fn a_cut_one_is_none() {
        let end = WHOLE.len() - 7;
        for length in 0..WHOLE.len() {
            let whole = (end - 22..=end).contains(&length);
            assert_eq!(ChangeUser::read(&WHOLE[..length], ATTRIBUTES).is_ok(), whole, "{length} bytes");
        }
        assert!(ChangeUser::read(b"\x03SELECT 1", ATTRIBUTES).is_err());
        let long = ChangeUser { auth: &[1; 256], ..ChangeUser::read(WHOLE, NEEDED).unwrap() };
        assert!(matches!(long.write(&mut Vec::new(), NEEDED), Err(Error::TooLarge { found: 256, .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(noise: Vec<u8>) {
            let payload = [&[CHANGE_USER][..], &noise].concat();
            let _ = ChangeUser::read(&payload, ATTRIBUTES);
        }
    }
}
