//! What a CN of the simulation remembers of one session.
//!
//! Two memories that are equal answer alike. What a CN forgets with the next statement, its diagnostics, does not move along and is
//! kept apart.

use std::collections::{BTreeMap, BTreeSet};

/// A user variable's value; text and what is not set at all have a collation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Integer(i64),
    Decimal(String),
    Double(String),
    Text { bytes: Vec<u8>, collation: String },
}

/// Under what a statement was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub schema: String,
    pub sql_mode: String,
    pub client: String,
    pub collation: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub text: String,
    pub context: Context,
    /// The types of the parameters as they were told last, two bytes each.
    pub types: Option<Vec<u8>>,
    pub long_data: Option<Vec<u8>>,
    pub cursor: bool,
}

impl Prepared {
    pub fn parameters(&self) -> usize {
        self.text.matches('?').count()
    }
}

/// Why a session cannot be anywhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    pub transaction: bool,
    pub next_transaction: bool,
    pub temporary: BTreeSet<String>,
    pub user_locks: BTreeMap<String, u32>,
    pub locked_tables: bool,
    pub handlers: BTreeSet<String>,
    pub clock: bool,
}

impl Pins {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the next statement may ask about the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub warnings: u16,
    pub row_count: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub schema: String,
    /// None for NULL.
    pub variables: BTreeMap<&'static str, Option<String>>,
    pub user_variables: BTreeMap<String, Value>,
    pub sql_prepared: BTreeMap<String, (String, Context)>,
    pub last_insert_id: u64,
    pub multi_statements: bool,
    pub pins: Pins,
}

/// How a system variable's value is told and asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Switch,
    Text,
}

/// The system variables, as they are at first.
pub const VARIABLES: [(&str, Kind, &str); 13] = [
    ("wait_timeout", Kind::Number, "28800"),
    ("lock_wait_timeout", Kind::Number, "86400"),
    ("sql_select_limit", Kind::Number, "18446744073709551615"),
    ("max_statement_time", Kind::Number, "0.000000"),
    ("autocommit", Kind::Switch, "ON"),
    ("foreign_key_checks", Kind::Switch, "ON"),
    ("sql_mode", Kind::Text, "STRICT_TRANS_TABLES"),
    ("time_zone", Kind::Text, "SYSTEM"),
    ("tx_isolation", Kind::Text, "REPEATABLE-READ"),
    ("character_set_client", Kind::Text, "utf8mb4"),
    ("character_set_connection", Kind::Text, "utf8mb4"),
    ("character_set_results", Kind::Text, "utf8mb4"),
    ("collation_connection", Kind::Text, "utf8mb4_general_ci"),
];

/// The variable's own name, and how it is told.
pub fn variable(name: &str) -> Option<(&'static str, Kind)> {
    let found = VARIABLES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    found.map(|(name, kind, _)| (*name, *kind))
}

pub fn default_collation(charset: &str) -> String {
    match charset {
        "latin1" => "latin1_swedish_ci".to_owned(),
        other => format!("{other}_general_ci"),
    }
}

impl Memory {
    pub fn new(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            variables: VARIABLES.iter().map(|(name, _, value)| (*name, Some((*value).to_owned()))).collect(),
            user_variables: BTreeMap::new(),
            sql_prepared: BTreeMap::new(),
            last_insert_id: 0,
            multi_statements: true,
            pins: Pins::default(),
        }
    }

    /// COM_RESET_CONNECTION: the schema stays.
    pub fn reset(&mut self) {
        let multi_statements = self.multi_statements;
        *self = Self { multi_statements, ..Self::new(&self.schema) };
    }

    pub fn text(&self, name: &str) -> &str {
        self.variables[name].as_deref().unwrap_or("NULL")
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.text(name) == "ON"
    }

    pub fn context(&self) -> Context {
        Context {
            schema: self.schema.clone(),
            sql_mode: self.text("sql_mode").to_owned(),
            client: self.text("character_set_client").to_owned(),
            collation: self.text("collation_connection").to_owned(),
        }
    }

    /// What was meant for the next transaction was meant for this one.
    pub fn end_transaction(&mut self) {
        if std::mem::take(&mut self.pins.transaction) {
            self.pins.next_transaction = false;
        }
    }

    /// Sets a system variable, with what it brings along.
    pub fn set(&mut self, name: &'static str, kind: Kind, value: Option<String>) {
        let value = match (kind, value.as_deref()) {
            (Kind::Switch, Some("1" | "ON" | "on")) => Some("ON".to_owned()),
            (Kind::Switch, _) => Some("OFF".to_owned()),
            _ => value,
        };
        match (name, &value) {
            ("character_set_connection", Some(charset)) => {
                self.variables.insert("collation_connection", Some(default_collation(charset)));
            }
            ("collation_connection", Some(collation)) => {
                let charset = collation.split('_').next().unwrap_or_default();
                self.variables.insert("character_set_connection", Some(charset.to_owned()));
            }
            ("autocommit", Some(on)) if on == "ON" => self.end_transaction(),
            _ => {}
        }
        self.variables.insert(name, value);
    }
}
