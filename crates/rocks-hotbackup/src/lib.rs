//! Online backups of MyRocks servers: checkpoints streamed as tar, xbstream or WDT, and put back.
//!
//! [`backup`] asks a [`Server`] for a RocksDB checkpoint and gives every file to a [`Sink`]: data files first, in rounds
//! with a new checkpoint each, then logs and RocksDB's own files, the server's other files, and a [`Manifest`].
//! [`verify`] compares a backup with its manifest and with RocksDB's own list of files, [`restore`] unpacks, verifies
//! and moves a chain of backups, [`move_back`] only moves. Everything blocks; nothing prints.
//!
//! # Example
//!
//! A sink of one's own, which counts what a backup would be, and a server that is none: two files made beforehand
//! stand for its checkpoint. A real one is [`MySqlServer`], a real sink [`sink::TarSink`].
//!
//! ```
//! use std::path::Path;
//!
//! use rocks_hotbackup::server::{Facts, Lock, Position};
//! use rocks_hotbackup::sink::Member;
//! use rocks_hotbackup::{Content, Error, LeftOut, Options, Server, Sink, Stop, SystemClock, backup};
//!
//! #[derive(Default)]
//! struct Counter { files: Vec<String>, bytes: u64, whole: bool }
//!
//! impl Sink for Counter {
//!     fn file(&mut self, member: &Member, content: &mut Content<'_>) -> Result<(), Error> {
//!         self.files.push(member.path.display().to_string());
//!         while let Some(bytes) = content.next_bytes()? {
//!             self.bytes += bytes.len() as u64;
//!         }
//!         Ok(())
//!     }
//!     fn finish(&mut self) -> Result<(), Error> {
//!         self.whole = true;
//!         Ok(())
//!     }
//! }
//!
//! struct Still(Facts);
//!
//! impl Server for Still {
//!     fn facts(&mut self) -> Result<Facts, Error> { Ok(self.0.clone()) }
//!     fn create_checkpoint(&mut self, dir: &Path) -> Result<(), Error> {
//!         std::fs::create_dir(dir).unwrap();
//!         for file in std::fs::read_dir(&self.0.rocksdb_datadir).unwrap() {
//!             let file = file.unwrap();
//!             std::fs::hard_link(file.path(), dir.join(file.file_name())).unwrap();
//!         }
//!         Ok(())
//!     }
//!     fn position(&mut self) -> Result<Option<Position>, Error> { Ok(None) }
//!     fn lock(&mut self) -> Result<Lock, Error> { Ok(Lock::GlobalRead) }
//!     fn unlock(&mut self) -> Result<(), Error> { Ok(()) }
//!     fn left_out(&mut self) -> Result<Vec<LeftOut>, Error> { Ok(Vec::new()) }
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! let rocksdb_datadir = dir.path().join("#rocksdb");
//! std::fs::create_dir(&rocksdb_datadir)?;
//! std::fs::write(rocksdb_datadir.join("OPTIONS-000005"), "[Version]\n")?;
//! std::fs::write(rocksdb_datadir.join("CURRENT"), "MANIFEST-000004\n")?;
//! let facts = Facts { datadir: dir.path().into(), rocksdb_datadir, ..Facts::default() };
//!
//! let mut options = Options::default();
//! options.checkpoint_dir = dir.path().join("checkpoints");
//! let (mut sink, clock) = (Counter::default(), SystemClock::default());
//! let report = backup(&mut Still(facts), &mut sink, &clock, &options, &Stop::new(), &mut |_| {})?;
//! assert_eq!(sink.files, ["OPTIONS-000005", "CURRENT", "myrocks-hotbackup.json"]);
//! assert!(sink.whole);
//! assert_eq!(report.rounds, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! A backup runs on the server's machine, because a checkpoint is a directory of hard links there. Data of InnoDB are not
//! in it; [`Report::left_out`] names them. Percona Server's statements are written from its documentation; everything
//! here was tried with MariaDB 10.11. A binlog position is exact only with [`Options::consistent`]. Memory stays below
//! 32 MiB, plus about 300 bytes for every file of the backup.

mod accounts;
mod archive;
mod backup;
mod begun;
mod checkpoint;
mod checksum;
mod clock;
mod content;
mod direct;
mod encoded;
mod error;
mod event;
mod limit;
mod log_index;
pub mod manifest;
mod marked;
mod move_back;
mod mysql_server;
mod names;
mod owner;
mod private;
mod restore;
pub mod rocksdb;
pub mod server;
mod server_files;
pub mod sink;
mod stop;
mod targets;
mod unfinished;
mod unpack;
mod verify;
pub mod wdt;

pub use backup::{Locking, Options, Plan, Report, backup, plan};
pub use checkpoint::remove_checkpoints;
pub use checksum::{Checksum, Sum};
pub use clock::{Clock, SystemClock};
pub use content::Content;
pub use error::{Cause, Class, Error};
pub use event::Event;
pub use manifest::Manifest;
pub use move_back::{MovePlan, Moved, NOTE, move_back, plan_move_back};
pub use mysql_server::{Account, MySqlServer};
pub use names::{Kind, kind};
pub use owner::Owner;
pub use restore::{Restore, Restored, restore};
pub use server::{LeftOut, Server};
pub use sink::Sink;
pub use stop::Stop;
pub use targets::{Targets, Wanted};
pub use unfinished::{is_removing, unfinished};
pub use unpack::{Unpacked, unpack};
pub use verify::{Depth, Problem, Verified, verify};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
