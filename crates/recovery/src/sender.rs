//! The `dbrecover` that sends from the store: one that is there, or this one, put there for as long as it is needed.
//!
//! It never lies in the directory of the backups. It has a directory of its own among the store's temporary ones, which
//! does not outlive the recovery.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remote_exec::Host;
use tokio::sync::Mutex;

use crate::Error;
use crate::config::Config;
use crate::owned_dir::{OwnedDir, REMOVE};
use crate::worker::{Worker, only_by_sender, place, says_version, unfit, version_line};

/// Its directory's name in the directory of temporary files, as `mktemp` takes it.
const DIR: &str = "dbrecover-send-XXXXXXXXXX";
/// Its own name there.
const NAME: &str = "dbrecover";

/// Says where temporary files go, if a program that is written there runs.
const PROBE: &str = r#"umask 077; trap : HUP INT PIPE TERM; t=${TMPDIR:-/tmp}; d=$(mktemp -d -- "$t/$1") || exit 1
printf '#!/bin/sh\n' >"$d/x" && chmod 700 "$d/x" && "$d/x"; s=$?; trap '' HUP INT PIPE TERM; rm -rf -- "$d"
[ $s = 0 ] && printf %s "$t""#;

/// Who is to send, and why.
pub(crate) async fn look(
    config: &Config,
    store: &Host,
    this: Option<&Path>,
) -> Result<(Option<Worker>, String), Error> {
    if let Some(path) = &config.misc.worker_path
        && says_version(store, Path::new(path)).await?
    {
        return Ok((Some(Worker { path: path.into(), put: false }), format!("worker {path}: worker-path")));
    }
    if let Some((worker, reason)) = Worker::installed(store, this).await? {
        return Ok((Some(worker), reason));
    }
    if let Some(reason) = unfit(store, this).await? {
        return Ok((None, format!("stock tools: {reason}")));
    }
    Ok(match temporary(store, this).await? {
        Ok(dir) => {
            let sentence =
                format!("worker: put into {} of {} for as long as it sends", dir.display(), store.name());
            (Some(Worker { path: dir.join(DIR).join(NAME), put: true }), sentence)
        }
        Err(reason) => {
            let sentence = format!("stock tools: no {} on {}, and {reason}", version_line(), store.name());
            (None, sentence)
        }
    })
}

/// Where a host has its temporary files, or why this program cannot be one of them.
async fn temporary(host: &Host, this: Option<&Path>) -> Result<Result<PathBuf, String>, Error> {
    let said = host.command("sh").args(["-c", PROBE, "sh", DIR]).output().await?;
    if !said.status.success() {
        // A shell's complaint ends with the system's words.
        let words = String::from_utf8_lossy(&said.stderr);
        let why = words.trim().rsplit(": ").next().unwrap_or_default();
        return Ok(Err(format!("its directory of temporary files takes no programs: {why}")));
    }
    let dir = Path::new(OsStr::from_bytes(&said.stdout)).to_owned();
    let size = match this {
        Some(this) => tokio::fs::metadata(this).await.map_or(0, |program| program.len()),
        None => 0,
    };
    let free = host.files().free_bytes(&dir).await?;
    Ok(if free < size { Err(format!("there are {free} bytes free in {}", dir.display())) } else { Ok(dir) })
}

/// The sending program of one recovery.
#[derive(Debug)]
pub(crate) struct Sender {
    store: Host,
    worker: Option<Worker>,
    program: Option<PathBuf>,
    /// Nobody can do without it: it compresses, or holds a limit.
    needed: bool,
    place: Arc<Mutex<Place>>,
}

#[derive(Debug, Default)]
enum Place {
    /// It was not put there yet.
    #[default]
    Nowhere,
    /// It lies in this directory, or is being written there.
    In { dir: Box<OwnedDir>, whole: bool },
    /// It could not be put there.
    GivenUp,
}

impl Sender {
    /// The one that was planned. Nothing is put anywhere before somebody asks for its path.
    pub(crate) fn new(
        store: &Host,
        worker: Option<&Worker>,
        program: Option<&Path>,
        config: &Config,
    ) -> Self {
        Self {
            store: store.clone(),
            worker: worker.cloned(),
            program: program.map(Path::to_owned),
            needed: only_by_sender(config).is_some(),
            place: Arc::default(),
        }
    }

