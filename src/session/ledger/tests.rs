//! What a ledger keeps of conversations with MatrixOne's CNs.

use super::*;
use crate::session::restore::tests::lines;

/// Says a text and has it answered.
fn say(ledger: &mut Ledger, sql: &str) -> Option<Errand> {
    answer(ledger, Command::Query, sql.as_bytes(), false)
}

fn answer(ledger: &mut Ledger, command: Command, argument: &[u8], failed: bool) -> Option<Errand> {
    let errand = send(ledger, command, argument);
    if let Some(errand) = errand {
        ledger.replied(errand, failed);
    }
    if command.shape() != Shape::None {
        ledger.caught_up();
    }
    errand
}

fn send(ledger: &mut Ledger, command: Command, argument: &[u8]) -> Option<Errand> {
    let payload = [&[0][..], argument].concat();
    let (head, rest) = payload.split_at(payload.len().min(6));
    if ledger.begin(command, head) {
        ledger.payload(head);
        ledger.payload(rest);
    }
    ledger.end()
}

fn ledger() -> Ledger {
    Ledger::new(Capabilities::default())
}

fn held(texts: &[&str]) -> Option<Hold> {
    let mut ledger = ledger();
    for text in texts {
        say(&mut ledger, text);
    }
    ledger.holds().first()
}

/// What a fresh leg is told, but for the first.
fn settings(ledger: &Ledger) -> Vec<String> {
    ledger.settings().skip(1).flat_map(|script| lines(&script)).collect()
}

#[test]
fn settings_are_said_again_in_order_and_once() {
    let mut ledger = ledger();
    for text in ["set a = 1", "SELECT 1", "set @b = 'x'", "set a = 2", "SET NAMES utf8mb4", "set a = 1"] {
        say(&mut ledger, text);
    }
    answer(&mut ledger, Command::Query, b"set c = 1", true);
    let kept = ["03 set @b = \\'x\\'", "03 set a = 2", "03 SET NAMES utf8mb4", "03 set a = 1"];
    assert_eq!(settings(&ledger), kept);
    let first = ledger.settings().next().unwrap();
    assert_eq!(lines(&first), ["03 /* cloud_nonuser */ set transferred=1;"]);
    assert_eq!(ledger.holds().first(), None);
    answer(&mut ledger, Command::ResetConnection, b"", false);
    assert!(settings(&ledger).is_empty());
}

#[test]
fn what_cannot_be_said_again_holds() {
    let table: [(&[&str], Option<Hold>); 32] = [
        (&["SELECT 1", "INSERT INTO t VALUES (1)", "USE other", "SET GLOBAL a = 1"], None),
        (&["SELECT CONNECTION_ID()"], None),
        (&["set @a = now()"], Some(Hold::UserVariable)),
        (&["set a = @@b"], Some(Hold::Variable)),
        (&["set a = 1, global b = 2"], Some(Hold::Variable)),
        (&["select 1; set a = 1"], Some(Hold::Variable)),
        (&["/* x */ set a = 1"], Some(Hold::Variable)),
        (&["select @a", "insert into t values (@a)", "execute p using @a"], None),
        (&["select 1; set @a = 1"], Some(Hold::UserVariable)),
        (&["/* x */ set @a = 1"], Some(Hold::UserVariable)),
        (&["load data infile 'x' into table t (a, @b)"], Some(Hold::UserVariable)),
        (&["select get_lock('a', 1)"], Some(Hold::UserLock)),
        (&["select get_lock('a', 1)", "select release_lock('a')"], None),
        (&["create temporary table t (a int)"], Some(Hold::TemporaryTable)),
        (&["create temporary table t (a int)", "drop table t"], Some(Hold::TemporaryTable)),
        (&["lock tables t read"], Some(Hold::LockTables)),
        (&["lock tables t read", "unlock tables"], None),
        (&["prepare p from 'select 1'"], Some(Hold::SqlPrepare)),
        (&["set transaction isolation level read committed"], Some(Hold::NextTransaction)),
        (&["set transaction isolation level read committed", "commit"], None),
        (&["set role r"], Some(Hold::Role)),
        (&["call p()"], Some(Hold::Routine)),
        (&["xa start 'x'"], Some(Hold::Xa)),
        (&["xa start 'x'", "xa rollback 'x'"], None),
        (&["select nextval('s')"], Some(Hold::Sequence)),
        (&["set password = 'x'"], Some(Hold::ChangedUser)),
        (&["insert into t values (1)", "select last_insert_id()"], Some(Hold::InsertId)),
        (&["select last_insert_id()"], None),
        (&["select 'open"], Some(Hold::Unreadable)),
        (&["set names utf8mb4", "insert into t values ('\u{e9}')"], None),
        (&["set sql_mode = 'ANSI_QUOTES'", "select \"a\"", "select 'it\\'s'"], None),
        (&["set sql_mode = 'a', b = 'c'", "select \"a\""], Some(Hold::Unreadable)),
    ];
    for (texts, hold) in table {
        assert_eq!(held(texts), hold, "{texts:?}");
    }
}

#[test]
fn of_several_items_some_may_have_been_taken() {
    for (text, hold) in [
        ("set nosuch = 1", None),
        ("set @a = 1, nosuch = 2", Some(Hold::UserVariable)),
        ("set autocommit = 0, nosuch = 2", Some(Hold::Variable)),
    ] {
        let mut ledger = ledger();
        answer(&mut ledger, Command::Query, text.as_bytes(), true);
        assert_eq!(ledger.holds().first(), hold, "{text}");
    }
}

