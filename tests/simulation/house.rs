//! The house of the simulation: CNs, workers and their sessions in virtual time, steered as the coordinator does it, by the real
//! placement, balance, routing and tally.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use corelane::config::Settings;
use corelane::config::settings::{AtDeadline, CnSetting};
use corelane::ident::{CnSlot, Epoch, WorkerId};
use corelane::mailbox::message::{CensusRow, CnFailure};
use corelane::metrics::{SeatBook, Tally};
use corelane::placement::balance::{Balance, Step};
use corelane::placement::duty::{Seen, Terms};
use corelane::placement::{Decision, Outcome, Placement};
use corelane::route::label::Labels;
use corelane::route::moves::{moves, refuges};
use corelane::route::{Cn, Flavour, Group, Identity, View, WorkState, route};

use super::place::{BACK_OFF_MAX, DWELL, Moved, Session};
use super::session::Stay;

pub const TICK: Duration = Duration::from_millis(200);
pub const TOLERANCE: f64 = 0.2;
/// How long a probe takes.
const PROBE_TOOK: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_secs(1);
const WORKERS: u16 = 3;
const TENANTS: [&str; 9] =
    ["own0:u", "own0:u", "own1:u", "t0:u", "t1:u", "t2:u", "t3:u", "t4:u?tier=gold", "root"];

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub sessions: u32,
    /// Commands that clients said.
    pub commands: u32,
    pub moves: u32,
    pub failed: u32,
    pub refuges: u32,
    pub evicted: u32,
    pub disturbances: u32,
    /// Why moves came to nothing, by reason.
    pub stays: BTreeMap<&'static str, u32>,
}

pub struct House {
    pub rng: Rng,
    pub now: Duration,
    placement: Placement,
    balance: Balance,
    settings: Settings,
    pub view: Arc<View>,
    /// The view by which workers route: that of a moment ago.
    known: Arc<View>,
    tally: Tally,
    books: Vec<SeatBook>,
    turn: u64,
    groups: Vec<Arc<Group>>,
    pub sessions: Vec<Session>,
    /// CNs that nobody answers at, and until when.
    dark: BTreeMap<CnSlot, Duration>,
    /// No more disturbances.
    calm: bool,
    pub figures: Figures,
    /// When a session moved last.
    pub last_move: Duration,
    added: u32,
    census: Census,
    next_look: Duration,
    next_probe: Duration,
    watch_until: Duration,
    unfinished: bool,
    table_changed: bool,
    seats: Vec<u32>,
    /// Orders on their way to the workers.
    posted: Vec<Step>,
}

#[derive(Default)]
struct Census {
    rows: Vec<(WorkerId, CensusRow)>,
    epoch: Option<Epoch>,
}

fn setting(id: &str, host: u32, labels: &[(&str, &str)], weight: u32, data: Option<&str>) -> CnSetting {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect();
    CnSetting {
        id: id.to_owned(),
        address: format!("10.0.0.{host}:3306"),
        flavour: Flavour::Mysql,
        labels: Labels(labels),
        weight,
        data: data.map(str::to_owned),
        query_address: None,
        proxy_protocol: false,
        tls: None,
        max_sessions: None,
    }
}

/// Two data sets, and one CN that belongs to none.
fn cns() -> Vec<CnSetting> {
    let d1 = Some("d1");
    vec![
        setting("own", 1, &[("account", "own0")], 1, d1),
        setting("owns", 2, &[("account", "own*")], 2, d1),
        setting("gold", 3, &[("tier", "gold")], 1, d1),
        setting("one", 4, &[], 1, d1),
        setting("two", 5, &[], 2, d1),
        setting("three", 6, &[], 3, d1),
        setting("far1", 7, &[("account", "t3")], 1, Some("d2")),
        setting("far2", 8, &[("account", "t3")], 1, Some("d2")),
        setting("lone", 9, &[("account", "t2")], 1, None),
    ]
}

