//! `.lz4` members: LZ4 frames one after another, as XtraBackup writes one for each piece of a file.
//!
//! | part | bytes |
//! |---|---|
//! | header | magic `04 22 4d 18`, FLG, BD, u64 content size (if flagged), header checksum |
//! | block, repeated | u32 length (bit 31: stored), data, u32 XXH32 (if flagged) |
//! | end | u32 0, u32 XXH32 of the contents (if flagged) |
//!
//! Skippable frames are passed over. Dictionaries and the format before version 1 are refused.
//! Source: the LZ4 frame format description 1.6; checked against `lz4` 1.9.

use std::hash::Hasher;

use twox_hash::XxHash32;

use super::Sink;
use super::error::{DecodeError, Format};
use super::parts::Parts;
use super::pieces::{MAX_PIECE, Scan, batch};
use crate::chunk::{le_u32, le_u64};

const FORMAT: Format = Format::Lz4;
const MAGIC: u32 = 0x184d_2204;
/// The low four bits of a skippable frame's magic are free.
const SKIPPABLE: u32 = 0x184d_2a50;
/// How far back a block may refer into those before it, in bytes.
const WINDOW: usize = 64 * 1024;
/// Bytes of a skippable frame that are passed over at a time.
const SKIP_PIECE: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Lz4 {
    expect: Expect,
    /// Beginning of the part that is taken.
    at: u64,
    frame: Frame,
    /// Contents of the last blocks when they are linked, then those of the current one.
    out: Vec<u8>,
    /// Bytes at the front of `out` that the next block may refer to.
    history: usize,
}

/// What a frame's header says, and how far it is.
#[derive(Debug, Default)]
struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    max_block: usize,
    written: u64,
    hash: XxHash32,
}

/// The part that comes next.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Magic,
    SkipLength,
    Skip {
        left: u32,
    },
    Flags,
    /// Content size and header checksum, after these two bytes.
    Header {
        flags: [u8; 2],
    },
    BlockLength,
    Block {
        stored: bool,
        len: usize,
    },
    ContentChecksum,
}

impl Expect {
    fn size(&self, frame: &Frame) -> usize {
        match *self {
            Self::Magic | Self::SkipLength | Self::BlockLength | Self::ContentChecksum => 4,
            Self::Skip { left } => left.min(SKIP_PIECE) as usize,
            Self::Flags => 2,
            Self::Header { flags } => 1 + if flags[0] & 0x08 != 0 { 8 } else { 0 },
            Self::Block { len, .. } => len + if frame.block_checksums { 4 } else { 0 },
        }
    }
}

impl Lz4 {
    pub(super) fn new() -> Self {
        Self { expect: Expect::Magic, at: 0, frame: Frame::default(), out: Vec::new(), history: 0 }
    }

    fn corrupt(&self, what: &'static str) -> DecodeError {
        DecodeError::Corrupt { format: FORMAT, at: self.at, what }
    }

    /// Takes a whole part and tells which one follows.
    fn take(&mut self, part: &[u8], out: &mut Sink<'_>) -> Result<Expect, DecodeError> {
        Ok(match self.expect {
            Expect::Magic => match le_u32(part) {
                MAGIC => Expect::Flags,
                skip if skip & !15 == SKIPPABLE => Expect::SkipLength,
                _ => {
                    let expected = "LZ4 frame";
                    return Err(DecodeError::Magic { format: FORMAT, at: self.at, expected });
                }
            },
            Expect::SkipLength => match le_u32(part) {
                0 => Expect::Magic,
                left => Expect::Skip { left },
            },
            Expect::Skip { left } if left > SKIP_PIECE => Expect::Skip { left: left - SKIP_PIECE },
            Expect::Skip { .. } => Expect::Magic,
            Expect::Flags => self.flags([part[0], part[1]])?,
            Expect::Header { flags } => self.header(flags, part)?,
            Expect::BlockLength => self.block_length(le_u32(part))?,
            Expect::Block { stored, len } => self.block(stored, len, part, out)?,
            Expect::ContentChecksum => {
                let (expected, actual) = (le_u32(part), self.frame.hash.finish() as u32);
                if expected != actual {
                    return Err(DecodeError::Checksum { format: FORMAT, at: self.at, expected, actual });
                }
                Expect::Magic
            }
        })
    }

    fn flags(&mut self, flags: [u8; 2]) -> Result<Expect, DecodeError> {
        let unsupported = |what| DecodeError::Unsupported { format: FORMAT, at: self.at, what };
        if flags[0] & 0xc0 != 0x40 {
            return Err(unsupported("frame version"));
        }
        if flags[0] & 0x01 != 0 {
            return Err(unsupported("dictionary"));
        }
        if flags[0] & 0x02 != 0 || flags[1] & 0x8f != 0 {
            return Err(self.corrupt("reserved bits are set"));
        }
        let max_block = match flags[1] >> 4 {
            n @ 4..=7 => block_size(n),
            _ => return Err(self.corrupt("impossible block size")),
        };
        self.frame = Frame {
            linked: flags[0] & 0x20 == 0,
            block_checksums: flags[0] & 0x10 != 0,
            content_checksum: flags[0] & 0x04 != 0,
            max_block,
            ..Frame::default()
        };
        self.history = 0;
        Ok(Expect::Header { flags })
    }

