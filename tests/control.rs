//! The control plane as a whole: a coordinator between scripted CNs and scripted workers, asked through its
//! admin door by real clients.
//!
//! What runs on a worker is not here: workers are threads that do as they are ordered and keep what they got.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane::admin;
use corelane::config;
use corelane::coordinator::signal::Signal;
use corelane::coordinator::{Coordinator, CoordinatorError, CoordinatorParts};
use corelane::ident::{CnSlot, Epoch, IdRange, SessionId, WorkerId};
use corelane::mailbox::message::{
    CensusRow, CnFailure, Event, MoveOrder, Order, Parcel, Picture, Report, SessionRow, Whom,
};
use corelane::mailbox::{WorkerEnd, pair};
use corelane::metrics::{Counters, SeatBook, Tally};
use corelane::route::{Cn, CnState, Group, WorkState};
use corelane::wire::auth::{AuthSwitchRequest, native_key, native_scramble};
use corelane::wire::capability::Capabilities;
use corelane::wire::frame::{Header, write_packet};
use corelane::wire::login::HandshakeResponse;
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use tokio::sync::mpsc;
use tokio::task::JoinHandle as Task;

/// MariaDB 10.11.19's greeting, as a frame.
const GREETING: &[u8] = b"\x64\0\0\0\n5.5.5-10.11.19-MariaDB-0+deb12u1\0\x1b\0\0\0BA\\.lXSu\0\xfe\xf7\
    \x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0uk:|&Eia)Gi]\0mysql_native_password\0";

const DENIED: &[u8] = b"\x0e\0\0\x02\xff\x15\x04#28000Denied";

/// A CN that greets, and denies the login that follows.
struct ScriptedCn {
    address: SocketAddr,
    /// Logins that it read to their end.
    logins: Arc<Mutex<Vec<Vec<u8>>>>,
    closed: Arc<AtomicBool>,
}

impl ScriptedCn {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (logins, closed) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (kept, ends) = (logins.clone(), closed.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                stream.write_all(GREETING).unwrap();
                let mut login = [0; 512];
                let read = stream.read(&mut login).unwrap_or(0);
                if read > 0 {
                    kept.lock().unwrap().push(login[..read].to_vec());
                    let _ = stream.write_all(DENIED);
                }
            }
        });
        Self { address, logins, closed }
    }

    /// Refuses connections from now on.
    fn close(&self) {
        self.closed.store(true, Relaxed);
        drop(std::net::TcpStream::connect(self.address));
    }
}

/// A worker that does as it is ordered.
struct ScriptedWorker {
    told: Arc<Mutex<Told>>,
    reports: crossbeam_channel::Sender<Event>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    pictures: Vec<Picture>,
    graces: Vec<Duration>,
    mute: bool,
    /// Goes on after an order to stop, unless its grace is zero.
    busy: bool,
    /// What a census finds.
    rows: Vec<CensusRow>,
    censuses: usize,
    moves: Vec<MoveOrder>,
    evicted: Vec<(CnSlot, String)>,
    handovers: Vec<(WorkerId, u32)>,
    adopted: usize,
}

impl Told {
    /// Moves sessions as it was ordered, at once.
    fn move_some(&mut self, order: &MoveOrder) {
        let Whom::Some { group, from, count } = &order.whom else { return };
        for (cn, by) in [(*from, -i64::from(*count)), (order.to, i64::from(*count))] {
            let at = self.rows.iter().position(|row| row.cn == cn && row.group == *group);
            let at = at.unwrap_or_else(|| {
                self.rows.push(row(group, cn, 0));
                self.rows.len() - 1
            });
            let row = &mut self.rows[at];
            row.sessions = u32::try_from(i64::from(row.sessions) + by).expect("no more than there are");
            row.movable = row.sessions;
        }
        self.rows.retain(|row| row.sessions > 0);
    }
}

fn row(group: &Arc<Group>, cn: CnSlot, sessions: u32) -> CensusRow {
    let group = group.clone();
    CensusRow { group, cn, sessions, movable: sessions, dwelling: 0, leaving: 0, arriving: 0 }
}

