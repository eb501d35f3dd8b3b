//! Authentication plugins: those that clients log in to corelane by, and those by which corelane logs in to CNs.
//!
//! caching_sha2_password towards CNs needs a server of MySQL's, which Debian has not; what is said there is tested in memory.

use std::process::Output;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::house::{Authority, Mariadb, Proxy, cluster, cn_toml, command_line, connect, run};

const LIMIT: Duration = Duration::from_secs(60);

/// SHA1(SHA1("secret")), as `SELECT PASSWORD('secret')` prints it.
const SECRET_HASH: &str = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

/// What MySQL 9.7 stores of "secret" for caching_sha2_password.
const SECRET_SHA2: &str = "0x244124303041243F4C061F05433B401A4A7A353D7F5E43765A510E434C705866734A3343464A487558733269457761534755552F\
                           7347536B6D744C786E5261465544466F6833";

const PLUGINS: [&str; 4] =
    ["mysql_native_password", "caching_sha2_password", "client_ed25519", "mysql_clear_password"];

/// A proxy in front of one CN, with this user `app`.
fn proxy_for(user: &str, keys: &str) -> Proxy {
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&format!("{cn}[[user]]\nname = \"app\"\n{user}\n{keys}"));
    proxy.wait_state("cn1", "working");
    proxy
}

/// The mariadb command line, which prefers a plugin.
fn client(proxy: &Proxy, plugin: &str, password: &str, options: &[&str]) -> Output {
    let (plugin, password) = (format!("--default-auth={plugin}"), format!("--password={password}"));
    command_line(proxy.port, &[&[&*plugin, &password], options].concat(), "SELECT CURRENT_USER()")
}

fn outcome(output: &Output) -> String {
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    String::from_utf8_lossy(said).trim().to_owned()
}

/// Each plugin that a client may prefer, with the password known or only its hash, with TLS or without: in, with the right password;
/// not with a wrong one.
#[test]
fn a_known_user_logs_in_by_the_plugin_that_its_client_prefers() {
    let authority = Authority::new("authority");
    let own = authority.issue("corelane", &["127.0.0.1"]);
    let tls = format!("[tls]\n{}", own.toml());
    let hashes = [format!("native_hash = \"{SECRET_HASH}\""), format!("sha2_hash = \"{SECRET_SHA2}\"")];
    for secret in ["password = \"secret\"".to_owned()].into_iter().chain(hashes) {
        let proxy = proxy_for(&secret, &tls);
        for plugin in PLUGINS {
            for leg in ["--skip-ssl", "--ssl"] {
                let right = outcome(&client(&proxy, plugin, "secret", &[leg]));
                assert_eq!(right, "app@%", "{secret} {plugin} {leg}");
                let wrong = outcome(&client(&proxy, plugin, "wrong", &[leg]));
                assert!(wrong.contains("ERROR 1045 (28000)"), "{secret} {plugin} {leg}: {wrong}");
                let empty = outcome(&client(&proxy, plugin, "", &[leg]));
                assert!(empty.contains("ERROR 1045 (28000)"), "{secret} {plugin} {leg}: {empty}");
            }
        }
    }
}

#[test]
fn a_user_with_an_empty_password_is_let_in_by_any_plugin() {
    let proxy = Proxy::start(&format!(
        "{}[[user]]\nname = \"root\"\npassword = \"\"\n",
        cn_toml("cn1", &cluster()[0].address(), "", 1)
    ));
    proxy.wait_state("cn1", "working");
    let port = format!("--port={}", proxy.port);
    for plugin in ["mysql_native_password", "caching_sha2_password"] {
        let plugin = format!("--default-auth={plugin}");
        let args =
            ["--no-defaults", "-h127.0.0.1", &port, "-uroot", &plugin, "--skip-ssl", "-BN", "-eSELECT 7"];
        assert_eq!(outcome(&run("mariadb", &args, LIMIT)), "7", "{plugin}");
    }
}

#[test]
fn clients_can_be_greeted_with_caching_sha2_password() {
    let proxy = proxy_for("password = \"secret\"", "[auth]\nplugin = \"caching_sha2_password\"\n");
    for plugin in &PLUGINS[..3] {
        assert_eq!(outcome(&client(&proxy, plugin, "secret", &["--skip-ssl"])), "app@%", "{plugin}");
    }
    let mut conn = connect(proxy.port, "app", "secret");
    assert_eq!(conn.query_first("SELECT 6 * 7").unwrap(), Some(42));
    let mut relayed = connect(proxy.port, "sbtest", "sbtest");
    assert_eq!(relayed.query_first("SELECT 6 * 7").unwrap(), Some(42), "who is not known is asked by the CN");
}

