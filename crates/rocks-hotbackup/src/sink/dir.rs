//! The backup as a directory.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::descriptor::Descriptor;
use super::partial::{Name, suffixed, sync_filesystem};
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
    name: Name,
    work: Marked,
    encoding: Encoding,
    done: bool,
}

impl DirSink {
    /// Begins a backup in the directory `path`, which must not exist or be empty. What an earlier attempt left is
    /// removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], [`Error::Busy`] if another backup is being written there, [`Error::Usage`] for a link or a mount
    /// point, or [`Error::Io`].
    pub fn create(path: &Path, encoding: Encoding) -> Result<Self, Error> {
        let name = Name::here(path)?;
        if let Ok(mut entries) = std::fs::read_dir(path)
            && let Some(Ok(entry)) = entries.next()
        {
            let entry = entry.file_name().to_string_lossy().into_owned();
            return Err(Error::NotEmpty { dir: path.to_owned(), entry });
        }
        let work = Marked::take(&name.partial, UNFINISHED)?;
        work.clear().map_err(Error::io("remove", &name.partial))?;
        Ok(Self { name, work, encoding, done: false })
    }
}

/// Marks a directory that is ours and not whole, so that nothing else is ever removed.
pub(crate) const UNFINISHED: &str = ".myrocks-hotbackup-unfinished";

impl Sink for DirSink {
    fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
        let encode = member.path != Path::new(manifest::NAME);
        let encoding = if encode { self.encoding.clone() } else { Encoding::default() };
        let path = suffixed(&self.name.partial.join(&member.path), &encoding.suffix());
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
        let path = self.name.partial.join(&member.path);
        let failed = |e| Error::Io { action: "create", path: path.clone(), source: e };
        private::create_dir(&path).map_err(failed)?;
        let dir = File::open(&path).map_err(failed)?;
        dir.set_permissions(Permissions::from_mode((member.mode & 0o777) | 0o700)).map_err(failed)?;
        own(&dir, member).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let partial = &self.name.partial;
        let failed = |e| Error::Io { action: "finish", path: partial.clone(), source: e };
        sync_filesystem(partial).map_err(failed)?;
        let dir = File::open(partial).map_err(failed)?;
        std::fs::remove_file(partial.join(UNFINISHED)).map_err(failed)?;
        dir.sync_all().map_err(failed)?;
        self.done = true;
        self.name.give().map_err(failed)
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

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_empty_directory_with_a_slash_behind_its_name_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        DirSink::create(&dir.path().join("b/"), Encoding::default()).unwrap().finish().unwrap();
        assert_eq!(names(dir.path()), ["b"]);
        assert_eq!(names(&dir.path().join("b")), Vec::<String>::new());
    }

    #[test]
    fn what_no_backup_could_replace_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("empty", dir.path().join("link")).unwrap();
        // Mount points of every Linux; that they are not empty is not what is asked first.
        for path in [
            &*dir.path().join("link"),
            &dir.path().join("link/"),
            Path::new("/dev/shm"),
            Path::new("/"),
            Path::new(".."),
        ] {
            let result = DirSink::create(path, Encoding::default());
            assert!(matches!(result, Err(Error::Usage(_))), "{path:?}: {result:?}");
        }
        assert_eq!(names(dir.path()), ["empty", "link"]);
    }

    #[test]
    fn a_whole_backup_whose_name_was_taken_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut sink = DirSink::create(&path, Encoding::default()).unwrap();
        std::fs::write(sink.name.partial.join("000001.sst"), "").unwrap();
        std::fs::write(&path, "somebody else's").unwrap();
        let error = sink.finish().unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("b.partial"), "{error:?}");
        drop(sink);
        assert_eq!(
            names(&dir.path().join("b.partial")),
            ["000001.sst"],
            "and it is not marked as unfinished"
        );
    }

    #[test]
    fn what_a_living_backup_writes_is_left_alone_and_what_a_dead_one_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let living = DirSink::create(&path, Encoding::default()).unwrap();
        std::fs::write(living.name.partial.join("000001.sst"), "").unwrap();
        let second = DirSink::create(&path, Encoding::default());
        assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
        assert!(living.name.partial.join("000001.sst").exists());
        // As when it is killed: its lock is gone, its files are there.
        rustix::fs::flock(&living.work.mark, rustix::fs::FlockOperation::Unlock).unwrap();
        std::mem::forget(living);
        let mut next = DirSink::create(&path, Encoding::default()).unwrap();
        assert!(!next.name.partial.join("000001.sst").exists());
        next.finish().unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "the mark is gone");
    }
}
