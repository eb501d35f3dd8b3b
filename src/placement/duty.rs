//! Whether a CN is wanted to have sessions, and how far a drain has come.
//!
//! A CN is working until somebody wants it to be drained: an operator, its cluster by the work state that discovery
//! finds, or nobody lists it any more. It drains until none of them wants it. It is drained when nobody sits on it and no worker can send a session
//! there any more, which is sure once every worker has counted its sessions by a view in which the CN drains. A
//! drain may have a deadline; then the sessions that are left are ended, or waited for. What is to be left out of
//! the table when it is drained is known here too: what an operator removes, and what the configuration no longer lists.
//!
//! It orders nothing: [`Duty::look`] says what there is to do.

use std::time::Duration;

use crate::config::settings::AtDeadline;
use crate::ident::Epoch;
use crate::route::WorkState;

/// Between two orders to end what is still there after the deadline.
const EVICT_AGAIN: Duration = Duration::from_secs(1);

/// How a CN is to be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From now on; `None` is as long as it takes.
    pub deadline: Option<Duration>,
    pub at_deadline: AtDeadline,
    /// The CN leaves the table when it is drained.
    pub then_remove: bool,
}

/// What a CN that drains is at.
#[derive(Clone, Debug)]
pub struct Duty {
    pub terms: Terms,
    since: Duration,
    /// The first epoch in which workers know that it drains.
    epoch: Epoch,
    wishes: Wishes,
    drained: bool,
    deadline_said: bool,
    evicted: Option<Duration>,
}

/// Who wants it to be drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wishes {
    operator: bool,
    /// The operator wants it to leave the table, too.
    removal: bool,
    cluster: bool,
    /// Neither the configuration nor discovery has it any more.
    unlisted: bool,
}

impl Wishes {
    fn any(self) -> bool {
        self.operator || self.cluster || self.unlisted
    }
}

/// What is known of a CN that drains.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Seats taken, and sessions that the last census found; whichever is more.
    pub sessions: u32,
    /// The epoch in which every worker was at the last census; `None` before the first.
    pub counted_in: Option<Epoch>,
}

/// What there is to do about a CN that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It has just become empty.
    Drained { after: Duration },
    /// Sessions are on it again, of workers that did not know in time.
    Refilled,
    /// Its time is over: end what is left.
    Evict { first: bool },
    /// Its time is over; what is left is waited for. Said once.
    Overdue,
}

impl Duty {
    /// An operator wants it to be drained.
    pub fn begin(terms: Terms, epoch: Epoch, now: Duration) -> Self {
        let wishes = Wishes { operator: true, removal: terms.then_remove, ..Wishes::default() };
        Self::new(terms, wishes, epoch, now)
    }

    /// Its cluster wants it to be drained.
    pub fn begin_reported(epoch: Epoch, now: Duration) -> Self {
        let terms = Terms { deadline: None, at_deadline: AtDeadline::Leave, then_remove: false };
        Self::new(terms, Wishes { cluster: true, ..Wishes::default() }, epoch, now)
    }

    /// Nobody lists it any more.
    pub fn begin_unlisted(terms: Terms, epoch: Epoch, now: Duration) -> Self {
        let wishes = Wishes { unlisted: true, ..Wishes::default() };
        Self::new(Terms { then_remove: true, ..terms }, wishes, epoch, now)
    }

    fn new(terms: Terms, wishes: Wishes, epoch: Epoch, now: Duration) -> Self {
        Self { terms, since: now, epoch, wishes, drained: false, deadline_said: false, evicted: None }
    }

    /// Takes over other terms of an operator. Another deadline counts from now on; the same one goes on.
    pub fn change(&mut self, terms: Terms, now: Duration) {
        if terms.deadline != self.terms.deadline {
            self.since = now;
        }
        let then_remove = terms.then_remove || self.terms.then_remove;
        self.terms = Terms { then_remove, ..terms };
        (self.deadline_said, self.evicted, self.wishes.operator) = (false, None, true);
        self.wishes.removal |= terms.then_remove;
        self.drained &= !then_remove;
    }

    /// Nobody lists it any more: it is to be removed as well. False if it was to be removed already.
    ///
    /// An operator's terms go on; otherwise it has these from now on.
    pub fn unlist(&mut self, terms: Terms, now: Duration) -> bool {
        self.wishes.unlisted = true;
        if self.terms.then_remove {
            return false;
        }
        if !self.wishes.operator {
            (self.terms, self.since) = (terms, now);
        }
        (self.terms.then_remove, self.drained) = (true, false);
        true
    }

