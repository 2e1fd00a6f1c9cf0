//! Chains of real backups of a real server, prepared by the real tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remote_exec::Host;
use tempfile::TempDir;
use xtra_driver::{Driver, Error, Options, Part, Tool};

/// A throw-away server with a page size that is not the default, so that a prepare without the backup's own options
/// fails.
struct Server {
    dir: PathBuf,
    process: Child,
}

const PAGE_SIZE: &str = "--innodb-page-size=8k";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    fn create(dir: &Path) -> Self {
        fs::create_dir(dir.join("t")).unwrap();
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", PAGE_SIZE])
            .arg(format!("--datadir={}", dir.join("data").display()))
            // A starting server removes the temporary tables that it finds in its temporary directory, others' as well.
            .arg(format!("--tmpdir={}", dir.join("t").display()))
            .arg(format!("--user={}", run(Command::new("id").arg("-un")))));
        Self::start(dir, &dir.join("data"), &[PAGE_SIZE.to_owned(), "--log-bin=b".to_owned()])
    }

    fn start(dir: &Path, datadir: &Path, options: &[String]) -> Self {
        let process = Command::new("mariadbd")
            .args(["--no-defaults", "--skip-networking", "--server-id=7"])
            .arg(format!("--user={}", run(Command::new("id").arg("-un"))))
            .arg(format!("--datadir={}", datadir.display()))
            .arg(format!("--tmpdir={}", dir.join("t").display()))
            .arg(format!("--socket={}", dir.join("s").display()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .args(options)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("server.err")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { dir: dir.to_owned(), process };
        let begun = Instant::now();
        while !server.client("select 1").output().unwrap().status.success() {
            let log = || fs::read_to_string(dir.join("server.err")).unwrap_or_default();
            assert!(server.process.try_wait().unwrap().is_none(), "the server ended: {}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn client(&self, sql: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-NB", "-e", sql]);
        command.arg(format!("--socket={}", self.dir.join("s").display()));
        command
    }

    fn sql(&self, sql: &str) -> String {
        run(&mut self.client(sql))
    }

    fn checksum(&self) -> String {
        self.sql("select count(*), sum(i), sum(crc32(s)) from d.t")
    }

    /// Writes a stream `NAME.xbs` and gives the LSN at which it ends, as the tool says it.
    fn backup(&self, name: &str, from: Option<u64>) -> u64 {
        self.backup_with(name, &["--no-defaults"], from)
    }

    /// The same with these options in front.
    fn backup_with(&self, name: &str, options: &[&str], from: Option<u64>) -> u64 {
        let stream = self.dir.join(format!("{name}.xbs"));
        let mut command = Command::new("mariabackup");
        command.args(options).args(["--backup", "--user=root", "--stream=xbstream"]);
        command.arg(format!("--socket={}", self.dir.join("s").display()));
        command.arg(format!("--target-dir={}", self.dir.join("tmp").display()));
        command.args(from.map(|lsn| format!("--incremental-lsn={lsn}")));
        let output = command.stdout(fs::File::create(stream).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let (_, rest) = said.split_once("The latest check point (for incremental): '").unwrap();
        rest.split('\'').next().unwrap().parse().unwrap()
    }

    fn stop(mut self) {
        run(Command::new("mariadb-admin")
            .args(["--no-defaults", "-uroot", "shutdown"])
            .arg(format!("--socket={}", self.dir.join("s").display())));
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A full backup and two incremental ones, a table's truth at the end of the last, and the LSNs of their ends.
fn backups(dir: &Path) -> (String, [u64; 3]) {
    let server = Server::create(dir);
    let fill = |letter: &str| {
        server.sql(&format!("use d; insert into d.t (s) select repeat('{letter}', 100) from seq_1_to_3000"));
    };
    server.sql("create database d; create table d.t (i int primary key auto_increment, s varchar(200))");
    fill("a");
    let full = server.backup("full", None);
    fill("b");
    server.sql("update d.t set s = 'changed' where i % 7 = 0");
    let inc1 = server.backup("inc1", Some(full));
    fill("c");
    server.sql("delete from d.t where i % 11 = 0");
    let inc2 = server.backup("inc2", Some(inc1));
    let truth = server.checksum();
    server.stop();
    (truth, [full, inc1, inc2])
}

async fn driver(dir: &Path) -> Driver {
    let mut options = Options::new(dir.join("log"));
    options.timeout = Some(Duration::from_secs(120));
    Driver::new(Tool::detect(&Host::local(), "mariabackup").await.unwrap(), options)
}

async fn extract(driver: &Driver, dir: &Path, name: &str) -> Result<Part, Error> {
    let into = dir.join("work").join(name);
    driver.extract("mbstream", &dir.join(format!("{name}.xbs")), &into, name).await?;
    assert_eq!(driver.decompress(&into, name).await?, None);
    Ok(Part::new(name, into))
}

#[tokio::test]
#[ignore = "needs mariadbd and mariabackup; run: ./test"]
async fn a_chain_is_prepared_to_what_the_server_held() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let (truth, lsns) = backups(dir);
    let driver = driver(dir).await;
    let mut parts = Vec::new();
    for (name, lsn) in ["full", "inc1", "inc2"].into_iter().zip(lsns) {
        parts.push(extract(&driver, dir, name).await.unwrap().recorded_to_lsn(lsn));
    }
    let (full, incrementals) = (parts.remove(0), parts);

    let skipped = driver.open(full.clone(), vec![incrementals[1].clone()]).await;
    if lsns[0] != lsns[1] {
        assert!(matches!(skipped, Err(Error::Chain { .. })), "a link is missing");
    }
    // One call for the first two, another one for the rest, as after an interruption.
    let first = driver.open(full.clone(), vec![incrementals[0].clone()]).await.unwrap();
    assert_eq!(driver.prepare(first, &|_| {}).await.unwrap().steps.len(), 2);
    let rest = driver.open(full, incrementals).await.unwrap();
    let prepared = driver.prepare(rest, &|_| {}).await.unwrap();
    assert_eq!(prepared.steps.len(), 1, "an incremental backup is never applied twice");
    assert_eq!(prepared.my_cnf.page_size(), Some(8192));
    assert!(prepared.info.server_version.unwrap().contains("MariaDB"));
    assert!(prepared.binlog.unwrap().gtid.is_some());

    let server = Server::start(dir, &prepared.dir, &[PAGE_SIZE.to_owned()]);
    assert_eq!(server.checksum(), truth);
    server.stop();
}

#[tokio::test]
#[ignore = "needs mariadbd and mariabackup; run: ./test"]
async fn a_database_that_an_option_file_left_out_is_not_missed_silently() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let server = Server::create(dir);
    server.sql("create database d; create table d.t (i int primary key)");
    fs::write(dir.join("my.cnf"), "[mariabackup]\ndatabases-exclude=d\n").unwrap();
    server.backup_with("full", &[&format!("--defaults-file={}", dir.join("my.cnf").display())], None);
    server.stop();
    let driver = driver(dir).await;
    let part = extract(&driver, dir, "full").await.unwrap();
    assert!(!part.dir.join("d").exists());
    let refused = driver.open(part, Vec::new()).await.unwrap_err();
    assert!(matches!(refused, Error::Partial { .. }), "{refused}");
}

#[tokio::test]
#[ignore = "needs mariadbd and mariabackup; run: ./test"]
async fn a_stream_that_was_cut_off_is_noticed() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let server = Server::create(dir);
    server.backup("full", None);
    server.stop();
    let driver = driver(dir).await;
    let whole = fs::read(dir.join("full.xbs")).unwrap();
    // Inside a chunk, and before the last members: a chunk begins with XBSTCK01.
    let starts: Vec<usize> =
        whole.windows(8).enumerate().filter(|(_, w)| *w == b"XBSTCK01").map(|(at, _)| at).collect();
    let last_members = starts[starts.len() - 4];
    for (name, cut) in [("inside", whole.len() - 20), ("between", last_members)] {
        fs::write(dir.join(format!("{name}.xbs")), &whole[..cut]).unwrap();
        let noticed = match extract(&driver, dir, name).await {
            Err(error) => error,
            Ok(part) => driver.open(part, Vec::new()).await.unwrap_err(),
        };
        assert!(matches!(noticed, Error::Step { .. } | Error::MissingMember { .. }), "{name}: {noticed}");
    }
}

#[tokio::test]
#[ignore = "needs mariabackup's mbstream; run: ./test"]
async fn a_file_that_is_there_already_is_a_failure_although_mbstream_ends_with_0() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::write(dir.join("a"), "new").unwrap();
    let stream = Command::new("mbstream").args(["-c", "a"]).current_dir(dir).output().unwrap();
    fs::write(dir.join("x.xbs"), stream.stdout).unwrap();
    fs::create_dir_all(dir.join("work/x")).unwrap();
    fs::write(dir.join("work/x/a"), "old").unwrap();
    let error = extract(&driver(dir).await, dir, "x").await.unwrap_err().to_string();
    assert!(error.contains("mbstream ended with 0, and complained"), "{error}");
}
