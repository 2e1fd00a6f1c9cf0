//! The server's GTID state: set before a replay, read as its proof.

use super::dialect::Dialect;
use super::error::Error;
use super::method::Method;
use super::options::GtidUse;
use super::request::Request;
use super::session::{Session, column};
use crate::gtid::{GtidSet, MariaDbGtidSet};
use crate::version::{Flavor, ServerVersion};

/// What one replay works with.
pub(super) struct Setup<'a> {
    pub(super) request: &'a Request,
    pub(super) server: &'a ServerVersion,
    pub(super) method: Method,
    pub(super) gtids: GtidUse,
}

/// Where the state is read, in words for a report.
pub(super) fn source(setup: &Setup<'_>) -> &'static str {
    match (setup.server.flavor, setup.method) {
        (Flavor::MySql, _) => "@@GLOBAL.gtid_executed",
        (Flavor::MariaDb, Method::Pipe) => "@@GLOBAL.gtid_binlog_pos",
        (Flavor::MariaDb, _) => "@@GLOBAL.gtid_slave_pos",
    }
}

/// The server's state now.
pub(super) async fn read(session: &mut Session, setup: &Setup<'_>) -> Result<GtidSet, Error> {
    let flavor = setup.server.flavor;
    let text = match flavor {
        Flavor::MySql => session.text("SELECT @@GLOBAL.gtid_executed").await?,
        Flavor::MariaDb => session.text("SELECT @@GLOBAL.gtid_slave_pos").await?,
    };
    if flavor == Flavor::MariaDb && setup.method == Method::Pipe {
        let own: MariaDbGtidSet = session.text("SELECT @@GLOBAL.gtid_binlog_pos").await?.parse()?;
        return Ok(GtidSet::MariaDb(text.parse::<MariaDbGtidSet>()?.moved_to(&own)));
    }
    Ok(GtidSet::parse(flavor, &text)?)
}

/// A MariaDB set as a position; a MySQL set as it is.
pub(super) fn position(set: &GtidSet) -> GtidSet {
    match set {
        GtidSet::MariaDb(set) => GtidSet::MariaDb(set.to_position()),
        GtidSet::MySql(_) => set.clone(),
    }
}

/// Whether two states are the same, of MariaDB with the servers of the last transactions: where two servers wrote to one
/// domain at a time, one number may be two transactions.
fn same(a: &GtidSet, b: &GtidSet) -> bool {
    let (a, b) = (position(a), position(b));
    a == b && a.to_string() == b.to_string()
}

/// Whether the server holds everything in `expected`; of MariaDB, whether it is just there.
pub(super) async fn reached(
    session: &mut Session,
    setup: &Setup<'_>,
    expected: &GtidSet,
) -> Result<bool, Error> {
    let state = read(session, setup).await?;
    Ok(match expected {
        GtidSet::MariaDb(_) => same(expected, &state),
        GtidSet::MySql(_) => expected.is_subset(&state),
    })
}

/// Makes the server say that it holds exactly `set`.
pub(super) async fn write(session: &mut Session, setup: &Setup<'_>, set: &GtidSet) -> Result<(), Error> {
    let dialect = Dialect::of(setup.server);
    match setup.server.flavor {
        Flavor::MySql => {
            if read(session, setup).await? == *set {
                return Ok(());
            }
            session.run(dialect.reset_gtids()).await?;
            if !set.is_empty() {
                session.run(&format!("SET GLOBAL gtid_purged='{set}'")).await?;
            }
        }
        Flavor::MariaDb => {
            // An empty one is left alone: the statement waits for the engine, up to a second.
            if !session.text("SELECT @@GLOBAL.gtid_binlog_state").await?.is_empty() {
                session.run(dialect.reset_gtids()).await?;
            }
            say_position(session, set).await?;
        }
    }
    Ok(())
}

/// Makes a MariaDB server say that its tables hold `set`; what its binlog says is left as it is.
pub(super) async fn say_position(session: &mut Session, set: &GtidSet) -> Result<(), Error> {
    session.run(&format!("SET GLOBAL gtid_slave_pos='{}'", position(set))).await
}

/// Makes the server forget every source that it ever had, and their relay logs.
pub(super) async fn forget_sources(session: &mut Session, setup: &Setup<'_>) -> Result<(), Error> {
    let dialect = Dialect::of(setup.server);
    if setup.server.flavor == Flavor::MariaDb {
        // The statement for all of them means the one without a name only.
        for row in session.rows("SHOW ALL SLAVES STATUS").await? {
            let name = column(&row, "Connection_name");
            session.run(&dialect.forget_channel(&name.replace('\\', "\\\\").replace('\'', "\\'"))).await?;
        }
        return Ok(());
    }
    session.run(dialect.reset_replica_all()).await
}

/// Whether the server writes a binlog.
pub(super) async fn has_binlog(session: &mut Session) -> Result<bool, Error> {
    Ok(session.text("SELECT @@GLOBAL.log_bin + 0").await? == "1")
}

/// Compares the server's state with the plan's.
pub(super) async fn prove(
    session: &mut Session,
    setup: &Setup<'_>,
    expected: &GtidSet,
) -> Result<GtidSet, Error> {
    let found = read(session, setup).await?;
    if same(expected, &found) {
        return Ok(found);
    }
    Err(Error::Unproven {
        source_of_state: source(setup).into(),
        expected: position(expected).to_string(),
        found: found.to_string(),
    })
}
