//! What the two programs share: exit codes, failures, output, progress, passwords.
//!
//! The programs parse, call one library function, print, and map the result to an exit code. Nothing
//! here knows MySQL.

mod failure;
pub mod password;

pub use failure::{Exit, Failure, Outcome, finish};
