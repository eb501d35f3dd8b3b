//! Request and view in, CN out: which compute node should serve a session.
//!
//! The rules speak in this order:
//!
//! 1. Who asks, and for which labels: [`identity`], from the login name and the connection attributes.
//! 2. Which CNs may serve it: [`candidates`], after MatrixOne. A common tenant gets the labelled CNs that match,
//!    else those without labels. The super tenant `sys` gets the CNs labelled for it, else those with labels but
//!    no account, else those without labels, else, for the users `root` and `dump`, any.
//! 3. Which one of them: [`pick`], the one with the fewest seats for its weight.
//!
//! Only working CNs take part, and none that this login has tried already. So a tenant whose own CNs are all
//! down moves on to those without labels, as with MatrixOne. When no working CN is left the others are turned
//! to, cooling ones before those that are down, by the same order of classes: a proxy whose probes all fail
//! (because its own network is at fault, say) must not refuse what might work. A CN that an operator drains
//! takes no part at all.
//!
//! A [`certificate`] that a client has shown may say more surely than the client what it may ask for.
//!
//! Where a session that is there already may move to is a question of its own: [`moves`].
//!
//! Nothing here waits, dials or remembers. Limits of attempts are the caller's.

pub mod certificate;
pub mod group;
pub mod identity;
pub mod label;
pub mod moves;
pub mod pick;
pub mod view;

use std::sync::Arc;

use crate::ident::CnSlot;
pub use group::Group;
pub use identity::{Identity, IdentityError};
pub use view::{Cn, CnState, Flavour, Target, TlsMode, View, WorkState};

/// Why no CN can serve a session. To be told to the client with MatrixOne's code 20101, SQLSTATE HY000.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No CN of the view matches, or none whose address is known.
    #[error("no available CN server for labels {asked}")]
    NoCn { asked: String },
    /// Every CN that matches has been tried by this login.
    #[error("no available CN server for labels {asked}: all that match have failed, {tried} tried")]
    AllTried { asked: String, tried: usize },
}

/// The CN that should serve a session.
///
/// `seats` gives the seats taken on a CN; take one on the CN returned before waiting for anything, or the next
/// login will not see this one. `tried` are the CNs that failed this login. `turn` spreads equals, see
/// [`pick::pick`].
pub fn route<'v>(
    view: &'v View,
    group: &Group,
    seats: impl Fn(CnSlot) -> u32,
    tried: &[CnSlot],
    turn: u64,
) -> Result<&'v Arc<Cn>, RouteError> {
    let candidates = candidates(view, group, tried)?;
    Ok(pick::pick(&candidates, seats, turn))
}

/// The CNs that may serve a session, equally entitled; at least one.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'v, 'q> {
    view: &'v View,
    group: &'q Group,
    tried: &'q [CnSlot],
    rank: Rank,
    first: &'v Arc<Cn>,
}

impl<'v, 'q> Candidates<'v, 'q> {
    pub fn iter(self) -> impl Iterator<Item = &'v Arc<Cn>> + use<'v, 'q> {
        self.view.cns.iter().filter(move |cn| rank(cn, self.group, self.tried) == Some(self.rank))
    }

    /// The first of them, in the order of the view.
    pub fn first(self) -> &'v Arc<Cn> {
        self.first
    }
}

/// The best entitled CNs that have not been tried yet.
pub fn candidates<'v, 'q>(
    view: &'v View,
    group: &'q Group,
    tried: &'q [CnSlot],
) -> Result<Candidates<'v, 'q>, RouteError> {
    let ranked = view.cns.iter().filter_map(|cn| Some((rank(cn, group, tried)?, cn)));
    let Some((rank, first)) = ranked.min_by_key(|(rank, _)| *rank) else {
        let asked = group.asked().to_string();
        return Err(match tried.len() {
            0 => RouteError::NoCn { asked },
            tried => RouteError::AllTried { asked, tried },
        });
    };
    Ok(Candidates { view, group, tried, rank, first })
}

/// How well a CN suits a session; the least rank is the best. The state weighs more than the class.
type Rank = (CnState, Class);

/// How a CN comes to serve a tenant, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Its labels are those asked for.
    Labelled,
    /// `sys` only: it has labels, but belongs to no account.
    NoAccount,
    /// It has no labels.
    Unlabelled,
    /// `root` and `dump` of `sys` only: whatever its labels.
    Any,
}

fn rank(cn: &Cn, group: &Group, tried: &[CnSlot]) -> Option<Rank> {
    if cn.target.is_none() || cn.work != WorkState::Working || tried.contains(&cn.slot) {
        return None;
    }
    Some((cn.state, class(cn, group)?))
}

/// How a CN comes to serve a group, whatever its state; none if it never does.
fn class(cn: &Cn, group: &Group) -> Option<Class> {
    if group.is_sys() { sys_class(cn, group) } else { common_class(cn, group) }
}

fn common_class(cn: &Cn, group: &Group) -> Option<Class> {
    if cn.labels.is_empty() {
        Some(Class::Unlabelled)
    } else {
        cn.labels.accept(group.asked()).then_some(Class::Labelled)
    }
}

