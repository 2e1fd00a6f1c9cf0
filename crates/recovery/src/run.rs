//! A recovery from its first look at the store to its report.

use std::path::Path;
use std::time::Instant;

use backup_catalog::Catalog;
use backup_catalog::dbscale::{Account, Accounts};
use backup_catalog::layout::PROXY;
use chrono::{Local, SecondsFormat};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::ds_info;
use crate::events::Watch;
use crate::facts::{compressed, facts};
use crate::hosts::Hosts;
use crate::identity::Identity;
use crate::journal::{Journal, PREPARE, PREPARE_BEGUN};
use crate::locate::{Look, locate};
use crate::my_conf;
use crate::one_server::{OneServer, Recovered};
use crate::owned_dir::Scratch;
use crate::plan::{self, Facts, Plan, UsedFor};
use crate::report::{MAX_REPORT, REPORT, RecoveredServer, Report, Unpacked};
use crate::request::Request;
use crate::sender::Sender;
use crate::server::{BaseDir, Launch, Network, RunDirs, free_port, left_running};
use crate::server_options::left_alone;
use crate::side_by_side::side_by_side;
use crate::store::{MAX_TEXT, read_catalog};
use crate::trash;
use crate::unpack::{Unpack, check_password};
use crate::workdir::{Earlier, WorkDir};
use crate::worker::version_line;
use crate::{Error, SCHEMA_VERSION, with_causes};

/// Decides everything and touches nothing.
///
/// # Errors
///
/// Whatever [`plan::make`] refuses, and hosts or tools that cannot be used.
pub async fn plan(request: &Request) -> Result<Plan, Error> {
    // What cannot be understood is refused before anybody is called.
    request.wanted()?;
    let watch = Watch::new(request.observer.clone());
    let hosts = unless_cancelled(&request.cancel, Hosts::connect(&request.config)).await?;
    let looked = look(request, &hosts, &watch).await;
    hosts.close().await;
    Ok(looked?.2)
}

async fn look(request: &Request, hosts: &Hosts, watch: &Watch) -> Result<(Catalog, Facts, Plan), Error> {
    let (config, cancel) = (&request.config, &request.cancel);
    let wanted = request.wanted()?;
    let reading = watch.step("", "read the catalog", read_catalog(&hosts.store, &config.store_dir));
    let (catalog, _) = unless_cancelled(cancel, reading).await?;
    let mut facts = unless_cancelled(cancel, facts(request, hosts, &catalog, &wanted.name)).await?;
    if wanted.needs_binlogs() {
        // Something may be written beside it.
        plan::check_work_dir(config, &facts)?;
        let (program, scratch) = (request.program.as_deref(), &Scratch::default());
        let sender = &Sender::new(&hosts.store, facts.tools.sender.as_ref(), program, config);
        let (tools, password) = (&facts.tools, request.password.as_ref());
        let look =
            Look { config, hosts, catalog: &catalog, tools, password, program, sender, scratch, watch };
        let looking = watch.step("", "look for the target in the binlogs", locate(&look, &wanted));
        let located = unless_cancelled(cancel, looking).await;
        // Also when cancelled: here nothing is dropped half-way any more.
        scratch.remove().await;
        sender.remove().await;
        facts.located = Some(located?.0);
    }
    let mut plan = plan::make(&catalog, config, &wanted, hosts, &facts)?;
    if request.read_only_store {
        plan.to_trash = None;
    }
    plan.compressed = unless_cancelled(cancel, compressed(&hosts.store, &plan)).await?;
    let letter_case = config.misc.lower_case_table_names;
    let open = my_conf::warnings(&hosts.store, &plan, &facts.prepare, letter_case);
    plan.warnings.extend(unless_cancelled(cancel, open).await?);
    for warning in &plan.warnings {
        watch.warning(warning.clone());
    }
    Ok((catalog, facts, plan))
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
        let looked = look(request, &hosts, &watch).await;
        let (catalog, facts, plan) = &looked?;
        let run_dirs = &RunDirs::default();
        let (config, program) = (&request.config, request.program.as_deref());
        let sender = &Sender::new(&hosts.store, plan.tools.sender.as_ref(), program, config);
        let recovery =
            Recovery { request, hosts: &hosts, catalog, facts, plan, watch: &watch, run_dirs, sender };
        let result = recovery.run().await;
        sender.remove().await;
        result
    };
    let result = result.await;
    hosts.close().await;
    result
}

pub(crate) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        // What is cancelled before it begins does nothing.
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        result = work => result,
    }
}

/// One recovery while it runs.
#[derive(Clone, Copy)]
pub(crate) struct Recovery<'a> {
    pub(crate) request: &'a Request,
    pub(crate) hosts: &'a Hosts,
    pub(crate) catalog: &'a Catalog,
    pub(crate) facts: &'a Facts,
    pub(crate) plan: &'a Plan,
    pub(crate) watch: &'a Watch,
    pub(crate) run_dirs: &'a RunDirs,
    pub(crate) sender: &'a Sender,
}

