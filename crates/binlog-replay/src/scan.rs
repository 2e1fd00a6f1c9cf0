//! An index of binlog files: every event's frame and checksum is looked at, rows are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::event::{Checksum, Event, EventKind, Query, RawEvent, TransactionPayload};
use crate::file_name::split_name;
use crate::gtid::{Gtid, GtidSet, Uuid};
use crate::reader::{FileEnd, Reader};
use crate::statement::{StatementKind, excerpt, may_make_event, without_passwords};
use crate::target::Position;
use crate::transaction::{Place, Walked, Walker};
use crate::unsaid::unsaid;
use crate::version::{Flavor, ServerVersion};

/// Most DDL statements that are kept of one file; all are counted.
const MAX_DDL: usize = 10_000;
/// Bytes of a DDL statement that are kept.
const DDL_EXCERPT: usize = 200;

/// What is in folders of binlogs.
#[derive(Debug, Clone, Serialize)]
pub struct Index {
    /// The folders, in the order in which they were given.
    pub folders: Vec<PathBuf>,
    /// The files, server by server, each server's by number. Of copies of one file the longest is here.
    pub files: Vec<FileInfo>,
}

/// What is in one file.
#[derive(Debug, Clone, Serialize)]
pub struct FileInfo {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Offset behind the last whole transaction, or the last event between transactions.
    pub end: u64,
    /// The server that wrote it; `None` if not even that could be read.
    pub version: Option<ServerVersion>,
    /// `server_id` of the server that wrote it.
    pub server_id: u32,
    /// `server_uuid` of the server that wrote it (MySQL): the one in GTIDs with its `server_id`; `None` if
    /// it committed nothing with a GTID in this file.
    pub server_uuid: Option<Uuid>,
    /// Replication domains of its transactions (MariaDB).
    pub domains: BTreeSet<u32>,
    /// When the file was begun.
    pub created: Option<DateTime<Utc>>,
    /// Earliest commit in it; see [`Target::Time`](crate::Target::Time).
    pub first_time: Option<DateTime<Utc>>,
    /// Latest commit in it.
    pub last_time: Option<DateTime<Utc>>,
    /// Transactions before it: previous GTIDs, or the position of a GTID list; `None` without GTIDs.
    pub gtids_before: Option<GtidSet>,
    /// Transactions in it; `None` without GTIDs.
    pub gtids_added: Option<GtidSet>,
    /// Number of transactions.
    pub transactions: u64,
    /// Number of transactions that have no GTID.
    pub anonymous: u64,
    /// Number of events.
    pub events: u64,
    /// The transaction with the most bytes.
    pub largest: Option<Largest>,
    /// DDL statements, the first 10,000.
    pub ddl: Vec<Ddl>,
    /// Number of DDL statements.
    pub ddl_count: u64,
    /// How its events are protected.
    pub checksum: Option<Checksum>,
    /// How it ends; `None` if it could not be read to the end.
    pub ends: Option<FileEnd>,
    /// What is wrong with it: everything above holds only up to there.
    #[serde(serialize_with = "as_text")]
    pub damage: Option<Arc<Error>>,
    /// Shorter copies of it, in other folders; they were compared with it.
    pub copies: Vec<PathBuf>,
    /// Where the transactions start that may make or change events of the event scheduler; all of them.
    #[serde(skip)]
    pub(crate) event_ddl: Vec<u64>,
    /// The `ALTER`s in two phases that end in it: both halves, the earlier one first (MariaDB).
    #[serde(skip)]
    pub(crate) alters: Vec<(Gtid, Gtid)>,
    /// Domains and servers of all transactions before it (MariaDB).
    #[serde(skip)]
    pub(crate) writers_before: BTreeSet<(u32, u32)>,
    /// Offsets of statements that leave the user or the database to their session, or of their transactions, and of user
    /// variables whose names the stock tools do not give out as they are; all of them.
    #[serde(skip)]
    pub(crate) unsaid: Vec<u64>,
    /// The server began it when it was started, and not behind another file.
    #[serde(skip)]
    pub(crate) at_start: bool,
    /// Which of the folders it lies in.
    #[serde(skip)]
    pub(crate) folder: usize,
}

