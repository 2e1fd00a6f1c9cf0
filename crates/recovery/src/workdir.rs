//! The work directory of one recovery: marker, lock, journal, and the rename that comes last.
//!
//! ```text
//! WORK-DIR/.incomplete-NAME/     while the recovery runs, and after it was cut off
//! WORK-DIR/NAME/                 only after everything was proved
//!     .dbrecover                 marker: dbrecover made this directory
//!     journal.jsonl              one line per finished step, on disk before the next one begins
//!     recovery-report.json       the result
//!     datadir/SERVER/            the recovered servers
//!     datanode_base/             the database server's programs
//!     calcnode_base/             the proxy's files
//!     tmp/                       logs of every step
//!     BACKUP/…                   what else the backups hold
//! ```

use std::path::{Path, PathBuf};

use remote_exec::{Child, Host};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::journal::{EXTEND, Entry, Journal};

/// Name of the marker file.
const MARKER: &str = ".dbrecover";
/// Exit status of `flock` when somebody else holds the lock, as a number and as an argument.
const LOCKED_STATUS: u8 = 75;
const LOCKED: &str = "75";

/// What the marker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Marker {
    schema_version: u32,
    made_by: String,
    target: String,
}

/// What to do with what an earlier recovery left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// Remove what was cut off and begin anew.
    Replace,
    /// Go on where the journal of what was cut off ends.
    Resume,
    /// Take over the finished recovery of this name and replay only what is behind it.
    Extend(String),
}

/// A locked work directory.
#[derive(Debug)]
pub(crate) struct WorkDir {
    host: Host,
    /// `WORK-DIR/NAME`.
    done: PathBuf,
    /// `WORK-DIR/.incomplete-NAME`.
    path: PathBuf,
    /// The process that holds the lock, where the host can keep one.
    lock: Option<Child>,
    journal: Journal,
}

impl WorkDir {
    /// The directory in which a recovery called `name` works.
    pub(crate) fn incomplete(parent: &Path, name: &str) -> PathBuf {
        parent.join(format!(".incomplete-{name}"))
    }

    /// Makes and locks the work directory of the recovery `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another recovery holds it, [`Error::ForeignDirectory`] if something lies there
    /// that dbrecover did not make.
    pub(crate) async fn open(
        host: &Host,
        parent: &Path,
        name: &str,
        earlier: &Earlier,
    ) -> Result<Self, Error> {
        if let Earlier::Extend(from) = earlier {
            return Self::take_over(host, parent, name, from).await;
        }
        let files = host.files();
        let done = parent.join(name);
        let path = Self::incomplete(parent, name);
        for existing in [&done, &path] {
            if files.exists(existing).await? && !is_ours(host, existing).await? {
                return Err(Error::ForeignDirectory { host: host.name().to_owned(), path: existing.clone() });
            }
        }
        files.create_dir_all(parent).await?;
        let new = !files.exists(&path).await?;
        if new {
            files.create_dir_all(&path).await?;
        }
        let lock = lock(host, &path).await?;
        let mut work = Self { host: host.clone(), done, path, lock, journal: Journal::default() };
        if !new {
            match earlier {
                Earlier::Resume => work.journal = Journal::read(host, &work.path).await?,
                _ => work.empty().await?,
            }
        }
        work.mark(name).await?;
        // Servers run as another user: they pass through, but do not list.
        host.command("chmod").arg("0711").arg(&work.path).run().await?;
        for dir in ["datadir", "tmp", "datanode_base"] {
            files.create_dir_all(work.path.join(dir)).await?;
        }
        Ok(work)
    }

    /// Where the recovery works now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be found when it is done.
    pub(crate) fn done_path(&self) -> &Path {
        &self.done
    }

    /// What was finished, by this run and those before it.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Writes a finished step to the journal; on disk when this returns.
    ///
    /// # Errors
    ///
    /// If the job server cannot write it.
    pub(crate) async fn record(&self, server: &str, step: &str) -> Result<(), Error> {
        self.record_with(server, step, None).await
    }

    /// As [`WorkDir::record`], with the step's result.
    ///
    /// # Errors
    ///
    /// As [`WorkDir::record`].
    pub(crate) async fn record_with(
        &self,
        server: &str,
        step: &str,
        result: Option<serde_json::Value>,
    ) -> Result<(), Error> {
        self.journal.write(&self.host, &self.path, Entry::new(server, step, result)).await
    }

