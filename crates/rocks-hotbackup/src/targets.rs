//! The directories of a server that a backup is put back to.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::manifest::{Manifest, Places};
use crate::names::text;

/// Where the three parts of a backup go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The server's data directory.
    #[serde(with = "text")]
    pub datadir: PathBuf,
    /// RocksDB's data directory; it may lie in the server's.
    #[serde(with = "text")]
    pub rocksdb_datadir: PathBuf,
    /// RocksDB's directory for write-ahead logs; often the same as its data directory.
    #[serde(with = "text")]
    pub rocksdb_waldir: PathBuf,
}

/// Where a restore is to put a backup. What is not given is where the server had it that was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// The server's data directory.
    pub datadir: PathBuf,
    /// RocksDB's data directory.
    pub rocksdb_datadir: Option<PathBuf>,
    /// RocksDB's directory for write-ahead logs.
    pub rocksdb_waldir: Option<PathBuf>,
}

impl Wanted {
    /// This data directory, with RocksDB's where the server had them.
    pub fn new(datadir: impl Into<PathBuf>) -> Self {
        Self { datadir: datadir.into(), rocksdb_datadir: None, rocksdb_waldir: None }
    }

    /// The directories that were given.
    pub(crate) fn given(&self) -> impl Iterator<Item = &Path> {
        let rocksdb = [&self.rocksdb_datadir, &self.rocksdb_waldir];
        std::iter::once(&*self.datadir).chain(rocksdb.into_iter().flatten().map(PathBuf::as_path))
    }

    /// Refuses directories that are in use. Before it is known where everything goes, none may hold a file; a link to an
    /// empty directory may become a target.
    pub(crate) fn check_unused(&self) -> Result<(), Error> {
        if self.rocksdb_datadir.is_some() && self.rocksdb_waldir.is_some() {
            return self.targets(None)?.check_empty();
        }
        for dir in self.given() {
            for (name, path) in entries(dir)? {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                if name == "lost+found" || holds_a_file(&real).map_err(Error::io("list", path))? {
                    return Err(not_empty(dir, &name));
                }
            }
        }
        Ok(())
    }

    /// The directories for a backup with this manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Elsewhere`] if the server had a directory outside of its data directory, and none was given for it.
    pub(crate) fn targets(&self, manifest: Option<&Manifest>) -> Result<Targets, Error> {
        let places = manifest.and_then(|manifest| manifest.server.places.as_ref());
        let place = |given: &Option<PathBuf>, what, place: &Path| match given {
            Some(given) => Ok(given.clone()),
            None if place.is_relative() => Ok(self.datadir.join(place).components().collect()),
            None => Err(Error::Elsewhere { what, path: place.to_owned() }),
        };
        let default = Path::new("#rocksdb");
        let (data, wal) = match places {
            Some(Places { rocksdb_datadir, rocksdb_wal_dir }) => (&**rocksdb_datadir, &**rocksdb_wal_dir),
            None => (default, default),
        };
        let rocksdb_datadir = place(&self.rocksdb_datadir, "RocksDB's data", data)?;
        let rocksdb_waldir = match &self.rocksdb_waldir {
            None if data == wal => rocksdb_datadir.clone(),
            given => place(given, "RocksDB's write-ahead logs", wal)?,
        };
        Ok(Targets { datadir: self.datadir.clone(), rocksdb_datadir, rocksdb_waldir })
    }

    /// If nobody said where something goes: neither the request nor the manifest.
    pub(crate) fn is_guess(&self, manifest: Option<&Manifest>) -> bool {
        let given = self.rocksdb_datadir.is_some() && self.rocksdb_waldir.is_some();
        !given && manifest.is_none_or(|manifest| manifest.server.places.is_none())
    }
}

impl Targets {
    /// The distinct directories, outer ones first.
    pub(crate) fn all(&self) -> Vec<&Path> {
        let mut all =
            vec![self.datadir.as_path(), self.rocksdb_datadir.as_path(), self.rocksdb_waldir.as_path()];
        all.sort();
        all.dedup();
        all
    }

    /// The same, independent of the working directory.
    pub(crate) fn absolute(&self) -> Result<Self, Error> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
        Ok(Self {
            datadir: absolute(&self.datadir)?,
            rocksdb_datadir: absolute(&self.rocksdb_datadir)?,
            rocksdb_waldir: absolute(&self.rocksdb_waldir)?,
        })
    }

    /// Every target must be empty or absent.
    pub(crate) fn check_empty(&self) -> Result<(), Error> {
        let targets = self.absolute()?;
        let all = targets.all();
        for dir in &all {
            for (name, path) in entries(dir)? {
                // A target in a target, empty as well, is no obstacle.
                if !all.iter().any(|other| other.starts_with(&path)) {
                    return Err(not_empty(dir, &name));
                }
            }
        }
        Ok(())
    }
}