impl House {
    pub fn new(seed: u64, sessions: usize) -> Self {
        let mut settings = Settings::default();
        (settings.balance.dwell, settings.balance.tolerance) = (DWELL, TOLERANCE);
        (settings.balance.interval, settings.balance.moves_per_second) = (INTERVAL, 500);
        let mut placement = Placement::new(&settings.probe, &settings.discovery);
        let tally = Tally::new(WORKERS.into());
        let terms = Terms { deadline: None, at_deadline: AtDeadline::Leave, then_remove: false };
        let _ = placement.reload(&cns(), |_| 0, terms, Duration::ZERO);
        let groups = TENANTS.map(|name| {
            let identity = Identity::read(name.as_bytes(), [("", ""); 0], &View::default()).expect("a name");
            Arc::new(Group::of(&identity))
        });
        let view = Arc::new(placement.view());
        let mut house = Self {
            rng: Rng::with_seed(seed),
            now: Duration::from_secs(10),
            balance: Balance::new(&settings.balance, &settings.drain),
            placement,
            settings,
            known: view.clone(),
            view,
            books: (0..WORKERS).map(|worker| SeatBook::new(tally.clone(), WorkerId(worker))).collect(),
            tally,
            turn: 0,
            groups: groups.to_vec(),
            sessions: Vec::new(),
            dark: BTreeMap::new(),
            calm: false,
            figures: Figures::default(),
            last_move: Duration::ZERO,
            added: 0,
            census: Census::default(),
            next_look: Duration::ZERO,
            next_probe: Duration::ZERO,
            watch_until: Duration::ZERO,
            unfinished: false,
            table_changed: true,
            seats: Vec::new(),
            posted: Vec::new(),
        };
        for _ in 0..sessions {
            house.log_in();
        }
        house
    }

    /// A client comes; it tries again for as long as there is a CN for it.
    fn log_in(&mut self) {
        let mut tried = Vec::new();
        let group = self.groups[self.rng.usize(..self.groups.len())].clone();
        let worker = WorkerId(self.rng.u16(..WORKERS));
        loop {
            self.turn += 1;
            let view = self.known.clone();
            let Ok(cn) = route(&view, &group, |slot| self.tally.seats(slot), &tried, self.turn) else {
                return;
            };
            let seat = self.books[worker.index()].take(cn.slot);
            if self.dark.contains_key(&cn.slot) {
                tried.push(cn.slot);
                let decision = self.placement.report(cn.slot, view.epoch, CnFailure::Refused, self.now);
                self.follow(decision);
                continue;
            }
            let session = Session::new((worker, seat, cn.clone()), group, self.now, &mut self.rng);
            self.sessions.push(session);
            self.figures.sessions += 1;
            return;
        }
    }

    /// A moment passes.
    pub fn pass(&mut self) {
        self.now += TICK;
        self.known = self.view.clone();
        self.obey(false);
        self.probe();
        if !self.calm {
            self.disturb();
        }
        self.live();
        self.steer();
        self.check();
    }

