//! The difference of two [`Settings`], in sentences, and what of it a running process can take up.
//!
//! CNs, users, the keepalive of `[listen]` and of `[cn_tcp]`, `[proxy_protocol]`, `[auth]`, `[discovery]`, `[tls]`, `[cn_tls]`, `[compression]`, `[limits]`,
//! and the limits of probes, logins, moves, drains and shutdown are taken up on SIGHUP. So are those of sessions in `[listen]`, but for more
//! of them than the process was started for.
//! Listeners, workers, the admin door, the HTTP door, the receive buffers and the log level are laid down at start-up:
//! they need a restart.
//! No sentence shows a secret.

use std::time::Duration;

use crate::route::label::Labels;
use crate::route::{Flavour, TlsMode};
use crate::wire::compressed::codec::{Algorithm, Packing};

use super::access::{Access, Blocking, Networks};
use super::settings::{
    Account, AtDeadline, CnSetting, Compression, Http, Keepalive, Listen, ListenAddress, Settings,
    UserSetting,
};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub sentence: String,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Taken up by the running process.
    Live,
    /// Taken up by the next start.
    Restart,
}

/// All differences between two settings; empty where they are the same.
pub fn between(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut list = List { changes: Vec::new(), effect: Effect::Restart };
    laid_down(old, new, &mut list);
    limits(old, new, &mut list);
    sessions(old, new, &mut list);
    asking(old, new, &mut list);
    proxy_protocol(old, new, &mut list);
    access(old, new, &mut list);
    tls(old, new, &mut list);
    keepalive("[listen]", &old.listen.tcp, &new.listen.tcp, &mut list);
    keepalive("[cn_tcp]", &old.cn_tcp, &new.cn_tcp, &mut list);
    compression(&old.compression, &new.compression, &mut list);
    cns(&old.cns, &new.cns, &mut list);
    users(&old.users, &new.users, &mut list);
    list.changes
}

/// What a process that runs with `old` has in force once it has taken up what it can of `new`.
pub fn in_force(old: &Settings, new: Settings) -> Settings {
    Settings {
        listen: Listen {
            tcp: new.listen.tcp,
            max_sessions: new.listen.max_sessions.min(old.listen.laid_down_for),
            max_sessions_per_tenant: new.listen.max_sessions_per_tenant,
            ..old.listen.clone()
        },
        workers: old.workers.clone(),
        admin: old.admin.clone(),
        relay: old.relay.clone(),
        log: old.log.clone(),
        http: old.http.clone(),
        ..new
    }
}

fn laid_down(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Restart;
    list.value("[listen] sql", &addresses(&old.listen.sql), &addresses(&new.listen.sql));
    list.value("[listen] backlog", &old.listen.backlog, &new.listen.backlog);
    list.value(
        "[listen] first_connection_id",
        &old.listen.first_connection_id,
        &new.listen.first_connection_id,
    );
    list.value("[listen] connection_ids", &old.listen.connection_ids, &new.listen.connection_ids);
    list.value("[listen] server_version", &old.listen.server_version, &new.listen.server_version);
    list.value("[workers] cpus", &auto(&old.workers.cpus), &auto(&new.workers.cpus));
    let (old_cpu, new_cpu) = (auto(&old.workers.coordinator_cpu), auto(&new.workers.coordinator_cpu));
    list.value("[workers] coordinator_cpu", &old_cpu, &new_cpu);
    list.value("[workers] spin_us", &old.workers.spin, &new.workers.spin);
    list.value("[admin] listen", &old.admin.listen.to_string(), &new.admin.listen.to_string());
    list.value("[admin] max_connections", &old.admin.max_connections, &new.admin.max_connections);
    if old.admin.users != new.admin.users {
        list.push("[admin] users have changed".to_owned());
    }
    list.value("[relay] buffers_mib", &old.relay.buffers_mib, &new.relay.buffers_mib);
    list.value("[log] level", &old.log.level, &new.log.level);
    http(old.http.as_ref(), new.http.as_ref(), list);
}

