//! Which sessions should move: the balance over the CNs, and what must leave a CN.
//!
//! A [`Plan`] is made as a whole out of the view and one census of all workers. First go the sessions that must
//! leave: those on CNs that are drained, then those that would be sent to better CNs if they logged in now; each
//! gets the least loaded of the CNs that [`crate::route::moves`] opens to it. Then each pool of CNs is levelled.
//! A pool is what is open to a set of groups in the same way; its members carry whatever load they carry, that of
//! other pools too, as logins see it. A member whose load is above its fair share (by weight) by more than the
//! tolerance gives sessions down to that share; what cannot move is taken into account.
//!
//! Invariant: sessions never swing. A move for the balance's sake always goes downhill: afterwards the giver still
//! has at least the load of the taker, both by weight, so the sum of load²/weight falls with every one and there
//! is an end to it. Beside that, a group that moved from one CN to another does not move back within the dwell
//! time, and workers leave sessions alone that have moved lately. Sessions on their way count where they go.
//!
//! Nothing here knows which session moves; workers choose those that are cheap. Who asks for a census, and
//! when, is the coordinator's business.

mod bucket;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings;
use crate::ident::{CNS_MAX, CnSlot, WorkerId};
use crate::mailbox::message::CensusRow;
use crate::route::moves::moves;
use crate::route::{Group, View, WorkState};
use bucket::Bucket;

/// Steps of one plan; what does not fit is for the next one.
pub const STEPS_MAX: usize = 4096;

/// Pairs of CNs that are remembered for a group, so that it does not move back at once. When there are more,
/// nothing moves for the balance's sake until some are forgotten.
const LATELY_MAX: usize = 65_536;

/// So many sessions of a group at a worker shall move from one CN to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub worker: WorkerId,
    pub group: Arc<Group>,
    pub from: CnSlot,
    pub to: CnSlot,
    pub count: u32,
    /// Those that have moved lately too: the CN is being drained.
    pub dwelling_too: bool,
}

/// What shall move now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By worker, then by CNs.
    pub steps: Vec<Step>,
    /// There is more to do than can be done now, or it is not known whether these steps will do; plan again soon.
    /// Sessions that workers do not count as movable are not waited for.
    pub unfinished: bool,
}

/// What must be remembered from one plan to the next.
#[derive(Clone, Debug)]
pub struct Balance {
    rules: settings::Balance,
    ordinary: Bucket,
    drains: Option<Bucket>,
    /// When a group was last told to move from one CN to another.
    lately: HashMap<(Arc<Group>, CnSlot, CnSlot), Duration>,
}

impl Balance {
    pub fn new(rules: &settings::Balance, drain: &settings::Drain) -> Self {
        Self {
            rules: rules.clone(),
            ordinary: Bucket::new(rules.moves_per_second),
            drains: drain.moves_per_second.map(Bucket::new),
            lately: HashMap::new(),
        }
    }

    /// Takes over other rules; what was ordered lately is not forgotten.
    pub fn set_rules(&mut self, rules: &settings::Balance, drain: &settings::Drain) {
        self.rules = rules.clone();
        self.ordinary.set_rate(rules.moves_per_second);
        self.drains = match (self.drains.take(), drain.moves_per_second) {
            (Some(mut drains), Some(rate)) => {
                drains.set_rate(rate);
                Some(drains)
            }
            (_, rate) => rate.map(Bucket::new),
        };
    }

    /// Plans by what the workers counted. Rows about CNs that are not in the view are left out.
    pub fn plan<'c>(
        &mut self,
        view: &View,
        census: impl IntoIterator<Item = (WorkerId, &'c CensusRow)>,
        now: Duration,
    ) -> Plan {
        let dwell = self.rules.dwell;
        self.lately.retain(|_, at| now.saturating_sub(*at) < dwell);
        self.ordinary.refill(now);
        if let Some(drains) = &mut self.drains {
            drains.refill(now);
        }
        let mut draft = Draft::new(view, census);
        self.empty(&mut draft, now);
        if self.rules.enabled {
            self.level(&mut draft, now);
        }
        draft.plan()
    }

