//! Each `SHOW` as columns and rows, nothing else.
//!
//! It asks nobody and sends nothing. Columns are only ever added at the end: scripts read them by name
//! and by place.

use std::time::Duration;

use crate::coordinator::desk::{CnRow, Roll, WorkerFacts};
use crate::mailbox::hosts::{Fault, Host};
use crate::mailbox::message::SessionRow;
use crate::metrics::{Moves, PauseSummary};
use crate::route::{Flavour, WorkState};
use crate::session::hold::Hold;

use super::pattern::Pattern;

/// What a column holds; a number is an unsigned 64-bit integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Null,
    Text(String),
    Number(u64),
}

/// A result set: every row has a cell for every column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

/// `SHOW CNS`; a pattern chooses by id.
pub fn cns(cns: &[CnRow], like: Option<&Pattern>) -> Table {
    let columns = [
        text("id"),
        text("address"),
        text("flavour"),
        text("state"),
        text("labels"),
        number("weight"),
        number("sessions"),
        text("version"),
        number("probe_ms"),
        text("last_error"),
        text("data"),
        text("source"),
        number("max_sessions"),
    ];
    let shown = cns.iter().filter(|row| fits(like, &row.cn.id));
    Table { columns: columns.into(), rows: shown.map(cn).collect() }
}

/// `SHOW SESSIONS`; a pattern chooses by user. A worker that did not answer has one row that says so.
pub fn sessions(roll: &Roll, like: Option<&Pattern>) -> Table {
    let columns = [
        number("id"),
        number("worker"),
        text("client"),
        text("user"),
        text("tenant"),
        text("labels"),
        text("cn"),
        text("state"),
        text("login"),
        number("commands"),
        number("age_s"),
        text("hold"),
        number("moves"),
        text("last_move"),
    ];
    let mut shown: Vec<_> = roll.rows.iter().filter(|row| fits(like, &row.user)).collect();
    shown.sort_by_key(|row| row.id);
    let silent = roll.silent.iter().map(|worker| {
        let mut row = vec![Cell::Null; columns.len()];
        row[1] = u64::from(worker.0).into();
        row[7] = "no answer".into();
        row
    });
    let rows = shown.into_iter().map(session).chain(silent).collect();
    Table { columns: columns.to_vec(), rows }
}

/// `SHOW WORKERS`; a pattern chooses by the worker's number.
pub fn workers(workers: &[WorkerFacts], like: Option<&Pattern>) -> Table {
    let columns = [
        "worker",
        "cpu",
        "sessions",
        "accepted",
        "logins",
        "refused",
        "commands",
        "bytes_in",
        "bytes_out",
        "turns",
        "starved",
        "panics",
        "reports_dropped",
        "handed_over",
        "adopted",
    ];
    let shown = workers.iter().filter(|facts| fits(like, &facts.worker.to_string()));
    Table { columns: columns.map(number).into(), rows: shown.map(worker).collect() }
}

/// `SHOW HOLDS`: why sessions cannot move now, the reasons in the order of telling; a pattern chooses by reason. A
/// session counts for the reason that `SHOW SESSIONS` gives. A worker that did not answer has a row that says so.
pub fn holds(roll: &Roll, like: Option<&Pattern>) -> Table {
    let columns = [text("hold"), number("sessions"), text("why")];
    let count = |hold: Hold| roll.rows.iter().filter(|row| row.hold == Some(hold)).count() as u64;
    let shown = Hold::ALL.into_iter().filter(|hold| fits(like, hold.name()));
    let counted = shown.map(|hold| (hold, count(hold))).filter(|(_, count)| *count > 0);
    let rows = counted.map(|(hold, count)| vec![hold.name().into(), count.into(), hold.why().into()]);
    let silent = roll.silent.iter().map(|worker| {
        vec!["no answer".into(), Cell::Null, Cell::Text(format!("worker {worker} has not answered"))]
    });
    Table { columns: columns.into(), rows: rows.chain(silent).collect() }
}

