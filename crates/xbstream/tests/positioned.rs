//! Archives that are read at several places at once, and members whose pieces are decoded side by side: the same comes
//! out as of a stream, and the same error.

mod common;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{encode, end, file, head, payload, rename, seek, sparse, tree};
use xbstream::member::{Algorithm, Decoding, Key, decode};
use xbstream::{Dialect, Error, ExtractOptions, ReadAt, Reader, Writer, extract_at};

/// Payloads of more than 32 KiB are left to the workers.
const LARGE: usize = 40_000;

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    })
    .take(len)
    .collect()
}

fn rows(len: usize) -> Vec<u8> {
    (0..len / 4 + 1).flat_map(|i| ((i / 5 * 77 % 60_013) as u32).to_le_bytes()).take(len).collect()
}

fn options(threads: usize) -> ExtractOptions {
    let key = Key::new(Algorithm::Aes256, vec![7; 32].into()).unwrap();
    ExtractOptions::new().threads(threads).decoding(Decoding::none().decompress(true).decrypt(key))
}

/// A member in frames or blocks of 64 KiB for each format, and the number of its layers that stand before the cutter.
fn members(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let frames = |one: &dyn Fn(&[u8]) -> Vec<u8>| plain.chunks(65536).flat_map(one).collect::<Vec<u8>>();
    let crypt = |data: &[u8]| encode::xbcrypt(3, &[7; 32], data, 65536);
    let qp = encode::qpress("t", plain, 65536);
    let lz4 = frames(&|part| encode::lz4(part, part.len(), true));
    let zst = frames(&|part| encode::zstd(part, 1 << 20, true));
    let unsized_zst = frames(&|part| encode::zstd(part, 1 << 20, false));
    vec![
        ("a.qp", qp.clone()),
        ("a.lz4", lz4.clone()),
        ("a.zst", zst.clone()),
        ("a.zst", unsized_zst),
        ("a.xbcrypt", crypt(plain)),
        ("a.xbcrypt", encode::xbcrypt(1, &[7; 32], plain, 65536)),
        ("a.xbcrypt", encode::xbcrypt(2, &[7; 32], plain, 65536)),
        // A chunk for all: decrypted in order.
        ("a.xbcrypt", encode::xbcrypt(3, &[7; 32], plain, plain.len())),
        ("a.zst.xbcrypt", encode::xbcrypt(3, &[7; 32], &zst, zst.len())),
        ("a.qp.xbcrypt", crypt(&qp)),
        ("a.lz4.xbcrypt", crypt(&lz4)),
        ("a.zst.xbcrypt", crypt(&zst)),
        // One frame for all: decoded in order.
        ("a.lz4", encode::lz4(plain, plain.len(), true)),
        ("a.zst", encode::zstd(plain, 1 << 30, true)),
        // And small ones behind it.
        ("a.zst", [encode::zstd(plain, 1 << 30, true), zst].concat()),
        ("a.lz4", [encode::lz4(plain, plain.len(), true), lz4].concat()),
    ]
}

#[test]
fn archive_read_at_several_places_gives_the_same_files() {
    let writer = Writer::with_chunk_size(Vec::new(), 150_000);
    for i in 0..40_usize {
        writer.append(format!("d{}/{i}", i % 3), &noise(i * 31_337 % 700_000, i as u32)[..]).unwrap();
    }
    let mut archive = writer.finish().unwrap();
    for (i, (name, data)) in members(&rows(900_000)).into_iter().enumerate() {
        let name = format!("m{i}{name}");
        for (part, data) in data.chunks(100_000).enumerate() {
            archive.extend(payload(name.as_bytes(), part as u64 * 100_000, data));
        }
        archive.extend(end(name.as_bytes()));
    }
    // Order matters here: the second payload replaces a part of the first one.
    archive.extend(
        [payload(b"s", 0, &noise(3_000_000, 3)), seek(b"s", 5), payload(b"s", 5, &[7; LARGE])].concat(),
    );
    archive.extend([end(b"s"), file(b"r", &noise(LARGE, 4)), rename(b"r", b"e/r")].concat());

    let stream = tempfile::tempdir().unwrap();
    let expected = xbstream::extract(Reader::new(&archive[..]), stream.path(), &options(2)).unwrap();
    assert_eq!(expected.decoded, 16);
    for threads in [1, 2, 5] {
        let target = tempfile::tempdir().unwrap();
        let done = extract_at(&archive[..], Dialect::Auto, target.path(), &options(threads)).unwrap();
        assert_eq!(done, expected);
        assert!(tree(target.path()) == tree(stream.path()));
    }
}

