//! From the store into the work directory: one pass by the worker, or the stock tools' steps.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup_catalog::{Backup, Catalog, Kind};
use remote_exec::{Command, transfer};
use secrecy::SecretString;
use xtra_driver::Tool;

use crate::Error;
use crate::config::{Compression, Config, Transfer};
use crate::events::{Event, Watch};
use crate::hosts::Hosts;
use crate::journal::{Entry, Journal, os_arg};
use crate::plan::{Plan, UsedFor};
use crate::report::Unpacked;
use crate::sender::Sender;
use crate::workdir::pass_through;
use crate::worker::{self, Worker};

/// What `encrypted_sample` holds.
const SAMPLE: &[u8] = b"abc123\n";
/// Largest sample that is read, in bytes: 7 bytes are about 300 as an AES Crypt stream.
const MAX_SAMPLE: u64 = 64 * 1024;
/// Largest file beside an encrypted tar that is read, in bytes.
const MAX_CLEAR_FILE: u64 = 16 << 20;
/// Largest report of a worker that is read, in bytes.
const MAX_REPORT: u64 = 64 << 20;
/// How often it is looked how far a worker is.
const FOLLOW: Duration = Duration::from_secs(2);
/// The stream of one server. The spelling is what the backup tool writes.
pub(crate) const STREAM: &str = "backup.xbsteam";

/// Everything that unpacking needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpack<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) config: &'a Config,
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: &'a Plan,
    /// The xtrabackup or mariabackup program.
    pub(crate) prepare: &'a Tool,
    /// `WORK-DIR/.incomplete-NAME`.
    pub(crate) work: &'a Path,
    /// Its journal; `None` before there is one.
    pub(crate) journal: Option<&'a Journal>,
    pub(crate) password: Option<&'a SecretString>,
    pub(crate) sender: &'a Sender,
    pub(crate) watch: &'a Watch,
}

/// Tries the password on the sample of every encrypted backup of the plan, before anything is moved.
pub(crate) async fn check_password(unpack: Unpack<'_>) -> Result<(), Error> {
    for planned in unpack.plan.backups.iter().filter(|backup| backup.encrypted) {
        let backup = planned.name.to_string();
        let Some(password) = unpack.password else { return Err(Error::NeedPassword { backup }) };
        let path = unpack.plan.store_dir.join(&backup).join("encrypted_sample");
        let sample = unpack.hosts.store.files().read(&path, MAX_SAMPLE).await?;
        let mut plain = Vec::new();
        let opened = aescrypt::Decryptor::new(sample.as_slice(), password)
            .and_then(|mut d| Ok(std::io::copy(&mut d, &mut plain)?))
            .is_ok();
        if !opened || plain != SAMPLE {
            return Err(Error::WrongPassword { backup });
        }
    }
    if unpack.password.is_some() && !unpack.plan.backups.iter().any(|backup| backup.encrypted) {
        unpack.watch.warning("the backups are not encrypted: the password is not used");
    }
    Ok(())
}

/// What is moved, checked and, where it did not arrive, sent again as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit<'a> {
    /// Everything in one: an encrypted tar is one stream.
    All,
    /// All but the servers' streams.
    Files,
    /// The stream of the server with this folder.
    Stream(&'a str),
}

impl<'a> Unit<'a> {
    /// The server's folder; empty for what is no server's.
    fn server(self) -> &'a str {
        match self {
            Self::Stream(folder) => folder,
            Self::All | Self::Files => "",
        }
    }

    /// The step by which the journal knows it.
    fn step(self, backup: &str) -> String {
        match self {
            Self::Files => format!("unpack {backup}: files"),
            Self::All | Self::Stream(_) => format!("unpack {backup}"),
        }
    }
}

/// How far a backup is: what was moved of it before the unit that is moved now.
struct Moving<'a> {
    backup: &'a Backup,
    unit: Unit<'a>,
    before: u64,
}

