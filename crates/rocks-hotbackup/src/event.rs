//! What a backup tells while it runs.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::server::{LeftOut, Lock};

/// Something worth a line in a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// A checkpoint of a backup that was killed was found and removed.
    OrphanRemoved {
        /// The directory.
        path: PathBuf,
    },
    /// How data files are read.
    Reading {
        /// Around the page cache.
        direct: bool,
        /// The server's data directory.
        datadir: PathBuf,
    },
    /// A checkpoint was made.
    Checkpoint {
        /// The round, from 1.
        round: u32,
        /// The directory.
        path: PathBuf,
        /// Data files to send.
        files: usize,
        /// Their bytes.
        bytes: u64,
        /// Data files that need not be sent: an earlier round or the base has them.
        known: usize,
    },
    /// A file was sent.
    Sent {
        /// Bytes of data files sent in all rounds.
        bytes: u64,
        /// Bytes of data files known so far.
        total: u64,
    },
    /// Another gigabyte was sent.
    Progress {
        /// Bytes of data files sent in all rounds.
        bytes: u64,
        /// Bytes of data files known so far.
        total: u64,
        /// Bytes per second since the last of these events.
        rate: u64,
    },
    /// A round is over and a new checkpoint follows.
    RoundOver {
        /// How long it took.
        seconds: f64,
        /// Data files that are left.
        remaining: usize,
    },
    /// WAL and RocksDB's own files follow.
    LastFiles,
    /// The lock was taken.
    Locked {
        /// Which one.
        lock: Lock,
    },
    /// The lock was given back.
    Unlocked {
        /// How long it was held.
        milliseconds: u64,
    },
    /// The backup waits until a file is there.
    WaitingFor {
        /// The file.
        path: PathBuf,
    },
    /// The server's files of one directory follow.
    Directory {
        /// The database's directory; empty for the top.
        path: PathBuf,
    },
    /// A file at the top of the data directory is left out.
    Skipped {
        /// The file.
        path: PathBuf,
    },
    /// User tables of another engine are not in the backup.
    LeftOut(LeftOut),
    /// Something the user should know.
    Warning {
        /// In words.
        text: String,
    },
}

/// Milliseconds, for reports.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
