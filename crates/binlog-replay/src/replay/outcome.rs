//! What a replay plans, tells on its way, and ends with. All of it can be written and read as JSON.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::method::{Choice, Method};
use super::options::GtidUse;
use crate::range::{Range, TransactionMark};

/// What a replay would do; nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The method and why.
    #[serde(flatten)]
    pub choice: Choice,
    /// Whether the transactions have GTIDs.
    pub gtids: GtidUse,
    /// What would be replayed.
    pub range: RangeSummary,
}

/// A plan, and how the temporary server has to be started for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Options for the server, after those that say where its files are; see
    /// [`server_options`](super::server_options).
    pub server_options: Vec<String>,
}

/// A [`Range`] in the words of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSummary {
    /// `FILE:POS` of the first event.
    pub start: String,
    /// `FILE:POS` behind the last event.
    pub stop: String,
    /// Names of the files, in their order.
    pub files: Vec<String>,
    /// Number of transactions to apply.
    pub transactions: u64,
    /// Number of transactions between start and stop that are left out.
    pub skipped: u64,
    /// Bytes between start and stop.
    pub bytes: u64,
    /// GTIDs to leave out.
    pub skip: Option<String>,
    /// The GTID state that the server must have afterwards; `None` without GTIDs.
    pub expected: Option<String>,
    /// The last transaction to apply.
    pub last: Option<Mark>,
    /// The transaction before which the replay ends.
    pub next: Option<Mark>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// The notes that mean that something may be missing.
    pub warnings: Vec<String>,
}

/// A transaction in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its GTID, if it has one.
    pub gtid: Option<String>,
    /// When it was committed.
    pub time: DateTime<Utc>,
    /// `FILE:POS` of its first event.
    pub start: String,
    /// `FILE:POS` behind its last event.
    pub end: String,
}

impl From<&TransactionMark> for Mark {
    fn from(mark: &TransactionMark) -> Self {
        Self {
            gtid: mark.gtid.as_ref().map(ToString::to_string),
            time: mark.time,
            start: mark.start.to_string(),
            end: mark.end.to_string(),
        }
    }
}

impl From<&Range> for RangeSummary {
    fn from(range: &Range) -> Self {
        let text = |set: &Option<crate::GtidSet>| set.as_ref().map(ToString::to_string);
        Self {
            start: range.start().to_string(),
            stop: range.stop().to_string(),
            files: range.files.iter().map(|f| f.name.clone()).collect(),
            transactions: range.transactions,
            skipped: range.skipped,
            bytes: range.bytes,
            skip: text(&range.skip),
            expected: text(&range.expected),
            last: range.last.as_ref().map(Mark::from),
            next: range.next.as_ref().map(Mark::from),
            notes: range.notes.clone(),
            warnings: range.warnings.clone(),
        }
    }
}

/// How far a replay is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Transactions applied.
    pub transactions: u64,
    /// Transactions to apply.
    pub transactions_total: u64,
    /// Bytes of binlog behind.
    pub bytes: u64,
    /// Bytes of binlog in all.
    pub bytes_total: u64,
    /// The time on the source that was reached: "replaying 2026-02-03 04:05:06".
    pub reached: Option<DateTime<Utc>>,
    /// `FILE:POS` that was reached.
    pub position: Option<String>,
    /// Milliseconds since the replay began.
    pub elapsed_ms: u64,
    /// Milliseconds that the rest will take at the speed so far.
    pub eta_ms: Option<u64>,
}

impl Progress {
    /// Sets the times from how long it took so far.
    pub(super) fn timed(mut self, elapsed: Duration) -> Self {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.elapsed_ms = millis;
        let (done, total) = match self.bytes_total {
            0 => (self.transactions, self.transactions_total),
            total => (self.bytes, total),
        };
        self.eta_ms = (done > 0).then(|| {
            let left = u128::from(total.saturating_sub(done));
            u64::try_from(u128::from(millis) * left / u128::from(done)).unwrap_or(u64::MAX)
        });
        self
    }
}

/// A replay that ended where the plan said, proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The method that was used.
    pub method: Method,
    /// Why it was used.
    pub reason: String,
    /// What was replayed. On a resumed replay: what was still missing.
    pub range: RangeSummary,
    /// Transactions applied, left-out ones not counted.
    pub transactions: u64,
    /// Transactions that failed and were left out, with [`OnError::SkipLogged`](super::OnError).
    pub left_out: Vec<LeftOut>,
    /// What somebody has to look after in the server.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What shows that the server is where the plan said.
    pub proof: Proof,
    /// The server's GTID state; `None` without GTIDs. It is the proof only where every transaction has one.
    #[serde(default)]
    pub gtid_state: Option<String>,
    /// Milliseconds from the first statement to the proof.
    pub elapsed_ms: u64,
}

/// What shows that the server is where the plan said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Where the state was read, as an operator can read it again: `@@GLOBAL.gtid_executed`, …
    pub source: String,
    /// The state that the plan said.
    pub expected: String,
    /// The state that was found; equal to `expected`.
    pub found: String,
}

/// A transaction that failed and was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its GTID, if it has one.
    pub gtid: Option<String>,
    /// `FILE:POS` of its first event.
    pub start: String,
    /// `FILE:POS` of the event that failed.
    pub event: String,
    /// The server's words.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_from_the_bytes() {
        let progress = Progress { bytes: 25, bytes_total: 100, ..Progress::default() };
        assert_eq!(progress.timed(Duration::from_secs(2)).eta_ms, Some(6000));
        let progress = Progress { bytes_total: 100, ..Progress::default() };
        assert_eq!(progress.timed(Duration::from_secs(2)).eta_ms, None);
    }
}
