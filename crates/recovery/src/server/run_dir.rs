//! The private directories of temporary servers: socket, pid file, option files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use backup_catalog::dbscale::Account;
use remote_exec::Host;
use secrecy::{ExposeSecret, SecretString};

use crate::Error;

/// Longest path of a socket in bytes: the 108 of `sockaddr_un` hold a final zero.
const SOCKET_PATH: usize = 107;
/// How the private directories of temporary servers begin.
const RUN_DIR: &str = ".run.";
/// Where a socket lies whose path in the work directory would be too long, and how such a directory begins.
const SHORT: &str = "/tmp";
const SHORT_DIR: &str = "dbrecover.";
/// The file of a private directory that names such a directory: a run that was killed leaves both.
const SOCKET_DIR: &str = "socket-dir";
/// Largest of these files that is read, in bytes.
const MAX_NOTE: u64 = 4096;

/// A private directory of one server: socket, pid file, option files.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    pub(super) path: PathBuf,
    /// The directory of the socket, if it is another one.
    elsewhere: Option<PathBuf>,
}

impl RunDir {
    /// Makes the private directory that the server will live in: in the work directory, so that no password is left
    /// elsewhere when nobody can clean up. Where the socket's path would be too long, the socket alone is in `/tmp`.
    ///
    /// # Errors
    ///
    /// If the host cannot make it.
    pub(super) async fn make(
        run_dirs: &RunDirs,
        host: &Host,
        tmp_dir: &Path,
        user: Option<&str>,
        accounts: &[Account],
    ) -> Result<Self, Error> {
        let path = run_dirs.make_dir(host, tmp_dir, RUN_DIR).await?;
        let mut run_dir = Self { path, elsewhere: None };
        if run_dir.socket().as_os_str().len() > SOCKET_PATH {
            let short = run_dirs.make_dir(host, Path::new(SHORT), SHORT_DIR).await?;
            let note = short.as_os_str().as_bytes().to_vec();
            host.files().write(run_dir.path.join(SOCKET_DIR), note, 0o600).await?;
            run_dir.elsewhere = Some(short);
        }
        for (number, account) in accounts.iter().enumerate() {
            host.files().write_secret(run_dir.option_file(number), option_file_text(account)).await?;
        }
        if let Some(user) = user {
            host.command("chown").arg(user).args(run_dir.all()).run().await?;
        }
        Ok(run_dir)
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.elsewhere.as_ref().unwrap_or(&self.path).join("s.sock")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("server.pid")
    }

    /// The client's option file for the account of this number.
    pub(super) fn option_file(&self, number: usize) -> PathBuf {
        self.path.join(format!("client-{number}.cnf"))
    }

    /// Its directories; the one that names the other one last.
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.elsewhere.iter().chain([&self.path])
    }
}

/// The private directories that exist: those of servers that were cut off are removed at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunDirs(Arc<Mutex<BTreeSet<PathBuf>>>);

