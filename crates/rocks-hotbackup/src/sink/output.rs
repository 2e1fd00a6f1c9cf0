//! The one stream of an archive: to a pipe, a file or another machine; compressed and encrypted on the way.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aescrypt::Encryptor;
use secrecy::SecretString;

use super::descriptor::Descriptor;
use super::partial::Partial;
use crate::Error;
use crate::content::{Ahead, Content};

/// Headers and small files that are written at once.
const BUFFER: usize = 256 * 1024;

/// Files of this size and more, in bytes, are worth a system call of their own.
pub(super) const MOVE_FROM: u64 = 64 * 1024;

/// Capacity that is asked of a pipe: fewer changes between writer and reader. The kernel may refuse.
const PIPE: usize = 1024 * 1024;

/// What is done to the bytes on the way out: compressed, then encrypted.
#[derive(Debug, Clone, Default)]
pub struct Encoding {
    /// The zstd level (1 to 22), or no compression.
    pub zstd: Option<i32>,
    /// The password of an AES Crypt stream, or no encryption.
    pub password: Option<SecretString>,
}

impl Encoding {
    /// The endings of a file that is encoded like this: `.zst`, `.aes`, both or none.
    pub fn suffix(&self) -> String {
        let mut suffix = String::new();
        if self.zstd.is_some() {
            suffix.push_str(".zst");
        }
        if self.password.is_some() {
            suffix.push_str(".aes");
        }
        suffix
    }
}

/// Where a stream ends.
pub trait Target: Write {
    /// The stream is complete: makes it last.
    ///
    /// # Errors
    ///
    /// If the bytes cannot be made to last.
    fn end(&mut self) -> io::Result<()> {
        self.flush()
    }

    /// The descriptor that the kernel can move bytes to.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A target behind a buffer.
struct Buffered {
    target: Box<dyn Target>,
    buffer: Vec<u8>,
    /// A write failed: the rest must not follow it.
    broken: bool,
}

impl Buffered {
    fn drain(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        let result = self.target.write_all(&self.buffer);
        self.broken = result.is_err();
        self.buffer.clear();
        result
    }

