//! GTID positions and lists of MariaDB.
//!
//! A position (`gtid_binlog_pos`, `gtid_slave_pos`) names the last transaction of each domain and stands for
//! all before it. Sets that are no position – what a replay applies, what is to be skipped – are intervals
//! of a domain's numbers, written `domain-server-first..last`. Source: MariaDB knowledge base, "Global
//! Transaction ID".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Gtid, Intervals};
use crate::version::ParseError;

const SET: &str = "MariaDB GTID position";

/// A set of MariaDB GTIDs.
///
/// Members are told apart by domain and number: within a domain the number is unique as long as only one
/// server writes at a time, which is what MariaDB asks for. Server ids are kept for printing; comparing sets does not
/// look at them.
#[derive(Debug, Clone, Default)]
pub struct MariaDbGtidSet(BTreeMap<u32, Domain>);

#[derive(Debug, Clone, Default)]
struct Domain {
    numbers: Intervals,
    /// Server id of the ends of intervals, as far as they were stated.
    servers: BTreeMap<u64, u32>,
}

impl Domain {
    fn insert(&mut self, server: u32, start: u64, end: u64) {
        self.numbers.insert(start, end);
        self.servers.insert(end, server);
        // Keep what ends an interval, and so can be printed.
        if self.servers.len() > 2 * self.numbers.as_slice().len() + 16 {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        let kept = self.numbers.as_slice().iter().map(|i| (i.end, self.server_of(i.end)));
        self.servers = kept.collect();
    }

    /// The server of `number`, or the best guess: the one of the next known number, else of the one before.
    fn server_of(&self, number: u64) -> u32 {
        let next = self.servers.range(number..).next();
        next.or_else(|| self.servers.range(..number).next_back()).map_or(0, |(_, server)| *server)
    }
}

impl PartialEq for MariaDbGtidSet {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((a, x), (b, y))| a == b && x.numbers == y.numbers)
    }
}

impl Eq for MariaDbGtidSet {}

impl MariaDbGtidSet {
    /// Reads a list of single transactions: here `0-1-100` means just that one.
    pub fn parse_exact(text: &str) -> Result<Self, ParseError> {
        parse(text, true)
    }

