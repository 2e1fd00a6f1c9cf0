//! `dbrecover xbstream` as a user meets it: letters, exit codes, what is left behind.

use std::fs;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::{TempDir, tempdir};

fn xbstream(dir: &TempDir) -> Command {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command.current_dir(dir).arg("xbstream");
    command
}

/// An archive of `d/a` and `b`.
fn archive(dir: &TempDir) -> Vec<u8> {
    fs::create_dir_all(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/a"), "one").unwrap();
    fs::write(dir.path().join("b"), "").unwrap();
    let made = xbstream(dir).args(["-c", "d/a", "./b"]).assert().success().stderr("");
    made.get_output().stdout.clone()
}

fn exists(dir: &TempDir, name: &str) -> bool {
    Path::new(&dir.path().join(name)).exists()
}

#[test]
fn archive_goes_out_and_comes_back() {
    let dir = tempdir().unwrap();
    let archive = archive(&dir);
    xbstream(&dir)
        .args(["-x", "-C", "new/dir", "-p2"])
        .write_stdin(&archive[..])
        .assert()
        .success()
        .stdout("");
    assert_eq!(fs::read(dir.path().join("new/dir/d/a")).unwrap(), b"one");
    assert_eq!(fs::read(dir.path().join("new/dir/b")).unwrap(), b"");
}

#[test]
fn directory_of_create_is_where_the_files_are() {
    let dir = tempdir().unwrap();
    let whole = archive(&dir);
    let made = xbstream(&dir).args(["-c", "-C", "d", "-v", "a"]).assert().success().stderr("a\n");
    assert!(made.get_output().stdout.len() < whole.len());
    xbstream(&dir).arg("-t").write_stdin(made.get_output().stdout.clone()).assert().success().stdout("a\n");
}

#[test]
fn list_names_files_and_sizes() {
    let dir = tempdir().unwrap();
    let archive = archive(&dir);
    xbstream(&dir).arg("-t").write_stdin(&archive[..]).assert().success().stdout("d/a\nb\n");
    xbstream(&dir).arg("-tv").write_stdin(&archive[..]).assert().success().stdout(contains(" 3 d/a\n"));
    let json = xbstream(&dir).args(["-t", "--json"]).write_stdin(&archive[..]).assert().success();
    let json: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!((&json["schema_version"], &json["complete"]), (&1.into(), &true.into()));
    assert_eq!((&json["entries"][0]["path"], &json["entries"][0]["size"]), (&"d/a".into(), &3.into()));
}

#[test]
fn cut_archive_is_damage_and_its_list_says_so() {
    let dir = tempdir().unwrap();
    let archive = archive(&dir);
    let cut = &archive[..archive.len() - 40];
    for mode in ["-x", "-t"] {
        xbstream(&dir).args([mode, "-C", "out"]).write_stdin(cut).assert().code(5).stderr(
            contains("before the end of \"d/a\"").or(contains("stream ends at byte")).and(contains("hint: ")),
        );
    }
    assert!(!exists(&dir, "out/d/a") && !exists(&dir, "out/d/a.partial"));
    let json = xbstream(&dir).args(["-t", "--json"]).write_stdin(cut).assert().code(5);
    let json: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(json["complete"], false);
}

#[test]
fn existing_file_is_kept() {
    let dir = tempdir().unwrap();
    let archive = archive(&dir);
    xbstream(&dir)
        .arg("-x")
        .write_stdin(archive)
        .assert()
        .code(1)
        .stderr(contains("refusing to overwrite").and(contains("hint: extract into an empty directory")));
    assert_eq!(fs::read(dir.path().join("d/a")).unwrap(), b"one");
}

#[test]
fn name_cannot_act_on_the_terminal() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a\x1b[2Jb"), "").unwrap();
    let made = xbstream(&dir).args(["-c", "a\x1b[2Jb"]).assert().success();
    xbstream(&dir)
        .arg("-t")
        .write_stdin(made.get_output().stdout.clone())
        .assert()
        .success()
        .stdout("a\\u{1b}[2Jb\n");
}

#[test]
fn modes_exclude_each_other_and_need_what_they_need() {
    let dir = tempdir().unwrap();
    for args in [
        &[][..],
        &["-x", "-c", "f"],
        &["-c"],
        &["-x", "f"],
        &["-x", "-p", "0"],
        &["-x", "--decrypt", "AES256"],
    ] {
        xbstream(&dir).args(args).write_stdin("").assert().code(2);
    }
    xbstream(&dir)
        .args(["-x", "--dialect", "other"])
        .write_stdin("")
        .assert()
        .code(2)
        .stderr(contains("percona"));
}

#[test]
fn key_of_another_length_is_a_usage_error_with_a_hint() {
    let dir = tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    xbstream(&dir)
        .args(["-x", "--decrypt", "AES256", "--encrypt-key-file", "key"])
        .write_stdin("")
        .assert()
        .code(2)
        .stderr(contains("cannot read the key file key: ").and(contains("has 32 bytes, this one has 33")))
        .stderr(contains("hint: write the key file without a line end").and(contains("0123").not()));
}

#[test]
fn stream_that_may_be_of_either_dialect_asks_for_it() {
    let dir = tempdir().unwrap();
    let mut seek = b"XBSTCK01\0S\x01\0\0\0a".to_vec();
    seek.extend([5, 0, 0, 0, 0, 0, 0, 0]);
    xbstream(&dir).arg("-t").write_stdin(seek).assert().code(2).stderr(contains("hint: say who wrote"));
}

#[test]
fn json_of_extract_sums_up() {
    let dir = tempdir().unwrap();
    let archive = archive(&dir);
    let json =
        xbstream(&dir).args(["-x", "-C", "out", "--json"]).write_stdin(&archive[..]).assert().success();
    let json: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!((&json["files"], &json["bytes"], &json["schema_version"]), (&2.into(), &3.into(), &1.into()));
    assert_eq!(json["archive_bytes"], archive.len());
}

#[test]
fn archive_in_a_file_is_read_from_where_it_stands_to_its_end() {
    let dir = tempdir().unwrap();
    // Large enough for its payloads to be read at their places.
    let large: Vec<u8> = (0..700_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
    fs::write(dir.path().join("large"), &large).unwrap();
    fs::write(dir.path().join("b"), "").unwrap();
    let made = xbstream(&dir).args(["-c", "large", "b"]).assert().success();
    let archive = [b"before", &made.get_output().stdout[..]].concat();
    fs::write(dir.path().join("file"), &archive).unwrap();

    let mut file = fs::File::open(dir.path().join("file")).unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let run = |file: &fs::File, out: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_dbrecover"))
            .args(["xbstream", "-x", "-C", out])
            .current_dir(&dir)
            .stdin(file.try_clone().unwrap())
            .output()
            .unwrap()
    };
    let done = run(&file, "out");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read(dir.path().join("out/large")).unwrap(), large);
    assert_eq!(file.stream_position().unwrap(), archive.len() as u64);

    // A changed byte in it is the error that a pipe gives.
    let mut damaged = archive.clone();
    damaged[2_000_000] ^= 1;
    fs::write(dir.path().join("file"), &damaged).unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let from_file = run(&file, "out2");
    let from_pipe = xbstream(&dir).args(["-x", "-C", "out3"]).write_stdin(&damaged[6..]).assert().code(5);
    assert_eq!(from_file.status.code(), Some(5));
    assert_eq!(from_file.stderr, from_pipe.get_output().stderr);
    assert!(String::from_utf8_lossy(&from_file.stderr).contains("checksum of \"large\" at offset 0"));
    assert!(!exists(&dir, "out2/large") && !exists(&dir, "out2/large.partial"));
}

