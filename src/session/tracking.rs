//! Session tracking: what corelane asks of a CN for itself, and what the client is shown of it.
//!
//! Corelane wants to hear of the schema, of system variables and of other state. The client is shown what it would have
//! seen without corelane, but for the order of variables that one statement changes: by a client that never touched `session_track_*`, that is what the CN's global settings say, learnt on each fresh
//! leg before they are changed. Transaction information and GTIDs are not asked for by corelane, so whoever sees them has asked. An OK without
//! state changes is the same for all clients, byte by byte, and is never rewritten.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::script::{Answer, Results, Script, ScriptError};
use super::state::{Context, Known};
use crate::sql::{Effect, Effects, Named};
use crate::wire;
use crate::wire::capability::Capabilities;
use crate::wire::cursor::{Cursor, put_lenenc_bytes};
use crate::wire::reply::{EOF, OkPacket};
use crate::wire::status::Status;
use crate::wire::track::Changes;

/// What a fresh leg is asked: how it tracks by itself, and under what its texts are read.
pub const LEARN: &str = "SELECT @@session_track_schema, @@session_track_system_variables, \
    @@session_track_state_change, @@sql_mode, @@character_set_client, @@character_set_connection, \
    @@collation_connection LIMIT 1";

/// The variables that a MySQL server is asked to report: those that sessions set. If it were to tell of all, it would report a number
/// of its own with almost every OK (`statement_id`). Of any other the text that sets it tells, and its value is asked for before a move.
const MYSQL_VARIABLES: &str = "\
    auto_increment_increment,auto_increment_offset,autocommit,big_tables,block_encryption_mode,\
    character_set_client,character_set_connection,character_set_results,collation_connection,\
    completion_type,cte_max_recursion_depth,default_collation_for_utf8mb4,default_storage_engine,\
    default_tmp_storage_engine,default_week_format,div_precision_increment,explicit_defaults_for_timestamp,\
    foreign_key_checks,group_concat_max_len,information_schema_stats_expiry,innodb_lock_wait_timeout,\
    innodb_strict_mode,interactive_timeout,join_buffer_size,lc_messages,lc_time_names,lock_wait_timeout,\
    long_query_time,max_error_count,max_execution_time,max_heap_table_size,max_join_size,max_sort_length,\
    net_read_timeout,net_write_timeout,optimizer_switch,read_buffer_size,read_rnd_buffer_size,\
    session_track_gtids,session_track_schema,session_track_state_change,session_track_system_variables,\
    session_track_transaction_info,sort_buffer_size,sql_auto_is_null,sql_big_selects,sql_buffer_result,\
    sql_generate_invisible_primary_key,sql_mode,sql_notes,sql_quote_show_create,sql_require_primary_key,\
    sql_safe_updates,sql_select_limit,sql_warnings,time_zone,tmp_table_size,transaction_isolation,\
    transaction_read_only,unique_checks,updatable_views_with_limit,use_secondary_engine,wait_timeout";

/// The same for MariaDB where it writes a binary log: it would tell the place of each write there (`last_gtid`), and where a reply ends
/// with a legacy EOF even that something has changed without saying what. It takes no name that it does not have, so these are old ones.
const MARIADB_VARIABLES: &str = "\
    autocommit,auto_increment_increment,auto_increment_offset,big_tables,character_set_client,\
    character_set_connection,character_set_results,collation_connection,completion_type,\
    default_storage_engine,default_tmp_storage_engine,default_week_format,div_precision_increment,\
    foreign_key_checks,group_concat_max_len,innodb_lock_wait_timeout,innodb_strict_mode,interactive_timeout,\
    join_buffer_size,lc_messages,lc_time_names,lock_wait_timeout,long_query_time,max_error_count,\
    max_heap_table_size,max_join_size,max_sort_length,max_statement_time,net_read_timeout,net_write_timeout,\
    old_mode,optimizer_switch,read_buffer_size,read_rnd_buffer_size,session_track_schema,\
    session_track_state_change,session_track_system_variables,session_track_transaction_info,\
    sort_buffer_size,sql_auto_is_null,sql_big_selects,sql_buffer_result,sql_mode,sql_notes,\
    sql_quote_show_create,sql_safe_updates,sql_select_limit,sql_warnings,time_zone,tmp_table_size,\
    tx_isolation,tx_read_only,unique_checks,updatable_views_with_limit,wait_timeout";