fn tenant(name: &str) -> Arc<Group> {
    Arc::new(Group { tenant: name.into(), labels: Default::default(), anywhere: false })
}

impl ScriptedWorker {
    fn start(end: WorkerEnd) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let (reports, to_send) = crossbeam_channel::bounded(8);
        let kept = told.clone();
        let thread = thread::spawn(move || {
            loop {
                for order in end.orders() {
                    if obey(&end, order, &mut kept.lock().unwrap()) {
                        return;
                    }
                }
                for event in to_send.try_iter() {
                    let picture = kept.lock().unwrap().pictures.last().cloned();
                    let epoch = picture.map_or(Epoch(0), |picture| picture.view.epoch);
                    end.report(Report { worker: end.worker(), epoch, event }).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { told, reports, thread }
    }

    fn picture(&self) -> Option<Picture> {
        self.told.lock().unwrap().pictures.last().cloned()
    }

    /// The state of a CN as this worker knows it.
    fn state(&self, id: &str) -> Option<CnState> {
        self.cn(id).map(|cn| cn.state)
    }

    fn cn(&self, id: &str) -> Option<Arc<Cn>> {
        self.picture()?.view.cns.iter().find(|cn| &*cn.id == id).cloned()
    }

    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap())
    }
}

/// True when the worker has to end.
fn obey(end: &WorkerEnd, order: Order, told: &mut Told) -> bool {
    let epoch = told.pictures.last().map_or(Epoch(0), |picture| picture.view.epoch);
    let report = |event| end.report(Report { worker: end.worker(), epoch, event }).unwrap();
    match order {
        Order::Publish(picture) => told.pictures.push(*picture),
        Order::ListSessions { .. } if told.mute => (),
        Order::ListSessions { ticket } => {
            let rows = vec![session(end.worker())];
            report(Event::Sessions { ticket, rows });
        }
        Order::Census { ticket } => {
            told.censuses += 1;
            report(Event::Census { ticket, rows: told.rows.clone() });
        }
        Order::Move(order) => {
            told.move_some(&order);
            if let Whom::Session { ticket, session } = order.whom {
                report(answer(end.worker(), ticket, session, Err("a transaction is open".into())));
            }
            told.moves.push(order);
        }
        Order::Evict { from, why } => {
            told.rows.retain(|row| row.cn != from);
            told.evicted.push((from, why.to_string()));
        }
        Order::Kill { ticket, session } => {
            report(answer(end.worker(), ticket, session, Ok("killed".into())));
        }
        Order::Letter(_) => (),
        Order::Handover { to, count } => told.handovers.push((to, count)),
        Order::Ids(_) => panic!("nobody is to be asked for ids"),
        Order::Adopt(_) => told.adopted += 1,
        Order::Stop { grace } => {
            told.graces.push(grace);
            if !told.busy || grace.is_zero() {
                report(Event::Stopped);
                return true;
            }
        }
    }
    false
}

/// What a worker says of an order about one session: it has just one.
fn answer(worker: WorkerId, ticket: u64, session: SessionId, outcome: Result<String, String>) -> Event {
    match session == IdRange::default().id(worker, 7) {
        true => Event::Answered { ticket, outcome },
        false => Event::NotHere { ticket },
    }
}

fn session(worker: WorkerId) -> SessionRow {
    SessionRow {
        id: IdRange::default().id(worker, 7),
        worker,
        client: "127.0.0.1:5".into(),
        user: format!("user{worker}"),
        tenant: "sys".into(),
        labels: "tier=gold".into(),
        cn: Some("cn1".into()),
        state: "idle",
        login: "relay",
        commands: 12,
        hold: None,
        moves: 0,
        last_move: None,
        age_s: 3,
    }
}

/// A running control plane with two workers.
struct House {
    workers: Vec<ScriptedWorker>,
    signals: mpsc::Sender<Signal>,
    admin: SocketAddr,
    coordinator: Task<Result<(), CoordinatorError>>,
    door: Task<std::io::Result<()>>,
    _dir: tempfile::TempDir,
    config: std::path::PathBuf,
    tally: Tally,
    counters: Vec<Arc<Counters>>,
}

impl House {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("corelane.toml");
        std::fs::write(&config, text).unwrap();
        let settings = config::load(&config).unwrap();
        let (mut mailboxes, mut workers) = (Vec::new(), Vec::new());
        for nth in 0..2 {
            let (coordinator, worker) = pair(WorkerId(nth)).unwrap();
            mailboxes.push(coordinator);
            workers.push(ScriptedWorker::start(worker));
        }
        let counters: Vec<_> = (0..2).map(|_| Arc::new(Counters::default())).collect();
        counters[1].bytes_in.add(1 << 33);
        let tally = Tally::new(2);
        let parts = CoordinatorParts {
            settings,
            config_path: Some(config.clone()),
            mailboxes,
            counters: counters.clone(),
            cpus: vec![4, 5],
            tally: tally.clone(),
            hosts: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let (coordinator, desk) = Coordinator::new(parts);
        let (signals, caught) = mpsc::channel(8);
        let coordinator = tokio::spawn(coordinator.run_with(caught));
        let door = tokio::spawn(admin::serve(listener, desk));
        Self { workers, signals, admin, coordinator, door, _dir: dir, config, tally, counters }
    }

