//! Sessions that go from one worker to another, with a test in the coordinator's place.
//!
//! Two real workers between real clients and a real MariaDB server. Only the first has a listener, so every
//! session begins there. A thread passes sessions on between the workers, as the coordinator does; when they go is for
//! each test to order.

#[path = "house/mod.rs"]
mod house;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane::config;
use corelane::ident::{CnSlot, SessionId, WorkerId};
use corelane::mailbox::message::{Event, MoveOrder, Order, Parcel, Picture, SessionRow, Whom};
use corelane::mailbox::{self, CoordinatorEnd, Unsent, pair};
use corelane::metrics::{Counters, Tally};
use corelane::placement::Placement;
use corelane::placement::duty::Terms;
use corelane::session::face::Face;
use corelane::session::user::{KnownUser, Users};
use corelane::worker::{self, WorkerError};
use house::{
    Com, LoginAs, Mariadb, RawClient, connect, driver_error, err_of, frames, short_text, wait_until,
};
use mysql::prelude::Queryable;

const LIMIT: Duration = Duration::from_secs(30);
const FIRST: WorkerId = WorkerId(0);
const SECOND: WorkerId = WorkerId(1);
const APP: LoginAs = LoginAs { user: "app", password: "secret", database: "test" };

fn cn() -> &'static Mariadb {
    static CN: OnceLock<Mariadb> = OnceLock::new();
    CN.get_or_init(|| Mariadb::start("cn1"))
}

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:1\"\nusers = [{ name = \"a\", password = \"b\" }]\n";

/// The server as a CN.
fn cn_table(id: &str) -> String {
    format!("[[cn]]\nid = \"{id}\"\naddress = \"{}\"\nflavour = \"mysql\"\n", cn().address())
}

/// Two workers, and who stands in for their coordinator.
struct Workers {
    port: u16,
    post: Arc<Post>,
    counters: Vec<Arc<Counters>>,
    tally: Tally,
    threads: Vec<JoinHandle<Result<(), WorkerError>>>,
    postman: Option<JoinHandle<()>>,
}

/// What the test and the thread that passes sessions on share.
struct Post {
    ends: [Mutex<CoordinatorEnd>; 2],
    rows: Mutex<Vec<SessionRow>>,
    /// Sessions that came while `holding`.
    held: Mutex<Vec<(WorkerId, Parcel)>>,
    /// Keep parcels instead of passing them on.
    holding: AtomicBool,
    /// Read no report.
    deaf: AtomicBool,
    over: AtomicBool,
}

impl Workers {
    /// One CN, and no user is known.
    fn start() -> Self {
        Self::start_with(&format!("{ADMIN}{}", cn_table("cn1")), Users::default())
    }

    /// The one server as two CNs of one data set, and a known user.
    fn start_tracked() -> Self {
        let twin = |id| cn_table(id) + "data = \"d1\"\n";
        let app = (APP.user.to_owned(), KnownUser::with_password(APP.password));
        Self::start_with(&format!("{ADMIN}{}{}", twin("cn1"), twin("cn2")), [app].into_iter().collect())
    }

