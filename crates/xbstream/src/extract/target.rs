//! The directory that is extracted into. Nothing is written outside it and nothing through a symbolic link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::Error;
use crate::path::display;

/// Directories kept open. Members come sorted by directory, so even one would do most of the time.
const MAX_DIRS: usize = 64;

/// Mode of a new directory and of a new file, before the umask; `mbstream` makes files with the same.
const DIR_MODE: Mode = Mode::from_raw_mode(0o770);
const FILE_MODE: Mode = Mode::from_raw_mode(0o660);

const DIR_FLAGS: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);
const NEW_FLAGS: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OLD_FLAGS);
const OLD_FLAGS: OFlags = OFlags::WRONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Longest file name most systems know, in bytes.
const MAX_NAME: usize = 255;

/// What an unfinished file's name ends in.
const PARTIAL: &str = ".partial";

#[derive(Debug)]
pub(super) struct Target {
    root: Arc<OwnedFd>,
    dirs: Mutex<HashMap<Box<[u8]>, Arc<OwnedFd>>>,
}

/// Every path given to a target was checked by [`crate::path::check`].
impl Target {
    /// Opens the directory, made with its parents if it is not there. It may be reached through links.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = |action| move |source| Error::File { action, path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(file("create directory"))?;
        let root = fs::open(path, DIR_FLAGS.difference(OFlags::NOFOLLOW), Mode::empty())
            .map_err(|e| file("open directory")(e.into()))?;
        Ok(Self { root: Arc::new(root), dirs: Mutex::default() })
    }

    /// Makes a new file under its unfinished name.
    pub(super) fn create(&self, path: &[u8], replace: bool) -> Result<File, Error> {
        let (dir, name) = self.locate(path, true)?;
        if !replace && exists(&dir, name) {
            return Err(Error::Exists { path: display(path) });
        }
        match fs::openat(&*dir, OsStr::from_bytes(&partial(name)), NEW_FLAGS, FILE_MODE) {
            Ok(fd) => Ok(File::from(fd)),
            Err(Errno::EXIST) => Err(Error::Exists { path: display(&partial(path)) }),
            Err(e) => Err(failed("create", path, e)),
        }
    }

    /// Opens an unfinished file again, for writing or for reading.
    pub(super) fn reopen(&self, path: &[u8], read: bool) -> Result<File, Error> {
        let (dir, name) = self.locate(path, false)?;
        let flags = if read { OLD_FLAGS.difference(OFlags::WRONLY) } else { OLD_FLAGS };
        let fd = fs::openat(&*dir, OsStr::from_bytes(&partial(name)), flags, Mode::empty())
            .map_err(|e| failed("open", path, e))?;
        Ok(File::from(fd))
    }

    /// Gives a finished file its name. Without `replace` a file that has it is left alone.
    pub(super) fn commit(&self, path: &[u8], replace: bool) -> Result<(), Error> {
        let (dir, name) = self.locate(path, false)?;
        let from = partial(name);
        let (from, to) = (OsStr::from_bytes(&from), OsStr::from_bytes(name));
        let done = if replace {
            fs::renameat(&*dir, from, &*dir, to)
        } else {
            match fs::renameat_with(&*dir, from, &*dir, to, RenameFlags::NOREPLACE) {
                // File systems that cannot rename conditionally can link, which never replaces.
                Err(Errno::INVAL | Errno::NOSYS) => fs::linkat(&*dir, from, &*dir, to, AtFlags::empty())
                    .and_then(|()| fs::unlinkat(&*dir, from, AtFlags::empty())),
                other => other,
            }
        };
        match done {
            Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => Err(Error::Exists { path: display(path) }),
            other => other.map_err(|e| failed("rename", path, e)),
        }
    }

    /// Removes an unfinished file, if it is there. For cleaning up: its own failure would only hide the first one.
    pub(super) fn discard(&self, path: &[u8]) {
        if let Ok((dir, name)) = self.locate(path, false) {
            let _ = fs::unlinkat(&*dir, OsStr::from_bytes(&partial(name)), AtFlags::empty());
        }
    }

    /// Renames a finished file of this extraction.
    pub(super) fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<(), Error> {
        let (from_dir, from_name) = self.locate(from, false)?;
        let (to_dir, to_name) = self.locate(to, true)?;
        if !replace && exists(&to_dir, to_name) {
            return Err(Error::Exists { path: display(to) });
        }
        fs::renameat(&*from_dir, OsStr::from_bytes(from_name), &*to_dir, OsStr::from_bytes(to_name))
            .map_err(|e| failed("rename", from, e))
    }

    /// Removes a finished file of this extraction.
    pub(super) fn remove(&self, path: &[u8]) -> Result<(), Error> {
        let (dir, name) = self.locate(path, false)?;
        fs::unlinkat(&*dir, OsStr::from_bytes(name), AtFlags::empty()).map_err(|e| failed("remove", path, e))
    }

    /// Writes everything to the disk that the directory's file system has in memory.
    pub(super) fn sync(&self, path: &Path) -> Result<(), Error> {
        fs::syncfs(&*self.root).map_err(|e| Error::File {
            action: "synchronise",
            path: path.to_owned(),
            source: e.into(),
        })
    }

    /// The directory of a file, and the file's name in it.
    fn locate<'a>(&self, path: &'a [u8], make: bool) -> Result<(Arc<OwnedFd>, &'a [u8]), Error> {
        match path.iter().rposition(|&b| b == b'/') {
            None => Ok((Arc::clone(&self.root), path)),
            Some(slash) => Ok((self.dir(&path[..slash], make)?, &path[slash + 1..])),
        }
    }

    fn dir(&self, path: &[u8], make: bool) -> Result<Arc<OwnedFd>, Error> {
        let cached = |dirs: &HashMap<Box<[u8]>, Arc<OwnedFd>>| dirs.get(path).map(Arc::clone);
        if let Some(dir) = cached(&self.dirs.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(dir);
        }
        let mut dir = Arc::clone(&self.root);
        let mut end = 0;
        for part in path.split(|&b| b == b'/') {
            end += part.len();
            dir = Arc::new(enter(&dir, part, &path[..end], make)?);
            end += 1;
        }
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if dirs.len() >= MAX_DIRS {
            dirs.clear();
        }
        dirs.insert(path.into(), Arc::clone(&dir));
        Ok(dir)
    }
}

