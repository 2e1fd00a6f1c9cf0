//! A backup: rounds of checkpoints, then the server's files, then the manifest.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::checkpoint::{Place, Workspace, random_id};
use crate::content::Reading;
use crate::event::milliseconds;
use crate::limit::Limiter;
use crate::manifest::{self, BinlogAt, Entry, LockHeld, Manifest, Origin};
use crate::names::{self, Kind};
use crate::rocksdb::LiveFiles;
use crate::server::{Facts, LeftOut, Position, Server};
use crate::server_files::{self, Definitions, Kept, Listing, Scope, Spool};
use crate::sink::{Member, Sink};
use crate::{Checksum, Clock, Error, Event, Stop};

/// Direct reads begin at this size; smaller files are not worth the threads.
const DIRECT_FROM: u64 = 1024 * 1024;

const GIGABYTE: u64 = 1 << 30;

/// What a backup is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where checkpoints are made; on the file system of the data. It is created if it is missing.
    pub checkpoint_dir: PathBuf,
    /// A checkpoint that is older is given up for a new one: it keeps files alive that the server no longer needs.
    pub interval: Duration,
    /// The data directory, if not the one the server tells.
    pub datadir: Option<PathBuf>,
    /// Accept tables that were created, altered or dropped during the backup.
    pub skip_definition_check: bool,
    /// Take checkpoint, server files and binlog position of one moment, under one lock.
    pub consistent: bool,
    /// Never lock: the server's files are read as they are, as the original does.
    pub no_lock: bool,
    /// The manifest of the backup that this one builds on.
    pub base: Option<Manifest>,
    /// Bytes per second, for all files together.
    pub rate_limit: Option<u64>,
    /// The checksums of the manifest.
    pub checksum: Checksum,
    /// Threads that read one file ahead in direct I/O.
    pub readers: usize,
    /// Direct I/O, if not as the server does it.
    pub direct: Option<bool>,
    /// Take the server's binlogs along.
    pub binlogs: bool,
    /// Wait between data and server files until this file is there; for tests.
    pub wait_for: Option<PathBuf>,
    /// Accept a checkpoint that is a copy, on another file system.
    pub copied_checkpoint: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint_dir: "/data/mysql/backup/snapshot".into(),
            interval: Duration::from_secs(300),
            datadir: None,
            skip_definition_check: false,
            consistent: false,
            no_lock: false,
            base: None,
            rate_limit: None,
            checksum: Checksum::default(),
            readers: 4,
            direct: None,
            binlogs: true,
            wait_for: None,
            copied_checkpoint: false,
        }
    }
}

/// What a backup became.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Its id.
    pub id: String,
    /// The id of its base.
    pub base: Option<String>,
    /// Checkpoints that were made.
    pub rounds: u32,
    /// Data files that were sent.
    pub data_files: usize,
    /// Their bytes.
    pub data_bytes: u64,
    /// Data files that the base has.
    pub base_files: usize,
    /// Their bytes.
    pub base_bytes: u64,
    /// Server files that were sent.
    pub server_files: usize,
    /// Their bytes.
    pub server_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// If everything is of one moment.
    pub consistent: bool,
    /// The lock.
    pub lock: Option<LockHeld>,
    /// Where the binlog was.
    pub binlog: Option<BinlogAt>,
    /// User tables that are not in the backup.
    pub left_out: Vec<LeftOut>,
}

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
}

/// Looks at everything a backup looks at first, and touches nothing.
///
/// # Errors
///
/// The same refusals as those of [`backup`] before its first checkpoint.
pub fn plan(server: &mut dyn Server, options: &Options) -> Result<Plan, Error> {
    let facts = server.facts()?;
    let datadir = options.datadir.clone().unwrap_or_else(|| facts.datadir.clone());
    check_filesystem(options, &facts)?;
    let identity = identity(&facts);
    let known = base_files(options, identity.as_deref())?;
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
        left_out: server.left_out()?,
        direct: options.direct.unwrap_or(facts.direct_reads),
        rocksdb_datadir: facts.rocksdb_datadir.clone(),
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
        if known.get(&name).is_some_and(|entry| entry.size == meta.len()) {
            plan.base_files += 1;
        } else {
            plan.data_files += 1;
            plan.data_bytes += meta.len();
        }
    }
    Ok(plan)
}

