//! A stream: what one client does from login to end, drawn from a seed.
//!
//! While it draws, it keeps the holds that the session may have after each step. That is the table by which a refused
//! move is judged: generous where the answer of a server decides, exact where the stream alone does.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::house::{Can, Extended};
use super::side::MASK;
use super::step::{Bulk, Execute, Step, Value};
use super::words::{self, Words};

/// The largest payload of a frame.
const FRAME_MAX: u32 = 0xff_ffff;

/// What a session on its way between commands may always be held by.
const ALWAYS: &[&str] = &["reply"];

/// Holds that a calm stream may cause: what they name can be carried over, or soon ends.
const CALM: &[&str] = &["user_variable", "sql_prepare"];

pub type Holds = BTreeSet<&'static str>;

pub struct Stream {
    pub seed: u64,
    /// Capabilities that both sides log in with.
    pub capabilities: u32,
    /// MariaDB's extended ones.
    pub extended: u32,
    pub collation: u8,
    /// Whether it logs in with a schema.
    pub with_schema: bool,
    pub steps: Vec<Planned>,
}

pub struct Planned {
    pub step: Step,
    /// A move that is ordered before the step.
    pub order: Option<Order>,
    /// What may hold the session at any moment of the step, or after it.
    pub holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// To the CN of this number.
    pub to: usize,
    /// How long the client waits for the move before it goes on, in ms.
    pub wait_ms: u64,
}

impl Stream {
    /// The stream of this seed; the same each time.
    pub fn draw(seed: u64) -> Self {
        let mut drawing = Drawing::new(seed);
        let capabilities = drawing.capabilities();
        let extended = drawing.extended();
        let collation = [45, 45, 33, 8, 63, 224][drawing.rng.usize(..6)];
        let with_schema = drawing.rng.u8(..10) > 0;
        if !with_schema {
            drawing.say(Step::Query(format!("USE {MASK}").into_bytes()), &[]);
        }
        drawing.settle();
        if !drawing.calm {
            // Of a session that has asked it is known that it may ask again; one that asks for the first time after a move ends.
            drawing.say(Step::Query(b"SELECT LASTVAL(s1)".into()), &["sequence"]);
        }
        let length = drawing.rng.usize(20..=60);
        while drawing.steps.len() < length {
            drawing.any();
        }
        drawing.finish();
        Self { seed, capabilities, extended, collation, with_schema, steps: drawing.steps }
    }

    /// The same without some of its steps; their orders fall to the next one.
    pub fn without(mut self, left_out: &[usize]) -> Self {
        let mut order = None;
        let mut number = 0;
        self.steps.retain_mut(|planned| {
            order = planned.order.or(order);
            number += 1;
            let stays = !left_out.contains(&(number - 1));
            if stays {
                planned.order = order.take();
            }
            stays
        });
        self
    }
}

/// A statement of the binary protocol that is open.
struct Statement {
    slot: usize,
    parameters: usize,
    holds: &'static [&'static str],
    /// The types that the server has been told.
    told: Option<Vec<Value>>,
    executed: bool,
    /// Whether an execution may have left a cursor.
    cursor: bool,
}

struct Drawing {
    rng: Rng,
    /// Half of the streams do nothing that holds a session for good, so that it moves again and again.
    calm: bool,
    steps: Vec<Planned>,
    holds: Holds,
    statements: Vec<Statement>,
    slots: usize,
    autocommit: bool,
}

