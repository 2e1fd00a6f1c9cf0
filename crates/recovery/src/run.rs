//! A recovery from its first look at the store to its report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use backup_catalog::dbscale::{Account, Accounts};
use backup_catalog::{Catalog, Master};
use chrono::{Local, SecondsFormat};
use futures_util::stream::{StreamExt, TryStreamExt};
use remote_exec::Host;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, RecoverTo};
use crate::ds_info;
use crate::events::{Observer, Watch};
use crate::hosts::Hosts;
use crate::journal::{DONE, Journal, REPLAY_BEGUN};
use crate::locate::locate;
use crate::plan::{self, Facts, Finished, Plan, PlannedServer, UsedFor, Wanted};
use crate::prepare;
use crate::replay::Replay;
use crate::report::{Again, RecoveredServer, Report, StepTime, Unpacked};
use crate::server::{BaseDir, Launch, Network, RunDirs, TemporaryServer, free_port};
use crate::server_options;
use crate::store::read_catalog;
use crate::unpack::{Unpack, check_password};
use crate::workdir::{Earlier, WorkDir};
use crate::worker::Tools;
use crate::{Error, SCHEMA_VERSION};

/// Name of the report in the work directory.
pub(crate) const REPORT: &str = "recovery-report.json";
/// Largest text file of a backup that is read, in bytes: GTID sets of old clusters can be long.
const MAX_TEXT: u64 = 64 << 20;

/// A recovery that somebody asks for.
#[derive(Clone)]
pub struct Request {
    /// The configuration.
    pub config: Config,
    /// Where to recover to, in place of what the configuration says.
    pub recover_to: Option<RecoverTo>,
    /// GTIDs to leave out, in place of what the configuration says.
    pub skip_gtid: Option<String>,
    /// The password of encrypted backups.
    pub password: Option<SecretString>,
    /// The running `dbrecover` program, which can be its own worker; `None` in another program.
    pub program: Option<PathBuf>,
    /// What to do with what an earlier, cut-off recovery left.
    pub earlier: Earlier,
    /// Leave even an incomplete newest backup where it is.
    pub read_only_store: bool,
    /// Cancels the recovery; it then ends what it started.
    pub cancel: CancellationToken,
    observer: Arc<dyn Observer>,
}

impl Request {
    /// A recovery as the configuration says it.
    pub fn new(config: Config, observer: Arc<dyn Observer>) -> Self {
        Self {
            config,
            recover_to: None,
            skip_gtid: None,
            password: None,
            program: None,
            earlier: Earlier::Replace,
            read_only_store: false,
            cancel: CancellationToken::new(),
            observer,
        }
    }

    fn wanted(&self) -> Result<Wanted, Error> {
        Wanted::read(&self.config, self.recover_to.as_ref(), self.skip_gtid.as_deref())
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("recover_to", &self.recover_to).finish_non_exhaustive()
    }
}

/// Decides everything and touches nothing.
///
/// # Errors
///
/// Whatever [`plan::make`] refuses, and hosts or tools that cannot be used.
pub async fn plan(request: &Request) -> Result<Plan, Error> {
    // What cannot be understood is refused before anybody is called.
    request.wanted()?;
    let watch = Watch::new(request.observer.clone());
    let hosts = Hosts::connect(&request.config).await?;
    let looked = look(request, &hosts, &watch).await;
    hosts.close().await;
    Ok(looked?.2)
}

async fn look(request: &Request, hosts: &Hosts, watch: &Watch) -> Result<(Catalog, Facts, Plan), Error> {
    let config = &request.config;
    let (catalog, _) =
        watch.step("", "read the catalog", read_catalog(&hosts.store, &config.store_dir)).await?;
    let wanted = request.wanted()?;
    let mut facts = facts(request, hosts, &wanted.name).await?;
    if wanted.needs_binlogs() {
        let looking = locate(config, hosts, &catalog, &wanted, request.program.as_deref());
        facts.located = Some(watch.step("", "look for the target in the binlogs", looking).await?.0);
    }
    let mut plan = plan::make(&catalog, config, &wanted, hosts, &facts)?;
    if request.read_only_store {
        plan.to_trash = None;
    }
    for warning in &plan.warnings {
        watch.warning(warning.clone());
    }
    Ok((catalog, facts, plan))
}

