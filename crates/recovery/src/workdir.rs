//! The work directory of one recovery: marker, lock, journal, and the rename that comes last.
//!
//! ```text
//! WORK-DIR/.incomplete-NAME/     while the recovery runs, and after it was cut off
//! WORK-DIR/.replaced-NAME/       an earlier finished one, while the new one takes its name
//! WORK-DIR/.removing-NAME/       the same, when the new one has it: nothing but to be removed
//! WORK-DIR/NAME/                 only after everything was proved
//!     .dbrecover                 marker: dbrecover made this directory
//!     journal.jsonl              one line per finished step, on disk before the next one begins
//!     recovery-report.json       the result
//!     earlier-report.json        that of the finished recovery that was taken over
//!     datadir/SERVER/            the recovered servers
//!     datanode_base/             the database server's programs
//!     calcnode_base/             the proxy's files
//!     tmp/                       logs of every step
//!     BACKUP/…                   what else the backups hold
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use remote_exec::{Child, Host, Kind};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::identity::Identity;
use crate::journal::{EXTEND, Entry, Journal};
use crate::report::{EARLIER_REPORT, REPORT};
use crate::run::unless_cancelled;
use crate::server::left_running;
use crate::worker::version_line;

/// Name of the marker file.
const MARKER: &str = ".dbrecover";
/// Largest marker that is read, in bytes: it has a line per server.
const MAX_MARKER: u64 = 16 << 20;
/// How long the far side of a connection that was lost may hold a lock: it ends what ran there after two to three minutes.
const ORPHANED: Duration = Duration::from_secs(200);

/// Exit status of `flock` when somebody else holds the lock, as a number and as an argument, and when there is nothing to lock.
const LOCKED_STATUS: u8 = 75;
const LOCKED: &str = "75";
const GONE_STATUS: u8 = 66;

/// What the marker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Marker {
    schema_version: u32,
    made_by: String,
    target: String,
    /// Of a recovery that is under way; none of what is being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery: Option<Identity>,
}

/// Version of the marker's shape.
const MARKER_VERSION: u32 = 1;

impl Marker {
    fn new(target: &str, recovery: Option<Identity>) -> Self {
        let (schema_version, made_by) = (MARKER_VERSION, version_line());
        Self { schema_version, made_by, target: target.to_owned(), recovery }
    }

    async fn write(&self, host: &Host, dir: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(host.files().write(dir.join(MARKER), json, 0o644).await?)
    }

    /// Says of what lies in `dir` that nobody can go on with it; on disk when this returns.
    async fn give_up(host: &Host, dir: &Path) -> Result<(), Error> {
        let target = dir.file_name().unwrap_or_default().to_string_lossy();
        Self::new(&target, None).write(host, dir).await?;
        host.command("sync").arg("--").arg(dir.join(MARKER)).arg(dir).run().await?;
        Ok(())
    }

    /// What is said of `dir`; `None` where nothing that is understood is.
    async fn read(host: &Host, dir: &Path) -> Result<Option<Self>, Error> {
        let text = host.files().read_if_there(dir.join(MARKER), MAX_MARKER).await?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    /// Whether the finished recovery in `dir`, if there is one, is this one: `false` where it does not say what it is.
    ///
    /// # Errors
    ///
    /// [`Error::OtherRecovery`] if it is another one: targets that a user writes differently may have one name.
    async fn is_of(&self, host: &Host, dir: &Path) -> Result<bool, Error> {
        let finished = Self::read(host, dir).await?;
        let (Some(now), Some(finished)) = (&self.recovery, finished.and_then(|finished| finished.recovery))
        else {
            return Ok(false);
        };
        match now.target_differs_from(&finished) {
            None => Ok(true),
            Some(difference) => {
                let (host, path) = (host.name().to_owned(), dir.to_owned());
                Err(Error::OtherRecovery { host, path, difference })
            }
        }
    }

    /// Whether this recovery was begun in `dir`, by a program whose journal means the same; else why not.
    async fn check(&self, host: &Host, dir: &Path) -> Result<(), Error> {
        let refuse = |reason: String| {
            Err(Error::NotResumable { host: host.name().to_owned(), path: dir.to_owned(), reason })
        };
        let Some(begun) = Self::read(host, dir).await? else {
            return refuse(format!("its {MARKER} is not understood"));
        };
        if begun.schema_version != self.schema_version || begun.made_by != self.made_by {
            return refuse(format!("it was begun by {}, and this is {}", begun.made_by, self.made_by));
        }
        match (&self.recovery, &begun.recovery) {
            (Some(now), Some(begun)) => match now.differs_from(begun) {
                None => Ok(()),
                Some(difference) => refuse(difference),
            },
            (_, None) => refuse("what was begun there was being removed".to_owned()),
            (None, _) => refuse("nothing says what is asked for".to_owned()),
        }
    }
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
    lock: Mutex<Option<Child>>,
    journal: Journal,
    /// What a user should know about what was found there.
    notices: Vec<String>,
    /// What a finished recovery that was taken over said of itself.
    taken_over: Option<Marker>,
}

impl WorkDir {
    /// The directory in which a recovery called `name` works.
    pub(crate) fn incomplete(parent: &Path, name: &str) -> PathBuf {
        parent.join(format!(".incomplete-{name}"))
    }

