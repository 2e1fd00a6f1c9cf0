//! `cluster_consistence_info`: where each server stood at the cluster-wide consistent point.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Problem};
use crate::folder::join;

/// Fields of one line, in the order of the file; what a later version adds behind them is passed over.
const FIELDS: usize = 8;

/// Position in `xb-to-binlog-pos` that only a replica's line has: replay starts at the head of the file.
const REPLICA_START: u64 = 4;

/// Master or replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the writes of its group.
    Master,
    /// Follows the master of its group.
    Replica,
}

/// A place in a server's binlogs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Name of the binlog file.
    pub file: String,
    /// Offset in bytes; 4 is the first event.
    pub offset: u64,
}

/// One line of `cluster_consistence_info`: one server that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistenceLine {
    /// Host address of the server as written, an IPv6 address without brackets.
    pub ip: String,
    /// Port of the server.
    pub port: u16,
    /// Name of the server.
    pub server: String,
    /// The consistent point, in the binlogs **of the group's master**, on a replica's line too.
    pub consistent: Position,
    /// The replication group ("datasource") it belongs to.
    pub group: String,
    /// LSN up to which the physical backup reaches; the next incremental starts there.
    pub to_lsn: u64,
    /// Where replay starts, in the binlogs of the group's master. For a master: the position of its own physical
    /// backup. For a replica: offset 4 of the file it was executing; what it had executed is left out by GTID.
    pub start: Position,
    /// Number of the line in its file, from 1.
    pub line: usize,
}

impl ConsistenceLine {
    /// Master or replica, told by where replay starts: a master's own position is never 4.
    pub fn role(&self) -> Role {
        if self.start.offset == REPLICA_START { Role::Replica } else { Role::Master }
    }

    /// Name of the server's folder in a backup.
    pub fn folder(&self) -> String {
        join(&self.group, &self.server, &self.ip, self.port)
    }

    /// Parses one line without its line end; `file` and `number` go into errors.
    fn parse(file: &str, number: usize, text: &str) -> Result<Self, Error> {
        let fields: Vec<&str> = text.split('\t').collect();
        let wrong = |problem| Error::line(file, number, problem);
        let field = |field, expected| wrong(Problem::Field { field, expected });
        if fields.len() < FIELDS {
            return Err(wrong(Problem::Fields { expected: FIELDS, found: fields.len() }));
        }
        let address = || field("address", "IP:PORT");
        let (ip, port) = fields[0].rsplit_once(':').ok_or_else(address)?;
        let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        let port = port.parse().map_err(|_| address())?;
        let position = |file: &str, offset: &str, what, expected| {
            let offset =
                number_of(offset).filter(|_| is_binlog_name(file)).ok_or_else(|| field(what, expected))?;
            Ok::<_, Error>(Position { file: file.to_owned(), offset })
        };
        let after = |at: usize, key: &'static str, expected| {
            fields[at].strip_prefix(key).ok_or_else(|| field(key.trim_end_matches('='), expected))
        };
        let named = "KEY=VALUE with this key";
        let consistent = position(fields[2], fields[3], "consistent point", "a binlog file and an offset")?;
        let group = after(4, "belong-to-datasource=", named)?;
        let to_lsn = after(5, "xb-to-lsn=", named)?;
        let start_file = after(6, "xb-to-binlog-name=", named)?;
        let start_offset = after(7, "xb-to-binlog-pos=", named)?;
        let to_lsn = number_of(to_lsn).ok_or_else(|| field("xb-to-lsn", "a number"))?;
        let start =
            position(start_file, start_offset, "xb-to-binlog-name and -pos", "a binlog file and an offset")?;
        for (what, text) in [("address", ip), ("server", fields[1]), ("datasource", group)] {
            if text.is_empty() || text.contains('/') {
                return Err(field(what, "a name"));
            }
        }
        Ok(Self {
            ip: ip.to_owned(),
            port,
            server: fields[1].to_owned(),
            consistent,
            group: group.to_owned(),
            to_lsn,
            start,
            line: number,
        })
    }
}

