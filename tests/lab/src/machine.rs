//! A machine in a network of its own: what it runs, sees and leaves behind is told apart from everything else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Prepares what the machine sees and waits for the end of its input. As process 1 it takes in orphans, which `wait`
/// of a shell does and `cat` would not.
const INIT: &str = r#"set -e; tmp=$1; shift; ip link set lo up
while [ $# -gt 0 ]; do case $1 in
hide) mount -t tmpfs -o size=64k,mode=755 none "$2"; shift 2;;
bind) mount --rbind "$2" "$3"; shift 3;;
keep) mkdir -p "$tmp${2#/tmp}"; mount --rbind "$2" "$tmp${2#/tmp}"; shift 2;;
esac; done
mount --rbind "$tmp" /tmp
exec 3<&0; cat <&3 >/dev/null & echo ready; exec >/dev/null; wait"#;

/// The namespaces of a machine: their link in `/proc/PID/ns`, and their kind. The file system comes first, because its
/// `/proc` would not show the others.
const NAMESPACES: [(&str, LinkNameSpaceType); 3] = [
    ("mnt", LinkNameSpaceType::Mount),
    ("net", LinkNameSpaceType::Network),
    ("pid_for_children", LinkNameSpaceType::ProcessID),
];

/// One machine: its own network, processes and `/tmp`, and directories that it does not see. It shares the rest of the
/// file system with the real machine.
///
/// Everything that runs in it ends with this value, and when this process dies: the kernel does it.
#[derive(Debug)]
pub struct Machine {
    name: &'static str,
    holder: Child,
    /// Its end is the machine's.
    lifeline: Option<ChildStdin>,
    namespaces: Vec<(File, LinkNameSpaceType)>,
    /// What `/proc/PID/ns/pid` is for its processes.
    processes: PathBuf,
    /// Its own processes, which are no leftovers.
    own: Vec<u32>,
    tmp: PathBuf,
    /// What was in its `/tmp` from the start.
    kept: Vec<OsString>,
}

/// What a machine sees of the real machine's file system, apart from everything.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// An empty directory in the place of this one.
    Hide(&'a Path),
    /// The first in the place of the second.
    Bind(&'a Path, &'a Path),
    /// This one, even where it lies below the real `/tmp`. Comes after the others.
    Keep(&'a Path),
}

impl Machine {
    /// A machine with loopback only. `dir` is made for its `/tmp`.
    pub fn start(name: &'static str, dir: &Path, view: &[View<'_>]) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let tmp = dir.join(format!("{name}-tmp"));
        fs::create_dir(&tmp)?;
        fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--", "sh", "-c", INIT, "sh"]).arg(&tmp);
        for what in view {
            match what {
                View::Keep(dir) if dir.starts_with("/tmp") => command.arg("keep").arg(dir),
                View::Keep(_) => &mut command,
                View::Hide(dir) => command.arg("hide").arg(dir),
                View::Bind(from, to) => command.arg("bind").arg(from).arg(to),
            };
        }
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unshare of util-linux cannot be run; run ./test")?;
        let lifeline = holder.stdin.take();
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        if said != "ready\n" {
            drop(lifeline);
            let output = holder.wait_with_output()?;
            bail!("machine {name} does not start: {}", String::from_utf8_lossy(&output.stderr));
        }
        let ns = PathBuf::from(format!("/proc/{}/ns", holder.id()));
        let namespaces = NAMESPACES.iter().map(|(link, kind)| Ok((File::open(ns.join(link))?, *kind)));
        let mut machine = Self {
            name,
            namespaces: namespaces.collect::<Result<_>>()?,
            processes: fs::read_link(ns.join("pid_for_children"))?,
            holder,
            lifeline,
            own: Vec::new(),
            kept: names(&tmp)?,
            tmp,
        };
        // `INIT` says that it is ready when its `cat` is forked; until that runs, it has no arguments for a moment.
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let own = machine.all_processes()?;
            if own.iter().any(|(_, arguments)| arguments == "cat ") {
                machine.own = own.into_iter().map(|(pid, _)| pid).collect();
                return Ok(machine);
            }
            ensure!(Instant::now() < until, "{name} does not begin: {own:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its `/tmp`, seen from the real machine.
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// A process whose network is the machine's, as the real machine counts.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// How many bytes it has sent to other machines.
    pub fn sent(&self) -> Result<u64> {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.pid()))?;
        let counters = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        // Eight of what was received come first.
        let sent = counters.and_then(|counters| counters.split_whitespace().nth(8));
        Ok(sent.with_context(|| format!("{} has no cable: {table}", self.name))?.parse()?)
    }

    /// Does something as if in a process of the machine: sockets are in its network, paths are what it sees, and
    /// programs that are started run there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter = || -> Result<()> {
            // SAFETY: only the current directory and the like are unshared, no file descriptors.
            #[allow(unsafe_code, reason = "the other namespaces of a thread can be changed only after this")]
            unsafe {
                unshare_unsafe(UnshareFlags::FS)?;
            }
            for (file, kind) in &self.namespaces {
                move_into_link_name_space(file.as_fd(), Some(*kind))?;
            }
            Ok(())
        };
        let entered = || {
            enter().with_context(|| format!("enter machine {}", self.name))?;
            work()
        };
        let thread = std::thread::scope(|scope| scope.spawn(entered).join());
        thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a program there.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.inside(|| command.spawn().with_context(|| format!("{command:?} on {}", self.name)))
    }

    /// Runs a program there to its good end.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        self.inside(|| crate::tools::run(command))
    }

    /// Everything that runs there, but zombies.
    fn all_processes(&self) -> Result<Vec<(u32, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if fs::read_link(entry.path().join("ns/pid")).is_ok_and(|ns| ns == self.processes) {
                let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                if !arguments.is_empty() {
                    found.push((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")));
                }
            }
        }
        Ok(found)
    }

    /// The processes that somebody started there, by number on the real machine and arguments.
    pub fn processes(&self) -> Result<Vec<(u32, String)>> {
        let mut all = self.all_processes()?;
        all.retain(|(pid, _)| !self.own.contains(pid));
        Ok(all)
    }

    /// Kills the processes whose arguments hold `text`, as the system would when it is short of memory; how many.
    pub fn kill(&self, text: &str) -> Result<usize> {
        let found: Vec<_> =
            self.processes()?.into_iter().filter(|(_, arguments)| arguments.contains(text)).collect();
        for (pid, _) in &found {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(found.len())
    }

    /// Nothing but `daemons` runs there within a few seconds, and nothing is left in its `/tmp`.
    pub fn nothing_left(&self, daemons: &[u32], patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let mut left = self.processes()?;
            left.retain(|(pid, _)| !daemons.contains(pid));
            let mut files = names(&self.tmp)?;
            files.retain(|name| !self.kept.contains(name));
            if left.is_empty() && files.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "left on {}: {left:?}, in /tmp: {files:?}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>> {
    Ok(fs::read_dir(dir)?.flatten().map(|entry| entry.file_name()).collect())
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.holder.wait();
    }
}
