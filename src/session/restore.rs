//! Making another leg the same session: what the old CN is asked, what the new one is told, and what follows from its answers.
//!
//! ```text
//!   old leg   questions -> answers             (values that were never told: nothing is asked of a CN that is gone)
//!   new leg   restore: reset, role, other contexts and what was prepared there, system variables, schema, statements, SQL's own
//!             statements, user variables, last insert id -> answers
//!   state     settle: the ids of the new CN
//! ```
//!
//! All of it is one burst on each leg. Between two bursts the session says nothing, so the state that asked is the state that restores.
//! Questions change nothing in the session but what the next statement may ask about the last one.

mod decimal;
mod preparing;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hold::Hold;
use super::script::{Answer, Column, Results, Script, ScriptError, Table};
use super::state::{
    CLIENT, COLLATION, CONNECTION, Collation, Context, RESULTS, SqlPrepared, State, USER_VARIABLES_MAX,
    Variable, write_asked, write_told,
};
use super::statements::Statement;
use super::tracking;
use crate::wire::capability::Capabilities;
use preparing::{Own, Preparing};

/// Bytes of a user variable's value that is carried over.
pub const USER_VALUE_MAX: usize = 4 << 10;

/// Column types of user variables.
const DOUBLE: u8 = 5;
const LONGLONG: u8 = 8;
const NEWDECIMAL: u8 = 246;
const STRINGS: std::ops::RangeInclusive<u8> = 249..=254;
const UNSIGNED: u16 = 0x20;
/// MariaDB: the length of a variable that was never set.
const NEVER_SET: u32 = 1 << 24;

/// ER_UNKNOWN_SYSTEM_VARIABLE, ER_INCORRECT_GLOBAL_LOCAL_VAR: a name of a SET that was refused, or of a global variable.
const NO_SESSION_VARIABLE: [u16; 2] = [1193, 1238];

/// A session that may not write cannot prepare a statement that does.
const READ_ONLY: [&[u8]; 2] = [b"tx_read_only", b"transaction_read_only"];

/// Answers for each user variable: length, text, bytes in hexadecimal, collation.
const USER_COLUMNS: usize = 4;

/// What is asked, in this order.
struct Questions<'s> {
    /// Variables that the tracker has told of: one question for all.
    reported: Vec<&'s Variable>,
    /// Others, of which some may not exist: one question each.
    unreported: Vec<&'s Variable>,
    last_insert_id: bool,
    role: bool,
    /// Two questions; on MariaDB a third about their widths, and a fourth about variables that nobody has mentioned.
    user_variables: &'s [Box<[u8]>],
    more_about_user_variables: bool,
}

impl<'s> Questions<'s> {
    fn of(state: &'s State) -> Self {
        let (reported, unreported) = state
            .variables
            .iter()
            .filter(|variable| variable.value.is_none())
            .partition(|variable| variable.reported);
        let user_variables = state.held().map_or(&[][..], |held| &held.user_variables);
        let more_about_user_variables = state.mariadb && !user_variables.is_empty();
        let (last_insert_id, role) = (state.inserted, state.role);
        Self { reported, unreported, last_insert_id, role, user_variables, more_about_user_variables }
    }

    /// Whether an answer is needed for the front of a restore.
    fn concern_front(&self) -> bool {
        self.role || !self.reported.is_empty() || !self.unreported.is_empty()
    }

