//! Logging in: every plugin and both ways of knowing a user, and each refusal in the words of the CN.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Can, Com, LoginAs, OK, Proxy, RawClient, Round, ScriptedCn, cluster, cn_toml, connect, driver_error,
    driver_opts, err_of, err_packet, frames, greet, one_row, read_frame, run, short_text, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "" };

/// SHA1(SHA1("secret")), as `SELECT PASSWORD('secret')` prints it.
const SECRET_HASH: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

fn known(secret: &str) -> String {
    format!("{}\n[[user]]\nname = \"app\"\n{secret}\n", one_cn())
}

fn one_cn() -> String {
    cn_toml("cn1", &cluster()[0].address(), "", 1)
}

fn login_column(proxy: &Proxy) -> String {
    let rows = proxy.ctl("SHOW SESSIONS");
    assert_eq!(rows.len(), 1, "one session: {rows:?}");
    rows[0]["login"].as_str().expect("login").to_string()
}

#[test]
fn an_unknown_user_logs_in_with_its_password_by_relay() {
    let proxy = Proxy::start(&one_cn());
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("app@%".to_string()));
    assert_eq!(conn.query_first("SELECT DATABASE()").unwrap(), Some("test".to_string()));
    assert_eq!(login_column(&proxy), "relay");
}

#[test]
fn a_user_without_a_password_logs_in_by_relay() {
    let proxy = Proxy::start(&one_cn());
    let mut conn = connect(proxy.port, "root", "");
    assert_eq!(conn.query_first("SELECT @@report_host").unwrap(), Some("cn1".to_string()));
}

#[test]
fn an_ed25519_user_logs_in_by_relay_with_the_command_line() {
    let proxy = Proxy::start(&one_cn());
    let port = format!("--port={}", proxy.port);
    let args = ["--no-defaults", "--host=127.0.0.1", &port, "--user=ed", "--password=secret"];
    let query = [&args[..], &["--skip-column-names", "--execute=SELECT CURRENT_USER()"]].concat();
    let output = run("mariadb", &query, Duration::from_secs(30));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ed@%");
}

#[test]
fn the_command_line_logs_in_over_the_unix_socket() {
    let proxy = Proxy::start(&one_cn());
    let socket = format!("--socket={}", proxy.socket().display());
    let args = ["--no-defaults", &socket, "--user=app", "--password=secret", "--skip-column-names"];
    let output = run("mariadb", &[&args[..], &["--execute=SELECT 6*7"]].concat(), Duration::from_secs(30));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
}

#[test]
fn a_known_user_logs_in_with_its_password() {
    let proxy = Proxy::start(&known("password = \"secret\""));
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("app@%".to_string()));
    assert_eq!(login_column(&proxy), "known");
}

#[test]
fn a_known_user_logs_in_by_its_hash_alone() {
    let proxy = Proxy::start(&known(&format!("native_hash = \"{SECRET_HASH}\"")));
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("app@%".to_string()));
    assert_eq!(login_column(&proxy), "known");
}

/// What a CN answers to the questions of corelane about its tracking.
fn tracking_row() -> Vec<u8> {
    one_row(&["1", "autocommit", "0", "", "utf8mb4", "utf8mb4", "utf8mb4_general_ci"])
}

/// MySQL from 8.0.23 on reads the number of attributes before the text of each query.
#[test]
fn a_known_user_logs_in_where_queries_have_attributes() {
    let cn = ScriptedCn::answering_as(Can::SESSION_TRACK | Can::QUERY_ATTRIBUTES, |command| {
        Some(match command.strip_prefix(b"\x03\x00\x01") {
            Some(text) if text.starts_with(b"SELECT @@session_track") => tracking_row(),
            Some(b"SELECT 1") => one_row(&["1"]),
            Some(_) => frames(1, OK),
            None => frames(1, &err_packet(1835, "HY000", "Malformed communication packet.")),
        })
    });
    let known = "data = \"d\"\n[[user]]\nname = \"app\"\npassword = \"secret\"\n";
    let proxy = Proxy::start(&(cn_toml("cn1", &cn.address(), "", 1) + known));
    proxy.wait_state("cn1", "working");
    let mut client = RawClient::dial(proxy.port);
    client.capabilities |= Can::QUERY_ATTRIBUTES;
    client.log_in(&APP).unwrap();
    client.command(Com::QUERY, b"\x00\x01SELECT 1");
    assert_eq!(short_text(&client.rows().unwrap()[0]), "1");
    assert_eq!(proxy.ctl("SHOW SESSIONS")[0]["hold"], serde_json::Value::Null);
}

