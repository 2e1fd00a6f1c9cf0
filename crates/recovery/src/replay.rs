//! Replaying the binlogs of one server: by the worker, or by the stock tools.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use backup_catalog::{BackupName, BinlogName, Position, Role};
use binlog_replay::replay::{
    Account as Login, Dialect, GtidUse, LONGEST_START, Method, NO_LOGIN_FILE, Outcome, Prepared, Progress,
    Request, SCHEMA_VERSION, ServerNeeds, StartAt, TargetAt, cuts_long_starts, server_options,
};
use binlog_replay::{Flavor, GtidSet};
use remote_exec::{Command, Host};

use crate::Error;
use crate::config::ReplayMethod;
use crate::events::{Event, Watch};
use crate::journal::os_arg;
use crate::plan::{self, Plan, PlannedServer};
use crate::report::Replayed;
use crate::server::{BaseDir, TemporaryServer};
use crate::stock_proof::Given;
use crate::worker::{self, Worker};

/// The binlog that a MariaDB server writes while the stock tools replay: the only place where their client's GTIDs are.
const OWN_BINLOG: &str = "dbrecover-own.*";

/// Links `$1` as `$2`, or copies it.
const LINK: &str = r#"ln -f -- "$1" "$2" 2>/dev/null ||
{ cp -p -- "$1" "$2.partial" && mv -f -- "$2.partial" "$2"; } || { rm -f -- "$2.partial"; exit 1; }"#;

/// Everything that the replay of one server needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay<'a> {
    pub(crate) host: &'a Host,
    pub(crate) plan: &'a Plan,
    pub(crate) server: &'a PlannedServer,
    /// How far its binlogs reach at least, as the next backup says: to a moment that is not before the stop time.
    pub(crate) reach: Option<&'a Position>,
    /// The folder whose binlogs are replayed.
    pub(crate) binlogs_of: &'a str,
    /// What the backup holds already, as the server's `executed_gtids` says.
    pub(crate) executed: &'a str,
    pub(crate) base: &'a BaseDir,
    pub(crate) datadir: &'a Path,
    pub(crate) work: &'a Path,
    /// A worker goes on in what it began, or in a finished recovery.
    pub(crate) resume: bool,
    /// The GTID state in which a finished recovery left the server, if it must be in it still.
    pub(crate) held: Option<&'a str>,
    pub(crate) server_id: u32,
    pub(crate) watch: &'a Watch,
}

/// A replay that is ready for its server to be started.
#[derive(Debug)]
pub(crate) enum Ready {
    /// The worker has chosen and laid down what it needs.
    Worker(Box<Request>, Box<Prepared>),
    /// The stock tools' pipe.
    Stock(StockRange),
}

/// What the stock tools replay.
#[derive(Debug)]
pub(crate) struct StockRange {
    files: Vec<PathBuf>,
    start: u64,
    stop: StockStop,
}

#[derive(Debug)]
enum StockStop {
    Position(u64),
    /// UTC, `YYYY-MM-DD HH:MM:SS`.
    Time(String),
}

impl StockStop {
    fn position(&self) -> Option<u64> {
        match self {
            Self::Position(position) => Some(*position),
            Self::Time(_) => None,
        }
    }
}

