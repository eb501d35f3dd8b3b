//! Tests of the dialog against packets written by hand, after the pages of MySQL and MariaDB: what a capture cannot
//! show, because the server at hand does not do it or because it would be too large.

use super::*;
use crate::session::restore;
use crate::session::state::tests::{beginning, state};
use crate::wire::frame::write_packet;

const NONE: Capabilities = Capabilities(0);
const MODERN: Capabilities = Capabilities::DEPRECATE_EOF;
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const ERR: &[u8] = b"\xff\x28\x04#42000no";
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];
const COLUMN: &[u8] = b"\x03def\x00\x00\x00\x01a\x01a\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
const ROW: &[u8] = b"\x01x";
const QUERY: &[u8] = b"\x03SELECT 1";

pub(super) fn frame(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes[3] = seq;
    bytes.extend_from_slice(payload);
    bytes
}

fn frames(first: u8, payloads: &[&[u8]]) -> Vec<u8> {
    payloads
        .iter()
        .enumerate()
        .flat_map(|(at, payload)| frame(first.wrapping_add(at as u8), payload))
        .collect()
}

fn dialog(capabilities: Capabilities) -> Dialog {
    Dialog::new(capabilities, Status::AUTOCOMMIT)
}

/// One command and its reply, the reply in every cut into two; ends with the last byte and not before.
#[track_caller]
fn check(capabilities: Capabilities, command: &[u8], reply: &[&[u8]]) {
    let bytes = frames(1, reply);
    for split in 0..bytes.len() {
        let mut dialog = dialog(capabilities);
        assert_eq!(dialog.client_bytes(&frame(0, command)).commands, 1);
        let early = dialog.cn_bytes(&bytes[..split]).replies;
        assert_eq!((early, dialog.idle(), dialog.opaque()), (0, false, None), "at {split}");
        assert_eq!(dialog.cn_bytes(&bytes[split..]).replies, 1, "at {split}: {:?}", dialog.opaque());
        assert!(dialog.idle(), "at {split}");
    }
}

#[track_caller]
fn gives_up(capabilities: Capabilities, client: &[u8], cn: &[u8], why: Opaque) {
    let mut dialog = dialog(capabilities);
    dialog.client_bytes(client);
    dialog.cn_bytes(cn);
    assert_eq!(dialog.opaque(), Some(why));
    assert!(!dialog.idle());
    dialog.client_bytes(&frame(0, QUERY));
    dialog.cn_bytes(&frame(1, OK));
    assert_eq!((dialog.opaque(), dialog.idle()), (Some(why), false), "opaque is final");
}

#[test]
fn it_is_small() {
    assert!(size_of::<Dialog>() <= 160, "{}", size_of::<Dialog>());
}

#[test]
fn mysql_leaves_definitions_out() {
    let optional = Capabilities::OPTIONAL_RESULTSET_METADATA;
    check(optional, QUERY, &[&[1, 0], EOF, ROW, EOF]);
    check(optional, QUERY, &[&[1, 1], COLUMN, EOF, ROW, EOF]);
    check(optional | MODERN, QUERY, &[&[1, 0], ROW, END]);
    check(optional | MODERN, QUERY, &[&[1, 1], COLUMN, ROW, END]);
    let prepared = |metadata| [0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, metadata];
    check(optional, b"\x16SELECT ?, ?", &[&prepared(0), EOF, EOF]);
    check(optional | MODERN, b"\x16SELECT ?, ?", &[&prepared(0)]);
    check(optional, b"\x16SELECT ?, ?", &[&prepared(1), COLUMN, COLUMN, EOF, COLUMN, EOF]);
    check(optional | MODERN, b"\x16SELECT ?, ?", &[&prepared(1), COLUMN, COLUMN, COLUMN]);
    check(optional, QUERY, &[OK]);
}

#[test]
fn wide_result_sets_and_large_numbers() {
    let many = [COLUMN; 300];
    check(MODERN, QUERY, &[&[&[0xfc, 0x2c, 0x01][..]], &many[..], &[ROW, END]].concat());
    let mut large = vec![0, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 0xfd, 1, 2, 3];
    large.extend([0x01, 0x20, 0, 0]);
    check(MODERN, QUERY, &[&large]);
}

/// The terminal OK after rows may be long: it carries session changes.
#[test]
fn rows_end_with_a_long_ok() {
    let long = b"\xfe\0\0\x02\x40\0\0\0\x09\x01\x07\x06dialog";
    check(MODERN, QUERY, &[&[1], COLUMN, ROW, long]);
    check(MODERN, b"\x1c\x01\0\0\0\x01\0\0\0", &[ROW, long]);
    check(MODERN, b"\x04t\0", &[COLUMN, long]);
}

/// Read as an OK, the warnings of this EOF would be the prefix of a long number.
#[test]
fn an_eof_with_many_warnings_is_not_an_ok() {
    for warnings in [0xfb, 0xfc, 0xfd, 0xfe] {
        let eof = [0xfe, warnings, 0, 3, 0];
        check(NONE, QUERY, &[&[1], COLUMN, EOF, ROW, &eof]);
        check(MODERN, b"\x1b\0\0", &[&eof]);
        let mut dialog = dialog(NONE);
        dialog.client_bytes(&frame(0, QUERY));
        dialog.cn_bytes(&frames(1, &[&[1], COLUMN, EOF, &eof]));
        assert!(dialog.in_transaction());
    }
}