    /// `sql_select_limit` may be anything, so each has a limit of its own.
    fn script(&self) -> Script {
        let mut script = Script::default();
        if !self.reported.is_empty() {
            let items = self.reported.iter().map(|variable| session_variable(&variable.name));
            script.question("values of system variables", &select(items, 1));
        }
        for variable in &self.unreported {
            let item = session_variable(&variable.name);
            script.try_question("value of a system variable", &select([item], 1));
        }
        if self.last_insert_id {
            script.question("LAST_INSERT_ID()", b"SELECT LAST_INSERT_ID() LIMIT 1");
        }
        if self.role {
            script.question("role", b"SELECT CURRENT_ROLE() LIMIT 1");
        }
        if !self.user_variables.is_empty() {
            let names: Vec<_> = self.user_variables.iter().map(|name| user_variable(name)).collect();
            script.question("types of user variables", &select(names.iter().cloned(), 0));
            script.question("values of user variables", &select(names.iter().map(|name| value_of(name)), 1));
        }
        if self.more_about_user_variables {
            script.try_question("widths of user variables", &widths(self.user_variables));
            let limit = USER_VARIABLES_MAX + 1;
            let sql = format!("SELECT VARIABLE_NAME FROM information_schema.USER_VARIABLES LIMIT {limit}");
            script.question("names of user variables", sql.as_bytes());
        }
        script
    }
}

/// Questions for the old CN, asked when the session is quiet; none if there is nothing to ask.
pub fn questions(state: &State) -> Option<Script> {
    let script = Questions::of(state).script();
    (!script.is_empty()).then_some(script)
}

/// The front of what [`restore`] would write now, as far as nobody has to be asked for it, for a leg that is to go through it before
/// the session is quiet; none where that would be nothing. If the restore still begins so when the session moves, only the rest of it
/// is to be done.
pub fn rehearsal(state: &State) -> Option<Script> {
    if Questions::of(state).concern_front() {
        return None;
    }
    let mut script = Script::default();
    restore_front(state, &Asked::default(), &mut script).ok()?;
    (!script.is_empty()).then_some(script)
}

/// A statement that does nothing, to see that a CN answers.
pub fn proof() -> Script {
    let mut script = Script::default();
    script.statement("a statement that does nothing", b"DO 0");
    script
}

/// A statement that leaves no warnings to be asked for, not even those of the restore itself. It has to be one on tables, if only on
/// a derived one: any other leaves what was there.
pub fn clearing() -> Script {
    let mut script = Script::default();
    script.question("a statement that clears warnings", b"SELECT 1 FROM (SELECT 1) AS t LIMIT 0");
    script
}

/// What the old CN answered, in the form in which the new one is told.
#[derive(Debug, Default)]
struct Asked {
    /// Literals by name.
    variables: BTreeMap<Box<[u8]>, Vec<u8>>,
    last_insert_id: u64,
    /// As SET ROLE takes it.
    role: Option<Vec<u8>>,
    /// `@name=literal`.
    user_variables: Vec<Vec<u8>>,
}

impl Asked {
    fn read(state: &State, results: Option<Results>) -> Result<Self, Hold> {
        let questions = Questions::of(state);
        let mut answers = results.map(|results| results.answers).unwrap_or_default().into_iter();
        let mut asked = Self::default();
        if !questions.reported.is_empty() {
            let row = one_row(answers.next()).ok_or(Hold::Variable)?;
            asked.take_variables(&questions.reported, &row)?;
        }
        for variable in &questions.unreported {
            match answers.next() {
                Some(Answer::Refused { code }) if NO_SESSION_VARIABLE.contains(&code) => {}
                answer => {
                    let row = one_row(answer).ok_or(Hold::Variable)?;
                    asked.take_variables(&[variable], &row)?;
                }
            }
        }
        if questions.last_insert_id {
            asked.last_insert_id = read_id(answers.next()).ok_or(Hold::Variable)?;
        }
        if questions.role {
            asked.role = Some(read_role(answers.next(), state.mariadb).ok_or(Hold::Role)?);
        }
        if !questions.user_variables.is_empty() {
            let types = table(answers.next()).ok_or(Hold::UserVariable)?.columns;
            let values = one_row(answers.next()).ok_or(Hold::UserVariable)?;
            let widths = questions.more_about_user_variables.then(|| table(answers.next())).flatten();
            let widths = widths.map(|table| table.columns).unwrap_or_default();
            asked.take_user_variables(questions.user_variables, &types, &widths, &values)?;
        }
        if questions.more_about_user_variables {
            let names = table(answers.next()).ok_or(Hold::UserVariable)?;
            check_names(&names, questions.user_variables)?;
        }
        Ok(asked)
    }

