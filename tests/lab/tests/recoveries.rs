//! Whole recoveries that must succeed, judged by what the servers really held.

#[path = "../../common/program.rs"]
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use lab::recovery::{Damaged, Job};
use lab::truth::Moment;
use lab::{Flavor, Store, Truth};
use program::write_program;

/// The moment in the middle of those between two backups.
fn moment(truth: &Truth, from: usize, busy: bool) -> Result<&Moment> {
    let between = truth.between(from, from + 1, busy);
    between.get(between.len() / 2).copied().context("the lab saw no such moment")
}

fn every_consistent_point(store: &Store) -> Result<()> {
    for point in &store.truth.points {
        Job::new(store)?.recovers_point(&store.truth, point)?;
    }
    Ok(())
}

fn busy_and_quiet_moments(store: &Store) -> Result<()> {
    for from in 0..2 {
        Job::new(store)?.recovers_moment(&store.truth, moment(&store.truth, from, true)?)?;
        Job::new(store)?.recovers_moment(&store.truth, moment(&store.truth, from, false)?)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn masters_come_back_to_every_consistent_point() -> Result<()> {
    every_consistent_point(&Store::masters()?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn masters_come_back_to_busy_and_quiet_moments() -> Result<()> {
    busy_and_quiet_moments(&Store::masters()?)
}

/// Every backup is taken from servers that write; that the last binlog was open is no news.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn that_the_last_binlog_was_open_is_a_note_and_no_warning() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    let outcome = job.to_backup(&last.backup).succeed()?;
    let words = "was open when it was copied";
    assert!(!outcome.stderr.contains(words), "{}", outcome.stderr);
    let report = std::fs::read(job.work_dir().join("recovery-report.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&report)?;
    for server in report["servers"].as_array().context("no servers")? {
        let range = &server["replay"]["planned"]["range"];
        assert!(range["notes"].to_string().contains(words), "{range}");
        assert_eq!(range["warnings"], serde_json::json!([]), "{range}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn replicas_come_back_to_every_consistent_point() -> Result<()> {
    every_consistent_point(&Store::replicas()?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn replicas_come_back_to_busy_and_quiet_moments() -> Result<()> {
    busy_and_quiet_moments(&Store::replicas()?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn compressed_streams_come_back() -> Result<()> {
    let store = Store::compressed()?;
    let last = store.truth.points.last().context("no backup")?;
    Job::new(&store)?.recovers_point(&store.truth, last)?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 0, true)?)
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn an_encrypted_store_comes_back_and_stays_encrypted() -> Result<()> {
    let store = Store::encrypted()?;
    let before = lab::recovery::fingerprint(&store.dir)?;
    let last = store.truth.points.last().context("no backup")?;
    Job::new(&store)?.recovers_point(&store.truth, last)?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 1, true)?)?;
    assert_eq!(lab::recovery::fingerprint(&store.dir)?, before, "the store was changed");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn both_chains_of_a_store_are_reached() -> Result<()> {
    let store = Store::two_chains()?;
    // The last point of the older chain, and moments of both: points 0, 1, 2 and 3, 4 are chains.
    Job::new(&store)?.recovers_point(&store.truth, &store.truth.points[2])?;
    Job::new(&store)?.recovers_point(&store.truth, &store.truth.points[3])?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 1, true)?)?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 3, true)?)
}

/// The full backup behind the stop time begins another chain: its binlogs are used, its server programs are not.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_programs_are_those_of_the_chain_that_is_recovered() -> Result<()> {
    let mut copy = Damaged::copy(&Store::masters()?)?;
    let name = copy.store.truth.points[1].backup.replace("-inc", "-full");
    fs::rename(copy.backup(1), copy.store.dir.join(&name))?;
    copy.store.truth.points[1].backup = name;
    fs::write(copy.backup(1).join("datanode_base/newer.tar.gz"), "no tarball at all")?;
    let truth = &copy.store.truth;
    let to = moment(truth, 0, true)?;
    for toolchain in ["worker", "stock"] {
        let mut job = Job::new(&copy.store)?;
        job.set("misc", "toolchain", toolchain).recovers_moment(truth, to).context(toolchain)?;
    }
    let mut job = Job::new(&copy.store)?;
    job.recovers_point(truth, &truth.points[0])?;
    job.args(&["--extend", &truth.points[0].backup]).recovers_moment(truth, to)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_stop_time_equal_to_a_consistent_point_ends_there() -> Result<()> {
    let store = Store::masters()?;
    let point = &store.truth.points[1];
    let mut job = Job::new(&store)?;
    job.to_time(&point.time.to_string()).succeed()?;
    job.verify(&store.truth, &point.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn every_replay_method_gives_the_same() -> Result<()> {
    let (masters, replicas) = (Store::masters()?, Store::replicas()?);
    for (store, method) in
        [(&masters, "pipe"), (&masters, "sql"), (&replicas, "relay"), (&replicas, "sql"), (&masters, "relay")]
    {
        let mut job = Job::new(store)?;
        job.set("misc", "replay-method", method);
        job.recovers_moment(&store.truth, moment(&store.truth, 0, true)?)
            .with_context(|| format!("replay-method = {method}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_give_the_same() -> Result<()> {
    let store = Store::masters()?;
    proved_by_stock_tools(&store)
}

/// The GTID state is proved without the worker too.
fn proved_by_stock_tools(store: &Store) -> Result<()> {
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(store)?;
    job.with_stock_tools()?;
    for to_moment in [true, false] {
        let moment = moment(&store.truth, 0, true)?;
        let groups = match to_moment {
            true => {
                job.to_time(&moment.time.format("%Y-%m-%d %H:%M:%S").to_string()).succeed()?;
                &moment.groups
            }
            false => {
                job.to_backup(&last.backup).succeed()?;
                &last.groups
            }
        };
        // The server itself says where it stands; what the replay needed for that is gone.
        for folder in store.truth.folders.values() {
            let own = std::fs::read_dir(job.work_dir().join("datadir").join(folder))?.filter(|entry| {
                entry.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().contains("dbrecover"))
            });
            assert_eq!(own.count(), 0, "{folder}");
        }
        job.verify(&store.truth, groups)?;
        let report = std::fs::read(job.work_dir().join("recovery-report.json"))?;
        let report: serde_json::Value = serde_json::from_slice(&report)?;
        for server in report["servers"].as_array().context("no servers")? {
            assert_eq!(server["proved"], true, "{server}");
            assert!(server["replay"]["transactions"].as_u64().is_some_and(|n| n > 0), "{server}");
            let group = server["group"].as_str().context("no group")?;
            assert_eq!(server["gtid_state"], groups[group].gtid, "{server}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_prove_the_state_of_replicas() -> Result<()> {
    proved_by_stock_tools(&Store::replicas()?)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn the_stock_tools_prove_the_state_of_mysql() -> Result<()> {
    proved_by_stock_tools(&Store::mysql()?)
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn the_stock_tools_decrypt_in_the_store_and_leave_it_encrypted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::encrypted()?.copy_to(&dir.path().join("store"))?;
    let last = store.truth.points.last().context("no backup")?;
    std::fs::write(store.dir.join(&last.backup).join("a note of somebody's"), "keep")?;
    let before = lab::recovery::fingerprint(&store.dir)?;
    Job::new(&store)?.with_stock_tools()?.recovers_point(&store.truth, last)?;
    assert_eq!(lab::recovery::fingerprint(&store.dir)?, before, "the store was changed");
    Job::new(&store)?.with_stock_tools()?.recovers_moment(&store.truth, moment(&store.truth, 0, true)?)?;
    assert_eq!(lab::recovery::fingerprint(&store.dir)?, before, "the store was changed");
    Ok(())
}

/// qpress is not in Debian: the stand-in keeps to the one command line that mariabackup uses.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_decompress_with_qpress() -> Result<()> {
    let store = Store::compressed()?;
    let mut job = Job::new(&store)?;
    let bin = job.dir().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(lab::tools::own_program("qpress-standin")?, bin.join("qpress"))?;
    job.with_stock_tools()?.path(&bin);
    let last = store.truth.points.last().context("no backup")?;
    job.recovers_point(&store.truth, last)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_stock_tools_without_qpress_say_what_would_help() -> Result<()> {
    let store = Store::compressed()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup).with_stock_tools()?;
    job.refuse(4, &[".qp needs qpress to be decompressed", "install qpress", "toolchain = auto"]).map(drop)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn mysql_9_comes_back() -> Result<()> {
    let store = Store::mysql()?;
    let last = store.truth.points.last().context("no backup")?;
    Job::new(&store)?.recovers_point(&store.truth, last)?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 0, true)?)?;
    Job::new(&store)?.recovers_moment(&store.truth, moment(&store.truth, 1, false)?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn another_page_size_several_data_files_and_compressed_binlogs_come_back() -> Result<()> {
    let store = Store::odd()?;
    let last = store.truth.points.last().context("no backup")?;
    Job::new(&store)?.recovers_point(&store.truth, last)?;
    for method in ["auto", "sql"] {
        let mut job = Job::new(&store)?;
        job.set("misc", "replay-method", method);
        job.recovers_moment(&store.truth, moment(&store.truth, 1, true)?)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_recovery_run_again_gives_the_same() -> Result<()> {
    let store = Store::masters()?;
    let point = &store.truth.points[0];
    let mut job = Job::new(&store)?;
    job.to_backup(&point.backup).succeed()?;
    // A run between the two was killed while it removed what it had replaced.
    let replaced = job.work_dir().with_file_name(format!(".replaced-{}", point.backup));
    std::fs::create_dir(&replaced)?;
    std::fs::copy(job.work_dir().join(".dbrecover"), replaced.join(".dbrecover"))?;
    job.succeed()?;
    assert!(!replaced.exists(), "what was replaced is still there");
    job.verify(&store.truth, &point.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_files_of_the_companion_tool_are_written_for_a_stop_time() -> Result<()> {
    let store = Store::masters()?;
    let moment = moment(&store.truth, 0, false)?;
    let mut job = Job::new(&store)?;
    job.to_time(&moment.time.to_string()).succeed()?;
    let id = moment.time.to_string().replace([' ', ':', '-'], "_");
    let dir = job.dir().join("ds_info");
    assert_eq!(std::fs::read_to_string(dir.join("ds_info_file_name"))?, format!("ds_info_{id}\n"));
    let lines = std::fs::read_to_string(dir.join(format!("ds_info_{id}")))?;
    let fields: Vec<&str> = lines.trim_end().split('\t').collect();
    assert_eq!(fields.len(), 3, "{lines:?}");
    assert_eq!(fields[..2], ["normal_0", ""], "only the group that is not `auth`: {lines:?}");
    let binlog = std::path::Path::new(fields[2]);
    assert!(binlog.starts_with(job.work_dir()) && binlog.exists(), "{lines:?}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_recovery_does_not_fail_over_files_that_it_makes_for_another_tool() -> Result<()> {
    let store = Store::masters()?;
    let moment = moment(&store.truth, 0, false)?;
    let mut job = Job::new(&store)?;
    job.to_time(&moment.time.to_string()).set("misc", "ds-info-dir", "/nonexistent/ds_info");
    let outcome = job.succeed()?;
    assert!(outcome.stderr.contains("ds_info files could not be written"), "{}", outcome.stderr);
    job.verify(&store.truth, &moment.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn for_testing_leaves_each_server_running_at_its_own_port() -> Result<()> {
    left_running(&Store::masters()?)
}

#[test]
#[ignore = "needs MySQL; run: ./test"]
fn for_testing_leaves_mysql_alone_with_what_it_was_recovered_to() -> Result<()> {
    left_running(&Store::mysql()?)
}

fn left_running(store: &Store) -> Result<()> {
    let point = &store.truth.points[0];
    let mut job = Job::new(store)?;
    job.to_backup(&point.backup).set("misc", "for-testing", "1");
    job.set("misc", "server-tmp-port", lab::server::free_port()?.to_string());
    let outcome = job.run()?;
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let report = std::fs::read(job.work_dir().join("recovery-report.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&report)?;
    // While they run, they are not replaced, and others do not take their sockets.
    let again = job.run()?;
    assert!(again.code == 4 && again.stderr.contains("which is to be replaced"), "{}", again.stderr);
    let mut second = Job::new(store)?;
    second.to_backup(&point.backup).set("misc", "for-testing", "1");
    second.refuse(4, &["runs already: process ", "at its socket /tmp/"])?;
    let mut ports = Vec::new();
    let mut ids = Vec::new();
    for server in report["servers"].as_array().context("no servers")? {
        let port: u16 = server["port"].as_u64().context("no port")?.try_into()?;
        let mut sql = lab::sql::Sql::tcp(port, "dbscale", Some(lab::workload::PASSWORD))?;
        ids.push(sql.value("SELECT @@server_id")?);
        ports.push(port);
        let group = server["group"].as_str().context("no group")?;
        let found = lab::truth::state(store.truth.flavor, &mut sql)?;
        assert_eq!(lab::truth::differences(&point.groups[group], &found), Vec::<String>::new());
        if store.truth.flavor == Flavor::MySql {
            // Neither a master that the backed-up server followed nor its stored settings come back.
            assert_eq!(sql.value("SELECT @@skip_replica_start")?, "1");
            assert_eq!(sql.value("SELECT @@persisted_globals_load")?, "0");
        }
        sql.run("SHUTDOWN")?;
    }
    ports.dedup();
    ids.dedup();
    assert_eq!((ports.len(), ids.len()), (2, 2));
    job.nothing_left()
}

/// A backup tool that leaves of a table what it leaves of one with a `DATA DIRECTORY`: its file, and the server's link to
/// where that was. There the original still is.
const WITH_A_LINK: &str = r#"#!/bin/sh
mariadb-backup "$@" || exit
for argument; do
    case $argument in --target-dir=*) datadir=${argument#*=} ;; esac
done
[ -f "$datadir/lab/ledger.ibd" ] || exit 0
original=ORIGINALS/$(basename "$datadir")
mkdir -p "$original/lab"
cp "$datadir/lab/ledger.ibd" "$original/lab/ledger.ibd"
chmod -R a+rwX "$original"
printf %s "$original/lab/ledger.ibd" > "$datadir/lab/ledger.isl"
"#;

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn tables_with_a_data_directory_come_back_in_the_datadir() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    let (originals, tool) = (job.dir().join("originals"), job.dir().join("mariabackup"));
    std::fs::create_dir(&originals)?;
    std::fs::set_permissions(&originals, std::fs::Permissions::from_mode(0o777))?;
    write_program(&tool, &WITH_A_LINK.replace("ORIGINALS", &originals.to_string_lossy()));
    job.set("misc", "xtrabackup-bin-dir", tool.to_string_lossy()).to_backup(&last.backup);
    let outcome = job.succeed()?;
    ensure!(outcome.stderr.contains("lab/ledger"), "nothing is said about it: {}", outcome.stderr);
    job.verify(&store.truth, &last.groups)?;
    for (datasource, folder) in &store.truth.folders {
        if last.groups.contains_key(datasource) {
            let table = job.work_dir().join("datadir").join(folder).join("lab/ledger");
            ensure!(
                table.with_extension("ibd").exists() && !table.with_extension("isl").exists(),
                "{folder}"
            );
        }
    }
    Ok(())
}

/// The client of MySQL reads it whatever option file it is given.
#[test]
#[ignore = "needs MySQL; run: ./test"]
fn a_login_file_in_the_home_directory_leads_no_client_elsewhere() -> Result<()> {
    let store = Store::mysql()?;
    let last = store.truth.points.last().context("no backup")?;
    for stock in [false, true] {
        let mut job = Job::new(&store)?;
        let file = job.dir().join(".mylogin.cnf");
        std::fs::write(&file, include_bytes!("../../../crates/binlog-replay/tests/fixtures/mylogin.cnf"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        let home = job.dir().to_string_lossy().into_owned();
        job.env("HOME", home);
        match stock {
            true => job.with_stock_tools()?,
            false => job.set("misc", "replay-method", "pipe"),
        };
        job.recovers_point(&store.truth, last).with_context(|| format!("stock tools: {stock}"))?;
    }
    Ok(())
}
