//! Real files of real servers: everything in them is decoded, encodes to the bytes it came from, and is what
//! the manifest says; the servers' own tools see the same events.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use binlog_replay::event::{Event, EventKind};
use binlog_replay::{Flavor, Gtid, Reader, scan_file};
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::EventData;

/// One line per file: what does not depend on the run that made it.
fn manifest(root: &Path) -> String {
    let mut out = String::new();
    for path in common::files_in(root) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if name.starts_with("mariadb-encrypted") {
            writeln!(out, "{name}: refused as encrypted").unwrap();
            continue;
        }
        let info = scan_file(&path).unwrap();
        let (mut kinds, end) = common::round_trip::file(&path);
        // Written by a thread of its own, some time.
        kinds.remove(&EventKind::BINLOG_CHECKPOINT);
        let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let (n, ddl, none) = (info.transactions, info.ddl_count, info.anonymous);
        writeln!(
            out,
            "{name}: {n} transactions, {none} without GTID, {ddl} DDL, ends {end:?}: {}",
            kinds.join(", ")
        )
        .unwrap();
    }
    out
}

#[test]
fn the_files_are_what_the_manifest_says() {
    let root = common::fixtures();
    let (path, actual) = (root.join("manifest.txt"), manifest(&root));
    if std::env::var_os("UPDATE_MANIFEST").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, std::fs::read_to_string(&path).unwrap());
}

#[test]
#[ignore = "needs mysqld 9 and mariadbd; run: ./test"]
fn files_made_anew_are_what_the_manifest_says() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new(common::fixtures().join("make.sh")).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let expected = std::fs::read_to_string(common::fixtures().join("manifest.txt")).unwrap();
    assert_eq!(manifest(dir.path()), expected);
    same_as_the_servers_tools(dir.path());
}

#[test]
fn transactions_are_as_long_as_their_gtid_events_say() {
    for path in common::files().iter().filter(|p| p.to_string_lossy().contains("/mysql")) {
        let mut reader = Reader::open(path).unwrap();
        let mut tracker = binlog_replay::Tracker::default();
        let mut ends_at = None;
        while let Some(raw) = reader.next_event().unwrap() {
            let place = tracker.feed(&raw).unwrap();
            if let Ok(Event::MySqlGtid(gtid)) = raw.decode() {
                ends_at = Some(raw.offset + gtid.length.unwrap());
            }
            if place == binlog_replay::Place::Last {
                assert_eq!(Some(raw.end()), ends_at.take(), "{path:?}");
            }
        }
    }
}

fn tool(flavor: Flavor) -> PathBuf {
    match flavor {
        Flavor::MariaDb => "mariadb-binlog".into(),
        Flavor::MySql => {
            let tools = std::env::var_os("DBRECOVER_TEST_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
                let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
                let cache =
                    cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
                cache.join("dbrecover-test-tools")
            });
            let bases = std::fs::read_dir(tools.join("mysql")).expect("run tests/setup.sh");
            let base = bases.map(|e| e.unwrap().path()).find(|p| p.is_dir()).expect("run tests/setup.sh");
            base.join("bin/mysqlbinlog")
        }
    }
}

/// Offsets of all events, and ends with checksums of those that are printed with a header, as the server's
/// tool prints them.
fn stock_events(path: &Path, flavor: Flavor) -> (Vec<u64>, Vec<(u64, u32)>) {
    // Where it unpacks the files of LOAD DATA statements.
    let loads = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool(flavor));
    command.args(["--no-defaults", "--verify-binlog-checksum", "-vv", "--local-load"]).arg(loads.path());
    let output = command.arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut offsets, mut ends) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(offset) = line.strip_prefix("# at ") {
            offsets.push(offset.trim().parse().unwrap());
        } else if let Some((_, rest)) = line.split_once("end_log_pos ")
            && line.starts_with('#')
        {
            let mut words = rest.split_whitespace();
            let end = words.next().unwrap().parse().unwrap();
            let crc = match words.next() {
                Some("CRC32") => {
                    u32::from_str_radix(words.next().unwrap().trim_start_matches("0x"), 16).unwrap()
                }
                _ => 0,
            };
            ends.push((end, crc));
        }
    }
    (offsets, ends)
}

