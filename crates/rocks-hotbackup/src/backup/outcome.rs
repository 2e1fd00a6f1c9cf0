//! What a backup became: its manifest and its report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::source::Source;
use crate::Error;
use crate::checkpoint::random_id;
use crate::manifest::{self, BinlogAt, Entry, LockHeld, Manifest, Origin, Places};
use crate::server::LeftOut;

/// What a backup became.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Its id.
    pub id: String,
    /// The id of its base.
    pub base: Option<String>,
    /// Checkpoints that were made.
    pub rounds: u32,
    /// Data files that were sent.
    pub data_files: usize,
    /// Their bytes.
    pub data_bytes: u64,
    /// Data files that the base has.
    pub base_files: usize,
    /// Their bytes.
    pub base_bytes: u64,
    /// Server files that were sent.
    pub server_files: usize,
    /// Their bytes.
    pub server_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// If everything is of one moment.
    pub consistent: bool,
    /// The lock.
    pub lock: Option<LockHeld>,
    /// Where the binlog was.
    pub binlog: Option<BinlogAt>,
    /// User tables that are not in the backup.
    pub left_out: Vec<LeftOut>,
}

/// What the rounds came to.
pub(crate) struct Rounds {
    pub(crate) count: u32,
    /// Every data file that was sent, also those of early rounds that the final checkpoint does not need.
    pub(crate) sent: BTreeMap<String, Entry>,
    /// WAL and RocksDB's own files.
    pub(crate) files: Vec<Entry>,
    /// The data files of the final checkpoint and their sizes.
    pub(crate) data: BTreeMap<String, u64>,
    pub(crate) binlog: Option<BinlogAt>,
    pub(crate) sequence: Option<u64>,
}

/// The server's files that were sent.
#[derive(Default)]
pub(crate) struct ServerPart {
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) files: Vec<Entry>,
}

/// The manifest and the report of a backup of which everything but its manifest is where it belongs.
pub(crate) fn outcome(
    source: &Source<'_>,
    rounds: Rounds,
    server_part: ServerPart,
) -> Result<(Manifest, Report), Error> {
    let options = source.options;
    let base = options.base.as_ref().map(|base| base.id.clone());
    let mut report = Report {
        id: random_id()?,
        base: base.clone(),
        rounds: rounds.count,
        data_files: rounds.sent.len(),
        data_bytes: rounds.sent.values().map(|s| s.size).sum(),
        base_files: 0,
        base_bytes: 0,
        server_files: server_part.files.len(),
        server_bytes: server_part.files.iter().map(|f| f.size).sum(),
        seconds: 0.0,
        consistent: source.one_moment,
        lock: source.lock.clone(),
        binlog: rounds.binlog,
        left_out: source.left_out.clone(),
    };
    let mut files = Vec::with_capacity(rounds.sent.len() + rounds.files.len() + server_part.files.len());
    for (name, entry) in rounds.sent {
        let obsolete = !rounds.data.contains_key(&name);
        files.push(Entry { obsolete, ..entry });
    }
    for name in rounds.data.keys() {
        if let Some(entry) = source.base.get(name) {
            report.base_files += 1;
            report.base_bytes += entry.size;
            let from = entry.from.clone().or_else(|| base.clone());
            files.push(Entry { from, obsolete: false, ..(*entry).clone() });
        }
    }
    files.extend(rounds.files);
    files.extend(server_part.files);
    let manifest = Manifest {
        schema_version: manifest::SCHEMA,
        program: concat!("rocks-hotbackup ", env!("CARGO_PKG_VERSION")).into(),
        id: report.id.clone(),
        base,
        started: rfc3339(source.started),
        finished: rfc3339(source.clock.now()),
        server: Origin {
            version: source.facts.version.clone(),
            uid: source.facts.server_uid.clone(),
            rocksdb_identity: source.identity.clone(),
            places: Some(Places::of(&source.facts)),
        },
        consistent: report.consistent,
        lock: report.lock.clone(),
        binlog: report.binlog.clone(),
        sequence: rounds.sequence,
        left_out: report.left_out.clone(),
        checksum: options.checksum,
        directories: server_part.directories,
        files,
    };
    if let Some(path) = manifest.twice() {
        let reason = format!("{path:?} would be in it twice");
        return Err(Error::Manifest { path: manifest::NAME.into(), reason });
    }
    Ok((manifest, report))
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
