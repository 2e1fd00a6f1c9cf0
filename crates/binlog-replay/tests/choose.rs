//! Ranges: exact boundaries, chains, gaps, copies, failovers, and targets of every kind.

#[path = "common/build.rs"]
mod build;

use std::path::Path;

use binlog_replay::{Error, Flavor, GtidSet, Index, Position, Range, Start, Target, choose, scan};
use build::Log;
use chrono::{DateTime, Utc};

const A: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const B: &str = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";
const T0: u32 = 1_700_000_100;

fn a(numbers: &str) -> String {
    format!("{A}:{numbers}")
}

fn mysql(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MySql, text).unwrap()
}

fn at(file: &str, pos: u64, executed: Option<&str>) -> Start {
    Start { position: Position::new(file, pos), executed: executed.map(mysql) }
}

fn time(seconds: u32, micros: u32) -> Target {
    Target::Time(DateTime::<Utc>::from_timestamp(seconds.into(), micros * 1000).unwrap())
}

fn position(file: &str, pos: u64) -> Target {
    Target::Position(Position::new(file, pos))
}

fn until(set: &str, inclusive: bool) -> Target {
    Target::UntilGtid { set: mysql(set), inclusive }
}

/// GTIDs 1 to 3 in file 1, 4 to 6 in file 2, a second apart, the commit at half of the second.
fn two_files(folder: &Path) -> (Index, Log, Log) {
    let mut one = Log::new(Flavor::MySql, 1, Some(""));
    let mut two = Log::new(Flavor::MySql, 1, Some(&a("1-3")));
    for n in 1..=6u32 {
        let log = if n < 4 { &mut one } else { &mut two };
        let micros = u64::from(T0 + n) * 1_000_000 + 500_000;
        log.transaction(Some(&a(&n.to_string())), T0 + n, Some(micros));
    }
    one.rotate("log.000002");
    one.close(folder, "log.000001");
    two.open(folder, "log.000002", 0);
    (scan(&[folder]).unwrap(), one, two)
}

fn applied(range: &Range) -> String {
    range.applied.as_ref().map(GtidSet::to_string).unwrap_or_default()
}

#[test]
fn everything_is_replayed_up_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _, two) = two_files(dir.path());
    let range = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.skipped), (6, 0));
    assert_eq!(applied(&range), a("1-6"));
    assert_eq!(range.expected, Some(mysql(&a("1-6"))));
    assert_eq!(range.stop(), Position::new("log.000002", two.ends[2]));
    assert_eq!(range.last.unwrap().gtid.unwrap().to_string(), a("6"));
    assert_eq!(range.files.len(), 2);
    assert_eq!(range.files[1].start, 4);
    assert!(range.notes[0].contains("was open"), "{:?}", range.notes);
    assert_eq!(range.warnings, Vec::<String>::new(), "nothing of it is missing");
}

#[test]
fn what_the_backup_holds_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (index, ..) = two_files(dir.path());
    let range = choose(&index, &at("log.000001", 4, Some(&a("1-4"))), &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.skipped), (2, 4));
    assert_eq!(applied(&range), a("5-6"));
    assert_eq!(range.skip, Some(mysql(&a("1-4"))));
    assert_eq!(range.expected, Some(mysql(&a("1-6"))));
    assert_eq!(range.first.unwrap().gtid.unwrap().to_string(), a("5"));
}

#[test]
fn skipped_transactions_are_no_part_of_the_expected_state() {
    let dir = tempfile::tempdir().unwrap();
    let (index, ..) = two_files(dir.path());
    let skip = mysql(&a("2:5"));
    let range = choose(&index, &at("log.000001", 4, None), &Target::End, Some(&skip)).unwrap();
    assert_eq!((applied(&range), range.skipped), (a("1:3-4:6"), 2));
    assert_eq!(range.expected, Some(mysql(&a("1:3-4:6"))));
}

#[test]
fn a_position_target_stops_exactly_there() {
    let dir = tempfile::tempdir().unwrap();
    let (index, one, two) = two_files(dir.path());
    let start = at("log.000001", one.ends[0], Some(&a("1")));
    let range = choose(&index, &start, &position("log.000002", two.ends[0]), None).unwrap();
    assert_eq!(applied(&range), a("2-4"));
    assert_eq!((range.start(), range.stop().pos), (Position::new("log.000001", one.ends[0]), two.ends[0]));
    assert_eq!(range.expected, Some(mysql(&a("1-4"))));
    // The start of a file is the end of the one before.
    let range = choose(&index, &start, &position("log.000002", 4), None).unwrap();
    assert_eq!((applied(&range), range.stop().file.as_str()), (a("2-3"), "log.000001"));
    // Nothing to do is no error.
    let range = choose(&index, &start, &position("log.000001", one.ends[0]), None).unwrap();
    assert!(range.is_empty() && range.expected == Some(mysql(&a("1"))));
}

