//! `dbrecover aescrypt` as a user meets it: names, exit codes, what is left behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::{TempDir, tempdir};

fn dbrecover(dir: &TempDir) -> Command {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command.current_dir(dir).env("DBRECOVER_PASSWORD", "secret").arg("aescrypt");
    command
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn default_names_add_and_take_off_the_suffix() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    fs::write(dir.path().join("b.txt"), "two").unwrap();
    dbrecover(&dir).args(["-e", "a", "b.txt"]).assert().success().stdout("");
    assert_eq!(names(dir.path()), ["a", "a.aes", "b.txt", "b.txt.aes"]);
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::remove_file(dir.path().join("b.txt")).unwrap();
    dbrecover(&dir).args(["-d", "a.aes", "b.txt.aes"]).assert().success().stdout("");
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"one");
    assert_eq!(fs::read(dir.path().join("b.txt")).unwrap(), b"two");
}

#[test]
fn dash_is_a_pipe_on_both_sides() {
    let dir = tempdir().unwrap();
    for format in ["2", "3"] {
        let secret = dbrecover(&dir)
            .args(["-e", "--format", format, "--iterations", "100", "-"])
            .write_stdin("through a pipe")
            .assert()
            .success();
        let secret = secret.get_output().stdout.clone();
        assert_eq!(&secret[..4], [b'A', b'E', b'S', format.as_bytes()[0] - b'0']);
        dbrecover(&dir).args(["-d", "-"]).write_stdin(secret).assert().success().stdout("through a pipe");
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn output_can_be_named_and_can_be_a_pipe() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    dbrecover(&dir).args(["-e", "-o", "x", "a"]).assert().success();
    dbrecover(&dir).args(["-d", "-o", "-", "x"]).assert().success().stdout("one");
    dbrecover(&dir).args(["-d", "--out", "y", "x"]).assert().success().stdout("");
    assert_eq!(names(dir.path()), ["a", "x", "y"]);
}

#[test]
fn wrong_password_is_damage_and_leaves_the_existing_output() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    dbrecover(&dir).args(["-e", "a"]).assert().success();
    fs::write(dir.path().join("a"), "older").unwrap();
    dbrecover(&dir)
        .env("DBRECOVER_PASSWORD", "wrong")
        .args(["-d", "a.aes"])
        .assert()
        .code(5)
        .stdout("")
        .stderr(contains("decrypting a.aes: wrong password").and(contains("hint: ")));
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"older");
    assert_eq!(names(dir.path()), ["a", "a.aes"]);
}

#[test]
fn damaged_truncated_and_foreign_files_are_told_apart() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), vec![7; 1_000_000]).unwrap();
    dbrecover(&dir).args(["-e", "a"]).assert().success();
    let whole = fs::read(dir.path().join("a.aes")).unwrap();
    let mut damaged = whole.clone();
    damaged[500_000] ^= 1;
    for (bytes, said) in [
        (&damaged[..], "does not match its HMAC"),
        (&whole[..700_001], "ends too early, at byte 700001"),
        (b"PK\x03\x04 and more", "not an AES Crypt stream"),
        (b"AES\x09 and more", "version 9 is not supported"),
    ] {
        fs::write(dir.path().join("b.aes"), bytes).unwrap();
        dbrecover(&dir).args(["-d", "b.aes"]).assert().code(5).stderr(contains(said));
        assert_eq!(names(dir.path()), ["a", "a.aes", "b.aes"]);
    }
}

#[test]
fn password_file_gives_its_first_line() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("pw"), "secret\nnot this\n").unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    dbrecover(&dir).args(["-e", "a"]).assert().success();
    dbrecover(&dir)
        .env("DBRECOVER_PASSWORD", "wrong")
        .args(["-d", "--password-file", "pw", "-o", "-", "a.aes"])
        .assert()
        .success()
        .stdout("one")
        .stderr("");
}

#[test]
fn password_on_the_command_line_works_with_a_warning_on_stderr() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    dbrecover(&dir)
        .args(["-e", "-p", "other", "a"])
        .assert()
        .success()
        .stdout("")
        .stderr(contains("warning: a password on the command line").and(contains("other").not()));
    dbrecover(&dir).args(["-d", "-o", "-", "a.aes"]).assert().code(5);
}

#[test]
fn wrong_usage_is_exit_code_2_and_touches_nothing() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "one").unwrap();
    for (args, said) in [
        (&["a"][..], "--decrypt|--encrypt"),
        (&["-d", "-e", "a"], "cannot be used with"),
        (&["-d", "a"], "a does not end in .aes"),
        (&["-d", "-o", "x", "a.aes", "b.aes"], "-o takes one FILE"),
        (&["-e", "-o", "a", "a"], "input and output are the same file"),
        (&["-e", "-o", "/dev/null", "a"], "/dev/null is not a regular file"),
        (&["-e", "--format", "3", "--iterations", "0", "a"], "0 key derivation iterations"),
    ] {
        dbrecover(&dir).args(args).assert().code(2).stderr(contains(said));
    }
    dbrecover(&dir)
        .env_remove("DBRECOVER_PASSWORD")
        .args(["-e", "a"])
        .assert()
        .code(2)
        .stderr(contains("no password"));
    assert_eq!(names(dir.path()), ["a"]);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"one");
}

#[test]
fn output_that_is_the_input_is_refused_through_redirections_as_well() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "one").unwrap();
    let run = |args: &[&str], input: Stdio, output: Stdio| {
        let done = Process::new(assert_cmd::cargo::cargo_bin("dbrecover"))
            .args(["aescrypt", "-e"])
            .args(args)
            .current_dir(&dir)
            .env("DBRECOVER_PASSWORD", "secret")
            .stdin(input)
            .stdout(output)
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("input and output are the same file"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
    };
    let open = || Stdio::from(fs::File::open(&path).unwrap());
    let append = || Stdio::from(fs::OpenOptions::new().append(true).open(&path).unwrap());
    run(&["-o", "a", "-"], open(), Stdio::null());
    run(&["-"], open(), append());
    run(&["-o", "-", "a"], Stdio::null(), append());
    assert_eq!(names(dir.path()), ["a"]);
}

#[test]
fn missing_input_is_named() {
    let dir = tempdir().unwrap();
    dbrecover(&dir).args(["-d", "none.aes"]).assert().code(1).stderr(contains("opening none.aes failed"));
}

#[test]
fn signal_ends_with_its_code_and_leaves_no_temporary_file() {
    let dir = tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let mut child = Process::new(assert_cmd::cargo::cargo_bin("dbrecover"))
            .args(["aescrypt", "-e", "-o", "out", "-"])
            .current_dir(&dir)
            .env("DBRECOVER_PASSWORD", "secret")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[1; 4096]).unwrap();
        while !names(dir.path()).iter().any(|name| name.ends_with(".partial")) {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let kill = Process::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        drop(stdin);
        assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
    }
}