    /// Finds a place for all that must leave, those on drained CNs first.
    fn empty(&mut self, draft: &mut Draft<'_>, now: Duration) {
        for draining in [true, false] {
            for at in 0..draft.lots.len() {
                let lot = &draft.lots[at];
                if !lot.open.must_leave || lot.open.draining != draining || lot.open.to.is_empty() {
                    continue;
                }
                draft.unfinished |= lot.movable > 0 && (draining || self.rules.enabled);
                let able = match (draining, self.rules.enabled) {
                    (true, _) => lot.movable,
                    (false, true) => lot.rested(),
                    (false, false) => 0,
                };
                for _ in 0..able {
                    let Some(to) = draft.emptiest(draft.lots[at].open.to.iter().copied()) else { break };
                    if draft.is_full() || !self.may_take(draining) {
                        break;
                    }
                    draft.step(at, to, draining);
                    self.note(draft.lots[at].group.clone(), draft.lots[at].from, to, now);
                }
            }
        }
    }

    fn level(&mut self, draft: &mut Draft<'_>, now: Duration) {
        for (members, lots) in draft.pools() {
            let shares = draft.shares(&members, &lots);
            for (giver, share) in &shares {
                if draft.load(*giver) > share * (1.0 + self.rules.tolerance) {
                    self.give(draft, *giver, *share, &shares, &lots, now);
                }
            }
        }
    }

    /// Moves sessions of `lots` off `giver` until it has its share.
    fn give(
        &mut self,
        draft: &mut Draft<'_>,
        giver: CnSlot,
        share: f64,
        shares: &[(CnSlot, f64)],
        lots: &[usize],
        now: Duration,
    ) {
        // From where there are most, so that all workers move some.
        let here = lots.iter().copied().filter(|at| draft.lots[*at].from == giver);
        let mut most: BinaryHeap<(u32, usize)> = here.map(|at| (draft.lots[at].rested(), at)).collect();
        while draft.load(giver) - 1.0 >= share - ROUNDING {
            let Some((rested, at)) = most.pop() else { return };
            draft.unfinished |= draft.lots[at].movable > 0;
            if rested == 0 {
                return;
            }
            let group = draft.lots[at].group.clone();
            let may_take = |to: &CnSlot| {
                *to != giver
                    && draft.is_downhill(giver, *to)
                    && (self.lately.is_empty() || !self.lately.contains_key(&(group.clone(), *to, giver)))
            };
            let takers = shares.iter().map(|(slot, _)| *slot).filter(may_take);
            let Some(to) = draft.emptiest(takers) else { continue };
            if draft.is_full() || self.lately.len() >= LATELY_MAX || !self.may_take(false) {
                return;
            }
            draft.step(at, to, false);
            most.push((rested - 1, at));
            self.note(group, giver, to, now);
        }
    }

    fn may_take(&mut self, draining: bool) -> bool {
        match (draining, &mut self.drains) {
            (true, None) => true,
            (true, Some(drains)) => drains.take(),
            (false, _) => self.ordinary.take(),
        }
    }

    fn note(&mut self, group: Arc<Group>, from: CnSlot, to: CnSlot, now: Duration) {
        if self.lately.len() < LATELY_MAX {
            self.lately.insert((group, from, to), now);
        }
    }
}

/// What floating point may be off by, in sessions.
const ROUNDING: f64 = 1e-6;

/// What is open to a group on a CN.
struct Open {
    must_leave: bool,
    draining: bool,
    to: Vec<CnSlot>,
    /// Where it may be, this CN among them, by slot; empty where nothing is to be levelled.
    pool: Vec<CnSlot>,
}

impl Open {
    /// `loads` are the sessions of each CN, by slot.
    fn of(view: &View, group: &Group, from: CnSlot, loads: &[u32]) -> Option<Self> {
        let (cn, found) = (view.cn(from)?, moves(view, group, from)?);
        let with_room = found.to.iter().filter(|cn| !cn.is_full(|slot| loads[slot.index()]));
        let to: Vec<CnSlot> = with_room.map(|cn| cn.slot).collect();
        let mut pool = Vec::new();
        if !found.must_leave && !to.is_empty() && cn.takes_moves() {
            pool.extend(to.iter().copied().chain([from]));
            pool.sort_unstable();
        }
        Some(Self { must_leave: found.must_leave, draining: cn.work != WorkState::Working, to, pool })
    }
}

/// The sessions of one group on one CN at one worker that stay as far as is known.
struct Lot {
    worker: WorkerId,
    group: Arc<Group>,
    from: CnSlot,
    movable: u32,
    dwelling: u32,
    open: Rc<Open>,
}

impl Lot {
    /// Those that may move for the balance's sake.
    fn rested(&self) -> u32 {
        self.movable.saturating_sub(self.dwelling)
    }
}

