//! Labels of CNs, labels that a session asks for, and how they match.
//!
//! A CN lists for each of its label keys the values that it accepts, as globs. A session asks for exactly one
//! value per key, its account (the tenant) always among them. A labelled CN matches when both have the same
//! number of keys and every value asked for is accepted: a CN labelled with the account alone does not serve a
//! session that asks for a tier as well, nor the other way round. That is MatrixOne's rule.
//!
//! In a glob, `*` stands for any run of characters, the empty one too; everything else stands for itself, case
//! included. MatrixOne lets regular expressions shine through here; corelane does not. Matching takes time
//! proportional to glob times value at worst, and never allocates.
//!
//! Which CN to prefer among those that match is not decided here; see [`crate::route`].

use std::collections::BTreeMap;
use std::fmt;

/// The label key that carries a session's tenant.
pub const ACCOUNT: &str = "account";

/// The labels of a CN: each key with the values (globs) that it accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, Vec<String>>);

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has_key(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether these labels are exactly what was asked for. A CN without labels accepts only nothing.
    pub fn accept(&self, asked: Asked<'_>) -> bool {
        self.0.len() == asked.len() && asked.pairs().all(|(key, value)| self.accepts(key, value))
    }

    fn accepts(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|globs| globs.iter().any(|glob| glob_matches(glob, value)))
    }
}

/// `account=acc1|acc2,tier=gold`; nothing for a CN without labels.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pairs(f, self.0.iter().map(|(key, globs)| (key.as_str(), globs.join("|"))))
    }
}

/// The labels that a session asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The value of [`ACCOUNT`], unless it is left out of the question.
    pub account: Option<&'a str>,
    /// All other labels; never with the key [`ACCOUNT`].
    pub labels: &'a BTreeMap<String, String>,
}

impl<'a> Asked<'a> {
    /// The same labels, whatever the account.
    #[must_use]
    pub fn without_account(self) -> Self {
        Self { account: None, ..self }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn len(self) -> usize {
        self.labels.len() + usize::from(self.account.is_some())
    }

    /// The account first, then the others by key.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let account = self.account.map(|account| (ACCOUNT, account));
        account.into_iter().chain(self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

/// `account=acc1,tier=gold`
impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pairs(f, self.pairs())
    }
}

fn write_pairs<'a, V: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    pairs: impl Iterator<Item = (&'a str, V)>,
) -> fmt::Result {
    for (i, (key, value)) in pairs.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(f, "{comma}{key}={value}")?;
    }
    Ok(())
}

/// Whether the whole of `value` fits `glob`.
///
/// A star first stands for nothing; when what follows it does not fit, the latest star takes in one byte more.
/// Earlier stars need never be tried again, so there is no exponential case.
pub fn glob_matches(glob: &str, value: &str) -> bool {
    let (glob, value) = (glob.as_bytes(), value.as_bytes());
    let (mut g, mut v) = (0, 0);
    let mut latest_star = None;
    while v < value.len() {
        if glob.get(g) == Some(&b'*') {
            latest_star = Some((g, v));
            g += 1;
        } else if glob.get(g) == Some(&value[v]) {
            g += 1;
            v += 1;
        } else if let Some((star, taken)) = latest_star {
            latest_star = Some((star, taken + 1));
            g = star + 1;
            v = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &[&str])]) -> Labels {
        let own = |globs: &[&str]| globs.iter().map(ToString::to_string).collect();
        Labels(pairs.iter().map(|(key, globs)| (key.to_string(), own(globs))).collect())
    }

    fn asks(labels: &Labels, account: &str, others: &[(&str, &str)]) -> bool {
        let others = others.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        labels.accept(Asked { account: Some(account), labels: &others })
    }

    #[test]
    fn label_sets_match_when_equal_in_number_and_each_value_is_accepted() {
        let cn = labels(&[("account", &["acc1", "acc2"]), ("tier", &["gold"])]);
        assert!(asks(&cn, "acc2", &[("tier", "gold")]));
        assert!(!asks(&cn, "acc3", &[("tier", "gold")]));
        assert!(!asks(&cn, "acc1", &[("tier", "Gold")]), "values are case-sensitive");
        assert!(!asks(&cn, "acc1", &[]), "the CN has a label more");
        assert!(!asks(&cn, "acc1", &[("tier", "gold"), ("zone", "a")]), "the session asks for more");
        assert!(!asks(&cn, "acc1", &[("zone", "gold")]), "as many keys, but another one");
        assert!(!asks(&Labels::default(), "acc1", &[]));
    }

    #[test]
    fn globs_are_anchored_and_know_the_star_alone() {
        for (glob, value) in [
            ("*", ""),
            ("*", "x"),
            ("acc*", "acc"),
            ("a*b*c", "a__b_bc"),
            ("*1", "acc1"),
            ("a**", "ab"),
            ("", ""),
        ] {
            assert!(glob_matches(glob, value), "{glob} should match {value}");
        }
        for (glob, value) in [
            ("acc", "acc1"),
            ("acc", "1acc"),
            ("a*c", "a_cb"),
            ("a?c", "abc"),
            ("a.c", "abc"),
            ("", "a"),
            ("*a", ""),
        ] {
            assert!(!glob_matches(glob, value), "{glob} should not match {value}");
        }
    }

    #[test]
    fn many_stars_are_not_exponential() {
        let glob = "a*".repeat(200) + "b";
        assert!(!glob_matches(&glob, &"a".repeat(20_000)));
    }

    #[test]
    fn labels_print_as_they_are_written() {
        assert_eq!(
            labels(&[("tier", &["gold"]), ("account", &["a", "b*"])]).to_string(),
            "account=a|b*,tier=gold"
        );
        assert_eq!(Labels::default().to_string(), "");
        let others = BTreeMap::from([("a".to_string(), "1".to_string())]);
        let asked = Asked { account: Some("acc1"), labels: &others };
        assert_eq!(asked.to_string(), "account=acc1,a=1");
        assert_eq!(asked.without_account().to_string(), "a=1");
    }

    /// The definition of a glob, exponential and obviously right.
    fn glob_by_definition(glob: &[u8], value: &[u8]) -> bool {
        match glob.split_first() {
            None => value.is_empty(),
            Some((b'*', rest)) => (0..=value.len()).any(|n| glob_by_definition(rest, &value[n..])),
            Some((byte, rest)) => value.first() == Some(byte) && glob_by_definition(rest, &value[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_defined(glob in "[ab*]{0,8}", value in "[ab]{0,8}") {
            prop_assert_eq!(glob_matches(&glob, &value), glob_by_definition(glob.as_bytes(), value.as_bytes()));
        }
    }
}