    /// The present character set of the client.
    fn client_charset(&self, state: &State) -> Option<Vec<u8>> {
        let told = state.context.client.value().map(<[u8]>::to_vec);
        let literal = || self.variables.get(CLIENT);
        told.or_else(|| Some(literal()?.strip_prefix(b"'")?.strip_suffix(b"'")?.to_vec()))
    }

    fn take_variables(&mut self, variables: &[&Variable], row: &Row) -> Result<(), Hold> {
        if row.len() != variables.len() {
            return Err(Hold::Variable);
        }
        for (variable, (column, value)) in variables.iter().zip(row) {
            let literal = write_asked(*column, value.as_deref()).ok_or(Hold::Variable)?;
            self.variables.insert(variable.name.clone(), literal);
        }
        Ok(())
    }

    /// `widths` are those of the values as parameters; none where nobody has told them.
    fn take_user_variables(
        &mut self,
        names: &[Box<[u8]>],
        types: &[Column],
        widths: &[Column],
        row: &Row,
    ) -> Result<(), Hold> {
        if types.len() != names.len() || row.len() != names.len() * USER_COLUMNS {
            return Err(Hold::UserVariable);
        }
        for (at, (name, values)) in names.iter().zip(row.chunks(USER_COLUMNS)).enumerate() {
            let (column, width) = (types[at], widths.get(at).map(|column| column.length));
            let values: Vec<Option<&[u8]>> = values.iter().map(|(_, value)| value.as_deref()).collect();
            if column.length == NEVER_SET && values[0].is_none() {
                continue;
            }
            let literal = user_literal(column, width, &values).ok_or(Hold::UserVariable)?;
            self.user_variables.push([&user_variable(name)[..], b"=", &literal].concat());
        }
        Ok(())
    }
}

/// All that makes a fresh leg, logged in and tracked, the same session. `asked` are the answers to [`questions`]; none where
/// nobody was asked.
///
/// # Errors
/// A hold that shows only now.
pub fn restore(state: &State, asked: Option<Results>) -> Result<Script, Hold> {
    if asked.is_none() && !Questions::of(state).script().is_empty() {
        return Err(Hold::Variable);
    }
    let asked = Asked::read(state, asked)?;
    let mut script = Script::default();
    let late = restore_front(state, &asked, &mut script)?;
    // A text that assigns a variable makes it NULL when it is prepared.
    if !asked.user_variables.is_empty() {
        script.statement("user variables", &set(asked.user_variables));
    }
    if asked.last_insert_id != 0 {
        let sql = format!("SET last_insert_id={}", asked.last_insert_id);
        script.statement("LAST_INSERT_ID()", sql.as_bytes());
    }
    if !late.is_empty() {
        script.statement("read-only transactions", &set(late));
    }
    Ok(script)
}

/// All but what may change with every statement, which comes last; gives the items of what has to come after everything else.
fn restore_front(state: &State, asked: &Asked, script: &mut Script) -> Result<Vec<Vec<u8>>, Hold> {
    if state.reset {
        // Also of what the CN did to the leg by itself (`init_connect`).
        script.reset("connection reset");
        tracking::ask(state.mariadb, script);
    }
    if let Some(role) = &asked.role {
        script.statement("role", &[b"SET ROLE ", &role[..]].concat());
    }
    if let Some(option) = state.option {
        script.option(option);
    }
    let abroad = restore_elsewhere(state, script)?;
    if abroad {
        script.statement("system variables as at login", &enter(&state.login).ok_or(Hold::Variable)?);
    }
    let late = restore_variables(state, asked, script)?;
    restore_schema(state, abroad, script)?;
    let here = prepare_order(state).filter(|(_, statement)| state.is_current(&statement.context));
    let own = asked.client_charset(state).map(|charset| match names_again(state, asked) {
        Some(names) => Own { charset, back: names },
        None => Own::by_default(charset),
    });
    prepare(here, own, state, script)?;
    restore_sql_prepared(state, &state.context, script)?;
    Ok(late)
}