#[test]
fn a_known_user_whose_password_has_expired_can_change_it() {
    let mut house = connect(cluster()[0].port, "app", "secret");
    let tables = one_cn() + "data = \"d\"\n[[user]]\nname = \"old\"\npassword = \"secret\"\n";
    let proxy = Proxy::start(&tables);
    let old = LoginAs { user: "old", ..APP };
    for capabilities in [Can::USUAL, Can::USUAL | Can::SESSION_TRACK] {
        house.query_drop("CREATE OR REPLACE USER old@'%' IDENTIFIED BY 'secret' PASSWORD EXPIRE").unwrap();
        let mut answers = [cluster()[0].port, proxy.port].map(|port| {
            let mut client = RawClient::dial(port);
            client.capabilities = capabilities;
            let mut answers = vec![client.log_in(&old).unwrap()];
            let texts = [
                "DO 1",
                "SET PASSWORD = PASSWORD('secret')",
                "SET NAMES latin1",
                "SET sql_mode = ''",
                "DO 1",
            ];
            for text in texts {
                client.command(Com::QUERY, text.as_bytes());
                answers.push(client.packet());
            }
            house.query_drop("ALTER USER old@'%' PASSWORD EXPIRE").unwrap();
            (answers, client)
        });
        let [(direct, _), (through, client)] = &mut answers;
        assert_eq!(through, direct);
        assert_eq!(err_of(&through[1]).unwrap_err().code, 1820);
        assert_eq!(proxy.ctl("SHOW SESSIONS")[0]["hold"], "changed_user");
        client.command(Com::RESET_CONNECTION, b"");
        assert_eq!(client.packet()[0], 0);
        drop(answers);
        wait_until("it has left", Duration::from_secs(5), || proxy.ctl("SHOW SESSIONS").is_empty());
    }
    house.query_drop("DROP USER old@'%'").unwrap();
}

#[test]
fn a_wrong_password_gives_one_err_by_relay() {
    one_access_denied(&Proxy::start(&one_cn()), "app");
}

#[test]
fn a_wrong_password_gives_one_err_to_a_known_user() {
    one_access_denied(&Proxy::start(&known("password = \"secret\"")), "app");
}

/// A wrong answer to the greeting, from a user who is known or not: each is asked again before it is denied.
#[test]
fn a_wrong_password_does_not_tell_who_is_known() {
    let proxy = Proxy::start(&known("password = \"secret\""));
    let questions = ["app", "root", "nobody"].map(|user| {
        let mut client = RawClient::dial(proxy.port);
        let question = client.begin_login(&LoginAs { user, password: "wrong", database: "" }).unwrap();
        let (plugin, salt) = question.split_at(question.len() - 21);
        assert!(salt[..20].iter().all(u8::is_ascii_graphic) && salt[20] == 0, "{user}: {salt:?}");
        client.answer_switch(&question, "wrong");
        (plugin.to_vec(), err_of(&client.packet()).unwrap_err().code)
    });
    assert_eq!(questions, ["", "", ""].map(|_| (b"\xfemysql_native_password\0".to_vec(), 1045)));
}

#[test]
fn a_user_that_does_not_exist_gives_one_err() {
    one_access_denied(&Proxy::start(&one_cn()), "nobody");
}

/// Logs in with a wrong password and reads to the end: one ERR 1045 and nothing after it.
fn one_access_denied(proxy: &Proxy, user: &str) {
    let mut client = RawClient::dial(proxy.port);
    let err = client.log_in(&LoginAs { user, password: "wrong", database: "" }).unwrap_err();
    assert_eq!((err.code, err.state.as_str()), (1045, "28000"), "{err:?}");
    let words = format!("Access denied for user '{user}'@'");
    assert!(err.message.starts_with(&words), "{err:?}");
    assert!(err.message.ends_with("(using password: YES)"), "{err:?}");
    assert_eq!(client.packets_to_end(), Vec::<Vec<u8>>::new(), "nothing after the ERR");
}

#[test]
fn an_unknown_database_gives_the_words_of_the_cn() {
    for tables in [one_cn(), known("password = \"secret\"")] {
        let proxy = Proxy::start(&tables);
        let opts = driver_opts(proxy.port, "app", "secret").db_name(Some("nope"));
        let (code, message) = driver_error(mysql::Conn::new(opts));
        assert_eq!((code, message.as_str()), (1049, "Unknown database 'nope'"));
    }
}

