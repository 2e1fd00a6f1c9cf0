//! Recover a sharded MySQL or MariaDB cluster from its backup store: to the consistent point of a backup, or to
//! any moment between backups, and prove it.
//!
//! A recovery is three calls. [`Config::read`] reads the configuration file; [`plan()`] connects to the machines,
//! looks at the store and decides everything, touching nothing; [`recover`] does it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use recovery::{Config, Request, Silent};
//!
//! # async fn run() -> Result<(), recovery::Error> {
//! let config = Config::read("recovery.conf".as_ref())?;
//! let request = Request::new(config, Arc::new(Silent));
//! let plan = recovery::plan(&request).await?;
//! println!("{} servers, {} bytes", plan.servers.len(), plan.bytes_needed);
//! let report = recovery::recover(&request).await?;
//! println!("recovered to {}", report.work_dir.display());
//! # Ok(())
//! # }
//! ```
//!
//! # How it goes
//!
//! 1. **Catalog**: one look at the store gives backups, chains, servers and consistent points.
//! 2. **Plan**: a pure function ([`plan::make`]) from catalog, configuration, target and [`plan::Facts`].
//! 3. **Act**: backups are unpacked into the work directory in one pass by the worker (or by the stock tools),
//!    datadirs are prepared, temporary servers replay the binlogs. Servers run side by side; every finished step
//!    is in the journal. Work happens under `.incomplete-NAME`; the rename comes last.
//! 4. **Prove**: the GTID state that each server has must be the one that was planned.
//!
//! # What it does not do
//!
//! It does not put servers into production, does not start the proxy, and changes nothing in the store except
//! that an incomplete newest backup is moved to `trash/` (unless the request says otherwise).

pub mod config;
mod ds_info;
mod error;
mod events;
mod extend;
mod facts;
mod goal;
mod hosts;
mod identity;
mod journal;
mod locate;
mod my_conf;
mod naming;
mod one_server;
mod owned_dir;
mod physical;
pub mod plan;
mod points;
mod prepare;
mod replay;
mod report;
mod request;
mod run;
mod sender;
mod server;
mod server_options;
mod side_by_side;
mod stock_proof;
mod store;
mod time;
mod trash;
mod unpack;
mod workdir;
mod worker;

pub use config::{Config, RecoverTo};
pub use error::{Class, Error, with_causes};
pub use events::{Event, Observer, Silent};
pub use hosts::Hosts;
pub use plan::Plan;
pub use report::{RecoveredServer, Replayed, Report, StepTime, Unpacked};
pub use request::Request;
pub use run::{plan, recover};
pub use store::{in_utc, read_catalog};
pub use time::{StopTime, Zone};
pub use workdir::Earlier;

/// Version of the shape of plans and reports.
pub const SCHEMA_VERSION: u32 = 1;
