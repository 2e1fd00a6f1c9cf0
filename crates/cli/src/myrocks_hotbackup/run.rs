//! From arguments to one call of the library, and from its result to words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dbrecover_cli::standard::{self, say, tell};
use dbrecover_cli::{Exit, Failure, Outcome};
use rocks_hotbackup::{
    Checksum, Depth, Error, Event, Locking, Manifest, MySqlServer, Options, Owner, Plan, Report, Restore,
    Stop, SystemClock, Targets, Wanted,
};
use serde::Serialize;

use crate::cli::{Args, Backup, Command, Direct, Stream, Sums};
use crate::failures::failure;
use crate::print::Printer;
use crate::{account, cli, output, signals};

/// The version of the form of everything printed as JSON.
const SCHEMA: u32 = 1;

const GB: f64 = (1u64 << 30) as f64;

/// Does what the arguments say.
pub(crate) fn run(args: Args) -> Outcome {
    let stop = Stop::new();
    match args.command {
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut cli::command(), "myrocks-hotbackup", &mut std::io::stdout());
            Ok(())
        }
        Some(Command::Man) => Ok(clap_mangen::Man::new(cli::command()).render(&mut std::io::stdout())?),
        Some(Command::Restore(args)) => {
            signals::watch(&stop)?;
            restore(args, &stop)
        }
        Some(Command::Verify(args)) => verify(args, &stop),
        None => {
            signals::watch(&stop)?;
            match (args.backup.move_back, args.backup.stream) {
                (true, _) => move_back(&args.backup, &stop),
                (false, Stream::Wdt) if !args.backup.dry_run => wdt(&args.backup, &stop),
                (false, _) => backup(&args.backup, &stop),
            }
        }
    }
}

/// The path of an option; an empty one is none, as in older scripts.
fn given(path: &Option<PathBuf>) -> Option<&PathBuf> {
    path.as_ref().filter(|path| !path.as_os_str().is_empty())
}

fn options(args: &Backup) -> Result<Options, Failure> {
    let mut options = Options::default();
    options.checkpoint_dir = args.checkpoint_dir.clone();
    options.interval = Duration::from_secs(args.interval);
    options.datadir = given(&args.datadir).cloned();
    options.skip_definition_check = args.skip_check_frm_timestamp;
    options.consistent = args.consistent;
    options.no_lock = args.no_lock;
    options.base = match &args.incremental_base {
        Some(path) => Some(Manifest::read(path).map_err(failure)?),
        None => None,
    };
    options.rate_limit = args.rate_limit;
    options.checksum = match args.checksum {
        Sums::Crc32 => Checksum::Crc32,
        Sums::Sha256 => Checksum::Sha256,
        Sums::None => Checksum::None,
    };
    options.readers = args.parallel.into();
    options.direct = match args.direct_io {
        Direct::Auto => None,
        Direct::On => Some(true),
        Direct::Off => Some(false),
    };
    options.binlogs = !args.no_binlogs;
    options.wait_for = args.debug_signal_file.clone();
    options.copied_checkpoint = args.allow_copied_checkpoint;
    options.without_dictionary = args.allow_no_dictionary;
    options.base_of_another_server = args.allow_other_server;
    Ok(options)
}

fn backup(args: &Backup, stop: &Stop) -> Outcome {
    let options = options(args)?;
    if args.dry_run {
        let mut server = MySqlServer::new(account::account(&args.account)?).map_err(failure)?;
        return print_plan(&rocks_hotbackup::plan(&mut server, &options).map_err(failure)?, args.json);
    }
    let mut sink = output::sink(args)?;
    // The standard output may be the backup itself.
    taken(args, stop, args.to.is_none(), |server, clock, tell| {
        rocks_hotbackup::backup(server, &mut *sink, clock, &options, stop, tell)
    })
}

