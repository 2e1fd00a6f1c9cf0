//! A real server, over its client protocol.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Runtime;

use crate::server::{Facts, LeftOut, Lock, Position, Server};
use crate::{Error, Stop};

/// How to reach a server, and as whom.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's name.
    pub user: String,
    /// Its password; empty for none.
    pub password: SecretString,
    /// The server's socket; it goes before host and port.
    pub socket: Option<PathBuf>,
    /// A host of this machine. Checkpoints are directories, so the server must run here.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Account {
    /// Where the server is, for messages.
    fn address(&self) -> String {
        match &self.socket {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A MariaDB, Percona or MySQL server with MyRocks.
///
/// Every request has a connection of its own, as a backup runs for hours and a connection left alone is closed by
/// the server; only the lock keeps its connection.
#[derive(Debug)]
pub struct MySqlServer {
    account: Account,
    runtime: Runtime,
    locked: Option<(Conn, Lock)>,
    stop: Stop,
}

/// How often a wait for the lock looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl MySqlServer {
    /// Prepares access; the first request connects.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the system refuses the resources for a connection.
    pub fn new(account: Account) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::Connect { address: account.address(), source: e.into() })?;
        Ok(Self { account, runtime, locked: None, stop: Stop::new() })
    }

    /// The same server; a wait for its lock ends with `stop`.
    #[must_use]
    pub fn stopped_by(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    fn connect(&self) -> Result<Conn, Error> {
        let account = &self.account;
        let mut opts = OptsBuilder::default()
            .user(Some(&account.user))
            .pass(Some(account.password.expose_secret()))
            .prefer_socket(false)
            .wait_timeout(Some(28800));
        opts = match &account.socket {
            Some(path) => match path.to_str() {
                Some(path) => opts.socket(Some(path)),
                None => return Err(Error::Usage(format!("the socket path {path:?} is not UTF-8"))),
            },
            None => opts.ip_or_hostname(&account.host).tcp_port(account.port),
        };
        self.runtime.block_on(Conn::new(opts)).map_err(|e| match &e {
            // 1044 and 1045: access denied; 1698: access denied without a password; 1130: host not allowed;
            // 4151: account locked.
            mysql_async::Error::Server(s) if matches!(s.code, 1044 | 1045 | 1130 | 1698 | 4151 | 3118) => {
                Error::Account { user: account.user.clone(), source: e.into() }
            }
            _ => Error::Connect { address: account.address(), source: e.into() },
        })
    }

    /// Runs `work` on the connection that holds the lock, or on a new one.
    fn with<T>(&mut self, work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Error> {
        if let Some((conn, _)) = &mut self.locked {
            return self.runtime.block_on(work(conn));
        }
        let mut conn = self.connect()?;
        self.runtime.block_on(async {
            let result = work(&mut conn).await;
            let _ = conn.disconnect().await;
            result
        })
    }
}

/// The server's refusal of a statement, by its error code.
fn refused(action: &str, error: mysql_async::Error) -> Error {
    let action = action.to_owned();
    match &error {
        // 1193: unknown system variable.
        mysql_async::Error::Server(s) if s.code == 1193 && s.message.contains("rocksdb_") => Error::NoMyRocks,
        // 1044, 1142, 1227: a privilege is missing.
        mysql_async::Error::Server(s) if matches!(s.code, 1044 | 1142 | 1227) => {
            Error::Privilege { action, source: error.into() }
        }
        _ => Error::Statement { action, source: error.into() },
    }
}

async fn one<T: FromRow + Send + 'static>(
    conn: &mut Conn,
    action: &str,
    sql: &str,
) -> Result<Option<T>, Error> {
    conn.query_first(sql).await.map_err(|e| refused(action, e))
}

/// The value of a global variable, or `None` if the server does not have it or it is NULL or empty.
async fn variable(conn: &mut Conn, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let sql = format!("SHOW GLOBAL VARIABLES LIKE '{}'", name.replace('_', "\\_"));
    let row: Option<(Vec<u8>, Option<Vec<u8>>)> = one(conn, "show its variables", &sql).await?;
    Ok(row.and_then(|(_, value)| value).filter(|v| !v.is_empty()))
}

async fn text(conn: &mut Conn, name: &str) -> Result<Option<String>, Error> {
    Ok(variable(conn, name).await?.map(|v| String::from_utf8_lossy(&v).into_owned()))
}

/// A path variable, made absolute from `base`.
async fn path(conn: &mut Conn, name: &str, base: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(variable(conn, name).await?.map(|v| normal(&base.join(PathBuf::from(OsString::from_vec(v))))))
}

/// `path` without `.` parts, as `./#rocksdb` is how the server writes its default.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect()
}

