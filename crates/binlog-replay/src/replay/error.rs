//! What can go wrong on the way into the server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::method::Method;
use crate::error::Class;
use crate::version::ParseError;

/// Why a replay was refused or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is of another version of this program.
    #[error("the request has schema version {found}, this program knows {}", super::SCHEMA_VERSION)]
    Schema {
        /// What the request says.
        found: u32,
    },
    /// A text in the request is not what its place wants.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The binlogs cannot be read, or do not hold what the target needs.
    #[error(transparent)]
    Binlog(#[from] crate::Error),
    /// The binlogs are of the other family than the server.
    #[error("the binlogs were written by {found}, and {server} cannot apply them")]
    OtherFlavor {
        /// Who wrote the binlogs.
        found: String,
        /// The server.
        server: String,
    },
    /// The method that was asked for cannot do this replay exactly.
    #[error("the replay method {method} cannot be used here: {reason}")]
    Method {
        /// What was asked for.
        method: Method,
        /// Why not.
        reason: String,
    },
    /// The request names no account, so that it can be planned and not run.
    #[error("the request names no account of the temporary server")]
    NoAccount,
    /// The temporary server cannot be reached or used.
    #[error("the temporary server at {} cannot be used: {doing} failed", socket.display())]
    Server {
        /// Its socket.
        socket: PathBuf,
        /// What was being done.
        doing: String,
        /// The client's or the server's words.
        source: mysql_async::Error,
    },
    /// The server runs with a setting under which the replay would not be exact.
    #[error("the temporary server runs with {setting}={found}, the replay needs {wanted}")]
    Setting {
        /// The variable.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A resumed replay found a server that is not between start and target.
    #[error("the server cannot be resumed: it holds {held}, which is not between start and target")]
    NotResumable {
        /// Its GTID state.
        held: String,
    },
    /// A finished replay is made longer, and had left out something that would be applied now.
    #[error(
        "{gtid} was left out when the server came to where it is: behind what it has now it would be applied too \
         late. Leave it out again (--skip-gtid), or begin anew, from the backup"
    )]
    LeftOut {
        /// The first transaction that is missing.
        gtid: String,
    },
    /// A resumed replay without GTIDs found a server that says nothing of an earlier one.
    #[error(
        "without GTIDs nothing in the server says how far the earlier replay came: begin anew, from the backup"
    )]
    NoTrace,
    /// A replay was cut off, and whether something was applied is not known.
    #[error("after a crash nothing says whether {what} was applied: begin anew, from the backup")]
    InDoubt {
        /// What may have been applied, or not.
        what: String,
    },
    /// The server refused a transaction.
    #[error("{}", refused(file, *pos, gtid.as_deref(), table.as_deref(), statement.as_deref(), reason))]
    Refused {
        /// Binlog file of the event.
        file: String,
        /// Offset of the event in that file.
        pos: u64,
        /// GTID of the transaction.
        gtid: Option<String>,
        /// Table of a row event.
        table: Option<String>,
        /// Statement, passwords left out, cut to 200 characters.
        statement: Option<Box<str>>,
        /// The server's words.
        reason: String,
    },
    /// The server's applier stopped.
    #[error("the server's applier stopped after {after}: {reason}")]
    Applier {
        /// `FILE:POS` up to which everything was applied.
        after: String,
        /// The server's words.
        reason: String,
    },
    /// A stock tool failed.
    #[error("{tool} ended with {status}: {stderr}")]
    Tool {
        /// The program.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote to standard error.
        stderr: String,
    },
    /// A file of the replay cannot be read or written.
    #[error("{doing} {} failed", path.display())]
    File {
        /// `reading`, `writing`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// An event is not what it should be; the scan before should have found it.
    #[error("{file} at {pos}: {what}")]
    Event {
        /// Binlog file.
        file: String,
        /// Offset of the event.
        pos: u64,
        /// What is wrong.
        what: String,
    },
    /// Everything was applied, and the server is not where the plan said.
    #[error("the proof failed: {source_of_state} is {found:?}, the plan said {expected:?}")]
    Unproven {
        /// Where the state was read.
        source_of_state: String,
        /// The state that the plan said.
        expected: String,
        /// The state that was found.
        found: String,
    },
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Schema { .. }
            | Self::Parse(_)
            | Self::Method { .. }
            | Self::NoAccount
            | Self::OtherFlavor { .. } => Class::Usage,
            Self::Server { .. } | Self::Setting { .. } => Class::Unusable,
            Self::Binlog(error) => error.class(),
            Self::Event { .. } => Class::Damaged,
            Self::Unproven { .. } => Class::Unproven,
            Self::NotResumable { .. }
            | Self::LeftOut { .. }
            | Self::NoTrace
            | Self::InDoubt { .. }
            | Self::Refused { .. }
            | Self::Applier { .. }
            | Self::Tool { .. }
            | Self::File { .. } => Class::Failed,
        }
    }

    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

fn refused(
    file: &str,
    pos: u64,
    gtid: Option<&str>,
    table: Option<&str>,
    statement: Option<&str>,
    reason: &str,
) -> String {
    let mut text = format!("the server refused {file}:{pos}");
    if let Some(gtid) = gtid {
        text.push_str(&format!(" (GTID {gtid})"));
    }
    if let Some(table) = table {
        text.push_str(&format!(", rows of {table}"));
    }
    if let Some(statement) = statement {
        text.push_str(&format!(", statement {statement:?}"));
    }
    format!("{text}: {reason}")
}
