//! Tests of moves: the bytes of both bursts, and what follows from the answers.

use super::*;
use crate::session::state::Verdict;
use crate::session::state::tests::{beginning, ok, prepare, query, say, state, variable};
use crate::wire::command::Command;
use crate::wire::frame::PacketReader;
use crate::wire::reply::ErrPacket;
use crate::wire::resultset::{ColumnDefinition, TextResultSet};
use crate::wire::statement::{LAST_PREPARED, PrepareOk};
use crate::wire::status::Status;
use crate::wire::track::Change;

const LEG: Capabilities = Capabilities(Capabilities::SESSION_TRACK.0 | Capabilities::DEPRECATE_EOF.0);

/// The commands of a script, as text.
pub fn lines(script: &Script) -> Vec<String> {
    lines_for(script, LEG)
}

fn lines_for(script: &Script, leg: Capabilities) -> Vec<String> {
    let mut bytes = Vec::new();
    script.write(&mut bytes, leg);
    let mut reader = PacketReader::new(1 << 20);
    reader.push(&bytes);
    let mut lines = Vec::new();
    reader.expect(0);
    while let Some(payload) = reader.take().unwrap() {
        reader.expect(0);
        lines.push(format!("{:02x} {}", payload[0], payload[1..].escape_ascii()));
    }
    lines
}

fn column(kind: u8, flags: u16) -> ColumnDefinition<'static> {
    ColumnDefinition { kind, flags, ..ColumnDefinition::text("v") }
}

