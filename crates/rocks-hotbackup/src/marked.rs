//! Directories for work that was not ended: a mark in them says that they are this program's, and a lock on the mark that
//! somebody works there. The lock goes with the process, also when it was killed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::unfinished::{Removing, Unfinished};
use crate::{Error, private};

/// A directory of this program, as long as nobody else works in it.
#[derive(Debug)]
pub(crate) struct Marked {
    dir: PathBuf,
    name: &'static str,
    pub(crate) mark: File,
    _unfinished: Unfinished,
}

impl Marked {
    /// Takes the directory, which is made if it is missing; what it holds may be from an earlier owner. `name` is that of
    /// the mark.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if somebody works there, [`Error::Io`] also for a directory that is not this program's.
    pub(crate) fn take(dir: &Path, name: &'static str) -> Result<Self, Error> {
        let path = dir.join(name);
        loop {
            match private::create_dir(dir) {
                // An empty one: its owner ended before the mark was there.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && (path.exists() || is_fresh(dir)) => {}
                made => made.map_err(Error::io("create", dir))?,
            }
            let mark = match private::open_to_lock(&path) {
                // Its owner removes it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(Error::io("create", &path))?,
            };
            lock(&mark, dir)?;
            if same_file(&mark, &path) {
                return Ok(Self { dir: dir.to_owned(), name, mark, _unfinished: Unfinished::new(dir) });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Removes everything but the mark.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let _removing = Removing::begin();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() == self.name {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// Removes everything, the mark last: what is left when this is cut off is still this program's.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.clear()?;
        std::fs::remove_file(self.dir.join(self.name))?;
        std::fs::remove_dir(&self.dir)
    }
}

/// If it is what [`Marked::take`] makes before the mark is there: empty, and closed to others.
fn is_fresh(dir: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    dir.symlink_metadata().is_ok_and(|m| m.is_dir() && m.mode() & 0o777 == 0o700 && m.uid() == own)
        && std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Locks an opened file or directory; `dir` is for the message.
///
/// # Errors
///
/// [`Error::Busy`] if somebody else holds it. A file system without locks gives none, which is no error.
pub(crate) fn lock(file: &File, dir: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy { dir: dir.to_owned() }),
        _ => Ok(()),
    }
}

/// Device and inode: one file, whatever path leads to it.
pub(crate) type FileId = (u64, u64);

pub(crate) fn id(meta: &Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

/// If two opened files are the same one.
pub(crate) fn is_one(one: &File, other: &File) -> bool {
    matches!((one.metadata(), other.metadata()), (Ok(one), Ok(other)) if id(&one) == id(&other))
}

/// If `path` still is the name of the opened file.
pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), path.symlink_metadata()), (Ok(ours), Ok(named)) if id(&ours) == id(&named))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const MARK: &str = ".mark";

    #[test]
    fn one_at_a_time_works_in_a_directory_and_the_next_finds_what_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work");
        let first = Marked::take(&path, MARK).unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("c"), "").unwrap();
        assert!(matches!(Marked::take(&path, MARK), Err(Error::Busy { .. })));
        assert!(path.join("a/b").exists(), "the living one's work stays");
        drop(first);
        let second = Marked::take(&path, MARK).unwrap();
        assert!(path.join("a/b").exists());
        second.clear().unwrap();
        let left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [MARK]);
        std::fs::write(path.join("c"), "").unwrap();
        second.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        assert!(matches!(Marked::take(&path, MARK), Err(Error::Io { action: "create", .. })));
        assert!(!path.join(MARK).exists());
        std::fs::remove_file(path.join("file")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let result = Marked::take(&path, MARK);
        assert!(
            matches!(result, Err(Error::Io { action: "create", .. })),
            "others could read what comes there"
        );
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        Marked::take(&path, MARK).unwrap().remove().unwrap();
    }
}
