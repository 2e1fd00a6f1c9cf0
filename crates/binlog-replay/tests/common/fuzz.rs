//! What the fuzz targets do with their input. An ordinary test does the same with the fixtures.

// A target uses one of them.
#![allow(dead_code)]

use binlog_replay::Reader;
use binlog_replay::event::{Event, RawEvent};

/// Files whose first event, the format description, comes before the one that is made of the input.
const FORMATS: [&[u8]; 2] =
    [include_bytes!("../fixtures/mysql/binlog.000001"), include_bytes!("../fixtures/mariadb/binlog.000001")];
/// Size of an event's header in bytes.
const HEADER: usize = 19;

/// A whole file: an end or an error, and the same number of events when it is read again.
pub(crate) fn reader(data: &[u8]) {
    let run = || -> Option<usize> {
        let mut reader = Reader::new(data, "fuzz").ok()?;
        let mut events = 0;
        while let Ok(Some(raw)) = reader.next_event() {
            decode(&raw, 0);
            events += 1;
        }
        Some(events)
    };
    assert_eq!(run(), run());
}

/// One event behind a real format description, with the checksum that it must have: the first byte chooses the
/// flavour, the second is the kind, the rest is the body.
pub(crate) fn event(data: &[u8]) {
    let [flavor, kind, body @ ..] = data else { return };
    let file = FORMATS[usize::from(*flavor) % FORMATS.len()];
    let size_at = 4 + 9;
    let Some(size) = file.get(size_at..).and_then(|rest| rest.first_chunk::<4>()) else { return };
    let mut bytes = file[..4 + u32::from_le_bytes(*size) as usize].to_vec();
    let start = bytes.len();
    let size = HEADER + body.len() + 4;
    bytes.extend([0; 4]);
    bytes.push(*kind);
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend((size as u32).to_le_bytes());
    bytes.extend(((start + size) as u32).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(body);
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend(crc.to_le_bytes());
    reader(&bytes);
}

/// Decodes an event, and those inside a compressed transaction; what was decoded can be encoded.
fn decode(raw: &RawEvent<'_>, depth: usize) {
    let Ok(event) = raw.decode() else { return };
    let _ = event.encode(raw);
    if let Event::TransactionPayload(payload) = &event
        && depth < 2
        && let Ok(mut inner) = payload.events(raw.format())
    {
        while let Ok(Some(raw)) = inner.next_event() {
            decode(&raw, depth + 1);
        }
    }
}
