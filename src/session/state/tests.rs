//! Tests of the state by literal packets, each with the reply that a real server would give.

use super::*;
use crate::session::tracking;
use crate::session::tracking::Wishes;
use crate::wire::reply::OkPacket;
use proptest::prelude::*;

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
        state.replied(errand, false, Status::AUTOCOMMIT);
    }
}

fn failed(state: &mut State, errand: Option<Errand>) {
    state.replied(errand.expect("an errand"), true, Status::AUTOCOMMIT);
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
    state.replied(errand, false, Status::AUTOCOMMIT);
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
    assert!(size_of::<State>() <= 256, "{}", size_of::<State>());
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
        b"\x03USE other",
        b"\x03SHOW WARNINGS",
        b"\x0e",
        b"\x02db",
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
        ("SET ROLE r", Some(Hold::Role)),
        ("SET PASSWORD = 'x'", Some(Hold::ChangedUser)),
        ("SELECT CONNECTION_ID()", Some(Hold::ConnectionId)),
        ("CALL p()", None),
        ("SET timestamp = 1", None),
        ("SET session_track_schema = 0", None),
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
fn other_state_must_be_explained() {
    let marker = b"\x02\x011".as_slice();
    let table = [
        ("SELECT 1", marker, Some(Hold::Unexplained)),
        ("SET @a = 1", marker, None),
        ("SET NAMES latin1", marker, None),
        ("PREPARE s FROM 'SELECT 1'", marker, None),
        ("USE other", b"\x01\x06\x05other\x02\x011", None),
        ("SELECT 1", b"\x07\x00", Some(Hold::Unexplained)),
        ("SELECT 1", b"\x00\x05", Some(Hold::Unexplained)),
        ("BEGIN", b"\x05\x09\x08T_______\x04\x13\x12START TRANSACTION;", None),
    ];
    for (text, changes, hold) in table {
        let mut state = state();
        say(&mut state, text, changes);
        assert_eq!(held(&state), hold, "{text}");
    }
}

#[test]
fn values_are_known_where_the_tracker_leaves_no_doubt() {
    let wait = variable("wait_timeout", "7");
    /// None: no variable; of one, its value where it was told.
    type Told = Option<Option<&'static str>>;
    let table: [(&str, &[u8], Told); 7] = [
        ("SET wait_timeout = 7", &wait, Some(Some("7"))),
        ("SET @@wait_timeout = 7", b"", Some(None)),
        ("SET STATEMENT wait_timeout = 7 FOR SELECT 1", &wait, Some(None)),
        ("SET   STATEMENT wait_timeout = 7 FOR SELECT 1", &wait, Some(None)),
        ("SET wait_timeout = 7; SET wait_timeout = 8", &wait, Some(None)),
        ("CALL p()", &wait, Some(None)),
        ("SET character_set_database = latin1", b"", None),
    ];
    for (text, changes, value) in table {
        let mut state = state();
        say(&mut state, text, changes);
        let found = state.variables.iter().next().map(|variable| variable.value.as_deref());
        assert_eq!(found, value.map(|value| value.map(str::as_bytes)), "{text}");
    }
    let mut state = state();
    let errand = query(&mut state, "SET nosuch = 7");
    failed(&mut state, errand);
    assert!(state.variables.is_empty() && state.complete());
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
fn query_attributes_are_skipped_only_where_there_are_none() {
    let capabilities = TRACK | Capabilities::QUERY_ATTRIBUTES;
    for (payload, hold) in [
        (&b"\x03\0\x01LOCK TABLES t READ"[..], Hold::LockTables),
        (b"\x03\x01\x01\0\x01\x03\0\x01a\x07\0\0\0SELECT 1", Hold::Unreadable),
        (b"\x03\0", Hold::Unreadable),
    ] {
        for send in [send, send_bytes] {
            let mut state = State::new(capabilities, false, beginning(), None);
            let errand = send(&mut state, payload);
            ok(&mut state, errand);
            assert_eq!(held(&state), Some(hold), "{payload:?}");
        }
    }
}

#[test]
fn an_execution_has_the_effects_of_its_text() {
    let mut state = state();
    let lock = prepare(&mut state, "SELECT GET_LOCK('a', ?)", 1, 1);
    let release = prepare(&mut state, "SELECT RELEASE_LOCK('a')", 2, 0);
    assert_eq!(held(&state), None);
    let errand = send(&mut state, &execute(lock, 0, b"\0\x01\x03\0\x01\0\0\0"));
    assert_eq!(held(&state), Some(Hold::UserLock));
    ok(&mut state, errand);
    let errand = send(&mut state, &execute(release, 0, b""));
    ok(&mut state, errand);
    assert_eq!(held(&state), None);
}

#[test]
fn executing_by_sql_has_the_effects_of_the_text_inside() {
    let mut state = state();
    say(&mut state, "PREPARE s FROM 'CREATE TEMPORARY TABLE t (a int)'", b"");
    assert_eq!(held(&state), None);
    say(&mut state, "EXECUTE s", b"");
    assert_eq!(held(&state), Some(Hold::TemporaryTable));
    say(&mut state, "EXECUTE another", b"");
    assert!(state.holds().has(Hold::Routine));
}

#[test]
fn a_cursor_holds_until_it_is_closed() {
    let opened = Status::AUTOCOMMIT | Status::CURSOR_EXISTS;
    let fetch = b"\x1c\x01\0\0\0\x0a\0\0\0";
    for (name, payload, status) in [
        ("reset", &b"\x1a\x01\0\0\0"[..], Status::AUTOCOMMIT),
        ("last row", fetch, Status::LAST_ROW_SENT),
        ("without cursor", &execute(1, 0, b""), Status::AUTOCOMMIT),
        ("close", b"\x19\x01\0\0\0", Status::AUTOCOMMIT),
    ] {
        let mut state = state();
        prepare(&mut state, "SELECT 1", 1, 0);
        let errand = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b"")).unwrap();
        assert_eq!(held(&state), Some(Hold::Cursor));
        state.replied(errand, false, opened);
        let errand = send(&mut state, fetch).unwrap();
        state.replied(errand, false, opened);
        assert_eq!(held(&state), Some(Hold::Cursor), "{name}");
        if let Some(errand) = send_bytes(&mut state, payload) {
            state.replied(errand, false, status);
        }
        assert_eq!(held(&state), None, "{name}");
    }
    let mut state = state();
    prepare(&mut state, "SET @a = 1", 1, 0);
    let first = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b"")).unwrap();
    let second = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b"")).unwrap();
    state.replied(first, false, Status::AUTOCOMMIT);
    assert_eq!(held(&state), Some(Hold::Cursor), "the second may still open one");
    state.replied(second, false, Status::AUTOCOMMIT);
    assert_eq!(held(&state), None);
}

