//! Which file is which, by its name.
//!
//! RocksDB names its files by number: `000013.sst`, `000012.log`, `MANIFEST-000004`, `OPTIONS-000011`. The number has
//! six digits or more. `CURRENT` names the live MANIFEST.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What a file of a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// A data file of RocksDB, `NUMBER.sst` or `NUMBER.blob`. It never changes once it is there.
    Data,
    /// A write-ahead log of RocksDB, `NUMBER.log`.
    Wal,
    /// `MANIFEST-NUMBER`, `OPTIONS-NUMBER`, `CURRENT`, `IDENTITY` of RocksDB.
    Meta,
    /// A file of the server: table definitions, system tables, binlogs.
    Server,
}

/// The kind of the file `path`, which is relative to the backup.
///
/// Only names that RocksDB itself gives count: `ddl_recovery.log` and `tc.log` of MariaDB are the server's.
pub fn kind(path: &Path) -> Kind {
    let mut parts = path.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return Kind::Server };
    let name = name.as_bytes();
    let number = |bytes: &[u8]| bytes.len() >= 6 && bytes.iter().all(u8::is_ascii_digit);
    let (stem, ending) = match name.iter().rposition(|b| *b == b'.') {
        Some(dot) => (&name[..dot], &name[dot + 1..]),
        None => (name, &b""[..]),
    };
    match ending {
        b"sst" | b"blob" if number(stem) => return Kind::Data,
        b"log" if number(stem) => return Kind::Wal,
        _ => {}
    }
    let meta = name == b"CURRENT"
        || name == b"IDENTITY"
        || name.strip_prefix(b"MANIFEST-").is_some_and(number)
        || name.strip_prefix(b"OPTIONS-").is_some_and(number);
    if meta { Kind::Meta } else { Kind::Server }
}

/// The name of a member of an archive, if it stays below the target.
pub(crate) fn safe(name: &Path) -> Result<(), Error> {
    let refuse = |reason| Error::UnsafeMember { name: name.display().to_string(), reason };
    if name.as_os_str().is_empty() {
        return Err(refuse("it has no name"));
    }
    if name.as_os_str().as_bytes().contains(&0) {
        return Err(refuse("its name holds a NUL"));
    }
    for part in name.components() {
        match part {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err(refuse("it leaves the target by `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(refuse("its path is absolute")),
        }
    }
    Ok(())
}

/// A path as text that gives the same path back: bytes that are not UTF-8, and the backslash, are `\xHH`.
pub(crate) mod text {
    use std::ffi::OsString;
    use std::fmt::Write;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn write(path: &Path) -> String {
        let mut text = String::new();
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => text.push_str("\\x5c"),
                    c => text.push(c),
                }
            }
            for byte in chunk.invalid() {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    }

    pub(crate) fn read(text: &str) -> Option<PathBuf> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            bytes.extend_from_slice(&rest.as_bytes()[..at]);
            let digits = rest[at..].strip_prefix("\\x")?.get(..2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[at + 4..];
        }
        bytes.extend_from_slice(rest.as_bytes());
        Some(OsString::from_vec(bytes).into())
    }

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        read(&text).ok_or_else(|| serde::de::Error::custom(format!("not a path: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn only_names_that_rocksdb_gives_are_its_files() {
        for (name, expected) in [
            ("000013.sst", Kind::Data),
            ("1000013.sst", Kind::Data),
            ("000013.blob", Kind::Data),
            ("000012.log", Kind::Wal),
            ("MANIFEST-000004", Kind::Meta),
            ("OPTIONS-000011", Kind::Meta),
            ("CURRENT", Kind::Meta),
            ("IDENTITY", Kind::Meta),
            ("ddl_recovery.log", Kind::Server),
            ("tc.log", Kind::Server),
            ("12.log", Kind::Server),
            ("CURRENT.bak", Kind::Server),
            ("MANIFEST-x", Kind::Server),
            ("db/000013.sst", Kind::Server),
            ("aria_log.00000001", Kind::Server),
        ] {
            assert_eq!(kind(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_target_are_refused() {
        for name in ["/etc/passwd", "../x", "a/../../x", "a/..", ""] {
            assert!(safe(Path::new(name)).is_err(), "{name:?}");
        }
        for name in ["a", "a/b c", "./a", "a/..b"] {
            assert!(safe(Path::new(name)).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn every_path_survives_as_text() {
        for bytes in [&b"db/t.frm"[..], b"a\\b", b"\xff\xfe/x", "b\u{e9}z\u{fc}g".as_bytes(), b"\\x41"] {
            let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
            assert_eq!(text::read(&text::write(&path)), Some(path));
        }
        assert_eq!(text::read("\\"), None);
        assert_eq!(text::read("\\xg0"), None);
        assert_eq!(text::read("\\x\u{e9}"), None);
    }
}
