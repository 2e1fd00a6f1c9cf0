//! GTID events of MySQL: 33 (GTID), 34 (anonymous), 42 (tagged), and 35 (previous GTIDs).
//!
//! 33 and 34: flags `u8`, server UUID 16 bytes, number `u64`; from 5.7.5: 2 `u8`, last committed `u64`,
//! sequence `u64`; from 8.0.1: immediate commit time `u56` (µs since 1970; top bit: the original one, `u56`,
//! follows), length of the transaction (length-encoded); from 8.0.14: immediate server version `u32` (top
//! bit: the original one, `u32`, follows); from 8.0.33, if it is set: ticket `u64`.
//!
//! 42 holds the same in the server's serialization format: a version byte, the size, the last field that
//! must be known, and fields with their numbers. Numbers are 1 to 9 bytes long; the count of low one-bits of
//! the first byte is the count of bytes that follow. Source: MySQL `control_events.h` (`Gtid_event`),
//! `libs/mysql/serialization/readme.md`.

use chrono::{DateTime, Utc};

use super::cursor::{Cursor, Malformed};
use crate::gtid::{Gtid, MySqlGtidSet, Source, Tag, Uuid};

/// Start of a transaction (MySQL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MySqlGtid {
    /// Flags: bit 0 says that there may be statements in it, not only rows.
    pub flags: u8,
    /// Its GTID; `None` for anonymous transactions.
    pub gtid: Option<Gtid>,
    /// Logical clock: the last transaction that has to be applied before it, and its own number.
    pub logical_clock: Option<(u64, u64)>,
    /// When the server that wrote this file committed it, in µs since 1970.
    pub immediate_commit: Option<u64>,
    /// When the server that the client talked to committed it, in µs since 1970.
    pub original_commit: Option<u64>,
    /// Bytes of the transaction in the file, this event included; compressed if it is compressed.
    pub length: Option<u64>,
    /// Version of the server that wrote this file, as `80036`.
    pub immediate_version: Option<u32>,
    /// Version of the server that the client talked to.
    pub original_version: Option<u32>,
    /// Group commit ticket.
    pub ticket: Option<u64>,
    layout: Layout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// 33 and 34: UUID and number as they are in the event, whether the two originals are stated, and what
    /// follows the known fields.
    Plain { uuid: Uuid, number: u64, original_commit: bool, original_version: bool, tail: Vec<u8> },
    /// 42: the body as it is.
    Tagged(Vec<u8>),
}

const TOP_56: u64 = 1 << 55;
const TOP_32: u32 = 1 << 31;

impl MySqlGtid {
    /// An event that states nothing yet.
    fn blank(layout: Layout) -> Self {
        Self {
            flags: 0,
            gtid: None,
            logical_clock: None,
            immediate_commit: None,
            original_commit: None,
            length: None,
            immediate_version: None,
            original_version: None,
            ticket: None,
            layout,
        }
    }

