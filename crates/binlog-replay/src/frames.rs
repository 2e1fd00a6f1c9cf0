//! Cuts a stream into events and compares their checksums; knows nothing of what is in them.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::event::{Checksum, EventKind, FormatDescription, Header};

/// First bytes of every binlog.
pub(crate) const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// First bytes of a binlog that MySQL encrypted.
pub(crate) const ENCRYPTED_MAGIC: [u8; 4] = [0xfd, b'b', b'i', b'n'];

/// Bytes read at a time: large enough that system calls cost nothing, small enough for the cache.
const BUFFER: usize = 512 << 10;

/// What of a larger event stays in memory when frames are only skimmed.
const SKIM: usize = 64 << 10;

/// One event's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) offset: u64,
    /// All of it; of an event above [`SKIM`] only the beginning, when frames are skimmed.
    pub(crate) bytes: &'a [u8],
    /// Bytes of checksum at its end.
    pub(crate) checksum: usize,
}

/// Reads frames from a stream that starts at an event.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    input: R,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Offset of `buffer[start]` in the file.
    offset: u64,
    skim: bool,
    /// Bytes of the last event, which end at `start`.
    last_size: usize,
    /// Bytes of checksum at its end.
    last_checksum: usize,
    /// It was skimmed: its beginning is in `kept`.
    last_skimmed: bool,
    /// The beginning of the last large event.
    kept: Vec<u8>,
    /// Made once: a new one asks what the processor can do.
    crc: crc32fast::Hasher,
}

impl<R: Read> Frames<R> {
    pub(crate) fn new(input: R, path: PathBuf, offset: u64, skim: bool) -> Self {
        Self {
            input,
            path,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset,
            skim,
            last_size: 0,
            last_checksum: 0,
            last_skimmed: false,
            kept: Vec::new(),
            crc: crc32fast::Hasher::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the next event.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until `need` bytes are there or the stream ends, and says how many are there.
    #[inline]
    fn fill(&mut self, need: usize) -> Result<usize, Error> {
        if self.end - self.start >= need { Ok(need) } else { self.read(need) }
    }

    /// As [`Self::fill`], where they are not all there. The buffer grows with what arrives, not with what is asked for.
    #[cold]
    fn read(&mut self, need: usize) -> Result<usize, Error> {
        while self.end - self.start < need {
            if self.end == self.buffer.len() {
                if self.start > 0 {
                    self.buffer.copy_within(self.start..self.end, 0);
                    self.end -= self.start;
                    self.start = 0;
                } else {
                    let larger = (self.buffer.len() * 2).min(need.next_multiple_of(BUFFER)).max(BUFFER);
                    self.buffer.resize(larger, 0);
                }
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { path: self.path.clone(), source }),
            }
        }
        Ok((self.end - self.start).min(need))
    }

    fn truncated(&self, have: u64) -> Error {
        Error::Truncated { path: self.path.clone(), offset: self.offset, end: self.offset + have }
    }

    /// Takes `n` bytes that do not belong to an event.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Error> {
        if self.fill(N)? < N {
            return Ok(None);
        }
        let bytes = self.buffer[self.start..].first_chunk().copied();
        self.start += N;
        self.offset += N as u64;
        Ok(bytes)
    }