/// The terminal EOF of OUT parameters does not announce the OK that follows, the first EOF does.
#[test]
fn mysql_out_parameters_without_deprecate_eof() {
    let first = [0xfe, 0, 0, 0x0a, 0x10];
    check(NONE, b"\x17\x01\0\0\0\0\x01\0\0\0", &[&[1], COLUMN, &first, &[0, 0, 1], EOF, OK]);
}

#[test]
fn cursors_end_with_the_definitions() {
    let execute = b"\x17\x01\0\0\0\x01\x01\0\0\0";
    check(NONE, execute, &[&[1], COLUMN, &[0xfe, 0, 0, 0x42, 0]]);
    check(MODERN, execute, &[&[1], COLUMN, &[0xfe, 0, 0, 0x42, 0, 0, 0]]);
    check(NONE, QUERY, &[&[1], COLUMN, &[0xfe, 0, 0, 0x42, 0], ROW, EOF]);
    // A fetch is one result, whatever the status still says of the statement.
    check(NONE, b"\x1c\x01\0\0\0\x01\0\0\0", &[ROW, &[0xfe, 0, 0, 0x4a, 0]]);
}

#[test]
fn errors_in_the_middle() {
    check(NONE, QUERY, &[&[1], COLUMN, EOF, ROW, ERR]);
    check(MODERN, QUERY, &[&[1], COLUMN, ROW, ERR]);
    check(MODERN, QUERY, &[&[0, 0, 0, 0x0a, 0, 0, 0], ERR]);
    let progress = b"\xff\xff\xff\x01\x01\x02\x00\x00\x00\x00";
    check(
        MODERN | Capabilities::MARIADB_PROGRESS,
        QUERY,
        &[progress, &[1], COLUMN, progress, ROW, progress, END],
    );
    check(MODERN, QUERY, &[progress]);
}

#[test]
fn an_error_leaves_the_status() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, b"\x03BEGIN"));
    dialog.cn_bytes(&frame(1, &[0, 0, 0, 3, 0, 0, 0]));
    assert!(dialog.in_transaction());
    dialog.client_bytes(&frame(0, QUERY));
    dialog.cn_bytes(&frame(1, ERR));
    assert!(dialog.in_transaction() && dialog.idle());
    assert_eq!(dialog.status(), Status::IN_TRANS | Status::AUTOCOMMIT);
}

/// The first byte of a row may be 0xFE in a full frame only, and a continuation's first byte means nothing.
#[test]
fn rows_beyond_sixteen_mebibytes() {
    let mut full = vec![0; FULL as usize];
    for (first, capabilities, end) in [(0xfe, NONE, EOF), (0xfe, MODERN, END), (0xfd, MODERN, END)] {
        full[0] = first;
        let metadata: &[&[u8]] = if capabilities == NONE { &[&[1], COLUMN, EOF] } else { &[&[1], COLUMN] };
        let bytes = frames(1, &[metadata, &[&full, &full, END, &full, &[], end]].concat());
        for chunk in [4096, 65_521, FULL as usize + 3, bytes.len()] {
            let mut dialog = dialog(capabilities);
            dialog.client_bytes(&frame(0, QUERY));
            let (last, most) = bytes.split_last().unwrap();
            assert_eq!(most.chunks(chunk).map(|chunk| dialog.cn_bytes(chunk).replies).sum::<u32>(), 0);
            assert_eq!((dialog.cn_bytes(&[*last]).replies, dialog.opaque()), (1, None));
        }
    }
}

#[test]
fn commands_beyond_sixteen_mebibytes() {
    let mut full = vec![1; FULL as usize];
    full[0] = 3;
    let bytes = frames(0, &[&full, &full, &[]]);
    for chunk in [4096, FULL as usize + 3, bytes.len()] {
        let mut dialog = dialog(MODERN);
        let begun: u32 = bytes.chunks(chunk).map(|chunk| dialog.client_bytes(chunk).commands).sum();
        assert_eq!((begun, dialog.cn_boundary()), (1, Some(3)));
        assert_eq!(dialog.cn_bytes(&frame(3, OK)).replies, 1);
        assert!(dialog.idle());
    }
}

#[test]
fn a_file_ends_with_an_empty_packet_not_with_an_empty_frame() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, b"\x03LOAD DATA"));
    dialog.cn_bytes(&frame(1, b"\xfbf"));
    assert_eq!(dialog.cn_boundary(), None);
    dialog.client_bytes(&frames(2, &[&vec![0; FULL as usize], &[]]));
    assert_eq!(dialog.client_bytes(&frame(4, b"")).commands, 0);
    assert_eq!(dialog.cn_boundary(), Some(5));
    assert_eq!(dialog.cn_bytes(&frame(5, OK)).replies, 1);
    assert!(dialog.idle());
}

