//! Files put aside under the lock, so that the lock is short however slow the backup's reader is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::{Found, Listing, is_definition};
use crate::checkpoint::Place;
use crate::sink::Member;
use crate::{Error, Stop, private};

/// Files up to this size, in bytes, share one file: one for each would cost more than their bytes.
const SMALL: u64 = 64 * 1024;

/// First bytes of a linked file that are kept as they are now: a binlog's header with its flags.
const HEAD: u64 = 4096;

/// Bytes of small files that are written, and read again, at once.
const BUFFER: usize = 256 * 1024;

/// Most files that are kept open, whatever the system allows.
const OPEN: u64 = 4096;

/// Files that a thread takes at once.
const BATCH: usize = 64;

/// The server's files as they were at one moment.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) listing: Listing,
    /// In the order of the listing; a log that was rotated away since it was listed is missing.
    pub(crate) kept: Vec<Kept>,
    spool: File,
    _place: Place,
}

/// A file that was put aside.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) member: Member,
    pub(crate) at: At,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(crate) enum At {
    /// At this byte of the spool.
    Spool(u64),
    /// In a copy.
    File(PathBuf),
    /// In a hard link, but for the first `head` bytes: they are at the byte `at` of the spool.
    Link { path: PathBuf, at: u64, head: u64 },
    /// The same in the opened file, where no link can be made; it can be read even after the server purged it.
    Open { file: File, at: u64, head: u64 },
}

/// Puts the listed files aside in `place`. Small ones are read by several threads: each costs a look-up, and on a disk
/// a seek.
///
/// Binlogs become hard links where that is possible, and else stay open: they grow at their end, and copying all of them under
/// the lock would stop commits for as long as that takes. Only their header changes: when a server
/// rotates or closes a binlog, it clears `LOG_EVENT_BINLOG_IN_USE_F` in place, and a server that finds the flag cleared
/// does no recovery from that binlog. So the header is kept as it is now.
pub(crate) fn put_aside(listing: Listing, place: Place, threads: usize, stop: &Stop) -> Result<Aside, Error> {
    let dir = place.path();
    private::create_dir(dir).map_err(Error::io("create", dir))?;
    let path = dir.join("spool");
    let spool = private::create_file(&path).map_err(Error::io("create", &path))?;
    let work = Work {
        files: &listing.files,
        dir,
        spool: &spool,
        end: AtomicU64::new(0),
        next: AtomicUsize::new(0),
        may_open: AtomicU64::new(descriptors()),
        failed: AtomicBool::new(false),
        stop,
    };
    let threads = threads.min(listing.files.len().div_ceil(BATCH)).max(1);
    let mut kept = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| work.run())).collect();
        let mut kept = Vec::with_capacity(listing.files.len());
        for thread in threads {
            kept.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok::<_, Error>(kept)
    })?;
    kept.sort_unstable_by_key(|(number, _)| *number);
    let kept = kept.into_iter().map(|(_, kept)| kept).collect();
    Ok(Aside { listing, kept, spool, _place: place })
}

impl Aside {
    /// The small files again.
    pub(crate) fn window(&self) -> Window<'_> {
        Window { spool: &self.spool, bytes: Vec::new(), start: 0 }
    }
}

/// A part of the spool in memory.
pub(crate) struct Window<'a> {
    spool: &'a File,
    bytes: Vec<u8>,
    start: u64,
}

impl Window<'_> {
    /// `len` bytes at `at`, at most [`SMALL`] of them. Neighbours come without another read.
    pub(crate) fn bytes(&mut self, at: u64, len: u64) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + len > end {
            self.start = at;
            self.bytes.resize(BUFFER, 0);
            let n = fill(self.spool, &mut self.bytes, at)?;
            self.bytes.truncate(n);
        }
        let from = (at - self.start) as usize;
        self.bytes.get(from..from + len as usize).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// How many files may be kept open: half of what the process may have, as others need some, too.
fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(OPEN, |limit| limit / 2).min(OPEN)
}

/// What the threads share.
struct Work<'a> {
    files: &'a [Found],
    dir: &'a Path,
    spool: &'a File,
    /// Bytes of the spool that are taken.
    end: AtomicU64,
    /// The first file that no thread has taken.
    next: AtomicUsize,
    /// Files that may still be kept open.
    may_open: AtomicU64,
    failed: AtomicBool,
    stop: &'a Stop,
}

impl Work<'_> {
    /// Takes one of the places for open files, if there is one left.
    fn may_open(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.may_open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn run(&self) -> Result<Vec<(usize, Kept)>, Error> {
        let mut share = Share { work: self, kept: Vec::new(), bytes: Vec::with_capacity(BUFFER), flushed: 0 };
        let result = share.take();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result.map(|()| share.kept)
    }
}

/// What one thread does.
struct Share<'a> {
    work: &'a Work<'a>,
    kept: Vec<(usize, Kept)>,
    /// Small files on their way to the spool.
    bytes: Vec<u8>,
    /// How many of `kept` have their place in the spool.
    flushed: usize,
}

