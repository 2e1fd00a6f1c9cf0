//! Programs of this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use secrecy::ExposeSecret;
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;

use crate::child::{Process, Reader, Started, Writer};
use crate::command::{Arg, Input, Sink, Spec, Value};
use crate::guard::Guarded;
use crate::script::{self, Event, LOADER, Report};
use crate::{Error, Host, Status};

/// How often a group that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) async fn start(host: &Host, stages: Vec<Spec>, shown: &str) -> Result<Started, Error> {
    match &stages[..] {
        [spec] if !spec.needs_shell() => direct(host, spec, shown),
        _ => through_shell(host, stages, shown).await,
    }
}

/// One program, started without a shell.
fn direct(host: &Host, spec: &Spec, shown: &str) -> Result<Started, Error> {
    let mut command = tokio::process::Command::new(&spec.program);
    for arg in &spec.args {
        let (Arg::Quoted(arg) | Arg::Raw(arg)) = arg;
        command.arg(arg);
    }
    for (name, value) in &spec.env {
        match value {
            Value::Plain(value) => command.env(name, value),
            Value::Secret(value) | Value::Passing(value) => command.env(name, value.expose_secret()),
        };
    }
    if let Some(dir) = &spec.current_dir {
        if !dir.is_dir() {
            return Err(Error::NoDirectory { host: host.name().to_owned(), path: dir.clone() });
        }
        command.current_dir(dir);
    }
    command.stdin(if matches!(spec.stdin, Input::Null) { Stdio::null() } else { Stdio::piped() });
    command.stdout(sink(host, &spec.stdout, spec.current_dir.as_deref())?);
    command.stderr(sink(host, &spec.stderr, spec.current_dir.as_deref())?);
    spawn(host, command, &spec.program, shown, None)
}

fn sink(host: &Host, sink: &Sink, dir: Option<&Path>) -> Result<Stdio, Error> {
    Ok(match sink {
        Sink::Piped => Stdio::piped(),
        Sink::Null => Stdio::null(),
        Sink::File(path) => {
            let path = dir.map_or_else(|| path.clone(), |dir| dir.join(path));
            let file = File::create(&path).map_err(|e| Error::File {
                host: host.name().to_owned(),
                what: "write",
                path,
                missing: e.kind() == io::ErrorKind::NotFound,
                detail: String::new(),
                source: Some(e),
            })?;
            file.into()
        }
    })
}

/// A pipeline or shell text, run as on any other host.
async fn through_shell(host: &Host, stages: Vec<Spec>, shown: &str) -> Result<Started, Error> {
    let report = tempfile::NamedTempFile::new()
        .map_err(|source| Error::Here { what: "make a temporary file", source })?
        .into_temp_path();
    let mut line = script::render(&stages, &Report::File(report.as_os_str()))?;
    line.push(b'\n');
    let mut command = tokio::process::Command::new("/bin/sh");
    command.arg("-c").arg(LOADER);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let report = Told { path: report, stages: stages.clone() };
    let mut started = spawn(host, command, OsStr::new("/bin/sh"), shown, Some(report))?;
    if let Some(stdin) = &mut started.stdin {
        stdin.write_all(&line).await.map_err(|source| Error::Spawn {
            host: host.name().to_owned(),
            command: shown.to_owned(),
            source,
        })?;
    }
    if matches!(stages[0].stdin, Input::Null) {
        started.stdin = None;
    }
    Ok(started)
}

fn spawn(
    host: &Host,
    mut command: tokio::process::Command,
    program: &OsStr,
    shown: &str,
    told: Option<Told>,
) -> Result<Started, Error> {
    // The group's id is the program's, so ending the group needs no look-up.
    command.process_group(0);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            Error::NoProgram { host: host.name().to_owned(), program: program.to_string_lossy().into_owned() }
        }
        _ => Error::Spawn { host: host.name().to_owned(), command: shown.to_owned(), source },
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(Guarded::new);
    Ok(Started {
        stdin: child.stdin.take().map(Writer::pipe),
        stdout: child.stdout.take().map(|s| Reader::pipe(s, |s| s)),
        stderr: child.stderr.take().map(Reader::new),
        process: Box::new(Local {
            child,
            group: Arc::new(Mutex::new(group)),
            told,
            host: host.name().to_owned(),
            command: shown.to_owned(),
        }),
    })
}