    async fn client(&self) -> Conn {
        self.try_client("admin").await.unwrap()
    }

    async fn try_client(&self, password: &str) -> Result<Conn, mysql_async::Error> {
        let opts = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.admin.port())
            .user(Some("admin"))
            .pass(Some(password));
        Conn::new(opts).await
    }

    /// Runs the real command line client.
    async fn mariadb(&self, password: &str, statement: &str) -> Output {
        let (port, password) = (format!("-P{}", self.admin.port()), format!("-p{password}"));
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-uadmin", &port, &password]);
        command.args(["--batch", "-e", statement]);
        tokio::task::spawn_blocking(move || command.output().expect("the mariadb client runs")).await.unwrap()
    }

    async fn stop(self) {
        self.signals.send(Signal::Stop).await.unwrap();
        self.coordinator.await.unwrap().unwrap();
        self.door.abort();
        for worker in self.workers {
            worker.thread.join().unwrap();
        }
    }
}

/// Two CNs of one data set, which are looked at often.
fn moving_config(cns: [&ScriptedCn; 2]) -> String {
    let cns = [("cn1", cns[0].address.to_string()), ("cn2", cns[1].address.to_string())];
    // What was told to move is watched for as long as it may back off.
    "[balance]\ninterval_ms = 50\n[migration]\nback_off_ms = 100\nback_off_max_ms = 100\n".to_owned()
        + &config(&cns).replace("labels = { tier = [\"gold\"] }", "data = \"d1\"")
}

/// A statement that is refused, and why.
async fn refused(client: &mut Conn, statement: &str) -> String {
    match client.query_drop(statement).await {
        Err(mysql_async::Error::Server(error)) => format!("{} {}", error.code, error.message),
        other => panic!("{statement}: {other:?}"),
    }
}

/// Waits until something holds; fails when it takes longer than any of it may.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn config(cns: &[(&str, String)]) -> String {
    let mut text = String::from(
        "[admin]\nusers = [{ name = \"admin\", password = \"admin\" }]\nmax_connections = 3\n\
         [probe]\ninterval_ms = 100\ntimeout_ms = 1000\n[shutdown]\ngrace_ms = 20000\n\
         [[user]]\nname = \"ann\"\npassword = \"secret\"\n",
    );
    for (id, address) in cns {
        text +=
            &format!("[[cn]]\nid = \"{id}\"\naddress = \"{address}\"\nlabels = {{ tier = [\"gold\"] }}\n");
    }
    text
}

fn text(row: &Row, column: &str) -> Option<String> {
    row.get::<Option<String>, _>(column).expect(column)
}

fn number(row: &Row, column: &str) -> Option<u64> {
    row.get::<Option<u64>, _>(column).expect(column)
}

