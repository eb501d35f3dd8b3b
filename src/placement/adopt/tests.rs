//! Tests of what answers change in the table, beside what the file and operators say.

use super::super::found::tests::answer;
use super::super::table::tests::setting;
use super::*;
use crate::config::settings::{AtDeadline, Discovery, Probe};
use crate::placement::duty::Seen;
use crate::route::label::Labels;
use proptest::prelude::*;

const A: &str = "10.0.0.1:6001";
const B: &str = "10.0.0.2:6001";
const C: &str = "10.0.0.3:6001";

/// id, address, work state, labels
type Row = (&'static str, &'static str, &'static str, &'static str);

struct House {
    placement: Placement,
    now: Duration,
    seats: fn(CnSlot) -> u32,
}

impl House {
    /// A house whose file has these CNs.
    fn new(cns: &[CnSetting]) -> Self {
        let probe =
            Probe { interval: Duration::from_secs(1), timeout: Duration::from_secs(2), fall: 2, rise: 2 };
        let discovery = Discovery {
            account: None,
            interval: Duration::from_millis(500),
            query_port: 19998,
            hakeeper: Vec::new(),
        };
        let placement = Placement::new(&probe, &discovery);
        let mut house = Self { placement, now: Duration::ZERO, seats: |_| 0 };
        house.reload(cns);
        house
    }

    fn reload(&mut self, cns: &[CnSetting]) -> Vec<String> {
        let decision = self.placement.reload(cns, self.seats, terms(true), self.now);
        decision.say
    }

    /// Half a second later a CN tells of these.
    fn told(&mut self, rows: &[Row]) -> Vec<String> {
        self.heard(&answer(rows))
    }

    fn heard(&mut self, answer: &Answer) -> Vec<String> {
        self.now += Duration::from_millis(500);
        let epoch = self.placement.epoch();
        let decision = self.placement.found(answer, self.seats, terms(true), self.now);
        assert_eq!(decision.changed, self.placement.epoch() > epoch, "{decision:?}");
        decision.say
    }

    /// Every worker has counted, and nobody sits anywhere.
    fn counted(&mut self) -> Vec<String> {
        let seen = Seen { sessions: 0, counted_in: Some(self.placement.epoch()) };
        self.placement.look(|_| seen, self.now).say
    }

    fn drain(&mut self, id: &str) {
        let _ = self.placement.drain(id, terms(false), self.now).unwrap();
    }

    fn label(&mut self, id: &str, value: &str) {
        let _ = self.placement.alter(id, |cn| cn.labels = labels(value), self.seats).unwrap();
    }

    /// Each CN with its source, its address, its work state and its labels.
    fn shown(&self) -> Vec<String> {
        let shown = self.placement.view().cns.into_iter().map(|cn| {
            let source = self.placement.source(cn.slot).map_or("", Source::name);
            format!("{} {source} {} {} {}", cn.id, cn.address, cn.work, cn.labels).trim_end().to_owned()
        });
        shown.collect()
    }
}

fn terms(then_remove: bool) -> Terms {
    Terms { deadline: Some(Duration::from_secs(9)), at_deadline: AtDeadline::Close, then_remove }
}

fn labels(value: &str) -> Labels {
    Labels([("tier".to_owned(), vec![value.to_owned()])].into())
}

fn labelled(id: &str, address: &str, value: &str) -> CnSetting {
    CnSetting { labels: labels(value), ..setting(id, address) }
}

#[test]
fn new_cns_are_added_and_follow_what_is_told_of_them() {
    let mut house = House::new(&[]);
    let said = house.told(&[("u1", A, "Working", "tier:gold;"), ("u2", B, "Draining", "")]);
    let expected =
        ["u1 added at 10.0.0.1:6001", "u2 added at 10.0.0.2:6001", "u2 drains, as its cluster says"];
    assert_eq!(said, expected);
    let cns = house.placement.view().cns;
    assert!(cns.iter().all(|cn| cn.flavour == Flavour::Matrixone && cn.weight == 1));
    assert_eq!(cns[0].query, Some(Target::Tcp("10.0.0.1:19998".parse().unwrap())));
    assert_eq!(house.told(&[("u1", A, "Working", "tier:gold;"), ("u2", B, "Draining", "")]), [""; 0]);
    let _ = house.told(&[("u1", C, "Working", "tier:lead"), ("u2", B, "Working", "")]);
    assert_eq!(
        house.shown(),
        ["u1 discovery 10.0.0.3:6001 working tier=lead", "u2 discovery 10.0.0.2:6001 working"]
    );
}

