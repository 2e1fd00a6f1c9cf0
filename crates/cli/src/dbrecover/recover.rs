//! `dbrecover [recover]` and `dbrecover plan`: the recovery of a cluster.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use dbrecover_cli::password::Sources;
use dbrecover_cli::{Exit, Failure, Outcome, standard};
use recovery::config::parse_size;
use recovery::plan::Goal;
use recovery::{Config, Earlier, Plan, RecoverTo, Report, Request};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::hints;
use crate::progress::{self, LogFormat, Progress};

/// How long tasks have to end when nothing waits for them any more.
const STOP: Duration = Duration::from_secs(2);

/// What a recovery and its plan are asked with. The first two are those of older versions.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "recovery.conf")]
    pub(crate) config_file: PathBuf,

    /// Password of encrypted backups; every user of this machine can read it there, so prefer --password-file,
    /// DBRECOVER_PASSWORD or the prompt
    #[arg(short, long, value_name = "PASSWORD", hide_env_values = true)]
    password: Option<SecretString>,

    /// File whose first line is the password of encrypted backups
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,

    #[command(flatten)]
    target: TargetArgs,

    /// Leave these transactions out on the way there; each server leaves out those of its own binlogs
    #[arg(long, value_name = "GTIDS")]
    skip_gtid: Option<String>,

    /// Do not recover this replication group; may be given several times. Needed for a group that was taken out of the
    /// cluster between the backups
    #[arg(long, value_name = "GROUP")]
    without_group: Vec<String>,

    /// Use backups that databases or tables were left out of; what is in none of them is not recovered
    #[arg(long)]
    allow_partial: bool,

    /// Go on with a recovery that was cut off, where its journal ends
    #[arg(long)]
    resume: bool,

    /// Take over the finished recovery of this name below the work directory and replay only what is behind it; the
    /// new one takes its place. Needs GTIDs and a later target
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    extend: Option<String>,

    /// Decide everything, print the plan, touch nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave even an incomplete newest backup where it is in the store
    #[arg(long)]
    read_only_store: bool,

    /// Servers recovered side by side
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,

    /// Most bytes per second of a transfer, such as 200M
    #[arg(long, value_name = "SIZE", value_parser = rate_limit)]
    rate_limit: Option<u64>,

    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,

    /// Form of the messages on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Where to recover to, whatever [recover-to] says.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct TargetArgs {
    /// Recover to the consistent point of this backup
    #[arg(long, value_name = "BACKUP")]
    dir: Option<String>,

    /// Recover to this moment: YYYY-MM-DD HH:MM:SS in the zone of the backup machine, or RFC 3339
    #[arg(long, value_name = "TIME")]
    stop_datetime: Option<String>,

    /// Recover up to and including these transactions: the servers whose binlogs hold them stop right after the
    /// last one, the other servers before what was committed at or after its commit time
    #[arg(long, value_name = "GTIDS")]
    until_gtid: Option<String>,

    /// Recover to just before these transactions: the servers whose binlogs hold them stop before the first
    /// one, the other servers before what was committed at or after its commit time
    #[arg(long, value_name = "GTIDS")]
    before_gtid: Option<String>,

    /// Recover to this place between two transactions. Positions are per server, so a file name that several
    /// servers have needs the server (or group) in front; the other servers stop before what was
    /// committed at or after the commit time of the transaction behind it
    #[arg(long, value_name = "[SERVER/]FILE:POS")]
    until_position: Option<String>,
}

impl TargetArgs {
    fn recover_to(self) -> Option<RecoverTo> {
        let targets = [
            self.dir.map(RecoverTo::Backup),
            self.stop_datetime.map(RecoverTo::Time),
            self.until_gtid.map(RecoverTo::UntilGtid),
            self.before_gtid.map(RecoverTo::BeforeGtid),
            self.until_position.map(RecoverTo::UntilPosition),
        ];
        targets.into_iter().flatten().next()
    }
}

fn rate_limit(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| format!("{text:?} is not a number of bytes such as 200M"))
}

impl RecoverArgs {
    /// Runs the recovery, or only plans it.
    pub(crate) fn run(self, only_plan: bool) -> Outcome {
        let (json, format) = (self.json, self.log_format);
        let mut failure = match self.go(only_plan) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if json {
            failure.print_json(recovery::SCHEMA_VERSION);
        }
        if format == LogFormat::Json {
            progress::json_line(serde_json::json!({"event": "error", "error": failure.json()}));
            failure.told = true;
        }
        Err(failure)
    }

