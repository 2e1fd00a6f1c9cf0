//! Where a backup comes from: the server, its checkpoints, and its files put aside under a lock.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Options;
use crate::checkpoint::{Place, Workspace};
use crate::event::milliseconds;
use crate::manifest::{BinlogAt, Entry, LockHeld};
use crate::names::{self, Kind};
use crate::rocksdb::LiveFiles;
use crate::server::{Facts, LeftOut, Position, Server};
use crate::server_files::{self, Aside, Definitions, Scope};
use crate::{Clock, Error, Event, Stop, private};

/// What may be in a checkpoint without a lock if the backup has no binlog.
const UNDECIDED: &str = "without binlogs the backup may hold transactions that are prepared and not committed; a restored \
                         server that refuses to start for them starts once with --tc-heuristic-recover=ROLLBACK";

/// What follows if the account may not see all tables.
const UNSEEN: &str = "the account does not see all tables: if there are some in InnoDB or other engines, whose data are not in \
                      the backup, cannot be known; grant it SELECT on *.*";

/// How often the lock is tried. The server itself waits for it for up to a minute each time.
const LOCK_TRIES: u32 = 3;

/// How long others get between two tries.
const LOCK_PAUSE: Duration = Duration::from_secs(5);

/// How often it is looked for a stop in it.
const LOOKS: u32 = 50;

/// A server whose backup is being taken.
pub(crate) struct Source<'a> {
    pub(crate) server: &'a mut dyn Server,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) options: &'a Options,
    pub(crate) stop: &'a Stop,
    pub(crate) tell: &'a mut dyn FnMut(&Event),
    pub(crate) workspace: Workspace,
    pub(crate) facts: Facts,
    pub(crate) datadir: PathBuf,
    /// The identity of the RocksDB database.
    pub(crate) identity: Option<String>,
    /// The data files of the base by name, but for those that turned out to be others here.
    pub(crate) base: BTreeMap<String, &'a Entry>,
    /// The device of RocksDB's data.
    pub(crate) device: u64,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) started: SystemTime,
    pub(crate) begun: Duration,
    pub(crate) lock: Option<LockHeld>,
    /// The account was not refused the position in the binlog yet.
    pub(crate) may_ask: bool,
    /// The last checkpoint, the server's files and the binlog position are of one moment, under the lock.
    pub(crate) one_moment: bool,
}

/// A checkpoint and what it holds.
pub(crate) struct Checkpoint {
    pub(crate) place: Place,
    /// The data files and their sizes.
    pub(crate) data: BTreeMap<String, u64>,
    /// Write-ahead logs, then RocksDB's own files with `CURRENT` last: it is what makes the others a database.
    pub(crate) rest: Vec<String>,
    pub(crate) binlog: Option<BinlogAt>,
    pub(crate) definitions: Option<Definitions>,
    /// The server's files, put aside at the moment of the checkpoint.
    pub(crate) kept: Option<Aside>,
}

impl<'a> Source<'a> {
    /// Asks the server for its facts, refuses what can be refused before anything is made, and takes a place in the
    /// checkpoint directory.
    pub(crate) fn open(
        server: &'a mut dyn Server,
        clock: &'a dyn Clock,
        options: &'a Options,
        stop: &'a Stop,
        tell: &'a mut dyn FnMut(&Event),
    ) -> Result<Self, Error> {
        let (begun, started) = (clock.elapsed(), clock.now());
        let facts = server.facts()?;
        let datadir = options.datadir.clone().unwrap_or_else(|| facts.datadir.clone());
        let device = check_filesystem(options, &facts)?;
        let identity = identity(&facts);
        let base = base_files(options, &facts, identity.as_deref())?;
        let left_out = left_out(server, options, &facts)?;
        let (workspace, orphans) = Workspace::open(&options.checkpoint_dir, &facts.rocksdb_datadir)?;
        let direct = options.direct.unwrap_or(facts.direct_reads);
        tell(&Event::Reading { direct, datadir: datadir.clone() });
        for engine in &left_out {
            tell(&Event::LeftOut(engine.clone()));
        }
        for path in orphans {
            tell(&Event::OrphanRemoved { path });
        }
        for text in warnings(server, options, &facts, &datadir)? {
            tell(&Event::Warning { text });
        }
        let one_moment = Locking::of(options, &facts, &datadir) == Locking::Checkpoint;
        Ok(Self {
            server,
            clock,
            options,
            stop,
            tell,
            workspace,
            facts,
            datadir,
            identity,
            base,
            device,
            left_out,
            started,
            begun,
            lock: None,
            may_ask: true,
            one_moment,
        })
    }