/// Where the shell of a pipeline tells how its stages ended.
struct Told {
    path: TempPath,
    stages: Vec<Spec>,
}

struct Local {
    child: tokio::process::Child,
    /// The process group, until its leader has been waited for and nothing is left of it.
    group: Arc<Mutex<Option<Guarded>>>,
    told: Option<Told>,
    host: String,
    command: String,
}

impl Local {
    async fn end(&mut self) -> Result<Vec<Status>, Error> {
        let status = self.child.wait().await.map_err(|source| Error::Io {
            host: self.host.clone(),
            command: self.command.clone(),
            what: "waiting for the end",
            source,
        })?;
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        // What the leader left behind keeps the group's number from being used again.
        group.take_if(|group| rustix::process::test_kill_process_group(group.group()).is_err());
        drop(group);
        let Some(told) = &self.told else { return Ok(vec![status.into()]) };
        let text = std::fs::read_to_string(&told.path).unwrap_or_default();
        let events: Vec<Event> = text.lines().filter_map(Event::parse).collect();
        statuses(&events, &told.stages, &self.host)?
            .ok_or_else(|| Error::EndedThere { host: self.host.clone(), command: self.command.clone() })
    }
}

/// What a script's events mean: statuses, a missing program, or nothing when it did not come to its end.
pub(crate) fn statuses(events: &[Event], stages: &[Spec], host: &str) -> Result<Option<Vec<Status>>, Error> {
    let host = host.to_owned();
    for event in events {
        match event {
            Event::NoProgram(stage) => {
                let program = stages.get(*stage).map(|s| s.program.to_string_lossy().into_owned());
                return Err(Error::NoProgram { host, program: program.unwrap_or_default() });
            }
            Event::NoDirectory(stage) => {
                let path = stages.get(*stage).and_then(|s| s.current_dir.clone()).unwrap_or_default();
                return Err(Error::NoDirectory { host, path });
            }
            Event::Exit(codes) if codes.len() == stages.len() => {
                return Ok(Some(codes.iter().copied().map(Status::new).collect()));
            }
            Event::Full => {
                let detail = "its directory for temporary files cannot be written; is it full?".to_owned();
                return Err(Error::Unreachable { host, detail });
            }
            Event::Exit(_) | Event::Killed | Event::Unheard => {}
        }
    }
    Ok(None)
}

fn signal(group: Pid, signal: Signal) -> bool {
    rustix::process::kill_process_group(group, signal).is_ok()
}

impl Process for Local {
    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Status>, Error>> + Send + '_>> {
        Box::pin(self.end())
    }

    fn kill(&mut self, grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let group =
                self.group.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Guarded::group);
            let Some(group) = group else { return };
            signal(group, Signal::TERM);
            let end = tokio::time::Instant::now() + grace;
            loop {
                // Waiting for the leader takes it out of the group; the others may live longer.
                let ended = tokio::time::timeout(LOOK, self.child.wait()).await.is_ok();
                if ended && rustix::process::test_kill_process_group(group).is_err() {
                    break;
                }
                if tokio::time::Instant::now() >= end {
                    signal(group, Signal::KILL);
                    break;
                }
                if ended {
                    tokio::time::sleep(LOOK).await;
                }
            }
        })
    }

    fn killer(&self) -> Arc<dyn Fn() + Send + Sync> {
        let group = self.group.clone();
        Arc::new(move || {
            if let Some(guarded) = &*group.lock().unwrap_or_else(PoisonError::into_inner) {
                signal(guarded.group(), Signal::KILL);
            }
        })
    }
}
