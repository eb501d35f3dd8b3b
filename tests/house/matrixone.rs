//! A scripted CN of MatrixOne's, for what a real one cannot be made to do on demand: it takes the preamble of a proxy and checks each
//! field, judges passwords by the salt in it, marks its statuses, answers a little SQL, and has a query service that gives and takes
//! sessions. A [`Fault`] makes it fail at one step.
//!
//! As far as it goes it answers as MatrixOne 4.1.0 was seen to: the numbers of packets, the words of errors, the marks (`0x0810` in
//! OKs and in EOFs that end a result, not in those behind definitions), replies that are lost where commands are sent ahead.

mod hakeeper;
mod proto;
mod query;
mod session;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::{frames, native_scramble};
use super::scripted::{ScriptedCn, err_packet, handshake_v10, let_in, read_frame};
pub use hakeeper::LogService;
pub use session::MoSession;

/// The password of every user.
pub const MO_PASSWORD: &str = "111";
/// How long a CN waits for a preamble.
const PREAMBLE_LIMIT: Duration = Duration::from_millis(200);
const OWN_SALT: &[u8; 20] = b"ABCDEFGHIJKLMNOPQRST";
/// 0x013ba68f: no session tracking, no compression, with DEPRECATE_EOF.
const CAPABILITIES: u32 = 0x013b_a68f;

/// Where a CN fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes no preambles: `proxy-enabled` is off.
    IgnoresPreamble,
    DiesAtPreamble,
    RefusesLogin,
    SwitchesPlugin,
    DiesAtLogin,
    SilentAtLogin,
    RefusesTransfer,
    DiesAtTransfer,
    RefusesSetting,
    DiesAtSetting,
    QueryServiceDies,
    VersionIs(i64),
    ExportFails,
    ExportDies,
    ExportIsSilent,
    /// It tells of state that only newer versions know.
    ExportTellsMore,
    ImportFails,
    ImportDies,
    ImportIsSilent,
    ImportDoesNothing,
    LosesSchema,
}

/// A preamble as it was taken apart, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenPreamble {
    pub salt: Vec<u8>,
    pub internal: bool,
    pub connection_id: u32,
    /// Sorted.
    pub labels: Vec<(String, String)>,
    pub client: String,
}

/// What a CN has seen and done.
#[derive(Default)]
pub struct Seen {
    pub sessions: HashMap<u32, MoSession>,
    pub preambles: Vec<TakenPreamble>,
    /// Sequence number and payload of each login packet.
    pub logins: Vec<(u8, Vec<u8>)>,
    /// Statements of all sessions, with their connection ids.
    pub statements: Vec<(u32, String)>,
    pub exported: Vec<u32>,
    /// The most that were asked for at the same time.
    pub exports_at_once: usize,
    pub imported: Vec<u32>,
    pub killed: Vec<u32>,
    /// Whatever a real CN would not have understood.
    pub odd: Vec<String>,
}

pub struct MatrixoneCn {
    pub name: String,
    sql: ScriptedCn,
    query: ScriptedCn,
    house: Arc<House>,
}

/// What all connections of one CN share.
struct House {
    name: String,
    seen: Mutex<Seen>,
    fault: Mutex<Option<Fault>>,
    version: AtomicI64,
    /// How long the query service takes to tell of a session.
    export_ms: AtomicU64,
    exporting: AtomicUsize,
    dead: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// Connections so far, to tell a session from an earlier one of the same id.
    connections: AtomicU64,
}

