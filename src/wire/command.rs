//! COM_* bytes and the shape of the reply that each one expects.
//!
//! Sources: the MySQL page "Command Phase" and `my_command.h`, the MariaDB page "Server Protocol: Commands".
//! A command is the first byte of a packet whose sequence number is 0. This page knows how a reply is built
//! in outline only; what its packets mean is told by the pages of the packets.

/// The first byte of a client's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    Sleep,
    Quit,
    InitDb,
    Query,
    FieldList,
    CreateDb,
    DropDb,
    Refresh,
    Shutdown,
    Statistics,
    ProcessInfo,
    Connect,
    ProcessKill,
    Debug,
    Ping,
    Time,
    DelayedInsert,
    ChangeUser,
    BinlogDump,
    TableDump,
    ConnectOut,
    RegisterReplica,
    StmtPrepare,
    StmtExecute,
    StmtSendLongData,
    StmtClose,
    StmtReset,
    SetOption,
    StmtFetch,
    Daemon,
    BinlogDumpGtid,
    ResetConnection,
    /// MySQL 8.0.17.
    Clone,
    /// MySQL 8: a member's stream of group replication.
    SubscribeGroupReplicationStream,
    /// MariaDB.
    StmtBulkExecute,
    /// MariaDB 10.2, several commands in one packet; later releases refuse it.
    Multi,
    /// A byte that no known server takes for a command; the answer is an ERR.
    Unknown(u8),
}

/// How the reply to a command is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The server says nothing.
    None,
    /// One packet: OK, EOF or ERR.
    OkOrErr,
    /// One packet: EOF (an OK with the header 0xFE under DEPRECATE_EOF; some servers send a plain OK) or ERR.
    EofOrErr,
    /// One packet of text.
    Statistics,
    /// OK, ERR, a request for a local file, or a result set; several in a row while MORE_RESULTS_EXISTS is set.
    ResultSet,
    /// COM_STMT_PREPARE_OK with the definitions of parameters and columns, or ERR.
    Prepare,
    /// Column definitions up to a terminal packet.
    FieldList,
    /// Rows up to a terminal packet.
    Rows,
    /// Questions of an authentication plugin, answered by the client, up to OK or ERR.
    Auth,
    /// ERR, or a stream of another protocol: nobody can tell where it ends.
    Foreign,
    /// Such a stream in both directions, at once.
    Opaque,
}

impl Command {
    /// The command that a first byte stands for.
    #[inline]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0x00 => Self::Sleep,
            0x01 => Self::Quit,
            0x02 => Self::InitDb,
            0x03 => Self::Query,
            0x04 => Self::FieldList,
            0x05 => Self::CreateDb,
            0x06 => Self::DropDb,
            0x07 => Self::Refresh,
            0x08 => Self::Shutdown,
            0x09 => Self::Statistics,
            0x0a => Self::ProcessInfo,
            0x0b => Self::Connect,
            0x0c => Self::ProcessKill,
            0x0d => Self::Debug,
            0x0e => Self::Ping,
            0x0f => Self::Time,
            0x10 => Self::DelayedInsert,
            0x11 => Self::ChangeUser,
            0x12 => Self::BinlogDump,
            0x13 => Self::TableDump,
            0x14 => Self::ConnectOut,
            0x15 => Self::RegisterReplica,
            0x16 => Self::StmtPrepare,
            0x17 => Self::StmtExecute,
            0x18 => Self::StmtSendLongData,
            0x19 => Self::StmtClose,
            0x1a => Self::StmtReset,
            0x1b => Self::SetOption,
            0x1c => Self::StmtFetch,
            0x1d => Self::Daemon,
            0x1e => Self::BinlogDumpGtid,
            0x1f => Self::ResetConnection,
            0x20 => Self::Clone,
            0x21 => Self::SubscribeGroupReplicationStream,
            0xfa => Self::StmtBulkExecute,
            0xfe => Self::Multi,
            unknown => Self::Unknown(unknown),
        }
    }

    /// The shape of the reply. Commands that a server keeps to itself (COM_SLEEP, COM_CONNECT ..) get an ERR.
    #[inline]
    #[must_use]
    pub const fn shape(self) -> Shape {
        match self {
            Self::Quit | Self::StmtSendLongData | Self::StmtClose => Shape::None,
            Self::Query | Self::StmtExecute | Self::StmtBulkExecute | Self::ProcessInfo => Shape::ResultSet,
            Self::StmtPrepare => Shape::Prepare,
            Self::StmtFetch => Shape::Rows,
            Self::FieldList => Shape::FieldList,
            Self::Statistics => Shape::Statistics,
            Self::ChangeUser => Shape::Auth,
            Self::SetOption | Self::Debug | Self::Shutdown => Shape::EofOrErr,
            Self::BinlogDump | Self::BinlogDumpGtid | Self::TableDump | Self::Clone | Self::Multi => {
                Shape::Foreign
            }
            Self::SubscribeGroupReplicationStream => Shape::Opaque,
            Self::Sleep
            | Self::InitDb
            | Self::CreateDb
            | Self::DropDb
            | Self::Refresh
            | Self::Connect
            | Self::ProcessKill
            | Self::Ping
            | Self::Time
            | Self::DelayedInsert
            | Self::ConnectOut
            | Self::RegisterReplica
            | Self::StmtReset
            | Self::Daemon
            | Self::ResetConnection
            | Self::Unknown(_) => Shape::OkOrErr,
        }
    }
}

/// What a COM_CHANGE_USER begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedUser<'a> {
    /// As far as it is there, where it has no end.
    pub name: &'a [u8],
    /// An answer comes with it, right or wrong.
    pub password: bool,
}

impl<'a> ChangedUser<'a> {
    /// Reads the first bytes of a payload; none where it is another command's.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (first, rest) = payload.split_first()?;
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let password = rest.get(end + 1).is_some_and(|length| *length > 0);
        let is_it = Command::from_byte(*first) == Command::ChangeUser;
        is_it.then_some(Self { name: &rest[..end], password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_commands() {
        let silent: Vec<u8> =
            (0..=0xff).filter(|byte| Command::from_byte(*byte).shape() == Shape::None).collect();
        assert_eq!(silent, [0x01, 0x18, 0x19]);
    }

    #[test]
    fn streams_of_other_protocols() {
        let of = |shape| (0..=0xff).filter(move |byte| Command::from_byte(*byte).shape() == shape);
        assert_eq!(of(Shape::Foreign).collect::<Vec<u8>>(), [0x12, 0x13, 0x1e, 0x20, 0xfe]);
        assert_eq!(of(Shape::Opaque).collect::<Vec<u8>>(), [0x21]);
    }

    #[test]
    fn a_byte_nobody_knows_is_answered_by_one_packet() {
        assert_eq!(Command::from_byte(0x77), Command::Unknown(0x77));
        assert_eq!(Command::from_byte(0x77).shape(), Shape::OkOrErr);
    }

    #[test]
    fn a_change_of_the_user_is_read_as_far_as_it_is_there() {
        let read = |payload| ChangedUser::read(payload).map(|user| (user.name, user.password));
        assert_eq!(read(b"\x11app\0\x14aaaaaaaaaaaaaaaaaaaa"), Some((&b"app"[..], true)));
        assert_eq!(read(b"\x11app\0\0test\0"), Some((&b"app"[..], false)));
        assert_eq!(read(b"\x11app"), Some((&b"app"[..], false)));
        assert_eq!(read(b"\x11"), Some((&b""[..], false)));
        assert_eq!((read(b"\x03SELECT 1"), read(b"")), (None, None));
    }
}
