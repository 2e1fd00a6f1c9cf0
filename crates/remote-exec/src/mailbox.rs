//! Hosts behind an agent that takes one line of shell and answers once, when it has ended.
//!
//! Such an agent gives back text at best: no exit status, no bytes that are not UTF-8, no end of a command that takes
//! too long, no second answer when the first got lost. So a command is wrapped: it runs in a directory of its own
//! (0700, below `$TMPDIR` or `/tmp`, with a random name), in a process group of its own under `timeout`, and leaves its output and
//! statuses there. The answer is base64; long output is fetched in pieces. When an answer is lost the directory tells
//! what became of the command, so it need not be run twice to know; where even that cannot be told, it is
//! [`Error::Lost`]. Who called removes the directory; where its agent went away for good, the next one who calls does, a
//! day later. The same name twice is refused by `mkdir`, so a message that arrives twice runs once.
//!
//! Nothing tells the host that a caller has died. So a command has a lease: whoever waits for it asks what it does
//! every few seconds, which renews it, and a watcher beside the command ends its process group when the lease has run
//! out. The watcher counts pauses of its own and looks at no clock. An agent that takes one call at a time cannot renew
//! anything while a command runs: a lease runs only where one was renewed before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::child::{Process, Reader, Started};
use crate::command::Spec;
use crate::random::hexadecimal;
use crate::script::{self, Event, LOADER, Report, WHO};
use crate::{Error, Host, Kind, Status, local};

/// How much of each stream is in the first answer, in bytes; the rest is fetched.
const INLINE: u64 = 1 << 20;

/// How much is fetched at once, in bytes.
const PIECE: u64 = 4 << 20;

/// The most base64 in one call. An agent puts the call into one argument of its shell: Linux allows 128 KiB.
const CALL: usize = 90_000;

/// How long a call may take that only looks or fetches.
const LOOK: Duration = Duration::from_secs(30);

/// How often a host is asked about a command whose answer is still waited for.
const WATCH: Duration = Duration::from_secs(10);

/// The same for the first time, where it is not known yet whether the agent takes a call while a command runs.
const SOON: Duration = Duration::from_secs(2);

/// How long a command goes on whose caller is not heard of, unless told otherwise: a broker that is started anew and a
/// connection that is known to be lost after two heartbeats only are back by then.
pub(crate) const LEASE: Duration = Duration::from_secs(180);

/// How often a lease is renewed in its time, and how many pauses its watcher makes.
const RENEWALS: u32 = 18;
const PAUSES: u32 = 12;

/// How long an agent that answered before is waited for when it is away, as it is while it is started anew.
const AWAY: Duration = Duration::from_secs(30);

/// Removes what commands left that have ended and that nobody has fetched for a day: whoever called them has gone, or
/// could not reach their agent any more.
const SWEEP: &str = r#"find "${TMPDIR:-/tmp}" -maxdepth 1 -type d -user "$(id -u)" -mmin +1440 -name 'dbrecover-????????????????????????????????*' -exec sh -c 'for d; do if [ -e "$d/s" ] || ! kill -s 0 -- "-$(cat "$d/pid")"; then rm -rf "$d"; fi; done' sh {} + 2>/dev/null"#;

/// Shell functions: `of` gets the process group of the command in `$d`, and leaves the one that it got before where the
/// directory is gone; `own` tells whether that group is there. A number that another program has by now, or since the host was started anew, is not the command's.
const OWN: &str = r#"of() { x=$(cat "$d/pid") && y=$(cat "$d/who") && p=$x w=$y; } 2>/dev/null; own() { case $w in "$(who "$p")"*) kill -s 0 -- "-$p";; *) false;; esac; } 2>/dev/null; "#;

/// The watcher of the command in `$d`: it ends the command's group with `lease` in its report, `$k` tenths of a second
/// after SIGTERM for good, when nobody has renewed the lease (`$d/l`) for `$q` pauses of `$t` seconds. Where `$a` is
/// empty, that counts from the first renewal on. Nobody will ask about a command whose directory is gone: it is ended
/// too. The watcher has ended when it is ended, and when there is nothing to watch.
const WATCHER: &str = concat!(
    r#"(trap 'kill "$s"; exit' TERM; n=0; while :; do sleep "$t" & s=$!; wait "$s"; n=$((n+1)); "#,
    r#"if [ -e "$d/l" ]; then rm -f "$d/l"; n=0; a=1; fi; "#,
    r#"of; if own; then if [ ! -d "$d" ] || { [ "$a" ] && [ $n -ge $q ]; }; then echo lease >>"$d/r"; kill -s TERM -- "-$p"; m=0; "#,
    r#"while [ $m -lt $k ] && own; do sleep 0.1; m=$((m+1)); done; kill -s KILL -- "-$p"; fi; "#,
    r#"elif [ -e "$d/pid" ] || [ ! -d "$d" ] || [ $n -ge $q ]; then exit; fi; done) >/dev/null 2>&1 &"#
);

