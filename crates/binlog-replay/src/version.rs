//! Which server wrote a binlog, or will read one: flavour and version.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The two families whose binlogs share a frame format and little else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL and its derivatives with the same binlog: Percona Server, MyRocks builds, GreatSQL.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// A server's version, read from `mysqld --version` or from a binlog's format description.
///
/// Versions compare by number within a flavour; across flavours the order means nothing, so ask
/// [`ServerVersion::at_least`].
///
/// ```
/// use binlog_replay::{Flavor, ServerVersion};
///
/// let v: ServerVersion = "mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL))".parse()?;
/// assert!(v.flavor == Flavor::MySql && v.at_least(Flavor::MySql, 8, 0, 14));
/// let v: ServerVersion = "5.5.5-10.11.6-MariaDB-log".parse()?;
/// assert_eq!((v.flavor, v.major, v.minor, v.patch), (Flavor::MariaDb, 10, 11, 6));
/// # Ok::<(), binlog_replay::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ServerVersion {
    /// The family.
    pub flavor: Flavor,
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
    /// The version as the server wrote it, without the words around it: `8.0.36-28`.
    pub text: String,
}

impl ServerVersion {
    /// Whether this is a server of `flavor` with at least this version.
    pub fn at_least(&self, flavor: Flavor, major: u16, minor: u16, patch: u16) -> bool {
        self.flavor == flavor && (self.major, self.minor, self.patch) >= (major, minor, patch)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}.{}", self.flavor, self.major, self.minor, self.patch)
    }
}

/// A text that is not what its place wants: a version, a GTID set, a position, a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {why}")]
pub struct ParseError {
    /// What was expected.
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// The part that does not fit.
    pub why: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, why: impl Into<String>) -> Self {
        Self { what, text: text.to_owned(), why: why.into() }
    }
}

impl FromStr for ServerVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("server version", text, why);
        // `mysqld --version` puts the version after "Ver"; a format description is the version itself.
        let mut words = text.split_whitespace();
        let word = match words.by_ref().find(|w| *w == "Ver") {
            Some(_) => words.next(),
            None => text.split_whitespace().next(),
        }
        .ok_or_else(|| fail("no version in it"))?;
        // A MariaDB server greets old clients with "5.5.5-" before its own version.
        let version = match word.strip_prefix("5.5.5-") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.') => rest,
            _ => word,
        };
        let mut numbers = version.splitn(3, '.');
        let mut number = |last: bool| -> Option<u16> {
            let part = numbers.next()?;
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            if !last && digits != part.len() {
                return None;
            }
            part[..digits].parse().ok()
        };
        let (Some(major), Some(minor), Some(patch)) = (number(false), number(false), number(true)) else {
            return Err(fail("expected three numbers with dots"));
        };
        // MySQL has no version 10 or above; some MariaDB packages leave their name out.
        let named = text.to_ascii_lowercase().contains("mariadb");
        let flavor = if named || major >= 10 { Flavor::MariaDb } else { Flavor::MySql };
        Ok(Self { flavor, major, minor, patch, text: version.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_families_are_read() {
        let cases = [
            ("/usr/sbin/mysqld  Ver 5.6.51-log for Linux on x86_64 (x)", Flavor::MySql, (5, 6, 51)),
            ("mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", Flavor::MySql, (9, 7, 4)),
            ("mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL))", Flavor::MySql, (8, 0, 36)),
            ("mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu", Flavor::MariaDb, (10, 11, 6)),
            ("10.5.23-17-MariaDB-enterprise-log", Flavor::MariaDb, (10, 5, 23)),
            ("5.5.5-11.4.2-MariaDB-log", Flavor::MariaDb, (11, 4, 2)),
            ("12.0.1", Flavor::MariaDb, (12, 0, 1)),
            ("5.6.35-fb", Flavor::MySql, (5, 6, 35)),
            ("5.5.5", Flavor::MySql, (5, 5, 5)),
            ("5.5.5-log", Flavor::MySql, (5, 5, 5)),
        ];
        for (text, flavor, numbers) in cases {
            let v: ServerVersion = text.parse().unwrap();
            assert_eq!((v.flavor, (v.major, v.minor, v.patch)), (flavor, numbers), "{text}");
        }
    }

    #[test]
    fn texts_without_a_version_are_refused() {
        for text in ["", "mysqld", "8.0", "a.b.c", "Ver", "8..1", "8.x0.1", "99999.1.1"] {
            assert!(text.parse::<ServerVersion>().is_err(), "{text}");
        }
    }
}
