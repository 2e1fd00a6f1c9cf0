//! The worker: `dbrecover` itself on the job server, which unpacks and replays natively there, and on the store, which
//! sends from there.

use std::path::{Path, PathBuf};

use remote_exec::{Command, Host, Kind};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::config::{Compression, Config, Toolchain, Transfer};
use crate::error::{Class, Error};
use crate::hosts::Hosts;
use crate::sender;

/// Who replays, as the journal has it.
pub(crate) const WORKER: &str = "the worker";
pub(crate) const STOCK_TOOLS: &str = "the stock tools";

/// Name of the worker in a work directory that it was put into.
const PUT_AS: &str = "tmp/dbrecover";

/// Largest report of a worker that is read, in bytes.
pub(crate) const MAX_REPORT: u64 = 64 << 20;

/// Who unpacks and replays on the job server, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Tools {
    /// The worker program; `None`: the stock tools.
    pub worker: Option<Worker>,
    /// The worker program on the store, which sends what a worker receives; `None`: the stock tools, or nothing is sent.
    pub sender: Option<Worker>,
    /// Why, as a sentence for the user.
    pub reason: String,
    /// Who sends to the worker and why, as another one; `None` where nothing is sent to a worker.
    pub sending: Option<String>,
}

/// The worker program.
#[derive(Debug, Clone, Serialize)]
pub struct Worker {
    /// Its path on its host.
    pub path: PathBuf,
    /// It is put there when the recovery begins; on the store the `X` of its path are chosen then.
    pub put: bool,
}

/// This program, as it calls itself in what it leaves. A worker must say the same: the protocol between the two is that of
/// one version.
pub(crate) fn version_line() -> String {
    format!("dbrecover {}", env!("CARGO_PKG_VERSION"))
}

