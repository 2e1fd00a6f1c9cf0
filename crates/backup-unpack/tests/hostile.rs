//! Backups that are damaged, cut, or made to do harm: a named error, nothing left, nothing outside.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use backup_unpack::{Class, Error, Format, Layout, Progress, Refusal, Report, Source, unpack};
use common::{
    Lab, NAME, ONE, PASSWORD, archive, encrypt, gzip, member, quick, set_link, set_name, tar, tree,
};
use secrecy::SecretString;
use tar::EntryType;

/// Unpacks a tar into `work`, with no server and no base.
fn plain(lab: &Lab, bytes: &[u8]) -> Result<Report, Error> {
    let layout = Layout::new(lab.work(), NAME);
    unpack(Source::Tar(Box::new(bytes)), &layout, &quick(), &Progress::default())
}

/// Unpacks a tar as a base directory.
fn base(lab: &Lab, bytes: &[u8]) -> Result<Report, Error> {
    let outer = archive(&[member(|h| set_name(h, b"datanode_base/x.tar.gz"), &gzip(bytes))]);
    let layout = Layout::new(lab.work(), NAME).base(lab.path("base"));
    unpack(Source::Tar(Box::new(&outer[..])), &layout, &quick(), &Progress::default())
}

fn refusal(result: &Result<Report, Error>) -> Option<Refusal> {
    match result {
        Err(Error::Refused { why, .. }) => Some(*why),
        Err(Error::Base { source, .. }) => match **source {
            Error::Refused { why, .. } => Some(why),
            _ => None,
        },
        _ => None,
    }
}

fn file(name: &[u8]) -> Vec<u8> {
    member(|h| set_name(h, name), b"contents")
}

fn link(kind: EntryType, name: &[u8], target: &[u8]) -> Vec<u8> {
    member(
        |h| {
            set_name(h, name);
            set_link(h, kind, target);
        },
        b"",
    )
}

fn of_kind(kind: EntryType) -> Vec<u8> {
    member(
        |h| {
            set_name(h, b"top/x");
            h.set_entry_type(kind);
        },
        b"",
    )
}

#[test]
fn members_that_could_do_harm_are_refused_by_name() {
    let lab = Lab::new();
    let outside = lab.path("outside");
    fs::write(&outside, "untouched").unwrap();
    let outside = outside.to_str().unwrap().as_bytes();
    let long = member(
        |h| {
            set_name(h, b"././@LongLink");
            h.set_entry_type(EntryType::GNULongName);
            h.set_size(1 << 40);
        },
        b"",
    );
    let pax_sparse = member(
        |h| {
            set_name(h, b"pax");
            h.set_entry_type(EntryType::XHeader);
        },
        b"22 GNU.sparse.major=1\n",
    );
    for (members, why) in [
        (vec![file(outside)], Refusal::Absolute),
        (vec![file(b"../outside")], Refusal::Parent),
        (vec![file(b"top/../../outside")], Refusal::Parent),
        (vec![of_kind(EntryType::Char)], Refusal::Device),
        (vec![of_kind(EntryType::Block)], Refusal::Device),
        (vec![of_kind(EntryType::Fifo)], Refusal::Pipe),
        (vec![of_kind(EntryType::new(b'V'))], Refusal::UnknownKind),
        (vec![of_kind(EntryType::GNUSparse)], Refusal::Sparse),
        (vec![pax_sparse, file(b"top/x")], Refusal::Sparse),
        (vec![link(EntryType::Symlink, b"top/x", outside)], Refusal::LinkLeaves),
        (vec![link(EntryType::Symlink, b"top/x", b"../../outside")], Refusal::LinkLeaves),
        (vec![link(EntryType::Symlink, b"top/x", b"y/../../../outside")], Refusal::LinkLeaves),
        (vec![link(EntryType::Link, b"top/x", outside)], Refusal::LinkLeaves),
        (vec![link(EntryType::Link, b"top/x", b"../outside")], Refusal::LinkLeaves),
        (vec![link(EntryType::Link, b"top/x", b"top/none")], Refusal::LinkTarget),
        (
            vec![link(EntryType::Symlink, b"top/l", b"x"), link(EntryType::Link, b"top/x", b"top/l")],
            Refusal::LinkTarget,
        ),
        (vec![link(EntryType::Symlink, b"top/l", b"."), file(b"top/l/x")], Refusal::NotADirectory),
        (vec![file(b"top/l"), file(b"top/l/x")], Refusal::NotADirectory),
        (vec![file(b"top/x"), file(b"./top//x")], Refusal::Twice),
        (vec![link(EntryType::Symlink, b"top/x", b"y"), file(b"top/x")], Refusal::Twice),
        (vec![long], Refusal::TooLong),
    ] {
        let bytes = archive(&members);
        for result in [plain(&lab, &bytes), base(&lab, &bytes)] {
            assert_eq!(refusal(&result), Some(why), "{result:?}");
            assert_eq!(result.unwrap_err().class(), Class::Damaged);
            assert_eq!(fs::read(lab.path("outside")).unwrap(), b"untouched");
            fs::remove_file(lab.path("outside")).unwrap();
            lab.assert_nothing_left(&format!("{why:?}"));
            fs::write(lab.path("outside"), "untouched").unwrap();
        }
    }
}

