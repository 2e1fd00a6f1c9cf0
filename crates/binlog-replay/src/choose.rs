//! From an index, a start and a target to the exact range to replay.

use std::collections::BTreeMap;
use std::path::Path;

use crate::chain::Chain;
use crate::error::Error;
use crate::event::EventKind;
use crate::gtid::{Gtid, GtidSet, MariaDbGtidSet};
use crate::range::{Range, RangeFile, TransactionMark};
use crate::reader::Reader;
use crate::scan::{FileInfo, Index};
use crate::seen::Seen;
use crate::target::{Position, Start, Target};
use crate::transaction::{Transaction, Walked, Walker};
use crate::version::Flavor;

/// Chooses what to replay: from `start` to `target`, without what the backup holds and without `skip`.
///
/// The files are followed by their own chain, from the file that `start` names: rotate events and numbers
/// within one server, GTIDs from one server to the next (after a failover). File times mean nothing. The
/// range ends between two transactions, and everything in it was read and checked.
///
/// Where two folders of the index have a file of the name that `start` gives and they are of different
/// servers, the one in the earlier folder is meant; with a target, the one in the later folder.
///
/// ```no_run
/// use binlog_replay::{Position, Start, Target, choose, scan};
///
/// let index = scan(&["/backup/binlogs"])?;
/// let start = Start { position: Position::new("master-bin.000007", 4), executed: None };
/// let range = choose(&index, &start, &Target::End, None)?;
/// println!("{} transactions up to {}", range.transactions, range.stop());
/// # Ok::<(), binlog_replay::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NoSuchFile`], [`Error::InsideTransaction`], [`Error::BehindEnd`], [`Error::TargetBeforeStart`],
/// [`Error::TargetNotReached`], [`Error::Gap`], [`Error::StartsTooLate`], [`Error::WrongFlavor`],
/// [`Error::NoGtids`], [`Error::HalfOfAlter`], [`Error::Incident`], and what is wrong with a file that is needed.
pub fn choose(index: &Index, start: &Start, target: &Target, skip: Option<&GtidSet>) -> Result<Range, Error> {
    choose_rest(index, start, None, target, skip)
}

/// The end of a transaction up to which everything was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: Position,
    /// The transaction's GTID: after a failover two servers' files may have one name.
    pub(crate) gtid: Option<String>,
}

impl Place {
    /// Whether this transaction of a file is the one, or the position lies inside it.
    fn is_of(&self, file: &FileInfo, t: &Transaction) -> bool {
        let Position { file: name, pos } = &self.position;
        *name == file.name
            && *pos <= t.end
            && self.gtid.as_ref().is_none_or(|gtid| t.gtid.as_ref().is_some_and(|t| t.to_string() == *gtid))
    }
}

/// As [`choose`], what lies behind `done`: up to there everything was applied. What the backup holds is still told from
/// `start`.
pub(crate) fn choose_rest(
    index: &Index,
    start: &Start,
    done: Option<&Place>,
    target: &Target,
    skip: Option<&GtidSet>,
) -> Result<Range, Error> {
    let first = find_file(index, &start.position.file)?;
    let (flavor, version) = match &first.version {
        Some(version) => (version.flavor, version.clone()),
        None => return Err(damage(first)),
    };
    check_flavor("the set of executed GTIDs", start.executed.as_ref(), flavor)?;
    check_flavor("the set to skip", skip, flavor)?;
    if let Target::UntilGtid { set, .. } = target {
        check_flavor("the target", Some(set), flavor)?;
    }
    let target_file = match target {
        Target::Position(position) => {
            let named = index.files.iter().filter(|f| f.name == position.file);
            named.max_by_key(|f| f.folder).map(|f| f.path.as_path())
        }
        _ => None,
    };
    let mut chooser = Chooser {
        start,
        target,
        target_file,
        skip,
        halves: if skip.is_some() { index.halves() } else { BTreeMap::new() },
        range: Range {
            flavor,
            version,
            files: Vec::new(),
            target: target.clone(),
            skip: None,
            applied: None,
            expected: None,
            base: None,
            before_held: None,
            transactions: 0,
            skipped: 0,
            first: None,
            last: None,
            next: None,
            bytes: 0,
            notes: Vec::new(),
            warnings: Vec::new(),
        },
        held: start.executed.clone().filter(|set| !set.is_empty()),
        seen: Seen::default(),
        ends: BTreeMap::new(),
        at_start: None,
        failed_over: false,
        open_end: None,
        applied_to: done,
        done: false,
    };
    chooser.check_target_not_behind()?;
    let mut chain = Chain::new(index, first);
    while let Some(link) = chain.next(&chooser.seen)? {
        chooser.file(link.file, link.new_server)?;
        if chooser.done {
            break;
        }
    }
    chooser.check_backup_not_ahead(index)?;
    chooser.finish()
}

