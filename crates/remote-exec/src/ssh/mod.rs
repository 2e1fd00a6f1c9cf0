//! Hosts reached by ssh.
//!
//! One `ssh` of the system makes the connection and stays as its master: so the user's own `ssh_config`, jump hosts,
//! agents, keys and `known_hosts` count as everywhere. Commands are channels of that connection, opened without
//! another process. Every connection has a supervisor on the far side, a small shell script
//! that ends what still runs when the connection goes away.

mod askpass;
mod master;
mod supervisor;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use secrecy::SecretString;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::child::{Guarded, Process, Reader, Started, Writer};
use crate::command::{Input, Spec};
use crate::script::{self, Event, LOADER, Report};
use crate::{Error, Host, Status, local};
use master::Master;
pub(crate) use master::login_name_in;

/// How many connections to one host are made before commands wait for each other.
const MAX_MASTERS: usize = 8;

/// How long they do. Programs may run for hours, as recovered servers do, until other commands end them: then there is no
/// other way than one more connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a command that was never started is tried on another connection.
const TRIES: usize = 3;

/// How often a command is tried whose session the server refused, because it allows fewer than expected.
const REFUSALS: usize = 50;

/// How long the supervisor's word about a command may come after the command's own end, on a loaded machine.
const WORD: Duration = Duration::from_secs(30);

/// How to reach a host by ssh. Only `host` is needed; everything else defaults to what `ssh` itself would do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Name or address, or an alias of `ssh_config`. IPv6 addresses without brackets.
    pub host: String,
    /// The user there.
    pub user: Option<String>,
    /// The port there.
    pub port: Option<u16>,
    /// Log in with this password; without one, keys and the agent are the only ways.
    pub password: Option<SecretString>,
    /// The private key to use.
    pub identity: Option<PathBuf>,
    /// The passphrase of the private key.
    pub passphrase: Option<SecretString>,
    /// An `ssh_config` to use instead of the user's and the system's.
    pub config_file: Option<PathBuf>,
    /// A `known_hosts` to use instead of the user's.
    pub known_hosts: Option<PathBuf>,
    /// Accept and record the key of a host that was never seen. A changed key is refused in any case.
    pub accept_new_host_keys: bool,
    /// How long the host may take to answer at all: ssh's `ConnectTimeout`. Default: 15 s.
    pub connect_timeout: Duration,
    /// How long the login may take from there to the first word of its shell, which a loaded machine takes its time for.
    /// Default: 2 minutes.
    pub login_timeout: Duration,
    /// How often the connection is checked; three checks without an answer and it is lost. Default: 15 s.
    pub keep_alive: Duration,
    /// Put the fast AES-GCM ciphers first. Default: true.
    pub fast_ciphers: bool,
    /// How many commands share one connection; servers allow ten (`MaxSessions`) unless told otherwise. Default: 8.
    pub sessions_per_connection: usize,
    /// The `ssh` program. Default: `ssh` from the PATH. OpenSSH 8.4 or newer.
    pub program: PathBuf,
}

