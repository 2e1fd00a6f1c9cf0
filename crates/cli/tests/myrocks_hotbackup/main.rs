//! `myrocks-hotbackup` against real MariaDB servers with MyRocks, and against the program before it.

mod disk;
mod faults;
mod guide;
mod incremental;
mod layouts;
mod options;
mod original;
mod remote;
mod restores;
mod server;
mod streams;
mod wdt;
