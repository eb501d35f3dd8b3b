//! MatrixOne's CNs, by scripted ones: the preamble and the replayed login, the marks of transactions, and moves by the query
//! service, with a failure at each of their steps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{
    Can, Com, ErrPacket, Fault, LogService, LoginAs, MO_PASSWORD, MatrixoneCn, Proxy, RawClient,
    TakenPreamble, err_of, number, wait_until,
};

const SOON: Duration = Duration::from_secs(10);
/// Where the ids begin that a proxy gives by itself.
const OWN_IDS: u32 = 1 << 31;
const MOVES: &str =
    "[balance]\nenabled = false\n[migration]\nidle_ms = 100\npatience_ms = 2000\nrestore_timeout_ms = 1000\n";

/// Two CNs of one cluster.
struct Pair {
    cns: [MatrixoneCn; 2],
    proxy: Proxy,
}

impl Pair {
    fn start() -> Self {
        let cns = ["cn1", "cn2"].map(MatrixoneCn::start);
        let proxy = Proxy::start(&(MOVES.to_owned() + &cns[0].toml("") + &cns[1].toml("")));
        let pair = Self { cns, proxy };
        pair.both_work();
        pair.cns.iter().for_each(|cn| cn.look(|seen| seen.preambles.clear()));
        pair
    }

    fn both_work(&self) {
        wait_until("both CNs work", SOON, || {
            ["cn1", "cn2"].iter().all(|id| self.proxy.cn(id).is_some_and(|cn| cn["state"] == "working"))
        });
    }

    fn log_in(&self, user: &str) -> RawClient {
        RawClient::login(self.proxy.port, &as_user(user)).expect("a login")
    }

    fn row(&self, client: &RawClient) -> Value {
        let rows = self.proxy.ctl("SHOW SESSIONS");
        rows.into_iter().find(|row| number(&row["id"]) == u64::from(client.session)).expect("listed")
    }

    /// The CN that serves a client, and the other one.
    fn sides(&self, client: &RawClient) -> (&MatrixoneCn, &MatrixoneCn) {
        let here = self.row(client)["cn"].as_str().expect("a CN").to_owned();
        if here == "cn1" { (&self.cns[0], &self.cns[1]) } else { (&self.cns[1], &self.cns[0]) }
    }

    fn move_on(&self, client: &RawClient) -> Result<(), String> {
        let (_, there) = self.sides(client);
        self.proxy.try_ctl(&format!("MOVE SESSION {} TO CN '{}'", client.session, there.name))?;
        Ok(())
    }

    /// Nothing came that a real CN would have stumbled over.
    fn nothing_odd(&self) {
        for cn in &self.cns {
            assert_eq!(cn.look(|seen| seen.odd.clone()), Vec::<String>::new(), "{}", cn.name);
        }
    }
}

fn as_user(user: &str) -> LoginAs<'_> {
    LoginAs { user, password: MO_PASSWORD, database: "" }
}

fn say(client: &mut RawClient, text: &str) -> Result<(), ErrPacket> {
    client.command(Com::QUERY, text.as_bytes());
    err_of(&client.packet())
}

fn state(client: &mut RawClient) -> String {
    client.value("select state()").expect("the state")
}

fn execute(client: &mut RawClient, statement: u32, typed: bool) -> Result<(), ErrPacket> {
    let mut argument = statement.to_le_bytes().to_vec();
    argument.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
    argument.extend_from_slice(if typed { &[1, 3, 0] } else { &[0] });
    argument.extend_from_slice(&7u32.to_le_bytes());
    client.command(Com::STMT_EXECUTE, &argument);
    client.rows().map(|_| ())
}

