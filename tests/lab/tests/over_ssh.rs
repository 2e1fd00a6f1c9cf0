//! Recoveries over ssh on loopback, by key and by password.

#[path = "../../../crates/remote-exec/tests/common/sshd.rs"]
#[allow(dead_code, unreachable_pub)]
mod sshd;

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Damaged, Job, readable_for_all};
use sshd::{Sshd, TemporaryUser};

/// Store and job server on 127.0.0.1, by ssh.
fn over_ssh(job: &mut Job, sshd: &Sshd, user: &str) -> Result<()> {
    job.set("misc", "connect-method", "ssh");
    job.set("misc", "known-hosts-file", sshd.known_hosts().to_string_lossy());
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "ip", "127.0.0.1")
            .set(section, "port", sshd.port().to_string())
            .set(section, "user", user);
    }
    // The worker on the far side is this very program.
    job.set("misc", "worker-path", lab::recovery::dbrecover()?.to_string_lossy());
    Ok(())
}

fn me() -> Result<String> {
    let out = lab::tools::run(std::process::Command::new("id").arg("-un"))?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

fn by_key(store: &Store, sshd: &Sshd) -> Result<Job> {
    let mut job = Job::new(store)?;
    over_ssh(&mut job, sshd, &me()?)?;
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "identity-file", sshd.identity().to_string_lossy());
    }
    Ok(job)
}

#[test]
#[ignore = "needs sshd and mariadbd; run: ./test"]
fn both_shapes_come_back_by_key() -> Result<()> {
    let sshd = Sshd::start()?;
    for store in [Store::masters()?, Store::replicas()?] {
        let last = store.truth.points.last().context("no backup")?;
        by_key(&store, &sshd)?.recovers_point(&store.truth, last)?;
        let between = store.truth.between(0, 1, true);
        let moment = between.first().context("no busy moment")?;
        by_key(&store, &sshd)?.recovers_moment(&store.truth, moment)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs sshd, mariadbd and pyAesCrypt; run: ./test"]
fn an_encrypted_store_comes_back_by_key() -> Result<()> {
    let sshd = Sshd::start()?;
    let store = Store::encrypted()?;
    let last = store.truth.points.last().context("no backup")?;
    by_key(&store, &sshd)?.recovers_point(&store.truth, last)
}

#[test]
#[ignore = "needs sshd, mariadbd and root; run: ./test"]
fn a_login_with_user_and_password_recovers_and_shows_the_password_to_nobody() -> Result<()> {
    let sshd = Sshd::start()?;
    let password = "s3cret w $x 'y' \"z\"";
    let user = TemporaryUser::new(password)?;
    let copy = Damaged::copy(&Store::replicas()?)?;
    let store = &copy.store;
    readable_for_all(store.dir.parent().context("a copy lies in a directory")?)?;
    let mut job = Job::new(store)?;
    over_ssh(&mut job, &sshd, &user.name)?;
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "password", password);
    }
    // The far user runs everything; it may not become another one.
    job.unset("misc", "mysqld-user");
    let work = job.dir().join("far");
    std::fs::create_dir(&work)?;
    lab::tools::run(std::process::Command::new("chown").arg(&user.name).arg(&work))?;
    lab::tools::run(std::process::Command::new("chown").arg(&user.name).arg(job.dir().join("ds_info")))?;
    job.set("recovery-job-server", "work-dir", work.to_string_lossy());

    // The store logs in to the job server with the password as well.
    job.set("misc", "transfer-method", "scp").set("misc", "accept-new-host-keys", "1");

    let point = store.truth.points.last().context("no backup")?;
    job.to_backup(&point.backup);
    let seen = lab::recovery::watch_arguments(&[password, lab::workload::PASSWORD]);
    let outcome = job.succeed()?;
    assert_eq!(seen.finish(), Vec::<String>::new(), "a password in the arguments of a process");
    assert!(!outcome.stderr.contains(password) && !outcome.stdout.contains(password));
    job.verify(&store.truth, &point.groups)
}

