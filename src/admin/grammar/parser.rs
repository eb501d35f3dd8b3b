//! The tokens of one statement, taken one after the other, and what is said of one that does not fit.

use super::Error;
use crate::admin::lexer::Token;

/// The longest name, text or pattern of a statement, in bytes.
pub const NAME_MAX: usize = 1024;

pub struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0 }
    }

    pub fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub fn take(&mut self, word: &str) -> bool {
        let here = self.peek().is_some_and(|t| t.is(word));
        self.at += usize::from(here);
        here
    }

    pub fn end(&self, expected: &'static str, names: &[&'static str]) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            token => Err(unexpected(expected, token, names)),
        }
    }

    pub fn take_mark(&mut self, mark: char) -> bool {
        let here = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(here);
        here
    }

    pub fn expect_mark(&mut self, mark: char, expected: &'static str) -> Result<(), Error> {
        if self.take_mark(mark) { Ok(()) } else { Err(unexpected(expected, self.peek(), &[])) }
    }

    /// One of the given words.
    pub fn expect(&mut self, word: &'static str, expected: &'static str) -> Result<(), Error> {
        if self.take(word) { Ok(()) } else { Err(unexpected(expected, self.peek(), &[word])) }
    }

    /// A name, in quotes or not.
    pub fn name(&mut self, expected: &'static str) -> Result<String, Error> {
        match self.next() {
            Some(Token::Text(name) | Token::Word(name) | Token::Number(name)) => short(name),
            other => Err(unexpected(expected, other.as_ref(), &[])),
        }
    }

    /// What stands between quotes.
    pub fn text(&mut self, expected: &'static str) -> Result<String, Error> {
        match self.next() {
            Some(Token::Text(text)) => short(text),
            other => Err(unexpected(expected, other.as_ref(), &[])),
        }
    }

    pub fn number(&mut self, expected: &'static str) -> Result<u32, Error> {
        let token = self.next();
        let number = match &token {
            Some(Token::Number(number)) => number.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| unexpected(expected, token.as_ref(), &[]))
    }
}

fn short(name: String) -> Result<String, Error> {
    let fits = name.len() <= NAME_MAX;
    fits.then_some(name)
        .ok_or_else(|| Error::Unfit(format!("a name or a value has more than {NAME_MAX} bytes")))
}

/// Words less alike than this are not offered as a near name.
const NEAR: f64 = 0.75;

pub fn unexpected(expected: &'static str, found: Option<&Token>, names: &[&'static str]) -> Error {
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
