//! Tests of the state by literal packets, each with the reply that a real server would give.

use super::*;
use crate::session::restore;
use crate::session::statements::{
    EFFECT_NAMES_MAX, KNOWN_MAX, PARAMETERS_MAX, STATEMENTS_MAX, TEXT_MAX, TYPES_MAX, Types,
};
use crate::session::tracking::Wishes;
use crate::wire::reply::OkPacket;
use crate::wire::statement::Execute;
use crate::wire::status::Status;
use crate::wire::track::{Change, Changes};
use proptest::prelude::*;

mod reports;
mod statements;

const TRACK: Capabilities = Capabilities::SESSION_TRACK;

pub fn beginning() -> Beginning {
    let known = |value: &str| Known::from(value.as_bytes());
    let context = Context {
        schema: Box::default(),
        sql_mode: known("STRICT_TRANS_TABLES"),
        client: known("utf8mb4"),
        connection: known("utf8mb4"),
        collation: known("utf8mb4_general_ci"),
    };
    Beginning { wishes: Wishes::none(), context }
}

pub fn state() -> State {
    State::new(TRACK, true, beginning(), Some(b"db"))
}

/// Sends a command whole, or in pieces of one byte.
fn send(state: &mut State, payload: &[u8]) -> Option<Errand> {
    let command = Command::from_byte(payload[0]);
    if state.begin(command, payload) {
        state.payload(payload);
    }
    state.end()
}

fn send_bytes(state: &mut State, payload: &[u8]) -> Option<Errand> {
    let command = Command::from_byte(payload[0]);
    if state.begin(command, &payload[..1]) {
        payload.iter().for_each(|byte| state.payload(&[*byte]));
    }
    state.end()
}

pub fn query(state: &mut State, sql: &str) -> Option<Errand> {
    send(state, &[b"\x03", sql.as_bytes()].concat())
}

pub fn ok(state: &mut State, errand: Option<Errand>) {
    if let Some(errand) = errand {
        state.replied(errand, Verdict::Done, Status::AUTOCOMMIT);
    }
}

fn failed(state: &mut State, errand: Option<Errand>) {
    state.replied(errand.expect("an errand"), Verdict::Failed, Status::AUTOCOMMIT);
}

/// Says a text and gives it an OK, with changes where there are some.
pub fn say(state: &mut State, sql: &str, changes: &[u8]) {
    let errand = query(state, sql);
    if !changes.is_empty() {
        state.changed(errand, Changes(changes));
    }
    ok(state, errand);
}

pub fn variable(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let change = Change::SystemVariable { name: name.as_bytes(), value: value.as_bytes() };
    change.write(&mut out);
    Change::State(b"1").write(&mut out);
    out
}

fn schema(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Change::Schema(name.as_bytes()).write(&mut out);
    out
}

pub fn prepare(state: &mut State, sql: &str, id: u32, parameters: u16) -> u32 {
    let errand = send(state, &[b"\x16", sql.as_bytes()].concat()).expect("an errand");
    let ok = PrepareOk { statement: id, columns: 1, parameters, warnings: 0, metadata_follows: true };
    let id = state.prepared(errand, &ok);
    state.replied(errand, Verdict::Done, Status::AUTOCOMMIT);
    id
}

fn execute(id: u32, flags: u8, rest: &[u8]) -> Vec<u8> {
    [&[0x17][..], &id.to_le_bytes(), &[flags, 1, 0, 0, 0], rest].concat()
}

fn held(state: &State) -> Option<Hold> {
    state.holds().first()
}

#[test]
fn a_fresh_state_is_small_and_holds_nothing() {
    assert!(size_of::<State>() <= 264, "{}", size_of::<State>());
    fn sendable<T: Send>(_: &T) {}
    let state = state();
    sendable(&state);
    assert!(state.holds().is_empty() && state.complete() && state.cost() == 0);
    let untracked = State::new(Capabilities::default(), true, beginning(), None);
    assert_eq!(held(&untracked), Some(Hold::Tracking));
}

#[test]
fn names_of_user_variables_beyond_ascii_are_checked_or_hold() {
    for (mariadb, hold) in [(true, None), (false, Some(Hold::UserVariable))] {
        let mut state = State::new(TRACK, mariadb, beginning(), None);
        say(&mut state, "SET @plain = 1", b"");
        assert_eq!(held(&state), None);
        say(&mut state, "SET @é = 1", b"");
        assert_eq!(held(&state), hold);
    }
}

