//! A stream that carries its own proof: whoever receives it knows by itself whether it is whole.
//!
//! | bytes | what |
//! | --- | --- |
//! | 16 | `DBRsealed2 none\n` or `DBRsealed2 zstd\n`: whether the contents are a zstd frame |
//! | 65 | `CODE\n`: that of the line before it |
//! | any | the contents |
//! | 105 | `@sealed CRC LENGTH CODE\n`: POSIX `cksum` of the contents in 10 digits, their bytes in 20, and the code of the 39 bytes up to there |
//!
//! A sender writes the end only when all that it had to send was read, so a stream without it was cut. The digest is
//! over what is on the wire. It is the one of `cksum`, so that a host with nothing but coreutils can seal a stream too.
//!
//! A code is the HMAC-SHA256 of a text without its line end, 64 hexadecimal digits, under the [`Key`] of the attempt. A
//! stream of another attempt, or of somebody who was not given the key, is known before anything of its contents is
//! given out, and what ends a stream is what the sender wrote. The contents themselves have a CRC only: who is between
//! the two can alter them so that it stays the same.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crc_fast::{CrcAlgorithm, Digest as Crc};

use super::Digest;
use super::key::CODE;
pub use super::key::{KEY_VARIABLE, Key};
pub use super::unsent::Unsent;

/// The exit status of a receiver whose stream was cut or altered: it is worth sending again. `EX_TEMPFAIL` of sysexits.
pub const BROKEN: u8 = 75;

/// The exit status of a sender whose receiver went away, as a shell shows a death by SIGPIPE.
pub const NO_RECEIVER: u8 = 141;

/// How much is read at once, in bytes. It stays in the processor's cache from the read to the write.
const PIECE: usize = 256 * 1024;

/// From what size on a caller's buffer is read into without a copy, in bytes.
const DIRECT: usize = 32 * 1024;

const HEADER: usize = 16;
const END: usize = 40 + 1 + CODE;

/// Largest window of a zstd frame, as a power of two: 8 MiB. Level 1 uses 512 KiB.
const WINDOW_LOG: u32 = 23;

/// What is done to a stream on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// zstd, level 1, one thread.
    Zstd,
}

impl Compression {
    /// The first line of a stream, without its end.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::None => "DBRsealed2 none",
            Self::Zstd => "DBRsealed2 zstd",
        }
    }
}

