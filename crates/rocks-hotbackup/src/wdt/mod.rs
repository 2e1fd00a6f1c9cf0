//! Backups that WDT sends: <https://github.com/facebook/wdt>, driven by its command line (seen with version 1.32).
//!
//! Rounds as in every other backup: a checkpoint, whose data files are sent; a new one if the interval is over before.
//! What a round did not send the next one resumes, because the receiver keeps a log and data files never change. Once
//! the data are there, logs, RocksDB's own files and the server's files of the last checkpoint follow, in as many runs
//! as they need. Then the receiver's files are compared with what was sent, and the manifest is put beside them.

mod receiver;
mod rounds;
mod session;

use std::path::PathBuf;

use remote_exec::{Host, Method};

use self::receiver::Receiver;
use self::rounds::Transfer;
use crate::backup::source::Source;
use crate::backup::{Options, Report, outcome};
use crate::server::Server;
use crate::sink::remote::{failed, runtime};
use crate::{Clock, Error, Event, Stop};

/// What is to be sent where.
#[derive(Debug, Clone)]
pub struct Request {
    /// As for other backups; [`Options::interval`] limits a round, or none if it is 0. Rate limit and direct I/O are WDT's own.
    pub options: Options,
    /// The host that receives.
    pub host: remote_exec::ssh::Options,
    /// The directory there.
    pub directory: PathBuf,
    /// Average rate, in MB/s, if it is limited.
    pub megabytes_per_second: Option<u64>,
    /// More options for the sender.
    pub sender_options: Vec<String>,
    /// More options for the receiver.
    pub receiver_options: Vec<String>,
    /// The name of the program on both hosts.
    pub program: String,
}

/// Takes a backup of `server` to another host.
///
/// A directory there that holds anything is refused, unless an earlier run of this left it unfinished; then it is
/// gone on with.
///
/// # Errors
///
/// [`Error::Wdt`], [`Error::Remote`], [`Error::NotEmpty`], and the errors of every other backup.
pub fn backup(
    server: &mut dyn Server,
    clock: &dyn Clock,
    request: &Request,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let source = Source::open(server, clock, &request.options, stop, tell)?;
    let runtime = runtime()?;
    let host = runtime
        .block_on(Host::connect(Method::Ssh(request.host.clone())))
        .map_err(failed(&request.host.host, "be reached"))?;
    // File numbers mean the same files only within one database; WDT compares names and sizes.
    let id = source.identity.clone().unwrap_or_else(|| source.datadir.display().to_string());
    let receiver = Receiver { host: &host, directory: &request.directory, id: &id };
    runtime.block_on(receiver.begin())?;
    let mut transfer = Transfer::new(source, request, &runtime, &receiver);
    let rounds = transfer.rounds()?;
    let (rounds, server_part) = transfer.rest(rounds)?;
    let (manifest, mut report) = outcome(&transfer.source, rounds, server_part)?;
    runtime.block_on(receiver.finish(&manifest))?;
    report.seconds = (clock.elapsed() - transfer.source.begun).as_secs_f64();
    drop(transfer);
    runtime.block_on(host.close());
    Ok(report)
}
