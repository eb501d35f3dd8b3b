//! What is no TOML at all, one mistake for each broken line.
//!
//! A TOML parser that has lost its way complains about everything that follows. So a broken line is
//! noted, taken out of the text and the rest is parsed again, until nothing is broken. What is left is
//! as long as the original, so its places are the places of the file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::mistake::Mistakes;

/// Broken lines that are looked for one by one.
const ROUNDS_MAX: usize = 100;

/// Notes what is broken, and returns the text without it.
pub fn sound_part(text: &str, mistakes: &mut Mistakes) -> String {
    let mut rest = text.to_owned();
    let mut repeated = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let (root, errors) = DeTable::parse_recoverable(&rest);
        note_repeated(&errors, &mut repeated, mistakes);
        let Some(broken) = first_broken(&rest, &errors, root.get_ref()) else { break };
        mistakes.push(Some(broken.at), broken.message, None);
        let without = taken_out(&rest, broken.lines);
        if without == rest {
            break;
        }
        rest = without;
    }
    rest
}

/// A break, and the bytes of the lines that it spoils.
struct Broken {
    at: Range<usize>,
    message: String,
    lines: Range<usize>,
}

fn first_broken(text: &str, errors: &[Error], root: &DeTable<'_>) -> Option<Broken> {
    if errors.iter().any(|error| error.message().starts_with("unclosed array"))
        && let Some(at) = unclosed_array(root)
    {
        return Some(Broken {
            at: at..at + 1,
            message: "TOML: this list has no closing `]`".to_owned(),
            lines: line_start(text, at)..next_beginning(text, at),
        });
    }
    let error = errors.iter().find(|error| !is_repetition(error))?;
    let at = error.span().unwrap_or(text.len()..text.len());
    let lines = line_start(text, at.start)..line_end(text, at.start);
    Some(Broken { at, message: message(error), lines })
}

/// Keys and sections that are there twice: the parser keeps the first and loses nothing else.
fn note_repeated(errors: &[Error], noted: &mut Vec<Range<usize>>, mistakes: &mut Mistakes) {
    for error in errors.iter().filter(|error| is_repetition(error)) {
        let span = error.span().unwrap_or(0..0);
        if !noted.contains(&span) {
            mistakes.push(Some(span.clone()), message(error), None);
            noted.push(span);
        }
    }
}

fn is_repetition(error: &Error) -> bool {
    error.message().starts_with("duplicate key")
}

fn message(error: &Error) -> String {
    format!("TOML: {}", error.message().lines().collect::<Vec<_>>().join("; "))
}

/// The start of the list that goes on the longest, as the one without an end does.
fn unclosed_array(root: &DeTable<'_>) -> Option<usize> {
    let sections = root.values().flat_map(|entry| match entry.get_ref() {
        DeValue::Table(table) => table.values().collect::<Vec<_>>(),
        DeValue::Array(tables) => {
            let tables = tables.iter().filter_map(|table| table.get_ref().as_table());
            tables.flat_map(DeTable::values).collect()
        }
        _ => Vec::new(),
    });
    let arrays = root.values().chain(sections).filter(|entry| entry.get_ref().is_array());
    arrays.map(Spanned::span).max_by_key(|span| span.end).map(|span| span.start)
}

fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text.as_bytes()[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| at + length)
}

/// Where the first line after `at` begins that looks like a key or a section.
fn next_beginning(text: &str, at: usize) -> usize {
    let mut start = line_end(text, at);
    while start < text.len() {
        let line = &text[start + 1..line_end(text, start + 1)];
        let key = line.split_once('=').map(|(key, _)| key.trim());
        let is_key = key.is_some_and(|key| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        });
        if is_key || line.starts_with('[') {
            return start;
        }
        start = line_end(text, start + 1);
    }
    text.len()
}

/// The text with these lines blank. A section's heading becomes another one, so that the keys below it
/// are not taken for those of the section before.
fn taken_out(text: &str, lines: Range<usize>) -> String {
    let heading = text[lines.clone()].trim_start().starts_with('[');
    let stand_in = if heading { format!("[{}]", lines.start) } else { String::new() };
    let blank: String =
        text[lines.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    let kept = blank.get(stand_in.len()..).map_or(blank.clone(), |blank| stand_in + blank);
    format!("{}{kept}{}", &text[..lines.start], &text[lines.end..])
}
