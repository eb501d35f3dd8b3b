//! The effects of texts, by hand and by property.

use proptest::prelude::*;

use super::effect::Effect::{self, *};
use super::{Effects, Modes, NAME_BYTES_MAX, NAMES_MAX, Reader, effects};

const EFFECTS: [Effect; 42] = [
    AsksAboutLast,
    UserVariable,
    TakesUserLock,
    ReleasesUserLock,
    ReleasesAllUserLocks,
    LocksTables,
    LocksInstance,
    UnlocksTables,
    CreatesTemporaryTable,
    DropsTable,
    OpensHandler,
    ClosesHandler,
    Prepares,
    PreparesUnknown,
    Executes,
    Deallocates,
    NextTransaction,
    EndsTransaction,
    Role,
    Password,
    UntransferableVariable,
    Tracking,
    Xa,
    XaEnds,
    Routine,
    NextValue,
    LastValue,
    ConnectionId,
    Profiling,
    LastInsertId,
    ReadsInsertId,
    FoundRows,
    Uses,
    Sets,
    SetsNames,
    NamesCollate,
    CollatesApart,
    AltersTable,
    RenamesTable,
    Several,
    Unreadable,
    Inserts,
];

/// Effects as `Kind` or `Kind(name,name)`, in their order.
fn told(effects: &Effects) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for effect in &EFFECTS {
        let names: Vec<_> = effects
            .named
            .iter()
            .filter(|named| named.effect == *effect)
            .map(|named| String::from_utf8_lossy(&named.name).replace('\0', "."))
            .collect();
        match (effects.has(*effect), names.is_empty()) {
            (true, true) => kinds.push(format!("{effect:?}")),
            (true, false) => kinds.push(format!("{effect:?}({})", names.join(","))),
            (false, empty) => assert!(empty, "{effect:?} has names and no bit: {effects:?}"),
        }
    }
    kinds.join(" ")
}

fn told_of(text: &[u8], modes: Modes) -> String {
    told(&effects(text, modes))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(told_of(text.as_bytes(), Modes::default()), *expected, "{text}");
    }
}

#[test]
fn ordinary_statements_are_plain() {
    for text in [
        "",
        ";;",
        "SELECT 1",
        "select c from sbtest1 where id=100",
        "SELECT t.lock, `set`, 'SET ROLE x; @a', \"@b\" FROM `use`.t USE INDEX (i) WHERE a = \"it's\" FOR UPDATE",
        "INSERT INTO t (a, b) VALUES (1, 'GET_LOCK(''x'')'), (2, x'4D'), (3, _utf8'a'), (4, N'b'), (5, b'1')",
        "UPDATE t SET autocommit = 1, sql_mode = 'x' WHERE a = REPLACE(b, 'x', 'y')",
        "DELETE FROM t -- SET @a = 1\n WHERE a # GET_LOCK('x')\n = 1 /* LOCK TABLES t */",
        "/* hello */ BEGIN",
        "BEGIN WORK",
        "begin;",
        "START TRANSACTION READ ONLY",
        "COMMIT AND CHAIN",
        "SELECT a.get_lock(1), get_lock, last_insert_id, insert(a, 1, 2, 'b') FROM t",
        "SET DEFAULT ROLE x TO y",
        "SET GLOBAL max_connections = 5",
        "SET @@global.timestamp = 5, PERSIST y = 6, @@persist_only.z = 1",
        "SET GLOBAL TRANSACTION READ ONLY",
        "CREATE TABLE t (a INT DEFAULT 1, KEY (a)) CHARACTER SET utf8mb4",
        "CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW SET NEW.a = @b",
        "CREATE DEFINER=`root`@`localhost` PROCEDURE p() SELECT GET_LOCK('a', 1)",
        "EXPLAIN UPDATE t SET timestamp = 1",
        "ANALYZE UPDATE t SET timestamp = 1",
        "ANALYZE TABLE t",
        "DESC t",
        "SHOW TABLES",
        "SHOW GLOBAL STATUS",
        "SHOW TABLE STATUS",
        "SELECT /*+ SET_VAR(sort_buffer_size = 1) */ 1--1",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "FLUSH TABLES",
        "FLUSH LOCAL PRIVILEGES",
        "GRANT SELECT ON *.* TO 'a'@'b'",
        "CREATE USER 'a'@'b' IDENTIFIED BY 'c'",
        "UNLOCK INSTANCE",
        "XA RECOVER",
        "HANDLER t READ FIRST",
        "LOAD DATA INFILE 'x' INTO TABLE t SET a = 1",
        "CREATE TABLE t SELECT 1",
        "CREATE TABLE t AS TABLE u",
        "(((",
        "SELECT a\0b, \u{fc}ber FROM t",
        "DROP VIEW v",
        "SELECT $a, a$$b",
        "SELECT --",
    ] {
        let effects = effects(text.as_bytes(), Modes::default());
        assert!(effects.is_plain() && effects.named.is_empty(), "{text}: {}", told(&effects));
    }
}