/// A shell test of `$d`: a directory that this user made, and no link.
const OURS: &str = r#"[ -d "$d" ] && [ ! -L "$d" ] && [ -O "$d" ]"#;

/// How long a host that was lost in the middle is looked for before the command's fate counts as unknown.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a call comes back with besides an answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The command was certainly not run.
    NotRun(Error),
    /// It was handed over, and no answer came.
    Unknown(String),
    /// The agent answered with an error of its own.
    Refused(Error),
}

/// A boxed future, as trait objects need it.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One way to an agent.
pub(crate) trait Agent: Send + Sync + 'static {
    /// Has the agent's shell run `text`; what it wrote to stdout.
    fn call(&self, text: Zeroizing<String>, limit: Option<Duration>)
    -> Boxed<'_, Result<Vec<u8>, CallError>>;

    /// Whether commands, and so the secrets in them, may be handed to this agent: it keeps them out of its process
    /// list, or the user has said that it does not matter.
    fn may_have_secrets(&self) -> Boxed<'_, Result<bool, Error>>;

    /// Gives up the connection.
    fn close(&self) -> Boxed<'_, ()>;
}

/// A host behind an agent.
pub(crate) struct Post {
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) kind: Kind,
    /// What still fetches, ends or removes something there.
    tasks: TaskTracker,
    /// It has answered.
    seen: Arc<AtomicBool>,
    /// What others left there was removed.
    swept: Arc<AtomicBool>,
    lease: Lease,
}

/// How long commands go on whose caller is not heard of.
#[derive(Clone)]
struct Lease {
    time: Duration,
    /// The agent takes a call while a command runs.
    can_be_renewed: Arc<AtomicBool>,
}

impl Post {
    pub(crate) fn new(agent: impl Agent, kind: Kind, lease: Duration) -> Self {
        let (agent, tasks) = (Arc::new(agent), TaskTracker::new());
        let lease = Lease { time: lease, can_be_renewed: Arc::default() };
        Self { agent, kind, tasks, seen: Arc::default(), swept: Arc::default(), lease }
    }

    /// Gives up the connection when nothing is left to be removed there, or when that takes too long.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(LOOK, self.tasks.wait()).await;
        self.agent.close().await;
    }
}

/// What a command and its directory are known by.
#[derive(Clone)]
struct Mailbox {
    agent: Arc<dyn Agent>,
    tasks: TaskTracker,
    seen: Arc<AtomicBool>,
    swept: Arc<AtomicBool>,
    lease: Lease,
    /// Nobody needs its directory any more.
    over: Arc<AtomicBool>,
    /// It is to end: its lease is not renewed any more.
    killed: Arc<AtomicBool>,
    mark: String,
    /// As the shell there writes it between double quotes.
    dir: String,
    host: String,
    command: String,
}

/// What the directory of a command tells.
enum State {
    Done {
        status: u8,
        out: u64,
        err: u64,
        events: Vec<Event>,
        first_out: Vec<u8>,
        first_err: Vec<u8>,
    },
    Running,
    /// Its directory is there, and it did not begin yet.
    Made,
    /// It began, and neither it nor its end is there.
    Dead,
    None,
}

