//! Streams from program to program, between hosts, checked and tried again.

#[path = "common/sshd.rs"]
#[allow(dead_code, unreachable_pub, reason = "the lab uses the same file")]
mod sshd;

use remote_exec::transfer::{self, Check, Method, Options, Scp, Socat};
use remote_exec::{Error, Host};
use sshd::{Sshd, TemporaryUser};

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
async fn receiver_may_say_more_than_a_pipe_holds() {
    let host = Host::local();
    let sender = host.command("head").args(["-c", "3000000", "/dev/zero"]);
    for options in [Options::default(), but(Options::default(), |o| o.check = Check::SealingStage)] {
        let script = match options.check {
            Check::Stages => "head -c 1000000 /dev/zero; cat",
            _ => "head -c 1000000 /dev/zero; exec \"$1\" receive",
        };
        let receiver = host.command("sh").args(["-c", script, "sh"]).arg(seal());
        let mut seen = |_| {};
        let moving = transfer::stream(&host, &sender, &host, &receiver, &options, &mut seen);
        let moved = tokio::time::timeout(std::time::Duration::from_secs(60), moving).await;
        assert_eq!(moved.expect("it does not hang").unwrap().digest.bytes, 3_000_000);
    }
}

#[tokio::test]
async fn failing_programs_are_named_and_not_run_again() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let options = but(Options::default(), |o| o.retries = 3);
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
    let options = but(Options::default(), |o| {
        o.retries = 2;
        o.before_retry = Some(here.command("rm").arg(dir.path().join("target.partial")));
    });
    let mut progress = |_| cut.call_once(|| a_server.cut());
    let moved = transfer::stream(&a, &sender, &here, &receiver, &options, &mut progress).await.unwrap();
    assert_eq!((moved.digest.bytes, moved.retries), (6_000_000, 1));
    assert_eq!(std::fs::read(dir.path().join("target.ends")).unwrap(), b"end\n", "the cut one had no end");
}

#[tokio::test]
async fn rate_limit_is_kept() {
    let host = Host::local();
    let options = but(Options::default(), |o| o.rate_limit = Some(2_000_000));
    let sender = host.command("head").args(["-c", "1000000", "/dev/zero"]);
    let moved =
        transfer::stream(&host, &sender, &host, &host.command("cat").stdout_null(), &options, &mut |_| {})
            .await;
    assert!(moved.unwrap().elapsed.as_millis() >= 400);
}

/// `options` after a change.
fn but(mut options: Options, change: impl FnOnce(&mut Options)) -> Options {
    change(&mut options);
    options
}

fn socat(dir: &std::path::Path) -> Options {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().min(65_000);
    let socat = Socat {
        port,
        retries: 10,
        to: "127.0.0.1".into(),
        from: Some("127.0.0.1".into()),
        log_dir: dir.join("socat_log"),
    };
    but(Options::default(), |o| {
        o.method = Method::Socat;
        o.socat = Some(socat);
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd and socat; run: ./test"]
async fn socat_stream_arrives_on_the_next_free_port_and_leaves_its_log() {
    let (a, _a) = by_ssh().await;
    let (b, _b) = by_ssh().await;
    let dir = tempfile::tempdir().unwrap();
    let options = socat(dir.path());
    let taken = std::net::TcpListener::bind(("127.0.0.1", options.socat.as_ref().unwrap().port));
    let dir_of_file = tempfile::tempdir().unwrap();
    let source = sample(dir_of_file.path(), 30_000_001);
    let target = dir_of_file.path().join("there");
    let sender = a.command("cat").arg(&source);
    let receiver = b.command("cat").stdout_to(&target);
    let moved = transfer::stream(&a, &sender, &b, &receiver, &options, &mut |_| {}).await.unwrap();
    assert_eq!((moved.method, moved.retries), (Method::Socat, 0));
    assert_eq!((moved.digest.crc, moved.digest.bytes), cksum(&target));
    assert!(taken.is_ok());
    let day = std::fs::read_dir(dir.path().join("socat_log")).unwrap().next().unwrap().unwrap().path();
    let mut logs: Vec<_> = std::fs::read_dir(&day).unwrap().map(|e| e.unwrap().path()).collect();
    logs.sort();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().any(|l| std::fs::read_to_string(l).unwrap().contains("Address already in use")));
    let auto = but(options, |o| o.method = Method::Auto);
    let moved = transfer::stream(&a, &sender, &b, &receiver, &auto, &mut |_| {}).await.unwrap();
    assert_eq!(moved.method, Method::Socat);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs socat; run: ./test"]
async fn socat_takes_no_connection_from_elsewhere_and_a_failing_program_is_named() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let mut options = socat(dir.path());
    let socat = options.socat.as_mut().unwrap();
    socat.from = Some("192.0.2.1".into());
    socat.retries = 2;
    options.timeout = Some(std::time::Duration::from_secs(20));
    let sender = host.command("head").args(["-c", "1000000", "/dev/zero"]);
    let ends = dir.path().join("ends");
    let receiver = host.command("sh").args(["-c", "cat >/dev/null && echo end >>\"$1\"", "sh"]).arg(&ends);
    let error = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Transfer { .. }), "{error:?}");
    assert!(!ends.exists(), "the receiver never saw an end");
    options.socat.as_mut().unwrap().from = None;
    transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap();
    assert!(ends.exists());
    let failing = host.command("sh").args(["-c", "echo begun; exit 3"]);
    let error = transfer::stream(&host, &failing, &host, &receiver, &options, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Failed { status, .. } if status.code() == 3), "{error:?}");
    let full = host.command("sh").args(["-c", "head -c 10 >/dev/null; echo full >&2; exit 5"]);
    let error = transfer::stream(&host, &sender, &host, &full, &options, &mut |_| {}).await.unwrap_err();
    assert!(matches!(&error, Error::Failed { status, .. } if status.code() == 5), "{error:?}");
}

