//! Plaintext in, ciphertext out.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::authenticator::{Authenticator, Buffer};
use crate::blocks::{BLOCK, Sealer};
use crate::header::Header;
use crate::{DEFAULT_ITERATIONS, Error, MAX_PASSWORD_CHARS};

/// Bytes that are encrypted at once.
const CHUNK: usize = 256 * 1024;

/// The stream version to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// Version 2, which every AES Crypt program since 2006 and pyAesCrypt read.
    #[default]
    V2,
    /// Version 3: a much costlier key for those who try passwords, and no unauthenticated size byte.
    V3 {
        /// PBKDF2 iterations, 1 to [`MAX_ITERATIONS`](crate::MAX_ITERATIONS).
        iterations: u32,
    },
}

impl Format {
    /// Version 3 with [`DEFAULT_ITERATIONS`].
    pub const fn v3() -> Self {
        Self::V3 { iterations: DEFAULT_ITERATIONS }
    }

    pub(crate) fn version(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 { .. } => 3,
        }
    }
}

/// Writes an AES Crypt stream.
///
/// Only [`finish`](Self::finish) makes it whole: a stream whose writer was dropped has no HMAC, and readers
/// refuse it. Writes are gathered into large pieces, so no `BufWriter` is needed around either side.
pub struct Encryptor<W> {
    writer: W,
    cipher: Sealer,
    authenticator: Authenticator,
    buffer: Buffer,
    filled: usize,
    chunk: usize,
    version: u8,
    failed: bool,
}

impl<W: Write> Encryptor<W> {
    /// Begins a version 2 stream; the header is written at once.
    ///
    /// # Errors
    ///
    /// [`Error::PasswordTooLong`], [`Error::Random`], [`Error::Write`].
    pub fn new(writer: W, password: &SecretString) -> Result<Self, Error> {
        Self::with_format(writer, password, Format::V2)
    }

    /// Begins a stream of `format`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::Iterations`].
    pub fn with_format(writer: W, password: &SecretString, format: Format) -> Result<Self, Error> {
        Self::with_chunk(writer, password, format, CHUNK)
    }

    pub(crate) fn with_chunk(
        mut writer: W,
        password: &SecretString,
        format: Format,
        chunk: usize,
    ) -> Result<Self, Error> {
        if password.expose_secret().chars().nth(MAX_PASSWORD_CHARS).is_some() {
            return Err(Error::PasswordTooLong { max: MAX_PASSWORD_CHARS });
        }
        let (header, bytes) = Header::create(format, password)?;
        writer.write_all(&bytes).map_err(Error::Write)?;
        // Room for the fill of a last block that is full.
        let mut authenticator = Authenticator::new(header.body_hmac(), chunk + BLOCK);
        Ok(Self {
            writer,
            cipher: Sealer::new(&header.key, &header.iv),
            buffer: authenticator.buffer(),
            authenticator,
            filled: 0,
            chunk,
            version: header.version,
            failed: false,
        })
    }

    /// Encrypts and writes the rest, the size byte and the HMAC, and gives the output back.
    ///
    /// # Errors
    ///
    /// What the output's `write` or `flush` gives.
    pub fn finish(mut self) -> io::Result<W> {
        self.check()?;
        let modulo = self.filled % BLOCK;
        let fill = if self.version == 3 { BLOCK - modulo } else { (BLOCK - modulo) % BLOCK };
        let end = self.filled + fill;
        let bytes = Arc::make_mut(&mut self.buffer);
        bytes[self.filled..end].fill(fill as u8);
        self.cipher.seal(&mut bytes[..end]);
        let mut mac = self.authenticator.finish();
        mac.update(&bytes[..end]);
        self.writer.write_all(&bytes[..end])?;
        if self.version == 2 {
            self.writer.write_all(&[modulo as u8])?;
        }
        self.writer.write_all(mac.sign().as_ref())?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    /// A stream with a gap must not be given an HMAC.
    fn check(&self) -> io::Result<()> {
        if self.failed {
            Err(io::Error::other("an earlier write failed; the stream is incomplete"))
        } else {
            Ok(())
        }
    }

    /// Encrypts and writes a full buffer.
    fn write_chunk(&mut self) -> io::Result<()> {
        let bytes = Arc::make_mut(&mut self.buffer);
        self.cipher.seal(&mut bytes[..self.chunk]);
        self.authenticator.update(&self.buffer, self.chunk);
        let written = self.writer.write_all(&self.buffer[..self.chunk]);
        self.failed = written.is_err();
        self.filled = 0;
        let next = self.authenticator.buffer();
        self.authenticator.done_with(std::mem::replace(&mut self.buffer, next));
        written
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.check()?;
        if self.filled == self.chunk {
            self.write_chunk()?;
        }
        let amount = plain.len().min(self.chunk - self.filled);
        Arc::make_mut(&mut self.buffer)[self.filled..self.filled + amount].copy_from_slice(&plain[..amount]);
        self.filled += amount;
        Ok(amount)
    }

    /// Flushes the output. Plaintext that does not fill a piece yet stays here until [`finish`](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.writer.flush()
    }
}

/// Shows no key and no plaintext.
impl<W> fmt::Debug for Encryptor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryptor").field("version", &self.version).finish_non_exhaustive()
    }
}