/// The transaction with the most bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Largest {
    /// Its GTID.
    pub gtid: Option<Gtid>,
    /// Where it starts.
    pub start: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A statement that changes the schema.
#[derive(Debug, Clone, Serialize)]
pub struct Ddl {
    /// Its GTID.
    pub gtid: Option<Gtid>,
    /// When it was committed.
    pub time: DateTime<Utc>,
    /// Where its transaction starts: the place to stop before it.
    pub start: u64,
    /// Default database.
    pub database: String,
    /// The statement, at most 200 bytes of it, with passwords left out.
    pub text: String,
}

fn as_text<S: Serializer>(damage: &Option<Arc<Error>>, serializer: S) -> Result<S::Ok, S::Error> {
    match damage {
        Some(error) => serializer.collect_str(&describe(error)),
        None => serializer.serialize_none(),
    }
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl FileInfo {
    /// Name without number, and number: `master-bin` and 7 of `master-bin.000007`.
    pub fn number(&self) -> Option<(&str, u64)> {
        split_name(&self.name)
    }

    /// All transactions up to the end of this file; of MariaDB the position there. `None` without GTIDs.
    pub fn gtids_after(&self) -> Option<GtidSet> {
        let after = match (&self.gtids_before, &self.gtids_added) {
            (Some(before), Some(added)) => before.union(added),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => return None,
        };
        // Numbers that MariaDB left out are not missing.
        Some(match after {
            GtidSet::MariaDb(set) => GtidSet::MariaDb(set.to_position()),
            set @ GtidSet::MySql(_) => set,
        })
    }

    /// The server as messages name it.
    pub fn server(&self) -> String {
        match self.server_uuid {
            Some(uuid) => uuid.to_string(),
            None => format!("id {}", self.server_id),
        }
    }

    /// It is no continuation of the files before it.
    pub(crate) fn diverged(&self, what: String) -> Error {
        Error::Diverged { server: self.server(), file: self.name.clone(), what }
    }

    /// As [`diverged`](Self::diverged): one of its transactions has the number of another one before it.
    pub(crate) fn other_of_one_number(&self, gtid: &Gtid) -> Error {
        self.diverged(format!("its {gtid} has the number of another transaction in them"))
    }

    /// Whether the last transaction in it may not be whole, and more may follow in the server's own copy.
    pub fn was_open(&self) -> bool {
        matches!(self.ends, Some(FileEnd::Open { .. }))
    }
}

impl Index {
    /// The other half of each half of an `ALTER` in two phases, and whether it is the later one (MariaDB).
    pub(crate) fn halves(&self) -> BTreeMap<Gtid, (Gtid, bool)> {
        let pairs = self.files.iter().flat_map(|file| &file.alters);
        let both = |(first, second): &(Gtid, Gtid)| {
            [(first.clone(), (second.clone(), true)), (second.clone(), (first.clone(), false))]
        };
        pairs.flat_map(both).collect()
    }
}

/// Indexes the binlogs in folders: all files with a name like `master-bin.000007`.
///
/// A file may lie in several folders: the copy in an earlier backup is shorter if the file was still open
/// then. The longest copy is used if the others are its beginning, which is compared byte by byte.
///
/// What is wrong with a single file is noted in [`FileInfo::damage`].
///
/// ```no_run
/// let index = binlog_replay::scan(&["/var/lib/mysql"])?;
/// for file in &index.files {
///     println!("{} {} transactions, {} DDL", file.name, file.transactions, file.ddl_count);
/// }
/// # Ok::<(), binlog_replay::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Read`] if a folder cannot be listed, [`Error::NoBinlogs`], [`Error::Conflict`].
pub fn scan<P: AsRef<Path>>(folders: &[P]) -> Result<Index, Error> {
    let folders: Vec<PathBuf> = folders.iter().map(|f| f.as_ref().to_path_buf()).collect();
    let mut files: Vec<FileInfo> = Vec::new();
    for info in in_folders(&folders)? {
        add_copy(&mut files, info)?;
    }
    if files.is_empty() {
        return Err(Error::NoBinlogs { folders });
    }
    sort(&mut files);
    Ok(Index { folders, files })
}

/// As [`scan`], of folders from before and after a server began its binlogs anew: from the first folder on in which a
/// file is another one than before, nothing is joined with what was before it. One after the other they are in the index.
pub(crate) fn scan_with_earlier(folders: &[PathBuf]) -> Result<Index, Error> {
    match scan(folders) {
        Err(Error::Conflict { .. }) => {}
        other => return other,
    }
    let (mut earlier, mut files): (Vec<FileInfo>, Vec<FileInfo>) = (Vec::new(), Vec::new());
    for folder in in_folders(folders)?.chunk_by(|a, b| a.folder == b.folder) {
        let mut joined = files.clone();
        match folder.iter().try_for_each(|info| add_copy(&mut joined, info.clone())) {
            Ok(()) => files = joined,
            Err(Error::Conflict { .. }) => {
                sort(&mut files);
                earlier.append(&mut files);
                files = folder.to_vec();
            }
            Err(error) => return Err(error),
        }
    }
    sort(&mut files);
    earlier.append(&mut files);
    Ok(Index { folders: folders.to_vec(), files: earlier })
}

/// All binlogs in folders, folder by folder.
fn in_folders(folders: &[PathBuf]) -> Result<Vec<FileInfo>, Error> {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        found.extend(list(folder)?.into_iter().map(|path| (at, path)));
    }
    let files = scan_files(&found)?.into_iter().zip(&found);
    Ok(files.map(|(info, (at, _))| FileInfo { folder: *at, ..info }).collect())
}

