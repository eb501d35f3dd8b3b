//! A client's KILL, as far as a proxy has to understand it: whose session is meant, by the id that its client was told.
//!
//! Read are `KILL n`, `KILL CONNECTION n`, `KILL QUERY n` alone, and COM_PROCESS_KILL. Anything else, such as an id that is an expression
//! or a text with a further statement, goes to the CN as it is.

use crate::wire::reply::{ErrPacket, OK};

/// Bytes of the longest command that is looked at.
pub const KILL_MAX: usize = 256;

const QUERY: u8 = 0x03;
const PROCESS_KILL: u8 = 0x0c;

/// A query without attributes, where their number is told: none of them, in one set.
const NO_ATTRIBUTES: &[u8] = &[QUERY, 0, 1];

/// MatrixOne's internal error, and how it begins where a CN does not know the session.
const INTERNAL: u16 = 20101;
const UNKNOWN: &[u8] = b"internal error: Unknown connection id";

/// What a CN made of a KILL, the one that counts most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Done,
    Refused,
    /// It could not be asked, so nobody knows.
    NotAsked,
    Unknown,
}

impl Verdict {
    /// By the payload of its answer.
    pub fn of(answer: &[u8]) -> Self {
        match (answer.first(), ErrPacket::read(answer)) {
            (Some(&OK), _) => Self::Done,
            (_, Ok(err)) if err.code == INTERNAL && err.message.starts_with(UNKNOWN) => Self::Unknown,
            _ => Self::Refused,
        }
    }
}

/// One KILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The connection id that it names.
    pub target: u32,
    /// As SQL, which MatrixOne wants in the place of COM_PROCESS_KILL.
    pub text: Vec<u8>,
    /// Only what the session does is to end, and not the session.
    pub query: bool,
}

impl Kill {
    /// The same, by the CN's own id of the connection.
    pub fn at_cn(&self, connection: u32) -> String {
        format!("KILL {}{connection}", if self.query { "QUERY " } else { "" })
    }
}

/// How a CN of MySQL's is told of a KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the killer's own connection.
    OwnLeg,
    /// On a new one, as the killer.
    AsKiller,
    /// On a new one, by whoever may: the killer is the same user.
    ForOwner,
    /// Nobody can tell the CN: the killer is the same user, so corelane may end the session itself.
    EndOnly,
    /// It is another user's, and the CN cannot be asked whether that may be.
    NotOwner,
}

/// `same_cn`: killer and session are on the same CN; `known`: the killer can be logged in again; `same_user`: it is the session's own
/// user; `somebody`: somebody can be logged in who may kill the sessions of that user.
pub fn way(same_cn: bool, known: bool, same_user: bool, somebody: bool) -> Way {
    match (same_cn, known, same_user, somebody) {
        (true, ..) => Way::OwnLeg,
        (false, true, ..) => Way::AsKiller,
        (false, false, true, true) => Way::ForOwner,
        (false, false, true, false) => Way::EndOnly,
        (false, false, false, _) => Way::NotOwner,
    }
}

/// Whether a command may be a KILL, by its first bytes: at least six where it has as many.
#[inline]
pub fn may_be_kill(payload: &[u8], length: usize) -> bool {
    match payload {
        [PROCESS_KILL, ..] => length == 5,
        [QUERY, 0, 1, verb @ ..] => length <= KILL_MAX && verb.len() > 2 && begins(verb, b"KIL"),
        [QUERY, verb @ ..] => {
            length <= KILL_MAX && verb.len() > 4 && begins(verb, b"KILL") && is_space(verb[4])
        }
        _ => false,
    }
}

/// Reads a whole command. `attributes`: the client speaks QUERY_ATTRIBUTES, so the number of them stands before the text; with any it is
/// not looked at.
pub fn read(payload: &[u8], attributes: bool) -> Option<Kill> {
    if let [PROCESS_KILL, a, b, c, d] = *payload {
        let target = u32::from_le_bytes([a, b, c, d]);
        return Some(Kill { target, text: format!("KILL CONNECTION {target}").into_bytes(), query: false });
    }
    let text = payload.strip_prefix(if attributes { NO_ATTRIBUTES } else { &NO_ATTRIBUTES[..1] })?;
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let kill = words.next()?;
    let mut next = words.next()?;
    let query = next.eq_ignore_ascii_case("QUERY");
    if ["CONNECTION", "QUERY"].iter().any(|word| word.eq_ignore_ascii_case(next)) {
        next = words.next()?;
    }
    let target = next.trim_end_matches(';').parse().ok()?;
    // MatrixOne's KILL QUERY may name a statement. What follows an end is another statement.
    let ends = !next.ends_with(';');
    let alone = words.all(|word| word == ";" || (ends && is_quoted(word)));
    (alone && kill.eq_ignore_ascii_case("KILL")).then(|| Kill { target, text: text.to_vec(), query })
}

