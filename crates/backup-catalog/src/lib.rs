//! What a physical backup store of a sharded MySQL or MariaDB cluster holds, as values
