//! The manifest: what a backup holds, where it comes from, and what it builds on.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checksum::Sum;
use crate::names::{self, Kind, text};
use crate::server::{Facts, LeftOut, Lock, Position};
use crate::{Checksum, Error};

/// The manifest's name in every backup. It is the last member: a backup without one was cut off, or was made by
/// another program.
pub const NAME: &str = "myrocks-hotbackup.json";

/// The version of the manifest's form.
pub const SCHEMA: u32 = 1;

/// Longest manifest that is read, in bytes: more than a million files.
pub(crate) const MAX: u64 = 512 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// The program that wrote it, with its version.
    pub program: String,
    /// The backup's own random name, 32 hexadecimal digits.
    pub id: String,
    /// The backup that an incremental one builds on.
    pub base: Option<String>,
    /// Begin and end, RFC 3339 in UTC.
    pub started: String,
    /// See [`started`](Manifest::started).
    pub finished: String,
    /// Where the data come from.
    pub server: Origin,
    /// If everything in it is of one moment: taken under one lock.
    pub consistent: bool,
    /// The lock and how long it was held.
    pub lock: Option<LockHeld>,
    /// Where the binlog was.
    pub binlog: Option<BinlogAt>,
    /// The last sequence number of RocksDB in the backup.
    pub sequence: Option<u64>,
    /// User tables of other engines that are not in the backup.
    pub left_out: Vec<LeftOut>,
    /// The kind of checksum of its files.
    pub checksum: Checksum,
    /// Directories of databases.
    #[serde(with = "paths")]
    pub directories: Vec<PathBuf>,
    /// Everything that the backup consists of, by path.
    pub files: Vec<Entry>,
}

/// Where a backup's data come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The server's version.
    pub version: String,
    /// Its own identity.
    pub uid: Option<String>,
    /// The identity of the RocksDB database, from its `IDENTITY` file. File numbers mean the same file only within
    /// one identity.
    pub rocksdb_identity: Option<String>,
    /// Where it kept RocksDB's files; not in the manifests of versions that did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
}

/// Where a server kept RocksDB's files: relative to its data directory, or absolute if they were outside of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// `@@rocksdb_datadir`.
    #[serde(with = "text")]
    pub rocksdb_datadir: PathBuf,
    /// `@@rocksdb_wal_dir`; where the data are if it is not set.
    #[serde(with = "text")]
    pub rocksdb_wal_dir: PathBuf,
}

impl Places {
    /// The places of a server.
    pub(crate) fn of(facts: &Facts) -> Self {
        let seen = |path: &Path| below(&facts.datadir, path).unwrap_or_else(|| path.to_owned());
        Self { rocksdb_datadir: seen(&facts.rocksdb_datadir), rocksdb_wal_dir: seen(&facts.rocksdb_wal_dir) }
    }
}

/// The way from `dir` down to `path`, by their names, or else by what links in them lead to.
fn below(dir: &Path, path: &Path) -> Option<PathBuf> {
    let down = |dir: &Path, path: &Path| {
        let rest = path.strip_prefix(dir).ok()?;
        let stays = rest.components().all(|part| matches!(part, Component::Normal(_)));
        stays.then(|| if rest.as_os_str().is_empty() { ".".into() } else { rest.to_owned() })
    };
    down(dir, path).or_else(|| down(&dir.canonicalize().ok()?, &path.canonicalize().ok()?))
}

/// A lock that was held for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHeld {
    /// Which one.
    pub kind: Lock,
    /// For how long, in milliseconds.
    pub milliseconds: u64,
}

/// Where the binlog was at the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogAt {
    /// Before the checkpoint. With [`exact`](BinlogAt::exact) this is the position of the data.
    pub before: Position,
    /// After the checkpoint.
    pub after: Position,
    /// If the position is that of the data: it was read under the lock. Else it is near it.
    pub exact: bool,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the backup.
    #[serde(with = "text")]
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Its checksum.
    pub sum: Sum,
    /// What it is.
    pub kind: Kind,
    /// When a data file was changed last, to the nanosecond: it never changes, so another time is another file of its name.
    /// Not known of a checkpoint that is a copy, and in manifests of versions that did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time")]
    pub modified: Option<SystemTime>,
    /// The backup that holds its bytes, if that is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A data file that was sent in an early round and that the final checkpoint no longer needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub obsolete: bool,
}

impl Entry {
    /// If a data file of this name, size and time is this one. Where a time is not known, the size decides.
    pub(crate) fn is(&self, size: u64, modified: Option<SystemTime>) -> bool {
        let other_time = self.modified.zip(modified).is_some_and(|(was, is)| was != is);
        self.size == size && !other_time
    }
}

