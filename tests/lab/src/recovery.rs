//! One run of `dbrecover` against a store, and what it left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::machine::Machine;
use crate::store::Store;
use crate::truth::{Moment, Point, State, Truth};
use crate::workload::PASSWORD;
use crate::{Flavor, standin};

/// The program under test: `$DBRECOVER_BIN` (`./test` sets it), or this workspace's debug build, built once.
pub fn dbrecover() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("DBRECOVER_BIN") {
        return Ok(program.into());
    }
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // A failure shows when the program is not there.
        let _ =
            Command::new(cargo).args(["build", "--quiet", "-p", "dbrecover", "--bin", "dbrecover"]).status();
    });
    let me = std::env::current_exe()?;
    let dir = me.ancestors().nth(2).context("tests run from target/PROFILE/deps")?;
    Ok(dir.join("dbrecover"))
}

/// A recovery to be run: a configuration in a directory of its own.
#[derive(Debug)]
pub struct Job {
    dir: tempfile::TempDir,
    store: PathBuf,
    /// Section, key, value; a later one of the same key wins.
    keys: BTreeMap<(String, String), String>,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    password: Option<String>,
    on: Option<Arc<Machine>>,
    program: Option<PathBuf>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; a signal's number is negative.
    pub code: i32,
    /// Results.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Job {
    /// A recovery of `store` on this machine.
    pub fn new(store: &Store) -> Result<Self> {
        Self::of(&store.dir, &store.truth)
    }

    /// A recovery of the store in `dir`.
    pub fn of(dir: &Path, truth: &Truth) -> Result<Self> {
        Self::below(&std::env::temp_dir(), dir, truth)
    }

