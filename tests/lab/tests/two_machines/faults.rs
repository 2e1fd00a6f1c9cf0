//! What happens on the way: a recovery survives it, or ends in a clear error and leaves nothing running anywhere.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::machines::Family;
use lab::recovery::Running;
use rustix::process::Signal;

use crate::ways::{Connect, SOCAT_PORT, Wired};

/// How fast the store sends until the fault has happened, in bytes per second: slow enough to be in the middle.
const SLOWLY: u64 = 3_000_000;

/// How much of a backup is sent when the fault happens, in bytes.
const MIDDLE: u64 = 2_000_000;

/// A recovery that is in the middle of its first transfer.
pub(crate) fn in_the_middle(wired: &mut Wired) -> Result<Running> {
    wired.aim()?;
    let (store, job) = (&wired.machines.store, &wired.machines.job);
    wired.machines.slow(store, SLOWLY)?;
    let mut running = wired.job.start()?;
    let receives =
        || job.processes().is_ok_and(|all| all.iter().any(|(_, arguments)| arguments.contains(" unpack ")));
    running.wait_until("the transfer begins", receives)?;
    let before = store.sent()?;
    running.wait_until("its middle", || store.sent().is_ok_and(|sent| sent > before + MIDDLE))?;
    Ok(running)
}

/// Waits until the recovery has logged this.
fn until_logged(wired: &Wired, running: &mut Running, words: &str) -> Result<()> {
    let log = wired.job.dir().join("stderr");
    running.wait_until(words, || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(words)))
}

/// Pulls the store's cable for five seconds.
fn cut_for_five_seconds(wired: &Wired) -> Result<()> {
    let (machines, store) = (&wired.machines, &wired.machines.store);
    machines.cut(store)?;
    std::thread::sleep(Duration::from_secs(5));
    machines.mend(store)?;
    machines.hurry(store)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn relay_survives_a_cable_that_is_cut_for_five_seconds() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let running = in_the_middle(&mut wired)?;
    cut_for_five_seconds(&wired)?;
    wired.recovered(running.finish()?).map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn scp_survives_a_lossy_cable_that_is_cut_for_five_seconds() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "scp", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.machines.lossy(&wired.machines.store, 1)?;
    wired.machines.lossy(&wired.machines.job, 1)?;
    let running = in_the_middle(&mut wired)?;
    cut_for_five_seconds(&wired)?;
    wired.recovered(running.finish()?).map(drop)
}

#[test]
#[ignore = "needs root, socat and mariadbd; run: ./test"]
fn socat_and_adm_agents_survive_a_cable_that_is_cut_for_five_seconds() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Adm, "socat", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let running = in_the_middle(&mut wired)?;
    cut_for_five_seconds(&wired)?;
    wired.recovered(running.finish()?).map(drop)
}

#[test]
#[ignore = "needs root, sshd, socat and mariadbd; run: ./test"]
fn killed_receiver_and_taken_port_cost_a_second_try_of_one_stream() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "socat", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let _taken = wired.machines.job.inside(|| Ok(TcpListener::bind(("0.0.0.0", SOCAT_PORT))?))?;
    let mut running = in_the_middle(&mut wired)?;
    let journal = wired.incomplete().join("journal.jsonl");
    let files_are_there = || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains(": files"));
    running.wait_until("a server's stream is on its way", files_are_there)?;
    running
        .wait_until("its receiver", || wired.machines.job.kill("--format stream").is_ok_and(|n| n == 1))?;
    wired.machines.hurry(&wired.machines.store)?;
    wired.recovered(running.finish()?)?;
    ensure!(wired.retries()? == 1, "{} retries", wired.retries()?);
    let logs = wired.socat_logs()?;
    ensure!(logs.iter().any(|log| log.starts_with(&format!("{}_", SOCAT_PORT + 10))), "{logs:?}");
    Ok(())
}

#[test]
#[ignore = "needs root, RabbitMQ, socat and mariadbd; run: ./test"]
fn restarted_broker_and_agents_on_it_cost_nothing() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Rabbit, "socat", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let mut running = in_the_middle(&mut wired)?;
    let broker = wired.broker.take().context("there is a broker")?;
    wired.broker = Some(wired.machines.broker.inside(|| Ok(broker.restart()))?);
    wired.machines.hurry(&wired.machines.store)?;
    until_logged(&wired, &mut running, ": start finish")?;
    // The command of a server that runs has no answer from the new agent, which is there before anybody has seen that
    // the old one has gone.
    wired.agents[1].restart(&wired.machines.job)?;
    wired.recovered(running.finish()?)?;
    ensure!(wired.retries()? == 0, "{} retries", wired.retries()?);
    Ok(())
}

#[test]
#[ignore = "needs root, socat and mariadbd; run: ./test"]
fn restarted_agents_cost_nothing() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Adm, "socat", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let mut running = in_the_middle(&mut wired)?;
    // In the middle of commands on both machines, and again between those of the servers that come back.
    for round in 0..2 {
        wired.agents[0].restart(&wired.machines.store)?;
        wired.agents[1].restart(&wired.machines.job)?;
        if round == 0 {
            wired.machines.hurry(&wired.machines.store)?;
            until_logged(&wired, &mut running, ": prepare finish")?;
        }
    }
    wired.recovered(running.finish()?)?;
    ensure!(wired.retries()? == 0, "{} retries", wired.retries()?);
    Ok(())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn cable_that_stays_cut_ends_in_an_error_and_leaves_nothing_running() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.job.set("misc", "socat-retry-count", "1");
    let running = in_the_middle(&mut wired)?;
    wired.machines.cut(&wired.machines.store)?;
    let outcome = running.finish()?;
    ensure!(outcome.code == 4, "exit code {}\n{}", outcome.code, outcome.stderr);
    ensure!(outcome.stderr.contains("10.77.0.2"), "the store is not named: {}", outcome.stderr);
    wired.job.nothing_finished()?;
    // What runs on the store cannot know before somebody answers there that its caller has gone.
    wired.machines.mend(&wired.machines.store)?;
    wired.nothing_left()
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn terminated_or_refused_recovery_leaves_nothing_on_any_machine() -> Result<()> {
    let wired = Wired::start(Store::encrypted()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let running = in_the_middle(&mut wired)?;
        let outcome = running.end(signal)?;
        ensure!(outcome.code == code, "exit code {}\n{}", outcome.code, outcome.stderr);
        wired.job.nothing_finished()?;
        wired.nothing_left()?;
        wired.machines.hurry(&wired.machines.store)?;
    }
    wired.job.password(Some("certainly wrong"));
    let outcome = wired.job.run()?;
    ensure!(outcome.code == 5, "exit code {}\n{}", outcome.code, outcome.stderr);
    wired.nothing_left()
}
