//! The lab: throw-away MariaDB and MySQL clusters, their backup stores, and the truth about them.
//!
//! [`Store::get`] gives a backup store made by real servers under load and by the real backup tools, in the
//! layout of the backup program, together with what the servers held at every consistent point and at every
//! whole second ([`Truth`]). Stores are made once (15 to 30 s) and kept among the test tools under a key of
//! options, lab sources and server version. [`Truth::verify`] starts a server on a recovered data directory
//! and compares.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::{Store, StoreOptions};
//!
//! let store = Store::get(&StoreOptions::default())?;
//! let point = store.truth.points.last().unwrap();
//! println!("recover {} from {}", point.backup, store.dir.display());
//! for (datasource, state) in &point.groups {
//!     let datadir = format!("/tmp/work/{}/datadir/{}", point.backup, store.truth.folders[datasource]);
//!     store.truth.verify(datadir.as_ref(), state)?;
//! }
//! # Ok(())
//! # }
//! ```

mod backup;
mod basedir;
pub mod machine;
pub mod machines;
pub mod recovery;
pub mod server;
pub mod sql;
#[path = "../../../crates/remote-exec/tests/common/sshd.rs"]
pub mod sshd;
mod store;
pub mod tools;
pub mod truth;
pub mod workload;

use std::path::PathBuf;

pub use server::Flavor;
pub use store::{Shape, Store, StoreOptions};
pub use truth::Truth;

/// The stand-in for xtrabackup: a program of this package, beside the running one.
pub fn standin() -> anyhow::Result<PathBuf> {
    tools::own_program("xtrabackup-standin")
}
