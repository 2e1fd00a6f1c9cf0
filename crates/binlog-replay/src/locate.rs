//! Whether the binlogs of a server hold a target, and which transaction is at it.
//!
//! A cluster has many servers, and a GTID or a position is of one of them. [`locate`] is asked of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};

use crate::choose::{check_flavor, damage};
use crate::error::Error;
use crate::event::{EventKind, Query, RawEvent};
use crate::file_name::next_name;
use crate::gtid::{Gtid, GtidSet};
use crate::range::TransactionMark;
use crate::reader::Reader;
use crate::scan::{FileInfo, Index};
use crate::target::{Position, Target};
use crate::transaction::{Transaction, Walked, Walker};

/// What the binlogs of one server hold of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The GTIDs of the target that these binlogs have or come after; `None` for a position.
    pub part: Option<GtidSet>,
    /// The transaction at the target: the last one of an inclusive set in the binlogs, the first one of an exclusive
    /// set, the first one behind a position (the last one before it where none follows). `None` if all of the
    /// set lies before the first file.
    pub transaction: Option<TransactionMark>,
    /// When it was committed; of a set the latest (inclusive) or the earliest commit in it: commit times need not ascend.
    pub time: Option<DateTime<Utc>>,
}

/// Looks for the transaction at a target; `None` if these binlogs have nothing of it.
///
/// Sets are matched exactly: a MariaDB GTID with its domain, server and number, so that servers which share a
/// domain are told apart. A time and the end are in no binlog.
///
/// # Errors
///
/// [`Error::InsideTransaction`], [`Error::BehindEnd`], [`Error::AmbiguousFile`], [`Error::AmbiguousGtid`],
/// [`Error::WrongFlavor`], and what is wrong with a file that has to be read.
pub fn locate(index: &Index, target: &Target) -> Result<Option<Located>, Error> {
    match target {
        Target::UntilGtid { set, inclusive } => locate_set(index, set, *inclusive),
        Target::Position(position) => locate_position(index, position),
        Target::Time(_) | Target::End => Ok(None),
    }
}

