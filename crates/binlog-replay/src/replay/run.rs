//! From a request to its outcome.

use std::fs;
use std::path::Path;
use std::time::Instant;

use mysql_async::Row;

use super::aside::aside;
use super::dialect::Dialect;
use super::error::Error;
use super::method::{Case, Choice, Method};
use super::options::{GtidUse, OWN_BINLOG, ServerNeeds, default_workers, server_options};
use super::outcome::{LeftOut, Outcome, Plan, Prepared, Progress, Proof, RangeSummary};
use super::relay::{CHANNEL, RELAY_LOG};
use super::request::{Account, Request, SCHEMA_VERSION, machine_memory, tools};
use super::resume::{Rest, check_crashed, where_it_stands};
use super::session::{Session, column, hex};
use super::split::position_of_client;
use super::sql::{self, journal};
use super::state::{self, Setup};
use super::{pipe, relay::replay as by_relay};
use crate::choose::choose_rest;
use crate::gtid::GtidSet;
use crate::range::Range;
use crate::scan::{FileInfo, Index, scan};
use crate::target::Start;
use crate::version::{Flavor, ServerVersion};

/// `server_id` of the temporary server; any will do.
const SERVER_ID: u32 = 4_294_967_203;

/// What a request comes to.
struct Decided {
    server: ServerVersion,
    range: Range,
    gtids: GtidUse,
    choice: Choice,
}

/// Says what a replay would do; reads the binlogs and touches nothing.
///
/// # Errors
///
/// Everything that can be known before: binlogs that are damaged, missing or of the other family, a target
/// outside of them or inside a transaction, a method that cannot do it.
pub fn plan(request: &Request) -> Result<Plan, Error> {
    Ok(decide(request)?.plan())
}

/// As [`plan`], with the options that the temporary server needs.
///
/// # Errors
///
/// As [`plan`].
pub fn prepare(request: &Request) -> Result<Prepared, Error> {
    let decided = decide(request)?;
    if let (Some(held), Some(expected)) = (request.held()?, &decided.range.expected)
        && !held.is_subset(&state::position(expected))
    {
        return Err(Error::NotResumable { held: held.to_string() });
    }
    let needs = ServerNeeds {
        method: decided.choice.method,
        gtids: decided.gtids,
        server_id: SERVER_ID,
        workers: request.workers.unwrap_or_else(|| default_workers(decided.server.flavor)),
        buffer_pool: request.buffer_pool.unwrap_or_else(|| (machine_memory() / 8).clamp(128 << 20, 8 << 30)),
    };
    let server_options = server_options(&decided.server, &needs);
    Ok(Prepared { plan: decided.plan(), server_options })
}

impl Decided {
    fn plan(&self) -> Plan {
        Plan {
            schema_version: SCHEMA_VERSION,
            choice: self.choice.clone(),
            gtids: self.gtids,
            range: RangeSummary::from(&self.range),
        }
    }

    /// What the server holds before the range; `None` without GTIDs.
    fn held_before(&self) -> Option<GtidSet> {
        let expected = self.range.expected.as_ref()?;
        Some(self.range.base.clone().unwrap_or_else(|| GtidSet::new(expected.flavor())))
    }
}

/// What lies between `rest` and the target.
fn range_of(request: &Request, rest: &Rest) -> Result<(Index, Range), Error> {
    let server = request.version()?;
    let (_, target, skip) = request.places()?;
    let index = scan(&request.binlogs)?;
    let range = choose_rest(&index, &rest.start, rest.done.as_ref(), &target, skip.as_ref())?;
    if range.flavor != server.flavor {
        return Err(Error::OtherFlavor { found: range.version.to_string(), server: server.to_string() });
    }
    Ok((index, range))
}

fn decide(request: &Request) -> Result<Decided, Error> {
    let server = request.version()?;
    let (start, _, _) = request.places()?;
    let (index, mut range) = range_of(request, &Rest { start, done: None })?;
    let gtids = gtid_use(&range);
    let newer = newer_source(&index, &range, &server);
    range.warnings.extend(newer.map(|newer| {
        format!("{newer} wrote the binlogs, and {server} applies them: what is new in them may be refused")
    }));
    let case = Case {
        server: &server,
        gtids,
        event_ddl: holds(&index, &range, |file| &file.event_ddl),
        unsaid: holds(&index, &range, |file| &file.unsaid),
        newer,
        on_error: request.on_error,
        tools: tools(request, server.flavor).is_some(),
        resume: request.resume,
        crashed: request.may_have_crashed(),
    };
    let method = request.method;
    let choice = case.choose(method).map_err(|reason| Error::Method { method, reason })?;
    Ok(Decided { server, range, gtids, choice })
}

