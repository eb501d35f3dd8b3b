//! Roll calls under way: who was asked for its sessions, who has answered, how long we still wait.
//!
//! A roll call ends when every worker has answered or its time is over; whoever asked gets what is there,
//! with the workers that were silent. It asks nobody itself: the coordinator sends the orders.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::desk::Roll;
use crate::ident::WorkerId;
use crate::mailbox::message::SessionRow;

/// How long workers may take to list their sessions.
pub const ROLL_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Rolls {
    last_ticket: u64,
    open: HashMap<u64, OpenRoll>,
}

#[derive(Debug)]
struct OpenRoll {
    silent: BTreeSet<WorkerId>,
    rows: Vec<SessionRow>,
    deadline: Instant,
    answer: oneshot::Sender<Roll>,
}

impl Rolls {
    /// The ticket that the next roll call's orders have to carry.
    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Begins to wait for `asked`.
    pub fn open(&mut self, ticket: u64, asked: &[WorkerId], now: Instant, answer: oneshot::Sender<Roll>) {
        let silent = asked.iter().copied().collect();
        // With nobody to wait for, it ends in this very turn.
        let deadline = if asked.is_empty() { now } else { now + ROLL_LIMIT };
        self.open.insert(ticket, OpenRoll { silent, rows: Vec::new(), deadline, answer });
    }

    /// A worker has answered. An unknown ticket is one whose time was over.
    pub fn answered(&mut self, ticket: u64, worker: WorkerId, rows: Vec<SessionRow>) {
        let Some(roll) = self.open.get_mut(&ticket) else { return };
        if roll.silent.remove(&worker) {
            roll.rows.extend(rows);
        }
        if roll.silent.is_empty() {
            self.close(ticket);
        }
    }

    /// Ends the roll calls whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let over: Vec<u64> = self.open.iter().filter(|(_, r)| r.deadline <= now).map(|(t, _)| *t).collect();
        for ticket in over {
            self.close(ticket);
        }
    }

    /// When [`Rolls::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.open.values().map(|roll| roll.deadline).min()
    }

    fn close(&mut self, ticket: u64) {
        let Some(roll) = self.open.remove(&ticket) else { return };
        let silent = roll.silent.into_iter().collect();
        // Whoever asked may have gone away meanwhile.
        let _ = roll.answer.send(Roll { rows: roll.rows, silent });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKERS: [WorkerId; 2] = [WorkerId(0), WorkerId(1)];

    #[test]
    fn a_roll_ends_with_the_last_answer() {
        let (mut rolls, now) = (Rolls::default(), Instant::now());
        let (answer, mut roll) = oneshot::channel();
        let ticket = rolls.next_ticket();
        rolls.open(ticket, &WORKERS, now, answer);
        rolls.answered(ticket + 1, WORKERS[0], Vec::new());
        rolls.answered(ticket, WORKERS[0], Vec::new());
        rolls.answered(ticket, WORKERS[0], Vec::new());
        assert!(roll.try_recv().is_err());
        rolls.answered(ticket, WORKERS[1], Vec::new());
        assert!(roll.try_recv().unwrap().silent.is_empty());
        assert_eq!(rolls.deadline(), None);
    }

    #[test]
    fn silence_is_told_when_time_is_over() {
        let (mut rolls, now) = (Rolls::default(), Instant::now());
        let (answer, mut roll) = oneshot::channel();
        let ticket = rolls.next_ticket();
        rolls.open(ticket, &WORKERS, now, answer);
        rolls.answered(ticket, WORKERS[0], Vec::new());
        rolls.expire(now + ROLL_LIMIT - Duration::from_millis(1));
        assert!(roll.try_recv().is_err());
        assert_eq!(rolls.deadline(), Some(now + ROLL_LIMIT));
        rolls.expire(now + ROLL_LIMIT);
        assert_eq!(roll.try_recv().unwrap().silent, [WORKERS[1]]);
    }
}
