//! What comes out of an archive that is as it should be.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use common::{encode, end, extract, file, flagged, payload, remove, rename, seek, sparse, tree};
use xbstream::member::{Algorithm, Decoding, Key};
use xbstream::{Dialect, Entry, ExtractOptions, Extracted, Reader, Writer, list};

/// Expects exactly these files.
fn gives(archive: &[Vec<u8>], files: &[(&str, &[u8])]) -> Extracted {
    let (result, found) = extract(&archive.concat(), &ExtractOptions::new());
    let expected: BTreeMap<_, _> = files.iter().map(|(n, c)| ((*n).to_owned(), c.to_vec())).collect();
    let done = result.unwrap();
    assert_eq!(found, expected);
    done
}

fn key() -> Key {
    Key::new(Algorithm::Aes256, vec![7; 32].into()).unwrap()
}

fn decoding() -> Decoding {
    Decoding::none().decompress(true).decrypt(key())
}

#[test]
fn empty_stream_is_an_archive_of_nothing() {
    assert_eq!(gives(&[], &[]).files, 0);
}

#[test]
fn chunks_of_several_files_may_interleave() {
    let archive = [
        payload(b"d/a", 0, b"12"),
        payload(b"e/f/b", 0, b"x"),
        payload(b"d/a", 2, b"3"),
        end(b"empty"),
        end(b"e/f/b"),
        payload(b"d/a", 3, b""),
        end(b"d/a"),
    ];
    let done = gives(&archive, &[("d/a", b"123"), ("e/f/b", b"x"), ("empty", b"")]);
    assert_eq!((done.files, done.bytes, done.decoded), (3, 4, 0));
    assert_eq!(done.archive, archive.concat().len() as u64);
    assert_eq!(done.dialect, Dialect::Auto);
}

#[test]
fn chunk_of_an_unknown_type_is_passed_over_when_it_is_ignorable() {
    let mut ignorable = flagged(1, b"g", 77, b"whatever");
    ignorable[9] = b'z';
    gives(&[payload(b"g", 0, b"x"), ignorable.clone(), end(b"g")], &[("g", b"x")]);
    // Its checksum counts all the same.
    *ignorable.last_mut().unwrap() ^= 1;
    assert!(extract(&[ignorable, end(b"g")].concat(), &ExtractOptions::new()).0.is_err());
}