    fn start_with(text: &str, users: Users) -> Self {
        let settings = config::read(text, "handover.toml").unwrap();
        let mut placement = Placement::new(&settings.probe, &settings.discovery);
        let terms = Terms { deadline: None, at_deadline: settings.drain.at_deadline, then_remove: false };
        let _ = placement.reload(&settings.cns, |_| 0, terms, Duration::ZERO);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counters: Vec<Arc<Counters>> = vec![Arc::default(), Arc::default()];
        let tally = Tally::new(2);
        let cpus = core_affinity::get_core_ids().unwrap();
        let (settings, mut listeners) = (Arc::new(settings), vec![listener.into()]);
        let (ends, threads): (Vec<_>, Vec<_>) = [FIRST, SECOND]
            .map(|id| {
                let (end, mailbox) = pair(id).unwrap();
                let parts = worker::Parts {
                    id,
                    cpu: cpus[id.index() % cpus.len()].id,
                    settings: settings.clone(),
                    // Fewer places than some tests have sockets: the rest keep their descriptors.
                    files: 300,
                    listeners: std::mem::take(&mut listeners),
                    mailbox,
                    counters: counters.clone(),
                    tally: tally.clone(),
                    books: Default::default(),
                };
                (Mutex::new(end), thread::spawn(move || worker::run(parts)))
            })
            .into_iter()
            .unzip();
        let post = Arc::new(Post {
            ends: ends.try_into().unwrap_or_else(|_| unreachable!("two workers")),
            rows: Mutex::default(),
            held: Mutex::default(),
            holding: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let picture = Picture {
            view: Arc::new(placement.view()),
            users: Arc::new(users),
            face: Arc::new(Face::common([], None)),
            ..Picture::new(&settings)
        };
        post.send(FIRST, Order::Publish(picture.clone().into()));
        post.send(SECOND, Order::Publish(picture.into()));
        let postman = Some(thread::spawn({
            let post = post.clone();
            move || post.carry()
        }));
        Self { port, post, counters, tally, threads, postman }
    }

    fn sessions(&self, worker: WorkerId) -> u64 {
        self.counters[worker.index()].sessions.get()
    }

    fn seats(&self, worker: WorkerId) -> u32 {
        self.tally.seats_of(worker, CnSlot(0))
    }

    fn order(&self, from: WorkerId, to: WorkerId, count: u32) {
        self.post.send(from, Order::Handover { to, count });
    }

    /// Orders again and again until `count` sessions more have gone.
    fn hand_over(&self, from: WorkerId, to: WorkerId, count: u32) {
        let there = self.sessions(to) + u64::from(count);
        let mut ordered = None::<Instant>;
        wait_until("the sessions are there", LIMIT, || {
            let missing = there.saturating_sub(self.sessions(to));
            if missing > 0 && ordered.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                self.order(from, to, u32::try_from(missing).unwrap());
                ordered = Some(Instant::now());
            }
            missing == 0
        });
    }

    /// Every count: sessions of the first and the second worker, and seats; nobody is on the way.
    fn settle(&self, first: u32, second: u32) {
        wait_until("the books are right", LIMIT, || {
            let sessions = (self.sessions(FIRST), self.sessions(SECOND));
            sessions == (first.into(), second.into())
                && (self.seats(FIRST), self.seats(SECOND)) == (first, second)
                && self.tally.seats(CnSlot(0)) == first + second
                && self.tally.travellers() == 0
        });
    }

    /// The sessions of a worker by its own list.
    fn rows(&self, worker: WorkerId) -> Vec<SessionRow> {
        self.post.rows.lock().unwrap().clear();
        self.post.send(worker, Order::ListSessions { ticket: 1 });
        wait_until("a list", LIMIT, || !self.post.rows.lock().unwrap().is_empty());
        std::mem::take(&mut *self.post.rows.lock().unwrap())
    }

    /// Has the one session of a worker moved to the CN where it is not.
    fn move_from(&self, worker: WorkerId) {
        let row = self.rows(worker).remove(0);
        let to = CnSlot(u16::from(row.cn.as_deref() == Some("cn1")));
        let whom = Whom::Session { ticket: 2, session: row.id };
        self.post.send(worker, Order::Move(MoveOrder { whom, to, patience: LIMIT, dwelling_too: true }));
        wait_until("it has moved", LIMIT, || self.rows(worker)[0].moves == row.moves + 1);
    }

    fn stop(&self, worker: WorkerId) {
        self.post.send(worker, Order::Stop { grace: LIMIT });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.post.send(FIRST, Order::Stop { grace: Duration::ZERO });
        self.post.send(SECOND, Order::Stop { grace: Duration::ZERO });
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        self.post.over.store(true, SeqCst);
        let postman = self.postman.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.into_iter().for_each(|end| end.expect("no panic").expect("it ran"));
            postman.expect("one").expect("no panic");
        }
    }
}