    /// The next event, its checksum compared, or `None` where the stream ends between two events.
    #[inline]
    pub(crate) fn next_frame(
        &mut self,
        format: Option<&FormatDescription>,
    ) -> Result<Option<Frame<'_>>, Error> {
        match self.fill(Header::LEN)? {
            0 => return Ok(None),
            Header::LEN => {}
            have => return Err(self.truncated(have as u64)),
        }
        let Some(header) = Header::parse(&self.buffer[self.start..self.end]) else {
            return Err(self.truncated(0));
        };
        let size = header.size as usize;
        let by_default = format.map_or(0, |f| f.checksum.len());
        if size < Header::LEN + by_default {
            return Err(Error::EventSize { path: self.path.clone(), offset: self.offset, size: header.size });
        }
        if self.skim && size > self.buffer.len() {
            return self.skim_frame(header, by_default);
        }
        let have = self.fill(size)?;
        if have < size {
            return Err(self.truncated(have as u64));
        }
        let (start, offset) = (self.start, self.offset);
        let frame = &self.buffer[start..start + size];
        let checksum = match header.kind {
            // The format description has one, whatever holds for the others.
            EventKind::FORMAT_DESCRIPTION => Checksum::Crc32.len(),
            _ => by_default,
        };
        if checksum > 0 {
            let (covered, stored) = match frame.split_last_chunk::<4>() {
                Some((covered, stored)) => (covered, u32::from_le_bytes(*stored)),
                None => (frame, 0),
            };
            let computed = match header.kind {
                EventKind::FORMAT_DESCRIPTION => closed_crc(covered),
                _ => {
                    self.crc.reset();
                    self.crc.update(covered);
                    self.crc.clone().finalize()
                }
            };
            if stored != computed {
                return Err(self.mismatch(header, stored, computed));
            }
        }
        self.start += size;
        self.offset += size as u64;
        (self.last_size, self.last_checksum, self.last_skimmed) = (size, checksum, false);
        Ok(Some(Frame { header, offset, bytes: &self.buffer[start..start + size], checksum }))
    }

    /// The event that the last call of [`Self::next_frame`] gave.
    #[inline]
    pub(crate) fn last_frame(&self) -> Option<Frame<'_>> {
        let bytes = match self.last_skimmed {
            true => &self.kept,
            false => self.buffer.get(self.start.checked_sub(self.last_size)?..self.start)?,
        };
        let header = Header::parse(bytes)?;
        let offset = self.offset - u64::from(header.size);
        Some(Frame { header, offset, bytes, checksum: self.last_checksum })
    }

    /// As [`Self::next_frame`] for an event that is larger than the buffer: the checksum is computed piece
    /// by piece, and only the beginning is kept.
    fn skim_frame(&mut self, header: Header, checksum: usize) -> Result<Option<Frame<'_>>, Error> {
        let size = u64::from(header.size);
        let kept = self.fill(SKIM)?;
        self.kept.clear();
        self.kept.extend_from_slice(&self.buffer[self.start..self.start + kept]);
        let mut crc = crc32fast::Hasher::new();
        let mut stored = [0; 4];
        let covered = size - checksum as u64;
        let mut done = 0;
        while done < size {
            let want = (size - done).min(BUFFER as u64) as usize;
            let have = self.fill(want)?;
            if have < want {
                return Err(self.truncated(done + have as u64));
            }
            let piece = &self.buffer[self.start..self.start + want];
            let data = want.min(usize::try_from(covered.saturating_sub(done)).unwrap_or(want));
            crc.update(&piece[..data]);
            // The checksum may be split between two pieces.
            for (at, byte) in piece.iter().enumerate().skip(data) {
                stored[(done + at as u64 - covered) as usize] = *byte;
            }
            self.start += want;
            done += want as u64;
        }
        let (stored, computed) = (u32::from_le_bytes(stored), crc.finalize());
        if checksum > 0 && stored != computed {
            return Err(self.mismatch(header, stored, computed));
        }
        let offset = self.offset;
        self.offset += size;
        (self.last_checksum, self.last_skimmed) = (0, true);
        Ok(Some(Frame { header, offset, bytes: &self.kept, checksum: 0 }))
    }

    fn mismatch(&self, header: Header, stored: u32, computed: u32) -> Error {
        let path = self.path.clone();
        Error::Checksum { path, offset: self.offset, kind: header.kind, stored, computed }
    }
}

/// Checksum of a format description: as if the file had been closed, since the server sets and clears that
/// flag in place.
fn closed_crc(covered: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    match covered.split_at_checked(17) {
        Some((front, [low, rest @ ..])) => {
            crc.update(front);
            crc.update(&[low & !(Header::IN_USE as u8)]);
            crc.update(rest);
        }
        _ => crc.update(covered),
    }
    crc.finalize()
}
