//! A unit on its way from the store to the job server.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use remote_exec::{Command, transfer};

use super::{Moving, Unit, Unpack};
use crate::Error;
use crate::config::Transfer;
use crate::worker::{self, MAX_REPORT};

/// How often it is looked how far a worker is.
const FOLLOW: Duration = Duration::from_secs(2);

/// A finished transfer.
pub(super) struct Moved {
    pub(super) retries: u32,
    /// What the receiving program wrote to its standard output.
    pub(super) said: Vec<u8>,
}

impl Unpack<'_> {
    /// Moves what `from` writes on the store into `into` on the job server.
    pub(super) async fn moved(
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
}
