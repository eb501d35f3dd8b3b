//! Which workers should give sessions to which, so that all have about as many.
//!
//! The kernel spreads connections over the workers' listeners by hash, and sessions live long; so workers can
//! become uneven for good. A worker is crowded when it has more than `TOLERANCE` and `SLACK` above the mean;
//! it gives down to the mean, to those below it, the idlest first. Nobody gets more than brings it to the mean, so
//! a handover never makes another worker crowded, and a session is not handed back.

use crate::ident::WorkerId;

/// How far above the mean a worker may be, as a factor.
const TOLERANCE: f64 = 1.1;

/// So many sessions above the mean are never worth a handover.
const SLACK: f64 = 16.0;

/// A worker shall give so many sessions to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    pub from: WorkerId,
    pub to: WorkerId,
    pub count: u32,
}

/// The handovers that make the workers even, given the sessions that each has; none where they are even enough.
pub fn handovers(sessions: &[(WorkerId, u64)]) -> Vec<Handover> {
    let total: u64 = sessions.iter().map(|(_, count)| count).sum();
    let mean = total as f64 / sessions.len().max(1) as f64;
    let is_crowded = |count: u64| count as f64 > mean * TOLERANCE && count as f64 > mean + SLACK;
    let mut room: Vec<(WorkerId, u64)> = sessions
        .iter()
        .map(|(worker, count)| (*worker, (mean.floor() as u64).saturating_sub(*count)))
        .filter(|(_, room)| *room > 0)
        .collect();
    room.sort_by_key(|(worker, room)| (std::cmp::Reverse(*room), *worker));
    let mut all = Vec::new();
    for (from, count) in sessions.iter().filter(|(_, count)| is_crowded(*count)) {
        let mut surplus = count - mean.ceil() as u64;
        for (to, room) in &mut room {
            let given = surplus.min(*room);
            if given > 0 {
                surplus -= given;
                *room -= given;
                all.push(Handover { from: *from, to: *to, count: u32::try_from(given).unwrap_or(u32::MAX) });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(sessions: &[u64]) -> String {
        let numbered: Vec<_> = sessions.iter().zip(0..).map(|(count, nth)| (WorkerId(nth), *count)).collect();
        let all = handovers(&numbered);
        all.iter().map(|h| format!("{}>{}:{}", h.from, h.to, h.count)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_crowded_worker_gives_to_the_idlest() {
        for (sessions, expected) in [
            (&[1000, 0, 0, 0][..], "0>1:250 0>2:250 0>3:250"),
            (&[100, 900, 200], "1>0:300 1>2:200"),
            (&[16, 0], ""),
            (&[40, 0], "0>1:20"),
            (&[1100, 1000, 1000], ""),
            (&[1150, 950, 1000], "0>1:83 0>2:33"),
            (&[5], ""),
            (&[], ""),
        ] {
            assert_eq!(told(sessions), expected, "{sessions:?}");
        }
    }

    proptest! {
        #[test]
        fn one_round_makes_the_workers_even(counts in prop::collection::vec(0_u64..5000, 1..32)) {
            let mut sessions: Vec<_> = counts.iter().zip(0..).map(|(n, nth)| (WorkerId(nth), *n)).collect();
            let total: u64 = counts.iter().sum();
            for handover in handovers(&sessions) {
                sessions[handover.from.index()].1 -= u64::from(handover.count);
                sessions[handover.to.index()].1 += u64::from(handover.count);
            }
            let mean = total as f64 / counts.len() as f64;
            prop_assert_eq!(sessions.iter().map(|(_, count)| count).sum::<u64>(), total);
            for (_, count) in &sessions {
                let count = *count as f64;
                prop_assert!(count <= (mean * TOLERANCE).max(mean + SLACK) + counts.len() as f64);
            }
            prop_assert_eq!(handovers(&sessions), vec![]);
        }
    }
}
