//! The other side: an agent for both protocols, so that a site without any can use them.
//!
//! A command is given to a shell on its stdin, so neither it nor a secret in it is in the process list. It runs in a
//! session of its own, and everything in that session is ended at the deadline and when the agent ends. A caller by gRPC that
//! goes away, or gives up, ends it too; a broker tells nothing of callers, so there it runs on, unless it has a lease
//! of its own, as what our callers run.

#[cfg(feature = "grpc")]
pub mod adm;
#[cfg(feature = "rabbit")]
pub mod rabbit;

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The most that is kept of each stream of a command, in bytes. Our own client asks for 6 MiB at most.
pub const OUTPUT_LIMIT: usize = 256 << 20;

/// The environment variable by which a program may be given its broker's address. The address has a password in it, so
/// commands do not get the variable.
pub const URI_VARIABLE: &str = "DBRECOVER_RABBIT_URI";

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// As a shell has it in `$?`.
    pub(crate) code: u8,
}

/// Reads the script, then runs it with an empty stdin.
const SHELL: &str = "c=$(cat; echo x); exec </dev/null; eval \"${c%x}\"";

/// Ends everything in a session when it is dropped.
struct Session(Option<Pid>);

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            end(session);
        }
    }
}

/// Runs one command to its end, or to its deadline. `tmp_dir` is its `TMPDIR`, if it is not to be the agent's.
pub(crate) async fn run(
    command: &[u8],
    deadline: Option<Duration>,
    tmp_dir: Option<&Path>,
) -> io::Result<Ran> {
    let mut child = tokio::process::Command::new("setsid")
        .args(["/bin/sh", "-c", SHELL])
        .envs(tmp_dir.map(|dir| ("TMPDIR", dir)))
        .env_remove(URI_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // `setsid` of a process that leads no group becomes the session's leader itself.
    let mut session = Session(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                stdin.write_all(command).await?;
                stdin.shutdown().await?;
            }
            Ok::<_, io::Error>(())
        };
        let (_, stdout, stderr, status) =
            tokio::join!(feed, collect(stdout), collect(stderr), async { child.wait().await });
        let status: crate::Status = status?.into();
        Ok(Ran { stdout: stdout?, stderr: stderr?, code: status.code() })
    };
    let result = match deadline {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the command did not end in time"))
        }),
        None => work.await,
    };
    if result.is_ok() {
        // What it left behind on purpose stays.
        session.0 = None;
    }
    result
}

async fn collect(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(stream) = stream {
        stream.take(OUTPUT_LIMIT as u64 + 1).read_to_end(&mut kept).await?;
    }
    if kept.len() > OUTPUT_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the command wrote more than 256 MiB"));
    }
    Ok(kept)
}

/// Ends every process of a session: process groups of its own do not help a program out of it.
fn end(session: Pid) {
    let leader = session.as_raw_nonzero().get().to_string();
    // A process may have been started while the list was read.
    for _ in 0..10 {
        let mut found = false;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) =
                entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // After the name in parentheses: state, parent, group, session.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
            if fields.next() != Some("Z") && fields.nth(2) == Some(leader.as_str()) {
                found |= rustix::process::kill_process(pid, Signal::KILL).is_ok();
            }
        }
        if !found {
            break;
        }
    }
}

/// Text of a stream, as far as it is text.
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