async fn facts(request: &Request, hosts: &Hosts, name: &str) -> Result<Facts, Error> {
    let config = &request.config;
    let job = &hosts.job;
    let work = WorkDir::incomplete(&config.work_dir, name);
    let cores = job.command("nproc").output().await?;
    Ok(Facts {
        prepare: prepare::detect(config, job).await?,
        tools: Tools::find(config, hosts, &work, request.program.as_deref()).await?,
        free: free_bytes(job, &config.work_dir).await?,
        cores: String::from_utf8_lossy(&cores.stdout).trim().parse().unwrap_or(1),
        mysqld_user: mysqld_user(config, job).await?,
        located: None,
        extends: Finished::find(job, &config.work_dir, name, &request.earlier).await?,
    })
}

/// Bytes free where `dir` is, or will be made.
async fn free_bytes(host: &Host, dir: &Path) -> Result<u64, Error> {
    let mut dir = dir;
    while !host.files().exists(dir).await? {
        match dir.parent() {
            Some(parent) => dir = parent,
            None => break,
        }
    }
    Ok(host.files().free_bytes(dir).await?)
}

/// The user of the temporary servers. They never run as root.
async fn mysqld_user(config: &Config, job: &Host) -> Result<Option<String>, Error> {
    let login = job.command("id").arg("-u").run().await?;
    let is_root = String::from_utf8_lossy(&login.stdout).trim() == "0";
    let refuse = |reason: String| Error::Config {
        place: "configuration".to_owned(),
        section: "misc",
        key: "mysqld-user",
        reason,
    };
    let user = config.misc.mysqld_user.as_deref();
    if !is_root {
        let name = job.command("id").arg("-un").run().await?;
        let name = String::from_utf8_lossy(&name.stdout).trim().to_owned();
        return match user {
            Some(user) if user != name => {
                Err(refuse(format!("{} logs in as {name}, which cannot start servers as {user}", job.name())))
            }
            _ => Ok(None),
        };
    }
    let user = user.unwrap_or("mysql");
    if user == "root" {
        return Err(refuse("must not be root".to_owned()));
    }
    if !job.command("id").arg("-u").arg("--").arg(user).output().await?.status.success() {
        return Err(refuse(format!("{} has no user {user}, and servers are not run as root", job.name())));
    }
    Ok(Some(user.to_owned()))
}

/// Recovers the cluster and proves it.
///
/// When this returns, nothing that it started is left running (but servers of `for-testing`), and a recovery that
/// failed lies under a name that says so.
///
/// # Errors
///
/// See [`Error::class`] for who can mend what.
pub async fn recover(request: &Request) -> Result<Report, Error> {
    request.wanted()?;
    let watch = Watch::new(request.observer.clone());
    let hosts = unless_cancelled(&request.cancel, Hosts::connect(&request.config)).await?;
    let result = async {
        let looked = unless_cancelled(&request.cancel, look(request, &hosts, &watch)).await;
        let (catalog, facts, plan) = &looked?;
        let run_dirs = &RunDirs::default();
        Recovery { request, hosts: &hosts, catalog, facts, plan, watch: &watch, run_dirs }.run().await
    };
    let result = result.await;
    hosts.close().await;
    result
}

async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Err(Error::Cancelled),
    }
}

/// One recovery while it runs.
#[derive(Clone, Copy)]
struct Recovery<'a> {
    request: &'a Request,
    hosts: &'a Hosts,
    catalog: &'a Catalog,
    facts: &'a Facts,
    plan: &'a Plan,
    watch: &'a Watch,
    run_dirs: &'a RunDirs,
}