/// Runs the stages; returns at once.
pub(crate) async fn start(
    post: &Post,
    host: &Host,
    stages: Vec<Spec>,
    input: Option<Zeroizing<Vec<u8>>>,
    secret: bool,
    command: &str,
) -> Result<Started, Error> {
    if secret && !post.agent.may_have_secrets().await? {
        return Err(Error::Unsupported {
            host: host.name().to_owned(),
            what: "be given a secret: its agent shows commands in the process list (see the option `trusted`)",
        });
    }
    let id = hexadecimal::<16>()?;
    let mailbox = Mailbox {
        agent: post.agent.clone(),
        tasks: post.tasks.clone(),
        seen: post.seen.clone(),
        swept: post.swept.clone(),
        lease: post.lease.clone(),
        over: Arc::default(),
        killed: Arc::default(),
        mark: format!("@dbrecover-{id}"),
        dir: format!("${{TMPDIR:-/tmp}}/dbrecover-{id}"),
        host: host.name().to_owned(),
        command: command.to_owned(),
    };
    let mut line = script::render(&stages, &Report::Mailbox { dir: &mailbox.dir })?;
    line.push(b'\n');
    line.extend_from_slice(input.as_deref().map_or(&[], |v| &v[..]));
    let (done, ended) = oneshot::channel();
    let (out, out_pieces) = mpsc::channel(2);
    let (err, err_pieces) = mpsc::channel(2);
    let running = mailbox.clone();
    post.tasks.spawn(async move {
        let state = running.run(&stages, &line).await;
        let may_run = matches!(&state, Ok(State::Running | State::Made) | Err(Error::Lost { .. }));
        let (result, state) = match state {
            Ok(state) => match running.judge(&state, &stages) {
                Ok(statuses) => (Ok(statuses), Some(state)),
                Err(e) => (Err(e), None),
            },
            Err(e) => (Err(e), None),
        };
        let _ = done.send(result);
        if let Some(State::Done { out: out_size, err: err_size, first_out, first_err, .. }) = state {
            tokio::join!(
                running.pump("o", out_size, first_out, out),
                running.pump("e", err_size, first_err, err)
            );
        }
        // What may still run must not lose the directory by which it is known: its lease ends it, and who comes a day
        // later removes what it left.
        if !may_run || running.kill(Duration::ZERO).await {
            running.over.store(true, Ordering::SeqCst);
            running.remove().await;
        }
    });
    Ok(Started {
        stdin: None,
        stdout: Some(reader(out_pieces)),
        stderr: Some(reader(err_pieces)),
        process: Box::new(Waiting {
            mailbox,
            ended: Some(ended),
            result: None,
            runtime: tokio::runtime::Handle::current(),
        }),
    })
}

/// The pieces as a stream.
fn reader(pieces: mpsc::Receiver<io::Result<Vec<u8>>>) -> Reader {
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece.map(io::Cursor::new), pieces))
    });
    Reader::new(StreamReader::new(stream.boxed()))
}

impl Lease {
    /// When it is renewed for the first time, from the beginning of the command on.
    fn first(&self) -> Duration {
        let known = self.can_be_renewed.load(Ordering::Relaxed);
        if known { self.renewal() } else { self.renewal().min(SOON) }
    }

    /// How long from one renewal to the next.
    fn renewal(&self) -> Duration {
        (self.time / RENEWALS).min(WATCH)
    }

    /// What [`WATCHER`] has to know, as shell text.
    fn terms(&self, grace: Duration) -> String {
        let runs = if self.can_be_renewed.load(Ordering::Relaxed) { "1" } else { "" };
        let (pause, tenths) = ((self.time / PAUSES).as_secs_f64(), grace.as_millis() / 100);
        format!("t={pause} q={PAUSES} k={tenths} a={runs};")
    }
}