#[test]
fn a_position_inside_a_transaction_is_refused_with_the_boundaries_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let (index, one, two) = two_files(dir.path());
    for pos in [two.ends[0] + 1, two.ends[1] - 31, two.ends[1] - 1] {
        let error =
            choose(&index, &at("log.000001", 4, None), &position("log.000002", pos), None).unwrap_err();
        let Error::InsideTransaction { before, after, .. } = error else { panic!("{error}") };
        assert_eq!((before.pos, after.pos), (two.ends[0], two.ends[1]));
    }
    let error = choose(&index, &at("log.000001", one.ends[1] - 5, None), &Target::End, None).unwrap_err();
    let Error::InsideTransaction { before, after, .. } = error else { panic!("{error}") };
    assert_eq!((before.pos, after.pos), (one.ends[0], one.ends[1]));
}

#[test]
fn positions_behind_the_end_or_before_the_start_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (index, one, two) = two_files(dir.path());
    let start = at("log.000001", one.ends[1], None);
    let far = choose(&index, &start, &position("log.000002", two.ends[2] + 1), None);
    assert!(matches!(far, Err(Error::BehindEnd { .. })), "{far:?}");
    let back = choose(&index, &start, &position("log.000001", one.ends[0]), None);
    assert!(matches!(back, Err(Error::TargetBeforeStart { .. })), "{back:?}");
    let none = choose(&index, &start, &position("log.000009", 4), None);
    assert!(matches!(none, Err(Error::TargetNotReached { .. })), "{none:?}");
    let none = choose(&index, &at("log.000009", 4, None), &Target::End, None);
    assert!(matches!(none, Err(Error::NoSuchFile { .. })), "{none:?}");
    let before_backup =
        choose(&index, &at("log.000001", 4, Some(&a("1-5"))), &position("log.000002", 4), None);
    assert!(matches!(before_backup, Err(Error::TargetBeforeStart { .. })), "{before_backup:?}");
}

#[test]
fn a_time_ends_before_the_first_commit_at_or_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _, two) = two_files(dir.path());
    let start = at("log.000001", 4, None);
    for (target, expected) in [
        (time(T0 + 5, 500_000), "1-4"),
        (time(T0 + 5, 500_001), "1-5"),
        (time(T0 + 5, 499_999), "1-4"),
        (time(T0 + 4, 0), "1-3"),
        (time(T0 + 60, 0), "1-6"),
    ] {
        let range = choose(&index, &start, &target, None).unwrap();
        assert_eq!(applied(&range), a(expected), "{target}");
    }
    let range = choose(&index, &start, &time(T0 + 5, 500_000), None).unwrap();
    assert_eq!(range.stop().pos, two.ends[0]);
    assert_eq!(range.next.unwrap().start.pos, two.ends[0]);
    let range = choose(&index, &start, &time(T0 + 60, 0), None).unwrap();
    assert!(range.notes.iter().any(|n| n.contains("no transaction at or after")), "{:?}", range.notes);
    assert_eq!(range.warnings.len(), 1, "{:?}", range.warnings);
    assert!(choose(&index, &start, &time(T0, 0), None).unwrap().is_empty());
    let behind = choose(&index, &at("log.000001", 4, Some(&a("1-4"))), &time(T0 + 2, 0), None);
    assert!(matches!(behind, Err(Error::TargetBeforeStart { .. })), "{behind:?}");
}

#[test]
fn gtid_targets_include_or_exclude() {
    let dir = tempfile::tempdir().unwrap();
    let (index, ..) = two_files(dir.path());
    let start = at("log.000001", 4, Some(&a("1")));
    let go = |target| choose(&index, &start, &target, None);
    assert_eq!(applied(&go(until(&a("4"), true)).unwrap()), a("2-4"));
    assert_eq!(applied(&go(until(&a("4"), false)).unwrap()), a("2-3"));
    assert_eq!(applied(&go(until(&a("3:5"), true)).unwrap()), a("2-5"));
    assert_eq!(applied(&go(until(&a("3:5"), false)).unwrap()), a("2"));
    assert!(go(until(&a("1"), true)).unwrap().is_empty());
    assert!(matches!(go(until(&a("1"), false)), Err(Error::TargetBeforeStart { .. })));
    assert!(matches!(go(until(&a("7"), true)), Err(Error::TargetNotReached { .. })));
    let far = at("log.000001", 4, Some(&a("1-3")));
    let back = choose(&index, &far, &until(&a("2"), true), None);
    assert!(matches!(back, Err(Error::TargetBeforeStart { .. })), "{back:?}");
    let other = Target::UntilGtid { set: GtidSet::parse(Flavor::MariaDb, "0-1-5").unwrap(), inclusive: true };
    assert!(matches!(go(other), Err(Error::WrongFlavor { .. })));
}

