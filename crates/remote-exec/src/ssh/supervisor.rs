//! The far side's end of a connection: one small shell script that knows every command's process group.
//!
//! It is started first on a connection and lives as long as it. Commands register their process group in its
//! directory (0700) and report their exit statuses through its FIFO, which it copies to this side. So an exit status
//! never gets lost or mixed up with output, a group is ended by its number and not by searching `ps`, and when the
//! connection goes away (its stdin ends, or no beat arrives for two periods), it ends whatever still runs and removes
//! its directory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use crate::script::Event;

/// What the script says when it is ready. Whatever a login shell prints before it would stand in the output of every
/// program, so such a shell is refused.
const READY: &str = "@dbrecover-supervisor";

/// What the script says where its shell leads no process group.
const NO_GROUP: &str = "its shell leads no process group";

/// How often this side sends a sign of life.
const BEAT: Duration = Duration::from_secs(15);

/// How much of what a login shell prints is shown, in bytes.
const NOISE: usize = 200;

/// The longest line that is accepted from the far side, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The script, in one line. A period without a beat or another order, which is sent in its place, is 60 s; two of them
/// end everything.
const SCRIPT: &str = concat!(
    r#"umask 077; trap '' HUP PIPE; kill -s 0 -- "-$$" 2>/dev/null || { echo its shell leads no process group; exit 1; }; d=$(mktemp -d "${TMPDIR:-/tmp}/dbrecover-XXXXXXXXXX") && mkfifo "$d/ev" || exit 1; "#,
    r#"exec 3<>"$d/ev"; cat <&3 & "#,
    r#"e() { p=$(cat "$d/$1.pid" || cat "$d/$1.old") && rm -f "$d/$1.pid" "$d/$1.old" || return 0; kill -s TERM -- "-$p"; k=0; "#,
    r#"while [ $k -lt $2 ] && kill -s 0 -- "-$p"; do sleep 0.1; k=$((k+1)); done; kill -s KILL -- "-$p"; } 2>/dev/null; "#,
    r#"all() { w=; for f in "$d"/*.pid; do [ -e "$f" ] || continue; i=${f##*/}; e "${i%.pid}" 20 & w="$w $!"; done; "#,
    r#"[ -z "$w" ] || wait $w; rm -rf "$d"; trap '' TERM; kill -s TERM -- "-$$"; }; "#,
    r#": >"$d/beat"; { m=0; while sleep 60; do if rm "$d/beat" 2>/dev/null; then m=0; else m=$((m+1)); fi; "#,
    r#"[ $m -lt 2 ] || { all; kill -s KILL $$; exit; }; done; } >/dev/null & "#,
    r#"echo "@dbrecover-supervisor $d"; "#,
    r#"while read -r o i g; do case $o in beat) : >"$d/beat";; "#,
    r#"kill) : >"$d/beat" >"$d/$i.dead"; { e "$i" "$g"; echo "$i killed" >&3; } & ;; esac; done; all"#,
);

/// This side's handle of a supervisor.
pub(super) struct Supervisor {
    orders: mpsc::UnboundedSender<String>,
    shared: Arc<Shared>,
    dir: String,
}

struct Shared {
    listeners: Mutex<HashMap<String, mpsc::UnboundedSender<Event>>>,
    alive: AtomicBool,
}

