//! What can go wrong with an archive.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::member::DecodeError;
use crate::path::Unsafe;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own: the machine, most likely.
    Failed,
    /// What was asked for cannot be done: something has to be said that the archive does not say.
    Usage,
    /// The archive itself is damaged, incomplete or hostile: trying again with the same bytes cannot succeed.
    Damaged,
}

/// A failure to read, write or extract an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream stopped inside a chunk; a broken transfer looks like this.
    #[error("stream ends at byte {offset}, inside the {part} of a chunk")]
    Truncated {
        /// Length of the stream.
        offset: u64,
        /// What was being read.
        part: Part,
    },
    /// A chunk does not begin with the eight bytes of the format.
    #[error("no chunk begins at byte {offset}: not an xbstream archive, or damaged")]
    Magic {
        /// Where a chunk was expected.
        offset: u64,
    },
    /// A chunk type that the dialect does not have, not marked as ignorable.
    #[error("unknown chunk type {kind:#04x} of {path:?} at byte {offset}")]
    UnknownType {
        /// Where the chunk begins.
        offset: u64,
        /// The type byte.
        kind: u8,
        /// The chunk's path.
        path: PathBuf,
    },
    /// A path of 512 bytes or more.
    #[error("path of {len} bytes in the chunk at byte {offset}, at most 511 are possible")]
    PathTooLong {
        /// Where the chunk begins; 0 when writing.
        offset: u64,
        /// The length that the chunk gives.
        len: u64,
    },
    /// The payload would end behind the largest position a file can have.
    #[error("impossible extent of {path:?} in the chunk at byte {offset}: {len} bytes at {start}")]
    Extent {
        /// Where the chunk begins.
        offset: u64,
        /// The chunk's path.
        path: PathBuf,
        /// The payload length that the chunk gives.
        len: u64,
        /// The position in the file that the chunk gives.
        start: u64,
    },
    /// The payload (of a sparse chunk: map and payload) does not match the CRC-32 in its header.
    #[error("checksum of {path:?} at offset {at}: header {expected:#010x}, data {actual:#010x}")]
    Checksum {
        /// The chunk's path.
        path: PathBuf,
        /// Position of the payload in the file.
        at: u64,
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A sparse map whose runs do not add up to the payload, or of more than a million runs.
    #[error("sparse map of {path:?} in the chunk at byte {offset} covers {covered} of {len} payload bytes")]
    SparseMap {
        /// Where the chunk begins.
        offset: u64,
        /// The chunk's path.
        path: PathBuf,
        /// Sum of the runs' lengths; `u64::MAX` for a map with too many runs.
        covered: u64,
        /// The payload length.
        len: u64,
    },
    /// It cannot be told whether Percona XtraBackup or MariaDB wrote the stream, or it looks like both.
    #[error("the chunk of {path:?} at byte {offset} leaves open which dialect this is: {reason}")]
    Dialect {
        /// Where the chunk begins.
        offset: u64,
        /// The chunk's path.
        path: PathBuf,
        /// Which signs are missing or contradict each other.
        reason: &'static str,
    },
    /// A gap or an overlap in a file.
    #[error("chunk of {path:?} out of order: it begins at {found}, the file has {expected} bytes so far")]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// Where the chunk had to begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// The stream ended between two chunks, and these files were not complete.
    #[error("stream ends before the end of {}", Names(paths, *count))]
    MissingEnd {
        /// The first of the files, in order of their names; at most 16.
        paths: Vec<PathBuf>,
        /// How many there are.
        count: usize,
    },
    /// The stream has this file twice, or two members with the same name once decoded.
    #[error("the archive has {path:?} more than once")]
    Duplicate {
        /// The file.
        path: PathBuf,
    },
    /// A rename or removal of a file whose end has not come yet.
    #[error("{path:?} is renamed or removed before its end")]
    StillOpen {
        /// The file.
        path: PathBuf,
    },
    /// The name would land outside the target directory, or is no file name.
    #[error("refusing to write {path:?}: {why}")]
    UnsafePath {
        /// The name as the stream has it.
        path: PathBuf,
        /// The rule it breaks.
        why: Unsafe,
    },
    /// The target directory already has a file of this name that is not from this stream.
    #[error("refusing to overwrite {path:?}, which was there before")]
    Exists {
        /// The file, relative to the target directory.
        path: PathBuf,
    },
    /// A directory on the way to the file is a symbolic link.
    #[error("refusing to write through the symbolic link {path:?}")]
    Symlink {
        /// The link, relative to the target directory.
        path: PathBuf,
    },
    /// A directory on the way to the file is something else.
    #[error("{path:?} is not a directory")]
    NotADirectory {
        /// What is there, relative to the target directory.
        path: PathBuf,
    },
    /// A member to be decoded has holes or seeks; no writer produces that.
    #[error("compressed or encrypted member {path:?} is not sent in one piece")]
    ScatteredMember {
        /// The member.
        path: PathBuf,
    },
    /// A compressed or encrypted member could not be undone.
    #[error("cannot decode {path:?}")]
    Member {
        /// The member's path in the stream.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The stream could not be read.
    #[error("reading the stream failed at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The stream could not be written.
    #[error("writing the stream failed at byte {offset}")]
    Write {
        /// Bytes written before.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// A file or directory could not be read, made or written.
    #[error("cannot {action} {path:?}")]
    File {
        /// What was to be done: `create`, `write`, `rename`, …
        action: &'static str,
        /// The file, relative to the target directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The reader or writer failed before and cannot go on.
    #[error("the archive failed before and cannot be continued")]
    Failed,
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Truncated { .. }
            | Self::Magic { .. }
            | Self::UnknownType { .. }
            | Self::PathTooLong { .. }
            | Self::Extent { .. }
            | Self::Checksum { .. }
            | Self::SparseMap { .. }
            | Self::OutOfOrder { .. }
            | Self::MissingEnd { .. }
            | Self::Duplicate { .. }
            | Self::StillOpen { .. }
            | Self::UnsafePath { .. }
            | Self::ScatteredMember { .. } => Class::Damaged,
            Self::Member { source, .. } => source.class(),
            Self::Dialect { .. } => Class::Usage,
            Self::Exists { .. }
            | Self::Symlink { .. }
            | Self::NotADirectory { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::File { .. }
            | Self::Failed => Class::Failed,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Read { source, .. } | Error::Write { source, .. } => source,
            Error::Truncated { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            _ => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// The piece of a chunk in which a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Magic, flags, type, path length.
    Header,
    /// The path, or a rename's new path.
    Path,
    /// Map length, payload length, offset, CRC.
    Extent,
    /// The sparse map.
    SparseMap,
    /// The payload.
    Payload,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Path => "path",
            Self::Extent => "lengths",
            Self::SparseMap => "sparse map",
            Self::Payload => "payload",
        })
    }
}

/// `"a", "b" and 3 more`
struct Names<'a>(&'a [PathBuf], usize);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{path:?}", if i == 0 { "" } else { ", " })?;
        }
        match self.1.saturating_sub(self.0.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
