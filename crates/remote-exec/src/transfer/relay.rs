//! Through this process: the sender's stdout is copied into the receiver's stdin.
//!
//! The receiver is told the end of its input only after the sender is known to have ended well and to have sent what
//! was copied. When anything else happens the receiver is ended, so a cut stream never looks to it like a whole one.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::digest::{self, Digest, Heard};
use super::{BROKEN_PIPE, Failure, Options, failure};
use crate::child::{Reader, Writer};
use crate::{Child, Command, Error, Host, Status};

/// How much is read at once. Pipes hand over 64 KiB; this is all the memory a relay takes.
const BUFFER: usize = 256 * 1024;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// How long a program whose partner failed has to end by itself and say why.
const AFTERMATH: Duration = Duration::from_secs(10);

/// One attempt.
pub(super) async fn run(
    from: &Host,
    sender: &Command,
    to: &Host,
    receiver: &Command,
    options: &Options,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Digest, Failure> {
    // The receiver first: what is sent must have somewhere to go.
    let sink = to.pipeline(vec![digest::stage(to), receiver.clone()]).spawn().await.map_err(failure)?;
    let mut sink = Side::new(sink, to, receiver);
    let source = from.pipeline(vec![sender.clone().stdin_null(), digest::stage(from)]).spawn().await;
    let mut source = Side::new(source.map_err(failure)?, from, sender);
    let (Some(stdin), Some(stdout)) = (sink.child.stdin.take(), source.child.stdout.take()) else {
        return Err(Failure::stream("a program without streams"));
    };
    match copy(stdout, stdin, options.rate_limit, progress).await {
        Ok((total, mut stdin)) => {
            let sent = source.end(|statuses| statuses.first().copied()).await?;
            if sent.bytes != total {
                return Err(Failure::stream(format!("sent were {sent}, {total} bytes arrived here")));
            }
            // A receiver that has left already says why when it is asked how it ended.
            let _ = stdin.shutdown().await;
            drop(stdin);
            let received = sink.end(|statuses| statuses.last().copied()).await?;
            if received != sent {
                return Err(Failure::stream(format!("sent were {sent}, received {received}")));
            }
            Ok(sent)
        }
        Err(Broken::Reading(e)) => {
            // Both are ended by being dropped, unless the sender says what happened.
            let said = tokio::time::timeout(AFTERMATH, source.end(|s| s.first().copied())).await;
            Err(said
                .ok()
                .and_then(Result::err)
                .unwrap_or_else(|| Failure::stream(format!("reading broke off: {e}"))))
        }
        Err(Broken::Writing(e)) => {
            // The receiver closed its input: its own failure is the reason, if it has one.
            drop(source);
            let said = tokio::time::timeout(AFTERMATH, sink.end(|s| s.last().copied())).await;
            Err(match said {
                Ok(Err(failure)) => failure,
                Ok(Ok(_)) => Failure::stream("the receiver ended before the end of the stream"),
                Err(_) => Failure::stream(format!("writing broke off: {e}")),
            })
        }
    }
}

/// One of the two pipelines.
struct Side<'a> {
    child: Child,
    host: &'a Host,
    command: &'a Command,
    heard: tokio::task::JoinHandle<Heard>,
}

impl<'a> Side<'a> {
    fn new(mut child: Child, host: &'a Host, command: &'a Command) -> Self {
        let heard = tokio::spawn(digest::listen(child.stderr.take()));
        Self { child, host, command, heard }
    }

    /// Waits for the end; what the counting stage saw. `program` picks the status that is not the stage's.
    async fn end(self, program: impl Fn(&[Status]) -> Option<Status>) -> Result<Digest, Failure> {
        let ended = self.child.wait_with_output(u64::MAX).await.map_err(failure)?;
        let heard = self.heard.await.unwrap_or_default();
        let status = program(&ended.statuses).unwrap_or(Status::SUCCESS);
        if status.success() {
            return heard
                .digest
                .ok_or_else(|| Failure::stream(format!("no checksum from {}", self.host.name())));
        }
        let error = Error::Failed {
            host: self.host.name().to_owned(),
            command: self.command.shown(),
            status,
            stderr_tail: heard.last_lines,
        };
        Err(match status.code() {
            BROKEN_PIPE => failure(error),
            _ => Failure::Program(Box::new(error)),
        })
    }
}

/// Which side ended a copy too early.
enum Broken {
    Reading(std::io::Error),
    Writing(std::io::Error),
}

/// Copies to the end of `from`. The number of bytes, and the writer, still open.
async fn copy(
    mut from: Reader,
    mut to: Writer,
    rate_limit: Option<u64>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(u64, Writer), Broken> {
    let mut buffer = vec![0; BUFFER];
    let (begun, mut told, mut total) = (Instant::now(), Instant::now(), 0_u64);
    loop {
        let n = from.read(&mut buffer).await.map_err(Broken::Reading)?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n]).await.map_err(Broken::Writing)?;
        total += n as u64;
        if told.elapsed() >= TELL {
            told = Instant::now();
            progress(total);
        }
        if let Some(rate) = rate_limit.filter(|r| *r > 0) {
            let due = Duration::from_secs_f64(total as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    to.flush().await.map_err(Broken::Writing)?;
    progress(total);
    Ok((total, to))
}
