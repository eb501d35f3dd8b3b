//! Admin text to [`Command`]: the only parser of admin SQL.
//!
//! Beside corelane's own statements it knows the few that ordinary clients send by themselves when they
//! connect. It decides nothing and looks nothing up; a text it does not know is an error that says what
//! was expected and which known word is near.

mod mo_ctl;
mod operation;
mod parser;

use super::lexer::{self, Token};
use super::pattern::Pattern;
use crate::coordinator::desk::Operation;
use parser::{NAME_MAX, Parser, unexpected};

/// One admin statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Show {
        what: Show,
        like: Option<Pattern>,
    },
    /// `SELECT` of values that a client asks for when it connects.
    Select(Vec<Item>),
    Operate(Operation),
    /// Accepted without effect: `SET`, `USE`, `BEGIN`, `COMMIT` and the like, or a comment alone.
    Nothing,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Cns,
    Sessions,
    Workers,
    Holds,
    Moves,
    Hosts,
    Version,
    // These are for clients that ask by themselves.
    Variables,
    Status,
    Databases,
    Warnings,
}

/// One value of a `SELECT`.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub value: Value,
    /// The column's name: the alias, or the expression as the client wrote it.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A system variable, in lower case.
    Variable(String),
    Database,
    Version,
    User,
    ConnectionId,
    Number(u64),
    Text(String),
    /// MatrixOne's way to have something done.
    MoCtl {
        method: &'static str,
        operation: Box<Operation>,
    },
}

/// Why a text is no admin statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the statement is empty; {STATEMENTS}")]
    Empty,
    #[error("{0} is never closed")]
    Unclosed(&'static str),
    #[error("expected {expected}, found {found}{}", hint(.near))]
    Unexpected { expected: &'static str, found: String, near: Option<&'static str> },
    /// A value that the configuration would not take either.
    #[error("{0}")]
    Unfit(String),
}

const STATEMENTS: &str = "expected SHOW, SELECT, DRAIN, RESUME, MOVE, KILL, ALTER, ADD, REMOVE or FLUSH";

/// The words that a statement may begin with.
const VERBS: [&str; 10] =
    ["SHOW", "SELECT", "DRAIN", "RESUME", "MOVE", "KILL", "ALTER", "ADD", "REMOVE", "FLUSH"];

const SHOWS: [(&str, Show); 7] = [
    ("CNS", Show::Cns),
    ("SESSIONS", Show::Sessions),
    ("WORKERS", Show::Workers),
    ("HOLDS", Show::Holds),
    ("MOVES", Show::Moves),
    ("HOSTS", Show::Hosts),
    ("VERSION", Show::Version),
];

/// What clients have shown by themselves.
const CLIENT_SHOWS: [(&str, Show); 5] = [
    ("VARIABLES", Show::Variables),
    ("STATUS", Show::Status),
    ("DATABASES", Show::Databases),
    ("SCHEMAS", Show::Databases),
    ("WARNINGS", Show::Warnings),
];

/// Reads one statement; a single `;` may end it.
pub fn parse(text: &str) -> Result<Command, Error> {
    let mut tokens = lexer::tokens(text).map_err(|unclosed| Error::Unclosed(unclosed.0))?;
    tokens.pop_if(|last| *last == Token::Mark(';'));
    if tokens.is_empty() {
        return if text.contains("/*") { Ok(Command::Nothing) } else { Err(Error::Empty) };
    }
    Parser::new(tokens).statement()
}

/// What clients say beside their user's statements.
const WITHOUT_EFFECT: [&str; 6] = ["SET", "USE", "BEGIN", "START", "COMMIT", "ROLLBACK"];

