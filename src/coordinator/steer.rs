//! When the coordinator takes a census, and what it orders by it: moves between CNs, ends of drains, handovers
//! between workers.
//!
//! A census is taken at once when the table has changed, and at each interval while seats change hands, a plan is
//! unfinished, sessions that were told to move may have backed off, or a CN drains; a house at rest is left at rest. What is to be done is judged by
//! [`crate::placement`]; here are the clock and the orders. Orders and census go through the same mailbox one
//! after the other, so a census has seen every order that was given before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::census::Census;
use super::{Coordinator, Stage};
use crate::config::Settings;
use crate::ident::{CnSlot, WorkerId};
use crate::mailbox::message::{MoveOrder, Order, Parcel, Whom};
use crate::metrics::Tally;
use crate::placement::balance::{Balance, Step};
use crate::placement::duty::Seen;
use crate::placement::even;
use crate::route::View;

/// The longest interval between two censuses while sessions leave a CN that drains.
const DRAIN_INTERVAL: Duration = Duration::from_millis(200);

/// What the coordinator remembers from one look at the sessions to the next.
#[derive(Debug)]
pub struct Helm {
    pub census: Census,
    pub balance: Balance,
    /// The table or the rules have changed since the last census began.
    pub table_changed: bool,
    /// That a worker was silent has been said, and since then no census was whole.
    pub silence_said: bool,
    /// The last plan left something to do.
    unfinished: bool,
    /// Until then sessions may back off that were told to move and could not.
    watch_until: Instant,
    /// The seats of each CN in the view when the last census began, and the logins so far: a seat is taken before it is
    /// known who sits on it.
    seats: Vec<u32>,
    logins: u64,
    next_look: Instant,
    next_handover: Instant,
}

impl Helm {
    pub fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            census: Census::default(),
            balance: Balance::new(&settings.balance, &settings.drain),
            table_changed: false,
            silence_said: false,
            unfinished: false,
            watch_until: now,
            seats: Vec::new(),
            logins: 0,
            next_look: now,
            next_handover: now,
        }
    }

    /// When there is something to do though nothing happens.
    pub fn due(&self) -> Instant {
        let look = self.census.deadline().unwrap_or(self.next_look);
        look.min(self.next_handover)
    }

    fn seats_now(tally: &Tally, view: &View) -> Vec<u32> {
        view.cns.iter().map(|cn| tally.seats(cn.slot)).collect()
    }
}

impl Coordinator {
    /// Looks whether it is time for a census or for handovers. Nothing is done before workers accept, nor when
    /// they stop.
    pub(super) fn steer(&mut self) {
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        let now = Instant::now();
        if self.helm.census.expire(now) {
            if !std::mem::replace(&mut self.helm.silence_said, true) {
                warn!("not every worker has counted its sessions in time: of the others nothing moves");
            }
            self.order_moves();
        }
        if !self.helm.census.is_open() && (self.helm.table_changed || now >= self.helm.next_look) {
            self.look(now);
        }
        if now >= self.helm.next_handover {
            self.helm.next_handover = now + self.settings.balance.interval;
            self.even_workers();
        }
    }

    /// Takes a census if there is a reason for one.
    fn look(&mut self, now: Instant) {
        let draining = self.placement.is_draining();
        let seats = Helm::seats_now(&self.tally, &self.picture.view);
        let logins = self.counters.iter().map(|counters| counters.logins.get()).sum();
        let others = seats != self.helm.seats || logins != self.helm.logins;
        let leaving = draining && (others || self.helm.unfinished || self.helm.census.is_moving());
        let interval = self.settings.balance.interval;
        self.helm.next_look = now + if leaving { interval.min(DRAIN_INTERVAL) } else { interval };
        let moving = self.helm.unfinished || draining || now < self.helm.watch_until;
        if !moving && !self.helm.table_changed && !others {
            return;
        }
        (self.helm.seats, self.helm.logins, self.helm.table_changed) = (seats, logins, false);
        let running = self.posts.iter_mut().filter(|post| !post.has_ended());
        let (asked, mut posts): (Vec<WorkerId>, Vec<_>) = running.map(|post| (post.worker(), post)).unzip();
        if asked.is_empty() {
            return;
        }
        let ticket = self.helm.census.begin(&asked, now);
        for post in &mut posts {
            // A worker that is not asked is silent, which a census bears.
            let _ = post.order(Order::Census { ticket });
        }
    }

