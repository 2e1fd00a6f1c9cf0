//! The temporary server that a replay runs in: started, asked, stopped, and never left behind.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_catalog::dbscale::Account;
use binlog_replay::ServerVersion;
use remote_exec::{Child, Host};
use secrecy::{ExposeSecret, SecretString};

use crate::Error;
use crate::journal::os_arg;

/// Longest time that a server may take to answer its first query, in seconds. Crash recovery of a prepared
/// datadir is short; a large buffer pool takes its time to be allocated.
const START_SECONDS: u64 = 300;
/// Longest path of a socket in bytes: the 108 of `sockaddr_un` hold a final zero.
const SOCKET_PATH: usize = 107;
/// How the private directories of temporary servers begin.
const RUN_DIR: &str = ".run.";
/// How much of a server's log an error quotes, in bytes.
const LOG_TAIL: &str = "1500";
/// What the client says when the server is there and refuses the account: 1044, 1045, 1130, 1698.
const REFUSED: [&str; 4] = ["ERROR 1044 ", "ERROR 1045 ", "ERROR 1130 ", "ERROR 1698 "];

/// The programs of the backup's own base directory.
#[derive(Debug, Clone)]
pub(crate) struct BaseDir {
    /// The directory that holds `bin/` and `share/`.
    pub(crate) path: PathBuf,
    /// The server.
    pub(crate) server: PathBuf,
    /// The client.
    pub(crate) client: PathBuf,
    /// `mysqlbinlog` or `mariadb-binlog`.
    pub(crate) binlog: PathBuf,
    /// Flavour and version, as the server itself says.
    pub(crate) version: ServerVersion,
}

impl BaseDir {
    /// Looks into `parent`, which holds one top-level folder, for the programs called `client_name`.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] if a program is missing or cannot run on this host.
    pub(crate) async fn detect(host: &Host, parent: &Path, client_name: &str) -> Result<Self, Error> {
        let tool = |tool: &str, reason: String| Error::Tool {
            host: host.name().to_owned(),
            tool: tool.to_owned(),
            reason,
        };
        let folders = host.files().list(parent).await?;
        let [folder] = folders.as_slice() else {
            return Err(tool(
                "base directory",
                format!("{} holds {} folders instead of one", parent.display(), folders.len()),
            ));
        };
        let path = parent.join(&folder.name);
        let bin = path.join("bin");
        let alternative = if client_name == "mysql" { "mariadb" } else { "mysql" };
        let mut found = Vec::new();
        let names: [Vec<String>; 3] = [
            vec![format!("{client_name}d"), format!("{alternative}d")],
            vec![client_name.to_owned(), alternative.to_owned()],
            vec![
                format!("{client_name}binlog"),
                format!("{client_name}-binlog"),
                format!("{alternative}-binlog"),
                format!("{alternative}binlog"),
            ],
        ];
        for candidates in names {
            let mut program = None;
            for name in &candidates {
                if host.files().exists(bin.join(name)).await? {
                    program = Some(bin.join(name));
                    break;
                }
            }
            found.push(program.ok_or_else(|| {
                tool(&candidates[0], format!("is not in {} (client-name = {client_name})", bin.display()))
            })?);
        }
        let [server, client, binlog] = <[PathBuf; 3]>::try_from(found).unwrap_or_default();
        let said = host.command(&server).args(["--no-defaults", "--version"]).output().await?;
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.status.success() {
            let stderr = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(tool(
                &server.display().to_string(),
                format!("cannot run on this machine ({}): {stderr}", said.status),
            ));
        }
        let version =
            text.parse().map_err(|_| tool(&server.display().to_string(), format!("says {text:?}")))?;
        Ok(Self { path, server, client, binlog, version })
    }
}

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
    /// The account to log in with.
    pub(crate) account: &'a Account,
    /// Its network.
    pub(crate) network: Network,
    /// Its server id.
    pub(crate) server_id: u32,
    /// Where its private directory is noted, so that it is removed whatever happens.
    pub(crate) run_dirs: &'a RunDirs,
}

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

