//! Backups that WDT sends: <https://github.com/facebook/wdt>, driven by its command line (seen with version 1.32).
//!
//! Each round makes a checkpoint, puts the server's files beside it, starts a receiver on the other host and a sender
//! here, both with the interval as their limit. What a round did not send the next one resumes, because the receiver
//! keeps a log; only data files may stay for that, since they never change. Both ends say 0 when all is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remote_exec::{Host, Method};
use secrecy::SecretString;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::backup::{Options, check_filesystem, scope};
use crate::checkpoint::{Place, Workspace};
use crate::event::milliseconds;
use crate::server::{Facts, Server};
use crate::server_files::Definitions;
use crate::sink::remote::{failed, runtime};
use crate::{Clock, Error, Event, Stop, names};

/// Longest connection URL, in bytes; real ones have about 200.
const MAX_URL: usize = 64 * 1024;

/// How long a receiver may take to print its URL.
const URL_WAIT: Duration = Duration::from_secs(60);

/// Rounds that may end in a lost connection before the backup gives up.
const LOST: u32 = 5;

/// How long to wait after a lost connection.
const PAUSE: Duration = Duration::from_secs(2);

/// What is to be sent where.
#[derive(Debug, Clone)]
pub struct Request {
    /// As for other backups; [`Options::interval`] limits a round. What concerns streams is ignored.
    pub options: Options,
    /// The host that receives.
    pub host: remote_exec::ssh::Options,
    /// The directory there.
    pub directory: PathBuf,
    /// Average rate, in MB/s.
    pub megabytes_per_second: u64,
    /// More options for the sender.
    pub sender_options: Vec<String>,
    /// More options for the receiver.
    pub receiver_options: Vec<String>,
    /// The name of the program on both hosts.
    pub program: String,
}

/// What the backup became.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Checkpoints that were made.
    pub rounds: u32,
    /// How long it took.
    pub seconds: f64,
    /// How long the longest lock was held, in milliseconds.
    pub lock_milliseconds: Option<u64>,
}

/// What an exit status of `wdt` means for the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Done,
    /// The time was over: the next round goes on.
    Aborted,
    /// The connection was lost: a few more rounds are worth it.
    Lost,
    Failed,
}

fn meaning(status: i32) -> (Meaning, &'static str) {
    match status {
        0 => (Meaning::Done, "OK"),
        2 => (Meaning::Aborted, "ABORT"),
        3 | 4 => (Meaning::Lost, "CONN_ERROR"),
        5 => (Meaning::Lost, "SOCKET_READ_ERROR"),
        6 => (Meaning::Lost, "SOCKET_WRITE_ERROR"),
        1 => (Meaning::Failed, "ERROR"),
        _ => (Meaning::Failed, "an error"),
    }
}

/// Takes a backup of `server` to another host.
///
/// # Errors
///
/// [`Error::Wdt`], [`Error::Remote`], and the errors of every other backup.
pub fn backup(
    server: &mut dyn Server,
    clock: &dyn Clock,
    request: &Request,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let result = run(server, clock, request, stop, tell);
    if result.is_err() {
        let _ = server.unlock();
    }
    result
}

fn run(
    server: &mut dyn Server,
    clock: &dyn Clock,
    request: &Request,
    stop: &Stop,
    tell: &mut dyn FnMut(&Event),
) -> Result<Report, Error> {
    let (begun, start) = (clock.elapsed(), clock.now());
    let options = &request.options;
    let facts = server.facts()?;
    let datadir = options.datadir.clone().unwrap_or_else(|| facts.datadir.clone());
    tell(&Event::Reading { direct: false, datadir: datadir.clone() });
    check_filesystem(options, &facts)?;
    for engine in server.left_out()? {
        tell(&Event::LeftOut(engine));
    }
    let (workspace, orphans) = Workspace::open(&options.checkpoint_dir, &facts.rocksdb_datadir)?;
    for path in orphans {
        tell(&Event::OrphanRemoved { path });
    }
    let runtime = runtime()?;
    let far = runtime
        .block_on(Host::connect(Method::Ssh(request.host.clone())))
        .map_err(failed(&request.host.host, "be reached"))?;
    let mut report = Report { rounds: 0, seconds: 0.0, lock_milliseconds: None };
    let mut lost = 0;
    loop {
        stop.check()?;
        report.rounds += 1;
        let place = workspace.place(&report.rounds.to_string());
        let mut round = Round { server, clock, options, facts: &facts, datadir: &datadir, stop, tell };
        let held = round.prepare(&place, report.rounds, start)?;
        report.lock_milliseconds = report.lock_milliseconds.max(held);
        let sent = runtime.block_on(send(&far, request, &datadir, place.path(), stop))?;
        place.remove()?;
        match sent.judge()? {
            Meaning::Done => break,
            Meaning::Lost if lost + 1 < LOST => {
                lost += 1;
                clock.sleep(PAUSE);
            }
            Meaning::Lost => return Err(sent.error()),
            _ => lost = 0,
        }
        tell(&Event::RoundOver { seconds: (clock.elapsed() - begun).as_secs_f64(), remaining: 0 });
    }
    runtime.block_on(far.close());
    report.seconds = (clock.elapsed() - begun).as_secs_f64();
    Ok(report)
}

