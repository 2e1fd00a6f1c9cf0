//! What a recovery is going to do, decided before anything is touched.
//!
//! [`make`] is a pure function: from the catalog, the configuration, the target and the [`Facts`] that were
//! found on the hosts to a [`Plan`]. What can be refused is refused there.

use std::path::{Path, PathBuf};

use backup_catalog::{Backup, BackupName, Catalog, Kind, Master, Role, Selection, ServerChoice, Target};
use binlog_replay::replay::TargetAt;
use serde::Serialize;
use xtra_driver::Tool;

use crate::config::{Config, Connect, ReplayMethod};
pub use crate::extend::Finished;
pub use crate::goal::{Goal, Wanted};
use crate::hosts::Hosts;
pub use crate::locate::{AtTarget, Located};
use crate::time::StopTime;
use crate::worker::Tools;
use crate::{Error, SCHEMA_VERSION};

/// A restored server takes at least its stream; log files, undo and the replay come on top.
const HEADROOM: f64 = 1.1;
/// What a compressed base directory grows to, measured on MariaDB 10.11 and MySQL 9.7: 3 to 4 times.
const BASE_GROWTH: u64 = 4;

/// What was found on the hosts.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The xtrabackup or mariabackup program.
    pub prepare: Tool,
    /// Who unpacks and replays.
    pub tools: Tools,
    /// Bytes free for the work directory.
    pub free: u64,
    /// Cores of the job server.
    pub cores: usize,
    /// The user of the temporary servers; `None`: the login user.
    pub mysqld_user: Option<String>,
    /// Where the target and what is left out lie, if they are GTIDs or a position.
    pub located: Option<Located>,
    /// The finished recovery to start from.
    pub extends: Option<Finished>,
}

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
    /// The folder whose binlogs are replayed; `None`: named by `master_dir` inside an encrypted backup.
    pub binlogs_of: Option<String>,
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
    /// The catalog's choice that this is made from.
    #[serde(skip)]
    pub choice: ServerChoice,
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
    /// Bytes that the work directory will take, at least.
    pub bytes_needed: u64,
    /// Bytes that are free there.
    pub bytes_free: u64,
    /// The user of the temporary servers.
    pub mysqld_user: Option<String>,
    /// Servers are left running.
    pub for_testing: bool,
    /// The servers.
    pub servers: Vec<PlannedServer>,
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

/// Decides everything about a recovery.
///
/// # Errors
///
/// Whatever can be known beforehand: no such backup, a time outside every window, a missing link, a missing
/// entry, a gap in the binlogs, a tool that does not fit, too little room.
pub fn make(
    catalog: &Catalog,
    config: &Config,
    wanted: &Wanted,
    hosts: &Hosts,
    facts: &Facts,
) -> Result<Plan, Error> {
    let Wanted { goal, name, .. } = wanted.clone();
    let zone = config.misc.zone;
    let located = facts.located.as_ref();
    let stop = match located.and_then(|located| located.time) {
        Some(time) => Some(StopTime::at(time, zone)),
        None => wanted.stop.clone(),
    };
    let selection = select(catalog, &goal, stop.as_ref(), located)?;
    let choices = catalog.recoverable(&selection)?;
    let mut backups = Vec::new();
    let mut needed = 0_u64;
    for backup_name in selection.backups() {
        let backup = catalog.get(backup_name)?;
        let used_for = if Some(backup_name) == selection.next.as_ref() {
            UsedFor::Binlogs
        } else if backup.kind() == Kind::Full {
            UsedFor::Full
        } else {
            UsedFor::Incremental
        };
        needed += bytes_of(backup, used_for, &choices);
        backups.push(planned_backup(backup, used_for));
    }
    let stock = facts.tools.worker.is_none();
    if stock && located.is_some() {
        return Err(Error::Tool {
            host: hosts.job.name().to_owned(),
            tool: "stock tools".to_owned(),
            reason: format!("GTIDs, positions and skip-gtid need the worker ({})", facts.tools.reason),
        });
    }
    if stock {
        // The stock tools keep the streams beside what they extract from them.
        needed = needed.saturating_mul(2);
    }
    let needed = (needed as f64 * HEADROOM) as u64;
    let work_dir = config.work_dir.join(&name);
    // What a finished recovery needs is there already.
    if facts.free < needed && facts.extends.is_none() {
        return Err(Error::NoSpace {
            host: hosts.job.name().to_owned(),
            path: config.work_dir.clone(),
            needed,
            free: facts.free,
        });
    }
    let mut warnings = config.warnings.clone();
    for doubt in &selection.doubts {
        warnings.push(format!(
            "the binlogs of {} and {} do not meet on {}; the recovery goes by the physical backups there",
            doubt.earlier,
            doubt.later,
            doubt.servers.join(", ")
        ));
    }
    let to_trash = catalog.newest_incomplete().cloned();
    let servers: Vec<_> = choices
        .into_iter()
        .map(|choice| planned_server(choice, &selection, stop.as_ref(), facts, config))
        .collect();
    let transfer = if hosts.shared_store {
        "none: the job server reads the store itself".to_owned()
    } else {
        format!("{:?} over {}", config.misc.transfer, connect_name(config.misc.connect)).to_lowercase()
    };
    let mut plan = Plan {
        schema_version: SCHEMA_VERSION,
        goal,
        backups,
        store: hosts.store.name().to_owned(),
        store_dir: config.store_dir.clone(),
        job_server: hosts.job.name().to_owned(),
        work_dir,
        transfer,
        tools: facts.tools.clone(),
        prepare: format!(
            "{} ({} {})",
            facts.prepare.program(),
            facts.prepare.kind(),
            facts.prepare.version()
        ),
        replay_method: if stock { ReplayMethod::Pipe } else { config.misc.replay },
        parallel: config.misc.parallel.unwrap_or(facts.cores).clamp(1, servers.len().max(1)),
        bytes_needed: needed,
        bytes_free: facts.free,
        mysqld_user: facts.mysqld_user.clone(),
        for_testing: config.misc.for_testing,
        servers,
        to_trash,
        warnings,
        extends: None,
        name,
        selection,
        stop,
    };
    if let Some(finished) = &facts.extends {
        finished.extend(&mut plan, catalog)?;
    }
    Ok(plan)
}