fn http(old: Option<&Http>, new: Option<&Http>, list: &mut List) {
    let listen = |http: Option<&Http>| http.map(|http| http.listen.to_string());
    list.value("[http] listen", &listen(old), &listen(new));
    if let (Some(old), Some(new)) = (old, new) {
        list.value("[http] max_connections", &old.max_connections, &new.max_connections);
        list.value("[http] matrixone_names", &old.matrixone_names, &new.matrixone_names);
    }
}

fn limits(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    list.value("[login] client_timeout_ms", &old.login.client_timeout, &new.login.client_timeout);
    list.value("[login] connect_timeout_ms", &old.login.connect_timeout, &new.login.connect_timeout);
    list.value("[login] cn_timeout_ms", &old.login.cn_timeout, &new.login.cn_timeout);
    list.value("[login] attempts", &old.login.attempts, &new.login.attempts);
    list.value("[probe] interval_ms", &old.probe.interval, &new.probe.interval);
    list.value("[probe] timeout_ms", &old.probe.timeout, &new.probe.timeout);
    list.value("[probe] fall", &old.probe.fall, &new.probe.fall);
    list.value("[probe] rise", &old.probe.rise, &new.probe.rise);
    list.value("[timeouts] idle_ms", &old.timeouts.idle, &new.timeouts.idle);
    list.value("[timeouts] transaction_ms", &old.timeouts.transaction, &new.timeouts.transaction);
    list.value("[timeouts] query_ms", &old.timeouts.query, &new.timeouts.query);
    list.value("[shutdown] grace_ms", &old.shutdown.grace, &new.shutdown.grace);
    moving(old, new, list);
}

fn sessions(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    let (was, is, most) = (&old.listen, &new.listen, old.listen.laid_down_for);
    list.value("[listen] max_sessions", &was.max_sessions, &is.max_sessions.min(most));
    list.value("[listen] max_sessions_per_tenant", &was.max_sessions_per_tenant, &is.max_sessions_per_tenant);
    let (was, is) = (&old.limits, &new.limits);
    list.value("[limits] sessions_per_user", &was.sessions_per_user, &is.sessions_per_user);
    list.value("[limits] sessions_per_client", &was.sessions_per_client, &is.sessions_per_client);
    list.value("[limits] accepts_per_second", &was.accepts_per_second, &is.accepts_per_second);
    if new.listen.max_sessions > most {
        let wanted = new.listen.max_sessions;
        list.effect = Effect::Restart;
        list.push(format!("[listen] max_sessions: {wanted} are more than the {most} of the start"));
    }
}

fn moving(old: &Settings, new: &Settings, list: &mut List) {
    let (was, is) = (&old.balance, &new.balance);
    list.value("[balance] enabled", &was.enabled, &is.enabled);
    list.value("[balance] interval_ms", &was.interval, &is.interval);
    list.value("[balance] tolerance", &was.tolerance, &is.tolerance);
    list.value("[balance] dwell_ms", &was.dwell, &is.dwell);
    list.value("[balance] moves_per_second", &was.moves_per_second, &is.moves_per_second);
    let (was, is) = (&old.drain, &new.drain);
    list.value("[drain] deadline_s", &was.deadline, &is.deadline);
    list.value("[drain] at_deadline", &was.at_deadline, &is.at_deadline);
    list.value("[drain] moves_per_second", &was.moves_per_second, &is.moves_per_second);
    let (was, is) = (&old.migration, &new.migration);
    list.value("[migration] patience_ms", &was.patience, &is.patience);
    list.value("[migration] idle_ms", &was.idle, &is.idle);
    list.value("[migration] restore_timeout_ms", &was.restore_timeout, &is.restore_timeout);
    list.value("[migration] back_off_ms", &was.back_off, &is.back_off);
    list.value("[migration] back_off_max_ms", &was.back_off_max, &is.back_off_max);
    list.value("[migration] at_once", &was.at_once, &is.at_once);
}

fn proxy_protocol(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    let from = |settings: &Settings| settings.proxy_protocol.as_deref().cloned().unwrap_or_default();
    list.value("[proxy_protocol] from", &from(old), &from(new));
}

