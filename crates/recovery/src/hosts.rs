//! The two machines of a recovery, and what is known of them.

use std::path::Path;

use remote_exec::{Host, Method};
use secrecy::{ExposeSecret, SecretString};

use crate::Error;
use crate::config::{Config, Connect, Machine, Transfer};

/// The two machines, connected.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// The machine with the backups.
    pub store: Host,
    /// The machine that the cluster is recovered on.
    pub job: Host,
    /// Whether the job server sees the store's directory itself, so that nothing needs to be moved.
    pub shared_store: bool,
}

impl Hosts {
    /// Connects to both machines.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if one cannot be reached, [`Error::Config`] if the transfer method does not fit.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let store = Self::connect_store(config).await?;
        let job = match Self::connect_job(config, &store).await {
            Ok(job) => job,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let mut hosts = Self { store, job, shared_store: false };
        match hosts.shares_store(config).await {
            Ok(shared) => hosts.shared_store = shared,
            Err(error) => {
                hosts.close().await;
                return Err(error);
            }
        }
        Ok(hosts)
    }

    async fn connect_job(config: &Config, store: &Host) -> Result<Host, Error> {
        if Self::same_login(config) {
            return Ok(store.clone());
        }
        Ok(Host::connect(method(config, &config.job)?).await?)
    }

    fn same_login(config: &Config) -> bool {
        config.store.ip == config.job.ip
            && config.store.port == config.job.port
            && config.store.user == config.job.user
    }

    /// Whether the job server sees the store's directory, if the transfer method lets it; and what can be refused
    /// before anything is touched.
    async fn shares_store(&self, config: &Config) -> Result<bool, Error> {
        let (store, job) = (&self.store, &self.job);
        // Every recovery has a password for the job server: that of the recovered servers.
        if !job.takes_secrets().await? {
            return Err(Error::Config {
                place: "configuration".to_owned(),
                section: "misc",
                key: "trusted-agent",
                reason: format!(
                    "must be 1 for the agent of {}: it shows commands, and so passwords, in its host's process \
                     list (dbrecover agent does not)",
                    job.name()
                ),
            });
        }
        let shared = Self::same_login(config) || same_directory(store, job, &config.store_dir).await?;
        Ok(match config.misc.transfer {
            Transfer::Auto => shared,
            Transfer::Local if shared => true,
            Transfer::Local => {
                return Err(Error::Config {
                    place: "configuration".to_owned(),
                    section: "misc",
                    key: "transfer-method",
                    reason: format!(
                        "local: {} does not see the directory {} of {}",
                        job.name(),
                        config.store_dir.display(),
                        store.name()
                    ),
                });
            }
            Transfer::Relay | Transfer::Socat | Transfer::Scp => false,
        })
    }

    /// Closes both connections.
    pub async fn close(self) {
        self.job.close().await;
        self.store.close().await;
    }

    /// Connects to the machine with the backups alone.
    ///
    /// # Errors
    ///
    /// As [`Hosts::connect`].
    pub async fn connect_store(config: &Config) -> Result<Host, Error> {
        Ok(Host::connect(method(config, &config.store)?).await?)
    }
}

/// Whether two hosts see the same directory: one kernel, and the same inode of the same device.
async fn same_directory(a: &Host, b: &Host, dir: &Path) -> Result<bool, Error> {
    let mut seen = Vec::new();
    for host in [a, b] {
        let boot = host.command("cat").arg("/proc/sys/kernel/random/boot_id").output().await?;
        let inode = host.command("stat").args(["-c", "%d:%i", "--"]).arg(dir).output().await?;
        if !boot.status.success() || !inode.status.success() {
            return Ok(false);
        }
        seen.push((boot.stdout, inode.stdout));
    }
    Ok(seen[0] == seen[1])
}

fn method(config: &Config, machine: &Machine) -> Result<Method, Error> {
    let misc = &config.misc;
    Ok(match misc.connect {
        Connect::Local => Method::Local,
        Connect::Ssh => {
            let mut options = remote_exec::ssh::Options::new(&machine.ip);
            options.port = Some(machine.port);
            options.user = Some(machine.user.clone()).filter(|user| !user.is_empty());
            options.password = machine.password.clone();
            options.identity = machine.identity_file.clone();
            options.known_hosts = misc.known_hosts_file.clone();
            options.accept_new_host_keys = misc.accept_new_host_keys;
            options.config_file = misc.ssh_config_file.clone();
            options.login_timeout = misc.conn_timeout;
            Method::Ssh(options)
        }
        Connect::RabbitAgent => {
            let uri = misc.rabbit_uri.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
            let mut options =
                remote_exec::rabbit::Options::new(remote_exec::rabbit::Uri::parse(uri)?, &machine.ip);
            options.at.topic = misc.agent_topic.clone();
            options.at.ca_file = misc.rabbit_ca_file.clone();
            options.trusted = misc.trusted_agent;
            Method::Rabbit(options)
        }
        Connect::AdmAgent => {
            let ip = &machine.ip;
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
            let mut options = remote_exec::adm::Options::new(format!("{host}:{}", misc.adm_port));
            options.user = machine.user.clone();
            options.ca_file = misc.adm_ca_file.clone();
            options.tls = misc.adm_ca_file.is_some();
            options.token = misc.adm_token_file.as_deref().map(token).transpose()?;
            options.trusted = misc.trusted_agent;
            Method::Adm(options)
        }
    })
}

/// The first line of a token file.
fn token(path: &Path) -> Result<SecretString, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::ConfigFile { path: path.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned().into())
}
