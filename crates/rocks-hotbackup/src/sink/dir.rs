//! The backup as a directory.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::descriptor::Descriptor;
use super::partial::{suffixed, sync_filesystem, sync_parent};
use super::{Encoding, Member, Output, Sink};
use crate::content::Content;
use crate::manifest;
use crate::marked::Marked;
use crate::{Error, private};

/// Writes a backup as a directory of files, which gets its name when the backup is whole.
///
/// With an [`Encoding`] every file but the manifest is encoded and has the endings that say so.
#[derive(Debug)]
pub struct DirSink {
    partial: PathBuf,
    work: Marked,
    path: PathBuf,
    encoding: Encoding,
    done: bool,
}

impl DirSink {
    /// Begins a backup in the directory `path`, which must not exist or be empty. What an earlier attempt left is
    /// removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], [`Error::Busy`] if another backup is being written there, or [`Error::Io`].
    pub fn create(path: &Path, encoding: Encoding) -> Result<Self, Error> {
        if let Ok(mut entries) = std::fs::read_dir(path)
            && let Some(Ok(entry)) = entries.next()
        {
            let entry = entry.file_name().to_string_lossy().into_owned();
            return Err(Error::NotEmpty { dir: path.to_owned(), entry });
        }
        let partial = suffixed(path, ".partial");
        let work = Marked::take(&partial, UNFINISHED)?;
        work.clear().map_err(Error::io("remove", &partial))?;
        Ok(Self { partial, work, path: path.to_owned(), encoding, done: false })
    }
}

/// Marks a directory that is ours and not whole, so that nothing else is ever removed.
pub(crate) const UNFINISHED: &str = ".myrocks-hotbackup-unfinished";

impl Sink for DirSink {
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
        let encode = member.path != Path::new(manifest::NAME);
        let encoding = if encode { self.encoding.clone() } else { Encoding::default() };
        let path = suffixed(&self.partial.join(&member.path), &encoding.suffix());
        let failed = |e| Error::Io { action: "write", path: path.clone(), source: e };
        let file = private::create_file(&path).map_err(failed)?;
        // The directory as a whole is brought to the disk at the end.
        let target = Descriptor(file.try_clone().map_err(failed)?);
        let mut output = Output::new(Box::new(target), &encoding).map_err(failed)?;
        let result = output.take(content).and_then(|()| output.finish());
        result.map_err(|e| match e {
            Error::Output { source, .. } => Error::Io { action: "write", path: path.clone(), source },
            other => other,
        })?;
        file.set_permissions(Permissions::from_mode(member.mode & 0o777)).map_err(failed)?;
        file.set_modified(member.modified).map_err(failed)?;
        own(&file, member).map_err(failed)
    }

    fn directory(&mut self, member: &Member) -> Result<(), Error> {
        let path = self.partial.join(&member.path);
        let failed = |e| Error::Io { action: "create", path: path.clone(), source: e };
        private::create_dir(&path).map_err(failed)?;
        let dir = File::open(&path).map_err(failed)?;
        dir.set_permissions(Permissions::from_mode((member.mode & 0o777) | 0o700)).map_err(failed)?;
        own(&dir, member).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let failed = |e| Error::Io { action: "finish", path: self.partial.clone(), source: e };
        let marker = self.partial.join(UNFINISHED);
        sync_filesystem(&self.partial).map_err(failed)?;
        let dir = File::open(&self.partial).map_err(failed)?;
        std::fs::remove_file(&marker).map_err(failed)?;
        dir.sync_all().map_err(failed)?;
        // Replaces an empty directory of that name.
        std::fs::rename(&self.partial, &self.path).map_err(failed)?;
        self.done = true;
        sync_parent(&self.path).map_err(failed)
    }
}

/// Only root can give files away; for others the backup is theirs.
fn own(file: &File, member: &Member) -> std::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(file, Some(member.uid), Some(member.gid))?;
    }
    Ok(())
}

impl Drop for DirSink {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.work.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_living_backup_writes_is_left_alone_and_what_a_dead_one_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let living = DirSink::create(&path, Encoding::default()).unwrap();
        std::fs::write(living.partial.join("000001.sst"), "").unwrap();
        let second = DirSink::create(&path, Encoding::default());
        assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
        assert!(living.partial.join("000001.sst").exists());
        // As when it is killed: its lock is gone, its files are there.
        rustix::fs::flock(&living.work.mark, rustix::fs::FlockOperation::Unlock).unwrap();
        std::mem::forget(living);
        let mut next = DirSink::create(&path, Encoding::default()).unwrap();
        assert!(!next.partial.join("000001.sst").exists());
        next.finish().unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "the mark is gone");
    }
}
