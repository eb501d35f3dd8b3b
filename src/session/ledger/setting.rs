//! Whether a SET may be said again: to another CN, at another time, with the same outcome.
//!
//! It may if each value is one literal or one name, and if it is for this session alone. So functions, subqueries, other variables and
//! values of the server's are out, and so is whatever is not easily read.

/// Names that are values of their own, without parentheses.
const FUNCTIONS: [&str; 11] = [
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SYSDATE",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
];

/// What is set for others, or for good.
const BEYOND: [&str; 3] = ["GLOBAL", "PERSIST", "PERSIST_ONLY"];

/// Where in an item the next token stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Up to `=`, or the item's end: SET NAMES and the like have none.
    Name,
    /// Behind `=`.
    Value,
    /// Behind its sign.
    Signed,
    End,
}

/// Whether a text, one SET and no more, may be said again.
pub fn can_be_said_again(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut rest = text.trim_ascii().trim_end_matches(';').trim_ascii_end();
    let mut place = Place::Name;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            _ if is_word(first) => Some(rest.find(|next| !is_word(next)).unwrap_or(rest.len())),
            _ => Some(first.len_utf8()),
        };
        let Some((token, after)) = length.map(|length| rest.split_at(length)) else { return false };
        let Some(next) = next(place, token) else { return false };
        place = next;
        rest = after.trim_ascii_start();
    }
    matches!(place, Place::Name | Place::End)
}

/// The value of a setting that has one item, a quoted literal.
pub fn only_literal(setting: &[u8]) -> Option<&[u8]> {
    let text = setting.trim_ascii().strip_suffix(b";").unwrap_or(setting.trim_ascii()).trim_ascii_end();
    let at = text.iter().position(|byte| *byte == b'=')?;
    let (quote, rest) = text[at + 1..].trim_ascii_start().split_first()?;
    let value = rest.strip_suffix(&[*quote])?;
    (b"'\"".contains(quote) && !value.contains(quote)).then_some(value)
}

fn next(place: Place, token: &str) -> Option<Place> {
    let first = token.chars().next()?;
    match (place, first) {
        (Place::Name, '=') => Some(Place::Value),
        (Place::Name | Place::End, ',') => Some(Place::Name),
        (Place::Name, ':' | '\'' | '"' | '`') => Some(Place::Name),
        (Place::Name, _) if is_word(first) => (!is_one_of(&BEYOND, token)).then_some(Place::Name),
        (Place::Value, '+' | '-') => Some(Place::Signed),
        (Place::Value, '\'' | '"') => Some(Place::End),
        (Place::Value | Place::Signed, _) if is_word(first) => {
            (!token.contains('@') && !is_one_of(&FUNCTIONS, token)).then_some(Place::End)
        }
        _ => None,
    }
}

/// Letters, digits and what stands in names, numbers and before variables.
fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || "_$@.".contains(letter)
}

/// The length of a quoted token; none where it has a backslash, or no end.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let end = text[1..].find([quote, '\\'])? + 1;
    text[end..].starts_with(quote).then_some(end + 1)
}

/// Whether a word is one of these, behind `@@` too.
fn is_one_of(words: &[&str], token: &str) -> bool {
    let mut parts = token.trim_start_matches('@').split('.');
    parts.any(|part| words.iter().any(|word| word.eq_ignore_ascii_case(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_for_the_session_may_be_said_again() {
        for text in [
            "set a = 1",
            "SET @a = -1.5, @b := 'it', @`c d`=\"x\" ;",
            "set autocommit=0",
            "set session sql_mode='ANSI'",
            "set @@session.time_zone = '+08:00'",
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
            "set session transaction isolation level read committed",
            "set sql_select_limit = default",
            "set @a = 'é', b = ON",
        ] {
            assert!(can_be_said_again(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_value_of_one_item_is_known() {
        let value = |text: &'static str| only_literal(text.as_bytes());
        assert_eq!(value("set sql_mode = 'ANSI_QUOTES' ;"), Some(&b"ANSI_QUOTES"[..]));
        assert_eq!(value("SET SESSION sql_mode=\"\""), Some(&b""[..]));
        for text in ["set sql_mode = 'a', b = 'c'", "set sql_mode = default", "set names utf8mb4"] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn what_may_come_out_otherwise_is_not() {
        for text in [
            "set @a = now()",
            "set @a = current_timestamp",
            "set @a = @b",
            "set @a = @@sql_mode",
            "set @a = (select 1)",
            "set @a = 1 + 1",
            "set @a = 1 /* not 2 */",
            "set @a = 1 -- not 2",
            "set @a = 1 # not 2",
            "set global a = 1",
            "set a = 1, @@global.b = 2",
            "set persist a = 1",
            "set @a = 'it\\'s'",
            "set @a = 'open",
            "set @a = 1; set @b = 2",
            "set @a =",
            "set @a = a b",
            "set @a = 'a' 'b'",
            "set @a = {d '2026-01-01'}",
        ] {
            assert!(!can_be_said_again(text.as_bytes()), "{text}");
        }
        assert!(!can_be_said_again(b"set @a = '\xff'"));
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(bytes: Vec<u8>, text: String) {
            let _ = can_be_said_again(&bytes);
            let _ = can_be_said_again(text.as_bytes());
        }
    }
}