/// Clears what MySQL warns of, the variables that it does not have: the client would be shown that.
const CLEAR: &str = "DO 0";

const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE: u8 = 2;

/// What a client of a fresh leg is shown of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    pub schema: bool,
    pub variables: Variables,
    pub state_change: bool,
}

/// System variables that a client is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variables {
    All,
    /// These, in lower case.
    Some(Arc<[Box<[u8]>]>),
}

impl Variables {
    fn read(list: &[u8]) -> Self {
        let names = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let names: Vec<Box<[u8]>> =
            names.filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase().into()).collect();
        if names.iter().any(|name| **name == *b"*") { Self::All } else { Self::Some(names.into()) }
    }

    /// Whether they are what corelane has a CN report. A CN tells them in an order of its own.
    fn is_own(&self) -> bool {
        let Self::Some(names) = self else { return true };
        [MYSQL_VARIABLES, MARIADB_VARIABLES].iter().any(|list| {
            let own: BTreeSet<_> = list.split(',').map(str::as_bytes).collect();
            own == names.iter().map(|name| &**name).collect()
        })
    }
}

impl Wishes {
    /// Shows all that the CN sends.
    pub fn everything() -> Self {
        Self { schema: true, variables: Variables::All, state_change: true }
    }

    /// Shows nothing that corelane has asked for: a client without SESSION_TRACK.
    pub fn none() -> Self {
        Self { schema: false, variables: Variables::Some(Arc::default()), state_change: false }
    }

    /// By the values of `session_track_schema`, `_system_variables` and `_state_change`.
    pub fn read(schema: &[u8], variables: &[u8], state_change: &[u8]) -> Self {
        let on = |value: &[u8]| value == b"1" || value.eq_ignore_ascii_case(b"ON");
        Self { schema: on(schema), variables: Variables::read(variables), state_change: on(state_change) }
    }

    /// Takes note of a setting of `session_track_*` that the client has changed, by its name in lower case.
    pub fn note(&mut self, name: &[u8], value: &[u8]) {
        let on = value == b"1" || value.eq_ignore_ascii_case(b"ON");
        match name {
            b"session_track_schema" => self.schema = on,
            b"session_track_state_change" => self.state_change = on,
            // From then on the CN itself tells no others.
            b"session_track_system_variables" => self.variables = Variables::All,
            _ => {}
        }
    }

    /// With nothing hidden of what the client has set for certain.
    pub fn opened(&self, touched: Touched) -> Self {
        let mut opened = self.clone();
        opened.take(&Self::everything(), touched.surely());
        opened
    }

    /// Takes over what the client has set. Where it is not certain that it has, what is not corelane's own is the client's.
    pub fn take(&mut self, learnt: &Self, touched: Touched) {
        if touched.schema.tells(learnt.schema) {
            self.schema = learnt.schema;
        }
        if touched.variables.tells(learnt.variables.is_own()) {
            self.variables = learnt.variables.clone();
        }
        if touched.state_change.tells(learnt.state_change) {
            self.state_change = learnt.state_change;
        }
    }

    fn shows(&self, name: &[u8]) -> bool {
        match &self.variables {
            Variables::All => true,
            Variables::Some(names) => names.iter().any(|shown| shown.eq_ignore_ascii_case(name)),
        }
    }
}

/// Which of its wishes a client has set by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    schema: Touch,
    variables: Touch,
    state_change: Touch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    #[default]
    No,
    /// By a text that has failed, or has not been answered yet.
    Perhaps,
    Surely,
}