impl Server for MySqlServer {
    fn facts(&mut self) -> Result<Facts, Error> {
        // A socket's server is here; behind an address of this machine may be a tunnel.
        let by_network = self.account.socket.is_none();
        self.with(async |conn| {
            if let Some(theirs) = text(conn, "hostname").await?.filter(|_| by_network) {
                let path = Path::new("/proc/sys/kernel/hostname");
                let ours = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
                if theirs != ours.trim_end() {
                    return Err(Error::OtherHost { theirs, ours: ours.trim_end().to_owned() });
                }
            }
            let Some(rocksdb) = variable(conn, "rocksdb_datadir").await? else {
                return Err(Error::NoMyRocks);
            };
            let Some(datadir) = path(conn, "datadir", Path::new("/")).await? else {
                return Err(Error::Usage("the server does not say where its data directory is".into()));
            };
            let rocksdb_datadir = normal(&datadir.join(PathBuf::from(OsString::from_vec(rocksdb))));
            let rocksdb_wal_dir =
                path(conn, "rocksdb_wal_dir", &datadir).await?.unwrap_or_else(|| rocksdb_datadir.clone());
            let mut no_data = Vec::new();
            for name in ["socket", "pid_file", "tmpdir", "slave_load_tmpdir", "innodb_tmpdir"] {
                no_data.extend(path(conn, name, &datadir).await?);
            }
            let direct = text(conn, "rocksdb_use_direct_reads").await?;
            let uid = match text(conn, "server_uid").await? {
                Some(uid) => Some(uid),
                None => text(conn, "server_uuid").await?,
            };
            Ok(Facts {
                version: text(conn, "version").await?.unwrap_or_default(),
                aria_log_dir: path(conn, "aria_log_dir_path", &datadir).await?,
                log_bin_basename: path(conn, "log_bin_basename", &datadir).await?,
                log_bin_index: path(conn, "log_bin_index", &datadir).await?,
                relay_log_basename: path(conn, "relay_log_basename", &datadir).await?,
                relay_log_index: path(conn, "relay_log_index", &datadir).await?,
                relay_log_info: path(conn, "relay_log_info_file", &datadir).await?,
                no_data,
                direct_reads: matches!(direct.as_deref(), Some("ON" | "1")),
                server_uid: uid,
                rocksdb_wal_dir,
                rocksdb_datadir,
                datadir,
            })
        })
    }

    fn create_checkpoint(&mut self, dir: &Path) -> Result<(), Error> {
        self.with(async |conn| {
            // A parameter and not text: a path may hold quotes and is not always UTF-8.
            let done = conn
                .exec_drop("SET GLOBAL rocksdb_create_checkpoint = ?", (dir.as_os_str().as_bytes(),))
                .await;
            match done {
                Ok(()) => Ok(()),
                Err(mysql_async::Error::Server(s)) if s.message.contains("Directory exists") => {
                    Err(Error::CheckpointExists { dir: dir.to_owned() })
                }
                Err(e) => Err(match refused("create a checkpoint", e) {
                    Error::Statement { source, .. } => Error::Checkpoint { dir: dir.to_owned(), source },
                    other => other,
                }),
            }
        })
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        self.with(async |conn| {
            if !matches!(text(conn, "log_bin").await?.as_deref(), Some("ON" | "1")) {
                return Ok(None);
            }
            let action = "tell its binlog position";
            // MariaDB has a variable that agrees with the position; MySQL gives the set in the same row. The
            // statement is `SHOW BINARY LOG STATUS` from MySQL 8.2 on.
            let mariadb = text(conn, "version").await?.is_some_and(|v| v.contains("MariaDB"));
            let row: Option<mysql_async::Row> = match conn.query_first("SHOW MASTER STATUS").await {
                Err(mysql_async::Error::Server(s)) if s.code == 1064 => {
                    one(conn, action, "SHOW BINARY LOG STATUS").await?
                }
                other => other.map_err(|e| refused(action, e))?,
            };
            let Some(row) = row else { return Ok(None) };
            let file: String = row.get(0).unwrap_or_default();
            let position: u64 = row.get(1).unwrap_or_default();
            let gtid = match mariadb {
                true => text(conn, "gtid_binlog_pos").await?.unwrap_or_default(),
                false => row.get::<Option<String>, _>(4).flatten().unwrap_or_default().replace('\n', ""),
            };
            Ok(Some(Position { file, position, gtid }))
        })
    }

    fn lock(&mut self) -> Result<Lock, Error> {
        self.unlock()?;
        let mut conn = self.connect()?;
        let (id, stop) = (conn.id(), &self.stop);
        let take = async {
            // A lock that waits for a long statement would stop every writer behind it; give up instead.
            for sql in ["SET SESSION lock_wait_timeout = 60", "SET SESSION wait_timeout = 28800"] {
                let _ = conn.query_drop(sql).await;
            }
            let version = text(&mut conn, "version").await?.unwrap_or_default();
            for (lock, statements) in statements(&version) {
                let mut failed = None;
                for sql in *statements {
                    if let Err(e) = conn.query_drop(*sql).await {
                        failed = Some(e);
                        break;
                    }
                }
                match failed {
                    None => return Ok(*lock),
                    // 1064: the server does not know the statement; the next kind may do, without what this one took.
                    Some(mysql_async::Error::Server(s)) if s.code == 1064 => {
                        let _ = conn.query_drop("UNLOCK TABLES").await;
                    }
                    Some(e) => return Err(refused("take the backup lock", e)),
                }
            }
            Err(Error::NoLock)
        };
        let lock = self.runtime.block_on(async {
            tokio::select! {
                biased;
                taken = take => taken,
                stopped = stopped(stop) => Err(stopped),
            }
        });
        if let Err(Error::Stopped { .. }) = lock {
            // A server that waits for a lock does not see that its client has gone, and whoever came later waits behind.
            let _ = self.with(async |conn| {
                conn.query_drop(format!("KILL {id}")).await.map_err(|e| refused("end a connection", e))
            });
        }
        let lock = lock?;
        self.locked = Some((conn, lock));
        Ok(lock)
    }

