//! `dbrecover list` as a user meets it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::{TempDir, tempdir};

fn backup(base: &Path, name: &str, point: &str, binlogs: &str) {
    let dir = base.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ok"), "ok\n").unwrap();
    fs::write(dir.join("consistent_point_datetime"), format!("{point}\n")).unwrap();
    let last = binlogs.rsplit(' ').next().unwrap();
    fs::write(
        dir.join("cluster_consistence_info"),
        format!(
            "10.0.0.1:3306\tm1\t{last}\t631\tbelong-to-datasource=g1\txb-to-lsn=7\txb-to-binlog-name={last}\t\
             xb-to-binlog-pos=631\n"
        ),
    )
    .unwrap();
    fs::write(dir.join("backuped_binlogs"), format!("m1:{binlogs}\n")).unwrap();
}

/// A chain of two, a full backup that joins it, one that does not, a damaged and an incomplete one.
fn store() -> TempDir {
    let dir = tempdir().unwrap();
    let base = dir.path();
    backup(base, "UTC20210205010000.000-full", "2021-02-05 01:00:00", "b.000001 b.000002");
    backup(base, "UTC20210205020000.000-inc", "2021-02-05 02:00:00", "b.000002 b.000003");
    backup(base, "UTC20210205030000.000-full", "2021-02-05 03:00:00", "b.000003 b.000004");
    backup(base, "UTC20210205050000.000-full", "2021-02-05 05:00:00", "b.000009");
    backup(base, "UTC20210205060000.000-full", "yesterday", "b.000009");
    backup(base, "UTC20210205063000.000-inc", "2021-02-05 06:30:00", "b.000009");
    fs::create_dir(base.join("UTC20210205070000.000-inc")).unwrap();
    fs::create_dir(base.join("trash")).unwrap();
    dir
}

fn list(dir: &TempDir, more: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    command.current_dir(dir).args(["list", "--store", "."]).args(more).assert()
}

fn stdout(assert: assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn the_table_names_backups_troubles_and_windows() {
    let text = stdout(list(&store(), &[]).success());
    assert_eq!(
        text,
        "\
.: 7 backups in 3 whole chains, 772 B

BACKUP                       CONSISTENT POINT      SIZE  SERVERS  STATE
UTC20210205010000.000-full   2021-02-05 01:00:00  158 B        1  ok
  UTC20210205020000.000-inc  2021-02-05 02:00:00  158 B        1  ok
UTC20210205030000.000-full   2021-02-05 03:00:00  158 B        1  ok
UTC20210205050000.000-full   2021-02-05 05:00:00  149 B        1  ok
UTC20210205060000.000-full   -                        -        -  damaged
  UTC20210205063000.000-inc  2021-02-05 06:30:00  149 B        1  broken chain
  UTC20210205070000.000-inc  -                        -        -  incomplete

UTC20210205060000.000-full: UTC20210205060000.000-full/consistent_point_datetime:1: not a time of the form YYYY-MM-DD \
HH:MM:SS
UTC20210205063000.000-inc: backup UTC20210205063000.000-inc cannot be recovered: it is based on \
UTC20210205060000.000-full, which cannot be used: UTC20210205060000.000-full/consistent_point_datetime:1: not a time of \
the form YYYY-MM-DD HH:MM:SS

Moments that can be reached, in local time of the machine that took the backups:
  2021-02-05 01:00:00 to 2021-02-05 03:00:00
  2021-02-05 05:00:00 to 2021-02-05 06:30:00
"
    );
}

#[test]
fn the_timeline_draws_chains_over_one_axis() {
    let text = stdout(list(&store(), &["--timeline"]).success());
    let drawn = text.split("\n\n").last().unwrap();
    assert_eq!(
        drawn,
        "\
\x20          2021-02-05 01:00:00                                                   2021-02-05 06:30:00
chain 1    F---------------i
chain 2                                    F
chain 3                                                                    F
reachable  =================================                               =========================
\x20          F full  i incremental  = any moment
"
    );
}

#[test]
fn json_has_a_schema_version_and_every_backup() {
    let text = stdout(list(&store(), &["--json"]).success());
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema_version"], 1);
    let states: Vec<&str> =
        value["backups"].as_array().unwrap().iter().map(|b| b["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ok", "ok", "ok", "ok", "damaged", "broken chain", "incomplete"]);
    assert_eq!(value["newest_incomplete"], "UTC20210205070000.000-inc");
    assert_eq!(value["windows"][0]["from"], "2021-02-05 01:00:00");
    assert_eq!(value["windows"][0]["to"], "2021-02-05 03:00:00");
    assert_eq!(value["windows"][1]["backups"][0], "UTC20210205050000.000-full");
    assert_eq!(value["chains"][0].as_array().unwrap().len(), 2);
    assert_eq!(value["backups"][0]["servers"][0]["role"], "master");
}

#[test]
fn a_store_from_which_nothing_can_be_recovered_is_exit_status_3() {
    let dir = tempdir().unwrap();
    let output = list(&dir, &["--json"]).code(3).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"backups\": []"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "dbrecover: nothing can be recovered from .\n");
}

#[test]
fn a_store_that_is_not_there_is_exit_status_4_and_no_store_is_wrong_usage() {
    let dir = tempdir().unwrap();
    let mut command = Command::cargo_bin("dbrecover").unwrap();
    let gone = command.current_dir(&dir).args(["list", "--store", "gone"]).assert().code(4);
    let stderr = String::from_utf8_lossy(&gone.get_output().stderr).into_owned();
    assert_eq!(stderr, "dbrecover: the store gone: cannot read .: No such file or directory (os error 2)\n");
    Command::cargo_bin("dbrecover").unwrap().arg("list").assert().code(2);
}

#[test]
fn windows_go_through_an_hour_that_was_there_twice_as_a_recovery_does() {
    let dir = tempdir().unwrap();
    let store = dir.path().join("store");
    backup(&store, "UTC20201025003000.000-full", "2020-10-25 02:31:00", "b.000001 b.000002");
    backup(&store, "UTC20201025011000.000-inc", "2020-10-25 02:11:00", "b.000002 b.000003");
    let config = format!(
        "[backup-store]\ndir = {}\n[recovery-job-server]\nwork-dir = {}\n[misc]\nconnect-method = local\ndebug = 0\n\
         time-zone = Europe/Berlin\n",
        store.display(),
        dir.path().join("work").display()
    );
    fs::write(dir.path().join("recovery.conf"), config).unwrap();
    let list = |more: &[&str]| {
        let mut command = Command::cargo_bin("dbrecover").unwrap();
        stdout(command.current_dir(&dir).arg("list").args(more).assert().success())
    };
    let text = list(&["--timeline"]);
    assert!(text.contains("\n  2020-10-25 02:31:00+02:00 to 2020-10-25 02:11:00+01:00\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let window = &json["windows"][0];
    let said =
        ["from", "to", "from_instant", "to_instant"].map(|key| window[key].as_str().unwrap().to_owned());
    assert_eq!(
        said,
        [
            "2020-10-25 02:31:00",
            "2020-10-25 02:11:00",
            "2020-10-25T00:31:00+00:00",
            "2020-10-25T01:11:00+00:00"
        ]
    );
}

#[test]
fn names_in_the_store_do_not_act_on_the_terminal() {
    let dir = store();
    fs::create_dir(dir.path().join("x\u{1b}[2Jy\nz")).unwrap();
    let text = stdout(list(&dir, &[]).success());
    assert!(text.contains("\nx\\u{1b}[2Jy\\nz: no backup, left alone\n"), "{text}");
}
