//! What the user sees while a backup runs: a line for each event, a bar on a terminal, or JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use dbrecover_cli::standard::tell;
use indicatif::{ProgressBar, ProgressStyle};
use rocks_hotbackup::Event;

const GB: f64 = (1u64 << 30) as f64;

/// How often a program that is no terminal hears of progress.
const EVERY: Duration = Duration::from_secs(10);

/// Prints events to the standard error.
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Printer {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let bar = (!json && !quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { json, quiet, bar, last: Instant::now() }
    }

    /// Shows one event.
    pub(crate) fn event(&mut self, event: &Event) {
        if self.json {
            if (!matches!(event, Event::Sent { .. }) || self.due())
                && let Ok(line) = serde_json::to_string(event)
            {
                tell(&line);
            }
            return;
        }
        if let Event::Sent { bytes, total } = event {
            if let Some(bar) = &self.bar {
                bar.set_length(*total);
                bar.set_position(*bytes);
            } else if !self.quiet && self.due() {
                self.line(
                    "INFO",
                    &format!("Sent {:.2} GB of {:.2} GB", *bytes as f64 / GB, *total as f64 / GB),
                );
            }
            return;
        }
        let warning =
            matches!(event, Event::Warning { .. } | Event::LeftOut(_) | Event::OrphanRemoved { .. });
        if warning || !self.quiet {
            self.line(if warning { "WARNING" } else { "INFO" }, &words(event));
        }
    }

    /// A line of the log.
    pub(crate) fn line(&self, level: &str, text: &str) {
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S%.3f");
        let line = format!("{now} {level} {text}");
        match &self.bar {
            Some(bar) => bar.println(line),
            None => tell(line),
        }
    }

    /// The work is over: the bar goes.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn due(&mut self) -> bool {
        let due = self.last.elapsed() >= EVERY;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::OrphanRemoved { path } => {
            format!("Removed {}, the checkpoint of a backup that was killed", path.display())
        }
        Event::Reading { direct, datadir } => {
            format!(
                "Starting backup of {}, direct I/O: {}",
                datadir.display(),
                if *direct { "on" } else { "off" }
            )
        }
        Event::Checkpoint { round, path, files, bytes, known } => format!(
            "Round {round}: checkpoint at {}, {files} data files ({:.2} GB) to send, {known} known",
            path.display(),
            *bytes as f64 / GB
        ),
        Event::Progress { bytes, total, rate } => format!(
            "Backup Progress: {:.2}%   Sent {:.2} GB of {:.2} GB data, Transfer Speed: {:.2} MB/s",
            *bytes as f64 * 100.0 / (*total).max(1) as f64,
            *bytes as f64 / GB,
            *total as f64 / GB,
            *rate as f64 / f64::from(1 << 20)
        ),
        Event::RoundOver { seconds, remaining } => {
            format!("Snapshot round finished. Elapsed Time: {seconds:.2}.  Remaining sst files: {remaining}")
        }
        Event::LastFiles => "Backup WAL and Manifest..".into(),
        Event::Locked { lock } => format!("Took the backup lock ({lock:?})"),
        Event::Unlocked { milliseconds } => format!("Gave the backup lock back after {milliseconds} ms"),
        Event::WaitingFor { path } => format!("Waiting until {} is created..", path.display()),
        Event::Directory { path } if path.as_os_str().is_empty() => {
            "Sending the files of the data directory".into()
        }
        Event::Directory { path } => format!("Sending the files of {}", path.display()),
        Event::Skipped { path } => format!("Skipping {}", path.display()),
        Event::LeftOut(left) => format!(
            "{} tables of the engine {} (about {:.3} GB) are NOT in this backup: it holds MyRocks and the server's files",
            left.tables,
            left.engine,
            left.bytes as f64 / GB
        ),
        Event::Warning { text } => text.clone(),
        other => format!("{other:?}"),
    }
}
