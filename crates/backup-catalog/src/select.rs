//! Which backups a recovery to a target takes.

use chrono::{NaiveDateTime, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::backup::Backup;
use crate::catalog::{Catalog, Chain};
use crate::error::Error;
use crate::name::BackupName;

/// Where a recovery is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The consistent point of one backup.
    Backup(BackupName),
    /// A moment, in local time of the machine that took the backups.
    Time(NaiveDateTime),
    /// The consistent point of the newest complete backup.
    Latest,
}

/// What a recovery takes from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The backups to prepare, the full one first. Replay starts where the last one ends.
    pub chain: Vec<BackupName>,
    /// The backup whose binlogs are joined to those of the chain's last one; only with a stop time.
    pub next: Option<BackupName>,
    /// Where replay stops; `None`: at the consistent point of the chain's last backup.
    pub stop: Option<NaiveDateTime>,
    /// Seams of the chain at which binlogs are missing although an incremental backup should reach back over them.
    /// A backup that was deleted from the middle of a chain shows so; the log sequence numbers in the physical
    /// backups decide.
    pub doubts: Vec<Doubt>,
}

/// Two neighbours of a chain that may not follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The earlier backup.
    pub earlier: BackupName,
    /// The later one, which is based on it.
    pub later: BackupName,
    /// The servers whose binlogs have a gap between the two.
    pub servers: Vec<String>,
}

impl Selection {
    /// The backup whose datadir the recovery ends up with before replay.
    pub fn last(&self) -> Option<&BackupName> {
        self.chain.last()
    }

    /// Every backup that is read, in order: the chain, then the next one.
    pub fn backups(&self) -> impl Iterator<Item = &BackupName> {
        self.chain.iter().chain(&self.next)
    }
}

impl Catalog {
    /// Chooses the backups for a target.
    ///
    /// For a time: a backup whose consistent point is exactly then ends there, without any next backup. Otherwise the
    /// chain ends at the last backup strictly before it and the binlogs of the backup after it are joined in. All
    /// chains of the store are looked at.
    ///
    /// # Errors
    ///
    /// [`Error::NoBackups`], the errors of [`Catalog::chain`], or [`Error::Outside`] with the windows there are.
    pub fn select(&self, target: &Target) -> Result<Selection, Error> {
        match target {
            Target::Backup(name) => Ok(selection(&self.chain(name)?, None)),
            Target::Latest => {
                let newest = self.backups().next_back().ok_or(Error::NoBackups)?;
                Ok(selection(&self.chain(&newest.name)?, None))
            }
            Target::Time(time) => self.select_time(*time),
        }
    }

    /// The selections through which a transaction that was committed at `time` may be reached, newest first.
    ///
    /// Unlike with [`Target::Time`], a consistent point is never the target itself; and as consistent points are
    /// known to the second, a time near one gives the spans on both sides of it. The transaction's place
    /// in the binlogs decides which one holds it.
    pub fn around(&self, time: NaiveDateTime) -> Vec<Selection> {
        let second = TimeDelta::seconds(1);
        let spans = self.seams().filter_map(|(earlier, later)| Some((earlier, later?)));
        let mut selections: Vec<_> = spans
            .filter(|(earlier, later)| {
                earlier.consistent_point <= time
                    && time < later.consistent_point + second
                    && earlier.joins(later)
            })
            .filter_map(|(earlier, later)| {
                Some(selection(&self.chain(&earlier.name).ok()?, Some((&later.name, time))))
            })
            .collect();
        selections.reverse();
        selections
    }

    fn select_time(&self, time: NaiveDateTime) -> Result<Selection, Error> {
        if self.backups().next().is_none() {
            return Err(Error::NoBackups);
        }
        let at = self.backups().filter(|b| b.consistent_point == time);
        if let Some(chain) = at.rev().find_map(|b| self.chain(&b.name).ok()) {
            return Ok(selection(&chain, None));
        }
        let spans = self.seams().filter_map(|(earlier, later)| Some((earlier, later?)));
        let mut spans = spans.filter(|(earlier, later)| {
            earlier.consistent_point < time && time <= later.consistent_point && earlier.joins(later)
        });
        spans
            .find_map(|(earlier, later)| {
                Some(selection(&self.chain(&earlier.name).ok()?, Some((&later.name, time))))
            })
            .ok_or_else(|| Error::Outside { time, windows: self.windows() })
    }
}

fn selection(chain: &Chain<'_>, beyond: Option<(&BackupName, NaiveDateTime)>) -> Selection {
    let seams = chain.backups.windows(2).filter_map(|pair| doubt(pair[0], pair[1]));
    Selection {
        chain: chain.backups.iter().map(|b| b.name.clone()).collect(),
        next: beyond.map(|(next, _)| next.clone()),
        stop: beyond.map(|(_, stop)| stop),
        doubts: seams.collect(),
    }
}

fn doubt(earlier: &Backup, later: &Backup) -> Option<Doubt> {
    let servers: Vec<String> = earlier.binlog_holes(later).into_iter().map(str::to_owned).collect();
    (!servers.is_empty()).then(|| Doubt { earlier: earlier.name.clone(), later: later.name.clone(), servers })
}
