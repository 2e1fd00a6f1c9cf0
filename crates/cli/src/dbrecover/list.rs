//! `dbrecover list`: what a store holds, and which moments can be reached.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use ::backup_catalog::{Backup, Catalog, DirStore, Listed, Role, State, Window};
use anyhow::Context;
use chrono::NaiveDateTime;
use dbrecover_cli::{Exit, Failure, Outcome, Printable};
use recovery::Zone;
use serde::Serialize;

use crate::hints;

/// Version of the JSON document; it grows when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Columns of the timeline when the terminal does not say how wide it is.
const DEFAULT_WIDTH: usize = 100;

/// Chains that the timeline shows at most, the newest ones.
const MAX_LANES: usize = 12;

/// Show what a backup store holds, and which moments can be reached.
///
/// Nothing in the store is changed. The exit status is 3 when nothing can be recovered from it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's base directory, on this machine
    #[arg(long, value_name = "DIR", conflicts_with = "config_file")]
    store: Option<PathBuf>,
    /// The configuration file that names the store, on whatever machine
    #[arg(long, value_name = "FILE", default_value = "recovery.conf")]
    config_file: PathBuf,
    /// How to print it
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Format {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Draw the timeline also when standard output is no terminal
    #[arg(long, conflicts_with = "json")]
    timeline: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    let json = args.format.json;
    list(args).inspect_err(|failure| {
        // The document about a store of which nothing can be recovered was printed.
        if json && failure.exit != Exit::Nothing {
            failure.print_json(SCHEMA_VERSION);
        }
    })
}

fn list(args: Args) -> Outcome {
    let Some(store) = args.store else { return configured(&args.config_file, args.format) };
    let catalog = Catalog::read(&DirStore::new(&store))
        .with_context(|| format!("the store {}", store.display()))
        .map_err(|e| Failure::new(Exit::Unusable, e))?;
    let clock = Clock { zone: None, catalog: &catalog };
    print(&catalog, &clock, &store.display().to_string(), args.format)
}

/// The clock on which moments are compared and shown.
struct Clock<'a> {
    /// The backup machine's zone; `None`: nobody says it, and its local times are all there is.
    zone: Option<Zone>,
    /// The store with its consistent points in UTC, or as it has them. Local times go backwards when clocks are set back.
    catalog: &'a Catalog,
}

impl Clock<'_> {
    /// A moment as the backup machine showed it, with the offset where it showed the same time twice.
    fn shown(&self, at: NaiveDateTime) -> String {
        self.zone.map_or_else(|| at.to_string(), |zone| zone.shown(at.and_utc()))
    }

    fn instant(&self, at: NaiveDateTime) -> Option<String> {
        self.zone.map(|_| at.and_utc().to_rfc3339())
    }
}

/// The store that a configuration file names.
fn configured(file: &Path, format: Format) -> Outcome {
    let config = recovery::Config::read(file).map_err(hints::failure)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (catalogs, host) = runtime.block_on(async {
        let host = recovery::Hosts::connect_store(&config).await.map_err(hints::failure)?;
        let catalogs = async {
            let catalog = recovery::read_catalog(&host, &config.store_dir).await?;
            let in_utc = recovery::in_utc(&host, &config, &catalog).await?;
            Ok::<_, recovery::Error>((catalog, in_utc))
        };
        let catalogs = catalogs.await.map_err(hints::failure);
        let name = host.name().to_owned();
        host.close().await;
        Ok::<_, Failure>((catalogs?, name))
    })?;
    let (catalog, in_utc) = catalogs;
    let clock = Clock { zone: Some(config.misc.zone), catalog: &in_utc };
    print(&catalog, &clock, &format!("{host} {}", config.store_dir.display()), format)
}

/// Prints a catalog to standard output; `store` is how people call the store.
fn print(catalog: &Catalog, clock: &Clock<'_>, store: &str, format: Format) -> Outcome {
    let stdout = io::stdout();
    let width = match (format.timeline, stdout.is_terminal()) {
        (false, false) => None,
        _ => Some(terminal_width()),
    };
    let text = if format.json { json(catalog, clock, store)? } else { table(catalog, clock, store, width) };
    let printed = stdout.lock().write_all(text.as_bytes());
    if clock.catalog.windows().is_empty() {
        let error = anyhow::anyhow!("nothing can be recovered from {store}");
        return Err(Failure::new(Exit::Nothing, error));
    }
    Ok(printed.context("cannot write to standard output")?)
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    size.ok().filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
}

