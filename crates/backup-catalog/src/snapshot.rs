//! A store as it was at one moment: a listing and the few small files that describe the backups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::backup_conf::without_secrets;
use crate::layout::{
    BINLOGS, CONSISTENCE, CONSISTENT_POINT, ENCRYPTED, EXECUTED_GTIDS, MASTER_DIR, OK, SOCAT_LOG, TRASH,
};
use crate::store::{Entry, EntryKind, MAX_FILE, Store, within};

/// A store held in memory, for stores on other machines.
///
/// It is filled from one recursive listing, three levels deep ([`Snapshot::FIND`] does it with GNU `find`),
/// and the content of the files that [`Snapshot::wanted`] names. It holds no passwords: `dbscale.conf` and
/// `my.conf` are not among them, and of a `backup.conf` only the line about `backup-master` is kept.
///
/// ```
/// use backup_catalog::{Catalog, EntryKind, Snapshot};
///
/// let mut snapshot = Snapshot::default();
/// let name = "UTC20210205092650.735-full";
/// for file in ["ok", "consistent_point_datetime", "cluster_consistence_info"] {
///     snapshot.entry(&format!("{name}/{file}"), EntryKind::File, 10);
/// }
/// assert_eq!(snapshot.wanted().count(), 3);
/// snapshot.content(&format!("{name}/ok"), b"ok\n");
/// snapshot.content(&format!("{name}/consistent_point_datetime"), b"2021-02-05 17:27:01\n");
/// snapshot.content(&format!("{name}/cluster_consistence_info"), b"");
/// let catalog = Catalog::read(&snapshot)?;
/// assert_eq!(catalog.backups().count(), 1);
/// # Ok::<(), backup_catalog::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    dirs: BTreeMap<String, BTreeMap<String, (EntryKind, u64)>>,
    /// `None`: not UTF-8.
    files: BTreeMap<String, Option<String>>,
    /// Files and folders that are there and could not be read.
    #[serde(default)]
    unreadable: BTreeSet<String>,
}

/// Files with these names describe a backup or a server in it.
const DESCRIBING: [&str; 8] =
    [OK, CONSISTENT_POINT, CONSISTENCE, BINLOGS, "backup.conf", EXECUTED_GTIDS, MASTER_DIR, "master_slave"];

/// One record of [`Snapshot::FIND`].
const FOUND: &str = "%y\\t%s\\t%P\\0";