/// After all answers were right: the statement ids of the new CN take effect.
///
/// # Errors
/// The answers are not those to this state's restore.
pub fn settle(state: &mut State, results: Results) -> Result<(), ScriptError> {
    let ids = prepared_ids(state);
    let mut prepared = results.answers.iter().filter_map(|answer| match answer {
        Answer::Prepared(ok) => Some(ok.statement),
        _ => None,
    });
    let pairs: Vec<_> = ids.iter().copied().zip(prepared.by_ref()).collect();
    if pairs.len() != ids.len() || prepared.next().is_some() {
        return Err(ScriptError::Mismatch);
    }
    state.move_on();
    for (id, at_cn) in pairs {
        state.statements.settle(id, at_cn);
    }
    Ok(())
}

/// Prepares what was prepared under other contexts, each of which is entered in turn. True if any was.
fn restore_elsewhere(state: &State, script: &mut Script) -> Result<bool, Hold> {
    let groups = elsewhere(state);
    for (context, statements) in &groups {
        let sql = enter(context).filter(|_| context.can_name_schema()).ok_or(Hold::Statement)?;
        script.statement("system variables of a prepared statement", &sql);
        if context.schema.is_empty() {
            // A leg that has a schema never gets rid of it.
            state.login.schema.is_empty().then_some(()).ok_or(Hold::Statement)?;
        } else {
            script.schema(&context.schema);
        }
        let own = context.client.value().map(|charset| Own::by_default(charset.to_vec()));
        prepare(statements.iter().copied(), own, state, script)?;
        restore_sql_prepared(state, context, script)?;
    }
    Ok(!groups.is_empty())
}

type Group<'s> = (Arc<Context>, Vec<(u32, &'s Statement)>);

/// The statements of other contexts than the present one, by context; one without a schema comes first.
fn elsewhere(state: &State) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (id, statement) in prepare_order(state) {
        if state.is_current(&statement.context) {
            continue;
        }
        match groups.iter_mut().find(|(context, _)| **context == *statement.context) {
            Some((_, statements)) => statements.push((id, statement)),
            None => groups.push((statement.context.clone(), vec![(id, statement)])),
        }
    }
    for prepared in sql_prepared(state) {
        let known = groups.iter().any(|(context, _)| **context == *prepared.context);
        if !state.is_current(&prepared.context) && !known {
            groups.push((prepared.context.clone(), Vec::new()));
        }
    }
    groups.sort_by_key(|(context, _)| !context.schema.is_empty());
    groups
}

/// All statements, the one that was prepared last at the end, as MariaDB's LAST_PREPARED means it.
fn prepare_order(state: &State) -> impl Iterator<Item = (u32, &Statement)> {
    let last = state.statements.last();
    let is_last = move |id: &u32| Some(*id) == last;
    let others = state.statements.iter().filter(move |(id, _)| !is_last(id));
    others.chain(state.statements.iter().filter(move |(id, _)| is_last(id)))
}

/// Client ids in the order of [`restore`]'s preparations.
fn prepared_ids(state: &State) -> Vec<u32> {
    let elsewhere = elsewhere(state).into_iter().flat_map(|(_, statements)| statements).map(|(id, _)| id);
    let here = prepare_order(state).filter(|(_, statement)| state.is_current(&statement.context));
    elsewhere.chain(here.map(|(id, _)| id)).collect()
}