/// The transactions of `set` that are in these binlogs, matched as [`locate`] does.
///
/// # Errors
///
/// As [`locate`].
pub fn named(index: &Index, set: &GtidSet) -> Result<GtidSet, Error> {
    let mut found = GtidSet::new(set.flavor());
    each_of(index, set, |_, transaction, _| {
        if let Some(gtid) = &transaction.gtid {
            found.insert(gtid);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether binlogs before these may hold transactions of `set`. Each file says what was committed before it; where one
/// does not, they may.
pub fn may_lie_before(index: &Index, set: &GtidSet) -> bool {
    let mut before: Option<&FileInfo> = None;
    index.files.iter().any(|file| {
        let follows = before.replace(file).and_then(|before| next_name(&before.name));
        follows.as_ref() != Some(&file.name)
            && file.gtids_before.as_ref().is_none_or(|before| {
                !before.is_disjoint(set)
                    && match set {
                        // Numbers are of a domain, whoever wrote them.
                        GtidSet::MariaDb(set) => set.is_of(&file.writers_before),
                        GtidSet::MySql(_) => true,
                    }
            })
    })
}

fn locate_set(index: &Index, set: &GtidSet, inclusive: bool) -> Result<Option<Located>, Error> {
    let mut part = GtidSet::new(set.flavor());
    // A MySQL set names its servers; numbers of a MariaDB domain may be of another group's server.
    if let GtidSet::MySql(_) = set {
        for before in index.files.iter().filter_map(|file| file.gtids_before.as_ref()) {
            part = part.union(&set.intersection(before));
        }
    }
    let (mut at, mut at_time): (Option<TransactionMark>, Option<DateTime<Utc>>) = (None, None);
    let (mut met, mut again) = (GtidSet::new(set.flavor()), GtidSet::new(set.flavor()));
    each_of(index, set, |file, transaction, _| {
        if let Some(gtid) = &transaction.gtid {
            part.insert(gtid);
            if met.names(gtid) {
                again.insert(gtid);
            }
            met.insert(gtid);
        }
        if inclusive || at.is_none() {
            at = Some(transaction.mark(&file.name));
        }
        let time = transaction.time;
        at_time = Some(at_time.map_or(time, |at| if inclusive { at.max(time) } else { at.min(time) }));
        Ok(())
    })?;
    check_are_copies(index, &again)?;
    Ok((!part.is_empty()).then_some(Located { part: Some(part), transaction: at, time: at_time }))
}

/// GTIDs that turn up several times must be of one transaction, which a replica wrote to its own binlog. A server that
/// went on from an earlier state gave its numbers a second time.
fn check_are_copies(index: &Index, again: &GtidSet) -> Result<(), Error> {
    if again.is_empty() {
        return Ok(());
    }
    let place = |file: &FileInfo, start, time| {
        format!("{} of {time} in {:?}", Position::new(&*file.name, start), file.path)
    };
    let mut met: HashMap<Gtid, (&FileInfo, u64, DateTime<Utc>)> = HashMap::new();
    each_of(index, again, |file, transaction, time| {
        let Some(gtid) = &transaction.gtid else { return Ok(()) };
        match met.entry(gtid.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((file, transaction.start, time));
            }
            Entry::Occupied(entry) => {
                let (other, start, before) = *entry.get();
                if before != time {
                    return Err(Error::AmbiguousGtid {
                        gtid: gtid.clone(),
                        first: place(other, start, before),
                        second: place(file, transaction.start, time),
                    });
                }
            }
        }
        Ok(())
    })
}

/// Whether an event keeps its time when a replica writes it to its own binlog; those of the commit do not.
fn keeps_time(event: &RawEvent<'_>) -> bool {
    let kind = event.header.kind;
    kind.is_rows()
        || kind == EventKind::QUERY_COMPRESSED
        || kind == EventKind::QUERY && Query::peek_text(event.body()).is_some_and(|text| text != b"BEGIN")
}

/// Calls `look` for every transaction that `set` names, with the time that its copies share: that of its commit where it is
/// stated, else that of its first change.
fn each_of<'i>(
    index: &'i Index,
    set: &GtidSet,
    mut look: impl FnMut(&'i FileInfo, &Transaction, DateTime<Utc>) -> Result<(), Error>,
) -> Result<(), Error> {
    for file in &index.files {
        if let Some(version) = &file.version {
            check_flavor("the set", Some(set), version.flavor)?;
        }
        if file.gtids_added.as_ref().is_none_or(|added| added.is_disjoint(set)) {
            continue;
        }
        if file.damage.is_some() {
            return Err(damage(file));
        }
        let mut walker = Walker::new(Reader::skim(&file.path)?);
        let mut changed: Option<DateTime<Utc>> = None;
        while let Some(next) = walker.next_with(|event, _| {
            if changed.is_none() && keeps_time(event) {
                changed = DateTime::from_timestamp(event.header.timestamp.into(), 0);
            }
            Ok(())
        })? {
            let changed = changed.take();
            if let Walked::Transaction(transaction) = next
                && transaction.gtid.as_ref().is_some_and(|gtid| set.names(gtid))
            {
                let shared = transaction.committed.or(changed).unwrap_or(transaction.time);
                look(file, transaction, shared)?;
            }
        }
    }
    Ok(())
}

fn locate_position(index: &Index, position: &Position) -> Result<Option<Located>, Error> {
    let mut named = index.files.iter().enumerate().filter(|(_, file)| file.name == position.file);
    let Some((at, file)) = named.next() else { return Ok(None) };
    if let Some((_, other)) = named.next() {
        let (first, second) = (file.path.clone(), other.path.clone());
        return Err(Error::AmbiguousFile { file: position.file.clone(), first, second });
    }
    if file.damage.is_some() {
        return Err(damage(file));
    }
    if position.pos > file.end {
        let end = Position::new(&*file.name, file.end);
        return Err(Error::BehindEnd { position: position.clone(), end });
    }
    // The files of one server follow each other in the index.
    // A number that is not higher is of binlogs that were begun anew.
    let number = |file: &FileInfo| file.number().map(|(_, number)| number);
    let mut last = None;
    let same_server = index.files[at..].iter().take_while(|other| {
        let goes_on = last < number(other);
        last = number(other);
        other.server_id == file.server_id && goes_on
    });
    let mut before = None;
    for (i, file) in same_server.enumerate() {
        let pos = if i == 0 { position.pos } else { Position::FIRST };
        let mut walker = Walker::new(Reader::skim(&file.path)?);
        let mut boundary = Position::FIRST;
        while let Some(next) = walker.next_with(|_, _| Ok(()))? {
            let reached = next.end();
            if boundary < pos && pos < reached {
                return Err(Error::InsideTransaction {
                    position: position.clone(),
                    before: Position::new(&*file.name, boundary),
                    after: Position::new(&*file.name, reached),
                });
            }
            boundary = reached;
            let Walked::Transaction(transaction) = next else { continue };
            let mark = transaction.mark(&file.name);
            if transaction.start >= pos {
                let time = Some(mark.time);
                return Ok(Some(Located { part: None, transaction: Some(mark), time }));
            }
            before = Some(mark);
        }
    }
    let time = before.as_ref().map(|mark| mark.time);
    Ok(Some(Located { part: None, transaction: before, time }))
}
