//! Folders of servers in a backup: `DATASOURCE-SERVER-IP-PORT`.

use serde::{Deserialize, Serialize};

use crate::binlogs::BinlogName;
use crate::consistence::Role;

/// Name of the folder of a server with this identity.
pub(crate) fn join(group: &str, server: &str, ip: &str, port: u16) -> String {
    format!("{group}-{server}-{ip}-{port}")
}

/// The four parts of a server folder's name.
///
/// It is split at the first and second `-`, and the port at the last: datasources and servers may hold `_` but no
/// `-`, host names may hold both, IPv6 addresses their colons (with or without brackets).
///
/// ```
/// use backup_catalog::FolderName;
///
/// let name = FolderName::parse("normal_0-normal_0_1-fe80::1-16315").unwrap();
/// assert_eq!((name.group, name.server, name.ip, name.port), ("normal_0", "normal_0_1", "fe80::1", 16315));
/// assert_eq!(FolderName::parse("datanode_base"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderName<'a> {
    /// The replication group ("datasource").
    pub group: &'a str,
    /// The server's name.
    pub server: &'a str,
    /// Its address, an IPv6 address without brackets.
    pub ip: &'a str,
    /// Its port.
    pub port: u16,
}

impl<'a> FolderName<'a> {
    /// Takes a folder's name apart; `None` if it is not a server's.
    pub fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(3, '-');
        let (group, server, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (ip, port) = rest.rsplit_once('-')?;
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if group.is_empty() || server.is_empty() || ip.is_empty() || !digits || name.contains('/') {
            return None;
        }
        Some(Self { group, server, ip, port: port.parse().ok()? })
    }
}

/// A server's folder as far as it can be seen: not in an encrypted backup, where it lies in the tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFolder {
    /// Name of the folder.
    pub folder: String,
    /// The replication group.
    pub group: String,
    /// The server's name.
    pub server: String,
    /// Size of its [`STREAM`](crate::layout::STREAM) in bytes; `None` when the folder holds no physical backup (a master
    /// that only gives its binlogs).
    pub stream_bytes: Option<u64>,
    /// Folder of its master, from `master_dir`: its presence marks a replica.
    pub master_dir: Option<String>,
    /// `IP:PORT` of itself and its replicas, from a master's `master_slave`.
    pub master_slave: Vec<String>,
    /// Content of `executed_gtids` without surrounding blanks: the GTID set that the physical backup holds.
    pub executed_gtids: Option<String>,
    /// Binlog files in the folder with their sizes in bytes, in order of their numbers.
    pub binlogs: Vec<(String, u64)>,
    /// Bytes of all its files.
    pub bytes: u64,
}

impl ServerFolder {
    /// Master or replica, by `master_dir`.
    pub fn role(&self) -> Role {
        if self.master_dir.is_some() { Role::Replica } else { Role::Master }
    }

    pub(crate) fn sort_binlogs(&mut self) {
        self.binlogs.sort_by(|(a, _), (b, _)| BinlogName::parse(a).cmp(&BinlogName::parse(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_first_two_dashes_and_the_last() {
        let parts = |name| FolderName::parse(name).map(|n| (n.group, n.server, n.ip, n.port));
        assert_eq!(
            parts("auth-auth_server-192.168.122.110-13004"),
            Some(("auth", "auth_server", "192.168.122.110", 13004))
        );
        assert_eq!(parts("a-b-db-7.example-1"), Some(("a", "b", "db-7.example", 1)));
        assert_eq!(parts("a-b-[fe80::1]-1"), Some(("a", "b", "fe80::1", 1)));
        for bad in [
            "a-b-c",
            "a-b-c-",
            "a-b-c-x",
            "a-b-c-70000",
            "-b-c-1",
            "a--c-1",
            "a-b--1",
            "calcnode_base",
            "a-b-c-+1",
        ] {
            assert_eq!(parts(bad), None, "{bad:?}");
        }
    }
}
