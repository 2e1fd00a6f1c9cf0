//! Finding transactions by what they do.

use std::mem;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::Error;
use crate::event::{Event, EventKind, Malformed, RawEvent, Rows, RowsKind};
use crate::gtid::Gtid;
use crate::needle::Needle;
use crate::range::TransactionMark;
use crate::reader::Reader;
use crate::scan::{FileInfo, Index};
use crate::statement::{StatementKind, excerpt, without_passwords};
use crate::table_maps::{Tables, malformed};
use crate::transaction::{Place, Walked, Walker};

/// Bytes of a statement that [`Found`] keeps.
const STATEMENT_EXCERPT: usize = 1000;
/// Statements of a transaction that [`Found`] keeps.
const MAX_STATEMENTS: usize = 20;

/// What to look for; everything that is given must fit, one statement or row event at a time.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Schema of the table; for statements the default database, or named in the text.
    pub schema: Option<String>,
    /// Table: of row events, or a word in a statement.
    pub table: Option<String>,
    /// What is done to it; empty for anything.
    pub kinds: Vec<StatementKind>,
    /// A text in the statement (upper and lower case are one), or bytes in the rows.
    pub text: Option<String>,
    /// Committed at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Committed before this time.
    pub until: Option<DateTime<Utc>>,
}

impl Filter {
    /// Whether statements and rows may be anything; the time does not count.
    fn is_anything(&self) -> bool {
        self.schema.is_none() && self.table.is_none() && self.kinds.is_empty() && self.text.is_none()
    }
}

/// A transaction that fits a [`Filter`].
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The transaction; its start is the position to stop before it.
    #[serde(flatten)]
    pub mark: TransactionMark,
    /// All row changes of the transaction, by table.
    pub changes: Vec<Change>,
    /// The other half of an `ALTER` in two phases (MariaDB), which is left out with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_half: Option<Gtid>,
    /// Its statements, at most 20 and of each at most 1,000 bytes, with passwords left out.
    pub statements: Vec<String>,
}

/// Rows of one table that a transaction changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// What is done.
    pub kind: RowsKind,
    /// How many rows.
    pub rows: u64,
}

/// Calls `found` for every transaction of the index that fits, file by file in the order of the index, until it
/// returns `false`.
///
/// # Errors
///
/// What is wrong with a file.
pub fn find(index: &Index, filter: &Filter, mut found: impl FnMut(Found) -> bool) -> Result<(), Error> {
    let halves = index.halves();
    for file in &index.files {
        let outside = filter.since.is_some_and(|t| file.last_time.is_none_or(|last| last < t))
            || filter.until.is_some_and(|t| file.first_time.is_none_or(|first| first >= t));
        if outside && file.damage.is_none() {
            continue;
        }
        let mut found = |transaction: Found| {
            let half = transaction.mark.gtid.as_ref().and_then(|gtid| halves.get(gtid));
            found(Found { other_half: half.map(|(other, _)| other.clone()), ..transaction })
        };
        if !find_in(file, filter, &mut found)? {
            break;
        }
    }
    Ok(())
}

fn find_in(file: &FileInfo, filter: &Filter, found: &mut impl FnMut(Found) -> bool) -> Result<bool, Error> {
    let mut walker = Walker::new(Reader::open(&file.path)?);
    let mut search = Search::new(filter);
    loop {
        let next = walker.next_with(|event, place| {
            if matches!(place, Place::First | Place::Whole) {
                search.clear();
            }
            search.event(event).map_err(|source| malformed(file, event, source))
        })?;
        let transaction = match next {
            None => return Ok(true),
            Some(Walked::Other { .. }) => continue,
            Some(Walked::Transaction(transaction)) => transaction,
        };
        let in_time = filter.since.is_none_or(|t| transaction.time >= t)
            && filter.until.is_none_or(|t| transaction.time < t);
        if !search.fits || !in_time {
            continue;
        }
        let (changes, statements) = (mem::take(&mut search.changes), mem::take(&mut search.statements));
        let mark = transaction.mark(&file.name);
        if !found(Found { mark, changes, statements, other_half: None }) {
            return Ok(false);
        }
    }
}

/// What the events of a transaction add up to.
struct Search<'f> {
    filter: &'f Filter,
    schema: Option<Needle>,
    table: Option<Needle>,
    text: Option<Needle>,
    fits: bool,
    changes: Vec<Change>,
    statements: Vec<String>,
    tables: Tables,
    /// The text of the last statement that is logged as rows.
    rows_query: Vec<u8>,
}