    fn go(self, only_plan: bool) -> Outcome {
        let mut config = Config::read(&self.config_file).map_err(hints::failure)?;
        if let Some(parallel) = self.parallel {
            config.misc.parallel = Some(parallel.into());
        }
        if !self.without_group.is_empty() {
            config.without_groups = self.without_group;
        }
        config.allow_partial |= self.allow_partial;
        config.misc.rate_limit = self.rate_limit.or(config.misc.rate_limit);
        let progress = Arc::new(Progress::new(self.log_format, config.misc.debug));
        let told = progress.clone();
        dbrecover_cli::log::to(Level::DEBUG, move |level, line| told.logged(level, line));
        let mut request = Request::new(config, progress.clone());
        request.recover_to = self.target.recover_to();
        request.skip_gtid = self.skip_gtid;
        request.earlier = match self.extend {
            Some(finished) => Earlier::Extend(finished),
            None if self.resume => Earlier::Resume,
            None => Earlier::Replace,
        };
        request.read_only_store = self.read_only_store;
        request.program = std::env::current_exe().ok();
        let sources = Sources {
            argument: self.password,
            file: self.password_file,
            environment: "DBRECOVER_PASSWORD",
            prompt: None,
        };
        request.password = sources.get().map_err(|e| Failure::new(Exit::Usage, e))?;
        let only_plan = only_plan || self.dry_run;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(act(request, only_plan, self.json, &progress));
        // Ends tasks and drops what they hold; but what hangs in a blocking read must not keep a cancelled program alive.
        runtime.shutdown_timeout(STOP);
        outcome
    }
}

async fn act(mut request: Request, only_plan: bool, json: bool, progress: &Progress) -> Outcome {
    let ended_by = end_on_signals(&request.cancel)?;
    let mut result = done(&request, only_plan).await;
    if matches!(result, Err(recovery::Error::NeedPassword { .. })) {
        tokio::select! {
            password = ask_password() => if let Some(password) = password? {
                request.password = Some(password);
                result = done(&request, only_plan).await;
            },
            () = request.cancel.cancelled() => result = Err(recovery::Error::Cancelled),
        }
    }
    progress.finish();
    let done = match result {
        Ok(done) => done,
        Err(recovery::Error::Cancelled) => {
            let exit = exit_by(*ended_by.borrow());
            let failure = Failure::new(exit, recovery::Error::Cancelled);
            return Err(match only_plan {
                true => failure,
                false => failure.hint(
                    "everything that ran was ended; --resume goes on where the journal of the work directory ends",
                ),
            });
        }
        Err(error) => return Err(hints::failure(error)),
    };
    let printed = print(&mut io::stdout().lock(), &done, json);
    Ok(printed.context("all was done, but the result could not be printed")?)
}

async fn done(request: &Request, only_plan: bool) -> Result<Done, recovery::Error> {
    Ok(match only_plan {
        true => Done::Plan(Box::new(recovery::plan(request).await?)),
        false => Done::Report(Box::new(recovery::recover(request).await?)),
    })
}

fn print(out: &mut impl Write, done: &Done, json: bool) -> io::Result<()> {
    match (done, json) {
        (Done::Plan(plan), true) => serde_json::to_writer_pretty(&mut *out, plan)?,
        (Done::Report(report), true) => serde_json::to_writer_pretty(&mut *out, report)?,
        (Done::Plan(plan), false) => return print_plan(out, plan),
        (Done::Report(report), false) => return print_report(out, report),
    }
    writeln!(out)
}

enum Done {
    Plan(Box<Plan>),
    Report(Box<Report>),
}

/// What a recovery that a signal ended ends with.
fn exit_by(kind: Option<SignalKind>) -> Exit {
    if kind == Some(SignalKind::interrupt()) { Exit::Interrupted } else { Exit::Terminated }
}

/// Cancels on SIGINT, SIGTERM and SIGHUP and remembers which one it was. A second SIGINT or SIGTERM, a second later, ends the
/// process at once.
fn end_on_signals(
    cancel: &CancellationToken,
) -> io::Result<tokio::sync::watch::Receiver<Option<SignalKind>>> {
    let (tell, told) = tokio::sync::watch::channel(None);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)?;
        let (tell, cancel) = (tell.clone(), cancel.clone());
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                tell.send_if_modified(|first| first.is_none() && first.replace(kind).is_none());
                cancel.cancel();
            }
            // A host that does not answer any more may hold up what is to be removed there. A terminal that is closed sends
            // its signal twice, and so does `timeout`: only what comes a second later is another one.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Ok(mut signals) = signal(kind) else { return };
            if kind != SignalKind::hangup() && signals.recv().await.is_some() {
                standard::tell("dbrecover: ended at once; what was being removed may be there still");
                std::process::exit(exit_by(Some(kind)) as i32);
            }
        });
    }
    Ok(told)
}

/// Asks for the password of the backups, if a person is there to ask. May be dropped while it waits: the terminal is as
/// it was then.
async fn ask_password() -> io::Result<Option<SecretString>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let _as_it_was = Terminal::remember();
    let (tell, told) = tokio::sync::oneshot::channel();
    // A read of a terminal cannot be ended: whoever waits for the thread would wait for a line.
    std::thread::spawn(move || tell.send(rpassword::prompt_password("Password of the backups: ")));
    match told.await.map_err(io::Error::other)? {
        // The key has sent a signal besides: that ends the wait.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => std::future::pending().await,
        password => Ok(Some(password?).filter(|p| !p.is_empty()).map(Into::into)),
    }
}