/// A private directory of one server: socket, pid file, option file.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("s.sock")
    }

    fn option_file(&self) -> PathBuf {
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

    async fn remove(&self, host: &Host, path: &Path) {
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

impl Launch<'_> {
    /// Makes the private directory that the server will live in: in the work directory, so that nothing is left
    /// elsewhere when nobody can clean up, or in `/tmp` when the socket's path would be too long.
    ///
    /// # Errors
    ///
    /// If the host cannot make it.
    pub(crate) async fn run_dir(&self) -> Result<RunDir, Error> {
        let mut template = self.tmp_dir.join(format!("{RUN_DIR}XXXXXXXX"));
        if (RunDir { path: template.clone() }).socket().as_os_str().len() > SOCKET_PATH {
            template = "/tmp/dbrecover.XXXXXXXX".into();
        }
        let made = self.host.command("mktemp").arg("-d").arg(&template).run().await?;
        let path = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim_end());
        let run_dir = RunDir { path };
        self.run_dirs.note(&run_dir);
        self.host.files().write_secret(run_dir.option_file(), self.option_file_text()).await?;
        if let Some(user) = self.user {
            self.host.command("chown").arg(user).arg(&run_dir.path).run().await?;
        }
        Ok(run_dir)
    }

    fn option_file_text(&self) -> SecretString {
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
        format!(
            "[client]\nuser={}\npassword={}\n",
            quote(&self.account.user),
            quote(self.account.password.expose_secret())
        )
        .into()
    }

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

    /// Starts a server that outlives this process, and waits until the account can log in.
    ///
    /// # Errors
    ///
    /// As [`Launch::start`].
    pub(crate) async fn start_detached(self, socket: &Path) -> Result<(), Error> {
        let run_dir = self.run_dir().await?;
        let place = self.place(&run_dir, socket);
        let result = async {
            self.make_log().await?;
            self.host
                .command("sh")
                .args(["-c", r#"setsid "$@" </dev/null >/dev/null 2>&1 &"#, "sh"])
                .arg(&self.base.server)
                .args(self.arguments(socket, &self.datadir.join("db.pid")))
                .current_dir(self.datadir)
                .run()
                .await?;
            place.wait_until_ready(|| false).await
        };
        let result = result.await;
        place.remove().await;
        result.map(drop)
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
            account: self.account.clone(),
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

    /// Starts the server and waits until the account can log in.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it ends or does not answer, [`Error::Login`] if it answers and refuses the account.
    pub(crate) async fn start(self) -> Result<TemporaryServer, Error> {
        let run_dir = self.run_dir().await?;
        match self.start_in(&run_dir).await {
            Ok(server) => Ok(server),
            Err(error) => {
                self.run_dirs.remove(self.host, &run_dir.path).await;
                Err(error)
            }
        }
    }

    async fn start_in(&self, run_dir: &RunDir) -> Result<TemporaryServer, Error> {
        self.make_log().await?;
        let socket = run_dir.socket();
        let mut arguments = self.arguments(&socket, &run_dir.path.join("server.pid"));
        arguments.push(os_arg("--tmpdir=", &run_dir.path));
        let child = self
            .host
            .command(&self.base.server)
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
        self.host
            .command(&self.client)
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
        self.run_dirs.remove(&self.host, &self.run_dir.path).await;
    }
}

/// The first port at or above `from` that no socket of the host is bound to.
///
/// # Errors
///
/// If the host cannot say, or all are taken.
pub(crate) async fn free_port(host: &Host, from: u16) -> Result<u16, Error> {
    let taken = host.command("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).output().await?;
    let taken = ports(&String::from_utf8_lossy(&taken.stdout));
    (from..=u16::MAX).find(|port| !taken.contains(port)).ok_or_else(|| Error::Tool {
        host: host.name().to_owned(),
        tool: "port".to_owned(),
        reason: format!("all ports from {from} on are taken"),
    })
}

/// The local ports in `/proc/net/tcp`: the second field is `ADDRESS:PORT` in hexadecimal.
fn ports(table: &str) -> Vec<u16> {
    let local = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    local.filter_map(|address| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:6978 00000000:0000 0A 0:0\n";
        assert_eq!(ports(table), [27000]);
    }
}
