//! What can go wrong with a backup and on the way back.

use std::io;
use std::path::PathBuf;

/// A cause that comes from another crate.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own.
    Failed,
    /// What was asked for cannot be done.
    Usage,
    /// There is no backup, or no base that fits.
    Nothing,
    /// The server, a host or a tool cannot be used, or there is no space left.
    Unusable,
    /// The backup is damaged, cut off or hostile, or the password is wrong.
    Damaged,
    /// A stop was asked for.
    Cancelled,
}

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection to the server.
    #[error("cannot connect to the server at {address}")]
    Connect {
        /// Socket path, or host and port.
        address: String,
        /// What the client library said.
        source: Cause,
    },
    /// The server does not let this account in.
    #[error("the server refuses the account {user:?}")]
    Account {
        /// The account's name.
        user: String,
        /// The server's words.
        source: Cause,
    },
    /// The server that answers runs on another machine: its checkpoints would be made there, and stay there.
    #[error(
        "the server that answers runs on {theirs:?}, and this is {ours:?}: a backup is taken on the server's machine"
    )]
    OtherHost {
        /// What the server calls its host.
        theirs: String,
        /// What this one is called.
        ours: String,
    },
    /// The account may not do what a backup needs.
    #[error("the account may not {action}")]
    Privilege {
        /// What was refused.
        action: String,
        /// The server's words.
        source: Cause,
    },
    /// The server has no lock under which a backup could be taken.
    #[error("the server knows no lock for a backup")]
    NoLock,
    /// The server has no MyRocks engine.
    #[error("the server has no MyRocks: it does not know rocksdb_create_checkpoint")]
    NoMyRocks,
    /// What a restored server needs first is in InnoDB, whose data no MyRocks backup holds.
    #[error(
        "the server is {version}: from 8.0 on its data dictionary is in InnoDB (mysql.ibd), which a MyRocks backup does not hold, so that nothing would start from it"
    )]
    DataDictionary {
        /// The server's version.
        version: String,
    },
    /// A statement failed.
    #[error("the server failed to {action}")]
    Statement {
        /// What was asked of it.
        action: String,
        /// The server's words.
        source: Cause,
    },
    /// The server could not make a checkpoint.
    #[error("the server cannot create a checkpoint at {dir:?}")]
    Checkpoint {
        /// Where it should be.
        dir: PathBuf,
        /// The server's words.
        source: Cause,
    },
    /// The directory for a checkpoint is there already.
    #[error("the directory of the checkpoint, {dir:?}, exists already")]
    CheckpointExists {
        /// The directory.
        dir: PathBuf,
    },
    /// A checkpoint there would be a copy of all data instead of hard links.
    #[error(
        "{checkpoint:?} is on another file system than the data in {data:?}: hard links are impossible there, and the server would copy everything"
    )]
    OtherFilesystem {
        /// The checkpoint directory.
        checkpoint: PathBuf,
        /// The RocksDB data directory.
        data: PathBuf,
    },
    /// The server serves other data than when the backup began.
    #[error("the server's data were replaced during the backup: {what} was {was:?}, is {is:?}")]
    ServerChanged {
        /// What was compared.
        what: &'static str,
        /// At the start of the backup.
        was: String,
        /// Now.
        is: String,
    },
    /// A table was created, altered, renamed or dropped during the backup.
    #[error("{path:?} {change} after the backup began: its schema may not fit the data")]
    SchemaChanged {
        /// The `.frm` file, relative to the data directory.
        path: PathBuf,
        /// What became of it.
        change: &'static str,
    },
    /// A data file is not the one of this name that was sent before.
    #[error(
        "{file} is not the file of {sent} bytes that was sent, but another of {now} bytes; a RocksDB file never changes"
    )]
    FileReplaced {
        /// The file's name.
        file: String,
        /// Bytes sent.
        sent: u64,
        /// Bytes it has now.
        now: u64,
    },
    /// A file became shorter while it was read.
    #[error("{path:?} became shorter while it was read: {expected} bytes, then {actual}")]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Its size when it was opened.
        expected: u64,
        /// Bytes that could be read.
        actual: u64,
    },
    /// A file operation failed.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Whoever read the backup has gone: nobody has it.
    #[error("the reader of the backup has gone after {written} bytes")]
    ReaderGone {
        /// Bytes that were taken.
        written: u64,
    },
    /// The backup could not be written.
    #[error("writing the backup failed after {written} bytes")]
    Output {
        /// Bytes that were written.
        written: u64,
        /// Why it failed.
        source: io::Error,
    },
    /// A stop was asked for.
    #[error("stopped by signal {signal}")]
    Stopped {
        /// The signal's number.
        signal: i32,
    },
    /// A directory that must be empty is not.
    #[error("the directory {dir:?} is not empty: it holds {entry:?}")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of its entries.
        entry: String,
    },
    /// The server that was backed up had a part of RocksDB outside of its data directory, and where that goes was not said.
    #[error(
        "the server that was backed up had {what} in {path:?}, outside of its data directory: where they go now was not said"
    )]
    Elsewhere {
        /// RocksDB's data, or its write-ahead logs.
        what: &'static str,
        /// Where they were.
        path: PathBuf,
    },
    /// A move-back of this backup to other directories was begun and not ended.
    #[error("a move-back of {backup:?} to other directories was begun: its data go to {data:?}")]
    OtherMoveBack {
        /// The backup.
        backup: PathBuf,
        /// The data directory of the move-back that was begun.
        data: PathBuf,
    },
    /// Somebody else works in a directory, or writes a file.
    #[error("another restore, move-back or backup works in {dir:?}")]
    Busy {
        /// The directory, or the file.
        dir: PathBuf,
    },
    /// A restore was begun and not ended, and it was not this one.
    #[error("an unfinished restore is in {staging:?}, and it is another: {what} is {is}, was {was}")]
    OtherRestore {
        /// Where it is.
        staging: PathBuf,
        /// What is not the same.
        what: String,
        /// What it was then.
        was: String,
        /// What it is now.
        is: String,
    },
    /// The backup has no manifest: it was cut off, or the program before this one made it.
    #[error("the backup {path:?} has no manifest: it was cut off, or another program made it")]
    NoManifest {
        /// The backup.
        path: PathBuf,
    },
    /// The backup was cut off, whoever made it.
    #[error("the backup {path:?} was cut off: {reason}")]
    CutOff {
        /// The backup.
        path: PathBuf,
        /// How that is seen.
        reason: &'static str,
    },
    /// The directory has no backup in it.
    #[error("{path:?} holds no MyRocks backup: {missing} is missing")]
    NoBackup {
        /// Where it was looked for.
        path: PathBuf,
        /// What a backup must have.
        missing: &'static str,
    },
    /// A name in an archive would land outside the target, or is no plain file.
    #[error("refusing {name:?} from the archive: {reason}")]
    UnsafeMember {
        /// The member's name.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// An archive is damaged, cut off or of no known kind.
    #[error("the archive {path:?} is damaged: {reason}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The archive is encrypted and no password was given.
    #[error("{path:?} is encrypted and needs a password")]
    PasswordNeeded {
        /// The archive.
        path: PathBuf,
    },
    /// Decryption failed; the cause tells a wrong password from damage.
    #[error("cannot decrypt {path:?}")]
    Decrypt {
        /// The archive.
        path: PathBuf,
        /// What the decryption found.
        source: Cause,
    },
    /// The backup's own manifest cannot be used.
    #[error("the manifest of the backup, {path:?}, cannot be used: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A backup does not match its manifest or its RocksDB MANIFEST.
    #[error("the backup {path:?} is damaged: {count} findings, the first: {first}")]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// How many findings there are.
        count: usize,
        /// The first one.
        first: String,
    },
    /// An incremental backup needs a base that was not given.
    #[error("this incremental backup builds on {needed}, and {found}")]
    BaseMissing {
        /// The id of the base.
        needed: String,
        /// What there is instead.
        found: String,
    },
    /// The base of an incremental backup is of other data or was altered.
    #[error("the base {id} cannot be used: {reason}")]
    BaseUnusable {
        /// The id of the base.
        id: String,
        /// Why.
        reason: String,
    },
    /// The base of an incremental backup is another server's.
    #[error(
        "the base {id} is of the server {theirs}, this one is {ours}: if one is a copy of the other, file numbers mean other files there"
    )]
    BaseOfAnotherServer {
        /// The id of the base.
        id: String,
        /// The identity of the server that was backed up.
        theirs: String,
        /// The identity of this one.
        ours: String,
    },
    /// A RocksDB file cannot be read.
    #[error("the RocksDB file {path:?} is damaged at byte {offset}: {reason}")]
    Rocks {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// `wdt` ended with an error that a further round cannot mend.
    #[error("wdt ended with status {status} ({meaning}) as {side}; its last words: {log}")]
    Wdt {
        /// Sender or receiver.
        side: &'static str,
        /// The exit status.
        status: i32,
        /// Its name in WDT.
        meaning: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The remote host failed.
    #[error("the host {host} failed to {action}")]
    Remote {
        /// The host's name.
        host: String,
        /// What was asked of it.
        action: String,
        /// What the host layer said.
        source: Cause,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Usage(_)
            | Self::NotEmpty { .. }
            | Self::Elsewhere { .. }
            | Self::OtherMoveBack { .. }
            | Self::OtherRestore { .. }
            | Self::PasswordNeeded { .. } => Class::Usage,
            Self::NoBackup { .. }
            | Self::BaseMissing { .. }
            | Self::BaseUnusable { .. }
            | Self::BaseOfAnotherServer { .. } => Class::Nothing,
            Self::Connect { .. }
            | Self::Account { .. }
            | Self::Privilege { .. }
            | Self::OtherHost { .. }
            | Self::NoLock
            | Self::NoMyRocks
            | Self::DataDictionary { .. }
            | Self::Statement { .. }
            | Self::Checkpoint { .. }
            | Self::CheckpointExists { .. }
            | Self::OtherFilesystem { .. }
            | Self::ServerChanged { .. }
            | Self::Busy { .. }
            | Self::Wdt { .. }
            | Self::Remote { .. } => Class::Unusable,
            Self::FileReplaced { .. }
            | Self::NoManifest { .. }
            | Self::CutOff { .. }
            | Self::UnsafeMember { .. }
            | Self::Archive { .. }
            | Self::Decrypt { .. }
            | Self::Manifest { .. }
            | Self::Damaged { .. }
            | Self::Rocks { .. } => Class::Damaged,
            Self::Stopped { .. } => Class::Cancelled,
            Self::Io { source, .. } | Self::Output { source, .. } if is_full(source) => Class::Unusable,
            Self::SchemaChanged { .. }
            | Self::Shrunk { .. }
            | Self::Io { .. }
            | Self::Output { .. }
            | Self::ReaderGone { .. } => Class::Failed,
        }
    }

    /// An error of a file operation, to be used with `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// An error of writing the backup: a gone reader is told apart.
    pub(crate) fn output(written: u64, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Error::ReaderGone { written };
        }
        Error::Output { written, source }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}