#[test]
fn a_cn_that_is_missing_twice_is_drained_and_leaves() {
    let mut house = House::new(&[]);
    let (one, both) = ([("u1", A, "Working", "")], [("u1", A, "Working", ""), ("u2", B, "Working", "")]);
    let _ = house.told(&both);
    assert_eq!(house.told(&one), [""; 0]);
    let _ = house.told(&both);
    assert_eq!(house.told(&one), [""; 0], "twice, but not in a row");
    assert_eq!(
        house.told(&one),
        ["u2 is not listed any more: it drains and is removed then, until 9.0 s from now"]
    );
    assert_eq!(house.told(&one), [""; 0]);
    assert_eq!(house.shown()[1], "u2 discovery 10.0.0.2:6001 draining");
    assert_eq!(house.told(&both), ["u2 is listed again"]);
    assert_eq!(house.shown()[1], "u2 discovery 10.0.0.2:6001 working");
    let _ = (house.told(&one), house.told(&one));
    assert_eq!(house.counted(), ["u2 is drained after 0.0 s", "u2 removed"]);
    assert_eq!(house.told(&both), ["u2 added at 10.0.0.2:6001"]);
}

#[test]
fn what_is_drained_and_then_gone_leaves_and_can_come_back() {
    let mut house = House::new(&[]);
    let one = [("u1", A, "Working", "")];
    let _ = house.told(&[one[0], ("u2", B, "Draining", "")]);
    assert_eq!(house.counted(), ["u2 is drained after 0.0 s"]);
    let _ = (house.told(&one), house.told(&one));
    assert_eq!(house.shown()[1], "u2 discovery 10.0.0.2:6001 draining");
    let _ = house.told(&[one[0], ("u2", B, "Drained", "")]);
    assert_eq!(house.counted(), ["u2 is drained after 0.5 s"], "it is there again, and stays");
    assert_eq!(
        house.told(&[one[0], ("u2", B, "Working", "")]),
        ["u2 takes sessions again, as its cluster says"]
    );
}

#[test]
fn no_answer_that_does_not_tell_who_is_there_removes_anybody() {
    let mut house = House::new(&[]);
    let _ = house.told(&[("u1", A, "Working", ""), ("u2", B, "Working", "")]);
    for _ in 0..3 {
        let _ = house.told(&[]);
        let _ = house.told(&[("u1", A, "Working", ""), ("u2", "nonsense", "Working", "")]);
        let _ = house.told(&[("u1", A, "Working", ""), ("", B, "Working", "")]);
        let mut short = answer(&[("u1", A, "Working", "")]);
        short.cut_short();
        let _ = house.heard(&short);
    }
    assert_eq!(house.shown(), ["u1 discovery 10.0.0.1:6001 working", "u2 discovery 10.0.0.2:6001 working"]);
}

#[test]
fn what_is_wrong_is_said_once() {
    let mut house = House::new(&[]);
    let rows = [("u1", A, "Working", ""), ("u2", "nonsense", "Working", "")];
    let sentence = "discovery: the row of u2 is passed over: bad address `nonsense`: no port";
    assert_eq!(house.told(&rows), ["u1 added at 10.0.0.1:6001", sentence]);
    assert_eq!(house.told(&rows), [""; 0]);
    let _ = house.told(&rows[..1]);
    assert_eq!(house.told(&rows), [sentence]);
    let ids: Vec<String> = (0..40).map(|id| format!("x{id:02}")).collect();
    let bad: Vec<_> = ids.iter().map(|id| (id.as_str(), "nonsense", "Working", "")).collect();
    let said = house.heard(&answer(&bad));
    assert_eq!((said.len(), &*said[16]), (17, "discovery: and 24 more are passed over"));
}

#[test]
fn a_cn_of_the_file_is_the_one_at_its_address_and_keeps_what_the_file_says() {
    let mut house = House::new(&[labelled("cn1", A, "file"), setting("cn2", B)]);
    let rows = [("u1", A, "Working", "tier:told;"), ("u2", B, "Draining", "tier:told;")];
    let _ = house.told(&rows);
    assert_eq!(
        house.shown(),
        ["cn1 file 10.0.0.1:6001 working tier=file", "cn2 file 10.0.0.2:6001 draining tier=told"]
    );
    let _ = house.told(&[("u1", A, "Working", "tier:new;"), ("u2", B, "Working", "tier:new;")]);
    assert_eq!(
        house.shown(),
        ["cn1 file 10.0.0.1:6001 working tier=file", "cn2 file 10.0.0.2:6001 working tier=new"]
    );
    let _ = house.reload(&[labelled("cn1", A, "file"), setting("cn2", B)]);
    assert_eq!(house.shown()[1], "cn2 file 10.0.0.2:6001 working tier=new", "the file has no labels for it");
    let _ = (house.told(&[rows[0]]), house.told(&[rows[0]]), house.told(&[rows[0]]));
    assert_eq!(house.shown().len(), 2, "what is listed is never removed");
    let _ = house.reload(&[labelled("cn1", A, "file"), setting("cn2", C)]);
    assert_eq!(house.shown()[1], "cn2 file 10.0.0.3:6001 working", "another CN, of which nothing is told");
}

