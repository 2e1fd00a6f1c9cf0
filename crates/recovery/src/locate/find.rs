//! Where binlogs are read: where they lie, or, out of encrypted backups, in a temporary directory of the job server.
//!
//! Of an encrypted backup only its lists are in clear, so it is decrypted as a whole to get at its binlogs; nothing else of
//! it is written. The newest ones are looked into first, and the others only as long as they can matter.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use backup_catalog::layout::{MASTER_DIR, STREAM};
use backup_catalog::{Backup, BackupName, BinlogName, Catalog, Master, Role, ServerChoice, with_binlogs};
use binlog_replay::replay::{SCHEMA_VERSION, TargetAt, WhereRequest, Whereabouts};
use remote_exec::Host;
use secrecy::SecretString;

use super::nowhere;
use crate::Error;
use crate::config::Config;
use crate::events::{Event, Watch};
use crate::facts::existing;
use crate::goal::{Goal, Wanted};
use crate::hosts::Hosts;
use crate::one_server::is_folder_name;
use crate::owned_dir::Scratch;
use crate::sender::Sender;
use crate::store::MAX_TEXT;
use crate::unpack::moved::{Carrier, Given, Parcel};
use crate::unpack::opens;
use crate::worker::{self, Tools, Worker, place};

/// The name of the temporary directory, as `mktemp` takes it.
const DIR: &str = ".dbrecover-binlogs-XXXXXXXXXX";
/// The name of a worker that is put into it.
const PUT_AS: &str = "dbrecover";

/// What it takes to look into the binlogs of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) config: &'a Config,
    pub(crate) hosts: &'a Hosts,
    pub(crate) catalog: &'a Catalog,
    pub(crate) tools: &'a Tools,
    pub(crate) password: Option<&'a SecretString>,
    /// The running `dbrecover` program.
    pub(crate) program: Option<&'a Path>,
    pub(crate) sender: &'a Sender,
    /// The temporary directory of the job server.
    pub(crate) scratch: &'a Scratch,
    pub(crate) watch: &'a Watch,
}

/// What was found, and where it was looked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) answer: BTreeMap<String, Whereabouts>,
    /// The encrypted backups that were decrypted for it, newest first.
    pub(super) decrypted: Vec<BackupName>,
    /// How many encrypted backups were not, as they cannot hold it.
    pub(super) passed_over: usize,
}

/// The binlogs of one group.
#[derive(Debug, Default)]
struct Binlogs {
    /// Folders where they are read, oldest backup first.
    folders: Vec<PathBuf>,
    /// Names and folders of its servers.
    servers: Vec<String>,
}

type ByGroup = BTreeMap<String, Binlogs>;

/// A `dbrecover` that reads binlogs, and its host.
struct Reader<'a> {
    host: &'a Host,
    worker: Worker,
}

impl Reader<'_> {
    async fn ask(&self, request: &WhereRequest) -> Result<BTreeMap<String, Whereabouts>, Error> {
        let json = serde_json::to_string(request)
            .map_err(|e| Error::Unexpected { what: "the request".to_owned(), text: e.to_string() })?;
        let command = self.worker.command(self.host, "replay").args(["--locate", "--request", "-"]);
        let doing = "looking for the target in the binlogs of the store";
        let said = worker::run(self.host, command.secret_stdin(json.into()), doing, |_| ()).await?;
        serde_json::from_slice(&said)
            .map_err(|e| Error::Unexpected { what: "the worker".to_owned(), text: e.to_string() })
    }
}

impl<'a> Look<'a> {
    pub(super) async fn find(&self, wanted: &Wanted) -> Result<Found, Error> {
        let Some(worker) = &self.tools.worker else { return Err(super::no_worker(self.hosts, self.tools)) };
        let position = position(&wanted.goal);
        let may_matter = |backup: &&Backup| {
            names_gtids(wanted) || position.as_ref().is_some_and(|position| position.may_be_in(backup))
        };
        let encrypted = || self.catalog.backups().filter(|backup| backup.encrypted);
        if !encrypted().any(|backup| may_matter(&backup))
            && let Some(reader) = self.at_the_store(worker).await?
        {
            let mut binlogs = ByGroup::new();
            for backup in self.catalog.backups().filter(|backup| !backup.encrypted) {
                add(&mut binlogs, self.plain(backup, &self.config.store_dir), false);
            }
            let found = Found { passed_over: encrypted().count(), ..Found::default() };
            return found.ask(&reader, wanted, binlogs).await;
        }
        self.gather(worker, wanted, position).await
    }

