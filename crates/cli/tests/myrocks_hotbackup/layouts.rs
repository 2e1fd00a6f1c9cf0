//! Servers whose data directory is not the plain one.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::disk::SmallDisk;
use crate::server::{Server, fail, moved_back, program, restore, restored, run, shell, start_restored};

const PLUGIN: &str = "--plugin-load-add=ha_rocksdb.so";

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn rocksdb_elsewhere_and_its_log_elsewhere_come_back_to_places_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for name in ["rocks", "wal", "new"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let options = |rocks: &str, wal: &str| {
        [
            PLUGIN.to_owned(),
            format!("--rocksdb-datadir={}", at(rocks).display()),
            format!("--rocksdb-wal-dir={}", at(wal).display()),
        ]
    };
    let old = options("rocks", "wal");
    let server = Server::with(&old.each_ref().map(String::as_str));
    server.bank();
    let writers = server.writers(&["trade"]);
    server.wait_for_rows(200);
    let to = at("b.tar");
    run(server.backup().arg("--consistent").arg("--to").arg(&to));
    drop(writers);
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("restored");
    // Anywhere else that server would not find its write-ahead log, and start without it.
    let stderr = fail(&mut restore(&[&to], &datadir), 2);
    assert!(
        stderr.contains("--rocksdb-waldir") && stderr.contains(at("rocks").to_str().unwrap()),
        "{stderr}"
    );
    let stderr = fail(restore(&[&to], &datadir).arg("-r").arg(at("new/rocks")), 2);
    assert!(stderr.contains(at("wal").to_str().unwrap()), "{stderr}");
    assert!(!datadir.exists());
    let mut command = restore(&[&to], &datadir);
    run(command.arg("-r").arg(at("new/rocks")).arg("-w").arg(at("new/wal")));
    let logs = |name: &str| {
        let names =
            std::fs::read_dir(at(name)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".log")).collect::<Vec<_>>()
    };
    assert_eq!(logs("new/rocks"), Vec::<String>::new(), "{:?} are where they belong", logs("new/wal"));
    let new = options("new/rocks", "new/wal");
    let copy = Server::on(dir, datadir, &new.each_ref().map(String::as_str));
    copy.assert_bank();
    assert!(copy.number("SELECT COUNT(*) FROM bank.log") >= 200);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn places_in_the_data_directory_are_those_of_the_restored_server() {
    // As Percona's and Facebook's 5.7 have it, and a log of its own.
    let options = [PLUGIN, "--rocksdb-datadir=.rocksdb", "--rocksdb-wal-dir=./wal"];
    let server = Server::with(&options);
    server.bank();
    let writers = server.writers(&["trade"]);
    server.wait_for_rows(200);
    let to = server.dir.path().join("b.tar");
    run(server.backup().arg("--to").arg(&to));
    drop(writers);
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("restored");
    let output = run(&mut restore(&[&to], &datadir));
    let said = String::from_utf8(output.stdout).unwrap();
    for place in [".rocksdb", "wal"] {
        assert!(said.contains(datadir.join(place).to_str().unwrap()), "{said}");
    }
    let copy = Server::on(dir, datadir, &options);
    copy.assert_bank();
    assert!(copy.number("SELECT COUNT(*) FROM bank.log") >= 200);
}