/// Prepares statements of one context, in which the client's character set is `own`.
fn prepare<'s>(
    statements: impl Iterator<Item = (u32, &'s Statement)>,
    own: Option<Own>,
    state: &State,
    script: &mut Script,
) -> Result<(), Hold> {
    let mut statements = statements.peekable();
    let leaves_out = state.capabilities().has(Capabilities::MARIADB_CACHE_METADATA);
    if leaves_out && own.is_none() && statements.peek().is_some() {
        return Err(Hold::Statement);
    }
    let mut preparing = Preparing::new(script, own.filter(|_| leaves_out));
    for (id, statement) in statements {
        preparing.statement(id, statement)?;
    }
    preparing.end();
    Ok(())
}

/// Sets what a context is made of, schema excepted; none if not all of it is known.
fn enter(context: &Context) -> Option<Vec<u8>> {
    let mut items = vec![
        (&b"sql_mode"[..], context.sql_mode.value()?),
        (b"character_set_client", context.client.value()?),
        (b"character_set_connection", context.connection.value()?),
    ];
    let collation = context.collation.value()?;
    if !collation.is_empty() {
        items.push((COLLATION, collation));
    }
    let assignments = items.into_iter().map(|(name, value)| {
        let literal = write_told(value)?;
        Some([&session_variable(name)[..], b"=", &literal].concat())
    });
    Some(set(assignments.collect::<Option<Vec<_>>>()?))
}

/// Gives the assignments that have to wait until all is prepared.
fn restore_variables(state: &State, asked: &Asked, script: &mut Script) -> Result<Vec<Vec<u8>>, Hold> {
    let mut values = values(state, asked)?;
    let mut assignments: Vec<_> = names_collate(state, &mut values).into_iter().collect();
    let (late, at_once): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(name, _)| READ_ONLY.contains(name));
    assignments.extend(at_once.iter().map(assignment));
    if !assignments.is_empty() {
        script.statement("system variables", &set(assignments));
    }
    Ok(late.iter().map(assignment).collect())
}

/// Names and literals.
type Values<'s> = Vec<(&'s [u8], Vec<u8>)>;

/// What another variable sets too: a connection's character set brings its own collation, and `max_join_size` decides on big selects.
const LATER: [&[u8]; 2] = [COLLATION, b"sql_big_selects"];

/// All variables with their values as literals; those that others set come last.
fn values<'s>(state: &'s State, asked: &Asked) -> Result<Values<'s>, Hold> {
    let mut variables: Vec<&Variable> = state.variables.iter().collect();
    variables.sort_by_key(|variable| LATER.contains(&&*variable.name));
    let mut values = Vec::new();
    for variable in variables {
        let value = match &variable.value {
            Some(value) => Some(write_told(value).ok_or(Hold::Variable)?),
            None => asked.variables.get(&variable.name).cloned(),
        };
        values.extend(value.map(|value| (&*variable.name, value)));
    }
    Ok(values)
}

fn assignment((name, value): &(&[u8], Vec<u8>)) -> Vec<u8> {
    [&session_variable(name)[..], b"=", value].concat()
}

/// Gives parameters and results the collation of the connection, in the place of what sets the default one.
fn names_collate(state: &State, values: &mut Values<'_>) -> Option<Vec<u8>> {
    let Collation::Connection { client, results } = state.collation else { return None };
    let find = |wanted| values.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let (charset, collation) = (find(CONNECTION)?, find(COLLATION)?);
    let names = [b"NAMES ", &charset[..], b" COLLATE ", collation].concat();
    values.retain(|(name, _)| match *name {
        CLIENT => !client,
        RESULTS => !results,
        name => name != CONNECTION && name != COLLATION,
    });
    Some(names)
}

/// What sets the client's character set once more, where it has not got its default collation; it sets that of results as well.
fn names_again(state: &State, asked: &Asked) -> Option<Vec<u8>> {
    let mut values = values(state, asked).ok()?;
    let Collation::Connection { client: true, .. } = state.collation else { return None };
    let mut items = vec![names_collate(state, &mut values)?];
    items.extend(values.iter().filter(|(name, _)| *name == RESULTS).map(assignment));
    Some(set(items))
}