/// The state of the terminal, which comes back with the end of this value.
struct Terminal(Option<(File, Termios)>);

impl Terminal {
    fn remember() -> Self {
        let tty = File::open("/dev/tty").ok();
        Self(tty.and_then(|tty| tcgetattr(&tty).ok().map(|state| (tty, state))))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((tty, state)) = &self.0 {
            // What fails here leaves nothing to be done.
            let _ = tcsetattr(tty, OptionalActions::Now, state);
        }
    }
}

fn goal(goal: &Goal) -> String {
    match goal {
        Goal::Backup { backup } => format!("the consistent point of {backup}"),
        Goal::Time { text, instant } => format!("{text} ({})", instant.to_rfc3339()),
        Goal::Gtid { set, inclusive: true } => format!("GTID {set}, included"),
        Goal::Gtid { set, inclusive: false } => format!("just before GTID {set}"),
        Goal::Position { server: Some(server), position } => format!("{position} of {server}"),
        Goal::Position { server: None, position } => position.clone(),
    }
}

fn print_plan(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    writeln!(out, "recover to   {}", goal(&plan.goal))?;
    if let Some(finished) = &plan.extends {
        writeln!(out, "extends      {finished}")?;
    }
    writeln!(out, "store        {} {}", plan.store, plan.store_dir.display())?;
    writeln!(out, "job server   {} {}", plan.job_server, plan.work_dir.display())?;
    writeln!(out, "transfer     {}", plan.transfer)?;
    writeln!(out, "tools        {}", plan.tools.reason)?;
    if let Some(sending) = &plan.tools.sending {
        writeln!(out, "sender       {sending}")?;
    }
    writeln!(out, "prepare      {}", plan.prepare)?;
    if let Some(user) = &plan.mysqld_user {
        writeln!(out, "servers run  as {user}")?;
    }
    let more = if plan.compressed { ", and what compressed streams grow to" } else { "" };
    let (needed, free) = (bytes(plan.bytes_needed), bytes(plan.bytes_free));
    writeln!(out, "disk         at least {needed} needed{more}; {free} free")?;
    writeln!(out, "memory       {} for each of {} servers at once", bytes(plan.buffer_pool), plan.parallel)?;
    for group in &plan.without_groups {
        writeln!(out, "left out     the group {group}")?;
    }
    if !plan.looked_into.is_empty() {
        let names: Vec<_> = plan.looked_into.iter().map(ToString::to_string).collect();
        writeln!(out, "looked into  {}: decrypted on the job server to find the target", names.join(", "))?;
    }
    if let Some(name) = &plan.to_trash {
        writeln!(out, "to trash     {name}, which is not complete")?;
    }
    writeln!(out)?;
    let mut backups = table(["backup", "used for", "encrypted", "size", "consistent point"]);
    for backup in &plan.backups {
        backups.add_row([
            backup.name.to_string(),
            format!("{:?}", backup.used_for).to_lowercase(),
            if backup.encrypted { "yes" } else { "no" }.to_owned(),
            bytes(backup.bytes),
            backup.consistent_point.clone(),
        ]);
    }
    writeln!(out, "{backups}\n")?;
    for server in &plan.servers {
        writeln!(out, "{}  (group {}, backup of a {})", server.folder, server.group, role(server.role))?;
        for (number, step) in server.steps.iter().enumerate() {
            writeln!(out, "  {:>2}. {step}", number + 1)?;
        }
    }
    writeln!(out, "\nNothing was touched. `dbrecover recover` with the same options does it.")
}

fn role(role: backup_catalog::Role) -> &'static str {
    match role {
        backup_catalog::Role::Master => "master",
        backup_catalog::Role::Replica => "replica",
    }
}

fn print_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut servers = table(["group", "server", "replayed", "transactions", "state", "proved", "seconds"]);
    for server in &report.servers {
        servers.add_row([
            server.group.clone(),
            server.server.clone(),
            format!("{} → {} ({})", server.replay.from, server.replay.to, server.replay.method),
            server.replay.transactions.map_or_else(|| "?".to_owned(), |n| n.to_string()),
            server.gtid_state.clone(),
            if server.proved { "yes" } else { "no" }.to_owned(),
            format!("{:.1}", server.steps.iter().map(|s| s.seconds).sum::<f64>()),
        ]);
    }
    writeln!(out, "recovered to {}", goal(&report.plan.goal))?;
    for server in report.servers.iter().filter(|server| !server.partial.is_empty()) {
        writeln!(
            out,
            "{} may lack databases or tables: they were left out of {}",
            server.folder,
            server.partial.join(", ")
        )?;
    }
    writeln!(out, "{servers}")?;
    writeln!(
        out,
        "{} in {:.1} s; report: {}/recovery-report.json",
        report.work_dir.display(),
        report.seconds,
        report.work_dir.display()
    )?;
    // The closing line of older versions, which scripts look for.
    writeln!(out, "recovery succeed")
}

fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// A number of bytes for people.
fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