fn hint(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

impl Parser {
    fn statement(mut self) -> Result<Command, Error> {
        let verb = self.next();
        match verb.as_ref() {
            Some(t) if t.is("SHOW") => self.show(),
            Some(t) if t.is("SELECT") => self.select(),
            Some(t) if WITHOUT_EFFECT.iter().any(|word| t.is(word)) => Ok(Command::Nothing),
            Some(Token::Word(word)) => match self.operation(word)? {
                Some(operation) => Ok(Command::Operate(operation)),
                None => Err(unexpected(BEGINNINGS, verb.as_ref(), &VERBS)),
            },
            _ => Err(unexpected(BEGINNINGS, verb.as_ref(), &VERBS)),
        }
    }

    fn show(mut self) -> Result<Command, Error> {
        let _ = self.take("GLOBAL") || self.take("SESSION") || self.take("LOCAL");
        let word = self.next();
        let mut known = SHOWS.iter().chain(&CLIENT_SHOWS);
        let known = known.find(|(name, _)| word.as_ref().is_some_and(|t| t.is(name)));
        let Some((_, what)) = known else {
            return Err(unexpected(SHOWN, word.as_ref(), &SHOWS.map(|(name, _)| name)));
        };
        if matches!(what, Show::Variables | Show::Status) && self.take("WHERE") {
            // Whoever asks so looks for the names in what comes, so all may come.
            return Ok(Command::Show { what: *what, like: None });
        }
        let like = self.like()?;
        self.end("LIKE 'pattern' or the end of the statement", &["LIKE"])?;
        Ok(Command::Show { what: *what, like })
    }

    fn like(&mut self) -> Result<Option<Pattern>, Error> {
        if !self.take("LIKE") {
            return Ok(None);
        }
        match self.next() {
            Some(Token::Text(pattern)) if pattern.len() <= NAME_MAX => Ok(Some(Pattern::new(&pattern))),
            other => Err(unexpected("a pattern in quotes after LIKE, not too long", other.as_ref(), &[])),
        }
    }

    fn select(mut self) -> Result<Command, Error> {
        let mut items = vec![self.item()?];
        while self.take_mark(',') {
            items.push(self.item()?);
        }
        if self.take("FROM") {
            self.expect("DUAL", "DUAL after FROM")?;
        }
        if self.take("LIMIT") {
            match self.next() {
                Some(Token::Number(_)) => (),
                other => return Err(unexpected("a number after LIMIT", other.as_ref(), &[])),
            }
        }
        self.end("a comma, LIMIT or the end of the statement", &["LIMIT"])?;
        Ok(Command::Select(items))
    }

    fn item(&mut self) -> Result<Item, Error> {
        let first = self.next();
        let written = first.as_ref().map(Token::to_string).unwrap_or_default();
        let (value, name) = match first {
            Some(Token::Variable(name)) => (Value::Variable(name.to_lowercase()), written),
            Some(Token::Text(text)) => (Value::Text(text.clone()), text),
            Some(Token::Number(number)) => match number.parse() {
                Ok(n) => (Value::Number(n), written),
                Err(_) => return Err(unexpected(VALUES, Some(&Token::Number(number)), &[])),
            },
            Some(function) if function.is("MO_CTL") => self.mo_ctl()?,
            Some(Token::Word(function)) => (self.call(&function)?, format!("{written}()")),
            other => return Err(unexpected(VALUES, other.as_ref(), &[])),
        };
        let name = self.alias()?.unwrap_or(name);
        Ok(Item { value, name })
    }

    fn call(&mut self, function: &str) -> Result<Value, Error> {
        let value = match function.to_ascii_uppercase().as_str() {
            "DATABASE" | "SCHEMA" => Value::Database,
            "VERSION" => Value::Version,
            "USER" | "CURRENT_USER" | "SESSION_USER" => Value::User,
            "CONNECTION_ID" => Value::ConnectionId,
            _ => return Err(unexpected(VALUES, Some(&Token::Word(function.to_owned())), &FUNCTIONS)),
        };
        // As in SQL, this one may stand without its parentheses.
        if !function.eq_ignore_ascii_case("CURRENT_USER") || self.peek() == Some(&Token::Mark('(')) {
            for mark in ['(', ')'] {
                self.expect_mark(mark, "() after the function")?;
            }
        }
        Ok(value)
    }

    fn alias(&mut self) -> Result<Option<String>, Error> {
        let is_alias = |token: &Token| match token {
            Token::Text(_) => true,
            Token::Word(_) => !["FROM", "LIMIT"].iter().any(|word| token.is(word)),
            _ => false,
        };
        if !self.take("AS") && !self.peek().is_some_and(is_alias) {
            return Ok(None);
        }
        match self.next() {
            Some(Token::Word(name) | Token::Text(name)) => Ok(Some(name)),
            other => Err(unexpected("a name after AS", other.as_ref(), &[])),
        }
    }
}

const BEGINNINGS: &str = "SHOW, SELECT, DRAIN, RESUME, MOVE, KILL, ALTER, ADD, REMOVE or FLUSH";
const SHOWN: &str = "CNS, SESSIONS, WORKERS, HOLDS, MOVES, HOSTS or VERSION after SHOW";
const VALUES: &str = "a variable (@@name), a number, a text or a function like DATABASE()";
const FUNCTIONS: [&str; 5] = ["DATABASE", "VERSION", "USER", "CONNECTION_ID", "MO_CTL"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(what: Show) -> Command {
        Command::Show { what, like: None }
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn shows_are_read_in_any_case() {
        assert_eq!(parse("SHOW CNS"), Ok(show(Show::Cns)));
        assert_eq!(parse("  show\n sessions ; "), Ok(show(Show::Sessions)));
        assert_eq!(parse("Show /* all */ Workers"), Ok(show(Show::Workers)));
        assert_eq!(parse("show version;"), Ok(show(Show::Version)));
        assert_eq!(parse("show holds"), Ok(show(Show::Holds)));
        assert_eq!(parse("show moves"), Ok(show(Show::Moves)));
        assert_eq!(parse("show hosts"), Ok(show(Show::Hosts)));
    }

    #[test]
    fn like_takes_a_pattern() {
        let like = Some(Pattern::new("cn%"));
        assert_eq!(parse("show cns like 'cn%'"), Ok(Command::Show { what: Show::Cns, like }));
        assert!(
            error("show cns like cn").contains("a pattern in quotes after LIKE, not too long, found \"cn\"")
        );
        assert!(error("show cns lke 'a'").contains("did you mean LIKE?"));
    }

    #[test]
    fn what_clients_send_by_themselves_is_read() {
        let Ok(Command::Select(items)) = parse("select @@version_comment limit 1") else { panic!() };
        assert_eq!(items[0].value, Value::Variable("version_comment".into()));
        assert_eq!(items[0].name, "@@version_comment");
        let Ok(Command::Select(items)) = parse("SELECT @@max_allowed_packet, @@wait_timeout as w") else {
            panic!()
        };
        assert_eq!(items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["@@max_allowed_packet", "w"]);
        let database = Item { value: Value::Database, name: "DATABASE()".into() };
        assert_eq!(parse("SELECT DATABASE()"), Ok(Command::Select(vec![database])));
        for text in [
            "SET AUTOCOMMIT = 0",
            "SET NAMES utf8mb4",
            "use x",
            "COMMIT",
            "/*!40101 SET x */",
            "START TRANSACTION",
        ] {
            assert_eq!(parse(text), Ok(Command::Nothing), "{text}");
        }
        let like = Some(Pattern::new("lower_case_%"));
        for (text, what, like) in [
            ("SHOW VARIABLES LIKE 'lower_case_%'", Show::Variables, like),
            ("SHOW GLOBAL STATUS", Show::Status, None),
            ("SHOW SESSION VARIABLES WHERE Variable_name ='language' OR x = 1", Show::Variables, None),
            ("SHOW DATABASES", Show::Databases, None),
        ] {
            assert_eq!(parse(text), Ok(Command::Show { what, like }), "{text}");
        }
        let Ok(Command::Select(items)) =
            parse("SELECT CURRENT_USER, DATABASE() db, 1 'one' FROM DUAL LIMIT 1")
        else {
            panic!()
        };
        assert_eq!(
            items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(),
            ["CURRENT_USER()", "db", "one"]
        );
    }

    #[test]
    fn errors_say_what_was_expected_and_what_is_near() {
        assert_eq!(
            error("show workrs"),
            "expected CNS, SESSIONS, WORKERS, HOLDS, MOVES, HOSTS or VERSION after SHOW, found \"workrs\"; did you mean WORKERS?"
        );
        assert!(error("shwo cns").contains("did you mean SHOW?"));
        assert_eq!(
            error("show"),
            "expected CNS, SESSIONS, WORKERS, HOLDS, MOVES, HOSTS or VERSION after SHOW, found the end of the statement"
        );
        assert_eq!(error("select 'a"), "' is never closed");
        assert!(error(" ; ").starts_with("the statement is empty"));
        assert!(error("show cns; show cns").contains("the end of the statement, found \";\""));
        assert!(error("drop table x").ends_with("ALTER, ADD, REMOVE or FLUSH, found \"drop\""));
        assert!(error("select 99999999999999999999").contains("found \"99999999999999999999\""));
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_an_error(text in "(show|select|drain|alter|add|set|labels|cn|mo_ctl|like|limit|@@|'|,|\\(|\\)| |;|%|[a-z0-9]){0,12}") {
            let _ = parse(&text);
        }
    }
}