impl Mailbox {
    /// Hands the command over and waits for its end.
    async fn run(&self, stages: &[Spec], line: &[u8]) -> Result<State, Error> {
        let (timeout, grace) = (stages[0].timeout, stages[0].grace);
        let d = &self.dir;
        let base64 = Zeroizing::new(STANDARD.encode(line));
        let source = if base64.len() <= CALL {
            Zeroizing::new(format!("printf %s '{}'", *base64))
        } else {
            for (i, piece) in base64.as_bytes().chunks(CALL).enumerate() {
                let piece = std::str::from_utf8(piece).unwrap_or_default();
                let text = format!(
                    "umask 077; d=\"{d}.in\"; f=\"$d/{i:08}\"; {{ mkdir \"$d\" 2>/dev/null || {{ {OURS}; }}; }} && \
                     printf %s '{piece}' >\"$f\" && [ $(wc -c <\"$f\") = {} ] && echo sent",
                    piece.len()
                );
                let answer = self.small(Zeroizing::new(text)).await?;
                if answer.trim_ascii() != b"sent" {
                    let detail = "it has no room for temporary files, or somebody else made them".to_owned();
                    return Err(Error::Agent { host: self.host.clone(), detail });
                }
            }
            Zeroizing::new(format!("cat \"{d}.in\"/*"))
        };
        // 0 means no limit to `timeout`; it makes the process group all the same. The narrow umask is for what is kept
        // here, not for what the command makes.
        let limit = timeout.map_or(0.0, |t| t.as_secs_f64().max(0.001));
        let text = Zeroizing::new(format!(
            "u=$(umask); umask 077; d=\"{d}\"; {WHO}{OWN}{} if mkdir \"$d\"; then {WATCHER} g=$!; {} | base64 -d | \
             (umask \"$u\"; exec timeout -k {} {limit} /bin/sh -c '{LOADER}') >\"$d/o\" 2>\"$d/e\"; \
             c=$?; kill $g 2>/dev/null; echo $c >\"$d/s.new\"; mv \"$d/s.new\" \"$d/s\"; fi; {}",
            self.lease.terms(grace),
            *source,
            grace.as_secs_f64().max(0.001),
            self.tell(),
        ));
        let patience = timeout.map(|t| t + grace + LOOK);
        // An agent that was started anew knows nothing of the command and will never answer.
        let answer = tokio::select! {
            answer = self.hand_over(text, patience) => answer,
            () = self.overdue() => Err(CallError::Unknown("it should have ended, and no answer came".to_owned())),
        };
        match answer {
            Ok(answer) => match self.parse(&answer) {
                Some(state) => Ok(state),
                None => Err(self.strange(&answer)),
            },
            Err(CallError::NotRun(e) | CallError::Refused(e)) => Err(e),
            Err(CallError::Unknown(detail)) => self.look_for(detail).await,
        }
    }

    /// The call itself. It is made again only where it was certainly not run.
    async fn hand_over(
        &self,
        text: Zeroizing<String>,
        patience: Option<Duration>,
    ) -> Result<Vec<u8>, CallError> {
        let begun = tokio::time::Instant::now();
        loop {
            let answer = self.agent.call(text.clone(), patience).await;
            let away = matches!(&answer, Err(CallError::NotRun(error)) if error.is_connection());
            if away && self.seen.load(Ordering::Relaxed) && begun.elapsed() < AWAY {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            if answer.is_ok() {
                self.seen.store(true, Ordering::Relaxed);
            }
            return answer;
        }
    }

    /// Ready when the command has ended so long ago that its answer should be here, or should have begun long ago.
    async fn overdue(&self) {
        let now = tokio::time::Instant::now;
        let (mut ended, mut waits) = (None, now());
        let mut pause = self.lease.first();
        loop {
            tokio::time::sleep(pause).await;
            pause = self.lease.renewal();
            match self.look().await {
                Some(State::None | State::Made) => {
                    ended = None;
                    if waits.elapsed() > PATIENCE {
                        return;
                    }
                }
                Some(State::Done { .. } | State::Dead) => {
                    waits = now();
                    if ended.get_or_insert(waits).elapsed() >= WATCH {
                        return;
                    }
                }
                Some(State::Running) | None => (ended, waits) = (None, now()),
            }
        }
    }

    /// What the directory tells now, if the host can be asked. The lease of the command is renewed.
    async fn look(&self) -> Option<State> {
        let renew = match self.killed.load(Ordering::SeqCst) {
            true => ":",
            false => "{ [ -d \"$d\" ] && : >\"$d/l\"; } 2>/dev/null",
        };
        let text = format!("umask 077; d=\"{}\"; {renew}; {WHO}{OWN}{}", self.dir, self.tell());
        let answer = self.agent.call(text.into(), Some(LOOK)).await.ok()?;
        let state = self.parse(&answer);
        if matches!(state, Some(State::Running)) {
            self.lease.can_be_renewed.store(true, Ordering::Relaxed);
        }
        state
    }

    /// The answer got lost: asks the directory until it tells the end.
    async fn look_for(&self, detail: String) -> Result<State, Error> {
        tracing::warn!(
            host = self.host,
            command = self.command,
            detail,
            "no answer, asking what became of it"
        );
        let mut last = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
            match self.look().await {
                Some(State::Running) => last = tokio::time::Instant::now(),
                Some(State::None | State::Made) | None if last.elapsed() < PATIENCE => {}
                Some(state @ (State::Done { .. } | State::Dead)) => return Ok(state),
                Some(State::None | State::Made) | None => {
                    let (host, command) = (self.host.clone(), self.command.clone());
                    return Err(Error::Lost { host, command, detail });
                }
            }
        }
    }

