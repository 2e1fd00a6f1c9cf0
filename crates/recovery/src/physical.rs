//! What a prepared datadir says about itself, against what the store says about it.
//!
//! `cluster_consistence_info` and `executed_gtids` decide where the replay starts. If they are of another moment than
//! the files, transactions would be missing or applied twice, and no state that the server reports afterwards
//! would tell.

use std::path::Path;

use backup_catalog::{BackupName, Master};
use binlog_replay::{Flavor, GtidSet};
use remote_exec::Host;
use xtra_driver::{BackupType, BinlogInfo, Checkpoints, MetadataError, read_first};

use crate::Error;
use crate::plan::PlannedServer;

/// The descriptions that the backup tool left in a datadir.
#[derive(Debug)]
pub(crate) struct Physical {
    checkpoints: Checkpoints,
    /// Where the server's own binlogs stood; not every version writes it.
    binlog: Option<BinlogInfo>,
}

impl Physical {
    /// Reads them.
    pub(crate) async fn read(host: &Host, datadir: &Path) -> Result<Self, Error> {
        let Some((path, text)) = read_first(host, datadir, &Checkpoints::NAMES).await? else {
            let path = datadir.join(Checkpoints::NAMES[0]);
            return Err(Error::Incomplete { what: format!("{} is missing", path.display()) });
        };
        let checkpoints = Checkpoints::parse(&text).map_err(unreadable(&path))?;
        let binlog = match read_first(host, datadir, &BinlogInfo::NAMES).await? {
            Some((path, text)) => Some(BinlogInfo::parse(&text).map_err(unreadable(&path))?),
            None => None,
        };
        Ok(Self { checkpoints, binlog })
    }

    /// Compares them with what the store says of `server` in its chain's last backup.
    ///
    /// # Errors
    ///
    /// [`Error::Unlike`] for what differs.
    pub(crate) fn check(
        &self,
        server: &PlannedServer,
        backup: &BackupName,
        executed: &str,
        flavor: Flavor,
    ) -> Result<(), Error> {
        let unlike = |what: &'static str, said: String, found: String| {
            Err(Error::Unlike {
                server: server.folder.clone(),
                backup: backup.to_string(),
                what,
                said,
                found,
            })
        };
        let line = &server.choice.line;
        let Checkpoints { backup_type, to_lsn, .. } = &self.checkpoints;
        if !matches!(backup_type, BackupType::LogApplied | BackupType::FullPrepared) || *to_lsn != line.to_lsn
        {
            let found = format!("{to_lsn}, {backup_type:?}");
            return unlike("LSN that it is prepared to", line.to_lsn.to_string(), found);
        }
        let Some(binlog) = &self.binlog else { return Ok(()) };
        let is_master = matches!(server.choice.master, Master::Own);
        if is_master && (&binlog.file, binlog.position) != (&line.start.file, line.start.offset) {
            let said = format!("{}:{}", line.start.file, line.start.offset);
            return unlike("start of the replay", said, format!("{}:{}", binlog.file, binlog.position));
        }
        // Of a MariaDB replica the file names its own binlog's state, which need not be its master's.
        let comparable = is_master || flavor == Flavor::MySql;
        let Some(gtid) = binlog.gtid.as_deref().filter(|_| comparable && !executed.is_empty()) else {
            return Ok(());
        };
        let set = |text: &str| {
            GtidSet::parse(flavor, text)
                .map_err(|e| Error::Unexpected { what: format!("backup {backup}"), text: e.to_string() })
        };
        let (said, found) = (set(executed)?, set(gtid)?);
        if said.is_subset(&found) && found.is_subset(&said) {
            return Ok(());
        }
        unlike("executed_gtids", executed.to_owned(), gtid.to_owned())
    }
}

fn unreadable(path: &Path) -> impl FnOnce(MetadataError) -> Error {
    let path = path.to_owned();
    move |source| xtra_driver::Error::Metadata { path, source }.into()
}