#[test]
fn sparse_chunks_leave_holes_on_disk() {
    let hole = 64 << 20;
    let archive = [
        payload(b"t", 0, b"head"),
        sparse(b"t", 4, &[(hole, 3), (hole, 2), (hole, 0)], b"abcde"),
        payload(b"t", 4 + 3 * u64::from(hole) + 5, b"tail"),
        sparse(b"t", 4 + 3 * u64::from(hole) + 9, &[(hole, 0)], b""),
        end(b"t"),
    ];
    let target = tempfile::tempdir().unwrap();
    let done = common::extract_to(&archive.concat(), target.path(), &ExtractOptions::new()).unwrap();
    assert_eq!(done.dialect, Dialect::Percona);
    let path = target.path().join("t");
    let found = fs::metadata(&path).unwrap();
    assert_eq!(found.len(), 4 + 4 * u64::from(hole) + 9);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks on disk", found.blocks());
    let file = fs::File::open(&path).unwrap();
    let at = |offset: u64| {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    assert_eq!(at(0), *b"head");
    assert_eq!(at(4 + u64::from(hole)), *b"abc\0");
    assert_eq!(at(5 + 2 * u64::from(hole)), *b"\0\0de");
    assert_eq!(at(9 + 3 * u64::from(hole)), *b"tail");
}

#[test]
fn sparse_map_may_begin_with_data_and_end_in_a_hole() {
    let done = gives(
        &[sparse(b"t", 0, &[(0, 2), (3, 1), (4, 0)], b"abc"), end(b"t")],
        &[("t", b"ab\0\0\0c\0\0\0\0")],
    );
    assert_eq!(done.bytes, 10);
}

#[test]
fn sparse_map_of_very_many_runs_is_written_in_parts() {
    // Runs of one byte, and more runs without data in a row than one part has.
    let mut runs: Vec<(u32, u32)> = (0..20_000).map(|i| (i % 3, 1)).collect();
    runs.splice(100..100, vec![(1, 0); 30_000]);
    runs.extend(vec![(2, 0); 20_000]);
    let data: Vec<u8> = (0..20_000_u32).map(|i| (i % 255 + 1) as u8).collect();
    let mut expected = Vec::new();
    let mut rest = &data[..];
    for (skip, len) in &runs {
        expected.resize(expected.len() + *skip as usize, 0);
        expected.extend_from_slice(&rest[..*len as usize]);
        rest = &rest[*len as usize..];
    }
    gives(&[sparse(b"t", 0, &runs, &data), end(b"t")], &[("t", &expected)]);
}

#[test]
fn seek_of_mariadb_overwrites_and_does_not_extend() {
    let archive =
        [payload(b"f", 0, b"0123456789"), seek(b"f", 2), payload(b"f", 2, b"xy"), seek(b"f", 99), end(b"f")];
    assert_eq!(gives(&archive, &[("f", b"01xy456789")]).dialect, Dialect::MariaDb);
    // Forward, with data behind it: the hole is part of the file.
    gives(&[seek(b"f", 3), payload(b"f", 3, b"x"), end(b"f")], &[("f", b"\0\0\0x")]);
}

#[test]
fn rewrite_replaces_what_the_stream_sent_before() {
    let archive = [file(b"f", b"long contents"), flagged(2, b"f", 0, b"new"), end(b"f")];
    assert_eq!(gives(&archive, &[("f", b"new")]).files, 2);
    gives(&[flagged(2, b"f", 0, b"new"), end(b"f")], &[("f", b"new")]);
    // On a file that is open it means nothing.
    gives(&[flagged(2, b"f", 0, b"12"), flagged(2, b"f", 2, b"3"), end(b"f")], &[("f", b"123")]);
}

#[test]
fn rename_and_removal_act_on_what_the_stream_sent() {
    gives(&[file(b"d/a", b"x"), rename(b"d/a", b"e/b"), file(b"d/a", b"y")], &[("e/b", b"x"), ("d/a", b"y")]);
    gives(&[file(b"a", b"x"), file(b"b", b"y"), rename(b"a", b"b")], &[("b", b"x")]);
    gives(&[file(b"a", b"x"), remove(b"a"), file(b"a", b"y")], &[("a", b"y")]);
    gives(&[rename(b"never", b"sent"), remove(b"never"), end(b"k")], &[("k", b"")]);
}

#[test]
fn rename_of_a_decoded_member_renames_the_decoded_file() {
    let archive = [file(b"a.zst", &encode::zstd(b"x", 9, true)), rename(b"a.zst", b"b.zst")].concat();
    let (result, files) = extract(&archive, &ExtractOptions::new().decoding(decoding()));
    result.unwrap();
    assert_eq!(files, [("b".to_owned(), b"x".to_vec())].into());
}

#[test]
fn every_ending_and_its_combinations_are_undone_or_left_alone() {
    let plain: Vec<u8> = (0..300_000_u32).flat_map(|i| (i / 7 % 251).to_le_bytes()).collect();
    let crypt = |data: &[u8]| encode::xbcrypt(3, &[7; 32], data, 65536);
    let qp = encode::qpress("another name", &plain, 65536);
    let lz4 = [encode::lz4(&plain[..500_000], 200_000, false), encode::lz4(&plain[500_000..], 900_000, true)]
        .concat();
    let zst =
        [encode::zstd(&plain[..700_000], 100_000, true), encode::zstd(&plain[700_000..], 1 << 20, false)]
            .concat();
    let members = [
        ("d/1.qp", qp.clone()),
        ("d/2.lz4", lz4.clone()),
        ("d/3.zst", zst.clone()),
        ("d/4.xbcrypt", crypt(&plain)),
        ("d/5.qp.xbcrypt", crypt(&qp)),
        ("d/6.lz4.xbcrypt", crypt(&lz4)),
        ("d/7.zst.xbcrypt", crypt(&zst)),
        ("d/8.xbcrypt", encode::xbcrypt(1, &[7; 32], &plain, 4096)),
        ("d/9.xbcrypt", encode::xbcrypt(2, &[7; 32], &plain, 1 << 20)),
    ];
    let archive: Vec<u8> = members.iter().flat_map(|(name, data)| file(name.as_bytes(), data)).collect();

    let (result, files) = extract(&archive, &ExtractOptions::new().decoding(decoding()));
    let done = result.unwrap();
    assert_eq!((done.files, done.decoded, done.bytes), (9, 9, 9 * plain.len() as u64));
    assert_eq!(files.len(), 9);
    assert!((1..=9).all(|i| files[&format!("d/{i}")] == plain));

    let (result, files) = extract(&archive, &ExtractOptions::new());
    assert_eq!(result.unwrap().decoded, 0);
    assert!(members.iter().all(|(name, data)| files[*name] == *data));

    let only_crypt = ExtractOptions::new().decoding(Decoding::none().decrypt(key()));
    assert_eq!(extract(&archive, &only_crypt).1["d/5.qp"], qp);
    let only_compressed = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    assert_eq!(extract(&archive, &only_compressed).1["d/5.qp.xbcrypt"], crypt(&qp));
}

#[test]
fn file_called_like_an_ending_is_no_member() {
    let (result, files) = extract(
        &[file(b".qp", b"x"), file(b"d/.zst", b"y")].concat(),
        &ExtractOptions::new().decoding(decoding()),
    );
    result.unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), [".qp", "d/.zst"]);
}

