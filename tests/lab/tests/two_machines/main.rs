//! Whole recoveries between machines of their own: every connect method with every transfer that it has, and what can
//! happen to cables, programs and ports on the way.

#[path = "../../../../crates/remote-exec/tests/common/broker.rs"]
#[allow(dead_code, reason = "other tests use the same file")]
mod broker;
mod faults;
mod lookups;
mod sender;
mod ways;

use anyhow::{Result, ensure};
use lab::Store;
use lab::machines::Family;
use ways::{Connect, Wired};

/// A recovery of the store by this method and transfer is right.
fn comes_back(store: Store, connect: Connect, transfer: &str) -> Result<()> {
    let Some(mut wired) = Wired::start(store, connect, transfer, Family::Four)? else { return Ok(()) };
    let seen = wired.watch_arguments();
    wired.recovers()?;
    let seen = seen.finish();
    ensure!(seen.is_empty(), "passwords in the arguments of {seen:?}");
    Ok(())
}

/// A recovery by agents of others is refused before anything is touched, and right when they are trusted.
fn comes_back_when_trusted(store: Store, connect: Connect) -> Result<()> {
    let Some(mut wired) = Wired::start(store, connect, "socat", Family::Four)? else { return Ok(()) };
    wired.aim()?;
    let outcome = wired.job.refuse(2, &["trusted-agent"])?;
    ensure!(!outcome.stderr.contains("unpack"), "{}", outcome.stderr);
    wired.nothing_left()?;
    wired.job.set("misc", "trusted-agent", "1");
    wired.recovers().map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn plain_store_by_ssh_and_relay() -> Result<()> {
    comes_back(Store::masters()?, Connect::Ssh, "relay")
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn encrypted_store_by_ssh_and_relay() -> Result<()> {
    comes_back(Store::encrypted()?, Connect::Ssh, "relay")
}

#[test]
#[ignore = "needs root, sshd, socat and mariadbd; run: ./test"]
fn plain_store_by_ssh_and_socat() -> Result<()> {
    comes_back(Store::replicas()?, Connect::Ssh, "socat")
}

#[test]
#[ignore = "needs root, sshd, socat and mariadbd; run: ./test"]
fn encrypted_store_by_ssh_and_socat_over_ipv6() -> Result<()> {
    let wired = Wired::start(Store::encrypted()?, Connect::Ssh, "socat", Family::Six)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.recovers().map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn plain_store_by_ssh_and_scp_compressed_and_with_a_limit() -> Result<()> {
    let wired = Wired::start(Store::masters()?, Connect::Ssh, "scp", Family::Four)?;
    let Some(mut wired) = wired else { return Ok(()) };
    wired.job.set("misc", "transfer-compress", "zstd").set("misc", "rate-limit", "500M");
    wired.recovers().map(drop)
}

#[test]
#[ignore = "needs root, sshd and mariadbd; run: ./test"]
fn encrypted_store_by_ssh_and_scp() -> Result<()> {
    comes_back(Store::encrypted()?, Connect::Ssh, "scp")
}

#[test]
#[ignore = "needs root, RabbitMQ, oslo.messaging, socat and mariadbd; run: ./test"]
fn plain_store_by_rabbit_agents_of_others_and_socat_when_they_are_trusted() -> Result<()> {
    comes_back_when_trusted(Store::masters()?, Connect::RabbitOfOthers)
}

#[test]
#[ignore = "needs root, grpcio, socat and mariadbd; run: ./test"]
fn encrypted_store_by_adm_agents_of_others_and_socat_when_they_are_trusted() -> Result<()> {
    comes_back_when_trusted(Store::encrypted()?, Connect::AdmOfOthers)
}

#[test]
#[ignore = "needs root, RabbitMQ, socat and mariadbd; run: ./test"]
fn encrypted_store_by_rabbit_agents_and_socat() -> Result<()> {
    comes_back(Store::encrypted()?, Connect::Rabbit, "socat")
}

#[test]
#[ignore = "needs root, socat and mariadbd; run: ./test"]
fn plain_store_by_adm_agents_and_socat() -> Result<()> {
    comes_back(Store::replicas()?, Connect::Adm, "socat")
}

#[test]
#[ignore = "needs root, socat and mariadbd; run: ./test"]
fn encrypted_store_by_adm_agents_and_socat() -> Result<()> {
    comes_back(Store::encrypted()?, Connect::Adm, "socat")
}
