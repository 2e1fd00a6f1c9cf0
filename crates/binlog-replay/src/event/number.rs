//! Numbers as text: doubles, and packed decimals.

use super::cursor::Malformed;

pub(super) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A double with the fewest digits that give it back.
pub(crate) fn double(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 { format!("{value:.1}") } else { format!("{value:?}") }
}

/// Bytes of so many digits less than nine.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Bytes of a packed decimal.
pub(super) fn decimal_len(precision: u8, scale: u8) -> usize {
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
}