#[test]
fn statements_that_insert() {
    check(&[
        ("INSERT INTO t VALUES (1)", "Inserts"),
        ("replace t values (1)", "Inserts"),
        ("REPLACE(a, b, c)", "Inserts"),
        ("SELECT REPLACE(a, b, c)", ""),
        ("EXPLAIN FORMAT=JSON INSERT INTO t VALUES (1)", "Inserts"),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "Inserts"),
        ("CREATE TABLE t (a INT) SELECT 1", "Inserts"),
        ("CREATE OR REPLACE TABLE t LIKE u", ""),
        (
            "SET STATEMENT max_statement_time=1 FOR INSERT INTO t VALUES (1)",
            "Sets(max_statement_time) Inserts",
        ),
        ("SELECT 1; INSERT INTO t VALUES (1)", "Several Inserts"),
        ("/*!99999 x */ INSERT INTO t VALUES (1)", "Inserts"),
        ("UPDATE t SET a = LAST_INSERT_ID(a + 1)", "LastInsertId"),
        ("SELECT last_insert_id (/* none */)", "ReadsInsertId"),
        ("SELECT LAST_INSERT_ID(@a)", "UserVariable(a) LastInsertId"),
        ("SELECT `LAST_INSERT_ID` ('5')", "LastInsertId"),
        ("SET last_insert_id = 5, @@identity = 6", "LastInsertId Sets(last_insert_id,identity)"),
    ]);
}

