//! Where the parts of a backup lie in its store: folders, files and their names.
//!
//! Paths are relative to the store's base directory. What programs of this and other crates look for in a store, or copy
//! out of it, they name by these.

use crate::name::BackupName;

/// Folder of the encrypted tars, beside the backups.
pub(crate) const ENCRYPTED: &str = "encrypted";
/// Folder beside the backups where what is incomplete is moved to.
pub const TRASH: &str = "trash";
/// Where the backup program writes what its transfers say.
pub(crate) const SOCAT_LOG: &str = "socat_log";

/// File of a backup that says whether it is complete; see [`says_complete`].
pub const OK: &str = "ok";
/// File of a backup with the local time of its consistent point.
pub const CONSISTENT_POINT: &str = "consistent_point_datetime";
/// File of a backup that says where each server stood at the consistent point.
pub const CONSISTENCE: &str = "cluster_consistence_info";
/// File of a backup that lists the binlogs in it.
pub const BINLOGS: &str = "backuped_binlogs";
/// File of an encrypted backup that tries a password: a short text as an AES Crypt stream.
pub const SAMPLE: &str = "encrypted_sample";
/// Folder of a backup with the database server's own files.
pub const BASE: &str = "datanode_base";
/// Folder of a backup with the proxy's files.
pub const PROXY: &str = "calcnode_base";

/// Name of the physical backup in a server's folder. The spelling is what the backup tool writes; do not correct it.
pub const STREAM: &str = "backup.xbsteam";
/// File in a server's folder with the GTIDs that the physical backup holds.
pub const EXECUTED_GTIDS: &str = "executed_gtids";
/// File in a replica's folder with the name of its master's folder.
pub const MASTER_DIR: &str = "master_dir";

/// Files of an encrypted backup that lie in clear beside its tar and belong to what is in it.
pub const CLEAR_FILES: [&str; 4] = [CONSISTENCE, CONSISTENT_POINT, BINLOGS, OK];

/// Whether [`OK`] with this content says that its backup is complete.
pub fn says_complete(content: &[u8]) -> bool {
    content == b"ok\n"
}

/// Where the parts of the backup with this name lie.
impl BackupName {
    /// Path of [`OK`].
    pub fn ok(&self) -> String {
        format!("{self}/{OK}")
    }

    /// Path of [`SAMPLE`].
    pub fn sample(&self) -> String {
        format!("{self}/{SAMPLE}")
    }

    /// Path of the AES Crypt stream with a tar of all that an encrypted backup hides.
    pub fn archive(&self) -> String {
        format!("{ENCRYPTED}/{}", self.archive_name())
    }

    /// Name of that file.
    pub fn archive_name(&self) -> String {
        format!("{self}.tar.encrypted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_backup_lie_where_its_name_says() {
        let name: BackupName = "UTC20210205092650.735-inc".parse().unwrap();
        assert_eq!(name.ok(), "UTC20210205092650.735-inc/ok");
        assert_eq!(name.sample(), "UTC20210205092650.735-inc/encrypted_sample");
        assert_eq!(name.archive(), "encrypted/UTC20210205092650.735-inc.tar.encrypted");
        assert!(says_complete(b"ok\n") && !says_complete(b"ok") && !says_complete(b""));
    }
}
