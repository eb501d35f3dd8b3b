//! The relay: whatever a client and a CN say to each other arrives whole, in order and without growth.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use mysql::LocalInfileHandler;
use mysql::prelude::Queryable;

use crate::house::{
    Com, Driver, LoginAs, OK, Proxy, RawClient, ScriptedCn, cluster, cn_toml, connect, driver_error, frames,
    read_frame,
};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };
const MIB: usize = 1 << 20;

/// How much the proxy may grow while results of any size pass.
const GROWTH_LIMIT_KIB: u64 = 16 * 1024;

fn proxy() -> Proxy {
    Proxy::start(&cn_toml("cn1", &cluster()[0].address(), "", 1))
}

fn raw(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.port, &APP).unwrap()
}

/// A hash over all values of a result, and how many rows it had.
fn digest(conn: &mut Driver, sql: &str) -> (u64, usize) {
    let mut hasher = DefaultHasher::new();
    let mut rows = 0;
    for row in conn.query_iter(sql).unwrap() {
        let (text,): (Vec<u8>,) = mysql::from_row(row.unwrap());
        text.hash(&mut hasher);
        rows += 1;
    }
    (hasher.finish(), rows)
}

#[test]
fn a_result_of_64_mib_arrives_as_it_was_sent() {
    let proxy = proxy();
    let sql = "SELECT CONCAT(seq, REPEAT(MD5(seq), 32)) FROM seq_1_to_65536";
    let direct = digest(&mut connect(cluster()[0].port, "app", "secret"), sql);
    let mut conn = connect(proxy.port, "app", "secret");
    let before = proxy.rss_kib();
    assert_eq!(digest(&mut conn, sql), direct);
    assert_eq!(direct.1, 65536);
    let grown = proxy.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_LIMIT_KIB, "the proxy grew by {grown} KiB");
}

#[test]
fn many_small_rows_arrive_as_they_were_sent() {
    let sql = "SELECT MD5(seq) FROM seq_1_to_300000";
    let direct = digest(&mut connect(cluster()[0].port, "app", "secret"), sql);
    let proxy = proxy();
    assert_eq!(digest(&mut connect(proxy.port, "app", "secret"), sql), direct);
}

#[test]
fn parameters_and_values_over_16_mib_pass_both_ways() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    let before = proxy.rss_kib();
    let parameter: Vec<u8> = (0..64 * MIB).map(|i| (i % 251) as u8).collect();
    let echoed: Option<Vec<u8>> = conn.exec_first("SELECT ?", (&parameter,)).unwrap();
    assert!(echoed.is_some_and(|echoed| echoed == parameter), "64 MiB come back as they were");
    let grown = proxy.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_LIMIT_KIB, "the proxy grew by {grown} KiB");
}

#[test]
fn packets_around_the_frame_limit_pass_both_ways() {
    let proxy = proxy();
    let mut client = raw(&proxy);
    let frame_max = 0xff_ffff;
    for length in [frame_max - 1, frame_max, frame_max + 1, 2 * frame_max] {
        // The command byte, the text around the value, and the value: `length` bytes of payload.
        let value = "x".repeat(length - 1 - "SELECT LENGTH('')".len());
        let sql = format!("SELECT LENGTH('{value}')");
        assert_eq!(client.value(&sql).unwrap(), value.len().to_string(), "a command of {length}");
    }
    for length in [frame_max - 1, frame_max, frame_max + 1, 2 * frame_max] {
        let head = if length - 4 < 1 << 24 { 4 } else { 9 };
        client.command(Com::QUERY, format!("SELECT REPEAT('y', {})", length - head).as_bytes());
        let rows = client.rows().unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].len(), length, "a row of {length}");
        assert!(rows[0][head..].iter().all(|&byte| byte == b'y'));
    }
    assert_eq!(client.value("SELECT 42").unwrap(), "42");
}

#[test]
fn a_cn_has_no_more_commands_to_answer_than_the_pipeline_holds() {
    const PINGS: usize = 500;
    const PIPELINE_MAX: usize = 64;
    let (told, counts) = mpsc::channel();
    let told = Mutex::new(told);
    let cn = ScriptedCn::seating(move |stream| {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set a read limit");
        loop {
            let count = std::iter::from_fn(|| read_frame(stream).ok()).count();
            told.lock().expect("the counts").send(count).expect("the test counts");
            stream.write_all(&frames(1, OK).repeat(count)).expect("answer");
            if count == 0 {
                return;
            }
        }
    });
    let proxy = Proxy::start(&cn_toml("slow", &cn.address(), "", 1));
    let mut client = RawClient::login(proxy.port, &LoginAs { database: "", ..APP }).unwrap();
    client.send_bytes(&frames(0, &[Com::PING]).repeat(PINGS)).unwrap();
    (0..PINGS).for_each(|_| assert_eq!(client.packet(), OK));
    let counts: Vec<usize> = counts.iter().take_while(|count| *count > 0).collect();
    assert_eq!(counts.iter().sum::<usize>(), PINGS);
    assert!(counts.iter().all(|count| *count <= PIPELINE_MAX), "{counts:?}");
}

