//! Names of backups: `UTC20210205092650.735-inc`.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Full or incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whole; a chain starts here.
    Full,
    /// What changed since the backup just before it.
    Inc,
}

/// The name of one backup, which is also its folder's name.
///
/// The start time in UTC with milliseconds comes first, so names sort by time.
///
/// ```
/// use backup_catalog::{BackupName, Kind};
///
/// let name: BackupName = "UTC20210205092650.735-inc".parse()?;
/// assert_eq!(name.kind(), Kind::Inc);
/// assert_eq!(name.start().to_string(), "2021-02-05 09:26:50.735");
/// assert!("UTC20210205092650-inc".parse::<BackupName>().is_err());
/// # Ok::<(), backup_catalog::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName {
    text: String,
}

/// Bytes of `UTCyyyymmddHHMMSS.mmm`.
const STAMP: usize = 21;

impl BackupName {
    /// The name as it is written in the store.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Full or incremental.
    pub fn kind(&self) -> Kind {
        if self.text.ends_with("-full") { Kind::Full } else { Kind::Inc }
    }

    /// When the backup was started, in UTC, to the millisecond.
    pub fn start(&self) -> NaiveDateTime {
        stamp(&self.text[..STAMP]).unwrap_or_default()
    }
}

/// The time in `UTCyyyymmddHHMMSS.mmm`, or `None` if it is not one.
fn stamp(text: &str) -> Option<NaiveDateTime> {
    let digits = text.strip_prefix("UTC")?;
    let (seconds, millis) = digits.split_once('.')?;
    let all_digits = |s: &str, n| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(seconds, 14) || !all_digits(millis, 3) {
        return None;
    }
    NaiveDateTime::parse_from_str(digits, "%Y%m%d%H%M%S%.3f").ok()
}

impl FromStr for BackupName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Name { name: text.to_owned() };
        let time = text.strip_suffix("-full").or_else(|| text.strip_suffix("-inc")).ok_or_else(wrong)?;
        stamp(time).ok_or_else(wrong)?;
        Ok(Self { text: text.to_owned() })
    }
}

impl TryFrom<String> for BackupName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> Self {
        name.text
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_backup_name() {
        for good in ["UTC20210205092650.735-inc", "UTC20240229235959.000-full"] {
            assert_eq!(good.parse::<BackupName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "trash",
            "UTC20210205092650.735",
            "UTC20210205092650.735-",
            "UTC20210205092650.73-inc",
            "UTC20210205092650.7351-inc",
            "UTC20230229000000.000-full",
            "UTC20210205246050.735-inc",
            "UTC2021020509265a.735-inc",
            "utc20210205092650.735-inc",
            "UTC20210205092650.735-inc/",
            "UTC20210205092650.735-full-inc",
            " UTC20210205092650.735-inc",
            "UTC+0210205092650.735-inc",
            "UTC20210205092650,735-inc",
        ] {
            assert!(matches!(bad.parse::<BackupName>(), Err(Error::Name { .. })), "{bad:?}");
        }
    }

    #[test]
    fn names_sort_by_time_before_kind() {
        let earlier: BackupName = "UTC20210205092650.735-inc".parse().unwrap();
        let later: BackupName = "UTC20210205092650.736-full".parse().unwrap();
        assert!(earlier < later);
    }
}