    /// The configuration lists it, so it stays in the table, whatever an operator wanted before. True if nobody wants it to be drained
    /// any more.
    pub fn relist(&mut self) -> bool {
        self.wishes.removal = false;
        self.find()
    }

    /// It was missing and is there again. What an operator wants goes on. True if nobody wants it to be drained any more.
    pub fn find(&mut self) -> bool {
        (self.wishes.unlisted, self.terms.then_remove) = (false, self.wishes.removal);
        if !self.wishes.operator {
            self.terms.deadline = None;
        }
        !self.wishes.any()
    }

    /// What its cluster wants now. True if nobody wants it to be drained any more.
    pub fn report(&mut self, drains: bool) -> bool {
        self.wishes.cluster = drains;
        !self.wishes.any()
    }

    /// Whether it is leaving the table because nobody lists it.
    pub fn is_unlisted(&self) -> bool {
        self.wishes.unlisted
    }

    pub fn state(&self) -> WorkState {
        if self.drained { WorkState::Drained } else { WorkState::Draining }
    }

    /// Judges what was seen.
    pub fn look(&mut self, seen: Seen, now: Duration) -> Option<Action> {
        let known = seen.counted_in.is_some_and(|epoch| epoch >= self.epoch);
        let empty = seen.sessions == 0 && (known || self.drained);
        if empty != self.drained {
            self.drained = empty;
            let after = now.saturating_sub(self.since);
            return Some(if empty { Action::Drained { after } } else { Action::Refilled });
        }
        if empty || self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self.terms.at_deadline {
            AtDeadline::Leave if self.deadline_said => None,
            AtDeadline::Leave => {
                self.deadline_said = true;
                Some(Action::Overdue)
            }
            AtDeadline::Close if self.evicted.is_some_and(|at| now < at + EVICT_AGAIN) => None,
            AtDeadline::Close => {
                let first = self.evicted.replace(now).is_none();
                Some(Action::Evict { first })
            }
        }
    }

    /// When [`Self::look`] will have something new to say, if nobody leaves before.
    pub fn due(&self) -> Option<Duration> {
        let deadline = self.deadline().filter(|_| !self.drained)?;
        match (self.terms.at_deadline, self.evicted) {
            (AtDeadline::Leave, _) => (!self.deadline_said).then_some(deadline),
            (AtDeadline::Close, None) => Some(deadline),
            (AtDeadline::Close, Some(at)) => Some(at + EVICT_AGAIN),
        }
    }

