//! Read, index, choose and replay MySQL and MariaDB binary logs, exactly

mod chain;
mod choose;
mod error;
pub mod event;
mod find;
mod frames;
pub mod gtid;
mod range;
mod reader;
pub mod replay;
mod scan;
mod statement;
mod target;
mod transaction;
mod version;

pub use choose::choose;
pub use error::Error;
pub use find::{Change, Filter, Found, ShowLimits, Shown, ShownRow, Step, Which, find, show};
pub use gtid::{Gtid, GtidSet};
pub use range::{Range, RangeFile, TransactionMark};
pub use reader::{FileEnd, Reader};
pub use scan::{Ddl, FileInfo, Index, Largest, scan, scan_file};
pub use statement::StatementKind;
pub use target::{Position, Start, Target};
pub use transaction::{Place, Tracker};
pub use version::{Flavor, ParseError, ServerVersion};