impl Recovery<'_> {
    async fn run(&self) -> Result<Report, Error> {
        let (started, begun) = (now(), Instant::now());
        let config = &self.request.config;
        // The password is tried before anything is touched.
        let outside = self.unpack(Path::new(""), None);
        unless_cancelled(&self.request.cancel, check_password(outside)).await?;
        self.move_to_trash().await?;
        let work =
            WorkDir::open(&self.hosts.job, &config.work_dir, &self.plan.name, &self.request.earlier).await?;
        let done = unless_cancelled(&self.request.cancel, self.act(&work)).await;
        let (unpacked, mut servers) = match done {
            Ok(done) => done,
            Err(error) => {
                // Also when cancelled: here nothing is dropped half-way any more.
                if let Err(left) = self.unpack(work.path(), Some(work.journal())).clean_store().await {
                    self.watch.warning(format!("what was decrypted in the store may be there still: {left}"));
                }
                self.run_dirs.remove_all(&self.hosts.job).await;
                work.abandon().await;
                return Err(error);
            }
        };
        for server in &mut servers {
            server.datadir = work.done_path().join("datadir").join(&server.folder);
        }
        let in_place: u64 = unpacked.iter().map(unpacked_bytes).sum();
        let written: u64 = unpacked.iter().map(written_bytes).sum();
        let mut report = Report {
            schema_version: SCHEMA_VERSION,
            made_by: format!("dbrecover {}", env!("CARGO_PKG_VERSION")),
            started,
            finished: now(),
            seconds: begun.elapsed().as_secs_f64(),
            plan: self.plan.clone(),
            work_dir: work.done_path().to_owned(),
            unpacked,
            servers,
            written_per_byte: (in_place > 0 && written > 0).then(|| written as f64 / in_place as f64),
        };
        self.write_report(work.path(), &report).await?;
        let done = work.finish().await?;
        if self.plan.for_testing {
            self.leave_running(&done, &mut report).await?;
            self.write_report(&done, &report).await?;
        }
        Ok(report)
    }

    async fn write_report(&self, dir: &Path, report: &Report) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(report)
            .map_err(|e| Error::Unexpected { what: "the report".to_owned(), text: e.to_string() })?;
        Ok(self.hosts.job.files().write(dir.join(REPORT), json, 0o644).await?)
    }

    fn unpack<'a>(&'a self, work: &'a Path, journal: Option<&'a Journal>) -> Unpack<'a> {
        Unpack {
            hosts: self.hosts,
            config: &self.request.config,
            catalog: self.catalog,
            plan: self.plan,
            prepare: &self.facts.prepare,
            work,
            journal,
            password: self.request.password.as_ref(),
            watch: self.watch,
        }
    }

    /// The one thing that a recovery changes in the store.
    async fn move_to_trash(&self) -> Result<(), Error> {
        let Some(name) = &self.plan.to_trash else { return Ok(()) };
        let (store, dir) = (&self.hosts.store, &self.plan.store_dir);
        let trash = dir.join("trash");
        store.files().create_dir_all(&trash).await?;
        store.files().rename(dir.join(name.as_str()), trash.join(name.as_str())).await?;
        let tar = format!("{name}.tar.encrypted");
        let encrypted = dir.join("encrypted").join(&tar);
        if store.files().exists(&encrypted).await? {
            store.files().rename(encrypted, trash.join(tar)).await?;
        }
        self.watch.warning(format!("backup {name} is not complete; it was moved to {}", trash.display()));
        Ok(())
    }

    async fn act(&self, work: &WorkDir) -> Result<(Vec<Unpacked>, Vec<RecoveredServer>), Error> {
        // A recovery that begins anew begins in an empty directory.
        if !matches!(self.request.earlier, Earlier::Replace) {
            self.run_dirs.remove_earlier(&self.hosts.job, &work.path().join("tmp")).await?;
        }
        let unpacked = self.unpack_all(work).await?;
        let base = BaseDir::detect(
            &self.hosts.job,
            &work.path().join("datanode_base"),
            &self.request.config.misc.client_name,
        )
        .await?;
        self.watch.debug(format!("base directory {} is {}", base.path.display(), base.version));
        self.calcnode_base(work).await?;
        let jobs = self.plan.servers.iter().enumerate();
        let servers: Vec<_> = futures_util::stream::iter(jobs)
            .map(|(index, server)| ServerRun { recovery: *self, work, base: &base, index, server }.run())
            .buffered(self.plan.parallel)
            .try_collect()
            .await?;
        self.ds_info(work, &servers).await?;
        Ok((unpacked, servers.into_iter().map(|(server, _)| server).collect()))
    }

    async fn unpack_all(&self, work: &WorkDir) -> Result<Vec<Unpacked>, Error> {
        let unpack = self.unpack(work.path(), Some(work.journal()));
        let folders: Vec<_> = self.plan.servers.iter().map(|s| s.folder.as_str()).collect();
        if let Some(worker) = &self.plan.tools.worker {
            worker.put(&self.hosts.job, self.request.program.as_deref()).await?;
        }
        let mut unpacked = Vec::new();
        for (index, planned) in self.plan.backups.iter().enumerate() {
            let step = format!("unpack {}", planned.name);
            // Servers whose incrementals were begun need their streams again.
            let again: Vec<_> = folders.iter().copied().filter(|f| half_prepared(work, f)).collect();
            let before = work.journal().is_finished("", &step);
            let folders = match (before, again.is_empty()) {
                (true, true) => continue,
                (true, false) if planned.used_for == UsedFor::Binlogs => continue,
                (true, false) => &again,
                (false, _) => &folders,
            };
            let (one, _) = self.watch.step("", &step, unpack.backup(index, folders, before)).await?;
            unpacked.push(one);
            work.record("", &step).await?;
        }
        unpack.clean_store().await?;
        Ok(unpacked)
    }

    /// The proxy's files: of the first backup, and over them those of the last.
    async fn calcnode_base(&self, work: &WorkDir) -> Result<(), Error> {
        let chain = &self.plan.selection.chain;
        let mut names = vec![&chain[0]];
        names.extend(chain.last().filter(|last| **last != chain[0]));
        for name in names {
            let from = Plan::backup_dir(work.path(), name).join("calcnode_base");
            if self.hosts.job.files().exists(&from).await? {
                self.hosts.job.command("cp").args(["-a", "--"]).arg(&from).arg(work.path()).run().await?;
            }
        }
        Ok(())
    }

    /// The account of a server: of the last backup that names it.
    async fn account(&self, work: &WorkDir, server: &str) -> Result<Account, Error> {
        let mut missing = None;
        for name in self.plan.selection.chain.iter().rev() {
            let path = Plan::backup_dir(work.path(), name).join("calcnode_base/dbscale.conf");
            let text = match self.hosts.job.files().read(&path, MAX_TEXT).await {
                Ok(text) => text,
                Err(error) if error.is_missing_file() => continue,
                Err(error) => return Err(error.into()),
            };
            match Accounts::parse(format!("{name}/calcnode_base/dbscale.conf"), &text)?.get(server) {
                Ok(account) => return Ok(account.clone()),
                Err(error) => missing = Some(error),
            }
        }
        Err(missing.map_or_else(
            || Error::Incomplete { what: "no backup of the chain has calcnode_base/dbscale.conf".to_owned() },
            Into::into,
        ))
    }

    async fn ds_info(
        &self,
        work: &WorkDir,
        servers: &[(RecoveredServer, Option<String>)],
    ) -> Result<(), Error> {
        let Some(stop) = &self.plan.stop else { return Ok(()) };
        let time = if self.plan.for_testing { stop.text.clone() } else { String::new() };
        let lines: Vec<_> = servers
            .iter()
            .filter_map(|(server, first)| {
                let binlogs_of = first.as_deref()?;
                let path = Plan::backup_dir(work.done_path(), self.plan.last()).join(binlogs_of);
                Some(ds_info::Line {
                    group: server.group.clone(),
                    time: time.clone(),
                    first_binlog: path.display().to_string(),
                })
            })
            .collect();
        ds_info::write(&self.hosts.job, &self.request.config.misc.ds_info_dir, &self.plan.name, &lines).await
    }

    /// Starts the finished servers again, to be left running for a test.
    async fn leave_running(&self, done: &Path, report: &mut Report) -> Result<(), Error> {
        let misc = &self.request.config.misc;
        let host = &self.hosts.job;
        let base = BaseDir::detect(host, &done.join("datanode_base"), &misc.client_name).await?;
        let mut port = misc.server_tmp_port;
        for server in &mut report.servers {
            let Some(again) = &server.again else { continue };
            port = free_port(host, port).await?;
            let socket = PathBuf::from(format!("/tmp/{}.sock", server.folder));
            let launch = Launch {
                host,
                base: &base,
                folder: &server.folder,
                datadir: &server.datadir,
                tmp_dir: &done.join("tmp"),
                options: again.options.clone(),
                user: self.plan.mysqld_user.as_deref(),
                account: &again.account,
                network: Network::Loopback(port),
                server_id: again.server_id,
                run_dirs: self.run_dirs,
            };
            launch.start_detached(&socket).await?;
            (server.port, server.socket) = (Some(port), Some(socket));
            port = port.saturating_add(1);
        }
        Ok(())
    }
}

