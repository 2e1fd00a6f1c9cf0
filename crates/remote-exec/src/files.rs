//! The files of a host, small ones whole; large ones go through commands that stream.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use crate::host::Backend;
use crate::{Error, Host, Output, files_here as here};

/// Writes stdin, `$3` bytes, to `$1` with the mode `$2`: beside its place, to the disk, then renamed. A connection that
/// is lost in between ends stdin early.
const WRITE: &str = "umask 077; t=$1.partial.$$; if cat >\"$t\" && [ \"$(wc -c <\"$t\")\" -eq \"$3\" ] && \
                     chmod \"$2\" -- \"$t\" && sync -- \"$t\" && mv -T -f -- \"$t\" \"$1\"; then exit 0; \
                     else rm -f -- \"$t\"; exit 1; fi";

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// What is known about a path; links are not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was changed last, to the second.
    pub modified: SystemTime,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: OsString,
    /// What is known about it.
    pub metadata: Metadata,
}

/// The files of a [`Host`].
///
/// On this machine these are system calls; elsewhere commands that every Linux has (GNU coreutils and findutils). Names
/// and contents are bytes. Errors are [`Error::File`], and [`Error::is_missing_file`] tells the one that matters most.
#[derive(Debug, Clone)]
pub struct Files {
    host: Host,
}

