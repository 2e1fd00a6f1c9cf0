//! Throw-away database servers: own directory, socket and loopback port, never the system's instance.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::sql::Sql;
use crate::tools;

/// Which family of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MariaDB, installed from Debian.
    MariaDb,
    /// MySQL, from the base directory among the test tools.
    MySql,
}

impl Flavor {
    /// The server program.
    pub fn server_program(self) -> Result<PathBuf> {
        Ok(match self {
            Self::MariaDb => PathBuf::from("/usr/sbin/mariadbd"),
            Self::MySql => tools::mysql_basedir()?.join("bin/mysqld"),
        })
    }

    /// What the server program says its version is.
    pub fn version(self) -> Result<String> {
        let out = Command::new(self.server_program()?)
            .args(["--no-defaults", "--version"])
            .output()
            .context("the server program cannot be run; run ./test")?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }
}

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The family.
    pub flavor: Flavor,
    /// The directory that will hold `data/`, `my.cnf`, the socket and the log.
    pub dir: PathBuf,
    /// `server-id`; for MariaDB `gtid_domain_id` too when `domain` is set.
    pub server_id: u32,
    /// The GTID domain (MariaDB).
    pub domain: u32,
    /// Options that the data directory is made with, and every later start needs too; for [`Server::create`].
    pub layout: Vec<String>,
    /// More lines for `[mysqld]`.
    pub extra: Vec<String>,
}

/// A running server. Dropping it kills it; [`Server::stop`] ends it cleanly.
#[derive(Debug)]
pub struct Server {
    /// The family.
    pub flavor: Flavor,
    /// Where everything of it lies.
    pub dir: PathBuf,
    /// Its data directory.
    pub datadir: PathBuf,
    /// Its configuration file.
    pub conf: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
    child: Option<Child>,
}

