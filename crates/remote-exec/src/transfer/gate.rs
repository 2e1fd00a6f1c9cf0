//! The receiving end of a transfer that does not pass through here.
//!
//! A connection that ends looks the same whether everything was sent or the sender died, so the receiver does not get the
//! end of its input from the connection: a gate behind the counting stage holds it back until both digests were compared,
//! and ends the whole group of the receiver where they differ. The receiver of a sealed stream needs no gate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::{self, BOTH, Digest, MARK};
use super::ends::{Ends, ended, failed};
use super::{Failure, failure, seal};
use crate::random::as_hexadecimal;
use crate::{Child, Command, Output, Status};

/// How often it is asked how much has arrived.
const TELL: Duration = Duration::from_secs(2);

/// How long one look may take, and how long the receiving side may take to begin to listen.
const ANSWER: Duration = Duration::from_secs(30);

/// What the log says when the receiver was started in the place of what listened.
const STARTED: &str = "execvp'ing";

/// What the log says when a connection can be made.
const LISTENS: &str = "listening on";

/// Waits for a line in the file `$1` that is like `$2`, up to five seconds; what the file holds then.
const UNTIL: &str = r#"n=0; until grep -Eqs -e "$2" -- "$1" || [ $n -ge 250 ]; do sleep 0.02; n=$((n+1)); done; head -c 100000 -- "$1" 2>/dev/null"#;

/// What a socat says that has found its port taken.
const TAKEN: &str = "Address already in use";

/// As the counting stage, with the digest in `$2.sum`; then nothing until `$2.go` says something. Without a word for two
/// minutes, or with another word than `ok`, the whole group is ended before the receiver has seen the end. A receiver
/// that left before the end sees none either, so there is nothing to hold back and its status is told.
const GATE: &str = r#"{ { (sh -c 'echo $PPID' >"$2.pid"; both); echo $? >"$2.tee"; } | cksum >"$2.new"; } 3>&1
read -r w <"$2.tee"; [ "$w" = 0 ] || exit 141
mv "$2.new" "$2.sum"; sed "s/^/$1 /" "$2.sum" >&2
n=0; until [ -s "$2.go" ] || [ $n -ge 1200 ]; do sleep 0.1; n=$((n+1)); done
read -r w <"$2.go"; [ "$w" = ok ] || kill -s KILL 0"#;

/// How many bytes the process that is named in `$1.pid` has read, as the kernel counts them.
const ARRIVED: &str = r#"read -r p <"$1.pid" && sed -n 's/^rchar: //p' "/proc/$p/io""#;

/// Something that no other transfer of this day has.
pub(super) fn unique() -> String {
    let mut random = [0_u8; 4];
    // Two transfers with the same log name would only share a log.
    let _ = getrandom::fill(&mut random);
    as_hexadecimal(&random)
}

/// The receiving end: what listens, gate, receiver. Dropped, it ends.
pub(super) struct Listener<'a> {
    ends: Ends<'a>,
    log: PathBuf,
    ended: Ending,
}