    /// Where the recovery `name` is: where it works, or where it ended if nothing of it is under way.
    pub(crate) async fn begun(host: &Host, parent: &Path, name: &str) -> Result<PathBuf, Error> {
        let (path, done) = (Self::incomplete(parent, name), parent.join(name));
        let under_way = host.files().exists(path.join(MARKER)).await?;
        Ok(if !under_way && host.files().exists(done.join(MARKER)).await? { done } else { path })
    }

    /// The directory of this very recovery, if it is finished and was not begun again.
    ///
    /// # Errors
    ///
    /// [`Error::OtherRecovery`] if it is another one that is finished.
    pub(crate) async fn finished(
        host: &Host,
        parent: &Path,
        name: &str,
        recovery: Identity,
    ) -> Result<Option<PathBuf>, Error> {
        let (dir, done) = (Self::begun(host, parent, name).await?, parent.join(name));
        let is_finished = dir == done && Marker::new(name, Some(recovery)).is_of(host, &done).await?;
        Ok(is_finished.then_some(done))
    }

    /// Makes and locks the work directory of the recovery `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another recovery holds it, [`Error::ForeignDirectory`] if something lies there
    /// that dbrecover did not make, [`Error::OtherRecovery`] if another one with its name is finished, [`Error::Cancelled`] while what an earlier run left is removed.
    pub(crate) async fn open(
        host: &Host,
        parent: &Path,
        name: &str,
        earlier: &Earlier,
        recovery: Identity,
        cancel: &CancellationToken,
    ) -> Result<Self, Error> {
        let marker = Marker::new(name, Some(recovery));
        if let Earlier::Extend(from) = earlier {
            return Self::take_over(host, parent, name, from, &marker, cancel).await;
        }
        let files = host.files();
        let done = parent.join(name);
        let path = Self::incomplete(parent, name);
        for existing in [&done, &path] {
            if files.exists(existing).await? && !is_ours(host, existing).await? {
                return Err(Error::ForeignDirectory { host: host.name().to_owned(), path: existing.clone() });
            }
        }
        if !files.exists(parent).await? {
            files.create_dir_all(parent).await?;
            host.command("chmod").args(["a+x", "--"]).arg(parent).run().await?;
        }
        let new = !files.exists(&path).await?;
        if new {
            files.create_dir_all(&path).await?;
        }
        let lock = lock(host, &path).await?;
        let notices = match settle(host, &done, cancel).await {
            Ok(left) => left.into_iter().collect(),
            Err(error) => {
                release(lock).await;
                return Err(error);
            }
        };
        let lock = Mutex::new(lock);
        let (host_of, journal) = (host.clone(), Journal::default());
        let mut work = Self { host: host_of, done, path, lock, journal, notices, taken_over: None };
        if let Err(error) = marker.is_of(host, &work.done).await {
            if new {
                let _ = files.remove_dir_all(&work.path).await;
            }
            work.unlock().await;
            return Err(error);
        }
        let resumed = *earlier == Earlier::Resume;
        // A directory without a marker was made, and nothing else.
        if !new && files.exists(work.path.join(MARKER)).await? {
            if resumed {
                if let Err(error) = marker.check(host, &work.path).await {
                    work.unlock().await;
                    return Err(error);
                }
                work.journal = Journal::read(host, &work.path).await?;
            } else {
                work.notices.push(
                    "an earlier recovery to this target was cut off; this one begins anew (--resume goes on)"
                        .to_owned(),
                );
                if let Err(error) = empty(host, &work.path, cancel).await {
                    work.unlock().await;
                    return Err(error);
                }
            }
        } else if resumed {
            work.notices.push("there is no recovery to go on with: this one begins anew".to_owned());
        }
        marker.write(host, &work.path).await?;
        let mut dirs = vec![work.path.clone()];
        dirs.extend(["datadir", "tmp", "datanode_base"].map(|dir| work.path.join(dir)));
        for dir in &dirs {
            files.create_dir_all(dir).await?;
        }
        pass_through(host, &dirs).await?;
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

    /// What a user should know about what was found there.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
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
        self.hold().await?;
        self.journal.write(&self.host, &self.path, Entry::new(server, step, result)).await
    }