/// The packets of a result set with one row, or none.
fn rows(columns: &[ColumnDefinition<'_>], rows: &[&[Option<&str>]], leg: Capabilities) -> Vec<Vec<u8>> {
    let (mut out, mut sequence) = (Vec::new(), 0);
    let mut set = TextResultSet::begin(&mut out, &mut sequence, leg, 2, columns);
    rows.iter().for_each(|row| set.row(row.iter().map(|value| value.map(str::as_bytes))));
    set.end();
    let mut reader = PacketReader::new(1 << 20);
    reader.push(&out);
    std::iter::from_fn(|| reader.take().unwrap()).collect()
}

fn refused(code: u16) -> Vec<u8> {
    let mut out = Vec::new();
    ErrPacket { code, sqlstate: Some(*b"HY000"), message: b"no" }.write(&mut out, Capabilities::PROTOCOL_41);
    out
}

fn done() -> Vec<u8> {
    vec![0, 0, 0, 2, 0, 0, 0]
}

fn prepared(statement: u32, parameters: u16) -> Vec<Vec<u8>> {
    let ok = PrepareOk { statement, columns: 0, parameters, warnings: 0, metadata_follows: true };
    let mut out = Vec::new();
    ok.write(&mut out, LEG);
    let definitions = (0..parameters).map(|_| b"\x03def".to_vec());
    std::iter::once(out).chain(definitions).collect()
}

fn answer(script: Script, leg: Capabilities, packets: &[Vec<u8>]) -> Result<Results, ScriptError> {
    let mut answers = script.answers(leg);
    for (at, packet) in packets.iter().enumerate() {
        assert_eq!(answers.packet(packet)?, at + 1 == packets.len(), "packet {at}");
    }
    assert_eq!(answers.packet(b"\0"), Err(ScriptError::Unasked));
    answers.finish()
}

#[test]
fn a_fresh_session_has_nothing_to_tell() {
    assert_eq!(questions(&state()), None);
    assert!(restore(&state(), None).unwrap().is_empty());
}

#[test]
fn told_values_are_restored_without_a_question() {
    let mut state = state();
    say(&mut state, "SET time_zone = '+01:00'", &variable("time_zone", "+01:00"));
    say(&mut state, "SET collation_connection = x", &variable("collation_connection", "latin1_bin"));
    say(&mut state, "SET wait_timeout = 7", &variable("wait_timeout", "7"));
    let mut schema = Vec::new();
    Change::Schema(b"other").write(&mut schema);
    say(&mut state, "USE other", &schema);
    say(&mut state, "PREPARE s FROM 'SELECT 1'", b"");
    let expected = [
        "03 SET @@session.time_zone='+01:00', @@session.wait_timeout=7, \
         @@session.collation_connection='latin1_bin'",
        "02 other",
        "03 PREPARE s FROM 'SELECT 1'",
    ]
    .map(str::to_owned);
    assert!(state.complete());
    let expected = expected.map(|line| line.replace('\'', "\\'"));
    assert_eq!(lines(&restore(&state, None).unwrap()), expected);
    assert_eq!(state.cost(), 2);
}

#[test]
fn what_was_not_told_is_asked() {
    for leg in [LEG, Capabilities::SESSION_TRACK] {
        let mut state = state();
        say(&mut state, "CALL p()", &variable("wait_timeout", "7"));
        say(&mut state, "SET @@time_zone = '+01:00', @@nosuch = 1", b"");
        say(&mut state, "SET @a = 1, @b = 'x', @c = 2.5", b"");
        let asking = questions(&state).unwrap();
        let asked = lines(&asking);
        assert_eq!(asked[0], "03 SELECT @@session.wait_timeout LIMIT 1");
        assert_eq!(asked[1], "03 SELECT @@session.time_zone LIMIT 1");
        assert_eq!(asked[3], "03 SELECT LAST_INSERT_ID() LIMIT 1");
        assert_eq!(asked[4], "03 SELECT @`a`, @`b`, @`c` LIMIT 0");
        let widths = r"03 EXECUTE IMMEDIATE \'SELECT ?,?,? LIMIT 0\' USING @`a`,@`b`,@`c`";
        assert_eq!((&asked[6][..], asked.len()), (widths, 8));
        let number = [column(LONGLONG, 0)];
        let types = [column(LONGLONG, 0), column(251, 0), column(NEWDECIMAL, 0)];
        let wide =
            [column(LONGLONG, 0), column(253, 0), ColumnDefinition { length: 5, ..column(NEWDECIMAL, 0) }];
        let values: Vec<_> = (0..12).map(|_| column(253, 0)).collect();
        let row = ["1", "1", "31", "binary", "1", "x", "78", "utf8mb4_bin", "3", "2.5", "322E35", "binary"];
        let names: [&[Option<&str>]; 3] = [&[Some("a")], &[Some("B")], &[Some("c")]];
        let packets = [
            rows(&number, &[&[Some("7")]], leg),
            rows(&values[..1], &[&[Some("+01:00")]], leg),
            vec![refused(1193)],
            rows(&number, &[&[Some("41")]], leg),
            rows(&types, &[], leg),
            rows(&values, &[&row.map(Some)], leg),
            rows(&wide, &[], leg),
            rows(&values[..1], &names, leg),
        ];
        let results = answer(asking, leg, &packets.concat()).unwrap();
        let script = restore(&state, Some(results)).unwrap();
        let expected = [
            "03 SET @@session.wait_timeout=7, @@session.time_zone='+01:00'",
            "03 SET @`a`=CAST(1 AS SIGNED), @`b`=_utf8mb4 X'78' COLLATE utf8mb4_bin, @`c`=02.5",
            "03 SET last_insert_id=41",
        ];
        assert_eq!(lines(&script), expected.map(|line| line.replace('\'', "\\'")));
        assert_eq!(restore(&state, None), Err(Hold::Variable), "nobody to ask");
    }
}

#[test]
fn a_user_variable_that_nobody_mentioned_holds() {
    let mut state = state();
    say(&mut state, "SELECT @a", b"");
    state.inserted = false;
    let asking = questions(&state).unwrap();
    let text = [column(251, 0)];
    let values: Vec<_> = (0..4).map(|_| column(253, 0)).collect();
    let row = [Some("1"), Some("x"), Some("78"), Some("utf8mb4_bin")];
    let packets = [
        rows(&text, &[], LEG),
        rows(&values, &[&row], LEG),
        vec![refused(1064)],
        rows(&values[..1], &[&[Some("a")], &[Some("b")]], LEG),
    ];
    let results = answer(asking, LEG, &packets.concat()).unwrap();
    assert_eq!(restore(&state, Some(results)), Err(Hold::UserVariable));
}

/// Whatever the CN does to a leg at its login (`init_connect`) a reset has undone.
#[test]
fn a_session_that_was_reset_is_restored_on_a_leg_that_was_reset() {
    const ASK: &str = "03 SET SESSION session_track_schema = 1";
    const SET: &str = "03 SET @@session.lock_wait_timeout=8";
    for mariadb in [true, false] {
        let mut state = State::new(LEG, mariadb, beginning(), Some(b"db"));
        say(&mut state, "SET wait_timeout = 7", &variable("wait_timeout", "7"));
        state.begin(Command::ResetConnection, b"\x1f");
        let reset = state.end();
        ok(&mut state, reset);
        state.tracked(&beginning());
        say(&mut state, "SET lock_wait_timeout = 8", &variable("lock_wait_timeout", "8"));
        assert!(state.complete());
        let script = restore(&state, None).unwrap();
        let expected: &[&str] = match mariadb {
            true => &["1f ", ASK, "03 SET SESSION session_track_system_variables = IF(", SET],
            false => &["1f ", ASK, "03 DO 0", SET],
        };
        let said = lines(&script);
        assert_eq!(said.len(), expected.len());
        said.iter().zip(expected).for_each(|(line, begin)| assert!(line.starts_with(begin), "{line}"));
        let done = vec![b"\0\0\0\x02\0\0\0".to_vec(); expected.len()];
        settle(&mut state, answer(script, LEG, &done).unwrap()).unwrap();
    }
}

#[test]
fn a_role_is_asked_for_and_set_again() {
    let table = [
        (true, Some("a`b"), Some("03 SET ROLE `a``b`")),
        (true, None, Some("03 SET ROLE NONE")),
        (false, Some("`a`@`%`,`b`@`%`"), Some("03 SET ROLE `a`@`%`,`b`@`%`")),
        (false, Some("NONE"), Some("03 SET ROLE NONE")),
        (true, Some("\u{fc}"), None),
    ];
    for (mariadb, role, said) in table {
        let mut state = State::new(LEG, mariadb, beginning(), Some(b"db"));
        say(&mut state, "SET ROLE r", b"");
        assert!(state.holds().is_empty() && !state.complete());
        let asking = questions(&state).unwrap();
        assert_eq!(lines(&asking), ["03 SELECT CURRENT_ROLE() LIMIT 1"]);
        let results = answer(asking, LEG, &rows(&[column(253, 0)], &[&[role]], LEG)).unwrap();
        let script = restore(&state, Some(results));
        assert_eq!(script.map(|script| lines(&script)).ok(), said.map(|line| vec![line.to_owned()]));
    }
}

#[test]
fn user_variables_keep_their_types() {
    let column = |kind, flags| Column { kind, flags, length: 100 };
    let row = |text: Option<&'static str>, hex, collation| {
        [text.map(|_| "1"), text, hex, Some(collation)].map(|value: Option<&str>| value.map(str::as_bytes))
    };
    let table = [
        (8, 0, row(Some("-5"), None, "binary"), Some("CAST(-5 AS SIGNED)")),
        (8, 0x20, row(Some("5"), None, "binary"), Some("CAST(5 AS UNSIGNED)")),
        (8, 0, row(None, None, "binary"), Some("CAST(NULL AS SIGNED)")),
        (5, 0, row(Some("0.1"), None, "binary"), Some("0.1e0")),
        (5, 0, row(Some("1e300"), None, "binary"), Some("1e300")),
        (246, 0, row(Some("1.50"), None, "binary"), Some("1.50")),
        (246, 0, row(Some("-5"), None, "binary"), Some("-5.")),
        (251, 0, row(Some("a"), Some("61"), "binary"), Some("X'61'")),
        (251, 0, row(Some(""), Some(""), "latin1_bin"), Some("_latin1 X'' COLLATE latin1_bin")),
        (251, 0, row(Some("?"), Some("F09F9880"), "utf8mb3_bin"), None),
        (
            251,
            0,
            row(Some("?"), Some("F09F9880"), "utf8mb4_bin"),
            Some("_utf8mb4 X'F09F9880' COLLATE utf8mb4_bin"),
        ),
        (251, 0, row(None, None, "binary"), Some("NULL")),
        (251, 0, row(None, None, "utf8mb4_bin"), Some("CONVERT(NULL USING utf8mb4) COLLATE utf8mb4_bin")),
        (251, 0, row(Some("too long"), None, "binary"), None),
        (251, 0, row(Some("a"), Some("61"), "a b"), None),
        (255, 0, row(Some("a"), Some("61"), "binary"), None),
        (8, 0, row(Some("1; DROP"), None, "binary"), None),
    ];
    for (kind, flags, values, literal) in table {
        let written = user_literal(column(kind, flags), None, &values);
        assert_eq!(written.as_deref(), literal.map(str::as_bytes), "{kind} {values:?}");
    }
}

