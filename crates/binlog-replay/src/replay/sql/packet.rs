//! Statements on their way to the server: several in one packet, each known by its place in the binlog.

use std::sync::Arc;

/// Bytes after which a packet is sent.
const FULL: usize = 64 * 1024;
/// Steps after which a packet is sent.
const MANY: usize = 400;

/// What a statement does, which decides what happens to it when its transaction is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sets the session up; always runs.
    Session,
    /// Names the transaction to the server (`gtid_next`).
    Name,
    /// Changes data, or starts or ends the transaction.
    Data,
}

/// The transaction that a statement belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Number within the replay, from 0.
    pub(super) number: u64,
    /// Its GTID.
    pub(super) gtid: Option<String>,
    /// Index of its file in the range.
    pub(super) file: usize,
    /// Offset of its first event.
    pub(super) start: u64,
    /// Seconds since 1970 of its first event.
    pub(super) time: u32,
}

/// One statement within a packet.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// End of its bytes in the packet; it starts where the one before ends.
    pub(super) end: usize,
    /// What it does.
    pub(super) kind: Kind,
    /// Its transaction.
    pub(super) transaction: Arc<Transaction>,
    /// Offset of the event that it comes from.
    pub(super) pos: u64,
    /// Table of a row event.
    pub(super) table: Option<Arc<str>>,
    /// The error with which the statement ended on its own server and must end here; 0 for none.
    pub(super) expected_error: u16,
    /// Set on the last step of a transaction: the offset behind it.
    pub(super) ends: Option<u64>,
}

/// A file for `LOAD DATA LOCAL`, given to the server when it asks.
pub(super) type Infile = Arc<tempfile::TempPath>;

/// Statements that are sent together.
#[derive(Debug, Default)]
pub(super) struct Packet {
    /// The statements; each ends with `;` unless the packet holds no other.
    pub(super) sql: Vec<u8>,
    /// Their places.
    pub(super) steps: Vec<Step>,
    /// The file that the only statement reads.
    pub(super) infile: Option<Infile>,
}

impl Packet {
    /// Whether it is time to send it.
    pub(super) fn is_full(&self) -> bool {
        self.sql.len() >= FULL || self.steps.len() >= MANY
    }

    /// The bytes of step `i`.
    pub(super) fn text(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.steps[i - 1].end };
        &self.sql[start..self.steps[i].end]
    }
}
