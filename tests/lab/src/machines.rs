//! Store, job server, broker and control host as machines of their own, and the cables between them.
//!
//! ```text
//!   control 10.77.0.1      store 10.77.0.2      job 10.77.0.3      broker 10.77.0.4
//!        |                      |                    |                   |
//!        +------------ switch (a bridge, in the namespace of control) ---+
//! ```
//!
//! Only the store sees the backups, and only the job server sees the work directory, so a recovery cannot take a short
//! cut. A cable can be cut, slowed down (`tbf`) and made lossy. Loss is a filter of classic BPF that drops at random,
//! because fewer kernels have `netem` than packet filters.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{Machine, View};
use crate::recovery::dbrecover;
use crate::sshd::Sshd;
use crate::tools::{run, tools_dir};

/// The four machines, cabled.
#[derive(Debug)]
pub struct Machines {
    /// Where `dbrecover` runs.
    pub control: Arc<Machine>,
    /// Where the backups are.
    pub store: Arc<Machine>,
    /// Where clusters come back.
    pub job: Arc<Machine>,
    /// Where a message broker may run.
    pub broker: Arc<Machine>,
    /// What belongs to the machines; every one of them sees it.
    dir: tempfile::TempDir,
}

/// Who it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

/// The machines' place in the networks `10.77.0.0/24` and `fd77::/64`.
const PLACES: [(&str, u8); 4] = [("control", 1), ("store", 2), ("job", 3), ("broker", 4)];

/// A machine's address.
pub fn address(machine: &Machine, family: Family) -> IpAddr {
    let place = PLACES.iter().find(|(name, _)| *name == machine.name()).map_or(0, |(_, place)| *place);
    match family {
        Family::Four => IpAddr::from([10, 77, 0, place]),
        Family::Six => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(place)]),
    }
}

impl Machines {
    /// Makes the machines; `None`, with a notice that no test harness hides, where the kernel does not let us.
    pub fn start() -> Result<Option<Self>> {
        let allowed = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc"])
            .args(["ip", "link", "add", "type", "bridge"])
            .stdin(Stdio::null())
            .output()
            .context("unshare of util-linux cannot be run; run ./test")?;
        if !allowed.status.success() {
            let why = String::from_utf8_lossy(&allowed.stderr).trim().to_owned();
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            let notice = format!(
                "\n*** NOT TESTED: {name}: this kernel allows no network namespaces with a bridge: {why} ***\n"
            );
            std::io::stderr().write_all(notice.as_bytes())?;
            return Ok(None);
        }
        // Not in /tmp: every machine has its own.
        let dir = tempfile::Builder::new().prefix("dbrm").tempdir_in("/var/tmp")?;
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| dir.path().join(name);
        for name in ["work", "ssh"] {
            fs::create_dir(at(name))?;
        }
        let tools = tools_dir();
        let stores = tools.join("lab-stores");
        fs::create_dir_all(&stores)?;
        let work = at("work");
        let (no_store, no_work) = (View::Hide(&stores), View::Hide(&work));
        let program = dbrecover()?;
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a workspace")?;
        let programs = [program.parent().unwrap_or(workspace), workspace, &tools].map(View::Keep);
        // The store's own list of known hosts: with `scp` it logs in to the job server.
        let (own_ssh, etc_ssh) = (at("ssh"), Path::new("/etc/ssh"));
        let start = |name, view: &[View<'_>]| {
            Machine::start(name, dir.path(), &[view, &programs].concat()).map(Arc::new)
        };
        let machines = Self {
            control: start("control", &[no_store, no_work])?,
            store: start("store", &[no_work, View::Bind(&own_ssh, etc_ssh)])?,
            job: start("job", &[no_store])?,
            broker: start("broker", &[no_store, no_work])?,
            dir,
        };
        machines.cable()?;
        Ok(Some(machines))
    }

    fn all(&self) -> [&Arc<Machine>; 4] {
        [&self.control, &self.store, &self.job, &self.broker]
    }

