//! What a text may do to its session that the server does not report, or not exactly: a set of effects, some
//! of them with names.
//!
//! Invariant: an effect that takes something (a lock, a table, a handler) takes back an earlier one of the same
//! text that lets go of the same thing. So whoever applies all that is taken first, and then all that is let go
//! of, ends with what the server has, or with more.

/// Names in the effects of one text.
pub const NAMES_MAX: usize = 64;

/// Stands between a name and its qualifier: no name has such a byte, but many have a dot.
pub const SEPARATOR: u8 = 0;

/// One kind of effect.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The answer depends on what the statement before left behind: `ROW_COUNT()`, `SHOW WARNINGS`,
    /// `@@error_count`, `@@last_gtid`, `GET DIAGNOSTICS`, the session's own `SHOW STATUS`.
    AsksAboutLast,
    /// Mentions `@name`: reads or assigns it. Named in lower case, without `@`.
    UserVariable,
    /// `GET_LOCK(`. Named by a literal if it runs exactly once, else by the empty name.
    TakesUserLock,
    /// `RELEASE_LOCK(`, where it surely runs. Named if its argument is a literal.
    ReleasesUserLock,
    /// `RELEASE_ALL_LOCKS()`, where it surely runs.
    ReleasesAllUserLocks,
    /// `LOCK TABLES`, `FLUSH TABLES .. WITH READ LOCK`, `FLUSH TABLES .. FOR EXPORT`.
    LocksTables,
    /// `LOCK INSTANCE`, `LOCK BINLOG`, `BACKUP LOCK`, `BACKUP STAGE`: with `LocksTables`, but `UNLOCK TABLES`
    /// does not end it, and no effect tells its end.
    LocksInstance,
    UnlocksTables,
    /// Named; by the empty name if that could not be read.
    CreatesTemporaryTable,
    /// `DROP TABLE a, b`, temporary or not. Named each.
    DropsTable,
    /// `HANDLER .. OPEN`. Named by alias, else by table, without schema.
    OpensHandler,
    ClosesHandler,
    /// `PREPARE name FROM 'literal'`. Named.
    Prepares,
    /// `PREPARE name FROM` anything else, named; `EXECUTE IMMEDIATE`, without a name.
    PreparesUnknown,
    /// `EXECUTE name`. Named.
    Executes,
    /// `DEALLOCATE PREPARE name`, `DROP PREPARE name`. Named.
    Deallocates,
    /// `SET TRANSACTION` or `SET @@transaction_isolation`: for the next transaction only.
    NextTransaction,
    /// COMMIT or ROLLBACK, where it surely runs.
    EndsTransaction,
    /// `SET ROLE`.
    Role,
    /// The login may no longer work: `SET PASSWORD`, `ALTER USER`, `RENAME USER`, `DROP USER`, `SET SESSION AUTHORIZATION` and
    /// the like.
    Password,
    /// Sets one of [`UNTRANSFERABLE`](super::variable::UNTRANSFERABLE).
    UntransferableVariable,
    /// Sets what the session is told of its schema, its variables or its state: one of [`TRACKING`](super::variable::TRACKING).
    Tracking,
    /// XA, but for its ends and RECOVER.
    Xa,
    /// `XA COMMIT`, `XA ROLLBACK`.
    XaEnds,
    /// CALL, a compound statement, `EXECUTE IMMEDIATE`, BINLOG: code that may do what is not reported.
    Routine,
    /// Takes a sequence's next value.
    NextValue,
    /// Asks for the value of a sequence that this session took last.
    LastValue,
    /// Asks for the CN's own connection or thread id.
    ConnectionId,
    /// Sets `profiling`.
    Profiling,
    /// Gives LAST_INSERT_ID() a value: `LAST_INSERT_ID(x)`, `SET last_insert_id`, `SET identity`.
    LastInsertId,
    /// Asks for it: `LAST_INSERT_ID()`.
    ReadsInsertId,
    /// `SQL_CALC_FOUND_ROWS`.
    FoundRows,
    Uses,
    /// Sets system variables of the session, in any form. Named each in lower case, but for
    /// `SET SESSION TRANSACTION`, whose variables have other names on other servers. What sets the connection's character set
    /// names its collation as well, unless that becomes the character set's default.
    Sets,
    /// `SET NAMES`, and with a collation.
    SetsNames,
    NamesCollate,
    /// Sets one of the client's character sets or `collation_connection`, but not by SET NAMES.
    CollatesApart,
    /// Changes a table's definition, which may be that of a temporary one.
    AltersTable,
    /// Gives a table another name.
    RenamesTable,
    /// More than one statement.
    Several,
    /// Ends within quotes or a comment; may mean different things to different servers; or has more names than
    /// [`NAMES_MAX`], or longer ones than any server takes.
    Unreadable,
    /// May give LAST_INSERT_ID() a value by inserting: INSERT, REPLACE, LOAD, `CREATE .. SELECT`, CALL, EXECUTE.
    Inserts,
    /// Reads or writes tables for certain, and so clears what the statement before left behind: warnings and errors.
    Tables,
}