#[tokio::test]
async fn the_first_picture_has_the_face_of_the_cns() {
    let cn = ScriptedCn::start();
    let house = House::start(&config(&[("cn1", cn.address.to_string())])).await;
    until("a picture for both workers", || house.workers.iter().all(|w| w.picture().is_some())).await;
    let first = house.workers[1].told.lock().unwrap().pictures[0].clone();
    assert_eq!(first.face.version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
    assert_eq!(first.view.cns[0].state, CnState::Working);
    assert!(first.users.get("ann").is_some());
    assert_eq!(first.login.client_timeout, Duration::from_secs(10));
    until("a login of the probe", || !cn.logins.lock().unwrap().is_empty()).await;
    let login = cn.logins.lock().unwrap()[0].clone();
    assert!(login.windows(15).any(|bytes| bytes == b"corelane_probe\0"), "{login:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_silent_cn_does_not_hold_the_first_picture_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let house = House::start(&config(&[("cn1", silent.local_addr().unwrap().to_string())])).await;
    until("a picture", || house.workers[0].picture().is_some()).await;
    let took = begun.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_millis(2000)).contains(&took), "{took:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_cn_that_dies_is_said_to_be_down() {
    let (cn1, cn2) = (ScriptedCn::start(), ScriptedCn::start());
    let cns = [("cn1", cn1.address.to_string()), ("cn2", format!("localhost:{}", cn2.address.port()))];
    let house = House::start(&config(&cns)).await;
    until("both work", || {
        house.workers[0].picture().is_some_and(|p| p.view.cns.iter().all(|cn| cn.target.is_some()))
    })
    .await;
    let mut client = house.client().await;
    let rows: Vec<Row> = client.query("SHOW CNS").await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| (text(row, "id"), text(row, "state"))).collect();
    assert_eq!(states[1], (Some("cn2".into()), Some("working".into())));
    assert_eq!(text(&rows[0], "labels").unwrap(), "tier=gold");
    assert_eq!(text(&rows[0], "version").unwrap(), "5.5.5-10.11.19-MariaDB-0+deb12u1");
    assert_eq!((number(&rows[0], "weight"), number(&rows[0], "sessions")), (Some(1), Some(0)));
    assert_eq!(rows[0].columns_ref()[6].column_type(), ColumnType::MYSQL_TYPE_LONGLONG);
    cn1.close();
    until("cn1 is down", || house.workers[1].state("cn1") == Some(CnState::Down)).await;
    assert_eq!(house.workers[1].state("cn2"), Some(CnState::Working));
    let row: Row = client.query_first("show cns like '%1'").await.unwrap().unwrap();
    assert_eq!(text(&row, "state").unwrap(), "down");
    assert!(text(&row, "last_error").unwrap().contains("cannot connect"), "{row:?}");
    client.disconnect().await.unwrap();
    house.stop().await;
}

#[tokio::test]
async fn a_workers_report_takes_a_cn_out_at_once() {
    let cn = ScriptedCn::start();
    let house = House::start(&config(&[("cn1", cn.address.to_string())])).await;
    until("a picture", || house.workers[0].picture().is_some()).await;
    let event = Event::CnFailed { slot: CnSlot(0), failure: CnFailure::Refused };
    house.workers[0].reports.send(event).unwrap();
    let was_down = || {
        let told = house.workers[1].told.lock().unwrap();
        told.pictures.iter().any(|picture| picture.view.cns[0].state == CnState::Down)
    };
    until("the other worker hears of it", was_down).await;
    until("probes find it well", || house.workers[1].state("cn1") == Some(CnState::Working)).await;
    house.stop().await;
}

