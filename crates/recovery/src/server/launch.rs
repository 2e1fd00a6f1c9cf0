//! How a temporary server is started: its arguments, its log, and the wait until it answers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use backup_catalog::dbscale::Account;
use remote_exec::{Command, Host};

use super::{BaseDir, Place, RunDir, RunDirs, TemporaryServer};
use crate::Error;
use crate::journal::os_arg;

/// How a temporary server can be reached over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Only by its socket.
    None,
    /// On this port of the loopback interface.
    Loopback(u16),
}

/// What a temporary server is started with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Where.
    pub(crate) host: &'a Host,
    /// Its programs.
    pub(crate) base: &'a BaseDir,
    /// The server's folder name, for messages.
    pub(crate) folder: &'a str,
    /// Its datadir.
    pub(crate) datadir: &'a Path,
    /// A directory for its log and its private directory.
    pub(crate) tmp_dir: &'a Path,
    /// What the backup and the replay ask for: `--name=value`.
    pub(crate) options: Vec<OsString>,
    /// The operating system user; `None`: the login user.
    pub(crate) user: Option<&'a str>,
    /// The accounts to log in with: the first that can.
    pub(crate) accounts: &'a [Account],
    /// What its system time zone is: that of the server that was backed up. Statements in the binlogs mean it.
    pub(crate) zone: Option<&'a str>,
    /// Its network.
    pub(crate) network: Network,
    /// Its server id.
    pub(crate) server_id: u32,
    /// How long it may take until it answers.
    pub(crate) timeout: Duration,
    /// Where its private directory is noted, so that it is removed whatever happens.
    pub(crate) run_dirs: &'a RunDirs,
}

impl Launch<'_> {
    /// The server's arguments. `--no-defaults` must come first.
    fn arguments(&self, socket: &Path, pid_file: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--no-defaults".into()];
        args.push(os_arg("--basedir=", &self.base.path));
        args.push(os_arg("--datadir=", self.datadir));
        args.push(os_arg("--lc-messages-dir=", &self.base.path.join("share")));
        args.push(os_arg("--socket=", socket));
        args.push(os_arg("--pid-file=", pid_file));
        args.push(os_arg("--log-error=", &self.log()));
        args.push(format!("--server-id={}", self.server_id).into());
        args.push("--event-scheduler=OFF".into());
        if let Some(user) = self.user {
            args.push(format!("--user={user}").into());
        }
        match self.network {
            Network::None => args.push("--skip-networking".into()),
            Network::Loopback(port) => {
                args.push(format!("--port={port}").into());
                args.push("--bind-address=127.0.0.1".into());
            }
        }
        args.extend(self.options.iter().cloned());
        args
    }

    /// Starts a server that outlives this process, and waits until an account can log in: to this server, not to
    /// another one that has the socket.
    ///
    /// # Errors
    ///
    /// As [`Launch::start`].
    pub(crate) async fn start_detached(self, socket: &Path) -> Result<(), Error> {
        let run_dir = self.run_dir().await?;
        let place = self.place(&run_dir, socket);
        let result = async {
            self.make_log().await?;
            self.in_zone(self.host.command("sh"))
                .args(["-c", r#"setsid "$@" </dev/null >/dev/null 2>&1 &"#, "sh"])
                .arg(&self.base.server)
                .args(self.arguments(socket, &self.datadir.join("db.pid")))
                .current_dir(self.datadir)
                .run()
                .await?;
            place.wait_until_ready(|| false).await?;
            self.is_answering(&place).await
        };
        let result = result.await;
        place.remove().await;
        result
    }

    async fn is_answering(&self, place: &Place) -> Result<(), Error> {
        let answer = place.sql("SELECT @@server_id, @@port, @@datadir").await?;
        let mut said = answer.split('\t');
        let (id, port) =
            (said.next().and_then(|id| id.parse().ok()), said.next().and_then(|p| p.parse().ok()));
        if (id, port.map(Network::Loopback)) == (Some(self.server_id), Some(self.network)) {
            return Ok(());
        }
        let (socket, datadir) = (place.socket.display(), said.next().unwrap_or_default());
        Err(place.failed(&format!("does not answer at {socket}, but the server on {datadir} does")).await)
    }

    fn in_zone(&self, command: Command) -> Command {
        match self.zone {
            Some(zone) => command.env("TZ", zone),
            None => command,
        }
    }

    async fn run_dir(&self) -> Result<RunDir, Error> {
        RunDir::make(self.run_dirs, self.host, self.tmp_dir, self.user, self.accounts).await
    }

    fn place(&self, run_dir: &RunDir, socket: &Path) -> Place {
        Place {
            host: self.host.clone(),
            folder: self.folder.to_owned(),
            client: self.base.client.clone(),
            log: self.log(),
            socket: socket.to_owned(),
            run_dir: run_dir.clone(),
            run_dirs: self.run_dirs.clone(),
            accounts: self.accounts.to_vec(),
            account: AtomicUsize::new(0),
            start_timeout: self.timeout,
        }
    }

    /// A server that runs as another user opens its log as that user.
    async fn make_log(&self) -> Result<(), Error> {
        let log = self.log();
        self.host.files().write(&log, Vec::new(), 0o644).await?;
        if let Some(user) = self.user {
            self.host.command("chown").arg(user).arg(&log).run().await?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.tmp_dir.join(format!("{}.err", self.folder))
    }

    /// Starts the server and waits until an account can log in.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it ends or does not answer, [`Error::Login`] if it answers and refuses all accounts.
    pub(crate) async fn start(self) -> Result<TemporaryServer, Error> {
        let run_dir = self.run_dir().await?;
        match self.start_in(&run_dir).await {
            Ok(server) => Ok(server),
            Err(error) => {
                self.run_dirs.remove(self.host, &run_dir).await;
                Err(error)
            }
        }
    }

    async fn start_in(&self, run_dir: &RunDir) -> Result<TemporaryServer, Error> {
        self.make_log().await?;
        let socket = run_dir.socket();
        let mut arguments = self.arguments(&socket, &run_dir.pid_file());
        arguments.push(os_arg("--tmpdir=", &run_dir.path));
        let child = self
            .in_zone(self.host.command(&self.base.server))
            .args(arguments)
            .current_dir(self.datadir)
            .stdin_null()
            .stdout_null()
            .stderr_null()
            .spawn()
            .await?;
        let place = self.place(run_dir, &socket);
        match place.wait_until_ready(|| child.has_ended()).await {
            Ok(true) => Ok(TemporaryServer { child, place }),
            Ok(false) => {
                let how = match child.wait().await {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                Err(place.failed(&format!("ended before it answered ({how})")).await)
            }
            Err(error) => {
                child.kill().await;
                Err(error)
            }
        }
    }
}
