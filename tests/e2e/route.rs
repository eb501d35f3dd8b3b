//! Routing: the right CN by labels, even load by fewest connections, and a way around a CN that fails.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::house::{
    Driver, LoginAs, Mariadb, Proxy, RawClient, ScriptedCn, cluster, cn_toml, connect, driver_error,
    driver_opts, frames, free_port, greet, read_frame, wait_until,
};

/// The three CNs with these labels.
fn labelled(labels: [&str; 3]) -> String {
    let cns = cluster().iter().zip(labels);
    cns.map(|(cn, labels)| cn_toml(&cn.name, &cn.address(), labels, 1)).collect()
}

/// The name of the CN that a user is sent to.
fn cn_of(proxy: &Proxy, user: &str) -> String {
    serving(&mut connect(proxy.port, user, "secret"))
}

fn serving(conn: &mut Driver) -> String {
    conn.query_first("SELECT @@report_host").unwrap().unwrap()
}

#[test]
fn the_tenant_in_the_user_name_decides() {
    let proxy = Proxy::start(&labelled([
        "account = [\"acc1\"]",
        "account = [\"acc2\", \"acc3\"]",
        "account = [\"acc1\"], tier = [\"gold\"]",
    ]));
    for (user, cn) in [
        ("acc1:app", "cn1"),
        ("acc1#app", "cn1"),
        ("acc1%3Aapp", "cn1"),
        ("acc1:app:role", "cn1"),
        ("acc2:app", "cn2"),
        ("acc3:app", "cn2"),
        ("acc1:app?tier=gold", "cn3"),
        ("acc1:app?tier:gold", "cn3"),
        ("acc1#app?tier=gold", "cn3"),
    ] {
        assert_eq!(cn_of(&proxy, user), cn, "{user}");
    }
}

#[test]
fn the_suffixes_are_kept_from_the_cn() {
    let proxy = Proxy::start(&labelled(["account = [\"acc1\"]"; 3]));
    let mut conn = connect(proxy.port, "acc1:app", "secret");
    assert_eq!(conn.query_first("SELECT CURRENT_USER()").unwrap(), Some("app@%".to_string()));
    let user: String = conn.query_first("SELECT USER()").unwrap().unwrap();
    assert!(user.starts_with("app@"), "{user}");
}

#[test]
fn connection_attributes_are_labels_too() {
    let proxy = Proxy::start(&labelled([
        "account = [\"acc1\"]",
        "account = [\"acc1\"], tier = [\"gold\"]",
        "x = [\"y\"]",
    ]));
    let attributes = HashMap::from([("tier".to_string(), "gold".to_string())]);
    let opts = driver_opts(proxy.port, "acc1:app", "secret").connect_attrs(Some(attributes));
    assert_eq!(serving(&mut Driver::new(opts).unwrap()), "cn2");
    assert_eq!(cn_of(&proxy, "acc1:app"), "cn1", "attributes that every driver sends are no labels");
}

#[test]
fn without_a_tenant_a_session_belongs_to_sys() {
    let proxy = Proxy::start(&labelled(["account = [\"acc1\"]", "account = [\"sys\"]", ""]));
    assert_eq!(cn_of(&proxy, "app"), "cn2");
    assert_eq!(cn_of(&proxy, "sys:app"), "cn2");
}

#[test]
fn a_tenant_without_a_labelled_cn_uses_the_unlabelled_ones() {
    let proxy = Proxy::start(&labelled(["account = [\"acc1\"]", "account = [\"acc2\"]", ""]));
    assert_eq!(cn_of(&proxy, "acc9:app"), "cn3");
    assert_eq!(cn_of(&proxy, "acc1:app"), "cn1");
}

