//! A directory that is complete, or not there under its name.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::{Error, Progress};

/// What an unfinished destination's name ends in.
const SUFFIX: &str = ".unpack-partial";

/// How long another process that fills the same destination is waited for. A receiver whose connection was cut ends
/// within three minutes, while its successor is there already.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often it is looked whether that one has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A destination under its unfinished name. Dropped before [`keep`](Self::keep), it is removed, published or not.
#[derive(Debug)]
pub(crate) struct Partial {
    destination: PathBuf,
    /// Where the directory is now; `None` when it is kept.
    at: Option<PathBuf>,
    /// The directory itself, locked: one process at a time fills a destination.
    held: File,
    /// The destination was there, empty. Whoever prepared it chose its owner and its mode.
    existed: Option<fs::Metadata>,
}

impl Partial {
    /// Makes the directory under its unfinished name. One of that name that somebody still fills is waited for; a
    /// left-over is removed.
    pub(crate) fn create(destination: &Path, progress: &Progress) -> Result<Self, Error> {
        Self::create_within(destination, progress, PATIENCE)
    }

    fn create_within(destination: &Path, progress: &Progress, patience: Duration) -> Result<Self, Error> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        // A destination that is a link stays one; what it leads to is replaced.
        let (destination, existed) = match fs::metadata(destination) {
            Ok(metadata) => {
                (fs::canonicalize(destination).map_err(fail("resolving", destination))?, Some(metadata))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (std::path::absolute(destination).map_err(fail("resolving", destination))?, None)
            }
            Err(error) => return Err(fail("opening", destination)(error)),
        };
        if existed.is_some() {
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
        if existed.is_some() && device(&destination).ok() != device(parent).ok() {
            return Err(Error::Layout {
                reason: format!("{} is a mount point; name a directory below it", destination.display()),
            });
        }
        let mut partial = OsString::from(name);
        partial.push(SUFFIX);
        let at = parent.join(partial);
        let begun = Instant::now();
        loop {
            match make(&at, existed.is_some()) {
                Ok(()) => {
                    if let Some(held) = hold(&at).map_err(fail("opening", &at))? {
                        return Ok(Self { destination, at: Some(at), held, existed });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if let Some(_held) = hold(&at).map_err(fail("opening", &at))? {
                        fs::remove_dir_all(&at).map_err(fail("removing", &at))?;
                        tracing::info!(path = %at.display(), "removed what an earlier run left");
                        continue;
                    }
                }
                Err(error) => return Err(fail("creating", &at)(error)),
            }
            if progress.is_stopped() {
                return Err(Error::Stopped);
            }
            if begun.elapsed() >= patience {
                return Err(Error::Busy { path: at });
            }
            std::thread::sleep(LOOK);
        }
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
        if !is_at(&self.held, self.path()) {
            let source = io::Error::other("it is not the directory any more that was made here");
            return Err(Error::File { action: "renaming", path: self.path().to_owned(), source });
        }
        if let Some(existed) = &self.existed {
            like(&self.held, existed).map_err(|source| Error::File {
                action: "giving its owner and mode to",
                path: self.path().to_owned(),
                source,
            })?;
        }
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
        if !is_at(&self.held, &at) {
            tracing::warn!(path = %at.display(), "somebody else removed what is unfinished");
            return;
        }
        if let Err(error) = fs::remove_dir_all(&at) {
            tracing::warn!(path = %at.display(), %error, "could not remove what is unfinished");
        }
        if let Some(existed) = self.existed.as_ref().filter(|_| at == self.destination) {
            let _ = make(&at, true).and_then(|()| like(&File::open(&at)?, existed));
        }
    }
}

/// Makes a directory; one that takes the place of another is closed until it has its owner and its mode.
fn make(path: &Path, is_closed: bool) -> io::Result<()> {
    DirBuilder::new().mode(if is_closed { 0o700 } else { 0o777 }).create(path)
}

/// Gives a directory the owner and the mode of another. Not everybody may give one away: that is told, and no error.
fn like(directory: &File, other: &fs::Metadata) -> io::Result<()> {
    let now = directory.metadata()?;
    if (now.uid(), now.gid()) != (other.uid(), other.gid())
        && let Err(error) = std::os::unix::fs::fchown(directory, Some(other.uid()), Some(other.gid()))
    {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        tracing::warn!(
            uid = other.uid(),
            gid = other.gid(),
            "a destination could not be given to its owner again"
        );
    }
    directory.set_permissions(Permissions::from_mode(other.mode() & 0o7777))
}

/// Opens and locks the directory; `None` while another process holds it, or where it has just been removed. Where
/// directories cannot be locked (NFS), nobody holds one.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => File::from(directory),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(path = %path.display(), %error, "a directory that cannot be locked");
        }
    }
    Ok(is_at(&directory, path).then_some(directory))
}