#[tokio::test]
async fn sessions_and_workers_are_shown_and_silence_is_told() {
    let house = House::start(&config(&[])).await;
    let mut client = house.client().await;
    let rows: Vec<Row> = client.query("SHOW SESSIONS").await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(number(&rows[0], "id"), Some(0x8000_0007));
    assert_eq!(text(&rows[1], "user").unwrap(), "user1");
    assert_eq!(number(&rows[1], "commands"), Some(12));
    let rows: Vec<Row> = client.query("SHOW WORKERS").await.unwrap();
    assert_eq!((number(&rows[1], "cpu"), number(&rows[1], "bytes_in")), (Some(5), Some(1 << 33)));
    house.workers[0].told.lock().unwrap().mute = true;
    let begun = Instant::now();
    let rows: Vec<Row> = client.query("SHOW SESSIONS").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(rows.len(), 2);
    assert_eq!(text(&rows[0], "user").unwrap(), "user1");
    assert_eq!((number(&rows[1], "worker"), text(&rows[1], "state").unwrap()), (Some(0), "no answer".into()));
    house.stop().await;
}

#[tokio::test]
async fn the_door_keeps_strangers_and_crowds_out() {
    let house = House::start(&config(&[])).await;
    let error = house.try_client("wrong").await.unwrap_err().to_string();
    assert!(error.contains("1045") && error.contains("using password: YES"), "{error}");
    let _three = [house.client().await, house.client().await, house.client().await];
    let error = house.try_client("admin").await.unwrap_err().to_string();
    assert!(error.contains("1040"), "{error}");
    house.stop().await;
}

/// A client that begins with MySQL 8's plugin, as most drivers do when they are not told another one.
#[tokio::test]
async fn a_client_with_another_plugin_is_switched() {
    let house = House::start(&config(&[])).await;
    let admin = house.admin;
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(admin).unwrap();
        packet(&mut stream);
        let login = HandshakeResponse {
            capabilities: Capabilities(0x8_8201),
            max_packet: 1 << 24,
            charset: 45,
            user: b"admin",
            auth: &[7; 32],
            database: None,
            plugin: Some(b"caching_sha2_password"),
            attributes: None,
            zstd_level: None,
        };
        let mut payload = Vec::new();
        login.write(&mut payload).unwrap();
        send(&mut stream, 1, &payload);
        let switch = packet(&mut stream);
        let salt = AuthSwitchRequest::read(&switch).unwrap().salt().unwrap();
        send(&mut stream, 3, &native_scramble(&native_key("admin"), &salt));
        packet(&mut stream)
    });
    assert_eq!(answer.await.unwrap()[0], 0, "OK");
    house.stop().await;
}

fn packet(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut payload = vec![0; Header::read(header).length as usize];
    stream.read_exact(&mut payload).unwrap();
    payload
}

fn send(stream: &mut std::net::TcpStream, sequence: u8, payload: &[u8]) {
    let (mut out, mut sequence) = (Vec::new(), sequence);
    write_packet(&mut out, &mut sequence, payload);
    stream.write_all(&out).unwrap();
}

