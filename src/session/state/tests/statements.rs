//! Tests of what the state knows of prepared statements.

use super::*;

/// As MySQL 9.7 takes them: parameters first, each type with a name.
#[test]
fn an_execution_with_attributes_tells_the_types_of_its_parameters() {
    let capabilities = TRACK | Capabilities::QUERY_ATTRIBUTES;
    for flags in [0, Execute::PARAMETER_COUNT] {
        let mut state = State::new(capabilities, false, beginning(), None);
        prepare(&mut state, "SELECT ?", 1, 1);
        let values = b"\x02\0\x01\x03\0\0\x03\0\x01a\x07\0\0\0\x08\0\0\0";
        send(&mut state, &execute(1, flags, values));
        assert_eq!(held(&state), None);
        let statement = state.statements.get(1).unwrap();
        assert_eq!(statement.types, Types::Known(Box::new(*b"\x03\0\0")));
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
        state.replied(errand, Verdict::Done, opened);
        let errand = send(&mut state, fetch).unwrap();
        state.replied(errand, Verdict::Done, opened);
        assert_eq!(held(&state), Some(Hold::Cursor), "{name}");
        if let Some(errand) = send_bytes(&mut state, payload) {
            state.replied(errand, Verdict::Done, status);
        }
        assert_eq!(held(&state), None, "{name}");
    }
    for (before, after) in [(Execute::CURSOR_READ_ONLY, Some(Hold::Cursor)), (0, None)] {
        let mut state = state();
        prepare(&mut state, "SELECT ?", 1, 0);
        if let Some(errand) = send(&mut state, &execute(1, before, b"")) {
            state.replied(errand, Verdict::Done, opened);
        }
        let errand = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b""));
        failed(&mut state, errand);
        assert_eq!(held(&state), after, "a refused execution leaves a cursor as it was");
    }
    let mut state = state();
    prepare(&mut state, "SET @a = 1", 1, 0);
    let first = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b"")).unwrap();
    let second = send(&mut state, &execute(1, Execute::CURSOR_READ_ONLY, b"")).unwrap();
    state.replied(first, Verdict::Done, Status::AUTOCOMMIT);
    assert_eq!(held(&state), Some(Hold::Cursor), "the second may still open one");
    state.replied(second, Verdict::Done, Status::AUTOCOMMIT);
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
    state.replied(first, Verdict::Done, Status::AUTOCOMMIT);
    state.replied(second, Verdict::Done, Status::AUTOCOMMIT);
    assert!(!state.holds().has(Hold::Statement), "it told the types");
    assert_eq!(state.statements.get(4).unwrap().types, Types::Known(b"\x03\0".as_slice().into()));
    send(&mut state, b"\x19\xff\xff\xff\xff");
    assert!(state.statements.is_empty());
}

/// By the dialog's side: whether they are held is asked anew only where something may have changed that.
#[test]
fn types_that_were_not_read_hold_until_they_are_told() {
    let early = execute(LAST_PREPARED, 0, b"\0\x01\x03\0\x01\0\0\0");
    let long = execute(LAST_PREPARED, 0, &[&[0; 500][..], &[1], &[3, 0].repeat(4000)].concat());
    let cases: [(u16, &[&[u8]], bool); 4] =
        [(1, &[&early], true), (1, &[&early, &early], false), (4000, &[&long], false), (0, &[&early], true)];
    for (parameters, executions, known) in cases {
        let mut state = state();
        let first = send(&mut state, b"\x16SELECT ?").unwrap();
        let sent: Vec<_> = executions.iter().map(|one| send_bytes(&mut state, one)).collect();
        let ok_packet =
            PrepareOk { statement: 4, columns: 1, parameters, warnings: 0, metadata_follows: true };
        state.prepared(first, &ok_packet);
        ok(&mut state, Some(first));
        sent.into_iter().for_each(|errand| ok(&mut state, errand));
        assert_eq!(held(&state), (!known).then_some(Hold::Statement), "{parameters}");
        let types = [3, 0].repeat(usize::from(parameters));
        let null = vec![0; usize::from(parameters).div_ceil(8)];
        let whole = execute(4, 0, &[&null[..], &[1], &types].concat());
        assert_eq!(send(&mut state, &whole).is_some(), !known, "{parameters}: it ends the hold");
        assert_eq!(held(&state), None, "{parameters}");
    }
}

