//! A backup: rounds of checkpoints, then the server's files, then the manifest.

mod plan;
mod rounds;
mod server_part;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

pub use self::plan::{Plan, plan};
use crate::checkpoint::{Workspace, random_id};
use crate::content::Reading;
use crate::limit::Limiter;
use crate::manifest::{self, BinlogAt, Entry, LockHeld, Manifest, Origin};
use crate::names::{self, Kind};
use crate::server::{Facts, LeftOut, Server};
use crate::server_files::Scope;
use crate::sink::{Member, Sink};
use crate::{Checksum, Clock, Error, Event, Stop};

/// Direct reads begin at this size; smaller files are not worth the threads.
const DIRECT_FROM: u64 = 1024 * 1024;

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
        let mut content = match kind {
            Kind::Data => self.reading.unchanging(path, file, member.size),
            _ => self.reading.file(path, file, member.size),
        };
        self.sink.file(member, &mut content)?;
        let sum = content.sum()?;
        Ok(entry(member, sum, kind))
    }
}

fn entry(member: &Member, sum: crate::Sum, kind: Kind) -> Entry {
    Entry { path: member.path.clone(), size: member.size, sum, kind, from: None, obsolete: false }
}
