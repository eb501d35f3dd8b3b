//! What the coordinator itself counts since it began: probes and failures of each CN, drains, readings of the file.
//!
//! It is told what happened and judges nothing. A CN's counts live as long as the CN is in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ident::CnSlot;
use crate::mailbox::message::CnFailure;
use crate::route::{Cn, View, WorkState};

#[derive(Clone, Debug, Default)]
pub struct Logbook {
    by_slot: BTreeMap<CnSlot, (Arc<str>, CnCounts)>,
    /// Drains that have begun, also those of CNs that the file no longer lists.
    pub drains: u64,
    /// Times that a right file was read again.
    pub reloads: u64,
    /// Times that a wrong one was.
    pub reloads_refused: u64,
}

/// What was met at one CN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CnCounts {
    /// Probes that it answered as it should.
    pub probes_well: u64,
    /// Probes that failed, those that it turned away included.
    pub probes_failed: u64,
    /// What sessions met, as workers reported it.
    pub refused: u64,
    pub timed_out: u64,
    pub unwilling: u64,
    pub lost: u64,
}

impl Logbook {
    pub fn cn(&self, slot: CnSlot) -> CnCounts {
        self.by_slot.get(&slot).map(|(_, counts)| *counts).unwrap_or_default()
    }

    pub fn probed(&mut self, slot: CnSlot, well: bool) {
        if let Some((_, counts)) = self.by_slot.get_mut(&slot) {
            *(if well { &mut counts.probes_well } else { &mut counts.probes_failed }) += 1;
        }
    }

    pub fn failed(&mut self, slot: CnSlot, failure: CnFailure) {
        if let Some((_, counts)) = self.by_slot.get_mut(&slot) {
            *match failure {
                CnFailure::Refused => &mut counts.refused,
                CnFailure::TimedOut => &mut counts.timed_out,
                CnFailure::Unwilling => &mut counts.unwilling,
                CnFailure::Lost => &mut counts.lost,
            } += 1;
        }
    }

    /// The table has changed: keeps the counts of just the CNs that it has, and counts the drains that begin with it.
    pub fn turn_over(&mut self, before: &View, now: &View) {
        let worked = before.cns.iter().filter(|cn| cn.work == WorkState::Working);
        let worked: BTreeSet<_> = worked.map(|cn| (cn.slot, cn.id.clone())).collect();
        let begins =
            |cn: &&Arc<Cn>| cn.work != WorkState::Working && worked.contains(&(cn.slot, cn.id.clone()));
        self.drains += now.cns.iter().filter(begins).count() as u64;
        let mut former = std::mem::take(&mut self.by_slot);
        for cn in &now.cns {
            let kept = former.remove(&cn.slot).filter(|(id, _)| *id == cn.id);
            self.by_slot.insert(cn.slot, kept.unwrap_or_else(|| (cn.id.clone(), CnCounts::default())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::view::tests::{cn, view};

    #[test]
    fn counts_stay_with_their_cn() {
        let mut logbook = Logbook::default();
        let first = view([cn(0, "a", &[]), cn(1, "b", &[])]);
        logbook.turn_over(&View::default(), &first);
        logbook.probed(CnSlot(0), true);
        logbook.probed(CnSlot(1), false);
        logbook.failed(CnSlot(1), CnFailure::Lost);
        logbook.failed(CnSlot(7), CnFailure::Lost);
        let met = CnCounts { probes_failed: 1, lost: 1, ..CnCounts::default() };
        assert_eq!((logbook.cn(CnSlot(0)).probes_well, logbook.cn(CnSlot(1))), (1, met));
        let second = view([cn(0, "c", &[]), cn(1, "b", &[])]);
        logbook.turn_over(&first, &second);
        assert_eq!((logbook.cn(CnSlot(0)), logbook.cn(CnSlot(1))), (CnCounts::default(), met));
        logbook.turn_over(&second, &View::default());
        assert_eq!(logbook.cn(CnSlot(1)), CnCounts::default());
    }

    #[test]
    fn a_drain_is_counted_when_it_begins() {
        let mut logbook = Logbook::default();
        let working = view([cn(0, "a", &[]), cn(1, "b", &[])]);
        let with = |work| {
            let mut view = working.clone();
            Arc::make_mut(&mut view.cns[0]).work = work;
            view
        };
        logbook.turn_over(&View::default(), &with(WorkState::Draining));
        assert_eq!(logbook.drains, 0, "a CN that was never seen working is not counted");
        logbook.turn_over(&working, &with(WorkState::Draining));
        logbook.turn_over(&with(WorkState::Draining), &with(WorkState::Drained));
        logbook.turn_over(&with(WorkState::Drained), &working);
        assert_eq!(logbook.drains, 1);
        logbook.turn_over(&working, &with(WorkState::Drained));
        assert_eq!(logbook.drains, 2);
    }
}
