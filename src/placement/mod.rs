//! Where sessions should live: the coordinator's judgement, free of clocks and sockets.
//!
//! [`Placement`] joins the CN [`table`] with the [`health`] of each CN. Whatever the coordinator learns goes in
//! (a new configuration, an address, a probe's outcome, a worker's report, the passing of time) and a
//! [`Decision`] comes out: whether to publish a new view, what to log, and which CNs to probe at once.
//!
//! The life of a CN: `reload` adds it, and asks for a probe as soon as its address is known; `resolved` gives the
//! address of a named host; `probe_result` and `report` take it down and bring it back, `tick` ends cool-downs;
//! `reload` without it removes it, at once or, where it has sessions, when it is drained. At another address, or with another
//! flavour, it starts anew.
//!
//! An operator may `add`, `alter`, `drain` and `resume` CNs; that holds until the configuration is read again, but
//! for a drain, which goes on. `look` says how far the drains have come ([`duty`]).
//!
//! Invariant: every CN of the table has a health, and the epoch grows whenever the view would differ.
//!
//! Probes at the regular interval are the caller's business. Which sessions move is planned by [`balance`] and
//! [`even`], which know nothing of this table but its view.

pub mod balance;
pub mod duty;
pub mod even;
pub mod health;
pub mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::near::near;
use crate::config::settings::{CnSetting, Probe};
use crate::ident::{CnSlot, Epoch};
use crate::mailbox::message::CnFailure;
use crate::route::{CnState, View, WorkState};
use duty::{Action, Duty, Seen, Terms};
pub use health::Outcome;
use health::{Health, Thresholds, Verdict};
use table::Table;

/// What the coordinator has to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// [`Placement::view`] differs from before: publish it.
    pub changed: bool,
    /// Sentences for the log, each naming its CN.
    pub say: Vec<String>,
    /// CNs to probe at once, beside the regular probes.
    pub probe_now: Vec<CnSlot>,
    /// CNs whose sessions are to be ended, and why.
    pub evict: Vec<(CnSlot, String)>,
}

impl Decision {
    fn add(&mut self, other: Self) {
        self.changed |= other.changed;
        self.say.extend(other.say);
        self.probe_now.extend(other.probe_now);
        self.evict.extend(other.evict);
    }
}

/// Why an operator's change of the table cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no CN '{id}'{}", near.as_ref().map_or(String::new(), |near| format!("; did you mean '{near}'?")))]
    Unknown { id: String, near: Option<String> },
    #[error("there is a CN '{0}' already")]
    Exists(String),
    #[error("the table is full: no CN can be added before one is removed")]
    Full,
}

/// The CN table with its judgement. All times are since any fixed moment, such as the start of the process.
#[derive(Clone, Debug)]
pub struct Placement {
    table: Table,
    health: BTreeMap<CnSlot, Health>,
    /// The CNs that are being drained, or are drained.
    duties: BTreeMap<CnSlot, Duty>,
    thresholds: Thresholds,
}

impl Placement {
    /// An empty table; [`Self::reload`] fills it.
    pub fn new(probe: &Probe) -> Self {
        Self {
            table: Table::default(),
            health: BTreeMap::new(),
            duties: BTreeMap::new(),
            thresholds: thresholds(probe),
        }
    }

    /// Takes over changed thresholds; judgements passed stay as they are.
    pub fn set_probe(&mut self, probe: &Probe) {
        self.thresholds = thresholds(probe);
    }

    /// Takes over the CN list of a configuration, and says what changed. A CN that it no longer lists is drained by `terms`
    /// and then removed; at once where nobody sits on it. One that was to be removed and is listed stays.
    ///
    /// `seats` gives the seats taken on a slot, over all workers; a slot is not given away while there are any.
    pub fn reload(
        &mut self,
        cns: &[CnSetting],
        seats: impl Fn(CnSlot) -> u32,
        terms: Terms,
        now: Duration,
    ) -> Decision {
        let is_listed = |id: &str| cns.iter().any(|cn| cn.id == id);
        let has_seats = |cn: &&CnSetting| self.table.slot(&cn.id).is_some_and(|slot| seats(slot) > 0);
        let unlisted = self.table.settings().filter(|cn| !is_listed(&cn.id)).filter(has_seats).cloned();
        let unlisted: Vec<CnSetting> = unlisted.collect();
        let all: Vec<CnSetting> = cns.iter().chain(&unlisted).cloned().collect();
        let mut decision = self.take(&all, seats);
        for cn in &unlisted {
            decision.add(self.unlist(&cn.id, terms, now));
        }
        for cn in cns {
            decision.add(self.relist(&cn.id));
        }
        decision
    }

