//! From the store into the work directory: one pass by the worker, or the stock tools' steps.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use backup_catalog::{Backup, Catalog, Kind};
use remote_exec::{Command, transfer};
use secrecy::SecretString;
use xtra_driver::Tool;

use crate::Error;
use crate::config::{Config, Transfer};
use crate::events::{Event, Watch};
use crate::hosts::Hosts;
use crate::journal::os_arg;
use crate::plan::{Plan, UsedFor};
use crate::report::Unpacked;
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
    pub(crate) password: Option<&'a SecretString>,
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

impl Unpack<'_> {
    /// Puts one backup into the work directory: every server of `folders` to where its stream belongs.
    pub(crate) async fn backup(&self, index: usize, folders: &[&str]) -> Result<Unpacked, Error> {
        let planned = &self.plan.backups[index];
        let backup = self.catalog.get(&planned.name)?;
        let folders = if planned.used_for == UsedFor::Binlogs { &[] } else { folders };
        let begun = Instant::now();
        // What a run that was cut off left of it; the tools overwrite nothing.
        let mut old = vec![Plan::backup_dir(self.work, &backup.name)];
        old.extend(folders.iter().map(|folder| Plan::stream_target(self.work, &backup.name, folder)));
        if backup.kind() == Kind::Full {
            old.push(self.work.join("datanode_base"));
            // The driver's notes on how far it had prepared what is unpacked anew.
            old.extend(folders.iter().map(|folder| crate::prepare::log_dir(self.work, folder)));
        }
        self.hosts.job.command("rm").args(["-rf", "--"]).args(&old).run().await?;
        if backup.kind() == Kind::Full {
            let base = self.work.join("datanode_base");
            self.hosts.job.files().create_dir_all(&base).await?;
            pass_through(&self.hosts.job, &[base]).await?;
        }
        let mut unpacked = match &self.plan.tools.worker {
            Some(worker) => self.by_worker(worker, backup, folders).await?,
            None => self.by_stock_tools(backup, folders).await?,
        };
        unpacked.seconds = begun.elapsed().as_secs_f64();
        Ok(unpacked)
    }

    fn job(&self) -> &remote_exec::Host {
        &self.hosts.job
    }

    async fn by_worker(&self, worker: &Worker, backup: &Backup, folders: &[&str]) -> Result<Unpacked, Error> {
        let name = backup.name.as_str();
        let store = &self.plan.store_dir;
        let mut command = worker.command(self.job(), "unpack");
        command = command.arg("--work-dir").arg(self.work).args(["--backup", name]);
        for folder in folders {
            let target = Plan::stream_target(self.work, &backup.name, folder);
            command = command.arg("--server").arg(os_arg(&format!("{folder}="), &target));
        }
        if backup.kind() == Kind::Full {
            command = command.arg("--base-dir").arg(self.work.join("datanode_base"));
        }
        if let Some(password) = self.password.filter(|_| backup.encrypted) {
            command = command.secret_env("DBRECOVER_PASSWORD", password.clone());
        }
        command = command.args(["--json", "--progress", "json"]);
        let source = if backup.encrypted { store.join(backup.tar_path()) } else { store.join(name) };
        let step = format!("unpack {name}");
        let mut retries = 0;
        let output = if self.hosts.shared_store {
            let format = if backup.encrypted { "aes" } else { "folder" };
            command = command.args(["--format", format]).arg("--from").arg(&source);
            self.watched(command, &step, backup.bytes).await?
        } else {
            let format = if backup.encrypted { "aes" } else { "tar" };
            command = command.args(["--format", format, "--from", "-"]);
            let from = if backup.encrypted {
                self.hosts.store.command("cat").arg("--").arg(&source)
            } else {
                self.tar_of(backup, folders)
            };
            let moved = self.moved(&from, command, &step, backup.bytes).await?;
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

    /// `tar` of a plain backup, without the streams of servers that are not recovered.
    fn tar_of(&self, backup: &Backup, folders: &[&str]) -> Command {
        let mut tar = self.hosts.store.command("tar").arg("-C").arg(&self.plan.store_dir);
        for server in &backup.servers {
            if !folders.contains(&server.folder.as_str()) {
                let path = format!("{}/{}/{STREAM}", backup.name, server.folder);
                tar = tar.arg("--no-wildcards").arg(format!("--exclude={path}"));
            }
        }
        tar.args(["-cf", "-", "--"]).arg(backup.name.as_str())
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
    async fn watched(&self, command: Command, step: &str, total: u64) -> Result<Vec<u8>, Error> {
        let progress = |value: serde_json::Value| {
            if let Some(done) = value.get("bytes_read").and_then(serde_json::Value::as_u64) {
                self.progress(step, done, total);
            }
        };
        run_worker(self.job(), command, step, progress).await
    }

    fn progress(&self, step: &str, done: u64, total: u64) {
        self.watch.event(&Event::Progress {
            server: String::new(),
            step: step.to_owned(),
            done,
            total: Some(total),
            unit: "bytes",
            note: None,
        });
    }

    /// Moves what `from` writes on the store into `into` on the job server; `label` names its logs there.
    async fn moved(&self, from: &Command, into: Command, label: &str, total: u64) -> Result<Moved, Error> {
        let misc = &self.config.misc;
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
            ..transfer::Options::default()
        };
        let into = into.stdout_to(&said).stderr_to(&complained);
        let mut progress = |done| self.progress(label, done, total);
        let moved =
            transfer::stream(&self.hosts.store, from, self.job(), &into, &options, &mut progress).await;
        let files = self.job().files();
        match moved {
            Ok(moved) => Ok(Moved { retries: moved.retries, said: files.read(&said, MAX_REPORT).await? }),
            Err(remote_exec::Error::Failed { host, status, .. }) if host == self.job().name() => {
                let words = files.read(&complained, MAX_REPORT).await.unwrap_or_default();
                let words = worker::watch_stderr(words.as_slice(), |_| ()).await;
                Err(worker::failed(self.job(), label, Some(status.code().into()), words))
            }
            Err(error) => Err(error.into()),
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

    async fn by_stock_tools(&self, backup: &Backup, folders: &[&str]) -> Result<Unpacked, Error> {
        let name = backup.name.as_str();
        let job = self.job();
        if backup.encrypted {
            self.decrypt_in_store(backup).await?;
        }
        let untar = job.command("tar").arg("-C").arg(self.work).args(["--no-same-owner", "-xf", "-"]);
        let mut retries = 0;
        if self.hosts.shared_store {
            // The streams are extracted from where they lie; everything else is copied.
            job.pipeline(vec![self.tar_of(backup, &[]), untar]).run().await?;
        } else {
            let step = format!("unpack {name}");
            retries = self.moved(&self.tar_of(backup, folders), untar, &step, backup.bytes).await?.retries;
        }
        for folder in folders {
            let lies = if self.hosts.shared_store { &self.plan.store_dir } else { self.work };
            let stream = lies.join(name).join(folder).join(STREAM);
            let target = Plan::stream_target(self.work, &backup.name, folder);
            crate::prepare::extract(self, name, folder, &stream, &target).await?;
            if !self.hosts.shared_store {
                job.files().remove_file(&stream).await?;
            }
        }
        if backup.kind() == Kind::Full {
            self.untar_base(name).await?;
        }
        Ok(Unpacked {
            backup: name.to_owned(),
            retries,
            bytes_read: backup.bytes,
            bytes_written: 0,
            seconds: 0.0,
            details: serde_json::Value::Null,
        })
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