impl Replay<'_> {
    /// Directories with the binlogs of the server's own master, in the order of the backups.
    fn binlog_dirs(&self) -> Vec<PathBuf> {
        let of = |backup: &BackupName| Plan::backup_dir(self.work, backup).join(self.binlogs_of);
        self.plan.with_binlogs().map(of).collect()
    }

    /// The same, and those of masters after a failover.
    fn all_binlog_dirs(&self) -> Vec<PathBuf> {
        let further = self.server.further_binlogs.iter().map(|dir| self.work.join(dir));
        self.binlog_dirs().into_iter().chain(further).collect()
    }

    fn is_replica(&self) -> bool {
        self.server.choice.role == Role::Replica
    }

    /// Chooses the binlogs and says which options the server needs.
    pub(crate) async fn prepare(&self) -> Result<(Ready, Vec<OsString>), Error> {
        match &self.plan.tools.worker {
            Some(worker) => self.prepare_worker(worker).await,
            None => self.prepare_stock().await,
        }
    }

    fn request(&self) -> Request {
        let line = &self.server.choice.line;
        Request {
            schema_version: SCHEMA_VERSION,
            server_version: self.base.version.text.clone(),
            binlogs: self.all_binlog_dirs(),
            start: StartAt {
                position: format!("{}:{}", line.start.file, line.start.offset),
                executed: Some(self.executed.to_owned()).filter(|text| !text.is_empty()),
            },
            target: self.server.target.clone(),
            skip: self.server.skip.clone(),
            method: match self.plan.replay_method {
                ReplayMethod::Auto => Method::Auto,
                ReplayMethod::Pipe => Method::Pipe,
                ReplayMethod::Sql => Method::Sql,
                ReplayMethod::Relay => Method::Relay,
            },
            on_error: Default::default(),
            resume: self.resume,
            held: self.held.map(str::to_owned),
            datadir: self.datadir.to_owned(),
            base_dir: Some(self.base.path.clone()),
            server: None,
            workers: None,
            buffer_pool: Some(self.plan.buffer_pool),
        }
    }

    async fn prepare_worker(&self, worker: &Worker) -> Result<(Ready, Vec<OsString>), Error> {
        let request = self.request();
        let doing = format!("choosing the binlogs of {}", self.server.folder);
        let said = self.ask(worker, "--prepare", &request, &doing, |_| ()).await?;
        let prepared: Prepared = parse(&said)?;
        self.check_failover(&prepared)?;
        self.check_reach(&prepared).await?;
        for warning in &prepared.plan.range.warnings {
            self.watch.warning(format!("{}: {warning}", self.server.folder));
        }
        if let (Some(skip), 0) = (&self.server.skip, prepared.plan.range.skipped) {
            let folder = &self.server.folder;
            self.watch.warning(format!("{folder}: nothing is left out: {skip} is not before the target"));
        }
        let options = prepared.server_options.iter().map(OsString::from).collect();
        Ok((Ready::Worker(Box::new(request), Box::new(prepared)), options))
    }

    /// Without GTIDs nothing leads from one server's binlogs to another's: where the group's master changed before the
    /// stop time, the old one's binlogs must reach past it.
    fn check_failover(&self, prepared: &Prepared) -> Result<(), Error> {
        let Some(first) = self.server.further_binlogs.first() else { return Ok(()) };
        // Where nothing is left to apply, only MariaDB's are sure to be in use.
        let range = &prepared.plan.range;
        let sure = range.transactions > 0 || self.base.version.flavor == Flavor::MariaDb;
        if prepared.plan.gtids != GtidUse::None && sure || range.next.is_some() {
            return Ok(());
        }
        Err(Error::Incomplete {
            what: format!(
                "the master of {} changed before the stop time (see {first}): its old binlogs end at {}, and without \
                 GTIDs the recovery cannot go on in the new ones. Recover to a time before that, or to a consistent point",
                self.server.group, prepared.plan.range.stop
            ),
        })
    }

    /// Where no transaction is left behind the stop time, the group was idle, or its binlogs are not all there: they must
    /// reach as far as the next backup says. After a failover they go on in another folder.
    async fn check_reach(&self, prepared: &Prepared) -> Result<(), Error> {
        let is_time = matches!(self.server.target, TargetAt::Time(_));
        let (Some(reach), None, true, true) =
            (self.reach, &prepared.plan.range.next, is_time, self.server.further_binlogs.is_empty())
        else {
            return Ok(());
        };
        let mut files = BTreeMap::new();
        for dir in self.binlog_dirs() {
            for entry in self.host.files().list(&dir).await? {
                let size = files.entry(entry.name.to_string_lossy().into_owned()).or_insert(0);
                *size = entry.metadata.size.max(*size);
            }
        }
        match plan::falls_short(&files, &self.server.choice.line.start.file, reach) {
            None => Ok(()),
            Some(detail) => Err(self.gap(&format!("they end before the stop time: {detail}"))),
        }
    }

    async fn ask(
        &self,
        worker: &Worker,
        mode: &str,
        request: &Request,
        doing: &str,
        progress: impl FnMut(serde_json::Value),
    ) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_string(request)
            .map_err(|e| Error::Unexpected { what: "the replay request".to_owned(), text: e.to_string() })?;
        let command = worker
            .command(self.host, "replay")
            .args([mode, "--request", "-", "--progress", "json"])
            .secret_stdin(json.into());
        worker::run(self.host, command, doing, progress).await
    }

    /// Whether the running server is where a finished recovery left it; nothing is applied.
    pub(crate) async fn check_held(&self, ready: &Ready, server: &TemporaryServer) -> Result<(), Error> {
        let (Some(worker), Ready::Worker(request, prepared)) = (&self.plan.tools.worker, ready) else {
            return Ok(());
        };
        let method = prepared.plan.choice.method;
        let request = Request { method, server: Some(login(server)), ..(**request).clone() };
        let doing = format!("looking where {} was left", self.server.folder);
        self.ask(worker, "--check", &request, &doing, |_| ()).await.map(drop)
    }

    /// Replays into the running server and proves where it stands.
    pub(crate) async fn run(
        &self,
        ready: Ready,
        server: &TemporaryServer,
    ) -> Result<(Replayed, String, bool), Error> {
        let replays = match &ready {
            Ready::Worker(_, prepared) => prepared.plan.range.transactions > 0,
            Ready::Stock(_) => true,
        };
        if replays {
            self.warn_of_tables_in_memory(server).await?;
        }
        match ready {
            Ready::Worker(request, prepared) => self.run_worker(*request, *prepared, server).await,
            Ready::Stock(range) => self.run_stock(&range, server).await,
        }
    }

    /// A backup has the definitions of tables in memory and none of their rows, as after any start of a server.
    async fn warn_of_tables_in_memory(&self, server: &TemporaryServer) -> Result<(), Error> {
        let sql = "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE engine = 'MEMORY' \
                   AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1";
        let tables = server.sql(sql).await?;
        if !tables.is_empty() {
            let (folder, tables) = (&self.server.folder, tables.replace('\n', ", "));
            self.watch.warning(format!(
                "{folder}: {tables} are kept in memory and empty after a restore. A transaction that changes a row of before \
                 ends the replay (error 1032); --skip-gtid leaves it out"
            ));
        }
        Ok(())
    }

    async fn run_worker(
        &self,
        mut request: Request,
        prepared: Prepared,
        server: &TemporaryServer,
    ) -> Result<(Replayed, String, bool), Error> {
        let Some(worker) = &self.plan.tools.worker else { unreachable!("prepared by a worker") };
        request.server = Some(login(server));
        let planned = serde_json::to_value(&prepared.plan).ok();
        let doing = format!("replaying the binlogs of {}", self.server.folder);
        let said = self
            .ask(worker, "--run", &request, &doing, |value| {
                if let Ok(progress) = serde_json::from_value::<Progress>(value) {
                    self.progress(&progress);
                }
            })
            .await?;
        let outcome: Outcome = parse(&said)?;
        if outcome.proof.found != outcome.proof.expected {
            return Err(Error::Unproven {
                server: self.server.folder.clone(),
                what: "state after the replay",
                planned: outcome.proof.expected,
                found: outcome.proof.found,
            });
        }
        for warning in &outcome.warnings {
            self.watch.warning(format!("{}: {warning}", self.server.folder));
        }
        let replayed = Replayed {
            method: outcome.method.name().to_owned(),
            reason: outcome.reason,
            files: outcome.range.files,
            from: outcome.range.start,
            to: outcome.range.stop,
            transactions: Some(outcome.transactions),
            last: serde_json::to_value(&outcome.range.last).ok(),
            planned,
        };
        Ok((replayed, outcome.gtid_state.unwrap_or_default(), true))
    }

    /// Removes what the replay laid into the datadir, when the server is gone.
    pub(crate) async fn clean(&self) -> Result<(), Error> {
        let Some(worker) = &self.plan.tools.worker else {
            let find = self.host.command("find").arg(self.datadir).args(["-mindepth", "1", "-maxdepth", "1"]);
            find.args(["-name", OWN_BINLOG, "-delete"]).run().await?;
            return Ok(());
        };
        let doing = format!("cleaning the datadir of {}", self.server.folder);
        self.ask(worker, "--clean", &self.request(), &doing, |_| ()).await?;
        Ok(())
    }

    fn progress(&self, progress: &Progress) {
        self.watch.event(&Event::Progress {
            server: self.server.folder.clone(),
            step: "replay".to_owned(),
            done: progress.transactions,
            total: Some(progress.transactions_total),
            unit: "transactions",
            note: progress.reached.map(|time| format!("replaying {}", time.format("%Y-%m-%d %H:%M:%S UTC"))),
        });
    }

    /// Chooses by the files' names: contiguous from the start file to the stop file.
    async fn prepare_stock(&self) -> Result<(Ready, Vec<OsString>), Error> {
        let line = &self.server.choice.line;
        let mut found = Vec::new();
        for dir in self.binlog_dirs() {
            let entries = self.host.files().list(&dir).await?;
            found.extend(entries.into_iter().map(|entry| dir.join(entry.name)));
        }
        let stop = match &self.server.target {
            TargetAt::Time(time) => StockStop::Time(time.format("%Y-%m-%d %H:%M:%S").to_string()),
            _ => StockStop::Position(line.consistent.offset),
        };
        let last = match stop {
            StockStop::Position(_) => Some(line.consistent.file.as_str()),
            StockStop::Time(_) => None,
        };
        let files = row(&found, &line.start.file, last).map_err(|missing| self.gap(&missing))?;
        let needs = ServerNeeds {
            method: Method::Pipe,
            gtids: if self.executed.is_empty() { GtidUse::None } else { GtidUse::All },
            server_id: self.server_id,
            workers: 1,
            buffer_pool: self.plan.buffer_pool,
        };
        let options = server_options(&self.base.version, &needs).into_iter().map(OsString::from).collect();
        let start = if self.is_replica() { 4 } else { line.start.offset };
        if start > LONGEST_START && cuts_long_starts(&self.base.version) {
            return Err(Error::Tool {
                host: self.host.name().to_owned(),
                tool: "stock tools".to_owned(),
                reason: format!(
                    "the binlog tool of {} takes no start beyond 4 GiB, and the replay of {} starts at {start}; the worker \
                     (toolchain) can do it",
                    self.base.version, self.server.folder
                ),
            });
        }
        Ok((Ready::Stock(StockRange { files, start, stop }), options))
    }

    fn gap(&self, detail: &str) -> Error {
        Error::Incomplete {
            what: format!(
                "the binlogs of {} do not cover the recovery of {}: {detail}",
                self.binlogs_of, self.server.folder
            ),
        }
    }

    async fn run_stock(
        &self,
        range: &StockRange,
        server: &TemporaryServer,
    ) -> Result<(Replayed, String, bool), Error> {
        let flavor = self.base.version.flavor;
        let words = Dialect::of(&self.base.version);
        let executed = GtidSet::parse(flavor, self.executed)
            .map_err(|e| Error::Unexpected { what: "executed_gtids".to_owned(), text: e.to_string() })?;
        let set = match flavor {
            Flavor::MySql => format!("SET GLOBAL gtid_purged='{executed}'"),
            Flavor::MariaDb => format!("SET GLOBAL gtid_slave_pos='{executed}'"),
        };
        server.sql(words.reset_replica_all()).await?;
        server.sql(words.reset_gtids()).await?;
        server.sql(&set).await?;
        let read = self.read_binlogs(range, server, &executed);
        self.host.pipeline(vec![read, server.client()]).run().await?;
        let given = Given::read(self.host, self.read_binlogs(range, server, &executed), flavor).await?;
        let proved = !self.executed.is_empty() || given.has_gtids();
        if proved {
            given.prove(server, &self.server.folder, &executed, range.stop.position()).await?;
        } else {
            let folder = &self.server.folder;
            self.watch.warning(format!(
                "{folder}: without GTIDs the stock tools cannot prove where the replay ended"
            ));
        }
        let state = match flavor {
            Flavor::MySql => server.sql("SELECT @@GLOBAL.gtid_executed").await?,
            Flavor::MariaDb => self.say_position(&given, server, &executed).await?,
        };
        let replayed = Replayed {
            method: "pipe".to_owned(),
            reason: "stock tools".to_owned(),
            files: range
                .files
                .iter()
                .filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
                .collect(),
            from: self.server.start.clone(),
            to: self.server.stop.clone(),
            transactions: given.has_gtids().then_some(given.transactions),
            ..Replayed::default()
        };
        Ok((replayed, state.replace('\n', ""), proved))
    }

    /// Makes a MariaDB server say that it holds what was backed up and what was replayed: the client leaves its GTIDs in
    /// the binlog alone, which goes.
    async fn say_position(
        &self,
        given: &Given,
        server: &TemporaryServer,
        executed: &GtidSet,
    ) -> Result<String, Error> {
        let own = server.sql("SELECT @@GLOBAL.gtid_binlog_pos").await?;
        let position = given.position(executed, &own)?;
        // It may name transactions that are none of the source's, under numbers that its next ones will have.
        server.sql(Dialect::of(&self.base.version).reset_gtids()).await?;
        server.sql(&format!("SET GLOBAL gtid_slave_pos='{position}'")).await?;
        Ok(position)
    }

    /// The binlog program with the files and the range.
    fn read_binlogs(&self, range: &StockRange, server: &TemporaryServer, executed: &GtidSet) -> Command {
        let mut read = self.host.command(&self.base.binlog).arg("--no-defaults").env("TZ", "UTC");
        let (variable, none) = NO_LOGIN_FILE;
        read = read.env(variable, none);
        // It is not asked for by default: a damaged event would be applied.
        read = read.arg("--verify-binlog-checksum");
        // It writes the files of LOAD DATA there and never removes them.
        read = read.arg(os_arg("--local-load=", server.private_dir()));
        match executed.flavor() {
            Flavor::MySql if !self.executed.is_empty() => {
                read = read
                    .arg(format!("--exclude-gtids={executed}"))
                    .arg(format!("--start-position={}", range.start));
            }
            // The GTID form leaves out what is there already; the server checks that it finds the place.
            Flavor::MariaDb if self.is_replica() => read = read.arg(format!("--start-position={executed}")),
            _ => read = read.arg(format!("--start-position={}", range.start)),
        }
        read = match &range.stop {
            StockStop::Position(position) => read.arg(format!("--stop-position={position}")),
            StockStop::Time(time) => read.arg(format!("--stop-datetime={time}")),
        };
        read.args(range.files.iter().map(|path| path.as_os_str()))
    }

    /// Puts the next backup's binlogs beside the last one's, where the companion tool looks for them, and
    /// returns the first of all.
    pub(crate) async fn join_binlogs(&self) -> Result<Option<String>, Error> {
        let dirs = self.binlog_dirs();
        let start = &self.server.choice.line.start.file;
        for from in dirs.iter().skip(1) {
            let there = self.host.files().list(from).await?;
            for entry in there.iter().filter(|entry| of_log(&entry.name, start).is_some()) {
                let (from, to) = (from.join(&entry.name), dirs[0].join(&entry.name));
                link(self.host, &from, &to).await?;
            }
        }
        let there = self.host.files().list(&dirs[0]).await?;
        let first = there.iter().filter_map(|entry| of_log(&entry.name, start)).min();
        Ok(first.map(|name| name.to_string()))
    }
}