    /// As [`WorkDir::record_with`], when all that was written into the directory is on disk: a step that is finished is not done
    /// again after a power failure.
    ///
    /// # Errors
    ///
    /// As [`WorkDir::record`].
    pub(crate) async fn record_synced(
        &self,
        server: &str,
        step: &str,
        result: Option<serde_json::Value>,
    ) -> Result<(), Error> {
        sync(&self.host, &self.path).await?;
        self.record_with(server, step, result).await
    }

    /// Takes over the finished recovery `from` under a new name. It does not look finished from here on.
    async fn take_over(
        host: &Host,
        parent: &Path,
        name: &str,
        from: &str,
        marker: &Marker,
        cancel: &CancellationToken,
    ) -> Result<Self, Error> {
        let files = host.files();
        let finished = parent.join(from);
        let path = Self::incomplete(parent, name);
        for existing in [&parent.join(name), &path] {
            if files.exists(existing).await? && !is_ours(host, existing).await? {
                return Err(Error::ForeignDirectory { host: host.name().to_owned(), path: existing.clone() });
            }
        }
        marker.is_of(host, &parent.join(name)).await?;
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
            let removed = remove(host, &path, cancel).await;
            release(theirs).await;
            if let Err(error) = removed {
                release(Some(held)).await;
                return Err(error);
            }
        }
        let done = parent.join(name);
        let notices = match settle(host, &done, cancel).await {
            Ok(left) => left.into_iter().collect(),
            Err(error) => {
                release(Some(held)).await;
                return Err(error);
            }
        };
        let mut journal = Journal::read(host, &finished).await?;
        let taken_over = Marker::read(host, &finished).await?;
        // The new report takes the place of the old one before the new recovery has its name.
        let [report, earlier] = [REPORT, EARLIER_REPORT].map(|name| finished.join(name));
        host.command("cp").args(["-p", "--"]).arg(report).arg(earlier).run().await?;
        // First the line, then the name: a directory that is under way always says what it came from.
        journal.write(host, &finished, Entry::new("", &format!("{EXTEND}{from}"), None)).await?;
        journal.take_over(from);
        marker.write(host, &finished).await?;
        files.rename(&finished, &path).await?;
        let lock = Mutex::new(Some(held));
        Ok(Self { host: host.clone(), done, path, lock, journal, notices, taken_over })
    }

    /// Puts the finished recovery under its name, in place of an earlier finished one, which is removed. What is left of
    /// that goes into the second value: it is no fault of this recovery.
    ///
    /// # Errors
    ///
    /// If a server was started in the earlier one meanwhile, or a rename fails; the earlier one is then still there.
    pub(crate) async fn finish(
        mut self,
        cancel: &CancellationToken,
    ) -> Result<(PathBuf, Option<String>), Error> {
        let files = self.host.files();
        let replaced = replaced(&self.done);
        sync(&self.host, &self.path).await?;
        self.hold().await?;
        let earlier = files.exists(&self.done).await?;
        if earlier {
            let fate = format!(
                "replaced: the new recovery is complete in {}, and --resume puts it there when the server is ended",
                self.path.display()
            );
            if let Err(error) = left_running::none_in(&self.host, &self.done, &fate).await {
                self.unlock().await;
                return Err(error);
            }
            files.rename(&self.done, &replaced).await?;
        }
        let renamed = files.rename(&self.path, &self.done).await;
        if renamed.is_err() && earlier {
            // If this fails too, the next run does it.
            let _ = files.rename(&replaced, &self.done).await;
        }
        self.unlock().await;
        renamed?;
        let left = if earlier { discard(&self.host, &self.done, cancel).await.err() } else { None };
        Ok((self.done, left))
    }

