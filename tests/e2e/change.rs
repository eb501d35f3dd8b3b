//! COM_CHANGE_USER to a user whom corelane knows, and what it is then: as whom the session counts, moves and kills.
//!
//! Both CNs of most tests are the same server under two names, so their data agree. The clients are as libmariadb: they heed no salt but
//! the one that they were shown last when they logged in.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Com, ErrPacket, LoginAs, Mariadb, Proxy, RawClient, cluster, cn_toml, connect, err_of, frames,
    native_scramble, number, short_text, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };
const OTHER: LoginAs = LoginAs { user: "sbtest", password: "sbtest", database: "sbtest" };
const KNOWN: &str = "[balance]\nenabled = false\n[[user]]\nname = \"app\"\npassword = \"secret\"\n";
const OTHER_KNOWN: &str = "[[user]]\nname = \"sbtest\"\npassword = \"sbtest\"\n";
const NATIVE: &str = "mysql_native_password";
const SOON: Duration = Duration::from_secs(20);

/// utf8mb4_general_ci, latin1_swedish_ci, and utf8mb4_uca1400_ai_ci, which no login can ask for: it has one byte.
const UTF8MB4: u16 = 45;
const LATIN1: u16 = 8;
const UCA1400: u16 = 2304;

/// Who it is, where, and by which character set and collation.
const SELF: &str =
    "SELECT CONCAT_WS(' ', CURRENT_USER(), DATABASE(), @@character_set_client, @@collation_connection)";