    pub(crate) fn parse(body: &[u8], anonymous: bool) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let flags = c.u8("flags")?;
        let mut uuid = Uuid([0; 16]);
        uuid.0.copy_from_slice(c.bytes(16, "server UUID")?);
        let number = c.u64("number")?;
        if !anonymous && (number == 0 || number >= i64::MAX as u64) {
            return Err(Malformed::new("number", format!("{number} is no sequence number")));
        }
        let gtid = (!anonymous).then(|| Gtid::MySql { source: Source { uuid, tag: Tag::default() }, number });
        let mut logical_clock = None;
        let (mut immediate_commit, mut original_commit, mut length) = (None, None, None);
        let (mut immediate_version, mut original_version, mut ticket) = (None, None, None);
        let (mut own_commit, mut own_version) = (false, false);
        if c.rest().first() == Some(&2) {
            c.u8("clock type")?;
            logical_clock = Some((c.u64("last committed")?, c.u64("sequence number")?));
            if !c.is_empty() {
                let immediate = c.u56("immediate commit time")?;
                own_commit = immediate & TOP_56 != 0;
                immediate_commit = Some(immediate & !TOP_56);
                original_commit = immediate_commit;
                if own_commit {
                    original_commit = Some(c.u56("original commit time")?);
                }
                length = Some(c.lenenc("transaction length")?);
            }
            if !c.is_empty() {
                let immediate = c.u32("immediate server version")?;
                own_version = immediate & TOP_32 != 0;
                immediate_version = Some(immediate & !TOP_32);
                original_version = immediate_version;
                if own_version {
                    original_version = Some(c.u32("original server version")?);
                }
            }
            if c.len() >= 8 {
                ticket = Some(c.u64("ticket")?);
            }
        }
        let layout = Layout::Plain {
            uuid,
            number,
            original_commit: own_commit,
            original_version: own_version,
            tail: c.rest().to_vec(),
        };
        Ok(Self {
            flags,
            gtid,
            logical_clock,
            immediate_commit,
            original_commit,
            length,
            immediate_version,
            original_version,
            ticket,
            layout,
        })
    }

    pub(crate) fn parse_tagged(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        match varint(&mut c, "serialization version")? {
            1 => {}
            other => return Err(Malformed::new("serialization version", format!("{other} is unknown"))),
        }
        let size = varint(&mut c, "size")?;
        if size != body.len() as u64 {
            return Err(Malformed::new("size", format!("{size} stated, the body has {}", body.len())));
        }
        let must_know = varint(&mut c, "last field that must be known")?;
        if must_know > 12 {
            let why = format!("field {} is unknown and must be known", must_know - 1);
            return Err(Malformed::new("fields", why));
        }
        let mut flags = 0;
        let (mut uuid, mut number, mut tag) = (None, None, Tag::default());
        let (mut last, mut sequence) = (0, 0);
        let mut event = Self::blank(Layout::Tagged(body.to_vec()));
        while !c.is_empty() {
            match varint(&mut c, "field number")? {
                0 => flags = narrow(varint(&mut c, "flags")?, "flags")?,
                1 => {
                    let mut bytes = [0; 16];
                    for byte in &mut bytes {
                        *byte = narrow(varint(&mut c, "server UUID")?, "server UUID")?;
                    }
                    uuid = Some(Uuid(bytes));
                }
                2 => number = Some(signed(&mut c, "number")?),
                3 => tag = read_tag(&mut c)?,
                4 => last = signed(&mut c, "last committed")?,
                5 => sequence = signed(&mut c, "sequence number")?,
                6 => event.immediate_commit = Some(varint(&mut c, "immediate commit time")?),
                7 => event.original_commit = Some(varint(&mut c, "original commit time")?),
                8 => event.length = Some(varint(&mut c, "transaction length")?),
                9 => {
                    let version = varint(&mut c, "immediate server version")?;
                    event.immediate_version = Some(narrow(version, "immediate server version")?);
                }
                10 => {
                    let version = varint(&mut c, "original server version")?;
                    event.original_version = Some(narrow(version, "original server version")?);
                }
                11 => event.ticket = Some(varint(&mut c, "ticket")?),
                // Ignorable, or `must_know` would say so; its length is unknown, so it must be the last.
                _ => break,
            }
        }
        let (Some(uuid), Some(number)) = (uuid, number) else {
            return Err(Malformed::new("fields", "no server UUID or no number"));
        };
        if number == 0 || number >= i64::MAX as u64 {
            return Err(Malformed::new("number", format!("{number} is no sequence number")));
        }
        event.flags = flags;
        event.gtid = Some(Gtid::MySql { source: Source { uuid, tag }, number });
        event.logical_clock = Some((last, sequence));
        event.original_commit = event.original_commit.or(event.immediate_commit);
        event.original_version = event.original_version.or(event.immediate_version);
        Ok(event)
    }

    /// When the client's commit happened, if the event says it.
    pub fn committed(&self) -> Option<DateTime<Utc>> {
        let micros = self.original_commit.filter(|t| *t != 0)?;
        DateTime::from_timestamp_micros(i64::try_from(micros).ok()?)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Layout::Plain { uuid, number, original_commit, original_version, tail } = &self.layout else {
            if let Layout::Tagged(body) = &self.layout {
                out.extend(body);
            }
            return;
        };
        out.push(self.flags);
        out.extend(uuid.0);
        out.extend(number.to_le_bytes());
        if let Some((last, sequence)) = self.logical_clock {
            out.push(2);
            out.extend(last.to_le_bytes());
            out.extend(sequence.to_le_bytes());
        }
        let (immediate, original) = (self.immediate_commit, self.original_commit);
        if let (Some(immediate), Some(original)) = (immediate, original) {
            let top = if *original_commit { TOP_56 } else { 0 };
            out.extend(&(immediate | top).to_le_bytes()[..7]);
            if *original_commit {
                out.extend(&original.to_le_bytes()[..7]);
            }
        }
        if let Some(length) = self.length {
            super::put_lenenc(out, length);
        }
        if let (Some(immediate), Some(original)) = (self.immediate_version, self.original_version) {
            let top = if *original_version { TOP_32 } else { 0 };
            out.extend((immediate | top).to_le_bytes());
            if *original_version {
                out.extend(original.to_le_bytes());
            }
        }
        out.extend(self.ticket.into_iter().flat_map(u64::to_le_bytes));
        out.extend(tail);
    }
}