/// `SHOW MOVES`: a row for each worker and one, `all`, for all of them; a pattern chooses by that name.
pub fn moves(workers: &[WorkerFacts], like: Option<&Pattern>) -> Table {
    let numbers = ["ordered", "done", "failed", "held_back", "pause_p50_us", "pause_p99_us", "pause_max_us"];
    let columns = std::iter::once(text("worker")).chain(numbers.map(number)).collect();
    let each = workers.iter().map(|facts| (facts.worker.to_string(), vec![&facts.counters.moves]));
    let all = ("all".to_owned(), workers.iter().map(|facts| &facts.counters.moves).collect());
    let shown = each.chain([all]).filter(|(name, _)| fits(like, name));
    Table { columns, rows: shown.map(|(name, moves)| moves_of(name, &moves)).collect() }
}

/// `SHOW HOSTS`: the addresses whose clients have failed, and those that are shut out; a pattern chooses by address.
pub fn hosts(hosts: &[Host], like: Option<&Pattern>) -> Table {
    let columns = [
        text("host"),
        number("connect_errors"),
        number("failed_logins"),
        text("blocked_for"),
        number("blocked_s"),
    ];
    let shown = hosts.iter().map(|host| (host.ip.to_string(), host)).filter(|(ip, _)| fits(like, ip));
    let rows = shown.map(|(ip, host)| {
        let (fault, left) = host.blocked.unzip();
        vec![
            Cell::Text(ip),
            u64::from(host.connect_errors).into(),
            u64::from(host.failed_logins).into(),
            fault.map(Fault::name).into(),
            left.map(|left| left.as_secs() + 1).into(),
        ]
    });
    Table { columns: columns.into(), rows: rows.collect() }
}

/// `SHOW VERSION`; `uptime` is of the coordinator.
pub fn version(workers: usize, uptime: Duration) -> Table {
    let columns = [text("version"), number("pid"), number("workers"), number("uptime_s")];
    let row = vec![
        env!("CARGO_PKG_VERSION").into(),
        u64::from(std::process::id()).into(),
        (workers as u64).into(),
        uptime.as_secs().into(),
    ];
    Table { columns: columns.into(), rows: vec![row] }
}

pub fn text(name: &str) -> Column {
    Column { name: name.to_owned(), kind: Kind::Text }
}

pub fn number(name: &str) -> Column {
    Column { name: name.to_owned(), kind: Kind::Number }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl From<&str> for Cell {
    fn from(s: &str) -> Self {
        Self::Text(s.to_owned())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::Null, Into::into)
    }
}

pub fn fits(like: Option<&Pattern>, name: &str) -> bool {
    like.is_none_or(|pattern| pattern.matches(name))
}

fn cn(row: &CnRow) -> Vec<Cell> {
    vec![
        (&*row.cn.id).into(),
        (&*row.cn.address).into(),
        flavour(row.cn.flavour).into(),
        Cell::Text(match row.cn.work {
            WorkState::Working => row.cn.state.to_string(),
            work => work.to_string(),
        }),
        Cell::Text(row.cn.labels.to_string()),
        u64::from(row.cn.weight).into(),
        u64::from(row.sessions).into(),
        row.version.as_deref().into(),
        row.probe.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)).into(),
        row.last_error.as_deref().into(),
        row.cn.data.as_deref().into(),
        row.source.into(),
        row.cn.max_sessions.map_or(0, u64::from).into(),
    ]
}

fn session(row: &SessionRow) -> Vec<Cell> {
    vec![
        u64::from(row.id.0).into(),
        u64::from(row.worker.0).into(),
        row.client.as_str().into(),
        row.user.as_str().into(),
        row.tenant.as_str().into(),
        row.labels.as_str().into(),
        row.cn.as_deref().into(),
        row.state.into(),
        row.login.into(),
        row.commands.into(),
        row.age_s.into(),
        row.hold.map(Hold::name).into(),
        u64::from(row.moves).into(),
        row.last_move.as_deref().into(),
    ]
}