fn access(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    let rules = |settings: &Settings| settings.access.as_deref().cloned().unwrap_or_default();
    let (was, is) = (rules(old), rules(new));
    list.value("[access] deny", &was.deny, &is.deny);
    list.value("[access] allow", &was.allow, &is.allow);
    list.value("[access] users_denied", &was.users.denied, &is.users.denied);
    list.value("[access] users_allowed", &was.users.allowed, &is.users.allowed);
    list.value("[access] tenants_denied", &was.tenants.denied, &is.tenants.denied);
    list.value("[access] tenants_allowed", &was.tenants.allowed, &is.tenants.allowed);
    let limit =
        |access: &Access, which: fn(&Blocking) -> Option<u32>| access.blocking.as_ref().and_then(which);
    let (errors, logins) = (|b: &Blocking| b.connect_errors, |b: &Blocking| b.failed_logins);
    list.value("[access] max_connect_errors", &limit(&was, errors), &limit(&is, errors));
    list.value("[access] max_failed_logins", &limit(&was, logins), &limit(&is, logins));
    if let (Some(was), Some(is)) = (was.blocking, is.blocking) {
        list.value("[access] blocked_s", &was.lasts, &is.lasts);
    }
}

fn tls(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    let required = |settings: &Settings| settings.tls.as_ref().map(|tls| tls.required);
    list.value("[tls] required", &required(old), &required(new));
    let labels = |settings: &Settings| {
        let rules = settings.tls.iter().flat_map(|tls| &tls.labels);
        rules.map(|(label, field)| format!("{label} = {field}")).collect::<Vec<_>>()
    };
    list.value("[tls] certificate_labels", &labels(old), &labels(new));
    let context = |settings: &Settings| settings.tls.as_ref().map(|tls| tls.context.clone());
    if required(old).is_some() && required(new).is_some() && context(old) != context(new) {
        list.push("[tls] has other certificates or rules".to_owned());
    }
    if old.cn_tls != new.cn_tls {
        list.push("[cn_tls] has another mode or other certificates".to_owned());
    }
}

fn keepalive(section: &str, old: &Keepalive, new: &Keepalive, list: &mut List) {
    list.effect = Effect::Live;
    list.value(&format!("{section} keepalive_idle_s"), &old.idle, &new.idle);
    list.value(&format!("{section} keepalive_interval_s"), &old.interval, &new.interval);
    list.value(&format!("{section} keepalive_probes"), &old.probes, &new.probes);
    list.value(&format!("{section} user_timeout_ms"), &old.user_timeout, &new.user_timeout);
}