    /// Drains a CN that the configuration does not list any more.
    fn unlist(&mut self, id: &str, terms: Terms, now: Duration) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        let removed_already = self.duties.get(&slot).is_some_and(|duty| duty.terms.then_remove);
        if removed_already {
            return Decision::default();
        }
        self.table.bump();
        match self.duties.get_mut(&slot) {
            Some(duty) => duty.unlist(),
            None => _ = self.duties.insert(slot, Duty::begin_unlisted(terms, self.table.epoch(), now)),
        }
        let say =
            vec![format!("{id} is not listed any more: it drains and is removed then, {}", until(terms))];
        Decision { changed: true, say, ..Decision::default() }
    }

    /// Keeps a CN that the configuration lists in the table; an operator's drain goes on.
    fn relist(&mut self, id: &str) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        let ends = self.duties.get_mut(&slot).is_some_and(Duty::relist);
        if !ends {
            return Decision::default();
        }
        self.duties.remove(&slot);
        self.table.bump();
        Decision { changed: true, say: vec![format!("{id} is listed again")], ..Decision::default() }
    }

    /// Makes the table be of these CNs.
    fn take(&mut self, cns: &[CnSetting], seats: impl Fn(CnSlot) -> u32) -> Decision {
        let changes = self.table.reload(cns, seats);
        for slot in &changes.removed {
            self.health.remove(slot);
            self.duties.remove(slot);
        }
        for slot in &changes.fresh {
            self.health.insert(*slot, Health::new());
        }
        let reachable = |slot: &CnSlot| self.table.still_applies(*slot, self.table.epoch());
        let probe_now = changes.fresh.into_iter().filter(reachable).collect();
        Decision { changed: changes.any, say: changes.say, probe_now, evict: Vec::new() }
    }

    /// Adds a CN that the configuration does not list.
    pub fn add(
        &mut self,
        setting: CnSetting,
        seats: impl Fn(CnSlot) -> u32,
    ) -> Result<Decision, ChangeError> {
        if self.table.slot(&setting.id).is_some() {
            return Err(ChangeError::Exists(setting.id));
        }
        let id = setting.id.clone();
        let cns: Vec<_> = self.table.settings().cloned().chain([setting]).collect();
        let decision = self.take(&cns, seats);
        self.table.slot(&id).map(|_| decision).ok_or(ChangeError::Full)
    }

    /// Changes what the configuration says of a CN, but for its id.
    pub fn alter(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut CnSetting),
        seats: impl Fn(CnSlot) -> u32,
    ) -> Result<Decision, ChangeError> {
        self.slot(id)?;
        let mut cns: Vec<_> = self.table.settings().cloned().collect();
        if let Some(cn) = cns.iter_mut().find(|cn| cn.id == id) {
            change(cn);
        }
        Ok(self.take(&cns, seats))
    }

    /// Begins to drain a CN, or changes the terms of a drain.
    pub fn drain(&mut self, id: &str, terms: Terms, now: Duration) -> Result<Decision, ChangeError> {
        let (slot, how) = (self.slot(id)?, until(terms));
        if let Some(duty) = self.duties.get_mut(&slot) {
            let before = duty.state();
            duty.change(terms, now);
            let changed = duty.state() != before;
            if changed {
                self.table.bump();
            }
            return Ok(Decision {
                changed,
                say: vec![format!("{id} goes on draining, {how}")],
                ..Decision::default()
            });
        }
        self.table.bump();
        self.duties.insert(slot, Duty::begin(terms, self.table.epoch(), now));
        Ok(Decision { changed: true, say: vec![format!("{id} drains, {how}")], ..Decision::default() })
    }

    /// Ends a drain: the CN takes sessions again. One that does so already stays as it is.
    pub fn resume(&mut self, id: &str) -> Result<Decision, ChangeError> {
        let slot = self.slot(id)?;
        if self.duties.remove(&slot).is_none() {
            return Ok(Decision::default());
        }
        self.table.bump();
        let say = vec![format!("{id} takes sessions again, as it was told to")];
        Ok(Decision { changed: true, say, ..Decision::default() })
    }

    /// Judges how far the drains have come, by what is `seen` of each CN that drains.
    pub fn look(&mut self, seen: impl Fn(CnSlot) -> Seen, now: Duration) -> Decision {
        let (mut all, mut gone) = (Decision::default(), Vec::new());
        for (slot, duty) in &mut self.duties {
            let Some(id) = self.table.id(*slot) else { continue };
            let seen = seen(*slot);
            let Some(action) = duty.look(seen, now) else { continue };
            all.changed |= matches!(action, Action::Drained { .. } | Action::Refilled);
            all.say.extend(said(id, action, seen.sessions));
            match action {
                Action::Evict { .. } => {
                    all.evict.push((*slot, format!("CN {id} is being drained, and the time for it is over")))
                }
                Action::Drained { .. } if duty.terms.then_remove => gone.push(id.to_owned()),
                _ => {}
            }
        }
        if all.changed {
            self.table.bump();
        }
        if !gone.is_empty() {
            let rest: Vec<_> = self.table.settings().filter(|cn| !gone.contains(&cn.id)).cloned().collect();
            all.add(self.take(&rest, |_| 0));
        }
        all
    }

    /// Whether some CN drains and is not drained yet.
    pub fn is_draining(&self) -> bool {
        self.duties.values().any(|duty| duty.state() == WorkState::Draining)
    }

    /// The slot of a CN, or an error that names the nearest one.
    pub fn slot(&self, id: &str) -> Result<CnSlot, ChangeError> {
        self.table.slot(id).ok_or_else(|| {
            let ids = self.table.settings().map(|cn| cn.id.as_str());
            ChangeError::Unknown { id: id.to_owned(), near: near(id, ids).map(str::to_owned) }
        })
    }

    /// Takes over what the host name of a CN resolves to now. The present address stays if it is among them.
    pub fn resolved(&mut self, id: &str, answers: &[SocketAddr]) -> Decision {
        let Some(slot) = self.table.resolved(id, answers) else {
            return Decision::default();
        };
        self.health.insert(slot, Health::new());
        let say = vec![format!("{id} is at {}", answers[0])];
        Decision { changed: true, say, probe_now: vec![slot], ..Decision::default() }
    }

    /// Ids and addresses (`host:port`) to ask a name server for, at first and from time to time.
    pub fn unresolved(&self) -> impl Iterator<Item = (&str, &str)> {
        self.table.unresolved()
    }

    /// Takes note of a probe that went to the address that the view of `as_of` gave.
    pub fn probe_result(
        &mut self,
        slot: CnSlot,
        as_of: Epoch,
        outcome: &Outcome,
        took: Duration,
        now: Duration,
    ) -> Decision {
        let thresholds = self.thresholds;
        self.judge(slot, as_of, |health| health.probed(outcome, took, now, thresholds))
    }

    /// Takes note of a CN that failed a worker which routed by the view of `as_of`.
    pub fn report(&mut self, slot: CnSlot, as_of: Epoch, failure: CnFailure, now: Duration) -> Decision {
        self.judge(slot, as_of, |health| health.reported(failure, now))
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) -> Decision {
        let (mut all, as_of) = (Decision::default(), self.table.epoch());
        let is_due = |health: &Health| health.due().is_some_and(|due| due <= now);
        let due: Vec<_> =
            self.health.iter().filter(|(_, health)| is_due(health)).map(|(slot, _)| *slot).collect();
        for slot in due {
            all.add(self.judge(slot, as_of, |health| health.tick(now)));
        }
        all
    }

    /// When [`Self::tick`] or [`Self::look`] is needed next, if nothing else happens.
    pub fn due(&self) -> Option<Duration> {
        self.health.values().filter_map(Health::due).chain(self.drain_due()).min()
    }

    /// When [`Self::look`] is needed next, if nobody leaves a CN that drains.
    pub fn drain_due(&self) -> Option<Duration> {
        self.duties.values().filter_map(Duty::due).min()
    }

    pub fn epoch(&self) -> Epoch {
        self.table.epoch()
    }

    /// What workers should route by from now on.
    pub fn view(&self) -> View {
        self.table.view(|slot| {
            let state = self.health.get(&slot).map_or(CnState::Working, Health::state);
            (state, self.duties.get(&slot).map_or(WorkState::Working, Duty::state))
        })
    }

    /// Passes an observation on to a CN's health, unless it is about an earlier CN in that slot.
    fn judge(
        &mut self,
        slot: CnSlot,
        as_of: Epoch,
        observe: impl FnOnce(&mut Health) -> Verdict,
    ) -> Decision {
        let (Some(id), Some(health)) = (self.table.id(slot), self.health.get_mut(&slot)) else {
            return Decision::default();
        };
        if !self.table.still_applies(slot, as_of) {
            return Decision::default();
        }
        let before = health.state();
        let verdict = observe(health);
        let changed = health.state() != before;
        let say = verdict.say.map(|say| format!("{id} {say}")).into_iter().collect();
        if changed {
            self.table.bump();
        }
        let probe_now = if verdict.probe_now { vec![slot] } else { Vec::new() };
        Decision { changed, say, probe_now, evict: Vec::new() }
    }
}