fn sys_class(cn: &Cn, group: &Group) -> Option<Class> {
    let others = group.asked().without_account();
    if let Some(class) = common_class(cn, group) {
        Some(class)
    } else if !cn.labels.has_key(label::ACCOUNT) && (others.is_empty() || cn.labels.accept(others)) {
        Some(Class::NoAccount)
    } else {
        group.anywhere.then_some(Class::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::view::tests::{cn, view};
    use super::*;

    fn who(login_name: &str) -> Group {
        Group::of(&Identity::read(login_name.as_bytes(), [("", ""); 0], &View::default()).unwrap())
    }

    /// The ids of the candidates; after `!` the text of the error.
    fn ids(view: &View, login_name: &str, tried: &[u16]) -> String {
        let tried: Vec<_> = tried.iter().copied().map(CnSlot).collect();
        match candidates(view, &who(login_name), &tried) {
            Ok(found) => found.iter().map(|cn| &*cn.id).collect::<Vec<_>>().join(" "),
            Err(error) => format!("! {error}"),
        }
    }

    fn house() -> View {
        view([
            cn(0, "own1", &[("account", "acc1")]),
            cn(1, "own2", &[("account", "acc1")]),
            cn(2, "gold", &[("account", "acc*"), ("tier", "gold")]),
            cn(3, "free", &[]),
        ])
    }

    fn with(mut view: View, id: &str, change: impl Fn(&mut Cn)) -> View {
        for cn in view.cns.iter_mut().filter(|cn| &*cn.id == id) {
            change(Arc::make_mut(cn));
        }
        view
    }

    fn down(cn: &mut Cn) {
        cn.state = CnState::Down;
    }

    #[test]
    fn common_tenants_get_labelled_cns_before_unlabelled_ones() {
        assert_eq!(ids(&house(), "acc1:dora", &[]), "own1 own2");
        assert_eq!(ids(&house(), "acc1:dora?tier=gold", &[]), "gold");
        assert_eq!(ids(&house(), "acc2:dora", &[]), "free");
        assert_eq!(ids(&house(), "acc1:dora?tier=lead", &[]), "free");
    }

    #[test]
    fn no_match_says_which_labels_were_asked_for() {
        let view = view([cn(0, "own1", &[("account", "acc1")])]);
        assert_eq!(
            ids(&view, "acc2:root?tier=gold", &[]),
            "! no available CN server for labels account=acc2,tier=gold"
        );
        assert_eq!(
            ids(&view, "acc1:root", &[0]),
            "! no available CN server for labels account=acc1: all that match have failed, 1 tried"
        );
        assert_eq!(ids(&View::default(), "dora", &[]), "! no available CN server for labels account=sys");
    }

    #[test]
    fn sys_takes_four_steps() {
        let all = [
            cn(0, "sys", &[("account", "s*s")]),
            cn(1, "tier", &[("tier", "gold")]),
            cn(2, "zone", &[("zone", "a")]),
            cn(3, "free", &[]),
            cn(4, "acc1", &[("account", "acc1")]),
        ];
        let from = |first: usize| view(all[first..].to_vec());
        assert_eq!(ids(&from(0), "SYS:dora", &[]), "sys");
        assert_eq!(ids(&from(0), "dora", &[]), "sys");
        assert_eq!(ids(&from(0), "dora?tier=gold", &[]), "tier");
        assert_eq!(ids(&from(1), "dora", &[]), "tier zone");
        assert_eq!(ids(&from(1), "dora?zone=a", &[]), "zone");
        assert_eq!(ids(&from(1), "dora?zone=b", &[]), "free");
        assert_eq!(ids(&from(3), "dora", &[]), "free");
        assert!(ids(&from(4), "dora", &[]).starts_with('!'));
        assert_eq!(ids(&from(4), "root", &[]), "acc1");
        assert_eq!(ids(&from(4), "dump", &[]), "acc1");
        assert!(ids(&from(4), "acc2:root", &[]).starts_with('!'));
    }

    #[test]
    fn tried_cns_are_left_out_and_the_next_class_takes_over() {
        assert_eq!(ids(&house(), "acc1:dora", &[0]), "own2");
        assert_eq!(ids(&house(), "acc1:dora", &[0, 1]), "free");
    }

    #[test]
    fn only_working_cns_take_part_while_there_are_any() {
        let one_down = with(house(), "own1", down);
        assert_eq!(ids(&one_down, "acc1:dora", &[]), "own2");
        let own_down = with(one_down, "own2", down);
        assert_eq!(ids(&own_down, "acc1:dora", &[]), "free");
        let all_down = with(own_down, "free", down);
        assert_eq!(
            ids(&all_down, "acc1:dora", &[]),
            "own1 own2",
            "the last resort keeps the order of classes"
        );
        let one_cools = with(all_down, "free", |cn| cn.state = CnState::Cooling);
        assert_eq!(ids(&one_cools, "acc1:dora", &[]), "free");
        assert_eq!(ids(&one_cools, "acc1:dora", &[3]), "own1 own2");
    }

    #[test]
    fn a_cn_that_drains_is_not_even_the_last_resort() {
        let one = with(house(), "own1", |cn| cn.work = WorkState::Draining);
        assert_eq!(ids(&one, "acc1:dora", &[]), "own2");
        let mut none = one;
        for id in ["own2", "free"] {
            none = with(none, id, |cn| cn.work = WorkState::Drained);
        }
        assert!(ids(&none, "acc1:dora", &[]).starts_with('!'));
    }

    #[test]
    fn a_cn_without_a_known_address_takes_no_part() {
        let view = with(house(), "own1", |cn| cn.target = None);
        assert_eq!(ids(&view, "acc1:dora", &[]), "own2");
    }

    #[test]
    fn route_gives_the_emptiest_candidate() {
        let house = house();
        let seats = |slot: CnSlot| if slot.0 == 0 { 5 } else { 4 };
        assert_eq!(&*route(&house, &who("acc1:dora"), seats, &[], 0).unwrap().id, "own2");
    }
}
