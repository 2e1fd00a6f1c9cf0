//! Archives that must be refused: each by its error, and with nothing left that looks complete.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{end, extract, extract_to, file, flagged, head, payload, remove, rename, seek, sparse, tree};
use xbstream::member::{DecodeError, Decoding, Key};
use xbstream::{Class, Dialect, Error, ExtractOptions, Part, Reader, Unsafe, list};

/// Extracts and expects an error that matches.
macro_rules! refused {
    ($archive:expr, $error:pat $(if $guard:expr)?) => {{
        let (result, files) = extract(&$archive.concat(), &ExtractOptions::new());
        match result {
            Err($error) $(if $guard)? => {}
            other => panic!("{other:?}"),
        }
        assert!(files.keys().all(|name| !name.ends_with(".partial")), "{files:?}");
        files
    }};
}

#[test]
fn file_without_its_end_is_named() {
    let files = refused!(
        [file(b"whole", b"1"), payload(b"b", 0, b"x"), payload(b"a", 0, b"x")],
        Error::MissingEnd { paths, count: 2 } if paths == [Path::new("a"), Path::new("b")]
    );
    assert_eq!(files.keys().collect::<Vec<_>>(), ["whole"]);
}

#[test]
fn gap_and_overlap_are_out_of_order() {
    let order = |from, to| [payload(b"a", 0, b"12345"), payload(b"a", from, b"x"), payload(b"a", to, b"x")];
    refused!(order(9, 10), Error::OutOfOrder { expected: 5, found: 9, .. });
    refused!(order(5, 4), Error::OutOfOrder { expected: 6, found: 4, .. });
}

#[test]
fn file_that_does_not_begin_at_its_beginning_is_out_of_order() {
    refused!([payload(b"a", 1, b"x"), end(b"a")], Error::OutOfOrder { expected: 0, found: 1, .. });
}

#[test]
fn same_file_twice_is_a_duplicate() {
    refused!([file(b"d/a", b"1"), file(b"d/a", b"2")], Error::Duplicate { path } if path == Path::new("d/a"));
    refused!([end(b"a"), end(b"a")], Error::Duplicate { .. });
}

#[test]
fn two_members_of_one_name_once_decoded_are_a_duplicate() {
    let options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    let archive = [file(b"a", b"1"), end(b"a.zst")].concat();
    assert!(
        matches!(extract(&archive, &options).0, Err(Error::Duplicate { path }) if path == Path::new("a.zst"))
    );
    assert!(extract(&archive, &ExtractOptions::new()).0.is_ok());
}

#[test]
fn unsafe_names_are_refused_with_their_rule() {
    for (name, rule) in [
        ("/abs", Unsafe::Absolute),
        ("../x", Unsafe::Parent),
        ("d/../../x", Unsafe::Parent),
        ("./a", Unsafe::NotPlain),
        ("d//a", Unsafe::NotPlain),
        ("d/", Unsafe::NotPlain),
        ("", Unsafe::Empty),
        ("a\0b", Unsafe::Nul),
    ] {
        for chunk in [end(name.as_bytes()), file(name.as_bytes(), b"x"), remove(name.as_bytes())] {
            let files = refused!([chunk], Error::UnsafePath { why, .. } if why == rule);
            assert!(files.is_empty());
        }
        refused!([file(b"a", b"x"), rename(b"a", name.as_bytes())], Error::UnsafePath { why, .. } if why == rule);
    }
}

#[test]
fn name_that_is_unsafe_only_once_decoded_is_refused() {
    let decoding = Decoding::none().decompress(true);
    let options = ExtractOptions::new().decoding(decoding);
    let (result, files) = extract(&[end(b"d/..qp")].concat(), &options);
    assert!(matches!(result, Err(Error::UnsafePath { why: Unsafe::NotPlain, .. })), "{result:?}");
    assert!(files.is_empty());
}

