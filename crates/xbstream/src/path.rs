//! Which member names may become files.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::Error;

/// Why a member's name may not become a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsafe {
    /// No name at all.
    Empty,
    /// It begins with `/`.
    Absolute,
    /// It has a component `..`.
    Parent,
    /// It has an empty component or `.`, or ends in `/`: another spelling of a different name.
    NotPlain,
    /// It contains a NUL byte, at which the system would cut it.
    Nul,
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::Absolute => "the name is absolute",
            Self::Parent => "the name leads out of the target directory",
            Self::NotPlain => "the name has an empty component or \".\"",
            Self::Nul => "the name contains a NUL byte",
        })
    }
}

/// The first rule that `path` breaks.
pub(crate) fn problem(path: &[u8]) -> Option<Unsafe> {
    if path.is_empty() {
        return Some(Unsafe::Empty);
    }
    if path.contains(&0) {
        return Some(Unsafe::Nul);
    }
    if path[0] == b'/' {
        return Some(Unsafe::Absolute);
    }
    path.split(|&b| b == b'/').find_map(|part| match part {
        b".." => Some(Unsafe::Parent),
        b"" | b"." => Some(Unsafe::NotPlain),
        _ => None,
    })
}

/// Refuses a path that must not become a file.
pub(crate) fn check(path: &[u8]) -> Result<(), Error> {
    match problem(path) {
        None => Ok(()),
        Some(why) => Err(Error::UnsafePath { path: display(path), why }),
    }
}

/// The path for a message or a report.
pub(crate) fn display(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_names_are_accepted() {
        for name in ["a", "d/t.ibd", "...", "d/..a", "库/表#P#p0.ibd", "a b"] {
            assert_eq!(problem(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn every_name_that_could_land_elsewhere_is_refused_by_its_rule() {
        for (name, why) in [
            ("", Unsafe::Empty),
            ("/etc/passwd", Unsafe::Absolute),
            ("..", Unsafe::Parent),
            ("../x", Unsafe::Parent),
            ("a/../../x", Unsafe::Parent),
            ("a/..", Unsafe::Parent),
            ("./a", Unsafe::NotPlain),
            ("a//b", Unsafe::NotPlain),
            ("a/", Unsafe::NotPlain),
            ("a/./b", Unsafe::NotPlain),
            ("a\0b", Unsafe::Nul),
        ] {
            assert_eq!(problem(name.as_bytes()), Some(why), "{name:?}");
        }
    }
}
