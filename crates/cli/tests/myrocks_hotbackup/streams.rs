//! Backups with writers at work, in every form, back to a server whose rows agree.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::server::{Server, moved_back, restore, restored, run, run_to, shell, start_restored};

const FORMS: [&str; 3] = ["tar", "xbstream", "dir"];

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn backups_under_load_restore_to_rows_that_agree_in_every_form() {
    let server = Server::new();
    server.bank();
    let writers = server.writers(&["trade", "trade", "note"]);
    server.wait_for_rows(500);
    let mut least = 500;
    let mut backups = Vec::new();
    for form in FORMS {
        let to = server.dir.path().join(form);
        // An interval of no time renews the checkpoint after every file: many rounds, as with a slow reader.
        let flush = "SET GLOBAL rocksdb_force_flush_memtable_now = 1";
        for _ in 0..3 {
            server.sql(flush);
            least += 50;
            server.wait_for_rows(least);
        }
        run(server.backup().args(["--stream", form, "--interval", "0", "--to"]).arg(&to));
        server.assert_no_checkpoint();
        backups.push((to, server.number("SELECT COUNT(*) FROM bank.log")));
    }
    drop(writers);
    for (backup, most) in backups {
        run(crate::server::program().arg("verify").arg(&backup));
        let copy = restored(&[&backup]);
        copy.assert_bank();
        let rows = copy.number("SELECT COUNT(*) FROM bank.log");
        assert!((500..=most).contains(&rows), "{backup:?}: {rows} rows of at most {most}");
        assert!(
            copy.sql("CHECK TABLE bank.old, mysql.db, mysql.proc, mysql.global_priv")
                .lines()
                .all(|l| l.ends_with("OK"))
        );
        copy.sql("INSERT INTO bank.log (source, target, amount) VALUES (1, 1, 0); CALL mysql.AddGeometryColumn('', 'bank', 'old', 'g', 0)");
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_tar_backup_opens_with_tar_with_and_without_i_and_an_xbstream_backup_with_mbstream() {
    let server = Server::new();
    server.bank();
    let _writers = server.writers(&["trade"]);
    server.wait_for_rows(100);
    let dir = server.dir.path();
    let (tar, xbs) = (dir.join("b.tar"), dir.join("b.xbs"));
    run_to(&mut server.backup(), &tar);
    run_to(server.backup().args(["-s", "xbstream"]), &xbs);
    for (name, script, archive) in [
        ("plain", "mkdir \"$2\"; tar -x -C \"$2\" -f \"$1\"", &tar),
        ("ignore", "mkdir \"$2\"; tar -xi -C \"$2\" < \"$1\"", &tar),
        ("mbstream", "mkdir \"$2\"; mbstream -x -C \"$2\" < \"$1\"", &xbs),
    ] {
        let to = dir.join(name);
        shell(script, &[archive, &to]);
        moved_back(&to).assert_bank();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn names_with_spaces_quotes_and_utf8_come_back() {
    let server = Server::new();
    server.sql(
        "CREATE DATABASE `ä b#.x`; CREATE TABLE `ä b#.x`.`t é'\"` (`ü` INT PRIMARY KEY) ENGINE=ROCKSDB;
         INSERT INTO `ä b#.x`.`t é'\"` VALUES (42); CREATE DATABASE empty;",
    );
    std::fs::remove_file(server.datadir.join("empty/db.opt")).unwrap();
    let snapshots = server.dir.path().join("it's a ü \"dir\" \\ here");
    for form in FORMS {
        let to = server.dir.path().join(format!("the backup's {form} ö"));
        run(server.backup().arg("-c").arg(&snapshots).args(["-s", form, "--to"]).arg(&to));
        let copy = restored(&[&to]);
        assert_eq!(copy.number("SELECT `ü` FROM `ä b#.x`.`t é'\"`"), 42);
        // A database without a file is one in every form: the manifest knows it.
        assert_eq!(copy.sql("SHOW DATABASES LIKE 'empty'"), "empty");
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn compressed_and_encrypted_backups_restore_in_every_form() {
    let server = Server::new();
    server.bank();
    let key = server.dir.path().join("key");
    std::fs::write(&key, "correct horse\nsecond line\n").unwrap();
    for form in FORMS {
        let to = server.dir.path().join(form);
        run(server
            .backup()
            .args(["-s", form, "--compress=zstd:1", "--encrypt"])
            .arg(&key)
            .arg("--to")
            .arg(&to));
        let mut verify = crate::server::program();
        run(verify.args(["verify", "--key-file"]).arg(&key).arg(&to));
        crate::server::fail(crate::server::program().arg("verify").arg(&to), 2);
        let wrong = crate::server::program()
            .env("MYROCKS_BACKUP_KEY", "wrong")
            .arg("verify")
            .arg(&to)
            .output()
            .unwrap();
        assert_eq!(wrong.status.code(), Some(5), "{}", String::from_utf8_lossy(&wrong.stderr));
        let dir = tempfile::tempdir().unwrap();
        let datadir = dir.path().join("restored");
        let mut restore = crate::server::program();
        restore.env("MYROCKS_BACKUP_KEY", "correct horse").arg("restore").arg("--from").arg(&to);
        run(restore.arg("--datadir").arg(&datadir));
        crate::server::start_restored(dir, datadir).assert_bank();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn direct_reads_and_no_checksums_give_the_same_files() {
    let server = Server::new();
    server.bank();
    server.big(20_000);
    server.sql("SET GLOBAL rocksdb_compact_cf = 'default'");
    // Compacted already, so that no data file is replaced between the two.
    let (plain, direct) = (server.dir.path().join("plain"), server.dir.path().join("direct"));
    let take = |how: &str, to: &Path| {
        run(server.backup().args(["-s", "dir", "--checksum", "none", "--direct-io", how, "--to"]).arg(to));
    };
    take("off", &plain);
    take("on", &direct);
    let big = |dir: &Path| {
        let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let mut files: Vec<_> = files
            .filter(|p| p.metadata().unwrap().len() > 1 << 20 && p.extension().is_some_and(|e| e == "sst"))
            .collect();
        files.sort();
        files
            .into_iter()
            .map(|p| (p.file_name().unwrap().to_owned(), std::fs::read(p).unwrap()))
            .collect::<Vec<_>>()
    };
    assert!(!big(&plain).is_empty(), "there is a data file that is worth direct reads");
    assert!(big(&plain) == big(&direct));
    restored(&[&direct]).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn engines_are_in_step_in_a_consistent_backup() {
    let server = Server::new();
    server.bank();
    // One client writes each number to RocksDB and then to Aria: at every moment one of them is ahead by at most one.
    let writers = server.writers(&["pair"]);
    let mut backups = Vec::new();
    for form in FORMS {
        server.wait_for_rows(server.number("SELECT COUNT(*) FROM bank.log") + 200);
        let to = server.dir.path().join(form);
        run(server.backup().args(["--consistent", "-s", form, "--to"]).arg(&to));
        backups.push(to);
    }
    drop(writers);
    for backup in backups {
        let copy = restored(&[&backup]);
        let rows = |table: &str| copy.number(&format!("SELECT COUNT(*) FROM bank.{table}"));
        let (rocksdb, aria) = (rows("log"), rows("old"));
        assert!(rocksdb >= 200 && (0..=1).contains(&(rocksdb - aria)), "{backup:?}: {rocksdb} and {aria}");
        for (table, rows) in [("log", rocksdb), ("old", aria)] {
            assert_eq!(
                copy.number(&format!("SELECT MAX(id) FROM bank.{table}")),
                rows,
                "no number is missing"
            );
        }
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_backup_without_binlogs_holds_no_commit_that_only_a_binlog_could_decide() {
    let server = Server::new();
    server.bank();
    server.sql("CREATE USER half@localhost; GRANT SUPER ON *.* TO half@localhost");
    let mut client = server.half_a_commit();
    let at = |name: &str| server.dir.path().join(name);
    let backup = |name: &str, more: &[&str]| {
        let mut command = server.backup();
        command.args(["--no-binlogs", "--json", "-s", "dir", "--to"]).arg(at(name)).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let told = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let consistent = report["consistent"].as_bool().unwrap();
        assert_eq!(report["binlog"]["exact"], consistent);
        (consistent, String::from_utf8(output.stderr).unwrap().contains("--tc-heuristic-recover"))
    };
    assert_eq!(told(run(&mut backup("unlocked", &["--no-lock"]))), (false, true));
    assert_eq!(told(run(&mut backup("refused", &["-u", "half"]))), (false, true), "it may not lock");
    let locked = backup("locked", &[]).spawn().unwrap();
    server.until("state = 'Waiting for backup lock'");
    assert!(client.try_wait().unwrap().is_none(), "the backup waits for the commit");
    server.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    assert_eq!(told(locked.wait_with_output().unwrap()), (true, false));
    client.wait().unwrap();
    assert_eq!(restored(&[&at("locked")]).number("SELECT SUM(amount) FROM bank.account"), 700);
    // What the warning is about, and that its way out is one.
    for name in ["unlocked", "refused"] {
        let (dir, datadir) = (tempfile::tempdir().unwrap(), at(&format!("restored-{name}")));
        run(&mut restore(&[&at(name)], &datadir));
        let recover = |options: &[&str]| Server::ending(dir.path(), &datadir, options);
        assert!(recover(&[]).contains("Found 1 prepared transactions!"), "{name}");
        recover(&["--tc-heuristic-recover=ROLLBACK"]);
        assert_eq!(start_restored(dir, datadir).number("SELECT SUM(amount) FROM bank.account"), 100_000);
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn without_a_lock_files_that_grow_while_they_are_read_do_no_harm_to_the_data() {
    let server = Server::new();
    server.bank();
    let writers = server.writers(&["trade", "note", "note"]);
    server.wait_for_rows(300);
    let to = server.dir.path().join("b.tar");
    let said = run_to(server.backup().arg("--no-lock"), &to);
    assert!(!said.contains("Took the backup lock"), "{said}");
    drop(writers);
    run(crate::server::program().arg("verify").arg(&to));
    restored(&[&to]).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_binlog_that_is_rotated_while_the_backup_is_sent_is_the_one_of_the_lock() {
    // A commit that waits for a replica: it is in the binlog, and in RocksDB prepared only. A restored server that takes
    // the binlog for one that was closed does not look there, and refuses to start.
    let server = Server::new();
    server.bank();
    let mut client = server.half_a_commit();
    let to = server.dir.path().join("b");
    let mut command = server.backup();
    command.args(["-s", "dir", "--rate-limit", "4M", "--to"]).arg(&to);
    let signal = server.dir.path().join("go");
    let mut child = command.arg("-D").arg(&signal).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    let mut until = |word: &str| {
        while !said.contains(word) {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
    };
    until("Waiting until");
    // The lock waits for the commit, which goes on without its replica; the checkpoint holds the half of it.
    server.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    client.wait().unwrap();
    // So many bytes to send before the binlog's turn that there is time to rotate it.
    std::fs::write(server.datadir.join("bank/large.MYD"), vec![7; 12_000_000]).unwrap();
    std::fs::write(&signal, "").unwrap();
    until("Gave the backup lock back");
    server.sql("FLUSH BINARY LOGS");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    run(crate::server::program().arg("verify").arg(&to));
    let binlog = std::fs::read(to.join("binlog.000001")).unwrap();
    assert_eq!(binlog[21] & 1, 1, "the flag of a binlog in use");
    let copy = restored(&[&to]);
    copy.sql("CHECK TABLE bank.account, bank.log");
    assert_eq!(copy.number("SELECT MIN(amount) + MAX(amount) FROM bank.account"), 14);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_backup_that_can_be_read_only_once_is_verified_by_the_checksums_it_has() {
    let server = Server::new();
    server.bank();
    for checksum in ["sha256", "crc32", "none"] {
        let to = server.dir.path().join(checksum);
        run(server.backup().args(["--checksum", checksum, "--to"]).arg(&to));
        let from_stdin = |path: &Path| {
            let mut command = crate::server::program();
            command.args(["verify", "-"]).stdin(std::fs::File::open(path).unwrap());
            command
        };
        run(&mut from_stdin(&to));
        shell(
            "mkfifo \"$2\"; cat \"$1\" > \"$2\" & timeout 60 \"$3\" verify \"$2\"",
            &[&to, &to.with_extension("fifo"), Path::new(env!("CARGO_BIN_EXE_myrocks-hotbackup"))],
        );
        let mut bytes = std::fs::read(&to).unwrap();
        // In the first data file.
        bytes[600] ^= 1;
        std::fs::write(&to, bytes).unwrap();
        if checksum != "none" {
            let stderr = from_stdin(&to).output().unwrap();
            let said = String::from_utf8(stderr.stdout).unwrap();
            assert!(said.contains(&format!("has the checksum {checksum}:")), "{said}");
        }
    }
}
