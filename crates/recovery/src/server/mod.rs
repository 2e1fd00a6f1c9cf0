//! The temporary server that a replay runs in: started, asked, stopped, and never left behind.

mod base_dir;
mod launch;
pub(crate) mod left_running;
mod port;
mod run_dir;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backup_catalog::dbscale::Account;
use binlog_replay::replay::NO_LOGIN_FILE;
use remote_exec::{Child, Command, Host, Output};

use crate::Error;
use crate::journal::os_arg;

pub(crate) use self::base_dir::BaseDir;
pub(crate) use self::launch::{Launch, Network};
pub(crate) use self::port::free_port;
pub(crate) use self::run_dir::{RunDir, RunDirs};

/// How much of a server's log an error quotes, in bytes.
const LOG_TAIL: &str = "1500";
/// What the client says when the server is there and refuses the account: 1044, 1045, 1130, 1698.
const REFUSED: [&str; 4] = ["ERROR 1044 ", "ERROR 1045 ", "ERROR 1130 ", "ERROR 1698 "];
/// What it says when not the login, but a statement was refused.
const IN_A_STATEMENT: &str = " at line ";
/// Tells the server whose process id is in a file to end well. It needs no account for that.
const TERMINATE: &str = r#"kill -TERM "$(cat -- "$1")""#;

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
    accounts: Vec<Account>,
    /// The number of the one that could log in last.
    account: AtomicUsize,
    /// How long it may take to answer its first query. A server that was cut off has its crash recovery to do before.
    start_timeout: Duration,
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
        &self.place.accounts[self.place.account.load(Ordering::SeqCst)]
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
    pub(crate) fn client(&self) -> Command {
        self.place.client()
    }

    /// Ends the server cleanly and waits until it is gone. What was replayed may have taken the account away.
    ///
    /// # Errors
    ///
    /// If it does not end, or ends with a failure.
    pub(crate) async fn shutdown(self, timeout: Duration) -> Result<(), Error> {
        let Self { child, place } = self;
        let terminate = place.host.command("sh").args(["-c", TERMINATE, "sh"]).arg(place.run_dir.pid_file());
        let ended = match terminate.run().await {
            Ok(_) => tokio::time::timeout(timeout, child.wait()).await,
            Err(error) => {
                child.kill().await;
                place.remove().await;
                return Err(error.into());
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
    fn client(&self) -> Command {
        let (variable, none) = NO_LOGIN_FILE;
        self.host
            .command(&self.client)
            .env(variable, none)
            .arg(os_arg("--defaults-file=", &self.run_dir.option_file(self.account.load(Ordering::SeqCst))))
            .arg(os_arg("--socket=", &self.socket))
            .args(["--protocol=socket", "--batch", "--skip-column-names", "--raw", "--binary-mode"])
            .args(["--connect-timeout=10", "--max-allowed-packet=1G"])
    }

    /// What the client says, as the account that could log in last, or else as the first other one that can.
    async fn ask(&self, as_asked: impl Fn(Command) -> Command) -> Result<Output, Error> {
        let mut refused = 0;
        loop {
            let output = as_asked(self.client()).output().await?;
            refused += 1;
            if !is_refused(&output) || refused == self.accounts.len() {
                return Ok(output);
            }
            let next = (self.account.load(Ordering::SeqCst) + 1) % self.accounts.len();
            self.account.store(next, Ordering::SeqCst);
        }
    }

    /// Waits until an account can log in: `true`. `false` when the server ended before that.
    async fn wait_until_ready(&self, ended: impl Fn() -> bool) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            if ended() {
                return Ok(false);
            }
            let asked = self
                .ask(|client| client.arg("--execute=SELECT 1").stdin_null().timeout(self.start_timeout))
                .await;
            let words = match asked {
                Ok(asked) if asked.status.success() => return Ok(true),
                Ok(asked) => {
                    let reason = String::from_utf8_lossy(&asked.stderr).trim().to_owned();
                    if is_refused(&asked) {
                        return Err(Error::Login { server: self.folder.clone(), reason });
                    }
                    reason
                }
                Err(Error::Host(error @ remote_exec::Error::Timeout { .. })) => error.to_string(),
                Err(error) => return Err(error),
            };
            if begun.elapsed() > self.start_timeout {
                let seconds = self.start_timeout.as_secs();
                return Err(self
                    .failed(&format!("did not answer in {seconds} s (conn-timeout): {words}"))
                    .await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }

    async fn sql(&self, sql: &str) -> Result<String, Error> {
        let output = self.ask(|client| client.stdin_bytes(sql.as_bytes().to_vec())).await?;
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

/// Whether the client could not log in.
fn is_refused(output: &Output) -> bool {
    let words = String::from_utf8_lossy(&output.stderr);
    let refused = REFUSED.iter().any(|code| words.contains(code)) && !words.contains(IN_A_STATEMENT);
    !output.status.success() && refused
}

#[cfg(test)]
mod tests {
    use binlog_replay::ServerVersion;
    use secrecy::ExposeSecret as _;

    use super::*;

    /// Ends well when it is told to.
    const SERVER: &str = r#"#!/bin/sh
for a; do case $a in --pid-file=*) echo $$ >"${a#*=}" ;; esac; done
trap 'exit 0' TERM
while :; do sleep 0.02; done
"#;
    /// Lets in whoever has the password in `password`, if there is one.
    const CLIENT: &str = r#"#!/bin/sh
dir=${0%/*}
[ -e "$dir/password" ] || { echo "ERROR 2002 (HY000): Can't connect" >&2; exit 1; }
for a; do case $a in --defaults-file=*) file=${a#*=} ;; esac; done
grep -q "password=\"$(cat "$dir/password")\"" "$file" && exec cat
echo "ERROR 1045 (28000): Access denied" >&2
exit 1
"#;

    /// Stand-ins for a server, which has a password, and its client.
    struct Standins {
        dir: tempfile::TempDir,
        base: BaseDir,
    }

    impl Standins {
        async fn new(password: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let program = |name: &str| dir.path().join(name);
            for (name, text) in [("server", SERVER), ("client", CLIENT)] {
                Host::local().files().write(program(name), text.as_bytes().to_vec(), 0o755).await.unwrap();
            }
            let base = BaseDir {
                path: dir.path().to_owned(),
                server: program("server"),
                client: program("client"),
                binlog: program("binlog"),
                version: "10.11.6-MariaDB".parse::<ServerVersion>().unwrap(),
            };
            let standins = Self { dir, base };
            standins.change(password);
            standins
        }

        fn change(&self, password: &str) {
            std::fs::write(self.dir.path().join("password"), password).unwrap();
        }

        async fn start(&self, passwords: &[&str]) -> Result<TemporaryServer, Error> {
            self.start_in(passwords, SOON).await
        }

        async fn start_in(&self, passwords: &[&str], timeout: Duration) -> Result<TemporaryServer, Error> {
            let account =
                |password: &&str| Account { user: "u".to_owned(), password: (*password).to_owned().into() };
            let accounts: Vec<_> = passwords.iter().map(account).collect();
            let launch = Launch {
                host: &Host::local(),
                base: &self.base,
                folder: "a",
                datadir: self.dir.path(),
                tmp_dir: self.dir.path(),
                options: Vec::new(),
                user: None,
                accounts: &accounts,
                zone: None,
                network: Network::None,
                server_id: 1,
                timeout,
                run_dirs: &RunDirs::default(),
            };
            launch.start().await
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_server_ends_well_where_the_replay_took_the_account_away() {
        let standins = Standins::new("old").await;
        let server = standins.start(&["old"]).await.unwrap();
        standins.change("another");
        server.shutdown(SOON).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_has_the_time_that_is_asked_for_to_answer() {
        let standins = Standins::new("old").await;
        let password = standins.dir.path().join("password");
        std::fs::remove_file(&password).unwrap();
        let error = standins.start_in(&["old"], Duration::from_secs(3)).await.unwrap_err();
        assert!(error.to_string().contains("did not answer in 3 s (conn-timeout): "), "{error}");
        let answer = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            standins.change("old");
        };
        let (server, ()) = tokio::join!(standins.start(&["old"]), answer);
        server.unwrap().kill().await;
    }

    #[tokio::test]
    async fn whichever_account_of_the_backups_can_log_in_does() {
        let standins = Standins::new("old").await;
        let server = standins.start(&["old", "new"]).await.unwrap();
        assert_eq!(server.account().password.expose_secret(), "old");
        standins.change("new");
        assert_eq!(server.sql("SELECT 2").await.unwrap(), "SELECT 2");
        assert_eq!(server.account().password.expose_secret(), "new");
        server.kill().await;
        let server = standins.start(&["old", "new"]).await.unwrap();
        assert_eq!(server.account().password.expose_secret(), "new");
        server.kill().await;
        standins.change("another");
        let error = standins.start(&["old", "new"]).await.unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
    }
}
