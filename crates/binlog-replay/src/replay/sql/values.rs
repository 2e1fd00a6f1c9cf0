//! User variables, numbers and identifiers as SQL text that gives back the same value.

use std::collections::HashMap;

use super::settings::quote_name;
use crate::event::{UserValue, UserValueKind, UserVar, Xid};
use crate::replay::session::hex;

/// Names of collations and of their character sets, by number, as the server has them.
pub(super) type Collations = HashMap<u32, (String, String)>;

/// `SET @name:=value;` — the error names what cannot be written.
pub(super) fn user_var(var: &UserVar<'_>, collations: &Collations, out: &mut Vec<u8>) -> Result<(), String> {
    out.extend(b"SET @");
    quote_name(var.name, out);
    out.extend(b":=");
    match &var.value {
        None => out.extend(b"NULL"),
        Some(value) => out.extend(user_value(value, collations)?.as_bytes()),
    }
    out.push(b';');
    Ok(())
}

fn user_value(value: &UserValue<'_>, collations: &Collations) -> Result<String, String> {
    let eight = || value.bytes.first_chunk::<8>().copied().ok_or("a number without its 8 bytes");
    Ok(match value.kind {
        UserValueKind::Int if value.unsigned => u64::from_le_bytes(eight()?).to_string(),
        UserValueKind::Int => i64::from_le_bytes(eight()?).to_string(),
        // The shortest text that gives the same double.
        UserValueKind::Real => format!("{:e}", f64::from_le_bytes(eight()?)),
        UserValueKind::Decimal => decimal(value.bytes)?,
        UserValueKind::String => {
            let collation = collations.get(&value.collation);
            let (charset, collation) =
                collation.ok_or_else(|| format!("the server has no collation {}", value.collation))?;
            format!("_{charset} X'{}' COLLATE {collation}", hex(value.bytes))
        }
    })
}

/// A packed decimal, with precision and scale in the first two bytes, as text.
///
/// Source: MySQL `strings/decimal.cc` (`decimal2bin`): groups of nine digits in four bytes big-endian, the
/// incomplete groups at both ends in fewer; the first bit is inverted, a negative number is inverted whole.
pub(super) fn decimal(packed: &[u8]) -> Result<String, String> {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let [precision, scale, digits @ ..] = packed else { return Err("a decimal without its size".into()) };
    let (precision, scale) = (usize::from(*precision), usize::from(*scale));
    let whole = precision.checked_sub(scale).ok_or("a decimal with more scale than precision")?;
    let size = |n: usize| (n / 9) * 4 + BYTES[n % 9];
    if digits.len() != size(whole) + size(scale) || digits.is_empty() {
        return Err(format!("a decimal({precision},{scale}) of {} bytes", digits.len()));
    }
    let mut bytes = digits.to_vec();
    bytes[0] ^= 0x80;
    let negative = bytes[0] & 0x80 != 0;
    if negative {
        bytes.iter_mut().for_each(|b| *b ^= 0xff);
    }
    let groups = |n: usize, leading: bool| -> Vec<usize> {
        let (full, rest) = (vec![9; n / 9], n % 9);
        let rest = (rest > 0).then_some(rest);
        if leading { rest.into_iter().chain(full).collect() } else { full.into_iter().chain(rest).collect() }
    };
    let mut at = 0;
    let mut part = |groups: Vec<usize>| {
        let mut text = String::new();
        for width in groups {
            let n = BYTES[width];
            let value = bytes[at..at + n].iter().fold(0u32, |v, b| v << 8 | u32::from(*b));
            at += n;
            text.push_str(&format!("{value:0width$}"));
        }
        text
    };
    let before = part(groups(whole, true));
    let after = part(groups(scale, false));
    let before = before.trim_start_matches('0');
    let sign = if negative { "-" } else { "" };
    let before = if before.is_empty() { "0" } else { before };
    Ok(if after.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{after}") })
}

/// The identifier of a distributed transaction as `XA` statements take it.
pub(super) fn xid(xid: &Xid<'_>) -> String {
    format!("X'{}',X'{}',{}", hex(xid.global), hex(xid.branch), xid.format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_decimals_are_read() {
        // The example of the format's own description: DECIMAL(14,4).
        let digits = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let packed = |digits: &[u8]| [&[14, 4], digits].concat();
        assert_eq!(decimal(&packed(&digits)).unwrap(), "1234567890.1234");
        let inverted: Vec<u8> = digits.iter().map(|b| !b).collect();
        assert_eq!(decimal(&packed(&inverted)).unwrap(), "-1234567890.1234");
        assert_eq!(decimal(&[3, 3, 0x80, 0x05]).unwrap(), "0.005");
        assert_eq!(decimal(&[2, 0, 0x80 + 42]).unwrap(), "42");
    }

    #[test]
    fn a_decimal_of_the_wrong_size_is_refused() {
        for bytes in [&[][..], &[3], &[3, 4, 0], &[14, 4, 0x81], &[0, 0]] {
            assert!(decimal(bytes).is_err(), "{bytes:?}");
        }
    }
}