fn compression(old: &Compression, new: &Compression, list: &mut List) {
    list.effect = Effect::Live;
    let clients = |offer: &Compression| {
        let words: Vec<String> = [offer.zlib, offer.zstd].into_iter().flatten().map(packing).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    list.value("[compression] clients", &clients(old), &clients(new));
    list.value("[compression] cns", &old.cns.map(packing), &new.cns.map(packing));
}

fn packing(packing: Packing) -> String {
    let name = match packing.algorithm {
        Algorithm::Zlib => "zlib",
        Algorithm::Zstd => "zstd",
    };
    format!("{name} of level {}", packing.level)
}

fn asking(old: &Settings, new: &Settings, list: &mut List) {
    list.effect = Effect::Live;
    account("[auth] query_user", old.auth.query.as_ref(), new.auth.query.as_ref(), list);
    list.value("[auth] query_interval_ms", &old.auth.query_interval, &new.auth.query_interval);
    list.value("[auth] plugin", &old.auth.plugin.name().to_owned(), &new.auth.plugin.name().to_owned());
    list.value("[auth] trust_cn_keys", &old.auth.trusts_cn_keys, &new.auth.trusts_cn_keys);
    if old.auth.key != new.auth.key {
        list.push("[auth] rsa_key_file has another key".to_owned());
    }
    let (was, is) = (&old.discovery, &new.discovery);
    account("[discovery] user", was.account.as_ref(), is.account.as_ref(), list);
    list.value("[discovery] interval_ms", &was.interval, &is.interval);
    list.value("[discovery] query_port", &was.query_port, &is.query_port);
    list.value("[discovery] hakeeper", &was.hakeeper, &is.hakeeper);
}

fn account(name: &str, old: Option<&Account>, new: Option<&Account>, list: &mut List) {
    let user = |account: Option<&Account>| account.map(|account| account.user.clone());
    list.value(name, &user(old), &user(new));
    if user(old) == user(new) && old != new {
        list.push(format!("{name} has another password"));
    }
}

fn cns(old: &[CnSetting], new: &[CnSetting], list: &mut List) {
    list.effect = Effect::Live;
    for cn in old.iter().filter(|cn| !new.iter().any(|other| other.id == cn.id)) {
        list.push(format!("CN {} at {} is gone", cn.id, cn.address));
    }
    for cn in new {
        let name = |key: &str| format!("CN {}: {key}", cn.id);
        let Some(before) = old.iter().find(|other| other.id == cn.id) else {
            list.push(format!("CN {} at {} is new", cn.id, cn.address));
            continue;
        };
        list.value(&name("address"), &before.address, &cn.address);
        list.value(&name("flavour"), &before.flavour, &cn.flavour);
        list.value(&name("labels"), &before.labels, &cn.labels);
        list.value(&name("weight"), &before.weight, &cn.weight);
        list.value(&name("data"), &before.data, &cn.data);
        list.value(&name("query_address"), &before.query_address, &cn.query_address);
        list.value(&name("max_sessions"), &before.max_sessions, &cn.max_sessions);
        list.value(&name("proxy_protocol"), &before.proxy_protocol, &cn.proxy_protocol);
        let tls = |cn: &CnSetting| cn.tls.map_or("that of [cn_tls]", TlsMode::name).to_owned();
        list.value(&name("tls"), &tls(before), &tls(cn));
    }
}

fn users(old: &[UserSetting], new: &[UserSetting], list: &mut List) {
    list.effect = Effect::Live;
    for user in old.iter().filter(|user| !new.iter().any(|other| other.name == user.name)) {
        list.push(format!("user {} is gone", user.name));
    }
    for user in new {
        match old.iter().find(|other| other.name == user.name) {
            None => list.push(format!("user {} is new", user.name)),
            Some(before) => {
                if before.secret != user.secret {
                    list.push(format!("user {} has another password", user.name));
                }
                let plugin = |user: &UserSetting| user.plugin.map(|plugin| plugin.name().to_owned());
                list.value(&format!("user {}: plugin", user.name), &plugin(before), &plugin(user));
                list.value(&format!("user {}: from", user.name), &before.from, &user.from);
                let claims = |user: &UserSetting| {
                    let claims = user.certificate.as_ref()?;
                    Some(claims.iter().map(ToString::to_string).collect::<Vec<_>>())
                };
                list.value(&format!("user {}: certificate", user.name), &claims(before), &claims(user));
            }
        }
    }
}

fn auto<T: Shown>(setting: &Option<T>) -> String {
    setting.as_ref().map_or("auto".to_owned(), T::shown)
}

fn addresses(list: &[ListenAddress]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// The changes found so far, and the effect of those that are noted next.
struct List {
    changes: Vec<Change>,
    effect: Effect,
}

impl List {
    fn push(&mut self, sentence: String) {
        self.changes.push(Change { sentence, effect: self.effect });
    }

    fn value<T: Shown + PartialEq>(&mut self, name: &str, old: &T, new: &T) {
        if old != new {
            self.push(format!("{name}: {} is now {}", old.shown(), new.shown()));
        }
    }
}

/// A setting as the file would write it.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_plainly {
    ($($kind:ty),*) => { $(impl Shown for $kind {
        fn shown(&self) -> String {
            self.to_string()
        }
    })* };
}

shown_plainly!(bool, u16, u32, usize, f64, String);

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or("unset".to_owned(), T::shown)
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(T::shown).collect::<Vec<_>>().join(", "))
    }
}

