//! The directories of a server that a backup is put back to.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
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
            let entries = match std::fs::read_dir(dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::io("list", *dir))?,
            };
            for entry in entries {
                let name = entry.map_err(Error::io("list", *dir))?.file_name();
                // A target in a target, empty as well, is no obstacle.
                if !all.iter().any(|other| other.starts_with(dir.join(&name))) {
                    return Err(Error::NotEmpty {
                        dir: (*dir).to_owned(),
                        entry: name.to_string_lossy().into_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}
