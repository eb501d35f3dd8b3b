//! What a CN tells of all CNs of its cluster, judged row by row: `SHOW BACKEND SERVERS` of MatrixOne.
//!
//! A row has an id, an address, a work state in words and labels as `k:v1,v2;k2:v3;`. What comes out of it is held
//! to the rules of the configuration, and to two more: no Unix socket and no address of every interface, as both
//! would lead back to this machine. A row that breaks a rule is complained of and changes nothing, but its CN is
//! there nonetheless; where a row does not even say whose it is, nobody can be said to be missing.
//!
//! It asks nobody, and it does not know the table: what an answer changes there is in [`super::adopt`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::config::check;
use crate::route::WorkState;
use crate::route::label::Labels;

/// The longest labels of one CN, in bytes as they are told.
pub const LABELS_MAX: usize = 4096;

/// Characters of what was told that a complaint repeats.
const SHOWN_MAX: usize = 64;

/// A row as it came; a column that is NULL is empty.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    pub id: &'r [u8],
    pub address: &'r [u8],
    pub work: &'r [u8],
    pub labels: &'r [u8],
}

/// A CN as its cluster tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub address: String,
    pub labels: Labels,
    pub work: WorkState,
}

impl Found {
    /// Whether its cluster wants its sessions to go elsewhere.
    pub fn drains(&self) -> bool {
        self.work != WorkState::Working
    }
}

/// One answer with all its rows, whatever their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    found: BTreeMap<String, Found>,
    /// CNs that are there, but of which nothing more can be said.
    unclear: BTreeSet<String>,
    /// Somebody may be there that no row names.
    incomplete: bool,
    complaints: BTreeSet<String>,
}

impl Answer {
    /// Judges one row.
    pub fn take(&mut self, row: Row<'_>) {
        let id = match field("UUID", row.id).and_then(|id| check::id(id).map(|()| id).map_err(RowError::Id)) {
            Ok(id) => id,
            Err(error) => {
                self.incomplete = true;
                self.complaints.insert(format!("a row is passed over: {error}"));
                return;
            }
        };
        // Which of two rows holds, nobody can know.
        let twice = self.found.remove(id).is_some() || self.unclear.contains(id);
        match read(id, row) {
            Ok(_) if twice => self.pass_over(id, &RowError::Twice),
            Ok(found) => _ = self.found.insert(id.to_owned(), found),
            Err(error) => self.pass_over(id, &error),
        }
    }

    /// There were more rows than were taken.
    pub fn cut_short(&mut self) {
        self.incomplete = true;
        self.complaints.insert("there are more rows than are read".to_owned());
    }

    /// The CNs that were found, by id.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.found.values()
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether a CN that was not found may be there nonetheless.
    pub fn may_have(&self, id: &str) -> bool {
        self.incomplete || self.unclear.contains(id)
    }

    /// What is wrong with the answer, a sentence each.
    pub fn complaints(&self) -> &BTreeSet<String> {
        &self.complaints
    }

    fn pass_over(&mut self, id: &str, error: &RowError) {
        self.unclear.insert(id.to_owned());
        self.complaints.insert(format!("the row of {id} is passed over: {error}"));
    }
}

/// Why a row is passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RowError {
    #[error("its {0} is no text in UTF-8")]
    NotText(&'static str),
    #[error("its {0} has a control character")]
    Control(&'static str),
    #[error("its UUID is not the id of a CN: {0}")]
    Id(String),
    #[error("bad address `{text}`: {why}")]
    Address { text: String, why: String },
    #[error("`{0}` is not a work state")]
    Work(String),
    #[error("its labels have {0} bytes, more than {LABELS_MAX}")]
    LongLabels(usize),
    #[error("bad labels: {0}")]
    Labels(String),
    #[error("it is there twice")]
    Twice,
}

fn read(id: &str, row: Row<'_>) -> Result<Found, RowError> {
    let address = field("address", row.address)?;
    if let Err(why) = check_address(address) {
        return Err(RowError::Address { text: shown(address), why });
    }
    Ok(Found {
        id: id.to_owned(),
        address: address.to_owned(),
        work: work(field("work state", row.work)?)?,
        labels: labels(row.labels)?,
    })
}

fn field<'r>(name: &'static str, bytes: &'r [u8]) -> Result<&'r str, RowError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RowError::NotText(name))?;
    if text.chars().any(char::is_control) { Err(RowError::Control(name)) } else { Ok(text) }
}

