//! Sessions that take too long: idle, idle inside a transaction, or over a statement.
//!
//! A worker looks at all its cards every [`SWEEP`], and only while `[timeouts]` sets a limit: the relay reads no clock and no session has
//! a timer. So a limit is kept to within a sweep, and never cut short: what a sweep finds changed has begun then.
//!
//! A session that is idle for too long ends. A statement is stopped on its CN first, and the session goes on; it ends where nobody can
//! say so, and where the CN does not stop within [`HALT_PATIENCE`]. A dialog that nobody can follow any more is left alone, as a
//! stream of the binary log is.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use tracing::debug;

use super::Worker;
use super::halt;
use super::roster::{Activity, Call, Card};
use crate::config::settings::Timeouts;
use crate::metrics::TimedOut;

/// Between two looks at all sessions.
const SWEEP: Duration = Duration::from_millis(250);

/// How long a CN that was told to stop a statement may take to do so.
const HALT_PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the sessions again and again, to the worker's end.
pub(super) async fn sweep(worker: Rc<Worker>) {
    while !worker.finished.is_raised() {
        let (timeouts, news) = (worker.timeouts(), worker.news.borrow().clone());
        if timeouts.is_none() {
            worker.finished.raised().or(news.raised()).await;
            continue;
        }
        let now = Instant::now();
        for card in worker.roster.cards(|card| card.is_alive()) {
            look(&worker, &card, &timeouts, now);
        }
        worker.reactor.until(now + SWEEP, worker.finished.raised()).await;
    }
}

/// What is to be done about a session.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Its CN is to be told to stop the statement.
    Halt,
    End(TimedOut),
}

/// Judges a session that has done one thing since then; `halted` is when its CN was told to stop this statement.
fn judge(
    limits: &Timeouts,
    activity: Activity,
    since: Instant,
    halted: Option<Instant>,
    now: Instant,
) -> Verdict {
    let over = |limit: Option<Duration>| limit.is_some_and(|limit| now.duration_since(since) >= limit);
    match activity {
        Activity::Idle if over(limits.idle) => Verdict::End(TimedOut::Idle),
        Activity::Transaction if over(limits.transaction) => Verdict::End(TimedOut::Transaction),
        Activity::Busy if over(limits.query) => match halted {
            None => Verdict::Halt,
            Some(at) if now >= at + HALT_PATIENCE => Verdict::End(TimedOut::Query),
            Some(_) => Verdict::Fine,
        },
        _ => Verdict::Fine,
    }
}

fn look(worker: &Rc<Worker>, card: &Rc<Card>, limits: &Timeouts, now: Instant) {
    let (activity, commands) = (card.activity(), card.commands.get());
    let halted = card.halted.get().filter(|(before, _)| *before == commands).map(|(_, at)| at);
    match judge(limits, activity, card.stretch(now), halted, now) {
        Verdict::Fine => {}
        Verdict::End(over) => card.call(&worker.reactor, Call::TimeOut { over, commands }),
        Verdict::Halt if halt::is_crowded(worker) => {}
        Verdict::Halt => {
            card.halted.set(Some((commands, now)));
            worker.counters.timeouts.add(TimedOut::Query);
            stop_statement(worker, card, commands);
        }
    }
}

/// Has the CN stop the statement; ends the session where that cannot be said.
fn stop_statement(worker: &Rc<Worker>, card: &Rc<Card>, commands: u64) {
    let (host, card) = (worker.clone(), card.clone());
    worker.reactor.spawn(async move {
        let still = || card.commands.get() == commands && card.activity() == Activity::Busy;
        if let Err(cause) = halt::stop_statement(&host, &card, still).await {
            debug!(session = card.id.0, "its statement took too long, and cannot be stopped: {cause}");
            card.call(&host.reactor, Call::TimeOut { over: TimedOut::Query, commands });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Timeouts {
        Timeouts { idle: Some(3 * SECOND), transaction: Some(2 * SECOND), query: Some(SECOND) }
    }

    #[test]
    fn each_activity_has_a_limit_of_its_own() {
        let since = Instant::now();
        for (activity, limit, verdict) in [
            (Activity::Idle, 3 * SECOND, Verdict::End(TimedOut::Idle)),
            (Activity::Transaction, 2 * SECOND, Verdict::End(TimedOut::Transaction)),
            (Activity::Busy, SECOND, Verdict::Halt),
        ] {
            let just_before = since + limit - Duration::from_millis(1);
            assert_eq!(judge(&limits(), activity, since, None, just_before), Verdict::Fine);
            assert_eq!(judge(&limits(), activity, since, None, since + limit), verdict);
            assert_eq!(judge(&Timeouts::default(), activity, since, None, since + limit), Verdict::Fine);
        }
        for activity in [Activity::Login, Activity::Opaque] {
            assert_eq!(judge(&limits(), activity, since, None, since + 60 * SECOND), Verdict::Fine);
        }
    }

    #[test]
    fn a_cn_has_some_time_to_stop_a_statement() {
        let since = Instant::now();
        let halted = since + SECOND;
        let at = |now| judge(&limits(), Activity::Busy, since, Some(halted), now);
        assert_eq!(at(halted + Duration::from_millis(250)), Verdict::Fine, "it is not told twice");
        assert_eq!(at(halted + HALT_PATIENCE), Verdict::End(TimedOut::Query));
    }
}
