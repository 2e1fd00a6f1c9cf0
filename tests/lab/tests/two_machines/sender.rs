//! A store without `dbrecover`: the one that sends is put there, and nothing of it stays.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Store;
use lab::machines::Family;
use lab::recovery::fingerprint;
use rustix::process::Signal;

use crate::faults::in_the_middle;
use crate::ways::{Connect, Wired};

/// The line of the plan about the sender.
fn planned(wired: &mut Wired) -> Result<String> {
    wired.aim()?;
    wired.job.set_args(&["--dry-run"]);
    let outcome = wired.job.run()?;
    wired.job.set_args(&[]);
    ensure!(outcome.code == 0, "exit code {}\n{}", outcome.code, outcome.stderr);
    let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("sender "));
    Ok(line.unwrap_or_default().trim().to_owned())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn sender_is_put_onto_a_store_without_one_and_removed() -> Result<()> {
    // Without one there, compression is refused.
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "scp", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.job.set("misc", "transfer-compress", "zstd");
    let before = fingerprint(&wired.store.dir)?;
    let program = wired.only_on_control()?;
    let line = planned(&mut wired)?;
    ensure!(line.starts_with("worker: put into /tmp of root@10.77.0.2:"), "{line:?}");
    let outcome = wired.job.run()?;
    drop(program);
    wired.recovered(outcome)?;
    ensure!(fingerprint(&wired.store.dir)? == before, "the store was changed");
    Ok(())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn stock_tools_send_where_temporary_files_cannot_be_run() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.machines.store.run(Command::new("mount").args(["-o", "remount,bind,noexec", "/tmp"]))?;
    let program = wired.only_on_control()?;
    let line = planned(&mut wired)?;
    ensure!(line.starts_with("stock tools: no dbrecover"), "{line:?}");
    ensure!(line.ends_with("takes no programs: Permission denied"), "{line:?}");
    wired.job.set("misc", "transfer-compress", "zstd");
    wired.job.refuse(2, &["transfer-compress", "10.77.0.2"])?;
    wired.job.unset("misc", "transfer-compress");
    let outcome = wired.job.run()?;
    drop(program);
    wired.recovered(outcome).map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn sender_whose_connection_was_lost_is_put_there_again() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    let program = wired.only_on_control()?;
    let running = in_the_middle(&mut wired)?;
    wired.sshds[0].cut();
    wired.machines.hurry(&wired.machines.store)?;
    let outcome = running.finish()?;
    drop(program);
    wired.recovered(outcome)?;
    ensure!(wired.retries()? > 0);
    Ok(())
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn ended_recovery_leaves_no_sender() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "relay", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    for signal in [Signal::TERM, Signal::KILL] {
        let program = wired.only_on_control()?;
        let running = in_the_middle(&mut wired)?;
        let sends = wired.machines.store.processes()?;
        ensure!(sends.iter().any(|(_, words)| words.starts_with("/tmp/dbrecover-send-")), "{sends:?}");
        running.end(signal)?;
        drop(program);
        // What is killed cannot clean up where it ran, and its connection stays for 20 s.
        wired.machines.store.nothing_left(&wired.daemons(), Duration::from_secs(40))?;
        wired.machines.hurry(&wired.machines.store)?;
    }
    Ok(())
}
