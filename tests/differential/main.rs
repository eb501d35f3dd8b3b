//! Differential test of moving: the same random stream of statements on a direct connection and on one through
//! corelane that is told to move at random moments must be answered alike, packet by packet.
//!
//! Both CNs of corelane are one and the same server under two ids, so that data agree whatever a stream does, and what
//! differs is the session. Two such servers take turns, one with a binary log and one without, as they report differently. A move that is refused must name a hold that the stream explains.
//!
//! A failure prints its seed and the stream. These variables rule a run:
//!
//! - `CORELANE_DIFF_SEED=n`: this seed only, several times, as moves fall at other moments each time;
//! - `CORELANE_DIFF_WITHOUT=n,m`: without these steps of it;
//! - `CORELANE_DIFF_MINUTES=n`: seeds from the clock on for so long, instead of the first ones for a short time;
//! - `CORELANE_DIFF_SEEDS=n`: so many of the first ones, however long it takes;
//! - `CORELANE_DIFF_AGAINST=direct`: the second side is a direct connection too; `still`: corelane, without moves.
//!   Both test the test;
//! - `CORELANE_DIFF_ALL=1`: goes on after a failure, to see what fails at all.

#[path = "../house/mod.rs"]
mod house;

mod mover;
mod reply;
mod run;
mod side;
mod step;
mod stream;
mod track;
mod words;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;

use house::{BINARY_LOG, Mariadb, Proxy, cn_toml, connect};
use mover::Mover;
use run::{Lane, Tally, run};
use stream::Stream;

/// Streams that run at the same time.
const LANES: usize = 3;
/// How long a run of the usual tests takes.
const SHORT: Duration = Duration::from_secs(40);
/// Seeds of the usual tests, at most: each of them has been run.
const SEEDS: u64 = 400;
/// How often a seed that is run alone is run.
const REPEATS: u64 = 20;

/// Those with a binary log and without.
fn servers() -> &'static [Mariadb; 2] {
    static SERVERS: OnceLock<[Mariadb; 2]> = OnceLock::new();
    SERVERS.get_or_init(|| [("logged", BINARY_LOG), ("bare", &[])].map(|(name, log)| start(name, log)))
}

fn start(name: &str, log: &[&str]) -> Mariadb {
    let options = [&["--lock-wait-timeout=20", "--innodb-lock-wait-timeout=5"], log].concat();
    let server = Mariadb::start_with(name, &options);
    let mut house = connect(server.port, "app", "secret");
    house.query_drop("CREATE ROLE house_role").expect("create a role");
    house.query_drop("GRANT house_role TO app").expect("grant a role");
    server
}

/// The one whose turn it is.
fn which(seed: u64) -> usize {
    usize::from(seed.is_multiple_of(3))
}

fn proxy(server: &Mariadb) -> Proxy {
    let cns = ["cn1", "cn2"].map(|id| cn_toml(id, &server.address(), "", 1) + "data = \"twice\"\n");
    // A session that is silent gives up what it could still ask for; here none is given the time.
    let user = format!(
        "[migration]\nidle_ms = 600000\npatience_ms = 3000\n[[user]]\nname = \"{}\"\npassword = \"{}\"\n",
        side::USER,
        side::PASSWORD
    );
    Proxy::start(&(cns.concat() + &user))
}

/// What the second side is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Moves,
    Still,
    Direct,
}

impl Against {
    fn told() -> Self {
        match setting("DIFF_AGAINST").as_deref() {
            None => Self::Moves,
            Some("still") => Self::Still,
            Some("direct") => Self::Direct,
            Some(other) => panic!("CORELANE_DIFF_AGAINST={other}: expected direct or still"),
        }
    }

    fn lane(self, server: &Mariadb, proxy: Option<&Proxy>) -> Lane {
        let port = proxy.map_or(server.port, |proxy| proxy.port);
        let mover = proxy.filter(|_| self == Self::Moves).map(|proxy| Mover::start(proxy.admin_port));
        Lane { port, mover, prelude: None }
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("CORELANE_{name}")).ok()
}

fn number(name: &str) -> Option<u64> {
    setting(name).map(|text| text.parse().unwrap_or_else(|_| panic!("CORELANE_{name}={text}: not a number")))
}

