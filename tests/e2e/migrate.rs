//! Sessions that move to another CN: what they take along, what holds them, and what happens when a CN dies.
//!
//! Both CNs of these tests are the same server under two names, so their data agree.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{
    Can, Com, Extended, LoginAs, Mariadb, Proxy, RawClient, cluster, cn_toml, connect, driver_error, err_of,
    frames, number, short_text, wait_until,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "" };
const USER: &str = "[balance]\nenabled = false\n[[user]]\nname = \"app\"\npassword = \"secret\"\n";

/// One server, twice.
fn twins() -> String {
    let address = cluster()[0].address();
    let twin = |id| cn_toml(id, &address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    USER.to_owned() + &twin("cn1") + &twin("cn2")
}

/// Moves a session to the CN where it is not; the new one, or why it stays.
fn move_on(proxy: &Proxy, session: u32) -> Result<String, String> {
    let here = row(proxy, session)["cn"].as_str().expect("a CN").to_owned();
    let there = if here == "cn1" { "cn2" } else { "cn1" };
    proxy.try_ctl(&format!("MOVE SESSION {session} TO CN '{there}'"))?;
    assert_eq!(row(proxy, session)["cn"], there);
    Ok(there.to_owned())
}

fn row(proxy: &Proxy, session: u32) -> serde_json::Value {
    let rows = proxy.ctl("SHOW SESSIONS");
    rows.into_iter().find(|row| number(&row["id"]) == u64::from(session)).expect("the session is listed")
}

#[test]
fn a_session_takes_its_state_along() {
    let proxy = Proxy::start(&twins());
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    let cn_id = |client: &mut mysql::Conn| -> u64 {
        client
            .query_first("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%PROCESSLIST%'")
            .unwrap()
            .unwrap()
    };
    let first = cn_id(&mut client);
    client.query_drop("CREATE DATABASE IF NOT EXISTS travel").unwrap();
    client.query_drop("USE travel").unwrap();
    client.query_drop("SET sql_mode = 'ANSI_QUOTES'").unwrap();
    client.query_drop("SET @@wait_timeout = 777").unwrap();
    client
        .query_drop("SET time_zone = '+03:00', @x = 'grüße', @n = 18446744073709551615, @d = 1.50")
        .unwrap();
    client.query_drop("SET NAMES latin1").unwrap();
    let statement = client.prep("SELECT ? + 1, DATABASE(), @@sql_mode").unwrap();
    for moves in 1..=4 {
        move_on(&proxy, id).expect("nothing holds it");
        let seen: (String, String, u32, String, String) = client
            .query_first("SELECT DATABASE(), @@sql_mode, @@wait_timeout, @@time_zone, @@character_set_client")
            .unwrap()
            .unwrap();
        assert_eq!(seen, ("travel".into(), "ANSI_QUOTES".into(), 777, "+03:00".into(), "latin1".into()));
        let variables: (String, u64, String) = client.query_first("SELECT HEX(@x), @n, @d").unwrap().unwrap();
        assert_eq!(variables, ("6772C3BCC39F65".into(), u64::MAX, "1.50".into()));
        let row: (i64, String, String) = client.exec_first(&statement, (41,)).unwrap().unwrap();
        assert_eq!(row, (42, "travel".into(), "ANSI_QUOTES".into()));
        let later = client.prep("SELECT ? * 2").unwrap();
        assert_ne!(later.id(), statement.id());
        assert_eq!(client.exec_first::<i64, _, _>(&later, (21,)).unwrap(), Some(42));
        assert_eq!(number(&row_of_moves(&proxy, id)), moves);
    }
    assert_ne!(cn_id(&mut client), first, "it is another session of the server");
    assert_eq!(client.connection_id(), id);
}

/// A raw client of a table `travel.<name> (a INT)` of its own, with MariaDB's extended capabilities.
fn raw(proxy: &Proxy, table: &str, extended: u32) -> RawClient {
    let mut house = connect(proxy.port, "app", "secret");
    house.query_drop("CREATE DATABASE IF NOT EXISTS travel").unwrap();
    house.query_drop(format!("CREATE OR REPLACE TABLE travel.{table} (a INT)")).unwrap();
    let mut client = RawClient::dial(proxy.port);
    client.extended = extended;
    client.capabilities |= Can::LOCAL_FILES;
    client.log_in(&APP).unwrap();
    client
}

#[test]
fn array_executions_are_told_their_types_at_each_cn() {
    let proxy = Proxy::start(&twins());
    let mut client = raw(&proxy, "arrays", Extended::STMT_BULK_OPERATIONS);
    let id = client.prepare("INSERT INTO travel.arrays VALUES (?)").unwrap();
    let bulk = |flags: u16, types: &[u8]| {
        let rows = b"\0\x01\0\0\0\0\x02\0\0\0\x01";
        [&id.to_le_bytes()[..], &flags.to_le_bytes(), types, rows].concat()
    };
    client.command(Com::STMT_BULK_EXECUTE, &bulk(128, &[3, 0]));
    assert_eq!(client.packet()[..2], [0, 3]);
    for moves in 1..=3 {
        move_on(&proxy, client.session).expect("nothing holds it");
        for _ in 0..2 {
            client.command(Com::STMT_BULK_EXECUTE, &bulk(0, &[]));
            assert_eq!(client.packet()[..2], [0, 3], "after {moves} moves");
        }
    }
    assert_eq!(client.value("SELECT CONCAT(COUNT(*), '/', SUM(a)) FROM travel.arrays").unwrap(), "21/21");
}

#[test]
fn executions_of_any_length_are_told_their_types() {
    const LETTERS: &[u8] = b"abcdefghijk";
    let proxy = Proxy::start(&twins());
    let mut client = raw(&proxy, "long", 0);
    let id = client.prepare("SELECT ? = REPEAT('abcdefghijk', ?)").unwrap();
    let equal = |client: &mut RawClient, types: &[u8], repeats: u32| {
        let text = LETTERS.repeat(repeats as usize);
        let length = [&[0xfe], &(text.len() as u64).to_le_bytes()[..]].concat();
        let head = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0, u8::from(!types.is_empty())], types].concat();
        client.command(Com::STMT_EXECUTE, &[head, length, text, repeats.to_le_bytes().to_vec()].concat());
        let frames = client.rows().unwrap();
        assert_eq!((frames.len(), frames[0][2]), (1, 1), "{repeats} repeats");
    };
    equal(&mut client, &[0xfd, 0, 3, 0], 1);
    for repeats in [1, 1_525_000, 1_600_000, 3_000_000, 5_000_000] {
        move_on(&proxy, client.session).expect("nothing holds it");
        equal(&mut client, &[], repeats);
        equal(&mut client, &[], 2);
    }
}

