//! One stream on both sides: first directly, then through corelane while it is told to move the session. The first
//! answer that differs, and a refused move that nothing in the stream explains, is a failure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use super::house::connect;
use super::mover::{Mover, Outcome};
use super::reply::Reply;
use super::side::{MASK, PASSWORD, Side, USER};
use super::step::Step;
use super::stream::Stream;
use super::words::SETUP;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long an order that is still open may take after its session has ended.
const ORDER_LIMIT: Duration = Duration::from_secs(60);
const ERR: u8 = 0xff;
/// How often it is tried to drop a schema, for a second or two each.
const CLEAR_TRIES: u32 = 20;
/// Why a session stays that was busy for longer than it was waited for.
const NEVER_SILENT: &str = "it was never silent";
/// An answer that took longer is told of in a report.
const SLOW: Duration = Duration::from_secs(1);
/// How much of a packet a report shows, in bytes.
const SHOWN: usize = 400;

/// What was seen of all streams so far.
#[derive(Default)]
pub struct Tally {
    pub streams: u64,
    pub steps: u64,
    /// By outcome of orders.
    pub orders: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.streams += other.streams;
        self.steps += other.steps;
        for (outcome, count) in &other.orders {
            *self.orders.entry(outcome.clone()).or_default() += count;
        }
    }

    pub fn moved(&self) -> u64 {
        self.orders.get("moved").copied().unwrap_or(0)
    }
}

/// Where the second run of a stream goes.
pub struct Lane {
    pub port: u16,
    /// None: the session is left where it is.
    pub mover: Option<Mover>,
    /// Said before the stream begins, to make the sides differ.
    pub prelude: Option<&'static str>,
}

/// What a side answered, up to where its connection broke.
struct Record {
    login: Reply,
    answers: Vec<Result<Vec<Reply>, String>>,
    /// What orders came to nothing for no good reason.
    complaints: Vec<String>,
    /// Orders and outcomes as they fell between the steps.
    moves: Vec<(usize, String)>,
}

/// Runs a stream on the server directly and through the lane.
pub fn run(stream: &Stream, server: u16, lane: &mut Lane, tally: &mut Tally) -> Result<(), String> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let mut house = connect(server, USER, PASSWORD);
    let schemas = ["a", "b"].map(|side| format!("diff{number:08x}{side}"));
    schemas.iter().for_each(|schema| build(&mut house, schema));
    let mut still = Lane { port: server, mover: None, prelude: None };
    let direct = record(stream, &schemas[0], &mut still, &mut Tally::default());
    let through = record(stream, &schemas[1], lane, tally);
    schemas.iter().for_each(|schema| clear(&mut house, schema));
    tally.streams += 1;
    tally.steps += stream.steps.len() as u64;
    judge(stream, &direct, &through)
}

fn build(house: &mut Conn, schema: &str) {
    for text in SETUP {
        house.query_drop(text.replace(MASK, schema)).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

/// The server may take a moment to end the session of a connection that was closed, and a transaction of XA that was prepared is
/// left to roll back only then.
fn clear(house: &mut Conn, schema: &str) {
    house.query_drop("SET lock_wait_timeout = 1, innodb_lock_wait_timeout = 1").expect("set a limit");
    let mut tries = 0;
    while let Err(error) = drop_both(house, schema) {
        tries += 1;
        if tries == CLEAR_TRIES {
            let processes: Vec<Row> = house.query("SHOW FULL PROCESSLIST").unwrap_or_default();
            panic!("drop {schema}: {error}; {processes:?}");
        }
    }
}

fn drop_both(house: &mut Conn, schema: &str) -> mysql::Result<()> {
    let _ = house.query_drop(format!("XA ROLLBACK '{schema}'"));
    for schema in [schema, &format!("{schema}2")] {
        house.query_drop(format!("DROP DATABASE IF EXISTS {schema}"))?;
    }
    Ok(())
}

fn record(stream: &Stream, schema: &str, lane: &mut Lane, tally: &mut Tally) -> Record {
    let initial = if stream.with_schema { schema } else { "" };
    let (mut side, login) = Side::open(lane.port, initial, stream, schema);
    side.client.set_read_limit(ANSWER_LIMIT);
    if let Some(prelude) = lane.prelude {
        side.perform(&Step::Query(prelude.into())).expect("the prelude");
    }
    let mut log = Log { stream, tally, complaints: Vec::new(), moves: Vec::new(), since: 0, slow: false };
    let mut answers = Vec::new();
    for (n, planned) in stream.steps.iter().enumerate() {
        if let Some(mover) = &mut lane.mover {
            log.take(mover, n, Duration::ZERO);
            if let Some(order) = planned.order.filter(|_| !mover.waiting) {
                mover.order(side.client.session, order.to);
                log.ordered(n, order.to);
                log.take(mover, n, Duration::from_millis(order.wait_ms));
            }
        }
        let began = Instant::now();
        let answer = side.perform(&planned.step).map_err(|e| e.to_string());
        if began.elapsed() > SLOW {
            log.moves.push((n + 1, format!("that took {:?}", began.elapsed())));
            log.slow = true;
        }
        let broken = answer.is_err();
        answers.push(answer);
        if broken {
            break;
        }
    }
    drop(side);
    let Log { complaints, moves, .. } = log;
    // The session is gone, so what comes of an order that is still open says nothing.
    if let Some(mover) = &mut lane.mover
        && mover.waiting
    {
        mover.outcome(ORDER_LIMIT).expect("an order is answered once its session has ended");
    }
    Record { login, answers, complaints, moves }
}

/// What becomes of the orders within one stream.
struct Log<'a> {
    stream: &'a Stream,
    tally: &'a mut Tally,
    complaints: Vec<String>,
    moves: Vec<(usize, String)>,
    /// The step before which the order was given.
    since: usize,
    /// Some answer since then was slow.
    slow: bool,
}

impl Log<'_> {
    fn ordered(&mut self, step: usize, to: usize) {
        (self.since, self.slow) = (step, false);
        self.moves.push((step, format!("ordered to cn{}", to + 1)));
    }

    /// Looks whether the order is answered; `step` is the next one.
    fn take(&mut self, mover: &mut Mover, step: usize, limit: Duration) {
        let Some(outcome) = mover.outcome(limit) else { return };
        let name = match &outcome {
            Outcome::Moved => "moved".to_string(),
            Outcome::There => "there already".to_string(),
            Outcome::Held(hold) => format!("held: {hold}"),
            Outcome::Failed(said) => format!("failed: {said}"),
        };
        *self.tally.orders.entry(name.clone()).or_default() += 1;
        self.moves.push((step, name));
        match outcome {
            Outcome::Held(hold) if !self.explained(hold, step) => {
                self.complaints.push(format!("before step {step}: held by {hold}, which no step explains"));
            }
            Outcome::Failed(said) if self.slow && said.contains(NEVER_SILENT) => (),
            Outcome::Failed(said) => self.complaints.push(format!("before step {step}: {said}")),
            _ => (),
        }
    }

    /// Whether some step from just before the order up to now may cause this hold.
    fn explained(&self, hold: &str, step: usize) -> bool {
        self.stream.steps[self.since.saturating_sub(1)..step]
            .iter()
            .any(|planned| planned.holds.contains(hold))
    }
}

