//! Which of the two programs wrote a stream.

use std::fmt;
use std::str::FromStr;

/// The writers share their magic and disagree on chunk type `S`: a sparse payload in Percona's, a seek in
/// MariaDB's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// Found out while reading.
    ///
    /// Types `R` and `D` and a flags byte of 2 are MariaDB's. An `S` chunk is told by what follows it: after a
    /// seek the next chunk's magic begins 8 bytes behind the path, where a sparse payload would have a
    /// length of more than 2^62 bytes. Where neither decides (the stream ends there, or an `R` or `D`
    /// chunk is marked as ignorable before anything told the writers apart) and where the signs
    /// contradict each other, reading stops with [`Error::Dialect`](crate::Error::Dialect).
    #[default]
    Auto,
    /// Percona XtraBackup: `P`, `E`, and `S` for sparse payloads.
    Percona,
    /// MariaDB's `mbstream` and `mariabackup`: `P`, `E`, `S` for seek, `R` for rename, `D` for remove.
    MariaDb,
}

impl Dialect {
    /// The name on a command line: `auto`, `percona`, `mariadb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Percona => "percona",
            Self::MariaDb => "mariadb",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::Percona, Self::MariaDb]
            .into_iter()
            .find(|dialect| dialect.name() == name)
            .ok_or_else(|| UnknownDialect(name.to_owned()))
    }
}

/// The name is none of [`Dialect`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect {0:?}, not one of auto, percona, mariadb")]
pub struct UnknownDialect(pub String);
