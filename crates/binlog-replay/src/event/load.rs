//! `LOAD DATA` in statement format: the file in blocks, then the statement.

use super::cursor::{Cursor, Malformed};
use super::query::Query;

/// Begin load query (17) and append block (9): file id `u32`, then data to the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBlock<'a> {
    /// Which file; ids are reused.
    pub file_id: u32,
    /// The next piece of the file.
    pub data: &'a [u8],
}

impl<'a> LoadBlock<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        Ok(Self { file_id: c.u32("file id")?, data: c.rest() })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.file_id.to_le_bytes());
        out.extend(self.data);
    }
}

/// Delete file, kind 12: file id `u32`.
pub(crate) fn parse_delete(body: &[u8]) -> Result<u32, Malformed> {
    let mut c = Cursor::new(body);
    let file_id = c.u32("file id")?;
    c.end("delete file")?;
    Ok(file_id)
}

/// What happens to rows with a key that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// An error (0).
    Error,
    /// `IGNORE` (1).
    Ignore,
    /// `REPLACE` (2).
    Replace,
}

/// Execute load query, kind 18: the fixed part of a query, then file id `u32`, start and end of the file
/// name in the statement `u32` each, duplicates `u8`; then as a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteLoadQuery<'a> {
    /// The file whose blocks came before.
    pub file_id: u32,
    /// Where `INFILE 'name'` starts in the statement.
    pub name_start: u32,
    /// Where it ends.
    pub name_end: u32,
    /// What happens to duplicate keys.
    pub duplicates: Duplicates,
    /// The statement.
    pub query: Query<'a>,
}

impl<'a> ExecuteLoadQuery<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let head = Query::parse_head(&mut c)?;
        let (file_id, name_start, name_end) =
            (c.u32("file id")?, c.u32("start of the name")?, c.u32("end of the name")?);
        let duplicates = match c.u8("duplicates")? {
            0 => Duplicates::Error,
            1 => Duplicates::Ignore,
            2 => Duplicates::Replace,
            other => return Err(Malformed::new("duplicates", format!("{other} is unknown"))),
        };
        let query = Query::parse_tail(head, c, false)?;
        if name_start > name_end || name_end as usize > query.text.len() {
            return Err(Malformed::new("name in the statement", format!("{name_start} to {name_end}")));
        }
        Ok(Self { file_id, name_start, name_end, duplicates, query })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.query.encode_head(out);
        for word in [self.file_id, self.name_start, self.name_end] {
            out.extend(word.to_le_bytes());
        }
        out.push(match self.duplicates {
            Duplicates::Error => 0,
            Duplicates::Ignore => 1,
            Duplicates::Replace => 2,
        });
        self.query.encode_tail(out);
    }
}