    /// The disturbances are over: CNs answer again, and stay as they are.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.dark.clear();
    }

    fn follow(&mut self, decision: Decision) {
        if decision.changed {
            let view = self.placement.view();
            assert!(view.epoch > self.view.epoch, "a view that differs has another epoch");
            self.view = Arc::new(view);
            self.table_changed = true;
        }
        for (slot, _) in decision.evict {
            let before = self.sessions.len();
            self.sessions.retain(|session| session.cn.slot != slot);
            let gone = before - self.sessions.len();
            self.figures.evicted += gone as u32;
            (0..gone).for_each(|_| self.log_in());
        }
    }

    fn probe(&mut self) {
        let ticked = self.placement.tick(self.now);
        self.follow(ticked);
        if self.now < self.next_probe {
            return;
        }
        self.next_probe = self.now + self.settings.probe.interval;
        let now = self.now;
        self.dark.retain(|_, until| now < *until);
        for slot in self.view.cns.iter().map(|cn| cn.slot).collect::<Vec<_>>() {
            let outcome = match self.dark.contains_key(&slot) {
                true => Outcome::Failed { cause: "connection refused".into() },
                false => Outcome::Well,
            };
            let decision = self.placement.probe_result(slot, self.view.epoch, &outcome, PROBE_TOOK, now);
            self.follow(decision);
        }
    }

    fn live(&mut self) {
        let (now, calm) = (self.now, self.calm);
        for at in 0..self.sessions.len() {
            let session = &mut self.sessions[at];
            self.figures.commands += session.talk.take_commands();
            let to = session.order.as_ref().map(|order| order.to.slot);
            let dark = to.is_some_and(|slot| self.dark.contains_key(&slot));
            let fails = dark || (!calm && to.is_some() && self.rng.usize(..40) == 0);
            match session.live(now, calm, fails, &mut self.rng) {
                Moved::Not => {}
                Moved::From(from) => {
                    assert!(from.shares_data(&session.cn), "moved to other data");
                    assert!(from.slot != session.cn.slot);
                    self.figures.moves += 1;
                    self.last_move = now;
                }
                Moved::Failed => {
                    self.figures.failed += 1;
                    let why = session.stays.map_or("", Stay::name);
                    *self.figures.stays.entry(why).or_default() += 1;
                }
            }
        }
    }

    /// What the workers count.
    fn count(&self) -> Vec<(WorkerId, CensusRow)> {
        let mut rows: BTreeMap<(WorkerId, Arc<Group>, CnSlot), CensusRow> = BTreeMap::new();
        for session in &self.sessions {
            let mut row = |cn: CnSlot, count: &dyn Fn(&mut CensusRow)| {
                let group = session.group.clone();
                let key = (session.worker, group.clone(), cn);
                let empty =
                    CensusRow { group, cn, sessions: 0, movable: 0, dwelling: 0, leaving: 0, arriving: 0 };
                count(rows.entry(key).or_insert(empty));
            };
            let (movable, dwells) = (session.is_movable(self.now), session.dwells(self.now));
            row(session.cn.slot, &|row| {
                row.sessions += 1;
                row.movable += u32::from(movable);
                row.dwelling += u32::from(movable && dwells);
                row.leaving += u32::from(session.order.is_some());
            });
            if let Some(order) = &session.order {
                row(order.to.slot, &|row| row.arriving += 1);
            }
        }
        rows.into_iter().map(|((worker, ..), row)| (worker, row)).collect()
    }

    /// As the coordinator: a census where there is a reason for one, and what follows from it.
    fn steer(&mut self) {
        if !self.table_changed && self.now < self.next_look {
            return;
        }
        let draining = self.placement.is_draining();
        self.next_look = self.now + if draining { TICK } else { INTERVAL };
        let seats: Vec<u32> = self.view.cns.iter().map(|cn| self.tally.seats(cn.slot)).collect();
        let moving = self.unfinished || draining || self.now < self.watch_until;
        if !moving && !self.table_changed && seats == self.seats {
            return;
        }
        (self.seats, self.table_changed) = (seats, false);
        self.census = Census { rows: self.count(), epoch: Some(self.known.epoch) };
        let counted: u32 =
            self.census.rows.iter().map(|(_, row)| row.sessions - row.leaving + row.arriving).sum();
        assert_eq!(counted as usize, self.sessions.len(), "every session counts once");
        let evicted = self.figures.evicted;
        self.judge_drains();
        self.plan();
        if self.calm {
            self.obey(evicted == self.figures.evicted);
        }
    }

    fn judge_drains(&mut self) {
        let (census, tally) = (&self.census, &self.tally);
        let on = |slot: CnSlot| {
            let rows = census.rows.iter().filter(|(_, row)| row.cn == slot);
            rows.map(|(_, row)| row.sessions + row.arriving).sum::<u32>()
        };
        let seen =
            |slot: CnSlot| Seen { sessions: tally.seats(slot).max(on(slot)), counted_in: census.epoch };
        let decision = self.placement.look(seen, self.now);
        self.follow(decision);
    }

    fn plan(&mut self) {
        let rows = self.census.rows.iter().map(|(worker, row)| (*worker, row));
        let plan = self.balance.plan(&self.view, rows, self.now);
        self.unfinished = plan.unfinished;
        let is_moving = self.census.rows.iter().any(|(_, row)| row.leaving > 0);
        if !plan.steps.is_empty() || is_moving {
            // A move may fail until the next census, and another one has to see the end of the back-off.
            self.watch_until = self.now + BACK_OFF_MAX + 2 * INTERVAL;
        }
        for step in &plan.steps {
            self.check_step(step);
        }
        self.posted = plan.steps;
    }

    fn check_step(&self, step: &Step) {
        let opened = moves(&self.view, &step.group, step.from).expect("a CN of the view");
        assert!(opened.to.iter().any(|cn| cn.slot == step.to), "not open to them: {step:?}");
        let drains = self.view.cn(step.from).is_some_and(|cn| cn.work != WorkState::Working);
        assert_eq!(step.dwelling_too, drains, "{step:?}");
    }

    /// The workers do what they were ordered, which comes a moment later unless all is calm. `exact`: nobody has come or gone
    /// since they counted, so they find as many as they shall move.
    fn obey(&mut self, exact: bool) {
        for step in std::mem::take(&mut self.posted) {
            let Some(to) = self.view.cn(step.to).cloned() else { continue };
            let now = self.now;
            let mut able: Vec<&mut Session> = self
                .sessions
                .iter_mut()
                .filter(|session| {
                    session.worker == step.worker
                        && session.cn.slot == step.from
                        && session.group == step.group
                        && session.is_movable(now)
                        && (step.dwelling_too || !session.dwells(now))
                })
                .collect();
            assert!(!exact || able.len() >= step.count as usize, "more than can move: {step:?}");
            able.sort_by_key(|session| session.reluctance());
            for session in able.into_iter().take(step.count as usize) {
                let seat = self.books[session.worker.index()].take(to.slot);
                session.order(to.clone(), seat, step.dwelling_too, now, &mut self.rng);
            }
        }
    }

    /// Every session is on one CN and at one worker, and every seat is that of a session or of a leg that it is offered.
    fn check(&self) {
        let mut seats: BTreeMap<CnSlot, u32> = BTreeMap::new();
        for session in &self.sessions {
            assert_eq!(session.seat.slot(), session.cn.slot, "it sits where it is");
            *seats.entry(session.cn.slot).or_default() += 1;
            if let Some(order) = &session.order {
                *seats.entry(order.to.slot).or_default() += 1;
            }
            let here = self.view.cn(session.cn.slot);
            assert!(here.is_none_or(|cn| cn.id == session.cn.id), "its slot was given to another CN");
        }
        for slot in (0..64).map(CnSlot) {
            assert_eq!(self.tally.seats(slot), seats.get(&slot).copied().unwrap_or(0), "seats of {slot:?}");
        }
    }
}

