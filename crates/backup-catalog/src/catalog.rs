//! All backups of a store, and the chains they form.

use chrono::NaiveDateTime;

use crate::backup::{Backup, is_complete};
use crate::error::{Error, Link};
use crate::layout::{ENCRYPTED, SOCAT_LOG, TRASH};
use crate::name::{BackupName, Kind};
use crate::store::{Entry, EntryKind, Store};

/// Folders of a store that are no backups.
const RESERVED: [&str; 3] = [TRASH, ENCRYPTED, SOCAT_LOG];

/// What became of one backup's folder.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum State {
    /// It is complete and understood.
    Complete(Box<Backup>),
    /// It has no valid `ok` file: it was cut off, or is being taken right now.
    Incomplete,
    /// It says it is complete, but its description cannot be read.
    Damaged(Error),
}

/// One backup folder of the store.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: BackupName,
    /// What became of it.
    pub state: State,
}

/// A full backup and the incremental ones after it, as far as every link is there.
#[derive(Debug, Clone)]
pub struct Chain<'a> {
    /// The full backup first.
    pub backups: Vec<&'a Backup>,
}

/// All backups of a store, oldest first.
#[derive(Debug, Clone)]
pub struct Catalog {
    listed: Vec<Listed>,
    foreign: Vec<String>,
}

impl Catalog {
    /// Reads a store. Nothing in it is changed.
    ///
    /// A backup that cannot be read does not hide the others: it is listed with its error, which comes up when it,
    /// or one that is based on it, is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the store itself, or whether a backup is complete, cannot be read.
    pub fn read(store: &dyn Store) -> Result<Self, Error> {
        let mut listed = Vec::new();
        let mut foreign = Vec::new();
        let entries = store.list("").map_err(|e| Error::read(".", e))?;
        let tars = tars(store, &entries)?;
        for entry in entries.into_iter().filter(|e| !RESERVED.contains(&e.name.as_str())) {
            match entry.name.parse::<BackupName>() {
                Ok(name) if entry.kind == EntryKind::Dir => {
                    let state = match is_complete(store, &name)? {
                        false => State::Incomplete,
                        true => match Backup::read(store, &name, &tars) {
                            Ok(backup) => State::Complete(Box::new(backup)),
                            Err(error) => State::Damaged(error),
                        },
                    };
                    listed.push(Listed { name, state });
                }
                _ => foreign.push(entry.name),
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        foreign.sort();
        Ok(Self { listed, foreign })
    }

    /// Every backup folder, whatever its state, oldest first.
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// The complete backups, oldest first.
    pub fn backups(&self) -> impl DoubleEndedIterator<Item = &Backup> {
        self.listed.iter().filter_map(|listed| match &listed.state {
            State::Complete(backup) => Some(&**backup),
            _ => None,
        })
    }

    /// Entries of the base directory that are neither backups nor known folders. A recovery leaves them alone.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// The complete backup of this name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchBackup`], [`Error::Incomplete`] or [`Error::Damaged`].
    pub fn get(&self, name: &BackupName) -> Result<&Backup, Error> {
        let listed = self
            .listed
            .iter()
            .find(|listed| listed.name == *name)
            .ok_or_else(|| Error::NoSuchBackup { name: name.clone() })?;
        match &listed.state {
            State::Complete(backup) => Ok(backup),
            State::Incomplete => Err(Error::Incomplete { name: name.clone() }),
            State::Damaged(error) => {
                Err(Error::Damaged { name: name.clone(), source: Box::new(error.clone()) })
            }
        }
    }

    /// The newest backup of the store if it is incomplete: the one that a recovery moves to `trash/`, with its
    /// encrypted tar.
    pub fn newest_incomplete(&self) -> Option<&BackupName> {
        let newest = self.listed.last()?;
        matches!(newest.state, State::Incomplete).then_some(&newest.name)
    }

    /// The same catalog with the consistent points on another clock, such as UTC: what is chosen by time is then chosen
    /// by that clock. Local times repeat themselves when clocks are set back.
    #[must_use]
    pub fn on_clock(&self, point: impl Fn(&Backup) -> NaiveDateTime) -> Self {
        let mut catalog = self.clone();
        for listed in &mut catalog.listed {
            if let State::Complete(backup) = &mut listed.state {
                backup.consistent_point = point(backup);
            }
        }
        catalog
    }

    /// The same catalog as if the backups had never held these replication groups: what is to be reached without them is
    /// not held up by their binlogs, which end where a group was taken out of the cluster.
    #[must_use]
    pub fn without_groups(&self, groups: &[String]) -> Self {
        let mut catalog = self.clone();
        for listed in catalog.listed.iter_mut().filter(|_| !groups.is_empty()) {
            if let State::Complete(backup) = &mut listed.state {
                backup.leave_out(groups);
            }
        }
        catalog
    }

    /// The chain that ends at this backup, the full backup first.
    ///
    /// # Errors
    ///
    /// As [`Catalog::get`], and [`Error::MissingLink`] if a link before it is missing, incomplete or damaged.
    pub fn chain(&self, name: &BackupName) -> Result<Chain<'_>, Error> {
        let last = self.get(name)?;
        let mut backups = vec![last];
        let before = self.listed.iter().rev().skip_while(|listed| listed.name != *name).skip(1);
        let mut before = before;
        let broken = |missing| Error::MissingLink { backup: name.clone(), missing };
        while backups.last().is_some_and(|b| b.kind() == Kind::Inc) {
            let listed = before.next().ok_or_else(|| broken(Link::Full))?;
            match &listed.state {
                State::Complete(backup) => backups.push(backup),
                State::Incomplete => return Err(broken(Link::Incomplete(listed.name.clone()))),
                State::Damaged(error) => {
                    return Err(broken(Link::Damaged(listed.name.clone(), Box::new(error.clone()))));
                }
            }
        }
        backups.reverse();
        Ok(Chain { backups })
    }

    /// Every whole chain, oldest first. Backups behind a missing link are in none of them.
    pub fn chains(&self) -> Vec<Chain<'_>> {
        let mut chains: Vec<Chain<'_>> = Vec::new();
        let mut whole = false;
        for listed in &self.listed {
            match (&listed.state, listed.name.kind()) {
                (State::Complete(backup), Kind::Full) => {
                    chains.push(Chain { backups: vec![backup] });
                    whole = true;
                }
                (State::Complete(backup), Kind::Inc) if whole => {
                    if let Some(chain) = chains.last_mut() {
                        chain.backups.push(backup);
                    }
                }
                _ => whole = false,
            }
        }
        chains
    }
}

fn tars(store: &dyn Store, entries: &[Entry]) -> Result<Vec<Entry>, Error> {
    if !entries.iter().any(|e| e.name == ENCRYPTED) {
        return Ok(Vec::new());
    }
    store.list(ENCRYPTED).map_err(|e| Error::read(ENCRYPTED, e))
}