fn judge(stream: &Stream, direct: &Record, through: &Record) -> Result<(), String> {
    let mut wrong = String::new();
    if direct.login != through.login {
        let _ = writeln!(wrong, "the login:\n{}", difference(&direct.login, &through.login));
    }
    let mut pairs = direct.answers.iter().zip(&through.answers).enumerate();
    let differs = pairs.position(|(step, (a, b))| a != b && !asks_past_an_error(stream, direct, step));
    if let Some(step) = differs {
        let _ = writeln!(wrong, "step {step}: {}", stream.steps[step].step);
        wrong += &answer_difference(&direct.answers[step], &through.answers[step]);
    }
    for complaint in &through.complaints {
        let _ = writeln!(wrong, "{complaint}");
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{}{wrong}", story(stream, through, differs)))
}

/// Whether a step asks for counts behind a statement that failed: some such errors leave the counts of the statement before, which
/// do not move along.
fn asks_past_an_error(stream: &Stream, direct: &Record, step: usize) -> bool {
    let Step::Query(text) = &stream.steps[step].step else { return false };
    let text = String::from_utf8_lossy(text);
    let asks = text.contains("ROW_COUNT()") || text.contains("FOUND_ROWS()");
    let before = step.checked_sub(1).and_then(|before| direct.answers[before].as_ref().ok());
    let last = before.and_then(|replies| replies.last()?.last());
    asks && last.is_some_and(|packet| packet.payload.first() == Some(&ERR))
}

/// The stream up to where it differs, with its moves.
fn story(stream: &Stream, through: &Record, differs: Option<usize>) -> String {
    let mut story = format!(
        "seed {}: capabilities {:#x} and {:#x}, collation {}\n",
        stream.seed, stream.capabilities, stream.extended, stream.collation
    );
    let last = differs.unwrap_or(stream.steps.len() - 1);
    for (n, planned) in stream.steps.iter().enumerate().take(last + 1) {
        for (_, what) in through.moves.iter().filter(|(step, _)| *step == n) {
            let _ = writeln!(story, "       -- {what}");
        }
        let text: String = planned.step.to_string().chars().take(SHOWN).collect();
        let _ = writeln!(story, "  {n:3}: {text}");
    }
    story
}

fn answer_difference(direct: &Result<Vec<Reply>, String>, through: &Result<Vec<Reply>, String>) -> String {
    match (direct, through) {
        (Ok(direct), Ok(through)) => {
            let both = direct.iter().zip(through).enumerate().find(|(_, (a, b))| a != b);
            both.map_or_else(String::new, |(n, (a, b))| format!("reply {n}:\n{}", difference(a, b)))
        }
        (direct, through) => {
            let short = |answer: &Result<_, String>| match answer {
                Ok(_) => "answered".to_string(),
                Err(why) => format!("broke: {why}"),
            };
            format!("  direct:  {}\n  through: {}\n", short(direct), short(through))
        }
    }
}

/// The first packet that differs.
fn difference(direct: &Reply, through: &Reply) -> String {
    let common = direct.iter().zip(through).take_while(|(a, b)| a == b).count();
    let show = |reply: &Reply| match reply.get(common) {
        Some(packet) => {
            let shown = &packet.payload[..packet.payload.len().min(SHOWN)];
            format!("#{} {} bytes: {}", packet.sequence, packet.payload.len(), shown.escape_ascii())
        }
        None => "nothing".to_string(),
    };
    format!(
        "packet {common} of {} and {}\n  direct:  {}\n  through: {}\n",
        direct.len(),
        through.len(),
        show(direct),
        show(through)
    )
}
