//! Which files of a data directory go into a backup.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{FileType, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::definitions::{Stamp, is_definition};
use crate::Error;
use crate::log_index;
use crate::marked::{FileId, id};
use crate::names::{self, Kind};
use crate::server::Facts;
use crate::sink::Member;

/// Endings of the files that are taken from the directory of a database.
///
/// Table definitions and triggers (`frm`, `par`, `TRG`, `TRN`, `opt`, `sdi` of MySQL 8), MyISAM (`MYD`, `MYI`), Aria
/// (`MAD`, `MAI`), MERGE (`MRG`), ARCHIVE (`ARZ`, `ARM`, `ARN`), CSV (`CSV`, `CSM`).
const ENDINGS: [&str; 16] = [
    "frm", "MYD", "MYI", "MAD", "MAI", "MRG", "TRG", "TRN", "ARM", "ARN", "ARZ", "CSM", "CSV", "opt", "par",
    "sdi",
];

/// Files at the top of the data directory whose name begins or ends like this are left out: they say who a server is,
/// where its replication stands, or belong to InnoDB.
const EXCLUDED: [&str; 8] = [
    "master.info",
    "relay-log.info",
    "worker-relay-log.info",
    "auto.cnf",
    "gaplock.log",
    "ibdata",
    "ib_logfile",
    ".trash",
];

/// More that a server makes anew: InnoDB's temporary tablespace, undo logs and double-write files, which are useless
/// without `ibdata`, and the log of DDL that `BACKUP STAGE` writes for its caller.
const MADE_ANEW: [&str; 5] = ["ibtmp", "undo_", "undo0", "#ib_", "ddl.log"];

/// The files of a replica's connection that has no name; `master-NAME.info` and `relay-log-NAME.info` are those of others.
const REPLICA: [&str; 2] = ["master.info", "relay-log.info"];

/// The beginning of the names of Aria's logs.
const ARIA_LOG: &[u8] = b"aria_log";

/// A file of the server that goes into the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path in the backup, relative to the data directory.
    pub(crate) path: PathBuf,
    /// Where it is read.
    pub(crate) source: PathBuf,
    /// A file that grows at its end, and changes in its header only: a binlog.
    pub(crate) grows: bool,
}

/// What a data directory holds beside RocksDB.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Directories of databases, as they are now: one may be dropped before it is sent.
    pub(crate) directories: Vec<Member>,
    pub(crate) files: Vec<Found>,
    /// Files at the top that are left out.
    pub(crate) skipped: Vec<PathBuf>,
    /// The name of the file that lists the binlogs, if those are taken.
    pub(super) index: Option<PathBuf>,
}

impl Listing {
    /// The index of the binlogs, to be made of those that go into the backup.
    pub(crate) fn index(&self) -> Index {
        let logs = self.files.iter().filter(|found| found.grows).map(|found| found.path.clone()).collect();
        Index { name: self.index.clone(), logs, kept: Vec::new() }
    }
}

/// The index of a backup's binlogs.
#[derive(Debug)]
pub(crate) struct Index {
    name: Option<PathBuf>,
    /// All binlogs that were listed. Others may have come since, and some may have gone.
    logs: HashSet<PathBuf>,
    kept: Vec<Member>,
}

impl Index {
    /// A file is in the backup.
    pub(crate) fn keep(&mut self, member: &Member) {
        if self.logs.contains(&member.path) {
            self.kept.push(member.clone());
        }
    }

    /// The index as a file of the backup, and its bytes; `None` if no binlog is in the backup.
    pub(crate) fn finish(self) -> Option<(Member, Vec<u8>)> {
        let bytes = log_index::of(self.kept.iter().map(|log| log.path.as_os_str()))?;
        let last = self.kept.into_iter().max_by_key(|log| log.modified)?;
        Some((Member { path: self.name?, size: bytes.len() as u64, ..last }, bytes))
    }
}

/// Where to look, and where not.
pub(crate) struct Scope<'a> {
    datadir: &'a Path,
    binlogs: bool,
    /// What is not the server's files: RocksDB's directories, the checkpoints, and what is no data.
    apart: HashSet<FileId>,
    /// The files that list the binlogs and the relay logs.
    index: Option<FileId>,
    relay_index: Option<FileId>,
    /// The beginning of the binlogs' names, if they are in the data directory.
    binlog: Option<OsString>,
    /// The name of the file that lists them, and if it is in the data directory, too.
    index_name: Option<OsString>,
    has_index: bool,
    /// The beginning of the relay logs' names.
    relay: Option<OsString>,
    /// The files in which a replica notes its master and where it is: stem and ending.
    replica: Vec<(OsString, OsString)>,
    /// Where Aria keeps its logs, if that is not the data directory.
    aria: Option<&'a Path>,
}