    /// Takes over the finished recovery `from` under a new name. It does not look finished from here on.
    async fn take_over(host: &Host, parent: &Path, name: &str, from: &str) -> Result<Self, Error> {
        let files = host.files();
        let finished = parent.join(from);
        let path = Self::incomplete(parent, name);
        for existing in [&parent.join(name), &path] {
            if files.exists(existing).await? && !is_ours(host, existing).await? {
                return Err(Error::ForeignDirectory { host: host.name().to_owned(), path: existing.clone() });
            }
        }
        let Some(held) = lock(host, &finished).await? else {
            return Err(Error::Tool {
                host: host.name().to_owned(),
                tool: "flock".to_owned(),
                reason: "a finished recovery is extended only under a lock, and an agent keeps none"
                    .to_owned(),
            });
        };
        if files.exists(&path).await? {
            // What a cut-off recovery to the same target left; nobody may be working in it.
            let theirs = lock(host, &path).await?;
            files.remove_dir_all(&path).await?;
            release(theirs).await;
        }
        let mut journal = Journal::read(host, &finished).await?;
        // First the line, then the name: a directory that is under way always says what it came from.
        journal.write(host, &finished, Entry::new("", &format!("{EXTEND}{from}"), None)).await?;
        journal.take_over(from);
        files.rename(&finished, &path).await?;
        let done = parent.join(name);
        let work = Self { host: host.clone(), done, path, lock: Some(held), journal };
        work.mark(name).await?;
        Ok(work)
    }

    /// Writes the marker.
    async fn mark(&self, name: &str) -> Result<(), Error> {
        let marker = Marker {
            schema_version: 1,
            made_by: format!("dbrecover {}", env!("CARGO_PKG_VERSION")),
            target: name.to_owned(),
        };
        let marker = serde_json::to_vec_pretty(&marker).unwrap_or_default();
        Ok(self.host.files().write(self.path.join(MARKER), marker, 0o644).await?)
    }

    /// Removes what an earlier run left; the directory itself stays, its lock is on it.
    async fn empty(&self) -> Result<(), Error> {
        self.host
            .command("find")
            .arg(&self.path)
            .args(["-mindepth", "1", "-maxdepth", "1", "!", "-name", MARKER])
            .args(["-exec", "rm", "-rf", "--", "{}", "+"])
            .run()
            .await?;
        Ok(())
    }

    /// Puts the finished recovery under its name, in place of an earlier finished one.
    ///
    /// # Errors
    ///
    /// If a rename fails; the earlier one is then still there.
    pub(crate) async fn finish(mut self) -> Result<PathBuf, Error> {
        let files = self.host.files();
        let replaced = self.path.with_extension("replaced");
        self.host.command("sync").arg("-f").arg(&self.path).run().await?;
        let earlier = files.exists(&self.done).await?;
        if earlier {
            files.rename(&self.done, &replaced).await?;
        }
        files.rename(&self.path, &self.done).await?;
        self.unlock().await;
        if earlier {
            files.remove_dir_all(&replaced).await?;
        }
        Ok(self.done)
    }

    /// Lets go of the directory and leaves it as it is; but a finished recovery that was taken over gets its name
    /// back if none of its servers was started.
    pub(crate) async fn abandon(mut self) {
        if let Some(from) = self.journal.extends()
            && !self.journal.any_replay_begun()
            && let Some(finished) = self.done.parent().map(|parent| parent.join(from))
        {
            // If this fails, the directory stays under way and --resume goes on with it.
            if self.mark(from).await.is_ok() {
                let _ = self.host.files().rename(&self.path, &finished).await;
            }
        }
        self.unlock().await;
    }

    async fn unlock(&mut self) {
        release(self.lock.take()).await;
    }
}

/// Ends the process that holds a lock.
async fn release(lock: Option<Child>) {
    if let Some(lock) = lock {
        // The holder ends at the end of its input, which waiting closes.
        let _ = lock.wait().await;
    }
}

/// Whether dbrecover made `path`: its marker is there, or nothing is.
async fn is_ours(host: &Host, path: &Path) -> Result<bool, Error> {
    if host.files().exists(path.join(MARKER)).await? {
        return Ok(true);
    }
    let empty = host.command("find").arg(path).args(["-mindepth", "1", "-print", "-quit"]).run().await?;
    let is_dir = host.command("test").arg("-d").arg(path).output().await?;
    Ok(is_dir.status.success() && empty.stdout.is_empty())
}

/// Locks a directory for as long as the returned process lives.
async fn lock(host: &Host, path: &Path) -> Result<Option<Child>, Error> {
    if !host.streams() {
        // An agent keeps no process for us: the journal and the marker are all there is.
        return Ok(None);
    }
    let mut child = host
        .command("flock")
        .args(["-n", "-E", LOCKED])
        .arg(path)
        .args(["sh", "-c", "echo locked; exec cat >/dev/null"])
        .spawn()
        .await?;
    let mut first = Vec::new();
    if let Some(stdout) = child.stdout.as_mut() {
        use tokio::io::AsyncReadExt;
        let mut buffer = [0_u8; 16];
        while !first.contains(&b'\n') {
            match stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => first.extend_from_slice(&buffer[..n]),
            }
        }
    }
    if first.starts_with(b"locked") {
        return Ok(Some(child));
    }
    drop(child.stdin.take());
    let status = child.wait().await?;
    if status.code() == LOCKED_STATUS {
        return Err(Error::Busy { host: host.name().to_owned(), path: path.to_owned() });
    }
    Err(Error::Tool {
        host: host.name().to_owned(),
        tool: "flock".to_owned(),
        reason: format!("cannot lock {} ({status})", path.display()),
    })
}
