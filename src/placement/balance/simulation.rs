//! Thousands of sessions for some minutes of virtual time: CNs come, go, drain and change their weight, sessions
//! are held, moves fail. What is checked: every session is counted exactly once in every census; no order is
//! wrong; once nothing changes any more the balance settles, and then it is even and stays so.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{balance, group};
use super::*;
use crate::route::view::tests::{cn, view};
use crate::route::{Cn, CnState};

const TICK: Duration = Duration::from_millis(200);
const DWELL: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(3);
const TOLERANCE: f64 = 0.2;

struct Session {
    group: usize,
    worker: WorkerId,
    cn: CnSlot,
    /// False for one that never can move.
    known: bool,
    /// When it moved last.
    moved: Option<Duration>,
    held_until: Duration,
    backs_off_until: Duration,
    /// The order under way: where to, and until when it is waited for.
    order: Option<(CnSlot, Duration)>,
}

/// Random numbers by a linear congruence, so that a seed tells all (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct World {
    dice: Dice,
    now: Duration,
    view: View,
    groups: Vec<Arc<Group>>,
    sessions: Vec<Session>,
    balance: Balance,
    /// Whether moves may fail and sessions be held.
    trouble: bool,
    /// What makes the coordinator plan again: the last plan was not finished, a session was ordered to move so
    /// lately that it may have backed off since, a CN or its sessions have changed.
    unfinished: bool,
    ordered: Duration,
    changed: bool,
}

impl World {
    fn new(seed: u64, sessions: usize) -> Self {
        let groups = (0..30).map(|nth| match nth % 3 {
            0 => group(&format!("own{}:u", nth % 2)),
            _ => group(&format!("t{nth}:u")),
        });
        let cns = (0..6).map(|nth| {
            let label = match nth {
                0 | 1 => vec![("account", "own0")],
                2 => vec![("account", "own*")],
                _ => vec![],
            };
            let mut cn = cn(nth, &format!("cn{nth}"), &label);
            Arc::make_mut(&mut cn).data = Some("d1".into());
            cn
        });
        let balance = balance(|settings| {
            (settings.balance.dwell, settings.balance.tolerance) = (DWELL, TOLERANCE);
        });
        let groups: Vec<_> = groups.collect();
        let mut world = Self {
            dice: Dice(seed),
            now: DWELL,
            view: view(cns),
            groups,
            sessions: vec![],
            balance,
            trouble: true,
            unfinished: false,
            ordered: Duration::ZERO,
            changed: true,
        };
        for _ in 0..sessions {
            world.log_in();
        }
        world
    }

    /// Anywhere at all, as if the CNs had been others when it came.
    fn log_in(&mut self) {
        let session = Session {
            group: self.dice.below(self.groups.len()),
            worker: WorkerId(self.dice.below(3) as u16),
            cn: self.view.cns[self.dice.below(3)].slot,
            known: !self.dice.chance(5),
            moved: None,
            held_until: Duration::ZERO,
            backs_off_until: Duration::ZERO,
            order: None,
        };
        self.sessions.push(session);
    }

    fn change_a_cn(&mut self) {
        let at = self.dice.below(self.view.cns.len());
        let what = self.dice.below(5);
        let weight = 1 + self.dice.below(4) as u32;
        let cn: &mut Cn = Arc::make_mut(&mut self.view.cns[at]);
        match what {
            0 | 1 => cn.work = WorkState::Draining,
            2 => cn.work = WorkState::Working,
            3 => cn.weight = weight,
            _ => cn.state = if cn.state == CnState::Working { CnState::Down } else { CnState::Working },
        }
    }

    fn churn(&mut self) {
        self.changed = true;
        for _ in 0..self.dice.below(20) {
            let gone = self.dice.below(self.sessions.len());
            self.sessions.swap_remove(gone);
            self.log_in();
        }
        if self.dice.chance(10) {
            self.change_a_cn();
        }
    }