/// Indexes files side by side, one for each processor; of several errors the one of the first file is told.
fn scan_files(found: &[(usize, PathBuf)]) -> Result<Vec<FileInfo>, Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, path)) = found.get(at) else { return done };
            done.push((at, scan_file(path)));
        }
    };
    let others = thread::available_parallelism().map_or(1, usize::from).min(found.len()).saturating_sub(1);
    let mut scanned = thread::scope(|scope| {
        // Where the system gives no thread, the others do its work.
        let start = |_| thread::Builder::new().name("binlog-scan".into()).spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..others).filter_map(start).collect();
        let mut all = work();
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    scanned.sort_by_key(|(at, _)| *at);
    scanned.into_iter().map(|(_, info)| info).collect()
}

/// By server, in the order in which the servers turn up; then by number.
fn sort(files: &mut [FileInfo]) {
    let mut servers: Vec<(u32, String)> = Vec::new();
    let key = |f: &FileInfo| (f.server_id, f.number().map(|(base, _)| base.to_owned()).unwrap_or_default());
    for file in files.iter() {
        if !servers.contains(&key(file)) {
            servers.push(key(file));
        }
    }
    files.sort_by_cached_key(|f| {
        let number = f.number().map(|(_, number)| number);
        (servers.iter().position(|s| *s == key(f)), number)
    });
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| split_name(name.to_str()?));
        if let Some((base, number)) = name
            && path.is_file()
        {
            paths.push((base.to_owned(), number, path));
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|(_, _, path)| path).collect())
}

/// Adds a file, or joins it with the copy of it that is there.
fn add_copy(files: &mut Vec<FileInfo>, new: FileInfo) -> Result<(), Error> {
    let same = |f: &&mut FileInfo| f.name == new.name && f.server_id == new.server_id;
    let Some(old) = files.iter_mut().find(same) else {
        files.push(new);
        return Ok(());
    };
    if let Some(at) = first_difference(&old.path, &new.path)? {
        return Err(Error::Conflict { first: old.path.clone(), second: new.path, at });
    }
    // Of equal copies the first stays, unless it was still open and the other one is closed.
    let better = (new.size, !new.was_open()) > (old.size, !old.was_open());
    let (longer, shorter) = if better { (new, old.clone()) } else { (old.clone(), new) };
    *old = longer;
    // It belongs to the earliest folder, whichever copy is read.
    old.folder = old.folder.min(shorter.folder);
    old.copies.push(shorter.path);
    old.copies.extend(shorter.copies);
    Ok(())
}

