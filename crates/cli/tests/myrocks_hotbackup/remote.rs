//! Other hosts: a throw-away sshd on loopback, and a stand-in for wdt, which Debian does not have.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::server::{Server, fail, moved_back, restored, run};

#[allow(dead_code, unreachable_pub)]
#[path = "../../../remote-exec/tests/common/sshd.rs"]
pub(crate) mod sshd;

use sshd::Sshd;

/// An ssh configuration in which the throw-away server is `store`.
pub(crate) fn config(sshd: &Sshd) -> PathBuf {
    let path = sshd.dir().join("ssh_config");
    let text = format!(
        "Host store\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n IdentitiesOnly yes\n",
        sshd.port(),
        sshd.identity().display(),
        sshd.known_hosts().display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn backups_to_another_host_are_there_whole_or_not_at_all() {
    let server = Server::new();
    server.bank();
    let sshd = Sshd::start().unwrap();
    let there = sshd.dir().join("it's a \"place\"");
    let to = |name: &str| format!("ssh://store{}/{name}", there.display());
    let backup = |form: &str, name: &str| {
        let mut command = server.backup();
        command.arg("--ssh-config").arg(config(&sshd)).args(["-s", form, "--to", &to(name)]);
        command
    };
    run(backup("tar", "full").args(["--compress=zstd:1"]));
    run(&mut backup("xbstream", "xbs"));
    run(&mut backup("dir", "dir"));
    for name in ["full/backup.tar.zst", "xbs/backup.xbstream", "dir"] {
        restored(&[&there.join(name)]).assert_bank();
    }
    // What is there is never replaced.
    assert!(fail(&mut backup("dir", "dir"), 4).contains("exists already"));
    fail(&mut backup("tar", "xbs/backup.xbstream"), 4);
    // A backup that fails leaves nothing there.
    fail(backup("dir", "broken").args(["-u", "nobody"]), 4);
    assert!(!there.join("broken").exists() && !there.join("broken.partial").exists());
    server.assert_no_checkpoint();
}

/// A directory with the stand-in under the name `wdt`.
fn stand_in(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let wdt = bin.join("wdt");
    std::fs::write(&wdt, include_str!("wdt-stand-in.py")).unwrap();
    std::fs::set_permissions(&wdt, std::fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn wdt_goes_on_over_rounds_until_both_sides_have_all_and_its_url_is_in_no_argument() {
    let server = Server::new();
    server.bank();
    server.sql(
        "CREATE TABLE bank.big (id INT PRIMARY KEY, v VARBINARY(1000)) ENGINE=ROCKSDB;
         INSERT INTO bank.big SELECT seq, RANDOM_BYTES(1000) FROM bank.seq_1_to_17000;
         SET GLOBAL rocksdb_force_flush_memtable_now = 1",
    );
    let tools = tempfile::tempdir().unwrap();
    let bin = stand_in(tools.path());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let sshd = Sshd::start_with(&format!("SetEnv PATH={path}")).unwrap();
    let log = tools.path().join("log");
    let there = tools.path().join("received");
    let mut writers = Some(server.writers(&["trade"]));
    server.wait_for_rows(100);
    // 21 MB at 10 MB/s do not fit into one round of two seconds; what the second round has to send, 6 MB, does.
    let output = run(server
        .backup()
        .env("PATH", &path)
        .env("WDT_STAND_IN_LOG", &log)
        .arg("--ssh-config")
        .arg(config(&sshd))
        .args([
            "--stream=wdt",
            "--destination=store",
            "--interval=2",
            "--avg_mbytes_per_sec=10",
            "--no-binlogs",
        ])
        .args(["--extra_wdt_sender_options", "-num_ports=2 -block_size_mbytes '16'", "--backup_dir"])
        .arg(&there));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.matches("checkpoint at").count() > 1, "more than one round: {stderr}");
    assert!(!stderr.contains("wdt://"), "{stderr}");
    let commands = std::fs::read_to_string(&log).unwrap();
    assert!(
        !commands.contains("wdt://")
            && commands.contains(r#""-num_ports=2", "-block_size_mbytes", "16", "-"]"#),
        "{commands}"
    );
    server.assert_no_checkpoint();
    writers.take();
    std::fs::remove_file(there.join(".wdt.log")).unwrap();
    let copy = moved_back(&there);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 17_000);
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn an_error_of_wdt_that_no_round_can_mend_ends_the_backup() {
    let server = Server::new();
    let tools = tempfile::tempdir().unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", stand_in(tools.path()).display());
    let backup = |sshd: &Sshd| {
        let mut command = server.backup();
        command.env("PATH", &path).arg("--ssh-config").arg(config(sshd));
        command.args(["--stream=wdt", "--destination=store", "--interval=5", "--backup_dir"]);
        command.arg(tools.path().join("received"));
        command
    };
    let failing = Sshd::start_with(&format!("SetEnv PATH={path} WDT_STAND_IN_FAIL=8")).unwrap();
    let stderr = fail(&mut backup(&failing), 4);
    assert!(stderr.contains("status 8") && stderr.contains("told to fail"), "{stderr}");
    let missing = Sshd::start().unwrap();
    fail(&mut backup(&missing), 4);
    server.assert_no_checkpoint();
}
