//! ^C, SIGTERM and SIGKILL at every step: nothing runs on, nothing looks finished, the next run works.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use lab::Store;
use lab::recovery::{Job, fingerprint};
use rustix::process::Signal;

/// A step by name, and what can be seen of it from outside.
type Step = (&'static str, fn(&Job) -> bool);

const STEPS: [Step; 4] = [
    ("unpacking", |job| {
        find(&job.dir().join("work"), &|name| name == "ibdata1" || name.ends_with(".partial"))
    }),
    ("preparing", |job| job.processes().iter().any(|process| process.contains("--prepare"))),
    ("starting a server", |job| job.processes().iter().any(|process| process.contains("--datadir"))),
    ("replaying", |job| find(&job.dir().join("work"), &|name| name.ends_with(".sock") || name == "s")),
];

fn find(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        wanted(&entry.file_name().to_string_lossy())
            || (entry.file_type().is_ok_and(|kind| kind.is_dir()) && find(&entry.path(), wanted))
    })
}

fn ended_by(signal: Signal, code: i32) -> Result<()> {
    let store = Store::replicas()?;
    let before = fingerprint(&store.dir)?;
    let last = store.truth.points.last().context("no backup")?;
    for (step, reached) in STEPS {
        let mut job = Job::new(&store)?;
        job.to_backup(&last.backup);
        let mut running = job.start()?;
        running.wait_until(step, || reached(&job))?;
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

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_killed_recovery_looks_unfinished_and_can_be_run_again() -> Result<()> {
    let store = Store::replicas()?;
    let last = store.truth.points.last().context("no backup")?;
    let mut job = Job::new(&store)?;
    job.to_backup(&last.backup);
    let mut running = job.start()?;
    running.wait_until("a server starts", || {
        job.processes().iter().any(|process| process.contains("--datadir"))
    })?;
    running.end(Signal::KILL)?;
    job.nothing_finished()?;
    job.succeed()?;
    job.verify(&store.truth, &last.groups)
}