/// What can be said about one folder of the store.
struct Row<'a> {
    name: &'a str,
    backup: Option<&'a Backup>,
    state: &'static str,
    error: Option<String>,
}

fn rows<'a>(catalog: &'a Catalog) -> Vec<Row<'a>> {
    let row = |listed: &'a Listed| {
        let Listed { name, state } = listed;
        let (backup, state, error) = match state {
            State::Complete(backup) => match catalog.chain(name) {
                Ok(_) => (Some(&**backup), "ok", None),
                Err(error) => (Some(&**backup), "broken chain", Some(error)),
            },
            State::Damaged(error) => (None, "damaged", Some(error.clone())),
            _ => (None, "incomplete", None),
        };
        let error = error.map(|error| format!("{:#}", anyhow::Error::new(error)));
        Row { name: name.as_str(), backup, state, error }
    };
    catalog.listed().iter().map(row).collect()
}

/// Everything as text for people; with a width, the timeline too.
fn table(catalog: &Catalog, clock: &Clock<'_>, store: &str, width: Option<usize>) -> String {
    let rows = rows(catalog);
    let bytes: u64 = rows.iter().filter_map(|row| Some(row.backup?.bytes)).sum();
    let mut out = format!(
        "{store}: {} in {}",
        count(rows.len(), "backup"),
        count(catalog.chains().len(), "whole chain")
    );
    out += &format!(", {}\n\n", size(bytes));
    let mut lines = vec![["BACKUP", "CONSISTENT POINT", "SIZE", "SERVERS", "STATE"].map(str::to_owned)];
    for row in &rows {
        let (point, bytes, servers) = match row.backup {
            Some(b) => (b.consistent_point.to_string(), size(b.bytes), b.consistence.len().to_string()),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        let encrypted = row.backup.is_some_and(|b| b.encrypted);
        let state = if encrypted { format!("{}, encrypted", row.state) } else { row.state.to_owned() };
        let indent = if row.name.ends_with("-inc") { "  " } else { "" };
        lines.push([format!("{indent}{}", row.name), point, bytes, servers, state]);
    }
    if !rows.is_empty() {
        out += &aligned(&lines);
        out.push('\n');
    }
    for row in &rows {
        if let Some(error) = &row.error {
            out += &format!("{}: {}\n", row.name, Printable(error));
        }
    }
    for name in catalog.foreign() {
        out += &format!("{}: no backup, left alone\n", Printable(name));
    }
    if !catalog.foreign().is_empty() || rows.iter().any(|row| row.error.is_some()) {
        out.push('\n');
    }
    let windows = clock.catalog.windows();
    out += match windows.len() {
        0 => "No moment can be reached.\n",
        _ => "Moments that can be reached, in local time of the machine that took the backups:\n",
    };
    for window in &windows {
        let (from, to) = (clock.shown(window.from), clock.shown(window.to));
        out += &if window.from == window.to { format!("  {from}\n") } else { format!("  {from} to {to}\n") };
    }
    if let Some(drawn) = width.and_then(|width| timeline(clock, &windows, width)) {
        out.push('\n');
        out += &drawn;
    }
    out
}

/// Draws the chains and what can be reached over a common axis of `width` columns at most; `None` when there is nothing
/// to draw or no room for it.
fn timeline(clock: &Clock<'_>, windows: &[Window], width: usize) -> Option<String> {
    const LABEL: usize = 11;
    let (from, to) = (windows.first()?.from, windows.iter().map(|w| w.to).max()?);
    let (first, last) = (clock.shown(from), clock.shown(to));
    let axis = width.checked_sub(LABEL).filter(|axis| *axis >= first.len() + last.len() + 4)?;
    let span = (to - from).num_seconds().max(1);
    let column = |time: NaiveDateTime| {
        let at = (time - from).num_seconds().clamp(0, span);
        usize::try_from(at * (axis as i64 - 1) / span).unwrap_or(0)
    };
    let mut out = format!("{:LABEL$}{first}{last:>rest$}\n", "", rest = axis - first.len());
    let chains = clock.catalog.chains();
    let hidden = chains.len().saturating_sub(MAX_LANES);
    if hidden > 0 {
        out += &format!("{:LABEL$}({hidden} older chains)\n", "");
    }
    for (i, chain) in chains.iter().enumerate().skip(hidden) {
        let mut lane = vec![' '; axis];
        let points: Vec<usize> = chain.backups.iter().map(|b| column(b.consistent_point)).collect();
        let (first, last) = (points.iter().min()?, points.iter().max()?);
        lane[*first..=*last].fill('-');
        for point in points.iter().skip(1) {
            lane[*point] = 'i';
        }
        lane[points[0]] = 'F';
        out += &line(&format!("chain {}", i + 1), &lane);
    }
    let mut lane = vec![' '; axis];
    for window in windows {
        lane[column(window.from)..=column(window.to)].fill('=');
    }
    out += &line("reachable", &lane);
    out += &format!("{:LABEL$}F full  i incremental  = any moment\n", "");
    return Some(out);

    fn line(label: &str, lane: &[char]) -> String {
        let text: String = lane.iter().collect();
        format!("{}\n", format!("{label:LABEL$}{text}").trim_end())
    }
}

/// Columns as wide as they need, two blanks apart; sizes and numbers to the right.
fn aligned(lines: &[[String; 5]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let [name, point, bytes, servers] = [0, 1, 2, 3].map(width);
    let line =
        |[a, b, c, d, e]: &[String; 5]| format!("{a:name$}  {b:point$}  {c:>bytes$}  {d:>servers$}  {e}\n");
    lines.iter().map(line).collect()
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Bytes for people: `1.2 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    store: &'a str,
    backups: Vec<JsonBackup<'a>>,
    /// Names of the backups of every whole chain.
    chains: Vec<Vec<&'a str>>,
    windows: Vec<JsonWindow<'a>>,
    /// The newest backup if it is incomplete: what a recovery moves to `trash`.
    newest_incomplete: Option<&'a str>,
    foreign: &'a [String],
}

#[derive(Serialize)]
struct JsonBackup<'a> {
    name: &'a str,
    state: &'a str,
    error: Option<&'a str>,
    consistent_point: Option<String>,
    encrypted: Option<bool>,
    bytes: Option<u64>,
    servers: Vec<JsonServer<'a>>,
}

#[derive(Serialize)]
struct JsonServer<'a> {
    group: &'a str,
    server: &'a str,
    ip: &'a str,
    port: u16,
    role: Role,
}

#[derive(Serialize)]
struct JsonWindow<'a> {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_instant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_instant: Option<String>,
    backups: Vec<&'a str>,
}

fn json(catalog: &Catalog, clock: &Clock<'_>, store: &str) -> Result<String, Failure> {
    let rows = rows(catalog);
    let windows = clock.catalog.windows();
    let local = |at: NaiveDateTime| clock.zone.map_or(at, |zone| zone.local(at.and_utc())).to_string();
    let document = Document {
        schema_version: SCHEMA_VERSION,
        store,
        backups: rows.iter().map(json_backup).collect(),
        chains: catalog
            .chains()
            .iter()
            .map(|c| c.backups.iter().map(|b| b.name.as_str()).collect())
            .collect(),
        windows: windows
            .iter()
            .map(|w| JsonWindow {
                from: local(w.from),
                to: local(w.to),
                from_instant: clock.instant(w.from),
                to_instant: clock.instant(w.to),
                backups: w.backups.iter().map(|name| name.as_str()).collect(),
            })
            .collect(),
        newest_incomplete: catalog.newest_incomplete().map(|name| name.as_str()),
        foreign: catalog.foreign(),
    };
    Ok(serde_json::to_string_pretty(&document).context("cannot write JSON")? + "\n")
}

fn json_backup<'a>(row: &'a Row<'a>) -> JsonBackup<'a> {
    let servers = row.backup.map_or(&[][..], |b| &b.consistence).iter().map(|line| JsonServer {
        group: &line.group,
        server: &line.server,
        ip: &line.ip,
        port: line.port,
        role: line.role(),
    });
    JsonBackup {
        name: row.name,
        state: row.state,
        error: row.error.as_deref(),
        consistent_point: row.backup.map(|b| b.consistent_point.to_string()),
        encrypted: row.backup.map(|b| b.encrypted),
        bytes: row.backup.map(|b| b.bytes),
        servers: servers.collect(),
    }
}
