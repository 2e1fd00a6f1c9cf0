//! Names of binlog files, and `backuped_binlogs`: which of them each server's backup holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Problem};

/// `BASENAME.NNNNNN`, taken apart.
///
/// The number grows past six digits, so names do not sort as text. These sort by base name and number: files of one log
/// in the order in which they were written. Displayed, they are the name again.
///
/// ```
/// use backup_catalog::BinlogName;
///
/// let name = BinlogName::parse("master-bin.999999").unwrap();
/// let next = BinlogName::parse("master-bin.1000000").unwrap();
/// assert!(name < next);
/// assert_eq!(name.next(), Some(next));
/// assert_eq!(next.to_string(), "master-bin.1000000");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BinlogName<'a> {
    base: &'a str,
    number: u64,
}

impl<'a> BinlogName<'a> {
    /// Takes a name apart; `None` if it does not end in a dot and a number as servers write it, filled up with zeros to
    /// six digits, or holds a `/`.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (base, number) = name.rsplit_once('.')?;
        let filled = number.len() == 6 || number.len() > 6 && !number.starts_with('0');
        if base.is_empty() || name.contains('/') || !filled || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self { base, number: number.parse().ok()? })
    }

    /// Whether both are files of one log.
    pub fn same_log(&self, other: &BinlogName<'_>) -> bool {
        self.base == other.base
    }

    /// The name of the file that follows, unless no number does.
    pub fn next(&self) -> Option<Self> {
        Some(Self { number: self.number.checked_add(1)?, ..*self })
    }
}

impl fmt::Display for BinlogName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.base, self.number)
    }
}

/// One line of `backuped_binlogs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBinlogs {
    /// Name of the server whose binlogs were copied.
    pub server: String,
    /// Names of the files in their order.
    pub files: Vec<String>,
}

/// Parses `backuped_binlogs`, one `SERVER:binlog1 binlog2 …` per line; empty lines are passed over.
///
/// # Errors
///
/// [`Error::Line`] for the first line that is wrong.
pub fn parse_backuped_binlogs(file: &str, content: &[u8]) -> Result<Vec<ServerBinlogs>, Error> {
    let mut servers = Vec::new();
    for (index, line) in content.split(|&b| b == b'\n').enumerate() {
        let wrong = |problem| Error::line(file, index + 1, problem);
        let text = std::str::from_utf8(line).map_err(|_| wrong(Problem::Encoding))?.trim();
        if text.is_empty() {
            continue;
        }
        let (server, names) = text
            .split_once(':')
            .filter(|(server, _)| !server.trim().is_empty())
            .ok_or_else(|| wrong(Problem::Field { field: "server", expected: "a name followed by `:`" }))?;
        let files = names.split_whitespace().map(|name| match BinlogName::parse(name) {
            Some(_) => Ok(name.to_owned()),
            None => {
                Err(wrong(Problem::Field { field: "binlog", expected: "a name with a number at its end" }))
            }
        });
        servers.push(ServerBinlogs {
            server: server.trim().to_owned(),
            files: files.collect::<Result<_, _>>()?,
        });
    }
    Ok(servers)
}

/// Whether two lists of one server's binlogs are, put together, one row without a gap.
///
/// Files that both hold are at the seam. Lists of different base names never join.
pub(crate) fn join_without_gap(earlier: &[String], later: &[String]) -> bool {
    if earlier.is_empty() || later.is_empty() {
        return false;
    }
    let Some(mut names) =
        earlier.iter().chain(later).map(|name| BinlogName::parse(name)).collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    names.sort();
    names.dedup();
    let shared = earlier.iter().any(|name| later.contains(name));
    shared && names.windows(2).all(|pair| pair[0].next() == Some(pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|n| format!("master-bin.{n:06}")).collect()
    }

    /// Names, taken apart. What replays binlogs and what backs up MyRocks are tested with the same table.
    const NAMES: [(&str, Option<(&str, u64)>); 14] = include!("../../../tests/common/binlog_names.in");

    #[test]
    fn names_end_in_a_number_of_at_least_six_digits() {
        for (name, parts) in NAMES {
            assert_eq!(BinlogName::parse(name).map(|n| (n.base, n.number)), parts, "{name:?}");
            assert!(BinlogName::parse(name).is_none_or(|parsed| parsed.to_string() == name), "{name:?}");
        }
        assert_eq!(BinlogName::parse("d/b.000001"), None);
    }

    #[test]
    fn files_of_one_log_follow_each_other_by_number() {
        let name = |text| BinlogName::parse(text).unwrap();
        let mut names = ["b.1000000", "a.000002", "b.000009", "b.999999", "b.000010"].map(name);
        names.sort();
        assert_eq!(
            names.map(|n| n.to_string()),
            ["a.000002", "b.000009", "b.000010", "b.999999", "b.1000000"]
        );
        assert_eq!(name("b.999999").next(), Some(name("b.1000000")));
        assert_eq!(name("b.18446744073709551615").next(), None);
        assert!(
            name("b.000001").same_log(&name("b.1000000")) && !name("a.000001").same_log(&name("b.000001"))
        );
    }

    #[test]
    fn lines_name_a_server_and_its_files() {
        let text = b"auth_server:master-bin.000001 master-bin.000002\nempty: \n\n";
        let servers = parse_backuped_binlogs("f", text).unwrap();
        assert_eq!(servers[0].files, names(&[1, 2]));
        assert_eq!((servers[1].server.as_str(), servers[1].files.len()), ("empty", 0));
        for (text, line) in [("a: b\n", 1), ("a:x.000001\nno colon\n", 2), (":x.000001", 1)] {
            let error = parse_backuped_binlogs("f", text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Line { line: l, .. } if l == line), "{text:?}: {error}");
        }
    }

    #[test]
    fn lists_join_only_over_a_shared_file_and_without_a_hole() {
        assert!(join_without_gap(&names(&[1, 2]), &names(&[2, 3])));
        assert!(join_without_gap(&names(&[999_999, 1_000_000]), &names(&[1_000_000, 1_000_001])));
        assert!(join_without_gap(&names(&[3, 4]), &names(&[1, 2, 3, 4, 5])));
        assert!(
            !join_without_gap(&names(&[1, 2]), &names(&[3])),
            "adjacent files may still miss events at the seam"
        );
        assert!(!join_without_gap(&names(&[1, 3]), &names(&[3, 4])));
        assert!(!join_without_gap(&names(&[1]), &[]));
        assert!(!join_without_gap(&names(&[1]), &["other-bin.000001".into(), "master-bin.000001".into()]));
    }
}
