//! Cut and flipped files: always a named error, never a panic, never a silent end.

#[path = "common/build.rs"]
mod build;
mod common;

use std::path::Path;

use binlog_replay::{Error, FileEnd, Flavor, Reader, event::Event, event::RawEvent, scan_file};

/// Reads and decodes everything; the end of the file, or the error.
fn read_all(bytes: &[u8]) -> Result<FileEnd, Error> {
    fn decode(raw: &RawEvent<'_>) {
        // Whatever the checksum does not cover must not panic when it is decoded.
        if let Ok(Event::TransactionPayload(payload)) = raw.decode()
            && let Ok(mut inner) = payload.events(raw.format())
        {
            while let Ok(Some(raw)) = inner.next_event() {
                decode(&raw);
            }
        }
    }
    let mut reader = Reader::new(bytes, "test")?;
    while let Some(raw) = reader.next_event()? {
        decode(&raw);
    }
    Ok(reader.end().cloned().unwrap())
}

fn closed() -> Vec<std::path::PathBuf> {
    let skip = ["mysql-open", "mariadb-open", "mariadb-encrypted"];
    let named = |p: &Path| skip.iter().any(|s| p.parent().unwrap().ends_with(s));
    common::files().into_iter().filter(|p| !named(p)).collect()
}

/// Offsets between events.
fn boundaries(bytes: &[u8]) -> Vec<u64> {
    let mut reader = Reader::new(bytes, "test").unwrap();
    let mut all = vec![4];
    while let Some(raw) = reader.next_event().unwrap() {
        all.push(raw.end());
    }
    all
}

#[test]
fn a_closed_file_cut_at_any_byte_is_truncated() {
    for path in closed() {
        let bytes = std::fs::read(&path).unwrap();
        let boundaries = boundaries(&bytes);
        for end in 0..bytes.len() {
            let cut = read_all(&bytes[..end]);
            match end {
                0..4 => assert!(matches!(cut, Err(Error::NotABinlog { .. })), "{path:?} {end}: {cut:?}"),
                // What a binlog cannot notice by itself: a cut between two events. The chain does.
                _ if boundaries.contains(&(end as u64)) => {
                    assert!(matches!(cut, Ok(FileEnd::Silent)), "{path:?} {end}: {cut:?}");
                }
                _ => {
                    let Err(Error::Truncated { offset, end: at, .. }) = cut else {
                        panic!("{path:?} {end}: {cut:?}")
                    };
                    assert_eq!(at, end as u64);
                    assert!(boundaries.contains(&offset));
                }
            }
        }
    }
}