/// The newest of the servers that wrote the range, if it is newer than the one that will apply it.
fn newer_source<'i>(index: &'i Index, range: &Range, server: &ServerVersion) -> Option<&'i ServerVersion> {
    let series = |version: &ServerVersion| (version.major, version.minor);
    let of_range = |info: &&FileInfo| range.files.iter().any(|file| file.path == info.path);
    let versions = index.files.iter().filter(of_range).filter_map(|info| info.version.as_ref());
    versions.max_by_key(|version| series(version)).filter(|version| series(version) > series(server))
}

/// Whether the range has one of the transactions that a file's list names.
fn holds(index: &Index, range: &Range, list: fn(&FileInfo) -> &[u64]) -> bool {
    range.files.iter().any(|file| {
        let known = index.files.iter().find(|info| info.path == file.path);
        known.is_some_and(|info| list(info).iter().any(|at| (file.start..file.stop).contains(at)))
    })
}

fn gtid_use(range: &Range) -> GtidUse {
    if range.flavor == Flavor::MariaDb {
        return GtidUse::All;
    }
    match &range.applied {
        // Nothing comes, and what the server holds has GTIDs.
        None if range.is_empty() && range.base.is_some() => GtidUse::All,
        None => GtidUse::None,
        Some(applied) => match applied.count() {
            n if n == range.transactions => GtidUse::All,
            0 => GtidUse::None,
            _ => GtidUse::Some,
        },
    }
}

