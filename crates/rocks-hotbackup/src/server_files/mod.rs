//! The server's other files: table definitions, system tables, logs.

mod aside;
mod definitions;
mod listing;

pub(crate) use aside::{Aside, At, Kept, open, put_aside};
pub(crate) use definitions::{Definitions, is_definition};
pub(crate) use listing::{Found, Listing, Scope};
