//! From the tables of a file to [`Settings`]: each section by its keys, then what must hold between them.
//!
//! Goes on after every mistake; the settings that come out are to be used only where none was noted.
//! Reads no file but those that keys named `.._file` name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::ident::{CNS_MAX, WORKERS_MAX};
use crate::route::{Flavour, TlsMode};
use crate::wire::compressed::codec::{Algorithm, Packing};

use super::access::{Access, Blocking, Names, Networks};
use super::accounts;
use super::address::{check_query_address, clash};
use super::check;
use super::mistake::Mistakes;
use super::reader::{Place, Read, note_unknown_section};
use super::schema::{self, ADMIN_USER};
use super::settings::*;
use super::tls::{self, CnTls};
use super::value;

/// Settings from a parsed file. `directory` is where relative paths begin.
pub fn settings(root: &DeTable<'_>, directory: &Path, mistakes: &mut Mistakes) -> Settings {
    note_unknown_sections(root, mistakes);
    let (listen, listeners) = listen(&once(root, "listen", mistakes), mistakes);
    let users = accounts::users(&each(root, "user", mistakes), directory, mistakes);
    let admin = admin(&once(root, "admin", mistakes), &listeners, directory, mistakes);
    let cn_tls = Arc::new(tls::client(&once(root, "cn_tls", mistakes), directory, mistakes));
    Settings {
        listen,
        proxy_protocol: proxy_protocol(&once(root, "proxy_protocol", mistakes), mistakes),
        access: access(&once(root, "access", mistakes), &users, mistakes),
        limits: limits(&once(root, "limits", mistakes), mistakes),
        tls: tls::server(&once(root, "tls", mistakes), directory, mistakes).map(Arc::new),
        cn_tcp: keepalive(&once(root, "cn_tcp", mistakes), mistakes),
        compression: compression(&once(root, "compression", mistakes), mistakes),
        workers: workers(&once(root, "workers", mistakes), mistakes),
        login: login(&once(root, "login", mistakes), mistakes),
        timeouts: timeouts(&once(root, "timeouts", mistakes), mistakes),
        auth: accounts::auth(&once(root, "auth", mistakes), directory, mistakes),
        discovery: discovery(&once(root, "discovery", mistakes), directory, mistakes),
        probe: probe(&once(root, "probe", mistakes), mistakes),
        relay: Relay { buffers_mib: once(root, "relay", mistakes).count("buffers_mib", mistakes) },
        shutdown: Shutdown { grace: once(root, "shutdown", mistakes).millis("grace_ms", mistakes) },
        log: log(&once(root, "log", mistakes), mistakes),
        http: http(&once(root, "http", mistakes), &listeners, admin.listen, mistakes),
        balance: balance(&once(root, "balance", mistakes), mistakes),
        drain: drain(&once(root, "drain", mistakes), mistakes),
        migration: migration(&once(root, "migration", mistakes), mistakes),
        cns: cns(root, &cn_tls, mistakes),
        cn_tls,
        users,
        admin,
    }
}

fn note_unknown_sections(root: &DeTable<'_>, mistakes: &mut Mistakes) {
    for (name, entry) in root {
        if schema::section(name.get_ref()).is_none() {
            let is_table = match entry.get_ref() {
                DeValue::Array(entries) => entries.iter().all(|entry| entry.get_ref().is_table()),
                other => other.is_table(),
            };
            note_unknown_section(name, is_table, mistakes);
        }
    }
}

/// A section that the file has once at most.
fn once<'d>(root: &'d DeTable<'d>, name: &str, mistakes: &mut Mistakes) -> Place<'d> {
    let section = schema::section(name).expect("every section that is asked for is in the schema");
    let table = root.get_key_value(name).and_then(|(key, entry)| match entry.get_ref() {
        DeValue::Table(table) => Some((table, entry.span())),
        _ => {
            let message = format!("`{name}` is not a section");
            mistakes.push(Some(key.span()), message, Some(format!("write `{}`, once", section.heading())));
            None
        }
    });
    let (table, span) = table.unzip();
    Place::new(section, table, span, mistakes)
}