/// A client with the statements 1 to 3, of which it has closed the first, on a CN where the others are 1 and 2.
fn with_statements(proxy: &Proxy) -> RawClient {
    let mut client = raw(proxy, "mapped", 0);
    let ids = [1, 2, 3].map(|number| client.prepare(&format!("SELECT {number}")).unwrap());
    assert_eq!(ids, [1, 2, 3]);
    client.command(Com::STMT_CLOSE, &1u32.to_le_bytes());
    move_on(proxy, client.session).expect("nothing holds it");
    client
}

#[test]
fn a_refused_stream_leaves_statements_as_they_are() {
    let proxy = Proxy::start(&twins());
    let mut client = with_statements(&proxy);
    const TABLE_DUMP: u8 = 0x13;
    client.command(TABLE_DUMP, b"\x04test\x01t");
    assert_eq!(err_of(&client.packet()).unwrap_err().code, 1047);
    for id in [2u32, 3] {
        client.command(Com::STMT_EXECUTE, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat());
        assert_eq!(client.rows().unwrap()[0][2], id as u8);
    }
    move_on(&proxy, client.session).expect("nothing holds it");
}

#[test]
fn a_moved_session_that_cannot_be_followed_ends() {
    let proxy = Proxy::start(&twins());
    let mut client = with_statements(&proxy);
    // Sent on behind a request for a local file: nobody can tell whether it is a command or the file.
    let load = b"\x03LOAD DATA LOCAL INFILE 'f' INTO TABLE travel.mapped";
    let execute = frames(0, b"\x17\x02\0\0\0\0\x01\0\0\0");
    client.send_bytes(&[frames(0, load), execute.clone()].concat()).unwrap();
    assert_eq!(client.packet()[0], 0xfb);
    client.send_bytes(&execute).unwrap();
    // The CN may complain of the first one, and that is all.
    assert!(client.packets_to_end().iter().all(|packet| packet[0] == 0xff));
}

