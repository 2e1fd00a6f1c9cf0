//! Events: the frames of a binlog and what is in them.
//!
//! One file per family, with widths, versions and source. Decoding borrows from the frame; only
//! decompressed parts are copied. Decoding and encoding a body gives the same bytes.

mod compressed;
mod control;
mod cursor;
mod format;
mod header;
mod image;
mod json;
mod kind;
mod literal;
mod load;
mod mariadb_gtid;
mod mysql_gtid;
mod number;
mod payload;
mod query;
mod rows;
mod table_map;
mod temporal;
mod value;
mod vars;
mod xa;

pub use control::{Incident, Rotate, StartEncryption};
pub use cursor::Malformed;
pub use format::{Checksum, FormatDescription};
pub use header::Header;
pub use image::{Image, Row, RowIter};
pub use json::{JsonChange, JsonOperation};
pub use kind::EventKind;
pub use load::{Duplicates, ExecuteLoadQuery, LoadBlock};
pub use mariadb_gtid::{
    EXTRA_COMMIT_ALTER, EXTRA_MULTI_ENGINE, EXTRA_ROLLBACK_ALTER, EXTRA_START_ALTER, EXTRA_THREAD, GtidList,
    MariaDbGtid,
};
pub use mysql_gtid::MySqlGtid;
pub(crate) use number::decimal as packed_decimal;
pub use payload::{Compression, PayloadEvents, TransactionPayload};
pub use query::{Query, SessionCharset, Status};
pub use rows::{Rows, RowsKind};
pub use table_map::{Column, ColumnType, TableMap};
pub use value::Value;
pub use vars::{Intvar, Rand, UserValue, UserValueKind, UserVar};
pub use xa::{XaPrepare, Xid};

use chrono::{DateTime, Utc};

use crate::gtid::{Gtid, MySqlGtidSet};

pub(crate) use cursor::Cursor;

/// One event as it is in the file; its checksum was compared.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// The header.
    pub header: Header,
    /// Offset of the event in its file; 0 for events inside a transaction payload.
    pub offset: u64,
    bytes: &'a [u8],
    checksum: usize,
    format: &'a FormatDescription,
}

impl<'a> RawEvent<'a> {
    pub(crate) fn new(
        header: Header,
        offset: u64,
        bytes: &'a [u8],
        checksum: usize,
        format: &'a FormatDescription,
    ) -> Self {
        Self { header, offset, bytes, checksum, format }
    }

    /// The whole event: header, body, checksum.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the checksum at the end: 0 or 4.
    pub fn checksum_len(&self) -> usize {
        self.checksum
    }

    /// What is between header and checksum.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(Header::LEN..self.bytes.len().saturating_sub(self.checksum)).unwrap_or_default()
    }

    /// Offset behind the event in its file.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.header.size)
    }

    /// The format description that holds for it.
    pub fn format(&self) -> &'a FormatDescription {
        self.format
    }

    /// The GTID and the commit time that a GTID event states; of other events neither.
    pub(crate) fn gtid(&self) -> Result<(Option<Gtid>, Option<DateTime<Utc>>), Malformed> {
        let event = match self.header.kind {
            EventKind::GTID => MySqlGtid::parse(self.body(), false)?,
            EventKind::ANONYMOUS_GTID => MySqlGtid::parse(self.body(), true)?,
            EventKind::GTID_TAGGED => MySqlGtid::parse_tagged(self.body())?,
            EventKind::MARIADB_GTID => {
                return Ok((Some(MariaDbGtid::parse(self.body(), self.header.server_id)?.gtid), None));
            }
            _ => return Ok((None, None)),
        };
        let committed = event.committed();
        Ok((event.gtid, committed))
    }

    /// Decodes the body.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the body does not hold what its kind promises.
    pub fn decode(&self) -> Result<Event<'a>, Malformed> {
        Event::decode(self)
    }
}