#[test]
fn empty_input_is_no_archive() {
    let dir = tempdir().unwrap();
    for mode in ["-x", "-t"] {
        xbstream(&dir).arg(mode).write_stdin("").assert().code(5).stderr(contains("the archive is empty"));
    }
    let json = xbstream(&dir).args(["-t", "--json"]).write_stdin("").assert().code(5);
    let json: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(json["complete"], false);
}

#[test]
fn archive_does_not_take_itself_in() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("self");
    fs::write(&path, "what is there").unwrap();
    let append = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_dbrecover"))
        .args(["xbstream", "-c", "self"])
        .current_dir(&dir)
        .stdout(append)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("self is the archive itself"));
    assert_eq!(fs::read(path).unwrap(), b"what is there");
}

#[test]
fn full_disk_is_named_with_its_file_and_nothing_unfinished_stays() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("big"), vec![1; 3 << 20]).unwrap();
    let made = xbstream(&dir).args(["-c", "big"]).assert().success();
    fs::write(dir.path().join("file"), &made.get_output().stdout).unwrap();
    // The largest file that the process may write stands for a disk that is full.
    let done = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" xbstream -x -C out <file"])
        .arg(env!("CARGO_BIN_EXE_dbrecover"))
        .current_dir(&dir)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot write \"big\""), "{done:?}");
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 0);
}