    /// `ip` and `tc` with the network of one machine and the process numbers of the real one.
    fn network(machine: &Machine, program: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", machine.pid())).arg(program);
        run(command.args(arguments.split(' '))).map(drop)
    }

    fn cable(&self) -> Result<()> {
        let switch = &self.control;
        Self::network(switch, "ip", "link add switch type bridge")?;
        Self::network(switch, "ip", "link set switch up")?;
        for machine in self.all() {
            let (name, pid) = (machine.name(), machine.pid());
            let (four, six) = (address(machine, Family::Four), address(machine, Family::Six));
            let on_machine = if Arc::ptr_eq(machine, switch) {
                "switch"
            } else {
                Self::network(
                    switch,
                    "ip",
                    &format!("link add {name} type veth peer name eth0 netns {pid}"),
                )?;
                Self::network(switch, "ip", &format!("link set {name} master switch up"))?;
                Self::network(machine, "ip", "link set eth0 up")?;
                "eth0"
            };
            Self::network(machine, "ip", &format!("addr add {four}/24 dev {on_machine}"))?;
            Self::network(machine, "ip", &format!("addr add {six}/64 dev {on_machine} nodad"))?;
        }
        Ok(())
    }

    /// What belongs to the machines and is seen by all of them.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A directory that only the job server sees.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Pulls the cable of a machine.
    pub fn cut(&self, machine: &Machine) -> Result<()> {
        Self::network(&self.control, "ip", &format!("link set {} down", machine.name()))
    }

    /// Plugs it in again.
    pub fn mend(&self, machine: &Machine) -> Result<()> {
        Self::network(&self.control, "ip", &format!("link set {} up", machine.name()))
    }

    /// Lets a machine send no more than this many bytes per second.
    pub fn slow(&self, machine: &Machine, bytes_per_second: u64) -> Result<()> {
        let arguments = format!(
            "qdisc replace dev eth0 root tbf rate {}bit burst 128kb latency 100ms",
            bytes_per_second * 8
        );
        Self::network(machine, "tc", &arguments)
    }

    /// Lets it send as fast as it can again.
    pub fn hurry(&self, machine: &Machine) -> Result<()> {
        Self::network(machine, "tc", "qdisc del dev eth0 root")
    }

    /// Loses this share of the packets that a machine sends, in percent.
    pub fn lossy(&self, machine: &Machine, percent: u32) -> Result<()> {
        Self::network(machine, "tc", "qdisc replace dev eth0 clsact")?;
        // A random number (`ld rand`); at or above the limit the packet is dropped (TC_ACT_SHOT), else it goes on.
        let limit = u64::from(u32::MAX) * u64::from(100 - percent.min(100)) / 100;
        let program = format!("4,32 0 0 4294963256,53 0 1 {limit},6 0 0 2,6 0 0 4294967295");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", machine.pid()));
        command.args(["tc", "filter", "replace", "dev", "eth0", "egress", "pref", "1", "handle", "1"]);
        run(command.args(["bpf", "da", "bytecode", &program])).map(drop)
    }

    /// An sshd on a machine, at both its addresses.
    pub fn sshd(&self, machine: &Machine) -> Result<Sshd> {
        let addresses = [address(machine, Family::Four), address(machine, Family::Six)];
        let sshd = machine.inside(|| Ok(Sshd::start_at(self.dir.path(), &addresses, "")?))?;
        Ok(sshd)
    }

    /// The store knows this sshd.
    pub fn store_knows(&self, sshd: &Sshd) -> Result<()> {
        fs::copy(sshd.known_hosts(), self.dir.path().join("ssh/ssh_known_hosts"))?;
        Ok(())
    }

    /// Nothing but `daemons` runs on any machine, and no machine has anything in `/tmp`.
    pub fn nothing_left(&self, daemons: &[u32]) -> Result<()> {
        [&self.control, &self.store, &self.job]
            .iter()
            .try_for_each(|machine| machine.nothing_left(daemons, Duration::from_secs(30)))
    }
}
