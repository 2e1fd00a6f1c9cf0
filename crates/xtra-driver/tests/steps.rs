//! Which commands are run in which order, told by a stand-in that logs its arguments.

#[path = "../../../tests/common/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use program::write_program;
use remote_exec::Host;
use tempfile::TempDir;
use xtra_driver::{Driver, Error, Event, LsnRule, Options, Part, Prepared, Stage, Tool};

const MARIABACKUP: &str = "mariabackup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)";
const XTRABACKUP: &str =
    "xtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 1)";

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(lab.path("calls"), "").unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A stand-in: says `version`, logs its arguments below the lab's directory as `DIR/…`, then does `body`.
    fn tool(&self, version: &str, body: &str) -> String {
        let path = self.path("tool");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}' >&2; exit 0; fi\n\
             echo \"$*\" | sed 's#{dir}#DIR#g' >>'{dir}/calls'\n{body}\n",
            dir = self.dir.path().display()
        );
        write_program(&path, &script);
        path.to_str().unwrap().to_owned()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }

    /// An extracted backup.
    fn part(&self, name: &str, from_lsn: u64, to_lsn: u64, server: &str) -> Part {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        let kind = if from_lsn == 0 { "full-backuped" } else { "incremental" };
        write(
            &dir,
            "xtrabackup_checkpoints",
            &format!("backup_type = {kind}\nfrom_lsn = {from_lsn}\nto_lsn = {to_lsn}\n"),
        );
        write(&dir, "xtrabackup_info", &format!("uuid = {name}\nserver_version = {server}\n"));
        write(&dir, "xtrabackup_binlog_info", "b.000002\t639\t0-1-7\n");
        write(
            &dir,
            "backup-my.cnf",
            "[mysqld]\ninnodb_data_file_path=ibdata1:12M:autoextend\ninnodb_page_size=8192\n",
        );
        write(&dir, "ibdata1", "");
        Part::new(name, dir).recorded_to_lsn(to_lsn)
    }

    fn chain(&self, server: &str) -> (Part, Vec<Part>) {
        let full = self.part("full", 0, 100, server);
        (full, vec![self.part("inc1", 100, 100, server), self.part("inc2", 100, 130, server)])
    }

    async fn driver(&self, program: &str) -> Driver {
        let tool = Tool::detect(&Host::local(), program).await.unwrap();
        let mut options = Options::new(self.path("log"));
        options.use_memory = Some(1 << 20);
        options.parallel = Some(3);
        options.timeout = Some(Duration::from_secs(60));
        Driver::new(tool, options)
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

const OK: &str = "echo '[00] 2026-11-20 15:48:43 completed OK!' >&2";

async fn prepare(driver: &Driver, chain: (Part, Vec<Part>)) -> Result<(Prepared, Vec<String>), Error> {
    let events = Mutex::new(Vec::new());
    let watch = |event: Event| {
        events.lock().unwrap().push(match event {
            Event::Begun { label, index, of } => format!("begun {label} {index}/{of}"),
            Event::Done(step) => format!("done {}", step.label),
            Event::DoneBefore { label } => format!("before {label}"),
            other => format!("{other:?}"),
        });
    };
    let prepared = driver.prepare(driver.open(chain.0, chain.1).await?, &watch).await?;
    Ok((prepared, events.into_inner().unwrap()))
}

#[tokio::test]
async fn xtrabackup_keeps_transactions_open_in_every_step_but_the_last() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(XTRABACKUP, OK)).await;
    let (prepared, events) = prepare(&driver, lab.chain("8.0.26-16")).await.unwrap();
    let begin = "--defaults-file=DIR/full/backup-my.cnf --prepare";
    assert_eq!(
        lab.calls(),
        [
            format!("{begin} --apply-log-only --use-memory=1048576 --target-dir=DIR/full"),
            format!(
                "{begin} --apply-log-only --use-memory=1048576 --target-dir=DIR/full --incremental-dir=DIR/inc1"
            ),
            format!("{begin} --use-memory=1048576 --target-dir=DIR/full --incremental-dir=DIR/inc2"),
        ]
    );
    assert_eq!(
        events,
        ["begun full 0/3", "done full", "begun inc1 1/3", "done inc1", "begun inc2 2/3", "done inc2"]
    );
    assert_eq!((prepared.to_lsn, prepared.steps.len()), (130, 3));
    assert_eq!(prepared.binlog.unwrap().position, 639);
    assert_eq!(prepared.my_cnf.page_size(), Some(8192));
    assert!(prepared.steps[1].log.ends_with("prepare-inc1.log") && prepared.steps[1].log.exists());
}