/// Whether a program is there, runs, and is of this version.
pub(crate) async fn says_version(host: &Host, program: &Path) -> Result<bool, Error> {
    match host.command(program.as_os_str()).arg("--version").output().await {
        Ok(output) => {
            Ok(output.status.success() && String::from_utf8_lossy(&output.stdout).trim() == version_line())
        }
        Err(remote_exec::Error::NoProgram { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Tools {
    /// Who replays, as the journal has it.
    pub(crate) fn replaying(&self) -> &'static str {
        if self.worker.is_some() { WORKER } else { STOCK_TOOLS }
    }

    /// Looks for a worker that can run on the job server, and for one on the store.
    ///
    /// `this` is the running `dbrecover` program, if the caller is one.
    ///
    /// # Errors
    ///
    /// If `toolchain = worker` and none can run, if what the transfers are to do needs one that is not there, or a host
    /// fails.
    pub async fn find(
        config: &Config,
        hosts: &Hosts,
        work_dir: &Path,
        this: Option<&Path>,
    ) -> Result<Self, Error> {
        let job = &hosts.job;
        let stock =
            |reason: &str| Self { worker: None, sender: None, reason: reason.to_owned(), sending: None };
        let mut tools = if config.misc.toolchain == Toolchain::Stock {
            stock("stock tools: toolchain = stock")
        } else {
            match Self::look(config, job, work_dir, this).await? {
                Ok(tools) => tools,
                Err(reason) if config.misc.toolchain == Toolchain::Worker => {
                    return Err(Error::Tool {
                        host: job.name().to_owned(),
                        tool: "worker".to_owned(),
                        reason,
                    });
                }
                Err(reason) => stock(&format!("stock tools: {reason}")),
            }
        };
        if hosts.shared_store {
            return Ok(tools);
        }
        if tools.worker.is_some() {
            let (sender, sending) = sender::look(config, &hosts.store, this).await?;
            (tools.sender, tools.sending) = (sender, Some(sending));
        }
        tools.can_transfer(config, hosts)?;
        Ok(tools)
    }

    /// Refuses what only workers on both hosts can do.
    fn can_transfer(&self, config: &Config, hosts: &Hosts) -> Result<(), Error> {
        if self.sender.is_some() {
            return Ok(());
        }
        let host = if self.worker.is_some() { &hosts.store } else { &hosts.job };
        match only_by_sender(config) {
            None => Ok(()),
            Some((key, what)) => Err(Error::Config {
                place: "configuration".to_owned(),
                section: "misc",
                key,
                reason: format!("{what} needs {} on {}, which is not there", version_line(), host.name()),
            }),
        }
    }

    async fn look(
        config: &Config,
        job: &Host,
        work_dir: &Path,
        this: Option<&Path>,
    ) -> Result<Result<Self, String>, Error> {
        let found = |path: PathBuf, put: bool, reason: String| {
            Ok(Ok(Self { worker: Some(Worker { path, put }), sender: None, reason, sending: None }))
        };
        if let Some(path) = &config.misc.worker_path {
            if says_version(job, Path::new(path)).await? {
                return found(path.into(), false, format!("worker {path}: worker-path"));
            }
            return Ok(Err(format!("worker-path {path} is not {}", version_line())));
        }
        if let Some((worker, reason)) = Worker::installed(job, this).await? {
            return found(worker.path, false, reason);
        }
        if let Some(reason) = unfit(job, this).await? {
            return Ok(Err(reason));
        }
        found(work_dir.join(PUT_AS), true, format!("worker: put into the work directory of {}", job.name()))
    }
}

/// What the configuration asks of transfers that only a worker on the store can do: its key, and words for it.
pub(crate) fn only_by_sender(config: &Config) -> Option<(&'static str, &'static str)> {
    let misc = &config.misc;
    let direct = matches!(misc.transfer, Transfer::Socat | Transfer::Scp);
    if misc.transfer_compress != Compression::None {
        return Some(("transfer-compress", "compression on the way"));
    }
    (misc.rate_limit.is_some() && direct).then_some(("rate-limit", "a limit with socat or scp"))
}

/// Why this program cannot be put onto a host; `None` where it can.
pub(crate) async fn unfit(host: &Host, this: Option<&Path>) -> Result<Option<String>, Error> {
    if this.is_none() {
        return Ok(Some(format!("no {} on {}", version_line(), host.name())));
    }
    if !host.streams() {
        return Ok(Some(format!("no {} on {}, and an agent takes no files", version_line(), host.name())));
    }
    let theirs = host.command("uname").arg("-sm").run().await?;
    let ours = format!("Linux {}", std::env::consts::ARCH);
    let theirs = String::from_utf8_lossy(&theirs.stdout).trim().to_owned();
    Ok((theirs != ours).then(|| format!("{} is {theirs}, this program is for {ours}", host.name())))
}

impl Worker {
    /// A worker that is on a host already, and where: this program itself, or one on the PATH.
    ///
    /// # Errors
    ///
    /// If the host fails.
    pub(crate) async fn installed(host: &Host, this: Option<&Path>) -> Result<Option<(Self, String)>, Error> {
        if let Some(this) = this
            && (host.kind() == Kind::Local || says_version(host, this).await?)
        {
            let reason = format!("worker {}: this program", this.display());
            return Ok(Some((Self { path: this.to_owned(), put: false }, reason)));
        }
        if let Some(path) = host.find_program("dbrecover").await?
            && says_version(host, &path).await?
        {
            let reason = format!("worker {}: on the PATH", path.display());
            return Ok(Some((Self { path, put: false }, reason)));
        }
        Ok(None)
    }

    /// Puts the worker into the work directory, if it is not there otherwise.
    ///
    /// # Errors
    ///
    /// If it cannot be sent, or does not run there.
    pub async fn put(&self, job: &Host, this: Option<&Path>) -> Result<(), Error> {
        if !self.put {
            return Ok(());
        }
        place(job, &self.path, this).await
    }

    /// A worker's command on its host.
    pub(crate) fn command(&self, host: &Host, subcommand: &str) -> Command {
        host.command(self.path.as_os_str()).arg(subcommand)
    }
}

/// Writes this program to `path` of a host, and sees that it runs there.
///
/// # Errors
///
/// If it cannot be sent, or does not run there.
pub(crate) async fn place(host: &Host, path: &Path, this: Option<&Path>) -> Result<(), Error> {
    let cannot = |reason: &str| Error::Tool {
        host: host.name().to_owned(),
        tool: path.display().to_string(),
        reason: reason.to_owned(),
    };
    let this = this.ok_or_else(|| cannot("there is no program to send"))?;
    let program =
        tokio::fs::read(this).await.map_err(|source| Error::ConfigFile { path: this.to_owned(), source })?;
    host.files().write(path, program, 0o755).await?;
    if says_version(host, path).await? {
        Ok(())
    } else {
        Err(cannot("does not run there; install dbrecover on that host, or say toolchain = stock"))
    }
}

/// Runs a worker's command, follows the progress on its stderr and returns its stdout.
pub(crate) async fn run(
    host: &Host,
    command: Command,
    doing: &str,
    progress: impl FnMut(serde_json::Value),
) -> Result<Vec<u8>, Error> {
    if !host.streams() {
        let output = command.output().await?;
        let words = watch_stderr(output.stderr.as_slice(), progress).await;
        return if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(failed(host, doing, Some(output.status.code().into()), words))
        };
    }
    let mut child = command.spawn().await?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            // A report is small; a runaway one is cut.
            let _ = stdout.take(MAX_REPORT).read_to_end(&mut text).await;
        }
        text
    };
    let listen = async {
        match stderr {
            Some(stderr) => watch_stderr(stderr, progress).await,
            None => String::new(),
        }
    };
    let (text, words, status) = tokio::join!(read, listen, child.wait());
    let status = status?;
    if status.success() { Ok(text) } else { Err(failed(host, doing, Some(status.code().into()), words)) }
}

