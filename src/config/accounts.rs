//! Users, and the accounts by which corelane itself asks CNs, made of their sections: who, and with which secret.
//!
//! A secret comes from the file itself, from another file, from the environment or from a credential of the service manager's. All are
//! read with the configuration, so that one that is missing is a mistake of it like any other. None is ever printed.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::access::Networks;
use super::assemble::Unique;
use super::mistake::Mistakes;
use super::reader::{Given, Place};
use super::schema::Key;
use super::settings::{Account, AdminUser, Auth, UserSecret, UserSetting};
use super::tls::read_file;
use super::value;
use crate::secret::Secret;
use crate::wire::auth::Plugin;
use crate::wire::auth::rsa::ServerKey;

/// The bytes that are read of a password file at most.
const PASSWORD_FILE_MAX: u64 = 4096;

/// Where a service manager puts its credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The keys of a secret: as it is, in a file, in the environment, as a credential.
type Ways = [&'static str; 4];

const PASSWORD: Ways = ["password", "password_file", "password_env", "password_credential"];

/// The keys of a hash in the place of a password.
const HASHES: [&str; 2] = ["native_hash", "sha2_hash"];

/// The keys by which a section names an account.
pub(super) struct AccountKeys {
    user: &'static str,
    password: Ways,
}

const AUTH: AccountKeys = AccountKeys {
    user: "query_user",
    password: ["query_password", "query_password_file", "query_password_env", "query_password_credential"],
};

pub(super) const DISCOVERY: AccountKeys = AccountKeys { user: "user", password: PASSWORD };

pub(super) fn auth(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> Auth {
    Auth {
        query: account(place, &AUTH, directory, mistakes),
        query_interval: place.millis("query_interval_ms", mistakes),
        plugin: plugin(place, mistakes).expect("has a default"),
        key: rsa_key(place, directory, mistakes).map(Arc::new),
        trusts_cn_keys: place.read("trust_cn_keys", mistakes, value::switch).is_some_and(|read| read.value),
    }
}

pub(super) fn account(
    place: &Place<'_>,
    keys: &AccountKeys,
    directory: &Path,
    mistakes: &mut Mistakes,
) -> Option<Account> {
    let user = place.text(keys.user, mistakes);
    let password = password(place, &keys.password, directory, mistakes);
    let heading = place.heading();
    match (place.has(keys.user), password.is_given) {
        (true, false) => {
            let help = format!("write one of `{}`", keys.password.join("`, `"));
            mistakes.push_absence(place.span(), format!("{heading} {} has no password", keys.user), help);
        }
        (false, true) => {
            let message = format!("{heading} has a password and no `{}`", keys.user);
            mistakes.push_absence(place.span(), message, format!("write `{}`", keys.user));
        }
        (true, true) | (false, false) => {}
    }
    Some(Account { user: user?.value, password: password.secret? })
}

pub(super) fn users(places: &[Place<'_>], directory: &Path, mistakes: &mut Mistakes) -> Vec<UserSetting> {
    let mut known = Unique::default();
    let users = places.iter().filter_map(|place| {
        let name = place.text("name", mistakes);
        if let Some(name) = &name {
            known.note_if_known("user", name, mistakes);
        }
        let secret = user_secret(place, directory, mistakes);
        let plugin = plugin(place, mistakes);
        let cannot = matches!(
            (&secret, plugin),
            (Some(UserSecret::NativeHash(_) | UserSecret::Sha2Hash(_)), Some(Plugin::Ed25519))
                | (Some(UserSecret::Sha2Hash(_)), Some(Plugin::Native))
        );
        if let Some(plugin) = plugin.filter(|_| cannot) {
            let message = format!("{} cannot be checked by a hash of another plugin", plugin.name());
            mistakes.push(place.key_span("plugin"), message, Some("write `password`".to_owned()));
        }
        let from = allowed(place, "from", mistakes, value::networks, Networks::is_empty);
        let certificate = allowed(place, "certificate", mistakes, value::claims, Vec::is_empty);
        Some(UserSetting { name: name?.value, secret: secret?, plugin, from, certificate })
    });
    users.collect()
}

/// A list that keeps out all that is not in it, where it is written. One that was meant to be empty would keep everybody out; one in
/// which everything is wrong was noted as that.
pub(super) fn allowed<T>(
    place: &Place<'_>,
    key: &str,
    mistakes: &mut Mistakes,
    parse: impl Fn(&'static Key, &Given<'_>, &mut Mistakes) -> Option<T>,
    is_empty: impl Fn(&T) -> bool,
) -> Option<T> {
    let before = mistakes.list().len();
    let read = place.read(key, mistakes, parse)?;
    if is_empty(&read.value) && mistakes.list().len() == before {
        let help = "leave it out to let everybody in".to_owned();
        mistakes.push(read.span, format!("`{key}` is empty, and would keep everybody out"), Some(help));
    }
    Some(read.value)
}

pub(super) fn admin_users(
    entries: &[Place<'_>],
    directory: &Path,
    mistakes: &mut Mistakes,
) -> Vec<AdminUser> {
    let mut known = Unique::default();
    let users = entries.iter().filter_map(|entry| {
        let name = entry.text("name", mistakes);
        let password = password(entry, &PASSWORD, directory, mistakes);
        if !password.is_given {
            let message = format!("{} has no password", entry.heading());
            mistakes.push_absence(entry.span(), message, format!("write one of `{}`", PASSWORD.join("`, `")));
        }
        let name = name?;
        known.note_if_known("admin user", &name, mistakes);
        Some(AdminUser { name: name.value, password: password.secret? })
    });
    users.collect()
}

fn plugin(place: &Place<'_>, mistakes: &mut Mistakes) -> Option<Plugin> {
    let word = place.read("plugin", mistakes, value::word)?;
    Plugin::named(word.value.as_bytes())
}

/// The one secret of a user: a password, or a hash.
fn user_secret(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> Option<UserSecret> {
    let native = place.read("native_hash", mistakes, value::native_hash);
    let sha2 = place.read("sha2_hash", mistakes, value::sha2_hash);
    let password = password(place, &PASSWORD, directory, mistakes);
    let hashes: Vec<_> = HASHES.into_iter().filter(|name| place.has(name)).collect();
    match (password.is_given, &hashes[..]) {
        (false, []) => {
            let help = format!("write `native_hash`, `sha2_hash` or one of `{}`", PASSWORD.join("`, `"));
            mistakes.push_absence(place.span(), "[[user]] has no password".to_owned(), help);
        }
        (true, [hash, ..]) => {
            let message = format!("[[user]] has a password and `{hash}`");
            let help = "only one of them can be right".to_owned();
            mistakes.push(place.key_span(hash), message, Some(help));
        }
        (false, [first, second, ..]) => {
            let message = format!("[[user]] has `{first}` and `{second}`");
            let help = "only one of them can be right".to_owned();
            mistakes.push(place.key_span(second), message, Some(help));
        }
        (true, []) | (false, [_]) => {}
    }
    let hash = native.map(|hash| UserSecret::NativeHash(hash.value));
    let hash = hash.or(sha2.map(|hash| UserSecret::Sha2Hash(hash.value)));
    hash.or(password.secret.map(UserSecret::Password))
}

/// A password, as far as it is there.
struct Password {
    /// In some way, right or wrong.
    is_given: bool,
    secret: Option<Secret>,
}

fn password(place: &Place<'_>, ways: &Ways, directory: &Path, mistakes: &mut Mistakes) -> Password {
    let given: Vec<_> = ways.iter().filter(|name| place.has(name)).collect();
    if let [first, second, ..] = given[..] {
        let message = format!("{} has `{first}` and `{second}`", place.heading());
        let help = "only one of them can be right".to_owned();
        mistakes.push(place.key_span(second), message, Some(help));
    }
    let [plain, file, variable, credential] = *ways;
    let secret = place.text(plain, mistakes).map(|password| Secret::from(password.value));
    let file = place.read(file, mistakes, value::file).map(|file| {
        let found = first_line(&directory.join(&file.value)).map_err(|error| error.to_string());
        taken(found, &format!("password file `{}`", file.value), file.span, mistakes)
    });
    let variable = place.text(variable, mistakes).map(|name| {
        let found = std::env::var(&name.value).map(Secret::from).map_err(|error| error.to_string());
        taken(found, &format!("environment variable `{}`", name.value), name.span, mistakes)
    });
    let credential = place.text(credential, mistakes).map(|name| {
        taken(credential_of(&name.value), &format!("credential `{}`", name.value), name.span, mistakes)
    });
    let secret = secret.or(file.flatten()).or(variable.flatten()).or(credential.flatten());
    Password { is_given: !given.is_empty(), secret }
}

fn taken(
    found: Result<Secret, String>,
    what: &str,
    span: Option<Range<usize>>,
    mistakes: &mut Mistakes,
) -> Option<Secret> {
    found.map_err(|error| mistakes.push(span, format!("{what}: {error}"), None)).ok()
}

fn credential_of(name: &str) -> Result<Secret, String> {
    if name.contains('/') || name.starts_with('.') {
        return Err("it is not the name of a credential".to_owned());
    }
    let directory = std::env::var_os(CREDENTIALS_DIRECTORY)
        .ok_or_else(|| format!("no service manager has left any (there is no ${CREDENTIALS_DIRECTORY})"))?;
    first_line(&Path::new(&directory).join(name)).map_err(|error| error.to_string())
}

fn first_line(path: &Path) -> io::Result<Secret> {
    let mut line = String::new();
    BufReader::new(std::fs::File::open(path)?.take(PASSWORD_FILE_MAX)).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    match line.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "its first line is empty")),
        false => Ok(line.into()),
    }
}

fn rsa_key(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> Option<ServerKey> {
    let file = place.read("rsa_key_file", mistakes, value::file)?;
    let read = read_file(&directory.join(&file.value)).map(zeroize::Zeroizing::new);
    let key = match read {
        Ok(pem) => ServerKey::read(&pem).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    key.map_err(|error| mistakes.push(file.span, format!("`{}`: {error}", file.value), None)).ok()
}
