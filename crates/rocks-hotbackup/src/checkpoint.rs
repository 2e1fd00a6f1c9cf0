//! Checkpoint directories: made by the server, owned by a backup, removed whatever happens.
//!
//! Everything a backup makes in the checkpoint directory begins with a name of its own,
//! `myrocks-hotbackup-<16 digits>`. A lock file of that name tells a later run whether its owner still lives: the lock
//! goes with the process, also when it was killed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::Error;
use crate::checksum::hex;
use crate::marked::same_file;
use crate::private;

const PREFIX: &str = "myrocks-hotbackup-";
const LOCK: &str = ".lock";

/// What a signal handler must remove if the backup itself cannot go on to do it.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes the checkpoints of all backups that run in this process.
///
/// For a program that must end at once, because its backup waits for a reader that does not read. A backup removes
/// its checkpoint by itself in every other case.
pub fn remove_checkpoints() {
    let live = std::mem::take(&mut *LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for stem in live {
        let _ = remove_all(&stem);
    }
}

/// The place of one backup in the checkpoint directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory with the start of all names.
    stem: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Takes a place in `dir`, which is made if it is missing, and removes what dead backups left there.
    ///
    /// A directory that this makes gets the owner of `like`: the server must be able to write there.
    pub(crate) fn open(dir: &Path, like: &Path) -> Result<(Self, Vec<PathBuf>), Error> {
        if !dir.exists() {
            if let Some(parent) = dir.parent() {
                std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            }
            match private::create_dir(dir) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made.map_err(Error::io("create", dir))?,
            }
            if rustix::process::geteuid().is_root()
                && let Ok(owner) = like.metadata()
            {
                std::os::unix::fs::chown(dir, Some(owner.uid()), Some(owner.gid()))
                    .map_err(Error::io("give away", dir))?;
            }
        }
        // The server has another working directory.
        let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
        let orphans = remove_orphans(&dir)?;
        let name = format!("{PREFIX}{}", &random_id()?[..16]);
        let stem = dir.join(name);
        // Another run that looks for orphans may remove the file between its creation and its lock.
        let lock_path = lock_path(&stem);
        let lock = loop {
            let file = private::open_to_lock(&lock_path).map_err(Error::io("create", &lock_path))?;
            flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::Io {
                action: "lock",
                path: lock_path.clone(),
                source: e.into(),
            })?;
            if same_file(&file, &lock_path) {
                break file;
            }
        };
        LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(stem.clone());
        Ok((Self { stem, _lock: lock }, orphans))
    }

    /// The checkpoint directory.
    pub(crate) fn dir(&self) -> &Path {
        self.stem.parent().unwrap_or(Path::new("/"))
    }

    /// A directory of this backup; it is not made yet.
    pub(crate) fn place(&self, name: &str) -> Place {
        let mut path = self.stem.clone().into_os_string();
        path.push(format!("-{name}"));
        Place(path.into())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = remove_all(&self.stem);
        LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|s| *s != self.stem);
    }
}

/// A directory that goes when its owner goes.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the directory and all in it.
    pub(crate) fn remove(self) -> Result<(), Error> {
        let path = self.0.clone();
        drop(self);
        match path.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// 32 random hexadecimal digits.
pub(crate) fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let path = Path::new("/dev/urandom");
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    std::io::Read::read_exact(&mut file, &mut bytes).map_err(Error::io("read", path))?;
    Ok(hex(&bytes))
}

fn lock_path(stem: &Path) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(LOCK);
    path.into()
}

/// Removes the places of backups whose process is gone, and nothing else.
fn remove_orphans(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        let Some(stem) = name.to_str().and_then(|n| n.strip_suffix(LOCK)).filter(|s| is_stem(s)) else {
            continue;
        };
        let stem = dir.join(stem);
        let lock_path = lock_path(&stem);
        let flags = OFlags::NOFOLLOW.bits() as i32;
        let Ok(lock) = OpenOptions::new().write(true).custom_flags(flags).open(&lock_path) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || !same_file(&lock, &lock_path) {
            continue;
        }
        removed.extend(remove_all(&stem).map_err(Error::io("remove", &stem))?);
    }
    Ok(removed)
}

fn is_stem(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Removes everything of one backup, its lock file last; gives the directories it removed.
fn remove_all(stem: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    let (Some(dir), Some(name)) = (stem.parent(), stem.file_name().and_then(|n| n.to_str())) else {
        return Ok(removed);
    };
    let begin = format!("{name}-");
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // The server writes into `NAME.tmp` first, so that name is covered too.
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(&begin)) && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
            removed.push(entry.path());
        }
    }
    match std::fs::remove_file(lock_path(stem)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(removed),
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
    fn a_backup_that_ends_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, _) = Workspace::open(dir.path(), dir.path()).unwrap();
        let place = workspace.place("1");
        std::fs::create_dir_all(place.path().join("x")).unwrap();
        drop(place);
        std::fs::create_dir(workspace.place("2.tmp").path()).unwrap();
        std::fs::create_dir(workspace.place("3").path()).unwrap();
        drop(workspace);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn only_orphans_of_this_program_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let orphan = "myrocks-hotbackup-0123456789abcdef";
        for name in
            [format!("{orphan}-1"), format!("{orphan}-2.tmp"), "1".into(), "myrocks-hotbackup-x-1".into()]
        {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        // Looks like ours, but no lock file says so.
        std::fs::create_dir(dir.path().join("myrocks-hotbackup-fedcba9876543210-1")).unwrap();
        File::create(dir.path().join(format!("{orphan}.lock"))).unwrap();
        let (living, removed) = Workspace::open(dir.path(), dir.path()).unwrap();
        assert_eq!(removed.len(), 2);
        std::fs::create_dir(living.place("1").0.clone()).unwrap();
        // A second run leaves the first one alone: it lives.
        let place = living.place("2");
        std::fs::create_dir(place.path()).unwrap();
        let (_second, removed) = Workspace::open(dir.path(), dir.path()).unwrap();
        assert_eq!(removed, Vec::<PathBuf>::new());
        assert!(place.path().exists());
        drop(place);
        drop(living);
        drop(_second);
        assert_eq!(names(dir.path()), ["1", "myrocks-hotbackup-fedcba9876543210-1", "myrocks-hotbackup-x-1"]);
    }
}