#[test]
fn a_name_of_the_file_is_matched_by_what_it_resolves_to() {
    let mut house = House::new(&[setting("cn1", "db:6001")]);
    let rows = [("u1", A, "Working", "")];
    let _ = house.told(&rows);
    assert_eq!(house.shown().len(), 2, "nobody knows yet");
    let _ = house.placement.resolved("cn1", &[A.parse().unwrap()]);
    let _ = (house.told(&rows), house.told(&rows), house.counted());
    assert_eq!(house.shown(), ["cn1 file db:6001 working"]);
    let _ = (house.told(&rows), house.told(&rows));
    assert_eq!(house.shown(), ["cn1 file db:6001 working"]);
}

#[test]
fn a_cn_of_the_file_may_be_named_by_its_id() {
    let mut house = House::new(&[setting("u1", "192.0.2.1:6001")]);
    let _ = house.told(&[("u1", A, "Draining", ""), ("u2", "192.0.2.1:6001", "Working", "")]);
    assert_eq!(house.shown(), ["u1 file 192.0.2.1:6001 draining"], "the file knows better where it is");
}

#[test]
fn an_operators_word_holds_until_something_else_is_told() {
    let mut house = House::new(&[]);
    let rows = [("u1", A, "Draining", "tier:a"), ("u2", B, "Working", "")];
    let _ = house.told(&rows);
    house.label("u1", "mine");
    let _ = house.placement.resume("u1").unwrap();
    house.drain("u2");
    let _ = house.told(&rows);
    let held = ["u1 discovery 10.0.0.1:6001 working tier=mine", "u2 discovery 10.0.0.2:6001 draining"];
    assert_eq!(house.shown(), held);
    let _ = house.told(&[("u1", A, "Drained", "tier:a"), ("u2", B, "Draining", "")]);
    assert_eq!(house.shown(), held, "drained is what draining has come to");
    let _ = house.told(&[("u1", A, "Working", "tier:b"), ("u2", B, "Working", "")]);
    assert_eq!(
        house.shown(),
        ["u1 discovery 10.0.0.1:6001 working tier=b", "u2 discovery 10.0.0.2:6001 draining"],
        "an operator's drain is ended by an operator"
    );
    let _ = house.placement.resume("u2").unwrap();
    assert_eq!(house.told(&[("u1", A, "Draining", "tier:b"), ("u2", B, "Working", "")]).len(), 1);
}

#[test]
fn what_an_operator_takes_out_stays_out_until_something_else_is_told_or_the_file_is_read() {
    let mut house = House::new(&[setting("cn1", A)]);
    let rows = [("u1", A, "Working", ""), ("u2", B, "Working", "")];
    let _ = house.told(&rows);
    for id in ["cn1", "u2"] {
        let _ = house.placement.drain(id, terms(true), house.now).unwrap();
        let _ = (house.told(&rows), house.counted(), house.told(&rows), house.told(&rows));
    }
    assert_eq!(house.shown(), [""; 0]);
    assert_eq!(house.told(&[rows[0], ("u2", B, "Working", "tier:b")]), ["u2 added at 10.0.0.2:6001"]);
    let _ = house.reload(&[]);
    let _ = house.told(&rows);
    assert_eq!(house.shown(), ["u2 discovery 10.0.0.2:6001 working", "u1 discovery 10.0.0.1:6001 working"]);
}

#[test]
fn what_is_taken_out_is_as_its_cluster_says_when_it_comes_back() {
    let mut house = House::new(&[]);
    let _ = house.told(&[("u1", A, "Draining", "")]);
    let _ = house.placement.drain("u1", terms(true), house.now).unwrap();
    let _ = house.told(&[("u1", A, "Draining", "tier:a")]);
    assert_eq!(house.counted().last().unwrap(), "u1 removed", "news do not call it off");
    let _ = house.told(&[("u1", A, "Draining", "tier:a")]);
    assert_eq!(house.shown(), [""; 0]);
    let _ = house.told(&[("u1", A, "Draining", "tier:b")]);
    assert_eq!(house.shown(), ["u1 discovery 10.0.0.1:6001 draining tier=b"]);
}

