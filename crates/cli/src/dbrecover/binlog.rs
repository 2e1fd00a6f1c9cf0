//! `dbrecover binlog`: look into binlogs, find a statement, and learn the exact place to stop before it.

mod failure;
mod show;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use binlog_replay::{
    Change, FileEnd, FileInfo, Filter, Found, Gtid, Index, Position, StatementKind, TransactionMark,
    event::RowsKind, find, scan, scan_file,
};
use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use clap::{Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use dbrecover_cli::{Outcome, Printable, with_causes};
use serde::Serialize;

use self::failure::{damaged, failure};

/// Version of the JSON that these commands print.
const SCHEMA_VERSION: u32 = 1;

/// Look into binlogs: list files, find statements, show transactions.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line per file: size, server, times, GTIDs, transactions; then what is missing between files.
    List(List),
    /// Everything about files: versions, GTIDs, largest transaction, schema changes.
    Info(Info),
    /// Transactions that touch a table, or hold a text, with the place to stop before each.
    Find(Find),
    /// One transaction as readable SQL and rows.
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Folders of binlogs; of a file that lies in several, the longest copy is used.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Info {
    /// Binlogs, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Find {
    /// Folders of binlogs.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Only what touches this table, as TABLE or SCHEMA.TABLE.
    #[arg(long, value_name = "[SCHEMA.]TABLE")]
    table: Option<String>,
    /// Only what does this to it; may be given several times.
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    /// Only statements or rows that hold this text, upper or lower case.
    #[arg(long, value_name = "TEXT")]
    where_text: Option<String>,
    /// Only commits at this time or later: RFC 3339, or `YYYY-MM-DD HH:MM:SS[.ffffff]` in local time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Only commits before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
    /// Print at most this many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Folders of binlogs.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The transaction that starts at, or spans, this position.
    #[arg(long, value_name = "FILE:POS", conflicts_with = "gtid", required_unless_present = "gtid")]
    at: Option<Position>,
    /// The transaction with this GTID.
    #[arg(long, value_name = "GTID")]
    gtid: Option<Gtid>,
    /// Print at most this many rows of each row event.
    #[arg(long, value_name = "N", default_value_t = 100)]
    rows: usize,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// CREATE, ALTER, DROP, TRUNCATE, RENAME, GRANT, REVOKE.
    Ddl,
    /// Inserted rows, or an INSERT, REPLACE or LOAD statement.
    Insert,
    /// Updated rows, or an UPDATE statement.
    Update,
    /// Deleted rows, or a DELETE statement.
    Delete,
}

impl From<Kind> for StatementKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ddl => Self::Ddl,
            Kind::Insert => Self::Insert,
            Kind::Update => Self::Update,
            Kind::Delete => Self::Delete,
        }
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    match args.command {
        Command::List(args) => list(&args),
        Command::Info(args) => info(&args),
        Command::Find(args) => run_find(args),
        Command::Show(args) => show::run(&args),
    }
}

/// A time as RFC 3339, or local without a zone.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let naive = local.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let naive = naive.ok_or("expected RFC 3339, or YYYY-MM-DD HH:MM:SS in local time")?;
    match Local.from_local_datetime(&naive) {
        chrono::LocalResult::Single(time) => Ok(time.with_timezone(&Utc)),
        chrono::LocalResult::Ambiguous(..) => {
            Err("the clocks were set back then, so it was twice: add a zone, as in 2026-10-25T02:30:00+02:00"
                .into())
        }
        chrono::LocalResult::None => Err("the clocks were set forward then, so it never was".into()),
    }
}

#[derive(Serialize)]
struct Document<T> {
    schema_version: u32,
    #[serde(flatten)]
    content: T,
}

fn print_json(content: impl Serialize) -> Outcome {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &Document { schema_version: SCHEMA_VERSION, content })
        .map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// A table without lines, for people and for `cut`.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for at in columns {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn when(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6fZ").to_string()
}

fn seconds(time: Option<DateTime<Utc>>) -> String {
    or_dash(time.map(|t| t.format("%Y-%m-%d %H:%M:%SZ")))
}

