//! Whether what can be seen of the backups holds what the replay will ask for.
//!
//! Of an encrypted backup nothing can be seen; there the replay finds out, when it is unpacked.

use std::collections::{BTreeMap, BTreeSet};

use backup_catalog::layout::EXECUTED_GTIDS;
use backup_catalog::{Backup, BackupName, BinlogName, Catalog, Master, Position, Selection, ServerChoice};

use crate::Error;

/// Looks at the binlogs and GTIDs that each server is recovered with. Returns what a user should know.
///
/// # Errors
///
/// [`Error::Incomplete`] for what is missing whatever the target is.
pub(super) fn check(
    catalog: &Catalog,
    selection: &Selection,
    choices: &[ServerChoice],
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let Some(last) = selection.last() else { return Ok(warnings) };
    let last = catalog.get(last)?;
    let next = selection.next.as_ref().map(|next| catalog.get(next)).transpose()?;
    if last.encrypted {
        return Ok(warnings);
    }
    for choice in choices {
        let said = last.server(&choice.folder).and_then(|folder| folder.executed_gtids.clone());
        executed(&last.name, &choice.folder, &choice.master, said)?;
        // What is not in the last backup may be in the next one.
        let (Some(folder), false) = (choice.binlogs_of(), next.is_some_and(|next| next.encrypted)) else {
            continue;
        };
        let files: BTreeSet<_> = std::iter::once(last).chain(next).flat_map(|of| names(of, folder)).collect();
        let Position { file, .. } = &choice.line.consistent;
        if let Some(missing) = first_missing(&files, &choice.line.start.file, file) {
            return Err(Error::Incomplete {
                what: format!(
                    "the binlogs of {folder} do not cover the recovery of {}: backup {} has no {folder}/{missing}",
                    choice.folder, last.name
                ),
            });
        }
        // After a failover they go on in another folder.
        let Some(next) = next.filter(|next| choice.later_masters(next).is_empty()) else { continue };
        let line = next.consistence.iter().find(|line| line.folder() == choice.folder);
        if let Some(missing) = line.and_then(|line| first_missing(&files, file, &line.consistent.file)) {
            warnings.push(format!(
                "backup {} has no {folder}/{missing}: {} cannot be recovered to a time behind it",
                next.name, choice.folder
            ));
        }
    }
    Ok(warnings)
}

/// `executed_gtids` of a server's folder: it must be there. It may be empty for a master, whose replay starts where its
/// backup ends; a replica's starts before that, and only GTIDs say what not to apply twice.
pub(crate) fn executed(
    backup: &BackupName,
    folder: &str,
    master: &Master,
    text: Option<String>,
) -> Result<String, Error> {
    let file = format!("{folder}/{EXECUTED_GTIDS}");
    let what = match text {
        Some(text) if !text.is_empty() || matches!(master, Master::Own) => return Ok(text),
        Some(_) => format!(
            "{file} of backup {backup} is empty: the binlogs of a replica's master start before its backup, and without \
             GTIDs transactions would be applied twice"
        ),
        None => format!("backup {backup} has no {file}"),
    };
    Err(Error::Incomplete { what })
}

/// What is missing of binlogs, given by name and size, that are to reach from the file `first` to `reach`.
pub(crate) fn falls_short(files: &BTreeMap<String, u64>, first: &str, reach: &Position) -> Option<String> {
    let names = files.keys().map(String::as_str).collect();
    if let Some(missing) = first_missing(&names, first, &reach.file) {
        return Some(format!("{missing} is missing"));
    }
    let (from, to) = (BinlogName::parse(first)?, BinlogName::parse(&reach.file)?);
    // A server that began its binlogs anew gives names again.
    let goes_on = from.same_log(&to) && from <= to;
    let size = files.get(&reach.file).filter(|size| goes_on && **size < reach.offset)?;
    Some(format!("{} has {size} bytes of at least {}", reach.file, reach.offset))
}

fn names<'a>(backup: &'a Backup, folder: &str) -> impl Iterator<Item = &'a str> {
    backup.server(folder).into_iter().flat_map(|folder| folder.binlogs.iter().map(|(name, _)| name.as_str()))
}

