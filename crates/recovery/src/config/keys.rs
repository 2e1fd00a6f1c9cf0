//! Every section and key of the configuration file, in one table.
//!
//! The table decides what is known; `docs/configuration.md` is checked against it by a test.

/// One key of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section, without brackets.
    pub section: &'static str,
    /// The key as written.
    pub name: &'static str,
    /// Shown to a user who misses it.
    pub what: &'static str,
    /// `None`: no default; the key is needed, or optional as `what` says.
    pub default: Option<&'static str>,
}

const fn key(
    section: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    what: &'static str,
) -> Key {
    Key { section, name, what, default }
}

/// All keys, by section.
pub const KEYS: &[Key] = &[
    key("recover-to", "dir", None, "name of the backup to recover to its consistent point"),
    key("recover-to", "stop-datetime", None, "moment to recover to, YYYY-MM-DD HH:MM:SS or RFC 3339"),
    key("recover-to", "until-gtid", None, "GTIDs up to and including which to recover"),
    key("recover-to", "before-gtid", None, "GTIDs before the first of which to stop"),
    key("recover-to", "until-position", None, "binlog position to recover to, [SERVER/]FILE:POS"),
    key("recover-to", "skip-gtid", None, "GTIDs of transactions to leave out"),
    key("recover-to", "without-group", None, "replication groups to leave out, separated by commas"),
    key("recover-to", "allow-partial", Some("0"), "1: use backups that databases or tables were left out of"),
    key("backup-store", "ip", None, "address of the backup store"),
    key("backup-store", "port", Some("22"), "ssh port"),
    key("backup-store", "user", None, "login user"),
    key("backup-store", "password", None, "login password; without it a key or agent is used"),
    key("backup-store", "identity-file", None, "private key of the login user"),
    key("backup-store", "dir", None, "base directory of the backups"),
    key("recovery-job-server", "ip", None, "address of the machine that the cluster is recovered on"),
    key("recovery-job-server", "port", Some("22"), "ssh port"),
    key("recovery-job-server", "user", None, "login user"),
    key("recovery-job-server", "password", None, "login password; without it a key or agent is used"),
    key("recovery-job-server", "identity-file", None, "private key of the login user"),
    key("recovery-job-server", "work-dir", None, "directory below which recoveries are made"),
    key("misc", "debug", Some("1"), "debug lines on stderr: 0, 1, true, false"),
    key("misc", "connect-method", None, "local, ssh, rabbit-agent or adm-agent"),
    key(
        "misc",
        "conn-timeout",
        Some("3600"),
        "longest time of a login, a run of the backup tool, and the stop of a server, in seconds",
    ),
    key("misc", "transfer-method", Some("auto"), "auto, local, relay, socat or scp"),
    key("misc", "socat-port", Some("9999"), "accepted for old files; the port of the backup side"),
    key("misc", "socat-port2", None, "first port that a receiving socat listens on"),
    key("misc", "socat-retry-count", Some("10"), "how often a transfer is tried again"),
    key("misc", "rate-limit", None, "most bytes per second of a transfer, such as 200M"),
    key("misc", "transfer-compress", Some("none"), "none or zstd: compression of a transfer on its way"),
    key(
        "misc",
        "server-tmp-port",
        Some("27000"),
        "first TCP port of the servers left running by for-testing",
    ),
    key(
        "misc",
        "client-name",
        Some("mysql"),
        "mysql or mariadb: the names of the programs in the base directory",
    ),
    key("misc", "xtrabackup-bin-dir", None, "the xtrabackup or mariabackup program"),
    key("misc", "xbstream-bin-dir", None, "the xbstream or mbstream program"),
    key("misc", "for-testing", None, "present: own port and server id per server, servers left running"),
    key("misc", "mysqld-user", None, "operating system user of the temporary servers"),
    key("misc", "time-zone", Some("local"), "zone of the backup machine: an IANA name, +HH:MM, or local"),
    key("misc", "lower-case-table-names", None, "0, 1 or 2: that of servers whose my.conf does not say it"),
    key("misc", "parallel", None, "servers recovered side by side (default: cores of the job server)"),
    key("misc", "replay-method", Some("auto"), "auto, pipe, sql or relay"),
    key("misc", "toolchain", Some("auto"), "auto, worker or stock"),
    key("misc", "worker-path", None, "dbrecover on the job server"),
    key("misc", "ds-info-dir", Some("/tmp"), "directory of the ds_info files"),
    key("misc", "known-hosts-file", None, "known_hosts of the ssh connections"),
    key("misc", "accept-new-host-keys", Some("0"), "1: an unknown host key is accepted and kept"),
    key("misc", "ssh-config-file", None, "ssh_config of the ssh connections"),
    key("misc", "trusted-agent", Some("0"), "1: agents that show commands in the process list get passwords"),
    key("rabbit-agent", "rabbitmq-uri", None, "oslo transport URL of the broker"),
    key("rabbit-agent", "agent-topic", Some("rds-dbinit"), "topic of the agents"),
    key("rabbit-agent", "ca-file", None, "PEM certificates to trust with rabbits://"),
    key("adm-agent", "port", Some("19999"), "gRPC port of the agents"),
    key("adm-agent", "token-file", None, "file with the bearer token of the agents"),
    key("adm-agent", "ca-file", None, "PEM certificate that signs the agents' TLS certificates"),
];

/// The known name nearest to `name`, if one is near enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
