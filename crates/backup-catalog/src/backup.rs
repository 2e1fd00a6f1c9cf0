//! One backup of the whole cluster, read from its folder.

use std::collections::BTreeSet;
use std::io;

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::backup_conf::backup_master;
use crate::binlogs::{BinlogName, ServerBinlogs, join_without_gap, parse_backuped_binlogs};
use crate::consistence::{ConsistenceLine, Role, parse_consistence};
use crate::error::{Error, Problem};
use crate::folder::{FolderName, ServerFolder};
use crate::layout::{
    BASE, BINLOGS, CONSISTENCE, CONSISTENT_POINT, EXECUTED_GTIDS, MASTER_DIR, OK, PROXY, SAMPLE, STREAM,
    says_complete,
};
use crate::name::{BackupName, Kind};
use crate::store::{Entry, EntryKind, MAX_FILE, Store};

/// A file with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSize {
    /// Name in its folder.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// A complete backup of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its name, which is its folder's name.
    pub name: BackupName,
    /// Whether most of it lies encrypted in `encrypted/NAME.tar.encrypted`.
    pub encrypted: bool,
    /// When the cluster-wide consistent point was taken: local time of the machine that took the backup, to the
    /// second.
    pub consistent_point: NaiveDateTime,
    /// One line per server that was backed up, in file order.
    pub consistence: Vec<ConsistenceLine>,
    /// The binlogs that were copied, from `backuped_binlogs`; from the folders where that file is missing.
    pub binlogs: Vec<ServerBinlogs>,
    /// The servers' folders in order of their names; empty for an encrypted backup, whose tar holds them.
    pub servers: Vec<ServerFolder>,
    /// Whether masters were backed up (`backup.conf`); `None` when that is not said or not visible.
    pub backup_master: Option<bool>,
    /// The database server's base directory, in a full backup that is not encrypted.
    pub base_tarball: Option<FileSize>,
    /// Size of the encrypted tar in bytes.
    pub tar_bytes: Option<u64>,
    /// Bytes of everything that belongs to it, the encrypted tar included.
    pub bytes: u64,
    /// Entries of its folder that no backup has, by name.
    pub foreign: Vec<String>,
}

/// Entries of a backup's folder that are not servers.
const KNOWN: [&str; 9] =
    [OK, CONSISTENT_POINT, CONSISTENCE, BINLOGS, "backup.conf", PROXY, BASE, SAMPLE, "sample"];

impl Backup {
    /// Full or incremental.
    pub fn kind(&self) -> Kind {
        self.name.kind()
    }

    /// The replication groups that it holds, as lines and folders tell.
    pub fn groups(&self) -> BTreeSet<&str> {
        let lines = self.consistence.iter().map(|line| line.group.as_str());
        lines.chain(self.servers.iter().map(|server| server.group.as_str())).collect()
    }

    /// The visible folder of this name.
    pub fn server(&self, folder: &str) -> Option<&ServerFolder> {
        self.servers.iter().find(|server| server.folder == folder)
    }

    /// The binlogs copied from the server of this name.
    pub fn binlogs_of(&self, server: &str) -> &[String] {
        self.binlogs.iter().find(|b| b.server == server).map_or(&[], |b| &b.files)
    }

    /// Whether every moment between this backup's consistent point and `later`'s can be reached with the binlogs of
    /// the two.
    pub fn joins(&self, later: &Backup) -> bool {
        let sources = self.binlog_sources();
        !sources.is_empty() && sources.iter().all(|server| self.server_joins(server, later))
    }

    /// The servers whose binlogs in `later` do not join those of this backup without a gap.
    pub(crate) fn binlog_holes(&self, later: &Backup) -> Vec<&str> {
        self.binlog_sources().into_iter().filter(|server| !self.server_joins(server, later)).collect()
    }

    fn server_joins(&self, server: &str, later: &Backup) -> bool {
        join_without_gap(self.binlogs_of(server), later.binlogs_of(server))
    }

