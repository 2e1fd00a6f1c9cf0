//! What can be wrong with a member.

use std::fmt;
use std::io;

use crate::error::Class;

/// A container that a member's name ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `.qp`: a qpress archive of QuickLZ level 1 blocks.
    Qpress,
    /// `.lz4`: LZ4 frames.
    Lz4,
    /// `.zst`: Zstandard frames.
    Zstd,
    /// `.xbcrypt`: chunks of AES-CTR.
    Xbcrypt,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Qpress, Self::Lz4, Self::Zstd, Self::Xbcrypt];

    /// The ending, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Qpress => ".qp",
            Self::Lz4 => ".lz4",
            Self::Zstd => ".zst",
            Self::Xbcrypt => ".xbcrypt",
        }
    }

    /// The format that `path` ends in, and the path without it. A file that is called just `.qp` has no name
    /// without its ending, and so is no member.
    pub fn of(path: &[u8]) -> Option<(&[u8], Self)> {
        Self::ALL.into_iter().find_map(|format| {
            let name = path.strip_suffix(format.suffix().as_bytes())?;
            (!name.is_empty() && !name.ends_with(b"/")).then_some((name, format))
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix())
    }
}

/// Why a member could not be undone. Positions count bytes of the layer that is named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The member ends too early.
    #[error("{format} data ends at byte {at}, before its end")]
    Truncated {
        /// The layer.
        format: Format,
        /// Its length.
        at: u64,
    },
    /// The bytes are not of this format.
    #[error("not {format} data, at byte {at}: no {expected}")]
    Magic {
        /// The layer.
        format: Format,
        /// Where.
        at: u64,
        /// What had to be there.
        expected: &'static str,
    },
    /// The bytes cannot have been written by an encoder.
    #[error("damaged {format} data at byte {at}: {what}")]
    Corrupt {
        /// The layer.
        format: Format,
        /// Beginning of the block or frame.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A checksum does not match.
    #[error("checksum of the {format} block at byte {at}: stored {expected:#010x}, data {actual:#010x}")]
    Checksum {
        /// The layer.
        format: Format,
        /// Beginning of the block or frame.
        at: u64,
        /// What the member says.
        expected: u32,
        /// What its bytes give.
        actual: u32,
    },
    /// The hash inside the encrypted data does not match: most likely the key or the algorithm is another.
    #[error("decrypted data at byte {at} does not match its hash: wrong key or algorithm")]
    WrongKey {
        /// Beginning of the chunk.
        at: u64,
    },
    /// A block would need more memory than is granted.
    #[error("{what} of {size} bytes in {format} data at byte {at}, at most {limit} are accepted")]
    TooLarge {
        /// The layer.
        format: Format,
        /// Beginning of the block or frame.
        at: u64,
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A feature that no backup tool uses and that is not implemented.
    #[error("unsupported {format} data at byte {at}: {what}")]
    Unsupported {
        /// The layer.
        format: Format,
        /// Where.
        at: u64,
        /// The feature.
        what: &'static str,
    },
    /// Bytes after the end.
    #[error("{format} data goes on after its end at byte {at}")]
    TrailingBytes {
        /// The layer.
        format: Format,
        /// Where it ended.
        at: u64,
    },
    /// An encrypted member and no key.
    #[error("no key to decrypt with")]
    NoKey,
    /// The compressed bytes could not be read.
    #[error("cannot read")]
    Input(#[source] io::Error),
    /// The plain bytes could not be written.
    #[error("cannot write")]
    Output(#[source] io::Error),
}

impl DecodeError {
    /// The class of the error. What is not supported is no damage: the program that wrote it reads it.
    pub fn class(&self) -> Class {
        match self {
            Self::Truncated { .. }
            | Self::Magic { .. }
            | Self::Corrupt { .. }
            | Self::Checksum { .. }
            | Self::WrongKey { .. }
            | Self::TooLarge { .. }
            | Self::TrailingBytes { .. } => Class::Damaged,
            Self::NoKey => Class::Usage,
            Self::Unsupported { .. } | Self::Input(_) | Self::Output(_) => Class::Failed,
        }
    }
}