#[test]
fn load_data_local_reads_the_clients_file() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    conn.query_drop("CREATE OR REPLACE TABLE test.loaded (n INT, t VARCHAR(40))").unwrap();
    conn.set_local_infile_handler(Some(LocalInfileHandler::new(|_, out| {
        (1..=50_000).try_for_each(|n| writeln!(out, "{n}\tline {n}"))
    })));
    conn.query_drop("LOAD DATA LOCAL INFILE 'any' INTO TABLE test.loaded").unwrap();
    let sum: Option<(u64, u64)> = conn.query_first("SELECT COUNT(*), SUM(n) FROM test.loaded").unwrap();
    assert_eq!(sum, Some((50_000, 1_250_025_000)));
    conn.query_drop("DROP TABLE test.loaded").unwrap();
}

#[test]
fn an_empty_local_file_and_a_refused_one_leave_the_session_well() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    conn.query_drop("CREATE OR REPLACE TABLE test.unloaded (n INT)").unwrap();
    conn.set_local_infile_handler(Some(LocalInfileHandler::new(|_, _| Ok(()))));
    conn.query_drop("LOAD DATA LOCAL INFILE 'empty' INTO TABLE test.unloaded").unwrap();
    let (code, _) = driver_error(conn.query_drop("LOAD DATA LOCAL INFILE 'any' INTO TABLE test.missing"));
    assert_eq!(code, 1146);
    assert_eq!(conn.query_first("SELECT COUNT(*) FROM test.unloaded").unwrap(), Some(0));
    conn.query_drop("DROP TABLE test.unloaded").unwrap();
}

#[test]
fn several_results_arrive_in_order() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    let mut values = Vec::new();
    let mut result =
        conn.query_iter("SELECT 1; DO 0; SELECT 2 UNION SELECT 3; SELECT 4 WHERE FALSE").unwrap();
    while let Some(set) = result.iter() {
        values.push(set.map(|row| mysql::from_row::<i64>(row.unwrap())).collect::<Vec<_>>());
    }
    drop(result);
    assert_eq!(values, [vec![1], vec![], vec![2, 3], vec![]]);
    assert_eq!(conn.query_first("SELECT 5").unwrap(), Some(5));
}

#[test]
fn an_error_ends_several_results() {
    let proxy = proxy();
    let mut client = raw(&proxy);
    client.command(Com::QUERY, b"SELECT 1; SELECT nope; SELECT 2");
    assert_eq!(client.rows().unwrap().len(), 1);
    assert_eq!(client.rows().unwrap_err().code, 1054);
    assert_eq!(client.value("SELECT 3").unwrap(), "3");
}

#[test]
fn a_procedure_gives_its_results_and_its_end() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    conn.query_drop("CREATE OR REPLACE PROCEDURE test.two() BEGIN SELECT 1; SELECT 2; END").unwrap();
    for _ in 0..2 {
        let mut sets = 0;
        let mut result = conn.exec_iter("CALL test.two()", ()).unwrap();
        while let Some(set) = result.iter() {
            sets += set.count();
        }
        assert_eq!(sets, 2);
    }
    conn.query_drop("DROP PROCEDURE test.two").unwrap();
}

#[test]
fn prepared_statements_live_side_by_side() {
    let proxy = proxy();
    let mut conn = connect(proxy.port, "app", "secret");
    let add = conn.prep("SELECT ? + ?").unwrap();
    let text = conn.prep("SELECT CONCAT(?, '-', ?)").unwrap();
    let nothing = conn.prep("DO ?").unwrap();
    for n in 0..200i64 {
        assert_eq!(conn.exec_first(&add, (n, 1)).unwrap(), Some(n + 1));
        assert_eq!(conn.exec_first(&text, (n, "x")).unwrap(), Some(format!("{n}-x")));
        conn.exec_drop(&nothing, (n,)).unwrap();
    }
    conn.close(add).unwrap();
    assert_eq!(conn.exec_first(&text, ("a", "b")).unwrap(), Some("a-b".to_string()));
    let (code, _) = driver_error(conn.prep("SELECT FROM"));
    assert_eq!(code, 1064);
}

