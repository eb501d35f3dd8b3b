//! Reads the CNs' user tables through a monitor account, again and again.
//!
//! Each CN of flavour `mysql` that is not down is read on its own: at once when it comes up, then in the
//! interval of the configuration. What a reading says is judged in [`crate::session::account`]. What was read
//! of a CN holds until it is read anew or the CN is gone; that it may be old harms nobody, as a hash decides no
//! login. A failure is said once, and again only when its cause changes.
//!
//! The query asks for no more of a secret than tells whether it is a hash, in hexadecimal, as salts of `caching_sha2_password` are
//! bytes and not text, and for [`ROWS_MAX`] rows, so that an answer cannot be large. `mysql.user` is a view on MariaDB and a table on MySQL; on both, the right to SELECT
//! its columns `User`, `plugin` and `authentication_string` is enough.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::line::{self, Line};
use super::road::Road;
use super::watch::share;
use crate::config::settings::{Account, Auth};
use crate::config::tls::CnTls;
use crate::ident::CnSlot;
use crate::route::{Cn, CnState, Flavour, View};
use crate::session::account::{Accounts, union};
use crate::session::script::Row;
use crate::session::user::Users;
use crate::wire::auth::sha2_crypt;

/// Rows that are read of one CN's table.
pub const ROWS_MAX: usize = 20_000;

/// From dialling to the last row.
pub const READING_LIMIT: Duration = Duration::from_secs(5);

/// CNs that are read at the same time.
pub const READINGS_MAX: usize = 8;

/// `LEFT` takes one character more than the longest hash has, so that what is longer is seen to be none.
const QUERY: &str =
    "SELECT User, plugin, HEX(LEFT(authentication_string, 71)) FROM mysql.user ORDER BY User LIMIT ";
const _: () = assert!(sha2_crypt::TEXT == 70);