    /// Where it lies; `None`: the stock tools send. `warn` is told when it cannot be put there.
    ///
    /// # Errors
    ///
    /// If it cannot be put there, and nobody can do without it.
    pub(crate) async fn path(&self, warn: impl FnOnce(String)) -> Result<Option<PathBuf>, Error> {
        let Some(worker) = &self.worker else { return Ok(None) };
        if !worker.put {
            return Ok(Some(worker.path.clone()));
        }
        match self.put(&worker.path).await {
            Err(error) if !self.needed => {
                self.remove().await;
                *self.place.lock().await = Place::GivenUp;
                warn(format!("{error}; the stock tools of {} send", self.store.name()));
                Ok(None)
            }
            result => result,
        }
    }

    async fn put(&self, template: &Path) -> Result<Option<PathBuf>, Error> {
        let mut guard = self.place.clone().lock_owned().await;
        if let Place::Nowhere = *guard {
            let (store, template) = (self.store.clone(), template.parent().map(Path::to_owned));
            // To its end, even when the recovery is cancelled meanwhile: what is made must have its owner.
            let made = tokio::spawn(async move {
                let made = OwnedDir::make(&store, &template.unwrap_or_default()).await;
                made.map(|dir| {
                    *guard = Place::In { dir: Box::new(dir), whole: false };
                    guard
                })
            });
            guard = made
                .await
                .map_err(|e| Error::Unexpected { what: "a task".to_owned(), text: e.to_string() })??;
        }
        let Place::In { dir, whole } = &mut *guard else { return Ok(None) };
        let path = dir.path().join(NAME);
        if !*whole {
            place(&self.store, &path, self.program.as_deref()).await?;
            *whole = true;
        }
        Ok(Some(path))
    }

    /// Whether it was put there and is there no more, as when its owner's connection was lost. It is put there again when
    /// somebody asks for its path.
    pub(crate) async fn is_lost(&self) -> bool {
        let path = match &*self.place.lock().await {
            Place::In { dir, .. } => dir.path().join(NAME),
            Place::Nowhere | Place::GivenUp => return false,
        };
        let lost = matches!(self.store.files().exists(path).await, Ok(false));
        if lost {
            self.remove().await;
        }
        lost
    }

    /// Removes what was put there. Nothing of it is left when this returns, unless the host cannot be reached.
    pub(crate) async fn remove(&self) {
        let removed = async {
            if let Place::In { dir, .. } = std::mem::take(&mut *self.place.lock().await) {
                dir.remove().await;
            }
        };
        // It may be on its way there, and the way may hang.
        let _ = tokio::time::timeout(REMOVE, removed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender to be put below a directory of this machine, and a program that says what one must.
    fn sender(dir: &Path, says: &str, needed: bool) -> Sender {
        let program = dir.join("program");
        std::fs::write(&program, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::create_dir_all(dir.join("tmp")).unwrap();
        let worker = Worker { path: dir.join("tmp").join(DIR).join(NAME), put: true };
        let (store, place) = (Host::local(), Arc::default());
        Sender { store, worker: Some(worker), program: Some(program), needed, place }
    }

    fn left(dir: &Path) -> usize {
        std::fs::read_dir(dir.join("tmp")).unwrap().count()
    }

    #[tokio::test]
    async fn sender_is_there_until_it_is_removed_and_again_when_it_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let sender = sender(dir.path(), &version_line(), false);
        let path = sender.path(|why| panic!("{why}")).await.unwrap().unwrap();
        assert_eq!(sender.path(|_| ()).await.unwrap().unwrap(), path, "it is put there once");
        assert!(!sender.is_lost().await);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(sender.is_lost().await);
        assert!(sender.path(|_| ()).await.unwrap().unwrap().exists());
        assert_eq!(left(dir.path()), 1);
        sender.remove().await;
        assert_eq!(left(dir.path()), 0);
    }

    #[tokio::test]
    async fn sender_that_does_not_run_there_is_replaced_by_the_stock_tools_unless_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let replaced = sender(dir.path(), "no such version", false);
        let mut why = String::new();
        assert_eq!(replaced.path(|words| why = words).await.unwrap(), None);
        assert!(why.contains("does not run there"), "{why}");
        assert_eq!(left(dir.path()), 0);
        assert_eq!(replaced.path(|why| panic!("told twice: {why}")).await.unwrap(), None);
        let needed = sender(dir.path(), "no such version", true);
        assert!(needed.path(|why| panic!("{why}")).await.is_err());
        needed.remove().await;
        assert_eq!(left(dir.path()), 0);
    }

    #[tokio::test]
    async fn directory_of_temporary_files_is_tried() {
        let host = Host::local();
        let here = temporary(&host, None).await.unwrap().unwrap();
        assert_eq!(here, std::env::temp_dir());
        let none =
            host.command("sh").env("TMPDIR", "/proc").args(["-c", PROBE, "sh", DIR]).output().await.unwrap();
        assert!(!none.status.success());
    }
}
