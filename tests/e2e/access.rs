//! Who may come in, how many, and for how long: limits that end sessions or keep them out, between real clients and real servers.

use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Com, ErrPacket, HttpDoor, LoginAs, Proxy, RawClient, cluster, cn_toml, connect, driver_error, err_of,
    number, wait_until,
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

/// A COM_CHANGE_USER, without a password.
fn change_to(user: &str) -> Vec<u8> {
    [user.as_bytes(), b"\0\0test\0\x2d\0mysql_native_password\0"].concat()
}

#[test]
fn a_session_becomes_nobody_who_may_not_come_in() {
    let config = one_cn()
        + KNOWN
        + "[access]\nusers_denied = [\"ro*\"]\n\
        [[user]]\nname = \"far\"\npassword = \"secret\"\nfrom = [\"10.9.9.9\"]\n\
        [[user]]\nname = \"certain\"\npassword = \"secret\"\ncertificate = [\"*\"]\n";
    let proxy = Proxy::start(&config);
    for user in ["root", "ROOT", "far", "certain"] {
        let mut client = RawClient::login(proxy.port, &APP).unwrap();
        client.command(Com::CHANGE_USER, &change_to(user));
        let denied = format!("Access denied for user '{user}'@'127.0.0.1' (using password: NO)");
        assert_eq!(farewell(&mut client), (1, err(1045, "28000", &denied)), "{user}");
    }
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    client.command(Com::CHANGE_USER, &change_to(&"x".repeat(5000)));
    assert_eq!(client.packet()[0], 0xfe, "the CN is asked, which asks for a password, whatever the name");
    let mut other = connect(proxy.port, "app", "secret");
    let same = mysql::ChangeUserOpts::DEFAULT.with_user(Some("app".into())).with_pass(Some("secret".into()));
    other.change_user(same).unwrap();
    assert_eq!(other.query_first("SELECT 6 * 7").unwrap(), Some(42));
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

/// What a client is told that may not even begin a login.
fn turned_away(mut client: RawClient) -> ErrPacket {
    let told = farewell(&mut client);
    assert_eq!(told.0, 0, "in the place of the greeting");
    told.1
}

/// Waits until one session is counted as refused for this reason, which it is when its connection is closed.
fn wait_refused(door: HttpDoor, why: &str) {
    let why = format!("why=\"{why}\"");
    wait_until("it is counted", SOON, || {
        door.get("/metrics").body.lines().any(|line| line.contains(&why) && line.ends_with(" 1"))
    });
}

fn host_denied(host: &str) -> ErrPacket {
    err(1130, "", &format!("Host '{host}' is not allowed to connect to this MySQL server"))
}

fn refused(proxy: &Proxy, user: &str, password: &str) -> ErrPacket {
    let who = LoginAs { user, password, database: "" };
    RawClient::login(proxy.port, &who).err().unwrap_or_else(|| panic!("{user} gets in"))
}

fn access_denied(user: &str, password: &str) -> ErrPacket {
    let message = format!("Access denied for user '{user}'@'127.0.0.1' (using password: {password})");
    err(1045, "28000", &message)
}

#[test]
fn a_host_is_turned_away_before_it_is_greeted() {
    let door = HttpDoor::new();
    let tables = one_cn() + &door.toml("");
    let proxy = Proxy::start(&(tables.clone() + "[access]\ndeny = [\"127.0.0.0/8\"]\n"));
    assert_eq!(turned_away(RawClient::dial(proxy.port)), host_denied("127.0.0.1"));
    wait_refused(door, "access");
    let local = mysql::OptsBuilder::new()
        .socket(Some(proxy.socket().to_str().expect("UTF-8")))
        .user(Some("app"))
        .pass(Some("secret"));
    let mut local = mysql::Conn::new(local).expect("Unix sockets are not denied");
    assert_eq!(local.query_first("SELECT 6 * 7").unwrap(), Some(42));
    proxy.reload(&(tables.clone() + "[access]\nallow = [\"127.0.0.1\"]\n"));
    wait_until("it may come in", SOON, || RawClient::login(proxy.port, &APP).is_ok());
    proxy.reload(&(tables + "[access]\nallow = [\"unix\"]\n"));
    // By each worker.
    wait_until("none may come in", SOON, || (0..8).all(|_| RawClient::login(proxy.port, &APP).is_err()));
    assert_eq!(turned_away(RawClient::dial(proxy.port)), host_denied("127.0.0.1"));
}

#[test]
fn behind_a_load_balancer_the_address_that_it_tells_counts() {
    let rules = "[proxy_protocol]\nfrom = [\"127.0.0.0/8\"]\n\
                 [access]\nallow = [\"127.0.0.1\", \"203.0.113.0/24\"]\ndeny = [\"203.0.113.9\"]\n";
    let proxy = Proxy::start(&(one_cn() + rules));
    let from = |ip: &str| {
        let mut client = RawClient::dial(proxy.port);
        let header = format!("PROXY TCP4 {ip} 10.0.0.1 51234 6009\r\n");
        client.send_bytes(header.as_bytes()).expect("send a header");
        client
    };
    from("203.0.113.7").log_in(&APP).expect("it may come in");
    for ip in ["203.0.113.9", "198.51.100.1"] {
        assert_eq!(turned_away(from(ip)), host_denied(ip));
    }
}

#[test]
fn names_are_refused_before_a_cn_hears_of_them() {
    let rules = "[access]\nusers_denied = [\"root\", \"a*n\"]\ntenants_allowed = [\"acc*\", \"sys\"]\n";
    let proxy = Proxy::start(&(cn_toml("cn1", "127.0.0.1:1", "", 1) + rules));
    for (user, name, password) in [
        ("root", "root", "secret"),
        ("ROOT", "ROOT", "secret"),
        ("acc1:admin", "admin", "secret"),
        ("other:app", "app", ""),
    ] {
        let said = if password.is_empty() { "NO" } else { "YES" };
        assert_eq!(refused(&proxy, user, password), access_denied(name, said), "{user}");
    }
    assert_eq!(refused(&proxy, "acc1:app", "secret").code, 1429, "it is let as far as the CN");
    proxy.reload(&(cn_toml("cn1", "127.0.0.1:1", "", 1) + "[access]\nusers_allowed = [\"web\"]\n"));
    wait_until("others are allowed", SOON, || {
        refused(&proxy, "app", "secret") == access_denied("app", "YES")
    });
    assert_eq!(refused(&proxy, "web", "secret").code, 1429);
}

#[test]
fn a_known_user_may_be_at_home_somewhere() {
    let user = |from: &str| format!("{KNOWN}from = [{from}]\n");
    let proxy = Proxy::start(&(one_cn() + &user("\"10.0.0.0/8\"")));
    assert_eq!(refused(&proxy, "app", "secret"), access_denied("app", "YES"));
    proxy.reload(&(one_cn() + &user("\"10.0.0.0/8\", \"127.0.0.1\"")));
    wait_until("it comes from home", SOON, || RawClient::login(proxy.port, &APP).is_ok());
}

/// Logs in until somebody is refused; those who got in, and what the first other one was told.
fn fill(proxy: &Proxy, user: &str) -> (Vec<RawClient>, ErrPacket) {
    let who = LoginAs { user, password: "secret", database: "" };
    let mut clients = Vec::new();
    loop {
        match RawClient::login(proxy.port, &who) {
            Ok(client) => clients.push(client),
            Err(error) => return (clients, error),
        }
    }
}

#[test]
fn a_user_has_as_many_sessions_as_it_may() {
    let proxy = Proxy::start(&(one_cn() + "[limits]\nsessions_per_user = 2\n"));
    let (clients, error) = fill(&proxy, "app");
    let message = "User 'app' has exceeded the 'max_user_connections' resource (current value: 2)";
    assert_eq!((clients.len(), error), (2, err(1226, "42000", message)));
    let other = LoginAs { user: "acc1:app", ..APP };
    let other = RawClient::login(proxy.port, &other).expect("of another tenant it is another user");
    drop(clients);
    wait_until("they have left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 1);
    assert_eq!(fill(&proxy, "app").0.len(), 2);
    drop(other);
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let door = HttpDoor::new();
    let proxy = Proxy::start(&(one_cn() + "[limits]\nsessions_per_client = 2\n" + &door.toml("")));
    let waiting = RawClient::dial(proxy.port);
    wait_until("it counts before it logs in", SOON, || proxy.ctl("SHOW SESSIONS").len() == 1);
    let client = RawClient::login(proxy.port, &APP).unwrap();
    let refused = err(1040, "", "Too many connections from '127.0.0.1': there may be 2");
    assert_eq!(turned_away(RawClient::dial(proxy.port)), refused);
    wait_refused(door, "limit");
    drop((waiting, client));
    wait_until("they have left", SOON, || proxy.ctl("SHOW SESSIONS").is_empty());
    drop(RawClient::login(proxy.port, &APP).unwrap());
}

#[test]
fn connections_that_come_too_fast_are_turned_away() {
    let door = HttpDoor::new();
    let tables = one_cn() + "[limits]\naccepts_per_second = 4\n" + &door.toml("");
    let proxy = Proxy::start_on_one_worker(&tables);
    let clients: Vec<_> = (0..12).map(|_| RawClient::dial(proxy.port)).collect();
    let mut refused = 0;
    for mut client in clients {
        let packet = client.packet();
        if packet[0] == 0xff {
            refused += 1;
            assert_eq!(err_of(&packet).unwrap_err(), err(1040, "", "Too many connections"));
        }
    }
    assert!((1..=8).contains(&refused), "{refused}");
    let scraped = door.get("/metrics").body;
    let expected = format!("why=\"rate\"}} {refused}");
    assert!(scraped.lines().any(|line| line.ends_with(&expected)), "{scraped}");
    sleep(Duration::from_millis(1100));
    drop(RawClient::login(proxy.port, &APP).expect("later it gets in"));
}

/// Waits until every worker refuses a further session of `app`'s with this code.
fn wait_full(proxy: &Proxy, code: u16) {
    wait_until("there is no room at any worker", SOON, || {
        (0..8).all(|_| RawClient::login(proxy.port, &APP).is_err_and(|error| error.code == code))
    });
}

/// Waits until every worker lets `app` in.
fn wait_room(proxy: &Proxy) {
    wait_until("there is room at each worker", SOON, || {
        (0..8).all(|_| RawClient::login(proxy.port, &APP).is_ok())
    });
}

fn all_answer(clients: &mut [RawClient]) {
    clients.iter_mut().for_each(|client| assert_eq!(client.value("SELECT 6*7").unwrap(), "42"));
}

#[test]
fn a_reload_sets_lowers_and_lifts_the_limit_of_a_user() {
    let limits = |most: u32| format!("{}[limits]\nsessions_per_user = {most}\n", one_cn());
    let proxy = Proxy::start(&one_cn());
    let mut clients: Vec<_> = (0..3).map(|_| RawClient::login(proxy.port, &APP).unwrap()).collect();
    proxy.reload(&limits(2));
    wait_full(&proxy, 1226);
    let message = "User 'app' has exceeded the 'max_user_connections' resource (current value: 2)";
    assert_eq!(refused(&proxy, "app", "secret"), err(1226, "42000", message));
    all_answer(&mut clients);
    clients.pop();
    wait_until("one has left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 2);
    wait_full(&proxy, 1226);
    clients.pop();
    wait_until("there is room for one", SOON, || {
        clients.extend(RawClient::login(proxy.port, &APP));
        clients.len() == 2
    });
    wait_full(&proxy, 1226);
    proxy.reload(&limits(5));
    wait_room(&proxy);
    wait_until("they have left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 2);
    let (more, error) = fill(&proxy, "app");
    assert_eq!((more.len(), error.code), (3, 1226));
    proxy.reload(&one_cn());
    wait_room(&proxy);
    all_answer(&mut clients);
    assert!(!proxy.log().contains("needs a restart"), "{}", proxy.log());
}

#[test]
fn a_reload_lowers_and_raises_how_many_sessions_there_may_be() {
    let proxy = Proxy::start_with("max_sessions = 4", &one_cn());
    let reload = |most: u32| {
        let file = std::fs::read_to_string(proxy.config_file()).expect("read the configuration");
        let lines = file.lines().map(|line| match line.starts_with("max_sessions = ") {
            true => format!("max_sessions = {most}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(proxy.config_file(), lines.collect::<String>()).expect("write the configuration");
        proxy.signal("HUP");
    };
    let mut clients: Vec<_> = (0..3).map(|_| RawClient::login(proxy.port, &APP).unwrap()).collect();
    reload(2);
    wait_full(&proxy, 1040);
    all_answer(&mut clients);
    clients.pop();
    wait_until("one has left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 2);
    wait_full(&proxy, 1040);
    reload(4);
    wait_room(&proxy);
    wait_until("they have left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 2);
    assert_eq!(fill(&proxy, "app").0.len(), 2);
    reload(9);
    wait_until("it is said", SOON, || {
        let said = "[listen] max_sessions: 9 are more than the 4 of the start; this needs a restart";
        proxy.log().contains(said)
    });
    wait_until("they have left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 2);
    assert_eq!(fill(&proxy, "app").0.len(), 2, "that is as many as it can do");
    all_answer(&mut clients);
}

#[test]
fn a_reload_sets_and_lifts_the_limits_of_addresses_and_of_accepting() {
    let proxy = Proxy::start_on_one_worker(&one_cn());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    proxy.reload(&(one_cn() + "[limits]\nsessions_per_client = 1\n"));
    wait_full(&proxy, 1040);
    let told = err(1040, "", "Too many connections from '127.0.0.1': there may be 1");
    assert_eq!(turned_away(RawClient::dial(proxy.port)), told);
    assert_eq!(client.value("SELECT 6*7").unwrap(), "42");
    let refused = || {
        let clients: Vec<_> = (0..12).map(|_| RawClient::dial(proxy.port)).collect();
        clients.into_iter().map(|mut client| client.packet()[0]).filter(|first| *first == 0xff).count()
    };
    proxy.reload(&(one_cn() + "[limits]\naccepts_per_second = 4\n"));
    wait_until("it is said", SOON, || proxy.log().contains("accepts_per_second: unset is now 4"));
    wait_until("they come too fast", SOON, || (1..=8).contains(&refused()));
    proxy.reload(&one_cn());
    wait_until("it is said", SOON, || proxy.log().contains("accepts_per_second: 4 is now unset"));
    wait_until("they come as fast as they like", SOON, || refused() == 0);
}

#[test]
fn a_full_cn_is_passed_over() {
    let cns = cluster();
    let cn = |nth: usize, most| cn_toml(&cns[nth].name, &cns[nth].address(), "", 1) + most;
    let proxy = Proxy::start(&(cn(0, "max_sessions = 1\n") + &cn(1, "max_sessions = 2\n")));
    let (mut clients, error) = fill(&proxy, "app");
    assert_eq!((clients.len(), error), (3, err(1040, "08004", "Too many connections")));
    assert_eq!((proxy.seats("cn1"), proxy.seats("cn2")), (1, 2));
    drop(clients.pop());
    wait_until("there is a place again", SOON, || RawClient::login(proxy.port, &APP).is_ok());
    proxy.reload(&(cn(0, "max_sessions = 1\n") + &cn(1, "")));
    let mut more = Vec::new();
    wait_until("the limit is lifted", SOON, || {
        more.extend(RawClient::login(proxy.port, &APP));
        more.len() >= 4
    });
    assert!(proxy.seats("cn1") <= 1 && proxy.seats("cn2") >= 4, "{}", more.len());
}

#[test]
fn an_operator_sets_and_lifts_the_limit_of_a_cn() {
    let proxy = Proxy::start("");
    let shown = || number(&proxy.cn("cn1").expect("it was added")["max_sessions"]);
    proxy.ctl(&format!("ADD CN 'cn1' ADDRESS '{}' MAX_SESSIONS 2", cluster()[0].address()));
    proxy.wait_state("cn1", "working");
    assert_eq!(shown(), 2);
    let (clients, error) = fill(&proxy, "app");
    assert_eq!((clients.len(), error.code), (2, 1040));
    proxy.ctl("ALTER CN 'cn1' SET MAX_SESSIONS 3");
    let mut more = Vec::new();
    wait_until("there is room for one more", SOON, || {
        more.extend(RawClient::login(proxy.port, &APP));
        !more.is_empty()
    });
    assert_eq!((shown(), fill(&proxy, "app").0.len()), (3, 0));
    proxy.ctl("ALTER CN 'cn1' SET MAX_SESSIONS 0");
    wait_until("there is no limit", SOON, || {
        more.extend(RawClient::login(proxy.port, &APP));
        more.len() >= 4
    });
    assert_eq!(shown(), 0);
    let said = proxy.try_ctl("ALTER CN 'cn1' SET MAX_SESSIONS many").unwrap_err();
    assert!(said.contains("expected a number of sessions"), "{said}");
}

fn host_blocked(host: &str, faults: &str) -> ErrPacket {
    let way_out = "unblock with 'FLUSH HOSTS' at the proxy's admin door, or wait";
    err(1129, "", &format!("Host '{host}' is blocked because of many {faults}; {way_out}"))
}

#[test]
fn an_address_whose_logins_are_denied_is_shut_out_at_all_workers_until_it_is_flushed() {
    let door = HttpDoor::new();
    let rules = "[access]\nmax_failed_logins = 3\nblocked_s = 3600\n";
    let proxy = Proxy::start(&(one_cn() + KNOWN + rules + &door.toml("")));
    for _ in 0..2 {
        assert_eq!(refused(&proxy, "app", "wrong").code, 1045);
    }
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    assert_eq!(client.value("SELECT 6*7").unwrap(), "42", "which ends the row");
    // The second one is not known to corelane: its CN denies it.
    for user in ["app", "nobody", "app"] {
        assert_eq!(refused(&proxy, user, "wrong").code, 1045);
    }
    for _ in 0..8 {
        assert_eq!(turned_away(RawClient::dial(proxy.port)), host_blocked("127.0.0.1", "failed logins"));
    }
    assert_eq!(client.value("SELECT 6*7").unwrap(), "42", "who is in stays in");
    let hosts = proxy.ctl("SHOW HOSTS");
    assert_eq!((hosts.len(), hosts[0]["host"].as_str()), (1, Some("127.0.0.1")));
    assert_eq!(hosts[0]["blocked_for"], "failed logins");
    let scraped = door.scrape();
    assert_eq!(scraped.sum("corelane_hosts_blocked", &[]), 1.0);
    wait_until("each is counted", SOON, || {
        door.scrape().sum("corelane_sessions_refused_total", &[("why", "blocked")]) == 8.0
    });
    proxy.ctl("FLUSH HOSTS");
    assert!(proxy.ctl("SHOW HOSTS").is_empty());
    drop(RawClient::login(proxy.port, &APP).expect("it may come in again"));
    assert!(proxy.log().contains("127.0.0.1 is blocked for 3600s: too many failed logins"));
}

#[test]
fn an_address_that_breaks_its_handshakes_off_is_shut_out_for_a_time() {
    let proxy = Proxy::start(&(one_cn() + "[access]\nmax_connect_errors = 2\nblocked_s = 2\n"));
    let errors = || proxy.ctl("SHOW HOSTS").first().map_or(0, |host| number(&host["connect_errors"]));
    for password in ["wrong", "wrong", "wrong"] {
        assert_eq!(refused(&proxy, "app", password).code, 1045, "that is no broken handshake");
    }
    assert!(!RawClient::dial(proxy.port).packet().is_empty());
    wait_until("one has left", SOON, || errors() == 1);
    let mut client = RawClient::dial(proxy.port);
    client.packet();
    client.send(1, b"no login at all");
    assert_eq!(err_of(&client.packet()).unwrap_err().code, 1043);
    assert_eq!(turned_away(RawClient::dial(proxy.port)), host_blocked("127.0.0.1", "connection errors"));
    wait_until("the time has passed", SOON, || RawClient::login(proxy.port, &APP).is_ok());
    proxy.reload(&one_cn());
    wait_until("nothing is counted any more", SOON, || {
        proxy.log().contains("max_connect_errors: 2 is now unset")
    });
    assert!(proxy.ctl("SHOW HOSTS").is_empty());
}

#[test]
fn behind_a_load_balancer_its_clients_are_shut_out_and_never_itself() {
    let rules = "[proxy_protocol]\nfrom = [\"127.0.0.0/8\"]\n\
                 [access]\nmax_connect_errors = 1\nmax_failed_logins = 1\n";
    let proxy = Proxy::start(&(one_cn() + rules));
    let with = |header: &str| {
        let mut client = RawClient::dial(proxy.port);
        client.send_bytes(header.as_bytes()).expect("send a header");
        client
    };
    let from = |ip: &str| with(&format!("PROXY TCP4 {ip} 10.0.0.1 51234 6009\r\n"));
    drop(RawClient::dial(proxy.port));
    for _ in 0..3 {
        assert_eq!(
            with("PROXY UNKNOWN\r\n").packet()[0],
            10,
            "a greeting, of which a health check has enough"
        );
    }
    let wrong = LoginAs { password: "wrong", ..APP };
    assert_eq!(from("203.0.113.7").log_in(&wrong).unwrap_err().code, 1045);
    assert_eq!(turned_away(from("203.0.113.7")), host_blocked("203.0.113.7", "failed logins"));
    from("203.0.113.8").log_in(&APP).expect("another client");
    with("PROXY UNKNOWN\r\n").log_in(&APP).expect("the load balancer itself");
    assert_eq!(proxy.ctl("SHOW HOSTS").len(), 1);
}
