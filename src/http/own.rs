//! Corelane's metrics by its own names, `corelane_..`: the process, the workers, the moves, the CNs.
//!
//! What a worker counts is told for each worker, and what is known of a CN for each CN, so sums are for whoever asks.
//! Holds are not here: to count them every session has to be looked at, which `SHOW HOLDS` does on demand.

use std::fmt::Result;

use super::family::{Families, Labels};
use super::scrape::{Scrape, WorkerNumber};
use crate::coordinator::desk::{CnRow, WorkerFacts};
use crate::coordinator::logbook::CnCounts;
use crate::metrics::{Counters, EndedBy, Refused, TimedOut};
use crate::route::{CnState, Flavour, WorkState};

/// One number of each worker: name, meaning, where it is.
type OfWorker = (&'static str, &'static str, fn(&Counters) -> u64);

/// One of the counts of a CN, and the value of the label that tells it from others.
type CnNumber = (&'static str, fn(CnCounts) -> u64);

const GAUGES: [OfWorker; 3] = [
    ("corelane_sessions", "Sessions open now, those still logging in included.", |c| c.sessions.get()),
    ("corelane_moves_waiting", "Sessions told to move that wait for their turn.", |c| c.moves.waiting.get()),
    (
        "corelane_moves_under_way",
        "Sessions told to move whose new connection is being opened, or waits for them to be quiet.",
        |c| c.moves.under_way.get(),
    ),
];

const COUNTERS: [OfWorker; 14] = [
    ("corelane_sessions_accepted", "Connections accepted from clients.", |c| c.accepted.get()),
    ("corelane_logins", "Logins that a CN let in.", |c| c.logins.get()),
    ("corelane_login_retries", "CNs that could not take a login, so that another one was looked for.", |c| {
        c.retries.get()
    }),
    ("corelane_commands", "Commands forwarded to CNs.", |c| c.commands.get()),
    ("corelane_worker_turns", "Turns of the worker's loop.", |c| c.turns.get()),
    (
        "corelane_buffer_starvations",
        "Times that a connection found no receive buffer and had to wait for one.",
        |c| c.starved.get(),
    ),
    ("corelane_reports_dropped", "Reports to the coordinator that did not fit into its mailbox.", |c| {
        c.reports_dropped.get()
    }),
    (
        "corelane_statements_stopped",
        "Statements under way at the end of their sessions, stopped on their CNs.",
        |c| c.statements_stopped.get(),
    ),
    (
        "corelane_statements_left",
        "Statements under way at the end of their sessions, left to their CNs.",
        |c| c.statements_left.get(),
    ),
    ("corelane_panics", "Sessions and moves that ended by a bug of corelane.", |c| c.panics.get()),
    ("corelane_sessions_handed_over", "Sessions that left for another worker.", |c| c.handed_over.get()),
    ("corelane_sessions_adopted", "Sessions that came from another worker.", |c| c.adopted.get()),
    ("corelane_moves_ordered", "Sessions told to move to another CN.", |c| c.moves.ordered.get()),
    ("corelane_sessions_reopened", "Sessions of a lost CN that were opened anew at another one.", |c| {
        c.moves.reopened.get()
    }),
];

/// What becomes of a session that was told to move and lives on; one that is called off is none of these.
const OUTCOMES: [WorkerNumber; 3] = [
    ("done", |c| c.moves.done.get()),
    ("failed", |c| c.moves.failed.get()),
    ("held_back", |c| c.moves.held_back.get()),
];

const SIDES: [WorkerNumber; 2] = [("client", |c| c.bytes_in.get()), ("cn", |c| c.bytes_out.get())];

const PROBES: [CnNumber; 2] = [("well", |c| c.probes_well), ("failed", |c| c.probes_failed)];

const FAILURES: [CnNumber; 4] = [
    ("refused", |c| c.refused),
    ("timed_out", |c| c.timed_out),
    ("unwilling", |c| c.unwilling),
    ("lost", |c| c.lost),
];

/// The states of `SHOW CNS`.
const STATES: [&str; 5] = ["working", "cooling", "down", "draining", "drained"];

pub fn write(scrape: &Scrape, families: &mut Families<'_>) -> Result {
    process(scrape, families)?;
    let workers = Workers::of(&scrape.workers);
    workers.write_traffic(families)?;
    workers.write_moves(families)?;
    let help = "How long sessions that moved could not serve their clients.";
    families.pauses("corelane_move_pause_seconds", help, &scrape.pauses())?;
    cns(scrape, families)
}

fn process(scrape: &Scrape, families: &mut Families<'_>) -> Result {
    let logbook = &scrape.overview.logbook;
    let build = vec![("version", env!("CARGO_PKG_VERSION")), ("commit", commit())];
    families.gauge("corelane_build_info", "Always 1; which corelane this is.", [(build, 1)])?;
    let uptime = [(vec![], scrape.uptime.as_secs_f64())];
    families.gauge("corelane_uptime_seconds", "How long corelane has been running.", uptime)?;
    let epoch = scrape.overview.view.epoch.0;
    let help = "Version of the CN table that logins are routed by; grows with every change.";
    families.gauge("corelane_view_epoch", help, [(vec![], epoch)])?;
    let reloads = [
        (vec![("outcome", "taken_up")], logbook.reloads),
        (vec![("outcome", "refused")], logbook.reloads_refused),
    ];
    families.counter("corelane_config_reloads", "Times that the configuration was read again.", reloads)?;
    let help = "Drains of CNs that have begun.";
    families.counter("corelane_drains", help, [(vec![], logbook.drains)])?;
    let travellers = u64::from(scrape.overview.travellers);
    let help = "Sessions on their way between two workers, which no worker counts.";
    families.gauge("corelane_sessions_in_transit", help, [(vec![], travellers)])?;
    let help = "Addresses that are shut out because their clients have failed again and again.";
    families.gauge("corelane_hosts_blocked", help, [(vec![], scrape.hosts_blocked as u64)])
}

/// What it was built from, where the build was told.
fn commit() -> &'static str {
    match env!("CORELANE_COMMIT") {
        "commit unknown" => "unknown",
        commit => commit,
    }
}

