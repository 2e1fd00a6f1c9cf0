//! The contract, kept by hosts behind gRPC agents: a real one in Python, and our own.

#[path = "common/broker.rs"]
#[allow(dead_code, reason = "other tests use the same file")]
mod broker;
#[path = "common/certificate.rs"]
mod certificate;
#[path = "common/contract.rs"]
#[allow(dead_code, reason = "every kind of host picks its rules")]
mod contract;

use std::time::{Duration, Instant};

use broker::Peer;
use remote_exec::adm::Options;
use remote_exec::{Error, Host, Kind, Method, agent};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/dbinit.proto");

async fn connect(options: Options) -> Result<Host, Error> {
    Host::connect(Method::Adm(options)).await
}

/// Ends the agent's task with the test, and removes what its commands left.
struct Ours(tokio::task::JoinHandle<()>, tempfile::TempDir);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Our own agent, and its address.
async fn serve(mut options: agent::adm::ServeOptions) -> (String, Ours) {
    let tmp = tempfile::Builder::new().prefix("agent tmp-").tempdir().unwrap();
    options.tmp_dir = Some(tmp.path().to_owned());
    let (ready, address) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let ready = |address| {
            let _ = ready.send(address);
        };
        agent::adm::serve(loopback, options, ready, std::future::pending()).await.unwrap();
    });
    (address.await.unwrap().to_string(), Ours(task, tmp))
}

async fn our_agent() -> (Host, Ours) {
    let (address, agent) = serve(agent::adm::ServeOptions::default()).await;
    (connect(Options::new(address)).await.unwrap(), agent)
}

