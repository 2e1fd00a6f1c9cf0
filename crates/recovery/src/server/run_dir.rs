//! The private directories of temporary servers: socket, pid file, option file.

use std::collections::BTreeSet;
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

/// A private directory of one server: socket, pid file, option file.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    pub(super) path: PathBuf,
}

impl RunDir {
    /// Makes the private directory that the server will live in: in the work directory, so that nothing is left
    /// elsewhere when nobody can clean up, or in `/tmp` when the socket's path would be too long.
    ///
    /// # Errors
    ///
    /// If the host cannot make it.
    pub(super) async fn make(
        run_dirs: &RunDirs,
        host: &Host,
        tmp_dir: &Path,
        user: Option<&str>,
        account: &Account,
    ) -> Result<Self, Error> {
        let mut template = tmp_dir.join(format!("{RUN_DIR}XXXXXXXX"));
        if (Self { path: template.clone() }).socket().as_os_str().len() > SOCKET_PATH {
            template = "/tmp/dbrecover.XXXXXXXX".into();
        }
        let made = host.command("mktemp").arg("-d").arg(&template).run().await?;
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim_end());
        let run_dir = Self { path };
        run_dirs.note(&run_dir);
        host.files().write_secret(run_dir.option_file(), option_file_text(account)).await?;
        if let Some(user) = user {
            host.command("chown").arg(user).arg(&run_dir.path).run().await?;
        }
        Ok(run_dir)
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("s.sock")
    }

    pub(super) fn option_file(&self) -> PathBuf {
        self.path.join("client.cnf")
    }
}

/// The private directories that exist: those of servers that were cut off are removed at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunDirs(Arc<Mutex<BTreeSet<PathBuf>>>);

impl RunDirs {
    fn note(&self, run_dir: &RunDir) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run_dir.path.clone());
    }

    pub(super) async fn remove(&self, host: &Host, path: &Path) {
        if host.files().remove_dir_all(path).await.is_ok() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        }
    }

    /// Removes what the servers of a run that was killed left in its work directory.
    ///
    /// # Errors
    ///
    /// If the host cannot list or remove.
    pub(crate) async fn remove_earlier(&self, host: &Host, tmp_dir: &Path) -> Result<(), Error> {
        if host.files().exists(tmp_dir).await? {
            for entry in host.files().list(tmp_dir).await? {
                if entry.name.as_encoded_bytes().starts_with(RUN_DIR.as_bytes()) {
                    host.files().remove_dir_all(tmp_dir.join(&entry.name)).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is left, when no server runs any more.
    pub(crate) async fn remove_all(&self, host: &Host) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for path in left {
            self.remove(host, &path).await;
        }
    }
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
