//! Applying a [`Range`](crate::Range) to a server, exactly and fast.
//!
//! A replay runs on the machine where both the binlogs and the temporary server are. Its caller
//!
//! 1. asks [`plan`] what would happen (nothing is touched),
//! 2. asks [`prepare`] for the options of the temporary server, and starts it,
//! 3. calls [`run`](fn@run), which applies the transactions, proves that the server is where the plan said, and puts
//!    the server's durability settings back,
//! 4. stops the server, and calls [`clean`].
//!
//! There are three [`Method`]s; [`Method::Auto`] takes the fastest that is exact:
//!
//! | method | how | GTID state and proof |
//! | --- | --- | --- |
//! | `relay` | the binlogs become relay logs of the server, whose own applier runs transactions in parallel | MySQL `gtid_executed`, MariaDB `gtid_slave_pos`, without GTIDs the end of the relay logs |
//! | `sql` | statements over one connection, compiled from the events | MySQL `gtid_executed`; else a row that is changed in every transaction, then `gtid_slave_pos` is set |
//! | `pipe` | the stock `mysqlbinlog \| mysql` | MySQL `gtid_executed`, MariaDB `gtid_binlog_pos`, then `gtid_slave_pos` is set; without GTIDs both exit statuses |
//!
//! A replay that was cut off is run again with [`Request::resume`]: it goes on from what the server itself
//! says that it holds, so that nothing is applied twice. The same makes a finished one longer.

mod aside;
mod comments;
mod dialect;
mod error;
mod lay;
mod method;
mod options;
mod outcome;
mod pipe;
mod relay;
mod request;
mod resume;
mod run;
mod runs;
mod session;
mod split;
mod sql;
mod state;
mod whereabouts;

pub use dialect::Dialect;
pub use error::Error;
pub use method::{Choice, Method};
pub use options::{GtidUse, ServerNeeds, redo_bytes, server_options};
pub use outcome::{LeftOut, Mark, Outcome, Plan, Prepared, Progress, Proof, RangeSummary};
pub use pipe::{LONGEST_START, NO_LOGIN_FILE, cuts_long_starts};
pub use request::{Account, OnError, Request, SCHEMA_VERSION, StartAt, TargetAt};
pub use run::{check_held, clean, plan, prepare, run};
pub use whereabouts::{WhereRequest, Whereabouts, whereabouts};