#[tokio::test]
async fn the_command_line_client_works() {
    let house = House::start(&config(&[("cn1", "127.0.0.1:1".into())])).await;
    let shown = house.mariadb("admin", "SHOW CNS; show version;").await;
    let out = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(out.contains("id\taddress\tflavour\tstate\tlabels\tweight\tsessions"), "{out}");
    assert!(out.contains("cn1\t127.0.0.1:1\tmysql\t"), "{out}");
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    let wrong = house.mariadb("admin", "SHOW CMS").await;
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(error.contains("ERROR 1064 (42000)") && error.contains("did you mean CNS?"), "{error}");
    let denied = house.mariadb("nonsense", "SHOW CNS").await;
    assert!(String::from_utf8_lossy(&denied.stderr).contains("ERROR 1045 (28000): Access denied for user"));
    let odd =
        house.mariadb("admin", "use x; select database(), connection_id(), @@version; select @@nope").await;
    assert!(String::from_utf8_lossy(&odd.stdout).contains("x\t"), "{odd:?}");
    assert!(String::from_utf8_lossy(&odd.stderr).contains("ERROR 1193"), "{odd:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_reload_takes_up_a_right_file_and_keeps_off_a_wrong_one() {
    let (cn1, cn2) = (ScriptedCn::start(), ScriptedCn::start());
    let house = House::start(&config(&[("cn1", cn1.address.to_string())])).await;
    until("a picture", || house.workers[0].picture().is_some()).await;
    std::fs::write(&house.config, "[[cn]]\nid = 5\n").unwrap();
    house.signals.send(Signal::Reload).await.unwrap();
    let both = [("cn2", cn2.address.to_string()), ("cn1", cn1.address.to_string())];
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(house.workers[0].state("cn1"), Some(CnState::Working));
    std::fs::write(&house.config, config(&both).replace("secret", "other")).unwrap();
    house.signals.send(Signal::Reload).await.unwrap();
    until("cn2 is known", || house.workers[0].state("cn2").is_some()).await;
    let picture = house.workers[0].picture().unwrap();
    assert_eq!(picture.view.cns.iter().find(|cn| &*cn.id == "cn1").unwrap().slot, CnSlot(0));
    assert_eq!(picture.users.get("ann").unwrap().password.as_deref(), Some("other"));
    house.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_the_grace() {
    let house = House::start(&config(&[])).await;
    until("a picture", || house.workers[0].picture().is_some()).await;
    house.workers[0].told.lock().unwrap().busy = true;
    house.signals.send(Signal::Stop).await.unwrap();
    until("the first grace", || house.workers[0].told.lock().unwrap().graces.len() == 1).await;
    assert_eq!(house.workers[0].told.lock().unwrap().graces[0], Duration::from_secs(20));
    assert!(!house.coordinator.is_finished());
    let told = house.workers[0].told.clone();
    let begun = Instant::now();
    house.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(told.lock().unwrap().graces[1], Duration::ZERO);
}

#[tokio::test]
async fn workers_that_are_all_lost_end_the_coordinator() {
    let (end, worker) = pair(WorkerId(0)).unwrap();
    let parts = CoordinatorParts {
        settings: config::read(&config(&[]), "test").unwrap(),
        config_path: None,
        mailboxes: vec![end],
        counters: vec![Arc::default()],
        cpus: vec![0],
        tally: Tally::new(1),
        hosts: Arc::default(),
    };
    let (coordinator, _desk) = Coordinator::new(parts);
    let (_signals, caught) = mpsc::channel(1);
    let running = tokio::spawn(coordinator.run_with(caught));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished());
    drop(worker);
    let ended = tokio::time::timeout(Duration::from_secs(2), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(CoordinatorError::WorkersLost)));
}

#[tokio::test]
async fn a_drain_moves_all_sessions_away_and_goes_on_until_it_is_told_to_end() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    let group = tenant("acc1");
    for worker in &house.workers {
        worker.told(|told| told.rows = vec![row(&group, CnSlot(0), 5), row(&group, CnSlot(1), 5)]);
    }
    until("a picture", || house.workers.iter().all(|w| w.state("cn2") == Some(CnState::Working))).await;
    let mut client = house.client().await;
    client.query_drop("DRAIN CN 'cn1'").await.unwrap();
    assert_eq!(client.info(), "cn1 drains, without a deadline");
    let drained = || house.workers[0].cn("cn1").is_some_and(|cn| cn.work == WorkState::Drained);
    until("cn1 is drained", drained).await;
    for worker in &house.workers {
        let order = worker.told(|told| told.moves.pop()).expect("an order to move");
        assert!(matches!(order.whom, Whom::Some { from: CnSlot(0), count: 5, .. }), "{order:?}");
        assert_eq!((order.to, order.dwelling_too), (CnSlot(1), true));
    }
    let shown: Row = client.query_first("SHOW CNS LIKE 'cn1'").await.unwrap().unwrap();
    assert_eq!(
        (text(&shown, "state").unwrap(), text(&shown, "data").unwrap()),
        ("drained".into(), "d1".into())
    );
    house.signals.send(Signal::Reload).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(drained(), "a reload does not end a drain");
    client.query_drop("RESUME CN 'cn1'").await.unwrap();
    // All of them have moved within the dwell time, as far as the coordinator can remember.
    until("cn1 works", || house.workers[0].cn("cn1").is_some_and(|cn| cn.work == WorkState::Working)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(house.workers[0].told(|told| told.moves.len()), 0, "nobody swings back at once");
    house.stop().await;
}

