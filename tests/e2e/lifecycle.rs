//! Ends: of the proxy by SIGTERM, of a CN by kill -9, of the room for sessions, of an idle client.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Com, LoginAs, Mariadb, Proxy, RawClient, ScriptedCn, cluster, cn_toml, connect, err_of, err_packet,
    frames, read_frame, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "" };

fn one_cn() -> String {
    cn_toml("cn1", &cluster()[0].address(), "", 1)
}

#[test]
fn sigterm_lets_a_running_statement_finish_and_exits_0() {
    let mut proxy = Proxy::start(&one_cn());
    let mut idle = RawClient::login(proxy.port, &APP).unwrap();
    let mut busy = RawClient::login(proxy.port, &APP).unwrap();
    busy.command(Com::QUERY, b"SELECT SLEEP(1), 'finished'");
    std::thread::sleep(Duration::from_millis(200));
    proxy.signal("TERM");
    one_err_1053(&mut idle, 0);
    let rows = busy.rows().expect("the running statement finishes");
    assert!(rows[0].ends_with(b"finished"));
    let status = proxy.wait(Duration::from_secs(15)).expect("the proxy ends");
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
}

/// Reads to the end: ERR 1053, numbered `sequence`, and nothing after it.
fn one_err_1053(client: &mut RawClient, sequence: u8) {
    let packets = client.packets_to_end();
    assert_eq!(packets.len(), 1, "one ERR: {packets:?}");
    let err = err_of(&packets[0]).expect_err("an ERR packet");
    assert_eq!((err.code, err.message.as_str()), (1053, "Server shutdown in progress"));
    assert_eq!((err.state.as_str(), client.sequence), ("08S01", sequence));
}