impl Files {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// The whole content of a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is longer than `limit` bytes.
    pub async fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("read", path, move |p| here::read(p, limit)).await;
        }
        let most = (limit + 1).to_string();
        let output = self.sh("read", path, "exec head -c \"$2\" -- \"$1\"", &[most.as_ref()], None).await?;
        if output.stdout.len() as u64 > limit {
            return Err(self.fail("read", path, false, format!("it is longer than {limit} bytes")));
        }
        Ok(output.stdout)
    }

    /// As [`read`](Self::read), and `None` where there is no such file.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read, or is longer than `limit` bytes.
    pub async fn read_if_there(&self, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.read(path, limit).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_missing_file() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file: beside its place first, then renamed onto it, so that it is never seen half written.
    ///
    /// `mode` is its permission, e.g. `0o600`; it has it from the start. A program (`0o755`) can be run at once: a child
    /// writes it. Were it open for writing in this process, a process started meanwhile for something else would hold it
    /// open too until its own `exec`, and Linux starts no file that is open for writing (`ETXTBSY`).
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub async fn write(
        &self,
        path: impl AsRef<Path>,
        content: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Result<(), Error> {
        let (path, content) = (path.as_ref(), content.into());
        let program = mode & 0o111 != 0 && matches!(*self.host.backend, Backend::Local);
        if self.is_here() && !program {
            return self.here("write", path, move |p| here::write(p, &content, mode)).await;
        }
        let mode = format!("{mode:o}");
        let length = content.len().to_string();
        self.sh("write", path, WRITE, &[mode.as_ref(), length.as_ref()], Some(content)).await.map(drop)
    }

    /// Writes a file that holds a secret, readable by its owner only. As [`write`](Self::write), and the content goes the
    /// way of [`Command::secret_stdin`](crate::Command::secret_stdin): it is in no process list there.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or the host's agent would show it ([`Error::Unsupported`]).
    pub async fn write_secret(&self, path: impl AsRef<Path>, content: SecretString) -> Result<(), Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self
                .here("write", path, move |p| here::write(p, content.expose_secret().as_bytes(), 0o600))
                .await;
        }
        let length = content.expose_secret().len().to_string();
        let write = self.host.command("sh").env("LC_ALL", "C").args(["-c", WRITE, "sh"]).arg(path);
        let command = write.args(["600", &length]);
        self.told("write", path, command.secret_stdin(content).output().await?).await.map(drop)
    }

    /// Whether there is anything at this path; a dangling link counts.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    pub async fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        match self.metadata(path).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_missing_file() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What is known about a path; a link is not followed.
    ///
    /// # Errors
    ///
    /// If there is nothing, or it cannot be looked at.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata, Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("look at", path, here::metadata).await;
        }
        let output = self.sh("look at", path, "exec stat -c '%f %s %Y' -- \"$1\"", &[], None).await?;
        parse_stat(&output.text()).ok_or_else(|| self.strange("look at", path))
    }

    /// The names in a directory, sorted by their bytes.
    ///
    /// # Errors
    ///
    /// If it is no directory or cannot be read.
    pub async fn list(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>, Error> {
        let path = path.as_ref();
        let mut entries = if self.is_here() {
            self.here("list", path, here::list).await?
        } else {
            let script = "cd -- \"$1\" && exec find . -mindepth 1 -maxdepth 1 -printf '%y %s %T@ %f\\0'";
            let output = self.sh("list", path, script, &[], None).await?;
            output
                .stdout
                .split(|b| *b == 0)
                .filter(|line| !line.is_empty())
                .map(parse_find)
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| self.strange("list", path))?
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Makes a directory and those above it; it may exist.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub async fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("make the directory", path, |p| std::fs::create_dir_all(p)).await;
        }
        self.sh("make the directory", path, "exec mkdir -p -- \"$1\"", &[], None).await.map(drop)
    }

    /// Renames within one file system; what is at `to`, if a file, is replaced.
    ///
    /// # Errors
    ///
    /// If it cannot be renamed.
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
        let (from, to) = (from.as_ref(), to.as_ref().to_owned());
        if self.is_here() {
            return self.here("rename", from, move |p| std::fs::rename(p, to)).await;
        }
        // `mv` would copy between file systems; a rename must not turn into a copy unnoticed.
        let script = "[ \"$(stat -c %d -- \"$1\")\" = \"$(stat -c %d -- \"$(dirname -- \"$2\")\")\" ] || \
                      { stat -- \"$1\" >/dev/null && echo 'not on one file system' >&2; exit 1; }; exec mv -T -f -- \"$1\" \"$2\"";
        self.sh("rename", from, script, &[to.as_os_str()], None).await.map(drop)
    }

    /// Removes a file or link.
    ///
    /// # Errors
    ///
    /// If there is none, it is a directory, or it cannot be removed.
    pub async fn remove_file(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("remove", path, |p| std::fs::remove_file(p)).await;
        }
        self.sh("remove", path, "exec rm -- \"$1\"", &[], None).await.map(drop)
    }

    /// Removes a directory and everything in it, without following links.
    ///
    /// # Errors
    ///
    /// If there is none, or something in it cannot be removed.
    pub async fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("remove", path, |p| std::fs::remove_dir_all(p)).await;
        }
        self.sh("remove", path, "stat -- \"$1\" >/dev/null && exec rm -r -f -- \"$1\"", &[], None)
            .await
            .map(drop)
    }

    /// How many bytes a user without privileges may still write below this path.
    ///
    /// # Errors
    ///
    /// If the path does not exist or cannot be asked.
    pub async fn free_bytes(&self, path: impl AsRef<Path>) -> Result<u64, Error> {
        let path = path.as_ref();
        if self.is_here() {
            return self.here("ask for free space at", path, here::free_bytes).await;
        }
        let output =
            self.sh("ask for free space at", path, "exec stat -f -c '%a %S' -- \"$1\"", &[], None).await?;
        let text = output.text();
        let parsed = text
            .split_once(' ')
            .and_then(|(blocks, size)| blocks.parse::<u64>().ok()?.checked_mul(size.parse().ok()?));
        parsed.ok_or_else(|| self.strange("ask for free space at", path))
    }

    fn is_here(&self) -> bool {
        matches!(*self.host.backend, Backend::Local | Backend::Recording(_))
    }

    /// Runs blocking work on a path of this machine.
    async fn here<T: Send + 'static>(
        &self,
        what: &'static str,
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let owned = path.to_owned();
        let result = tokio::task::spawn_blocking(move || work(&owned)).await;
        result.map_err(io::Error::other).and_then(|r| r).map_err(|e| Error::File {
            host: self.host.name().to_owned(),
            what,
            path: path.to_owned(),
            missing: e.kind() == io::ErrorKind::NotFound,
            detail: String::new(),
            source: Some(e),
        })
    }

    /// Runs a script with the path as `$1` on a host that is elsewhere.
    async fn sh(
        &self,
        what: &'static str,
        path: &Path,
        script: &str,
        more: &[&OsStr],
        input: Option<Vec<u8>>,
    ) -> Result<Output, Error> {
        let mut command =
            self.host.command("sh").env("LC_ALL", "C").args(["-c", script, "sh"]).arg(path).args(more);
        if let Some(input) = input {
            command = command.stdin_bytes(input);
        }
        let output = command.output().await?;
        self.told(what, path, output).await
    }

    /// The output of a script that succeeded, or what its last words mean.
    async fn told(&self, what: &'static str, path: &Path, output: Output) -> Result<Output, Error> {
        if output.status.success() {
            return Ok(output);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or_default().trim();
        let missing =
            ["No such file or directory", "Directory nonexistent"].iter().any(|m| line.ends_with(m))
                || line.contains("can't cd to");
        let missing = missing && (what != "list" || !self.exists_there(path).await?);
        Err(self.fail(what, path, missing, line.to_owned()))
    }

    /// Whether `test` finds anything at this path.
    async fn exists_there(&self, path: &Path) -> Result<bool, Error> {
        let script = "[ -e \"$1\" ] || [ -L \"$1\" ]";
        Ok(self.host.command("sh").args(["-c", script, "sh"]).arg(path).output().await?.status.success())
    }

    fn fail(&self, what: &'static str, path: &Path, missing: bool, detail: String) -> Error {
        let host = self.host.name().to_owned();
        Error::File { host, what, path: path.to_owned(), missing, detail, source: None }
    }

    fn strange(&self, what: &'static str, path: &Path) -> Error {
        self.fail(what, path, false, "its stat or find answers in an unknown form".to_owned())
    }
}

