//! Where transactions begin and end.
//!
//! With a GTID event in front (MySQL 5.7 and later, MySQL 5.6 with GTIDs, MariaDB) a transaction starts
//! there; without, at `BEGIN`, `XA START`, or whatever belongs to a single statement. It ends with an Xid
//! event, an XA prepare, a compressed payload, `COMMIT` or `ROLLBACK`; a single statement ends with itself.

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::event::{EventKind, MariaDbGtid, Query, RawEvent};
use crate::gtid::Gtid;
use crate::range::TransactionMark;
use crate::reader::{FileEnd, Reader};
use crate::target::Position;

/// The place of an event in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between transactions: format description, rotate and the like.
    Outside,
    /// The first one of several.
    First,
    /// Neither the first nor the last.
    Inside,
    /// The last one of several.
    Last,
    /// First and last at once: a statement without a GTID event.
    Whole,
}

/// Follows the events of one file and says where transactions begin and end.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    /// In a transaction; `begun`: the next statement does not end it.
    Open { begun: bool },
}

/// What a statement means for transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Begin,
    End,
    None,
}

impl Control {
    fn of(text: &[u8]) -> Self {
        // All of them are short, and most statements begin with other letters.
        let word = |word: &[u8]| text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
        match text.first() {
            Some(b'B' | b'b') if text.len() == 5 && word(b"BEGIN") => Self::Begin,
            Some(b'C' | b'c') if text.len() == 6 && word(b"COMMIT") => Self::End,
            Some(b'R' | b'r') if text.len() == 8 && word(b"ROLLBACK") => Self::End,
            Some(b'X' | b'x') if word(b"XA START") || word(b"XA BEGIN") => Self::Begin,
            Some(b'X' | b'x') if word(b"XA COMMIT") || word(b"XA ROLLBACK") => Self::End,
            _ => Self::None,
        }
    }
}

impl Tracker {
    /// Whether a transaction has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.state != State::Between
    }

    /// Takes the next event and says where it belongs.
    ///
    /// # Errors
    ///
    /// What is wrong with the event's place, in words that follow "comes".
    #[inline]
    pub fn feed(&mut self, event: &RawEvent<'_>) -> Result<Place, &'static str> {
        let kind = event.header.kind;
        match kind {
            kind if kind.is_gtid() => {
                if self.is_open() {
                    return Err("before the transaction in front of it has ended");
                }
                let begun = kind == EventKind::MARIADB_GTID
                    && event.body().get(12).is_some_and(|flags| flags & MariaDbGtid::STANDALONE == 0);
                self.state = State::Open { begun };
                Ok(Place::First)
            }
            EventKind::QUERY => {
                Ok(self.statement(Control::of(Query::peek_text(event.body()).unwrap_or_default())))
            }
            // The shortest ones are never compressed.
            EventKind::QUERY_COMPRESSED | EventKind::EXECUTE_LOAD_QUERY => Ok(self.statement(Control::None)),
            EventKind::XID | EventKind::XA_PREPARE | EventKind::TRANSACTION_PAYLOAD => match self.is_open() {
                true => Ok(self.close()),
                false => Err("outside a transaction"),
            },
            EventKind::INCIDENT => Ok(self.close()),
            EventKind::DELETE_FILE => Ok(self.statement(Control::None)),
            EventKind::FORMAT_DESCRIPTION | EventKind::STOP | EventKind::ROTATE => match self.is_open() {
                true => Err("inside a transaction"),
                false => Ok(Place::Outside),
            },
            EventKind::INTVAR
            | EventKind::RAND
            | EventKind::USER_VAR
            | EventKind::BEGIN_LOAD_QUERY
            | EventKind::APPEND_BLOCK
            | EventKind::TABLE_MAP
            | EventKind::ROWS_QUERY
            | EventKind::ANNOTATE_ROWS => Ok(self.content()),
            kind if kind.is_rows() => Ok(self.content()),
            _ if self.is_open() => Ok(Place::Inside),
            _ => Ok(Place::Outside),
        }
    }

    fn content(&mut self) -> Place {
        match self.state {
            State::Between => {
                self.state = State::Open { begun: false };
                Place::First
            }
            State::Open { .. } => Place::Inside,
        }
    }

    fn close(&mut self) -> Place {
        match std::mem::take(&mut self.state) {
            State::Between => Place::Whole,
            State::Open { .. } => Place::Last,
        }
    }

    fn statement(&mut self, control: Control) -> Place {
        match (control, self.state) {
            (Control::Begin, State::Between) => {
                self.state = State::Open { begun: true };
                Place::First
            }
            (Control::Begin, State::Open { .. }) => {
                self.state = State::Open { begun: true };
                Place::Inside
            }
            (Control::None, State::Open { begun: true }) => Place::Inside,
            _ => self.close(),
        }
    }
}

