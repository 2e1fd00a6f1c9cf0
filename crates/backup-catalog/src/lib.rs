//! What a physical backup store of a sharded MySQL or MariaDB cluster holds, as values.
//!
//! [`Catalog::read`] takes one look at a store, through any [`Store`]: a local [`DirStore`], or a [`Snapshot`] of one
//! on another machine. [`Catalog::windows`] says which moments can be reached, [`Catalog::select`] which backups a
//! recovery to one of them takes, [`recoverable`] which servers. Nothing is changed, started or connected to.
//!
//! # Example
//!
//! ```
//! use backup_catalog::{Catalog, DirStore, Target};
//!
//! # let dir = tempfile::tempdir()?;
//! # let full = dir.path().join("UTC20210205092650.735-full");
//! # std::fs::create_dir(&full)?;
//! # std::fs::write(full.join("ok"), "ok\n")?;
//! # std::fs::write(full.join("consistent_point_datetime"), "2021-02-05 17:27:01\n")?;
//! # std::fs::write(full.join("cluster_consistence_info"), "")?;
//! let catalog = Catalog::read(&DirStore::new(dir.path()))?;
//! for window in catalog.windows() {
//!     println!("{window}");
//! }
//! let selection = catalog.select(&Target::Latest)?;
//! assert_eq!(selection.chain[0].as_str(), "UTC20210205092650.735-full");
//! assert!(selection.next.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! | entry of the base directory | what it is |
//! | --- | --- |
//! | `UTC%Y%m%d%H%M%S.mmm-full`, `…-inc` | one backup of the whole cluster; an `-inc` is based on the one just before it |
//! | `encrypted/NAME.tar.encrypted` | most of an encrypted backup |
//! | `trash/`, `socat_log/` | not looked at |
//!
//! The files of a backup are described where they are read: [`Backup`], [`ConsistenceLine`], [`ServerBinlogs`],
//! [`ServerFolder`], [`backup_master`], [`dbscale`], [`MyConf`]. Where they lie and how they are called is in [`layout`].
//!
//! # Limits
//!
//! Names alone do not show that a backup was deleted from the middle of a chain. Missing binlogs hint at it
//! ([`Selection::doubts`]); the log sequence numbers in the physical backups prove it, and are not read here.

mod backup;
mod backup_conf;
mod binlogs;
mod catalog;
mod consistence;
pub mod dbscale;
mod error;
mod folder;
pub mod ini;
pub mod layout;
mod my_conf;
mod name;
mod recoverable;
mod select;
mod snapshot;
mod store;
mod window;

pub use backup::{Backup, FileSize};
pub use backup_conf::backup_master;
pub use binlogs::{BinlogName, ServerBinlogs, parse_backuped_binlogs};
pub use catalog::{Catalog, Chain, Listed, State};
pub use consistence::{ConsistenceLine, Position, Role, parse_consistence};
pub use error::{Class, Error, Link, Problem};
pub use folder::{FolderName, ServerFolder};
pub use my_conf::{MyConf, OptionsOf};
pub use name::{BackupName, Kind};
pub use recoverable::{Master, ServerChoice, recoverable, with_binlogs};
pub use select::{Doubt, Selection, Target};
pub use snapshot::Snapshot;
pub use store::{DirStore, Entry, EntryKind, MAX_FILE, Store};
pub use window::Window;