#[test]
fn a_file_refused_early() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, b"\x03LOAD DATA"));
    dialog.cn_bytes(&frame(1, b"\xfbf"));
    dialog.client_bytes(&frame(2, b"1"));
    assert_eq!(dialog.cn_bytes(&frame(3, ERR)).replies, 1);
    assert!(!dialog.idle(), "the client is still sending");
    dialog.client_bytes(&frames(3, &[b"2", b""]));
    assert!(dialog.idle());
    dialog.client_bytes(&frame(0, QUERY));
    assert_eq!(dialog.cn_bytes(&frame(1, OK)).replies, 1);
}

#[test]
fn nothing_may_follow_a_request_for_a_file() {
    let load = frame(0, b"\x03LOAD DATA");
    let close = frame(0, b"\x19\x01\0\0\0");
    for next in [frame(0, QUERY), close, vec![1]] {
        gives_up(MODERN, &[load.clone(), next].concat(), &frame(1, b"\xfbf"), Opaque::PipelinedPastInfile);
    }
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&load);
    dialog.cn_bytes(&frame(1, b"\xfbf"));
    dialog.client_bytes(&frame(0, QUERY));
    assert_eq!(dialog.opaque(), Some(Opaque::PipelinedPastInfile));
}

#[test]
fn caching_sha2_speaks_twice_in_a_row() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, b"\x11u\0\0\0"));
    dialog.cn_bytes(&frame(1, b"\xfecaching_sha2_password\0salt\0"));
    assert_eq!(dialog.client_bytes(&frame(2, &[7; 32])).commands, 0);
    assert_eq!(dialog.cn_bytes(&frames(3, &[&[1, 3], OK])).replies, 1);
    assert!(dialog.idle());

    dialog.client_bytes(&frame(0, b"\x11u\0\0\0"));
    dialog.cn_bytes(&frame(1, &[1, 4]));
    dialog.client_bytes(&frame(2, &[2]));
    dialog.cn_bytes(&frame(3, b"\x01-----BEGIN PUBLIC KEY-----"));
    dialog.client_bytes(&frame(4, &[9; 256]));
    assert_eq!(dialog.cn_bytes(&frame(5, ERR)).replies, 1);
    assert!(dialog.idle());
}

#[test]
fn nothing_may_follow_a_change_of_user_that_is_questioned() {
    let pair = [frame(0, b"\x11u\0\0\0"), frame(0, QUERY)].concat();
    gives_up(MODERN, &pair, &frame(1, b"\xfeplugin\0salt"), Opaque::PipelinedPastAuth);
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&pair);
    assert_eq!(dialog.cn_bytes(&[frame(1, OK), frame(1, OK)].concat()).replies, 2);
    assert!(dialog.idle());
}

#[test]
fn foreign_streams() {
    for (byte, why) in [
        (0x12, Opaque::BinlogDump),
        (0x1e, Opaque::BinlogDump),
        (0x13, Opaque::TableDump),
        (0x20, Opaque::Clone),
        (0x21, Opaque::GroupReplication),
        (0xfe, Opaque::Multi),
    ] {
        gives_up(MODERN, &frame(0, &[byte]), &frame(1, OK), why);
    }
}

/// Servers that do not know such a command, or do not allow it, refuse it and go on.
#[test]
fn a_stream_that_is_refused_is_a_reply() {
    for byte in [0x12, 0x13, 0x1e, 0x20, 0xfe] {
        check(MODERN, &[byte], &[ERR]);
    }
}

#[test]
fn disorder() {
    let query = frame(0, QUERY);
    gives_up(MODERN, &frame(1, QUERY), &[], Opaque::ClientOutOfOrder);
    gives_up(MODERN, &query, &frame(2, OK), Opaque::CnOutOfOrder);
    gives_up(MODERN, &query, &frames(1, &[&[1], COLUMN, ROW, ROW])[..].repeat(2), Opaque::CnOutOfOrder);
    gives_up(MODERN, &query, &[frame(1, OK), frame(2, OK)].concat(), Opaque::Unasked);
    gives_up(MODERN, &[], &frame(0, ERR), Opaque::Unasked);
    gives_up(MODERN, &query[..10], &frame(1, ERR), Opaque::EarlyReply);
    for reply in [&b""[..], &[0xfe, 0, 0, 2, 0], &[0, 0, 0], &[0xfd, 0, 0, 1], &[0xfc, 1]] {
        gives_up(MODERN, &query, &frame(1, reply), Opaque::MalformedReply);
    }
    gives_up(NONE, &query, &frames(1, &[&[1], COLUMN, ROW]), Opaque::MalformedReply);
    gives_up(NONE, &frame(0, b"\x0e"), &frame(1, &[1]), Opaque::MalformedReply);
}

/// What the packet before brought about must not be done again at the end of one that nobody asked for.
#[test]
fn where_commands_wait_for_replies_the_rest_of_one_does_not() {
    let mut dialog = dialog(MODERN);
    dialog.pace();
    let query = frame(0, &[QUERY, &[b' '; 5000]].concat());
    dialog.client_bytes(&query[..4000]);
    assert!(dialog.may_speak(), "there is more of it");
    dialog.client_bytes(&query[4000..]);
    assert!(!dialog.may_speak());
    assert_eq!(dialog.cn_bytes(&frame(1, OK)).replies, 1);
    assert!(dialog.may_speak());
}

