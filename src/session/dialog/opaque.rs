//! Why a dialog gave up following its streams.
//!
//! Opaque is final: the session is relayed on, but nobody knows any more whose turn it is, so it never moves. The list is
//! closed, and an operator reads it; it decides nothing.

use crate::wire::command::Command;

/// Why the dialog gave up following.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Opaque {
    #[error("the client asked for a binary log stream")]
    BinlogDump,
    #[error("the client asked for a table dump")]
    TableDump,
    #[error("the client began to clone the CN")]
    Clone,
    #[error("the client joined a group replication stream")]
    GroupReplication,
    #[error("the client sent several commands in one packet (COM_MULTI)")]
    Multi,
    #[error("the client's packets are out of order")]
    ClientOutOfOrder,
    #[error("the CN's packets are out of order")]
    CnOutOfOrder,
    #[error("the CN sent a reply that nobody asked for")]
    Unasked,
    #[error("the CN replied to a command before it was complete")]
    EarlyReply,
    #[error("the CN sent a packet that does not fit the reply")]
    MalformedReply,
    #[error("the client sent commands on after one that asks for a local file")]
    PipelinedPastInfile,
    #[error("the client sent commands on after COM_CHANGE_USER, which the CN answered with a question")]
    PipelinedPastAuth,
}

impl Opaque {
    /// Which foreign stream a command opens; none of the others has a shape that nobody can follow.
    #[cold]
    pub(super) fn opened_by(command: Command) -> Self {
        match command {
            Command::TableDump => Self::TableDump,
            Command::Clone => Self::Clone,
            Command::SubscribeGroupReplicationStream => Self::GroupReplication,
            Command::Multi => Self::Multi,
            _ => Self::BinlogDump,
        }
    }

    /// Whether the client says nothing more that names a prepared statement.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::BinlogDump | Self::Clone | Self::GroupReplication)
    }
}
