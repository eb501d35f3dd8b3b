//! One admin session after its login: reads a command, answers a result set.
//!
//! Beside admin statements it answers what ordinary clients send by themselves when they connect ([`courtesy`]).

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::timeout;

use super::courtesy;
use super::grammar::{self, Command, Item, Show, Value};
use super::line::{Error, Line};
use super::pattern::Pattern;
use super::show::{self, Cell, Column, Kind, Table};
use crate::coordinator::desk::{Closed, Desk, Operation};
use crate::wire::capability::Capabilities;
use crate::wire::reply::{ErrPacket, OkPacket};
use crate::wire::resultset::ColumnDefinition;

/// How long a session may be silent between two commands: `wait_timeout`'s default in MySQL.
pub const SILENCE_MAX: Duration = Duration::from_secs(28_800);

/// SERVER_STATUS_AUTOCOMMIT
pub const STATUS: u16 = 2;

/// Who has logged in.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: u32,
    pub user: String,
    /// Where it connected from.
    pub host: String,
    pub database: Option<String>,
    /// What the client and this door both speak.
    pub capabilities: Capabilities,
}

/// An ERR packet's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub sqlstate: &'static [u8; 5],
    pub message: String,
}

/// Serves commands until the client leaves.
pub async fn serve(line: &mut Line, mut client: Client, desk: &Desk) -> Result<(), Error> {
    loop {
        let Ok(packet) = timeout(SILENCE_MAX, line.receive_command()).await else { return Ok(()) };
        let packet = packet?;
        let (command, argument) = packet.split_first().map_or((COM_SLEEP, &[][..]), |(c, a)| (*c, a));
        match command {
            COM_QUIT => return Ok(()),
            COM_PING | COM_SET_OPTION | COM_RESET_CONNECTION => put_ok(line, &client),
            COM_INIT_DB => {
                client.database = Some(String::from_utf8_lossy(argument).into_owned());
                put_ok(line, &client);
            }
            COM_STATISTICS => line.put(|out| out.extend_from_slice(courtesy::statistics(desk).as_bytes())),
            COM_QUERY => answer(line, &client, desk, &String::from_utf8_lossy(argument)).await,
            other => put_refusal(line, &client, &unknown_command(other)),
        }
        line.send().await?;
    }
}

pub fn put_ok(line: &mut Line, client: &Client) {
    let ok = OkPacket { status: STATUS, ..OkPacket::default() };
    line.put(|out| ok.write(out, client.capabilities));
}

/// An OK that says in words what was done.
fn put_done(line: &mut Line, client: &Client, said: &str) {
    let ok = OkPacket { status: STATUS, info: said.as_bytes(), ..OkPacket::default() };
    line.put(|out| ok.write(out, client.capabilities));
}

pub fn put_refusal(line: &mut Line, client: &Client, refusal: &Refusal) {
    let Refusal { code, sqlstate, message } = refusal;
    let err = ErrPacket { code: *code, sqlstate: Some(**sqlstate), message: message.as_bytes() };
    line.put(|out| err.write(out, client.capabilities));
}

fn put_table(line: &mut Line, client: &Client, table: &Table) {
    let columns: Vec<_> = table.columns.iter().map(definition).collect();
    line.put_result_set(client.capabilities, STATUS, &columns, |set| {
        for row in &table.rows {
            let values: Vec<_> = row.iter().map(text).collect();
            set.row(values.iter().map(|value| value.as_deref().map(str::as_bytes)));
        }
    });
}

fn definition(column: &Column) -> ColumnDefinition<'_> {
    match column.kind {
        Kind::Text => ColumnDefinition::text(&column.name),
        Kind::Number => {
            let integer = ColumnDefinition::integer(&column.name);
            ColumnDefinition { flags: UNSIGNED, ..integer }
        }
    }
}

/// A cell as a text row has it; none is NULL.
fn text(cell: &Cell) -> Option<Cow<'_, str>> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.into()),
        Cell::Number(n) => Some(n.to_string().into()),
    }
}

