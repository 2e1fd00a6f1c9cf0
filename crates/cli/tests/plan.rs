//! `dbrecover plan`: whoever waits for a host can be told not to.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

#[test]
#[ignore = "needs ssh; run: ./test"]
fn plan_that_waits_for_a_host_ends_on_an_interrupt() {
    let dir = tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let machine = format!("ip = 127.0.0.1\nport = {port}\nuser = nobody\n");
    let config = format!(
        "[backup-store]\ndir = /store\n{machine}[recovery-job-server]\nwork-dir = /work\n{machine}\
         [misc]\nconnect-method = ssh\nconn-timeout = 600\n\
         [recover-to]\ndir = UTC20261120010203.004-full\n"
    );
    std::fs::write(dir.path().join("recovery.conf"), config).unwrap();
    let mut plan = Command::new(env!("CARGO_BIN_EXE_dbrecover"));
    plan.arg("plan").current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let plan = plan.spawn().unwrap();
    // It waits for the words of an ssh server.
    let _connected = silent.accept().unwrap();
    let begun = Instant::now();
    kill_process(Pid::from_raw(plan.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let ended = plan.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    // Without that it is given up after 15 seconds.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