/// Takes a backup in one way or the other, and tells what happens and what became of it.
fn taken(
    args: &Backup,
    stop: &Stop,
    to_stderr: bool,
    take: impl FnOnce(&mut MySqlServer, &SystemClock, &mut dyn FnMut(&Event)) -> Result<Report, Error>,
) -> Outcome {
    let server = MySqlServer::new(account::account(&args.account)?).map_err(failure)?;
    let mut server = server.stopped_by(stop);
    let mut printer = Printer::new(args.json, args.quiet);
    let report = take(&mut server, &SystemClock::default(), &mut |e: &Event| printer.event(e));
    printer.end();
    let report = report.map_err(failure)?;
    if args.json {
        return print_json("backup", &report, to_stderr);
    }
    if !args.quiet {
        print_report(&printer, &report);
    }
    Ok(())
}

fn print_report(printer: &Printer, report: &Report) {
    let line = |text: String| printer.line("INFO", &text);
    line(format!(
        "Sent {:.2} GB of sst files, {} files in total, in {} rounds.",
        report.data_bytes as f64 / GB,
        report.data_files,
        report.rounds
    ));
    if let Some(base) = &report.base {
        line(format!(
            "{} more data files ({:.2} GB) are in the base {base}.",
            report.base_files,
            report.base_bytes as f64 / GB
        ));
    }
    line(format!(
        "Sent {} files of the server, {:.3} GB.",
        report.server_files,
        report.server_bytes as f64 / GB
    ));
    if let Some(binlog) = &report.binlog {
        let at = &binlog.before;
        let word = if binlog.exact { "Binlog position" } else { "Binlog position, about" };
        line(format!("{word}: {} {} {}", at.file, at.position, at.gtid));
    }
    for left in &report.left_out {
        printer.line(
            "WARNING",
            &format!(
                "NOT in this backup: {} tables of {}, which need a backup of their own",
                left.tables, left.engine
            ),
        );
    }
    line(format!("All Backups Done. {:.1} seconds, id {}", report.seconds, report.id));
}

fn print_plan(plan: &Plan, json: bool) -> Outcome {
    if json {
        return print_json("plan", plan, false);
    }
    say(format_args!("server             {}", plan.version));
    say(format_args!("data directory     {}", plan.datadir.display()));
    say(format_args!("RocksDB            {}", plan.rocksdb_datadir.display()));
    say(format_args!("checkpoints        {}", plan.checkpoint_dir.display()));
    say(format_args!("direct I/O         {}", if plan.direct { "on" } else { "off" }));
    say(format_args!("under the lock     {}", words_of(plan.lock)));
    say(format_args!("data files         {} ({:.3} GB)", plan.data_files, plan.data_bytes as f64 / GB));
    if plan.base_files > 0 {
        say(format_args!("in the base        {} data files", plan.base_files));
    }
    say(format_args!("server files       {} ({:.3} GB)", plan.server_files, plan.server_bytes as f64 / GB));
    let skipped: Vec<_> = plan.skipped.iter().map(|p| p.display().to_string()).collect();
    say(format_args!("left out           {}", skipped.join(" ")));
    for left in &plan.left_out {
        say(format_args!(
            "NOT in the backup  {} tables of {} ({:.3} GB)",
            left.tables,
            left.engine,
            left.bytes as f64 / GB
        ));
    }
    for text in &plan.warnings {
        say(format_args!("WARNING            {text}"));
    }
    Ok(())
}

fn words_of(lock: Locking) -> &'static str {
    match lock {
        Locking::None => "nothing",
        Locking::Checkpoint => "the last checkpoint, and copying the server's files aside",
        _ => "copying the server's files aside",
    }
}

/// Prints a result as one JSON document.
fn print_json(kind: &str, value: &impl Serialize, to_stderr: bool) -> Outcome {
    let mut document = serde_json::json!({ "schema_version": SCHEMA, "kind": kind });
    if let (Some(document), serde_json::Value::Object(value)) =
        (document.as_object_mut(), serde_json::to_value(value)?)
    {
        document.extend(value);
    }
    match to_stderr {
        true => tell(&document),
        false => say(&document),
    }
    Ok(())
}

fn owner(text: Option<&str>) -> Result<Option<Owner>, Failure> {
    text.map(Owner::parse).transpose().map_err(failure)
}