/// A transaction as the scan sees it.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) gtid: Option<Gtid>,
    /// Offset of its first event.
    pub(crate) start: u64,
    /// Offset behind its last event.
    pub(crate) end: u64,
    pub(crate) time: DateTime<Utc>,
    /// Commit time that the GTID event states: the same in every copy of the transaction.
    pub(crate) committed: Option<DateTime<Utc>>,
    /// `server_id` in its first event.
    pub(crate) server_id: u32,
}

impl Transaction {
    /// The transaction as plans and reports name it; `file` is the name of its file.
    pub(crate) fn mark(&self, file: &str) -> TransactionMark {
        TransactionMark {
            gtid: self.gtid.clone(),
            time: self.time,
            start: Position::new(file, self.start),
            end: Position::new(file, self.end),
        }
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Walked<'w> {
    /// A whole transaction.
    Transaction(&'w Transaction),
    /// An event between transactions.
    Other {
        /// Offset behind it.
        end: u64,
    },
}

impl Walked<'_> {
    /// Offset behind it: a boundary.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Transaction(transaction) => transaction.end,
            Self::Other { end } => *end,
        }
    }
}

/// Reads a file transaction by transaction.
#[derive(Debug)]
pub(crate) struct Walker<R> {
    reader: Reader<R>,
    tracker: Tracker,
    /// The transaction that is being read, or was read last.
    transaction: Transaction,
    /// Offset behind the last whole transaction or event between transactions.
    boundary: u64,
}

impl<R: std::io::Read> Walker<R> {
    pub(crate) fn new(reader: Reader<R>) -> Self {
        let boundary = reader.offset();
        let transaction = Transaction {
            gtid: None,
            start: 0,
            end: 0,
            time: DateTime::UNIX_EPOCH,
            committed: None,
            server_id: 0,
        };
        Self { reader, tracker: Tracker::default(), transaction, boundary }
    }

    pub(crate) fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// Goes on to the next boundary, showing every event on the way to `look`.
    pub(crate) fn next_with(
        &mut self,
        mut look: impl FnMut(&RawEvent<'_>, Place) -> Result<(), Error>,
    ) -> Result<Option<Walked<'_>>, Error> {
        while let Some(event) = self.reader.next_event()? {
            let place = match self.tracker.feed(&event) {
                Ok(place) => place,
                Err(why) => {
                    let (offset, kind) = (event.offset, event.header.kind);
                    return Err(Error::Order { path: self.reader.path().into(), offset, kind, why });
                }
            };
            if matches!(place, Place::First | Place::Whole) {
                self.transaction.start = event.offset;
                self.transaction.server_id = event.header.server_id;
                (self.transaction.gtid, self.transaction.committed) = match event.gtid() {
                    Ok(stated) => stated,
                    Err(source) => {
                        let (offset, kind) = (event.offset, event.header.kind);
                        return Err(Error::Malformed {
                            path: self.reader.path().into(),
                            offset,
                            kind,
                            source,
                        });
                    }
                };
            }
            look(&event, place)?;
            match place {
                Place::Outside => {
                    self.boundary = event.end();
                    return Ok(Some(Walked::Other { end: self.boundary }));
                }
                Place::First | Place::Inside => {}
                Place::Last | Place::Whole => {
                    self.boundary = event.end();
                    self.transaction.end = self.boundary;
                    self.transaction.time = self.transaction.committed.unwrap_or_else(|| {
                        DateTime::from_timestamp(event.header.timestamp.into(), 0).unwrap_or_default()
                    });
                    return Ok(Some(Walked::Transaction(&self.transaction)));
                }
            }
        }
        if self.tracker.is_open() && !matches!(self.reader.end(), Some(FileEnd::Open { .. })) {
            let (path, end) = (self.reader.path().into(), self.reader.offset());
            return Err(Error::Truncated { path, offset: self.boundary, end });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_end_transactions() {
        assert_eq!(Control::of(b"BEGIN"), Control::Begin);
        assert_eq!(Control::of(b"commit"), Control::End);
        assert_eq!(Control::of(b"ROLLBACK"), Control::End);
        assert_eq!(Control::of(b"ROLLBACK TO `here`"), Control::None);
        assert_eq!(Control::of(b"BEGINNING"), Control::None);
        assert_eq!(Control::of(b"XA START 'a'"), Control::Begin);
        assert_eq!(Control::of(b"XA END 'a'"), Control::None);
        assert_eq!(Control::of(b"XA ROLLBACK X'61'"), Control::End);
        assert_eq!(Control::of(b""), Control::None);
    }
}
