//! The events of one statement's rows, as a `BINLOG` statement.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::event::{Checksum, Event, EventKind, Header, RawEvent, Rows, TableMap};

/// Bytes of row events after which a statement's rows are split over two `BINLOG` statements.
const LONGEST_ROWS: usize = 64 << 20;

/// The events of one statement's rows.
#[derive(Default)]
pub(super) struct RowGroup {
    events: Vec<u8>,
    /// Length of the table maps at the start of `events`.
    maps: usize,
    /// Start of the last rows event in `events`.
    last: usize,
    first_pos: u64,
    tables: HashMap<u64, Arc<str>>,
    table: Option<Arc<str>>,
}

impl RowGroup {
    /// Takes a table map, which is at `pos` of its file.
    pub(super) fn map(&mut self, raw: &RawEvent<'_>, map: &TableMap<'_>, pos: u64) {
        if self.events.is_empty() {
            self.first_pos = pos;
        }
        let name = |bytes| String::from_utf8_lossy(bytes);
        self.tables.insert(map.table_id, format!("{}.{}", name(map.schema), name(map.table)).into());
        append_event(raw, &mut self.events);
        self.maps = self.events.len();
    }

    /// Takes rows; whether they are the last of their statement. The error names what is wrong with them.
    pub(super) fn rows(&mut self, raw: &RawEvent<'_>) -> Result<bool, String> {
        let ids = id_len(raw);
        let body = raw.body();
        let (Some(id), Some(flags)) = (body.get(..ids), body.get(ids..ids + 2)) else {
            return Err("a rows event that ends in its header".into());
        };
        let id = id.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
        if let Some(name) = self.tables.get(&id) {
            self.table = Some(name.clone());
        }
        self.last = self.events.len();
        match raw.header.kind.0 {
            // MariaDB takes compressed rows from a source, not in a statement.
            166..=171 => match raw.decode() {
                Ok(Event::Rows(rows)) => append_inflated(raw, ids, &rows, &mut self.events),
                Ok(_) => return Err("not a rows event".into()),
                Err(error) => return Err(error.to_string()),
            },
            _ => append_event(raw, &mut self.events),
        }
        Ok(u16::from_le_bytes([flags[0], flags[1]]) & Rows::STATEMENT_END != 0)
    }

    /// Whether these rows are enough for one statement.
    pub(super) fn is_long(&self) -> bool {
        self.events.len() > LONGEST_ROWS
    }

    /// Makes the last event, `raw`, the last of a `BINLOG` statement; gives the group for what follows. The server
    /// closes the tables at the end of such a statement, so the next part needs the maps again.
    pub(super) fn end_part(&mut self, raw: &RawEvent<'_>) -> Self {
        let rest = Self {
            events: self.events[..self.maps].to_vec(),
            maps: self.maps,
            last: self.maps,
            first_pos: self.first_pos,
            tables: self.tables.clone(),
            table: self.table.clone(),
        };
        end_statement(&mut self.events[self.last..], id_len(raw), raw.format().checksum);
        rest
    }

    /// The statement that applies them.
    pub(super) fn statement(&self) -> Vec<u8> {
        binlog_statement(&self.events)
    }

    /// Their table; the last one, if they are of several.
    pub(super) fn table(&self) -> Option<Arc<str>> {
        self.table.clone()
    }

    /// Offset of the first event.
    pub(super) fn first_pos(&self) -> u64 {
        self.first_pos
    }
}

/// Bytes of the number of a table in a rows event.
fn id_len(raw: &RawEvent<'_>) -> usize {
    match raw.format().post_header(raw.header.kind) {
        Some(6) => 4,
        _ => 6,
    }
}

/// `BINLOG '…';` with these events.
pub(super) fn binlog_statement(events: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(events.len() / 3 * 4 + 16);
    text.push_str("BINLOG '");
    BASE64.encode_string(events, &mut text);
    text.push_str("';");
    text.into_bytes()
}

/// Appends an event as it is; one from a transaction payload gets the checksum that its file promises.
fn append_event(raw: &RawEvent<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(raw.bytes());
    if raw.checksum_len() == 0 && raw.format().checksum == Checksum::Crc32 {
        let size = raw.header.size + 4;
        out[start + 9..start + 13].copy_from_slice(&size.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend(crc.to_le_bytes());
    }
}

/// Appends a compressed rows event as the plain event that it stands for.
fn append_inflated(raw: &RawEvent<'_>, ids: usize, rows: &Rows<'_>, out: &mut Vec<u8>) {
    // 166 to 168 stand for version 1 (23 to 25), 169 to 171 for version 2 (30 to 32).
    let (kind, fixed) = match raw.header.kind.0 {
        kind @ 166..=168 => (kind - 166 + 23, ids + 2),
        kind => (kind - 169 + 30, ids + 2 + 2 + rows.extra.len()),
    };
    let count = match rows.columns {
        0..=250 => 1,
        251..=0xffff => 3,
        _ => 4,
    };
    let before = fixed + count + rows.present.len() + rows.present_after.map_or(0, <[u8]>::len);
    let before = raw.body().get(..before).unwrap_or_default();
    let checksum = raw.format().checksum;
    let size = Header::LEN + before.len() + rows.data.len() + checksum.len();
    let start = out.len();
    let header = Header { kind: EventKind(kind), size: size as u32, ..raw.header };
    out.extend(header.to_bytes());
    out.extend(before);
    out.extend(&rows.data[..]);
    if checksum == Checksum::Crc32 {
        let crc = crc32fast::hash(&out[start..]);
        out.extend(crc.to_le_bytes());
    }
}

/// Marks a rows event as the last of its statement.
fn end_statement(event: &mut [u8], ids: usize, checksum: Checksum) {
    let flags = Header::LEN + ids;
    if let Some(byte) = event.get_mut(flags) {
        *byte |= Rows::STATEMENT_END as u8;
    }
    if checksum == Checksum::Crc32 {
        let covered = event.len().saturating_sub(4);
        let crc = crc32fast::hash(&event[..covered]);
        event[covered..].copy_from_slice(&crc.to_le_bytes());
    }
}
