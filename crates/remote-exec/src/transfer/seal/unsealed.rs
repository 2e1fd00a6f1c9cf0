//! The receiving end.

use std::io::{self, Read};

use super::header::{Checksum, Header};
use super::sum::Sum;
use super::{Compression, END, Key, PIECE};
use crate::transfer::Digest;

/// From what size on a caller's buffer is read into without a copy, in bytes.
pub(super) const DIRECT: usize = 32 * 1024;

/// Largest window of a zstd frame, as a power of two: 8 MiB. Level 1 uses 512 KiB.
const WINDOW_LOG: u32 = 23;

/// Why a sealed stream is none, or none that arrived as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It does not begin as one: something else wrote into it.
    #[error("the stream is not sealed; it begins with {begin:?}")]
    NotSealed {
        /// Its first bytes.
        begin: String,
    },
    /// It was not sealed with the key of this attempt: it is of another transfer or attempt, or of a stranger.
    #[error("the stream is not of this transfer: it was not sealed with the same key")]
    Foreign,
    /// It stopped before its end.
    #[error("the stream was cut after {bytes} bytes")]
    Cut {
        /// Bytes of its contents that arrived.
        bytes: u64,
    },
    /// What arrived is not what was sent.
    #[error("sent were {sent}, received {received}")]
    Altered {
        /// What its end says.
        sent: Digest,
        /// What arrived.
        received: Digest,
    },
}

/// Reads a sealed stream. Its end is seen only when all of it arrived as it was sent; everything else is an error.
pub struct Unsealed<R: Read>(Inside<R>);

enum Inside<R: Read> {
    Plain(Checked<R>),
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<Checked<R>>>),
}

impl<R: Read> Unsealed<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If reading fails. A stream that is not sealed, or not with this key, is [`Broken`] from here on.
    pub fn new(mut input: R, key: &Key) -> io::Result<Self> {
        let (header, broken) = match Header::read(&mut input, key)? {
            Ok(header) => (header, None),
            Err(broken) => (Header::of_program(Compression::None), Some(Err(broken))),
        };
        let checked = Checked::new(input, header.checksum, key.clone(), broken);
        Ok(Self(match header.compression {
            Compression::None => Inside::Plain(checked),
            Compression::Zstd => {
                let checked = io::BufReader::with_capacity(PIECE, checked);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(checked)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Inside::Zstd(decoder)
            }
        }))
    }

    fn checked(&self) -> &Checked<R> {
        match &self.0 {
            Inside::Plain(checked) => checked,
            Inside::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// What was wrong with the stream, as far as it was read.
    pub fn broken(&self) -> Option<&Broken> {
        self.checked().end.as_ref()?.as_ref().err()
    }

    /// Reads what is left, gives it to nobody, and tells whether all of the stream arrived as it was sent.
    ///
    /// # Errors
    ///
    /// If it did not, or reading fails.
    pub fn finish(&mut self) -> io::Result<Digest> {
        let checked = match &mut self.0 {
            Inside::Plain(checked) => checked,
            Inside::Zstd(decoder) => decoder.get_mut().get_mut(),
        };
        loop {
            match checked.more()? {
                0 => match &checked.end {
                    Some(Ok(digest)) => return Ok(*digest),
                    Some(Err(broken)) => return Err(io::Error::other(broken.clone())),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                _ => checked.at = checked.given,
            }
        }
    }
}

impl<R: Read> Read for Unsealed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inside::Plain(checked) => checked.read(buffer),
            Inside::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// The contents of a sealed stream. The last [`END`] bytes that were read are held back: they may be its end.
struct Checked<R> {
    input: R,
    buffer: Vec<u8>,
    /// What was not given out yet: `at..given`; what is held back: `given..filled`.
    at: usize,
    given: usize,
    filled: usize,
    sum: Sum,
    key: Key,
    end: Option<Result<Digest, Broken>>,
}

impl<R: Read> Checked<R> {
    fn new(input: R, checksum: Checksum, key: Key, end: Option<Result<Digest, Broken>>) -> Self {
        let (buffer, sum) = (vec![0; PIECE + END], Sum::new(checksum));
        Self { input, buffer, at: 0, given: 0, filled: 0, sum, key, end }
    }

    /// Forgets what was given out; what is held back is the beginning of the buffer then.
    fn forget(&mut self) {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        (self.at, self.given) = (0, 0);
    }

    /// Reads into a large buffer without a copy; everything read before was given out. 0 is the end, whatever it is.
    fn direct(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.forget();
        while self.end.is_none() {
            let held = self.filled;
            buffer[..held].copy_from_slice(&self.buffer[..held]);
            let n = match self.input.read(&mut buffer[held..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if n == 0 {
                self.end = Some(self.ended());
                break;
            }
            let (read, given) = (held + n, (held + n).saturating_sub(END));
            self.filled = read - given;
            self.buffer[..self.filled].copy_from_slice(&buffer[given..read]);
            self.sum.add(&buffer[..given]);
            if given > 0 {
                return Ok(given);
            }
        }
        Ok(0)
    }

    /// Reads until there is something to give out; how much that is. 0 is the end, whatever it is.
    fn more(&mut self) -> io::Result<usize> {
        while self.at == self.given && self.end.is_none() {
            self.forget();
            let n = match self.input.read(&mut self.buffer[self.filled..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            self.filled += n;
            if n == 0 {
                self.end = Some(self.ended());
            } else {
                self.given = self.filled.saturating_sub(END);
                self.sum.add(&self.buffer[..self.given]);
            }
        }
        Ok(self.given - self.at)
    }

    /// What is held back when nothing more comes.
    fn ended(&self) -> Result<Digest, Broken> {
        let received = self.sum.digest();
        let held = &self.buffer[..self.filled];
        let parse = || {
            let (text, code) = std::str::from_utf8(held).ok()?.strip_suffix('\n')?.rsplit_once(' ')?;
            let (crc, bytes) = text.strip_prefix("@sealed ")?.split_once(' ')?;
            let sent = Digest { crc: crc.parse().ok()?, bytes: bytes.parse().ok()? };
            Some((sent, self.key.proves(text, code.as_bytes())))
        };
        match parse() {
            Some((sent, true)) if sent == received => Ok(sent),
            Some((sent, false)) if sent == received => Err(Broken::Foreign),
            Some((sent, _)) => Err(Broken::Altered { sent, received }),
            None => Err(Broken::Cut { bytes: received.bytes + held.len() as u64 }),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if buffer.len() >= DIRECT && self.at == self.given {
            let n = self.direct(buffer)?;
            if n > 0 {
                return Ok(n);
            }
        }
        let n = self.more()?.min(buffer.len());
        if n == 0 {
            return match &self.end {
                Some(Err(broken)) => Err(io::Error::other(broken.clone())),
                _ => Ok(0),
            };
        }
        buffer[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
