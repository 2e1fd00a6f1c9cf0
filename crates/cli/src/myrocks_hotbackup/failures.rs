//! A library's errors as failures, and what would help.

use dbrecover_cli::{Exit, Failure, with_causes};
use rocks_hotbackup::{Class, Error};

/// A library error with its exit code and a hint.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Stopped { signal: 2 } => Exit::Interrupted,
        Error::Stopped { .. } => Exit::Terminated,
        other => other.class().into(),
    };
    // As text: `finish` takes a closed pipe for a reader that has seen enough, and nobody has seen enough of a backup.
    Failure::new(exit, anyhow::Error::msg(with_causes(&error))).hint_if(hint(&error))
}

fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotEmpty { .. } => "the directory must be empty or absent; nothing was moved",
        Error::Elsewhere { .. } => {
            "--rocksdb-datadir and --rocksdb-waldir, as the my.cnf of the restored server names them (rocksdb_datadir, \
             rocksdb_wal_dir): it looks nowhere else"
        }
        Error::OtherMoveBack { .. } => {
            "give the same directories as before, and the move-back goes on where it was"
        }
        Error::OtherRestore { .. } => {
            "give the same --from, directories and --owner, and it goes on where it was; or remove its directory and what was \
             moved to the targets"
        }
        Error::Busy { .. } => "wait until it has ended",
        Error::NoManifest { .. } => {
            "if the program before this one made it, --without-manifest restores it; if this one did, it was cut off: take \
             another"
        }
        Error::DataDictionary { .. } => {
            "take the backup with a tool for InnoDB and MyRocks together; --allow-no-dictionary takes the MyRocks part all \
             the same"
        }
        Error::BaseOfAnotherServer { .. } => {
            "take a full backup; or --allow-other-server, if only the server's machine or port changed"
        }
        Error::Connect { .. } => "the server runs on this machine? --socket or --port say where it listens",
        Error::OtherHost { .. } => {
            "run it there; a server of this machine with a host name of its own is reached by --socket"
        }
        Error::Account { .. } => "--user, and --password-file, MYSQL_PWD or --defaults-file for the password",
        Error::Privilege { .. } => {
            "a backup needs SUPER (to set rocksdb_create_checkpoint), RELOAD (to lock) and on MariaDB from 11.0 on BINLOG \
             MONITOR (for the position)"
        }
        Error::NoLock => "--no-lock takes a backup without one",
        Error::NoMyRocks => "INSTALL SONAME 'ha_rocksdb' on MariaDB loads it",
        Error::OtherFilesystem { .. } => "choose a --checkpoint-dir on the file system of the data",
        Error::Checkpoint { .. } => "the server's own user must be able to write in --checkpoint-dir",
        Error::SchemaChanged { .. } => {
            "run it again without DDL, or with --consistent, or with --skip-check-frm-timestamp"
        }
        Error::BaseUnusable { .. } => "take a full backup: without --incremental-base",
        Error::PasswordNeeded { .. } => "--key-file, or MYROCKS_BACKUP_KEY in the environment",
        Error::ReaderGone { .. } => "the program that reads the backup ended early; its own message says why",
        Error::Io { .. } | Error::Output { .. } if error.class() == Class::Unusable => {
            "there is no space left"
        }
        _ => return None,
    })
}
