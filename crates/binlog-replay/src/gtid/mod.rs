//! Global transaction identifiers and sets of them, in both flavours.
//!
//! MySQL: `uuid[:tag]:number`, and a set is any collection of intervals. MariaDB: `domain-server-number`,
//! and a *position* `domain-server-number,…` stands for everything up to those numbers. Both are kept as
//! sets of intervals, so that union, minus and contains mean the same in both.

mod intervals;
mod mariadb;
mod mysql;

pub use intervals::{Interval, Intervals};
pub use mariadb::MariaDbGtidSet;
pub use mysql::{MySqlGtidSet, Source, Tag, Uuid};

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::version::{Flavor, ParseError};

/// The identifier of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gtid {
    /// MySQL 5.6 and later.
    MySql {
        /// The server where the transaction was first committed, and its tag.
        source: Source,
        /// Sequence number, 1 to 2⁶³−2.
        number: u64,
    },
    /// MariaDB 10.0 and later.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// `server_id` of the server where the transaction was first committed.
        server: u32,
        /// Sequence number within the domain, from 1.
        number: u64,
    },
}

impl Gtid {
    /// The family it belongs to.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::MySql { .. } => Flavor::MySql,
            Self::MariaDb { .. } => Flavor::MariaDb,
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { source, number } => write!(f, "{source}:{number}"),
            Self::MariaDb { domain, server, number } => write!(f, "{domain}-{server}-{number}"),
        }
    }
}

impl Serialize for Gtid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Gtid {
    type Err = ParseError;

    /// Reads one GTID of either flavour; they cannot be mistaken for each other.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if text.contains(':') { mysql::parse_gtid(text) } else { mariadb::parse_gtid(text) }
    }
}

/// A set of transactions.
///
/// ```
/// use binlog_replay::{Flavor, GtidSet};
///
/// let held = GtidSet::parse(Flavor::MySql, "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5:7")?;
/// let log = GtidSet::parse(Flavor::MySql, "3e11fa47-71ca-11e1-9e33-c80aa9429562:4-9")?;
/// assert_eq!(log.minus(&held).to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:6:8-9");
///
/// // A MariaDB position is everything up to its numbers.
/// let held = GtidSet::parse(Flavor::MariaDb, "0-1-100,1-2-7")?;
/// assert!(held.contains(&"0-1-42".parse()?));
/// # Ok::<(), binlog_replay::ParseError>(())
/// ```
///
/// Sets of different flavours share nothing: union and minus leave the left one as it is, unless the left
/// one is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidSet {
    /// MySQL.
    MySql(MySqlGtidSet),
    /// MariaDB.
    MariaDb(MariaDbGtidSet),
}

impl GtidSet {
    /// The empty set.
    pub fn new(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Self::MySql(MySqlGtidSet::default()),
            Flavor::MariaDb => Self::MariaDb(MariaDbGtidSet::default()),
        }
    }

    /// Reads a set as the server prints it: `gtid_executed`, or a MariaDB position, where `0-1-100` means
    /// the domain's transactions 1 to 100. Blanks and line ends between the parts are allowed; an empty
    /// text is the empty set. MariaDB sets that are no position are written `0-1-40..100`.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self, ParseError> {
        match flavor {
            Flavor::MySql => text.parse().map(Self::MySql),
            Flavor::MariaDb => text.parse().map(Self::MariaDb),
        }
    }

    /// Reads a set of single transactions as a user names them (`--skip-gtid`, `--until-gtid`).
    ///
    /// As [`GtidSet::parse`], except that the MariaDB text `0-1-100` means just that transaction.
    pub fn parse_exact(flavor: Flavor, text: &str) -> Result<Self, ParseError> {
        match flavor {
            Flavor::MySql => Self::parse(flavor, text),
            Flavor::MariaDb => MariaDbGtidSet::parse_exact(text).map(Self::MariaDb),
        }
    }

    /// The text that [`GtidSet::parse_exact`] reads back as this set; a MariaDB set is printed as a position
    /// otherwise, where it is one.
    pub fn exact_text(&self) -> String {
        match self {
            Self::MySql(set) => set.to_string(),
            Self::MariaDb(set) => set.exact_text(),
        }
    }

    /// The family it belongs to.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::MySql(_) => Flavor::MySql,
            Self::MariaDb(_) => Flavor::MariaDb,
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MySql(set) => set.is_empty(),
            Self::MariaDb(set) => set.is_empty(),
        }
    }

    /// Number of transactions in it. MariaDB numbers may have holes that nobody fills, so that a position
    /// counts more than there were.
    pub fn count(&self) -> u64 {
        match self {
            Self::MySql(set) => set.count(),
            Self::MariaDb(set) => set.count(),
        }
    }

    /// Whether `gtid` is in it.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql { source, number }) => set.contains(source, *number),
            (Self::MariaDb(set), Gtid::MariaDb { domain, number, .. }) => set.contains(*domain, *number),
            _ => false,
        }
    }

    /// Whether it names just this transaction; of MariaDB with its server, too, which tells clusters' groups
    /// apart that share a domain.
    pub(crate) fn names(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MariaDb(set), Gtid::MariaDb { domain, server, number }) => {
                set.names(*domain, *server, *number)
            }
            _ => self.contains(gtid),
        }
    }

    /// Whether it states another transaction with this one's number: of MariaDB, where two servers wrote to one domain
    /// at a time.
    pub(crate) fn names_another(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MariaDb(set), Gtid::MariaDb { domain, server, number }) => {
                set.names_another(*domain, *server, *number)
            }
            _ => false,
        }
    }

    /// Adds one transaction; a GTID of the other flavour is refused with `false`.
    pub fn insert(&mut self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql { source, number }) => set.insert(source, *number),
            (Self::MariaDb(set), Gtid::MariaDb { domain, server, number }) => {
                set.insert(*domain, *server, *number);
            }
            _ => return false,
        }
        true
    }

    /// Everything that is in one of the two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Self::MySql(a.union(b)),
            (Self::MariaDb(a), Self::MariaDb(b)) => Self::MariaDb(a.union(b)),
            _ if self.is_empty() => other.clone(),
            _ => self.clone(),
        }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => Self::MySql(a.minus(b)),
            (Self::MariaDb(a), Self::MariaDb(b)) => Self::MariaDb(a.minus(b)),
            _ => self.clone(),
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// Whether everything in this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.minus(other).is_empty()
    }

    /// Whether the two have nothing in common.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.intersection(other).is_empty()
    }

    /// Whether this set has, for some source (or domain) of `other`, a number above all that `other` has.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(a), Self::MySql(b)) => {
                b.iter().any(|(source, n)| a.iter().any(|(s, m)| s == source && m.last() > n.last()))
            }
            (Self::MariaDb(a), Self::MariaDb(b)) => {
                b.iter().any(|(domain, n)| a.iter().any(|(d, m)| d == domain && m.last() > n.last()))
            }
            _ => false,
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}

impl Serialize for GtidSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