    /// Takes these groups' lines, folders and binlogs out. Binlogs of a server that neither a line nor a folder names
    /// stay: nothing says whose they are.
    pub(crate) fn leave_out(&mut self, groups: &[String]) {
        let (mut gone, mut kept) = (BTreeSet::new(), BTreeSet::new());
        let lines = self.consistence.iter().map(|line| (&line.server, &line.group));
        let folders = self.servers.iter().map(|folder| (&folder.server, &folder.group));
        for (server, group) in lines.chain(folders) {
            let side = if groups.contains(group) { &mut gone } else { &mut kept };
            side.insert(server.clone());
        }
        self.binlogs.retain(|of| kept.contains(&of.server) || !gone.contains(&of.server));
        self.consistence.retain(|line| !groups.contains(&line.group));
        self.servers.retain(|folder| !groups.contains(&folder.group));
    }

    /// The servers whose binlogs are replayed on what this backup holds: masters, as far as lines, folders and
    /// `backuped_binlogs` tell them.
    fn binlog_sources(&self) -> BTreeSet<&str> {
        let with_role =
            |role| self.consistence.iter().filter(move |l| l.role() == role).map(|l| l.server.as_str());
        let replicas: BTreeSet<&str> = with_role(Role::Replica).collect();
        let listed =
            self.binlogs.iter().map(|b| b.server.as_str()).filter(|server| !replicas.contains(server));
        let followed = self.servers.iter().filter_map(|s| FolderName::parse(s.master_dir.as_deref()?));
        with_role(Role::Master).chain(listed).chain(followed.map(|name| name.server)).collect()
    }

    /// Reads a complete backup.
    pub(crate) fn read(store: &dyn Store, name: &BackupName, tars: &[Entry]) -> Result<Self, Error> {
        let dir = name.as_str();
        let entries = list(store, dir)?;
        let has = |what: &str| entries.iter().any(|e| e.name == what);
        let consistent_point = date_time(store, &format!("{dir}/{CONSISTENT_POINT}"))?;
        let lines = format!("{dir}/{CONSISTENCE}");
        let consistence = parse_consistence(&lines, &required(store, &lines)?)?;
        let tar_name = name.archive_name();
        let tar_bytes = tars.iter().find(|e| e.name == tar_name && e.kind == EntryKind::File).map(|e| e.size);

        // The sample is what marks an encrypted backup. What else lies beside it an interrupted older recovery unpacked,
        // perhaps in part: the tar counts.
        let marked = has(SAMPLE);
        let mut servers = Vec::new();
        let mut foreign = Vec::new();
        for entry in entries.iter().filter(|e| !KNOWN.contains(&e.name.as_str())) {
            match server_identity(&consistence, &entry.name).filter(|_| entry.kind == EntryKind::Dir) {
                Some(_) if marked => {}
                Some((group, server)) => servers.push(read_server(store, dir, &entry.name, group, server)?),
                None => foreign.push(entry.name.clone()),
            }
        }
        let encrypted = marked || (servers.is_empty() && tar_bytes.is_some());
        servers.sort_by(|a, b| a.folder.cmp(&b.folder));
        foreign.sort();

        let listed = format!("{dir}/{BINLOGS}");
        let binlogs = match optional(store, &listed)? {
            Some(content) => parse_backuped_binlogs(&listed, &content)?,
            None => servers.iter().map(binlogs_seen).collect(),
        };
        let conf = if encrypted { None } else { optional(store, &format!("{dir}/backup.conf"))? };
        let backup_master = conf.and_then(|conf| backup_master(&String::from_utf8_lossy(&conf)));
        let mut bytes = sum(&entries) + servers.iter().map(|s| s.bytes).sum::<u64>() + tar_bytes.unwrap_or(0);
        let mut base_tarball = None;
        for folder in [BASE, PROXY].into_iter().filter(|f| has(f) && !encrypted) {
            let files = list(store, &format!("{dir}/{folder}"))?;
            bytes += sum(&files);
            if folder == BASE {
                let mut tarballs =
                    files.iter().filter(|e| e.kind == EntryKind::File && e.name.ends_with(".tar.gz"));
                base_tarball = tarballs.next().map(|e| FileSize { name: e.name.clone(), bytes: e.size });
            }
        }
        let name = name.clone();
        if encrypted && tar_bytes.is_none() {
            return Err(Error::MissingEntry {
                entry: format!("encrypted tar ({})", name.archive()),
                backup: name,
            });
        }
        Ok(Self {
            name,
            encrypted,
            consistent_point,
            consistence,
            binlogs,
            servers,
            backup_master,
            base_tarball,
            tar_bytes,
            bytes,
            foreign,
        })
    }
}

