//! The server's other files: table definitions, system tables, logs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::Place;
use crate::names::{self, Kind};
use crate::server::Facts;
use crate::sink::Member;
use crate::{Error, Stop};

/// Endings of the files that are taken from the directory of a database.
///
/// Table definitions and triggers (`frm`, `par`, `TRG`, `TRN`, `opt`, `sdi` of MySQL 8), MyISAM (`MYD`, `MYI`), Aria
/// (`MAD`, `MAI`), MERGE (`MRG`), ARCHIVE (`ARZ`, `ARM`, `ARN`), CSV (`CSV`, `CSM`).
pub const ENDINGS: [&str; 16] = [
    "frm", "MYD", "MYI", "MAD", "MAI", "MRG", "TRG", "TRN", "ARM", "ARN", "ARZ", "CSM", "CSV", "opt", "par",
    "sdi",
];

/// Files at the top of the data directory whose name begins or ends like this are left out: they say who a server is,
/// where its replication stands, or belong to InnoDB.
pub const EXCLUDED: [&str; 8] = [
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
pub const MADE_ANEW: [&str; 5] = ["ibtmp", "undo_", "undo0", "#ib_", "ddl.log"];

/// Bytes that are gathered before they go to the spool.
const SPOOL_BUFFER: usize = 256 * 1024;

/// A file of the server that goes into the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path in the backup, relative to the data directory.
    pub(crate) path: PathBuf,
    /// Where it is read.
    pub(crate) source: PathBuf,
    /// A file that grows at its end only: its first bytes stay what they are.
    pub(crate) grows: bool,
}

/// What a data directory holds beside RocksDB.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Directories of databases.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) files: Vec<Found>,
    /// Files at the top that are left out.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Where not to look.
pub(crate) struct Scope<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) datadir: &'a Path,
    pub(crate) checkpoints: &'a Path,
    pub(crate) binlogs: bool,
}

impl Scope<'_> {
    /// Lists the files to take.
    pub(crate) fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let mut top = Vec::new();
        for (name, path) in entries(self.datadir)? {
            let Ok(meta) = path.metadata() else { continue };
            if meta.is_dir() {
                if !self.is_database(&name, &path) {
                    continue;
                }
                for (file, source) in entries(&path)? {
                    let ending = Path::new(&file).extension().and_then(OsStr::to_str).unwrap_or("");
                    if ENDINGS.contains(&ending) && source.is_file() {
                        listing.files.push(Found { path: Path::new(&name).join(file), source, grows: false });
                    }
                }
                listing.directories.push(name.into());
            } else if meta.is_file() {
                let bytes = name.as_bytes();
                let is = |part: &&str| bytes.starts_with(part.as_bytes()) || bytes.ends_with(part.as_bytes());
                let binlog = self.is_binlog(&path);
                let out = EXCLUDED.iter().any(is)
                    || MADE_ANEW.iter().any(|p| bytes.starts_with(p.as_bytes()))
                    // RocksDB's own, where it lives in the data directory itself.
                    || names::kind(Path::new(&name)) != Kind::Server
                    || self.excluded(&path)
                    || (binlog.is_some() && !self.binlogs);
                match out {
                    true => listing.skipped.push(name.into()),
                    false => top.push(Found {
                        path: name.into(),
                        source: path,
                        grows: binlog == Some(Binlog::Log),
                    }),
                }
            }
        }
        if let Some(dir) = self.facts.aria_log_dir.as_deref().filter(|d| !same(d, self.datadir)) {
            for (name, source) in entries(dir)? {
                if name.as_bytes().starts_with(b"aria_log") && source.is_file() {
                    top.push(Found { path: name.into(), source, grows: false });
                }
            }
        }
        listing.files.append(&mut top);
        Ok(listing)
    }

    /// The table definitions that there are now.
    pub(crate) fn definitions(&self) -> Result<BTreeSet<PathBuf>, Error> {
        let mut names = BTreeSet::new();
        for (db, path) in entries(self.datadir)? {
            if path.is_dir() && self.is_database(&db, &path) {
                for (file, _) in entries(&path)? {
                    if is_definition(&file) {
                        names.insert(Path::new(&db).join(file));
                    }
                }
            }
        }
        Ok(names)
    }

    /// A directory is a database unless its name cannot be one: the server writes `#` and `.` of a name as `@0023`
    /// and `@002e`.
    fn is_database(&self, name: &OsStr, path: &Path) -> bool {
        let first = name.as_bytes().first();
        !matches!(first, Some(b'.' | b'#')) && name != "lost+found" && !self.excluded(path)
    }

    fn excluded(&self, path: &Path) -> bool {
        let facts = self.facts;
        let ours = [facts.rocksdb_datadir.as_path(), facts.rocksdb_wal_dir.as_path(), self.checkpoints];
        ours.iter().any(|own| same(own, path) || own.starts_with(path))
            || facts.no_data.iter().any(|other| same(other, path))
    }

    /// A binlog, or one of the two files that list them: a server does not start if its index names files that are
    /// not there.
    fn is_binlog(&self, path: &Path) -> Option<Binlog> {
        let facts = self.facts;
        if facts.log_bin_index.as_deref().is_some_and(|index| same(index, path)) {
            return Some(Binlog::List);
        }
        let base = facts.log_bin_basename.as_ref()?;
        let rest = path.as_os_str().as_bytes().strip_prefix(base.as_os_str().as_bytes())?;
        match rest.strip_prefix(b".")? {
            b"index" | b"state" => Some(Binlog::List),
            digits if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => Some(Binlog::Log),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Binlog {
    Log,
    List,
}

/// A table definition that stays; a running ALTER has others, which begin with `#sql`.
fn is_definition(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".frm") && !name.as_bytes().starts_with(b"#sql")
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn entries(dir: &Path) -> Result<Vec<(std::ffi::OsString, PathBuf)>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        names.push((entry.file_name(), entry.path()));
    }
    names.sort();
    Ok(names)
}