/// The task that waits for a pipeline; dropped, it ends the pipeline.
struct Ending(tokio::task::JoinHandle<Result<Output, Failure>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ending {
    fn of(child: Child) -> Self {
        Self(tokio::spawn(ended(child)))
    }

    async fn wait(&mut self) -> Result<Output, Failure> {
        (&mut self.0).await.unwrap_or_else(|e| Err(Failure::stream(e.to_string())))
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl<'a> Listener<'a> {
    /// Starts `first` with gate and receiver behind it. It writes what arrives to its stdout, and `listening on` or
    /// [`TAKEN`] into the file `log`, which is in a directory that exists.
    pub(super) async fn gated(ends: Ends<'a>, first: Command, log: &Path) -> Result<Self, Failure> {
        let gate = ends.to.command("sh").arg("-c").arg(format!("{BOTH}{GATE}")).args(["sh", MARK]).arg(log);
        Self::start(ends, vec![first.stdin_null(), gate, ends.receiver.clone()], log).await
    }

    /// Starts `listening`, which becomes the receiver of a sealed stream.
    pub(super) async fn sealed(ends: Ends<'a>, listening: Command, log: &Path) -> Result<Self, Failure> {
        Self::start(ends, vec![listening.stdin_null()], log).await
    }

    async fn start(ends: Ends<'a>, stages: Vec<Command>, log: &Path) -> Result<Self, Failure> {
        let child = ends.to.pipeline(stages).spawn().await.map_err(failure)?;
        Ok(Self { ends, log: log.to_owned(), ended: Ending::of(child) })
    }

    /// Waits until it listens; `false` when the port is taken.
    pub(super) async fn listening(&mut self) -> Result<bool, Failure> {
        let end = tokio::time::Instant::now() + ANSWER;
        loop {
            let log = self.until(&self.log, &format!("{LISTENS}|{TAKEN}")).await.unwrap_or_default();
            if log.contains(TAKEN) {
                return Ok(false);
            }
            if log.contains(LISTENS) {
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
        }
    }

    /// What a file there holds, as soon as it has a line like this, or after a few seconds in any case.
    async fn until(&self, path: &Path, line: &str) -> Option<String> {
        let look = self.ends.to.command("sh").args(["-c", UNTIL, "sh"]).arg(path).arg(line);
        let output = look.timeout(ANSWER).output().await.ok()?;
        String::from_utf8(output.stdout).ok()
    }

    /// Sends a sealed stream through `stages`, the first of which is the sender, or a socat that becomes it.
    pub(super) async fn receive_sealed(&mut self, stages: Vec<Command>) -> Result<Digest, Failure> {
        let ends = self.ends;
        let sending = async {
            let mut output = ended(ends.from.pipeline(stages).spawn().await.map_err(failure)?).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            let (socat, own): (Vec<&str>, Vec<&str>) =
                said.lines().partition(|line| line.contains(" socat["));
            // What a socat ends with that found nobody to connect to is not the sender's status.
            if !output.status.success() && !socat.is_empty() && !socat.iter().any(|l| l.contains(STARTED)) {
                let last = socat.last().copied().unwrap_or_default();
                return Err(Failure::stream(format!("the sending side got no connection: {last}")));
            }
            output.stderr = own.join("\n").into_bytes();
            Ok(output)
        };
        let digest = ends.meet(sending, self.became()).await;
        if digest.is_err() {
            // Whatever still waits there for a connection is not waited for.
            self.ended.0.abort();
        }
        digest
    }

    /// How the receiver of a sealed stream ended: as itself, or before it got to run.
    async fn became(&mut self) -> Result<Output, Failure> {
        let output = self.ended.wait().await?;
        if !output.status.success() && output.status.code() != seal::BROKEN {
            let log = self.read(&self.log).await.unwrap_or_default();
            if !log.contains(STARTED) {
                let last = log.lines().last().unwrap_or_default();
                return Err(Failure::stream(format!("the receiving side got no connection: {last}")));
            }
        }
        Ok(output)
    }

    /// Sends through `last`, compares, and lets the receiver see the end.
    pub(super) async fn receive(
        &mut self,
        last: Command,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Digest, Failure> {
        let Ends { from, sender, to, .. } = self.ends;
        let stages = vec![sender.clone().stdin_null(), digest::stage(from), last];
        let sending = from.pipeline(stages).output();
        let (log, mut told) = (self.log.clone(), 0);
        let telling = async {
            loop {
                tokio::time::sleep(TELL).await;
                let arrived = to.command("sh").args(["-c", ARRIVED, "sh"]).arg(&log).output().await;
                if let Some(bytes) = arrived.ok().and_then(|output| output.text().parse().ok())
                    && bytes > told
                {
                    told = bytes;
                    progress(bytes);
                }
            }
        };
        let sent = tokio::select! {
            sent = sending => sent.map_err(failure)?,
            ended = self.ended.wait() => {
                // The sender was dropped, and so ended.
                let output = ended?;
                return Err(self.left(output));
            }
            () = telling => return Err(Failure::stream("nobody waits any more")),
        };
        let said = digest::hear(&sent.stderr);
        let status = sent.statuses.first().copied().unwrap_or(Status::SUCCESS);
        if !status.success() && status.code() != seal::NO_RECEIVER {
            return Err(failed(from, sender, status, said.last_lines));
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
        progress(sent.bytes);
        self.ends.to.files().write(beside(&self.log, ".go"), "ok\n", 0o600).await.map_err(failure)?;
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
            if let Some(digest) = self.until(&sum, ".").await.as_deref().and_then(digest::parse) {
                return Ok(digest);
            }
            if self.ended.0.is_finished() {
                let output = self.ended.wait().await?;
                return Err(self.left(output));
            }
            if tokio::time::Instant::now() > end {
                return Err(Failure::stream("the receiving side does not see the end of the stream"));
            }
        }
    }

    async fn read(&self, path: &Path) -> Option<String> {
        let read = tokio::time::timeout(ANSWER, self.ends.to.files().read(path, 1 << 20)).await.ok()?.ok()?;
        String::from_utf8(read).ok()
    }

    /// Why the receiving pipeline ended before it was told to.
    fn left(&self, output: Output) -> Failure {
        let heard = digest::hear(&output.stderr);
        let receiver = output.statuses.last().copied().unwrap_or(Status::SUCCESS);
        let first = output.statuses.first().copied().unwrap_or(Status::SUCCESS);
        // It never saw the end of a stream that was cut, so a failure is its own.
        if !receiver.success() {
            return failed(self.ends.to, self.ends.receiver, receiver, heard.last_lines);
        }
        Failure::stream(format!("the receiving side ended with {first}; see {}", self.log.display()))
    }

    /// Ends what still runs and removes what is not the log.
    pub(super) async fn tidy(&mut self) {
        self.ended.0.abort();
        let beside = [".sum", ".go", ".new", ".tee", ".pid", ".in"].map(|ending| beside(&self.log, ending));
        let _ = self.ends.to.command("rm").args(["-f", "--"]).args(beside).output().await;
    }
}