impl Drawing {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            calm: rng.bool(),
            rng,
            steps: Vec::new(),
            holds: ALWAYS.iter().copied().collect(),
            statements: Vec::new(),
            slots: 0,
            autocommit: true,
        }
    }

    fn capabilities(&mut self) -> u32 {
        let mut capabilities = Can::LOG_IN;
        for (flag, of_ten) in [
            (Can::SESSION_TRACK, 5),
            (Can::DEPRECATE_EOF, 5),
            (Can::MULTI_STATEMENTS, 7),
            (Can::MULTI_RESULTS, 9),
            (Can::PS_MULTI_RESULTS, 9),
            (Can::FOUND_ROWS, 3),
            (Can::LOCAL_FILES, 5),
            (Can::IGNORE_SPACE, 1),
            (Can::NO_SCHEMA, 1),
            (Can::INTERACTIVE, 1),
        ] {
            if self.rng.u8(..10) < of_ten {
                capabilities |= flag;
            }
        }
        capabilities
    }

    fn extended(&mut self) -> u32 {
        [Extended::STMT_BULK_OPERATIONS, Extended::METADATA, Extended::CACHE_METADATA]
            .into_iter()
            .filter(|_| self.rng.bool())
            .fold(0, |all, one| all | one)
    }

    /// Adds a step that may leave these holds.
    fn say(&mut self, step: Step, holds: &[&'static str]) {
        self.holds.extend(holds);
        if changes_letters(&step) {
            // MariaDB reads the letters of parameters as it did when it was told their types; after a move, as it does now.
            self.statements.iter_mut().for_each(|statement| statement.told = None);
        }
        let order = (self.rng.u8(..10) == 0)
            .then(|| Order { to: self.rng.usize(..2), wait_ms: [0, 0, 1, 5, 30, 100][self.rng.usize(..6)] });
        self.steps.push(Planned { step, order, holds: self.holds.clone() });
    }

    fn any(&mut self) {
        match self.rng.u8(..100) {
            0..26 => self.words(words::PLAIN),
            26..40 => self.words(words::SETTINGS),
            40..50 => self.words(words::VARIABLES),
            50..62 => self.words(words::HOLDING),
            62..68 => self.transaction(),
            68..69 if !self.calm => self.xa(),
            69..90 => self.statement(),
            90..93 => self.together(),
            93..95 => self.several(),
            95 => self.found_rows(),
            _ => self.command(),
        }
    }

    /// One of a family that suits the stream.
    fn pick(&mut self, family: &[Words]) -> Words {
        loop {
            let words = family[self.rng.usize(..family.len())];
            if self.suits(words.1) {
                return words;
            }
        }
    }

    fn suits(&self, holds: &[&str]) -> bool {
        !self.calm || holds.iter().all(|hold| CALM.contains(hold))
    }

    fn words(&mut self, family: &[Words]) {
        let (text, holds) = self.pick(family);
        let text = self.fill(text);
        self.say(Step::Query(text), holds);
    }

    fn fill(&mut self, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            let taken = match rest.as_bytes().get(at + 1..at + 3) {
                Some(b"n}") => self.rng.u32(1..1000).to_string().into_bytes(),
                Some(b"k}") => self.rng.u32(1..8).to_string().into_bytes(),
                Some(b"t}") => words::TABLES[self.rng.usize(..words::TABLES.len())].into(),
                Some(b"v}") => [b'v', b'0' + self.rng.u8(..3)].to_vec(),
                Some(b"q}") => words::LITERALS[self.rng.usize(..words::LITERALS.len())].to_vec(),
                _ => {
                    out.push(b'{');
                    rest = &rest[at + 1..];
                    continue;
                }
            };
            out.extend_from_slice(&taken);
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest.as_bytes());
        out
    }

    /// A result and the question how long it was. It is asked at once: of what comes later corelane does not know that it asks
    /// about a statement before the last one.
    fn found_rows(&mut self) {
        let text = words::COUNTED[self.rng.usize(..words::COUNTED.len())];
        let text = self.fill(text);
        self.say(Step::Query(text), &[]);
        self.say(Step::Query(b"SELECT FOUND_ROWS()".into()), &[]);
    }

    // --- transactions ----------------------------------------------------------------------------------

    fn transaction(&mut self) {
        let open = self.holds.contains("transaction");
        if open && self.rng.u8(..10) < 6 {
            return self.end_transaction();
        }
        let text = words::TRANSACTIONS[self.rng.usize(..words::TRANSACTIONS.len())];
        self.autocommit &= !text.contains("autocommit = 0");
        let text = self.fill(text);
        self.say(Step::Query(text), &["transaction"]);
    }

    fn end_transaction(&mut self) {
        let text = words::TRANSACTION_ENDS[self.rng.usize(..words::TRANSACTION_ENDS.len())];
        self.autocommit |= text.contains("autocommit = 1");
        self.say(Step::Query(text.into()), &[]);
        if self.autocommit {
            self.holds.remove("transaction");
            if ["COMMIT", "ROLLBACK"].contains(&text) {
                self.holds.remove("next_transaction");
            }
        }
    }

    fn xa(&mut self) {
        for text in words::XA {
            let text = self.fill(text);
            self.say(Step::Query(text), &["xa", "transaction"]);
            if self.rng.u8(..4) == 0 {
                self.say(Step::Query(b"SELECT MAX(id) FROM t1".into()), &[]);
            }
        }
        let end = words::XA_ENDS[self.rng.usize(..words::XA_ENDS.len())];
        self.say(Step::Query(end.into()), &["xa", "transaction"]);
    }

    // --- prepared statements ----------------------------------------------------------------------------

    fn statement(&mut self) {
        if self.statements.is_empty() || self.rng.u8(..10) < 2 {
            return self.prepare();
        }
        let which = self.rng.usize(..self.statements.len());
        match self.rng.u8(..20) {
            0..9 => self.execute(which, false),
            9..11 => self.bulk(which),
            11..14 => self.execute(which, true),
            14..16 => self.fetch(which),
            16..17 => self.long_data(which),
            17..18 => {
                let slot = self.statements[which].slot;
                self.statements[which].cursor = false;
                self.say(Step::ResetStatement { slot }, &[]);
            }
            _ => self.close(which),
        }
    }

    /// Draws a statement; the caller sends it.
    fn new_statement(&mut self) -> (Step, &'static [&'static str]) {
        let (text, parameters, holds) = loop {
            let drawn = words::PREPARED[self.rng.usize(..words::PREPARED.len())];
            if self.suits(drawn.2) {
                break drawn;
            }
        };
        let text = self.fill(text);
        let slot = self.slots;
        self.slots += 1;
        self.statements.push(Statement {
            slot,
            parameters,
            holds,
            told: None,
            executed: false,
            cursor: false,
        });
        (Step::Prepare { slot, text }, holds)
    }

    fn prepare(&mut self) {
        let (step, holds) = self.new_statement();
        self.holds.insert("statement");
        self.say(step, holds);
    }

    fn execute(&mut self, which: usize, cursor: bool) {
        let (step, holds) = self.execution(which, cursor);
        self.say(step, holds);
        // An execution takes the parameter data that was sent ahead.
        self.holds.remove("long_data");
    }

    fn execution(&mut self, which: usize, cursor: bool) -> (Step, &'static [&'static str]) {
        let (values, types) = self.values(which);
        let statement = &mut self.statements[which];
        statement.told = Some(values.clone());
        statement.executed = true;
        statement.cursor |= cursor;
        if cursor {
            self.holds.insert("cursor");
        }
        (Step::Execute(Execute { slot: Some(statement.slot), cursor, types, values }), statement.holds)
    }

    /// Values of an execution, and whether their types are told: not always, once they have been.
    fn values(&mut self, which: usize) -> (Vec<Value>, bool) {
        let parameters = self.statements[which].parameters;
        match self.statements[which].told.clone() {
            Some(told) if self.rng.bool() => {
                let values = told.iter().map(|like| self.value_like(like)).collect();
                (values, false)
            }
            _ => ((0..parameters).map(|_| self.value()).collect(), true),
        }
    }

    /// Several rows at once; not every statement takes that.
    fn bulk(&mut self, which: usize) {
        let (first, types) = self.values(which);
        if first.is_empty() {
            return self.execute(which, false);
        }
        let more: Vec<Vec<Value>> = (0..self.rng.usize(..4))
            .map(|_| first.iter().map(|like| self.value_like(like)).collect())
            .collect();
        let Statement { slot, holds, .. } = self.statements[which];
        self.statements[which].told = Some(first.clone());
        self.statements[which].executed = true;
        self.say(Step::Bulk(Bulk { slot, types, rows: [vec![first], more].concat() }), holds);
        self.holds.remove("long_data");
    }

    fn value(&mut self) -> Value {
        if self.rng.u16(..600) == 0 {
            return Value::Long(self.rng.u32(FRAME_MAX - 20..FRAME_MAX + 70_000));
        }
        match self.rng.u8(..9) {
            0 => Value::Null,
            1 => Value::Tiny(self.rng.i8(..)),
            2 => Value::Int(self.rng.i32(-5..20)),
            3 => Value::Big(self.rng.i64(-5..20)),
            4 => Value::Unsigned(self.rng.u64(..)),
            5 => Value::Double(f64::from(self.rng.i32(-1000..1000)) / 8.0),
            6 => Value::Text(self.text()),
            7 => Value::Blob(vec![self.rng.u8(..); self.rng.usize(..300)]),
            _ => Value::DateTime(2024, [2, 29, self.rng.u8(..24), 59, 7]),
        }
    }

    /// A value of the same type.
    fn value_like(&mut self, like: &Value) -> Value {
        match like {
            Value::Tiny(_) => Value::Tiny(self.rng.i8(..)),
            Value::Int(_) => Value::Int(self.rng.i32(-5..20)),
            Value::Big(_) => Value::Big(self.rng.i64(-5..20)),
            Value::Text(_) => Value::Text(self.text()),
            Value::Blob(_) | Value::Sent if self.rng.u8(..100) == 0 => Value::Long(FRAME_MAX + 5),
            Value::Blob(_) | Value::Long(_) | Value::Sent => Value::Blob(vec![b'r'; self.rng.usize(..99)]),
            other => other.clone(),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        ["", "5", "text", "2024-02-29", "h\u{e9}llo \u{1f600}", "+01:00"][self.rng.usize(..6)].into()
    }

    fn fetch(&mut self, which: usize) {
        let rows = [1, 2, 5, 1000][self.rng.usize(..4)];
        if !self.statements[which].cursor && self.rng.u8(..4) > 0 {
            self.execute(which, true);
        }
        self.say(Step::Fetch { slot: self.statements[which].slot, rows }, &[]);
    }

    /// Data for each parameter in turn, then an execution that uses it, or not. MariaDB takes such data for what the parameter was
    /// in the execution before, and a statement that has moved has none before: so only for one that was never executed.
    fn long_data(&mut self, which: usize) {
        if self.statements[which].executed {
            return self.execute(which, false);
        }
        let (slot, parameters) = (self.statements[which].slot, self.statements[which].parameters);
        let mut values: Vec<Value> = (0..parameters).map(|_| self.value()).collect();
        for (parameter, value) in values.iter_mut().enumerate().filter(|(n, _)| n % 2 == 0) {
            for _ in 0..self.rng.usize(1..3) {
                let data = vec![b'd'; self.rng.usize(..5000)];
                let parameter = u16::try_from(parameter).expect("few parameters");
                self.say(Step::LongData { slot, parameter, data }, &["long_data"]);
            }
            *value = Value::Sent;
        }
        if self.rng.u8(..5) == 0 {
            return self.say(Step::ResetStatement { slot }, &[]);
        }
        let holds = self.statements[which].holds;
        self.statements[which].told = Some(values.clone());
        self.statements[which].executed = true;
        let execute = Execute { slot: Some(slot), cursor: false, types: true, values };
        self.say(Step::Execute(execute), holds);
        self.holds.remove("long_data");
    }

    fn close(&mut self, which: usize) {
        let statement = self.statements.swap_remove(which);
        self.say(Step::Close { slot: statement.slot }, &[]);
        if self.statements.is_empty() {
            self.holds.remove("cursor");
            self.holds.remove("statement");
        }
        if self.rng.u8(..4) == 0 {
            // An id that is no longer open must stay unknown.
            let values = vec![Value::Null; statement.parameters];
            let execute = Execute { slot: Some(statement.slot), cursor: false, types: true, values };
            self.say(Step::Execute(execute), &[]);
        }
    }

    // --- other commands ---------------------------------------------------------------------------------

    /// Several commands in one write.
    fn together(&mut self) {
        let mut steps = Vec::new();
        for _ in 0..self.rng.usize(2..6) {
            let (text, holds) = self.pick(words::PLAIN);
            steps.push(Step::Query(self.fill(text)));
            self.holds.extend(holds);
        }
        if self.rng.bool() {
            let (prepare, holds) = self.new_statement();
            self.holds.extend(holds);
            self.holds.insert("statement");
            let which = self.statements.len() - 1;
            let (execute, _) = self.execution(which, false);
            let Step::Execute(execute) = execute else { unreachable!("an execution") };
            // Without types the server refuses one that has parameters.
            let types = self.rng.u8(..3) > 0;
            if !types {
                self.statements[which].told = None;
            }
            steps.extend([prepare, Step::Execute(Execute { slot: None, types, ..execute })]);
        }
        self.say(Step::Together(steps), &[]);
    }

    /// Several statements in one text.
    fn several(&mut self) {
        let mut text = Vec::new();
        for n in 0..self.rng.usize(2..5) {
            let family =
                [words::PLAIN, words::SETTINGS, words::VARIABLES, words::HOLDING][self.rng.usize(..4)];
            let (words, holds) = self.pick(family);
            self.holds.extend(holds);
            text.extend_from_slice(if n == 0 { b"" } else { b"; " });
            text.extend(self.fill(words));
        }
        self.say(Step::Query(text), &[]);
    }

    fn command(&mut self) {
        let schema =
            [MASK, MASK, &format!("{MASK}2"), "nosuch_schema"][self.rng.usize(..4)].as_bytes().to_vec();
        match self.rng.u8(..20) {
            0..5 => self.say(Step::InitDb(schema), &[]),
            5..9 => self.say(Step::Ping, &[]),
            9..12 => self.say(Step::FieldList(b"t1".into()), &[]),
            12..14 => {
                let option = self.rng.u16(..2);
                self.say(Step::SetOption(option), &[]);
            }
            14..16 => {
                let file = b"501\t61\tfrom a file\n502\t62\tagain\n".to_vec();
                let text = b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t1 (id, a, b)".to_vec();
                self.say(Step::Infile(text, file), &[]);
            }
            16 if !self.calm => {
                // A session that was refused to be who it wants is held.
                let holds: &[_] = if schema == b"nosuch_schema" { &["changed_user"] } else { &[] };
                self.start_anew(Step::ChangeUser(schema), holds);
            }
            _ => self.start_anew(Step::ResetConnection, &[]),
        }
    }

    /// After this a session has nothing left of what it was.
    fn start_anew(&mut self, step: Step, holds: &[&'static str]) {
        self.say(step, holds);
        let changed = self.holds.contains("changed_user");
        self.holds = ALWAYS.iter().copied().chain(changed.then_some("changed_user")).collect();
        self.statements.clear();
        self.autocommit = true;
        self.say(Step::InitDb(MASK.into()), &[]);
        self.settle();
    }

    /// FOUND_ROWS() of a new session is what some session before it has left in the server's thread.
    fn settle(&mut self) {
        self.say(Step::Query(b"SELECT 'settled'".into()), &[]);
    }

    /// What the session has come to, all of it.
    fn finish(&mut self) {
        for text in [
            "SELECT ROW_COUNT(), LAST_INSERT_ID(), DATABASE()",
            "SET max_statement_time = 0, sql_select_limit = DEFAULT, sql_big_selects = 1",
            "SELECT @v0, @v1, @v2, @w, @trigger, @function, @procedure, @other",
            words::AUDIT,
            "ROLLBACK",
            "SELECT * FROM t1 ORDER BY 1, 2",
            "SELECT * FROM t2 ORDER BY 1",
            "SELECT * FROM t3 ORDER BY 1",
        ] {
            self.say(Step::Query(text.into()), &["user_variable"]);
        }
    }
}

/// Whether a step sets the character set of the client.
fn changes_letters(step: &Step) -> bool {
    let Step::Query(text) = step else { return false };
    ["NAMES", "CHARACTER SET", "character_set_client"]
        .iter()
        .any(|words| memchr::memmem::find(text, words.as_bytes()).is_some())
}