#[test]
fn statements_are_prepared_where_they_were() {
    let mut state = state();
    prepare(&mut state, "SELECT 1", 1, 0);
    say(&mut state, "SET sql_mode = ANSI", &variable("sql_mode", "ANSI_QUOTES"));
    prepare(&mut state, "SELECT \"a\"", 2, 0);
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    let enter = "03 SET @@session.sql_mode='STRICT_TRANS_TABLES', @@session.character_set_client='utf8mb4', \
        @@session.character_set_connection='utf8mb4', @@session.collation_connection='utf8mb4_general_ci'";
    let expected =
        [enter, "02 db", "16 SELECT 1", enter, "03 SET @@session.sql_mode='ANSI_QUOTES'", "16 SELECT \"a\""];
    assert_eq!(lines(&script), expected.map(|line| line.replace('\'', "\\'").replace('"', "\\\"")));
}

/// Parameters and results have the collation of the last SET NAMES, which no variable tells.
#[test]
fn the_collation_of_the_last_set_names_is_kept_or_the_session_is_held() {
    let told = |texts: &[&str]| {
        let mut state = state();
        for text in texts {
            say(&mut state, text, b"");
        }
        state
    };
    let (names, binary) = ("SET NAMES utf8mb4", "SET NAMES utf8mb4 COLLATE utf8mb4_bin");
    let of = |client, results| Collation::Connection { client, results };
    let [both, of_client, of_results, neither] =
        [of(true, true), of(true, false), of(false, true), of(false, false)];
    let table: [(&[&str], Collation); 17] = [
        (&[names], Collation::Default),
        (&[names, "SET collation_connection = utf8mb4_bin"], Collation::Default),
        (&[binary], both),
        (&[binary, names], Collation::Default),
        (&[names, "SET character_set_client = latin1"], Collation::Default),
        (&[binary, "SET character_set_client = latin1"], of_results),
        (&[binary, "SET character_set_results = NULL"], of_client),
        (&[binary, "SET character_set_results = NULL, character_set_client = latin1"], neither),
        (&[binary, "SET NAMES utf8mb4; SET character_set_client = latin1"], Collation::Lost),
        (&[binary, "SET collation_connection = latin1_bin"], Collation::Lost),
        (&[binary, "SET character_set_connection = latin1"], Collation::Lost),
        (&[binary, "SET CHARACTER SET latin1"], Collation::Lost),
        (&["SET NAMES utf8mb4 COLLATE utf8mb4_bin, character_set_results = latin1"], Collation::Lost),
        (&[binary, "SET character_set_connection = latin1", binary], both),
        (&[binary, "SET character_set_connection = latin1", names], Collation::Default),
        (&[binary, "SET GLOBAL character_set_connection = latin1"], both),
        (&["SELECT 1; SET NAMES utf8mb4 COLLATE utf8mb4_bin"], both),
    ];
    for (texts, collation) in table {
        let state = told(texts);
        let held = state.holds().has(Hold::Variable);
        assert_eq!((state.collation, held), (collation, collation == Collation::Lost), "{texts:?}");
    }
    let mut state = State::new(LEG | Capabilities::MARIADB_CACHE_METADATA, true, beginning(), Some(b"db"));
    let told = |state: &mut State, sql: &str, told: &[(&str, &str)]| {
        say(state, sql, &told.iter().flat_map(|(name, value)| variable(name, value)).collect::<Vec<_>>());
    };
    let [client, connection, results] =
        ["character_set_client", "character_set_connection", "character_set_results"];
    let all = [client, connection, results].map(|name| (name, "utf8mb4"));
    told(&mut state, binary, &all);
    told(&mut state, "SET character_set_results = latin1", &[(results, "latin1")]);
    prepare(&mut state, "SELECT 1", 1, 0);
    state.inserted = false;
    assert!(!state.complete(), "the collation is asked for");
    let asked = rows(
        &[ColumnDefinition::text("a"), ColumnDefinition::text("b")],
        &[&[Some("utf8mb4"), Some("utf8mb4_bin")]],
        LEG,
    );
    let questions = questions(&state).expect("questions");
    let asked = answer(questions, LEG, &asked).unwrap();
    let script = restore(&state, Some(asked)).unwrap();
    let set = "03 SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin', @@session.character_set_results='latin1'";
    let set = &set.replace('\'', "\\'");
    let stand_in = "03 SET @@session.character_set_client=\\'ascii\\'";
    assert_eq!(lines(&script), [set, stand_in, "16 SELECT 1", set]);
    let mut failed = self::state();
    let errand = query(&mut failed, "SELECT 1; SET NAMES utf8mb4 COLLATE utf8mb4_bin");
    failed.replied(errand.unwrap(), Verdict::Failed, Status::AUTOCOMMIT);
    assert_eq!(failed.collation, Collation::Lost);
    let mut failed = self::state();
    let errand = query(&mut failed, "EXECUTE p; SET NAMES utf8mb4");
    failed.replied(errand.unwrap(), Verdict::Failed, Status::AUTOCOMMIT);
    assert_eq!(failed.collation, Collation::Lost, "that of the login, or the default one");
    say(&mut failed, "SET NAMES utf8mb4", b"");
    assert_eq!(failed.collation, Collation::Default);
}

