//! Logging in: every plugin and both ways of knowing a user, and each refusal in the words of the CN.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::house::{
    LoginAs, Proxy, RawClient, ScriptedCn, cluster, cn_toml, connect, driver_error, driver_opts, run,
};

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

#[test]
fn a_wrong_password_gives_one_err_by_relay() {
    one_access_denied(&Proxy::start(&one_cn()), "app");
}

#[test]
fn a_wrong_password_gives_one_err_to_a_known_user() {
    one_access_denied(&Proxy::start(&known("password = \"secret\"")), "app");
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
        assert!(packets.len() <= 1, "at most one ERR: {packets:?}");
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
