//! The book is true: its tables are those of the program, its configurations are read, its commands run.

#[path = "common/markdown.rs"]
mod markdown;
#[path = "../../common/program.rs"]
mod program;
#[path = "../../../crates/remote-exec/tests/common/sshd.rs"]
#[allow(dead_code, unreachable_pub)]
mod sshd;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::Store;
use lab::recovery::dbrecover;
use markdown::{blocks, commands};
use program::write_program;
use recovery::Config;
use recovery::config::KEYS;
use sshd::Sshd;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| name.to_owned())
}

/// A directory where commands run, and what stands there for the names in the book.
struct Sandbox {
    dir: tempfile::TempDir,
    names: Vec<(String, String)>,
    password: Option<String>,
}

impl Sandbox {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("book").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { dir, names: Vec::new(), password: None })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `name` in the book is `real` here.
    fn name(mut self, name: &str, real: impl AsRef<std::ffi::OsStr>) -> Self {
        self.names.push((name.to_owned(), real.as_ref().to_string_lossy().into_owned()));
        self
    }

    fn real(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, real)| text.replace(name, real))
    }

    /// Runs every command of the page but those that begin as in `left_out`, which each say why.
    fn run(&self, page: &str, left_out: &[(&str, &str)]) -> Result<()> {
        let mut unused: BTreeSet<&str> = left_out.iter().map(|(command, _)| *command).collect();
        let mut ran = 0;
        for command in commands(page) {
            if let Some((begin, _)) = left_out.iter().find(|(begin, _)| command.starts_with(begin)) {
                unused.remove(begin);
                continue;
            }
            let real = self.real(&command);
            let programs = dbrecover()?.parent().context("a program has a directory")?.to_owned();
            let path = std::env::join_paths([self.at("bin"), programs])?;
            let path = format!("{}:{}", path.to_string_lossy(), std::env::var("PATH")?);
            let mut bash = Command::new("bash");
            bash.args(["-euo", "pipefail", "-c", &real]).current_dir(self.dir.path()).env("PATH", path);
            bash.env_remove("DBRECOVER_PASSWORD")
                .envs(self.password.iter().map(|p| ("DBRECOVER_PASSWORD", p)));
            let output = bash.output()?;
            ensure!(
                output.status.success(),
                "{command}\nas\n{real}\nended with {}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            ran += 1;
        }
        ensure!(ran > 0, "no command was found");
        ensure!(unused.is_empty(), "not in the page any more: {unused:?}");
        Ok(())
    }
}

#[test]
fn every_page_with_commands_is_run_here_or_has_a_test_of_its_own() -> Result<()> {
    let run_here = ["README.md", "docs/guide.md", "docs/unpack.md", "docs/xbstream.md", "docs/aescrypt.md"];
    // Agents serve until they are ended, and the lab's own program is what `./try` works with.
    let run_elsewhere = [
        ("docs/binlogs.md", "crates/cli/tests/binlog.rs"),
        ("docs/hosts.md", "crates/cli/tests/agent.rs"),
        ("docs/lab.md", "./try"),
        ("docs/myrocks/guide.md", "crates/cli/tests/myrocks_hotbackup/guide.rs"),
    ];
    for (_, place) in run_elsewhere {
        ensure!(root().join(place).exists(), "{place}");
    }
    let known: BTreeSet<&str> = run_here.into_iter().chain(run_elsewhere.map(|(page, _)| page)).collect();
    let mut found = BTreeSet::new();
    for folder in [".", "docs", "docs/myrocks"] {
        for entry in fs::read_dir(root().join(folder))? {
            let name = Path::new(folder).join(entry?.file_name());
            let name = name.strip_prefix("./").unwrap_or(&name).to_string_lossy().into_owned();
            let developers_own = ["CONTRIBUTING.md"].contains(&name.as_str());
            if name.ends_with(".md") && !developers_own && !commands(&page(&name)?).is_empty() {
                found.insert(name);
            }
        }
    }
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
    Ok(())
}