#[test]
fn a_cn_is_told_the_salt_the_id_the_labels_and_the_client_and_sent_the_packet_as_it_came() {
    let cn = MatrixoneCn::start("cn1");
    let proxy = Proxy::start(&cn.toml("account = [\"acme\"], tier = [\"gold\"]"));
    proxy.wait_state("cn1", "working");
    cn.look(|seen| seen.preambles.clear());
    let mut client = RawClient::dial(proxy.port);
    client.capabilities |= Can::CONNECT_WITH_DB;
    let user = "acme:bob:admin?tier=gold";
    let who = LoginAs { user, password: MO_PASSWORD, database: "db1" };
    let ok = client.log_in(&who).expect("a login");
    assert_eq!(ok, b"\0\0\0\x10\x08\0\0", "the CN's own OK");
    let (mut preamble, login) =
        cn.look(|seen| (seen.preambles.clone(), seen.logins.last().cloned().unwrap()));
    // Probes are the proxy's own.
    preamble.retain(|preamble| !preamble.internal);
    let [TakenPreamble { salt, internal, connection_id, labels, client: address }] = &preamble[..] else {
        panic!("one preamble: {preamble:?}")
    };
    assert_eq!((salt.len(), internal, *connection_id), (20, &false, client.session));
    let text = |pair: &(String, String)| format!("{}={}", pair.0, pair.1);
    assert_eq!(labels.iter().map(text).collect::<Vec<_>>(), ["account=acme", "tier=gold"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(login.0, 1);
    let sent = String::from_utf8_lossy(&login.1).into_owned();
    assert!(sent.contains("acme:bob:admin?tier=gold\0"), "{sent}");
    assert_eq!(client.value("select whoami()").unwrap(), format!("cn1 {}", client.session));
    assert_eq!(state(&mut client), "db1 [] []");
    assert_eq!(proxy.ctl("SHOW SESSIONS")[0]["login"], "replayed");
}

#[test]
fn a_wrong_password_is_one_error_of_the_cns() {
    let cn = MatrixoneCn::start("cn1");
    let proxy = Proxy::start(&cn.toml(""));
    proxy.wait_state("cn1", "working");
    let mut client = RawClient::dial(proxy.port);
    let who = LoginAs { user: "root", password: "wrong", database: "" };
    let error = client.log_in(&who).expect_err("a refusal");
    assert_eq!((error.code, &*error.state), (1045, "28000"));
    assert!(error.message.contains("check password failed"), "{}", error.message);
    assert!(client.packets_to_end().is_empty(), "one error and no more");
    assert_eq!(cn.look(|seen| seen.logins.len()), 1);
}

/// Who answers by a plugin that MatrixOne does not know is asked to switch by corelane.
#[test]
fn a_client_of_another_plugin_is_switched() {
    let cn = MatrixoneCn::start("cn1");
    let proxy = Proxy::start(&cn.toml(""));
    proxy.wait_state("cn1", "working");
    let mut client = RawClient::dial(proxy.port);
    client.packet();
    let mut packet = (Can::USUAL | 1 << 19).to_le_bytes().to_vec();
    packet.extend_from_slice(&[0, 0, 0, 64, 45]);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(b"root\0\0caching_sha2_password\0");
    client.send(1, &packet);
    let request = client.packet();
    assert!(request.starts_with(b"\xfemysql_native_password\0"), "{request:?}");
    client.answer_switch(&request, MO_PASSWORD);
    let ok = client.packet();
    assert_eq!((ok[0], client.sequence), (0, 4), "{ok:?}");
    assert_eq!(client.value("select 1").unwrap(), "1");
}

#[test]
fn a_cn_that_takes_no_preamble_is_named_and_passed_over() {
    let pair = Pair::start();
    pair.cns[0].fails(Fault::IgnoresPreamble);
    for _ in 0..3 {
        let mut client = pair.log_in("root");
        assert!(client.value("select whoami()").unwrap().starts_with("cn2 "));
    }
    pair.cns[1].fails(Fault::IgnoresPreamble);
    let error = RawClient::login(pair.proxy.port, &as_user("root")).err().expect("nobody takes it");
    assert!(error.message.contains("proxy-enabled"), "{}", error.message);
    wait_until("the probes name it", SOON, || {
        let cn = pair.proxy.cn("cn1").unwrap();
        cn["last_error"].as_str().is_some_and(|said| said.contains("proxy-enabled"))
    });
}

#[test]
fn a_login_that_a_cn_breaks_off_is_taken_to_another() {
    let pair = Pair::start();
    for fault in [Fault::DiesAtPreamble, Fault::DiesAtLogin] {
        pair.cns[0].fails(fault);
        for _ in 0..2 {
            let mut client = pair.log_in("root");
            assert!(client.value("select whoami()").unwrap().starts_with("cn2 "), "{fault:?}");
        }
        pair.cns[0].fails(None);
        pair.proxy.wait_state("cn1", "working");
    }
    pair.cns.iter().for_each(|cn| cn.fails(Fault::SwitchesPlugin));
    let error = RawClient::login(pair.proxy.port, &as_user("root")).err().expect("no way to answer that");
    assert!(error.message.contains("caching_sha2_password"), "{}", error.message);
}

#[test]
fn cns_that_all_take_too_long_are_busy() {
    let cns = ["cn1", "cn2"].map(MatrixoneCn::start);
    let limits = "[login]\ncn_timeout_ms = 300\n";
    let proxy = Proxy::start(&(limits.to_owned() + &cns[0].toml("") + &cns[1].toml("")));
    ["cn1", "cn2"].iter().for_each(|id| proxy.wait_state(id, "working"));
    cns.iter().for_each(|cn| cn.fails(Fault::SilentAtLogin));
    let error = RawClient::login(proxy.port, &as_user("root")).err().expect("nobody answers");
    assert_eq!((error.code, &*error.state), (20508, "HY000"));
    assert!(
        error.message.starts_with("all CN servers are busy, possibly due to too many active transactions")
    );
}

#[test]
fn a_session_moves_with_schema_settings_and_statements_and_keeps_its_id() {
    let pair = Pair::start();
    let mut client = pair.log_in("acme:bob");
    for text in ["use db1", "set a = 1", "set @b = 'x'", "set a = 2", "set a = 1"] {
        say(&mut client, text).unwrap();
    }
    say(&mut client, "set nosuch = 1").expect_err("refused, so it is not said again");
    let statement = client.prepare("select ?").unwrap();
    let closed = client.prepare("select 2").unwrap();
    execute(&mut client, statement, true).unwrap();
    client.command(Com::STMT_CLOSE, &closed.to_le_bytes());
    let expected = "db1 [set @b = 'x'; set a = 2; set a = 1] [\"__mo_stmt_id_1\"]";
    for moves in 1..=4 {
        let (here, there) = pair.sides(&client);
        pair.move_on(&client).expect("it moves");
        let row = pair.row(&client);
        assert_eq!((number(&row["moves"]), row["hold"].clone()), (moves, Value::Null));
        assert_eq!(client.value("select whoami()").unwrap(), format!("{} {}", there.name, client.session));
        assert_eq!(state(&mut client), expected);
        execute(&mut client, statement, false).expect("the CN knows its types");
        wait_until("the old CN is left", SOON, || here.sessions() == 0);
    }
    let said = pair.cns[0].look(|seen| seen.statements.clone());
    assert!(said.iter().any(|(_, text)| text == "/* cloud_nonuser */ set transferred=1;"), "{said:?}");
    let later = client.prepare("select 3").unwrap();
    assert_eq!(later, 2, "the CN counts on from the highest that it knows");
    pair.nothing_odd();
}

#[test]
fn a_transaction_ends_with_a_marked_status_only() {
    let pair = Pair::start();
    let mut client = pair.log_in("root");
    assert_eq!(pair.row(&client)["state"], "idle");
    client.prepare("select ?").unwrap();
    assert_eq!(pair.row(&client)["state"], "idle", "definitions tell nothing of transactions");
    say(&mut client, "begin").unwrap();
    assert_eq!(client.value("select 1").unwrap(), "1");
    assert_eq!(pair.row(&client)["hold"], "transaction");
    let refused = pair.move_on(&client).expect_err("it is held");
    assert!(refused.contains("a transaction is open"), "{refused}");
    say(&mut client, "oops").expect_err("no SQL");
    assert_eq!(pair.row(&client)["hold"], "transaction", "an error tells nothing");
    say(&mut client, "commit").unwrap();
    pair.move_on(&client).expect("nothing holds it");
    say(&mut client, "oops").expect_err("no SQL");
    pair.move_on(&client).expect("an error outside of a transaction is none");
    pair.nothing_odd();
}

/// As PyMySQL begins each connection.
#[test]
fn a_session_without_autocommit_is_in_no_transaction_after_a_move() {
    let pair = Pair::start();
    let mut client = pair.log_in("root");
    say(&mut client, "set autocommit=0").unwrap();
    for _ in 0..3 {
        assert_eq!(client.value("select 1").unwrap(), "1");
        assert_eq!(pair.row(&client)["hold"], "transaction");
        say(&mut client, "commit").unwrap();
        pair.move_on(&client).expect("nothing holds it");
        assert_eq!(pair.row(&client)["hold"], Value::Null);
    }
    pair.nothing_odd();
}

#[test]
fn commands_that_are_sent_ahead_reach_the_cn_one_by_one() {
    let pair = Pair::start();
    let mut client = pair.log_in("root");
    let query = |text: &str| [&[text.len() as u8 + 1, 0, 0, 0, 3][..], text.as_bytes()].concat();
    let burst = ["set a = 1", "select 1", "set b = 2"].map(query).concat();
    client.send_bytes(&burst).unwrap();
    err_of(&client.packet()).unwrap();
    assert_eq!(client.rows().unwrap().len(), 1);
    err_of(&client.packet()).unwrap();
    pair.move_on(&client).unwrap();
    assert_eq!(state(&mut client), " [set a = 1; set b = 2] []");
    pair.nothing_odd();
}

/// Each step of a move fails in turn: the session stays where it is and goes on, and moves when nothing fails any more.
#[test]
fn a_move_that_fails_at_any_step_leaves_the_session_where_it_is() {
    let pair = Pair::start();
    let mut client = pair.log_in("root");
    say(&mut client, "use db1").unwrap();
    say(&mut client, "set a = 1").unwrap();
    let before = state(&mut client);
    let there = [
        (Fault::IgnoresPreamble, "proxy-enabled"),
        (Fault::DiesAtPreamble, "closed"),
        (Fault::RefusesLogin, "check password failed"),
        (Fault::DiesAtLogin, "closed"),
        (Fault::SwitchesPlugin, "caching_sha2_password"),
        (Fault::QueryServiceDies, "query service of CN"),
        (Fault::VersionIs(9), "version 9"),
        (Fault::VersionIs(0), "version 0"),
        (Fault::RefusesTransfer, "does not exist"),
        (Fault::DiesAtTransfer, "closed"),
        (Fault::RefusesSetting, "a setting"),
        (Fault::DiesAtSetting, "closed"),
        (Fault::ImportFails, "cannot prepare"),
        (Fault::ImportDies, "closed"),
        (Fault::ImportIsSilent, "no answer within"),
        (Fault::ImportDoesNothing, "left out"),
        (Fault::LosesSchema, "schema db1"),
    ];
    let here = [
        (Fault::QueryServiceDies, "query service of CN"),
        (Fault::VersionIs(25), "version 25"),
        (Fault::ExportFails, "cannot get routine"),
        (Fault::ExportDies, "closed"),
        (Fault::ExportIsSilent, "no answer within"),
        (Fault::ExportTellsMore, "does not know"),
    ];
    let faults = there.map(|(fault, why)| (true, fault, why)).into_iter();
    for (elsewhere, fault, why) in faults.chain(here.map(|(fault, why)| (false, fault, why))) {
        let (old, new) = pair.sides(&client);
        let (failing, name) = (if elsewhere { new } else { old }, old.name.clone());
        failing.fails(fault);
        let mut began = Instant::now();
        let mut refused = pair.move_on(&client).expect_err("it cannot move");
        if refused.ends_with("is down") {
            // Probes have met the fault first.
            failing.fails(None);
            pair.both_work();
            failing.fails(fault);
            began = Instant::now();
            refused = pair.move_on(&client).expect_err("it cannot move");
        }
        assert!(refused.contains(why), "{fault:?}: {refused}");
        assert!(began.elapsed() < SOON, "{fault:?} took {:?}", began.elapsed());
        let row = pair.row(&client);
        assert_eq!(row["cn"], name.as_str(), "{fault:?}");
        assert!(row["last_move"].as_str().is_some_and(|said| said.contains(why)), "{fault:?}: {row}");
        let held = matches!(fault, Fault::VersionIs(_) | Fault::ExportTellsMore);
        assert_eq!(row["hold"] == "query_service", held, "{fault:?}: {row}");
        failing.fails(None);
        assert_eq!(client.value("select whoami()").unwrap(), format!("{name} {}", client.session));
        assert_eq!(state(&mut client), before, "{fault:?}");
        wait_until("the other CN is left", SOON, || new.sessions() == 0);
        wait_until("both CNs work", SOON, || {
            ["cn1", "cn2"].iter().all(|id| pair.proxy.cn(id).is_some_and(|cn| cn["state"] == "working"))
        });
    }
    pair.move_on(&client).expect("nothing fails any more");
    assert_eq!(state(&mut client), before);
    assert_eq!(pair.row(&client)["hold"], Value::Null);
    pair.nothing_odd();
}

#[test]
fn a_client_that_asks_for_its_insert_id_stays_or_is_told() {
    let pair = Pair::start();
    let mut client = pair.log_in("root");
    say(&mut client, "insert into t values (1)").unwrap();
    client.value("select last_insert_id()").unwrap();
    assert_eq!(pair.row(&client)["hold"], "insert_id");
    let mut other = pair.log_in("root");
    say(&mut other, "insert into t values (1)").unwrap();
    pair.move_on(&other).expect("it has never asked");
    let error = other.value("select last_insert_id()").expect_err("no CN knows it");
    assert_eq!(error.code, 1927);
    assert!(error.message.contains("LAST_INSERT_ID()"), "{}", error.message);
}

#[test]
fn a_login_packet_has_a_limit() {
    let cn = MatrixoneCn::start("cn1");
    let proxy = Proxy::start(&cn.toml(""));
    let mut client = RawClient::dial(proxy.port);
    client.packet();
    client.send_bytes(&[0, 0, 3, 1]).unwrap();
    let error = err_of(&client.packet()).expect_err("192 KiB are too many");
    assert_eq!((error.code, &*error.message), (13125, "Got a packet bigger than 'max_allowed_packet' bytes"));
}

/// A greeting is enough to see an id.
fn greeted_as(proxy: &Proxy) -> u32 {
    let greeting = RawClient::dial(proxy.port).packet();
    let version = 1 + greeting[1..].iter().position(|&byte| byte == 0).expect("a version");
    u32::from_le_bytes(greeting[version + 1..version + 5].try_into().expect("4 bytes"))
}

#[test]
fn connection_ids_come_from_the_cluster_while_it_gives_any() {
    let (cn, service) = (MatrixoneCn::start("cn1"), LogService::start(5001));
    let other = LogService::start(1);
    other.has_hakeeper(false);
    let hakeeper = format!("[discovery]\nhakeeper = [\"{}\", \"{}\"]\n", other.address(), service.address());
    let proxy = Proxy::start_on_one_worker(&(cn.toml("") + &hakeeper));
    proxy.wait_state("cn1", "working");
    let client = RawClient::login(proxy.port, &as_user("root")).expect("a login");
    assert_eq!((client.session, service.next()), (5001, 6001));
    assert!(cn.look(|seen| seen.sessions.contains_key(&5001)), "the CN's session has it, too");
    let all_of = |ids: std::ops::RangeInclusive<u32>| {
        for id in ids {
            assert_eq!(greeted_as(&proxy), id);
        }
    };
    all_of(5002..=5499);
    assert_eq!(service.next(), 6001, "enough are left");
    all_of(5500..=5500);
    wait_until("more ids are asked for", SOON, || service.next() == 7001);
    service.has_hakeeper(false);
    all_of(5501..=7000);
    assert!(greeted_as(&proxy) >= OWN_IDS, "when the last is used, an id of its own");
    assert_eq!(service.next(), 7001);
    service.has_hakeeper(true);
    wait_until("the cluster gives ids again", SOON, || (7001..8001).contains(&greeted_as(&proxy)));
    assert_eq!(other.next(), 1);
}

#[test]
fn a_tenant_has_no_more_sessions_than_it_may() {
    let cn = MatrixoneCn::start("cn1");
    let proxy =
        Proxy::start_with("max_sessions_per_tenant = 2\nfirst_connection_id = 3000000000\n", &cn.toml(""));
    proxy.wait_state("cn1", "working");
    let log_in = |user: &'static str| RawClient::login(proxy.port, &as_user(user));
    let [first, _second, _other] = ["acme:a", "acme:b", "other:a"].map(|user| log_in(user).expect("a login"));
    assert!(first.session >= 3_000_000_000, "{}", first.session);
    let logins = cn.look(|seen| seen.logins.len());
    let error = log_in("acme:a").err().expect("one too many");
    assert_eq!((error.code, &*error.state, &*error.message), (1040, "08004", "Too many connections"));
    assert_eq!(cn.look(|seen| seen.logins.len()), logins, "no CN hears of it");
    drop(first);
    wait_until("there is room again", SOON, || log_in("acme:a").is_ok());
}

/// The session that is killed is on the other CN, wherever it was before, and on whichever worker.
#[test]
fn a_kill_reaches_the_session_that_the_client_means() {
    let pair = Pair::start();
    let mut killer = pair.log_in("root");
    for nth in 0..4 {
        let mut victim = pair.log_in("root");
        while pair.row(&victim)["cn"] == pair.row(&killer)["cn"] {
            pair.move_on(&victim).expect("it moves");
        }
        let (there, _) = pair.sides(&victim);
        victim.command(Com::QUERY, b"select sleep()");
        wait_until("it sleeps", SOON, || pair.row(&victim)["state"] == "busy");
        say(&mut killer, "begin").unwrap();
        killer.command(Com::QUERY, format!("kill query {}", victim.session).as_bytes());
        assert_eq!(killer.packet(), b"\0\0\0\x13\x08\0\0", "it is found, and the killer in its transaction");
        say(&mut killer, "commit").unwrap();
        let error = err_of(&victim.packet()).expect_err("its statement ends");
        assert_eq!((error.code, &*error.message), (1105, "context canceled"));
        assert_eq!(victim.value("select 1").unwrap(), "1", "and nothing else");
        victim.command(Com::QUERY, b"select sleep()");
        wait_until("it sleeps", SOON, || pair.row(&victim)["state"] == "busy");
        if nth % 2 == 0 {
            say(&mut killer, &format!("KILL {}", victim.session)).expect("it is found");
        } else {
            killer.command(Com::PROCESS_KILL, &victim.session.to_le_bytes());
            err_of(&killer.packet()).expect("it is found");
        }
        let error = err_of(&victim.packet()).expect_err("the session ends");
        assert_eq!(error.code, 1927, "{}", error.message);
        assert_eq!(there.look(|seen| seen.killed.clone()).last(), Some(&victim.session));
    }
    let error = say(&mut killer, "kill 77").expect_err("there is none");
    assert_eq!((error.code, &*error.state), (20101, "HY000"));
    assert_eq!(error.message, "internal error: Unknown connection id 77");
    killer.command(Com::STMT_SEND_LONG_DATA, b"\x01\0\0\0\0\0data");
    say(&mut killer, "kill 77").expect_err("long data waits behind it");
    let error = say(&mut killer, "kill @a").expect_err("the CN judges it");
    assert_eq!(error.code, 1064);
    assert_eq!(killer.value("select whoami()").unwrap().split(' ').count(), 2);
    pair.nothing_odd();
}

/// `CORELANE_MO_SESSIONS` sets how many.
#[test]
fn sessions_are_drained_under_load_and_side_by_side() {
    const EXPORT: Duration = Duration::from_millis(10);
    let sessions: usize =
        std::env::var("CORELANE_MO_SESSIONS").map_or(100, |count| count.parse().expect("a number"));
    let pair = Pair::start();
    pair.cns.iter().for_each(|cn| cn.takes_to_export(EXPORT));
    let mut clients: Vec<_> = (0..sessions).map(|nth| pair.log_in(&format!("t{}:u", nth % 10))).collect();
    for client in &mut clients {
        say(client, "use db1").unwrap();
        let own = format!("set @me = {}", client.session);
        say(client, &own).unwrap();
    }
    let stop = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    let shares: Vec<_> = clients.chunks_mut(sessions.div_ceil(8)).collect();
    std::thread::scope(|scope| {
        for share in shares {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    for client in share.iter_mut() {
                        let state = client.value("select state()").expect("an answer");
                        assert_eq!(state, format!("db1 [set @me = {}] []", client.session));
                        answers.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for (drained, other) in [("cn1", "cn2"), ("cn2", "cn1"), ("cn1", "cn2")] {
            let (before, began) = (pair.proxy.seats(drained), Instant::now());
            pair.proxy.ctl(&format!("DRAIN CN '{drained}'"));
            wait_until("it is drained", Duration::from_secs(60), || pair.proxy.seats(drained) == 0);
            let took = began.elapsed();
            println!(
                "{before} sessions left {drained} in {took:?}; {} answers",
                answers.load(Ordering::SeqCst)
            );
            assert_eq!(pair.proxy.seats(other), sessions as u64);
            pair.proxy.ctl(&format!("RESUME CN '{drained}'"));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let at_once = pair.cns.each_ref().map(|cn| cn.look(|seen| seen.exports_at_once));
    assert!(at_once.iter().all(|at_once| *at_once >= 4), "{at_once:?} at once");
    assert_eq!(pair.proxy.ctl("SHOW SESSIONS").len(), sessions);
    pair.nothing_odd();
}

#[test]
fn a_cn_that_dies_takes_its_sessions_with_one_error_each() {
    let Pair { cns, proxy } = Pair::start();
    let mut clients: Vec<_> =
        (0..6).map(|_| RawClient::login(proxy.port, &as_user("root")).unwrap()).collect();
    let [first, second] = cns;
    let names = |proxy: &Proxy| proxy.ctl("SHOW SESSIONS").iter().filter(|row| row["cn"] == "cn1").count();
    assert_eq!(names(&proxy), 3);
    first.die();
    let mut lost = 0;
    for client in &mut clients {
        if let Err(error) = client.value("select 1") {
            assert_eq!(error.code, 1927, "{}", error.message);
            lost += 1;
        }
    }
    assert_eq!((lost, second.sessions()), (3, 3));
}
