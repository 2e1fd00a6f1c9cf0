//! Read, index, choose and replay MySQL and MariaDB binary logs, exactly
