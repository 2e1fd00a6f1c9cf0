//! GTID sets of MySQL 5.6 and later, with the tags of 8.3 and later.
//!
//! Text: `uuid:1-5:7,uuid2:1`; with tags `uuid:1-5:tag_a:1-3:tag_b:9`. Source: MySQL Reference Manual,
//! "GTID Format and Storage".

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Gtid, Intervals};
use crate::version::ParseError;

const SET: &str = "MySQL GTID set";
const GTID: &str = "MySQL GTID";

/// Largest sequence number: 2⁶³ − 2.
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// A server's `server_uuid`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Uuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Uuid {
    type Err = ParseError;

    /// Reads 32 hexadecimal digits, with the four usual hyphens or without any, in braces or not.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError::new("server UUID", text, "expected 32 hexadecimal digits");
        let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let hyphens: Vec<usize> = bare.match_indices('-').map(|(at, _)| at).collect();
        if !(hyphens.is_empty() || hyphens == [8, 13, 18, 23]) {
            return Err(fail());
        }
        let digits: Vec<u8> = bare.bytes().filter(|b| *b != b'-').collect();
        if digits.len() != 32 {
            return Err(fail());
        }
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |b: u8| (b as char).to_digit(16).ok_or_else(fail);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(uuid))
    }
}

/// The tag of a GTID (MySQL 8.3 and later): up to 32 of `a-z`, `0-9`, `_`, not starting with a digit; empty
/// for GTIDs without one.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(
    // `None`, not an empty text, for the empty one: glibc's `memcmp` of no bytes took 60 ns on a processor with AVX-512,
    // where an empty text's pointer leads nowhere.
    Option<Box<str>>,
);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    /// Reads a tag; upper case is folded as the server folds it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let start = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !start || !rest || text.len() > 32 {
            let why = "expected up to 32 letters, digits and underscores, no digit first";
            return Err(ParseError::new("GTID tag", text, why));
        }
        Ok(Self(Some(text.to_ascii_lowercase().into())))
    }
}

/// Where a GTID's number counts: a server and a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// `server_uuid` of the server where the transaction was first committed.
    pub uuid: Uuid,
    /// Its tag, or the empty one.
    pub tag: Tag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag.as_str())?;
        }
        Ok(())
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (1..=MAX_NUMBER).contains(n))
}

pub(super) fn parse_gtid(text: &str) -> Result<Gtid, ParseError> {
    let fail = |why: String| ParseError::new(GTID, text, why);
    let mut parts = text.split(':').map(str::trim);
    let uuid = parts.next().unwrap_or_default().parse().map_err(|e: ParseError| fail(e.why))?;
    let (tag, number) = match (parts.next(), parts.next(), parts.next()) {
        (Some(number), None, None) => (Tag::default(), number),
        (Some(tag), Some(number), None) => (tag.parse().map_err(|e: ParseError| fail(e.why))?, number),
        _ => return Err(fail("expected UUID:NUMBER or UUID:TAG:NUMBER".into())),
    };
    let number = parse_number(number).ok_or_else(|| fail(format!("{number:?} is no sequence number")))?;
    Ok(Gtid::MySql { source: Source { uuid, tag }, number })
}

/// A set of MySQL GTIDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MySqlGtidSet(BTreeMap<Source, Intervals>);

impl MySqlGtidSet {
    /// Sources and their numbers, by UUID and tag; no source is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&Source, &Intervals)> {
        self.0.iter()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of GTIDs in it.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, i| sum.saturating_add(i.count()))
    }

    /// Whether it holds number `number` of `source`.
    pub fn contains(&self, source: &Source, number: u64) -> bool {
        self.0.get(source).is_some_and(|i| i.contains(number))
    }

    /// Adds number `number` of `source`.
    pub fn insert(&mut self, source: &Source, number: u64) {
        self.insert_range(source, number, number);
    }

    /// Adds the numbers from `start` to `end` of `source`; nothing if `end < start`.
    pub fn insert_range(&mut self, source: &Source, start: u64, end: u64) {
        if end < start {
            return;
        }
        match self.0.get_mut(source) {
            Some(intervals) => intervals.insert(start, end),
            None => self.0.entry(source.clone()).or_default().insert(start, end),
        }
    }

    /// Everything that is in one of the two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (source, intervals) in &other.0 {
            all.0.entry(source.clone()).or_default().extend(intervals);
        }
        all
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let rest = self.0.iter().map(|(source, intervals)| {
            let left = other.0.get(source).map_or_else(|| intervals.clone(), |o| intervals.minus(o));
            (source.clone(), left)
        });
        Self(rest.filter(|(_, left)| !left.is_empty()).collect())
    }
}

impl fmt::Display for MySqlGtidSet {
    /// As MySQL prints it, on one line and without blanks: sources by UUID, tags behind the untagged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous: Option<Uuid> = None;
        for (source, intervals) in &self.0 {
            match previous {
                Some(uuid) if uuid == source.uuid => write!(f, ":{}", source.tag.as_str())?,
                Some(_) => write!(f, ",{source}")?,
                None => write!(f, "{source}")?,
            }
            for i in intervals.as_slice() {
                match i.end == i.start {
                    true => write!(f, ":{}", i.start)?,
                    false => write!(f, ":{}-{}", i.start, i.end)?,
                }
            }
            previous = Some(source.uuid);
        }
        Ok(())
    }
}

impl FromStr for MySqlGtidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: String| ParseError::new(SET, text, why);
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let uuid = pieces.next().unwrap_or_default().parse().map_err(|e: ParseError| fail(e.why))?;
            let mut source = Source { uuid, tag: Tag::default() };
            let mut numbers_seen = true;
            let mut any = false;
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_digit()) {
                    let (start, end) = piece.split_once('-').unwrap_or((piece, piece));
                    let (Some(start), Some(end)) = (parse_number(start.trim()), parse_number(end.trim()))
                    else {
                        return Err(fail(format!("{piece:?} is no interval of sequence numbers")));
                    };
                    if end < start {
                        return Err(fail(format!("the interval {piece:?} runs backwards")));
                    }
                    set.insert_range(&source, start, end);
                    (numbers_seen, any) = (true, true);
                } else {
                    if !numbers_seen {
                        return Err(fail(format!("the tag {:?} has no numbers", source.tag.as_str())));
                    }
                    source.tag = piece.parse().map_err(|e: ParseError| fail(e.why))?;
                    numbers_seen = false;
                }
            }
            if !any || !numbers_seen {
                return Err(fail(format!("{part:?} has no sequence numbers")));
            }
        }
        Ok(set)
    }
}
