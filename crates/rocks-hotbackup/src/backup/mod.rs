//! A backup: rounds of checkpoints, then the server's files, then the manifest.

#[cfg(test)]
mod fake;
mod options;
mod outcome;
mod plan;
mod rounds;
mod server_part;
pub(crate) mod source;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

pub use self::options::Options;
pub use self::outcome::Report;
pub(crate) use self::outcome::{Rounds, ServerPart, outcome};
pub use self::plan::{Plan, plan};
pub use self::source::Locking;
use self::source::Source;
use crate::content::Reading;
use crate::limit::Limiter;
use crate::manifest::{self, Entry, Manifest};
use crate::names::{self, Kind};
use crate::server::Server;
use crate::sink::{Member, Sink};
use crate::{Clock, Error, Event, Stop};

/// Direct reads begin at this size; smaller files are not worth the threads.
const DIRECT_FROM: u64 = 1024 * 1024;

/// Takes a backup of `server` into `sink`.
///
/// The checkpoints are removed whatever happens. On an error the sink was not finished, so what it wrote does not look
/// like a backup.
///
/// # Errors
///
/// Everything that [`Error`] lists for servers, files and sinks.
pub fn backup(
    server: &mut dyn Server,
    sink: &mut dyn Sink,
    clock: &dyn Clock,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let source = Source::open(server, clock, options, stop, tell)?;
    let limiter = Limiter::new(clock, options.rate_limit);
    let mut run = Run {
        direct: options.direct.unwrap_or(source.facts.direct_reads),
        reading: Reading::new(options.checksum, options.readers, &limiter, stop),
        sent: BTreeMap::new(),
        sent_bytes: 0,
        progress: (0, source.begun),
        source,
        sink,
    };
    let (rounds, kept) = run.rounds()?;
    let server_part = run.server_part(kept)?;
    let (manifest, mut report) = outcome(&run.source, rounds, server_part)?;
    run.send_manifest(&manifest)?;
    run.sink.finish()?;
    report.seconds = (clock.elapsed() - run.source.begun).as_secs_f64();
    Ok(report)
}

/// A backup into a sink, file by file.
struct Run<'s, 'r> {
    source: Source<'s>,
    sink: &'r mut dyn Sink,
    reading: Reading<'r>,
    direct: bool,
    sent: BTreeMap<String, Entry>,
    sent_bytes: u64,
    /// Bytes at the last progress event, and when it was.
    progress: (u64, Duration),
}

impl Run<'_, '_> {
    /// Sends one file of the checkpoint.
    fn send(&mut self, name: &Path, path: &Path) -> Result<Entry, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let meta = file.metadata().map_err(Error::io("read", path))?;
        let (member, kind) = (Member::of(name, &meta), names::kind(name));
        let modified = source::modified(&meta, self.source.device).filter(|_| kind == Kind::Data);
        let direct = self.direct && kind == Kind::Data && member.size >= DIRECT_FROM;
        // Two look-ups for one value: the borrow of the first would outlive its branch.
        if direct && let Some(mut content) = self.reading.direct(path, member.size)? {
            self.sink.file(&member, &mut content)?;
            let sum = content.sum()?;
            return Ok(Entry { modified, ..entry(&member, sum, kind) });
        }
        let mut content = match kind {
            Kind::Data => self.reading.unchanging(path, file, member.size),
            _ => self.reading.file(path, file, member.size),
        };
        self.sink.file(&member, &mut content)?;
        let sum = content.sum()?;
        Ok(Entry { modified, ..entry(&member, sum, kind) })
    }

    fn send_manifest(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let (path, bytes) = (Path::new(manifest::NAME), manifest.to_bytes());
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (size, modified) = (bytes.len() as u64, self.source.clock.now());
        let member = Member { path: path.to_owned(), size, mode: 0o640, uid, gid, modified };
        // It has the last word whatever the rate.
        let unlimited = Limiter::new(self.source.clock, None);
        let mut reading = Reading::new(manifest.checksum, 1, &unlimited, self.source.stop);
        let mut content = reading.bytes(path, &bytes);
        self.sink.file(&member, &mut content)?;
        content.sum().map(drop)
    }
}

