//! Where a backup comes from.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::Error;

/// What the bytes of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// A folder if it is one; else by the first bytes.
    #[default]
    Auto,
    /// A folder on this machine.
    Folder,
    /// A tar of the folder, with its name in front of every member or without.
    Tar,
    /// An AES Crypt stream of such a tar.
    EncryptedTar,
}

/// One backup to be read.
pub enum Source<'a> {
    /// A folder on this machine. It is only read.
    Folder(PathBuf),
    /// A tar of the folder.
    Tar(Box<dyn Read + 'a>),
    /// An AES Crypt stream of such a tar.
    EncryptedTar(Box<dyn Read + 'a>, SecretString),
}

impl<'a> Source<'a> {
    /// What lies at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::File`], and those of [`from_reader`](Self::from_reader).
    pub fn from_path(path: &Path, format: Format, password: Option<SecretString>) -> Result<Self, Error> {
        let fail = |source| Error::File { action: "opening", path: path.to_owned(), source };
        if format == Format::Folder || format == Format::Auto && path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        Self::from_reader(File::open(path).map_err(fail)?, format, password)
    }

    /// What `input` yields, which need not be buffered. Without a format, its first block is looked at.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`], [`Error::NoPassword`], [`Error::Read`]; [`Error::Layout`] for a folder.
    pub fn from_reader(
        mut input: impl Read + 'a,
        format: Format,
        password: Option<SecretString>,
    ) -> Result<Self, Error> {
        match format {
            Format::Folder => Err(Error::Layout { reason: "a folder cannot come through a pipe".into() }),
            Format::Tar => Ok(Self::Tar(Box::new(input))),
            Format::EncryptedTar => {
                Ok(Self::EncryptedTar(Box::new(input), password.ok_or(Error::NoPassword)?))
            }
            Format::Auto => {
                let mut first = Vec::with_capacity(512);
                input.by_ref().take(512).read_to_end(&mut first).map_err(Error::Read)?;
                if first.is_empty() {
                    return Err(Error::Truncated { offset: 0 });
                }
                let format = if first.starts_with(b"AES") {
                    Format::EncryptedTar
                } else if first.get(257..262) == Some(b"ustar") {
                    Format::Tar
                } else {
                    return Err(Error::UnknownFormat);
                };
                let input: Box<dyn Read + 'a> = Box::new(Cursor::new(first).chain(input));
                Self::from_reader(input, format, password)
            }
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Tar(_) => "tar",
            Self::EncryptedTar(..) => "encrypted-tar",
        }
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            other => f.write_str(other.name()),
        }
    }
}
