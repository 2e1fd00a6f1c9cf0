//! Values in row images, as SQL literals for people. Nothing here is needed to replay rows.
//!
//! Source of the layouts: MySQL `sql/log_event.cc` (`log_event_print_value`), `my_time.cc`,
//! `strings/decimal.cc`; MariaDB writes the same but for its compressed columns.

use std::fmt::Write;

use super::cursor::{Cursor, Malformed};
use super::json::{self, JsonChange};
use super::rows::{Rows, RowsKind};
use super::table_map::{Column, ColumnType, TableMap};

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
        if self.rest.is_empty() {
            return None;
        }
        let before_rest = self.rest.len();
        let row = self.row();
        // Rows of no columns take no bytes: there can be only one.
        if row.is_err() || self.rest.len() == before_rest {
            self.rest = Cursor::new(&[]);
        }
        Some(row)
    }
}

impl<'r> RowIter<'r> {
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
        let c = &mut self.rest;
        // Partial updates: options, bit 0 says that a bit per JSON column follows.
        let mut partial_bits: &[u8] = &[];
        if partial && c.lenenc("value options")? & 1 != 0 {
            partial_bits = c.bytes(self.json.div_ceil(8), "partial columns")?;
        }
        let bit = |bits: &[u8], at: usize| bits.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 != 0);
        let count = (0..self.columns.len()).filter(|at| bit(present, *at)).count();
        let nulls = c.bytes(count.div_ceil(8), "NULL bits")?;
        let mut image = Vec::with_capacity(count);
        let mut json = 0;
        for (at, column) in self.columns.iter().enumerate() {
            let is_json = matches!(column.kind, ColumnType::Json(_));
            let changes = is_json && bit(partial_bits, json);
            json += usize::from(is_json);
            if !bit(present, at) {
                continue;
            }
            let value = if bit(nulls, image.len()) {
                Value::Null
            } else if changes {
                let n = c.u32("JSON changes")?;
                Value::JsonChanges(json::changes(c.bytes(n as usize, "JSON changes")?)?)
            } else {
                read(c, column)?
            };
            image.push((at, value));
        }
        Ok(image)
    }
}

