//! The bytes of one file on their way into a sink.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::checksum::{Checksum, Hasher, Sum};
use crate::direct::DirectReader;
use crate::limit::Limiter;
use crate::sink::descriptor;
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

    /// `head`, and what follows those bytes in an opened file up to `len` bytes.
    pub(crate) fn headed<'b>(
        &'b mut self,
        path: &Path,
        head: &'b [u8],
        mut file: File,
        len: u64,
    ) -> Result<Content<'b>, Error> {
        file.seek(SeekFrom::Start(head.len() as u64)).map_err(Error::io("read", path))?;
        Ok(self.content(path, len, Source::Headed(head, file)))
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
    /// These bytes, then the file.
    Headed(&'a [u8], File),
}

impl Source<'_> {
    /// The next bytes, as many as the source gives at once; empty at its end.
    fn read<'b>(&'b mut self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        if let Source::Bytes(bytes) | Source::Headed(bytes @ [_, ..], _) = self {
            let (now, later) = bytes.split_at(buffer.len().min(bytes.len()));
            *bytes = later;
            return Ok(now);
        }
        match self {
            Source::File(file) | Source::Unchanging(file) | Source::Headed(_, file) => loop {
                match file.read(buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    read => return read.map(|n| &buffer[..n]),
                }
            },
            Source::Direct(reader) => reader.next(),
            Source::Bytes(_) => Ok(&[]),
        }
    }
}

/// Bytes that were looked at and are still to be moved.
pub(crate) struct Ahead {
    pub(crate) len: usize,
    /// Their CRC-32, if it was asked for.
    pub(crate) crc32: u32,
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

    /// If all of it was taken.
    pub(crate) fn is_read(&self) -> bool {
        self.left == 0
    }

    /// The next bytes, at most 1 MiB, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Shrunk`], [`Error::Stopped`], or the error of reading the file.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, Error> {
        Ok(self.next(false)?.map(|(bytes, _)| bytes))
    }

    /// The same with the CRC-32 of these bytes.
    pub(crate) fn next_summed(&mut self) -> Result<Option<(&[u8], u32)>, Error> {
        self.next(true)
    }

    fn next(&mut self, summed: bool) -> Result<Option<(&[u8], u32)>, Error> {
        self.stop.check()?;
        if self.left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
        let bytes = self.source.read(&mut self.buffer[..want]).map_err(Error::io("read", &self.path))?;
        if bytes.is_empty() {
            let actual = self.len - self.left;
            return Err(Error::Shrunk { path: self.path.clone(), expected: self.len, actual });
        }
        let mut crc = crc32fast::Hasher::new();
        self.hasher.update(bytes, summed.then_some(&mut crc));
        self.hasher.combine(&crc);
        self.left -= bytes.len() as u64;
        self.limiter.take(bytes.len() as u64, self.stop)?;
        Ok(Some((bytes, crc.finalize())))
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
        let most = if matches!(self.hasher, Hasher::None) { MOVE } else { BUFFER };
        while self.left > 0 {
            let Some(ahead) = self.look_ahead(most, false)? else { return Ok(false) };
            self.move_ahead(&ahead, out)?;
        }
        Ok(self.len > 0)
    }

    /// Looks at the next bytes, at most `most`, for their checksums, and leaves them to be moved. `None` if they
    /// cannot be: they are no file's, or the file could be another when it is read again.
    pub(crate) fn look_ahead(&mut self, most: usize, summed: bool) -> Result<Option<Ahead>, Error> {
        let seen = summed || !matches!(self.hasher, Hasher::None);
        let file = match &self.source {
            Source::File(file) if !seen => file,
            Source::Unchanging(file) => file,
            _ => return Ok(None),
        };
        self.stop.check()?;
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let mut crc = crc32fast::Hasher::new();
        let (start, mut done) = (self.len - self.left, 0);
        while seen && done < len {
            let want = (len - done).min(self.buffer.len());
            let at = start + done as u64;
            match file.read_at(&mut self.buffer[..want], at).map_err(Error::io("read", &self.path))? {
                0 => return Err(Error::Shrunk { path: self.path.clone(), expected: self.len, actual: at }),
                n => {
                    self.hasher.update(&self.buffer[..n], summed.then_some(&mut crc));
                    done += n;
                }
            }
        }
        self.hasher.combine(&crc);
        Ok(Some(Ahead { len, crc32: crc.finalize() }))
    }

    /// Moves what was looked at.
    pub(crate) fn move_ahead(&mut self, ahead: &Ahead, out: BorrowedFd<'_>) -> Result<(), Error> {
        let (Source::File(file) | Source::Unchanging(file)) = &self.source else { return Ok(()) };
        let mut at = self.len - self.left;
        let end = at + ahead.len as u64;
        while at < end {
            let before = at;
            let want = (end - at) as usize;
            match rustix::fs::sendfile(out, file.as_fd(), Some(&mut at), want) {
                Ok(0) => {
                    return Err(Error::Shrunk { path: self.path.clone(), expected: self.len, actual: at });
                }
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    descriptor::wait_writable(out).map_err(|e| Error::output(at, e))?;
                }
                // The kernel cannot do it between these two.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let want = want.min(self.buffer.len());
                    let read = file.read_at(&mut self.buffer[..want], at);
                    let n = read.map_err(Error::io("read", &self.path))?;
                    let mut left = &self.buffer[..n];
                    while !left.is_empty() {
                        let n = descriptor::write(out, left).map_err(|e| Error::output(at, e))?;
                        (left, at) = (&left[n..], at + n as u64);
                    }
                    if n == 0 {
                        return Err(Error::Shrunk {
                            path: self.path.clone(),
                            expected: self.len,
                            actual: at,
                        });
                    }
                }
                Err(e) => return Err(Error::output(at, e.into())),
            }
            self.left -= at - before;
            self.limiter.take(at - before, self.stop)?;
        }
        Ok(())
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