/// Whether the directory has this name.
fn is_at(directory: &File, path: &Path) -> bool {
    let is = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    directory.metadata().is_ok_and(|held| fs::symlink_metadata(path).is_ok_and(|found| is(held, found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(destination: &Path, patience: Duration) -> Result<Partial, Error> {
        Partial::create_within(destination, &Progress::default(), patience)
    }

    #[test]
    fn second_waits_for_the_first_and_keeps_all_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("data");
        let first = create(&destination, PATIENCE).unwrap();
        fs::write(first.path().join("of the first"), "1").unwrap();
        let refused = create(&destination, Duration::ZERO).unwrap_err();
        assert!(matches!(&refused, Error::Busy { path } if path == first.path()), "{refused:?}");
        assert_eq!(refused.class(), crate::Class::Unusable, "as with every other lock that somebody holds");
        assert!(first.path().join("of the first").exists(), "nothing was removed");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| create(&destination, PATIENCE).unwrap());
            drop(first);
            let mut second = waiting.join().unwrap();
            fs::write(second.path().join("of the second"), "2").unwrap();
            second.publish().unwrap();
            second.keep();
        });
        let names: Vec<_> =
            fs::read_dir(&destination).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["of the second"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn directory_that_took_its_place_is_neither_published_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("data");
        let mut first = create(&destination, PATIENCE).unwrap();
        fs::rename(first.path(), dir.path().join("moved away")).unwrap();
        let mut second = create(&destination, PATIENCE).unwrap();
        assert!(matches!(first.publish(), Err(Error::File { action: "renaming", .. })));
        drop(first);
        second.publish().unwrap();
        second.keep();
        assert!(destination.is_dir());
    }

    #[test]
    fn destination_that_was_prepared_keeps_its_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("data");
        fs::create_dir(&destination).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&destination, Some(65534), Some(65534)).unwrap();
        }
        let facts = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
        };
        for mode in [0o2750, 0o700, 0o777] {
            fs::set_permissions(&destination, Permissions::from_mode(mode)).unwrap();
            let before = facts(&destination);
            assert_eq!(before.2, mode);
            let mut partial = create(&destination, PATIENCE).unwrap();
            assert_eq!(facts(partial.path()).2 & 0o777, 0o700, "closed while it is filled");
            partial.publish().unwrap();
            assert_eq!(facts(&destination), before);
            // What is unpublished again is what was prepared.
            drop(partial);
            assert_eq!(facts(&destination), before);
        }
        let fresh = dir.path().join("fresh");
        let mut partial = create(&fresh, PATIENCE).unwrap();
        partial.publish().unwrap();
        partial.keep();
        fs::create_dir(dir.path().join("plain")).unwrap();
        assert_eq!(facts(&fresh).2, facts(&dir.path().join("plain")).2, "as everything that is made here");
    }

    #[test]
    fn waiting_ends_with_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("data");
        let _first = create(&destination, PATIENCE).unwrap();
        let progress = Progress::default();
        progress.stop();
        let stopped = Partial::create(&destination, &progress).unwrap_err();
        assert!(matches!(stopped, Error::Stopped), "{stopped:?}");
    }
}