impl MatrixoneCn {
    pub fn start(name: &str) -> Self {
        let house = Arc::new(House {
            name: name.to_owned(),
            seen: Mutex::default(),
            fault: Mutex::default(),
            version: AtomicI64::new(4),
            export_ms: AtomicU64::new(0),
            exporting: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            streams: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let (sql, query) = (house.clone(), house.clone());
        let sql = ScriptedCn::start(move |mut stream, _| {
            let _ = sql.serve(&mut stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
        let query = ScriptedCn::start(move |mut stream, _| _ = query.answer_queries(&mut stream));
        Self { name: name.to_owned(), sql, query, house }
    }

    /// Its `[[cn]]` table; `labels` is the inside of an inline table.
    pub fn toml(&self, labels: &str) -> String {
        format!(
            "[[cn]]\nid = \"{}\"\naddress = \"{}\"\nflavour = \"matrixone\"\nquery_address = \"{}\"\n\
             labels = {{ {labels} }}\n",
            self.name,
            self.sql.address(),
            self.query.address()
        )
    }

    pub fn fails(&self, fault: impl Into<Option<Fault>>) {
        let fault = fault.into();
        let version = if let Some(Fault::VersionIs(version)) = fault { version } else { 4 };
        self.house.version.store(version, Ordering::SeqCst);
        *self.house.fault.lock().expect("the fault") = fault;
    }

    /// Has the query service take so long to tell of a session.
    pub fn takes_to_export(&self, time: Duration) {
        self.house.export_ms.store(time.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.house.seen.lock().expect("what was seen"))
    }

    /// Closes all connections, and takes no more.
    pub fn die(self) {
        self.house.dead.store(true, Ordering::SeqCst);
        drop((self.sql, self.query));
        for stream in self.house.streams.lock().expect("the streams").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn sessions(&self) -> usize {
        self.look(|seen| seen.sessions.len())
    }
}

/// Lets in whoever sends no preamble, and then runs `script`. A probe is only greeted.
pub fn seating_behind_preamble(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> ScriptedCn {
    ScriptedCn::start(move |mut stream, _| match read_preamble(&mut stream) {
        Ok(Some(fields)) => {
            let preamble = proto::preamble(&fields).expect("a preamble");
            let _ = stream.write_all(&frames(0, &greeting(&preamble.salt, preamble.connection_id)));
            let _ = stream.read(&mut [0; 16]);
        }
        Ok(None) if let_in(&mut stream, super::scripted::CAPABILITIES).is_ok() => script(&mut stream),
        _ => {}
    })
}

/// Waits for a preamble, no longer than a real CN does.
fn read_preamble(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    stream.set_read_timeout(Some(PREAMBLE_LIMIT))?;
    let mut length = [0; 2];
    let heard = stream.read_exact(&mut length);
    let mut fields = vec![0; usize::from(u16::from_le_bytes(length))];
    let heard = heard.and_then(|()| stream.read_exact(&mut fields));
    stream.set_read_timeout(None)?;
    Ok(heard.is_ok().then_some(fields))
}

impl House {
    fn is(&self, fault: Fault) -> bool {
        *self.fault.lock().expect("the fault") == Some(fault)
    }

    fn look<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().expect("what was seen"))
    }

    fn serve(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.streams.lock().expect("the streams").push(stream.try_clone()?);
        let preamble = self.take_preamble(stream)?;
        if self.is(Fault::DiesAtPreamble) {
            return Ok(());
        }
        let (salt, id) = match &preamble {
            Some(preamble) => (preamble.salt.clone(), preamble.connection_id),
            None => (OWN_SALT.to_vec(), 1),
        };
        stream.write_all(&frames(0, &greeting(&salt, id)))?;
        let (sequence, login) = read_frame(stream)?;
        let database = match self.judge_login(stream, &salt, sequence, &login)? {
            Some(database) => database,
            None => return Ok(()),
        };
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        let session = MoSession { connection, schema: database, ..MoSession::default() };
        self.look(|seen| _ = seen.sessions.insert(id, session));
        let deprecates = u32::from_le_bytes(login[..4].try_into().expect("capabilities")) & (1 << 24) != 0;
        let ended = self.converse(stream, id, deprecates);
        self.look(|seen| {
            if seen.sessions.get(&id).is_some_and(|session| session.connection == connection) {
                seen.sessions.remove(&id);
            }
        });
        ended
    }

    /// Waits for a preamble and takes it apart.
    fn take_preamble(&self, stream: &mut TcpStream) -> std::io::Result<Option<TakenPreamble>> {
        if self.is(Fault::IgnoresPreamble) {
            return Ok(None);
        }
        let Some(fields) = read_preamble(stream)? else { return Ok(None) };
        // Whatever came with it is lost, as its reader is thrown away.
        let taken = proto::preamble(&fields);
        match taken {
            Ok(preamble) => {
                self.look(|seen| seen.preambles.push(preamble.clone()));
                Ok(Some(preamble))
            }
            Err(odd) => {
                self.look(|seen| seen.odd.push(format!("preamble: {odd}")));
                Ok(None)
            }
        }
    }

    /// Gives the schema of a login that is let in.
    fn judge_login(
        &self,
        stream: &mut TcpStream,
        salt: &[u8],
        sequence: u8,
        login: &[u8],
    ) -> std::io::Result<Option<String>> {
        self.look(|seen| seen.logins.push((sequence, login.to_vec())));
        let next = sequence.wrapping_add(1);
        if self.is(Fault::DiesAtLogin) {
            return Ok(None);
        }
        if self.is(Fault::SilentAtLogin) {
            let _ = stream.read(&mut [0; 16]);
            return Ok(None);
        }
        if self.is(Fault::SwitchesPlugin) {
            stream.write_all(&frames(next, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"))?;
            let _ = stream.read(&mut [0; 16]);
            return Ok(None);
        }
        let (user, answer, database) = proto::login(login);
        let expected = native_scramble(MO_PASSWORD, salt);
        if self.is(Fault::RefusesLogin) || answer != expected {
            let text = format!("Access denied for user {user}. internal error: check password failed");
            stream.write_all(&frames(next, &err_packet(1045, "28000", &text)))?;
            return Ok(None);
        }
        // The mark, and not even autocommit.
        stream.write_all(&frames(next, b"\0\0\0\x10\x08\0\0"))?;
        Ok(Some(database))
    }
}

fn greeting(salt: &[u8], id: u32) -> Vec<u8> {
    handshake_v10("8.0.30-MatrixOne-v4.1.0", id, salt, CAPABILITIES, 46)
}