#[test]
fn variables() {
    check(&[
        ("SELECT @a, @A, @`b c`, @'d''e', @\"f\", @g.h$1, @a:=1", "UserVariable(a,b c,d'e,f,g.h$1)"),
        ("SELECT 1 INTO @x", "UserVariable(x)"),
        ("SELECT @", ""),
        ("SELECT 1@ b", ""),
        ("SELECT @'', @c", "UserVariable(c)"),
        ("GRANT SELECT ON x TO 'a'@'b', `c`@`d`", ""),
        (
            "SET a = 1, @b := 2, @@session.c = 3, GLOBAL d = 4, NAMES x",
            concat!(
                "UserVariable(b) Sets(a,c,character_set_client,character_set_results,",
                "character_set_connection) SetsNames"
            ),
        ),
        (
            "SET CHARACTER SET x, w = 1",
            concat!(
                "Sets(character_set_client,character_set_results,",
                "character_set_connection,collation_connection,w) CollatesApart"
            ),
        ),
        (
            "SET SESSION A:=(SELECT MAX(b), c FROM d), LOCAL `e`=f(1, 2), @@g=1, @@local.`h`=1, @@`i`=1",
            "Sets(a,e,g,h,i)",
        ),
        ("SET SESSION validate.policy = 1", "Sets(validate.policy)"),
        ("SET /* x */ autocommit /*!50000 = */ 0", "Sets(autocommit)"),
        ("SET STATEMENT a=1, b=SUBSTRING('x' FROM 1 FOR 2) FOR SET c=1", "Sets(a,b,c)"),
        (
            "/*!40101 SET NAMES utf8 */",
            "Sets(character_set_client,character_set_results,character_set_connection) SetsNames",
        ),
        ("/*!40101 SET @OLD=@@SQL_MODE, SQL_MODE='x' */;", "UserVariable(old) Sets(sql_mode)"),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", "NextTransaction"),
        ("SET SESSION TRANSACTION READ ONLY", "Sets"),
        ("SET @@tx_isolation = 'x'", "NextTransaction Sets(tx_isolation)"),
        (
            "SET tx_isolation = 'x', @@session.transaction_read_only = 1",
            "Sets(tx_isolation,transaction_read_only)",
        ),
        ("SET timestamp = 1", "UntransferableVariable Sets(timestamp)"),
        ("SET @@session.debug_sync = 'x'", "UntransferableVariable Sets(debug_sync)"),
        ("SET RESOURCE GROUP x", "UntransferableVariable"),
        ("SET sql_log_bin", "UntransferableVariable"),
        ("SET GLOBAL session_track_schema = 1", ""),
        ("SELECT @@session . session_track_schema", ""),
        ("SET session_track_gtids=OFF", "Sets(session_track_gtids)"),
        (
            "SET session_track_system_variables = CONCAT(@@global.session_track_system_variables, ',x')",
            "Tracking Sets(session_track_system_variables)",
        ),
        ("SET @@session.session_track_schema = 1", "Tracking Sets(session_track_schema)"),
        ("SET profiling = 1", "Profiling Sets(profiling)"),
        ("SET ROLE a, b", "Role"),
        ("SET SESSION AUTHORIZATION a", "Password"),
        ("SET PASSWORD FOR a = 'b', c = 1", "Password Sets(c)"),
        ("ALTER USER a", "Password"),
        ("RENAME USER a TO b", "Password"),
        ("DROP USER a", "Password"),
        ("CREATE OR REPLACE USER a", "Password"),
        ("GRANT ALL ON *.* TO a IDENTIFIED BY 'b'", "Password"),
    ]);
}

#[test]
fn questions_about_the_last_statement_and_the_connection() {
    check(&[
        ("SELECT ROW_COUNT()", "AsksAboutLast"),
        ("SELECT FOUND_ROWS ( )", "AsksAboutLast"),
        ("SELECT @@warning_count", "AsksAboutLast"),
        ("SELECT @@session.error_count", "AsksAboutLast"),
        ("SELECT @@`error_count`", "AsksAboutLast"),
        ("SELECT warning_count, t.error_count FROM t", ""),
        ("SHOW WARNINGS LIMIT 1", "AsksAboutLast"),
        ("SHOW COUNT(*) ERRORS", "AsksAboutLast"),
        ("SHOW SESSION STATUS", "AsksAboutLast"),
        ("SHOW VARIABLES LIKE 'a'", "AsksAboutLast"),
        ("GET DIAGNOSTICS @n = NUMBER", "AsksAboutLast UserVariable(n)"),
        ("SELECT CONNECTION_ID/**/()", "ConnectionId"),
        ("SELECT @@pseudo_thread_id", "ConnectionId"),
        ("SELECT SQL_CALC_FOUND_ROWS a FROM t", "FoundRows"),
        ("SELECT @@last_gtid", "AsksAboutLast"),
        ("SELECT WSREP_LAST_WRITTEN_GTID(), wsrep_last_seen_gtid()", "AsksAboutLast"),
        ("SELECT NEXTVAL(s)", "NextValue"),
        ("SELECT NEXT VALUE FOR s", "NextValue"),
        ("INSERT INTO t VALUES (NEXT VALUE FOR s)", "NextValue Inserts"),
        ("SELECT s.nextval", "NextValue"),
        ("SELECT PREVIOUS VALUE FOR s", "LastValue"),
        ("SELECT LASTVAL(s), s.currval", "LastValue"),
        ("SELECT SETVAL(s, 5), nextval, t.lastval FROM t", ""),
        ("KILL QUERY 5", ""),
        ("USE `x`", "Uses"),
    ]);
}

