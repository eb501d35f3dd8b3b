//! Who may come in, how many, and for how long: limits that end sessions or keep them out, between real clients and real servers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Com, ErrPacket, HttpDoor, LoginAs, Proxy, RawClient, cluster, cn_toml, connect, driver_error, err_of,
    wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };
const KNOWN: &str = "[[user]]\nname = \"app\"\npassword = \"secret\"\n";
const SOON: Duration = Duration::from_secs(20);

fn one_cn() -> String {
    cn_toml("cn1", &cluster()[0].address(), "", 1)
}

/// Reads to the end of a session that corelane ends: the number of the last packet, and its ERR.
fn farewell(client: &mut RawClient) -> (u8, ErrPacket) {
    let packets = client.packets_to_end();
    let last = packets.last().expect("it is told why");
    (client.sequence, err_of(last).expect_err("an ERR"))
}

fn err(code: u16, state: &str, message: &str) -> ErrPacket {
    ErrPacket { code, state: state.into(), message: message.into() }
}

#[test]
fn an_idle_session_ends() {
    let door = HttpDoor::new();
    let proxy = Proxy::start(&(one_cn() + "[timeouts]\nidle_ms = 700\n" + &door.toml("")));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let mut busy = connect(proxy.port, "app", "secret");
    let began = Instant::now();
    for _ in 0..8 {
        sleep(Duration::from_millis(200));
        assert_eq!(busy.query_first("SELECT 6 * 7").unwrap(), Some(42), "it is not idle for so long");
    }
    let message = "The client was disconnected by the server because of inactivity.";
    assert_eq!(farewell(&mut client), (0, err(4031, "HY000", message)));
    assert!(began.elapsed() >= Duration::from_millis(700));
    let scraped = door.get("/metrics").body;
    let counted = |worker| format!("corelane_timeouts_total{{worker=\"{worker}\",what=\"idle\"}} 1");
    assert!(scraped.contains(&counted(0)) || scraped.contains(&counted(1)), "{scraped}");
}

#[test]
fn a_session_idle_inside_a_transaction_ends_and_is_rolled_back() {
    let proxy = Proxy::start(&(one_cn() + "[timeouts]\ntransaction_ms = 500\n"));
    let mut other = connect(proxy.port, "app", "secret");
    other.query_drop("CREATE OR REPLACE TABLE test.left_open (n INT) ENGINE = InnoDB").unwrap();
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    for sql in ["BEGIN", "INSERT INTO test.left_open VALUES (1)"] {
        client.command(Com::QUERY, sql.as_bytes());
        err_of(&client.packet()).unwrap();
    }
    let message = "The client was disconnected by the server because of inactivity inside a transaction.";
    assert_eq!(farewell(&mut client), (0, err(4031, "HY000", message)));
    wait_until("its lock is gone", SOON, || {
        other.query_first("SELECT COUNT(*) FROM test.left_open FOR UPDATE").unwrap() == Some(0)
    });
}

#[test]
fn a_statement_that_takes_too_long_is_stopped_and_its_session_goes_on() {
    let proxy = Proxy::start(&(one_cn() + KNOWN + "[timeouts]\nquery_ms = 500\n"));
    let mut conn = connect(proxy.port, "app", "secret");
    let began = Instant::now();
    let slow = "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b, \
                information_schema.columns c";
    let stopped = driver_error(conn.query_first::<u64, _>(slow));
    assert_eq!(stopped, (1317, "Query execution was interrupted".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(500) && began.elapsed() < SOON);
    assert_eq!(conn.query_first("SELECT 6 * 7").unwrap(), Some(42));
}

#[test]
fn where_nobody_can_stop_a_statement_its_session_ends() {
    let proxy = Proxy::start(&(one_cn() + "[timeouts]\nquery_ms = 500\n"));
    let mut conn = connect(proxy.port, "app", "secret");
    let message = "Query execution was interrupted, maximum statement execution time exceeded";
    let ended = driver_error(conn.query_first::<u32, _>("SELECT SLEEP(30)"));
    assert_eq!(ended, (3024, message.to_owned()));
}

#[test]
fn a_reload_sets_and_lifts_time_limits() {
    let proxy = Proxy::start(&one_cn());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    sleep(Duration::from_millis(600));
    assert!(!client.has_ended(), "there is no limit");
    proxy.reload(&(one_cn() + "[timeouts]\nidle_ms = 300\n"));
    assert_eq!(farewell(&mut client).1.code, 4031);
    proxy.reload(&one_cn());
    wait_until("the limit is lifted", SOON, || proxy.log().matches("[timeouts] idle_ms").count() == 2);
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    sleep(Duration::from_millis(900));
    assert_eq!(client.value("SELECT 6*7").unwrap(), "42");
}