#[test]
fn what_another_variable_sets_comes_after_it() {
    let mut state = state();
    say(&mut state, "SET sql_big_selects = 1", &variable("sql_big_selects", "ON"));
    say(&mut state, "SET max_join_size = 50", &variable("max_join_size", "50"));
    let set = "03 SET @@session.max_join_size=50, @@session.sql_big_selects=\\'ON\\'";
    assert_eq!(lines(&restore(&state, None).unwrap()), [set]);
}

#[test]
fn warnings_of_a_restore_are_known_of() {
    let mut state = state();
    say(&mut state, "SET big_tables = 1", &variable("big_tables", "ON"));
    let script = || restore(&state, None).unwrap();
    for (warnings, warned) in [(0, false), (1, true)] {
        let results = answer(script(), LEG, &[vec![0, 0, 0, 2, 0, warnings, 0]]).unwrap();
        assert_eq!(results.warned, warned);
        assert_eq!(Results::default().then(results).warned, warned);
    }
    assert_eq!(lines(&clearing()), ["03 SELECT 1 FROM (SELECT 1) AS t LIMIT 0"]);
}

/// The front of a restore is rehearsed, and what the rehearsal left is the rest of it.
#[test]
fn a_rehearsal_leaves_what_has_to_be_asked_for_and_what_came_later() {
    let mut state = state();
    assert_eq!(rehearsal(&state), None, "nothing to restore");
    prepare(&mut state, "SELECT 1", 1, 0);
    say(&mut state, "SET SESSION wait_timeout = 7", &variable("wait_timeout", "7"));
    say(&mut state, "INSERT INTO t VALUES ()", b"");
    let rehearsed = rehearsal(&state).unwrap();
    assert_eq!(lines(&rehearsed), ["03 SET @@session.wait_timeout=7", "16 SELECT 1"]);
    prepare(&mut state, "SELECT 2", 2, 0);
    let asking = questions(&state).unwrap();
    let asked = answer(asking, LEG, &rows(&[column(LONGLONG, 0)], &[&[Some("41")]], LEG)).unwrap();
    let script = restore(&state, Some(asked)).unwrap();
    let rest = script.after(&rehearsed).unwrap();
    assert_eq!(lines(&rest), ["16 SELECT 2", "03 SET last_insert_id=41"]);
    let first = answer(rehearsed, LEG, &[vec![done()], prepared(8, 0)].concat()).unwrap();
    let later = answer(rest, LEG, &[prepared(9, 0), vec![done()]].concat()).unwrap();
    settle(&mut state, first.then(later)).unwrap();
    assert_eq!((state.statements.at_cn(1), state.statements.at_cn(2)), (Some(8), Some(9)));
    say(&mut state, "SET SESSION wait_timeout = 8", &variable("wait_timeout", "8"));
    assert_eq!(rehearsal(&state).unwrap().after(&script), None, "it begins otherwise");
    say(&mut state, "CALL p()", &variable("lock_wait_timeout", "7"));
    assert_eq!(rehearsal(&state), None, "a value that only the old CN knows comes first");
}

