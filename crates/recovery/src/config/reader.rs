//! From the lines of the file to typed values, with the place of each for messages.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use backup_catalog::ini::Ini;
use secrecy::SecretString;

use super::keys::{self, KEYS};
use super::{Compression, Connect, Machine, Misc, RecoverTo, ReplayMethod, Toolchain, Transfer};
use crate::Error;
use crate::time::Zone;

/// Typed access to the values, with their places for messages.
pub(super) struct Reader<'a> {
    pub(super) ini: &'a Ini,
    pub(super) file: &'a str,
}

impl<'a> Reader<'a> {
    /// The value of a key; an empty one counts as absent.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<&'a str> {
        debug_assert!(KEYS.iter().any(|k| k.section == section && k.name == key), "{section}.{key}");
        self.ini.get(section, key).filter(|value| !value.is_empty())
    }

    pub(super) fn error(&self, section: &'static str, key: &'static str, reason: impl Into<String>) -> Error {
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

    pub(super) fn flag(&self, section: &'static str, key: &'static str) -> Result<bool, Error> {
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

    pub(super) fn absolute(&self, section: &'static str, key: &'static str) -> Result<PathBuf, Error> {
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

    /// Names separated by commas.
    pub(super) fn list(&self, section: &'static str, key: &'static str) -> Vec<String> {
        let names = self.get(section, key).unwrap_or_default().split(',').map(str::trim);
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn machine(&self, section: &'static str, local: bool) -> Result<Machine, Error> {
        Ok(Machine {
            ip: if local { "localhost" } else { self.needed(section, "ip")? }.to_owned(),
            port: self.parsed(section, "port", "a port number")?,
            user: self.get(section, "user").unwrap_or_default().to_owned(),
            password: self.get(section, "password").map(SecretString::from),
            identity_file: self.path(section, "identity-file"),
        })
    }

    /// The one target of `[recover-to]`.
    pub(super) fn recover_to(&self) -> Result<Option<RecoverTo>, Error> {
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

    pub(super) fn connect(&self) -> Result<Connect, Error> {
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

    pub(super) fn misc(&self, connect: Connect) -> Result<Misc, Error> {
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
            lower_case_table_names: match self.optional(misc, "lower-case-table-names", "a number")? {
                Some(3..) => return Err(self.error(misc, "lower-case-table-names", "is 0, 1 or 2")),
                other => other,
            },
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
    pub(super) fn unknown(&self) -> Vec<String> {
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
    pub(super) fn read_otherwise(&self) -> impl Iterator<Item = String> {
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
