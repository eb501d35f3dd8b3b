//! Whether a CN takes new sessions: probe outcomes and workers' reports in, its state out.
//!
//! ```text
//!              fall probes fail in a row, or one that
//!              was asked for on suspicion; refused login
//!   +---------+ -----------------------------------> +------+
//!   | Working |                                      | Down |
//!   +---------+ <----------------------------------- +------+
//!     |     ^      rise probes go well in a row          ^
//!     |     |      (one, if no probe had failed) and     |
//!     |     |      the cool-down is over                 |
//!     |     +---------------------+                      |
//!     |       cool-down is over   |                      |
//!     |                      +---------+                 |
//!     +--------------------> | Cooling | ----------------+
//!      login timed out,      +---------+   as from Working
//!      turned away
//! ```
//!
//! What a report is worth:
//!
//! - **Refused**: nothing listens there. Down at once; an immediate probe tells a blip (one good probe is enough
//!   to come back) from an outage.
//! - **Timed out**: the login waited long enough. Cooling, and under suspicion.
//! - **Unwilling**: it is alive and full. Cooling for a second, no more.
//! - **Lost**: a session broke. Perhaps a KILL, perhaps a crash: under suspicion, but still working.
//!
//! A refusal or a time-out is a strike. Strikes that follow each other double the cool-down, so that a CN whose
//! probes go well while its logins fail is left alone for longer and longer. Reports that come while a CN is
//! cooling or down add nothing: a burst of logins that fail together is one strike.
//!
//! A new CN works on trust, so that nobody waits for its first probe, but is under suspicion.
//!
//! Each CN is judged for itself. What to do when all are down is a question of routing.

use std::time::Duration;

use crate::mailbox::message::CnFailure;
use crate::route::CnState;

/// The cool-down after a first strike.
pub const COOL_DOWN_BASE: Duration = Duration::from_secs(1);

/// What the cool-down doubles up to.
pub const COOL_DOWN_MAX: Duration = Duration::from_secs(30);

/// The cool-down of a CN that turned a login away.
pub const UNWILLING_COOL_DOWN: Duration = Duration::from_secs(1);

/// Without a strike for this long, a CN starts again from [`COOL_DOWN_BASE`]. Above [`COOL_DOWN_MAX`], or the
/// longest cool-down would never be followed by another one.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// At least this long between a probe's outcome and an extra probe, however many sessions break.
pub const EXTRA_PROBE_GAP: Duration = Duration::from_millis(200);

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It greeted.
    Well,
    /// It greeted with an error: too many connections, host blocked.
    Unwilling { cause: String },
    /// No connection or no greeting.
    Failed { cause: String },
}

/// How many probes it takes, from `[probe]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failed probes in a row before a CN is down; at least 1.
    pub fall: u32,
    /// Good probes in a row before a CN works again; at least 1.
    pub rise: u32,
    /// Between two probes.
    pub interval: Duration,
}

/// What follows from an observation, beside the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What to log, without the CN's name in front.
    pub say: Option<String>,
    /// Probe it at once, whatever the interval.
    pub probe_now: bool,
}

/// The health of one CN at one address. Times are since any fixed moment, and never go back.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    /// Strikes in short succession, and the latest.
    strikes: u32,
    struck_at: Duration,
    extra: ExtraProbe,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Working(Standing),
    Cooling { until: Duration, standing: Standing },
    Down { since: Duration, not_before: Duration, well: u32, needed: u32 },
}

/// What a CN that is not down has on record.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Failed probes in a row.
    failed: u32,
    /// One failed probe is enough, because of what was met then; only a probe that began later clears it.
    suspect: Option<Duration>,
}

/// Extra probes are not asked for while one is under way, nor right after one; what is wanted too early is asked for later.
#[derive(Clone, Copy, Debug)]
enum ExtraProbe {
    Asked,
    NotBefore(Duration),
    WantedAt(Duration),
}

