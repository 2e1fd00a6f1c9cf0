//! Drive `xtrabackup` and `mariabackup`: extract, decompress and prepare a chain of physical backups.
//!
//! [`Tool::detect`] tells the two apart, with their versions, by what they say themselves. A [`Driver`] runs the tool on
//! any [`Host`](remote_exec::Host): [`Driver::open`] reads a full backup and its incremental ones and checks that they
//! belong together, which gives an [`Extracted`]; [`Driver::prepare`] turns that into a [`Prepared`], and nothing else
//! does, so an unprepared data directory cannot be mistaken for a prepared one.
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//! use remote_exec::Host;
//! use xtra_driver::{Driver, Options, Part, Tool};
//!
//! # async fn run() -> Result<(), xtra_driver::Error> {
//! let tool = Tool::detect(&Host::local(), "mariabackup").await?;
//! let driver = Driver::new(tool, Options::new("/work/log"));
//! driver.extract("mbstream", Path::new("/store/full/s1/backup.xbsteam"), Path::new("/work/datadir/s1"), "full").await?;
//! driver.decompress(Path::new("/work/datadir/s1"), "full").await?;
//! let extracted = driver.open(Part::new("full", "/work/datadir/s1"), Vec::new()).await?;
//! let prepared = driver.prepare(extracted, &|event| println!("{event:?}")).await?;
//! println!("replay starts at {:?}", prepared.binlog);
//! # Ok(())
//! # }
//! ```
//!
//! # What success is
//!
//! A step has succeeded when the tool ended with 0 **and** the last line of its log says `completed OK!`. Each step's log
//! stays in [`Options::log_dir`], beside a mark that says whether the step was begun and whether it was done.
//!
//! An incremental backup cannot be applied twice: the tool deletes the changes it has applied, and applied again it
//! reports success while the next step finds damaged pages (seen with mariabackup 10.11). So an interrupted step is never
//! repeated; it is [`Error::Interrupted`], and both directories have to be extracted anew.
//!
//! # Limits
//!
//! Backups encrypted by the tool itself (`.xbcrypt` members) are refused. Prepared here means redo only for every step
//! but the last, and rolled back in the last: no further incremental backup can follow.

mod checks;
mod driver;
mod error;
mod extract;
mod metadata;
mod my_cnf;
mod prepare;
mod tool;
mod version;

pub use checks::check_chain;
pub use driver::{Driver, Options, Part, Step};
pub use error::{Class, Error, LsnRule, Stage};
pub use extract::{COMPRESSED, ENCRYPTED};
pub use metadata::{BackupType, BinlogInfo, Checkpoints, Info, MetadataError, SlaveInfo, read_first};
pub use my_cnf::BackupMyCnf;
pub use prepare::{Event, Extracted, Prepared};
pub use tool::{Kind, Tool};
pub use version::Version;
