//! Whether corelane is ready for clients: what `/readyz` says.
//!
//! Ready means that a login that comes now has somewhere to go: the workers accept, and some CN takes sessions. A CN does
//! that as long as it is not down and nobody drains it; one that cools down still takes those that no other CN takes.
//! Whether it takes a certain user's sessions is a question of labels, which is not asked here.

use crate::coordinator::desk::{Overview, Stage};
use crate::route::{Cn, CnState, WorkState};

/// The judgement and its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready(String),
    NotReady(String),
}

pub fn readiness(overview: &Overview) -> Readiness {
    match overview.stage {
        Stage::Starting => Readiness::NotReady("corelane is starting".to_owned()),
        Stage::Stopping => Readiness::NotReady("corelane is stopping".to_owned()),
        Stage::Serving => of_cns(overview),
    }
}

fn of_cns(overview: &Overview) -> Readiness {
    let all = overview.view.cns.len();
    let taking = overview.view.cns.iter().filter(|cn| takes_sessions(cn)).count();
    match (taking, all) {
        (0, 0) => Readiness::NotReady("there is no CN".to_owned()),
        (0, _) => Readiness::NotReady(format!("no CN takes sessions: {}", states(overview))),
        _ => Readiness::Ready(format!("ready: {taking} of {all} CNs take sessions")),
    }
}

pub fn takes_sessions(cn: &Cn) -> bool {
    cn.target.is_some() && cn.work == WorkState::Working && cn.state != CnState::Down
}

/// How many CNs are in which state, in words; those only that take no sessions.
fn states(overview: &Overview) -> String {
    let count = |of: &dyn Fn(&Cn) -> bool| overview.view.cns.iter().filter(|cn| of(cn)).count();
    let counts = [
        (count(&|cn| cn.work == WorkState::Draining), "draining"),
        (count(&|cn| cn.work == WorkState::Drained), "drained"),
        (count(&|cn| cn.work == WorkState::Working && cn.state == CnState::Down), "down"),
        (
            count(&|cn| cn.work == WorkState::Working && cn.state != CnState::Down && cn.target.is_none()),
            "without a known address",
        ),
    ];
    let said = counts.into_iter().filter(|(count, _)| *count > 0);
    said.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::scrape::tests::overview;
    use super::*;

    fn said(stage: Stage, change: impl Fn(&mut Cn)) -> Readiness {
        let mut overview = overview();
        overview.stage = stage;
        let view = Arc::make_mut(&mut overview.view);
        for cn in &mut view.cns {
            change(Arc::make_mut(cn));
        }
        readiness(&overview)
    }

    fn not_ready(why: &str) -> Readiness {
        Readiness::NotReady(why.to_owned())
    }

    #[test]
    fn it_is_ready_while_some_cn_takes_sessions() {
        let ready = Readiness::Ready("ready: 1 of 2 CNs take sessions".to_owned());
        assert_eq!(said(Stage::Serving, |_| ()), ready);
        assert_eq!(said(Stage::Starting, |_| ()), not_ready("corelane is starting"));
        assert_eq!(said(Stage::Stopping, |_| ()), not_ready("corelane is stopping"));
        let cooling = said(Stage::Serving, |cn| cn.state = CnState::Cooling);
        assert_eq!(cooling, Readiness::Ready("ready: 2 of 2 CNs take sessions".to_owned()));
    }

    #[test]
    fn it_says_what_its_cns_are_instead() {
        let down = said(Stage::Serving, |cn| cn.state = CnState::Down);
        assert_eq!(down, not_ready("no CN takes sessions: 2 down"));
        let drained = said(Stage::Serving, |cn| cn.work = WorkState::Drained);
        assert_eq!(drained, not_ready("no CN takes sessions: 2 drained"));
        let unresolved = said(Stage::Serving, |cn| cn.target = None);
        assert_eq!(unresolved, not_ready("no CN takes sessions: 1 down, 1 without a known address"));
        let mut none = overview();
        none.view = Arc::default();
        assert_eq!(readiness(&none), not_ready("there is no CN"));
    }
}