    /// Shell text that tells the state of the directory `$d`. It needs [`WHO`] and [`OWN`]. One that another user made
    /// under this name is none.
    fn tell(&self) -> String {
        let mark = &self.mark;
        format!(
            "if ! {{ {OURS}; }}; then echo; echo {mark} none; \
             elif [ -e \"$d/s\" ]; then echo; echo {mark} done $(cat \"$d/s\") $(stat -c %s \"$d/o\" \"$d/e\") \
             $(cat \"$d/r\" 2>/dev/null | tr '\\n' ';'); head -c {INLINE} \"$d/o\" | base64 -w0; echo; \
             head -c {INLINE} \"$d/e\" | base64 -w0; echo; \
             elif [ ! -e \"$d/pid\" ]; then echo; echo {mark} made; \
             elif {{ of; own; }} || {{ sleep 1; [ -e \"$d/s\" ]; }}; then echo; echo {mark} running; else echo; echo {mark} dead; fi"
        )
    }

    fn parse(&self, answer: &[u8]) -> Option<State> {
        let mut lines = answer.split(|b| *b == b'\n').skip_while(|l| !l.starts_with(self.mark.as_bytes()));
        let head = std::str::from_utf8(lines.next()?).ok()?.strip_prefix(&self.mark)?.trim();
        let Some(done) = head.strip_prefix("done ") else {
            return match head {
                "running" => Some(State::Running),
                "made" => Some(State::Made),
                "dead" => Some(State::Dead),
                "none" => Some(State::None),
                _ => None,
            };
        };
        let mut words = done.splitn(4, ' ');
        let status = words.next()?.parse().ok()?;
        let (out, err) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let events = words.next().unwrap_or_default().split(';').filter_map(Event::parse).collect();
        let first_out = STANDARD.decode(lines.next()?).ok()?;
        let first_err = STANDARD.decode(lines.next()?).ok()?;
        let whole = |size: u64, first: &[u8]| first.len() as u64 == size.min(INLINE);
        (whole(out, &first_out) && whole(err, &first_err)).then_some(State::Done {
            status,
            out,
            err,
            events,
            first_out,
            first_err,
        })
    }

    fn judge(&self, state: &State, stages: &[Spec]) -> Result<Vec<Status>, Error> {
        let (host, command) = (self.host.clone(), self.command.clone());
        match state {
            State::Done { status, events, .. } => match local::statuses(events, stages, &host)? {
                Some(statuses) => Ok(statuses),
                None if events.contains(&Event::Unheard) => {
                    Err(Error::Unheard { host, command, after: self.lease.time })
                }
                // 124 and 137 are what `timeout` says of what it ended.
                None => match stages[0].timeout {
                    Some(after) if matches!(status, 124 | 137) => {
                        Err(Error::Timeout { host, command, after })
                    }
                    _ => Err(Error::EndedThere { host, command }),
                },
            },
            State::Running | State::Made => {
                Err(Error::Lost { host, command, detail: "its name was used before".to_owned() })
            }
            State::Dead => Err(Error::EndedThere { host, command }),
            State::None => {
                let detail = "the agent could not make a directory for temporary files".to_owned();
                Err(Error::Agent { host, detail })
            }
        }
    }

    /// Hands the stream on: what the first answer had, then the rest piece by piece.
    async fn pump(&self, file: &str, size: u64, first: Vec<u8>, to: mpsc::Sender<io::Result<Vec<u8>>>) {
        let mut at = first.len() as u64;
        if at > 0 && to.send(Ok(first)).await.is_err() {
            return;
        }
        while at < size {
            let piece = self.fetch(file, at, size).await;
            let failed = piece.is_err();
            at += piece.as_ref().map_or(0, |p| p.len() as u64);
            if to.send(piece).await.is_err() || failed {
                return;
            }
        }
    }

