//! Where a session that is on a CN already may move to.
//!
//! It may move to the best entitled CNs among those that share the data of its own, by the same classes as a
//! login ([`super::candidates`]). Only CNs that work, are not being drained and have an address take part; there
//! is no last resort, as a session that stays is better off than one that is moved to a doubtful CN.
//!
//! A session must leave a CN that is being drained, and one to which it would not be sent if it logged in now: a
//! CN for which its group has only a lower claim, or none. A CN that merely fails its probes keeps its sessions.

use std::sync::Arc;

use super::{Class, Cn, Group, View, WorkState, class};
use crate::ident::CnSlot;

/// What routing has to say about the sessions of a group on a CN.
#[derive(Clone, Debug)]
pub struct Moves<'v> {
    /// They should not stay where they are, if there is anywhere to go.
    pub must_leave: bool,
    /// Where they may go, equally entitled, in the order of the view; never where they are.
    pub to: Vec<&'v Arc<Cn>>,
}

/// Why a session may not move to a CN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    #[error("it is on {0} already")]
    Here(Arc<str>),
    #[error("{from} and {to} do not share their data ([[cn]] data)")]
    OtherData { from: Arc<str>, to: Arc<str> },
    #[error("{to} is {why}")]
    Unfit { to: Arc<str>, why: String },
    #[error("{to} does not serve {asked}")]
    NotEntitled { to: Arc<str>, asked: String },
    #[error("its CN has left the table, or the one to go to has")]
    Unknown,
}

/// Where the sessions of `group` on the CN at `from` may move to; none if no such CN is in the view.
pub fn moves<'v>(view: &'v View, group: &Group, from: CnSlot) -> Option<Moves<'v>> {
    let from = view.cn(from)?;
    let here = class(from, group);
    let reachable = || view.cns.iter().filter(|cn| cn.takes_moves() && cn.shares_data(from));
    let best = reachable().filter_map(|cn| class(cn, group)).min();
    let worse = |best: Class| here.is_none_or(|here| here > best);
    let drains = from.work != WorkState::Working;
    let must_leave = drains || best.is_some_and(worse);
    // Where a session has a better claim than anywhere it could go, as on a labelled CN that is down, it stays.
    let stays = !must_leave && best.is_none_or(|best| here.is_some_and(|here| here < best));
    let entitled = |cn: &&Arc<Cn>| !stays && cn.slot != from.slot && class(cn, group) == best;
    let to = if best.is_some() { reachable().filter(entitled).collect() } else { Vec::new() };
    Some(Moves { must_leave, to })
}

/// Where a session goes whose CN is lost: the best entitled CNs that share the data of the lost one, whatever claim it
/// had there, but for those that it has tried.
pub fn refuges<'v>(view: &'v View, group: &Group, lost: &Cn, tried: &[CnSlot]) -> Vec<&'v Arc<Cn>> {
    let fit = |cn: &&Arc<Cn>| cn.takes_moves() && cn.shares_data(lost) && !tried.contains(&cn.slot);
    let best = view.cns.iter().filter(fit).filter_map(|cn| class(cn, group)).min();
    view.cns.iter().filter(fit).filter(|cn| best.is_some() && class(cn, group) == best).collect()
}

