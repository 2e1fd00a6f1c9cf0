//! The programs of the backup's own base directory.

use std::path::{Path, PathBuf};

use binlog_replay::ServerVersion;
use remote_exec::Host;

use crate::Error;

/// The programs of the backup's own base directory.
#[derive(Debug, Clone)]
pub(crate) struct BaseDir {
    /// The directory that holds `bin/` and `share/`.
    pub(crate) path: PathBuf,
    /// The server.
    pub(crate) server: PathBuf,
    /// The client.
    pub(crate) client: PathBuf,
    /// `mysqlbinlog` or `mariadb-binlog`.
    pub(crate) binlog: PathBuf,
    /// Flavour and version, as the server itself says.
    pub(crate) version: ServerVersion,
}

impl BaseDir {
    /// Looks into `parent`, which holds one top-level folder, for the programs called `client_name`.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] if a program is missing or cannot run on this host.
    pub(crate) async fn detect(host: &Host, parent: &Path, client_name: &str) -> Result<Self, Error> {
        let tool = |tool: &str, reason: String| Error::Tool {
            host: host.name().to_owned(),
            tool: tool.to_owned(),
            reason,
        };
        let folders = host.files().list(parent).await?;
        let [folder] = folders.as_slice() else {
            return Err(tool(
                "base directory",
                format!("{} holds {} folders instead of one", parent.display(), folders.len()),
            ));
        };
        let path = parent.join(&folder.name);
        let bin = path.join("bin");
        let alternative = if client_name == "mysql" { "mariadb" } else { "mysql" };
        let mut found = Vec::new();
        let names: [Vec<String>; 3] = [
            vec![format!("{client_name}d"), format!("{alternative}d")],
            vec![client_name.to_owned(), alternative.to_owned()],
            vec![
                format!("{client_name}binlog"),
                format!("{client_name}-binlog"),
                format!("{alternative}-binlog"),
                format!("{alternative}binlog"),
            ],
        ];
        for candidates in names {
            let mut program = None;
            for name in &candidates {
                if host.files().exists(bin.join(name)).await? {
                    program = Some(bin.join(name));
                    break;
                }
            }
            found.push(program.ok_or_else(|| {
                tool(&candidates[0], format!("is not in {} (client-name = {client_name})", bin.display()))
            })?);
        }
        let [server, client, binlog] = <[PathBuf; 3]>::try_from(found).unwrap_or_default();
        let said = host.command(&server).args(["--no-defaults", "--version"]).output().await?;
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        if !said.status.success() {
            let stderr = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(tool(
                &server.display().to_string(),
                format!("cannot run on this machine ({}): {stderr}", said.status),
            ));
        }
        let version =
            text.parse().map_err(|_| tool(&server.display().to_string(), format!("says {text:?}")))?;
        Ok(Self { path, server, client, binlog, version })
    }
}
