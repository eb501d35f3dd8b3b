//! What ordinary clients ask by themselves when they connect, and what they hear.
//!
//! Command line clients, drivers and tools look at variables of the server before they let their user speak; some end the
//! connection where one is missing. What they hear is what a server of version 8.0 would tell that has nothing of what
//! they ask about: no query cache, no performance schema, no databases. Nothing here can be set.

use super::pattern::Pattern;
use super::session::{Refusal, SILENCE_MAX, VERSION};
use super::show::{Cell, Kind, Table, fits, text};
use crate::coordinator::desk::Desk;
use crate::metrics::{Count, Counters};

/// A variable's value.
#[derive(Clone, Copy)]
enum Is {
    Text(&'static str),
    Number(u64),
    Null,
}

/// Every variable that the door has, by name.
const VARIABLES: [(&str, Is); 36] = [
    ("auto_increment_increment", Is::Number(1)),
    ("autocommit", Is::Number(1)),
    ("character_set_client", Is::Text("utf8mb4")),
    ("character_set_connection", Is::Text("utf8mb4")),
    ("character_set_database", Is::Text("utf8mb4")),
    ("character_set_results", Is::Text("utf8mb4")),
    ("character_set_server", Is::Text("utf8mb4")),
    ("character_set_system", Is::Text("utf8mb4")),
    ("collation_connection", Is::Text("utf8mb4_general_ci")),
    ("collation_database", Is::Text("utf8mb4_general_ci")),
    ("collation_server", Is::Text("utf8mb4_general_ci")),
    ("have_query_cache", Is::Text("NO")),
    ("init_connect", Is::Text("")),
    ("interactive_timeout", Is::Number(SILENCE_MAX.as_secs())),
    ("language", Is::Text("en_US")),
    ("license", Is::Text("Apache-2.0")),
    ("lower_case_file_system", Is::Text("OFF")),
    ("lower_case_table_names", Is::Number(0)),
    ("max_allowed_packet", Is::Number(super::line::PACKET_MAX as u64)),
    ("net_buffer_length", Is::Number(16_384)),
    ("net_write_timeout", Is::Number(60)),
    ("performance_schema", Is::Number(0)),
    ("query_cache_size", Is::Number(0)),
    ("query_cache_type", Is::Text("OFF")),
    ("socket", Is::Null),
    ("sql_mode", Is::Text("")),
    ("sql_select_limit", Is::Number(u64::MAX)),
    ("system_time_zone", Is::Text("SYSTEM")),
    ("time_zone", Is::Text("SYSTEM")),
    ("transaction_isolation", Is::Text("REPEATABLE-READ")),
    ("transaction_read_only", Is::Number(0)),
    ("tx_isolation", Is::Text("REPEATABLE-READ")),
    ("tx_read_only", Is::Number(0)),
    ("version", Is::Text(VERSION)),
    ("version_comment", Is::Text("corelane admin")),
    ("wait_timeout", Is::Number(SILENCE_MAX.as_secs())),
];

/// `SELECT @@name`; what the door does not have is MySQL's ERR 1193.
pub fn variable(name: &str) -> Result<(Kind, Cell), Refusal> {
    match VARIABLES.iter().find(|(known, _)| *known == name) {
        Some((_, Is::Number(n))) => Ok((Kind::Number, Cell::Number(*n))),
        Some((_, Is::Text(text))) => Ok((Kind::Text, (*text).into())),
        Some((_, Is::Null)) => Ok((Kind::Text, Cell::Null)),
        None => Err(Refusal {
            code: 1193,
            sqlstate: b"HY000",
            message: format!("Unknown system variable '{}'", name.escape_debug()),
        }),
    }
}

/// `SHOW VARIABLES`
pub fn variables(like: Option<&Pattern>) -> Table {
    let shown = VARIABLES.iter().map(|(name, is)| match is {
        Is::Number(n) => (*name, Cell::Text(n.to_string())),
        Is::Text(text) => (*name, (*text).into()),
        Is::Null => (*name, Cell::Null),
    });
    named(shown, like)
}

/// `SHOW STATUS`
pub fn status(desk: &Desk, like: Option<&Pattern>) -> Table {
    let sum = |count: fn(&Counters) -> &Count| -> u64 {
        desk.workers().iter().map(|facts| count(&facts.counters).get()).sum()
    };
    let counted = [
        ("Connections", sum(|counters| &counters.accepted)),
        ("Questions", sum(|counters| &counters.commands)),
        ("Threads_connected", sum(|counters| &counters.sessions)),
        ("Uptime", desk.started().elapsed().as_secs()),
    ];
    named(counted.into_iter().map(|(name, n)| (name, Cell::Text(n.to_string()))), like)
}

/// `SHOW DATABASES`: there are none.
pub fn databases() -> Table {
    Table { columns: vec![text("Database")], rows: Vec::new() }
}

/// `SHOW WARNINGS`: there are never any.
pub fn warnings() -> Table {
    let number = super::show::number("Code");
    Table { columns: vec![text("Level"), number, text("Message")], rows: Vec::new() }
}

/// COM_STATISTICS
pub fn statistics(desk: &Desk) -> String {
    let told = status(desk, None);
    let value = |name: &str| {
        let row = told.rows.iter().find(|row| row[0] == Cell::from(name));
        match row.map(|row| &row[1]) {
            Some(Cell::Text(value)) => value.clone(),
            _ => String::new(),
        }
    };
    let [uptime, threads, questions] = ["Uptime", "Threads_connected", "Questions"].map(value);
    format!("Uptime: {uptime}  Threads: {threads}  Questions: {questions}")
}

fn named<'n>(all: impl Iterator<Item = (&'n str, Cell)>, like: Option<&Pattern>) -> Table {
    let shown = all.filter(|(name, _)| fits(like, name));
    Table {
        columns: vec![text("Variable_name"), text("Value")],
        rows: shown.map(|(name, value)| vec![name.into(), value]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_in_order_and_each_can_be_selected() {
        assert!(VARIABLES.is_sorted_by_key(|(name, _)| *name));
        for (name, _) in VARIABLES {
            assert!(variable(name).is_ok());
        }
        assert_eq!(variable("wsrep_on").unwrap_err().message, "Unknown system variable 'wsrep_on'");
        let like = Pattern::new("tx\\_%");
        assert_eq!(variables(Some(&like)).rows.len(), 2);
    }
}
