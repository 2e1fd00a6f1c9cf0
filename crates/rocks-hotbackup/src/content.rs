//! The bytes of one file on their way into a sink.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checksum::{Checksum, Hasher, Sum};
use crate::direct::DirectReader;
use crate::limit::Limiter;
use crate::{Error, Stop};

/// Bytes that are read at once. Small enough to stay in the processor's second cache between the read, the checksum
/// and the write.
pub(crate) const BUFFER: usize = 256 * 1024;

/// Bytes that the kernel moves at once when nobody looks at them; a stop is noticed between two moves.
const MOVE: usize = 1024 * 1024;

/// How files are read.
pub(crate) struct Reading<'a> {
    pub(crate) checksum: Checksum,
    /// Threads that read one file ahead around the page cache.
    pub(crate) readers: usize,
    pub(crate) limiter: &'a Limiter<'a>,
    pub(crate) stop: &'a Stop,
    buffer: Vec<u8>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(checksum: Checksum, readers: usize, limiter: &'a Limiter<'a>, stop: &'a Stop) -> Self {
        Self { checksum, readers, limiter, stop, buffer: vec![0; BUFFER] }
    }

    /// The first `len` bytes of an opened file.
    pub(crate) fn file(&mut self, path: &Path, file: File, len: u64) -> Content<'_> {
        self.content(path, len, Source::File(file))
    }

    /// The same of a file whose bytes never change.
    pub(crate) fn unchanging(&mut self, path: &Path, file: File, len: u64) -> Content<'_> {
        self.content(path, len, Source::Unchanging(file))
    }

    /// The same, read around the page cache where the file system allows it.
    pub(crate) fn direct(&mut self, path: &Path, len: u64) -> Result<Option<Content<'_>>, Error> {
        match DirectReader::open(path, len, self.readers) {
            Ok(Some(reader)) => Ok(Some(self.content(path, len, Source::Direct(reader)))),
            Ok(None) => Ok(None),
            Err(source) => Err(Error::Io { action: "open", path: path.to_owned(), source }),
        }
    }

    /// Bytes that are in memory already.
    pub(crate) fn bytes<'b>(&'b mut self, path: &Path, bytes: &'b [u8]) -> Content<'b> {
        self.content(path, bytes.len() as u64, Source::Bytes(bytes))
    }

    fn content<'b>(&'b mut self, path: &Path, len: u64, source: Source<'b>) -> Content<'b> {
        Content {
            path: path.to_owned(),
            len,
            left: len,
            source,
            hasher: self.checksum.hasher(),
            limiter: self.limiter,
            stop: self.stop,
            buffer: &mut self.buffer,
        }
    }
}

enum Source<'a> {
    File(File),
    /// What was read of it may be read again by the kernel: it is the same.
    Unchanging(File),
    Direct(DirectReader),
    Bytes(&'a [u8]),
}

/// The bytes of one file: exactly as many as its member says.
///
/// Reading it computes the checksum, keeps to the rate limit and notices a stop. A sink must take all of it.
pub struct Content<'a> {
    path: PathBuf,
    len: u64,
    left: u64,
    source: Source<'a>,
    hasher: Hasher,
    limiter: &'a Limiter<'a>,
    stop: &'a Stop,
    buffer: &'a mut [u8],
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

impl Content<'_> {
    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// If the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next bytes, at most 1 MiB, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Shrunk`], [`Error::Stopped`], or the error of reading the file.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, Error> {
        self.stop.check()?;
        if self.left == 0 {
            return Ok(None);
        }
        let failed = Error::io("read", &self.path);
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
        let bytes: &[u8] = match &mut self.source {
            Source::File(file) | Source::Unchanging(file) => {
                let n = read_some(file, &mut self.buffer[..want]).map_err(failed)?;
                &self.buffer[..n]
            }
            Source::Direct(reader) => reader.next().map_err(failed)?,
            Source::Bytes(bytes) => {
                let (now, later) = bytes.split_at(want.min(bytes.len()));
                *bytes = later;
                now
            }
        };
        if bytes.is_empty() {
            let actual = self.len - self.left;
            return Err(Error::Shrunk { path: self.path.clone(), expected: self.len, actual });
        }
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        self.limiter.take(bytes.len() as u64, self.stop)?;
        Ok(Some(bytes))
    }

    /// Writes all bytes to `out`.
    ///
    /// # Errors
    ///
    /// As [`next_bytes`](Content::next_bytes), and [`Error::ReaderGone`] or [`Error::Output`].
    pub fn copy_to(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        let mut written = 0;
        while let Some(bytes) = self.next_bytes()? {
            out.write_all(bytes).map_err(|e| Error::output(written, e))?;
            written += bytes.len() as u64;
        }
        Ok(())
    }

    /// Lets the kernel move all bytes to `out`: from the page cache into a pipe without a copy. For a checksum the
    /// bytes are read before they are moved, and that only of a file that never changes: what is moved is then what
    /// was read. `false` if it is not possible; then nothing was moved.
    ///
    /// # Errors
    ///
    /// As for [`copy_to`](Content::copy_to).
    pub fn move_to(&mut self, out: BorrowedFd<'_>) -> Result<bool, Error> {
        let summed = !matches!(self.hasher, Hasher::None);
        let file = match &self.source {
            Source::File(file) if !summed => file,
            Source::Unchanging(file) => file,
            _ => return Ok(false),
        };
        let mut first = true;
        while self.left > 0 {
            self.stop.check()?;
            let mut want = usize::try_from(self.left).unwrap_or(usize::MAX).min(MOVE);
            if summed {
                want = want.min(self.buffer.len());
                let at = self.len - self.left;
                let read = file.read_at(&mut self.buffer[..want], at).map_err(Error::io("read", &self.path));
                want = read?;
            }
            let moved = if want == 0 { Ok(0) } else { rustix::fs::sendfile(out, file.as_fd(), None, want) };
            match moved {
                Ok(0) => {
                    let actual = self.len - self.left;
                    return Err(Error::Shrunk { path: self.path.clone(), expected: self.len, actual });
                }
                Ok(n) => {
                    if summed {
                        self.hasher.update(&self.buffer[..n]);
                    }
                    self.left -= n as u64;
                    self.limiter.take(n as u64, self.stop)?;
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // The kernel cannot do it between these two; nothing was moved.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if first => return Ok(false),
                Err(e) => return Err(Error::output(self.len - self.left, e.into())),
            }
            first = false;
        }
        Ok(self.len > 0)
    }

    /// The checksum, once all bytes were read.
    ///
    /// # Errors
    ///
    /// [`Error::Output`] if the sink left bytes unread: what it wrote is not the file.
    pub(crate) fn sum(self) -> Result<Sum, Error> {
        if self.left > 0 {
            let source =
                io::Error::other(format!("the sink did not take {} bytes of {:?}", self.left, self.path));
            return Err(Error::Output { written: self.len - self.left, source });
        }
        Ok(self.hasher.finish())
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
