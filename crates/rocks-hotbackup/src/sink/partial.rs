//! Files that have their name only when they are whole.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::output::Target;
use crate::unfinished::Unfinished;
use crate::{Error, marked, private};

/// The name that something gets when it is whole, and the one that it has until then.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(crate) whole: PathBuf,
    pub(crate) partial: PathBuf,
}

impl Name {
    /// The name `path`, which may have slashes behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if its end is no name.
    pub(crate) fn new(path: &Path) -> Result<Self, Error> {
        let whole: PathBuf = path.components().collect();
        if whole.file_name().is_none() {
            return Err(Error::Usage(format!("{path:?} ends in no name that something new could have")));
        }
        Ok(Self { partial: suffixed(&whole, ".partial"), whole })
    }

    /// The name with something behind it.
    pub(crate) fn suffixed(&self, suffix: &str) -> PathBuf {
        suffixed(&self.whole, suffix)
    }

    /// The same on this machine, where it can be seen if anything could get the name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] also for a link and a mount point: nothing takes their place.
    pub(crate) fn here(path: &Path) -> Result<Self, Error> {
        let name = Self::new(path)?;
        let Ok(meta) = name.whole.symlink_metadata() else { return Ok(name) };
        let what = match meta.is_symlink() {
            true => "a link",
            false if parent(&name.whole).metadata().is_ok_and(|parent| parent.dev() != meta.dev()) => {
                "a mount point"
            }
            false => return Ok(name),
        };
        Err(Error::Usage(format!(
            "{path:?} is {what}, whose place a backup cannot take: name something new in it, or what it leads to"
        )))
    }

    /// Gives the whole its name, which an empty directory may have.
    ///
    /// # Errors
    ///
    /// The rename's. What is whole stays under the other name.
    pub(crate) fn give(&self) -> io::Result<()> {
        std::fs::rename(&self.partial, &self.whole).map_err(|e| self.stays(e.kind(), &e))?;
        sync_parent(&self.whole)
    }

    /// The error of a rename that failed when all else was done.
    pub(crate) fn stays(&self, kind: io::ErrorKind, why: &impl fmt::Display) -> io::Error {
        let (partial, whole) = (&self.partial, &self.whole);
        io::Error::new(
            kind,
            format!(
                "the backup is whole and stays as {partial:?}, as it cannot be renamed to {whole:?}: {why}"
            ),
        )
    }
}

/// A file under its own name only once it is whole: until [`commit`](Partial::commit) it is `NAME.partial`, and a
/// drop before removes it.
#[derive(Debug)]
pub struct Partial {
    file: File,
    name: Name,
    done: bool,
    _unfinished: Unfinished,
}

impl Partial {
    /// Begins the file; what is left of an earlier attempt is replaced. It is locked: one at a time writes it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if somebody else writes it, [`Error::Io`] if `path` exists, or the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let name = Name::new(path)?;
        let partial = &name.partial;
        loop {
            if name.whole.symlink_metadata().is_ok() {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, "the file exists already");
                return Err(Error::Io { action: "create", path: path.to_owned(), source });
            }
            let file = private::open_to_lock(partial).map_err(Error::io("create", partial))?;
            marked::lock(&file, partial)?;
            // Its owner may have given it its name, or removed it, before the lock.
            if marked::same_file(&file, partial) {
                file.set_permissions(Permissions::from_mode(0o600))
                    .and_then(|()| file.set_len(0))
                    .map_err(Error::io("create", partial))?;
                let _unfinished = Unfinished::new(partial);
                return Ok(Self { file, name, done: false, _unfinished });
            }
        }
    }

    /// If nobody took the file away.
    fn is_ours(&self) -> bool {
        marked::same_file(&self.file, &self.name.partial)
    }

    /// Brings the bytes to the disk and gives the file its name.
    ///
    /// # Errors
    ///
    /// If the disk or the rename fails. After the latter the file stays as `NAME.partial`: it is whole.
    pub fn commit(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if !self.is_ours() {
            return Err(io::Error::other("somebody else removed or replaced the unfinished file"));
        }
        self.done = true;
        self.name.give()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done && self.is_ours() {
            let _ = std::fs::remove_file(&self.name.partial);
        }
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Partial {
    fn end(&mut self) -> io::Result<()> {
        self.commit()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// `path` with `suffix` added to its name.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Brings everything that was written to the file system of `path` to the disk.
pub(crate) fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Brings the entries of the directory that holds `path` to the disk.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_writes_a_file_and_what_a_dead_one_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let partial = dir.path().join("b.partial");
        std::fs::write(&partial, "left by a dead one, and readable by all").unwrap();
        let mut first = Partial::create(&path).unwrap();
        first.write_all(b"first").unwrap();
        assert!(matches!(Partial::create(&path), Err(Error::Busy { .. })));
        assert_eq!(std::fs::read(&partial).unwrap(), b"first");
        assert_eq!(partial.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        first.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert!(
            matches!(Partial::create(&path), Err(Error::Io { .. })),
            "an existing file is never replaced"
        );
    }

    #[test]
    fn a_file_whose_name_was_taken_meanwhile_stays_whole_under_the_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut file = Partial::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = file.commit().unwrap_err();
        assert!(error.to_string().contains("b.partial"), "{error}");
        drop(file);
        assert_eq!(std::fs::read(dir.path().join("b.partial")).unwrap(), b"whole");
    }

    #[test]
    fn a_file_that_took_the_place_of_an_unfinished_one_is_neither_named_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut first = Partial::create(&path).unwrap();
        std::fs::remove_file(dir.path().join("b.partial")).unwrap();
        let second = Partial::create(&path).unwrap();
        assert!(first.commit().is_err());
        drop(first);
        assert!(!path.exists() && dir.path().join("b.partial").exists());
        drop(second);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
