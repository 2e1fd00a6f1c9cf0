//! What goes where, and how.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::thread;

use xbstream::member::Decoding;

use crate::Error;

/// Where the parts of one backup go.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(crate) backup: String,
    pub(crate) work_dir: PathBuf,
    pub(crate) servers: BTreeMap<String, PathBuf>,
    pub(crate) base: Option<PathBuf>,
    pub(crate) only: Option<fn(&Path) -> bool>,
}

impl Layout {
    /// Everything but streams and base directory goes to `work_dir/backup`. The name of the backup is also what
    /// is taken off the front of a tar's members.
    pub fn new(work_dir: impl Into<PathBuf>, backup: impl Into<String>) -> Self {
        Self {
            backup: backup.into(),
            work_dir: work_dir.into(),
            servers: BTreeMap::new(),
            base: None,
            only: None,
        }
    }

    /// The stream of the server with this folder goes to `directory`: its datadir for a full backup, its
    /// incremental directory for an incremental one. Called twice for a folder, the last one counts.
    #[must_use]
    pub fn server(mut self, folder: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        self.servers.insert(folder.into(), directory.into());
        self
    }

    /// The database server's own files go below `directory`, in the one folder that their tarball holds.
    #[must_use]
    pub fn base(mut self, directory: impl Into<PathBuf>) -> Self {
        self.base = Some(directory.into());
        self
    }

    /// Only the members that `wanted` names by their paths in the backup go to `work_dir/backup`. Everything is read and
    /// checked, and the rest goes nowhere; so there is no place for a server or the base directory.
    #[must_use]
    pub fn only(mut self, wanted: fn(&Path) -> bool) -> Self {
        self.only = Some(wanted);
        self
    }

    /// Where everything else goes.
    pub(crate) fn rest(&self) -> PathBuf {
        self.work_dir.join(&self.backup)
    }

    /// All destinations.
    fn places(&self) -> impl Iterator<Item = PathBuf> {
        [self.rest()].into_iter().chain(self.servers.values().chain(&self.base).cloned())
    }

    /// Refuses destinations inside the backup that is read: it would find its own copy.
    pub(crate) fn check_outside(&self, folder: &Path) -> Result<(), Error> {
        let fail = |source| Error::File { action: "resolving", path: folder.to_owned(), source };
        let folder = folder.canonicalize().map_err(fail)?;
        for place in self.places() {
            let absolute = std::path::absolute(&place).map_err(fail)?;
            // What is not there yet is where the nearest directory above it is.
            let above = absolute.ancestors().find_map(|above| above.canonicalize().ok());
            if above.is_some_and(|above| above.starts_with(&folder)) {
                let (place, folder) = (place.display(), folder.display());
                return Err(Error::Layout { reason: format!("{place} is inside the backup {folder}") });
            }
        }
        Ok(())
    }

    /// Refuses names that are none, and destinations that would be in each other's way.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |reason| Err(Error::Layout { reason });
        if self.only.is_some() && (!self.servers.is_empty() || self.base.is_some()) {
            return wrong(
                "where only some members are wanted, no server and no base directory has a place".into(),
            );
        }
        for name in self.servers.keys().chain([&self.backup]) {
            let mut components = Path::new(name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name.as_str())
            {
                return wrong(format!("{name:?} is no name of a folder"));
            }
        }
        let mut absolute = Vec::new();
        for place in self.places() {
            match std::path::absolute(&place) {
                Ok(path) => absolute.push(path),
                Err(source) => return Err(Error::File { action: "resolving", path: place, source }),
            }
        }
        for (i, one) in absolute.iter().enumerate() {
            for other in &absolute[i + 1..] {
                if one.starts_with(other) || other.starts_with(one) {
                    let [one, other] = [one, other].map(|path| path.display());
                    return wrong(format!("the destinations {one} and {other} are in each other's way"));
                }
            }
        }
        Ok(())
    }
}

/// How to unpack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Threads that decompress and write the files of one stream; by default one for each processor.
    pub threads: usize,
    /// Servers whose streams are extracted side by side, where the source is a folder; by default 1. What comes
    /// through a pipe has one order.
    pub parallel: usize,
    /// Which members of a stream are undone; by default all compression.
    pub decoding: Decoding,
    /// Whether everything is on the disk before the destinations get their names; by default yes.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(1, |n| n.get()),
            parallel: 1,
            decoding: Decoding::none().decompress(true),
            sync: true,
        }
    }
}