#[test]
fn sigterm_ends_a_statement_that_outlasts_the_grace() {
    let mut proxy = Proxy::start(&format!("[shutdown]\ngrace_ms = 500\n{}", one_cn()));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.command(Com::QUERY, b"SELECT SLEEP(30)");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    proxy.signal("TERM");
    client.set_read_limit(Duration::from_secs(3));
    one_err_1053(&mut client, 1);
    assert!(start.elapsed() >= Duration::from_millis(450), "too early: {:?}", start.elapsed());
    let status = proxy.wait(Duration::from_secs(3)).expect("the proxy ends");
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_second_sigterm_does_not_wait_for_the_grace() {
    let mut proxy = Proxy::start(&one_cn());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.command(Com::QUERY, b"SELECT SLEEP(30)");
    std::thread::sleep(Duration::from_millis(200));
    proxy.signal("TERM");
    assert!(proxy.wait(Duration::from_millis(500)).is_none(), "the first one waits for the statement");
    let start = Instant::now();
    proxy.signal("TERM");
    client.set_read_limit(Duration::from_secs(2));
    one_err_1053(&mut client, 1);
    let status = proxy.wait(Duration::from_secs(2)).expect("the proxy ends");
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn sigterm_lets_an_open_transaction_finish() {
    let mut proxy = Proxy::start(&one_cn());
    let mut conn = connect(proxy.port, "app", "secret");
    conn.query_drop("BEGIN").unwrap();
    proxy.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(conn.query_first("SELECT 1").unwrap(), Some(1));
    conn.query_drop("COMMIT").unwrap();
    assert_eq!(proxy.wait(Duration::from_secs(15)).and_then(|status| status.code()), Some(0));
}

#[test]
fn sigterm_stops_accepting_at_once() {
    let mut proxy = Proxy::start(&one_cn());
    let mut busy = RawClient::login(proxy.port, &APP).unwrap();
    busy.command(Com::QUERY, b"SELECT SLEEP(2)");
    std::thread::sleep(Duration::from_millis(200));
    proxy.signal("TERM");
    let port = proxy.port;
    wait_until("nobody is accepted", Duration::from_secs(1), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert!(proxy.running());
    busy.rows().expect("the running statement finishes");
    one_err_1053(&mut busy, 0);
    assert_eq!(proxy.wait(Duration::from_secs(15)).and_then(|status| status.code()), Some(0));
}

#[test]
fn sigterm_with_nothing_to_do_is_quick() {
    let mut proxy = Proxy::start(&one_cn());
    let start = Instant::now();
    proxy.signal("TERM");
    assert_eq!(proxy.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_killed_cn_gives_its_sessions_one_err_and_spares_the_others() {
    let mut mortal = Mariadb::start("mortal");
    let other = cn_toml("cn1", &cluster()[0].address(), "account = [\"acc1\"]", 1);
    let proxy = Proxy::start(&(other + &cn_toml("mortal", &mortal.address(), "account = [\"acc2\"]", 1)));
    let doomed_user = LoginAs { user: "acc2:app", ..APP };
    let mut doomed: Vec<_> = (0..4).map(|_| RawClient::login(proxy.port, &doomed_user).unwrap()).collect();
    let mut spared = connect(proxy.port, "acc1:app", "secret");
    for client in &mut doomed {
        client.command(Com::QUERY, b"SELECT SLEEP(30)");
    }
    std::thread::sleep(Duration::from_millis(200));
    mortal.kill();
    for client in &mut doomed {
        client.set_read_limit(Duration::from_secs(5));
        let packets = client.packets_to_end();
        assert_eq!(packets.len(), 1, "exactly one packet: {packets:?}");
        let err = err_of(&packets[0]).expect_err("an ERR packet");
        assert!(err.message.contains("mortal"), "it names the CN: {err:?}");
        assert!(err.message.len() > "mortal".len() + 10, "and the cause: {err:?}");
    }
    assert_eq!(spared.query_first("SELECT 1").unwrap(), Some(1));
    wait_until("its seats are free", Duration::from_secs(10), || proxy.seats("mortal") == 0);
}

#[test]
fn an_idle_session_hears_of_its_dead_cn() {
    let mut mortal = Mariadb::start("mortal");
    let proxy = Proxy::start(&cn_toml("mortal", &mortal.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    mortal.kill();
    client.set_read_limit(Duration::from_secs(5));
    let packets = client.packets_to_end();
    assert_eq!(packets.len(), 1, "one ERR, at once: {packets:?}");
    let err = err_of(&packets[0]).expect_err("an ERR packet");
    assert!(err.message.contains("Lost connection to CN mortal at 127.0.0.1:"), "{err:?}");
}

#[test]
fn a_cn_that_dies_within_a_packet_ends_the_session_and_no_other() {
    let half = ScriptedCn::answering(Duration::ZERO, |command| match command {
        b"\x03half" => Some(frames(1, &[7; 100])[..50].to_vec()),
        _ => None,
    });
    let tables = cn_toml("half", &half.address(), "account = [\"acc2\"]", 1);
    let proxy = Proxy::start(&(one_cn() + &tables));
    let mut well = connect(proxy.port, "app", "secret");
    let mut client = RawClient::login(proxy.port, &LoginAs { user: "acc2:app", ..APP }).unwrap();
    client.command(Com::QUERY, b"half");
    client.command(Com::QUERY, b"and close");
    client.set_read_limit(Duration::from_secs(5));
    let kind = client.try_packet().expect_err("half a packet and no more").kind();
    assert!(
        matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
        "half a packet cannot be followed by an ERR: only the end is honest, not {kind}"
    );
    assert_eq!(well.query_first("SELECT 1").unwrap(), Some(1));
}

#[test]
fn a_cn_that_says_goodbye_with_an_err_is_heard() {
    let leaving = ScriptedCn::answering(Duration::ZERO, |command| match command {
        b"\x03bye" => Some(frames(1, b"\xff\x1d\x04#08S01Server shutdown in progress")),
        _ => None,
    });
    let proxy = Proxy::start(&cn_toml("leaving", &leaving.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.command(Com::QUERY, b"bye");
    let err = client.rows().unwrap_err();
    assert_eq!((err.code, err.message.as_str()), (1053, "Server shutdown in progress"));
}

#[test]
fn an_idle_session_hears_what_its_cn_says_before_it_closes() {
    let tired = ScriptedCn::seating(|stream| {
        std::thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(&frames(0, &err_packet(4031, "HY000", TOO_IDLE)));
    });
    let proxy = Proxy::start(&cn_toml("tired", &tired.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.set_read_limit(Duration::from_secs(5));
    let packets = client.packets_to_end();
    assert_eq!((packets.as_slice(), client.sequence), (&[err_packet(4031, "HY000", TOO_IDLE)][..], 0));
}

const TOO_IDLE: &str = "The client was disconnected by the server because of inactivity.";

#[test]
fn a_binary_log_stream_ends_when_its_cn_dies() {
    let event = [b"\0".as_slice(), &[0x5a; 60]].concat();
    let sent = event.clone();
    let source = ScriptedCn::seating(move |stream| {
        let (_, command) = read_frame(stream).expect("a command");
        assert_eq!(command[0], Com::BINLOG_DUMP);
        for sequence in 1..=3 {
            stream.write_all(&frames(sequence, &sent)).expect("send an event");
        }
        std::thread::sleep(Duration::from_millis(300));
    });
    let proxy = Proxy::start(&cn_toml("source", &source.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.command(Com::BINLOG_DUMP, &[4, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
    client.set_read_limit(Duration::from_secs(3));
    // Where the events end is not known to a proxy, so it adds nothing to them.
    assert_eq!(client.packets_to_end(), [event.clone(), event.clone(), event]);
    wait_until("its seat is free", Duration::from_secs(5), || proxy.seats("source") == 0);
}

#[test]
fn one_session_too_many_gets_1040_and_room_is_given_back() {
    let proxy = Proxy::start_with("max_sessions = 2", &one_cn());
    let first = RawClient::login(proxy.port, &APP).unwrap();
    let _second = RawClient::login(proxy.port, &APP).unwrap();
    let mut third = RawClient::dial(proxy.port);
    let err = third.log_in(&APP).unwrap_err();
    assert_eq!(err.code, 1040, "{err:?}");
    assert!(err.message.contains("Too many connections"), "{err:?}");
    drop(first);
    wait_until("there is room again", Duration::from_secs(5), || RawClient::login(proxy.port, &APP).is_ok());
}

#[test]
fn a_client_that_dies_in_a_transaction_commits_nothing() {
    let proxy = Proxy::start(&one_cn());
    let mut direct = connect(cluster()[0].port, "app", "secret");
    direct.query_drop("CREATE OR REPLACE TABLE test.fragile (n INT) ENGINE=InnoDB").unwrap();
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    for sql in ["BEGIN", "INSERT INTO test.fragile VALUES (1)"] {
        client.command(Com::QUERY, sql.as_bytes());
        assert_eq!(client.packet()[0], 0);
    }
    drop(client);
    wait_until("its leg is closed", Duration::from_secs(10), || proxy.seats("cn1") == 0);
    assert_eq!(direct.query_first("SELECT COUNT(*) FROM test.fragile").unwrap(), Some(0));
    direct.query_drop("DROP TABLE test.fragile").unwrap();
}
