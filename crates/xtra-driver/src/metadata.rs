//! The files in which a backup describes itself.
//!
//! mariabackup before 11.1 and xtrabackup write `xtrabackup_*`, mariadb-backup from 11.1 on writes the same files as
//! `mariadb_backup_*`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remote_exec::Host;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What is wrong with a metadata file. The file's text is not repeated: it can hold a command line with a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A key that must be there is not.
    #[error("there is no {key}")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is not a number.
    #[error("{key} is not a number")]
    Number {
        /// The key.
        key: &'static str,
    },
    /// The text has another form.
    #[error("not of the form {expected}")]
    Form {
        /// The form.
        expected: &'static str,
    },
}

/// What a backup is, and whether it was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupType {
    /// `full-backuped`: a full backup, not prepared.
    Full,
    /// `incremental`.
    Incremental,
    /// `log-applied`: prepared, open transactions kept; mariabackup always leaves this.
    LogApplied,
    /// `full-prepared`: prepared and rolled back.
    FullPrepared,
    /// Anything else.
    Other(String),
}

/// `xtrabackup_checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// What it is.
    pub backup_type: BackupType,
    /// LSN at which its changes start; 0 for a full backup.
    pub from_lsn: u64,
    /// LSN of the checkpoint up to which it reaches; the next incremental backup starts there. It can equal `from_lsn`:
    /// a server that had no checkpoint in between still hands over a longer redo log.
    pub to_lsn: u64,
    /// LSN at the end of the copied redo log.
    pub last_lsn: Option<u64>,
}

/// `xtrabackup_info`, without the command line, which can hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Identity of the backup. Applying an incremental backup puts its own into the base.
    pub uuid: Option<String>,
    /// Version of the tool that took it.
    pub tool_version: Option<String>,
    /// Version of the server, in the server's words.
    pub server_version: Option<String>,
    /// Start, local time of the server, as written.
    pub start_time: Option<String>,
    /// End, local time of the server, as written.
    pub end_time: Option<String>,
    /// `binlog_pos` as written, GTID sets joined into one line.
    pub binlog_pos: Option<String>,
    /// Whether it was taken with an option that leaves databases or tables out, be there one that it left out or not.
    pub partial: bool,
}

/// `xtrabackup_binlog_info`: where the backed-up server's **own** binlogs stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogInfo {
    /// Name of the binlog file.
    pub file: String,
    /// Offset in it, in bytes.
    pub position: u64,
    /// GTID set in one line, if GTIDs are in use.
    pub gtid: Option<String>,
}

/// `xtrabackup_slave_info`: where a replica stood in its master's binlogs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlaveInfo {
    /// By file and offset in the master's binlogs.
    Position {
        /// Name of the binlog file.
        file: String,
        /// Offset in it.
        position: u64,
    },
    /// By GTID: the value of MariaDB's `gtid_slave_pos` or MySQL's `gtid_purged`.
    Gtid(String),
}

/// Bytes at most of a metadata file: GTID sets of old clusters can be long.
const MAX_METADATA: u64 = 64 << 20;

/// The text of the first of these files in `dir` that is there, with its path: `Checkpoints::NAMES` and the like.
///
/// # Errors
///
/// [`Error::Host`] if one is there and cannot be read.
pub async fn read_first(host: &Host, dir: &Path, names: &[&str]) -> Result<Option<(PathBuf, String)>, Error> {
    for name in names {
        let path = dir.join(name);
        let content = host.files().read_if_there(&path, MAX_METADATA).await;
        if let Some(content) = content.map_err(Error::host(format!("reading {}", path.display())))? {
            return Ok(Some((path, String::from_utf8_lossy(&content).into_owned())));
        }
    }
    Ok(None)
}