/// The first file from `first` to `last` that is not among `files`. Where the two are of different base names, nothing
/// says what lies between them.
fn first_missing(files: &BTreeSet<&str>, first: &str, last: &str) -> Option<String> {
    let (from, to) = BinlogName::parse(first).zip(BinlogName::parse(last)).filter(|(a, b)| a.same_log(b))?;
    let there: BTreeSet<_> = files.iter().filter_map(|name| BinlogName::parse(name)).collect();
    let mut row = std::iter::successors(Some(from), BinlogName::next).take_while(|name| *name <= to);
    row.find(|name| !there.contains(name)).map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use backup_catalog::{EntryKind, Snapshot, Target};

    use super::*;

    /// A master and a replica of another group, whose binlogs go from `bin.000002` to `bin.000004`.
    fn store(change: impl Fn(&mut Vec<(String, &'static str)>)) -> Catalog {
        store_with("UTC20210205010000.000-full", change)
    }

    /// The same with `changed` as it is after `change`.
    fn store_with(changed: &str, change: impl Fn(&mut Vec<(String, &'static str)>)) -> Catalog {
        let mut snapshot = Snapshot::default();
        for (name, point) in
            [("UTC20210205010000.000-full", "01:00:01"), ("UTC20210205020000.000-inc", "02:00:01")]
        {
            let (first, last) = if name.ends_with("full") { (2, 4) } else { (4, 6) };
            let mut files: Vec<(String, &str)> = Vec::new();
            for folder in ["a-m-10.0.0.1-1", "b-m-10.0.0.1-2"] {
                files.extend((first..=last).map(|n| (format!("{folder}/bin.{n:06}"), "binlog")));
            }
            for folder in ["a-m-10.0.0.1-1", "b-r-10.0.0.1-3"] {
                files
                    .extend(["backup.xbsteam", "executed_gtids"].map(|f| (format!("{folder}/{f}"), "0-1-7")));
            }
            files.push(("b-r-10.0.0.1-3/master_dir".to_owned(), "b-m-10.0.0.1-2"));
            files.push(("datanode_base/mariadb.tar.gz".to_owned(), "x"));
            files.push(("ok".to_owned(), "ok\n"));
            files.push((
                "backuped_binlogs".to_owned(),
                "m: bin.000002 bin.000003 bin.000004 bin.000005 bin.000006",
            ));
            if name == changed {
                change(&mut files);
            }
            let line = |server: &str, port: u16, group: &str, at: u64| {
                format!(
                    "10.0.0.1:{port}\t{server}\tbin.{last:06}\t400\tbelong-to-datasource={group}\txb-to-lsn=1\t\
                     xb-to-binlog-name=bin.{first:06}\txb-to-binlog-pos={at}\n"
                )
            };
            let lines = line("m", 1, "a", 300) + &line("r", 3, "b", 4);
            let point = format!("2021-02-05 {point}\n");
            let more = [("cluster_consistence_info", &*lines), ("consistent_point_datetime", &*point)];
            let files = files.iter().map(|(path, content)| (path.as_str(), *content)).chain(more);
            for (path, content) in files {
                let path = format!("{name}/{path}");
                match Snapshot::wants(&path, content.len() as u64) {
                    true => snapshot.content(&path, content.as_bytes()),
                    false => snapshot.entry(&path, EntryKind::File, content.len() as u64),
                }
            }
        }
        Catalog::read(&snapshot).unwrap()
    }

    fn checked(catalog: &Catalog, target: Target) -> Result<Vec<String>, String> {
        let selection = catalog.select(&target).unwrap();
        let choices = catalog.recoverable(&selection, &[]).unwrap();
        assert_eq!(choices.len(), 2);
        check(catalog, &selection, &choices).map_err(|error| error.to_string())
    }

    fn full() -> Target {
        Target::Backup("UTC20210205010000.000-full".parse().unwrap())
    }

    fn between() -> Target {
        Target::Time("2021-02-05T01:30:00".parse().unwrap())
    }

    fn without(name: &'static str) -> impl Fn(&mut Vec<(String, &'static str)>) {
        move |files| files.retain(|(path, _)| path != name)
    }

    #[test]
    fn a_binlog_that_is_missing_is_told_before_anything_is_unpacked() {
        assert_eq!(checked(&store(|_| ()), full()), Ok(vec![]));
        assert_eq!(checked(&store(|_| ()), between()), Ok(vec![]));
        for gone in ["bin.000002", "bin.000003", "bin.000004"] {
            for (server, master) in
                [("a-m-10.0.0.1-1", "a-m-10.0.0.1-1"), ("b-r-10.0.0.1-3", "b-m-10.0.0.1-2")]
            {
                let path: &str = format!("{master}/{gone}").leak();
                assert_eq!(
                    checked(&store(without(path)), full()),
                    Err(format!(
                        "the binlogs of {master} do not cover the recovery of {server}: backup \
                         UTC20210205010000.000-full has no {path}"
                    ))
                );
            }
        }
        // The next backup has a copy.
        assert_eq!(checked(&store(without("a-m-10.0.0.1-1/bin.000004")), between()), Ok(vec![]));
    }

    #[test]
    fn a_binlog_behind_the_consistent_point_is_missing_for_some_times_only() {
        let last = "UTC20210205020000.000-inc";
        let gone = store_with(last, without("a-m-10.0.0.1-1/bin.000005"));
        let said = format!(
            "backup {last} has no a-m-10.0.0.1-1/bin.000005: a-m-10.0.0.1-1 cannot be recovered to a time behind it"
        );
        assert_eq!(checked(&gone, between()), Ok(vec![said]));
        let failover = store_with(last, |files| {
            files.retain(|(path, _)| path != "a-m-10.0.0.1-1/bin.000005");
            files.push(("a-n-10.0.0.1-9/bin.000001".to_owned(), "binlog"));
        });
        assert_eq!(checked(&failover, between()), Ok(vec![]));
    }

    #[test]
    fn a_replica_without_gtids_is_told_before_anything_is_unpacked() {
        let gone = checked(&store(without("b-r-10.0.0.1-3/executed_gtids")), full()).unwrap_err();
        assert_eq!(gone, "backup UTC20210205010000.000-full has no b-r-10.0.0.1-3/executed_gtids");
        let emptied = |server: &'static str| {
            store(move |files| {
                let of_server = |path: &str| path == format!("{server}/executed_gtids");
                files.iter_mut().filter(|(path, _)| of_server(path)).for_each(|(_, content)| *content = "\n");
            })
        };
        let empty = checked(&emptied("b-r-10.0.0.1-3"), full()).unwrap_err();
        assert!(empty.contains("would be applied twice"), "{empty}");
        assert_eq!(
            checked(&emptied("a-m-10.0.0.1-1"), full()),
            Ok(vec![]),
            "a master's replay starts at its backup"
        );
    }

    #[test]
    fn binlogs_reach_as_far_as_the_next_backup_says_or_fall_short() {
        let files =
            |sizes: &[(&str, u64)]| sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        let reach = |file: &str| Position { file: file.to_owned(), offset: 400 };
        let all = [("bin.000002", 900), ("bin.000003", 900), ("bin.000004", 400), ("bin.index", 9)];
        let short = |sizes: &[(&str, u64)], to: &str| falls_short(&files(sizes), "bin.000002", &reach(to));
        assert_eq!(short(&all, "bin.000004"), None);
        assert_eq!(short(&all[..2], "bin.000004").as_deref(), Some("bin.000004 is missing"));
        let hole = [all[0], all[2]];
        assert_eq!(short(&hole, "bin.000004").as_deref(), Some("bin.000003 is missing"));
        let cut = [all[0], all[1], ("bin.000004", 399)];
        assert_eq!(short(&cut, "bin.000004").as_deref(), Some("bin.000004 has 399 bytes of at least 400"));
        // Nothing says what lies between these.
        assert_eq!(short(&[("bin.000001", 4), all[0]], "bin.000001"), None);
        assert_eq!(short(&all, "other.000001"), None);
    }

    #[test]
    fn numbers_that_cannot_be_are_no_endless_search() {
        let files = BTreeSet::from(["bin.000001"]);
        assert_eq!(
            first_missing(&files, "bin.000001", "bin.18446744073709551615"),
            Some("bin.000002".to_owned())
        );
        assert_eq!(first_missing(&files, "bin.000001", "other.000009"), None);
        assert_eq!(first_missing(&files, "bin.000001", "bim.000009"), None);
    }

    #[test]
    fn numbers_go_on_past_six_digits() {
        let mut files = BTreeSet::from(["bin.999999", "bin.1000000", "bin.1000001"]);
        assert_eq!(first_missing(&files, "bin.999999", "bin.1000001"), None);
        files.remove("bin.1000000");
        assert_eq!(first_missing(&files, "bin.999999", "bin.1000001"), Some("bin.1000000".to_owned()));
    }
}
