//! A backup: rounds of checkpoints, then the server's files, then the manifest.

mod options;
mod outcome;
mod plan;
mod rounds;
mod server_part;
pub(crate) mod source;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

pub use self::options::Options;
pub use self::outcome::Report;
pub(crate) use self::outcome::{Rounds, ServerPart, outcome};
pub use self::plan::{Plan, plan};
pub use self::source::Locking;
use self::source::Source;
use crate::content::Reading;
use crate::limit::Limiter;
use crate::manifest::{self, Entry, Manifest};
use crate::names::{self, Kind};
use crate::server::Server;
use crate::sink::{Member, Sink};
use crate::{Clock, Error, Event, Stop};

/// Direct reads begin at this size; smaller files are not worth the threads.
const DIRECT_FROM: u64 = 1024 * 1024;

/// Takes a backup of `server` into `sink`.
///
/// The checkpoints are removed whatever happens. On an error the sink was not finished, so what it wrote does not look
/// like a backup.
///
/// # Errors
///
/// Everything that [`Error`] lists for servers, files and sinks.
pub fn backup(
    server: &mut dyn Server,
    sink: &mut dyn Sink,
    clock: &dyn Clock,
    options: &Options,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let source = Source::open(server, clock, options, stop, tell)?;
    let limiter = Limiter::new(clock, options.rate_limit);
    let mut run = Run {
        direct: options.direct.unwrap_or(source.facts.direct_reads),
        reading: Reading::new(options.checksum, options.readers, &limiter, stop),
        sent: BTreeMap::new(),
        sent_bytes: 0,
        progress: (0, source.begun),
        source,
        sink,
    };
    let (rounds, kept) = run.rounds()?;
    let server_part = run.server_part(kept)?;
    let (manifest, mut report) = outcome(&run.source, rounds, server_part)?;
    run.send_manifest(&manifest)?;
    run.sink.finish()?;
    report.seconds = (clock.elapsed() - run.source.begun).as_secs_f64();
    Ok(report)
}

/// A backup into a sink, file by file.
struct Run<'s, 'r> {
    source: Source<'s>,
    sink: &'r mut dyn Sink,
    reading: Reading<'r>,
    direct: bool,
    sent: BTreeMap<String, Entry>,
    sent_bytes: u64,
    /// Bytes at the last progress event, and when it was.
    progress: (u64, Duration),
}

impl Run<'_, '_> {
    /// Sends one file of the checkpoint.
    fn send(&mut self, name: &Path, path: &Path) -> Result<Entry, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let meta = file.metadata().map_err(Error::io("read", path))?;
        let (member, kind) = (Member::of(name, &meta), names::kind(name));
        let direct = self.direct && kind == Kind::Data && member.size >= DIRECT_FROM;
        // Two look-ups for one value: the borrow of the first would outlive its branch.
        if direct && let Some(mut content) = self.reading.direct(path, member.size)? {
            self.sink.file(&member, &mut content)?;
            let sum = content.sum()?;
            return Ok(entry(&member, sum, kind));
        }
        let mut content = match kind {
            Kind::Data => self.reading.unchanging(path, file, member.size),
            _ => self.reading.file(path, file, member.size),
        };
        self.sink.file(&member, &mut content)?;
        let sum = content.sum()?;
        Ok(entry(&member, sum, kind))
    }

    fn send_manifest(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let (path, bytes) = (Path::new(manifest::NAME), manifest.to_bytes());
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (size, modified) = (bytes.len() as u64, self.source.clock.now());
        let member = Member { path: path.to_owned(), size, mode: 0o640, uid, gid, modified };
        // It has the last word whatever the rate.
        let unlimited = Limiter::new(self.source.clock, None);
        let mut reading = Reading::new(manifest.checksum, 1, &unlimited, self.source.stop);
        let mut content = reading.bytes(path, &bytes);
        self.sink.file(&member, &mut content)?;
        content.sum().map(drop)
    }
}

fn entry(member: &Member, sum: crate::Sum, kind: Kind) -> Entry {
    Entry { path: member.path.clone(), size: member.size, sum, kind, from: None, obsolete: false }
}
