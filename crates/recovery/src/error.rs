//! What can go wrong in a recovery, by who can mend it.

use std::path::PathBuf;

/// The class of an error: what a program that embeds a recovery branches on.
///
/// Its number is the exit code that `dbrecover` ends with, also as a worker, which tells its class by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Something failed that has no class of its own.
    Failed = 1,
    /// The configuration or the request is wrong; nothing was touched.
    Usage = 2,
    /// The store holds nothing for this target.
    Nothing = 3,
    /// A host or a tool cannot be used.
    Unusable = 4,
    /// Data is damaged, or the password is wrong.
    Damaged = 5,
    /// The work was done and its proof failed.
    Unproven = 6,
    /// The caller cancelled; as a shell shows a death by SIGINT.
    Cancelled = 130,
}

impl Class {
    /// What the exit status of a worker stands for. One that was ended by a signal was not cancelled by this program.
    pub(crate) fn of_worker(code: Option<i32>) -> Self {
        let own = [Self::Usage, Self::Nothing, Self::Unusable, Self::Damaged, Self::Unproven];
        own.into_iter().find(|class| code == Some(*class as i32)).unwrap_or(Self::Failed)
    }
}

/// An error of a recovery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is no INI file.
    #[error("cannot read the configuration")]
    ConfigSyntax(#[source] backup_catalog::Error),
    /// A value of the configuration is missing or wrong.
    #[error("{place}: [{section}] {key}: {reason}")]
    Config {
        /// `FILE` or `FILE:LINE`.
        place: String,
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A time cannot be understood.
    #[error("cannot understand the time {text:?}: {reason}")]
    BadTime {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A GTID set or a binlog position cannot be understood.
    #[error("cannot understand {what} {text:?}: {reason}")]
    BadTarget {
        /// What it should be.
        what: &'static str,
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store holds nothing for this target, or holds it incompletely.
    #[error(transparent)]
    Catalog(#[from] backup_catalog::Error),
    /// The backups lack something that this recovery needs.
    #[error("{what}")]
    Incomplete {
        /// What is missing, and where.
        what: String,
    },
    /// A host cannot be used, or a command on it failed.
    #[error(transparent)]
    Host(#[from] remote_exec::Error),
    /// A command failed that is part of a step.
    #[error("{doing} failed")]
    Step {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// A tool is missing or cannot do what is needed.
    #[error("{host}: {tool}: {reason}")]
    Tool {
        /// The host.
        host: String,
        /// The program.
        tool: String,
        /// What is wrong.
        reason: String,
    },
    /// The xtrabackup driver failed.
    #[error(transparent)]
    Prepare(#[from] xtra_driver::Error),
    /// Too little room on the job server.
    #[error("{host}: {} has {free} bytes free, the recovery needs about {needed}", .path.display())]
    NoSpace {
        /// The job server.
        host: String,
        /// The work directory.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The password does not open the encrypted backup.
    #[error("the password does not open the backup {backup}")]
    WrongPassword {
        /// The backup.
        backup: String,
    },
    /// The backup is encrypted and no password was given.
    #[error("the backup {backup} is encrypted and no password was given")]
    NeedPassword {
        /// The backup.
        backup: String,
    },
    /// The worker on the job server ended with a failure of its own.
    #[error("{doing} on {host}: {message}")]
    Worker {
        /// The job server.
        host: String,
        /// What it was doing.
        doing: String,
        /// Its last words.
        message: String,
        /// The class that its exit code stands for.
        class: Class,
    },
    /// The work directory is not ours to touch.
    #[error("{host}: {} was not made by dbrecover and is left alone", .path.display())]
    ForeignDirectory {
        /// The job server.
        host: String,
        /// The directory.
        path: PathBuf,
    },
    /// What was cut off is another recovery than the one that is asked for.
    #[error("{host}: the recovery in {} cannot be gone on with: {reason}", .path.display())]
    NotResumable {
        /// The job server.
        host: String,
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A finished recovery with the name of the one that is asked for is another one.
    #[error("{host}: the finished recovery in {} is another one, {difference}", .path.display())]
    OtherRecovery {
        /// The job server.
        host: String,
        /// The directory.
        path: PathBuf,
        /// In what it is another one.
        difference: String,
    },
    /// A finished recovery cannot be made longer.
    #[error("{name} cannot be extended: {reason}")]
    NotExtendable {
        /// The finished recovery.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Another recovery holds the work directory.
    #[error("{host}: another recovery works in {}", .path.display())]
    Busy {
        /// The job server.
        host: String,
        /// The directory.
        path: PathBuf,
    },
    /// A server that an earlier recovery left is in the way.
    #[error("{host}: a server of {server} runs already: {what}")]
    Running {
        /// The job server.
        host: String,
        /// The server's folder.
        server: String,
        /// Its process, and where it is.
        what: String,
    },
    /// A temporary server did not start or died.
    #[error("the temporary server of {server} {reason}")]
    Server {
        /// The server's folder.
        server: String,
        /// What happened, with the end of its log.
        reason: String,
    },
    /// The account of the backup cannot log in to its recovered server.
    #[error("the account of {server} in dbscale.conf cannot log in to the recovered server: {reason}")]
    Login {
        /// The server's folder.
        server: String,
        /// The server's words.
        reason: String,
    },
    /// Nothing says in which letter case a server kept the names of its tables.
    #[error("{server}: nothing says its lower_case_table_names: {what}")]
    LetterCase {
        /// The server's folder.
        server: String,
        /// Why its `my.conf` does not.
        what: String,
    },
    /// A physical backup is of another moment than the store says.
    #[error("{server}: the {what} is {said} by backup {backup}, but its physical backup says {found}")]
    Unlike {
        /// The server's folder.
        server: String,
        /// The backup.
        backup: String,
        /// What was compared.
        what: &'static str,
        /// As the store says.
        said: String,
        /// As the physical backup says.
        found: String,
    },
    /// The recovered server is not in the planned state.
    #[error("{server}: {what}: planned {planned}, found {found}")]
    Unproven {
        /// The server's folder.
        server: String,
        /// What was compared.
        what: &'static str,
        /// As planned.
        planned: String,
        /// As found.
        found: String,
    },
    /// The recovery was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A program said something that cannot be understood.
    #[error("cannot understand what {what} says: {text:?}")]
    Unexpected {
        /// Who said it.
        what: String,
        /// What it said.
        text: String,
    },
}

/// An error with its causes, in one line. What an error repeats of its cause is there once.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| match text.ends_with(&cause) {
        true => text,
        false => format!("{text}: {cause}"),
    })
}

impl Error {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::ConfigFile { .. } | Self::ConfigSyntax(_) | Self::Config { .. } => Class::Usage,
            Self::BadTime { .. } | Self::BadTarget { .. } | Self::ForeignDirectory { .. } => Class::Usage,
            Self::NotResumable { .. } | Self::OtherRecovery { .. } => Class::Usage,
            Self::NeedPassword { .. } => Class::Usage,
            Self::Catalog(error) => match error.class() {
                backup_catalog::Class::Usage => Class::Usage,
                backup_catalog::Class::Nothing => Class::Nothing,
                backup_catalog::Class::Unusable => Class::Unusable,
                backup_catalog::Class::Damaged => Class::Damaged,
            },
            Self::Incomplete { .. } | Self::NotExtendable { .. } | Self::LetterCase { .. } => Class::Nothing,
            Self::Host(_) | Self::Tool { .. } | Self::NoSpace { .. } | Self::Busy { .. } => Class::Unusable,
            Self::Login { .. } | Self::Running { .. } => Class::Unusable,
            Self::WrongPassword { .. } | Self::Unlike { .. } => Class::Damaged,
            Self::Unproven { .. } => Class::Unproven,
            Self::Cancelled => Class::Cancelled,
            Self::Worker { class, .. } => *class,
            Self::Step { source, .. } => source.class(),
            Self::Prepare(error) => match error.class() {
                xtra_driver::Class::Failed => Class::Failed,
                xtra_driver::Class::Unusable => Class::Unusable,
                xtra_driver::Class::Nothing => Class::Nothing,
                xtra_driver::Class::Damaged => Class::Damaged,
            },
            Self::Server { .. } | Self::Unexpected { .. } => Class::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_tells_its_class_by_its_exit_code() {
        use Class::{Damaged, Nothing, Unproven, Unusable, Usage};
        for class in [Usage, Nothing, Unusable, Damaged, Unproven] {
            assert_eq!(Class::of_worker(Some(class as i32)), class);
        }
        for other in [None, Some(1), Some(75), Some(130), Some(143)] {
            assert_eq!(Class::of_worker(other), Class::Failed, "{other:?}");
        }
    }

    #[test]
    fn backup_that_the_tool_cannot_undo_is_a_matter_of_the_tool() {
        let member = PathBuf::from("t.ibd.xbcrypt");
        let encrypted = xtra_driver::Error::Encrypted { member: member.clone() };
        let compressed = xtra_driver::Error::StillCompressed { member };
        for error in [encrypted, compressed] {
            assert_eq!(Error::from(error).class(), Class::Unusable);
        }
    }
}
