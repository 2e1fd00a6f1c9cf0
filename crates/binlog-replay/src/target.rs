//! Where a replay starts and where it ends.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::gtid::GtidSet;
use crate::version::ParseError;

/// A place between two events of a binlog: `FILE:POS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// File name without a folder, as in `SHOW BINARY LOGS`.
    pub file: String,
    /// Offset in bytes from the start of the file; the first event is at 4.
    pub pos: u64,
}

impl Position {
    /// Offset of the first event: what comes before is the magic number.
    pub const FIRST: u64 = 4;

    /// A position.
    pub fn new(file: impl Into<String>, pos: u64) -> Self {
        Self { file: file.into(), pos }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.pos)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("binlog position (FILE:POS)", text, why);
        let (file, pos) = text.rsplit_once(':').ok_or_else(|| fail("no colon"))?;
        if file.is_empty() || file.contains('/') {
            return Err(fail("expected a file name without a folder"));
        }
        if !pos.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail("the part after the colon is no number"));
        }
        let pos = pos.parse().map_err(|_| fail("the part after the colon is no number"))?;
        if pos < Self::FIRST {
            return Err(fail("the first event of a binlog is at 4"));
        }
        Ok(Self { file: file.to_owned(), pos })
    }
}

/// What the server holds already: where a replay starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    /// First position to look at. A replica's backup gives position 4 of a file that reaches back far
    /// enough, and leaves it to [`Start::executed`] to say what is there already.
    pub position: Position,
    /// Transactions that the backup holds, when the servers use GTIDs; they are never applied again.
    pub executed: Option<GtidSet>,
}

/// Where a replay ends: always between two transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At this place, which must be the end of a transaction (or the start of a file).
    Position(Position),
    /// Before the first transaction whose commit time is at or after this one.
    ///
    /// The commit time is the GTID event's (microseconds, MySQL 8.0.1 and later: the time of the
    /// commit on the server where the client was), else the second in the header of the event that
    /// ends the transaction.
    Time(DateTime<Utc>),
    /// When a set of GTIDs is reached.
    UntilGtid {
        /// The set.
        set: GtidSet,
        /// `true`: after the last transaction of the set. `false`: before the first.
        inclusive: bool,
    },
    /// After the last whole transaction there is.
    End,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "position {position}"),
            Self::Time(time) => {
                write!(f, "time {}", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            }
            Self::UntilGtid { set, inclusive: true } => write!(f, "up to and including GTID {set}"),
            Self::UntilGtid { set, inclusive: false } => write!(f, "before GTID {set}"),
            Self::End => f.write_str("the end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let p: Position = "master-bin.000003:1234".parse().unwrap();
        assert_eq!((p.file.as_str(), p.pos), ("master-bin.000003", 1234));
        assert_eq!(p.to_string(), "master-bin.000003:1234");
        let p: Position = "odd:name.000001:4".parse().unwrap();
        assert_eq!((p.file.as_str(), p.pos), ("odd:name.000001", 4));
    }

    #[test]
    fn bad_positions_are_refused() {
        for text in ["", "a", "a:", ":4", "a:b", "a:3", "a:+5", "/tmp/a:4", "a:99999999999999999999"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