/// How table definitions are watched: a backup whose schema and data are of different moments may not start.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) start: SystemTime,
    pub(crate) names: BTreeSet<PathBuf>,
}

impl Definitions {
    /// Compares with what there is now.
    pub(crate) fn check(&self, scope: &Scope<'_>) -> Result<(), Error> {
        let changed = |path: &PathBuf, change| Error::SchemaChanged { path: path.clone(), change };
        let now = scope.definitions()?;
        if let Some(gone) = self.names.difference(&now).next() {
            return Err(changed(gone, "was dropped or renamed"));
        }
        if let Some(new) = now.difference(&self.names).next() {
            return Err(changed(new, "was created"));
        }
        for path in &now {
            let source = scope.datadir.join(path);
            let modified =
                source.metadata().and_then(|m| m.modified()).map_err(Error::io("read", &source))?;
            if modified > self.start {
                return Err(changed(path, "was changed"));
            }
        }
        Ok(())
    }
}

/// A file that was put aside under the lock.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) member: Member,
    /// A hard link; without one the bytes are the next ones of the spool.
    pub(crate) link: Option<PathBuf>,
}

/// Files that were put aside, all copies in one file: a file for each would cost more than the bytes.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) kept: Vec<Kept>,
    /// At its start; the copies follow one another in the order of `kept`.
    pub(crate) copies: File,
}

/// Puts copies of the files aside in `place`, so that the lock is short however slow the backup's reader is.
///
/// Binlogs become hard links where that is possible: what they hold up to now does not change.
pub(crate) fn keep(listing: &Listing, place: &Place, stop: &Stop) -> Result<Spool, Error> {
    let dir = place.path();
    std::fs::create_dir(dir).map_err(Error::io("create", dir))?;
    let path = dir.join("copies");
    let failed = |e| Error::Io { action: "write", path: path.clone(), source: e };
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    let mut copies = BufWriter::with_capacity(SPOOL_BUFFER, file);
    let mut kept = Vec::with_capacity(listing.files.len());
    for (number, found) in listing.files.iter().enumerate() {
        stop.check()?;
        let Some((mut member, mut file)) = open(found)? else { continue };
        if found.grows {
            let link = dir.join(number.to_string());
            if std::fs::hard_link(&found.source, &link).is_ok() {
                kept.push(Kept { member, link: Some(link) });
                continue;
            }
        }
        let copied = if member.size > SPOOL_BUFFER as u64 {
            // Large ones are copied by the kernel, which can share the blocks on some file systems.
            copies.flush().map_err(failed)?;
            std::io::copy(&mut file, copies.get_mut())
        } else {
            std::io::copy(&mut file, &mut copies)
        };
        member.size = copied.map_err(Error::io("copy", &found.source))?;
        kept.push(Kept { member, link: None });
    }
    let mut copies = copies.into_inner().map_err(|e| failed(e.into_error()))?;
    copies.rewind().map_err(failed)?;
    Ok(Spool { kept, copies })
}

