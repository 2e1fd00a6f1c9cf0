//! Finds the server that a GTID or a position is of, and the time that the other servers are recovered to.
//!
//! GTIDs and positions are of one replication group. The group that has the transaction is recovered exactly to
//! it, the others to its commit time, as with a stop time.

mod find;

use std::collections::BTreeMap;

use backup_catalog::{
    Backup, BackupName, BinlogName, Catalog, ConsistenceLine, Role, Selection, ServerFolder,
};
use binlog_replay::Position;
use binlog_replay::replay::{Mark, TargetAt, Whereabouts};
use chrono::{DateTime, Utc};

use crate::Error;
use crate::goal::{Goal, Wanted, gtids};
use crate::hosts::Hosts;
use crate::locate::find::Found;
pub(crate) use crate::locate::find::Look;
use crate::worker::Tools;

/// Where a target lies in the cluster.
#[derive(Debug, Clone, Default)]
pub struct Located {
    /// The groups that have it, by name.
    pub groups: BTreeMap<String, AtTarget>,
    /// What the groups leave out, by name, as [`binlog_replay::replay::Request::skip`] takes it.
    pub skip: BTreeMap<String, String>,
    /// When the target was committed: where the other groups end. `None` if only transactions to leave out
    /// were looked for.
    pub time: Option<DateTime<Utc>>,
    /// The encrypted backups that were decrypted to find it, newest first.
    pub decrypted: Vec<BackupName>,
}

/// A group that has the target in its binlogs.
#[derive(Debug, Clone)]
pub struct AtTarget {
    /// The target, as far as it is of this group.
    pub target: TargetAt,
    /// Where the replay will end.
    pub stop: Position,
}

impl std::fmt::Display for AtTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            TargetAt::UntilGtid(set) => write!(f, "up to and including GTID {set}, at {}", self.stop),
            TargetAt::BeforeGtid(set) => write!(f, "before GTID {set}, at {}", self.stop),
            _ => write!(f, "{}", self.stop),
        }
    }
}

impl Located {
    /// Whether a selection's binlogs hold the targets: each between the consistent points around it.
    pub(crate) fn is_in(&self, catalog: &Catalog, selection: &Selection) -> bool {
        let (Some(first), Some(next)) = (selection.last(), &selection.next) else { return false };
        let (Ok(first), Ok(next)) = (catalog.get(first), catalog.get(next)) else { return false };
        let consistent = |backup: &Backup, group: &str| {
            let line = backup.consistence.iter().find(|line| line.group == group)?;
            Some(Position::new(&*line.consistent.file, line.consistent.offset))
        };
        self.groups.iter().all(|(group, at)| {
            // Two masters' files may have one name: the chain of GTIDs decides then.
            if master(first, group).zip(master(next, group)).is_some_and(|(a, b)| a != b) {
                return true;
            }
            let from = consistent(first, group).and_then(|from| is_behind(&at.stop, &from));
            let to = consistent(next, group).and_then(|to| is_behind(&to, &at.stop));
            from.unwrap_or(true) && to.unwrap_or(true)
        })
    }
}

/// The folder of the server whose binlogs a group's positions are in, where the backup says.
fn master(backup: &Backup, group: &str) -> Option<String> {
    let said = backup.consistence.iter().find(|line| line.group == group && line.role() == Role::Master);
    let is_master = |server: &&ServerFolder| server.group == group && server.role() == Role::Master;
    let seen = || backup.servers.iter().filter(is_master).find(|server| !server.binlogs.is_empty());
    said.map(ConsistenceLine::folder).or_else(|| seen().map(|server| server.folder.clone()))
}

/// Whether `place` is at or behind `other`, if both files have one name but for their numbers.
fn is_behind(place: &Position, other: &Position) -> Option<bool> {
    let (a, b) = (BinlogName::parse(&place.file)?, BinlogName::parse(&other.file)?);
    a.same_log(&b).then_some((a, place.pos) >= (b, other.pos))
}