#[test]
fn no_match_names_the_labels_asked_for() {
    let proxy =
        Proxy::start(&labelled(["account = [\"acc1\"]", "account = [\"acc2\"]", "account = [\"acc2\"]"]));
    let opts = driver_opts(proxy.port, "acc9:app?tier=gold", "secret");
    let (code, message) = driver_error(mysql::Conn::new(opts));
    assert_eq!(code, 20101, "{message}");
    for word in ["no available CN server", "acc9", "tier", "gold"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}

#[test]
fn fewest_connections_spread_evenly() {
    let proxy = Proxy::start(&labelled([""; 3]));
    let _sessions: Vec<_> = (0..30).map(|_| connect(proxy.port, "app", "secret")).collect();
    for cn in ["cn1", "cn2", "cn3"] {
        let seats = proxy.seats(cn);
        assert!((9..=11).contains(&seats), "{cn} has {seats} of 30");
    }
}

#[test]
fn a_burst_of_logins_does_not_pile_up() {
    let proxy = Proxy::start(&labelled([""; 3]));
    let port = proxy.port;
    let logins: Vec<_> =
        (0..60).map(|_| std::thread::spawn(move || connect(port, "app", "secret"))).collect();
    let _sessions: Vec<_> = logins.into_iter().map(|login| login.join().unwrap()).collect();
    for cn in ["cn1", "cn2", "cn3"] {
        let seats = proxy.seats(cn);
        assert!((16..=24).contains(&seats), "{cn} has {seats} of 60");
    }
}

#[test]
fn seats_are_returned_when_sessions_end() {
    let proxy = Proxy::start(&labelled([""; 3]));
    let mut sessions: Vec<_> = (0..9).map(|_| connect(proxy.port, "app", "secret")).collect();
    let left: Vec<_> = sessions.drain(..3).collect();
    drop(sessions);
    let total = || ["cn1", "cn2", "cn3"].iter().map(|cn| proxy.seats(cn)).sum::<u64>();
    wait_until("three sessions are left", Duration::from_secs(10), || total() == 3);
    drop(left);
    wait_until("no session is left", Duration::from_secs(10), || total() == 0);
}

#[test]
fn a_heavier_cn_carries_more() {
    let [one, two, _] = cluster();
    let tables = cn_toml("cn1", &one.address(), "", 1) + &cn_toml("cn2", &two.address(), "", 3);
    let proxy = Proxy::start(&tables);
    let _sessions: Vec<_> = (0..40).map(|_| connect(proxy.port, "app", "secret")).collect();
    let seats = proxy.seats("cn2");
    assert!((28..=32).contains(&seats), "cn2 of weight 3 of 4 has {seats} of 40");
}

#[test]
fn a_cn_that_refuses_is_tried_around() {
    let gone = cn_toml("gone", &format!("127.0.0.1:{}", free_port()), "", 1);
    let proxy = Proxy::start(&(gone + &cn_toml("cn1", &cluster()[0].address(), "", 1)));
    for _ in 0..10 {
        assert_eq!(cn_of(&proxy, "app"), "cn1");
    }
    proxy.wait_state("gone", "down");
}

#[test]
fn a_cn_that_hangs_before_its_greeting_is_tried_around() {
    let hanging = ScriptedCn::hanging();
    let tables =
        cn_toml("hanging", &hanging.address(), "", 1) + &cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&tables);
    for _ in 0..4 {
        assert_eq!(cn_of(&proxy, "app"), "cn1");
    }
}

#[test]
fn a_cn_that_closes_before_its_greeting_is_tried_around() {
    let closing = ScriptedCn::closing();
    let tables =
        cn_toml("closing", &closing.address(), "", 1) + &cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&tables);
    for _ in 0..10 {
        assert_eq!(cn_of(&proxy, "app"), "cn1");
    }
}

#[test]
fn a_cn_lost_half_way_is_tried_around_where_the_client_has_heard_nothing() {
    let switch = || frames(2, &[b"\xfemysql_native_password\0".as_slice(), &[7; 20], b"\0"].concat());
    let dying = ScriptedCn::start(move |mut stream, _| {
        // It asks for the proof by its own salt, and is gone when that comes.
        if greet(&mut stream).is_ok() && stream.write_all(&switch()).is_ok() {
            let _ = read_frame(&mut stream);
        }
    });
    let user = "[[user]]\nname = \"app\"\npassword = \"secret\"\n";
    let cns = cn_toml("dying", &dying.address(), "", 1) + &cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&format!("{user}{cns}"));
    for _ in 0..10 {
        assert_eq!(cn_of(&proxy, "app"), "cn1");
    }
    let proxy = Proxy::start(&cn_toml("dying", &dying.address(), "", 1));
    let mut client = RawClient::dial(proxy.port);
    let err = client.log_in(&LoginAs { user: "app", password: "secret", database: "" }).unwrap_err();
    assert!(err.code == 1927 && err.message.contains("dying"), "{err:?}");
    assert!(client.packets_to_end().is_empty(), "nothing after the ERR");
}

#[test]
fn a_slow_greeting_is_waited_for() {
    let slow = ScriptedCn::answering(Duration::from_millis(700), |_| None);
    let proxy = Proxy::start(&cn_toml("slow", &slow.address(), "", 1));
    RawClient::login(proxy.port, &LoginAs { user: "app", password: "secret", database: "" }).unwrap();
}

#[test]
fn when_every_cn_is_away_the_client_gets_one_err_that_says_so() {
    let proxy = Proxy::start(&cn_toml("gone", &format!("127.0.0.1:{}", free_port()), "", 1));
    let mut client = RawClient::dial(proxy.port);
    let err = client.log_in(&LoginAs { user: "app", password: "secret", database: "" }).unwrap_err();
    assert!(err.message.contains("CN"), "{err:?}");
    assert!(client.packets_to_end().is_empty(), "nothing after the ERR");
}

#[test]
fn a_dead_cn_is_avoided_and_comes_back() {
    let mut mortal = Mariadb::start("mortal");
    let tables =
        cn_toml("mortal", &mortal.address(), "", 1) + &cn_toml("cn1", &cluster()[0].address(), "", 1);
    let proxy = Proxy::start(&tables);
    proxy.wait_state("mortal", "working");
    mortal.kill();
    for _ in 0..6 {
        assert_eq!(cn_of(&proxy, "app"), "cn1", "right after the death");
    }
    proxy.wait_state("mortal", "down");
    mortal.restart();
    proxy.wait_state("mortal", "working");
    let mut sessions: Vec<_> = (0..4).map(|_| connect(proxy.port, "app", "secret")).collect();
    let there = sessions.iter_mut().map(serving).filter(|cn| cn == "mortal").count();
    assert!((1..=3).contains(&there), "{there} of 4 new sessions are on the CN that came back");
}
