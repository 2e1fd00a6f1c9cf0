//! One pass by the worker: it reads where the store is its own machine's, or what is sent to it.

use std::path::PathBuf;

use backup_catalog::Backup;
use backup_catalog::layout::STREAM;
use remote_exec::Command;

use super::moved::{Given, Parcel};
use super::{Moving, Unit, Unpack};
use crate::Error;
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
            let is_file = backup.encrypted || matches!(unit, Unit::Stream(_));
            let given = match is_file {
                true => Given::File(source),
                false => Given::Tar(Self::tar_of(&self.plan.store_dir, backup, unit)),
            };
            let progress = |done| self.progress(moving, done);
            let parcel = Parcel { label: moving.label(), progress: &progress };
            let moved = self.carrier().sent(&given, command, &parcel).await?;
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
            _ if backup.encrypted => store.join(backup.name.archive()),
            _ => store.join(backup.name.as_str()),
        }
    }

    /// Runs a worker command on the job server and follows its progress.
    async fn watched(&self, command: Command, moving: &Moving<'_>) -> Result<Vec<u8>, Error> {
        let progress = |value: serde_json::Value| {
            if let Some(done) = worker::bytes_read(&value) {
                self.progress(moving, done);
            }
        };
        worker::run(self.job(), command, &moving.unit.step(moving.backup.name.as_str()), progress).await
    }
}
