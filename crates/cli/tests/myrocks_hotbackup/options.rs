//! Options of the original, accounts, passwords, JSON, dry run, and what is said.

use std::collections::BTreeSet;

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
    let lock = |more: &[&str]| {
        let output = run(server.backup().args(["--dry-run", "--json"]).args(more));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (plan["lock"].as_str().unwrap().to_owned(), plan["warnings"].as_array().unwrap().len())
    };
    assert_eq!(lock(&[]), ("server-files".into(), 0));
    assert_eq!(lock(&["--consistent"]), ("checkpoint".into(), 0));
    assert_eq!(lock(&["--no-lock"]), ("none".into(), 0));
    assert_eq!(lock(&["--no-binlogs"]), ("checkpoint".into(), 0));
    assert_eq!(lock(&["--no-binlogs", "--no-lock"]), ("none".into(), 1));
    // The same directory by another name holds the binlogs, too.
    std::os::unix::fs::symlink(&server.datadir, server.dir.path().join("link")).unwrap();
    let link = server.dir.path().join("link");
    assert_eq!(lock(&["--datadir", link.to_str().unwrap()]), ("server-files".into(), 0));
    let output = run(server.backup().args(["--dry-run", "--json", "--no-binlogs", "--datadir"]).arg(&link));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped: Vec<_> =
        plan["skipped"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert!(skipped.contains(&"binlog.000001") && skipped.contains(&"binlog.index"), "{skipped:?}");
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
        &["--move-back", "--to", "x"],
        &["--move-back", "--encrypt", "x"],
        &["--encrypt"],
        &["--password=", "--password-file", "/dev/null"],
        &["restore", "--from", "x"],
        &["verify"],
    ] {
        fail(program().args(args).current_dir(dir.path()), 2);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Options of the original with a value each; `None` for those that have none.
const ORIGINAL: [(&str, Option<&str>, Option<&str>); 19] = [
    ("interval", Some("i"), Some("5")),
    ("checkpoint_dir", Some("c"), Some("/nowhere/c")),
    ("datadir", Some("d"), Some("/nowhere/d")),
    ("stream", Some("s"), Some("tar")),
    ("stream", Some("s"), Some("xbstream")),
    ("destination", None, Some("host")),
    ("avg_mbytes_per_sec", None, Some("5")),
    ("extra_wdt_sender_options", None, Some("-a b")),
    ("extra_wdt_receiver_options", None, Some("-a b")),
    ("user", Some("u"), Some("u")),
    ("password", Some("p"), Some("p")),
    ("port", Some("P"), Some("1")),
    ("socket", Some("S"), Some("/nowhere/s")),
    ("move_back", Some("m"), None),
    ("rocksdb_datadir", Some("r"), Some("/nowhere/r")),
    ("rocksdb_waldir", Some("w"), Some("/nowhere/w")),
    ("backup_dir", Some("b"), Some("/nowhere/b")),
    ("skip_check_frm_timestamp", Some("f"), None),
    ("debug_signal_file", Some("D"), Some("/nowhere/D")),
];

#[test]
fn options_of_the_original_are_known_in_every_spelling() {
    let dir = tempfile::tempdir().unwrap();
    for (name, short, value) in ORIGINAL {
        let dashes = name.replace('_', "-");
        let mut spellings = vec![];
        for long in [name, &dashes] {
            spellings.push([Some(format!("--{long}")), value.map(str::to_owned)]);
            spellings.extend(value.map(|value| [Some(format!("--{long}={value}")), None]));
        }
        if let Some(short) = short {
            spellings.push([Some(format!("-{short}")), value.map(str::to_owned)]);
            spellings.extend(value.map(|value| [Some(format!("-{short}{value}")), None]));
        }
        for spelling in spellings {
            let arguments: Vec<_> = spelling.into_iter().flatten().collect();
            let output = program().args(&arguments).current_dir(dir.path()).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            // Where there is no server at that place the run ends; the option was understood before.
            assert!(!output.status.success(), "{arguments:?}");
            for word in ["unexpected argument", "invalid value", "a value is required"] {
                assert!(!stderr.contains(word), "{arguments:?}: {stderr}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The names of long options in a text.
fn long_options(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c: char| !is_name(c));
    words.filter_map(|w| w.strip_prefix("--")).filter(|w| w.len() > 1).map(str::to_owned).collect()
}

#[test]
fn the_guide_has_every_option_and_no_other() {
    let mut known = BTreeSet::new();
    for command in [&["--help"][..], &["restore", "--help"], &["verify", "--help"]] {
        known.extend(long_options(&String::from_utf8(run(program().args(command)).stdout).unwrap()));
    }
    for general in ["help", "version"] {
        known.remove(general);
    }
    let guide = include_str!("../../../../docs/myrocks/guide.md");
    let mut told = long_options(guide);
    // Of `./try`, `mariadb-upgrade`, `mariadb-dump` and `mariadbd`.
    for foreign in ["myrocks", "force", "single-transaction", "tc-heuristic-recover"] {
        told.remove(foreign);
    }
    assert_eq!(known.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the guide");
    assert_eq!(told.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "only in the guide");
}

#[test]
fn an_option_file_that_names_another_host_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let defaults = dir.path().join("my.cnf");
    std::fs::write(&defaults, "[client]\nhost=192.0.2.1\nport=1\n").unwrap();
    let mut command = program();
    command.args(["--checkpoint-dir", "/nowhere", "--dry-run"]).arg("--defaults-file").arg(&defaults);
    let stderr = fail(&mut command, 2);
    assert!(stderr.contains("192.0.2.1") && stderr.contains("not this machine"), "{stderr}");
}

#[test]
fn empty_values_mean_what_they_meant() {
    let connects = |args: &[&str], address: &str| {
        let mut command = program();
        command.args(["--checkpoint-dir", "/nowhere", "--dry-run", "-P", "1"]).args(args);
        // Exit code 2 is that of a prompt without a terminal.
        let stderr = fail(&mut command, 4);
        assert!(stderr.contains(address), "{args:?}: {stderr}");
    };
    for empty in [&["--password="][..], &["-p", ""], &["--password", ""]] {
        connects(empty, "127.0.0.1:1");
    }
    for empty in [&["--socket="][..], &["-S", ""], &["--socket=", "--datadir="]] {
        connects(empty, "127.0.0.1:1");
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn an_empty_password_goes_before_other_sources_and_an_empty_data_directory_is_none() {
    let server = Server::new();
    let defaults = server.dir.path().join("my.cnf");
    std::fs::write(&defaults, "[client]\npassword=wrong\n").unwrap();
    let mut command = server.backup();
    command.args(["--dry-run", "--password=", "--datadir="]).env("MYSQL_PWD", "wrong");
    let output = run(command.arg("--defaults-file").arg(&defaults));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "",
        "nothing that is secret is on the command line"
    );
}

#[test]
fn a_move_back_refuses_what_says_something_about_a_backup_only() {
    for more in [&["--to", "x"][..], &["--encrypt", "x"], &["--consistent"]] {
        let mut command = program();
        command.args(["--move-back", "--backup-dir", "/nowhere/b", "--datadir", "/nowhere/d"]);
        command.args(["--rocksdb-datadir", "/nowhere/r", "--rocksdb-waldir", "/nowhere/r"]).args(more);
        let stderr = fail(&mut command, 2);
        assert!(stderr.contains("cannot be used with"), "{more:?}: {stderr}");
    }
}
