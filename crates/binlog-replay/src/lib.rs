//! Read, index, choose and replay MySQL and MariaDB binary logs, exactly

pub mod gtid;
mod range;
pub mod replay;
mod target;
mod version;

pub use gtid::{Gtid, GtidSet};
pub use range::{Range, RangeFile, TransactionMark};
pub use target::{Position, Start, Target};
pub use version::{Flavor, ParseError, ServerVersion};
