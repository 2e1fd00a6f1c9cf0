//! A backup lands in the same place whatever form it comes in.

mod common;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use backup_unpack::{Class, Error, Format, Layout, Options, Progress, Source, unpack};
use common::{Lab, NAME, ONE, PASSWORD, TWO, encrypt, names, quick, tar, tree};
use secrecy::SecretString;

fn password() -> Option<SecretString> {
    Some(SecretString::from(PASSWORD))
}

/// A `Read` that gives 1 to 20 bytes at a time.
struct Trickle<R> {
    input: R,
    next: usize,
}

impl<R: Read> Read for Trickle<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next = self.next % 20 + 1;
        let most = buffer.len().min(self.next);
        self.input.read(&mut buffer[..most])
    }
}

#[test]
fn folder_is_unpacked_and_stays_as_it_was() {
    let lab = Lab::new();
    let before = tree(&lab.path("store"));
    let source = Source::from_path(&lab.backup(), Format::Auto, None).unwrap();
    let report = unpack(source, &lab.layout(), &Options::default(), &Progress::default()).unwrap();
    lab.assert_unpacked("folder");
    assert!(tree(&lab.path("store")) == before);

    assert_eq!(report.source, "folder");
    assert_eq!(report.servers[ONE].directory, lab.path("data/one"));
    assert_eq!((report.servers[ONE].files, report.servers[ONE].decoded), (4, 1));
    assert_eq!(report.servers[ONE].bytes, 100_000 + common::checkpoints().len() as u64);
    assert_eq!(report.base.as_ref().unwrap().directory, lab.path("base/mysql-8.0.26"));
    assert_eq!(report.small_files.files, 7);
    assert!(report.servers_skipped.is_empty());
    let sum: u64 = report.servers.values().map(|s| s.bytes).sum();
    assert_eq!(report.bytes_written, sum + report.base.as_ref().unwrap().bytes + report.small_files.bytes);
    assert!(report.process_io.is_some());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["servers"][TWO]["files"], 4);
}

#[test]
fn servers_of_a_folder_can_be_extracted_side_by_side() {
    let lab = Lab::new();
    let mut options = quick();
    options.parallel = 8;
    unpack(Source::Folder(lab.backup()), &lab.layout(), &options, &Progress::default()).unwrap();
    lab.assert_unpacked("parallel");
}

#[test]
fn every_form_of_archive_gives_the_same() {
    let lab = Lab::new();
    let with_name = lab.tar_with_name();
    let without_name = lab.tar_without_name();
    let dotted = tar(&lab.backup(), &["-cf", "-", "."]);
    let pax = tar(&lab.path("store"), &["--format=posix", "-cf", "-", NAME]);
    let ustar = tar(&lab.path("store"), &["--format=ustar", "-cf", "-", NAME]);
    for (case, bytes) in [
        ("with the name", &with_name),
        ("without the name", &without_name),
        ("dotted", &dotted),
        ("pax", &pax),
        ("ustar", &ustar),
        ("encrypted", &encrypt(&without_name)),
        ("encrypted with the name", &encrypt(&with_name)),
    ] {
        for pieces in [false, true] {
            let input: Box<dyn Read> =
                if pieces { Box::new(Trickle { input: &bytes[..], next: 0 }) } else { Box::new(&bytes[..]) };
            let source = Source::from_reader(input, Format::Auto, password()).unwrap();
            let report = unpack(source, &lab.layout(), &quick(), &Progress::default()).unwrap();
            lab.assert_unpacked(case);
            assert_eq!(report.bytes_read, bytes.len() as u64, "{case}");
            lab.clear();
        }
    }
}

#[test]
fn members_with_long_names_are_unpacked() {
    let lab = Lab::new();
    let long = format!("{ONE}/{}", "n".repeat(200));
    fs::write(lab.backup().join(&long), "long").unwrap();
    for format in ["gnu", "posix"] {
        let bytes = tar(&lab.path("store"), &[&format!("--format={format}"), "-cf", "-", NAME]);
        unpack(Source::Tar(Box::new(&bytes[..])), &lab.layout(), &quick(), &Progress::default()).unwrap();
        assert_eq!(fs::read(lab.work().join(NAME).join(&long)).unwrap(), b"long", "{format}");
        lab.clear();
    }
}

#[test]
fn files_keep_the_time_of_their_last_change() {
    let lab = Lab::new();
    // A fraction that a ustar header cannot hold.
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 500_000_000);
    let path = lab.backup().join("timed");
    fs::write(&path, "x").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let pax = tar(&lab.path("store"), &["--format=posix", "-cf", "-", NAME]);
    let gnu = tar(&lab.path("store"), &["--format=gnu", "-cf", "-", NAME]);
    let whole = time - Duration::from_millis(500);
    let sources = [
        (Source::Folder(lab.backup()), time),
        (Source::Tar(Box::new(&pax[..])), time),
        (Source::Tar(Box::new(&gnu[..])), whole),
    ];
    for (source, expected) in sources {
        unpack(source, &lab.layout(), &quick(), &Progress::default()).unwrap();
        let found = fs::metadata(lab.work().join(NAME).join("timed")).unwrap().modified().unwrap();
        assert_eq!(found, expected);
        lab.clear();
    }
}