/// A section that the file may have any number of times.
fn each<'d>(root: &'d DeTable<'d>, name: &str, mistakes: &mut Mistakes) -> Vec<Place<'d>> {
    let section = schema::section(name).expect("every section that is asked for is in the schema");
    let Some((key, entry)) = root.get_key_value(name) else { return Vec::new() };
    let DeValue::Array(entries) = entry.get_ref() else {
        let help = format!("write `{}`, with two brackets on either side", section.heading());
        mistakes.push(Some(key.span()), format!("`{name}` is not a list of sections"), Some(help));
        let table = entry.get_ref().as_table().map(|table| Place::new(section, Some(table), None, mistakes));
        return table.into_iter().collect();
    };
    let mut places = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        match entry.get_ref() {
            DeValue::Table(table) => {
                places.push(Place::new(section, Some(table), Some(entry.span()), mistakes));
            }
            _ => mistakes.push(Some(entry.span()), format!("not a `{}` section", section.heading()), None),
        }
    }
    places
}

fn listen(place: &Place<'_>, mistakes: &mut Mistakes) -> (Listen, Vec<Read<ListenAddress>>) {
    let listeners = place.read("sql", mistakes, value::listeners).map_or(Vec::new(), |read| read.value);
    for (at, listener) in listeners.iter().enumerate() {
        if let Some(earlier) = listeners[..at].iter().find(|earlier| clash(&earlier.value, &listener.value)) {
            let message = match earlier.value == listener.value {
                true => format!("two listeners on {}", listener.value),
                false => format!("two listeners in one place: {} and {}", earlier.value, listener.value),
            };
            mistakes.push(listener.span.clone(), message, None);
        }
    }
    let (max_sessions, per_tenant) =
        (place.count("max_sessions", mistakes), place.count("max_sessions_per_tenant", mistakes));
    let (first_connection_id, connection_ids) = connection_ids(place, max_sessions, mistakes);
    let listen = Listen {
        sql: listeners.iter().map(|listener| listener.value.clone()).collect(),
        backlog: place.count("backlog", mistakes),
        max_sessions,
        laid_down_for: max_sessions,
        max_sessions_per_tenant: (per_tenant > 0).then_some(per_tenant),
        first_connection_id,
        connection_ids,
        server_version: place.read("server_version", mistakes, value::server_version).map(|read| read.value),
        tcp: keepalive(place, mistakes),
    };
    (listen, listeners)
}

fn keepalive(place: &Place<'_>, mistakes: &mut Mistakes) -> Keepalive {
    let mut seconds = |name| {
        let seconds = Some(place.count(name, mistakes)).filter(|seconds| *seconds > 0);
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    };
    let (idle, interval) = (seconds("keepalive_idle_s"), seconds("keepalive_interval_s"));
    Keepalive {
        idle,
        interval,
        probes: Some(place.count("keepalive_probes", mistakes)).filter(|probes| *probes > 0),
        user_timeout: Some(place.millis("user_timeout_ms", mistakes)).filter(|limit| !limit.is_zero()),
    }
}

/// The first connection id and how many there are: no worker may run out of them, and none is beyond the last.
fn connection_ids(place: &Place<'_>, max_sessions: u32, mistakes: &mut Mistakes) -> (u32, u32) {
    let first = place.count("first_connection_id", mistakes);
    let (count, span) = match place.read("connection_ids", mistakes, value::integer) {
        Some(read) => (u32::try_from(read.value).unwrap_or(u32::MAX), read.span),
        None => (u32::MAX - first, None),
    };
    let beyond = count > u32::MAX - first;
    // The default counts on the default of the first one.
    let count = if beyond && span.is_none() { u32::MAX - first } else { count };
    if beyond && span.is_some() {
        let message = format!("{count} connection ids from {first} on would go beyond 4294967294");
        mistakes.push(span, message, None);
    } else if u64::from(count) < u64::from(max_sessions) * WORKERS_MAX as u64 {
        let needed = u64::from(max_sessions) * WORKERS_MAX as u64;
        let message = format!(
            "{count} connection ids from {first} on are too few: {max_sessions} sessions need {needed}"
        );
        mistakes.push(span, message, None);
    }
    (first, count)
}

/// None where the list is empty.
fn proxy_protocol(place: &Place<'_>, mistakes: &mut Mistakes) -> Option<Arc<Networks>> {
    let read = place.read("from", mistakes, value::networks)?.value;
    (!read.is_empty()).then(|| Arc::new(read))
}

