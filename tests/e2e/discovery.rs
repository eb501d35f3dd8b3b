//! `[discovery]`: the CNs of a MatrixOne cluster are found by asking one of them, and follow what it tells. The CNs here
//! are scripted: they greet, let the account in and answer `SHOW BACKEND SERVERS`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use serde_json::Value;

use crate::house::{
    Proxy, ScriptedCn, cn_toml, connect, err_packet, frames, rows, seating_behind_preamble, wait_until,
};

const SOON: Duration = Duration::from_secs(10);

/// What all CNs of a cluster answer, and when they were asked.
#[derive(Default)]
struct Knowledge {
    /// UUID, address, work state, labels.
    rows: Vec<[String; 4]>,
    trouble: Option<Trouble>,
    asked: Vec<(usize, Instant)>,
    /// Connections on which a question came.
    lines: Vec<(usize, usize)>,
    /// Anything else that was asked.
    odd: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Error,
    Silence,
    Nothing,
}

/// CNs `u0`, `u1`, .. of one cluster, all in the list of the first moment.
struct Cluster {
    knowledge: Arc<Mutex<Knowledge>>,
    cns: Vec<ScriptedCn>,
}

impl Cluster {
    fn start(count: usize) -> Self {
        let knowledge = Arc::<Mutex<Knowledge>>::default();
        let cns: Vec<_> = (0..count).map(|nth| cn(nth, knowledge.clone())).collect();
        let cluster = Self { knowledge, cns };
        cluster.tells((0..count).map(|nth| cluster.row(nth, "Working", "")).collect());
        cluster
    }

    fn row(&self, nth: usize, work: &str, labels: &str) -> [String; 4] {
        [format!("u{nth}"), self.cns[nth].address(), work.to_owned(), labels.to_owned()]
    }

    fn tells(&self, rows: Vec<[String; 4]>) {
        self.knowledge.lock().unwrap().rows = rows;
    }

    fn is_in(&self, trouble: Option<Trouble>) {
        self.knowledge.lock().unwrap().trouble = trouble;
    }

    fn look<T>(&self, look: impl FnOnce(&mut Knowledge) -> T) -> T {
        look(&mut self.knowledge.lock().unwrap())
    }

    /// How often anybody was asked while `time` went by.
    fn questions_in(&self, time: Duration) -> usize {
        self.look(|knowledge| knowledge.asked.clear());
        std::thread::sleep(time);
        self.look(|knowledge| knowledge.asked.len())
    }

    /// A file with the first CN alone.
    fn tables(&self, interval_ms: u32) -> String {
        discovery(interval_ms) + &matrixone("seed", &self.cns[0].address())
    }
}

fn cn(nth: usize, knowledge: Arc<Mutex<Knowledge>>) -> ScriptedCn {
    let connections = std::sync::atomic::AtomicUsize::new(0);
    seating_behind_preamble(move |stream| {
        let line = connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        while let Ok((_, command)) = crate::house::read_frame(stream) {
            let Some(reply) = answer(nth, line, &command, &knowledge) else { continue };
            if std::io::Write::write_all(stream, &reply).is_err() {
                return;
            }
        }
    })
}

fn answer(nth: usize, line: usize, command: &[u8], knowledge: &Mutex<Knowledge>) -> Option<Vec<u8>> {
    let mut knowledge = knowledge.lock().unwrap();
    match command {
        [3, text @ ..] if text == b"SHOW BACKEND SERVERS" => {
            knowledge.asked.push((nth, Instant::now()));
            if !knowledge.lines.contains(&(nth, line)) {
                knowledge.lines.push((nth, line));
            }
        }
        other => {
            knowledge.odd.push(String::from_utf8_lossy(other).into_owned());
            return None;
        }
    }
    let columns = ["UUID", "Address", "Work State", "Labels"];
    match knowledge.trouble {
        None => {
            let all: Vec<_> =
                knowledge.rows.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
            Some(rows(&columns, &all))
        }
        Some(Trouble::Nothing) => Some(rows(&columns, &[])),
        Some(Trouble::Error) => Some(frames(1, &err_packet(20101, "HY000", "not now"))),
        Some(Trouble::Silence) => None,
    }
}

fn discovery(interval_ms: u32) -> String {
    format!("[discovery]\nuser = \"dump\"\npassword = \"111\"\ninterval_ms = {interval_ms}\n")
}

fn matrixone(id: &str, address: &str) -> String {
    format!("[[cn]]\nid = \"{id}\"\naddress = \"{address}\"\nflavour = \"matrixone\"\n")
}

/// One column of a CN.
fn shown(proxy: &Proxy, id: &str, column: &str) -> Option<String> {
    let row = proxy.cn(id)?;
    Some(row[column].as_str().map_or_else(|| row[column].to_string(), str::to_owned))
}

fn ids(proxy: &Proxy) -> Vec<String> {
    let text = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = proxy.ctl("SHOW CNS").iter().map(text).collect();
    ids.sort();
    ids
}

fn until_ids(proxy: &Proxy, expected: &[&str]) {
    wait_until(&format!("the CNs are {expected:?}"), SOON, || ids(proxy) == expected);
}