#[test]
fn a_missing_file_is_a_gap_with_server_file_and_gtids() {
    let dir = tempfile::tempdir().unwrap();
    two_files(dir.path());
    let mut three = Log::new(Flavor::MySql, 1, Some(&a("1-9")));
    three.transaction(Some(&a("10")), T0 + 10, None);
    three.close(dir.path(), "log.000004");
    let index = scan(&[dir.path()]).unwrap();
    let error = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap_err();
    let Error::Gap { server, file, missing } = error else { panic!("{error}") };
    assert_eq!((server.as_str(), file.as_str()), (A, "log.000004"));
    assert!(missing.contains("log.000003") && missing.contains(&a("7-9")), "{missing}");
    // Right behind it, but more was committed than the copy has.
    three.close(dir.path(), "log.000003");
    let index = scan(&[dir.path()]).unwrap();
    let error = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::Gap { missing, .. } if *missing == a("7-9")), "{error}");
    // What is needed lies before the gap.
    assert_eq!(choose(&index, &at("log.000001", 4, None), &time(T0 + 5, 0), None).unwrap().transactions, 4);
}

#[test]
fn files_that_start_too_late_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (index, one, _) = two_files(dir.path());
    let error = choose(&index, &at("log.000002", 4, Some(&a("1-2"))), &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::StartsTooLate { missing, .. } if *missing == mysql(&a("3"))), "{error}");
    let error =
        choose(&index, &at("log.000001", one.ends[1], Some(&a("1"))), &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::StartsTooLate { missing, .. } if *missing == mysql(&a("2"))), "{error}");
}

#[test]
fn an_open_copy_ends_with_its_last_whole_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&a("1")), T0, None).transaction(Some(&a("2")), T0, None);
    for less in 1..log.ends[1] - log.ends[0] {
        log.open(dir.path(), "log.000001", less as usize);
        let index = scan(&[dir.path()]).unwrap();
        assert_eq!(index.files[0].end, log.ends[0], "{less}");
        let range = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap();
        assert_eq!((applied(&range), range.stop().pos), (a("1"), log.ends[0]), "{less}");
        assert!(range.notes[0].contains("was open"));
        assert_eq!(range.warnings, range.notes, "{less}");
        // What is behind the target does not matter.
        let before = Target::Position(Position::new("log.000001", log.ends[0]));
        let range = choose(&index, &at("log.000001", 4, None), &before, None).unwrap();
        assert_eq!((range.notes.len(), range.warnings.len()), (1, 0), "{less}");
    }
}

/// Only the GTIDs say that nothing is missing between the two.
#[test]
fn an_open_file_that_another_one_follows_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let (_, one, _) = two_files(dir.path());
    one.open(dir.path(), "log.000001", 0);
    let index = scan(&[dir.path()]).unwrap();
    let chosen = |target| choose(&index, &at("log.000001", 4, None), &target, None).unwrap();
    // Its rotate event is its end, whatever its flag says.
    assert_eq!(chosen(Target::End).warnings, Vec::<String>::new());
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    for n in 1..4 {
        log.transaction(Some(&a(&n.to_string())), T0 + n, None);
    }
    log.open(dir.path(), "log.000001", 0);
    let index = scan(&[dir.path()]).unwrap();
    let chosen = |target| choose(&index, &at("log.000001", 4, None), &target, None).unwrap();
    let range = chosen(Target::End);
    assert_eq!((applied(&range), range.notes.len()), (a("1-6"), 2));
    assert_eq!(range.warnings, range.notes[..1]);
    let range = chosen(Target::Position(Position::new("log.000001", log.ends[1])));
    assert_eq!((range.notes.len(), range.warnings.len()), (1, 0));
}

#[test]
fn a_closed_file_cut_anywhere_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&a("1")), T0, None).transaction(Some(&a("2")), T0, None);
    let path = log.close(dir.path(), "log.000001");
    let whole = std::fs::read(&path).unwrap();
    for end in log.ends[0] + 1..log.ends[1] {
        std::fs::write(&path, &whole[..end as usize]).unwrap();
        let index = scan(&[dir.path()]).unwrap();
        let error = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{end}: {error}");
    }
}

