//! `dbrecover unpack` as `recovery` and users run it: exit codes, reports, signals, what is left behind.

use std::fs;
use std::io::Write;
use std::process::{Command as Process, Stdio};

use aescrypt::Encryptor;
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use secrecy::SecretString;
use tempfile::{TempDir, tempdir};

const NAME: &str = "UTC20261120010203.004-inc";
const ONE: &str = "ds-db1-10.0.0.5-3306";

/// A store with an incremental backup of one server in `store/NAME`.
fn store() -> TempDir {
    let dir = tempdir().unwrap();
    let backup = dir.path().join("store").join(NAME);
    fs::create_dir_all(backup.join(ONE)).unwrap();
    fs::create_dir_all(backup.join("datanode_base")).unwrap();
    let writer = xbstream::Writer::new(Vec::new());
    writer.append("ibdata1.delta", &[7; 100_000][..]).unwrap();
    writer.append("xtrabackup_checkpoints", &b"backup_type = incremental\n"[..]).unwrap();
    fs::write(backup.join(ONE).join("backup.xbsteam"), writer.finish().unwrap()).unwrap();
    fs::write(backup.join(ONE).join("executed_gtids"), "0-1-7\n").unwrap();
    dir
}

fn tar(dir: &TempDir) -> Vec<u8> {
    let output = Process::new("tar")
        .arg("-C")
        .arg(dir.path().join("store"))
        .args(["-cf", "-", NAME])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

fn encrypted(dir: &TempDir) -> Vec<u8> {
    let mut writer = Encryptor::new(Vec::new(), &SecretString::from("secret")).unwrap();
    writer.write_all(&tar(dir)).unwrap();
    writer.finish().unwrap()
}

fn unpack(dir: &TempDir) -> Command {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command
        .current_dir(dir)
        .env("DBRECOVER_PASSWORD", "secret")
        .args(["unpack", "--work-dir", "work", "--backup", NAME, "--no-sync"])
        .args(["--server", &format!("{ONE}=data")]);
    command
}

fn assert_unpacked(dir: &TempDir) {
    assert_eq!(fs::read(dir.path().join("data/ibdata1.delta")).unwrap(), [7; 100_000]);
    assert_eq!(
        fs::read(dir.path().join("work").join(NAME).join(ONE).join("executed_gtids")).unwrap(),
        b"0-1-7\n"
    );
}

fn assert_nothing_left(dir: &TempDir) {
    assert!(!dir.path().join("data").exists());
    let work = dir.path().join("work");
    assert!(!work.exists() || fs::read_dir(work).unwrap().next().is_none());
    assert!(!dir.path().join("data.unpack-partial").exists());
}

#[test]
fn folder_tar_and_encrypted_tar_are_told_by_themselves() {
    for form in ["folder", "tar file", "aes file", "tar pipe", "aes pipe"] {
        let dir = store();
        let from = match form {
            "folder" => format!("store/{NAME}"),
            "tar file" => {
                fs::write(dir.path().join("backup.tar"), tar(&dir)).unwrap();
                "backup.tar".to_owned()
            }
            "aes file" => {
                fs::write(dir.path().join("backup.aes"), encrypted(&dir)).unwrap();
                "backup.aes".to_owned()
            }
            _ => "-".to_owned(),
        };
        let mut command = unpack(&dir);
        command.args(["--from", &from]);
        match form {
            "tar pipe" => command.write_stdin(tar(&dir)),
            "aes pipe" => command.write_stdin(encrypted(&dir)),
            _ => &mut command,
        };
        command.assert().success().stdout(contains(format!("{ONE}: 2 files"))).stderr("");
        assert_unpacked(&dir);
    }
}

#[test]
fn report_is_one_json_document() {
    let dir = store();
    let assert = unpack(&dir).args(["--json"]).write_stdin(tar(&dir)).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["backup"], NAME);
    assert_eq!(report["source"], "tar");
    assert_eq!(report["servers"][ONE]["files"], 2);
    assert_eq!(report["servers"][ONE]["bytes"], 100_026);
    assert_eq!(report["small_files"]["files"], 1);
    assert_eq!(report["bytes_written"], 100_026 + 6);
    assert!(report["process_io"]["written_chars"].as_u64().unwrap() >= 100_032);
}