#[test]
fn cns_appear_within_a_second_and_follow_what_is_told_of_them() {
    let cluster = Cluster::start(3);
    cluster.tells(vec![cluster.row(0, "Working", "tier:gold;"), cluster.row(1, "Working", "account:a1,a*;")]);
    let proxy = Proxy::start(&cluster.tables(500));
    until_ids(&proxy, &["seed", "u1"]);
    let of = |id, columns: [&str; 4]| columns.map(|column| shown(&proxy, id, column).unwrap());
    let told = ["source", "flavour", "labels", "weight"];
    assert_eq!(of("seed", told), ["file", "matrixone", "tier=gold", "1"], "it is not added again");
    assert_eq!(of("u1", told), ["discovery", "matrixone", "account=a1|a*", "1"]);
    let begun = Instant::now();
    cluster.tells((0..3).map(|nth| cluster.row(nth, "Working", "role:tp;")).collect());
    until_ids(&proxy, &["seed", "u1", "u2"]);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(shown(&proxy, "u1", "labels").unwrap(), "role=tp");
    proxy.wait_state("u2", "working");
    assert_eq!(cluster.look(|knowledge| knowledge.odd.clone()), [""; 0], "nothing else is asked");
    assert_eq!(cluster.look(|knowledge| knowledge.lines.len()), 1, "all on one connection");
}

#[test]
fn work_states_drain_and_resume() {
    let cluster = Cluster::start(2);
    let proxy = Proxy::start(&cluster.tables(100));
    proxy.wait_state("u1", "working");
    for (work, state) in [("Draining", "drained"), ("Working", "working"), ("Drained", "drained")] {
        cluster.tells(vec![cluster.row(0, "Working", ""), cluster.row(1, work, "")]);
        proxy.wait_state("u1", state);
    }
    proxy.ctl("RESUME CN 'u1'");
    cluster.questions_in(Duration::from_millis(500));
    assert_eq!(shown(&proxy, "u1", "state").unwrap(), "working", "an operator's word holds");
    proxy.ctl("DRAIN CN 'u1'");
    cluster.tells(vec![cluster.row(0, "Draining", ""), cluster.row(1, "Working", "")]);
    proxy.wait_state("seed", "drained");
    assert_eq!(
        shown(&proxy, "u1", "state").unwrap(),
        "drained",
        "what an operator drains, an operator resumes"
    );
}

#[test]
fn who_vanishes_is_removed_and_a_reload_keeps_the_rest() {
    let cluster = Cluster::start(3);
    let proxy = Proxy::start(&cluster.tables(100));
    until_ids(&proxy, &["seed", "u1", "u2"]);
    proxy.reload(&(cluster.tables(100) + "[[cn]]\nid = \"more\"\naddress = \"127.0.0.1:1\"\n"));
    until_ids(&proxy, &["more", "seed", "u1", "u2"]);
    cluster.tells(vec![cluster.row(0, "Working", ""), cluster.row(2, "Working", "")]);
    until_ids(&proxy, &["more", "seed", "u2"]);
    assert!(
        proxy.log().contains("u1 is not listed any more: it drains and is removed then"),
        "{}",
        proxy.log()
    );
    // Without an account the table is the file's.
    proxy.reload(&matrixone("seed", &cluster.cns[0].address()));
    until_ids(&proxy, &["seed"]);
    assert_eq!(cluster.questions_in(Duration::from_millis(500)), 0);
}

#[test]
fn no_error_takes_anybody_out_and_the_next_cn_is_asked() {
    let cluster = Cluster::start(2);
    let proxy = Proxy::start(&cluster.tables(100));
    until_ids(&proxy, &["seed", "u1"]);
    for trouble in [Trouble::Error, Trouble::Nothing, Trouble::Silence] {
        cluster.is_in(Some(trouble));
        cluster.look(|knowledge| knowledge.asked.clear());
        wait_until("both are asked", SOON, || {
            let mut asked =
                cluster.look(|knowledge| knowledge.asked.iter().map(|(nth, _)| *nth).collect::<Vec<_>>());
            asked.sort_unstable();
            asked.dedup();
            asked.len() == 2
        });
        assert_eq!(ids(&proxy), ["seed", "u1"]);
    }
    wait_until("the silence is said", SOON, || proxy.log().contains("no answer within 2s"));
    let log = proxy.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(said("it says: not now (20101)"), 2, "once for each CN");
    assert_eq!(said("its answer has no row"), 2, "once for each CN");
    cluster.is_in(None);
    cluster.tells(vec![cluster.row(0, "Draining", ""), cluster.row(1, "Working", "")]);
    proxy.wait_state("seed", "drained");
}

#[test]
fn whom_nobody_answers_asks_less_and_less_and_is_back_at_once() {
    let cluster = Cluster::start(1);
    cluster.is_in(Some(Trouble::Error));
    let proxy = Proxy::start(&cluster.tables(100));
    // After 0, 100, 300, 700, 1500, 3100 ms.
    wait_until("four rounds", SOON, || cluster.look(|knowledge| knowledge.asked.len() >= 5));
    let times = cluster.look(|knowledge| knowledge.asked.iter().map(|(_, at)| *at).collect::<Vec<_>>());
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!(pauses.iter().zip([100, 200, 400, 800]).all(|(pause, least)| *pause >= least), "{pauses:?}");
    cluster.is_in(None);
    wait_until("it answers again", SOON, || proxy.log().contains("tells which CNs there are"));
    let asked = cluster.questions_in(Duration::from_secs(2));
    assert!((10..=20).contains(&asked), "{asked} questions in two seconds");
}

#[test]
fn the_static_list_serves_while_nobody_answers() {
    let nobody = discovery(100) + &matrixone("seed", "127.0.0.1:1");
    let mariadb = &crate::house::cluster()[0];
    let proxy = Proxy::start(&(nobody + &cn_toml("cn1", &mariadb.address(), "", 1)));
    proxy.wait_state("cn1", "working");
    let mut client = connect(proxy.port, "app", "secret");
    assert_eq!(client.query_first("SELECT 1").unwrap(), Some(1));
    assert!(proxy.log().contains("seed does not tell which CNs there are"), "{}", proxy.log());
}
