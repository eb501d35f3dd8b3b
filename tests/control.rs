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
use corelane::ident::{CnSlot, Epoch, SessionId, WorkerId};
use corelane::mailbox::message::{CnFailure, Event, Order, Picture, Report, SessionRow};
use corelane::mailbox::{WorkerEnd, pair};
use corelane::metrics::{Counters, Tally};
use corelane::route::CnState;
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
        let picture = self.picture()?;
        picture.view.cns.iter().find(|cn| &*cn.id == id).map(|cn| cn.state)
    }
}

/// True when the worker has to end.
fn obey(end: &WorkerEnd, order: Order, told: &mut Told) -> bool {
    let report = |event| end.report(Report { worker: end.worker(), epoch: Epoch(0), event }).unwrap();
    match order {
        Order::Publish(picture) => told.pictures.push(picture),
        Order::ListSessions { .. } if told.mute => (),
        Order::ListSessions { ticket } => {
            let rows = vec![session(end.worker())];
            report(Event::Sessions { ticket, rows });
        }
        Order::Census { .. } | Order::Move(_) | Order::Evict { .. } => (),
        Order::Kill { .. } | Order::Handover { .. } | Order::Adopt(_) => (),
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

fn session(worker: WorkerId) -> SessionRow {
    SessionRow {
        id: SessionId::new(worker, 7),
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
        let parts = CoordinatorParts {
            settings,
            config_path: Some(config.clone()),
            mailboxes,
            counters,
            cpus: vec![4, 5],
            tally: Tally::new(2),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let (coordinator, desk) = Coordinator::new(parts);
        let (signals, caught) = mpsc::channel(8);
        let coordinator = tokio::spawn(coordinator.run_with(caught));
        let door = tokio::spawn(admin::serve(listener, desk));
        Self { workers, signals, admin, coordinator, door, _dir: dir, config }
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
