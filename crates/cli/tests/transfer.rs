//! `dbrecover send` and `receive`, and `unpack --sealed`: whole streams, cut ones, altered ones, and who is to blame.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command as Process, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use predicates::str::contains;
use rustix::net::sockopt::set_tcp_user_timeout;
use tempfile::{TempDir, tempdir};

const NAME: &str = "UTC20261120010203.004-inc";
const ONE: &str = "ds-db1-10.0.0.5-3306";

fn dbrecover(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command.args(arguments);
    command
}

/// A file with a server's stream, and the sealed stream of it.
fn stream() -> (TempDir, Vec<u8>) {
    let dir = tempdir().unwrap();
    let writer = xbstream::Writer::new(Vec::new());
    writer.append("ibdata1.delta", &[7; 1_000_000][..]).unwrap();
    writer.append("xtrabackup_checkpoints", &b"backup_type = incremental\n"[..]).unwrap();
    fs::write(dir.path().join("stream"), writer.finish().unwrap()).unwrap();
    let sealed = sealed(&dir, &[]);
    (dir, sealed)
}

fn sealed(dir: &TempDir, options: &[&str]) -> Vec<u8> {
    let output =
        dbrecover(&["send"]).args(options).arg("--file").arg(dir.path().join("stream")).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn unpack(dir: &TempDir, sealed: &[u8]) -> Output {
    let to = format!("{ONE}=data");
    let unpack = ["unpack", "--work-dir", "work", "--backup", NAME, "--no-sync", "--server", &to];
    let mut command = dbrecover(&unpack);
    command.args(["--sealed", "--format", "stream"]).current_dir(dir).write_stdin(sealed);
    command.output().unwrap()
}

#[test]
fn sealed_stream_of_a_server_is_unpacked_by_itself() {
    let (dir, plain) = stream();
    let zstd = sealed(&dir, &["--compress", "zstd"]);
    assert!(zstd.len() < plain.len() / 10, "{} of {} bytes", zstd.len(), plain.len());
    for stream in [plain, zstd] {
        let output = unpack(&dir, &stream);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(dir.path().join("data/ibdata1.delta")).unwrap(), [7; 1_000_000]);
        assert!(!dir.path().join("work").exists(), "nothing else of the backup was there");
        fs::remove_dir_all(dir.path().join("data")).unwrap();
    }
}

#[test]
fn stream_that_was_cut_or_altered_ends_with_75_and_leaves_nothing() {
    let (dir, sealed) = stream();
    let mut altered = sealed.clone();
    altered[500_000] ^= 1;
    // What does the unpacking stops at the first wrong checksum of the archive; the stream's own says that it came so.
    for broken in [&sealed[..0], &sealed[..10], &sealed[..700_000], &sealed[..sealed.len() - 1], &altered] {
        let output = unpack(&dir, broken);
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        assert!(!dir.path().join("data").exists() && !dir.path().join("data.unpack-partial").exists());
    }
}

