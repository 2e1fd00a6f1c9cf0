//! The commands of the guide.

use std::path::Path;
use std::process::Command;

use crate::remote::{config, sshd::Sshd};
use crate::server::{Server, run, start_restored};

#[path = "../../../../tests/lab/tests/common/markdown.rs"]
mod markdown;

#[test]
#[ignore = "needs mariadbd and sshd; run: ./test"]
fn the_commands_of_the_guide_run_with_the_rights_it_names() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/myrocks/guide.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("`SUPER` to set `rocksdb_create_checkpoint`, `RELOAD` for the lock, `SELECT` to see")
    );
    let server = Server::new();
    server.bank();
    server.sql("CREATE USER backup@localhost IDENTIFIED BY 'of the guide'");
    server.sql("GRANT SUPER, RELOAD, SELECT ON *.* TO backup@localhost");
    let sshd = Sshd::start().unwrap();
    let config = config(&sshd);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for name in ["backups", "backups/today", "bin"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    for (name, text) in [("backup.pw", "of the guide\n"), ("backup.key", "secret\n")] {
        std::fs::write(at(name), text).unwrap();
        run(Command::new("chmod").args(["600", &at(name)]));
    }
    let account =
        format!("--socket {} --user backup --password-file {}", server.socket.display(), at("backup.pw"));
    let snapshots = format!("--checkpoint-dir {}", server.snapshots().display());
    let names = [
        ("--user backup --password-file /etc/backup.pw", String::new()),
        ("--checkpoint-dir /var/lib/snap", format!("{snapshots} {account}")),
        (
            "--compress zstd:3",
            format!("--compress zstd:3 {snapshots} {account} --ssh-config {}", config.display()),
        ),
        ("/etc/backup.key", at("backup.key")),
        ("ssh store ", format!("ssh -F {} store ", config.display())),
        ("/var/lib/mysql <", format!("{} <", at("second"))),
        ("/var/lib/mysql", at("first")),
        ("/backups/", format!("{}/", at("backups"))),
        ("< today.tar", format!("< {}", at("today.tar"))),
    ];
    // What the guide has from elsewhere: a backup in a file, one of them compressed.
    let program = Path::new(env!("CARGO_BIN_EXE_myrocks-hotbackup"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let bash = |line: &str| {
        run(Command::new("bash").args(["-euo", "pipefail", "-c", line]).env("PATH", &path).current_dir(&dir));
    };
    bash(&format!(
        "myrocks-hotbackup {snapshots} {account} > today.tar; zstd -q today.tar -o backups/today.tar.zst"
    ));
    let commands = markdown::commands(&page);
    assert!(commands.len() > 6, "{commands:?}");
    for command in commands {
        bash(&names.iter().fold(command, |command, (name, real)| command.replace(name, real)));
    }
    assert!(
        dir.path().join("backups/today/CURRENT").exists()
            || dir.path().join("backups/today/.rocksdb").exists()
    );
    server.assert_no_checkpoint();
    let restored = dir.path().join("second");
    start_restored(dir, restored).assert_bank();
}
