//! The range of a request by the order of file names, until the index chooses it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::error::Error;
use crate::event::{Event, EventKind};
use crate::gtid::{Gtid, GtidSet};
use crate::range::{Range, RangeFile, TransactionMark};
use crate::reader::Reader;
use crate::target::{Position, Start, Target};
use crate::version::{Flavor, ServerVersion};

pub(super) fn choose(
    folders: &[PathBuf],
    start: &Start,
    target: &Target,
    skip: Option<&GtidSet>,
    server: &ServerVersion,
) -> Result<Range, Error> {
    let flavor = server.flavor;
    let base = start.position.file.rsplit_once('.').map_or("", |(base, _)| base);
    let mut files = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).map_err(Error::file("reading", folder))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let numbered = name.rsplit_once('.').is_some_and(|(b, n)| b == base && n.parse::<u32>().is_ok());
            if numbered && name >= start.position.file {
                files.push((name, entry.path()));
            }
        }
    }
    files.sort();
    let executed = start.executed.clone().unwrap_or_else(|| GtidSet::new(flavor));
    let skip_all = executed.union(skip.unwrap_or(&GtidSet::new(flavor)));
    let mut range = Range {
        flavor,
        version: server.clone(),
        files: Vec::new(),
        target: target.clone(),
        skip: None,
        applied: None,
        expected: None,
        transactions: 0,
        skipped: 0,
        first: None,
        last: None,
        next: None,
        bytes: 0,
        notes: Vec::new(),
    };
    let (mut applied, mut skipped) = (GtidSet::new(flavor), GtidSet::new(flavor));
    'files: for (name, path) in files {
        let from = if name == start.position.file { start.position.pos } else { 4 };
        let size = std::fs::metadata(&path).map_err(Error::file("reading", &path))?.len();
        let mut file = RangeFile {
            path: path.clone(),
            name: name.clone(),
            start: from,
            stop: size,
            size,
            transactions: 0,
        };
        let mut reader = Reader::open_at(&path, from)?;
        let mut open: Option<(Option<Gtid>, DateTime<Utc>, u64)> = None;
        let mut stopped = false;
        loop {
            let at = reader.offset();
            let event = reader.next_event()?;
            let gtid = event.as_ref().filter(|e| e.header.kind.is_gtid());
            let ends_file =
                event.as_ref().is_none_or(|e| matches!(e.header.kind, EventKind::ROTATE | EventKind::STOP));
            if gtid.is_some() || ends_file {
                if let Some((gtid, time, begin)) = open.take() {
                    let end = at;
                    let mark = TransactionMark {
                        gtid: gtid.clone(),
                        time,
                        start: Position::new(&*name, begin),
                        end: Position::new(&*name, end),
                    };
                    let hit = gtid
                        .as_ref()
                        .is_some_and(|g| matches!(target, Target::UntilGtid { set, .. } if set.contains(g)));
                    let stop = match target {
                        Target::Position(p) => p.file < name || (p.file == name && end > p.pos),
                        Target::Time(t) => time >= *t,
                        Target::UntilGtid { inclusive, .. } => !inclusive && hit,
                        Target::End => false,
                    };
                    if stop {
                        range.next = Some(mark);
                        file.stop = begin;
                        stopped = true;
                        break;
                    }
                    file.transactions += 1;
                    if gtid.as_ref().is_some_and(|g| skip_all.contains(g)) {
                        range.skipped += 1;
                        skipped.insert(gtid.as_ref().unwrap());
                    } else {
                        range.transactions += 1;
                        if let Some(g) = &gtid {
                            applied.insert(g);
                        }
                        range.first.get_or_insert(mark.clone());
                        range.last = Some(mark);
                    }
                    if hit {
                        file.stop = end;
                        stopped = true;
                        break;
                    }
                }
            }
            let Some(event) = event else { break };
            if event.header.kind.is_gtid() {
                let time = DateTime::from_timestamp(i64::from(event.header.timestamp), 0).unwrap_or_default();
                let (gtid, time) = match event.decode() {
                    Ok(Event::MySqlGtid(g)) => (g.gtid.clone(), g.committed().unwrap_or(time)),
                    Ok(Event::MariaDbGtid(g)) => (Some(g.gtid), time),
                    _ => (None, time),
                };
                open = Some((gtid, time, at));
            }
        }
        range.bytes += file.stop - file.start;
        range.files.push(file);
        if stopped {
            break 'files;
        }
    }
    if let Some(first) = &range.first {
        if first.gtid.is_some() {
            range.expected = Some(executed.union(&applied));
            range.applied = Some(applied);
            range.skip = (!skipped.is_empty()).then_some(skipped);
        }
    } else if start.executed.is_some() {
        range.expected = Some(executed);
        range.applied = Some(applied);
    }
    let _ = Flavor::MySql;
    Ok(range)
}