/// What is in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Kind 15.
    FormatDescription(FormatDescription),
    /// Kind 3.
    Stop,
    /// Kind 4.
    Rotate(Rotate<'a>),
    /// Kinds 2 and 165.
    Query(Query<'a>),
    /// Kind 5.
    Intvar(Intvar),
    /// Kind 13.
    Rand(Rand),
    /// Kind 14.
    UserVar(UserVar<'a>),
    /// Kind 17.
    BeginLoadQuery(LoadBlock<'a>),
    /// Kind 9.
    AppendBlock(LoadBlock<'a>),
    /// Kind 12: the id of a file.
    DeleteFile(u32),
    /// Kind 18.
    ExecuteLoadQuery(ExecuteLoadQuery<'a>),
    /// Kind 16: the transaction's number on its server.
    Xid(u64),
    /// Kind 38.
    XaPrepare(XaPrepare<'a>),
    /// Kind 19.
    TableMap(TableMap<'a>),
    /// Kinds 23 to 25, 30 to 32, 39, 166 to 171.
    Rows(Rows<'a>),
    /// Kinds 29 and 160: the statement of the following rows.
    RowsQuery(&'a [u8]),
    /// Kind 26.
    Incident(Incident<'a>),
    /// Kinds 33, 34 and 42.
    MySqlGtid(MySqlGtid),
    /// Kind 35, and whether it is in the layout with tags.
    PreviousGtids(MySqlGtidSet, bool),
    /// Kind 162.
    MariaDbGtid(MariaDbGtid<'a>),
    /// Kind 163.
    GtidList(GtidList),
    /// Kind 161: the name of a file.
    BinlogCheckpoint(&'a [u8]),
    /// Kind 164.
    StartEncryption(StartEncryption),
    /// Kind 40.
    TransactionPayload(TransactionPayload<'a>),
    /// Kinds 27 and 41, 36 and 37, and unknown kinds whose header allows to pass over them.
    Opaque(&'a [u8]),
}

impl<'a> Event<'a> {
    fn decode(raw: &RawEvent<'a>) -> Result<Self, Malformed> {
        let body = raw.body();
        let kind = raw.header.kind;
        let post_header = raw.format.post_header(kind);
        Ok(match kind {
            EventKind::FORMAT_DESCRIPTION => {
                let with_checksum = raw.bytes.get(Header::LEN..).unwrap_or_default();
                Self::FormatDescription(FormatDescription::parse(with_checksum)?)
            }
            EventKind::STOP => Self::Stop,
            EventKind::ROTATE => Self::Rotate(Rotate::parse(body)?),
            EventKind::QUERY => Self::Query(Query::parse(body, false)?),
            EventKind::QUERY_COMPRESSED => Self::Query(Query::parse(body, true)?),
            EventKind::INTVAR => Self::Intvar(Intvar::parse(body)?),
            EventKind::RAND => Self::Rand(Rand::parse(body)?),
            EventKind::USER_VAR => Self::UserVar(UserVar::parse(body)?),
            EventKind::BEGIN_LOAD_QUERY => Self::BeginLoadQuery(LoadBlock::parse(body)?),
            EventKind::APPEND_BLOCK => Self::AppendBlock(LoadBlock::parse(body)?),
            EventKind::DELETE_FILE => Self::DeleteFile(load::parse_delete(body)?),
            EventKind::EXECUTE_LOAD_QUERY => Self::ExecuteLoadQuery(ExecuteLoadQuery::parse(body)?),
            EventKind::XID => {
                let mut c = Cursor::new(body);
                let number = c.u64("transaction number")?;
                c.end("Xid")?;
                Self::Xid(number)
            }
            EventKind::XA_PREPARE => Self::XaPrepare(XaPrepare::parse(body)?),
            EventKind::TABLE_MAP => Self::TableMap(TableMap::parse(body, post_header)?),
            kind if kind.is_rows() => Self::Rows(Rows::parse(body, kind, post_header)?),
            // The first byte is a length that no reader can use; the text goes to the end.
            EventKind::ROWS_QUERY => match body.split_first() {
                Some((_, text)) => Self::RowsQuery(text),
                None => return Err(Malformed::new("statement", "its length is missing")),
            },
            EventKind::ANNOTATE_ROWS => Self::RowsQuery(body),
            EventKind::INCIDENT => Self::Incident(Incident::parse(body)?),
            EventKind::GTID => Self::MySqlGtid(MySqlGtid::parse(body, false)?),
            EventKind::ANONYMOUS_GTID => Self::MySqlGtid(MySqlGtid::parse(body, true)?),
            EventKind::GTID_TAGGED => Self::MySqlGtid(MySqlGtid::parse_tagged(body)?),
            EventKind::PREVIOUS_GTIDS => {
                let tagged = body.get(7) == Some(&1);
                Self::PreviousGtids(mysql_gtid::parse_previous(body)?, tagged)
            }
            EventKind::MARIADB_GTID => Self::MariaDbGtid(MariaDbGtid::parse(body, raw.header.server_id)?),
            EventKind::GTID_LIST => Self::GtidList(GtidList::parse(body)?),
            EventKind::BINLOG_CHECKPOINT => Self::BinlogCheckpoint(control::parse_checkpoint(body)?),
            EventKind::START_ENCRYPTION => Self::StartEncryption(StartEncryption::parse(body)?),
            EventKind::TRANSACTION_PAYLOAD => Self::TransactionPayload(TransactionPayload::parse(body)?),
            EventKind::HEARTBEAT
            | EventKind::HEARTBEAT_V2
            | EventKind::IGNORABLE
            | EventKind::TRANSACTION_CONTEXT
            | EventKind::VIEW_CHANGE => Self::Opaque(body),
            _ if raw.header.has(Header::IGNORABLE) => Self::Opaque(body),
            unknown => return Err(Malformed::new("event", format!("{unknown} is unknown"))),
        })
    }

    /// The body that it was decoded from, without header and checksum; `raw` is the event it came from.
    pub fn encode(&self, raw: &RawEvent<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(raw.body().len());
        match self {
            Self::FormatDescription(format) => out = format.encode(),
            Self::Stop => {}
            Self::Rotate(e) => e.encode(&mut out),
            Self::Query(e) => e.encode(&mut out),
            Self::Intvar(e) => e.encode(&mut out),
            Self::Rand(e) => e.encode(&mut out),
            Self::UserVar(e) => e.encode(&mut out),
            Self::BeginLoadQuery(e) | Self::AppendBlock(e) => e.encode(&mut out),
            Self::DeleteFile(id) => out.extend(id.to_le_bytes()),
            Self::ExecuteLoadQuery(e) => e.encode(&mut out),
            Self::Xid(number) => out.extend(number.to_le_bytes()),
            Self::XaPrepare(e) => e.encode(&mut out),
            Self::TableMap(e) => e.encode(&mut out),
            Self::Rows(e) => e.encode(&mut out),
            Self::RowsQuery(text) => {
                if raw.header.kind == EventKind::ROWS_QUERY {
                    out.extend(raw.body().first());
                }
                out.extend(*text);
            }
            Self::Incident(e) => e.encode(&mut out),
            Self::MySqlGtid(e) => e.encode(&mut out),
            Self::PreviousGtids(set, tagged) => mysql_gtid::encode_previous(set, *tagged, &mut out),
            Self::MariaDbGtid(e) => e.encode(&mut out),
            Self::GtidList(e) => e.encode(&mut out),
            Self::BinlogCheckpoint(name) => {
                out.extend((name.len() as u32).to_le_bytes());
                out.extend(*name);
            }
            Self::StartEncryption(e) => e.encode(&mut out),
            Self::TransactionPayload(e) => e.encode(&mut out),
            Self::Opaque(body) => out.extend(*body),
        }
        out
    }
}

/// Writes a length-encoded number.
pub(crate) fn put_lenenc(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xffff => {
            out.push(252);
            out.extend(&value.to_le_bytes()[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(253);
            out.extend(&value.to_le_bytes()[..3]);
        }
        _ => {
            out.push(254);
            out.extend(value.to_le_bytes());
        }
    }
}
