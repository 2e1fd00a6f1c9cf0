//! A standard stream that is closed when a program begins: no empty input, and no place to write to.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::{TempDir, tempdir};

const DBRECOVER: &str = env!("CARGO_BIN_EXE_dbrecover");
const MYROCKS: &str = env!("CARGO_BIN_EXE_myrocks-hotbackup");

/// A directory with a file, an archive of it, and it encrypted and sealed.
fn place() -> TempDir {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "contents").unwrap();
    for (command, redirection) in [
        ("xbstream -c file", ">archive"),
        ("aescrypt -e -o file.aes file", ""),
        ("send --file file", ">sealed 2>/dev/null"),
    ] {
        let done = run(dir.path(), DBRECOVER, command, redirection);
        assert!(done.status.success(), "{command}: {done:?}");
    }
    dir
}

/// Runs a command as a shell does.
fn run(dir: &Path, program: &str, command: &str, redirection: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" {command} {redirection}"), program]).current_dir(dir);
    shell.env("DBRECOVER_PASSWORD", "secret").env_remove("MYROCKS_BACKUP_KEY").output().unwrap()
}

fn refused(dir: &Path, program: &str, command: &str, redirection: &str, stream: &str) {
    let done = run(dir, program, command, redirection);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{command} {redirection}: {said}");
    assert!(said.contains(&format!("{stream} was closed when the program began")), "{command}: {said}");
}

#[test]
fn closed_input_is_refused_by_whatever_reads_a_stream() {
    let dir = place();
    for (program, command) in [
        (DBRECOVER, "aescrypt -e -"),
        (DBRECOVER, "aescrypt -d -o out -"),
        (DBRECOVER, "xbstream -x -C out"),
        (DBRECOVER, "xbstream -t"),
        (DBRECOVER, "receive"),
        (DBRECOVER, "unpack --work-dir out --backup UTC20261120010203.004-full"),
        (DBRECOVER, "unpack --work-dir out --backup UTC20261120010203.004-full --sealed"),
        (MYROCKS, "restore --from - --datadir out"),
        (MYROCKS, "verify -"),
    ] {
        refused(dir.path(), program, command, "0<&-", "standard input");
        assert!(!dir.path().join("out").exists(), "{command}");
    }
}

#[test]
fn closed_output_is_refused_by_whatever_writes_a_stream() {
    let dir = place();
    for (program, command) in [
        (DBRECOVER, "aescrypt -e -o - file"),
        (DBRECOVER, "aescrypt -d -o - file.aes"),
        (DBRECOVER, "aescrypt -e - <file"),
        (DBRECOVER, "xbstream -c file"),
        (DBRECOVER, "send --file file"),
        (DBRECOVER, "receive <sealed"),
        (MYROCKS, "-S /nowhere/socket -c /nowhere/snapshots"),
    ] {
        refused(dir.path(), program, command, "1>&-", "standard output");
    }
}

#[test]
fn closed_output_is_nothing_to_a_command_that_writes_text() {
    let dir = place();
    let done = run(dir.path(), DBRECOVER, "xbstream -x -C out --json <archive", "1>&-");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(std::fs::read(dir.path().join("out/file")).unwrap(), b"contents");
}

#[test]
fn null_device_that_was_asked_for_is_a_stream_like_any_other() {
    let dir = place();
    for input in ["</dev/null", "0<>/dev/null"] {
        let done = run(dir.path(), DBRECOVER, "aescrypt -e -o out -", input);
        assert!(done.status.success(), "{input}: {done:?}");
        assert!(dir.path().join("out").exists());
        std::fs::remove_file(dir.path().join("out")).unwrap();
    }
    for output in [">/dev/null", "1<>/dev/null"] {
        let done = run(dir.path(), DBRECOVER, "aescrypt -d -o - file.aes", output);
        assert!(done.status.success(), "{output}: {done:?}");
    }
}

/// Runs a command whose output nobody reads.
fn unread(dir: &Path, command: &str) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" {command}"), DBRECOVER]).current_dir(dir).stdout(writer);
    shell.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn failure_keeps_its_exit_code_whatever_becomes_of_its_words() {
    let dir = place();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let gone = "--config-file gone.conf";
    let store = "[backup-store]\ndir = /nonexistent/store\n[misc]\nconnect-method = local\n";
    let target = "[recovery-job-server]\nwork-dir = /work\n[recover-to]\ndir = UTC20261120010203.004-full\n";
    std::fs::write(dir.path().join("recovery.conf"), format!("{store}{target}")).unwrap();
    for (command, code) in [
        (&*format!("plan --json {gone}"), 2),
        ("plan --json", 4),
        ("plan --json --log-format json", 4),
        ("list --json --store gone", 4),
        ("list --json --store empty", 3),
        ("list --store empty", 3),
        ("plan --json --no-such-option", 2),
        ("receive <file", 75),
    ] {
        for redirection in ["", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", "2>&-"] {
            let done = run(dir.path(), DBRECOVER, command, redirection);
            assert_eq!(done.status.code(), Some(code), "{command} {redirection}: {done:?}");
        }
        assert_eq!(unread(dir.path(), command).status.code(), Some(code), "{command}");
    }
    assert!(unread(dir.path(), "--help").status.success());
    assert!(unread(dir.path(), "completions bash").status.success());
}

#[test]
fn stream_whose_rest_nobody_reads_is_a_failure() {
    let dir = place();
    let done = unread(dir.path(), "receive <sealed");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot write to standard output"), "{done:?}");
    let full = run(dir.path(), DBRECOVER, "receive <sealed", ">/dev/full");
    assert_eq!(full.status.code(), Some(1), "{full:?}");
}

#[test]
fn wrong_usage_with_json_is_a_document_too() {
    let dir = place();
    for (command, message) in [
        ("plan --json --no-such-option", "unexpected argument '--no-such-option' found"),
        ("recover --resume --extend finished --json", "'--resume' cannot be used with '--extend <NAME>'"),
    ] {
        let done = run(dir.path(), DBRECOVER, command, "");
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&document["schema_version"], &document["error"]["class"]), (&1.into(), &"usage".into()));
        let said = document["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("Usage:"), "{done:?}");
    }
    assert!(run(dir.path(), DBRECOVER, "plan --no-such-option -- --json", "").stdout.is_empty());
}