    /// A reader that sees the store: its own, or the job server's if that one does.
    async fn at_the_store(&self, worker: &Worker) -> Result<Option<Reader<'a>>, Error> {
        if self.hosts.shared_store {
            return self.on_the_job_server(worker).await.map(Some);
        }
        let path = self.sender.path(|why| self.watch.warning(why)).await?;
        Ok(path.map(|path| Reader { host: &self.hosts.store, worker: Worker { path, put: false } }))
    }

    async fn on_the_job_server(&self, worker: &Worker) -> Result<Reader<'a>, Error> {
        let host = &self.hosts.job;
        if !worker.put {
            return Ok(Reader { host, worker: worker.clone() });
        }
        let path = self.scratch().await?.join(PUT_AS);
        place(host, &path, self.program).await?;
        Ok(Reader { host, worker: Worker { path, put: false } })
    }

    /// The temporary directory, where the work directory is or will be.
    async fn scratch(&self) -> Result<PathBuf, Error> {
        let job = &self.hosts.job;
        let beside = existing(job, &self.config.work_dir).await?;
        self.scratch.path(job, &beside.join(DIR)).await
    }

    /// Brings the binlogs together where the job server reads them, newest backup first.
    async fn gather(
        &self,
        worker: &Worker,
        wanted: &Wanted,
        position: Option<AtPosition<'_>>,
    ) -> Result<Found, Error> {
        let reader = self.on_the_job_server(worker).await?;
        let (mut found, mut binlogs) = (Found::default(), ByGroup::new());
        let (mut newer, mut open, mut read) = (None, true, 0);
        for backup in self.catalog.backups().rev() {
            let follows = newer.replace(backup).is_some_and(|newer| is_followed_by(backup, newer));
            let by_gtid = names_gtids(wanted) && (open || !follows);
            if !by_gtid && !position.as_ref().is_some_and(|position| position.may_be_in(backup)) {
                found.passed_over += usize::from(backup.encrypted);
                continue;
            }
            let here = self.readable(&reader, backup).await?;
            if backup.encrypted {
                found.decrypted.push(backup.name.clone());
            }
            if names_gtids(wanted) {
                found.answer = reader.ask(&gtids_in(wanted, &here)).await?;
                let earlier = |group: &str| found.answer.get(group).is_none_or(|found| found.earlier);
                open = backup.groups().into_iter().any(earlier);
            }
            add(&mut binlogs, here, true);
            read += 1;
        }
        if read == 1 && position.is_none() {
            return Ok(found);
        }
        found.ask(&reader, wanted, binlogs).await
    }

    /// The binlogs of a backup, where the job server reads them.
    async fn readable(&self, reader: &Reader<'_>, backup: &Backup) -> Result<ByGroup, Error> {
        if !backup.encrypted && self.hosts.shared_store {
            return Ok(self.plain(backup, &self.config.store_dir));
        }
        if !backup.encrypted {
            let scratch = self.scratch().await?;
            let binlogs = self.plain(backup, &scratch);
            let folders: Vec<_> = binlogs.values().flat_map(|of| &of.folders).collect();
            if !folders.is_empty() {
                let mut tar: Vec<OsString> = vec!["-C".into(), self.config.store_dir.clone().into()];
                tar.push(format!("--exclude={}/*/{STREAM}", backup.name).into());
                tar.extend(["-cf", "-", "--"].map(OsString::from));
                tar.extend(
                    folders.iter().filter_map(|folder| folder.strip_prefix(&scratch).ok()).map(Into::into),
                );
                self.fetch(reader, backup, Given::Tar(tar)).await?;
            }
            return Ok(binlogs);
        }
        opens(&self.hosts.store, &self.config.store_dir, backup, self.password).await?;
        self.fetch(reader, backup, Given::File(self.config.store_dir.join(backup.name.archive()))).await?;
        let dir = self.scratch().await?.join(backup.name.as_str());
        let mut binlogs = ByGroup::new();
        for choice in with_binlogs(backup, &self.config.without_groups) {
            let folder = self.master_of(&dir, &choice).await?;
            if self.holds_binlogs(&dir.join(&folder)).await? {
                of_choice(&mut binlogs, &choice, &folder, &dir);
            }
        }
        Ok(binlogs)
    }

    /// Has the binlogs of a backup written into the temporary directory.
    async fn fetch(&self, reader: &Reader<'_>, backup: &Backup, given: Given) -> Result<(), Error> {
        let (job, scratch, name) = (&self.hosts.job, self.scratch().await?, &backup.name);
        job.files().create_dir_all(scratch.join("tmp")).await?;
        let step = format!("read the binlogs of {name}");
        let total = if backup.encrypted { backup.tar_bytes } else { None };
        let progress = |done| {
            let (server, step) = (String::new(), step.clone());
            self.watch.event(&Event::Progress { server, step, done, total, unit: "bytes", note: None });
        };
        let mut command = reader.worker.command(job, "unpack").arg("--work-dir").arg(&scratch);
        command = command.args(["--backup", name.as_str(), "--only-binlogs", "--no-sync"]);
        command = command.args(["--json", "--progress", "json"]);
        command = command.args(["--format", if backup.encrypted { "aes" } else { "tar" }]);
        if let Some(password) = self.password.filter(|_| backup.encrypted) {
            command = command.secret_env("DBRECOVER_PASSWORD", password.clone());
        }
        let moving = async {
            match given {
                Given::File(path) if self.hosts.shared_store => {
                    let progress = |value: serde_json::Value| {
                        worker::bytes_read(&value).into_iter().for_each(&progress);
                    };
                    worker::run(job, command.arg("--from").arg(path), &step, progress).await.map(drop)
                }
                given => {
                    let carrier = Carrier {
                        hosts: self.hosts,
                        config: self.config,
                        dir: &scratch,
                        sender: self.sender,
                        watch: self.watch,
                    };
                    let parcel = Parcel { label: step.clone(), progress: &progress };
                    carrier.sent(&given, command.args(["--sealed", "--from", "-"]), &parcel).await.map(drop)
                }
            }
        };
        self.watch.step("", &step, moving).await.map(drop)
    }

    /// The folder with the binlogs of a server, as its own folder in a decrypted backup says.
    async fn master_of(&self, dir: &Path, choice: &ServerChoice) -> Result<String, Error> {
        let path = dir.join(&choice.folder).join(MASTER_DIR);
        let said = self.hosts.job.files().read_if_there(path, MAX_TEXT).await?;
        let master = said.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        // What is wrong with it is told when the backup is recovered from.
        Ok(master.filter(|master| is_folder_name(master)).unwrap_or_else(|| choice.folder.clone()))
    }

    async fn holds_binlogs(&self, folder: &Path) -> Result<bool, Error> {
        if !self.hosts.job.files().exists(folder).await? {
            return Ok(false);
        }
        let entries = self.hosts.job.files().list(folder).await?;
        Ok(entries.iter().any(|entry| BinlogName::parse(&entry.name.to_string_lossy()).is_some()))
    }

    /// The binlogs of a backup that is not encrypted, as they lie below `base`.
    fn plain(&self, backup: &Backup, base: &Path) -> ByGroup {
        let dir = base.join(backup.name.as_str());
        let mut binlogs = ByGroup::new();
        for choice in with_binlogs(backup, &self.config.without_groups) {
            let folder = match &choice.master {
                Master::Own => &choice.folder,
                Master::Folder(folder) => folder,
                Master::InMasterDir => continue,
            };
            if backup.server(folder).is_some_and(|server| !server.binlogs.is_empty()) {
                of_choice(&mut binlogs, &choice, folder, &dir);
            }
        }
        binlogs
    }
}

