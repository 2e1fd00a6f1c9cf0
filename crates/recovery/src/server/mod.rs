//! The temporary server that a replay runs in: started, asked, stopped, and never left behind.

mod base_dir;
mod launch;
pub(crate) mod left_running;
mod port;
mod run_dir;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backup_catalog::dbscale::Account;
use binlog_replay::replay::NO_LOGIN_FILE;
use remote_exec::{Child, Host};

use crate::Error;
use crate::journal::os_arg;

pub(crate) use self::base_dir::BaseDir;
pub(crate) use self::launch::{Launch, Network};
pub(crate) use self::port::free_port;
pub(crate) use self::run_dir::{RunDir, RunDirs};

/// Longest time that a server may take to answer its first query, in seconds. Crash recovery of a prepared
/// datadir is short; a large buffer pool takes its time to be allocated.
const START_SECONDS: u64 = 300;
/// How much of a server's log an error quotes, in bytes.
const LOG_TAIL: &str = "1500";
/// What the client says when the server is there and refuses the account: 1044, 1045, 1130, 1698.
const REFUSED: [&str; 4] = ["ERROR 1044 ", "ERROR 1045 ", "ERROR 1130 ", "ERROR 1698 "];

/// A running temporary server. Dropping it kills it; [`TemporaryServer::shutdown`] ends it well.
#[derive(Debug)]
pub(crate) struct TemporaryServer {
    child: Child,
    place: Place,
}

/// Everything about a server but its process.
#[derive(Debug)]
struct Place {
    host: Host,
    folder: String,
    client: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    run_dir: RunDir,
    run_dirs: RunDirs,
    account: Account,
}

impl TemporaryServer {
    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.place.socket.clone()
    }

    /// A directory that is gone when the server is.
    pub(crate) fn private_dir(&self) -> &Path {
        &self.place.run_dir.path
    }

    /// The account that can log in.
    pub(crate) fn account(&self) -> &Account {
        &self.place.account
    }

    /// Runs SQL with the stock client and returns what it prints: rows as lines, columns by TAB.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] with the server's words.
    pub(crate) async fn sql(&self, sql: &str) -> Result<String, Error> {
        self.place.sql(sql).await
    }

    /// The stock client as a command that reads SQL from its input.
    pub(crate) fn client(&self) -> remote_exec::Command {
        self.place.client()
    }

    /// Ends the server cleanly and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not end, or ends with a failure.
    pub(crate) async fn shutdown(self, timeout: Duration) -> Result<(), Error> {
        let Self { child, place } = self;
        let ended = match place.sql("SHUTDOWN").await {
            Ok(_) => tokio::time::timeout(timeout, child.wait()).await,
            Err(error) => {
                child.kill().await;
                place.remove().await;
                return Err(error);
            }
        };
        let result = match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(place.failed(&format!("did not end well ({status})")).await),
            Ok(Err(error)) => Err(error.into()),
            // Dropping the child killed it.
            Err(_) => Err(place.failed(&format!("did not end in {} s", timeout.as_secs())).await),
        };
        place.remove().await;
        result
    }

    /// Kills the server and removes its private directory.
    pub(crate) async fn kill(self) {
        self.child.kill().await;
        self.place.remove().await;
    }
}

impl Place {
    fn client(&self) -> remote_exec::Command {
        let (variable, none) = NO_LOGIN_FILE;
        self.host
            .command(&self.client)
            .env(variable, none)
            .arg(os_arg("--defaults-file=", &self.run_dir.option_file()))
            .arg(os_arg("--socket=", &self.socket))
            .args(["--protocol=socket", "--batch", "--skip-column-names", "--raw", "--binary-mode"])
            .args(["--connect-timeout=10", "--max-allowed-packet=1G"])
    }

    /// Waits until the account can log in: `true`. `false` when the server ended before that.
    async fn wait_until_ready(&self, ended: impl Fn() -> bool) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            if ended() {
                return Ok(false);
            }
            let asked = self.client().arg("--execute=SELECT 1").stdin_null().output().await?;
            if asked.status.success() {
                return Ok(true);
            }
            let words = String::from_utf8_lossy(&asked.stderr).trim().to_owned();
            if REFUSED.iter().any(|code| words.contains(code)) {
                return Err(Error::Login { server: self.folder.clone(), reason: words });
            }
            if begun.elapsed() > Duration::from_secs(START_SECONDS) {
                return Err(self.failed(&format!("did not answer in {START_SECONDS} s: {words}")).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }

    async fn sql(&self, sql: &str) -> Result<String, Error> {
        let output = self.client().stdin_bytes(sql.as_bytes().to_vec()).output().await?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Server {
                server: self.folder.clone(),
                reason: format!("refuses {sql:?}: {words}"),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// The error of a server that failed, with the end of its log.
    async fn failed(&self, what: &str) -> Error {
        let tail = self.host.command("tail").args(["-c", LOG_TAIL]).arg(&self.log).output().await;
        let tail = tail.map_or_else(|_| String::new(), |output| output.text());
        Error::Server {
            server: self.folder.clone(),
            reason: format!("{what}; its log {} ends:\n{tail}", self.log.display()),
        }
    }

    async fn remove(&self) {
        self.run_dirs.remove(&self.host, &self.run_dir).await;
    }
}
