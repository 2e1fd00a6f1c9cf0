//! `dbrecover agent`, called as its callers call it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remote_exec::{Error, Host, Method, adm};

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbrecover"));
    command.arg("agent").args(arguments).stdin(Stdio::null());
    command
}

/// Ends the agent with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gRPC agent on a free port of loopback.
fn start(arguments: &[&str]) -> (Running, String) {
    let mut child = agent(&["--adm", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.strip_prefix("adm ").expect("it says where it listens").trim().to_owned();
    (Running(child), address)
}

fn sleeping(seconds: &str) -> bool {
    let list = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).lines().any(|l| l == format!("sleep {seconds}"))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_asks_for_its_token_and_ends_what_runs_when_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    let (mut running, address) = start(&["--token-file", token.to_str().unwrap()]);
    let mut options = adm::Options::new(address);
    let refused = Host::connect(Method::Adm(options.clone())).await;
    assert!(matches!(refused, Err(Error::Login { .. })), "{refused:?}");
    options.token = Some("t0ken".to_owned().into());
    let host = Host::connect(Method::Adm(options)).await.unwrap();
    assert_eq!(host.command("echo").arg("it's $here").run().await.unwrap().text(), "it's $here");
    let seconds = format!("6{}.75", std::process::id());
    let call = tokio::spawn(host.command("sleep").arg(&seconds).output());
    wait_until("the command runs", || sleeping(&seconds));
    let terminated = Command::new("kill").arg(running.0.id().to_string()).status().unwrap();
    assert!(terminated.success());
    assert!(running.0.wait().unwrap().success());
    wait_until("the command has ended", || !sleeping(&seconds));
    call.abort();
}

#[test]
fn agent_refuses_to_be_open_to_everybody() {
    let output = agent(&["--adm", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("refusing to listen on 0.0.0.0:0") && said.contains("--insecure"), "{said}");
    assert_eq!(agent(&[]).output().unwrap().status.code(), Some(2), "there must be something to serve");
    let output = agent(&["--rabbit", "rabbit://u:s3cret@h:x/", "--host", "h"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cret"));
}