#[test]
fn links_in_place_of_a_stream_or_a_tarball_are_refused() {
    let lab = Lab::new();
    for name in [format!("{ONE}/backup.xbsteam"), "datanode_base/x.tar.gz".to_owned()] {
        for kind in [EntryType::Symlink, EntryType::Link] {
            let bytes = archive(&[file(b"x"), link(kind, name.as_bytes(), b"x")]);
            let result = plain(&lab, &bytes);
            assert_eq!(refusal(&result), Some(Refusal::Link), "{result:?}");
        }
    }
    lab.assert_nothing_left("links");
}

#[test]
fn links_in_a_folder_are_refused() {
    let lab = Lab::new();
    symlink("/etc/hostname", lab.backup().join("calcnode_base/link")).unwrap();
    let result = unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default());
    assert_eq!(refusal(&result), Some(Refusal::Link), "{result:?}");
    lab.assert_nothing_left("link in folder");
}

#[test]
fn real_sparse_members_are_refused() {
    let lab = Lab::new();
    let sparse = fs::File::create(lab.backup().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    for format in ["gnu", "posix"] {
        let bytes = tar(&lab.path("store"), &["-S", &format!("--format={format}"), "-cf", "-", NAME]);
        let result = plain(&lab, &bytes);
        assert_eq!(refusal(&result), Some(Refusal::Sparse), "{format}: {result:?}");
    }
}

#[test]
fn setuid_is_dropped_and_reported() {
    let lab = Lab::new();
    let bytes = archive(&[member(
        |h| {
            set_name(h, b"top/auth_pam_tool");
            h.set_mode(0o4755);
        },
        b"tool",
    )]);
    let report = base(&lab, &bytes).unwrap();
    assert_eq!(report.mode_bits_dropped, ["top/auth_pam_tool"]);
    assert_eq!(fs::metadata(lab.path("base/top/auth_pam_tool")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn tarball_of_the_base_directory_holds_exactly_one_folder() {
    let lab = Lab::new();
    for (members, found) in [
        (vec![file(b"a/x"), file(b"b/x")], &["a", "b"][..]),
        (vec![file(b"a/x"), file(b"README")], &["README", "a"]),
        (vec![file(b"README")], &["README"]),
        (vec![], &[]),
    ] {
        let result = base(&lab, &archive(&members));
        let Err(Error::Base { source, .. }) = &result else { panic!("{result:?}") };
        assert!(matches!(&**source, Error::BaseFolders { found: f } if f == found), "{result:?}");
        lab.assert_nothing_left("base folders");
    }
}

#[test]
fn second_tarball_and_second_stream_are_refused() {
    let lab = Lab::new();
    let tarball = gzip(&archive(&[file(b"top/x")]));
    let tarball = |name: &[u8]| member(|h| set_name(h, name), &tarball);
    let bytes = archive(&[tarball(b"datanode_base/x.tar.gz"), tarball(b"datanode_base/y.tar.gz")]);
    let layout = Layout::new(lab.work(), NAME).base(lab.path("base"));
    let result = unpack(Source::Tar(Box::new(&bytes[..])), &layout, &quick(), &Progress::default());
    assert_eq!(refusal(&result), Some(Refusal::Twice), "{result:?}");

    let name = format!("{ONE}/backup.xbsteam");
    let stream = || member(|h| set_name(h, name.as_bytes()), &common::stream(1));
    let bytes = archive(&[stream(), stream()]);
    let layout = Layout::new(lab.work(), NAME).server(ONE, lab.path("data/one"));
    let result = unpack(Source::Tar(Box::new(&bytes[..])), &layout, &quick(), &Progress::default());
    assert_eq!(refusal(&result), Some(Refusal::Twice), "{result:?}");
    lab.assert_nothing_left("twice");
}

/// A small backup: one server, one file, no base.
fn small() -> Vec<u8> {
    let writer = xbstream::Writer::new(Vec::new());
    writer.append("xtrabackup_checkpoints", common::checkpoints()).unwrap();
    let stream = writer.finish().unwrap();
    archive(&[member(|h| set_name(h, format!("{ONE}/backup.xbsteam").as_bytes()), &stream), file(b"my.conf")])
}

fn unpack_small(lab: &Lab, bytes: &[u8]) -> Result<Report, Error> {
    let layout = Layout::new(lab.work(), NAME).server(ONE, lab.path("data/one"));
    let password = Some(SecretString::from(PASSWORD));
    let source = Source::from_reader(bytes, Format::Auto, password)?;
    unpack(source, &layout, &quick(), &Progress::default())
}

#[test]
fn archive_cut_anywhere_is_an_error_and_leaves_nothing() {
    let lab = Lab::new();
    let whole = small();
    unpack_small(&lab, &whole).unwrap();
    lab.clear();
    for length in 0..whole.len() {
        let error = unpack_small(&lab, &whole[..length]).unwrap_err();
        match length {
            1..262 => assert!(matches!(error, Error::UnknownFormat), "{length}: {error:?}"),
            _ => assert!(
                matches!(error, Error::Truncated { offset } if offset == length as u64),
                "{length}: {error:?}"
            ),
        }
        assert_eq!(error.class(), Class::Damaged);
        lab.assert_nothing_left(&length.to_string());
    }
}

#[test]
fn encrypted_archive_cut_or_changed_anywhere_is_an_error_and_leaves_nothing() {
    let lab = Lab::new();
    let whole = encrypt(&small());
    let body = whole.len() - 33 - small().len();
    unpack_small(&lab, &whole).unwrap();
    lab.clear();
    for length in (0..whole.len()).step_by(7) {
        let error = unpack_small(&lab, &whole[..length]).unwrap_err();
        match length {
            0 => assert!(matches!(error, Error::Truncated { offset: 0 }), "{error:?}"),
            _ => assert!(matches!(error, Error::UnknownFormat | Error::Decrypt(_)), "{length}: {error:?}"),
        }
        assert_eq!(error.class(), Class::Damaged);
        lab.assert_nothing_left(&length.to_string());
    }
    for at in (body..whole.len()).filter(|at| at % 5 == 0 && *at != whole.len() - 33) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        let error = unpack_small(&lab, &bytes).unwrap_err();
        // The plaintext is provisional: what it breaks may be seen before the HMAC is.
        assert_eq!(error.class(), Class::Damaged, "{at}: {error:?}");
        lab.assert_nothing_left(&at.to_string());
    }
    let mut bytes = whole.clone();
    let last_block = whole.len() - 34;
    bytes[last_block] ^= 1;
    let error = unpack_small(&lab, &bytes).unwrap_err();
    assert_eq!(error.class(), Class::Damaged, "{error:?}");
}

#[test]
fn changed_byte_of_an_archive_never_leaves_half_of_it() {
    let lab = Lab::new();
    let whole = small();
    let mut noticed = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        match unpack_small(&lab, &bytes) {
            Err(error) => {
                assert!(
                    error.class() == Class::Damaged || matches!(error, Error::NoStream { .. }),
                    "{at}: {error:?}"
                );
                lab.assert_nothing_left(&at.to_string());
                noticed += 1;
            }
            // A tar checks its headers only: a change in a small file's contents goes unseen.
            Ok(_) => lab.clear(),
        }
    }
    // All headers, the whole stream and the end mark.
    assert!(noticed > whole.len() - 1100, "{noticed} of {}", whole.len());
}

#[test]
fn data_behind_the_end_and_a_lone_zero_block_are_damage() {
    let lab = Lab::new();
    let mut bytes = small();
    bytes.extend_from_slice(&file(b"late"));
    let result = unpack_small(&lab, &bytes);
    assert!(matches!(result, Err(Error::Archive { what: "data behind the end mark", .. })), "{result:?}");
    let mut bytes = file(b"a");
    bytes.extend_from_slice(&[0; 512]);
    bytes.extend_from_slice(&archive(&[file(b"b")]));
    let result = plain(&lab, &bytes);
    assert!(matches!(result, Err(Error::Archive { what: "a single zero block", .. })), "{result:?}");
    lab.assert_nothing_left("end");
}

#[test]
fn damaged_tarball_of_the_base_directory_is_named() {
    let lab = Lab::new();
    let whole = gzip(&archive(&[file(b"top/x")]));
    let mut flipped = whole.clone();
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    for bytes in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &whole[..5], b"", &flipped] {
        let outer = archive(&[member(|h| set_name(h, b"datanode_base/x.tar.gz"), bytes)]);
        let layout = Layout::new(lab.work(), NAME).base(lab.path("base"));
        let result = unpack(Source::Tar(Box::new(&outer[..])), &layout, &quick(), &Progress::default());
        let Err(error @ Error::Base { .. }) = &result else { panic!("{result:?}") };
        assert_eq!(error.class(), Class::Damaged);
        lab.assert_nothing_left("gzip");
    }
}

#[test]
fn wrong_password_no_password_and_foreign_input_are_told_apart() {
    let lab = Lab::new();
    let bytes = encrypt(&small());
    let layout = Layout::new(lab.work(), NAME);
    let source = Source::EncryptedTar(Box::new(&bytes[..]), SecretString::from("wrong"));
    let result = unpack(source, &layout, &quick(), &Progress::default());
    assert!(matches!(&result, Err(Error::Decrypt(aescrypt::Error::WrongPassword))), "{result:?}");
    let result = Source::from_reader(&bytes[..], Format::Auto, None);
    assert!(matches!(&result, Err(e @ Error::NoPassword) if e.class() == Class::Usage));
    let result = Source::from_reader(&b"PK\x03\x04"[..], Format::Auto, None);
    assert!(matches!(result, Err(Error::UnknownFormat)));
    lab.assert_nothing_left("password");
    assert!(!tree(lab.dir.path()).is_empty());
}
