//! How the temporary server is started so that a replay is fast and exact, by flavour and version.

use serde::{Deserialize, Serialize};

use super::method::Method;
use super::relay::RELAY_LOG;
use crate::version::{Flavor, ServerVersion};

/// MySQL before this version has no replication channels, so its applier cannot be used: 5.7.
pub(super) const SOURCE_WITHOUT_RELAY: (Flavor, u16, u16) = (Flavor::MySql, 5, 7);

/// Base name of the binlog that a MariaDB server writes during a `pipe` replay, its only GTID state.
pub(super) const OWN_BINLOG: &str = "dbrecover-own";

/// Whether the transactions that will be applied have GTIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GtidUse {
    /// All of them. Always so on MariaDB.
    All,
    /// Some: the source switched during the time that the binlogs cover.
    Some,
    /// None of them.
    None,
}

/// What the options depend on, besides the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNeeds {
    /// The method; not [`Method::Auto`].
    pub method: Method,
    /// Whether the transactions have GTIDs.
    pub gtids: GtidUse,
    /// The `server_id`, not 0.
    pub server_id: u32,
    /// Threads of the applier; 0: it applies by itself, one transaction after another.
    pub workers: u16,
    /// Bytes that the server may use for its buffer pool.
    pub buffer_pool: u64,
}

/// The options of the temporary server, to be given after those that say where its files are.
///
/// | option | why |
/// | --- | --- |
/// | no binlog (MariaDB `pipe`: one without fsync) | nobody reads it; MySQL keeps its GTIDs in `mysql.gtid_executed`, MariaDB's applier in `mysql.gtid_slave_pos`. Only a MariaDB client session records its GTIDs nowhere else |
/// | `innodb_flush_log_at_trx_commit=0` | no fsync per transaction. The server stays consistent in itself after a crash; the last second may be missing, and the GTID state with it |
/// | doublewrite stays on | a crash in the middle must leave pages that can be recovered |
/// | 1 GiB packets | a row may be that large |
/// | `gtid_mode` as the transactions are | `ON` refuses anonymous ones, `OFF` the others |
/// | commit order not kept with GTIDs | the applier skips what it did already, so gaps after a crash do no harm |
/// | `slave_ddl_exec_mode=STRICT` (MariaDB) | the default lets a `CREATE TABLE` replace an existing table |
/// | no persisted settings (MySQL 8.0) | they win over options: a read-only server, or an applier that passes over errors |
/// | `performance_schema=OFF` (MySQL 8.0) | it takes an eighth of the applier's processor time |
/// | `innodb_strict_mode=OFF` | the binlogs do not say what a session had; what the source took in strict mode is the same without it |
/// | no plugins that check passwords (MariaDB) | they come with the data directory and as strict as they are by default: they would refuse what the source took, the applier's statements too |
/// | `system_versioning_alter_history=KEEP` (MariaDB), `restrict_fk_on_non_standard_key=OFF` (MySQL 8.4) | what an applier does without asking, a client does if it is told; the binlogs do not say that the source's session was |
/// | `log_bin_trust_function_creators` where there is a binlog | the statements are in a binlog already; without it a function that says nothing of what it does is refused |
/// | event scheduler off, replication not started | nothing else may write |
/// | `replicate_same_server_id` (`relay`) | an applier would pass over events of a server with its own number |
///
/// [`run`](fn@super::run) puts the durability settings back before the server is stopped.
pub fn server_options(server: &ServerVersion, needs: &ServerNeeds) -> Vec<String> {
    let mut options = Vec::new();
    let mut set = |name: &str, value: &str| options.push(format!("--{name}={value}"));
    let mysql = |major, minor, patch| server.at_least(Flavor::MySql, major, minor, patch);
    let maria = server.flavor == Flavor::MariaDb;
    let replica = if mysql(8, 0, 26) { "replica" } else { "slave" };

    set("server-id", &needs.server_id.to_string());
    set("innodb-flush-log-at-trx-commit", "0");
    set("innodb-buffer-pool-size", &needs.buffer_pool.to_string());
    set("max-allowed-packet", "1073741824");
    set(&format!("{replica}-max-allowed-packet"), "1073741824");
    set("event-scheduler", "OFF");
    set("innodb-strict-mode", "OFF");
    set("sync-binlog", "0");
    set("relay-log", RELAY_LOG);
    set("relay-log-recovery", "OFF");
    set("sync-relay-log", "0");
    set(&format!("{replica}-sql-verify-checksum"), "ON");
    let redo = redo_bytes(needs.buffer_pool);
    if maria {
        set("innodb-log-file-size", &redo.to_string());
        set("innodb-io-capacity", "2000");
        set("gtid-strict-mode", "OFF");
        set("slave-ddl-exec-mode", "STRICT");
        if server.at_least(Flavor::MariaDb, 10, 3, 4) {
            set("system-versioning-alter-history", "KEEP");
        }
        // Names of plugins, which only a server knows that has them.
        for plugin in ["simple-password-check", "cracklib-password-check", "password-reuse-check"] {
            set(&format!("loose-{plugin}"), "OFF");
        }
        // Another plugin than these would refuse a password of which only the hash is known.
        set("strict-password-validation", "OFF");
    } else if mysql(8, 0, 30) {
        set("innodb-redo-log-capacity", &redo.to_string());
    }
    if mysql(8, 0, 0) {
        // What the backed-up server was told with SET PERSIST would win over everything said here.
        set("persisted-globals-load", "OFF");
        // The tables about the applier are filled without it.
        set("performance-schema", "OFF");
    }
    if mysql(8, 4, 0) {
        // Marked as deprecated from its beginning.
        set("loose-restrict-fk-on-non-standard-key", "OFF");
    }
    if !maria {
        gtid_mode(needs.gtids, &mut set);
        if !mysql(8, 0, 0) {
            set("master-info-repository", "TABLE");
            set("relay-log-info-repository", "TABLE");
        }
    }
    if needs.method == Method::Relay {
        applier(server, needs, replica, &mut set);
    }
    options.push(if mysql(8, 0, 26) { "--skip-replica-start" } else { "--skip-slave-start" }.into());
    if keeps_gtids_in_binlog(server, needs.method, needs.gtids) {
        options.push(format!("--log-bin={OWN_BINLOG}"));
        options.push("--log-slave-updates".into());
        options.push("--binlog-format=ROW".into());
        options.push("--log-bin-trust-function-creators=ON".into());
    } else {
        options.push("--skip-log-bin".into());
        options.push(format!("--skip-log-{}-updates", if mysql(8, 0, 26) { "replica" } else { "slave" }));
    }
    options
}

