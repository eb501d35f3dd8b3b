//! Admin text to [`Command`]: the only parser of admin SQL.
//!
//! Beside corelane's own statements it knows the few that ordinary clients send by themselves when they
//! connect. It decides nothing and looks nothing up; a text it does not know is an error that says what
//! was expected and which known word is near.

use super::lexer::{self, Token};

/// One admin statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Show {
        what: Show,
        like: Option<Pattern>,
    },
    /// `SELECT` of values that a client asks for when it connects.
    Select(Vec<Item>),
    /// Accepted without effect: `SET`, `USE`, `BEGIN`, `COMMIT`, `ROLLBACK`, or a comment alone.
    Nothing,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Cns,
    Sessions,
    Workers,
    Version,
    /// Always empty; command line clients ask for it.
    Warnings,
}

/// One value of a `SELECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub value: Value,
    /// The column's name: the alias, or the expression as the client wrote it.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A system variable, in lower case.
    Variable(String),
    Database,
    Version,
    User,
    ConnectionId,
    Number(u64),
    Text(String),
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
}

const STATEMENTS: &str = "expected SHOW CNS, SHOW SESSIONS, SHOW WORKERS or SHOW VERSION";

const SHOWS: [(&str, Show); 5] = [
    ("CNS", Show::Cns),
    ("SESSIONS", Show::Sessions),
    ("WORKERS", Show::Workers),
    ("VERSION", Show::Version),
    ("WARNINGS", Show::Warnings),
];

/// Reads one statement; a single `;` may end it.
pub fn parse(text: &str) -> Result<Command, Error> {
    let mut tokens = lexer::tokens(text).map_err(|unclosed| Error::Unclosed(unclosed.0))?;
    tokens.pop_if(|last| *last == Token::Mark(';'));
    if tokens.is_empty() {
        return if text.contains("/*") { Ok(Command::Nothing) } else { Err(Error::Empty) };
    }
    Parser { tokens, at: 0 }.statement()
}

/// A `LIKE` pattern: `%` is any text, `_` any character, `\` takes the next one as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.chars().collect())
    }

    /// Whether the whole text fits, in any case.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // The places in the pattern that the text so far may have reached; one bit for each.
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        self.skip_any(&mut reached);
        for c in text {
            let mut next = vec![false; reached.len()];
            for at in (0..self.0.len()).filter(|at| reached[*at]) {
                match self.0[at] {
                    '%' => next[at] = true,
                    '_' => next[at + 1] = true,
                    '\\' if at + 1 < self.0.len() => next[at + 2] |= same(self.0[at + 1], c),
                    literal => next[at + 1] |= same(literal, c),
                }
            }
            self.skip_any(&mut next);
            reached = next;
        }
        reached[self.0.len()]
    }

    /// A `%` may also stand for nothing.
    fn skip_any(&self, reached: &mut [bool]) {
        for at in 0..self.0.len() {
            // An escaped `%` is never a place that was reached: its backslash is.
            if reached[at] && self.0[at] == '%' {
                reached[at + 1] = true;
            }
        }
    }
}

fn same(a: char, b: char) -> bool {
    a == b || a.to_lowercase().eq(b.to_lowercase())
}

