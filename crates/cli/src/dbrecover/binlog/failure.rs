//! Errors about binlogs, with their exit codes and hints.

use binlog_replay::{Class, Error, FileInfo};
use dbrecover_cli::{Exit, Failure, Outcome, with_causes};

/// An error about binlogs with its exit code and a hint.
pub(crate) fn failure(error: Error) -> Failure {
    let hint = match &error {
        Error::InsideTransaction { before, after, .. } => {
            Some(format!("use {before} to stop before the transaction, {after} to stop after it"))
        }
        Error::Diverged { .. } => Some(
            "both servers had transactions that the other one had not: choose which one to follow, and a target in its files"
                .to_owned(),
        ),
        Error::Encrypted { .. } => Some(
            "let a server with the keys write plain ones, or have `mysqlbinlog --read-from-remote-server` fetch them"
                .to_owned(),
        ),
        _ => None,
    };
    Failure::new(error.class(), error).hint_if(hint)
}

/// A failure if one of the files could not be read to its end.
pub(super) fn damaged(files: &[FileInfo]) -> Outcome {
    let bad: Vec<&FileInfo> = files.iter().filter(|f| f.damage.is_some()).collect();
    let Some(first) = bad.first().and_then(|f| f.damage.as_ref()) else { return Ok(()) };
    // Whatever ends the reading of a file is damage there, unless this program is what cannot read it.
    let exit = if first.class() == Class::Unusable { Exit::Unusable } else { Exit::Damaged };
    let rest = bad.len() - 1;
    let hint = (rest > 0).then(|| format!("{rest} more of the files cannot be read to their ends"));
    Err(Failure::new(exit, anyhow::Error::msg(with_causes(first))).hint_if(hint))
}