/// Takes a backup of `server` into `sink`.
///
/// The checkpoints are removed whatever happens. On an error the sink was not finished, so what it wrote does not look
/// like a backup.
///
/// # Errors
///
/// Everything that [`Error`] lists for servers, files and sinks.
pub fn backup(
    server: &mut dyn Server,
    sink: &mut dyn Sink,
    clock: &dyn Clock,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let result = run(server, sink, clock, options, stop, tell);
    if result.is_err() {
        // An error under the lock must not leave it to the life of the connection.
        let _ = server.unlock();
    }
    result
}

fn run(
    server: &mut dyn Server,
    sink: &mut dyn Sink,
    clock: &dyn Clock,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let begun = clock.elapsed();
    let started = clock.now();
    let facts = server.facts()?;
    let datadir = options.datadir.clone().unwrap_or_else(|| facts.datadir.clone());
    let direct = options.direct.unwrap_or(facts.direct_reads);
    tell(&Event::Reading { direct, datadir: datadir.clone() });
    check_filesystem(options, &facts)?;
    let identity = identity(&facts);
    let base = base_files(options, identity.as_deref())?;
    let left_out = server.left_out()?;
    for engine in &left_out {
        tell(&Event::LeftOut(engine.clone()));
    }
    let (workspace, orphans) = Workspace::open(&options.checkpoint_dir, &facts.rocksdb_datadir)?;
    for path in orphans {
        tell(&Event::OrphanRemoved { path });
    }
    let limiter = Limiter::new(clock, options.rate_limit);
    let mut run = Run {
        server,
        sink,
        clock,
        options,
        stop,
        tell,
        workspace: &workspace,
        reading: Reading::new(options.checksum, options.readers, &limiter, stop),
        facts,
        datadir,
        direct,
        identity,
        started,
        base,
        sent: BTreeMap::new(),
        sent_bytes: 0,
        progress: (0, begun),
        lock: None,
    };
    let id = random_id()?;
    let rounds = run.rounds()?;
    let server_part = run.server_part(rounds.kept)?;

    let Run { facts, identity, base: known, sent, lock, .. } = run;
    let mut report = Report {
        id: id.clone(),
        base: options.base.as_ref().map(|b| b.id.clone()),
        rounds: rounds.count,
        data_files: sent.len(),
        data_bytes: sent.values().map(|s| s.size).sum(),
        base_files: 0,
        base_bytes: 0,
        server_files: server_part.files.len(),
        server_bytes: server_part.files.iter().map(|f| f.size).sum(),
        seconds: 0.0,
        consistent: options.consistent,
        lock,
        binlog: rounds.binlog,
        left_out,
    };
    let mut files = Vec::with_capacity(sent.len() + rounds.files.len() + server_part.files.len());
    for (name, entry) in sent {
        let obsolete = !rounds.data.contains_key(&name);
        files.push(Entry { obsolete, ..entry });
    }
    for name in rounds.data.keys() {
        if let Some(entry) = known.get(name) {
            report.base_files += 1;
            report.base_bytes += entry.size;
            let from = entry.from.clone().or_else(|| options.base.as_ref().map(|b| b.id.clone()));
            files.push(Entry { from, obsolete: false, ..(*entry).clone() });
        }
    }
    files.extend(rounds.files);
    files.extend(server_part.files);
    let manifest = Manifest {
        schema_version: manifest::SCHEMA,
        program: concat!("rocks-hotbackup ", env!("CARGO_PKG_VERSION")).into(),
        id,
        base: report.base.clone(),
        started: rfc3339(started),
        finished: rfc3339(clock.now()),
        server: Origin { version: facts.version, uid: facts.server_uid, rocksdb_identity: identity },
        consistent: options.consistent,
        lock: report.lock.clone(),
        binlog: report.binlog.clone(),
        sequence: rounds.sequence,
        left_out: report.left_out.clone(),
        checksum: options.checksum,
        directories: server_part.directories,
        files,
    };
    let bytes = manifest.to_bytes();
    let path = Path::new(manifest::NAME);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let size = bytes.len() as u64;
    let member = Member { path: path.to_owned(), size, mode: 0o640, uid, gid, modified: clock.now() };
    let unlimited = Limiter::new(clock, None);
    let mut reading = Reading::new(options.checksum, 1, &unlimited, stop);
    let mut content = reading.bytes(path, &bytes);
    sink.file(&member, &mut content)?;
    content.sum()?;
    sink.finish()?;
    report.seconds = (clock.elapsed() - begun).as_secs_f64();
    Ok(report)
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The identity of the RocksDB database; it is in a file beside the data.
fn identity(facts: &Facts) -> Option<String> {
    let text = std::fs::read_to_string(facts.rocksdb_datadir.join("IDENTITY")).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(crate) fn scope<'a>(facts: &'a Facts, datadir: &'a Path, options: &'a Options) -> Scope<'a> {
    Scope { facts, datadir, checkpoints: &options.checkpoint_dir, binlogs: options.binlogs }
}

