//! Streams from program to program, between hosts, checked and tried again.

#[path = "common/sshd.rs"]
#[allow(dead_code, unreachable_pub, reason = "the lab uses the same file")]
mod sshd;

use remote_exec::transfer::{self, Method, Options};
use remote_exec::{Error, Host};
use sshd::Sshd;

async fn by_ssh() -> (Host, Sshd) {
    let server = Sshd::start().unwrap();
    let mut options = remote_exec::ssh::Options::new("127.0.0.1");
    options.port = Some(server.port());
    options.identity = Some(server.identity());
    options.known_hosts = Some(server.known_hosts());
    options.config_file = Some("/dev/null".into());
    (Host::connect(remote_exec::Method::Ssh(options)).await.unwrap(), server)
}

/// The POSIX checksum, by the tool itself.
fn cksum(path: &std::path::Path) -> (u32, u64) {
    let output = std::process::Command::new("cksum").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split(' ');
    (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap())
}

fn sample(dir: &std::path::Path, bytes: u64) -> std::path::PathBuf {
    let path = dir.join("sample");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::copy(&mut std::io::Read::take(std::fs::File::open("/dev/urandom").unwrap(), bytes), &mut file)
        .unwrap();
    path
}

async fn arrives(from: &Host, to: &Host, options: &Options, expected: Method) {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (sample(dir.path(), 30_000_001), dir.path().join("it's there"));
    let sender = from.command("cat").arg(&source);
    let receiver = to.command("dd").arg("status=none").arg("bs=64k").stdout_to(&target);
    let mut seen = Vec::new();
    let moved = transfer::stream(from, &sender, to, &receiver, options, &mut |n| seen.push(n)).await.unwrap();
    assert_eq!((moved.method, moved.retries), (expected, 0));
    assert_eq!((moved.digest.crc, moved.digest.bytes), cksum(&target));
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
    assert_eq!(seen.last(), Some(&30_000_001));
    assert!(seen.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn local_stream_arrives() {
    let host = Host::local();
    arrives(&host, &host, &Options::default(), Method::Local).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn relayed_stream_arrives_between_every_two_hosts() {
    let (a, _a) = by_ssh().await;
    let (b, _b) = by_ssh().await;
    let options = Options::default();
    arrives(&a, &b, &options, Method::Relay).await;
    arrives(&a, &a, &options, Method::Local).await;
    arrives(&Host::local(), &b, &options, Method::Relay).await;
    arrives(&a, &Host::local(), &options, Method::Relay).await;
}

#[tokio::test]
async fn failing_programs_are_named_and_not_run_again() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { retries: 3, ..Options::default() };
    let counted = |script: &str| {
        let script = format!("echo x >>\"$1\"; {script}");
        host.command("sh").args(["-c", &script, "sh"]).arg(dir.path().join("count"))
    };
    let count = || std::fs::read(dir.path().join("count")).unwrap_or_default().len() / 2;
    let sender = counted("echo begun; echo why >&2; exit 3");
    let error = transfer::stream(&host, &sender, &host, &host.command("cat"), &options, &mut |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Failed { status, stderr_tail, .. } if status.code() == 3 && stderr_tail == "why"),
        "{error:?}"
    );
    assert_eq!(count(), 1);
    let zeros = host.command("cat").arg("/dev/zero");
    let receiver = counted("head -c 1000000 >/dev/null; echo full >&2; exit 5");
    let error = transfer::stream(&host, &zeros, &host, &receiver, &options, &mut |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::Failed { status, stderr_tail, .. } if status.code() == 5 && stderr_tail == "full"),
        "{error:?}"
    );
    assert_eq!(count(), 2);
    let missing = host.command("no-such-program");
    let error = transfer::stream(&host, &missing, &host, &host.command("cat"), &options, &mut |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoProgram { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd; run: ./test"]
async fn cut_connection_is_tried_again_and_never_looks_whole() {
    let (a, a_server) = by_ssh().await;
    let here = Host::local();
    let dir = tempfile::tempdir().unwrap();
    // Ends well only on a clean end of its input, as an unpacker would.
    let target = dir.path().join("target");
    let receiver =
        here.command("sh").args(["-c", "cat >\"$1.partial\" && echo end >>\"$1.ends\"", "sh"]).arg(&target);
    let sender =
        a.command("sh").args(["-c", "head -c 3000000 /dev/zero; sleep 0.5; head -c 3000000 /dev/zero"]);
    let cut = std::sync::Once::new();
    let options = Options {
        retries: 2,
        before_retry: Some(here.command("rm").arg(dir.path().join("target.partial"))),
        ..Options::default()
    };
    let mut progress = |_| cut.call_once(|| a_server.cut());
    let moved = transfer::stream(&a, &sender, &here, &receiver, &options, &mut progress).await.unwrap();
    assert_eq!((moved.digest.bytes, moved.retries), (6_000_000, 1));
    assert_eq!(std::fs::read(dir.path().join("target.ends")).unwrap(), b"end\n", "the cut one had no end");
}

#[tokio::test]
async fn rate_limit_is_kept() {
    let host = Host::local();
    let options = Options { rate_limit: Some(2_000_000), ..Options::default() };
    let sender = host.command("head").args(["-c", "1000000", "/dev/zero"]);
    let moved =
        transfer::stream(&host, &sender, &host, &host.command("cat").stdout_null(), &options, &mut |_| {})
            .await;
    assert!(moved.unwrap().elapsed.as_millis() >= 400);
}
