//! Decoding and encoding again, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use binlog_replay::event::{Event, EventKind, RawEvent};
use binlog_replay::{FileEnd, Reader};

/// How many events of each kind.
pub(crate) type Kinds = BTreeMap<EventKind, usize>;

fn check_event(raw: &RawEvent<'_>, seen: &mut Kinds) {
    *seen.entry(raw.header.kind).or_default() += 1;
    let event = raw.decode().unwrap_or_else(|e| panic!("{} at {}: {e}", raw.header.kind, raw.offset));
    assert!(event.encode(raw) == raw.body(), "{} at {}: {event:?}", raw.header.kind, raw.offset);
    if let Event::TransactionPayload(payload) = &event {
        let mut inner = payload.events(raw.format()).unwrap();
        while let Some(raw) = inner.next_event().unwrap() {
            check_event(&raw, seen);
        }
    }
    if let Event::MySqlGtid(gtid) = &event
        && let Some(length) = gtid.length
    {
        assert!(length > raw.header.size.into(), "the length of the transaction at {}", raw.offset);
    }
}

/// Reads a file to its end; every event of it, also inside compressed transactions, encodes to its own bytes.
pub(crate) fn file(path: &Path) -> (Kinds, FileEnd) {
    let mut seen = BTreeMap::new();
    let mut reader = Reader::open(path).unwrap();
    while let Some(raw) = reader.next_event().unwrap() {
        check_event(&raw, &mut seen);
    }
    (seen, reader.end().unwrap().clone())
}
