//! One section of a file, read key by key as the schema says.
//!
//! A [`Place`] is where values come from: the file where it has the key, the schema's default where it
//! has not. A wrong value is noted and the default stands in, so that reading always goes on. What a
//! value of each kind looks like is in [`super::value`].

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistakes;
use super::near::near;
use super::schema::{Default, Key, SECTIONS, Section};
use super::value;

/// A value and where it was written; a default was written nowhere.
#[derive(Clone, Debug)]
pub struct Given<'d> {
    pub value: &'d DeValue<'d>,
    pub span: Option<Range<usize>>,
}

impl<'d> Given<'d> {
    /// An entry of this list or table.
    pub fn inner(&self, entry: &'d Spanned<DeValue<'d>>) -> Self {
        Given { value: entry.get_ref(), span: self.span.as_ref().map(|_| entry.span()) }
    }
}

/// A value that was read, and where it was written.
#[derive(Clone, Debug)]
pub struct Read<T> {
    pub value: T,
    pub span: Option<Range<usize>>,
}

/// One section as the file has it, or as if the file had it empty.
pub struct Place<'d> {
    section: &'static Section,
    table: Option<&'d DeTable<'d>>,
    /// The section's heading, for a key that is missing.
    span: Option<Range<usize>>,
}

impl<'d> Place<'d> {
    /// Notes the unknown keys of the section while it is at it.
    pub fn new(
        section: &'static Section,
        table: Option<&'d DeTable<'d>>,
        span: Option<Range<usize>>,
        mistakes: &mut Mistakes,
    ) -> Self {
        for key in table.into_iter().flat_map(DeTable::keys) {
            if section.key(key.get_ref()).is_none() {
                note_unknown_key(section, key, mistakes);
            }
        }
        Self { section, table, span }
    }

    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// The section's heading as it stands in the file.
    pub fn heading(&self) -> String {
        self.section.heading()
    }

    /// True where the file has the section.
    pub fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// True where the file has the key, right or wrong.
    pub fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Where the key itself is written.
    pub fn key_span(&self, name: &str) -> Option<Range<usize>> {
        self.table?.get_key_value(name).map(|(key, _)| key.span())
    }

    /// The value of a key: the file's, or the default. None where there is neither, or where a
    /// required one is wrong.
    pub fn read<T>(
        &self,
        name: &str,
        mistakes: &mut Mistakes,
        parse: impl Fn(&'static Key, &Given<'_>, &mut Mistakes) -> Option<T>,
    ) -> Option<Read<T>> {
        let key = self.section.key(name).expect("every key that is asked for is in the schema");
        match self.table.and_then(|table| table.get(name)) {
            Some(entry) => {
                let span = Some(entry.span());
                let given = Given { value: entry.get_ref(), span: span.clone() };
                if let Some(value) = parse(key, &given, mistakes) {
                    return Some(Read { value, span });
                }
            }
            None => self.note_if_required(key, mistakes),
        }
        let Default::Value(text) = key.default else { return None };
        let default = DeValue::parse(text).expect("the schema's defaults are TOML");
        let given = Given { value: default.get_ref(), span: None };
        parse(key, &given, mistakes).map(|value| Read { value, span: None })
    }

    /// A whole number; the range in the schema keeps it in 32 bits.
    pub fn count(&self, name: &str, mistakes: &mut Mistakes) -> u32 {
        let number = self.read(name, mistakes, value::integer).map_or(0, |read| read.value);
        u32::try_from(number).expect("the schema's ranges end below 2^32")
    }

    pub fn millis(&self, name: &str, mistakes: &mut Mistakes) -> Duration {
        Duration::from_millis(self.count(name, mistakes).into())
    }

    pub fn micros(&self, name: &str, mistakes: &mut Mistakes) -> Duration {
        Duration::from_micros(self.count(name, mistakes).into())
    }

    pub fn text(&self, name: &str, mistakes: &mut Mistakes) -> Option<Read<String>> {
        self.read(name, mistakes, value::text)
    }

    /// A key that is there under a misspelt name was noted as that already.
    fn note_if_required(&self, key: &Key, mistakes: &mut Mistakes) {
        let names = self.table.into_iter().flat_map(DeTable::keys).map(|name| name.get_ref());
        let mut unknown = names.filter(|name| self.section.key(name).is_none());
        if unknown.any(|name| self.section.near(name) == Some(key.name)) {
            return;
        }
        if let Default::Required(example) = key.default {
            let message = format!("{} has no `{}`", self.section.heading(), key.name);
            mistakes.push_absence(self.span(), message, format!("write `{} = {example}`", key.name));
        }
    }
}

/// Notes a name at the top of the file that is no section.
pub fn note_unknown_section(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    is_table: bool,
    mistakes: &mut Mistakes,
) {
    let message = match is_table {
        true => format!("unknown section `{}`", name.get_ref()),
        false => format!("`{}` stands outside of any section", name.get_ref()),
    };
    let help = near(name.get_ref(), SECTIONS.iter().map(|section| section.name))
        .and_then(super::schema::section)
        .map(|section| format!("did you mean `{}`?", section.heading()))
        .or_else(|| homes_of(name.get_ref()))
        .unwrap_or_else(|| {
            let headings: Vec<_> = SECTIONS.iter().map(Section::heading).collect();
            format!("the sections are {}", headings.join(", "))
        });
    mistakes.push(Some(name.span()), message, Some(help));
}

fn note_unknown_key(section: &Section, key: &Spanned<std::borrow::Cow<'_, str>>, mistakes: &mut Mistakes) {
    let name: &str = key.get_ref();
    let help = section
        .near(name)
        .map(|near| format!("did you mean `{near}`?"))
        .or_else(|| homes_of(name))
        .unwrap_or_else(|| {
            let names: Vec<_> = section.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            format!("{} has {}", section.heading(), names.join(", "))
        });
    mistakes.push(Some(key.span()), format!("unknown key `{name}` in {}", section.heading()), Some(help));
}

/// The sections that have a key of this name.
fn homes_of(name: &str) -> Option<String> {
    let homes: Vec<_> =
        SECTIONS.iter().filter(|section| section.key(name).is_some()).map(Section::heading).collect();
    (!homes.is_empty()).then(|| format!("`{name}` belongs in {}", homes.join(" or ")))
}
