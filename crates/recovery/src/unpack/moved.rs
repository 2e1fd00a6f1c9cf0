//! From the store to the job server.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remote_exec::{Command, transfer};

use crate::Error;
use crate::config::{Compression, Config, Transfer};
use crate::events::Watch;
use crate::hosts::Hosts;
use crate::sender::Sender;
use crate::worker::{self, MAX_REPORT};

/// How often it is looked how far a worker is.
const FOLLOW: Duration = Duration::from_secs(2);

/// A finished transfer.
pub(crate) struct Moved {
    pub(crate) retries: u32,
    /// What the receiving program wrote to its standard output.
    pub(crate) said: Vec<u8>,
}

/// What a store gives.
pub(crate) enum Given {
    /// A file.
    File(PathBuf),
    /// What `tar` writes with these arguments.
    Tar(Vec<OsString>),
}

/// One transfer.
pub(crate) struct Parcel<'a> {
    /// Its name for messages and the logs of its receiver.
    pub(crate) label: String,
    /// Told how many bytes arrived.
    pub(crate) progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// Carries what is in the store to programs on the job server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carrier<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) config: &'a Config,
    /// A directory of the job server with a `tmp` in it, for the receivers' logs.
    pub(crate) dir: &'a Path,
    pub(crate) sender: &'a Sender,
    pub(crate) watch: &'a Watch,
}

impl Carrier<'_> {
    /// Sends to a worker. A sender that went with a lost connection is put there again.
    pub(crate) async fn sent(
        &self,
        given: &Given,
        into: Command,
        parcel: &Parcel<'_>,
    ) -> Result<Moved, Error> {
        let mut lost = 0;
        loop {
            let (from, check) = self.sealing(given).await?;
            match self.moved(&from, into.clone(), check, parcel).await {
                Ok(moved) => return Ok(Moved { retries: moved.retries + lost, ..moved }),
                Err(error) if lost < self.config.misc.socat_retry_count && self.sender.is_lost().await => {
                    self.watch.debug(format!("{error}; the program that sends is put there again"));
                    lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What sends to a worker, and who seals it.
    async fn sealing(&self, given: &Given) -> Result<(Command, transfer::Check), Error> {
        let store = &self.hosts.store;
        let Some(sender) = self.sender.path(|why| self.watch.warning(why)).await? else {
            let command = match given {
                Given::File(path) => store.command("cat").arg("--").arg(path),
                Given::Tar(arguments) => store.command("tar").args(arguments),
            };
            return Ok((command, transfer::Check::SealingStage));
        };
        let mut command = store.command(sender).arg("send");
        if self.config.misc.transfer_compress == Compression::Zstd {
            command = command.args(["--compress", "zstd"]);
        }
        if let Some(rate) = self.config.misc.rate_limit {
            command = command.arg("--rate-limit").arg(rate.to_string());
        }
        command = match given {
            Given::File(path) => command.arg("--file").arg(path),
            Given::Tar(arguments) => command.args(["--", "tar"]).args(arguments),
        };
        Ok((command, transfer::Check::Sealed))
    }

    /// Moves what `from` writes on the store into `into` on the job server.
    pub(crate) async fn moved(
        &self,
        from: &Command,
        into: Command,
        check: transfer::Check,
        parcel: &Parcel<'_>,
    ) -> Result<Moved, Error> {
        let misc = &self.config.misc;
        let label = &parcel.label;
        let tmp = self.dir.join("tmp");
        let (said, complained) = (tmp.join(format!("{label}.json")), tmp.join(format!("{label}.log")));
        let mut options = transfer::Options::default();
        options.method = match misc.transfer {
            Transfer::Auto | Transfer::Local => transfer::Method::Auto,
            Transfer::Relay => transfer::Method::Relay,
            Transfer::Socat => transfer::Method::Socat,
            Transfer::Scp => transfer::Method::Scp,
        };
        options.socat = misc.socat_port2.map(|port| transfer::Socat {
            port,
            retries: misc.socat_retry_count,
            to: self.config.job.ip.clone(),
            from: Some(self.config.store.ip.clone()),
            log_dir: self.dir.join("socat_log"),
        });
        options.scp = (misc.transfer == Transfer::Scp).then(|| self.scp(tmp.clone()));
        options.retries = misc.socat_retry_count;
        options.rate_limit = misc.rate_limit;
        options.check = check;
        let into = into.stdout_to(&said).stderr_to(&complained);
        let mut progress = |done| (parcel.progress)(done);
        let store = &self.hosts.store;
        let job = &self.hosts.job;
        let moved = if check == transfer::Check::Stages {
            transfer::stream(store, from, job, &into, &options, &mut progress).await
        } else {
            let mut silent = |_| ();
            tokio::select! {
                moved = transfer::stream(store, from, job, &into, &options, &mut silent) => moved,
                never = self.follow(&complained, &mut progress) => match never {},
            }
        };
        let files = job.files();
        match moved {
            Ok(moved) => Ok(Moved { retries: moved.retries, said: files.read(&said, MAX_REPORT).await? }),
            Err(remote_exec::Error::Failed { host, status, .. }) if host == job.name() => {
                let words = files.read(&complained, MAX_REPORT).await.unwrap_or_default();
                let words = worker::watch_stderr(words.as_slice(), |_| ()).await;
                Err(worker::failed(job, label, Some(status.code().into()), words))
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
            let Ok(end) = self.hosts.job.command("tail").args(["-n", "3", "--"]).arg(log).output().await
            else {
                continue;
            };
            let mut done = None;
            worker::watch_stderr(end.stdout.as_slice(), |value| done = worker::bytes_read(&value).or(done))
                .await;
            if let Some(done) = done.filter(|done| *done > told) {
                told = done;
                progress(done);
            }
        }
    }

    /// How the store logs in to the job server: as the configuration does.
    fn scp(&self, dir: PathBuf) -> transfer::Scp {
        let job = &self.config.job;
        transfer::Scp {
            to: job.ip.clone(),
            port: Some(job.port),
            user: Some(job.user.clone()).filter(|user| !user.is_empty()),
            password: job.password.clone(),
            identity: job.identity_file.clone(),
            known_hosts: None,
            accept_new_host_keys: self.config.misc.accept_new_host_keys,
            dir,
        }
    }
}
