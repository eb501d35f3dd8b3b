//! `[auth] query_user`: users that no file names are known by the CNs' own tables, and nobody is let in or kept
//! out by what was read there.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Driver, LoginAs, Mariadb, OK, Proxy, RawClient, ScriptedCn, cluster, cn_toml, connect, driver_error,
    driver_opts, frames, greet, one_row, read_frame, rows, run, wait_until,
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

/// What MySQL 9.7.4 stores of `secret`, and of another password, in hexadecimal.
const STORED: [&str; 2] = [
    "244124303041243F4C061F05433B401A4A7A353D7F5E43765A510E434C705866734A3343464A487558733269457761534755552F7347\
     536B6D744C786E5261465544466F6833",
    "24412430304124\
     2D0E2F7B6A4F2958467436781E16190D3F054678412F47474C453935542E79326E4B387530307A5549426B4B786D4C6644324A6752\
     72686B5A544C504C6533",
];

/// Serves as a CN of MySQL 8 does whose cache has every password: it takes any answer by the fast path, and its table has one of
/// [`STORED`] for `web`.
fn sha2_cn(mut stream: TcpStream, stored: &AtomicUsize) -> std::io::Result<()> {
    let (mut sequence, login) = greet(&mut stream)?;
    if !login.windows(8).any(|window| window == b"monitor\0") {
        let switch = b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0";
        stream.write_all(&frames(sequence + 1, switch))?;
        sequence = read_frame(&mut stream)?.0;
        stream.write_all(&frames(sequence + 1, b"\x01\x03"))?;
        sequence += 1;
    }
    stream.write_all(&frames(sequence + 1, OK))?;
    loop {
        let (_, command) = read_frame(&mut stream)?;
        let answer = if command.windows(10).any(|window| window == b"mysql.user") {
            let hash = STORED[stored.load(Ordering::SeqCst)];
            rows(&["User", "plugin", "hash"], &[vec!["web", "caching_sha2_password", hash]])
        } else {
            one_row(&["16777216"])
        };
        stream.write_all(&answer)?;
    }
}

/// A session over corelane's Unix socket, where nobody can read along.
fn local(proxy: &Proxy) -> Driver {
    let socket = proxy.socket();
    let opts = mysql::OptsBuilder::new().socket(socket.to_str()).user(Some("web")).pass(Some("secret"));
    Driver::new(opts).expect("the CN lets everybody in")
}

#[test]
fn a_password_by_sha2_is_asked_for_once_and_forgotten_with_its_hash() {
    let stored = Arc::new(AtomicUsize::new(0));
    let served = stored.clone();
    let scripted = ScriptedCn::start(move |stream, _| {
        let _ = sha2_cn(stream, &served);
    });
    let proxy = Proxy::start(&(cn_toml("cn1", &scripted.address(), "", 1) + &auth("watch", 200)));
    let open = || Driver::new(driver_opts(proxy.port, "web", "secret")).expect("the CN lets everybody in");
    let login_of_one = |session: Driver| {
        let login = login_of(&proxy, "web");
        drop(session);
        wait_until("it has left", SOON, || proxy.ctl("SHOW SESSIONS LIKE 'web'").is_empty());
        login
    };
    let read = |times| {
        let words = "cn1: its table of accounts was read: 1 user";
        wait_until("the table is read", SOON, || said(&proxy, words) == times);
    };
    read(1);
    assert_eq!(login_of_one(open()), "relay", "it is not asked, as it may not be able to answer");
    assert_eq!(login_of_one(local(&proxy)), "known");
    assert_eq!(login_of_one(open()), "known", "its answer is of a password that was shown");
    stored.store(1, Ordering::SeqCst);
    read(2);
    assert_eq!(login_of_one(open()), "relay", "what was shown is forgotten");
    let session = local(&proxy);
    assert_eq!(login_of(&proxy, "web"), "relay", "the hash is of another password");
    stored.store(0, Ordering::SeqCst);
    read(3);
    wait_login(&proxy, "web", "known");
    assert_eq!(login_of_one(session), "known");
    assert_eq!(login_of_one(open()), "known");
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