/// One server, twice.
fn twins_of(server: &Mariadb) -> String {
    let twin = |id| cn_toml(id, &server.address(), "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    twin("cn1") + &twin("cn2")
}

fn twins() -> String {
    twins_of(&cluster()[0])
}

fn row(proxy: &Proxy, session: u32) -> serde_json::Value {
    let rows = proxy.ctl("SHOW SESSIONS");
    rows.into_iter().find(|row| number(&row["id"]) == u64::from(session)).expect("the session is listed")
}

/// Moves a session to the CN where it is not.
fn move_on(proxy: &Proxy, session: u32) -> Result<(), String> {
    let there = if row(proxy, session)["cn"] == "cn1" { "cn2" } else { "cn1" };
    proxy.try_ctl(&format!("MOVE SESSION {session} TO CN '{there}'"))?;
    assert_eq!(row(proxy, session)["cn"], there);
    Ok(())
}

/// Reads to the end of a session; the number of the last packet, and its ERR.
fn farewell(client: &mut RawClient) -> (u8, ErrPacket) {
    let packets = client.packets_to_end();
    let last = packets.last().expect("it is told why");
    (client.sequence, err_of(last).expect_err("an ERR"))
}

fn denied(user: &str, password: &str) -> ErrPacket {
    let message = format!("Access denied for user '{user}'@'127.0.0.1' (using password: {password})");
    ErrPacket { code: 1045, state: "28000".into(), message }
}

fn one_too_many(user: &str, limit: u32) -> ErrPacket {
    let message =
        format!("User '{user}' has exceeded the 'max_user_connections' resource (current value: {limit})");
    ErrPacket { code: 1226, state: "42000".into(), message }
}

/// A client that becomes another user at once.
fn changed(client: &mut RawClient, who: &LoginAs, collation: u16) {
    let ok = client.change_user(who, collation, NATIVE);
    assert_eq!((ok[0], client.sequence), (0, 1), "{ok:?}");
}

/// Becomes another user, and answers if it is asked, which a server does and corelane need not; the last that is said to it.
fn change(client: &mut RawClient, who: &LoginAs, collation: u16) -> Vec<u8> {
    let answer = client.change_user(who, collation, NATIVE);
    if answer[0] != 0xfe {
        return answer;
    }
    client.answer_switch(&answer, who.password);
    client.packet()
}

#[test]
fn a_session_is_as_it_would_be_directly() {
    let proxy = Proxy::start(&(twins() + KNOWN + OTHER_KNOWN));
    for collation in [UTF8MB4, LATIN1, UCA1400] {
        let [direct, through] = [cluster()[0].port, proxy.port].map(|port| {
            let mut client = RawClient::login(port, &APP).unwrap();
            let statement = client.prepare("SELECT 1").unwrap();
            client.command(Com::QUERY, b"SET @kept = 1, sql_mode = 'ANSI_QUOTES'");
            client.packet();
            let mut answers = vec![change(&mut client, &OTHER, collation)];
            client.command(Com::STMT_EXECUTE, &[&statement.to_le_bytes()[..], b"\0\x01\0\0\0"].concat());
            answers.push(client.packet());
            for text in [SELF, "SELECT CONCAT(@kept IS NULL, @@sql_mode)"] {
                answers.push(client.value(text).unwrap().into_bytes());
            }
            let nowhere = LoginAs { database: "", ..APP };
            answers.push(change(&mut client, &nowhere, UTF8MB4));
            answers.push(client.value(SELF).unwrap().into_bytes());
            answers
        });
        assert_eq!(through, direct);
        assert_eq!(err_of(&through[1]).unwrap_err().code, 1243, "the statement is gone");
        assert!(through[2].starts_with(b"sbtest@% sbtest "), "{through:?}");
    }
}

#[test]
fn a_session_moves_as_the_user_that_it_became() {
    for (collation, compression) in [(UTF8MB4, ""), (LATIN1, "cns = \"zlib\"\n"), (UCA1400, "")] {
        let compression = format!("[compression]\n{compression}");
        let proxy = Proxy::start(&(twins() + KNOWN + OTHER_KNOWN + &compression));
        let mut client = RawClient::login(proxy.port, &APP).unwrap();
        let id = client.session;
        client.command(Com::QUERY, b"SET @left = 1");
        client.packet();
        changed(&mut client, &OTHER, collation);
        let shown = row(&proxy, id);
        assert_eq!((&shown["user"], &shown["login"]), (&"sbtest".into(), &"known".into()));
        assert_eq!(shown["hold"], serde_json::Value::Null, "{shown}");
        let begun = client.value(SELF).unwrap();
        client.command(Com::QUERY, b"SET @taken = 7");
        client.packet();
        let statement = client.prepare("SELECT @taken").unwrap();
        for _ in 0..3 {
            move_on(&proxy, id).expect("nothing holds it");
            assert_eq!(client.value(SELF).unwrap(), begun);
            assert_eq!(client.value("SELECT CONCAT(@taken, @left IS NULL)").unwrap(), "71");
            client.command(Com::STMT_EXECUTE, &[&statement.to_le_bytes()[..], b"\0\x01\0\0\0"].concat());
            assert_eq!(client.rows().unwrap().len(), 1);
        }
        // Back again, and by a reset, at the CN where it is now.
        changed(&mut client, &APP, UTF8MB4);
        move_on(&proxy, id).expect("nothing holds it");
        assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "app@%");
        changed(&mut client, &OTHER, collation);
        client.command(Com::RESET_CONNECTION, b"");
        assert_eq!(client.packet()[0], 0);
        let reset = client.value(SELF).unwrap();
        move_on(&proxy, id).expect("nothing holds it");
        assert_eq!(client.value(SELF).unwrap(), reset);
    }
}

#[test]
fn what_a_cn_does_at_a_login_alone_is_not_done_for_a_session_that_moves() {
    let server = Mariadb::start_with("change-init", &["--init-connect=SET SESSION wait_timeout = 777"]);
    let mut house = connect(server.port, "root", "");
    house.query_drop("CREATE USER plain IDENTIFIED BY 'secret'").unwrap();
    house.query_drop("GRANT SELECT ON test.* TO plain").unwrap();
    let plain = "[[user]]\nname = \"plain\"\npassword = \"secret\"\n";
    let proxy = Proxy::start(&(twins_of(&server) + KNOWN + plain));
    let who = LoginAs { user: "plain", ..APP };
    let mut client = RawClient::login(proxy.port, &who).unwrap();
    assert_eq!(client.value("SELECT @@wait_timeout").unwrap(), "777");
    changed(&mut client, &who, UTF8MB4);
    for _ in 0..2 {
        assert_eq!(client.value("SELECT @@wait_timeout").unwrap(), "28800");
        move_on(&proxy, client.session).expect("nothing holds it");
    }
}

