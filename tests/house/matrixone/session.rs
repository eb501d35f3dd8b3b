//! A session on a scripted CN: a little SQL, prepared statements by name, marked statuses.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::proto::Field;
use super::{Fault, House};
use crate::house::client::frames;
use crate::house::scripted::{err_packet, read_frame};

const MARK: u16 = 0x0810;
const AUTOCOMMIT: u16 = 2;
const IN_TRANS: u16 = 1;

#[derive(Clone, Debug, Default)]
pub struct MoSession {
    pub connection: u64,
    pub schema: String,
    pub settings: Vec<String>,
    /// Text and types by name.
    pub prepared: BTreeMap<String, (String, Vec<u8>)>,
    pub last_statement: u32,
    pub in_transaction: bool,
    /// Any query begins a transaction.
    pub without_autocommit: bool,
    pub transferred: bool,
    pub imported: bool,
    /// A KILL has named it; `true`: with its connection.
    pub killed: Option<bool>,
}

impl MoSession {
    /// As the CN prepares again what another has told of.
    pub fn take_statement(&mut self, fields: &[(u64, Field)]) {
        let find = |tag| fields.iter().find(|(found, _)| *found == tag).map(|(_, field)| field);
        let text = |tag| find(tag).map(Field::text).unwrap_or_default();
        let (name, types) = (text(1), find(3).map(Field::bytes).unwrap_or_default());
        if let Some(id) = name.strip_prefix("__mo_stmt_id_").and_then(|id| id.parse().ok()) {
            self.last_statement = self.last_statement.max(id);
        }
        self.prepared.insert(name, (text(2), types));
    }
}

/// What becomes of a command.
enum Answer {
    Packets(Vec<Vec<u8>>),
    Nothing,
    Close,
}

impl House {
    pub fn converse(&self, stream: &mut TcpStream, id: u32, deprecates_eof: bool) -> std::io::Result<()> {
        loop {
            let (sequence, command) = read_frame(stream)?;
            if sequence != 0 {
                self.look(|seen| seen.odd.push(format!("a command with number {sequence}")));
            }
            let packets = match self.command(id, &command, deprecates_eof) {
                Answer::Packets(packets) => packets,
                Answer::Nothing => continue,
                Answer::Close => return Ok(()),
            };
            // Whatever was sent ahead is lost: reading and writing share a buffer.
            stream.set_nonblocking(true)?;
            let ahead = std::io::Read::read(stream, &mut [0; 4096]);
            stream.set_nonblocking(false)?;
            if let Ok(bytes @ 1..) = ahead {
                self.look(|seen| seen.odd.push(format!("{bytes} bytes were sent ahead")));
            }
            let numbers = (0..=u8::MAX).cycle().skip(1);
            let bytes = packets.iter().zip(numbers).flat_map(|(packet, number)| frames(number, packet));
            stream.write_all(&bytes.collect::<Vec<_>>())?;
        }
    }

    fn command(&self, id: u32, command: &[u8], deprecates_eof: bool) -> Answer {
        let text = String::from_utf8_lossy(&command[1..]).into_owned();
        match command[0] {
            1 => Answer::Close,
            2 => self.change(id, |session| session.schema = text),
            3 => self.query(id, &text, deprecates_eof),
            14 => self.change(id, |_| {}),
            0x18 => Answer::Nothing,
            0x16 => self.prepare(id, &text, deprecates_eof),
            0x17 => self.execute(id, command, deprecates_eof),
            0x19 => {
                let statement = statement_id(command);
                let known =
                    self.session(id, |session| session.prepared.remove(&name_of(statement)).is_some());
                if known { Answer::Nothing } else { unknown_statement(statement) }
            }
            other => error(20101, &format!("internal error: unsupported command. {other:#x}")),
        }
    }

    fn session<T: Default>(&self, id: u32, act: impl FnOnce(&mut MoSession) -> T) -> T {
        self.look(|seen| seen.sessions.get_mut(&id).map(act).unwrap_or_default())
    }

    /// A command that is answered by an OK.
    fn change(&self, id: u32, change: impl FnOnce(&mut MoSession)) -> Answer {
        let status = self.session(id, |session| {
            change(session);
            status(session)
        });
        Answer::Packets(vec![ok(0, status)])
    }

    fn query(&self, id: u32, text: &str, deprecates_eof: bool) -> Answer {
        self.look(|seen| seen.statements.push((id, text.to_owned())));
        let lower = text.trim_end_matches(';').to_ascii_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        match &words[..] {
            ["/*", "cloud_nonuser", "*/", "set", "transferred=1"] => self.transferred(id),
            ["set", ..] => self.set(id, text),
            ["use", schema] => self.change(id, |session| session.schema = (*schema).to_owned()),
            ["begin"] => self.change(id, |session| session.in_transaction = true),
            ["commit" | "rollback"] => self.change(id, |session| session.in_transaction = false),
            ["insert", ..] => Answer::Packets(vec![ok(9, self.session(id, status))]),
            ["kill", "query", target] => self.kill(target, false),
            ["kill", "connection", target] | ["kill", target] => self.kill(target, true),
            ["select", "sleep()"] => self.sleep(id),
            ["select", "database()"] => {
                let schema = self.session(id, |session| session.schema.clone());
                self.row(id, &schema, deprecates_eof)
            }
            ["select", "state()"] => {
                let state = self.session(id, |session| {
                    format!(
                        "{} [{}] {:?}",
                        session.schema,
                        session.settings.join("; "),
                        session.prepared.keys()
                    )
                });
                self.row(id, &state, deprecates_eof)
            }
            ["select", "whoami()"] => self.row(id, &format!("{} {id}", self.name), deprecates_eof),
            ["select", ..] => self.row(id, "1", deprecates_eof),
            _ => error(1064, "SQL parser error"),
        }
    }

