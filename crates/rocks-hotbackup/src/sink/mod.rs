//! Where a backup goes.

pub(crate) mod descriptor;
mod dir;
mod output;
pub(crate) mod partial;
pub mod remote;
mod tar;
mod xbstream;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use dir::DirSink;
pub(crate) use dir::UNFINISHED;
pub use output::{Encoding, Output, Target};
pub use partial::Partial;
pub use tar::TarSink;
pub use xbstream::XbstreamSink;

use crate::Error;
use crate::content::Content;

/// Where a backup goes: an archive, a directory, or something of one's own.
///
/// A backup gives its data files first, then WAL and RocksDB's own files, the server's other files, and its manifest
/// last; [`finish`](Sink::finish) makes it whole. A sink that is dropped before leaves nothing that looks finished.
pub trait Sink {
    /// Takes one file, all of it.
    ///
    /// # Errors
    ///
    /// The errors of the content, and [`Error::ReaderGone`], [`Error::Output`] or [`Error::Io`] of its own.
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error>;

    /// Takes a directory; it comes before the files in it. Formats without directories pass over it.
    ///
    /// # Errors
    ///
    /// As for [`file`](Sink::file).
    fn directory(&mut self, member: &Member) -> Result<(), Error> {
        let _ = member;
        Ok(())
    }

    /// Ends the backup: everything is written, and on disk where the sink owns a disk.
    ///
    /// # Errors
    ///
    /// As for [`file`](Sink::file).
    fn finish(&mut self) -> Result<(), Error>;
}

/// A file or directory of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in the backup: relative, no `..`. Data files of RocksDB have no directory.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Permissions, the lower nine bits: no file of a server is run, and archives with setuid or setgid files are refused.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub modified: SystemTime,
}

impl Member {
    /// A member that is described by a file's metadata.
    pub(crate) fn of(path: &Path, meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            path: path.to_owned(),
            size: if meta.is_dir() { 0 } else { meta.len() },
            mode: meta.mode() & 0o777,
            uid: meta.uid(),
            gid: meta.gid(),
            modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_permissions_are_taken_of_a_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.MYD");
        std::fs::write(&path, "").unwrap();
        // As after `chmod -R g+s` on a data directory.
        for (path, mode) in [(&path, 0o640), (&dir.path().to_owned(), 0o750)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o2000 | mode)).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o2000 | mode);
            assert_eq!(Member::of(Path::new("x"), &path.metadata().unwrap()).mode, mode);
        }
    }
}