fn move_back(args: &Backup, stop: &Stop) -> Outcome {
    let (Some(datadir), Some(rocksdb), Some(wal), Some(backup)) =
        (given(&args.datadir), &args.rocksdb_datadir, &args.rocksdb_waldir, &args.backup_dir)
    else {
        return Err(Failure::usage(
            "--move-back needs --datadir, --rocksdb-datadir, --rocksdb-waldir and --backup-dir",
        ));
    };
    let targets =
        Targets { datadir: datadir.clone(), rocksdb_datadir: rocksdb.clone(), rocksdb_waldir: wal.clone() };
    let owner = owner(args.owner.as_deref())?;
    if args.dry_run {
        let plan = rocks_hotbackup::plan_move_back(backup, &targets).map_err(failure)?;
        warn_of_unknown(backup, plan.complete);
        return moved(args, "move-back-plan", &plan, &format!("would move {} entries", plan.entries));
    }
    let done = rocks_hotbackup::move_back(backup, &targets, owner, stop).map_err(failure)?;
    warn_of_unknown(backup, done.complete);
    moved(args, "move-back", &done, &format!("moved {} entries", done.entries))
}

fn warn_of_unknown(backup: &Path, is_known: bool) {
    if !is_known {
        tell(format_args!(
            "myrocks-hotbackup: warning: {} has no manifest: another program made it, or it was cut off; if all files were \
             there nobody knows",
            backup.display()
        ));
    }
}

/// Prints what became of a move-back, or would.
fn moved(args: &Backup, kind: &str, result: &impl Serialize, words: &str) -> Outcome {
    if args.json {
        return print_json(kind, result, false);
    }
    let shown = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
    if !args.quiet || args.dry_run {
        say(format_args!("{words} of {} to {}", shown(&args.backup_dir), shown(&args.datadir)));
    }
    Ok(())
}

/// The library takes standard input as it finds it.
fn check_input(backups: &[PathBuf]) -> Outcome {
    if backups.iter().any(|backup| backup.as_os_str() == "-") {
        standard::input()?;
    }
    Ok(())
}

fn restore(args: cli::Restore, stop: &Stop) -> Outcome {
    check_input(&args.from)?;
    let mut to = Wanted::new(args.datadir);
    to.rocksdb_datadir = args.rocksdb_datadir;
    to.rocksdb_waldir = args.rocksdb_waldir;
    let mut request = Restore::new(args.from, to);
    request.password = output::key(args.key_file)?;
    request.owner = owner(args.owner.as_deref())?;
    request.without_manifest = args.without_manifest;
    request.skip_verify = args.skip_verify;
    request.staging = args.staging;
    let restored = rocks_hotbackup::restore(&request, stop).map_err(failure)?;
    let Targets { datadir, rocksdb_datadir, rocksdb_waldir } = &restored.targets;
    if restored.guessed {
        tell(format_args!(
            "myrocks-hotbackup: warning: the backup does not say where the server had RocksDB's files; a server whose \
             rocksdb_datadir is not {} or whose rocksdb_wal_dir is not {} would start without data: look into its my.cnf",
            rocksdb_datadir.display(),
            rocksdb_waldir.display()
        ));
    }
    if args.json {
        return print_json("restore", &restored, false);
    }
    if let Some(verified) = &restored.verified {
        say(format_args!(
            "verified {} files, {} bytes, {} live data files",
            verified.files, verified.bytes, verified.live_files
        ));
        for text in &verified.unchecked {
            say(format_args!("  not checked: {text}"));
        }
    }
    if restored.verified.is_none() && !restored.moved.complete {
        say(format_args!("  not checked: if all files are there, and what is in them"));
    }
    say(format_args!("restored {} backups to {}", restored.backups, datadir.display()));
    say(format_args!("RocksDB's data (rocksdb_datadir) are in {}", rocksdb_datadir.display()));
    say(format_args!("its write-ahead logs (rocksdb_wal_dir) are in {}", rocksdb_waldir.display()));
    if let Some(binlog) = &restored.binlog {
        let at = &binlog.before;
        let word = if binlog.exact { "" } else { "about " };
        say(format_args!("binlog position {word}{} {} {}", at.file, at.position, at.gtid));
    }
    for left in &restored.left_out {
        say(format_args!("NOT restored: {} tables of {}", left.tables, left.engine));
    }
    Ok(())
}