#[test]
fn members_of_more_bytes_than_pieces_may_have_come_out_whole_one_beside_another() {
    // 8 MB each, with layers and without, a payload of one after one of the others.
    let plain = [rows(6_000_000), noise(2_000_000, 5)].concat();
    let members: Vec<_> = members(&plain)
        .into_iter()
        .enumerate()
        .map(|(i, (name, data))| (format!("m{i}{name}"), data))
        .collect();
    let mut archive = Vec::new();
    for part in 0.. {
        let at = part * 1_000_000;
        let mut left = false;
        for (name, data) in &members {
            if let Some(data) = data.get(at..).filter(|data| !data.is_empty()) {
                archive.extend(payload(name.as_bytes(), at as u64, &data[..data.len().min(1_000_000)]));
                left = true;
            }
        }
        if !left {
            break;
        }
    }
    archive.extend(members.iter().flat_map(|(name, _)| end(name.as_bytes())));
    for threads in [2, 7] {
        let (piped, placed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let done = xbstream::extract(Reader::new(&archive[..]), piped.path(), &options(threads)).unwrap();
        // Two of them have it twice.
        assert_eq!(done.bytes, ((members.len() + 2) * plain.len()) as u64);
        extract_at(&archive[..], Dialect::Auto, placed.path(), &options(threads)).unwrap();
        for dir in [piped, placed] {
            let files = tree(dir.path());
            assert_eq!(files.len(), members.len());
            assert!(files.values().all(|data| data.chunks(plain.len()).all(|data| data == plain)));
        }
    }
}

#[test]
fn sparse_chunks_of_such_an_archive_are_read_in_order() {
    let data = noise(LARGE, 9);
    let archive = [
        payload(b"t", 0, &data),
        sparse(b"t", LARGE as u64, &[(4096, LARGE as u32), (4096, 0)], &data),
        end(b"t"),
    ]
    .concat();
    let target = tempfile::tempdir().unwrap();
    extract_at(&archive[..], Dialect::Auto, target.path(), &options(2)).unwrap();
    let hole = [0; 4096];
    assert!(tree(target.path())["t"] == [&data[..], &hole, &data, &hole].concat());
}

/// The failures of a stream and of the same bytes read at several places, in words.
fn failures(archive: &[u8]) -> [Option<String>; 2] {
    let fresh = || tempfile::tempdir().unwrap();
    let (one, other) = (fresh(), fresh());
    let stream = xbstream::extract(Reader::new(archive), one.path(), &options(1));
    let placed = extract_at(archive, Dialect::Auto, other.path(), &options(3));
    for target in [one, other] {
        assert!(tree(target.path()).keys().all(|name| !name.ends_with(".partial")));
    }
    [stream, placed].map(|result| result.err().map(|error| format!("{error:?}")))
}

#[test]
fn damage_is_the_same_error_as_in_a_stream() {
    let frame = encode::zstd(&noise(LARGE, 1), 1 << 20, true);
    let parts = [
        file(b"a", &noise(LARGE, 5)),
        payload(b"d/b", 0, &noise(LARGE, 6)),
        file(b"m.zst", &frame),
        file(b"small", b"x"),
        payload(b"d/b", LARGE as u64, &noise(LARGE, 7)),
        end(b"d/b"),
        file(b"c", &noise(LARGE, 8)),
    ];
    let archive = parts.concat();
    let mut at = 0;
    let mut places = Vec::new();
    for part in &parts {
        // Everything before the payload, and some of it.
        places.extend((at..at + part.len().min(60)).chain([at + part.len() / 2, at + part.len() - 1]));
        at += part.len();
    }
    let mut checksums = 0;
    for place in places {
        let mut damaged = archive.clone();
        damaged[place] ^= 0x21;
        // A second one behind it changes nothing.
        let last = damaged.len() - 100;
        damaged[last] ^= 1;
        let [stream, placed] = failures(&damaged);
        assert_eq!(placed, stream, "byte {place}");
        assert!(stream.is_some());
        checksums += usize::from(stream.is_some_and(|error| error.starts_with("Checksum")));
        let [stream, placed] = failures(&archive[..place]);
        assert_eq!(placed, stream, "cut at {place}");
    }
    assert!(checksums > 10);
}

#[test]
fn checksum_of_a_payload_counts_for_more_than_what_a_decoder_says_of_it() {
    // In frames, so that others decode long before all of the payload was read.
    for (name, data) in members(&rows(2_000_000)) {
        let mut archive = file(name.as_bytes(), &data);
        let place = archive.len() - data.len();
        archive[place] ^= 0x40;
        let target = tempfile::tempdir().unwrap();
        let error = extract_at(&archive[..], Dialect::Auto, target.path(), &options(3)).unwrap_err();
        assert!(
            matches!(&error, Error::Checksum { path, at: 0, .. } if path == Path::new(name)),
            "{error:?}"
        );
        assert!(tree(target.path()).is_empty());
    }
}

#[test]
fn damaged_piece_of_a_member_is_the_same_error_as_decoding_in_order_gives() {
    let key = Key::new(Algorithm::Aes256, vec![7; 32].into()).unwrap();
    let decoding = Decoding::none().decompress(true).decrypt(key);
    for (name, data) in members(&rows(1_500_000)) {
        for place in [data.len() / 3, data.len() / 2 + 7, data.len() - 30] {
            let mut damaged = data.clone();
            damaged[place] ^= 0x55;
            let expected = decode(Path::new(name), &decoding, &damaged[..], io::sink()).err();
            let archive = file(name.as_bytes(), &damaged);
            let target = tempfile::tempdir().unwrap();
            let found = match extract_at(&archive[..], Dialect::Auto, target.path(), &options(3)) {
                Err(Error::Member { source, .. }) => Some(source),
                Ok(_) => None,
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{name} at {place}");
            assert_eq!(tree(target.path()).is_empty(), found.is_some());
        }
    }
}

#[test]
fn source_that_fails_or_lies_ends_the_extraction() {
    /// Fails, or claims more than there was room for, at the `n`th read.
    struct Bad(Vec<u8>, AtomicU64, u64, bool);
    impl ReadAt for Bad {
        fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
            match (self.1.fetch_add(1, Ordering::Relaxed) == self.2, self.3) {
                (false, _) => self.0[..].read_at(out, position),
                (true, true) => Ok(out.len() + 1),
                (true, false) => Err(io::Error::other("gone")),
            }
        }
    }
    let archive = (0..4).flat_map(|i| file(format!("f{i}").as_bytes(), &noise(LARGE, i))).collect::<Vec<_>>();
    for (at, lies) in (0..6).flat_map(|at| [(at, false), (at, true)]) {
        let target = tempfile::tempdir().unwrap();
        let source = Bad(archive.clone(), AtomicU64::new(0), at, lies);
        let error = extract_at(&source, Dialect::Auto, target.path(), &options(2)).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error:?}");
        assert!(tree(target.path()).keys().all(|name| !name.ends_with(".partial")));
    }
}

#[test]
fn payload_longer_than_any_file_is_a_cut() {
    let mut archive = file(b"a", b"1");
    let at = archive.len() as u64 + 14 + 1 + 20;
    archive.extend([head(b'P', 0, b"b"), (i64::MAX as u64).to_le_bytes().to_vec(), vec![0; 12]].concat());
    let target = tempfile::tempdir().unwrap();
    let error = extract_at(&archive[..], Dialect::Auto, target.path(), &options(2)).unwrap_err();
    assert!(matches!(error, Error::Truncated { offset, .. } if offset == at), "{error:?}");
}
