//! A throw-away sshd on loopback: its own keys, port and configuration, nothing of the system's but the program.

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running sshd. Dropping it ends it with every connection it has.
#[derive(Debug)]
pub struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    server: Child,
}

impl Sshd {
    /// Starts one that takes the key of [`identity`](Self::identity), and passwords of the machine's users.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// The same with further lines of configuration.
    pub fn start_with(more: &str) -> io::Result<Self> {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Self::start_at(&std::env::temp_dir(), &loopback, more)
    }

    /// The same on addresses of this machine, with its files in a directory below `parent`.
    pub fn start_at(parent: &Path, addresses: &[IpAddr], more: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sshd-").tempdir_in(parent)?;
        // sshd of root insists on its empty directory; a package that never started a service may not have made it.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let at = |name: &str| dir.path().join(name);
        for key in ["host", "user"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(at(key)))?;
        }
        fs::copy(at("user.pub"), at("authorized_keys"))?;
        // What the user of this process has in its `.bashrc` must not decide: a Python version manager's, for one, waits a
        // minute for a lock that a login left which was killed.
        let home = match more.contains("SetEnv") {
            true => String::new(),
            false => format!("Match User {}\nSetEnv HOME={}\n", user()?, dir.path().display()),
        };
        for _ in 0..10 {
            let port = TcpListener::bind((addresses[0], 0))?.local_addr()?.port();
            let listen: String =
                addresses.iter().map(|address| format!("ListenAddress {address}\n")).collect();
            let config = format!(
                "Port {port}\n{listen}HostKey {0}/host\nPidFile none\n\
                 AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication yes\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nLogLevel VERBOSE\n\
                 Subsystem sftp internal-sftp\n{more}\n{home}",
                dir.path().display()
            );
            fs::write(at("config"), config)?;
            let log = fs::File::create(at("log"))?;
            let mut server = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(at("config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .process_group(0)
                .spawn()?;
            if answers(SocketAddr::new(addresses[0], port), &mut server)? {
                let host_key = fs::read_to_string(at("host.pub"))?;
                let names = addresses.iter().map(ToString::to_string).chain(["localhost".to_owned()]);
                let known: String = names.map(|name| format!("[{name}]:{port} {host_key}")).collect();
                fs::write(at("known_hosts"), known)?;
                return Ok(Self { dir, port, server });
            }
        }
        Err(io::Error::other(format!("sshd does not start: {}", fs::read_to_string(at("log"))?)))
    }

    /// The port, on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that listens.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// The private key that logs in as the user of this process.
    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("user")
    }

    /// A `known_hosts` with this server's key.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// The server's directory, for files that belong to a test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        sshds_below(self.server.id()).len()
    }

    /// Cuts every connection off; new ones are welcome. What runs there only notices that its connection is gone.
    pub fn cut(&self) {
        sshds_below(self.server.id()).into_iter().for_each(end);
    }

    /// Ends the server and every connection.
    pub fn stop(&mut self) {
        let below = sshds_below(self.server.id());
        let _ = self.server.kill();
        let _ = self.server.wait();
        below.into_iter().for_each(end);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The name of the user that this process runs as.
fn user() -> io::Result<String> {
    let name = Command::new("id").arg("-un").output()?.stdout;
    Ok(String::from_utf8_lossy(&name).trim().to_owned())
}

/// A user of this machine that exists as long as this value; only root can make one.
#[derive(Debug)]
pub struct TemporaryUser {
    /// The login name.
    pub name: String,
    /// The password.
    pub password: String,
    home: tempfile::TempDir,
}

impl TemporaryUser {
    /// Makes a user with this password.
    pub fn new(password: &str) -> io::Result<Self> {
        let home = tempfile::Builder::new().prefix("home-").tempdir()?;
        let unique = home.path().file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let name = format!("dbr{}", unique.trim_start_matches("home-").to_lowercase());
        run(Command::new("useradd").args(["-M", "-N", "-s", "/bin/sh", "-d"]).arg(home.path()).arg(&name))?;
        let user = Self { name, password: password.to_owned(), home };
        run(Command::new("chown").arg(&user.name).arg(user.home.path()))?;
        let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = chpasswd.stdin.take() {
            io::Write::write_all(&mut stdin, format!("{}:{}\n", user.name, user.password).as_bytes())?;
        }
        if !chpasswd.wait()?.success() {
            return Err(io::Error::other("chpasswd failed"));
        }
        fs::set_permissions(user.home.path(), fs::Permissions::from_mode(0o700))?;
        Ok(user)
    }
}

impl TemporaryUser {
    /// Gives the user another login shell.
    pub fn set_shell(&self, shell: &str) -> io::Result<()> {
        run(Command::new("usermod").args(["-s", shell]).arg(&self.name))
    }

    /// The user's home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for TemporaryUser {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).stderr(Stdio::null()).status();
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Whether the server greets on the port; false when it ended, e.g. because somebody else took the port.
fn answers(address: SocketAddr, server: &mut Child) -> io::Result<bool> {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if server.try_wait()?.is_some() {
            return Ok(false);
        }
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut greeting = [0; 4];
            if stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-" {
                return Ok(true);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

/// The processes of every connection of a server, without the programs that run there.
fn sshds_below(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    let is_sshd =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("sshd"));
    found.split_off(1).into_iter().filter(is_sshd).collect()
}

fn end(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