/// Numbers of steps that are not made, to find out which ones it takes.
fn left_out() -> Vec<usize> {
    let list = setting("DIFF_WITHOUT").unwrap_or_default();
    let numbers = list.split(',').filter(|number| !number.is_empty());
    numbers
        .map(|text| text.parse().unwrap_or_else(|_| panic!("CORELANE_DIFF_WITHOUT={list}: no numbers")))
        .collect()
}

/// Which seeds are run, and for how long.
struct Plan {
    next: AtomicU64,
    /// The same seed again and again; else the next one each time.
    alone: Option<u64>,
    end: u64,
    until: Instant,
    stopped: AtomicBool,
}

impl Plan {
    fn told() -> Self {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let (alone, minutes) = (number("DIFF_SEED"), number("DIFF_MINUTES"));
        let (first, end, limit) = match (alone, minutes) {
            (Some(_), _) => (0, REPEATS, hour),
            (None, Some(minutes)) => (clock * 1000, u64::MAX, Duration::from_secs(60 * minutes)),
            (None, None) => match number("DIFF_SEEDS") {
                Some(seeds) => (1, seeds + 1, hour),
                None => (1, SEEDS + 1, SHORT),
            },
        };
        Self { next: AtomicU64::new(first), alone, end, until: now + limit, stopped: AtomicBool::new(false) }
    }

    fn next(&self) -> Option<u64> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let over = next >= self.end || Instant::now() >= self.until || self.stopped.load(Ordering::Relaxed);
        (!over).then(|| self.alone.unwrap_or(next))
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

#[test]
fn streams_are_answered_alike_directly_and_through_moves() {
    let (plan, against) = (Plan::told(), Against::told());
    let proxies = servers().each_ref().map(|server| (against != Against::Direct).then(|| proxy(server)));
    let total = Mutex::new(Tally::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut lanes = [0, 1].map(|which| against.lane(&servers()[which], proxies[which].as_ref()));
                let mut tally = Tally::default();
                while let Some(seed) = plan.next() {
                    let (server, lane) = (servers()[which(seed)].port, &mut lanes[which(seed)]);
                    let stream = Stream::draw(seed).without(&left_out());
                    if let Err(story) = run(&stream, server, lane, &mut tally) {
                        if setting("DIFF_ALL").is_none() {
                            plan.stop();
                        }
                        failures.lock().expect("failures").push((seed, story));
                    }
                }
                total.lock().expect("total").add(&tally);
            });
        }
    });
    let (total, failures) = (total.into_inner().expect("total"), failures.into_inner().expect("failures"));
    println!("{} streams, {} steps; moves: {:?}", total.streams, total.steps, total.orders);
    for (seed, story) in &failures {
        println!("{story}  again: CORELANE_DIFF_SEED={seed} cargo test --test differential\n");
    }
    assert!(
        failures.is_empty(),
        "answers differ at seeds {:?}",
        failures.iter().map(|f| f.0).collect::<Vec<_>>()
    );
    if against == Against::Moves && plan.alone.is_none() {
        assert!(total.moved() > total.streams / 4, "too few sessions moved: {:?}", total.orders);
    }
}

/// The test of the test: one variable that only one side has set is found.
#[test]
fn a_session_that_is_not_the_same_is_found() {
    let mut found = 0;
    for seed in 1..=5 {
        let prelude = Some("SET SESSION net_read_timeout = 31");
        let server = servers()[which(seed)].port;
        let mut lane = Lane { port: server, mover: None, prelude };
        let outcome = run(&Stream::draw(seed), server, &mut lane, &mut Tally::default());
        found += u32::from(outcome.is_err());
    }
    // A stream that starts anew near its end has lost the variable in good order.
    assert!(found >= 2, "found in {found} of 5 streams");
}

#[test]
fn a_seed_gives_the_same_stream_each_time() {
    let texts = |seed| {
        let stream = Stream::draw(seed);
        stream.steps.iter().map(|planned| format!("{} {:?}", planned.step, planned.order)).collect::<Vec<_>>()
    };
    assert_eq!(texts(7), texts(7));
    assert_ne!(texts(7), texts(8));
}
