//! What must hold once all has been calm for long enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane::ident::CnSlot;
use corelane::route::moves::moves;
use corelane::route::{Cn, WorkState};

use super::house::{House, TOLERANCE};
use super::place::Session;

/// Sessions that could move if they had to.
fn is_free(session: &Session) -> bool {
    session.known && !session.stubborn
}

fn load(house: &House, cn: &Cn) -> f64 {
    house.sessions.iter().filter(|session| session.cn.slot == cn.slot).count() as f64
}

/// No session is where it need not be, and no CN has more than its share where somebody could take it.
pub fn check_settled(house: &House) {
    let mut seen = BTreeSet::new();
    for session in &house.sessions {
        session.talk.check();
        if is_free(session) && seen.insert((session.group.clone(), session.cn.slot)) {
            check_one(house, session);
        }
        let mut been = BTreeSet::new();
        assert!(
            session.been.iter().all(|slot| been.insert(*slot)),
            "it moved to and fro: {:?}",
            session.been
        );
        assert!(!been.contains(&session.cn.slot), "it came back: {:?}", session.been);
    }
}

fn check_one(house: &House, session: &Session) {
    let Some(opened) = moves(&house.view, &session.group, session.cn.slot) else { return };
    let here = house.view.cn(session.cn.slot).expect("it has moves");
    let left =
        (&here.id, here.work, &session.stays, session.talk.dialog.hold(), &session.talk.twin.memory.pins);
    assert!(!opened.must_leave || opened.to.is_empty(), "one was left: {left:?}");
    if opened.to.is_empty() || !here.takes_moves() {
        return;
    }
    assert_eq!(here.work, WorkState::Working);
    let (weight, load_here) = (f64::from(here.weight), load(house, here));
    let level = level_of(house, session, &opened.to);
    let least = opened.to.iter().map(|cn| (load(house, cn) + 1.0) / f64::from(cn.weight));
    let none_would_gain = least.fold(f64::INFINITY, f64::min) > (load_here - 1.0) / weight;
    let is_fair = load_here <= level * weight * (1.0 + TOLERANCE) + 1e-6;
    let is_last = load_here - 1.0 < level * weight;
    assert!(is_fair || none_would_gain || is_last, "{} is too full: {load_here}, level {level}", here.id);
}

fn slots(from: CnSlot, to: &[&Arc<Cn>]) -> BTreeSet<CnSlot> {
    to.iter().map(|cn| cn.slot).chain([from]).collect()
}

/// The load by weight to which all that is open in the same way would fill its CNs, by bisection.
fn level_of(house: &House, session: &Session, others: &[&Arc<Cn>]) -> f64 {
    let pool = slots(session.cn.slot, others);
    let alike = |other: &&Session| {
        let opened = moves(&house.view, &other.group, other.cn.slot);
        opened.is_some_and(|opened| {
            is_free(other) && !opened.must_leave && slots(other.cn.slot, &opened.to) == pool
        })
    };
    let give: Vec<CnSlot> = house.sessions.iter().filter(alike).map(|other| other.cn.slot).collect();
    let cns: Vec<(f64, f64)> = pool
        .iter()
        .filter_map(|slot| house.view.cn(*slot))
        .map(|cn| {
            let given = give.iter().filter(|slot| **slot == cn.slot).count() as f64;
            (load(house, cn) - given, f64::from(cn.weight))
        })
        .collect();
    let room = |level: f64| cns.iter().map(|(fixed, weight)| (level * weight - fixed).max(0.0)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if room(middle) < give.len() as f64 { low = middle } else { high = middle }
    }
    high
}
