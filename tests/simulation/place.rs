//! A session in its place: on one CN, at one worker, with what the worker's card says of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use corelane::ident::{CnSlot, WorkerId};
use corelane::metrics::Seat;
use corelane::route::{Cn, Group};
use corelane::session::hold::Hold;

use super::client::Say;
use super::session::{Stay, Talk};

pub const DWELL: Duration = Duration::from_secs(5);
pub const PATIENCE: Duration = Duration::from_secs(3);
pub const BACK_OFF: Duration = Duration::from_secs(1);
pub const BACK_OFF_MAX: Duration = Duration::from_secs(8);
/// Without a command for so long a session moves without waiting for the next.
const SILENCE: Duration = Duration::from_secs(1);

/// Lines of a session's story.
const STORY: usize = 30;

/// A move that was ordered.
pub struct Order {
    pub to: Arc<Cn>,
    /// When the new leg is logged in.
    opened: Duration,
    until: Duration,
    /// The seat that the new leg takes.
    seat: Seat,
}

pub struct Session {
    pub talk: Talk,
    pub group: Arc<Group>,
    pub worker: WorkerId,
    pub cn: Arc<Cn>,
    pub seat: Seat,
    /// Its user can be logged in again.
    pub known: bool,
    /// It keeps what holds it, for good.
    pub stubborn: bool,
    pub order: Option<Order>,
    moved: Option<Duration>,
    rests_until: Duration,
    failures: u32,
    spoke: Duration,
    next: Duration,
    pending: Vec<Say>,
    /// What it went through lately, for whoever has to find a fault.
    story: VecDeque<String>,
    /// Where it has been since the disturbances ended.
    pub been: Vec<CnSlot>,
    /// Why its last move came to nothing, if it did.
    pub stays: Option<Stay>,
}

/// What came of a moment in which a session could have moved.
pub enum Moved {
    Not,
    From(Arc<Cn>),
    Failed,
}

impl Session {
    pub fn new(
        (worker, seat, cn): (WorkerId, Seat, Arc<Cn>),
        group: Arc<Group>,
        now: Duration,
        rng: &mut Rng,
    ) -> Self {
        // A CN without a data set keeps its sessions, and they are not watched.
        let known = cn.data.is_some() && rng.usize(..20) != 0;
        Self {
            talk: Talk::new(rng, known),
            group,
            worker,
            cn,
            seat,
            known,
            stubborn: rng.usize(..30) == 0,
            order: None,
            moved: None,
            rests_until: Duration::ZERO,
            failures: 0,
            spoke: now,
            next: now + Duration::from_millis(rng.u64(..4000)),
            pending: Vec::new(),
            story: VecDeque::new(),
            been: Vec::new(),
            stays: None,
        }
    }