type StepKey = (WorkerId, CnSlot, CnSlot, Arc<Group>, bool);

/// A plan in the making: the load of every CN as it will be.
struct Draft<'v> {
    view: &'v View,
    loads: Vec<u32>,
    weights: Vec<u32>,
    lots: Vec<Lot>,
    steps: BTreeMap<StepKey, u32>,
    unfinished: bool,
}

impl<'v> Draft<'v> {
    fn new<'c>(view: &'v View, census: impl IntoIterator<Item = (WorkerId, &'c CensusRow)>) -> Self {
        let (mut loads, mut weights) = (vec![0_u32; CNS_MAX], vec![1; CNS_MAX]);
        for cn in &view.cns {
            weights[cn.slot.index()] = cn.weight.max(1);
        }
        let mut known: HashMap<(Arc<Group>, CnSlot), Option<Rc<Open>>> = HashMap::new();
        let mut lots = Vec::new();
        let census: Vec<_> = census.into_iter().collect();
        for (_, row) in &census {
            let staying = row.sessions.saturating_sub(row.leaving);
            let load = &mut loads[row.cn.index()];
            *load = load.saturating_add(staying).saturating_add(row.arriving);
        }
        for (worker, row) in census {
            let staying = row.sessions.saturating_sub(row.leaving);
            let open = known
                .entry((row.group.clone(), row.cn))
                .or_insert_with(|| Open::of(view, &row.group, row.cn, &loads).map(Rc::new));
            if let Some(open) = open.clone() {
                lots.push(Lot {
                    worker,
                    group: row.group.clone(),
                    from: row.cn,
                    movable: row.movable.min(staying),
                    dwelling: row.dwelling,
                    open,
                });
            }
        }
        Self { view, loads, weights, lots, steps: BTreeMap::new(), unfinished: false }
    }

    fn load(&self, slot: CnSlot) -> f64 {
        f64::from(self.loads[slot.index()])
    }

    fn weight(&self, slot: CnSlot) -> f64 {
        f64::from(self.weights[slot.index()])
    }

    /// The CN that would have the least load by weight with one session more; the first of equals.
    fn emptiest(&self, among: impl Iterator<Item = CnSlot>) -> Option<CnSlot> {
        let with_one_more = |slot: &CnSlot| (self.load(*slot) + 1.0) / self.weight(*slot);
        among.min_by(|a, b| with_one_more(a).total_cmp(&with_one_more(b)))
    }

    /// Whether `to` would have no more load than `from`, by weight, if one session moved.
    fn is_downhill(&self, from: CnSlot, to: CnSlot) -> bool {
        (self.load(to) + 1.0) * self.weight(from) <= (self.load(from) - 1.0) * self.weight(to)
    }

    fn is_full(&self) -> bool {
        self.steps.len() >= STEPS_MAX
    }

    /// Moves one session of a lot.
    fn step(&mut self, at: usize, to: CnSlot, dwelling_too: bool) {
        let lot = &mut self.lots[at];
        lot.movable -= 1;
        self.loads[lot.from.index()] = self.loads[lot.from.index()].saturating_sub(1);
        self.loads[to.index()] += 1;
        *self.steps.entry((lot.worker, lot.from, to, lot.group.clone(), dwelling_too)).or_default() += 1;
    }

    /// The lots by the CNs that are open to them.
    fn pools(&self) -> BTreeMap<Vec<CnSlot>, Vec<usize>> {
        let mut pools: BTreeMap<Vec<CnSlot>, Vec<usize>> = BTreeMap::new();
        for (at, lot) in self.lots.iter().enumerate().filter(|(_, lot)| !lot.open.pool.is_empty()) {
            pools.entry(lot.open.pool.clone()).or_default().push(at);
        }
        pools
    }

    /// The fair share of each member, the most overloaded first.
    ///
    /// All that the members can give is spread so that the loads come as near to each other as may be: a member
    /// that is too full even without all it can give takes no part, and the level of the others is that of what
    /// is left for them.
    fn shares(&self, members: &[CnSlot], lots: &[usize]) -> Vec<(CnSlot, f64)> {
        let mut can_give: BTreeMap<CnSlot, f64> = BTreeMap::new();
        for lot in lots.iter().map(|at| &self.lots[*at]) {
            *can_give.entry(lot.from).or_default() += f64::from(lot.rested());
        }
        let fixed = |slot: &CnSlot| self.load(*slot) - can_give.get(slot).copied().unwrap_or(0.0);
        let to_give: f64 = can_give.values().sum();
        let mut part = members.to_vec();
        let level = loop {
            let load = to_give + part.iter().map(fixed).sum::<f64>();
            let level = load / part.iter().map(|slot| self.weight(*slot)).sum::<f64>();
            let before = part.len();
            part.retain(|slot| fixed(slot) <= level * self.weight(*slot) + ROUNDING);
            if part.len() == before || part.is_empty() {
                break level;
            }
        };
        let mut shares: Vec<_> = members.iter().map(|slot| (*slot, level * self.weight(*slot))).collect();
        shares.sort_by(|(a, x), (b, y)| (self.load(*b) * x).total_cmp(&(self.load(*a) * y)));
        shares
    }

