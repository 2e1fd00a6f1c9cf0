//! Small disks that fill up.

use std::path::{Path, PathBuf};

use crate::server::run;

/// A file system of its own in memory, on a directory; it goes with its owner.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir(at).unwrap();
        run(privileged("mount")
            .args(["-t", "tmpfs", "-o", &format!("mode=0777,size={size}"), "tmpfs"])
            .arg(at));
        Self(at.to_owned())
    }

    /// Takes all room but `left` bytes.
    pub(crate) fn fill(&self, left: u64) -> PathBuf {
        let room = rustix::fs::statvfs(&self.0).unwrap();
        let filler = self.0.join("filler");
        std::fs::write(&filler, vec![0; (room.f_bavail * room.f_frsize - left) as usize]).unwrap();
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = privileged("umount").arg("-l").arg(&self.0).status();
    }
}

/// A command that needs root, as `tests/setup.sh` has it.
fn privileged(program: &str) -> std::process::Command {
    if rustix::process::geteuid().is_root() {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new("sudo");
    command.args(["-n", program]);
    command
}