#[test]
fn a_wrong_password_is_denied_once_and_ends_the_session() {
    let proxy = Proxy::start(&(twins() + KNOWN + OTHER_KNOWN));
    for (password, said) in [("wrong", "YES"), ("", "NO")] {
        let mut client = RawClient::login(proxy.port, &APP).unwrap();
        let asked = client.change_user(&LoginAs { password, ..OTHER }, UTF8MB4, NATIVE);
        assert_eq!((asked[0], client.sequence), (0xfe, 1), "as everybody is asked whose answer is wrong");
        client.answer(password);
        assert_eq!(farewell(&mut client), (3, denied("sbtest", said)));
    }
    // By another plugin's name it is asked, too, and may heed no salt then.
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let asked = client.change_user(&OTHER, UTF8MB4, "dialog");
    assert_eq!((asked[0], client.sequence), (0xfe, 1));
    client.answer("sbtest");
    assert_eq!((client.packet()[0], client.sequence), (0, 3));
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "sbtest@%");
    let log = proxy.log();
    assert!(log.contains("a change of its user is refused: Access denied for user 'sbtest'"), "{log}");
}

#[test]
fn a_command_in_pieces_or_with_others_behind_it_is_the_same() {
    let proxy = Proxy::start(&(twins() + KNOWN + OTHER_KNOWN));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let scramble = native_scramble(OTHER.password, &client.salt);
    let change = [b"\x11sbtest\0\x14", &scramble[..], b"sbtest\0\x2d\0mysql_native_password\0"].concat();
    let bytes = [frames(0, &change), frames(0, b"\x03SELECT CURRENT_USER()")].concat();
    for piece in bytes.chunks(12) {
        client.send_bytes(piece).unwrap();
        sleep(Duration::from_millis(20));
    }
    assert_eq!((client.packet()[0], client.sequence), (0, 1));
    assert_eq!(short_text(&client.rows().unwrap()[0]), "sbtest@%");
    // Sent at once; and what comes in the place of an answer that is asked for is none.
    let change = [&bytes[..], &frames(0, b"\x03SELECT 2")].concat();
    client.send_bytes(&change).unwrap();
    assert_eq!((client.packet()[0], client.sequence), (0, 1));
    assert_eq!(short_text(&client.rows().unwrap()[0]), "sbtest@%");
    assert_eq!(short_text(&client.rows().unwrap()[0]), "2");
    let wrong = b"\x11sbtest\0\0sbtest\0\x2d\0mysql_native_password\0";
    client.send_bytes(&[frames(0, wrong), frames(0, b"\x03SELECT 3")].concat()).unwrap();
    assert_eq!(client.packet()[0], 0xfe);
    assert_eq!(farewell(&mut client).1.code, 1043, "it came out of order");
}

#[test]
fn what_the_cn_says_of_a_known_user_is_passed_on() {
    let nobody = "[[user]]\nname = \"nobody\"\npassword = \"secret\"\n";
    let stale = "[[user]]\nname = \"sbtest\"\npassword = \"of before\"\n";
    let proxy = Proxy::start(&(twins() + KNOWN + nobody + stale));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let nobody = LoginAs { user: "nobody", ..APP };
    let err = client.change_user(&nobody, UTF8MB4, NATIVE);
    assert_eq!((err_of(&err).unwrap_err().code, client.sequence), (1045, 1));
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "app@%", "MariaDB goes on");
    let shown = row(&proxy, client.session);
    assert_eq!((&shown["user"], &shown["hold"]), (&"app".into(), &"changed_user".into()));
    changed(&mut client, &APP, UTF8MB4);
    move_on(&proxy, client.session).expect("nothing holds it");
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "app@%");
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let err = client.change_user(&LoginAs { password: "of before", ..OTHER }, UTF8MB4, NATIVE);
    assert_eq!(err_of(&err).unwrap_err().code, 1045);
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let err = client.change_user(&LoginAs { database: "no_such", ..APP }, UTF8MB4, NATIVE);
    assert_eq!(err_of(&err).unwrap_err().code, 1049);
}

#[test]
fn a_hash_of_the_configuration_is_enough() {
    let hash = "[[user]]\nname = \"sbtest\"\nnative_hash = \"*2AFD99E79E4AA23DE141540F4179F64FFB3AC521\"\n";
    let proxy = Proxy::start(&(twins() + KNOWN + hash));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    changed(&mut client, &OTHER, UTF8MB4);
    move_on(&proxy, client.session).expect("nothing holds it");
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "sbtest@%");
}