impl Touch {
    /// Whether the value of a leg is one that the client has set; `own`: corelane sets the same.
    fn tells(self, own: bool) -> bool {
        self == Self::Surely || (self == Self::Perhaps && !own)
    }
}

impl Touched {
    /// Those that a text sets, unless it fails.
    pub fn of(effects: &Effects) -> Self {
        Self::of_first(effects, u16::MAX)
    }

    /// Those that the first `statements` of a text set.
    pub fn of_first(effects: &Effects, statements: u16) -> Self {
        let sets = |wanted: &[u8]| {
            let of_these = |named: &&Named| named.effect == Effect::Sets && named.statement < statements;
            let mut named = effects.named.iter().filter(of_these);
            let sets = named.any(|named| named.name.eq_ignore_ascii_case(wanted));
            if sets { Touch::Surely } else { Touch::No }
        };
        Self {
            schema: sets(b"session_track_schema"),
            variables: sets(b"session_track_system_variables"),
            state_change: sets(b"session_track_state_change"),
        }
    }

    fn map(self, change: impl Fn(Touch) -> Touch) -> Self {
        Self {
            schema: change(self.schema),
            variables: change(self.variables),
            state_change: change(self.state_change),
        }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            schema: self.schema.max(other.schema),
            variables: self.variables.max(other.variables),
            state_change: self.state_change.max(other.state_change),
        }
    }

    /// A text that sets them has failed, or has not been answered yet.
    pub fn perhaps(self) -> Self {
        self.map(|touch| touch.min(Touch::Perhaps))
    }

    /// Without what is in doubt.
    fn surely(self) -> Self {
        self.map(|touch| if touch == Touch::Surely { touch } else { Touch::No })
    }
}

/// What a fresh leg is like before anybody has changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    pub wishes: Wishes,
    /// Without a schema.
    pub context: Context,
}

/// What a fresh leg is told and asked, right after its login or COM_RESET_CONNECTION; `mariadb` tells the flavour of the CN.
pub fn script(mariadb: bool) -> Script {
    let mut script = Script::default();
    script.question("tracking in use", LEARN.as_bytes());
    ask(mariadb, &mut script);
    script
}

/// Has a leg track the session, whose beginning is known.
pub fn ask(mariadb: bool, script: &mut Script) {
    const WHAT: &str = "session tracking";
    const STATE: &str = "SET SESSION session_track_schema = 1, session_track_state_change = 1";
    const VARIABLES: &str = "session_track_system_variables =";
    if mariadb {
        let some = format!("SET SESSION {VARIABLES} IF(@@log_bin, '{MARIADB_VARIABLES}', '*')");
        script.statement(WHAT, format!("{STATE}, {VARIABLES} '*'").as_bytes());
        script.try_statement(WHAT, some.as_bytes());
    } else {
        script.statement(WHAT, format!("{STATE}, {VARIABLES} '{MYSQL_VARIABLES}'").as_bytes());
        script.statement(WHAT, CLEAR.as_bytes());
    }
}

/// ER_MUST_CHANGE_PASSWORD.
const MUST_CHANGE_PASSWORD: u16 = 1820;

/// Whether the CN refuses [`script`] because it lets its user do nothing but change the password.
pub fn wants_password(refused: &ScriptError) -> bool {
    matches!(refused, ScriptError::Refused { code: MUST_CHANGE_PASSWORD, .. })
}

/// Takes back what [`script`] has asked for; a client without SESSION_TRACK must not be sent any changes.
pub fn untrack(client: Capabilities) -> Script {
    let values = match client.has(Capabilities::SESSION_TRACK) {
        true => ["DEFAULT", "DEFAULT", "DEFAULT"],
        false => ["0", "''", "0"],
    };
    let [schema, variables, state_change] = values;
    let sql = format!(
        "SET SESSION session_track_schema = {schema}, session_track_system_variables = {variables}, \
         session_track_state_change = {state_change}"
    );
    let mut script = Script::default();
    script.statement("session tracking", sql.as_bytes());
    script
}