/// Looks for the target, and for what is to be left out, in the binlogs of the store.
///
/// # Errors
///
/// [`Error::Tool`] if no `dbrecover` can read the binlogs, [`Error::NeedPassword`] or [`Error::WrongPassword`] if it takes
/// one, [`Error::Incomplete`] or [`Error::BadTarget`] if the target is in none of them, or in those of several servers.
pub(crate) async fn locate(look: &Look<'_>, wanted: &Wanted) -> Result<Located, Error> {
    let Found { answer, decrypted, passed_over } = look.find(wanted).await?;
    let nowhere = |what: &str| nowhere(what, passed_over);
    let mut located = Located { decrypted, ..Located::default() };
    for (group, found) in &answer {
        located.skip.extend(found.skip.clone().map(|skip| (group.clone(), skip)));
    }
    match &wanted.goal {
        Goal::Backup { .. } | Goal::Time { .. } => {}
        Goal::Gtid { set, inclusive } => {
            let all = answer.values().filter_map(|found| found.part.as_deref());
            check_whole("GTID", set, all).map_err(|missing| nowhere(&missing))?;
            located.take_gtids(&answer, set, *inclusive)?;
        }
        Goal::Position { position, server } => located.take_position(&answer, position, server.is_some())?,
    }
    if located.groups.is_empty() && wanted.goal.in_binlogs().is_some() {
        return Err(nowhere("the target"));
    }
    if let Some(skip) = &wanted.skip {
        let all = answer.values().filter_map(|found| found.skip.as_deref());
        check_whole("skip-gtid", skip, all).map_err(|missing| nowhere(&missing))?;
    }
    Ok(located)
}

impl Located {
    fn take_gtids(
        &mut self,
        answer: &BTreeMap<String, Whereabouts>,
        set: &str,
        inclusive: bool,
    ) -> Result<(), Error> {
        for (group, found) in answer {
            let Some(part) = &found.part else { continue };
            let Some(mark) = &found.transaction else {
                if inclusive {
                    // All of it lies before the store's first binlog: any backup holds it.
                    continue;
                }
                return Err(Error::Incomplete {
                    what: format!("{part} lies before the first binlog of {group} in the store"),
                });
            };
            let twice = self.groups.iter().find(|(_, at)| match &at.target {
                TargetAt::UntilGtid(other) | TargetAt::BeforeGtid(other) => overlap(other, part),
                _ => false,
            });
            if let Some((other, _)) = twice {
                return Err(Error::BadTarget {
                    what: "GTID",
                    text: set.to_owned(),
                    reason: format!(
                        "the binlogs of {other} and of {group} have it; say it as --until-position SERVER/FILE:POS"
                    ),
                });
            }
            let (target, stop) = match inclusive {
                true => (TargetAt::UntilGtid(part.clone()), &mark.end),
                false => (TargetAt::BeforeGtid(part.clone()), &mark.start),
            };
            self.take(group, target, stop, found.time.unwrap_or(mark.time), inclusive)?;
        }
        Ok(())
    }

    fn take_position(
        &mut self,
        answer: &BTreeMap<String, Whereabouts>,
        position: &str,
        named: bool,
    ) -> Result<(), Error> {
        let mut here = answer.iter().filter(|(_, found)| found.here);
        let Some((group, found)) = here.next() else { return Ok(()) };
        if let (false, Some((other, _))) = (named, here.next()) {
            return Err(Error::BadTarget {
                what: "position",
                text: position.to_owned(),
                reason: format!(
                    "{group} and {other} both have a binlog of that name; write {group}/{position} or {other}/{position}"
                ),
            });
        }
        let no_transaction = || Error::Incomplete {
            what: format!("there is no transaction near {position} in the binlogs of {group}"),
        };
        let mark: &Mark = found.transaction.as_ref().ok_or_else(no_transaction)?;
        self.take(group, TargetAt::Position(position.to_owned()), position, mark.time, false)
    }

    fn take(
        &mut self,
        group: &str,
        target: TargetAt,
        stop: &str,
        time: DateTime<Utc>,
        latest: bool,
    ) -> Result<(), Error> {
        let stop = stop
            .parse()
            .map_err(|_| Error::Unexpected { what: "the worker".to_owned(), text: stop.to_owned() })?;
        let better = |known: DateTime<Utc>| if latest { known.max(time) } else { known.min(time) };
        self.time = Some(self.time.map_or(time, better));
        self.groups.insert(group.to_owned(), AtTarget { target, stop });
        Ok(())
    }
}

