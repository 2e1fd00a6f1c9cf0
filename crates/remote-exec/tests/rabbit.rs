//! The contract, kept by hosts behind oslo.messaging agents: real ones of several versions, and our own. One broker for
//! all tests of this program; every test has its own agent.

#[path = "common/broker.rs"]
#[allow(dead_code, reason = "other tests use the same file")]
mod broker;
#[path = "common/certificate.rs"]
mod certificate;
#[path = "common/contract.rs"]
#[allow(dead_code, reason = "every kind of host picks its rules")]
mod contract;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use amqprs::channel::{
    BasicConsumeArguments, QueueBindArguments, QueueDeclareArguments, QueueDeleteArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use broker::{Broker, Peer};
use remote_exec::rabbit::{Options, Uri};
use remote_exec::{Error, Host, Kind, Method, agent};

/// The broker that the tests share; it ends with the last of them.
fn shared() -> Arc<Broker> {
    static BROKER: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut slot: MutexGuard<'_, Weak<Broker>> = BROKER.lock().unwrap_or_else(|e| e.into_inner());
    slot.upgrade().unwrap_or_else(|| {
        let broker = Arc::new(Broker::start());
        *slot = Arc::downgrade(&broker);
        broker
    })
}

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("10.0.0.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn options(broker: &Broker, path: &str, host: &str) -> Options {
    Options::new(Uri::parse(&format!("{}{path}", broker.uri())).unwrap(), host)
}

async fn connect(options: Options) -> Result<Host, Error> {
    Host::connect(Method::Rabbit(options)).await
}

/// Ends the agent's task with the test, and removes what its commands left.
struct Ours(tokio::task::JoinHandle<()>, Option<Arc<Broker>>, #[expect(dead_code)] tempfile::TempDir);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Our own agent, ready.
async fn serve(broker: &Arc<Broker>, path: &str, host: &str) -> Ours {
    let uri = Uri::parse(&format!("{}{path}", broker.uri())).unwrap();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let mut options = agent::rabbit::ServeOptions::new(uri, host);
    let tmp = tempfile::tempdir().unwrap();
    options.tmp_dir = Some(tmp.path().to_owned());
    let task = tokio::spawn(async move {
        let ready = || {
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
        };
        agent::rabbit::serve(options, ready, std::future::pending()).await.unwrap();
    });
    is_ready.await.unwrap();
    Ours(task, Some(broker.clone()), tmp)
}

async fn our_agent() -> (Host, Ours) {
    let (broker, host) = (shared(), name());
    let agent = serve(&broker, "/", &host).await;
    (connect(options(&broker, "/", &host)).await.unwrap(), agent)
}

fn peer(venv: &str) -> (Arc<Broker>, String, Peer) {
    let (broker, host) = (shared(), name());
    let peer = Peer::start(venv, "oslo_agent.py", &[&format!("{}/", broker.uri()), "rds-dbinit", &host]);
    (broker, host, peer)
}

contract! { our_agent, "needs RabbitMQ; run: ./test";
    exit_status_is_the_programs stdout_and_stderr_stay_apart binary_output_arrives_unchanged hundred_megabytes_of_output
    arguments_arrive_unchanged raw_arguments_are_shell_text environment_and_directory_are_set missing_program_is_its_own_error
    secrets_are_in_no_process_list timeout_ends_the_whole_process_group dropped_call_ends_the_program
    kill_ends_the_process_group given_stdin_reaches_the_program slow_reader_gets_everything
    pipelines_tell_every_status output_goes_to_files_there output_beyond_the_limit_is_an_error
    many_commands_at_once files_can_be_worked_with umask_is_the_logins
}

/// What a real agent of any version must do; the contract's rules that are not about secrets.
async fn real_agent_keeps_the_contract(venv: &str) {
    let (broker, host, peer) = peer(venv);
    let mut options = options(&broker, "//", &host);
    let wary = connect(options.clone()).await.unwrap();
    let secret = wary.command("true").secret_env("PW", "s3cret".to_owned().into()).run().await;
    assert!(matches!(secret, Err(Error::Unsupported { .. })), "{secret:?}");
    options.trusted = true;
    let host = connect(options).await.unwrap();
    assert_eq!(host.kind(), Kind::Rabbit);
    contract::kept_by_a_trusted_agent(&host).await;
    host.close().await;
    assert_eq!(peer.left(), 0, "nothing is left there");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn real_agent_of_oslo_18_keeps_the_contract() {
    real_agent_keeps_the_contract("oslo").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn real_agent_of_oslo_12_keeps_the_contract() {
    real_agent_keeps_the_contract("oslo-12").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn real_agent_of_oslo_9_keeps_the_contract() {
    real_agent_keeps_the_contract("oslo-9").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn real_agent_of_oslo_5_with_its_old_reply_exchange_keeps_the_contract() {
    real_agent_keeps_the_contract("oslo-5").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn real_callers_are_served_by_our_agent() {
    let broker = shared();
    let host = name();
    let _agent = serve(&broker, "/vh1", &host).await;
    let uri = format!("{}/vh1", broker.uri());
    let call = |method: &str, cmd: &str| {
        let arguments = [&uri, "rds-dbinit", &host, method, cmd];
        let peer = tokio::task::block_in_place(|| Peer::start("oslo", "oslo_call.py", &arguments));
        serde_json::from_str::<serde_json::Value>(&peer.said).unwrap()
    };
    assert_eq!(
        call("common_cmd", "echo 1; echo err >&2; echo '\n2'")["result"],
        serde_json::json!(["1\n\n2\n", "err\n"])
    );
    assert_eq!(call("no_such", "x")["error"], "RemoteError");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn absent_agent_and_wrong_logins_are_known_at_once() {
    let broker = shared();
    let host = connect(options(&broker, "/", "10.9.9.9")).await.unwrap();
    let begun = Instant::now();
    let error = host.command("true").run().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    // Long before a command would have ended.
    assert!(begun.elapsed() < Duration::from_secs(30));
    let with = |uri: &str| Options::new(Uri::parse(uri).unwrap(), "h");
    let wrong = with(&format!("rabbit://me:wrong@127.0.0.1:{}/", broker.port()));
    let error = connect(wrong).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
    let error = connect(options(&broker, "/no-such-vhost", "h")).await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
    let nobody = with(&format!("rabbit://127.0.0.1:{}/", broker::free_port()));
    assert!(matches!(connect(nobody).await.unwrap_err(), Error::Unreachable { .. }));
    // The first host of the list that answers is used.
    let second =
        format!("rabbit://me:pa%20ss%40@127.0.0.1:{},127.0.0.1:{}/", broker::free_port(), broker.port());
    connect(with(&second)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and oslo.messaging; run: ./test"]
async fn agent_restarted_between_two_commands_is_no_problem() {
    let (broker, host, mut first) = peer("oslo");
    let connected = connect(options(&broker, "/", &host)).await.unwrap();
    connected.command("true").run().await.unwrap();
    first.kill();
    // The queue is still there, the agent is not; until the broker sees that, it takes commands for it. One that has answered
    // is waited for, so somebody else asks.
    let other = connect(options(&broker, "/", &host)).await.unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let error = other.command("true").timeout(Duration::from_secs(1)).run().await.unwrap_err();
        if matches!(error, Error::Unreachable { .. }) {
            break;
        }
        assert!(Instant::now() < end, "{error:?}");
    }
    let _second = Peer::start("oslo", "oslo_agent.py", &[&format!("{}/", broker.uri()), "rds-dbinit", &host]);
    connected.command("true").run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn broker_restart_loses_no_running_command_and_runs_none_twice() {
    let broker = Arc::new(Broker::start());
    let mut agent = serve(&broker, "/", "h").await;
    let host = connect(options(&broker, "/", "h")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = "echo x >>\"$1\"; sleep 8; echo done; exit 3";
    let call = host.command("sh").args(["-c", script, "sh"]).arg(dir.path().join("count")).output();
    let call = tokio::spawn(call);
    while !dir.path().join("count").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.1 = None;
    let broker = Arc::into_inner(broker).expect("nobody else has it");
    let _broker = tokio::task::spawn_blocking(|| broker.restart()).await.unwrap();
    let output = call.await.unwrap().unwrap();
    assert_eq!((output.text().as_str(), output.status.code()), ("done", 3));
    assert_eq!(std::fs::read(dir.path().join("count")).unwrap(), b"x\n");
    host.command("true").run().await.unwrap();
}

/// How long a command of the caller below goes on without it.
const LEASE: Duration = Duration::from_secs(5);

/// Calls for a test, in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the next test runs it"]
async fn caller_that_will_be_killed() {
    let variables = ["LEASE_URI", "LEASE_HOST", "LEASE_FILE"].map(std::env::var);
    let [Ok(uri), Ok(host), Ok(file)] = variables else { return };
    let mut options = Options::new(Uri::parse(&uri).unwrap(), host);
    options.lease = LEASE;
    let script = "echo $$ >\"$1.new\"; mv \"$1.new\" \"$1\"; exec sleep 100000";
    let host = connect(options).await.unwrap();
    host.command("sh").args(["-c", script, "sh"]).arg(file).run().await.unwrap();
}

/// Ends a process with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn command_of_a_caller_that_was_killed_is_ended_and_that_of_a_living_one_is_not() {
    let (broker, host) = (shared(), name());
    let _agent = serve(&broker, "/", &host).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut caller = std::process::Command::new(std::env::current_exe().unwrap());
    caller.args(["--exact", "caller_that_will_be_killed", "--include-ignored"]);
    caller.env("LEASE_URI", format!("{}/", broker.uri())).env("LEASE_HOST", &host).env("LEASE_FILE", &file);
    let mut caller = Killed(caller.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < end, "it does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = std::fs::read_to_string(&file).unwrap();
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    };
    let begun = Instant::now();
    while begun.elapsed() < 3 * LEASE {
        assert!(runs(), "its caller lives");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    caller.0.kill().unwrap();
    let killed = Instant::now();
    while runs() {
        assert!(killed.elapsed() < 10 * LEASE, "its caller is dead");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(killed.elapsed() > LEASE / 2, "the lease was not over");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn tls_protects_both_ways_to_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate::make(dir.path(), "localhost");
    let broker = Broker::start_at([127, 0, 0, 1].into(), Some((&certificate, &key)));
    let port = broker.tls.unwrap().port();
    let uri = |host: &str| Uri::parse(&format!("rabbits://me:pa%20ss%40@{host}:{port}/")).unwrap();
    let mut serving = agent::rabbit::ServeOptions::new(uri("localhost"), "h");
    serving.at.ca_file = Some(certificate.clone());
    let tmp = tempfile::tempdir().unwrap();
    serving.tmp_dir = Some(tmp.path().to_owned());
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let _agent = Ours(
        tokio::spawn(async move {
            let ready = || {
                let _ = ready.take().map(|ready| ready.send(()));
            };
            agent::rabbit::serve(serving, ready, std::future::pending()).await.unwrap();
        }),
        None,
        tmp,
    );
    is_ready.await.unwrap();
    let mut options = Options::new(uri("localhost"), "h");
    let patient = std::mem::replace(&mut options.connect_timeout, Duration::from_secs(5));
    assert!(connect(options.clone()).await.is_err(), "an unknown authority");
    options.at.ca_file = Some(certificate);
    let mut with_patience = options.clone();
    with_patience.connect_timeout = patient;
    let host = connect(with_patience).await.unwrap();
    assert_eq!(host.command("echo").arg("1").run().await.unwrap().text(), "1");
    host.close().await;
    options.at.uri = uri("127.0.0.1");
    assert!(connect(options.clone()).await.is_err(), "another name");
    options.at.uri = Uri { tls: false, ..uri("localhost") };
    assert!(connect(options).await.is_err(), "without TLS");
}

/// A connection of somebody else.
async fn stranger(broker: &Broker) -> (Connection, amqprs::channel::Channel) {
    let arguments = OpenConnectionArguments::new("127.0.0.1", broker.port(), "me", "pa ss@");
    let connection = Connection::open(&arguments).await.unwrap();
    let channel = connection.open_channel(None).await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn agent_whose_queue_was_deleted_makes_it_again() {
    let (broker, host) = (shared(), name());
    let _agent = serve(&broker, "/", &host).await;
    let connected = connect(options(&broker, "/", &host)).await.unwrap();
    connected.command("true").run().await.unwrap();
    let (_connection, channel) = stranger(&broker).await;
    channel.queue_delete(QueueDeleteArguments::new(&format!("rds-dbinit.{host}"))).await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(60), connected.command("true").run()).await;
    again.expect("it does not hang").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ; run: ./test"]
async fn caller_whose_reply_queue_was_deleted_asks_what_became_of_its_command() {
    let (broker, host) = (shared(), name());
    let _agent = serve(&broker, "/", &host).await;
    let connected = connect(options(&broker, "/", &host)).await.unwrap();
    // A queue that gets what the agent gets tells where the answers are to go.
    let (_connection, channel) = stranger(&broker).await;
    let copies = QueueDeclareArguments::new("").exclusive(true).auto_delete(true).finish();
    let (copies, _, _) = channel.queue_declare(copies).await.unwrap().unwrap();
    let key = format!("rds-dbinit.{host}");
    channel.queue_bind(QueueBindArguments::new(&copies, "greatrds", &key)).await.unwrap();
    let consume = BasicConsumeArguments::new(&copies, "").auto_ack(true).finish();
    let (_tag, mut messages) = channel.basic_consume_rx(consume).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = "cd \"$1\"; echo x >>count; until [ -e go ]; do sleep 0.1; done; echo done; exit 3";
    let call = connected.command("sh").args(["-c", script, "sh"]).arg(dir.path()).output();
    let call = tokio::spawn(call);
    let end = Instant::now() + Duration::from_secs(60);
    while !dir.path().join("count").exists() {
        assert!(Instant::now() < end, "it does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let copy = messages.recv().await.unwrap().content.unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&copy).unwrap();
    let request: serde_json::Value =
        serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap();
    let replies = request["_reply_q"].as_str().unwrap();
    channel.queue_delete(QueueDeleteArguments::new(replies)).await.unwrap();
    std::fs::write(dir.path().join("go"), "").unwrap();
    let output = tokio::time::timeout(Duration::from_secs(60), call).await.expect("it does not hang");
    let output = output.unwrap().unwrap();
    assert_eq!((output.text().as_str(), output.status.code()), ("done", 3));
    assert_eq!(std::fs::read(dir.path().join("count")).unwrap(), b"x\n", "it ran once");
}