impl Snapshot {
    /// Arguments that make GNU `find`, run in the store's base directory, print what [`Snapshot::from_find`]
    /// reads: kind, size and path of every entry down to the files of a server's folder. It does not go into folders
    /// that are no backups, which may not even be readable (`lost+found`). It ends with 1 where there is something in
    /// a backup that it may not look at, and with what it says of that [`Snapshot::complaints`] reads, if it says it in the
    /// locale `C`.
    #[rustfmt::skip]
    pub const FIND: [&'static str; 22] = [
        "-L", ".", "-ignore_readdir_race", "-mindepth", "1", "-maxdepth", "3",
        "!", "-path", "./*/*", "!", "-name", "UTC*", "!", "-name", ENCRYPTED, "-printf", FOUND, "-prune",
        "-o", "-printf", FOUND,
    ];
    /// Whether the content of the file at `path` (relative to the base) belongs into a snapshot.
    pub fn wants(path: &str, size: u64) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let deep = parts.len() == 2 || parts.len() == 3;
        deep && size <= MAX_FILE
            && DESCRIBING.contains(&parts[parts.len() - 1])
            && !matches!(parts[0], TRASH | ENCRYPTED | SOCAT_LOG)
    }

    /// Reads the output of [`Snapshot::FIND`]. Entries below `trash` and `socat_log` are left out.
    ///
    /// # Errors
    ///
    /// `InvalidData` when a record has not the three fields.
    pub fn from_find(output: &[u8]) -> io::Result<Self> {
        let mut snapshot = Self::default();
        for record in output.split(|&b| b == 0).filter(|r| !r.is_empty()) {
            let text = String::from_utf8_lossy(record);
            let mut fields = text.splitn(3, '\t');
            let (Some(kind), Some(size), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not the output of find"));
            };
            let size = size.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let kind = match kind {
                "f" => EntryKind::File,
                "d" => EntryKind::Dir,
                _ => EntryKind::Other,
            };
            if !path.starts_with("trash/") && !path.starts_with("socat_log/") {
                snapshot.entry(path, kind, size);
            }
        }
        Ok(snapshot)
    }

    /// Takes what [`Snapshot::FIND`] complained of for what cannot be read; what has gone meanwhile is no longer there.
    ///
    /// # Errors
    ///
    /// `InvalidData` with the first line that names nothing in the store, or names the store itself: then who knows what
    /// is missing in the listing.
    pub fn complaints(&mut self, said: &str) -> io::Result<()> {
        for line in said.lines().filter(|line| !line.is_empty()) {
            let told =
                line.split_once(": ").and_then(|(_, told)| told.strip_prefix("'./")?.split_once("': "));
            let (path, why) = told.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))?;
            if why == "No such file or directory" {
                self.gone(path);
                continue;
            }
            // Of what is not a folder that was listed it is not known whether it is one: the folder that has it is not whole.
            let folder = if self.dirs.contains_key(path) { Some(path) } else { parent(path) };
            self.unreadable(folder.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))?);
        }
        Ok(())
    }

    /// Says of a file or folder that it cannot be read: an error for whoever asks for it.
    pub fn unreadable(&mut self, path: &str) {
        self.unreadable.insert(path.to_owned());
    }

    /// Takes an entry out that has gone since the listing was made.
    pub fn gone(&mut self, path: &str) {
        let (dir, name) = (parent(path).unwrap_or(""), path.rsplit('/').next().unwrap_or(path));
        if let Some(entries) = self.dirs.get_mut(dir) {
            entries.remove(name);
        }
        self.dirs.remove(path);
        self.files.remove(path);
    }

    fn readable(&self, path: &str) -> io::Result<()> {
        let above = std::iter::successors(Some(path), |path| parent(path));
        match above.into_iter().find(|path| self.unreadable.contains(*path)) {
            Some(_) => Err(io::ErrorKind::PermissionDenied.into()),
            None => Ok(()),
        }
    }

    /// Adds an entry; the folders above it come into being.
    pub fn entry(&mut self, path: &str, kind: EntryKind, size: u64) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !dir.is_empty() && !self.dirs.contains_key(dir) {
            self.entry(dir, EntryKind::Dir, 0);
        }
        if kind == EntryKind::Dir {
            self.dirs.entry(path.to_owned()).or_default();
        }
        let size = if kind == EntryKind::File { size } else { 0 };
        self.dirs.entry(dir.to_owned()).or_default().insert(name.to_owned(), (kind, size));
    }

    /// Sets the content of a file. A file that is not UTF-8 can be listed and not read.
    pub fn content(&mut self, path: &str, content: &[u8]) {
        let text = if path.ends_with("/backup.conf") {
            Some(without_secrets(&String::from_utf8_lossy(content)))
        } else {
            String::from_utf8(content.to_vec()).ok()
        };
        self.entry(path, EntryKind::File, content.len() as u64);
        self.files.insert(path.to_owned(), text);
    }

    /// The paths whose content is still to be given, in order.
    pub fn wanted(&self) -> impl Iterator<Item = String> + '_ {
        self.dirs.iter().flat_map(move |(dir, entries)| {
            entries.iter().filter_map(move |(name, &(kind, size))| {
                let path = format!("{dir}/{name}");
                let open = kind == EntryKind::File && Self::wants(&path, size);
                (open && !self.files.contains_key(&path) && !self.unreadable.contains(&path)).then_some(path)
            })
        })
    }
}

/// The folder that has the entry at `path`; `None` for the base itself and for what lies right in it.
fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(dir, _)| dir)
}

impl Store for Snapshot {
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.readable(dir)?;
        match self.dirs.get(dir) {
            Some(entries) => Ok(entries
                .iter()
                .map(|(name, &(kind, size))| Entry { name: name.clone(), kind, size })
                .collect()),
            None if dir.is_empty() => Ok(Vec::new()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.readable(path)?;
        match self.files.get(path) {
            Some(Some(text)) => within(limit, text.as_bytes().to_vec()),
            Some(None) => Err(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")),
            None => {
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                let entry = self.dirs.get(dir).and_then(|d| d.get(name)).ok_or(io::ErrorKind::NotFound)?;
                Err(match *entry {
                    (EntryKind::Dir, _) => io::ErrorKind::IsADirectory.into(),
                    (EntryKind::Other, _) => {
                        io::Error::new(io::ErrorKind::InvalidData, "neither a file nor a folder")
                    }
                    (EntryKind::File, size) => {
                        let kind =
                            if size > limit { io::ErrorKind::FileTooLarge } else { io::ErrorKind::Other };
                        io::Error::new(kind, "its content was not fetched")
                    }
                })
            }
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("dirs", &self.dirs.len()).field("files", &self.files.len()).finish()
    }
}
