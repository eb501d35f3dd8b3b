//! Admin text to tokens: words, variables, quoted strings, numbers and marks, each with its place.
//!
//! Comments (`/* */`, `-- ` and `#` to the end of the line) are white space. What a token means is for
//! [`super::grammar`] to say.

/// The smallest unit of an admin statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A bare or back-quoted name, as written.
    Word(String),
    /// `@@name`, `@@session.name`, `@name`: as written, without its `@`s and scope.
    Variable(String),
    /// What stood between quotes, unescaped.
    Text(String),
    Number(String),
    Mark(char),
}

impl Token {
    /// Whether this is the given word, in any case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(w) if w.eq_ignore_ascii_case(word))
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(s) | Self::Number(s) => f.write_str(s),
            Self::Variable(s) => write!(f, "@@{s}"),
            Self::Text(s) => write!(f, "'{s}'"),
            Self::Mark(c) => write!(f, "{c}"),
        }
    }
}

/// The tokens of a text, or the opening of the quotes or comment that never end.
pub fn tokens(text: &str) -> Result<Vec<Token>, Unclosed> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some(next) = skip_blank(rest)? {
        let (token, after) = token(next)?;
        found.push(token);
        rest = after;
    }
    Ok(found)
}

/// Quotes or a comment without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed(pub &'static str);

/// The text from its next token on; none when only white space and comments are left.
fn skip_blank(text: &str) -> Result<Option<&str>, Unclosed> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
        let dashes = rest.strip_prefix("--").filter(|r| r.is_empty() || r.starts_with(char::is_whitespace));
        if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/").ok_or(Unclosed("/*"))?;
            rest = &comment[end + 2..];
        } else if let Some(comment) = dashes.or_else(|| rest.strip_prefix('#')) {
            rest = comment.find('\n').map_or("", |end| &comment[end + 1..]);
        } else {
            return Ok((!rest.is_empty()).then_some(rest));
        }
    }
}

/// The token that a non-empty text begins with, and what follows it.
fn token(text: &str) -> Result<(Token, &str), Unclosed> {
    let first = text.chars().next().unwrap_or('\0');
    match first {
        '\'' => quoted(text, '\'', "'").map(|(s, rest)| (Token::Text(s), rest)),
        '"' => quoted(text, '"', "\"").map(|(s, rest)| (Token::Text(s), rest)),
        '`' => quoted(text, '`', "`").map(|(s, rest)| (Token::Word(s), rest)),
        '@' => Ok(variable(text)),
        _ if is_name(first) => {
            let (name, rest) = split_while(text, is_name);
            let number = name.bytes().all(|b| b.is_ascii_digit());
            let token = if number { Token::Number } else { Token::Word }(name.to_owned());
            Ok((token, rest))
        }
        _ => Ok((Token::Mark(first), &text[first.len_utf8()..])),
    }
}

fn variable(text: &str) -> (Token, &str) {
    let bare = text.trim_start_matches('@');
    let (name, rest) = split_while(bare, |c| is_name(c) || c == '.');
    let scopes = ["session.", "global.", "local."];
    let scope = scopes.iter().find(|s| name.get(..s.len()).is_some_and(|n| n.eq_ignore_ascii_case(s)));
    (Token::Variable(name[scope.map_or(0, |s| s.len())..].to_owned()), rest)
}

/// What stands between the quotes that `text` begins with; a doubled quote or a backslash escapes. As in MySQL the backslash
/// stays before `%` and `_`, for a pattern to read.
fn quoted<'a>(text: &'a str, quote: char, name: &'static str) -> Result<(String, &'a str), Unclosed> {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            let escaped = chars.next().map(|(_, escaped)| escaped);
            if let Some('%' | '_') = escaped {
                inside.push(c);
            }
            inside.extend(escaped);
        } else if c != quote {
            inside.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            inside.push(quote);
            chars.next();
        } else {
            return Ok((inside, &text[at + quote.len_utf8()..]));
        }
    }
    Err(Unclosed(name))
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(s: &str) -> Token {
        Token::Word(s.to_owned())
    }

    #[test]
    fn comments_are_white_space() {
        let text = "/* a */show -- b\n# c\n cns--\n";
        assert_eq!(tokens(text).unwrap(), [word("show"), word("cns")]);
        assert_eq!(tokens("/*!40101 x */").unwrap(), []);
    }

    #[test]
    fn quotes_keep_what_is_inside() {
        let found = tokens(r#"'a''b\'c' "d" `e f`"#).unwrap();
        assert_eq!(found, [Token::Text("a'b'c".into()), Token::Text("d".into()), word("e f")]);
        assert_eq!(tokens(r"'a\_b\\c'").unwrap(), [Token::Text(r"a\_b\c".into())]);
        assert_eq!(tokens("'abc"), Err(Unclosed("'")));
        assert_eq!(tokens("a /* b"), Err(Unclosed("/*")));
    }

    #[test]
    fn variables_lose_their_scope() {
        let names = tokens("@@version @@SESSION.autocommit @@global.x @y").unwrap();
        let variable = |s: &str| Token::Variable(s.to_owned());
        assert_eq!(names, [variable("version"), variable("autocommit"), variable("x"), variable("y")]);
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "\\PC{0,60}") {
            let _ = tokens(&text);
        }
    }
}