    /// Judges the drains and plans the moves, now that the workers have counted.
    pub(super) fn order_moves(&mut self) {
        if !matches!(self.stage, Stage::Serving) {
            return;
        }
        self.judge_drains();
        let now = self.epoch.elapsed();
        let plan = self.helm.balance.plan(&self.picture.view, self.helm.census.rows(), now);
        self.helm.unfinished = plan.unfinished;
        if !plan.steps.is_empty() {
            let sessions: u32 = plan.steps.iter().map(|step| step.count).sum();
            debug!("{sessions} sessions are told to move, in {} orders", plan.steps.len());
        }
        if !plan.steps.is_empty() || self.helm.census.is_moving() {
            // A move may fail until the next census, and another one has to see the end of the back-off.
            let watch = self.settings.migration.back_off_max + 2 * self.settings.balance.interval;
            self.helm.watch_until = Instant::now() + watch;
        }
        if self.placement.is_draining()
            && (plan.unfinished || !plan.steps.is_empty() || self.helm.census.is_moving())
        {
            self.helm.next_look = self.helm.next_look.min(Instant::now() + DRAIN_INTERVAL);
        }
        for step in plan.steps {
            self.order_step(step);
        }
    }

    fn order_step(&mut self, step: Step) {
        let Step { worker, group, from, to, count, dwelling_too } = step;
        let whom = Whom::Some { group, from, count };
        let patience = self.settings.migration.patience;
        self.order(worker, Order::Move(MoveOrder { whom, to, patience, dwelling_too }));
    }

    /// Says how far the drains have come, by the last census and the seats of this moment.
    pub(super) fn judge_drains(&mut self) {
        let (census, tally) = (&self.helm.census, &self.tally);
        let seen = |slot| {
            let sessions = tally.seats(slot).max(census.sessions(slot));
            Seen { sessions, counted_in: census.epoch() }
        };
        let decision = self.placement.look(seen, self.epoch.elapsed());
        self.follow(decision);
    }

    fn even_workers(&mut self) {
        if !self.settings.balance.enabled {
            return;
        }
        let running = self.posts.iter().filter(|post| !post.has_ended());
        let sessions: Vec<_> = running
            .filter_map(|post| {
                let counters = self.counters.get(post.worker().index())?;
                Some((post.worker(), counters.sessions.get()))
            })
            .collect();
        for handover in even::handovers(&sessions) {
            let even::Handover { from, to, count } = handover;
            debug!("worker {from} is crowded: it hands up to {count} sessions over to worker {to}");
            self.order(from, Order::Handover { to, count });
        }
    }

    /// Passes a session on; where that worker has ended it goes back to where it came from.
    pub(super) fn pass_on(&mut self, from: WorkerId, to: WorkerId, mut parcel: Parcel) {
        for worker in [to, from] {
            let Some(post) = self.posts.iter_mut().find(|post| post.worker() == worker) else { continue };
            match post.adopt(parcel) {
                Ok(()) => return,
                Err(back) => parcel = back,
            }
        }
        warn!("a session between worker {from} and worker {to} is lost: both have ended");
    }

    pub(super) fn order(&mut self, worker: WorkerId, order: Order) {
        let post = self.posts.iter_mut().find(|post| post.worker() == worker && !post.has_ended());
        if !post.is_some_and(|post| post.order(order)) {
            debug!("an order for worker {worker} is left out: too many wait for it, or it has ended");
        }
    }

    /// Has the sessions on a CN ended.
    pub(super) fn evict(&mut self, from: CnSlot, why: &str) {
        let why: Arc<str> = why.into();
        for post in self.posts.iter_mut().filter(|post| !post.has_ended()) {
            // What is left out is ordered again.
            let _ = post.order(Order::Evict { from, why: why.clone() });
        }
    }
}