/// Lines `key = value`; a line without that continues the value above it, as GTID sets do.
fn key_values(text: &str) -> BTreeMap<&str, String> {
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = None;
    for line in text.lines() {
        match line.split_once(" = ").or_else(|| line.strip_suffix(" =").map(|key| (key, ""))) {
            Some((key, value)) => {
                values.insert(key.trim(), value.trim().to_owned());
                last = Some(key.trim());
            }
            None => {
                if let Some(value) = last.and_then(|key| values.get_mut(key)) {
                    value.push_str(line.trim());
                }
            }
        }
    }
    values
}

impl Checkpoints {
    /// Names under which the file is found.
    pub const NAMES: [&'static str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];

    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// If the type or an LSN is missing or not a number.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let values = key_values(text);
        let number = |key: &'static str| -> Result<Option<u64>, MetadataError> {
            values.get(key).map(|v| v.parse().map_err(|_| MetadataError::Number { key })).transpose()
        };
        let required = |key| number(key)?.ok_or(MetadataError::Missing { key });
        let kind = values.get("backup_type").ok_or(MetadataError::Missing { key: "backup_type" })?;
        Ok(Self {
            backup_type: match kind.as_str() {
                "full-backuped" => BackupType::Full,
                "incremental" => BackupType::Incremental,
                "log-applied" => BackupType::LogApplied,
                "full-prepared" => BackupType::FullPrepared,
                other => BackupType::Other(other.to_owned()),
            },
            from_lsn: required("from_lsn")?,
            to_lsn: required("to_lsn")?,
            last_lsn: number("last_lsn")?,
        })
    }
}

impl Info {
    /// Names under which the file is found.
    pub const NAMES: [&'static str; 2] = ["xtrabackup_info", "mariadb_backup_info"];

    /// Reads the file's text. Values that are missing are `None`.
    pub fn parse(text: &str) -> Self {
        let mut values = key_values(text);
        let partial = values.get("partial").is_some_and(|said| said == "Y");
        let mut take = |key| values.remove(key).filter(|v: &String| !v.is_empty());
        Self {
            uuid: take("uuid"),
            tool_version: take("tool_version"),
            server_version: take("server_version"),
            start_time: take("start_time"),
            end_time: take("end_time"),
            binlog_pos: take("binlog_pos"),
            partial,
        }
    }
}

impl BinlogInfo {
    /// Names under which the file is found.
    pub const NAMES: [&'static str; 2] = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"];

    /// Reads the file's text: file, offset and perhaps a GTID set, separated by TABs; the set may go on in the next
    /// lines.
    ///
    /// # Errors
    ///
    /// If file or offset is missing.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let form = MetadataError::Form { expected: "FILE<TAB>POSITION" };
        let mut fields = text.trim().splitn(3, '\t');
        let file = fields.next().filter(|f| !f.is_empty()).ok_or_else(|| form.clone())?;
        let position = fields.next().and_then(|p| p.trim().parse().ok()).ok_or(form)?;
        let gtid: String = fields.next().unwrap_or("").split_whitespace().collect();
        Ok(Self { file: file.to_owned(), position, gtid: Some(gtid).filter(|g| !g.is_empty()) })
    }
}

impl SlaveInfo {
    /// Names under which the file is found.
    pub const NAMES: [&'static str; 2] = ["xtrabackup_slave_info", "mariadb_backup_slave_info"];

    /// Reads the file's text: the statements that would set replication up.
    ///
    /// # Errors
    ///
    /// If it holds neither a GTID set nor a file and an offset.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        for variable in ["gtid_slave_pos", "gtid_purged"] {
            if let Some(set) = text.split_once(variable).and_then(|(_, rest)| quoted(rest)) {
                return Ok(Self::Gtid(set.split_whitespace().collect()));
            }
        }
        let value = |old, new| text.split_once(old).or_else(|| text.split_once(new)).map(|(_, rest)| rest);
        let file = value("MASTER_LOG_FILE", "SOURCE_LOG_FILE").and_then(quoted);
        let position = value("MASTER_LOG_POS", "SOURCE_LOG_POS")
            .map(|rest| rest.trim_start_matches(['=', ' ']))
            .and_then(|rest| {
                rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
            });
        match file.zip(position) {
            Some((file, position)) => Ok(Self::Position { file: file.to_owned(), position }),
            None => Err(MetadataError::Form { expected: "CHANGE MASTER TO … or SET GLOBAL gtid_…" }),
        }
    }
}