#[test]
fn more_members_at_once_than_decoders_and_descriptors_are_decoded_all_the_same() {
    let plain = b"some contents ".repeat(20);
    let member = encode::qpress("t", &plain, 100);
    let names: Vec<Vec<u8>> = (0..600).map(|i| format!("d{}/t{i}.qp", i % 80).into_bytes()).collect();
    let mut archive = Vec::new();
    for part in [0..7, 7..100, 100..member.len()] {
        for name in &names {
            archive.extend(payload(name, part.start as u64, &member[part.clone()]));
        }
    }
    archive.extend(names.iter().flat_map(|name| end(name)));
    let (result, files) = extract(&archive, &ExtractOptions::new().decoding(decoding()));
    assert_eq!(result.unwrap().decoded, 600);
    assert_eq!(files.len(), 600);
    assert!(files.iter().all(|(name, data)| *data == plain && !name.contains(".qp")));
}

#[test]
fn threads_do_not_change_what_comes_out() {
    let writer = Writer::with_chunk_size(Vec::new(), 70_000);
    let contents = |i: usize| vec![i as u8; i * 9_973 % 400_000];
    for i in 0..60 {
        writer.append(format!("d{}/{i}", i % 5), &contents(i)[..]).unwrap();
    }
    let archive = writer.finish().unwrap();
    for threads in [1, 2, 7] {
        let target = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let see = Arc::clone(&seen);
        let options = ExtractOptions::new()
            .threads(threads)
            .sync(true)
            .on_file(move |path, size| see.lock().unwrap().push((path.to_owned(), size)));
        xbstream::extract(Reader::new(&archive[..]), target.path(), &options).unwrap();
        let files = tree(target.path());
        assert!((0..60).all(|i| files[&format!("d{}/{i}", i % 5)] == contents(i)));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort();
        assert_eq!(seen.len(), 60);
        assert!(seen.iter().all(|(path, size)| files[path.to_str().unwrap()].len() as u64 == *size));
    }
}

