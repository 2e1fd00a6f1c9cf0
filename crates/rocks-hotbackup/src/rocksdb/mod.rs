//! Enough of RocksDB's file formats to know whether a set of files is a whole database.
//!
//! Written from RocksDB's format documentation and checked against files of MariaDB 10.11 (RocksDB 6 and 7 write the
//! same) and the tools of RocksDB 7.8. `sst_dump` of a distribution cannot read MyRocks files at all: it does not
//! have MyRocks's order of keys.

mod compressed;
mod crc32c;
mod live;
mod log;
mod sst;
mod varint;

pub use live::{LiveFile, LiveFiles};
pub use sst::{Blocks, check_sst};
