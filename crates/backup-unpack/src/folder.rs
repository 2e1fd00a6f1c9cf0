//! A backup that is a folder on this machine: the same members as in a tar of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::archive::Modified;
use crate::error::{Error, Refusal};
use crate::member::Member;

/// A member of the folder.
pub(crate) struct Found {
    pub(crate) member: Member,
    pub(crate) mode: u32,
    pub(crate) modified: Option<Modified>,
    /// `None`: a directory.
    pub(crate) file: Option<PathBuf>,
}

/// Calls `each` for everything below `folder`, a directory before what is in it, in the order of names.
pub(crate) fn walk(folder: &Path, each: &mut dyn FnMut(Found) -> Result<(), Error>) -> Result<(), Error> {
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = folder.join(&directory);
        let fail = |source| Error::File { action: "reading", path: path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let below = directory.join(name);
            let path = folder.join(&below);
            let raw = below.as_os_str().as_bytes();
            let metadata = fs::symlink_metadata(&path).map_err(|source| Error::File {
                action: "reading",
                path: path.clone(),
                source,
            })?;
            let member = Member::parse(raw).map_err(|why| Error::refused(raw, why))?;
            let file = match metadata.file_type() {
                kind if kind.is_file() => Some(path),
                kind if kind.is_dir() => {
                    directories.push(below);
                    None
                }
                kind if kind.is_symlink() => return Err(Error::refused(raw, Refusal::Link)),
                _ => return Err(Error::refused(raw, Refusal::UnknownKind)),
            };
            let modified = Some((metadata.mtime(), metadata.mtime_nsec() as u32));
            each(Found { member, mode: metadata.mode(), modified, file })?;
        }
    }
    Ok(())
}

/// Opens a file that [`walk`] found; a link that took its place meanwhile is not followed.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map(File::from)
        .map_err(|errno| Error::File {
            action: "opening",
            path: path.to_owned(),
            source: io::Error::from(errno),
        })
}