fn restore_schema(state: &State, abroad: bool, script: &mut Script) -> Result<(), Hold> {
    let schema = &state.context.schema;
    let elsewhere = abroad && elsewhere(state).iter().any(|(context, _)| context.schema != *schema);
    let entered = state.reset && state.entered && !schema.is_empty();
    if *schema == state.login.schema && !elsewhere && !entered {
        return Ok(());
    }
    // A leg that has a schema never gets rid of it, but by dropping it.
    if schema.is_empty() || !state.context.can_name_schema() {
        return Err(Hold::Unexplained);
    }
    script.schema(schema);
    Ok(())
}

fn sql_prepared(state: &State) -> &[SqlPrepared] {
    state.held().map_or(&[][..], |held| &held.sql_prepared)
}

/// Prepares again what SQL's own PREPARE prepared under a context.
fn restore_sql_prepared(state: &State, context: &Context, script: &mut Script) -> Result<(), Hold> {
    for prepared in sql_prepared(state).iter().filter(|prepared| *prepared.context == *context) {
        script.statement("PREPARE", &prepared.inner.as_ref().ok_or(Hold::SqlPrepare)?.text);
    }
    Ok(())
}

/// Tells by the columns of no row how wide user variables are as parameters.
fn widths(names: &[Box<[u8]>]) -> Vec<u8> {
    let marks = vec!["?"; names.len()].join(",");
    let names: Vec<_> = names.iter().map(|name| user_variable(name)).collect();
    [b"EXECUTE IMMEDIATE 'SELECT ", marks.as_bytes(), b" LIMIT 0' USING ", &names.join(&b","[..])].concat()
}

/// A user variable as a literal; `values` are length, text, hexadecimal bytes and collation.
fn user_literal(column: Column, width: Option<u32>, values: &[Option<&[u8]>]) -> Option<Vec<u8>> {
    let &[length, text, hex, collation] = values else { return None };
    let null = length.is_none();
    let number = || text.filter(|text| !text.is_empty() && text.iter().all(is_of_number));
    match column.kind {
        LONGLONG => {
            let kind = if column.flags & UNSIGNED != 0 { "UNSIGNED" } else { "SIGNED" };
            let value = if null { b"NULL" } else { number()? };
            Some([b"CAST(", value, b" AS ", kind.as_bytes(), b")"].concat())
        }
        NEWDECIMAL if null => Some(b"CAST(NULL AS DECIMAL)".to_vec()),
        NEWDECIMAL => number().map(|text| decimal::text_of_width(text, width.unwrap_or_default() as usize)),
        DOUBLE if null => Some(b"NULL+0e0".to_vec()),
        DOUBLE => {
            let text = number()?;
            let exponent: &[u8] = if text.contains(&b'e') { b"" } else { b"e0" };
            Some([text, exponent].concat())
        }
        kind if STRINGS.contains(&kind) => string_literal(null, hex, collation?),
        _ => None,
    }
}

/// Whether hexadecimal digits spell text of a character set of UTF-8; those before utf8mb4 have no letters of four bytes. A server takes
/// no other bytes for a literal of such a character set, though a session may hold them.
fn is_utf8(hex: &[u8], charset: &[u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let bytes: Vec<u8> =
        hex.chunks(2).map(|pair| pair.iter().fold(0, |sum, byte| sum << 4 | digit(*byte))).collect();
    let longest = if charset == b"utf8mb4" { 4 } else { 3 };
    std::str::from_utf8(&bytes).is_ok_and(|text| text.chars().all(|letter| letter.len_utf8() <= longest))
}

fn string_literal(null: bool, hex: Option<&[u8]>, collation: &[u8]) -> Option<Vec<u8>> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let charset = collation.split(|byte| *byte == b'_').next()?;
    if collation.is_empty() || !collation.iter().all(word) {
        return None;
    }
    let value = match hex {
        None if null => None,
        None => return None,
        Some(hex) if charset.starts_with(b"utf8") && !is_utf8(hex, charset) => return None,
        Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Some([b"X'", hex, b"'"].concat()),
        Some(_) => return None,
    };
    Some(match (collation, value) {
        (b"binary", None) => b"NULL".to_vec(),
        (b"binary", Some(value)) => value,
        (_, None) => [b"CONVERT(NULL USING ", charset, b") COLLATE ", collation].concat(),
        (_, Some(value)) => [b"_", charset, b" ", &value, b" COLLATE ", collation].concat(),
    })
}

