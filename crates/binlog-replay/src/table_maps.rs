//! The tables of a transaction whose rows are read.

use std::collections::HashMap;

use crate::error::Error;
use crate::event::{EventKind, Malformed, RawEvent, Rows, TableMap};
use crate::scan::FileInfo;

/// An event of `file` that does not hold what its kind promises.
pub(crate) fn malformed(file: &FileInfo, event: &RawEvent<'_>, source: Malformed) -> Error {
    let (offset, kind) = (event.offset, event.header.kind);
    Error::Malformed { path: file.path.clone(), offset, kind, source }
}

/// The table maps of a transaction: bodies, to be decoded again with each row event.
#[derive(Debug, Default)]
pub(crate) struct Tables(HashMap<u64, (Vec<u8>, Option<usize>)>);

impl Tables {
    /// Begins with another transaction.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn add(&mut self, map: &TableMap<'_>, event: &RawEvent<'_>) {
        let post_header = event.format().post_header(EventKind::TABLE_MAP);
        self.0.insert(map.table_id, (event.body().to_vec(), post_header));
    }

    pub(crate) fn get(&self, rows: &Rows<'_>) -> Result<TableMap<'_>, Malformed> {
        let missing = || Malformed::new("table id", format!("no table map came for {}", rows.table_id));
        let (body, post_header) = self.0.get(&rows.table_id).ok_or_else(missing)?;
        TableMap::parse(body, *post_header)
    }
}