#[test]
fn ordinary_commands_are_no_errands() {
    let mut state = state();
    let id = prepare(&mut state, "SELECT ?", 1, 1);
    for payload in [
        &b"\x03SELECT 1"[..],
        b"\x03INSERT INTO t VALUES (1)",
        b"\x03SHOW WARNINGS",
        b"\x0e",
        b"\x1a\x01\0\0\0",
        b"\x1c\x01\0\0\0\x01\0\0\0",
        b"",
        b"\x17",
        b"\x19\x01",
        &execute(id, 0, b"\0\x01\x03\0\x07\0\0\0"),
        &execute(77, 1, b""),
    ] {
        let command = Command::from_byte(payload.first().copied().unwrap_or(0));
        if state.begin(command, payload) {
            state.payload(payload);
        }
        assert_eq!(state.end(), None, "{payload:?}");
    }
    assert!(state.holds().is_empty());
}

/// Texts with the hold that they make, and the text that ends it.
#[test]
fn holds_begin_and_end() {
    let table = [
        ("LOCK TABLES t READ", Hold::LockTables, "UNLOCK TABLES"),
        ("SELECT GET_LOCK('a', 1)", Hold::UserLock, "SELECT RELEASE_LOCK('A')"),
        ("SELECT GET_LOCK('a', 1)", Hold::UserLock, "SELECT RELEASE_ALL_LOCKS()"),
        ("CREATE TEMPORARY TABLE t (a int)", Hold::TemporaryTable, "DROP TABLE db.t"),
        ("HANDLER t OPEN", Hold::Handler, "HANDLER t CLOSE"),
        ("XA START 'x'", Hold::Xa, "XA ROLLBACK 'x'"),
        ("PREPARE s FROM 'a' 'b'", Hold::SqlPrepare, "DEALLOCATE PREPARE s"),
        ("PREPARE s FROM @a", Hold::SqlPrepare, "DEALLOCATE PREPARE s"),
    ];
    for (begins, hold, ends) in table {
        let mut state = state();
        let errand = query(&mut state, begins);
        assert_eq!(held(&state), Some(hold), "{begins}, sent");
        failed(&mut state, errand);
        assert_eq!(held(&state), Some(hold), "{begins}, failed");
        let errand = query(&mut state, ends);
        failed(&mut state, errand);
        assert_eq!(held(&state), Some(hold), "{ends}, failed");
        say(&mut state, &format!("{ends}; {begins}"), b"");
        assert_eq!(held(&state), Some(hold), "{ends}; {begins}");
        // Twice, as the text above may count as having taken a second lock.
        say(&mut state, ends, b"");
        say(&mut state, ends, b"");
        assert_eq!(held(&state), None, "{ends}");
    }
}

#[test]
fn a_lock_taken_twice_is_released_twice() {
    let mut state = state();
    for (text, hold) in [
        ("SELECT GET_LOCK('a', 1)", Some(Hold::UserLock)),
        ("SELECT GET_LOCK('a', 1)", Some(Hold::UserLock)),
        ("SELECT RELEASE_LOCK('a')", Some(Hold::UserLock)),
        ("SELECT RELEASE_LOCK('a')", None),
    ] {
        say(&mut state, text, b"");
        assert_eq!(held(&state), hold, "{text}");
    }
}

#[test]
fn some_holds_end_with_a_reset_and_some_never() {
    let table = [
        ("SET PASSWORD = 'x'", Some(Hold::ChangedUser)),
        ("SELECT CONNECTION_ID()", Some(Hold::ConnectionId)),
        ("CALL p()", None),
        ("SET timestamp = 1", None),
        ("SET TRANSACTION READ ONLY", None),
        ("SELECT GET_LOCK(?, 1)", None),
        ("CREATE TEMPORARY TABLE t (a int)", None),
    ];
    for (text, after) in table {
        let mut state = state();
        say(&mut state, text, b"");
        assert!(held(&state).is_some(), "{text}");
        let errand = send(&mut state, b"\x1f");
        ok(&mut state, errand);
        assert!(state.holds().has(Hold::Tracking), "{text}: until it is tracked again");
        state.tracked(&beginning());
        assert_eq!(held(&state), after, "{text}");
    }
}

#[test]
fn a_table_is_dropped_in_its_own_schema_only() {
    let mut state = state();
    say(&mut state, "CREATE TEMPORARY TABLE t (a int)", b"");
    say(&mut state, "USE other", &schema("other"));
    say(&mut state, "DROP TABLE t", b"");
    assert_eq!(held(&state), Some(Hold::TemporaryTable));
    say(&mut state, "DROP TABLE db.t", b"");
    assert_eq!(held(&state), None);
}

