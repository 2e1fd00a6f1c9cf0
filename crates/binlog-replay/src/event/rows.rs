//! Row events: kinds 23 to 25 (version 1), 30 to 32 (version 2), 39 (partial JSON), and MariaDB's compressed
//! 166 to 171.
//!
//! Body: table id `u48` (`u32` in very old files), flags `u16`; version 2: length of extra data `u16` (itself
//! included) and extra data; count of columns (length-encoded); a bit per column that is present – for
//! updates once for the image before and once for the one after; then the rows to the end, compressed in the
//! compressed kinds. Source: MySQL `rows_event.h` (`Rows_event`), MariaDB `log_event.cc`.

use std::borrow::Cow;

use super::compressed;
use super::cursor::{Cursor, Malformed};
use super::kind::EventKind;

/// What happened to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowsKind {
    /// Inserted: one image.
    Insert,
    /// Updated: the image before and the one after; the one after may hold parts of JSON values.
    Update,
    /// Deleted: one image.
    Delete,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<'a> {
    /// What happened.
    pub kind: RowsKind,
    /// The images after an update may be differences of JSON values (kind 39).
    pub partial: bool,
    /// Number of the [`TableMap`](super::TableMap) that came before.
    pub table_id: u64,
    /// Flags; see the constants.
    pub flags: u16,
    /// Extra data of version 2: NDB's, or a partition's number.
    pub extra: &'a [u8],
    /// Count of columns.
    pub columns: usize,
    /// One bit per column, lowest first: it is in the (first) image.
    pub present: &'a [u8],
    /// For updates: it is in the image after.
    pub present_after: Option<&'a [u8]>,
    /// The images, decompressed if need be.
    pub data: Cow<'a, [u8]>,
    id_width: usize,
    version: u8,
    compressed: Option<&'a [u8]>,
}

impl<'a> Rows<'a> {
    /// Flag: the last row event of its statement.
    pub const STATEMENT_END: u16 = 0x0001;
    /// Flag: `foreign_key_checks` is off.
    pub const NO_FOREIGN_KEY_CHECKS: u16 = 0x0002;
    /// Flag: `unique_checks` is off.
    pub const RELAXED_UNIQUE_CHECKS: u16 = 0x0004;
    /// Flag: `check_constraint_checks` is off (MariaDB).
    pub const NO_CHECK_CONSTRAINT_CHECKS: u16 = 0x0080;

    pub(crate) fn parse(
        body: &'a [u8],
        event: EventKind,
        post_header: Option<usize>,
    ) -> Result<Self, Malformed> {
        let (kind, version, packed) = match event.0 {
            23 => (RowsKind::Insert, 1, false),
            24 => (RowsKind::Update, 1, false),
            25 => (RowsKind::Delete, 1, false),
            30 => (RowsKind::Insert, 2, false),
            31 | 39 => (RowsKind::Update, 2, false),
            32 => (RowsKind::Delete, 2, false),
            166 => (RowsKind::Insert, 1, true),
            167 => (RowsKind::Update, 1, true),
            168 => (RowsKind::Delete, 1, true),
            169 => (RowsKind::Insert, 2, true),
            170 => (RowsKind::Update, 2, true),
            _ => (RowsKind::Delete, 2, true),
        };
        let mut c = Cursor::new(body);
        let id_width = if post_header == Some(6) { 4 } else { 6 };
        let table_id = c.uint(id_width, "table id")?;
        let flags = c.u16("flags")?;
        let mut extra: &[u8] = &[];
        if version == 2 {
            let n = c.u16("length of extra data")?;
            let n = n.checked_sub(2).ok_or_else(|| Malformed::new("length of extra data", format!("{n}")))?;
            extra = c.bytes(n.into(), "extra data")?;
        }
        let columns = c.lenenc("count of columns")?;
        let columns = match columns {
            0..=4096 => columns as usize,
            other => return Err(Malformed::new("count of columns", format!("{other}"))),
        };
        let present = c.bytes(columns.div_ceil(8), "present columns")?;
        let present_after = match kind {
            RowsKind::Update => Some(c.bytes(columns.div_ceil(8), "columns present after")?),
            _ => None,
        };
        let rest = c.rest();
        let (data, compressed) = match packed {
            true => (Cow::Owned(compressed::inflate(rest)?), Some(rest)),
            false => (Cow::Borrowed(rest), None),
        };
        let partial = event == EventKind::PARTIAL_UPDATE_ROWS;
        Ok(Self {
            kind,
            partial,
            table_id,
            flags,
            extra,
            columns,
            present,
            present_after,
            data,
            id_width,
            version,
            compressed,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(&self.table_id.to_le_bytes()[..self.id_width]);
        out.extend(self.flags.to_le_bytes());
        if self.version == 2 {
            out.extend((self.extra.len() as u16 + 2).to_le_bytes());
            out.extend(self.extra);
        }
        super::put_lenenc(out, self.columns as u64);
        out.extend(self.present);
        out.extend(self.present_after.unwrap_or_default());
        out.extend(self.compressed.unwrap_or(&self.data));
    }
}
