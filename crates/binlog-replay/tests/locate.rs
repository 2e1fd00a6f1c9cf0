//! What binlogs say of transactions that lie before them.

#[path = "common/build.rs"]
mod build;

use std::path::Path;

use binlog_replay::replay::{SCHEMA_VERSION, TargetAt, WhereRequest, Whereabouts, whereabouts};
use binlog_replay::{Flavor, GtidSet, Target, locate, may_lie_before, scan};
use build::Log;

const A: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const B: &str = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb";
const T0: u32 = 1_700_000_100;

fn of_a(numbers: &str) -> String {
    format!("{A}:{numbers}")
}

/// GTIDs 4 to 9 in the files 2 and 3; 1 to 3 came before.
fn later_files(folder: &Path) {
    let mut two = Log::new(Flavor::MySql, 1, Some(&of_a("1-3")));
    let mut three = Log::new(Flavor::MySql, 1, Some(&of_a("1-6")));
    for n in 4..=9_u32 {
        let log = if n < 7 { &mut two } else { &mut three };
        log.transaction(Some(&of_a(&n.to_string())), T0 + n, Some(u64::from(T0 + n) * 1_000_000));
    }
    two.rotate("log.000003");
    two.close(folder, "log.000002");
    three.open(folder, "log.000003", 0);
}

fn ask(folder: &Path, target: Option<TargetAt>, skip: Option<&str>) -> Whereabouts {
    let request = WhereRequest {
        schema_version: SCHEMA_VERSION,
        binlogs: [("group".to_owned(), vec![folder.to_owned()])].into(),
        target,
        skip: skip.map(str::to_owned),
    };
    whereabouts(&request).unwrap().remove("group").unwrap()
}

#[test]
fn only_what_the_first_file_names_may_lie_before() {
    let dir = tempfile::tempdir().unwrap();
    later_files(dir.path());
    let index = scan(&[dir.path()]).unwrap();
    let before = |set: &str| may_lie_before(&index, &GtidSet::parse_exact(Flavor::MySql, set).unwrap());
    assert!(before(&of_a("3")));
    // It is in the files, or nowhere.
    assert!(!before(&of_a("4-6")));
    assert!(!before(&of_a("100")));
    assert!(!before(&format!("{B}:1")));
}

#[test]
fn files_without_gtids_say_nothing_of_what_lies_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, None);
    log.transaction(None, T0, None);
    log.open(dir.path(), "log.000002", 0);
    let index = scan(&[dir.path()]).unwrap();
    assert!(may_lie_before(&index, &GtidSet::parse_exact(Flavor::MySql, &of_a("1")).unwrap()));
}

#[test]
fn transactions_of_mariadb_may_lie_before_where_their_server_wrote_to_their_domain() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MariaDb, 1, Some("0-1-7"));
    log.transaction(Some("0-1-8"), T0, None);
    log.open(dir.path(), "log.000002", 0);
    for (set, earlier) in [
        ("0-1-7", true),
        ("0-1-3", true),
        ("0-2-3,0-1-4", true),
        ("0-2-3", false),
        ("0-1-8", false),
        ("1-1-3", false),
    ] {
        let found = ask(dir.path(), Some(TargetAt::BeforeGtid(set.to_owned())), None);
        assert_eq!(found.earlier, earlier, "{set}");
        assert_eq!(ask(dir.path(), None, Some(set)).earlier, earlier, "without {set}");
    }
}

#[test]
fn of_a_set_up_to_and_including_which_a_replay_goes_only_the_last_transaction_matters() {
    let dir = tempfile::tempdir().unwrap();
    later_files(dir.path());
    let until = |set: &str| ask(dir.path(), Some(TargetAt::UntilGtid(set.to_owned())), None).earlier;
    assert!(!until(&of_a("1-5")));
    assert!(until(&of_a("1-3")), "its last one is not here");
    let before = ask(dir.path(), Some(TargetAt::BeforeGtid(of_a("1-5"))), None);
    assert!(before.earlier, "its first one is not here");
}

/// A file with the transaction 0-1-`number`, its change at `time` and its commit later.
fn one_of_mariadb(server: u32, number: u32, time: u32, later: u32) -> Log {
    let mut log = Log::new(Flavor::MariaDb, server, Some(&format!("0-1-{}", number - 1)));
    log.gtid(&format!("0-1-{number}"), time + later);
    log.query(time, "INSERT INTO t VALUES (1)");
    log.event(16, 0, time + later, &7u64.to_le_bytes());
    log
}

