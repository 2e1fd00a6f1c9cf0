//! `backup.conf`: the configuration that a backup ran with.

/// The one key that is read.
const KEY: &str = "backup-master";

/// Whether masters were backed up (`backup-master = 1` or `true`), or replicas only; `None` if the file does not say.
///
/// The key is looked for in every section. Whatever else the file holds is another program's matter.
pub fn backup_master(text: &str) -> Option<bool> {
    let value = text.lines().find_map(value_of_key)?;
    Some(value.eq_ignore_ascii_case("true") || value.parse::<u64>().is_ok_and(|n| n != 0))
}

/// The lines that [`backup_master`] reads, without those that may hold a secret.
pub(crate) fn without_secrets(text: &str) -> String {
    text.lines().filter(|line| value_of_key(line).is_some()).flat_map(|line| [line, "\n"]).collect()
}

/// The value in a line `backup-master = value`, or with `:`.
fn value_of_key(line: &str) -> Option<&str> {
    let (key, value) = line.split_once(['=', ':'])?;
    key.trim().eq_ignore_ascii_case(KEY).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_were_backed_up_when_the_number_is_not_zero_or_the_word_is_true() {
        let read = |value: &str| backup_master(&format!("[a]\nx = 1\n[misc]\nbackup-master{value}\n"));
        for yes in [" = 1", "=true", ": True", " = 2"] {
            assert_eq!(read(yes), Some(true), "{yes:?}");
        }
        for no in [" = 0", "=false", " = no", " = "] {
            assert_eq!(read(no), Some(false), "{no:?}");
        }
        assert_eq!(backup_master("[a]\nx=1\n"), None);
    }

    #[test]
    fn the_key_is_all_that_is_kept() {
        let text =
            "[m]\npassword = S3cret\nBackup-Master: 1\nbackup-master-password = S3cret\n  backup-master\n";
        assert_eq!(without_secrets(text), "Backup-Master: 1\n");
    }
}