    /// Lets go of the directory and leaves it as it is; but a finished recovery that was taken over gets its name
    /// back if none of its servers was started.
    pub(crate) async fn abandon(mut self) {
        if let Some(from) = self.journal.extends()
            && !self.journal.any_replay_begun()
            && let Some(finished) = self.done.parent().map(|parent| parent.join(from))
        {
            // If this fails, the directory stays under way and --resume goes on with it.
            let marker = self.taken_over.take().unwrap_or_else(|| Marker::new(from, None));
            if marker.write(&self.host, &self.path).await.is_ok() {
                let _ = self.host.files().rename(&self.path, &finished).await;
            }
        }
        self.unlock().await;
    }

    async fn unlock(&mut self) {
        release(self.lock.get_mut().take()).await;
    }

    /// The lock goes with the connection that holds it, and the transfers go on over another one. It is taken again
    /// before anything is written down, and only if nobody else wrote here meanwhile.
    async fn hold(&self) -> Result<(), Error> {
        let mut held = self.lock.lock().await;
        if held.as_ref().is_none_or(|child| !child.has_ended()) {
            return Ok(());
        }
        let end = Instant::now() + ORPHANED;
        let again = loop {
            match lock(&self.host, &self.path).await {
                // The far side of the lost connection may not know of it yet.
                Err(Error::Busy { .. })
                    if self.host.kind() == Kind::Ssh
                        && Instant::now() < end
                        && self.journal.is_as_written(&self.host, &self.path).await? =>
                {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                result => break result?,
            }
        };
        if self.journal.is_as_written(&self.host, &self.path).await? {
            *held = again;
            return Ok(());
        }
        release(again).await;
        Err(Error::Busy { host: self.host.name().to_owned(), path: self.path.clone() })
    }
}

/// Removes what an earlier run left; the directory itself stays, its lock is on it. The journal is not believed from here on,
/// whatever is there still, and the marker goes last: what is half removed can be removed.
async fn empty(host: &Host, dir: &Path, cancel: &CancellationToken) -> Result<(), Error> {
    Marker::give_up(host, dir).await?;
    let find = host.command("find").arg(dir);
    let find = find.args(["-mindepth", "1", "-maxdepth", "1", "!", "-name", MARKER]);
    unless_cancelled(cancel, async {
        Ok(find.args(["-exec", "rm", "-rf", "--", "{}", "+"]).run().await.map(drop)?)
    })
    .await
}

/// As [`empty`], and then the directory.
async fn remove(host: &Host, dir: &Path, cancel: &CancellationToken) -> Result<(), Error> {
    empty(host, dir, cancel).await?;
    Ok(host.files().remove_dir_all(dir).await?)
}

/// Where an earlier finished recovery lies while it is replaced.
fn replaced(done: &Path) -> PathBuf {
    beside(done, ".replaced-")
}

/// Where it lies while it is removed.
fn removing(done: &Path) -> PathBuf {
    beside(done, ".removing-")
}

fn beside(done: &Path, prefix: &str) -> PathBuf {
    let name = done.file_name().unwrap_or_default().to_string_lossy();
    done.with_file_name(format!("{prefix}{name}"))
}

/// Removes the finished recovery that `done` has replaced, after its last name has said that it never comes back. The error
/// says what is left.
async fn discard(host: &Host, done: &Path, cancel: &CancellationToken) -> Result<(), String> {
    let (old, gone) = (replaced(done), removing(done));
    let discarded = async {
        if host.files().exists(&gone).await? && is_ours(host, &gone).await? {
            remove(host, &gone, cancel).await?;
        }
        if host.files().exists(&old).await? && is_ours(host, &old).await? {
            host.files().rename(&old, &gone).await?;
            remove(host, &gone, cancel).await?;
        }
        Ok::<_, Error>(())
    };
    discarded.await.map_err(|error| {
        let (old, gone) = (old.display(), gone.display());
        format!(
            "an earlier recovery that was replaced is not removed ({error}); what is left is {gone} or {old}"
        )
    })
}

/// Ends what a run was cut off in that replaced the finished recovery `done`: where the new one is in its place, the old
/// one goes; where none is, it comes back. What cannot be removed is told.
async fn settle(host: &Host, done: &Path, cancel: &CancellationToken) -> Result<Option<String>, Error> {
    let (files, old) = (host.files(), replaced(done));
    if files.exists(&old).await? && is_ours(host, &old).await? && !files.exists(done).await? {
        files.rename(&old, done).await?;
    }
    match discard(host, done, cancel).await {
        Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
        left => Ok(left.err()),
    }
}

/// Waits until everything is on disk that was written to the file system of this directory.
pub(crate) async fn sync(host: &Host, dir: &Path) -> Result<(), Error> {
    host.command("sync").arg("-f").arg(dir).run().await?;
    Ok(())
}

/// Servers run as another user: they pass through these directories, but do not list them, whatever the umask.
pub(crate) async fn pass_through(host: &Host, dirs: &[PathBuf]) -> Result<(), Error> {
    host.command("chmod").args(["0711", "--"]).args(dirs).run().await?;
    Ok(())
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
        // Where another recovery has just taken the directory away, a file would be made of its name alone.
        .arg(path.join("."))
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
    // `flock` says the same of a directory that it may not open.
    let gone = status.code() == GONE_STATUS && !host.files().exists(path).await?;
    if status.code() == LOCKED_STATUS || gone {
        return Err(Error::Busy { host: host.name().to_owned(), path: path.to_owned() });
    }
    Err(Error::Tool {
        host: host.name().to_owned(),
        tool: "flock".to_owned(),
        reason: format!("cannot lock {} ({status})", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use remote_exec::recording::{Reply, Script};

    use super::*;

    /// A finished recovery with this in it.
    fn finished(dir: &Path, content: &str) {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join(MARKER), "{}").unwrap();
        std::fs::write(dir.join(REPORT), "{}").unwrap();
        std::fs::write(dir.join("content"), content).unwrap();
    }

    fn content(dir: &Path) -> Option<String> {
        std::fs::read_to_string(dir.join("content")).ok()
    }

    async fn open(parent: &Path, earlier: Earlier) -> WorkDir {
        try_open(parent, earlier, &CancellationToken::new()).await.unwrap()
    }

    async fn try_open(parent: &Path, earlier: Earlier, cancel: &CancellationToken) -> Result<WorkDir, Error> {
        WorkDir::open(&Host::local(), parent, "name", &earlier, to(""), cancel).await
    }

    fn to(time: &str) -> Identity {
        serde_json::from_value(serde_json::json!({ "target": { "stop time": time }, "way": {} })).unwrap()
    }

    /// A recovery that was cut off after this step.
    async fn cut_off(parent: &Path, step: &str) {
        let work = open(parent, Earlier::Replace).await;
        work.record("a", step).await.unwrap();
        work.abandon().await;
    }

    #[tokio::test]
    async fn what_was_being_removed_is_not_gone_on_with() {
        for earlier in [Earlier::Replace, Earlier::Extend("other".to_owned())] {
            let dir = tempfile::tempdir().unwrap();
            finished(&dir.path().join("other"), "other");
            cut_off(dir.path(), "done").await;
            let cancelled = CancellationToken::new();
            cancelled.cancel();
            let error = try_open(dir.path(), earlier.clone(), &cancelled).await.unwrap_err();
            assert!(matches!(error, Error::Cancelled), "{earlier:?}: {error}");
            assert!(dir.path().join(".incomplete-name/journal.jsonl").exists(), "it was removed in time");
            let error = try_open(dir.path(), Earlier::Resume, &CancellationToken::new()).await.unwrap_err();
            assert!(error.to_string().contains("was being removed"), "{earlier:?}: {error}");
            // Whoever was to begin in its place does so when asked again.
            let work = open(dir.path(), earlier).await;
            assert!(!work.journal().is_finished("a", "done"));
            work.abandon().await;
        }
    }

    #[tokio::test]
    async fn a_finished_recovery_that_was_being_replaced_comes_back() {
        for earlier in [Earlier::Replace, Earlier::Resume, Earlier::Extend("other".to_owned())] {
            let dir = tempfile::tempdir().unwrap();
            let (done, old) = (dir.path().join("name"), dir.path().join(".replaced-name"));
            finished(&dir.path().join("other"), "other");
            // Cut off between the two renames: the new one was not under its name yet.
            finished(&old, "old");
            let work = open(dir.path(), earlier.clone()).await;
            assert_eq!(content(&done).as_deref(), Some("old"), "{earlier:?}");
            assert!(!old.exists(), "{earlier:?}");
            work.abandon().await;
            // Cut off behind them.
            finished(&dir.path().join(".replaced-name"), "older");
            open(dir.path(), Earlier::Replace).await.abandon().await;
            assert_eq!(content(&done).as_deref(), Some("old"), "{earlier:?}");
            assert!(!old.exists(), "{earlier:?}");
        }
    }

    #[tokio::test]
    async fn what_is_half_removed_never_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (done, gone) = (dir.path().join("name"), dir.path().join(".removing-name"));
        finished(&done, "old");
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let (place, left) = open(dir.path(), Earlier::Replace).await.finish(&cancelled).await.unwrap();
        assert_eq!(place, done);
        assert!(left.is_some_and(|left| left.contains(".removing-name")));
        assert_eq!(content(&gone).as_deref(), Some("old"), "it was removed in time");
        // The user moves the new one to where it belongs.
        std::fs::rename(&done, dir.path().join("elsewhere")).unwrap();
        let work = open(dir.path(), Earlier::Replace).await;
        assert_eq!(work.notices(), &[] as &[String]);
        assert!(!done.exists() && !gone.exists());
        work.abandon().await;
    }

    #[tokio::test]
    async fn a_recovery_that_replaced_another_is_done_whatever_becomes_of_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("name");
        finished(&done, "old");
        // Not dbrecover's, and in the way.
        std::fs::create_dir(dir.path().join(".removing-name")).unwrap();
        std::fs::write(dir.path().join(".removing-name/file"), "").unwrap();
        let work = open(dir.path(), Earlier::Replace).await;
        let (place, left) = work.finish(&CancellationToken::new()).await.unwrap();
        assert_eq!(place, done);
        assert!(left.is_some_and(|left| left.contains(".replaced-name")));
        assert!(dir.path().join(".removing-name/file").exists());
    }

    #[tokio::test]
    async fn the_report_of_what_was_taken_over_outlives_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        finished(&dir.path().join("other"), "other");
        std::fs::write(dir.path().join("other").join(REPORT), "of other").unwrap();
        let work = open(dir.path(), Earlier::Extend("other".to_owned())).await;
        std::fs::write(work.path().join(REPORT), "of name").unwrap();
        let earlier = std::fs::read_to_string(work.path().join(EARLIER_REPORT)).unwrap();
        assert_eq!(earlier, "of other");
        work.abandon().await;
    }

