//! What can go wrong with an AES Crypt stream.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own: the machine, most likely.
    Failed,
    /// What was asked for cannot be done.
    Usage,
    /// The data itself is at fault, or the password.
    Damaged,
}

/// Why a stream could not be read or written.
///
/// The first five are about the data and are never confused with each other, nor with a disk that fails. As
/// the inner error of an [`io::Error`] (what [`Decryptor`](crate::Decryptor) gives out as a `Read`) they come
/// back by [`Error::from`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The header's HMAC does not match. The format does not tell a wrong password from a damaged key block.
    #[error("wrong password, or the key block of the stream is damaged")]
    WrongPassword,
    /// The password is right, and the body is not what was written: changed, or cut between two blocks, or
    /// followed by more bytes.
    #[error("the body does not match its HMAC: it was changed, cut, or has bytes added")]
    Tampered,
    /// The stream stopped where no whole stream can stop.
    #[error("the stream ends too early, at byte {offset}, inside the {part}")]
    Truncated {
        /// Bytes that the stream had.
        offset: u64,
        /// What was being read there.
        part: Part,
    },
    /// The first three bytes are not `AES`.
    #[error("not an AES Crypt stream")]
    NotAesCrypt,
    /// A version above 3.
    #[error("AES Crypt stream version {version} is not supported; versions 0 to 3 are")]
    UnsupportedVersion {
        /// The version byte.
        version: u8,
    },
    /// The PBKDF2 iterations of a version 3 stream are 0, or so many that following them is refused.
    #[error("{iterations} key derivation iterations are outside 1 to {max}")]
    Iterations {
        /// What the stream, or the caller, asks for.
        iterations: u32,
        /// [`MAX_ITERATIONS`](crate::MAX_ITERATIONS).
        max: u32,
        /// Whether the caller asks for them, who encrypts.
        asked: bool,
    },
    /// pyAesCrypt reads no stream whose password is longer, so none is written.
    #[error("the password is longer than {max} characters")]
    PasswordTooLong {
        /// [`MAX_PASSWORD_CHARS`](crate::MAX_PASSWORD_CHARS).
        max: usize,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random(#[source] getrandom::Error),
    /// Reading the input failed.
    #[error("reading the input failed")]
    Read(#[source] io::Error),
    /// Writing the output failed.
    #[error("writing the output failed")]
    Write(#[source] io::Error),
    /// An earlier read failed; a reader that failed stays failed.
    #[error("the stream could not be read before; it is not read any further")]
    Failed,
    /// A file could not be opened, made, or renamed.
    #[error("{action} {} failed", path.display())]
    File {
        /// What was tried: `opening`, `creating`, `renaming to`, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Input and output are one file.
    #[error("input and output are the same file, {}", path.display())]
    SameFile {
        /// The output.
        path: PathBuf,
    },
    /// The output exists and is a directory, a device, a socket or a pipe: a rename would replace it.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The output.
        path: PathBuf,
    },
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::WrongPassword
            | Self::Tampered
            | Self::Truncated { .. }
            | Self::NotAesCrypt
            | Self::UnsupportedVersion { .. }
            | Self::Iterations { asked: false, .. } => Class::Damaged,
            Self::Iterations { asked: true, .. }
            | Self::PasswordTooLong { .. }
            | Self::SameFile { .. }
            | Self::NotRegular { .. } => Class::Usage,
            Self::Random(_) | Self::Read(_) | Self::Write(_) | Self::Failed | Self::File { .. } => {
                Class::Failed
            }
        }
    }
}

/// An error of a read: our own when one is inside, else [`Error::Read`].
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(other) => Self::Read(other),
        }
    }
}

/// For `Read` and `Write`: damage has the kind `InvalidData` (`UnexpectedEof` where the stream is too short),
/// and what the system said stays what it was.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Read(source) | Error::Write(source) => source,
            Error::Truncated { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            other if other.class() == Class::Damaged => Self::new(io::ErrorKind::InvalidData, other),
            other => Self::other(other),
        }
    }
}

/// The parts of a stream, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The five bytes that every version begins with.
    Start,
    /// The list of extensions.
    Extensions,
    /// The number of PBKDF2 iterations.
    Iterations,
    /// The IV that is also the salt.
    Iv,
    /// The encrypted IV and key of the body.
    KeyBlock,
    /// The HMAC of the key block.
    KeyBlockHmac,
    /// The body, or the size byte and the HMAC after it.
    Body,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "first five bytes",
            Self::Extensions => "extensions",
            Self::Iterations => "number of iterations",
            Self::Iv => "initialisation vector",
            Self::KeyBlock => "key block",
            Self::KeyBlockHmac => "HMAC of the key block",
            Self::Body => "body or the HMAC after it",
        })
    }
}
