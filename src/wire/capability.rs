//! Capability flags: what client and server agree to speak.
//!
//! Sources: the MySQL protocol page "Capabilities Flags", the MariaDB page "Connection: Capabilities".
//! MariaDB announces its extended flags by leaving [`Capabilities::LONG_PASSWORD`] (which it calls
//! `CLIENT_MYSQL`) unset; they then travel in bytes that MySQL reserves.

use std::ops::{BitAnd, BitOr, Sub};

use super::compressed::codec::Algorithm;

/// Capability flags of MySQL in the low 32 bits, MariaDB's extended ones in the high 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// MariaDB leaves it unset to say that the extended flags follow.
    pub const LONG_PASSWORD: Self = Self(1);
    pub const FOUND_ROWS: Self = Self(1 << 1);
    pub const LONG_FLAG: Self = Self(1 << 2);
    pub const CONNECT_WITH_DB: Self = Self(1 << 3);
    pub const NO_SCHEMA: Self = Self(1 << 4);
    pub const COMPRESS: Self = Self(1 << 5);
    pub const ODBC: Self = Self(1 << 6);
    pub const LOCAL_FILES: Self = Self(1 << 7);
    pub const IGNORE_SPACE: Self = Self(1 << 8);
    pub const PROTOCOL_41: Self = Self(1 << 9);
    pub const INTERACTIVE: Self = Self(1 << 10);
    pub const SSL: Self = Self(1 << 11);
    pub const IGNORE_SIGPIPE: Self = Self(1 << 12);
    pub const TRANSACTIONS: Self = Self(1 << 13);
    pub const RESERVED: Self = Self(1 << 14);
    /// Also called CLIENT_RESERVED2: the 4.1 authentication.
    pub const SECURE_CONNECTION: Self = Self(1 << 15);
    pub const MULTI_STATEMENTS: Self = Self(1 << 16);
    pub const MULTI_RESULTS: Self = Self(1 << 17);
    pub const PS_MULTI_RESULTS: Self = Self(1 << 18);
    pub const PLUGIN_AUTH: Self = Self(1 << 19);
    pub const CONNECT_ATTRS: Self = Self(1 << 20);
    pub const PLUGIN_AUTH_LENENC_DATA: Self = Self(1 << 21);
    pub const CAN_HANDLE_EXPIRED_PASSWORDS: Self = Self(1 << 22);
    pub const SESSION_TRACK: Self = Self(1 << 23);
    pub const DEPRECATE_EOF: Self = Self(1 << 24);
    /// MySQL 8: a result set may come without column definitions.
    pub const OPTIONAL_RESULTSET_METADATA: Self = Self(1 << 25);
    pub const ZSTD_COMPRESSION: Self = Self(1 << 26);
    /// Either algorithm, see [`Self::of_compression`].
    pub const COMPRESSION: Self = Self(Self::COMPRESS.0 | Self::ZSTD_COMPRESSION.0);
    pub const QUERY_ATTRIBUTES: Self = Self(1 << 27);
    pub const MULTI_FACTOR_AUTHENTICATION: Self = Self(1 << 28);
    pub const CAPABILITY_EXTENSION: Self = Self(1 << 29);
    pub const SSL_VERIFY_SERVER_CERT: Self = Self(1 << 30);
    pub const REMEMBER_OPTIONS: Self = Self(1 << 31);

    /// MariaDB: progress packets during long statements.
    pub const MARIADB_PROGRESS: Self = Self(1 << 32);
    pub const MARIADB_COM_MULTI: Self = Self(1 << 33);
    /// MariaDB: COM_STMT_BULK_EXECUTE.
    pub const MARIADB_STMT_BULK_OPERATIONS: Self = Self(1 << 34);
    /// MariaDB: column definitions carry extended type information.
    pub const MARIADB_EXTENDED_METADATA: Self = Self(1 << 35);
    /// MariaDB: a prepared statement's column definitions may be left out when unchanged.
    pub const MARIADB_CACHE_METADATA: Self = Self(1 << 36);
    /// MariaDB 11.5: a bulk execution may answer with one result for each parameter row.
    pub const MARIADB_BULK_UNIT_RESULTS: Self = Self(1 << 37);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flag that offers, or asks for, an algorithm.
    #[must_use]
    pub const fn of_compression(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Zlib => Self::COMPRESS,
            Algorithm::Zstd => Self::ZSTD_COMPRESSION,
        }
    }

    /// What is spoken by two sides of which one offers and the other asks for these. Where both algorithms are agreed on, servers and
    /// clients of MySQL's speak zlib.
    #[must_use]
    pub fn compression(self) -> Option<Algorithm> {
        [Algorithm::Zlib, Algorithm::Zstd]
            .into_iter()
            .find(|algorithm| self.has(Self::of_compression(*algorithm)))
    }

    /// The 32 flags that MySQL knows.
    #[must_use]
    pub const fn base(self) -> u32 {
        self.0 as u32
    }

    /// MariaDB's extended flags.
    #[must_use]
    pub const fn extended(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[must_use]
    pub const fn new(base: u32, extended: u32) -> Self {
        Self(base as u64 | ((extended as u64) << 32))
    }
}

impl BitAnd for Capabilities {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Set difference: the flags of the left side without those of the right.
impl Sub for Capabilities {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}
