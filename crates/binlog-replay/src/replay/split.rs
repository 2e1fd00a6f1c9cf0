//! A transaction that the stock tools apply as two, and where that leaves a MariaDB server.
//!
//! `CREATE TABLE … SELECT` in row format is one transaction in a binlog: the `CREATE TABLE`, then the rows. An applier
//! keeps them together. A client commits with the `CREATE TABLE`, which takes the GTID along; the rows become a
//! transaction of their own, and the server gives it the next number of the domain. The transaction that comes next
//! states its number, so this shows only where none comes.

use std::collections::BTreeMap;

use super::error::Error;
use crate::event::{Event, EventKind, Malformed, MariaDbGtid};
use crate::gtid::{Gtid, GtidSet};
use crate::range::{Range, RangeFile};
use crate::reader::Reader;

/// The last transaction of a domain.
#[derive(Debug, Clone, Copy)]
struct Last {
    number: u64,
    /// Its rows get a number of their own.
    split: bool,
}

/// The position of a MariaDB server's own binlog when a client has applied `range`, after which the server holds
/// `expected`: `None` if it is the position of `expected`.
pub(super) fn position_of_client(range: &Range, expected: &GtidSet) -> Result<Option<GtidSet>, Error> {
    let (GtidSet::MariaDb(expected), Some(GtidSet::MariaDb(applied))) = (expected, &range.applied) else {
        return Ok(None);
    };
    let mut last = BTreeMap::new();
    for file in range.files.iter().rev() {
        for (domain, found) in last_of(range, file)? {
            last.entry(domain).or_insert(found);
        }
        if applied.iter().all(|(domain, _)| last.contains_key(&domain)) {
            break;
        }
    }
    let mut position = expected.to_position();
    let ends: Vec<Gtid> = position.position().collect();
    let mut split = false;
    for gtid in ends {
        let Gtid::MariaDb { domain, server, number } = gtid else { continue };
        if last.get(&domain).is_some_and(|last| last.split && last.number == number) {
            position.insert(domain, server, number + 1);
            split = true;
        }
    }
    Ok(split.then_some(GtidSet::MariaDb(position)))
}

/// The last transactions of the domains in a file, as far as the range has them.
fn last_of(range: &Range, file: &RangeFile) -> Result<BTreeMap<u32, Last>, Error> {
    let mut all = BTreeMap::new();
    // The domain of the transaction that is being read, and whether its table was created.
    let mut open: Option<(u32, bool)> = None;
    let mut reader = Reader::open_at(&file.path, file.start)?;
    while reader.offset() < file.stop {
        let Some(raw) = reader.next_event()? else { break };
        let wrong =
            |e: Malformed| Error::Event { file: file.name.clone(), pos: raw.offset, what: e.to_string() };
        match (raw.header.kind, &mut open) {
            (EventKind::MARIADB_GTID, _) => {
                open = None;
                let Event::MariaDbGtid(MariaDbGtid { gtid, flags, .. }) = raw.decode().map_err(wrong)? else {
                    continue;
                };
                let Gtid::MariaDb { domain, number, .. } = gtid else { continue };
                if range.leaves_out(&gtid) {
                    continue;
                }
                all.insert(domain, Last { number, split: false });
                // In statement format it is a statement by itself.
                if flags & MariaDbGtid::STANDALONE == 0 {
                    open = Some((domain, false));
                }
            }
            (EventKind::QUERY | EventKind::QUERY_COMPRESSED, Some((_, created))) => {
                if let Event::Query(query) = raw.decode().map_err(wrong)? {
                    *created |= creates_table(&query.text);
                }
            }
            (kind, Some((domain, true))) if kind.is_rows() => {
                if let Some(last) = all.get_mut(domain) {
                    last.split = true;
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Whether a statement makes a table that stays, as the server itself writes such statements into binlogs.
fn creates_table(text: &[u8]) -> bool {
    [&b"CREATE TABLE "[..], b"CREATE OR REPLACE TABLE "].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_tables_end_no_transaction() {
        assert!(creates_table(b"CREATE TABLE `copied` (\n  `id` int(11)"));
        assert!(creates_table(b"CREATE OR REPLACE TABLE `copied` ("));
        assert!(!creates_table(b"CREATE TEMPORARY TABLE `copied` ("));
        assert!(!creates_table(b"INSERT INTO t VALUES (1)"));
    }
}