impl Found {
    /// Looks for all that is wanted in all of these binlogs.
    async fn ask(
        mut self,
        reader: &Reader<'_>,
        wanted: &Wanted,
        mut binlogs: ByGroup,
    ) -> Result<Self, Error> {
        if binlogs.is_empty() {
            return Err(nowhere("the target", self.passed_over));
        }
        if let Goal::Position { server: Some(server), .. } = &wanted.goal {
            binlogs.retain(|group, of| group == server || of.servers.contains(server));
            if binlogs.is_empty() {
                return Err(nowhere(&format!("the server {server}"), self.passed_over));
            }
        }
        self.answer = reader.ask(&request(wanted, wanted.goal.in_binlogs(), &binlogs)).await?;
        Ok(self)
    }
}

fn request(wanted: &Wanted, target: Option<TargetAt>, binlogs: &ByGroup) -> WhereRequest {
    WhereRequest {
        schema_version: SCHEMA_VERSION,
        binlogs: binlogs.iter().map(|(group, of)| (group.clone(), of.folders.clone())).collect(),
        target,
        skip: wanted.skip.clone(),
    }
}

/// A position may be behind the end of a copy that an earlier backup has of its file.
fn gtids_in(wanted: &Wanted, binlogs: &ByGroup) -> WhereRequest {
    let target = wanted.goal.in_binlogs().filter(|target| !matches!(target, TargetAt::Position(_)));
    request(wanted, target, binlogs)
}

