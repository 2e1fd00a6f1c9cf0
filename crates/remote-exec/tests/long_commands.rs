//! A command of two minutes that says nothing, on every kind of host at once: no keepalive, heartbeat or idle limit on the
//! way takes it for dead.

#[path = "common/broker.rs"]
#[allow(dead_code, reason = "other tests use the same file")]
mod broker;
#[path = "common/sshd.rs"]
#[allow(dead_code, unreachable_pub, reason = "the lab uses the same file")]
mod sshd;

use std::time::{Duration, Instant};

use broker::{Broker, Peer};
use remote_exec::{Host, Method, adm, agent, rabbit, ssh};

const LONG: Duration = Duration::from_secs(120);

/// What an agent hears of its caller is renewed in this time, over and over.
const LEASE: Duration = Duration::from_secs(30);

async fn by_ssh(server: &sshd::Sshd) -> Host {
    let mut options = ssh::Options::new("127.0.0.1");
    options.port = Some(server.port());
    options.identity = Some(server.identity());
    options.known_hosts = Some(server.known_hosts());
    options.config_file = Some("/dev/null".into());
    Host::connect(Method::Ssh(options)).await.unwrap()
}

async fn by_rabbit(broker: &Broker, name: &str) -> Host {
    let mut options = rabbit::Options::new(uri(broker), name);
    // Silence of two heartbeats ends a connection.
    options.at.heartbeat = Duration::from_secs(5);
    options.lease = LEASE;
    Host::connect(Method::Rabbit(options)).await.unwrap()
}

fn uri(broker: &Broker) -> rabbit::Uri {
    rabbit::Uri::parse(&format!("{}/", broker.uri())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd, RabbitMQ, oslo.messaging and grpcio; run: ./test"]
async fn silent_command_of_two_minutes_ends_as_it_should_on_every_host() {
    let server = sshd::Sshd::start().unwrap();
    let broker = Broker::start();
    let python =
        Peer::start("oslo", "oslo_agent.py", &[&format!("{}/", broker.uri()), "rds-dbinit", "python"]);
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/dbinit.proto");
    let grpc = Peer::start("grpc", "grpc_agent.py", &[proto]);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let options = agent::rabbit::ServeOptions::new(uri(&broker), "ours");
    let our_rabbit = tokio::spawn(async move {
        let ready = || {
            let _ = ready.take().map(|ready| ready.send(()));
        };
        agent::rabbit::serve(options, ready, std::future::pending()).await
    });
    is_ready.await.unwrap();
    let (ready, address) = tokio::sync::oneshot::channel();
    let our_adm = tokio::spawn(async move {
        let ready = |address| {
            let _ = ready.send(address);
        };
        let loopback = "127.0.0.1:0".parse().unwrap();
        agent::adm::serve(loopback, agent::adm::ServeOptions::default(), ready, std::future::pending()).await
    });
    let by_adm = |address: String| {
        let mut options = adm::Options::new(address);
        options.lease = LEASE;
        Host::connect(Method::Adm(options))
    };
    let hosts = [
        Host::local(),
        by_ssh(&server).await,
        by_rabbit(&broker, "ours").await,
        by_rabbit(&broker, "python").await,
        by_adm(address.await.unwrap().to_string()).await.unwrap(),
        by_adm(format!("127.0.0.1:{}", grpc.said)).await.unwrap(),
    ];
    let begun = Instant::now();
    let script = format!("sleep {}; echo done; exit 3", LONG.as_secs());
    let calls = hosts.iter().map(|host| host.command("sh").args(["-c", &script]).output());
    for (host, output) in hosts.iter().zip(futures_util::future::join_all(calls).await) {
        let output = output.unwrap_or_else(|error| panic!("{host:?}: {error}"));
        assert_eq!((output.text().as_str(), output.status.code()), ("done", 3), "{host:?}");
    }
    assert!(begun.elapsed() >= LONG);
    for host in hosts {
        host.close().await;
    }
    our_rabbit.abort();
    our_adm.abort();
    drop(python);
}
