//! MySQL's binary JSON as text, and the differences of partial updates.
//!
//! A value is a type byte and its data; objects and arrays hold a count, their size, and an entry per member
//! whose offset counts from the start of the object or array; numbers in an entry's place are inlined. All
//! widths are 2 bytes in small containers and 4 in large ones. Source: MySQL `sql-common/json_binary.h`.

use std::fmt::Write;

use super::cursor::{Cursor, Malformed};
use super::{number, temporal};

const PART: &str = "JSON value";
/// Deepest nesting that MySQL accepts: 100.
const MAX_DEPTH: usize = 100;

fn fail(why: impl Into<String>) -> Malformed {
    Malformed::new(PART, why)
}

/// One operation of a partial update.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct JsonChange {
    /// What is done.
    pub operation: JsonOperation,
    /// Where: `$.list[1]`.
    pub path: String,
    /// The new value as text; `None` for removals.
    pub value: Option<String>,
}

/// Operations of partial updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonOperation {
    /// The value at the path is replaced (0).
    Replace,
    /// A member or an element is added (1).
    Insert,
    /// The value at the path is removed (2).
    Remove,
}

/// The text of a JSON value; empty bytes are the JSON `null` that MySQL makes of them.
pub(crate) fn to_text(bytes: &[u8]) -> Result<String, Malformed> {
    if bytes.is_empty() {
        return Ok("null".to_owned());
    }
    // Members may point to one and the same place, so that little input could become much output. What a
    // server writes has at most one value per three bytes, and escapes take six.
    let mut out = Printer { text: String::new(), values: bytes.len() + 1, limit: bytes.len() * 8 + 1024 };
    out.value(bytes[0], &bytes[1..], 0)?;
    Ok(out.text)
}

/// The operations of a partial update: operation `u8`, path and (unless it is a removal) value, both with a
/// length-encoded length.
pub(crate) fn changes(bytes: &[u8]) -> Result<Vec<JsonChange>, Malformed> {
    let mut c = Cursor::new(bytes);
    let mut all = Vec::new();
    while !c.is_empty() {
        let operation = match c.u8(PART)? {
            0 => JsonOperation::Replace,
            1 => JsonOperation::Insert,
            2 => JsonOperation::Remove,
            other => return Err(fail(format!("operation {other} is unknown"))),
        };
        let path = String::from_utf8_lossy(c.lenenc_bytes(PART)?).into_owned();
        let value = match operation {
            JsonOperation::Remove => None,
            _ => Some(to_text(c.lenenc_bytes(PART)?)?),
        };
        all.push(JsonChange { operation, path, value });
    }
    Ok(all)
}

struct Printer {
    text: String,
    values: usize,
    limit: usize,
}

impl Printer {
    fn put(&mut self, text: std::fmt::Arguments<'_>) -> Result<(), Malformed> {
        self.text.write_fmt(text).map_err(|e| fail(e.to_string()))?;
        self.check()
    }

    fn check(&self) -> Result<(), Malformed> {
        if self.text.len() > self.limit { Err(fail("members overlap")) } else { Ok(()) }
    }

    fn value(&mut self, kind: u8, data: &[u8], depth: usize) -> Result<(), Malformed> {
        self.values = self.values.checked_sub(1).ok_or_else(|| fail("members overlap"))?;
        let mut c = Cursor::new(data);
        match kind {
            0..=3 => self.container(kind, data, depth),
            4 => self.literal(c.u8(PART)?.into()),
            5 => self.put(format_args!("{}", c.u16(PART)? as i16)),
            6 => self.put(format_args!("{}", c.u16(PART)?)),
            7 => self.put(format_args!("{}", c.u32(PART)? as i32)),
            8 => self.put(format_args!("{}", c.u32(PART)?)),
            9 => self.put(format_args!("{}", c.u64(PART)? as i64)),
            10 => self.put(format_args!("{}", c.u64(PART)?)),
            11 => self.put(format_args!("{}", number::double(f64::from_bits(c.u64(PART)?)))),
            12 => {
                let n = length(&mut c)?;
                let text = c.bytes(n, PART)?;
                self.string(text)
            }
            15 => {
                let column = c.u8(PART)?;
                let n = length(&mut c)?;
                let bytes = c.bytes(n, PART)?;
                self.opaque(column, bytes)
            }
            other => Err(fail(format!("type {other} is unknown"))),
        }
    }