/// The backups for a goal.
fn select(
    catalog: &Catalog,
    goal: &Goal,
    stop: Option<&StopTime>,
    located: Option<&Located>,
) -> Result<Selection, Error> {
    let time = match (goal, stop) {
        (Goal::Backup { backup }, _) => return Ok(catalog.select(&Target::Backup(backup.clone()))?),
        (_, Some(stop)) => stop.local,
        (_, None) => return Err(Error::Incomplete { what: "nothing says when the target was".to_owned() }),
    };
    match (goal, located) {
        (Goal::Gtid { .. } | Goal::Position { .. }, Some(located)) => {
            let mut around = catalog.around(time).into_iter();
            let selection = around.find(|selection| located.is_in(catalog, selection));
            selection
                .ok_or_else(|| backup_catalog::Error::Outside { time, windows: catalog.windows() }.into())
        }
        _ => Ok(catalog.select(&Target::Time(time))?),
    }
}

fn connect_name(connect: Connect) -> &'static str {
    match connect {
        Connect::Local => "local",
        Connect::Ssh => "ssh",
        Connect::RabbitAgent => "rabbit-agent",
        Connect::AdmAgent => "adm-agent",
    }
}

/// What one backup puts into the work directory, at least.
fn bytes_of(backup: &Backup, used_for: UsedFor, choices: &[ServerChoice]) -> u64 {
    if let Some(tar) = backup.tar_bytes.filter(|_| backup.encrypted) {
        return if used_for == UsedFor::Binlogs { 0 } else { tar };
    }
    let mut bytes = 0;
    for choice in choices {
        if let Some(folder) = backup.server(&choice.folder)
            && used_for != UsedFor::Binlogs
        {
            bytes += folder.stream_bytes.unwrap_or(0);
        }
        let master = match &choice.master {
            Master::Folder(folder) => backup.server(folder),
            Master::Own | Master::InMasterDir => backup.server(&choice.folder),
        };
        bytes += master.map_or(0, |m| m.binlogs.iter().map(|(_, size)| size).sum::<u64>());
    }
    if used_for == UsedFor::Full {
        bytes += backup.base_tarball.as_ref().map_or(0, |t| t.bytes.saturating_mul(BASE_GROWTH));
    }
    bytes
}

/// One backup, as it takes part.
pub(crate) fn planned_backup(backup: &Backup, used_for: UsedFor) -> PlannedBackup {
    PlannedBackup {
        name: backup.name.clone(),
        used_for,
        encrypted: backup.encrypted,
        bytes: backup.bytes,
        consistent_point: backup.consistent_point.to_string(),
    }
}

fn planned_server(
    choice: ServerChoice,
    selection: &Selection,
    stop: Option<&StopTime>,
    facts: &Facts,
    config: &Config,
) -> PlannedServer {
    let line = &choice.line;
    let located = facts.located.as_ref();
    let at_target = located.and_then(|located| located.groups.get(&choice.group));
    let skip = located.and_then(|located| located.skip.get(&choice.group)).cloned();
    let (target, mut stop_text) = match (at_target, stop, &selection.next) {
        (Some(at), ..) => (at.target.clone(), at.to_string()),
        (None, Some(stop), Some(_)) => {
            let text = format!("before the first transaction committed at or after {}", stop.text);
            (TargetAt::Time(stop.instant), text)
        }
        _ => {
            let position = format!("{}:{}", line.consistent.file, line.consistent.offset);
            (TargetAt::Position(position.clone()), position)
        }
    };
    if let Some(skip) = &skip {
        stop_text.push_str(&format!(", without {skip}"));
    }
    let mut steps = Vec::new();
    for backup in &selection.chain {
        steps.push(format!("unpack {backup}"));
    }
    for backup in &selection.chain {
        steps.push(format!("prepare {backup}"));
    }
    steps.push("start the temporary server".to_owned());
    let method = if facts.tools.worker.is_none() { ReplayMethod::Pipe } else { config.misc.replay };
    steps.push(format!("replay ({}) to {stop_text}", format!("{method:?}").to_lowercase()));
    steps.push("prove the GTID state".to_owned());
    steps.push(if config.misc.for_testing { "leave it running" } else { "shut it down" }.to_owned());
    PlannedServer {
        group: choice.group.clone(),
        server: choice.server.clone(),
        folder: choice.folder.clone(),
        role: choice.role,
        binlogs_of: match &choice.master {
            Master::Own => Some(choice.folder.clone()),
            Master::Folder(folder) => Some(folder.clone()),
            Master::InMasterDir => None,
        },
        start: format!("{}:{}", line.start.file, line.start.offset),
        stop: stop_text,
        skip,
        steps,
        target,
        choice,
    }
}