#[test]
fn a_cn_with_too_many_connections_is_heard() {
    let full = ScriptedCn::refusing_with(1040, "Too many connections");
    let proxy = Proxy::start(&cn_toml("full", &full.address(), "", 1));
    let mut client = RawClient::dial(proxy.port);
    let err = client.log_in(&LoginAs { user: "app", password: "secret", database: "" }).unwrap_err();
    assert_eq!(err.code, 1040, "{err:?}");
    assert!(err.message.contains("Too many connections"), "{err:?}");
    assert!(client.packets_to_end().is_empty(), "nothing after the ERR");
}

#[test]
fn a_label_without_a_value_is_refused_with_a_reason() {
    let proxy = Proxy::start(&one_cn());
    for user in ["acc1:app?tier", "acc1:app?=gold", "app?tier="] {
        let mut client = RawClient::dial(proxy.port);
        let err = client.log_in(&LoginAs { user, password: "secret", database: "" }).unwrap_err();
        assert_eq!(err.code, 20101, "{user}: {err:?}");
        assert!(err.message.contains("label"), "{user}: {err:?}");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_login_harms_nobody() {
    let proxy = Proxy::start(&one_cn());
    for cut in [0, 1, 3, 4, 20, 36] {
        let mut client = RawClient::dial(proxy.port);
        client.packet();
        let half = [&[60, 0, 0, 1][..], &[0x85; 60]].concat();
        client.send_bytes(&half[..cut]).unwrap();
    }
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT 1").unwrap(), Some(1));
}

#[test]
fn garbage_in_place_of_a_login_closes_that_connection_only() {
    let proxy = Proxy::start(&one_cn());
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 1]] {
        let mut client = RawClient::dial(proxy.port);
        client.packet();
        client.send_bytes(garbage).unwrap();
        client.half_close();
        let packets = client.packets_to_end();
        assert_eq!(packets.len(), 1, "one ERR: {packets:?}");
        let err = err_of(&packets[0]).expect_err("an ERR packet");
        assert_eq!(err.code, 1043, "{err:?}");
        assert!(err.message.starts_with("Bad handshake"), "{err:?}");
    }
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT 1").unwrap(), Some(1));
}

#[test]
fn two_hundred_logins_in_a_row_leave_no_session_behind() {
    let proxy = Proxy::start(&known("password = \"secret\""));
    for _ in 0..200 {
        drop(connect(proxy.port, "app", "secret"));
    }
    crate::house::wait_until("no session is left", Duration::from_secs(10), || {
        proxy.ctl("SHOW SESSIONS").is_empty() && proxy.seats("cn1") == 0
    });
}

/// Logs in by relay at a CN that goes through `rounds`; the client answers each question with the next of
/// `answers`. Both must see exactly the packets of the other, numbered without a gap.
fn relays_byte_by_byte(rounds: &[Round], answers: &[&[u8]]) {
    let (cn, heard) = ScriptedCn::asking(rounds.to_vec());
    let proxy = Proxy::start(&cn_toml("asking", &cn.address(), "", 1));
    let mut client = RawClient::dial(proxy.port);
    client.set_read_limit(Duration::from_secs(10));
    let mut packet = client.begin_login(&APP).unwrap();
    let (mut answers, mut next) = (answers.iter(), 2);
    for round in rounds {
        let (Round::Ask(sent) | Round::Tell(sent)) = round;
        assert_eq!((client.sequence, &packet), (next, sent), "what the CN said");
        next += 1;
        if matches!(round, Round::Ask(_)) {
            let answer = answers.next().expect("an answer for each question");
            client.send(next, answer);
            let at_the_cn = heard.recv_timeout(Duration::from_secs(10)).expect("the CN hears the answer");
            assert_eq!(at_the_cn, (next, answer.to_vec()), "what the client said");
            next += 1;
        }
        packet = client.packet();
    }
    assert_eq!((client.sequence, packet[0]), (next, 0), "the OK: {packet:?}");
    assert!(heard.try_recv().is_err(), "the CN hears nothing else");
}

fn switch(plugin: &str, data: &[u8]) -> Vec<u8> {
    [b"\xfe", plugin.as_bytes(), b"\0", data].concat()
}

const SALT: &[u8] = b"ABCDEFGHIJKLMNOPQRST\0";

#[test]
fn caching_sha2_passes_by_relay_where_the_cn_remembers_the_user() {
    let rounds = [Round::Ask(switch("caching_sha2_password", SALT)), Round::Tell(vec![1, 3])];
    relays_byte_by_byte(&rounds, &[&[0xab; 32]]);
}

