//! A server that is none: a directory stands for its data, hard links to what is in it for a checkpoint.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Options, backup};
use crate::server::{Facts, LeftOut, Lock, Position, Server};
use crate::sink::{DirSink, Encoding};
use crate::{Clock, Error, Event, Manifest, Stop};

/// A data directory with one data file, and what the server answers.
pub(crate) struct Fake {
    pub(crate) dir: TempDir,
    pub(crate) facts: Facts,
    /// What the next tries to lock come to; then there is a lock.
    pub(crate) failures: VecDeque<Error>,
    pub(crate) locks: u32,
    pub(crate) position: fn() -> Result<Option<Position>, Error>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    pub(crate) fn on(dir: tempfile::TempDir) -> Self {
        let datadir = dir.path().join("data");
        let rocksdb = datadir.join("#rocksdb");
        std::fs::create_dir_all(&rocksdb).unwrap();
        for (name, text) in
            [("CURRENT", "MANIFEST-000004\n"), ("IDENTITY", "one database\n"), ("000040.sst", "data")]
        {
            std::fs::write(rocksdb.join(name), text).unwrap();
        }
        let facts =
            Facts { datadir, rocksdb_datadir: rocksdb.clone(), rocksdb_wal_dir: rocksdb, ..Facts::default() };
        Self { dir, facts, failures: VecDeque::new(), locks: 0, position: || Ok(None) }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn options(&self) -> Options {
        Options { checkpoint_dir: self.at("checkpoints"), ..Options::default() }
    }

    /// A backup into the directory `to`; gives its manifest and the warnings.
    pub(crate) fn backup(&mut self, to: &str, options: &Options) -> Result<(Manifest, Vec<String>), Error> {
        let to = self.at(to);
        let mut sink = DirSink::create(&to, Encoding::default())?;
        let mut warnings = Vec::new();
        let mut tell = |event: &Event| {
            if let Event::Warning { text } = event {
                warnings.push(text.clone());
            }
        };
        backup(self, &mut sink, &Still, options, &Stop::new(), &mut tell)?;
        Ok((Manifest::read(&to)?, warnings))
    }
}

impl Server for Fake {
    fn facts(&mut self) -> Result<Facts, Error> {
        Ok(self.facts.clone())
    }
    fn create_checkpoint(&mut self, dir: &Path) -> Result<(), Error> {
        std::fs::create_dir(dir).unwrap();
        for file in std::fs::read_dir(&self.facts.rocksdb_datadir).unwrap() {
            let file = file.unwrap();
            std::fs::hard_link(file.path(), dir.join(file.file_name())).unwrap();
        }
        Ok(())
    }
    fn position(&mut self) -> Result<Option<Position>, Error> {
        (self.position)()
    }
    fn lock(&mut self) -> Result<Lock, Error> {
        self.locks += 1;
        self.failures.pop_front().map_or(Ok(Lock::GlobalRead), Err)
    }
    fn unlock(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn left_out(&mut self) -> Result<Vec<LeftOut>, Error> {
        Ok(Vec::new())
    }
}

/// A clock in whose world nothing takes any time.
struct Still;

impl Clock for Still {
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::now()
    }
    fn elapsed(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    fn sleep(&self, _: std::time::Duration) {}
}