#[test]
fn user_locks() {
    check(&[
        ("SELECT GET_LOCK('A', 10)", "TakesUserLock(A)"),
        ("select get_lock ( 'it''s\\n' , 10 ) as x, 5", "TakesUserLock(it's\n)"),
        ("DO GET_LOCK('a', 1), GET_LOCK(\"b\", f(1))", "TakesUserLock(a,b)"),
        ("SELECT GET_LOCK(?, 10)", "TakesUserLock()"),
        ("SELECT GET_LOCK('a' 'b', 10)", "TakesUserLock()"),
        ("SELECT GET_LOCK(N'a', 10)", "TakesUserLock()"),
        ("SELECT GET_LOCK('a', 10) FROM t", "TakesUserLock()"),
        ("SELECT 1 + GET_LOCK('a', 10)", "TakesUserLock()"),
        ("SELECT `GET_LOCK`('a', 10)", "TakesUserLock(a)"),
        ("SELECT GET_LOCK('a', 10", "TakesUserLock()"),
        ("INSERT INTO t SELECT GET_LOCK('a', 1)", "TakesUserLock() Inserts"),
        ("SELECT RELEASE_LOCK('a')", "ReleasesUserLock(a)"),
        ("SELECT RELEASE_LOCK('a') AS x", "ReleasesUserLock(a)"),
        ("DO RELEASE_LOCK('a'), RELEASE_LOCK('b');", "ReleasesUserLock(a,b)"),
        ("SELECT RELEASE_LOCK('a'), GET_LOCK('A', 1)", "TakesUserLock(A)"),
        ("SELECT RELEASE_LOCK(@a)", "UserVariable(a)"),
        ("SELECT RELEASE_LOCK('a') AND 0", ""),
        ("SELECT RELEASE_LOCK('a') = 1", ""),
        ("SELECT 1 WHERE RELEASE_LOCK('a')", ""),
        ("SELECT RELEASE_LOCK('a') AS x LIMIT 0", ""),
        ("SELECT IF(0, RELEASE_LOCK('a'), 1)", ""),
        ("EXPLAIN SELECT RELEASE_LOCK('a')", ""),
        ("/*!99999 SELECT RELEASE_LOCK('a') */", ""),
        ("DO RELEASE_ALL_LOCKS()", "ReleasesAllUserLocks"),
        ("SELECT RELEASE_ALL_LOCKS(), GET_LOCK('a', 1)", "TakesUserLock(a)"),
        ("SELECT RELEASE_ALL_LOCKS() FROM t", ""),
        ("SELECT service_get_read_locks('a', 'b', 1)", "TakesUserLock()"),
    ]);
}

#[test]
fn tables_and_handlers() {
    check(&[
        ("LOCK TABLES t READ", "LocksTables"),
        ("lock table t write; unlock tables", "LocksTables UnlocksTables Several"),
        ("UNLOCK TABLES; LOCK TABLES t READ", "LocksTables Several"),
        ("/*!99999 UNLOCK TABLES */", ""),
        ("/*!99999 SELECT 1 */ LOCK TABLES t READ", "LocksTables"),
        ("FLUSH TABLES a, b WITH READ LOCK", "LocksTables"),
        ("FLUSH LOCAL TABLES a FOR EXPORT", "LocksTables"),
        ("LOCK INSTANCE FOR BACKUP", "LocksTables LocksInstance"),
        ("BACKUP STAGE START", "LocksTables LocksInstance"),
        ("CREATE TEMPORARY TABLE t (a INT)", "CreatesTemporaryTable(t)"),
        ("CREATE TEMPORARY TABLE IF NOT EXISTS `d`.`t``u` LIKE x", "CreatesTemporaryTable(d.t`u)"),
        ("CREATE OR REPLACE TEMPORARY TABLE d . t SELECT 1", "CreatesTemporaryTable(d.t) Inserts"),
        ("CREATE /*!32312 TEMPORARY */ TABLE t(a INT)", "CreatesTemporaryTable(t)"),
        ("/*!50001 CREATE TEMPORARY TABLE t */ SELECT 1", "CreatesTemporaryTable(t) Inserts"),
        ("DROP TABLE IF EXISTS t; CREATE TEMPORARY TABLE x.T (a INT)", "CreatesTemporaryTable(x.T) Several"),
        ("DROP TEMPORARY TABLE IF EXISTS a, `b`.c , d RESTRICT", "DropsTable(a,b.c,d)"),
        ("DROP TABLES a", "DropsTable(a)"),
        ("DROP TABLE /*!99999 a, */ b", ""),
        ("HANDLER d.t OPEN", "OpensHandler(t)"),
        ("HANDLER t OPEN AS `h`", "OpensHandler(h)"),
        ("HANDLER t OPEN h;", "OpensHandler(h)"),
        ("HANDLER h CLOSE", "ClosesHandler(h)"),
    ]);
    let dotted = effects(b"DROP TABLE `a.b`, a.b", Modes::default());
    assert_ne!(dotted.named[0].name, dotted.named[1].name, "a name may have a dot");
}