impl<'f> Search<'f> {
    fn new(filter: &'f Filter) -> Self {
        let needle = |part: &Option<String>| part.as_deref().map(Needle::new);
        Self {
            filter,
            schema: needle(&filter.schema),
            table: needle(&filter.table),
            text: needle(&filter.text),
            // Who asks for nothing gets everything.
            fits: filter.is_anything(),
            changes: Vec::new(),
            statements: Vec::new(),
            tables: Tables::default(),
            rows_query: Vec::new(),
        }
    }

    /// Begins with another transaction.
    fn clear(&mut self) {
        self.fits = self.filter.is_anything();
        self.changes.clear();
        self.statements.clear();
        self.tables.clear();
        self.rows_query.clear();
    }

    fn event(&mut self, event: &RawEvent<'_>) -> Result<(), Malformed> {
        match event.header.kind {
            EventKind::QUERY
            | EventKind::QUERY_COMPRESSED
            | EventKind::EXECUTE_LOAD_QUERY
            | EventKind::TABLE_MAP
            | EventKind::ROWS_QUERY
            | EventKind::ANNOTATE_ROWS
            | EventKind::TRANSACTION_PAYLOAD => {}
            kind if kind.is_rows() => {}
            _ => return Ok(()),
        }
        match event.decode()? {
            Event::Query(query) => self.statement(query.database, &query.text),
            Event::ExecuteLoadQuery(load) => self.statement(load.query.database, &load.query.text),
            Event::RowsQuery(text) => {
                self.keep(text);
                self.rows_query.clear();
                self.rows_query.extend_from_slice(text);
            }
            Event::TableMap(map) => self.tables.add(&map, event),
            Event::Rows(rows) => self.rows(&rows)?,
            Event::TransactionPayload(payload) => {
                let mut inner = payload.events(event.format())?;
                while let Some(event) = inner.next_event()? {
                    self.event(&event)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, text: &[u8]) {
        if self.statements.len() < MAX_STATEMENTS {
            self.statements.push(excerpt(&without_passwords(text), STATEMENT_EXCERPT));
        }
    }

    fn statement(&mut self, database: &[u8], text: &[u8]) {
        if matches!(text, b"BEGIN" | b"COMMIT" | b"ROLLBACK") {
            return;
        }
        self.keep(text);
        let f = self.filter;
        let in_schema = || {
            let is_default = |s: &String| database.eq_ignore_ascii_case(s.as_bytes());
            f.schema.as_ref().is_none_or(is_default)
                || self.schema.as_ref().is_some_and(|s| s.is_word_in(text))
        };
        self.fits = self.fits
            || (f.kinds.is_empty() || f.kinds.contains(&StatementKind::of(text)))
                && in_schema()
                && self.table.as_ref().is_none_or(|table| table.is_word_in(text))
                && self.text.as_ref().is_none_or(|part| part.is_in(text));
    }

    fn rows(&mut self, rows: &Rows<'_>) -> Result<(), Malformed> {
        let map = self.tables.get(rows)?;
        let count = rows.count(&map)?;
        let (schema, table) = (String::from_utf8_lossy(map.schema), String::from_utf8_lossy(map.table));
        let f = self.filter;
        let kind = match rows.kind {
            RowsKind::Insert => StatementKind::Insert,
            RowsKind::Update => StatementKind::Update,
            RowsKind::Delete => StatementKind::Delete,
        };
        self.fits = self.fits
            || (f.kinds.is_empty() || f.kinds.contains(&kind))
                && f.schema.as_ref().is_none_or(|s| s.eq_ignore_ascii_case(&schema))
                && f.table.as_ref().is_none_or(|t| t.eq_ignore_ascii_case(&table))
                && self
                    .text
                    .as_ref()
                    .is_none_or(|part| part.is_in(&self.rows_query) || part.is_in(&rows.data));
        let same = |c: &&mut Change| c.kind == rows.kind && c.schema == schema && c.table == table;
        match self.changes.iter_mut().find(same) {
            Some(change) => change.rows += count,
            None => {
                let (schema, table) = (schema.into_owned(), table.into_owned());
                self.changes.push(Change { schema, table, kind: rows.kind, rows: count });
            }
        }
        Ok(())
    }
}