/// Copies `input` to `output`, sealed. Returns what [`Unsealed::finish`] will.
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
    pub fn new(
        mut output: W,
        key: &Key,
        compression: Compression,
        rate_limit: Option<u64>,
    ) -> io::Result<Self> {
        let header = compression.header();
        output.write_all(format!("{header}\n{}\n", key.code(header)).as_bytes())?;
        let counted = Counted { output, sum: Sum::new(), rate_limit, begun: Instant::now() };
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
        let mut counted = match self.contents {
            Contents::Plain(counted) => counted,
            Contents::Zstd(encoder) => encoder.finish()?,
        };
        let digest = counted.sum.digest();
        counted.output.write_all(&end(digest, &self.key))?;
        counted.output.flush()?;
        Ok(digest)
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

fn end(digest: Digest, key: &Key) -> Vec<u8> {
    let text = format!("@sealed {:010} {:020}", digest.crc, digest.bytes);
    format!("{text} {}\n", key.code(&text)).into_bytes()
}

/// Counts what passes, and lets it pass no faster than it may.
struct Counted<W> {
    output: W,
    sum: Sum,
    rate_limit: Option<u64>,
    begun: Instant,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.sum.add(&bytes[..written]);
        if let Some(rate) = self.rate_limit.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(self.sum.bytes as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The checksum of POSIX `cksum`, while it is computed.
struct Sum {
    crc: Crc,
    bytes: u64,
}

impl Sum {
    fn new() -> Self {
        Self { crc: Crc::new(CrcAlgorithm::Crc32Cksum), bytes: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The length belongs to what is summed: its bytes, the lowest first, without zeros at the end.
    fn digest(&self) -> Digest {
        let length = self.bytes.to_le_bytes();
        let significant = 8 - self.bytes.leading_zeros() as usize / 8;
        let mut crc = self.crc;
        crc.update(&length[..significant]);
        // The register has 32 bits.
        Digest { bytes: self.bytes, crc: crc.finalize() as u32 }
    }
}

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
        let compression = header(&mut input, key)?;
        let mut checked = Checked::new(input, key.clone());
        match compression {
            Ok(Compression::Zstd) => {
                let checked = io::BufReader::with_capacity(PIECE, checked);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(checked)?;
                decoder.window_log_max(WINDOW_LOG)?;
                return Ok(Self(Inside::Zstd(decoder)));
            }
            Ok(Compression::None) => {}
            Err(broken) => checked.end = Some(Err(broken)),
        }
        Ok(Self(Inside::Plain(checked)))
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

/// Reads the header.
fn header(input: &mut impl Read, key: &Key) -> io::Result<Result<Compression, Broken>> {
    let mut some = |length: usize| {
        let mut bytes = Vec::with_capacity(length);
        input.by_ref().take(length as u64).read_to_end(&mut bytes).map(|_| bytes)
    };
    let line = some(HEADER)?;
    let is = |compression: &Compression| line.strip_suffix(b"\n") == Some(compression.header().as_bytes());
    let Some(compression) = [Compression::None, Compression::Zstd].into_iter().find(is) else {
        let begin = String::from_utf8_lossy(&line).into_owned();
        return Ok(Err(if line.is_empty() { Broken::Cut { bytes: 0 } } else { Broken::NotSealed { begin } }));
    };
    let code = some(CODE + 1)?;
    Ok(match code.strip_suffix(b"\n") {
        Some(code) if key.proves(compression.header(), code) => Ok(compression),
        None if code.len() <= CODE => Err(Broken::Cut { bytes: 0 }),
        _ => Err(Broken::Foreign),
    })
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
    fn new(input: R, key: Key) -> Self {
        let (buffer, sum) = (vec![0; PIECE + END], Sum::new());
        Self { input, buffer, at: 0, given: 0, filled: 0, sum, key, end: None }
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

/// Makes a pipe as large as this process may, so that both of its ends change places less often. Other descriptors and
/// refusals are nothing to worry about.
pub fn widen(pipe: impl std::os::fd::AsFd) {
    /// The most that Linux gives an ordinary user, in bytes.
    const WIDE: usize = 1 << 20;
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, WIDE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(b"of this attempt")
    }

    fn sealed(contents: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        seal(contents, &mut out, &key(), compression, None).unwrap();
        out
    }

    fn opened(stream: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut reader = Unsealed::new(Pieces(stream, piece), &key())?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok(out)
    }

    /// Reads to the end, so many bytes at once.
    fn drained(reader: &mut impl Read, size: usize) -> io::Result<()> {
        let mut buffer = vec![0; size];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Gives out no more than so many bytes at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.1);
            self.0.read(&mut buffer[..n])
        }
    }

    #[test]
    fn digest_is_the_one_of_cksum() {
        // `printf 123456789 | cksum`, and `cksum </dev/null`.
        let digest = |bytes: &[u8]| {
            let mut sum = Sum::new();
            sum.add(bytes);
            sum.digest()
        };
        assert_eq!(digest(b"123456789"), Digest { crc: 930_766_865, bytes: 9 });
        assert_eq!(digest(b""), Digest { crc: 4_294_967_295, bytes: 0 });
    }

    #[test]
    fn contents_come_back_in_whatever_pieces() {
        let contents: Vec<u8> = (0..200_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(&contents, compression);
            for piece in [1, 7, END - 1, END, END + 1, 1 << 20] {
                assert_eq!(opened(&stream, piece).unwrap(), contents, "{compression:?} {piece}");
            }
            assert_eq!(opened(&sealed(b"", compression), 5).unwrap(), b"");
        }
    }

    #[test]
    fn large_and_small_reads_take_turns() {
        let contents: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
        let stream = sealed(&contents, Compression::None);
        for piece in [1000, 40_000, 1 << 20] {
            let mut reader = Unsealed::new(Pieces(&stream, piece), &key()).unwrap();
            let (mut out, mut buffer) = (Vec::new(), vec![0; 4 * DIRECT]);
            for size in [DIRECT, 7, 4 * DIRECT, 500].into_iter().cycle() {
                match reader.read(&mut buffer[..size]).unwrap() {
                    0 => break,
                    n => out.extend_from_slice(&buffer[..n]),
                }
            }
            assert!(out == contents, "{piece}");
            assert_eq!(reader.finish().unwrap().bytes, contents.len() as u64);
        }
    }

    #[test]
    fn stream_cut_or_altered_anywhere_has_no_end() {
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(b"a backup that is all there", compression);
            for end in 0..stream.len() {
                assert!(opened(&stream[..end], 1000).is_err(), "{compression:?} cut at {end}");
                let mut reader = Unsealed::new(&stream[..end], &key()).unwrap();
                assert!(drained(&mut reader, DIRECT).is_err(), "{compression:?} cut at {end}");
            }
            for at in 0..stream.len() {
                let mut altered = stream.clone();
                altered[at] ^= 0x10;
                for size in [100, DIRECT] {
                    let mut reader = Unsealed::new(altered.as_slice(), &key()).unwrap();
                    assert!(drained(&mut reader, size).is_err(), "{compression:?} altered at {at}");
                    // The decoder may give up before the end was read: the rest tells that the stream is at fault.
                    assert!(reader.finish().is_err() && reader.broken().is_some(), "{compression:?} {at}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_given_out_of_a_stream_with_another_key() {
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(b"a backup of somebody else", compression);
            for other in [&b"of another attempt"[..], b""] {
                let mut reader = Unsealed::new(stream.as_slice(), &Key::new(other)).unwrap();
                assert_eq!(reader.broken(), Some(&Broken::Foreign), "{compression:?}");
                assert!(reader.read(&mut [0; 100]).is_err() && reader.finish().is_err());
            }
        }
    }

    #[test]
    fn contents_of_somebody_else_behind_the_right_header_have_no_end() {
        let (mut stream, mut other) = (sealed(b"what was sent", Compression::None), Vec::new());
        seal(&b"something else"[..], &mut other, &Key::new(b"a guess"), Compression::None, None).unwrap();
        let header = HEADER + CODE + 1;
        stream.truncate(header);
        stream.extend_from_slice(&other[header..]);
        let mut reader = Unsealed::new(stream.as_slice(), &key()).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        assert_eq!(reader.broken(), Some(&Broken::Foreign));
    }

    #[test]
    fn banner_in_front_is_shown() {
        let mut stream = b"Welcome to db1, authorised use only\n".to_vec();
        stream.extend(sealed(b"x", Compression::None));
        let error = opened(&stream, 100).unwrap_err().to_string();
        assert!(error.contains("Welcome to db1"), "{error}");
    }

    #[test]
    fn rate_limit_is_held() {
        let begun = Instant::now();
        seal(&[0; 400_000][..], io::sink(), &key(), Compression::None, Some(1_000_000)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(350));
    }
}
