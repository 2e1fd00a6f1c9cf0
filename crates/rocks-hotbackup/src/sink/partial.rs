//! Files that have their name only when they are whole.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::output::Target;
use crate::private;

/// A file under its own name only once it is whole: until [`commit`](Partial::commit) it is `NAME.partial`, and a
/// drop before removes it.
#[derive(Debug)]
pub struct Partial {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Partial {
    /// Begins the file; what is left of an earlier attempt is replaced.
    ///
    /// # Errors
    ///
    /// If `path` exists, or the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists already"));
        }
        let partial = suffixed(path, ".partial");
        let file = private::options().create(true).truncate(true).open(&partial)?;
        Ok(Self { file, partial, path: path.to_owned(), done: false })
    }

    /// Brings the bytes to the disk and gives the file its name.
    ///
    /// # Errors
    ///
    /// If the disk or the rename fails.
    pub fn commit(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)?;
        self.done = true;
        sync_parent(&self.path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.partial);
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
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