impl Share<'_> {
    fn take(&mut self) -> Result<(), Error> {
        let work = self.work;
        while !work.failed.load(Ordering::Relaxed) {
            let first = work.next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(files) = work.files.get(first..) else { break };
            for (number, found) in files.iter().take(BATCH).enumerate() {
                work.stop.check()?;
                self.keep(first + number, found)?;
            }
        }
        self.flush()
    }

    fn keep(&mut self, number: usize, found: &Found) -> Result<(), Error> {
        let Some((mut member, file)) = open(found)? else { return Ok(()) };
        let path = self.work.dir.join(number.to_string());
        let at = if found.grows && std::fs::hard_link(&found.source, &path).is_ok() {
            let (at, head) = self.read(&file, member.size.min(HEAD), found)?;
            At::Link { path, at, head }
        } else if found.grows && self.work.may_open() {
            let (at, head) = self.read(&file, member.size.min(HEAD), found)?;
            At::Open { file, at, head }
        } else if member.size > SMALL {
            let copy = private::create_file(&path).map_err(Error::io("create", &path))?;
            member.size = self.work.stop.copy(&mut file.take(member.size), &copy, &found.source)?;
            At::File(path)
        } else {
            let (at, size) = self.read(&file, member.size, found)?;
            member.size = size;
            At::Spool(at)
        };
        self.kept.push((number, Kept { member, at }));
        if self.bytes.len() > BUFFER - SMALL as usize {
            self.flush()?;
        }
        Ok(())
    }

    /// Reads the first bytes of a file, at most [`SMALL`] of them, on their way to the spool; gives where they are there,
    /// counted from what was not flushed, and how many.
    fn read(&mut self, file: &File, len: u64, found: &Found) -> Result<(u64, u64), Error> {
        let start = self.bytes.len();
        self.bytes.resize(start + len as usize, 0);
        let n = fill(file, &mut self.bytes[start..], 0).map_err(Error::io("read", &found.source))?;
        self.bytes.truncate(start + n);
        Ok((start as u64, n as u64))
    }

    /// Takes a place in the spool and writes the small files there.
    fn flush(&mut self) -> Result<(), Error> {
        let start = self.work.end.fetch_add(self.bytes.len() as u64, Ordering::Relaxed);
        let written = self.work.spool.write_all_at(&self.bytes, start);
        written.map_err(Error::io("write", self.work.dir))?;
        for (_, kept) in &mut self.kept[self.flushed..] {
            if let At::Spool(at) | At::Link { at, .. } | At::Open { at, .. } = &mut kept.at {
                *at += start;
            }
        }
        self.flushed = self.kept.len();
        self.bytes.clear();
        Ok(())
    }
}

