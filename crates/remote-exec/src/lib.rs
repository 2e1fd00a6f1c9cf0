//! Run programs and move bytes on hosts: this machine, by ssh, through agents.
//!
//! A [`Host`] runs a [`Command`], which mirrors [`std::process::Command`]: an argument list, streams, an exit status.
//! The same call does the same on every kind of host, and one test suite says so for all of them.
//!
//! # Example
//!
//! ```
//! use remote_exec::Host;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let host = Host::local(); // or Host::connect(Method::Ssh(ssh::Options::new("store")))
//! let output = host.command("printf").arg("%s").arg("it's $HOME").run().await?;
//! assert_eq!(output.text(), "it's $HOME");
//!
//! let sorted = host.pipeline(vec![
//!     host.command("printf").arg("b\\na\\n"),
//!     host.command("sort"),
//! ]);
//! assert_eq!(sorted.run().await?.text(), "a\nb");
//! # Ok::<(), remote_exec::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What holds on every host
//!
//! - Arguments arrive unchanged, whatever bytes they hold. Secrets ([`Command::secret_env`],
//!   [`Command::secret_stdin`]) are in no argument list, message or log.
//! - Every program has its own process group; a timeout, a kill and a drop end all of it, on its own host.
//! - A host that went away is [`Error::Lost`], never an exit status; nothing is run twice.
//!
//! # Limits
//!
//! A program that leaves its process group on purpose (a daemon) is not ended. Far sides are Linux with `/bin/sh`, GNU
//! coreutils and findutils. A far program that ends itself with status 137 looks like one that signal 9 ended.

#[cfg(feature = "grpc")]
pub mod adm;
#[cfg(any(feature = "rabbit", feature = "grpc"))]
pub mod agent;
mod child;
mod command;
mod error;
mod files;
mod files_here;
mod guard;
mod host;
mod local;
#[cfg(any(feature = "rabbit", feature = "grpc"))]
mod mailbox;
mod pipeline;
mod quote;
#[cfg(feature = "rabbit")]
pub mod rabbit;
mod random;
pub mod recording;
mod script;
pub mod ssh;
mod status;
pub mod transfer;

pub use child::{Child, Reader, Writer};
pub use command::{Command, DEFAULT_GRACE, DEFAULT_OUTPUT_LIMIT, Output};
pub use error::Error;
pub use files::{DirEntry, FileKind, Files, Metadata};
pub use host::{Host, Kind, Method};
pub use pipeline::Pipeline;
pub use status::Status;