impl Options {
    /// The defaults for a host.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            user: None,
            port: None,
            password: None,
            identity: None,
            passphrase: None,
            config_file: None,
            known_hosts: None,
            accept_new_host_keys: false,
            connect_timeout: Duration::from_secs(15),
            login_timeout: Duration::from_secs(120),
            keep_alive: Duration::from_secs(15),
            fast_ciphers: true,
            sessions_per_connection: 8,
            program: "ssh".into(),
        }
    }

    /// `user@host:port` as far as they are given, for messages.
    pub(crate) fn shown(&self) -> String {
        let user = self.user.as_deref().map(|u| format!("{u}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|p| format!(":{p}")).unwrap_or_default();
        format!("{user}{host}{port}")
    }
}

/// A host reached by ssh: a pool of connections, made when needed.
pub(crate) struct Ssh {
    options: Options,
    pool: Mutex<Vec<Arc<Master>>>,
    closed: AtomicBool,
    next: AtomicU64,
}

impl Ssh {
    /// Makes the first connection.
    pub(crate) async fn connect(options: Options) -> Result<Self, Error> {
        let first = Master::connect(&options).await?;
        let pool = Mutex::new(vec![Arc::new(first)]);
        Ok(Self { options, pool, closed: AtomicBool::new(false), next: AtomicU64::new(0) })
    }

    /// Ends what still runs, and the connections.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // A connection that is being made just now ends with whoever makes it.
        if let Ok(mut pool) = tokio::time::timeout(master::CLOSE, self.pool.lock()).await {
            let masters = std::mem::take(&mut *pool);
            join_all(masters.iter().map(|master| master.close())).await;
        }
    }

    /// A connection with room for one more command.
    async fn room(&self) -> Result<(Arc<Master>, OwnedSemaphorePermit), Error> {
        let mut waited = false;
        loop {
            let masters = {
                let mut pool = self.pool.lock().await;
                if self.closed.load(Ordering::Acquire) {
                    return Err(self.gone("the connection was closed"));
                }
                pool.retain(|master| master.alive());
                if pool.len() < MAX_MASTERS || waited {
                    // One with room, or a new one; nobody else gets at it meanwhile.
                    let with_room = pool.iter().find(|master| master.slots.available_permits() > 0);
                    let master = match with_room {
                        Some(master) => master.clone(),
                        None => {
                            let new = Arc::new(Master::connect(&self.options).await?);
                            pool.push(new.clone());
                            new
                        }
                    };
                    if let Ok(permit) = master.slots.clone().try_acquire_owned() {
                        return Ok((master, permit));
                    }
                }
                pool.clone()
            };
            let slots = masters.into_iter().map(|master| {
                Box::pin(async move {
                    let permit = master.slots.clone().acquire_owned().await;
                    (master, permit)
                })
            });
            match tokio::time::timeout(PATIENCE, select_all(slots)).await {
                Ok(((master, Ok(permit)), ..)) if master.alive() => return Ok((master, permit)),
                Ok(_) => {}
                Err(_) => waited = true,
            }
        }
    }

    fn gone(&self, detail: &str) -> Error {
        Error::Unreachable { host: self.options.shown(), detail: detail.to_owned() }
    }

    pub(crate) async fn start(&self, host: &Host, stages: Vec<Spec>, shown: &str) -> Result<Started, Error> {
        let mut why = String::new();
        let (mut tries, mut refusals) = (0, 0);
        while tries < TRIES && refusals < REFUSALS {
            let (master, permit) = self.room().await?;
            let id = format!("c{}", self.next.fetch_add(1, Ordering::Relaxed));
            let events = master.supervisor.register(&id);
            let report = Report::Supervisor { dir: master.supervisor.dir(), id: &id };
            let mut line = script::render(&stages, &report)?;
            line.push(b'\n');
            let mut child = match master.shell().await {
                Ok(child) => child,
                Err(e) => {
                    // Not started, so it may be tried on another connection.
                    why = e.to_string();
                    match e {
                        openssh::Error::SshMux(_) => {
                            refusals += 1;
                            master.full(permit).await;
                        }
                        _ => {
                            tries += 1;
                            master.lost();
                        }
                    }
                    continue;
                }
            };
            let mut stdin = child.stdin().take();
            if let Some(stdin) = &mut stdin {
                // A line without its end is not run, so a failure here means: not started.
                if let Err(e) = stdin.write_all(&line).await {
                    why = e.to_string();
                    tries += 1;
                    master.lost();
                    continue;
                }
            }
            if matches!(stages[0].stdin, Input::Null) {
                stdin = None;
            }
            let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
            let hold = Arc::new(Hold {
                open: AtomicUsize::new(2),
                changed: Notify::new(),
                session: std::sync::Mutex::new(Some(child)),
                _permit: permit,
            });
            let (out, err) = (Open(hold.clone()), Open(hold.clone()));
            return Ok(Started {
                stdin: stdin.map(Writer::pipe),
                stdout: stdout.map(|s| Reader::pipe(s, |s| Guarded::new(s, out))),
                stderr: stderr.map(|s| Reader::new(Guarded::new(s, err))),
                process: Box::new(Remote {
                    end: Some(master.holds.spawn(hold.end(master.closing.clone()))),
                    master,
                    id,
                    events,
                    seen: Vec::new(),
                    stages,
                    host: host.name().to_owned(),
                    command: shown.to_owned(),
                }),
            });
        }
        Err(self.gone(&format!("no command can be started: {why}")))
    }
}

