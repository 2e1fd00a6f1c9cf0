//! Read, index, choose and replay MySQL and MariaDB binary logs, exactly

mod error;
pub mod event;
mod frames;
pub mod gtid;
mod range;
mod reader;
pub mod replay;
mod target;
mod version;

pub use error::Error;
pub use gtid::{Gtid, GtidSet};
pub use range::{Range, RangeFile, TransactionMark};
pub use reader::{FileEnd, Reader};
pub use target::{Position, Start, Target};
pub use version::{Flavor, ParseError, ServerVersion};
