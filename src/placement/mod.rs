//! Where sessions should live: the coordinator's judgement, free of clocks and sockets.
//!
//! [`Placement`] joins the CN [`table`] with the [`health`] of each CN. Whatever the coordinator learns goes in
//! (a new configuration, an address, a probe's outcome, a worker's report, the passing of time) and a
//! [`Decision`] comes out: whether to publish a new view, what to log, and which CNs to probe at once.
//!
//! The life of a CN: `reload` adds it, and asks for a probe as soon as its address is known; `resolved` gives the
//! address of a named host; `probe_result` and `report` take it down and bring it back, `tick` ends cool-downs;
//! `reload` without it removes it. At another address, or with another flavour, it starts anew.
//!
//! Invariant: every CN of the table has a health, and the epoch grows whenever the view would differ.
//!
//! Probes at the regular interval are the caller's business.

pub mod balance;
pub mod health;
pub mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::settings::{CnSetting, Probe};
use crate::ident::{CnSlot, Epoch};
use crate::mailbox::message::CnFailure;
use crate::route::{CnState, View};
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
}

/// The CN table with its judgement. All times are since any fixed moment, such as the start of the process.
#[derive(Clone, Debug)]
pub struct Placement {
    table: Table,
    health: BTreeMap<CnSlot, Health>,
    thresholds: Thresholds,
}

impl Placement {
    /// An empty table; [`Self::reload`] fills it.
    pub fn new(probe: &Probe) -> Self {
        Self { table: Table::default(), health: BTreeMap::new(), thresholds: thresholds(probe) }
    }

    /// Takes over changed thresholds; judgements passed stay as they are.
    pub fn set_probe(&mut self, probe: &Probe) {
        self.thresholds = thresholds(probe);
    }

    /// Takes over the CN list of a configuration, and says what changed.
    ///
    /// `seats` gives the seats taken on a slot, over all workers; a slot is not given away while there are any.
    pub fn reload(&mut self, cns: &[CnSetting], seats: impl Fn(CnSlot) -> u32) -> Decision {
        let changes = self.table.reload(cns, seats);
        for slot in &changes.removed {
            self.health.remove(slot);
        }
        for slot in &changes.fresh {
            self.health.insert(*slot, Health::new());
        }
        let reachable = |slot: &CnSlot| self.table.still_applies(*slot, self.table.epoch());
        let probe_now = changes.fresh.into_iter().filter(reachable).collect();
        Decision { changed: changes.any, say: changes.say, probe_now }
    }

    /// Takes over what the host name of a CN resolves to now. The present address stays if it is among them.
    pub fn resolved(&mut self, id: &str, answers: &[SocketAddr]) -> Decision {
        let Some(slot) = self.table.resolved(id, answers) else {
            return Decision::default();
        };
        self.health.insert(slot, Health::new());
        Decision { changed: true, say: vec![format!("{id} is at {}", answers[0])], probe_now: vec![slot] }
    }

    /// Ids and addresses (`host:port`) to ask a name server for, at first and from time to time.
    pub fn unresolved(&self) -> impl Iterator<Item = (&str, &str)> {
        self.table.unresolved()
    }

    /// Takes note of a probe that went to the address that the view of `as_of` gave.
    pub fn probe_result(&mut self, slot: CnSlot, as_of: Epoch, outcome: &Outcome, now: Duration) -> Decision {
        let thresholds = self.thresholds;
        self.judge(slot, as_of, |health| health.probed(outcome, now, thresholds))
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
            let one = self.judge(slot, as_of, |health| health.tick(now));
            all.changed |= one.changed;
            all.say.extend(one.say);
        }
        all
    }

    /// When [`Self::tick`] is needed next, if nothing else happens.
    pub fn due(&self) -> Option<Duration> {
        self.health.values().filter_map(Health::due).min()
    }

    pub fn epoch(&self) -> Epoch {
        self.table.epoch()
    }

    /// What workers should route by from now on.
    pub fn view(&self) -> View {
        self.table.view(|slot| self.health.get(&slot).map_or(CnState::Working, Health::state))
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
        Decision { changed, say, probe_now: if verdict.probe_now { vec![slot] } else { Vec::new() } }
    }
}

fn thresholds(probe: &Probe) -> Thresholds {
    Thresholds { fall: probe.fall, rise: probe.rise, interval: probe.interval }
}

#[cfg(test)]
mod tests {
    use super::table::tests::setting;
    use super::*;
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

    fn placement(cns: &[CnSetting]) -> Placement {
        let mut placement = Placement::new(&PROBE);
        let _ = placement.reload(cns, nobody);
        placement
    }

    fn states(placement: &Placement) -> String {
        let view = placement.view();
        view.cns.iter().map(|cn| format!("{} {}", cn.id, cn.state)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn new_cns_are_probed_as_soon_as_their_address_is_known() {
        let mut placement = Placement::new(&PROBE);
        let first = placement.reload(&[setting("cn1", A), setting("cn2", "db:3306")], nobody);
        assert_eq!((first.changed, first.probe_now), (true, vec![CnSlot(0)]));
        let second = placement.resolved("cn2", &[B.parse().unwrap()]);
        assert_eq!(second.say, [format!("cn2 is at {B}")]);
        assert_eq!((second.changed, second.probe_now), (true, vec![CnSlot(1)]));
        assert_eq!(
            placement.reload(&[setting("cn1", A), setting("cn2", "db:3306")], nobody),
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
        let _ = placement.probe_result(CnSlot(0), old, &refused(), ms(0));
        assert_eq!(states(&placement), "cn1 down");
        let moved = placement.reload(&[setting("cn1", B)], nobody);
        assert_eq!(moved.say, [format!("cn1 address changed from {A} to {B}")]);
        assert_eq!((moved.probe_now, states(&placement)), (vec![CnSlot(0)], "cn1 working".into()));
        assert_eq!(placement.report(CnSlot(0), old, CnFailure::Refused, ms(1)), Decision::default());
        assert_eq!(placement.probe_result(CnSlot(0), old, &refused(), ms(1)), Decision::default());
        let now = placement.epoch();
        assert!(placement.probe_result(CnSlot(0), now, &refused(), ms(2)).changed);
    }

    #[test]
    fn a_change_of_labels_leaves_health_alone() {
        let mut placement = placement(&[setting("cn1", A)]);
        let _ = placement.report(CnSlot(0), placement.epoch(), CnFailure::Refused, ms(0));
        let heavier = CnSetting { weight: 2, ..setting("cn1", A) };
        let decision = placement.reload(&[heavier], nobody);
        assert_eq!((decision.changed, decision.probe_now), (true, vec![]));
        assert_eq!(states(&placement), "cn1 down");
    }

    #[test]
    fn reports_about_removed_cns_are_ignored() {
        let mut placement = placement(&[setting("cn1", A), setting("cn2", B)]);
        let _ = placement.reload(&[setting("cn1", A)], nobody);
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
                all.push(placement.probe_result(slot, epoch, &outcome, now));
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
                        placement.reload(&cns, nobody)
                    }
                    Step::Probe(slot, outcome) => placement.probe_result(CnSlot(slot), epoch, &outcome, now),
                    Step::Report(slot, failure) => placement.report(CnSlot(slot), epoch, failure, now),
                    Step::Tick => placement.tick(now),
                };
                prop_assert_eq!(decision.changed, placement.epoch() > epoch);
                prop_assert!(decision.changed || states(&placement) == view);
            }
        }
    }
}
