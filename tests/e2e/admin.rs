//! The admin door: what each SHOW prints, who may ask, and how a mistake is answered.

use mysql::prelude::Queryable;

use crate::house::{Proxy, cluster, cn_toml, connect, driver_error, driver_opts, number};

fn proxy() -> Proxy {
    let [one, two, _] = cluster();
    let gold = cn_toml("cn1", &one.address(), "account = [\"acc1\"], tier = [\"gold\"]", 2);
    Proxy::start(&(gold + &cn_toml("cn2", &two.address(), "", 1)))
}

fn has_columns(rows: &[serde_json::Value], columns: &[&str]) {
    let first = rows.first().expect("a row").as_object().expect("rows are JSON objects");
    for column in columns {
        assert!(first.contains_key(*column), "{column} in {first:?}");
    }
}

#[test]
fn show_cns_has_its_columns() {
    let proxy = proxy();
    let _session = connect(proxy.port, "app", "secret");
    let rows = proxy.ctl("SHOW CNS");
    assert_eq!(rows.len(), 2, "{rows:?}");
    has_columns(&rows, &["id", "address", "flavour", "state", "labels", "weight", "sessions"]);
    let gold = proxy.cn("cn1").expect("cn1");
    assert_eq!(gold["address"], cluster()[0].address());
    assert_eq!(gold["flavour"], "mysql");
    assert_eq!(number(&gold["weight"]), 2);
    let labels = gold["labels"].to_string();
    assert!(labels.contains("acc1") && labels.contains("gold"), "{labels}");
    assert_eq!(proxy.seats("cn2"), 1);
}

#[test]
fn show_sessions_names_client_user_tenant_and_cn() {
    let proxy = proxy();
    let mut session = connect(proxy.port, "acc1:app?tier=gold", "secret");
    let id: u32 = session.connection_id();
    let rows = proxy.ctl("SHOW SESSIONS");
    assert_eq!(rows.len(), 1, "{rows:?}");
    has_columns(&rows, &["id", "worker", "client", "user", "tenant", "labels", "cn", "state", "login"]);
    let row = &rows[0];
    assert_eq!(number(&row["id"]), u64::from(id), "the id that the client saw");
    assert_eq!((&row["cn"], &row["tenant"]), (&"cn1".into(), &"acc1".into()));
    assert!(row["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")), "{row}");
    assert!(row["labels"].to_string().contains("gold"), "{row}");
    assert_eq!(row["state"], "idle", "{row}");
    session.query_drop("BEGIN").unwrap();
    assert_eq!(proxy.ctl("SHOW SESSIONS")[0]["state"], "transaction");
}

#[test]
fn show_workers_counts_what_passed() {
    let proxy = proxy();
    let mut session = connect(proxy.port, "app", "secret");
    for _ in 0..50 {
        session.query_drop("SELECT 1").unwrap();
    }
    let rows = proxy.ctl("SHOW WORKERS");
    has_columns(&rows, &["worker", "cpu", "sessions", "commands", "bytes_in", "bytes_out"]);
    let sum = |column: &str| rows.iter().map(|row| number(&row[column])).sum::<u64>();
    assert_eq!(sum("sessions"), 1, "{rows:?}");
    assert!(sum("commands") >= 50, "{rows:?}");
    assert!(sum("bytes_in") > 500 && sum("bytes_out") > 500, "{rows:?}");
}

#[test]
fn show_version_prints_the_version() {
    let rows = proxy().ctl("SHOW VERSION");
    assert!(format!("{rows:?}").contains(env!("CARGO_PKG_VERSION")), "{rows:?}");
}

#[test]
fn any_mysql_client_may_ask() {
    let proxy = proxy();
    let opts = driver_opts(proxy.admin_port, "admin", "admin").db_name(None::<String>);
    let mut conn = mysql::Conn::new(opts).unwrap();
    let rows: Vec<mysql::Row> = conn.query("SHOW CNS").unwrap();
    assert_eq!(rows.len(), 2);
    let names: Vec<_> = rows[0].columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    assert_eq!(names[..2], ["id".to_string(), "address".to_string()]);
}

#[test]
fn a_wrong_admin_password_is_refused() {
    let proxy = proxy();
    for (user, password) in [("admin", "wrong"), ("admin", ""), ("app", "secret")] {
        let opts = driver_opts(proxy.admin_port, user, password).db_name(None::<String>);
        let (code, message) = driver_error(mysql::Conn::new(opts));
        assert_eq!(code, 1045, "{message}");
    }
}

#[test]
fn an_unknown_statement_is_a_syntax_error_and_the_session_lives_on() {
    let proxy = proxy();
    let opts = driver_opts(proxy.admin_port, "admin", "admin").db_name(None::<String>);
    let mut conn = mysql::Conn::new(opts).unwrap();
    let (code, message) = driver_error(conn.query_drop("SHOW CMS"));
    assert_eq!(code, 1064, "{message}");
    assert!(conn.query::<mysql::Row, _>("SHOW WORKERS").is_ok());
    assert!(proxy.try_ctl("FLY TO THE MOON").is_err(), "ctl fails too");
}
