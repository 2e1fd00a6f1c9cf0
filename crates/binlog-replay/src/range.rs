//! What is to be replayed: the answer of [`choose`](crate::choose).

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::gtid::{Gtid, GtidSet};
use crate::target::{Position, Target};
use crate::version::{Flavor, ServerVersion};

/// The exact piece of a chain of binlogs that a replay applies.
///
/// Everything in it was read and its checksums compared when it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The family of the server that wrote the binlogs.
    pub flavor: Flavor,
    /// The server that wrote the first file.
    pub version: ServerVersion,
    /// The files in the order of their chain, never empty. All but the last are replayed to their ends.
    pub files: Vec<RangeFile>,
    /// What the caller asked for.
    pub target: Target,
    /// Transactions that lie between start and stop and are left out: what the backup holds already
    /// and what `--skip-gtid` names. Empty (or `None` without GTIDs) when nothing is left out.
    pub skip: Option<GtidSet>,
    /// GTIDs of the transactions that will be applied; `None` without GTIDs.
    pub applied: Option<GtidSet>,
    /// The server's GTID state after the replay: `gtid_executed` of MySQL, the position of MariaDB;
    /// `None` without GTIDs.
    pub expected: Option<GtidSet>,
    /// The server's GTID state before the replay: what `expected` adds to.
    #[serde(skip)]
    pub(crate) base: Option<GtidSet>,
    /// The first transaction to apply, if one that was held before comes behind it.
    #[serde(skip)]
    pub(crate) before_held: Option<TransactionMark>,
    /// Number of transactions that will be applied.
    pub transactions: u64,
    /// Number of transactions between start and stop that are left out.
    pub skipped: u64,
    /// The first transaction that will be applied; `None` if there is nothing to apply.
    pub first: Option<TransactionMark>,
    /// The last transaction that will be applied; `None` if there is nothing to apply.
    pub last: Option<TransactionMark>,
    /// The transaction before which the replay ends, if there is one: what the target keeps out.
    pub next: Option<TransactionMark>,
    /// Bytes of events between start and stop, left-out transactions included.
    pub bytes: u64,
    /// What a reader of a plan should know: a file that was still open when it was copied, and the like.
    pub notes: Vec<String>,
    /// The notes that mean that something may be missing: an open file that was cut inside a transaction and is
    /// needed to its end, or that other files follow; binlogs that end before the target time.
    pub warnings: Vec<String>,
}

impl Range {
    /// Whether there is nothing to apply: the backup is at the target already.
    pub fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    /// Whether a transaction between start and stop is left out.
    pub(crate) fn leaves_out(&self, gtid: &Gtid) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.contains(gtid))
    }

    /// Where the replay starts.
    pub fn start(&self) -> Position {
        let first = &self.files[0];
        Position::new(&*first.name, first.start)
    }

    /// Where the replay ends: the end of a transaction.
    pub fn stop(&self) -> Position {
        let last = &self.files[self.files.len() - 1];
        Position::new(&*last.name, last.stop)
    }
}

/// One file of a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RangeFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in the chain: `master-bin.000007`.
    pub name: String,
    /// Offset of the first event to replay, between two transactions; 4 for all files but the first.
    pub start: u64,
    /// Offset behind the last event to replay, between two transactions.
    pub stop: u64,
    /// Size of the file in bytes; more than `stop` where the replay ends in this file.
    pub size: u64,
    /// Number of transactions between `start` and `stop`, left-out ones included.
    pub transactions: u64,
}

/// One transaction, as plans and reports name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionMark {
    /// Its GTID; `None` without GTIDs.
    pub gtid: Option<Gtid>,
    /// When it was committed; see [`Target::Time`].
    pub time: DateTime<Utc>,
    /// Where its first event starts.
    pub start: Position,
    /// Where its last event ends.
    pub end: Position,
}
