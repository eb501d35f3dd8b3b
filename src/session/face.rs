//! How corelane presents itself in its greeting: version, capabilities, character set.
//!
//! A client should see what it would see of its CN. As corelane greets before it knows which CN the
//! session goes to, the face is what all CNs have in common: nothing is promised that one of them lacks, and
//! nothing that corelane cannot pass on. Where CNs of MySQL and of MariaDB are mixed, it is a face of MySQL.

use crate::ident::SessionId;
use crate::wire::auth::Plugin;
use crate::wire::capability::Capabilities;
use crate::wire::compressed::codec::Algorithm;
use crate::wire::greeting::{Greeting, SALT};

/// Bytes of the longest server version; a longer one is cut.
pub const VERSION_MAX: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// The server version string, at most [`VERSION_MAX`] bytes.
    pub version: String,
    pub capabilities: Capabilities,
    /// The default collation id.
    pub charset: u8,
    /// The authentication plugin whose answer is hoped for.
    pub plugin: Plugin,
}

impl Face {
    /// The face of one CN, as its greeting shows it.
    pub fn of(greeting: &Greeting<'_>) -> Self {
        let version = String::from_utf8_lossy(greeting.version);
        Self {
            version: cut(&version),
            capabilities: greeting.capabilities,
            charset: greeting.charset,
            plugin: Plugin::Native,
        }
    }

    /// What the faces of all CNs have in common, with the version and character set of the first; the
    /// [default](Self::default) when none is known yet. `version` replaces the CNs' own.
    pub fn common<'a>(cns: impl IntoIterator<Item = &'a Face>, version: Option<&str>) -> Self {
        let mut face = cns.into_iter().cloned().reduce(Self::and).unwrap_or_default();
        face.capabilities = (face.capabilities - CANNOT_PASS_ON) | OWN;
        if let Some(version) = version {
            face.version = cut(version);
        }
        face
    }

    /// The same, with TLS offered.
    pub fn with_tls(self) -> Self {
        Self { capabilities: self.capabilities | Capabilities::SSL, ..self }
    }

    /// The same, with another authentication plugin.
    pub fn with_plugin(self, plugin: Plugin) -> Self {
        Self { plugin, ..self }
    }

    /// The same, with compression offered.
    pub fn with_compression(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let flags = algorithms.into_iter().map(Capabilities::of_compression);
        Self { capabilities: flags.fold(self.capabilities, |all, flag| all | flag), ..self }
    }

    /// The greeting's payload. A salt comes out of [`salt`].
    pub fn greeting(&self, salt: &[u8; SALT], id: SessionId) -> Vec<u8> {
        let greeting = Greeting {
            version: self.version.as_bytes(),
            connection_id: id.0,
            salt: *salt,
            capabilities: self.capabilities,
            charset: self.charset,
            status: AUTOCOMMIT,
            plugin: self.plugin.name().as_bytes(),
        };
        let mut payload = Vec::with_capacity(128);
        greeting.write(&mut payload);
        payload
    }

    /// LONG_PASSWORD is the sign of MySQL, so among mixed CNs it is set, and the extended flags are not.
    fn and(self, other: Self) -> Self {
        let mysql = (self.capabilities | other.capabilities) & Capabilities::LONG_PASSWORD;
        let common = self.capabilities & other.capabilities;
        let extended = if mysql == Capabilities::LONG_PASSWORD { 0 } else { common.extended() };
        Self { capabilities: Capabilities::new(common.base(), extended) | mysql, ..self }
    }
}

/// What any server since MySQL 5.5 can do, for clients that come before the first CN was asked.
impl Default for Face {
    fn default() -> Self {
        let capabilities = [
            Capabilities::LONG_PASSWORD,
            Capabilities::FOUND_ROWS,
            Capabilities::LONG_FLAG,
            Capabilities::NO_SCHEMA,
            Capabilities::ODBC,
            Capabilities::LOCAL_FILES,
            Capabilities::IGNORE_SPACE,
            Capabilities::INTERACTIVE,
            Capabilities::IGNORE_SIGPIPE,
            Capabilities::TRANSACTIONS,
            Capabilities::MULTI_STATEMENTS,
            Capabilities::MULTI_RESULTS,
            Capabilities::PS_MULTI_RESULTS,
            OWN,
        ];
        let capabilities = capabilities.into_iter().fold(Capabilities::default(), |all, flag| all | flag);
        Self { version: DEFAULT_VERSION.to_owned(), capabilities, charset: UTF8MB4, plugin: Plugin::Native }
    }
}