/// What the client has seen of a statement's results is not what the new CN believes it to have seen.
#[test]
fn statements_are_described_anew_where_definitions_may_be_left_out() {
    let leg = LEG | Capabilities::MARIADB_CACHE_METADATA;
    let mut state = State::new(leg, true, beginning(), Some(b"db"));
    prepare(&mut state, "SELECT 1", 1, 0);
    say(&mut state, "SET character_set_client = latin1", &variable("character_set_client", "latin1"));
    prepare(&mut state, "SELECT 2", 2, 0);
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    let lines: Vec<_> = lines(&script).into_iter().filter(|line| !line.contains("sql_mode")).collect();
    let as_if = |name: &str| format!("03 SET @@session.character_set_client=\\'{name}\\'");
    let expected = ["02 db", &as_if("ascii"), "16 SELECT 1", &as_if("utf8mb4")];
    assert_eq!(lines[..4], expected);
    assert_eq!(lines[lines.len() - 3..], [&as_if("ascii"), "16 SELECT 2", &as_if("latin1")]);
}

#[test]
fn ids_of_the_client_never_change() {
    let mut state = state();
    for id in [3, 5, 6] {
        prepare(&mut state, "SELECT ?", id, 1);
    }
    assert!(state.begin(Command::StmtClose, b"\x19\x03\0\0\0") || state.end().is_none());
    let types = b"\x17\x05\0\0\0\0\x01\0\0\0\0\x01\x03\0\x07\0\0\0";
    let again = b"\x17\x05\0\0\0\0\x01\0\0\0\0\0\x07\0\0\0";
    state.begin(Command::StmtExecute, types);
    assert_eq!((state.end(), state.cn_statement(5), state.execute_head_len(again)), (None, None, None));
    state.inserted = false;

    let script = restore(&state, None).unwrap();
    assert_eq!(lines(&script), ["16 SELECT ?", "16 SELECT ?"]);
    let results = answer(script, LEG, &[prepared(1, 1), prepared(2, 1)].concat()).unwrap();
    settle(&mut state, results).unwrap();

    let mapped = [5, 6, 3, LAST_PREPARED].map(|id| state.cn_statement(id));
    assert_eq!(mapped, [Some(1), Some(2), Some(0), Some(2)]);
    state.begin(Command::StmtExecute, again);
    assert_eq!((state.end(), state.execute_head_len(&again[..5])), (None, Some(10)));
    assert_eq!(state.execute_head_len(&again[..10]), Some(12));
    let told = b"\x17\x05\0\0\0\0\x01\0\0\0\0\x01\x03\0";
    assert_eq!(state.execute_head(&again[..12]).as_deref(), Some(&told[..]));
    assert_eq!(state.execute_head_len(again), None, "once is enough");

    assert_eq!(prepare(&mut state, "SELECT 3", 3, 0), 3);
    assert_eq!(prepare(&mut state, "SELECT 4", 5, 0), 7, "the id is taken");
    assert_eq!(state.cn_statement(7), Some(5));
    let other = b"\x17\x06\0\0\0\0\x01\0\0\0\0\x01\x08\0\x07\0\0\0\0\0\0\0";
    state.begin(Command::StmtExecute, other);
    assert_eq!(state.end(), None);
    assert_eq!(state.execute_head_len(other), None, "the client has told it itself");
}

