//! The words of SQL that are known here, out of any case, at the price of one look into a table.

/// A known word, or another kind of token where it matters what stood before.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// No known word.
    Other,
    /// The beginning of a statement.
    Begin,
    Dot,
    Comma,
    /// Any other mark.
    Mark,
    /// A string literal or a quoted name.
    Quoted,
    /// `@@`
    System,

    // Words with a meaning at their place.
    Analyze,
    And,
    As,
    Atomic,
    Cascade,
    Count,
    Collate,
    Currval,
    Default,
    Errors,
    Exists,
    Export,
    Fetch,
    From,
    Global,
    Having,
    Identified,
    Ignore,
    Immediate,
    Index,
    LeftBehind,
    Limit,
    Local,
    Names,
    Next,
    Not,
    Open,
    Close,
    Or,
    Password,
    Previous,
    PseudoThreadId,
    Recover,
    Role,
    Routine,
    Session,
    Sequence,
    SqlCalcFoundRows,
    Statement,
    Status,
    Table,
    Temporary,
    Then,
    To,
    Transaction,
    Union,
    User,
    Value,
    Values,
    Variables,
    Warnings,
    Where,
    Work,
    CharacterSet,
    Authorization,

    // Words that begin a statement of interest.
    Alter,
    Backup,
    BeginWord,
    Binlog,
    Call,
    Case,
    Commit,
    Create,
    Deallocate,
    Declare,
    Delete,
    Do,
    Drop,
    Execute,
    Explain,
    Flush,
    For,
    Get,
    Grant,
    Handler,
    If,
    Insert,
    Load,
    Lock,
    Loop,
    Optimize,
    Prepare,
    Rename,
    Repeat,
    Replace,
    Rollback,
    Select,
    Set,
    Show,
    Unlock,
    Update,
    Use,
    While,
    With,
    Xa,

    // Functions, if a parenthesis follows.
    GetLock,
    ServiceLocks,
    ReleaseLock,
    ReleaseAllLocks,
    AsksAboutLast,
    LastInsertId,
    NextValue,
    LastValue,
    ConnectionId,
}

impl Key {
    pub fn is_verb(self) -> bool {
        (Self::Alter..Self::GetLock).contains(&self)
    }

    /// Whether EXPLAIN may stand before it.
    pub fn can_be_explained(self) -> bool {
        matches!(self, Self::Select | Self::Insert | Self::Replace | Self::Update | Self::Delete | Self::With)
    }

    pub fn is_function(self) -> bool {
        self >= Self::GetLock
    }
}

const WORDS: &[(&str, Key)] = &[
    ("alter", Key::Alter),
    ("analyze", Key::Analyze),
    ("and", Key::And),
    ("as", Key::As),
    ("atomic", Key::Atomic),
    ("authorization", Key::Authorization),
    ("backup", Key::Backup),
    ("begin", Key::BeginWord),
    ("binlog", Key::Binlog),
    ("call", Key::Call),
    ("cascade", Key::Cascade),
    ("case", Key::Case),
    ("char", Key::CharacterSet),
    ("character", Key::CharacterSet),
    ("charset", Key::CharacterSet),
    ("close", Key::Close),
    ("collate", Key::Collate),
    ("column", Key::Index),
    ("commit", Key::Commit),
    ("connection_id", Key::ConnectionId),
    ("count", Key::Count),
    ("create", Key::Create),
    ("currval", Key::Currval),
    ("deallocate", Key::Deallocate),
    ("declare", Key::Declare),
    ("default", Key::Default),
    ("desc", Key::Explain),
    ("delete", Key::Delete),
    ("describe", Key::Explain),
    ("do", Key::Do),
    ("drop", Key::Drop),
    ("else", Key::Then),
    ("error_count", Key::LeftBehind),
    ("errors", Key::Errors),
    ("event", Key::Routine),
    ("except", Key::Union),
    ("execute", Key::Execute),
    ("exists", Key::Exists),
    ("explain", Key::Explain),
    ("export", Key::Export),
    ("fetch", Key::Fetch),
    ("flush", Key::Flush),
    ("for", Key::For),
    ("found_rows", Key::AsksAboutLast),
    ("from", Key::From),
    ("function", Key::Routine),
    ("get", Key::Get),
    ("get_lock", Key::GetLock),
    ("global", Key::Global),
    ("grant", Key::Grant),
    ("handler", Key::Handler),
    ("having", Key::Having),
    ("identified", Key::Identified),
    ("if", Key::If),
    ("ignore", Key::Ignore),
    ("immediate", Key::Immediate),
    ("index", Key::Index),
    ("insert", Key::Insert),
    ("intersect", Key::Union),
    ("key", Key::Index),
    ("last_gtid", Key::LeftBehind),
    ("last_insert_id", Key::LastInsertId),
    ("lastval", Key::LastValue),
    ("limit", Key::Limit),
    ("load", Key::Load),
    ("local", Key::Local),
    ("lock", Key::Lock),
    ("loop", Key::Loop),
    ("minus", Key::Union),
    ("names", Key::Names),
    ("next", Key::Next),
    ("nextval", Key::NextValue),
    ("not", Key::Not),
    ("nowait", Key::Cascade),
    ("online", Key::Ignore),
    ("open", Key::Open),
    ("optimize", Key::Optimize),
    ("or", Key::Or),
    ("package", Key::Routine),
    ("password", Key::Password),
    ("persist", Key::Global),
    ("persist_only", Key::Global),
    ("prepare", Key::Prepare),
    ("previous", Key::Previous),
    ("procedure", Key::Routine),
    ("ps_current_thread_id", Key::ConnectionId),
    ("ps_thread_id", Key::ConnectionId),
    ("pseudo_thread_id", Key::PseudoThreadId),
    ("recover", Key::Recover),
    ("release_all_locks", Key::ReleaseAllLocks),
    ("release_lock", Key::ReleaseLock),
    ("rename", Key::Rename),
    ("repeat", Key::Repeat),
    ("replace", Key::Replace),
    ("restrict", Key::Cascade),
    ("role", Key::Role),
    ("rollback", Key::Rollback),
    ("row_count", Key::AsksAboutLast),
    ("select", Key::Select),
    ("sequence", Key::Sequence),
    ("service_get_read_locks", Key::ServiceLocks),
    ("service_get_write_locks", Key::ServiceLocks),
    ("session", Key::Session),
    ("set", Key::Set),
    ("show", Key::Show),
    ("sql_calc_found_rows", Key::SqlCalcFoundRows),
    ("statement", Key::Statement),
    ("status", Key::Status),
    ("table", Key::Table),
    ("tables", Key::Table),
    ("temporary", Key::Temporary),
    ("then", Key::Then),
    ("to", Key::To),
    ("transaction", Key::Transaction),
    ("trigger", Key::Routine),
    ("union", Key::Union),
    ("unlock", Key::Unlock),
    ("update", Key::Update),
    ("use", Key::Use),
    ("user", Key::User),
    ("value", Key::Value),
    ("values", Key::Values),
    ("variables", Key::Variables),
    ("wait", Key::Cascade),
    ("warning_count", Key::LeftBehind),
    ("warnings", Key::Warnings),
    ("where", Key::Where),
    ("while", Key::While),
    ("with", Key::With),
    ("work", Key::Work),
    ("wsrep_last_seen_gtid", Key::AsksAboutLast),
    ("wsrep_last_written_gtid", Key::AsksAboutLast),
    ("xa", Key::Xa),
    ("xor", Key::Or),
];