    /// Makes a checkpoint; under the lock, and with the server's files put aside, if it is the last one and all is to be
    /// of one moment. `sent` are the data files that are elsewhere already: a file of such a name must be the same.
    pub(crate) fn checkpoint(
        &mut self,
        round: u32,
        last: bool,
        sent: &BTreeMap<String, Entry>,
    ) -> Result<Checkpoint, Error> {
        self.stop.check()?;
        let now = identity(&self.facts);
        if now != self.identity {
            let name = |id: Option<String>| id.unwrap_or_else(|| "unknown".into());
            let (was, is) = (name(self.identity.clone()), name(now));
            return Err(Error::ServerChanged { what: "the identity of the RocksDB database", was, is });
        }
        let place = self.workspace.place(&round.to_string());
        let locked = match last && self.one_moment {
            true if self.options.consistent => Some(self.lock()?),
            true => self.lock_if_allowed(UNDECIDED)?,
            false => None,
        };
        let consistent = locked.is_some();
        self.one_moment &= consistent || !last;
        let definitions = match consistent || self.options.skip_definition_check {
            true => None,
            false => Some(Definitions { start: self.started, stamps: self.scope().definitions()? }),
        };
        let before = self.position()?;
        self.server.create_checkpoint(place.path())?;
        let after = self.position()?;
        let mut kept = None;
        if let Some(since) = locked {
            kept = Some(self.keep()?);
            self.unlock(since)?;
        }
        let binlog = at(before, after, consistent);
        let mut checkpoint =
            Checkpoint { place, data: BTreeMap::new(), rest: Vec::new(), binlog, definitions, kept };
        self.list(&mut checkpoint, sent)?;
        let todo = || checkpoint.data.iter().filter(|(name, _)| !self.is_known(name, sent));
        let (files, bytes) = (todo().count(), todo().map(|(_, size)| size).sum());
        (self.tell)(&Event::Checkpoint {
            round,
            path: checkpoint.place.path().to_owned(),
            files,
            bytes,
            known: checkpoint.data.len() - files,
        });
        Ok(checkpoint)
    }

    /// Where the binlog is. Only a consistent backup is one with its position; an account that may not ask for it does without.
    fn position(&mut self) -> Result<Option<Position>, Error> {
        if !self.may_ask {
            return Ok(None);
        }
        match self.server.position() {
            Err(e @ Error::Privilege { .. }) if !self.options.consistent => {
                self.may_ask = false;
                let text = format!("{}; the backup does not say where the binlog was", with_causes(&e));
                (self.tell)(&Event::Warning { text });
                Ok(None)
            }
            position => position,
        }
    }

    pub(crate) fn is_known(&self, name: &str, sent: &BTreeMap<String, Entry>) -> bool {
        sent.contains_key(name) || self.base.contains_key(name)
    }

