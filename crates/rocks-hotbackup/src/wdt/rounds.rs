//! What is sent when: data files in rounds, everything else after them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Request;
use super::receiver::Receiver;
use super::session::{self, Meaning};
use crate::backup::source::{Checkpoint, Source, modified};
use crate::backup::{Rounds, ServerPart};
use crate::checkpoint::Place;
use crate::content::Reading;
use crate::limit::Limiter;
use crate::manifest::Entry;
use crate::names::{self, Kind};
use crate::server_files::{self, Aside, At};
use crate::{Checksum, Clock, Error, Event, Stop, private};

/// Runs in a row that may end in a lost connection before the backup gives up.
const LOST: u32 = 5;

/// How long to wait after a lost connection.
const PAUSE: Duration = Duration::from_secs(2);

/// A backup on its way.
pub(super) struct Transfer<'s, 'r> {
    pub(super) source: Source<'s>,
    request: &'r Request,
    runtime: &'r Runtime,
    receiver: &'r Receiver<'r>,
    /// Data files whose checksums are known. A new round needs those of its new files only.
    summed: BTreeMap<String, Entry>,
}

/// The data are sent; what is left of the last checkpoint.
pub(super) struct Remainder {
    count: u32,
    checkpoint: Checkpoint,
    /// WAL and RocksDB's own files.
    place: Place,
}

impl<'s, 'r> Transfer<'s, 'r> {
    pub(super) fn new(
        source: Source<'s>,
        request: &'r Request,
        runtime: &'r Runtime,
        receiver: &'r Receiver<'r>,
    ) -> Self {
        Self { source, request, runtime, receiver, summed: BTreeMap::new() }
    }

    /// Makes checkpoints and sends their data files until those of one are sent before its time is over. A consistent
    /// backup makes one more, under the lock.
    pub(super) fn rounds(&mut self) -> Result<Remainder, Error> {
        let (mut last, mut count) = (false, 0);
        loop {
            count += 1;
            let checkpoint = self.source.checkpoint(count, last, &self.summed)?;
            let place = self.part(&checkpoint, count)?;
            let whole = last || count > self.patience(&checkpoint);
            let begun = self.source.clock.elapsed();
            let done = self.send_data(&checkpoint, whole)?;
            if done && (last || !self.source.one_moment) {
                return Ok(Remainder { count, checkpoint, place });
            }
            last = done;
            checkpoint.place.remove()?;
            place.remove()?;
            let seconds = (self.source.clock.elapsed() - begun).as_secs_f64();
            (self.source.tell)(&Event::RoundOver { seconds, remaining: 0 });
        }
    }