impl Health {
    /// A CN that nothing is known of. Probe it at once.
    pub fn new() -> Self {
        Self {
            state: State::Working(Standing { failed: 0, suspect: Some(Duration::ZERO) }),
            strikes: 0,
            struck_at: Duration::ZERO,
            extra: ExtraProbe::Asked,
        }
    }

    pub fn state(&self) -> CnState {
        match self.state {
            State::Working(_) => CnState::Working,
            State::Cooling { .. } => CnState::Cooling,
            State::Down { .. } => CnState::Down,
        }
    }

    /// Takes note of what a probe found that took so long.
    pub fn probed(
        &mut self,
        outcome: &Outcome,
        took: Duration,
        now: Duration,
        thresholds: Thresholds,
    ) -> Verdict {
        let next = now + EXTRA_PROBE_GAP;
        let begun = now.saturating_sub(took);
        self.extra = match self.extra {
            ExtraProbe::WantedAt(_) if self.suspected_at().is_some_and(|at| at > begun) => {
                ExtraProbe::WantedAt(next)
            }
            _ => ExtraProbe::NotBefore(next),
        };
        match outcome {
            Outcome::Well => self.alive(begun, now),
            Outcome::Unwilling { cause } => {
                let up = self.alive(begun, now);
                // Until after the next probe, or it would take sessions for a moment before each.
                let until = now + thresholds.interval + UNWILLING_COOL_DOWN;
                let cools = self.cool(until, format!("turns logins away: {cause}"));
                Verdict { say: cools.or(up.say), probe_now: false }
            }
            Outcome::Failed { cause } => self.failed(cause, now, thresholds),
        }
    }

    /// Takes note of what a worker met.
    pub fn reported(&mut self, failure: CnFailure, now: Duration) -> Verdict {
        let State::Working(_) = self.state else {
            return self.reported_again(failure, now);
        };
        let say = match failure {
            CnFailure::Refused => {
                let not_before = now + self.strike(now);
                self.state = State::Down { since: now, not_before, well: 0, needed: 1 };
                Some("is down: it refused a connection".to_string())
            }
            CnFailure::TimedOut => {
                self.suspect(now);
                let cool_down = self.strike(now);
                self.cool(
                    now + cool_down,
                    format!("cools down for {} s: a login timed out", cool_down.as_secs()),
                )
            }
            CnFailure::Unwilling => {
                self.cool(now + UNWILLING_COOL_DOWN, "cools down: it turned a login away".to_string())
            }
            CnFailure::Lost => {
                self.suspect(now);
                None
            }
        };
        Verdict { say, probe_now: failure != CnFailure::Unwilling && self.ask_for_probe(now) }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) -> Verdict {
        let mut verdict = match self.state {
            State::Cooling { until, standing } if now >= until => {
                self.state = State::Working(standing);
                Verdict::default()
            }
            State::Down { .. } => self.rise(now),
            _ => Verdict::default(),
        };
        if matches!(self.extra, ExtraProbe::WantedAt(at) if now >= at) {
            self.extra = ExtraProbe::Asked;
            verdict.probe_now = true;
        }
        verdict
    }

    /// When [`Self::tick`] is needed next, if nothing else happens.
    pub fn due(&self) -> Option<Duration> {
        let change = match self.state {
            State::Cooling { until, .. } => Some(until),
            State::Down { not_before, well, needed, .. } if well >= needed => Some(not_before),
            _ => None,
        };
        let extra = match self.extra {
            ExtraProbe::WantedAt(at) => Some(at),
            ExtraProbe::Asked | ExtraProbe::NotBefore(_) => None,
        };
        change.into_iter().chain(extra).min()
    }