fn check_address(text: &str) -> Result<(), String> {
    check::address(text)?;
    if text.starts_with("unix:") {
        return Err("a Unix socket is on the CN's own machine".to_owned());
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => Err("every interface is no address".to_owned()),
        _ => Ok(()),
    }
}

/// MatrixOne's proxy gives sessions to a CN whose state is unknown, too.
fn work(text: &str) -> Result<WorkState, RowError> {
    match text.to_ascii_lowercase().as_str() {
        "working" | "unknown" => Ok(WorkState::Working),
        "draining" => Ok(WorkState::Draining),
        "drained" => Ok(WorkState::Drained),
        _ => Err(RowError::Work(shown(text))),
    }
}

/// `k:v1,v2;k2:v3;`
fn labels(bytes: &[u8]) -> Result<Labels, RowError> {
    if bytes.len() > LABELS_MAX {
        return Err(RowError::LongLabels(bytes.len()));
    }
    let mut labels = BTreeMap::new();
    for part in field("list of labels", bytes)?.split(';').filter(|part| !part.is_empty()) {
        let Some((key, values)) = part.split_once(':') else {
            return Err(RowError::Labels(format!("`{}` is not `key:value`", shown(part))));
        };
        let values = values.split(',').map(str::to_owned).collect();
        if labels.insert(key.to_owned(), values).is_some() {
            return Err(RowError::Labels(format!("`{}` is there twice", shown(key))));
        }
    }
    let labels = Labels(labels);
    check::labels(&labels).map_err(RowError::Labels)?;
    Ok(labels)
}

