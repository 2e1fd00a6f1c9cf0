//! Version numbers of tools and servers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `major.minor.patch`; what follows (`-30`, `-MariaDB-0+deb12u1-log`) is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the numbers at the start of `text`; `None` unless there are three.
    ///
    /// MariaDB servers may put `5.5.5-` before theirs, for old replicas; that is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("5.5.5-").unwrap_or(text.trim());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|n| n.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