    #[tokio::test]
    async fn a_finished_recovery_is_replaced_by_the_same_one_only() {
        let dir = tempfile::tempdir().unwrap();
        finished(&dir.path().join("other"), "other");
        let (host, never) = (Host::local(), CancellationToken::new());
        let open_for = |time: &'static str, earlier: Earlier| {
            let (host, parent, never) = (&host, dir.path(), &never);
            async move { WorkDir::open(host, parent, "name", &earlier, to(time), never).await }
        };
        open_for("1", Earlier::Replace).await.unwrap().finish(&never).await.unwrap();
        for earlier in [Earlier::Replace, Earlier::Resume, Earlier::Extend("other".to_owned())] {
            let error = open_for("2", earlier.clone()).await.unwrap_err();
            let told = error.to_string().ends_with("stop time: it was 1, and is 2 now");
            assert!(matches!(error, Error::OtherRecovery { .. }) && told, "{earlier:?}: {error}");
            assert!(dir.path().join("name").exists() && !dir.path().join(".incomplete-name").exists());
        }
        open_for("1", Earlier::Replace).await.unwrap().finish(&never).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_step_wrote_is_on_disk_before_the_journal_says_that_it_is_finished() {
        let script = Script::new().always("sync", Reply::ok()).always("sh", Reply::ok());
        let (host, recorder) = Host::recording(script);
        let work = WorkDir {
            host,
            done: "/w/name".into(),
            path: "/w/.incomplete-name".into(),
            lock: Mutex::default(),
            journal: Journal::default(),
            notices: Vec::new(),
            taken_over: None,
        };
        work.record_synced("a", "prepare", None).await.unwrap();
        let lines = recorder.lines();
        assert!(lines[0].ends_with("sync -f /w/.incomplete-name"), "{lines:?}");
        assert!(lines[1].contains("journal.jsonl") && lines.len() == 2, "{lines:?}");
    }

