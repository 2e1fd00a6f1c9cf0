//! `myrocks-hotbackup` against real MariaDB servers with MyRocks, and against the program before it.

mod faults;
mod guide;
mod incremental;
mod options;
mod original;
mod remote;
mod server;
mod streams;