fn moves_of(name: String, all: &[&Moves]) -> Vec<Cell> {
    let sum = |count: fn(&Moves) -> &crate::metrics::Count| -> Cell {
        all.iter().map(|moves| count(moves).get()).sum::<u64>().into()
    };
    let pauses = PauseSummary::of(all.iter().map(|moves| &moves.pauses));
    vec![
        Cell::Text(name),
        sum(|moves| &moves.ordered),
        sum(|moves| &moves.done),
        sum(|moves| &moves.failed),
        sum(|moves| &moves.held_back),
        pauses.quantile(0.5).into(),
        pauses.quantile(0.99).into(),
        pauses.longest().into(),
    ]
}

fn worker(facts: &WorkerFacts) -> Vec<Cell> {
    let counters = &facts.counters;
    let counts = [
        &counters.sessions,
        &counters.accepted,
        &counters.logins,
        &counters.refused,
        &counters.commands,
        &counters.bytes_in,
        &counters.bytes_out,
        &counters.turns,
        &counters.starved,
        &counters.panics,
        &counters.reports_dropped,
        &counters.handed_over,
        &counters.adopted,
    ];
    let place = [Cell::from(u64::from(facts.worker.0)), Cell::from(facts.cpu as u64)];
    place.into_iter().chain(counts.map(|count| count.get().into())).collect()
}

