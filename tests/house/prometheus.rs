//! A strict reader of Prometheus's text format 0.0.4: what it takes, any scraper takes.
//!
//! Stricter than a scraper: each family has one HELP and one TYPE, in this order and before its samples, which are all together; no
//! time stamps, no sample twice, labels in one order; a counter is a whole number; a histogram's buckets ascend in bound and
//! count, end with `+Inf`, and agree with its count.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of a page: by name, then by labels.
#[derive(Debug, Default)]
pub struct Scraped {
    samples: BTreeMap<String, Vec<(Labels, f64)>>,
    pub types: BTreeMap<String, String>,
}

type Labels = Vec<(String, String)>;

impl Scraped {
    pub fn read(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let mut page = Self::default();
        let mut family: Option<Family> = None;
        for (at, line) in text.lines().enumerate() {
            page.line(line, &mut family).map_err(|wrong| format!("line {}: {wrong}: {line}", at + 1))?;
        }
        page.histograms()?;
        Ok(page)
    }

    /// The sum of a metric's samples that have these labels among theirs. Fails the test where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |all: &Labels| labels.iter().all(|(k, v)| all.iter().any(|(a, b)| a == k && b == v));
        let samples = self.samples.get(name).unwrap_or_else(|| panic!("there is no metric {name}"));
        let fitting: Vec<f64> = samples.iter().filter(|(all, _)| has(all)).map(|(_, value)| *value).collect();
        assert!(!fitting.is_empty(), "{name} has no sample of {labels:?}: {samples:?}");
        fitting.iter().sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.contains_key(name)
    }

    /// The values of a label of a metric.
    pub fn values(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let samples = self.samples.get(name).into_iter().flatten();
        let labels = samples.flat_map(|(labels, _)| labels);
        labels.filter(|(key, _)| key == label).map(|(_, value)| value.as_str()).collect()
    }

    fn line(&mut self, line: &str, family: &mut Option<Family>) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help")?;
            if !is_name(name) || help.trim().is_empty() || self.types.contains_key(name) {
                return Err("not a first help".into());
            }
            unescape(help, false)?;
            *family = Some(Family { name: name.to_owned(), kind: None });
            return Ok(());
        }
        let family = family.as_mut().ok_or("no help before it")?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if name != family.name || family.kind.is_some() || !KINDS.contains(&kind) {
                return Err("not the type of the help before it".into());
            }
            family.kind = Some(kind.to_owned());
            self.types.insert(name.to_owned(), kind.to_owned());
            return Ok(());
        }
        self.sample(line, family)
    }

    fn sample(&mut self, line: &str, family: &Family) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        let kind = family.kind.as_deref().ok_or("no type before it")?;
        let suffix = name.strip_prefix(family.name.as_str()).ok_or("of another family")?;
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        if !is_name(name) || !suffixes.contains(&suffix) {
            return Err("not a name of its family".into());
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Labels::new(), rest),
        };
        let value = number(rest.strip_prefix(' ').ok_or("no value")?)?;
        if kind == "counter" && !(value >= 0.0 && value.fract() == 0.0) {
            return Err("not a count".into());
        }
        let samples = self.samples.entry(name.to_owned()).or_default();
        if samples.iter().any(|(other, _)| *other == labels) {
            return Err("a sample twice".into());
        }
        samples.push((labels, value));
        Ok(())
    }

    /// Whether every histogram agrees with itself.
    fn histograms(&self) -> Result<(), String> {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut last: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
            for (labels, count) in &self.samples[&format!("{name}_bucket")] {
                let (bound, others): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(k, _)| k == "le");
                let bound = number(&bound.first().ok_or(format!("{name} has a bucket without a bound"))?.1)?;
                let (former, below) = last.insert(others, (bound, *count)).unwrap_or((f64::MIN, 0.0));
                if bound <= former || *count < below {
                    return Err(format!("the buckets of {name} do not ascend"));
                }
            }
            for (labels, (bound, count)) in last {
                let counts = &self.samples[&format!("{name}_count")];
                if bound != f64::INFINITY || !counts.contains(&(labels, count)) {
                    return Err(format!("the last bucket of {name} is not its count"));
                }
            }
        }
        Ok(())
    }
}

struct Family {
    name: String,
    kind: Option<String>,
}

const KINDS: [&str; 5] = ["counter", "gauge", "histogram", "summary", "untyped"];

fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The labels up to the closing brace, and what follows.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name) || name.contains(':') || labels.iter().any(|(other, _)| other == name) {
            return Err(format!("not a label: {name}"));
        }
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, after) = value.split_at(end.ok_or("a value without an end")?);
        labels.push((name.to_owned(), unescape(value, true)?));
        match after[1..].split_at_checked(1) {
            Some((",", more)) => rest = more,
            Some(("}", after)) => return Ok((labels, after)),
            _ => return Err("labels without an end".into()),
        }
    }
}

fn unescape(text: &str, in_quotes: bool) -> Result<String, String> {
    let (mut plain, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if in_quotes => '"',
                other => return Err(format!("an escape of {other:?}")),
            },
            c => c,
        });
    }
    Ok(plain)
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !text.contains(' ') => {
            text.parse().map_err(|_| format!("not a number: {text}"))
        }
        text => Err(format!("not a number: {text}")),
    }
}
