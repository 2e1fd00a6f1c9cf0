//! How a program ended, in the one convention that every host can tell.

use std::fmt;
use std::os::unix::process::ExitStatusExt;

/// The exit status of a program as a POSIX shell shows it in `$?`: 0 to 255, and 128 + n for a program that signal n ended.
///
/// A shell cannot tell `exit 137` from a death by signal 9, and on most hosts a shell is what reports the status, so
/// this type does not pretend to know it either: local programs are brought to the same convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u8);

impl Status {
    /// The status of a program that did its work.
    pub const SUCCESS: Self = Self(0);

    /// A status by its number.
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// Whether the program ended with 0.
    pub const fn success(self) -> bool {
        self.0 == 0
    }

    /// The number, 0 to 255.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The signal that most likely ended the program: n for a status of 128 + n, n from 1 to 31.
    pub const fn signal(self) -> Option<u8> {
        match self.0 {
            129..=159 => Some(self.0 - 128),
            _ => None,
        }
    }

    /// The status of a pipeline: the last one that is not 0, as `set -o pipefail` has it.
    pub(crate) fn of_pipeline(all: &[Self]) -> Self {
        all.iter().rev().copied().find(|s| !s.success()).unwrap_or(Self::SUCCESS)
    }
}

impl From<std::process::ExitStatus> for Status {
    fn from(status: std::process::ExitStatus) -> Self {
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(127));
        Self(code.clamp(0, 255) as u8)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => write!(f, "exit status {} (signal {signal})", self.0),
            None => write!(f, "exit status {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipeline_status_is_the_last_failure() {
        let s =
            |codes: &[u8]| Status::of_pipeline(&codes.iter().map(|c| Status(*c)).collect::<Vec<_>>()).code();
        assert_eq!(s(&[0, 0]), 0);
        assert_eq!(s(&[2, 3, 0]), 3);
        assert_eq!(s(&[141, 0, 0]), 141);
    }

    #[test]
    fn signal_deaths_follow_the_shell() {
        let killed = std::process::ExitStatus::from_raw(9);
        assert_eq!(Status::from(killed).code(), 137);
        assert_eq!(Status::from(killed).signal(), Some(9));
        assert_eq!(Status::new(255).signal(), None);
    }
}
