//! KILL by the id that a client was told, at MySQL's CNs; and statements whose clients have gone.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Com, Driver, LoginAs, Mariadb, Proxy, RawClient, cluster, cn_toml, connect, driver_error, number,
    wait_until,
};

const SOON: Duration = Duration::from_secs(10);

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };

const KNOWN: &str = "[[user]]\nname = \"app\"\npassword = \"secret\"\n";

/// A proxy in front of two CNs of one data set, each for a tenant by its own name, and of both for the rest.
fn proxy_of(cns: [&Mariadb; 2], tables: &str) -> Proxy {
    let cns = cns.map(|cn| {
        cn_toml(&cn.name, &cn.address(), &format!("account = [\"{}\"]", cn.name), 1) + "data = \"d\"\n"
    });
    let proxy = Proxy::start(&(cns.concat() + tables));
    proxy.ctl("SHOW CNS").iter().for_each(|cn| proxy.wait_state(cn["id"].as_str().unwrap(), "working"));
    proxy
}

fn sleep(conn: Driver) -> JoinHandle<Result<Option<u32>, (u16, String)>> {
    thread::spawn(move || {
        let mut conn = conn;
        conn.query_first("SELECT SLEEP(60)").map_err(|error| driver_error::<()>(Err(error)))
    })
}

fn wait_busy(proxy: &Proxy, id: u32) {
    wait_until("its statement runs", SOON, || {
        proxy
            .ctl("SHOW SESSIONS")
            .iter()
            .any(|row| number(&row["id"]) == u64::from(id) && row["state"] == "busy")
    });
}

fn kill(killer: &mut Driver, what: &str, id: u32) -> Result<(), (u16, String)> {
    killer.query_drop(format!("KILL {what}{id}")).map_err(|error| driver_error::<()>(Err(error)))
}

/// A statement and then the session of a user, killed by another session; users as `tables` say, each login by its tenant.
fn killed_by(tables: &str, killers: &str) {
    let cns = cluster();
    let proxy = proxy_of([&cns[0], &cns[1]], tables);
    let mut killer = connect(proxy.port, killers, "secret");
    let conn = connect(proxy.port, "cn1:app", "secret");
    let id = conn.connection_id();
    let began = Instant::now();
    let slept = sleep(conn);
    wait_busy(&proxy, id);
    kill(&mut killer, "QUERY ", id).unwrap();
    let error = slept.join().unwrap().expect_err("interrupted");
    assert!(began.elapsed() < SOON * 2 && error.0 == 1317, "{error:?}");
    let conn = connect(proxy.port, "cn1:app", "secret");
    let id = conn.connection_id();
    let slept = sleep(conn);
    wait_busy(&proxy, id);
    kill(&mut killer, "", id).unwrap();
    let gone = slept.join().unwrap_or(Err((1927, String::new()))).expect_err("killed");
    assert!([1317, 1927, 1053].contains(&gone.0), "{gone:?}");
    wait_until("the session is gone", SOON, || proxy.ctl("SHOW SESSIONS").len() == 1);
    assert_eq!(kill(&mut killer, "", id).unwrap_err(), (1094, format!("Unknown thread id: {id}")));
    assert_eq!(killer.query_first("SELECT 6 * 7").unwrap(), Some(42), "the killer goes on");
}

#[test]
fn a_session_of_the_same_cn_is_killed_by_the_id_of_its_greeting() {
    killed_by("", "cn1:app");
}

#[test]
fn a_known_user_kills_on_another_cn() {
    killed_by(KNOWN, "cn2:app");
}

/// A proxy in front of two CNs for everybody, and one session of a user on each of them.
fn two_sessions(user: &str, password: &str, tables: &str) -> (Proxy, [Driver; 2]) {
    let cns = &cluster()[..2];
    let cns: String = cns.iter().map(|cn| cn_toml(&cn.name, &cn.address(), "", 1)).collect();
    let proxy = Proxy::start(&(cns + tables));
    ["cn1", "cn2"].iter().for_each(|cn| proxy.wait_state(cn, "working"));
    let sessions = [(); 2].map(|()| connect(proxy.port, user, password));
    assert_eq!([proxy.seats("cn1"), proxy.seats("cn2")], [1, 1]);
    (proxy, sessions)
}

#[test]
fn an_account_of_the_proxy_kills_for_a_user_who_is_not_known() {
    let account = "[auth]\nquery_user = \"root\"\nquery_password = \"\"\n";
    let (proxy, [mut killer, conn]) = two_sessions("root", "", account);
    let id = conn.connection_id();
    let slept = sleep(conn);
    wait_busy(&proxy, id);
    kill(&mut killer, "QUERY ", id).unwrap();
    assert_eq!(slept.join().unwrap().expect_err("interrupted").0, 1317);
}

#[test]
fn without_anybody_to_say_so_a_session_is_ended_and_a_statement_is_not() {
    let (proxy, [mut killer, conn]) = two_sessions("app", "secret", "");
    let id = conn.connection_id();
    let there = proxy.ctl("SHOW SESSIONS").into_iter().find(|row| number(&row["id"]) == u64::from(id));
    let there = there.unwrap()["cn"].as_str().unwrap().to_owned();
    let error = kill(&mut killer, "QUERY ", id).unwrap_err();
    assert_eq!(error.0, 1105);
    assert!(error.1.contains(&format!("CN {there} can be told by nobody")), "{error:?}");
    let mut others = [(); 2].map(|()| connect(proxy.port, "sbtest", "sbtest"));
    let refused = others.each_mut().map(|other| kill(other, "QUERY ", id).err());
    let denied = (1095, format!("You are not owner of thread {id}"));
    assert!(refused.contains(&Some(denied)), "the one on the other CN: {refused:?}");
    kill(&mut killer, "CONNECTION ", id).unwrap();
    wait_until("it is ended", SOON, || proxy.ctl("SHOW SESSIONS").len() == 3);
}

