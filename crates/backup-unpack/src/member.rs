//! Names of members: below their directory, whatever the archive says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Refusal;

/// Longest name of a member, in bytes; what Linux takes as a path.
pub(crate) const MAX_NAME: usize = 4096;
/// Longest component, in bytes; what file systems take.
const MAX_COMPONENT: usize = 255;

/// A relative name without empty, `.` or `..` components. Empty: the directory itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Member(Vec<u8>);

impl Member {
    /// Checks a name as an archive has it: `./a//b/` is `a/b`.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, Refusal> {
        if raw.starts_with(b"/") {
            return Err(Refusal::Absolute);
        }
        if raw.is_empty() || raw.contains(&0) {
            return Err(Refusal::BadName);
        }
        let mut clean = Vec::with_capacity(raw.len());
        for component in raw.split(|&b| b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(Refusal::Parent),
                long if long.len() > MAX_COMPONENT => return Err(Refusal::TooLong),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
        }
        if clean.len() >= MAX_NAME {
            return Err(Refusal::TooLong);
        }
        Ok(Self(clean))
    }

    /// The name without its first component, if that is `first`.
    pub(crate) fn without(&self, first: &[u8]) -> Self {
        match self.0.strip_prefix(first) {
            Some(b"") => Self::default(),
            Some([b'/', rest @ ..]) => Self(rest.to_vec()),
            _ => self.clone(),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|component| !component.is_empty())
    }

    /// Number of directories between the root and this.
    fn depth(&self) -> usize {
        self.components().count().saturating_sub(1)
    }

    /// The directory's name (empty: the root) and the last component.
    pub(crate) fn split(&self) -> (&[u8], &OsStr) {
        let (parent, name) = match self.0.iter().rposition(|&b| b == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[][..], &self.0[..]),
        };
        (parent, OsStr::from_bytes(name))
    }

    /// Whether a symbolic link called this may point to `target`.
    ///
    /// `..` is taken only at the beginning, and only as often as there are real directories above the link: a
    /// `..` behind a name would climb from wherever that name, if it is a link itself, leads.
    pub(crate) fn may_link_to(&self, target: &[u8]) -> bool {
        if target.is_empty() || target.starts_with(b"/") || target.contains(&0) || target.len() >= MAX_NAME {
            return false;
        }
        let mut climbed = 0;
        let mut descended = false;
        for component in target.split(|&b| b == b'/') {
            match component {
                b"" | b"." => {}
                b".." if descended => return false,
                b".." => climbed += 1,
                _ => descended = true,
            }
        }
        climbed <= self.depth()
    }
}

/// A name from outside, for messages.
pub(crate) fn display(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain_or_refused() {
        let plain = |raw: &str| Member::parse(raw.as_bytes()).map(|m| String::from_utf8(m.0).unwrap());
        assert_eq!(plain("./a//b/"), Ok("a/b".into()));
        assert_eq!(plain("./"), Ok("".into()));
        assert_eq!(plain("a/...b"), Ok("a/...b".into()));
        assert_eq!(plain("/a"), Err(Refusal::Absolute));
        assert_eq!(plain("a/../b"), Err(Refusal::Parent));
        assert_eq!(plain(".."), Err(Refusal::Parent));
        assert_eq!(plain(""), Err(Refusal::BadName));
        assert_eq!(plain("a\0b"), Err(Refusal::BadName));
        assert_eq!(plain(&"x".repeat(256)), Err(Refusal::TooLong));
        assert_eq!(plain(&"x/".repeat(2100)), Err(Refusal::TooLong));
    }

    #[test]
    fn first_component_goes_only_when_it_is_whole() {
        let member = Member::parse(b"UTC1-full/a/b").unwrap();
        assert_eq!(member.without(b"UTC1-full").as_bytes(), b"a/b");
        assert_eq!(member.without(b"UTC1").as_bytes(), b"UTC1-full/a/b");
        assert!(Member::parse(b"UTC1-full/").unwrap().without(b"UTC1-full").is_root());
    }

    #[test]
    fn link_climbs_no_higher_than_its_own_depth() {
        let may =
            |link: &str, target: &str| Member::parse(link.as_bytes()).unwrap().may_link_to(target.as_bytes());
        assert!(may("lib/libx.so", "libx.so.1"));
        assert!(may("share/mysql", "."));
        assert!(may("a/b/c", "../../d"));
        assert!(!may("a/b/c", "../../../d"));
        assert!(!may("a", ".."));
        assert!(!may("a", "/etc/passwd"));
        assert!(!may("a/b/c", "x/../../../.."));
        assert!(!may("a/b", "x/.."));
        assert!(!may("a", ""));
    }
}