    /// A report about a CN that takes no sessions already: only a refusal while it cools is news.
    fn reported_again(&mut self, failure: CnFailure, now: Duration) -> Verdict {
        let State::Cooling { until, .. } = self.state else {
            return Verdict::default();
        };
        match failure {
            CnFailure::Refused => {
                self.state = State::Down { since: now, not_before: until, well: 0, needed: 1 };
                let say = Some("is down: it refused a connection".to_string());
                Verdict { say, probe_now: self.ask_for_probe(now) }
            }
            CnFailure::TimedOut | CnFailure::Lost => {
                self.suspect(now);
                Verdict { say: None, probe_now: self.ask_for_probe(now) }
            }
            CnFailure::Unwilling => Verdict::default(),
        }
    }

    fn alive(&mut self, begun: Duration, now: Duration) -> Verdict {
        match &mut self.state {
            State::Working(standing) | State::Cooling { standing, .. } => {
                standing.failed = 0;
                standing.suspect = standing.suspect.filter(|at| *at > begun);
            }
            State::Down { well, .. } => *well = well.saturating_add(1),
        }
        self.rise(now)
    }

    fn rise(&mut self, now: Duration) -> Verdict {
        match self.state {
            State::Down { since, not_before, well, needed } if well >= needed && now >= not_before => {
                self.state = State::Working(Standing::default());
                let say = format!("works again after {:.1} s", now.saturating_sub(since).as_secs_f64());
                Verdict { say: Some(say), probe_now: false }
            }
            _ => Verdict::default(),
        }
    }

    fn failed(&mut self, cause: &str, now: Duration, thresholds: Thresholds) -> Verdict {
        let needed = thresholds.rise.max(1);
        let (standing, not_before) = match &mut self.state {
            State::Working(standing) => (standing, now),
            State::Cooling { standing, until } => (standing, *until),
            State::Down { well, needed: confirmed, .. } => {
                (*well, *confirmed) = (0, needed);
                return Verdict::default();
            }
        };
        standing.failed = standing.failed.saturating_add(1);
        if standing.suspect.is_none() && standing.failed < thresholds.fall {
            return Verdict::default();
        }
        let say = match standing.failed {
            1 => format!("is down: a probe failed: {cause}"),
            n => format!("is down: {n} probes in a row failed: {cause}"),
        };
        self.state = State::Down { since: now, not_before, well: 0, needed };
        Verdict { say: Some(say), probe_now: false }
    }

    /// Cools a CN that is not down until then at least; gives the sentence if it worked before.
    fn cool(&mut self, until: Duration, sentence: String) -> Option<String> {
        match &mut self.state {
            State::Working(standing) => {
                self.state = State::Cooling { until, standing: *standing };
                Some(sentence)
            }
            State::Cooling { until: present, .. } => {
                *present = until.max(*present);
                None
            }
            State::Down { .. } => None,
        }
    }

    fn suspect(&mut self, now: Duration) {
        if let State::Working(standing) | State::Cooling { standing, .. } = &mut self.state {
            standing.suspect = Some(now);
        }
    }

    fn suspected_at(&self) -> Option<Duration> {
        match self.state {
            State::Working(standing) | State::Cooling { standing, .. } => standing.suspect,
            State::Down { .. } => None,
        }
    }