/// The file of this name that is meant.
fn find_file<'i>(index: &'i Index, name: &str) -> Result<&'i FileInfo, Error> {
    let named = index.files.iter().filter(|f| f.name == name);
    named.min_by_key(|f| f.folder).ok_or_else(|| {
        let have = match (index.files.first(), index.files.last()) {
            (Some(first), Some(last)) => format!("{} to {}", first.name, last.name),
            _ => String::from("none"),
        };
        Error::NoSuchFile { file: name.to_owned(), have }
    })
}

pub(crate) fn check_flavor(what: &'static str, set: Option<&GtidSet>, expected: Flavor) -> Result<(), Error> {
    match set {
        Some(set) if set.flavor() != expected && !set.is_empty() => {
            Err(Error::WrongFlavor { what, found: set.flavor(), expected })
        }
        _ => Ok(()),
    }
}

/// The error that was found in a file when it was indexed: reading it again gives the same one.
pub(crate) fn damage(file: &FileInfo) -> Error {
    let again = || -> Result<(), Error> {
        let mut walker = Walker::new(Reader::skim(&file.path)?);
        while walker.next_with(|_, _| Ok(()))?.is_some() {}
        Ok(())
    };
    again().err().unwrap_or(Error::Failed { path: file.path.clone() })
}

struct Chooser<'a> {
    start: &'a Start,
    target: &'a Target,
    /// The file that a position as target is in.
    target_file: Option<&'a Path>,
    skip: Option<&'a GtidSet>,
    /// See [`Index::halves`].
    halves: BTreeMap<Gtid, (Gtid, bool)>,
    range: Range,
    /// What the backup holds, then also what was passed: nothing of it is applied (again).
    held: Option<GtidSet>,
    /// All transactions up to where we are in the chain.
    seen: Seen,
    /// The last transaction that is applied of each of MariaDB's domains: server and number.
    ends: BTreeMap<u32, (u32, u64)>,
    /// All transactions up to where the replay starts.
    at_start: Option<GtidSet>,
    /// The chain has come to another server.
    failed_over: bool,
    /// The file we are in, or were in last, was open when it was copied.
    open_end: Option<OpenEnd>,
    /// Up to where everything was applied before; `None` behind it.
    applied_to: Option<&'a Place>,
    done: bool,
}

/// The end of a file that was open when it was copied.
struct OpenEnd {
    /// The fact, as a note.
    note: String,
    /// Behind the last whole transaction comes the beginning of another one.
    cut: bool,
}

