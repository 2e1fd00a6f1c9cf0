//! The driver: a tool, where its logs go, and how one step of it is run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remote_exec::{Command, Host, Status};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Stage};
use crate::tool::Tool;

/// What the tool says when it has done its work, at the end of its last line.
const COMPLETED: &str = "completed OK!";

/// Bytes of a log that are looked at when it has ended.
const TAIL: u64 = 4096;

/// How the tool is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where logs and marks go, on the tool's host. It belongs to one server's chain alone.
    pub log_dir: PathBuf,
    /// Memory for applying the redo log, in bytes; `None`: the tool's default, about 100 MB.
    pub use_memory: Option<u64>,
    /// Threads for decompressing; `None`: the tool's default, 1.
    pub parallel: Option<u32>,
    /// How long one step may take; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Prepare backups that hold only some of their server's tables, too.
    pub allow_partial: bool,
}

impl Options {
    /// Options with the tool's defaults.
    pub fn new(log_dir: impl Into<PathBuf>) -> Self {
        Self {
            log_dir: log_dir.into(),
            use_memory: None,
            parallel: None,
            timeout: None,
            allow_partial: false,
        }
    }
}

/// One extracted backup of a chain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Part {
    /// Its name in logs and errors, usually the backup's.
    pub label: String,
    /// Where it was extracted.
    pub dir: PathBuf,
    /// Where it ends according to `cluster_consistence_info`.
    pub recorded_to_lsn: Option<u64>,
}

impl Part {
    /// A backup in `dir`, called `label`.
    pub fn new(label: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self { label: label.into(), dir: dir.into(), recorded_to_lsn: None }
    }

    /// The same with the LSN that the store recorded for its end.
    #[must_use]
    pub fn recorded_to_lsn(mut self, lsn: u64) -> Self {
        self.recorded_to_lsn = Some(lsn);
        self
    }
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub stage: String,
    /// To which backup.
    pub label: String,
    /// The command, for people.
    pub command: String,
    /// Its log, on the tool's host.
    pub log: PathBuf,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Drives one tool on one host.
#[derive(Debug, Clone)]
pub struct Driver {
    pub(crate) tool: Tool,
    pub(crate) options: Options,
}

impl Driver {
    /// A driver of `tool`.
    pub fn new(tool: Tool, options: Options) -> Self {
        Self { tool, options }
    }

    /// The tool.
    pub fn tool(&self) -> &Tool {
        &self.tool
    }

    pub(crate) fn host(&self) -> &Host {
        &self.tool.host
    }

    /// Path of a file about one step: its log or its mark.
    pub(crate) fn record(&self, stage: Stage, label: &str, ending: &str) -> PathBuf {
        self.options.log_dir.join(format!("{}-{}.{ending}", stage.as_str(), label.replace('/', "_")))
    }

    /// Runs a step of the tool into its log, and looks whether it completed.
    pub(crate) async fn tool_step(
        &self,
        stage: Stage,
        label: &str,
        arguments: Vec<OsString>,
    ) -> Result<Step, Error> {
        let log = self.record(stage, label, "log");
        let mut command =
            self.host().command(self.tool.program()).args(arguments).stdout_null().stderr_to(&log);
        if let Some(timeout) = self.options.timeout {
            command = command.timeout(timeout);
        }
        let shown = command.shown();
        let begun = Instant::now();
        self.make_log_dir().await?;
        let status = self.status(command, &shown).await?;
        let tail = self.tail(&log).await?;
        let failed = |ending| Error::Step {
            stage,
            label: label.to_owned(),
            ending,
            log: log.clone(),
            tail: last_lines(&tail),
        };
        if !status.success() {
            return Err(failed(status.to_string()));
        }
        if !tail.trim_end().ends_with(COMPLETED) {
            return Err(failed(format!("it ended with 0, but without `{COMPLETED}`")));
        }
        tracing::debug!(%stage, label, seconds = begun.elapsed().as_secs_f64(), "step done");
        Ok(Step {
            stage: stage.to_string(),
            label: label.to_owned(),
            command: shown,
            log,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    pub(crate) async fn make_log_dir(&self) -> Result<(), Error> {
        let dir = &self.options.log_dir;
        let made = self.host().files().create_dir_all(dir).await;
        made.map_err(Error::host(format!("creating {}", dir.display())))
    }

    async fn status(&self, command: Command, shown: &str) -> Result<Status, Error> {
        let ended = command.output().await.map_err(Error::host(shown.to_owned()))?;
        Ok(ended.status)
    }

    /// The end of a log, at most [`TAIL`] bytes.
    pub(crate) async fn tail(&self, log: &Path) -> Result<String, Error> {
        let command = self.host().command("tail").arg("-c").arg(TAIL.to_string()).arg("--").arg(log);
        let output =
            command.run().await.map_err(Error::host(format!("reading the end of {}", log.display())))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A file below `dir` with one of these endings, if there is any.
    pub(crate) async fn find_ending(&self, dir: &Path, endings: &[&str]) -> Result<Option<PathBuf>, Error> {
        let mut command = self.host().command("find").arg(dir).args(["-type", "f", "("]);
        for (i, ending) in endings.iter().enumerate() {
            if i > 0 {
                command = command.arg("-o");
            }
            command = command.arg("-name").arg(format!("*{ending}"));
        }
        let output = command
            .args([")", "-print", "-quit"])
            .run()
            .await
            .map_err(Error::host(format!("looking into {}", dir.display())))?;
        let text = output.text();
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

/// `FLAG=PATH`, whatever bytes the path has.
pub(crate) fn with_path(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push("=");
    argument.push(path);
    argument
}

/// The last lines of a log for a message.
pub(crate) fn last_lines(tail: &str) -> String {
    const SHOWN: usize = 8;
    let lines: Vec<&str> = tail.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