/// Opens a file, or `None` if it has gone since it was listed: a log that was rotated away.
pub(crate) fn open(found: &Found) -> Result<Option<(Member, File)>, Error> {
    let file = match File::open(&found.source) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !is_definition(found.path.as_os_str()) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::Io { action: "open", path: found.source.clone(), source: e }),
    };
    let meta = file.metadata().map_err(Error::io("read", &found.source))?;
    Ok(Some((Member::of(&found.path, &meta), file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datadir() -> (tempfile::TempDir, Facts) {
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
            "ibdata1",
            "ib_logfile0",
            "ibtmp1",
            "auto.cnf",
            "my-master.info",
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
            no_data: vec![root.join("pid"), root.join("tmp")],
            ..Facts::default()
        };
        (dir, facts)
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|f| f.path.to_str().unwrap()).collect()
    }

    #[test]
    fn what_a_server_needs_is_taken_and_nothing_of_innodb() {
        let (dir, facts) = datadir();
        let scope =
            Scope { facts: &facts, datadir: dir.path(), checkpoints: Path::new("/nowhere"), binlogs: true };
        let listing = scope.list().unwrap();
        assert_eq!(
            names(&listing),
            [
                "db/#sql-1.frm",
                "db/t.MAD",
                "db/t.frm",
                "mysql/user.MAI",
                "aria_log_control",
                "bl.000001",
                "bl.index",
                "tc.log"
            ]
        );
        assert_eq!(listing.directories, ["db", "empty", "mysql"].map(PathBuf::from));
        assert!(listing.files.iter().all(|f| f.grows == (f.path == Path::new("bl.000001"))));
    }

    #[test]
    fn the_checkpoint_directory_inside_the_data_directory_is_left_out() {
        let (dir, facts) = datadir();
        let checkpoints = dir.path().join("empty/snapshots");
        std::fs::create_dir(&checkpoints).unwrap();
        let scope = Scope { facts: &facts, datadir: dir.path(), checkpoints: &checkpoints, binlogs: false };
        let listing = scope.list().unwrap();
        assert_eq!(listing.directories, ["db", "mysql"].map(PathBuf::from));
        assert!(
            !names(&listing).iter().any(|name| name.starts_with("bl.")),
            "neither binlogs nor their index"
        );
    }

    #[test]
    fn every_change_of_a_definition_is_seen() {
        let (dir, facts) = datadir();
        let scope =
            Scope { facts: &facts, datadir: dir.path(), checkpoints: Path::new("/nowhere"), binlogs: true };
        let definitions = Definitions {
            start: SystemTime::now() + std::time::Duration::from_secs(1),
            names: scope.definitions().unwrap(),
        };
        definitions.check(&scope).unwrap();
        let change = |scope: &Scope<'_>, definitions: &Definitions| match definitions.check(scope) {
            Err(Error::SchemaChanged { change, .. }) => change,
            other => panic!("{other:?}"),
        };
        std::fs::write(dir.path().join("db/new.frm"), "").unwrap();
        assert_eq!(change(&scope, &definitions), "was created");
        std::fs::remove_file(dir.path().join("db/new.frm")).unwrap();
        std::fs::rename(dir.path().join("db/t.frm"), dir.path().join("db/u.frm")).unwrap();
        assert_eq!(change(&scope, &definitions), "was dropped or renamed");
        std::fs::rename(dir.path().join("db/u.frm"), dir.path().join("db/t.frm")).unwrap();
        let early = Definitions { start: SystemTime::UNIX_EPOCH, names: definitions.names };
        assert_eq!(change(&scope, &early), "was changed");
    }
}