fn flavour(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Mysql => "mysql",
        Flavour::Matrixone => "matrixone",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ident::{CnSlot, IdRange, WorkerId};
    use crate::metrics::Counters;
    use crate::route::label::Labels;
    use crate::route::{Cn, CnState};

    fn cn_row(id: &str) -> CnRow {
        let gold = ["gold", "silver"].map(String::from).to_vec();
        let labels = [("account".to_owned(), vec!["a1".to_owned()]), ("tier".to_owned(), gold)];
        let cn = Cn {
            slot: CnSlot(0),
            id: id.into(),
            address: "db:3306".into(),
            target: None,
            query: None,
            flavour: Flavour::Mysql,
            state: CnState::Down,
            labels: Labels(labels.into()),
            weight: 2,
            work: Default::default(),
            data: None,
            proxy_protocol: false,
            tls: None,
            max_sessions: Some(7),
        };
        let probe = Some(Duration::from_micros(3200));
        let last_error = Some("refused".into());
        CnRow { cn: Arc::new(cn), sessions: 5, version: None, last_error, probe, source: "file" }
    }

    fn session_row(worker: u16, user: &str) -> SessionRow {
        let worker = WorkerId(worker);
        SessionRow {
            id: IdRange::default().id(worker, 1),
            worker,
            client: "10.0.0.1:5".into(),
            user: user.into(),
            tenant: "sys".into(),
            labels: String::new(),
            cn: None,
            state: "login",
            login: "",
            commands: 7,
            hold: None,
            moves: 0,
            last_move: None,
            age_s: 1,
        }
    }

    /// The row as `name=value` for the columns whose cell is not NULL.
    fn told(table: &Table, row: usize) -> Vec<String> {
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        let cells = table.columns.iter().zip(&table.rows[row]);
        let told = cells.filter_map(|(column, cell)| match (cell, column.kind) {
            (Cell::Null, _) => None,
            (Cell::Text(s), Kind::Text) => Some(format!("{}={s}", column.name)),
            (Cell::Number(n), Kind::Number) => Some(format!("{}={n}", column.name)),
            (cell, kind) => panic!("{} is {kind:?} but holds {cell:?}", column.name),
        });
        told.collect()
    }

    #[test]
    fn cns_are_shown_as_known() {
        let table = cns(&[cn_row("cn1"), cn_row("other")], Some(&Pattern::new("cn%")));
        assert_eq!(table.rows.len(), 1);
        let expected = [
            "id=cn1",
            "address=db:3306",
            "flavour=mysql",
            "state=down",
            "labels=account=a1,tier=gold|silver",
            "weight=2",
            "sessions=5",
            "probe_ms=3",
            "last_error=refused",
            "source=file",
            "max_sessions=7",
        ];
        assert_eq!(told(&table, 0), expected);
    }

    #[test]
    fn sessions_are_ordered_and_silent_workers_named() {
        let rows = vec![session_row(1, "bob"), session_row(0, "ann")];
        let table = sessions(&Roll { rows, silent: vec![WorkerId(2)] }, None);
        assert_eq!(table.rows.len(), 3);
        assert!(told(&table, 0).contains(&"user=ann".to_owned()));
        assert!(told(&table, 1).contains(&"commands=7".to_owned()));
        assert_eq!(told(&table, 2), ["worker=2", "state=no answer"]);
    }

    #[test]
    fn a_cn_that_drains_says_so_before_its_health() {
        let mut row = cn_row("cn1");
        let cn = Arc::make_mut(&mut row.cn);
        (cn.work, cn.data) = (WorkState::Draining, Some("d1".into()));
        let told = told(&cns(&[row], None), 0);
        assert!(
            told.contains(&"state=draining".to_owned()) && told.contains(&"data=d1".to_owned()),
            "{told:?}"
        );
    }

    #[test]
    fn holds_are_counted_by_what_is_shown() {
        let mut rows: Vec<_> = (0..4).map(|worker| session_row(worker, "ann")).collect();
        for (row, hold) in rows.iter_mut().zip([Hold::Transaction, Hold::RelayLogin, Hold::Transaction]) {
            row.hold = Some(hold);
        }
        let table = holds(&Roll { rows, silent: vec![] }, None);
        assert_eq!(told(&table, 0)[..2], ["hold=relay_login", "sessions=1"]);
        assert_eq!(told(&table, 1), ["hold=transaction", "sessions=2", "why=a transaction is open"]);
        assert_eq!(table.rows.len(), 2);
    }

    #[test]
    fn moves_are_shown_by_worker_and_together() {
        let facts = |nth| WorkerFacts { worker: WorkerId(nth), cpu: 0, counters: Arc::default() };
        let workers = [facts(0), facts(1)];
        for (facts, pause) in workers.iter().zip([10, 1000]) {
            facts.counters.moves.ordered.add(2);
            facts.counters.moves.done.add(1);
            facts.counters.moves.pauses.add(pause);
        }
        let table = moves(&workers, None);
        assert_eq!(told(&table, 0)[..3], ["worker=0", "ordered=2", "done=1"]);
        let all = ["worker=all", "ordered=4", "done=2", "failed=0", "held_back=0", "pause_p50_us=10"];
        assert_eq!(told(&table, 2)[..6], all);
        assert_eq!(told(&table, 2)[7], "pause_max_us=1000");
        assert_eq!(moves(&workers, Some(&Pattern::new("all"))).rows.len(), 1);
    }

    #[test]
    fn hosts_are_shown_with_what_they_have_failed_at() {
        let host = |ip: &str, blocked| {
            let ip = ip.parse().unwrap();
            Host { ip, connect_errors: 2, failed_logins: 5, blocked }
        };
        let left = Duration::from_millis(29_500);
        let list = [host("10.0.0.1", None), host("::1", Some((Fault::Login, left)))];
        let table = hosts(&list, None);
        assert_eq!(told(&table, 0), ["host=10.0.0.1", "connect_errors=2", "failed_logins=5"]);
        assert_eq!(told(&table, 1)[3..], ["blocked_for=failed logins", "blocked_s=30"]);
        assert_eq!(hosts(&list, Some(&Pattern::new("10.%"))).rows.len(), 1);
    }

    #[test]
    fn workers_are_shown_by_their_counters() {
        let counters = Arc::new(Counters::default());
        counters.bytes_out.add(1 << 40);
        counters.sessions.add(3);
        let table = workers(&[WorkerFacts { worker: WorkerId(0), cpu: 4, counters }], None);
        let row = told(&table, 0);
        assert_eq!(row[..3], ["worker=0", "cpu=4", "sessions=3"]);
        assert!(row.contains(&format!("bytes_out={}", 1u64 << 40)));
    }

    #[test]
    fn the_version_is_ours() {
        let row = told(&version(2, Duration::from_secs(61)), 0);
        assert_eq!(row[0], format!("version={}", env!("CARGO_PKG_VERSION")));
        assert_eq!(row[2..], ["workers=2", "uptime_s=61"]);
    }
}
