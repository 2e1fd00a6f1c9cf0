//! Progress on standard error: bars on a terminal, lines elsewhere, JSON lines for programs.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use recovery::{Event, Observer};
use tracing::Level;

/// Where there is no terminal, a step says how far it is this often.
const EVERY: Duration = Duration::from_secs(10);

/// Form of the messages on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Bars on a terminal, else lines
    Text,
    /// One JSON object per line
    Json,
}

/// Shows what a recovery tells.
pub(crate) struct Progress {
    format: LogFormat,
    debug: bool,
    bars: Option<MultiProgress>,
    running: Mutex<BTreeMap<(String, String), Running>>,
}

struct Running {
    bar: Option<ProgressBar>,
    begun: Instant,
    said: Instant,
}

impl Running {
    /// About how long it goes on at the pace that it has had, in words.
    fn left(&self, done: u64, total: u64) -> Option<String> {
        let pace = self.begun.elapsed().as_secs_f64() / done.max(1) as f64;
        (done > 0 && done < total).then(|| format!(", about {:.0} s left", pace * (total - done) as f64))
    }
}

impl Progress {
    /// Chooses by what standard error is.
    pub(crate) fn new(format: LogFormat, debug: bool) -> Self {
        let bars = (format == LogFormat::Text && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self { format, debug, bars, running: Mutex::new(BTreeMap::new()) }
    }

    /// Takes the bars away, so that what is printed next stands alone.
    pub(crate) fn finish(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }

    /// A record of a library crate.
    pub(crate) fn logged(&self, level: Level, line: &str) {
        self.event(&match level {
            Level::ERROR | Level::WARN => Event::Warning(line.to_owned()),
            _ => Event::Debug(line.to_owned()),
        });
    }

    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(line);
            }
            None => {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
        }
    }

    fn trace(&self, server: &str, step: &str, stage: &str) {
        if self.bars.is_none() {
            let of = if server.is_empty() { String::new() } else { format!("{server}: ") };
            self.line(&format!("[TRACE] {of}{step} {stage}"));
        }
    }

    fn started(&self, server: &str, step: &str) {
        self.trace(server, step, "start");
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix} {msg}"));
            bar.set_prefix(if server.is_empty() { step.to_owned() } else { format!("{server}  {step}") });
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(
            (server.to_owned(), step.to_owned()),
            Running { bar, begun: Instant::now(), said: Instant::now() },
        );
    }

    fn finished(&self, server: &str, step: &str, seconds: f64) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { bar: Some(bar), .. }) = running.remove(&(server.to_owned(), step.to_owned())) {
            bar.finish_and_clear();
        }
        drop(running);
        match &self.bars {
            Some(_) if server.is_empty() => self.line(&format!("{step}: {seconds:.1} s")),
            Some(_) => self.line(&format!("{server}  {step}: {seconds:.1} s")),
            None => self.trace(server, step, "finish"),
        }
    }

    fn progress(
        &self,
        server: &str,
        step: &str,
        done: u64,
        total: Option<u64>,
        unit: &str,
        note: Option<&str>,
    ) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.get_mut(&(server.to_owned(), step.to_owned())) else { return };
        if let Some(bar) = &running.bar {
            if bar.length().is_none() && total.is_some() {
                let counted =
                    if unit == "bytes" { "{bytes}/{total_bytes} {bytes_per_sec}" } else { "{pos}/{len}" };
                bar.set_style(style(&format!("{{prefix}} [{{bar:30}}] {counted} {{eta}} {{msg}}")));
            }
            if let Some(total) = total {
                bar.set_length(total.max(done));
            }
            bar.set_position(done);
            bar.set_message(note.unwrap_or_default().to_owned());
        } else if running.said.elapsed() >= EVERY {
            running.said = Instant::now();
            let of = total.map_or(String::new(), |total| format!(" of {total}"));
            let left = total.and_then(|total| running.left(done, total)).unwrap_or_default();
            let note = note.map_or(String::new(), |note| format!(", {note}"));
            let server = if server.is_empty() { String::new() } else { format!("{server}: ") };
            self.line(&format!("{server}{step}: {done}{of} {unit}{left}{note}"));
        }
    }

    fn json(&self, event: &Event) {
        let value = match event {
            Event::Started { server, step } => {
                serde_json::json!({"event": "started", "server": server, "step": step})
            }
            Event::Progress { server, step, done, total, unit, note } => serde_json::json!({
                "event": "progress", "server": server, "step": step,
                "done": done, "total": total, "unit": unit, "note": note
            }),
            Event::Finished { server, step, seconds } => {
                serde_json::json!({"event": "finished", "server": server, "step": step, "seconds": seconds})
            }
            Event::Warning(text) => serde_json::json!({"event": "warning", "text": text}),
            Event::Debug(_) if !self.debug => return,
            Event::Debug(text) => serde_json::json!({"event": "debug", "text": text}),
            _ => return,
        };
        json_line(value);
    }
}

/// Writes an object as one line to standard error, with its version and the time.
pub(crate) fn json_line(mut object: serde_json::Value) {
    object["schema_version"] = recovery::SCHEMA_VERSION.into();
    object["at"] = chrono::Local::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, false).into();
    let _ = writeln!(std::io::stderr().lock(), "{object}");
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        if self.format == LogFormat::Json {
            return self.json(event);
        }
        match event {
            Event::Started { server, step } => self.started(server, step),
            Event::Finished { server, step, seconds } => self.finished(server, step, *seconds),
            Event::Progress { server, step, done, total, unit, note } => {
                self.progress(server, step, *done, *total, unit, note.as_deref());
            }
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            Event::Debug(text) if self.debug => self.line(&format!("[DEBUG] {text}")),
            _ => {}
        }
    }
}