#[test]
fn a_user_who_needs_a_plugin_gets_in_by_no_other_and_not_in_clear() {
    let proxy = proxy_for("password = \"secret\"\nplugin = \"mysql_clear_password\"", "");
    let refused = outcome(&client(&proxy, "mysql_native_password", "secret", &["--skip-ssl"]));
    assert!(refused.contains("ERROR 3159 (HY000)"), "{refused}");
    let socket = format!("--socket={}", proxy.socket().display());
    let args = ["--no-defaults", &socket, "-uapp", "-psecret", "-BN", "-eSELECT 7"];
    assert_eq!(outcome(&run("mariadb", &args, LIMIT)), "7", "nobody can listen to a Unix socket");
    let ed25519 = "plugin = \"client_ed25519\"";
    proxy.reload(&format!(
        "{}[[user]]\nname = \"app\"\npassword = \"secret\"\n{ed25519}\n",
        cn_toml("cn1", &cluster()[0].address(), "", 1)
    ));
    crate::house::wait_until("the new plugin", LIMIT, || {
        outcome(&client(&proxy, "mysql_native_password", "secret", &["--skip-ssl"])) == "app@%"
    });
}

/// The plugin is the account's, so its sessions can move like those of any known user.
#[test]
fn a_known_user_of_an_ed25519_account_logs_in_and_moves() {
    let cns = [Mariadb::start("a"), Mariadb::start("b")];
    let tables: String =
        cns.iter().map(|cn| cn_toml(&cn.name, &cn.address(), "", 1) + "data = \"d\"\n").collect();
    let proxy = Proxy::start(&(tables + "[[user]]\nname = \"ed\"\npassword = \"secret\"\n"));
    ["a", "b"].into_iter().for_each(|cn| proxy.wait_state(cn, "working"));
    let mut conn = connect(proxy.port, "ed", "secret");
    assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("ed@%".to_owned()));
    let session = &proxy.ctl("SHOW SESSIONS")[0];
    assert_eq!((session["login"].as_str(), session["hold"].is_null()), (Some("known"), true));
    let (id, here) = (session["id"].as_u64().unwrap(), session["cn"].as_str().unwrap());
    let there = if here == "a" { "b" } else { "a" };
    proxy.ctl(&format!("MOVE SESSION {id} TO CN '{there}'"));
    assert_eq!(conn.query_first("SELECT @@report_host").unwrap(), Some(there.to_owned()));
}

/// The account is of another plugin, so its CNs want the password: what the first client has shown serves the next ones, and moves.
#[test]
fn a_user_with_a_hash_of_sha2_shows_its_password_once() {
    let cns = [Mariadb::start("a"), Mariadb::start("b")];
    let tables: String =
        cns.iter().map(|cn| cn_toml(&cn.name, &cn.address(), "", 1) + "data = \"d\"\n").collect();
    let user = format!("[[user]]\nname = \"ed\"\nsha2_hash = \"{SECRET_SHA2}\"\n");
    let proxy = Proxy::start(&(tables.clone() + &user));
    ["a", "b"].into_iter().for_each(|cn| proxy.wait_state(cn, "working"));
    let socket = proxy.socket();
    let opts = |password| {
        let opts = mysql::OptsBuilder::new().socket(Some(socket.to_str().expect("UTF-8")));
        opts.user(Some("ed")).pass(Some(password))
    };
    let wrong = crate::house::driver_error(mysql::Conn::new(opts("wrong")));
    assert_eq!(wrong.0, 1045, "{}", wrong.1);
    let mut conns = [mysql::Conn::new(opts("secret")).unwrap(), mysql::Conn::new(opts("secret")).unwrap()];
    for conn in &mut conns {
        assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("ed@%".to_owned()));
    }
    let wrong = crate::house::driver_error(mysql::Conn::new(opts("wrong")));
    assert_eq!(wrong.0, 1045, "not by the fast path either: {}", wrong.1);
    proxy.reload(&(tables + &user + "[login]\nattempts = 7\n"));
    crate::house::wait_until("the file is read", LIMIT, || proxy.log().contains("[login] attempts"));
    drop(mysql::Conn::new(opts("secret")).expect("after a reload"));
    let session = &proxy.ctl("SHOW SESSIONS")[0];
    assert_eq!((session["login"].as_str(), session["hold"].is_null()), (Some("known"), true));
    let (id, here) = (session["id"].as_u64().unwrap(), session["cn"].as_str().unwrap());
    let there = if here == "a" { "b" } else { "a" };
    proxy.ctl(&format!("MOVE SESSION {id} TO CN '{there}'"));
    let moved = proxy.ctl("SHOW SESSIONS").into_iter().find(|session| session["id"].as_u64() == Some(id));
    assert_eq!(moved.expect("it lives")["cn"].as_str(), Some(there));
}
