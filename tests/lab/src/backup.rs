//! One backup in the layout of the backup program, by the stock tools.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;

use crate::basedir;
use crate::server::{Flavor, Server};
use crate::store::{Shape, StoreOptions};
use crate::tools::{aescrypt_python, run};
use crate::workload::Account;

/// A server of a group, and where its backups are.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// `DATASOURCE-SERVER-IP-PORT`.
    pub(crate) folder: String,
    pub(crate) server: Server,
    /// `xb-to-lsn` of its latest backup.
    pub(crate) lsn: u64,
    /// `xb-to-binlog-name` and `xb-to-binlog-pos` of its latest backup.
    pub(crate) replay_from: (String, u64),
    /// Last binlog that its latest backup copied.
    last_binlog: Option<String>,
}

impl Member {
    pub(crate) fn new(datasource: &str, name: &str, server: Server) -> Self {
        Self {
            name: name.to_owned(),
            folder: format!("{datasource}-{name}-127.0.0.1-{}", server.port),
            server,
            lsn: 0,
            replay_from: (String::new(), 4),
            last_binlog: None,
        }
    }

    /// Takes the physical backup into `folder`. A replica names the folder of its master.
    pub(crate) fn take(
        &mut self,
        folder: &Path,
        full: bool,
        compress: bool,
        master: Option<&str>,
    ) -> Result<()> {
        let before = match master {
            Some(_) => Some(self.executing()?),
            None => None,
        };
        let log = self.physical(folder, full, compress)?;
        self.lsn = quoted_after(&log, "The latest check point (for incremental): ")
            .context("the backup's log names no checkpoint")?
            .parse()?;
        let file =
            quoted_after(&log, "MySQL binlog position: filename ").context("the log names no binlog")?;
        let rest = &log[log.find("MySQL binlog position: filename ").unwrap_or(0)..];
        let position = quoted_after(rest, "position ").context("the log names no position")?.parse()?;
        let gtids = quoted_after(rest, "GTID of the last change ").unwrap_or_default();
        self.replay_from = before.map_or((file, position), |file| (file, 4));
        fs::write(folder.join("executed_gtids"), format!("{}\n", gtids.replace('\n', "")))?;
        fs::copy(&self.server.conf, folder.join("my.conf"))?;
        if let Some(master) = master {
            fs::write(folder.join("master_dir"), format!("{master}\n"))?;
        }
        Ok(())
    }

    /// The master's binlog that a replica is executing.
    fn executing(&self) -> Result<String> {
        let mut sql = self.server.sql()?;
        match self.server.flavor {
            // Column 10 of `SHOW SLAVE STATUS`: Relay_Master_Log_File.
            Flavor::MariaDb => {
                let rows = sql.rows("SHOW SLAVE STATUS")?;
                rows.into_iter().next().and_then(|row| row.into_iter().nth(9)).flatten()
            }
            Flavor::MySql => {
                let rows = sql.rows("SHOW REPLICA STATUS")?;
                rows.into_iter().next().and_then(|row| row.into_iter().nth(9)).flatten()
            }
        }
        .context("not a replica")
    }

    /// Runs the backup program; its stdout is the stream, its stderr is returned.
    fn physical(&self, folder: &Path, full: bool, compress: bool) -> Result<String> {
        let stream = fs::File::create(folder.join("backup.xbsteam"))?;
        let mut command = match self.server.flavor {
            Flavor::MariaDb => Command::new("mariabackup"),
            Flavor::MySql => Command::new(crate::standin()?),
        };
        let work = tempfile::Builder::new().prefix("dbb").tempdir()?;
        command
            .arg(format!("--defaults-file={}", self.server.conf.display()))
            .args(["--backup", "--user=root"])
            .arg(format!("--socket={}", self.server.socket.display()))
            .arg(format!("--datadir={}", self.server.datadir.display()))
            .arg(format!("--target-dir={}", work.path().display()))
            .arg(match self.server.flavor {
                Flavor::MariaDb => "--stream=mbstream",
                Flavor::MySql => "--stream=xbstream",
            });
        if compress {
            command.arg("--compress");
        }
        if !full {
            command.arg(format!("--incremental-lsn={}", self.lsn));
        }
        let output = command
            .stdin(Stdio::null())
            .stdout(stream)
            .stderr(Stdio::piped())
            .output()
            .context("the backup program cannot be run; run ./test")?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success() && log.trim_end().ends_with("completed OK!"),
            "backup of {} ended with {}:\n{}",
            self.folder,
            output.status,
            log.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"),
        );
        Ok(log)
    }

    /// Copies binlogs up to the file of the consistent point: a full backup's from `first`, an incremental's
    /// from the last one of the backup before it.
    pub(crate) fn copy_binlogs(
        &mut self,
        folder: &Path,
        first: &str,
        last: &str,
        full: bool,
    ) -> Result<Vec<String>> {
        let numbered = |name: &str| {
            let (base, number) = name.rsplit_once('.')?;
            Some((base.to_owned(), number.parse::<u64>().ok()?))
        };
        let (mut from, to) = (numbered(first).context("no binlog")?, numbered(last).context("no binlog")?);
        if let Some(before) = self.last_binlog.as_deref().and_then(numbered).filter(|_| !full) {
            from = from.min(before);
        }
        let mut found: Vec<_> = fs::read_dir(&self.server.datadir)?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some((numbered(&name)?, name)))
            .filter(|(parts, _)| parts.0 == to.0 && (&from..=&to).contains(&parts))
            .collect();
        found.sort();
        ensure!(found.first().is_some_and(|(parts, _)| *parts == from), "binlog {from:?} is gone");
        let names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        for name in &names {
            fs::copy(self.server.datadir.join(name), folder.join(name))?;
        }
        self.last_binlog = names.last().cloned();
        Ok(names)
    }
}

