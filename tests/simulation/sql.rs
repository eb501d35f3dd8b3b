//! The little SQL that the CNs of the simulation understand: what its clients say, and what a restore says.

use super::memory::{Memory, Value};

/// Cuts at a separator outside of quotes and parentheses.
pub fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut from, mut quote, mut depth) = (Vec::new(), 0, None, 0);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth -= 1,
            (None, _) if byte == separator && depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(text[from..].trim());
    parts
}

/// What follows a word, whatever its case.
pub fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let start = text.get(..word.len())?;
    start.eq_ignore_ascii_case(word).then(|| text[word.len()..].trim_start())
}

/// What stands between two marks.
pub fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let from = text.find(open)? + open.len();
    let length = text[from..].find(close)?;
    Some(&text[from..from + length])
}

/// The name in `@name`, or @ with back quotes.
pub fn user_name(text: &str) -> Option<String> {
    let name = text.strip_prefix('@').filter(|rest| !rest.starts_with('@'))?;
    Some(name.trim().trim_matches('`').to_ascii_lowercase())
}

/// The name of a system variable in a SET, in any scope.
pub fn system_name(text: &str) -> &str {
    let text = after(text, "SESSION ").unwrap_or(text);
    let text = after(text, "@@session.").unwrap_or(text);
    text.strip_prefix("@@").unwrap_or(text).trim()
}

/// The value that an expression has in a session; `parameters` are those still to be taken, in their order.
pub fn evaluate(text: &str, memory: &Memory, parameters: &mut std::vec::IntoIter<Value>) -> Option<Value> {
    let text = text.trim();
    if text == "?" {
        return parameters.next();
    }
    if let Some(name) = user_name(text) {
        return Some(memory.user_variables.get(&name).cloned().unwrap_or(Value::Null));
    }
    if let Some(choice) = after(text, "IF(@@log_bin,") {
        // It writes no binary log.
        return evaluate(choice.rsplit_once(',')?.1.trim_end_matches(')'), memory, parameters);
    }
    if text.eq_ignore_ascii_case("NULL") {
        return Some(Value::Null);
    }
    if let Some(cast) = after(text, "CAST(") {
        return Some(Value::Integer(cast.split(' ').next()?.parse().ok()?));
    }
    if let Some(hex) = between(text, "X'", "'") {
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        let collation = text.split(" COLLATE ").nth(1).unwrap_or("binary").to_owned();
        return Some(Value::Text { bytes: bytes.collect::<Result<_, _>>().ok()?, collation });
    }
    if text.starts_with('\'') {
        let bytes = text.trim_matches('\'').replace("''", "'").into_bytes();
        return Some(Value::Text { bytes, collation: memory.text("collation_connection").to_owned() });
    }
    number(text).or_else(|| {
        let bytes = text.as_bytes().to_vec();
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            .then(|| Value::Text { bytes, collation: String::new() })
    })
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    if text.contains('e') {
        let value: f64 = text.parse().ok()?;
        return Some(Value::Double(format!("{value}")));
    }
    if text.contains('.') || text.parse::<u64>().is_ok_and(|value| value > i64::MAX as u64) {
        return Some(Value::Decimal(text.to_owned()));
    }
    text.parse().ok().map(Value::Integer)
}

/// A value as text; none for NULL.
pub fn shown(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        Value::Decimal(text) | Value::Double(text) => Some(text.clone().into_bytes()),
        Value::Text { bytes, .. } => Some(bytes.clone()),
    }
}