fn id_of(path: &Path) -> Option<FileId> {
    path.metadata().ok().map(|meta| id(&meta))
}

impl<'a> Scope<'a> {
    pub(crate) fn new(facts: &'a Facts, datadir: &'a Path, checkpoints: &Path, binlogs: bool) -> Self {
        let mut apart: HashSet<_> = facts.no_data.iter().filter_map(|path| id_of(path)).collect();
        let root = id_of(datadir);
        for own in [facts.rocksdb_datadir.as_path(), &facts.rocksdb_wal_dir, checkpoints] {
            apart.extend(id_of(own));
            // A directory in the data directory that only leads to one of them is no database.
            let own = own.canonicalize().unwrap_or_else(|_| own.to_owned());
            let above: Vec<_> = own.ancestors().skip(1).map(id_of).take_while(|id| *id != root).collect();
            if own.ancestors().nth(above.len() + 1).is_some_and(|path| id_of(path) == root) {
                apart.extend(above.into_iter().flatten());
            }
        }
        let index = facts.log_bin_index.as_deref().and_then(id_of);
        let relay_index = facts.relay_log_index.as_deref().and_then(id_of);
        let name_at_top = |path: Option<&Path>| {
            path.filter(|path| path.parent().and_then(id_of) == root)
                .and_then(Path::file_name)
                .map(OsStr::to_owned)
        };
        let binlog = name_at_top(facts.log_bin_basename.as_deref());
        let named = name_at_top(facts.log_bin_index.as_deref());
        let has_index = named.is_some() || facts.log_bin_index.is_none();
        let index_name = named.or_else(|| {
            let mut name = binlog.clone()?;
            name.push(".index");
            Some(name)
        });
        let relay = name_at_top(facts.relay_log_basename.as_deref());
        let own = name_at_top(facts.relay_log_info.as_deref());
        let own = own.as_deref().into_iter();
        let replica = own.chain(REPLICA.map(OsStr::new)).map(stem_and_ending).collect();
        let aria = facts.aria_log_dir.as_deref().filter(|dir| id_of(dir) != root);
        Self {
            datadir,
            binlogs,
            apart,
            index,
            relay_index,
            binlog,
            index_name,
            has_index,
            relay,
            replica,
            aria,
        }
    }

    /// If the data directory is where the server keeps its binlogs, and looks for them.
    pub(crate) fn has_binlogs(&self) -> bool {
        self.binlog.is_some() && self.has_index
    }