    fn transferred(&self, id: u32) -> Answer {
        if self.is(Fault::DiesAtTransfer) {
            return Answer::Close;
        }
        if self.is(Fault::RefusesTransfer) {
            return error(20101, "internal error: the system variable does not exist");
        }
        self.change(id, |session| session.transferred = true)
    }

    fn set(&self, id: u32, text: &str) -> Answer {
        let again = self.session(id, |session| session.transferred);
        if again && self.is(Fault::DiesAtSetting) {
            return Answer::Close;
        }
        if text.contains("nosuch") || (again && self.is(Fault::RefusesSetting)) {
            return error(20101, "internal error: the system variable does not exist");
        }
        let autocommit = text.to_ascii_lowercase().replace(' ', "");
        self.change(id, |session| {
            if let Some(value) = autocommit.strip_prefix("setautocommit=") {
                session.without_autocommit = value == "0";
            }
            session.settings.push(text.to_owned());
        })
    }

    fn kill(&self, target: &str, connection: bool) -> Answer {
        let Ok(target) = target.parse() else { return error(1064, "SQL parser error") };
        let found = self.look(|seen| {
            let session = seen.sessions.get_mut(&target)?;
            session.killed = Some(connection);
            seen.killed.push(target);
            Some(())
        });
        match found {
            Some(()) => Answer::Packets(vec![ok(0, MARK | AUTOCOMMIT)]),
            None => error(20101, &format!("internal error: Unknown connection id {target}")),
        }
    }

    /// Until it is killed, but not for ever.
    fn sleep(&self, id: u32) -> Answer {
        for _ in 0..1500 {
            match self.session(id, |session| session.killed.take()) {
                Some(true) => return Answer::Close,
                Some(false) => return error(1105, "context canceled"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        error(1105, "nobody killed it")
    }

    fn prepare(&self, id: u32, text: &str, deprecates_eof: bool) -> Answer {
        let parameters = text.bytes().filter(|byte| *byte == b'?').count() as u8;
        let statement = self.session(id, |session| {
            session.last_statement += 1;
            session.prepared.insert(name_of(session.last_statement), (text.to_owned(), Vec::new()));
            session.last_statement
        });
        let mut packets =
            vec![[&[0][..], &statement.to_le_bytes(), &[1, 0, parameters, 0, 0, 0, 0]].concat()];
        for count in [parameters, 1] {
            packets.extend((0..count).map(|_| definition()));
            if count > 0 && !deprecates_eof {
                packets.push(b"\xfe\0\0\x02\0".to_vec());
            }
        }
        Answer::Packets(packets)
    }

    fn execute(&self, id: u32, command: &[u8], deprecates_eof: bool) -> Answer {
        let statement = statement_id(command);
        let text = self.session(id, |session| {
            let (text, types) = session.prepared.get_mut(&name_of(statement))?;
            // One parameter at most: null bitmap, flag, type.
            if text.contains('?') && command.get(11) == Some(&1) {
                *types = command[12..14].to_vec();
            }
            let typed = !text.contains('?') || !types.is_empty();
            typed.then(|| text.clone())
        });
        match text {
            Some(text) => self.result(id, &[&[0, 0][..], &lenenc(&text)].concat(), deprecates_eof),
            None => unknown_statement(statement),
        }
    }

    fn row(&self, id: u32, value: &str, deprecates_eof: bool) -> Answer {
        self.result(id, &lenenc(value), deprecates_eof)
    }

    /// A result of one column and one row. Only its end is marked.
    fn result(&self, id: u32, row: &[u8], deprecates_eof: bool) -> Answer {
        let status = self.session(id, |session| {
            session.in_transaction |= session.without_autocommit;
            status(session)
        });
        let status = status.to_le_bytes();
        let mut packets = vec![vec![1], definition()];
        if !deprecates_eof {
            packets.push(b"\xfe\0\0\x02\0".to_vec());
        }
        packets.push(row.to_vec());
        packets.push(match deprecates_eof {
            true => [&[0xfe, 0, 0][..], &status, &[0, 0]].concat(),
            false => [&[0xfe, 0, 0][..], &status].concat(),
        });
        Answer::Packets(packets)
    }
}

fn status(session: &mut MoSession) -> u16 {
    let autocommit = if session.without_autocommit { 0 } else { AUTOCOMMIT };
    MARK | autocommit | if session.in_transaction { IN_TRANS } else { 0 }
}

fn ok(insert_id: u8, status: u16) -> Vec<u8> {
    [&[0, 0, insert_id][..], &status.to_le_bytes(), &[0, 0]].concat()
}

fn definition() -> Vec<u8> {
    b"\x03def\0\0\0\x01v\0\x0c\x2d\0\0\x04\0\0\xfd\0\0\0\0\0".to_vec()
}

fn lenenc(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 251).expect("a short value");
    [&[length], text.as_bytes()].concat()
}

fn error(code: u16, message: &str) -> Answer {
    Answer::Packets(vec![err_packet(code, "HY000", message)])
}

fn unknown_statement(id: u32) -> Answer {
    error(20400, &format!("invalid state prepared statement '__mo_stmt_id_{id}' does not exist"))
}

fn statement_id(command: &[u8]) -> u32 {
    u32::from_le_bytes(command[1..5].try_into().expect("a statement id"))
}

fn name_of(id: u32) -> String {
    format!("__mo_stmt_id_{id}")
}
