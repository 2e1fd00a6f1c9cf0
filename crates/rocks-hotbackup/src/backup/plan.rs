//! What a backup would send now.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Options;
use super::source::{Locking, base_files, check_filesystem, identity, left_out, scope, warnings};
use crate::Error;
use crate::names::{self, Kind};
use crate::server::{LeftOut, Server};

/// What a backup would send now.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The server's version.
    pub version: String,
    /// Its data directory.
    pub datadir: PathBuf,
    /// RocksDB's.
    pub rocksdb_datadir: PathBuf,
    /// Where checkpoints would be made.
    pub checkpoint_dir: PathBuf,
    /// Data files to send.
    pub data_files: usize,
    /// Their bytes.
    pub data_bytes: u64,
    /// Data files that the base has.
    pub base_files: usize,
    /// Server files to send.
    pub server_files: usize,
    /// Their bytes.
    pub server_bytes: u64,
    /// Files at the top of the data directory that are left out.
    pub skipped: Vec<PathBuf>,
    /// User tables that would not be in the backup.
    pub left_out: Vec<LeftOut>,
    /// If data files would be read around the page cache.
    pub direct: bool,
    /// What would be done under the lock, if the account may lock.
    pub lock: Locking,
    /// What is to be known before.
    pub warnings: Vec<String>,
}

/// Looks at everything a backup looks at first, and touches nothing.
///
/// # Errors
///
/// The same refusals as those of [`backup`](super::backup) before its first checkpoint.
pub fn plan(server: &mut dyn Server, options: &Options) -> Result<Plan, Error> {
    let facts = server.facts()?;
    let datadir = options.datadir.clone().unwrap_or_else(|| facts.datadir.clone());
    check_filesystem(options, &facts)?;
    let identity = identity(&facts);
    let known = base_files(options, &facts, identity.as_deref())?;
    let left_out = left_out(server, options, &facts)?;
    let warnings = warnings(server, options, &facts, &datadir)?;
    let listing = scope(&facts, &datadir, options).list()?;
    let mut plan = Plan {
        version: facts.version.clone(),
        checkpoint_dir: options.checkpoint_dir.clone(),
        data_files: 0,
        data_bytes: 0,
        base_files: 0,
        server_files: listing.files.len(),
        server_bytes: listing.files.iter().filter_map(|f| f.source.metadata().ok()).map(|m| m.len()).sum(),
        skipped: listing.skipped,
        left_out,
        direct: options.direct.unwrap_or(facts.direct_reads),
        rocksdb_datadir: facts.rocksdb_datadir.clone(),
        lock: Locking::of(options, &facts, &datadir),
        warnings,
        datadir,
    };
    let dir = &facts.rocksdb_datadir;
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A file may be gone at once: a compaction replaced it.
        let Ok(meta) = entry.metadata() else { continue };
        if names::kind(Path::new(&name)) != Kind::Data {
            continue;
        }
        if known.get(&name).is_some_and(|entry| entry.is(meta.len(), meta.modified().ok())) {
            plan.base_files += 1;
        } else {
            plan.data_files += 1;
            plan.data_bytes += meta.len();
        }
    }
    Ok(plan)
}