/// A client that keeps definitions misreads rows if it is not sent those that have changed.
#[test]
fn a_result_whose_definitions_the_client_has_not_seen_is_described() {
    let proxy = Proxy::start(&twins());
    let mut client = raw(&proxy, "described", Extended::CACHE_METADATA);
    let mut house = connect(proxy.port, "app", "secret");
    house.query_drop("INSERT INTO travel.described VALUES (7)").unwrap();
    let id = client.prepare("SELECT a FROM travel.described").unwrap();
    let mut seen = Vec::new();
    for change in ["", "MODIFY a BIGINT", "MODIFY a SMALLINT", "ADD COLUMN b INT", "MODIFY a CHAR(3)"] {
        if !change.is_empty() {
            house.query_drop(format!("ALTER TABLE travel.described {change}")).unwrap();
            move_on(&proxy, client.session).expect("nothing holds it");
        }
        client.command(Com::STMT_EXECUTE, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat());
        let head = client.packet();
        seen.extend((head == [1, 1]).then(|| client.packet()));
        client.packet();
        let row = client.rows_to_eof().unwrap().remove(0);
        assert_eq!(head, [1, u8::from(!change.is_empty())], "{change}");
        assert_eq!(row.len() - 2, [4, 8, 2, 2, 2][seen.len()], "{change}: {row:?}");
    }
    let types: Vec<u8> = seen.iter().map(|definition| definition[definition.len() - 6]).collect();
    assert_eq!(types, [0x08, 0x02, 0x02, 0xfe]);
}

/// What a failure leaves open depends on whether autocommit is on, and a burst of preparations does not tell.
#[test]
fn a_session_of_statements_alone_keeps_its_autocommit() {
    let proxy = Proxy::start(&twins());
    let mut client = raw(&proxy, "nothing", 0);
    client.prepare("SELECT ?").unwrap();
    move_on(&proxy, client.session).expect("nothing holds it");
    client.value("SELEKT").expect_err("no statement");
    assert_eq!(row(&proxy, client.session)["hold"], serde_json::Value::Null);
    move_on(&proxy, client.session).expect("nothing holds it");
}

fn row_of_moves(proxy: &Proxy, id: u32) -> serde_json::Value {
    row(proxy, id)["moves"].clone()
}

#[test]
fn what_cannot_be_carried_over_holds() {
    let proxy = Proxy::start(
        &(format!("[migration]\npatience_ms = 300\nidle_ms = 100\nback_off_ms = 10\n{}", twins())),
    );
    let cases = [
        ("BEGIN", "COMMIT", "transaction"),
        (
            "CREATE TEMPORARY TABLE test.tmp_hold (a INT)",
            "DROP TEMPORARY TABLE test.tmp_hold",
            "temporary_table",
        ),
        ("SELECT GET_LOCK('hold', 1)", "SELECT RELEASE_LOCK('hold')", "user_lock"),
        ("LOCK TABLES mysql.help_topic READ", "UNLOCK TABLES", "lock_tables"),
        ("HANDLER mysql.help_topic OPEN AS h", "HANDLER h CLOSE", "handler"),
    ];
    for (begin, end, hold) in cases {
        let mut client = connect(proxy.port, "app", "secret");
        let id = client.connection_id();
        client.query_drop("CREATE DATABASE IF NOT EXISTS test").unwrap();
        client.query_drop(begin).unwrap();
        assert_eq!(row(&proxy, id)["hold"], hold, "{begin}");
        move_on(&proxy, id).expect_err(begin);
        client.query_drop(end).unwrap();
        wait_until("the hold has ended", Duration::from_secs(5), || row(&proxy, id)["hold"].is_null());
        wait_until("it moves", Duration::from_secs(5), || {
            move_on(&proxy, id).inspect_err(|why| eprintln!("{begin}: {why}")).is_ok()
        });
    }
}

#[test]
fn the_answer_that_asks_about_the_last_statement_is_right() {
    let proxy = Proxy::start(&twins());
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    client.query_drop("CREATE DATABASE IF NOT EXISTS travel").unwrap();
    client.query_drop("CREATE OR REPLACE TABLE travel.counted (a INT)").unwrap();
    for _ in 0..5 {
        client.query_drop("INSERT INTO travel.counted VALUES (1), (2), (3)").unwrap();
        let here = row(&proxy, id)["cn"].as_str().expect("a CN").to_owned();
        let there = if here == "cn1" { "cn2" } else { "cn1" };
        std::thread::scope(|scope| {
            let order = scope.spawn(|| proxy.try_ctl(&format!("MOVE SESSION {id} TO CN '{there}'")));
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(client.query_first::<i64, _>("SELECT ROW_COUNT()").unwrap(), Some(3));
            order.join().unwrap().expect("it moves");
        });
        assert_eq!(client.query_first::<u32, _>("SELECT 7").unwrap(), Some(7));
    }
}

