//! A backup on another host: a stream into a program there, under its own name only when it is whole.

use std::io::{self, Write};
use std::path::Path;

use remote_exec::{Child, Host, Method, Writer};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

use super::output::Target;
use super::partial::Name;
use crate::Error;

/// An archive on another host: written to `PATH.partial` and brought to the disk there, renamed at the end.
///
/// # Errors
///
/// [`Error::Remote`], also if the file exists.
pub fn file(method: impl Into<Destination>, path: &Path) -> Result<Box<dyn Target>, Error> {
    Remote::open(method.into().0, path, false)
}

/// A directory on another host, unpacked there by `tar` from the tar archive that is written into this; into
/// `PATH.partial`, renamed at the end.
///
/// # Errors
///
/// [`Error::Remote`], also if the directory exists.
pub fn directory(method: impl Into<Destination>, path: &Path) -> Result<Box<dyn Target>, Error> {
    Remote::open(method.into().0, path, true)
}

/// A host to write to.
#[derive(Debug)]
pub struct Destination(Method);

impl From<remote_exec::ssh::Options> for Destination {
    fn from(options: remote_exec::ssh::Options) -> Self {
        Self(Method::Ssh(options))
    }
}

impl From<Method> for Destination {
    fn from(method: Method) -> Self {
        Self(method)
    }
}

struct Remote {
    runtime: Runtime,
    host: Host,
    child: Option<Child>,
    stdin: Option<Writer>,
    name: Name,
    done: bool,
}

/// A failure of the host layer.
pub(crate) fn failed(host: &str, action: &str) -> impl FnOnce(remote_exec::Error) -> Error {
    let (host, action) = (host.to_owned(), action.to_owned());
    move |source| Error::Remote { host, action, source: source.into() }
}

/// A runtime for the host layer: its own thread keeps connections alive while this one reads files.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    built.map_err(|e| Error::Remote {
        host: "this machine".into(),
        action: "start threads".into(),
        source: e.into(),
    })
}

impl Remote {
    fn open(method: Method, path: &Path, directory: bool) -> Result<Box<dyn Target>, Error> {
        let name = Name::new(path)?;
        let (path, partial) = (&*name.whole, &*name.partial);
        let runtime = runtime()?;
        let shown = path.display().to_string();
        let (host, mut child) = runtime.block_on(async {
            let host = Host::connect(method).await.map_err(failed("for the backup", "be reached"))?;
            let files = host.files();
            let fail = |action| failed(host.name(), action);
            if files.exists(path).await.map_err(fail("look for the backup"))? {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, format!("{shown} exists already"));
                let action = "begin the backup".into();
                return Err(Error::Remote { host: host.name().into(), action, source: source.into() });
            }
            // A name of its own inside of what other programs made is never removed: only this exact one.
            if files.exists(partial).await.map_err(fail("look for the backup"))? {
                let removed = match directory {
                    true => files.remove_dir_all(partial).await,
                    false => files.remove_file(partial).await,
                };
                removed.map_err(fail("remove the rest of an earlier backup"))?;
            }
            let parent = if directory { Some(partial) } else { path.parent() };
            if let Some(parent) = parent {
                files.create_dir_all(parent).await.map_err(fail("create the directory"))?;
            }
            let command = match directory {
                true => host.command("tar").args(["-x", "-f", "-", "-C"]).arg(partial),
                false => {
                    let mut to = std::ffi::OsString::from("of=");
                    to.push(partial);
                    host.command("dd").args(["bs=1M", "iflag=fullblock", "conv=fsync", "status=none"]).arg(to)
                }
            };
            let child = command.stdout_null().spawn().await.map_err(fail("receive the backup"))?;
            Ok((host.clone(), child))
        })?;
        let stdin = child.stdin.take();
        Ok(Box::new(Self { runtime, host, child: Some(child), stdin, name, done: false }))
    }
}

impl Write for Remote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stdin) = &mut self.stdin else { return Err(io::ErrorKind::BrokenPipe.into()) };
        self.runtime.block_on(stdin.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Remote {
    fn end(&mut self) -> io::Result<()> {
        let (stdin, child) = (self.stdin.take(), self.child.take());
        self.runtime.block_on(async {
            if let Some(mut stdin) = stdin {
                stdin.shutdown().await?;
                drop(stdin);
            }
            if let Some(child) = child {
                child.wait_success().await.map_err(io::Error::other)?;
            }
            let partial = &self.name.partial;
            self.host.command("sync").arg("-f").arg(partial).run().await.map_err(io::Error::other)?;
            self.done = true;
            let renamed = self.host.files().rename(partial, &self.name.whole).await;
            renamed.map_err(|e| self.name.stays(io::ErrorKind::Other, &e))
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.stdin = None;
        let child = self.child.take();
        self.runtime.block_on(async {
            if let Some(child) = child {
                child.kill().await;
            }
            let files = self.host.files();
            let _ = files.remove_file(&self.name.partial).await;
            let _ = files.remove_dir_all(&self.name.partial).await;
        });
    }
}
