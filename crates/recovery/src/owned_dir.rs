//! Temporary directories on hosts, each with a process there that owns it.
//!
//! When that process's input ends, or it is ended because the connection is gone, it removes the directory. An agent keeps
//! no process: there the directory is removed when somebody asks for it, and else stays.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remote_exec::{Child, Host, Kind};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;

use crate::Error;

/// Longest name of a directory that is read, in bytes.
const MAX_PATH: u64 = 4096;
/// How long the removal may take.
pub(crate) const REMOVE: Duration = Duration::from_secs(30);

/// Makes a directory like `$1` and says its name.
const MAKE: &str = r#"umask 077; d=$(mktemp -d -- "$1") && printf '%s\n' "$d""#;

/// Makes a directory like `$1`, says its name, and removes it in the end. The end of its input and the signal come together
/// when a connection is lost; neither may end the removal. What was ended at the same time may still write for a moment.
const OWNER: &str = r#"umask 077; trap : HUP INT PIPE TERM; d=$(mktemp -d -- "$1") || exit 1
printf '%s\n' "$d"; cat >/dev/null; trap '' HUP INT PIPE TERM
for i in 1 2 3 4 5; do rm -rf -- "$d" 2>/dev/null && exit; sleep 1; done; rm -rf -- "$d""#;

/// A directory, and what owns it.
#[derive(Debug)]
pub(crate) struct OwnedDir {
    host: Host,
    path: PathBuf,
    owner: Option<Child>,
}

impl OwnedDir {
    /// Makes a directory; `template` is one of `mktemp`.
    ///
    /// # Errors
    ///
    /// If the host cannot make it.
    pub(crate) async fn make(host: &Host, template: &Path) -> Result<Self, Error> {
        if !host.streams() {
            let made = host.command("sh").args(["-c", MAKE, "sh"]).arg(template).output().await?;
            if !made.status.success() {
                return Err(failed(host, &made.stderr));
            }
            let line = made.stdout.strip_suffix(b"\n").unwrap_or(&made.stdout);
            return Ok(Self { host: host.clone(), path: path_of(line), owner: None });
        }
        let owner = match host.kind() {
            // What is left of this machine's process groups is killed when this process is; in a session of its own the
            // owner sees the end of its input instead.
            Kind::Local => host.command("setsid").args(["-w", "sh"]),
            _ => host.command("sh"),
        };
        let mut owner = owner.args(["-c", OWNER, "sh"]).arg(template).spawn().await?;
        let mut line = Vec::new();
        if let Some(stdout) = &mut owner.stdout {
            let mut byte = [0];
            while let Ok(1) = stdout.read(&mut byte).await {
                if byte == *b"\n" {
                    return Ok(Self { host: host.clone(), path: path_of(&line), owner: Some(owner) });
                }
                line.extend_from_slice(&byte);
            }
        }
        let output = owner.wait_with_output(MAX_PATH).await?;
        Err(failed(host, &output.stderr))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it. Nothing of it is left when this returns, unless the host cannot be reached.
    pub(crate) async fn remove(self) {
        let removed = async {
            match self.owner {
                // Its input ends.
                Some(owner) => drop(owner.wait().await),
                None => drop(self.host.files().remove_dir_all(&self.path).await),
            }
        };
        // What is left then ends with the connection.
        let _ = tokio::time::timeout(REMOVE, removed).await;
    }
}

/// A directory that is made when somebody asks for it.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Arc<Mutex<Option<OwnedDir>>>);

impl Scratch {
    /// Where it is; `template` is one of `mktemp`.
    ///
    /// # Errors
    ///
    /// If the host cannot make it.
    pub(crate) async fn path(&self, host: &Host, template: &Path) -> Result<PathBuf, Error> {
        let mut guard = self.0.clone().lock_owned().await;
        if guard.is_none() {
            let (host, template) = (host.clone(), template.to_owned());
            // To its end, even when the caller is cancelled meanwhile: what is made must be removed.
            let made = tokio::spawn(async move {
                *guard = Some(OwnedDir::make(&host, &template).await?);
                Ok::<_, Error>(guard)
            });
            guard = made
                .await
                .map_err(|e| Error::Unexpected { what: "a task".to_owned(), text: e.to_string() })??;
        }
        Ok(guard.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default())
    }

    /// Removes it, if it was made.
    pub(crate) async fn remove(&self) {
        let removed = async {
            if let Some(dir) = self.0.lock().await.take() {
                dir.remove().await;
            }
        };
        let _ = tokio::time::timeout(REMOVE, removed).await;
    }
}

fn path_of(line: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(line)).to_owned()
}

fn failed(host: &Host, stderr: &[u8]) -> Error {
    Error::Tool {
        host: host.name().to_owned(),
        tool: "mktemp".to_owned(),
        reason: String::from_utf8_lossy(stderr).trim().to_owned(),
    }
}
