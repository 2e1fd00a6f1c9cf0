//! What can go wrong while a backup is unpacked.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own: the machine, most likely.
    Failed,
    /// The request is wrong, or lacks a password.
    Usage,
    /// The backup does not hold what was asked for.
    Nothing,
    /// A place cannot be used now.
    Unusable,
    /// The backup is at fault, or its password.
    Damaged,
    /// The caller cancelled.
    Cancelled,
}

/// Why a backup was not unpacked. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input begins neither as a tar nor as an AES Crypt stream.
    #[error("the input is neither a tar archive nor an AES Crypt stream")]
    UnknownFormat,
    /// The input is encrypted, and there is no password.
    #[error("the backup is encrypted, and no password was given")]
    NoPassword,
    /// The AES Crypt stream around the tar could not be read: wrong password, damage, truncation.
    #[error("the encrypted backup cannot be read")]
    Decrypt(#[source] aescrypt::Error),
    /// The input could not be read.
    #[error("reading the backup failed")]
    Read(#[source] io::Error),
    /// The input is not a tar here, or a damaged one.
    #[error("damaged tar archive: {what} at byte {offset}")]
    Archive {
        /// Bytes of the tar before the block at fault.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The tar stopped before its end mark.
    #[error("the tar archive ends too early, at byte {offset}")]
    Truncated {
        /// Bytes that the tar had.
        offset: u64,
    },
    /// A member that is not written.
    #[error("refusing {member:?}: {why}")]
    Refused {
        /// Its name, as the archive has it.
        member: PathBuf,
        /// The rule it breaks.
        why: Refusal,
    },
    /// The stream of a server could not be extracted.
    #[error("cannot extract the stream of {server}")]
    Stream {
        /// The server's folder in the backup.
        server: String,
        /// What `xbstream` says.
        source: Box<xbstream::Error>,
    },
    /// The backup tool encrypted the members of a stream, and no key for them was given.
    #[error("the stream of {server} is encrypted by the backup tool ({}), and no key was given", member.display())]
    ToolEncrypted {
        /// The server's folder in the backup.
        server: String,
        /// One of the members.
        member: PathBuf,
    },
    /// The stream of a server ended well, and is not a whole backup.
    #[error("the stream of {server} is no whole backup: it has no xtrabackup_checkpoints")]
    NoCheckpoints {
        /// The server's folder in the backup.
        server: String,
    },
    /// Servers that were asked for have no stream in this backup.
    #[error("the backup holds no stream of {}", servers.join(", "))]
    NoStream {
        /// Their folders, in order.
        servers: Vec<String>,
    },
    /// A base directory was asked for, and the backup holds none.
    #[error("the backup holds no datanode_base/*.tar.gz")]
    NoBase,
    /// The base directory could not be unpacked.
    #[error("cannot unpack {member:?}")]
    Base {
        /// The tarball's name in the backup.
        member: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A gzip stream is damaged or cut off.
    #[error("damaged or truncated gzip stream")]
    Gzip(#[source] io::Error),
    /// The tarball of the base directory must hold one folder and nothing beside it.
    #[error("expected one top-level folder, found {}", Names(found))]
    BaseFolders {
        /// What it holds at the top, at most 8 names.
        found: Vec<String>,
    },
    /// A destination has something in it already.
    #[error("{} exists and is not an empty directory", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// Another process still fills the destination, and did not end while it was waited for.
    #[error("another process writes to {}", path.display())]
    Busy {
        /// The destination under its unfinished name.
        path: PathBuf,
    },
    /// A file or directory could not be made, read or written.
    #[error("{action} {} failed", path.display())]
    File {
        /// What was tried: `creating`, `writing`, `renaming`, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The layout contradicts itself.
    #[error("{reason}")]
    Layout {
        /// What does not go together.
        reason: String,
    },
    /// [`Progress::stop`](crate::Progress::stop) was called.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Decrypt(error) => match error.class() {
                aescrypt::Class::Damaged => Class::Damaged,
                aescrypt::Class::Usage | aescrypt::Class::Failed => Class::Failed,
            },
            Self::Stream { source, .. } => match source.class() {
                xbstream::Class::Damaged => Class::Damaged,
                xbstream::Class::Usage | xbstream::Class::Failed => Class::Failed,
            },
            Self::Base { source, .. } => source.class(),
            Self::UnknownFormat
            | Self::Archive { .. }
            | Self::Truncated { .. }
            | Self::Refused { .. }
            | Self::NoCheckpoints { .. }
            | Self::Gzip(_)
            | Self::BaseFolders { .. } => Class::Damaged,
            Self::NoPassword | Self::Exists { .. } | Self::Layout { .. } => Class::Usage,
            Self::NoStream { .. } | Self::NoBase => Class::Nothing,
            Self::Busy { .. } | Self::ToolEncrypted { .. } => Class::Unusable,
            Self::Stopped => Class::Cancelled,
            Self::Read(_) | Self::File { .. } => Class::Failed,
        }
    }

    pub(crate) fn refused(member: &[u8], why: Refusal) -> Self {
        Self::Refused { member: crate::member::display(member), why }
    }
}

/// The rules that members of a tar or a folder must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The name begins with `/`.
    Absolute,
    /// The name has a `..` in it.
    Parent,
    /// The name has a zero byte, or is empty.
    BadName,
    /// The name, or a component of it, is longer than a file system takes.
    TooLong,
    /// A block or character device.
    Device,
    /// A named pipe.
    Pipe,
    /// A socket, or a type of member that this reader does not know.
    UnknownKind,
    /// A sparse member, in any of GNU tar's ways to write one.
    Sparse,
    /// A symbolic or hard link that may lead out of the destination.
    LinkLeaves,
    /// A hard link to something that the archive has not brought as a file before.
    LinkTarget,
    /// A link where a file is needed: the stream of a server, or anything in a folder that is the source.
    Link,
    /// A directory on the way is a symbolic link or a file.
    NotADirectory,
    /// There is one of this name already.
    Twice,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "the name is absolute",
            Self::Parent => "the name has `..` in it",
            Self::BadName => "this is no file name",
            Self::TooLong => "the name is too long",
            Self::Device => "it is a device",
            Self::Pipe => "it is a named pipe",
            Self::UnknownKind => "it is no file, directory or link",
            Self::Sparse => "it is a sparse member; make the archive without --sparse",
            Self::LinkLeaves => "the link may lead out of its directory",
            Self::LinkTarget => "the link is to no file that came before it",
            Self::Link => "a link cannot be here",
            Self::NotADirectory => "a directory in its name is a link or a file",
            Self::Twice => "there is one of this name already",
        })
    }
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { write!(f, "{}", self.0.join(", ")) }
    }
}
