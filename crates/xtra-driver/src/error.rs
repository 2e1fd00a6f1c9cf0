//! What can go wrong between a backup and a prepared data directory.

use std::fmt;
use std::path::PathBuf;

use crate::metadata::MetadataError;
use crate::tool::Kind;
use crate::version::Version;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own.
    Failed,
    /// The host or the tool cannot be used, or not for this backup.
    Unusable,
    /// The backup does not have what is asked for.
    Nothing,
    /// The backup is not whole, or not what it should be.
    Damaged,
}

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host, or a program on it, cannot be used, or outran its time.
    #[error("running {what} failed")]
    Host {
        /// What was to be run or read.
        what: String,
        /// The cause.
        source: Box<remote_exec::Error>,
    },
    /// The program says nothing by which it could be told.
    #[error("{program} is neither xtrabackup nor mariabackup: `--version` says {said:?}")]
    NotATool {
        /// The program.
        program: String,
        /// The first line it printed, shortened.
        said: String,
    },
    /// The tool is too old.
    #[error("{program} {version} is too old; needed is xtrabackup 2.4, mariabackup 10.5 or later")]
    TooOld {
        /// The program.
        program: String,
        /// Its version.
        version: Version,
    },
    /// The tool cannot prepare a backup of this server.
    #[error("{kind} {version} cannot prepare a backup of server {server}: {rule}")]
    Incompatible {
        /// The tool.
        kind: Kind,
        /// The tool's version.
        version: Version,
        /// What the server called its version.
        server: String,
        /// Which tool would.
        rule: String,
    },
    /// A step of the tool failed, or did not say that it completed.
    #[error("{stage} of {label} failed: {ending}; its log is {}{}", log.display(), said(tail))]
    Step {
        /// Extract, decompress or prepare.
        stage: Stage,
        /// Which backup.
        label: String,
        /// How the tool ended.
        ending: String,
        /// Its log, on the host where it ran.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A file that a whole backup must hold is not there: the stream was cut off.
    #[error("the backup in {} has no {member}: its stream was not whole", dir.display())]
    MissingMember {
        /// The extracted backup.
        dir: PathBuf,
        /// Name of the file.
        member: String,
    },
    /// Members are compressed, and the program that the backup tool would call for them is not there.
    #[error("{} needs {program} to be decompressed, and {host} has none", member.display())]
    NoDecompressor {
        /// The host.
        host: String,
        /// The program.
        program: &'static str,
        /// One of the members.
        member: PathBuf,
    },
    /// Compressed members are left.
    #[error("{} is still compressed after decompressing", member.display())]
    StillCompressed {
        /// One of them.
        member: PathBuf,
    },
    /// The backup tool encrypted the backup itself.
    #[error("{} is encrypted by the backup tool, which is not supported", member.display())]
    Encrypted {
        /// One of the encrypted members.
        member: PathBuf,
    },
    /// The tool left databases or tables out of the backup ([`Options::allow_partial`](crate::Options::allow_partial)).
    #[error("the backup in {} says that it is partial: databases or tables were left out of it", dir.display())]
    Partial {
        /// The extracted backup.
        dir: PathBuf,
    },
    /// A metadata file does not say what it should.
    #[error("cannot read {}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MetadataError,
    },
    /// The backups do not follow each other.
    #[error("{label} does not belong into this chain: {rule}")]
    Chain {
        /// The backup that does not fit.
        label: String,
        /// The rule it breaks, with the numbers.
        rule: LsnRule,
    },
    /// A step was begun before and did not end. Its directories are half changed.
    #[error("the prepare step for {label} was interrupted; extract the chain into empty directories again")]
    Interrupted {
        /// Which backup's step.
        label: String,
    },
    /// The full backup is prepared, and not by this driver: whether incremental ones may follow is unknown.
    #[error("the backup in {} was prepared before, by something else", dir.display())]
    AlreadyPrepared {
        /// The directory.
        dir: PathBuf,
    },
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Host { .. }
            | Self::NotATool { .. }
            | Self::TooOld { .. }
            | Self::Incompatible { .. }
            | Self::NoDecompressor { .. }
            | Self::StillCompressed { .. }
            | Self::Encrypted { .. } => Class::Unusable,
            Self::MissingMember { .. }
            | Self::Metadata { .. }
            | Self::Chain { .. }
            | Self::AlreadyPrepared { .. } => Class::Damaged,
            Self::Partial { .. } => Class::Nothing,
            Self::Step { .. } | Self::Interrupted { .. } => Class::Failed,
        }
    }

    /// For `map_err`: the host failed at `what`.
    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(remote_exec::Error) -> Self {
        move |source| Self::Host { what: what.into(), source: Box::new(source) }
    }
}

fn said(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("\n{tail}") }
}

/// A stage of the work on one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Unpacking the stream.
    Extract,
    /// Undoing the tool's compression.
    Decompress,
    /// Applying the redo log, and an incremental backup's changes.
    Prepare,
}

impl Stage {
    /// Its word in names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Decompress => "decompress",
            Self::Prepare => "prepare",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the log sequence numbers of a chain must obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LsnRule {
    /// The first backup of a chain is a full one.
    FullFirst,
    /// Every other one is incremental.
    IncrementalAfter,
    /// It starts where the one before it ends.
    StartsAtEndOfPrevious {
        /// Where it starts.
        from: u64,
        /// Where the one before it ends.
        previous_to: u64,
    },
    /// It ends where the catalog says.
    EndsWhereRecorded {
        /// Where it ends.
        to: u64,
        /// Where `cluster_consistence_info` says it ends.
        recorded: u64,
    },
}

impl fmt::Display for LsnRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullFirst => f.write_str("the first backup is not a full one"),
            Self::IncrementalAfter => f.write_str("it is not an incremental backup"),
            Self::StartsAtEndOfPrevious { from, previous_to } => {
                write!(f, "it starts at LSN {from}, the backup before it ends at {previous_to}")
            }
            Self::EndsWhereRecorded { to, recorded } => {
                write!(f, "it ends at LSN {to}, and the store recorded {recorded}")
            }
        }
    }
}
