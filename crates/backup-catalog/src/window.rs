//! Windows of time that can be reached.

use std::fmt;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::name::BackupName;

/// A stretch of time of which every moment can be reached, both ends included.
///
/// It starts and ends at consistent points; a single backup whose binlogs join no other gives a window of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First moment, local time of the machine that took the backups.
    pub from: NaiveDateTime,
    /// Last moment.
    pub to: NaiveDateTime,
    /// The backups whose consistent points it joins, oldest first.
    pub backups: Vec<BackupName>,
}

impl Window {
    /// Whether a moment can be reached through this window.
    pub fn contains(&self, time: NaiveDateTime) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{} to {}", self.from, self.to)
        }
    }
}

impl Catalog {
    /// What can be reached, over all chains, oldest first.
    ///
    /// Between the consistent points of two backups that follow each other, every moment can be reached when the
    /// binlogs of the later one join those of the earlier one without a gap. Whether the later one starts a new
    /// chain, or lacks a link of its own, does not matter: only its binlogs are used.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        let mut joined = false;
        for (backup, next) in self.seams() {
            let point = backup.consistent_point;
            let reached = self.chain(&backup.name).is_ok();
            match windows.last_mut().filter(|_| joined) {
                Some(window) => {
                    window.to = window.to.max(point);
                    window.backups.push(backup.name.clone());
                }
                None if reached => {
                    windows.push(Window { from: point, to: point, backups: vec![backup.name.clone()] });
                }
                None => {}
            }
            joined = reached && next.is_some_and(|next| backup.joins(next));
        }
        windows
    }

    /// Each complete backup with the complete backup after it.
    pub(crate) fn seams(&self) -> impl Iterator<Item = (&crate::Backup, Option<&crate::Backup>)> {
        let next = self.backups().skip(1).map(Some).chain([None]);
        self.backups().zip(next)
    }
}
