//! Rounds: checkpoint after checkpoint, until one is sent whole before its time is over.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use super::server_part::Aside;
use super::{Run, identity, scope};
use crate::checkpoint::Place;
use crate::manifest::{BinlogAt, Entry};
use crate::names::{self, Kind};
use crate::rocksdb::LiveFiles;
use crate::server::Position;
use crate::server_files::Definitions;
use crate::{Error, Event};

const GIGABYTE: u64 = 1 << 30;

/// Whether rounds get anywhere: a server that writes faster than the backup leaves more after each of them.
#[derive(Debug, Default)]
struct Pace {
    least: Option<usize>,
    stalled: u32,
}

impl Pace {
    /// Rounds without progress after which one is sent whole, however long its checkpoint lives.
    const PATIENCE: u32 = 5;

    fn round(&mut self, remaining: usize) {
        match self.least {
            Some(least) if remaining >= least => self.stalled += 1,
            _ => (self.least, self.stalled) = (Some(remaining), 0),
        }
    }

    fn is_stuck(&self) -> bool {
        self.stalled >= Self::PATIENCE
    }
}

/// What the rounds came to.
pub(super) struct Rounds {
    pub(super) count: u32,
    /// WAL and RocksDB's own files.
    pub(super) files: Vec<Entry>,
    /// The data files of the final checkpoint and their sizes.
    pub(super) data: BTreeMap<String, u64>,
    pub(super) binlog: Option<BinlogAt>,
    pub(super) sequence: Option<u64>,
    /// The server's files, put aside at the moment of the final checkpoint.
    pub(super) kept: Option<Aside>,
}

/// A checkpoint and what it holds.
struct Checkpoint {
    place: Place,
    data: BTreeMap<String, u64>,
    wal: Vec<String>,
    meta: Vec<String>,
    binlog: Option<BinlogAt>,
    definitions: Option<Definitions>,
    kept: Option<Aside>,
}