/// None where nobody is kept out.
fn access(place: &Place<'_>, users: &[UserSetting], mistakes: &mut Mistakes) -> Option<Arc<Access>> {
    let mut names = |denied, allowed| Names {
        denied: place.read(denied, mistakes, value::names).map_or(Vec::new(), |read| read.value),
        allowed: accounts::allowed(place, allowed, mistakes, value::names, Vec::is_empty),
    };
    let (users_named, tenants) =
        (names("users_denied", "users_allowed"), names("tenants_denied", "tenants_allowed"));
    let homes = users.iter().filter_map(|user| Some((user.name.clone(), user.from.clone()?)));
    let claims = users.iter().filter_map(|user| Some((user.name.clone(), user.certificate.clone()?)));
    let access = Access {
        deny: place.read("deny", mistakes, value::networks).map(|read| read.value).unwrap_or_default(),
        allow: accounts::allowed(place, "allow", mistakes, value::networks, Networks::is_empty),
        users: users_named,
        tenants,
        homes: homes.collect(),
        claims: claims.collect(),
        blocking: blocking(place, mistakes),
    };
    (access != Access::default()).then(|| Arc::new(access))
}

/// None where no address is shut out.
fn blocking(place: &Place<'_>, mistakes: &mut Mistakes) -> Option<Blocking> {
    let mut limit = |name| Some(place.count(name, mistakes)).filter(|limit| *limit > 0);
    let (connect_errors, failed_logins) = (limit("max_connect_errors"), limit("max_failed_logins"));
    let lasts = Duration::from_secs(place.count("blocked_s", mistakes).into());
    (connect_errors.is_some() || failed_logins.is_some()).then_some(Blocking {
        connect_errors,
        failed_logins,
        lasts,
    })
}

fn compression(place: &Place<'_>, mistakes: &mut Mistakes) -> Compression {
    let clients = place.read("clients", mistakes, value::words).map_or(Vec::new(), |read| read.value);
    let cns = place.read("cns", mistakes, value::word).map(|read| read.value);
    let level = |key, mistakes: &mut Mistakes| {
        u8::try_from(place.count(key, mistakes)).expect("the schema's range is small")
    };
    let (zlib, zstd) = (level("level_zlib", mistakes), level("level_zstd", mistakes));
    let zlib = Packing { algorithm: Algorithm::Zlib, level: zlib };
    let zstd = Packing { algorithm: Algorithm::Zstd, level: zstd };
    Compression {
        zlib: clients.contains(&"zlib").then_some(zlib),
        zstd: clients.contains(&"zstd").then_some(zstd),
        cns: match cns.as_deref() {
            Some("zlib") => Some(zlib),
            Some("zstd") => Some(zstd),
            _ => None,
        },
    }
}

fn workers(place: &Place<'_>, mistakes: &mut Mistakes) -> Workers {
    Workers {
        cpus: place.read("cpus", mistakes, value::cpus).and_then(|read| read.value),
        coordinator_cpu: place.read("coordinator_cpu", mistakes, value::cpu).and_then(|read| read.value),
        spin: place.micros("spin_us", mistakes),
    }
}

fn admin(
    place: &Place<'_>,
    listeners: &[Read<ListenAddress>],
    directory: &Path,
    mistakes: &mut Mistakes,
) -> Admin {
    let listen = place.read("listen", mistakes, value::socket).expect("has a default");
    let address = ListenAddress::Tcp(listen.value);
    if let Some(listener) = listeners.iter().find(|listener| clash(&listener.value, &address)) {
        let message = format!("[admin] listens on {address}, where [listen] sql does ({})", listener.value);
        mistakes.push(listen.span.clone().or(listener.span.clone()), message, None);
    }
    if !listen.value.ip().is_loopback() && !place.has("users") {
        let message = format!("[admin] has no `users`, and {address} is not a loopback address");
        let help = "the default admin/admin holds for loopback only; write `users = [{ name = \"..\", password = \"..\" }]`";
        mistakes.push_absence(listen.span.clone(), message, help.to_owned());
    }
    let users = place.read("users", mistakes, |key, given, mistakes| {
        let tables = value::tables(key, given, mistakes)?;
        let entries = tables
            .iter()
            .map(|(table, given)| Place::new(&ADMIN_USER, Some(table), given.span.clone(), mistakes));
        let entries: Vec<_> = entries.collect();
        Some(accounts::admin_users(&entries, directory, mistakes))
    });
    Admin {
        listen: listen.value,
        users: users.map_or(Vec::new(), |read| read.value),
        max_connections: place.count("max_connections", mistakes),
    }
}

fn login(place: &Place<'_>, mistakes: &mut Mistakes) -> Login {
    Login {
        client_timeout: place.millis("client_timeout_ms", mistakes),
        connect_timeout: place.millis("connect_timeout_ms", mistakes),
        cn_timeout: place.millis("cn_timeout_ms", mistakes),
        attempts: place.count("attempts", mistakes),
    }
}

