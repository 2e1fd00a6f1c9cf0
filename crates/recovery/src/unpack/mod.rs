//! From the store into the work directory: one pass by the worker, or the stock tools' steps.

mod by_stock_tools;
mod by_worker;
pub(crate) mod moved;

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use aescrypt::Decryptor;
use backup_catalog::layout::{CLEAR_FILES, STREAM};
use backup_catalog::{Backup, Catalog};
use remote_exec::Host;
use secrecy::SecretString;
use xtra_driver::Tool;

use crate::Error;
use crate::config::Config;
use crate::events::{Event, Watch};
use crate::hosts::Hosts;
use crate::journal::{Entry, Journal};
use crate::plan::{Plan, UsedFor};
use crate::report::Unpacked;
use crate::sender::Sender;
use crate::unpack::moved::Carrier;
use crate::workdir::pass_through;

/// Largest sample that is read, in bytes: 7 bytes are about 300 as an AES Crypt stream.
const MAX_SAMPLE: u64 = 64 * 1024;
/// Bytes at the head of an encrypted tar that hold its key block, and the short texts before it.
const KEY_BLOCK: u64 = 64 * 1024;
/// Largest file beside an encrypted tar that is read, in bytes.
const MAX_CLEAR_FILE: u64 = 16 << 20;

/// Everything that unpacking needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unpack<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) config: &'a Config,
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: &'a Plan,
    /// The xtrabackup or mariabackup program.
    pub(crate) prepare: &'a Tool,
    /// `WORK-DIR/.incomplete-NAME`.
    pub(crate) work: &'a Path,
    /// Its journal; `None` before there is one.
    pub(crate) journal: Option<&'a Journal>,
    pub(crate) password: Option<&'a SecretString>,
    pub(crate) sender: &'a Sender,
    pub(crate) watch: &'a Watch,
}

/// Tries the password on every encrypted backup of the plan, before anything is moved.
pub(crate) async fn check_password(unpack: Unpack<'_>) -> Result<(), Error> {
    for planned in unpack.plan.backups.iter().filter(|backup| backup.encrypted) {
        let backup = unpack.catalog.get(&planned.name)?;
        opens(&unpack.hosts.store, &unpack.plan.store_dir, backup, unpack.password).await?;
    }
    let decrypted = !unpack.plan.looked_into.is_empty();
    if unpack.password.is_some() && !decrypted && !unpack.plan.backups.iter().any(|backup| backup.encrypted) {
        unpack.watch.warning("the backups are not encrypted: the password is not used");
    }
    Ok(())
}

/// Tries the password on the sample of an encrypted backup, or on the key block of its tar where it has none. What the
/// sample holds is nobody's matter: its HMAC proves the password.
pub(crate) async fn opens(
    store: &Host,
    store_dir: &Path,
    backup: &Backup,
    password: Option<&SecretString>,
) -> Result<(), Error> {
    let name = || backup.name.to_string();
    let Some(password) = password else { return Err(Error::NeedPassword { backup: name() }) };
    let sample = store_dir.join(backup.name.sample());
    let opened = match store.files().read_if_there(&sample, MAX_SAMPLE).await? {
        Some(sample) => Decryptor::new(sample.as_slice(), password)
            .and_then(|mut sample| Ok(std::io::copy(&mut sample, &mut std::io::sink())?))
            .is_ok(),
        None => {
            let head = store.command("head").args(["-c", &KEY_BLOCK.to_string(), "--"]);
            let head = head.arg(store_dir.join(backup.name.archive())).run().await?;
            Decryptor::new(head.stdout.as_slice(), password).is_ok()
        }
    };
    if opened { Ok(()) } else { Err(Error::WrongPassword { backup: name() }) }
}

/// What is moved, checked and, where it did not arrive, sent again as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit<'a> {
    /// Everything in one: an encrypted tar is one stream.
    All,
    /// All but the servers' streams.
    Files,
    /// The stream of the server with this folder.
    Stream(&'a str),
}

impl<'a> Unit<'a> {
    /// The server's folder; empty for what is no server's.
    fn server(self) -> &'a str {
        match self {
            Self::Stream(folder) => folder,
            Self::All | Self::Files => "",
        }
    }

    /// The servers of `folders` whose streams are in it.
    fn streams<'s>(&'s self, folders: &'s [&'a str]) -> &'s [&'a str] {
        match self {
            Self::All => folders,
            Self::Files => &[],
            Self::Stream(folder) => std::slice::from_ref(folder),
        }
    }

    /// The step by which the journal knows it.
    fn step(self, backup: &str) -> String {
        match self {
            Self::Files => format!("unpack {backup}: files"),
            Self::All | Self::Stream(_) => format!("unpack {backup}"),
        }
    }
}