#[test]
fn an_open_file_cut_at_any_byte_ends_there() {
    for folder in ["mysql-open", "mariadb-open"] {
        let bytes = std::fs::read(common::fixtures().join(folder).join("binlog.000003")).unwrap();
        let boundaries = boundaries(&bytes);
        // The format description must be whole for the in-use flag to count.
        for end in boundaries[1] as usize..bytes.len() {
            let Ok(FileEnd::Open { cut }) = read_all(&bytes[..end]) else { panic!("{folder} {end}") };
            let last = boundaries.iter().rev().find(|b| **b <= end as u64).copied();
            assert_eq!(cut, last.filter(|b| *b != end as u64), "{folder} {end}");
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed_where_there_are_checksums() {
    for path in closed() {
        if path.parent().unwrap().ends_with("mysql-nogtid") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                bytes[at] ^= flip;
                // The lowest bit of the first event's flags is the in-use flag, which no checksum covers.
                if !(at == 21 && flip == 0x01) {
                    let read = read_all(&bytes);
                    assert!(read.is_err(), "{path:?}: byte {at} ^ {flip:#x} was not noticed: {read:?}");
                }
                bytes[at] ^= flip;
            }
        }
    }
}

#[test]
fn flipped_bytes_without_checksums_never_panic() {
    let mut bytes = std::fs::read(common::fixtures().join("mysql-nogtid/binlog.000001")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binlog.000001");
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            bytes[at] ^= flip;
            let _ = read_all(&bytes);
            if flip == 0xff {
                std::fs::write(&path, &bytes).unwrap();
                let index = binlog_replay::Index { folders: vec![], files: vec![scan_file(&path).unwrap()] };
                let _ = binlog_replay::find(&index, &Default::default(), |_| true);
            }
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn bodies_damaged_behind_a_good_checksum_never_panic() {
    // As a careless writer would make them: the checksum is right, the body is not.
    for path in closed() {
        let bytes = std::fs::read(&path).unwrap();
        let boundaries = boundaries(&bytes);
        for pair in boundaries.windows(2) {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            for at in start + 19..end - 4 {
                let mut event = bytes[start..end].to_vec();
                event[at - start] ^= 0xff;
                let crc = crc32fast::hash(&event[..event.len() - 4]).to_le_bytes();
                let n = event.len() - 4;
                event[n..].copy_from_slice(&crc);
                let mut file = bytes[..boundaries[1] as usize].to_vec();
                if start > 4 {
                    file.extend(event);
                }
                let _ = read_all(&file);
            }
        }
    }
}

#[test]
fn encrypted_files_are_refused_by_name() {
    let path = common::fixtures().join("mariadb-encrypted/binlog.000001");
    let error = read_all(&std::fs::read(path).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Encrypted { flavor: Flavor::MariaDb, .. }), "{error}");
    let error = read_all(b"\xfdbin\x01\x00\x00\x00").unwrap_err();
    assert!(matches!(error, Error::Encrypted { flavor: Flavor::MySql, .. }), "{error}");
    assert!(matches!(read_all(b"\x7fELF").unwrap_err(), Error::NotABinlog { .. }));
}

#[test]
fn a_reader_that_failed_stays_failed() {
    let bytes = std::fs::read(common::fixtures().join("mysql/binlog.000003")).unwrap();
    let mut reader = Reader::new(&bytes[..bytes.len() - 30], "test").unwrap();
    while let Ok(Some(_)) = reader.next_event() {}
    for _ in 0..3 {
        assert!(matches!(reader.next_event(), Err(Error::Failed { .. })));
    }
    assert_eq!(reader.end(), None);
}

/// A file with one more event of this kind and body at its end.
fn with_event(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let whole = std::fs::read(common::fixtures().join("mysql/binlog.000003")).unwrap();
    let start = boundaries(&whole)[1] as usize;
    let mut bytes = whole[..start].to_vec();
    let size = (19 + body.len() + 4) as u32;
    bytes.extend(1u32.to_le_bytes());
    bytes.push(kind);
    bytes.extend(11u32.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend((start as u32 + size).to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(body);
    let crc = crc32fast::hash(&bytes[start..]);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn unknown_events_are_errors_unless_they_may_be_passed_over() {
    for kind in [0, 43, 100, 159, 173, 255] {
        let error = read_all(&with_event(kind, 0, b"new")).unwrap_err();
        assert!(matches!(error, Error::UnknownEvent { kind: k, .. } if k.0 == kind), "{error}");
        assert!(read_all(&with_event(kind, 0x80, b"new")).is_ok());
    }
}

#[test]
fn sizes_that_lie_take_no_memory() {
    let mut bytes = with_event(2, 0, b"x");
    let start = bytes.len() - 24;
    bytes[start + 9..start + 13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read_all(&bytes), Err(Error::Truncated { .. })));
    bytes[start + 9..start + 13].copy_from_slice(&22u32.to_le_bytes());
    assert!(matches!(read_all(&bytes), Err(Error::EventSize { size: 22, .. })));
}

#[test]
fn events_that_are_not_where_they_say_are_noticed() {
    let bytes = std::fs::read(common::fixtures().join("mysql/binlog.000003")).unwrap();
    let at = boundaries(&bytes);
    // A whole transaction taken out from the middle: every checksum is right.
    let spliced = [&bytes[..at[3] as usize], &bytes[at[5] as usize..]].concat();
    assert!(matches!(read_all(&spliced), Err(Error::Displaced { .. })));
}

#[test]
fn damaged_payloads_are_errors() {
    let bytes = std::fs::read(common::fixtures().join("mysql/binlog.000002")).unwrap();
    let mut reader = Reader::new(&bytes[..], "test").unwrap();
    let mut seen = 0;
    while let Some(raw) = reader.next_event().unwrap() {
        let Ok(Event::TransactionPayload(payload)) = raw.decode() else { continue };
        let read = |payload: &binlog_replay::event::TransactionPayload<'_>| -> Result<usize, String> {
            let mut events = payload.events(raw.format()).map_err(|e| e.to_string())?;
            let mut n = 0;
            while events.next_event().map_err(|e| e.to_string())?.is_some() {
                n += 1;
            }
            Ok(n)
        };
        seen = read(&payload).unwrap();
        assert!(seen > 5);
        for cut in 0..payload.payload.len() {
            let mut short = payload;
            short.payload = &payload.payload[..cut];
            assert!(read(&short).is_err(), "cut at {cut}");
        }
        for uncompressed in [0, 1, payload.uncompressed - 1, payload.uncompressed + 1, u64::MAX] {
            let mut wrong = payload;
            wrong.uncompressed = uncompressed;
            assert!(read(&wrong).is_err(), "{uncompressed} bytes stated");
        }
    }
    assert!(seen > 0);
}

#[test]
fn checksums_of_events_larger_than_any_buffer_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    const BUFFER: usize = 512 << 10;
    // The checksum behind, across and in front of the places where pieces end.
    for size in (BUFFER - 6..BUFFER + 6).chain(2 * BUFFER - 3..2 * BUFFER + 3).chain([5 * BUFFER + 77]) {
        let mut log = build::Log::new(Flavor::MySql, 1, Some(""));
        log.transaction(None, 1, None);
        log.query(1, "BEGIN");
        let event = log.pos() as usize;
        log.event(30, 0, 1, &vec![7; size - 23]);
        log.event(16, 0, 1, &[0; 8]);
        let path = log.close(dir.path(), "log.000001");
        let info = scan_file(&path).unwrap();
        assert!(info.damage.is_none() && info.transactions == 2, "{size}: {:?}", info.damage);
        let mut bytes = std::fs::read(&path).unwrap();
        for at in [event + 19, event + size / 2, event + size - 5, event + size - 4, event + size - 1] {
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let damage = scan_file(&path).unwrap().damage.unwrap();
            assert!(matches!(*damage, Error::Checksum { .. }), "{size} {at}: {damage}");
            bytes[at] ^= 0x10;
        }
    }
}
