//! A host for tests: answers from a script, remembers every call.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::child::{Process, Reader, Started, Writer};
use crate::command::{Arg, Spec, Value};
use crate::{Error, Host, Status};

/// What a recorded program answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    status: u8,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Reply {
    /// Exit status 0 and no output.
    pub fn ok() -> Self {
        Self::default()
    }

    /// This exit status and no output.
    pub fn status(code: u8) -> Self {
        Self { status: code, ..Self::default() }
    }

    /// The same with this on stdout.
    #[must_use]
    pub fn stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdout = bytes.into();
        self
    }

    /// The same with this on stderr.
    #[must_use]
    pub fn stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stderr = bytes.into();
        self
    }
}

/// What programs answer, by name. A program that is not in the script is a program that is not there.
#[derive(Debug, Clone, Default)]
pub struct Script {
    once: VecDeque<(String, Reply)>,
    always: Vec<(String, Reply)>,
}

impl Script {
    /// A host without any program.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of `program` that no earlier line has answered gets this reply. Programs are named without their
    /// directory.
    #[must_use]
    pub fn once(mut self, program: &str, reply: Reply) -> Self {
        self.once.push_back((program.to_owned(), reply));
        self
    }

    /// Every call of `program` that has no [`once`](Self::once) reply left gets this one.
    #[must_use]
    pub fn always(mut self, program: &str, reply: Reply) -> Self {
        self.always.push((program.to_owned(), reply));
        self
    }
}

/// One program that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The program as it was named, and its arguments. Text that is not UTF-8 is replaced.
    pub argv: Vec<String>,
    /// The environment that was set; secrets as `***`.
    pub env: Vec<(String, String)>,
    /// The directory it was to run in.
    pub current_dir: Option<String>,
    /// What it got on stdin, if that was given beforehand and is no secret.
    pub stdin: Option<Vec<u8>>,
}

/// What was asked of a recording host so far.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    script: Script,
    calls: Vec<Call>,
}

impl Recorder {
    pub(crate) fn new(script: Script) -> Self {
        Self(Arc::new(Mutex::new(State { script, calls: Vec::new() })))
    }

    /// Every call so far, in order; the stages of a pipeline one after the other.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The argument lists of every call so far, each as one line.
    pub fn lines(&self) -> Vec<String> {
        self.state().calls.iter().map(|c| c.argv.join(" ")).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(
        &self,
        host: &Host,
        stages: Vec<Spec>,
        input: Option<&[u8]>,
    ) -> Result<Started, Error> {
        let mut state = self.state();
        let mut replies = Vec::new();
        for (i, spec) in stages.iter().enumerate() {
            let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
            let words = spec.args.iter().map(|(Arg::Quoted(a) | Arg::Raw(a))| text(a));
            state.calls.push(Call {
                argv: std::iter::once(text(&spec.program)).chain(words).collect(),
                env: spec
                    .env
                    .iter()
                    .map(|(name, value)| match value {
                        Value::Plain(value) => (name.clone(), text(value)),
                        Value::Secret(_) | Value::Passing(_) => (name.clone(), "***".to_owned()),
                    })
                    .collect(),
                current_dir: spec.current_dir.as_ref().map(|d| text(d.as_os_str())),
                stdin: input.filter(|_| i == 0).map(<[u8]>::to_vec),
            });
            let name = Path::new(&spec.program).file_name().unwrap_or(&spec.program);
            let once = state.script.once.iter().position(|(program, _)| name == program.as_str());
            let reply = match once {
                Some(at) => state.script.once.remove(at).map(|(_, reply)| reply),
                None => state
                    .script
                    .always
                    .iter()
                    .find(|(program, _)| name == program.as_str())
                    .map(|(_, r)| r.clone()),
            };
            let program = text(&spec.program);
            replies.push(reply.ok_or(Error::NoProgram { host: host.name().to_owned(), program })?);
        }
        let stderr: Vec<u8> = replies.iter().flat_map(|r| r.stderr.clone()).collect();
        let statuses = replies.iter().map(|r| Status::new(r.status)).collect();
        let stdout = replies.pop().map(|r| r.stdout).unwrap_or_default();
        Ok(Started {
            stdin: Some(Writer::new(tokio::io::sink())),
            stdout: Some(Reader::new(std::io::Cursor::new(stdout))),
            stderr: Some(Reader::new(std::io::Cursor::new(stderr))),
            process: Box::new(Recorded(statuses)),
        })
    }
}

/// A process that has ended already.
pub(crate) struct Recorded(pub(crate) Vec<Status>);

impl Process for Recorded {
    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Status>, Error>> + Send + '_>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn kill(&mut self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }

    fn killer(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replies_by_name_and_remembers_without_secrets() {
        let script = Script::new()
            .once("tool", Reply::ok().stdout("first"))
            .always("tool", Reply::status(3).stderr("no"));
        let (host, recorder) = Host::recording(script);
        let first =
            host.command("/opt/tool").arg("-x").secret_env("PW", "s3cret".into()).output().await.unwrap();
        assert_eq!((first.status.code(), first.text().as_str()), (0, "first"));
        let second = host.command("tool").run().await;
        assert!(matches!(second, Err(Error::Failed { status, .. }) if status.code() == 3));
        assert!(matches!(host.command("other").run().await, Err(Error::NoProgram { .. })));
        assert_eq!(recorder.lines(), ["/opt/tool -x", "tool", "other"]);
        assert!(!format!("{:?}", recorder.calls()).contains("s3cret"));
    }
}