/// The text in quotes after `label`.
fn quoted_after(log: &str, label: &str) -> Option<String> {
    let rest = log[log.find(label)? + label.len()..].strip_prefix('\'')?;
    Some(rest[..rest.find('\'')?].to_owned())
}

/// What a backup holds beside its servers' folders.
pub(crate) fn common_files(
    dir: &Path,
    options: &StoreOptions,
    full: bool,
    servers: &[&str],
    account: &Account,
) -> Result<()> {
    let master = u8::from(options.shape == Shape::Masters);
    fs::write(
        dir.join("backup.conf"),
        format!(
            "[cluster]\nip = 127.0.0.1\nport = 16310\n\n[backup]\nbackup-master = {master}\nconnect-method = ssh\n\
             # the store\n[backup-store]\ndir = /backup\n"
        ),
    )?;
    fs::create_dir_all(dir.join("datanode_base"))?;
    if full {
        basedir::put(options.flavor, &dir.join("datanode_base"))?;
    }
    let calcnode = dir.join("calcnode_base");
    fs::create_dir_all(&calcnode)?;
    let password = if options.encode_password {
        base64::engine::general_purpose::STANDARD.encode(&account.password)
    } else {
        account.password.clone()
    };
    let mut conf = format!(
        "# proxy\n[main]\nlog-level = 3\nencode-password = {}\n\n",
        u8::from(options.encode_password)
    );
    for (number, server) in servers.iter().enumerate() {
        conf.push_str(&format!(
            "[data-server {server}]\nhost = 127.0.0.1\nport = {}\nuser = {}\npassword = {password}\n\n",
            17000 + number,
            account.user
        ));
    }
    fs::write(calcnode.join("dbscale.conf"), conf)?;
    if full {
        run(Command::new("tar")
            .args(["--create", "--gzip", "--file"])
            .arg(calcnode.join("dbscale.tar.gz"))
            .arg("-C")
            .arg(&calcnode)
            .arg("dbscale.conf"))?;
    }
    Ok(())
}

/// Packs what an encrypted backup hides into one tar, encrypts it with pyAesCrypt and removes the originals.
pub(crate) fn encrypt(store: &Path, name: &str, password: &str) -> Result<()> {
    let dir = store.join(name);
    let clear = [
        "cluster_consistence_info",
        "consistent_point_datetime",
        "backuped_binlogs",
        "encrypted_sample",
        "ok",
    ];
    let mut members: Vec<String> = fs::read_dir(&dir)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| !clear.contains(&entry.as_str()))
        .collect();
    members.sort();
    let temp = tempfile::tempdir()?;
    let tar = temp.path().join("tar");
    run(Command::new("tar")
        .args(["--create", "--remove-files", "--file"])
        .arg(&tar)
        .arg("-C")
        .arg(&dir)
        .args(&members))?;
    let sample = temp.path().join("sample");
    fs::write(&sample, "abc123\n")?;
    for (from, to) in [
        (&tar, store.join("encrypted").join(format!("{name}.tar.encrypted"))),
        (&sample, dir.join("encrypted_sample")),
    ] {
        let script =
            "import sys, pyAesCrypt; pyAesCrypt.encryptFile(sys.argv[1], sys.argv[2], sys.stdin.read())";
        let mut child = Command::new(aescrypt_python()?)
            .args(["-c", script])
            .arg(from)
            .arg(&to)
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        child.stdin.take().context("its stdin")?.write_all(password.as_bytes())?;
        ensure!(child.wait()?.success(), "pyAesCrypt failed on {}", to.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_log_are_found_behind_their_labels() {
        let log = "[00] x mariabackup: The latest check point (for incremental): '47500'\nposition '9', GTID 'a,\nb'";
        assert_eq!(quoted_after(log, "(for incremental): ").as_deref(), Some("47500"));
        assert_eq!(quoted_after(log, "GTID ").as_deref(), Some("a,\nb"));
        assert_eq!(quoted_after(log, "nothing "), None);
        assert_eq!(quoted_after(log, "latest "), None);
    }
}
