//! A stand-in for xtrabackup with MySQL, because Percona's program is not in Debian.
//!
//! What is real: the physical copy (`CLONE LOCAL DATA DIRECTORY` of the running server), its binlog position,
//! GTIDs and LSN, the stream (packed by `mbstream`), the command line, the log lines and the exit status. What
//! is not: an incremental backup is a whole copy again that says which LSN it follows, `--prepare` of it puts
//! it in the place of its base, and a full copy needs no preparing (the server's own recovery does that).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use lab::server::{Flavor, Server};
use lab::sql::Sql;

#[derive(Debug, Default)]
struct Options {
    backup: bool,
    prepare: bool,
    decompress: bool,
    apply_log_only: bool,
    user: String,
    socket: PathBuf,
    datadir: PathBuf,
    target: PathBuf,
    incremental_dir: Option<PathBuf>,
    incremental_lsn: Option<u64>,
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtrabackup: error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut options = Options::default();
    for arg in std::env::args().skip(1) {
        let (flag, value) = arg.split_once('=').unwrap_or((&arg, ""));
        match flag {
            "--version" => {
                eprintln!(
                    "xtrabackup version 9.7.4-1 based on MySQL server 9.7.4 Linux (x86_64) (revision id: standin)"
                );
                return Ok(());
            }
            "--backup" => options.backup = true,
            "--prepare" => options.prepare = true,
            "--decompress" => options.decompress = true,
            "--apply-log-only" => options.apply_log_only = true,
            "--user" => options.user = value.to_owned(),
            "--socket" => options.socket = value.into(),
            "--datadir" => options.datadir = value.into(),
            "--target-dir" => options.target = value.into(),
            "--incremental-dir" => options.incremental_dir = Some(value.into()),
            "--incremental-lsn" => options.incremental_lsn = Some(value.parse()?),
            "--defaults-file" | "--no-defaults" | "--incremental" | "--tmpdir" | "--remove-original"
            | "--parallel" | "--use-memory" => {}
            "--stream" => ensure!(value == "xbstream", "unknown stream format {value}"),
            _ => bail!("unknown option '{flag}'"),
        }
    }
    match (options.backup, options.prepare, options.decompress) {
        (true, false, false) => backup(&options)?,
        (false, true, false) => prepare(&options)?,
        (false, false, true) => {}
        _ => bail!("give one of --backup, --prepare, --decompress"),
    }
    eprintln!("completed OK!");
    Ok(())
}

fn backup(options: &Options) -> Result<()> {
    let mut sql = Sql::socket(&options.socket, &options.user, None)?;
    let parent = options.datadir.parent().context("the data directory has a parent")?;
    let copy = parent.join(format!("clone-{}", std::process::id()));
    sql.run(format!("CLONE LOCAL DATA DIRECTORY = '{}'", copy.display()))?;
    let lsn: u64 = sql
        .value("SELECT JSON_EXTRACT(storage_engines, '$.InnoDB.LSN_checkpoint') FROM performance_schema.log_status")?
        .parse()?;
    let row = position(&copy)?;
    let [file, position, gtids] = row.as_slice() else { bail!("odd clone status") };
    let file = file.as_deref().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let position = position.as_deref().unwrap_or_default();
    let gtids = gtids.as_deref().unwrap_or_default();

    let kind = if options.incremental_lsn.is_some() { "incremental" } else { "full-backuped" };
    let from = options.incremental_lsn.unwrap_or(0);
    fs::write(
        copy.join("xtrabackup_checkpoints"),
        format!(
            "backup_type = {kind}\nfrom_lsn = {from}\nto_lsn = {lsn}\nlast_lsn = {lsn}\nflushed_lsn = {lsn}\n\
             redo_memory = 0\nredo_frames = 0\n"
        ),
    )?;
    fs::write(copy.join("xtrabackup_binlog_info"), format!("{file}\t{position}\t{gtids}\n"))?;
    fs::write(
        copy.join("xtrabackup_info"),
        format!(
            "tool_name = xtrabackup\ntool_version = 9.7.4-1\nserver_version = 9.7.4\n\
             binlog_pos = filename '{file}', position '{position}', GTID of the last change '{gtids}'\n\
             innodb_from_lsn = {from}\ninnodb_to_lsn = {lsn}\npartial = N\nincremental = {}\nformat = xbstream\n\
             compressed = N\nencrypted = N\n",
            if from == 0 { "N" } else { "Y" }
        ),
    )?;
    fs::write(
        copy.join("backup-my.cnf"),
        "[mysqld]\ninnodb_checksum_algorithm=crc32\ninnodb_data_file_path=ibdata1:12M:autoextend\n\
         innodb_page_size=16384\ninnodb_undo_directory=./\ninnodb_undo_tablespaces=2\nserver_id=0\n\
         innodb_log_checksums=ON\ninnodb_redo_log_encrypt=OFF\ninnodb_undo_log_encrypt=OFF\n",
    )?;

    // A clone has the tablespaces; the files of other engines and the tables' descriptions beside them
    // come from the data directory, as xtrabackup copies them too.
    other_files(&options.datadir, &copy)?;
    let mut names = Vec::new();
    list(&copy, Path::new(""), &mut names)?;
    names.sort();
    let status = Command::new("mbstream")
        .arg("-c")
        .args(&names)
        .current_dir(&copy)
        .stdin(Stdio::null())
        .status()
        .context("mbstream cannot be run")?;
    ensure!(status.success(), "mbstream ended with {status}");
    std::io::stdout().flush()?;
    fs::remove_dir_all(&copy)?;
    eprintln!("xtrabackup: The latest check point (for incremental): '{lsn}'");
    eprintln!(
        "MySQL binlog position: filename '{file}', position '{position}', GTID of the last change '{gtids}'"
    );
    Ok(())
}

