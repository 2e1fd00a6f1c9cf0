//! The kinds of events and their numbers.
//!
//! Sources: MySQL `libs/mysql/binlog/event/binlog_event.h` (`Log_event_type`, 0 to 42), MariaDB
//! `sql/log_event.h` (`Log_event_type`, its own from 160 on).

use std::fmt;

/// The kind of an event: byte 4 of its header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKind(pub u8);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl EventKind {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The name that servers and their tools use; `None` for a number nobody has given out.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A statement, or the text that starts or ends a transaction.
    QUERY = 2, "Query";
    /// The server stopped: the last event of a file.
    STOP = 3, "Stop";
    /// The next file: the last event of a file.
    ROTATE = 4, "Rotate";
    /// `LAST_INSERT_ID` or `INSERT_ID` for the next statement.
    INTVAR = 5, "Intvar";
    /// Part of a file that `LOAD DATA` reads, in statement format.
    APPEND_BLOCK = 9, "Append_block";
    /// The file of a failed `LOAD DATA` is to be removed.
    DELETE_FILE = 12, "Delete_file";
    /// Seeds of `RAND()` for the next statement.
    RAND = 13, "RAND";
    /// A user variable for the next statement.
    USER_VAR = 14, "User var";
    /// Server version, event sizes, checksum kind: the first event of a file.
    FORMAT_DESCRIPTION = 15, "Format_desc";
    /// The end of a transaction of a transactional engine.
    XID = 16, "Xid";
    /// First part of a file that `LOAD DATA` reads, in statement format.
    BEGIN_LOAD_QUERY = 17, "Begin_load_query";
    /// The `LOAD DATA` statement.
    EXECUTE_LOAD_QUERY = 18, "Execute_load_query";
    /// Name and columns of a table that the next row events touch.
    TABLE_MAP = 19, "Table_map";
    /// Inserted rows, version 1.
    WRITE_ROWS_V1 = 23, "Write_rows_v1";
    /// Updated rows, version 1.
    UPDATE_ROWS_V1 = 24, "Update_rows_v1";
    /// Deleted rows, version 1.
    DELETE_ROWS_V1 = 25, "Delete_rows_v1";
    /// Something happened that the binlog cannot tell: replicas stop here.
    INCIDENT = 26, "Incident";
    /// Keeps a replica's connection alive; never in a file.
    HEARTBEAT = 27, "Heartbeat";
    /// May be passed over by whoever does not know it.
    IGNORABLE = 28, "Ignorable";
    /// The statement text of the following row events (MySQL).
    ROWS_QUERY = 29, "Rows_query";
    /// Inserted rows, version 2.
    WRITE_ROWS = 30, "Write_rows";
    /// Updated rows, version 2.
    UPDATE_ROWS = 31, "Update_rows";
    /// Deleted rows, version 2.
    DELETE_ROWS = 32, "Delete_rows";
    /// GTID of the next transaction (MySQL).
    GTID = 33, "Gtid";
    /// A transaction without GTID starts (MySQL).
    ANONYMOUS_GTID = 34, "Anonymous_Gtid";
    /// All GTIDs before this file (MySQL).
    PREVIOUS_GTIDS = 35, "Previous_gtids";
    /// What group replication certified.
    TRANSACTION_CONTEXT = 36, "Transaction_context";
    /// Membership of group replication changed.
    VIEW_CHANGE = 37, "View_change";
    /// A distributed transaction is prepared.
    XA_PREPARE = 38, "XA_prepare";
    /// Updated rows with parts of JSON values.
    PARTIAL_UPDATE_ROWS = 39, "Update_rows_partial";
    /// A transaction, compressed with zstd.
    TRANSACTION_PAYLOAD = 40, "Transaction_payload";
    /// Keeps a replica's connection alive, with a 64-bit position; never in a file.
    HEARTBEAT_V2 = 41, "Heartbeat";
    /// GTID with a tag of the next transaction (MySQL 8.3 and later).
    GTID_TAGGED = 42, "Gtid_tagged";
    /// The statement text of the following row events (MariaDB).
    ANNOTATE_ROWS = 160, "Annotate_rows";
    /// The oldest file that crash recovery needs (MariaDB).
    BINLOG_CHECKPOINT = 161, "Binlog_checkpoint";
    /// GTID of the next transaction (MariaDB).
    MARIADB_GTID = 162, "Gtid";
    /// The last GTID of each domain and server before this file (MariaDB).
    GTID_LIST = 163, "Gtid_list";
    /// Everything behind it is encrypted (MariaDB).
    START_ENCRYPTION = 164, "Start_encryption";
    /// A statement, compressed (MariaDB).
    QUERY_COMPRESSED = 165, "Query_compressed";
    /// Inserted rows, version 1, compressed (MariaDB).
    WRITE_ROWS_COMPRESSED_V1 = 166, "Write_rows_compressed_v1";
    /// Updated rows, version 1, compressed (MariaDB).
    UPDATE_ROWS_COMPRESSED_V1 = 167, "Update_rows_compressed_v1";
    /// Deleted rows, version 1, compressed (MariaDB).
    DELETE_ROWS_COMPRESSED_V1 = 168, "Delete_rows_compressed_v1";
    /// Inserted rows, version 2, compressed (MariaDB).
    WRITE_ROWS_COMPRESSED = 169, "Write_rows_compressed";
    /// Updated rows, version 2, compressed (MariaDB).
    UPDATE_ROWS_COMPRESSED = 170, "Update_rows_compressed";
    /// Deleted rows, version 2, compressed (MariaDB).
    DELETE_ROWS_COMPRESSED = 171, "Delete_rows_compressed";
    /// Part of a row event that was too large to send (MariaDB 12.3 and later).
    PARTIAL_ROW_DATA = 172, "Partial_row_data";
}

impl EventKind {
    /// Whether this is one of the kinds that hold rows.
    pub fn is_rows(self) -> bool {
        matches!(self.0, 23..=25 | 30..=32 | 39 | 166..=171)
    }

    /// Whether a transaction's GTID event is of this kind, anonymous ones included.
    pub fn is_gtid(self) -> bool {
        matches!(self, Self::GTID | Self::ANONYMOUS_GTID | Self::GTID_TAGGED | Self::MARIADB_GTID)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", self.0)
    }
}

impl serde::Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