#[tokio::test]
async fn a_full_backup_alone_is_prepared_to_the_end() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(XTRABACKUP, OK)).await;
    prepare(&driver, (lab.part("full", 0, 100, "8.0.26"), Vec::new())).await.unwrap();
    assert_eq!(
        lab.calls(),
        ["--defaults-file=DIR/full/backup-my.cnf --prepare --use-memory=1048576 --target-dir=DIR/full"]
    );
}

#[tokio::test]
async fn mariabackup_gets_no_flag_that_it_does_not_know() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    prepare(&driver, lab.chain("10.11.4-MariaDB-log")).await.unwrap();
    let begin = "--defaults-file=DIR/full/backup-my.cnf --prepare --use-memory=1048576 --target-dir=DIR/full";
    let expected = [
        begin.to_owned(),
        format!("{begin} --incremental-dir=DIR/inc1"),
        format!("{begin} --incremental-dir=DIR/inc2"),
    ];
    assert_eq!(lab.calls(), expected);
}

#[tokio::test]
async fn a_step_that_was_done_is_not_repeated() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let server = "10.11.4-MariaDB";
    let (full, incs) = lab.chain(server);
    prepare(&driver, (full.clone(), incs[..1].to_vec())).await.unwrap();
    // What the tool leaves in the base.
    write(&full.dir, "xtrabackup_checkpoints", "backup_type = log-applied\nfrom_lsn = 0\nto_lsn = 100\n");
    let (_, events) = prepare(&driver, (full, incs)).await.unwrap();
    assert_eq!(events, ["before full", "before inc1", "begun inc2 2/3", "done inc2"]);
    assert_eq!(lab.calls().len(), 3);
    let (full, incs) = (Part::new("full", lab.path("full")), ["inc1", "inc2"]);
    for inc in incs {
        fs::remove_dir_all(lab.path(inc)).unwrap();
    }
    let incs = incs.map(|inc| Part::new(inc, lab.path(inc))).to_vec();
    let (prepared, _) = prepare(&driver, (full, incs)).await.unwrap();
    assert_eq!(
        (prepared.steps.len(), prepared.to_lsn),
        (0, 130),
        "what was applied need not be there any more"
    );
}

#[tokio::test]
async fn a_step_that_failed_is_an_error_with_its_log_and_never_repeated() {
    let lab = Lab::new();
    let body = format!(
        "case \"$*\" in *inc1*) echo one >&2; echo 'Operating system error' >&2; exit 1;; esac\n{OK}"
    );
    let driver = lab.driver(&lab.tool(MARIABACKUP, &body)).await;
    let chain = || lab.chain("10.11.4-MariaDB");
    let error = prepare(&driver, chain()).await.unwrap_err();
    let log = lab.path("log/prepare-inc1.log");
    assert_eq!(
        error.to_string(),
        format!(
            "prepare of inc1 failed: exit status 1; its log is {}\none\nOperating system error",
            log.display()
        )
    );
    assert!(matches!(&error, Error::Step { stage: Stage::Prepare, label, .. } if label == "inc1"));
    assert!(matches!(prepare(&driver, chain()).await, Err(Error::Interrupted { label }) if label == "inc1"));
    assert_eq!(lab.calls().len(), 2, "nothing ran after the failure");
}