#[test]
fn the_longer_copy_of_a_file_is_used_and_a_different_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (early, late) = (dir.path().join("early"), dir.path().join("late"));
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&a("1")), T0, None).transaction(Some(&a("2")), T0, None);
    log.open(&early, "log.000001", 10);
    log.close(&late, "log.000001");
    for folders in [[&early, &late], [&late, &early]] {
        let index = scan(&folders).unwrap();
        assert_eq!((index.files.len(), index.files[0].copies.len()), (1, 1));
        let range = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap();
        assert_eq!((applied(&range), range.notes.len()), (a("1-2"), 0));
    }
    let mut other = Log::new(Flavor::MySql, 1, Some(""));
    other.transaction(Some(&a("1")), T0, None).transaction(Some(&a("3")), T0, None);
    other.open(&early, "log.000001", 0);
    let error = scan(&[&early, &late]).unwrap_err();
    assert!(matches!(error, Error::Conflict { at, .. } if at > log.ends[0] && at < log.ends[1]), "{error}");
}

#[test]
fn a_new_master_is_followed_by_gtid() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    two_files(&old);
    // The replica wrote the same transactions to its own files, in the old master's numbering, then its own.
    let mut first = Log::new(Flavor::MySql, 2, Some(""));
    for n in 1..=2 {
        first.transaction(Some(&a(&n.to_string())), T0 + n, None);
    }
    first.rotate("log.000002").close(&new, "log.000001");
    let mut second = Log::new(Flavor::MySql, 2, Some(&a("1-2")));
    for n in 3..=6 {
        second.transaction(Some(&a(&n.to_string())), T0 + n, None);
    }
    second.transaction(Some(&format!("{B}:1")), T0 + 20, None);
    second.rotate("log.000003").close(&new, "log.000002");
    let mut third = Log::new(Flavor::MySql, 2, Some(&format!("{},{B}:1", a("1-6"))));
    third.transaction(Some(&format!("{B}:2")), T0 + 21, None);
    third.close(&new, "log.000003");
    let index = scan(&[&old, &new]).unwrap();
    let range = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap();
    assert_eq!(applied(&range), format!("{},{B}:1-2", a("1-6")));
    assert_eq!((range.transactions, range.skipped), (8, 0));
    let files: Vec<_> = range.files.iter().map(|f| (f.path.clone(), f.start)).collect();
    assert_eq!(
        files,
        [
            (old.join("log.000001"), 4),
            (old.join("log.000002"), 4),
            (new.join("log.000002"), second.ends[3]),
            (new.join("log.000003"), 4),
        ]
    );
    // Nothing leads from the old master's last transaction to files that start later.
    std::fs::remove_file(new.join("log.000001")).unwrap();
    std::fs::remove_file(new.join("log.000002")).unwrap();
    let index = scan(&[&old, &new]).unwrap();
    let error = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::Gap { missing, .. } if *missing == format!("{B}:1")), "{error}");
}

#[test]
fn servers_without_gtids_are_followed_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Log::new(Flavor::MySql, 1, None);
    one.transaction(None, T0, None).transaction(None, T0 + 1, None).rotate("log.000002");
    one.close(dir.path(), "log.000001");
    let mut two = Log::new(Flavor::MySql, 1, None);
    two.query(T0 + 2, "DROP TABLE t");
    two.transaction(None, T0 + 3, None);
    two.close(dir.path(), "log.000002");
    let index = scan(&[dir.path()]).unwrap();
    let start = at("log.000001", one.ends[0], None);
    let range = choose(&index, &start, &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.applied, range.expected), (3, None, None));
    let range = choose(&index, &start, &time(T0 + 2, 0), None).unwrap();
    assert_eq!((range.transactions, range.stop().file.as_str()), (1, "log.000001"));
    let error = choose(&index, &start, &until(&a("1"), true), None).unwrap_err();
    assert!(matches!(error, Error::NoGtids { .. }), "{error}");
    // The copy of an open file cannot be followed by its successor: something may be missing between.
    let mut open = Log::new(Flavor::MySql, 1, None);
    open.transaction(None, T0, None);
    open.open(dir.path(), "log.000001", 0);
    let index = scan(&[dir.path()]).unwrap();
    let error = choose(&index, &at("log.000001", 4, None), &Target::End, None).unwrap_err();
    assert!(matches!(error, Error::Gap { .. }), "{error}");
}