/// How far a backup is: what was moved of it before the unit that is moved now.
struct Moving<'a> {
    backup: &'a Backup,
    used_for: UsedFor,
    unit: Unit<'a>,
    before: u64,
}

impl Moving<'_> {
    /// Whether the servers' programs are taken from it. The full backup behind the stop time begins another chain.
    fn has_base(&self) -> bool {
        self.used_for == UsedFor::Full && !matches!(self.unit, Unit::Stream(_))
    }

    /// What is moved, for messages and logs.
    fn label(&self) -> String {
        match self.unit {
            Unit::Stream(folder) => format!("unpack {} {folder}", self.backup.name),
            Unit::All | Unit::Files => format!("unpack {}", self.backup.name),
        }
    }
}

impl<'a> Unpack<'a> {
    fn carrier(&self) -> Carrier<'a> {
        Carrier {
            hosts: self.hosts,
            config: self.config,
            dir: self.work,
            sender: self.sender,
            watch: self.watch,
        }
    }

    /// Puts one backup into the work directory: every server of `folders` to where its stream belongs.
    ///
    /// What an earlier run finished of it is there and stays, unless it is wanted `again`: then only the streams are.
    pub(crate) async fn backup(
        &self,
        index: usize,
        folders: &[&str],
        again: bool,
    ) -> Result<Unpacked, Error> {
        let planned = &self.plan.backups[index];
        let backup = self.catalog.get(&planned.name)?;
        let folders = if planned.used_for == UsedFor::Binlogs { &[] } else { folders };
        let begun = Instant::now();
        if backup.encrypted && self.plan.tools.worker.is_some() {
            // What the stock tools had decrypted when they were killed, before the user went on with a worker.
            if let Err(error) = self.remove_decrypted(backup).await {
                self.watch.warning(format!("what was decrypted in the store may be there still: {error}"));
            }
        }
        let whole = self.hosts.shared_store || (backup.encrypted && self.plan.tools.worker.is_some());
        let units: Vec<_> = match (whole, again) {
            (true, _) => vec![Unit::All],
            (false, true) => folders.iter().map(|folder| Unit::Stream(folder)).collect(),
            (false, false) => std::iter::once(Unit::Files)
                .chain(folders.iter().map(|folder| Unit::Stream(folder)))
                .collect(),
        };
        let mut decrypted = false;
        let mut all: Option<Unpacked> = None;
        for unit in units {
            let (server, step) = (unit.server(), unit.step(backup.name.as_str()));
            let earlier = self.journal.filter(|_| !again).and_then(|journal| journal.result(server, &step));
            let one = match earlier {
                Some(earlier) => serde_json::from_value(earlier.clone())
                    .map_err(|e| Error::Unexpected { what: "the journal".to_owned(), text: e.to_string() })?,
                None => {
                    let before = all.as_ref().map_or(0, |all| all.bytes_read);
                    let moving = Moving { backup, used_for: planned.used_for, unit, before };
                    self.make_room(&moving, folders).await?;
                    let one = match &self.plan.tools.worker {
                        Some(worker) => self.by_worker(worker, &moving, folders).await?,
                        None => {
                            if backup.encrypted && !std::mem::replace(&mut decrypted, true) {
                                self.decrypt(backup).await?;
                            }
                            self.by_stock_tools(&moving, folders).await?
                        }
                    };
                    if let Some(journal) = self.journal.filter(|_| unit != Unit::All) {
                        let entry = Entry::new(server, &step, serde_json::to_value(&one).ok());
                        journal.write(self.job(), self.work, entry).await?;
                    }
                    one
                }
            };
            match &mut all {
                Some(all) => all.add(one),
                None => all = Some(one),
            }
        }
        if decrypted {
            self.remove_decrypted(backup).await?;
        }
        let mut unpacked = all.unwrap_or_else(|| Unpacked::of(backup.name.as_str()));
        unpacked.seconds = begun.elapsed().as_secs_f64();
        Ok(unpacked)
    }

    /// Removes what a run that was cut off left of a unit; the tools overwrite nothing.
    async fn make_room(&self, moving: &Moving<'_>, folders: &[&str]) -> Result<(), Error> {
        let Moving { backup, used_for, unit, .. } = *moving;
        let target = |folder: &str| Plan::stream_target(self.work, &backup.name, folder);
        let mut old = Vec::new();
        let base = self.work.join("datanode_base");
        let streams = unit.streams(folders);
        if !matches!(unit, Unit::Stream(_)) {
            old.push(Plan::backup_dir(self.work, &backup.name));
        }
        old.extend(streams.iter().map(|folder| target(folder)));
        if used_for == UsedFor::Full {
            // The driver's notes on how far it had prepared what is unpacked anew.
            old.extend(streams.iter().map(|folder| crate::prepare::log_dir(self.work, folder)));
        }
        if moving.has_base() {
            old.push(base.clone());
        }
        self.job().command("rm").args(["-rf", "--"]).args(&old).run().await?;
        if moving.has_base() {
            self.job().files().create_dir_all(&base).await?;
            pass_through(self.job(), &[base]).await?;
        }
        Ok(())
    }

    fn job(&self) -> &remote_exec::Host {
        &self.hosts.job
    }

    /// The arguments of `tar` for a part of the backup that lies below `root`. The servers' streams are units of their own,
    /// or lie on the job server already. A backup's folder may be a link to where it is.
    fn tar_of(root: &Path, backup: &Backup, unit: Unit<'_>) -> Vec<OsString> {
        let mut tar: Vec<OsString> = vec!["-C".into(), root.into()];
        let stream = |folder: &str| format!("{}/{folder}/{STREAM}", backup.name);
        let mut what = OsString::from(format!("{}/.", backup.name));
        match unit {
            Unit::Stream(folder) => what = stream(folder).into(),
            Unit::Files | Unit::All => tar.push(format!("--exclude={}", stream("*")).into()),
        }
        tar.extend(["-cf".into(), "-".into(), "--".into(), what]);
        tar
    }

    /// Writes the files of an encrypted backup that lie beside its tar.
    async fn clear_files(&self, backup: &Backup) -> Result<(), Error> {
        let name = backup.name.as_str();
        for file in CLEAR_FILES {
            let path = self.plan.store_dir.join(name).join(file);
            if let Some(content) = self.hosts.store.files().read_if_there(&path, MAX_CLEAR_FILE).await? {
                self.job().files().write(self.work.join(name).join(file), content, 0o644).await?;
            }
        }
        Ok(())
    }

    /// The step is the whole backup's, whatever unit is on its way.
    fn progress(&self, moving: &Moving<'_>, done: u64) {
        let server = moving.unit.server();
        self.watch.event(&Event::Progress {
            server: String::new(),
            step: Unit::All.step(moving.backup.name.as_str()),
            done: moving.before + done,
            total: Some(moving.backup.bytes),
            unit: "bytes",
            note: (!server.is_empty()).then(|| server.to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use backup_catalog::DirStore;

    use super::*;

    const NAME: &str = "UTC20210205092650.735-full";
    const FOLDER: &str = "g-s-10.0.0.1-3306";

    fn encrypted(text: &[u8], password: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = aescrypt::Encryptor::new(&mut out, &password.into()).unwrap();
        std::io::Write::write_all(&mut writer, text).unwrap();
        writer.finish().unwrap();
        out
    }

    fn store(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Catalog) {
        let dir = tempfile::tempdir().unwrap();
        let described: [(&str, &[u8]); 3] = [
            ("ok", b"ok\n"),
            ("consistent_point_datetime", b"2021-02-05 17:27:01\n"),
            ("cluster_consistence_info", b""),
        ];
        for (path, content) in described.iter().chain(files) {
            let path = dir.path().join(NAME).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let catalog = Catalog::read(&DirStore::new(dir.path())).unwrap();
        (dir, catalog)
    }

    #[tokio::test]
    async fn a_password_is_tried_on_the_sample_or_on_the_tar_itself() {
        let tar = encrypted(&vec![7; 1 << 20], "right");
        let tar_path = format!("../encrypted/{NAME}.tar.encrypted");
        let sample = encrypted(b"whatever it holds", "right");
        for files in [&[(&*tar_path, &*tar)][..], &[(&*tar_path, &*tar), ("encrypted_sample", &*sample)]] {
            let (dir, catalog) = store(files);
            let backup = catalog.get(&NAME.parse().unwrap()).unwrap();
            assert!(backup.encrypted);
            for (password, opened) in [("right", true), ("wrong", false)] {
                let tried = opens(&Host::local(), dir.path(), backup, Some(&password.into())).await;
                match tried {
                    Ok(()) => assert!(opened),
                    Err(Error::WrongPassword { .. }) => assert!(!opened),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_backup_whose_folder_is_a_link_is_sent_and_not_the_link() {
        let stream = format!("{FOLDER}/{STREAM}");
        let (dir, catalog) = store(&[(&*stream, b"stream")]);
        fs::rename(dir.path().join(NAME), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join(NAME)).unwrap();
        let backup = catalog.get(&NAME.parse().unwrap()).unwrap();
        let sent = |unit| {
            let made = Host::local().command("tar").args(Unpack::tar_of(dir.path(), backup, unit));
            let listed = Host::local().command("tar").args(["-t"]);
            let pipeline = Host::local().pipeline(vec![made, listed]);
            async move { pipeline.run().await.unwrap().text() }
        };
        let files = sent(Unit::Files).await;
        assert!(files.contains("/ok") && !files.contains(STREAM), "{files}");
        assert_eq!(sent(Unit::Stream(FOLDER)).await, format!("{NAME}/{stream}"));
    }
}
