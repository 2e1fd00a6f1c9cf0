//! What would make a failed recovery work: advice that knows the flags.

use dbrecover_cli::Failure;
use recovery::Error;

/// A recovery's error with its exit code and a hint.
pub(crate) fn failure(error: Error) -> Failure {
    let hint = hint(&error);
    Failure::new(error.class(), error).hint_if(hint)
}

/// For a command that was ended because it took too long.
const LONGER: &str = "conn-timeout in [misc] says how many seconds a login or one step of preparing may take; --resume goes on";

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::ConfigFile { .. } => "--config-file FILE names the configuration".to_owned(),
        Error::Config { .. } | Error::ConfigSyntax(_) => {
            "docs/configuration.md lists every key with its type and default".to_owned()
        }
        Error::BadTime { .. } => {
            "2026-02-03 04:05:06 is a time of the backup machine (time-zone in [misc]); 2026-02-03T04:05:06+08:00 is exact"
                .to_owned()
        }
        Error::BadTarget { .. } => {
            "`dbrecover binlog find` prints GTIDs and positions; several GTIDs are separated by commas".to_owned()
        }
        Error::Catalog(backup_catalog::Error::Outside { .. } | backup_catalog::Error::NoSuchBackup { .. }) => {
            "dbrecover list shows the backups and the times that can be reached".to_owned()
        }
        Error::Catalog(backup_catalog::Error::NoBackups) => {
            "is [backup-store] dir the directory that holds the UTC…-full and UTC…-inc folders?".to_owned()
        }
        Error::Catalog(backup_catalog::Error::LostGroup { group, .. }) => {
            format!("--without-group {group} says that it is meant to be left out; an earlier backup may hold it")
        }
        Error::Prepare(xtra_driver::Error::Partial { .. }) => {
            "look for databases-exclude, databases, tables and the like in [mariabackup] or [xtrabackup] of the server's option \
             files; --allow-partial says that what they left out is not wanted"
                .to_owned()
        }
        Error::LetterCase { .. } => {
            "say lower-case-table-names = 0 or 1 in [misc], as the server had it (SHOW VARIABLES, or the files that its my.conf \
             names); with the wrong one a replay makes tables in the wrong letter case"
                .to_owned()
        }
        Error::Unlike { .. } => {
            "the backup is not what it says; recover to one before it, whose binlogs may reach as far".to_owned()
        }
        Error::NeedPassword { .. } => "give it by --password-file FILE or in DBRECOVER_PASSWORD".to_owned(),
        Error::WrongPassword { .. } => "nothing was touched; try again with another --password-file".to_owned(),
        Error::NoSpace { .. } => {
            "free some, or name another work-dir in [recovery-job-server]; only the stock tools decrypt in the store (toolchain)"
                .to_owned()
        }
        Error::ForeignDirectory { path, .. } | Error::OtherRecovery { path, .. } => {
            format!("move {} away, or name another work-dir in [recovery-job-server]", path.display())
        }
        Error::NotResumable { .. } => {
            "begin anew without --resume, or ask for what was begun".to_owned()
        }
        Error::Busy { .. } => "wait for the other recovery, or name another work-dir".to_owned(),
        Error::Running { .. } => {
            "end it (`kill` with its process id shuts it down well), or name another work-dir or job server".to_owned()
        }
        Error::Login { .. } => {
            "the account that [data-server] of dbscale.conf names must be able to log in over the server's socket".to_owned()
        }
        Error::Host(remote_exec::Error::HostKey { changed: false, .. }) => {
            "check the key and add it to known_hosts, or say accept-new-host-keys = 1 in [misc]".to_owned()
        }
        Error::Host(remote_exec::Error::Login { .. }) => {
            "check user, password and identity-file of that machine in the configuration".to_owned()
        }
        Error::Host(remote_exec::Error::Unreachable { .. }) => {
            "check ip and port of that machine in the configuration".to_owned()
        }
        Error::Host(remote_exec::Error::Timeout { .. }) => LONGER.to_owned(),
        Error::Prepare(xtra_driver::Error::Host { source, .. })
            if matches!(**source, remote_exec::Error::Timeout { .. }) =>
        {
            LONGER.to_owned()
        }
        Error::Prepare(xtra_driver::Error::Interrupted { .. }) => "run it again without --resume".to_owned(),
        Error::Prepare(xtra_driver::Error::NoDecompressor { program, .. }) => {
            format!("install {program} there, or let dbrecover unpack: toolchain = auto in [misc]; it needs no {program}")
        }
        Error::Unproven { .. } => "do not use what was recovered; its logs are in tmp/ of the work directory".to_owned(),
        Error::Step { source, .. } => return hint(source),
        _ => return None,
    })
}