/// Kills the process that has these words in its arguments, `after` a while. A receiver of a sealed stream has the process
/// number of its socat, so it is killed here too.
fn killer(words: String, after: std::time::Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let text = String::from_utf8_lossy(&cmdline).into_owned();
                if text.starts_with("socat\0") && text.contains(&words) {
                    tokio::time::sleep(after).await;
                    let pid = entry.file_name().to_str().unwrap().parse().unwrap();
                    let pid = rustix::process::Pid::from_raw(pid).unwrap();
                    return rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
}

async fn killed_receiver_is_tried_again(check: Check) {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let mut options = but(socat(dir.path()), |o| o.check = check);
    options.retries = 2;
    let port = options.socat.as_ref().unwrap().port;
    let sender =
        host.command("sh").args(["-c", "head -c 3000000 /dev/zero; sleep 2; head -c 3000000 /dev/zero"]);
    let ends = dir.path().join("ends");
    let receiver = match check {
        Check::Stages => host.command("sh").args(["-c", "cat >/dev/null && echo end >>\"$1\"", "sh"]),
        _ => host.command("bash").args([
            "-c",
            "set -o pipefail; \"$2\" receive | cat >/dev/null && echo end >>\"$1\"",
            "bash",
        ]),
    };
    let receiver = receiver.arg(&ends).arg(seal());
    let killer = killer(format!("tcp4-listen:{port},"), std::time::Duration::from_millis(700));
    let moved = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap();
    killer.await.unwrap();
    assert_eq!((moved.digest.bytes, moved.retries), (6_000_000, 1));
    assert_eq!(std::fs::read(&ends).unwrap(), b"end\n", "the cut one had no end");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs socat; run: ./test"]
async fn killed_receiving_socat_is_tried_again_and_never_looks_whole() {
    killed_receiver_is_tried_again(Check::Stages).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs socat; run: ./test"]
async fn killed_receiver_of_a_sealed_stream_is_tried_again_and_never_looks_whole() {
    killed_receiver_is_tried_again(Check::SealingStage).await;
}

/// The example of this crate that seals and opens streams.
fn seal() -> std::path::PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples/seal")
}

/// Who seals, and the program that sends this file then.
fn sealed_by(check: Check, from: &Host, source: &std::path::Path) -> remote_exec::Command {
    match check {
        Check::SealingStage => from.command("cat").arg(source),
        // A quote, a line end and more blanks than one must get there through everything on the way.
        _ => from.command("sh").args(["-c", "exec \"$1\" send <\"$2\"", "it's  \n"]).arg(seal()).arg(source),
    }
}

/// How to log in to this server by key.
fn scp(server: &Sshd, dir: std::path::PathBuf) -> Scp {
    Scp {
        to: "127.0.0.1".into(),
        port: Some(server.port()),
        user: None,
        password: None,
        identity: Some(server.identity()),
        known_hosts: Some(server.known_hosts()),
        accept_new_host_keys: false,
        dir,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd and socat; run: ./test"]
async fn sealed_streams_arrive_by_every_way() {
    let (a, _a) = by_ssh().await;
    let (b, b_server) = by_ssh().await;
    let here = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (sample(dir.path(), 10_000_001), dir.path().join("it's\nthere"));
    let scp = scp(&b_server, dir.path().join("it's work"));
    for method in [Method::Relay, Method::Socat, Method::Scp] {
        for check in [Check::SealingStage, Check::Sealed] {
            for (from, to) in [(&a, &b), (&here, &b), (&a, &here)] {
                let options = but(socat(dir.path()), |o| {
                    o.method = method;
                    o.check = check;
                    o.scp = Some(scp.clone());
                });
                let sender = sealed_by(check, from, &source);
                let receiver = to.command(seal()).arg("receive").stdout_to(&target);
                let moved = transfer::stream(from, &sender, to, &receiver, &options, &mut |_| {}).await;
                let moved = moved.unwrap_or_else(|e| panic!("{method} {check:?} {from:?} {to:?}: {e}"));
                assert_eq!((moved.method, moved.retries), (method, 0), "{check:?}");
                let (crc, bytes) = cksum(&source);
                assert_eq!(moved.digest.bytes, bytes, "{method} {check:?}");
                // Programs that seal by themselves compute another one.
                assert_eq!(moved.digest.crc == crc, check == Check::SealingStage, "{method} {check:?}");
                assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
                std::fs::remove_file(&target).unwrap();
            }
        }
    }
    assert_eq!(std::fs::read_dir(dir.path().join("it's work")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn sealed_stream_that_was_cut_is_sent_again_and_never_looks_whole() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    // The first time only a part of the sealed stream is let through.
    let script = "cd \"$1\"; if [ -e begun ]; then exec \"$2\" send </etc/passwd; fi; : >begun; \
                  head -c 1000000 /dev/zero | \"$2\" send | head -c 500000";
    let sender = host.command("sh").args(["-c", script, "sh"]).arg(dir.path()).arg(seal());
    let ends = dir.path().join("ends");
    let receiver = host.command("bash");
    let receiver = receiver.args(["-c", "\"$2\" receive >/dev/null || exit; echo end >>\"$1\"", "bash"]);
    let receiver = receiver.arg(&ends).arg(seal());
    let options = but(Options::default(), |o| {
        o.retries = 2;
        o.check = Check::Sealed;
    });
    let moved = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap();
    assert_eq!(moved.retries, 1);
    assert_eq!(moved.digest.bytes, std::fs::metadata("/etc/passwd").unwrap().len());
    assert_eq!(std::fs::read(&ends).unwrap(), b"end\n");
}

#[tokio::test]
async fn failing_ends_of_a_sealed_stream_are_named_and_not_run_again() {
    let host = Host::local();
    let options = but(Options::default(), |o| {
        o.retries = 3;
        o.check = Check::SealingStage;
    });
    let run = async |sender: &str, receiver: &str| {
        let (sender, receiver) =
            (host.command("sh").args(["-c", sender]), host.command("sh").args(["-c", receiver]));
        transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap_err()
    };
    let receive = format!("exec {} receive >/dev/null", seal().display());
    let error = run("echo begun; echo why >&2; exit 3", &receive).await;
    assert!(
        matches!(&error, Error::Failed { status, stderr_tail, .. } if status.code() == 3 && stderr_tail == "why"),
        "{error:?}"
    );
    let error = run("cat /dev/zero", "head -c 1000000 >/dev/null; echo full >&2; exit 5").await;
    assert!(
        matches!(&error, Error::Failed { status, stderr_tail, .. } if status.code() == 5 && stderr_tail == "full"),
        "{error:?}"
    );
    // Something that writes into the stream is shown, and tried again in vain.
    let options = but(Options::default(), |o| {
        o.retries = 1;
        o.check = Check::Sealed;
    });
    let (sender, receiver) =
        (host.command("echo").arg("Welcome to db1"), host.command(seal()).arg("receive"));
    let error = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::Transfer { attempts: 2, detail, .. } if detail.contains("Welcome to db1")),
        "{error:?}"
    );
}

/// A PATH whose `socat` connects only when this file is there.
fn late_socat(dir: &std::path::Path, go: &std::path::Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nuntil [ -e '{}' ]; do sleep 0.02; done\nPATH='{path}' exec socat \"$@\"\n",
        go.display()
    );
    let late = dir.join("late");
    std::fs::create_dir_all(&late).unwrap();
    std::fs::write(late.join("socat"), script).unwrap();
    std::fs::set_permissions(late.join("socat"), std::fs::Permissions::from_mode(0o700)).unwrap();
    format!("{}:{path}", late.display())
}

/// Sends this to the first that listens according to the logs in `dir`, and makes the file `go` when it was read or
/// refused.
fn first_there(
    port: u16,
    logs: std::path::PathBuf,
    stream: Vec<u8>,
    go: std::path::PathBuf,
) -> tokio::task::JoinHandle<()> {
    use std::io::{Read as _, Write as _};
    let listens = move || {
        let days = std::fs::read_dir(&logs).into_iter().flatten().flatten();
        let mut files = days.flat_map(|day| std::fs::read_dir(day.path()).unwrap()).flatten();
        files.any(|log| std::fs::read_to_string(log.path()).unwrap_or_default().contains("listening on"))
    };
    tokio::task::spawn_blocking(move || {
        while !listens() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = connection.write_all(&stream);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        while matches!(connection.read(&mut [0; 1000]), Ok(1..)) {}
        std::fs::write(go, "").unwrap();
    })
}

/// What a sealed stream of somebody else becomes that is there first.
async fn stranger_is_refused(stream: Vec<u8>) {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let mut options = but(socat(dir.path()), |o| {
        o.check = Check::Sealed;
        o.retries = 2;
    });
    let socat = options.socat.as_mut().unwrap();
    socat.retries = 2;
    let (go, target) = (dir.path().join("go"), dir.path().join("there"));
    let stranger = first_there(socat.port, socat.log_dir.clone(), stream, go.clone());
    let source = sample(dir.path(), 1_000_001);
    let sender = sealed_by(Check::Sealed, &host, &source).env("PATH", late_socat(dir.path(), &go));
    // Whatever looks whole is there in the end.
    let receiver =
        host.command("sh").args(["-c", "\"$2\" receive >\"$1.new\" && cat \"$1.new\" >>\"$1\"", "sh"]);
    let receiver = receiver.arg(&target).arg(seal());
    let moved = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap();
    stranger.await.unwrap();
    assert_eq!(moved.retries, 1, "the stranger was there first");
    assert!(
        std::fs::read(&target).unwrap() == std::fs::read(&source).unwrap(),
        "only what was sent is there"
    );
}

/// A stream of `seal send`, by itself.
fn sealed_alone(contents: &str, key: Option<&str>) -> Vec<u8> {
    use std::io::Write as _;
    let mut send = std::process::Command::new(seal());
    send.arg("send").envs(key.map(|key| ("DBRECOVER_TRANSFER_KEY", key)));
    let piped = std::process::Stdio::piped;
    let mut send = send.stdin(piped()).stdout(piped()).spawn().unwrap();
    send.stdin.take().unwrap().write_all(contents.as_bytes()).unwrap();
    send.wait_with_output().unwrap().stdout
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs socat; run: ./test"]
async fn sealed_stream_of_a_stranger_who_connects_first_never_looks_whole() {
    stranger_is_refused(sealed_alone("of nobody", None)).await;
    stranger_is_refused(sealed_alone("of another transfer", Some(&"0".repeat(64)))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs socat; run: ./test"]
async fn stream_of_an_earlier_attempt_that_is_sent_again_never_looks_whole() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let (source, copy) = (sample(dir.path(), 100_001), dir.path().join("copy"));
    let sender = host.command("sh").args(["-c", "\"$1\" send <\"$2\" | tee \"$3\"", "sh"]);
    let sender = sender.arg(seal()).arg(&source).arg(&copy);
    let receiver = host.command(seal()).arg("receive").stdout_null();
    let options = but(socat(dir.path()), |o| o.check = Check::Sealed);
    transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await.unwrap();
    let recorded = std::fs::read(copy).unwrap();
    assert!(recorded.len() > 100_001);
    stranger_is_refused(recorded).await;
}

#[tokio::test]
async fn receiver_that_took_something_else_is_named_wherever_it_says_so_and_not_run_again() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let options = but(Options::default(), |o| {
        o.check = Check::SealingStage;
        o.retries = 3;
    });
    let sender = host.command("echo").arg("x");
    let (count, words) = (dir.path().join("count"), dir.path().join("words"));
    let receiver = |says: &str| {
        let script = format!("echo x >>\"$1\"; cat >/dev/null; {says}");
        host.command("sh").args(["-c", &script, "sh"]).arg(&count)
    };
    let other = || receiver("echo a line >&2; echo @dbrecover-digest 1 2 >&2");
    for receiver in [other(), other().stderr_to("words").current_dir(dir.path())] {
        let result = transfer::stream(&host, &sender, &host, &receiver, &options, &mut |_| {}).await;
        assert!(
            matches!(&result, Err(Error::Mistaken { received, .. }) if received.bytes == 2),
            "{result:?}"
        );
    }
    assert!(words.exists());
    let result = transfer::stream(&host, &sender, &host, &receiver(":"), &options, &mut |_| {}).await;
    assert!(
        matches!(&result, Err(Error::Agent { detail, .. }) if detail.contains("the receiver")),
        "{result:?}"
    );
    // What a file holds that its owner reads by himself is not repeated.
    let refusing = receiver("echo progress >&2; echo why >&2; exit 75").stderr_to(&words);
    let options = but(options, |o| o.retries = 0);
    let result = transfer::stream(&host, &sender, &host, &refusing, &options, &mut |_| {}).await;
    assert!(
        matches!(&result, Err(Error::Transfer { detail, .. }) if detail.ends_with(": why")),
        "{result:?}"
    );
    assert_eq!(std::fs::read(&count).unwrap().len(), 2 * 4);
}

#[tokio::test]
async fn limit_that_nobody_would_hold_is_refused() {
    let host = Host::local();
    let dir = tempfile::tempdir().unwrap();
    let cat = host.command("cat");
    for check in [Check::Stages, Check::SealingStage] {
        let options = but(socat(dir.path()), |o| {
            o.rate_limit = Some(1);
            o.check = check;
        });
        let result = transfer::stream(&host, &cat, &host, &cat, &options, &mut |_| {}).await;
        assert!(matches!(result, Err(Error::Unsupported { .. })), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd and root; run: ./test"]
async fn scp_stream_arrives_with_key_and_with_password() {
    let (a, _a) = by_ssh().await;
    let (b, b_server) = by_ssh().await;
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), 10_000_001);
    let target = dir.path().join("there");
    let sender = a.command("cat").arg(&source);
    let receiver = b.command("cat").stdout_to(&target);
    let work = dir.path().join("it's work");
    let mut scp = scp(&b_server, work.clone());
    let options = |scp: &Scp| {
        but(Options::default(), |o| {
            o.method = Method::Scp;
            o.scp = Some(scp.clone());
        })
    };
    let moved = transfer::stream(&a, &sender, &b, &receiver, &options(&scp), &mut |_| {}).await.unwrap();
    assert_eq!(
        (moved.method, moved.digest.crc, moved.digest.bytes),
        (Method::Scp, cksum(&target).0, 10_000_001)
    );
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "nothing is left");

    let user = TemporaryUser::new("pa ss'w$rd").unwrap();
    scp.identity = None;
    scp.user = Some(user.name.clone());
    scp.password = Some("wrong".to_owned().into());
    let error = transfer::stream(&a, &sender, &b, &receiver, &options(&scp), &mut |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::Transfer { detail, .. } if detail.contains("Permission denied")),
        "{error:?}"
    );
    // As that user on both ways: the FIFO is its own.
    let mut by_user = remote_exec::ssh::Options::new("127.0.0.1");
    by_user.port = Some(b_server.port());
    by_user.known_hosts = Some(b_server.known_hosts());
    by_user.config_file = Some("/dev/null".into());
    by_user.user = Some(user.name.clone());
    by_user.password = Some(user.password.clone().into());
    let b = Host::connect(remote_exec::Method::Ssh(by_user)).await.unwrap();
    scp.password = Some(user.password.clone().into());
    scp.dir = b.command("sh").args(["-c", "echo \"$HOME\""]).run().await.unwrap().text().into();
    let receiver = b.command("cksum").stdout_to(scp.dir.join("sum"));
    let moved = transfer::stream(&a, &sender, &b, &receiver, &options(&scp), &mut |_| {}).await.unwrap();
    assert_eq!(moved.digest.bytes, 10_000_001);
}
