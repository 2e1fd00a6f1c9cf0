//! What a replay is asked to do, as the worker reads it.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Error;
use super::method::Method;
use crate::gtid::GtidSet;
use crate::target::{Position, Start, Target};
use crate::version::{Flavor, ServerVersion};

/// The `schema_version` of [`Request`] and of every document that answers one.
pub const SCHEMA_VERSION: u32 = 1;

/// One replay: binlogs, server, start, target.
///
/// As JSON it is what `dbrecover replay` reads from standard input. **Its JSON holds the account's
/// password**: pass it by a pipe, never in an argument, a log or a file.
///
/// ```
/// use binlog_replay::replay::Request;
///
/// let request: Request = serde_json::from_str(r#"{
///     "schema_version": 1,
///     "server_version": "mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)",
///     "binlogs": ["/work/backup/master"],
///     "start": { "position": "binlog.000007:4", "executed": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5" },
///     "target": { "time": "2026-02-03T04:05:06Z" },
///     "datadir": "/work/datadir/shop"
/// }"#)?;
/// assert_eq!(request.method.name(), "auto");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What `mysqld --version` of the base directory prints, or the bare version.
    pub server_version: String,
    /// Folders that hold the binlogs, in any order.
    pub binlogs: Vec<PathBuf>,
    /// What the data directory holds already.
    pub start: StartAt,
    /// Where to stop.
    pub target: TargetAt,
    /// GTIDs to leave out, as a user names them: a MySQL set, or single MariaDB transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// How to replay.
    #[serde(default)]
    pub method: Method,
    /// What a failed transaction means.
    #[serde(default)]
    pub on_error: OnError,
    /// Goes on where the server stands: after a crash in the middle, or to a later target than the last
    /// time. Without it the server's GTID state is set to `start.executed` first.
    #[serde(default)]
    pub resume: bool,
    /// The GTID state that the server must be in before anything is applied, as a replay that ended reports it
    /// ([`Proof::found`](super::Proof::found)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Data directory of the temporary server.
    pub datadir: PathBuf,
    /// Folder of the server's programs (`bin/mysqlbinlog`, `bin/mysql`, …), for [`Method::Pipe`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_dir: Option<PathBuf>,
    /// How to reach the temporary server; needed to run, not to plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Account>,
    /// Threads of the applier, 0 for none beside itself; without it by the machine: twice its processors, 4 to 16;
    /// on MariaDB none if there are no more than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// Bytes for the buffer pool; without it an eighth of the machine's memory, 128 MiB to 8 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_pool: Option<u64>,
}

/// Where a replay starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartAt {
    /// `FILE:POS`. A replica's backup gives position 4 of a file that reaches back far enough.
    pub position: String,
    /// GTIDs that the backup holds: a MySQL set or a MariaDB position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<String>,
}

/// Where a replay stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetAt {
    /// At `FILE:POS`.
    Position(String),
    /// Before the first transaction committed at or after this time (RFC 3339).
    Time(DateTime<Utc>),
    /// After the last of these GTIDs.
    UntilGtid(String),
    /// Before the first of these GTIDs.
    BeforeGtid(String),
    /// After the last whole transaction there is.
    End,
}

/// What a failed transaction means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The replay ends there.
    #[default]
    Stop,
    /// The whole transaction is left out and listed in [`Outcome::left_out`](super::Outcome::left_out).
    SkipLogged,
}

/// An account of the temporary server, and its socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// User with the rights of `root`.
    pub user: String,
    /// Its password; empty for none.
    #[serde(default = "no_password", serialize_with = "exposed", deserialize_with = "hidden")]
    pub password: SecretString,
}

fn no_password() -> SecretString {
    String::new().into()
}

fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(Into::into)
}

impl Request {
    /// Whether the server may have crashed in an earlier run: it goes on, and nothing says what it must hold.
    pub(super) fn may_have_crashed(&self) -> bool {
        self.resume && self.held.is_none()
    }

    /// The server that will apply the transactions.
    pub(super) fn version(&self) -> Result<ServerVersion, Error> {
        Ok(self.server_version.parse()?)
    }