#[test]
fn a_bulk_execution_is_given_its_types() {
    let mut state = state();
    prepare(&mut state, "INSERT INTO t VALUES (?)", 1, 1);
    state.begin(Command::StmtBulkExecute, b"\xfa\x01\0\0\0\x80\0\x03\0\0\x07\0\0\0");
    let errand = state.end();
    ok(&mut state, errand);
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    let results = answer(script, LEG, &prepared(9, 1)).unwrap();
    settle(&mut state, results).unwrap();
    let head = b"\xfa\x01\0\0\0\0\0";
    assert_eq!(state.execute_head_len(head), Some(7));
    assert_eq!(state.execute_head(head).as_deref(), Some(&b"\xfa\x01\0\0\0\x80\0\x03\0"[..]));
}

#[test]
fn a_leg_with_query_attributes_is_told_that_there_are_none() {
    let leg = LEG | Capabilities::QUERY_ATTRIBUTES;
    let mut state = State::new(leg, false, beginning(), Some(b"db"));
    say(&mut state, "\0\u{1}SET wait_timeout = 7", &variable("wait_timeout", "7"));
    prepare(&mut state, "SELECT ?", 1, 1);
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    assert_eq!(lines_for(&script, leg), ["03 \\x00\\x01SET @@session.wait_timeout=7", "16 SELECT ?"]);
    assert_eq!(lines(&script), ["03 SET @@session.wait_timeout=7", "16 SELECT ?"]);
}

