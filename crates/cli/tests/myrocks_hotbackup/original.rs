//! The program before this one, from the package mariadb-plugin-rocksdb: its backups restore here, ours there.

use std::path::Path;
use std::process::Command;

use crate::program::write_program;
use crate::server::{Server, fail, moved_back, restore, run, run_to, shell, start_restored};

const ORIGINAL: &str = "/usr/bin/myrocks_hotbackup";

/// The original, run by the system's Python, which has the database module.
fn original(server: Option<&Server>, path: &Path) -> Command {
    assert!(
        Path::new(ORIGINAL).exists(),
        "the package mariadb-plugin-rocksdb is needed; tests/setup.sh installs it"
    );
    let mut command = Command::new("/usr/bin/python3");
    // It calls `xbstream`; MariaDB's program for the format is `mbstream`.
    let xbstream = path.join("xbstream");
    write_program(&xbstream, "#!/bin/sh\nexec mbstream \"$@\"\n");
    command.arg(ORIGINAL).env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
    if let Some(server) = server {
        std::fs::create_dir_all(server.snapshots()).unwrap();
        command.arg(format!("--socket={}", server.socket.display()));
        command.arg(format!("--checkpoint_dir={}", server.snapshots().display()));
    }
    command
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn backups_of_the_original_restore_with_this_program() {
    // Without a binlog: the original's tar fails on a file that grows while it is read.
    let server = Server::with(&["--plugin-load-add=ha_rocksdb.so", "--skip-log-bin"]);
    server.bank();
    let writers = server.writers(&["trade", "trade"]);
    server.wait_for_rows(300);
    let dir = server.dir.path();
    let (tar, xbs) = (dir.join("o.tar"), dir.join("o.xbs"));
    run_to(original(Some(&server), dir).arg("--stream=tar"), &tar);
    run_to(original(Some(&server), dir).arg("--stream=xbstream"), &xbs);
    drop(writers);
    for backup in [&tar, &xbs] {
        run(crate::server::program().arg("verify").arg(backup));
        let place = tempfile::tempdir().unwrap();
        let datadir = place.path().join("restored");
        let stderr = fail(&mut restore(&[backup], &datadir), 5);
        assert!(stderr.contains("--without-manifest"), "{stderr}");
        let output = run(restore(&[backup], &datadir).arg("--without-manifest"));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("not checked"), "{said}");
        start_restored(place, datadir).assert_bank();
    }
    let unpacked = dir.join("unpacked");
    shell("mkdir \"$2\"; tar -xi -C \"$2\" -f \"$1\"", &[&tar, &unpacked]);
    moved_back(&unpacked).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn backups_of_this_program_restore_with_the_original() {
    let server = Server::new();
    server.bank();
    let writers = server.writers(&["trade", "trade"]);
    server.wait_for_rows(300);
    let tar = server.dir.path().join("b.tar");
    run_to(&mut server.backup(), &tar);
    drop(writers);
    let dir = tempfile::tempdir().unwrap();
    let (backup, datadir) = (dir.path().join("unpacked"), dir.path().join("restored"));
    shell("mkdir \"$2\"; tar -xi -C \"$2\" -f \"$1\"", &[&tar, &backup]);
    run(original(None, dir.path()).arg("--move_back").args([
        format!("--backup_dir={}", backup.display()),
        format!("--datadir={}", datadir.display()),
        format!("--rocksdb_datadir={}/#rocksdb", datadir.display()),
        format!("--rocksdb_waldir={}", dir.path().join("wal").display()),
    ]));
    start_restored(dir, datadir).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn both_programs_take_the_same_files_but_for_those_that_are_documented() {
    let server = Server::new();
    server.bank();
    server.sql("SET GLOBAL rocksdb_force_flush_memtable_now = 1");
    let dir = server.dir.path();
    let names = |archive: &Path| {
        let list = run(Command::new("tar").args(["-t", "-i", "-f"]).arg(archive));
        let list = String::from_utf8(list.stdout).unwrap();
        // The two checkpoints differ in the numbers of OPTIONS and of files that were written in between.
        let files =
            list.lines().filter(|l| !l.ends_with('/') && !l.ends_with(".sst") && !l.starts_with("OPTIONS-"));
        files.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let (theirs, ours) = (dir.join("o.tar"), dir.join("b.tar"));
    run_to(original(Some(&server), dir).arg("--stream=tar"), &theirs);
    run_to(&mut server.backup(), &ours);
    let (theirs, ours) = (names(&theirs), names(&ours));
    let only_theirs: Vec<_> = theirs.difference(&ours).collect();
    let only_ours: Vec<_> = ours.difference(&theirs).collect();
    assert_eq!(only_ours, ["myrocks-hotbackup.json"]);
    assert_eq!(only_theirs, ["ibtmp1"], "InnoDB makes its temporary tablespace anew");
}