#[test]
fn damage_is_exit_code_5_and_leaves_nothing() {
    let dir = store();
    let whole = encrypted(&dir);
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for (bytes, said) in [
        (changed, ""),
        (whole[..whole.len() - 5].to_vec(), "the stream ends too early"),
        (tar(&dir)[..60_000].to_vec(), "the tar archive ends too early, at byte 60000"),
        (vec![b'x'; 4000], "neither a tar archive nor an AES Crypt stream"),
    ] {
        unpack(&dir).write_stdin(bytes).assert().code(5).stdout("").stderr(contains(said));
        assert_nothing_left(&dir);
    }
    unpack(&dir)
        .env("DBRECOVER_PASSWORD", "wrong")
        .write_stdin(whole)
        .assert()
        .code(5)
        .stderr(contains("wrong password"));
    assert_nothing_left(&dir);
}

#[test]
fn wrong_usage_is_exit_code_2_and_absence_3() {
    let dir = store();
    for (args, code, said) in [
        (&["--server", "nothing"][..], 2, "expected FOLDER=DIR"),
        (&["--server", &format!("{ONE}=other")], 2, "twice"),
        (&["--server", "x-y-z-1=data/below"], 2, "in each other's way"),
        (&["--format", "folder"], 2, "through a pipe"),
        (&["--password-file", "none"], 2, "password file none"),
        (&["--decrypt", "AES256"], 2, "--encrypt-key-file"),
        (&["--server", "x-y-z-1=other"], 3, "no stream of x-y-z-1"),
        (&["--base-dir", "base"], 3, "only full backups"),
        (&["--from", "none"], 1, "opening none failed"),
    ] {
        unpack(&dir).args(args).write_stdin(tar(&dir)).assert().code(code).stdout("").stderr(contains(said));
        assert_nothing_left(&dir);
    }
    unpack(&dir)
        .env_remove("DBRECOVER_PASSWORD")
        .write_stdin(encrypted(&dir))
        .assert()
        .code(2)
        .stderr(contains("no password was given").and(contains("hint: ")));
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/mine"), "mine").unwrap();
    unpack(&dir).write_stdin(tar(&dir)).assert().code(2).stderr(contains("not an empty directory"));
    assert_eq!(fs::read(dir.path().join("data/mine")).unwrap(), b"mine");
}

#[test]
fn signal_ends_with_its_code_and_leaves_nothing() {
    let dir = store();
    let bytes = tar(&dir);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = Process::new(assert_cmd::cargo::cargo_bin("dbrecover"))
            .args(["unpack", "--work-dir", "work", "--backup", NAME, "--server", &format!("{ONE}=data")])
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes[..20_000]).unwrap();
        while !dir.path().join("data.unpack-partial").exists() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let kill = Process::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        drop(stdin);
        assert_nothing_left(&dir);
    }
}

#[test]
fn only_the_binlogs_of_an_encrypted_backup_are_written() {
    let dir = store();
    let folder = dir.path().join("store").join(NAME).join(ONE);
    fs::write(folder.join("greatdb-bin.000041"), "binlog").unwrap();
    fs::write(folder.join("my.conf"), "[mysqld]").unwrap();
    let replica = folder.with_file_name("ds-db2-10.0.0.6-3306");
    fs::create_dir(&replica).unwrap();
    fs::write(replica.join("master_dir"), ONE).unwrap();
    let only = |password: &str| {
        let mut command = Command::cargo_bin("dbrecover").unwrap();
        command.current_dir(&dir).env("DBRECOVER_PASSWORD", password).write_stdin(encrypted(&dir));
        command.args(["unpack", "--work-dir", "work", "--backup", NAME, "--only-binlogs"]);
        command
    };
    only("wrong").assert().code(5).stdout("");
    assert_eq!(fs::read_dir(dir.path().join("work")).map_or(0, Iterator::count), 0);
    only("secret").assert().success();
    let written = dir.path().join("work").join(NAME);
    let mut names = Vec::new();
    for folder in fs::read_dir(&written).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            names.push(file.unwrap().path().strip_prefix(&written).unwrap().display().to_string());
        }
    }
    names.sort();
    assert_eq!(names, [format!("{ONE}/greatdb-bin.000041"), "ds-db2-10.0.0.6-3306/master_dir".to_owned()]);
    only("secret").args(["--server", "a=b"]).assert().code(2);
}