impl Effect {
    const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// What lets go of the thing that this takes.
    fn released_by(self) -> Option<Self> {
        match self {
            Self::TakesUserLock => Some(Self::ReleasesUserLock),
            Self::LocksTables => Some(Self::UnlocksTables),
            Self::CreatesTemporaryTable => Some(Self::DropsTable),
            Self::OpensHandler => Some(Self::ClosesHandler),
            Self::Prepares | Self::PreparesUnknown => Some(Self::Deallocates),
            Self::Xa => Some(Self::XaEnds),
            Self::NextTransaction => Some(Self::EndsTransaction),
            _ => None,
        }
    }
}

/// The effects of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    bits: u64,
    /// In the order of the text, at most [`NAMES_MAX`].
    pub named: Vec<Named>,
    /// Statements read to their ends so far.
    statements: u16,
}

/// An effect on something with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub effect: Effect,
    /// Unquoted; a qualifier stands before it, and a [`SEPARATOR`] between. Variables in lower case, all others as written.
    /// Empty: not known.
    pub name: Box<[u8]>,
    /// Which statement of the text has it, counted from 0.
    pub statement: u16,
}

impl Effects {
    pub fn has(&self, effect: Effect) -> bool {
        self.bits & effect.bit() != 0
    }

    /// Nothing that matters by itself.
    pub fn is_plain(&self) -> bool {
        const PLAIN: u64 = Effect::Inserts.bit()
            | Effect::Tables.bit()
            | Effect::EndsTransaction.bit()
            | Effect::ReadsInsertId.bit()
            | Effect::Several.bit();
        self.bits & !PLAIN == 0
    }

    /// Whether what the statement before left behind is gone for certain. What an EXECUTE or a CALL may insert is not.
    pub fn clear_leftovers(&self) -> bool {
        let inserts = self.has(Effect::Inserts) && !self.has(Effect::Executes) && !self.has(Effect::Routine);
        self.has(Effect::Tables) || inserts
    }

    /// This effect and no other.
    pub fn is_only(&self, effect: Effect) -> bool {
        self.bits == effect.bit()
    }

    /// The statement has ended, and another one may begin.
    pub(super) fn end_statement(&mut self) {
        self.statements = self.statements.saturating_add(1);
    }

    /// Adds an effect that has no name.
    pub fn add(&mut self, effect: Effect) {
        self.bits |= effect.bit();
    }

    /// An effect that takes something; without a name where none can be.
    pub(super) fn take(&mut self, effect: Effect, name: Option<&[u8]>) {
        self.add(effect);
        if effect == Effect::TakesUserLock {
            self.bits &= !Effect::ReleasesAllUserLocks.bit();
        }
        if let Some(release) = effect.released_by() {
            self.take_back(release, name.unwrap_or_default());
        }
        if let Some(name) = name {
            self.push(effect, name);
        }
    }

    /// An effect that lets go of something by its name; one too many is left out, which lets go of less.
    pub(super) fn release(&mut self, effect: Effect, name: &[u8]) {
        if self.named.len() < NAMES_MAX && !name.is_empty() {
            self.add(effect);
            self.named.push(Named { effect, name: name.into(), statement: self.statements });
        }
    }

    /// A name of which it is enough to hear once. One without a letter names nothing.
    pub(super) fn mention(&mut self, effect: Effect, name: &[u8]) {
        if name.is_empty() {
            return;
        }
        self.add(effect);
        let known = |named: &Named| named.effect == effect && named.name.eq_ignore_ascii_case(name);
        if !self.named.iter().any(known) {
            self.push(effect, &name.to_ascii_lowercase());
        }
    }

    /// The user locks that were named are taken or released perhaps, or more than once.
    pub(super) fn doubt_user_locks(&mut self) {
        self.named.retain(|named| named.effect != Effect::ReleasesUserLock);
        self.forget_unnamed(Effect::ReleasesUserLock);
        let taken = self.named.iter_mut().filter(|named| named.effect == Effect::TakesUserLock);
        taken.for_each(|named| named.name = Box::default());
    }

    fn push(&mut self, effect: Effect, name: &[u8]) {
        if self.named.len() < NAMES_MAX {
            self.named.push(Named { effect, name: name.into(), statement: self.statements });
        } else {
            self.add(Effect::Unreadable);
        }
    }

    /// Takes back what lets go of `name`, or of anything if that is empty. The schema does not count.
    fn take_back(&mut self, release: Effect, name: &[u8]) {
        if self.has(release) {
            let same =
                |other: &[u8]| name.is_empty() || last_part(other).eq_ignore_ascii_case(last_part(name));
            self.named.retain(|named| named.effect != release || !same(&named.name));
            self.forget_unnamed(release);
        }
    }

    fn forget_unnamed(&mut self, effect: Effect) {
        if !self.named.iter().any(|named| named.effect == effect) {
            self.bits &= !effect.bit();
        }
    }
}

fn last_part(name: &[u8]) -> &[u8] {
    name.rsplit(|&byte| byte == SEPARATOR).next().unwrap_or_default()
}
