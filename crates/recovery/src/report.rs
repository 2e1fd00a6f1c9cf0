//! What a recovery did: `recovery-report.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Name of the report in the work directory.
pub(crate) const REPORT: &str = "recovery-report.json";
/// Largest report that is read, in bytes: plans of large clusters hold long GTID sets.
pub(crate) const MAX_REPORT: u64 = 256 << 20;
/// Name of that of a finished recovery that was taken over.
pub(crate) const EARLIER_REPORT: &str = "earlier-report.json";

/// A finished recovery.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this document's shape.
    pub schema_version: u32,
    /// The program that wrote it.
    pub made_by: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended, RFC 3339.
    pub finished: String,
    /// Seconds in all.
    pub seconds: f64,
    /// What was planned.
    pub plan: Plan,
    /// Where the result lies.
    pub work_dir: PathBuf,
    /// One entry per backup.
    pub unpacked: Vec<Unpacked>,
    /// One entry per server.
    pub servers: Vec<RecoveredServer>,
    /// Bytes that the worker wrote per byte that lies unpacked, from the processes' own I/O accounting;
    /// `None` with the stock tools.
    pub written_per_byte: Option<f64>,
}

/// What a report says beside its plan.
#[derive(Deserialize)]
struct Done {
    schema_version: u32,
    made_by: String,
    started: String,
    finished: String,
    seconds: f64,
    work_dir: PathBuf,
    unpacked: Vec<Unpacked>,
    servers: Vec<RecoveredServer>,
    written_per_byte: Option<f64>,
}

impl Report {
    /// Reads the report of a recovery by `plan` that an earlier run finished.
    ///
    /// # Errors
    ///
    /// If it is none that this version writes.
    pub(crate) fn read(text: &[u8], plan: Plan) -> Result<Self, serde_json::Error> {
        let Done {
            schema_version,
            made_by,
            started,
            finished,
            seconds,
            work_dir,
            unpacked,
            servers,
            written_per_byte,
        } = serde_json::from_slice(text)?;
        Ok(Self {
            schema_version,
            made_by,
            started,
            finished,
            seconds,
            plan,
            work_dir,
            unpacked,
            servers,
            written_per_byte,
        })
    }
}

/// One backup, unpacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unpacked {
    /// Its name.
    pub backup: String,
    /// How often its transfer was tried again.
    pub retries: u32,
    /// Bytes read of the backup.
    pub bytes_read: u64,
    /// Bytes written to the work directory.
    pub bytes_written: u64,
    /// Seconds.
    pub seconds: f64,
    /// Whatever else the worker reports.
    pub details: serde_json::Value,
}

impl Unpacked {
    /// A backup of which nothing was unpacked yet.
    pub(crate) fn of(backup: &str) -> Self {
        Self {
            backup: backup.to_owned(),
            retries: 0,
            bytes_read: 0,
            bytes_written: 0,
            seconds: 0.0,
            details: serde_json::Value::Null,
        }
    }

    /// Adds another part of the same backup: what counts is summed, each server is in one part.
    pub(crate) fn add(&mut self, part: Self) {
        self.retries += part.retries;
        self.bytes_read += part.bytes_read;
        self.bytes_written += part.bytes_written;
        add_details(&mut self.details, part.details);
    }

    /// Adds what was unpacked of the same backup once more, for servers that needed their streams again: all work counts, and
    /// what lies there is described once.
    pub(crate) fn add_again(&mut self, again: Self) {
        self.retries += again.retries;
        self.bytes_read += again.bytes_read;
        self.bytes_written += again.bytes_written;
        self.seconds += again.seconds;
        let serde_json::Value::Object(mut again) = again.details else { return };
        let Some(details) = self.details.as_object_mut() else {
            self.details = again.into();
            return;
        };
        if let (Some(servers), Some(serde_json::Value::Object(again))) =
            (details.get_mut("servers").and_then(|servers| servers.as_object_mut()), again.remove("servers"))
        {
            servers.extend(again);
        }
        if let (Some(io), Some(again)) = (details.get_mut("process_io"), again.remove("process_io")) {
            add_details(io, again);
        }
    }
}

fn add_details(sum: &mut serde_json::Value, part: serde_json::Value) {
    use serde_json::Value;
    match (sum, part) {
        (Value::Object(sum), Value::Object(part)) => {
            for (key, value) in part {
                // The version of the shape is no amount.
                match sum.get_mut(&key).filter(|_| key != "schema_version") {
                    Some(there) => add_details(there, value),
                    None => drop(sum.insert(key, value)),
                }
            }
        }
        (Value::Array(sum), Value::Array(part)) => sum.extend(part),
        (sum @ Value::Number(_), Value::Number(part)) => {
            let added = match (sum.as_u64(), part.as_u64()) {
                (Some(a), Some(b)) => Value::from(a + b),
                _ => Value::from(sum.as_f64().unwrap_or(0.0) + part.as_f64().unwrap_or(0.0)),
            };
            *sum = added;
        }
        (sum @ Value::Null, part) => *sum = part,
        _ => {}
    }
}