    /// Lists a checkpoint. A name must mean the same file as in the rounds before; one that means another than in the base is
    /// sent again: the server went back to an older state of its data and gave the number anew.
    fn list(&mut self, checkpoint: &mut Checkpoint, sent: &BTreeMap<String, Entry>) -> Result<(), Error> {
        let dir = checkpoint.place.path();
        for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match names::kind(Path::new(&name)) {
                Kind::Data => {
                    let meta = entry.metadata().map_err(Error::io("read", entry.path()))?;
                    let (now, time) = (meta.len(), modified(&meta, self.device));
                    match sent.get(&name) {
                        Some(known) if known.is(now, time) => {}
                        Some(known) => {
                            return Err(Error::FileReplaced { file: name, sent: known.size, now });
                        }
                        None if self.base.get(&name).is_some_and(|known| !known.is(now, time)) => {
                            self.base.remove(&name);
                        }
                        None => {}
                    }
                    checkpoint.data.insert(name, now);
                }
                Kind::Wal | Kind::Meta => checkpoint.rest.push(name),
                Kind::Server => {}
            }
        }
        checkpoint.rest.sort_by_key(|name| (names::kind(Path::new(name)), name == "CURRENT", name.clone()));
        if checkpoint.rest.last().is_none_or(|name| name != "CURRENT") {
            return Err(Error::NoBackup { path: dir.to_owned(), missing: "CURRENT" });
        }
        Ok(())
    }

    /// The checkpoint's MANIFEST must name exactly the data files of the checkpoint; gives the sequence number.
    pub(crate) fn check_live(&self, path: &Path, checkpoint: &Checkpoint) -> Result<u64, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let live = LiveFiles::read(std::io::BufReader::new(file), path)?;
        for (name, size) in live.names() {
            let found = checkpoint.data.get(&name).copied();
            let fits = found.is_some_and(|found| size.is_none_or(|size| size == found));
            if !fits {
                let found = found.map_or("is missing".into(), |n| format!("has {n} bytes"));
                let size = size.map_or("any number of".into(), |n| n.to_string());
                let reason = format!("it needs {name} with {size} bytes, which {found} in the checkpoint");
                return Err(Error::Rocks { path: path.to_owned(), offset: 0, reason });
            }
        }
        Ok(live.last_sequence)
    }

    /// Locks. What may go by, such as a wait that was too long or a lost connection, is tried again.
    pub(crate) fn lock(&mut self) -> Result<Duration, Error> {
        self.check_room()?;
        let mut tries = 1;
        let lock = loop {
            match self.server.lock() {
                Err(e @ (Error::Statement { .. } | Error::Connect { .. })) if tries < LOCK_TRIES => {
                    let text = format!("{}; the lock is tried again", with_causes(&e));
                    (self.tell)(&Event::Warning { text });
                    tries += 1;
                    for _ in 0..LOOKS {
                        self.stop.check()?;
                        self.clock.sleep(LOCK_PAUSE / LOOKS);
                    }
                    self.stop.check()?;
                }
                locked => break locked?,
            }
        };
        let since = self.clock.elapsed();
        self.lock = Some(LockHeld { kind: lock, milliseconds: 0 });
        (self.tell)(&Event::Locked { lock });
        Ok(since)
    }

    /// What will be copied under the lock must have room: nobody is to be kept waiting for a disk that fills up.
    fn check_room(&self) -> Result<(), Error> {
        let dir = self.workspace.dir();
        let listing = self.scope().list()?;
        let copied = listing.files.iter().filter(|found| !found.grows);
        let bytes: u64 = copied.filter_map(|found| found.source.metadata().ok()).map(|meta| meta.len()).sum();
        let room = rustix::fs::statvfs(dir).map_err(|e| Error::io("look for room in", dir)(e.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if bytes > free && !self.copies_share_blocks(&listing) {
            let text = format!("the server's files have {bytes} bytes, and {free} are free");
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, text);
            return Err(Error::Io {
                action: "put the server's files aside in",
                path: dir.to_owned(),
                source,
            });
        }
        Ok(())
    }

    /// Whether a copy takes no room, as on XFS and btrfs.
    fn copies_share_blocks(&self, listing: &server_files::Listing) -> bool {
        let longest = listing.files.iter().filter(|found| !found.grows);
        let longest = longest.max_by_key(|found| found.source.metadata().map_or(0, |meta| meta.len()));
        let Some(from) = longest.and_then(|found| File::open(&found.source).ok()) else { return false };
        // A place of this run: no name that somebody else could have taken, and it goes also when the run is killed.
        let place = self.workspace.place("probe");
        let made = private::create_dir(place.path())
            .and_then(|()| private::create_file(&place.path().join("probe")));
        made.is_ok_and(|to| rustix::fs::ioctl_ficlone(&to, &from).is_ok())
    }

    pub(crate) fn unlock(&mut self, since: Duration) -> Result<(), Error> {
        let result = self.server.unlock();
        let held = milliseconds(self.clock.elapsed() - since);
        if let Some(lock) = &mut self.lock {
            lock.milliseconds = held;
        }
        (self.tell)(&Event::Unlocked { milliseconds: held });
        result
    }

    /// Locks; an account that may not do that, and a server that has no lock, get a warning that says what follows from it.
    /// Everything else is an error: a backup that was to be locked is not left unlocked because the server was busy.
    fn lock_if_allowed(&mut self, otherwise: &str) -> Result<Option<Duration>, Error> {
        match self.lock() {
            Ok(since) => Ok(Some(since)),
            Err(e @ (Error::Privilege { .. } | Error::NoLock)) => {
                (self.tell)(&Event::Warning { text: format!("{}; {otherwise}", with_causes(&e)) });
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Puts the server's files aside.
    pub(crate) fn keep(&mut self) -> Result<Aside, Error> {
        let listing = self.scope().list()?;
        let place = self.workspace.place("server-files");
        server_files::put_aside(listing, place, self.options.readers, self.stop)
    }

    /// Puts the server's files aside after the data were sent, under a lock of their own if the account may lock.
    pub(crate) fn keep_later(&mut self, definitions: Option<Definitions>) -> Result<Option<Aside>, Error> {
        let since = match self.options.no_lock {
            true => None,
            false => self.lock_if_allowed("the server's files are read as they are")?,
        };
        let kept = match &definitions {
            Some(definitions) => definitions.check(&self.scope()),
            None => Ok(()),
        };
        match since {
            Some(since) => {
                let kept = kept.and_then(|()| self.keep());
                self.unlock(since)?;
                kept.map(Some)
            }
            None => kept.map(|()| None),
        }
    }

    /// Waits for the file that a test makes.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        let Some(path) = &self.options.wait_for else { return Ok(()) };
        let mut told = false;
        while !path.exists() {
            if !told {
                (self.tell)(&Event::WaitingFor { path: path.clone() });
                told = true;
            }
            self.stop.check()?;
            self.clock.sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Which of the server's files are taken.
    pub(crate) fn scope(&self) -> Scope<'_> {
        scope(&self.facts, &self.datadir, self.options)
    }
}

impl Drop for Source<'_> {
    /// An error under the lock must not leave it to the life of the connection.
    fn drop(&mut self) {
        let _ = self.server.unlock();
    }
}

/// An error and what it comes from.
fn with_causes(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

/// When a data file in a checkpoint was changed last. A copy of it, on another device than `device`, has a time of its own.
pub(crate) fn modified(meta: &Metadata, device: u64) -> Option<SystemTime> {
    meta.modified().ok().filter(|_| meta.dev() == device)
}

fn at(before: Option<Position>, after: Option<Position>, locked: bool) -> Option<BinlogAt> {
    let (before, after) = (before?, after?);
    // Without the lock not even a position that stands still is exact: a transaction is in the binlog before it is
    // committed in RocksDB.
    Some(BinlogAt { before, after, exact: locked })
}

/// The identity of the RocksDB database; it is in a file beside the data.
pub(super) fn identity(facts: &Facts) -> Option<String> {
    let text = std::fs::read_to_string(facts.rocksdb_datadir.join("IDENTITY")).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(super) fn scope<'a>(facts: &'a Facts, datadir: &'a Path, options: &'a Options) -> Scope<'a> {
    Scope::new(facts, datadir, &options.checkpoint_dir, options.binlogs)
}

/// What a backup does under the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Locking {
    /// Nothing.
    None,
    /// The server's files are put aside.
    ServerFiles,
    /// That, and the last checkpoint is made.
    Checkpoint,
}

impl Locking {
    /// What an account that may lock gets.
    pub(super) fn of(options: &Options, facts: &Facts, datadir: &Path) -> Self {
        match options.no_lock {
            true => Self::None,
            false if options.consistent || is_undecided(options, facts, datadir) => Self::Checkpoint,
            false => Self::ServerFiles,
        }
    }
}

/// What is to be known of a backup before it begins.
pub(super) fn warnings(
    server: &mut dyn Server,
    options: &Options,
    facts: &Facts,
    datadir: &Path,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if options.no_lock && is_undecided(options, facts, datadir) {
        warnings.push(format!("not locked: {UNDECIDED}"));
    }
    if !server.sees_all_tables()? {
        warnings.push(UNSEEN.into());
    }
    if let Some(base) = &options.base
        && base.files.iter().any(|file| file.kind == Kind::Data && file.modified.is_none())
    {
        warnings.push(format!(
            "the base {} does not say when its data files were changed: they are known by name and size alone. If the data \
             directory was set back to an older state since, take a full backup",
            base.id
        ));
    }
    Ok(warnings)
}

/// Whether the backup lacks the binlog that decides about half of a commit. A checkpoint between the two phases of a
/// commit holds a prepared transaction. Only the binlog says what became of it, and a server that has none refuses to
/// start. Under the lock no commit is between its phases.
fn is_undecided(options: &Options, facts: &Facts, datadir: &Path) -> bool {
    facts.log_bin_basename.is_some() && !(options.binlogs && scope(facts, datadir, options).has_binlogs())
}

/// Refuses a checkpoint that RocksDB could only make by copying everything; gives the device of the data.
pub(super) fn check_filesystem(options: &Options, facts: &Facts) -> Result<u64, Error> {
    let data = &facts.rocksdb_datadir;
    let device = data.metadata().map_err(Error::io("read", data))?.dev();
    // The directory may not be there yet; its nearest ancestor that is decides.
    let checkpoint = options.checkpoint_dir.ancestors().find_map(|a| a.metadata().ok());
    if checkpoint.is_some_and(|meta| meta.dev() != device) && !options.copied_checkpoint {
        let checkpoint = options.checkpoint_dir.clone();
        return Err(Error::OtherFilesystem { checkpoint, data: data.clone() });
    }
    Ok(device)
}

/// What is not in the backup. That is too much if nothing starts without it.
pub(super) fn left_out(
    server: &mut dyn Server,
    options: &Options,
    facts: &Facts,
) -> Result<Vec<LeftOut>, Error> {
    let is_needed = has_dictionary_in_innodb(&facts.version);
    if is_needed && !options.without_dictionary {
        return Err(Error::DataDictionary { version: facts.version.clone() });
    }
    let mut left_out = server.left_out()?;
    if is_needed {
        let engine = "InnoDB's data dictionary (mysql.ibd), without which no server starts".into();
        left_out.insert(0, LeftOut { engine, tables: 1, bytes: 0 });
    }
    Ok(left_out)
}

/// MySQL and Percona Server keep their dictionary there since 8.0, MariaDB does not.
fn has_dictionary_in_innodb(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= 8) && !version.contains("MariaDB")
}

