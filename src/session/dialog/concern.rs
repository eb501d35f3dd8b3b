//! The client's commands that concern corelane, at which a look stops if it is told to: a KILL names a session by the id that its client
//! was told, which its CN does not know, and may be another CN's to carry out; COM_CHANGE_USER names a user who may not come in.

use super::look::{Look, Stop};
use super::scanner::{HEADER, Start};
use super::{Dialog, Turn};
use crate::session::kill::may_be_kill;
use crate::wire::command::Command;

/// Bytes of a COM_CHANGE_USER in which the user's name has to end: longer than any name that a server takes.
const NAMED_WITHIN: usize = 1024;

/// What becomes of such a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Concerns {
    #[default]
    Pass,
    Stop,
    /// The next command passes, whatever it is.
    PassOne,
}

impl Dialog {
    /// From now on a look stops at them.
    pub fn stop_at_concerns(&mut self) {
        self.concerns = Concerns::Stop;
    }

    /// Lets the command go as it is that a look has stopped at with [`Stop::Concern`].
    pub fn pass_concern(&mut self) {
        self.concerns = Concerns::PassOne;
    }

    /// Whether the client's next frame may be such a command, which is not to go before it is known where.
    #[inline]
    pub(super) fn stops_at_concern(&mut self, start: &Start<'_>, at: usize, look: &mut Look) -> bool {
        if self.concerns == Concerns::Pass {
            return false;
        }
        let length = start.length as usize;
        if start.payload.first().is_some_and(|first| Command::from_byte(*first) == Command::ChangeUser) {
            return self.stop_at_concern(length.min(NAMED_WITHIN), at, look);
        }
        may_be_kill(start.payload, length) && self.stop_at_concern(length, at, look)
    }

    /// `length`: bytes of the payload that have to be seen.
    #[cold]
    fn stop_at_concern(&mut self, length: usize, at: usize, look: &mut Look) -> bool {
        if self.turn != Turn::Commands || self.client.continues {
            return false;
        }
        if self.concerns == Concerns::PassOne {
            self.concerns = Concerns::Stop;
            return false;
        }
        look.taken = at;
        look.stop = Some(Stop::Concern { length: HEADER + length });
        self.client.forget();
        true
    }
}
