//! `LIKE` patterns.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