#[test]
fn a_statement_means_the_tables_of_the_schema_where_it_was_prepared() {
    for (command, argument) in [(Command::InitDb, &b"b"[..]), (Command::Query, b"use b")] {
        let mut ledger = ledger();
        answer(&mut ledger, command, argument, false);
        answer(&mut ledger, Command::StmtPrepare, b"select * from t", false);
        assert_eq!(ledger.holds().first(), None);
        answer(&mut ledger, Command::StmtClose, b"\x01\0\0\0", false);
        answer(&mut ledger, command, argument, false);
        assert_eq!(ledger.holds().first(), None, "it is closed");
        answer(&mut ledger, Command::StmtPrepare, b"select * from t", false);
        answer(&mut ledger, command, argument, false);
        assert_eq!(ledger.holds().first(), Some(Hold::Statement));
    }
}

#[test]
fn an_insert_id_is_asked_for_in_vain_after_a_move() {
    let mut ledger = ledger();
    ledger.inserted();
    assert_eq!(ledger.holds().first(), None, "nobody has asked for it");
    ledger.move_on();
    assert!(!ledger.is_unanswerable());
    say(&mut ledger, "select last_insert_id()");
    assert!(ledger.is_unanswerable());
}

#[test]
fn what_is_prepared_counts_at_once() {
    for (text, hold) in [
        ("select ?", None),
        ("set a = ?", Some(Hold::Variable)),
        ("select @a", None),
        ("set @a = ?", Some(Hold::UserVariable)),
        ("create temporary table t (a int)", Some(Hold::TemporaryTable)),
    ] {
        let mut ledger = ledger();
        assert_eq!(answer(&mut ledger, Command::StmtPrepare, text.as_bytes(), false), None);
        assert_eq!(ledger.holds().first(), hold, "{text}");
    }
    let mut ledger = ledger();
    answer(&mut ledger, Command::StmtPrepare, b"select row_count()", false);
    assert!(ledger.asks_about_last(Command::StmtExecute, b"\x17\x01\0\0\0"));
    assert!(ledger.asks_about_last(Command::Query, b"\x03select row_count()"));
    assert!(!ledger.asks_about_last(Command::Query, b"\x03select 1"));
}

#[test]
fn a_cursor_holds_until_it_is_closed() {
    let execute = |flags: u8| [&b"\x01\0\0\0"[..], &[flags, 1, 0, 0, 0]].concat();
    for (command, argument) in [
        (Command::StmtExecute, execute(0)),
        (Command::StmtReset, b"\x01\0\0\0".to_vec()),
        (Command::StmtClose, b"\x01\0\0\0".to_vec()),
    ] {
        let mut ledger = ledger();
        answer(&mut ledger, Command::StmtExecute, &execute(1), false);
        assert_eq!(ledger.holds().first(), Some(Hold::Cursor));
        answer(&mut ledger, Command::StmtReset, b"\x01\0\0\0", true);
        assert_eq!(ledger.holds().first(), Some(Hold::Cursor), "the reset failed");
        answer(&mut ledger, command, &argument, false);
        assert_eq!(ledger.holds().first(), None, "{command:?}");
    }
}

#[test]
fn statements_that_the_cn_may_not_know_to_be_closed_are_left_out() {
    let statement = |id| Prepared { name: Prepared::name_of(id), text: b"select 1".to_vec(), types: vec![] };
    let exported = || Exported { schema: b"db".to_vec(), statements: vec![statement(1), statement(2)] };
    let mut ledger = ledger();
    let close = |ledger: &mut Ledger, id: u8| answer(ledger, Command::StmtClose, &[id, 0, 0, 0], false);
    close(&mut ledger, 2);
    let import = ledger.import(exported(), 9);
    assert_eq!(import, Import { connection_id: 9, schema: b"db".to_vec(), statements: vec![statement(1)] });
    say(&mut ledger, "select 1");
    assert_eq!(ledger.import(exported(), 9).statements.len(), 2, "the CN would not have told of it");
    // One that was closed behind a command in flight is not known to be.
    send(&mut ledger, Command::Query, b"select 1");
    close(&mut ledger, 1);
    ledger.caught_up();
    assert_eq!(ledger.import(exported(), 9).statements, [statement(2)]);
}

#[test]
fn everything_has_a_limit() {
    let mut ledger = ledger();
    for n in 0..=SETTINGS_MAX {
        assert_eq!(ledger.holds().first(), None);
        say(&mut ledger, &format!("set a = {n}"));
    }
    assert_eq!(ledger.holds().first(), Some(Hold::TooMuch));
    let mut ledger = self::ledger();
    for n in 0..=CLOSED_MAX as u32 {
        answer(&mut ledger, Command::StmtClose, &n.to_le_bytes(), false);
    }
    assert_eq!(ledger.holds().first(), Some(Hold::TooMuch));
    let mut ledger = self::ledger();
    say(&mut ledger, &format!("set @a = '{}'", "x".repeat(TEXT_MAX)));
    assert_eq!(ledger.holds().first(), Some(Hold::UserVariable), "too long to be kept");
}