fn ending(file: &FileInfo) -> String {
    match (&file.damage, &file.ends) {
        (Some(_), _) => "DAMAGED".into(),
        (_, Some(FileEnd::Rotate { next })) => format!("→ {next}"),
        (_, Some(FileEnd::Stop)) => "stop".into(),
        (_, Some(FileEnd::Open { cut: None })) => "open".into(),
        (_, Some(FileEnd::Open { cut: Some(_) })) => "open, cut".into(),
        (_, Some(FileEnd::Silent)) => "no end".into(),
        (_, None) => "-".into(),
    }
}

/// GTIDs on one line, long sets cut.
fn gtids(file: &FileInfo) -> String {
    let mut text = or_dash(file.gtids_added.as_ref());
    if text.len() > 80 {
        text.truncate(79);
        text.push('…');
    }
    text
}

fn list(args: &List) -> Outcome {
    let index = scan(&args.folders).map_err(failure)?;
    let gaps: Vec<String> = index.gaps().iter().map(ToString::to_string).collect();
    if args.json {
        #[derive(Serialize)]
        struct Content<'a> {
            #[serde(flatten)]
            index: &'a Index,
            gaps: &'a [String],
        }
        print_json(Content { index: &index, gaps: &gaps })?;
        return damaged(&index.files);
    }
    let mut out = table(&[
        "FILE",
        "BYTES",
        "SERVER",
        "VERSION",
        "FIRST COMMIT",
        "LAST COMMIT",
        "TRX",
        "DDL",
        "END",
        "GTIDS",
    ]);
    for f in &index.files {
        out.add_row([
            f.name.clone(),
            f.size.to_string(),
            f.server_id.to_string(),
            or_dash(f.version.as_ref()),
            seconds(f.first_time),
            seconds(f.last_time),
            f.transactions.to_string(),
            f.ddl_count.to_string(),
            ending(f),
            gtids(f),
        ]);
    }
    right(&mut out, &[1, 2, 6, 7]);
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{out}")?;
    for gap in &gaps {
        writeln!(stdout, "gap: {gap}")?;
    }
    drop(stdout);
    damaged(&index.files)
}

fn info(args: &Info) -> Outcome {
    let mut files = Vec::new();
    for path in &args.paths {
        match path.is_dir() {
            true => files.extend(scan(&[path]).map_err(failure)?.files),
            false => files.push(scan_file(path).map_err(failure)?),
        }
    }
    if args.json {
        #[derive(Serialize)]
        struct Content<'a> {
            files: &'a [FileInfo],
        }
        print_json(Content { files: &files })?;
        return damaged(&files);
    }
    let mut out = io::stdout().lock();
    for (at, f) in files.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        print_info(&mut out, f)?;
    }
    drop(out);
    damaged(&files)
}

fn print_info(out: &mut impl Write, f: &FileInfo) -> io::Result<()> {
    writeln!(out, "{}", f.path.display())?;
    let mut line = |name: &str, value: &dyn Display| writeln!(out, "  {name:<14} {value}");
    line("bytes", &f.size)?;
    line("version", &or_dash(f.version.as_ref().map(|v| format!("{} {}", v.flavor, v.text))))?;
    line("server id", &f.server_id)?;
    if let Some(uuid) = f.server_uuid {
        line("server uuid", &uuid)?;
    }
    if !f.domains.is_empty() {
        let domains: Vec<String> = f.domains.iter().map(u32::to_string).collect();
        line("domains", &domains.join(", "))?;
    }
    let checksum = f.checksum.map(|c| if c.is_empty() { "none" } else { "CRC-32" });
    let state = match (&f.damage, checksum) {
        (Some(_), _) => "not all could be read".to_owned(),
        (None, Some("CRC-32")) => format!("CRC-32, all {} events good", f.events),
        (None, other) => or_dash(other),
    };
    line("checksums", &state)?;
    line("begun", &seconds(f.created))?;
    line("first commit", &or_dash(f.first_time.map(when)))?;
    line("last commit", &or_dash(f.last_time.map(when)))?;
    line("GTIDs before", &or_dash(f.gtids_before.as_ref()))?;
    line("GTIDs added", &or_dash(f.gtids_added.as_ref()))?;
    line("transactions", &f.transactions)?;
    if f.anonymous > 0 {
        line("without GTID", &f.anonymous)?;
    }
    if let Some(largest) = &f.largest {
        let gtid = largest.gtid.as_ref().map(|g| format!(" ({g})")).unwrap_or_default();
        line("largest", &format!("{} bytes at {}{gtid}", largest.bytes, largest.start))?;
    }
    line("end", &format!("{} at {}", ending(f), f.end))?;
    for copy in &f.copies {
        line("shorter copy", &copy.display())?;
    }
    if let Some(damage) = &f.damage {
        line("damage", &with_causes(&**damage))?;
    }
    line("schema changes", &f.ddl_count)?;
    for ddl in &f.ddl {
        let text = one_line(&ddl.text);
        writeln!(out, "    {} {}:{} {}", when(ddl.time), f.name, ddl.start, text)?;
    }
    Ok(())
}