fn hint(near: &Option<&'static str>) -> String {
    near.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn statement(mut self) -> Result<Command, Error> {
        let verb = self.next();
        match verb.as_ref() {
            Some(t) if t.is("SHOW") => self.show(),
            Some(t) if t.is("SELECT") => self.select(),
            Some(t) if ["SET", "USE", "BEGIN", "COMMIT", "ROLLBACK"].iter().any(|w| t.is(w)) => {
                Ok(Command::Nothing)
            }
            _ => Err(unexpected("SHOW", verb.as_ref(), &["SHOW"])),
        }
    }

    fn show(mut self) -> Result<Command, Error> {
        let word = self.next();
        let known = SHOWS.iter().find(|(name, _)| word.as_ref().is_some_and(|t| t.is(name)));
        let Some((_, what)) = known else {
            let names = SHOWS.map(|(name, _)| name);
            return Err(unexpected(
                "CNS, SESSIONS, WORKERS or VERSION after SHOW",
                word.as_ref(),
                &names[..4],
            ));
        };
        let like = self.like()?;
        self.end("LIKE 'pattern' or the end of the statement", &["LIKE"])?;
        Ok(Command::Show { what: *what, like })
    }

    fn like(&mut self) -> Result<Option<Pattern>, Error> {
        if !self.take("LIKE") {
            return Ok(None);
        }
        match self.next() {
            Some(Token::Text(pattern)) => Ok(Some(Pattern::new(&pattern))),
            other => Err(unexpected("a pattern in quotes after LIKE", other.as_ref(), &[])),
        }
    }

    fn select(mut self) -> Result<Command, Error> {
        let mut items = vec![self.item()?];
        while self.peek() == Some(&Token::Mark(',')) {
            self.at += 1;
            items.push(self.item()?);
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
            Some(Token::Word(function)) => (self.call(function)?, format!("{written}()")),
            other => return Err(unexpected(VALUES, other.as_ref(), &[])),
        };
        let name = self.alias()?.unwrap_or(name);
        Ok(Item { value, name })
    }

    fn call(&mut self, function: String) -> Result<Value, Error> {
        let value = match function.to_ascii_uppercase().as_str() {
            "DATABASE" | "SCHEMA" => Value::Database,
            "VERSION" => Value::Version,
            "USER" | "CURRENT_USER" | "SESSION_USER" => Value::User,
            "CONNECTION_ID" => Value::ConnectionId,
            _ => return Err(unexpected(VALUES, Some(&Token::Word(function)), &FUNCTIONS)),
        };
        for mark in ['(', ')'] {
            let token = self.next();
            if token != Some(Token::Mark(mark)) {
                return Err(unexpected("() after the function", token.as_ref(), &[]));
            }
        }
        Ok(value)
    }

    fn alias(&mut self) -> Result<Option<String>, Error> {
        if !self.take("AS") {
            return Ok(None);
        }
        match self.next() {
            Some(Token::Word(name) | Token::Text(name)) => Ok(Some(name)),
            other => Err(unexpected("a name after AS", other.as_ref(), &[])),
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, word: &str) -> bool {
        let here = self.peek().is_some_and(|t| t.is(word));
        self.at += usize::from(here);
        here
    }

    fn end(&self, expected: &'static str, names: &[&'static str]) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            token => Err(unexpected(expected, token, names)),
        }
    }
}

const VALUES: &str = "a variable (@@name), a number, a text or a function like DATABASE()";
const FUNCTIONS: [&str; 4] = ["DATABASE", "VERSION", "USER", "CONNECTION_ID"];

/// Words less alike than this are not offered as a near name.
const NEAR: f64 = 0.75;

fn unexpected(expected: &'static str, found: Option<&Token>, names: &[&'static str]) -> Error {
    let near = match found {
        Some(Token::Word(word)) => nearest(&word.to_ascii_uppercase(), names),
        _ => None,
    };
    let found = found.map_or_else(|| "the end of the statement".to_owned(), |t| format!("\"{t}\""));
    Error::Unexpected { expected, found, near }
}

fn nearest(word: &str, names: &[&'static str]) -> Option<&'static str> {
    let near = names.iter().map(|name| (strsim::jaro_winkler(word, name), *name));
    near.filter(|(likeness, _)| *likeness >= NEAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

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
    }

    #[test]
    fn like_takes_a_pattern() {
        let like = Some(Pattern::new("cn%"));
        assert_eq!(parse("show cns like 'cn%'"), Ok(Command::Show { what: Show::Cns, like }));
        assert!(error("show cns like cn").contains("a pattern in quotes after LIKE, found \"cn\""));
        assert!(error("show cns lke 'a'").contains("did you mean LIKE?"));
    }

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, text, fits) in [
            ("cn%", "CN12", true),
            ("cn_", "cn12", false),
            ("cn__", "cn12", true),
            ("%2", "cn12", true),
            ("%1%", "cn12", true),
            ("", "cn", false),
            ("%", "", true),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("a\\%", "a", false),
            ("%a\\_%", "ba_c", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        }
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
        for text in ["SET AUTOCOMMIT = 0", "SET NAMES utf8mb4", "use x", "COMMIT", "/*!40101 SET x */"] {
            assert_eq!(parse(text), Ok(Command::Nothing), "{text}");
        }
    }

    #[test]
    fn errors_say_what_was_expected_and_what_is_near() {
        assert_eq!(
            error("show workrs"),
            "expected CNS, SESSIONS, WORKERS or VERSION after SHOW, found \"workrs\"; did you mean WORKERS?"
        );
        assert!(error("shwo cns").contains("did you mean SHOW?"));
        assert_eq!(
            error("show"),
            "expected CNS, SESSIONS, WORKERS or VERSION after SHOW, found the end of the statement"
        );
        assert_eq!(error("select 'a"), "' is never closed");
        assert!(error(" ; ").starts_with("the statement is empty"));
        assert!(error("show cns; show cns").contains("the end of the statement, found \";\""));
        assert!(error("drop table x").ends_with("expected SHOW, found \"drop\""));
        assert!(error("select 99999999999999999999").contains("found \"99999999999999999999\""));
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_an_error(text in "(show|select|like|limit|@@|'|,|\\(|\\)| |;|%|[a-z0-9]){0,12}") {
            let _ = parse(&text);
        }
    }
}