/// A server of its own with the account by which corelane reads its users.
fn read_server() -> (Mariadb, String) {
    let server = Mariadb::start("change-read");
    let mut root = connect(server.port, "root", "");
    for statement in [
        "CREATE OR REPLACE USER monitor@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('watch')",
        "GRANT SELECT (User, plugin, authentication_string) ON mysql.user TO monitor@'%'",
    ] {
        root.query_drop(statement).unwrap();
    }
    let auth = "[auth]\nquery_user = \"monitor\"\nquery_password = \"watch\"\nquery_interval_ms = 300\n";
    let tables = twins_of(&server) + auth;
    (server, tables)
}

#[test]
fn a_hash_of_the_cns_tables_recognises_the_user() {
    let (server, tables) = read_server();
    let mut root = connect(server.port, "root", "");
    let proxy = Proxy::start(&(tables + KNOWN));
    for who in [&OTHER, &APP] {
        // From the known user, by corelane's salt; and from one of the tables, by the CN's.
        let first = if who.user == "app" { &OTHER } else { &APP };
        let mut client = RawClient::login(proxy.port, first).unwrap();
        changed(&mut client, who, UTF8MB4);
        move_on(&proxy, client.session).expect("nothing holds it");
        changed(&mut client, first, UTF8MB4);
        move_on(&proxy, client.session).expect("nothing holds it");
        assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), format!("{}@%", first.user));
        let err = change(&mut client, &LoginAs { password: "wrong", ..OTHER }, UTF8MB4);
        assert_eq!(err_of(&err).unwrap_err(), denied("sbtest", "YES"));
    }
    // It is the CN that judges, and what it says of a password of an account for another host is what it says of any wrong one.
    root.query_drop("CREATE USER web@'10.9.9.9' IDENTIFIED BY 'far'").unwrap();
    root.query_drop("CREATE USER web@'%' IDENTIFIED BY 'near'").unwrap();
    sleep(Duration::from_secs(1));
    let web = |password| LoginAs { user: "web", password, database: "" };
    let told = |password, changed_before| {
        let mut client = RawClient::login(proxy.port, &APP).unwrap();
        if changed_before {
            changed(&mut client, &APP, UTF8MB4);
        }
        let answer = change(&mut client, &web(password), UTF8MB4);
        (err_of(&answer).err(), client.sequence)
    };
    for changed_before in [false, true] {
        assert_eq!(told("near", changed_before), (None, 1));
        let far = told("far", changed_before);
        assert_eq!(far.0.as_ref().map(|err| err.code), Some(1045), "{changed_before}");
        assert_eq!(far, told("wrong", changed_before), "{changed_before}");
    }
    // Here the account of the client's host is of another plugin, by which the client is asked.
    root.query_drop("ALTER USER web@'%' IDENTIFIED VIA ed25519 USING PASSWORD('far')").unwrap();
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let asked = client.change_user(&web("far"), UTF8MB4, NATIVE);
    assert!(asked.starts_with(b"\xfeclient_ed25519\0"), "{asked:?}");
    client.send(client.sequence + 1, &[0; 64]);
    assert_eq!((err_of(&client.packet()).unwrap_err(), client.sequence), (denied("web", "YES"), 3));
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "app@%", "it is relayed, and MariaDB goes on");
    assert_eq!(row(&proxy, client.session)["user"], "app");
}

#[test]
fn a_leg_that_was_opened_for_another_user_is_not_taken() {
    let proxy = Proxy::start(&(twins() + KNOWN + OTHER_KNOWN));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let id = client.session;
    client.command(Com::QUERY, b"BEGIN");
    client.packet();
    let there = if row(&proxy, id)["cn"] == "cn1" { "cn2" } else { "cn1" };
    let order = format!("MOVE SESSION {id} TO CN '{there}'");
    thread::scope(|scope| {
        let moved = scope.spawn(|| proxy.try_ctl(&order));
        wait_until("a leg is open", SOON, || proxy.seats(there) == 1);
        // And offered.
        sleep(Duration::from_millis(300));
        changed(&mut client, &OTHER, UTF8MB4);
        let until = Instant::now() + SOON;
        while !moved.is_finished() && Instant::now() < until {
            assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "sbtest@%");
        }
        moved.join().expect("a move").expect("it goes by a leg of its own");
    });
    assert_eq!(row(&proxy, id)["cn"], there);
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "sbtest@%");
}

