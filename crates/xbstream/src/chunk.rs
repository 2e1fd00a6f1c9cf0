//! A chunk's header as bytes and as values. Pure: no I/O, no allocation whose size the input chooses.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The eight bytes every chunk begins with.
pub const MAGIC: &[u8; 8] = b"XBSTCK01";

/// Longest path in a chunk that a reader accepts, in bytes. Both stock readers refuse 512 and more.
pub const MAX_PATH_LEN: usize = 511;

/// Most entries in one sparse map that are accepted (8 MiB of map; a 10 MiB chunk of 512-byte runs has 20,480).
pub const MAX_SPARSE_RUNS: u32 = 1 << 20;

/// Flag bit: a reader that does not know the chunk's type may pass over it.
pub const FLAG_IGNORABLE: u8 = 0x01;

/// The flags byte with which MariaDB re-opens a file that the stream has sent before, to replace its contents.
pub const FLAG_REWRITE: u8 = 0x02;

/// Bytes of magic, flags, type and path length.
pub(crate) const PREFIX_LEN: usize = 14;

/// Bytes of payload length, payload offset and CRC-32.
pub(crate) const EXTENT_LEN: usize = 20;

/// One entry of a Percona sparse map: a hole, then data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseRun {
    /// Bytes of the file that are a hole before the data.
    pub skip: u32,
    /// Bytes of the payload that follow the hole.
    pub len: u32,
}

/// What a chunk says about its file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkKind {
    /// `P`: `len` bytes of the file, beginning at `offset`.
    Payload {
        /// Position in the file, in bytes.
        offset: u64,
        /// Payload length in bytes; 0 is legal.
        len: u64,
    },
    /// `S` of Percona: holes and data, beginning at `offset`.
    Sparse {
        /// Position in the file of the first hole or byte.
        offset: u64,
        /// Payload length in bytes: the sum of every run's `len`.
        len: u64,
        /// The runs in file order.
        runs: Vec<SparseRun>,
    },
    /// `S` of MariaDB: the next payload of this file begins at `offset`.
    Seek {
        /// Position in the file, before or after the bytes sent so far.
        offset: u64,
    },
    /// `E`: the file is complete.
    End,
    /// `R` of MariaDB: a file sent before gets another name.
    Rename {
        /// The new path, bytes as in the stream.
        to: Vec<u8>,
    },
    /// `D` of MariaDB: a file sent before is removed.
    Remove,
    /// A type this reader does not know, marked as ignorable by its writer.
    Ignorable {
        /// The type byte.
        kind: u8,
        /// Payload length in bytes.
        len: u64,
    },
}

/// A parsed chunk header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Where the chunk begins in the stream, in bytes.
    pub at: u64,
    /// The flags byte: [`FLAG_IGNORABLE`], [`FLAG_REWRITE`].
    pub flags: u8,
    /// The file's path, bytes as in the stream; not checked for safety.
    pub path: Vec<u8>,
    /// The rest, by type.
    pub kind: ChunkKind,
}

impl ChunkHeader {
    /// The path as the operating system sees it. It may be absolute or contain `..`.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Payload bytes that follow the header.
    pub fn payload_len(&self) -> u64 {
        match self.kind {
            ChunkKind::Payload { len, .. }
            | ChunkKind::Sparse { len, .. }
            | ChunkKind::Ignorable { len, .. } => len,
            _ => 0,
        }
    }

    /// True when MariaDB asks for the contents of an earlier file to be replaced.
    /// Only the exact value counts: `mbstream` 10.11 takes 3 or 6 for no rewrite.
    pub fn is_rewrite(&self) -> bool {
        self.flags == FLAG_REWRITE
    }
}

/// The first [`PREFIX_LEN`] bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) flags: u8,
    pub(crate) kind: u8,
    pub(crate) path_len: u32,
}

impl Prefix {
    /// `None` when the magic is wrong.
    pub(crate) fn parse(bytes: &[u8; PREFIX_LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_at(MAGIC.len());
        (magic == MAGIC).then(|| Self { flags: rest[0], kind: rest[1], path_len: le_u32(&rest[2..]) })
    }
}

/// Payload length, payload offset and CRC-32 of a chunk that has a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) len: u64,
    pub(crate) offset: u64,
    pub(crate) crc: u32,
}

impl Extent {
    pub(crate) fn parse(bytes: &[u8; EXTENT_LEN]) -> Self {
        Self { len: le_u64(&bytes[0..]), offset: le_u64(&bytes[8..]), crc: le_u32(&bytes[16..]) }
    }

    /// True when the last byte still has a position a file can have (`off_t`).
    pub(crate) fn fits(&self) -> bool {
        self.offset.checked_add(self.len).is_some_and(|end| end <= i64::MAX as u64)
    }
}

/// Appends the prefix and the path of a chunk.
pub(crate) fn put_prefix(out: &mut Vec<u8>, flags: u8, kind: u8, path: &[u8]) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[flags, kind]);
    out.extend_from_slice(&(path.len() as u32).to_le_bytes());
    out.extend_from_slice(path);
}

/// Appends the extent of a chunk with a payload.
pub(crate) fn put_extent(out: &mut Vec<u8>, extent: Extent) {
    out.extend_from_slice(&extent.len.to_le_bytes());
    out.extend_from_slice(&extent.offset.to_le_bytes());
    out.extend_from_slice(&extent.crc.to_le_bytes());
}

/// The first four bytes, little-endian. The caller has checked the length.
pub(crate) fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The first eight bytes, little-endian. The caller has checked the length.
pub(crate) fn le_u64(bytes: &[u8]) -> u64 {
    u64::from(le_u32(bytes)) | u64::from(le_u32(&bytes[4..])) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_what_was_put() {
        let mut bytes = Vec::new();
        put_prefix(&mut bytes, 2, b'P', b"d/t.ibd");
        let prefix = Prefix::parse(bytes[..PREFIX_LEN].try_into().unwrap()).unwrap();
        assert_eq!(prefix, Prefix { flags: 2, kind: b'P', path_len: 7 });
        assert_eq!(&bytes[PREFIX_LEN..], b"d/t.ibd");
    }

    #[test]
    fn prefix_with_another_magic_is_none() {
        assert_eq!(Prefix::parse(b"XBSTCK02\0P\x01\0\0\0"), None);
    }

    #[test]
    fn extent_past_the_largest_file_does_not_fit() {
        let fits = |len, offset| Extent { len, offset, crc: 0 }.fits();
        assert!(fits(1, i64::MAX as u64 - 1));
        assert!(!fits(2, i64::MAX as u64 - 1));
        assert!(!fits(u64::MAX, 1));
    }
}