    /// Where to start and stop and what to leave out, as values.
    pub(super) fn places(&self) -> Result<(Start, Target, Option<GtidSet>), Error> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(Error::Schema { found: self.schema_version });
        }
        let flavor = self.version()?.flavor;
        let executed = self.start.executed.as_deref().map(|text| GtidSet::parse(flavor, text)).transpose()?;
        let start = Start { position: self.start.position.parse()?, executed };
        let skip = self.skip.as_deref().map(|text| GtidSet::parse_exact(flavor, text)).transpose()?;
        if let (Some(skip), Some(executed)) = (&skip, &start.executed) {
            let held = skip.intersection(executed);
            if !held.is_empty() {
                return Err(crate::Error::SkipHeld { held: held.exact_text() }.into());
            }
        }
        Ok((start, self.target.target(flavor)?, skip))
    }

    /// The state that the server must be in before.
    pub(super) fn held(&self) -> Result<Option<GtidSet>, Error> {
        let flavor = self.version()?.flavor;
        Ok(self.held.as_deref().map(|text| GtidSet::parse(flavor, text)).transpose()?)
    }

    /// A program of the base directory.
    pub(super) fn tool(&self, name: &str) -> Option<PathBuf> {
        let path = self.base_dir.as_deref()?.join("bin").join(name);
        path.is_file().then_some(path)
    }
}

impl TargetAt {
    pub(super) fn target(&self, flavor: Flavor) -> Result<Target, Error> {
        Ok(match self {
            Self::Position(text) => Target::Position(text.parse::<Position>()?),
            Self::Time(time) => Target::Time(*time),
            Self::UntilGtid(text) => {
                Target::UntilGtid { set: GtidSet::parse_exact(flavor, text)?, inclusive: true }
            }
            Self::BeforeGtid(text) => {
                Target::UntilGtid { set: GtidSet::parse_exact(flavor, text)?, inclusive: false }
            }
            Self::End => Target::End,
        })
    }
}

/// The stock binlog tool and client of a flavour, in the order in which they are looked for.
pub(super) fn tools(request: &Request, flavor: Flavor) -> Option<(PathBuf, PathBuf)> {
    let find = |names: &[&str]| names.iter().find_map(|name| request.tool(name));
    match flavor {
        Flavor::MySql => Some((find(&["mysqlbinlog"])?, find(&["mysql"])?)),
        Flavor::MariaDb => Some((find(&["mariadb-binlog", "mysqlbinlog"])?, find(&["mariadb", "mysql"])?)),
    }
}

/// Bytes of memory of this machine, from `/proc/meminfo`; 1 GiB where that says nothing.
pub(super) fn machine_memory() -> u64 {
    let kib = std::fs::read_to_string(Path::new("/proc/meminfo")).ok().and_then(|text| {
        text.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        })
    });
    kib.map_or(1 << 30, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"schema_version":1,"server_version":"10.11.6-MariaDB","binlogs":["/b"],
        "start":{"position":"b.000001:4"},"target":{"before_gtid":"0-1-9"},"datadir":"/d",
        "server":{"socket":"/s","user":"root","password":"geheim"}}"#;

    #[test]
    fn the_password_crosses_json_and_is_not_in_the_debug_output() {
        let request: Request = serde_json::from_str(MINIMAL).unwrap();
        assert!(!format!("{request:?}").contains("geheim"));
        let json = serde_json::to_string(&request).unwrap();
        let again: Request = serde_json::from_str(&json).unwrap();
        assert_eq!(again.server.unwrap().password.expose_secret(), "geheim");
    }

    #[test]
    fn a_mariadb_gtid_as_a_target_is_one_transaction() {
        let request: Request = serde_json::from_str(MINIMAL).unwrap();
        let (_, target, _) = request.places().unwrap();
        let Target::UntilGtid { set, inclusive: false } = target else { panic!("{target:?}") };
        assert_eq!(set.count(), 1);
    }

    #[test]
    fn unknown_keys_and_other_schemas_are_refused() {
        assert!(
            serde_json::from_str::<Request>(&MINIMAL.replace("\"datadir\"", "\"x\":1,\"datadir\"")).is_err()
        );
        let other = MINIMAL.replace("\"schema_version\":1", "\"schema_version\":2");
        let request: Request = serde_json::from_str(&other).unwrap();
        assert!(matches!(request.places(), Err(Error::Schema { found: 2 })));
    }
}