#[test]
fn query_attributes_come_with_names() {
    let leg = LEG | Capabilities::QUERY_ATTRIBUTES;
    let mut state = State::new(leg, false, beginning(), None);
    prepare(&mut state, "SELECT ?", 1, 1);
    state.begin(Command::StmtExecute, b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\0\x01\x03\0\x01a\x07\0\0\0");
    assert_eq!((state.end(), state.holds().is_empty()), (None, true));
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    let results = answer(script, leg, &prepared(2, 1)).unwrap();
    settle(&mut state, results).unwrap();
    let head = b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\0\0";
    assert_eq!(state.execute_head_len(&head[..10]), Some(11));
    assert_eq!(state.execute_head_len(&head[..11]), Some(13));
    let told = b"\x17\x01\0\0\0\x08\x01\0\0\0\x01\0\x01\x03\0\x01a";
    assert_eq!(state.execute_head(head).as_deref(), Some(&told[..]));
    state.begin(Command::StmtExecute, b"\x17\x01\0\0\0\x00\x01\0\0\0\0\x01\x03\0\x07\0\0\0");
    state.end();
    assert!(state.holds().has(Hold::Statement), "a form that is not read");
}

/// A definition's EOF has flags, but of a statement that was only prepared.
#[test]
fn preparations_alone_leave_the_status_of_the_leg() {
    let mut state = state();
    prepare(&mut state, "SELECT ?", 1, 1);
    state.inserted = false;
    let answers = [prepared(1, 1), vec![b"\xfe\0\0\0\0".to_vec()]].concat();
    let results = answer(restore(&state, None).unwrap(), Capabilities::SESSION_TRACK, &answers).unwrap();
    assert_eq!(results.status, None);
    let mut script = Script::default();
    script.statement("one", b"DO 1");
    let results = answer(script, LEG, &[b"\0\0\0\x02\0\0\0".to_vec()]).unwrap();
    assert_eq!(results.status, Some(crate::wire::status::Status::AUTOCOMMIT));
}

#[test]
fn a_refusal_is_told_when_all_is_read() {
    let mut state = state();
    prepare(&mut state, "SELECT ?", 1, 1);
    prepare(&mut state, "SELECT 2", 2, 0);
    state.inserted = false;
    let script = restore(&state, None).unwrap();
    let error = answer(script.clone(), LEG, &[vec![refused(1146)], prepared(1, 0)].concat()).unwrap_err();
    assert_eq!(error.to_string(), "prepared statement 1: the CN refuses it: no (1146)");
    let error = answer(script.clone(), LEG, &[prepared(1, 2), prepared(2, 0)].concat()).unwrap_err();
    assert_eq!(error.to_string(), "prepared statement 1: it has 2 parameters there, not 1");
    let mut answers = script.answers(LEG);
    assert!(matches!(answers.packet(b"\x01"), Err(ScriptError::Unexpected { .. })));
}

/// MySQL leaves all definitions out on demand; the leg can be followed all the same.
#[test]
fn an_answer_without_definitions_is_a_refusal() {
    for (leg, end) in [(LEG, &b"\xfe\0\0\x02\0\0\0"[..]), (Capabilities(0), b"\xfe\0\0\x02\0")] {
        let leg = leg | Capabilities::OPTIONAL_RESULTSET_METADATA;
        let mut script = Script::default();
        script.question("one", b"SELECT 1, 2");
        script.statement("two", b"DO 1");
        let eof = (!leg.has(Capabilities::DEPRECATE_EOF)).then_some(end);
        let packets =
            [&b"\x02\0"[..]].into_iter().chain(eof).chain([&b"\x011\x012"[..], end, b"\0\0\0\x02\0\0\0"]);
        let packets: Vec<_> = packets.map(<[u8]>::to_vec).collect();
        let error = answer(script, leg, &packets).unwrap_err();
        assert_eq!(error, ScriptError::Undescribed { what: "one".into() });
    }
    let mut state = state();
    say(&mut state, "SET resultset_metadata = NONE", &variable("resultset_metadata", "NONE"));
    assert!(state.holds().has(Hold::Variable));
}

#[test]
fn what_cannot_be_told_to_another_leg_holds() {
    let mut gone = state();
    let mut schema = Vec::new();
    Change::Schema(b"").write(&mut schema);
    let errand = query(&mut gone, "DROP DATABASE db");
    gone.changed(errand, crate::wire::track::Changes(&schema));
    ok(&mut gone, errand);
    gone.inserted = false;
    assert_eq!(restore(&gone, None), Err(Hold::Unexplained));

    let mut unsure = state();
    prepare(&mut unsure, "SELECT 'x'", 1, 0);
    say(
        &mut unsure,
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        &variable("character_set_connection", "utf8mb4"),
    );
    prepare(&mut unsure, "SELECT 'y'", 2, 0);
    assert!(unsure.holds().is_empty(), "the first is of the login, the second of now");
    say(&mut unsure, "SET NAMES utf8mb4", &variable("character_set_connection", "utf8mb4"));
    assert!(unsure.holds().has(Hold::Statement), "nobody knows the collation any more");
}