    fn plan(self) -> Plan {
        debug_assert!(
            self.steps.keys().all(|(_, from, to, ..)| {
                from != to && self.view.cn(*to).is_some_and(|to| to.takes_moves())
            })
        );
        let steps = self.steps.into_iter().map(|((worker, from, to, group, dwelling_too), count)| Step {
            worker,
            group,
            from,
            to,
            count,
            dwelling_too,
        });
        Plan { steps: steps.collect(), unfinished: self.unfinished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::route::view::tests::{cn, view};
    use crate::route::{Cn, CnState, Identity};

    pub(super) fn group(login_name: &str) -> Arc<Group> {
        let identity = Identity::read(login_name.as_bytes(), [("", ""); 0], &View::default()).unwrap();
        Arc::new(Group::of(&identity))
    }

    pub(super) fn balance(change: impl FnOnce(&mut Settings)) -> Balance {
        let mut settings = Settings::default();
        change(&mut settings);
        Balance::new(&settings.balance, &settings.drain)
    }

    /// CNs of one data set, with their weights.
    fn house(weights: &[u32]) -> View {
        view(weights.iter().zip(0..).map(|(weight, nth)| {
            let mut cn = cn(nth, &format!("cn{nth}"), &[]);
            let inner = Arc::make_mut(&mut cn);
            (inner.weight, inner.data) = (*weight, Some("d1".into()));
            cn
        }))
    }

    fn with(mut view: View, slot: usize, change: impl Fn(&mut Cn)) -> View {
        change(Arc::make_mut(&mut view.cns[slot]));
        view
    }

    /// All sessions of a group on one CN at worker 0, all movable.
    fn row(login_name: &str, cn: u16, sessions: u32) -> CensusRow {
        let group = group(login_name);
        CensusRow { group, cn: CnSlot(cn), sessions, movable: sessions, dwelling: 0, leaving: 0, arriving: 0 }
    }

    fn told(plan: &Plan) -> String {
        let steps = plan.steps.iter().map(|step| {
            let hurry = if step.dwelling_too { "!" } else { "" };
            format!("{}{}>{}:{}{hurry}", step.group.tenant, step.from.0, step.to.0, step.count)
        });
        steps.collect::<Vec<_>>().join(" ") + if plan.unfinished { " .." } else { "" }
    }

    fn planned(view: &View, rows: &[CensusRow]) -> String {
        let rows = rows.iter().map(|row| (WorkerId(0), row));
        told(&balance(|_| ()).plan(view, rows, Duration::ZERO))
    }

    #[test]
    fn what_is_above_the_tolerance_is_levelled_down_to_the_fair_share() {
        for (weights, sessions, expected) in [
            (&[1, 1][..], &[10, 0][..], "a0>1:5 .."),
            (&[1, 1], &[13, 10], ""),
            (&[1, 1], &[12, 6], "a0>1:3 .."),
            (&[1, 1], &[2, 1], ""),
            (&[1, 1], &[1, 0], ""),
            (&[1, 1], &[2, 0], "a0>1:1 .."),
            (&[1, 1, 1], &[3, 1, 1], "a0>1:1 .."),
            (&[3, 1], &[0, 40], "a1>0:30 .."),
            (&[3, 1], &[30, 10], ""),
            (&[1, 1, 1], &[90, 0, 0], "a0>1:30 a0>2:30 .."),
        ] {
            let rows: Vec<_> = sessions.iter().zip(0..).map(|(n, cn)| row("a:u", cn, *n)).collect();
            assert_eq!(planned(&house(weights), &rows), expected, "{weights:?} {sessions:?}");
        }
    }

    #[test]
    fn many_small_tenants_are_levelled_together() {
        let rows: Vec<_> = (0..40).map(|nth| row(&format!("t{nth}:u"), 0, 1)).collect();
        let plan = balance(|_| ()).plan(&house(&[1, 1]), rows.iter().map(|r| (WorkerId(0), r)), ZERO);
        assert_eq!(plan.steps.iter().map(|step| step.count).sum::<u32>(), 20);
    }

    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn sessions_on_their_way_count_where_they_go() {
        let leaving = CensusRow { leaving: 5, movable: 5, ..row("a:u", 0, 10) };
        let arriving = CensusRow { arriving: 5, ..row("a:u", 1, 0) };
        assert_eq!(planned(&house(&[1, 1]), &[leaving, arriving]), "");
    }

    #[test]
    fn what_cannot_move_is_left_out_of_the_reckoning() {
        let stuck = CensusRow { movable: 0, ..row("a:u", 0, 100) };
        assert_eq!(planned(&house(&[1, 1, 1]), &[stuck, row("a:u", 1, 10)]), "a1>2:5 ..");
        let dwelling = CensusRow { dwelling: 10, ..row("a:u", 0, 10) };
        assert_eq!(planned(&house(&[1, 1]), &[dwelling]), " ..", "it will, later");
        let by_themselves = CensusRow { movable: 0, ..row("a:u", 0, 10) };
        assert_eq!(planned(&house(&[1, 1]), &[by_themselves]), "");
    }

    #[test]
    fn a_drained_cn_is_emptied_of_all_that_can_move_to_the_least_loaded() {
        let house = with(house(&[1, 1, 2]), 0, |cn| cn.work = WorkState::Draining);
        let rows =
            [CensusRow { movable: 8, dwelling: 8, ..row("a:u", 0, 9) }, row("a:u", 1, 4), row("a:u", 2, 4)];
        assert_eq!(planned(&house, &rows), "a0>1:1! a0>2:7! ..");
        let mut slow = balance(|s| s.drain.moves_per_second = Some(3));
        let plan = slow.plan(&house, rows.iter().map(|row| (WorkerId(0), row)), Duration::from_secs(9));
        assert_eq!(plan.steps.iter().map(|step| step.count).sum::<u32>(), 3);
    }

    #[test]
    fn sessions_without_a_claim_go_home_unless_balancing_is_off() {
        let labels = crate::route::label::Labels([("account".to_owned(), vec!["a".to_owned()])].into());
        let house = with(house(&[1, 1]), 1, |cn| cn.labels = labels.clone());
        let rows = [row("a:u", 0, 3), row("b:u", 1, 2)];
        assert_eq!(planned(&house, &rows), "a0>1:3 b1>0:2 ..");
        let rows = || rows.iter().map(|row| (WorkerId(0), row));
        assert_eq!(balance(|s| s.balance.enabled = false).plan(&house, rows(), ZERO), Plan::default());
        let sick = with(house.clone(), 1, |cn| cn.state = CnState::Down);
        let plan = balance(|_| ()).plan(&sick, rows(), ZERO);
        assert_eq!(told(&plan), "b1>0:2 ..", "nobody moves to a CN that is down");
    }

    #[test]
    fn a_group_does_not_move_back_within_the_dwell_time() {
        let (house, mut balance) = (house(&[1, 1]), balance(|_| ()));
        let mut plan = |on: [u32; 2], at: u64| {
            let rows = [row("a:u", 0, on[0]), row("a:u", 1, on[1])];
            told(&balance.plan(&house, rows.iter().map(|row| (WorkerId(0), row)), Duration::from_secs(at)))
        };
        assert_eq!(plan([10, 0], 0), "a0>1:5 ..");
        assert_eq!(plan([0, 10], 9), " ..");
        assert_eq!(plan([0, 10], 10), "a1>0:5 ..");
    }

    #[test]
    fn moves_are_no_faster_than_the_rate_and_come_from_all_workers() {
        let (house, mut balance) = (house(&[1, 1]), balance(|s| s.balance.moves_per_second = 10));
        let row = row("a:u", 0, 50);
        let mut plan = |ms: u64| {
            let plan =
                balance.plan(&house, (0..2).map(|nth| (WorkerId(nth), &row)), Duration::from_millis(ms));
            assert!(plan.unfinished);
            plan.steps.iter().map(|step| step.count).collect::<Vec<_>>()
        };
        assert_eq!(plan(1000), [5, 5]);
        assert_eq!(plan(1000), [0; 0]);
        assert_eq!(plan(1400), [2, 2]);
    }
}