#[test]
fn destination_inside_the_backup_that_is_read_is_refused() {
    let lab = Lab::new();
    let before = tree(&lab.path("store"));
    symlink(lab.backup(), lab.path("link")).unwrap();
    for work in [lab.backup(), lab.backup().join("not/there"), lab.path("link"), lab.path("link/x")] {
        let layout = Layout::new(&work, "another");
        let result = unpack(Source::Folder(lab.backup()), &layout, &quick(), &Progress::default());
        assert!(
            matches!(&result, Err(Error::Layout { reason }) if reason.contains("inside the backup")),
            "{result:?}"
        );
    }
    assert!(tree(&lab.path("store")) == before);
}

#[test]
fn server_that_is_not_recovered_is_passed_over() {
    let lab = Lab::new();
    let bytes = lab.tar_with_name();
    let layout = Layout::new(lab.work(), NAME).server(TWO, lab.path("data/two"));
    let from_tar = Source::Tar(Box::new(&bytes[..]));
    for source in [Source::Folder(lab.backup()), from_tar] {
        let report = unpack(source, &layout, &quick(), &Progress::default()).unwrap();
        assert_eq!(report.servers_skipped, [ONE]);
        assert_eq!(report.base, None);
        assert_eq!(names(&lab.path("data")), ["two"]);
        // Its binlogs are wanted all the same: replicas replay those of their master.
        assert!(lab.work().join(NAME).join(ONE).join("greatdb-bin.000041").exists());
        assert!(!lab.work().join(NAME).join("datanode_base/mysql-8.0.26.tar.gz").exists());
        lab.clear();
    }
}

#[test]
fn what_was_asked_for_and_is_not_there_is_an_error() {
    let lab = Lab::new();
    let layout = lab.layout().server("ds_b-other-10.0.0.1-1", lab.path("data/three"));
    let result = unpack(Source::Folder(lab.backup()), &layout, &quick(), &Progress::default());
    assert!(matches!(result, Err(Error::NoStream { servers }) if servers == ["ds_b-other-10.0.0.1-1"]));
    lab.assert_nothing_left("missing server");

    fs::remove_file(lab.backup().join("datanode_base/mysql-8.0.26.tar.gz")).unwrap();
    let result = unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default());
    assert!(matches!(result, Err(Error::NoBase)));
    lab.assert_nothing_left("missing base");
}

#[test]
fn stream_without_checkpoints_is_no_backup() {
    let lab = Lab::new();
    let stream = lab.backup().join(TWO).join("backup.xbsteam");
    let writer = xbstream::Writer::new(Vec::new());
    writer.append("ibdata1", &b"pages"[..]).unwrap();
    for bytes in [writer.finish().unwrap(), Vec::new()] {
        fs::write(&stream, bytes).unwrap();
        let result = unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default());
        assert!(
            matches!(&result, Err(e @ Error::NoCheckpoints { server }) if server == TWO && e.class() == Class::Damaged)
        );
        lab.assert_nothing_left("no checkpoints");
    }
}

#[test]
fn stream_that_the_backup_tool_encrypted_is_not_called_a_broken_one() {
    let lab = Lab::new();
    let writer = xbstream::Writer::new(Vec::new());
    for member in ["ibdata1.xbcrypt", "xtrabackup_checkpoints.xbcrypt"] {
        writer.append(member, &b"secret"[..]).unwrap();
    }
    fs::write(lab.backup().join(TWO).join("backup.xbsteam"), writer.finish().unwrap()).unwrap();
    let error =
        unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("is encrypted by the backup tool"), "{error}");
    assert_eq!(error.class(), Class::Unusable);
    lab.assert_nothing_left("encrypted");
}

#[test]
fn destination_with_something_in_it_is_refused_and_untouched() {
    let lab = Lab::new();
    for place in ["data/one", "base", &format!("work/{NAME}")] {
        let file = lab.path(place).join("mine");
        fs::create_dir_all(lab.path(place)).unwrap();
        fs::write(&file, "mine").unwrap();
        let result = unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default());
        assert!(
            matches!(&result, Err(e @ Error::Exists { .. }) if e.class() == Class::Usage),
            "{place}: {result:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        lab.clear();
    }
}

#[test]
fn empty_and_linked_destinations_are_filled() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("data/one")).unwrap();
    fs::create_dir_all(lab.path("data/elsewhere")).unwrap();
    symlink("elsewhere", lab.path("data/two")).unwrap();
    unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default()).unwrap();
    lab.assert_unpacked("empty and linked");
    assert!(lab.path("data/elsewhere/ibdata1").exists());
}