/// A port nobody listens on at the moment.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A command that dies with the thread that starts it, and that runs as the user `mysql` when we are root:
/// MariaDB refuses to run as root. MySQL's base directory lies where only its owner may look, so MySQL runs as
/// root and is told that this is meant.
fn as_server_user(flavor: Flavor, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL");
    if flavor == Flavor::MariaDb && rustix::process::geteuid().is_root() {
        command.args(["--reuid=mysql", "--regid=mysql", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// What the server needs on its command line to run as the user it runs as.
fn user_option(flavor: Flavor) -> Option<&'static str> {
    (flavor == Flavor::MySql && rustix::process::geteuid().is_root()).then_some("--user=root")
}

/// Gives a directory, and what is in it, to the user that servers run as.
pub fn give_to_server_user(path: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        tools::run(Command::new("chown").args(["-R", "mysql:mysql"]).arg(path))?;
    }
    Ok(())
}

impl Server {
    /// Makes an empty data directory and starts a server on it.
    pub fn create(config: &Config) -> Result<Self> {
        // The environment's TMPDIR may be one where the servers' user must not write.
        let tmpdir = config.dir.join("tmp");
        fs::create_dir_all(&tmpdir)?;
        give_to_server_user(&config.dir)?;
        let datadir = config.dir.join("data");
        let mut init = match config.flavor {
            Flavor::MariaDb => {
                let mut init = as_server_user(config.flavor, Path::new("/usr/bin/mariadb-install-db"));
                init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                init.args(["--skip-name-resolve", "--innodb-log-file-size=16M"]);
                init
            }
            Flavor::MySql => {
                let mut init = as_server_user(config.flavor, &config.flavor.server_program()?);
                init.args(["--no-defaults", "--initialize-insecure", "--innodb-redo-log-capacity=16M"]);
                init.args(user_option(config.flavor));
                init
            }
        };
        init.env("TMPDIR", &tmpdir).arg(format!("--datadir={}", datadir.display())).args(&config.layout);
        tools::run(&mut init)?;
        let binlog = match config.flavor {
            Flavor::MariaDb => {
                format!("gtid_domain_id={}\ngtid_strict_mode=1\nlog_slave_updates=1", config.domain)
            }
            Flavor::MySql => {
                "gtid_mode=ON\nenforce_gtid_consistency=1\nmysqlx=0\nplugin-load-add=mysql_clone.so"
                    .to_owned()
            }
        };
        let conf = config.dir.join("my.cnf");
        fs::write(
            &conf,
            format!(
                "[mysqld]\nserver-id={id}\nlog-bin=greatdb-bin\nbinlog-format=row\n{binlog}\n\
                 relay-log=relay\ninnodb_max_dirty_pages_pct=0\ncharacter-set-server=utf8mb4\nmax_allowed_packet=64M\n{extra}\n",
                id = config.server_id,
                extra = config
                    .layout
                    .iter()
                    .map(|option| option.trim_start_matches('-'))
                    .chain(config.extra.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        )?;
        Self::start_on(config.flavor, &config.dir, &datadir, &[])
    }

    /// Starts a server on an existing data directory. `dir` gets the socket and the log, and may hold a
    /// `my.cnf`; `options` are added to the command line.
    pub fn start_on(flavor: Flavor, dir: &Path, datadir: &Path, options: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        // A server that starts removes temporary tables it finds, another one's too: none may share a directory.
        let tmpdir = dir.join("tmp");
        fs::create_dir_all(&tmpdir)?;
        let conf = dir.join("my.cnf");
        if !conf.exists() {
            fs::write(&conf, "[mysqld]\n")?;
        }
        give_to_server_user(dir)?;
        give_to_server_user(datadir)?;
        let socket = dir.join("s");
        ensure!(socket.as_os_str().len() < 104, "path of a socket too long: {}", socket.display());
        // Another process may take the port between the look and the start: then it is tried again.
        for _ in 0..5 {
            let port = free_port()?;
            let log = fs::File::create(dir.join("log"))?;
            let mut command = as_server_user(flavor, &flavor.server_program()?);
            command
                .arg(format!("--defaults-file={}", conf.display()))
                .arg(format!("--datadir={}", datadir.display()))
                .arg(format!("--socket={}", socket.display()))
                .arg(format!("--pid-file={}", dir.join("pid").display()))
                .arg(format!("--tmpdir={}", tmpdir.display()))
                .arg(format!("--port={port}"))
                .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=32M"])
                // The lab's truth needs no server that survives a power cut.
                .args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"])
                .args(match flavor {
                    Flavor::MariaDb => &["--skip-slave-start"][..],
                    Flavor::MySql => &["--skip-replica-start"][..],
                })
                .args(user_option(flavor))
                .args(options)
                .current_dir(dir)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            let child = command.spawn().context("start a server")?;
            let mut server = Self {
                flavor,
                dir: dir.to_owned(),
                datadir: datadir.to_owned(),
                conf: conf.clone(),
                socket: socket.clone(),
                port,
                child: Some(child),
            };
            match server.wait_ready()? {
                Ready::Yes => return Ok(server),
                Ready::PortTaken => {}
            }
        }
        bail!("no free port for a server after five tries")
    }

    fn wait_ready(&mut self) -> Result<Ready> {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let log = fs::read(self.dir.join("log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait()? {
                if log.contains("Address already in use") {
                    return Ok(Ready::PortTaken);
                }
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("the server in {} ended with {status}:\n{}", self.dir.display(), tail.join("\n"));
            }
            if log.contains("ready for connections") && self.socket.exists() {
                return Ok(Ready::Yes);
            }
            ensure!(Instant::now() < until, "the server in {} is not ready after 90 s", self.dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Logs in as `root`, who has no password in the lab.
    pub fn sql(&self) -> Result<Sql> {
        Sql::socket(&self.socket, "root", None)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Ends the server as an administrator would, and waits for it.
    pub fn stop(mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let until = Instant::now() + Duration::from_secs(60);
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                bail!("the server in {} did not stop within 60 s", self.dir.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

enum Ready {
    Yes,
    PortTaken,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