/// Reads the answers to [`script`].
pub fn learn(results: Results) -> Result<Beginning, ScriptError> {
    let [Answer::Rows(table), Answer::Done, ..] = &results.answers[..] else {
        return Err(ScriptError::Mismatch);
    };
    let row: Vec<&[u8]> = table.rows.first().into_iter().flatten().flatten().map(|value| &**value).collect();
    let [schema, variables, state_change, sql_mode, client, connection, collation] = row[..] else {
        return Err(ScriptError::Mismatch);
    };
    let wishes = Wishes::read(schema, variables, state_change);
    let context = Context {
        schema: Box::default(),
        sql_mode: Known::from(sql_mode),
        client: Known::from(client),
        connection: Known::from(connection),
        collation: Known::from(collation),
    };
    Ok(Beginning { wishes, context })
}

/// Rewrites the payload of an OK (header 0x00 or 0xFE) that came under the capabilities of `cn` to what a client with
/// those of `client` would have been sent by the CN itself. None: as it is.
///
/// # Errors
/// It is no OK.
pub fn rewrite(
    payload: &[u8],
    cn: Capabilities,
    client: Capabilities,
    wishes: &Wishes,
) -> wire::Result<Option<Vec<u8>>> {
    let track = Capabilities::SESSION_TRACK;
    if !cn.has(track) || !Status(OkPacket::status_of(payload)?).has(Status::SESSION_STATE_CHANGED) {
        return Ok(None);
    }
    let ok = OkPacket::read(payload, cn)?;
    let changes = ok.changes.unwrap_or_default();
    let mut kept = Vec::new();
    if client.has(track) {
        filter(changes, wishes, &mut kept)?;
        if kept == changes.0 {
            return Ok(None);
        }
    }
    let changes = (!kept.is_empty()).then_some(Changes(&kept));
    let ok = OkPacket { changes, ..ok };
    let mut out = Vec::with_capacity(payload.len());
    match payload.first() {
        Some(&EOF) => ok.write_as_eof(&mut out, client),
        _ => ok.write(&mut out, client),
    }
    Ok(Some(out))
}

/// Copies the changes that are wished for, in the CN's order.
fn filter(changes: Changes<'_>, wishes: &Wishes, kept: &mut Vec<u8>) -> wire::Result<()> {
    for entry in entries(changes) {
        let entry = entry?;
        let shown = match entry.kind {
            SYSTEM_VARIABLES => {
                keep_variables(&entry, wishes, kept)?;
                false
            }
            SCHEMA => wishes.schema,
            STATE => wishes.state_change,
            _ => true,
        };
        if shown {
            kept.extend_from_slice(entry.whole);
        }
    }
    Ok(())
}

fn keep_variables(entry: &Entry<'_>, wishes: &Wishes, kept: &mut Vec<u8>) -> wire::Result<()> {
    let mut left = Cursor::new(entry.data);
    let mut data = Vec::new();
    while !left.is_empty() {
        let (name, value) = (left.lenenc_bytes("system variable")?, left.lenenc_bytes("its value")?);
        if wishes.shows(name) {
            put_lenenc_bytes(&mut data, name);
            put_lenenc_bytes(&mut data, value);
        }
    }
    if data == entry.data {
        kept.extend_from_slice(entry.whole);
    } else if !data.is_empty() {
        kept.push(SYSTEM_VARIABLES);
        put_lenenc_bytes(kept, &data);
    }
    Ok(())
}

/// One entry of a list of changes, not taken apart.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    kind: u8,
    data: &'a [u8],
    /// With its kind and length.
    whole: &'a [u8],
}