/// The entries of a directory; none if it is missing.
fn entries(dir: &Path) -> Result<Vec<(OsString, PathBuf)>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", dir))?,
    };
    let named = |entry: std::fs::DirEntry| (entry.file_name(), entry.path());
    entries.map(|entry| entry.map(named).map_err(Error::io("list", dir))).collect()
}

fn not_empty(dir: &Path, entry: &OsStr) -> Error {
    Error::NotEmpty { dir: dir.to_owned(), entry: entry.to_string_lossy().into_owned() }
}

/// If it is anything but a directory, or has such a thing below it.
fn holds_a_file(path: &Path) -> std::io::Result<bool> {
    if !path.symlink_metadata()?.is_dir() {
        return Ok(true);
    }
    for entry in std::fs::read_dir(path)? {
        if holds_a_file(&entry?.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn manifest(places: Option<(&str, &str)>) -> Manifest {
        let places =
            places.map(|(data, wal)| serde_json::json!({"rocksdb_datadir": data, "rocksdb_wal_dir": wal}));
        let json = serde_json::json!({
            "schema_version": manifest::SCHEMA, "program": "", "id": "a".repeat(32), "base": null, "started": "",
            "finished": "", "server": { "version": "", "uid": null, "rocksdb_identity": null, "places": places },
            "consistent": false, "lock": null, "binlog": null, "sequence": null, "left_out": [], "checksum": "none",
            "directories": [], "files": [],
        });
        Manifest::parse(json.to_string().as_bytes(), Path::new(manifest::NAME)).unwrap()
    }

    fn wanted(data: Option<&str>, wal: Option<&str>) -> Wanted {
        Wanted {
            datadir: "/new".into(),
            rocksdb_datadir: data.map(PathBuf::from),
            rocksdb_waldir: wal.map(PathBuf::from),
        }
    }

    #[test]
    fn what_was_not_given_is_where_the_server_had_it() {
        for (places, given, expected) in [
            (None, (None, None), ("/new/#rocksdb", "/new/#rocksdb")),
            (None, (Some("/r"), None), ("/r", "/r")),
            (Some((".rocksdb", ".rocksdb")), (None, None), ("/new/.rocksdb", "/new/.rocksdb")),
            (Some((".rocksdb", "wal")), (None, None), ("/new/.rocksdb", "/new/wal")),
            (Some((".rocksdb", "wal")), (Some("/r"), None), ("/r", "/new/wal")),
            (Some((".", ".")), (None, None), ("/new", "/new")),
            (Some(("/rocks", "/rocks")), (Some("/r"), None), ("/r", "/r")),
            (Some(("/rocks", "/wal")), (Some("/r"), Some("/w")), ("/r", "/w")),
        ] {
            let targets = wanted(given.0, given.1).targets(Some(&manifest(places))).unwrap();
            let found = (targets.rocksdb_datadir.to_str().unwrap(), targets.rocksdb_waldir.to_str().unwrap());
            assert_eq!(found, expected, "{places:?} {given:?}");
        }
    }

    #[test]
    fn what_was_elsewhere_must_be_given() {
        for (places, given, missing) in [
            (("#rocksdb", "/wal"), (None, None), "/wal"),
            (("#rocksdb", "/wal"), (Some("/r"), None), "/wal"),
            (("/rocks", "/rocks"), (None, Some("/w")), "/rocks"),
        ] {
            let result = wanted(given.0, given.1).targets(Some(&manifest(Some(places))));
            assert!(
                matches!(&result, Err(Error::Elsewhere { path, .. }) if path == Path::new(missing)),
                "{places:?} {given:?}: {result:?}"
            );
        }
    }

    #[test]
    fn an_empty_directory_is_no_use_of_a_target_and_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { datadir: dir.path().to_owned(), ..wanted(None, None) };
        std::fs::create_dir_all(dir.path().join("#rocksdb/wal")).unwrap();
        wanted.check_unused().unwrap();
        std::fs::write(dir.path().join("#rocksdb/wal/000001.log"), "").unwrap();
        assert!(matches!(wanted.check_unused(), Err(Error::NotEmpty { .. })));
    }
}