#[test]
fn a_transaction_that_ended_has_used_up_its_characteristics() {
    let mut state = state();
    let errand = query(&mut state, "SET TRANSACTION READ ONLY");
    state.transaction_ended();
    ok(&mut state, errand);
    assert_eq!(held(&state), Some(Hold::NextTransaction));
    state.transaction_ended();
    assert_eq!(held(&state), None);
}

#[test]
fn texts_that_cannot_be_read_with_certainty_hold() {
    let ansi = variable("sql_mode", "ANSI_QUOTES");
    let names = variable("character_set_client", "gbk");
    let table: [(&str, &[u8], &str, bool); 6] = [
        ("SET sql_mode = ANSI_QUOTES", &ansi, "SELECT \"a\\\"", false),
        ("SET @@sql_mode = ANSI_QUOTES", b"", "SELECT \"a\"", true),
        ("SET @@sql_mode = ANSI_QUOTES", b"", "SELECT 'a'", false),
        ("SET NAMES gbk", &names, "SELECT 'é'", true),
        ("SET NAMES gbk", &names, "SELECT 'e'", false),
        ("SELECT 1", b"", "SELECT \"é\\n\"", false),
    ];
    for (text, changes, next, doubtful) in table {
        let mut state = state();
        say(&mut state, text, changes);
        say(&mut state, next, b"");
        assert_eq!(state.holds().has(Hold::Unreadable), doubtful, "{text}; {next}");
    }
    let mut state = state();
    let first = query(&mut state, "SET sql_mode = ANSI_QUOTES");
    let _ = query(&mut state, "SELECT \"a\"");
    ok(&mut state, first);
    assert!(state.holds().has(Hold::Unreadable), "sent before the mode was known");
}

#[test]
fn query_attributes_are_passed_over() {
    let capabilities = TRACK | Capabilities::QUERY_ATTRIBUTES;
    const ATTRIBUTE: &[u8] = b"\x03\x01\x01\0\x01\xfd\0\x0btraceparent\x0500-af";
    let far = [b"\x03\x01\x01\0\x01\xfd\0\x01a\xfc\xff\xff".to_vec(), vec![b'x'; 70_000]].concat();
    for (payload, hold) in [
        (&b"\x03\0\x01LOCK TABLES t READ"[..], Some(Hold::LockTables)),
        (&[ATTRIBUTE, b"LOCK TABLES t READ"].concat(), Some(Hold::LockTables)),
        (&[ATTRIBUTE, b"SELECT 1"].concat(), None),
        (&far, Some(Hold::Unreadable)),
        (b"\x03\0", Some(Hold::Unreadable)),
    ] {
        for send in [send, send_bytes] {
            let mut state = State::new(capabilities, false, beginning(), None);
            let errand = send(&mut state, payload);
            ok(&mut state, errand);
            assert_eq!(held(&state), hold, "{}", payload[..payload.len().min(50)].escape_ascii());
        }
    }
    let state = State::new(capabilities, false, beginning(), None);
    assert!(state.asks_about_last(Command::Query, &[ATTRIBUTE, b"SHOW WARNINGS"].concat()));
    assert!(!state.asks_about_last(Command::Query, &[ATTRIBUTE, b"SELECT 1"].concat()));
}

#[test]
fn executing_by_sql_has_the_effects_of_the_text_inside() {
    let mut state = state();
    say(&mut state, "PREPARE s FROM 'CREATE TEMPORARY TABLE t (a int)'", b"");
    assert_eq!(held(&state), None);
    say(&mut state, "EXECUTE s", b"");
    assert_eq!(held(&state), Some(Hold::TemporaryTable));
    let errand = query(&mut state, "EXECUTE another");
    failed(&mut state, errand);
    assert!(!state.holds().has(Hold::Routine), "there is none");
    say(&mut state, "EXECUTE another", b"");
    assert!(state.holds().has(Hold::Routine));
}

/// The server has forgotten by then what corelane asked it to report.
#[test]
fn who_is_refused_as_another_user_is_shown_what_the_server_tells() {
    let mut state = state();
    let errand = send(&mut state, b"\x11app\0\0nosuch\0");
    failed(&mut state, errand);
    assert_eq!(state.wishes(), Wishes::everything());
    assert!(state.holds().has(Hold::ChangedUser));
}

