//! ^C, SIGTERM and SIGKILL at every step: nothing runs on, nothing looks finished, the next run works.

use std::fs;

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Job, fingerprint};
use rustix::process::Signal;

/// The line on stderr that each step begins with.
const STEPS: [&str; 6] = [
    "] read the catalog start",
    "] unpack ",
    ": prepare start",
    ": start start",
    ": replay start",
    ": stop start",
];

fn says(job: &Job, line: &str) -> bool {
    fs::read_to_string(job.dir().join("stderr")).is_ok_and(|text| text.contains(line))
}

fn ended_by(signal: Signal, code: i32) -> Result<()> {
    let store = Store::replicas()?;
    let before = fingerprint(&store.dir)?;
    let last = store.truth.points.last().context("no backup")?;
    for step in STEPS {
        let mut job = Job::new(&store)?;
        job.to_backup(&last.backup);
        let mut running = job.start()?;
        running.wait_until(step, || says(&job, step))?;
        let outcome = running.end(signal)?;
        anyhow::ensure!(outcome.code == code, "{step}: exit code {}: {}", outcome.code, outcome.stderr);
        job.nothing_finished().context(step)?;
        job.nothing_left().context(step)?;
        anyhow::ensure!(fingerprint(&store.dir)? == before, "{step}: the store was changed");
        job.succeed().with_context(|| format!("again after {step}"))?;
        job.verify(&store.truth, &last.groups).context(step)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn interrupt_at_every_step_leaves_nothing_behind() -> Result<()> {
    ended_by(Signal::INT, 130)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn termination_at_every_step_leaves_nothing_behind() -> Result<()> {
    ended_by(Signal::TERM, 143)
}

/// The stock tools decrypt in the store; whenever they are interrupted, nothing of it stays there.
#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn interrupt_of_the_stock_tools_leaves_no_plaintext_in_the_store() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::encrypted()?.copy_to(&dir.path().join("store"))?;
    let before = fingerprint(&store.dir)?;
    let last = store.truth.points.last().context("no backup")?;
    let full = &store.truth.points[0].backup;
    let decrypted = |what: &str| {
        let entries = fs::read_dir(store.dir.join(full)).into_iter().flatten().flatten();
        let ours =
            |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".dbrecover-decrypted-");
        entries.filter(ours).any(|entry| entry.path().join(what).exists())
    };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // Its tar, one of its files, and the unpacking of the next one.
        let file = format!("{full}/calcnode_base");
        let next = format!("] unpack {} start", store.truth.points[1].backup);
        for step in 0..3 {
            let mut job = Job::new(&store)?;
            job.to_backup(&last.backup).with_stock_tools()?;
            let mut running = job.start()?;
            running.wait_until("plaintext in the store", || match step {
                0 => decrypted("tar"),
                1 => decrypted(&file),
                _ => says(&job, &next),
            })?;
            let outcome = running.end(signal)?;
            anyhow::ensure!(outcome.code == code, "{step}: exit code {}: {}", outcome.code, outcome.stderr);
            job.nothing_finished()?;
            job.nothing_left()?;
            let after = fingerprint(&store.dir)?;
            let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
            anyhow::ensure!(after == before, "{step}: the store was changed: {left:#?}");
        }
    }
    let mut job = Job::new(&store)?;
    job.with_stock_tools()?.recovers_point(&store.truth, last)?;
    anyhow::ensure!(fingerprint(&store.dir)? == before, "the store was changed");
    Ok(())
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_killed_recovery_looks_unfinished_and_can_be_run_again() -> Result<()> {
    let store = Store::replicas()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup);
    let mut running = job.start()?;
    running.wait_until("replay", || says(&job, ": replay start"))?;
    running.end(Signal::KILL)?;
    job.nothing_finished()?;
    job.no_process_left()?;
    let outcome = job.succeed()?;
    anyhow::ensure!(outcome.stderr.contains("begins anew (--resume goes on)"), "{}", outcome.stderr);
    job.verify(&store.truth, &last.groups)
}