    async fn fetch(&self, file: &str, at: u64, size: u64) -> io::Result<Vec<u8>> {
        let text =
            format!("tail -c +{} \"{}/{file}\" | head -c {PIECE} | base64 -w0; echo", at + 1, self.dir);
        let answer = self.small(Zeroizing::new(text)).await.map_err(io::Error::other)?;
        let piece = STANDARD.decode(answer.trim_ascii()).map_err(io::Error::other)?;
        if piece.len() as u64 != (size - at).min(PIECE) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a piece of the output is missing there",
            ));
        }
        Ok(piece)
    }

    /// A call that may be repeated: tried again when its answer gets lost.
    async fn small(&self, text: Zeroizing<String>) -> Result<Vec<u8>, Error> {
        let (mut tries, begun) = (0, tokio::time::Instant::now());
        loop {
            tries += 1;
            let again = tries < 5 || begun.elapsed() < AWAY;
            match self.agent.call(text.clone(), Some(LOOK)).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Unknown(_)) if again => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(CallError::NotRun(e)) if again && e.is_connection() => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(CallError::NotRun(e) | CallError::Refused(e)) => return Err(e),
                Err(CallError::Unknown(detail)) => {
                    let (host, command) = (self.host.clone(), self.command.clone());
                    return Err(Error::Lost { host, command, detail });
                }
            }
        }
    }

    /// Removes what the command left; nothing depends on it. A broker that is just being restarted loses the order.
    async fn remove(&self) {
        let sweep = if self.swept.swap(true, Ordering::Relaxed) { ":" } else { SWEEP };
        let text = format!("rm -rf \"{0}\" \"{0}.in\"; {sweep}; echo gone", self.dir);
        let _ = self.small(text.into()).await;
    }

    /// Ends the command's process group, or keeps a command from starting that has not started yet. Whether that was
    /// done; if not, its lease runs out.
    async fn kill(&self, grace: Duration) -> bool {
        self.killed.store(true, Ordering::SeqCst);
        let tenths = grace.as_millis() / 100;
        let text = format!(
            "{WHO}{OWN}umask 077; d=\"{}\"; mkdir \"$d\" 2>/dev/null; : >\"$d/dead\"; n=0; until [ -e \"$d/pid\" ] || [ -e \"$d/s\" ] || [ $n -ge 5 ]; do sleep 0.1; n=$((n+1)); done; \
             of; if own; then kill -s TERM -- \"-$p\"; n=0; \
             while [ $n -lt {tenths} ] && own; do sleep 0.1; n=$((n+1)); done; \
             kill -s KILL -- \"-$p\" 2>/dev/null; fi; echo ended",
            self.dir
        );
        let answer = self.agent.call(text.into(), Some(grace + LOOK)).await;
        // The order may have come after the end, and made the directory again.
        if self.over.load(Ordering::SeqCst) {
            self.remove().await;
        }
        answer.is_ok()
    }

    fn strange(&self, answer: &[u8]) -> Error {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).trim().to_owned();
        let detail = format!("its answer is not one of a shell with base64, stat and timeout: {shown:?}");
        Error::Agent { host: self.host.clone(), detail }
    }
}

/// The command while it runs.
struct Waiting {
    mailbox: Mailbox,
    ended: Option<oneshot::Receiver<Result<Vec<Status>, Error>>>,
    result: Option<Vec<Status>>,
    runtime: tokio::runtime::Handle,
}

