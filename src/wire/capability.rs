//! Capability flags: what client and server agree to speak.
//!
//! Sources: the MySQL protocol page "Capabilities Flags", the MariaDB page "Connecting: Capabilities".

/// Capability flags of MySQL in the low 32 bits, MariaDB's extended ones in the high 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);