    /// When its time is over.
    pub fn deadline(&self) -> Option<Duration> {
        self.terms.deadline.map(|limit| self.since + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn duty(deadline: Option<u64>, at_deadline: AtDeadline) -> Duty {
        let terms = Terms { deadline: deadline.map(s), at_deadline, then_remove: false };
        Duty::begin(terms, Epoch(5), s(10))
    }

    fn seen(sessions: u32, counted_in: u64) -> Seen {
        Seen { sessions, counted_in: Some(Epoch(counted_in)) }
    }

    #[test]
    fn an_empty_cn_is_drained_only_when_all_workers_know() {
        let mut duty = duty(None, AtDeadline::Close);
        assert_eq!(duty.look(Seen { sessions: 0, counted_in: None }, s(11)), None);
        assert_eq!(duty.look(seen(0, 4), s(11)), None);
        assert_eq!(duty.look(seen(1, 5), s(12)), None);
        assert_eq!(duty.state(), WorkState::Draining);
        assert_eq!(duty.look(seen(0, 5), s(13)), Some(Action::Drained { after: s(3) }));
        assert_eq!(duty.look(seen(0, 5), s(14)), None);
        assert_eq!(duty.look(seen(1, 5), s(15)), Some(Action::Refilled));
        assert_eq!((duty.state(), duty.due()), (WorkState::Draining, None));
    }

    #[test]
    fn at_the_deadline_sessions_are_ended_until_none_is_left() {
        let mut duty = duty(Some(5), AtDeadline::Close);
        assert_eq!((duty.look(seen(3, 5), s(14)), duty.due()), (None, Some(s(15))));
        assert_eq!(duty.look(seen(3, 5), s(15)), Some(Action::Evict { first: true }));
        assert_eq!((duty.look(seen(3, 5), s(15)), duty.due()), (None, Some(s(16))));
        assert_eq!(duty.look(seen(1, 5), s(16)), Some(Action::Evict { first: false }));
        assert_eq!(duty.look(seen(0, 5), s(16)), Some(Action::Drained { after: s(6) }));
        assert_eq!(duty.due(), None);
    }

    #[test]
    fn or_they_are_waited_for() {
        let mut duty = duty(Some(5), AtDeadline::Leave);
        assert_eq!(duty.look(seen(3, 5), s(15)), Some(Action::Overdue));
        assert_eq!((duty.look(seen(3, 5), s(99)), duty.due()), (None, None));
        duty.change(
            Terms { deadline: Some(s(1)), at_deadline: AtDeadline::Close, then_remove: true },
            s(100),
        );
        assert_eq!(duty.due(), Some(s(101)));
        duty.change(
            Terms { deadline: Some(s(1)), at_deadline: AtDeadline::Close, then_remove: false },
            s(100) + s(1) / 2,
        );
        assert_eq!(duty.due(), Some(s(101)), "the same word again changes nothing");
        duty.change(Terms { deadline: None, at_deadline: AtDeadline::Close, then_remove: false }, s(100));
        assert!(duty.terms.then_remove, "what shall be removed is not forgotten");
    }

    #[test]
    fn what_is_drained_already_is_drained_once_more_before_it_is_removed() {
        let mut duty = duty(None, AtDeadline::Close);
        assert_eq!(duty.look(seen(0, 5), s(11)), Some(Action::Drained { after: s(1) }));
        duty.change(Terms { deadline: None, at_deadline: AtDeadline::Close, then_remove: true }, s(20));
        assert_eq!(duty.look(seen(0, 5), s(21)), Some(Action::Drained { after: s(11) }));
        let terms = Terms { then_remove: false, ..duty.terms };
        let mut listed = Duty::begin(terms, Epoch(5), s(10));
        assert_eq!(listed.look(seen(0, 5), s(11)), Some(Action::Drained { after: s(1) }));
        assert!(listed.unlist(terms, s(20)));
        assert_eq!(listed.look(seen(0, 5), s(22)), Some(Action::Drained { after: s(12) }));
        assert!(!listed.unlist(terms, s(23)), "said already");
    }

    #[test]
    fn what_is_listed_again_goes_on_draining_only_where_an_operator_wanted_it() {
        let terms = Terms { deadline: None, at_deadline: AtDeadline::Close, then_remove: false };
        let mut unlisted = Duty::begin_unlisted(terms, Epoch(5), s(10));
        assert!(unlisted.terms.then_remove);
        assert!(unlisted.clone().relist());
        unlisted.change(terms, s(11));
        assert!(!unlisted.relist());
        assert!(!unlisted.terms.then_remove);
    }

    #[test]
    fn what_an_operator_removes_is_removed_though_it_is_found_again() {
        let terms = |then_remove| Terms { deadline: None, at_deadline: AtDeadline::Close, then_remove };
        let begun = Duty::begin(terms(true), Epoch(5), s(10));
        let mut changed = Duty::begin_unlisted(terms(true), Epoch(5), s(10));
        changed.change(terms(true), s(11));
        for mut duty in [begun, changed] {
            duty.unlist(terms(true), s(12));
            assert!(!duty.find() && duty.terms.then_remove);
            assert!(!duty.relist() && !duty.terms.then_remove, "the configuration is read again");
        }
        let mut drained = Duty::begin(terms(false), Epoch(5), s(10));
        assert!(drained.unlist(terms(true), s(12)) && !drained.find() && !drained.terms.then_remove);
    }

    #[test]
    fn it_drains_until_nobody_wants_it() {
        let terms = Terms { deadline: Some(s(7)), at_deadline: AtDeadline::Close, then_remove: false };
        let mut reported = Duty::begin_reported(Epoch(5), s(10));
        assert_eq!((reported.state(), reported.due()), (WorkState::Draining, None));
        assert!(reported.clone().report(false));
        let mut both = reported.clone();
        both.change(terms, s(11));
        assert!(!both.report(false), "an operator wants it, too");
        assert!(reported.unlist(terms, s(20)) && reported.is_unlisted());
        assert_eq!(reported.deadline(), Some(s(27)), "as any that is not listed");
        assert!(!reported.relist(), "its cluster still says so");
        assert_eq!((reported.deadline(), reported.terms.then_remove), (None, false));
        assert!(reported.report(false));
    }
}
