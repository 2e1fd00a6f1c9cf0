//! The configuration file: the original's INI, with its defaults, as a value.

mod keys;
mod reader;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_catalog::ini::Ini;
pub use remote_exec::transfer::seal::Compression;
use secrecy::SecretString;

pub use self::keys::{KEYS, Key};
use self::reader::Reader;
pub use self::reader::parse_size;
use crate::Error;
use crate::time::Zone;

/// A recovery, as configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to recover to; the command line may say it instead.
    pub recover_to: Option<RecoverTo>,
    /// `skip-gtid`: transactions to leave out on the way there.
    pub skip_gtid: Option<String>,
    /// `without-group`: replication groups to leave out.
    pub without_groups: Vec<String>,
    /// `allow-partial`: use backups that databases or tables were left out of.
    pub allow_partial: bool,
    /// The machine with the backups.
    pub store: Machine,
    /// Base directory of the backups.
    pub store_dir: PathBuf,
    /// The machine that the cluster is recovered on.
    pub job: Machine,
    /// Directory below which recoveries are made.
    pub work_dir: PathBuf,
    /// Everything of `[misc]` and of the agents.
    pub misc: Misc,
    /// Unknown sections and keys, as sentences for the user.
    pub warnings: Vec<String>,
}

/// `[recover-to]`: one of them, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoverTo {
    /// `dir`: the consistent point of a backup.
    Backup(String),
    /// `stop-datetime`.
    Time(String),
    /// `until-gtid`: up to and including these GTIDs.
    UntilGtid(String),
    /// `before-gtid`: before the first of these GTIDs.
    BeforeGtid(String),
    /// `until-position`: `FILE:POS`, or `SERVER/FILE:POS`.
    UntilPosition(String),
}

/// A machine and how to log in to it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Address or name.
    pub ip: String,
    /// ssh port.
    pub port: u16,
    /// Login user; empty for the one of `ssh_config`.
    pub user: String,
    /// Login password; `None`: key or agent.
    pub password: Option<SecretString>,
    /// Private key.
    pub identity_file: Option<PathBuf>,
}

/// `connect-method`: how commands get to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connect {
    /// Everything is on this machine.
    Local,
    /// ssh.
    Ssh,
    /// oslo.messaging over RabbitMQ.
    RabbitAgent,
    /// gRPC.
    AdmAgent,
}

/// `transfer-method`: how bytes get from the store to the job server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// Nothing to move on one machine; socat where configured; else relay.
    Auto,
    /// The job server reads the store's directory itself.
    Local,
    /// Store → here → job server.
    Relay,
    /// Store → job server by socat.
    Socat,
    /// Store → job server by scp.
    Scp,
}

/// `toolchain`: who unpacks and replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toolchain {
    /// The worker where it can run, else the stock tools.
    Auto,
    /// The worker, or an error.
    Worker,
    /// The stock tools.
    Stock,
}

/// `replay-method`: how binlogs are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayMethod {
    /// The fastest that is exact.
    Auto,
    /// `mysqlbinlog | mysql`.
    Pipe,
    /// The worker sends the statements itself.
    Sql,
    /// The server's own applier.
    Relay,
}

/// `[misc]`, `[rabbit-agent]` and `[adm-agent]`.
#[derive(Debug, Clone)]
pub struct Misc {
    /// Debug lines.
    pub debug: bool,
    /// How to reach both machines.
    pub connect: Connect,
    /// Longest time of a login, of a run of the backup tool, and of the stop of a server.
    pub conn_timeout: Duration,
    /// How to move bytes.
    pub transfer: Transfer,
    /// First port of a receiving socat; its presence chooses socat.
    pub socat_port2: Option<u16>,
    /// How often a transfer is tried again.
    pub socat_retry_count: u32,
    /// Most bytes per second of a transfer.
    pub rate_limit: Option<u64>,
    /// Compression of a transfer on its way.
    pub transfer_compress: Compression,
    /// First TCP port of servers that are left running.
    pub server_tmp_port: u16,
    /// `mysql` or `mariadb`.
    pub client_name: String,
    /// The xtrabackup or mariabackup program; `None`: looked for by flavour.
    pub xtrabackup: Option<String>,
    /// The xbstream or mbstream program; `None`: looked for by flavour.
    pub xbstream: Option<String>,
    /// Servers get their own port and id and are left running.
    pub for_testing: bool,
    /// User of the temporary servers.
    pub mysqld_user: Option<String>,
    /// Zone of the backup machine.
    pub zone: Zone,
    /// `lower_case_table_names` of servers whose `my.conf` does not say it.
    pub lower_case_table_names: Option<u8>,
    /// Servers side by side; `None`: cores of the job server.
    pub parallel: Option<usize>,
    /// How to replay.
    pub replay: ReplayMethod,
    /// Who unpacks and replays.
    pub toolchain: Toolchain,
    /// `dbrecover` on the job server.
    pub worker_path: Option<String>,
    /// Directory of the `ds_info` files.
    pub ds_info_dir: PathBuf,
    /// known_hosts of ssh.
    pub known_hosts_file: Option<PathBuf>,
    /// Accept and keep unknown host keys.
    pub accept_new_host_keys: bool,
    /// ssh_config.
    pub ssh_config_file: Option<PathBuf>,
    /// Give passwords to agents that show them in their host's process list.
    pub trusted_agent: bool,
    /// Transport URL of the agents' broker (holds a password).
    pub rabbit_uri: Option<SecretString>,
    /// Topic of the agents.
    pub agent_topic: String,
    /// CA certificates of the broker.
    pub rabbit_ca_file: Option<PathBuf>,
    /// gRPC port of the agents.
    pub adm_port: u16,
    /// File with the agents' bearer token.
    pub adm_token_file: Option<PathBuf>,
    /// CA certificate of the agents.
    pub adm_ca_file: Option<PathBuf>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no INI file, misses a key or holds a value that cannot be.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::ConfigFile { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a configuration from `text`; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// As [`Config::read`].
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ini = Ini::parse(file, text).map_err(Error::ConfigSyntax)?;
        let read = Reader { ini: &ini, file };
        let connect = read.connect()?;
        let local = connect == Connect::Local;
        if connect == Connect::RabbitAgent && read.get("rabbit-agent", "rabbitmq-uri").is_none() {
            return Err(read.error("rabbit-agent", "rabbitmq-uri", "connect-method = rabbit-agent needs it"));
        }
        Ok(Self {
            recover_to: read.recover_to()?,
            skip_gtid: read.get("recover-to", "skip-gtid").map(str::to_owned),
            without_groups: read.list("recover-to", "without-group"),
            allow_partial: read.flag("recover-to", "allow-partial")?,
            store: read.machine("backup-store", local)?,
            store_dir: read.absolute("backup-store", "dir")?,
            job: read.machine("recovery-job-server", local)?,
            work_dir: read.absolute("recovery-job-server", "work-dir")?,
            misc: read.misc(connect)?,
            warnings: read.unknown().into_iter().chain(read.read_otherwise()).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