/// The data files of the base by name, if it is of the same database.
pub(super) fn base_files<'a>(
    options: &'a Options,
    facts: &Facts,
    identity: Option<&str>,
) -> Result<BTreeMap<String, &'a Entry>, Error> {
    let Some(base) = &options.base else { return Ok(BTreeMap::new()) };
    let unusable = |reason: String| Error::BaseUnusable { id: base.id.clone(), reason };
    match (base.server.rocksdb_identity.as_deref(), identity) {
        (Some(theirs), Some(ours)) if theirs == ours => {}
        (theirs, ours) => {
            let reason = format!(
                "it is of the RocksDB database {}, the server has {}: file numbers have another meaning there",
                theirs.unwrap_or("of unknown identity"),
                ours.unwrap_or("one of unknown identity"),
            );
            return Err(unusable(reason));
        }
    }
    // The data directory may have been copied with its identity; from then on a number is another file on each server.
    if let (Some(theirs), Some(ours)) = (&base.server.uid, &facts.server_uid)
        && theirs != ours
        && !options.base_of_another_server
    {
        return Err(Error::BaseOfAnotherServer {
            id: base.id.clone(),
            theirs: theirs.clone(),
            ours: ours.clone(),
        });
    }
    let data = base.files.iter().filter(|f| f.kind == Kind::Data);
    Ok(data.filter_map(|f| Some((f.path.to_str()?.to_owned(), f))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Lock;
    use crate::{Manifest, manifest};

    struct Still(Facts);

    impl Server for Still {
        fn facts(&mut self) -> Result<Facts, Error> {
            Ok(self.0.clone())
        }
        fn create_checkpoint(&mut self, _: &Path) -> Result<(), Error> {
            Ok(())
        }
        fn position(&mut self) -> Result<Option<Position>, Error> {
            Ok(None)
        }
        fn lock(&mut self) -> Result<Lock, Error> {
            Ok(Lock::GlobalRead)
        }
        fn unlock(&mut self) -> Result<(), Error> {
            Ok(())
        }
        fn left_out(&mut self) -> Result<Vec<LeftOut>, Error> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_server_whose_dictionary_is_in_innodb_is_refused_unless_that_is_accepted() {
        for (version, is_there) in [
            ("8.0.35-27", true),
            ("9.4.0", true),
            ("5.7.44-48", false),
            ("10.11.19-MariaDB", false),
            ("11.8.2-MariaDB-log", false),
            ("", false),
        ] {
            let facts = Facts { version: version.into(), ..Facts::default() };
            let mut server = Still(facts.clone());
            let mut options = Options::default();
            let result = left_out(&mut server, &options, &facts);
            assert_eq!(
                matches!(result, Err(Error::DataDictionary { .. })),
                is_there,
                "{version}: {result:?}"
            );
            options.without_dictionary = true;
            assert_eq!(left_out(&mut server, &options, &facts).unwrap().len(), usize::from(is_there));
        }
    }

    #[test]
    fn a_base_of_another_server_is_refused_unless_that_is_accepted() {
        let json = serde_json::json!({
            "schema_version": manifest::SCHEMA, "program": "", "id": "a".repeat(32), "base": null, "started": "",
            "finished": "", "server": { "version": "", "uid": "one", "rocksdb_identity": "same" }, "consistent": false,
            "lock": null, "binlog": null, "sequence": null, "left_out": [], "checksum": "none", "directories": [],
            "files": [],
        });
        let base = Manifest::parse(json.to_string().as_bytes(), Path::new("m")).unwrap();
        let mut options = Options { base: Some(base), ..Options::default() };
        for (uid, accepted, good) in [
            (Some("one"), false, true),
            (None, false, true),
            (Some("two"), false, false),
            (Some("two"), true, true),
        ] {
            let facts = Facts { server_uid: uid.map(str::to_owned), ..Facts::default() };
            options.base_of_another_server = accepted;
            let result = base_files(&options, &facts, Some("same"));
            assert_eq!(result.is_ok(), good, "{uid:?}: {result:?}");
        }
    }
}