impl Recovery<'_> {
    async fn run(&self) -> Result<Report, Error> {
        let (started, begun) = (now(), Instant::now());
        let config = &self.request.config;
        // The password is tried before anything is touched.
        let outside = self.unpack(Path::new(""), None);
        unless_cancelled(&self.request.cancel, check_password(outside)).await?;
        let folders: Vec<_> = self.plan.servers.iter().map(|server| server.folder.as_str()).collect();
        let (job, done) = (&self.hosts.job, &self.plan.work_dir);
        if self.request.earlier == Earlier::Resume
            && let Some(report) = self.report_of_finished().await?
        {
            self.watch
                .warning(format!("the recovery in {} is finished: there is nothing to do", done.display()));
            return Ok(report);
        }
        left_running::none_in(job, done, "replaced").await?;
        if let Earlier::Extend(from) = &self.request.earlier {
            left_running::none_in(job, &config.work_dir.join(from), "taken over").await?;
        }
        if self.plan.for_testing {
            left_running::check_sockets(job, &folders).await?;
        }
        self.move_to_trash().await;
        let work = WorkDir::open(
            &self.hosts.job,
            &config.work_dir,
            &self.plan.name,
            &self.request.earlier,
            Identity::of(self.plan),
            &self.request.cancel,
        )
        .await?;
        for notice in work.notices() {
            self.watch.warning(notice.as_str());
        }
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
            made_by: version_line(),
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
        let (done, left) = work.finish(&self.request.cancel).await?;
        if let Some(left) = left {
            self.watch.warning(left);
        }
        if self.plan.for_testing {
            self.leave_running(&done, &mut report).await?;
            self.write_report(&done, &report).await?;
        }
        Ok(report)
    }

    /// The report of this recovery, if an earlier run finished it.
    async fn report_of_finished(&self) -> Result<Option<Report>, Error> {
        let (job, identity) = (&self.hosts.job, Identity::of(self.plan));
        let parent = &self.request.config.work_dir;
        let Some(dir) = WorkDir::finished(job, parent, &self.plan.name, identity).await? else {
            return Ok(None);
        };
        let text = job.files().read(dir.join(REPORT), MAX_REPORT).await?;
        let report = Report::read(&text, self.plan.clone()).map_err(|e| Error::Unexpected {
            what: dir.join(REPORT).display().to_string(),
            text: e.to_string(),
        })?;
        if self.plan.for_testing && report.servers.iter().any(|server| server.port.is_none()) {
            let reason = "it is finished, but its servers were not left running (for-testing)".to_owned();
            return Err(Error::NotResumable { host: job.name().to_owned(), path: dir, reason });
        }
        Ok(Some(report))
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
            sender: self.sender,
            watch: self.watch,
        }
    }

    /// A store that cannot be written to is no fault of the recovery.
    async fn move_to_trash(&self) {
        let Some(name) = &self.plan.to_trash else { return };
        match trash::take(&self.hosts.store, &self.plan.store_dir, name).await {
            Ok(None) => {}
            Ok(Some(trash)) => {
                self.watch.warning(format!("backup {name} is not complete; it was moved to {}", trash.display()));
            }
            Err(error) => self.watch.warning(format!(
                "backup {name} is not complete, and cannot be moved to trash/ (--read-only-store leaves it where it is): {}",
                with_causes(&error)
            )),
        }
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
        let jobs =
            jobs.map(|(index, server)| OneServer { recovery: *self, work, base: &base, index, server }.run());
        let failed = |index: usize, error: &Error, others: usize| {
            if others > 0 {
                let folder = self.plan.servers.get(index).map_or("", |server| server.folder.as_str());
                let others =
                    if others == 1 { "another server".to_owned() } else { format!("{others} others") };
                self.watch.warning(format!(
                    "{folder} failed, and no other server is begun; {others} under way will be finished (^C ends that): {}",
                    with_causes(error)
                ));
            }
        };
        let servers = side_by_side(jobs, self.plan.parallel, failed).await?;
        // What is recovered is recovered; somebody else's file in /tmp must not undo it.
        if let Err(error) = self.ds_info(work, &servers).await {
            let dir = self.request.config.misc.ds_info_dir.display();
            self.watch
                .warning(format!("the ds_info files could not be written to {dir}: {}", with_causes(&error)));
        }
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
            let again: Vec<_> =
                folders.iter().copied().filter(|f| half_prepared(work.journal(), f)).collect();
            let before = work.journal().is_finished("", &step);
            let mut earlier = None;
            if let Some(result) = work.journal().result("", &step) {
                let result: Unpacked = serde_json::from_value(result.clone())
                    .map_err(|e| Error::Unexpected { what: "the journal".to_owned(), text: e.to_string() })?;
                earlier = Some(result);
            }
            if before && (again.is_empty() || planned.used_for == UsedFor::Binlogs) {
                unpacked.extend(earlier);
                continue;
            }
            let folders = if before { &again } else { &folders };
            let (mut one, _) = self.watch.step("", &step, unpack.backup(index, folders, before)).await?;
            if let Some(mut earlier) = earlier {
                earlier.add_again(one);
                one = earlier;
            }
            work.record_with("", &step, serde_json::to_value(&one).ok()).await?;
            unpacked.push(one);
        }
        self.sender.remove().await;
        Ok(unpacked)
    }

    /// The proxy's files: of the first backup, and over them those of the last.
    async fn calcnode_base(&self, work: &WorkDir) -> Result<(), Error> {
        let chain = &self.plan.selection.chain;
        let mut names = vec![&chain[0]];
        names.extend(chain.last().filter(|last| **last != chain[0]));
        for name in names {
            let from = Plan::backup_dir(work.path(), name).join(PROXY);
            if self.hosts.job.files().exists(&from).await? {
                self.hosts.job.command("cp").args(["-a", "--"]).arg(&from).arg(work.path()).run().await?;
            }
        }
        Ok(())
    }

    /// The accounts of a server: first that of the last backup of the chain that names it. A server that is gone on with may
    /// have that of a later one, in whose binlogs a password was changed.
    pub(crate) async fn accounts(&self, work: &WorkDir, server: &str) -> Result<Vec<Account>, Error> {
        let (mut accounts, mut missing) = (Vec::<Account>::new(), None);
        let later = self.plan.backups.iter().filter(|backup| backup.used_for == UsedFor::Binlogs);
        let later = later.map(|backup| &backup.name).rev();
        for name in self.plan.selection.chain.iter().rev().chain(later) {
            let path = Plan::backup_dir(work.path(), name).join(PROXY).join("dbscale.conf");
            let Some(text) = self.hosts.job.files().read_if_there(&path, MAX_TEXT).await? else { continue };
            let parsed = Accounts::parse(format!("{name}/{PROXY}/dbscale.conf"), &text);
            match parsed.and_then(|parsed| parsed.get(server).cloned()) {
                Ok(account) if accounts.iter().any(|known| same(known, &account)) => {}
                Ok(account) => accounts.push(account),
                Err(error) => missing = missing.or(Some(error)),
            }
        }
        if !accounts.is_empty() {
            return Ok(accounts);
        }
        Err(missing.map_or_else(
            || Error::Incomplete { what: format!("no backup of the chain has {PROXY}/dbscale.conf") },
            Into::into,
        ))
    }

    async fn ds_info(&self, work: &WorkDir, servers: &[Recovered]) -> Result<(), Error> {
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

    /// Starts the finished servers again, to be left running for a test: all of them or none.
    async fn leave_running(&self, done: &Path, report: &mut Report) -> Result<(), Error> {
        let result = self.start_again(done, report).await;
        if result.is_err() {
            for server in &report.servers {
                left_running::end(&self.hosts.job, &server.datadir).await?;
            }
        }
        result
    }

    async fn start_again(&self, done: &Path, report: &mut Report) -> Result<(), Error> {
        let misc = &self.request.config.misc;
        let host = &self.hosts.job;
        let base = BaseDir::detect(host, &done.join("datanode_base"), &misc.client_name).await?;
        let mut port = misc.server_tmp_port;
        for server in &mut report.servers {
            let Some(again) = &server.again else { continue };
            port = free_port(host, port).await?;
            let socket = left_running::socket(&server.folder);
            let launch = Launch {
                host,
                base: &base,
                folder: &server.folder,
                datadir: &server.datadir,
                tmp_dir: &done.join("tmp"),
                options: again.options.iter().cloned().chain(left_alone(&base.version)).collect(),
                user: self.plan.mysqld_user.as_deref(),
                accounts: &again.accounts,
                zone: self.plan.time_zone.as_deref(),
                network: Network::Loopback(port),
                server_id: again.server_id,
                timeout: misc.conn_timeout,
                run_dirs: self.run_dirs,
            };
            launch.start_detached(&socket).await?;
            (server.port, server.socket) = (Some(port), Some(socket));
            port = port.saturating_add(1);
        }
        Ok(())
    }
}

fn same(one: &Account, other: &Account) -> bool {
    one.user == other.user && one.password.expose_secret() == other.password.expose_secret()
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
fn half_prepared(journal: &Journal, folder: &str) -> bool {
    journal.is_finished(folder, PREPARE_BEGUN) && !journal.is_finished(folder, PREPARE)
}