/// Where the shorter of two files stops being the beginning of the longer one; the in-use flag may differ.
fn first_difference(a: &Path, b: &Path) -> Result<Option<u64>, Error> {
    const IN_USE_AT: usize = 4 + 17;
    let open = |path: &Path| File::open(path).map_err(|source| Error::Read { path: path.into(), source });
    let (mut x, mut y) = (open(a)?, open(b)?);
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut offset = 0u64;
    loop {
        let n = read_full(&mut x, &mut left).map_err(|source| Error::Read { path: a.into(), source })?;
        let m = read_full(&mut y, &mut right).map_err(|source| Error::Read { path: b.into(), source })?;
        if offset == 0 && n > IN_USE_AT && m > IN_USE_AT {
            left[IN_USE_AT] &= !1;
            right[IN_USE_AT] &= !1;
        }
        let both = n.min(m);
        if let Some(at) = (0..both).find(|at| left[*at] != right[*at]) {
            return Ok(Some(offset + at as u64));
        }
        offset += both as u64;
        if both < left.len() {
            return Ok(None);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Indexes one file. What is wrong in it is noted in [`FileInfo::damage`].
///
/// # Errors
///
/// [`Error::Read`] if it cannot be opened.
pub fn scan_file(path: &Path) -> Result<FileInfo, Error> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let size = fs::metadata(path).map_err(|source| Error::Read { path: path.into(), source })?.len();
    let mut info = FileInfo {
        path: path.to_path_buf(),
        name,
        size,
        end: 0,
        version: None,
        server_id: 0,
        server_uuid: None,
        domains: BTreeSet::new(),
        created: None,
        at_start: false,
        first_time: None,
        last_time: None,
        gtids_before: None,
        writers_before: BTreeSet::new(),
        gtids_added: None,
        transactions: 0,
        anonymous: 0,
        events: 0,
        largest: None,
        ddl: Vec::new(),
        ddl_count: 0,
        checksum: None,
        ends: None,
        damage: None,
        copies: Vec::new(),
        event_ddl: Vec::new(),
        unsaid: Vec::new(),
        alters: Vec::new(),
        folder: 0,
    };
    match fill(&mut info, path) {
        Ok(()) => {}
        Err(error @ Error::Read { .. }) => return Err(error),
        Err(error) => info.damage = Some(Arc::new(error)),
    }
    Ok(info)
}

fn fill(info: &mut FileInfo, path: &Path) -> Result<(), Error> {
    let mut walker = Walker::new(Reader::skim(path)?);
    info.end = Position::FIRST;
    // The DDL statement of the transaction that is being read.
    let mut ddl: Option<Noted> = None;
    while let Some(next) = walker.next_with(|event, place| look(info, &mut ddl, event, place))? {
        info.end = next.end();
        let Walked::Transaction(transaction) = next else { continue };
        info.transactions += 1;
        let time = transaction.time;
        info.first_time = Some(info.first_time.map_or(time, |t| t.min(time)));
        info.last_time = Some(info.last_time.map_or(time, |t| t.max(time)));
        match &transaction.gtid {
            Some(gtid) => {
                info.gtids_added.get_or_insert_with(|| GtidSet::new(gtid.flavor())).insert(gtid);
                match gtid {
                    Gtid::MySql { source, .. } if transaction.server_id == info.server_id => {
                        info.server_uuid = Some(source.uuid);
                    }
                    Gtid::MySql { .. } => {}
                    Gtid::MariaDb { domain, .. } => {
                        info.domains.insert(*domain);
                    }
                }
            }
            None => info.anonymous += 1,
        }
        let bytes = transaction.end - transaction.start;
        if info.largest.as_ref().is_none_or(|l| bytes > l.bytes) {
            info.largest = Some(Largest { gtid: transaction.gtid.clone(), start: transaction.start, bytes });
        }
        if let Some(Noted { database, text, event, unsaid }) = ddl.take() {
            info.ddl_count += 1;
            if event {
                info.event_ddl.push(transaction.start);
            }
            if unsaid {
                info.unsaid.push(transaction.start);
            }
            if info.ddl.len() < MAX_DDL {
                let (gtid, start) = (transaction.gtid.clone(), transaction.start);
                info.ddl.push(Ddl { gtid, time, start, database, text });
            }
        }
    }
    info.ends = walker.reader().end().cloned();
    Ok(())
}

/// A schema statement of the transaction that is being read.
struct Noted {
    database: String,
    text: String,
    /// Whether it may make or change an event of the event scheduler.
    event: bool,
    /// Whether it leaves the user or the database to its session.
    unsaid: bool,
}

impl Noted {
    fn of(query: &Query<'_>) -> Option<Self> {
        (StatementKind::of(&query.text) == StatementKind::Ddl).then(|| Self {
            database: excerpt(query.database, 256),
            text: excerpt(&without_passwords(&query.text), DDL_EXCERPT),
            event: may_make_event(&query.text),
            unsaid: unsaid(&query.text, query.status.invoker.is_some()).is_some(),
        })
    }

    /// The schema statement at the beginning of a compressed transaction: `CREATE TABLE … SELECT` is the only one
    /// that has rows, and only transactions with rows are compressed.
    fn of_payload(event: &RawEvent<'_>) -> Option<Self> {
        let (payload, _) = TransactionPayload::parse_beginning(event.body()).ok()?;
        let mut events = payload.events(event.format()).ok()?;
        // What is wrong with it, its reader says; of a very large one only the beginning is here.
        while let Ok(Some(inner)) = events.next_event() {
            let Ok(Event::Query(query)) = inner.decode() else { break };
            if let Some(noted) = Self::of(&query) {
                return Some(noted);
            }
        }
        None
    }
}

/// Notes what a single event says about its file.
fn look(
    info: &mut FileInfo,
    ddl: &mut Option<Noted>,
    event: &RawEvent<'_>,
    place: Place,
) -> Result<(), Error> {
    info.events += 1;
    let malformed = |source| Error::Malformed {
        path: info.path.clone(),
        offset: event.offset,
        kind: event.header.kind,
        source,
    };
    match event.header.kind {
        EventKind::FORMAT_DESCRIPTION if info.version.is_none() => {
            info.version = Some(event.format().server.clone());
            info.checksum = Some(event.format().checksum);
            info.server_id = event.header.server_id;
            info.created = DateTime::from_timestamp(event.header.timestamp.into(), 0);
            info.at_start = event.format().created != 0;
        }
        EventKind::PREVIOUS_GTIDS if place == Place::Outside => {
            if let Event::PreviousGtids(set, _) = event.decode().map_err(malformed)? {
                // Servers without GTIDs write an empty one.
                info.gtids_before = Some(GtidSet::MySql(set));
            }
        }
        EventKind::GTID_LIST if place == Place::Outside => {
            if let Event::GtidList(list) = event.decode().map_err(malformed)? {
                info.gtids_before = Some(GtidSet::MariaDb(list.position()));
                info.writers_before = list.writers().collect();
            }
        }
        EventKind::MARIADB_GTID => {
            if let Event::MariaDbGtid(event) = event.decode().map_err(malformed)?
                && let (Gtid::MariaDb { domain, server, .. }, Some(number)) = (&event.gtid, event.alter_start)
            {
                let first = Gtid::MariaDb { domain: *domain, server: *server, number };
                info.alters.push((first, event.gtid));
            }
            *ddl = None;
        }
        EventKind::QUERY => {
            let text = Query::peek_text(event.body()).unwrap_or_default();
            if StatementKind::of(text) == StatementKind::Ddl
                && let Event::Query(query) = event.decode().map_err(malformed)?
            {
                *ddl = Noted::of(&query);
            }
        }
        // Of very large events only the beginning is here; schema statements are never that large.
        EventKind::QUERY_COMPRESSED if event.bytes().len() == event.header.size as usize => {
            if let Event::Query(query) = event.decode().map_err(malformed)?
                && let Some(noted) = Noted::of(&query)
            {
                *ddl = Some(noted);
            }
        }
        EventKind::TRANSACTION_PAYLOAD => *ddl = Noted::of_payload(event),
        // MariaDB's tool prints the name in UTF-8, and the client's server reads it in the character set of the statement
        // before.
        EventKind::USER_VAR if info.version.as_ref().is_some_and(|v| v.flavor == Flavor::MariaDb) => {
            if place == Place::First {
                *ddl = None;
            }
            if let Event::UserVar(var) = event.decode().map_err(malformed)?
                && !var.name.is_ascii()
            {
                info.unsaid.push(event.offset);
            }
        }
        _ if place == Place::First => *ddl = None,
        _ => {}
    }
    Ok(())
}