/// The workers with their numbers as labels have them.
struct Workers<'w>(Vec<(String, &'w WorkerFacts)>);

impl<'w> Workers<'w> {
    fn of(workers: &'w [WorkerFacts]) -> Self {
        Self(workers.iter().map(|facts| (facts.worker.to_string(), facts)).collect())
    }

    fn write_traffic(&self, families: &mut Families<'_>) -> Result {
        let cpus: Vec<_> = self.0.iter().map(|(_, facts)| facts.cpu.to_string()).collect();
        let info = self
            .0
            .iter()
            .zip(&cpus)
            .map(|((worker, _), cpu)| (vec![("worker", worker.as_str()), ("cpu", cpu.as_str())], 1));
        families.gauge("corelane_worker_info", "Always 1; which CPU the worker runs on.", info)?;
        for (name, help, number) in GAUGES {
            families.gauge(name, help, self.each(number))?;
        }
        for (name, help, number) in COUNTERS {
            families.counter(name, help, self.each(number))?;
        }
        let help = "Bytes received from clients and from CNs, to be forwarded to the other side.";
        families.counter("corelane_received_bytes", help, self.by("from", &SIDES))?;
        let refusals = self.0.iter().flat_map(|(worker, facts)| {
            Refused::ALL.map(|why| {
                let labels = vec![("worker", worker.as_str()), ("why", why.name())];
                (labels, facts.counters.refusals.get(why))
            })
        });
        let help = "Sessions that ended before they were let in.";
        families.counter("corelane_sessions_refused", help, refusals)?;
        let ends = self.0.iter().flat_map(|(worker, facts)| {
            EndedBy::ALL.map(|by| {
                let labels = vec![("worker", worker.as_str()), ("by", by.name())];
                (labels, facts.counters.ends.get(by))
            })
        });
        let timeouts = self.0.iter().flat_map(|(worker, facts)| {
            TimedOut::ALL.map(|over| {
                let labels = vec![("worker", worker.as_str()), ("what", over.name())];
                (labels, facts.counters.timeouts.get(over))
            })
        });
        let help = "Sessions that ended because they were idle for too long, statements stopped because they took too long.";
        families.counter("corelane_timeouts", help, timeouts)?;
        families.counter(
            "corelane_sessions_ended",
            "Sessions that were let in and have ended, by whom.",
            ends,
        )
    }