#[test]
fn a_cursor_is_fetched_piece_by_piece() {
    let proxy = proxy();
    let mut client = raw(&proxy);
    client.command(Com::STMT_PREPARE, b"SELECT seq FROM seq_1_to_10");
    let prepared = client.packet();
    assert_eq!(prepared[0], 0, "{prepared:?}");
    let id = prepared[1..5].to_vec();
    client.packet();
    client.packet();
    client.command(Com::STMT_EXECUTE, &[&id[..], &[1], &1u32.to_le_bytes()].concat());
    assert_eq!(client.packet(), [1], "one column");
    client.packet();
    let eof = client.packet();
    assert_eq!(eof[3] & 0x40, 0x40, "a cursor exists: {eof:?}");
    let mut fetched = Vec::new();
    while fetched.iter().sum::<usize>() < 10 {
        client.command(Com::STMT_FETCH, &[&id[..], &4u32.to_le_bytes()].concat());
        fetched.push(client.rows_to_eof().unwrap().len());
    }
    assert_eq!(fetched, [4, 4, 2]);
    client.command(Com::STMT_CLOSE, &id);
    assert_eq!(client.value("SELECT 1").unwrap(), "1", "a command without a reply is followed by one with");
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let proxy = proxy();
    let mut client = raw(&proxy);
    let mut burst = Vec::new();
    for n in 0..300 {
        burst.extend(frames(0, format!("\x03SELECT {n}").as_bytes()));
        burst.extend(frames(0, &[Com::PING]));
    }
    client.send_bytes(&burst).unwrap();
    for n in 0..300 {
        let rows = client.rows().unwrap();
        assert_eq!(&rows[0][1..], n.to_string().as_bytes());
        let ok = client.packet();
        assert_eq!((ok[0], client.sequence), (0, 1), "the ping after {n}");
    }
}

#[test]
fn commands_that_arrive_byte_by_byte_are_understood() {
    let proxy = proxy();
    let mut client = raw(&proxy);
    for byte in frames(0, b"\x03SELECT 'slow'") {
        client.send_bytes(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    let rows = client.rows().unwrap();
    assert_eq!(&rows[0][1..], b"slow");
}

#[test]
fn a_client_that_stops_reading_neither_grows_the_proxy_nor_slows_others() {
    let proxy = proxy();
    let mut busy = connect(proxy.port, "app", "secret");
    busy.query_drop("SELECT 1").unwrap();
    let before = proxy.rss_kib();
    let mut stalled: Vec<RawClient> = (0..4).map(|_| raw(&proxy)).collect();
    for client in &mut stalled {
        client.command(Com::QUERY, b"SELECT REPEAT('z', 65535) FROM seq_1_to_2048");
    }
    let start = Instant::now();
    let mut answered = 0;
    while start.elapsed() < Duration::from_secs(3) {
        busy.query_drop("SELECT 1").unwrap();
        answered += 1;
    }
    assert!(answered > 300, "only {answered} queries beside stalled clients");
    let grown = proxy.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_LIMIT_KIB, "the proxy grew by {grown} KiB");
    for client in &mut stalled {
        let rows = client.rows().unwrap();
        assert_eq!(rows.len(), 2048);
        assert!(rows.iter().all(|row| row.len() == 3 + 65535 && row.ends_with(b"zzzz")));
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_result_is_cleaned_up() {
    let proxy = proxy();
    for _ in 0..5 {
        let mut client = raw(&proxy);
        client.command(Com::QUERY, b"SELECT REPEAT('z', 65535) FROM seq_1_to_2048");
        client.packet();
    }
    crate::house::wait_until("no session is left", Duration::from_secs(20), || proxy.seats("cn1") == 0);
    drop(connect(proxy.port, "app", "secret"));
}

#[test]
fn a_user_is_changed_and_a_session_reset() {
    let known = "[[user]]\nname = \"app\"\npassword = \"secret\"\n[[user]]\nname = \"sbtest\"\npassword = \"sbtest\"\n";
    for users in ["", known] {
        let proxy = Proxy::start(&(cn_toml("cn1", &cluster()[0].address(), "", 1) + users));
        let mut conn = connect(proxy.port, "app", "secret");
        conn.query_drop("SET @kept = 1").unwrap();
        conn.reset().unwrap();
        assert_eq!(conn.query_first("SELECT @kept IS NULL").unwrap(), Some(1), "{users}");
        let other = mysql::ChangeUserOpts::new()
            .with_user(Some("sbtest".into()))
            .with_pass(Some("sbtest".into()))
            .with_db_name(Some("sbtest".into()));
        conn.change_user(other).unwrap();
        assert_eq!(
            conn.query_first("SELECT CURRENT_USER()").unwrap(),
            Some("sbtest@%".to_string()),
            "{users}"
        );
    }
}