struct Round<'a> {
    server: &'a mut dyn Server,
    clock: &'a dyn Clock,
    options: &'a Options,
    facts: &'a Facts,
    datadir: &'a Path,
    stop: &'a Stop,
    tell: &'a mut dyn FnMut(&Event),
}

impl Round<'_> {
    /// Makes the checkpoint and puts the server's files into it; gives the milliseconds under the lock.
    fn prepare(
        &mut self,
        place: &Place,
        round: u32,
        start: std::time::SystemTime,
    ) -> Result<Option<u64>, Error> {
        let since = match self.options.no_lock {
            true => None,
            false => match self.server.lock() {
                Ok(lock) => {
                    (self.tell)(&Event::Locked { lock });
                    Some(self.clock.elapsed())
                }
                Err(e @ (Error::Privilege { .. } | Error::Statement { .. })) if !self.options.consistent => {
                    (self.tell)(&Event::Warning {
                        text: format!("{e}; the server's files are read as they are"),
                    });
                    None
                }
                Err(e) => return Err(e),
            },
        };
        let scope = scope(self.facts, self.datadir, self.options);
        let watched = since.is_none() && !self.options.skip_definition_check;
        let definitions = match watched {
            true => Some(Definitions { start, names: scope.definitions()? }),
            false => None,
        };
        self.server.create_checkpoint(place.path())?;
        let listing = scope.list()?;
        let dir = place.path();
        for database in &listing.directories {
            let path = dir.join(database);
            std::fs::create_dir(&path).map_err(Error::io("create", path))?;
        }
        for found in &listing.files {
            self.stop.check()?;
            let target = dir.join(&found.path);
            match std::fs::copy(&found.source, &target) {
                // A log that was rotated away since it was listed.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && definitions.is_none() => {}
                other => drop(other.map_err(Error::io("copy", &found.source))?),
            }
        }
        if let Some(definitions) = definitions {
            definitions.check(&scope)?;
        }
        let held = match since {
            Some(since) => {
                self.server.unlock()?;
                let held = milliseconds(self.clock.elapsed() - since);
                (self.tell)(&Event::Unlocked { milliseconds: held });
                Some(held)
            }
            None => None,
        };
        let mut data = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            if names::kind(Path::new(&entry.file_name())) == names::Kind::Data {
                data.insert(
                    entry.file_name(),
                    entry.metadata().map_err(Error::io("read", entry.path()))?.len(),
                );
            }
        }
        let (files, bytes) = (data.len(), data.values().sum());
        (self.tell)(&Event::Checkpoint { round, path: dir.to_owned(), files, bytes, known: 0 });
        Ok(held)
    }
}

/// How the two ends of a round ended.
struct Sent {
    sender: (i32, String),
    receiver: (i32, String),
}

impl Sent {
    fn judge(&self) -> Result<Meaning, Error> {
        let (sender, receiver) = (meaning(self.sender.0).0, meaning(self.receiver.0).0);
        match (sender, receiver) {
            (Meaning::Done, Meaning::Done) => Ok(Meaning::Done),
            (Meaning::Failed, _) | (_, Meaning::Failed) => Err(self.error()),
            (Meaning::Aborted, _) | (_, Meaning::Aborted) => Ok(Meaning::Aborted),
            _ => Ok(Meaning::Lost),
        }
    }

    fn error(&self) -> Error {
        let of = |side, end: &(i32, String)| Error::Wdt {
            side,
            status: end.0,
            meaning: meaning(end.0).1,
            log: end.1.clone(),
        };
        match meaning(self.receiver.0).0 {
            Meaning::Failed => of("receiver", &self.receiver),
            _ => of("sender", &self.sender),
        }
    }
}

