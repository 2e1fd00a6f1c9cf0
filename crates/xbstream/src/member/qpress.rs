//! `.qp` members: a qpress archive of one file.
//!
//! | part | bytes |
//! |---|---|
//! | archive header | `qpress10`, u64 chunk size |
//! | file header | `F`, u32 length of the name, the name, NUL |
//! | block, repeated | `NEWBNEWB`, u64 plain offset, u32 Adler-32 of the block, QuickLZ block |
//! | end | `ENDSENDS`, u64 0 |
//!
//! Not compared: the name (the member's own name counts), the plain offset (XtraBackup 8.0 counts each block
//! twice there) and the last eight bytes. Source: files of `mariabackup` 10.11.

use super::error::{DecodeError, Format};
use super::parts::Parts;
use super::pieces::{Scan, batch};
use super::quicklz::{self, Header, QuickLz};
use super::{MAX_BLOCK, Sink};
use crate::chunk::{le_u32, le_u64};

const FORMAT: Format = Format::Qpress;

/// Longest name in a file header that is accepted, in bytes.
const MAX_NAME: usize = 4096;

/// A QuickLZ block that does not get smaller may be this much larger than its contents.
const MAX_GROWTH: usize = 400;

/// Bytes of a block before its QuickLZ header: tag, plain offset, Adler-32.
const BLOCK_HEAD: usize = 20;

#[derive(Debug)]
pub(super) struct Qpress {
    expect: Expect,
    /// Only some blocks, without an end.
    piece: bool,
    chunk_size: u64,
    quicklz: QuickLz,
}

/// The part that comes next.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Archive,
    FileTag,
    Name {
        len: usize,
    },
    Tag,
    /// Plain offset, Adler-32 and the first byte of the QuickLZ header, which tells its length.
    BlockHead,
    /// The rest of the QuickLZ header.
    Lengths {
        expected: u32,
        adler: adler2::Adler32,
        flags: u8,
    },
    Body {
        expected: u32,
        adler: adler2::Adler32,
        header: Header,
    },
    Trailer,
    Nothing,
}

impl Expect {
    fn size(&self) -> usize {
        match *self {
            Self::Archive => 16,
            Self::FileTag => 5,
            Self::Name { len } => len + 1,
            Self::Tag | Self::Trailer => 8,
            Self::BlockHead => 13,
            Self::Lengths { flags, .. } => quicklz::header_len(flags) - 1,
            Self::Body { header, .. } => header.block - header.len,
            Self::Nothing => 0,
        }
    }
}

impl Qpress {
    pub(super) fn new() -> Self {
        Self { expect: Expect::Archive, piece: false, chunk_size: 0, quicklz: QuickLz::new() }
    }

    fn header(&self, at: u64, flags: u8, lengths: &[u8]) -> Result<Header, DecodeError> {
        let mut bytes = [0; quicklz::MAX_HEADER];
        bytes[0] = flags;
        bytes[1..=lengths.len()].copy_from_slice(lengths);
        let header = Header::parse(&bytes[..=lengths.len()]).map_err(|what| DecodeError::Corrupt {
            format: FORMAT,
            at,
            what,
        })?;
        if header.plain as u64 > self.chunk_size {
            let what = "block longer than the archive's chunk size";
            return Err(DecodeError::Corrupt { format: FORMAT, at, what });
        }
        let size = header.plain.max(header.block.saturating_sub(MAX_GROWTH)) as u64;
        if size > MAX_BLOCK as u64 {
            let limit = MAX_BLOCK as u64;
            return Err(DecodeError::TooLarge { format: FORMAT, at, what: "block", size, limit });
        }
        Ok(header)
    }
}

impl Parts for Qpress {
    const FORMAT: Format = FORMAT;

    fn next_size(&self) -> Option<usize> {
        match self.expect {
            Expect::Nothing => None,
            expect => Some(expect.size()),
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.expect, Expect::Nothing) || self.piece && self.may_cut()
    }

    fn may_cut(&self) -> bool {
        matches!(self.expect, Expect::Tag)
    }

    fn scan(&self, input: &[u8]) -> Scan {
        batch(input, block)
    }

    fn fork(&self) -> Self {
        Self { expect: Expect::Tag, piece: true, chunk_size: self.chunk_size, quicklz: QuickLz::new() }
    }

    fn part(&mut self, at: u64, part: &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        let magic = |expected| DecodeError::Magic { format: FORMAT, at, expected };
        self.expect = match self.expect {
            Expect::Archive => {
                if &part[..8] != b"qpress10" {
                    return Err(magic("qpress10"));
                }
                self.chunk_size = le_u64(&part[8..]);
                Expect::FileTag
            }
            Expect::FileTag => {
                if part[0] != b'F' {
                    return Err(magic("file header"));
                }
                let len = le_u32(&part[1..]) as usize;
                if len > MAX_NAME {
                    let (size, limit) = (len as u64, MAX_NAME as u64);
                    return Err(DecodeError::TooLarge { format: FORMAT, at, what: "name", size, limit });
                }
                Expect::Name { len }
            }
            Expect::Name { len } => match part[len] {
                0 => Expect::Tag,
                _ => return Err(magic("end of the file name")),
            },
            Expect::Tag => match part {
                b"NEWBNEWB" => Expect::BlockHead,
                b"ENDSENDS" => Expect::Trailer,
                _ => return Err(magic("NEWBNEWB or ENDSENDS")),
            },
            Expect::BlockHead => {
                let mut adler = adler2::Adler32::new();
                adler.write_slice(&part[12..]);
                Expect::Lengths { expected: le_u32(&part[8..]), adler, flags: part[12] }
            }
            Expect::Lengths { expected, mut adler, flags } => {
                let header = self.header(at, flags, part)?;
                adler.write_slice(part);
                Expect::Body { expected, adler, header }
            }
            Expect::Body { expected, mut adler, header } => {
                adler.write_slice(part);
                let actual = adler.checksum();
                if actual != expected {
                    return Err(DecodeError::Checksum { format: FORMAT, at, expected, actual });
                }
                let plain = self.quicklz.block(header, part).map_err(|what| DecodeError::Corrupt {
                    format: FORMAT,
                    at,
                    what,
                })?;
                out(plain)?;
                Expect::Tag
            }
            Expect::Trailer | Expect::Nothing => Expect::Nothing,
        };
        Ok(())
    }
}

/// A block at the front of `input`.
fn block(input: &[u8]) -> Scan {
    let tag = &input[..input.len().min(8)];
    if !b"NEWBNEWB".starts_with(tag) {
        return Scan::InOrder;
    }
    let Some(&flags) = input.get(BLOCK_HEAD) else { return Scan::Short };
    let Some(header) = input.get(BLOCK_HEAD..BLOCK_HEAD + quicklz::header_len(flags)) else {
        return Scan::Short;
    };
    let Ok(header) = Header::parse(header) else { return Scan::InOrder };
    let len = BLOCK_HEAD + header.block;
    if len > super::pieces::MAX_PIECE {
        return Scan::InOrder;
    }
    if len > input.len() { Scan::Short } else { Scan::Whole { len, plain: header.plain } }
}
