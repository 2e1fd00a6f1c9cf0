//! How much room and memory a recovery takes on the job server.

use backup_catalog::{Backup, BackupName, Catalog, Kind, ServerChoice};
use binlog_replay::replay::redo_bytes;

use super::UsedFor;
use crate::Error;

/// A restored server takes at least its stream; undo and what the replay adds come on top.
const HEADROOM: f64 = 1.1;
/// What a compressed base directory grows to, measured on MariaDB 10.11 and MySQL 9.7: 3 to 4 times.
const BASE_GROWTH: u64 = 4;
/// Smallest and largest buffer pool of a temporary server, in bytes.
const POOL: (u64, u64) = (128 << 20, 8 << 30);

/// Bytes of buffer pool for each temporary server: an eighth of the machine's memory, and no more than half of it for
/// all that run at once.
pub(super) fn buffer_pool(memory: u64, parallel: usize) -> u64 {
    (memory / 8).min(memory / 2 / parallel.max(1) as u64).clamp(POOL.0, POOL.1)
}

/// What the work directory will take, at least: what compressed members grow to nobody knows beforehand.
pub(super) fn needed<'a>(
    catalog: &Catalog,
    backups: impl Iterator<Item = (&'a BackupName, UsedFor)>,
    choices: &[ServerChoice],
    stock: bool,
    pool: u64,
) -> Result<u64, Error> {
    let mut bytes = 0_u64;
    for (name, used_for) in backups {
        bytes += bytes_of(catalog.get(name)?, used_for, choices);
    }
    // The stock tools keep the streams beside what they extract from them.
    let bytes = if stock { bytes.saturating_mul(2) } else { bytes };
    let redo = redo_bytes(pool).saturating_mul(choices.len() as u64);
    Ok(((bytes as f64 * HEADROOM) as u64).saturating_add(redo))
}

/// What one backup puts into the work directory, at least.
fn bytes_of(backup: &Backup, used_for: UsedFor, choices: &[ServerChoice]) -> u64 {
    if let Some(tar) = backup.tar_bytes.filter(|_| backup.encrypted) {
        return if used_for == UsedFor::Binlogs { 0 } else { tar };
    }
    let mut bytes = 0;
    for choice in choices {
        if let Some(folder) = backup.server(&choice.folder)
            && used_for != UsedFor::Binlogs
        {
            bytes += folder.stream_bytes.unwrap_or(0);
        }
        let binlogs = backup.server(choice.binlogs_of().unwrap_or(&choice.folder));
        bytes += binlogs.map_or(0, |m| m.binlogs.iter().map(|(_, size)| size).sum::<u64>());
    }
    if used_for == UsedFor::Full && backup.kind() == Kind::Full {
        bytes += backup.base_tarball.as_ref().map_or(0, |t| t.bytes.saturating_mul(BASE_GROWTH));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_side_by_side_share_half_of_the_memory() {
        const GIB: u64 = 1 << 30;
        assert_eq!(buffer_pool(16 * GIB, 1), 2 * GIB);
        assert_eq!(buffer_pool(16 * GIB, 64), GIB / 8);
        assert_eq!(buffer_pool(64 * GIB, 8), 4 * GIB);
        assert_eq!(buffer_pool(1024 * GIB, 4), 8 * GIB);
        assert_eq!(buffer_pool(0, 4), GIB / 8);
    }
}