#[test]
fn changes_of_a_table() {
    check(&[
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 5", "AltersTable"),
        ("ALTER ONLINE IGNORE TABLE t ADD a INT", "AltersTable"),
        ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX c TO d, RENAME KEY e TO f", "AltersTable"),
        ("ALTER TABLE t RENAME u", "AltersTable RenamesTable"),
        ("ALTER TABLE t ADD a INT, RENAME TO `u`", "AltersTable RenamesTable"),
        ("ALTER TABLE t RENAME = u", "AltersTable RenamesTable"),
        ("RENAME TABLE t TO u", "RenamesTable"),
        ("CREATE UNIQUE INDEX i ON t (a)", "AltersTable"),
        ("DROP INDEX i ON t", "AltersTable"),
        ("OPTIMIZE TABLE t", "AltersTable"),
        ("ALTER DATABASE d CHARACTER SET utf8mb4", ""),
        ("TRUNCATE TABLE t", ""),
    ]);
}

#[test]
fn ends_of_transactions() {
    check(&[
        ("COMMIT", "EndsTransaction"),
        ("commit and chain", "EndsTransaction"),
        ("ROLLBACK", "EndsTransaction"),
        ("ROLLBACK WORK;", "EndsTransaction"),
        ("ROLLBACK WORK TO SAVEPOINT a", ""),
        ("ROLLBACK TO a", ""),
        ("ROLLBACK AND NO CHAIN", "EndsTransaction"),
        ("/*!99999 COMMIT */", ""),
        ("SELECT commit, rollback FROM t", ""),
    ]);
}

#[test]
fn character_sets_with_their_default_collation_or_another() {
    const CONNECTION: &str = "Sets(character_set_connection) CollatesApart";
    const COLLATED: &str = "Sets(character_set_connection,collation_connection) CollatesApart";
    check(&[
        (
            "SET NAMES 'utf8'",
            "Sets(character_set_client,character_set_results,character_set_connection) SetsNames",
        ),
        (
            "SET NAMES utf8 COLLATE x",
            concat!(
                "Sets(character_set_client,character_set_results,",
                "character_set_connection,collation_connection) SetsNames NamesCollate"
            ),
        ),
        (
            "SET NAMES DEFAULT",
            concat!(
                "Sets(character_set_client,character_set_results,",
                "character_set_connection,collation_connection) SetsNames"
            ),
        ),
        ("SET character_set_connection = latin1", CONNECTION),
        ("SET @@session.character_set_connection = 'latin1'", CONNECTION),
        ("SET character_set_connection = DEFAULT", COLLATED),
        ("SET character_set_connection = 83", COLLATED),
        (
            "SET character_set_connection = @a",
            "UserVariable(a) Sets(character_set_connection,collation_connection) CollatesApart",
        ),
        ("SET character_set_connection = @@global.character_set_connection", COLLATED),
        ("SET character_set_connection = (SELECT 1)", COLLATED),
        ("SET character_set_connection = CONCAT('a')", COLLATED),
        ("SET character_set_connection = ?", COLLATED),
        ("SET GLOBAL character_set_connection = DEFAULT", ""),
        (
            "SET STATEMENT character_set_connection = x FOR SET a = 1",
            "Sets(character_set_connection,a) CollatesApart",
        ),
        ("SET character_set_connection = x, a = 1", "Sets(character_set_connection,a) CollatesApart"),
        ("SET collation_connection = x", "Sets(collation_connection) CollatesApart"),
        ("SET SESSION character_set_results = NULL", "Sets(character_set_results) CollatesApart"),
        ("SET character_set_client = x", "Sets(character_set_client) CollatesApart"),
    ]);
}