#[test]
fn only_known_users_of_a_data_set_move() {
    let address = cluster()[0].address();
    let bare = |id| cn_toml(id, &address, "", 1);
    let proxy = Proxy::start(&(USER.to_owned() + &bare("cn1") + &bare("cn2")));
    let client = connect(proxy.port, "app", "secret");
    assert_eq!(row(&proxy, client.connection_id())["hold"], "no_data_set");
    move_on(&proxy, client.connection_id()).expect_err("no data set");
    let relayed = twins().replace("\"app\"", "\"somebody\"");
    let proxy = Proxy::start(&relayed);
    let client = connect(proxy.port, "app", "secret");
    assert_eq!(row(&proxy, client.connection_id())["hold"], "relay_login");
    let why = move_on(&proxy, client.connection_id()).expect_err("a relayed login");
    assert!(why.contains("not known"), "{why}");
    let holds = proxy.ctl("SHOW HOLDS");
    assert!(
        holds.iter().any(|row| row["hold"] == "relay_login" && number(&row["sessions"]) == 1),
        "{holds:?}"
    );
}

#[test]
fn a_draining_cn_is_emptied_and_comes_back() {
    let proxy = Proxy::start(&twins());
    let mut clients: Vec<_> = (0..20).map(|_| connect(proxy.port, "app", "secret")).collect();
    assert_eq!(proxy.seats("cn1") + proxy.seats("cn2"), 20);
    for cn in ["cn1", "cn2", "cn1"] {
        proxy.ctl(&format!("DRAIN CN '{cn}'"));
        wait_until("it is drained", Duration::from_secs(10), || {
            proxy.seats(cn) == 0 && proxy.cn(cn).expect("listed")["state"] == "drained"
        });
        for client in &mut clients {
            assert_eq!(client.query_first::<u32, _>("SELECT 1").unwrap(), Some(1));
        }
        connect(proxy.port, "app", "secret");
        proxy.ctl(&format!("RESUME CN '{cn}'"));
        proxy.wait_state(cn, "working");
    }
}

#[test]
fn a_client_without_session_tracking_is_not_shown_any() {
    let proxy = Proxy::start(&twins());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    for (sql, ok) in [
        ("SET @@session.wait_timeout = 100", &[0, 0, 0, 2, 0, 0, 0][..]),
        ("SET @a = 1", &[0, 0, 0, 2, 0, 0, 0]),
        ("USE mysql", &[0, 0, 0, 2, 0, 0, 0]),
    ] {
        client.command(Com::QUERY, sql.as_bytes());
        assert_eq!(client.packet(), ok, "{sql}");
    }
}

