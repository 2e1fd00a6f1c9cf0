//! A running program, and the task that watches it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::command::{Output, Spec, tail};
use crate::host::Backend;
use crate::{Error, Host, Status, local, script};

/// A stream out of a program.
pub struct Reader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    pipe: Option<OwnedFd>,
}

/// The stream into a program; dropped, it ends the program's input.
pub struct Writer {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    pipe: Option<OwnedFd>,
}

impl Reader {
    /// A stream that is no pipe of this machine.
    pub(crate) fn new(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), pipe: None }
    }

    /// A pipe. `wrap` is what is read in its place, and keeps it.
    pub(crate) fn pipe<S: AsFd, R: AsyncRead + Send + Unpin + 'static>(
        stream: S,
        wrap: impl FnOnce(S) -> R,
    ) -> Self {
        let pipe = stream.as_fd().try_clone_to_owned().ok();
        Self { stream: Box::new(wrap(stream)), pipe }
    }

    /// The pipe behind it, where there is one.
    pub(crate) fn as_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }
}

impl Writer {
    /// A stream that is no pipe of this machine.
    pub(crate) fn new(stream: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), pipe: None }
    }

    /// A pipe.
    pub(crate) fn pipe(stream: impl AsyncWrite + AsFd + Send + Unpin + 'static) -> Self {
        let pipe = stream.as_fd().try_clone_to_owned().ok();
        Self { stream: Box::new(stream), pipe }
    }

    /// The pipe behind it, where there is one.
    pub(crate) fn as_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// How long a process group that was sent SIGKILL may take to disappear before its host counts as lost.
const GONE: Duration = Duration::from_secs(10);

/// How long what a program wrote may be on its way when it has ended.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// A running program or pipeline.
///
/// Whoever takes `stdout` and `stderr` has to read them; what is not taken is read and thrown away while
/// [`wait`](Self::wait) waits, so a loud program never blocks. Dropping a `Child` that was not waited for ends its
/// process group.
pub struct Child {
    /// The program's stdin; drop it to end the program's input. `None` when the command brought its own.
    pub stdin: Option<Writer>,
    /// The program's stdout, `None` when it goes elsewhere.
    pub stdout: Option<Reader>,
    /// The program's stderr, `None` when it goes elsewhere.
    pub stderr: Option<Reader>,
    watch: Watch,
    feeder: Option<JoinHandle<io::Result<()>>>,
    /// Of reading, too, where what a program leaves behind can hold its output.
    deadline: Deadline,
    host: String,
    command: String,
}

/// When the time of a command is over, and how long it was.
type Deadline = Option<(tokio::time::Instant, Duration)>;

/// Ready when the time is over.
async fn late(deadline: Deadline) -> Duration {
    match deadline {
        Some((at, after)) => {
            tokio::time::sleep_until(at).await;
            after
        }
        None => std::future::pending().await,
    }
}

/// What a backend starts.
pub(crate) struct Started {
    pub(crate) stdin: Option<Writer>,
    pub(crate) stdout: Option<Reader>,
    pub(crate) stderr: Option<Reader>,
    pub(crate) process: Box<dyn Process>,
}

/// One process group on a host.
pub(crate) trait Process: Send + 'static {
    /// Waits for the end; the statuses of all stages. May be dropped and called again.
    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Status>, Error>> + Send + '_>>;
    /// Ends the group: SIGTERM, `grace`, SIGKILL. Returns when it is gone or nothing more can be done.
    fn kill(&mut self, grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Ends the group at once, from any thread, without waiting; nothing happens when all of it has ended already. It ends
    /// what a leader left behind, too, also when the process was dropped.
    fn killer(&self) -> Arc<dyn Fn() + Send + Sync>;
}

