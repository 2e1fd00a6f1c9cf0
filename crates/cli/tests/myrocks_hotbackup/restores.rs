//! The way back under everything that can go wrong: nothing is lost, nothing half restored looks whole, and the same
//! command can be run again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::disk::SmallDisk;
use crate::server::{PATIENCE, Server, fail, program, restore, run, shell, start_restored};

/// A directory with the backup of a bank with a large table, as `b.tar` and unpacked as `b`.
fn backup() -> TempDir {
    let server = Server::new();
    server.bank();
    server.big(8000);
    let dir = tempfile::tempdir().unwrap();
    run(server.backup().arg("--to").arg(dir.path().join("b.tar")));
    shell("mkdir \"$2\"; tar -x -C \"$2\" -f \"$1\"", &[&dir.path().join("b.tar"), &dir.path().join("b")]);
    dir
}

/// Nothing of a restore may be there.
fn assert_nothing(datadir: &Path) {
    let staging = PathBuf::from(format!("{}.restore-unfinished", datadir.display()));
    assert!(!staging.exists(), "{staging:?} is left");
    let left = std::fs::read_dir(datadir).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{datadir:?} is not empty");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_manifest_that_was_altered_is_refused() {
    let dir = backup();
    let (b, datadir) = (dir.path().join("b"), dir.path().join("data"));
    let path = b.join("myrocks-hotbackup.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, i32, &str); 7] = [
        (|m| m["files"][0]["sum"] = "crc32:00000000".into(), 5, "checksum"),
        (|m| m["files"][0]["size"] = 1.into(), 5, "bytes"),
        (|m| m["files"][0]["path"] = "../escape".into(), 5, "leaves the target"),
        (|m| m["directories"][0] = "/tmp/absolute".into(), 5, "absolute"),
        (|m| m["base"] = "0123456789abcdef0123456789abcdef".into(), 3, "no base was given"),
        (|m| m["files"][0]["from"] = "0123456789abcdef0123456789abcdef".into(), 3, "none of the backups"),
        (|m| m["schema_version"] = 99.into(), 5, "its form is 99"),
    ];
    for (change, code, word) in changes {
        let mut manifest = serde_json::from_str(&whole).unwrap();
        change(&mut manifest);
        std::fs::write(&path, manifest.to_string()).unwrap();
        let stderr = fail(&mut restore(&[&b], &datadir), code);
        assert!(stderr.contains(word), "{word}: {stderr}");
        assert_nothing(&datadir);
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    fail(&mut restore(&[&b], &datadir), 5);
    std::fs::write(&path, whole).unwrap();
    run(&mut restore(&[&b], &datadir));
    start_restored(dir, datadir).assert_bank();
}

#[test]
fn archives_with_hostile_names_are_refused_and_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("in/data");
    let make = "cd \"$1\"; rm -f x a.tar; $3; tar -c -P -f a.tar --transform \"s,^x\\$,$2,\" x";
    for (name, made_by, word) in [
        ("/tmp/myrocks-hotbackup-absolute", "touch x", "absolute"),
        ("../../escape", "touch x", "leaves the target"),
        ("db/link", "ln -s /etc x", "a link"),
        ("pipe", "mkfifo x", "a pipe"),
    ] {
        shell(make, &[dir.path(), Path::new(name), Path::new(made_by)]);
        let archive = dir.path().join("a.tar");
        let stderr = fail(&mut restore(&[&archive], &datadir), 5);
        assert!(stderr.contains(word), "{name}: {stderr}");
        assert_nothing(&datadir);
        assert!(
            !dir.path().join("escape").exists() && !Path::new("/tmp/myrocks-hotbackup-absolute").exists()
        );
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_restore_into_directories_that_hold_anything_is_refused_and_changes_nothing() {
    let dir = backup();
    let datadir = dir.path().join("data");
    std::fs::create_dir(&datadir).unwrap();
    std::fs::write(datadir.join("ibdata1"), "a living server's").unwrap();
    let stderr = fail(&mut restore(&[&dir.path().join("b.tar")], &datadir), 2);
    assert!(stderr.contains("not empty") && stderr.contains("ibdata1"), "{stderr}");
    assert_eq!(std::fs::read_dir(&datadir).unwrap().count(), 1);
    std::fs::remove_file(datadir.join("ibdata1")).unwrap();
    let wal = dir.path().join("wal");
    std::fs::create_dir(&wal).unwrap();
    std::fs::write(wal.join("000003.log"), "").unwrap();
    fail(restore(&[&dir.path().join("b.tar")], &datadir).arg("--rocksdb-waldir").arg(&wal), 2);
    assert_nothing(&datadir);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_restore_that_was_killed_or_stopped_half_way_can_be_run_again() {
    let dir = backup();
    let (archive, datadir) = (dir.path().join("b.tar"), dir.path().join("the data ü"));
    let bytes = std::fs::read(&archive).unwrap();
    let staging = dir.path().join("the data ü.restore-unfinished");
    for (signal, code) in [("KILL", None), ("TERM", Some(143)), ("INT", Some(130))] {
        let mut child = restore(&[Path::new("-")], &datadir).stdin(Stdio::piped()).spawn().unwrap();
        // Half of it, and then nothing: what was unpacked is there when the signal comes.
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&bytes[..bytes.len() / 2]).unwrap();
        let begun = Instant::now();
        while !staging.join("0").exists() {
            assert!(begun.elapsed() < PATIENCE, "the restore does not begin");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        run(Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()));
        let status = child.wait().unwrap();
        drop(pipe);
        assert_eq!(status.code(), code, "{signal}");
        assert_eq!(std::fs::read_dir(&datadir).map_or(0, Iterator::count), 0, "{signal}: nothing is moved");
    }
    run(&mut restore(&[&archive], &datadir));
    assert!(!staging.exists());
    start_restored(dir, datadir).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn words_that_nobody_reads_change_no_exit_code() {
    let dir = backup();
    let archive = dir.path().join("b.tar");
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ends_well = |command: &mut Command| {
        let status = command.stdout(full()).stderr(full()).status().unwrap();
        assert!(status.success(), "{command:?}: {status}");
    };
    ends_well(program().arg("verify").arg(&archive));
    ends_well(&mut restore(&[&archive], &dir.path().join("data")));
    assert!(dir.path().join("data/bank").is_dir());
}

/// Every file below a directory and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                // A file may be moved on while this looks.
                _ => found.extend(
                    std::fs::read(entry.path())
                        .map(|bytes| (entry.path().strip_prefix(dir).unwrap().to_owned(), bytes)),
                ),
            }
        }
    }
    found
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_move_back_to_another_file_system_that_is_killed_loses_nothing_and_goes_on() {
    let dir = backup();
    // A file system of its own on every Linux.
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let (b, datadir) = (dir.path().join("b"), other.path().join("data"));
    let all = contents(&b);
    let rocksdb = datadir.join("#rocksdb");
    let command = || {
        let mut command = program();
        command.args(["--json", "--move_back", "--backup_dir"]).arg(&b).arg("--datadir").arg(&datadir);
        command.arg("--rocksdb_datadir").arg(&rocksdb).arg("--rocksdb_waldir").arg(&rocksdb);
        command
    };
    let mut killed = 0;
    let note = b.join(rocks_hotbackup::NOTE);
    for files in [1, 30, 80] {
        if killed > 0 && !note.exists() {
            // A kill came when all was done.
            break;
        }
        let mut child = command().stdout(Stdio::null()).spawn().unwrap();
        while contents(&datadir).len() < files && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        let (here, there) = (contents(&b), contents(&datadir));
        for (path, bytes) in &all {
            let places = [here.get(path), there.get(path), there.get(&Path::new("#rocksdb").join(path))];
            assert!(places.contains(&Some(bytes)), "{path:?} is whole in no place");
        }
    }
    assert!(killed > 0, "it was over each time");
    if note.exists() {
        let output = run(&mut command());
        let moved: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(moved["resumed"], true);
    }
    assert_eq!(contents(&b).len(), 0);
    assert!(contents(&datadir).keys().all(|path| path.extension().is_none_or(|ending| ending != "partial")));
    let server = start_restored(other, datadir);
    server.assert_bank();
    assert_eq!(server.number("SELECT COUNT(*) FROM bank.big"), 8000);
}