#[test]
fn a_reload_keeps_what_was_found_and_ends_what_operators_changed_of_it() {
    let mut house = House::new(&[setting("cn1", A)]);
    let rows = [("u1", A, "Working", ""), ("u2", B, "Draining", "tier:a")];
    let _ = house.told(&rows);
    house.label("u2", "mine");
    assert_eq!(house.reload(&[setting("cn1", A)]), ["u2 labels changed from tier=mine to tier=a"]);
    assert_eq!(
        house.shown(),
        ["cn1 file 10.0.0.1:6001 working", "u2 discovery 10.0.0.2:6001 draining tier=a"]
    );
    // The file takes it over under its own id, and gives it back.
    let _ = house.reload(&[setting("cn1", A), labelled("u2", B, "file")]);
    let _ = house.told(&rows);
    assert_eq!(house.shown()[1], "u2 file 10.0.0.2:6001 draining tier=file");
    house.seats = |_| 1;
    let _ = house.reload(&[setting("cn1", A)]);
    let _ = house.told(&rows);
    assert_eq!(house.shown()[1], "u2 discovery 10.0.0.2:6001 draining tier=a");
    let _ = house.told(&[rows[0], ("u2", B, "Working", "tier:a")]);
    assert_eq!(house.shown()[1], "u2 discovery 10.0.0.2:6001 working tier=a");
}

#[test]
fn what_the_file_gives_up_is_discoverys_from_then_on() {
    let mut house = House::new(&[setting("cn1", A), setting("cn2", B)]);
    let rows = [("u1", A, "Working", ""), ("u2", B, "Working", "")];
    let _ = house.told(&rows);
    house.seats = |slot| u32::from(slot == CnSlot(1));
    let _ = house.reload(&[setting("cn1", A)]);
    let _ = house.told(&rows);
    assert_eq!(
        house.shown(),
        [
            "cn1 file 10.0.0.1:6001 working",
            "cn2 file 10.0.0.2:6001 draining",
            "u2 discovery 10.0.0.2:6001 working"
        ]
    );
}

#[test]
fn when_nobody_is_asked_any_more_the_table_is_the_files() {
    let mut house = House::new(&[setting("cn1", A)]);
    let _ =
        house.told(&[("u1", A, "Draining", "tier:a"), ("u2", B, "Working", ""), ("u3", C, "Draining", "")]);
    house.seats = |slot| u32::from(slot == CnSlot(2));
    house.placement.forget_found();
    let _ = house.reload(&[setting("cn1", A)]);
    assert_eq!(
        house.shown(),
        ["cn1 file 10.0.0.1:6001 working", "u3 discovery 10.0.0.3:6001 draining"],
        "what has sessions drains first"
    );
    assert_eq!(house.counted().last().unwrap(), "u3 removed");
}

#[test]
fn two_cns_at_one_address_are_not_both_added_whatever_their_order() {
    let mut house = House::new(&[]);
    let _ = house.told(&[("u2", A, "Working", "")]);
    let both = [("u1", A, "Working", ""), ("u2", A, "Working", "")];
    let said = house.told(&both);
    assert_eq!(said, ["discovery: u1 is passed over: 10.0.0.1:6001 is another CN's, too"]);
    let _ = (house.told(&both), house.told(&both));
    assert_eq!(house.shown(), ["u2 discovery 10.0.0.1:6001 working"], "the one that is known already counts");
    // A CN that was restarted under another id.
    let _ = (house.told(&both[..1]), house.told(&both[..1]), house.counted());
    assert_eq!(house.shown(), ["u1 discovery 10.0.0.1:6001 working"]);
    let mut house = House::new(&[setting("cn1", A)]);
    assert_eq!(house.told(&both), ["discovery: u2 is passed over: u1 is cn1 already"]);
    let _ = house.told(&[("u2", A, "Draining", "")]);
    assert_eq!(house.shown(), ["cn1 file 10.0.0.1:6001 draining"]);
}

#[test]
fn a_full_table_takes_no_more_and_says_so_once() {
    let many: Vec<_> =
        (0..CNS_MAX - 1).map(|n| setting(&format!("cn{n}"), &format!("10.1.0.1:{}", n + 1))).collect();
    let mut house = House::new(&many);
    let rows = [("u1", A, "Working", ""), ("u2", B, "Working", ""), ("u3", C, "Working", "")];
    let said = house.told(&rows);
    assert_eq!(said, ["u1 added at 10.0.0.1:6001", "discovery: 2 CNs are left out: there is room for 1024"]);
    assert_eq!(house.told(&rows), [""; 0]);
    let _ = house.reload(&many[1..]);
    assert_eq!(house.told(&rows).first().map(String::as_str), Some("u2 added at 10.0.0.2:6001"));
}