#[tokio::test]
async fn exit_status_0_without_the_closing_line_is_a_failure() {
    let lab = Lab::new();
    for body in ["true", "echo 'completed OK! or not' >&2", &format!("{OK}\necho crashed >&2")] {
        let _ = fs::remove_dir_all(lab.path("log"));
        let driver = lab.driver(&lab.tool(MARIABACKUP, body)).await;
        let error =
            prepare(&driver, (lab.part("full", 0, 100, "10.11.4-MariaDB"), Vec::new())).await.unwrap_err();
        assert!(
            error.to_string().contains("it ended with 0, but without `completed OK!`"),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn a_step_that_outruns_its_time_is_ended() {
    let lab = Lab::new();
    let mut driver = lab.driver(&lab.tool(MARIABACKUP, "sleep 600")).await;
    let mut options = Options::new(lab.path("log"));
    options.timeout = Some(Duration::from_millis(300));
    driver = Driver::new(driver.tool().clone(), options);
    let chain = || (lab.part("full", 0, 100, "10.11.4-MariaDB"), Vec::new());
    match prepare(&driver, chain()).await.unwrap_err() {
        Error::Host { source, .. } => assert!(matches!(*source, remote_exec::Error::Timeout { .. })),
        other => panic!("{other}"),
    }
    assert!(matches!(prepare(&driver, chain()).await, Err(Error::Interrupted { .. })));
}

#[tokio::test]
async fn a_chain_that_does_not_fit_is_refused_before_anything_is_run() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let server = "10.11.4-MariaDB";
    let full = lab.part("full", 0, 100, server);
    let gap = lab.part("inc2", 120, 130, server);
    match driver.open(full.clone(), vec![gap]).await {
        Err(Error::Chain { label, rule }) => {
            assert_eq!(
                (label.as_str(), rule),
                ("inc2", LsnRule::StartsAtEndOfPrevious { from: 120, previous_to: 100 })
            );
        }
        other => panic!("{other:?}"),
    }
    let recorded = driver.open(full.clone().recorded_to_lsn(99), Vec::new()).await;
    assert!(matches!(recorded, Err(Error::Chain { rule: LsnRule::EndsWhereRecorded { .. }, .. })));
    let other_server = lab.part("full", 0, 100, "10.6.1-MariaDB");
    assert!(matches!(driver.open(other_server, Vec::new()).await, Err(Error::Incompatible { .. })));
    assert_eq!(lab.calls().len(), 0);
}

#[tokio::test]
async fn a_backup_of_some_tables_is_refused_unless_that_is_allowed() {
    let lab = Lab::new();
    let mut driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let server = "10.11.4-MariaDB";
    let partial = |part: &Part| {
        write(&part.dir, "xtrabackup_info", &format!("server_version = {server}\npartial = Y\n"));
    };
    for at in [0, 1] {
        let (full, incs) = (lab.part("full", 0, 100, server), vec![lab.part("inc1", 100, 130, server)]);
        let which = if at == 0 { full.clone() } else { incs[0].clone() };
        partial(&which);
        match driver.open(full, incs).await {
            Err(Error::Partial { dir }) => assert_eq!(dir, which.dir),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lab.calls().len(), 0);
    let mut options = Options::new(lab.path("log"));
    options.allow_partial = true;
    driver = Driver::new(driver.tool().clone(), options);
    let (full, incs) = (lab.part("full", 0, 100, server), vec![lab.part("inc1", 100, 130, server)]);
    partial(&incs[0]);
    let (prepared, _) = prepare(&driver, (full, incs)).await.unwrap();
    assert_eq!(prepared.partial, ["inc1"]);
}

#[tokio::test]
async fn a_backup_that_something_else_prepared_is_refused() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let full = lab.part("full", 0, 100, "10.11.4-MariaDB");
    write(&full.dir, "xtrabackup_checkpoints", "backup_type = log-applied\nfrom_lsn = 0\nto_lsn = 100\n");
    assert!(matches!(driver.open(full, Vec::new()).await, Err(Error::AlreadyPrepared { .. })));
}

#[tokio::test]
async fn every_member_that_a_whole_backup_holds_is_missed_when_it_is_not_there() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    for member in ["xtrabackup_checkpoints", "xtrabackup_info", "backup-my.cnf", "ibdata1"] {
        let full = lab.part("full", 0, 100, "10.11.4-MariaDB");
        fs::remove_file(full.dir.join(member)).unwrap();
        match driver.open(full, Vec::new()).await {
            Err(Error::MissingMember { member: found, .. }) => assert_eq!(found, member),
            other => panic!("{member}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_backup_that_the_tool_encrypted_is_not_called_a_broken_one() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(XTRABACKUP, OK)).await;
    let full = lab.part("full", 0, 100, "8.0.26");
    for entry in fs::read_dir(&full.dir).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, format!("{}.zst.xbcrypt", path.display())).unwrap();
    }
    let refused = driver.open(full, Vec::new()).await.unwrap_err();
    assert!(matches!(refused, Error::Encrypted { .. }), "{refused:?}");
    let (full, inc) = (lab.part("plain", 0, 100, "8.0.26"), lab.part("inc", 100, 130, "8.0.26"));
    write(&inc.dir, "t.ibd.delta.xbcrypt", "");
    let refused = driver.open(full, vec![inc]).await.unwrap_err();
    assert!(matches!(refused, Error::Encrypted { .. }), "{refused:?}");
}

#[tokio::test]
async fn the_new_names_of_metadata_files_are_read() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let full = lab.part("full", 0, 100, "10.11.4-MariaDB");
    for name in ["checkpoints", "info", "binlog_info"] {
        fs::rename(
            full.dir.join(format!("xtrabackup_{name}")),
            full.dir.join(format!("mariadb_backup_{name}")),
        )
        .unwrap();
    }
    let (prepared, _) = prepare(&driver, (full, Vec::new())).await.unwrap();
    assert_eq!((prepared.to_lsn, prepared.binlog.unwrap().file.as_str()), (100, "b.000002"));
}

#[tokio::test]
async fn decompression_runs_only_where_it_is_needed_and_must_leave_nothing_compressed() {
    let lab = Lab::new();
    let dir = lab.path("d");
    fs::create_dir_all(dir.join("db")).unwrap();
    let driver = lab.driver(&lab.tool(XTRABACKUP, OK)).await;
    assert_eq!(driver.decompress(&dir, "full").await.unwrap(), None);
    assert_eq!(lab.calls().len(), 0);
    write(&dir, "db/t.ibd.zst", "");
    let left = driver.decompress(&dir, "full").await.unwrap_err();
    assert!(matches!(left, Error::StillCompressed { member } if member.ends_with("db/t.ibd.zst")));
    assert_eq!(lab.calls(), ["--decompress --remove-original --parallel=3 --target-dir=DIR/d"]);
    let opened = driver.open(Part::new("full", &dir), Vec::new()).await;
    assert!(matches!(opened, Err(Error::StillCompressed { .. })));
    let body = format!("find '{}' -name '*.zst' -delete; {OK}", dir.display());
    let driver = lab.driver(&lab.tool(XTRABACKUP, &body)).await;
    assert!(driver.decompress(&dir, "full").await.unwrap().is_some());
    write(&dir, "db/t.ibd.zst.xbcrypt", "");
    assert!(matches!(driver.decompress(&dir, "full").await, Err(Error::Encrypted { .. })));
}

#[tokio::test]
async fn qpress_members_without_qpress_are_refused_before_the_tool_runs() {
    // Debian has no qpress; where somebody installed one, there is nothing to refuse.
    if Host::local().find_program("qpress").await.unwrap().is_some() {
        panic!("this machine has a qpress; the test is about one that has none");
    }
    let lab = Lab::new();
    let dir = lab.path("d");
    fs::create_dir_all(dir.join("db")).unwrap();
    write(&dir, "db/t.ibd.qp", "");
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    let refused = driver.decompress(&dir, "full").await.unwrap_err();
    assert!(matches!(&refused, Error::NoDecompressor { program: "qpress", .. }), "{refused:?}");
    assert_eq!(lab.calls().len(), 0);
}

#[tokio::test]
async fn a_streamer_that_complains_and_ends_with_0_has_failed() {
    let lab = Lab::new();
    let driver = lab.driver(&lab.tool(MARIABACKUP, OK)).await;
    write(lab.dir.path(), "stream", "x");
    let extract = |body: &str| {
        let streamer = lab.path("streamer");
        write_program(&streamer, &format!("#!/bin/sh\ncat >\"$3/got\"\n{body}\n"));
        let (driver, stream, into) = (driver.clone(), lab.path("stream"), lab.path("into"));
        async move { driver.extract(streamer.to_str().unwrap(), &stream, &into, "full").await }
    };
    extract("true").await.unwrap();
    assert_eq!(fs::read_to_string(lab.path("into/got")).unwrap(), "x");
    let complained = extract("echo 'failed to create file.' >&2").await.unwrap_err().to_string();
    assert!(complained.contains("ended with 0, and complained"), "{complained}");
    assert!(extract("exit 1").await.unwrap_err().to_string().contains("exit status 1"));
    fs::remove_file(lab.path("stream")).unwrap();
    let gone = extract("true").await.unwrap_err().to_string();
    assert!(gone.contains("No such file"), "{gone}");
}

#[tokio::test]
async fn what_is_no_backup_tool_is_named() {
    let lab = Lab::new();
    let other = lab.tool("mysqld  Ver 8.0.26 for Linux on x86_64", OK);
    let error = Tool::detect(&Host::local(), &*other).await.unwrap_err().to_string();
    assert!(error.ends_with("is neither xtrabackup nor mariabackup: `--version` says \"mysqld  Ver 8.0.26 for Linux on x86_64\""), "{error}");
    let old = lab.tool("xtrabackup version 2.3.10 based on MySQL server 5.6.24 Linux", OK);
    assert!(matches!(Tool::detect(&Host::local(), &*old).await, Err(Error::TooOld { .. })));
    assert!(matches!(Tool::detect(&Host::local(), "/nowhere/xtrabackup").await, Err(Error::Host { .. })));
}
