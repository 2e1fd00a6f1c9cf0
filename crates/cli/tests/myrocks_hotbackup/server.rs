//! A throw-away MariaDB server with MyRocks, and the program under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take before a test fails instead of waiting on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server of its own, in a directory of its own; it ends with its owner.
pub(crate) struct Server {
    /// Everything of this server; other directories of the test may lie here too.
    pub(crate) dir: TempDir,
    pub(crate) datadir: PathBuf,
    pub(crate) socket: PathBuf,
    child: Child,
}

/// A data directory as `mariadb-install-db` makes it, made once for all tests.
fn template() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mariadb-template");
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let ready = place.join("ready");
    if !ready.exists() {
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        let user = format!("--user={}", user());
        let output = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &user])
            .arg(format!("--datadir={}", place.join("data").display()))
            .output()
            .expect("mariadb-install-db of the package mariadb-server is needed; tests/setup.sh installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        File::create(ready).unwrap();
    }
    place.join("data")
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    /// A new, empty server with MyRocks and a binlog.
    pub(crate) fn new() -> Self {
        Self::with(&["--plugin-load-add=ha_rocksdb.so"])
    }

    /// A new, empty server with further options.
    pub(crate) fn with(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let datadir = dir.path().join("data");
        let status = Command::new("cp").args(["-a"]).arg(template()).arg(&datadir).status().unwrap();
        assert!(status.success());
        Self::on(dir, datadir, options)
    }

    /// A new, empty server with MyRocks whose data directory is to be `datadir`.
    pub(crate) fn in_place(datadir: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(template()).arg(&datadir));
        Self::on(dir, datadir, &["--plugin-load-add=ha_rocksdb.so"])
    }

    /// A new, empty server with options that depend on where its data directory is.
    pub(crate) fn placed(options: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let datadir = dir.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&datadir));
        let options = options(&datadir);
        Self::on(dir, datadir, &options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A server on a data directory that exists.
    pub(crate) fn on(dir: TempDir, datadir: PathBuf, options: &[&str]) -> Self {
        // Socket paths are short: at most 107 bytes.
        let socket = dir.path().join("s");
        let child = start(&datadir, &socket, dir.path(), options);
        let mut server = Self { dir, datadir, socket, child };
        server.wait();
        server
    }

    /// A start that ends by itself; gives what the server said.
    pub(crate) fn ending(dir: &Path, datadir: &Path, options: &[&str]) -> String {
        let options = [&["--plugin-load-add=ha_rocksdb.so"], options].concat();
        start(datadir, &dir.join("s"), dir, &options).wait().unwrap();
        std::fs::read_to_string(dir.join("error.log")).unwrap()
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        loop {
            let log = || std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", log());
            }
            let mut ping = Command::new("mariadb-admin");
            ping.args(["--no-defaults", "-uroot", "ping", "-S"]).arg(&self.socket);
            if ping.output().unwrap().status.success() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server at once, as a power cut would, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child =
            start(&self.datadir, &self.socket, self.dir.path(), &["--plugin-load-add=ha_rocksdb.so"]);
        self.wait();
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command
            .args(["--no-defaults", "-uroot", "-N", "-B", "--default-character-set=utf8mb4", "-S"])
            .arg(&self.socket);
        command
    }

    /// Runs statements; gives the rows, columns separated by tabs.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.client().args(["-e", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let text = self.sql(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text:?}"))
    }

    /// The directory for checkpoints.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.path().join("snapshots")
    }

    /// The program under test, with the server and the checkpoint directory given.
    pub(crate) fn backup(&self) -> Command {
        let mut command = program();
        command.arg("--socket").arg(&self.socket).arg("--checkpoint-dir").arg(self.snapshots());
        command
    }

    /// Nothing of a backup may be left.
    pub(crate) fn assert_no_checkpoint(&self) {
        let left: Vec<_> = match std::fs::read_dir(self.snapshots()) {
            Ok(entries) => entries.map(|e| e.unwrap().file_name()).collect(),
            Err(_) => Vec::new(),
        };
        assert!(left.is_empty(), "{left:?} is left of the checkpoints");
    }

    /// A table with accounts whose sum stays, and a log with one row for each transaction.
    pub(crate) fn bank(&self) {
        self.sql(include_str!("bank.sql"));
    }

    /// A table of the bank with `rows` rows of a kilobyte that cannot be compressed, in data files.
    pub(crate) fn big(&self, rows: u32) {
        self.sql(&format!(
            "CREATE TABLE bank.big (id INT PRIMARY KEY, v VARBINARY(1000)) ENGINE=ROCKSDB;
             INSERT INTO bank.big SELECT seq, RANDOM_BYTES(1000) FROM bank.seq_1_to_{rows};
             SET GLOBAL rocksdb_force_flush_memtable_now = 1"
        ));
    }

    /// A client whose commit is in the binlog, and in RocksDB prepared only: it waits for a replica which never comes,
    /// until `rpl_semi_sync_master_enabled` is off.
    pub(crate) fn half_a_commit(&self) -> Child {
        self.sql(
            "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC', GLOBAL rpl_semi_sync_master_timeout = 600000,
             GLOBAL rpl_semi_sync_master_enabled = 1",
        );
        let client = self.client().args(["-e", "UPDATE bank.account SET amount = 7"]).spawn().unwrap();
        self.until("state LIKE 'Waiting for semi-sync ACK%'");
        client
    }

    /// Waits until there is a connection of which `condition` holds.
    pub(crate) fn until(&self, condition: &str) {
        let begun = Instant::now();
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE {condition}");
        while self.number(&sql) == 0 {
            assert!(begun.elapsed() < PATIENCE, "{condition}: {}", self.sql("SHOW PROCESSLIST"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writers that go on until they are dropped.
    pub(crate) fn writers(&self, procedures: &[&str]) -> Writers {
        let start = |procedure: &&str| {
            let mut client = self.client();
            client
                .args(["bank", "-e", &format!("CALL {procedure}()")])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            client.spawn().unwrap()
        };
        Writers(procedures.iter().map(start).collect())
    }

    /// Waits until the writers have written `rows` rows.
    pub(crate) fn wait_for_rows(&self, rows: i64) {
        let begun = Instant::now();
        while self.number("SELECT COUNT(*) FROM bank.log") < rows {
            assert!(begun.elapsed() < PATIENCE, "the writers do not write");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What must hold of the bank at every moment.
    pub(crate) fn assert_bank(&self) {
        assert_eq!(self.number("SELECT SUM(amount) FROM bank.account"), 100_000);
        self.sql("CHECK TABLE bank.account, bank.log");
        assert_eq!(
            self.number(include_str!("bank-disagrees.sql")),
            0,
            "accounts that do not agree with the log"
        );
    }
}

fn start(datadir: &Path, socket: &Path, dir: &Path, options: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("error.log")).unwrap();
    let mut command = Command::new("mariadbd");
    command
        .args([
            "--no-defaults",
            &format!("--user={}", user()),
            "--skip-networking",
            "--log-bin=binlog",
            "--server-id=7",
        ])
        .args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--sync-binlog=0"])
        .arg(format!("--datadir={}", datadir.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", dir.join("pid").display()))
        // A server that starts removes temporary tables, those of other servers there too.
        .arg(format!("--tmpdir={}", dir.display()))
        .args(options);
    if options.iter().any(|o| o.contains("ha_rocksdb")) {
        command.args(["--rocksdb-block-cache-size=16M", "--rocksdb-flush-log-at-trx-commit=0"]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().expect("mariadbd of the package mariadb-server is needed; tests/setup.sh installs it")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Clients that write until they are dropped.
pub(crate) struct Writers(Vec<Child>);

impl Drop for Writers {
    fn drop(&mut self) {
        for client in &mut self.0 {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}

/// The program under test, without anything from the tester's environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_myrocks-hotbackup"));
    command.env_remove("MYSQL_PWD").env_remove("MYROCKS_BACKUP_KEY").stdin(Stdio::null());
    command
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command that must fail with an exit code; gives its standard error.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {stderr}");
    stderr
}

/// Runs the program with its standard output in a file.
pub(crate) fn run_to(command: &mut Command, file: &Path) -> String {
    let output = run(command.stdout(File::create(file).unwrap()));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The shell's way: `script` with `$1`, `$2`, … as arguments.
pub(crate) fn shell(script: &str, args: &[&Path]) {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script, "bash"]).args(args));
}

/// Starts a server on what a restore has made in `dir/restored`.
pub(crate) fn start_restored(dir: TempDir, datadir: PathBuf) -> Server {
    Server::on(dir, datadir, &["--plugin-load-add=ha_rocksdb.so"])
}

/// The restore of backups to a data directory.
pub(crate) fn restore(from: &[&Path], datadir: &Path) -> Command {
    let mut command = program();
    command.arg("restore").arg("--datadir").arg(datadir);
    for from in from {
        command.arg("--from").arg(from);
    }
    command
}

/// Restores backups into a new directory and starts a server there.
pub(crate) fn restored(from: &[&Path]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("restored");
    run(&mut restore(from, &datadir));
    start_restored(dir, datadir)
}

/// Moves the files of a backup with the program under test and starts a server.
pub(crate) fn moved_back(backup: &Path) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("restored");
    run(program().arg("--move_back").arg("--backup_dir").arg(backup).arg("--datadir").arg(&datadir).args([
        format!("--rocksdb_datadir={}/#rocksdb", datadir.display()),
        format!("--rocksdb_waldir={}/#rocksdb", datadir.display()),
    ]));
    start_restored(dir, datadir)
}
