//! `dbrecover binlog` as a user meets it: the worked example of `docs/binlogs.md`, exit codes, JSON.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../binlog-replay/tests/fixtures")
}

/// A folder with the fixture folder of this name as `binlogs`.
fn with(name: &str) -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("binlogs")).unwrap();
    for entry in fs::read_dir(fixtures().join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join("binlogs").join(entry.file_name())).unwrap();
    }
    dir
}

fn binlog(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command.current_dir(dir).arg("binlog").args(args);
    command
}

fn json(dir: &TempDir, args: &[&str]) -> Value {
    let output = binlog(dir, args).arg("--json").assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// Runs every `$ dbrecover` line of the page and compares what follows it with what is printed.
#[test]
fn the_worked_example_of_the_documentation_is_true() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/binlogs.md");
    let text = fs::read_to_string(&page).unwrap();
    let dir = with("mysql");
    let (mut actual, mut commands) = (String::new(), 0);
    let mut blocks = text.split("```console\n");
    actual.push_str(blocks.next().unwrap());
    for block in blocks {
        let (block, rest) = block.split_once("```").unwrap();
        let command = block.lines().next().unwrap();
        let words: Vec<&str> = command.strip_prefix("$ dbrecover binlog ").unwrap().split(' ').collect();
        let output = binlog(&dir, &words).assert().success();
        let printed = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        actual.push_str(&format!("```console\n{command}\n{}\n```{rest}", lines.join("\n")));
        commands += 1;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &actual).unwrap();
    }
    assert!(commands >= 3);
    assert_eq!(actual, fs::read_to_string(&page).unwrap());
}

#[test]
fn the_time_that_find_prints_stops_before_the_statement() {
    let dir = with("mysql");
    let found =
        json(&dir, &["find", "binlogs", "--table", "shop.odd", "--kind", "ddl", "--where-text", "drop"]);
    let drop = &found["transactions"][0];
    assert_eq!(found["transactions"].as_array().unwrap().len(), 1);
    let time = drop["time"].as_str().unwrap();
    let before = json(&dir, &["find", "binlogs", "--until", time]);
    let after = json(&dir, &["find", "binlogs", "--since", time]);
    assert_eq!(after["transactions"][0]["gtid"], drop["gtid"]);
    let before = before["transactions"].as_array().unwrap();
    assert_eq!(before.last().unwrap()["end"], drop["start"]);
    let shown = json(&dir, &["show", "binlogs", "--at", drop["start"].as_str().unwrap()]);
    assert_eq!(shown["schema_version"], 1);
    assert!(shown["steps"][0]["text"].as_str().unwrap().starts_with("DROP TABLE"));
    assert_eq!(json(&dir, &["show", "binlogs", "--gtid", drop["gtid"].as_str().unwrap()]), shown);
}

#[test]
fn lists_name_servers_ends_and_gaps() {
    for folder in ["mysql", "mariadb", "mysql-nogtid", "mariadb-compressed", "mysql-open"] {
        let list = json(&with(folder), &["list", "binlogs"]);
        assert_eq!(list["gaps"].as_array().unwrap().len(), 0, "{folder}");
        assert!(list["files"].as_array().unwrap().iter().all(|f| f["damage"].is_null()));
    }
    let dir = with("mysql");
    fs::remove_file(dir.path().join("binlogs/binlog.000002")).unwrap();
    binlog(&dir, &["list", "binlogs"])
        .assert()
        .success()
        .stdout(contains("gap: ").and(contains("binlog.000002")));
    binlog(&with("mysql-open"), &["info", "binlogs"]).assert().success().stdout(contains("open at "));
}

#[test]
fn damaged_encrypted_and_missing_files_have_exit_codes() {
    let dir = with("mariadb-encrypted");
    binlog(&dir, &["list", "binlogs"])
        .assert()
        .code(4)
        .stdout(contains("DAMAGED"))
        .stderr(contains("is encrypted by MariaDB"));
    let dir = with("mysql");
    let path = dir.path().join("binlogs/binlog.000003");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    binlog(&dir, &["info", "binlogs/binlog.000003"]).assert().code(5).stderr(contains("checksum of the"));
    binlog(&dir, &["find", "binlogs"]).assert().code(5);
    fs::write(&path, &bytes[..middle]).unwrap();
    binlog(&dir, &["list", "binlogs"]).assert().code(5).stderr(contains("is cut"));
    fs::create_dir(dir.path().join("empty")).unwrap();
    binlog(&dir, &["list", "empty"]).assert().code(3).stderr(contains("no binlogs in"));
    binlog(&with("mysql"), &["show", "binlogs", "--at", "binlog.000009:4"]).assert().code(3);
    binlog(&dir, &["show", "binlogs"]).assert().code(2);
    binlog(&dir, &["show", "binlogs", "--at", "nonsense"]).assert().code(2);
    binlog(&dir, &["find", "binlogs", "--since", "yesterday"]).assert().code(2);
}

#[test]
fn passwords_are_printed_nowhere() {
    for folder in ["mysql", "mariadb"] {
        let dir = with(folder);
        for args in [&["info", "binlogs"][..], &["find", "binlogs"], &["list", "binlogs"]] {
            let secret = || contains("'secret'").or(contains("$A$00")).not();
            binlog(&dir, args).assert().success().stdout(secret());
            binlog(&dir, args).arg("--json").assert().success().stdout(secret());
        }
    }
}