fn limits(place: &Place<'_>, mistakes: &mut Mistakes) -> Limits {
    let mut limit = |name| Some(place.count(name, mistakes)).filter(|limit| *limit > 0);
    Limits {
        sessions_per_user: limit("sessions_per_user"),
        sessions_per_client: limit("sessions_per_client"),
        accepts_per_second: limit("accepts_per_second"),
    }
}

fn timeouts(place: &Place<'_>, mistakes: &mut Mistakes) -> Timeouts {
    let mut limit = |name| Some(place.millis(name, mistakes)).filter(|limit| !limit.is_zero());
    Timeouts { idle: limit("idle_ms"), transaction: limit("transaction_ms"), query: limit("query_ms") }
}

fn discovery(place: &Place<'_>, directory: &Path, mistakes: &mut Mistakes) -> Discovery {
    Discovery {
        account: accounts::account(place, &accounts::DISCOVERY, directory, mistakes),
        interval: place.millis("interval_ms", mistakes),
        query_port: u16::try_from(place.count("query_port", mistakes))
            .expect("the schema's range is that of ports"),
        hakeeper: place.read("hakeeper", mistakes, value::addresses).map_or(Vec::new(), |read| read.value),
    }
}

fn probe(place: &Place<'_>, mistakes: &mut Mistakes) -> Probe {
    Probe {
        interval: place.millis("interval_ms", mistakes),
        timeout: place.millis("timeout_ms", mistakes),
        fall: place.count("fall", mistakes),
        rise: place.count("rise", mistakes),
    }
}

fn log(place: &Place<'_>, mistakes: &mut Mistakes) -> Log {
    Log { level: place.read("level", mistakes, value::log_level).expect("has a default").value }
}

fn http(
    place: &Place<'_>,
    listeners: &[Read<ListenAddress>],
    admin: SocketAddr,
    mistakes: &mut Mistakes,
) -> Option<Http> {
    let listen = place.read("listen", mistakes, value::socket).expect("has a default");
    let address = ListenAddress::Tcp(listen.value);
    let listener = listeners.iter().find(|listener| clash(&listener.value, &address));
    let taken = listener.map(|listener| format!("[listen] sql does ({})", listener.value));
    let taken = taken
        .or_else(|| clash(&ListenAddress::Tcp(admin), &address).then(|| format!("[admin] does ({admin})")));
    if let Some(other) = taken.filter(|_| place.is_written()) {
        let message = format!("[http] listens on {address}, where {other}");
        mistakes.push(listen.span.clone().or(place.span()), message, None);
    }
    let http = Http {
        listen: listen.value,
        max_connections: place.count("max_connections", mistakes),
        matrixone_names: place
            .read("matrixone_names", mistakes, value::switch)
            .is_some_and(|read| read.value),
    };
    place.is_written().then_some(http)
}

fn balance(place: &Place<'_>, mistakes: &mut Mistakes) -> Balance {
    Balance {
        enabled: place.read("enabled", mistakes, value::switch).is_some_and(|read| read.value),
        interval: place.millis("interval_ms", mistakes),
        tolerance: place.read("tolerance", mistakes, value::number).map_or(0.0, |read| read.value),
        dwell: place.millis("dwell_ms", mistakes),
        moves_per_second: place.count("moves_per_second", mistakes),
    }
}

fn drain(place: &Place<'_>, mistakes: &mut Mistakes) -> Drain {
    let deadline = place.count("deadline_s", mistakes);
    let moves_per_second = place.count("moves_per_second", mistakes);
    Drain {
        deadline: (deadline > 0).then(|| Duration::from_secs(deadline.into())),
        at_deadline: place.read("at_deadline", mistakes, value::at_deadline).expect("has a default").value,
        moves_per_second: (moves_per_second > 0).then_some(moves_per_second),
    }
}

fn migration(place: &Place<'_>, mistakes: &mut Mistakes) -> Migration {
    let back_off = place.millis("back_off_ms", mistakes);
    Migration {
        patience: place.millis("patience_ms", mistakes),
        idle: place.millis("idle_ms", mistakes),
        restore_timeout: place.millis("restore_timeout_ms", mistakes),
        back_off,
        back_off_max: place.millis("back_off_max_ms", mistakes).max(back_off),
        at_once: place.count("at_once", mistakes),
    }
}

