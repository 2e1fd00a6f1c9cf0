//! One pass by the worker: it reads where the store is its own machine's, or what is sent to it.

use std::path::PathBuf;

use backup_catalog::Backup;
use remote_exec::{Command, transfer};

use super::moved::Moved;
use super::{Moving, STREAM, Unit, Unpack};
use crate::Error;
use crate::config::Compression;
use crate::journal::os_arg;
use crate::plan::Plan;
use crate::report::Unpacked;
use crate::worker::{self, Worker};

impl Unpack<'_> {
    pub(super) async fn by_worker(
        &self,
        worker: &Worker,
        moving: &Moving<'_>,
        folders: &[&str],
    ) -> Result<Unpacked, Error> {
        let Moving { backup, unit, .. } = *moving;
        let name = backup.name.as_str();
        let mut command = worker.command(self.job(), "unpack");
        command = command.arg("--work-dir").arg(self.work).args(["--backup", name]);
        for folder in unit.streams(folders) {
            let target = Plan::stream_target(self.work, &backup.name, folder);
            command = command.arg("--server").arg(os_arg(&format!("{folder}="), &target));
        }
        if moving.has_base() {
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
        let (store, store_dir) = (&self.hosts.store, &self.plan.store_dir);
        let is_file = backup.encrypted || matches!(unit, Unit::Stream(_));
        let source = self.source(backup, unit);
        let tar = || Self::tar_of(store_dir, backup, unit);
        let Some(sender) = self.sender.path(|why| self.watch.warning(why)).await? else {
            let cat = || store.command("cat").arg("--").arg(&source);
            let command = if is_file { cat() } else { store.command("tar").args(tar()) };
            return Ok((command, transfer::Check::SealingStage));
        };
        let mut command = store.command(sender).arg("send");
        if self.config.misc.transfer_compress == Compression::Zstd {
            command = command.args(["--compress", "zstd"]);
        }
        if let Some(rate) = self.config.misc.rate_limit {
            command = command.arg("--rate-limit").arg(rate.to_string());
        }
        command =
            if is_file { command.arg("--file").arg(source) } else { command.args(["--", "tar"]).args(tar()) };
        Ok((command, transfer::Check::Sealed))
    }

    /// Runs a worker command on the job server and follows its progress.
    async fn watched(&self, command: Command, moving: &Moving<'_>) -> Result<Vec<u8>, Error> {
        let progress = |value: serde_json::Value| {
            if let Some(done) = value.get("bytes_read").and_then(serde_json::Value::as_u64) {
                self.progress(moving, done);
            }
        };
        worker::run(self.job(), command, &moving.unit.step(moving.backup.name.as_str()), progress).await
    }
}