impl Manifest {
    /// Reads a manifest from its bytes; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] if it is damaged or of a later form, or names a path twice or outside the backup.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::Manifest { path: path.to_owned(), reason };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if manifest.schema_version != SCHEMA {
            return Err(bad(format!("its form is {}, this program knows {SCHEMA}", manifest.schema_version)));
        }
        if !is_id(&manifest.id) || manifest.base.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(bad("a backup's id is not 32 hexadecimal digits".into()));
        }
        for path in manifest.files.iter().map(|f| &f.path).chain(&manifest.directories) {
            names::safe(path)?;
        }
        if let Some(Places { rocksdb_datadir, rocksdb_wal_dir }) = &manifest.server.places {
            for path in [rocksdb_datadir, rocksdb_wal_dir].into_iter().filter(|path| path.is_relative()) {
                names::safe(path)?;
            }
        }
        match manifest.twice() {
            Some(path) => Err(bad(format!("{path:?} is in it twice"))),
            None => Ok(manifest),
        }
    }

    /// Reads the manifest of the backup in a directory, or a manifest file itself.
    ///
    /// # Errors
    ///
    /// As [`parse`](Manifest::parse), and [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let path = if path.is_dir() { path.join(NAME) } else { path.to_owned() };
        let size = path.metadata().map_err(Error::io("read", &path))?.len();
        check_length(size, &path)?;
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        Self::parse(&bytes, &path)
    }

    /// The manifest as JSON.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// A path that two of its files have.
    pub(crate) fn twice(&self) -> Option<&Path> {
        let mut seen = HashSet::with_capacity(self.files.len());
        self.files.iter().map(|f| f.path.as_path()).find(|path| !seen.insert(*path))
    }

    /// Its files by path.
    pub fn by_path(&self) -> BTreeMap<&Path, &Entry> {
        self.files.iter().map(|f| (f.path.as_path(), f)).collect()
    }
}

/// Refuses a manifest that is too long to be one.
pub(crate) fn check_length(size: u64, path: &Path) -> Result<(), Error> {
    match size > MAX {
        true => {
            let reason = format!("it has {size} bytes or more, and at most {MAX} are read");
            Err(Error::Manifest { path: path.to_owned(), reason })
        }
        false => Ok(()),
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A time as RFC 3339 in UTC, to the nanosecond.
mod time {
    use std::time::SystemTime;

    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = time.map(|t| DateTime::<Utc>::from(t).to_rfc3339_opts(SecondsFormat::Nanos, true));
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let time = text.map(|text| DateTime::parse_from_rfc3339(&text)).transpose();
        time.map(|time| time.map(SystemTime::from)).map_err(serde::de::Error::custom)
    }
}

mod paths {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::names::text;

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        paths.iter().map(|p| text::write(p)).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let bad = |t: &String| serde::de::Error::custom(format!("not a path: {t:?}"));
        texts.iter().map(|t| text::read(t).ok_or_else(|| bad(t))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_comes_twice_is_refused() {
        let file =
            |path: &str| serde_json::json!({ "path": path, "size": 1, "sum": "none", "kind": "server" });
        let parse = |files: &[serde_json::Value]| {
            let json = serde_json::json!({
                "schema_version": SCHEMA, "program": "", "id": "a".repeat(32), "base": null, "started": "",
                "finished": "", "server": { "version": "", "uid": null, "rocksdb_identity": null },
                "consistent": false, "lock": null, "binlog": null, "sequence": null, "left_out": [],
                "checksum": "none", "directories": [], "files": files,
            });
            Manifest::parse(json.to_string().as_bytes(), Path::new(NAME))
        };
        parse(&[file("a"), file("b")]).unwrap();
        let error = parse(&[file("a"), file("b"), file("a")]).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn a_place_is_told_from_the_data_directory_down_if_it_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["data/#rocksdb", "outside"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("outside"), at("data/linked")).unwrap();
        for (datadir, place, expected) in [
            ("data", "data/#rocksdb", Some("#rocksdb")),
            ("data", "data", Some(".")),
            ("link", "data/#rocksdb", Some("#rocksdb")),
            // The server looks for it by this name, wherever that leads.
            ("data", "data/linked", Some("linked")),
            ("data", "data/../outside", None),
            ("data", "outside", None),
            ("data", "data2", None),
        ] {
            assert_eq!(below(&at(datadir), &at(place)), expected.map(PathBuf::from), "{datadir} {place}");
        }
    }

    #[test]
    fn a_place_that_leaves_the_data_directory_is_refused() {
        let parse = |place: &str| {
            let json = serde_json::json!({
                "schema_version": SCHEMA, "program": "", "id": "a".repeat(32), "base": null, "started": "",
                "finished": "", "server": { "version": "", "uid": null, "rocksdb_identity": null,
                "places": { "rocksdb_datadir": place, "rocksdb_wal_dir": "#rocksdb" } }, "consistent": false,
                "lock": null, "binlog": null, "sequence": null, "left_out": [], "checksum": "none",
                "directories": [], "files": [],
            });
            Manifest::parse(json.to_string().as_bytes(), Path::new(NAME))
        };
        for place in ["#rocksdb", ".", "/elsewhere"] {
            assert!(parse(place).is_ok(), "{place}");
        }
        for place in ["../x", "a/../../x", ""] {
            assert!(parse(place).is_err(), "{place:?}");
        }
    }
}
