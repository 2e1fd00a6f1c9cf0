//! Targets that are looked up in the binlogs of another machine: there, by the program that sends, or on the job server.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::machines::Family;
use lab::recovery::fingerprint;
use lab::truth::{Moment, differences};
use rustix::process::Signal;

use crate::ways::{Connect, OnControl, Wired};

const GROUP: &str = "normal_0";

/// Sets a target: the last GTID of a moment between the last two backups.
fn aim_at_gtid(wired: &mut Wired) -> Result<Moment> {
    let busy = wired.store.truth.between(1, 2, true);
    let moment = (*busy.get(busy.len() / 2).context("no moment")?).clone();
    wired.job.set("recover-to", "until-gtid", &moment.groups[GROUP].gtid);
    Ok(moment)
}

/// Binlogs that a lookup had on the job server.
fn binlogs_on_the_job_server(wired: &Wired) -> Result<Vec<String>> {
    let names = std::fs::read_dir(wired.machines.work())?
        .chain(std::fs::read_dir(wired.machines.work().join("recoveries")).into_iter().flatten());
    let names = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.contains("binlogs-")).collect())
}

/// Recovers to a GTID, compares, and finds nothing left on any machine; what the lookup said.
fn recovers_to_gtid(wired: &mut Wired, program: Option<OnControl>) -> Result<String> {
    let moment = aim_at_gtid(wired)?;
    let before = fingerprint(&wired.store.dir)?;
    let outcome = wired.job.run()?;
    drop(program);
    ensure!(outcome.code == 0, "exit code {}\n{}", outcome.code, outcome.stderr);
    let truth = &wired.store.truth;
    let found = truth.state_of(&wired.job.work_dir().join("datadir").join(&truth.folders[GROUP]))?;
    ensure!(
        differences(&moment.groups[GROUP], &found).is_empty(),
        "{:?}",
        differences(&moment.groups[GROUP], &found)
    );
    ensure!(fingerprint(&wired.store.dir)? == before, "the store was changed");
    ensure!(binlogs_on_the_job_server(wired)?.is_empty());
    wired.nothing_left().with_context(|| outcome.stderr.clone())?;
    Ok(outcome.stderr)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn gtid_is_looked_up_on_a_store_without_dbrecover() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let program = wired.only_on_control()?;
    let said = recovers_to_gtid(&mut wired, Some(program))?;
    ensure!(!said.contains("read the binlogs"), "it was sent anywhere: {said}");
    Ok(())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn gtid_of_a_store_that_takes_no_programs_is_looked_up_on_the_job_server() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.machines.store.run(Command::new("mount").args(["-o", "remount,bind,noexec", "/tmp"]))?;
    let program = wired.only_on_control()?;
    let said = recovers_to_gtid(&mut wired, Some(program))?;
    ensure!(said.contains("read the binlogs"), "{said}");
    Ok(())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn gtid_of_an_encrypted_store_is_looked_up_on_the_job_server() -> Result<()> {
    let wired = Wired::start(Store::encrypted()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let program = wired.only_on_control()?;
    let seen = wired.watch_arguments();
    let said = recovers_to_gtid(&mut wired, Some(program))?;
    let seen = seen.finish();
    ensure!(seen.is_empty(), "passwords in the arguments of {seen:?}");
    ensure!(said.contains("read the binlogs"), "{said}");
    Ok(())
}

#[test]
#[ignore = "needs root, RabbitMQ, socat and mariadbd; run: ./test"]
fn gtid_of_an_encrypted_store_is_looked_up_through_agents() -> Result<()> {
    let wired = Wired::start(Store::encrypted()?, Connect::Rabbit, "socat", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    recovers_to_gtid(&mut wired, None).map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn lookup_that_is_ended_leaves_nothing_on_any_machine() -> Result<()> {
    let wired = Wired::start(Store::encrypted()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    for signal in [Signal::TERM, Signal::KILL] {
        let program = wired.only_on_control()?;
        aim_at_gtid(&mut wired)?;
        wired.machines.slow(&wired.machines.store, 3_000_000)?;
        let mut running = wired.job.start()?;
        let job = &wired.machines.job;
        let decrypts = || {
            job.processes().is_ok_and(|all| all.iter().any(|(_, words)| words.contains(" --only-binlogs ")))
        };
        running.wait_until("the lookup begins", decrypts)?;
        ensure!(!binlogs_on_the_job_server(&wired)?.is_empty());
        running.end(signal)?;
        drop(program);
        // What is killed cannot clean up where it ran, and its connection stays for 20 s.
        for machine in [&wired.machines.store, &wired.machines.job] {
            machine.nothing_left(&wired.daemons(), Duration::from_secs(40))?;
        }
        ensure!(binlogs_on_the_job_server(&wired)?.is_empty());
        wired.machines.hurry(&wired.machines.store)?;
    }
    Ok(())
}