#[test]
fn a_changed_user_never_moves() {
    let mut state = state();
    let errand = send(&mut state, b"\x11root\0\0\0");
    failed(&mut state, errand);
    assert_eq!(held(&state), Some(Hold::ChangedUser));
    let errand = send(&mut state, b"\x1f");
    ok(&mut state, errand);
    assert_eq!(held(&state), Some(Hold::ChangedUser));
}

#[test]
fn limits_hold() {
    let mut state = state();
    for number in 0..=NAMES_MAX {
        say(&mut state, &format!("CREATE TEMPORARY TABLE t{number} (a int)"), b"");
    }
    for number in 0..=NAMES_MAX {
        say(&mut state, &format!("DROP TABLE t{number}"), b"");
    }
    assert_eq!(held(&state), Some(Hold::TemporaryTable), "one too many had no place");
    let mut state = self::state();
    for number in 0..=USER_VARIABLES_MAX {
        say(&mut state, &format!("SET @v{number} = 1"), b"");
    }
    assert_eq!(held(&state), Some(Hold::TooMuch));
    let mut state = self::state();
    for number in 0..=VARIABLES_MAX {
        say(&mut state, &format!("SET v{number} = 1"), b"");
    }
    assert_eq!(held(&state), Some(Hold::TooMuch));
    let mut state = self::state();
    for number in 0..=KNOWN_MAX as u32 {
        prepare(&mut state, "SELECT 1", number + 1, 0);
    }
    assert!(state.holds().has(Hold::TooMuch));
    let mut state = self::state();
    let drops: Vec<_> = (0..64).map(|at| format!("{at:0>64}")).collect();
    let sql = format!("DROP TABLE {}", drops.join(", "));
    for number in 0..=(EFFECT_NAMES_MAX / (64 * 64)) as u32 {
        assert!(!state.holds().has(Hold::TooMuch), "{number}");
        prepare(&mut state, &sql, number + 1, 0);
    }
    assert!(state.holds().has(Hold::TooMuch));
}

#[test]
fn what_inserts_may_change_the_last_insert_id() {
    for (text, complete) in [
        ("SELECT 1", true),
        ("  update t SET a = 1", true),
        ("SET autocommit = 1", true),
        ("INSERT INTO t VALUES (1)", false),
        ("SELECT 1; INSERT INTO t VALUES (1)", false),
        ("SET STATEMENT a = 1 FOR INSERT INTO t VALUES (1)", false),
        ("CALL p()", false),
    ] {
        let mut state = state();
        query(&mut state, text);
        assert_eq!(!state.inserted, complete, "{text}");
    }
}

#[test]
fn what_is_taken_and_let_go_of_in_one_text_holds_no_longer() {
    for text in [
        "LOCK TABLES t READ; SELECT 1; UNLOCK TABLES",
        "DO GET_LOCK('a', 1); SELECT RELEASE_LOCK('a')",
        "CREATE TEMPORARY TABLE a (a int); INSERT INTO a VALUES (1); DROP TEMPORARY TABLE a",
        "HANDLER t OPEN; HANDLER t READ FIRST; HANDLER t CLOSE",
        "PREPARE s FROM @a; DEALLOCATE PREPARE s",
        "SET TRANSACTION READ ONLY; COMMIT",
    ] {
        let mut state = state();
        let errand = query(&mut state, text);
        assert!(held(&state).is_some(), "{text}, sent");
        ok(&mut state, errand);
        assert_eq!(held(&state), None, "{text}");
        let errand = query(&mut state, text);
        failed(&mut state, errand);
        assert!(held(&state).is_some(), "{text}, failed");
    }
    for text in ["UNLOCK TABLES; LOCK TABLES t READ", "COMMIT; SET TRANSACTION READ ONLY"] {
        let mut state = state();
        say(&mut state, text, b"");
        assert!(held(&state).is_some(), "{text}");
    }
}