async fn answer(line: &mut Line, client: &Client, desk: &Desk, text: &str) {
    let table = match grammar::parse(text) {
        Ok(Command::Nothing) => return put_ok(line, client),
        Ok(Command::Show { what, like }) => show(what, like.as_ref(), desk).await,
        Ok(Command::Operate(operation)) => match operate(operation, desk).await {
            Ok(said) => return put_done(line, client, &said),
            Err(refusal) => Err(refusal),
        },
        Ok(Command::Select(items)) => select(items, client, desk).await,
        Err(error) => Err(Refusal { code: 1064, sqlstate: b"42000", message: error.to_string() }),
    };
    match table {
        Ok(table) => put_table(line, client, &table),
        Err(refusal) => put_refusal(line, client, &refusal),
    }
}

async fn show(what: Show, like: Option<&Pattern>, desk: &Desk) -> Result<Table, Refusal> {
    let table = match what {
        Show::Cns => show::cns(&desk.cns().await?, like),
        Show::Sessions => show::sessions(&desk.sessions().await?, like),
        Show::Workers => show::workers(desk.workers(), like),
        Show::Holds => show::holds(&desk.sessions().await?, like),
        Show::Moves => show::moves(desk.workers(), like),
        Show::Hosts => show::hosts(&desk.hosts(), like),
        Show::Version => show::version(desk.workers().len(), desk.started().elapsed()),
        Show::Variables => courtesy::variables(like),
        Show::Status => courtesy::status(desk, like),
        Show::Databases => courtesy::databases(),
        Show::Warnings => courtesy::warnings(),
    };
    Ok(table)
}

impl From<Closed> for Refusal {
    fn from(closed: Closed) -> Self {
        Self { code: 1053, sqlstate: b"08S01", message: closed.to_string() }
    }
}

/// Has something done, and gives what came of it in words.
async fn operate(operation: Operation, desk: &Desk) -> Result<String, Refusal> {
    let failed = |message| Refusal { code: 1105, sqlstate: b"HY000", message };
    desk.operate(operation).await?.map_err(failed)
}

async fn select(items: Vec<Item>, client: &Client, desk: &Desk) -> Result<Table, Refusal> {
    let mut table = Table { columns: Vec::new(), rows: vec![Vec::new()] };
    for Item { value: asked, name } in items {
        let (kind, cell) = match asked {
            Value::MoCtl { method, operation } => {
                operate(*operation, desk).await?;
                (Kind::Text, Cell::Text(mo_ctl_result(method)))
            }
            other => value(&other, client)?,
        };
        table.columns.push(Column { name, kind });
        table.rows[0].push(cell);
    }
    Ok(table)
}

/// What MatrixOne's `mo_ctl` gives for something that was done.
fn mo_ctl_result(method: &str) -> String {
    format!("{{\n  \"method\": \"{method}\",\n  \"result\": \"OK\"\n}}\n")
}

fn value(value: &Value, client: &Client) -> Result<(Kind, Cell), Refusal> {
    Ok(match value {
        Value::Variable(name) => return courtesy::variable(name),
        Value::Number(n) => (Kind::Number, (*n).into()),
        Value::ConnectionId => (Kind::Number, u64::from(client.id).into()),
        Value::Text(text) => (Kind::Text, text.as_str().into()),
        Value::Database => (Kind::Text, client.database.as_deref().into()),
        Value::Version => (Kind::Text, VERSION.into()),
        Value::MoCtl { .. } => (Kind::Text, Cell::Null),
        Value::User => (Kind::Text, Cell::Text(format!("{}@{}", client.user, client.host))),
    })
}

fn unknown_command(command: u8) -> Refusal {
    let message = format!("The admin door does not know command {command:#04x}; it takes text queries only");
    Refusal { code: 1047, sqlstate: b"08S01", message }
}

/// The server version that the door greets with; clients read the number in front.
pub const VERSION: &str = concat!("8.0.0-corelane-", env!("CARGO_PKG_VERSION"));

/// Column flag UNSIGNED_FLAG.
const UNSIGNED: u16 = 32;

const COM_SLEEP: u8 = 0x00;
const COM_QUIT: u8 = 0x01;
const COM_INIT_DB: u8 = 0x02;
const COM_QUERY: u8 = 0x03;
const COM_STATISTICS: u8 = 0x09;
const COM_PING: u8 = 0x0e;
const COM_SET_OPTION: u8 = 0x1b;
const COM_RESET_CONNECTION: u8 = 0x1f;