fn same_as_the_servers_tools(root: &Path) {
    for path in common::files_in(root) {
        let text = path.display().to_string();
        // The tool prints the events inside a compressed transaction, too.
        if text.contains("encrypted") || text.ends_with("mysql/binlog.000002") {
            continue;
        }
        let flavor = if text.contains("/mariadb") { Flavor::MariaDb } else { Flavor::MySql };
        let (mut offsets, mut ends) = (Vec::new(), BTreeMap::new());
        let mut reader = Reader::open(&path).unwrap();
        while let Some(raw) = reader.next_event().unwrap() {
            offsets.push(raw.offset);
            let crc = raw.bytes().last_chunk::<4>().map_or(0, |c| u32::from_le_bytes(*c));
            ends.insert(raw.end(), crc);
        }
        let stock = stock_events(&path, flavor);
        assert_eq!(offsets, stock.0, "{path:?}");
        // MariaDB's tool prints statement texts of rows without a header.
        assert!(stock.1.len() * 5 > offsets.len() * 4, "{path:?}: {} of {}", stock.1.len(), offsets.len());
        for (end, crc) in stock.1 {
            let ours = ends.get(&end).unwrap_or_else(|| panic!("{path:?}: no event ends at {end}"));
            assert!(crc == 0 || crc == *ours, "{path:?} {end}");
        }
    }
}

#[test]
#[ignore = "needs mysqlbinlog 9 and mariadb-binlog; run: ./test"]
fn the_servers_tools_see_the_same_events() {
    same_as_the_servers_tools(&common::fixtures());
}

#[test]
fn mysql_common_reads_the_same_from_the_files_that_it_knows() {
    for path in common::files().iter().filter(|p| p.to_string_lossy().contains("/mysql")) {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let theirs = mysql_common::binlog::BinlogFile::new(BinlogVersion::Version4, file).unwrap();
        let mut ours = Reader::open(path).unwrap();
        let mut compared = 0;
        for event in theirs {
            let event = event.unwrap();
            let raw = ours.next_event().unwrap().unwrap();
            assert_eq!(event.header().log_pos(), raw.header.next);
            assert_eq!(event.header().timestamp(), raw.header.timestamp);
            match (event.read_data().unwrap(), raw.decode().unwrap()) {
                (Some(EventData::QueryEvent(theirs)), Event::Query(ours)) => {
                    assert_eq!(theirs.query_raw(), &*ours.text);
                    assert_eq!(theirs.schema_raw(), ours.database);
                    assert_eq!(theirs.thread_id(), ours.thread);
                }
                (Some(EventData::GtidEvent(theirs)), Event::MySqlGtid(ours)) => {
                    assert_eq!(Some(theirs.tx_length()), ours.length);
                    assert_eq!(Some(theirs.immediate_commit_timestamp()), ours.immediate_commit);
                    if let Some(Gtid::MySql { source, number }) = &ours.gtid {
                        assert_eq!((theirs.sid(), theirs.gno()), (source.uuid.0, *number));
                    }
                }
                (Some(EventData::TableMapEvent(theirs)), Event::TableMap(ours)) => {
                    assert_eq!(theirs.table_id(), ours.table_id);
                    assert_eq!(theirs.table_name_raw(), ours.table);
                    assert_eq!(theirs.columns_count() as usize, ours.types.len());
                }
                (Some(EventData::XidEvent(theirs)), Event::Xid(ours)) => assert_eq!(theirs.xid, ours),
                _ => continue,
            }
            compared += 1;
        }
        assert!(ours.next_event().unwrap().is_none());
        assert!(compared > 5, "{path:?}");
    }
}
