//! Connections of corelane's own to CNs: probes, readings of user tables and KILLs go through TLS and behind a header, as sessions do.

use std::time::Duration;

use crate::house::{
    Authority, Com, LoginAs, Mariadb, Proxy, RawClient, cluster, cn_toml, command_line, run, said, wait_until,
};
use crate::tls::secure_server_with;

const SOON: Duration = Duration::from_secs(20);
const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };
const MONITOR: &str =
    "[auth]\nquery_user = \"monitor\"\nquery_password = \"watch\"\nquery_interval_ms = 300\n";

/// Statements at a server, by its Unix socket, on which nobody asks for TLS.
fn at(server: &Mariadb, sql: &str) -> String {
    let socket = format!("--socket={}", server.socket().display());
    said(&run("mariadb", &["--no-defaults", &socket, "-uroot", "-BN", "-e", sql], SOON))
}

/// A server that takes nobody without TLS, a monitor account and an account for probes, and a log of who comes how.
fn watched(name: &str, authority: &Authority, extra: &[&str]) -> Mariadb {
    let server = secure_server_with(name, authority, &["127.0.0.1"], extra);
    at(
        &server,
        "CREATE USER monitor@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('watch') REQUIRE SSL;
         GRANT SELECT (User, plugin, authentication_string) ON mysql.user TO monitor@'%';
         CREATE USER corelane_probe@'%' REQUIRE SSL;
         SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON;",
    );
    server
}

/// Logins of a user so far, of those that the server let in, and of those among them that came through TLS.
fn logins(server: &Mariadb, user: &str) -> (u64, u64) {
    let of = format!("command_type = 'Connect' AND argument LIKE '{user}@%'");
    let sql = format!(
        "SELECT COUNT(*), COALESCE(SUM(argument LIKE '%using SSL/TLS%'), 0) FROM mysql.general_log WHERE {of}"
    );
    let line = at(server, &sql);
    let (all, secured) = line.trim_end().split_once('\t').expect("two numbers");
    (all.parse().expect("a number"), secured.parse().expect("a number"))
}

fn verified(authority: &Authority) -> String {
    format!("[cn_tls]\nmode = \"verify_name\"\nca_file = \"{}\"\n", authority.file.display())
}

fn last_error(proxy: &Proxy, cn: &str) -> String {
    proxy.cn(cn).expect("it is listed")["last_error"].to_string()
}

#[test]
fn probes_and_readings_have_the_tls_of_sessions() {
    let authority = Authority::new("authority");
    for (name, options, keys) in
        [("plain", &[][..], ""), ("told", &["--proxy-protocol-networks=*"][..], "proxy_protocol = true\n")]
    {
        let server = watched(name, &authority, options);
        let cn = cn_toml("cn1", &server.address(), "", 1) + keys;
        let proxy = Proxy::start(&(cn + MONITOR + &verified(&authority)));
        proxy.wait_state("cn1", "working");
        wait_until("the table is read", SOON, || proxy.log().contains("cn1: its table of accounts was read"));
        wait_until("it is probed, and read again", SOON, || {
            logins(&server, "corelane_probe").0 > 10 && logins(&server, "monitor").0 > 2
        });
        for user in ["corelane_probe", "monitor"] {
            let (all, secured) = logins(&server, user);
            assert_eq!(all, secured, "{name}: {user} comes through TLS only");
        }
        proxy.wait_state("cn1", "working");
        assert_eq!(said(&command_line(proxy.port, &["--skip-ssl"], "SELECT 1")), "1\n");
        // `app` is not in the file: it is known by what was read.
        let _session = RawClient::login(proxy.port, &APP).expect("it gets in");
        wait_until("its hash was read", SOON, || {
            proxy.ctl("SHOW SESSIONS").iter().any(|row| row["user"] == "app" && row["login"] == "known")
        });
    }
}