/// Bytes of redo log that a server with this buffer pool has, from its start on and after its end.
pub fn redo_bytes(buffer_pool: u64) -> u64 {
    (buffer_pool / 2).clamp(128 << 20, 1 << 30)
}

/// Whether the server's binlog is the only place where it keeps the GTIDs of what is applied: MySQL 5.6 has no
/// table for them, and MariaDB records those of a session nowhere else.
pub(super) fn keeps_gtids_in_binlog(server: &ServerVersion, method: Method, gtids: GtidUse) -> bool {
    match server.flavor {
        Flavor::MySql => !server.at_least(Flavor::MySql, 5, 7, 5) && gtids != GtidUse::None,
        Flavor::MariaDb => method == Method::Pipe,
    }
}

/// How many threads the applier of a server of `flavor` gets on this machine.
///
/// Twice the processors, so that workers that wait for a lock or a page leave none idle. MariaDB's need a third
/// processor: on two, handing transactions over and keeping their order takes more time than the second processor
/// gives (20,000 transactions: 0.59 s by itself, 0.77 s with two workers, 0.86 s with four).
pub(super) fn default_workers(flavor: Flavor) -> u16 {
    let processors = std::thread::available_parallelism().map_or(2, |n| n.get());
    if flavor == Flavor::MariaDb && processors <= 2 {
        return 0;
    }
    u16::try_from(processors * 2).unwrap_or(u16::MAX).clamp(4, 16)
}

fn gtid_mode(gtids: GtidUse, set: &mut impl FnMut(&str, &str)) {
    let (mode, consistency) = match gtids {
        GtidUse::All => ("ON", "ON"),
        GtidUse::Some => ("OFF_PERMISSIVE", "OFF"),
        GtidUse::None => ("OFF", "OFF"),
    };
    set("gtid-mode", mode);
    set("enforce-gtid-consistency", consistency);
}

fn applier(server: &ServerVersion, needs: &ServerNeeds, replica: &str, set: &mut impl FnMut(&str, &str)) {
    let workers = needs.workers.to_string();
    // Never pass over an event because its server had the number that this one has.
    set("replicate-same-server-id", "ON");
    if server.flavor == Flavor::MariaDb {
        // What waits for a worker stays at its default of 128 KiB: with 64 MiB the reader fills fresh memory all the
        // time, which costs half of the rate.
        set("slave-parallel-threads", &workers);
        set("slave-parallel-mode", "optimistic");
        return;
    }
    set(&format!("{replica}-parallel-workers"), &workers);
    if !server.at_least(Flavor::MySql, 8, 0, 27) {
        set(&format!("{replica}-parallel-type"), "LOGICAL_CLOCK");
    }
    set(&format!("{replica}-pending-jobs-size-max"), "1073741824");
    // Commit order needs an own binlog before 8.0.19.
    let ordered = needs.gtids != GtidUse::All && server.at_least(Flavor::MySql, 8, 0, 19);
    set(&format!("{replica}-preserve-commit-order"), if ordered { "ON" } else { "OFF" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(server: &str, method: Method, gtids: GtidUse) -> String {
        let needs = ServerNeeds { method, gtids, server_id: 77, workers: 4, buffer_pool: 1 << 30 };
        server_options(&server.parse().unwrap(), &needs).join(" ")
    }

    #[test]
    fn a_binlog_is_written_only_where_nothing_else_keeps_gtids() {
        let binlog = |server, method| options(server, method, GtidUse::All).contains("--log-bin=");
        assert!(binlog("10.11.6-MariaDB", Method::Pipe));
        assert!(binlog("5.6.51", Method::Sql));
        for method in [Method::Sql, Method::Relay] {
            assert!(!binlog("10.11.6-MariaDB", method));
            assert!(!binlog("8.0.36", method));
        }
        assert!(!binlog("9.7.4", Method::Pipe));
    }

    #[test]
    fn gtid_mode_follows_the_transactions() {
        assert!(options("8.0.36", Method::Sql, GtidUse::All).contains("--gtid-mode=ON "));
        assert!(options("8.0.36", Method::Sql, GtidUse::None).contains("--gtid-mode=OFF "));
        assert!(!options("10.11.6-MariaDB", Method::Sql, GtidUse::All).contains("--gtid-mode"));
    }

    #[test]
    fn names_follow_the_version() {
        assert!(
            options("8.0.25", Method::Relay, GtidUse::All).contains("--slave-parallel-type=LOGICAL_CLOCK")
        );
        let new = options("9.7.4", Method::Relay, GtidUse::All);
        assert!(new.contains("--replica-parallel-workers=4") && !new.contains("parallel-type"));
        assert!(!new.contains("--slave"));
    }
}
