//! `backup.conf`: the configuration that a backup ran with.

use crate::error::Error;
use crate::ini::Ini;

/// Whether masters were backed up (`backup-master = 1` or `true`), or replicas only; `None` if the file does not say.
///
/// The key is looked for in every section.
///
/// # Errors
///
/// [`Error::Line`] if the file is no INI.
pub fn backup_master(file: &str, text: &str) -> Result<Option<bool>, Error> {
    let ini = Ini::parse(file, text)?;
    let value = ini.sections().find_map(|section| ini.get(section, "backup-master"));
    Ok(value.map(|v| v.eq_ignore_ascii_case("true") || v.parse::<u64>().is_ok_and(|n| n != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_were_backed_up_when_the_number_is_not_zero_or_the_word_is_true() {
        let read =
            |value: &str| backup_master("f", &format!("[a]\nx = 1\n[misc]\nbackup-master{value}\n")).unwrap();
        for yes in [" = 1", "=true", ": True", " = 2"] {
            assert_eq!(read(yes), Some(true), "{yes:?}");
        }
        for no in [" = 0", "=false", " = no", " = "] {
            assert_eq!(read(no), Some(false), "{no:?}");
        }
        assert_eq!(backup_master("f", "[a]\nx=1\n").unwrap(), None);
    }
}