#[test]
fn a_backup_that_does_not_say_where_rocksdb_was_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let (b, datadir) = (dir.path().join("b"), dir.path().join("data"));
    std::fs::create_dir(&b).unwrap();
    std::fs::write(b.join("CURRENT"), "MANIFEST-000004\n").unwrap();
    let old = || {
        let mut command = restore(&[&b], &datadir);
        command.args(["--without-manifest", "--skip-verify"]);
        command
    };
    let rocksdb = datadir.join("#rocksdb");
    for given in [false, true] {
        let mut command = old();
        if given {
            command.arg("-r").arg(&rocksdb).arg("-w").arg(&rocksdb);
        }
        let said = String::from_utf8(run(&mut command).stderr).unwrap();
        assert_eq!(said.contains("rocksdb_wal_dir"), !given, "{said}");
        assert!(rocksdb.join("CURRENT").exists());
        std::fs::remove_dir_all(&datadir).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn links_are_followed_and_what_is_no_file_is_passed_over() {
    let elsewhere = tempfile::tempdir().unwrap();
    let server = Server::new();
    server.bank();
    server.sql(
        "CREATE DATABASE linked; CREATE TABLE linked.t (id INT PRIMARY KEY) ENGINE=ROCKSDB;
         INSERT INTO linked.t VALUES (7); CREATE TABLE linked.a (id INT PRIMARY KEY) ENGINE=ARIA;
         INSERT INTO linked.a VALUES (8); FLUSH TABLES",
    );
    // A database on another disk, as administrators do it.
    shell(
        "mv \"$1\" \"$2\"; ln -s \"$2\" \"$1\"",
        &[&server.datadir.join("linked"), &elsewhere.path().join("linked")],
    );
    symlink("/nowhere", server.datadir.join("dangling")).unwrap();
    symlink("/nowhere", server.datadir.join("bank/dangling.MYD")).unwrap();
    // With an ending of data: a definition that is a pipe stops the server itself.
    for at in ["", "bank/"] {
        let _socket = UnixListener::bind(server.datadir.join(format!("{at}socket.MYD"))).unwrap();
        run(Command::new("mkfifo").arg(server.datadir.join(format!("{at}pipe.MYD"))));
    }
    // What a server that was killed in an ALTER leaves behind.
    let leftover = "bank/#sql-alter-1234-5.frm";
    std::fs::copy(server.datadir.join("bank/log.frm"), server.datadir.join(leftover)).unwrap();
    for form in ["tar", "xbstream", "dir"] {
        let to = server.dir.path().join(form);
        run(server.backup().args(["-s", form, "--to"]).arg(&to));
        let copy = restored(&[&to]);
        copy.assert_bank();
        assert_eq!(copy.number("SELECT id FROM linked.t"), 7);
        assert_eq!(copy.number("SELECT id FROM linked.a"), 8);
        assert!(!copy.datadir.join("linked").is_symlink());
        for name in
            ["dangling", "pipe.MYD", "socket.MYD", "bank/pipe.MYD", "bank/socket.MYD", "bank/dangling.MYD"]
        {
            assert!(copy.datadir.join(name).symlink_metadata().is_err(), "{form}: {name}");
        }
    }
}

#[test]
#[ignore = "needs mariadbd and root or sudo to mount; run: ./test"]
fn a_database_on_a_mounted_disk_is_part_of_the_backup() {
    let server = Server::new();
    let _disk = SmallDisk::mount(&server.datadir.join("mounted"), "20M");
    server.sql("CREATE TABLE mounted.a (id INT PRIMARY KEY) ENGINE=ARIA; INSERT INTO mounted.a VALUES (9)");
    let to = server.dir.path().join("b");
    run(server.backup().args(["-s", "dir", "--to"]).arg(&to));
    assert_eq!(restored(&[&to]).number("SELECT id FROM mounted.a"), 9);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn partitions_of_every_engine_come_back() {
    let server = Server::new();
    server.sql("CREATE DATABASE d");
    for engine in ["ROCKSDB", "ARIA", "MYISAM"] {
        server.sql(&format!(
            "CREATE TABLE d.p_{engine} (id INT PRIMARY KEY, v INT) ENGINE={engine} PARTITION BY RANGE (id)
                 (PARTITION low VALUES LESS THAN (500), PARTITION high VALUES LESS THAN MAXVALUE);
             INSERT INTO d.p_{engine} SELECT seq, seq FROM d.seq_1_to_1000"
        ));
    }
    let to = server.dir.path().join("b.xbs");
    run(server.backup().args(["-s", "xbstream", "--to"]).arg(&to));
    let copy = restored(&[&to]);
    for engine in ["ROCKSDB", "ARIA", "MYISAM"] {
        assert_eq!(copy.number(&format!("SELECT SUM(v) FROM d.p_{engine}")), 500_500);
        assert_eq!(copy.number(&format!("SELECT COUNT(*) FROM d.p_{engine} PARTITION (low)")), 499);
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_is_in_innodb_is_told_at_both_ends_and_its_tables_can_be_made_anew() {
    let server = Server::new();
    server.bank();
    server.sql("CREATE TABLE bank.inno (id INT PRIMARY KEY) ENGINE=INNODB; INSERT INTO bank.inno VALUES (1)");
    let to = server.dir.path().join("b");
    let output = run(server.backup().args(["--consistent", "-s", "dir", "--to"]).arg(&to));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("NOT in this backup").count(), 2, "at the start and in the report: {said}");
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("restored");
    let output = run(&mut restore(&[&to], &datadir));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("NOT restored: 1 tables of InnoDB"), "{said}");
    let copy = start_restored(dir, datadir);
    copy.assert_bank();
    // Its definition is there, its rows are not: the server says so instead of giving an empty table.
    let refused = copy.client().args(["-e", "SELECT * FROM bank.inno"]).output().unwrap();
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("1932") || refused.contains("doesn't exist in engine"), "{refused}");
    copy.sql("DROP TABLE bank.inno; CREATE TABLE bank.inno (id INT PRIMARY KEY) ENGINE=INNODB");
    // What the guide tells to do before a restored server becomes a replica.
    let guide = include_str!("../../../../docs/myrocks/guide.md");
    let drop = guide.split('`').find(|text| text.starts_with("DROP TABLE")).unwrap();
    copy.sql(drop);
    let mut upgrade = Command::new("mariadb-upgrade");
    run(upgrade.args(["--no-defaults", "--force", "--silent", "-uroot", "-S"]).arg(&copy.socket));
    for table in ["innodb_table_stats", "innodb_index_stats", "gtid_slave_pos", "transaction_registry"] {
        copy.number(&format!("SELECT COUNT(*) FROM mysql.{table}"));
    }
}

#[test]
fn a_backup_without_a_manifest_is_refused_or_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let (b, datadir) = (dir.path().join("b"), dir.path().join("data"));
    std::fs::create_dir(&b).unwrap();
    std::fs::write(b.join("CURRENT"), "MANIFEST-000004\n").unwrap();
    let stderr = fail(&mut restore(&[&b], &datadir), 5);
    assert!(stderr.contains("cut off") && stderr.contains("--without-manifest"), "{stderr}");
    run(restore(&[&b], &datadir).args(["--without-manifest", "--skip-verify"]));
    std::fs::remove_dir_all(&datadir).unwrap();
    let mut command = program();
    command.arg("--move_back").arg("--backup_dir").arg(&b).arg("--datadir").arg(&datadir);
    let rocksdb = datadir.join("#rocksdb");
    let output = run(command.arg("--rocksdb_datadir").arg(&rocksdb).arg("--rocksdb_waldir").arg(&rocksdb));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning") && said.contains("no manifest"), "{said}");
}