fn narrow<N: TryFrom<u64>>(value: u64, part: &'static str) -> Result<N, Malformed> {
    N::try_from(value).map_err(|_| Malformed::new(part, format!("{value} is too large")))
}

/// An unsigned number of the serialization format.
fn varint(c: &mut Cursor<'_>, part: &'static str) -> Result<u64, Malformed> {
    let first = c.u8(part)?;
    let more = first.trailing_ones() as usize;
    let high = c.uint(more, part)?;
    Ok(match more {
        8 => high,
        // The first byte holds the low 7 − more bits of the value.
        _ => u64::from(first) >> (more + 1) | high << (7 - more),
    })
}

/// A signed number: the lowest bit is the sign. Nothing here may be negative.
fn signed(c: &mut Cursor<'_>, part: &'static str) -> Result<u64, Malformed> {
    match varint(c, part)? {
        n if n & 1 == 0 => Ok(n >> 1),
        _ => Err(Malformed::new(part, "is negative")),
    }
}

fn read_tag(c: &mut Cursor<'_>) -> Result<Tag, Malformed> {
    let n = varint(c, "tag")?;
    let text = c.bytes(usize::try_from(n).unwrap_or(usize::MAX), "tag")?;
    if text.is_empty() {
        return Ok(Tag::default());
    }
    let text = std::str::from_utf8(text).map_err(|_| Malformed::new("tag", "is no text"))?;
    text.parse().map_err(|e: crate::ParseError| Malformed::new("tag", e.to_string()))
}

/// Previous GTIDs, kind 35: count of sources `u64`; each: UUID 16 bytes, count of intervals `u64`, intervals
/// as first `u64` and last + 1 `u64`. With tags (8.3 and later) the first and the last byte of the count are
/// 1, the count is between them, and each UUID is followed by its tag.
pub(crate) fn parse_previous(body: &[u8]) -> Result<MySqlGtidSet, Malformed> {
    let mut c = Cursor::new(body);
    let word = c.u64("count of sources")?;
    let (tagged, count) = match word >> 56 {
        0 => (false, word),
        1 if word & 0xff == 1 => (true, word >> 8 & 0xffff_ffff_ffff),
        other => return Err(Malformed::new("count of sources", format!("format {other} is unknown"))),
    };
    let mut set = MySqlGtidSet::default();
    for _ in 0..count {
        let mut uuid = Uuid([0; 16]);
        uuid.0.copy_from_slice(c.bytes(16, "server UUID")?);
        let tag = if tagged { read_tag(&mut c)? } else { Tag::default() };
        let source = Source { uuid, tag };
        for _ in 0..c.u64("count of intervals")? {
            let (start, end) = (c.u64("interval")?, c.u64("interval")?);
            if start == 0 || end <= start {
                return Err(Malformed::new("interval", format!("{start} to before {end}")));
            }
            set.insert_range(&source, start, end - 1);
        }
    }
    c.end("previous GTIDs")?;
    Ok(set)
}

/// The body that [`parse_previous`] reads, in the server's order and layout.
pub(crate) fn encode_previous(set: &MySqlGtidSet, tagged: bool, out: &mut Vec<u8>) {
    let count = set.iter().count() as u64;
    out.extend((if tagged { 1 << 56 | count << 8 | 1 } else { count }).to_le_bytes());
    for (source, intervals) in set.iter() {
        out.extend(source.uuid.0);
        if tagged {
            // A tag has at most 32 bytes, so its length is one byte.
            out.push((source.tag.as_str().len() as u8) << 1);
            out.extend(source.tag.as_str().as_bytes());
        }
        out.extend((intervals.as_slice().len() as u64).to_le_bytes());
        for i in intervals.as_slice() {
            out.extend(i.start.to_le_bytes());
            out.extend((i.end + 1).to_le_bytes());
        }
    }
}
