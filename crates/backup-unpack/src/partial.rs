//! A directory that is complete, or not there under its name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// What an unfinished destination's name ends in.
const SUFFIX: &str = ".unpack-partial";

/// A destination under its unfinished name. Dropped before [`keep`](Self::keep), it is removed, published or not.
#[derive(Debug)]
pub(crate) struct Partial {
    destination: PathBuf,
    /// Where the directory is now; `None` when it is kept.
    at: Option<PathBuf>,
    /// The destination was there, empty.
    existed: bool,
}

impl Partial {
    /// Makes the directory under its unfinished name; a left-over of that name is removed.
    pub(crate) fn create(destination: &Path) -> Result<Self, Error> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        // A destination that is a link stays one; what it leads to is replaced.
        let (destination, existed) = match fs::metadata(destination) {
            Ok(_) => (fs::canonicalize(destination).map_err(fail("resolving", destination))?, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (std::path::absolute(destination).map_err(fail("resolving", destination))?, false)
            }
            Err(error) => return Err(fail("opening", destination)(error)),
        };
        if existed {
            let empty = fs::read_dir(&destination).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                return Err(Error::Exists { path: destination });
            }
        }
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(Error::Exists { path: destination });
        };
        fs::create_dir_all(parent).map_err(fail("creating", parent))?;
        // A rename to a mount point fails, and would do so only when all the work is done.
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        if existed && device(&destination).ok() != device(parent).ok() {
            return Err(Error::Layout {
                reason: format!("{} is a mount point; name a directory below it", destination.display()),
            });
        }
        let mut partial = OsString::from(name);
        partial.push(SUFFIX);
        let at = parent.join(partial);
        match fs::remove_dir_all(&at) {
            Ok(()) => tracing::info!(path = %at.display(), "removed what an earlier run left"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("removing", &at)(error)),
        }
        fs::create_dir(&at).map_err(fail("creating", &at))?;
        Ok(Self { destination, at: Some(at), existed })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        self.at.as_deref().unwrap_or(&self.destination)
    }

    /// Where it will be.
    pub(crate) fn destination(&self) -> &Path {
        &self.destination
    }

    /// Everything below it goes to the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let fail = |source| Error::File { action: "syncing", path: self.path().to_owned(), source };
        let directory = File::open(self.path()).map_err(fail)?;
        rustix::fs::syncfs(&directory).map_err(|errno| fail(errno.into()))
    }

    /// Gives it its name.
    pub(crate) fn publish(&mut self) -> Result<(), Error> {
        // An empty directory is replaced; one that was filled meanwhile is not.
        fs::rename(self.path(), &self.destination).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty => Error::Exists { path: self.destination.clone() },
            _ => Error::File { action: "renaming to", path: self.destination.clone(), source },
        })?;
        self.at = Some(self.destination.clone());
        if let Some(parent) = self.destination.parent().and_then(|parent| File::open(parent).ok()) {
            // Not every file system lets a directory be synced.
            let _ = parent.sync_all();
        }
        Ok(())
    }

    /// From now on it stays.
    pub(crate) fn keep(mut self) {
        self.at = None;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let Some(at) = self.at.take() else { return };
        if let Err(error) = fs::remove_dir_all(&at) {
            tracing::warn!(path = %at.display(), %error, "could not remove what is unfinished");
        }
        if self.existed && at == self.destination {
            let _ = fs::create_dir(&at);
        }
    }
}
