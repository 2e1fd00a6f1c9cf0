//! Store and job server, reached by one method, and a recovery between them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::machine::Machine;
use lab::machines::{Family, Machines, address};
use lab::recovery::{Job, Outcome, dbrecover};
use lab::sshd::Sshd;
use lab::workload::PASSWORD;

use crate::broker::{Broker, Peer};

/// How both machines are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    Ssh,
    Rabbit,
    /// By agents that are not ours: Python's oslo.messaging.
    RabbitOfOthers,
    Adm,
    /// By agents that are not ours: Python's grpcio.
    AdmOfOthers,
}

/// The machines with what makes them reachable, and a recovery that is set up to use it.
pub(crate) struct Wired {
    pub(crate) job: Job,
    pub(crate) store: Store,
    pub(crate) sshds: Vec<Sshd>,
    pub(crate) agents: Vec<Agent>,
    peers: Vec<Peer>,
    pub(crate) broker: Option<Broker>,
    pub(crate) machines: Machines,
}

/// The port that the first receiving socat takes. Machines of their own have no ports of others.
pub(crate) const SOCAT_PORT: u16 = 9998;

/// The agents' service, as others implement it from our description.
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/remote-exec/proto/dbinit.proto");

/// The gRPC port of the agents.
const ADM_PORT: &str = "19999";

impl Wired {
    /// `None` where the kernel lets us make no machines.
    pub(crate) fn start(
        store: Store,
        connect: Connect,
        transfer: &str,
        family: Family,
    ) -> Result<Option<Self>> {
        let Some(machines) = Machines::start()? else { return Ok(None) };
        let mut job = Job::below(machines.dir(), &store.dir, &store.truth)?;
        job.on(&machines.control);
        let (work, ds_info) = (machines.work().join("recoveries"), machines.work().join("ds_info"));
        std::fs::create_dir(&ds_info)?;
        job.set("recovery-job-server", "work-dir", work.to_string_lossy());
        job.set("misc", "ds-info-dir", ds_info.to_string_lossy());
        job.set("misc", "transfer-method", transfer);
        job.set("misc", "socat-port2", SOCAT_PORT.to_string());
        job.set("misc", "toolchain", "worker");
        for (section, machine) in ends(&machines) {
            job.set(section, "ip", address(machine, family).to_string());
        }
        let mut wired = Self {
            job,
            store,
            sshds: Vec::new(),
            agents: Vec::new(),
            peers: Vec::new(),
            broker: None,
            machines,
        };
        match connect {
            Connect::Ssh => wired.by_ssh()?,
            Connect::Rabbit => wired.by_rabbit(true)?,
            Connect::RabbitOfOthers => wired.by_rabbit(false)?,
            Connect::Adm => wired.by_adm(true)?,
            Connect::AdmOfOthers => wired.by_adm(false)?,
        }
        Ok(Some(wired))
    }

    fn by_ssh(&mut self) -> Result<()> {
        let mut known = String::new();
        for (section, machine) in ends(&self.machines) {
            let sshd = self.machines.sshd(machine)?;
            known.push_str(&std::fs::read_to_string(sshd.known_hosts())?);
            self.job.set(section, "port", sshd.port().to_string()).set(section, "user", "root").set(
                section,
                "identity-file",
                sshd.identity().to_string_lossy(),
            );
            self.sshds.push(sshd);
        }
        self.machines.store_knows(&self.sshds[1])?;
        let known_hosts = self.job.dir().join("known_hosts");
        std::fs::write(&known_hosts, known)?;
        self.job.set("misc", "connect-method", "ssh");
        self.job.set("misc", "known-hosts-file", known_hosts.to_string_lossy());
        Ok(())
    }

    fn by_rabbit(&mut self, ours: bool) -> Result<()> {
        let machine = &self.machines.broker;
        let broker = machine.inside(|| Ok(Broker::start_at(address(machine, Family::Four), None)))?;
        let uri = format!("{}/", broker.uri());
        for (_, machine) in ends(&self.machines) {
            let name = address(machine, Family::Four).to_string();
            if ours {
                self.agents.push(Agent::start(machine, &["--host", &name], Some(&uri))?);
            } else {
                let arguments = [uri.as_str(), "rds-dbinit", &name];
                self.peers.push(
                    machine.inside(|| Ok(Peer::start_on_machine("oslo", "oslo_agent.py", &arguments)))?,
                );
            }
        }
        self.job.set("misc", "connect-method", "rabbit-agent").set("rabbit-agent", "rabbitmq-uri", uri);
        self.broker = Some(broker);
        Ok(())
    }

    fn by_adm(&mut self, ours: bool) -> Result<()> {
        for (_, machine) in ends(&self.machines) {
            let listen = format!("{}:{ADM_PORT}", address(machine, Family::Four));
            if ours {
                self.agents.push(Agent::start(machine, &["--insecure", "--adm", &listen], None)?);
            } else {
                let arguments = [PROTO, "", &listen];
                self.peers.push(
                    machine.inside(|| Ok(Peer::start_on_machine("grpc", "grpc_agent.py", &arguments)))?,
                );
            }
        }
        self.job.set("misc", "connect-method", "adm-agent").set("adm-agent", "port", ADM_PORT);
        Ok(())
    }