/// The handle of the watching task.
struct Watch {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Vec<Status>, Error>>,
    kill_now: Arc<dyn Fn() + Send + Sync>,
    ended: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended && !self.task.is_finished() {
            // At once, because this process may be about to end; the task then sees the end and cleans up.
            (self.kill_now)();
        }
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child")
            .field("host", &self.host)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// All stages for messages.
pub(crate) fn shown(stages: &[Spec]) -> String {
    stages.iter().map(Spec::shown).collect::<Vec<_>>().join(" | ")
}

/// Starts the stages on the host. The first stage's timeout is the pipeline's.
pub(crate) async fn start(host: &Host, mut stages: Vec<Spec>) -> Result<Child, Error> {
    let command = shown(&stages);
    for (name, _) in stages.iter().flat_map(|s| &s.env) {
        script::check_name(name)?;
    }
    let (timeout, grace) = (stages[0].timeout, stages[0].grace);
    tracing::debug!(host = host.name(), %command, "start");
    #[cfg(any(feature = "rabbit", feature = "grpc"))]
    let secret = stages.iter().any(Spec::has_secrets);
    #[cfg_attr(not(any(feature = "rabbit", feature = "grpc")), allow(unused_mut))]
    let mut input = stages[0].take_input();
    let begun = tokio::time::Instant::now();
    let starting = async {
        match &*host.backend {
            Backend::Local => local::start(host, stages, &command).await,
            Backend::Ssh(ssh) => ssh.start(host, stages, &command).await,
            #[cfg(any(feature = "rabbit", feature = "grpc"))]
            Backend::Agent(post) => {
                crate::mailbox::start(post, host, stages, input.take(), secret, &command).await
            }
            Backend::Recording(recorder) => recorder.start(host, stages, input.as_deref().map(|v| &v[..])),
        }
    };
    let Some(mut started) = (match timeout {
        Some(limit) => tokio::time::timeout(limit, starting).await.ok(),
        None => Some(starting.await),
    })
    .transpose()?
    else {
        return Err(Error::Timeout {
            host: host.name().to_owned(),
            command,
            after: timeout.unwrap_or_default(),
        });
    };
    let feeder = match (input, started.stdin.take()) {
        (Some(bytes), Some(mut stdin)) => Some(tokio::spawn(async move {
            stdin.write_all(&bytes).await?;
            stdin.shutdown().await
        })),
        (_, stdin) => {
            started.stdin = stdin;
            None
        }
    };
    let (stop, stopped) = oneshot::channel();
    let kill_now = started.process.killer();
    let deadline = timeout.map(|limit| (begun + limit, limit));
    let task = tokio::spawn(watch(
        started.process,
        deadline,
        grace,
        stopped,
        host.name().to_owned(),
        command.clone(),
    ));
    Ok(Child {
        stdin: started.stdin,
        stdout: started.stdout,
        stderr: started.stderr,
        watch: Watch { stop: Some(stop), task, kill_now, ended: false },
        feeder,
        deadline: deadline.filter(|_| host.streams()),
        host: host.name().to_owned(),
        command,
    })
}

/// Waits for the process, its deadline, or the order to stop it.
async fn watch(
    mut process: Box<dyn Process>,
    deadline: Deadline,
    grace: Duration,
    stopped: oneshot::Receiver<()>,
    host: String,
    command: String,
) -> Result<Vec<Status>, Error> {
    // A sender that was dropped is no order: the owner has ended the group itself.
    let told = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let why = tokio::select! {
        ended = process.wait() => return ended,
        after = late(deadline) => Error::Timeout { host, command, after },
        () = told => Error::Stopped { host, command },
    };
    process.kill(grace).await;
    // The error says what happened; what the dying program ended with does not matter.
    let _ = tokio::time::timeout(GONE, process.wait()).await;
    Err(why)
}

impl Child {
    /// Waits for the end of the program and gives its status. stdin, if still here, is closed first, and streams that
    /// were not taken are read to their end and thrown away.
    ///
    /// # Errors
    ///
    /// If the program outlives its timeout, is not there, or its host is lost.
    pub async fn wait(self) -> Result<Status, Error> {
        Ok(self.finish(0, false).await?.status)
    }

    /// Waits for the end and collects what the streams that were not taken hold, at most `limit` bytes each.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`Error::TooMuchOutput`]; the program is ended then.
    pub async fn wait_with_output(self, limit: u64) -> Result<Output, Error> {
        self.finish(limit, true).await
    }

    /// Waits for the end; a status other than 0 is an error that quotes what stderr said, if it was not taken.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`Error::Failed`].
    pub async fn wait_success(self) -> Result<(), Error> {
        let (host, command) = (self.host.clone(), self.command.clone());
        self.finish(0, false).await?.checked(&host, &command).map(drop)
    }

