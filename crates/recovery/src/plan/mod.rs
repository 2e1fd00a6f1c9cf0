//! What a recovery is going to do, decided before anything is touched.
//!
//! [`make`] is a pure function: from the catalog, the configuration, the target and the [`Facts`] that were
//! found on the hosts to a [`Plan`]. What can be refused is refused there.

mod covered;
mod make;
mod room;

use std::path::{Path, PathBuf};

use backup_catalog::{BackupName, Kind, Role, Selection, ServerChoice};
use binlog_replay::replay::TargetAt;
use serde::{Serialize, Serializer};

use crate::config::ReplayMethod;
pub use crate::extend::Finished;
pub use crate::facts::Facts;
pub use crate::goal::{Goal, Wanted};
pub use crate::locate::{AtTarget, Located};
pub(crate) use crate::plan::covered::{executed, falls_short};
pub use crate::plan::make::make;
pub(crate) use crate::plan::make::{check_work_dir, further_binlogs, planned_backup};
use crate::time::StopTime;
use crate::worker::Tools;

/// One backup that takes part.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedBackup {
    /// Its name.
    pub name: BackupName,
    /// What it is used for.
    pub used_for: UsedFor,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its bytes in the store.
    pub bytes: u64,
    /// Its consistent point: local time of the backup machine.
    pub consistent_point: String,
}

/// What a backup is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UsedFor {
    /// The base of the chain.
    Full,
    /// Changes laid over the base.
    Incremental,
    /// Only its binlogs are used: it lies behind the stop time.
    Binlogs,
}

/// One server that is recovered.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedServer {
    /// The replication group.
    pub group: String,
    /// The server's name.
    pub server: String,
    /// Its folder in the backups, and below `datadir/`.
    pub folder: String,
    /// Whether its backup was taken of a master or a replica.
    pub role: Role,
    /// The catalog's choice that this is made from; a document has of it the folder whose binlogs are replayed, or null where
    /// `master_dir` inside an encrypted backup names it.
    #[serde(rename = "binlogs_of", serialize_with = "binlogs_of")]
    pub choice: ServerChoice,
    /// `BACKUP/FOLDER` of further masters of the group, whose binlogs go on after a failover.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_binlogs: Vec<String>,
    /// Where replay starts: binlog file and position.
    pub start: String,
    /// Where it stops: the consistent point, the stop time, or the target that is in its binlogs.
    pub stop: String,
    /// Transactions that are left out on the way there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// The steps, in order.
    pub steps: Vec<String>,
    /// Where it stops, for the replay.
    #[serde(skip)]
    pub target: TargetAt,
}

fn binlogs_of<S: Serializer>(choice: &ServerChoice, serializer: S) -> Result<S::Ok, S::Error> {
    choice.binlogs_of().serialize(serializer)
}

/// A whole recovery, as it will be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Version of this document's shape.
    pub schema_version: u32,
    /// Where it ends.
    pub goal: Goal,
    /// The backups, full first.
    pub backups: Vec<PlannedBackup>,
    /// The machine with the backups.
    pub store: String,
    /// The base directory of the backups.
    pub store_dir: PathBuf,
    /// The machine that is recovered on.
    pub job_server: String,
    /// Where the result will lie.
    pub work_dir: PathBuf,
    /// How bytes get there.
    pub transfer: String,
    /// Who unpacks and replays.
    pub tools: Tools,
    /// What prepares the datadirs.
    pub prepare: String,
    /// How binlogs are applied.
    pub replay_method: ReplayMethod,
    /// Servers side by side.
    pub parallel: usize,
    /// Buffer pool of each temporary server, in bytes.
    pub buffer_pool: u64,
    /// Bytes that the work directory will take, at least.
    pub bytes_needed: u64,
    /// Bytes that are free there, with those of what a cut-off recovery to the same target left.
    pub bytes_free: u64,
    /// The streams are compressed, or may be: what they grow to is not in `bytes_needed`.
    pub compressed: bool,
    /// The user of the temporary servers.
    pub mysqld_user: Option<String>,
    /// The system time zone of the temporary servers; `None`: that of the job server.
    pub time_zone: Option<String>,
    /// Servers are left running.
    pub for_testing: bool,
    /// The servers.
    pub servers: Vec<PlannedServer>,
    /// Replication groups that are left out because the user says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_groups: Vec<String>,
    /// Encrypted backups that were decrypted on the job server to find the target in their binlogs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub looked_into: Vec<BackupName>,
    /// An incomplete newest backup that will be moved to `trash/`.
    pub to_trash: Option<BackupName>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// The finished recovery that is taken over, and replayed from where it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// The name of the work directory below its parent.
    #[serde(skip)]
    pub name: String,
    /// The selection that this is made from.
    #[serde(skip)]
    pub selection: Selection,
    /// The stop time, if there is one.
    #[serde(skip)]
    pub stop: Option<StopTime>,
}