#[tokio::test]
async fn at_the_deadline_the_rest_is_ended_and_the_cn_is_removed() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    let held = CensusRow { movable: 0, ..row(&tenant("acc1"), CnSlot(0), 3) };
    house.workers[1].told(|told| told.rows = vec![held]);
    until("a picture", || house.workers[1].state("cn1") == Some(CnState::Working)).await;
    let mut client = house.client().await;
    let begun = Instant::now();
    client.query_drop("REMOVE CN 'cn1' DEADLINE 1 CLOSE").await.unwrap();
    until("cn1 drains", || house.workers[1].cn("cn1").is_some_and(|cn| cn.work == WorkState::Draining)).await;
    until("cn1 is gone", || house.workers[1].cn("cn1").is_none()).await;
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(3)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    let evicted = house.workers[1].told(|told| told.evicted.clone());
    assert_eq!(evicted, [(CnSlot(0), "CN cn1 is being drained, and the time for it is over".to_owned())]);
    assert!(house.workers.iter().all(|worker| worker.told(|told| told.moves.is_empty())));
    house.stop().await;
}

#[tokio::test]
async fn or_it_is_left_draining() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let text =
        "[drain]\nat_deadline = \"leave\"\ndeadline_s = 1\n".to_owned() + &moving_config([&cns[0], &cns[1]]);
    let house = House::start(&text).await;
    house.workers[1]
        .told(|told| told.rows = vec![CensusRow { movable: 0, ..row(&tenant("a"), CnSlot(0), 3) }]);
    until("a picture", || house.workers[1].state("cn1") == Some(CnState::Working)).await;
    let mut client = house.client().await;
    client.query_drop("DRAIN CN 'cn1'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(house.workers[1].cn("cn1").unwrap().work, WorkState::Draining);
    assert_eq!(house.workers[1].told(|told| told.evicted.len()), 0);
    house.workers[1].told(|told| told.rows.clear());
    until("it is drained", || house.workers[1].cn("cn1").unwrap().work == WorkState::Drained).await;
    house.stop().await;
}

#[tokio::test]
async fn orders_about_one_session_are_answered_in_words() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    until("a picture", || house.workers[1].state("cn2") == Some(CnState::Working)).await;
    let mut client = house.client().await;
    let session = IdRange::default().id(WorkerId(1), 7);
    client.query_drop(format!("KILL {session}")).await.unwrap();
    assert_eq!(client.info(), "killed");
    assert_eq!(refused(&mut client, "KILL SESSION 5").await, "1105 there is no session 5");
    let statement = format!("MOVE SESSION {session} TO CN 'cn2'");
    assert_eq!(refused(&mut client, &statement).await, "1105 a transaction is open");
    let order = house.workers[1].told(|told| told.moves.pop()).unwrap();
    assert_eq!((order.to, order.dwelling_too), (CnSlot(1), true));
    let unknown = refused(&mut client, &format!("MOVE SESSION {session} TO CN 'cn22'")).await;
    assert_eq!(unknown, "1105 there is no CN 'cn22'; did you mean 'cn2'?");
    house.stop().await;
}