/// What came of one reading.
#[derive(Debug)]
pub struct Reading {
    slot: CnSlot,
    /// The reader that it comes from.
    reader: u64,
    accounts: Result<Accounts, Error>,
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer within {READING_LIMIT:?}")]
    TimedOut,
    #[error(transparent)]
    Line(#[from] line::Error),
    #[error("a row of another form than was asked for")]
    Form,
}

/// The tables of all CNs, and the tasks that read them.
#[derive(Debug)]
pub struct Tables {
    by_slot: BTreeMap<CnSlot, Table>,
    auth: Auth,
    tls: Arc<CnTls>,
    places: Arc<Semaphore>,
    to: mpsc::Sender<Reading>,
    /// Readers begun so far.
    readers: u64,
}

#[derive(Debug)]
struct Table {
    cn: Arc<Cn>,
    /// None while the CN is down.
    reader: Option<Reader>,
    /// None before the first reading that went well.
    accounts: Option<Arc<Accounts>>,
    /// Why the last reading came to nothing.
    failure: Option<String>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Reader {
    /// Tells it from earlier ones, of which a reading may still be on its way.
    number: u64,
    road: Road,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tables {
    /// No table yet; readings will go to `to`.
    pub fn new(auth: Auth, tls: Arc<CnTls>, to: mpsc::Sender<Reading>) -> Self {
        Self {
            by_slot: BTreeMap::new(),
            auth,
            tls,
            places: Arc::new(Semaphore::new(READINGS_MAX)),
            to,
            readers: 0,
        }
    }

    /// Reads just the CNs of `view` that have a table and are not down; true if fewer users may be known now.
    pub fn fit(&mut self, view: &View) -> bool {
        let before = self.by_slot.len();
        let Some(query) = &self.auth.query else {
            self.by_slot.clear();
            return before > 0;
        };
        let is_about = |cn: &Cn, slot: &CnSlot| view.cn(*slot).is_some_and(|now| is_same(cn, now));
        self.by_slot.retain(|slot, table| is_about(&table.cn, slot));
        let lost = self.by_slot.len() < before;
        for (nth, cn) in view.cns.iter().enumerate().filter(|(_, cn)| cn.flavour == Flavour::Mysql) {
            let table = self.by_slot.entry(cn.slot).or_insert_with(|| Table::new(cn.clone()));
            let road = Road::to(cn, &self.tls).filter(|_| cn.state != CnState::Down);
            if table.reader.as_ref().map(|reader| &reader.road) != road.as_ref() {
                table.reader = None;
            }
            if let (Some(road), None) = (road, &table.reader) {
                let pace = Pace::of(self.auth.query_interval, nth, view.cns.len());
                let (places, to) = (self.places.clone(), self.to.clone());
                self.readers += 1;
                let number = self.readers;
                let trusts = self.auth.trusts_cn_keys;
                let source = Source { road: road.clone(), account: query.clone(), trusts };
                let keep = keep_reading(source, pace, (cn.slot, number), places, to);
                table.reader = Some(Reader { number, road, task: tokio::spawn(keep) });
            }
        }
        lost
    }

    /// Takes over another account, interval or other TLS; what was read stays, as long as there is an account.
    pub fn set_auth(&mut self, auth: &Auth, tls: &Arc<CnTls>, view: &View) {
        if self.auth != *auth || self.tls != *tls {
            (self.auth, self.tls) = (auth.clone(), tls.clone());
            self.by_slot.values_mut().for_each(Table::start_anew);
            self.fit(view);
        }
    }

    /// Takes over a reading and says what is new; true if other users may be known now.
    pub fn learn(&mut self, reading: Reading) -> bool {
        let is_current =
            |table: &&mut Table| table.reader.as_ref().is_some_and(|reader| reader.number == reading.reader);
        let tables: Vec<_> = self.by_slot.values().filter_map(|table| table.accounts.clone()).collect();
        let Some(table) = self.by_slot.get_mut(&reading.slot).filter(is_current) else { return false };
        let accounts = match reading.accounts {
            Ok(accounts) => accounts,
            Err(error) => {
                table.fail(error.to_string());
                return false;
            }
        };
        let recovered = table.failure.take().is_some();
        let changed = table.accounts.as_deref() != Some(&accounts);
        if changed || recovered {
            info!("{}: its table of accounts was read: {accounts}", table.cn.id);
        }
        if changed {
            // CNs of one data set mostly have the same table, which is then held once.
            let same = tables.into_iter().find(|other| **other == accounts);
            table.accounts = Some(same.unwrap_or_else(|| Arc::new(accounts)));
        }
        changed
    }

    /// Whether every CN that is to be read has been read, or at least tried.
    pub fn all_tried(&self) -> bool {
        let tried = |table: &Table| table.accounts.is_some() || table.failure.is_some();
        self.by_slot.values().all(|table| table.reader.is_none() || tried(table))
    }

    /// The users of the configuration, with the hashes of all tables.
    pub fn add_to(&self, users: Users) -> Users {
        let mut tables: Vec<_> =
            self.by_slot.values().filter_map(|table| table.accounts.as_deref()).collect();
        tables.sort_by_key(|table| std::ptr::from_ref(*table));
        tables.dedup_by_key(|table| std::ptr::from_ref(*table));
        users.with_hashes(union(tables))
    }
}

impl Table {
    fn new(cn: Arc<Cn>) -> Self {
        Self { cn, reader: None, accounts: None, failure: None }
    }

    fn start_anew(&mut self) {
        (self.reader, self.failure) = (None, None);
    }

    fn fail(&mut self, cause: String) {
        if self.failure.as_ref() != Some(&cause) {
            warn!("{}: its table of accounts cannot be read: {cause}", self.cn.id);
            self.failure = Some(cause);
        }
    }
}

/// Whether what was read of one holds for the other.
fn is_same(a: &Cn, b: &Cn) -> bool {
    a.id == b.id && a.target == b.target && a.flavour == b.flavour
}

/// Where a table is read, and as whom.
struct Source {
    road: Road,
    account: Account,
    /// The public key that the CN shows is believed.
    trusts: bool,
}

/// When to read a CN: on a grid, so that the readings of many CNs stay apart.
#[derive(Clone, Copy)]
struct Pace {
    interval: Duration,
    offset: Duration,
}

impl Pace {
    /// That of the `nth` of `all` CNs.
    fn of(interval: Duration, nth: usize, all: usize) -> Self {
        Self { interval, offset: share(interval, nth, all) }
    }
}

async fn keep_reading(
    source: Source,
    pace: Pace,
    (slot, reader): (CnSlot, u64),
    places: Arc<Semaphore>,
    to: mpsc::Sender<Reading>,
) {
    let mut next = Instant::now() + pace.offset;
    loop {
        let place = places.acquire().await;
        let accounts = timeout(READING_LIMIT, read(&source)).await.unwrap_or(Err(Error::TimedOut));
        drop(place);
        if to.send(Reading { slot, reader, accounts }).await.is_err() {
            return;
        }
        while next <= Instant::now() {
            next += pace.interval;
        }
        sleep_until(next).await;
    }
}

/// Logs in, reads the table and says goodbye.
async fn read(source: &Source) -> Result<Accounts, Error> {
    let line = Line::open(&source.road, &source.account, source.trusts).await?;
    let (mut accounts, mut count, mut fits) = (Accounts::default(), 0, true);
    let take = |row: &Row| {
        count += 1;
        if count > ROWS_MAX {
            accounts.cut_short();
            return ControlFlow::Break(());
        }
        let [user, plugin, secret] = &row[..] else {
            fits = false;
            return ControlFlow::Break(());
        };
        let [user, plugin, secret] = [user, plugin, secret].map(|value| value.as_deref().unwrap_or_default());
        let Some(secret) = bytes(secret) else {
            fits = false;
            return ControlFlow::Break(());
        };
        accounts.take(user, plugin, &secret);
        ControlFlow::Continue(())
    };
    line.ask_each(&format!("{QUERY}{}", ROWS_MAX + 1), take).await?;
    if fits { Ok(accounts) } else { Err(Error::Form) }
}

/// What hexadecimal digits stand for.
fn bytes(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::settings::Settings;
    use crate::ident::SessionId;
    use crate::route::Target;
    use crate::route::view::tests::{cn, view};
    use crate::session::face::Face;
    use crate::wire::auth::NATIVE;
    use crate::wire::frame::write_packet;
    use crate::wire::greeting::SALT;

    const SECRET: &[u8] = b"*14E65567ABDB5135D0CFD9A70B3032C179A49EE7";

    fn auth() -> Auth {
        let query = Account { user: "monitor".into(), password: "secret".into() };
        Auth { query: Some(query), query_interval: Duration::from_secs(60), ..Settings::default().auth }
    }

    fn tls() -> Arc<CnTls> {
        Settings::default().cn_tls
    }

    /// Tables of CNs 0 and 1, which nothing can be read of.
    fn tables() -> (Tables, mpsc::Receiver<Reading>) {
        let (sender, receiver) = mpsc::channel(8);
        let mut tables = Tables::new(auth(), tls(), sender);
        tables.fit(&two(CnState::Working));
        (tables, receiver)
    }

    /// Two CNs, the second one in this state.
    fn two(state: CnState) -> View {
        let nowhere = |mut cn: Arc<Cn>, state| {
            let changed = Arc::get_mut(&mut cn).unwrap();
            (changed.target, changed.state) = (Some(Target::Unix("/nowhere".into())), state);
            cn
        };
        view([nowhere(cn(0, "cn0", &[]), CnState::Working), nowhere(cn(1, "cn1", &[]), state)])
    }

    fn read_of(slot: u16, users: &[&str]) -> Reading {
        let mut accounts = Accounts::default();
        users.iter().for_each(|user| accounts.take(user.as_bytes(), NATIVE.as_bytes(), SECRET));
        // The CNs' first readers have the numbers from 1 on.
        Reading { slot: CnSlot(slot), reader: u64::from(slot) + 1, accounts: Ok(accounts) }
    }

    fn knows(tables: &Tables, user: &str) -> bool {
        tables.add_to(Users::default()).hashes(user).is_some()
    }

    #[tokio::test]
    async fn what_was_read_holds_until_the_cn_is_gone() {
        let (mut tables, mut readings) = tables();
        assert!(!tables.all_tried());
        for _ in 0..2 {
            let reading = readings.recv().await.unwrap();
            assert!(matches!(reading.accounts, Err(Error::Line(_))), "{reading:?}");
            assert!(!tables.learn(reading));
        }
        assert!(tables.all_tried());
        assert!(tables.learn(read_of(0, &["app"])));
        assert!(!tables.learn(read_of(0, &["app"])), "nothing new");
        assert!(tables.learn(read_of(1, &["app", "web"])));
        assert!(!tables.learn(Reading { accounts: Err(Error::TimedOut), ..read_of(1, &[]) }));
        assert!(!tables.fit(&two(CnState::Down)));
        assert!(knows(&tables, "web"), "it may come back");
        assert!(!tables.learn(read_of(1, &[])), "read before it went down");
        tables.set_auth(
            &Auth { query_interval: Duration::from_secs(77), ..auth() },
            &tls(),
            &two(CnState::Down),
        );
        assert!(!tables.learn(read_of(0, &["old"])), "read by the account of before");
        assert!(tables.fit(&view([two(CnState::Down).cns[0].clone()])));
        assert!(knows(&tables, "app") && !knows(&tables, "web"));
        tables.set_auth(&Auth { query: None, ..auth() }, &tls(), &two(CnState::Working));
        assert!(!knows(&tables, "app"), "nobody is to be known any more");
    }

    #[tokio::test]
    async fn a_cn_that_comes_up_is_read_at_once() {
        let (mut tables, mut readings) = tables();
        for _ in 0..2 {
            tables.learn(readings.recv().await.unwrap());
        }
        tables.fit(&two(CnState::Down));
        tables.fit(&two(CnState::Working));
        let again =
            timeout(Duration::from_secs(5), readings.recv()).await.expect("no waiting for the interval");
        assert_eq!(again.unwrap().slot, CnSlot(1));
    }

    #[tokio::test]
    async fn one_table_of_many_cns_is_held_once() {
        let (mut tables, _readings) = tables();
        assert!(tables.learn(read_of(0, &["app"])) && tables.learn(read_of(1, &["app"])));
        let held: Vec<_> = tables.by_slot.values().filter_map(|table| table.accounts.as_ref()).collect();
        assert!(Arc::ptr_eq(held[0], held[1]));
        assert!(knows(&tables, "app"));
    }

    /// What is read of a CN that answers with one row of these values, after a login.
    async fn read_from(values: [&[u8]; 3]) -> Result<Accounts, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let text = |text: &[u8]| [&[text.len() as u8], text].concat();
        let column = [&b"\x03def\0\0\0\x01v\0\x0c\x21\0\0\x04\0\0\xfd\0\0\0\0\0"[..]; 3];
        let row = values.map(text).concat();
        let end = &b"\xfe\0\0\x02\0"[..];
        let answer = [&[&b"\x03"[..]][..], &column, &[end, &row, end]].concat();
        let cn = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let greeting = Face::default().greeting(&[b'a'; SALT], SessionId(7));
            let ok = &b"\0\0\0\x02\0\0\0"[..];
            for (first, packets) in [(0, vec![&greeting[..]]), (2, vec![ok]), (1, answer)] {
                let (mut bytes, mut number) = (Vec::new(), first);
                packets.iter().for_each(|packet| write_packet(&mut bytes, &mut number, packet));
                stream.write_all(&bytes).await.unwrap();
                let _ = stream.read(&mut [0; 512]).await.unwrap();
            }
        };
        let source = Source { road: Road::plain(target), account: auth().query.unwrap(), trusts: false };
        tokio::join!(cn, read(&source)).1
    }

