//! The steps of the stock tools: tar, pyAesCrypt, xbstream.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use backup_catalog::Backup;
use backup_catalog::layout::{BASE, STREAM};
use remote_exec::transfer;
use secrecy::{ExposeSecret, SecretString};

use super::moved::Parcel;
use super::{Moving, Unit, Unpack};
use crate::Error;
use crate::naming::mark;
use crate::plan::Plan;
use crate::report::Unpacked;
use crate::workdir::sync;

/// What tells a machine from others.
const MACHINE: [&str; 2] = ["/etc/machine-id", "/proc/sys/kernel/hostname"];

impl Unpack<'_> {
    pub(super) async fn by_stock_tools(
        &self,
        moving: &Moving<'_>,
        folders: &[&str],
    ) -> Result<Unpacked, Error> {
        let Moving { backup, unit, .. } = *moving;
        let name = backup.name.as_str();
        let job = self.job();
        let root = if backup.encrypted { self.decrypted(backup).await? } else { self.plan.store_dir.clone() };
        let tar = self.hosts.store.command("tar").args(Self::tar_of(&root, backup, unit));
        let untar = job.command("tar").arg("-C").arg(self.work).args(["--no-same-owner", "-xf", "-"]);
        let mut unpacked = Unpacked::of(name);
        if self.hosts.shared_store {
            // The streams are extracted from where they lie; everything else is copied.
            job.pipeline(vec![tar, untar]).run().await?;
        } else {
            let progress = |done| self.progress(moving, done);
            let parcel = Parcel { label: moving.label(), progress: &progress };
            let moved = self.carrier().moved(&tar, untar, transfer::Check::Stages, &parcel).await?;
            unpacked.retries = moved.retries;
        }
        for folder in unit.streams(folders) {
            let lies = if self.hosts.shared_store { &root } else { self.work };
            let stream = lies.join(name).join(folder).join(STREAM);
            let target = Plan::stream_target(self.work, &backup.name, folder);
            crate::prepare::extract(self, name, folder, &stream, &target).await?;
            if !self.hosts.shared_store {
                job.files().remove_file(&stream).await?;
            }
        }
        if moving.has_base() {
            self.untar_base(name).await?;
        }
        if backup.encrypted && !matches!(unit, Unit::Stream(_)) {
            self.clear_files(backup).await?;
        }
        sync(job, self.work).await?;
        let streams = || backup.servers.iter().filter_map(|server| server.stream_bytes);
        unpacked.bytes_read = match unit {
            Unit::All => backup.bytes,
            Unit::Files => backup.bytes.saturating_sub(streams().sum()),
            Unit::Stream(folder) => {
                let server = backup.servers.iter().find(|server| server.folder == folder);
                server.and_then(|server| server.stream_bytes).unwrap_or(0)
            }
        };
        Ok(unpacked)
    }

    async fn untar_base(&self, name: &str) -> Result<(), Error> {
        let dir = self.work.join(name).join(BASE);
        let entries = self.job().files().list(&dir).await?;
        let tarball = entries
            .iter()
            .find(|e| e.name.to_string_lossy().ends_with(".tar.gz"))
            .ok_or_else(|| Error::Incomplete { what: format!("backup {name} has no {BASE}/*.tar.gz") })?;
        self.job()
            .command("tar")
            .args(["--no-same-owner", "-xzf"])
            .arg(dir.join(&tarball.name))
            .arg("-C")
            .arg(self.work.join("datanode_base"))
            .run()
            .await?;
        Ok(())
    }

    /// Decrypts a backup inside the store, with `pyAesCrypt`.
    pub(super) async fn decrypt(&self, backup: &Backup) -> Result<(), Error> {
        let Some(password) = self.password else {
            return Err(Error::NeedPassword { backup: backup.name.to_string() });
        };
        // What a run that was killed left of it.
        self.remove_decrypted(backup).await?;
        let store = &self.hosts.store;
        self.check_room(backup).await?;
        let root = self.decrypted(backup).await?;
        let dir = root.join(backup.name.as_str());
        let tar = root.join("tar");
        for dir in [&root, &dir] {
            store.command("mkdir").args(["-m", "700", "--"]).arg(dir).run().await?;
        }
        // Without -p it asks, and reads the answer from its input when there is no terminal.
        store
            .command("pyAesCrypt")
            .arg("-d")
            .arg(self.plan.store_dir.join(backup.name.archive()))
            .arg("-o")
            .arg(&tar)
            .secret_stdin(with_line_end(password))
            .run()
            .await?;
        store.command("tar").arg("-C").arg(&dir).args(["--no-same-owner", "-xf"]).arg(&tar).run().await?;
        store.files().remove_file(&tar).await?;
        Ok(())
    }

    /// Where this recovery decrypts a backup: a directory of its own in the backup's folder, whose other entries may be
    /// anybody's. A recovery that is repeated finds it again by its name.
    async fn decrypted(&self, backup: &Backup) -> Result<PathBuf, Error> {
        // Several machines that see the store may all be called localhost. What one does not say is left out.
        let machine = self.job().command("cat").args(MACHINE).output().await?.stdout;
        let name = decrypted_name(&machine, self.job().name(), self.work);
        Ok(self.plan.store_dir.join(backup.name.as_str()).join(name))
    }

    pub(super) async fn remove_decrypted(&self, backup: &Backup) -> Result<(), Error> {
        let store = &self.hosts.store;
        store.command("rm").args(["-rf", "--"]).arg(self.decrypted(backup).await?).run().await?;
        Ok(())
    }

    /// The decrypted tar and what is in it lie in the store side by side.
    async fn check_room(&self, backup: &Backup) -> Result<(), Error> {
        let (store, path) = (&self.hosts.store, self.plan.store_dir.join(backup.name.as_str()));
        let (needed, free) = (backup.bytes.saturating_mul(2), store.files().free_bytes(&path).await?);
        if free < needed {
            return Err(Error::NoSpace { host: store.name().to_owned(), path, needed, free });
        }
        Ok(())
    }

    /// Removes what is decrypted in the store, however far that came and whoever goes on.
    pub(crate) async fn clean_store(&self) -> Result<(), Error> {
        for planned in self.plan.backups.iter().filter(|backup| backup.encrypted) {
            self.remove_decrypted(self.catalog.get(&planned.name)?).await?;
        }
        Ok(())
    }
}

/// The name of the directory for what a recovery in `work` on this machine decrypts.
fn decrypted_name(machine: &[u8], host: &str, work: &Path) -> String {
    let owner = [machine, host.as_bytes(), work.as_os_str().as_bytes()].join(&0);
    format!(".dbrecover-decrypted-{}", mark(owner))
}

fn with_line_end(password: &SecretString) -> SecretString {
    format!("{}\n", password.expose_secret()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_see_one_store_decrypt_side_by_side() {
        let name =
            |machine: &str, work: &str| decrypted_name(machine.as_bytes(), "localhost", Path::new(work));
        assert_eq!(name("a", "/w"), name("a", "/w"));
        assert_ne!(name("a", "/w"), name("b", "/w"));
        assert_ne!(name("a", "/w"), name("a", "/v"));
    }
}