#[test]
fn what_a_client_leaves_under_way_is_stopped_through_tls_and_behind_a_header() {
    let authority = Authority::new("authority");
    let server = watched("cn", &authority, &["--proxy-protocol-networks=*"]);
    at(&server, "CREATE TABLE test.left_behind (a INT)");
    let account = "[auth]\nquery_user = \"root\"\nquery_password = \"\"\n";
    let known = "[[user]]\nname = \"app\"\npassword = \"secret\"\n";
    let cn = cn_toml("cn1", &server.address(), "", 1) + "proxy_protocol = true\ntls = \"verify_name\"\n";
    let ca = format!("[cn_tls]\nca_file = \"{}\"\n", authority.file.display());
    for tables in [account, known] {
        let proxy = Proxy::start(&(cn.clone() + &ca + tables));
        proxy.wait_state("cn1", "working");
        let mut client = RawClient::login(proxy.port, &APP).expect("it gets in");
        client.command(Com::QUERY, b"INSERT INTO left_behind SELECT SLEEP(8)");
        let running = || {
            let of = "info LIKE 'INSERT INTO left_behind%'";
            at(&server, &format!("SELECT COUNT(*) FROM information_schema.processlist WHERE {of}")) != "0\n"
        };
        wait_until("its statement runs", SOON, running);
        drop(client);
        wait_until("its statement has ended", SOON, || !running());
        assert_eq!(at(&server, "SELECT COUNT(*) FROM test.left_behind"), "0\n", "{tables}");
    }
}

#[test]
fn a_cn_whose_certificate_is_not_believed_is_down_and_says_why() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let server = watched("cn1", &authority, &[]);
    let cn = cn_toml("cn1", &server.address(), "", 1);
    let proxy = Proxy::start(&(cn.clone() + MONITOR + &verified(&other)));
    proxy.wait_state("cn1", "down");
    let cause = "TLS: invalid peer certificate: UnknownIssuer";
    let said_of_it = last_error(&proxy, "cn1");
    assert!(said_of_it.contains(cause), "{said_of_it}");
    let err = RawClient::login(proxy.port, &APP).err().expect("a refusal");
    assert!(err.message.contains("CN cn1") && err.message.contains(cause), "{err:?}");
    assert_eq!((logins(&server, "corelane_probe").0, logins(&server, "monitor").0), (0, 0));
    proxy.reload(&(cn.clone() + MONITOR + &verified(&authority)));
    proxy.wait_state("cn1", "working");
    wait_until("the table is read", SOON, || proxy.log().contains("cn1: its table of accounts was read"));
    // A mode of its own, by which no certificate has to be believed.
    proxy.reload(&(cn + "tls = \"required\"\n" + MONITOR + &verified(&other)));
    wait_until("it is spoken to anew", SOON, || {
        proxy.log().contains("CN cn1: tls: that of [cn_tls] is now required")
    });
    proxy.wait_state("cn1", "working");
    assert!(RawClient::login(proxy.port, &APP).is_ok());
}

#[test]
fn each_cn_may_have_a_mode_of_its_own() {
    let authority = Authority::new("authority");
    let server = watched("secure", &authority, &[]);
    let plain = &cluster()[0];
    let cn = |id: &str, server: &Mariadb, mode: &str| {
        cn_toml(id, &server.address(), &format!("account = [\"{id}\"]"), 1) + mode
    };
    let tables = cn("named", &server, "")
        + &cn("any", &server, "tls = \"preferred\"\n")
        + &cn("open", plain, "tls = \"off\"\n")
        + &cn("shut", plain, "tls = \"required\"\n");
    let proxy = Proxy::start(&(tables + &verified(&authority)));
    ["named", "any", "open"].iter().for_each(|cn| proxy.wait_state(cn, "working"));
    proxy.wait_state("shut", "down");
    let error = "it offers no TLS, which [[cn]] tls or [cn_tls] asks for";
    assert!(last_error(&proxy, "shut").contains(error), "{}", last_error(&proxy, "shut"));
    for (cn, secured) in [("named", true), ("any", true), ("open", false)] {
        let user = format!("-u{cn}:app");
        let sql = "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'SSL_CIPHER'";
        let answer = said(&command_line(proxy.port, &["--skip-ssl", &user], sql));
        assert_eq!(answer.trim_end() == "1", secured, "{cn}");
    }
    proxy.ctl(&format!("ADD CN 'late' ADDRESS '{}' TLS verify_ca", server.address()));
    proxy.wait_state("late", "working");
    let bare = Proxy::start(&cn("open", plain, ""));
    let refused = bare.try_ctl(&format!("ADD CN 'late' ADDRESS '{}' TLS verify_ca", server.address()));
    let refused = refused.expect_err("nobody vouches");
    assert!(refused.contains("nobody vouches for CNs"), "{refused}");
}