#[test]
fn file_that_was_there_before_is_kept() {
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("a"), "mine").unwrap();
    let options = ExtractOptions::new();
    for archive in [
        file(b"a", b"theirs"),
        flagged(2, b"a", 0, b"theirs"),
        [file(b"b", b"x"), rename(b"b", b"a")].concat(),
    ] {
        let result = extract_to(&[archive, end(b"a")].concat(), target.path(), &options);
        assert!(
            matches!(result, Err(Error::Exists { ref path } | Error::Duplicate { ref path }) if path == Path::new("a")),
            "{result:?}"
        );
        let _ = fs::remove_file(target.path().join("b"));
        assert_eq!(tree(target.path())["a"], b"mine");
    }
    // A removal is of what the stream has sent, and of nothing else.
    extract_to(&remove(b"a"), target.path(), &options).unwrap();
    extract_to(&rename(b"a", b"z"), target.path(), &options).unwrap();
    assert_eq!(tree(target.path()), [("a".to_owned(), b"mine".to_vec())].into());
}

#[test]
fn symbolic_links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    symlink(outside.path(), target.path().join("d")).unwrap();
    symlink(outside.path().join("new"), target.path().join("f")).unwrap();
    symlink(outside.path().join("new"), target.path().join("g.partial")).unwrap();
    let options = ExtractOptions::new();
    let result = extract_to(&file(b"d/a", b"x"), target.path(), &options);
    assert!(matches!(result, Err(Error::Symlink { path }) if path == Path::new("d")));
    let result = extract_to(&file(b"d/e/a", b"x"), target.path(), &options);
    assert!(matches!(result, Err(Error::Symlink { .. })));
    for name in [b"f", b"g"] {
        assert!(matches!(extract_to(&file(name, b"x"), target.path(), &options), Err(Error::Exists { .. })));
    }
    let archive = [file(b"a", b"x"), rename(b"a", b"d/a")].concat();
    assert!(matches!(extract_to(&archive, target.path(), &options), Err(Error::Symlink { .. })));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn file_where_a_directory_is_needed_is_named() {
    refused!([file(b"a", b"x"), file(b"a/b", b"x")], Error::NotADirectory { path } if path == Path::new("a"));
    refused!([file(b"a/b", b"x"), file(b"a", b"x")], Error::Exists { path } if path == Path::new("a"));
}

#[test]
fn rename_and_removal_of_an_open_file_are_refused() {
    for chunk in [rename(b"a", b"b"), rename(b"c", b"a"), remove(b"a")] {
        refused!([file(b"c", b"x"), payload(b"a", 0, b"x"), chunk], Error::StillOpen { path } if path == Path::new("a"));
    }
}

#[test]
fn damage_inside_a_chunk_has_its_name() {
    let whole = file(b"abc", b"payload");
    let mut wrong = whole.clone();
    wrong[14 + 3 + 20] ^= 1;
    refused!([wrong], Error::Checksum { at: 0, .. });
    refused!([b"XBSTCK02".to_vec()], Error::Magic { offset: 0 });
    refused!([whole.clone(), b"garbage".to_vec()], Error::Magic { .. });
    refused!([head(b'Z', 0, b"a")], Error::UnknownType { kind: b'Z', .. });
    refused!([head(b'P', 0, &[b'n'; 512])], Error::PathTooLong { len: 512, .. });
    for (cut, part) in [(9, Part::Header), (15, Part::Path), (30, Part::Extent), (40, Part::Payload)] {
        refused!([whole[..cut].to_vec()], Error::Truncated { part: p, .. } if p == part);
    }
}

#[test]
fn extents_past_any_file_are_refused_before_anything_is_allocated() {
    for (len, offset) in [(1_u64 << 63, 0_u64), (u64::MAX, u64::MAX), (1, i64::MAX as u64)] {
        let extent = [len.to_le_bytes(), offset.to_le_bytes()].concat();
        refused!([head(b'P', 0, b"a"), extent, vec![0; 4]], Error::Extent { .. });
    }
    refused!([seek(b"a", 1 << 63), end(b"a")], Error::Extent { .. });
    // The largest that a file may have is accepted and then simply not there.
    let extent = [(i64::MAX as u64).to_le_bytes(), 0_u64.to_le_bytes()].concat();
    refused!([head(b'P', 0, b"a"), extent, vec![0; 4]], Error::Truncated { part: Part::Payload, .. });
}