#[test]
fn gtid_that_a_server_gave_a_second_time_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folders = [dir.path().join("old"), dir.path().join("new")];
    one_of_mariadb(1, 5, T0, 0).close(&folders[0], "log.000007");
    one_of_mariadb(1, 5, T0 + 1000, 0).close(&folders[1], "log.000001");
    let index = scan(&folders).unwrap();
    for inclusive in [true, false] {
        let set = GtidSet::parse_exact(Flavor::MariaDb, "0-1-5").unwrap();
        let error = locate(&index, &Target::UntilGtid { set, inclusive }).unwrap_err().to_string();
        for word in ["0-1-5", "log.000007:", "log.000001:", "old", "new", "position", "2023-11-14 22:31:40"] {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn copy_of_a_transaction_in_a_replica_s_binlog_is_no_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let folders = [dir.path().join("master"), dir.path().join("replica")];
    one_of_mariadb(1, 5, T0, 3).close(&folders[0], "log.000007");
    // A replica's commit has the time of the last change.
    one_of_mariadb(2, 5, T0, 0).close(&folders[1], "log.000003");
    let index = scan(&folders).unwrap();
    let set = GtidSet::parse_exact(Flavor::MariaDb, "0-1-5").unwrap();
    let found = locate(&index, &Target::UntilGtid { set, inclusive: false }).unwrap().unwrap();
    assert_eq!(found.part.unwrap().exact_text(), "0-1-5..5");
}

#[test]
fn names_that_a_server_gave_a_second_time_matter_where_they_are_asked_for_only() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["old", "new"].map(|life| dir.path().join(life));
    let life = |folder: &Path, first: u32, time: u32, last: u32| {
        for n in 0..=last {
            let (number, name) = (first + n, format!("log.00000{}", n + 1));
            let log = one_of_mariadb(1, number, time + n, 0);
            log.close(folder, &name);
        }
    };
    life(&folders[0], 5, T0, 2);
    life(&folders[1], 7, T0 + 1000, 1);
    let ask = |target: TargetAt| {
        whereabouts(&WhereRequest {
            schema_version: SCHEMA_VERSION,
            binlogs: [("group".to_owned(), folders.to_vec())].into(),
            target: Some(target),
            skip: None,
        })
        .map(|mut found| found.remove("group").unwrap().transaction.map(|at| at.start))
        .map_err(|error| error.to_string())
    };
    let before = |gtid: &str| ask(TargetAt::BeforeGtid(gtid.to_owned()));
    let start = |file: &str, number: u32| {
        Ok(Some(format!("{file}:{}", Log::new(Flavor::MariaDb, 1, Some(&format!("0-1-{number}"))).pos())))
    };
    assert_eq!(before("0-1-5"), start("log.000001", 4));
    assert_eq!(before("0-1-8"), start("log.000002", 7));
    let error = before("0-1-7").unwrap_err();
    assert!(error.contains("log.000003:") && error.contains("log.000001:"), "{error}");
    let at = |position: &str| ask(TargetAt::Position(position.to_owned()));
    let error = at("log.000001:4").unwrap_err();
    assert!(error.contains("log.000001 of several servers"), "{error}");
    assert_eq!(at("log.000003:4"), start("log.000003", 6));
    // Behind the last one of the old files come no new ones.
    let end = one_of_mariadb(1, 7, T0, 0).pos();
    assert_eq!(at(&format!("log.000003:{end}")), start("log.000003", 6));
}

#[test]
fn copy_of_a_transaction_that_one_of_the_servers_compressed_is_no_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let folders = [dir.path().join("master"), dir.path().join("replica")];
    one_of_mariadb(1, 5, T0, 3).close(&folders[0], "log.000007");
    let mut replica = Log::new(Flavor::MariaDb, 2, Some("0-1-4"));
    replica.gtid("0-1-5", T0 + 1);
    replica.compressed_query(T0, "INSERT INTO t VALUES (1)");
    replica.event(16, 0, T0 + 1, &7_u64.to_le_bytes());
    replica.close(&folders[1], "log.000003");
    let index = scan(&folders).unwrap();
    let set = GtidSet::parse_exact(Flavor::MariaDb, "0-1-5").unwrap();
    let found = locate(&index, &Target::UntilGtid { set, inclusive: true }).unwrap().unwrap();
    assert_eq!(found.part.unwrap().exact_text(), "0-1-5..5");
}

/// A compressed transaction has no events but its beginning and its payload, whose times are others than those of its changes.
#[test]
fn copies_are_known_by_the_time_of_their_commit_where_it_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["master", "replica"].map(|server| dir.path().join(server));
    let file = |folder: &Path, server, changed: u32, committed: u32| {
        let mut log = Log::new(Flavor::MySql, server, Some(&of_a("1-4")));
        log.transaction(Some(&of_a("5")), changed, Some(u64::from(committed) * 1_000_000));
        log.close(folder, "log.000002");
    };
    file(&folders[0], 1, T0, T0 + 2);
    file(&folders[1], 2, T0 + 1, T0 + 2);
    let set = || GtidSet::parse_exact(Flavor::MySql, &of_a("5")).unwrap();
    let index = scan(&folders).unwrap();
    assert!(locate(&index, &Target::UntilGtid { set: set(), inclusive: true }).unwrap().is_some());
    file(&folders[1], 2, T0, T0 + 3);
    let index = scan(&folders).unwrap();
    let error = locate(&index, &Target::UntilGtid { set: set(), inclusive: true }).unwrap_err();
    assert!(error.to_string().contains("several transactions"), "{error}");
}

/// Commit times need not ascend: where a replay ends is a matter of the binlog, what others are recovered to one of time.
#[test]
fn end_of_a_set_is_the_last_of_it_in_the_binlog() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(Flavor::MySql, 1, Some(&of_a("1-3")));
    for (number, seconds) in [("4", 9), ("5", 7)] {
        log.transaction(Some(&of_a(number)), T0 + seconds, Some(u64::from(T0 + seconds) * 1_000_000));
    }
    log.open(dir.path(), "log.000002", 0);
    let found = ask(dir.path(), Some(TargetAt::UntilGtid(of_a("4-5"))), None);
    assert_eq!(found.transaction.unwrap().end, format!("log.000002:{}", log.ends[1]));
    assert_eq!(found.time.unwrap().timestamp(), i64::from(T0 + 9));
    let found = ask(dir.path(), Some(TargetAt::BeforeGtid(of_a("4-5"))), None);
    assert_eq!(found.transaction.unwrap().end, format!("log.000002:{}", log.ends[0]));
    assert_eq!(found.time.unwrap().timestamp(), i64::from(T0 + 7));
}