impl Post {
    fn send(&self, to: WorkerId, mut order: Order) {
        loop {
            match self.ends[to.index()].lock().unwrap().send(order) {
                Ok(()) | Err(Unsent::Gone) => return,
                Err(Unsent::Full(back)) => order = back,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Passes sessions on until all is over.
    fn carry(&self) {
        while !self.over.load(SeqCst) {
            thread::sleep(Duration::from_micros(200));
            if self.deaf.load(SeqCst) {
                continue;
            }
            for end in &self.ends {
                let reports: Vec<_> = std::iter::from_fn(|| end.lock().unwrap().next_report()).collect();
                for report in reports {
                    match report.event {
                        Event::HandedOver { to, parcel } if self.holding.load(SeqCst) => {
                            self.held.lock().unwrap().push((to, parcel));
                        }
                        Event::HandedOver { to, parcel } => self.send(to, Order::Adopt(parcel)),
                        Event::Sessions { rows, .. } => self.rows.lock().unwrap().extend(rows),
                        _ => {}
                    }
                }
            }
        }
    }

    /// The one session that is held.
    fn take_held(&self) -> (WorkerId, Parcel) {
        wait_until("a session on its way", LIMIT, || !self.held.lock().unwrap().is_empty());
        self.held.lock().unwrap().pop().expect("one")
    }
}

/// A fixed sequence of numbers below `n` that look random (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn a_session_keeps_all_that_it_has() {
    let workers = Workers::start();
    let mut session = connect(workers.port, "app", "secret");
    let id = session.connection_id();
    let mut query = |sql: &str| session.query_first::<String, _>(sql).unwrap().unwrap_or_default();
    let at_cn = query("SELECT CONNECTION_ID()");
    query("CREATE TEMPORARY TABLE travels (a INT) ENGINE = InnoDB");
    query("SET @kept = 'kept'");
    let statement = session.prep("SELECT ? + a FROM travels").unwrap();
    session.query_drop("START TRANSACTION").unwrap();
    session.query_drop("INSERT INTO travels VALUES (40)").unwrap();
    let before = workers.rows(FIRST);
    workers.hand_over(FIRST, SECOND, 1);
    workers.settle(0, 1);
    let after = workers.rows(SECOND);
    assert_eq!((after.len(), after[0].id, after[0].worker), (1, SessionId(id), SECOND));
    assert_eq!((before[0].state, after[0].state), ("transaction", "transaction"));
    let shown = |row: &SessionRow| (row.client.clone(), row.user.clone(), row.login, row.commands);
    assert_eq!(shown(&before[0]), shown(&after[0]));
    assert_eq!(session.exec_first(&statement, (2,)).unwrap(), Some(42));
    assert_eq!(session.query_first("SELECT @kept").unwrap(), Some("kept".to_owned()));
    assert_eq!(session.query_first("SELECT CONNECTION_ID()").unwrap(), Some(at_cn));
    workers.hand_over(SECOND, FIRST, 1);
    session.query_drop("ROLLBACK").unwrap();
    assert_eq!(session.exec_first::<i32, _, _>(&statement, (2,)).unwrap(), None);
    let (code, _) = driver_error(session.query_drop("SELECT nothing"));
    assert_eq!(code, 1054);
    workers.settle(1, 0);
    drop(session);
    workers.settle(0, 0);
    assert_eq!(workers.counters[FIRST.index()].accepted.get(), 1, "it was accepted once");
}

#[test]
fn a_tracked_session_moves_on_from_where_it_came_to() {
    let workers = Workers::start_tracked();
    let mut session = connect(workers.port, APP.user, APP.password);
    session.query_drop("SET time_zone = '+03:00', @kept = 'kept'").unwrap();
    let gone = session.prep("SELECT 1").unwrap();
    let statement = session.prep("SELECT ? + 1, @@time_zone, @kept").unwrap();
    session.close(gone).unwrap();
    // There the statement gets another id than the client has for it.
    workers.move_from(FIRST);
    let mut answers = || {
        let row: Option<(i32, String, String)> = session.exec_first(&statement, (41,)).unwrap();
        assert_eq!(row, Some((42, "+03:00".into(), "kept".into())));
    };
    answers();
    for (from, to) in [(FIRST, SECOND), (SECOND, FIRST)] {
        workers.hand_over(from, to, 1);
        answers();
        let row = workers.rows(to).remove(0);
        assert_eq!((row.login, row.hold), ("known", None));
        workers.move_from(to);
        answers();
    }
}

/// The last command of [`write_in_pieces`].
const LAST: &str = "the end";

/// Asks for one number after the other, with padding, in small pieces and more at once than are answered. How many.
fn write_in_pieces(writer: &mut TcpStream, enough: &AtomicBool) -> u64 {
    let (mut dice, mut asked) = (Dice(0x5eed), 0);
    while !enough.load(SeqCst) {
        let mut bytes = Vec::new();
        for _ in 0..=dice.below(4) {
            let longest = if dice.below(20) == 0 { 20_000 } else { 60 };
            let padding = "x".repeat(dice.below(longest));
            let shown = &padding[..padding.len().min(200)];
            let sql = format!("\x03SELECT {asked}, /* {padding} */ '{shown}'");
            bytes.extend(frames(0, sql.as_bytes()));
            asked += 1;
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + dice.below(rest.len().min(4000)));
            writer.write_all(piece).unwrap();
            rest = after;
            if dice.below(3) == 0 {
                thread::sleep(Duration::from_micros(dice.below(400) as u64));
            }
        }
    }
    writer.write_all(&frames(0, format!("\x03SELECT '{LAST}'").as_bytes())).unwrap();
    asked
}

/// Checks the answers to [`write_in_pieces`], whole and in order. How many.
fn read_in_order(client: &mut RawClient) -> u64 {
    let mut answered = 0;
    loop {
        let rows = client.rows().unwrap();
        let value = short_text(&rows[0]);
        if value == LAST {
            return answered;
        }
        assert_eq!(value, answered.to_string());
        let padding = &rows[0][1 + value.len()..];
        assert_eq!(usize::from(padding[0]), padding.len() - 1);
        assert!(padding[1..].iter().all(|&byte| byte == b'x'));
        answered += 1;
    }
}

#[test]
fn no_byte_is_lost_and_none_overtakes_another() {
    const CROSSINGS: u64 = 100;
    let workers = Workers::start();
    let mut client = RawClient::login(workers.port, &APP).unwrap();
    let (mut writer, enough) = (client.writer(), Arc::new(AtomicBool::new(false)));
    let written = enough.clone();
    let writing = thread::spawn(move || write_in_pieces(&mut writer, &written));
    let reading = thread::spawn(move || {
        let answered = read_in_order(&mut client);
        (client, answered)
    });
    let crossed = || workers.counters.iter().map(|counters| counters.adopted.get()).sum::<u64>();
    while crossed() < CROSSINGS {
        assert!(!reading.is_finished(), "the client is content so far");
        let (from, to) = if crossed() % 2 == 0 { (FIRST, SECOND) } else { (SECOND, FIRST) };
        workers.hand_over(from, to, 1);
    }
    enough.store(true, SeqCst);
    let asked = writing.join().unwrap();
    let (client, answered) = reading.join().unwrap();
    assert_eq!(answered, asked);
    assert!(asked > CROSSINGS, "it never stopped speaking");
    workers.settle(1, 0);
    drop(client);
    workers.settle(0, 0);
}

#[test]
fn many_sessions_go_to_and_fro_and_every_count_is_right() {
    const SESSIONS: u32 = 200;
    let workers = Workers::start();
    let login = |_| RawClient::login(workers.port, &APP).unwrap();
    let mut clients: Vec<RawClient> = (0..SESSIONS).map(login).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.value(&format!("SELECT @n := {n}")).unwrap();
    }
    workers.settle(SESSIONS, 0);
    for (from, to, first, second) in
        [(FIRST, SECOND, 0, SESSIONS), (SECOND, FIRST, SESSIONS, 0), (FIRST, SECOND, 0, SESSIONS)]
    {
        // Every third has its next command under way, and its answer to come.
        for client in clients.iter_mut().step_by(3) {
            client.command(Com::QUERY, b"SELECT SLEEP(0.05), @n");
        }
        workers.hand_over(from, to, SESSIONS);
        workers.settle(first, second);
        for client in clients.iter_mut().step_by(3) {
            assert_eq!(client.rows().unwrap().len(), 1);
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.value("SELECT @n").unwrap(), n.to_string());
        }
    }
    let ids: std::collections::BTreeSet<_> = workers.rows(SECOND).iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), SESSIONS as usize, "each has an id of its own");
    // Those that end abroad, and those that end on their way.
    clients.truncate(100);
    workers.settle(0, 100);
    workers.order(SECOND, FIRST, 100);
    drop(clients);
    workers.settle(0, 0);
}

