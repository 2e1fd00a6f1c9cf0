//! A machine that programs can be run on.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(any(feature = "rabbit", feature = "grpc"))]
use crate::mailbox::Post;
use crate::recording::{Recorder, Script};
use crate::{Command, Error, Files, Pipeline, ssh};

/// A machine that programs can be run on. A clone is cheap and means the same connection.
#[derive(Clone)]
pub struct Host {
    pub(crate) backend: Arc<Backend>,
    name: Arc<str>,
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// This machine.
    Local,
    /// By ssh.
    Ssh,
    /// Through an oslo.messaging agent on a message broker.
    Rabbit,
    /// Through a gRPC agent.
    Adm,
    /// No machine at all: a recording for tests.
    Recording,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Ssh => "ssh",
            Self::Rabbit => "rabbit-agent",
            Self::Adm => "adm-agent",
            Self::Recording => "recording",
        })
    }
}

/// How to reach a host, and what that needs.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "made once per host, never stored in numbers")]
pub enum Method {
    /// This machine.
    Local,
    /// By ssh.
    Ssh(ssh::Options),
    /// Through an oslo.messaging agent on a message broker.
    #[cfg(feature = "rabbit")]
    Rabbit(crate::rabbit::Options),
    /// Through a gRPC agent.
    #[cfg(feature = "grpc")]
    Adm(crate::adm::Options),
}

pub(crate) enum Backend {
    Local,
    Ssh(Box<ssh::Ssh>),
    #[cfg(any(feature = "rabbit", feature = "grpc"))]
    Agent(Post),
    Recording(Recorder),
}

impl Host {
    /// This machine.
    pub fn local() -> Self {
        Self::new(Backend::Local, "localhost")
    }

    /// A host that runs nothing: it answers from a script and remembers what was asked of it. For tests.
    ///
    /// Its [`files`](Self::files) are this machine's, so a test gives it paths in a temporary directory.
    pub fn recording(script: Script) -> (Self, Recorder) {
        let recorder = Recorder::new(script);
        (Self::new(Backend::Recording(recorder.clone()), "recording"), recorder)
    }

    /// Connects to a host. The connection is made and the login done when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Login`] or [`Error::HostKey`], and [`Error::Here`] when this machine lacks
    /// something for it.
    pub async fn connect(method: Method) -> Result<Self, Error> {
        match method {
            Method::Local => Ok(Self::local()),
            Method::Ssh(options) => {
                let name = options.shown();
                Ok(Self::new(Backend::Ssh(Box::new(ssh::Ssh::connect(options).await?)), &name))
            }
            #[cfg(feature = "rabbit")]
            Method::Rabbit(options) => {
                let (name, lease) = (options.at.host.clone(), options.lease);
                let rabbit = crate::rabbit::Rabbit::connect(options).await?;
                Ok(Self::new(Backend::Agent(Post::new(rabbit, Kind::Rabbit, lease)), &name))
            }
            #[cfg(feature = "grpc")]
            Method::Adm(options) => {
                let (name, lease) = (options.address.clone(), options.lease);
                let adm = crate::adm::Adm::connect(options).await?;
                Ok(Self::new(Backend::Agent(Post::new(adm, Kind::Adm, lease)), &name))
            }
        }
    }

    pub(crate) fn new(backend: Backend, name: &str) -> Self {
        Self { backend: Arc::new(backend), name: name.into() }
    }

    /// What to call the host in messages; never a secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the host is reached.
    pub fn kind(&self) -> Kind {
        match &*self.backend {
            Backend::Local => Kind::Local,
            Backend::Ssh(_) => Kind::Ssh,
            #[cfg(any(feature = "rabbit", feature = "grpc"))]
            Backend::Agent(post) => post.kind,
            Backend::Recording(_) => Kind::Recording,
        }
    }

    /// Whether a program's stdin and stdout can be streamed while it runs. Agents answer once, at the end.
    pub fn streams(&self) -> bool {
        matches!(self.kind(), Kind::Local | Kind::Ssh)
    }

    /// Whether secrets may be given to programs here: they are in no process list, or the user has said that it does
    /// not matter (`trusted` of an agent's options).
    ///
    /// # Errors
    ///
    /// If an agent cannot be asked.
    pub async fn takes_secrets(&self) -> Result<bool, Error> {
        match &*self.backend {
            Backend::Local | Backend::Ssh(_) | Backend::Recording(_) => Ok(true),
            #[cfg(any(feature = "rabbit", feature = "grpc"))]
            Backend::Agent(post) => post.agent.may_have_secrets().await,
        }
    }

    /// A program to run here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.clone(), program.as_ref().to_owned())
    }

    /// Programs to run here, each reading what the one before it writes.
    pub fn pipeline(&self, stages: Vec<Command>) -> Pipeline {
        Pipeline::new(self.clone(), stages)
    }

    /// The files of this host.
    pub fn files(&self) -> Files {
        Files::new(self.clone())
    }

    /// Where the host's PATH has this program, if it has.
    ///
    /// # Errors
    ///
    /// If the host cannot be asked.
    pub async fn find_program(&self, name: impl AsRef<OsStr>) -> Result<Option<PathBuf>, Error> {
        use std::os::unix::ffi::OsStringExt;
        let output = self.command("sh").args(["-c", "command -v -- \"$1\"", "sh"]).arg(name).output().await?;
        let mut path = output.stdout;
        while path.last() == Some(&b'\n') {
            path.pop();
        }
        let found = output.status.success() && path.first() == Some(&b'/');
        Ok(found.then(|| std::ffi::OsString::from_vec(path).into()))
    }

    /// Ends what this connection still runs on the host, and the connection. Other clones cannot use it any more.
    ///
    /// Dropping the last clone does the same without waiting for it.
    pub async fn close(self) {
        match &*self.backend {
            Backend::Ssh(ssh) => ssh.close().await,
            #[cfg(any(feature = "rabbit", feature = "grpc"))]
            Backend::Agent(post) => post.close().await,
            Backend::Local | Backend::Recording(_) => {}
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).field("kind", &self.kind()).finish()
    }
}