fn cns(root: &DeTable<'_>, cn_tls: &CnTls, mistakes: &mut Mistakes) -> Vec<CnSetting> {
    let places = each(root, "cn", mistakes);
    if let Some(place) = places.get(CNS_MAX) {
        let message = format!("{} CNs, more than {CNS_MAX}", places.len());
        mistakes.push(place.span(), message, None);
    }
    let mut known = Unique::default();
    places.iter().filter_map(|place| cn(place, cn_tls, &mut known, mistakes)).collect()
}

fn cn(place: &Place<'_>, cn_tls: &CnTls, known: &mut Unique, mistakes: &mut Mistakes) -> Option<CnSetting> {
    let id = place.text("id", mistakes);
    if let Some(id) = &id {
        known.note_if_known("CN", id, mistakes);
    }
    let address = place.read("address", mistakes, value::cn_address);
    let flavour = place.read("flavour", mistakes, value::flavour).expect("has a default");
    let labels = place.read("labels", mistakes, value::labels).map(|read| read.value).unwrap_or_default();
    let weight = place.count("weight", mistakes);
    let data = place.text("data", mistakes).map(|read| read.value);
    let query_address = query_address(place, address.as_ref(), &flavour, mistakes);
    let max_sessions = Some(place.count("max_sessions", mistakes)).filter(|most| *most > 0);
    let proxy_protocol = takes_header(place, &flavour, mistakes);
    let tls = tls_mode(place, address.as_ref(), &flavour, cn_tls, mistakes);
    Some(CnSetting {
        id: id?.value,
        address: address?.value,
        flavour: flavour.value,
        labels,
        weight,
        data,
        query_address,
        proxy_protocol,
        tls,
        max_sessions,
    })
}

fn takes_header(place: &Place<'_>, flavour: &Read<Flavour>, mistakes: &mut Mistakes) -> bool {
    let read = place.read("proxy_protocol", mistakes, value::switch).is_some_and(|read| read.value);
    if read && flavour.value == Flavour::Matrixone {
        let help = "leave it out: its preamble tells a MatrixOne CN the client's address";
        let span = place.key_span("proxy_protocol");
        mistakes.push(span, "`proxy_protocol` is for CNs of flavour mysql", Some(help.to_owned()));
    }
    read
}

fn tls_mode(
    place: &Place<'_>,
    address: Option<&Read<String>>,
    flavour: &Read<Flavour>,
    cn_tls: &CnTls,
    mistakes: &mut Mistakes,
) -> Option<TlsMode> {
    let mode = place.read("tls", mistakes, value::tls_mode)?;
    if let Some(Err(error)) = address.map(|address| check::tls(flavour.value, &address.value)) {
        mistakes.push(place.key_span("tls"), error, Some("leave it out".to_owned()));
    } else if mode.value.verifies() && !cn_tls.vouches() {
        let message = format!("`tls` is \"{}\", and nobody vouches for CNs", mode.value.name());
        mistakes.push(mode.span, message, Some("write `ca_file` in [cn_tls]".to_owned()));
    }
    Some(mode.value)
}

fn query_address(
    place: &Place<'_>,
    cn_address: Option<&Read<String>>,
    flavour: &Read<Flavour>,
    mistakes: &mut Mistakes,
) -> Option<String> {
    let query = place.read("query_address", mistakes, value::tcp_address)?;
    // A flavour that is wrong was noted, and it may have been meant to be this one.
    let is_meant = place.has("flavour") && flavour.span.is_none();
    if flavour.value != Flavour::Matrixone && !is_meant {
        let message = "`query_address` is for CNs of flavour matrixone";
        let help = "leave it out, or write `flavour = \"matrixone\"`";
        mistakes.push(place.key_span("query_address"), message, Some(help.to_owned()));
    } else if let Some(Err(error)) = cn_address.map(|cn| check_query_address(&query.value, &cn.value)) {
        let message = format!("bad address `{}`: {error}", query.value);
        mistakes.push(query.span, message, error.help(&query.value));
    }
    Some(query.value)
}

/// Names of which there must be only one, and where each was written.
#[derive(Default)]
pub(super) struct Unique(HashMap<String, Option<Range<usize>>>);

impl Unique {
    pub(super) fn note_if_known(&mut self, what: &str, name: &Read<String>, mistakes: &mut Mistakes) {
        if let Some(earlier) = self.0.get(&name.value) {
            let line = earlier.as_ref().map(|span| mistakes.line_of(span.start));
            let help = line.map(|line| format!("the other one is in line {line}"));
            mistakes.push(name.span.clone(), format!("two {what}s are called `{}`", name.value), help);
        } else {
            self.0.insert(name.value.clone(), name.span.clone());
        }
    }
}
