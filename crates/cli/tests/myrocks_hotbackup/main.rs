//! `myrocks-hotbackup` against real MariaDB servers with MyRocks, and against the program before it.

mod disk;
mod faults;
mod guide;
mod incremental;
mod layouts;
mod options;
mod original;
#[path = "../../../../tests/common/program.rs"]
mod program;
mod remote;
mod restores;
mod server;
mod streams;
mod wdt;