#[test]
fn mariadb_numbers_that_were_left_out_are_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Log::new(Flavor::MariaDb, 1, Some(""));
    one.transaction(Some("0-1-1"), T0, None).transaction(Some("0-1-3"), T0, None).rotate("log.000002");
    one.close(dir.path(), "log.000001");
    let mut two = Log::new(Flavor::MariaDb, 1, Some("0-1-3"));
    two.transaction(Some("0-1-4"), T0 + 1, None).transaction(Some("5-2-1"), T0 + 2, None);
    two.close(dir.path(), "log.000002");
    let index = scan(&[dir.path()]).unwrap();
    let held = GtidSet::parse(Flavor::MariaDb, "0-1-1").unwrap();
    let start = Start { position: Position::new("log.000001", 4), executed: Some(held) };
    let range = choose(&index, &start, &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.skipped), (3, 1));
    assert_eq!(range.expected.unwrap().to_string(), "0-1-4,5-2-1");
    let set = GtidSet::parse_exact(Flavor::MariaDb, "0-1-4").unwrap();
    let range = choose(&index, &start, &Target::UntilGtid { set, inclusive: false }, None).unwrap();
    assert_eq!((range.transactions, range.expected.unwrap().to_string().as_str()), (1, "0-1-3"));
    // More is missing than a number that was left out.
    let mut two = Log::new(Flavor::MariaDb, 1, Some("0-1-4"));
    two.transaction(Some("0-1-5"), T0 + 1, None);
    two.close(dir.path(), "log.000002");
    let index = scan(&[dir.path()]).unwrap();
    let error = choose(&index, &start, &Target::End, None).unwrap_err();
    assert!(matches!(error, Error::Gap { .. }), "{error}");
}

#[test]
fn an_incident_in_the_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&a("1")), T0, None);
    log.event(26, 0, T0, b"\x01\x00\x04lost");
    log.transaction(Some(&a("2")), T0 + 1, None);
    log.close(dir.path(), "log.000001");
    let index = scan(&[dir.path()]).unwrap();
    let start = at("log.000001", 4, None);
    let error = choose(&index, &start, &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::Incident { message, .. } if message == "lost"), "{error}");
    assert_eq!(choose(&index, &start, &position("log.000001", log.ends[0]), None).unwrap().transactions, 1);
}

#[test]
fn an_incident_that_is_not_applied_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    log.transaction(Some(&a("1")), T0, None);
    log.gtid(&a("2"), T0 + 10);
    log.event(26, 0, T0 + 10, b"\x01\x00\x04lost");
    log.transaction(Some(&a("3")), T0 + 20, None);
    log.close(dir.path(), "log.000001");
    let index = scan(&[dir.path()]).unwrap();
    let start = at("log.000001", 4, None);
    for target in [time(T0 + 5, 0), until(&a("2"), false), until(&a("1"), true)] {
        let range = choose(&index, &start, &target, None).unwrap();
        assert_eq!(applied(&range), a("1"), "{target}");
    }
    for (start, skip) in [(start.clone(), Some(mysql(&a("2")))), (at("log.000001", 4, Some(&a("1-2"))), None)]
    {
        let range = choose(&index, &start, &Target::End, skip.as_ref()).unwrap();
        assert_eq!(range.next, None);
    }
    let error = choose(&index, &start, &time(T0 + 15, 0), None).unwrap_err();
    assert!(matches!(error, Error::Incident { .. }), "{error}");
}

#[test]
fn both_halves_of_an_alter_are_left_out_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MariaDb, 1, Some(""));
    log.transaction(Some("0-1-1"), T0, None);
    log.half_of_alter("0-1-2", T0 + 1, None);
    log.transaction(Some("0-1-3"), T0 + 2, None);
    log.half_of_alter("0-1-4", T0 + 3, Some(2));
    log.close(dir.path(), "log.000001");
    let index = scan(&[dir.path()]).unwrap();
    let start = Start { position: Position::new("log.000001", 4), executed: None };
    let leaving = |set: &str, target: &Target| {
        let skip = GtidSet::parse_exact(Flavor::MariaDb, set).unwrap();
        choose(&index, &start, target, Some(&skip)).map(|range| range.transactions)
    };
    for (named, other) in [("0-1-2", "0-1-4"), ("0-1-4", "0-1-2")] {
        let error = leaving(named, &Target::End).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(&format!("{named},{other}")), "{error}");
    }
    assert_eq!(leaving("0-1-2,0-1-4", &Target::End).unwrap(), 2);
    assert_eq!(leaving("0-1-3", &Target::End).unwrap(), 3);
}