#[test]
fn a_dry_run_of_a_move_back_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (b, datadir) = (dir.path().join("b"), dir.path().join("data"));
    std::fs::create_dir(&b).unwrap();
    std::fs::write(b.join("CURRENT"), "MANIFEST-000004\n").unwrap();
    let rocksdb = datadir.join("#rocksdb");
    let move_back = || {
        let mut command = program();
        command.arg("--move_back").arg("--backup_dir").arg(&b).arg("--datadir").arg(&datadir);
        command.arg("--rocksdb_datadir").arg(&rocksdb).arg("--rocksdb_waldir").arg(&rocksdb);
        command
    };
    let said = String::from_utf8(run(move_back().arg("--dry-run")).stdout).unwrap();
    assert!(said.contains("would move 1 entries"), "{said}");
    let plan = run(move_back().args(["--dry-run", "--json"])).stdout;
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!((&plan["kind"], &plan["entries"]), (&"move-back-plan".into(), &1.into()));
    assert!(b.join("CURRENT").exists() && !datadir.exists());
    run(&mut move_back());
    assert!(rocksdb.join("CURRENT").exists());
    fail(move_back().arg("--dry-run"), 3);
}

#[test]
fn one_of_several_backups_that_cannot_be_read_leaves_the_others_their_results() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "c"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let verify = |more: &[&str]| {
        let mut command = program();
        command.arg("verify").args(more).args(["a", "nowhere", "c"]).current_dir(dir.path());
        command.output().unwrap()
    };
    let output = verify(&["--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let backups = document["backups"].as_array().unwrap();
    let names: Vec<_> = backups.iter().map(|backup| backup["backup"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "nowhere", "c"]);
    assert!(backups[1]["error"]["message"].as_str().unwrap().contains("nowhere"), "{document}");
    assert_eq!(output.status.code(), Some(1), "that of the error");
    let said = String::from_utf8(verify(&[]).stdout).unwrap();
    assert!(said.contains("a: DAMAGED") && said.contains("c: DAMAGED"), "{said}");
}

#[test]
fn a_backup_that_is_none_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    fail(program().arg("verify").arg(dir.path().join("b")), 5);
    fail(&mut restore(&[&dir.path().join("b")], &dir.path().join("data")), 5);
}

