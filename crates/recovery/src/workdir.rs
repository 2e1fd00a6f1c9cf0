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

/// Name of the marker file.
const MARKER: &str = ".dbrecover";
/// Name of the journal.
const JOURNAL: &str = "journal.jsonl";
/// Exit status of `flock` when somebody else holds the lock, as a number and as an argument.
const LOCKED_STATUS: u8 = 75;
const LOCKED: &str = "75";
/// Largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 64 << 20;

/// What the marker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Marker {
    schema_version: u32,
    made_by: String,
    target: String,
}

/// One finished step of one server, or of the whole recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// The server's folder; empty for a step of the whole recovery.
    pub server: String,
    /// The step, such as `unpack UTC…-full`.
    pub step: String,
}

/// What to do with what an earlier, cut-off recovery left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Remove it and begin anew.
    Replace,
    /// Go on where its journal ends.
    Resume,
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
    /// What an earlier run finished.
    finished: Vec<JournalEntry>,
    journal: tokio::sync::Mutex<()>,
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
        earlier: Earlier,
    ) -> Result<Self, Error> {
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
        let mut work = Self {
            host: host.clone(),
            done,
            path,
            lock,
            finished: Vec::new(),
            journal: tokio::sync::Mutex::new(()),
        };
        if !new {
            match earlier {
                Earlier::Resume => work.finished = work.read_journal().await?,
                Earlier::Replace => work.empty().await?,
            }
        }
        let marker = Marker {
            schema_version: 1,
            made_by: format!("dbrecover {}", env!("CARGO_PKG_VERSION")),
            target: name.to_owned(),
        };
        let marker = serde_json::to_vec_pretty(&marker).unwrap_or_default();
        files.write(work.path.join(MARKER), marker, 0o644).await?;
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

    /// Whether an earlier run finished this step.
    pub(crate) fn is_finished(&self, server: &str, step: &str) -> bool {
        self.finished.iter().any(|entry| entry.server == server && entry.step == step)
    }

    /// Writes a finished step to the journal; on disk when this returns.
    ///
    /// # Errors
    ///
    /// If the job server cannot write it.
    pub(crate) async fn record(&self, server: &str, step: &str) -> Result<(), Error> {
        let entry = JournalEntry { server: server.to_owned(), step: step.to_owned() };
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        let _one_at_a_time = self.journal.lock().await;
        self.host
            .command("dd")
            .arg(os_arg("of=", &self.path.join(JOURNAL)))
            .args(["oflag=append", "conv=notrunc,fsync", "status=none"])
            .stdin_bytes(line)
            .run()
            .await?;
        Ok(())
    }

    async fn read_journal(&self) -> Result<Vec<JournalEntry>, Error> {
        let path = self.path.join(JOURNAL);
        if !self.host.files().exists(&path).await? {
            return Ok(Vec::new());
        }
        let text = self.host.files().read(&path, MAX_JOURNAL).await?;
        // A last line without its end was being written when the recovery was cut off.
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        text[..whole]
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|_| Error::Unexpected {
                    what: path.display().to_string(),
                    text: String::from_utf8_lossy(line).into_owned(),
                })
            })
            .collect()
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

    /// Lets go of the directory and leaves it as it is.
    pub(crate) async fn abandon(mut self) {
        self.unlock().await;
    }

    async fn unlock(&mut self) {
        if let Some(lock) = self.lock.take() {
            // The holder ends at the end of its input, which waiting closes.
            let _ = lock.wait().await;
        }
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

/// `PREFIX` and a path as one argument.
pub(crate) fn os_arg(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut arg = std::ffi::OsString::from(prefix);
    arg.push(path);
    arg
}