/// Refuses a checkpoint that RocksDB could only make by copying everything.
pub(crate) fn check_filesystem(options: &Options, facts: &Facts) -> Result<(), Error> {
    let data = &facts.rocksdb_datadir;
    let device = data.metadata().map_err(Error::io("read", data))?.dev();
    // The directory may not be there yet; its nearest ancestor that is decides.
    let checkpoint = options.checkpoint_dir.ancestors().find_map(|a| a.metadata().ok());
    if checkpoint.is_some_and(|meta| meta.dev() != device) && !options.copied_checkpoint {
        let checkpoint = options.checkpoint_dir.clone();
        return Err(Error::OtherFilesystem { checkpoint, data: data.clone() });
    }
    Ok(())
}

/// The data files of the base by name, if it is of the same database.
fn base_files<'a>(
    options: &'a Options,
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
    let data = base.files.iter().filter(|f| f.kind == Kind::Data);
    Ok(data.filter_map(|f| Some((f.path.to_str()?.to_owned(), f))).collect())
}

/// Whether rounds get anywhere: a server that writes faster than the backup leaves more after each of them.
#[derive(Debug, Default)]
struct Pace {
    least: Option<usize>,
    stalled: u32,
}

impl Pace {
    /// Rounds without progress after which one is sent whole, however long its checkpoint lives.
    const PATIENCE: u32 = 5;

    fn round(&mut self, remaining: usize) {
        match self.least {
            Some(least) if remaining >= least => self.stalled += 1,
            _ => (self.least, self.stalled) = (Some(remaining), 0),
        }
    }

    fn is_stuck(&self) -> bool {
        self.stalled >= Self::PATIENCE
    }
}

/// What the rounds came to.
struct Rounds {
    count: u32,
    /// WAL and RocksDB's own files.
    files: Vec<Entry>,
    /// The data files of the final checkpoint and their sizes.
    data: BTreeMap<String, u64>,
    binlog: Option<BinlogAt>,
    sequence: Option<u64>,
    /// The server's files, put aside at the moment of the final checkpoint.
    kept: Option<Aside>,
}

struct Aside {
    listing: Listing,
    spool: Spool,
    _place: Place,
}

struct ServerPart {
    directories: Vec<PathBuf>,
    files: Vec<Entry>,
}

/// A checkpoint and what it holds.
struct Checkpoint {
    place: Place,
    data: BTreeMap<String, u64>,
    wal: Vec<String>,
    meta: Vec<String>,
    binlog: Option<BinlogAt>,
    definitions: Option<Definitions>,
    kept: Option<Aside>,
}