/// `%f %s %Y` of stat: type and mode in hexadecimal, bytes, seconds.
fn parse_stat(line: &str) -> Option<Metadata> {
    let mut words = line.split_ascii_whitespace();
    let mode = u32::from_str_radix(words.next()?, 16).ok()?;
    let kind = match mode & 0o170_000 {
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Symlink,
        _ => FileKind::Other,
    };
    Some(Metadata { kind, size: words.next()?.parse().ok()?, modified: seconds(words.next()?)? })
}

/// `%y %s %T@ %f` of find: type letter, bytes, seconds with a fraction, name.
fn parse_find(line: &[u8]) -> Option<DirEntry> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let kind = match parts.next()? {
        b"f" => FileKind::File,
        b"d" => FileKind::Directory,
        b"l" => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let size = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let modified = seconds(std::str::from_utf8(parts.next()?).ok()?)?;
    let name = OsString::from_vec(parts.next()?.to_vec());
    Some(DirEntry { name, metadata: Metadata { kind, size, modified } })
}

/// A time as seconds since 1970, its fraction cut off.
pub(crate) fn seconds(text: &str) -> Option<SystemTime> {
    let whole: i64 = text.split('.').next()?.parse().ok()?;
    let epoch = SystemTime::UNIX_EPOCH;
    match u64::try_from(whole) {
        Ok(after) => epoch.checked_add(Duration::from_secs(after)),
        Err(_) => epoch.checked_sub(Duration::from_secs(whole.unsigned_abs())),
    }
}

/// A sibling of `path` with an ending.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.extend_from_slice(ending.as_bytes());
    OsString::from_vec(name).into()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    #[test]
    fn content_that_was_cut_on_its_way_does_not_come_into_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "half of it").unwrap();
        std::fs::write(&to, "before").unwrap();
        let write = |length: &str| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", super::WRITE, "sh"]).arg(&to).args(["600", length]);
            shell.stdin(std::fs::File::open(&from).unwrap()).stdout(Stdio::null()).status().unwrap().success()
        };
        assert!(!write("20"));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "before");
        assert!(write("10"));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "half of it");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