/// A statement as it goes onto a terminal.
fn one_line(text: &str) -> String {
    Printable(text.split_whitespace().collect::<Vec<_>>().join(" ")).to_string()
}

fn run_find(args: Find) -> Outcome {
    let (schema, table_name) = match args.table {
        None => (None, None),
        Some(name) => match name.split_once('.') {
            Some((schema, table)) => {
                (Some(schema.trim_matches('`').to_owned()), Some(table.trim_matches('`').to_owned()))
            }
            None => (None, Some(name.trim_matches('`').to_owned())),
        },
    };
    let filter = Filter {
        schema,
        table: table_name,
        kinds: args.kind.into_iter().map(Into::into).collect(),
        text: args.where_text,
        since: args.since,
        until: args.until,
    };
    let index = scan(&args.folders).map_err(failure)?;
    let mut all: Vec<Found> = Vec::new();
    let mut more = false;
    find(&index, &filter, |found| {
        more = all.len() >= args.limit;
        if !more {
            all.push(found);
        }
        !more
    })
    .map_err(failure)?;
    if args.json {
        #[derive(Serialize)]
        struct Content<'a> {
            transactions: &'a [Found],
            more: bool,
        }
        return print_json(Content { transactions: &all, more });
    }
    let mut out = io::stdout().lock();
    for found in &all {
        print_mark(&mut out, &found.mark)?;
        for Change { schema, table, kind, rows } in &found.changes {
            writeln!(out, "    {} of {rows} rows in {schema}.{table}", verb(*kind))?;
        }
        for statement in &found.statements {
            writeln!(out, "    {}", one_line(statement))?;
        }
        let time = found.mark.time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        // The halves of an ALTER are left out together.
        let other = found.other_half.as_ref().map(|other| format!(",{other}")).unwrap_or_default();
        match &found.mark.gtid {
            Some(gtid) => writeln!(
                out,
                "    to stop before it: --before-gtid {gtid}, or --stop-datetime {time}; to leave it out: --skip-gtid {gtid}{other}"
            )?,
            None => writeln!(
                out,
                "    to stop before it: --until-position {}, or --stop-datetime {time}",
                found.mark.start
            )?,
        }
    }
    if more {
        dbrecover_cli::standard::tell("dbrecover: there are more; see --limit");
    }
    Ok(())
}

fn verb(kind: RowsKind) -> &'static str {
    match kind {
        RowsKind::Insert => "insert",
        RowsKind::Update => "update",
        RowsKind::Delete => "delete",
    }
}

fn print_mark(out: &mut impl Write, mark: &TransactionMark) -> io::Result<()> {
    writeln!(out, "{} {} to {} {}", when(mark.time), mark.start, mark.end.pos, or_dash(mark.gtid.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_zone_or_are_local() {
        assert_eq!(parse_time("2026-02-03T04:05:06.5Z").unwrap().timestamp_subsec_millis(), 500);
        assert_eq!(
            parse_time("2026-02-03T04:05:06+02:00").unwrap().to_rfc3339(),
            "2026-02-03T02:05:06+00:00"
        );
        assert!(parse_time("2026-02-03 04:05:06").is_ok());
        for text in ["", "now", "2026-02-03", "2026-02-30 00:00:00", "04:05:06"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