/// The beginning of a text, for a sentence.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn row<'r>(id: &'r str, address: &'r str, work: &'r str, labels: &'r str) -> Row<'r> {
        Row {
            id: id.as_bytes(),
            address: address.as_bytes(),
            work: work.as_bytes(),
            labels: labels.as_bytes(),
        }
    }

    /// An answer of these rows: id, address, work state, labels.
    pub(crate) fn answer(rows: &[(&str, &str, &str, &str)]) -> Answer {
        let mut answer = Answer::default();
        for (id, address, work, labels) in rows {
            answer.take(row(id, address, work, labels));
        }
        answer
    }

    const A: &str = "10.0.0.1:6001";

    #[test]
    fn a_row_becomes_a_cn() {
        let answer = answer(&[
            ("dd1dccb4-4d3c-41f8-b482-5251dc7a41bf", A, "Working", "account:a1,a*;tier:gold;"),
            ("cn-1", "cn-1.cns.svc:6001", "Draining", ""),
            ("cn-2", "[fd00::2]:6001", "DRAINED", "role:tp"),
            ("cn-3", "10.0.0.3:6001", "Unknown", ";"),
        ]);
        let told: Vec<_> =
            answer.found().map(|cn| format!("{} {} {} {}", cn.id, cn.address, cn.work, cn.labels)).collect();
        assert_eq!(
            told,
            [
                "cn-1 cn-1.cns.svc:6001 draining ",
                "cn-2 [fd00::2]:6001 drained role=tp",
                "cn-3 10.0.0.3:6001 working ",
                "dd1dccb4-4d3c-41f8-b482-5251dc7a41bf 10.0.0.1:6001 working account=a1|a*,tier=gold",
            ]
        );
        assert!(answer.complaints().is_empty() && !answer.may_have("cn-9"));
    }

    #[test]
    fn a_row_that_breaks_a_rule_is_named_and_its_cn_is_there_nonetheless() {
        let long = format!("k:{}", "v".repeat(LABELS_MAX));
        let wide = format!("k:{}", "é".repeat(100));
        for (row, expected) in [
            (row("a", "", "Working", ""), "bad address ``: no port"),
            (row("a", "10.0.0.1", "Working", ""), "bad address `10.0.0.1`: no port"),
            (row("a", "unix:/run/x.sock", "Working", ""), "a Unix socket is on the CN's own machine"),
            (row("a", "0.0.0.0:6001", "Working", ""), "every interface is no address"),
            (row("a", "[::]:6001", "Working", ""), "every interface is no address"),
            (row("a", "10.0.0.1:6001\n", "Working", ""), "its address has a control character"),
            (row("a", A, "", ""), "`` is not a work state"),
            (row("a", A, "Resting", ""), "`Resting` is not a work state"),
            (row("a", A, "Working", "account"), "bad labels: `account` is not `key:value`"),
            (row("a", A, "Working", "account:;"), "bad labels: label `account` has an empty value"),
            (row("a", A, "Working", ":x;"), "bad labels: a label has a name of 1 to 64 bytes"),
            (row("a", A, "Working", "k:a;k:b;"), "bad labels: `k` is there twice"),
            (row("a", A, "Working", "k:a\r\nb"), "its list of labels has a control character"),
            (row("a", A, "Working", &long), "its labels have 4098 bytes, more than 4096"),
            (row("a", A, &wide, ""), "éé..` is not a work state"),
            (Row { labels: b"\xff", ..row("a", A, "Working", "") }, "its list of labels is no text in UTF-8"),
        ] {
            let mut answer = Answer::default();
            answer.take(row);
            let said: Vec<_> = answer.complaints().iter().collect();
            assert!(said.len() == 1 && said[0].starts_with("the row of a is passed over: "), "{said:?}");
            assert!(said[0].contains(expected) && said[0].len() < 300, "{said:?}");
            assert!(answer.is_empty() && answer.may_have("a") && !answer.may_have("b"));
        }
    }

    #[test]
    fn where_a_row_does_not_say_whose_it_is_nobody_is_missing() {
        let long = "x".repeat(65);
        for id in ["", "a\nb", &long] {
            let answer = answer(&[(id, A, "Working", ""), ("b", A, "Working", "")]);
            assert!(answer.may_have("anybody"), "{id:?}");
            assert_eq!((answer.found().count(), answer.complaints().len()), (1, 1));
        }
        let mut short = answer(&[("b", A, "Working", "")]);
        short.cut_short();
        assert!(short.may_have("anybody"));
    }

    #[test]
    fn of_two_rows_of_one_cn_neither_counts_in_whichever_order_they_come() {
        let one = ("a", A, "Working", "");
        for other in [("a", A, "Draining", ""), ("a", "", "Working", "")] {
            for rows in [[one, other, one], [other, one, one]] {
                let answer = answer(&rows);
                assert!(answer.is_empty() && answer.may_have("a"), "{answer:?}");
            }
        }
    }

    proptest! {
        /// Whatever comes, what is found is as the configuration would take it, and no sentence breaks a line.
        #[test]
        fn no_row_gets_past_the_rules(
            id in prop::collection::vec(any::<u8>(), 0..70),
            address in "[a-z0-9.:\\[\\]/\n]{0,20}",
            work in "(Working|Draining|[a-zé\t]{0,80})",
            labels in "[a-z:,;\t é]{0,30}",
        ) {
            let mut answer = Answer::default();
            let (address, work, labels) = (address.as_bytes(), work.as_bytes(), labels.as_bytes());
            answer.take(Row { id: &id, address, work, labels });
            for found in answer.found() {
                prop_assert!(check::id(&found.id).is_ok() && check::address(&found.address).is_ok());
                prop_assert!(check::labels(&found.labels).is_ok());
            }
            for complaint in answer.complaints() {
                prop_assert!(!complaint.chars().any(char::is_control), "{}", complaint);
            }
            prop_assert_eq!(answer.found().count() + answer.complaints().len(), 1);
        }
    }
}