#[test]
#[ignore = "needs sshd, mariadbd and root; run: ./test"]
fn a_folder_that_may_not_be_read_is_in_the_way_of_its_own_backup_only() -> Result<()> {
    let sshd = Sshd::start()?;
    let password = "secret";
    let user = TemporaryUser::new(password)?;
    let copy = Damaged::copy(&Store::two_chains()?)?;
    let points = &copy.store.truth.points;
    readable_for_all(copy.store.dir.parent().context("a copy lies in a directory")?)?;
    let closed = copy.server(0, "auth");
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let mut job = Job::new(&copy.store)?;
    over_ssh(&mut job, &sshd, &user.name)?;
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "password", password);
    }
    job.unset("misc", "mysqld-user").args(&["--dry-run"]);
    let planned = job.to_backup(&points.last().context("no backup")?.backup).run()?;
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let name = closed.file_name().context("a name")?.to_string_lossy().into_owned();
    job.to_backup(&points[0].backup).refuse(4, &[&points[0].backup, &name]).map(drop)
}

#[test]
#[ignore = "needs sshd and root; run: ./test"]
fn a_wrong_ssh_password_is_refused_by_host_and_user() -> Result<()> {
    let sshd = Sshd::start()?;
    let user = TemporaryUser::new("right")?;
    let store = Store::replicas()?;
    let mut job = Job::new(&store)?;
    over_ssh(&mut job, &sshd, &user.name)?;
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "password", "certainly wrong");
    }
    job.to_backup(&store.truth.points[0].backup);
    let outcome = job.refuse(4, &["127.0.0.1"])?;
    assert!(!outcome.stderr.contains("certainly wrong"));
    Ok(())
}

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn stock_tools_move_a_backup_server_by_server_too() -> Result<()> {
    for store in [Store::masters()?, Store::encrypted()?] {
        let last = store.truth.points.last().context("no backup")?;
        let mut job = Job::new(&store)?;
        job.set("misc", "transfer-method", "relay").with_stock_tools()?;
        job.recovers_point(&store.truth, last)?;
        let journal = std::fs::read_to_string(job.work_dir().join("journal.jsonl"))?;
        for server in store.truth.points[0].groups.keys() {
            let of_server = |line: &&str| line.contains(server.as_str()) && line.contains("\"unpack ");
            assert!(journal.lines().any(|line| of_server(&line)), "{server}:\n{journal}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_only_dbrecover_can_do_on_the_way_is_refused_without_it() -> Result<()> {
    let store = Store::replicas()?;
    for (method, key, value) in [("relay", "transfer-compress", "zstd"), ("socat", "rate-limit", "10M")] {
        let mut job = Job::new(&store)?;
        job.set("misc", "transfer-method", method).set("misc", "toolchain", "stock").set("misc", key, value);
        job.to_backup(&store.truth.points[0].backup).refuse(2, &[key, "dbrecover"])?;
        job.nothing_left()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_host_that_is_not_there_is_named() -> Result<()> {
    let store = Store::replicas()?;
    let mut job = Job::new(&store)?;
    job.set("misc", "connect-method", "ssh");
    let port = lab::server::free_port()?.to_string();
    for section in ["backup-store", "recovery-job-server"] {
        job.set(section, "ip", "127.0.0.1").set(section, "port", &port).set(section, "user", "nobody");
    }
    job.to_backup(&store.truth.points[0].backup).refuse(4, &["127.0.0.1", &port]).map(drop)
}

#[test]
#[ignore = "needs sshd; run: ./test"]
fn an_unknown_host_key_is_refused() -> Result<()> {
    let sshd = Sshd::start()?;
    let store = Store::replicas()?;
    let mut job = by_key(&store, &sshd)?;
    let empty = job.dir().join("known_hosts");
    std::fs::write(&empty, "")?;
    job.set("misc", "known-hosts-file", empty.to_string_lossy());
    job.to_backup(&store.truth.points[0].backup).refuse(4, &["127.0.0.1"]).map(drop)
}
