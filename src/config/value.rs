//! What a value of each kind in the schema looks like, and what is said when it does not.
//!
//! Every function here takes a key and what was given for it, and returns the value or notes a mistake
//! at its place. No message repeats a value that may be a secret.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use toml::de::{DeArray, DeTable, DeValue};

use crate::ident::WORKERS_MAX;
use crate::route::certificate::{Claim, Field};
use crate::route::label::Labels;
use crate::route::{Flavour, TlsMode};
use crate::wire::auth::sha2_crypt::{self, Sha2Hash};

use super::access::Networks;
use super::address::{
    AddressError, check_cn_address, check_tcp_address, listen_address, network, socket_address,
};
use super::mistake::Mistakes;
use super::near::near;
use super::reader::{Given, Read};
use super::schema::{CPU_MAX, Key, Kind, NAME_MAX, USER_NAME_MAX};
use super::settings::{AtDeadline, ListenAddress};

/// Entries of a list of addresses at most.
const ADDRESSES_MAX: usize = 64;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

const FLAVOURS: [(&str, Flavour); 2] = [("mysql", Flavour::Mysql), ("matrixone", Flavour::Matrixone)];

const AT_DEADLINE: [(&str, AtDeadline); 2] = [("close", AtDeadline::Close), ("leave", AtDeadline::Leave)];

pub fn switch(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<bool> {
    match given.value {
        DeValue::Boolean(value) => Some(*value),
        _ => wrong_type(key, given, mistakes),
    }
}

pub fn integer(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<u64> {
    let Kind::Integer { min, max } = key.kind else { unreachable!("`{}` is no integer", key.name) };
    integer_between(key, given, min, max, mistakes)
}

pub fn number(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<f64> {
    let Kind::Number { min, max } = key.kind else { unreachable!("`{}` is no number", key.name) };
    let number: Option<f64> = match given.value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(_) => whole(given.value).map(|whole| whole as f64),
        _ => return wrong_type(key, given, mistakes),
    };
    match number.filter(|number| (min..=max).contains(number)) {
        Some(number) => Some(number),
        None => out_of_range(key, given, mistakes),
    }
}

pub fn text(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let Kind::Text { min, max } = key.kind else { unreachable!("`{}` is no text", key.name) };
    let text = string(key, given, mistakes)?;
    let length = text.len();
    let message = if length < min {
        format!("`{}` is empty", key.name)
    } else if length > max {
        format!("`{}` has {length} bytes, more than {max}", key.name)
    } else if text.chars().any(char::is_control) {
        format!("`{}` has a control character", key.name)
    } else {
        return Some(text.to_owned());
    };
    mistakes.push(given.span.clone(), message, None);
    None
}

/// What a greeting can carry and drivers can read: printable ASCII that begins with a digit.
pub fn server_version(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let text = string(key, given, mistakes)?;
    let fits = text.starts_with(|c: char| c.is_ascii_digit())
        && text.len() <= NAME_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let message = format!("`{}` is not a version that drivers can read", key.name);
        let help = format!("begin with a digit; at most {NAME_MAX} printable ASCII characters, no spaces");
        mistakes.push(given.span.clone(), message, Some(help));
    }
    fits.then(|| text.to_owned())
}

/// Directives as `tracing_subscriber::EnvFilter` reads them; a bare word must be a level, because a
/// misspelt one would be taken for the name of a module.
pub fn log_level(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let text = string(key, given, mistakes)?;
    let unknown = text.split(',').map(str::trim).filter(|part| !part.contains('[')).find_map(|part| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        (!LEVELS.contains(&level.to_lowercase().as_str())).then_some(level)
    });
    if let Some(level) = unknown {
        let help = did_you_mean(level, &LEVELS);
        mistakes.push(given.span.clone(), format!("`{level}` is not a log level"), Some(help));
        return None;
    }
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            mistakes.push(given.span.clone(), format!("`{}`: {error}", key.name), None);
            None
        }
    }
}

