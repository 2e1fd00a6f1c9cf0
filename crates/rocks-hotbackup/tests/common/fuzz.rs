//! What the fuzz targets do with their input. An ordinary test replays the kept inputs through the same functions.

use std::fs;
use std::path::{Path, PathBuf};

use rocks_hotbackup::rocksdb::{LiveFiles, check_sst};
use rocks_hotbackup::{
    Depth, Error, Manifest, Restore, Stop, Wanted, manifest as form, restore, unpack, verify,
};
use secrecy::SecretString;
use tempfile::TempDir;

use super::rocks;

/// A MANIFEST as it is, or records of it with right checksums: each is its length in one byte and its bytes.
pub(crate) fn live(data: &[u8]) {
    let Some((sealed, rest)) = data.split_first() else { return };
    let mut records = Vec::new();
    let mut left = rest;
    while let Some((length, after)) = left.split_first() {
        let (record, after) = after.split_at(usize::from(*length).min(after.len()));
        records.push(record);
        left = after;
    }
    let log = if sealed % 2 == 1 { rocks::log(records) } else { rest.to_vec() };
    let read = || LiveFiles::read(&log[..], Path::new("MANIFEST-000001"));
    match (read(), read()) {
        (Ok(one), Ok(two)) => {
            assert_eq!(one, two);
            assert!(one.names().count() <= log.len());
        }
        (Err(Error::Rocks { offset, .. }), Err(_)) => assert!(offset <= log.len() as u64),
        other => panic!("{other:?}"),
    }
}

/// An SST file as it is, or an index, a meta index and a data block with right checksums: the first byte is the
/// compression of both, the second the length of the meta index, the third that of the data block.
pub(crate) fn sst(data: &[u8]) {
    let Some(([method, meta, block], rest)) = data.split_first_chunk() else { return };
    let file = match method {
        0xff => rest.to_vec(),
        _ => {
            let (meta, rest) = rest.split_at(usize::from(*meta).min(rest.len()));
            let (block, index) = rest.split_at(usize::from(*block).min(rest.len()));
            rocks::sst(block, (*method, meta), (*method, index))
        }
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("000001.sst");
    fs::write(&path, &file).expect("a file");
    match check_sst(&path, &Stop::new()) {
        Ok(_) => {}
        Err(Error::Rocks { .. }) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// A directory whose only files are those given; nothing else may come to be beside the targets.
struct Room {
    dir: TempDir,
}

impl Room {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::create_dir_all(self.path(name).parent().expect("a parent")).expect("a directory");
        fs::write(self.path(name), bytes).expect("a file");
        self.path(name)
    }

    fn assert_only(&self, names: &[&str]) {
        for entry in fs::read_dir(self.dir.path()).expect("the directory").flatten() {
            assert!(names.iter().any(|name| entry.file_name() == *name), "{:?} is outside", entry.path());
        }
    }
}

fn password() -> Option<SecretString> {
    Some(SecretString::from("abc"))
}

/// Any archive, unpacked and verified.
pub(crate) fn archive(data: &[u8]) {
    if data.starts_with(b"AES\x03") {
        // Its iterations take the time that they are there to take.
        return;
    }
    let room = Room::new();
    let path = room.write("archive", data);
    let unpacked = unpack(&path, &room.path("in/target"), password().as_ref(), &Stop::new());
    room.assert_only(&["archive", "in"]);
    let inside: Vec<_> = fs::read_dir(room.path("in")).expect("the directory").flatten().collect();
    assert_eq!(inside.len(), 1, "{inside:?} {unpacked:?}");
    let seen = verify(&path, password().as_ref(), Depth::default(), &Stop::new());
    if let (Ok(unpacked), Ok(seen)) = (&unpacked, &seen) {
        assert!(seen.files <= unpacked.files);
    }
}

/// Any bytes as the manifest of a backup with two files, which is verified and restored.
pub(crate) fn manifest(data: &[u8]) {
    let room = Room::new();
    let from = room.path("backup");
    room.write("backup/CURRENT", b"MANIFEST-000001\n");
    // One edit: the comparator, a log number, a last sequence.
    room.write("backup/MANIFEST-000001", &rocks::log([&b"\x01\x01c\x02\x01\x04\x02"[..]]));
    room.write(&format!("backup/{}", form::NAME), data);
    let parsed = Manifest::parse(data, &from);
    let depth = Depth { quick: false, blocks: true };
    let seen = verify(&from, None, depth, &Stop::new());
    assert!(parsed.is_ok() || seen.is_err());
    let mut request = Restore::new(vec![from], Wanted::new(room.path("data")));
    request.without_manifest = true;
    request.skip_verify = data.len().is_multiple_of(2);
    let restored = restore(&request, &Stop::new());
    room.assert_only(&["backup", "data"]);
    if restored.is_err() {
        let left = fs::read_dir(room.path("data")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{restored:?} leaves something");
    } else {
        assert!(room.path("data/#rocksdb/CURRENT").exists());
    }
}
