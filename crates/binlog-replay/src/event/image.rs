//! Row images: which columns of a row are there, which are `NULL`, and the values of the rest.

use super::cursor::{Cursor, Malformed};
use super::json;
use super::rows::{Rows, RowsKind};
use super::table_map::{Column, ColumnType, TableMap};
use super::value::{Value, read};

const PART: &str = "row image";

/// The values of one image; columns that are not in it are left out.
pub type Image<'a> = Vec<(usize, Value<'a>)>;

/// One row of a [`Rows`] event.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// The row before: of updates and deletions.
    pub before: Option<Image<'a>>,
    /// The row after: of inserts and updates.
    pub after: Option<Image<'a>>,
}

impl Rows<'_> {
    /// Decodes the rows; `table` is the table map with this event's table id.
    ///
    /// # Errors
    ///
    /// [`Malformed`] in a row that does not fit the table map; nothing comes behind it.
    pub fn rows<'r>(&'r self, table: &TableMap<'r>) -> Result<RowIter<'r>, Malformed> {
        let columns = table.columns()?;
        if columns.len() != self.columns {
            let why = format!("{} columns, the table map has {}", self.columns, columns.len());
            return Err(Malformed::new(PART, why));
        }
        let json = columns.iter().filter(|c| matches!(c.kind, ColumnType::Json(_))).count();
        Ok(RowIter {
            rest: Cursor::new(&self.data),
            columns,
            json,
            kind: self.kind,
            partial: self.partial,
            present: self.present,
            present_after: self.present_after.unwrap_or(self.present),
        })
    }

    /// How many rows there are: all are decoded, none is kept.
    pub(crate) fn count(&self, table: &TableMap<'_>) -> Result<u64, Malformed> {
        let mut rows = self.rows(table)?;
        let mut count = 0;
        while let Some(row) = rows.advance(RowIter::pass) {
            row?;
            count += 1;
        }
        Ok(count)
    }
}

/// Iterates over the rows of an event.
#[derive(Debug)]
pub struct RowIter<'r> {
    rest: Cursor<'r>,
    columns: Vec<Column<'r>>,
    /// Count of JSON columns.
    json: usize,
    kind: RowsKind,
    partial: bool,
    present: &'r [u8],
    present_after: &'r [u8],
}

impl<'r> Iterator for RowIter<'r> {
    type Item = Result<Row<'r>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(Self::row)
    }
}

impl<'r> RowIter<'r> {
    /// Reads the next row with `read`; nothing comes behind an error.
    fn advance<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        let before_rest = self.rest.len();
        let row = read(self);
        // Rows of no columns take no bytes: there can be only one.
        if row.is_err() || self.rest.len() == before_rest {
            self.rest = Cursor::new(&[]);
        }
        Some(row)
    }

    /// Reads a row and forgets it.
    fn pass(&mut self) -> Result<(), Malformed> {
        self.values(self.present, false, |_, _| {})?;
        match self.kind {
            RowsKind::Update => self.values(self.present_after, self.partial, |_, _| {}),
            RowsKind::Insert | RowsKind::Delete => Ok(()),
        }
    }

    fn row(&mut self) -> Result<Row<'r>, Malformed> {
        let first = self.image(self.present, false)?;
        Ok(match self.kind {
            RowsKind::Insert => Row { before: None, after: Some(first) },
            RowsKind::Delete => Row { before: Some(first), after: None },
            RowsKind::Update => {
                Row { before: Some(first), after: Some(self.image(self.present_after, self.partial)?) }
            }
        })
    }

    fn image(&mut self, present: &[u8], partial: bool) -> Result<Image<'r>, Malformed> {
        let mut image = Vec::with_capacity(self.columns.len());
        self.values(present, partial, |at, value| image.push((at, value)))?;
        Ok(image)
    }

    /// Reads an image, value by value.
    fn values(
        &mut self,
        present: &[u8],
        partial: bool,
        mut take: impl FnMut(usize, Value<'r>),
    ) -> Result<(), Malformed> {
        let c = &mut self.rest;
        // Partial updates: options, bit 0 says that a bit per JSON column follows.
        let mut partial_bits: &[u8] = &[];
        if partial && c.lenenc("value options")? & 1 != 0 {
            partial_bits = c.bytes(self.json.div_ceil(8), "partial columns")?;
        }
        let bit = |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 != 0);
        let count = (0..self.columns.len()).filter(|at| bit(present, *at)).count();
        let nulls = c.bytes(count.div_ceil(8), "NULL bits")?;
        let (mut seen, mut json) = (0, 0);
        for (at, column) in self.columns.iter().enumerate() {
            let is_json = matches!(column.kind, ColumnType::Json(_));
            let changes = is_json && bit(partial_bits, json);
            json += usize::from(is_json);
            if !bit(present, at) {
                continue;
            }
            let value = if bit(nulls, seen) {
                Value::Null
            } else if changes {
                let n = c.u32("JSON changes")?;
                Value::JsonChanges(json::changes(c.bytes(n as usize, "JSON changes")?)?)
            } else {
                read(c, column)?
            };
            take(at, value);
            seen += 1;
        }
        Ok(())
    }
}