/// Makes a salt of random bytes: printable, because clients exist that read it as a C string, and one byte in
/// MySQL's own salts means the salt's end.
pub fn salt<const N: usize>(random: [u8; N]) -> [u8; N] {
    random.map(|byte| b'%' + byte % (b'~' - b'%' + 1))
}

/// What the relay cannot pass on: TLS and compression are each leg's own, and it does not follow the others.
const CANNOT_PASS_ON: Capabilities = Capabilities(
    Capabilities::SSL.0
        | Capabilities::COMPRESSION.0
        | Capabilities::MULTI_FACTOR_AUTHENTICATION.0
        | Capabilities::CAPABILITY_EXTENSION.0
        | Capabilities::SSL_VERIFY_SERVER_CERT.0
        | Capabilities::MARIADB_COM_MULTI.0
        | UNKNOWN_EXTENDED,
);

/// What corelane can do by itself, because it reads the login.
const OWN: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::CONNECT_WITH_DB.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC_DATA.0
        | Capabilities::CONNECT_ATTRS.0,
);

/// MariaDB's extended flags that came after those that are named; what they change is not known.
const UNKNOWN_EXTENDED: u64 = !0 << 38;

/// Status flag: each statement commits by itself.
const AUTOCOMMIT: u16 = 2;
/// Collation `utf8mb4_general_ci`.
const UTF8MB4: u8 = 45;
const DEFAULT_VERSION: &str = "8.0.0-corelane";

fn cut(version: &str) -> String {
    version[..version.floor_char_boundary(VERSION_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{IdRange, WorkerId};
    use crate::wire::greeting::tests::{MARIADB_10_11, MYSQL_8};

    fn face(greeting: &[u8]) -> Face {
        Face::of(&Greeting::read(greeting).unwrap())
    }

    #[test]
    fn one_cn_is_shown_as_it_is_but_for_what_cannot_pass() {
        let shown = Face::common([&face(MARIADB_10_11)], None);
        assert_eq!(shown.version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
        assert_eq!(shown.charset, 8);
        assert_eq!(shown.capabilities, face(MARIADB_10_11).capabilities - Capabilities::COMPRESS);
        assert!(shown.capabilities.has(Capabilities::MARIADB_CACHE_METADATA));
        let shown = Face::common([&face(MYSQL_8)], Some("8.4.0"));
        assert_eq!(shown.version, "8.4.0");
        assert!(!shown.capabilities.has(Capabilities::SSL));
        assert!(shown.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
    }

    #[test]
    fn mixed_cns_are_shown_as_mysql() {
        let cns = [face(MARIADB_10_11), face(MYSQL_8)];
        for cns in [[&cns[0], &cns[1]], [&cns[1], &cns[0]]] {
            let shown = Face::common(cns, None);
            assert!(shown.capabilities.has(Capabilities::LONG_PASSWORD | Capabilities::DEPRECATE_EOF));
            assert_eq!(shown.capabilities.extended(), 0);
            assert!(!shown.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
            assert_eq!(shown.version, cns[0].version);
        }
    }

    #[test]
    fn before_any_cn_is_known_nothing_is_promised_that_an_old_one_lacks() {
        let shown = Face::common([], None);
        assert_eq!(shown, Face::default());
        assert_eq!(shown.capabilities - face(MARIADB_10_11).capabilities, Capabilities::LONG_PASSWORD);
        assert!(!shown.capabilities.has(Capabilities::DEPRECATE_EOF));
    }

    #[test]
    fn the_greeting_says_what_the_face_is() {
        let salt = salt(std::array::from_fn(|at| (at * 13) as u8));
        let id = IdRange::default().id(WorkerId(1), 2);
        let payload = face(MARIADB_10_11).greeting(&salt, id);
        let greeting = Greeting::read(&payload).unwrap();
        assert_eq!((greeting.connection_id, greeting.salt), (id.0, salt));
        assert_eq!(greeting.plugin, b"mysql_native_password");
        assert_eq!(Face::of(&greeting), face(MARIADB_10_11));
    }

    #[test]
    fn salts_are_printable() {
        for byte in 0..=255 {
            assert!(salt([byte; SALT]).iter().all(|byte| byte.is_ascii_graphic() && *byte != b'$'));
        }
    }
}