#[test]
fn the_configuration_page_is_the_table_of_keys() -> Result<()> {
    let page = page("docs/configuration.md")?;
    let mut documented: BTreeMap<(String, String), Option<String>> = BTreeMap::new();
    let mut section = "";
    let code =
        |cell: &str| cell.trim().strip_prefix('`').and_then(|c| c.strip_suffix('`')).map(str::to_owned);
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## `[").and_then(|l| l.strip_suffix("]`")) {
            section = name;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        if let (true, [key, _, default, _]) = (line.starts_with("| `"), &cells[..]) {
            let key = code(key).with_context(|| line.to_owned())?;
            documented.insert((section.to_owned(), key), code(default));
        }
    }
    // The login of the second machine is that of the first, and the page says so instead of repeating it.
    ensure!(
        page.contains(
            "`ip`, `port` (default `22`), `user`, `password`, `identity-file` as in `[backup-store]`"
        )
    );
    for key in ["ip", "port", "user", "password", "identity-file"] {
        let same = documented[&("backup-store".to_owned(), key.to_owned())].clone();
        documented.insert(("recovery-job-server".to_owned(), key.to_owned()), same);
    }
    let keys: BTreeMap<(String, String), Option<String>> = KEYS
        .iter()
        .map(|key| ((key.section.to_owned(), key.name.to_owned()), key.default.map(str::to_owned)))
        .collect();
    assert_eq!(documented, keys);
    Ok(())
}

#[test]
fn every_configuration_in_the_book_is_read_without_a_warning() -> Result<()> {
    let mut texts: Vec<(String, String)> = Vec::new();
    for entry in fs::read_dir(root().join("docs/examples"))? {
        let path = entry?.path();
        texts.push((path.display().to_string(), fs::read_to_string(&path)?));
    }
    ensure!(texts.len() >= 4, "{texts:?}");
    // A block of a page may be a part of a file: what every file needs is added.
    let needed = [
        ("backup-store", "dir = /backup\nip = 192.0.2.1\n"),
        ("recovery-job-server", "work-dir = /srv\nip = 192.0.2.2\n"),
        ("misc", "connect-method = ssh\n"),
    ];
    for name in ["docs/guide.md", "docs/hosts.md"] {
        for (_, block) in blocks(&page(name)?, &["ini"]) {
            let mut text = format!("\n{block}");
            for (section, keys) in needed {
                let header = format!("\n[{section}]\n");
                let at = text.find(&header).unwrap_or(text.len());
                if at == text.len() {
                    text.push_str(&header);
                }
                let body = at + header.len();
                let end = text[body..].find("\n[").map_or(text.len(), |end| body + end);
                let has = |key: &&str| text[body..end].lines().any(|line| line.starts_with(key));
                let missing: Vec<&str> =
                    keys.lines().filter(|k| !has(&&k[..=k.find(' ').unwrap_or(0)])).collect();
                text.insert_str(body, &missing.iter().map(|line| format!("{line}\n")).collect::<String>());
            }
            texts.push((name.to_owned(), text));
        }
    }
    ensure!(texts.len() > 5);
    for (name, text) in texts {
        let config = Config::parse(&text, &name).with_context(|| format!("{name}:\n{text}"))?;
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
    }
    Ok(())
}