impl Shared {
    fn listeners(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Event>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody who still waits learns that nothing will come.
    fn end(&self) {
        self.alive.store(false, Ordering::Release);
        self.listeners().clear();
    }
}

impl Supervisor {
    /// Sends the script to a fresh shell and waits for its first word, no longer than `patience`.
    pub(super) async fn start(
        mut stdin: impl AsyncWrite + Unpin + Send + 'static,
        stdout: impl AsyncRead + Unpin + Send + 'static,
        patience: Duration,
    ) -> Result<Self, String> {
        stdin.write_all(SCRIPT.as_bytes()).await.map_err(|e| e.to_string())?;
        stdin.write_all(b"\n").await.map_err(|e| e.to_string())?;
        let mut lines = Lines { stream: BufReader::new(stdout), line: Vec::new() };
        let mut noise = String::new();
        let first = async {
            while let Some(line) = lines.next().await {
                if let Some(at) = line.find(READY) {
                    noise.push_str(&line[..at]);
                    return Some(line[at + READY.len()..].trim().to_owned());
                }
                if noise.len() < NOISE {
                    noise.push_str(&line);
                    noise.push('\n');
                }
            }
            None
        };
        let dir = match tokio::time::timeout(patience, first).await {
            Ok(Some(dir)) if noise.is_empty() => dir,
            Ok(Some(_)) => {
                return Err(format!(
                    "its login shell writes {:?} into the output of every program; let it do so only at a terminal, \
                     as `[ -t 1 ] && …` in its .bashrc does",
                    noise.trim()
                ));
            }
            Ok(None) if noise.contains(NO_GROUP) => {
                return Err(format!(
                    "{NO_GROUP}, so nothing could be ended there: whatever its login runs commands with (ForceCommand, \
                     command=, a wrapper as shell) must `exec` them"
                ));
            }
            Ok(None) => {
                return Err(format!(
                    "its shell ended at once: {:?}; /bin/sh, mktemp, mkfifo and room in its /tmp are needed there",
                    noise.trim()
                ));
            }
            Err(_) => return Err(format!("its shell said nothing for {} s", patience.as_secs())),
        };
        let shared = Arc::new(Shared { listeners: Mutex::new(HashMap::new()), alive: AtomicBool::new(true) });
        let (orders, mut queue) = mpsc::unbounded_channel::<String>();
        let ended = shared.clone();
        tokio::spawn(async move {
            loop {
                let order = match tokio::time::timeout(BEAT, queue.recv()).await {
                    Ok(Some(order)) if !order.is_empty() => order,
                    Ok(_) => break,
                    Err(_) => "beat\n".to_owned(),
                };
                if stdin.write_all(order.as_bytes()).await.is_err() {
                    break;
                }
            }
            ended.alive.store(false, Ordering::Release);
        });
        let heard = shared.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.next().await {
                let Some((id, event)) = line.split_once(' ') else { continue };
                if let (Some(event), Some(listener)) = (Event::parse(event), heard.listeners().get(id)) {
                    let _ = listener.send(event);
                }
            }
            heard.end();
        });
        Ok(Self { orders, shared, dir })
    }

    /// The directory of the supervisor on its host.
    pub(super) fn dir(&self) -> &str {
        &self.dir
    }

    /// Whether the far side still listens, as far as is known here.
    pub(super) fn alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// No command is to be started here any more.
    pub(super) fn retire(&self) {
        self.shared.alive.store(false, Ordering::Release);
    }

    /// Ends the far side's input, and so everything that runs there.
    pub(super) fn close(&self) {
        self.retire();
        let _ = self.orders.send(String::new());
    }

    /// The events of one command. They end when the connection does.
    pub(super) fn register(&self, id: &str) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut listeners = self.shared.listeners();
        listeners.retain(|_, sender| !sender.is_closed());
        if self.alive() {
            listeners.insert(id.to_owned(), sender);
        }
        receiver
    }

    /// Orders the end of a command's process group. Never blocks.
    pub(super) fn kill(&self, id: &str, grace: Duration) {
        let tenths = grace.as_millis() / 100;
        let _ = self.orders.send(format!("kill {id} {tenths}\n"));
    }
}

/// Lines of bounded length.
struct Lines<R> {
    stream: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The next line; `None` at the end, after an error, or when a line is longer than any that the script writes.
    async fn next(&mut self) -> Option<String> {
        self.line.clear();
        loop {
            let buffer = self.stream.fill_buf().await.ok()?;
            if buffer.is_empty() {
                return None;
            }
            let (taken, done) = match buffer.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (buffer.len(), false),
            };
            self.line.extend_from_slice(&buffer[..taken]);
            self.stream.consume(taken);
            if done {
                return Some(String::from_utf8_lossy(&self.line).trim_end().to_owned());
            }
            if self.line.len() > MAX_LINE {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn orders_are_signs_of_life() {
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let (stdin, stdout) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let supervisor = Supervisor::start(stdin, stdout, Duration::from_secs(60)).await.unwrap();
        let beat = std::path::Path::new(supervisor.dir()).join("beat");
        std::fs::remove_file(&beat).unwrap();
        // Long before the first beat that is sent by itself.
        let end = tokio::time::Instant::now() + BEAT * 2 / 3;
        supervisor.kill("nothing", Duration::ZERO);
        while !beat.exists() {
            assert!(tokio::time::Instant::now() < end, "no sign of life");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        supervisor.close();
        shell.wait().await.unwrap();
        assert!(!std::path::Path::new(supervisor.dir()).exists());
    }

    #[tokio::test]
    async fn shell_that_leads_no_process_group_is_refused() {
        // As behind a wrapper that does not give its place to it: it is in this process's group.
        let mut shell = tokio::process::Command::new("/bin/sh");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let refused = Supervisor::start(stdin, stdout, Duration::from_secs(60)).await.err().unwrap();
        assert!(refused.starts_with(NO_GROUP) && refused.contains("must `exec`"), "{refused}");
        shell.wait().await.unwrap();
    }
}