/// The text between the next two single quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split_once('\'')?.1.split_once('\'').map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_both_tools_are_read() {
        let maria = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 4869506\nlast_lsn = 4869522\nrecover_binlog_info = 0\n";
        let found = Checkpoints::parse(maria).unwrap();
        assert_eq!(
            (found.backup_type, found.from_lsn, found.to_lsn, found.last_lsn),
            (BackupType::Full, 0, 4_869_506, Some(4_869_522))
        );
        let percona = "backup_type = incremental\nfrom_lsn = 12\nto_lsn = 20\nlast_lsn = 20\nflushed_lsn = 20\nredo_memory = 0\n";
        assert_eq!(Checkpoints::parse(percona).unwrap().backup_type, BackupType::Incremental);
        assert_eq!(
            Checkpoints::parse("backup_type = x\nfrom_lsn = 0\n"),
            Err(MetadataError::Missing { key: "to_lsn" })
        );
        assert_eq!(
            Checkpoints::parse("backup_type = x\nfrom_lsn = -1\nto_lsn = 0\n"),
            Err(MetadataError::Number { key: "from_lsn" })
        );
    }

    #[test]
    fn info_keeps_versions_and_drops_the_command_line() {
        let text = "uuid = u-1\nname = \ntool_command = --password=S3cret --backup\nserver_version = 8.0.26\n\
                    binlog_pos = filename 'b.000002', position '5', GTID of the last change 'a:1-5,\nb:1-2'\n\
                    partial = N\nincremental = Y\n";
        let info = Info::parse(text);
        assert_eq!(info.uuid.as_deref(), Some("u-1"));
        assert_eq!(
            info.binlog_pos.as_deref(),
            Some("filename 'b.000002', position '5', GTID of the last change 'a:1-5,b:1-2'")
        );
        assert!(!info.partial);
        assert!(!format!("{info:?}").contains("S3cret"));
    }

    #[test]
    fn binlog_info_joins_a_gtid_set_over_several_lines() {
        let info = BinlogInfo::parse("b.000002\t639\ta:1-5,\nb:1-2\n").unwrap();
        assert_eq!(
            (info.file.as_str(), info.position, info.gtid.as_deref()),
            ("b.000002", 639, Some("a:1-5,b:1-2"))
        );
        assert_eq!(BinlogInfo::parse("b.000002\t639\n").unwrap().gtid, None);
        assert!(BinlogInfo::parse("").is_err() && BinlogInfo::parse("b\tx\n").is_err());
    }

    #[test]
    fn slave_info_is_a_position_or_a_gtid_set() {
        assert_eq!(
            SlaveInfo::parse("CHANGE MASTER TO MASTER_LOG_FILE='master-bin.000003', MASTER_LOG_POS=639;\n"),
            Ok(SlaveInfo::Position { file: "master-bin.000003".into(), position: 639 })
        );
        assert_eq!(
            SlaveInfo::parse(
                "SET GLOBAL gtid_slave_pos = '0-25720-16';\nCHANGE MASTER TO master_use_gtid = slave_pos;\n"
            ),
            Ok(SlaveInfo::Gtid("0-25720-16".into()))
        );
        assert_eq!(
            SlaveInfo::parse(
                "SET GLOBAL gtid_purged='a:1-5,\nb:1';\nCHANGE MASTER TO MASTER_AUTO_POSITION=1;\n"
            ),
            Ok(SlaveInfo::Gtid("a:1-5,b:1".into()))
        );
        assert!(SlaveInfo::parse("nothing").is_err());
    }
}
