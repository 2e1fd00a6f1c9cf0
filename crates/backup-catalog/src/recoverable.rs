//! Which servers of a chain are to be recovered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::backup::Backup;
use crate::catalog::Catalog;
use crate::consistence::{ConsistenceLine, Role};
use crate::error::Error;
use crate::layout::{BASE, CONSISTENCE, STREAM};
use crate::name::Kind;
use crate::select::Selection;

/// Whose binlogs are replayed on a recovered server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Master {
    /// Its own: it is the master.
    Own,
    /// Those in this folder of the backup.
    Folder(String),
    /// Those in the folder that `master_dir` names, which can be read once the encrypted backup is unpacked.
    InMasterDir,
}

/// One server to recover: one per replication group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerChoice {
    /// The replication group.
    pub group: String,
    /// The server's name.
    pub server: String,
    /// Name of its folder in every backup of the chain.
    pub folder: String,
    /// What it was.
    pub role: Role,
    /// Where the binlogs to replay lie.
    pub master: Master,
    /// Its line in the chain's last backup.
    pub line: ConsistenceLine,
}

impl ServerChoice {
    /// The folder whose binlogs are replayed; `None` if only the unpacked backup says it.
    pub fn binlogs_of(&self) -> Option<&str> {
        match &self.master {
            Master::Own => Some(&self.folder),
            Master::Folder(folder) => Some(folder),
            Master::InMasterDir => None,
        }
    }

    /// Folders of further masters of the group in a later backup: what was committed after a failover is in their
    /// binlogs.
    pub fn later_masters(&self, later: &Backup) -> Vec<String> {
        let own = self.binlogs_of();
        let of_group = |group: &str, folder: &str| group == self.group && Some(folder) != own;
        if later.encrypted {
            let lines = later.consistence.iter().filter(|line| line.role() == Role::Master);
            let of_others = lines.filter(|line| own.is_some() && of_group(&line.group, &line.folder()));
            return of_others.map(ConsistenceLine::folder).collect();
        }
        let seen = later.servers.iter().filter(|s| s.role() == Role::Master && !s.binlogs.is_empty());
        seen.filter(|s| of_group(&s.group, &s.folder)).map(|s| s.folder.clone()).collect()
    }
}

/// The servers to recover from a chain, full backup first, in order of their folders' names.
///
/// When masters were backed up they are taken and replicas passed over; otherwise one replica per group, the first one
/// whose physical backup is in every link. What a server was is told by `master_dir` where folders can be seen, and by
/// its consistence line in an encrypted backup. The groups in `without` are left out.
///
/// # Errors
///
/// [`Error::NoServers`], [`Error::LostGroup`] if an earlier link has a group that the last one has not, or
/// [`Error::MissingEntry`] if a chosen server is not in every link, or the full backup has no base directory.
pub fn recoverable(chain: &[&Backup], without: &[String]) -> Result<Vec<ServerChoice>, Error> {
    let Some((full, last)) = chain.first().zip(chain.last()) else { return Ok(Vec::new()) };
    if !full.encrypted && full.kind() == Kind::Full && full.base_tarball.is_none() {
        return Err(missing(full, &format!("{BASE}/*.tar.gz")));
    }
    let candidates = candidates(last, without);

    let mut chosen: Vec<ServerChoice> = Vec::new();
    let groups: BTreeSet<&str> = candidates.iter().map(|c| c.group.as_str()).collect();
    for group in groups {
        match of_group(last, &candidates, group) {
            (Role::Master, masters) => {
                for master in masters {
                    in_every_link(chain, master)?;
                    chosen.push(master.clone());
                }
            }
            (Role::Replica, replicas) => {
                if let Some(whole) = replicas.iter().find(|r| in_every_link(chain, r).is_ok()) {
                    chosen.push((*whole).clone());
                } else if let Some(first) = replicas.first() {
                    in_every_link(chain, first)?;
                }
            }
        }
    }
    if chosen.is_empty() {
        return Err(Error::NoServers { backup: last.name.clone() });
    }
    for backup in chain {
        none_is_lost(backup, last, &chosen, without)?;
    }
    chosen.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(chosen)
}

/// The servers whose binlogs a backup may have, whether it can be recovered from or not: chosen as by [`recoverable`], but
/// group by group, and their physical backups need not be there. The groups in `without` are left out.
pub fn with_binlogs(backup: &Backup, without: &[String]) -> Vec<ServerChoice> {
    let candidates = candidates(backup, without);
    let groups: BTreeSet<&str> = candidates.iter().map(|c| c.group.as_str()).collect();
    let mut chosen: Vec<ServerChoice> = Vec::new();
    for group in groups {
        match of_group(backup, &candidates, group) {
            (Role::Master, masters) => chosen.extend(masters.into_iter().cloned()),
            (Role::Replica, replicas) => {
                let whole = replicas.iter().find(|replica| in_every_link(&[backup], replica).is_ok());
                chosen.extend(whole.or(replicas.first()).map(|replica| (*replica).clone()));
            }
        }
    }
    chosen.sort_by(|a, b| a.folder.cmp(&b.folder));
    chosen
}

