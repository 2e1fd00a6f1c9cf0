//! Values in row images. Nothing here is needed to replay rows.
//!
//! Source of the layouts: MySQL `sql/log_event.cc` (`log_event_print_value`), `my_time.cc`,
//! `strings/decimal.cc`; MariaDB writes the same but for its compressed columns.

use super::cursor::{Cursor, Malformed};
use super::json::{self, JsonChange};
use super::number::{big_endian, decimal, decimal_len, double};
use super::table_map::{Column, ColumnType};
use super::temporal::{fraction, packed_datetime, packed_time, utc};

const PART: &str = "row image";

/// A value of a row image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// `NULL`.
    Null,
    /// A signed number, or one whose sign is not known; then its unsigned reading is in the second field.
    Int(i64, Option<u64>),
    /// An unsigned number.
    UInt(u64),
    /// A number with a text of its own: floats and decimals.
    Number(String),
    /// `DATE`, `TIME`, `DATETIME`, `TIMESTAMP` (UTC).
    Temporal(String),
    /// `CHAR`, `VARCHAR`, `BINARY`, `VARBINARY`, `TEXT`, `BLOB`.
    Bytes(&'a [u8]),
    /// A value of a column with MariaDB's `COMPRESSED` attribute, as it is stored.
    Compressed(&'a [u8]),
    /// JSON of MySQL, as text.
    Json(String),
    /// A partial update of JSON.
    JsonChanges(Vec<JsonChange>),
    /// SRID and WKB.
    Geometry(&'a [u8]),
    /// A vector of floats.
    Vector(Vec<f32>),
    /// `BIT`.
    Bit(u64),
    /// `ENUM`: number of the member, from 1; 0 is the empty string of a wrong value.
    Enum(u64),
    /// `SET`: a bit per member.
    Set(u64),
}

/// The value of `column` that comes next.
pub(super) fn read<'r>(c: &mut Cursor<'r>, column: &Column<'_>) -> Result<Value<'r>, Malformed> {
    let int = |c: &mut Cursor<'r>, width: usize| -> Result<Value<'r>, Malformed> {
        let raw = c.uint(width, PART)?;
        let shift = 64 - 8 * width as u32;
        let signed = (raw << shift) as i64 >> shift;
        Ok(match column.unsigned {
            Some(true) => Value::UInt(raw),
            Some(false) => Value::Int(signed, None),
            None => Value::Int(signed, (signed < 0).then_some(raw)),
        })
    };
    let sized = |c: &mut Cursor<'r>, width: u8| -> Result<&'r [u8], Malformed> {
        let n = c.uint(width.into(), PART)?;
        c.bytes(usize::try_from(n).unwrap_or(usize::MAX), PART)
    };
    Ok(match column.kind {
        ColumnType::Tiny => int(c, 1)?,
        ColumnType::Short => int(c, 2)?,
        ColumnType::Int24 => int(c, 3)?,
        ColumnType::Long => int(c, 4)?,
        ColumnType::LongLong => int(c, 8)?,
        ColumnType::Float => Value::Number(f32::from_bits(c.u32(PART)?).to_string()),
        ColumnType::Double => Value::Number(double(f64::from_bits(c.u64(PART)?))),
        ColumnType::Decimal { precision, scale } => {
            let bytes = c.bytes(decimal_len(precision, scale), PART)?;
            Value::Number(decimal(bytes, precision, scale)?)
        }
        ColumnType::Null => Value::Null,
        ColumnType::Year => match c.u8(PART)? {
            0 => Value::UInt(0),
            n => Value::UInt(1900 + u64::from(n)),
        },
        ColumnType::Date => {
            let n = c.u24(PART)?;
            Value::Temporal(format!("{:04}-{:02}-{:02}", n >> 9, n >> 5 & 15, n & 31))
        }
        ColumnType::Time => {
            let raw = c.u24(PART)?;
            let n = (raw << 8) as i32 >> 8;
            let (sign, n) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
            Value::Temporal(format!("{sign}{:02}:{:02}:{:02}", n / 10000, n / 100 % 100, n % 100))
        }
        ColumnType::DateTime => {
            let n = c.u64(PART)?;
            let (date, time) = (n / 1_000_000, n % 1_000_000);
            let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
            let (hour, minute, second) = (time / 10_000, time / 100 % 100, time % 100);
            Value::Temporal(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"))
        }
        ColumnType::Timestamp => Value::Temporal(utc(c.u32(PART)?.into(), 0, 0)),
        ColumnType::Timestamp2(digits) => {
            let seconds = big_endian(c.bytes(4, PART)?);
            let micros = fraction(c, digits)?;
            Value::Temporal(utc(seconds, micros, digits))
        }
        ColumnType::DateTime2(digits) => {
            let packed = big_endian(c.bytes(5, PART)?) as i64 - 0x80_0000_0000;
            let micros = fraction(c, digits)?;
            Value::Temporal(packed_datetime(packed << 24 | i64::from(micros), digits))
        }
        ColumnType::Time2(digits) => {
            // Negative times are stored as one number over all bytes.
            let width = 3 + usize::from(digits.div_ceil(2));
            let raw = big_endian(c.bytes(width, PART)?) as i64 - (0x80_0000 << (8 * (width - 3)));
            let (negative, raw) = (raw < 0, raw.unsigned_abs());
            let bits = 8 * (width as u32 - 3);
            let part = raw & ((1 << bits) - 1);
            let micros = part * 10u64.pow(6 - 2 * (width as u32 - 3));
            let packed = ((raw >> bits) << 24 | micros) as i64;
            Value::Temporal(packed_time(if negative { -packed } else { packed }, digits))
        }
        ColumnType::Text { max, compressed } => {
            let bytes = sized(c, if max > 255 { 2 } else { 1 })?;
            if compressed { Value::Compressed(bytes) } else { Value::Bytes(bytes) }
        }
        ColumnType::Blob { width, compressed } => {
            let bytes = sized(c, width)?;
            if compressed { Value::Compressed(bytes) } else { Value::Bytes(bytes) }
        }
        ColumnType::Json(width) => Value::Json(json::to_text(sized(c, width)?)?),
        ColumnType::Geometry(width) => Value::Geometry(sized(c, width)?),
        ColumnType::Vector(width) => {
            let floats = sized(c, width)?.chunks_exact(4);
            Value::Vector(floats.map(|f| f32::from_le_bytes([f[0], f[1], f[2], f[3]])).collect())
        }
        ColumnType::Bit(bits) => Value::Bit(big_endian(c.bytes(usize::from(bits.div_ceil(8)), PART)?)),
        ColumnType::Enum(width) => Value::Enum(c.uint(width.into(), PART)?),
        ColumnType::Set(width) => Value::Set(c.uint(width.into(), PART)?),
    })
}