#[test]
fn stream_of_another_transfer_ends_with_75_before_anything_is_made() {
    let (dir, by_hand) = stream();
    let path = dir.path().join("stream");
    let key = |command: &mut Command, key: Option<&str>| {
        command.envs(key.map(|key| ("DBRECOVER_TRANSFER_KEY", key)));
    };
    let mut send = dbrecover(&["send", "--file", path.to_str().unwrap()]);
    key(&mut send, Some("earlier"));
    let earlier = send.output().unwrap().stdout;
    for (given, stream) in [(Some("this"), &earlier), (Some("this"), &by_hand), (None, &earlier)] {
        let work = dir.path().join("work");
        let mut unpack =
            dbrecover(&["unpack", "--backup", NAME, "--sealed", "--format", "tar", "--work-dir"]);
        key(&mut unpack, given);
        let refused = unpack.arg(&work).write_stdin(stream.clone()).assert().code(75);
        refused.stderr(contains("not of this transfer"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made");
        let mut receive = dbrecover(&["receive"]);
        key(&mut receive, given);
        let refused = receive.write_stdin(stream.clone()).assert().code(75).stdout("");
        refused.stderr(contains("not of this transfer"));
    }
    let mut receive = dbrecover(&["receive"]);
    key(&mut receive, Some("earlier"));
    receive.write_stdin(earlier).assert().success().stdout(fs::read(path).unwrap());
}

#[test]
fn key_is_not_for_the_program_that_is_sent() {
    let mut send = dbrecover(&["send", "--", "env"]);
    let sent = send.env("DBRECOVER_TRANSFER_KEY", "this").output().unwrap();
    assert!(sent.status.success() && !sent.stdout.is_empty());
    assert!(!String::from_utf8_lossy(&sent.stdout).contains("DBRECOVER_TRANSFER_KEY"));
}

#[test]
fn damage_that_was_sent_is_damage() {
    let (dir, _) = stream();
    let path = dir.path().join("stream");
    let mut contents = fs::read(&path).unwrap();
    contents[500_000] ^= 1;
    fs::write(&path, contents).unwrap();
    let output = unpack(&dir, &sealed(&dir, &[]));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[test]
fn what_a_failing_program_wrote_is_not_sealed() {
    let sent = dbrecover(&["send", "--", "sh", "-c", "echo begun; exit 3"]).output().unwrap();
    assert_eq!(sent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&sent.stderr).contains("exit status: 3"), "{sent:?}");
    dbrecover(&["receive"]).write_stdin(sent.stdout).assert().code(75).stderr(contains("cut after 6 bytes"));
    dbrecover(&["receive"])
        .write_stdin("Welcome to db1\n")
        .assert()
        .code(75)
        .stderr(contains("Welcome to db1"));
    dbrecover(&["send", "--", "no-such-program"]).assert().code(1).stderr(contains("no-such-program"));
    dbrecover(&["send"]).assert().code(2);
}

/// Sends without end into what `connected` gives, and what receives it.
fn sends_for_ever<R>(connected: impl FnOnce() -> (OwnedFd, R), leave: impl FnOnce(R)) -> Option<i32> {
    let (output, receiver) = connected();
    let mut send = Process::new(env!("CARGO_BIN_EXE_dbrecover"))
        .args(["send", "--file", "/dev/zero"])
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    leave(receiver);
    send.wait().unwrap().code()
}

/// Both ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (sender, listener.accept().unwrap().0)
}

#[test]
fn receiver_that_goes_away_is_141() {
    // The kernel says EPIPE.
    let pipe = || {
        let (receiver, sender) = std::io::pipe().unwrap();
        (sender.into(), receiver)
    };
    assert_eq!(sends_for_ever(pipe, drop), Some(141));
    // ECONNRESET: what was sent is there, and is not read any more.
    let reset = || {
        let (sender, receiver) = connection();
        (sender.into(), receiver)
    };
    let read_some = |mut receiver: TcpStream| receiver.read_exact(&mut [0; 100]).unwrap();
    assert_eq!(sends_for_ever(reset, read_some), Some(141));
    // ETIMEDOUT: the other side is silent.
    let silent = || {
        let (sender, receiver) = connection();
        set_tcp_user_timeout(&sender, 300).unwrap();
        (sender.into(), receiver)
    };
    let (told, stays) = std::sync::mpsc::channel();
    assert_eq!(sends_for_ever(silent, |receiver| told.send(receiver).unwrap()), Some(141));
    drop(stays);
}

#[test]
fn source_that_cannot_be_read_is_no_receiver_that_went_away() {
    // Nothing is mapped at its beginning: EIO.
    dbrecover(&["send", "--file", "/proc/self/mem"]).assert().code(1).stderr(contains("Input/output error"));
    dbrecover(&["send", "--file", "/proc"]).assert().code(1).stderr(contains("Is a directory"));
}

#[test]
fn rate_limit_is_held_by_the_sender() {
    let (dir, _) = stream();
    let begun = Instant::now();
    sealed(&dir, &["--rate-limit", "2000000"]);
    assert!(begun.elapsed() >= Duration::from_millis(450));
}
