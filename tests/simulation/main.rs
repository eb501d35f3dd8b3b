//! The pure parts together under a seeded simulation, in one thread and virtual time: thousands of sessions with real dialogs and
//! states, whose clients talk while CNs come, go, drain, crash and change, and whom the real placement and balance move about.
//!
//! At every moment: each session is counted once, what its client hears is what it would hear without moving, and what its CN
//! remembers is what the client made it remember. When the disturbances are over the balance settles within a bound and then
//! rests.
//!
//! A failure prints its seed. These variables rule a run:
//!
//! - `CORELANE_SIM_SEED=n`: this seed only;
//! - `CORELANE_SIM_SEEDS=n`: so many seeds, from the first one;
//! - `CORELANE_SIM_SESSIONS=n`: so many sessions in each.

mod client;
mod house;
mod memory;
mod place;
mod server;
mod session;
mod sql;
mod verdict;

use std::time::Duration;

use house::{Figures, House, TICK};

/// Seeds of the usual run, and sessions of each.
const SEEDS: u64 = 3;
const SESSIONS: u64 = 1000;
/// How long the disturbances last.
const TROUBLE: Duration = Duration::from_secs(40);
/// Within this time after them the last session has moved.
const SETTLED: Duration = Duration::from_secs(60);
/// How long orders are still carried out that were given before.
const AFTERMATH: Duration = Duration::from_secs(4);
/// How long nothing moves then.
const REST: Duration = Duration::from_secs(20);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(format!("CORELANE_SIM_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("CORELANE_SIM_{name}={text}: not a number")))
}

/// Prints the seed when the run does not come to its end.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again: CORELANE_SIM_SEED={} cargo test --test simulation", self.0);
        }
    }
}

fn run(seed: u64, sessions: u64) -> (Figures, Duration) {
    let _told = Told(seed);
    let mut house = House::new(seed, sessions as usize);
    let pass = |house: &mut House, time: Duration| {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            house.pass();
        }
    };
    pass(&mut house, TROUBLE);
    house.calm_down();
    let calm_since = house.now;
    // Orders of before are over by then; one may have been to a CN that was drained meanwhile.
    pass(&mut house, AFTERMATH);
    house.sessions.iter_mut().for_each(|session| session.been.clear());
    pass(&mut house, SETTLED - AFTERMATH);
    let settled = house.last_move.saturating_sub(calm_since);
    let moves = house.figures.moves;
    pass(&mut house, REST);
    assert_eq!(house.figures.moves, moves, "it moves on and on");
    verdict::check_settled(&house);
    (house.figures, settled)
}

#[test]
fn sessions_stay_themselves_and_the_balance_settles() {
    let sessions = number("SESSIONS").unwrap_or(SESSIONS);
    let seeds = match number("SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let (figures, settled) = run(seed, sessions);
        println!("seed {seed}, settled after {settled:?}: {figures:?}");
        assert!(figures.moves > figures.sessions / 10, "too few moves at seed {seed}: {}", figures.moves);
    }
}