/// The bytes that an unpacked backup takes: servers' files, base directory, everything else.
fn unpacked_bytes(unpacked: &Unpacked) -> u64 {
    let details = &unpacked.details;
    let bytes =
        |value: &serde_json::Value| value.get("bytes").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let servers = details.get("servers").and_then(serde_json::Value::as_object);
    let servers: u64 = servers.map_or(0, |servers| servers.values().map(bytes).sum());
    servers + ["base", "small_files"].iter().filter_map(|part| details.get(*part)).map(bytes).sum::<u64>()
}

/// The bytes that the worker wrote, by its own I/O accounting.
fn written_bytes(unpacked: &Unpacked) -> u64 {
    let io = unpacked.details.get("process_io").and_then(|io| io.get("written_chars"));
    io.and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn now() -> String {
    Local::now().to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// Whether an earlier run was cut off while it laid incrementals over a datadir: that cannot be done twice.
fn half_prepared(work: &WorkDir, folder: &str) -> bool {
    work.journal().is_finished(folder, "prepare begun") && !work.journal().is_finished(folder, "prepare")
}

/// One server of a recovery while it runs.
struct ServerRun<'a> {
    recovery: Recovery<'a>,
    work: &'a WorkDir,
    base: &'a BaseDir,
    index: usize,
    server: &'a PlannedServer,
}

impl ServerRun<'_> {
    fn host(&self) -> &Host {
        &self.recovery.hosts.job
    }

    fn datadir(&self) -> PathBuf {
        self.work.path().join("datadir").join(&self.server.folder)
    }

    fn server_dir(&self) -> PathBuf {
        Plan::backup_dir(self.work.path(), self.recovery.plan.last()).join(&self.server.folder)
    }

    async fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.host().files().read(self.server_dir().join(name), MAX_TEXT).await {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).trim().to_owned())),
            Err(error) if error.is_missing_file() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder whose binlogs are replayed, checked against what the backup itself says.
    async fn binlogs_of(&self) -> Result<String, Error> {
        let said = self.text("master_dir").await?;
        let unlike = |planned: &str, found: &str| Error::Incomplete {
            what: format!(
                "{}: planned as a backup of {planned}, but its folder says {found}",
                self.server.folder
            ),
        };
        match (&self.server.choice.master, said) {
            (Master::Own, None) => Ok(self.server.folder.clone()),
            (Master::Own, Some(master)) => Err(unlike("a master", &format!("its master is {master}"))),
            (Master::Folder(planned), Some(master)) if *planned != master => Err(unlike(planned, &master)),
            (Master::Folder(planned), _) => Ok(planned.clone()),
            (Master::InMasterDir, Some(master)) => Ok(master),
            (Master::InMasterDir, None) => Err(unlike("a replica", "nothing of a master")),
        }
    }

    /// `executed_gtids`: it must be there. It may be empty for a master, whose replay starts where its backup
    /// ends; a replica's starts before that, and only GTIDs say what not to apply twice.
    async fn executed(&self) -> Result<String, Error> {
        let file = format!("{}/executed_gtids", self.server.folder);
        let incomplete = |what: String| Error::Incomplete { what };
        let backup = self.recovery.plan.last();
        match self.text("executed_gtids").await? {
            None => Err(incomplete(format!("backup {backup} has no {file}"))),
            Some(text) if text.is_empty() && !matches!(self.server.choice.master, Master::Own) => {
                Err(incomplete(format!(
                    "{file} of backup {backup} is empty: the binlogs of a replica's master start before its \
                     backup, and without GTIDs transactions would be applied twice"
                )))
            }
            Some(text) => Ok(text),
        }
    }

    async fn run(self) -> Result<(RecoveredServer, Option<String>), Error> {
        let (plan, watch) = (self.recovery.plan, self.recovery.watch);
        let folder = self.server.folder.as_str();
        let mut steps = Vec::new();
        let mut note = |step: &str, seconds: f64| steps.push(StepTime { step: step.to_owned(), seconds });
        let binlogs_of = self.binlogs_of().await?;
        let executed = self.executed().await?;
        let account = self.recovery.account(self.work, &self.server.server).await?;
        if let Some(done) = self.work.journal().result(folder, DONE) {
            return self.done_before(done, &binlogs_of, &executed, account).await;
        }
        if !self.work.journal().is_finished(folder, "prepare") {
            self.work.record(folder, "prepare begun").await?;
            let chain = prepare::Chain {
                host: self.host(),
                tool: &self.recovery.facts.prepare,
                config: &self.recovery.request.config,
                catalog: self.recovery.catalog,
                plan,
                work: self.work.path(),
                server: self.server,
                watch,
            };
            let ((), seconds) = watch.step(folder, "prepare", chain.prepare()).await?;
            note("prepare", seconds);
            self.work.record(folder, "prepare").await?;
        }
        let datadir = self.datadir();
        self.give_away(&datadir).await?;
        let replay = self.replay(&binlogs_of, &executed, &datadir);
        let ((ready, mut options), seconds) =
            watch.step(folder, "choose the binlogs", replay.prepare()).await?;
        note("choose the binlogs", seconds);
        let of_backup = self.options_of_backup(&datadir).await?;
        let mut all = of_backup.clone();
        all.append(&mut options);
        self.work.record(folder, REPLAY_BEGUN).await?;
        let (server, seconds) = watch.step(folder, "start", self.start(&datadir, all, &account)).await?;
        note("start", seconds);
        let replayed = watch.step(folder, "replay", replay.run(ready, &server)).await;
        let ((replayed, gtid_state, proved), seconds) = match replayed {
            Ok(done) => done,
            Err(error) => {
                server.kill().await;
                return Err(error);
            }
        };
        note("replay", seconds);
        let timeout = self.recovery.request.config.misc.conn_timeout;
        let ((), seconds) = watch.step(folder, "stop", server.shutdown(timeout)).await?;
        note("stop", seconds);
        replay.clean().await?;
        // A new identity is made at the next start.
        self.host().command("rm").args(["-f", "--"]).arg(datadir.join("auto.cnf")).run().await?;
        let first = self.first_binlog(&replay).await?;
        let recovered = RecoveredServer {
            group: self.server.group.clone(),
            server: self.server.server.clone(),
            folder: folder.to_owned(),
            datadir,
            version: self.base.version.to_string(),
            base: plan.selection.chain[0].to_string(),
            chain: plan.selection.chain.iter().map(ToString::to_string).collect(),
            replay: replayed,
            gtid_state,
            proved,
            steps,
            port: None,
            socket: None,
            again: Some(Again { options: of_backup, account, server_id: self.server_id() }),
        };
        self.work.record_with(folder, DONE, serde_json::to_value(&recovered).ok()).await?;
        Ok((recovered, first))
    }

    fn replay<'a>(&'a self, binlogs_of: &'a str, executed: &'a str, datadir: &'a Path) -> Replay<'a> {
        let folder = self.server.folder.as_str();
        let begun = self.work.journal().is_finished(folder, REPLAY_BEGUN);
        let extends = self.recovery.facts.extends.as_ref();
        Replay {
            host: self.host(),
            plan: self.recovery.plan,
            server: self.server,
            binlogs_of,
            executed,
            base: self.base,
            datadir,
            work: self.work.path(),
            resume: begun || extends.is_some(),
            held: extends.filter(|_| !begun).and_then(|finished| finished.state(folder)),
            server_id: self.server_id(),
            watch: self.recovery.watch,
        }
    }

    /// With a stop time: the first binlog, for the companion tool, and all of them in one place.
    async fn first_binlog(&self, replay: &Replay<'_>) -> Result<Option<String>, Error> {
        if self.recovery.plan.stop.is_none() {
            return Ok(None);
        }
        let first = replay.join_binlogs().await?;
        Ok(first.map(|first| format!("{}/{first}", replay.binlogs_of)))
    }

    /// A server that an earlier run finished: what that run reported of it.
    async fn done_before(
        &self,
        done: &serde_json::Value,
        binlogs_of: &str,
        executed: &str,
        account: Account,
    ) -> Result<(RecoveredServer, Option<String>), Error> {
        let mut recovered: RecoveredServer = serde_json::from_value(done.clone())
            .map_err(|e| Error::Unexpected { what: "the journal".to_owned(), text: e.to_string() })?;
        let datadir = self.datadir();
        let options = self.options_of_backup(&datadir).await?;
        recovered.again = Some(Again { options, account, server_id: self.server_id() });
        let first = self.first_binlog(&self.replay(binlogs_of, executed, &datadir)).await?;
        Ok((recovered, first))
    }

    /// Servers run as another user: the datadir is theirs.
    async fn give_away(&self, datadir: &Path) -> Result<(), Error> {
        let plan = self.recovery.plan;
        if let Some(user) = &plan.mysqld_user {
            self.host()
                .command("chown")
                .arg("-R")
                .arg(format!("{user}:"))
                .arg("--")
                .arg(datadir)
                .run()
                .await?;
        }
        self.host().command("chmod").arg("0700").arg("--").arg(datadir).run().await?;
        Ok(())
    }

    /// A server id of its own: appliers pass over events that carry theirs.
    fn server_id(&self) -> u32 {
        u32::from(self.recovery.request.config.misc.server_tmp_port) + self.index as u32
    }

    async fn options_of_backup(&self, datadir: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
        let layout = match self.host().files().read(datadir.join("backup-my.cnf"), MAX_TEXT).await {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.is_missing_file() => String::new(),
            Err(error) => return Err(error.into()),
        };
        let my_conf = self.text("my.conf").await?.unwrap_or_default();
        Ok(server_options::of_backup(&layout, &my_conf, &self.base.version))
    }

    async fn start(
        &self,
        datadir: &Path,
        options: Vec<std::ffi::OsString>,
        account: &Account,
    ) -> Result<TemporaryServer, Error> {
        let launch = Launch {
            host: self.host(),
            base: self.base,
            folder: &self.server.folder,
            datadir,
            tmp_dir: &self.work.path().join("tmp"),
            options,
            user: self.recovery.plan.mysqld_user.as_deref(),
            account,
            network: Network::None,
            server_id: self.server_id(),
            run_dirs: self.recovery.run_dirs,
        };
        launch.start().await
    }
}
