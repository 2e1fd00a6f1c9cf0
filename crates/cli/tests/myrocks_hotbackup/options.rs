//! Accounts, passwords, JSON, dry run, and what is said.

use crate::server::{Server, fail, program, run};

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn passwords_come_from_every_source_and_only_the_command_line_is_warned_about() {
    let server = Server::new();
    let secret = "p#w 'q\"";
    server.sql("CREATE USER b@localhost IDENTIFIED BY 'p#w \\'q\"'; GRANT ALL ON *.* TO b@localhost");
    let dir = server.dir.path();
    let (file, defaults) = (dir.join("password"), dir.join("my.cnf"));
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    std::fs::write(&defaults, format!("[client]\nuser=b\npassword='{}'\n[mysqld]\npassword=no\n", "wrong"))
        .unwrap();
    let plan = |more: &[&str]| {
        let mut command = server.backup();
        command.args(["--dry-run", "-u", "b"]).args(more);
        command
    };
    let warned = |output: std::process::Output| String::from_utf8(output.stderr).unwrap();
    let stderr = warned(run(&mut plan(&["-p", secret])));
    assert!(stderr.contains("warning") && !stderr.contains(secret), "{stderr}");
    assert_eq!(warned(run(plan(&[]).arg("--password-file").arg(&file))), "");
    assert_eq!(warned(run(plan(&[]).env("MYSQL_PWD", secret))), "");
    let stderr = fail(plan(&[]).arg("--defaults-file").arg(&defaults), 4);
    assert!(stderr.contains("refuses the account") && !stderr.contains("wrong"), "{stderr}");
    // What is nearer goes before the option file.
    run(plan(&["--password-file"]).arg(&file).arg("--defaults-file").arg(&defaults));
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_dry_run_tells_what_would_be_sent_and_touches_nothing() {
    let server = Server::new();
    server.bank();
    server.sql(
        "SET GLOBAL rocksdb_force_flush_memtable_now = 1;
         CREATE TABLE bank.inno (id INT PRIMARY KEY) ENGINE=INNODB; INSERT INTO bank.inno VALUES (1)",
    );
    let output = run(server.backup().args(["--dry-run", "--json"]));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&plan["schema_version"], &plan["kind"]), (&1.into(), &"plan".into()));
    assert!(plan["data_files"].as_u64().unwrap() > 0 && plan["server_files"].as_u64().unwrap() > 100);
    assert_eq!(plan["left_out"][0]["engine"], "InnoDB");
    assert_eq!(plan["left_out"][0]["tables"], 1);
    assert!(!server.snapshots().exists(), "a dry run makes no directory");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn innodb_beside_myrocks_is_said_clearly_and_kept_in_the_manifest() {
    let server = Server::new();
    server.sql("CREATE DATABASE d; CREATE TABLE d.inno (id INT PRIMARY KEY) ENGINE=INNODB");
    let to = server.dir.path().join("b");
    let output = run(server.backup().args(["--quiet", "-s", "dir", "--to"]).arg(&to));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("1 tables of the engine InnoDB") && stderr.contains("NOT in this backup"),
        "{stderr}"
    );
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(to.join("myrocks-hotbackup.json")).unwrap()).unwrap();
    assert_eq!(manifest["left_out"][0]["engine"], "InnoDB");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn json_events_are_lines_on_stderr_and_the_result_is_the_last_one() {
    let server = Server::new();
    server.bank();
    let output = run(server.backup().arg("--json").stdout(std::process::Stdio::piped()));
    assert_eq!(&output.stdout[257..262], b"ustar", "the standard output is the archive alone");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["event"], "reading");
    assert!(lines.iter().any(|l| l["event"] == "checkpoint"));
    assert_eq!(lines.last().unwrap()["kind"], "backup");
}

#[test]
fn wrong_usage_ends_with_2_and_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["--move-back", "--backup-dir", "/nowhere"][..],
        &["--stream", "zip"],
        &["--stream", "dir"],
        &["--stream", "wdt"],
        &["--compress", "gzip"],
        &["--rate-limit", "fast"],
        &["--consistent", "--no-lock"],
        &["--encrypt"],
        &["restore", "--from", "x"],
        &["verify"],
    ] {
        fail(program().args(args).current_dir(dir.path()), 2);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
