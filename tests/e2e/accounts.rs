//! `[auth] query_user`: users that no file names are known by the CNs' own tables, and nobody is let in or kept
//! out by what was read there.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Driver, LoginAs, Mariadb, Proxy, RawClient, cluster, cn_toml, connect, driver_error, driver_opts, run,
    wait_until,
};

const SOON: Duration = Duration::from_secs(10);

/// The least rights that are enough.
const MONITOR: [&str; 2] = [
    "CREATE OR REPLACE USER monitor@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('watch')",
    "GRANT SELECT (User, plugin, authentication_string) ON mysql.user TO monitor@'%'",
];

fn auth(password: &str, interval_ms: u64) -> String {
    format!(
        "[auth]\nquery_user = \"monitor\"\nquery_password = \"{password}\"\nquery_interval_ms = {interval_ms}\n"
    )
}

fn cn(server: &Mariadb) -> String {
    cn_toml(&server.name, &server.address(), "", 1)
}

fn root(server: &Mariadb) -> Driver {
    connect(server.port, "root", "")
}

/// A server of its own with the monitor account and `web`, whose password is `old`.
fn server() -> Mariadb {
    let server = Mariadb::start("cn1");
    let mut root = root(&server);
    for statement in MONITOR {
        root.query_drop(statement).unwrap();
    }
    root.query_drop("CREATE USER web@'%' IDENTIFIED BY 'old'").unwrap();
    root.query_drop("GRANT ALL ON test.* TO web@'%'").unwrap();
    server
}

/// How `SHOW SESSIONS` says that the only session of this user is known.
fn login_of(proxy: &Proxy, user: &str) -> String {
    let rows = proxy.ctl("SHOW SESSIONS");
    let mut of_user = rows.iter().filter(|row| row["user"] == user);
    let row = of_user.next().unwrap_or_else(|| panic!("no session of {user}: {rows:?}"));
    assert!(of_user.next().is_none(), "one session of {user}: {rows:?}");
    row["login"].as_str().expect("login").to_owned()
}

fn wait_login(proxy: &Proxy, user: &str, login: &str) {
    wait_until(&format!("{user} is {login}"), SOON, || login_of(proxy, user) == login);
}

fn said(proxy: &Proxy, words: &str) -> usize {
    proxy.log().matches(words).count()
}

#[test]
fn a_user_that_no_file_names_is_known_by_the_table() {
    let server = server();
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 300)));
    let mut web = connect(proxy.port, "web", "old");
    assert_eq!(web.query_first("SELECT CURRENT_USER()").unwrap(), Some("web@%".to_string()));
    wait_login(&proxy, "web", "known");
    let mut root = connect(proxy.port, "root", "");
    root.query_drop("DO 1").unwrap();
    assert_eq!(login_of(&proxy, "root"), "relay", "an empty password proves nothing");
    let port = format!("--port={}", proxy.port);
    let args =
        ["--no-defaults", "--host=127.0.0.1", &port, "--user=ed", "--password=secret", "--execute=DO 1"];
    assert!(run("mariadb", &args, SOON).status.success(), "another plugin logs in as ever");
}

#[test]
fn a_known_user_is_known_over_a_unix_socket_and_without_a_native_first_answer() {
    let server = server();
    let address = format!("unix:{}", server.socket().display());
    let proxy = Proxy::start(&(cn_toml("cn1", &address, "", 1) + &auth("watch", 300)));
    let port = format!("--port={}", proxy.port);
    let wait = "--execute=DO SLEEP(5)";
    let args = [
        "--no-defaults",
        "--host=127.0.0.1",
        &port,
        "--user=web",
        "--password=old",
        "--default-auth=client_ed25519",
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| run("mariadb", &[&args[..], &[wait]].concat(), Duration::from_secs(30)));
        wait_until("the session is there", SOON, || !proxy.ctl("SHOW SESSIONS LIKE 'web'").is_empty());
        wait_login(&proxy, "web", "known");
    });
}

#[test]
fn a_changed_password_works_at_once_and_is_known_after_the_next_reading() {
    let server = server();
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 3000)));
    drop(connect(proxy.port, "web", "old"));
    wait_until("the table is read", SOON, || said(&proxy, "cn1: its table of accounts was read") == 1);
    root(&server).query_drop("ALTER USER web@'%' IDENTIFIED BY 'new'").unwrap();
    let changed = Instant::now();
    let mut web = connect(proxy.port, "web", "new");
    assert!(changed.elapsed() < Duration::from_secs(2), "{:?}", changed.elapsed());
    web.query_drop("DO 1").unwrap();
    let (code, _) = driver_error(Driver::new(driver_opts(proxy.port, "web", "old")));
    assert_eq!(code, 1045, "the old one is refused at once");
    // The session was there before its hash.
    wait_login(&proxy, "web", "known");
}