#[test]
fn a_temporary_table_explains_what_is_done_to_it() {
    let marker = b"\x02\x011".as_slice();
    for text in ["ALTER TABLE a ADD b INT", "CREATE INDEX i ON a (a)", "OPTIMIZE TABLE a"] {
        let mut state = state();
        say(&mut state, "CREATE TEMPORARY TABLE a (a int)", marker);
        say(&mut state, text, marker);
        say(&mut state, "DROP TABLE a", b"");
        assert_eq!(held(&state), None, "{text}");
        say(&mut state, text, marker);
        assert_eq!(held(&state), Some(Hold::Unexplained), "{text}, without one");
    }
    for text in ["ALTER TABLE tt RENAME TO t3", "RENAME TABLE tt TO t3"] {
        let mut state = state();
        say(&mut state, text, b"");
        assert_eq!(held(&state), None, "{text}");
        say(&mut state, "CREATE TEMPORARY TABLE tt (a int)", marker);
        say(&mut state, text, b"");
        say(&mut state, "DROP TABLE IF EXISTS tt", b"");
        assert_eq!(held(&state), Some(Hold::TemporaryTable), "{text}: it has another name now");
    }
}

#[test]
fn a_table_may_have_a_dot_in_its_name() {
    let mut state = state();
    say(&mut state, "CREATE TEMPORARY TABLE `a.b` (a int)", b"");
    say(&mut state, "DROP TABLE a.b", b"");
    assert_eq!(held(&state), Some(Hold::TemporaryTable));
    say(&mut state, "DROP TABLE db.`a.b`", b"");
    assert_eq!(held(&state), None);
}

#[test]
fn the_next_transactions_characteristics_end_with_a_commit() {
    for (text, ends) in
        [("COMMIT", true), ("ROLLBACK", true), ("ROLLBACK TO a", false), ("SELECT a FROM t", false)]
    {
        let mut state = state();
        assert_eq!(query(&mut state, text), None, "{text}: nobody waits for it");
        say(&mut state, "SET TRANSACTION READ ONLY", b"");
        if let Some(errand) = query(&mut state, text) {
            failed(&mut state, Some(errand));
        }
        assert_eq!(held(&state), Some(Hold::NextTransaction), "{text}, failed");
        say(&mut state, text, b"");
        assert_eq!(held(&state), (!ends).then_some(Hold::NextTransaction), "{text}");
    }
}

#[test]
fn a_lock_that_was_not_got_is_not_held() {
    for (text, row, hold) in [
        ("SELECT GET_LOCK('a', 0)", &b"\x010"[..], None),
        ("SELECT GET_LOCK('a', 0) AS x;", b"\x010", None),
        ("SELECT GET_LOCK('a', 0)", b"\xfb", None),
        ("SELECT GET_LOCK('a', 0)", b"\x011", Some(Hold::UserLock)),
        ("SELECT 0; SELECT GET_LOCK('a', 0)", b"\x010", Some(Hold::UserLock)),
        ("SELECT GET_LOCK(@a, 0)", b"\x010", Some(Hold::UserLock)),
        ("SELECT GET_LOCK(CONCAT('a', 'b'), 0)", b"\x010", Some(Hold::UserLock)),
    ] {
        let mut state = state();
        let errand = query(&mut state, text).unwrap();
        assert_eq!(held(&state), Some(Hold::UserLock), "{text}, sent");
        if state.wants_row(errand) {
            state.row(errand, row);
        }
        ok(&mut state, Some(errand));
        assert_eq!(held(&state), hold, "{text}");
    }
}

#[test]
fn a_text_that_cannot_be_parsed_has_done_nothing() {
    let unparsed = |state: &mut State, text: &str| {
        let errand = query(state, text).unwrap_or_else(|| panic!("{text}: an errand"));
        state.replied(errand, Verdict::Unparsed, Status::AUTOCOMMIT);
    };
    let mut state = state();
    for text in ["SELECT 'a", "SELECT @a x y", "LOCK TABLES t READ WRITE", "SET sql_mode = = 1", "SELECT 1@b"]
    {
        if text.contains("@b") {
            assert_eq!(query(&mut state, "SELECT 1@ b"), None, "no name");
        }
        unparsed(&mut state, text);
        assert_eq!(held(&state), None, "{text}");
        assert!(state.complete() && restore::questions(&state).is_none(), "{text}");
    }
    for text in ["CALL p()", "EXECUTE IMMEDIATE 'x'", "PREPARE s FROM @a"] {
        unparsed(&mut state, text);
        assert!(held(&state).is_some(), "{text}: it runs what is parsed later");
    }
}

