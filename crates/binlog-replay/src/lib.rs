//! Read, index, choose and replay MySQL and MariaDB binary logs, exactly.
//!
//! [`scan`] makes an [`Index`] of folders of binlogs, [`choose`] makes the exact [`Range`] from it that leads
//! from a backup to a [`Target`], and [`replay`] applies that range to a server and proves it. [`find`] and
//! [`show`] look for the statement that should not have been; [`Reader`] gives the events themselves.
//!
//! # Example
//!
//! ```no_run
//! use binlog_replay::{Flavor, GtidSet, Position, Start, Target, choose, scan};
//!
//! let index = scan(&["/backup/UTC20260203040506.000-full/binlogs"])?;
//! let held = GtidSet::parse(Flavor::MySql, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-1000")?;
//! let start = Start { position: Position::new("master-bin.000007", 4), executed: Some(held) };
//! let before_the_mistake = Target::Time("2026-02-03T04:05:06.789Z".parse().unwrap());
//! let range = choose(&index, &start, &before_the_mistake, None)?;
//! println!("{} transactions, then {}", range.transactions, range.stop());
//! # Ok::<(), binlog_replay::Error>(())
//! ```
//!
//! # Format
//!
//! Binlog version 4: MySQL 5.6.1 to 9.x and its derivatives, MariaDB 10.x to 12.x. A file is the bytes
//! `fe 62 69 6e` and events of a 19-byte [header](event::Header), a body and a CRC-32; [`event`] has one file
//! per family of events, with widths, versions and the source of each fact.
//!
//! # Limits
//!
//! - Encrypted files are refused by name; only a server with the keys can read them.
//! - A file of a server with `binlog_checksum=NONE` is checked by its structure alone.
//! - A closed file that is cut exactly between two events looks whole; the next file tells.
//! - MariaDB has no time finer than a second and no record of numbers that it left out.
//! - `Partial_row_data` of MariaDB 12.3 is known by name and not decoded.

mod chain;
mod choose;
mod error;
pub mod event;
mod file_name;
mod find;
mod frames;
pub mod gtid;
mod locate;
mod needle;
mod range;
mod reader;
pub mod replay;
mod scan;
mod seen;
mod show;
mod statement;
mod table_maps;
mod target;
mod transaction;
mod unsaid;
mod version;
mod words;

pub use choose::choose;
pub use error::{Class, Error};
pub use find::{Change, Filter, Found, find};
pub use gtid::{Gtid, GtidSet};
pub use locate::{Located, locate, may_lie_before, named};
pub use range::{Range, RangeFile, TransactionMark};
pub use reader::{FileEnd, Reader};
pub use scan::{Ddl, FileInfo, Index, Largest, scan, scan_file};
pub use show::{ShowLimits, Shown, ShownRow, Step, Which, show};
pub use statement::StatementKind;
pub use target::{Position, Start, Target};
pub use transaction::{Place, Tracker};
pub use version::{Flavor, ParseError, ServerVersion};
