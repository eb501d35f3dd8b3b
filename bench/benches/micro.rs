//! Micro-benchmarks of what every relayed message pays: following the dialog, reading SQL, and framing of cold
//! packets.
//!
//! `cargo bench -p corelane-bench` prints, for each case, the fastest and the middle of many batches; on a shared machine the
//! fastest is the one to compare. Nothing here touches the kernel but for the clock. Run as a test, each case runs once.

#[path = "../src/protocol.rs"]
#[allow(dead_code, unused_imports)]
mod protocol;

use std::hint::black_box;
use std::time::{Duration, Instant};

use corelane::session::dialog::{Dialog, Watch, Watched};
use corelane::session::state::{Context, Known, State};
use corelane::session::tracking::{Beginning, Wishes};
use corelane::sql::{self, Modes};
use corelane::wire::capability::Capabilities;
use corelane::wire::frame::{self, PacketReader};
use corelane::wire::status::Status;

/// Batches of each case.
const BATCHES: usize = 200;
/// How long a batch should take, so that reading the clock weighs nothing.
const BATCH: Duration = Duration::from_millis(2);

fn main() {
    // `cargo bench` says so; `cargo test --benches` does not.
    let measure = std::env::args().any(|argument| argument == "--bench");
    let cases = Cases { measure };
    cases.dialog_point_query();
    cases.dialog_split_reply();
    cases.dialog_pipeline();
    cases.dialog_watched("dialog: watched point query", &query());
    cases.dialog_watched("dialog: watched execution, one parameter", &execution(1));
    cases.dialog_watched("dialog: watched execution, no parameter", &execution(2));
    cases.dialog_rows("dialog: 64 KiB of a result, 100-byte rows", 100);
    cases.dialog_rows("dialog: 64 KiB of a result, 1 KiB rows", 1024);
    cases.read_packets();
    cases.write_packet();
    cases.read_sql("sql: BEGIN", b"BEGIN");
    cases.read_sql("sql: point select of 60 bytes", POINT_SELECT);
    cases.read_sql("sql: insert of 64 KiB in one literal", &insert("x", 64 << 10));
    cases.read_sql("sql: insert of 64 KiB in rows", &insert("1, 'abcdefgh', 2.5, NULL), (", 64 << 10));
}

const POINT_SELECT: &[u8] = b"SELECT answer, other, third FROM table1 WHERE id = 100 AND 1";

struct Cases {
    measure: bool,
}

impl Cases {
    /// A query of 40 bytes and its reply of 200, each in one chunk.
    fn dialog_point_query(&self) {
        let mut dialog = dialog();
        let (query, reply) = (query(), protocol::result_set(true, 200, false));
        self.time("dialog: point query and reply, one chunk each", 1, || {
            round_trip(&mut dialog, &query, &[&reply], 1);
        });
    }

    /// The same reply cut within a frame's header.
    fn dialog_split_reply(&self) {
        let mut dialog = dialog();
        let (query, reply) = (query(), protocol::result_set(true, 200, false));
        let (head, tail) = reply.split_at(7);
        self.time("dialog: point query, reply cut in a header", 1, || {
            round_trip(&mut dialog, &query, &[head, tail], 1);
        });
    }

    fn dialog_pipeline(&self) {
        let mut dialog = dialog();
        let (queries, replies) = (query().repeat(16), protocol::result_set(true, 200, false).repeat(16));
        self.time("dialog: one of 16 pipelined point queries", 16, || {
            round_trip(&mut dialog, &queries, &[&replies], 16);
        });
    }

    /// A command of a session that may move.
    fn dialog_watched(&self, name: &str, command: &[u8]) {
        let (mut dialog, reply) = (watched(), protocol::result_set(true, 200, false));
        self.time(name, 1, || round_trip(&mut dialog, command, &[&reply], 1));
    }

    /// A whole result set of about 64 KiB, told by the chunk.
    fn dialog_rows(&self, name: &str, row_bytes: usize) {
        let mut dialog = dialog();
        let (query, reply) = (query(), rows(row_bytes));
        self.time(name, 1, || round_trip(&mut dialog, &query, &[&reply], 1));
    }

    fn read_packets(&self) {
        let reply = protocol::result_set(true, 200, false);
        self.time("frame: gather the 4 packets of a reply", 1, || {
            let mut reader = PacketReader::new(1 << 20);
            reader.expect(1);
            reader.push(black_box(&reply));
            let mut packets = 0;
            while let Some(packet) = reader.take().expect("the reply is well formed") {
                black_box(packet);
                packets += 1;
            }
            assert_eq!(packets, 4);
        });
    }

    fn write_packet(&self) {
        let mut out: Vec<u8> = Vec::with_capacity(256);
        self.time("frame: write a packet of 36 bytes", 1, || {
            out.clear();
            let mut sequence = 0;
            frame::write_packet(&mut out, &mut sequence, black_box(&[3; 36]));
            assert_eq!(black_box(&out).len(), 40);
        });
    }