/// Opens a file, or `None` if it has gone since it was listed: a log that was rotated away.
pub(crate) fn open(found: &Found) -> Result<Option<(Member, File)>, Error> {
    let file = match File::open(&found.source) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !is_definition(found.path.as_os_str()) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::Io { action: "open", path: found.source.clone(), source: e }),
    };
    let meta = file.metadata().map_err(Error::io("read", &found.source))?;
    Ok(Some((Member::of(&found.path, &meta), file)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::checkpoint::Workspace;

    #[test]
    fn files_of_every_size_come_back_in_order_from_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, _) = Workspace::open(&dir.path().join("snap"), dir.path()).unwrap();
        let sizes = [0, 1, 2048, SMALL - 1, SMALL, SMALL + 1, 300_000];
        let files: Vec<_> = (0..1000)
            .map(|number| {
                let source = dir.path().join(format!("t{number:04}.MYD"));
                let len = sizes[number % sizes.len()] as usize;
                std::fs::write(&source, vec![number as u8; len]).unwrap();
                Found { path: source.file_name().unwrap().into(), source, grows: number % 100 == 0 }
            })
            .collect();
        for threads in [1, 2, 7] {
            let listing = Listing { files: files.clone(), ..Listing::default() };
            let place = workspace.place(&threads.to_string());
            let dir = place.path().to_owned();
            let aside = put_aside(listing, place, threads, &Stop::new()).unwrap();
            assert_eq!(aside.kept.len(), files.len());
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&dir), mode(&dir.join("spool"))), (0o700, 0o600));
            let mut window = aside.window();
            for (number, (kept, found)) in aside.kept.iter().zip(&files).enumerate() {
                assert_eq!(kept.member.path, found.path);
                let bytes = match &kept.at {
                    At::Spool(at) => window.bytes(*at, kept.member.size).unwrap().to_vec(),
                    At::File(path) => {
                        assert_eq!(mode(path), 0o600);
                        std::fs::read(path).unwrap()
                    }
                    At::Link { path, at, head } => {
                        let mut bytes = std::fs::read(path).unwrap();
                        bytes[..*head as usize].copy_from_slice(window.bytes(*at, *head).unwrap());
                        bytes
                    }
                    At::Open { .. } => panic!("a link can be made there"),
                };
                assert_eq!(bytes.len() as u64, sizes[number % sizes.len()]);
                assert!(bytes.iter().all(|b| *b == number as u8), "{:?}", found.path);
            }
        }
    }

    #[test]
    fn the_header_of_a_linked_binlog_stays_what_it_was_when_the_server_rotates_it() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, _) = Workspace::open(&dir.path().join("snap"), dir.path()).unwrap();
        for (number, len) in [22, 4096, 4097, 300_000].into_iter().enumerate() {
            let source = dir.path().join(format!("binlog.{number}"));
            let mut before = vec![b'e'; len];
            // LOG_EVENT_BINLOG_IN_USE_F of the format description event.
            before[21] = 1;
            std::fs::write(&source, &before).unwrap();
            let path: PathBuf = source.file_name().unwrap().into();
            let found = Found { path, source: source.clone(), grows: true };
            let listing = Listing { files: vec![found], ..Listing::default() };
            let place = workspace.place(&number.to_string());
            let aside = put_aside(listing, place, 1, &Stop::new()).unwrap();
            // What a rotation does: the flag is cleared in place, a rotate event follows.
            let binlog = File::options().write(true).open(&source).unwrap();
            binlog.write_all_at(&[0], 21).unwrap();
            binlog.write_all_at(b"rotate", len as u64).unwrap();
            let Kept { member, at: At::Link { path, at, head } } = &aside.kept[0] else {
                panic!("it is no link: {:?}", aside.kept)
            };
            let mut window = aside.window();
            let (clock, stop) = (crate::SystemClock::default(), Stop::new());
            let limiter = crate::limit::Limiter::new(&clock, None);
            let mut reading = crate::content::Reading::new(crate::Checksum::None, 1, &limiter, &stop);
            let (head, file) = (window.bytes(*at, *head).unwrap(), File::open(path).unwrap());
            let mut sent = Vec::new();
            reading.headed(path, head, file, member.size).unwrap().copy_to(&mut sent).unwrap();
            assert!(sent == before, "{len} bytes");
        }
    }

    #[test]
    fn a_binlog_that_cannot_be_linked_stays_open_and_is_not_copied_under_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        // A file system of its own on every Linux.
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let (workspace, _) = Workspace::open(&dir.path().join("snap"), dir.path()).unwrap();
        let source = other.path().join("binlog.000001");
        let before = vec![b'e'; 300_000];
        std::fs::write(&source, &before).unwrap();
        let found = Found { path: "binlog.000001".into(), source: source.clone(), grows: true };
        let listing = Listing { files: vec![found], ..Listing::default() };
        let place = workspace.place("1");
        let made = place.path().to_owned();
        let aside = put_aside(listing, place, 1, &Stop::new()).unwrap();
        assert_eq!(std::fs::read_dir(&made).unwrap().count(), 1, "the spool with its first bytes");
        // The server writes on, and purges it.
        File::options().append(true).open(&source).unwrap().write_all(b"more").unwrap();
        std::fs::remove_file(&source).unwrap();
        let Kept { member, at: At::Open { file, at, head } } = &aside.kept[0] else {
            panic!("it is not open: {:?}", aside.kept)
        };
        let (clock, stop) = (crate::SystemClock::default(), Stop::new());
        let limiter = crate::limit::Limiter::new(&clock, None);
        let mut reading = crate::content::Reading::new(crate::Checksum::None, 1, &limiter, &stop);
        let (mut window, mut sent) = (aside.window(), Vec::new());
        let (head, file) = (window.bytes(*at, *head).unwrap(), file.try_clone().unwrap());
        reading.headed(&source, head, file, member.size).unwrap().copy_to(&mut sent).unwrap();
        assert!(sent == before);
    }

    #[test]
    fn a_file_that_has_gone_is_passed_over_unless_it_is_a_definition() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, _) = Workspace::open(&dir.path().join("snap"), dir.path()).unwrap();
        let keep = |name: &str| {
            let found = Found { path: name.into(), source: dir.path().join(name), grows: false };
            let listing = Listing { files: vec![found], ..Listing::default() };
            put_aside(listing, workspace.place(name), 4, &Stop::new())
        };
        assert!(keep("tc.log").unwrap().kept.is_empty());
        assert!(matches!(keep("t.frm"), Err(Error::Io { action: "open", .. })));
    }

    #[test]
    fn a_stop_ends_all_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, _) = Workspace::open(&dir.path().join("snap"), dir.path()).unwrap();
        let source = dir.path().join("t.MYD");
        std::fs::write(&source, "").unwrap();
        let found = Found { path: "t.MYD".into(), source, grows: false };
        let listing = Listing { files: vec![found; 1000], ..Listing::default() };
        let stop = Stop::new();
        stop.request(15);
        let result = put_aside(listing, workspace.place("1"), 4, &stop);
        assert!(matches!(result, Err(Error::Stopped { signal: 15 })));
    }
}