#[test]
fn leftover_of_a_killed_run_is_removed() {
    let lab = Lab::new();
    let leftover = lab.path("data/one.unpack-partial");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("ibdata1"), "half").unwrap();
    unpack(Source::Folder(lab.backup()), &lab.layout(), &quick(), &Progress::default()).unwrap();
    lab.assert_unpacked("leftover");
    assert_eq!(names(&lab.path("data")), ["one", "two"]);
}

#[test]
fn destinations_in_each_others_way_are_refused() {
    let lab = Lab::new();
    for layout in [
        Layout::new(lab.work(), NAME).server(ONE, lab.work().join(NAME).join("one")),
        Layout::new(lab.work(), NAME).server(ONE, lab.path("x")).server(TWO, lab.path("x")),
        Layout::new(lab.work(), NAME).server(ONE, lab.path("x")).base(lab.path("x/y")),
        Layout::new(lab.work(), "../up"),
        Layout::new(lab.work(), ""),
        Layout::new(lab.work(), NAME).server("a/b", lab.path("x")),
    ] {
        let result = unpack(Source::Folder(lab.backup()), &layout, &quick(), &Progress::default());
        assert!(
            matches!(&result, Err(e @ Error::Layout { .. }) if e.class() == Class::Usage),
            "{layout:?}: {result:?}"
        );
        lab.assert_nothing_left("layout");
    }
}

#[test]
fn stopped_work_leaves_nothing() {
    struct StopAt<'a> {
        input: &'a [u8],
        progress: &'a Progress,
        left: usize,
    }
    impl Read for StopAt<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1000);
            let read = self.input.read(&mut buffer[..most])?;
            self.left = self.left.saturating_sub(read);
            if self.left == 0 {
                self.progress.stop();
            }
            Ok(read)
        }
    }
    let lab = Lab::new();
    let bytes = lab.tar_with_name();
    for after in [0, 5_000, 60_000, bytes.len() - 20_000] {
        let progress = Progress::default();
        let input = StopAt { input: &bytes, progress: &progress, left: after };
        let result = unpack(Source::Tar(Box::new(input)), &lab.layout(), &quick(), &progress);
        assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
        lab.assert_nothing_left("stop");
    }
}

#[test]
fn input_that_fails_is_an_error_of_reading() {
    let lab = Lab::new();
    let bytes = encrypt(&lab.tar_without_name());
    for at in [100, 400, 30_000, bytes.len() - 1] {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let input = bytes[..at].chain(Broken);
        let result = Source::from_reader(input, Format::EncryptedTar, password())
            .and_then(|source| unpack(source, &lab.layout(), &quick(), &Progress::default()));
        assert!(
            matches!(&result, Err(Error::Read(e) | Error::Decrypt(aescrypt::Error::Read(e)))
                if e.kind() == io::ErrorKind::ConnectionReset),
            "{at}: {result:?}"
        );
        assert_ne!(result.unwrap_err().class(), Class::Damaged);
        lab.assert_nothing_left("broken input");
    }
}

#[test]
fn only_what_is_wanted_is_written_and_everything_is_checked() {
    let lab = Lab::new();
    let is_binlog = |path: &std::path::Path| path.extension().is_some_and(|number| number == "000041");
    let layout = || Layout::new(lab.work(), NAME).only(is_binlog);
    let archive = encrypt(&tar(&lab.path("store"), &["-cf", "-", NAME]));
    for folder in [false, true] {
        let source = match folder {
            true => Source::Folder(lab.backup()),
            false => Source::from_reader(&archive[..], Format::EncryptedTar, password()).unwrap(),
        };
        let report = unpack(source, &layout(), &quick(), &Progress::default()).unwrap();
        assert_eq!((report.small_files.files, report.small_files.bytes), (1, 9000), "folder: {folder}");
        let written: Vec<_> = tree(&lab.work().join(NAME)).into_keys().collect();
        assert_eq!(written, [ONE.to_owned(), format!("{ONE}/greatdb-bin.000041")]);
        fs::remove_dir_all(lab.work()).unwrap();
    }
    let mut damaged = archive.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for archive in [&damaged[..], &archive[..archive.len() - 600]] {
        let source = Source::from_reader(archive, Format::EncryptedTar, password()).unwrap();
        let error = unpack(source, &layout(), &quick(), &Progress::default()).unwrap_err();
        assert_eq!(error.class(), Class::Damaged, "{error}");
        assert!(names(&lab.work()).is_empty());
    }
    let layout = layout().server(ONE, lab.path("data"));
    let source = Source::Folder(lab.backup());
    let error = unpack(source, &layout, &quick(), &Progress::default()).unwrap_err();
    assert!(matches!(error, Error::Layout { .. }), "{error}");
}