    /// The effects of a whole text that has none.
    fn read_sql(&self, name: &str, text: &[u8]) {
        self.time(name, 1, || {
            let effects = sql::effects(black_box(text), Modes::default());
            assert!(effects.is_plain(), "{effects:?}");
        });
    }

    /// Prints nanoseconds for one of the `parts` of a call of `work`.
    fn time(&self, name: &str, parts: u32, mut work: impl FnMut()) {
        work();
        if !self.measure {
            println!("{name}: ran");
            return;
        }
        let calls = calls_in_a_batch(&mut work);
        let mut batches: Vec<f64> = (0..BATCHES)
            .map(|_| {
                let begin = Instant::now();
                (0..calls).for_each(|_| work());
                begin.elapsed().as_secs_f64() * 1e9 / f64::from(calls * parts)
            })
            .collect();
        batches.sort_by(f64::total_cmp);
        println!("{name:<48} fastest {:>9.1} ns   middle {:>9.1} ns", batches[0], batches[BATCHES / 2]);
    }
}

fn calls_in_a_batch(work: &mut impl FnMut()) -> u32 {
    let mut calls = 1;
    loop {
        let begin = Instant::now();
        (0..calls).for_each(|_| work());
        if begin.elapsed() >= BATCH || calls > 1 << 24 {
            return calls;
        }
        calls *= 2;
    }
}

/// One query, or several pipelined ones, and the replies; the dialog has to be idle again.
fn round_trip(dialog: &mut Dialog, query: &[u8], reply: &[&[u8]], expected: u32) {
    let asked = dialog.client_bytes(black_box(query)).commands;
    let replies: u32 = reply.iter().map(|chunk| dialog.cn_bytes(black_box(chunk)).replies).sum();
    assert!(asked == expected && replies == expected && dialog.idle(), "the dialog lost its place");
}

fn dialog() -> Dialog {
    Dialog::new(agreed(), Status::AUTOCOMMIT)
}

fn agreed() -> Capabilities {
    Capabilities::PROTOCOL_41 | Capabilities::SESSION_TRACK | Capabilities::DEPRECATE_EOF
}

/// The same of a session that may move, and that has prepared statement 1 with a parameter and statement 2 without.
fn watched() -> Dialog {
    let mut dialog = dialog();
    let known = |value: &str| Known::from(value.as_bytes());
    let context = Context {
        schema: Box::default(),
        sql_mode: known(""),
        client: known("utf8mb4"),
        connection: known("utf8mb4"),
        collation: known("utf8mb4_general_ci"),
    };
    let beginning = Beginning { wishes: Wishes::none(), context };
    let state = State::new(agreed(), true, beginning, None);
    dialog.watch(Watch::On(Box::new(Watched::new(state, agreed(), agreed()))));
    for (statement, text, parameters) in [(1, "SELECT a FROM t WHERE id = ?", 1), (2, "SELECT a FROM t", 0)] {
        let ok = [0, statement, 0, 0, 0, 0, 0, parameters, 0, 0, 0, 0];
        let mut reply = protocol::command(ok[0], &ok[1..]);
        reply[3] = 1;
        if parameters > 0 {
            let definition = b"\x03def\0\0\0\x01?\0\x0c\x3f\0\0\0\0\0\xfd\x80\0\0\0\0";
            protocol::put_frame(&mut reply, 2, definition);
        }
        round_trip(&mut dialog, &protocol::command(0x16, text.as_bytes()), &[&reply], 1);
    }
    dialog
}

/// An execution of statement 1 with a number, which tells its type, or of statement 2.
fn execution(statement: u8) -> Vec<u8> {
    let mut argument = vec![statement, 0, 0, 0, 0, 1, 0, 0, 0];
    if statement == 1 {
        argument.extend([0, 1, 3, 0, 7, 0, 0, 0]);
    }
    protocol::command(0x17, &argument)
}

fn query() -> Vec<u8> {
    protocol::command(protocol::COM_QUERY, b"SELECT answer FROM t WHERE id = 100")
}

/// An INSERT of about `bytes`: of rows if the part has quotes, else of one literal.
fn insert(part: &str, bytes: usize) -> Vec<u8> {
    let quote = if part.contains('\'') { "" } else { "'" };
    let parts = part.repeat(bytes / part.len());
    format!("INSERT INTO t VALUES ({quote}{parts}{quote})").into_bytes()
}

/// A result set of 64 KiB of rows whose payload has `row_bytes`.
fn rows(row_bytes: usize) -> Vec<u8> {
    let (mut out, mut sequence) = protocol::result_head(true);
    // One string with its length in front, in one byte or three.
    let row = if row_bytes < 260 {
        let mut row = vec![b'x'; row_bytes];
        row[0] = row_bytes as u8 - 1;
        row
    } else {
        protocol::long_row(row_bytes)
    };
    while out.len() < 64 << 10 {
        protocol::put_frame(&mut out, sequence, &row);
        sequence = sequence.wrapping_add(1);
    }
    out.extend(protocol::result_tail(true, sequence));
    out
}
