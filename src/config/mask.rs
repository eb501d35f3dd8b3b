//! Blanks the secrets of a configuration text, so that an excerpt of it may be shown.
//!
//! Works on raw text, because a file with a syntax error has secrets too, and by the look of a key,
//! because a misspelt `pasword` holds a real one. The result has as many bytes, characters and lines as the
//! original, so every span still fits, and every column.

/// The text with every character of a value that looks secret replaced by `*`, or by another mark that is as long.
pub fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(equals) = text[at..].find('=').map(|found| at + found) {
        at = equals + 1;
        if !is_secret(key_before(&text[..equals])) {
            continue;
        }
        let start = at + text[at..].len() - text[at..].trim_start_matches([' ', '\t']).len();
        let end = start + value_length(&text[start..]);
        masked.push_str(&text[masked.len()..start]);
        masked.extend(text[start..end].chars().map(mark));
        at = end;
    }
    masked.push_str(&text[masked.len()..]);
    masked
}

/// What stands for a character, with as many bytes; a line ends where it did.
fn mark(c: char) -> char {
    match c.len_utf8() {
        1 if c.is_ascii_control() => c,
        1 => '*',
        2 => '\u{b7}',
        3 => '\u{2022}',
        _ => '\u{1f512}',
    }
}

/// The last word before an equals sign, without its quotes.
fn key_before(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let start = text
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
        .map_or(0, |found| found + text[found..].chars().next().map_or(1, char::len_utf8));
    &text[start..]
}

/// Keys that tell where a secret is, and hold none.
const PATHS: [&str; 6] = [
    "password_file",
    "password_env",
    "password_credential",
    "query_password_file",
    "query_password_env",
    "query_password_credential",
];

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    if PATHS.iter().any(|path| strsim::damerau_levenshtein(&key, path) <= 2) {
        return false;
    }
    ["pass", "pwd", "secret", "hash"].iter().any(|word| key.contains(word))
        || ["password", "query_password"].iter().any(|name| strsim::damerau_levenshtein(&key, name) <= 3)
        || strsim::damerau_levenshtein(&key, "native_hash") <= 4
}

/// The length in bytes of the value that `text` begins with: a string as far as its closing quote,
/// anything else as far as its line.
fn value_length(text: &str) -> usize {
    for quotes in ["\"\"\"", "'''"] {
        if let Some(rest) = text.strip_prefix(quotes) {
            return rest.find(quotes).map_or(text.len(), |end| end + 2 * quotes.len());
        }
    }
    let line = text.lines().next().unwrap_or_default();
    let Some(quote) = line.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return line.len();
    };
    let mut escaped = false;
    for (at, c) in line.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_blanked_and_the_rest_stays() {
        let cases = [
            (
                r#"users = [{ name = "a", password = "b\"c" }]"#,
                r#"users = [{ name = "a", password = ****** }]"#,
            ),
            ("native_hash = '*0A' # x", "native_hash = ***** # x"),
            ("pasword = \"open", "pasword = *****"),
            ("password = 5, x\nb = 1", "password = ****\nb = 1"),
            ("\"password\" = \"é\u{20ac}\u{1f600}\" x", "\"password\" = *\u{b7}\u{2022}\u{1f512}* x"),
            ("password = \"\"\"a\nb\"\"\"\nc=1", "password = ****\n****\nc=1"),
            ("password_file = \"secret.txt\"", "password_file = \"secret.txt\""),
            ("query_pasword_file = 'm.txt'", "query_pasword_file = 'm.txt'"),
            ("query_password = 'open'", "query_password = ******"),
            ("query_pasword = 'open'", "query_pasword = ******"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_changes_its_length_or_lines(text in "[a-z =\"'\\\\\n,#é]{0,40}(password ?= ?)?[a-z =\"'\\\\\né]{0,40}") {
            let result = masked(&text);
            prop_assert_eq!(result.len(), text.len());
            prop_assert_eq!(result.chars().count(), text.chars().count());
            prop_assert_eq!(result.matches('\n').count(), text.matches('\n').count());
        }
    }
}
