//! What the two programs share: exit codes, failures, log lines, passwords, standard streams, names on a
//! terminal.
//!
//! The programs parse, call one library function, print, and map the result to an exit code. Nothing
//! here knows MySQL.

mod exit;
mod failure;
pub mod log;
pub mod password;
mod printable;
pub mod standard;

pub use exit::Exit;
pub use failure::{Failure, Outcome, finish};
pub use printable::Printable;
pub use recovery::with_causes;