/// One step and how long it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepTime {
    /// The step.
    pub step: String,
    /// Seconds.
    pub seconds: f64,
}

/// One recovered server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecoveredServer {
    /// The replication group.
    pub group: String,
    /// The server's name.
    pub server: String,
    /// Its folder.
    pub folder: String,
    /// Its datadir.
    pub datadir: PathBuf,
    /// Flavour and version of the server program.
    pub version: String,
    /// The base backup.
    pub base: String,
    /// The chain that was laid on it.
    pub chain: Vec<String>,
    /// The backups of the chain that databases or tables were left out of, and that were used because the user says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<String>,
    /// What was replayed.
    pub replay: Replayed,
    /// The server's GTID state after the recovery.
    pub gtid_state: String,
    /// Whether that state was proved to be the planned one.
    pub proved: bool,
    /// Steps and their times.
    pub steps: Vec<StepTime>,
    /// The TCP port of a server that was left running.
    pub port: Option<u16>,
    /// The socket of a server that was left running.
    pub socket: Option<PathBuf>,
    /// What a start of the finished server needs.
    #[serde(skip)]
    pub(crate) again: Option<Again>,
}

/// What a start of a finished server needs.
#[derive(Debug, Clone)]
pub(crate) struct Again {
    pub(crate) options: Vec<std::ffi::OsString>,
    pub(crate) accounts: Vec<backup_catalog::dbscale::Account>,
    pub(crate) server_id: u32,
}

/// What was replayed on one server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// The method.
    pub method: String,
    /// Why that method.
    pub reason: String,
    /// Binlog files, in order.
    pub files: Vec<String>,
    /// Where it started.
    pub from: String,
    /// Where it stopped.
    pub to: String,
    /// Transactions applied; `None` if the method cannot count them.
    pub transactions: Option<u64>,
    /// The last transaction applied: GTID and time.
    pub last: Option<serde_json::Value>,
    /// The planned range, with everything that is known of it.
    pub planned: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_of_a_backup_add_up() {
        let part =
            |retries, bytes, details| Unpacked { retries, bytes_read: bytes, details, ..Unpacked::of("b") };
        let mut all = part(
            0,
            10,
            json!({"schema_version": 1, "servers": {}, "base": {"bytes": 7}, "small_files": {"files": 2, "bytes": 3},
                   "servers_skipped": [], "process_io": {"written_chars": 11}}),
        );
        for (server, bytes) in [("one", 100), ("two", 200)] {
            let servers = json!({server: {"bytes": bytes}});
            all.add(part(
                1,
                bytes,
                json!({"schema_version": 1, "servers": servers, "base": null, "small_files": {"files": 0, "bytes": 0},
                       "servers_skipped": [], "process_io": {"written_chars": bytes}}),
            ));
        }
        assert_eq!((all.retries, all.bytes_read), (2, 310));
        assert_eq!(
            all.details,
            json!({"schema_version": 1, "servers": {"one": {"bytes": 100}, "two": {"bytes": 200}}, "base": {"bytes": 7},
                   "small_files": {"files": 2, "bytes": 3}, "servers_skipped": [], "process_io": {"written_chars": 311}})
        );
    }

    #[test]
    fn what_is_unpacked_again_is_there_once() {
        let unpacked = |bytes, details| Unpacked { bytes_read: bytes, details, ..Unpacked::of("b") };
        let mut all = unpacked(
            310,
            json!({"servers": {"one": {"bytes": 100}, "two": {"bytes": 200}}, "small_files": {"bytes": 3},
                   "servers_skipped": [], "process_io": {"written_chars": 310}}),
        );
        all.add_again(unpacked(
            203,
            json!({"servers": {"two": {"bytes": 200}}, "small_files": {"bytes": 3}, "servers_skipped": ["one"],
                   "process_io": {"written_chars": 203}}),
        ));
        assert_eq!(all.bytes_read, 513);
        assert_eq!(
            all.details,
            json!({"servers": {"one": {"bytes": 100}, "two": {"bytes": 200}}, "small_files": {"bytes": 3},
                   "servers_skipped": [], "process_io": {"written_chars": 513}})
        );
        let mut stock = Unpacked::of("b");
        stock.add_again(Unpacked { seconds: 1.5, ..Unpacked::of("b") });
        assert_eq!((stock.seconds, stock.details), (1.5, serde_json::Value::Null));
    }
}
