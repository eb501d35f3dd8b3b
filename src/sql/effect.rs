//! What a text may do to its session that the server does not report, or not exactly.

/// One kind of effect.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    AsksAboutLast,
    UserVariable,
    TakesUserLock,
    ReleasesUserLock,
    ReleasesAllUserLocks,
    LocksTables,
    UnlocksTables,
    CreatesTemporaryTable,
    DropsTable,
    OpensHandler,
    ClosesHandler,
    Prepares,
    PreparesUnknown,
    Executes,
    Deallocates,
    NextTransaction,
    Role,
    Password,
    UntransferableVariable,
    Tracking,
    Xa,
    XaEnds,
    Routine,
    Sequence,
    ConnectionId,
    Profiling,
    LastInsertId,
    FoundRows,
    Uses,
    Sets,
    Kills,
    Unreadable,
}

/// The effects of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    bits: u64,
    pub named: Vec<Named>,
}

/// An effect on something with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub effect: Effect,
    /// As written, unquoted, its qualifier kept: `db.t`.
    pub name: Box<[u8]>,
}

impl Effects {
    pub fn has(&self, effect: Effect) -> bool {
        self.bits & (1 << effect as u8) != 0
    }

    /// Nothing at all.
    pub fn is_plain(&self) -> bool {
        self.bits == 0
    }

    fn add(&mut self, effect: Effect) {
        self.bits |= 1 << effect as u8;
    }

    fn name(&mut self, effect: Effect, name: &str) {
        self.add(effect);
        self.named.push(Named { effect, name: name.trim_matches(['`', '\'']).as_bytes().into() });
    }
}

/// Adds the effects of one statement.
pub fn read(statement: &str, effects: &mut Effects) {
    let upper = statement.to_ascii_uppercase();
    let words: Vec<&str> = statement.split_whitespace().collect();
    let big: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let big: Vec<&str> = big.iter().map(String::as_str).collect();
    match big[..] {
        ["CREATE", "TEMPORARY", "TABLE", _, ..] => effects.name(Effect::CreatesTemporaryTable, words[3]),
        ["DROP", "TABLE", ..] => {
            words[2..].iter().for_each(|name| effects.name(Effect::DropsTable, name.trim_matches(',')));
        }
        ["LOCK", "TABLES", ..] => effects.add(Effect::LocksTables),
        ["UNLOCK", "TABLES"] => effects.add(Effect::UnlocksTables),
        ["HANDLER", name, "OPEN"] => {
            let _ = name;
            effects.name(Effect::OpensHandler, words[1]);
        }
        ["HANDLER", _, "CLOSE"] => effects.name(Effect::ClosesHandler, words[1]),
        ["PREPARE", _, "FROM", source, ..] if source.starts_with(['\'', '"']) => {
            effects.name(Effect::Prepares, words[1]);
        }
        ["PREPARE", ..] => effects.add(Effect::PreparesUnknown),
        ["EXECUTE", _, ..] => effects.name(Effect::Executes, words[1]),
        ["DEALLOCATE", "PREPARE", _] => effects.name(Effect::Deallocates, words[2]),
        ["SET", "TRANSACTION", ..] => effects.add(Effect::NextTransaction),
        ["SET", "ROLE", ..] => effects.add(Effect::Role),
        ["SET", "PASSWORD", ..] => effects.add(Effect::Password),
        ["SET", "NAMES", ..] => read_names(&big, effects),
        ["SET", ..] => read_set(statement, effects),
        ["CALL", ..] => effects.add(Effect::Routine),
        ["XA", "COMMIT" | "ROLLBACK", ..] => effects.add(Effect::XaEnds),
        ["XA", ..] => effects.add(Effect::Xa),
        ["USE", ..] => effects.add(Effect::Uses),
        ["SHOW", "WARNINGS"] => effects.add(Effect::AsksAboutLast),
        _ => {}
    }
    read_functions(statement, &upper, effects);
}

fn read_names(big: &[&str], effects: &mut Effects) {
    for name in ["character_set_client", "character_set_connection", "character_set_results"] {
        effects.name(Effect::Sets, name);
    }
    if big.contains(&"COLLATE") {
        effects.name(Effect::Sets, "collation_connection");
    }
}

fn read_set(statement: &str, effects: &mut Effects) {
    for item in statement[3..].split(',') {
        let Some((name, _)) = item.split_once('=') else { continue };
        let name = name.split_whitespace().last().unwrap_or_default().to_ascii_lowercase();
        let name = name.trim_start_matches("@@").trim_start_matches("session.");
        match name {
            name if name.starts_with('@') => {}
            "timestamp" => effects.add(Effect::UntransferableVariable),
            name if name.starts_with("session_track") => effects.add(Effect::Tracking),
            name => effects.name(Effect::Sets, name),
        }
    }
}

fn read_functions(statement: &str, upper: &str, effects: &mut Effects) {
    for (function, effect) in
        [("GET_LOCK('", Effect::TakesUserLock), ("RELEASE_LOCK('", Effect::ReleasesUserLock)]
    {
        for (at, _) in upper.match_indices(function) {
            let name = &statement[at + function.len()..];
            effects.name(effect, &name[..name.find('\'').unwrap_or(name.len())]);
        }
    }
    if upper.contains("RELEASE_ALL_LOCKS(") {
        effects.add(Effect::ReleasesAllUserLocks);
    }
    if upper.contains("CONNECTION_ID(") {
        effects.add(Effect::ConnectionId);
    }
    for (at, _) in statement.match_indices('@') {
        let name = &statement[at + 1..];
        let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(name.len());
        if end > 0 && !statement[..at].ends_with('@') {
            effects.name(Effect::UserVariable, &name[..end]);
        }
    }
}