    /// Lists the files to take.
    pub(crate) fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let mut top = Vec::new();
        for Entry { name, path, .. } in entries(self.datadir)? {
            let Ok(meta) = path.metadata() else { continue };
            if meta.is_dir() {
                if !self.is_database(&name, &meta) {
                    continue;
                }
                for file in entries(&path)? {
                    let ending = Path::new(&file.name).extension().and_then(OsStr::to_str).unwrap_or("");
                    if ENDINGS.contains(&ending) && file.is_file() {
                        let path = Path::new(&name).join(file.name);
                        listing.files.push(Found { path, source: file.path, grows: false });
                    }
                }
                listing.directories.push(Member::of(Path::new(&name), &meta));
            } else if meta.is_file() {
                let log = self.log(&name, &meta);
                let leaves_out = match log {
                    // Made anew.
                    Some(Log::Index) if self.binlogs => continue,
                    Some(Log::Index | Log::Other) => true,
                    Some(Log::Binlog) => !self.binlogs,
                    None => false,
                };
                match leaves_out || self.leaves_out(&name, &meta) {
                    true => listing.skipped.push(name.into()),
                    false => top.push(Found { path: name.into(), source: path, grows: log.is_some() }),
                }
            }
        }
        if let Some(dir) = self.aria {
            for file in entries(dir)? {
                if file.name.as_bytes().starts_with(ARIA_LOG) && file.is_file() {
                    top.push(Found { path: file.name.into(), source: file.path, grows: false });
                }
            }
        }
        listing.files.append(&mut top);
        if self.binlogs && self.binlog.is_some() {
            listing.index = self.index_name.as_ref().map(PathBuf::from);
        }
        Ok(listing)
    }

    /// If a file at the top of the data directory has no place in a backup.
    fn leaves_out(&self, name: &OsStr, meta: &Metadata) -> bool {
        let bytes = name.as_bytes();
        let is = |part: &&str| bytes.starts_with(part.as_bytes()) || bytes.ends_with(part.as_bytes());
        EXCLUDED.iter().any(is)
            || self.is_of_replica(bytes)
            || MADE_ANEW.iter().any(|part| bytes.starts_with(part.as_bytes()))
            // RocksDB's own, where it lives in the data directory itself.
            || names::kind(Path::new(name)) != Kind::Server
            || self.apart.contains(&id(meta))
            // Left there from before the logs went elsewhere.
            || self.aria.is_some() && bytes.starts_with(ARIA_LOG)
    }

    /// If a file is about a master, which is its password, too: each connection with a name has files of its own.
    fn is_of_replica(&self, name: &[u8]) -> bool {
        self.replica.iter().any(|(stem, ending)| {
            let rest =
                name.strip_prefix(stem.as_bytes()).and_then(|rest| rest.strip_suffix(ending.as_bytes()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
        })
    }

    /// The table definitions that there are now.
    pub(crate) fn definitions(&self) -> Result<BTreeMap<PathBuf, Stamp>, Error> {
        let mut stamps = BTreeMap::new();
        for Entry { name, path, .. } in entries(self.datadir)? {
            let Ok(meta) = path.metadata() else { continue };
            if meta.is_dir() && self.is_database(&name, &meta) {
                for file in entries(&path)?.into_iter().filter(|file| is_definition(&file.name)) {
                    // One that is gone at once is none.
                    let Ok(meta) = file.path.metadata() else { continue };
                    stamps.insert(Path::new(&name).join(file.name), Stamp::of(&meta));
                }
            }
        }
        Ok(stamps)
    }

    /// A directory is a database unless its name cannot be one: the server writes `#` and `.` of a name as `@0023`
    /// and `@002e`.
    fn is_database(&self, name: &OsStr, meta: &Metadata) -> bool {
        let first = name.as_bytes().first();
        !matches!(first, Some(b'.' | b'#')) && name != "lost+found" && !self.apart.contains(&id(meta))
    }

    /// If a file is a binlog or a relay log, or about them.
    fn log(&self, name: &OsStr, meta: &Metadata) -> Option<Log> {
        let id = Some(id(meta));
        if self.index == id {
            return Some(Log::Index);
        }
        if self.relay_index == id {
            return Some(Log::Other);
        }
        let rest = |base: &Option<OsString>| name.as_bytes().strip_prefix(base.as_deref()?.as_bytes());
        let is_number = |ending| log_index::number_in(ending).is_some();
        match rest(&self.binlog).and_then(|rest| rest.strip_prefix(b".")) {
            Some(b"index") => return Some(Log::Index),
            Some(b"state" | b"~rec~") => return Some(Log::Other),
            Some(number) if is_number(number) => return Some(Log::Binlog),
            _ => {}
        }
        // A connection's name may follow.
        let rest = rest(&self.relay).filter(|rest| matches!(rest.first(), Some(b'.' | b'-')))?;
        let ending = rest.rsplit(|byte| *byte == b'.').next()?;
        (is_number(ending) || matches!(ending, b"index" | b"~rec~")).then_some(Log::Other)
    }
}

/// A file's name without its ending, and the ending with its dot: the name of a connection goes between.
fn stem_and_ending(name: &OsStr) -> (OsString, OsString) {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').unwrap_or(bytes.len());
    let (stem, ending) = bytes.split_at(dot);
    (OsStr::from_bytes(stem).to_owned(), OsStr::from_bytes(ending).to_owned())
}

/// What a file at the top has to do with binlogs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Binlog,
    /// The list of them, see [`log_index`].
    Index,
    /// Relay logs with their list: where a replica stands in them is not in a backup. The list of logs to remove. The GTID
    /// state of the time when the server was stopped last; without it a server that starts finds it in its last binlog.
    Other,
}

/// An entry of a directory.
struct Entry {
    name: OsString,
    path: PathBuf,
    /// As the directory tells it: a link is a link.
    kind: FileType,
}

impl Entry {
    /// If it is a file, or a link to one: a table may lie elsewhere (`DATA DIRECTORY`).
    fn is_file(&self) -> bool {
        self.kind.is_file() || (self.kind.is_symlink() && self.path.is_file())
    }
}

