//! The statement inside `PREPARE name FROM 'statement'`.
//!
//! Reads that one form and no other: a comment, a variable, two literals side by side or a further statement give nothing,
//! and the session is held instead.

use crate::sql::{Modes, unescaped};

/// The text that a lone PREPARE prepares; none if it is anything else.
pub fn prepared_text(text: &[u8], modes: Modes) -> Option<Vec<u8>> {
    let rest = keyword(text.trim_ascii(), b"PREPARE")?;
    let rest = match rest.strip_prefix(b"`") {
        Some(quoted) => &quoted[quoted.iter().position(|byte| *byte == b'`')? + 1..],
        None => {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte) || *byte >= 0x80;
            &rest[rest.iter().position(|byte| !plain(byte))?..]
        }
    };
    let literal = keyword(rest.trim_ascii_start(), b"FROM")?;
    let (&quote, body) = literal.split_first()?;
    if quote != b'\'' && (quote != b'"' || modes.ansi_quotes) {
        return None;
    }
    unquote(body, quote, modes)
}

/// What follows a keyword and white space.
fn keyword<'t>(text: &'t [u8], word: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let separate = rest.first().is_some_and(|byte| byte.is_ascii_whitespace() || b"'\"`".contains(byte));
    (separate && start.eq_ignore_ascii_case(word)).then(|| rest.trim_ascii_start())
}

/// The value of a literal that is the last thing in `body`.
fn unquote(body: &[u8], quote: u8, modes: Modes) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == quote {
            if body.get(at + 1) != Some(&quote) {
                let end = body[at + 1..].trim_ascii();
                return matches!(end, b"" | b";").then_some(value);
            }
            bytes.next();
            value.push(quote);
        } else if byte == b'\\' && !modes.no_backslash_escapes {
            value.extend_from_slice(unescaped(&body[bytes.next()?.0]));
        } else {
            value.push(byte);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_literal_is_read() {
        let table: [(&str, Option<&str>); 13] = [
            ("PREPARE s FROM 'select 1'", Some("select 1")),
            ("  prepare`a b`from\n\"select ''\" ; ", Some("select ''")),
            (r"PREPARE s FROM 'it''s \'x\' \n'", Some("it's 'x' \n")),
            (r"PREPARE s FROM 'LIKE \'a\%b\_c\''", Some(r"LIKE 'a\%b\_c'")),
            ("PREPARE s FROM @a", None),
            ("PREPARE s FROM 'a' 'b'", None),
            ("PREPARE s FROM 'a'; SELECT 1", None),
            ("PREPARE s FROM 'a\\'", None),
            ("PREPARE s FROM _utf8'a'", None),
            ("PREPARE s /* c */ FROM 'a'", None),
            ("PREPARE sFROM 'a'", None),
            ("PREPARE", None),
            ("", None),
        ];
        for (text, found) in table {
            let read = prepared_text(text.as_bytes(), Modes::default());
            assert_eq!(read.as_deref(), found.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn modes_change_what_a_literal_is() {
        let ansi = Modes { ansi_quotes: true, no_backslash_escapes: true, ..Modes::default() };
        assert_eq!(prepared_text(b"PREPARE s FROM \"a\"", ansi), None);
        assert_eq!(prepared_text(b"PREPARE s FROM 'a\\'", ansi).as_deref(), Some(&b"a\\"[..]));
    }
}