#[test]
fn an_unasked_packet_is_no_reply() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, QUERY));
    assert_eq!(dialog.cn_bytes(&[frame(1, OK), frame(2, OK)].concat()).replies, 1);
    assert_eq!((dialog.opaque(), dialog.in_flight()), (Some(Opaque::Unasked), 0));
}

#[test]
fn where_an_error_may_be_put_in() {
    let mut dialog = dialog(MODERN);
    assert_eq!(dialog.cn_boundary(), None);
    let query = frame(0, QUERY);
    dialog.client_bytes(&query[..7]);
    assert_eq!(dialog.cn_boundary(), None);
    dialog.client_bytes(&query[7..]);
    assert_eq!(dialog.cn_boundary(), Some(1));
    dialog.cn_bytes(&frames(1, &[&[1], COLUMN, ROW, ROW]));
    assert_eq!(dialog.cn_boundary(), Some(5));
    let row = frame(5, ROW);
    dialog.cn_bytes(&row[..5]);
    assert_eq!(dialog.cn_boundary(), None);
    dialog.cn_bytes(&row[5..]);
    dialog.cn_bytes(&frame(6, END));
    assert_eq!(dialog.cn_boundary(), None);
}

#[test]
fn an_error_after_which_servers_close_is_a_farewell() {
    let after = |command: &[u8], err: &[u8]| {
        let mut dialog = dialog(MODERN);
        dialog.client_bytes(&frame(0, command));
        dialog.cn_bytes(&frame(1, err));
        assert!(dialog.idle());
        let said = dialog.farewell();
        dialog.client_bytes(&frame(0, QUERY));
        assert!(!dialog.farewell(), "what is asked now is owed an answer");
        dialog.cn_bytes(&frame(1, OK));
        assert!(!dialog.farewell());
        said
    };
    assert!(!after(QUERY, ERR));
    assert!(!after(QUERY, OK));
    assert!(after(QUERY, b"\xff\x25\x05#70100Query execution was interrupted"));
    assert!(after(b"\x11app\0\0\0", b"\xff\x15\x04#28000Access denied"));
}

#[test]
fn the_client_is_not_read_beyond_the_pipeline() {
    let mut dialog = dialog(MODERN);
    for commands in 0..PIPELINE_MAX {
        assert!(dialog.may_speak(), "{commands}");
        dialog.client_bytes(&frame(0, QUERY));
    }
    assert!(!dialog.may_speak());
    assert_eq!((dialog.in_flight(), dialog.current()), (PIPELINE_MAX, Some(Command::Query)));
    // However many more there are at once.
    let pings = frame(0, b"\x0e").repeat(1000);
    let look = look_at(&mut dialog, &pings[..4990]);
    assert_eq!((look.stop, look.taken), (Some(Stop::Full), 0));
    assert_eq!(dialog.cn_bytes(&frame(1, OK).repeat(10)).replies, 10);
    assert!(dialog.may_speak() && !dialog.may_go_on());
    let look = look_at(&mut dialog, &pings[..4990]);
    assert_eq!((look.stop, look.taken, dialog.in_flight()), (Some(Stop::Full), 50, PIPELINE_MAX));
    assert_eq!(dialog.cn_bytes(&frame(1, OK).repeat(32)).replies, 32);
    assert!(dialog.may_go_on());
    // Wherever the bytes are cut.
    let mut look = Look::default();
    pings.chunks(3).for_each(|piece| dialog.look_at_client(piece, &mut look));
    dialog.end_client_look(&mut look);
    assert_eq!((look.stop, look.taken, dialog.in_flight()), (Some(Stop::Full), 160, PIPELINE_MAX));
    assert_eq!(dialog.cn_bytes(&frame(1, OK).repeat(PIPELINE_MAX)).replies as usize, PIPELINE_MAX);
    assert!(dialog.may_speak() && dialog.idle());
}

#[test]
fn long_data_waits_for_its_execution() {
    let mut dialog = dialog(MODERN);
    let data = |id: u8| frame(0, &[0x18, id, 0, 0, 0, 0, 0, b'x']);
    let ask = |dialog: &mut Dialog, payload: &[u8]| {
        dialog.client_bytes(&frame(0, payload));
        dialog.cn_bytes(&frame(1, OK));
        dialog.idle()
    };
    dialog.client_bytes(&data(1));
    assert!(dialog.long_data() && !dialog.idle());
    assert!(!ask(&mut dialog, b"\x17\x02\0\0\0\0\x01\0\0\0"), "another statement");
    assert!(ask(&mut dialog, b"\x17\x01\0\0\0\0\x01\0\0\0"));
    dialog.client_bytes(&[data(1), data(2)].concat());
    assert!(!ask(&mut dialog, b"\x17\x01\0\0\0\0\x01\0\0\0"), "two statements");
    assert!(ask(&mut dialog, b"\x1f"));
}