/// Applies the transactions and proves that the server is where the plan said.
///
/// # Errors
///
/// As [`plan`]; a server that cannot be used, a transaction that it refused ([`Error::Refused`],
/// [`Error::Applier`], [`Error::Tool`]), or [`Error::Unproven`]. The server is left as it is then: it can be
/// looked at, and [`Request::resume`] goes on where it stands.
pub async fn run(request: &Request, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Outcome, Error> {
    let began = Instant::now();
    let account = request.server.as_ref().ok_or(Error::NoAccount)?;
    let (start, _, _) = request.places()?;
    let decided = decide_aside(request).await?;
    let mut session = Session::open(account).await?;
    // What this session does is no part of the replay.
    session.run("SET @@session.sql_log_bin=0").await?;
    let setup =
        Setup { request, server: &decided.server, method: decided.choice.method, gtids: decided.gtids };
    check_settings(&mut session, &setup).await?;
    // A backup may hold how the server followed another one. It would again from its next start on, and run away from the
    // target.
    state::forget_sources(&mut session, &setup).await?;
    let rest = rest(&mut session, &setup, &decided, &start).await?;
    let range = rest.as_ref().unwrap_or(&decided.range);
    let (transactions, left_out) = match range.is_empty() {
        true => (0, Vec::new()),
        false => apply(&mut session, &setup, range, account, progress).await?,
    };
    let proof = prove(&mut session, &setup, range, &decided.range, &left_out).await?;
    let warnings = prepared_transactions(&mut session).await.into_iter().collect();
    put_back(&mut session, &setup).await?;
    let gtid_state = match &decided.range.expected {
        Some(_) => Some(state::position(&state::read(&mut session, &setup).await?).to_string()),
        None => None,
    };
    session.close().await;
    Ok(Outcome {
        schema_version: SCHEMA_VERSION,
        method: decided.choice.method,
        reason: decided.choice.reason.clone(),
        range: RangeSummary::from(range),
        transactions,
        left_out,
        warnings,
        proof,
        gtid_state,
        elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Compares the running server with the state that it must be in (`held` of the request); applies nothing.
///
/// [`run`] does it too. Here it is by itself for a caller that must know, before anything is applied, that it was done: after
/// a crash in the middle of [`run`] the server is in another state.
///
/// # Errors
///
/// A server that cannot be used, or [`Error::Unproven`].
pub async fn check_held(request: &Request) -> Result<(), Error> {
    let account = request.server.as_ref().ok_or(Error::NoAccount)?;
    let server = request.version()?;
    let method = match request.method {
        Method::Auto => decide_aside(request).await?.choice.method,
        method => method,
    };
    let mut session = Session::open(account).await?;
    is_held(&mut session, &Setup { request, server: &server, method, gtids: GtidUse::All }).await?;
    session.close().await;
    Ok(())
}

async fn is_held(session: &mut Session, setup: &Setup<'_>) -> Result<(), Error> {
    let Some(held) = setup.request.held()? else { return Ok(()) };
    let found = state::read(session, setup).await?;
    let (expected, found) = (state::position(&held).to_string(), state::position(&found).to_string());
    same(state::source(setup), expected, found).map(drop)
}

/// [`decide`] on a thread that may block: it reads every binlog.
async fn decide_aside(request: &Request) -> Result<Decided, Error> {
    let request = request.clone();
    aside(move || decide(&request)).await
}

async fn apply(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    account: &Account,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(u64, Vec<LeftOut>), Error> {
    // The state of a replay that ended lacks what was left out, and nothing else.
    if let (Some(_), Some(missing)) = (&setup.request.held, &range.before_held) {
        let gtid = missing.gtid.as_ref().map_or_else(|| missing.start.to_string(), ToString::to_string);
        return Err(Error::LeftOut { gtid });
    }
    match setup.method {
        Method::Pipe => Ok((pipe::replay(session, setup, range, account, progress).await?, Vec::new())),
        Method::Relay => Ok((by_relay(session, setup, range, progress).await?, Vec::new())),
        Method::Sql | Method::Auto => sql::replay(session, setup, range, account, progress).await,
    }
}

/// The settings without which the method is not exact.
async fn check_settings(session: &mut Session, setup: &Setup<'_>) -> Result<(), Error> {
    let found: ServerVersion = session.text("SELECT VERSION()").await?.parse()?;
    if found.flavor != setup.server.flavor {
        return Err(Error::OtherFlavor { found: setup.server.to_string(), server: found.to_string() });
    }
    if setup.method == Method::Relay {
        let name = session.text("SELECT @@GLOBAL.relay_log").await?;
        let file = Path::new(&name).file_name().map(|n| n.to_string_lossy().into_owned());
        if file.as_deref() != Some(RELAY_LOG) {
            return Err(Error::Setting { setting: "relay_log", found: name, wanted: RELAY_LOG.into() });
        }
    }
    let needs_binlog = setup.method == Method::Pipe && setup.server.flavor == Flavor::MariaDb;
    if needs_binlog && !state::has_binlog(session).await? {
        let (found, wanted) = ("OFF".into(), "ON: only a binlog keeps the GTIDs of a MariaDB client".into());
        return Err(Error::Setting { setting: "log_bin", found, wanted });
    }
    Ok(())
}

/// Sets the GTID state before a new replay. For one that goes on: what is still missing. The method is the whole replay's: what
/// is exact for that is exact for its rest.
async fn rest(
    session: &mut Session,
    setup: &Setup<'_>,
    decided: &Decided,
    start: &Start,
) -> Result<Option<Range>, Error> {
    is_held(session, setup).await?;
    if setup.request.resume
        && let Some(rest) =
            where_it_stands(session, setup, &decided.range, decided.held_before(), start).await?
    {
        let request = setup.request.clone();
        let (_, rest) = aside(move || range_of(&request, &rest)).await?;
        if setup.request.may_have_crashed() {
            check_crashed(session, setup, &rest).await?;
        }
        return Ok(Some(rest));
    }
    journal::drop(session).await?;
    if let Some(held) = decided.held_before() {
        state::write(session, setup, &held).await?;
    }
    Ok(None)
}

/// What is said of distributed transactions that are prepared and were neither committed nor rolled back before the target: they
/// keep their locks, through every start of the server.
async fn prepared_transactions(session: &mut Session) -> Option<String> {
    let rows = match session.rows("XA RECOVER").await {
        Ok(rows) => rows,
        // What was proved stays proved.
        Err(error) => {
            return Some(format!("whether distributed transactions are prepared was not told: {error}"));
        }
    };
    let name = |row: &Row| {
        let length = |of: &str| column(row, of).parse().unwrap_or(0);
        let data: Vec<u8> = row.get("data").unwrap_or_default();
        let (global, rest) = data.split_at(data.len().min(length("gtrid_length")));
        let branch = &rest[..rest.len().min(length("bqual_length"))];
        format!("X'{}',X'{}',{}", hex(global), hex(branch), column(row, "formatID"))
    };
    let names: Vec<String> = rows.iter().map(name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "distributed transactions are prepared, and keep their locks until somebody says XA COMMIT or XA ROLLBACK: {}",
            names.join("; ")
        )
    })
}

/// Compares what the server says with what the plan said. `range` is what was applied now, the end of `whole`.
async fn prove(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    whole: &Range,
    left_out: &[LeftOut],
) -> Result<Proof, Error> {
    let expected = whole.expected.as_ref();
    let journals = setup.method == Method::Sql && sql::journals(setup);
    // An earlier run may have been cut off between its last transaction and here.
    let row = if journals || range.is_empty() { journal::read(session).await? } else { None };
    let journalled = row.is_some() || journals && !range.is_empty();
    let mut proof = None;
    if let (true, Some(last)) = (journalled, &whole.last) {
        let found = row.map_or_else(String::new, |(place, _)| place.to_string());
        proof = Some(same("mysql.dbrecover_replay", last.end.to_string(), found)?);
        // The state first: a crash between the two leaves a place to go on from.
        if let (Flavor::MariaDb, Some(expected)) = (setup.server.flavor, expected) {
            state::say_position(session, expected).await?;
        }
        journal::drop(session).await?;
    }
    if let Some(expected) = expected {
        let found = match setup.method {
            Method::Pipe => prove_pipe(session, setup, range, expected).await?,
            _ => state::prove(session, setup, expected).await?,
        };
        tracing::debug!(%found, left_out = left_out.len(), "proved");
        // What the state does not name, it does not prove.
        if setup.gtids == GtidUse::All {
            let (expected, found) =
                (state::position(expected).to_string(), state::position(&found).to_string());
            return Ok(Proof { source: state::source(setup).into(), expected, found });
        }
    }
    let last = range.last.as_ref().map_or_else(|| range.start().to_string(), |last| last.end.to_string());
    let source = match setup.method {
        Method::Pipe => "the exit status of both tools",
        _ => "the end of the relay logs",
    };
    let proven = Proof { source: source.into(), expected: last.clone(), found: last };
    Ok(proof.unwrap_or(proven))
}

/// Compares the state that a client left behind with the plan's, and makes it the server's.
async fn prove_pipe(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    expected: &GtidSet,
) -> Result<GtidSet, Error> {
    let split = match range.is_empty() {
        true => None,
        false => {
            let (range, expected) = (range.clone(), expected.clone());
            aside(move || position_of_client(&range, &expected)).await?
        }
    };
    let mut found = state::prove(session, setup, split.as_ref().unwrap_or(expected)).await?;
    if setup.server.flavor == Flavor::MariaDb {
        if split.is_some() {
            // Its binlog names a transaction that is none of the source's, under a number that the next one may have.
            session.run(Dialect::of(setup.server).reset_gtids()).await?;
        }
        state::say_position(session, expected).await?;
        if split.is_some() {
            found = state::prove(session, setup, expected).await?;
        }
    }
    journal::drop(session).await?;
    Ok(found)
}

fn same(source: &str, expected: String, found: String) -> Result<Proof, Error> {
    if expected == found {
        return Ok(Proof { source: source.into(), expected, found });
    }
    Err(Error::Unproven { source_of_state: source.into(), expected, found })
}

/// Puts the settings that were chosen for speed back to safe ones, and what is not yet on disk there.
async fn put_back(session: &mut Session, setup: &Setup<'_>) -> Result<(), Error> {
    session.run("SET GLOBAL innodb_flush_log_at_trx_commit=1").await?;
    session.run("SET GLOBAL sync_binlog=1").await?;
    if setup.method != Method::Relay {
        session.run("SET GLOBAL local_infile=0").await?;
    }
    session.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS").await
}

/// Removes from the data directory of a stopped server what a replay left there: relay logs, and the binlog
/// that MariaDB needed.
///
/// # Errors
///
/// [`Error::File`] if the folder cannot be read or a file not removed.
pub fn clean(datadir: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(datadir).map_err(Error::file("reading", datadir))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("reading", datadir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = [RELAY_LOG, OWN_BINLOG].iter().any(|base| {
            name.strip_prefix(base).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('-'))
        });
        let states = ["relay-log-", "master-"].iter().any(|s| name == format!("{s}{CHANNEL}.info"));
        if ours || states {
            fs::remove_file(entry.path()).map_err(Error::file("removing", entry.path()))?;
        }
    }
    Ok(())
}
