//! Names of directories that are made of other texts.

/// The text with everything but letters, digits and `.` as `_`.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
}

/// What tells names apart that would be alike or too long. FNV-1a, 64 bits: the same bytes give the same name in every
/// version.
pub(crate) fn mark(bytes: impl IntoIterator<Item = u8>) -> String {
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_gives_the_same_name_in_every_version() {
        assert_eq!(plain("2021-01-28 12:16:00.5/é"), "2021_01_28_12_16_00.5__");
        assert_eq!(mark(*b""), "cbf29ce484222325");
        assert_eq!(mark(*b"foobar"), "85944171f73967e8");
    }
}