#[test]
fn who_asks_for_the_last_value_of_a_sequence_stays() {
    let mut state = state();
    say(&mut state, "SELECT NEXTVAL(s)", b"");
    assert_eq!(held(&state), None);
    assert_eq!(query(&mut state, "SELECT NEXTVAL(s)"), None, "that is known");
    assert!(state.asks_about_last(Command::Query, b"\x03SELECT LASTVAL(s)"));
    say(&mut state, "SELECT LASTVAL(s)", b"");
    assert!(!state.is_unanswerable());
    assert_eq!(held(&state), Some(Hold::Sequence));
    let errand = send(&mut state, b"\x1f");
    ok(&mut state, errand);
    state.tracked(&beginning());
    assert_eq!(held(&state), None, "the CN has forgotten them");
    query(&mut state, "INSERT INTO t VALUES (NEXTVAL(s))");
    assert_eq!(held(&state), Some(Hold::Sequence), "who asked once may ask again");

    let mut moved = self::state();
    say(&mut moved, "SELECT NEXT VALUE FOR s", b"");
    moved.move_on();
    say(&mut moved, "SELECT NEXTVAL(s)", b"");
    assert!(!moved.is_unanswerable());
    query(&mut moved, "SELECT PREVIOUS VALUE FOR s");
    assert!(moved.is_unanswerable(), "it was taken elsewhere");

    let mut fresh = self::state();
    say(&mut fresh, "PREPARE s FROM 'SELECT LASTVAL(s)'", b"");
    fresh.move_on();
    say(&mut fresh, "EXECUTE s", b"");
    assert!(!fresh.is_unanswerable(), "there never was one");
    query(&mut fresh, "SELECT NEXTVAL(s)");
    assert_eq!(held(&fresh), Some(Hold::Sequence));
}

#[test]
fn many_commands_sent_ahead_leave_no_doubt_behind() {
    let mut state = state();
    let errands: Vec<_> = (0..2000)
        .map(|n| query(&mut state, if n % 2 == 0 { "SET sql_mode = ''" } else { "SET @a = 1" }))
        .collect();
    query(&mut state, "SELECT 'x'");
    assert_eq!(held(&state), None);
    errands.into_iter().for_each(|errand| {
        state.changed(errand, Changes(&variable("sql_mode", "")));
        ok(&mut state, errand);
    });
    say(&mut state, "SET sql_mode = ''", &variable("sql_mode", ""));
    say(&mut state, "SELECT \"a\"", b"");
    assert_eq!(held(&state), None);
}

#[test]
fn who_asks_about_the_last_statement_is_known_beforehand() {
    let mut state = state();
    let id = prepare(&mut state, "SHOW WARNINGS", 1, 0);
    assert!(state.asks_about_last(Command::Query, b"\x03SHOW WARNINGS"));
    assert!(state.asks_about_last(Command::StmtExecute, &execute(id, 0, b"")));
    assert!(!state.asks_about_last(Command::Query, b"\x03SELECT 1"));
    assert!(!state.asks_about_last(Command::Ping, b"\x0e"));
}

proptest! {
    #[test]
    fn any_cut_of_a_command_gives_the_same(
        text in "(SET (STATEMENT )?|PREPARE |SELECT )[a-z@'\"; =]{0,40}",
        cuts in proptest::collection::vec(1usize..9, 1..40),
    ) {
        let payload = [b"\x03", text.as_bytes()].concat();
        let (mut whole, mut cut) = (state(), state());
        let first = send(&mut whole, &payload);
        let mut rest = &payload[..];
        if cut.begin(Command::Query, &payload[..1]) {
            for piece in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*piece));
                cut.payload(now);
                rest = later;
                if rest.is_empty() { break }
            }
        }
        prop_assert_eq!(cut.end(), first);
        prop_assert_eq!(cut.holds(), whole.holds());
        prop_assert_eq!(cut.inserted, whole.inserted);
    }

    #[test]
    fn noise_never_panics(commands in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20)) {
        let mut state = state();
        for payload in commands {
            let command = Command::from_byte(payload.first().copied().unwrap_or(0));
            if state.begin(command, &payload[..payload.len() / 2]) {
                state.payload(&payload);
            }
            let errand = state.end();
            state.changed(errand, Changes(&payload));
            if let Some(errand) = errand {
                let id = u32::from(payload.len() as u8 % 4);
                let ok = PrepareOk { statement: id, columns: 0, parameters: 1, warnings: 0, metadata_follows: true };
                state.prepared(errand, &ok);
                let verdict = [Verdict::Done, Verdict::Failed, Verdict::Unparsed][payload.len() % 3];
                state.replied(errand, verdict, Status(payload.len() as u16 * 8));
            }
            let _ = (state.holds(), state.cost(), state.execute_head_len(&payload), state.execute_head(&payload));
            let _ = OkPacket::read(&payload, TRACK);
        }
    }
}