    /// What the workers would count.
    fn census(&self) -> Vec<(WorkerId, CensusRow)> {
        let mut rows: BTreeMap<(WorkerId, usize, CnSlot), CensusRow> = BTreeMap::new();
        for session in &self.sessions {
            let mut row = |cn: CnSlot, count: &dyn Fn(&mut CensusRow)| {
                let group = self.groups[session.group].clone();
                let empty =
                    CensusRow { group, cn, sessions: 0, movable: 0, dwelling: 0, leaving: 0, arriving: 0 };
                count(rows.entry((session.worker, session.group, cn)).or_insert(empty));
            };
            row(session.cn, &|row| row.sessions += 1);
            match session.order {
                Some((to, _)) => {
                    row(session.cn, &|row| row.leaving += 1);
                    row(to, &|row| row.arriving += 1);
                }
                None if self.may_move(session) => {
                    let dwells = session.moved.is_some_and(|at| self.now < at + DWELL);
                    row(session.cn, &|row| row.movable += 1);
                    row(session.cn, &|row| row.dwelling += u32::from(dwells));
                }
                None => {}
            }
        }
        rows.into_iter().map(|((worker, ..), row)| (worker, row)).collect()
    }

    fn may_move(&self, session: &Session) -> bool {
        session.known && session.order.is_none() && self.now >= session.backs_off_until
    }

    /// Plans if there is a reason to, and gives the orders out; the number of sessions that were ordered to move.
    fn plan(&mut self) -> u32 {
        let again = self.unfinished || self.changed || self.now < self.ordered + PATIENCE + BACK_OFF + TICK;
        if !again {
            return 0;
        }
        self.changed = false;
        let census = self.census();
        let counted: u32 = census.iter().map(|(_, row)| row.sessions - row.leaving + row.arriving).sum();
        assert_eq!(counted as usize, self.sessions.len(), "every session counts once");
        let plan = self.balance.plan(&self.view, census.iter().map(|(worker, row)| (*worker, row)), self.now);
        for step in &plan.steps {
            self.order(step);
        }
        assert!(plan.unfinished || plan.steps.is_empty());
        self.unfinished = plan.unfinished;
        if !plan.steps.is_empty() {
            self.ordered = self.now;
        }
        plan.steps.iter().map(|step| step.count).sum()
    }

    /// What a worker makes of an order: it must find as many sessions as it was told to move.
    fn order(&mut self, step: &Step) {
        let (from, to) = (self.view.cn(step.from).unwrap(), self.view.cn(step.to).unwrap());
        assert!(to.takes_moves() && from.shares_data(to));
        assert_eq!(step.dwelling_too, from.work != WorkState::Working);
        let opened = moves(&self.view, &step.group, step.from).unwrap();
        assert!(opened.to.iter().any(|cn| cn.slot == step.to), "{step:?}");
        let (now, mut left) = (self.now, step.count);
        for at in 0..self.sessions.len() {
            let session = &self.sessions[at];
            let dwells = session.moved.is_some_and(|at| now < at + DWELL);
            let is_one = session.worker == step.worker
                && self.groups[session.group] == step.group
                && session.cn == step.from
                && self.may_move(session)
                && (step.dwelling_too || !dwells);
            if left > 0 && is_one {
                self.sessions[at].order = Some((step.to, now + PATIENCE));
                left -= 1;
            }
        }
        assert_eq!(left, 0, "more than can move: {step:?}");
    }

    /// A moment passes: moves come to their end, one way or the other.
    fn pass(&mut self) {
        self.now += TICK;
        for at in 0..self.sessions.len() {
            let (held, fails) = (self.dice.chance(30), self.dice.chance(15));
            let session = &mut self.sessions[at];
            let Some((to, until)) = session.order else { continue };
            if self.trouble && held && session.held_until < self.now {
                session.held_until = self.now + 3 * TICK;
            }
            if self.now < session.held_until && self.now < until {
                continue;
            }
            session.order = None;
            if self.trouble && fails || self.now < session.held_until {
                session.backs_off_until = self.now + BACK_OFF;
            } else {
                (session.cn, session.moved) = (to, Some(self.now));
                self.changed = true;
            }
        }
    }

    fn load(&self, cn: &Cn) -> f64 {
        self.sessions.iter().filter(|session| session.cn == cn.slot).count() as f64 / f64::from(cn.weight)
    }

