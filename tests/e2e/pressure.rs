//! Pressure: long pipelines, trickled segments and clients that stall do not stop, slow or grow the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::house::{Com, LoginAs, Proxy, RawClient, cluster, cn_toml, connect, frames};

const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };

/// How much the proxy may grow, whatever its clients do.
const GROWTH_LIMIT_KIB: u64 = 16 * 1024;

fn raw(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.port, &APP).unwrap()
}

fn one_worker(buffers_mib: u32) -> Proxy {
    let cn = cn_toml("cn1", &cluster()[0].address(), "", 1);
    Proxy::start_on_one_worker(&format!("[relay]\nbuffers_mib = {buffers_mib}\n{cn}"))
}

fn assert_growth(proxy: &Proxy, before: u64) {
    let grown = proxy.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_LIMIT_KIB, "the proxy grew by {grown} KiB");
}

/// A session that asks one thing after the other, and how long its slowest answer took.
struct Busy {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Duration>,
}

impl Busy {
    fn start(proxy: &Proxy) -> Self {
        let mut conn = connect(proxy.port, "app", "secret");
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (stop.clone(), answered.clone());
        let thread = thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                let asked = Instant::now();
                conn.query_drop("SELECT 1").unwrap();
                slowest = slowest.max(asked.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            slowest
        });
        Self { stop, answered, thread }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the busy session had no error")
    }
}

/// Queries and pings in turn, numbered from `first`.
fn burst(first: usize, commands: usize) -> Vec<u8> {
    let command = |n| match n % 2 {
        0 => frames(0, format!("\x03SELECT {n}").as_bytes()),
        _ => frames(0, &[Com::PING]),
    };
    (first..first + commands).flat_map(command).collect()
}

fn read_burst(client: &mut RawClient, first: usize, commands: usize) {
    for n in first..first + commands {
        if n % 2 == 0 {
            let rows = client.rows().unwrap();
            assert_eq!(&rows[0][1..], n.to_string().as_bytes());
        } else {
            assert_eq!((client.packet()[0], client.sequence), (0, 1), "the ping {n}");
        }
    }
}

#[test]
fn a_pipeline_that_goes_on_while_reading_is_held_back_is_answered_whole() {
    let proxy = one_worker(16);
    for pause in [0, 1, 50, 300].map(Duration::from_millis) {
        let mut client = raw(&proxy);
        client.set_read_limit(Duration::from_secs(10));
        // The first answer takes until the second write is there, but for the longest pause.
        let slow = frames(0, b"\x03SELECT SLEEP(0.1)");
        client.send_bytes(&[slow, burst(0, 300)].concat()).unwrap();
        thread::sleep(pause);
        client.send_bytes(&burst(300, 300)).unwrap();
        assert_eq!(client.rows().unwrap().len(), 1);
        read_burst(&mut client, 0, 600);
        assert_eq!(client.value("SELECT 'after'").unwrap(), "after");
    }
}

#[test]
fn a_pipeline_in_two_writes_is_answered_before_the_client_says_more() {
    let proxy = one_worker(16);
    let mut client = raw(&proxy);
    client.set_read_limit(Duration::from_secs(10));
    for round in 0..20 {
        let read_between = 150 * (round % 2);
        client.send_bytes(&burst(0, 300)).unwrap();
        read_burst(&mut client, 0, read_between);
        client.send_bytes(&burst(300, 300)).unwrap();
        read_burst(&mut client, read_between, 600 - read_between);
    }
}

#[test]
fn a_client_that_trickles_single_bytes_into_a_full_pipeline_slows_nobody() {
    const TRICKLED: usize = 20_000;
    let proxy = one_worker(16);
    let busy = Busy::start(&proxy);
    let mut client = raw(&proxy);
    let before = proxy.rss_kib();
    let pings = |count: usize| frames(0, &[Com::PING]).repeat(count);
    let start = Instant::now();
    client.send_bytes(&[frames(0, b"\x03SELECT SLEEP(2)"), pings(70)].concat()).unwrap();
    for byte in pings(TRICKLED / 5) {
        client.send_bytes(&[byte]).unwrap();
    }
    let answered = busy.answered();
    thread::sleep(Duration::from_secs(2).saturating_sub(start.elapsed()));
    // Nothing more comes from the trickling client now, but what it sent is still there.
    assert!(busy.answered() > answered, "the busy session stands still");
    assert_growth(&proxy, before);
    assert_eq!(client.rows().unwrap().len(), 1);
    for n in 0..70 + TRICKLED / 5 {
        assert_eq!((client.packet()[0], client.sequence), (0, 1), "the ping {n}");
    }
    assert_growth(&proxy, before);
    let answered = busy.answered();
    let slowest = busy.stop();
    assert!(slowest < Duration::from_secs(1), "an answer to the busy session took {slowest:?}");
    assert!(answered > 300, "only {answered} answers to the busy session");
}

