//! Everything that can go wrong, and that nothing of it leaves a checkpoint or something that looks like a backup.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::disk::SmallDisk;
use crate::server::{PATIENCE, Server, fail, restored, run, run_to};

/// A backup whose archive nobody reads yet, stopped inside its data.
struct Stuck {
    child: Child,
    stdout: std::process::ChildStdout,
    /// What was read of the archive to see that it began.
    head: Vec<u8>,
}

impl Stuck {
    /// Starts a backup with a pipe that is full soon: the data are larger than any pipe.
    fn start(server: &Server, more: &[&str]) -> Self {
        let mut child =
            server.backup().args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("checkpoint at") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the backup ended early");
        }
        // Whatever it says later must not stop it.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let mut stdout = child.stdout.take().unwrap();
        let mut head = vec![0; 512];
        stdout.read_exact(&mut head).unwrap();
        Self { child, stdout, head }
    }

    fn signal(&self, signal: &str) {
        run(std::process::Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()));
    }

    fn code(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "the backup does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads the archive to its end.
    fn read(mut self) -> (Option<i32>, Vec<u8>) {
        let mut bytes = std::mem::take(&mut self.head);
        self.stdout.read_to_end(&mut bytes).unwrap();
        (self.child.wait().unwrap().code(), bytes)
    }
}

/// A server with more data than a pipe holds.
fn large() -> Server {
    let server = Server::new();
    server.bank();
    server.big(8000);
    server
}

