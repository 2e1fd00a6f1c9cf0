//! One connection: the `ssh` process that holds it, and what is said over it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::askpass::Askpass;
use super::supervisor::Supervisor;
use super::{Options, loader};
use crate::Error;

/// A session of the connection.
pub(super) type Session = openssh::Child<Arc<openssh::Session>>;

/// Seconds that the connection's process stays when this process has died without ending it.
const LINGER: u32 = 20;

/// How long a connection may take to end in order.
pub(super) const CLOSE: Duration = Duration::from_secs(8);

/// Most of a log file that is looked at, in bytes.
const LOG: u64 = 64 * 1024;

pub(super) struct Master {
    /// The last of its users to be dropped tells the connection to end with its last session, and removes its directory.
    session: Arc<openssh::Session>,
    pub(super) supervisor: Supervisor,
    supervisor_session: std::sync::Mutex<Option<Session>>,
    /// The tasks that keep the commands' sessions, and what ends them.
    pub(super) holds: TaskTracker,
    pub(super) closing: CancellationToken,
    pub(super) slots: Arc<Semaphore>,
    /// How many slots there are, taken or not.
    capacity: AtomicUsize,
    /// The directory of the control socket and the log.
    dir: PathBuf,
    options: Options,
}

impl Master {
    pub(super) async fn connect(options: &Options) -> Result<Self, Error> {
        let dir = socket_dir()
            .map_err(|source| Error::Here { what: "make a directory for ssh's socket", source })?;
        let log = dir.path().join("log");
        let limit = options.connect_timeout + options.login_timeout;
        let begun = tokio::time::Instant::now();
        match tokio::time::timeout(limit, log_in(options, dir.path(), &log)).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::Unreachable {
                    host: options.shown(),
                    detail: format!("no login within {limit:?}"),
                });
            }
        }
        let path = dir.path().to_owned();
        let session = Arc::new(openssh::Session::new_native_mux(dir));
        let unusable = |detail: String| Error::Unreachable { host: options.shown(), detail };
        let mut child =
            shell(&session).await.map_err(|e| unusable(format!("no session: {e}: {}", last_line(&log))))?;
        let (Some(stdin), Some(stdout)) = (child.stdin().take(), child.stdout().take()) else {
            return Err(unusable("a session without streams".to_owned()));
        };
        child.stderr().take();
        let supervisor = Supervisor::start(stdin, stdout, limit.saturating_sub(begun.elapsed()))
            .await
            .map_err(unusable)?;
        Ok(Self {
            session,
            supervisor,
            supervisor_session: std::sync::Mutex::new(Some(child)),
            holds: TaskTracker::new(),
            closing: CancellationToken::new(),
            slots: Arc::new(Semaphore::new(options.sessions_per_connection.max(1))),
            capacity: AtomicUsize::new(options.sessions_per_connection.max(1)),
            dir: path,
            options: options.clone(),
        })
    }

    /// Opens a session that runs the loader.
    pub(super) async fn shell(&self) -> Result<Session, openssh::Error> {
        shell(&self.session).await
    }

    /// Whether commands may be started here.
    pub(super) fn alive(&self) -> bool {
        self.supervisor.alive()
    }

    /// The connection is gone.
    pub(super) fn lost(&self) {
        self.supervisor.retire();
    }

    /// The server allows no more sessions than there are now, so the slot is taken out of use.
    pub(super) async fn full(&self, permit: OwnedSemaphorePermit) {
        let fewer = |n: usize| (n > 1).then(|| n - 1);
        if self.capacity.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok() {
            permit.forget();
        } else {
            // Even one is refused at the moment: the session of a command that has just ended may still be closing.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What ssh said last about the connection.
    pub(super) fn last_words(&self) -> String {
        match last_line(&self.dir.join("log")) {
            line if line.is_empty() => "the connection ended".to_owned(),
            line => line,
        }
    }

    /// Ends the connection in order: the supervisor, which ends what still runs; the sessions; the connection itself.
    pub(super) async fn close(&self) {
        self.supervisor.close();
        let session =
            self.supervisor_session.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let answered = match session {
            Some(session) => tokio::time::timeout(CLOSE, session.wait()).await.is_ok(),
            None => true,
        };
        self.closing.cancel();
        self.holds.close();
        self.holds.wait().await;
        let socket = self.dir.join("master");
        let stopped = answered && {
            // It ends with its last session. Another handle, because a command that is being started has this one.
            let session = openssh::Session::resume_mux(socket.clone().into_boxed_path(), None);
            matches!(tokio::time::timeout(CLOSE, session.close()).await, Ok(Ok(())))
        };
        if !stopped {
            // Its sessions would wait for a host that does not answer.
            let mut exit = Command::new(&self.options.program);
            exit.args(["-F", "/dev/null", "-O", "exit", "-S"]).arg(socket);
            exit.arg("--").arg(&self.options.host).kill_on_drop(true);
            exit.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = tokio::time::timeout(CLOSE, exit.status()).await;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn shell(session: &Arc<openssh::Session>) -> Result<Session, openssh::Error> {
    let mut command = session.clone().arc_raw_command(loader());
    command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
    command.spawn().await
}

/// A directory for the control socket. The path of a socket is at most 107 bytes, and ssh adds 17 while it makes it.
fn socket_dir() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("dbrecover-ssh-");
    let usual = std::env::temp_dir();
    if usual.as_os_str().len() > 50 { builder.tempdir_in("/tmp") } else { builder.tempdir() }
}

/// Starts ssh, which goes to the background when it has logged in.
async fn log_in(options: &Options, dir: &Path, log: &Path) -> Result<(), Error> {
    let host = options.shown();
    let mut command = Command::new(&options.program);
    command.args(["-f", "-N", "-M", "-T"]).arg("-S").arg(dir.join("master")).arg("-E").arg(log);
    destination(&mut command, options);
    let mut set = |option: String| {
        command.arg("-o").arg(option);
    };
    set("ControlMaster=yes".into());
    set(format!("ControlPersist={LINGER}"));
    set(format!("ConnectTimeout={}", options.connect_timeout.as_secs().max(1)));
    set(format!("ServerAliveInterval={}", options.keep_alive.as_secs().max(1)));
    set("ServerAliveCountMax=3".into());
    set("NumberOfPasswordPrompts=1".into());
    set(format!("StrictHostKeyChecking={}", if options.accept_new_host_keys { "accept-new" } else { "yes" }));
    for no in ["ForwardAgent", "ForwardX11", "PermitLocalCommand"] {
        set(format!("{no}=no"));
    }
    set("ClearAllForwardings=yes".into());
    if options.fast_ciphers {
        set("Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com".into());
    }
    if let Some(path) = &options.known_hosts {
        set(format!("UserKnownHostsFile={}", quoted_option(path)));
        set("GlobalKnownHostsFile=/dev/null".into());
    }
    let askpass = if options.password.is_some() || options.passphrase.is_some() {
        Some(Askpass::new(options.password.as_ref(), options.passphrase.as_ref()).await?)
    } else {
        set("BatchMode=yes".into());
        None
    };
    if let Some(askpass) = &askpass {
        command
            .env("SSH_ASKPASS", askpass.program())
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("DISPLAY", std::env::var_os("DISPLAY").unwrap_or_else(|| ":0".into()))
            .env("DBRECOVER_ASK_FOR", login_name(options).await?);
    }
    command.arg("--").arg(&options.host);
    // Its own process group: a ^C at the terminal is for the program that owns the connection.
    command.env("LC_ALL", "C").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().await.map_err(|source| Error::Here { what: "start ssh", source })?;
    if status.success() {
        return Ok(());
    }
    Err(classify(host, &read_log(log)))
}

/// The arguments that say whom to connect to, apart from the host.
fn destination(command: &mut Command, options: &Options) {
    if let Some(file) = &options.config_file {
        command.arg("-F").arg(file);
    }
    if let Some(user) = &options.user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = options.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(identity) = &options.identity {
        command.arg("-i").arg(identity).arg("-o").arg("IdentitiesOnly=yes");
    }
}

/// `user@host` as ssh will call the target in its questions.
async fn login_name(options: &Options) -> Result<String, Error> {
    let mut command = Command::new(&options.program);
    command.arg("-G");
    destination(&mut command, options);
    let output = command
        .arg("--")
        .arg(&options.host)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| Error::Here { what: "start ssh", source })?;
    Ok(login_name_in(&String::from_utf8_lossy(&output.stdout)))
}

/// The same out of what `ssh -G` tells.
pub(crate) fn login_name_in(configuration: &str) -> String {
    let value = |key: &str| {
        let mut lines = configuration.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap_or_default().to_owned()
    };
    format!("{}@{}", value("user"), value("hostname"))
}

/// A path as a value of an ssh option.
fn quoted_option(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

fn read_log(log: &Path) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(log) {
        let _ = file.take(LOG).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn last_line(log: &Path) -> String {
    let text = read_log(log);
    text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default().to_owned()
}

/// What ssh's own words say about a login that failed. ssh's exit status is 255 for all of them.
fn classify(host: String, log: &str) -> Error {
    let line = |text: &str| log.lines().rev().find(|l| l.contains(text)).map(|l| l.trim().to_owned());
    if log.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let detail = line("fingerprint").or_else(|| line("Offending")).unwrap_or_default();
        return Error::HostKey { host, changed: true, detail };
    }
    if let Some(detail) = line("host key is known").or_else(|| line("Host key verification failed")) {
        return Error::HostKey { host, changed: false, detail };
    }
    // It was never asked: the password may be right.
    if let Some(detail) = line("ssh_askpass: exec") {
        let detail = format!("{detail}; programs must be able to run below $TMPDIR, or /tmp, for a password");
        return Error::Unreachable { host, detail };
    }
    if let Some(detail) = line("Permission denied (").or_else(|| line("Too many authentication failures")) {
        return Error::Login { host, detail };
    }
    let detail = log.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("ssh gave no reason");
    Error::Unreachable { host, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_failures_are_told_apart() {
        let of = |log: &str| classify("h".into(), log);
        assert!(matches!(
            of("u@h: Permission denied (publickey,password).\r\n"),
            Error::Login { detail, .. } if detail == "u@h: Permission denied (publickey,password)."
        ));
        assert!(matches!(
            of("No ED25519 host key is known for [::1]:2 and you have requested strict checking.\r\nHost key verification failed.\r\n"),
            Error::HostKey { changed: false, detail, .. } if detail.starts_with("No ED25519")
        ));
        assert!(matches!(
            of("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n"),
            Error::HostKey { changed: true, .. }
        ));
        assert!(matches!(
            of("ssh_askpass: exec(/tmp/x): Permission denied\r\nu@h: Permission denied (password).\r\n"),
            Error::Unreachable { detail, .. } if detail.contains("TMPDIR")
        ));
        assert!(matches!(
            of("ssh: connect to host h port 1: Connection refused\n"),
            Error::Unreachable { .. }
        ));
        assert!(matches!(of(""), Error::Unreachable { .. }));
    }
}
