//! Tests of what the CN's reports tell, and of when it does not report.

use super::*;
use crate::session::tracking;

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
fn what_was_prepared_before_the_tracking_was_learnt_is_learnt_with_it() {
    let mut state = state();
    say(&mut state, "SET session_track_schema = 1, sql_mode = CONCAT(@@sql_mode, ',ANSI')", b"");
    prepare(&mut state, "SELECT 1", 1, 0);
    say(&mut state, "PREPARE s FROM 'SELECT 2'", b"");
    let mut learnt = beginning();
    learnt.context.sql_mode = Known::from(&b"ANSI_QUOTES"[..]);
    state.tracked(&learnt);
    assert_eq!(held(&state), Some(Hold::Unexplained), "PREPARE went past untracked");
    let mut state = self::state();
    say(&mut state, "SET session_track_schema = 1, sql_mode = CONCAT(@@sql_mode, ',ANSI')", b"");
    prepare(&mut state, "SELECT 1", 1, 0);
    let errand = send_bytes(&mut state, b"\x02other");
    ok(&mut state, errand);
    state.tracked(&learnt);
    assert_eq!(held(&state), None);
    assert_eq!(state.statements.get(1).unwrap().context.sql_mode, learnt.context.sql_mode);
    assert_eq!((&*state.context.schema, state.entered), (&b"other"[..], true));
    let errand = {
        say(&mut state, "SET session_track_schema = 1", b"");
        send(&mut state, "\x02größe".as_bytes())
    };
    ok(&mut state, errand);
    state.tracked(&learnt);
    assert_eq!(held(&state), Some(Hold::Unexplained), "nobody knows how the CN writes it");
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
fn who_sets_its_own_tracking_is_shown_what_it_asked_for() {
    let mut state = state();
    let errand = query(&mut state, "SET session_track_schema = 1");
    state.changed(errand, Changes(b"\0\x18\x14session_track_schema\x02ON\x02\x011"));
    ok(&mut state, errand);
    assert_eq!(state.wishes(), Wishes { schema: true, ..Wishes::none() });
    say(&mut state, "SET session_track_system_variables = 'sql_mode'", b"");
    assert_eq!(state.wishes().variables, tracking::Variables::All, "the CN tells no others");
    let mut learnt = beginning();
    learnt.wishes = Wishes::read(b"1", b"sql_mode", b"ON");
    state.tracked(&learnt);
    let shown = tracking::Variables::Some([Box::from(*b"sql_mode")].into());
    assert_eq!(state.wishes(), Wishes { schema: true, variables: shown, state_change: false });
    let errand = send(&mut state, b"\x1f");
    ok(&mut state, errand);
    assert_eq!(state.wishes(), Wishes::everything(), "the CN tells what it tells by itself");
    state.tracked(&beginning());
    assert_eq!(state.wishes(), Wishes::none(), "reset");
}

#[test]
fn what_a_client_perhaps_set_of_its_own_tracking_is_not_shown() {
    let mut state = state();
    let errand = query(&mut state, "DO f(); SET session_track_state_change = 1");
    state.replied(errand.unwrap(), Verdict::Failed, Status::AUTOCOMMIT);
    say(&mut state, "SET session_track_schema = 1", b"\x02\x011");
    assert_eq!(state.wishes(), Wishes { schema: true, ..Wishes::none() });
    let mut learnt = beginning();
    learnt.wishes = Wishes::read(b"1", b"*", b"ON");
    state.tracked(&learnt);
    assert_eq!(state.wishes(), Wishes { schema: true, ..Wishes::none() });
}

#[test]
fn of_several_those_have_set_tracking_whose_results_have_come() {
    let mut state = state();
    let text = "DO 1; SET session_track_schema = 1, session_track_state_change = 1; SET sql_mode = ''";
    let errand = query(&mut state, text);
    for shown in [false, true, true] {
        state.result_comes(errand.unwrap());
        state.changed(errand, Changes(&variable("sql_mode", "")));
        assert_eq!(state.wishes().schema, shown);
    }
    let mut state = super::state();
    let errand = query(&mut state, "DO 1; DO 2; SET @a = 1; SET session_track_schema = 1; DO 3");
    for shown in [false, false, false, true, true] {
        state.result_comes(errand.unwrap());
        state.changed(errand, Changes(&variable("sql_mode", "")));
        assert_eq!(state.wishes().schema, shown);
    }
    let mut state = super::state();
    let errand = query(&mut state, "CALL p(); SET session_track_schema = 1");
    for _ in 0..3 {
        state.result_comes(errand.unwrap());
        state.changed(errand, Changes(&variable("sql_mode", "")));
        assert!(!state.wishes().schema, "they may be results of the procedure");
    }
}

#[test]
fn a_schema_that_is_told_of_again_does_not_explain_what_else_has_changed() {
    let mut state = state();
    let mut changes = Vec::new();
    Change::Schema(b"db").write(&mut changes);
    Change::State(b"1").write(&mut changes);
    say(&mut state, "USE db", &changes);
    let errand = send(&mut state, b"\x02db");
    state.changed(errand, Changes(&changes));
    ok(&mut state, errand);
    assert_eq!(held(&state), None);
    say(&mut state, "INSERT INTO t VALUES (1)", &changes);
    assert_eq!(held(&state), Some(Hold::Unexplained), "a trigger may have set a user variable");
}

#[test]
fn what_else_has_changed_is_explained_by_the_statement_whose_result_tells_of_it() {
    let table: [(&str, &[bool], bool); 7] = [
        ("SELECT f(), f(); DROP TEMPORARY TABLE own", &[true, false], false),
        ("SELECT f(), f(); DROP TEMPORARY TABLE own", &[false, true], true),
        ("DROP TEMPORARY TABLE own; SELECT f()", &[true, true], false),
        ("SELECT @a; DROP TEMPORARY TABLE own; SET @a = 1", &[false, true, true], true),
        ("PREPARE p FROM 'DO 1'; SELECT f()", &[true, false], true),
        ("SELECT f(); PREPARE p FROM 'DO 1'", &[true, false], false),
        ("SELECT f(); SET ROLE NONE", &[false, true], true),
    ];
    for (text, changes, explained) in table {
        let mut state = state();
        let errand = query(&mut state, text);
        for changed in changes {
            state.result_comes(errand.unwrap());
            if *changed {
                state.changed_unseen(errand);
            }
        }
        assert_eq!(state.settled.has(Hold::Unexplained), !explained, "{text} {changes:?}");
    }
}

#[test]
fn the_last_result_of_several_tells_that_tracking_was_set() {
    let mut state = state();
    let errand = query(&mut state, "DO f(); CALL p(); SET session_track_state_change = 1");
    assert_eq!(state.wishes(), Wishes::none(), "it has not run");
    state.ran(errand);
    assert!(state.wishes().state_change);
}

/// As MariaDB Connector/J begins each connection.
#[test]
fn who_sets_its_own_tracking_is_tracked_again_and_moves() {
    const SET: &str = "set sql_mode = concat(@@sql_mode, ',STRICT_ALL_TABLES'), session_track_schema = 1, \
        session_track_system_variables = CONCAT(@@global.session_track_system_variables, ',tx_isolation')";
    for changes in [&b"\x02\x011"[..], &variable("sql_mode", "ANSI_QUOTES")] {
        let mut state = state();
        let errand = query(&mut state, SET);
        assert!(state.is_tracked_otherwise());
        assert_eq!(held(&state), Some(Hold::Tracking));
        state.changed(errand, Changes(changes));
        assert_eq!(query(&mut state, "SELECT @@max_allowed_packet"), None, "sent ahead");
        assert_eq!(query(&mut state, "SHOW STATUS LIKE 'wsrep_local_state'"), None, "sent ahead");
        ok(&mut state, errand);
        let mut learnt = beginning();
        learnt.context.sql_mode = Known::from(&b"ANSI_QUOTES"[..]);
        state.tracked(&learnt);
        assert!(!state.is_tracked_otherwise());
        assert_eq!(held(&state), None);
        assert!(state.complete(), "its SQL mode was learnt");
        say(&mut state, "SELECT \"a\"", b"");
        assert_eq!(held(&state), None);
    }
    let mut state = state();
    let set = query(&mut state, SET);
    let after = query(&mut state, "USE other");
    ok(&mut state, set);
    ok(&mut state, after);
    state.tracked(&beginning());
    assert_eq!(held(&state), Some(Hold::Unexplained), "nobody told of it");
}

#[test]
fn what_the_cn_tells_of_its_own_accord_is_nothing_of_the_session() {
    for noise in ["last_gtid", "statement_id"] {
        let mut state = state();
        let mut told = Vec::new();
        Change::SystemVariable { name: noise.as_bytes(), value: b"0-1-3" }.write(&mut told);
        say(&mut state, "SET wait_timeout = 7", &told);
        let errand = query(&mut state, "INSERT INTO t VALUES (1)");
        state.changed(errand, Changes(&told));
        ok(&mut state, errand);
        assert_eq!(held(&state), None, "{noise}");
        assert_eq!(state.variables.iter().count(), 1, "{noise}");
        Change::State(b"1").write(&mut told);
        let errand = query(&mut state, "SELECT f()");
        state.changed(errand, Changes(&told));
        assert_eq!(held(&state), Some(Hold::Unexplained), "{noise} explains no other change");
    }
}

#[test]
fn a_set_may_end_with_a_semicolon_or_be_prepared() {
    let mode = variable("sql_mode", "ANSI_QUOTES");
    for text in ["SET sql_mode = 'ANSI_QUOTES';", "SET sql_mode = 'ANSI_QUOTES' ;\n -- end"] {
        let mut state = state();
        say(&mut state, text, &mode);
        assert!(state.complete(), "{text}");
        say(&mut state, "SELECT \"a\"", b"");
        assert_eq!(held(&state), None, "{text}");
    }
    let mut state = state();
    let id = prepare(&mut state, "SET sql_mode = ?", 1, 1);
    let errand = send(&mut state, &execute(id, 0, b"\0\x01\xfd\0\x0bANSI_QUOTES"));
    state.changed(errand, Changes(&mode));
    ok(&mut state, errand);
    assert!(state.complete());
    say(&mut state, "SELECT \"a\"", b"");
    assert_eq!(held(&state), None);
    let errand = send(&mut state, &execute(id, 0, b"\0\0\x05wrong"));
    failed(&mut state, errand);
    assert!(state.complete(), "nothing was set");
}

#[test]
fn set_names_tells_the_collation_unless_it_names_another() {
    let names = |charset| {
        let all =
            [CLIENT, CONNECTION, RESULTS].map(|name| variable(std::str::from_utf8(name).unwrap(), charset));
        all.concat()
    };
    for (text, known) in [
        ("SET NAMES latin1", true),
        ("SET NAMES 'latin1';", true),
        ("SET NAMES latin1 COLLATE latin1_bin", false),
        ("SET NAMES DEFAULT", false),
        ("SET CHARACTER SET latin1", false),
    ] {
        let mut state = state();
        say(&mut state, text, &names("latin1"));
        assert_eq!(state.complete(), known, "{text}");
        prepare(&mut state, "SELECT 1", 1, 0);
        say(&mut state, "USE other", &schema("other"));
        assert_eq!(held(&state), (!known).then_some(Hold::Statement), "{text}");
    }
}

#[test]
fn set_session_transaction_is_asked_for_where_nobody_tells() {
    let mut state = state();
    let text = "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    say(&mut state, text, &variable("transaction_isolation", "SERIALIZABLE"));
    assert!(state.complete());
    say(&mut state, text, b"");
    assert!(!state.complete());
    assert_eq!(held(&state), None);
}

#[test]
fn after_a_reset_the_session_begins_with_what_the_cn_tells() {
    let mut state = state();
    assert!(!state.reset);
    let errand = send(&mut state, b"\x1f");
    ok(&mut state, errand);
    let mut learnt = beginning();
    learnt.context.client = Known::from(&b"latin1"[..]);
    learnt.context.schema = Box::default();
    state.tracked(&learnt);
    assert!(state.reset && state.complete() && state.variables.is_empty());
    assert_eq!(*state.context, Context { schema: Box::new(*b"db"), ..learnt.context.clone() });
    assert_eq!(state.context, state.login);
}
