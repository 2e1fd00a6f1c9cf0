//! ^C, SIGTERM and SIGKILL at every step: nothing runs on, nothing looks finished, the next run works.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;

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

#[test]
#[ignore = "needs mariadbd and pyAesCrypt; run: ./test"]
fn a_prompt_for_the_password_is_ended_and_leaves_the_terminal_as_it_was() -> Result<()> {
    let store = Store::encrypted()?;
    for (signal, code) in [(None, 130), (Some(Signal::TERM), 143)] {
        let mut job = Job::new(&store)?;
        job.password(None).to_backup(&store.truth.points[0].backup);
        let program = job.command()?;
        // Every word in its own quotes; none of them holds one.
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        // The shell outlives the key, and says who it will be.
        let script = format!(
            "trap : INT; (echo pid $(exec sh -c 'echo $PPID') .; exec {}); s=$?; stty -a | grep -o -- '-\\?echo '; exit $s",
            words.join(" ")
        );
        let mut terminal = Command::new("script")
            .args(["-qe", "-E", "always", "-c", &script, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let (mut keys, mut screen) =
            (terminal.stdin.take().context("keys")?, terminal.stdout.take().context("a screen")?);
        let mut seen = String::new();
        while !seen.contains("Password of the backups: ") {
            let mut byte = [0];
            anyhow::ensure!(screen.read(&mut byte)? == 1, "{seen}");
            seen.push(byte[0].into());
        }
        let pid = seen.split_whitespace().skip_while(|word| *word != "pid").nth(1).context(seen.clone())?;
        match signal {
            None => keys.write_all(b"\x03")?,
            Some(signal) => {
                let pid = rustix::process::Pid::from_raw(pid.parse()?).context("a pid")?;
                rustix::process::kill_process(pid, signal)?;
            }
        }
        let mut rest = String::new();
        screen.read_to_string(&mut rest)?;
        let status = terminal.wait()?;
        assert_eq!(status.code(), Some(code), "{rest}");
        assert!(rest.lines().any(|line| line.trim() == "echo"), "{rest}");
        job.nothing_left()?;
    }
    Ok(())
}