pub fn listeners(
    key: &'static Key,
    given: &Given<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Read<ListenAddress>>> {
    let entries = array(key, given, mistakes)?;
    if entries.is_empty() {
        mistakes.push(given.span.clone(), format!("`{}` is empty", key.name), Some(expected(key)));
        return None;
    }
    let addresses = entries.iter().filter_map(|entry| {
        let given = given.inner(entry);
        let address = address(key, &given, mistakes, listen_address)?;
        Some(Read { value: address, span: given.span })
    });
    Some(addresses.collect())
}

/// Networks, and `unix`.
pub fn networks(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Networks> {
    let mut read = Networks::default();
    for entry in few(key, given, mistakes)?.iter() {
        let given = given.inner(entry);
        match given.value {
            DeValue::String(text) if text == "unix" => read.unix = true,
            _ => read.networks.extend(address(key, &given, mistakes, network)),
        }
    }
    Some(read)
}

/// Names with stars.
pub fn names(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for entry in array(key, given, mistakes)?.iter().map(|entry| given.inner(entry)) {
        let Some(text) = string(key, &entry, mistakes) else { continue };
        if text.is_empty() || text.len() > USER_NAME_MAX || text.chars().any(char::is_control) {
            let message = format!("`{}` has a name that cannot be one", key.name);
            let help = format!("a name has 1 to {USER_NAME_MAX} bytes, and no control characters");
            mistakes.push(entry.span.clone(), message, Some(help));
        } else {
            names.push(text.to_owned());
        }
    }
    Some(names)
}

/// A list that is not too long.
fn few<'d>(key: &Key, given: &Given<'d>, mistakes: &mut Mistakes) -> Option<&'d DeArray<'d>> {
    let entries = array(key, given, mistakes)?;
    if entries.len() > ADDRESSES_MAX {
        let message = format!("`{}` has {} entries, more than {ADDRESSES_MAX}", key.name, entries.len());
        mistakes.push(given.span.clone(), message, None);
        return None;
    }
    Some(entries)
}

pub fn addresses(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    let entries = few(key, given, mistakes)?;
    Some(entries.iter().filter_map(|entry| tcp_address(key, &given.inner(entry), mistakes)).collect())
}

pub fn socket(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<SocketAddr> {
    address(key, given, mistakes, socket_address)
}

pub fn cn_address(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    address(key, given, mistakes, |text| check_cn_address(text).map(|()| text.to_owned()))
}

/// An address that is no Unix socket.
pub fn tcp_address(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    address(key, given, mistakes, |text| check_tcp_address(text).map(|()| text.to_owned()))
}

pub fn flavour(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Flavour> {
    let text = string(key, given, mistakes)?;
    let found = FLAVOURS.iter().find(|(name, _)| *name == text).map(|(_, flavour)| *flavour);
    if found.is_none() {
        let help = did_you_mean(text, &FLAVOURS.map(|(name, _)| name));
        mistakes.push(given.span.clone(), format!("`{text}` is not a flavour"), Some(help));
    }
    found
}

pub fn at_deadline(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<AtDeadline> {
    let text = string(key, given, mistakes)?;
    let found = AT_DEADLINE.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    if found.is_none() {
        let help = did_you_mean(text, &AT_DEADLINE.map(|(name, _)| name));
        mistakes.push(given.span.clone(), format!("`{}` cannot be \"{text}\"", key.name), Some(help));
    }
    found
}

/// One of the words that the schema lists.
pub fn word(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let Kind::Word(words) = key.kind else { unreachable!("`{}` is no word", key.name) };
    let text = string(key, given, mistakes)?;
    if words.contains(&text) {
        return Some(text.to_owned());
    }
    let help = did_you_mean(text, words);
    mistakes.push(given.span.clone(), format!("`{}` cannot be \"{text}\"", key.name), Some(help));
    None
}

/// One of the words for how a CN is spoken to.
pub fn tls_mode(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<TlsMode> {
    word(key, given, mistakes).and_then(|word| TlsMode::named(&word))
}

/// Some of the words of a list, each once.
pub fn words(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Vec<&'static str>> {
    let Kind::Words(words) = key.kind else { unreachable!("`{}` is no list of words", key.name) };
    let mut found = Vec::new();
    for entry in array(key, given, mistakes)? {
        let entry = given.inner(entry);
        let Some(text) = string(key, &entry, mistakes) else { continue };
        match words.iter().find(|word| **word == text) {
            Some(word) if found.contains(word) => {
                mistakes.push(entry.span.clone(), format!("`{}` has \"{text}\" twice", key.name), None);
            }
            Some(word) => found.push(*word),
            None => {
                let message = format!("`{}` cannot have \"{text}\"", key.name);
                mistakes.push(entry.span.clone(), message, Some(did_you_mean(text, words)));
            }
        }
    }
    Some(found)
}

/// `"auto"` is none.
pub fn cpus(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Option<Vec<usize>>> {
    if let DeValue::String(text) = given.value {
        return auto(key, text, given, mistakes);
    }
    let entries = array(key, given, mistakes)?;
    let message = match entries.len() {
        0 => "`cpus` is empty".to_owned(),
        count if count > WORKERS_MAX => format!("{count} workers, more than {WORKERS_MAX}"),
        _ => return Some(Some(cpu_list(key, given, entries, mistakes))),
    };
    mistakes.push(given.span.clone(), message, Some(expected(key)));
    None
}

/// `"auto"` is none.
pub fn cpu(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Option<usize>> {
    match given.value {
        DeValue::String(text) => auto(key, text, given, mistakes),
        _ => cpu_number(key, given, mistakes).map(Some),
    }
}

pub fn labels(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Labels> {
    let DeValue::Table(table) = given.value else { return wrong_type(key, given, mistakes) };
    let mut labels = BTreeMap::new();
    for (name, entry) in table {
        if name.get_ref().trim().is_empty() || name.get_ref().len() > NAME_MAX {
            let message = format!("a label has a name of 1 to {NAME_MAX} bytes");
            mistakes.push(given.span.as_ref().map(|_| name.span()), message, None);
        }
        labels
            .insert(name.get_ref().to_string(), label_values(name.get_ref(), &given.inner(entry), mistakes));
    }
    Some(Labels(labels))
}

/// Labels, each with the field that it is taken from.
pub fn certificate_labels(
    key: &'static Key,
    given: &Given<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<(String, Field)>> {
    let DeValue::Table(table) = given.value else { return wrong_type(key, given, mistakes) };
    let mut rules = Vec::new();
    for (name, entry) in table {
        let (label, given) = (name.get_ref().trim(), given.inner(entry));
        if label.is_empty() || label.len() > NAME_MAX {
            let message = format!("a label has a name of 1 to {NAME_MAX} bytes");
            mistakes.push(given.span.clone(), message, None);
        }
        let Some(text) = string(key, &given, mistakes) else { continue };
        match Field::named(text) {
            Some(field) => rules.push((label.to_owned(), field)),
            None => {
                let message = format!("`{text}` is not a field of certificates");
                mistakes.push(given.span.clone(), message, Some(did_you_mean(text, &Field::names())));
            }
        }
    }
    Some(rules)
}

/// What certificates have to have.
pub fn claims(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Vec<Claim>> {
    let mut claims = Vec::new();
    for entry in few(key, given, mistakes)?.iter().map(|entry| given.inner(entry)) {
        let Some(text) = string(key, &entry, mistakes) else { continue };
        match Claim::read(text) {
            Some(claim) => claims.push(claim),
            None => {
                let message = format!("`{}` cannot have \"{text}\"", key.name);
                mistakes.push(entry.span.clone(), message, Some(expected(key)));
            }
        }
    }
    Some(claims)
}

/// SHA1(SHA1(password)) from `*` and 40 hex digits, as MySQL prints it.
pub fn native_hash(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<[u8; 20]> {
    let text = string(key, given, mistakes)?;
    let hash = text.strip_prefix('*').and_then(from_hex);
    if hash.is_none() {
        let digits = text.chars().filter(char::is_ascii_hexdigit).count();
        let message = format!("`{}` is not `*` and 40 hex digits: {digits} hex digits", key.name);
        let message = if text.starts_with('*') { message } else { message + ", no `*`" };
        mistakes.push(given.span.clone(), message, None);
    }
    hash
}

/// What `caching_sha2_password` stores: its 70 bytes in hexadecimal, or as they are.
pub fn sha2_hash(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Sha2Hash> {
    let text = string(key, given, mistakes)?;
    let bytes = text.strip_prefix("0x").and_then(from_hex::<{ sha2_crypt::TEXT }>);
    let hash = Sha2Hash::read(bytes.as_ref().map_or(text.as_bytes(), |bytes| bytes));
    if hash.is_none() {
        let message = format!("`{}` is no hash of caching_sha2_password", key.name);
        mistakes.push(given.span.clone(), message, Some(expected(key)));
    }
    hash
}

pub fn file(key: &'static Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let path = string(key, given, mistakes)?;
    if path.is_empty() {
        mistakes.push(given.span.clone(), format!("`{}` is empty", key.name), None);
        return None;
    }
    Some(path.to_owned())
}

/// The tables of a list of tables, each with its place.
pub fn tables<'d>(
    key: &'static Key,
    given: &Given<'d>,
    mistakes: &mut Mistakes,
) -> Option<Vec<(&'d DeTable<'d>, Given<'d>)>> {
    let entries = array(key, given, mistakes)?;
    if entries.is_empty() {
        mistakes.push(given.span.clone(), format!("`{}` is empty", key.name), Some(expected(key)));
        return None;
    }
    let tables = entries.iter().filter_map(|entry| match entry.get_ref() {
        DeValue::Table(table) => Some((table, given.inner(entry))),
        _ => wrong_type(key, &given.inner(entry), mistakes),
    });
    Some(tables.collect())
}

fn integer_between(key: &Key, given: &Given<'_>, min: u64, max: u64, mistakes: &mut Mistakes) -> Option<u64> {
    if !given.value.is_integer() {
        return wrong_type(key, given, mistakes);
    }
    let number = whole(given.value).and_then(|whole| u64::try_from(whole).ok());
    match number.filter(|number| (min..=max).contains(number)) {
        Some(number) => Some(number),
        None => out_of_range(key, given, mistakes),
    }
}

fn whole(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn string<'d>(key: &Key, given: &Given<'d>, mistakes: &mut Mistakes) -> Option<&'d str> {
    match given.value {
        DeValue::String(text) => Some(text),
        _ => wrong_type(key, given, mistakes),
    }
}

fn array<'d>(key: &Key, given: &Given<'d>, mistakes: &mut Mistakes) -> Option<&'d DeArray<'d>> {
    match given.value {
        DeValue::Array(entries) => Some(entries),
        _ => wrong_type(key, given, mistakes),
    }
}

fn address<T>(
    key: &Key,
    given: &Given<'_>,
    mistakes: &mut Mistakes,
    read: impl Fn(&str) -> Result<T, AddressError>,
) -> Option<T> {
    let text = string(key, given, mistakes)?;
    match read(text) {
        Ok(address) => Some(address),
        Err(error) => {
            mistakes.push(given.span.clone(), format!("bad address `{text}`: {error}"), error.help(text));
            None
        }
    }
}

fn cpu_list(key: &Key, given: &Given<'_>, entries: &DeArray<'_>, mistakes: &mut Mistakes) -> Vec<usize> {
    let mut cpus = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        let given = given.inner(entry);
        cpus.extend(cpu_number(key, &given, mistakes));
    }
    cpus
}

fn cpu_number(key: &Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<usize> {
    if !given.value.is_integer() {
        return wrong_type(key, given, mistakes);
    }
    let number = whole(given.value).filter(|number| (0..=i128::from(CPU_MAX)).contains(number));
    if number.is_none() {
        let message = format!("{} is not a CPU number from 0 to {CPU_MAX}", shown(given.value));
        mistakes.push(given.span.clone(), message, None);
    }
    number.and_then(|number| usize::try_from(number).ok())
}

fn auto<T>(key: &Key, text: &str, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<Option<T>> {
    if text == "auto" {
        return Some(None);
    }
    mistakes.push(given.span.clone(), format!("`{}` cannot be \"{text}\"", key.name), Some(expected(key)));
    None
}

fn label_values(label: &str, given: &Given<'_>, mistakes: &mut Mistakes) -> Vec<String> {
    let one = |given: &Given<'_>, mistakes: &mut Mistakes| match given.value {
        DeValue::String(text) if text.trim().is_empty() => {
            mistakes.push(given.span.clone(), format!("label `{label}` has an empty value"), None);
            None
        }
        DeValue::String(text) => Some(text.to_string()),
        other => {
            let message = format!("label `{label}` has {} for a value", article(other.type_str()));
            mistakes.push(given.span.clone(), message, Some("expected a string or a list of strings".into()));
            None
        }
    };
    match given.value {
        DeValue::Array(entries) if entries.is_empty() => {
            mistakes.push(given.span.clone(), format!("label `{label}` has no value"), None);
            Vec::new()
        }
        DeValue::Array(entries) => {
            entries.iter().filter_map(|entry| one(&given.inner(entry), mistakes)).collect()
        }
        _ => one(given, mistakes).into_iter().collect(),
    }
}

fn from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..2 * N).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn wrong_type<T>(key: &Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<T> {
    let message = format!("`{}` is {}", key.name, article(given.value.type_str()));
    mistakes.push(given.span.clone(), message, Some(expected(key)));
    None
}

fn out_of_range<T>(key: &Key, given: &Given<'_>, mistakes: &mut Mistakes) -> Option<T> {
    let message = format!("`{}` cannot be {}", key.name, shown(given.value));
    mistakes.push(given.span.clone(), message, Some(expected(key)));
    None
}

fn expected(key: &Key) -> String {
    format!("expected {}", key.kind.expects())
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        other => article(other.type_str()),
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn did_you_mean(text: &str, known: &[&str]) -> String {
    match near(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}