/// The entries of a directory by name.
fn entries(dir: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        // An entry may be gone at once: a temporary table.
        let Ok(kind) = entry.file_type() else { continue };
        entries.push(Entry { name: entry.file_name(), path: entry.path(), kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn datadir() -> (tempfile::TempDir, Facts) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for sub in ["db", "mysql", "#rocksdb", ".hidden", "tmp", "empty"] {
            std::fs::create_dir(root.join(sub)).unwrap();
        }
        for file in [
            "db/t.frm",
            "db/t.MAD",
            "db/t.ibd",
            "db/t.cfg",
            "db/#sql-1.frm",
            "mysql/user.MAI",
            "#rocksdb/000001.sst",
            "aria_log_control",
            "bl.000001",
            "bl.index",
            "bl.state",
            "bl.~rec~",
            "bl-relay.000001",
            "bl-relay-c.000002",
            "bl-relay.index",
            "bl-relay.txt",
            "ibdata1",
            "ib_logfile0",
            "ibtmp1",
            "auto.cnf",
            "my-master.info",
            "master-east.info",
            "relay-log-east.info",
            "where.pos",
            "where-east.pos",
            "whereabouts.pos",
            "master-list.txt",
            "pid",
            "tc.log",
        ] {
            std::fs::write(root.join(file), file).unwrap();
        }
        let facts = Facts {
            datadir: root.to_owned(),
            rocksdb_datadir: root.join("#rocksdb"),
            rocksdb_wal_dir: root.join("#rocksdb"),
            log_bin_basename: Some(root.join("bl")),
            relay_log_basename: Some(root.join("bl-relay")),
            relay_log_info: Some(root.join("where.pos")),
            no_data: vec![root.join("pid"), root.join("tmp")],
            ..Facts::default()
        };
        (dir, facts)
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|f| f.path.to_str().unwrap()).collect()
    }

    fn directories(listing: &Listing) -> Vec<&str> {
        listing.directories.iter().map(|d| d.path.to_str().unwrap()).collect()
    }

    #[test]
    fn what_a_server_needs_is_taken_and_nothing_of_innodb() {
        let (dir, facts) = datadir();
        let scope = Scope::new(&facts, dir.path(), Path::new("/nowhere"), true);
        let listing = scope.list().unwrap();
        assert_eq!(
            names(&listing),
            [
                "db/#sql-1.frm",
                "db/t.MAD",
                "db/t.frm",
                "mysql/user.MAI",
                "aria_log_control",
                "bl-relay.txt",
                "bl.000001",
                "master-list.txt",
                "tc.log",
                "whereabouts.pos"
            ]
        );
        assert_eq!(directories(&listing), ["db", "empty", "mysql"]);
        assert!(listing.files.iter().all(|f| f.grows == (f.path == Path::new("bl.000001"))));
    }

    #[test]
    fn the_index_is_made_of_the_binlogs_that_are_kept() {
        let (dir, mut facts) = datadir();
        let index = |facts: &Facts, name: &str| {
            let scope = Scope::new(facts, dir.path(), Path::new("/nowhere"), true);
            let listing = scope.list().unwrap();
            assert!(!names(&listing).contains(&name), "{name} is not copied");
            let mut index = listing.index();
            for found in &listing.files {
                index.keep(&Member::of(&found.path, &found.source.metadata().unwrap()));
            }
            let none = listing.index().finish();
            assert!(none.is_none(), "no binlog, no index: {none:?}");
            let (member, bytes) = index.finish().unwrap();
            assert_eq!((member.path.as_path(), member.size), (Path::new(name), bytes.len() as u64));
            assert_eq!(bytes, b"./bl.000001\n");
            scope.has_binlogs()
        };
        assert!(index(&facts, "bl.index"));
        std::fs::rename(dir.path().join("bl.index"), dir.path().join("logs")).unwrap();
        facts.log_bin_index = Some(dir.path().join("logs"));
        assert!(index(&facts, "logs"));
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        facts.log_bin_index = Some(elsewhere.path().to_owned());
        assert!(!index(&facts, "bl.index"), "a server with the same options looks elsewhere");
    }

    #[test]
    fn logs_of_aria_are_taken_from_where_they_are_and_old_ones_are_left_out() {
        let (dir, mut facts) = datadir();
        let logs = tempfile::tempdir().unwrap();
        for name in ["aria_log_control", "aria_log.00000001"] {
            std::fs::write(logs.path().join(name), "in use").unwrap();
        }
        facts.aria_log_dir = Some(logs.path().to_owned());
        let listing = Scope::new(&facts, dir.path(), Path::new("/nowhere"), true).list().unwrap();
        let aria = listing.files.iter().filter(|f| f.path.to_str().unwrap().starts_with("aria_log"));
        let sources: Vec<_> = aria.map(|f| f.source.clone()).collect();
        assert_eq!(sources, ["aria_log.00000001", "aria_log_control"].map(|name| logs.path().join(name)));
        assert!(listing.skipped.contains(&"aria_log_control".into()));
    }

    #[test]
    fn the_checkpoint_directory_inside_the_data_directory_is_left_out() {
        let (dir, facts) = datadir();
        let checkpoints = dir.path().join("empty/snapshots");
        std::fs::create_dir(&checkpoints).unwrap();
        let scope = Scope::new(&facts, dir.path(), &checkpoints, false);
        let listing = scope.list().unwrap();
        assert_eq!(directories(&listing), ["db", "mysql"]);
        assert!(
            !names(&listing).iter().any(|name| name.starts_with("bl.")),
            "neither binlogs nor their index"
        );
    }
}