fn is_quoted(word: &str) -> bool {
    let word = word.trim_end_matches(';');
    let inner = word.strip_prefix(['\'', '"']).and_then(|rest| rest.strip_suffix(['\'', '"']));
    inner.is_some_and(|inner| !inner.contains(['\'', '"', ';', '\\']))
}

fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<u32> {
        let payload = [&[QUERY][..], text.as_bytes()].concat();
        let kill = read(&payload, false)?;
        assert!(may_be_kill(&payload[..6], payload.len()), "{text}");
        assert_eq!(kill.text, text.as_bytes());
        let told = [NO_ATTRIBUTES, text.as_bytes()].concat();
        assert!(may_be_kill(&told[..6], told.len()), "{text}");
        assert_eq!(read(&told, true), Some(kill.clone()), "{text}");
        assert_eq!((read(&told, false), read(&payload, true)), (None, None), "{text}");
        Some(kill.target)
    }

    #[test]
    fn the_forms_of_kill_are_read() {
        for text in
            ["KILL 7", "kill\tquery 7;", "Kill Connection\n7", "kill query 7 'statement' ;", "kill 7 ; "]
        {
            assert_eq!(target(text), Some(7), "{text}");
        }
        for text in ["kill 7; select 1", "kill 7;select 1", "kill 7 ; select 1", "kill 7 and", "kill 7 'a;'"]
        {
            assert_eq!(target(text), None, "{text}");
        }
        for text in ["kill", "kill @a", "kill query", "kill -1", "kill 4294967296", "killer 7", "select 7"] {
            assert_eq!(target(text), None, "{text}");
        }
        let kill = read(b"\x0c\x07\0\0\x80", false).unwrap();
        assert_eq!((kill.target, &kill.text[..]), (0x8000_0007, &b"KILL CONNECTION 2147483655"[..]));
        assert!(may_be_kill(b"\x0c\x07\0\0\x80", 5) && !may_be_kill(b"\x0c\x07\0\0", 4));
    }

    #[test]
    fn a_cn_that_knows_the_session_counts_before_one_that_does_not() {
        let verdicts = [
            &b"\0\0\0\x12\x08\0\0"[..],
            b"\xff\x15\x04#28000Access denied",
            b"\xff\x85\x4e#HY000internal error: something else",
            b"",
            b"\xff\x85\x4e#HY000internal error: Unknown connection id 7",
        ]
        .map(Verdict::of);
        use Verdict::{Done, NotAsked, Refused, Unknown};
        assert_eq!(verdicts, [Done, Refused, Refused, Refused, Unknown]);
        assert!(Done < Refused && Refused < NotAsked && NotAsked < Unknown);
    }

    #[test]
    fn a_kill_is_said_by_the_id_that_the_cn_knows() {
        for (payload, said) in [
            (&b"\x03KILL 7"[..], "KILL 9"),
            (b"\x03kill connection 7", "KILL 9"),
            (b"\x03kill query 7;", "KILL QUERY 9"),
            (b"\x0c\x07\0\0\0", "KILL 9"),
        ] {
            assert_eq!(read(payload, false).unwrap().at_cn(9), said);
        }
    }

    /// The CN judges wherever it can be asked as the killer; else only the same user may kill.
    #[test]
    fn who_may_kill_is_for_the_cn_to_say() {
        for rest in 0..8 {
            let [known, same_user, somebody] = [1, 2, 4].map(|bit| rest & bit != 0);
            assert_eq!(way(true, known, same_user, somebody), Way::OwnLeg);
            assert_eq!(way(false, true, same_user, somebody), Way::AsKiller);
        }
        assert_eq!(way(false, false, true, true), Way::ForOwner);
        assert_eq!(way(false, false, true, false), Way::EndOnly);
        assert_eq!([way(false, false, false, true), way(false, false, false, false)], [Way::NotOwner; 2]);
    }

    #[test]
    fn other_commands_are_none() {
        for payload in [
            &b"\x03kill"[..],
            b"\x03\0\x01sel",
            b"\x03\0\x02kil",
            b"\x03kill1",
            b"\x03killer",
            b"\x03sel",
            b"\x0e",
            b"",
        ] {
            assert!(!may_be_kill(payload, payload.len()), "{payload:?}");
        }
        assert!(!may_be_kill(b"\x03kill ", KILL_MAX + 1));
        assert_eq!(read(b"\x03\xff", false), None);
    }
}
