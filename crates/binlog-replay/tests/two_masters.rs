//! Two servers that wrote at a time: what their numbers cannot tell apart is refused, or told apart by more.

#[path = "common/build.rs"]
mod build;

use std::path::Path;

use binlog_replay::{Error, Flavor, GtidSet, Position, Range, Start, Target, choose, scan};
use build::Log;

const A: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const B: &str = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";
const T0: u32 = 1_700_000_100;

/// A closed file with these transactions.
fn file(folder: &Path, name: &str, server_id: u32, before: &str, gtids: &[&str]) -> Log {
    let flavor = if gtids.iter().any(|gtid| gtid.contains(':')) { Flavor::MySql } else { Flavor::MariaDb };
    let mut log = Log::new(flavor, server_id, Some(before));
    for (n, gtid) in gtids.iter().enumerate() {
        log.transaction(Some(gtid), T0 + n as u32, None);
    }
    log.close(folder, name);
    log
}

fn mariadb(text: &str) -> GtidSet {
    GtidSet::parse(Flavor::MariaDb, text).unwrap()
}

fn exact(text: &str) -> GtidSet {
    GtidSet::parse_exact(Flavor::MariaDb, text).unwrap()
}

fn chosen(
    folders: &[&Path],
    executed: Option<&str>,
    target: &Target,
    skip: Option<&str>,
) -> Result<Range, Error> {
    let start = Start { position: Position::new("log.000001", 4), executed: executed.map(mariadb) };
    choose(&scan(folders).unwrap(), &start, target, skip.map(exact).as_ref())
}

#[test]
fn the_state_of_mariadb_is_its_last_transaction_and_not_its_highest_number() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "log.000001", 1, "", &["0-1-4", "0-1-5", "0-2-3", "1-1-1"]);
    let range = chosen(&[dir.path()], None, &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.expected.unwrap().to_string().as_str()), (4, "0-2-3,1-1-1"));
    file(dir.path(), "log.000001", 1, "", &["0-1-4", "0-2-4"]);
    let range = chosen(&[dir.path()], None, &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.expected.unwrap().to_string().as_str()), (2, "0-2-4"));
}

#[test]
fn transactions_with_one_number_are_not_left_out_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "log.000001", 1, "", &["0-1-4", "0-2-4", "0-1-5", "0-2-5"]);
    let folders = [dir.path()];
    let until = |text, inclusive| Target::UntilGtid { set: exact(text), inclusive };
    for result in [
        chosen(&folders, None, &Target::End, Some("0-1-4")),
        chosen(&folders, None, &Target::End, Some("0-2-5")),
        chosen(&folders, Some("0-1-4"), &Target::End, None),
        chosen(&folders, None, &until("0-2-4", true), None),
        chosen(&folders, None, &until("0-2-4", false), None),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Order { .. }), "{error}");
    }
    // A number below what a replica's backup holds, behind it: it may have been applied before or not.
    file(dir.path(), "log.000001", 1, "", &["0-1-4", "0-1-5", "0-2-3"]);
    let error = chosen(&folders, Some("0-1-5"), &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::Order { why, .. } if why.contains("cannot be told")), "{error}");
    let range = chosen(&folders, Some("0-1-5"), &until("0-1-5", true), None).unwrap();
    assert_eq!((range.transactions, range.skipped), (0, 2));
}

#[test]
fn a_new_master_that_lacks_what_the_old_one_had_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let diverged = |what: &str| {
        let start = Start { position: Position::new("log.000001", 4), executed: None };
        let error = choose(&scan(&[&old, &new]).unwrap(), &start, &Target::End, None).unwrap_err();
        assert!(matches!(&error, Error::Diverged { what: found, .. } if found.contains(what)), "{error}");
    };
    file(&old, "log.000001", 1, "", &["0-1-1", "0-1-2", "0-1-3", "0-1-4", "0-1-5"]);
    file(&new, "other.000001", 2, "", &["0-1-1", "0-1-2", "0-1-3", "0-2-4", "0-2-5", "0-2-6"]);
    diverged("0-2-4");
    // It has fewer numbers, so nothing seems to be new.
    file(&new, "other.000001", 2, "", &["0-1-1", "0-1-2", "0-1-3", "0-2-4"]);
    diverged("0-2-4");
    let name = |source: &str, n: u32| format!("{source}:{n}");
    let had: Vec<String> = (1..=5).map(|n| name(A, n)).collect();
    let had: Vec<&str> = had.iter().map(String::as_str).collect();
    let (first, second) = (name(B, 1), name(B, 2));
    file(&old, "log.000001", 1, "", &had);
    file(&new, "other.000001", 2, "", &[had[0], had[1], had[2], &first, &second]);
    diverged(&format!("{A}:4-5"));
    file(&new, "other.000001", 2, "", &[had[0], had[1], had[2], had[3], had[4], &first]);
    let start = Start { position: Position::new("log.000001", 4), executed: None };
    let range = choose(&scan(&[&old, &new]).unwrap(), &start, &Target::End, None).unwrap();
    assert_eq!((range.transactions, range.files.len()), (6, 2));
}

#[test]
fn a_position_is_in_the_later_folder_that_has_a_file_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let one = file(&old, "log.000001", 1, "", &["0-1-1", "0-1-2"]);
    let two = file(&new, "log.000001", 2, "", &["0-1-1", "0-1-2", "0-2-3", "0-2-4"]);
    let to = |pos| chosen(&[&old, &new], None, &Target::Position(Position::new("log.000001", pos)), None);
    assert_eq!(one.ends[0], two.ends[0]);
    let range = to(two.ends[2]).unwrap();
    assert_eq!((range.transactions, range.expected.as_ref().unwrap().to_string().as_str()), (3, "0-2-3"));
    assert_eq!(range.files.last().unwrap().path, new.join("log.000001"));
}

#[test]
fn a_closed_file_that_does_not_lead_to_the_next_one_is_a_gap_without_gtids() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Log::new(Flavor::MySql, 1, None);
    one.transaction(None, T0, None).close(dir.path(), "log.000001");
    let mut two = Log::new(Flavor::MySql, 1, None);
    two.transaction(None, T0 + 1, None).close(dir.path(), "log.000002");
    let error = chosen(&[dir.path()], None, &Target::End, None).unwrap_err();
    assert!(matches!(&error, Error::Gap { missing, .. } if missing.contains("log.000001")), "{error}");
    assert_eq!(scan(&[dir.path()]).unwrap().gaps().len(), 1);
    // After a crash the server begins a file by itself.
    let mut two = Log::at_start(Flavor::MySql, 1);
    two.transaction(None, T0 + 1, None).close(dir.path(), "log.000002");
    assert_eq!(chosen(&[dir.path()], None, &Target::End, None).unwrap().transactions, 2);
}

#[test]
fn a_server_that_got_another_id_goes_on_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Log::new(Flavor::MySql, 1, None);
    one.transaction(None, T0, None).rotate("log.000002").close(dir.path(), "log.000001");
    let mut two = Log::new(Flavor::MySql, 9, None);
    two.transaction(None, T0 + 1, None).close(dir.path(), "log.000002");
    assert_eq!(chosen(&[dir.path()], None, &Target::End, None).unwrap().transactions, 2);
}