/// Whoever reads it must not take longer with each part.
#[test]
fn a_name_of_many_parts_is_cut_short() {
    let text = |parts: usize| format!("SET a{} = 1", ".b".repeat(parts));
    assert_eq!(told(&effects(text(2).as_bytes(), Modes::default())), "Sets(a.b.b)");
    for text in [text(1 << 20), text(1 << 20).replace("SET", "DROP TABLE")] {
        let effects = effects(text.as_bytes(), Modes::default());
        assert!(effects.has(Effect::Unreadable), "{}", &text[..20]);
        assert!(effects.named.iter().all(|named| named.name.len() <= 2 * NAME_BYTES_MAX + 1));
    }
}

#[test]
fn several_statements() {
    check(&[
        ("SELECT 1;", ""),
        ("SELECT 1; -- no more\n", ""),
        ("; SELECT 1", ""),
        ("SELECT ';'", ""),
        ("SELECT 1; SELECT 2", "Several"),
        ("SELECT 1;;", "Several"),
        ("SELECT 1; -- none\n; ", "Several"),
        ("SELECT 1 -- none\n; \n", ""),
        ("/* none */ ; SELECT 1 # none", ""),
        ("SET a = 1 /*!50000 ; SET b = 2 */", "Sets(a,b) Several"),
    ]);
}

#[test]
fn statements_of_sql_itself_xa_and_code() {
    check(&[
        ("PREPARE s FROM 'SELECT @a'", "Prepares(s)"),
        ("PREPARE `s` FROM @a", "UserVariable(a) PreparesUnknown(s)"),
        ("PREPARE s FROM @@version", "PreparesUnknown(s)"),
        ("PREPARE s FROM CONCAT('a', 'b')", "PreparesUnknown(s)"),
        ("PREPARE s FROM 'a' || 'b'", "PreparesUnknown(s)"),
        ("EXECUTE s USING @a", "UserVariable(a) Executes(s) Inserts"),
        ("EXECUTE IMMEDIATE 'x'", "PreparesUnknown Routine Inserts"),
        ("DEALLOCATE PREPARE s", "Deallocates(s)"),
        ("DROP PREPARE s", "Deallocates(s)"),
        ("DEALLOCATE PREPARE s; PREPARE s FROM 'x'", "Prepares(s) Several"),
        ("XA START 'a'", "Xa"),
        ("XA END 'a'; XA COMMIT 'a' ONE PHASE", "Xa XaEnds Several"),
        ("XA ROLLBACK 'a'", "XaEnds"),
        ("CALL p(1)", "Routine Inserts"),
        (
            "BEGIN NOT ATOMIC SET ROLE x; LOCK TABLES t READ; UNLOCK TABLES; END",
            "LocksTables Role Routine Several",
        ),
        ("BEGIN SELECT 1; END", "Routine Several"),
        ("x: LOOP SET ROLE y; END LOOP", "Role Routine Several"),
        ("IF a THEN SET ROLE y; END IF", "Role Routine Several"),
        ("CREATE PROCEDURE p() BEGIN SET @a = 1; SET ROLE x; END", "Role Routine Several"),
        ("CREATE EVENT e ON SCHEDULE AT 1 DO SET ROLE x;", ""),
        ("BINLOG 'x'", "Routine"),
    ]);
}