fn of_choice(binlogs: &mut ByGroup, choice: &ServerChoice, folder: &str, dir: &Path) {
    let of = binlogs.entry(choice.group.clone()).or_default();
    of.servers.extend([choice.server.clone(), choice.folder.clone(), folder.to_owned()]);
    of.folders.push(dir.join(folder));
}

/// Adds the binlogs of another backup, which is older than all others or newer.
fn add(binlogs: &mut ByGroup, other: ByGroup, older: bool) {
    for (group, mut of) in other {
        let known = binlogs.entry(group).or_default();
        known.servers.append(&mut of.servers);
        let at = if older { 0 } else { known.folders.len() };
        known.folders.splice(at..at, of.folders);
    }
}

/// Whether GTIDs are looked for.
fn names_gtids(wanted: &Wanted) -> bool {
    wanted.skip.is_some() || matches!(wanted.goal, Goal::Gtid { .. })
}

/// A position, as a user names it.
struct AtPosition<'a> {
    server: Option<&'a str>,
    file: &'a str,
}

fn position(goal: &Goal) -> Option<AtPosition<'_>> {
    match goal {
        Goal::Position { server, position } => {
            let file = position.rsplit_once(':').map_or(position.as_str(), |(file, _)| file);
            Some(AtPosition { server: server.as_deref(), file })
        }
        _ => None,
    }
}

impl AtPosition<'_> {
    /// Whether a backup may have the file, or the one behind it, in which the transaction may be that follows the position.
    fn may_be_in(&self, backup: &Backup) -> bool {
        let named = |name: &str| self.server.is_some_and(|server| server == name);
        let masters = backup.consistence.iter().filter(|line| line.role() == Role::Master);
        let of_name =
            masters.filter(|line| named(&line.group) || named(&line.server) || named(&line.folder()));
        let of_name: Vec<_> = of_name.map(|line| line.server.as_str()).collect();
        let lists = backup.binlogs.iter();
        let mut lists =
            lists.filter(|list| of_name.is_empty() || of_name.contains(&list.server.as_str())).peekable();
        lists.peek().is_none() || lists.any(|list| list.files.iter().any(|file| self.is(file)))
    }

    fn is(&self, file: &str) -> bool {
        let next = BinlogName::parse(self.file).and_then(|wanted| wanted.next());
        file == self.file || next.is_some_and(|next| Some(next) == BinlogName::parse(file))
    }
}

/// The first and the last one of binlogs, whatever their order is.
fn ends(files: &[String]) -> Option<[BinlogName<'_>; 2]> {
    let names = files.iter().map(|name| BinlogName::parse(name)).collect::<Option<Vec<_>>>()?;
    Some([*names.iter().min()?, *names.iter().max()?])
}

/// Whether the binlogs of `newer` go on, for every server, where those of this backup come from: the same servers, and no
/// number that was begun anew. What `newer` says of the time before it is then said of this one.
fn is_followed_by(backup: &Backup, newer: &Backup) -> bool {
    let same_servers = backup.consistence.iter().all(|line| {
        newer.consistence.iter().any(|other| other.group == line.group && other.folder() == line.folder())
    });
    let goes_on = |earlier: &[String], later: &[String]| {
        ends(earlier).zip(ends(later)).is_some_and(|(earlier, later)| {
            (0..2).all(|end| earlier[end].same_log(&later[end]) && earlier[end] <= later[end])
        })
    };
    same_servers
        && !backup.binlogs.is_empty()
        && backup
            .binlogs
            .iter()
            .all(|list| list.files.is_empty() || goes_on(&list.files, newer.binlogs_of(&list.server)))
}

#[cfg(test)]
mod tests {
    use backup_catalog::{EntryKind, Selection, Snapshot};
    use binlog_replay::Position;

    use super::*;
    use crate::locate::{AtTarget, Located};

