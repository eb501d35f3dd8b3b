//! What somebody may have meant by a name that nobody knows.

/// Jaro-Winkler likeness from which on a name counts as near: `interval` for `interval_ms`, `lables`
/// for `labels`, but not `host` for `sql`.
const LIKENESS: f64 = 0.84;

/// The likest of the known names, if it is near at all.
pub fn near<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (likeness(&name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

fn likeness(name: &str, candidate: &str) -> f64 {
    // A slip of one letter in a short name is as near as many in a long one.
    let slip = strsim::damerau_levenshtein(name, candidate) == 1 && name.len() > 1;
    strsim::jaro_winkler(name, candidate).max(if slip { 0.95 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let known = ["interval_ms", "timeout_ms", "fall", "rise", "labels", "address", "id", "cn"];
        for (name, expected) in [
            ("interval", Some("interval_ms")),
            ("timeout-ms", Some("timeout_ms")),
            ("lables", Some("labels")),
            ("adress", Some("address")),
            ("Fall", Some("fall")),
            ("cns", Some("cn")),
            ("zebra", None),
        ] {
            assert_eq!(near(name, known), expected, "{name}");
        }
    }
}