#[test]
fn what_cannot_be_read() {
    check(&[
        ("SELECT 'a", "Unreadable"),
        ("SELECT 'a''", "Unreadable"),
        ("SELECT 'a\\'", "Unreadable"),
        ("SELECT `a", "Unreadable"),
        ("SELECT 1 /* a", "Unreadable"),
        ("SELECT 1 /*/", "Unreadable"),
        ("SELECT 1 /*! a", "Unreadable"),
        ("SELECT 1 /*!99999 ' */ LOCK TABLES t /* ' */ */", "Unreadable"),
        ("SELECT 1 /*!50000 # */\n */", "Unreadable"),
        ("SELECT $$ ' $$", "Unreadable"),
        ("SET sql_mode = \"a\\\"b\"", "Sets(sql_mode)"),
        ("SET sql_mode = 'a'; SELECT \"b\"", "Sets(sql_mode) Several Unreadable"),
        ("SET sql_mode = 'a'; SELECT 'b\\'' ", "Sets(sql_mode) Several Unreadable"),
        ("SET sql_mode = 'a'; SELECT 'b'", "Sets(sql_mode) Several"),
    ]);
}

#[test]
fn modes_change_quotes() {
    let ansi = Modes { ansi_quotes: true, ..Modes::default() };
    let literal = Modes { no_backslash_escapes: true, ..Modes::default() };
    for (text, modes, expected) in [
        ("DROP TABLE \"a\\\"", ansi, "DropsTable(a\\)"),
        ("SELECT GET_LOCK(\"a\", 1)", ansi, "TakesUserLock()"),
        ("SELECT 'a\\', @b", literal, "UserVariable(b)"),
        ("SELECT 'a\\', @b'", Modes::default(), ""),
        ("SELECT 'a\\', @b'", literal, "UserVariable(b) Unreadable"),
    ] {
        assert_eq!(told_of(text.as_bytes(), modes), expected, "{text}");
    }
}

#[test]
fn names_are_bounded() {
    let many = |count: usize| (0..count).map(|i| format!("@v{i}")).collect::<Vec<_>>().join(",");
    let most = effects(format!("SELECT {}", many(NAMES_MAX)).as_bytes(), Modes::default());
    assert!(!most.has(Unreadable) && most.named.len() == NAMES_MAX);
    let more = effects(format!("SELECT {}", many(NAMES_MAX + 1)).as_bytes(), Modes::default());
    assert!(more.has(Unreadable) && more.named.len() == NAMES_MAX);
    let long = format!("CREATE TEMPORARY TABLE {} (a INT)", "x".repeat(10_000));
    assert_eq!(told_of(long.as_bytes(), Modes::default()), "CreatesTemporaryTable()");
}

#[test]
fn white_space_beyond_ascii_is_not_read() {
    let latin = Modes { spaces: true, ..Modes::default() };
    for (text, modes, expected) in [
        (&b"LOCK\xa0TABLES t WRITE"[..], latin, "Unreadable"),
        (b"LOCK\xa0TABLES t WRITE", Modes::default(), ""),
        (b"SELECT '\xc3\xa0', `\xa0`, \xe9t\xe9 -- \xa0", latin, ""),
        (b"SELECT 1 --\xa0'\n", latin, "Unreadable"),
        (b"SELECT @\xff", latin, "UserVariable(\u{fffd}) Unreadable"),
    ] {
        assert_eq!(told_of(text, modes), expected, "{}", text.escape_ascii());
    }
    let brackets = Modes { brackets: true, ..Modes::default() };
    assert_eq!(told_of(b"SELECT [a'b], '['", brackets), "Unreadable");
    assert_eq!(told_of(b"SELECT '['", brackets), "");
}

#[test]
fn a_reader_is_small() {
    assert!(size_of::<Reader>() <= 136, "{} bytes", size_of::<Reader>());
}

