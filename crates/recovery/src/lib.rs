//! Recover a sharded MySQL or MariaDB cluster: configuration, plan, steps, journal, proof
