//! Backups by WDT. Debian does not have it: a stand-in keeps to its command line, over a throw-away sshd on loopback.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::program::write_program;
use crate::remote::config;
use crate::remote::sshd::Sshd;
use crate::server::{Server, fail, moved_back, program, restore, restored, run};

/// The other host, with the stand-in under the name `wdt` here and there.
struct Far {
    sshd: Sshd,
    tools: TempDir,
    path: String,
}

impl Far {
    fn new(environment: &str) -> Self {
        let tools = tempfile::tempdir().unwrap();
        let bin = tools.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let wdt = bin.join("wdt");
        write_program(&wdt, include_str!("wdt-stand-in.py"));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        // A home of its own: what the tester's shell does at its start is no part of the test.
        let home = tools.path().display();
        let sshd = Sshd::start_with(&format!("SetEnv PATH={path} HOME={home} {environment}")).unwrap();
        Self { sshd, tools, path }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tools.path().join(name)
    }

    /// A backup to the directory `name`; command lines of the stand-in go to the file `log`.
    fn backup(&self, server: &Server, name: &str) -> Command {
        let mut command = server.backup();
        command.env("PATH", &self.path).env("WDT_STAND_IN_LOG", self.at("log"));
        command.arg("--ssh-config").arg(config(&self.sshd));
        command.args(["--stream=wdt", "--destination=store", "--backup_dir"]).arg(self.at(name));
        command
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn wdt_goes_on_over_rounds_until_both_sides_have_all_and_its_url_is_in_no_argument() {
    let server = Server::new();
    server.bank();
    server.big(17_000);
    // At 5 MB/s a run of two seconds sends 10 MB: neither the data (17 MB and more) nor the server's files fit into one.
    std::fs::write(server.datadir.join("bank/large.MYD"), vec![7; 25_000_000]).unwrap();
    let far = Far::new("");
    let mut writers = Some(server.writers(&["trade"]));
    server.wait_for_rows(100);
    let output = run(far.backup(&server, "received").args([
        "--interval=2",
        "--avg_mbytes_per_sec=5",
        "--no-binlogs",
        "--extra_wdt_sender_options",
        "-num_ports=2 -block_size_mbytes '16'",
    ]));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.matches("checkpoint at").count() > 1, "more than one round: {stderr}");
    let commands = std::fs::read_to_string(far.at("log")).unwrap();
    let runs = commands.lines().filter(|line| line.contains("-app_name=myrocks")).count();
    assert!(
        runs > stderr.matches("checkpoint at").count(),
        "the server's files took more than one: {commands}"
    );
    assert!(!stderr.contains("wdt://") && !commands.contains("wdt://"), "{stderr} {commands}");
    assert!(commands.contains(r#""-num_ports=2", "-block_size_mbytes", "16", "-"]"#), "{commands}");
    server.assert_no_checkpoint();
    writers.take();
    let there = far.at("received");
    assert!(!names(&there).iter().any(|name| name.starts_with('.')), "{:?}", names(&there));
    run(program().args(["verify", "--blocks"]).arg(&there));
    let copy = restored(&[&there]);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 17_000);
    moved_back(&there).assert_bank();
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn a_backup_that_was_cut_off_is_gone_on_with_and_a_finished_one_is_left_alone() {
    let server = Server::new();
    server.bank();
    server.big(17_000);
    let far = Far::new("");
    let slow = ["--interval=2", "--avg_mbytes_per_sec=5"];
    let mut child = far.backup(&server, "received").args(slow).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while said.matches("checkpoint at").count() < 2 {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    run(Command::new("kill").arg(child.id().to_string()));
    assert_eq!(child.wait().unwrap().code(), Some(143));
    server.assert_no_checkpoint();
    let there = far.at("received");
    fail(&mut restore(&[&there], &far.at("restored")), 5);
    // The receiver's log: name, size and bytes so far of every piece.
    let log = std::fs::read_to_string(there.join(".wdt.log")).unwrap();
    let pieces = log.lines().skip(1).map(|line| serde_json::from_str::<(String, u64, u64)>(line).unwrap());
    let got: HashMap<_, _> = pieces.map(|(name, _, got)| (name, got)).collect();
    let got: u64 = got.into_values().sum();
    let data = std::fs::read_dir(server.datadir.join("#rocksdb")).unwrap().map(|entry| entry.unwrap());
    let data = data.filter(|entry| entry.file_name().to_string_lossy().ends_with(".sst"));
    let data: u64 = data.map(|entry| entry.metadata().unwrap().len()).sum();
    let log = || std::fs::read_to_string(far.at("log")).unwrap();
    let before = log().len();
    run(far.backup(&server, "received").args(["--consistent"]));
    let sent = log()[before..].lines().find_map(|line| line.strip_prefix("sent ")?.parse().ok());
    let sent: u64 = sent.expect("a run that sent data files");
    assert!(got > 0 && sent + got <= data, "{got} of {data} bytes were there, and yet {sent} came");
    let copy = restored(&[&there]);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 17_000);

    let stderr = fail(&mut far.backup(&server, "received"), 2);
    assert!(stderr.contains("is not empty"), "{stderr}");
    run(program().arg("verify").arg(&there));
    // Another database's numbers mean other files.
    let mark = far.at("foreign/.myrocks-hotbackup-unfinished");
    std::fs::create_dir(far.at("foreign")).unwrap();
    std::fs::write(&mark, "another database").unwrap();
    let stderr = fail(&mut far.backup(&server, "foreign"), 2);
    assert!(stderr.contains("another database"), "{stderr}");
    assert_eq!(names(&far.at("foreign")).len(), 1);
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn an_incremental_backup_by_wdt_sends_what_its_base_does_not_have() {
    let server = Server::new();
    server.bank();
    server.big(8000);
    let far = Far::new("");
    run(&mut far.backup(&server, "full"));
    server
        .sql("INSERT INTO bank.old (note) VALUES ('later'); SET GLOBAL rocksdb_force_flush_memtable_now = 1");
    let manifest = far.at("full/myrocks-hotbackup.json");
    let output = run(far.backup(&server, "inc").arg("--json").arg("--incremental-base").arg(&manifest));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["base_bytes"].as_u64().unwrap() > 8_000_000, "{report}");
    let copy = restored(&[&far.at("full"), &far.at("inc")]);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 8000);
    assert_eq!(copy.sql("SELECT note FROM bank.old"), "later");
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn an_error_of_wdt_that_no_round_can_mend_ends_the_backup() {
    let server = Server::new();
    let failing = Far::new("WDT_STAND_IN_FAIL=8");
    let stderr = fail(&mut failing.backup(&server, "received"), 4);
    assert!(stderr.contains("status 8") && stderr.contains("told to fail"), "{stderr}");
    let missing = Far::new("");
    std::fs::remove_file(missing.at("bin/wdt")).unwrap();
    fail(&mut missing.backup(&server, "received"), 4);
    server.assert_no_checkpoint();
}

#[test]
fn options_that_wdt_does_not_heed_are_refused() {
    let key = tempfile::NamedTempFile::new().unwrap();
    for option in [
        &["--compress"][..],
        &["--encrypt", key.path().to_str().unwrap()],
        &["--to", "/nowhere/x"],
        &["--rate-limit", "1M"],
    ] {
        let mut command = program();
        command.args(["--stream=wdt", "--destination=store", "--backup_dir=/nowhere"]).args(option);
        assert!(fail(&mut command, 2).contains(option[0]));
    }
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn wdt_into_a_directory_that_is_a_link_is_a_backup() {
    let server = Server::new();
    let far = Far::new("");
    std::fs::create_dir(far.at("disk")).unwrap();
    std::os::unix::fs::symlink(far.at("disk"), far.at("link")).unwrap();
    run(&mut far.backup(&server, "link"));
    run(program().arg("verify").arg(far.at("disk")));
    assert!(far.at("link").is_symlink());
}