    /// Two encrypted backups of the servers `s` and `t`, each with these binlogs.
    fn catalog(binlogs: [&str; 2], folder_of_s: [&str; 2]) -> Catalog {
        let mut snapshot = Snapshot::default();
        let names = ["UTC20260203000000.000-full", "UTC20260204000000.000-inc"];
        for (at, name) in names.into_iter().enumerate() {
            let line = |server: &str, ip: &str, group: &str| {
                format!(
                    "{ip}:3306\t{server}\tb.000001\t400\tbelong-to-datasource={group}\txb-to-lsn=1\t\
                     xb-to-binlog-name=b.000001\txb-to-binlog-pos=300\n"
                )
            };
            let lines = line("s", folder_of_s[at], "g") + &line("t", "10.0.0.9", "h");
            for (file, content) in [
                ("ok", "ok\n"),
                ("consistent_point_datetime", "2026-02-03 00:00:00\n"),
                ("cluster_consistence_info", &*lines),
                ("backuped_binlogs", binlogs[at]),
                ("encrypted_sample", "x"),
            ] {
                let path = format!("{name}/{file}");
                snapshot.entry(&path, EntryKind::File, content.len() as u64);
                snapshot.content(&path, content.as_bytes());
            }
            snapshot.entry(&format!("encrypted/{name}.tar.encrypted"), EntryKind::File, 9);
        }
        Catalog::read(&snapshot).unwrap()
    }

    fn followed(older: &str, newer: &str, folders: [&str; 2]) -> bool {
        let catalog = catalog([older, newer], folders);
        let backups: Vec<_> = catalog.backups().collect();
        is_followed_by(backups[0], backups[1])
    }

    #[test]
    fn binlogs_go_on_where_servers_and_numbers_do() {
        let same = ["10.0.0.1", "10.0.0.1"];
        let (old, new) = ("s:b.000002 b.000004\nt:b.000007\n", "s:b.000004 b.000005\nt:b.000007\n");
        assert!(followed(old, new, same));
        // Whatever their order in the list is.
        assert!(followed("s:b.1000000 b.999999\n", "s:b.1000000 b.1000001\n", same));
        assert!(!followed("s:b.1000000 b.999999\n", "s:b.999999 b.000001\n", same));
        // Nothing between two chains.
        assert!(followed(old, "s:b.000009\nt:b.000008\n", same));
        // Begun anew, another name, not there, not said, another machine.
        assert!(!followed(old, "s:b.000001 b.000005\nt:b.000007\n", same));
        assert!(!followed(old, "s:c.000004 c.000005\nt:b.000007\n", same));
        assert!(!followed(old, "s:b.000004 b.000005\n", same));
        assert!(!followed("", new, same));
        assert!(!followed(old, new, ["10.0.0.1", "10.0.0.2"]));
    }

    #[test]
    fn positions_of_two_masters_are_not_compared() {
        let stop = Position::new("b.000003", 500);
        let at = AtTarget { target: TargetAt::UntilGtid("0-1-5".to_owned()), stop };
        let located = Located { groups: [("g".to_owned(), at)].into(), ..Located::default() };
        for (folders, expected) in [(["10.0.0.1", "10.0.0.2"], true), (["10.0.0.1"; 2], false)] {
            let catalog = catalog([""; 2], folders);
            let mut names = catalog.backups().map(|backup| backup.name.clone());
            let chain = names.next().into_iter().collect();
            let selection = Selection { chain, next: names.next(), stop: None, doubts: Vec::new() };
            assert_eq!(located.is_in(&catalog, &selection), expected, "{folders:?}");
        }
    }

    #[test]
    fn position_may_be_in_what_lists_its_file_or_the_one_behind_it() {
        let catalog = catalog(
            ["s:b.000002 b.000003\nt:b.000007\n", "s:b.000003 b.000005\nt:b.000007\n"],
            ["10.0.0.1"; 2],
        );
        let first = catalog.backups().next().unwrap();
        let may_be = |server, file| AtPosition { server, file }.may_be_in(first);
        assert!(may_be(None, "b.000003") && may_be(None, "b.000001") && may_be(None, "b.000007"));
        assert!(!may_be(None, "b.000004") && !may_be(None, "c.000003"));
        // Of a server only its own list counts.
        for server in ["s", "g", "g-s-10.0.0.1-3306"] {
            assert!(may_be(Some(server), "b.000002") && !may_be(Some(server), "b.000007"), "{server}");
        }
        // Whose binlogs a replica replays, only the archive says.
        assert!(may_be(Some("replica"), "b.000007"));
    }
}
