//! Parameter data that was sent ahead of an execution (COM_STMT_SEND_LONG_DATA).
//!
//! The CN holds it until the statement is executed, reset or closed; it would be lost with the CN leg, so the session is not
//! idle meanwhile. Exact for one statement at a time. With several it errs on the side of holding: only a
//! reset of the whole session is then known to drop them all. It does not keep the data.

use crate::wire::command::Command;

/// Statements with parameter data on the CN that no execution has used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongData {
    None,
    /// The statement's id.
    One(u32),
    Several,
}

impl LongData {
    /// Takes note of a command; `payload` begins with its byte, and its statement id where it has one.
    #[cold]
    pub fn note(&mut self, command: Command, payload: &[u8]) {
        if matches!(command, Command::ResetConnection | Command::ChangeUser) {
            *self = Self::None;
        }
        let Some(id) = payload.get(1..5).and_then(|id| id.first_chunk()) else { return };
        let id = u32::from_le_bytes(*id);
        *self = match (command, *self) {
            (Command::StmtSendLongData, Self::None) => Self::One(id),
            (Command::StmtSendLongData, Self::One(other)) if other != id => Self::Several,
            (
                Command::StmtExecute | Command::StmtBulkExecute | Command::StmtReset | Command::StmtClose,
                Self::One(used),
            ) if used == id => Self::None,
            (_, unchanged) => unchanged,
        };
    }
}