fn entry(member: &Member, sum: crate::Sum, kind: Kind) -> Entry {
    Entry {
        path: member.path.clone(),
        size: member.size,
        sum,
        kind,
        modified: None,
        from: None,
        obsolete: false,
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    #[test]
    fn a_data_file_with_the_name_and_size_of_another_in_the_base_is_sent_again() {
        let mut server = Fake::new();
        let options = server.options();
        let (full, _) = server.backup("full", &options).unwrap();
        let data = |manifest: &Manifest, name: &str| {
            manifest.files.iter().find(|file| file.path == Path::new(name)).unwrap().clone()
        };
        let mut options = Options { base: Some(full.clone()), ..options };
        let (same, warnings) = server.backup("same", &options).unwrap();
        assert_eq!(data(&same, "000040.sst").from, Some(full.id.clone()));
        assert_eq!(warnings, Vec::<String>::new());
        // As after a snapshot of the disk was put back: the number is given anew.
        let path = server.facts.rocksdb_datadir.join("000040.sst");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "DATA").unwrap();
        let late = std::time::SystemTime::now() + Duration::from_nanos(1_000_000_001);
        File::open(&path).unwrap().set_modified(late).unwrap();
        let (other, _) = server.backup("other", &options).unwrap();
        assert_eq!(data(&other, "000040.sst").from, None);
        assert_eq!(std::fs::read(server.at("other/000040.sst")).unwrap(), b"DATA");
        assert_eq!(data(&other, "000040.sst").modified, path.metadata().unwrap().modified().ok());
        // A base of an older version has names and sizes only.
        let files = full.files.into_iter().map(|file| Entry { modified: None, ..file }).collect();
        options.base = Some(Manifest { files, ..options.base.unwrap() });
        let (other, warnings) = server.backup("old", &options).unwrap();
        assert!(data(&other, "000040.sst").from.is_some());
        assert!(warnings.iter().any(|text| text.contains("name and size alone")), "{warnings:?}");
    }

    /// A wait for the lock that was too long.
    fn too_long() -> Error {
        Error::Statement {
            action: "take the backup lock".into(),
            source: "Lock wait timeout exceeded".into(),
        }
    }

    #[test]
    fn a_lock_that_was_waited_for_too_long_is_tried_again_and_never_done_without() {
        for consistent in [false, true] {
            let mut server = Fake::new();
            let options = Options { consistent, ..server.options() };
            server.failures = [too_long(), too_long()].into();
            let (manifest, _) = server.backup("busy", &options).unwrap();
            assert!(manifest.lock.is_some() && server.locks == 3, "{:?}", manifest.lock);
            server.failures = [too_long(), too_long(), too_long()].into();
            let result = server.backup("stuck", &options);
            assert!(matches!(result, Err(Error::Statement { .. })), "{result:?}");
            assert!(!server.at("stuck").exists());
        }
    }

    #[test]
    fn who_may_not_lock_or_has_no_lock_gets_a_warning_unless_the_backup_is_to_be_consistent() {
        let refusals: [fn() -> Error; 2] =
            [|| Error::Privilege { action: "lock".into(), source: "denied".into() }, || Error::NoLock];
        for refusal in refusals {
            let mut server = Fake::new();
            server.failures = [refusal()].into();
            let (manifest, warnings) = server.backup("b", &server.options()).unwrap();
            assert!(manifest.lock.is_none() && warnings.len() == 1, "{warnings:?}");
            server.failures = [refusal()].into();
            let options = Options { consistent: true, ..server.options() };
            server.backup("c", &options).unwrap_err();
        }
    }

    #[test]
    fn a_disk_without_room_for_what_is_copied_under_the_lock_is_seen_before_it() {
        // A file system that shares no blocks and has no terabytes.
        let mut server = Fake::on(tempfile::tempdir_in("/dev/shm").unwrap());
        let table = server.facts.datadir.join("d/t.MYD");
        std::fs::create_dir(table.parent().unwrap()).unwrap();
        // Without a byte on the disk it is larger than any.
        File::create(&table).unwrap().set_len(1 << 42).unwrap();
        let error = server.backup("b", &server.options()).unwrap_err();
        let is_full = |e: &std::io::Error| e.kind() == std::io::ErrorKind::StorageFull;
        assert!(matches!(&error, Error::Io { source, .. } if is_full(source)), "{error:?}");
        assert_eq!(server.locks, 0);
    }

    #[test]
    fn who_may_not_ask_for_the_position_gets_a_backup_without_one_unless_it_is_to_be_consistent() {
        let mut server = Fake::new();
        server.position =
            || Err(Error::Privilege { action: "tell its position".into(), source: "denied".into() });
        let (manifest, warnings) = server.backup("b", &server.options()).unwrap();
        assert!(manifest.binlog.is_none() && warnings.len() == 1, "{warnings:?}");
        assert!(warnings[0].contains("position"), "{warnings:?}");
        let options = Options { consistent: true, ..server.options() };
        assert!(matches!(server.backup("c", &options), Err(Error::Privilege { .. })));
    }
}