#[test]
fn list_gives_what_extract_does() {
    let archive = [
        file(b"a", b"123"),
        sparse(b"t", 0, &[(0, 2), (3, 1), (4, 0)], b"abc"),
        end(b"t"),
        end(b"../unsafe"),
    ]
    .concat();
    let mut entries = Vec::new();
    let totals = list(&mut Reader::new(&archive[..]), |entry| entries.push(entry)).unwrap();
    assert_eq!((totals.files, totals.bytes, totals.archive), (3, 13, archive.len() as u64));
    assert_eq!(entries[1], Entry::File { path: "t".into(), size: 10, stored: 3, chunks: 1, rewrite: false });
    let archive =
        [file(b"a", b"1"), rename(b"a", b"b"), flagged(2, b"b", 0, b"22"), end(b"b"), remove(b"b")].concat();
    let mut entries = Vec::new();
    list(&mut Reader::new(&archive[..]), |entry| entries.push(entry)).unwrap();
    assert_eq!(
        entries[1..],
        [
            Entry::Rename { from: "a".into(), to: "b".into() },
            Entry::File { path: "b".into(), size: 2, stored: 2, chunks: 1, rewrite: true },
            Entry::Remove { path: "b".into() },
        ]
    );
}

#[test]
fn writer_refuses_what_readers_would() {
    let writer = Writer::new(Vec::new());
    assert!(writer.file("/a").is_err() && writer.file("a/../b").is_err() && writer.file("").is_err());
    assert!(writer.file("n".repeat(512)).is_err());
    writer.append("./a", &b"1"[..]).unwrap();
    assert!(matches!(writer.file("a"), Err(xbstream::Error::Duplicate { .. })));
    let open = writer.file("b").unwrap();
    assert!(matches!(writer.finish(), Err(xbstream::Error::MissingEnd { count: 1, .. })));
    drop(open);
}

#[test]
fn writer_that_failed_does_not_go_on() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("full"));
            }
            self.0 -= 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let writer = Writer::new(Full(1));
    writer.append("a", &b"1"[..]).unwrap();
    assert!(matches!(writer.append("b", &b"1"[..]), Err(xbstream::Error::Write { .. })));
    assert!(matches!(writer.append("c", &b"1"[..]), Err(xbstream::Error::Failed)));
    assert!(writer.finish().is_err());
}

#[test]
fn files_written_at_once_from_several_threads_are_whole() {
    use std::io::Write;
    let writer = Writer::with_chunk_size(Vec::new(), 1000);
    std::thread::scope(|scope| {
        for i in 0..8_u8 {
            let mut file = writer.file(format!("f{i}")).unwrap();
            scope.spawn(move || {
                for _ in 0..500 {
                    file.write_all(&[i; 77]).unwrap();
                }
                assert_eq!(file.finish().unwrap(), 500 * 77);
            });
        }
    });
    let (result, files) = extract(&writer.finish().unwrap(), &ExtractOptions::new());
    assert_eq!(result.unwrap().files, 8);
    assert!((0..8_u8).all(|i| files[&format!("f{i}")] == vec![i; 500 * 77]));
}

#[test]
fn sparse_chunks_that_were_written_are_read() {
    let writer = Writer::new(Vec::new());
    let mut file = writer.file("t").unwrap();
    std::io::Write::write_all(&mut file, b"head").unwrap();
    let runs = [(1, 2), (3, 0)].map(|(skip, len)| xbstream::SparseRun { skip, len });
    file.write_sparse(&runs, b"ab").unwrap();
    std::io::Write::write_all(&mut file, b"tail").unwrap();
    file.finish().unwrap();
    let archive = writer.finish().unwrap();
    assert_eq!(extract(&archive, &ExtractOptions::new()).1["t"], b"head\0ab\0\0\0tail");
}