/// Puts a file beside others, as a copy where the file system has no links.
async fn link(host: &Host, from: &Path, to: &Path) -> Result<(), Error> {
    host.command("sh").args(["-c", LINK, "sh"]).arg(from).arg(to).run().await?;
    Ok(())
}

fn login(server: &TemporaryServer) -> Login {
    let account = server.account();
    Login { socket: server.socket(), user: account.user.clone(), password: account.password.clone() }
}

fn parse<T: serde::de::DeserializeOwned>(said: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(said).map_err(|e| Error::Unexpected {
        what: "the worker".to_owned(),
        text: format!("{e}: {}", String::from_utf8_lossy(said).chars().take(300).collect::<String>()),
    })
}

/// The name of a file of the log that `other` is of.
fn of_log<'a>(name: &'a OsStr, other: &str) -> Option<BinlogName<'a>> {
    let name = BinlogName::parse(name.to_str()?)?;
    BinlogName::parse(other).is_some_and(|other| name.same_log(&other)).then_some(name)
}

/// The binlogs from `first` to `last`, or to the newest one, one after the other; or words for what is missing of them. Of
/// copies of one file, the one that is found last counts: a later backup's is at least as long.
fn row(found: &[PathBuf], first: &str, last: Option<&str>) -> Result<Vec<PathBuf>, String> {
    let named = found.iter().filter_map(|path| Some((of_log(path.file_name()?, first)?, path)));
    let files: BTreeMap<BinlogName<'_>, &PathBuf> = named.collect();
    let there = |wanted: &str| files.keys().copied().find(|name| Some(*name) == BinlogName::parse(wanted));
    let missing = |name: &str| format!("{name} is missing");
    let from = there(first).ok_or_else(|| missing(first))?;
    let to = match last {
        Some(last) => there(last).ok_or_else(|| missing(last))?,
        None => files.keys().copied().max().unwrap_or(from),
    };
    if from > to {
        return Err(format!("{from} comes after {to}"));
    }
    let row: Vec<_> = files.range(from..=to).collect();
    match row.windows(2).find(|pair| pair[0].0.next() != Some(*pair[1].0)) {
        Some(pair) => Err(format!("between {} and {}", pair[0].0, pair[1].0)),
        None => Ok(row.into_iter().map(|(_, path)| PathBuf::clone(path)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the row, one after the other.
    fn names(found: &[&str], first: &str, last: Option<&str>) -> Result<String, String> {
        let found: Vec<_> = found.iter().map(PathBuf::from).collect();
        let row = row(&found, first, last)?;
        Ok(row.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn files_follow_each_other_by_number_past_six_digits() {
        let found = ["1/b.1000000", "1/b.999998", "1/b.999999"];
        assert_eq!(names(&found, "b.999998", None).unwrap(), "1/b.999998 1/b.999999 1/b.1000000");
        assert_eq!(names(&found, "b.999999", Some("b.1000000")).unwrap(), "1/b.999999 1/b.1000000");
        assert_eq!(names(&found, "b.999998", Some("b.999998")).unwrap(), "1/b.999998");
        let hole = ["b.999998", "b.1000000"];
        assert_eq!(names(&hole, "b.999998", None).unwrap_err(), "between b.999998 and b.1000000");
        assert_eq!(
            names(&found, "b.1000000", Some("b.999999")).unwrap_err(),
            "b.1000000 comes after b.999999"
        );
    }

    #[test]
    fn only_the_log_of_the_first_file_counts_and_of_copies_the_later_one() {
        let found =
            ["1/b.000001", "1/b.000002", "1/b.index", "1/a.000003", "2/b.000002", "2/b.00003", "2/b.0000003"];
        assert_eq!(names(&found, "b.000001", None).unwrap(), "1/b.000001 2/b.000002");
        assert_eq!(names(&found, "c.000001", None).unwrap_err(), "c.000001 is missing");
        assert_eq!(names(&found, "b.000001", Some("a.000003")).unwrap_err(), "a.000003 is missing");
    }

    #[tokio::test]
    async fn a_binlog_that_cannot_be_linked_is_copied() {
        use std::os::unix::fs::MetadataExt as _;

        let (host, dir) = (Host::local(), tempfile::tempdir().unwrap());
        // Another file system.
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        for (from, content) in [(other.path(), "over there"), (dir.path(), "here")] {
            let (from, to) = (from.join("bin.000002"), dir.path().join("joined"));
            std::fs::write(&from, content).unwrap();
            std::fs::write(&to, "shorter").unwrap();
            link(&host, &from, &to).await.unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), content);
            let number = |path: &Path| std::fs::metadata(path).unwrap().ino();
            assert_eq!(number(&from) == number(&to), content == "here", "needs two file systems");
        }
    }

    #[test]
    fn binlog_files_are_told_by_base_name_and_number() {
        for (name, is) in [
            ("bin.000002", true),
            ("bin.1000000", true),
            ("bin.index", false),
            ("relay.000001", false),
            ("bin.00001", false),
            ("backup.xbsteam", false),
        ] {
            assert_eq!(of_log(OsStr::new(name), "bin.000001").is_some(), is, "{name}");
        }
        let names = ["bin.999999", "bin.1000000", "aaa.000001"].map(OsStr::new);
        let first = names.into_iter().filter_map(|name| of_log(name, "bin.999999")).min();
        assert_eq!(first, BinlogName::parse("bin.999999"), "the first is not the first as text");
    }
}
