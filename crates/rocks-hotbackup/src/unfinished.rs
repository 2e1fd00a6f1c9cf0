//! What a process that ends at once leaves behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static REMOVING: AtomicUsize = AtomicUsize::new(0);

/// What backups and restores of this process are writing: what is left of it if the process ends now. The next run to the same
/// place removes it, or goes on with it.
pub fn unfinished() -> Vec<PathBuf> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// If something unfinished is being removed, which takes a while for many files.
pub fn is_removing() -> bool {
    REMOVING.load(Ordering::Relaxed) > 0
}

/// A file or directory that is not whole.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    pub(crate) fn new(path: &Path) -> Self {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = live.iter().position(|path| *path == self.0) {
            live.swap_remove(at);
        }
    }
}

/// A removal, for as long as it takes.
pub(crate) struct Removing(());

impl Removing {
    pub(crate) fn begin() -> Self {
        REMOVING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        REMOVING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marked::Marked;
    use crate::sink::Partial;

    #[test]
    fn what_is_being_written_is_told_until_it_is_whole_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let told = |name: &str| unfinished().contains(&dir.path().join(name));
        let work = Marked::take(&dir.path().join("work"), ".mark").unwrap();
        let mut file = Partial::create(&dir.path().join("file")).unwrap();
        assert!(told("work") && told("file.partial"));
        work.remove().unwrap();
        drop(work);
        file.commit().unwrap();
        drop(file);
        assert!(!told("work") && !told("file.partial"));
    }
}
