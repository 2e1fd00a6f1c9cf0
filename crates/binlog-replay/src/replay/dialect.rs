//! The statements whose words changed between versions, in one table.

use crate::version::{Flavor, ServerVersion};

/// The words of one server.
///
/// Sources: the MySQL 8.0.22, 8.0.23, 8.0.26 and 8.4.0 release notes (`REPLICA`, `CHANGE REPLICATION
/// SOURCE`, `RESET BINARY LOGS AND GTIDS`) and the MariaDB manual, which kept the old words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    flavor: Flavor,
    replica: bool,
    source: bool,
    binary_logs: bool,
    atomic_ddl: bool,
}

impl Dialect {
    /// The words that `server` understands without a warning.
    pub fn of(server: &ServerVersion) -> Self {
        let mysql = |major, minor, patch| server.at_least(Flavor::MySql, major, minor, patch);
        Self {
            flavor: server.flavor,
            replica: mysql(8, 0, 22),
            source: mysql(8, 0, 23),
            binary_logs: mysql(8, 4, 0),
            atomic_ddl: mysql(8, 0, 0),
        }
    }

    /// Whether a statement that changes the schema is committed together with its GTID.
    pub(super) fn ddl_is_atomic(self) -> bool {
        self.atomic_ddl
    }

    /// Empties the binlogs and the GTID state.
    pub fn reset_gtids(self) -> &'static str {
        if self.binary_logs { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" }
    }

    /// Forgets every source that the server ever had, and its relay logs.
    pub fn reset_replica_all(self) -> &'static str {
        if self.replica { "RESET REPLICA ALL" } else { "RESET SLAVE ALL" }
    }

    /// Points the channel `name` at relay logs that lie in the data directory.
    pub(super) fn change_source(self, name: &str, relay_log: &str) -> String {
        match self.flavor {
            Flavor::MariaDb => format!(
                "CHANGE MASTER '{name}' TO MASTER_HOST='none', RELAY_LOG_FILE='{relay_log}', \
                 RELAY_LOG_POS=4, MASTER_USE_GTID=no"
            ),
            Flavor::MySql if self.source => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='none', RELAY_LOG_FILE='{relay_log}', \
                 RELAY_LOG_POS=4 FOR CHANNEL '{name}'"
            ),
            Flavor::MySql => format!(
                "CHANGE MASTER TO MASTER_HOST='none', RELAY_LOG_FILE='{relay_log}', RELAY_LOG_POS=4 \
                 FOR CHANNEL '{name}'"
            ),
        }
    }

    /// Starts the applier of the channel `name`.
    pub(super) fn start_applier(self, name: &str) -> String {
        match self.flavor {
            Flavor::MariaDb => format!("START SLAVE '{name}' SQL_THREAD"),
            Flavor::MySql => format!("START {} SQL_THREAD FOR CHANNEL '{name}'", self.word()),
        }
    }

    /// Stops the applier of the channel `name` between two transactions.
    pub(super) fn stop_applier(self, name: &str) -> String {
        match self.flavor {
            Flavor::MariaDb => format!("STOP SLAVE '{name}'"),
            Flavor::MySql => format!("STOP {} FOR CHANNEL '{name}'", self.word()),
        }
    }

    /// Forgets the channel `name` and deletes its relay logs.
    pub(super) fn forget_channel(self, name: &str) -> String {
        match self.flavor {
            Flavor::MariaDb => format!("RESET SLAVE '{name}' ALL"),
            Flavor::MySql => format!("RESET {} ALL FOR CHANNEL '{name}'", self.word()),
        }
    }

    /// Shows one row about the channel `name`, if it exists.
    pub(super) fn channel_status(self, name: &str) -> String {
        match self.flavor {
            Flavor::MariaDb => format!("SHOW SLAVE '{name}' STATUS"),
            Flavor::MySql => format!("SHOW {} STATUS FOR CHANNEL '{name}'", self.word()),
        }
    }

    /// The column of [`Dialect::channel_status`] that names the source's file the applier reached.
    pub(super) fn column_source_file(self) -> &'static str {
        if self.replica { "Relay_Source_Log_File" } else { "Relay_Master_Log_File" }
    }

    /// The column of [`Dialect::channel_status`] with the position in that file.
    pub(super) fn column_source_pos(self) -> &'static str {
        if self.replica { "Exec_Source_Log_Pos" } else { "Exec_Master_Log_Pos" }
    }

    /// The column of [`Dialect::channel_status`] that says whether the applier runs.
    pub(super) fn column_applier_running(self) -> &'static str {
        if self.replica { "Replica_SQL_Running" } else { "Slave_SQL_Running" }
    }

    fn word(self) -> &'static str {
        if self.replica { "REPLICA" } else { "SLAVE" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_gets_its_own_words() {
        let cases = [
            ("5.7.44", "RESET MASTER", "RESET SLAVE ALL", "START SLAVE SQL_THREAD FOR CHANNEL 'c'"),
            ("8.0.36", "RESET MASTER", "RESET REPLICA ALL", "START REPLICA SQL_THREAD FOR CHANNEL 'c'"),
            (
                "8.4.0",
                "RESET BINARY LOGS AND GTIDS",
                "RESET REPLICA ALL",
                "START REPLICA SQL_THREAD FOR CHANNEL 'c'",
            ),
            ("10.11.6-MariaDB", "RESET MASTER", "RESET SLAVE ALL", "START SLAVE 'c' SQL_THREAD"),
        ];
        for (version, gtids, replica, start) in cases {
            let dialect = Dialect::of(&version.parse().unwrap());
            assert_eq!(dialect.reset_gtids(), gtids, "{version}");
            assert_eq!(dialect.reset_replica_all(), replica, "{version}");
            assert_eq!(dialect.start_applier("c"), start, "{version}");
        }
    }
}