fn verify(args: cli::Verify, stop: &Stop) -> Outcome {
    check_input(&args.backups)?;
    let key = output::key(args.key_file)?;
    let depth = Depth { quick: args.quick, blocks: args.blocks };
    let (mut bad, mut failed) = (0, None);
    let mut documents = Vec::new();
    for backup in &args.backups {
        let shown = backup.display();
        let verified = match rocks_hotbackup::verify(backup, key.as_ref(), depth, stop) {
            Ok(verified) => verified,
            Err(error) => {
                let is_stop = matches!(error, Error::Stopped { .. });
                let failure = failure(error);
                match args.json {
                    true => documents
                        .push(serde_json::json!({ "backup": shown.to_string(), "error": failure.json() })),
                    false if args.backups.len() > 1 => {
                        say(format_args!("{shown}: not verified: {:#}", failure.error))
                    }
                    false => {}
                }
                if is_stop {
                    failed = Some(failure);
                    break;
                }
                // The others have something to say, too; the first failure is the exit code.
                failed.get_or_insert(failure);
                continue;
            }
        };
        bad += usize::from(!verified.is_sound());
        if args.json {
            let mut document = serde_json::to_value(&verified)?;
            document["backup"] = shown.to_string().into();
            documents.push(document);
            continue;
        }
        let word = if verified.is_sound() { "sound" } else { "DAMAGED" };
        say(format_args!(
            "{shown}: {word}, {} files, {} bytes, {} live data files, {} of them in the base, {} blocks",
            verified.files, verified.bytes, verified.live_files, verified.in_base, verified.blocks
        ));
        for text in &verified.unchecked {
            say(format_args!("  not checked: {text}"));
        }
        for problem in &verified.problems {
            say(format_args!("  {problem}"));
        }
    }
    if args.json {
        say(format_args!(
            "{}",
            serde_json::json!({ "schema_version": SCHEMA, "kind": "verify", "backups": documents })
        ));
    }
    match (failed, bad) {
        (Some(failure), _) => Err(failure),
        (None, 0) => Ok(()),
        (None, n) => Err(Failure::new(
            Exit::Damaged,
            anyhow::Error::msg(format!("{n} of {} backups are damaged", args.backups.len())),
        )),
    }
}

fn wdt(args: &Backup, stop: &Stop) -> Outcome {
    let (Some(destination), Some(directory)) = (&args.destination, &args.backup_dir) else {
        return Err(Failure::usage("--stream wdt needs --destination and --backup-dir"));
    };
    // An option that is not heeded would be a backup that is not what was asked for: above all, not encrypted.
    for (given, name) in [
        (args.to.is_some(), "--to"),
        (args.compress.is_some(), "--compress"),
        (args.encrypt.is_some(), "--encrypt"),
        (args.rate_limit.is_some(), "--rate-limit (but --avg-mbytes-per-sec)"),
    ] {
        if given {
            return Err(Failure::usage(format!("--stream wdt has no {name}")));
        }
    }
    let request = rocks_hotbackup::wdt::Request {
        options: options(args)?,
        host: output::destination(destination, args)?,
        directory: directory.clone(),
        megabytes_per_second: args.avg_mbytes_per_sec.0,
        sender_options: words(&args.extra_wdt_sender_options)?,
        receiver_options: words(&args.extra_wdt_receiver_options)?,
        program: "wdt".into(),
    };
    taken(args, stop, false, |server, clock, tell| {
        rocks_hotbackup::wdt::backup(server, clock, &request, stop, tell)
    })
}

/// Words of an option as a shell would split them.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    shlex::split(text).ok_or_else(|| Failure::usage(format!("the quotes in {text:?} do not match")))
}