/// Disturbances.
impl House {
    fn disturb(&mut self) {
        for _ in 0..self.rng.usize(..self.sessions.len() / 150 + 2) {
            let gone = self.rng.usize(..self.sessions.len());
            self.sessions.swap_remove(gone);
            self.log_in();
        }
        if self.rng.usize(..8) != 0 {
            return;
        }
        self.figures.disturbances += 1;
        let at = self.rng.usize(..self.view.cns.len());
        let cn = self.view.cns[at].clone();
        match self.rng.usize(..12) {
            0..3 => self.drain(&cn, false),
            3..7 => {
                let resumed = self.placement.resume(&cn.id).expect("a CN of the view");
                self.follow(resumed);
            }
            7 => self.alter(&cn),
            8 => self.crash(&cn),
            9 => self.add(),
            10 if self.view.cns.len() > 7 => self.drain(&cn, true),
            _ => {
                let to = self.rng.u32(1..5);
                self.change(&cn, |setting| setting.weight = to);
            }
        }
    }

    fn drain(&mut self, cn: &Cn, then_remove: bool) {
        let deadline = (self.rng.usize(..3) == 0).then(|| Duration::from_secs(self.rng.u64(1..10)));
        let at_deadline = if self.rng.bool() { AtDeadline::Close } else { AtDeadline::Leave };
        let terms = Terms { deadline, at_deadline, then_remove };
        let decision = self.placement.drain(&cn.id, terms, self.now).expect("a CN of the view");
        self.follow(decision);
    }

    fn change(&mut self, cn: &Cn, change: impl FnOnce(&mut CnSetting)) {
        let tally = &self.tally;
        let altered = self.placement.alter(&cn.id, change, |slot| tally.seats(slot));
        self.follow(altered.expect("a CN of the view"));
    }

    fn alter(&mut self, cn: &Cn) {
        let labels: &[(&str, &str)] =
            [&[][..], &[("account", "own1")], &[("account", "t*")]][self.rng.usize(..3)];
        let labels = setting("", 0, labels, 1, None).labels;
        self.change(cn, |setting| setting.labels = labels);
    }

    fn add(&mut self) {
        self.added += 1;
        let (id, host) = (format!("new{}", self.added), 10 + self.added % 200);
        let weight = self.rng.u32(1..4);
        let tally = &self.tally;
        let added = self.placement.add(setting(&id, host, &[], weight, Some("d1")), |slot| tally.seats(slot));
        self.follow(added.expect("there is room"));
    }

    /// The CN is lost with all its connections. A session takes refuge, or ends and its client comes anew.
    fn crash(&mut self, cn: &Cn) {
        let until = self.now + Duration::from_secs(self.rng.u64(2..8));
        self.dark.insert(cn.slot, until);
        let decision = self.placement.report(cn.slot, self.view.epoch, CnFailure::Refused, self.now);
        self.follow(decision);
        let (stranded, others) =
            std::mem::take(&mut self.sessions).into_iter().partition(|session| session.cn.slot == cn.slot);
        self.sessions = others;
        for mut session in stranded {
            let view = self.view.clone();
            let fit = refuges(&view, &session.group, cn, &[cn.slot]);
            let fit = fit.into_iter().filter(|to| !self.dark.contains_key(&to.slot));
            let refuge = fit.min_by_key(|to| self.tally.seats(to.slot) / to.weight).cloned();
            let saved = refuge.is_some_and(|to| {
                let seat = self.books[session.worker.index()].take(to.slot);
                session.take_refuge(to, seat, self.now, &mut self.rng)
            });
            if saved {
                self.figures.refuges += 1;
                self.sessions.push(session);
            } else {
                drop(session);
                self.log_in();
            }
        }
    }
}