    #[tokio::test]
    async fn a_lock_that_was_lost_is_taken_again_unless_somebody_else_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let never = CancellationToken::new();
        let mut work = open(dir.path(), Earlier::Replace).await;
        work.record("a", "prepare").await.unwrap();
        let lose = async |work: &mut WorkDir| {
            let holder = work.lock.get_mut().as_mut().unwrap();
            drop(holder.stdin.take());
            while !holder.has_ended() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        lose(&mut work).await;
        work.record("b", "prepare").await.unwrap();
        let host = Host::local();
        assert!(matches!(lock(&host, &work.path).await, Err(Error::Busy { .. })), "it is held again");
        lose(&mut work).await;
        let other = WorkDir::open(&host, dir.path(), "name", &Earlier::Resume, to(""), &never).await.unwrap();
        assert!(
            matches!(work.record("c", "prepare").await, Err(Error::Busy { .. })),
            "it is held by another"
        );
        other.record("c", "prepare").await.unwrap();
        drop(other);
        assert!(matches!(work.record("c", "prepare").await, Err(Error::Busy { .. })), "another has written");
        assert!(matches!(work.finish(&never).await, Err(Error::Busy { .. })));
    }

    #[tokio::test]
    async fn a_recovery_that_is_finished_is_known_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::local();
        let finished = |time| WorkDir::finished(&host, dir.path(), "name", to(time));
        assert_eq!(finished("").await.unwrap(), None);
        let work = open(dir.path(), Earlier::Replace).await;
        assert_eq!(finished("").await.unwrap(), None, "it is under way");
        work.finish(&CancellationToken::new()).await.unwrap();
        assert_eq!(finished("").await.unwrap(), Some(dir.path().join("name")));
        assert!(matches!(finished("2").await.unwrap_err(), Error::OtherRecovery { .. }));
        // One that is begun again is gone on with.
        open(dir.path(), Earlier::Replace).await.abandon().await;
        assert_eq!(finished("").await.unwrap(), None);
    }

    #[tokio::test]
    async fn no_file_is_made_of_a_directory_that_was_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("name");
        let error = lock(&Host::local(), &gone).await.unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        assert!(!gone.exists());
    }

    #[tokio::test]
    async fn a_finished_recovery_in_which_a_server_was_started_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("name");
        finished(&done, "old");
        let datadir = done.join("datadir/a");
        std::fs::create_dir_all(&datadir).unwrap();
        let work = open(dir.path(), Earlier::Replace).await;
        work.record("a", "done").await.unwrap();
        let mut server = left_running::work_in(&datadir, &dir.path().join("mariadbd"));
        let error = work.finish(&CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, Error::Running { .. }) && error.to_string().contains("--resume"), "{error}");
        assert_eq!(content(&done).as_deref(), Some("old"));
        drop(server.stdin.take());
        server.wait().unwrap();
        let work = open(dir.path(), Earlier::Resume).await;
        assert!(work.journal().is_finished("a", "done"));
        work.finish(&CancellationToken::new()).await.unwrap();
        assert_eq!(content(&done), None);
    }

    #[tokio::test]
    async fn a_finished_recovery_stays_where_the_new_one_cannot_be_put_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("name");
        finished(&done, "old");
        let mut work = open(dir.path(), Earlier::Replace).await;
        // No directory can be moved into itself.
        work.path = dir.path().to_owned();
        work.finish(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(content(&done).as_deref(), Some("old"));
    }
}