impl Process for Waiting {
    fn wait(&mut self) -> Boxed<'_, Result<Vec<Status>, Error>> {
        Box::pin(async {
            if let Some(result) = &self.result {
                return Ok(result.clone());
            }
            let gone =
                Error::EndedThere { host: self.mailbox.host.clone(), command: self.mailbox.command.clone() };
            let Some(ended) = &mut self.ended else { return Err(gone) };
            let result = ended.await.unwrap_or(Err(gone));
            self.ended = None;
            self.result = result.as_ref().ok().cloned();
            result
        })
    }

    fn kill(&mut self, grace: Duration) -> Boxed<'_, ()> {
        Box::pin(async move {
            self.mailbox.kill(grace).await;
        })
    }

    fn killer(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (mailbox, runtime) = (self.mailbox.clone(), self.runtime.clone());
        Arc::new(move || {
            let killing = mailbox.clone();
            mailbox.tasks.spawn_on(
                async move {
                    killing.kill(Duration::ZERO).await;
                },
                &runtime,
            );
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    /// An agent that runs what it is given here, one call at a time, or none of the calls that only look.
    struct Here {
        tmp: PathBuf,
        one_at_a_time: Option<tokio::sync::Mutex<()>>,
        looks: usize,
        looked: std::sync::atomic::AtomicUsize,
        /// It runs what it is given, and nobody hears of it.
        deaf: bool,
    }

    impl Here {
        fn host(tmp: &TempDir, one_at_a_time: bool, looks: usize, lease: Duration) -> Host {
            Self::host_in(tmp.path().into(), one_at_a_time, looks, lease)
        }

        fn host_in(tmp: PathBuf, one_at_a_time: bool, looks: usize, lease: Duration) -> Host {
            let one_at_a_time = one_at_a_time.then(Default::default);
            Self { tmp, one_at_a_time, looks, looked: Default::default(), deaf: false }.into_host(lease)
        }

        fn deaf_host(tmp: &TempDir) -> Host {
            let tmp = tmp.path().into();
            Self { tmp, one_at_a_time: None, looks: 0, looked: Default::default(), deaf: true }
                .into_host(LEASE)
        }

        fn into_host(self, lease: Duration) -> Host {
            Host::new(crate::host::Backend::Agent(Post::new(self, Kind::Rabbit, lease)), "here")
        }
    }

    impl Agent for Here {
        fn call(
            &self,
            text: Zeroizing<String>,
            _: Option<Duration>,
        ) -> Boxed<'_, Result<Vec<u8>, CallError>> {
            Box::pin(async move {
                let mut shell = tokio::process::Command::new("/bin/sh");
                shell.arg("-c").arg(text.as_str()).env("TMPDIR", &self.tmp);
                if self.deaf {
                    if text.contains("base64 -d") {
                        let null = std::process::Stdio::null;
                        drop(shell.stdout(null()).stderr(null()).spawn().unwrap());
                    }
                    return Err(CallError::Unknown("the cable is cut".to_owned()));
                }
                let is_look = !text.contains("mkdir") && !text.contains("rm -rf");
                if is_look && self.looked.fetch_add(1, Ordering::SeqCst) >= self.looks {
                    return Err(CallError::Unknown("the caller is not there any more".to_owned()));
                }
                let _one = match &self.one_at_a_time {
                    Some(lock) => Some(lock.lock().await),
                    None => None,
                };
                Ok(shell.output().await.unwrap().stdout)
            })
        }

        fn may_have_secrets(&self) -> Boxed<'_, Result<bool, Error>> {
            Box::pin(async { Ok(true) })
        }

        fn close(&self) -> Boxed<'_, ()> {
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn command_whose_lease_is_not_renewed_any_more_is_ended() {
        let lease = Duration::from_secs(1);
        let tmp = tempfile::tempdir().unwrap();
        let host = Here::host(&tmp, false, 2, lease);
        let begun = std::time::Instant::now();
        // What does not heed SIGTERM is ended all the same.
        let script = "trap '' TERM; sleep 1000 & wait; sleep 1000; :";
        let command = host.command("sh").args(["-c", script]).grace(Duration::from_millis(200));
        let error = tokio::time::timeout(Duration::from_secs(100), command.output()).await.unwrap();
        let error = error.unwrap_err();
        assert!(matches!(&error, Error::Unheard { after, .. } if *after == lease), "{error:?}");
        assert!(begun.elapsed() >= lease);
    }

    #[tokio::test]
    async fn lease_that_is_renewed_or_that_nobody_can_renew_does_not_run_out() {
        for one_at_a_time in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let host = Here::host(&tmp, one_at_a_time, usize::MAX, Duration::from_secs(3));
            let command = host.command("sh").args(["-c", "sleep 7; echo done"]);
            assert_eq!(command.output().await.unwrap().text(), "done", "{one_at_a_time}");
            host.close().await;
        }
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(std::time::Instant::now() < end, "{what}");
            // Not the clock of the tests that stop it.
            std::thread::sleep(Duration::from_millis(20));
            tokio::task::yield_now().await;
        }
    }

    /// The directory below `tmp` of the only command there, and what is in this file, once something is.
    async fn said(tmp: &Path, file: &str) -> (PathBuf, String) {
        let dir = || std::fs::read_dir(tmp).unwrap().next().map(|entry| entry.unwrap().path());
        let text = || dir().and_then(|dir| std::fs::read_to_string(dir.join(file)).ok()).unwrap_or_default();
        until(file, || !text().is_empty()).await;
        (dir().unwrap(), text())
    }

    #[tokio::test]
    async fn command_whose_directory_was_removed_is_ended() {
        let tmp = tempfile::tempdir().unwrap();
        // A lease that runs out long after the test.
        let host = Here::host(&tmp, false, usize::MAX, PAUSES * Duration::from_secs(1));
        let child = host.command("sleep").arg("1000").spawn().await.unwrap();
        let (dir, pid) = said(tmp.path(), "pid").await;
        let process = Path::new("/proc").join(pid.trim());
        assert!(process.exists());
        // The watcher has looked when a lease was renewed for it twice.
        for _ in 0..2 {
            std::fs::write(dir.join("l"), "").unwrap();
            until("a lease that was not seen", || !dir.join("l").exists()).await;
        }
        std::fs::remove_dir_all(&dir).unwrap();
        until("it goes on", || !process.exists()).await;
        assert!(child.wait().await.is_err());
    }

    // The minute in which the host is looked for passes at once.
    #[tokio::test(start_paused = true)]
    async fn command_whose_fate_is_unknown_keeps_its_directory() {
        let tmp = tempfile::tempdir().unwrap();
        let host = Here::deaf_host(&tmp);
        let error = host.command("sleep").arg("1000").output().await.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
        host.close().await;
        let (_, pid) = said(tmp.path(), "pid").await;
        rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        said(tmp.path(), "s").await;
    }

    #[tokio::test]
    async fn upload_that_does_not_fit_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let host = Here::host(&tmp, false, usize::MAX, LEASE);
        let command = host.command("wc").arg("-c").stdin_bytes(vec![b'x'; 3 * CALL]);
        assert_eq!(command.output().await.unwrap().text(), (3 * CALL).to_string());
        let host = Here::host_in("/proc/self".into(), false, usize::MAX, LEASE);
        let command = host.command("wc").arg("-c").stdin_bytes(vec![b'x'; 3 * CALL]);
        let error = command.output().await.unwrap_err().to_string();
        assert!(error.contains("no room"), "{error}");
    }

    #[test]
    fn command_that_was_ended_before_it_began_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display().to_string();
        let stage = Host::local().command("touch").arg(dir.path().join("ran")).spec;
        let script = script::render(&[stage], &Report::Mailbox { dir: &here }).unwrap();
        let run = || {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", std::str::from_utf8(&script).unwrap()]).status().unwrap().code()
        };
        std::fs::write(dir.path().join("dead"), "").unwrap();
        assert_eq!(run(), Some(143));
        assert!(!dir.path().join("ran").exists());
        std::fs::remove_file(dir.path().join("dead")).unwrap();
        assert_eq!(run(), Some(0));
        assert!(dir.path().join("ran").exists());
    }

    #[tokio::test]
    async fn short_command_leaves_no_watcher() {
        // Nobody else pauses for so long.
        let pause = 1000.5 + f64::from(std::process::id());
        let tmp = tempfile::tempdir().unwrap();
        let host = Here::host(&tmp, false, usize::MAX, Duration::from_secs_f64(pause) * PAUSES);
        host.command("sleep").arg("0.2").run().await.unwrap();
        host.close().await;
        let sleeps = || {
            let ps = Command::new("ps").args(["-eo", "args"]).output().unwrap();
            String::from_utf8_lossy(&ps.stdout).contains(&format!("sleep {pause}"))
        };
        until("its watcher is there", || !sleeps()).await;
    }

    fn shell(script: &str, argument: &Path) -> std::process::Output {
        let script = format!("{WHO}{OWN}{script}");
        Command::new("/bin/sh").args(["-c", &script, "sh"]).arg(argument).output().unwrap()
    }

    fn who(process: u32) -> Vec<u8> {
        shell("who \"$1\"", Path::new(&process.to_string())).stdout
    }

    #[test]
    fn process_group_is_known_by_more_than_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let owns = || shell("d=$1; of; own", dir.path()).status.success();
        let mut leader = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        assert!(!owns(), "of nothing");
        std::fs::write(dir.path().join("pid"), format!("{}\n", leader.id())).unwrap();
        assert!(!owns(), "by its number only");
        let it = who(leader.id());
        assert_eq!(it.iter().filter(|byte| **byte == b'\n').count(), 2);
        std::fs::write(dir.path().join("who"), &it).unwrap();
        assert!(owns());
        // That of the same number before, and before the machine was started.
        std::fs::write(dir.path().join("who"), who(1)).unwrap();
        assert!(!owns(), "another process");
        std::fs::write(dir.path().join("who"), [b"x", &it[1..]].concat()).unwrap();
        assert!(!owns(), "another start of the machine");
        std::fs::write(dir.path().join("who"), &it).unwrap();
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert!(!owns(), "it has ended");
    }
}
