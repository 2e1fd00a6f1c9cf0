//! Ends this machine's process groups when this process is gone, even if it was killed and could do nothing itself.
//!
//! One shell reads from a pipe which groups run. Only this process holds the other end, so the kernel closes it when
//! the process ends, however that happens; the shell then kills what is still noted and ends too.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::Pid;

/// Lines are `+ GROUP` and `- GROUP`. The list begins and ends with a blank, as does each group in it.
const SCRIPT: &str = r#"groups=' '
while read -r sign group; do
    case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done"#;

static GUARD: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();

/// A group that the guard knows, until this is dropped.
#[derive(Debug)]
pub(crate) struct Guarded(Pid);

impl Guarded {
    /// Without a shell on this machine nothing is guarded, and everything else works.
    pub(crate) fn new(group: Pid) -> Self {
        tell('+', group);
        Self(group)
    }

    pub(crate) fn group(&self) -> Pid {
        self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        tell('-', self.0);
    }
}

fn tell(sign: char, group: Pid) {
    if let Some(pipe) = GUARD.get_or_init(|| start().ok().map(Mutex::new)) {
        let line = format!("{sign} {}\n", group.as_raw_nonzero());
        // A guard that somebody killed guards nothing; the pipe's signal is ignored by Rust programs.
        let _ = pipe.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

fn start() -> io::Result<ChildStdin> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SCRIPT, "dbrecover-guard"]);
    // A group of its own, out of reach of ^C; it holds no directory and no stream of ours open.
    shell.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn()?.stdin.take().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}