    /// Counts a strike and gives the cool-down for it.
    fn strike(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.struck_at) >= FORGIVEN_AFTER {
            self.strikes = 0;
        }
        let doubled = COOL_DOWN_BASE.saturating_mul(1 << self.strikes.min(16));
        self.strikes = self.strikes.saturating_add(1);
        self.struck_at = now;
        doubled.min(COOL_DOWN_MAX)
    }

    fn ask_for_probe(&mut self, now: Duration) -> bool {
        let ExtraProbe::NotBefore(time) = self.extra else { return false };
        let may = now >= time;
        self.extra = if may { ExtraProbe::Asked } else { ExtraProbe::WantedAt(time) };
        may
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CnFailure::{Lost, Refused, TimedOut, Unwilling};
    use proptest::prelude::*;

    const TOOK: Duration = Duration::ZERO;
    const THRESHOLDS: Thresholds = Thresholds { fall: 2, rise: 2, interval: Duration::from_secs(1) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn failure(word: &str) -> CnFailure {
        match word {
            "refused" => Refused,
            "timedout" => TimedOut,
            "unwilling" => Unwilling,
            "lost" => Lost,
            _ => panic!("no such failure: {word}"),
        }
    }

    fn play(health: &mut Health, now: Duration, event: &str) -> Verdict {
        let cause = || "no route".to_string();
        match event {
            "well" => health.probed(&Outcome::Well, TOOK, now, THRESHOLDS),
            "full" => health.probed(&Outcome::Unwilling { cause: cause() }, TOOK, now, THRESHOLDS),
            "fails" => health.probed(&Outcome::Failed { cause: cause() }, TOOK, now, THRESHOLDS),
            // It began before what was reported in the last milliseconds.
            "stale" => health.probed(&Outcome::Well, ms(5), now, THRESHOLDS),
            "tick" => health.tick(now),
            word => health.reported(failure(word), now),
        }
    }

    /// Each line: milliseconds, event, state afterwards, `!` if a probe is asked for, and what is said.
    #[track_caller]
    fn check(script: &str) {
        let mut health = Health::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (at, rest) = line.split_once(' ').unwrap();
            let (event, expected) = rest.trim().split_once(' ').unwrap();
            let verdict = play(&mut health, ms(at.parse().unwrap()), event);
            let probe = if verdict.probe_now { " !" } else { "" };
            let say = verdict.say.map(|say| format!(" {say}")).unwrap_or_default();
            assert_eq!(format!("{}{probe}{say}", health.state()), expected.trim(), "at: {line}");
        }
    }

    #[test]
    fn two_failed_probes_take_it_down_and_two_good_ones_bring_it_back() {
        check(
            "0    well  working
             1000 fails working
             2000 well  working
             3000 fails working
             4000 fails down is down: 2 probes in a row failed: no route
             5000 well  down
             6000 fails down
             7000 well  down
             8000 well  working works again after 4.0 s",
        );
    }

    #[test]
    fn a_new_cn_works_on_trust_until_its_first_probe() {
        check("5 tick working\n 10 fails down is down: a probe failed: no route");
    }

    #[test]
    fn a_killed_cn_is_down_at_the_first_refusal_or_the_extra_probe() {
        check(
            "0    well    working
             1000 lost    working !
             1001 lost    working
             1002 refused down is down: it refused a connection
             1003 refused down
             1004 fails   down
             2100 well    down
             3100 well    working works again after 2.1 s",
        );
        check("0 well working\n 1000 lost working !\n 1003 fails down is down: a probe failed: no route");
    }

    #[test]
    fn a_loss_right_after_a_probe_is_probed_soon_and_one_during_it_again() {
        check(
            "0    well    working
             1000 well    working
             1050 lost    working
             1051 lost    working
             1199 tick    working
             1200 tick    working !
             1203 fails   down is down: a probe failed: no route",
        );
        check(
            "0    well    working
             1000 lost    working !
             1001 stale   working
             1100 fails   down is down: a probe failed: no route",
        );
    }

    #[test]
    fn a_refusal_that_the_probe_does_not_confirm_costs_the_cool_down_alone() {
        check(
            "0    well    working
             1000 refused down ! is down: it refused a connection
             1003 well    down
             1999 tick    down
             2000 tick    working works again after 1.0 s",
        );
    }

    #[test]
    fn strikes_double_the_cool_down_and_are_forgiven() {
        check(
            "0      well     working
             1000   timedout cooling ! cools down for 1 s: a login timed out
             1001   timedout cooling
             1500   well     cooling
             2000   tick     working
             2000   timedout cooling ! cools down for 2 s: a login timed out
             2100   well     cooling
             4000   tick     working
             4000   refused  down ! is down: it refused a connection
             4100   well     down
             7900   tick     down
             8000   tick     working works again after 4.0 s
             64000  timedout cooling ! cools down for 1 s: a login timed out",
        );
    }

    #[test]
    fn the_cool_down_stops_growing() {
        let (mut health, mut now, mut longest) = (Health::new(), Duration::ZERO, Duration::ZERO);
        for _ in 0..50 {
            health.reported(TimedOut, now);
            let until = health.due().unwrap();
            longest = until - now;
            now = until;
            health.tick(now);
        }
        assert_eq!(longest, COOL_DOWN_MAX);
    }

    #[test]
    fn a_timed_out_login_and_a_failed_probe_are_an_outage() {
        check(
            "0    well     working
             1000 timedout cooling ! cools down for 1 s: a login timed out
             1500 fails    down is down: a probe failed: no route
             1600 well     down
             1700 well     down
             2000 tick     working works again after 0.5 s",
        );
    }

    #[test]
    fn a_full_cn_cools_and_is_never_down() {
        check(
            "0    well      working
             1000 unwilling cooling cools down: it turned a login away
             1100 unwilling cooling
             2000 tick      working
             3000 full      cooling turns logins away: no route
             4000 full      cooling
             5000 full      cooling
             6999 tick      cooling
             7000 tick      working",
        );
        check(
            "0 fails down is down: a probe failed: no route
             1000 full down
             2000 full cooling turns logins away: no route",
        );
    }

    #[test]
    fn a_cooling_cn_that_refuses_is_down() {
        check(
            "0    well      working
             1000 unwilling cooling cools down: it turned a login away
             1100 refused   down ! is down: it refused a connection",
        );
    }

    #[test]
    fn many_broken_sessions_ask_for_few_probes() {
        let mut health = Health::new();
        health.probed(&Outcome::Well, TOOK, ms(0), THRESHOLDS);
        let mut asked = 0;
        for at in 300..2300 {
            if health.reported(Lost, ms(at)).probe_now || health.tick(ms(at)).probe_now {
                asked += 1;
                health.probed(&Outcome::Well, TOOK, ms(at), THRESHOLDS);
            }
        }
        assert_eq!(asked, 10);
        assert_eq!(health.state(), CnState::Working);
    }

    const EVENTS: [&str; 8] = ["well", "full", "fails", "tick", "refused", "timedout", "unwilling", "lost"];

    fn history() -> impl Strategy<Value = Vec<(u64, &'static str)>> {
        prop::collection::vec((0_u64..3000, prop::sample::select(&EVENTS[..])), 0..60)
    }

    fn after(history: &[(u64, &str)]) -> (Health, Duration) {
        let (mut health, mut now) = (Health::new(), Duration::ZERO);
        for (pause, event) in history {
            now += ms(*pause);
            play(&mut health, now, event);
        }
        (health, now)
    }

    proptest! {
        #[test]
        fn whatever_happened_good_probes_bring_it_back(history in history()) {
            let (mut health, now) = after(&history);
            for second in 1..=COOL_DOWN_MAX.as_secs() + 2 {
                play(&mut health, now + Duration::from_secs(second), "well");
                health.tick(now + Duration::from_secs(second));
            }
            prop_assert_eq!(health.state(), CnState::Working);
        }

        #[test]
        fn whatever_happened_failed_probes_take_it_down(history in history()) {
            let (mut health, now) = after(&history);
            for n in 1..=u64::from(THRESHOLDS.fall) {
                play(&mut health, now + ms(n), "fails");
            }
            prop_assert_eq!(health.state(), CnState::Down);
        }

        /// Whoever ticks when due, and not otherwise, misses nothing.
        #[test]
        fn due_tells_when_time_alone_does_something(history in history(), wait in 0_u64..40_000) {
            let (mut health, now) = after(&history);
            let (before, due) = (health.state(), health.due());
            let asked = health.tick(now + ms(wait)).probe_now;
            let expected = due.is_some_and(|due| now + ms(wait) >= due);
            prop_assert_eq!(asked || health.state() != before, expected);
        }
    }
}