#[test]
#[ignore = "needs mariadbd and root or sudo to mount; run: ./test"]
fn a_disk_that_is_full_in_the_restore_leaves_nothing_and_with_room_it_works() {
    let dir = backup();
    let disk = SmallDisk::mount(&dir.path().join("disk"), "200M");
    let (archive, datadir) = (dir.path().join("b.tar"), dir.path().join("disk/data"));
    let filler = disk.fill(5 << 20);
    let stderr = fail(&mut restore(&[&archive], &datadir), 4);
    assert!(stderr.contains("No space left"), "{stderr}");
    assert_nothing(&datadir);
    // The same with the staging on a disk that has room: the move across the file systems fails half-way, and the same
    // command goes on where it was.
    let staging = dir.path().join("staging");
    let again = || {
        let mut command = restore(&[&archive], &datadir);
        command.arg("--staging").arg(&staging);
        command
    };
    fail(&mut again(), 4);
    assert!(staging.exists(), "half of the files are moved: the other half must stay");
    std::fs::remove_file(filler).unwrap();
    run(&mut again());
    assert!(!staging.exists());
    let server = start_restored(tempfile::tempdir().unwrap(), datadir);
    server.assert_bank();
    assert_eq!(server.number("SELECT COUNT(*) FROM bank.big"), 8000);
    drop(server);
    drop(disk);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_wrong_password_restores_nothing_and_no_secret_is_told_anywhere() {
    let server = Server::new();
    server.bank();
    server.sql("CREATE USER b@localhost IDENTIFIED BY 'server-secret'; GRANT ALL ON *.* TO b@localhost");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, secret) in [("pw", "server-secret"), ("key", "backup-secret"), ("wrong", "guessed-secret")] {
        std::fs::write(at(name), secret).unwrap();
    }
    let to = at("b.tar.aes");
    let mut backup = server.backup();
    backup.args(["-u", "b", "--json", "--rate-limit", "100M", "--password-file"]).arg(at("pw"));
    let output = run(backup.arg("--encrypt").arg(at("key")).arg("--to").arg(&to));
    let mut told = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    let datadir = at("data");
    told += &fail(restore(&[&to], &datadir).arg("--key-file").arg(at("wrong")), 5);
    assert_nothing(&datadir);
    told += &fail(&mut restore(&[&to], &datadir), 2);
    assert_nothing(&datadir);
    let output = run(restore(&[&to], &datadir).arg("--key-file").arg(at("key")).arg("--json"));
    told += &String::from_utf8(output.stdout).unwrap();
    told += &std::fs::read_to_string(datadir.join("myrocks-hotbackup.json")).unwrap();
    assert!(!told.contains("-secret"), "{told}");
    start_restored(dir, datadir).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_move_back_of_half_a_backup_is_refused() {
    let dir = backup();
    let b = dir.path().join("b");
    std::fs::remove_file(b.join("CURRENT")).unwrap();
    let datadir = dir.path().join("data");
    let mut command = program();
    command.arg("--move_back").arg("--backup_dir").arg(&b).arg("--datadir").arg(&datadir);
    let rocksdb = datadir.join("#rocksdb");
    command.arg("--rocksdb_datadir").arg(&rocksdb).arg("--rocksdb_waldir").arg(&rocksdb);
    assert!(fail(&mut command, 3).contains("CURRENT"));
    assert!(!datadir.exists());
    File::create(b.join("CURRENT")).unwrap();
    // An empty CURRENT names nothing: verify and restore see that.
    fail(program().arg("verify").arg(&b), 5);
}