    #[tokio::test]
    async fn hashes_are_read_as_bytes() {
        let salt = [0xff, 0, b'$', 0x80, 1].repeat(4);
        let stored = [b"$A$005$", &salt[..], &[b'd'; 43]].concat();
        let hex = stored.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let accounts = read_from([b"web", b"caching_sha2_password", hex.as_bytes()]).await.unwrap();
        let hashes = &union([&accounts])["web"];
        assert_eq!(hashes.sha2[0].hash, sha2_crypt::Sha2Hash::read(&stored).unwrap());
        let native = SECRET.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let accounts = read_from([b"web", NATIVE.as_bytes(), native.as_bytes()]).await.unwrap();
        assert_eq!(union([&accounts])["web"].native.len(), 1);
        for wrong in [SECRET, &hex.as_bytes()[1..]] {
            let read = read_from([b"web", NATIVE.as_bytes(), wrong]).await;
            assert!(matches!(read, Err(Error::Form)), "{read:?}");
        }
        assert_eq!(bytes(b""), Some(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_cn_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        let (sender, mut readings) = mpsc::channel(1);
        let pace = Pace { interval: Duration::from_secs(1), offset: Duration::ZERO };
        let source = Source { road: Road::plain(target), account: auth().query.unwrap(), trusts: false };
        let places = Arc::new(Semaphore::new(1));
        let task = tokio::spawn(keep_reading(source, pace, (CnSlot(0), 1), places, sender));
        let reading = readings.recv().await.unwrap();
        assert!(matches!(reading.accounts, Err(Error::TimedOut)), "{reading:?}");
        task.abort();
    }
}
