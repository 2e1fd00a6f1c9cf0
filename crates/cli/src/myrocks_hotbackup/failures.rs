//! Which failure is of which class, and what would help.

use dbrecover_cli::{Exit, Failure};
use rocks_hotbackup::Error;

/// A library error with its exit code and a hint.
pub(crate) fn failure(error: Error) -> Failure {
    let (exit, hint) = class(&error);
    // As text: `finish` takes a closed pipe for a reader that has seen enough, and nobody has seen enough of a backup.
    let failure = Failure::new(exit, anyhow::Error::msg(chain(&error)));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

fn class(error: &Error) -> (Exit, Option<&'static str>) {
    match error {
        Error::Usage(_) => (Exit::Usage, None),
        Error::NotEmpty { .. } => {
            (Exit::Usage, Some("the directory must be empty or absent; nothing was moved"))
        }
        Error::Elsewhere { .. } => (
            Exit::Usage,
            Some(
                "--rocksdb-datadir and --rocksdb-waldir, as the my.cnf of the restored server names them (rocksdb_datadir, \
                 rocksdb_wal_dir): it looks nowhere else",
            ),
        ),
        Error::OtherMoveBack { .. } => {
            (Exit::Usage, Some("give the same directories as before, and the move-back goes on where it was"))
        }
        Error::OtherRestore { .. } => (
            Exit::Usage,
            Some(
                "give the same --from, directories and --owner, and it goes on where it was; or remove its directory and what was \
                 moved to the targets",
            ),
        ),
        Error::Busy { .. } => (Exit::Unusable, Some("wait until it has ended")),
        Error::NoManifest { .. } => (
            Exit::Damaged,
            Some(
                "if the program before this one made it, --without-manifest restores it; if this one did, it was cut off: take \
                 another",
            ),
        ),
        Error::DataDictionary { .. } => (
            Exit::Unusable,
            Some(
                "take the backup with a tool for InnoDB and MyRocks together; --allow-no-dictionary takes the MyRocks part all \
                 the same",
            ),
        ),
        Error::BaseOfAnotherServer { .. } => (
            Exit::Nothing,
            Some("take a full backup; or --allow-other-server, if only the server's machine or port changed"),
        ),
        Error::Connect { .. } => {
            (Exit::Unusable, Some("the server runs on this machine? --socket or --port say where it listens"))
        }
        Error::OtherHost { .. } => (
            Exit::Unusable,
            Some("run it there; a server of this machine with a host name of its own is reached by --socket"),
        ),
        Error::Account { .. } => (
            Exit::Unusable,
            Some("--user, and --password-file, MYSQL_PWD or --defaults-file for the password"),
        ),
        Error::Privilege { .. } => (
            Exit::Unusable,
            Some(
                "a backup needs SUPER (to set rocksdb_create_checkpoint), RELOAD (to lock) and on MariaDB from 11.0 on BINLOG \
                 MONITOR (for the position)",
            ),
        ),
        Error::NoLock => (Exit::Unusable, Some("--no-lock takes a backup without one")),
        Error::NoMyRocks => (Exit::Unusable, Some("INSTALL SONAME 'ha_rocksdb' on MariaDB loads it")),
        Error::OtherFilesystem { .. } => {
            (Exit::Unusable, Some("choose a --checkpoint-dir on the file system of the data"))
        }
        Error::Checkpoint { .. } => {
            (Exit::Unusable, Some("the server's own user must be able to write in --checkpoint-dir"))
        }
        Error::CheckpointExists { .. } | Error::Statement { .. } | Error::ServerChanged { .. } => {
            (Exit::Unusable, None)
        }
        Error::Remote { .. } | Error::Wdt { .. } => (Exit::Unusable, None),
        Error::SchemaChanged { .. } => (
            Exit::Failed,
            Some("run it again without DDL, or with --consistent, or with --skip-check-frm-timestamp"),
        ),
        Error::NoBackup { .. } | Error::BaseMissing { .. } => (Exit::Nothing, None),
        Error::BaseUnusable { .. } => (Exit::Nothing, Some("take a full backup: without --incremental-base")),
        Error::PasswordNeeded { .. } => {
            (Exit::Usage, Some("--key-file, or MYROCKS_BACKUP_KEY in the environment"))
        }
        Error::UnsafeMember { .. }
        | Error::Archive { .. }
        | Error::CutOff { .. }
        | Error::Decrypt { .. }
        | Error::Manifest { .. }
        | Error::Damaged { .. }
        | Error::FileReplaced { .. }
        | Error::Rocks { .. } => (Exit::Damaged, None),
        Error::Stopped { signal: 2 } => (Exit::Interrupted, None),
        Error::Stopped { .. } => (Exit::Terminated, None),
        Error::ReaderGone { .. } => {
            (Exit::Failed, Some("the program that reads the backup ended early; its own message says why"))
        }
        Error::Io { source, .. } | Error::Output { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            (Exit::Unusable, Some("there is no space left"))
        }
        _ => (Exit::Failed, None),
    }
}