    /// Domains and their numbers; no domain is empty.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Intervals)> {
        self.0.iter().map(|(domain, d)| (*domain, &d.numbers))
    }

    /// The last GTID of each domain: the position that a server which holds this set is at.
    pub fn position(&self) -> impl Iterator<Item = Gtid> {
        self.0.iter().filter_map(|(domain, d)| {
            let number = d.numbers.last()?;
            Some(Gtid::MariaDb { domain: *domain, server: d.server_of(number), number })
        })
    }

    /// The position that a server which holds this set is at, as a set: everything up to the last number
    /// of each domain.
    #[must_use]
    pub fn to_position(&self) -> Self {
        let mut position = Self::default();
        for gtid in self.position() {
            if let Gtid::MariaDb { domain, server, number } = gtid {
                position.insert_range(domain, server, 1, number);
            }
        }
        position
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it covers.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, d| sum.saturating_add(d.numbers.count()))
    }

    /// Whether it covers number `number` of `domain`.
    pub fn contains(&self, domain: u32, number: u64) -> bool {
        self.0.get(&domain).is_some_and(|d| d.numbers.contains(number))
    }

    /// Whether it names number `number` of `domain` as a transaction of `server`.
    pub(crate) fn names(&self, domain: u32, server: u32, number: u64) -> bool {
        self.0.get(&domain).is_some_and(|d| d.numbers.contains(number) && d.server_of(number) == server)
    }

    /// Whether it states number `number` of `domain` as a transaction of another server than `server`.
    pub(crate) fn names_another(&self, domain: u32, server: u32, number: u64) -> bool {
        let stated = self.0.get(&domain).and_then(|d| d.servers.get(&number));
        stated.is_some_and(|stated| *stated != server)
    }

    /// Whether it states a transaction of one of these domains and servers.
    pub(crate) fn is_of(&self, writers: &BTreeSet<(u32, u32)>) -> bool {
        let mut stated =
            self.0.iter().flat_map(|(domain, d)| d.servers.values().map(|server| (*domain, *server)));
        stated.any(|writer| writers.contains(&writer))
    }

    /// The text that [`MariaDbGtidSet::parse_exact`] reads back as this set.
    pub(super) fn exact_text(&self) -> String {
        let intervals = self.0.iter().flat_map(|(domain, d)| {
            let text =
                |i: &super::Interval| format!("{domain}-{}-{}..{}", d.server_of(i.end), i.start, i.end);
            d.numbers.as_slice().iter().map(text).collect::<Vec<_>>()
        });
        intervals.collect::<Vec<_>>().join(",")
    }

    /// Adds number `number` of `domain`, committed by `server`.
    pub fn insert(&mut self, domain: u32, server: u32, number: u64) {
        self.insert_range(domain, server, number, number);
    }

    /// Adds the numbers from `start` to `end` of `domain`, the last one committed by `server`; nothing if
    /// `end < start`.
    pub fn insert_range(&mut self, domain: u32, server: u32, start: u64, end: u64) {
        if start <= end {
            self.0.entry(domain).or_default().insert(server, start, end);
        }
    }

    /// Everything that is in one of the two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (domain, d) in &other.0 {
            for i in d.numbers.as_slice() {
                all.insert_range(*domain, d.server_of(i.end), i.start, i.end);
            }
        }
        all
    }

    /// Where a server is that was at this position and then at `later`, which has only the domains that went on: numbers
    /// need not ascend.
    #[must_use]
    pub(crate) fn moved_to(&self, later: &Self) -> Self {
        let mut all = self.clone();
        all.0.extend(later.0.clone());
        all
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let rest = self.0.iter().map(|(domain, d)| {
            let numbers =
                other.0.get(domain).map_or_else(|| d.numbers.clone(), |o| d.numbers.minus(&o.numbers));
            let mut left = Domain { numbers, servers: d.servers.clone() };
            left.tidy();
            (*domain, left)
        });
        Self(rest.filter(|(_, left)| !left.numbers.is_empty()).collect())
    }
}

impl fmt::Display for MariaDbGtidSet {
    /// `domain-server-number` for everything up to a number, as the server prints positions;
    /// `domain-server-first..last` for anything else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (domain, d) in &self.0 {
            for i in d.numbers.as_slice() {
                write!(f, "{comma}{domain}-{}-", d.server_of(i.end))?;
                match i.start {
                    1 => write!(f, "{}", i.end)?,
                    start => write!(f, "{start}..{}", i.end)?,
                }
                comma = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for MariaDbGtidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text, false)
    }
}

fn digits<N: FromStr>(text: &str) -> Option<N> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn split(text: &str) -> Option<(u32, u32, &str)> {
    let mut parts = text.splitn(3, '-');
    Some((digits(parts.next()?)?, digits(parts.next()?)?, parts.next()?))
}

fn parse(text: &str, exact: bool) -> Result<MariaDbGtidSet, ParseError> {
    let mut set = MariaDbGtidSet::default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let fail = || ParseError::new(SET, text, format!("{part:?} is not DOMAIN-SERVER-NUMBER"));
        let (domain, server, numbers) = split(part).ok_or_else(fail)?;
        let (start, end) = match numbers.split_once("..") {
            Some((start, end)) => (digits(start).filter(|s| *s > 0), digits(end)),
            None => {
                let number: Option<u64> = digits(numbers);
                (if exact { number } else { Some(1) }, number)
            }
        };
        let (Some(start), Some(end)) = (start, end) else { return Err(fail()) };
        if end == 0 {
            continue; // the position of a domain in which nothing has happened
        }
        if end < start {
            return Err(ParseError::new(SET, text, format!("the interval {part:?} runs backwards")));
        }
        set.insert_range(domain, server, start, end);
    }
    Ok(set)
}

pub(super) fn parse_gtid(text: &str) -> Result<Gtid, ParseError> {
    let fail = || ParseError::new("GTID", text, "expected DOMAIN-SERVER-NUMBER or UUID:NUMBER");
    let (domain, server, number) = split(text).ok_or_else(fail)?;
    Ok(Gtid::MariaDb { domain, server, number: digits(number).ok_or_else(fail)? })
}