fn is_of_number(byte: &u8) -> bool {
    byte.is_ascii_digit() || b"+-.e".contains(byte)
}

/// A user variable that no text has mentioned was set by stored code.
fn check_names(table: &Table, known: &[Box<[u8]>]) -> Result<(), Hold> {
    let mut names = table.rows.iter().map(|row| row.first().cloned().flatten());
    let all = names
        .all(|name| name.is_some_and(|name| known.iter().any(|other| other.eq_ignore_ascii_case(&name))));
    all.then_some(()).ok_or(Hold::UserVariable)
}

type Row = Vec<(Column, Option<Box<[u8]>>)>;

fn table(answer: Option<Answer>) -> Option<Table> {
    match answer? {
        Answer::Rows(table) => Some(table),
        _ => None,
    }
}

fn one_row(answer: Option<Answer>) -> Option<Row> {
    let Table { columns, mut rows } = table(answer)?;
    let row = rows.pop()?;
    rows.is_empty().then(|| columns.into_iter().zip(row).collect())
}

fn read_id(answer: Option<Answer>) -> Option<u64> {
    let row = one_row(answer)?;
    let (_, value) = row.first()?;
    std::str::from_utf8(value.as_ref()?).ok()?.parse().ok()
}

/// The roles in force: MariaDB tells the name of one or NULL, MySQL a list that is quoted already, or NONE.
fn read_role(answer: Option<Answer>, mariadb: bool) -> Option<Vec<u8>> {
    let row = one_row(answer)?;
    let (_, value) = row.first()?;
    let Some(role) = value else { return Some(b"NONE".to_vec()) };
    role.iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(())?;
    Some(if mariadb { quoted_name(role) } else { role.to_vec() })
}

/// The name of a system variable; one that is none gives an unknown variable.
fn session_variable(name: &[u8]) -> Vec<u8> {
    let name: Vec<u8> =
        name.iter().copied().filter(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte)).collect();
    [b"@@session.", &name[..]].concat()
}

fn user_variable(name: &[u8]) -> Vec<u8> {
    [b"@", &quoted_name(name)[..]].concat()
}

fn quoted_name(name: &[u8]) -> Vec<u8> {
    let mut out = b"`".to_vec();
    for byte in name {
        if *byte == b'`' {
            out.push(b'`');
        }
        out.push(*byte);
    }
    out.push(b'`');
    out
}

/// Its length, its text where it is short, its bytes where they are not too many, its collation.
fn value_of(name: &[u8]) -> Vec<u8> {
    let limit = format!(") > {USER_VALUE_MAX}, NULL, HEX(");
    let parts: [&[u8]; 9] = [
        b"LENGTH(",
        name,
        b"), LEFT(",
        name,
        b", 128), IF(LENGTH(",
        name,
        limit.as_bytes(),
        name,
        b")), COLLATION(",
    ];
    [&parts.concat()[..], name, b")"].concat()
}

fn select(items: impl IntoIterator<Item = Vec<u8>>, limit: u32) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    [b"SELECT ", &items.join(&b", "[..])[..], format!(" LIMIT {limit}").as_bytes()].concat()
}

fn set(assignments: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let assignments: Vec<_> = assignments.into_iter().collect();
    [b"SET ", &assignments.join(&b", "[..])[..]].concat()
}

#[cfg(test)]
pub(super) mod tests;