#[test]
fn a_wrong_password_gives_one_err_in_the_words_of_the_cn() {
    let server = server();
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 300)));
    wait_until("the table is read", SOON, || said(&proxy, "cn1: its table of accounts was read") == 1);
    let mut client = RawClient::dial(proxy.port);
    let err = client.log_in(&LoginAs { user: "web", password: "wrong", database: "" }).unwrap_err();
    assert_eq!((err.code, err.state.as_str()), (1045, "28000"), "{err:?}");
    assert!(err.message.starts_with("Access denied for user 'web'@'"), "{err:?}");
    assert_eq!(client.packets_to_end(), Vec::<Vec<u8>>::new(), "nothing after the ERR");
}

#[test]
fn a_locked_account_is_refused_by_the_cn() {
    let server = server();
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 300)));
    wait_until("the table is read", SOON, || said(&proxy, "cn1: its table of accounts was read") == 1);
    root(&server).query_drop("ALTER USER web@'%' ACCOUNT LOCK").unwrap();
    let (code, message) = driver_error(Driver::new(driver_opts(proxy.port, "web", "old")));
    assert_eq!(code, 4151, "{message}");
}

#[test]
fn hosts_with_other_passwords_are_the_business_of_the_cn() {
    let server = server();
    let mut root = root(&server);
    root.query_drop("CREATE USER web@'192.0.2.%' IDENTIFIED BY 'elsewhere'").unwrap();
    root.query_drop("CREATE USER web@'198.51.100.1' IDENTIFIED VIA ed25519 USING PASSWORD('third')").unwrap();
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 300)));
    let _web = connect(proxy.port, "web", "old");
    wait_login(&proxy, "web", "known");
    let (code, _) = driver_error(Driver::new(driver_opts(proxy.port, "web", "elsewhere")));
    assert_eq!(code, 1045, "the password of another host is wrong here");
}

#[test]
fn a_failure_is_said_once_and_ends_with_the_right_account() {
    let server = server();
    let proxy = Proxy::start(&(cn(&server) + &auth("wrong", 100)));
    let web = connect(proxy.port, "web", "old");
    let failed = "cn1: its table of accounts cannot be read: it says: Access denied for user 'monitor'";
    wait_until("the failure is said", SOON, || said(&proxy, failed) > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((said(&proxy, failed), login_of(&proxy, "web")), (1, "relay".to_string()));
    let mut root = root(&server);
    root.query_drop("REVOKE ALL, GRANT OPTION FROM monitor@'%'").unwrap();
    proxy.reload(&(cn(&server) + &auth("watch", 100)));
    let denied = "SELECT command denied to user 'monitor'";
    wait_until("the missing right is said", SOON, || said(&proxy, denied) == 1);
    root.query_drop(MONITOR[1]).unwrap();
    wait_login(&proxy, "web", "known");
    drop(web);
    assert!(said(&proxy, "watch") == 0 && said(&proxy, "*") == 0, "no secret in the log: {}", proxy.log());
}

#[test]
fn a_cn_that_comes_up_is_read_at_once() {
    let mut server = server();
    let proxy = Proxy::start(&(cn(&cluster()[1]) + &cn(&server) + &auth("watch", 3_600_000)));
    wait_until("the table is read", SOON, || said(&proxy, "cn1: its table of accounts was read") == 1);
    server.kill();
    proxy.wait_state("cn1", "down");
    proxy.signal("STOP");
    server.restart();
    root(&server).query_drop("CREATE USER late@'%' IDENTIFIED BY 'late'").unwrap();
    proxy.signal("CONT");
    proxy.wait_state("cn1", "working");
    let read_again = || said(&proxy, "cn1: its table of accounts was read") == 2;
    wait_until("the table is read again", SOON, read_again);
}

#[test]
fn the_file_wins_over_the_table() {
    let server = server();
    let user = "[[user]]\nname = \"web\"\npassword = \"of the file\"\n";
    let proxy = Proxy::start(&(cn(&server) + &auth("watch", 300) + user));
    wait_until("the table is read", SOON, || said(&proxy, "cn1: its table of accounts was read") == 1);
    let (code, _) = driver_error(Driver::new(driver_opts(proxy.port, "web", "old")));
    assert_eq!(code, 1045, "the file says otherwise");
}
