//! Table map, kind 19: which table the next row events touch, and how its columns are written.
//!
//! Body: table id `u48` (`u32` in very old files), flags `u16`; schema and table, each with a length byte and
//! a NUL behind; count of columns (length-encoded); a type byte per column; metadata (length-encoded); a bit
//! per column that may be NULL; then, since MySQL 8.0.1 and MariaDB 10.5, optional metadata: type `u8`, length
//! (length-encoded), value. Source: MySQL `rows_event.h` (`Table_map_event`).

use super::cursor::{Cursor, Malformed};

/// Most columns that a table can have: 4096 (InnoDB: 1017); a count above it is damage.
const MAX_COLUMNS: u64 = 4096;

/// A table and its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap<'a> {
    /// Number by which the following row events name it.
    pub table_id: u64,
    /// Flags.
    pub flags: u16,
    /// Database.
    pub schema: &'a [u8],
    /// Table.
    pub table: &'a [u8],
    /// One type byte per column; see [`ColumnType`].
    pub types: &'a [u8],
    /// Lengths, precisions and the like, as many bytes per column as its type has.
    pub metadata: &'a [u8],
    /// One bit per column, lowest first: it may be NULL.
    pub nullable: &'a [u8],
    /// Optional metadata as it is in the event; empty where the server writes none.
    pub optional: &'a [u8],
    id_width: usize,
}

impl<'a> TableMap<'a> {
    pub(crate) fn parse(body: &'a [u8], post_header: Option<usize>) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let id_width = if post_header == Some(6) { 4 } else { 6 };
        let table_id = c.uint(id_width, "table id")?;
        let flags = c.u16("flags")?;
        let schema = c.short_bytes("schema")?;
        c.nul("end of the schema")?;
        let table = c.short_bytes("table")?;
        c.nul("end of the table")?;
        let columns = c.lenenc("count of columns")?;
        if columns > MAX_COLUMNS {
            return Err(Malformed::new("count of columns", format!("{columns}")));
        }
        let columns = columns as usize;
        let types = c.bytes(columns, "column types")?;
        let metadata = c.lenenc_bytes("column metadata")?;
        let nullable = c.bytes(columns.div_ceil(8), "nullable columns")?;
        let map =
            Self { table_id, flags, schema, table, types, metadata, nullable, optional: c.rest(), id_width };
        Ok(map)
    }