/// Parses the whole file; empty lines are passed over.
///
/// # Errors
///
/// [`Error::Line`] for the first line that is wrong.
pub fn parse_consistence(file: &str, content: &[u8]) -> Result<Vec<ConsistenceLine>, Error> {
    let mut lines: Vec<ConsistenceLine> = Vec::new();
    for (index, line) in content.split(|&b| b == b'\n').enumerate() {
        let number = index + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(line).map_err(|_| Error::line(file, number, Problem::Encoding))?;
        let parsed = ConsistenceLine::parse(file, number, text)?;
        if lines.iter().any(|line| line.folder() == parsed.folder()) {
            let expected = "a server that has no line yet";
            return Err(Error::line(file, number, Problem::Field { field: "address", expected }));
        }
        lines.push(parsed);
    }
    Ok(lines)
}

fn number_of(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name that stays inside its folder and ends in a number.
fn is_binlog_name(name: &str) -> bool {
    crate::binlogs::BinlogName::parse(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "192.168.122.110:13004\tauth_server\tmaster-bin.000001\t724\tbelong-to-datasource=auth\t\
                          xb-to-lsn=1359021\txb-to-binlog-name=master-bin.000001\txb-to-binlog-pos=724\n";
    const REPLICA: &str = "172.17.134.71:16315\tnormal_0_0\tgreatdb-bin.000041\t631\tbelong-to-datasource=normal_0\t\
                           xb-to-lsn=21694836\txb-to-binlog-name=greatdb-bin.000041\txb-to-binlog-pos=4\n";

    fn one(text: &str) -> ConsistenceLine {
        parse_consistence("f", text.as_bytes()).unwrap().remove(0)
    }

    fn problem(text: &str) -> (usize, Problem) {
        match parse_consistence("f", text.as_bytes()) {
            Err(Error::Line { line, problem, .. }) => (line, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_of_real_lines_is_read() {
        let lines = parse_consistence("f", format!("{MASTER}{REPLICA}").as_bytes()).unwrap();
        assert_eq!(lines[0].role(), Role::Master);
        assert_eq!(lines[0].folder(), "auth-auth_server-192.168.122.110-13004");
        assert_eq!(lines[1].role(), Role::Replica);
        assert_eq!(lines[1].folder(), "normal_0-normal_0_0-172.17.134.71-16315");
        assert_eq!((lines[1].ip.as_str(), lines[1].port), ("172.17.134.71", 16315));
        assert_eq!(lines[1].consistent, Position { file: "greatdb-bin.000041".into(), offset: 631 });
        assert_eq!(lines[1].start, Position { file: "greatdb-bin.000041".into(), offset: 4 });
        assert_eq!((lines[1].to_lsn, lines[1].line), (21_694_836, 2));
    }

    #[test]
    fn fields_that_a_later_version_adds_are_passed_over() {
        let more = MASTER.replace("pos=724", "pos=724\tmore=1\t");
        assert_eq!(one(&more), one(MASTER));
    }

    #[test]
    fn ipv6_addresses_are_read_with_and_without_brackets() {
        for address in ["fe80::1:13004", "[fe80::1]:13004"] {
            let line = one(&MASTER.replace("192.168.122.110:13004", address));
            assert_eq!((line.ip.as_str(), line.port), ("fe80::1", 13004));
            assert_eq!(line.folder(), "auth-auth_server-fe80::1-13004");
        }
    }

    #[test]
    fn a_wrong_line_is_named_with_its_number() {
        let bad = MASTER.replace("xb-to-lsn=1359021", "xb-to-lsn=13x");
        assert_eq!(
            problem(&format!("{REPLICA}\n{bad}")),
            (3, Problem::Field { field: "xb-to-lsn", expected: "a number" })
        );
        assert!(matches!(
            problem(&format!("{MASTER}{REPLICA}{MASTER}")),
            (3, Problem::Field { field: "address", .. })
        ));
        assert_eq!(problem("a\tb\n"), (1, Problem::Fields { expected: 8, found: 2 }));
        let other_key = MASTER.replace("belong-to-datasource", "datasource");
        assert!(matches!(problem(&other_key), (1, Problem::Field { field: "belong-to-datasource", .. })));
        let no_port = MASTER.replace(":13004", "");
        assert!(matches!(problem(&no_port), (1, Problem::Field { field: "address", .. })));
        let outside = MASTER.replace("auth_server", "../x");
        assert!(matches!(problem(&outside), (1, Problem::Field { field: "server", .. })));
        let no_number = MASTER.replace("binlog-name=master-bin.000001", "binlog-name=master-bin");
        assert!(matches!(problem(&no_number), (1, Problem::Field { .. })));
        let signed = MASTER.replace("pos=724", "pos=+724");
        assert!(matches!(problem(&signed), (1, Problem::Field { .. })));
    }
}