    fn literal(&mut self, number: u32) -> Result<(), Malformed> {
        let text = match number {
            0 => "null",
            1 => "true",
            2 => "false",
            other => return Err(fail(format!("literal {other} is unknown"))),
        };
        self.put(format_args!("{text}"))
    }

    /// Small (0, 2) or large (1, 3) object (0, 1) or array (2, 3).
    fn container(&mut self, kind: u8, data: &[u8], depth: usize) -> Result<(), Malformed> {
        if depth >= MAX_DEPTH {
            return Err(fail(format!("nested more than {MAX_DEPTH} deep")));
        }
        let (is_object, wide) = (kind < 2, kind % 2 == 1);
        let width = if wide { 4 } else { 2 };
        let mut c = Cursor::new(data);
        let count = c.uint(width, PART)? as usize;
        let size = c.uint(width, PART)? as usize;
        let data =
            data.get(..size).ok_or_else(|| fail(format!("{size} bytes stated, {} are there", data.len())))?;
        if count > data.len() {
            return Err(fail(format!("{count} members in {size} bytes")));
        }
        let mut keys = Vec::new();
        if is_object {
            for _ in 0..count {
                let (at, n) = (c.uint(width, PART)? as usize, usize::from(c.u16(PART)?));
                keys.push(data.get(at..at + n).ok_or_else(|| fail("a key lies outside"))?);
            }
        }
        self.put(format_args!("{}", if is_object { '{' } else { '[' }))?;
        for member in 0..count {
            if member > 0 {
                self.put(format_args!(", "))?;
            }
            if let Some(key) = keys.get(member) {
                self.string(key)?;
                self.put(format_args!(": "))?;
            }
            let kind = c.u8(PART)?;
            let place = c.bytes(width, PART)?;
            // Literals and numbers that fit are in the place of the offset.
            match kind {
                4..=6 => self.value(kind, place, depth + 1)?,
                7 | 8 if wide => self.value(kind, place, depth + 1)?,
                _ => {
                    let at = Cursor::new(place).uint(width, PART)? as usize;
                    let inner = data.get(at..).ok_or_else(|| fail("a member lies outside"))?;
                    self.value(kind, inner, depth + 1)?;
                }
            }
        }
        self.put(format_args!("{}", if is_object { '}' } else { ']' }))
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.text.push('"');
        for c in String::from_utf8_lossy(bytes).chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                c if (c as u32) < 0x20 => self.put(format_args!("\\u{:04x}", c as u32))?,
                c => self.text.push(c),
            }
        }
        self.text.push('"');
        self.check()
    }

    /// A value of an SQL type: decimal and temporal ones as their text, others in base64 as MySQL prints
    /// them.
    fn opaque(&mut self, column: u8, bytes: &[u8]) -> Result<(), Malformed> {
        use base64::Engine;
        let packed = || -> Option<i64> { Some(i64::from_le_bytes(*bytes.first_chunk::<8>()?)) };
        match (column, packed()) {
            (246, _) if bytes.len() >= 2 => {
                let text = number::decimal(&bytes[2..], bytes[0], bytes[1])?;
                self.put(format_args!("{text}"))
            }
            (10, Some(n)) => self.put(format_args!("\"{}\"", temporal::packed_date(n))),
            (11, Some(n)) => self.put(format_args!("\"{}\"", temporal::packed_time(n, 6))),
            (7 | 12, Some(n)) => self.put(format_args!("\"{}\"", temporal::packed_datetime(n, 6))),
            _ => {
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                self.put(format_args!("\"base64:type{column}:{text}\""))
            }
        }
    }
}

/// A length in groups of seven bits, low ones first; the top bit says that more follow.
fn length(c: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let mut n = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = c.u8(PART)?;
        n |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(fail("a length does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_documents_print() {
        // {"a": [1, true]}: object of one member that is an array.
        let doc = [0, 1, 0, 23, 0, 11, 0, 1, 0, 2, 12, 0, b'a', 2, 0, 10, 0, 5, 1, 0, 4, 1, 0, 0];
        assert_eq!(to_text(&doc).unwrap(), "{\"a\": [1, true]}");
    }

    #[test]
    fn overlapping_members_do_not_grow_without_end() {
        // An array whose members are all the array before it: 2^60 values in a few hundred bytes.
        let mut doc = vec![2u8];
        for _ in 0..60 {
            // Two members, both at the offset right behind this header.
            doc.extend([2, 0, 0xff, 0, 2, 10, 0, 2, 10, 0]);
        }
        doc.extend([0, 0, 4, 0]);
        doc.resize(4000, 0);
        assert!(to_text(&doc).is_err());
    }
}
