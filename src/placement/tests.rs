//! Tests of what is decided about the table, health and drains together.

use super::table::tests::setting;
use super::*;
use crate::config::settings::AtDeadline;
use proptest::prelude::*;

const A: &str = "10.0.0.1:3306";
const B: &str = "10.0.0.2:3306";
const PROBE: Probe =
    Probe { interval: Duration::from_secs(1), timeout: Duration::from_secs(2), fall: 2, rise: 2 };

const DISCOVERY: Discovery = Discovery {
    account: None,
    interval: Duration::from_millis(500),
    query_port: 19998,
    hakeeper: Vec::new(),
};

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
    let mut placement = Placement::new(&PROBE, &DISCOVERY);
    let _ = reload(&mut placement, cns, nobody);
    placement
}

fn states(placement: &Placement) -> String {
    let view = placement.view();
    view.cns.iter().map(|cn| format!("{} {}", cn.id, cn.state)).collect::<Vec<_>>().join(", ")
}

#[test]
fn new_cns_are_probed_as_soon_as_their_address_is_known() {
    let mut placement = Placement::new(&PROBE, &DISCOVERY);
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
    assert_eq!((decision.changed, decision.say), (true, vec!["cn2 drains, until 5.0 s from now".to_owned()]));
    let _ = reload(&mut placement, &cns, nobody);
    assert_eq!(works(&placement), "cn1 working, cn2 draining");
    assert!(placement.is_draining());
    assert_eq!(placement.due(), Some(ms(5000)));
    let seen = |sessions, epoch| move |_| Seen { sessions, counted_in: Some(epoch) };
    let again = placement.drain("cn2", terms(Some(5000), false), ms(2000)).unwrap();
    assert_eq!((again.changed, &*again.say[0]), (false, "cn2 goes on draining, until 3.0 s from now"));
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
    assert_eq!((works(&placement), placement.due()), ("cn1 working, cn2 draining".into(), Some(ms(9000))));
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
    assert_eq!(reload(&mut placement, &cns, nobody).say, ["cn2 removed", "cn1 weight changed from 3 to 1"]);
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
    let mut placement = placement(&[setting("cn1", A), setting("cn2", B), setting("cn3", "10.0.0.3:3306")]);
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
        let (mut placement, mut now) = (Placement::new(&PROBE, &DISCOVERY), Duration::ZERO);
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