impl Run<'_> {
    /// Makes checkpoints and sends their data files until one is sent whole.
    ///
    /// A consistent backup makes one more, under the lock: its data files are few by then, and they can be sent after
    /// the lock is gone.
    pub(super) fn rounds(&mut self) -> Result<Rounds, Error> {
        let mut last = false;
        let mut count = 0;
        let mut pace = Pace::default();
        loop {
            count += 1;
            let checkpoint = self.checkpoint(count, last)?;
            let remaining = self.send_data(&checkpoint, last || pace.is_stuck())?;
            pace.round(remaining);
            if remaining > 0 || (self.options.consistent && !last) {
                last = remaining == 0;
                checkpoint.place.remove()?;
                continue;
            }
            (self.tell)(&Event::LastFiles);
            let mut files = Vec::new();
            let mut sequence = None;
            for name in checkpoint.wal.iter().chain(&checkpoint.meta) {
                let path = checkpoint.place.path().join(name);
                if name.starts_with("MANIFEST-") {
                    sequence = Some(self.check_live(&path, &checkpoint)?);
                }
                files.push(self.send(Path::new(name), &path)?);
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            let Checkpoint { place, data, binlog, definitions, kept, .. } = checkpoint;
            place.remove()?;
            self.wait()?;
            let kept = match kept {
                Some(kept) => Some(kept),
                None => self.keep_later(definitions)?,
            };
            return Ok(Rounds { count, files, data, binlog, sequence, kept });
        }
    }

    fn checkpoint(&mut self, round: u32, consistent: bool) -> Result<Checkpoint, Error> {
        self.stop.check()?;
        let now = identity(&self.facts);
        if now != self.identity {
            let name = |id: Option<String>| id.unwrap_or_else(|| "unknown".into());
            let (was, is) = (name(self.identity.clone()), name(now));
            return Err(Error::ServerChanged { what: "the identity of the RocksDB database", was, is });
        }
        let place = self.workspace.place(&round.to_string());
        let locked = if consistent { Some(self.lock()?) } else { None };
        let definitions = match consistent || self.options.skip_definition_check {
            true => None,
            false => {
                let names = scope(&self.facts, &self.datadir, self.options).definitions()?;
                Some(Definitions { start: self.started, names })
            }
        };
        let before = self.server.position()?;
        self.server.create_checkpoint(place.path())?;
        let after = self.server.position()?;
        let mut kept = None;
        if let Some(since) = locked {
            kept = Some(self.keep()?);
            self.unlock(since)?;
        }
        let binlog = at(before, after, consistent);
        let mut checkpoint =
            Checkpoint { place, data: BTreeMap::new(), wal: vec![], meta: vec![], binlog, definitions, kept };
        self.list(&mut checkpoint)?;
        let todo = || checkpoint.data.iter().filter(|(name, _)| !self.is_known(name));
        let (files, bytes) = (todo().count(), todo().map(|(_, size)| size).sum());
        (self.tell)(&Event::Checkpoint {
            round,
            path: checkpoint.place.path().to_owned(),
            files,
            bytes,
            known: checkpoint.data.len() - files,
        });
        Ok(checkpoint)
    }

    fn is_known(&self, name: &str) -> bool {
        self.sent.contains_key(name) || self.base.contains_key(name)
    }

    /// Lists a checkpoint, and checks that names mean the same files as in the rounds before and in the base.
    fn list(&self, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        let dir = checkpoint.place.path();
        for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match names::kind(Path::new(&name)) {
                Kind::Data => {
                    let now = entry.metadata().map_err(Error::io("read", entry.path()))?.len();
                    if let Some(known) = self.sent.get(&name).or_else(|| self.base.get(&name).copied())
                        && known.size != now
                    {
                        return Err(Error::FileReplaced { file: name, sent: known.size, now });
                    }
                    checkpoint.data.insert(name, now);
                }
                Kind::Wal => checkpoint.wal.push(name),
                Kind::Meta => checkpoint.meta.push(name),
                Kind::Server => {}
            }
        }
        checkpoint.wal.sort();
        // CURRENT last: it is what makes the files before it a database.
        checkpoint.meta.sort_by_key(|name| (name == "CURRENT", name.clone()));
        if !checkpoint.meta.iter().any(|name| name == "CURRENT") {
            return Err(Error::NoBackup { path: dir.to_owned(), missing: "CURRENT" });
        }
        Ok(())
    }

    /// Sends the data files that nobody has yet; gives how many are left because the interval is over. With `all` it
    /// does not matter how long it takes.
    fn send_data(&mut self, checkpoint: &Checkpoint, all: bool) -> Result<usize, Error> {
        let begun = self.clock.elapsed();
        let todo: Vec<_> = checkpoint.data.iter().filter(|(name, _)| !self.is_known(name)).collect();
        let total = self.sent_bytes + todo.iter().map(|(_, size)| **size).sum::<u64>();
        // Links to what is there already keep nothing alive that the final round would need.
        for name in checkpoint.data.keys().filter(|name| self.is_known(name)) {
            let path = checkpoint.place.path().join(name);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        for (done, (name, size)) in todo.iter().enumerate() {
            let path = checkpoint.place.path().join(name);
            let entry = self.send(Path::new(name), &path)?;
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            self.sent.insert((*name).clone(), entry);
            self.sent_bytes += **size;
            self.tell_progress(**size, total);
            let took = self.clock.elapsed() - begun;
            let remaining = todo.len() - done - 1;
            if took > self.options.interval && remaining > 0 && !all {
                (self.tell)(&Event::RoundOver { seconds: took.as_secs_f64(), remaining });
                return Ok(remaining);
            }
        }
        Ok(0)
    }

    fn tell_progress(&mut self, size: u64, total: u64) {
        let bytes = self.sent_bytes;
        (self.tell)(&Event::Sent { bytes, total });
        if bytes / GIGABYTE > (bytes - size) / GIGABYTE {
            let now = self.clock.elapsed();
            let seconds = (now - self.progress.1).as_secs_f64().max(0.001);
            let rate = ((bytes - self.progress.0) as f64 / seconds) as u64;
            self.progress = (bytes, now);
            (self.tell)(&Event::Progress { bytes, total, rate });
        }
    }

    /// The checkpoint's MANIFEST must name exactly the data files of the checkpoint; gives the sequence number.
    fn check_live(&self, path: &Path, checkpoint: &Checkpoint) -> Result<u64, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let live = LiveFiles::read(std::io::BufReader::new(file), path)?;
        for (name, size) in live.names() {
            let found = checkpoint.data.get(&name).copied();
            let fits = found.is_some_and(|found| size.is_none_or(|size| size == found));
            if !fits {
                let found = found.map_or("is missing".into(), |n| format!("has {n} bytes"));
                let size = size.map_or("any number of".into(), |n| n.to_string());
                let reason = format!("it needs {name} with {size} bytes, which {found} in the checkpoint");
                return Err(Error::Rocks { path: path.to_owned(), offset: 0, reason });
            }
        }
        Ok(live.last_sequence)
    }
}

fn at(before: Option<Position>, after: Option<Position>, locked: bool) -> Option<BinlogAt> {
    let (before, after) = (before?, after?);
    // Without the lock not even a position that stands still is exact: a transaction is in the binlog before it is
    // committed in RocksDB.
    Some(BinlogAt { before, after, exact: locked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_leave_no_fewer_files_end_in_one_that_is_sent_whole() {
        let mut pace = Pace::default();
        for remaining in [10, 8, 8, 9, 8, 8] {
            pace.round(remaining);
            assert!(!pace.is_stuck(), "{remaining}");
        }
        pace.round(12);
        assert!(pace.is_stuck());
        pace.round(3);
        assert!(!pace.is_stuck(), "progress again");
    }
}