#[test]
fn a_session_that_nobody_takes_stays_as_it_was() {
    let workers = Workers::start();
    let mut client = RawClient::login(workers.port, &APP).unwrap();
    client.value("SELECT @a := 1").unwrap();
    workers.post.deaf.store(true, SeqCst);
    for ticket in 0..=mailbox::REPORTS_MAX as u64 {
        workers.post.send(FIRST, Order::ListSessions { ticket });
    }
    let dropped = || workers.counters[FIRST.index()].reports_dropped.get();
    wait_until("the mailbox is full", LIMIT, || dropped() > 0);
    workers.settle(1, 0);
    for _ in 0..3 {
        let before = dropped();
        workers.order(FIRST, SECOND, 1);
        wait_until("it was tried", LIMIT, || dropped() > before);
        assert_eq!(client.value("SELECT @a").unwrap(), "1");
    }
    workers.settle(1, 0);
    assert_eq!(workers.counters[FIRST.index()].handed_over.get(), 0);
    workers.post.deaf.store(false, SeqCst);
    workers.hand_over(FIRST, SECOND, 1);
    assert_eq!(client.value("SELECT @a").unwrap(), "1");
    workers.settle(0, 1);
}

#[test]
fn a_session_that_is_busy_for_too_long_is_called_off() {
    let workers = Workers::start();
    let mut client = RawClient::login(workers.port, &APP).unwrap();
    client.command(Com::QUERY, b"SELECT SLEEP(2)");
    workers.order(FIRST, SECOND, 1);
    assert_eq!(client.rows().unwrap().len(), 1);
    client.value("SELECT 1").unwrap();
    workers.settle(1, 0);
    assert_eq!(workers.counters[FIRST.index()].handed_over.get(), 0);
}

