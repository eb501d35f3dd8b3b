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
//! for a drain, which goes on. Where the CNs themselves are asked, `found` takes over what they tell ([`found`],
//! [`adopt`]). `look` says how far the drains have come ([`duty`]).
//!
//! Invariant: every CN of the table has a health and a source, and the epoch grows whenever the view would differ.
//!
//! Probes at the regular interval are the caller's business. Which sessions move is planned by [`balance`] and
//! [`even`], which know nothing of this table but its view.

pub mod adopt;
pub mod balance;
pub mod duty;
pub mod even;
pub mod found;
pub mod health;
pub mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::near::near;
use crate::config::settings::{CnSetting, Discovery, Probe};
use crate::ident::{CnSlot, Epoch};
use crate::mailbox::message::CnFailure;
use crate::route::{CnState, View, WorkState};
use adopt::Memory;
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

/// Who has put a CN into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    /// An operator, until the configuration is read again.
    Admin,
    /// A CN has told of it.
    Discovery,
}

impl Source {
    /// As `SHOW CNS` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Admin => "admin",
            Self::Discovery => "discovery",
        }
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
    sources: BTreeMap<CnSlot, Source>,
    memory: Memory,
    thresholds: Thresholds,
}

impl Placement {
    /// An empty table; [`Self::reload`] fills it.
    pub fn new(probe: &Probe, discovery: &Discovery) -> Self {
        Self {
            table: Table::new(discovery.query_port),
            health: BTreeMap::new(),
            duties: BTreeMap::new(),
            sources: BTreeMap::new(),
            memory: Memory::default(),
            thresholds: thresholds(probe),
        }
    }

    /// Takes over changed thresholds; judgements passed stay as they are.
    pub fn set_probe(&mut self, probe: &Probe) {
        self.thresholds = thresholds(probe);
    }

    /// Takes over the port of query services that are not said to be elsewhere.
    pub fn set_query_port(&mut self, port: u16) -> Decision {
        Decision { changed: self.table.set_query_port(port), ..Decision::default() }
    }

    /// Takes over the CN list of a configuration, and says what changed. A CN that it no longer lists is drained by `terms`
    /// and then removed; at once where nobody sits on it. One that was to be removed and is listed stays, and so does
    /// one that discovery tells of.
    ///
    /// `seats` gives the seats taken on a slot, over all workers; a slot is not given away while there are any.
    pub fn reload(
        &mut self,
        cns: &[CnSetting],
        seats: impl Fn(CnSlot) -> u32,
        terms: Terms,
        now: Duration,
    ) -> Decision {
        let listed = self.with_found(cns);
        let is_listed = |id: &str| listed.iter().any(|cn| cn.id == id);
        let has_seats = |cn: &&CnSetting| self.table.slot(&cn.id).is_some_and(|slot| seats(slot) > 0);
        let unlisted = self.table.settings().filter(|cn| !is_listed(&cn.id)).filter(has_seats).cloned();
        let unlisted: Vec<CnSetting> = unlisted.collect();
        let all: Vec<CnSetting> = listed.iter().chain(&unlisted).cloned().collect();
        let mut decision = self.take(&all, seats);
        for cn in &unlisted {
            decision.add(self.unlist(&cn.id, terms, now));
        }
        for cn in cns {
            decision.add(self.list(&cn.id, now));
        }
        decision
    }

    /// Notes that the configuration lists a CN.
    fn list(&mut self, id: &str, now: Duration) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        self.sources.insert(slot, Source::File);
        let mut decision = self.keep(id, Duty::relist);
        if !self.is_told_of(id) {
            decision.add(self.heed_work(id, false, now));
        }
        decision
    }

    /// Drains a CN that nobody lists any more.
    fn unlist(&mut self, id: &str, terms: Terms, now: Duration) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        let is_news = self.duties.get_mut(&slot).map(|duty| duty.unlist(terms, now));
        if is_news == Some(false) {
            return Decision::default();
        }
        self.table.bump();
        if is_news.is_none() {
            self.duties.insert(slot, Duty::begin_unlisted(terms, self.table.epoch(), now));
        }
        let how = self.duties.get(&slot).map(|duty| until(duty, now)).unwrap_or_default();
        let say = vec![format!("{id} is not listed any more: it drains and is removed then, {how}")];
        Decision { changed: true, say, ..Decision::default() }
    }

    /// Keeps a CN in the table that is there again; a drain that an operator or its cluster wants goes on.
    fn keep(&mut self, id: &str, again: impl FnOnce(&mut Duty) -> bool) -> Decision {
        let Some(slot) = self.table.slot(id) else { return Decision::default() };
        let ends = self.duties.get_mut(&slot).is_some_and(again);
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
            self.sources.remove(slot);
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
        let slot = self.table.slot(&id).ok_or(ChangeError::Full)?;
        self.sources.insert(slot, Source::Admin);
        Ok(decision)
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
        let slot = self.slot(id)?;
        if let Some(duty) = self.duties.get_mut(&slot) {
            let before = duty.state();
            duty.change(terms, now);
            let changed = duty.state() != before;
            if changed {
                self.table.bump();
            }
            return Ok(Decision {
                changed,
                say: vec![format!("{id} goes on draining, {}", until(duty, now))],
                ..Decision::default()
            });
        }
        self.table.bump();
        let duty = Duty::begin(terms, self.table.epoch(), now);
        let say = vec![format!("{id} drains, {}", until(&duty, now))];
        self.duties.insert(slot, duty);
        Ok(Decision { changed: true, say, ..Decision::default() })
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

    /// Who has put a CN into the table.
    pub fn source(&self, slot: CnSlot) -> Option<Source> {
        self.sources.get(&slot).copied()
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

fn until(duty: &Duty, now: Duration) -> String {
    match duty.deadline() {
        None => "without a deadline".to_owned(),
        Some(deadline) if deadline <= now => "and the time for it is over".to_owned(),
        Some(deadline) => format!("until {:.1} s from now", (deadline - now).as_secs_f64()),
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
mod tests;