impl Chooser<'_> {
    fn before_start(&self) -> Error {
        Error::TargetBeforeStart { target: self.target.to_string(), start: self.start.position.clone() }
    }

    fn check_target_not_behind(&self) -> Result<(), Error> {
        let Target::UntilGtid { set, inclusive } = self.target else { return Ok(()) };
        let Some(held) = &self.held else { return Ok(()) };
        let behind = if *inclusive { held.is_ahead_of(set) } else { !set.is_disjoint(held) };
        if behind { Err(self.before_start()) } else { Ok(()) }
    }

    /// Takes the next file of the chain, up to the target if it lies in there.
    fn file(&mut self, file: &FileInfo, new_server: bool) -> Result<(), Error> {
        if file.damage.is_some() {
            return Err(damage(file));
        }
        let is_first = self.range.files.is_empty();
        if let (Some(version), false) = (&file.version, is_first)
            && version.flavor != self.range.flavor
        {
            let (path, expected) = (file.path.clone(), self.range.flavor);
            return Err(Error::MixedFlavors { path, found: version.flavor, expected });
        }
        // Another file goes on where that one ends.
        self.range.warnings.extend(self.open_end.take().map(|end| end.note));
        if file.was_open() {
            let cut = file.end < file.size;
            let rest = if cut { "; what lies behind is left out" } else { "" };
            let note = format!(
                "{} was open when it was copied: it ends with its last whole transaction, at {}{rest}",
                file.name, file.end
            );
            self.range.notes.push(note.clone());
            self.open_end = Some(OpenEnd { note, cut });
        }
        let begin = if is_first { self.start.position.pos } else { Position::FIRST };
        let target_here = match self.target {
            Target::Position(p) if self.target_file == Some(&file.path) => Some(p.pos),
            _ => None,
        };
        if target_here.is_some_and(|pos| pos < begin) {
            return Err(self.before_start());
        }
        if is_first {
            self.seen.start(file.gtids_before.clone());
            self.at_start = file.gtids_before.clone();
            if begin > file.end {
                let position = self.start.position.clone();
                return Err(Error::BehindEnd { position, end: Position::new(&*file.name, file.end) });
            }
        }
        let mut entry = RangeFile {
            path: file.path.clone(),
            name: file.name.clone(),
            start: begin,
            stop: begin,
            size: file.size,
            transactions: 0,
        };
        let mut walker = Walker::new(Reader::skim(&file.path)?);
        let mut start_met = begin <= Position::FIRST;
        let mut boundary = Position::FIRST;
        // Files of a further server begin with what an earlier one had, too: none of it is taken.
        let mut overlap = new_server;
        self.failed_over |= new_server;
        if target_here == Some(Position::FIRST) {
            self.done = true;
        }
        while !self.done {
            let mut incident = None;
            let next = walker.next_with(|event, _| {
                if event.header.kind == EventKind::INCIDENT {
                    incident = Some((event.offset, event.body().to_vec()));
                }
                Ok(())
            })?;
            let Some(next) = next else { break };
            let reached = next.end();
            let inside = |position: &Position| Error::InsideTransaction {
                position: position.clone(),
                before: Position::new(&*file.name, boundary),
                after: Position::new(&*file.name, reached),
            };
            if !start_met && boundary < begin && begin < reached {
                return Err(inside(&self.start.position));
            }
            if let (Some(pos), Target::Position(position)) = (target_here, self.target)
                && boundary < pos
                && pos < reached
            {
                return Err(inside(position));
            }
            let started = start_met;
            start_met = start_met || reached >= begin;
            if let Walked::Transaction(transaction) = next {
                if started {
                    let incident = incident.map(|(offset, body)| Self::incident(file, offset, &body));
                    if overlap && self.is_seen(transaction) {
                        self.check_same(file, transaction)?;
                        entry.start = reached;
                    } else {
                        if overlap {
                            overlap = false;
                            entry.start = transaction.start;
                        }
                        if !self.take(file, transaction, incident, &mut entry)? {
                            break;
                        }
                        if let Some(place) = self.applied_to {
                            entry.start = reached;
                            if place.is_of(file, transaction) {
                                self.applied_to = None;
                            }
                        }
                    }
                }
                self.note_seen(transaction);
                if !started && start_met {
                    self.at_start = self.seen.set().cloned();
                }
                // What the backup holds beyond the set is passed, too: it cannot be undone.
                if started && self.until_reached() && self.held_was_passed() {
                    entry.stop = reached;
                    self.done = true;
                    break;
                }
            }
            boundary = reached;
            if start_met {
                entry.stop = entry.stop.max(boundary);
            }
            if target_here == Some(boundary) {
                self.done = true;
            }
        }
        if let (Some(pos), false) = (target_here, self.done) {
            let position = Position::new(&*file.name, pos);
            return Err(Error::BehindEnd { position, end: Position::new(&*file.name, file.end) });
        }
        if is_first {
            self.check_reaches_back(file, begin)?;
        }
        entry.stop = entry.stop.max(entry.start);
        // A file of which nothing is wanted is left out, unless it is the only one.
        let empty = entry.stop <= entry.start || (self.done && entry.transactions == 0);
        if is_first || !empty {
            self.range.bytes += entry.stop - entry.start;
            self.range.files.push(entry);
        }
        Ok(())
    }

    fn incident(file: &FileInfo, offset: u64, body: &[u8]) -> Error {
        let message = body.get(3..).map(|m| String::from_utf8_lossy(m).into_owned()).unwrap_or_default();
        Error::Incident { path: file.path.clone(), offset, message }
    }

    fn is_seen(&self, transaction: &Transaction) -> bool {
        transaction.gtid.as_ref().is_some_and(|gtid| self.seen.contains(gtid))
    }

    fn note_seen(&mut self, transaction: &Transaction) {
        if let Some(gtid) = &transaction.gtid {
            self.seen.note(gtid);
        }
    }

    /// What a new master's file begins with must be the old one's transactions, not others with their numbers.
    fn check_same(&self, file: &FileInfo, t: &Transaction) -> Result<(), Error> {
        match &t.gtid {
            Some(gtid) if !self.seen.is_same(gtid) => Err(file.other_of_one_number(gtid)),
            _ => Ok(()),
        }
    }

    /// A transaction of MariaDB that numbers do not tell apart from another one.
    fn unclear(file: &FileInfo, t: &Transaction, why: &'static str) -> Error {
        Error::Order { path: file.path.clone(), offset: t.start, kind: EventKind::MARIADB_GTID, why }
    }

    /// Whether the backup holds it.
    fn is_held(&self, file: &FileInfo, t: &Transaction) -> Result<bool, Error> {
        // Behind the position of a server's own backup nothing is held; MariaDB's numbers need not ascend.
        let by_position = self.range.flavor == Flavor::MariaDb
            && self.start.position.pos > Position::FIRST
            && !self.failed_over;
        let (Some(gtid), Some(held), false) = (&t.gtid, &self.held, by_position) else { return Ok(false) };
        if held.contains(gtid) && !self.seen.ascends(gtid) {
            let why = "behind a higher number of its domain: whether the backup holds it cannot be told";
            return Err(Self::unclear(file, t, why));
        }
        Ok(held.contains(gtid))
    }

    /// Whether what the user named has this transaction.
    fn is_named(set: &GtidSet, file: &FileInfo, t: &Transaction) -> Result<bool, Error> {
        let Some(gtid) = &t.gtid else { return Ok(false) };
        if set.names_another(gtid) {
            let why = "with a number that is asked for with another server id: which of the two is meant cannot be told";
            return Err(Self::unclear(file, t, why));
        }
        Ok(set.contains(gtid))
    }

    /// An `ALTER` in two phases is left out by both of its halves: it is applied at the one that is not.
    fn check_whole_alter(&self, named: &Gtid) -> Result<(), Error> {
        let Some((other, later)) = self.halves.get(named) else { return Ok(()) };
        let comes = *later || self.range.applied.as_ref().is_some_and(|applied| applied.contains(other));
        if comes && self.skip.is_some_and(|skip| !skip.contains(other)) {
            return Err(Error::HalfOfAlter { named: named.clone(), other: other.clone() });
        }
        Ok(())
    }

    /// Counts a transaction in, applied or skipped; `false` if the target lies before it. `incident`: what the server noted
    /// in its place.
    fn take(
        &mut self,
        file: &FileInfo,
        t: &Transaction,
        incident: Option<Error>,
        entry: &mut RangeFile,
    ) -> Result<bool, Error> {
        let mark = || t.mark(&file.name);
        let in_backup = self.is_held(file, t)?;
        let named = match self.target {
            Target::UntilGtid { set, .. } => Self::is_named(set, file, t)?,
            _ => false,
        };
        let stops = match self.target {
            Target::Time(time) => t.time >= *time,
            Target::UntilGtid { inclusive: false, .. } => named,
            Target::UntilGtid { inclusive: true, .. } => self.until_reached() && !in_backup,
            Target::Position(_) | Target::End => false,
        };
        if self.applied_to.is_some() {
            return if stops { Err(self.before_start()) } else { Ok(true) };
        }
        if stops {
            if in_backup && !matches!(self.target, Target::UntilGtid { .. }) {
                return Err(self.before_start());
            }
            self.range.next = Some(mark());
            self.done = true;
            return Ok(false);
        }
        let Some(gtid) = &t.gtid else {
            let needs = match self.target {
                Target::UntilGtid { .. } => Some("a GTID target"),
                _ if self.skip.is_some_and(|s| !s.is_empty()) => Some("skipping transactions"),
                _ => None,
            };
            if let Some(what) = needs {
                return Err(Error::NoGtids { what, position: Position::new(&*file.name, t.start) });
            }
            if let Some(incident) = incident {
                return Err(incident);
            }
            self.applied(mark(), entry);
            return Ok(true);
        };
        if self.failed_over && self.is_seen(t) {
            // MySQL passes over it by itself; a MariaDB server would apply it twice.
            if self.range.flavor == Flavor::MariaDb {
                let why = "again, among new ones: an earlier file of another server had its transaction";
                return Err(Self::unclear(file, t, why));
            }
            self.range.skipped += 1;
            entry.transactions += 1;
            return Ok(true);
        }
        let skipped = match self.skip {
            Some(skip) => Self::is_named(skip, file, t)?,
            None => false,
        };
        if skipped {
            self.check_whole_alter(gtid)?;
        }
        let left_out = in_backup || skipped;
        let others = if left_out { &self.range.applied } else { &self.range.skip };
        if others.as_ref().is_some_and(|others| others.contains(gtid)) {
            let why = "with the number of another transaction, of which one is left out and one is not";
            return Err(Self::unclear(file, t, why));
        }
        if in_backup && self.range.before_held.is_none() {
            self.range.before_held = self.range.first.clone();
        }
        if left_out {
            self.range.skip.get_or_insert_with(|| GtidSet::new(gtid.flavor())).insert(gtid);
            self.range.skipped += 1;
            entry.transactions += 1;
            return Ok(true);
        }
        if let Some(incident) = incident {
            return Err(incident);
        }
        self.range.applied.get_or_insert_with(|| GtidSet::new(gtid.flavor())).insert(gtid);
        self.applied(mark(), entry);
        Ok(true)
    }

    fn applied(&mut self, mark: TransactionMark, entry: &mut RangeFile) {
        entry.transactions += 1;
        self.range.transactions += 1;
        if let Some(Gtid::MariaDb { domain, server, number }) = &mark.gtid {
            self.ends.insert(*domain, (*server, *number));
        }
        if self.range.first.is_none() {
            self.range.first = Some(mark.clone());
        }
        self.range.last = Some(mark);
    }

    /// Whether an inclusive GTID target is reached: everything in its set was passed or was in the backup.
    fn until_reached(&self) -> bool {
        let Target::UntilGtid { set, inclusive: true } = self.target else { return false };
        let passed = self.seen.set().into_iter().chain(&self.held);
        passed.fold(set.clone(), |left, part| left.minus(part)).is_empty()
    }

    /// Whether everything that the backup holds lies behind us.
    fn held_was_passed(&self) -> bool {
        match (&self.held, self.seen.set()) {
            (Some(held), Some(seen)) => held.is_subset(seen),
            (held, _) => held.is_none(),
        }
    }

    /// Whether the backup holds everything before the place where the replay starts.
    fn check_reaches_back(&self, file: &FileInfo, begin: u64) -> Result<(), Error> {
        let (Some(executed), Some(before)) = (&self.start.executed, &self.at_start) else { return Ok(()) };
        if executed.is_empty() && begin > Position::FIRST {
            return Ok(()); // the position alone says where the backup is
        }
        let missing = before.minus(executed);
        if missing.is_empty() {
            return Ok(());
        }
        let (server, name) = (file.server(), file.name.clone());
        Err(Error::StartsTooLate { server, file: name, missing })
    }

    /// Whether the backup holds something that the binlogs have behind the target.
    fn check_backup_not_ahead(&self, index: &Index) -> Result<(), Error> {
        let (Some(held), Some(seen)) = (&self.held, self.seen.set()) else { return Ok(()) };
        let ahead = held.minus(seen);
        let in_binlogs = |f: &FileInfo| f.gtids_added.as_ref().is_some_and(|a| !a.is_disjoint(&ahead));
        if !ahead.is_empty() && index.files.iter().any(in_binlogs) {
            return Err(self.before_start());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Range, Error> {
        if let Some(place) = self.applied_to {
            return Err(Error::TargetBeforeStart {
                target: self.target.to_string(),
                start: place.position.clone(),
            });
        }
        let end = self.range.files.last().map(|f| Position::new(&*f.name, f.stop));
        let end = end.unwrap_or_else(|| self.start.position.clone());
        if !self.done
            && let Some(end) = self.open_end.take().filter(|end| end.cut)
        {
            self.range.warnings.push(end.note);
        }
        if !self.done && !self.until_reached() {
            let last = self.range.last.as_ref().map_or_else(
                || String::from("no transaction"),
                |t| match &t.gtid {
                    Some(gtid) => format!("{gtid}, {}", t.time),
                    None => t.time.to_string(),
                },
            );
            match self.target {
                Target::Position(_) | Target::UntilGtid { .. } => {
                    return Err(Error::TargetNotReached { target: self.target.to_string(), end, last });
                }
                Target::Time(_) => {
                    let note = format!(
                        "no transaction at or after the target time: the binlogs end at {end} ({last})"
                    );
                    self.range.notes.push(note.clone());
                    self.range.warnings.push(note);
                }
                Target::End => {}
            }
        }
        // Without a stated set the backup holds what the files say is before the start.
        let base = self.held.take().or(self.at_start.take()).filter(|set| !set.is_empty());
        self.range.expected = match (&base, &self.range.applied) {
            (Some(base), Some(applied)) => Some(base.union(applied)),
            (base, applied) => base.as_ref().or(applied.as_ref()).cloned(),
        };
        if let Some(GtidSet::MariaDb(_)) = &self.range.expected {
            self.range.expected = Some(GtidSet::MariaDb(self.position(base.as_ref())));
        }
        self.range.base = base;
        Ok(self.range)
    }

    /// Where MariaDB stands after the range: the last transaction of each domain, which need not be the one with the
    /// highest number.
    fn position(&self, base: Option<&GtidSet>) -> MariaDbGtidSet {
        let mut ends = MariaDbGtidSet::default();
        for (domain, (server, number)) in &self.ends {
            ends.insert_range(*domain, *server, 1, *number);
        }
        match base {
            Some(GtidSet::MariaDb(base)) => base.to_position().moved_to(&ends),
            _ => ends,
        }
    }
}
