//! The configuration file: the original's INI, with its defaults, as a value.

mod keys;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use backup_catalog::ini::Ini;
pub use remote_exec::transfer::seal::Compression;
use secrecy::SecretString;

pub use self::keys::{KEYS, Key};
use crate::Error;
use crate::time::Zone;

/// A recovery, as configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to recover to; the command line may say it instead.
    pub recover_to: Option<RecoverTo>,
    /// `skip-gtid`: transactions to leave out on the way there.
    pub skip_gtid: Option<String>,
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
    /// Longest time of one command.
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
            store: read.machine("backup-store", local)?,
            store_dir: read.absolute("backup-store", "dir")?,
            job: read.machine("recovery-job-server", local)?,
            work_dir: read.absolute("recovery-job-server", "work-dir")?,
            misc: read.misc(connect)?,
            warnings: read.unknown().into_iter().chain(read.read_otherwise()).collect(),
        })
    }
}

/// Typed access to the values, with their places for messages.
struct Reader<'a> {
    ini: &'a Ini,
    file: &'a str,
}

impl<'a> Reader<'a> {
    /// The value of a key; an empty one counts as absent.
    fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        debug_assert!(KEYS.iter().any(|k| k.section == section && k.name == key), "{section}.{key}");
        self.ini.get(section, key).filter(|value| !value.is_empty())
    }

    fn error(&self, section: &'static str, key: &'static str, reason: impl Into<String>) -> Error {
        let place = match self.ini.line(section, key) {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_owned(),
        };
        Error::Config { place, section, key, reason: reason.into() }
    }

    fn needed(&self, section: &'static str, key: &'static str) -> Result<&'a str, Error> {
        self.get(section, key).ok_or_else(|| {
            let what = KEYS.iter().find(|k| k.section == section && k.name == key).map_or("", |k| k.what);
            self.error(section, key, format!("is missing ({what})"))
        })
    }

    fn or_default(&self, section: &'static str, key: &'static str) -> &'a str {
        self.get(section, key).unwrap_or_else(|| {
            KEYS.iter().find(|k| k.section == section && k.name == key).and_then(|k| k.default).unwrap_or("")
        })
    }

    fn parsed<T: FromStr>(&self, section: &'static str, key: &'static str, what: &str) -> Result<T, Error> {
        let text = self.or_default(section, key);
        text.parse().map_err(|_| self.error(section, key, format!("{text:?} is not {what}")))
    }

    fn optional<T: FromStr>(
        &self,
        section: &'static str,
        key: &'static str,
        what: &str,
    ) -> Result<Option<T>, Error> {
        self.get(section, key).map(|_| self.parsed(section, key, what)).transpose()
    }

    fn flag(&self, section: &'static str, key: &'static str) -> Result<bool, Error> {
        match self.or_default(section, key).to_ascii_lowercase().as_str() {
            "" | "0" | "false" | "no" | "off" => Ok(false),
            "1" | "true" | "yes" | "on" => Ok(true),
            other => Err(self.error(section, key, format!("{other:?} is neither true nor false"))),
        }
    }

    fn one_of<T: Copy>(
        &self,
        section: &'static str,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, Error> {
        let text = self.or_default(section, key).to_ascii_lowercase();
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.error(section, key, format!("{text:?} is none of {}", names.join(", ")))
        })
    }

    fn absolute(&self, section: &'static str, key: &'static str) -> Result<PathBuf, Error> {
        let text = self.needed(section, key)?;
        let path: PathBuf = Path::new(text).components().collect();
        if !path.is_absolute() || path.parent().is_none() {
            return Err(self.error(section, key, format!("{text:?} must be an absolute path other than /")));
        }
        Ok(path)
    }

    fn path(&self, section: &'static str, key: &'static str) -> Option<PathBuf> {
        self.get(section, key).map(PathBuf::from)
    }

    fn machine(&self, section: &'static str, local: bool) -> Result<Machine, Error> {
        Ok(Machine {
            ip: if local { "localhost" } else { self.needed(section, "ip")? }.to_owned(),
            port: self.parsed(section, "port", "a port number")?,
            user: self.get(section, "user").unwrap_or_default().to_owned(),
            password: self.get(section, "password").map(SecretString::from),
            identity_file: self.path(section, "identity-file"),
        })
    }

    /// The one target of `[recover-to]`.
    fn recover_to(&self) -> Result<Option<RecoverTo>, Error> {
        type Make = fn(String) -> RecoverTo;
        let targets: [(&'static str, Make); 5] = [
            ("dir", RecoverTo::Backup),
            ("stop-datetime", RecoverTo::Time),
            ("until-gtid", RecoverTo::UntilGtid),
            ("before-gtid", RecoverTo::BeforeGtid),
            ("until-position", RecoverTo::UntilPosition),
        ];
        let mut given =
            targets.iter().filter_map(|(key, make)| Some((*key, make, self.get("recover-to", key)?)));
        let Some((first, make, value)) = given.next() else { return Ok(None) };
        if let Some((second, ..)) = given.next() {
            let reason = format!("and {first} exclude each other: give one");
            return Err(self.error("recover-to", second, reason));
        }
        Ok(Some(make(value.to_owned())))
    }

    fn connect(&self) -> Result<Connect, Error> {
        self.needed("misc", "connect-method")?;
        self.one_of(
            "misc",
            "connect-method",
            &[
                ("local", Connect::Local),
                ("ssh", Connect::Ssh),
                ("rabbit-agent", Connect::RabbitAgent),
                ("adm-agent", Connect::AdmAgent),
            ],
        )
    }

    fn misc(&self, connect: Connect) -> Result<Misc, Error> {
        let misc = "misc";
        // The original takes everything but 0 and false as on.
        let debug = !matches!(self.or_default(misc, "debug").to_ascii_lowercase().as_str(), "0" | "false");
        self.parsed::<u16>(misc, "socat-port", "a port number")?;
        Ok(Misc {
            debug,
            connect,
            conn_timeout: Duration::from_secs(self.parsed(misc, "conn-timeout", "a number of seconds")?),
            transfer: self.one_of(
                misc,
                "transfer-method",
                &[
                    ("auto", Transfer::Auto),
                    ("local", Transfer::Local),
                    ("relay", Transfer::Relay),
                    ("socat", Transfer::Socat),
                    ("scp", Transfer::Scp),
                ],
            )?,
            socat_port2: self.optional(misc, "socat-port2", "a port number")?,
            socat_retry_count: self.parsed(misc, "socat-retry-count", "a number")?,
            rate_limit: self
                .get(misc, "rate-limit")
                .map(|text| {
                    parse_size(text).ok_or_else(|| {
                        self.error(
                            misc,
                            "rate-limit",
                            format!("{text:?} is not a number of bytes such as 200M"),
                        )
                    })
                })
                .transpose()?,
            transfer_compress: self.one_of(
                misc,
                "transfer-compress",
                &[("none", Compression::None), ("zstd", Compression::Zstd)],
            )?,
            server_tmp_port: self.parsed(misc, "server-tmp-port", "a port number")?,
            client_name: self.client_name()?,
            xtrabackup: self.get(misc, "xtrabackup-bin-dir").map(str::to_owned),
            xbstream: self.get(misc, "xbstream-bin-dir").map(str::to_owned),
            // Present with any value, as the original has it.
            for_testing: self.ini.get(misc, "for-testing").is_some(),
            mysqld_user: self.get(misc, "mysqld-user").map(str::to_owned),
            zone: Zone::parse(self.or_default(misc, "time-zone"))
                .map_err(|e| self.error(misc, "time-zone", e.to_string()))?,
            parallel: match self.optional(misc, "parallel", "a number of servers")? {
                Some(0) => return Err(self.error(misc, "parallel", "must be at least 1")),
                other => other,
            },
            replay: self.one_of(
                misc,
                "replay-method",
                &[
                    ("auto", ReplayMethod::Auto),
                    ("pipe", ReplayMethod::Pipe),
                    ("sql", ReplayMethod::Sql),
                    ("relay", ReplayMethod::Relay),
                ],
            )?,
            toolchain: self.one_of(
                misc,
                "toolchain",
                &[("auto", Toolchain::Auto), ("worker", Toolchain::Worker), ("stock", Toolchain::Stock)],
            )?,
            worker_path: self.get(misc, "worker-path").map(str::to_owned),
            ds_info_dir: PathBuf::from(self.or_default(misc, "ds-info-dir")),
            known_hosts_file: self.path(misc, "known-hosts-file"),
            accept_new_host_keys: self.flag(misc, "accept-new-host-keys")?,
            ssh_config_file: self.path(misc, "ssh-config-file"),
            trusted_agent: self.flag(misc, "trusted-agent")?,
            rabbit_uri: self.get("rabbit-agent", "rabbitmq-uri").map(SecretString::from),
            agent_topic: self.or_default("rabbit-agent", "agent-topic").to_owned(),
            rabbit_ca_file: self.path("rabbit-agent", "ca-file"),
            adm_port: self.parsed("adm-agent", "port", "a port number")?,
            adm_token_file: self.path("adm-agent", "token-file"),
            adm_ca_file: self.path("adm-agent", "ca-file"),
        })
    }

    fn client_name(&self) -> Result<String, Error> {
        let name = self.or_default("misc", "client-name");
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(self.error("misc", "client-name", format!("{name:?} is not the name of a program")));
        }
        Ok(name.to_owned())
    }

    /// A sentence for each unknown section and key, with the nearest known one.
    fn unknown(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let near = |nearest: Option<&str>| nearest.map_or(String::new(), |n| format!("; is {n} meant?"));
        for section in self.ini.sections() {
            let known: Vec<_> = KEYS.iter().filter(|k| k.section == section).map(|k| k.name).collect();
            if known.is_empty() {
                let meant = near(keys::nearest(section, KEYS.iter().map(|k| k.section)));
                warnings.push(format!("{}: unknown section [{section}]{meant}", self.file));
                continue;
            }
            for key in self.ini.keys(section).filter(|key| !known.contains(key)) {
                let line = self.ini.line(section, key).map_or(String::new(), |line| format!(":{line}"));
                let meant = near(keys::nearest(key, known.iter().copied()));
                warnings.push(format!("{}{line}: unknown key [{section}] {key}{meant}", self.file));
            }
        }
        warnings
    }

    /// A sentence for each value that the older program read as something else: it took `%%` for `%`.
    fn read_otherwise(&self) -> impl Iterator<Item = String> {
        let doubled = self.ini.doubled_percents();
        doubled.map(|(section, key, line)| {
            format!(
                "{}:{line}: [{section}] {key}: `%` has no special meaning; a `%%` is two of them",
                self.file
            )
        })
    }
}

/// A number of bytes with an optional binary suffix: `200M` is 200 · 2²⁰, as MySQL counts.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests;
