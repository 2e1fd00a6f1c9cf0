//! The values of options: sizes, ways of compression, paths.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::Rate;

/// A path, also an empty one: for older scripts.
pub(crate) fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The level of `zstd` or `zstd:LEVEL`.
pub(crate) fn compression(text: &str) -> Result<i32, String> {
    let level = match text.split_once(':') {
        None if text == "zstd" => return Ok(3),
        Some(("zstd", level)) => level.parse().ok(),
        _ => None,
    };
    level.filter(|l| (1..=19).contains(l)).ok_or_else(|| "it is zstd or zstd:LEVEL, level 1 to 19".into())
}

/// Bytes, with K, M or G for powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bad = || "it is a number of bytes, with K, M or G for powers of 1024".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KIB" => 1u64 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(unit).filter(|n| *n > 0).ok_or_else(bad)
}

/// Seconds; before the beginning is at the beginning.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|_| "it is a number of seconds".to_owned())?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Megabytes per second; a negative number is no limit.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let number: i64 = text.parse().map_err(|_| "it is a number of megabytes".to_owned())?;
    Ok(Rate(u64::try_from(number).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("10M"), Ok(10 << 20));
        assert_eq!(size("3GiB"), Ok(3 << 30));
        assert_eq!(size("7"), Ok(7));
        for bad in ["", "M", "1T", "-1", "0", "1.5G", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compression_is_zstd_with_a_level() {
        assert_eq!(compression("zstd"), Ok(3));
        assert_eq!(compression("zstd:19"), Ok(19));
        for bad in ["gzip", "zstd:0", "zstd:20", "zstd:", "zstd:x"] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }
}
