//! Which pieces of a file are wanted, when some transactions in it are left out.

use std::ops::Range as Span;

use super::error::Error;
use crate::event::Event;
use crate::gtid::GtidSet;
use crate::range::{Range, RangeFile};
use crate::reader::Reader;

/// The runs of events of `file` that `range` keeps: everything between start and stop but the transactions
/// that are left out.
pub(super) fn kept(range: &Range, file: &RangeFile) -> Result<Vec<Span<u64>>, Error> {
    if range.skip.as_ref().is_none_or(GtidSet::is_empty) {
        return Ok(std::iter::once(file.start..file.stop).collect());
    }
    let mut runs = Vec::new();
    let mut run = Some(file.start);
    let mut reader = Reader::open_at(&file.path, file.start)?;
    while reader.offset() < file.stop {
        let Some(raw) = reader.next_event()? else { break };
        if !raw.header.kind.is_gtid() && !ends_a_file(&raw) {
            continue;
        }
        let gtid = if raw.header.kind.is_gtid() {
            let event = raw.decode().map_err(|e| Error::Event {
                file: file.name.clone(),
                pos: raw.offset,
                what: e.to_string(),
            })?;
            match event {
                Event::MySqlGtid(event) => event.gtid,
                Event::MariaDbGtid(event) => Some(event.gtid),
                _ => None,
            }
        } else {
            None
        };
        let wanted = !gtid.is_some_and(|gtid| range.leaves_out(&gtid));
        match (run, wanted) {
            (Some(start), false) => {
                runs.push(start..raw.offset);
                run = None;
            }
            (None, true) => run = Some(raw.offset),
            _ => {}
        }
    }
    if let Some(start) = run {
        runs.push(start..file.stop);
    }
    runs.retain(|r| r.start < r.end);
    Ok(runs)
}

fn ends_a_file(raw: &crate::event::RawEvent<'_>) -> bool {
    use crate::event::EventKind;
    matches!(raw.header.kind, EventKind::ROTATE | EventKind::STOP)
}