impl PlannedServer {
    /// Starts from a finished recovery: `choice` is of its last backup.
    pub(crate) fn take_over<'a>(
        &mut self,
        choice: ServerChoice,
        finished: &str,
        later: impl Iterator<Item = &'a BackupName>,
    ) {
        let start = self.steps.iter().position(|step| step.starts_with("start ")).unwrap_or(0);
        let mut steps = vec![format!("take over {finished}")];
        steps.extend(later.map(|backup| format!("unpack {backup}")));
        steps.extend(self.steps.drain(start..));
        self.steps = steps;
        self.start = format!("{}:{}", choice.line.start.file, choice.line.start.offset);
        self.choice = choice;
    }
}

impl Plan {
    /// The backup that the chain ends with: its consistence lines say where replay starts and stops.
    pub fn last(&self) -> &BackupName {
        // A selection has at least a full backup.
        &self.selection.chain[self.selection.chain.len() - 1]
    }

    /// Whether [`last`](Self::last) is encrypted: nothing of its folders is seen before it is unpacked.
    pub(crate) fn last_is_encrypted(&self) -> bool {
        self.backups.iter().any(|backup| backup.name == *self.last() && backup.encrypted)
    }

    /// The backups whose binlogs are replayed, in their order.
    pub(crate) fn with_binlogs(&self) -> impl Iterator<Item = &BackupName> {
        let later = self.backups.iter().filter(|b| b.used_for == UsedFor::Binlogs).map(|b| &b.name);
        std::iter::once(self.last()).chain(later)
    }

    /// Directory of a backup below the work directory.
    pub(crate) fn backup_dir(work: &Path, backup: &BackupName) -> PathBuf {
        work.join(backup.as_str())
    }

    /// Where a server's stream of one backup is extracted to.
    pub(crate) fn stream_target(work: &Path, backup: &BackupName, folder: &str) -> PathBuf {
        match backup.kind() {
            Kind::Full => work.join("datadir").join(folder),
            Kind::Inc => work.join("incremental").join(backup.as_str()).join(folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use backup_catalog::{ConsistenceLine, Master, Position};

    use super::*;

    fn choice(master: &str) -> ServerChoice {
        let position = |offset| Position { file: "bin.000001".to_owned(), offset };
        let line = ConsistenceLine {
            ip: "10.0.0.1".to_owned(),
            port: 1,
            server: "r".to_owned(),
            consistent: position(400),
            group: "a".to_owned(),
            to_lsn: 1,
            start: position(4),
            line: 1,
        };
        ServerChoice {
            group: "a".to_owned(),
            server: "r".to_owned(),
            folder: "a-r-10.0.0.1-1".to_owned(),
            role: Role::Replica,
            master: Master::Folder(master.to_owned()),
            line,
        }
    }

    #[test]
    fn an_extension_says_the_master_of_the_backup_that_it_starts_from() {
        let mut server = PlannedServer {
            group: "a".to_owned(),
            server: "r".to_owned(),
            folder: "a-r-10.0.0.1-1".to_owned(),
            role: Role::Replica,
            choice: choice("a-new-10.0.0.1-3"),
            further_binlogs: Vec::new(),
            start: String::new(),
            stop: String::new(),
            skip: None,
            steps: Vec::new(),
            target: TargetAt::Position("bin.000001:400".to_owned()),
        };
        server.take_over(choice("a-old-10.0.0.1-2"), "finished", std::iter::empty());
        let document = serde_json::to_value(&server).unwrap();
        assert_eq!(document["binlogs_of"], "a-old-10.0.0.1-2");
        assert_eq!(document.get("choice"), None);
    }
}