    /// The columns with their metadata and, where the server wrote them, signs and names.
    pub fn columns(&self) -> Result<Vec<Column<'a>>, Malformed> {
        let mut c = Cursor::new(self.metadata);
        let mut columns = Vec::with_capacity(self.types.len());
        for (at, raw) in self.types.iter().enumerate() {
            let kind = ColumnType::from_byte(*raw)?;
            let nullable = self.nullable.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 != 0);
            columns.push(Column { kind: kind.with_metadata(&mut c)?, nullable, unsigned: None, name: None });
        }
        c.end("column metadata")?;
        self.add_optional(&mut columns)?;
        Ok(columns)
    }

    fn add_optional(&self, columns: &mut [Column<'a>]) -> Result<(), Malformed> {
        let mut c = Cursor::new(self.optional);
        while !c.is_empty() {
            let field = c.u8("optional metadata")?;
            let value = c.lenenc_bytes("optional metadata")?;
            match field {
                // One bit per numeric column, highest first: unsigned.
                1 => {
                    for (at, column) in columns.iter_mut().filter(|c| c.kind.is_numeric()).enumerate() {
                        column.unsigned = value.get(at / 8).map(|b| b << (at % 8) & 0x80 != 0);
                    }
                }
                // Names, each with its length (`binlog_row_metadata=FULL`).
                4 => {
                    let mut names = Cursor::new(value);
                    for column in columns.iter_mut() {
                        column.name = Some(names.lenenc_bytes("column name")?);
                    }
                    names.end("column names")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(&self.table_id.to_le_bytes()[..self.id_width]);
        out.extend(self.flags.to_le_bytes());
        for name in [self.schema, self.table] {
            out.push(name.len() as u8);
            out.extend(name);
            out.push(0);
        }
        super::put_lenenc(out, self.types.len() as u64);
        out.extend(self.types);
        super::put_lenenc(out, self.metadata.len() as u64);
        out.extend(self.metadata);
        out.extend(self.nullable);
        out.extend(self.optional);
    }
}

/// One column of a [`TableMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// How its values are written.
    pub kind: ColumnType,
    /// It may be NULL.
    pub nullable: bool,
    /// Whether a number is unsigned; `None` where the server does not say.
    pub unsigned: Option<bool>,
    /// Its name; `None` unless `binlog_row_metadata=FULL`.
    pub name: Option<&'a [u8]>,
}

/// Types of columns as rows hold them, with the metadata that the width of a value depends on.
///
/// The comments give type bytes and metadata. Source: MySQL `rows_event.h` ("Table_map_event column types").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// 1: 1 byte.
    Tiny,
    /// 2: 2 bytes.
    Short,
    /// 9: 3 bytes.
    Int24,
    /// 3: 4 bytes.
    Long,
    /// 8: 8 bytes.
    LongLong,
    /// 4, metadata `u8` (4): 4 bytes.
    Float,
    /// 5, metadata `u8` (8): 8 bytes.
    Double,
    /// 246, metadata precision `u8` and scale `u8`: packed digits.
    Decimal {
        /// Digits.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// 6: no bytes.
    Null,
    /// 13: 1 byte, 0 or the year less 1900.
    Year,
    /// 10 and 14: 3 bytes.
    Date,
    /// 11: 3 bytes (servers before 5.6).
    Time,
    /// 19, metadata digits `u8`.
    Time2(u8),
    /// 12: 8 bytes (servers before 5.6).
    DateTime,
    /// 18, metadata digits `u8`.
    DateTime2(u8),
    /// 7: 4 bytes (servers before 5.6).
    Timestamp,
    /// 17, metadata digits `u8`.
    Timestamp2(u8),
    /// 15, 253, and 254 with a string's metadata: `CHAR`, `BINARY`, `VARCHAR`, `VARBINARY` of so many bytes
    /// at most; the length is a `u8`, above 255 a `u16`. MariaDB's 141 is the same, compressed.
    Text {
        /// Most bytes a value can have.
        max: u16,
        /// The value is compressed with MariaDB's `COMPRESSED` attribute.
        compressed: bool,
    },
    /// 249 to 252, metadata `u8`: a length of so many bytes, then the value. MariaDB's 140 is compressed.
    Blob {
        /// Bytes of the length, 1 to 4.
        width: u8,
        /// The value is compressed with MariaDB's `COMPRESSED` attribute.
        compressed: bool,
    },
    /// 245: as a blob, the value is MySQL's binary JSON.
    Json(u8),
    /// 255: as a blob, the value is an SRID and WKB.
    Geometry(u8),
    /// 242: as a blob, the value is a list of 4-byte floats (MySQL 9).
    Vector(u8),
    /// 16, metadata bits `u8` and bytes `u8`.
    Bit(u16),
    /// 247, or 254 with metadata 247: an index of 1 or 2 bytes.
    Enum(u8),
    /// 248, or 254 with metadata 248: a bit per member, 1 to 8 bytes.
    Set(u8),
}

impl ColumnType {
    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            1 => Self::Tiny,
            2 => Self::Short,
            3 => Self::Long,
            4 => Self::Float,
            5 => Self::Double,
            6 => Self::Null,
            7 => Self::Timestamp,
            8 => Self::LongLong,
            9 => Self::Int24,
            10 | 14 => Self::Date,
            11 => Self::Time,
            12 => Self::DateTime,
            13 => Self::Year,
            15 | 253 | 254 => Self::Text { max: u16::from(byte == 254), compressed: false },
            16 => Self::Bit(0),
            17 => Self::Timestamp2(0),
            18 => Self::DateTime2(0),
            19 => Self::Time2(0),
            140 => Self::Blob { width: 0, compressed: true },
            141 => Self::Text { max: 0, compressed: true },
            242 => Self::Vector(0),
            245 => Self::Json(0),
            246 => Self::Decimal { precision: 0, scale: 0 },
            247 => Self::Enum(0),
            248 => Self::Set(0),
            249..=252 => Self::Blob { width: 0, compressed: false },
            255 => Self::Geometry(0),
            other => return Err(Malformed::new("column type", format!("{other} is unknown"))),
        })
    }

    fn with_metadata(self, c: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const PART: &str = "column metadata";
        let length = |width: u8| match width {
            1..=4 => Ok(width),
            other => Err(Malformed::new(PART, format!("a length of {other} bytes"))),
        };
        let digits = |n: u8| match n {
            0..=6 => Ok(n),
            other => Err(Malformed::new(PART, format!("{other} digits of a second"))),
        };
        Ok(match self {
            Self::Float | Self::Double => {
                c.u8(PART)?;
                self
            }
            Self::Timestamp2(_) => Self::Timestamp2(digits(c.u8(PART)?)?),
            Self::DateTime2(_) => Self::DateTime2(digits(c.u8(PART)?)?),
            Self::Time2(_) => Self::Time2(digits(c.u8(PART)?)?),
            Self::Decimal { .. } => {
                let (precision, scale) = (c.u8(PART)?, c.u8(PART)?);
                if precision == 0 || precision > 65 || scale > precision {
                    return Err(Malformed::new(PART, format!("DECIMAL({precision},{scale})")));
                }
                Self::Decimal { precision, scale }
            }
            Self::Bit(_) => {
                let (bits, bytes) = (u16::from(c.u8(PART)?), u16::from(c.u8(PART)?));
                match bytes * 8 + bits {
                    n @ 1..=64 => Self::Bit(n),
                    other => return Err(Malformed::new(PART, format!("BIT({other})"))),
                }
            }
            // 254: the real type and a length byte whose top two bits are in the type byte, inverted.
            Self::Text { max: 1, .. } => {
                let (kind, low) = (c.u8(PART)?, c.u8(PART)?);
                match (kind, low) {
                    (247, n @ 1..=2) => Self::Enum(n),
                    (248, n @ 1..=8) => Self::Set(n),
                    (247 | 248, n) => return Err(Malformed::new(PART, format!("ENUM or SET of {n} bytes"))),
                    _ => {
                        let high = (u16::from(kind & 0x30) ^ 0x30) << 4;
                        Self::Text { max: high | u16::from(low), compressed: false }
                    }
                }
            }
            Self::Text { compressed, .. } => Self::Text { max: c.u16(PART)?, compressed },
            Self::Blob { compressed, .. } => Self::Blob { width: length(c.u8(PART)?)?, compressed },
            Self::Json(_) => Self::Json(length(c.u8(PART)?)?),
            Self::Geometry(_) => Self::Geometry(length(c.u8(PART)?)?),
            Self::Vector(_) => Self::Vector(length(c.u8(PART)?)?),
            Self::Enum(_) | Self::Set(_) => {
                let (kind, n) = (c.u8(PART)?, c.u8(PART)?);
                match (kind, n) {
                    (247, 1..=2) => Self::Enum(n),
                    (248, 1..=8) => Self::Set(n),
                    _ => return Err(Malformed::new(PART, format!("ENUM or SET of {n} bytes"))),
                }
            }
            other => other,
        })
    }

    /// Whether the sign metadata has a bit for it.
    fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::Tiny
                | Self::Short
                | Self::Int24
                | Self::Long
                | Self::LongLong
                | Self::Float
                | Self::Double
                | Self::Decimal { .. }
        )
    }
}