/// Opens one directory below `dir`, made if asked for; `path` is its whole path, for messages.
fn enter(dir: &OwnedFd, name: &[u8], path: &[u8], make: bool) -> Result<OwnedFd, Error> {
    let os_name = OsStr::from_bytes(name);
    loop {
        match fs::openat(dir, os_name, DIR_FLAGS, Mode::empty()) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) if make => match fs::mkdirat(dir, os_name, DIR_MODE) {
                // Another thread made it.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(failed("create directory", path, e)),
            },
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = fs::statat(dir, os_name, AtFlags::SYMLINK_NOFOLLOW);
                let link = stat.is_ok_and(|s| fs::FileType::from_raw_mode(s.st_mode).is_symlink());
                let path = display(path);
                return Err(if link { Error::Symlink { path } } else { Error::NotADirectory { path } });
            }
            Err(e) => return Err(failed("open directory", path, e)),
        }
    }
}

fn exists(dir: impl AsFd, name: &[u8]) -> bool {
    fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// The name that a file has until it is complete. Of a name too long for an ending the front is kept, with a
/// number made from all of it.
fn partial(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let mut partial = path.to_vec();
    if path.len() - start + PARTIAL.len() > MAX_NAME {
        let number = format!("~{:08x}", crc32fast::hash(&path[start..]));
        partial.truncate(start + MAX_NAME - PARTIAL.len() - number.len());
        partial.extend_from_slice(number.as_bytes());
    }
    partial.extend_from_slice(PARTIAL.as_bytes());
    partial
}

fn failed(action: &'static str, path: &[u8], errno: Errno) -> Error {
    Error::File { action, path: display(path), source: io::Error::from(errno) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_name_of_the_longest_name_still_fits() {
        let long = [b"d/".as_slice(), &[b'n'; 255]].concat();
        let partial = partial(&long);
        assert_eq!(partial.len(), 257);
        assert!(partial.starts_with(b"d/nnn") && partial.ends_with(b".partial"));
    }

    #[test]
    fn commit_without_replace_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(dir.path()).unwrap();
        drop(target.create(b"d/a", false).unwrap());
        std::fs::write(dir.path().join("d/a"), "old").unwrap();
        assert!(matches!(target.commit(b"d/a", false), Err(Error::Exists { .. })));
        assert_eq!(std::fs::read(dir.path().join("d/a")).unwrap(), b"old");
    }
}
