//! Showing what one transaction does.

use serde::Serialize;

use crate::error::Error;
use crate::event::{Event, EventKind, Malformed, RawEvent, Rows, RowsKind};
use crate::gtid::Gtid;
use crate::range::TransactionMark;
use crate::reader::Reader;
use crate::scan::Index;
use crate::statement::{excerpt, without_passwords};
use crate::table_maps::{Tables, malformed};
use crate::target::Position;
use crate::transaction::{Place, Walked, Walker};

/// A transaction, decoded for people.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The transaction.
    #[serde(flatten)]
    pub mark: TransactionMark,
    /// What it does, in order.
    pub steps: Vec<Step>,
}

/// One step of a [`Shown`] transaction.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// A statement that is executed.
    Statement {
        /// Default database.
        database: String,
        /// The statement, passwords left out.
        text: String,
    },
    /// The statement that the following rows come from; not executed.
    Comment {
        /// The statement, passwords left out.
        text: String,
    },
    /// A value for the next statement.
    Setting {
        /// As SQL: `SET INSERT_ID=5`.
        text: String,
    },
    /// Rows of one event.
    Rows {
        /// Schema.
        schema: String,
        /// Table.
        table: String,
        /// What is done.
        kind: RowsKind,
        /// The rows, as many as were asked for.
        rows: Vec<ShownRow>,
        /// How many there are.
        count: u64,
    },
    /// Any other event.
    Other {
        /// Its kind.
        kind: EventKind,
    },
}

/// A row, as SQL literals by column name, or `@1`, `@2` … where the binlog has no names.
#[derive(Debug, Clone, Serialize)]
pub struct ShownRow {
    /// The row before: of updates and deletions.
    pub before: Option<Vec<(String, String)>>,
    /// The row after: of inserts and updates.
    pub after: Option<Vec<(String, String)>>,
}

/// How much of a transaction [`show`] prints.
#[derive(Debug, Clone, Copy)]
pub struct ShowLimits {
    /// Rows of each row event.
    pub rows: usize,
    /// Bytes of each value and statement.
    pub bytes: usize,
}

impl Default for ShowLimits {
    fn default() -> Self {
        Self { rows: 100, bytes: 10_000 }
    }
}

/// Which transaction to show.
#[derive(Debug, Clone)]
pub enum Which {
    /// The one that starts at, or spans, this position.
    At(Position),
    /// The one with this GTID.
    Gtid(Gtid),
}

/// Decodes one transaction; `None` if it is not there.
///
/// # Errors
///
/// What is wrong with a file.
pub fn show(index: &Index, which: &Which, limits: ShowLimits) -> Result<Option<Shown>, Error> {
    for file in &index.files {
        let here = match which {
            Which::At(position) => position.file == file.name,
            Which::Gtid(gtid) => file.gtids_added.as_ref().is_some_and(|added| added.contains(gtid)),
        };
        if !here {
            continue;
        }
        let mut walker = Walker::new(Reader::open(&file.path)?);
        let mut shower = Shower { limits, steps: Vec::new(), tables: Tables::default() };
        loop {
            let next = walker.next_with(|event, place| {
                if matches!(place, Place::First | Place::Whole) {
                    shower.steps.clear();
                }
                let wanted = match which {
                    Which::At(position) => position.pos <= event.offset || place != Place::Outside,
                    Which::Gtid(_) => place != Place::Outside,
                };
                match wanted && place != Place::Outside {
                    true => shower.event(event).map_err(|source| malformed(file, event, source)),
                    false => Ok(()),
                }
            })?;
            let transaction = match next {
                None => break,
                Some(Walked::Other { .. }) => continue,
                Some(Walked::Transaction(transaction)) => transaction,
            };
            let meant = match which {
                Which::At(position) => transaction.start <= position.pos && position.pos < transaction.end,
                Which::Gtid(gtid) => transaction.gtid.as_ref() == Some(gtid),
            };
            if meant {
                return Ok(Some(Shown { mark: transaction.mark(&file.name), steps: shower.steps }));
            }
        }
    }
    Ok(None)
}

struct Shower {
    limits: ShowLimits,
    steps: Vec<Step>,
    tables: Tables,
}

impl Shower {
    fn text(&self, text: &[u8]) -> String {
        excerpt(&without_passwords(text), self.limits.bytes)
    }

    fn event(&mut self, event: &RawEvent<'_>) -> Result<(), Malformed> {
        use crate::event::Intvar;
        let step = match event.decode()? {
            Event::Query(query) => {
                Step::Statement { database: excerpt(query.database, 256), text: self.text(&query.text) }
            }
            Event::ExecuteLoadQuery(load) => {
                let query = load.query;
                Step::Statement { database: excerpt(query.database, 256), text: self.text(&query.text) }
            }
            Event::RowsQuery(text) => Step::Comment { text: self.text(text) },
            Event::Intvar(Intvar::InsertId(n)) => Step::Setting { text: format!("SET INSERT_ID={n}") },
            Event::Intvar(Intvar::LastInsertId(n)) => {
                Step::Setting { text: format!("SET LAST_INSERT_ID={n}") }
            }
            Event::Rand(rand) => Step::Setting {
                text: format!("SET @@RAND_SEED1={}, @@RAND_SEED2={}", rand.seed1, rand.seed2),
            },
            Event::UserVar(var) => {
                let name = String::from_utf8_lossy(var.name).replace('`', "``");
                Step::Setting { text: format!("SET @`{name}`:={}", var.to_sql(self.limits.bytes)) }
            }
            Event::TableMap(map) => {
                self.tables.add(&map, event);
                return Ok(());
            }
            Event::Rows(rows) => self.rows(&rows)?,
            Event::TransactionPayload(payload) => {
                let mut inner = payload.events(event.format())?;
                while let Some(event) = inner.next_event()? {
                    self.event(&event)?;
                }
                return Ok(());
            }
            Event::MySqlGtid(_) | Event::MariaDbGtid(_) => return Ok(()),
            Event::Xid(_) => Step::Statement { database: String::new(), text: "COMMIT".to_owned() },
            _ => Step::Other { kind: event.header.kind },
        };
        self.steps.push(step);
        Ok(())
    }

    fn rows(&self, rows: &Rows<'_>) -> Result<Step, Malformed> {
        let map = self.tables.get(rows)?;
        let columns = map.columns()?;
        let name = |at: usize| match columns.get(at).and_then(|c| c.name) {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None => format!("@{}", at + 1),
        };
        let mut shown = Vec::new();
        let mut count = 0;
        for row in rows.rows(&map)? {
            let row = row?;
            count += 1;
            if shown.len() < self.limits.rows {
                let image = |image: crate::event::Image<'_>| {
                    image.into_iter().map(|(at, v)| (name(at), v.to_sql(self.limits.bytes))).collect()
                };
                shown.push(ShownRow { before: row.before.map(image), after: row.after.map(image) });
            }
        }
        Ok(Step::Rows {
            schema: String::from_utf8_lossy(map.schema).into_owned(),
            table: String::from_utf8_lossy(map.table).into_owned(),
            kind: rows.kind,
            rows: shown,
            count,
        })
    }
}
