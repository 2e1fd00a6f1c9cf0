//! Errors about binlogs, with their exit codes and hints.

use binlog_replay::{Error, FileInfo};
use dbrecover_cli::{Exit, Failure, Outcome, with_causes};

/// The exit code of an error about binlogs.
pub(crate) fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Truncated { .. }
        | Error::Checksum { .. }
        | Error::EventSize { .. }
        | Error::Displaced { .. }
        | Error::Malformed { .. }
        | Error::Order { .. }
        | Error::NotABinlog { .. }
        | Error::Conflict { .. } => Exit::Damaged,
        Error::Encrypted { .. } | Error::UnknownEvent { .. } => Exit::Unusable,
        Error::NoBinlogs { .. }
        | Error::NoSuchFile { .. }
        | Error::BehindEnd { .. }
        | Error::TargetBeforeStart { .. }
        | Error::TargetNotReached { .. }
        | Error::Gap { .. }
        | Error::Diverged { .. }
        | Error::StartsTooLate { .. }
        | Error::MixedFlavors { .. }
        | Error::SkipHeld { .. }
        | Error::Incident { .. } => Exit::Nothing,
        Error::InsideTransaction { .. }
        | Error::AmbiguousFile { .. }
        | Error::AmbiguousGtid { .. }
        | Error::NoGtids { .. }
        | Error::WrongFlavor { .. }
        | Error::Parse(_) => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// An error about binlogs with its exit code and a hint.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = exit_of(&error);
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
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A failure if one of the files could not be read to its end.
pub(super) fn damaged(files: &[FileInfo]) -> Outcome {
    let bad: Vec<&FileInfo> = files.iter().filter(|f| f.damage.is_some()).collect();
    let Some(first) = bad.first().and_then(|f| f.damage.as_ref()) else { return Ok(()) };
    let exit = match **first {
        Error::Encrypted { .. } | Error::UnknownEvent { .. } => Exit::Unusable,
        _ => Exit::Damaged,
    };
    let text = anyhow::Error::msg(with_causes(&**first));
    let rest = bad.len() - 1;
    Err(match rest {
        0 => Failure::new(exit, text),
        n => Failure::new(exit, text).hint(format!("{n} more of the files cannot be read to their ends")),
    })
}
