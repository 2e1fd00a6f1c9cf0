//! Values that a statement needs and that come before it: intvar, rand, user variable.

use super::cursor::{Cursor, Malformed};
use super::value::Value;

/// Intvar, kind 5: type `u8`, value `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intvar {
    /// What `LAST_INSERT_ID()` returns (type 1).
    LastInsertId(u64),
    /// The next automatic key (type 2).
    InsertId(u64),
}

impl Intvar {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let kind = c.u8("type")?;
        let value = c.u64("value")?;
        c.end("intvar")?;
        match kind {
            1 => Ok(Self::LastInsertId(value)),
            2 => Ok(Self::InsertId(value)),
            other => Err(Malformed::new("type", format!("{other} is unknown"))),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, value) = match self {
            Self::LastInsertId(value) => (1, value),
            Self::InsertId(value) => (2, value),
        };
        out.push(kind);
        out.extend(value.to_le_bytes());
    }
}

/// Rand, kind 13: two seeds `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rand {
    /// `rand_seed1`.
    pub seed1: u64,
    /// `rand_seed2`.
    pub seed2: u64,
}

impl Rand {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let rand = Self { seed1: c.u64("first seed")?, seed2: c.u64("second seed")? };
        c.end("rand")?;
        Ok(rand)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.seed1.to_le_bytes());
        out.extend(self.seed2.to_le_bytes());
    }
}

/// User variable, kind 14: name length `u32`, name, null flag `u8`; unless null: type `u8`, collation
/// `u32`, value length `u32`, value, and since MySQL 5.1 flags `u8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserVar<'a> {
    /// Name without `@`.
    pub name: &'a [u8],
    /// Its value; `None` is `NULL`.
    pub value: Option<UserValue<'a>>,
    /// What follows a null flag of 1 in some versions.
    tail: &'a [u8],
}

/// The value of a user variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserValue<'a> {
    /// How to read it.
    pub kind: UserValueKind,
    /// Number of the collation of a string.
    pub collation: u32,
    /// A string's bytes; a double or an integer as 8 bytes little-endian; a decimal as precision `u8`,
    /// scale `u8` and packed digits.
    pub bytes: &'a [u8],
    /// The integer is unsigned.
    pub unsigned: bool,
    /// Flags as they are in the event; `None` where the event ends before them.
    flags: Option<u8>,
    /// The kind as it is in the event: MariaDB from 10.10 on names finer types than this.
    raw_kind: u8,
}

/// Types of user variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserValueKind {
    /// Text or bytes (0).
    String,
    /// A double (1).
    Real,
    /// 64 bits (2).
    Int,
    /// Packed decimal (4).
    Decimal,
}

impl<'a> UserVar<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let n = c.u32("name length")?;
        let name = c.bytes(n as usize, "name")?;
        if c.u8("null flag")? != 0 {
            return Ok(Self { name, value: None, tail: c.rest() });
        }
        let raw_kind = c.u8("type")?;
        let kind = match raw_kind {
            0 => UserValueKind::String,
            1 => UserValueKind::Real,
            2 => UserValueKind::Int,
            4 => UserValueKind::Decimal,
            other => return Err(Malformed::new("type", format!("{other} is unknown"))),
        };
        let collation = c.u32("collation")?;
        let n = c.u32("value length")?;
        let bytes = c.bytes(n as usize, "value")?;
        if matches!(kind, UserValueKind::Real | UserValueKind::Int) && bytes.len() != 8 {
            return Err(Malformed::new("value", format!("a number of {} bytes", bytes.len())));
        }
        let flags = if c.is_empty() { None } else { Some(c.u8("flags")?) };
        let unsigned = flags.is_some_and(|f| f & 1 != 0);
        let value = UserValue { kind, collation, bytes, unsigned, flags, raw_kind };
        Ok(Self { name, value: Some(value), tail: c.rest() })
    }

    /// The value as an SQL literal for people; long ones are cut after `limit` bytes.
    pub fn to_sql(&self, limit: usize) -> String {
        let Some(v) = &self.value else { return "NULL".to_owned() };
        let word = v.bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        let value = match v.kind {
            UserValueKind::String => Value::Bytes(v.bytes),
            UserValueKind::Real => Value::Number(super::number::double(f64::from_bits(word))),
            UserValueKind::Int if v.unsigned => Value::UInt(word),
            UserValueKind::Int => Value::Int(word as i64, None),
            UserValueKind::Decimal => match v.bytes {
                [precision, scale, digits @ ..] => match super::number::decimal(digits, *precision, *scale) {
                    Ok(text) => Value::Number(text),
                    Err(_) => Value::Bytes(v.bytes),
                },
                _ => Value::Bytes(v.bytes),
            },
        };
        value.to_sql(limit)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.name.len() as u32).to_le_bytes());
        out.extend(self.name);
        match &self.value {
            None => out.push(1),
            Some(v) => {
                out.push(0);
                out.push(v.raw_kind);
                out.extend(v.collation.to_le_bytes());
                out.extend((v.bytes.len() as u32).to_le_bytes());
                out.extend(v.bytes);
                out.extend(v.flags);
            }
        }
        out.extend(self.tail);
    }
}