contract! { our_agent;
    exit_status_is_the_programs stdout_and_stderr_stay_apart binary_output_arrives_unchanged hundred_megabytes_of_output
    arguments_arrive_unchanged raw_arguments_are_shell_text environment_and_directory_are_set missing_program_is_its_own_error
    secrets_are_in_no_process_list timeout_ends_the_whole_process_group dropped_call_ends_the_program
    kill_ends_the_process_group given_stdin_reaches_the_program slow_reader_gets_everything
    pipelines_tell_every_status output_goes_to_files_there output_beyond_the_limit_is_an_error
    many_commands_at_once files_can_be_worked_with umask_is_the_logins
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcio; run: ./test"]
async fn real_agent_keeps_the_contract() {
    let peer = Peer::start("grpc", "grpc_agent.py", &[PROTO]);
    let mut options = Options::new(format!("127.0.0.1:{}", peer.said));
    let wary = connect(options.clone()).await.unwrap();
    let secret = wary.command("true").secret_env("PW", "s3cret".to_owned().into()).run().await;
    assert!(matches!(secret, Err(Error::Unsupported { .. })), "{secret:?}");
    options.trusted = true;
    let host = connect(options).await.unwrap();
    assert_eq!(host.kind(), Kind::Adm);
    contract::kept_by_a_trusted_agent(&host).await;
    contract::hundred_megabytes_of_output(&host).await;
    host.close().await;
    assert_eq!(peer.left(), 0, "nothing is left there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_fetched_for_a_day_is_removed_by_the_next_caller() {
    let (host, agent) = our_agent().await;
    let make = |number: u32, age: &str, files: &[(&str, &str)]| {
        let dir = agent.1.path().join(format!("dbrecover-{number:032x}"));
        std::fs::create_dir(&dir).unwrap();
        for (name, content) in files {
            std::fs::write(dir.join(name), content).unwrap();
        }
        let touched = std::process::Command::new("touch").args(["-d", age]).arg(&dir).status().unwrap();
        assert!(touched.success());
        dir
    };
    // A process group that is there: that of this test.
    let mine = rustix::process::getpgrp().as_raw_nonzero().to_string();
    let gone = [
        make(1, "2 days ago", &[("s", "0\n"), ("o", "")]),
        make(2, "2 days ago", &[("pid", "99999999\n")]),
        make(3, "2 days ago", &[]),
    ];
    let kept = [make(4, "2 days ago", &[("pid", &mine)]), make(5, "1 hour ago", &[("s", "0\n")])];
    host.command("true").run().await.unwrap();
    host.close().await;
    assert!(gone.iter().all(|dir| !dir.exists()), "{gone:?}");
    assert!(kept.iter().all(|dir| dir.exists()), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_to_end_that_comes_after_the_end_leaves_nothing() {
    let (host, agent) = our_agent().await;
    for _ in 0..20 {
        let mut child = host.command("true").spawn().await.unwrap();
        let mut output = child.stdout.take().unwrap();
        // The end is known here, and nobody has asked for the status.
        tokio::io::AsyncReadExt::read(&mut output, &mut [0]).await.unwrap();
        drop(child);
    }
    host.close().await;
    assert_eq!(std::fs::read_dir(agent.1.path()).unwrap().count(), 0, "nothing is left there");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcio; run: ./test"]
async fn package_is_a_matter_of_configuration_and_a_wrong_one_is_named() {
    let peer = Peer::start("grpc", "grpc_agent.py", &[PROTO, "pb_file"]);
    let mut options = Options::new(format!("127.0.0.1:{}", peer.said));
    let error = connect(options.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Agent { detail, .. } if detail.contains("DBInitService")), "{error:?}");
    options.service = "pb_file.DBInitService".to_owned();
    connect(options).await.unwrap().command("true").run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcio; run: ./test"]
async fn real_callers_are_served_and_deadlines_kept() {
    let (address, _agent) = serve(agent::adm::ServeOptions::default()).await;
    let call = |cmd: &str, timeout: &str| {
        let peer = Peer::start("grpc", "grpc_call.py", &[PROTO, &address, cmd, timeout]);
        serde_json::from_str::<serde_json::Value>(&peer.said).unwrap()
    };
    let reply = tokio::task::block_in_place(|| call("echo 1; echo e >&2; exit 3", "20"));
    assert_eq!(reply, serde_json::json!({"success": true, "stdout": "1\n", "stderr": "e\n", "code": 3}));
    let seconds = format!("9{}.25", std::process::id());
    let reply = tokio::task::block_in_place(|| call(&format!("sleep {seconds}"), "0.5"));
    assert_eq!(reply["error"], "DEADLINE_EXCEEDED");
    let alive = || {
        let list = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&list.stdout).contains(&format!("sleep {seconds}"))
    };
    let end = Instant::now() + Duration::from_secs(60);
    while alive() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_asked_for_and_never_sent_in_the_clear() {
    let token = || Some("t0ken".to_owned().into());
    let mut serving = agent::adm::ServeOptions::default();
    serving.token = token();
    let (address, _agent) = serve(serving).await;
    let mut options = Options::new(address);
    assert!(matches!(connect(options.clone()).await.unwrap_err(), Error::Login { .. }));
    options.token = Some("wrong".to_owned().into());
    assert!(matches!(connect(options.clone()).await.unwrap_err(), Error::Login { .. }));
    options.token = token();
    connect(options.clone()).await.unwrap().command("true").run().await.unwrap();
    options.address = "store.example:19999".to_owned();
    assert!(matches!(connect(options).await.unwrap_err(), Error::Argument { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_protects_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate::make(dir.path(), "agent.test");
    let mut serving = agent::adm::ServeOptions::default();
    serving.tls = Some((std::fs::read(&certificate).unwrap(), std::fs::read(key).unwrap()));
    let (address, _agent) = serve(serving).await;
    let mut options = Options::new(address);
    options.connect_timeout = Duration::from_secs(3);
    assert!(connect(options.clone()).await.is_err(), "without TLS");
    options.tls = true;
    assert!(connect(options.clone()).await.is_err(), "an unknown authority");
    options.ca_file = Some(certificate);
    assert!(connect(options.clone()).await.is_err(), "another name");
    options.domain = Some("agent.test".to_owned());
    options.connect_timeout = Duration::from_secs(60);
    connect(options).await.unwrap().command("true").run().await.unwrap();
}

#[tokio::test]
async fn nothing_there_is_unreachable() {
    let error = connect(Options::new(format!("127.0.0.1:{}", broker::free_port()))).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_goes_away_leaves_an_unknown_fate() {
    let (host, agent) = our_agent().await;
    let running = contract::sleeping(&host, Some(Duration::from_secs(10))).await;
    drop(agent);
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost { .. } | Error::Timeout { .. }), "{error:?}");
}