/// Whether the backup's `ok` file says so. A folder, or something that is no text, in its place says nothing.
pub(crate) fn is_complete(store: &dyn Store, name: &BackupName) -> Result<bool, Error> {
    use io::ErrorKind::{FileTooLarge, InvalidData, IsADirectory, NotFound};
    let path = name.ok();
    match store.read(&path, MAX_FILE) {
        Ok(content) => Ok(says_complete(&content)),
        Err(e) if matches!(e.kind(), NotFound | IsADirectory | InvalidData | FileTooLarge) => Ok(false),
        Err(e) => Err(Error::read(&path, e)),
    }
}

/// Group and server of a folder: as a consistence line has them, else by the folder's name.
fn server_identity(lines: &[ConsistenceLine], folder: &str) -> Option<(String, String)> {
    if let Some(line) = lines.iter().find(|line| line.folder() == folder) {
        return Some((line.group.clone(), line.server.clone()));
    }
    FolderName::parse(folder).map(|name| (name.group.to_owned(), name.server.to_owned()))
}

fn read_server(
    store: &dyn Store,
    backup: &str,
    folder: &str,
    group: String,
    server: String,
) -> Result<ServerFolder, Error> {
    let dir = format!("{backup}/{folder}");
    let entries = list(store, &dir)?;
    let text = |name: &str| -> Result<Option<String>, Error> {
        let content = optional(store, &format!("{dir}/{name}"))?;
        Ok(content.map(|c| String::from_utf8_lossy(&c).trim().to_owned()))
    };
    let master_dir = text(MASTER_DIR)?;
    if let Some(master) = master_dir.as_deref().filter(|m| m.is_empty() || m.contains('/') || *m == "..") {
        let problem = match master {
            "" => Problem::Empty,
            _ => Problem::Field { field: MASTER_DIR, expected: "the name of a folder" },
        };
        return Err(Error::line(&format!("{dir}/{MASTER_DIR}"), 1, problem));
    }
    let files = || entries.iter().filter(|e| e.kind == EntryKind::File);
    let mut result = ServerFolder {
        folder: folder.to_owned(),
        group,
        server,
        stream_bytes: files().find(|e| e.name == STREAM).map(|e| e.size),
        master_dir,
        master_slave: text("master_slave")?
            .map_or(Vec::new(), |t| t.split_whitespace().map(str::to_owned).collect()),
        executed_gtids: text(EXECUTED_GTIDS)?,
        binlogs: files()
            .filter(|e| BinlogName::parse(&e.name).is_some())
            .map(|e| (e.name.clone(), e.size))
            .collect(),
        bytes: sum(&entries),
    };
    result.sort_binlogs();
    Ok(result)
}

fn binlogs_seen(folder: &ServerFolder) -> ServerBinlogs {
    ServerBinlogs {
        server: folder.server.clone(),
        files: folder.binlogs.iter().map(|(name, _)| name.clone()).collect(),
    }
}

fn sum(entries: &[Entry]) -> u64 {
    entries.iter().map(|e| e.size).sum()
}

fn list(store: &dyn Store, dir: &str) -> Result<Vec<Entry>, Error> {
    store.list(dir).map_err(|e| Error::read(dir, e))
}

fn required(store: &dyn Store, path: &str) -> Result<Vec<u8>, Error> {
    store.read(path, MAX_FILE).map_err(|e| Error::read(path, e))
}

fn optional(store: &dyn Store, path: &str) -> Result<Option<Vec<u8>>, Error> {
    match store.read(path, MAX_FILE) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::read(path, e)),
    }
}

/// `YYYY-MM-DD HH:MM:SS` and a line feed.
fn date_time(store: &dyn Store, path: &str) -> Result<NaiveDateTime, Error> {
    let content = required(store, path)?;
    let text = String::from_utf8_lossy(&content);
    let text = text.trim_end();
    let problem = if text.is_empty() { Problem::Empty } else { Problem::DateTime };
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").map_err(|_| Error::line(path, 1, problem))
}