#[test]
fn caching_sha2_passes_by_relay_with_the_public_key() {
    let key =
        [b"\x01-----BEGIN PUBLIC KEY-----\n", &[b'k'; 400][..], b"\n-----END PUBLIC KEY-----\n"].concat();
    let rounds = [Round::Ask(switch("caching_sha2_password", SALT)), Round::Ask(vec![1, 4]), Round::Ask(key)];
    relays_byte_by_byte(&rounds, &[&[0xab; 32], &[2], &[0xcd; 256]]);
}

#[test]
fn a_clear_password_passes_by_relay_where_the_cn_asks_for_it() {
    relays_byte_by_byte(&[Round::Ask(switch("mysql_clear_password", b""))], &[b"secret\0"]);
}

#[test]
fn a_dialog_of_several_questions_passes_by_relay() {
    // MariaDB's plugin `dialog` sends its questions bare, MySQL's plugins send them behind a 0x01.
    let rounds = [
        Round::Ask(switch("dialog", b"\x04Password: \0")),
        Round::Ask(b"\x02One-time code: \0".to_vec()),
        Round::Ask(b"\x01\x05And once more: \0".to_vec()),
        Round::Ask(vec![]),
    ];
    relays_byte_by_byte(&rounds, &[b"secret\0", b"", b"123456\0", &[0xff; 300]]);
}

#[test]
fn an_err_that_stands_for_the_greeting_may_be_numbered_1() {
    let turned_away = Arc::new(AtomicUsize::new(0));
    let counted = turned_away.clone();
    let full = ScriptedCn::start(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(&frames(1, &err_packet(1040, "08004", "Too many connections")));
    });
    let proxy = Proxy::start(&cn_toml("full", &full.address(), "", 1));
    let err = RawClient::dial(proxy.port).log_in(&APP).unwrap_err();
    assert_eq!((err.code, err.message.as_str()), (1040, "Too many connections"), "{err:?}");
    // It is probed every 200 ms and is alive, so it is never down.
    let (start, before) = (Instant::now(), turned_away.load(Ordering::SeqCst));
    while start.elapsed() < Duration::from_secs(2) {
        let state = proxy.cn("full").expect("its row")["state"].as_str().expect("its state").to_lowercase();
        assert_ne!(state, "down");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(turned_away.load(Ordering::SeqCst) > before + 3, "it was probed");
}

/// A client leaves after `answered` answers; the CN must hear an empty packet, and be free to say no.
fn leaves_an_ended_handshake(answered: usize) {
    let (heard, ends) = mpsc::channel();
    let cn = ScriptedCn::start(move |mut stream, _| {
        let Ok(mut last) = greet(&mut stream) else { return };
        let told = || -> std::io::Result<(u8, Vec<u8>, usize)> {
            stream.write_all(&frames(last.0 + 1, &switch("caching_sha2_password", SALT)))?;
            for _ in 0..answered {
                last = read_frame(&mut stream)?;
                stream.write_all(&frames(last.0 + 1, &[1, 4]))?;
            }
            last = read_frame(&mut stream)?;
            // A slow CN: the connection has to be open still when it has made up its mind.
            std::thread::sleep(Duration::from_millis(200));
            stream.write_all(&frames(last.0 + 1, &err_packet(1045, "28000", "Access denied")))?;
            Ok((last.0, last.1, stream.read(&mut [0; 16])?))
        };
        let _ = heard.send(told());
    });
    let proxy = Proxy::start(&cn_toml("asking", &cn.address(), "", 1));
    let mut client = RawClient::dial(proxy.port);
    assert_eq!(client.begin_login(&APP).unwrap(), switch("caching_sha2_password", SALT));
    for _ in 0..answered {
        client.send(client.sequence + 1, &[7; 32]);
        assert_eq!(client.packet(), [1, 4]);
    }
    let expected = client.sequence + 1;
    drop(client);
    let end = ends.recv_timeout(Duration::from_secs(5)).expect("the CN hears the end of the handshake");
    let (sequence, packet, after) = end.expect("the connection is open until the CN has said no");
    assert_eq!((sequence, packet, after), (expected, vec![], 0), "an empty packet, then the end");
    wait_until("its seat is free", Duration::from_secs(5), || proxy.seats("asking") == 0);
}

#[test]
fn a_client_that_leaves_when_it_is_asked_leaves_no_half_open_handshake() {
    leaves_an_ended_handshake(0);
}

#[test]
fn a_client_that_leaves_after_an_answer_leaves_no_half_open_handshake() {
    leaves_an_ended_handshake(1);
}