#[test]
fn a_session_that_is_lost_on_its_way_leaves_nothing_behind() {
    let workers = Workers::start();
    let mut client = RawClient::login(workers.port, &APP).unwrap();
    workers.post.holding.store(true, SeqCst);
    workers.order(FIRST, SECOND, 1);
    let (_, parcel) = workers.post.take_held();
    assert_eq!((workers.sessions(FIRST), workers.sessions(SECOND)), (0, 0));
    assert_eq!((workers.tally.seats(CnSlot(0)), workers.tally.travellers()), (1, 1));
    drop(parcel);
    assert_eq!(client.packets_to_end(), Vec::<Vec<u8>>::new());
    workers.settle(0, 0);
}

#[test]
fn a_session_that_arrives_at_a_worker_that_stops_is_told_so() {
    let workers = Workers::start();
    let mut keeper = RawClient::login(workers.port, &APP).unwrap();
    keeper.value("SELECT 1").unwrap();
    keeper.command(Com::QUERY, b"BEGIN");
    keeper.rows().unwrap();
    workers.hand_over(FIRST, SECOND, 1);
    let mut late = RawClient::login(workers.port, &APP).unwrap();
    workers.post.holding.store(true, SeqCst);
    workers.order(FIRST, SECOND, 1);
    let (to, parcel) = workers.post.take_held();
    workers.stop(SECOND);
    workers.post.send(to, Order::Adopt(parcel));
    let told = late.packets_to_end();
    assert_eq!(told.iter().map(|packet| err_of(packet).unwrap_err().code).collect::<Vec<_>>(), [1053]);
    workers.order(SECOND, FIRST, 1);
    assert_eq!(keeper.value("SELECT 2").unwrap(), "2");
    workers.settle(0, 1);
}

/// The salt that it was greeted with goes along, and so does who it has become.
#[test]
fn a_session_becomes_another_users_wherever_it_lives() {
    let workers = Workers::start_tracked();
    let mut client = RawClient::login(workers.port, &APP).unwrap();
    workers.hand_over(FIRST, SECOND, 1);
    let latin1 = 8;
    let ok = client.change_user(&LoginAs { database: "", ..APP }, latin1, "mysql_native_password");
    assert_eq!((ok[0], client.sequence), (0, 1), "{ok:?}");
    let begun = "SELECT CONCAT_WS(' ', CURRENT_USER(), IFNULL(DATABASE(), '-'), @@character_set_client)";
    workers.hand_over(SECOND, FIRST, 1);
    for _ in 0..2 {
        assert_eq!(client.value(begun).unwrap(), "app@% - latin1");
        workers.move_from(FIRST);
    }
}
