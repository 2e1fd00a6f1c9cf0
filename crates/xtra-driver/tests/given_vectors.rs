//! Metadata files of real backups.

use std::fs;
use std::path::PathBuf;

use xtra_driver::{BackupType, BinlogInfo, Checkpoints, Info, SlaveInfo};

fn folder() -> PathBuf {
    let root = std::env::var_os("DBRECOVER_VECTORS")
        .expect("DBRECOVER_VECTORS names no folder of vectors; ./test sets it");
    PathBuf::from(root).join("metadata")
}

#[test]
#[ignore = "needs DBRECOVER_VECTORS; run: ./test"]
fn metadata_of_real_backups_is_read() {
    let mut read = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let Some((kind, file)) = name.split_once("_xtrabackup_") else { continue };
        read += 1;
        match file {
            "checkpoints" => {
                let found = Checkpoints::parse(&text).unwrap();
                let expected = match kind.rsplit('_').next().unwrap() {
                    "inc" => (BackupType::Incremental, 4_869_506, 5_177_939),
                    "prep" => (BackupType::LogApplied, 0, 5_177_939),
                    "full" => (BackupType::Full, 0, 4_869_506),
                    _ => (BackupType::Full, 0, 44_420),
                };
                assert_eq!((found.backup_type, found.from_lsn, found.to_lsn), expected, "{name}");
            }
            "info" => {
                let info = Info::parse(&text);
                assert_eq!(info.server_version.as_deref(), Some("10.11.19-MariaDB-0+deb12u1-log"), "{name}");
                assert!(info.uuid.is_some() && info.binlog_pos.is_some(), "{name}");
            }
            "binlog_info" => {
                assert!(BinlogInfo::parse(&text).unwrap().gtid.unwrap().starts_with("0-25720-"), "{name}")
            }
            "slave_info" => {
                let expected = match kind.ends_with("slave2") {
                    true => SlaveInfo::Gtid("0-25720-16".to_owned()),
                    false => SlaveInfo::Position { file: "master-bin.000003".to_owned(), position: 639 },
                };
                assert_eq!(SlaveInfo::parse(&text).unwrap(), expected, "{name}");
            }
            other => panic!("{other}"),
        }
    }
    assert!(read >= 15, "only {read} files");
}