#[test]
fn quit_is_told_and_final() {
    let mut dialog = dialog(MODERN);
    let news = dialog.client_bytes(&[frame(0, QUERY), frame(0, b"\x01")].concat());
    assert_eq!(news, ClientNews { commands: 2, quit: true });
    assert_eq!(dialog.cn_bytes(&frame(1, OK)).replies, 1);
    assert!(!dialog.idle());
}

/// COM_STMT_PREPARE_OK of a statement with one parameter and its definition.
fn prepared(id: u8) -> Vec<u8> {
    frames(1, &[&[0, id, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], COLUMN])
}

/// A session that has prepared statement 1, told the type of its parameter, and moved to a CN where it is statement 7.
fn moved() -> Dialog {
    let mut dialog = dialog(MODERN);
    dialog.watch(Watch::On(Box::new(Watched::new(state(), MODERN, MODERN))));
    dialog.client_bytes(&frame(0, b"\x16INSERT INTO t VALUES (?)"));
    dialog.cn_bytes(&prepared(1));
    dialog.client_bytes(&frame(0, b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x03\0\x05\0\0\0"));
    dialog.cn_bytes(&frame(1, OK));
    let mut quiet = dialog.quiet().unwrap();
    // It was not executed with an insert id.
    quiet.state_mut().inserted = false;
    let mut answers = restore::restore(quiet.state(), None).unwrap().answers(MODERN);
    assert_eq!(answers.packet(&[0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), Ok(false));
    assert_eq!(answers.packet(COLUMN), Ok(true));
    restore::settle(quiet.state_mut(), answers.finish().unwrap()).unwrap();
    quiet.settle(Status::AUTOCOMMIT);
    dialog
}

fn look_at(dialog: &mut Dialog, bytes: &[u8]) -> Look {
    let mut look = Look::default();
    dialog.look_at_client(bytes, &mut look);
    dialog.end_client_look(&mut look);
    look
}

/// Every command that names a statement reaches the one that the new CN has, the last one of all too.
#[test]
fn after_a_move_a_statement_is_closed_where_it_is() {
    let mut dialog = moved();
    for command in [0x1a, 0x18, 0x19] {
        let look = look_at(&mut dialog, &frame(0, &[command, 1, 0, 0, 0, 0, 0, b'x']));
        assert_eq!(look.patches, [Patch { at: 5, bytes: [7, 0, 0, 0] }], "{command:#x}");
    }
}

/// What the relay sends to the CN of the client's bytes. None: it cannot be sent.
fn relayed(dialog: &mut Dialog, mut unread: &[u8]) -> Option<Vec<u8>> {
    let (mut sent, mut stop, mut here) = (Vec::new(), None, usize::MAX);
    while !unread.is_empty() {
        let mut look = Look::default();
        let (taken, bytes) = match stop.take() {
            Some(Stop::Execute { mut head }) => {
                while dialog.execute_needs(&unread[..head]) > head {
                    head = dialog.execute_needs(&unread[..head]);
                }
                let bytes = dialog.execute(&unread[..head], &mut look).ok()?;
                stop = look.stop;
                (head, bytes)
            }
            Some(Stop::Shifted(mut shift)) if shift.left > 0 => {
                let here = shift.left.min(unread.len()).min(9_000_000);
                dialog.look_at_client(&unread[..here], &mut look);
                shift.left -= here;
                stop = Some(Stop::Shifted(shift));
                (here, unread[..here].to_vec())
            }
            Some(Stop::Shifted(shift)) => {
                dialog.look_at_client(&unread[..shift.head()], &mut look);
                let (bytes, goes_on) = shift.next(&unread[..shift.head()]).ok()?;
                stop = goes_on.map(Stop::Shifted);
                // No more of it is here yet.
                here = here.min(3);
                (shift.head(), bytes)
            }
            _ => {
                dialog.look_at_client(&unread[..here.min(unread.len())], &mut look);
                dialog.end_client_look(&mut look);
                (stop, here) = (look.stop, usize::MAX);
                let mut bytes = unread[..look.taken].to_vec();
                look.patches.iter().for_each(|patch| bytes[patch.at..][..4].copy_from_slice(&patch.bytes));
                (look.taken, bytes)
            }
        };
        sent.extend(bytes);
        unread = &unread[taken..];
    }
    Some(sent)
}

/// A packet of any length, cut into frames.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_packet(&mut bytes, &mut 0, payload);
    bytes
}

#[test]
fn after_a_move_long_executions_are_given_their_types_too() {
    let full = FULL as usize;
    let cases = [
        (full - 3, true),
        // One more byte would need one more frame, which the client would miss in the numbers of the reply.
        (full - 2, false),
        (full, true),
        (full + 5, true),
        (2 * full - 3, true),
        (2 * full - 2, false),
        (2 * full, true),
        (2 * full + 70, true),
    ];
    for (length, can_be_sent) in cases {
        let mut dialog = moved();
        let mut payload = b"\x17\x01\0\0\0\0\x01\0\0\0\0\0".to_vec();
        payload.extend((payload.len()..length).map(|at| at as u8));
        let sent = relayed(&mut dialog, &packet(&payload));
        let told = [b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\x03\0", &payload[12..]].concat();
        assert!(sent == can_be_sent.then(|| packet(&told)), "{length} bytes");
        if can_be_sent {
            let seq = (length / full + 1) as u8;
            assert_eq!((dialog.cn_boundary(), dialog.cn_bytes(&frame(seq, OK)).replies), (Some(seq), 1));
            assert!(dialog.idle() && relayed(&mut dialog, &packet(&payload)).is_some(), "{length} bytes");
        }
    }
}

#[test]
fn after_a_move_a_long_execution_with_types_goes_as_it_is() {
    for length in [FULL as usize - 1, FULL as usize, FULL as usize + 100] {
        let mut payload = b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\x03\0".to_vec();
        payload.resize(length, 1);
        let told = [b"\x17\x07", &payload[2..]].concat();
        assert!(relayed(&mut moved(), &packet(&payload)) == Some(packet(&told)), "{length} bytes");
    }
}

#[test]
fn after_a_move_an_execution_is_given_its_types_once() {
    let cases: [(&[u8], &[u8]); 2] = [
        (b"\x17\x01\0\0\0\0\x01\0\0\0\0\0\x06\0\0\0", b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\x03\0\x06\0\0\0"),
        (b"\xfa\x01\0\0\0\0\0\0\x06\0\0\0", b"\xfa\x07\0\0\0\x80\0\x03\0\0\x06\0\0\0"),
    ];
    for (sent, told) in cases {
        let (mut dialog, sent) = (moved(), frame(0, sent));
        assert_eq!(relayed(&mut dialog, &sent), Some(frame(0, told)));
        dialog.cn_bytes(&frame(1, OK));
        let look = look_at(&mut dialog, &sent);
        assert_eq!((look.stop, look.patches.len()), (None, 1), "once is enough");
    }
}

/// Moves a session with one statement on, to a CN where that is statement 9.
fn move_on(dialog: &mut Dialog) {
    let mut quiet = dialog.quiet().unwrap();
    let mut answers = restore::restore(quiet.state(), None).unwrap().answers(MODERN);
    let prepared = [&[0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..], COLUMN];
    prepared.iter().for_each(|packet| _ = answers.packet(packet).unwrap());
    restore::settle(quiet.state_mut(), answers.finish().unwrap()).unwrap();
    quiet.settle(Status::AUTOCOMMIT);
}

/// MariaDB refuses a bulk execution of a SELECT before it looks at the types, and goes on with those that it knew.
#[test]
fn a_refused_bulk_execution_leaves_the_types_as_they_were() {
    let untyped = frame(0, b"\x17\x01\0\0\0\0\x01\0\0\0\0\0\x06");
    let typed_bulk = frame(0, b"\xfa\x01\0\0\0\x80\0\xfd\0\0\x01x");
    let untyped_bulk = frame(0, b"\xfa\x01\0\0\0\0\0\0\x06\0\0\0");
    let (unsupported, duplicate) = (b"\xff\x0f\x05#HY000no", b"\xff\x26\x04#23000no");
    let cases = [
        (&typed_bulk, unsupported, [1, 3, 0], [1, 3, 0]),
        (&typed_bulk, duplicate, [0, 6, 0], [1, 0xfd, 0]),
        (&untyped_bulk, unsupported, [1, 3, 0], [1, 3, 0]),
        (&untyped_bulk, duplicate, [0, 6, 0], [1, 3, 0]),
    ];
    for (bulk, err, here, there) in cases {
        let told = |dialog: &mut Dialog| {
            let sent = [relayed(dialog, &untyped).unwrap(), vec![0, 0]].concat();
            dialog.cn_bytes(&frame(1, OK));
            sent[15..18].to_vec()
        };
        let mut dialog = moved();
        relayed(&mut dialog, bulk).unwrap();
        dialog.cn_bytes(&frame(1, err));
        assert_eq!(told(&mut dialog), here, "{err:?}");
        move_on(&mut dialog);
        assert_eq!(told(&mut dialog), there, "{err:?}");
    }
}

/// The statement prepared last is not the last that is known.
#[test]
fn an_execution_behind_its_preparation_is_not_given_the_types_of_another_statement() {
    let mut dialog = moved();
    let last = b"\x17\xff\xff\xff\xff\0\x01\0\0\0\0\0\x06\0\0\0";
    let pair = [frame(0, b"\x16INSERT INTO u VALUES (?)"), frame(0, last)].concat();
    let look = look_at(&mut dialog, &pair);
    assert_eq!((look.stop, look.taken, look.patches.len()), (None, pair.len(), 0));
    dialog.cn_bytes(&prepared(8));
    dialog.cn_bytes(&frame(1, OK));
    let look = look_at(&mut dialog, &frame(0, last));
    assert_eq!((look.stop, look.patches), (None, vec![Patch { at: 5, bytes: [8, 0, 0, 0] }]));
}

/// An id of the client's that is not translated means another statement of the new CN.
#[test]
fn after_a_move_nothing_goes_on_that_cannot_be_followed() {
    let reset = frame(0, b"\x1a\x01\0\0\0");
    let mut dialog = moved();
    let look = look_at(&mut dialog, &[reset.clone(), frame(3, b"\x0e"), reset.clone()].concat());
    assert_eq!((look.stop, look.taken), (Some(Stop::Lost), 0));
    assert_eq!(look_at(&mut dialog, &reset).stop, Some(Stop::Lost));

    // A stream of another protocol has no statements, nor has a session that never moved.
    let mut dialog = moved();
    look_at(&mut dialog, &frame(0, b"\x12"));
    dialog.cn_bytes(&frame(1, OK));
    assert_eq!((dialog.opaque(), look_at(&mut dialog, &reset).stop), (Some(Opaque::BinlogDump), None));
    let mut dialog = self::dialog(MODERN);
    dialog.watch(Watch::On(Box::new(Watched::new(state(), MODERN, MODERN))));
    look_at(&mut dialog, &frame(3, b"\x0e"));
    assert_eq!(look_at(&mut dialog, &reset).stop, None);
}

/// The client has to be heard although the replies are not counted any more.
#[test]
fn who_cannot_be_followed_may_speak() {
    let mut dialog = dialog(MODERN);
    dialog.client_bytes(&frame(0, QUERY).repeat(PIPELINE_MAX));
    assert!(!dialog.may_speak());
    dialog.cn_bytes(&frame(1, b"\xfbfile"));
    assert_eq!((dialog.opaque(), dialog.may_speak()), (Some(Opaque::PipelinedPastInfile), true));
}

/// An INSERT that fails by a duplicate key has begun a transaction and keeps its locks.
#[test]
fn without_autocommit_an_error_leaves_the_transaction_in_doubt() {
    for (flags, held) in [(Status::AUTOCOMMIT, None), (Status(0), Some(Hold::Transaction))] {
        let mut dialog = Dialog::new(MODERN, flags);
        dialog.watch(Watch::On(Box::new(Watched::new(state(), MODERN, MODERN))));
        dialog.client_bytes(&frame(0, QUERY));
        dialog.cn_bytes(&frame(1, ERR));
        assert_eq!(dialog.hold(), held);
        dialog.client_bytes(&frame(0, QUERY));
        dialog.cn_bytes(&frame(1, &[0, 0, 0, flags.0 as u8, 0, 0, 0]));
        assert_eq!(dialog.hold(), None);
    }
}

fn watched() -> Dialog {
    let mut dialog = dialog(MODERN);
    dialog.watch(Watch::On(Box::new(Watched::new(state(), MODERN, MODERN))));
    dialog
}

/// Says a text and gives it a reply, all at once and in two pieces cut anywhere; what holds the session then.
#[track_caller]
fn say(text: &str, reply: &[&[u8]], hold: Option<Hold>) {
    let bytes = frames(1, reply);
    for split in 0..=bytes.len() {
        let mut dialog = watched();
        dialog.client_bytes(&frame(0, &[b"\x03", text.as_bytes()].concat()));
        for part in [&bytes[..split], &bytes[split..]] {
            dialog.cn_bytes(part);
        }
        assert!(dialog.idle(), "{text}, cut at {split}: {:?}", dialog.opaque());
        assert_eq!(dialog.hold(), hold, "{text}, cut at {split}");
    }
}

#[test]
fn the_row_that_answers_get_lock_counts() {
    const LOCK: &str = "SELECT GET_LOCK('a', 0)";
    const MORE: &[u8] = &[0xfe, 0, 0, 10, 0, 0, 0];
    for (row, hold) in [(&b"\x010"[..], None), (b"\xfb", None), (b"\x011", Some(Hold::UserLock))] {
        say(LOCK, &[&[1], COLUMN, row, END], hold);
    }
    let zero = &b"\x010"[..];
    say(
        "SELECT 0; SELECT GET_LOCK('a', 0)",
        &[&[1], COLUMN, zero, MORE, &[1], COLUMN, b"\x011", END],
        Some(Hold::UserLock),
    );
    say("SELECT GET_LOCK('a', 0), 5", &[&[2], COLUMN, COLUMN, b"\x010\x015", END], Some(Hold::UserLock));
    say(LOCK, &[ERR], None);
    say(LOCK, &[b"\xff\x29\x04#HY000no"], Some(Hold::UserLock));
}

#[test]
fn a_text_is_refused_as_a_whole_only_where_nothing_was_answered_before() {
    const MORE: &[u8] = &[0, 0, 0, 10, 0, 0, 0];
    say("LOCK TABLES t READ WRITE", &[ERR], None);
    say("LOCK TABLES t READ; SELEKT", &[MORE, ERR], Some(Hold::LockTables));
    say("LOCK TABLES t READ", &[b"\xff\x7a\x04#42S02no table"], Some(Hold::LockTables));
}

#[test]
fn the_id_of_a_prepared_statement_is_none_of_a_row() {
    let mut dialog = watched();
    dialog.client_bytes(&frame(0, b"\x16SELECT 1"));
    dialog.cn_bytes(&frame(1, &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(dialog.idle() && dialog.watched().is_some_and(|watched| watched.state.complete()));
}

/// What is known of the session when the next command is read depends on how the reply to such a one was taken.
#[test]
fn nothing_overtakes_a_command_that_changes_what_the_cn_tells() {
    for first in [&b"\x1f"[..], b"\x03SET session_track_schema = 1"] {
        let mut dialog = watched();
        let both = [frame(0, b"\x03SELECT 1"), frame(0, first), frame(0, b"\x03SELECT 2")].concat();
        let look = look_at(&mut dialog, &both);
        assert_eq!((look.stop, look.taken), (Some(Stop::Full), both.len() - 13));
        assert!(!dialog.may_speak() && !dialog.may_go_on());
        dialog.cn_bytes(&frame(1, OK));
        assert!(!dialog.may_speak());
        dialog.cn_bytes(&frame(1, OK));
        assert!(dialog.may_speak() && dialog.may_go_on() && dialog.untracked().is_some());
        dialog.tracked(&beginning());
        assert_eq!(look_at(&mut dialog, &both[both.len() - 13..]).stop, None);
    }
}

/// Under autocommit neither is an event of its own.
#[test]
fn a_value_of_a_sequence_that_was_asked_for_holds_at_once() {
    let mut dialog = watched();
    let mut say = |sql: &str| {
        dialog.client_bytes(&frame(0, &[b"\x03", sql.as_bytes()].concat()));
        dialog.cn_bytes(&frame(1, OK));
        dialog.hold()
    };
    assert_eq!(say("DO NEXTVAL(s)"), None);
    assert_eq!(say("DO LASTVAL(s)"), Some(Hold::Sequence));
}

/// Which of its parameters have come does not matter.
#[test]
fn a_long_execution_asks_what_its_statement_asks() {
    let mut dialog = watched();
    for (id, text) in [(1, &b"\x16SELECT ROW_COUNT(), ?"[..]), (2, b"\x16SELECT 1, ?")] {
        dialog.client_bytes(&frame(0, text));
        let ok = [&[0, id][..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        dialog.cn_bytes(&frame(1, &ok));
    }
    let asks = |id: u8, at_hand: usize| {
        let mut execution = vec![0; at_hand];
        execution[..10].copy_from_slice(&[0, 0, 8, 0, 0x17, id, 0, 0, 0, 0]);
        dialog.asks_about_last(&execution[..at_hand])
    };
    assert_eq!([asks(1, 16), asks(1, 4096)], [true, true]);
    assert_eq!([asks(2, 16), asks(2, 4096)], [false, false]);
}

#[test]
fn what_a_client_sets_of_its_own_tracking_is_learnt_later() {
    let mut dialog = watched();
    dialog.client_bytes(&frame(0, b"\x03SET session_track_schema = 1"));
    assert_eq!(dialog.untracked(), None);
    dialog.cn_bytes(&frame(1, OK));
    assert_eq!((dialog.untracked(), dialog.hold()), (Some(Untracked::ByClient), Some(Hold::Tracking)));
    assert!(dialog.not_tracked(), "it is asked again later");
    assert_eq!((dialog.untracked(), dialog.hold()), (None, Some(Hold::Tracking)));
    dialog.client_bytes(&frame(0, b"\x03SET @a = 1"));
    dialog.cn_bytes(&frame(1, OK));
    assert_eq!(dialog.untracked(), Some(Untracked::ByClient));
    dialog.client_bytes(&frame(0, b"\x1f"));
    dialog.cn_bytes(&frame(1, OK));
    assert_eq!((dialog.untracked(), dialog.hold()), (Some(Untracked::ByReset), Some(Hold::Reply)));
    assert!(!dialog.not_tracked(), "a reset that is not tracked is the end");
    // A change of the user goes through, and its answers too.
    let mut dialog = watched();
    dialog.client_bytes(&frame(0, b"\x03SET session_track_schema = 1"));
    dialog.cn_bytes(&frame(1, OK));
    dialog.client_bytes(&frame(0, b"\x11app\0\0\0"));
    assert_eq!(dialog.untracked(), None);
    assert!(!dialog.may_speak());
    dialog.cn_bytes(&frame(1, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0"));
    assert_eq!((dialog.untracked(), dialog.may_speak()), (None, true));
}

#[test]
fn what_became_of_a_change_of_the_user_is_told_once() {
    const DENIED: &[u8] = b"\xff\x15\x04#28000no";
    for mut dialog in [watched(), Dialog::new(Capabilities::default(), Status::default())] {
        for (answer, let_in) in [(OK, true), (DENIED, false)] {
            dialog.client_bytes(&frame(0, b"\x11app\0\0\0"));
            dialog.cn_bytes(&frame(1, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0"));
            assert_eq!(dialog.take_changed_user(), None);
            dialog.client_bytes(&frame(2, &[7; 20]));
            dialog.cn_bytes(&frame(3, answer));
            assert_eq!((dialog.take_changed_user(), dialog.take_changed_user()), (Some(let_in), None));
        }
        for (command, answer) in [(&b"\x1f"[..], OK), (b"\x03x", DENIED)] {
            dialog.client_bytes(&frame(0, command));
            dialog.cn_bytes(&frame(1, answer));
            assert_eq!(dialog.take_changed_user(), None, "another command's");
        }
    }
}