#[test]
fn an_operators_cn_counts_as_listed() {
    let mut house = House::new(&[]);
    let _ = house.placement.add(setting("mine", A), house.seats).unwrap();
    let _ = house.told(&[("u1", A, "Draining", "")]);
    assert_eq!(house.shown(), ["mine admin 10.0.0.1:6001 draining"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Which of four CNs are told of, at which address, in which work state.
    Told(Vec<(u8, u8, bool)>),
    Reload(Vec<(u8, u8)>),
    Drain(u8),
    Resume(u8),
    Remove(u8),
    Counted,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0_u8..4, 0_u8..5, any::<bool>()), 0..5).prop_map(Step::Told),
        1 => prop::collection::vec((0_u8..4, 0_u8..5), 0..3).prop_map(Step::Reload),
        1 => (0_u8..4).prop_map(Step::Drain),
        1 => (0_u8..4).prop_map(Step::Resume),
        1 => (0_u8..4).prop_map(Step::Remove),
        2 => Just(Step::Counted),
    ]
}

proptest! {
    /// Whatever happens: when the same has been told three times and all have counted, those of the file and those
    /// told of are in the table, and nobody else but whom an operator has kept from leaving. Without operators each
    /// drains just if its cluster says so.
    #[test]
    fn the_table_comes_to_what_is_told(steps in prop::collection::vec(step(), 1..30)) {
        let mut house = House::new(&[]);
        let (mut file, mut last) = (Vec::new(), Vec::new());
        let (mut removed, mut resumed, mut operated) = (false, false, false);
        for step in steps {
            operated |= matches!(step, Step::Drain(_) | Step::Resume(_) | Step::Remove(_));
            match step {
                Step::Told(rows) => {
                    last = distinct(rows);
                    let _ = house.heard(&told(&last));
                }
                Step::Reload(cns) => {
                    let cns: BTreeMap<u8, u8> = cns.into_iter().collect();
                    file = cns.iter().map(|(id, at)| setting(&format!("u{id}"), &address(*at))).collect();
                    let _ = house.reload(&file);
                }
                Step::Drain(id) => drop(house.placement.drain(&format!("u{id}"), terms(false), house.now)),
                Step::Resume(id) => {
                    resumed = true;
                    drop(house.placement.resume(&format!("u{id}")));
                }
                Step::Remove(id) => {
                    removed = true;
                    drop(house.placement.drain(&format!("u{id}"), terms(true), house.now));
                }
                Step::Counted => drop(house.counted()),
            }
            let view = house.placement.view();
            prop_assert!(view.cns.iter().all(|cn| house.placement.source(cn.slot).is_some()));
        }
        for _ in 0..3 {
            let _ = (house.heard(&told(&last)), house.counted());
        }
        if last.is_empty() || removed {
            return Ok(());
        }
        let view = house.placement.view();
        let in_file = |id: &str| file.iter().any(|cn| cn.id == id);
        let row_of = |id: &str| last.iter().find(|(told, _, _)| told == id);
        for cn in &view.cns {
            prop_assert!(resumed || in_file(&cn.id) || row_of(&cn.id).is_some(), "{:?}", house.shown());
            if let (Some((_, _, drains)), false, false) = (row_of(&cn.id), operated, in_file(&cn.id)) {
                prop_assert_eq!(cn.work != crate::route::WorkState::Working, *drains);
            }
        }
        for (id, at, _) in &last {
            let is_here = view.cns.iter().any(|cn| *cn.address == **at || *cn.id == **id);
            prop_assert!(is_here, "{} at {}: {:?}", id, at, house.shown());
        }
    }
}

fn address(at: u8) -> String {
    format!("10.0.0.{at}:6001")
}

fn distinct(rows: Vec<(u8, u8, bool)>) -> Vec<(String, String, bool)> {
    let rows: BTreeMap<u8, (u8, bool)> =
        rows.into_iter().map(|(id, at, drains)| (id, (at, drains))).collect();
    rows.into_iter().map(|(id, (at, drains))| (format!("u{id}"), address(at), drains)).collect()
}

fn told(rows: &[(String, String, bool)]) -> Answer {
    let work = |drains: bool| if drains { "Draining" } else { "Working" };
    let rows: Vec<_> =
        rows.iter().map(|(id, at, drains)| (id.as_str(), at.as_str(), work(*drains), "")).collect();
    answer(&rows)
}
