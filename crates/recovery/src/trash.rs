//! The one thing that a recovery changes in the store: an incomplete newest backup is moved to `trash/`.

use std::path::{Path, PathBuf};

use backup_catalog::BackupName;
use backup_catalog::layout::{TRASH, says_complete};
use remote_exec::Host;

use crate::Error;
use crate::store::MAX_TEXT;

/// Moves an incomplete backup, and says where to; `None` if it was finished since the catalog was read.
///
/// # Errors
///
/// If the store cannot be written to. Whoever asks again then ends what was begun: the encrypted tar is found by the folder,
/// which goes last.
pub(crate) async fn take(store: &Host, dir: &Path, name: &BackupName) -> Result<Option<PathBuf>, Error> {
    let files = store.files();
    let folder = dir.join(name.as_str());
    match files.read(dir.join(name.ok()), MAX_TEXT).await {
        Ok(ok) if says_complete(&ok) => return Ok(None),
        _ => {}
    }
    let trash = dir.join(TRASH);
    files.create_dir_all(&trash).await?;
    let encrypted = dir.join(name.archive());
    if files.exists(&encrypted).await? {
        files.rename(encrypted, trash.join(name.archive_name())).await?;
    }
    files.rename(&folder, trash.join(name.as_str())).await?;
    Ok(Some(trash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tar_of_a_backup_is_not_lost_sight_of() {
        let (host, dir) = (Host::local(), tempfile::tempdir().unwrap());
        let name: BackupName = "UTC20210205092650.735-full".parse().unwrap();
        let at = |path: &str| dir.path().join(path);
        let (folder, tar) = (at(name.as_str()), at("encrypted").join(format!("{name}.tar.encrypted")));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(at("encrypted")).unwrap();
        std::fs::write(&tar, "tar").unwrap();
        // Something is in the way of the tar.
        let in_the_way = at("trash").join(format!("{name}.tar.encrypted"));
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        take(&host, dir.path(), &name).await.unwrap_err();
        assert!(folder.exists() && tar.exists());
        std::fs::remove_dir_all(&in_the_way).unwrap();
        assert_eq!(take(&host, dir.path(), &name).await.unwrap(), Some(at("trash")));
        assert!(!folder.exists() && !tar.exists() && in_the_way.exists());
        assert!(at("trash").join(name.as_str()).exists());
        // One that was finished meanwhile stays.
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ok"), "ok\n").unwrap();
        assert_eq!(take(&host, dir.path(), &name).await.unwrap(), None);
    }
}
