//! Where a replay that was cut off goes on, and when nothing in the server can say so.
//!
//! The server may have crashed: it has lost what was committed in its last second
//! (`innodb_flush_log_at_trx_commit=0`), and with it the GTIDs of those transactions. That is exact as long as
//! both were committed together. What is not committed together is refused here: changes of tables without
//! transactions, and a statement that commits by itself, if it comes next.

use std::collections::BTreeSet;

use super::dialect::Dialect;
use super::error::Error;
use super::method::Method;
use super::options::GtidUse;
use super::session::Session;
use super::sql::journal;
use super::state::{self, Setup};
use crate::choose::Place;
use crate::event::{Event, EventKind, Malformed, MariaDbGtid, Query};
use crate::gtid::{Gtid, GtidSet};
use crate::range::Range;
use crate::reader::Reader;
use crate::target::{Position, Start};
use crate::version::Flavor;

/// What a replay that goes on has still to apply.
pub(super) struct Rest {
    /// Where it starts.
    pub(super) start: Start,
    /// The place behind the start up to which everything was applied.
    pub(super) done: Option<Place>,
}

/// Where a replay that goes on has to start; `None` if nothing of it was applied yet. `before` is what the
/// server held before `range`.
pub(super) async fn where_it_stands(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    before: Option<GtidSet>,
    start: &Start,
) -> Result<Option<Rest>, Error> {
    // MariaDB's first row of a replay that went on by the state names the head of a file and no GTID: the state still says it.
    let by_state = |position: &Position, gtid: Option<&str>| {
        setup.server.flavor == Flavor::MariaDb && gtid.is_none() && *position != start.position
    };
    if let Some((position, gtid)) = journal::read(session).await?
        && !by_state(&position, gtid.as_deref())
    {
        let done = Some(Place { position, gtid });
        let done = done.filter(|place| place.position != start.position || place.gtid.is_some());
        return Ok(Some(Rest { start: start.clone(), done }));
    }
    // A state that names only some of the transactions says nothing of the others.
    let (GtidUse::All, Some(expected), Some(before)) = (setup.gtids, &range.expected, before) else {
        return Err(Error::NoTrace);
    };
    let held = state::read(session, setup).await?;
    if !state::position(&before).is_subset(&held) {
        return Ok(None);
    }
    if !held.is_subset(&expected.union(&before)) {
        return Err(Error::NotResumable { held: held.to_string() });
    }
    let mut position = start.position.clone();
    if setup.server.flavor == Flavor::MariaDb {
        // Behind a position nothing counts as held; from the head of the file the GTIDs decide.
        position.pos = Position::FIRST;
    }
    Ok(Some(Rest { start: Start { position, executed: Some(held) }, done: None }))
}

/// Refuses to go on where what the server holds and what it says that it holds may differ. `rest` is what it
/// does not say to hold.
pub(super) async fn check_crashed(
    session: &mut Session,
    setup: &Setup<'_>,
    rest: &Range,
) -> Result<(), Error> {
    // Of MariaDB's table of GTIDs, too: it is made with the engine that was the default then.
    let sql = "SELECT CONCAT(t.table_schema, '.', t.table_name, ' (', t.engine, ')') \
               FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine \
               WHERE t.table_type NOT LIKE '%VIEW%' AND e.transactions <> 'YES' \
               AND (t.table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') \
               OR t.table_schema = 'mysql' AND t.table_name LIKE 'gtid\\_%') ORDER BY 1 LIMIT 1";
    let table = session.text(sql).await?;
    if !table.is_empty() {
        return Err(Error::InDoubt {
            what: format!("the last changes of {table}, which has no transactions,"),
        });
    }
    // With `sql` its own table tells what was begun.
    let atomic = Dialect::of(setup.server).ddl_is_atomic();
    if setup.method == Method::Sql || atomic {
        return Ok(());
    }
    match first_alone(rest)? {
        Some(position) => Err(Error::InDoubt { what: format!("the statement at {position}") }),
        None => Ok(()),
    }
}

/// The first transaction of a domain in `range` that was not committed together with its GTID, if there is one.
fn first_alone(range: &Range) -> Result<Option<Position>, Error> {
    let mut domains = BTreeSet::new();
    for file in &range.files {
        let mut reader = Reader::open_at(&file.path, file.start)?;
        // A GTID event of MySQL does not tell; the event behind it does.
        let mut named: Option<u64> = None;
        while reader.offset() < file.stop {
            let Some(raw) = reader.next_event()? else { break };
            let wrong =
                |e: Malformed| Error::Event { file: file.name.clone(), pos: raw.offset, what: e.to_string() };
            let at = |pos| Some(Position::new(&*file.name, pos));
            let left_out = |gtid: Option<&Gtid>| gtid.is_some_and(|gtid| range.leaves_out(gtid));
            if raw.header.kind.is_gtid() {
                match raw.decode().map_err(wrong)? {
                    Event::MariaDbGtid(event) => {
                        let Gtid::MariaDb { domain, .. } = event.gtid else { continue };
                        if left_out(Some(&event.gtid)) || !domains.insert(domain) {
                            continue;
                        }
                        let xa = MariaDbGtid::PREPARED_XA | MariaDbGtid::COMPLETED_XA;
                        if event.flags & MariaDbGtid::TRANSACTIONAL == 0 || event.flags & xa != 0 {
                            return Ok(at(raw.offset));
                        }
                        if let Some(GtidSet::MariaDb(applied)) = &range.applied
                            && applied.iter().all(|(domain, _)| domains.contains(&domain))
                        {
                            return Ok(None);
                        }
                    }
                    Event::MySqlGtid(event) if !left_out(event.gtid.as_ref()) => named = Some(raw.offset),
                    _ => {}
                }
                continue;
            }
            let Some(start) = named else { continue };
            let begins = raw.header.kind == EventKind::TRANSACTION_PAYLOAD
                || Query::peek_text(raw.body()).is_some_and(|text| text == b"BEGIN");
            return Ok(if begins { None } else { at(start) });
        }
    }
    Ok(None)
}