    /// Leaves the data files that are to be sent alone in the checkpoint; gives the place of the rest.
    fn part(&self, checkpoint: &Checkpoint, round: u32) -> Result<Place, Error> {
        let place = self.source.workspace.place(&format!("{round}-rest"));
        private::create_dir(place.path()).map_err(Error::io("create", place.path()))?;
        for name in &checkpoint.rest {
            let path = checkpoint.place.path().join(name);
            std::fs::rename(&path, place.path().join(name)).map_err(Error::io("move", &path))?;
        }
        for name in checkpoint.data.keys().filter(|name| self.source.base.contains_key(*name)) {
            let path = checkpoint.place.path().join(name);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(place)
    }

    /// Rounds until a checkpoint is kept as long as it takes: twice as many as its bytes need at the rate that was asked
    /// for, and five.
    fn patience(&self, checkpoint: &Checkpoint) -> u32 {
        let bytes = checkpoint.data.values().sum();
        rounds(bytes, self.request.megabytes_per_second, self.request.options.interval)
    }

    /// Sends the data files of a checkpoint, and computes their checksums meanwhile. `false` if the interval was over
    /// before; with `whole` it does not matter how long it takes.
    fn send_data(&mut self, checkpoint: &Checkpoint, whole: bool) -> Result<bool, Error> {
        let (checksum, stop, clock) = (self.source.options.checksum, self.source.stop, self.source.clock);
        let todo: Vec<&str> = checkpoint.data.keys().map(String::as_str).collect();
        let todo: Vec<_> =
            todo.into_iter().filter(|name| !self.source.is_known(name, &self.summed)).collect();
        let (dir, device, over) = (checkpoint.place.path(), self.source.device, AtomicBool::new(false));
        let (sent, summed) = std::thread::scope(|scope| {
            let summed = scope.spawn(|| {
                let mut summed = Vec::new();
                for name in todo {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let entry = entry(Path::new(name), &dir.join(name), checksum, device, clock, stop)?;
                    summed.push((name.to_owned(), entry));
                }
                Ok::<_, Error>(summed)
            });
            let sent = self.send(dir, whole);
            over.store(!matches!(sent, Ok(true)), Ordering::Relaxed);
            (sent, summed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let sent = sent?;
        self.summed.extend(summed?);
        Ok(sent)
    }

    /// Runs WDT until the receiver has all files below `dir`; `false` if the interval was over before.
    fn send(&self, dir: &Path, whole: bool) -> Result<bool, Error> {
        let (receiver, stop) = (self.receiver, self.source.stop);
        let mut lost = 0;
        loop {
            let run = session::send(receiver.host, self.request, receiver.id, dir, stop);
            let sent = self.runtime.block_on(run)?;
            match sent.judge()? {
                Meaning::Done => return Ok(true),
                Meaning::Aborted if !whole => return Ok(false),
                Meaning::Lost if lost + 1 < LOST => {
                    lost += 1;
                    self.source.clock.sleep(PAUSE);
                }
                Meaning::Lost => return Err(sent.error()),
                _ => lost = 0,
            }
        }
    }

    /// Sends logs, RocksDB's own files and the server's files. They are those of one moment and stay so until all of
    /// them are there.
    pub(super) fn rest(&mut self, remainder: Remainder) -> Result<(Rounds, ServerPart), Error> {
        let Remainder { count, checkpoint, place } = remainder;
        (self.source.tell)(&Event::LastFiles);
        let mut sequence = None;
        let mut files = Vec::new();
        for name in &checkpoint.rest {
            let path = place.path().join(name);
            if name.starts_with("MANIFEST-") {
                sequence = Some(self.source.check_live(&path, &checkpoint)?);
            }
            files.push(self.entry(Path::new(name), &path)?);
        }
        let Checkpoint { place: data_place, data, binlog, definitions, kept, .. } = checkpoint;
        data_place.remove()?;
        self.source.wait()?;
        let kept = match kept {
            Some(kept) => Some(kept),
            None => self.source.keep_later(definitions)?,
        };
        let server_part = self.lay(kept, place.path())?;
        self.send(place.path(), true)?;
        let mut sent = std::mem::take(&mut self.summed);
        sent.retain(|name, _| data.contains_key(name));
        Ok((Rounds { count, sent, files, data, binlog, sequence }, server_part))
    }

    /// Puts the server's files below `dir`.
    fn lay(&mut self, kept: Option<Aside>, dir: &Path) -> Result<ServerPart, Error> {
        let listing = match &kept {
            Some(aside) => &aside.listing,
            None => &self.source.scope().list()?,
        };
        for path in &listing.skipped {
            (self.source.tell)(&Event::Skipped { path: path.clone() });
        }
        let directories: Vec<PathBuf> =
            listing.directories.iter().map(|member| member.path.clone()).collect();
        for path in &directories {
            let path = dir.join(path);
            private::create_dir(&path).map_err(Error::io("create", path))?;
        }
        let (mut names, mut index) = (Vec::new(), listing.index());
        match &kept {
            Some(aside) => {
                let mut window = aside.window();
                for kept in &aside.kept {
                    let (path, target) = (&kept.member.path, dir.join(&kept.member.path));
                    let size = kept.member.size;
                    match &kept.at {
                        At::File(aside) => File::open(aside)
                            .and_then(|file| {
                                io::copy(&mut file.take(size), &mut private::create_file(&target)?)
                            })
                            .and_then(|_| std::fs::remove_file(aside)),
                        // A link to a binlog has more bytes by now.
                        At::Link { path: aside, at, head } => window
                            .bytes(*at, *head)
                            .and_then(|head| copy_headed(head, &File::open(aside)?, size, &target))
                            .and_then(|()| std::fs::remove_file(aside)),
                        At::Open { file, at, head } => {
                            window.bytes(*at, *head).and_then(|head| copy_headed(head, file, size, &target))
                        }
                        At::Spool(at) => window
                            .bytes(*at, size)
                            .and_then(|bytes| private::create_file(&target)?.write_all(bytes)),
                    }
                    .map_err(Error::io("copy", &target))?;
                    names.push(path.clone());
                    index.keep(&kept.member);
                }
            }
            None => {
                for found in &listing.files {
                    let Some((member, mut file)) = server_files::open(found)? else { continue };
                    let target = dir.join(&found.path);
                    private::create_file(&target)
                        .and_then(|mut copy| std::io::copy(&mut file, &mut copy))
                        .map_err(Error::io("copy", &found.source))?;
                    names.push(found.path.clone());
                    index.keep(&member);
                }
            }
        }
        if let Some((member, bytes)) = index.finish() {
            let target = dir.join(&member.path);
            let written = private::create_file(&target).and_then(|mut file| file.write_all(&bytes));
            written.map_err(Error::io("write", &target))?;
            names.push(member.path);
        }
        let files = names.iter().map(|name| self.entry(name, &dir.join(name)));
        Ok(ServerPart { files: files.collect::<Result<_, _>>()?, directories })
    }

    fn entry(&self, name: &Path, path: &Path) -> Result<Entry, Error> {
        let Source { options, device, clock, stop, .. } = &self.source;
        entry(name, path, options.checksum, *device, *clock, stop)
    }
}

/// Twice as many rounds of `interval` as `bytes` need at a rate in MB/s, and five.
fn rounds(bytes: u64, rate: Option<u64>, interval: Duration) -> u32 {
    let round = rate.map_or(f64::INFINITY, |rate| (rate as f64 * 1e6 * interval.as_secs_f64()).max(1.0));
    ((2.0 * bytes as f64 / round) as u32).saturating_add(5)
}

/// Copies `head` and what follows those bytes in the file `from`, up to `size` bytes, to the file `to`.
fn copy_headed(head: &[u8], mut from: &File, size: u64, to: &Path) -> io::Result<()> {
    let mut copy = private::create_file(to)?;
    copy.write_all(head)?;
    from.seek(SeekFrom::Start(head.len() as u64))?;
    io::copy(&mut from.take(size.saturating_sub(head.len() as u64)), &mut copy).map(drop)
}

/// The entry of a file in the manifest, with the checksum of its bytes.
fn entry(
    name: &Path,
    path: &Path,
    checksum: Checksum,
    device: u64,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Entry, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let meta = file.metadata().map_err(Error::io("read", path))?;
    let (size, kind) = (meta.len(), names::kind(name));
    let modified = modified(&meta, device).filter(|_| kind == Kind::Data);
    let unlimited = Limiter::new(clock, None);
    let mut reading = Reading::new(checksum, 1, &unlimited, stop);
    let mut content = reading.file(path, file, if checksum == Checksum::None { 0 } else { size });
    while content.next_bytes()?.is_some() {}
    let (path, sum) = (name.to_owned(), content.sum()?);
    Ok(Entry { path, size, sum, kind, modified, from: None, obsolete: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_whatever_rate_and_interval_are() {
        let second = Duration::from_secs(1);
        assert_eq!(rounds(100_000_000, Some(10), second), 25);
        assert_eq!(rounds(u64::MAX, Some(0), second), u32::MAX);
        assert_eq!(rounds(u64::MAX, Some(500), Duration::ZERO), u32::MAX);
        assert_eq!(rounds(u64::MAX, None, Duration::ZERO), 5);
    }

    #[test]
    fn a_linked_binlog_is_laid_with_the_header_and_the_length_that_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("link"), dir.path().join("laid"));
        std::fs::write(&from, "HEAD, then what was there, and more").unwrap();
        copy_headed(b"head", &File::open(&from).unwrap(), 25, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "head, then what was there");
    }
}