    /// The same with the job's directory below `parent`.
    pub fn below(parent: &Path, dir: &Path, truth: &Truth) -> Result<Self> {
        let temp = tempfile::Builder::new().prefix("dbr").tempdir_in(parent)?;
        // Temporary servers run as a user of their own and must get in.
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755))?;
        let mut job = Self {
            store: dir.to_owned(),
            keys: BTreeMap::new(),
            args: Vec::new(),
            environment: Vec::new(),
            password: truth.password.clone(),
            on: None,
            program: None,
            dir: temp,
        };
        job.set("backup-store", "dir", dir.to_string_lossy());
        let work = job.dir.path().join("work");
        job.set("recovery-job-server", "work-dir", work.to_string_lossy());
        for (key, value) in [("debug", "0"), ("connect-method", "local"), ("client-name", "mysql")] {
            job.set("misc", key, value);
        }
        let ds_info = job.dir.path().join("ds_info");
        fs::create_dir(&ds_info)?;
        job.set("misc", "ds-info-dir", ds_info.to_string_lossy());
        job.set("misc", "xbstream-bin-dir", "mbstream");
        match truth.flavor {
            Flavor::MariaDb => job.set("misc", "xtrabackup-bin-dir", "mariabackup"),
            Flavor::MySql => job.set("misc", "xtrabackup-bin-dir", standin()?.to_string_lossy()),
        };
        if rustix::process::geteuid().is_root() {
            job.set("misc", "mysqld-user", "mysql");
        }
        Ok(job)
    }

    /// Sets a key of the configuration.
    pub fn set(&mut self, section: &str, key: &str, value: impl AsRef<str>) -> &mut Self {
        self.keys.insert((section.to_owned(), key.to_owned()), value.as_ref().to_owned());
        self
    }

    /// Takes a key out of the configuration.
    pub fn unset(&mut self, section: &str, key: &str) -> &mut Self {
        self.keys.remove(&(section.to_owned(), key.to_owned()));
        self
    }

    /// To the consistent point of a backup.
    pub fn to_backup(&mut self, name: &str) -> &mut Self {
        self.unset("recover-to", "stop-datetime").set("recover-to", "dir", name)
    }

    /// To a moment.
    pub fn to_time(&mut self, time: &str) -> &mut Self {
        self.unset("recover-to", "dir").set("recover-to", "stop-datetime", time)
    }

    /// Adds arguments.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Gives these arguments and no others.
    pub fn set_args(&mut self, args: &[&str]) -> &mut Self {
        self.args.clear();
        self.args(args)
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a directory to the program's search path.
    pub fn path(&mut self, dir: &Path) -> &mut Self {
        let already = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        let old = already.map_or_else(|| std::env::var("PATH").unwrap_or_default(), |(_, path)| path.clone());
        self.env("PATH", format!("{old}:{}", dir.display()))
    }

    /// Without the worker: `mbstream`, `mariabackup`, `tar` and `pyAesCrypt` do the work.
    pub fn with_stock_tools(&mut self) -> Result<&mut Self> {
        let python = crate::tools::aescrypt_python()?;
        let bin = python.parent().context("a program lies in a directory")?;
        Ok(self.set("misc", "toolchain", "stock").path(bin))
    }

    /// The password of the backup, given in the environment; `None` gives none.
    pub fn password(&mut self, password: Option<&str>) -> &mut Self {
        self.password = password.map(str::to_owned);
        self
    }

    /// Runs it on a machine of the lab.
    pub fn on(&mut self, machine: &Arc<Machine>) -> &mut Self {
        self.on = Some(Arc::clone(machine));
        self
    }

    /// Runs this copy of the program.
    pub fn program(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.program = Some(path.into());
        self
    }

    /// The job's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the recovery is made: the work directory's entry for the target.
    pub fn work_dir(&self) -> PathBuf {
        let get = |key: &str| self.keys.get(&("recover-to".to_owned(), key.to_owned()));
        let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
        let of = |key: &str| get(key).map(|value| plain(&format!("{key}_{value}")));
        let mut name = get("dir")
            .cloned()
            .or_else(|| get("stop-datetime").map(|time| plain(time)))
            .or_else(|| ["until-gtid", "before-gtid", "until-position"].into_iter().find_map(of))
            .unwrap_or_default();
        if let Some(skip) = of("skip-gtid") {
            name = format!("{name}_{skip}");
        }
        let work = &self.keys[&("recovery-job-server".to_owned(), "work-dir".to_owned())];
        Path::new(work).join(name)
    }

    /// Writes the configuration.
    pub fn write_config(&self) -> Result<PathBuf> {
        let mut text = String::new();
        let mut section = "";
        for ((in_section, key), value) in &self.keys {
            if in_section != section {
                text.push_str(&format!("[{in_section}]\n"));
                section = in_section;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        let path = self.dir.path().join("recovery.conf");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The command, ready to be started.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.program.clone().map_or_else(dbrecover, Ok)?);
        command.arg("--config-file").arg(self.write_config()?).args(&self.args);
        command.env_remove("DBRECOVER_PASSWORD").env("NO_COLOR", "1").current_dir(self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(password) = &self.password {
            command.env("DBRECOVER_PASSWORD", password);
        }
        Ok(command)
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<Outcome> {
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.spawn(&mut command)?.wait_with_output()?;
        let outcome = Outcome::of(output.status, &output.stdout, &output.stderr);
        outcome.tells_no_secret(self.password.as_deref())?;
        Ok(outcome)
    }

    /// Starts it, for tests that end it in the middle.
    pub fn start(&self) -> Result<Running> {
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::from(fs::File::create(self.dir.path().join("stderr"))?));
        let child = self.spawn(&mut command)?;
        Ok(Running { child, stderr: self.dir.path().join("stderr") })
    }

    fn spawn(&self, command: &mut Command) -> Result<Child> {
        match &self.on {
            Some(machine) => machine.spawn(command),
            None => command.spawn().context("dbrecover cannot be run"),
        }
    }

    /// Runs it and expects success in the original's words.
    pub fn succeed(&self) -> Result<Outcome> {
        let outcome = self.run()?;
        ensure!(outcome.code == 0, "exit code {}\n{}", outcome.code, outcome.stderr);
        ensure!(outcome.stdout.lines().any(|line| line == "recovery succeed"), "stdout: {}", outcome.stdout);
        self.nothing_left()?;
        Ok(outcome)
    }

    /// Runs it and expects a refusal: this exit code, all of these words on stderr, the store as it was, and
    /// nothing left that runs or that looks like a finished recovery.
    pub fn refuse(&self, code: i32, words: &[&str]) -> Result<Outcome> {
        let before = fingerprint(&self.store)?;
        let outcome = self.run()?;
        ensure!(
            outcome.code == code,
            "exit code {} instead of {code}\n{}{}",
            outcome.code,
            outcome.stdout,
            outcome.stderr
        );
        for word in words {
            ensure!(outcome.stderr.contains(word), "no {word:?} in: {}", outcome.stderr);
        }
        ensure!(!outcome.stdout.contains("recovery succeed"), "a failed recovery said that it succeeded");
        ensure!(!outcome.stderr.contains("panicked"), "a panic: {}", outcome.stderr);
        ensure!(fingerprint(&self.store)? == before, "the store was changed");
        self.nothing_finished()?;
        self.nothing_left()?;
        Ok(outcome)
    }

    /// No work directory looks like a finished recovery.
    pub fn nothing_finished(&self) -> Result<()> {
        ensure!(!self.work_dir().join("recovery-report.json").exists(), "a failed recovery looks finished");
        Ok(())
    }

    /// No process of this recovery runs.
    pub fn no_process_left(&self) -> Result<()> {
        // A server that got its signal may need a moment to be gone.
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "still running: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// No process of this recovery runs, and no socket or pid file of it is there.
    pub fn nothing_left(&self) -> Result<()> {
        self.no_process_left()?;
        let mut left = Vec::new();
        walk(self.dir.path(), &mut |path, meta| {
            let socket = rustix::fs::FileType::from_raw_mode(meta.mode()) == rustix::fs::FileType::Socket;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if socket || name.ends_with(".pid") {
                left.push(path.to_owned());
            }
        })?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// Processes that name the job's directory in their arguments or work in it.
    pub fn processes(&self) -> Vec<String> {
        processes_of(self.dir.path())
    }

    /// The recovered servers hold what they should.
    pub fn verify(&self, truth: &Truth, expected: &BTreeMap<String, State>) -> Result<()> {
        for (datasource, state) in expected {
            let datadir = self.work_dir().join("datadir").join(&truth.folders[datasource]);
            ensure!(!datadir.join("auto.cnf").exists(), "auto.cnf was left in {}", datadir.display());
            truth.verify(&datadir, state)?;
        }
        let report = fs::read(self.work_dir().join("recovery-report.json")).context("no report")?;
        let report: serde_json::Value = serde_json::from_slice(&report)?;
        ensure!(report["schema_version"] == 1, "the report has no schema_version");
        let servers = report["servers"].as_array().map_or(0, Vec::len);
        ensure!(servers == expected.len(), "{servers} servers in the report, not {}", expected.len());
        Ok(())
    }

    /// Recovers to a consistent point and compares.
    pub fn recovers_point(&mut self, truth: &Truth, point: &Point) -> Result<()> {
        self.to_backup(&point.backup).succeed()?;
        self.verify(truth, &point.groups).with_context(|| format!("recovered to {}", point.backup))
    }

    /// Recovers to a moment and compares.
    pub fn recovers_moment(&mut self, truth: &Truth, moment: &Moment) -> Result<()> {
        let time = moment.time.format("%Y-%m-%d %H:%M:%S").to_string();
        self.to_time(&time).succeed()?;
        self.verify(truth, &moment.groups).with_context(|| format!("recovered to {time}"))
    }
}

/// A recovery under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until `condition` holds; an error when the recovery ends before that.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !condition() {
            ensure!(self.is_running()?, "it ended before {what}: {}", fs::read_to_string(&self.stderr)?);
            ensure!(Instant::now() < until, "{what}: not within a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: rustix::process::Signal) -> Result<Outcome> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, signal)?;
        }
        let until = Instant::now() + Duration::from_secs(30);
        while self.is_running()? {
            ensure!(Instant::now() < until, "it does not end on a signal");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.finish()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Result<Outcome> {
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout)?;
        }
        let status = self.child.wait()?;
        Ok(Outcome::of(status, &stdout, &fs::read(&self.stderr)?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    fn of(status: std::process::ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Self {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    fn tells_no_secret(&self, password: Option<&str>) -> Result<()> {
        for secret in [Some(PASSWORD), password].into_iter().flatten() {
            ensure!(!self.stdout.contains(secret), "a password on stdout: {}", self.stdout);
            ensure!(!self.stderr.contains(secret), "a password on stderr: {}", self.stderr);
        }
        Ok(())
    }
}

/// Processes that name `dir` in their arguments or work in it.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let me = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let needle = dir.to_string_lossy().into_owned();
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            if pid == me || !pid.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            (arguments.contains(&needle) || works_there).then(|| format!("{pid}: {arguments}"))
        })
        .collect()
}

/// Watches the arguments of all processes of this machine for secrets.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

/// Starts to look; see [`Watch::finish`].
pub fn watch_arguments(secrets: &[&str]) -> Watch {
    let stop = Arc::new(AtomicBool::new(false));
    let secrets: Vec<Vec<u8>> = secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stopped.load(Ordering::SeqCst) {
            for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                if secrets.iter().any(|secret| arguments.windows(secret.len()).any(|part| part == secret)) {
                    seen.push(String::from_utf8_lossy(&arguments).replace('\0', " "));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        seen
    });
    Watch { stop, thread }
}

impl Watch {
    /// Ends it; the arguments that held a secret.
    pub fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|_| vec!["the watch failed".to_owned()])
    }
}

fn walk(dir: &Path, look: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        look(&entry.path(), &meta);
        if meta.is_dir() {
            walk(&entry.path(), look)?;
        }
    }
    Ok(())
}

/// Every entry below a directory with what a change of it would change: length, owner, mode, times.
pub fn fingerprint(dir: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    walk(dir, &mut |path, meta| {
        let times = if meta.is_dir() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        lines.push(format!(
            "{} {} {:o} {}:{} {times:?} {}",
            path.display(),
            if meta.is_dir() { 0 } else { meta.len() },
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino()
        ));
    })?;
    lines.sort();
    Ok(lines)
}

/// Replaces a file by a changed copy, so that hard links to it elsewhere keep theirs.
pub fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    edit(&mut content);
    fs::remove_file(path)?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// A copy of a store to be damaged; gone with the value.
#[derive(Debug)]
pub struct Damaged {
    /// The copy.
    pub store: Store,
    _dir: tempfile::TempDir,
}

impl Damaged {
    /// A copy of `store`.
    pub fn copy(store: &Store) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("dbs").tempdir()?;
        let store = store.copy_to(&dir.path().join("store"))?;
        Ok(Self { store, _dir: dir })
    }

    /// The folder of the backup with this number.
    pub fn backup(&self, number: usize) -> PathBuf {
        self.store.dir.join(&self.store.truth.points[number].backup)
    }

    /// The folder of a group's recovered server in the backup with this number.
    pub fn server(&self, number: usize, datasource: &str) -> PathBuf {
        self.backup(number).join(&self.store.truth.folders[datasource])
    }
}

/// Makes `dir`, a copy of a store, readable for every user. Files are replaced, not changed: their inodes may be
/// shared with the kept store.
pub fn readable_for_all(dir: &Path) -> Result<()> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    walk(dir, &mut |path, meta| {
        if meta.is_dir() {
            dirs.push(path.to_owned());
        } else if meta.mode() & 0o004 == 0 {
            files.push(path.to_owned());
        }
    })?;
    for dir in dirs {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    for file in files {
        change(&file, |_| {})?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