    fn note(&mut self, line: String) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        self.story.push_back(line);
    }

    pub fn dwells(&self, now: Duration) -> bool {
        self.moved.is_some_and(|at| now < at + DWELL)
    }

    /// As a worker's card judges it: what holds it at the moment may end.
    pub fn is_movable(&self, now: Duration) -> bool {
        let lasting = self.talk.dialog.hold().is_some_and(Hold::is_lasting);
        !lasting && now >= self.rests_until && self.order.is_none()
    }

    /// In the order in which a worker chooses.
    pub fn reluctance(&self) -> (Option<Duration>, bool, u32) {
        let cost = self.talk.dialog.watched().map_or(0, |watched| watched.state.cost());
        (self.moved, self.talk.dialog.hold().is_some(), cost)
    }

    pub fn order(&mut self, to: Arc<Cn>, seat: Seat, dwelling_too: bool, now: Duration, rng: &mut Rng) {
        assert!(dwelling_too || !self.dwells(now), "ordered to move on within the dwell time");
        let opened = now + Duration::from_millis(rng.u64(..600));
        self.order = Some(Order { to, opened, until: now + PATIENCE, seat });
    }

    /// Lets the client speak if it is time, and the session move if it may. `breaks`: the new leg does.
    pub fn live(&mut self, now: Duration, calm: bool, breaks: bool, rng: &mut Rng) -> Moved {
        let speaks = now >= self.next;
        if speaks && self.pending.is_empty() {
            self.pending = self.words(calm, rng);
        }
        let moved = self.heed_order(now, speaks, breaks, rng);
        if speaks {
            let burst = std::mem::take(&mut self.pending);
            self.note(format!("{now:?} {burst:?}"));
            self.talk.exchange(&burst, rng);
            self.spoke = now;
            let most = if self.talk.leg.has_pins() { 2500 } else { 9000 };
            self.next = now + Duration::from_millis(rng.u64(200..most));
        }
        moved
    }

    /// Once all is calm a client soon lets go of what it holds, unless it is stubborn.
    fn words(&mut self, calm: bool, rng: &mut Rng) -> Vec<Say> {
        let held = self.talk.leg.has_pins() || self.talk.dialog.hold().is_some();
        if calm && held && !self.stubborn && self.known {
            return vec![self.talk.client.release(&self.talk.twin)];
        }
        if self.stubborn && held {
            return vec![Say::Query("SELECT 1".to_owned())];
        }
        self.talk.client.burst(rng)
    }

    fn heed_order(&mut self, now: Duration, speaks: bool, breaks: bool, rng: &mut Rng) -> Moved {
        let Some(until) = self.order.as_ref().filter(|order| now >= order.opened).map(|order| order.until)
        else {
            return Moved::Not;
        };
        let silent = !speaks && now >= self.spoke + SILENCE;
        let stay = match self.allows(speaks, silent) {
            Ok(()) => self.talk.carry_over(rng.u32(..100), false, breaks).err(),
            Err(_) if now < until => return Moved::Not,
            Err(hold) => Some(hold.or(self.talk.dialog.hold()).map_or(Stay::Never, Stay::Held)),
        };
        if !speaks && silent {
            // The old CN was asked, or left.
            self.talk.forget_diagnostics();
        }
        let order = self.order.take().expect("it was looked at");
        if stay.is_some() {
            (self.stays, self.failures) = (stay, self.failures + 1);
            let rest = BACK_OFF * 2_u32.saturating_pow(self.failures - 1);
            self.rests_until = now + rest.min(BACK_OFF_MAX);
            return Moved::Failed;
        }
        self.settle(order.to, order.seat, now)
    }

    /// Whether it may move before the client's next words, or in a long silence.
    fn allows(&mut self, speaks: bool, silent: bool) -> Result<(), Option<Hold>> {
        match (speaks, silent) {
            (true, _) => self.talk.allows(Some(&self.pending)),
            (_, true) => self.talk.allows(None),
            _ => Err(None),
        }
    }

    fn settle(&mut self, to: Arc<Cn>, seat: Seat, now: Duration) -> Moved {
        (self.failures, self.moved, self.stays) = (0, Some(now), None);
        self.note(format!("{now:?} moved from {} to {}", self.cn.id, to.id));
        self.been.push(self.cn.slot);
        self.seat = seat;
        Moved::From(std::mem::replace(&mut self.cn, to))
    }

    /// Its CN is lost: opens it anew at another one, if all of it is known.
    pub fn take_refuge(&mut self, to: Arc<Cn>, seat: Seat, now: Duration, rng: &mut Rng) -> bool {
        self.order = None;
        let complete = self.talk.dialog.watched().is_some_and(|watched| watched.state.complete());
        let held = self.talk.dialog.hold().is_some();
        if !complete || held || self.talk.carry_over(rng.u32(..100), true, false).is_err() {
            return false;
        }
        self.talk.forget_diagnostics();
        self.settle(to, seat, now);
        true
    }
}

impl Drop for Session {
    /// A session at which a check fails tells its story.
    fn drop(&mut self) {
        if std::thread::panicking() && self.talk.failing {
            self.story.iter().for_each(|line| println!("  {line}"));
        }
    }
}
