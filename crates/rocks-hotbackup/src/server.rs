//! What a backup needs from a server.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A server with MyRocks, as far as a backup asks anything of it.
///
/// [`MySqlServer`](crate::MySqlServer) is the one for real servers; a test or another tool can bring its own.
pub trait Server {
    /// What the server says about itself.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Account`], [`Error::OtherHost`], [`Error::NoMyRocks`] or [`Error::Statement`].
    fn facts(&mut self) -> Result<Facts, Error>;

    /// Makes a RocksDB checkpoint: a directory of hard links to all data files. The parent of `dir` exists, `dir`
    /// does not.
    ///
    /// # Errors
    ///
    /// [`Error::CheckpointExists`], [`Error::Checkpoint`] and the errors of a connection.
    fn create_checkpoint(&mut self, dir: &Path) -> Result<(), Error>;

    /// The position in the binlog, or `None` if the server writes none.
    ///
    /// # Errors
    ///
    /// As for [`facts`](Server::facts), and [`Error::Privilege`], with which only a consistent backup ends.
    fn position(&mut self) -> Result<Option<Position>, Error>;

    /// Takes the lock under which engines, schema and binlog agree. It is held by this value until
    /// [`unlock`](Server::unlock) or the end of the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Privilege`] if the account may not lock, [`Error::NoLock`] if the server knows none: a backup that need not be
    /// locked goes on then. [`Error::Statement`] and [`Error::Connect`] are tried again before they end it.
    fn lock(&mut self) -> Result<Lock, Error>;

    /// Gives the lock back; nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// The errors of a connection. The lock is gone in any case.
    fn unlock(&mut self) -> Result<(), Error>;

    /// User tables in engines whose data a MyRocks backup does not hold (InnoDB, TokuDB, …).
    ///
    /// # Errors
    ///
    /// As for [`facts`](Server::facts).
    fn left_out(&mut self) -> Result<Vec<LeftOut>, Error>;

    /// If the account may see all tables. If not, [`left_out`](Server::left_out) may miss some.
    ///
    /// # Errors
    ///
    /// As for [`facts`](Server::facts).
    fn sees_all_tables(&mut self) -> Result<bool, Error> {
        Ok(true)
    }
}

/// What a server says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `@@version`.
    pub version: String,
    /// `@@datadir`, absolute.
    pub datadir: PathBuf,
    /// `@@rocksdb_datadir`, absolute.
    pub rocksdb_datadir: PathBuf,
    /// `@@rocksdb_wal_dir`, absolute; the data directory of RocksDB if not set.
    pub rocksdb_wal_dir: PathBuf,
    /// `@@aria_log_dir_path` of MariaDB.
    pub aria_log_dir: Option<PathBuf>,
    /// `@@log_bin_basename`: binlogs are the files that begin with it.
    pub log_bin_basename: Option<PathBuf>,
    /// `@@log_bin_index`: the file that lists them.
    pub log_bin_index: Option<PathBuf>,
    /// `@@relay_log_basename`: relay logs are the files that begin with it.
    pub relay_log_basename: Option<PathBuf>,
    /// `@@relay_log_index`: the file that lists them.
    pub relay_log_index: Option<PathBuf>,
    /// `@@relay_log_info_file`: where a replica notes how far it is.
    pub relay_log_info: Option<PathBuf>,
    /// Files and directories that are no data: the socket, the pid file, the temporary directory.
    pub no_data: Vec<PathBuf>,
    /// `@@rocksdb_use_direct_reads`: read around the page cache.
    pub direct_reads: bool,
    /// `@@server_uid` (MariaDB) or `@@server_uuid` (MySQL).
    pub server_uid: Option<String>,
}

/// A point in the binlog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Name of the binlog file.
    pub file: String,
    /// Bytes from its start.
    pub position: u64,
    /// The GTIDs up to there, in the server's own notation; empty if it has none.
    pub gtid: String,
}

/// The lock that a server gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Lock {
    /// `BACKUP STAGE BLOCK_COMMIT` of MariaDB 10.4 and later.
    BackupStage,
    /// `LOCK TABLES FOR BACKUP` and `LOCK BINLOG FOR BACKUP` of Percona Server up to 5.7.
    TablesForBackup,
    /// `LOCK INSTANCE FOR BACKUP` of MySQL and Percona Server 8.0 and later, and `FLUSH TABLES WITH READ LOCK`, which stops
    /// commits.
    InstanceForBackup,
    /// `FLUSH TABLES WITH READ LOCK` of everything else.
    GlobalRead,
}

/// User tables that a backup does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The engine.
    pub engine: String,
    /// How many tables it has.
    pub tables: u64,
    /// Bytes of data and indexes, as the server estimates them.
    pub bytes: u64,
}
