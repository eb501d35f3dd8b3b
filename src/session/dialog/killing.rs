//! The client's KILLs, at which a look stops if it is told to: they name a session by the id that its client was told, which its CN does
//! not know, and may be another CN's to carry out.

use super::look::{Look, Stop};
use super::scanner::{HEADER, Start};
use super::{Dialog, Turn};
use crate::session::kill::may_be_kill;

/// What becomes of a KILL of the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kills {
    #[default]
    Pass,
    Stop,
    /// The next command passes, whatever it is.
    PassOne,
}

impl Dialog {
    /// From now on a look stops at a KILL.
    pub fn stop_at_kills(&mut self) {
        self.kills = Kills::Stop;
    }

    /// Lets the command go as it is that a look has stopped at with [`Stop::Kill`].
    pub fn pass_kill(&mut self) {
        self.kills = Kills::PassOne;
    }

    /// Whether the client's next frame may be a KILL, which is not to go before it is known where.
    #[inline]
    pub(super) fn stops_at_kill(&mut self, start: &Start<'_>, at: usize, look: &mut Look) -> bool {
        if self.kills == Kills::Pass || !may_be_kill(start.payload, start.length as usize) {
            return false;
        }
        self.stop_at_kill(start, at, look)
    }

    #[cold]
    fn stop_at_kill(&mut self, start: &Start<'_>, at: usize, look: &mut Look) -> bool {
        if self.turn != Turn::Commands || self.client.continues {
            return false;
        }
        if self.kills == Kills::PassOne {
            self.kills = Kills::Stop;
            return false;
        }
        look.taken = at;
        look.stop = Some(Stop::Kill { length: HEADER + start.length as usize });
        self.client.forget();
        true
    }
}