/// Texts of the kind that matters, and any bytes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "SELECT ",
        "SET ",
        "GLOBAL ",
        "SESSION ",
        "NAMES ",
        "STATEMENT ",
        "FOR ",
        "CREATE ",
        "OR REPLACE ",
        "TEMPORARY ",
        "TABLE ",
        "IF NOT EXISTS ",
        "DROP ",
        "PREPARE ",
        "s ",
        "FROM ",
        "EXECUTE ",
        "IMMEDIATE ",
        "LOCK ",
        "UNLOCK ",
        "TABLES ",
        "HANDLER ",
        "OPEN ",
        "AS ",
        "CLOSE ",
        "BEGIN ",
        "END ",
        "NOT ATOMIC ",
        "THEN ",
        "XA ",
        "COMMIT ",
        "GET_LOCK",
        "RELEASE_LOCK",
        "RELEASE_ALL_LOCKS",
        "LAST_INSERT_ID",
        "CALL ",
        "INSERT ",
        "DO ",
        "@",
        "@@",
        "session.",
        "sql_mode",
        "timestamp",
        "=",
        ":=",
        "(",
        ")",
        ",",
        ";",
        ".",
        "'",
        "\"",
        "`",
        "'a'",
        "`b`",
        "''",
        "\\",
        "\\'",
        "/*",
        "*/",
        "/*!",
        "/*!50000",
        "/*M!",
        "--",
        "-- ",
        "#",
        "\n",
        " ",
        "*",
        "/",
        "-",
        "$$",
        "\0",
        "\u{fc}",
        "1",
        ":",
        "a_name_that_is_longer_than_any_keyword_is",
        "TRIGGER ",
        "EXPLAIN ",
        "WITH ",
        "PROCEDURE ",
        "SHOW ",
        "WARNINGS ",
        "ALTER ",
        "RENAME ",
        "INDEX ",
        "TO ",
        "ROLLBACK ",
        "COLLATE ",
        "character_set_connection",
        "DEFAULT ",
        "[",
        "\u{a0}",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn modes() -> impl Strategy<Value = Modes> {
    any::<(bool, bool, bool, bool)>().prop_map(|(ansi_quotes, no_backslash_escapes, brackets, spaces)| {
        Modes { ansi_quotes, no_backslash_escapes, brackets, spaces }
    })
}

fn in_pieces(text: &[u8], pieces: &[usize], modes: Modes) -> Effects {
    let mut reader = Reader::new(modes);
    let mut rest = text;
    for size in pieces.iter().cycle().take(text.len() + 1) {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        reader.feed(piece);
        rest = after;
    }
    assert!(rest.is_empty());
    reader.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_the_same_effects(
        text in text(),
        pieces in prop::collection::vec(1usize..9, 1..20),
        modes in modes(),
    ) {
        let whole = effects(&text, modes);
        prop_assert_eq!(told(&whole), told(&in_pieces(&text, &pieces, modes)));
        prop_assert_eq!(&whole, &in_pieces(&text, &[1], modes));
    }

    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..300), modes in modes()) {
        prop_assert_eq!(effects(&text, modes), in_pieces(&text, &[1], modes));
    }

    /// Whatever stands before it, a statement is seen, or the text is said to be unreadable.
    #[test]
    fn what_follows_is_seen(text in text(), modes in modes()) {
        let followed = effects(&[&text[..], b"\n; SET ROLE r"].concat(), modes);
        prop_assert!(followed.has(Role) || followed.has(Unreadable), "{}", told(&followed));
    }

    /// What stands in quotes or a comment has no effect, whatever it is.
    #[test]
    fn quoted_texts_have_no_effect(text in text(), modes in modes()) {
        let literal: Vec<u8> = text.iter().copied().filter(|byte| !b"'\\".contains(byte)).collect();
        let comment: Vec<u8> = text.iter().copied().filter(|byte| !b"*!M".contains(byte)).collect();
        let whole = [b"SELECT '", &literal[..], b"' /* ", &comment[..], b"*/ FROM t"].concat();
        prop_assert_eq!(told_of(&whole, modes), "");
    }
}