impl Unpack<'_> {
    /// Puts one backup into the work directory: every server of `folders` to where its stream belongs.
    ///
    /// What an earlier run finished of it is there and stays, unless it is wanted `again`: then only the streams are.
    pub(crate) async fn backup(
        &self,
        index: usize,
        folders: &[&str],
        again: bool,
    ) -> Result<Unpacked, Error> {
        let planned = &self.plan.backups[index];
        let backup = self.catalog.get(&planned.name)?;
        let folders = if planned.used_for == UsedFor::Binlogs { &[] } else { folders };
        let begun = Instant::now();
        let whole = if self.plan.tools.worker.is_some() {
            backup.encrypted || self.hosts.shared_store
        } else {
            self.hosts.shared_store
        };
        let units: Vec<_> = match (whole, again) {
            (true, _) => vec![Unit::All],
            (false, true) => folders.iter().map(|folder| Unit::Stream(folder)).collect(),
            (false, false) => std::iter::once(Unit::Files)
                .chain(folders.iter().map(|folder| Unit::Stream(folder)))
                .collect(),
        };
        let mut decrypted = false;
        let mut all: Option<Unpacked> = None;
        for unit in units {
            let (server, step) = (unit.server(), unit.step(backup.name.as_str()));
            let earlier = self.journal.filter(|_| !again).and_then(|journal| journal.result(server, &step));
            let one = match earlier {
                Some(earlier) => serde_json::from_value(earlier.clone())
                    .map_err(|e| Error::Unexpected { what: "the journal".to_owned(), text: e.to_string() })?,
                None => {
                    self.make_room(backup, unit, folders).await?;
                    let before = all.as_ref().map_or(0, |all| all.bytes_read);
                    let moving = Moving { backup, unit, before };
                    let one = match &self.plan.tools.worker {
                        Some(worker) => self.by_worker(worker, &moving, folders).await?,
                        None => {
                            if backup.encrypted && !std::mem::replace(&mut decrypted, true) {
                                self.decrypt_in_store(backup).await?;
                            }
                            self.by_stock_tools(&moving, folders).await?
                        }
                    };
                    if let Some(journal) = self.journal.filter(|_| unit != Unit::All) {
                        let entry = Entry::new(server, &step, serde_json::to_value(&one).ok());
                        journal.write(self.job(), self.work, entry).await?;
                    }
                    one
                }
            };
            match &mut all {
                Some(all) => all.add(one),
                None => all = Some(one),
            }
        }
        let mut unpacked = all.unwrap_or_else(|| Unpacked::of(backup.name.as_str()));
        unpacked.seconds = begun.elapsed().as_secs_f64();
        Ok(unpacked)
    }

    /// Removes what a run that was cut off left of a unit; the tools overwrite nothing.
    async fn make_room(&self, backup: &Backup, unit: Unit<'_>, folders: &[&str]) -> Result<(), Error> {
        let target = |folder: &str| Plan::stream_target(self.work, &backup.name, folder);
        let mut old = Vec::new();
        let base = self.work.join("datanode_base");
        let full = backup.kind() == Kind::Full;
        let has_base = full && !matches!(unit, Unit::Stream(_));
        let one = [unit.server()];
        let streams = match unit {
            Unit::Stream(_) => &one[..],
            Unit::Files => &[],
            Unit::All => folders,
        };
        if !matches!(unit, Unit::Stream(_)) {
            old.push(Plan::backup_dir(self.work, &backup.name));
        }
        old.extend(streams.iter().map(|folder| target(folder)));
        if full {
            // The driver's notes on how far it had prepared what is unpacked anew.
            old.extend(streams.iter().map(|folder| crate::prepare::log_dir(self.work, folder)));
        }
        if has_base {
            old.push(base.clone());
        }
        self.job().command("rm").args(["-rf", "--"]).args(&old).run().await?;
        if has_base {
            self.job().files().create_dir_all(&base).await?;
            pass_through(self.job(), &[base]).await?;
        }
        Ok(())
    }

    fn job(&self) -> &remote_exec::Host {
        &self.hosts.job
    }

    async fn by_worker(
        &self,
        worker: &Worker,
        moving: &Moving<'_>,
        folders: &[&str],
    ) -> Result<Unpacked, Error> {
        let Moving { backup, unit, .. } = *moving;
        let name = backup.name.as_str();
        let mut command = worker.command(self.job(), "unpack");
        command = command.arg("--work-dir").arg(self.work).args(["--backup", name]);
        let one = [unit.server()];
        let servers = match unit {
            Unit::All => folders,
            Unit::Files => &[],
            Unit::Stream(_) => &one,
        };
        for folder in servers {
            let target = Plan::stream_target(self.work, &backup.name, folder);
            command = command.arg("--server").arg(os_arg(&format!("{folder}="), &target));
        }
        if backup.kind() == Kind::Full && !matches!(unit, Unit::Stream(_)) {
            command = command.arg("--base-dir").arg(self.work.join("datanode_base"));
        }
        if let Some(password) = self.password.filter(|_| backup.encrypted) {
            command = command.secret_env("DBRECOVER_PASSWORD", password.clone());
        }
        command = command.args(["--json", "--progress", "json"]);
        let source = self.source(backup, unit);
        let mut retries = 0;
        let output = if self.hosts.shared_store {
            let format = if backup.encrypted { "aes" } else { "folder" };
            command = command.args(["--format", format]).arg("--from").arg(&source);
            self.watched(command, moving).await?
        } else {
            let format = match unit {
                Unit::Stream(_) => "stream",
                _ if backup.encrypted => "aes",
                _ => "tar",
            };
            command = command.args(["--sealed", "--format", format, "--from", "-"]);
            let moved = self.sent(command, moving).await?;
            retries = moved.retries;
            moved.said
        };
        if backup.encrypted {
            self.clear_files(backup).await?;
        }
        let details: serde_json::Value = serde_json::from_slice(&output).map_err(|_| Error::Unexpected {
            what: "the worker".to_owned(),
            text: String::from_utf8_lossy(&output).chars().take(300).collect(),
        })?;
        let number = |key: &str| details.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(Unpacked {
            backup: name.to_owned(),
            retries,
            bytes_read: number("bytes_read"),
            bytes_written: number("bytes_written"),
            seconds: 0.0,
            details,
        })
    }

    /// Where a unit lies in the store.
    fn source(&self, backup: &Backup, unit: Unit<'_>) -> PathBuf {
        let store = &self.plan.store_dir;
        match unit {
            Unit::Stream(folder) => store.join(backup.name.as_str()).join(folder).join(STREAM),
            _ if backup.encrypted => store.join(backup.tar_path()),
            _ => store.join(backup.name.as_str()),
        }
    }

    /// Sends a unit to a worker. A sender that went with a lost connection is put there again.
    async fn sent(&self, into: Command, moving: &Moving<'_>) -> Result<Moved, Error> {
        let mut lost = 0;
        loop {
            let (from, check) = self.sealing(moving.backup, moving.unit).await?;
            match self.moved(&from, into.clone(), check, moving).await {
                Ok(moved) => return Ok(Moved { retries: moved.retries + lost, ..moved }),
                Err(error) if lost < self.config.misc.socat_retry_count && self.sender.is_lost().await => {
                    self.watch.debug(format!("{error}; the program that sends is put there again"));
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What sends a unit to a worker, and who seals it.
    async fn sealing(&self, backup: &Backup, unit: Unit<'_>) -> Result<(Command, transfer::Check), Error> {
        let store = &self.hosts.store;
        let is_file = backup.encrypted || matches!(unit, Unit::Stream(_));
        let source = self.source(backup, unit);
        let Some(sender) = self.sender.path(|why| self.watch.warning(why)).await? else {
            let cat = || store.command("cat").arg("--").arg(&source);
            let command = if is_file { cat() } else { store.command("tar").args(self.tar_of(backup, unit)) };
            return Ok((command, transfer::Check::SealingStage));
        };
        let mut command = store.command(sender).arg("send");
        if self.config.misc.transfer_compress == Compression::Zstd {
            command = command.args(["--compress", "zstd"]);
        }
        if let Some(rate) = self.config.misc.rate_limit {
            command = command.arg("--rate-limit").arg(rate.to_string());
        }
        command = if is_file {
            command.arg("--file").arg(source)
        } else {
            command.args(["--", "tar"]).args(self.tar_of(backup, unit))
        };
        Ok((command, transfer::Check::Sealed))
    }

    /// The arguments of `tar` for a part of a plain backup.
    fn tar_of(&self, backup: &Backup, unit: Unit<'_>) -> Vec<OsString> {
        let mut tar: Vec<OsString> = vec!["-C".into(), self.plan.store_dir.clone().into()];
        let stream = |folder: &str| format!("{}/{folder}/{STREAM}", backup.name);
        let mut what = OsString::from(backup.name.as_str());
        match unit {
            Unit::Stream(folder) => what = stream(folder).into(),
            Unit::Files | Unit::All => {
                for server in &backup.servers {
                    tar.push("--no-wildcards".into());
                    tar.push(format!("--exclude={}", stream(&server.folder)).into());
                }
            }
        }
        tar.extend(["-cf".into(), "-".into(), "--".into(), what]);
        tar
    }

    /// Writes the files of an encrypted backup that lie beside its tar.
    async fn clear_files(&self, backup: &Backup) -> Result<(), Error> {
        let name = backup.name.as_str();
        for file in ["cluster_consistence_info", "consistent_point_datetime", "backuped_binlogs", "ok"] {
            let path = self.plan.store_dir.join(name).join(file);
            if self.hosts.store.files().exists(&path).await? {
                let content = self.hosts.store.files().read(&path, MAX_CLEAR_FILE).await?;
                self.job().files().write(self.work.join(name).join(file), content, 0o644).await?;
            }
        }
        Ok(())
    }

    /// Runs a worker command on the job server and follows its progress.
    async fn watched(&self, command: Command, moving: &Moving<'_>) -> Result<Vec<u8>, Error> {
        let progress = |value: serde_json::Value| {
            if let Some(done) = value.get("bytes_read").and_then(serde_json::Value::as_u64) {
                self.progress(moving, done);
            }
        };
        run_worker(self.job(), command, &moving.unit.step(moving.backup.name.as_str()), progress).await
    }

    /// The step is the whole backup's, whatever unit is on its way.
    fn progress(&self, moving: &Moving<'_>, done: u64) {
        let server = moving.unit.server();
        self.watch.event(&Event::Progress {
            server: String::new(),
            step: Unit::All.step(moving.backup.name.as_str()),
            done: moving.before + done,
            total: Some(moving.backup.bytes),
            unit: "bytes",
            note: (!server.is_empty()).then(|| server.to_owned()),
        });
    }

    /// Moves what `from` writes on the store into `into` on the job server.
    async fn moved(
        &self,
        from: &Command,
        into: Command,
        check: transfer::Check,
        moving: &Moving<'_>,
    ) -> Result<Moved, Error> {
        let misc = &self.config.misc;
        let label = match moving.unit {
            Unit::Stream(folder) => format!("unpack {} {folder}", moving.backup.name),
            Unit::All | Unit::Files => format!("unpack {}", moving.backup.name),
        };
        let (said, complained) = (
            self.work.join("tmp").join(format!("{label}.json")),
            self.work.join("tmp").join(format!("{label}.log")),
        );
        let options = transfer::Options {
            method: match misc.transfer {
                Transfer::Auto | Transfer::Local => transfer::Method::Auto,
                Transfer::Relay => transfer::Method::Relay,
                Transfer::Socat => transfer::Method::Socat,
                Transfer::Scp => transfer::Method::Scp,
            },
            socat: misc.socat_port2.map(|port| transfer::Socat {
                port,
                retries: misc.socat_retry_count,
                to: self.config.job.ip.clone(),
                from: Some(self.config.store.ip.clone()),
                log_dir: self.work.join("socat_log"),
            }),
            scp: (misc.transfer == Transfer::Scp).then(|| self.scp()),
            retries: misc.socat_retry_count,
            rate_limit: misc.rate_limit,
            check,
            ..transfer::Options::default()
        };
        let into = into.stdout_to(&said).stderr_to(&complained);
        let mut progress = |done| self.progress(moving, done);
        let store = &self.hosts.store;
        let moved = if check == transfer::Check::Stages {
            transfer::stream(store, from, self.job(), &into, &options, &mut progress).await
        } else {
            let mut silent = |_| ();
            tokio::select! {
                moved = transfer::stream(store, from, self.job(), &into, &options, &mut silent) => moved,
                never = self.follow(&complained, &mut progress) => match never {},
            }
        };
        let files = self.job().files();
        match moved {
            Ok(moved) => Ok(Moved { retries: moved.retries, said: files.read(&said, MAX_REPORT).await? }),
            Err(remote_exec::Error::Failed { host, status, .. }) if host == self.job().name() => {
                let words = files.read(&complained, MAX_REPORT).await.unwrap_or_default();
                let words = worker::watch_stderr(words.as_slice(), |_| ()).await;
                Err(worker::failed(self.job(), &label, Some(status.code().into()), words))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells how far a worker is that writes its progress into a file, for as long as it is asked.
    async fn follow(&self, log: &Path, progress: &mut (dyn FnMut(u64) + Send)) -> Infallible {
        let mut told = 0;
        loop {
            tokio::time::sleep(FOLLOW).await;
            // A look that fails is no reason to end the transfer.
            let Ok(end) = self.job().command("tail").args(["-n", "3", "--"]).arg(log).output().await else {
                continue;
            };
            let mut done = None;
            worker::watch_stderr(end.stdout.as_slice(), |value| {
                done = value.get("bytes_read").and_then(serde_json::Value::as_u64).or(done);
            })
            .await;
            if let Some(done) = done.filter(|done| *done > told) {
                told = done;
                progress(done);
            }
        }
    }

    /// How the store logs in to the job server: as the configuration does.
    fn scp(&self) -> transfer::Scp {
        let job = &self.config.job;
        transfer::Scp {
            to: job.ip.clone(),
            port: Some(job.port),
            user: Some(job.user.clone()).filter(|user| !user.is_empty()),
            password: job.password.clone(),
            identity: job.identity_file.clone(),
            known_hosts: None,
            accept_new_host_keys: self.config.misc.accept_new_host_keys,
            dir: self.work.join("tmp"),
        }
    }

    async fn by_stock_tools(&self, moving: &Moving<'_>, folders: &[&str]) -> Result<Unpacked, Error> {
        let Moving { backup, unit, .. } = *moving;
        let name = backup.name.as_str();
        let job = self.job();
        let tar = self.hosts.store.command("tar").args(self.tar_of(backup, unit));
        let untar = job.command("tar").arg("-C").arg(self.work).args(["--no-same-owner", "-xf", "-"]);
        let mut unpacked = Unpacked::of(name);
        if self.hosts.shared_store {
            // The streams are extracted from where they lie; everything else is copied.
            job.pipeline(vec![tar, untar]).run().await?;
        } else {
            unpacked.retries = self.moved(&tar, untar, transfer::Check::Stages, moving).await?.retries;
        }
        let one = [unit.server()];
        let streams = match unit {
            Unit::All => folders,
            Unit::Files => &[],
            Unit::Stream(_) => &one,
        };
        for folder in streams {
            let lies = if self.hosts.shared_store { &self.plan.store_dir } else { self.work };
            let stream = lies.join(name).join(folder).join(STREAM);
            let target = Plan::stream_target(self.work, &backup.name, folder);
            crate::prepare::extract(self, name, folder, &stream, &target).await?;
            if !self.hosts.shared_store {
                job.files().remove_file(&stream).await?;
            }
        }
        if backup.kind() == Kind::Full && !matches!(unit, Unit::Stream(_)) {
            self.untar_base(name).await?;
        }
        let streams = || backup.servers.iter().filter_map(|server| server.stream_bytes);
        unpacked.bytes_read = match unit {
            Unit::All => backup.bytes,
            Unit::Files => backup.bytes.saturating_sub(streams().sum()),
            Unit::Stream(folder) => {
                let server = backup.servers.iter().find(|server| server.folder == folder);
                server.and_then(|server| server.stream_bytes).unwrap_or(0)
            }
        };
        Ok(unpacked)
    }

    async fn untar_base(&self, name: &str) -> Result<(), Error> {
        let dir = self.work.join(name).join("datanode_base");
        let entries = self.job().files().list(&dir).await?;
        let tarball =
            entries.iter().find(|e| e.name.to_string_lossy().ends_with(".tar.gz")).ok_or_else(|| {
                Error::Incomplete { what: format!("backup {name} has no datanode_base/*.tar.gz") }
            })?;
        self.job()
            .command("tar")
            .args(["--no-same-owner", "-xzf"])
            .arg(dir.join(&tarball.name))
            .arg("-C")
            .arg(self.work.join("datanode_base"))
            .run()
            .await?;
        Ok(())
    }

    /// The stock way with an encrypted backup: `pyAesCrypt` puts the plain files into the backup's folder in the
    /// store, and [`Unpack::clean_store`] takes them away again.
    async fn decrypt_in_store(&self, backup: &Backup) -> Result<(), Error> {
        let Some(password) = self.password else {
            return Err(Error::NeedPassword { backup: backup.name.to_string() });
        };
        let store = &self.hosts.store;
        let dir = self.plan.store_dir.join(backup.name.as_str());
        let tar = dir.join(format!("{}.tar", backup.name));
        let encrypted = self.plan.store_dir.join(backup.tar_path());
        // Without -p it asks, and reads the answer from its input when there is no terminal.
        store
            .command("pyAesCrypt")
            .arg("-d")
            .arg(&encrypted)
            .arg("-o")
            .arg(&tar)
            .secret_stdin(with_line_end(password))
            .run()
            .await?;
        store.command("tar").arg("-C").arg(&dir).arg("-xf").arg(&tar).run().await?;
        store.files().remove_file(&tar).await?;
        Ok(())
    }

    /// Removes what the stock way decrypted into the store; everything but the files that are there in an
    /// encrypted backup.
    pub(crate) async fn clean_store(&self) -> Result<(), Error> {
        if self.plan.tools.worker.is_some() {
            return Ok(());
        }
        for planned in self.plan.backups.iter().filter(|backup| backup.encrypted) {
            let dir: PathBuf = self.plan.store_dir.join(planned.name.as_str());
            let mut find: Vec<OsString> =
                vec!["-mindepth".into(), "1".into(), "-maxdepth".into(), "1".into()];
            for keep in KEPT_IN_STORE {
                find.extend(["!".into(), "-name".into(), keep.into()]);
            }
            find.extend(["-exec", "rm", "-rf", "--", "{}", "+"].map(OsString::from));
            self.hosts.store.command("find").arg(&dir).args(find).run().await?;
        }
        Ok(())
    }
}

/// A finished transfer.
struct Moved {
    retries: u32,
    /// What the receiving program wrote to its standard output.
    said: Vec<u8>,
}

/// What lies unencrypted in the folder of an encrypted backup.
const KEPT_IN_STORE: [&str; 5] =
    ["ok", "cluster_consistence_info", "consistent_point_datetime", "backuped_binlogs", "encrypted_sample"];

fn with_line_end(password: &SecretString) -> SecretString {
    use secrecy::ExposeSecret;
    format!("{}\n", password.expose_secret()).into()
}

/// Runs a worker's command, follows the progress on its stderr and returns its stdout.
pub(crate) async fn run_worker(
    host: &remote_exec::Host,
    command: Command,
    doing: &str,
    progress: impl FnMut(serde_json::Value),
) -> Result<Vec<u8>, Error> {
    use tokio::io::AsyncReadExt;
    if !host.streams() {
        let output = command.output().await?;
        let words = worker::watch_stderr(output.stderr.as_slice(), progress).await;
        return if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(worker::failed(host, doing, Some(output.status.code().into()), words))
        };
    }
    let mut child = command.spawn().await?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            // A report is small; a runaway one is cut.
            let _ = stdout.take(64 << 20).read_to_end(&mut text).await;
        }
        text
    };
    let listen = async {
        match stderr {
            Some(stderr) => worker::watch_stderr(stderr, progress).await,
            None => String::new(),
        }
    };
    let (text, words, status) = tokio::join!(read, listen, child.wait());
    let status = status?;
    if status.success() {
        Ok(text)
    } else {
        Err(worker::failed(host, doing, Some(status.code().into()), words))
    }
}
