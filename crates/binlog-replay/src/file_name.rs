//! Names of binlog files: `master-bin.000007`.

/// Splits `master-bin.000007`: the number is as servers write it, filled up with zeros to six digits. It grows past them, so
/// names do not sort as text; what is split does.
pub(crate) fn split_name(name: &str) -> Option<(&str, u64)> {
    let (base, number) = name.rsplit_once('.')?;
    let filled = number.len() == 6 || number.len() > 6 && !number.starts_with('0');
    let is_number = filled && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !base.is_empty()).then(|| Some((base, number.parse().ok()?)))?
}

/// The name of the file with the next number, unless there is none.
pub(crate) fn next_name(name: &str) -> Option<String> {
    let (base, number) = split_name(name)?;
    Some(format!("{base}.{:06}", number.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, taken apart. What reads stores and what backs up MyRocks are tested with the same table.
    const NAMES: [(&str, Option<(&str, u64)>); 14] = include!("../../../tests/common/binlog_names.in");

    #[test]
    fn names_end_in_a_number_of_at_least_six_digits() {
        for (name, parts) in NAMES {
            assert_eq!(split_name(name), parts, "{name:?}");
        }
    }

    #[test]
    fn the_next_name_has_the_next_number() {
        assert_eq!(next_name("b.000009").as_deref(), Some("b.000010"));
        assert_eq!(next_name("b.999999").as_deref(), Some("b.1000000"));
        assert_eq!(next_name("b.18446744073709551615"), None);
        assert_eq!(next_name("b.index"), None);
    }
}
