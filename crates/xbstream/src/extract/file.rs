//! One file on its way to disk: under an unfinished name until its end has come and everything was checked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::target::Target;
use crate::error::{Error, Part};
use crate::member::Decoding;
use crate::path::display;
use crate::reader::Left;
use crate::source::ReadAt;

/// Files held open at once, and members decoded at once. More of them in one stream are possible: files are closed
/// and opened again, members are stored and decoded when they are complete.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) open: AtomicUsize,
    pub(super) decoders: AtomicUsize,
    pub(super) max_open: usize,
    pub(super) max_decoders: usize,
}

impl Limits {
    pub(super) fn new(threads: usize) -> Self {
        // A quarter of what the process may open, so that the caller's own files fit as well.
        let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
        Self {
            open: AtomicUsize::new(0),
            decoders: AtomicUsize::new(0),
            max_open: usize::try_from(soft / 4).unwrap_or(256).clamp(4, 256),
            max_decoders: (2 * threads).clamp(8, 32),
        }
    }
}

/// What the workers share.
pub(super) struct Context<'a> {
    pub(super) target: Target,
    pub(super) decoding: Decoding,
    pub(super) limits: Limits,
    /// Where payloads are that the reading side has left.
    pub(super) source: Option<&'a dyn ReadAt>,
}

/// Something to be done to a file.
#[derive(Debug)]
pub(super) enum Job {
    /// These bytes belong at this position.
    Data { offset: u64, bytes: Vec<u8> },
    /// These bytes belong at several positions, in order: position and length of each.
    Scatter { pieces: Vec<(u64, usize)>, bytes: Vec<u8> },
    /// A payload belongs at this position that is still to be read and checked.
    Copy { offset: u64, left: Left },
    /// The file is complete and this long. With `hole` its last part was never written.
    End { size: u64, hole: bool },
}

impl Job {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data { bytes, .. } | Self::Scatter { bytes, .. } => bytes.len(),
            Self::Copy { .. } | Self::End { .. } => 0,
        }
    }

    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        match self {
            Self::Data { bytes, .. } | Self::Scatter { bytes, .. } => Some(bytes),
            Self::Copy { .. } | Self::End { .. } => None,
        }
    }
}

/// A file that is finished.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) path: Box<[u8]>,
    pub(super) size: u64,
    pub(super) decoded: bool,
}

/// A file that is not finished. Several threads may write to it.
#[derive(Debug)]
pub(super) struct OutFile {
    path: Box<[u8]>,
    replace: bool,
    handle: Mutex<Handle>,
}

#[derive(Debug, Default)]
struct Handle {
    created: bool,
    file: Option<Arc<File>>,
}

impl OutFile {
    pub(super) fn new(path: &[u8], replace: bool) -> Self {
        Self { path: path.into(), replace, handle: Mutex::default() }
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Another file, to be replaced if this one is.
    pub(super) fn beside(&self, path: &[u8]) -> Self {
        Self::new(path, self.replace)
    }

    /// Does one job of a file that is not decoded; the end gives the finished file.
    pub(super) fn run(
        &self,
        job: &Job,
        context: &Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Done>, Error> {
        match job {
            Job::Data { offset, bytes } => self.write(*offset, bytes, context)?,
            Job::Scatter { pieces, bytes } => {
                let mut rest = &bytes[..];
                for &(offset, len) in pieces {
                    let (piece, after) = rest.split_at(len);
                    self.write(offset, piece, context)?;
                    rest = after;
                }
            }
            Job::Copy { offset, left } => {
                let mut offset = *offset;
                left.read(context.source, (&self.path, offset), buffer, |bytes| {
                    self.write(offset, bytes, context)?;
                    offset += bytes.len() as u64;
                    Ok(())
                })?;
            }
            Job::End { size, hole } => {
                self.end(hole.then_some(*size), context)?;
                return Ok(Some(Done { path: self.path.clone(), size: *size, decoded: false }));
            }
        }
        Ok(None)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8], context: &Context<'_>) -> Result<(), Error> {
        self.open(context)?.write_all_at(bytes, offset).map_err(|source| Error::File {
            action: "write",
            path: display(&self.path),
            source,
        })
    }

    /// The file under its unfinished name: made, or opened again if it was closed to save a descriptor.
    pub(super) fn open(&self, context: &Context<'_>) -> Result<Arc<File>, Error> {
        let mut handle = self.lock();
        if let Some(file) = &handle.file {
            return Ok(Arc::clone(file));
        }
        let file = if handle.created {
            context.target.reopen(&self.path, false)?
        } else {
            context.target.create(&self.path, self.replace)?
        };
        handle.created = true;
        context.limits.open.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(file);
        handle.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Opens the unfinished file for reading.
    pub(super) fn read(&self, context: &Context<'_>) -> Result<File, Error> {
        self.close(context);
        context.target.reopen(&self.path, true)
    }

    /// Called when nothing is to be done for now: gives the file descriptor back if they are scarce.
    pub(super) fn rest(&self, context: &Context<'_>) {
        if context.limits.open.load(Ordering::Relaxed) > context.limits.max_open {
            self.close(context);
        }
    }

    fn close(&self, context: &Context<'_>) {
        if self.lock().file.take().is_some() {
            context.limits.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives the file its name; `size` if it has to be made that long.
    pub(super) fn end(&self, size: Option<u64>, context: &Context<'_>) -> Result<(), Error> {
        let file = self.open(context)?;
        if let Some(size) = size {
            let path = || display(&self.path);
            file.set_len(size).map_err(|source| Error::File { action: "extend", path: path(), source })?;
        }
        drop(file);
        self.close(context);
        context.target.commit(&self.path, self.replace)?;
        self.lock().created = false;
        Ok(())
    }

    /// Removes what was written.
    pub(super) fn discard(&self, context: &Context<'_>) {
        self.close(context);
        if std::mem::take(&mut self.lock().created) {
            context.target.discard(&self.path);
        }
    }

    /// A thread that panicked holding this ends the whole extraction.
    fn lock(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    /// Reads and checks the payload and gives it to `take` in pieces. `file` is its file, and its place in that.
    ///
    /// Damage of the payload counts for more than what `take` makes of it.
    pub(super) fn read(
        &self,
        source: Option<&dyn ReadAt>,
        file: (&[u8], u64),
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let source = source.ok_or(Error::Failed)?;
        buffer.resize(super::pool::BUFFER, 0);
        let mut crc = crc32fast::Hasher::new();
        let (mut at, end) = (self.at, self.at.saturating_add(self.len));
        let mut taken = Ok(());
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            match source.read_at(&mut buffer[..most], at) {
                Ok(0) => return Err(Error::Truncated { offset: at, part: Part::Payload }),
                // A source that claims more than it was given room for must not become a panic.
                Ok(n) if n > most => {
                    let source = io::Error::other("the source returned an impossible length");
                    return Err(Error::Read { offset: at, source });
                }
                Ok(n) => {
                    crc.update(&buffer[..n]);
                    at += n as u64;
                    if taken.is_ok() {
                        taken = take(&buffer[..n]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { offset: at, source }),
            }
        }
        let (expected, actual) = (self.crc, crc.finalize());
        if expected != actual {
            let (path, at) = (display(file.0), file.1);
            return Err(Error::Checksum { path, at, expected, actual });
        }
        taken
    }
}
