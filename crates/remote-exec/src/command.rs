//! A program to run on a host, described before it runs.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::child::{self, Child};
use crate::{Error, Host, Status, quote};

/// How much [`Command::output`] holds in memory of each stream unless told otherwise: 256 MiB.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 256 << 20;

/// How long a process group has between SIGTERM and SIGKILL unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(2);

/// A program with its arguments and surroundings, to be run on a [`Host`].
///
/// It mirrors [`std::process::Command`], with these differences:
///
/// - Arguments are bytes, and reach the program unchanged whatever they hold: on a host where a shell is in between,
///   they are quoted once. [`raw_arg`](Self::raw_arg) is the way around that.
/// - The program gets its own process group. A timeout, [`Child::kill`] and dropping the [`Child`] end all of it.
/// - stdin is empty (`output`, `run`) or piped (`spawn`); nothing is inherited from this process but, on the local
///   host, its environment and working directory.
/// - Secrets have their own ways in, and appear in no argument list, message or log.
#[derive(Debug, Clone)]
#[must_use = "a command does nothing until it is run"]
pub struct Command {
    pub(crate) host: Host,
    pub(crate) spec: Spec,
}

/// What a [`Command`] says, without where.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) program: OsString,
    pub(crate) args: Vec<Arg>,
    pub(crate) env: Vec<(String, Value)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Sink,
    pub(crate) stderr: Sink,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) output_limit: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Quoted(OsString),
    Raw(OsString),
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Plain(OsString),
    Secret(SecretString),
    /// Of use for one attempt only: no message has it, and an agent that shows commands is given it all the same.
    Passing(SecretString),
}

#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Empty for `output` and `run`, piped for `spawn`.
    Unset,
    Null,
    Bytes(Vec<u8>),
    Secret(SecretString),
}

#[derive(Debug, Clone)]
pub(crate) enum Sink {
    Piped,
    Null,
    File(PathBuf),
}

impl Spec {
    pub(crate) fn new(program: OsString) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            stdin: Input::Unset,
            stdout: Sink::Piped,
            stderr: Sink::Piped,
            timeout: None,
            grace: DEFAULT_GRACE,
            output_limit: DEFAULT_OUTPUT_LIMIT,
        }
    }

    /// Whether only a shell can run this.
    pub(crate) fn needs_shell(&self) -> bool {
        self.args.iter().any(|a| matches!(a, Arg::Raw(_)))
    }

    /// Whether anything in here must not be seen by others.
    #[cfg_attr(not(any(feature = "rabbit", feature = "grpc")), expect(dead_code))]
    pub(crate) fn has_secrets(&self) -> bool {
        matches!(self.stdin, Input::Secret(_)) || self.env.iter().any(|(_, v)| matches!(v, Value::Secret(_)))
    }

    /// The command for messages: secrets masked, the environment only where it is secret or set here.
    pub(crate) fn shown(&self) -> String {
        let mut line = String::new();
        for (name, value) in &self.env {
            let _ = match value {
                Value::Plain(value) => write!(line, "{name}={} ", quote::shown(value)),
                Value::Secret(_) => write!(line, "{name}=*** "),
                Value::Passing(_) => Ok(()),
            };
        }
        line.push_str(&quote::shown(&self.program));
        for arg in &self.args {
            line.push(' ');
            match arg {
                Arg::Quoted(arg) => line.push_str(&quote::shown(arg)),
                Arg::Raw(arg) => line.push_str(&arg.to_string_lossy()),
            }
        }
        line
    }

    /// The bytes to write to stdin, if the caller gave them.
    pub(crate) fn take_input(&mut self) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        match std::mem::replace(&mut self.stdin, Input::Unset) {
            Input::Bytes(bytes) => Some(bytes.into()),
            Input::Secret(secret) => Some(secret.expose_secret().as_bytes().to_vec().into()),
            other => {
                self.stdin = other;
                None
            }
        }
    }
}

impl Command {
    pub(crate) fn new(host: Host, program: OsString) -> Self {
        Self { host, spec: Spec::new(program) }
    }