fn entries(changes: Changes<'_>) -> impl Iterator<Item = wire::Result<Entry<'_>>> {
    let bytes = changes.0;
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut cursor = Cursor::new(bytes.get(at..).filter(|rest| !rest.is_empty())?);
        let entry = cursor.u8("kind of change").and_then(|kind| {
            let data = cursor.lenenc_bytes("change")?;
            let end = bytes.len() - cursor.remaining();
            Ok(Entry { kind, data, whole: &bytes[at..end] })
        });
        at = entry.as_ref().map_or(bytes.len(), |entry| at + entry.whole.len());
        Some(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::script::{Column, Table};
    use proptest::prelude::*;

    const TRACK: Capabilities = Capabilities::SESSION_TRACK;
    const NONE: Capabilities = Capabilities(0);
    /// MariaDB 10.11, by the trackers of ASK: `set names latin1`.
    const NAMES_ALL: &[u8] = b"\0\0\0\x02\x40\0\0\0\x62\
        \0\x20\x18character_set_connection\x06latin1\0\x1c\x14character_set_client\x06latin1\
        \0\x1d\x15character_set_results\x06latin1\x02\x011";
    /// The same as the client shall see it. By the trackers of a fresh session the CN would tell the last two in the other order.
    const NAMES_DEFAULT: &[u8] = b"\0\0\0\x02\x40\0\0\0\x5f\
        \0\x20\x18character_set_connection\x06latin1\0\x1c\x14character_set_client\x06latin1\
        \0\x1d\x15character_set_results\x06latin1";

    /// The default list of MariaDB.
    fn default_wishes() -> Wishes {
        let list =
            b"autocommit,character_set_client,character_set_connection,character_set_results,time_zone";
        Wishes::read(b"1", list, b"0")
    }

    #[test]
    fn a_client_sees_what_it_would_have_seen() {
        // MariaDB 10.11: `use db`, `set wait_timeout=8`, `alter table tt add b int`, with the trackers of ASK.
        let used = b"\0\0\0\x02\x40\0\0\0\x08\x01\x03\x02db\x02\x011".as_slice();
        let set = b"\0\0\0\x02\x40\0\0\0\x14\0\x0f\x0cwait_timeout\x018\x02\x011".as_slice();
        let altered = b"\0\x01\0\x02\x40\0\0\x03a b\x03\x02\x011".as_slice();
        let table: [(&[u8], Capabilities, &[u8]); 8] = [
            (NAMES_ALL, TRACK, NAMES_DEFAULT),
            (NAMES_ALL, NONE, b"\0\0\0\x02\0\0\0"),
            (used, TRACK, b"\0\0\0\x02\x40\0\0\0\x05\x01\x03\x02db"),
            (used, NONE, b"\0\0\0\x02\0\0\0"),
            (set, TRACK, b"\0\0\0\x02\0\0\0"),
            (altered, TRACK, b"\0\x01\0\x02\0\0\0\x03a b"),
            (altered, NONE, b"\0\x01\0\x02\0\0\0\x03a b"),
            (b"\xfe\0\0\x02\x40\0\0\0\x03\x02\x011", TRACK, b"\xfe\0\0\x02\0\0\0"),
        ];
        for (sent, client, seen) in table {
            let rewritten = rewrite(sent, TRACK, client, &default_wishes()).unwrap();
            assert_eq!(rewritten.as_deref(), Some(seen), "{sent:?}");
        }
    }

    #[test]
    fn several_variables_in_one_entry_are_taken_apart() {
        let wishes = Wishes::read(b"0", b"b, C", b"0");
        let sent = b"\0\0\0\x02\x40\0\0\0\x0e\0\x0c\x01a\x01x\x01c\x01y\x01b\x01z";
        let rewritten = rewrite(sent, TRACK, TRACK, &wishes).unwrap();
        assert_eq!(rewritten.as_deref(), Some(&b"\0\0\0\x02\x40\0\0\0\x0a\0\x08\x01c\x01y\x01b\x01z"[..]));
    }

    #[test]
    fn a_truncation_is_an_error() {
        for cut in 9..NAMES_ALL.len() {
            assert!(rewrite(&NAMES_ALL[..cut], TRACK, TRACK, &default_wishes()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_client_may_have_set_is_taken_over_only_if_it_is_not_corelanes() {
        let mut reversed: Vec<&str> = MARIADB_VARIABLES.split(',').collect();
        reversed.reverse();
        let touched =
            Touched { schema: Touch::Surely, variables: Touch::Surely, state_change: Touch::Surely };
        for (variables, own) in [("*", true), (&*reversed.join(","), true), ("sql_mode", false)] {
            let learnt = Wishes::read(b"ON", variables.as_bytes(), b"ON");
            let mut wishes = default_wishes();
            wishes.take(&learnt, touched.perhaps());
            let kept = wishes.variables == default_wishes().variables;
            assert_eq!((kept, wishes.state_change), (own, false), "{variables}");
            wishes.take(&learnt, touched);
            assert_eq!(wishes, learnt, "{variables}");
        }
    }

    #[test]
    fn a_leg_tells_how_it_began() {
        let row = ["1", "Time_Zone,character_set_client", "0", "ANSI", "latin1", "utf8mb4", "utf8mb4_bin"];
        let row = row.map(|value| Some(Box::from(value.as_bytes()))).to_vec();
        let columns = vec![Column { kind: 253, flags: 0, length: 0 }; 7];
        let answers = vec![Answer::Rows(Table { columns, rows: vec![row] }), Answer::Done];
        let results = Results { answers, ..Results::default() };
        let beginning = learn(results).unwrap();
        let names: [Box<[u8]>; 2] = [Box::from(*b"time_zone"), Box::from(*b"character_set_client")];
        assert_eq!(beginning.wishes.variables, Variables::Some(names.into()));
        assert_eq!(beginning.context.collation, Known::from(&b"utf8mb4_bin"[..]));
        assert!(!beginning.wishes.state_change);
    }

    fn change() -> impl Strategy<Value = Vec<u8>> {
        (0u8..7, proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(kind, name, value)| {
                let mut data = Vec::new();
                put_lenenc_bytes(&mut data, &name);
                put_lenenc_bytes(&mut data, &value);
                let mut out = vec![kind];
                put_lenenc_bytes(&mut out, &data);
                out
            })
    }

    proptest! {
        #[test]
        fn who_wishes_for_everything_gets_every_byte(
            changes in proptest::collection::vec(change(), 0..6),
            info: Vec<u8>,
            (rows, id, status, eof) in any::<(u64, u64, u16, bool)>(),
        ) {
            let changes = changes.concat();
            let changes = (!changes.is_empty()).then_some(Changes(&changes));
            let ok = OkPacket {
                affected_rows: rows, last_insert_id: id, status, warnings: 0, info: &info, changes,
            };
            let mut payload = Vec::new();
            if eof { ok.write_as_eof(&mut payload, TRACK) } else { ok.write(&mut payload, TRACK) }
            prop_assert_eq!(rewrite(&payload, TRACK, TRACK, &Wishes::everything()), Ok(None));
            prop_assert_eq!(rewrite(&payload, NONE, NONE, &Wishes::none()), Ok(None));
            let bare = rewrite(&payload, TRACK, NONE, &Wishes::everything()).unwrap();
            if changes.is_none() {
                prop_assert_eq!(bare, None);
            } else {
                let read = OkPacket { changes: None, status: status & !0x4000, ..ok };
                let bare = bare.unwrap();
                prop_assert_eq!(OkPacket::read(&bare, NONE), Ok(read));
            }
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            let _ = rewrite(&[b"\0\0\0\x02\x40\0\0\0", &bytes[..]].concat(), TRACK, TRACK, &default_wishes());
            let _ = rewrite(&bytes, TRACK, NONE, &default_wishes());
        }
    }
}
