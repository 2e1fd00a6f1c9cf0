//! What a backup is to be.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Checksum, Manifest};

/// What a backup is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where checkpoints are made; on the file system of the data. It is created if it is missing.
    pub checkpoint_dir: PathBuf,
    /// A checkpoint that is older is given up for a new one: it keeps files alive that the server no longer needs.
    pub interval: Duration,
    /// The data directory, if not the one the server tells.
    pub datadir: Option<PathBuf>,
    /// Accept tables that were created, altered or dropped during the backup.
    pub skip_definition_check: bool,
    /// Take checkpoint, server files and binlog position of one moment, under one lock.
    pub consistent: bool,
    /// Never lock: the server's files are read as they are, as the original does. Without `binlogs` the restored server may
    /// refuse to start until it was told what to do with prepared transactions.
    pub no_lock: bool,
    /// The manifest of the backup that this one builds on.
    pub base: Option<Manifest>,
    /// Bytes per second, for all files together.
    pub rate_limit: Option<u64>,
    /// The checksums of the manifest.
    pub checksum: Checksum,
    /// Threads that read: the server's small files, and one data file ahead in direct I/O.
    pub readers: usize,
    /// Direct I/O, if not as the server does it.
    pub direct: Option<bool>,
    /// Take the server's binlogs along. Without them, the last checkpoint is taken as if [`consistent`](Self::consistent)
    /// was asked for, if the account may lock: what a commit that is half done comes to, only a binlog could say.
    pub binlogs: bool,
    /// Wait between data and server files until this file is there; for tests.
    pub wait_for: Option<PathBuf>,
    /// Accept a server whose data dictionary is in InnoDB (MySQL 8 and later): it is not in the backup, and a restored server
    /// does not start without one.
    pub without_dictionary: bool,
    /// Accept a base of another server, if its RocksDB database is the same: a server whose address changed.
    pub base_of_another_server: bool,
    /// Accept a checkpoint that is a copy, on another file system.
    pub copied_checkpoint: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint_dir: "/data/mysql/backup/snapshot".into(),
            interval: Duration::from_secs(300),
            datadir: None,
            skip_definition_check: false,
            consistent: false,
            no_lock: false,
            base: None,
            rate_limit: None,
            checksum: Checksum::default(),
            readers: 4,
            direct: None,
            binlogs: true,
            wait_for: None,
            without_dictionary: false,
            base_of_another_server: false,
            copied_checkpoint: false,
        }
    }
}