#[test]
fn sixty_stalled_clients_leave_room_in_few_buffers_for_another() {
    let proxy = one_worker(8);
    let mut other = raw(&proxy);
    other.set_read_limit(Duration::from_secs(20));
    let before = proxy.rss_kib();
    let mut stalled: Vec<RawClient> = (0..60).map(|_| raw(&proxy)).collect();
    for client in &mut stalled {
        client.command(Com::QUERY, b"SELECT REPEAT('z', 65535) FROM seq_1_to_1024");
        assert_eq!(client.packet(), [1], "the result begins");
    }
    thread::sleep(Duration::from_secs(1));
    other.command(Com::QUERY, b"SELECT REPEAT(CHAR(65 + seq % 26), 65535) FROM seq_1_to_256");
    let rows = other.rows().unwrap();
    assert_eq!(rows.len(), 256);
    for (n, row) in rows.iter().enumerate() {
        let letter = 65 + ((n + 1) % 26) as u8;
        assert_eq!(row.len(), 3 + 65535);
        assert!(row[3..].iter().all(|&byte| byte == letter), "row {n} is one letter");
    }
    assert_growth(&proxy, before);
    // And each of them can still go on to its end.
    for client in stalled.iter_mut().take(5) {
        client.packet();
        client.packet();
        let rows = client.rows_to_eof().unwrap();
        assert_eq!(rows.len(), 1024);
        assert!(rows.iter().all(|row| row.len() == 3 + 65535 && row[3..].iter().all(|&byte| byte == b'z')));
    }
    assert_growth(&proxy, before);
}

#[test]
fn pipelines_that_wait_leave_buffers_for_another() {
    let proxy = one_worker(1);
    let mut other = raw(&proxy);
    other.set_read_limit(Duration::from_secs(20));
    let mut waiting: Vec<RawClient> = (0..30).map(|_| raw(&proxy)).collect();
    // Each fills its pipeline and then sends far more than the worker would have to spare for all of them.
    let pipeline = [frames(0, b"\x03SELECT SLEEP(3)"), frames(0, &[Com::PING]).repeat(13_000)].concat();
    let start = Instant::now();
    for client in &mut waiting {
        for part in pipeline.chunks(1448) {
            client.send_bytes(part).unwrap();
        }
    }
    let mut answered = 0;
    while start.elapsed() < Duration::from_millis(2900) {
        assert_eq!(other.value("SELECT 'served'").unwrap(), "served");
        answered += 1;
    }
    assert!(answered > 20, "only {answered} answers while pipelines wait");
    for client in &mut waiting {
        assert_eq!(client.rows().unwrap().len(), 1);
        for n in 0..13_000 {
            assert_eq!((client.packet()[0], client.sequence), (0, 1), "the ping {n}");
        }
    }
}

#[test]
fn pipelines_that_take_all_buffers_at_once_are_answered_and_so_is_another() {
    let proxy = one_worker(1);
    let mut other = raw(&proxy);
    other.set_read_limit(Duration::from_secs(20));
    let mut waiting: Vec<RawClient> = (0..40).map(|_| raw(&proxy)).collect();
    let pings = |count: usize| frames(0, &[Com::PING]).repeat(count);
    for client in &mut waiting {
        client.send_bytes(&[frames(0, b"\x03SELECT SLEEP(2)"), pings(70)].concat()).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    // Nothing is read while the proxy stands still, so all of it is there when it goes on: more than there are buffers.
    proxy.signal("STOP");
    for client in &mut waiting {
        client.send_bytes(&pings(12_930)).unwrap();
    }
    proxy.signal("CONT");
    assert_eq!(other.value("SELECT 'served'").unwrap(), "served");
    for client in &mut waiting {
        client.set_read_limit(Duration::from_secs(20));
        assert_eq!(client.rows().unwrap().len(), 1);
        for n in 0..13_000 {
            assert_eq!((client.packet()[0], client.sequence), (0, 1), "the ping {n}");
        }
    }
}
