//! Server status flags, as OK and EOF packets carry them.
//!
//! Sources: the MySQL page "SERVER_STATUS_flags_enum", the MariaDB page "OK_Packet". Only the two bytes of
//! flags live here; where they stand in a packet is told by the packet's own page.

use std::ops::{BitOr, Sub};

/// The server's view of the session after a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    pub const IN_TRANS: Self = Self(0x0001);
    pub const AUTOCOMMIT: Self = Self(0x0002);
    /// Another result of the same command follows.
    pub const MORE_RESULTS_EXISTS: Self = Self(0x0008);
    pub const NO_GOOD_INDEX_USED: Self = Self(0x0010);
    pub const NO_INDEX_USED: Self = Self(0x0020);
    /// A cursor was opened: the rows come with COM_STMT_FETCH only.
    pub const CURSOR_EXISTS: Self = Self(0x0040);
    pub const LAST_ROW_SENT: Self = Self(0x0080);
    pub const DB_DROPPED: Self = Self(0x0100);
    pub const NO_BACKSLASH_ESCAPES: Self = Self(0x0200);
    pub const METADATA_CHANGED: Self = Self(0x0400);
    pub const QUERY_WAS_SLOW: Self = Self(0x0800);
    /// The result set holds the OUT parameters of a procedure.
    pub const PS_OUT_PARAMS: Self = Self(0x1000);
    pub const IN_TRANS_READONLY: Self = Self(0x2000);
    /// Session-state changes follow in the OK packet.
    pub const SESSION_STATE_CHANGED: Self = Self(0x4000);
    /// MariaDB: `ANSI_QUOTES` is part of the session's SQL mode.
    pub const ANSI_QUOTES: Self = Self(0x8000);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Sub for Status {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Status {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
