//! Through this process: the sender's stdout is handed over to the receiver's stdin.
//!
//! Where both are pipes of this machine, as those of ssh and of local programs are, the kernel moves the pages and no
//! byte is copied here. With stock tools at both ends the receiver is told the end of its input only after the sender is
//! known to have ended well and to have sent what passed; a sealed stream tells its end itself.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::digest::{self, Digest, Heard};
use super::ends::{AFTERMATH, Ends, ended, failed};
use super::seal::NO_RECEIVER;
use super::splice::{Broken, Splice};
use super::{Failure, Options, failure};
use crate::child::{Reader, Writer};
use crate::{Child, Command, Host, Status};

/// How much is read at once where there is no pipe, in bytes; this is all the memory a relay takes.
const BUFFER: usize = 256 * 1024;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// One attempt with a sealed stream.
pub(super) async fn run_sealed(
    ends: Ends<'_>,
    rate_limit: Option<u64>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Digest, Failure> {
    // The receiver first: what is sent must have somewhere to go.
    let mut sink = ends.to.pipeline(vec![ends.receiver.clone()]).spawn().await.map_err(failure)?;
    let source = ends.from.pipeline(vec![ends.sender.clone().stdin_null()]).spawn().await;
    let mut source = source.map_err(failure)?;
    let (Some(stdin), Some(stdout)) = (sink.stdin.take(), source.stdout.take()) else {
        return Err(Failure::stream("a program without streams"));
    };
    let receiving = async {
        let copying = async { copy(stdout, stdin, rate_limit, progress).await.map(drop) };
        let end = ended(sink);
        tokio::pin!(end);
        // Whatever ends the copy, the receiver knows what it has got; one that has left needs nothing more.
        tokio::select! {
            _ = copying => {}
            output = &mut end => return output,
        }
        end.await
    };
    ends.meet(ended(source), receiving).await
}

/// One attempt with stages of stock tools.
pub(super) async fn run(
    ends: Ends<'_>,
    options: &Options,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Digest, Failure> {
    let Ends { from, sender, to, receiver } = ends;
    // The receiver first: what is sent must have somewhere to go.
    let sink = to.pipeline(vec![digest::stage(to), receiver.clone()]).spawn().await.map_err(failure)?;
    let mut sink = Side::new(sink, to, receiver);
    // What the receiver says there is for nobody, and must not fill its pipe.
    let _drained = sink.child.stdout.take().map(Drained::new);
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

/// A stream that is read and thrown away, until this is dropped.
struct Drained(tokio::task::JoinHandle<()>);

impl Drained {
    fn new(mut stream: Reader) -> Self {
        Self(tokio::spawn(async move {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }))
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One of the two pipelines, whose stdout was taken.
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
        let ended = self.child.wait_with_output(0).await.map_err(failure)?;
        let heard = self.heard.await.unwrap_or_default();
        let status = program(&ended.statuses).unwrap_or(Status::SUCCESS);
        if status.success() {
            return heard
                .digest
                .ok_or_else(|| Failure::stream(format!("no checksum from {}", self.host.name())));
        }
        match failed(self.host, self.command, status, heard.last_lines) {
            Failure::Program(error) if status.code() == NO_RECEIVER => Err(failure(*error)),
            failure => Err(failure),
        }
    }
}

/// Copies to the end of `from`. The number of bytes, and the writer, still open.
async fn copy(
    mut from: Reader,
    mut to: Writer,
    rate_limit: Option<u64>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(u64, Writer), Broken> {
    let rate = rate_limit.filter(|rate| *rate > 0);
    let pipes = match (from.as_pipe(), to.as_pipe()) {
        (Some(from), Some(to)) => {
            from.try_clone_to_owned().and_then(|from| Splice::new(from, to.try_clone_to_owned()?)).ok()
        }
        _ => None,
    };
    // With a limit, what is moved at once takes no longer than an eighth of a second.
    let piece = rate.map_or(BUFFER, |rate| usize::try_from(rate / 8).unwrap_or(BUFFER).clamp(4096, BUFFER));
    let mut buffer = vec![0; if pipes.is_some() { 0 } else { piece }];
    let (begun, mut told, mut total) = (Instant::now(), Instant::now(), 0_u64);
    loop {
        let n = match &pipes {
            Some(pipes) => pipes.some(rate.map(|_| piece)).await?,
            None => {
                let n = from.read(&mut buffer).await.map_err(Broken::Reading)?;
                to.write_all(&buffer[..n]).await.map_err(Broken::Writing)?;
                n
            }
        };
        if n == 0 {
            break;
        }
        total += n as u64;
        if told.elapsed() >= TELL {
            told = Instant::now();
            progress(total);
        }
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(total as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    to.flush().await.map_err(Broken::Writing)?;
    progress(total);
    Ok((total, to))
}