    /// Adds an argument. The program gets exactly these bytes.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.spec.args.push(Arg::Quoted(arg.as_ref().to_owned()));
        self
    }

    /// Adds arguments. The program gets exactly these bytes.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.spec.args.extend(args.into_iter().map(|a| Arg::Quoted(a.as_ref().to_owned())));
        self
    }

    /// Adds shell text: a redirection, a glob, a variable of the far side. Never put anything into it that came from
    /// outside. With it the command runs through `sh` on every host, the local one included.
    pub fn raw_arg(mut self, text: impl AsRef<OsStr>) -> Self {
        self.spec.args.push(Arg::Raw(text.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; its name may hold letters, digits and `_`.
    pub fn env(mut self, name: impl Into<String>, value: impl AsRef<OsStr>) -> Self {
        self.spec.env.push((name.into(), Value::Plain(value.as_ref().to_owned())));
        self
    }

    /// Sets an environment variable whose value no process list shows, here or there, and no message repeats.
    ///
    /// The environment of a running program can be read by its own user and by root.
    pub fn secret_env(mut self, name: impl Into<String>, value: SecretString) -> Self {
        self.spec.env.push((name.into(), Value::Secret(value)));
        self
    }

    /// As a secret, but an agent that shows commands in its process list is given it all the same.
    pub(crate) fn passing_env(mut self, name: impl Into<String>, value: SecretString) -> Self {
        self.spec.env.push((name.into(), Value::Passing(value)));
        self
    }

    /// Runs the program in this directory of its host.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spec.current_dir = Some(dir.into());
        self
    }

    /// Gives the program these bytes on stdin, and then its end.
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.spec.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Gives the program a secret on stdin, and then its end. No line end is added.
    pub fn secret_stdin(mut self, secret: SecretString) -> Self {
        self.spec.stdin = Input::Secret(secret);
        self
    }

    /// Gives the program an empty stdin, also with [`spawn`](Self::spawn).
    pub fn stdin_null(mut self) -> Self {
        self.spec.stdin = Input::Null;
        self
    }

    /// Writes stdout into a file of the program's host, which is created or emptied.
    pub fn stdout_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.spec.stdout = Sink::File(path.into());
        self
    }

    /// Writes stderr into a file of the program's host, which is created or emptied.
    pub fn stderr_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.spec.stderr = Sink::File(path.into());
        self
    }

    /// Throws stdout away on the program's host.
    pub fn stdout_null(mut self) -> Self {
        self.spec.stdout = Sink::Null;
        self
    }

    /// Throws stderr away on the program's host.
    pub fn stderr_null(mut self) -> Self {
        self.spec.stderr = Sink::Null;
        self
    }

    /// Ends the program's whole process group when it runs longer than this. Without it, a program may run for ever.
    ///
    /// What a program that has ended left behind, and still holds the output that is collected, is ended then, too. Behind an
    /// agent output goes to files: what they hold when the program ends is all, and nothing is waited for.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// The time between SIGTERM and SIGKILL when the process group is ended; [`DEFAULT_GRACE`] unless set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.spec.grace = grace;
        self
    }

    /// How many bytes of each stream [`output`](Self::output) may hold in memory; [`DEFAULT_OUTPUT_LIMIT`] unless set.
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.spec.output_limit = bytes;
        self
    }

    /// `inner` with this command's program and arguments in front of its own.
    pub(crate) fn wrapping(self, inner: &Self) -> Self {
        let mut spec = inner.spec.clone();
        spec.args = self.spec.args;
        spec.args.push(Arg::Quoted(inner.spec.program.clone()));
        spec.args.extend_from_slice(&inner.spec.args);
        spec.program = self.spec.program;
        Self { host: self.host, spec }
    }

    /// This program with these arguments, and everything else as `other` has it.
    pub(crate) fn surrounded_as(self, other: &Self) -> Self {
        let mut spec = other.spec.clone();
        (spec.program, spec.args) = (self.spec.program, self.spec.args);
        Self { host: self.host, spec }
    }

    /// Program and arguments as a POSIX shell reads them.
    pub(crate) fn words(&self) -> Result<Vec<u8>, Error> {
        let program = Arg::Quoted(self.spec.program.clone());
        let mut line = Vec::new();
        for arg in std::iter::once(&program).chain(&self.spec.args) {
            match arg {
                Arg::Quoted(arg) => match shlex::bytes::try_quote(arg.as_bytes()) {
                    Ok(word) => line.extend_from_slice(&word),
                    Err(_) => {
                        let what = "argument".to_owned();
                        return Err(Error::Argument { what, reason: "it holds a NUL byte" });
                    }
                },
                Arg::Raw(arg) => line.extend_from_slice(arg.as_bytes()),
            }
            line.push(b' ');
        }
        Ok(line)
    }

    /// The command for messages, secrets masked.
    pub fn shown(&self) -> String {
        self.spec.shown()
    }

    /// Runs the program to its end and collects what it wrote. Any exit status is a result.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, outlives its timeout, writes more than the limit, or its host is lost.
    pub async fn output(mut self) -> Result<Output, Error> {
        if matches!(self.spec.stdin, Input::Unset) {
            self.spec.stdin = Input::Null;
        }
        let limit = self.spec.output_limit;
        child::start(&self.host, vec![self.spec]).await?.wait_with_output(limit).await
    }

    /// Like [`output`](Self::output), and an exit status other than 0 is an error.
    ///
    /// # Errors
    ///
    /// As `output`, and [`Error::Failed`] with the last lines of stderr.
    pub async fn run(self) -> Result<Output, Error> {
        let (host, command) = (self.host.clone(), self.spec.shown());
        self.output().await?.checked(host.name(), &command)
    }

    /// Starts the program with its streams in the caller's hands.
    ///
    /// On a host that cannot stream ([`Host::streams`]) the output comes all at once when the program has ended, and
    /// stdin must be given beforehand.
    ///
    /// # Errors
    ///
    /// If the program cannot be started.
    pub async fn spawn(self) -> Result<Child, Error> {
        child::start(&self.host, vec![self.spec]).await
    }
}

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended; of a pipeline the last status that is not 0.
    pub status: Status,
    /// The status of every stage of a pipeline; one for a single command.
    pub statuses: Vec<Status>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// stdout as text, invalid UTF-8 replaced, without the line ends at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches(['\n', '\r']).to_owned()
    }

    /// `self`, or [`Error::Failed`] unless the status is 0.
    pub(crate) fn checked(self, host: &str, command: &str) -> Result<Self, Error> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::Failed {
            host: host.to_owned(),
            command: command.to_owned(),
            status: self.status,
            stderr_tail: tail(&self.stderr),
        })
    }
}

/// The last lines of `stderr`, at most ten and at most 2 KiB.
pub(crate) fn tail(stderr: &[u8]) -> String {
    let from = stderr.len().saturating_sub(2048);
    let text = String::from_utf8_lossy(&stderr[from..]);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_an_attempt_is_in_no_message_and_keeps_no_agent_from_running_the_command() {
        let command = Host::local().command("cat").env("A", "1").passing_env("KEY", "k3y".to_owned().into());
        assert_eq!(command.shown(), "A=1 cat");
        assert!(!command.spec.has_secrets());
        assert!(command.secret_env("PW", "s3cret".to_owned().into()).spec.has_secrets());
    }
}