/// Bytes of the longest known word.
pub const LONGEST: usize = 23;

/// Places in the table: a power of two, a few times the words.
const PLACES: usize = 512;

/// A word of which length, beginning and end fit is this one, if it is not longer than these.
#[derive(Clone, Copy)]
struct Place {
    /// 0 where nobody lives.
    length: u8,
    index: u8,
    ends: Ends,
}

/// The first four letters and the last four, or all of two or three, in lower case.
type Ends = (u32, u32);

static TABLE: [Place; PLACES] = {
    let mut table = [Place { length: 0, index: 0, ends: (0, 0) }; PLACES];
    let mut index = 0;
    while index < WORDS.len() {
        let word = WORDS[index].0.as_bytes();
        let ends = ends(word);
        let mut at = first_place(ends);
        while table[at].length > 0 {
            at = (at + 1) % PLACES;
        }
        table[at] = Place { length: word.len() as u8, index: index as u8, ends };
        index += 1;
    }
    table
};

/// Setting the bit makes letters small, and of the other bytes of a word it makes no two the same.
const fn ends(word: &[u8]) -> Ends {
    const SMALL: u32 = 0x2020_2020;
    match (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        (Some(first), Some(last)) => (u32::from_le_bytes(*first) | SMALL, u32::from_le_bytes(*last) | SMALL),
        _ => match *word {
            [a, b] => (u32::from_le_bytes([a, b, 0, 0]) | SMALL, 0),
            [a, b, c] => (u32::from_le_bytes([a, b, c, 0]) | SMALL, 0),
            _ => (0, 0),
        },
    }
}

const fn first_place((first, last): Ends) -> usize {
    let mixed = (first ^ last.rotate_left(13)).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as usize % PLACES
}

/// Which word this is.
#[inline]
pub fn find(word: &[u8]) -> Key {
    let ends = ends(word);
    let mut at = first_place(ends);
    while TABLE[at].length > 0 {
        let place = &TABLE[at];
        if place.ends == ends && usize::from(place.length) == word.len() {
            let (known, key) = WORDS[usize::from(place.index)];
            if word.len() <= 8 || word.eq_ignore_ascii_case(known.as_bytes()) {
                return key;
            }
        }
        at = (at + 1) % PLACES;
    }
    Key::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case() {
        for (word, key) in WORDS {
            assert_eq!(find(word.as_bytes()), *key, "{word}");
            assert_eq!(find(word.to_ascii_uppercase().as_bytes()), *key, "{word}");
            assert_eq!(find(format!("{word}x").as_bytes()), Key::Other, "{word}x");
            assert!(word.len() <= LONGEST);
        }
        assert_eq!(find(b""), Key::Other);
        assert_eq!(find(b"a"), Key::Other);
        assert_eq!(find(b"sql_calc_xxxxx_rows"), Key::Other);
    }
}
