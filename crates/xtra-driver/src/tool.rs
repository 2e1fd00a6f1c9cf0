//! Which tool a program is, and what its version can do.

use std::fmt;
use std::time::Duration;

use remote_exec::Host;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::version::Version;

/// The two families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Percona XtraBackup, for MySQL and Percona Server.
    XtraBackup,
    /// mariabackup, later called mariadb-backup, for MariaDB.
    MariaBackup,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XtraBackup => "xtrabackup",
            Self::MariaBackup => "mariabackup",
        })
    }
}

/// The oldest version of each family that the table of flags covers.
const OLDEST_XTRABACKUP: Version = Version::new(2, 4, 0);
const OLDEST_MARIABACKUP: Version = Version::new(10, 5, 0);

/// How long a program may take to say its version.
const ANSWER: Duration = Duration::from_secs(60);

/// A backup tool on a host.
#[derive(Debug, Clone)]
pub struct Tool {
    pub(crate) host: Host,
    program: String,
    kind: Kind,
    version: Version,
}

/// What differs between the versions when a backup is prepared. The one table of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Keeps open transactions so that an incremental backup can follow. mariabackup has none and always keeps them
    /// (10.11 ends with "unknown option").
    pub(crate) redo_only: Option<&'static str>,
    /// Worker threads for decompressing.
    pub(crate) parallel: &'static str,
    /// Memory for applying the redo log, in bytes.
    pub(crate) use_memory: &'static str,
    /// The incremental backup to apply.
    pub(crate) incremental_dir: &'static str,
}

const XTRABACKUP: Flags = Flags {
    redo_only: Some("--apply-log-only"),
    parallel: "--parallel",
    use_memory: "--use-memory",
    incremental_dir: "--incremental-dir",
};
const MARIABACKUP: Flags = Flags { redo_only: None, ..XTRABACKUP };