fn until(terms: Terms) -> String {
    match terms.deadline {
        None => "without a deadline".to_owned(),
        Some(limit) => format!("until {limit:?} from now"),
    }
}

/// What an operator should hear of a drain.
fn said(id: &str, action: Action, sessions: u32) -> Option<String> {
    match action {
        Action::Drained { after } => Some(format!("{id} is drained after {:.1} s", after.as_secs_f64())),
        Action::Refilled => Some(format!("{id} has sessions again, and goes on draining")),
        Action::Evict { first: true } => {
            Some(format!("{id}: the time to drain it is over; {sessions} sessions are ended"))
        }
        Action::Evict { first: false } => None,
        Action::Overdue => {
            Some(format!("{id}: the time to drain it is over; {sessions} sessions are left and waited for"))
        }
    }
}

fn thresholds(probe: &Probe) -> Thresholds {
    Thresholds { fall: probe.fall, rise: probe.rise, interval: probe.interval }
}

#[cfg(test)]
mod tests {
    use super::table::tests::setting;
    use super::*;
    use crate::config::settings::AtDeadline;
    use proptest::prelude::*;

    const A: &str = "10.0.0.1:3306";
    const B: &str = "10.0.0.2:3306";
    const PROBE: Probe =
        Probe { interval: Duration::from_secs(1), timeout: Duration::from_secs(2), fall: 2, rise: 2 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn nobody(_: CnSlot) -> u32 {
        0
    }

    fn refused() -> Outcome {
        Outcome::Failed { cause: "connection refused".into() }
    }

    fn reload(placement: &mut Placement, cns: &[CnSetting], seats: fn(CnSlot) -> u32) -> Decision {
        placement.reload(cns, seats, terms(None, false), ms(0))
    }

    fn placement(cns: &[CnSetting]) -> Placement {
        let mut placement = Placement::new(&PROBE);
        let _ = reload(&mut placement, cns, nobody);
        placement
    }

    fn states(placement: &Placement) -> String {
        let view = placement.view();
        view.cns.iter().map(|cn| format!("{} {}", cn.id, cn.state)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn new_cns_are_probed_as_soon_as_their_address_is_known() {
        let mut placement = Placement::new(&PROBE);
        let first = reload(&mut placement, &[setting("cn1", A), setting("cn2", "db:3306")], nobody);
        assert_eq!((first.changed, first.probe_now), (true, vec![CnSlot(0)]));
        let second = placement.resolved("cn2", &[B.parse().unwrap()]);
        assert_eq!(second.say, [format!("cn2 is at {B}")]);
        assert_eq!((second.changed, second.probe_now), (true, vec![CnSlot(1)]));
        assert_eq!(
            reload(&mut placement, &[setting("cn1", A), setting("cn2", "db:3306")], nobody),
            Decision::default()
        );
    }

    #[test]
    fn a_change_of_state_is_published_and_said_by_name() {
        let mut placement = placement(&[setting("cn1", A), setting("cn2", B)]);
        let epoch = placement.epoch();
        let decision = placement.report(CnSlot(1), epoch, CnFailure::Refused, ms(10));
        assert_eq!(decision.say, ["cn2 is down: it refused a connection"]);
        assert!(decision.changed);
        assert_eq!(states(&placement), "cn1 working, cn2 down");
        assert_eq!((placement.epoch(), placement.view().epoch), (epoch.next(), epoch.next()));
        let again = placement.report(CnSlot(1), epoch, CnFailure::Refused, ms(11));
        assert_eq!((again, placement.epoch()), (Decision::default(), epoch.next()));
    }

    #[test]
    fn time_alone_ends_a_cool_down() {
        let mut placement = placement(&[setting("cn1", A)]);
        let epoch = placement.epoch();
        let _ = placement.report(CnSlot(0), epoch, CnFailure::Unwilling, ms(0));
        assert_eq!((states(&placement), placement.due()), ("cn1 cooling".into(), Some(ms(1000))));
        assert_eq!(placement.tick(ms(999)), Decision::default());
        assert!(placement.tick(ms(1000)).changed);
        assert_eq!((states(&placement), placement.due()), ("cn1 working".into(), None));
    }

    #[test]
    fn a_cn_that_moved_starts_anew_and_old_news_does_not_hurt_it() {
        let mut placement = placement(&[setting("cn1", A)]);
        let old = placement.epoch();
        let _ = placement.probe_result(CnSlot(0), old, &refused(), ms(0), ms(0));
        assert_eq!(states(&placement), "cn1 down");
        let moved = reload(&mut placement, &[setting("cn1", B)], nobody);
        assert_eq!(moved.say, [format!("cn1 address changed from {A} to {B}")]);
        assert_eq!((moved.probe_now, states(&placement)), (vec![CnSlot(0)], "cn1 working".into()));
        assert_eq!(placement.report(CnSlot(0), old, CnFailure::Refused, ms(1)), Decision::default());
        assert_eq!(placement.probe_result(CnSlot(0), old, &refused(), ms(0), ms(1)), Decision::default());
        let now = placement.epoch();
        assert!(placement.probe_result(CnSlot(0), now, &refused(), ms(0), ms(2)).changed);
    }

    #[test]
    fn a_change_of_labels_leaves_health_alone() {
        let mut placement = placement(&[setting("cn1", A)]);
        let _ = placement.report(CnSlot(0), placement.epoch(), CnFailure::Refused, ms(0));
        let heavier = CnSetting { weight: 2, ..setting("cn1", A) };
        let decision = reload(&mut placement, &[heavier], nobody);
        assert_eq!((decision.changed, decision.probe_now), (true, vec![]));
        assert_eq!(states(&placement), "cn1 down");
    }

    fn terms(deadline: Option<u64>, then_remove: bool) -> Terms {
        Terms { deadline: deadline.map(ms), at_deadline: AtDeadline::Close, then_remove }
    }

    fn works(placement: &Placement) -> String {
        placement.view().cns.iter().map(|cn| format!("{} {}", cn.id, cn.work)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_drain_goes_on_over_a_reload_and_ends_with_its_cn_or_at_a_word() {
        let cns = [setting("cn1", A), setting("cn2", B)];
        let mut placement = placement(&cns);
        let decision = placement.drain("cn2", terms(Some(5000), false), ms(0)).unwrap();
        assert_eq!(
            (decision.changed, decision.say),
            (true, vec!["cn2 drains, until 5s from now".to_owned()])
        );
        let _ = reload(&mut placement, &cns, nobody);
        assert_eq!(works(&placement), "cn1 working, cn2 draining");
        assert!(placement.is_draining());
        assert_eq!(placement.due(), Some(ms(5000)));
        let seen = |sessions, epoch| move |_| Seen { sessions, counted_in: Some(epoch) };
        let evict = placement.look(seen(2, placement.epoch()), ms(5000));
        assert_eq!(evict.say, ["cn2: the time to drain it is over; 2 sessions are ended"]);
        assert_eq!(evict.evict[0].0, CnSlot(1));
        let drained = placement.look(seen(0, placement.epoch()), ms(5100));
        assert_eq!((drained.changed, drained.say), (true, vec!["cn2 is drained after 5.1 s".to_owned()]));
        assert_eq!(works(&placement), "cn1 working, cn2 drained");
        assert!(placement.resume("cn2").unwrap().changed);
        assert_eq!(works(&placement), "cn1 working, cn2 working");
        assert_eq!(placement.resume("cn2"), Ok(Decision::default()));
    }

    #[test]
    fn a_cn_to_be_removed_leaves_the_table_when_it_is_empty() {
        let mut placement = placement(&[setting("cn1", A), setting("cn2", B)]);
        let _ = placement.drain("cn1", terms(None, true), ms(0)).unwrap();
        let epoch = placement.epoch();
        let decision = placement.look(|_| Seen { sessions: 0, counted_in: Some(epoch) }, ms(1000));
        assert_eq!(decision.say, ["cn1 is drained after 1.0 s", "cn1 removed"]);
        assert_eq!(works(&placement), "cn2 working");
        assert!(!placement.is_draining());
    }

    #[test]
    fn a_cn_that_is_drained_already_can_be_removed() {
        let mut placement = placement(&[setting("cn1", A), setting("cn2", B)]);
        let _ = placement.drain("cn1", terms(None, false), ms(0)).unwrap();
        let epoch = placement.epoch();
        let drained = placement.look(|_| Seen { sessions: 0, counted_in: Some(epoch) }, ms(1000));
        assert_eq!(drained.say, ["cn1 is drained after 1.0 s"]);
        assert!(placement.drain("cn1", terms(None, true), ms(2000)).unwrap().changed);
        let removed = placement.look(|_| Seen { sessions: 0, counted_in: Some(epoch) }, ms(2000));
        assert_eq!(removed.say, ["cn1 is drained after 2.0 s", "cn1 removed"]);
    }

    #[test]
    fn a_cn_with_sessions_that_is_not_listed_any_more_drains_first() {
        let both = [setting("cn1", A), setting("cn2", B)];
        let mut placement = placement(&both);
        let seats = |slot: CnSlot| u32::from(slot == CnSlot(1));
        let said = reload(&mut placement, &both[..1], seats).say;
        assert_eq!(said, ["cn2 is not listed any more: it drains and is removed then, without a deadline"]);
        assert_eq!(works(&placement), "cn1 working, cn2 draining");
        assert_eq!(reload(&mut placement, &both[..1], seats), Decision::default());
        assert_eq!(reload(&mut placement, &both, seats).say, ["cn2 is listed again"]);
        assert_eq!(works(&placement), "cn1 working, cn2 working");
        let _ = reload(&mut placement, &both[..1], seats);
        let epoch = placement.epoch();
        let gone = placement.look(|_| Seen { sessions: 0, counted_in: Some(epoch) }, ms(500));
        assert_eq!(gone.say, ["cn2 is drained after 0.5 s", "cn2 removed"]);
    }

    #[test]
    fn an_operators_drain_goes_on_whatever_the_file_lists() {
        let both = [setting("cn1", A), setting("cn2", B)];
        let mut placement = placement(&both);
        let seats = |_| 1;
        let _ = placement.drain("cn2", terms(Some(9000), true), ms(0)).unwrap();
        assert_eq!(reload(&mut placement, &both, seats), Decision::default());
        let epoch = placement.epoch();
        let drained = placement.look(|_| Seen { sessions: 0, counted_in: Some(epoch) }, ms(500));
        assert_eq!(drained.say, ["cn2 is drained after 0.5 s"], "the file has put it back");
        let _ = reload(&mut placement, &both[..1], seats);
        assert_eq!(
            (works(&placement), placement.due()),
            ("cn1 working, cn2 draining".into(), Some(ms(9000)))
        );
    }

    #[test]
    fn an_operator_changes_the_table_and_a_reload_puts_the_file_back() {
        let cns = [setting("cn1", A)];
        let mut placement = placement(&cns);
        assert_eq!(placement.add(setting("cn1", B), nobody), Err(ChangeError::Exists("cn1".into())));
        assert_eq!(placement.add(setting("cn2", B), nobody).unwrap().probe_now, [CnSlot(1)]);
        let error = placement.alter("cn11", |cn| cn.weight = 3, nobody).unwrap_err();
        assert_eq!(error.to_string(), "there is no CN 'cn11'; did you mean 'cn1'?");
        let decision = placement.alter("cn1", |cn| cn.weight = 3, nobody).unwrap();
        assert_eq!(decision.say, ["cn1 weight changed from 1 to 3"]);
        assert_eq!(
            reload(&mut placement, &cns, nobody).say,
            ["cn2 removed", "cn1 weight changed from 3 to 1"]
        );
    }

    #[test]
    fn reports_about_removed_cns_are_ignored() {
        let mut placement = placement(&[setting("cn1", A), setting("cn2", B)]);
        let _ = reload(&mut placement, &[setting("cn1", A)], nobody);
        let epoch = placement.epoch();
        assert_eq!(placement.report(CnSlot(1), epoch, CnFailure::Lost, ms(0)), Decision::default());
        assert_eq!(placement.report(CnSlot(900), epoch, CnFailure::Lost, ms(0)), Decision::default());
    }

    /// Three CNs over a minute, probed every second: cn2 is killed at 10 s and restarted at 20 s; cn3 hangs its
    /// logins from 30 s to 40 s while its probes go well.
    #[test]
    fn a_minute_with_a_crash_and_a_hang() {
        let mut placement =
            placement(&[setting("cn1", A), setting("cn2", B), setting("cn3", "10.0.0.3:3306")]);
        let (mut log, mut shares) = (Vec::new(), BTreeMap::new());
        for tenth in 0..600_u64 {
            let now = ms(tenth * 100);
            let epoch = placement.epoch();
            let killed = (100..200).contains(&tenth);
            let mut all = vec![placement.tick(now)];
            for slot in (0..3).filter(|_| tenth % 10 == 0).map(CnSlot) {
                let outcome = if slot.0 == 1 && killed { refused() } else { Outcome::Well };
                all.push(placement.probe_result(slot, epoch, &outcome, ms(0), now));
            }
            // A login on each CN that works.
            for cn in placement.view().cns.iter().filter(|cn| cn.state == CnState::Working) {
                let hangs = cn.slot.0 == 2 && (300..400).contains(&tenth);
                let failure = match cn.slot.0 {
                    1 if killed => CnFailure::Refused,
                    2 if hangs => CnFailure::TimedOut,
                    _ => continue,
                };
                *shares.entry(cn.id.to_string()).or_insert(0) += 1;
                all.push(placement.report(cn.slot, epoch, failure, now));
            }
            log.extend(
                all.into_iter().flat_map(|one| one.say).map(|say| format!("{:.1} {say}", now.as_secs_f64())),
            );
        }
        assert_eq!(
            log,
            [
                "10.0 cn2 is down: it refused a connection",
                "21.0 cn2 works again after 11.0 s",
                "30.0 cn3 cools down for 1 s: a login timed out",
                "31.0 cn3 cools down for 2 s: a login timed out",
                "33.0 cn3 cools down for 4 s: a login timed out",
                "37.0 cn3 cools down for 8 s: a login timed out",
            ]
        );
        assert_eq!(shares, BTreeMap::from([("cn2".into(), 1), ("cn3".into(), 4)]), "logins that failed");
        assert_eq!(states(&placement), "cn1 working, cn2 working, cn3 working");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reload(Vec<(u8, u8)>),
        Probe(u16, Outcome),
        Report(u16, CnFailure),
        Tick,
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome =
            prop::sample::select(vec![Outcome::Well, Outcome::Unwilling { cause: "full".into() }, refused()]);
        let failure = prop::sample::select(vec![
            CnFailure::Refused,
            CnFailure::TimedOut,
            CnFailure::Unwilling,
            CnFailure::Lost,
        ]);
        prop_oneof![
            prop::collection::vec((0_u8..5, 0_u8..3), 0..5).prop_map(Step::Reload),
            (0_u16..8, outcome).prop_map(|(slot, outcome)| Step::Probe(slot, outcome)),
            (0_u16..8, failure).prop_map(|(slot, failure)| Step::Report(slot, failure)),
            Just(Step::Tick),
        ]
    }

    proptest! {
        /// A decision says `changed` exactly when the epoch grew, and the view differs only then.
        #[test]
        fn the_epoch_tells_views_apart(steps in prop::collection::vec((step(), 0_u64..2000), 1..40)) {
            let (mut placement, mut now) = (Placement::new(&PROBE), Duration::ZERO);
            for (step, pause) in steps {
                now += ms(pause);
                let (epoch, view) = (placement.epoch(), states(&placement));
                let decision = match step {
                    Step::Reload(cns) => {
                        let mut cns: Vec<_> = cns
                            .iter()
                            .map(|(id, host)| setting(&format!("cn{id}"), &format!("10.0.0.{host}:3306")))
                            .collect();
                        cns.sort_by(|a, b| a.id.cmp(&b.id));
                        reload(&mut placement, &cns, nobody)
                    }
                    Step::Probe(slot, outcome) => placement.probe_result(CnSlot(slot), epoch, &outcome, ms(0), now),
                    Step::Report(slot, failure) => placement.report(CnSlot(slot), epoch, failure, now),
                    Step::Tick => placement.tick(now),
                };
                prop_assert_eq!(decision.changed, placement.epoch() > epoch);
                prop_assert!(decision.changed || states(&placement) == view);
            }
        }
    }
}