fn read<'r>(c: &mut Cursor<'r>, column: &Column<'_>) -> Result<Value<'r>, Malformed> {
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

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The bytes of a second's digits, as microseconds.
fn fraction(c: &mut Cursor<'_>, digits: u8) -> Result<u32, Malformed> {
    let width = digits.div_ceil(2);
    let part = big_endian(c.bytes(width.into(), PART)?) as u32;
    Ok(part * 10u32.pow(6 - 2 * u32::from(width)))
}

fn digits_of(micros: u32, digits: u8) -> String {
    match digits {
        0 => String::new(),
        n => {
            format!(".{:0width$}", micros / 10u32.pow(6 - u32::from(n.min(6))), width = usize::from(n.min(6)))
        }
    }
}

fn utc(seconds: u64, micros: u32, digits: u8) -> String {
    if seconds == 0 && micros == 0 {
        return format!("0000-00-00 00:00:00{}", digits_of(0, digits));
    }
    match chrono::DateTime::from_timestamp(seconds as i64, 0) {
        Some(time) => format!("{}{}", time.format("%Y-%m-%d %H:%M:%S"), digits_of(micros, digits)),
        None => seconds.to_string(),
    }
}

/// Date and time in MySQL's packed number: year × 13 + month, day, hour, minute, second, 24 bits of µs.
pub(crate) fn packed_datetime(packed: i64, digits: u8) -> String {
    let packed = packed.unsigned_abs();
    let (whole, micros) = (packed >> 24, (packed & 0xff_ffff) as u32);
    let (date, time) = (whole >> 17, whole & 0x1_ffff);
    let (months, day) = (date >> 5, date & 31);
    let (hour, minute, second) = (time >> 12, time >> 6 & 63, time & 63);
    let (year, month) = (months / 13, months % 13);
    let part = digits_of(micros, digits);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{part}")
}

/// The date of a packed number.
pub(crate) fn packed_date(packed: i64) -> String {
    let mut text = packed_datetime(packed, 0);
    text.truncate(text.find(' ').unwrap_or(text.len()));
    text
}

/// The time of a packed number; its sign is the time's.
pub(crate) fn packed_time(packed: i64, digits: u8) -> String {
    let (sign, packed) = (if packed < 0 { "-" } else { "" }, packed.unsigned_abs());
    let (whole, micros) = (packed >> 24, (packed & 0xff_ffff) as u32);
    let (hour, minute, second) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
    format!("{sign}{hour:02}:{minute:02}:{second:02}{}", digits_of(micros, digits))
}

/// A double with the fewest digits that give it back.
pub(crate) fn double(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 { format!("{value:.1}") } else { format!("{value:?}") }
}

/// Bytes of so many digits less than nine.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Bytes of a packed decimal.
fn decimal_len(precision: u8, scale: u8) -> usize {
    let (whole, part) = (usize::from(precision - scale), usize::from(scale));
    whole / 9 * 4 + DIGIT_BYTES[whole % 9] + part / 9 * 4 + DIGIT_BYTES[part % 9]
}

/// A packed decimal as text: groups of nine digits in four bytes, big-endian, the odd ones outside; the top
/// bit is inverted, and all bits of negative numbers are.
pub(crate) fn decimal(bytes: &[u8], precision: u8, scale: u8) -> Result<String, Malformed> {
    let bad = |why: String| Malformed::new("decimal", why);
    if precision == 0 || precision > 65 || scale > precision {
        return Err(bad(format!("DECIMAL({precision},{scale})")));
    }
    let bytes = bytes.get(..decimal_len(precision, scale)).ok_or_else(|| bad("too short".into()))?;
    let negative = bytes[0] & 0x80 == 0;
    let mut plain: Vec<u8> = bytes.iter().map(|b| if negative { !b } else { *b }).collect();
    plain[0] ^= 0x80;
    let mut rest = plain.as_slice();
    let mut group = |digits: usize| -> Result<String, Malformed> {
        let (head, tail) = rest.split_at(DIGIT_BYTES[digits]);
        rest = tail;
        let text = format!("{:0digits$}", big_endian(head));
        if text.len() > digits { Err(bad(format!("{text} in {digits} digits"))) } else { Ok(text) }
    };
    let (whole, part) = (usize::from(precision - scale), usize::from(scale));
    let mut text = String::new();
    for digits in [whole % 9].into_iter().filter(|d| *d > 0).chain(std::iter::repeat_n(9, whole / 9)) {
        text.push_str(&group(digits)?);
    }
    let kept = text.trim_start_matches('0');
    let mut text = if kept.is_empty() { "0".to_owned() } else { kept.to_owned() };
    if part > 0 {
        text.push('.');
    }
    for digits in std::iter::repeat_n(9, part / 9).chain([part % 9].into_iter().filter(|d| *d > 0)) {
        text.push_str(&group(digits)?);
    }
    if negative {
        text.insert(0, '-');
    }
    Ok(text)
}

impl Value<'_> {
    /// The value as an SQL literal, or as close to one as it gets; long ones are cut after `limit` bytes.
    pub fn to_sql(&self, limit: usize) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Int(n, None) => n.to_string(),
            Self::Int(n, Some(unsigned)) => format!("{n} /* or {unsigned} */"),
            Self::UInt(n) | Self::Enum(n) => n.to_string(),
            Self::Number(text) => text.clone(),
            Self::Temporal(text) => format!("'{text}'"),
            Self::Bytes(bytes) => literal(bytes, limit),
            Self::Compressed(bytes) => format!("{} /* compressed */", hex(bytes, limit)),
            Self::Json(text) => literal(text.as_bytes(), limit),
            Self::JsonChanges(changes) => {
                let parts: Vec<String> = changes
                    .iter()
                    .map(|c| {
                        let path = literal(c.path.as_bytes(), limit);
                        let value = c.value.as_ref().map(|v| literal(v.as_bytes(), limit));
                        let name = match c.operation {
                            super::JsonOperation::Replace => "JSON_REPLACE",
                            super::JsonOperation::Insert => "JSON_INSERT",
                            super::JsonOperation::Remove => "JSON_REMOVE",
                        };
                        match value {
                            Some(value) => format!("{name}({path}, {value})"),
                            None => format!("{name}({path})"),
                        }
                    })
                    .collect();
                parts.join(" ")
            }
            Self::Geometry(bytes) => hex(bytes, limit),
            Self::Vector(floats) => {
                let parts: Vec<String> = floats.iter().map(f32::to_string).collect();
                format!("'[{}]'", parts.join(", "))
            }
            Self::Bit(bits) => format!("b'{bits:b}'"),
            Self::Set(bits) => format!("{bits} /* members {} */", members(*bits)),
        }
    }
}

fn members(bits: u64) -> String {
    let set: Vec<String> = (0..64).filter(|at| bits >> at & 1 != 0).map(|at| (at + 1).to_string()).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(",") }
}

/// Text in quotes; what is no UTF-8 text, in hexadecimal.
fn literal(bytes: &[u8], limit: usize) -> String {
    let is_text = std::str::from_utf8(bytes).is_ok_and(|t| !t.contains('\0'));
    if !is_text {
        return hex(bytes, limit);
    }
    let text = crate::statement::excerpt(bytes, limit);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn hex(bytes: &[u8], limit: usize) -> String {
    let mut out = String::from("x'");
    for byte in bytes.iter().take(limit / 2 + 1) {
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > limit / 2 + 1 {
        out.push('…');
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_all_widths_print() {
        // 1234567890.1234 as DECIMAL(14,4), the example of MySQL's manual.
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal(&bytes, 14, 4).unwrap(), "1234567890.1234");
        let negative: Vec<u8> = bytes.iter().map(|b| !b).collect();
        assert_eq!(decimal(&negative, 14, 4).unwrap(), "-1234567890.1234");
        assert_eq!(decimal(&[0x80], 2, 0).unwrap(), "0");
        assert!(decimal(&[0x80], 14, 4).is_err());
        assert!(decimal(&[0xff], 2, 0).is_err());
    }

    #[test]
    fn literals_say_what_they_are() {
        assert_eq!(Value::Bytes(b"it's\n").to_sql(99), "'it''s\\n'");
        assert_eq!(Value::Bytes(b"\xff\x00").to_sql(99), "x'ff00'");
        assert_eq!(Value::Int(-1, Some(255)).to_sql(99), "-1 /* or 255 */");
        assert_eq!(Value::Set(5).to_sql(99), "5 /* members 1,3 */");
        assert_eq!(Value::Bytes(&[b'a'; 50]).to_sql(3), "'aaa…'");
    }
}
