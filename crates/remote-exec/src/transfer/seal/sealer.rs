//! The sending end.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::header::Header;
use super::sum::Sum;
use super::{Compression, Key, PIECE, Unsent};
use crate::transfer::Digest;

/// Copies `input` to `output`, sealed. Returns what [`Unsealed::finish`](super::Unsealed::finish) will.
///
/// `rate_limit` is the most bytes per second that are written, on average. What fails is cut for its receiver.
///
/// # Errors
///
/// Whatever reading or writing fails with, and which of the two it was.
pub fn seal(
    mut input: impl Read,
    output: impl Write,
    key: &Key,
    compression: Compression,
    rate_limit: Option<u64>,
) -> Result<Digest, Unsent> {
    let mut output = Sealer::new(output, key, compression, rate_limit).map_err(Unsent::Writing)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return output.finish().map_err(Unsent::Writing),
            Ok(n) => output.write_all(&buffer[..n]).map_err(Unsent::Writing)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Unsent::Reading(e)),
        }
    }
}

/// Seals what is written to it. Dropped without [`finish`](Self::finish), it leaves a stream that was cut.
pub struct Sealer<W: Write> {
    contents: Contents<W>,
    key: Key,
}

enum Contents<W: Write> {
    Plain(Counted<W>),
    Zstd(zstd::stream::write::Encoder<'static, Counted<W>>),
}

impl<W: Write> Sealer<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn new(output: W, key: &Key, compression: Compression, rate_limit: Option<u64>) -> io::Result<Self> {
        let counted = Counted::new(output, key, compression, rate_limit)?;
        let contents = match compression {
            Compression::None => Contents::Plain(counted),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(counted, 1)?;
                // Its own checksum covers what the digest does not: the compression itself.
                encoder.include_checksum(true)?;
                Contents::Zstd(encoder)
            }
        };
        Ok(Self { contents, key: key.clone() })
    }

    /// Writes the end.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<Digest> {
        let counted = match self.contents {
            Contents::Plain(counted) => counted,
            Contents::Zstd(encoder) => encoder.finish()?,
        };
        counted.finish(&self.key)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.contents {
            Contents::Plain(counted) => counted.write(bytes),
            Contents::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.contents {
            Contents::Plain(counted) => counted.flush(),
            Contents::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// Counts what passes, and lets it pass no faster than it may.
pub(super) struct Counted<W> {
    pub(super) output: W,
    pub(super) sum: Sum,
    rate_limit: Option<u64>,
    begun: Instant,
}

impl<W: Write> Counted<W> {
    /// Writes the header.
    pub(super) fn new(
        mut output: W,
        key: &Key,
        compression: Compression,
        rate_limit: Option<u64>,
    ) -> io::Result<Self> {
        let header = Header::of_program(compression);
        let line = header.line();
        output.write_all(format!("{line}\n{}\n", key.code(line)).as_bytes())?;
        Ok(Self { output, sum: Sum::new(header.checksum), rate_limit, begun: Instant::now() })
    }

    /// Waits until so much may have passed.
    pub(super) fn pace(&self) {
        if let Some(rate) = self.rate_limit.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(self.sum.bytes as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        }
    }

    /// Writes the end.
    pub(super) fn finish(mut self, key: &Key) -> io::Result<Digest> {
        let digest = self.sum.digest();
        let text = format!("@sealed {:010} {:020}", digest.crc, digest.bytes);
        self.output.write_all(format!("{text} {}\n", key.code(&text)).as_bytes())?;
        self.output.flush()?;
        Ok(digest)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.sum.add(&bytes[..written]);
        self.pace();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