impl Shown for Networks {
    fn shown(&self) -> String {
        let networks = self.networks.iter().map(ToString::to_string);
        networks.chain(self.unix.then(|| "unix".to_owned())).collect::<Vec<_>>().shown()
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for Flavour {
    fn shown(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Shown for AtDeadline {
    fn shown(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Shown for Labels {
    fn shown(&self) -> String {
        let labels = self.0.iter().map(|(name, values)| format!("{name} = {}", values.shown()));
        format!("{{ {} }}", labels.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    fn settings(text: &str) -> Settings {
        read(text, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn sentences(old: &str, new: &str) -> Vec<String> {
        let changes = between(&settings(old), &settings(new));
        changes.iter().map(|change| format!("{:?}: {}", change.effect, change.sentence)).collect()
    }

    #[test]
    fn cns_come_go_and_change() {
        let old = "[[cn]]\nid='a'\naddress='a:1'\n[[cn]]\nid='b'\naddress='b:1'\n";
        let new = "[[cn]]\nid='b'\naddress='b:2'\nlabels={t='x'}\n[[cn]]\nid='c'\naddress='c:1'\n";
        assert_eq!(
            sentences(old, new),
            [
                "Live: CN a at a:1 is gone",
                "Live: CN b: address: b:1 is now b:2",
                "Live: CN b: labels: {  } is now { t = [x] }",
                "Live: CN c at c:1 is new",
            ]
        );
    }

    #[test]
    fn what_is_laid_down_needs_a_restart() {
        assert_eq!(
            sentences("", "[listen]\nbacklog=1\n[workers]\ncpus=[1]\n[probe]\nfall=9\ninterval_ms=500\n"),
            [
                "Restart: [listen] backlog: 4096 is now 1",
                "Restart: [workers] cpus: auto is now [1]",
                "Live: [probe] interval_ms: 1s is now 500ms",
                "Live: [probe] fall: 2 is now 9",
            ]
        );
    }

    #[test]
    fn the_http_door_opens_and_changes_with_a_restart() {
        let written = "[http]\n";
        assert_eq!(sentences("", written), ["Restart: [http] listen: unset is now 127.0.0.1:6070"]);
        assert_eq!(
            sentences(written, "[http]\nlisten='127.0.0.1:1'\nmax_connections=1\nmatrixone_names=true\n"),
            [
                "Restart: [http] listen: 127.0.0.1:6070 is now 127.0.0.1:1",
                "Restart: [http] max_connections: 32 is now 1",
                "Restart: [http] matrixone_names: false is now true",
            ]
        );
        let force = in_force(&settings(""), settings(written));
        assert_eq!(force.http, None);
    }

    #[test]
    fn secrets_change_unseen() {
        let old = "[[user]]\nname='u'\npassword='first'\n[auth]\nquery_user='m'\nquery_password='fourth'\n";
        let new = "[admin]\nusers=[{name='x',password='third'}]\n[[user]]\nname='u'\npassword='second'\n\
            [auth]\nquery_user='m'\nquery_password='fifth'\n";
        assert_eq!(
            sentences(old, new),
            [
                "Restart: [admin] users have changed",
                "Live: [auth] query_user has another password",
                "Live: user u has another password"
            ]
        );
        let another = "[auth]\nquery_user='n'\nquery_password='sixth'\nquery_interval_ms=500\n";
        assert_eq!(
            sentences("", another),
            ["Live: [auth] query_user: unset is now n", "Live: [auth] query_interval_ms: 10s is now 500ms"]
        );
    }

    #[test]
    fn load_balancers_are_believed_at_once() {
        let old = "[[cn]]\nid='a'\naddress='a:1'\n";
        let new = format!(
            "{old}proxy_protocol=true\ntls='off'\n[proxy_protocol]\nfrom=['10.0.0.0/8', 'unix', '::1']\n"
        );
        assert_eq!(
            sentences(old, &new),
            [
                "Live: [proxy_protocol] from: [] is now [10.0.0.0/8, ::1/128, unix]",
                "Live: CN a: proxy_protocol: false is now true",
                "Live: CN a: tls: that of [cn_tls] is now off",
            ]
        );
    }

    #[test]
    fn peers_are_watched_otherwise_at_once() {
        let (old, new) = (
            "",
            "[listen]\nbacklog=1\nkeepalive_idle_s=60\n[cn_tcp]\nkeepalive_probes=3\nuser_timeout_ms=20000\n",
        );
        assert_eq!(
            sentences(old, new),
            [
                "Restart: [listen] backlog: 4096 is now 1",
                "Live: [listen] keepalive_idle_s: unset is now 60s",
                "Live: [cn_tcp] keepalive_probes: unset is now 3",
                "Live: [cn_tcp] user_timeout_ms: unset is now 20s",
            ]
        );
        let force = in_force(&settings(old), settings(new));
        assert_eq!((force.listen.backlog, force.listen.tcp), (4096, settings(new).listen.tcp));
    }

    #[test]
    fn addresses_are_shut_out_otherwise_at_once() {
        let old = "[access]\nmax_failed_logins=5\nblocked_s=60\n";
        assert_eq!(
            sentences(old, "[access]\nmax_failed_logins=5\nmax_connect_errors=9\n"),
            [
                "Live: [access] max_connect_errors: unset is now 9",
                "Live: [access] blocked_s: 60s is now 300s"
            ]
        );
        assert_eq!(sentences(old, ""), ["Live: [access] max_failed_logins: 5 is now unset"]);
        assert_eq!(sentences("", "[access]\nblocked_s=60\n"), [""; 0], "nobody is shut out");
    }

    #[test]
    fn limits_are_set_and_lifted_at_once() {
        let all = "[listen]\nmax_sessions_per_tenant=7\n\
            [limits]\nsessions_per_user=1\nsessions_per_client=2\naccepts_per_second=3\n";
        let set = [
            "Live: [listen] max_sessions_per_tenant: unset is now 7",
            "Live: [limits] sessions_per_user: unset is now 1",
            "Live: [limits] sessions_per_client: unset is now 2",
            "Live: [limits] accepts_per_second: unset is now 3",
        ];
        assert_eq!(sentences("", all), set);
        let force = in_force(&settings(""), settings(all));
        assert_eq!((force.limits, force.listen.max_sessions_per_tenant), (settings(all).limits, Some(7)));
        let other = "[limits]\nsessions_per_user=9\n";
        let changed = sentences("[limits]\nsessions_per_user=10\n", other);
        assert_eq!(changed, ["Live: [limits] sessions_per_user: 10 is now 9"]);
    }

    #[test]
    fn sessions_are_as_many_as_the_process_was_started_for() {
        let of = |most: u32| settings(&format!("[listen]\nmax_sessions={most}\n"));
        let said = |old: &Settings, new: &Settings| {
            let changes = between(old, new).into_iter();
            changes.map(|change| format!("{:?}: {}", change.effect, change.sentence)).collect::<Vec<_>>()
        };
        let (started, fewer, more) = (of(100), of(50), of(200));
        assert_eq!(said(&started, &fewer), ["Live: [listen] max_sessions: 100 is now 50"]);
        let force = in_force(&started, fewer);
        assert_eq!((force.listen.max_sessions, force.listen.laid_down_for), (50, 100));
        let too_many = "Restart: [listen] max_sessions: 200 are more than the 100 of the start";
        assert_eq!(said(&force, &more), ["Live: [listen] max_sessions: 50 is now 100", too_many]);
        let force = in_force(&force, more.clone());
        assert_eq!((force.listen.max_sessions, force.listen.laid_down_for), (100, 100));
        assert_eq!(said(&force, &more), [too_many], "as long as the file says so");
        assert_eq!(said(&force, &of(100)), [""; 0]);
    }

    #[test]
    fn discovery_is_taken_up_at_once() {
        let new = "[discovery]\nuser='dump'\npassword='sixth'\ninterval_ms=900\nquery_port=7\nhakeeper=['log1:32001']\n";
        assert_eq!(
            sentences("", new),
            [
                "Live: [discovery] user: unset is now dump",
                "Live: [discovery] interval_ms: 500ms is now 900ms",
                "Live: [discovery] query_port: 19998 is now 7",
                "Live: [discovery] hakeeper: [] is now [log1:32001]",
            ]
        );
        let other = new.replace("sixth", "seventh");
        assert_eq!(sentences(new, &other), ["Live: [discovery] user has another password"]);
        let cn = "[[cn]]\nid='a'\naddress='a:1'\nflavour='matrixone'\n";
        let query = format!("{cn}query_address='a:7'\n");
        assert_eq!(sentences(cn, &query), ["Live: CN a: query_address: unset is now a:7"]);
    }

    #[test]
    fn what_is_in_force_keeps_the_ground() {
        let old = settings("[listen]\nbacklog=1\n[probe]\nfall=1\n");
        let force = in_force(&old, settings("[listen]\nbacklog=2\n[probe]\nfall=2\n"));
        assert_eq!((force.listen.backlog, force.probe.fall), (1, 2));
        assert!(between(&old, &old).is_empty());
    }
}