/// MySQL gives it the type that it had when the text was prepared first.
#[test]
fn a_prepared_text_with_a_user_variable_stays_on_its_mysql() {
    for (mariadb, hold) in [(true, None), (false, Some(Hold::Statement))] {
        let mut state = State::new(TRACK, mariadb, beginning(), Some(b"db"));
        prepare(&mut state, "SELECT @a", 1, 0);
        assert_eq!(held(&state), hold);
        send(&mut state, b"\x19\x01\0\0\0");
        assert_eq!(held(&state), None);
    }
}

#[test]
fn a_close_that_overtakes_its_preparation_counts() {
    let mut state = state();
    let errand = send(&mut state, b"\x16SELECT 1").unwrap();
    send(&mut state, b"\x19\xff\xff\xff\xff");
    let ok = PrepareOk { statement: 4, columns: 1, parameters: 0, warnings: 0, metadata_follows: true };
    state.prepared(errand, &ok);
    state.replied(errand, Verdict::Done, Status::AUTOCOMMIT);
    assert!(state.statements.is_empty());
}

#[test]
fn a_statement_beyond_a_limit_holds_until_it_is_closed() {
    let many = PARAMETERS_MAX + 1;
    let table: [(&str, String, u16); 2] =
        [("text", "x".repeat(TEXT_MAX + 1), 0), ("parameters", "INSERT INTO t VALUES (?)".to_owned(), many)];
    for (name, text, parameters) in table {
        let mut state = state();
        prepare(&mut state, &text, 7, parameters);
        assert_eq!(held(&state), Some(Hold::Statement), "{name}");
        assert!(!Hold::Statement.is_lasting());
        let payload = execute(7, 0, &vec![0; usize::from(parameters)]);
        assert_eq!(send(&mut state, &payload), None, "{name}: its types are of no interest");
        send(&mut state, b"\x19\x07\0\0\0");
        assert_eq!(held(&state), None, "{name}, closed");
    }
    let mut state = state();
    let half = "x".repeat(TEXT_MAX / 2 + 1);
    prepare(&mut state, &half, 1, 0);
    prepare(&mut state, &half, 2, 0);
    assert_eq!(held(&state), Some(Hold::Statement), "together they are too long");
    send(&mut state, b"\x19\x02\0\0\0");
    assert_eq!(held(&state), None);
    for id in 0..=STATEMENTS_MAX as u32 {
        prepare(&mut state, "SELECT 1", id + 10, 0);
    }
    assert_eq!(held(&state), Some(Hold::Statement), "one is too many");
    send(&mut state, &[&[0x19][..], &(STATEMENTS_MAX as u32 + 10).to_le_bytes()].concat());
    send(&mut state, &[&[0x19][..], &(STATEMENTS_MAX as u32 + 9).to_le_bytes()].concat());
    assert_eq!(held(&state), None);
}

#[test]
fn the_types_of_all_statements_have_one_limit() {
    let mut state = state();
    let parameters = 4000;
    let of_one = 2 * usize::from(parameters);
    let fit = TYPES_MAX / of_one;
    let payload = |id| {
        let nulls = vec![0; usize::from(parameters).div_ceil(8)];
        execute(id, 0, &[&nulls[..], &[1], &vec![3; of_one]].concat())
    };
    for id in 0..=fit as u32 {
        prepare(&mut state, "SELECT ?", id + 1, parameters);
        send(&mut state, &payload(id + 1));
        let expected = (id as usize == fit).then_some(Hold::Statement);
        assert_eq!(held(&state), expected, "{id}");
    }
    send(&mut state, &payload(1));
    send(&mut state, b"\x19\x01\0\0\0");
    send(&mut state, &payload(fit as u32 + 1));
    assert_eq!(held(&state), None, "there is place again");
}
