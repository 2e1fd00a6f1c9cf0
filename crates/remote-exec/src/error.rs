//! Everything that can go wrong on the way to a host and back.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Status;
use crate::transfer::Digest;

/// An error of a host, a command or a transfer. Secrets appear in none of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing usable answers there: no such name, no route, connection refused, no answer in time.
    #[error("cannot reach {host}: {detail}")]
    Unreachable {
        /// The host as the user named it.
        host: String,
        /// What the tool or the library said, one line.
        detail: String,
    },
    /// The host refused the login.
    #[error("{host} refused the login: {detail}")]
    Login {
        /// The host as the user named it.
        host: String,
        /// What the host said, one line.
        detail: String,
    },
    /// The host's key is not known, or not the one that is known.
    #[error("{}", if *.changed { format!("the host key of {host} is not the one that is known: {detail}") } else { format!("the host key of {host} is not known: {detail}") })]
    HostKey {
        /// The host as the user named it.
        host: String,
        /// Whether another key is on record: an attack, or a machine that was set up anew.
        changed: bool,
        /// What ssh said, one line.
        detail: String,
    },
    /// The program is not on the host.
    #[error("there is no program {program} on {host}")]
    NoProgram {
        /// Where it was looked for.
        host: String,
        /// Its name.
        program: String,
    },
    /// The directory a command was to run in cannot be entered.
    #[error("there is no directory {} on {host}, or it cannot be entered", path.display())]
    NoDirectory {
        /// Where it was looked for.
        host: String,
        /// Its path.
        path: PathBuf,
    },
    /// The program could not be started.
    #[error("cannot start {command} on {host}")]
    Spawn {
        /// Where.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The program ended with something else than 0.
    #[error("{command} on {host} ended with {status}{}", said(.stderr_tail))]
    Failed {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// How it ended; of a pipeline the last status that is not 0.
        status: Status,
        /// The last lines it wrote to stderr.
        stderr_tail: String,
    },
    /// The command did not end within its time; its whole process group was ended.
    #[error("{command} on {host} did not end within {after:?} and was stopped")]
    Timeout {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// The time it had.
        after: Duration,
    },
    /// [`Child::kill`](crate::Child::kill) ended the command.
    #[error("{command} on {host} was stopped")]
    Stopped {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
    },
    /// Somebody on the host ended the command together with what watches it.
    #[error("{command} was ended by somebody else on {host}")]
    EndedThere {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
    },
    /// The host ended the command because it did not hear of this program for that long: it was stopped, or cut off.
    #[error("{command} was ended on {host}, which had heard nothing of its caller for {after:?}")]
    Unheard {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// How long the host waits.
        after: Duration,
    },
    /// The host went away while the command ran. Whether the command did its work is unknown; it was not run again.
    #[error("lost {host} while it ran {command}; what became of it is unknown: {detail}")]
    Lost {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// What is known about the loss.
        detail: String,
    },
    /// Something that cannot be said to a host: a NUL byte in an argument, a variable name with a blank.
    #[error("{what} cannot be used: {reason}")]
    Argument {
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The command wrote more than the caller wanted to hold in memory.
    #[error("{command} on {host} wrote more than {limit} bytes")]
    TooMuchOutput {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// [`Command::output_limit`](crate::Command::output_limit).
        limit: u64,
    },
    /// This kind of host has no way to do that.
    #[error("{host} cannot {what}")]
    Unsupported {
        /// The host.
        host: String,
        /// What it cannot do.
        what: &'static str,
    },
    /// The agent on the host answered with an error of its own.
    #[error("the agent on {host} failed: {detail}")]
    Agent {
        /// The host.
        host: String,
        /// What it said, one line.
        detail: String,
    },
    /// A file of the host could not be used.
    #[error("cannot {what} {} on {host}{}", path.display(), said(.detail))]
    File {
        /// The host.
        host: String,
        /// What was tried: `read`, `write`, …
        what: &'static str,
        /// The path there.
        path: PathBuf,
        /// Whether the reason is that the path does not exist.
        missing: bool,
        /// What the host said; empty where `source` tells it.
        detail: String,
        /// The system's error, where there is one.
        source: Option<io::Error>,
    },
    /// Reading from or writing to a command failed.
    #[error("{what} of {command} on {host} failed")]
    Io {
        /// Where it ran.
        host: String,
        /// The command, secrets masked.
        command: String,
        /// Which stream.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something on this machine that a connection needs could not be made.
    #[error("cannot {what}")]
    Here {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The receiver of a transfer took something that its sender did not send.
    #[error(
        "{to} received {received}, but {from} sent {sent}; what came of it there must not be used: {command}"
    )]
    Mistaken {
        /// The sending host.
        from: String,
        /// The receiving host.
        to: String,
        /// The receiver.
        command: String,
        /// What the sender says.
        sent: Digest,
        /// What the receiver says.
        received: Digest,
    },
    /// A transfer did not arrive as it was sent, as often as it was tried.
    #[error("the transfer from {from} to {to} failed after {attempts} attempts: {detail}")]
    Transfer {
        /// The sending host.
        from: String,
        /// The receiving host.
        to: String,
        /// How often it was tried.
        attempts: u32,
        /// What was wrong with the last attempt.
        detail: String,
        /// The error of the last attempt, where one command failed.
        source: Option<Box<Error>>,
    },
}

impl Error {
    /// Whether the same call could work a moment later: the connection failed, not the work.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. } | Self::Unheard { .. })
    }

    /// Whether the error says that a path does not exist.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::File { missing: true, .. })
    }
}

/// `: text` for a text that says something, nothing otherwise.
fn said(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
