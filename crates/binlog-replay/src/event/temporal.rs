//! Dates and times as text.

use super::cursor::{Cursor, Malformed};
use super::number::big_endian;

const PART: &str = "row image";

/// The bytes of a second's digits, as microseconds.
pub(super) fn fraction(c: &mut Cursor<'_>, digits: u8) -> Result<u32, Malformed> {
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

pub(super) fn utc(seconds: u64, micros: u32, digits: u8) -> String {
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