    fn write_moves(&self, families: &mut Families<'_>) -> Result {
        let help = "Sessions that were told to move and have moved or stayed.";
        families.counter("corelane_moves", help, self.by("outcome", &OUTCOMES))
    }

    fn each(&self, number: fn(&Counters) -> u64) -> impl Iterator<Item = (Labels<'_>, u64)> {
        let samples = self.0.iter();
        samples.map(move |(worker, facts)| (vec![("worker", worker.as_str())], number(&facts.counters)))
    }

    /// A number for each worker and each value of a further label.
    fn by<'l>(
        &'l self,
        label: &'static str,
        numbers: &'l [WorkerNumber],
    ) -> impl Iterator<Item = (Labels<'l>, u64)> {
        self.0.iter().flat_map(move |(worker, facts)| {
            numbers.iter().map(move |(value, number)| {
                (vec![("worker", worker.as_str()), (label, *value)], number(&facts.counters))
            })
        })
    }
}

fn cns(scrape: &Scrape, families: &mut Families<'_>) -> Result {
    let rows = &scrape.overview.cns;
    let sessions = rows.iter().map(|row| (labels(row), u64::from(row.sessions)));
    families.gauge("corelane_cn_sessions", "Sessions that have a place on the CN.", sessions)?;
    let weights = rows.iter().map(|row| (labels(row), u64::from(row.cn.weight)));
    families.gauge("corelane_cn_weight", "The share of sessions that the CN should have.", weights)?;
    let states = rows
        .iter()
        .flat_map(|row| STATES.map(|state| (with(row, "state", state), u64::from(state == state_of(row)))));
    families.gauge("corelane_cn_state", "1 for the state that the CN is in, 0 for the others.", states)?;
    let took = rows.iter().filter_map(|row| Some((labels(row), row.probe?.as_secs_f64())));
    families.gauge("corelane_cn_probe_seconds", "How long the last good probe of the CN took.", took)?;
    let counts = |label, numbers| by_kind(scrape, label, numbers);
    families.counter("corelane_cn_probes", "Probes of the CN.", counts("outcome", &PROBES[..]))?;
    let help = "What sessions met at the CN: connections refused, logins that timed out or were turned away, sessions lost.";
    families.counter("corelane_cn_failures", help, counts("kind", &FAILURES[..]))
}

fn by_kind<'s>(
    scrape: &'s Scrape,
    label: &'static str,
    numbers: &'static [CnNumber],
) -> impl Iterator<Item = (Labels<'s>, u64)> {
    scrape.overview.cns.iter().flat_map(move |row| {
        let counts = scrape.overview.logbook.cn(row.cn.slot);
        numbers.iter().map(move |(value, number)| (with(row, label, value), number(counts)))
    })
}

fn labels(row: &CnRow) -> Labels<'_> {
    vec![("cn", &*row.cn.id), ("flavour", flavour(row.cn.flavour))]
}

fn with<'r>(row: &'r CnRow, label: &'static str, value: &'r str) -> Labels<'r> {
    let mut labels = labels(row);
    labels.push((label, value));
    labels
}

/// What an operator wants of it comes before its health, as in `SHOW CNS`.
fn state_of(row: &CnRow) -> &'static str {
    match (row.cn.work, row.cn.state) {
        (WorkState::Draining, _) => "draining",
        (WorkState::Drained, _) => "drained",
        (WorkState::Working, CnState::Working) => "working",
        (WorkState::Working, CnState::Cooling) => "cooling",
        (WorkState::Working, CnState::Down) => "down",
    }
}

fn flavour(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Mysql => "mysql",
        Flavour::Matrixone => "matrixone",
    }
}
