//! The receiving end of a transfer that does not pass through here.
//!
//! A connection that ends looks the same whether everything was sent or the sender died, so the receiver does not get the
//! end of its input from the connection: a gate behind the counting stage holds it back until both digests were compared,
//! and ends the whole group of the receiver where they differ.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::{self, BOTH, Digest, MARK};
use super::{Failure, failure};
use crate::{Command, Error, Host, Output, Status};

/// How often the receiving side is looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// How long one look may take, and how long the receiving side may take to begin to listen.
const ANSWER: Duration = Duration::from_secs(30);

/// What a socat says that has found its port taken.
const TAKEN: &str = "Address already in use";

/// As the counting stage, with the digest in `$2.sum`; then nothing until `$2.go` says something. Without a word for two
/// minutes, or with another word than `ok`, the whole group is ended before the receiver has seen the end. A receiver
/// that left before the end sees none either, so there is nothing to hold back and its status is told.
const GATE: &str = r#"{ { (both); echo $? >"$2.tee"; } | cksum >"$2.new"; } 3>&1
read -r w <"$2.tee"; [ "$w" = 0 ] || exit 141
mv "$2.new" "$2.sum"; sed "s/^/$1 /" "$2.sum" >&2
n=0; until [ -s "$2.go" ] || [ $n -ge 1200 ]; do sleep 0.1; n=$((n+1)); done
read -r w <"$2.go"; [ "$w" = ok ] || kill -s KILL 0"#;

/// Something that no other transfer of this day has.
pub(super) fn unique() -> String {
    let mut random = [0_u8; 4];
    // Two transfers with the same log name would only share a log.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|b| format!("{b:02x}")).collect()
}

/// The receiving pipeline: what listens, gate, receiver. Dropped, it ends.
pub(super) struct Listener<'a> {
    host: &'a Host,
    receiver: &'a Command,
    log: PathBuf,
    ended: Ending,
}

/// The task that waits for a pipeline; dropped, it ends the pipeline.
struct Ending(tokio::task::JoinHandle<Result<Output, Error>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ending {
    async fn wait(&mut self) -> Result<Output, Failure> {
        match (&mut self.0).await {
            Ok(result) => result.map_err(failure),
            Err(e) => Err(Failure::stream(e.to_string())),
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl<'a> Listener<'a> {
    /// Starts the pipeline. `first` writes what arrives to its stdout, and `listening on` or [`TAKEN`] into the file
    /// `log`, which is in a directory that exists.
    pub(super) async fn start(
        host: &'a Host,
        first: Command,
        receiver: &'a Command,
        log: &Path,
    ) -> Result<Self, Failure> {
        let gate = host.command("sh").arg("-c").arg(format!("{BOTH}{GATE}")).args(["sh", MARK]).arg(log);
        let stages = vec![first.stdin_null(), gate, receiver.clone()];
        let child = host.pipeline(stages).spawn().await.map_err(failure)?;
        let ended = Ending(tokio::spawn(child.wait_with_output(1 << 20)));
        Ok(Self { host, receiver, log: log.to_owned(), ended })
    }

    /// Waits until it listens; `false` when the port is taken.
    pub(super) async fn listening(&mut self) -> Result<bool, Failure> {
        let end = tokio::time::Instant::now() + ANSWER;
        loop {
            let log = self.read(&self.log).await.unwrap_or_default();
            if log.contains(TAKEN) {
                return Ok(false);
            }
            if log.contains("listening on") {
                return Ok(true);
            }
            if self.ended.0.is_finished() {
                let output = self.ended.wait().await?;
                let said = if log.trim().is_empty() { crate::command::tail(&output.stderr) } else { log };
                return Err(Failure::stream(format!("the receiving side ended: {}", said.trim())));
            }
            if tokio::time::Instant::now() > end {
                return Err(Failure::stream(format!(
                    "the receiving side does not listen; see {}",
                    self.log.display()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends through `last`, compares, and lets the receiver see the end.
    pub(super) async fn receive(
        &mut self,
        from: &Host,
        sender: &Command,
        last: Command,
    ) -> Result<Digest, Failure> {
        let stages = vec![sender.clone().stdin_null(), digest::stage(from), last];
        let sending = from.pipeline(stages).output();
        let sent = tokio::select! {
            sent = sending => sent.map_err(failure)?,
            ended = &mut self.ended.0 => {
                // The sender was dropped, and so ended.
                let output = ended.unwrap_or_else(|e| Err(Error::Here {
                    what: "wait for the receiver",
                    source: std::io::Error::other(e),
                }));
                return Err(self.left(output.map_err(failure)?));
            }
        };
        let said = digest::hear(&sent.stderr);
        let status = sent.statuses.first().copied().unwrap_or(Status::SUCCESS);
        if !status.success() && status.code() != super::BROKEN_PIPE {
            return Err(Failure::Program(Box::new(Error::Failed {
                host: from.name().to_owned(),
                command: sender.shown(),
                status,
                stderr_tail: said.last_lines,
            })));
        }
        if !sent.status.success() {
            let detail = format!("the sending side ended with {}: {}", sent.status, said.last_lines);
            return Err(Failure::stream(detail));
        }
        let Some(sent) = said.digest else {
            return Err(Failure::stream(format!("no checksum from {}", from.name())));
        };
        let received = self.received().await?;
        if received != sent {
            return Err(Failure::stream(format!("sent were {sent}, received {received}")));
        }
        self.host.files().write(beside(&self.log, ".go"), "ok\n", 0o600).await.map_err(failure)?;
        let output = self.ended.wait().await?;
        if output.status.success() {
            return Ok(sent);
        }
        Err(self.left(output))
    }

    /// The digest of what arrived.
    async fn received(&mut self) -> Result<Digest, Failure> {
        let end = tokio::time::Instant::now() + ANSWER;
        let sum = beside(&self.log, ".sum");
        loop {
            if let Some(digest) = self.read(&sum).await.as_deref().and_then(digest::parse) {
                return Ok(digest);
            }
            if self.ended.0.is_finished() {
                let output = self.ended.wait().await?;
                return Err(self.left(output));
            }
            if tokio::time::Instant::now() > end {
                return Err(Failure::stream("the receiving side does not see the end of the stream"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self, path: &Path) -> Option<String> {
        let read = tokio::time::timeout(ANSWER, self.host.files().read(path, 1 << 20)).await.ok()?.ok()?;
        String::from_utf8(read).ok()
    }

    /// Why the receiving pipeline ended before it was told to.
    fn left(&self, output: Output) -> Failure {
        let heard = digest::hear(&output.stderr);
        let receiver = output.statuses.last().copied().unwrap_or(Status::SUCCESS);
        let first = output.statuses.first().copied().unwrap_or(Status::SUCCESS);
        // It never saw the end of a stream that was cut, so a failure is its own.
        if !receiver.success() {
            return Failure::Program(Box::new(Error::Failed {
                host: self.host.name().to_owned(),
                command: self.receiver.shown(),
                status: receiver,
                stderr_tail: heard.last_lines,
            }));
        }
        Failure::stream(format!("the receiving side ended with {first}; see {}", self.log.display()))
    }

    /// Ends what still runs and removes what is not the log.
    pub(super) async fn tidy(&mut self) {
        self.ended.0.abort();
        let files = self.host.files();
        for ending in [".sum", ".go", ".new", ".tee", ".in"] {
            let _ = files.remove_file(beside(&self.log, ending)).await;
        }
    }
}
