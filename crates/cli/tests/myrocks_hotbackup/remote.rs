//! Other hosts: a throw-away sshd on loopback.

use std::path::PathBuf;

use crate::server::{Server, fail, restored, run};

#[allow(dead_code, unreachable_pub)]
#[path = "../../../remote-exec/tests/common/sshd.rs"]
pub(crate) mod sshd;

use sshd::Sshd;

/// An ssh configuration in which the throw-away server is `store`.
pub(crate) fn config(sshd: &Sshd) -> PathBuf {
    let path = sshd.dir().join("ssh_config");
    let text = format!(
        "Host store\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n IdentitiesOnly yes\n",
        sshd.port(),
        sshd.identity().display(),
        sshd.known_hosts().display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn backups_to_another_host_are_there_whole_or_not_at_all() {
    let server = Server::new();
    server.bank();
    let sshd = Sshd::start().unwrap();
    let there = sshd.dir().join("it's a \"place\"");
    let to = |name: &str| format!("ssh://store{}/{name}", there.display());
    let backup = |form: &str, name: &str| {
        let mut command = server.backup();
        command.arg("--ssh-config").arg(config(&sshd)).args(["-s", form, "--to", &to(name)]);
        command
    };
    run(backup("tar", "full").args(["--compress=zstd:1"]));
    run(&mut backup("xbstream", "xbs"));
    run(&mut backup("dir", "dir"));
    for name in ["full/backup.tar.zst", "xbs/backup.xbstream", "dir"] {
        restored(&[&there.join(name)]).assert_bank();
    }
    // A slash behind the name is no other place.
    run(&mut backup("dir", "slash/"));
    restored(&[&there.join("slash")]).assert_bank();
    // What is there is never replaced.
    assert!(fail(&mut backup("dir", "dir"), 4).contains("exists already"));
    fail(&mut backup("tar", "xbs/backup.xbstream"), 4);
    // A backup that fails leaves nothing there.
    fail(backup("dir", "broken").args(["-u", "nobody"]), 4);
    assert!(!there.join("broken").exists() && !there.join("broken.partial").exists());
    server.assert_no_checkpoint();
}
