//! Read, write and extract xbstream archives of Percona XtraBackup and MariaDB, compressed members included