/// The servers of a group that are taken: its masters, or its replicas.
fn of_group<'c>(
    backup: &Backup,
    candidates: &'c [ServerChoice],
    group: &str,
) -> (Role, Vec<&'c ServerChoice>) {
    let (masters, replicas): (Vec<_>, Vec<_>) =
        candidates.iter().filter(|c| c.group == group).partition(|c| c.role == Role::Master);
    let both = !masters.is_empty() && !replicas.is_empty();
    let use_masters = if both { backup.backup_master.unwrap_or(true) } else { !masters.is_empty() };
    if use_masters { (Role::Master, masters) } else { (Role::Replica, replicas) }
}

/// The servers of a backup, in order of their folders' names.
fn candidates(backup: &Backup, without: &[String]) -> Vec<ServerChoice> {
    let mut candidates: Vec<ServerChoice> =
        backup.consistence.iter().map(|line| candidate(backup, line)).collect();
    candidates.retain(|candidate| !without.contains(&candidate.group));
    candidates.sort_by(|a, b| a.folder.cmp(&b.folder));
    candidates
}

/// Whether every group of a backup is recovered, or left out on purpose.
fn none_is_lost(
    backup: &Backup,
    last: &Backup,
    chosen: &[ServerChoice],
    without: &[String],
) -> Result<(), Error> {
    let recovered =
        |group: &str| chosen.iter().any(|c| c.group == group) || without.iter().any(|w| w == group);
    match backup.groups().into_iter().find(|group| !recovered(group)) {
        None => Ok(()),
        Some(group) => Err(Error::LostGroup {
            group: group.to_owned(),
            backup: backup.name.clone(),
            last: last.name.clone(),
        }),
    }
}

impl Catalog {
    /// The backups of a selection's chain, the full one first.
    ///
    /// # Errors
    ///
    /// As [`Catalog::get`].
    pub fn chain_of(&self, selection: &Selection) -> Result<Vec<&Backup>, Error> {
        selection.chain.iter().map(|name| self.get(name)).collect()
    }

    /// The servers to recover for a selection; as [`recoverable`], and the next backup must hold their binlogs, and no
    /// group that the chain does not have.
    ///
    /// # Errors
    ///
    /// As [`recoverable`] and [`Catalog::get`].
    pub fn recoverable(&self, selection: &Selection, without: &[String]) -> Result<Vec<ServerChoice>, Error> {
        let chain = self.chain_of(selection)?;
        let chosen = recoverable(&chain, without)?;
        if let Some((next, last)) = selection.next.as_ref().zip(chain.last()) {
            let next = self.get(next)?;
            none_is_lost(next, last, &chosen, without)?;
            for choice in chosen.iter().filter(|_| !next.encrypted) {
                let Some(folder) = choice.binlogs_of() else { continue };
                if next.server(folder).is_none_or(|s| s.binlogs.is_empty()) {
                    return Err(missing(next, &format!("{folder}/ with binlogs")));
                }
            }
        }
        Ok(chosen)
    }
}

fn candidate(backup: &Backup, line: &ConsistenceLine) -> ServerChoice {
    let folder = backup.server(&line.folder());
    let (role, master) = match folder {
        Some(seen) => match &seen.master_dir {
            Some(master) => (Role::Replica, Master::Folder(master.clone())),
            None => (Role::Master, Master::Own),
        },
        None => match line.role() {
            Role::Master => (Role::Master, Master::Own),
            Role::Replica => (Role::Replica, Master::InMasterDir),
        },
    };
    ServerChoice {
        group: line.group.clone(),
        server: line.server.clone(),
        folder: line.folder(),
        role,
        master,
        line: line.clone(),
    }
}

/// Whether a server's physical backup is in every link, and the binlogs to replay in the last one, as far as that can
/// be seen.
fn in_every_link(chain: &[&Backup], choice: &ServerChoice) -> Result<(), Error> {
    for backup in chain {
        if !backup.consistence.iter().any(|line| line.folder() == choice.folder) {
            return Err(missing(backup, &format!("line for {} in {CONSISTENCE}", choice.folder)));
        }
        if !backup.encrypted && backup.server(&choice.folder).is_none_or(|s| s.stream_bytes.is_none()) {
            return Err(missing(backup, &format!("{}/{STREAM}", choice.folder)));
        }
    }
    match (chain.last(), &choice.master) {
        (Some(last), Master::Folder(master)) if last.server(master).is_none() => {
            Err(missing(last, &format!("{master}/, the folder of {}'s master", choice.folder)))
        }
        _ => Ok(()),
    }
}

fn missing(backup: &Backup, entry: &str) -> Error {
    Error::MissingEntry { backup: backup.name.clone(), entry: entry.to_owned() }
}
