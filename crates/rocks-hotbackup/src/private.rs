//! Directories and files that only their maker reads: copies of a server's files are as private as those.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Makes a directory.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a file that is not there yet, to write to it.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Opens a file that somebody else may hold, to lock it; it is made if it is missing, and nothing of it is changed.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<File> {
    options().create(true).truncate(false).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)
}

/// How a file is opened for writing; what is made so is private.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}
