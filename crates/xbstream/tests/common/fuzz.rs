//! What the fuzz targets do with their input. An ordinary test replays the kept inputs through the same functions.

use std::path::Path;

use xbstream::member::{Algorithm, Decoding, Key, decode};
use xbstream::{Dialect, ExtractOptions, Reader, list};

/// The key of every encrypted member in the corpus.
const KEY: [u8; 32] = [7; 32];

/// The first byte chooses, the rest is the input.
fn choose<'d, T: Copy>(data: &'d [u8], choices: &[T]) -> Option<(T, &'d [u8])> {
    let (first, rest) = data.split_first()?;
    Some((choices[usize::from(*first) % choices.len()], rest))
}

fn decoding() -> Decoding {
    let key = Key::new(Algorithm::Aes256, KEY.to_vec().into()).expect("32 bytes");
    Decoding::none().decompress(true).decrypt(key)
}

/// A reader that ended well gives the same totals again.
pub(crate) fn reader(data: &[u8]) {
    let Some((dialect, archive)) = choose(data, &[Dialect::Auto, Dialect::Percona, Dialect::MariaDb]) else {
        return;
    };
    let run = || list(&mut Reader::with_dialect(archive, dialect), |_| {});
    if let Ok(totals) = run() {
        assert_eq!(totals.archive, archive.len() as u64);
        assert_eq!(run().ok(), Some(totals));
    }
}

/// Nothing outside the target, nothing unfinished inside it, and whatever is extracted could be listed.
pub(crate) fn extract(data: &[u8]) {
    let Some((dialect, archive)) = choose(data, &[Dialect::Auto, Dialect::Percona, Dialect::MariaDb]) else {
        return;
    };
    // A sparse file may be as large as its map says; the file system, not memory, answers for that.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("target");
    std::fs::write(dir.path().join("beside"), "untouched").expect("a file");
    let options = ExtractOptions::new().threads(1).decoding(decoding());
    let result = xbstream::extract(Reader::with_dialect(archive, dialect), &target, &options);
    let placed = xbstream::extract_at(archive, dialect, dir.path().join("placed"), &options.threads(2));
    assert_eq!(placed.is_ok(), result.is_ok(), "{placed:?} {result:?}");
    assert_eq!(unfinished(&dir.path().join("placed"), archive), 0, "{placed:?}");
    let names: Vec<_> = std::fs::read_dir(dir.path()).expect("the directory").flatten().collect();
    assert_eq!(names.len(), 3);
    assert_eq!(std::fs::read(dir.path().join("beside")).expect("the file"), b"untouched");
    assert_eq!(unfinished(&target, archive), 0, "{result:?}");
    if result.is_ok() {
        assert!(list(&mut Reader::with_dialect(archive, dialect), |_| {}).is_ok());
    }
}

/// Files below `dir` that have the name of an unfinished one, unless the archive itself uses such names.
fn unfinished(dir: &Path, archive: &[u8]) -> usize {
    if archive.windows(8).any(|bytes| bytes == b".partial") {
        return 0;
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => unfinished(&entry.path(), archive),
            _ => usize::from(entry.file_name().as_encoded_bytes().ends_with(b".partial")),
        })
        .sum()
}

/// Whole and in pieces, a member is the same.
pub(crate) fn member(data: &[u8]) {
    let names = ["a.qp", "a.lz4", "a.zst", "a.xbcrypt", "a.qp.xbcrypt", "a.lz4.xbcrypt", "a.zst.xbcrypt"];
    let Some((name, member)) = choose(data, &names) else { return };
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let first = decode(Path::new(name), &decoding(), member, &mut whole);
    let second =
        decode(Path::new(name), &decoding(), super::Pieces::new(member, vec![3, 1, 17]), &mut pieces);
    assert_eq!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
    if first.is_ok() {
        assert_eq!(whole, pieces);
    }
}

/// A QuickLZ block behind a checksum that is right, so that damage reaches the decoder. The first two bytes are the
/// length it claims.
pub(crate) fn quicklz(data: &[u8]) {
    let Some((length, body)) = data.split_at_checked(2) else { return };
    let mut block = vec![0x47];
    block.extend((body.len() as u32 + 9).to_le_bytes());
    block.extend([length[0], length[1], 0, 0]);
    block.extend(body);
    let mut member = b"qpress10\0\0\x01\0\0\0\0\0F\x01\0\0\0a\0NEWBNEWB\0\0\0\0\0\0\0\0".to_vec();
    member.extend(adler2::adler32_slice(&block).to_le_bytes());
    member.extend(block);
    member.extend(b"ENDSENDS\0\0\0\0\0\0\0\0");
    let mut plain = Vec::new();
    if decode(Path::new("a.qp"), &decoding(), &member[..], &mut plain).is_ok() {
        assert_eq!(plain.len(), usize::from(u16::from_le_bytes([length[0], length[1]])));
    }
}

/// What is written comes back, and is compressed by an encoder that keeps its table as the decoder does.
pub(crate) fn round_trip(data: &[u8]) {
    let Some((chunk, plain)) = choose(data, &[1_usize, 7, 100, 4096, 65536]) else { return };
    let mut out = Vec::new();
    let member = super::encode::qpress("name", plain, chunk);
    decode(Path::new("a.qp"), &decoding(), &member[..], &mut out).expect("what was encoded");
    assert!(out == plain);
}