#[test]
fn the_id_goes_along_when_a_session_moves() {
    let cns = cluster();
    let cn = |cn: &Mariadb| cn_toml(&cn.name, &cn.address(), "", 1) + "data = \"d\"\n";
    let proxy = Proxy::start(&(cn(&cns[0]) + &cn(&cns[1]) + KNOWN));
    ["cn1", "cn2"].iter().for_each(|cn| proxy.wait_state(cn, "working"));
    let mut killer = connect(proxy.port, "app", "secret");
    let conn = connect(proxy.port, "app", "secret");
    let id = conn.connection_id();
    let row = proxy.ctl("SHOW SESSIONS").into_iter().find(|row| number(&row["id"]) == u64::from(id)).unwrap();
    let there = if row["cn"] == "cn1" { "cn2" } else { "cn1" };
    proxy.ctl(&format!("MOVE SESSION {id} TO CN '{there}'"));
    let slept = sleep(conn);
    wait_busy(&proxy, id);
    kill(&mut killer, "QUERY ", id).unwrap();
    assert_eq!(slept.join().unwrap().expect_err("interrupted").0, 1317);
}

#[test]
fn the_command_of_the_protocol_kills_as_well() {
    let cns = cluster();
    let proxy = proxy_of([&cns[0], &cns[1]], "");
    let conn = connect(proxy.port, "cn1:app", "secret");
    let mut killer = RawClient::login(proxy.port, &LoginAs { user: "cn1:app", ..APP }).unwrap();
    killer.command(Com::PROCESS_KILL, &conn.connection_id().to_le_bytes());
    assert_eq!(killer.packet()[0], 0, "OK");
    wait_until("the session is gone", SOON, || proxy.ctl("SHOW SESSIONS").len() == 1);
    killer.command(Com::PING, b"");
    assert_eq!(killer.packet()[0], 0);
}

/// It is not opened anew at the other CN, as a session is whose CN has gone.
#[test]
fn who_kills_its_own_session_is_gone() {
    let cns = cluster();
    let cn = |cn: &Mariadb| cn_toml(&cn.name, &cn.address(), "", 1) + "data = \"d\"\n";
    let proxy = Proxy::start(&(cn(&cns[0]) + &cn(&cns[1]) + KNOWN));
    ["cn1", "cn2"].iter().for_each(|cn| proxy.wait_state(cn, "working"));
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    assert_eq!(kill(&mut client, "QUERY ", id).unwrap_err().0, 1317);
    assert_eq!(client.query_first("SELECT 6 * 7").unwrap(), Some(42));
    let killed = client.query_drop(format!("KILL {id}"));
    assert!(
        matches!(&killed, Err(mysql::Error::MySqlError(error)) if [1317, 1927].contains(&error.code)),
        "{killed:?}"
    );
    wait_until("the session is gone", SOON, || proxy.ctl("SHOW SESSIONS").is_empty());
    assert!(client.query_drop("SELECT 1").is_err());
}

/// Rows of `left_behind` after a client has gone while its INSERT of one row was under way, and what became of its statement.
fn left_behind(cn: &Mariadb, user: &str, tables: &str) -> (u64, Duration) {
    let mut house = connect(cn.port, "app", "secret");
    house.query_drop("CREATE OR REPLACE TABLE left_behind (a INT)").unwrap();
    let proxy = Proxy::start(&(cn_toml("cn", &cn.address(), "", 1) + tables));
    proxy.wait_state("cn", "working");
    let mut client = RawClient::login(proxy.port, &LoginAs { user, ..APP }).unwrap();
    client.command(Com::QUERY, b"INSERT INTO left_behind SELECT SLEEP(4)");
    let running = |house: &mut Driver| {
        let of =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO left_behind%'";
        house.query_first::<u64, _>(of).unwrap().unwrap() > 0
    };
    wait_until("its statement runs", SOON, || running(&mut house));
    let began = Instant::now();
    drop(client);
    wait_until("its statement has ended", SOON, || !running(&mut house));
    (house.query_first("SELECT COUNT(*) FROM left_behind").unwrap().unwrap(), began.elapsed())
}

#[test]
fn what_a_client_leaves_under_way_is_stopped() {
    let account = "[auth]\nquery_user = \"root\"\nquery_password = \"\"\n";
    for tables in [KNOWN, account] {
        let cn = Mariadb::start("cn");
        let (rows, took) = left_behind(&cn, "app", tables);
        assert_eq!(rows, 0, "{tables}");
        assert!(took < Duration::from_secs(3), "{took:?} {tables}");
    }
}

/// As it would be directly.
#[test]
fn where_nobody_can_say_so_it_is_left_to_its_cn() {
    let cn = Mariadb::start("cn");
    let (rows, _) = left_behind(&cn, "app", "");
    assert_eq!(rows, 1);
}