/// What is wanted is in none of the binlogs; so many encrypted backups were not looked into.
fn nowhere(what: &str, passed_over: usize) -> Error {
    let unread = match passed_over {
        0 => String::new(),
        1 => " (one encrypted backup cannot hold it and was not decrypted)".to_owned(),
        n => format!(" ({n} encrypted backups cannot hold it and were not decrypted)"),
    };
    Error::Incomplete { what: format!("{what} is in no binlogs of the store{unread}") }
}

/// Stock tools know no such targets.
pub(crate) fn no_worker(hosts: &Hosts, tools: &Tools) -> Error {
    Error::Tool {
        host: hosts.job.name().to_owned(),
        tool: "stock tools".to_owned(),
        reason: format!("GTIDs, positions and skip-gtid need the worker ({})", tools.reason),
    }
}

/// Whether the parts make up the whole set; else words for what is missing.
fn check_whole<'a>(
    what: &'static str,
    set: &str,
    parts: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let Ok(mut missing) = gtids(what, set) else { return Ok(()) };
    for part in parts.filter_map(|part| gtids(what, part).ok()) {
        missing = missing.minus(&part);
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("{what} {}", missing.exact_text())) }
}

fn overlap(a: &str, b: &str) -> bool {
    match (gtids("GTID", a), gtids("GTID", b)) {
        (Ok(a), Ok(b)) => !a.is_disjoint(&b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(part: Option<&str>, at: &str) -> Whereabouts {
        let transaction = Mark {
            gtid: part.map(str::to_owned),
            time: at.parse().unwrap(),
            start: "bin.000002:100".to_owned(),
            end: "bin.000002:200".to_owned(),
        };
        Whereabouts {
            here: true,
            part: part.map(str::to_owned),
            transaction: Some(transaction),
            ..Default::default()
        }
    }

    const EARLY: &str = "2026-02-03T04:05:06Z";
    const LATE: &str = "2026-02-03T04:05:09Z";

    #[test]
    fn a_set_over_two_groups_ends_each_at_its_own_part() {
        let answer: BTreeMap<_, _> = [
            ("a".to_owned(), found(Some("0-1-5..5"), EARLY)),
            ("b".to_owned(), found(Some("1-11-7..7"), LATE)),
            ("c".to_owned(), Whereabouts::default()),
        ]
        .into();
        let mut located = Located::default();
        located.take_gtids(&answer, "0-1-5,1-11-7", true).unwrap();
        assert_eq!(located.groups.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(located.time, Some(LATE.parse().unwrap()), "the third group ends at the last of them");
        assert_eq!(located.groups["a"].stop, Position::new("bin.000002", 200));
        let mut located = Located::default();
        located.take_gtids(&answer, "0-1-5,1-11-7", false).unwrap();
        assert_eq!(
            located.time,
            Some(EARLY.parse().unwrap()),
            "or at the first, when nothing of them is wanted"
        );
        assert_eq!(located.groups["a"].stop, Position::new("bin.000002", 100));
    }

    #[test]
    fn one_gtid_in_two_groups_is_refused() {
        let both = found(Some("0-1-5..5"), EARLY);
        let answer: BTreeMap<_, _> = [("a".to_owned(), both.clone()), ("b".to_owned(), both)].into();
        let error = Located::default().take_gtids(&answer, "0-1-5", true).unwrap_err();
        assert!(error.to_string().contains("a and of b"), "{error}");
    }

    #[test]
    fn a_file_name_of_two_groups_needs_its_server() {
        let answer: BTreeMap<_, _> =
            [("a".to_owned(), found(None, EARLY)), ("b".to_owned(), found(None, EARLY))].into();
        let error = Located::default().take_position(&answer, "bin.000002:100", false).unwrap_err();
        assert!(error.to_string().contains("write a/bin.000002:100 or b/bin.000002:100"), "{error}");
    }

    #[test]
    fn what_is_in_no_binlogs_is_named() {
        let parts = ["0-1-5..7", "1-11-3..3"];
        assert_eq!(check_whole("GTID", "0-1-5,0-1-7,1-11-3", parts.into_iter()), Ok(()));
        let missing = check_whole("GTID", "0-1-5..9,1-11-3", parts.into_iter()).unwrap_err();
        assert_eq!(missing, "GTID 0-1-8..9");
    }
}