    /// The level to which all that is open in the same way could be filled, by bisection.
    fn level_of(&self, session: &Session, others: &[&Arc<Cn>]) -> f64 {
        let slots = |from: CnSlot, to: &[&Arc<Cn>]| {
            to.iter().map(|cn| cn.slot).chain([from]).collect::<std::collections::BTreeSet<_>>()
        };
        let pool = slots(session.cn, others);
        let alike = |other: &&Session| {
            let opened = moves(&self.view, &self.groups[other.group], other.cn).unwrap();
            other.known && !opened.must_leave && slots(other.cn, &opened.to) == pool
        };
        let mut on = BTreeMap::<CnSlot, f64>::new();
        for other in self.sessions.iter().filter(alike) {
            *on.entry(other.cn).or_default() += 1.0;
        }
        let total: f64 = on.values().sum();
        let room = |level: f64| -> f64 {
            let cns = pool.iter().map(|slot| self.view.cn(*slot).unwrap());
            cns.map(|cn| {
                let fixed = self.load(cn) * f64::from(cn.weight) - on.get(&cn.slot).unwrap_or(&0.0);
                (level * f64::from(cn.weight) - fixed).max(0.0)
            })
            .sum()
        };
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if room(middle) < total { low = middle } else { high = middle }
        }
        high
    }

    /// That no session is where it need not be.
    fn check_settled(&self, seed: u64) {
        // One of each kind will do.
        let mut seen = std::collections::BTreeSet::new();
        let known = self.sessions.iter().filter(|session| session.known);
        for session in known.filter(|session| seen.insert((session.group, session.cn))) {
            let opened = moves(&self.view, &self.groups[session.group], session.cn).unwrap();
            assert!(
                !opened.must_leave || opened.to.is_empty(),
                "seed {seed}: one was left on {:?}",
                session.cn
            );
            let here = self.view.cn(session.cn).unwrap();
            if opened.to.is_empty() || !here.takes_moves() {
                continue;
            }
            let level = self.level_of(session, &opened.to);
            let least = opened.to.iter().map(|cn| self.load(cn) + 1.0 / f64::from(cn.weight));
            let least = least.fold(f64::INFINITY, f64::min);
            let is_fair = self.load(here) <= level * (1.0 + TOLERANCE) + 1e-6;
            let one_less = self.load(here) - 1.0 / f64::from(here.weight);
            let none_would_gain = least > one_less;
            let is_last = one_less < level;
            assert!(is_fair || none_would_gain || is_last, "seed {seed}: {} is too full", here.id);
        }
    }
}

fn run(seed: u64, sessions: usize) {
    let mut world = World::new(seed, sessions);
    for _ in 0..100 {
        world.churn();
        world.plan();
        world.pass();
    }
    world.trouble = false;
    // Every back-off and dwell ends, and what they held back moves.
    let mut since_last = 0;
    world.changed = true;
    for _ in 0..400 {
        since_last = if world.plan() == 0 { since_last + 1 } else { 0 };
        world.pass();
    }
    assert!(since_last > 100, "seed {seed}: it moves on and on");
    world.check_settled(seed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_balance_settles(seed: u64, sessions in 10_usize..1000) {
        run(seed, sessions);
    }
}

#[test]
fn thousands_of_sessions_settle() {
    run(1, 3000);
}

/// With nothing but the balance at work no session moves twice.
#[test]
fn a_cn_that_comes_back_gets_its_share_without_a_swing() {
    let mut world = World::new(7, 0);
    (world.trouble, world.groups) = (false, vec![group("t:u")]);
    for nth in 0..900 {
        world.log_in();
        let last = world.sessions.last_mut().unwrap();
        (last.known, last.cn) = (true, CnSlot(3 + nth % 2));
    }
    let mut moved = 0;
    for _ in 0..200 {
        moved += world.plan();
        world.pass();
    }
    assert_eq!(moved, 300, "each moves once");
    let on = |slot: usize| world.load(&world.view.cns[slot]);
    assert_eq!([on(3), on(4), on(5)], [300.0; 3]);
}