struct Run<'a> {
    server: &'a mut dyn Server,
    sink: &'a mut dyn Sink,
    clock: &'a dyn Clock,
    options: &'a Options,
    stop: &'a Stop,
    tell: &'a mut dyn FnMut(&Event),
    workspace: &'a Workspace,
    reading: Reading<'a>,
    facts: Facts,
    datadir: PathBuf,
    direct: bool,
    identity: Option<String>,
    started: SystemTime,
    base: BTreeMap<String, &'a Entry>,
    sent: BTreeMap<String, Entry>,
    sent_bytes: u64,
    /// Bytes at the last progress event, and when it was.
    progress: (u64, Duration),
    lock: Option<LockHeld>,
}

impl Run<'_> {
    /// Makes checkpoints and sends their data files until one is sent whole.
    ///
    /// A consistent backup makes one more, under the lock: its data files are few by then, and they can be sent after
    /// the lock is gone.
    fn rounds(&mut self) -> Result<Rounds, Error> {
        let mut last = false;
        let mut count = 0;
        let mut pace = Pace::default();
        loop {
            count += 1;
            let checkpoint = self.checkpoint(count, last)?;
            let remaining = self.send_data(&checkpoint, last || pace.is_stuck())?;
            pace.round(remaining);
            if remaining > 0 || (self.options.consistent && !last) {
                last = remaining == 0;
                checkpoint.place.remove()?;
                continue;
            }
            (self.tell)(&Event::LastFiles);
            let mut files = Vec::new();
            let mut sequence = None;
            for name in checkpoint.wal.iter().chain(&checkpoint.meta) {
                let path = checkpoint.place.path().join(name);
                if name.starts_with("MANIFEST-") {
                    sequence = Some(self.check_live(&path, &checkpoint)?);
                }
                files.push(self.send(Path::new(name), &path)?);
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            let Checkpoint { place, data, binlog, definitions, kept, .. } = checkpoint;
            place.remove()?;
            self.wait()?;
            let kept = match kept {
                Some(kept) => Some(kept),
                None => self.keep_later(definitions)?,
            };
            return Ok(Rounds { count, files, data, binlog, sequence, kept });
        }
    }

    fn checkpoint(&mut self, round: u32, consistent: bool) -> Result<Checkpoint, Error> {
        self.stop.check()?;
        let now = identity(&self.facts);
        if now != self.identity {
            let name = |id: Option<String>| id.unwrap_or_else(|| "unknown".into());
            let (was, is) = (name(self.identity.clone()), name(now));
            return Err(Error::ServerChanged { what: "the identity of the RocksDB database", was, is });
        }
        let place = self.workspace.place(&round.to_string());
        let locked = if consistent { Some(self.lock()?) } else { None };
        let definitions = match consistent || self.options.skip_definition_check {
            true => None,
            false => {
                let names = scope(&self.facts, &self.datadir, self.options).definitions()?;
                Some(Definitions { start: self.started, names })
            }
        };
        let before = self.server.position()?;
        self.server.create_checkpoint(place.path())?;
        let after = self.server.position()?;
        let mut kept = None;
        if let Some(since) = locked {
            kept = Some(self.keep()?);
            self.unlock(since)?;
        }
        let binlog = at(before, after, consistent);
        let mut checkpoint =
            Checkpoint { place, data: BTreeMap::new(), wal: vec![], meta: vec![], binlog, definitions, kept };
        self.list(&mut checkpoint)?;
        let todo = || checkpoint.data.iter().filter(|(name, _)| !self.is_known(name));
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

    fn is_known(&self, name: &str) -> bool {
        self.sent.contains_key(name) || self.base.contains_key(name)
    }

    /// Lists a checkpoint, and checks that names mean the same files as in the rounds before and in the base.
    fn list(&self, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        let dir = checkpoint.place.path();
        for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match names::kind(Path::new(&name)) {
                Kind::Data => {
                    let now = entry.metadata().map_err(Error::io("read", entry.path()))?.len();
                    if let Some(known) = self.sent.get(&name).or_else(|| self.base.get(&name).copied())
                        && known.size != now
                    {
                        return Err(Error::FileReplaced { file: name, sent: known.size, now });
                    }
                    checkpoint.data.insert(name, now);
                }
                Kind::Wal => checkpoint.wal.push(name),
                Kind::Meta => checkpoint.meta.push(name),
                Kind::Server => {}
            }
        }
        checkpoint.wal.sort();
        // CURRENT last: it is what makes the files before it a database.
        checkpoint.meta.sort_by_key(|name| (name == "CURRENT", name.clone()));
        if !checkpoint.meta.iter().any(|name| name == "CURRENT") {
            return Err(Error::NoBackup { path: dir.to_owned(), missing: "CURRENT" });
        }
        Ok(())
    }

    /// Sends the data files that nobody has yet; gives how many are left because the interval is over. With `all` it
    /// does not matter how long it takes.
    fn send_data(&mut self, checkpoint: &Checkpoint, all: bool) -> Result<usize, Error> {
        let begun = self.clock.elapsed();
        let todo: Vec<_> = checkpoint.data.iter().filter(|(name, _)| !self.is_known(name)).collect();
        let total = self.sent_bytes + todo.iter().map(|(_, size)| **size).sum::<u64>();
        // Links to what is there already keep nothing alive that the final round would need.
        for name in checkpoint.data.keys().filter(|name| self.is_known(name)) {
            let path = checkpoint.place.path().join(name);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        for (done, (name, size)) in todo.iter().enumerate() {
            let path = checkpoint.place.path().join(name);
            let entry = self.send(Path::new(name), &path)?;
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            self.sent.insert((*name).clone(), entry);
            self.sent_bytes += **size;
            self.tell_progress(**size, total);
            let took = self.clock.elapsed() - begun;
            let remaining = todo.len() - done - 1;
            if took > self.options.interval && remaining > 0 && !all {
                (self.tell)(&Event::RoundOver { seconds: took.as_secs_f64(), remaining });
                return Ok(remaining);
            }
        }
        Ok(0)
    }

    fn tell_progress(&mut self, size: u64, total: u64) {
        let bytes = self.sent_bytes;
        (self.tell)(&Event::Sent { bytes, total });
        if bytes / GIGABYTE > (bytes - size) / GIGABYTE {
            let now = self.clock.elapsed();
            let seconds = (now - self.progress.1).as_secs_f64().max(0.001);
            let rate = ((bytes - self.progress.0) as f64 / seconds) as u64;
            self.progress = (bytes, now);
            (self.tell)(&Event::Progress { bytes, total, rate });
        }
    }

    /// Sends one file of the checkpoint.
    fn send(&mut self, name: &Path, path: &Path) -> Result<Entry, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let meta = file.metadata().map_err(Error::io("read", path))?;
        let member = Member::of(name, &meta);
        self.send_member(&member, path, file)
    }

    fn send_member(&mut self, member: &Member, path: &Path, file: File) -> Result<Entry, Error> {
        let kind = names::kind(&member.path);
        let direct = self.direct && kind == Kind::Data && member.size >= DIRECT_FROM;
        // Two look-ups for one value: the borrow of the first would outlive its branch.
        if direct && let Some(mut content) = self.reading.direct(path, member.size)? {
            self.sink.file(member, &mut content)?;
            let sum = content.sum()?;
            return Ok(entry(member, sum, kind));
        }
        let mut content = self.reading.file(path, file, member.size);
        self.sink.file(member, &mut content)?;
        let sum = content.sum()?;
        Ok(entry(member, sum, kind))
    }

    /// The checkpoint's MANIFEST must name exactly the data files of the checkpoint; gives the sequence number.
    fn check_live(&self, path: &Path, checkpoint: &Checkpoint) -> Result<u64, Error> {
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

    fn lock(&mut self) -> Result<Duration, Error> {
        let lock = self.server.lock()?;
        let since = self.clock.elapsed();
        self.lock = Some(LockHeld { kind: lock, milliseconds: 0 });
        (self.tell)(&Event::Locked { lock });
        Ok(since)
    }

    fn unlock(&mut self, since: Duration) -> Result<(), Error> {
        let result = self.server.unlock();
        let held = milliseconds(self.clock.elapsed() - since);
        if let Some(lock) = &mut self.lock {
            lock.milliseconds = held;
        }
        (self.tell)(&Event::Unlocked { milliseconds: held });
        result
    }

    /// Puts the server's files aside.
    fn keep(&mut self) -> Result<Aside, Error> {
        let listing = scope(&self.facts, &self.datadir, self.options).list()?;
        let place = self.workspace.place("server-files");
        let spool = server_files::keep(&listing, &place, self.stop)?;
        Ok(Aside { listing, spool, _place: place })
    }

    /// Puts the server's files aside after the data were sent, under a lock of their own if the account may lock.
    fn keep_later(&mut self, definitions: Option<Definitions>) -> Result<Option<Aside>, Error> {
        let since = match self.options.no_lock {
            true => None,
            false => match self.lock() {
                Ok(since) => Some(since),
                Err(e @ (Error::Privilege { .. } | Error::Statement { .. } | Error::Usage(_))) => {
                    let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
                    let text = format!("{e}{cause}; the server's files are read as they are");
                    (self.tell)(&Event::Warning { text });
                    None
                }
                Err(e) => return Err(e),
            },
        };
        let kept = match &definitions {
            Some(definitions) => definitions.check(&scope(&self.facts, &self.datadir, self.options)),
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

    /// Sends the server's files.
    fn server_part(&mut self, kept: Option<Aside>) -> Result<ServerPart, Error> {
        let listing = match &kept {
            Some(kept) => &kept.listing,
            None => &scope(&self.facts, &self.datadir, self.options).list()?,
        };
        for path in &listing.skipped {
            (self.tell)(&Event::Skipped { path: path.clone() });
        }
        for path in &listing.directories {
            let source = self.datadir.join(path);
            let meta = source.metadata().map_err(Error::io("read", &source))?;
            self.sink.directory(&Member::of(path, &meta))?;
        }
        let mut part = ServerPart { directories: listing.directories.clone(), files: Vec::new() };
        let mut directory = None;
        let mut send = |run: &mut Self, member: &Member, source: &Path, file: File| -> Result<(), Error> {
            let parent = member.path.parent().unwrap_or(Path::new("")).to_owned();
            if directory.as_ref() != Some(&parent) {
                (run.tell)(&Event::Directory { path: parent.clone() });
                directory = Some(parent);
            }
            part.files.push(run.send_member(member, source, file)?);
            Ok(())
        };
        match &kept {
            Some(kept) => {
                let Spool { kept, copies } = &kept.spool;
                for Kept { member, link } in kept {
                    let Some(link) = link else {
                        // The same place in the file: each member begins where the one before it ends.
                        let copies = copies.try_clone().map_err(Error::io("read", &member.path))?;
                        send(self, member, &member.path, copies)?;
                        continue;
                    };
                    let file = File::open(link).map_err(Error::io("open", link))?;
                    send(self, member, link, file)?;
                    std::fs::remove_file(link).map_err(Error::io("remove", link))?;
                }
            }
            None => {
                for found in &listing.files {
                    let Some((member, file)) = server_files::open(found)? else { continue };
                    send(self, &member, &found.source, file)?;
                }
            }
        }
        Ok(part)
    }

    /// Waits for the file that a test makes.
    fn wait(&mut self) -> Result<(), Error> {
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
}

fn entry(member: &Member, sum: crate::Sum, kind: Kind) -> Entry {
    Entry { path: member.path.clone(), size: member.size, sum, kind, from: None, obsolete: false }
}

fn at(before: Option<Position>, after: Option<Position>, locked: bool) -> Option<BinlogAt> {
    let (before, after) = (before?, after?);
    // Without the lock not even a position that stands still is exact: a transaction is in the binlog before it is
    // committed in RocksDB.
    Some(BinlogAt { before, after, exact: locked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_leave_no_fewer_files_end_in_one_that_is_sent_whole() {
        let mut pace = Pace::default();
        for remaining in [10, 8, 8, 9, 8, 8] {
            pace.round(remaining);
            assert!(!pace.is_stuck(), "{remaining}");
        }
        pace.round(12);
        assert!(pace.is_stuck());
        pace.round(3);
        assert!(!pace.is_stuck(), "progress again");
    }
}
