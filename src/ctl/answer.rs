//! What the admin door answers, and how it is shown: as a table or as JSON.
//!
//! Values are what the text protocol carried. Control characters are escaped in tables, because a client
//! chooses its own user name and must not reach the operator's terminal with it.

use std::fmt::Write as _;

use mysql_async::consts::ColumnType;
use mysql_async::{Row, Value};

/// One result set, or one OK without rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Empty for an OK.
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Rows that an OK counts.
    pub affected: u64,
    /// What an OK says in words.
    pub info: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub numeric: bool,
}

/// None is NULL.
pub type Cell = Option<String>;

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Tables, and a line under each that counts its rows.
    Terminal,
    /// Tables alone; nothing where there are no rows.
    Table,
    /// For each result set one array of objects, in a line of its own.
    Json,
}

impl Answer {
    pub(super) fn new(columns: &[mysql_async::Column], rows: Vec<Row>, affected: u64, info: String) -> Self {
        let columns = columns.iter().map(|column| Column {
            name: column.name_str().into_owned(),
            numeric: is_numeric(column.column_type()),
        });
        Self {
            columns: columns.collect(),
            rows: rows.into_iter().map(|row| row.unwrap_raw().into_iter().map(cell).collect()).collect(),
            affected,
            info,
        }
    }
}

impl Form {
    pub fn render(self, answers: &[Answer]) -> String {
        let shown = answers.iter().map(|answer| match self {
            Self::Json => json(answer) + "\n",
            Self::Table => table(answer),
            Self::Terminal => table(answer) + &count_line(answer),
        });
        shown.collect()
    }
}

/// The answer as an aligned table, numbers to the right; nothing where there are no rows.
pub fn table(answer: &Answer) -> String {
    if answer.rows.is_empty() {
        return String::new();
    }
    let heads: Vec<String> = answer.columns.iter().map(|column| visible(&column.name)).collect();
    let rows: Vec<Vec<String>> = answer
        .rows
        .iter()
        .map(|row| row.iter().map(|cell| cell.as_deref().map_or("NULL".to_owned(), visible)).collect())
        .collect();
    let width = |at: usize| rows.iter().chain([&heads]).map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let mut text = format!("{rule}+\n");
    push_line(&mut text, &heads, &widths, |_| false);
    text += &format!("{rule}+\n");
    for row in &rows {
        push_line(&mut text, row, &widths, |at| answer.columns[at].numeric);
    }
    text + &format!("{rule}+\n")
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize], right: impl Fn(usize) -> bool) {
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _ = match right(at) {
            true => write!(text, "| {cell:>width$} "),
            false => write!(text, "| {cell:<width$} "),
        };
    }
    text.push_str("|\n");
}

/// An array with an object for each row; keys stand in the order of the columns.
fn json(answer: &Answer) -> String {
    let names: Vec<String> = answer.columns.iter().map(|column| quoted(&column.name)).collect();
    let rows = answer.rows.iter().map(|row| {
        let fields = row
            .iter()
            .enumerate()
            .map(|(at, cell)| format!("{}:{}", names[at], json_value(cell, answer.columns[at].numeric)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

fn json_value(cell: &Cell, numeric: bool) -> String {
    match cell {
        None => "null".to_owned(),
        // Digits go through as they are: no float in between may change a big number.
        Some(text) if numeric && serde_json::from_str::<serde_json::Number>(text).is_ok() => text.clone(),
        Some(text) => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn count_line(answer: &Answer) -> String {
    let plural = |count: u64| if count == 1 { "row" } else { "rows" };
    if answer.columns.is_empty() {
        let said =
            if answer.info.is_empty() { String::new() } else { format!(": {}", visible(&answer.info)) };
        return format!("Query OK, {} {} affected{said}\n", answer.affected, plural(answer.affected));
    }
    match answer.rows.len() as u64 {
        0 => "Empty set\n".to_owned(),
        count => format!("{count} {} in set\n", plural(count)),
    }
}

pub(super) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn cell(value: Option<Value>) -> Cell {
    match value? {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        // The text protocol has bytes only; these come of the binary one.
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        other => Some(other.as_sql(true)),
    }
}

fn is_numeric(kind: ColumnType) -> bool {
    use ColumnType::*;
    matches!(
        kind,
        MYSQL_TYPE_TINY
            | MYSQL_TYPE_SHORT
            | MYSQL_TYPE_INT24
            | MYSQL_TYPE_LONG
            | MYSQL_TYPE_LONGLONG
            | MYSQL_TYPE_FLOAT
            | MYSQL_TYPE_DOUBLE
            | MYSQL_TYPE_DECIMAL
            | MYSQL_TYPE_NEWDECIMAL
            | MYSQL_TYPE_YEAR
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let column = |name: &str, numeric| Column { name: name.to_owned(), numeric };
        Answer {
            columns: vec![column("id", false), column("sessions", true)],
            rows: vec![
                vec![Some("cn1".to_owned()), Some("18446744073709551615".to_owned())],
                vec![Some("a\u{1b}\"b".to_owned()), None],
            ],
            affected: 0,
            info: String::new(),
        }
    }

    #[test]
    fn tables_align_and_escape() {
        assert_eq!(
            Form::Terminal.render(&[answer()]),
            "\
+-----------+----------------------+
| id        | sessions             |
+-----------+----------------------+
| cn1       | 18446744073709551615 |
| a\\u{1b}\"b |                 NULL |
+-----------+----------------------+
2 rows in set
"
        );
    }

    #[test]
    fn json_keeps_numbers_and_null() {
        let expected = "[{\"id\":\"cn1\",\"sessions\":18446744073709551615},\
                        {\"id\":\"a\\u001b\\\"b\",\"sessions\":null}]\n";
        assert_eq!(Form::Json.render(&[answer()]), expected);
    }

    #[test]
    fn no_rows_are_an_empty_array_or_nothing() {
        let empty = Answer { rows: Vec::new(), ..answer() };
        assert_eq!(Form::Json.render(std::slice::from_ref(&empty)), "[]\n");
        assert_eq!(Form::Table.render(std::slice::from_ref(&empty)), "");
        assert_eq!(Form::Terminal.render(&[Answer::default()]), "Query OK, 0 rows affected\n");
        let done = Answer { info: "cn1 drains\u{1b}".into(), ..Answer::default() };
        let told = Form::Terminal.render(&[done]);
        assert!(
            told.starts_with("Query OK, 0 rows affected: cn1 drains") && !told.contains('\u{1b}'),
            "{told}"
        );
    }
}