#[test]
fn sparse_map_that_does_not_cover_its_payload_is_refused() {
    refused!([sparse(b"a", 0, &[(1, 2)], b"abc"), end(b"a")], Error::SparseMap { covered: 2, len: 3, .. });
    refused!([sparse(b"a", 0, &[(1, 4)], b"abc"), end(b"a")], Error::SparseMap { .. });
    // A map of 2^32 - 1 entries is refused for its number, not read.
    let mut huge = head(b'S', 0, b"a");
    huge.extend(u32::MAX.to_le_bytes());
    huge.extend([0; 40]);
    refused!([huge], Error::SparseMap { covered: u64::MAX, .. });
}

#[test]
fn stream_of_both_dialects_is_refused() {
    let (percona, mariadb) = (sparse(b"a", 0, &[(1, 1)], b"x"), flagged(2, b"b", 0, b"x"));
    refused!([percona.clone(), mariadb.clone()], Error::Dialect { .. });
    refused!([percona, rename(b"b", b"c")], Error::UnknownType { kind: b'R', .. });
    refused!([mariadb, end(b"b"), sparse(b"a", 0, &[(1, 1)], b"x"), end(b"a")], Error::Magic { .. });
}

#[test]
fn stream_that_ends_where_the_dialects_differ_is_refused() {
    let cut = seek(b"a", 5);
    refused!([cut.clone()], Error::Dialect { .. });
    for dialect in [Dialect::MariaDb, Dialect::Percona] {
        let result = list(&mut Reader::with_dialect(&cut[..], dialect), |_| {});
        assert!(matches!(result, Err(Error::MissingEnd { .. } | Error::Truncated { .. })), "{result:?}");
    }
    refused!([head(b'R', 1, b"a"), vec![0; 20]], Error::Dialect { .. });
    refused!([head(b'D', 1, b"a")], Error::Dialect { .. });
}

#[test]
fn member_with_holes_or_seeks_is_refused_only_when_it_is_decoded() {
    let archive = [sparse(b"a.zst", 0, &[(1, 1)], b"x"), end(b"a.zst")].concat();
    let options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    assert!(matches!(extract(&archive, &options).0, Err(Error::ScatteredMember { .. })));
    assert_eq!(extract(&archive, &ExtractOptions::new()).1["a.zst"], b"\0x");
}

#[test]
fn member_that_fails_its_check_leaves_no_file() {
    let options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    for name in ["t.ibd.qp", "t.ibd.lz4", "t.ibd.zst"] {
        let archive = [file(b"before", b"1"), file(name.as_bytes(), b"not what it says")].concat();
        let (result, files) = extract(&archive, &options);
        assert!(
            matches!(result, Err(Error::Member { ref path, .. }) if path == Path::new(name)),
            "{result:?}"
        );
        assert!(!files.contains_key("t.ibd") && files.keys().all(|f| !f.ends_with(".partial")), "{files:?}");
    }
}

#[test]
fn wrong_key_is_told_apart_from_damage() {
    let member = common::encode::xbcrypt(3, &[7; 32], b"secret", 4);
    let key = |byte: u8| Key::new("aes256".parse().unwrap(), vec![byte; 32].into()).unwrap();
    let archive = file(b"a.xbcrypt", &member);
    let with = |key| ExtractOptions::new().decoding(Decoding::none().decrypt(key));
    assert_eq!(extract(&archive, &with(key(7))).1["a"], b"secret");
    let (result, files) = extract(&archive, &with(key(8)));
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Member { source: DecodeError::WrongKey { at: 60 }, .. }), "{error:?}");
    assert!(error.class() == Class::Damaged && files.is_empty());
}

#[test]
fn reader_that_failed_stays_failed() {
    let mut archive = file(b"a", b"x");
    let at = archive.len() - 16;
    archive[at] ^= 1;
    let mut reader = Reader::new(&archive[..]);
    reader.next_chunk().unwrap().unwrap();
    assert!(matches!(reader.next_chunk(), Err(Error::Checksum { .. })));
    for _ in 0..3 {
        assert!(matches!(reader.next_chunk(), Err(Error::Failed)));
    }
}

#[test]
fn last_read_of_a_damaged_payload_fails_instead_of_giving_its_bytes() {
    use std::io::Read;
    let mut archive = payload(b"a", 0, b"0123456789");
    *archive.last_mut().unwrap() ^= 1;
    let mut reader = Reader::new(&archive[..]);
    let mut chunk = reader.next_chunk().unwrap().unwrap();
    let mut bytes = [0; 10];
    assert!(chunk.read_exact(&mut bytes).is_err());
}