/// Reads a worker's stderr: JSON lines are progress, the rest is what it has to say at the end.
pub(crate) async fn watch_stderr(
    stderr: impl AsyncRead + Unpin,
    mut progress: impl FnMut(serde_json::Value),
) -> String {
    const KEEP: usize = 8 * 1024;
    let mut words = String::new();
    // Bytes: a line that is no UTF-8, a login's greeting perhaps, must not end the reading.
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        match serde_json::from_slice::<serde_json::Value>(&line) {
            Ok(value) if value.is_object() => progress(value),
            _ => {
                if words.len() + line.len() < KEEP {
                    words.push_str(&String::from_utf8_lossy(&line));
                    words.push('\n');
                }
            }
        }
    }
    words.trim().trim_start_matches("dbrecover: ").to_owned()
}

/// How many bytes a worker that unpacks has read, by a line of its progress.
pub(crate) fn bytes_read(progress: &serde_json::Value) -> Option<u64> {
    progress.get("bytes_read").and_then(serde_json::Value::as_u64)
}

/// The error of a worker that ended with `code`.
pub(crate) fn failed(job: &Host, doing: &str, code: Option<i32>, words: String) -> Error {
    Error::Worker {
        host: job.name().to_owned(),
        doing: doing.to_owned(),
        message: if words.is_empty() { format!("exit status {code:?}") } else { words },
        class: Class::of_worker(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn line_that_is_no_utf_8_hides_nothing_after_it() {
        let stderr = b"Gr\xfc\xdfe\n{\"bytes_read\": 7}\ndbrecover: no room\n";
        let mut seen = Vec::new();
        let words = watch_stderr(&stderr[..], |value| seen.push(value["bytes_read"].as_u64())).await;
        assert_eq!(seen, [Some(7)]);
        assert!(words.ends_with("no room"), "{words}");
    }
}