impl Tool {
    /// Asks `program` on `host` what it is.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if it cannot be run, [`Error::NotATool`] if it is something else, [`Error::TooOld`].
    pub async fn detect(host: &Host, program: impl Into<String>) -> Result<Self, Error> {
        let program = program.into();
        let command = host.command(&program).arg("--version").timeout(ANSWER).output_limit(1 << 20);
        let output = command.output().await.map_err(Error::host(format!("{program} --version")))?;
        let text = [output.stdout, b"\n".to_vec(), output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let Some((kind, version)) = read_version(&text) else {
            let said = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
            return Err(Error::NotATool { program, said: said.chars().take(120).collect() });
        };
        let oldest = match kind {
            Kind::XtraBackup => OLDEST_XTRABACKUP,
            Kind::MariaBackup => OLDEST_MARIABACKUP,
        };
        if version < oldest {
            return Err(Error::TooOld { program, version });
        }
        Ok(Self { host: host.clone(), program, kind, version })
    }

    /// The program as it is run.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its family.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its version: of xtrabackup its own, of mariabackup that of the server it belongs to.
    pub fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn flags(&self) -> Flags {
        match self.kind {
            Kind::XtraBackup => XTRABACKUP,
            Kind::MariaBackup => MARIABACKUP,
        }
    }

    /// Whether this tool can prepare a backup of a server with this version, as the server itself says it
    /// (`10.11.19-MariaDB-0+deb12u1-log`, `8.0.26-16`).
    ///
    /// The rules are the vendors': mariabackup of the server's own series; xtrabackup 2.4 for MySQL up to 5.7; from
    /// 8.0 on the series of the server, and for the innovation releases (8.1 to 8.3, 9.x) a tool at least as new. A
    /// version that cannot be read is let pass: the tool checks the backup's format itself.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`].
    pub fn can_prepare(&self, server: &str) -> Result<(), Error> {
        let refuse = |rule: String| {
            Err(Error::Incompatible {
                kind: self.kind,
                version: self.version,
                server: server.to_owned(),
                rule,
            })
        };
        let mariadb = server.to_ascii_lowercase().contains("mariadb");
        match (self.kind, mariadb) {
            (Kind::XtraBackup, true) => return refuse("MariaDB needs mariabackup".to_owned()),
            (Kind::MariaBackup, false) => return refuse("MySQL needs xtrabackup".to_owned()),
            _ => {}
        }
        let Some(of) = Version::parse(server) else { return Ok(()) };
        let (tool, series) = (self.version, (of.major, of.minor));
        let same = (tool.major, tool.minor) == series;
        match (self.kind, series) {
            (Kind::MariaBackup, _) if !same => {
                refuse(format!("it needs mariabackup {}.{}", of.major, of.minor))
            }
            (Kind::XtraBackup, (5, _)) if (tool.major, tool.minor) != (2, 4) => {
                refuse("it needs xtrabackup 2.4".to_owned())
            }
            (Kind::XtraBackup, (8, 0 | 4)) if !same => {
                refuse(format!("it needs xtrabackup {}.{}", of.major, of.minor))
            }
            (Kind::XtraBackup, (8.., _)) if tool.major != of.major || tool.minor < of.minor => {
                refuse(format!("it needs xtrabackup {}.{} or later of {}.x", of.major, of.minor, of.major))
            }
            _ => Ok(()),
        }
    }
}

/// Family and version in what a tool prints for `--version`.
///
/// Known shapes, on stdout or stderr, with or without other lines around them:
/// `mariabackup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)` (also `mariadb-backup`, and with a
/// path before it), `xtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 6beb4b49)`.
fn read_version(text: &str) -> Option<(Kind, Version)> {
    text.lines().find_map(|line| {
        if let Some((_, rest)) = line.split_once(" based on MariaDB server ") {
            return Some((Kind::MariaBackup, Version::parse(rest)?));
        }
        let (name, rest) = line.split_once(" version ")?;
        let xtrabackup = name.ends_with("xtrabackup") && rest.contains(" based on MySQL server ");
        xtrabackup.then(|| Some((Kind::XtraBackup, Version::parse(rest)?))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(kind: Kind, version: &str) -> Tool {
        let version = Version::parse(version).unwrap();
        Tool { host: Host::local(), program: "x".to_owned(), kind, version }
    }

    #[test]
    fn every_known_shape_of_version_output_is_told_apart() {
        use Kind::{MariaBackup, XtraBackup};
        for (text, kind, version) in [
            (
                "mariabackup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)\n",
                MariaBackup,
                (10, 11, 19),
            ),
            (
                "/usr/bin/mariadb-backup based on MariaDB server 11.4.2-MariaDB Linux (x86_64)\n",
                MariaBackup,
                (11, 4, 2),
            ),
            (
                "mariabackup based on MariaDB server 10.6.12-7-MariaDB-enterprise Linux (x86_64)\n",
                MariaBackup,
                (10, 6, 12),
            ),
            (
                "xtrabackup: recognized server arguments: --datadir=/var/lib/mysql \n\
                 xtrabackup version 2.4.29 based on MySQL server 5.7.44 Linux (x86_64) (revision id: 2e6c0951)\n",
                XtraBackup,
                (2, 4, 29),
            ),
            (
                "2024-01-02T03:04:05.678901-00:00 0 [Note] [MY-011825] [Xtrabackup] recognized server arguments: \
                 --datadir=/var/lib/mysql\n\
                 xtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 6beb4b49)\n",
                XtraBackup,
                (8, 0, 35),
            ),
            (
                "./xtrabackup version 9.1.0-1 based on MySQL server 9.1.0 Linux (aarch64) (revision id: 0)\n",
                XtraBackup,
                (9, 1, 0),
            ),
        ] {
            let (major, minor, patch) = version;
            assert_eq!(read_version(text), Some((kind, Version::new(major, minor, patch))), "{text}");
        }
        for other in [
            "",
            "mysqld  Ver 8.0.26 for Linux on x86_64",
            "xbstream version 1 based on nothing",
            "mariadb from 11.8.3",
        ] {
            assert_eq!(read_version(other), None, "{other}");
        }
    }

    #[test]
    fn a_tool_prepares_backups_of_its_own_series_only() {
        use Kind::{MariaBackup, XtraBackup};
        for (kind, version, server) in [
            (MariaBackup, "10.11.19", "10.11.2-MariaDB-log"),
            (MariaBackup, "10.11.19", "5.5.5-10.11.19-MariaDB"),
            (XtraBackup, "2.4.29", "5.7.44-48-log"),
            (XtraBackup, "2.4.29", "5.6.51"),
            (XtraBackup, "8.0.35", "8.0.26-16"),
            (XtraBackup, "8.0.26", "8.0.42"),
            (XtraBackup, "8.4.0", "8.4.5"),
            (XtraBackup, "8.3.0", "8.2.0"),
            (XtraBackup, "9.7.1", "9.1.0"),
            (XtraBackup, "8.0.35", "unknown"),
        ] {
            tool(kind, version).can_prepare(server).unwrap();
        }
        for (kind, version, server, rule) in [
            (MariaBackup, "10.11.19", "10.6.1-MariaDB", "it needs mariabackup 10.6"),
            (MariaBackup, "10.11.19", "8.0.26", "MySQL needs xtrabackup"),
            (XtraBackup, "8.0.35", "10.11.19-MariaDB", "MariaDB needs mariabackup"),
            (XtraBackup, "8.0.35", "5.7.44", "it needs xtrabackup 2.4"),
            (XtraBackup, "2.4.29", "8.0.26", "it needs xtrabackup 8.0"),
            (XtraBackup, "8.4.0", "8.0.26", "it needs xtrabackup 8.0"),
            (XtraBackup, "9.7.1", "8.4.5", "it needs xtrabackup 8.4"),
            (XtraBackup, "9.0.0", "9.1.0", "it needs xtrabackup 9.1 or later of 9.x"),
        ] {
            match tool(kind, version).can_prepare(server) {
                Err(Error::Incompatible { rule: found, .. }) => {
                    assert_eq!(found, rule, "{kind} {version}, {server}")
                }
                other => panic!("{kind} {version}, {server}: {other:?}"),
            }
        }
    }
}