#[test]
fn the_statement_prepared_last_may_be_used_before_it_is_prepared() {
    let mut state = state();
    let first = send(&mut state, b"\x16SELECT GET_LOCK('a', ?)").unwrap();
    let second = send(&mut state, &execute(LAST_PREPARED, 0, b"\0\x01\x03\0\x01\0\0\0")).unwrap();
    assert_eq!(held(&state), Some(Hold::UserLock));
    let ok = PrepareOk { statement: 4, columns: 1, parameters: 1, warnings: 0, metadata_follows: true };
    assert_eq!(state.prepared(first, &ok), 4);
    state.replied(first, false, Status::AUTOCOMMIT);
    state.replied(second, false, Status::AUTOCOMMIT);
    assert!(state.holds().has(Hold::Statement), "its types went past unread");
    send(&mut state, &execute(LAST_PREPARED, 0, b"\0\x01\x03\0\x01\0\0\0"));
    assert!(!state.holds().has(Hold::Statement), "now they are known");
    send(&mut state, b"\x19\xff\xff\xff\xff");
    assert!(state.statements.is_empty());
}

#[test]
fn a_close_that_overtakes_its_preparation_counts() {
    let mut state = state();
    let errand = send(&mut state, b"\x16SELECT 1").unwrap();
    send(&mut state, b"\x19\xff\xff\xff\xff");
    let ok = PrepareOk { statement: 4, columns: 1, parameters: 0, warnings: 0, metadata_follows: true };
    state.prepared(errand, &ok);
    state.replied(errand, false, Status::AUTOCOMMIT);
    assert!(state.statements.is_empty());
}

#[test]
fn what_comes_after_a_reset_is_kept() {
    let mut state = state();
    say(&mut state, "SET wait_timeout = 7", &variable("wait_timeout", "7"));
    let reset = send(&mut state, b"\x1f");
    let after = query(&mut state, "LOCK TABLES t READ");
    ok(&mut state, reset);
    assert!(state.variables.is_empty() && state.holds().has(Hold::LockTables));
    ok(&mut state, after);
    state.tracked(&beginning());
    assert!(state.holds().has(Hold::LockTables));
    assert!(state.holds().has(Hold::Unexplained), "it ran before the CN was asked to track again");
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
    prepare(&mut state, &"x".repeat(TEXT_MAX + 1), 1, 0);
    assert_eq!(held(&state), Some(Hold::TooMuch));
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
fn who_sets_its_own_tracking_is_shown_what_it_asked_for() {
    let mut state = state();
    let errand = query(&mut state, "SET session_track_schema = 1");
    state.changed(errand, Changes(b"\0\x18\x14session_track_schema\x02ON\x02\x011"));
    ok(&mut state, errand);
    assert_eq!(state.wishes(), Wishes { schema: true, ..Wishes::none() });
    say(&mut state, "SET session_track_system_variables = 'sql_mode'", b"");
    assert_eq!(state.wishes().variables, tracking::Variables::All, "the CN tells no others");
    let errand = send(&mut state, b"\x1f");
    ok(&mut state, errand);
    assert_eq!(state.wishes(), Wishes::none(), "reset");
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
                state.replied(errand, payload.len() % 3 == 0, Status(payload.len() as u16 * 8));
            }
            let _ = (state.holds(), state.cost(), state.execute_head_len(&payload), state.execute_head(&payload));
            let _ = OkPacket::read(&payload, TRACK);
        }
    }
}