async fn send(
    far: &Host,
    request: &Request,
    datadir: &Path,
    from: &Path,
    stop: &Stop,
) -> Result<Sent, Error> {
    let fail = |action| failed(far.name(), action);
    let directory = &request.directory;
    far.files().create_dir_all(directory).await.map_err(fail("create the directory"))?;
    // CURRENT first: without it nothing there is a database. Then all that is not a data file: it can change
    // without changing its size, and a receiver that resumes would keep the old one.
    far.command("rm")
        .arg("-f")
        .arg("--")
        .arg(directory.join("CURRENT"))
        .run()
        .await
        .map_err(fail("remove CURRENT"))?;
    let old = far.command("find").arg(directory).args([
        "-type", "f", "!", "-name", "*.sst", "!", "-name", "*.blob", "!", "-name", ".wdt.log", "-delete",
    ]);
    old.run().await.map_err(fail("remove the files of an earlier round"))?;

    let seconds = request.options.interval.as_secs().max(1).to_string();
    let mut receiver = far
        .command(&request.program)
        .arg("-directory")
        .arg(directory)
        .args(["-start_port", "0", "-enable_download_resumption", "-recovery_id"])
        .arg(datadir)
        .args(["-abort_after_seconds", seconds.as_str()])
        .args(&request.receiver_options)
        .stdin_null()
        .spawn()
        .await
        .map_err(fail("start the receiver of WDT"))?;
    let url = match receiver.stdout.take() {
        Some(mut stdout) => {
            let line = tokio::time::timeout(URL_WAIT, first_line(&mut stdout)).await.unwrap_or_default();
            // Nothing more is expected there, but a full pipe would stop the receiver.
            receiver.stdout = Some(stdout);
            line
        }
        None => None,
    };
    let Some(url) = url else {
        let receiver = ended(receiver, far.name()).await?;
        let status = if receiver.0 == 0 { -1 } else { receiver.0 };
        let meaning = "no connection URL came";
        return Err(Error::Wdt { side: "receiver", status, meaning, log: receiver.1 });
    };
    let here = Host::local();
    // The URL holds the key of the session: `wdt -` reads it from its standard input.
    let sender = here
        .command(&request.program)
        .arg("-directory")
        .arg(from)
        .args(["-app_name=myrocks", "-avg_mbytes_per_sec"])
        .arg(request.megabytes_per_second.to_string())
        .args(["-enable_download_resumption", "-abort_after_seconds", seconds.as_str()])
        .args(&request.sender_options)
        .arg("-")
        .secret_stdin(url)
        .spawn()
        .await
        .map_err(failed("this machine", "start the sender of WDT"))?;
    let stopped = async {
        while stop.check().is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let both = async { tokio::try_join!(ended(sender, "this machine"), ended(receiver, far.name())) };
    tokio::select! {
        // Both programs end with their handles.
        () = stopped => Err(stop.check().err().unwrap_or(Error::Stopped { signal: 0 })),
        both = both => both.map(|(sender, receiver)| Sent { sender, receiver }),
    }
}

/// The end of a program: its status and the last of its log.
async fn ended(child: remote_exec::Child, host: &str) -> Result<(i32, String), Error> {
    let output = child.wait_with_output(64 << 20).await.map_err(failed(host, "run WDT"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let from = log.char_indices().rev().nth(1000).map_or(0, |(at, _)| at);
    let log = hide_urls(log[from..].trim());
    Ok((output.status.code().into(), log))
}

/// A log with every session key cut out.
fn hide_urls(log: &str) -> String {
    let word = |word: &str| if word.contains("wdt://") { "wdt://…".to_owned() } else { word.to_owned() };
    log.lines().map(|l| l.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

async fn first_line(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<SecretString> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_URL {
        if reader.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        if byte[0] == b'\n' {
            let text = String::from_utf8(line).ok()?;
            let text = text.trim();
            return text.starts_with("wdt://").then(|| format!("{text}\n").into());
        }
        line.push(byte[0]);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sender: i32, receiver: i32) -> Result<Meaning, Error> {
        Sent { sender: (sender, String::new()), receiver: (receiver, String::new()) }.judge()
    }

    #[test]
    fn only_two_zeros_are_the_end() {
        assert_eq!(sent(0, 0).unwrap(), Meaning::Done);
        // What is seen when the receiver's time is over.
        assert_eq!(sent(6, 2).unwrap(), Meaning::Aborted);
        assert_eq!(sent(2, 0).unwrap(), Meaning::Aborted);
        assert_eq!(sent(0, 5).unwrap(), Meaning::Lost);
        for (sender, receiver) in [(1, 0), (0, 1), (1, 2), (8, 6), (-1, 0)] {
            assert!(matches!(sent(sender, receiver), Err(Error::Wdt { .. })), "{sender} {receiver}");
        }
    }

    #[test]
    fn session_keys_are_cut_out_of_logs() {
        let log = "I0101 url wdt://host?Enc=2:041e26&id=1 received\nsecond line";
        assert_eq!(hide_urls(log), "I0101 url wdt://… received\nsecond line");
    }
}