    fn unlock(&mut self) -> Result<(), Error> {
        let Some((mut conn, lock)) = self.locked.take() else { return Ok(()) };
        self.runtime.block_on(async {
            let release: &[&str] = match lock {
                Lock::BackupStage => &["BACKUP STAGE END"],
                Lock::InstanceForBackup => &["UNLOCK INSTANCE"],
                Lock::TablesForBackup => &["UNLOCK BINLOG", "UNLOCK TABLES"],
                Lock::GlobalRead => &["UNLOCK TABLES"],
            };
            let mut result = Ok(());
            for sql in release {
                match conn.query_drop(*sql).await {
                    Err(mysql_async::Error::Server(s)) if s.code == 1064 => {}
                    Err(e) => result = Err(refused("give the backup lock back", e)),
                    Ok(()) => {}
                }
            }
            // The end of the connection frees the lock whatever the statement did.
            let _ = conn.disconnect().await;
            result
        })
    }

    fn left_out(&mut self) -> Result<Vec<LeftOut>, Error> {
        let sql = "SELECT engine, CAST(COUNT(*) AS UNSIGNED), \
                   CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
                   FROM information_schema.tables WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') \
                   AND engine IS NOT NULL \
                   AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
                   AND UPPER(engine) NOT IN ('ROCKSDB', 'ARIA', 'MYISAM', 'MRG_MYISAM', 'CSV', 'ARCHIVE', 'MEMORY', \
                   'BLACKHOLE', 'PERFORMANCE_SCHEMA', 'SEQUENCE', 'FEDERATED', 'SPIDER') \
                   GROUP BY engine ORDER BY engine";
        self.with(async |conn| {
            let rows: Vec<(String, u64, u64)> =
                conn.query(sql).await.map_err(|e| refused("list the engines of its tables", e))?;
            Ok(rows.into_iter().map(|(engine, tables, bytes)| LeftOut { engine, tables, bytes }).collect())
        })
    }

    fn sees_all_tables(&mut self) -> Result<bool, Error> {
        // Whoever has a privilege on all tables, by whatever role, sees those of the server, too.
        let sql =
            "SELECT CAST(COUNT(*) AS UNSIGNED) FROM information_schema.tables WHERE table_schema = 'mysql'";
        self.with(async |conn| {
            Ok(one::<u64>(conn, "list its tables", sql).await?.is_some_and(|tables| tables > 0))
        })
    }
}

/// Waits for a stop.
async fn stopped(stop: &Stop) -> Error {
    loop {
        if let Err(stopped) = stop.check() {
            return stopped;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The locks to try, the best one first, with their statements. Each of them stops commits: `LOCK TABLES FOR BACKUP`
/// alone does not, and from Percona Server 8.0 on there is no `LOCK BINLOG FOR BACKUP` beside it.
fn statements(version: &str) -> &'static [(Lock, &'static [&'static str])] {
    const STAGES: &[&str] =
        &["BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT"];
    const GLOBAL: (Lock, &[&str]) = (Lock::GlobalRead, &["FLUSH TABLES WITH READ LOCK"]);
    match version.contains("MariaDB") {
        true => &[(Lock::BackupStage, STAGES), GLOBAL],
        false => &[
            (Lock::TablesForBackup, &["LOCK TABLES FOR BACKUP", "LOCK BINLOG FOR BACKUP"]),
            (Lock::InstanceForBackup, &["LOCK INSTANCE FOR BACKUP", "FLUSH TABLES WITH READ LOCK"]),
            GLOBAL,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_of_the_default_rocksdb_directory_go() {
        assert_eq!(normal(Path::new("/var/lib/mysql/./#rocksdb")), Path::new("/var/lib/mysql/#rocksdb"));
    }

    #[test]
    fn mariadb_is_locked_by_stages_up_to_the_commit_block() {
        let (lock, sql) = statements("10.11.19-MariaDB-log")[0];
        assert_eq!(lock, Lock::BackupStage);
        assert_eq!(sql.last(), Some(&"BACKUP STAGE BLOCK_COMMIT"));
    }

    #[test]
    fn every_lock_of_every_server_stops_commits() {
        let stops = ["BACKUP STAGE BLOCK_COMMIT", "LOCK BINLOG FOR BACKUP", "FLUSH TABLES WITH READ LOCK"];
        for version in ["10.11.19-MariaDB-log", "8.0.36-28", "5.7.44-48-log"] {
            for (lock, sql) in statements(version) {
                assert!(sql.last().is_some_and(|last| stops.contains(last)), "{version}: {lock:?}");
            }
        }
    }
}