/// Keeps a session alive until all of its output was read, or its connection is closed: the session's owner closing its end of
/// the control socket cuts off what is still on the way.
struct Hold {
    open: AtomicUsize,
    changed: Notify,
    session: std::sync::Mutex<Option<master::Session>>,
    _permit: OwnedSemaphorePermit,
}

impl Hold {
    /// Waits until nobody reads the output any more and the session has ended.
    async fn end(self: Arc<Self>, closing: CancellationToken) {
        let unread = async {
            loop {
                let changed = self.changed.notified();
                if self.open.load(Ordering::Acquire) == 0 {
                    break;
                }
                changed.await;
            }
        };
        closing.run_until_cancelled(unread).await;
        let session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(session) = session {
            // The status is the shell's; the supervisor tells the commands'.
            let _ = closing.run_until_cancelled(session.wait()).await;
        }
    }
}

/// One output stream that is still being read.
struct Open(Arc<Hold>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

/// A process group on an ssh host.
struct Remote {
    master: Arc<Master>,
    id: String,
    events: mpsc::UnboundedReceiver<Event>,
    seen: Vec<Event>,
    end: Option<JoinHandle<()>>,
    stages: Vec<Spec>,
    host: String,
    command: String,
}

impl Remote {
    fn lost(&self) -> Error {
        Error::Lost {
            host: self.host.clone(),
            command: self.command.clone(),
            detail: self.master.last_words(),
        }
    }

    fn ended_there(&self) -> Error {
        Error::EndedThere { host: self.host.clone(), command: self.command.clone() }
    }

    async fn ended(&mut self) -> Result<Vec<Status>, Error> {
        loop {
            if let Some(statuses) = local::statuses(&self.seen, &self.stages, &self.host)? {
                return Ok(statuses);
            }
            if self.seen.contains(&Event::Killed) {
                return Err(self.ended_there());
            }
            match &mut self.end {
                Some(end) => tokio::select! {
                    event = self.events.recv() => match event {
                        Some(event) => self.seen.push(event),
                        None => return Err(self.lost()),
                    },
                    _ = end => self.end = None,
                },
                None => match tokio::time::timeout(WORD, self.events.recv()).await {
                    Ok(Some(event)) => self.seen.push(event),
                    Ok(None) => return Err(self.lost()),
                    Err(_) if !self.master.alive() => return Err(self.lost()),
                    Err(_) => return Err(self.ended_there()),
                },
            }
        }
    }
}

impl Process for Remote {
    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Status>, Error>> + Send + '_>> {
        Box::pin(self.ended())
    }

    fn kill(&mut self, grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.master.supervisor.kill(&self.id, grace);
            let gone = async {
                while let Some(event) = self.events.recv().await {
                    let killed = event == Event::Killed;
                    self.seen.push(event);
                    if killed {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(grace + WORD, gone).await;
        })
    }

    fn killer(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (master, id) = (self.master.clone(), self.id.clone());
        Arc::new(move || master.supervisor.kill(&id, Duration::ZERO))
    }
}

/// What the far side's login shell is asked to run, always: no quoting of that shell matters.
fn loader() -> String {
    format!("exec /bin/sh -c '{LOADER}'")
}
