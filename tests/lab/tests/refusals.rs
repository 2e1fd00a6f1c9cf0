//! Bad input gets a clear error with its exit code; the store stays as it is and nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Damaged, Job, change};
use rustix::process::Signal;

/// A job for the last backup of `store`.
fn last(store: &Store) -> Result<Job> {
    let mut job = Job::new(store)?;
    job.to_backup(&store.truth.points.last().context("no backup")?.backup);
    Ok(job)
}

// ---- configuration and usage: 2 --------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_configuration_that_is_not_there_is_named() -> Result<()> {
    let mut command = std::process::Command::new(lab::recovery::dbrecover()?);
    let output = command.args(["--config-file", "/nonexistent/recovery.conf"]).output()?;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/nonexistent/recovery.conf"), "{stderr}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_configuration_that_cannot_be_read_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = std::process::Command::new(lab::recovery::dbrecover()?);
    let output = command.arg("--config-file").arg(dir.path()).output()?;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&dir.path().display().to_string()), "{stderr}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_configuration_that_is_no_ini_file_is_an_error_with_its_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("c.conf");
    fs::write(&path, "[misc]\ndebug = 0\nthis is no line of such a file\n")?;
    let mut command = std::process::Command::new(lab::recovery::dbrecover()?);
    let output = command.arg("--config-file").arg(&path).output()?;
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&format!("{}:3", path.display())), "{stderr}");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_unknown_connect_method_is_refused() -> Result<()> {
    let mut job = last(&Store::masters()?)?;
    job.set("misc", "connect-method", "pigeon").refuse(2, &["connect-method", "pigeon"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_time_that_is_none_is_refused() -> Result<()> {
    let store = Store::masters()?;
    Job::new(&store)?.to_time("yesterday, about noon").refuse(2, &["yesterday, about noon"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_backup_and_a_stop_time_exclude_each_other() -> Result<()> {
    let store = Store::masters()?;
    let mut job = last(&store)?;
    job.set("recover-to", "stop-datetime", store.truth.points[1].time.to_string());
    job.refuse(2, &["stop-datetime"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn no_target_at_all_is_refused() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    job.set("recover-to", "unknown-key", "x").refuse(2, &["stop-datetime"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_work_directory_in_the_store_is_refused_whatever_way_it_is_said() -> Result<()> {
    let store = Store::masters()?;
    let mut job = last(&store)?;
    let link = job.dir().join("link");
    std::os::unix::fs::symlink(&store.dir, &link)?;
    for dir in [store.dir.join("recovered"), store.dir.clone(), link.join("a/../recovered")] {
        job.set("recovery-job-server", "work-dir", dir.to_string_lossy());
        job.refuse(2, &["work-dir", "lies in the backup store"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_failure_is_a_document_for_programs_too() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    job.to_time("2101-02-03 04:05:06").args(&["--json", "--log-format", "json"]);
    let outcome = job.refuse(3, &[])?;
    let document: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
    let lines: Vec<serde_json::Value> =
        outcome.stderr.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(outcome.stderr)?;
    let last = lines.last().context("no line")?;
    assert!(lines.iter().all(|line| line["schema_version"] == 1 && line["at"].is_string()), "{lines:?}");
    for error in [&document["error"], &last["error"]] {
        assert_eq!((&error["class"], &error["exit_code"]), (&"nothing".into(), &3.into()), "{error}");
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains("2101-02-03 04:05:06")),
            "{error}"
        );
        assert!(error["hint"].as_str().is_some_and(|text| text.contains("dbrecover list")), "{error}");
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_work_directory_of_somebody_else_is_left_alone() -> Result<()> {
    let job = last(&Store::masters()?)?;
    let precious = job.work_dir().join("precious");
    fs::create_dir_all(job.work_dir())?;
    fs::write(&precious, "years of work")?;
    job.refuse(2, &[])?;
    assert_eq!(fs::read_to_string(precious)?, "years of work");
    Ok(())
}

// ---- nothing to recover there: 3 -------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_empty_store_holds_nothing() -> Result<()> {
    let store = Store::masters()?;
    let empty = tempfile::tempdir()?;
    let mut job = Job::of(empty.path(), &store.truth)?;
    job.to_time("2026-01-01 00:00:00").refuse(3, &["backup"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_backup_that_is_not_there_is_named() -> Result<()> {
    let store = Store::masters()?;
    let name = "UTC20200101000000.000-full";
    Job::new(&store)?.to_backup(name).refuse(3, &[name]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_time_outside_every_window_is_told_the_windows() -> Result<()> {
    let store = Store::two_chains()?;
    for time in ["2001-02-03 04:05:06", "2101-02-03 04:05:06"] {
        let [first, .., last] = store.truth.points.as_slice() else { anyhow::bail!("too few backups") };
        let (first, last) = (first.time.to_string(), last.time.to_string());
        Job::new(&store)?.to_time(time).refuse(3, &[time, &first, &last])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_incomplete_link_of_the_chain_is_named() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    fs::remove_file(copy.backup(1).join("ok"))?;
    last(&copy.store)?.refuse(3, &[&copy.store.truth.points[1].backup]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_chain_without_its_full_backup_is_refused() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    fs::remove_dir_all(copy.backup(0))?;
    last(&copy.store)?.refuse(3, &["full"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_hole_in_the_binlogs_is_found_before_anything_starts() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let truth = &copy.store.truth;
    // A stop time needs the binlogs of two backups; one of those between start and stop goes.
    let folder = copy.server(1, "auth");
    let mut binlogs = binlogs(&folder)?;
    assert!(binlogs.len() > 4, "the lab rotates its binlogs");
    let gone = binlogs.remove(2);
    fs::remove_file(&gone)?;
    let name = gone.file_name().context("a name")?.to_string_lossy().into_owned();
    let between = truth.between(0, 1, true);
    let moment = between.last().context("no moment")?;
    let job = &mut Job::new(&copy.store)?;
    job.to_time(&moment.time.to_string()).refuse(3, &[&name])?;
    assert!(!job.work_dir().join("datadir").exists(), "it started before it looked");
    Ok(())
}

fn binlogs(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("greatdb-bin."))
        })
        .collect();
    files.sort();
    Ok(files)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_plan_tells_that_the_start_of_the_replay_is_missing() -> Result<()> {
    for store in [Store::masters()?, Store::replicas()?] {
        let copy = Damaged::copy(&store)?;
        let info = fs::read_to_string(copy.backup(2).join("cluster_consistence_info"))?;
        let line =
            info.lines().find(|line| line.contains("belong-to-datasource=auth\t")).context(info.clone())?;
        let (_, start) = line.split_once("xb-to-binlog-name=").context("a start")?;
        let start = start.split('\t').next().context("a file")?;
        let mut removed = 0;
        for folder in fs::read_dir(copy.backup(2))?.flatten() {
            let of_auth = folder.file_name().to_string_lossy().starts_with("auth-");
            removed += usize::from(of_auth && fs::remove_file(folder.path().join(start)).is_ok());
        }
        assert!(removed > 0, "{start} was nowhere");
        last(&copy.store)?.args(&["--dry-run"]).refuse(3, &[start])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn missing_and_empty_gtid_files_are_told_apart() -> Result<()> {
    let store = Store::replicas()?;
    // A replica's binlogs start before its backup: without its GTIDs transactions would be applied twice.
    let copy = Damaged::copy(&store)?;
    fs::remove_file(copy.server(2, "auth").join("executed_gtids"))?;
    last(&copy.store)?.args(&["--dry-run"]).refuse(3, &["executed_gtids"])?;

    let copy = Damaged::copy(&store)?;
    change(&copy.server(2, "auth").join("executed_gtids"), Vec::clear)?;
    last(&copy.store)?.args(&["--dry-run"]).refuse(3, &["executed_gtids"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_bad_line_is_named_with_file_and_number() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    change(&copy.backup(2).join("cluster_consistence_info"), |text| {
        text.extend_from_slice(b"127.0.0.1:1\tonly\tthree\n");
    })?;
    let outcome = last(&copy.store)?.refuse(5, &[])?;
    assert!(outcome.stderr.contains("cluster_consistence_info:4"), "{}", outcome.stderr);
    Ok(())
}

// ---- damaged data: 5 -------------------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_truncated_stream_is_damage() -> Result<()> {
    let store = Store::masters()?;
    for number in [0, 2] {
        let copy = Damaged::copy(&store)?;
        change(&copy.server(number, "normal_0").join("backup.xbsteam"), |stream| {
            stream.truncate(stream.len() * 2 / 3);
        })?;
        last(&copy.store)?.refuse(5, &["stream", &copy.store.truth.folders["normal_0"]])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_flipped_bit_in_a_stream_is_damage() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    change(&copy.server(0, "normal_0").join("backup.xbsteam"), |stream| {
        let middle = stream.len() / 2;
        stream[middle] ^= 1;
    })?;
    last(&copy.store)?.refuse(5, &["checksum", &copy.store.truth.folders["normal_0"]]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_damaged_binlog_is_damage() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let binlogs = binlogs(&copy.server(1, "auth"))?;
    change(&binlogs[1], |binlog| {
        let middle = binlog.len() / 2;
        binlog[middle] ^= 1;
    })?;
    let between = copy.store.truth.between(0, 1, true);
    let time = between.last().context("no moment")?.time.to_string();
    let name = binlogs[1].file_name().context("a name")?.to_string_lossy().into_owned();
    Job::new(&copy.store)?.to_time(&time).refuse(5, &[&name])?;
    // The stock tools do not look at checksums unless they are told to.
    Job::new(&copy.store)?.to_time(&time).with_stock_tools()?.refuse(4, &["binlog", "ended with"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn a_wrong_backup_password_is_told_from_none() -> Result<()> {
    let store = Store::encrypted()?;
    last(&store)?.password(Some("wrong")).refuse(5, &["password"])?;
    last(&store)?.password(None).refuse(2, &["password"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn a_changed_encrypted_backup_is_damage() -> Result<()> {
    let copy = Damaged::copy(&Store::encrypted()?)?;
    let name = format!("{}.tar.encrypted", copy.store.truth.points[1].backup);
    change(&copy.store.dir.join("encrypted").join(&name), |tar| {
        let middle = tar.len() / 2;
        tar[middle] ^= 1;
    })?;
    last(&copy.store)?.refuse(5, &[]).map(drop)
}

// ---- hosts and tools: 4 ----------------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_base_directory_for_another_cpu_is_refused() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let base = copy.backup(0).join("datanode_base");
    let temp = tempfile::tempdir()?;
    let tarball = fs::read_dir(&base)?.next().context("no base directory")??.path();
    let name = tarball.file_name().context("a name")?.to_string_lossy().replace(".tar.gz", "");
    let tar = |args: &[&str], file: &std::path::Path| {
        let mut command = std::process::Command::new("tar");
        lab::tools::run(command.args(args).arg(file).arg("-C").arg(temp.path()).arg(&name))
    };
    tar(&["-xzf"], &tarball)?;
    // An ELF header of another machine (e_machine, two bytes at offset 18): 183 is AArch64.
    change(&temp.path().join(&name).join("bin/mariadbd"), |program| {
        let machine: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        program[18..20].copy_from_slice(&machine.to_le_bytes());
    })?;
    lab::tools::run(
        std::process::Command::new("chmod").arg("755").arg(temp.path().join(&name).join("bin/mariadbd")),
    )?;
    fs::remove_file(&tarball)?;
    tar(&["-czf"], &tarball)?;
    last(&copy.store)?.refuse(4, &["mysqld"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_missing_tool_is_named() -> Result<()> {
    let mut job = last(&Store::masters()?)?;
    job.set("misc", "xtrabackup-bin-dir", "/nonexistent/xtrabackup");
    job.refuse(4, &["/nonexistent/xtrabackup"])?;
    assert!(!job.work_dir().join("datadir").exists(), "it started before it looked");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_account_that_cannot_log_in_is_named() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    for number in 0..3 {
        change(&copy.backup(number).join("calcnode_base/dbscale.conf"), |conf| {
            *conf = String::from_utf8_lossy(conf).replace("password = ", "password = not ").into_bytes();
        })?;
    }
    last(&copy.store)?.refuse(4, &["dbscale.conf"]).map(drop)
}

#[test]
#[ignore = "needs mariadbd and root; run: ./test"]
fn too_little_room_is_refused_before_anything_is_written() -> Result<()> {
    let job = &mut last(&Store::masters()?)?;
    let small = job.dir().join("small");
    fs::create_dir(&small)?;
    let mount = Mount::tmpfs(&small, "20m")?;
    job.set("recovery-job-server", "work-dir", small.to_string_lossy());
    job.refuse(4, &["small"])?;
    drop(mount);
    Ok(())
}

/// What an earlier run left is gone on with, or makes room.
#[test]
#[ignore = "needs mariadbd and root; run: ./test"]
fn the_room_that_a_recovery_takes_itself_is_no_reason_to_refuse_it() -> Result<()> {
    let store = Store::masters()?;
    let job = &mut last(&store)?;
    let small = job.dir().join("small");
    fs::create_dir(&small)?;
    let mount = Mount::tmpfs(&small, "4g")?;
    job.set("recovery-job-server", "work-dir", small.to_string_lossy());
    let free = |small: &Path| -> Result<u64> {
        let free = rustix::fs::statvfs(small)?;
        Ok(free.f_bavail * free.f_frsize)
    };
    let empty = free(&small)?;
    for args in [&["--resume"][..], &[]] {
        let mut running = job.set_args(&[]).start()?;
        let stderr = job.dir().join("stderr");
        running.wait_until("it replays", || {
            fs::read_to_string(&stderr).is_ok_and(|text| text.contains(": replay start"))
        })?;
        running.end(Signal::INT)?;
        let plan = job.set_args(&["--dry-run", "--json"]).run()?;
        assert_eq!(plan.code, 0, "{}", plan.stderr);
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout)?;
        let needed = plan["bytes_needed"].as_u64().context("a number")?;
        // Somebody else takes so much that what is left is enough only with what the recovery has.
        let (left, hog) = (free(&small)?, small.join("hog"));
        let taken = left.saturating_sub(needed - (empty - left) / 2);
        lab::tools::run(std::process::Command::new("fallocate").arg("-l").arg(taken.to_string()).arg(&hog))?;
        job.set_args(args).succeed().with_context(|| format!("{args:?}"))?;
        job.verify(&store.truth, &store.truth.points[2].groups)?;
        fs::remove_file(&hog)?;
        fs::remove_dir_all(job.work_dir())?;
    }
    drop(mount);
    Ok(())
}

#[test]
#[ignore = "needs mariadbd and root; run: ./test"]
fn a_disk_that_fills_up_ends_in_an_error_and_leaves_nothing_running() -> Result<()> {
    let job = &mut last(&Store::masters()?)?;
    let small = job.dir().join("small");
    fs::create_dir(&small)?;
    // Enough for the look before the start, then eaten by somebody else.
    let mount = Mount::tmpfs(&small, "4g")?;
    job.set("recovery-job-server", "work-dir", small.to_string_lossy());
    let mut running = job.start()?;
    running
        .wait_until("it works", || fs::read_dir(&small).is_ok_and(|mut entries| entries.next().is_some()))?;
    let mut hog = fs::File::create(small.join("hog"))?;
    while std::io::Write::write_all(&mut hog, &[1; 1 << 20]).is_ok() {}
    let outcome = running.finish()?;
    assert!(matches!(outcome.code, 1 | 4), "{}: {}", outcome.code, outcome.stderr);
    job.nothing_finished()?;
    job.nothing_left()?;
    drop(mount);
    Ok(())
}

/// A small filesystem, gone with the value.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &std::path::Path, size: &str) -> Result<Self> {
        let mut mount = std::process::Command::new("mount");
        lab::tools::run(
            mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={size},mode=755")).arg("lab").arg(at),
        )?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

// ---- ports, two at once ----------------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_port_in_use_is_no_obstacle() -> Result<()> {
    let store = Store::masters()?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let mut job = last(&store)?;
    job.set("misc", "server-tmp-port", taken.local_addr()?.port().to_string());
    job.succeed()?;
    job.verify(&store.truth, &store.truth.points[2].groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_second_recovery_in_the_same_work_directory_is_refused() -> Result<()> {
    let store = Store::masters()?;
    let job = last(&store)?;
    let work = job.dir().join("work");
    let mut first = job.start()?;
    first.wait_until("it works", || fs::read_dir(&work).is_ok_and(|mut entries| entries.next().is_some()))?;
    let second = job.run()?;
    assert!(first.is_running()?, "the first ended before the second was tried");
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert_eq!(first.finish()?.code, 0, "the first was disturbed");
    job.nothing_left()?;
    job.verify(&store.truth, &store.truth.points[2].groups)
}

// ---- the one change of the store -------------------------------------------------------------

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_incomplete_backup_that_is_being_written_stays_where_it_is() -> Result<()> {
    let copy = Damaged::copy(&Store::masters()?)?;
    let before = &copy.store.truth.points[1];
    fs::remove_file(copy.backup(2).join("ok"))?;
    age(&copy.backup(2))?;
    // One of its streams grows.
    change(&copy.server(2, "auth").join("backup.xbsteam"), |_| {})?;
    let fingerprint = lab::recovery::fingerprint(&copy.store.dir)?;
    let mut job = Job::new(&copy.store)?;
    let outcome = job.to_backup(&before.backup).succeed()?;
    assert!(outcome.stderr.contains("may be being taken right now"), "{}", outcome.stderr);
    assert_eq!(lab::recovery::fingerprint(&copy.store.dir)?, fingerprint, "the store was changed");
    job.verify(&copy.store.truth, &before.groups)
}

/// Makes everything below `dir` two hours old. Files are replaced: their inodes may be shared with the kept store.
fn age(dir: &std::path::Path) -> Result<()> {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            age(&path)?;
        } else {
            change(&path, |_| {})?;
            fs::File::options().append(true).open(&path)?.set_modified(then)?;
        }
    }
    Ok(fs::File::open(dir)?.set_modified(then)?)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_incomplete_newest_backup_goes_to_trash_unless_told_otherwise() -> Result<()> {
    let store = Store::masters()?;
    let newest = &store.truth.points[2].backup;
    let before = &store.truth.points[1];

    let copy = Damaged::copy(&store)?;
    fs::remove_file(copy.backup(2).join("ok"))?;
    age(&copy.backup(2))?;
    Job::new(&copy.store)?.to_backup(&before.backup).args(&["--read-only-store"]).succeed()?;
    assert!(copy.backup(2).exists());

    let mut job = Job::new(&copy.store)?;
    job.recovers_point(&store.truth, before)?;
    assert!(copy.store.dir.join("trash").join(newest).exists() && !copy.backup(2).exists());
    Ok(())
}