#[tokio::test]
async fn cns_are_added_and_altered_until_the_file_is_read_again() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    until("a picture", || house.workers[0].state("cn2").is_some()).await;
    let mut client = house.client().await;
    let add =
        format!("ADD CN 'cn3' ADDRESS '{}' WEIGHT 2 LABELS (tier = ('a', 'b')) DATA 'd1'", cns[0].address);
    client.query_drop(&add).await.unwrap();
    assert_eq!(client.info(), format!("cn3 added at {}", cns[0].address));
    assert_eq!(refused(&mut client, &add).await, "1105 there is a CN 'cn3' already");
    client.query_drop("ALTER CN 'cn1' SET WEIGHT 7, LABELS (account = 'acc1'), DATA NULL").await.unwrap();
    until("cn1 is altered", || house.workers[0].cn("cn1").is_some_and(|cn| cn.weight == 7)).await;
    until("cn3 works", || house.workers[0].state("cn3") == Some(CnState::Working)).await;
    let (cn1, cn3) = (house.workers[0].cn("cn1").unwrap(), house.workers[0].cn("cn3").unwrap());
    assert_eq!((cn1.weight, cn1.labels.to_string(), &cn1.data), (7, "account=acc1".into(), &None));
    assert_eq!((cn3.weight, cn3.labels.to_string().as_str()), (2, "tier=a|b"));
    let statement =
        "select mo_ctl('cn', 'label', 'cn2:account:[acc2,acc3]'), mo_ctl('cn','workstate','cn2:2')";
    let done: Row = client.query_first(statement).await.unwrap().unwrap();
    let said: Vec<Option<String>> = (0..2).map(|at| done.get(at).unwrap()).collect();
    assert_eq!(said[0].as_deref(), Some("{\n  \"method\": \"LABEL\",\n  \"result\": \"OK\"\n}\n"));
    assert!(said[1].as_ref().unwrap().contains("WORKSTATE"));
    assert_eq!(done.columns_ref()[0].name_str(), "mo_ctl(cn, label, cn2:account:[acc2,acc3])");
    let changed = |cn: &Cn| cn.labels.to_string() == "account=acc2|acc3" && cn.work != WorkState::Working;
    until("cn2 is as it was told", || house.workers[0].cn("cn2").is_some_and(|cn| changed(&cn))).await;
    client.query_drop("select mo_ctl('cn','workstate','cn2:1')").await.unwrap();
    assert!(
        refused(&mut client, "select mo_ctl('cn','label','cn9:a:b')")
            .await
            .starts_with("1105 there is no CN")
    );
    house.signals.send(Signal::Reload).await.unwrap();
    until("cn3 is gone", || house.workers[0].cn("cn3").is_none()).await;
    let (cn1, cn2) = (house.workers[0].cn("cn1").unwrap(), house.workers[0].cn("cn2").unwrap());
    assert_eq!((cn1.weight, cn1.data.as_deref()), (1, Some("d1")));
    assert_eq!((cn2.labels.is_empty(), cn2.work), (true, WorkState::Working));
    house.stop().await;
}

#[tokio::test]
async fn a_house_at_rest_is_not_counted_over_and_over() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    let censuses = || house.workers[0].told(|told| told.censuses);
    until("both work and are counted", || {
        house.workers[0].state("cn2") == Some(CnState::Working) && censuses() > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let before = censuses();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(censuses(), before);
    let group = tenant("acc1");
    house.workers[0].told(|told| told.rows = vec![row(&group, CnSlot(0), 40)]);
    let _seat = SeatBook::new(house.tally.clone(), WorkerId(0)).take(CnSlot(0));
    until("half of them move", || house.workers[0].told(|told| told.rows.len() == 2)).await;
    let order = house.workers[0].told(|told| told.moves.pop()).unwrap();
    assert!(
        matches!(order.whom, Whom::Some { from: CnSlot(0), count: 20, .. }) && !order.dwelling_too,
        "{order:?}"
    );
    tokio::time::sleep(Duration::from_millis(350)).await;
    let after = censuses();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(censuses(), after, "what was planned is done");
    house.stop().await;
}

#[tokio::test]
async fn a_crowded_worker_hands_over_through_the_coordinator() {
    let cns = [ScriptedCn::start(), ScriptedCn::start()];
    let house = House::start(&moving_config([&cns[0], &cns[1]])).await;
    until("a picture", || house.workers[0].picture().is_some()).await;
    house.counters[0].sessions.add(100);
    until("an order", || house.workers[0].told(|told| !told.handovers.is_empty())).await;
    house.counters[0].sessions.sub(50);
    house.counters[1].sessions.add(50);
    assert_eq!(house.workers[0].told(|told| told.handovers[0]), (WorkerId(1), 50));
    let parcel = Parcel(Box::new(5_u8));
    house.workers[0].reports.send(Event::HandedOver { to: WorkerId(1), parcel }).unwrap();
    until("it arrives", || house.workers[1].told(|told| told.adopted == 1)).await;
    house.stop().await;
}
