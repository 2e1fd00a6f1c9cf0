//! What a recovery must not depend on: the environment it is started in, and how things are called.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::recovery::Job;
use rustix::process::Signal;

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn locale_zone_home_and_umask_of_the_shell_change_nothing() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    let long = job.dir().join("a-temporary-directory-that-is-too-long-for-the-path-of-a-socket".repeat(2));
    fs::create_dir(&long)?;
    job.to_backup(&last.backup);
    let given = job.command()?;
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 077; exec "$@""#, "sh"]).arg(given.get_program()).args(given.get_args());
    command.envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(job.dir()).env_remove("HOME").env("TMPDIR", &long);
    for name in ["LANG", "LC_ALL", "LC_NUMERIC"] {
        command.env(name, "de_DE.UTF-8");
    }
    command.env("TZ", "Asia/Kathmandu").stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    job.nothing_left()?;
    job.verify(&store.truth, &last.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_socket_that_a_long_path_drives_out_of_the_work_directory_is_alone_there_and_found_again() -> Result<()> {
    let store = Store::masters()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    let long = job.dir().join("a-work-directory-that-is-too-long-for-the-path-of-a-socket".repeat(2));
    job.set("recovery-job-server", "work-dir", long.to_string_lossy()).to_backup(&last.backup);
    // Nothing else is being started when it is killed.
    job.args(&["--parallel", "1"]);
    let tmp = long.join(format!(".incomplete-{}", last.backup)).join("tmp");
    let sockets = || -> Vec<PathBuf> {
        let private = fs::read_dir(&tmp).into_iter().flatten().flatten();
        private
            .filter_map(|dir| fs::read_to_string(dir.path().join("socket-dir")).ok())
            .map(Into::into)
            .collect()
    };
    let mut running = job.start()?;
    running.wait_until("a socket", || sockets().iter().any(|dir| dir.join("s.sock").exists()))?;
    running.end(Signal::KILL)?;
    job.no_process_left()?;
    let left = sockets();
    for dir in left.iter().filter(|dir| dir.exists()) {
        let names: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(names.iter().all(|name| name.to_string_lossy().starts_with("s.sock")), "{names:?}");
    }
    job.args(&["--resume"]).succeed()?;
    ensure!(!left.is_empty() && left.iter().all(|dir| !dir.exists()), "{left:?}");
    job.verify(&store.truth, &last.groups)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn paths_hold_whatever_paths_can_hold() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("dbs $x 'é\" ").tempdir()?;
    let store = Store::masters()?.copy_to(&dir.path().join("the store; #1"))?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    // A link, into a directory with blanks.
    let work = job.dir().join("höchste Zeit %s");
    let link = job.dir().join("link to it");
    fs::create_dir(&work)?;
    fs::set_permissions(&work, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::os::unix::fs::symlink(&work, &link)?;
    job.set("recovery-job-server", "work-dir", link.to_string_lossy());
    job.recovers_point(&store.truth, last)?;
    ensure!(work.join(&last.backup).join("recovery-report.json").exists());
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn another_zone_than_the_backup_machines_is_found_out() -> Result<()> {
    let store = Store::masters()?;
    let between = store.truth.between(0, 1, false);
    let moment = between.first().context("no moment")?;
    let mut job = Job::new(&store)?;
    // East of it: everything seems to have happened before it was begun.
    job.to_time(&moment.time.to_string()).set("misc", "time-zone", "+14:00");
    let words = ["time-zone", "must be the zone of the machine that took the backups"];
    job.refuse(2, &words)?;
    // West of it: every server would be replayed to the end of its binlogs, and prove that it is there.
    job.set("misc", "time-zone", "-12:00").refuse(2, &words)?;
    // In a copy that is younger than the backups, the next one says it.
    let copied = tempfile::tempdir()?;
    let copied = lab::Store { dir: copied.path().join("store"), truth: store.truth.clone() };
    lab::tools::run(Command::new("cp").arg("-r").arg(&store.dir).arg(&copied.dir))?;
    job.set("backup-store", "dir", copied.dir.to_string_lossy());
    job.refuse(2, &["time-zone", "which is laid upon it"]).map(drop)
}

/// What statements in the binlogs say in local time, they say in the zone of the server that ran them.
#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn temporary_servers_live_in_the_zone_of_the_backup_machine() -> Result<()> {
    let store = Store::masters()?;
    let mut job = Job::new(&store)?;
    job.to_backup(&store.truth.points[0].backup).env("TZ", "America/New_York").set(
        "misc",
        "for-testing",
        "1",
    );
    job.set("misc", "server-tmp-port", lab::server::free_port()?.to_string());
    job.set("misc", "time-zone", "+05:45");
    let outcome = job.run()?;
    ensure!(outcome.code == 0, "{}", outcome.stderr);
    let report = fs::read(job.work_dir().join("recovery-report.json"))?;
    let report: serde_json::Value = serde_json::from_slice(&report)?;
    for server in report["servers"].as_array().context("no servers")? {
        let port = server["port"].as_u64().context("no port")?.try_into()?;
        let mut sql = lab::sql::Sql::tcp(port, "dbscale", Some(lab::workload::PASSWORD))?;
        let ahead = sql.value("SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), NOW())")?;
        sql.run("SHUTDOWN")?;
        assert_eq!(ahead, "345");
    }
    job.nothing_left()
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_store_of_somebody_else_need_not_be_writable() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::masters()?.copy_to(&dir.path().join("store"))?;
    let last = store.truth.points.last().context("no backup")?;
    // Nobody finishes it, and it cannot be moved away.
    let begun = store.dir.join("UTC20990101000000.000-inc");
    fs::create_dir(&begun)?;
    lab::tools::run(Command::new("touch").args(["-d", "2 days ago"]).arg(&begun))?;
    let job = &mut Job::new(&store)?;
    let mount = job.dir().join("read-only");
    fs::create_dir(&mount)?;
    let mounted = ReadOnly::bind(&store.dir, &mount)?;
    job.set("backup-store", "dir", mount.to_string_lossy());
    let outcome = job.to_backup(&last.backup).succeed()?;
    anyhow::ensure!(
        outcome.stderr.contains("cannot be moved to trash/ (--read-only-store"),
        "{}",
        outcome.stderr
    );
    job.verify(&store.truth, &last.groups)?;
    drop(mounted);
    Ok(())
}

/// A directory mounted read-only in another place, gone with the value.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    fn bind(from: &std::path::Path, at: &std::path::Path) -> Result<Self> {
        lab::tools::run(Command::new("mount").arg("--bind").arg(from).arg(at))?;
        let mount = Self(at.to_owned());
        lab::tools::run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at))?;
        Ok(mount)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