/// Binlog file, position and GTIDs that a copy holds: only a server that starts on it finds out, so one does,
/// on a copy of the copy.
fn position(copy: &Path) -> Result<Vec<Option<String>>> {
    let temp = tempfile::Builder::new().prefix("dbc").tempdir()?;
    let data = temp.path().join("data");
    ensure!(Command::new("cp").arg("-a").arg(copy).arg(&data).status()?.success(), "cp failed");
    let server = Server::start_on(
        Flavor::MySql,
        temp.path(),
        &data,
        &["--skip-log-bin", "--mysqlx=0", "--plugin-load-add=mysql_clone.so"],
    )?;
    let mut sql = server.sql()?;
    let rows =
        sql.rows("SELECT binlog_file, binlog_position, gtid_executed FROM performance_schema.clone_status")?;
    rows.into_iter().next().context("no clone status")
}

/// Copies what lies in schema directories and is not InnoDB's.
fn other_files(datadir: &Path, copy: &Path) -> Result<()> {
    for schema in fs::read_dir(datadir)?.flatten().filter(|entry| entry.path().is_dir()) {
        let into = copy.join(schema.file_name());
        if schema.file_name().to_string_lossy().starts_with('#') {
            continue;
        }
        fs::create_dir_all(&into)?;
        for file in fs::read_dir(schema.path())?.flatten() {
            let to = into.join(file.file_name());
            if !file.file_name().to_string_lossy().ends_with(".ibd") && !to.exists() {
                fs::copy(file.path(), to)?;
            }
        }
    }
    Ok(())
}

/// Regular files below `base`, relative to it.
fn list(base: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(base.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(base, &name, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

fn prepare(options: &Options) -> Result<()> {
    let target = &options.target;
    let checkpoints = fs::read_to_string(target.join("xtrabackup_checkpoints")).context("not a backup")?;
    let base = value(&checkpoints, "to_lsn")?;
    if let Some(dir) = &options.incremental_dir {
        let incremental =
            fs::read_to_string(dir.join("xtrabackup_checkpoints")).context("not an incremental backup")?;
        ensure!(value(&incremental, "backup_type")? == "incremental", "not an incremental backup");
        let from = value(&incremental, "from_lsn")?;
        ensure!(from == base, "the incremental backup starts at LSN {from}, its base ends at {base}");
        for entry in fs::read_dir(target)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let status = Command::new("mv").arg(entry.path()).arg(target).status()?;
            ensure!(status.success(), "mv ended with {status}");
        }
    } else {
        ensure!(value(&checkpoints, "backup_type")? != "incremental", "an incremental backup needs its base");
    }
    let kind = if options.apply_log_only { "log-applied" } else { "full-prepared" };
    let now = fs::read_to_string(target.join("xtrabackup_checkpoints"))?;
    let rest: String = now.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(target.join("xtrabackup_checkpoints"), format!("backup_type = {kind}\n{rest}"))?;
    Ok(())
}

fn value<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
        .with_context(|| format!("xtrabackup_checkpoints has no {key}"))
}