    /// What is to run on the machines when no recovery does.
    pub(crate) fn daemons(&self) -> Vec<u32> {
        let sshds = self.sshds.iter().map(Sshd::pid);
        let agents = self.agents.iter().map(|agent| agent.child.id());
        sshds.chain(agents).chain(self.peers.iter().map(Peer::pid)).collect()
    }

    /// Sets the target: the last backup.
    pub(crate) fn aim(&mut self) -> Result<()> {
        let point = self.store.truth.points.last().context("no backup")?;
        self.job.to_backup(&point.backup);
        Ok(())
    }

    /// The program is on the control host only, in its `/tmp`, for as long as the returned value lives.
    pub(crate) fn only_on_control(&mut self) -> Result<OnControl> {
        let copy = self.machines.control.tmp().join("dbrecover");
        lab::tools::run(std::process::Command::new("cp").args([dbrecover()?.as_path(), &copy]))?;
        self.job.program("/tmp/dbrecover");
        Ok(OnControl(copy))
    }

    /// Looks for the passwords of the cluster and of its backups in the arguments of everything that runs on the machines.
    pub(crate) fn watch_arguments(&self) -> Watch {
        let machines = [&self.machines.control, &self.machines.store, &self.machines.job].map(Arc::clone);
        let password = self.store.truth.password.clone();
        let secrets: Vec<_> = std::iter::once(PASSWORD.to_owned()).chain(password).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                for (_, arguments) in
                    machines.iter().flat_map(|machine| machine.processes().unwrap_or_default())
                {
                    if secrets.iter().any(|secret| arguments.contains(secret.as_str())) {
                        seen.push(arguments);
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Watch { stop, thread }
    }

    /// Recovers to the last backup, compares with the truth, and finds nothing left on any machine.
    pub(crate) fn recovers(&mut self) -> Result<Outcome> {
        self.aim()?;
        let outcome = self.job.run()?;
        self.recovered(outcome)
    }

    /// The outcome is a recovery to the last backup, it is right, and nothing is left on any machine.
    pub(crate) fn recovered(&self, outcome: Outcome) -> Result<Outcome> {
        ensure!(outcome.code == 0, "exit code {}\n{}", outcome.code, outcome.stderr);
        let point = self.store.truth.points.last().context("no backup")?;
        self.job.verify(&self.store.truth, &point.groups)?;
        self.nothing_left().with_context(|| outcome.stderr.clone())?;
        Ok(outcome)
    }

    /// Nothing of a recovery runs or lies about on any machine.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        self.machines.nothing_left(&self.daemons())
    }

    /// The directory of the recovery while it is under way.
    pub(crate) fn incomplete(&self) -> PathBuf {
        let done = self.job.work_dir();
        let name = done.file_name().unwrap_or_default().to_string_lossy();
        done.with_file_name(format!(".incomplete-{name}"))
    }

    /// The names of the logs that the receiving socats left.
    pub(crate) fn socat_logs(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for day in std::fs::read_dir(self.job.work_dir().join("socat_log"))? {
            for log in std::fs::read_dir(day?.path())? {
                names.push(log?.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// How often streams were sent again, by the report.
    pub(crate) fn retries(&self) -> Result<u64> {
        let report = std::fs::read(self.job.work_dir().join("recovery-report.json"))?;
        let report: serde_json::Value = serde_json::from_slice(&report)?;
        let unpacked = report["unpacked"].as_array().context("a report has what was unpacked")?;
        Ok(unpacked.iter().filter_map(|one| one["retries"].as_u64()).sum())
    }
}

/// See [`Wired::only_on_control`].
pub(crate) struct OnControl(PathBuf);

impl Drop for OnControl {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// See [`Wired::watch_arguments`].
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Watch {
    /// Ends it; the arguments that held a password.
    pub(crate) fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|_| vec!["the watch failed".to_owned()])
    }
}

/// The two ends of a transfer by their sections of the configuration.
pub(crate) fn ends(machines: &Machines) -> [(&'static str, &Machine); 2] {
    [("backup-store", &machines.store), ("recovery-job-server", &machines.job)]
}

/// `dbrecover agent` on a machine. Dropping it kills it.
pub(crate) struct Agent {
    child: Child,
    arguments: Vec<String>,
    uri: Option<String>,
}

impl Agent {
    /// Starts one and waits until it serves.
    fn start(machine: &Machine, arguments: &[&str], uri: Option<&str>) -> Result<Self> {
        let mut command = Command::new(dbrecover()?);
        command.arg("agent").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(uri) = uri {
            command.env("DBRECOVER_RABBIT_URI", uri);
        }
        let mut child = machine.spawn(&mut command)?;
        let mut stdout = BufReader::new(child.stdout.take().context("piped")?);
        let mut ready = String::new();
        stdout.read_line(&mut ready)?;
        // It says so again when a broker is there again; nobody needs that, and it must not block.
        std::thread::spawn(move || std::io::copy(&mut stdout.take(u64::MAX), &mut std::io::sink()));
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let agent = Self { child, arguments, uri: uri.map(str::to_owned) };
        ensure!(!ready.is_empty(), "the agent on {} does not start", machine.name());
        Ok(agent)
    }

    /// Kills it as a crash would, and starts another one like it.
    pub(crate) fn restart(&mut self, machine: &Machine) -> Result<()> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        *self = Self::start(machine, &arguments, self.uri.as_deref())?;
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