/// The configuration of the guide, made real for a store.
fn sandbox_of_the_guide(store: &Store) -> Result<(Sandbox, String)> {
    let guide = page("docs/guide.md")?;
    let sandbox = Sandbox::new()?;
    let work = sandbox.at("work");
    let sandbox = sandbox.name("/backup", &store.dir).name("/srv/recovery", &work);
    let (_, block) = *blocks(&guide, &["ini"]).first().context("the guide has a configuration")?;
    // The last section is [misc].
    let ds_info = sandbox.at("ds_info");
    fs::create_dir(&ds_info)?;
    let config = format!("{}ds-info-dir = {}\n", sandbox.real(block), ds_info.display());
    fs::write(sandbox.at("recovery.conf"), &config)?;
    Ok((sandbox, guide))
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_commands_of_the_guide_run() -> Result<()> {
    let store = Store::masters()?;
    let (sandbox, guide) = sandbox_of_the_guide(&store)?;
    let between = store.truth.between(1, 2, true);
    let [moment, .., later] = between[..] else { anyhow::bail!("too few busy moments") };
    let time = moment.time.to_string();
    // The last transaction before the moment: nothing that follows can need it.
    let gtid = &moment.groups["auth"].gtid;
    let (file, position) = &store.truth.points[1].binlog["normal_0"];
    sandbox
        .name("2026-02-03 04:05:06", &time)
        .name("2026_02_03_04_05_06", time.replace([' ', ':', '-'], "_"))
        .name("2026-02-03 05:00:00", &time)
        .name("2026-02-03 04:10:00", later.time.to_string())
        .name("UTC20260203020000.123-inc", &store.truth.points[1].backup)
        .name("13e002d8-e514-11f1-9c7b-02fc00000001:62", gtid)
        .name("0-1-4711", gtid)
        .name("normal_0/binlog.000003:1289", format!("normal_0/{file}:{position}"))
        .run(&guide, &[])
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_commands_of_the_readme_run() -> Result<()> {
    let store = Store::masters()?;
    let (sandbox, _) = sandbox_of_the_guide(&store)?;
    let config = fs::read_to_string(sandbox.at("recovery.conf"))?;
    let last = store.truth.points.last().context("no backup")?;
    fs::write(sandbox.at("recovery.conf"), format!("[recover-to]\ndir = {}\n{config}", last.backup))?;
    sandbox.run(&page("README.md")?, &[("./try", "a command of its own"), ("./test", "this is it")])
}

#[test]
#[ignore = "needs mariadbd; run: ./test"]
fn the_commands_of_the_page_on_unpacking_run() -> Result<()> {
    let store = Store::masters()?;
    let folder = store.truth.folders.values().next().context("no server")?;
    let sandbox = Sandbox::new()?;
    let work = sandbox.at("recovery");
    sandbox
        .name("UTC20261120010203.004-full", &store.truth.points[0].backup)
        .name("ds_a-auth_server-192.168.122.110-13004", folder)
        .name(" /backup", format!(" {}", store.dir.display()))
        .name("/recovery", &work)
        .run(
            &page("docs/unpack.md")?,
            &[("socat ", "the same command behind a program that waits for a sender")],
        )
}

/// `ssh store` reaches an sshd on loopback.
fn ssh_to_store(sandbox: &Sandbox, sshd: &Sshd) -> Result<()> {
    let config = sandbox.at("ssh_config");
    fs::write(
        &config,
        format!(
            "Host store\nHostName 127.0.0.1\nPort {}\nIdentityFile {}\nUserKnownHostsFile {}\nBatchMode yes\n",
            sshd.port(),
            sshd.identity().display(),
            sshd.known_hosts().display()
        ),
    )?;
    fs::create_dir(sandbox.at("bin"))?;
    let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display());
    write_program(&sandbox.at("bin/ssh"), &script);
    Ok(())
}

#[test]
#[ignore = "needs sshd and mariadb-backup; run: ./test"]
fn the_commands_of_the_page_on_xbstream_run() -> Result<()> {
    let (store, sshd, sandbox) = (Store::masters()?, Sshd::start()?, Sandbox::new()?);
    ssh_to_store(&sandbox, &sshd)?;
    let folder = store.truth.folders.values().next().context("no server")?;
    let backup = store.dir.join(&store.truth.points[0].backup).join(folder).join("backup.xbsteam");
    fs::copy(backup, sandbox.at("backup.xbs"))?;
    fs::write(sandbox.at("ibdata1"), [7; 100_000])?;
    fs::create_dir(sandbox.at("db"))?;
    fs::write(sandbox.at("db/t.ibd"), [8; 100])?;
    let (first, second) = (sandbox.at("first"), sandbox.at("second"));
    let whole = sandbox.at("backup.xbs");
    // Both commands extract the same archive, and the second would refuse the first one's files.
    sandbox
        .name("/srv/restore --decompress", format!("{} --decompress", first.display()))
        .name("/srv/restore -p 4", format!("{} -p 4", second.display()))
        .name("cat backup.xbs", format!("cat {}", whole.display()))
        .run(
            &page("docs/xbstream.md")?,
            &[("dbrecover xbstream -x --decompress --decrypt", "crates/cli/tests/xbstream.rs")],
        )
}

#[test]
#[ignore = "needs sshd; run: ./test"]
fn the_commands_of_the_page_on_aes_crypt_run() -> Result<()> {
    let (sshd, mut sandbox) = (Sshd::start()?, Sandbox::new()?);
    ssh_to_store(&sandbox, &sshd)?;
    sandbox.password = Some("the book's own".to_owned());
    fs::write(sandbox.at("pw"), "the book's own\n")?;
    fs::set_permissions(sandbox.at("pw"), fs::Permissions::from_mode(0o600))?;
    fs::write(sandbox.at("content"), "of the archive")?;
    for (program, args) in [
        ("tar", &["-cf", "backup.tar", "content"][..]),
        (&dbrecover()?.to_string_lossy(), &["aescrypt", "-e", "--password-file", "pw", "backup.tar"]),
    ] {
        let mut command = Command::new(program);
        lab::tools::run(command.args(args).current_dir(sandbox.dir.path()))?;
    }
    fs::remove_file(sandbox.at("backup.tar"))?;
    fs::remove_file(sandbox.at("content"))?;
    let (pw, encrypted) = (sandbox.at("pw"), sandbox.at("backup.tar.encrypted"));
    let sandbox = sandbox.name("/root/pw", &pw).name("NAME.tar.encrypted", &encrypted);
    sandbox.run(&page("docs/aescrypt.md")?, &[])?;
    assert_eq!(fs::read_to_string(sandbox.at("content"))?, "of the archive");
    Ok(())
}