impl RunDirs {
    async fn make_dir(&self, host: &Host, parent: &Path, prefix: &str) -> Result<PathBuf, Error> {
        let template = parent.join(format!("{prefix}XXXXXXXX"));
        let made = host.command("mktemp").arg("-d").arg(&template).run().await?;
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim_end());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok(path)
    }

    pub(super) async fn remove(&self, host: &Host, run_dir: &RunDir) {
        for path in run_dir.all() {
            self.remove_dir(host, path).await;
        }
    }

    async fn remove_dir(&self, host: &Host, path: &Path) {
        if host.files().remove_dir_all(path).await.is_ok() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        }
    }

    /// Removes what the servers of a run that was killed left in its work directory, and the sockets that they had
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// If the host cannot list or remove.
    pub(crate) async fn remove_earlier(&self, host: &Host, tmp_dir: &Path) -> Result<(), Error> {
        if host.files().exists(tmp_dir).await? {
            for entry in host.files().list(tmp_dir).await? {
                if entry.name.as_encoded_bytes().starts_with(RUN_DIR.as_bytes()) {
                    let run_dir = tmp_dir.join(&entry.name);
                    if let Some(short) = socket_dir(host, &run_dir).await? {
                        match host.files().remove_dir_all(short).await {
                            Err(error) if !error.is_missing_file() => return Err(error.into()),
                            _ => {}
                        }
                    }
                    host.files().remove_dir_all(run_dir).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is left, when no server runs any more.
    pub(crate) async fn remove_all(&self, host: &Host) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for path in left {
            self.remove_dir(host, &path).await;
        }
    }
}

/// The directory in `/tmp` that a private directory names; what is none of ours is not looked at.
async fn socket_dir(host: &Host, run_dir: &Path) -> Result<Option<PathBuf>, Error> {
    let note = host.files().read_if_there(run_dir.join(SOCKET_DIR), MAX_NOTE).await?;
    let Some(note) = note.map(|note| PathBuf::from(OsStr::from_bytes(&note))) else { return Ok(None) };
    let name = note.strip_prefix(SHORT).ok().filter(|name| name.components().count() == 1);
    let ours = name.is_some_and(|name| name.as_os_str().as_bytes().starts_with(SHORT_DIR.as_bytes()));
    Ok(Some(note).filter(|_| ours))
}

/// The client's option file: `[client]` with the account, quoted as option files are read.
fn option_file_text(account: &Account) -> SecretString {
    let quote = |value: &str| {
        let mut quoted = String::from("\"");
        for c in value.chars() {
            match c {
                '\\' => quoted.push_str("\\\\"),
                '"' => quoted.push_str("\\\""),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        quoted
    };
    format!("[client]\nuser={}\npassword={}\n", quote(&account.user), quote(account.password.expose_secret()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_password_lies_outside_of_the_work_directory_and_a_socket_there_is_found_again() {
        let (host, work) = (Host::local(), tempfile::tempdir().unwrap());
        let account = Account { user: "u".to_owned(), password: "S3cret".to_owned().into() };
        for depth in [0, SOCKET_PATH] {
            let tmp_dir = work.path().join("x".repeat(depth));
            std::fs::create_dir_all(&tmp_dir).unwrap();
            // A run that is killed forgets its list.
            let killed = RunDirs::default();
            let run_dir =
                RunDir::make(&killed, &host, &tmp_dir, None, std::slice::from_ref(&account)).await.unwrap();
            let socket = run_dir.socket();
            assert!(socket.as_os_str().len() <= SOCKET_PATH);
            assert_eq!(socket.starts_with(&tmp_dir), depth == 0);
            assert!(run_dir.option_file(0).starts_with(&tmp_dir), "{}", run_dir.option_file(0).display());
            std::fs::write(&socket, "").unwrap();
            RunDirs::default().remove_earlier(&host, &tmp_dir).await.unwrap();
            assert!(!socket.parent().unwrap().exists() && !run_dir.path.exists());
            // Once more: one that is half removed.
            let run_dir =
                RunDir::make(&killed, &host, &tmp_dir, None, std::slice::from_ref(&account)).await.unwrap();
            std::fs::remove_dir_all(run_dir.socket().parent().unwrap()).unwrap();
            RunDirs::default().remove_earlier(&host, &tmp_dir).await.unwrap();
            // And the way of a run that is not killed.
            let run_dir =
                RunDir::make(&killed, &host, &tmp_dir, None, std::slice::from_ref(&account)).await.unwrap();
            killed.remove(&host, &run_dir).await;
            assert!(!run_dir.socket().parent().unwrap().exists() && !run_dir.path.exists());
        }
    }

    #[tokio::test]
    async fn a_note_that_is_not_ours_leads_nowhere() {
        let (host, dir) = (Host::local(), tempfile::tempdir().unwrap());
        for note in
            ["/etc", "/tmp/other", "/tmp/dbrecover.x/y", "/tmp/../etc", "/tmp/dbrecover.x/../../etc", ""]
        {
            std::fs::write(dir.path().join(SOCKET_DIR), note).unwrap();
            assert_eq!(socket_dir(&host, dir.path()).await.unwrap(), None, "{note}");
        }
    }
}
