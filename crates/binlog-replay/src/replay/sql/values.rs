//! User variables, numbers and identifiers as SQL text that gives back the same value.

use std::collections::HashMap;

use super::settings::quote_name;
use crate::event::{UserValue, UserValueKind, UserVar, Xid, packed_decimal};
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
fn decimal(packed: &[u8]) -> Result<String, String> {
    let [precision, scale, digits @ ..] = packed else { return Err("a decimal without its size".into()) };
    packed_decimal(digits, *precision, *scale).map_err(|error| error.to_string())
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
