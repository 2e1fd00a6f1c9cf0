//! What can go wrong with binlogs before anything is replayed.

use std::io;
use std::path::PathBuf;

use crate::event::{EventKind, Malformed};
use crate::gtid::{Gtid, GtidSet};
use crate::target::Position;
use crate::version::{Flavor, ParseError};

/// The class of an error: who can mend it. It has the same names in every crate that has it, and there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something failed that has no class of its own.
    Failed,
    /// The request is wrong.
    Usage,
    /// The binlogs do not hold what was asked for.
    Nothing,
    /// The server, or what the binlogs were written with, cannot be used.
    Unusable,
    /// The binlogs are damaged.
    Damaged,
    /// Everything was applied, and the proof of it failed.
    Unproven,
}

/// Reading, indexing or choosing failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first four bytes are not those of a binlog.
    #[error("{path:?} is no binlog: it does not start with the bytes fe 'bin'")]
    NotABinlog {
        /// The file.
        path: PathBuf,
    },
    /// The file is encrypted; only the server that has the keys can read it.
    #[error("{path:?} is encrypted by {flavor}; only a server with its keys can read it")]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Who encrypted it: MySQL with a keyring (`binlog_encryption`), or MariaDB (`encrypt_binlog`).
        flavor: Flavor,
    },
    /// The file stops inside an event and was not open when it was copied.
    #[error("{path:?} is cut: it ends at byte {end}, inside the event at {offset}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the cut event starts.
        offset: u64,
        /// Where the file ends.
        end: u64,
    },
    /// An event's bytes do not match its checksum.
    #[error(
        "{path:?}: checksum of the {kind} event at {offset} is {stored:#010x}, its bytes give {computed:#010x}"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// Its kind.
        kind: EventKind,
        /// Stored behind the event.
        stored: u32,
        /// Computed from its bytes.
        computed: u32,
    },
    /// An event states a size that no event can have.
    #[error("{path:?}: the event at {offset} states a size of {size} bytes")]
    EventSize {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// The size.
        size: u32,
    },
    /// An event states another place than where it is: something before it is missing or too much.
    #[error("{path:?}: the {kind} event at {offset} says that it ends at {stated}, but it ends at {actual}")]
    Displaced {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// Its kind.
        kind: EventKind,
        /// End that it states, modulo 2³².
        stated: u32,
        /// Its end.
        actual: u64,
    },
    /// A body does not hold what its kind promises.
    #[error("{path:?}: the {kind} event at {offset} cannot be decoded")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// Its kind.
        kind: EventKind,
        /// What is wrong.
        source: Malformed,
    },
    /// An event of a kind that is not known and must not be passed over.
    #[error("{path:?}: the event at {offset} has the unknown kind {kind}, which may not be passed over")]
    UnknownEvent {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// Its kind.
        kind: EventKind,
    },
    /// Events come in an order that no server writes.
    #[error("{path:?}: the {kind} event at {offset} comes {why}")]
    Order {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// Its kind.
        kind: EventKind,
        /// What is wrong with its place.
        why: &'static str,
    },
    /// A server whose files come next does not have what the files before them have: it was a master beside the other, or
    /// became one without its last transactions.
    #[error("{file} of server {server} does not go on where the files before it end: {what}")]
    Diverged {
        /// The server.
        server: String,
        /// Its file.
        file: String,
        /// What shows it.
        what: String,
    },
    /// The server lost events there; replicas stop at such an event, and a replay must, too.
    #[error("{path:?}: at {offset} the server noted an incident ({message}): events are missing there")]
    Incident {
        /// The file.
        path: PathBuf,
        /// Where the event starts.
        offset: u64,
        /// What the server wrote.
        message: String,
    },
    /// A reader was asked again after it had failed.
    #[error("{path:?} could not be read before this point")]
    Failed {
        /// The file.
        path: PathBuf,
    },
    /// There are no binlogs in a folder.
    #[error("there are no binlogs in {folders:?}")]
    NoBinlogs {
        /// The folders.
        folders: Vec<PathBuf>,
    },
    /// Two files of one name and one server are not the same log.
    #[error(
        "{first:?} and {second:?} have one name and one server, but neither is the beginning of the other: they differ at byte {at}"
    )]
    Conflict {
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// First byte that differs.
        at: u64,
    },
    /// A file that a start or a target names is not there.
    #[error("binlog {file} is not there; the files are {have}")]
    NoSuchFile {
        /// The name.
        file: String,
        /// First and last file that are there.
        have: String,
    },
    /// Two servers have a file of this name, or one server's binlogs were begun anew; which one is meant cannot be told.
    #[error(
        "there are binlogs named {file} of several servers, or from before and after one began anew: {first:?} and {second:?}"
    )]
    AmbiguousFile {
        /// The name.
        file: String,
        /// One of them.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// Several transactions have one GTID: a server went on from an earlier state, and gave its numbers again.
    #[error(
        "several transactions have the GTID {gtid}: {first}, and {second}; say which one is meant by its position, or by a time"
    )]
    AmbiguousGtid {
        /// The GTID.
        gtid: Gtid,
        /// Position, time and file of one of them.
        first: String,
        /// Those of another one.
        second: String,
    },
    /// A position lies inside a transaction.
    #[error(
        "position {position} lies inside a transaction; the boundaries around it are {before} and {after}"
    )]
    InsideTransaction {
        /// The position.
        position: Position,
        /// Last boundary before it.
        before: Position,
        /// First boundary behind it.
        after: Position,
    },
    /// A position lies behind the end of its file.
    #[error("position {position} lies behind the end of the last whole transaction in that file, {end}")]
    BehindEnd {
        /// The position.
        position: Position,
        /// Last boundary in the file.
        end: Position,
    },
    /// The target comes before the start.
    #[error("the target, {target}, comes before the start, {start}")]
    TargetBeforeStart {
        /// What was asked for.
        target: String,
        /// Where the replay would start.
        start: Position,
    },
    /// The binlogs end before the target.
    #[error("the binlogs end at {end} ({last}), before {target}")]
    TargetNotReached {
        /// What was asked for.
        target: String,
        /// Where they end.
        end: Position,
        /// The last transaction in them.
        last: String,
    },
    /// Transactions are missing between two files.
    #[error("binlogs of server {server} have a gap before {file}: {missing}")]
    Gap {
        /// `server_uuid` or `server_id` of the server.
        server: String,
        /// First file behind the gap.
        file: String,
        /// What is missing: GTIDs, or files.
        missing: String,
    },
    /// The first file does not reach back to what the backup holds.
    #[error(
        "binlogs of server {server} start too late: {file} comes after {missing}, which the backup does not hold"
    )]
    StartsTooLate {
        /// `server_uuid` or `server_id` of the server.
        server: String,
        /// First file.
        file: String,
        /// What is missing.
        missing: GtidSet,
    },
    /// The files are not all of one family.
    #[error("{path:?} was written by {found}, the files before it by {expected}")]
    MixedFlavors {
        /// The file.
        path: PathBuf,
        /// Its family.
        found: Flavor,
        /// The family of the others.
        expected: Flavor,
    },
    /// A target or a skip set needs GTIDs, and the binlogs have none.
    #[error("{what} needs GTIDs, and the transaction at {position} has none")]
    NoGtids {
        /// The target or option.
        what: &'static str,
        /// The first transaction without.
        position: Position,
    },
    /// What is to be left out cannot be taken out of the backup again.
    #[error("{held} cannot be left out: the backup holds it already")]
    SkipHeld {
        /// GTIDs to leave out that the backup holds.
        held: String,
    },
    /// Of an `ALTER` that MariaDB logged in two phases one half is to be left out: the other one alone applies it, or nothing.
    #[error(
        "{named} is one half of an ALTER in two phases, and is left out with the other one only: {named},{other}"
    )]
    HalfOfAlter {
        /// What is to be left out.
        named: Gtid,
        /// What is not.
        other: Gtid,
    },
    /// A set is of the other family.
    #[error("{what} is a {found} GTID set, the binlogs are of {expected}")]
    WrongFlavor {
        /// The target or option.
        what: &'static str,
        /// Its family.
        found: Flavor,
        /// The family of the binlogs.
        expected: Flavor,
    },
    /// A text could not be understood.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Truncated { .. }
            | Self::Checksum { .. }
            | Self::EventSize { .. }
            | Self::Displaced { .. }
            | Self::Malformed { .. }
            | Self::Order { .. }
            | Self::NotABinlog { .. }
            | Self::Conflict { .. } => Class::Damaged,
            Self::Encrypted { .. } | Self::UnknownEvent { .. } => Class::Unusable,
            Self::NoBinlogs { .. }
            | Self::NoSuchFile { .. }
            | Self::BehindEnd { .. }
            | Self::TargetBeforeStart { .. }
            | Self::TargetNotReached { .. }
            | Self::Gap { .. }
            | Self::Diverged { .. }
            | Self::StartsTooLate { .. }
            | Self::MixedFlavors { .. }
            | Self::SkipHeld { .. }
            | Self::Incident { .. } => Class::Nothing,
            Self::InsideTransaction { .. }
            | Self::AmbiguousFile { .. }
            | Self::AmbiguousGtid { .. }
            | Self::NoGtids { .. }
            | Self::HalfOfAlter { .. }
            | Self::WrongFlavor { .. }
            | Self::Parse(_) => Class::Usage,
            Self::Read { .. } | Self::Failed { .. } => Class::Failed,
        }
    }
}
