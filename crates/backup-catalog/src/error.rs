//! What can be wrong with a store, and what can be asked of it in vain.

use std::fmt;
use std::io;
use std::sync::Arc;

use chrono::NaiveDateTime;

use crate::name::BackupName;
use crate::window::Window;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What was asked for cannot be understood.
    Usage,
    /// The store does not hold what was asked for, or not all of it.
    Nothing,
    /// The store cannot be read.
    Unusable,
    /// The store can be read and not understood.
    Damaged,
}

/// Everything this crate can fail with.
///
/// Errors are cheap to clone: a backup that cannot be read keeps its own error until somebody asks for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of the store could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Path relative to the store's base directory.
        path: String,
        /// The cause, shared between clones.
        source: Arc<io::Error>,
    },
    /// A line of a file does not say what it should. The line's text is not repeated: it may hold a password.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// Path of the file as it was given to the reader.
        file: String,
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// A name that is not a backup's.
    #[error("{name:?} is not the name of a backup (UTCyyyymmddHHMMSS.mmm-full or -inc)")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// The store holds no complete backup.
    #[error("the store holds no complete backup")]
    NoBackups,
    /// The store does not hold this backup.
    #[error("the store holds no backup {name}")]
    NoSuchBackup {
        /// What was asked for.
        name: BackupName,
    },
    /// The backup was never finished: it has no valid `ok` file.
    #[error("backup {name} is not complete: it has no valid `ok` file")]
    Incomplete {
        /// The unfinished backup.
        name: BackupName,
    },
    /// The backup is finished, but its description cannot be used.
    #[error("backup {name} cannot be used")]
    Damaged {
        /// The backup.
        name: BackupName,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The chain from a full backup to this one is not whole.
    #[error("backup {backup} cannot be recovered: {missing}")]
    MissingLink {
        /// The backup that was asked for.
        backup: BackupName,
        /// The link that is not there.
        missing: Link,
    },
    /// No chain of the store reaches this moment.
    #[error("no backups cover {time}; {}", Windows(windows, *time))]
    Outside {
        /// The moment asked for, local time of the machine that took the backups.
        time: NaiveDateTime,
        /// What the store does cover, oldest first.
        windows: Vec<Window>,
    },
    /// A file or folder that the recovery needs is not in the backup.
    #[error("backup {backup} has no {entry}")]
    MissingEntry {
        /// The backup.
        backup: BackupName,
        /// Path relative to the backup's folder.
        entry: String,
    },
    /// A replication group is in a backup that is used, and not in the last one of its chain.
    #[error(
        "backup {backup} holds the group {group} and backup {last} does not: the recovered cluster would lack it"
    )]
    LostGroup {
        /// The group.
        group: String,
        /// The backup that holds it.
        backup: BackupName,
        /// The backup that the servers to recover are read from.
        last: BackupName,
    },
    /// The backup describes no server that could be recovered.
    #[error("backup {backup} describes no server that can be recovered")]
    NoServers {
        /// The backup.
        backup: BackupName,
    },
    /// `dbscale.conf` names no account for a server.
    #[error("{file} names no user for data server {server}")]
    NoAccount {
        /// The file.
        file: String,
        /// The server's name.
        server: String,
    },
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Name { .. } => Class::Usage,
            Self::Read { .. } => Class::Unusable,
            Self::Line { .. } | Self::NoAccount { .. } => Class::Damaged,
            Self::Damaged { source, .. } => source.class(),
            Self::NoBackups
            | Self::NoSuchBackup { .. }
            | Self::Incomplete { .. }
            | Self::MissingLink { .. }
            | Self::Outside { .. }
            | Self::MissingEntry { .. }
            | Self::LostGroup { .. }
            | Self::NoServers { .. } => Class::Nothing,
        }
    }

    pub(crate) fn line(file: &str, line: usize, problem: Problem) -> Self {
        Self::Line { file: file.to_owned(), line, problem }
    }

    pub(crate) fn read(path: &str, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source: Arc::new(source) }
    }
}

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Another number of TAB-separated fields than there should be.
    Fields {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A field does not have its form.
    Field {
        /// Name of the field.
        field: &'static str,
        /// The form it should have.
        expected: &'static str,
    },
    /// Not `YYYY-MM-DD HH:MM:SS`.
    DateTime,
    /// The file is empty.
    Empty,
    /// A value is not UTF-8.
    Encoding,
    /// A password is not base64 although the file says that passwords are.
    Base64,
    /// INI: a key before any `[section]`.
    NoSection,
    /// INI: neither a section, a key with `=` or `:`, a comment nor a continuation.
    NotIni,
    /// INI: the section was there before.
    DuplicateSection(String),
    /// INI: the key was there before in this section.
    DuplicateKey(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields { expected, found } => {
                write!(f, "{expected} fields separated by TABs expected, {found} found")
            }
            Self::Field { field, expected } => write!(f, "{field} is not {expected}"),
            Self::DateTime => f.write_str("not a time of the form YYYY-MM-DD HH:MM:SS"),
            Self::Empty => f.write_str("the file is empty"),
            Self::Encoding => f.write_str("not UTF-8"),
            Self::Base64 => f.write_str("the password is not base64, although encode-password is 1"),
            Self::NoSection => f.write_str("a key before the first [section]"),
            Self::NotIni => f.write_str("neither a [section], `key = value`, a comment nor a continuation"),
            Self::DuplicateSection(name) => write!(f, "section [{name}] is there twice"),
            Self::DuplicateKey(key) => write!(f, "key {key} is there twice in its section"),
        }
    }
}

/// The link that a chain lacks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Link {
    /// There is no full backup before it.
    Full,
    /// The chain passes through a backup that was never finished.
    Incomplete(BackupName),
    /// The chain passes through a backup that cannot be used.
    Damaged(BackupName, Box<Error>),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the full backup it is based on is not in the store"),
            Self::Incomplete(name) => write!(f, "it is based on {name}, which is not complete"),
            Self::Damaged(name, error) => write!(f, "it is based on {name}, which cannot be used: {error}"),
        }
    }
}

/// The windows of a store in words, the nearest to a time first to be named when there are many.
struct Windows<'a>(&'a [Window], NaiveDateTime);

impl fmt::Display for Windows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        if self.0.is_empty() {
            return f.write_str("the store covers no time at all");
        }
        let mut nearest: Vec<&Window> = self.0.iter().collect();
        nearest.sort_by_key(|w| (w.from - self.1).abs().min((w.to - self.1).abs()));
        nearest.truncate(SHOWN);
        nearest.sort_by_key(|w| w.from);
        f.write_str("the store covers ")?;
        for (i, window) in nearest.iter().enumerate() {
            write!(f, "{}{window}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len() - nearest.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more windows"),
        }
    }
}