    async fn finish(mut self, limit: u64, keep: bool) -> Result<Output, Error> {
        self.stdin.take();
        let (host, command) = (self.host.clone(), self.command.clone());
        let fail = |what, source| Error::Io { host: host.clone(), command: command.clone(), what, source };
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let max = if keep { limit } else { 0 };
        let streams = async { tokio::try_join!(collect(stdout, max, keep), collect(stderr, max, keep)) };
        let (task, feeder) = (&mut self.watch.task, &mut self.feeder);
        let all = async {
            let (out, err) = streams.await.map_err(|e| match e {
                Full::Limit => Error::TooMuchOutput { host: host.clone(), command: command.clone(), limit },
                Full::Io(e) => fail("reading the output", e),
            })?;
            Ok((out, err))
        };
        // A dead program's streams may be held open by a child of it, so an error of the watch ends the reading too.
        let (statuses, streams) = {
            tokio::pin!(all);
            let mut last = None;
            let mut read = None;
            let mut ended = None;
            while read.is_none() || ended.is_none() {
                tokio::select! {
                    r = &mut all, if read.is_none() => read = Some(r?),
                    r = &mut *task, if ended.is_none() => {
                        let statuses = r.map_err(|e| fail("waiting for the end", io::Error::other(e)))??;
                        ended = Some(statuses);
                        let least = tokio::time::Instant::now() + ON_ITS_WAY;
                        last = self.deadline.map(|(at, after)| (at.max(least), after));
                    }
                    // The program has ended, and something that it left behind holds its streams.
                    after = late(last), if last.is_some() => {
                        (self.watch.kill_now)();
                        return Err(Error::Timeout { host: host.clone(), command: command.clone(), after });
                    }
                }
            }
            (ended.unwrap_or_default(), read.unwrap_or_default())
        };
        self.watch.ended = true;
        if let Some(feeder) = feeder.take() {
            match feeder.await {
                // A program may end without reading all of its input.
                Ok(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => {}
                Ok(Err(e)) => return Err(fail("writing the input", e)),
                Ok(Ok(())) | Err(_) => {}
            }
        }
        Ok(Output { status: Status::of_pipeline(&statuses), statuses, stdout: streams.0, stderr: streams.1 })
    }

    /// Whether the program has ended already; [`wait`](Self::wait) tells how.
    pub fn has_ended(&self) -> bool {
        self.watch.task.is_finished()
    }

    /// Ends the program's process group and waits until it is gone.
    pub async fn kill(mut self) {
        self.stdin.take();
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        if let Some(stop) = self.watch.stop.take() {
            let _ = stop.send(());
        }
        let drain =
            tokio::spawn(async move { tokio::join!(collect(stdout, 0, false), collect(stderr, 0, false)) });
        let _ = (&mut self.watch.task).await;
        self.watch.ended = true;
        drain.abort();
    }

    /// The command for messages, secrets masked.
    pub fn command(&self) -> &str {
        &self.command
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
    }
}

enum Full {
    Limit,
    Io(io::Error),
}

/// Reads to the end. Keeps up to `limit` bytes when `keep`, else only what a message about a failure needs.
async fn collect(stream: Option<Reader>, limit: u64, keep: bool) -> Result<Vec<u8>, Full> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    if keep {
        let mut limited = (&mut stream).take(limit);
        limited.read_to_end(&mut kept).await.map_err(Full::Io)?;
        if kept.len() as u64 == limit && stream.read(&mut [0; 1]).await.map_err(Full::Io)? > 0 {
            return Err(Full::Limit);
        }
        return Ok(kept);
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await.map_err(Full::Io)? {
            0 => return Ok(tail(&kept).into_bytes()),
            n => {
                kept.extend_from_slice(&buffer[..n]);
                let old = kept.len().saturating_sub(4096);
                kept.drain(..old);
            }
        }
    }
}

/// A reader that keeps something alive until its end has been seen or it is dropped.
pub(crate) struct Guarded<R, G> {
    inner: R,
    guard: Option<G>,
}

impl<R, G> Guarded<R, G> {
    pub(crate) fn new(inner: R, guard: G) -> Self {
        Self { inner, guard: Some(guard) }
    }
}

impl<R: AsyncRead + Unpin, G: Unpin> AsyncRead for Guarded<R, G> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() == before && buf.remaining() > 0 => this.guard = None,
            Poll::Ready(Err(_)) => this.guard = None,
            _ => {}
        }
        result
    }
}
