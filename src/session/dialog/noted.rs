//! What a dialog notes of a session on a CN that reports nothing of it: one of MatrixOne's.
//!
//! It stands in the place of [`Watched`](super::Watched), and has a [`Ledger`] where that has a state. No packet is replaced.

use std::cell::Cell;

use super::scanner::Start;
use super::watch::insert_id;
use super::{Dialog, Outcome, Watch};
use crate::session::hold::Hold;
use crate::session::ledger::Ledger;
use crate::session::state::Errand;
use crate::wire::capability::Capabilities;
use crate::wire::command::Command;
use crate::wire::reply::OK;

/// What is noted of a session whose CN is asked for the rest when it moves.
pub struct Noted {
    pub ledger: Ledger,
    /// What the CN leg speaks.
    pub cn: Capabilities,
    hold: Cell<Option<Hold>>,
    pub(super) stale: Cell<bool>,
    pub(super) leftovers: Leftovers,
}

/// What the client may still ask for of earlier statements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leftovers {
    /// There may be warnings, errors or a number of rows.
    pub(super) left: bool,
    /// Whether the command in flight clears them for certain, and whether it leaves some itself.
    clears: bool,
    leaves: bool,
}

impl Leftovers {
    pub(super) fn begin(&mut self, (clears, leaves): (bool, bool)) {
        (self.clears, self.leaves) = (clears, leaves);
    }

    /// There are some for certain, whatever else the command does.
    pub(super) fn keep(&mut self) {
        (self.left, self.leaves) = (true, true);
    }

    /// A reply has ended. `alone`: it was to the newest command.
    #[inline]
    pub(super) fn weigh(&mut self, fails_or_warns: bool, alone: bool) {
        if fails_or_warns || self.leaves {
            self.left = true;
        } else if alone && self.clears {
            self.left = false;
        }
    }
}

impl Noted {
    /// `cn` is what the CN leg speaks.
    pub fn new(cn: Capabilities) -> Self {
        Self {
            ledger: Ledger::new(cn),
            cn,
            hold: Cell::new(None),
            stale: Cell::new(true),
            leftovers: Leftovers::default(),
        }
    }

    pub(super) fn hold(&self) -> Option<Hold> {
        if self.stale.replace(false) {
            self.hold.set(self.ledger.holds().first());
        }
        self.hold.get()
    }

    /// A reply has ended. `newest`: it was to the newest command.
    pub(super) fn replied(&mut self, errand: Option<Errand>, failed: bool, newest: bool) {
        if newest {
            self.ledger.caught_up();
        }
        if let Some(errand) = errand {
            self.ledger.replied(errand, failed);
            self.stale.set(true);
        }
    }
}

impl Dialog {
    /// A packet of the CN's begins, as in [`watch_reply`](Self::watch_reply).
    #[inline]
    pub(super) fn note_reply(&mut self, start: &Start<'_>, first: bool, was_in_transaction: bool) {
        let in_transaction = self.in_transaction();
        let prepares = self.front.is_some_and(|front| front.command == Command::StmtPrepare);
        let Watch::Noted(noted) = &mut self.watch else { return };
        if was_in_transaction && !in_transaction {
            noted.ledger.transaction_ended();
            noted.stale.set(true);
        }
        if self.outcome == Outcome::Ended {
            self.weigh_leftovers(start);
        }
        let is_ok = first && !prepares && start.payload.first() == Some(&OK);
        if let Watch::Noted(noted) = &mut self.watch
            && is_ok
            && insert_id(start.payload) != 0
        {
            noted.ledger.inserted();
            noted.stale.set(true);
            // It may well be asked for at once.
            noted.leftovers.left = true;
        }
    }
}