    fn end(&mut self) -> io::Result<()> {
        self.drain()?;
        self.target.end()
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.drain()?;
        }
        if bytes.len() >= BUFFER / 4 {
            self.drain()?;
            return self.target.write(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.target.flush()
    }
}

enum Stage {
    Plain(Buffered),
    Aes(Box<Encryptor<Buffered>>),
    Zstd(zstd::stream::write::Encoder<'static, Buffered>),
    ZstdAes(Box<zstd::stream::write::Encoder<'static, Encryptor<Buffered>>>),
    Ended,
}

/// The one stream of an archive.
pub struct Output {
    stage: Stage,
    written: u64,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Output {
    /// A stream into any target.
    ///
    /// # Errors
    ///
    /// If compression or encryption cannot begin, for instance because the password is too long.
    pub fn new(target: Box<dyn Target>, encoding: &Encoding) -> io::Result<Self> {
        let buffered = Buffered { target, buffer: Vec::with_capacity(BUFFER), broken: false };
        let stage = match (encoding.zstd, &encoding.password) {
            (None, None) => Stage::Plain(buffered),
            (None, Some(password)) => {
                Stage::Aes(Box::new(Encryptor::new(buffered, password).map_err(io::Error::other)?))
            }
            (Some(level), None) => Stage::Zstd(zstd_encoder(buffered, level)?),
            (Some(level), Some(password)) => {
                let aes = Encryptor::new(buffered, password).map_err(io::Error::other)?;
                Stage::ZstdAes(Box::new(zstd_encoder(aes, level)?))
            }
        };
        Ok(Self { stage, written: 0 })
    }

    /// A stream into an open descriptor, for instance the standard output.
    ///
    /// # Errors
    ///
    /// As for [`new`](Output::new), or if the descriptor cannot be duplicated.
    pub fn descriptor(fd: impl AsFd, encoding: &Encoding) -> io::Result<Self> {
        let file = File::from(fd.as_fd().try_clone_to_owned()?);
        let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE);
        Self::new(Box::new(Descriptor(file)), encoding)
    }

    /// A stream into a file that gets its name when the backup is whole.
    ///
    /// # Errors
    ///
    /// Those of [`Partial::create`], and [`Error::Io`] as for [`new`](Output::new).
    pub fn file(path: &Path, encoding: &Encoding) -> Result<Self, Error> {
        Self::new(Box::new(Partial::create(path)?), encoding).map_err(Error::io("create", path))
    }

    /// Bytes taken so far, before compression and encryption.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes a whole file; the kernel moves it where nobody needs to see the bytes.
    ///
    /// # Errors
    ///
    /// The errors of the content, [`Error::ReaderGone`] and [`Error::Output`].
    pub fn take(&mut self, content: &mut Content<'_>) -> Result<(), Error> {
        if content.len() >= MOVE_FROM
            && let Some(fd) = self.drained()?
            && content.move_to(fd)?
        {
            self.written += content.len();
            return Ok(());
        }
        while let Some(bytes) = content.next_bytes()? {
            self.write_all(bytes).map_err(|e| Error::output(self.written, e))?;
        }
        Ok(())
    }

    /// If the kernel can move bytes to the target.
    pub(super) fn is_descriptor(&self) -> bool {
        matches!(&self.stage, Stage::Plain(out) if out.target.descriptor().is_some())
    }

    /// The descriptor that the kernel can move bytes to, with everything before them written.
    fn drained(&mut self) -> Result<Option<BorrowedFd<'_>>, Error> {
        let Stage::Plain(out) = &mut self.stage else { return Ok(None) };
        out.drain().map_err(|e| Error::output(self.written, e))?;
        Ok(out.target.descriptor())
    }

    /// Lets the kernel move what was looked at; only where the target [is a descriptor](Output::is_descriptor).
    pub(super) fn move_ahead(&mut self, content: &mut Content<'_>, ahead: &Ahead) -> Result<(), Error> {
        let written = self.written;
        let Some(fd) = self.drained()? else { return Err(Error::output(written, ended())) };
        content.move_ahead(ahead, fd)?;
        self.written += ahead.len as u64;
        Ok(())
    }

    /// Ends compression and encryption, and makes the target last. Further writes fail.
    ///
    /// # Errors
    ///
    /// [`Error::ReaderGone`] and [`Error::Output`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let written = self.written;
        let mut end = || -> io::Result<()> {
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Plain(mut out) => out.end(),
                Stage::Aes(aes) => aes.finish()?.end(),
                Stage::Zstd(zstd) => zstd.finish()?.end(),
                Stage::ZstdAes(zstd) => zstd.finish()?.finish()?.end(),
                Stage::Ended => Err(ended()),
            }
        };
        end().map_err(|e| Error::output(written, e))
    }
}

fn ended() -> io::Error {
    io::Error::other("the stream was ended before")
}

fn zstd_encoder<W: Write>(out: W, level: i32) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.stage {
            Stage::Plain(out) => out.write(bytes),
            Stage::Aes(out) => out.write(bytes),
            Stage::Zstd(out) => out.write(bytes),
            Stage::ZstdAes(out) => out.write(bytes),
            Stage::Ended => Err(ended()),
        }?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Plain(out) => out.flush(),
            Stage::Aes(out) => out.flush(),
            Stage::Zstd(out) => out.flush(),
            Stage::ZstdAes(out) => out.flush(),
            Stage::Ended => Err(ended()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_finished_never_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.tar");
        let mut output = Output::file(&path, &Encoding::default()).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut output = Output::file(&path, &Encoding::default()).unwrap();
        output.write_all(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(Output::file(&path, &Encoding::default()).is_err(), "an existing file is never replaced");
    }

    #[test]
    fn a_stream_that_was_ended_takes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::file(&dir.path().join("f"), &Encoding::default()).unwrap();
        output.finish().unwrap();
        assert!(output.write_all(b"x").is_err());
        assert!(output.finish().is_err());
    }
}