/// As many rows again, in a data file of their own.
fn more(server: &Server) {
    server.sql(
        "INSERT INTO bank.big SELECT seq + 10000, RANDOM_BYTES(1000) FROM bank.seq_1_to_8000;
         SET GLOBAL rocksdb_force_flush_memtable_now = 1",
    );
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn signals_end_a_backup_with_their_code_and_no_checkpoint_even_if_nobody_reads() {
    let server = large();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let stuck = Stuck::start(&server, &[]);
        assert!(std::fs::read_dir(server.snapshots()).unwrap().count() > 0, "there is a checkpoint");
        stuck.signal(signal);
        assert_eq!(stuck.code(), Some(code), "{signal}");
        server.assert_no_checkpoint();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_signal_ends_a_backup_in_order_while_it_is_read() {
    let server = large();
    let stuck = Stuck::start(&server, &["--rate-limit", "100K"]);
    stuck.signal("TERM");
    let (code, archive) = stuck.read();
    assert_eq!(code, Some(143));
    server.assert_no_checkpoint();
    let cut = server.dir.path().join("cut.tar");
    std::fs::write(&cut, archive).unwrap();
    let verify = crate::server::program().arg("verify").arg(&cut).output().unwrap();
    assert_eq!(verify.status.code(), Some(5), "what was cut off is no sound backup");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_reader_that_goes_is_a_failure_and_leaves_no_checkpoint() {
    let server = large();
    let Stuck { mut child, stdout, .. } = Stuck::start(&server, &[]);
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(1), "success would be a backup that nobody has");
    server.assert_no_checkpoint();
    for form in ["tar", "xbstream"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let stderr = fail(server.backup().args(["-s", form]).stdout(full), 4);
        assert!(stderr.contains("No space left"), "{stderr}");
        server.assert_no_checkpoint();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_run_after_a_kill_removes_the_orphan_and_only_that() {
    let server = large();
    std::fs::create_dir_all(server.snapshots().join("1")).unwrap();
    std::fs::write(server.snapshots().join("1/000001.sst"), "somebody else's").unwrap();
    let living = Stuck::start(&server, &[]);
    let killed = Stuck::start(&server, &[]);
    killed.signal("KILL");
    assert_eq!(killed.code(), None);
    let count = || std::fs::read_dir(server.snapshots()).unwrap().count();
    assert_eq!(
        count(),
        5,
        "two backups with a checkpoint and a lock each, and the directory of somebody else"
    );
    let stderr = run_to(&mut server.backup(), &server.dir.path().join("b.tar"));
    assert_eq!(stderr.matches("the checkpoint of a backup that was killed").count(), 1, "{stderr}");
    assert_eq!(count(), 3, "what lives and what is not ours stays");
    let (code, archive) = living.read();
    assert_eq!(code, Some(0), "the living backup was not harmed");
    std::fs::write(server.dir.path().join("living.tar"), archive).unwrap();
    restored(&[&server.dir.path().join("living.tar")]).assert_bank();
    assert!(server.snapshots().join("1/000001.sst").exists());
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_server_that_goes_in_a_round_ends_the_backup_and_one_that_comes_back_does_not() {
    let mut server = large();
    more(&server);
    let stuck = Stuck::start(&server, &["--interval", "0"]);
    server.kill();
    let (code, _) = stuck.read();
    assert_eq!(code, Some(4));
    server.assert_no_checkpoint();
    server.restart();
    let stuck = Stuck::start(&server, &["--interval", "0"]);
    server.restart();
    let (code, archive) = stuck.read();
    assert_eq!(code, Some(0), "data files of one database mean the same after a restart");
    std::fs::write(server.dir.path().join("b.tar"), archive).unwrap();
    let copy = restored(&[&server.dir.path().join("b.tar")]);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 16_000);
}

/// A backup that has sent its data and waits until the file `signal` is there.
fn waiting(server: &Server, signal: &std::path::Path) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = server.backup();
    command.arg("-D").arg(signal).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting until") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    (child, stderr)
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_signal_between_data_and_server_files_ends_the_backup_in_order() {
    let server = Server::new();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (mut child, _stderr) = waiting(&server, &server.dir.path().join("never"));
        run(std::process::Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        server.assert_no_checkpoint();
    }
    // Nobody is locked out.
    server.sql("CREATE DATABASE after; CREATE TABLE after.t (id INT PRIMARY KEY) ENGINE=ROCKSDB");
}

/// A consistent backup to a directory that waits for the line `until` in what it says.
fn said(server: &Server, to: &std::path::Path, until: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = server.backup();
    command.args(["--consistent", "--parallel", "1", "-s", "dir", "--to"]).arg(to).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(until) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    (child, stderr)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_signal_under_the_lock_gives_it_back_and_writers_go_on() {
    let server = Server::new();
    server.bank();
    // So many definitions that the lock is held for a while.
    let definition = std::fs::read(server.datadir.join("bank/old.frm")).unwrap();
    std::fs::create_dir(server.datadir.join("many")).unwrap();
    for number in 0..10_000 {
        std::fs::write(server.datadir.join(format!("many/t{number}.frm")), &definition).unwrap();
    }
    let _writers = server.writers(&["trade"]);
    let create = |database: &str, patience| {
        let sql = format!("SET lock_wait_timeout = {patience}; CREATE DATABASE {database}");
        server.client().args(["-e", &sql]).output().unwrap().status.success()
    };
    for (number, (ending, code)) in [(Signal::INT, 130), (Signal::TERM, 143)].into_iter().enumerate() {
        let to = server.dir.path().join(format!("b{number}"));
        let (mut child, _stderr) = said(&server, &to, "Took the backup lock");
        signal(&child, Signal::STOP);
        assert!(!create("early", 1), "it is held");
        signal(&child, ending);
        signal(&child, Signal::CONT);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(create(&format!("after{number}"), 30), "it is given back");
        server.assert_no_checkpoint();
        assert!(!to.exists());
        let rows = server.number("SELECT COUNT(*) FROM bank.log");
        server.wait_for_rows(rows + 20);
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_signal_while_the_lock_is_waited_for_leaves_nobody_waiting_behind_it() {
    let server = Server::new();
    server.bank();
    server.sql("CREATE TABLE bank.beside (id INT PRIMARY KEY) ENGINE=ROCKSDB");
    // The lock waits for this commit, and later ones would wait for the lock.
    let mut client = server.half_a_commit();
    for (number, (ending, code)) in [(Signal::INT, 130), (Signal::TERM, 143)].into_iter().enumerate() {
        let (mut child, _stderr) = said(&server, &server.dir.path().join("b"), "Round 1");
        server.until("state = 'Waiting for backup lock'");
        let begun = Instant::now();
        signal(&child, ending);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        // Not the end of a process that nobody waits for any more.
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        server.assert_no_checkpoint();
        // Without the binlog it waits for no replica.
        let sql = format!(
            "SET lock_wait_timeout = 5; SET sql_log_bin = 0; INSERT INTO bank.beside VALUES ({number})"
        );
        server.sql(&sql);
    }
    assert!(client.try_wait().unwrap().is_none(), "that commit waits on");
    server.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    client.wait().unwrap();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn ddl_between_data_and_server_files_is_refused_unless_it_is_accepted() {
    let server = Server::new();
    server.bank();
    let ddl = [
        ("CREATE TABLE bank.fresh (id INT PRIMARY KEY) ENGINE=ROCKSDB", "was created"),
        ("ALTER TABLE bank.fresh ADD COLUMN x INT", "was changed"),
        ("RENAME TABLE bank.fresh TO bank.renamed", "was dropped or renamed"),
        ("DROP TABLE bank.renamed", "was dropped or renamed"),
    ];
    for (number, (sql, change)) in ddl.into_iter().enumerate() {
        let signal = server.dir.path().join(format!("go-{number}"));
        let (mut child, mut stderr) = waiting(&server, &signal);
        let mut said = String::new();
        server.sql(sql);
        std::fs::write(&signal, "").unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{sql}: {said}");
        assert!(said.contains(change), "{sql}: {said}");
        server.assert_no_checkpoint();
    }
    // A table that is younger than the backup is refused at any time, as before, and accepted with -f.
    let signal = server.dir.path().join("go");
    let to = server.dir.path().join("accepted");
    let mut child = server
        .backup()
        .arg("-f")
        .arg("-D")
        .arg(&signal)
        .args(["-s", "dir", "--to"])
        .arg(&to)
        .spawn()
        .unwrap();
    server.sql("CREATE TABLE bank.later (id INT PRIMARY KEY) ENGINE=ARIA");
    std::fs::write(&signal, "").unwrap();
    assert!(child.wait().unwrap().success());
    restored(&[&to]).assert_bank();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_table_that_is_dropped_between_two_rounds_is_not_in_a_consistent_backup() {
    let server = large();
    more(&server);
    let stuck = Stuck::start(&server, &["--interval", "0", "--consistent"]);
    server.sql("DROP TABLE bank.big; SET GLOBAL rocksdb_compact_cf = 'default'; CREATE TABLE bank.new (id INT PRIMARY KEY) ENGINE=ROCKSDB");
    let (code, archive) = stuck.read();
    assert_eq!(code, Some(0));
    let file = server.dir.path().join("b.tar");
    std::fs::write(&file, archive).unwrap();
    run(crate::server::program().arg("verify").arg(&file));
    let copy = restored(&[&file]);
    copy.assert_bank();
    assert_eq!(copy.sql("SHOW TABLES FROM bank"), "account\nlog\nnew\nold");
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_cannot_be_backed_up_is_refused_in_words_before_anything_is_made() {
    let server = Server::new();
    server
        .sql("CREATE USER plain@localhost; CREATE USER half@localhost; GRANT SUPER ON *.* TO half@localhost");
    let to = server.dir.path().join("b");
    let backup =
        |more: &[&str], code| fail(server.backup().args(["-s", "dir", "--to"]).arg(&to).args(more), code);
    assert!(backup(&["-u", "nobody", "-p", "x"], 4).contains("refuses the account"));
    assert!(backup(&["-u", "plain"], 4).contains("may not"));
    assert!(backup(&["-u", "half", "--consistent"], 4).contains("may not take the backup lock"));
    assert!(backup(&["-S", "/nowhere/socket"], 4).contains("cannot connect"));
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let snapshots = shm.path().join("snapshots");
    assert!(backup(&["-c", snapshots.to_str().unwrap()], 4).contains("another file system"));
    assert!(!snapshots.exists());
    assert!(!to.exists(), "nothing that looks like a backup");
    // Without the right to lock, a backup that is not asked to be consistent goes on with a warning.
    let output = run(server.backup().args(["-u", "half", "-s", "dir", "--to"]).arg(&to));
    assert!(String::from_utf8_lossy(&output.stderr).contains("WARNING"));
    // And a copy is made where that is accepted.
    let copied = server.dir.path().join("copied");
    run(server
        .backup()
        .arg("-c")
        .arg(&snapshots)
        .args(["--allow-copied-checkpoint", "-s", "dir", "--to"])
        .arg(&copied));
    assert!(std::fs::read_dir(&snapshots).unwrap().next().is_none());

    let plain = Server::with(&[]);
    let to = plain.dir.path().join("b");
    assert!(fail(plain.backup().args(["-s", "dir", "--to"]).arg(&to), 4).contains("no MyRocks"));
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_target_that_is_there_already_is_refused_and_stays_as_it_is() {
    let server = Server::new();
    let to = server.dir.path().join("b");
    for form in ["tar", "xbstream"] {
        std::fs::write(&to, "another backup").unwrap();
        let stderr = fail(server.backup().args(["-s", form, "--to"]).arg(&to), 1);
        assert!(stderr.contains("exists already"), "{stderr}");
        assert_eq!(std::fs::read(&to).unwrap(), b"another backup");
    }
    std::fs::remove_file(&to).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("file"), "another backup").unwrap();
    let stderr = fail(server.backup().args(["-s", "dir", "--to"]).arg(&to), 2);
    assert!(stderr.contains("is not empty"), "{stderr}");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
    server.assert_no_checkpoint();
}

#[test]
#[ignore = "needs mariadbd and root or sudo to mount; run: ./test"]
fn a_disk_that_is_full_at_the_checkpoint_ends_the_backup_and_one_with_room_again_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join("disk"), "400M");
    let mut server = Server::in_place(dir.path().join("disk/data"));
    server.bank();
    // In memory and the write-ahead log only: the checkpoint has to write data files.
    server.sql(
        "CREATE TABLE bank.big (id INT PRIMARY KEY, v VARBINARY(1000)) ENGINE=ROCKSDB;
         INSERT INTO bank.big SELECT seq, RANDOM_BYTES(1000) FROM bank.seq_1_to_4000",
    );
    let filler = disk.fill(64 * 1024);
    let snapshots = dir.path().join("disk/snapshots");
    let to = dir.path().join("b");
    let socket = server.socket.clone();
    let backup = || {
        let mut command = crate::server::program();
        command.arg("-S").arg(&socket).arg("-c").arg(&snapshots).args(["-s", "dir", "--to"]).arg(&to);
        command
    };
    let stderr = fail(&mut backup(), 4);
    assert!(!to.exists(), "nothing that looks like a backup: {stderr}");
    assert_eq!(std::fs::read_dir(&snapshots).unwrap().count(), 0, "{stderr}");
    std::fs::remove_file(filler).unwrap();
    server.restart();
    run(&mut backup());
    let copy = restored(&[&to]);
    copy.assert_bank();
    assert_eq!(copy.number("SELECT COUNT(*) FROM bank.big"), 4000);
    drop(server);
}

#[test]
#[ignore = "needs mariadbd and root or sudo to mount; run: ./test"]
fn a_disk_that_is_full_in_the_sink_leaves_neither_a_backup_nor_a_checkpoint() {
    let server = large();
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&dir.path().join("disk"), "20M");
    for form in ["tar", "xbstream", "dir"] {
        disk.fill(4 << 20);
        let to = dir.path().join("disk/backup");
        let stderr = fail(server.backup().args(["-s", form, "--to"]).arg(&to), 4);
        assert!(stderr.contains("No space left"), "{form}: {stderr}");
        let left = std::fs::read_dir(dir.path().join("disk")).unwrap().count();
        assert_eq!(left, 1, "{form}: only what filled the disk is there");
        server.assert_no_checkpoint();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_pipe_that_does_not_block_gets_the_whole_backup() {
    let server = large();
    for form in ["tar", "xbstream"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut child = server.backup().args(["--quiet", "-s", form]).stdout(writer).spawn().unwrap();
        let mut archive = Vec::new();
        reader.read_to_end(&mut archive).unwrap();
        assert!(child.wait().unwrap().success(), "{form}");
        let file = server.dir.path().join(form);
        std::fs::write(&file, archive).unwrap();
        run(crate::server::program().arg("verify").arg(&file));
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_directory_without_the_servers_right_to_write_is_said_to_be_that() {
    let server = Server::new();
    let blocked = server.dir.path().join("blocked");
    // A file where the checkpoints' directory should be made.
    std::fs::write(&blocked, "").unwrap();
    let to = server.dir.path().join("b");
    fail(server.backup().arg("-c").arg(blocked.join("x")).args(["-s", "dir", "--to"]).arg(&to), 1);
    assert!(!to.exists());
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn fifty_thousand_definitions_are_backed_up_and_verified() {
    let server = Server::new();
    server.bank();
    // The server reads the definition of a table when it is used: copies of one stand for many tables.
    let definition = std::fs::read(server.datadir.join("bank/old.frm")).unwrap();
    let many = server.datadir.join("many");
    std::fs::create_dir(&many).unwrap();
    for number in 0..50_000 {
        std::fs::write(many.join(format!("t{number}.frm")), &definition).unwrap();
    }
    for form in ["tar", "xbstream"] {
        let to = server.dir.path().join(form);
        // They are younger than most file systems' clocks tell apart from the start of the backup.
        run(server.backup().args(["-f", "-s", form, "--to"]).arg(&to));
        let output = run(crate::server::program().args(["verify", "--json"]).arg(&to));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(document["backups"][0]["files"].as_u64().unwrap() > 50_000);
        std::fs::remove_file(&to).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn binlogs_that_are_rotated_or_purged_while_nothing_is_locked_leave_an_index_that_a_server_starts_from() {
    let server = Server::new();
    // More than a pipe holds, sent before the binlogs and after they were listed.
    server.sql(
        "CREATE DATABASE a; CREATE TABLE a.t (v VARBINARY(1000)) ENGINE=MYISAM; CREATE DATABASE d;
         CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=ROCKSDB",
    );
    std::fs::write(server.datadir.join("a/large.MYD"), vec![7; 8_000_000]).unwrap();
    // Of the last stop: true no more.
    std::fs::write(server.datadir.join("binlog.state"), "0-7-1\n").unwrap();
    for (number, meanwhile) in [
        "INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS",
        "FLUSH BINARY LOGS; PURGE BINARY LOGS TO 'binlog.000002'",
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = server.backup();
        let mut child =
            command.arg("--no-lock").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut archive, mut said) = (Vec::new(), String::new());
        let mut stdout = child.stdout.take().unwrap();
        while !said.contains("Sending the files of a\n") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        server.sql(meanwhile);
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        stdout.read_to_end(&mut archive).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let to = server.dir.path().join(format!("b{number}.tar"));
        std::fs::write(&to, archive).unwrap();
        let copy = restored(&[&to]);
        let logs = copy.sql("SHOW BINARY LOGS");
        assert!(logs.lines().count() >= 2, "{meanwhile}: {logs}");
        // Not what was true when the server was stopped last.
        let position = copy.sql("SELECT @@gtid_binlog_pos");
        assert!(!position.is_empty() && position == server.sql("SELECT @@gtid_binlog_pos"), "{position}");
    }
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn ddl_that_leaves_names_and_times_of_definitions_as_they_were_is_refused() {
    let server = Server::new();
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.a (id INT PRIMARY KEY) ENGINE=ROCKSDB;
         CREATE TABLE d.b (id INT PRIMARY KEY) ENGINE=ROCKSDB; CREATE TABLE d.c (id INT PRIMARY KEY) ENGINE=ROCKSDB;
         INSERT INTO d.a VALUES (1); INSERT INTO d.b VALUES (2); INSERT INTO d.c VALUES (3)",
    );
    let refused = |meanwhile: &mut dyn FnMut(), name: &str| {
        let signal = server.dir.path().join(name);
        let (mut child, mut stderr) = waiting(&server, &signal);
        meanwhile();
        std::fs::write(&signal, "").unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{name}: {said}");
        assert!(said.contains("was changed"), "{name}: {said}");
    };
    // The new definition is as old as the beginning of the ALTER.
    let reader = "BEGIN; SELECT * FROM d.c; DO SLEEP(1000)";
    let mut reader = server.client().args(["-e", reader]).stdout(Stdio::null()).spawn().unwrap();
    server.until("info LIKE 'DO SLEEP%'");
    let mut alter = server.client();
    let sql = "ALTER TABLE d.c ADD COLUMN x INT NOT NULL FIRST, ALGORITHM=COPY";
    let mut alter = alter.args(["-e", sql]).spawn().unwrap();
    server.until("state LIKE 'Waiting for table metadata lock%'");
    let mut end = || {
        reader.kill().unwrap();
        reader.wait().unwrap();
        let id = server.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'DO SLEEP%'");
        server.sql(&format!("KILL {id}"));
        assert!(alter.wait().unwrap().success());
    };
    refused(&mut end, "alter");
    refused(&mut || drop(server.sql("RENAME TABLE d.a TO d.x, d.b TO d.a, d.x TO d.b")), "swap");
    server.assert_no_checkpoint();
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn what_a_backup_makes_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::new();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    let to = server.dir.path().join("b.tar");
    let signal = server.dir.path().join("go");
    let mut command = server.backup();
    let mut child =
        command.arg("-D").arg(&signal).arg("--to").arg(&to).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting until") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert_eq!(mode(&to.with_extension("tar.partial")), 0o600, "while it is written");
    assert_eq!(mode(&server.snapshots()), 0o700);
    std::fs::write(&signal, "").unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(mode(&to), 0o600);
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn a_second_backup_to_one_file_is_refused_and_the_first_one_is_whole() {
    let server = Server::new();
    server.bank();
    let (to, go) = (server.dir.path().join("b.tar"), server.dir.path().join("go"));
    let mut first = server.backup();
    let mut first = first.arg("-D").arg(&go).arg("--to").arg(&to).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(first.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Waiting until") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    // Its server need not even be there.
    let nowhere = server.dir.path().join("nowhere");
    let said = fail(server.backup().arg("--to").arg(&to).arg("--socket").arg(&nowhere), 4);
    assert!(said.contains("another") && said.contains("b.tar"), "{said}");
    let said = fail(server.backup().arg("--to").arg(&to), 4);
    assert!(said.contains("another"), "{said}");
    std::fs::write(&go, "").unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    assert_eq!(first.wait().unwrap().code(), Some(0));
    run(crate::server::program().arg("verify").arg(&to));
    restored(&[&to]).assert_bank();
}