/// The files of a data directory whose names begin like this.
fn beginning(datadir: &Path, name: &str) -> Vec<String> {
    let names = std::fs::read_dir(datadir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|n| n.starts_with(name)).collect();
    names.sort();
    names
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_restored_server_works_with_its_own_binlogs_and_leaves_those_of_the_original_alone() {
    // As Debian's packages suggest it: the index then holds absolute names.
    let server = Server::placed(|datadir| {
        let at = |name: &str| datadir.join(name).display().to_string();
        vec![
            PLUGIN.into(),
            format!("--log-bin={}", at("binlog")),
            format!("--relay-log={}", at("relay")),
            format!("--relay-log-index={}", at("relay.index")),
        ]
    });
    server.sql(
        "CREATE DATABASE d; FLUSH BINARY LOGS; CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=ROCKSDB;
         CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1; FLUSH BINARY LOGS",
    );
    let of_the_original = || [beginning(&server.datadir, "binlog"), beginning(&server.datadir, "relay")];
    let before = of_the_original();
    assert!(before.iter().all(|names| names.len() > 1), "{before:?}");
    let check = |copy: Server, what: &str| {
        let index = std::fs::read_to_string(copy.datadir.join("binlog.index")).unwrap();
        assert!(index.lines().all(|line| line.starts_with("./binlog.0")), "{what}: {index}");
        let logs = copy.sql("SHOW BINARY LOGS");
        assert!(logs.lines().count() > 3 && logs.starts_with("binlog.000001"), "{what}: {logs}");
        assert_eq!(copy.sql("SELECT @@gtid_binlog_pos"), server.sql("SELECT @@gtid_binlog_pos"), "{what}");
        copy.sql("RESET MASTER");
        assert_eq!(of_the_original(), before, "{what}");
        assert_eq!(beginning(&copy.datadir, "binlog.0"), ["binlog.000001"], "{what}: it has its own");
    };
    for form in ["tar", "xbstream", "dir"] {
        let to = server.dir.path().join(form);
        run(server.backup().args(["-s", form, "--to"]).arg(&to));
        let copy = restored(&[&to]);
        assert_eq!(beginning(&copy.datadir, "relay"), Vec::<String>::new(), "{form}");
        check(copy, form);
    }
    // As older versions, and the program before this one, made it.
    let old = server.dir.path().join("dir");
    let name = "binlog.index";
    std::fs::copy(server.datadir.join(name), old.join(name)).unwrap();
    std::fs::copy(server.datadir.join("relay.index"), old.join("relay.index")).unwrap();
    let path = old.join("myrocks-hotbackup.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    files.retain(|file| file["path"] != name);
    for name in [name, "relay.index"] {
        let size = old.join(name).metadata().unwrap().len();
        files.push(serde_json::json!({ "path": name, "size": size, "sum": null, "kind": "server" }));
    }
    std::fs::write(&path, manifest.to_string()).unwrap();
    let copy = restored(&[&old]);
    assert_eq!(beginning(&copy.datadir, "relay"), Vec::<String>::new(), "its relay logs are not there");
    check(copy, "restore of an older backup");
    check(moved_back(&old), "move-back of an older backup");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn every_kind_of_table_in_innodb_is_told_and_an_account_that_cannot_see_them_is_warned() {
    let server = Server::new();
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.v (id INT PRIMARY KEY) ENGINE=INNODB WITH SYSTEM VERSIONING;
         CREATE SEQUENCE d.s ENGINE=INNODB; CREATE SEQUENCE d.a ENGINE=ARIA;
         CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=INNODB;
         CREATE USER blind@localhost; GRANT SUPER, RELOAD ON *.* TO blind@localhost;
         CREATE USER half@localhost; GRANT SUPER, RELOAD ON *.* TO half@localhost;
         GRANT SELECT ON d.* TO half@localhost;
         CREATE ROLE seeing; GRANT SELECT ON *.* TO seeing; CREATE USER by_role@localhost;
         GRANT SUPER, RELOAD ON *.* TO by_role@localhost; GRANT seeing TO by_role@localhost;
         SET DEFAULT ROLE seeing FOR by_role@localhost",
    );
    let plan = |user: &str| {
        let output = run(server.backup().args(["--dry-run", "--json", "-u", user]));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (plan["left_out"][0]["tables"].as_u64(), plan["warnings"].to_string())
    };
    for (user, tables, is_warned) in [
        ("root", Some(3), false),
        ("by_role", Some(3), false),
        ("blind", None, true),
        ("half", Some(3), true),
    ] {
        let (found, warnings) = plan(user);
        assert_eq!((found, warnings.contains("SELECT")), (tables, is_warned), "{user}: {warnings}");
    }
    let to = server.dir.path().join("b.tar");
    let output = run(server.backup().args(["-q", "-u", "blind", "--to"]).arg(&to));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SELECT"), "{said}");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn files_whose_names_look_like_encoded_ones_are_no_obstacle() {
    let server = Server::new();
    server.bank();
    for name in ["notes.zst", "notes.aes", "notes.zst.aes"] {
        std::fs::write(server.datadir.join(name), "neither compressed nor encrypted").unwrap();
    }
    for (form, more) in [("tar", &[][..]), ("xbstream", &[]), ("dir", &[]), ("dir", &["--compress"])] {
        let to = server.dir.path().join(format!("{form}{}", more.len()));
        run(server.backup().args(["-s", form, "--to"]).arg(&to).args(more));
        run(program().arg("verify").arg(&to));
        let copy = restored(&[&to]);
        copy.assert_bank();
        let notes = std::fs::read_to_string(copy.datadir.join("notes.zst.aes")).unwrap();
        assert_eq!(notes, "neither compressed nor encrypted", "{form}");
    }
}
