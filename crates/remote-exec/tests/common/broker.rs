//! A throw-away RabbitMQ node on loopback, and Python peers of both agent protocols.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Ports that were free a moment ago, each another one.
fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until the last is known.
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|held| held.local_addr().unwrap().port())
}

/// Whether a broker is there: it answers a wrong protocol header with the right one.
fn speaks_amqp(address: SocketAddr) -> bool {
    let greeting = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        io::Write::write_all(&mut stream, b"AMQP\0\0\0\0")?;
        let mut answer = [0; 4];
        io::Read::read_exact(&mut stream, &mut answer)?;
        Ok(answer)
    });
    greeting.is_ok_and(|greeting| &greeting == b"AMQP")
}

/// A running broker with the virtual hosts `/` and `vh1` and the user `me`, password `pa ss@`.
pub(crate) struct Broker {
    dir: tempfile::TempDir,
    address: SocketAddr,
    /// Where it speaks TLS.
    pub(crate) tls: Option<SocketAddr>,
    /// Of the node among its kind, and of its port mapper.
    ports: [u16; 2],
    server: Child,
    /// The node ends when this is closed: also when the test program is killed.
    _lifeline: Option<ChildStdin>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), None)
    }

    /// The same on another address of this machine; with a certificate and its key it listens for TLS too.
    pub(crate) fn start_at(address: IpAddr, identity: Option<(&Path, &Path)>) -> Self {
        // A port that was free may be another program's before the node has it.
        let mut why = String::new();
        for _ in 0..5 {
            match Self::attempt(address, identity) {
                Ok(broker) => return broker,
                Err(log) => why = log,
            }
        }
        panic!("RabbitMQ does not start: {why}");
    }

    /// A broker on ports that are free now, or the log of one that did not start.
    fn attempt(address: IpAddr, identity: Option<(&Path, &Path)>) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("rabbit-").tempdir().unwrap();
        let [tcp, tls, node, mapper] = free_ports();
        let (plain, tls) = (SocketAddr::new(address, tcp), SocketAddr::new(address, tls));
        let mut config = format!(
            "listeners.tcp.1 = {plain}\nload_definitions = {}\nlog.file.level = info\n",
            dir.path().join("definitions.json").display()
        );
        if let Some((certificate, key)) = identity {
            let (certificate, key) = (certificate.display(), key.display());
            config += &format!(
                "listeners.ssl.1 = {tls}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
            );
        }
        fs::write(dir.path().join("rabbitmq.conf"), config).unwrap();
        let mut broker = Self::launch(dir, plain, identity.map(|_| tls), [node, mapper]);
        broker.until_up().map(|()| broker)
    }

    /// `rabbit://` with login, without a path.
    pub(crate) fn uri(&self) -> String {
        format!("rabbit://me:pa%20ss%40@{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends the node and starts it again on the same port.
    pub(crate) fn restart(mut self) -> Self {
        self.stop();
        let (address, tls, ports) = (self.address, self.tls, self.ports);
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        drop(self);
        let mut again = Self::launch(dir, address, tls, ports);
        again.until_up().unwrap_or_else(|log| panic!("RabbitMQ does not start again: {log}"));
        again
    }

    fn launch(dir: tempfile::TempDir, address: SocketAddr, tls: Option<SocketAddr>, ports: [u16; 2]) -> Self {
        let at = |name: &str| dir.path().join(name);
        let definitions = r#"{"vhosts":[{"name":"/"},{"name":"vh1"}],
            "users":[{"name":"me","password":"pa ss@","tags":"administrator"}],
            "permissions":[{"user":"me","vhost":"/","configure":".*","write":".*","read":".*"},
                           {"user":"me","vhost":"vh1","configure":".*","write":".*","read":".*"}]}"#;
        fs::write(at("definitions.json"), definitions).unwrap();
        fs::write(at("plugins"), "[].").unwrap();
        let log = fs::File::create(at("log")).unwrap();
        // Reading from a pipe that ends with this process ends the node with it.
        // Its port mapper too: one that the node starts by itself is a daemon and would stay.
        // A node that ends by itself ends the shell, which is how `until_up` knows.
        let script = "epmd & { /usr/lib/rabbitmq/bin/rabbitmq-server; kill -s KILL 0; } & \
                      cat >/dev/null; kill -s KILL 0";
        let mut server = Command::new("sh")
            .args(["-c", script])
            .env("HOME", dir.path())
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", address.port()))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", at("none"))
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("logs"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_DIST_PORT", ports[0].to_string())
            .env("ERL_EPMD_PORT", ports[1].to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let lifeline = server.stdin.take();
        Self { dir, address, tls, ports, server, _lifeline: lifeline }
    }

    /// Waits until every listener answers; the error is the node's log.
    fn until_up(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(90);
        while !(speaks_amqp(self.address) && self.tls.is_none_or(|at| TcpStream::connect(at).is_ok())) {
            let ended = self.server.try_wait().unwrap().is_some();
            if ended || Instant::now() > end {
                return Err(fs::read_to_string(self.dir.path().join("log")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(group) = Pid::from_raw(self.server.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.server.wait();
        while TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A Python program that says `READY …` on stdout; it ends with this value.
pub(crate) struct Peer {
    child: Child,
    /// Where its commands have their temporary files, if not where everybody has them.
    tmp: Option<tempfile::TempDir>,
    /// What followed `READY`.
    pub(crate) said: String,
}

impl Peer {
    /// One whose commands have a directory of their own for temporary files.
    pub(crate) fn start(venv: &str, script: &str, arguments: &[&str]) -> Self {
        let tmp = tempfile::Builder::new().prefix("peer tmp-").tempdir().unwrap();
        Self::start_with(venv, script, arguments, Some(tmp))
    }

    /// One on a machine of its own, whose `/tmp` is looked at.
    pub(crate) fn start_on_machine(venv: &str, script: &str, arguments: &[&str]) -> Self {
        Self::start_with(venv, script, arguments, None)
    }

    /// What its commands have left among their temporary files.
    pub(crate) fn left(&self) -> usize {
        self.tmp.as_ref().map_or(0, |tmp| fs::read_dir(tmp.path()).unwrap().count())
    }

    fn start_with(venv: &str, script: &str, arguments: &[&str], tmp: Option<tempfile::TempDir>) -> Self {
        let tools = std::env::var_os("DBRECOVER_TEST_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME").unwrap());
            std::env::var_os("XDG_CACHE_HOME")
                .map_or(home.join(".cache"), PathBuf::from)
                .join("dbrecover-test-tools")
        });
        let python = tools.join(format!("venv-{venv}/bin/python"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut peers = here.ancestors().map(|dir| dir.join("crates/remote-exec/tests/peers"));
        let peers = peers.find(|dir| dir.is_dir()).unwrap();
        let mut child = Command::new(&python)
            .arg(peers.join(script))
            .args(arguments)
            .env("PYTHONWARNINGS", "ignore")
            .envs(tmp.as_ref().map(|tmp| ("TMPDIR", tmp.path())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; run tests/setup.sh", python.display()));
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while lines.read_line(&mut line).unwrap() > 0 && !line.starts_with("READY") {
            line.clear();
        }
        assert!(line.starts_with("READY"), "{script} of {venv} did not start");
        Self { child, tmp, said: line["READY".len()..].trim().to_owned() }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
