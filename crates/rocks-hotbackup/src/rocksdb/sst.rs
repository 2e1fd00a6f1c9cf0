//! The block checksums of an SST file in the block-based table format, which is RocksDB's default and MyRocks's only.
//!
//! The file ends in a footer of 53 bytes: kind of checksum (1), handles of the meta index and of the index (varint
//! offset and size each, together 40 bytes with zeros), version (4), magic number (8). Every block is followed by a
//! byte for its compression and four for its checksum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::compressed;
use super::crc32c::{crc32c, mask};
use super::varint::Fields;
use crate::{Error, Stop};

const FOOTER: u64 = 53;
const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
const TRAILER: u64 = 5;

/// Largest block that is read, in bytes. Index blocks grow with the file: 256 MiB is an index of about 20 GB of data.
const MAX_BLOCK: u64 = 256 * 1024 * 1024;

/// What was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocks {
    /// All blocks match their checksums.
    Sound {
        /// How many there are, index included.
        blocks: u64,
    },
    /// The file has block checksums of a kind, or an index of a form, that this reader does not know.
    Unknown {
        /// Which.
        what: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    offset: u64,
    size: u64,
}

/// Checks the blocks of an SST file against the checksums in it.
///
/// # Errors
///
/// [`Error::Rocks`] with the place of the first damage, [`Error::Io`], [`Error::Stopped`].
pub fn check_sst(path: &Path, stop: &Stop) -> Result<Blocks, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    let mut sst = Sst { file, len, path, buffer: Vec::new(), checksum: 0 };
    sst.check(stop)
}

struct Sst<'a> {
    file: File,
    len: u64,
    path: &'a Path,
    buffer: Vec<u8>,
    checksum: u8,
}

impl Sst<'_> {
    fn check(&mut self, stop: &Stop) -> Result<Blocks, Error> {
        let Some(start) = self.len.checked_sub(FOOTER) else {
            return Err(self.damaged(0, "it is shorter than a footer"));
        };
        let mut footer = [0; FOOTER as usize];
        self.read(start, &mut footer)?;
        let (version, magic) =
            (le32(&footer[41..45]), u64::from(le32(&footer[45..49])) | u64::from(le32(&footer[49..])) << 32);
        if magic != MAGIC {
            return Err(self.damaged(start, "the magic number at its end is wrong"));
        }
        self.checksum = footer[0];
        match (self.checksum, version) {
            (0, _) => return Ok(Blocks::Unknown { what: "no checksums at all" }),
            (1, 1..=5) => {}
            (1, _) => return Ok(Blocks::Unknown { what: "a later format version" }),
            _ => return Ok(Blocks::Unknown { what: "checksums other than CRC-32C" }),
        }
        let mut fields = Fields(&footer[1..41]);
        let (Some(meta), Some(index)) = (handle(&mut fields), handle(&mut fields)) else {
            return Err(self.damaged(start, "the footer cannot be read"));
        };
        // The meta index names the blocks of properties and filters. It never has handles as differences.
        let others = match self.index(meta, false)? {
            Ok(handles) => handles,
            Err(what) => return Ok(Blocks::Unknown { what }),
        };
        let handles = match self.index(index, version >= 4)? {
            Ok(handles) => handles,
            Err(what) => return Ok(Blocks::Unknown { what }),
        };
        // The first data block is the first block; the parts of a partitioned index come after all data.
        if handles.first().is_some_and(|first| first.offset != 0) {
            return Ok(Blocks::Unknown { what: "a partitioned index" });
        }
        let mut blocks = 2;
        for handle in handles.into_iter().chain(others) {
            stop.check()?;
            self.block(handle)?;
            blocks += 1;
        }
        Ok(Blocks::Sound { blocks })
    }

    /// The handles in an index block, or what about it is not known.
    fn index(&mut self, at: Handle, delta: bool) -> Result<Result<Vec<Handle>, &'static str>, Error> {
        let method = self.block(at)?;
        let stored = &self.buffer[..at.size as usize];
        let undone;
        let entries = match method {
            0 => stored,
            _ => match compressed::plain(method, stored) {
                Some(plain) => {
                    undone = plain;
                    &undone
                }
                // Its checksum was right, so it is not damaged.
                None => return Ok(Err("an index in an unknown compression")),
            },
        };
        let handles = index_entries(entries, delta);
        handles.map(Ok).ok_or_else(|| self.damaged(at.offset, "an index cannot be read"))
    }

    /// Reads a block and compares its checksum; gives its kind of compression.
    fn block(&mut self, handle: Handle) -> Result<u8, Error> {
        let Handle { offset, size } = handle;
        let end = offset.checked_add(size).and_then(|e| e.checked_add(TRAILER));
        if size > MAX_BLOCK || end.is_none_or(|e| e > self.len) {
            return Err(self.damaged(offset, "a block lies outside the file"));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize((size + TRAILER) as usize, 0);
        self.read(offset, &mut buffer)?;
        let (body, stored) = buffer.split_at(size as usize + 1);
        let (kind, matches) = (body[size as usize], mask(crc32c(&[body])) == le32(stored));
        self.buffer = buffer;
        match matches {
            true => Ok(kind),
            false => Err(self.damaged(offset, "the checksum of a block is wrong")),
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, "it ends too early"),
            _ => Error::Io { action: "read", path: self.path.to_owned(), source: e },
        })
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::Rocks { path: self.path.to_owned(), offset, reason: reason.into() }
    }
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn handle(fields: &mut Fields<'_>) -> Option<Handle> {
    Some(Handle { offset: fields.varint()?, size: fields.varint()? })
}

/// The handles in an index block: entries with a shared key prefix, then the restart points and their number.
///
/// From format version 4 on an entry has no value length, and inside a restart interval only the difference to the
/// block before: blocks follow one another.
fn index_entries(block: &[u8], delta: bool) -> Option<Vec<Handle>> {
    let count_at = block.len().checked_sub(4)?;
    // The highest bit says whether there is a hash index, which comes after the restart points.
    let count = le32(&block[count_at..]);
    if count & 0x8000_0000 != 0 {
        return None;
    }
    let end = count_at.checked_sub(4 * count as usize)?;
    let mut fields = Fields(&block[..end]);
    let mut handles: Vec<Handle> = Vec::new();
    while !fields.is_empty() {
        let shared = fields.varint32()?;
        let key = fields.varint32()?;
        let value = if delta { None } else { Some(fields.varint32()? as usize) };
        fields.take(key as usize)?;
        let next = match (value, handles.last()) {
            (Some(len), _) => handle(&mut Fields(fields.take(len)?))?,
            (None, Some(last)) if shared != 0 => {
                let zigzag = fields.varint()?;
                let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                let offset = last.offset.checked_add(last.size)?.checked_add(TRAILER)?;
                Handle { offset, size: last.size.checked_add_signed(difference)? }
            }
            (None, _) => handle(&mut fields)?,
        };
        handles.push(next);
    }
    Some(handles)
}
