//! Real files of real servers: everything in them is decoded, and encodes to the bytes it came from.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use binlog_replay::event::{Event, EventKind, RawEvent};
use binlog_replay::{FileEnd, Reader};

fn check_event(raw: &RawEvent<'_>, seen: &mut BTreeMap<EventKind, usize>) {
    *seen.entry(raw.header.kind).or_default() += 1;
    let event = raw.decode().unwrap_or_else(|e| panic!("{} at {}: {e}", raw.header.kind, raw.offset));
    assert!(event.encode(raw) == raw.body(), "{} at {}: {event:?}", raw.header.kind, raw.offset);
    if let Event::TransactionPayload(payload) = &event {
        let mut inner = payload.events(raw.format()).unwrap();
        while let Some(raw) = inner.next_event().unwrap() {
            check_event(&raw, seen);
        }
    }
}

fn read(path: &Path) -> (BTreeMap<EventKind, usize>, FileEnd) {
    let mut seen = BTreeMap::new();
    let mut reader = Reader::open(path).unwrap();
    while let Some(raw) = reader.next_event().unwrap() {
        check_event(&raw, &mut seen);
    }
    (seen, reader.end().unwrap().clone())
}

#[test]
fn every_event_encodes_to_the_bytes_it_came_from() {
    for path in common::files() {
        if path.parent().unwrap().ends_with("mariadb-encrypted") {
            continue;
        }
        let (seen, end) = read(&path);
        eprintln!("{path:?} {end:?} {seen:?}");
    }
}