    fn header(&mut self, flags: [u8; 2], part: &[u8]) -> Result<Expect, DecodeError> {
        let (size, checksum) = part.split_at(part.len() - 1);
        if !size.is_empty() {
            self.frame.content_size = Some(le_u64(size));
        }
        let mut hash = XxHash32::default();
        hash.write(&flags);
        hash.write(size);
        let (expected, actual) = (u32::from(checksum[0]), hash.finish() as u32 >> 8 & 0xff);
        if expected != actual {
            return Err(DecodeError::Checksum { format: FORMAT, at: self.at, expected, actual });
        }
        Ok(Expect::BlockLength)
    }

    fn block_length(&mut self, word: u32) -> Result<Expect, DecodeError> {
        if word == 0 {
            if self.frame.content_size.is_some_and(|size| size != self.frame.written) {
                return Err(self.corrupt("contents of another size than the frame says"));
            }
            return Ok(if self.frame.content_checksum { Expect::ContentChecksum } else { Expect::Magic });
        }
        let (stored, len) = (word >> 31 != 0, (word & 0x7fff_ffff) as usize);
        // XtraBackup may store a last short block compressed to more than its size, so the bound is that of
        // the compressor, not the frame's.
        let max = if stored {
            self.frame.max_block
        } else {
            self.frame.max_block + self.frame.max_block / 255 + 16
        };
        if len > max {
            return Err(self.corrupt("block longer than the frame allows"));
        }
        Ok(Expect::Block { stored, len })
    }

    fn block(
        &mut self,
        stored: bool,
        len: usize,
        part: &[u8],
        out: &mut Sink<'_>,
    ) -> Result<Expect, DecodeError> {
        let (data, checksum) = part.split_at(len);
        if self.frame.block_checksums {
            let (expected, actual) = (le_u32(checksum), XxHash32::oneshot(0, data));
            if expected != actual {
                return Err(DecodeError::Checksum { format: FORMAT, at: self.at, expected, actual });
            }
        }
        let needed = self.history + self.frame.max_block;
        if self.out.len() < needed {
            self.out.resize(needed, 0);
        }
        let (history, room) = self.out.split_at_mut(self.history);
        let n = if stored {
            room[..len].copy_from_slice(data);
            len
        } else {
            let room = &mut room[..self.frame.max_block];
            match lz4_flex::block::decompress_into_with_dict(data, room, history) {
                Ok(n) => n,
                Err(_) => return Err(self.corrupt("impossible LZ4 block")),
            }
        };
        let plain = &self.out[self.history..self.history + n];
        if self.frame.content_checksum {
            self.frame.hash.write(plain);
        }
        self.frame.written += n as u64;
        out(plain)?;
        if self.frame.linked {
            let end = self.history + n;
            let keep = end.min(WINDOW);
            self.out.copy_within(end - keep..end, 0);
            self.history = keep;
        }
        Ok(Expect::BlockLength)
    }
}

impl Parts for Lz4 {
    const FORMAT: Format = FORMAT;

    fn next_size(&self) -> Option<usize> {
        Some(self.expect.size(&self.frame))
    }

    fn may_end(&self) -> bool {
        self.may_cut()
    }

    fn may_cut(&self) -> bool {
        matches!(self.expect, Expect::Magic)
    }

    fn scan(&self, input: &[u8]) -> Scan {
        batch(input, frame)
    }

    fn fork(&self) -> Self {
        Self::new()
    }

    fn part(&mut self, at: u64, part: &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        self.at = at;
        self.expect = self.take(part, out)?;
        Ok(())
    }
}

/// Largest block of a frame, in bytes, from the size's number in its header, 4 to 7.
fn block_size(number: u8) -> usize {
    1 << (8 + 2 * number)
}

/// A frame at the front of `input`. Its block lengths are read, nothing else of it.
fn frame(input: &[u8]) -> Scan {
    let Some(start) = input.get(..6) else { return Scan::Short };
    let (flags, size) = (start[4], start[5] >> 4 & 7);
    if le_u32(start) != MAGIC || size < 4 {
        return Scan::InOrder;
    }
    let flag = |bit: u8, bytes| if flags & bit != 0 { bytes } else { 0 };
    let mut len = 7 + flag(0x08, 8);
    let mut plain = 0;
    loop {
        let Some(word) = input.get(len..len + 4).map(le_u32) else { return Scan::Short };
        len += 4;
        if word == 0 {
            break;
        }
        len += (word & 0x7fff_ffff) as usize + flag(0x10, 4);
        plain += block_size(size);
        if len > MAX_PIECE {
            return Scan::InOrder;
        }
    }
    len += flag(0x04, 4);
    if len > input.len() { Scan::Short } else { Scan::Whole { len, plain } }
}