/// Whether an operator may have a session of `group` moved from one CN to another. Any CN that serves the group
/// at all will do, be there better ones or not.
pub fn may_move(view: &View, group: &Group, from: CnSlot, to: CnSlot) -> Result<(), Barred> {
    let (Some(from), Some(to)) = (view.cn(from), view.cn(to)) else { return Err(Barred::Unknown) };
    if from.slot == to.slot {
        return Err(Barred::Here(to.id.clone()));
    }
    if !to.takes_moves() {
        let why = match (to.work, &to.target) {
            (_, None) => "not to be found: its host name has no address".to_owned(),
            (WorkState::Working, _) => to.state.to_string(),
            (work, _) => work.to_string(),
        };
        return Err(Barred::Unfit { to: to.id.clone(), why });
    }
    if !from.shares_data(to) {
        return Err(Barred::OtherData { from: from.id.clone(), to: to.id.clone() });
    }
    if class(to, group).is_none() {
        return Err(Barred::NotEntitled { to: to.id.clone(), asked: group.asked().to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::view::tests::{cn, view};
    use crate::route::{CnState, Flavour, Identity, Target};

    fn who(login_name: &str) -> Group {
        Group::of(&Identity::read(login_name.as_bytes(), [("", ""); 0], &View::default()).unwrap())
    }

    /// Two CNs of acc1 and two free ones, all of one data set, and one of another.
    fn house() -> View {
        let own = [("account", "acc1")];
        let mut cns = [
            cn(0, "own1", &own),
            cn(1, "own2", &own),
            cn(2, "free1", &[]),
            cn(3, "free2", &[]),
            cn(4, "far", &own),
        ];
        for (nth, cn) in cns.iter_mut().enumerate() {
            Arc::make_mut(cn).data = Some(if nth == 4 { "d2" } else { "d1" }.into());
        }
        view(cns)
    }

    fn with(mut view: View, id: &str, change: impl Fn(&mut Cn)) -> View {
        for cn in view.cns.iter_mut().filter(|cn| &*cn.id == id) {
            change(Arc::make_mut(cn));
        }
        view
    }

    /// The ids to move to; `!` stands before them when the session must leave.
    fn told(view: &View, login_name: &str, from: u16) -> String {
        let found = moves(view, &who(login_name), CnSlot(from)).unwrap();
        let ids: Vec<_> = found.to.iter().map(|cn| &*cn.id).collect();
        format!("{}{}", if found.must_leave { "!" } else { "" }, ids.join(" "))
    }

    #[test]
    fn sessions_move_among_equals_of_one_data_set() {
        assert_eq!(told(&house(), "acc1:dora", 0), "own2");
        assert_eq!(told(&house(), "acc2:dora", 2), "free2");
        assert_eq!(told(&house(), "acc1:dora", 4), "", "nobody shares its data");
        let nowhere = with(house(), "own1", |cn| cn.data = None);
        assert_eq!(told(&nowhere, "acc1:dora", 0), "", "a CN without a data set keeps its sessions");
        assert!(moves(&house(), &who("acc1:dora"), CnSlot(9)).is_none());
    }

    #[test]
    fn fallback_sessions_must_go_home_and_strangers_must_leave() {
        assert_eq!(told(&house(), "acc1:dora", 2), "!own1 own2");
        assert_eq!(told(&house(), "acc2:dora", 0), "!free1 free2");
        let own_down = with(with(house(), "own1", |cn| cn.state = CnState::Down), "own2", |cn| {
            cn.state = CnState::Cooling;
        });
        assert_eq!(told(&own_down, "acc1:dora", 2), "free2", "home is not well");
        assert_eq!(told(&own_down, "acc1:dora", 0), "", "a CN that is down keeps its sessions");
    }

    #[test]
    fn a_drained_cn_is_left_for_the_next_class_too() {
        let one = with(house(), "own1", |cn| cn.work = WorkState::Draining);
        assert_eq!(told(&one, "acc1:dora", 0), "!own2");
        assert_eq!(told(&one, "acc1:dora", 1), "");
        let both = with(one, "own2", |cn| cn.work = WorkState::Drained);
        assert_eq!(told(&both, "acc1:dora", 0), "!free1 free2");
        let alone = with(both, "own1", |cn| cn.data = Some("d9".into()));
        assert_eq!(told(&alone, "acc1:dora", 0), "!", "it must leave, and can go nowhere");
    }

    #[test]
    fn matrixone_cns_share_their_data_by_nature() {
        let mut mixed = with(house(), "own1", |cn| cn.data = None);
        for id in ["own1", "own2"] {
            mixed = with(mixed, id, |cn| cn.flavour = Flavour::Matrixone);
        }
        assert_eq!(told(&mixed, "acc1:dora", 0), "", "two entries of one CN share nothing");
        let elsewhere = Target::Tcp(([127, 0, 0, 1], 3307).into());
        let mixed = with(mixed, "own2", |cn| cn.target = Some(elsewhere.clone()));
        assert_eq!(told(&mixed, "acc1:dora", 0), "own2");
        assert_eq!(told(&mixed, "acc1:dora", 4), "");
    }

    #[test]
    fn an_operator_is_told_what_is_in_the_way() {
        let house = with(house(), "free2", |cn| cn.work = WorkState::Draining);
        let ask = |who_: &str, from: u16, to: u16| {
            may_move(&house, &who(who_), CnSlot(from), CnSlot(to)).map_err(|barred| barred.to_string())
        };
        assert_eq!(ask("acc1:dora", 0, 2), Ok(()), "a lesser CN will do");
        for (from, to, expected) in [
            (0, 0, "it is on own1 already"),
            (0, 4, "own1 and far do not share their data ([[cn]] data)"),
            (2, 3, "free2 is draining"),
            (2, 0, "own1 does not serve account=acc2"),
            (2, 9, "its CN has left the table, or the one to go to has"),
        ] {
            assert_eq!(ask("acc2:dora", from, to), Err(expected.to_owned()));
        }
    }
}
