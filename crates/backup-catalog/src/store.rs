//! Where backups lie: anything that can list a folder and read a small file.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes at most of any file that is read into memory (16 MiB: the binlog list of a thousand busy servers).
pub const MAX_FILE: u64 = 16 << 20;

/// What an entry of a folder is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// Anything else, a broken link included.
    Other,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Last part of the path. Names that are not UTF-8 are given lossily; no file of a backup has one.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes of a file, 0 for the rest.
    pub size: u64,
}

/// A backup store. Paths are relative to its base directory, parts joined by `/`; the base itself is `""`.
pub trait Store {
    /// The entries of a folder, in any order.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such folder; whatever the store failed with.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// The whole content of a file.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file, `FileTooLarge` when it has more than `limit` bytes.
    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>>;
}

/// A store in a local directory.
#[derive(Debug, Clone)]
pub struct DirStore {
    base: PathBuf,
}

impl DirStore {
    /// The store at `base`. Nothing is looked at yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }
}

impl Store for DirStore {
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        fs::read_dir(self.base.join(dir))?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let (kind, size) = match fs::metadata(entry.path()) {
                    Ok(meta) if meta.is_file() => (EntryKind::File, meta.len()),
                    Ok(meta) if meta.is_dir() => (EntryKind::Dir, 0),
                    Ok(_) => (EntryKind::Other, 0),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => (EntryKind::Other, 0),
                    Err(e) => return Err(e),
                };
                Ok(Entry { name, kind, size })
            })
            .collect()
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(self.base.join(path))?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        within(limit, content)
    }
}

pub(crate) fn within(limit: u64, content: Vec<u8>) -> io::Result<Vec<u8>> {
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(content)
}