#[test]
fn a_user_whom_corelane_does_not_know_is_the_cns_to_judge() {
    let proxy = Proxy::start(&(twins() + KNOWN));
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let id = client.session;
    let mut asked = client.change_user(&OTHER, UTF8MB4, "unheard_of");
    client.answer_switch(&asked, "sbtest");
    assert_eq!(client.packet()[0], 0);
    let shown = row(&proxy, id);
    assert_eq!((&shown["user"], &shown["login"]), (&"sbtest".into(), &"relay".into()));
    assert_eq!(shown["hold"], "changed_user");
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "sbtest@%");
    // And back to the one whom it knows, though it answers to the CN's salt now.
    asked = client.change_user(&APP, UTF8MB4, NATIVE);
    client.answer_switch(&asked, "secret");
    assert_eq!(client.packet()[0], 0);
    move_on(&proxy, id).expect("nothing holds it");
    assert_eq!(client.value("SELECT CURRENT_USER()").unwrap(), "app@%");
}

/// Logs in until somebody is refused, over all workers.
fn fill(proxy: &Proxy, who: &LoginAs) -> Vec<RawClient> {
    let mut clients = Vec::new();
    while let Ok(client) = RawClient::login(proxy.port, who) {
        clients.push(client);
    }
    clients
}

#[test]
fn a_session_counts_as_the_user_that_it_became() {
    for known in ["", OTHER_KNOWN] {
        let proxy = Proxy::start(&(twins() + KNOWN + known + "[limits]\nsessions_per_user = 3\n"));
        let mut apps = fill(&proxy, &APP);
        assert_eq!(apps.len(), 3);
        let change = |client: &mut RawClient, who: &LoginAs| {
            let mut answer = client.change_user(who, UTF8MB4, "unheard_of");
            if answer[0] == 0xfe {
                client.answer_switch(&answer, who.password);
                answer = client.packet();
            }
            err_of(&answer)
        };
        change(&mut apps[0], &APP).expect("to itself it may change, full or not");
        let mut others = fill(&proxy, &OTHER);
        assert_eq!(others.len(), 3);
        assert_eq!(change(&mut apps[0], &OTHER), Err(one_too_many("sbtest", 3)), "{known}");
        assert_eq!(apps[0].sequence, 1);
        assert_eq!(apps[0].packets_to_end(), Vec::<Vec<u8>>::new(), "it has ended");
        apps.remove(0);
        wait_until("there is room for an app again", SOON, || {
            apps.extend(RawClient::login(proxy.port, &APP));
            apps.len() == 3
        });
        drop(apps.pop());
        wait_until("one has left", SOON, || proxy.ctl("SHOW SESSIONS").len() == 5);
        change(&mut others[0], &APP).expect("there is room for one");
        assert!(fill(&proxy, &APP).is_empty(), "it counts as that");
        assert_eq!(fill(&proxy, &OTHER).len(), 1, "and no more as the other");
        drop(others.remove(0));
        wait_until("its place is given back", SOON, || RawClient::login(proxy.port, &APP).is_ok());
    }
}

#[test]
fn who_comes_too_late_to_be_one_of_so_many_ends() {
    let proxy = Proxy::start(&(twins() + KNOWN + "[limits]\nsessions_per_user = 2\n"));
    let _one = RawClient::login(proxy.port, &OTHER).unwrap();
    let mut clients = fill(&proxy, &APP);
    assert_eq!(clients.len(), 2);
    // While the CN asks, they count as who they are: nobody keeps others out whose password it does not know.
    let asked: Vec<_> =
        clients.iter_mut().map(|client| client.change_user(&OTHER, UTF8MB4, "unheard_of")).collect();
    assert!(RawClient::login(proxy.port, &APP).is_err());
    let mut outcomes = Vec::new();
    for (client, asked) in clients.iter_mut().zip(&asked) {
        client.answer_switch(asked, "sbtest");
        assert_eq!(client.packet()[0], 0, "the CN lets it in");
        client.command(Com::QUERY, b"SELECT 1");
        let answer = client.packet();
        outcomes.push(err_of(&answer).err());
    }
    assert_eq!(outcomes[0], None);
    assert_eq!(outcomes[1], Some(one_too_many("sbtest", 2)));
}
