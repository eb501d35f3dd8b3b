//! Why a session must stay on its CN now: a closed list, which an operator reads in `SHOW SESSIONS` and
//! `SHOW HOLDS`.
//!
//! A hold is a fact about the session, not a judgement about when to move it. Where it is not sure whether
//! something can be carried over, it is a hold.

use std::fmt;

/// One reason. The order is that of telling: of several holds the first is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// The login is not over.
    Login,
    /// The user logged in by itself through corelane: nobody else can log it in again.
    RelayLogin,
    /// COM_CHANGE_USER: what it logged in with is no longer what corelane knows. Or a leg that was opened for a user whom corelane did not
    /// know, and so does not tell of changes, is that of one whom it knows now.
    ChangedUser,
    /// Its CN belongs to no data set (`[[cn]] data`).
    NoDataSet,
    /// Its CN's query service cannot be asked for what the session has, or in a version that corelane does not know (MatrixOne).
    QueryService,
    /// The dialog gave up following.
    Opaque,
    /// A command or its reply is under way.
    Reply,
    /// Parameter data waits for its execution.
    LongData,
    Transaction,
    Cursor,
    LockTables,
    UserLock,
    TemporaryTable,
    Handler,
    /// A statement of SQL's own PREPARE whose text is not known.
    SqlPrepare,
    /// SET TRANSACTION without SESSION: it waits for the next transaction.
    NextTransaction,
    Xa,
    /// A role whose name cannot be carried over.
    Role,
    /// A user variable whose value cannot be carried over.
    UserVariable,
    /// A system variable that cannot be set to the same value again, such as `timestamp`.
    Variable,
    /// A sequence gave a value, and the client is one that asks for it again (PREVIOUS VALUE, LASTVAL).
    Sequence,
    /// LAST_INSERT_ID() has a value that the session may ask for and no other CN can be told (MatrixOne).
    InsertId,
    /// The client has asked for the CN's own connection id, or changed how it is tracked.
    ConnectionId,
    Tracking,
    /// Code in the CN ran that may have changed what is not reported.
    Routine,
    /// A prepared statement that could not be prepared the same way again.
    Statement,
    /// More state than the limit.
    TooMuch,
    /// SHOW PROFILE's data and the like.
    Profiling,
    /// The server said that state changed, and corelane does not know which.
    Unexplained,
    /// A text of SQL that could not be read with certainty.
    Unreadable,
}

impl Hold {
    pub const ALL: [Self; 30] = [
        Self::Login,
        Self::RelayLogin,
        Self::ChangedUser,
        Self::NoDataSet,
        Self::QueryService,
        Self::Opaque,
        Self::Reply,
        Self::LongData,
        Self::Transaction,
        Self::Cursor,
        Self::LockTables,
        Self::UserLock,
        Self::TemporaryTable,
        Self::Handler,
        Self::SqlPrepare,
        Self::NextTransaction,
        Self::Xa,
        Self::Role,
        Self::UserVariable,
        Self::Variable,
        Self::Sequence,
        Self::InsertId,
        Self::ConnectionId,
        Self::Tracking,
        Self::Routine,
        Self::Statement,
        Self::TooMuch,
        Self::Profiling,
        Self::Unexplained,
        Self::Unreadable,
    ];

    /// The reason in one word, as `SHOW SESSIONS` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::RelayLogin => "relay_login",
            Self::ChangedUser => "changed_user",
            Self::NoDataSet => "no_data_set",
            Self::QueryService => "query_service",
            Self::Opaque => "opaque",
            Self::Reply => "reply",
            Self::LongData => "long_data",
            Self::Transaction => "transaction",
            Self::Cursor => "cursor",
            Self::LockTables => "lock_tables",
            Self::UserLock => "user_lock",
            Self::TemporaryTable => "temporary_table",
            Self::Handler => "handler",
            Self::SqlPrepare => "sql_prepare",
            Self::NextTransaction => "next_transaction",
            Self::Xa => "xa",
            Self::Role => "role",
            Self::UserVariable => "user_variable",
            Self::Variable => "variable",
            Self::Sequence => "sequence",
            Self::InsertId => "insert_id",
            Self::ConnectionId => "connection_id",
            Self::Tracking => "tracking",
            Self::Routine => "routine",
            Self::Statement => "statement",
            Self::TooMuch => "too_much",
            Self::Profiling => "profiling",
            Self::Unexplained => "unexplained",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether it will hold for as long as the session lives, as far as anybody can tell.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::Login
                | Self::RelayLogin
                | Self::ChangedUser
                | Self::NoDataSet
                | Self::Opaque
                | Self::TooMuch
        )
    }

    /// The reason as a sentence.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Login => "it is logging in",
            Self::RelayLogin => "its user is not known to corelane, so nobody can log it in again",
            Self::ChangedUser => {
                "it changed its user, and corelane cannot log that one in again, or its CN does not track it for that"
            }
            Self::NoDataSet => "its CN belongs to no data set ([[cn]] data)",
            Self::QueryService => {
                "its CN's query service is out of reach, or of a version that corelane does not know"
            }
            Self::Opaque => "its dialog can no longer be followed",
            Self::Reply => "a command or its reply is under way",
            Self::LongData => "parameter data waits on the CN for an execution",
            Self::Transaction => "a transaction is open",
            Self::Cursor => "a cursor is open",
            Self::LockTables => "it has locked tables",
            Self::UserLock => "it holds a lock taken by GET_LOCK",
            Self::TemporaryTable => "it has a temporary table",
            Self::Handler => "it has opened a table by HANDLER",
            Self::SqlPrepare => "it has prepared a statement by SQL whose text is not known",
            Self::NextTransaction => "SET TRANSACTION waits for its next transaction",
            Self::Xa => "an XA transaction is open",
            Self::Role => "it has set a role that cannot be carried over",
            Self::UserVariable => "it has a user variable that cannot be carried over",
            Self::Variable => "it has set a system variable that cannot be set to the same value again",
            Self::Sequence => "it has taken a value from a sequence, and may ask for it again",
            Self::InsertId => "it has inserted, and may ask for LAST_INSERT_ID(), which this CN alone knows",
            Self::ConnectionId => "it has asked for the CN's own connection id",
            Self::Tracking => "its CN does not track sessions (MySQL before 5.7), or it has changed how",
            Self::Routine => "stored code ran that may have changed what is not reported",
            Self::Statement => "a prepared statement cannot be prepared the same way again",
            Self::TooMuch => "it has gathered more state than the limit",
            Self::Profiling => "it profiles its statements",
            Self::Unexplained => "the CN reported a change of state that corelane cannot explain",
            Self::Unreadable => "it sent SQL that corelane cannot read with certainty",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

/// A set of holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds(u32);

impl Holds {
    pub fn add(&mut self, hold: Hold) {
        self.0 |= 1 << hold as u32;
    }

    pub fn remove(&mut self, hold: Hold) {
        self.0 &= !(1 << hold as u32);
    }

    pub fn has(self, hold: Hold) -> bool {
        self.0 & (1 << hold as u32) != 0
    }

    /// Those that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one to tell.
    pub fn first(self) -> Option<Hold> {
        Hold::ALL.get(self.0.trailing_zeros() as usize).copied()
    }
}

impl FromIterator<Hold> for Holds {
    fn from_iter<I: IntoIterator<Item = Hold>>(holds: I) -> Self {
        let mut all = Self::default();
        holds.into_iter().for_each(|hold| all.add(hold));
        all
    }
}