#[test]
fn idle_sessions_of_a_dead_cn_are_opened_anew() {
    let mut mortal = Mariadb::start_logged("mortal-twin");
    let twin = |id, address: &str| cn_toml(id, address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let tables =
        USER.to_owned() + &twin("mortal", &mortal.address()) + &twin("other", &cluster()[1].address());
    let proxy = Proxy::start(&tables);
    let mut clients: Vec<_> = (0..10).map(|_| connect(proxy.port, "app", "secret")).collect();
    for client in &mut clients {
        client.query_drop("SET SESSION wait_timeout = 999").unwrap();
    }
    assert_eq!(proxy.seats("mortal"), 5);
    let mut busy: Vec<_> = (0..2).map(|_| RawClient::login(proxy.port, &APP).unwrap()).collect();
    for client in &mut busy {
        client.command(Com::QUERY, b"BEGIN");
        client.packet();
    }
    let mut slow: Vec<_> = (0..2).map(|_| RawClient::login(proxy.port, &APP).unwrap()).collect();
    let mut pinged: Vec<_> = (0..2).map(|_| connect(proxy.port, "app", "secret")).collect();
    mortal.kill();
    for client in &mut slow {
        // The head of a command, which does not tell yet whether it asks about the one before.
        client.send_bytes(&frames(0, b"\x03SELECT 6")[..4]).unwrap();
    }
    for client in &mut clients {
        let seen: (u32, u32) = client.query_first("SELECT @@wait_timeout, 1").unwrap().unwrap();
        assert_eq!(seen, (999, 1));
    }
    for client in &mut slow {
        client.send_bytes(&frames(0, b"\x03SELECT 6")[4..]).unwrap();
        assert_eq!(short_text(&client.rows().unwrap()[0]), "6");
    }
    // What may have such a question behind it waits for silence.
    for client in &mut pinged {
        client.ping().unwrap();
        assert_eq!(client.query_first("SELECT 7").unwrap(), Some(7));
    }
    wait_until("it has no session left", Duration::from_secs(5), || proxy.seats("mortal") == 0);
    let (lost, kept): (Vec<_>, Vec<_>) = busy.into_iter().partition(|client| client.has_ended());
    assert_eq!((lost.len(), kept.len()), (1, 1));
    lost.into_iter().for_each(|mut client| one_err_1927(&mut client, "mortal"));
    kept.into_iter().for_each(|mut client| assert_eq!(client.value("SELECT 5").unwrap(), "5"));
}

/// Reads to the end: one ERR to an idle client, and nothing after it.
fn one_err_1927(client: &mut RawClient, names: &str) {
    let packets = client.packets_to_end();
    assert_eq!(packets.len(), 1, "one ERR: {packets:?}");
    let err = err_of(&packets[0]).expect_err("an ERR packet");
    assert!(err.code == 1927 && err.message.contains(names), "{err:?}");
}

#[test]
fn a_killed_session_is_told() {
    let proxy = Proxy::start(&twins());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let id = number(&proxy.ctl("SHOW SESSIONS")[0]["id"]);
    proxy.ctl(&format!("KILL SESSION {id}"));
    one_err_1927(&mut client, "killed");
}

#[test]
fn a_reset_connection_is_tracked_again() {
    let proxy = Proxy::start(&twins());
    let mut client = RawClient::login(proxy.port, &APP).unwrap();
    let id = number(&proxy.ctl("SHOW SESSIONS")[0]["id"]) as u32;
    client.command(Com::QUERY, b"SET SESSION wait_timeout = 55");
    client.packet();
    client.command(Com::RESET_CONNECTION, b"");
    assert_eq!(client.packet(), [0, 0, 0, 2, 0, 0, 0]);
    client.command(Com::QUERY, b"SET SESSION lock_wait_timeout = 66");
    client.packet();
    move_on(&proxy, id).expect("nothing holds it");
    assert_eq!(client.value("SELECT @@lock_wait_timeout").unwrap(), "66");
    assert_ne!(client.value("SELECT @@wait_timeout").unwrap(), "55");
}

/// The server of these tests writes a binary log, so it reports a GTID with each write.
#[test]
fn a_session_that_writes_moves() {
    let proxy = Proxy::start(&twins());
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    client.query_drop("CREATE DATABASE IF NOT EXISTS travel").unwrap();
    client.query_drop("CREATE OR REPLACE TABLE travel.written (a INT)").unwrap();
    client.query_drop("CREATE OR REPLACE SEQUENCE travel.numbers").unwrap();
    for round in 1..=3 {
        // This client's results end with an EOF, which cannot say what has changed.
        let sql = format!("INSERT INTO travel.written VALUES ({round}) RETURNING a");
        assert_eq!(client.query_first(sql).unwrap(), Some(round));
        assert_eq!(client.query_first("SELECT NEXTVAL(travel.numbers)").unwrap(), Some(round));
        assert!(row(&proxy, id)["hold"].is_null(), "{:?}", row(&proxy, id)["hold"]);
        move_on(&proxy, id).expect("nothing holds it");
        let rows: Option<u32> = client.query_first("SELECT COUNT(*) FROM travel.written").unwrap();
        assert_eq!(rows, Some(round));
    }
}

/// A login runs `init_connect`, and a reset of the connection does not.
#[test]
fn a_session_that_was_reset_stays_as_the_reset_left_it() {
    let server = Mariadb::start_with("init-connect", &["--init-connect=SET NAMES latin1, autocommit = 0"]);
    let mut house = connect(server.port, "root", "");
    house.query_drop("CREATE USER plain IDENTIFIED BY 'secret'").unwrap();
    house.query_drop("GRANT SELECT, INSERT, CREATE, DROP ON test.* TO plain").unwrap();
    house.query_drop("CREATE TABLE test.kept (a INT)").unwrap();
    let twin = |id| cn_toml(id, &server.address(), "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let user = USER.replace("\"app\"", "\"plain\"");
    let proxy = Proxy::start(&(user + &twin("cn1") + &twin("cn2")));
    let mut client = RawClient::login(proxy.port, &LoginAs { user: "plain", ..APP }).unwrap();
    let id = number(&proxy.ctl("SHOW SESSIONS")[0]["id"]) as u32;
    let begun = "SELECT CONCAT(@@autocommit + 0, @@character_set_client, @@character_set_results, @@collation_connection)";
    assert_eq!(client.value(begun).unwrap(), "0latin1latin1latin1_swedish_ci");
    move_on(&proxy, id).expect("nothing holds it");
    assert_eq!(client.value(begun).unwrap(), "0latin1latin1latin1_swedish_ci");
    client.command(Com::RESET_CONNECTION, b"");
    client.packet();
    let reset = client.value(begun).unwrap();
    assert!(reset.starts_with("1utf8mb4"), "{reset}");
    for round in ["1", "2"] {
        move_on(&proxy, id).expect("nothing holds it");
        assert_eq!(client.value(begun).unwrap(), reset);
        client.command(Com::QUERY, b"INSERT INTO test.kept VALUES (1)");
        client.packet();
        let seen: Option<String> = house.query_first("SELECT COUNT(*) FROM test.kept").unwrap();
        assert_eq!(seen.as_deref(), Some(round), "it was committed");
    }
}

/// As MariaDB Connector/J begins each connection.
#[test]
fn a_client_that_asks_for_reports_itself_moves_and_gets_them() {
    let proxy = Proxy::start(&twins());
    let mut client = RawClient::dial(proxy.port);
    client.capabilities |= Can::SESSION_TRACK;
    client.log_in(&APP).unwrap();
    let id = number(&proxy.ctl("SHOW SESSIONS")[0]["id"]) as u32;
    let set = "set session_track_schema=1, session_track_system_variables = \
        CONCAT(@@global.session_track_system_variables, ',tx_isolation'), sql_mode='ANSI_QUOTES'";
    client.command(Com::QUERY, set.as_bytes());
    client.packet();
    for _ in 0..2 {
        let isolations = [("READ-COMMITTED", &b"READ-COMMITTED"[..]), ("SERIALIZABLE", b"SERIALIZABLE")];
        for (isolation, told) in isolations {
            client.command(Com::QUERY, format!("SET SESSION tx_isolation = '{isolation}'").as_bytes());
            let ok = client.packet();
            assert!(
                ok.ends_with(&[&b"\x0ctx_isolation\x0e"[..], told].concat()) || ok.ends_with(told),
                "{ok:?}"
            );
        }
        client.command(Com::QUERY, b"SET SESSION wait_timeout = 100");
        assert_eq!(client.packet().len(), 7, "it did not ask for that");
        move_on(&proxy, id).expect("nothing holds it");
        assert_eq!(client.value("SELECT \"Variable_name\" FROM (SELECT 7 AS Variable_name) t").unwrap(), "7");
    }
}

#[test]
fn what_follows_a_setting_of_reports_is_answered_as_directly() {
    let proxy = Proxy::start(&twins());
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    client.query_drop("SET session_track_schema = 1; SELECT 1").unwrap();
    assert_eq!(client.query_first("SELECT ROW_COUNT()").unwrap(), Some(-1));
    client.query_drop("SET session_track_schema = 1; SELECT 1/0").unwrap();
    let warnings: Vec<(String, u32, String)> = client.query("SHOW WARNINGS").unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(row(&proxy, id)["hold"], "tracking");
    client.query_drop("SELECT 2 FROM DUAL").unwrap();
    wait_until("it is learnt", Duration::from_secs(5), || {
        client.query_drop("SELECT 2 FROM mysql.help_topic LIMIT 1").unwrap();
        row(&proxy, id)["hold"].is_null()
    });
    move_on(&proxy, id).expect("nothing holds it");
}

#[test]
fn a_lock_that_another_session_has_holds_nobody_who_asked_for_it() {
    let proxy = Proxy::start(&twins());
    let mut leader = connect(cluster()[0].port, "app", "secret");
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    let poll = "SELECT GET_LOCK('leadership', 0)";
    assert_eq!(leader.query_first(poll).unwrap(), Some(1));
    for _ in 0..3 {
        assert_eq!(client.query_first(poll).unwrap(), Some(0));
    }
    move_on(&proxy, id).expect("it has no lock");
    leader.query_drop("DO RELEASE_ALL_LOCKS()").unwrap();
    assert_eq!(client.query_first(poll).unwrap(), Some(1));
    assert_eq!(row(&proxy, id)["hold"], "user_lock");
    client.query_drop("DO RELEASE_LOCK('leadership')").unwrap();
    move_on(&proxy, id).expect("it has let go of it");
}

#[test]
fn a_sequences_last_value_is_never_told_wrongly() {
    let proxy = Proxy::start(&twins());
    let mut house = connect(cluster()[0].port, "app", "secret");
    house.query_drop("CREATE DATABASE IF NOT EXISTS travel").unwrap();
    house.query_drop("CREATE OR REPLACE SEQUENCE travel.s").unwrap();
    let session = |client: &mut mysql::Conn| client.connection_id();
    let mut client = connect(proxy.port, "app", "secret");
    client.query_drop("SELECT NEXTVAL(travel.s)").unwrap();
    let id = session(&mut client);
    move_on(&proxy, id).expect("most clients never ask again");
    client.query_drop("SELECT NEXTVAL(travel.s)").unwrap();
    move_on(&proxy, id).expect("nor does this one");
    let (code, why) = driver_error(client.query_drop("SELECT LASTVAL(travel.s)"));
    assert_eq!(code, 1927);
    assert!(why.contains("sequence"), "{why}");
    let mut client = connect(proxy.port, "app", "secret");
    client.query_drop("SELECT LASTVAL(travel.s)").unwrap();
    let value: Option<u64> = client.query_first("SELECT NEXTVAL(travel.s)").unwrap();
    let id = session(&mut client);
    assert_eq!(row(&proxy, id)["hold"], "sequence");
    assert_eq!(client.query_first("SELECT LASTVAL(travel.s)").unwrap(), value);
}

#[test]
fn a_role_moves_along() {
    let proxy = Proxy::start(&twins());
    let mut house = connect(cluster()[0].port, "app", "secret");
    house.query_drop("CREATE ROLE IF NOT EXISTS `a traveller`").unwrap();
    house.query_drop("GRANT `a traveller` TO app").unwrap();
    let mut client = connect(proxy.port, "app", "secret");
    client.query_drop("SET ROLE `a traveller`").unwrap();
    move_on(&proxy, client.connection_id()).expect("nothing holds it");
    assert_eq!(client.query_first("SELECT CURRENT_ROLE()").unwrap(), Some("a traveller".to_owned()));
}

#[test]
fn a_statement_too_large_to_move_holds_until_it_is_closed() {
    let proxy = Proxy::start(&format!("[migration]\npatience_ms = 300\nback_off_ms = 10\n{}", twins()));
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    let many = format!("SELECT 1 IN (1{})", ", ?".repeat(5000));
    let statement = client.prep(many).unwrap();
    assert_eq!(row(&proxy, id)["hold"], "statement");
    move_on(&proxy, id).expect_err("it cannot be prepared there");
    client.close(statement).unwrap();
    wait_until("it moves", Duration::from_secs(5), || move_on(&proxy, id).is_ok());
}

#[test]
fn a_cn_that_stalls_while_a_session_moves_there_holds_up_that_session_only() {
    let stalled = Mariadb::start("stalled-twin");
    let twin = |id, address: &str| cn_toml(id, address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let limits = "[migration]\npatience_ms = 400\nrestore_timeout_ms = 2000\n";
    let cns = twin("cn1", &cluster()[0].address()) + &twin("cn2", &stalled.address());
    let proxy = Proxy::start_on_one_worker(&format!("{limits}{USER}{cns}"));
    let mut clients: Vec<_> = (0..4).map(|_| connect(proxy.port, "app", "secret")).collect();
    clients.sort_by_key(|client| row(&proxy, client.connection_id())["cn"].to_string());
    let [moved, other, ..] = &mut clients[..] else { unreachable!() };
    let id = moved.connection_id();
    // The variable has to be asked for, so there is no rehearsal, and the restore comes when the session is quiet.
    moved.query_drop("SET SESSION wait_timeout = 999, @kept = 5").unwrap();
    moved.query_drop("BEGIN").unwrap();
    std::thread::scope(|scope| {
        let order = scope.spawn(|| proxy.try_ctl(&format!("MOVE SESSION {id} TO CN 'cn2'")));
        std::thread::sleep(Duration::from_millis(200));
        stalled.signal("STOP");
        moved.query_drop("COMMIT").unwrap();
        let waiting = scope.spawn(|| moved.query_first::<u32, _>("SELECT @@wait_timeout").unwrap());
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(1) {
            let asked = Instant::now();
            other.query_drop("DO 1").unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < Duration::from_millis(500), "another session waited {slowest:?}");
        assert!(!waiting.is_finished(), "the new CN cannot have answered");
        assert_eq!(waiting.join().unwrap(), Some(999));
        let why = order.join().unwrap().expect_err("it cannot move");
        assert!(why.contains("no answer within"), "{why}");
    });
    assert_eq!(row(&proxy, id)["cn"], "cn1");
    stalled.signal("CONT");
}

/// The old CN is asked for the user variable, and does not answer.
#[test]
fn a_session_can_be_killed_while_the_cn_that_it_leaves_stalls() {
    let stalled = Mariadb::start("stalled-old");
    let twin = |id, address: &str| cn_toml(id, address, "", 1).replace("[[cn]]", "[[cn]]\ndata = \"d1\"");
    let cns = twin("cn1", &stalled.address()) + &twin("cn2", &cluster()[0].address());
    let proxy = Proxy::start(&format!("[migration]\nidle_ms = 100\n{USER}{cns}"));
    let mut clients: Vec<_> = (0..2).map(|_| RawClient::login(proxy.port, &APP).unwrap()).collect();
    for client in &mut clients {
        client.command(Com::QUERY, b"SET @kept = 5");
        client.packet();
    }
    let there = proxy.ctl("SHOW SESSIONS").into_iter().find(|row| row["cn"] == "cn1").expect("one on cn1");
    let id = number(&there["id"]);
    stalled.signal("STOP");
    std::thread::scope(|scope| {
        let order = scope.spawn(|| proxy.try_ctl(&format!("MOVE SESSION {id} TO CN 'cn2'")));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!order.is_finished(), "the old CN is being asked");
        proxy.ctl(&format!("KILL SESSION {id}"));
        let why = order.join().unwrap().expect_err("it has not moved");
        assert!(why.contains("ended"), "{why}");
    });
    stalled.signal("CONT");
    let kept: Vec<_> = clients.iter_mut().map(|client| client.value("SELECT @kept")).collect();
    assert_eq!(kept.iter().filter(|value| value.is_err()).count(), 1, "{kept:?}");
}

#[test]
fn what_changes_between_the_rehearsal_and_the_move_is_carried_over() {
    let proxy = Proxy::start(&twins());
    let mut client = connect(proxy.port, "app", "secret");
    let id = client.connection_id();
    client.query_drop("SET SESSION wait_timeout = 700").unwrap();
    let first = client.prep("SELECT ? + 1").unwrap();
    for round in 1..=3_i64 {
        client.query_drop("BEGIN").unwrap();
        let here = row(&proxy, id)["cn"].as_str().expect("a CN").to_owned();
        let there = if here == "cn1" { "cn2" } else { "cn1" };
        std::thread::scope(|scope| {
            let order = scope.spawn(|| proxy.try_ctl(&format!("MOVE SESSION {id} TO CN '{there}'")));
            // By now the new leg has been through all that the session was before the transaction.
            std::thread::sleep(Duration::from_millis(200));
            if round > 1 {
                client.query_drop(format!("SET SESSION wait_timeout = {}", 700 + round)).unwrap();
                client.prep("SELECT ? * 2").unwrap();
            }
            client.query_drop("COMMIT").unwrap();
            let seen: Option<i64> = client.query_first("SELECT @@wait_timeout").unwrap();
            assert_eq!(seen, Some(if round > 1 { 700 + round } else { 700 }));
            order.join().unwrap().expect("it moves");
        });
        assert_eq!(client.exec_first::<i64, _, _>(&first, (round,)).unwrap(), Some(round + 1));
        assert_eq!(row(&proxy, id)["cn"], there);
        assert_eq!(number(&row_of_moves(&proxy, id)), round as u64);
    }
}

/// What follows a command that changes the tracking may come in many pieces, and may have to be given its types.
#[test]
fn commands_of_any_length_follow_a_setting_of_reports() {
    let proxy = Proxy::start(&twins());
    let mut client = raw(&proxy, "followed", 0);
    let id = client.prepare("SELECT LENGTH(?)").unwrap();
    let execute = |client: &mut RawClient, types: &[u8], length: u16| {
        let data = vec![b'x'; usize::from(length)];
        let value = [&[0xfc][..], &length.to_le_bytes(), &data].concat();
        let payload = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0], types, &value].concat();
        client.command(Com::STMT_EXECUTE, &payload);
        let row = client.rows().unwrap().remove(0);
        u16::from_le_bytes([row[2], row[3]])
    };
    assert_eq!(execute(&mut client, &[1, 0xfd, 0], 5), 5);
    for com in [Com::QUERY, Com::RESET_CONNECTION] {
        for length in [7, 60_000] {
            if com == Com::QUERY {
                move_on(&proxy, client.session).expect("nothing holds it");
                client.command(com, b"SET session_track_schema = 1");
                client.packet();
                assert_eq!(execute(&mut client, &[0], length), length);
                client.command(com, b"SET session_track_schema = 1");
                client.packet();
                assert_eq!(execute(&mut client, &[1, 0xfd, 0], length), length);
            } else {
                client.command(com, b"");
                client.packet();
            }
            let text = "y".repeat(usize::from(length));
            assert_eq!(
                client.value(&format!("SELECT MD5('{text}') = MD5(REPEAT('y', {length}))")).unwrap(),
                "1"
            );
        }
    }
}
