//! One CN among equals: the one with the fewest seats for its weight.
//!
//! Seats are counted live over all workers, so a burst of logins sees itself. Equals take turns: otherwise the
//! first CN of the table would get every login of a proxy whose sessions are short.
//!
//! The weighing compares what the load would be with this session added, (seats + 1) / weight, so that a heavy
//! CN fills first even when all are empty. No floats, no allocation; two passes over the candidates.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::ident::{CnSlot, WorkerId};
use crate::route::{Candidates, Cn};

/// A worker's own count of the picks that it has made, for [`pick`].
///
/// It starts at the worker's number, so that workers that start together do not all choose the same CN.
#[derive(Clone, Debug)]
pub struct Turns(u64);

impl Turns {
    pub fn new(worker: WorkerId) -> Self {
        Self(u64::from(worker.0))
    }

    pub fn take(&mut self) -> u64 {
        let turn = self.0;
        self.0 = turn.wrapping_add(1);
        turn
    }
}

/// The candidate with the fewest seats for its weight; of several, the `turn`-th, counted round and round.
pub fn pick<'v>(candidates: &Candidates<'v, '_>, seats: impl Fn(CnSlot) -> u32, turn: u64) -> &'v Arc<Cn> {
    let load = |cn: &Cn| Load::with_one_more(cn, seats(cn.slot));
    let mut best = candidates.first();
    let mut best_load = load(best);
    let mut equals = 0;
    for cn in candidates.iter() {
        let load = load(cn);
        match load.cmp(&best_load) {
            Ordering::Less => (best, best_load, equals) = (cn, load, 1),
            Ordering::Equal => equals += 1,
            Ordering::Greater => {}
        }
    }
    if equals < 2 {
        return best;
    }
    let nth = usize::try_from(turn % equals).unwrap_or(0);
    // Other workers take seats meanwhile, so the nth may be gone by now; `best` was good enough a moment ago.
    candidates.iter().filter(|cn| load(cn) == best_load).nth(nth).unwrap_or(best)
}

/// Seats over weight, as a fraction.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    seats: u64,
    weight: u64,
}

impl Load {
    /// That of a CN with `seats` taken, if one more were.
    pub fn with_one_more(cn: &Cn, seats: u32) -> Self {
        Self { seats: u64::from(seats) + 1, weight: u64::from(cn.weight.max(1)) }
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        // Both factors come from 32 bits, seats plus one at most, so the product fits.
        (self.seats * other.weight).cmp(&(other.seats * self.weight))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Load {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::view::tests::{cn, view};
    use crate::route::{Group, Identity, View, route};
    use proptest::prelude::*;

    fn who() -> Group {
        Group::of(&Identity::read(b"acc1:dora", [("", ""); 0], &View::default()).unwrap())
    }

    fn weighted(weights: &[u32]) -> View {
        view(weights.iter().enumerate().map(|(i, &weight)| {
            let mut cn = cn(i as u16, &format!("cn{i}"), &[]);
            Arc::make_mut(&mut cn).weight = weight;
            cn
        }))
    }

    /// Logs `logins` sessions in, one after another, and gives the seats of each CN.
    fn burst(weights: &[u32], mut seats: Vec<u32>, logins: usize, turns: &mut [Turns]) -> Vec<u32> {
        let (view, who) = (weighted(weights), who());
        for login in 0..logins {
            let turn = turns[login % turns.len()].take();
            let slot = route(&view, &who, |slot| seats[slot.index()], &[], turn).unwrap().slot;
            seats[slot.index()] += 1;
        }
        seats
    }

    fn workers(n: u16) -> Vec<Turns> {
        (0..n).map(|n| Turns::new(WorkerId(n))).collect()
    }

    #[test]
    fn extreme_loads_do_not_overflow() {
        let view = weighted(&[u32::MAX, 1, u32::MAX]);
        let chosen = route(&view, &who(), |slot| if slot.0 == 2 { u32::MAX - 1 } else { u32::MAX }, &[], 0);
        assert_eq!(chosen.unwrap().slot, CnSlot(2));
    }

    #[test]
    fn a_seat_count_that_changes_meanwhile_still_gives_a_cn() {
        let (view, reads) = (weighted(&[1, 1, 1]), std::cell::Cell::new(0));
        let seats = |_| {
            reads.set(reads.get() + 1);
            if reads.get() > 4 { 9 } else { 0 }
        };
        assert_eq!(route(&view, &who(), seats, &[], 2).unwrap().slot, CnSlot(0));
    }

    #[test]
    fn short_sessions_take_turns_over_equal_cns() {
        let (view, who, mut turns) = (weighted(&[1; 4]), who(), Turns::new(WorkerId(3)));
        let mut served = [0; 4];
        for _ in 0..40 {
            served[route(&view, &who, |_| 0, &[], turns.take()).unwrap().slot.index()] += 1;
        }
        assert_eq!(served, [10; 4]);
    }

    #[test]
    fn workers_that_pick_at_once_pick_apart() {
        let (view, who) = (weighted(&[1; 4]), who());
        let mut first: Vec<_> = workers(4)
            .iter_mut()
            .map(|turns| route(&view, &who, |_| 0, &[], turns.take()).unwrap().slot.0)
            .collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn a_burst_over_equal_cns_ends_even(cns in 1_usize..20, logins in 0_usize..200, n in 1_u16..5) {
            let seats = burst(&vec![1; cns], vec![0; cns], logins, &mut workers(n));
            prop_assert!(seats.iter().max().unwrap() - seats.iter().min().unwrap() <= 1);
        }

        #[test]
        fn a_burst_levels_what_was_uneven(start in prop::collection::vec(0_u32..30, 1..8)) {
            let top = *start.iter().max().unwrap();
            let missing: u32 = start.iter().map(|seats| top - seats).sum();
            let seats = burst(&vec![1; start.len()], start.clone(), missing as usize, &mut workers(1));
            prop_assert_eq!(seats, vec![top; start.len()]);
        }

        /// No CN has a session that another could carry at a lesser load, and none has less than its share.
        #[test]
        fn weights_are_kept_within_one(weights in prop::collection::vec(1_u32..50, 1..8), logins in 0_usize..300) {
            let seats = burst(&weights, vec![0; weights.len()], logins, &mut workers(2));
            let total: u32 = weights.iter().sum();
            for i in 0..weights.len() {
                prop_assert!(seats[i] >= logins as u32 * weights[i] / total);
                for j in 0..weights.len() {
                    prop_assert!(seats[i] * weights[j] <= (seats[j] + 1) * weights[i]);
                }
            }
        }

        #[test]
        fn tried_cns_are_never_picked(cns in 1_u16..10, tried in prop::collection::vec(0_u16..10, 0..9), turn: u64) {
            let view = weighted(&vec![1; usize::from(cns)]);
            let tried: Vec<_> = tried.into_iter().map(CnSlot).collect();
            match route(&view, &who(), |_| 0, &tried, turn) {
                Ok(cn) => prop_assert!(!tried.contains(&cn.slot)),
                Err(_) => prop_assert!((0..cns).all(|slot| tried.contains(&CnSlot(slot)))),
            }
        }
    }
}
