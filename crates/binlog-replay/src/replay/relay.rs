//! The server's own applier, fed with the binlogs as relay logs.
//!
//! A channel of its own is used, so that nothing a backed-up replica knew about its source is in the way
//! and its files can be laid down while the server runs. The relay logs hold exactly the chosen range, so
//! that the applier simply runs to their end: no `UNTIL`, which some versions serialise or apply to a
//! whole group only.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::DateTime;
use mysql_async::Row;

use super::dialect::Dialect;
use super::error::Error;
use super::lay::{Folder, Piece, time_at};
use super::options::GtidUse;
use super::outcome::Progress;
use super::runs;
use super::session::{Session, column};
use super::state::{self, Setup};
use crate::range::{Range, RangeFile};
use crate::statement::words_without_passwords;
use crate::version::Flavor;

/// Value of the server's `relay_log`.
pub(super) const RELAY_LOG: &str = "dbrecover-relay";
/// Name of the replication channel.
pub(super) const CHANNEL: &str = "dbrecover";
/// Time between two looks at the GTID state.
const POLL: Duration = Duration::from_millis(10);
/// Time between two looks at the applier's status, and between two reports.
const REPORT: Duration = Duration::from_millis(100);

fn relay_name(number: usize) -> String {
    format!("{RELAY_LOG}-{CHANNEL}.{number:06}")
}

/// Replays `range`; the server's GTID state is set already.
pub(super) async fn replay(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64, Error> {
    let began = Instant::now();
    let dialect = Dialect::of(setup.server);
    // Transactions without GTIDs do not move the state, which need not be empty for that.
    let by_state = range.expected.as_ref().filter(|_| setup.gtids == GtidUse::All);
    let end = lay(&setup.request.datadir, range, by_state.is_none())?;
    session.run(&dialect.change_source(CHANNEL, &relay_name(1))).await?;
    session.run(&dialect.start_applier(CHANNEL)).await?;
    let view = View { range, dialect, end, began };
    let mut looked: Option<Instant> = None;
    loop {
        let reached = match by_state {
            Some(expected) => state::reached(session, setup, expected).await?,
            None => false,
        };
        if reached || looked.is_none_or(|at| at.elapsed() >= REPORT) {
            looked = Some(Instant::now());
            let row = session.first::<Row>(&dialect.channel_status(CHANNEL)).await?;
            let row = row.ok_or_else(|| view.stopped(None, "the channel is gone".into()))?;
            if column(&row, "Last_SQL_Errno") != "0"
                || column(&row, dialect.column_applier_running()) != "Yes"
            {
                let reason = worker_error(session, setup, &row).await?;
                return Err(view.stopped(Some(&row), reason));
            }
            let reached = reached || by_state.is_none() && view.at_end(&row);
            view.report(&row, reached, progress);
            if reached {
                break;
            }
        }
        tokio::time::sleep(POLL).await;
    }
    session.run(&dialect.stop_applier(CHANNEL)).await?;
    // Without GTIDs the position may run ahead of the workers; stopping waits for them.
    let row = session.first::<Row>(&dialect.channel_status(CHANNEL)).await?;
    match row {
        Some(row) if column(&row, "Last_SQL_Errno") != "0" => {
            let reason = worker_error(session, setup, &row).await?;
            return Err(view.stopped(Some(&row), reason));
        }
        Some(row) if by_state.is_none() && !view.at_end(&row) => {
            return Err(view.stopped(Some(&row), "it did not reach the end of its relay logs".into()));
        }
        _ => {}
    }
    session.run(&dialect.forget_channel(CHANNEL)).await?;
    Ok(range.transactions)
}

/// Lays the range into the data directory; returns number and size of the last relay log.
fn lay(datadir: &Path, range: &Range, by_place: bool) -> Result<(usize, u64), Error> {
    let folder = Folder::open(datadir)?;
    remove_left_overs(datadir)?;
    let mut index = String::new();
    let mut last = (0, 0);
    for (i, file) in files_to_lay(range, by_place).iter().enumerate() {
        let keep = runs::kept(range, file)?;
        // MariaDB's applier must know the first file's name; see `lay::rotate`.
        let named = i == 0 && range.flavor == Flavor::MariaDb;
        let name = relay_name(i + 1);
        let size = folder.lay(&Piece { file, keep, named }, &name)?;
        index.push_str(&format!("./{name}\n"));
        last = (i + 1, size);
    }
    folder.write(&format!("{RELAY_LOG}-{CHANNEL}.index"), &index)?;
    Ok(last)
}

/// The files of the range. Where the end is known by the applier's place, they end with its last transaction: the place
/// does not move over what comes behind it.
fn files_to_lay(range: &Range, by_place: bool) -> Vec<RangeFile> {
    let mut files = range.files.clone();
    if let (true, Some(last)) = (by_place, &range.last)
        && let Some(at) = files.iter().rposition(|file| file.name == last.end.file && file.transactions > 0)
    {
        files.truncate(at + 1);
        files[at].stop = last.end.pos;
    }
    files
}

/// Removes the relay logs of an earlier run that did not end.
fn remove_left_overs(datadir: &Path) -> Result<(), Error> {
    let prefix = format!("{RELAY_LOG}-{CHANNEL}.");
    let entries = std::fs::read_dir(datadir).map_err(Error::file("reading", datadir))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("reading", datadir))?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_file(entry.path()).map_err(Error::file("removing", entry.path()))?;
        }
    }
    Ok(())
}

/// What the applier's status rows mean for this range.
struct View<'a> {
    range: &'a Range,
    dialect: Dialect,
    end: (usize, u64),
    began: Instant,
}

impl View<'_> {
    /// Whether everything in the laid files was read and applied.
    fn at_end(&self, row: &Row) -> bool {
        let file = column(row, "Relay_Log_File");
        let number = file.rsplit_once('.').and_then(|(_, n)| n.parse::<usize>().ok()).unwrap_or(0);
        let pos = column(row, "Relay_Log_Pos").parse::<u64>().unwrap_or(0);
        number > self.end.0 || (number == self.end.0 && pos >= self.end.1)
    }

    /// Index of the file and offset in it that the applier reached, in the source's terms.
    fn place(&self, row: &Row) -> (usize, u64) {
        let name = column(row, self.dialect.column_source_file());
        let pos = column(row, self.dialect.column_source_pos()).parse().unwrap_or(0);
        let at = self.range.files.iter().position(|f| f.name == name).unwrap_or(0);
        let file = &self.range.files[at];
        (at, u64::clamp(pos, file.start, file.stop.max(file.start)))
    }

    fn report(&self, row: &Row, reached: bool, progress: &mut (dyn FnMut(Progress) + Send)) {
        let (at, pos) = self.place(row);
        let files = &self.range.files;
        let before: u64 = files[..at].iter().map(|f| f.stop - f.start).sum();
        let bytes = if reached { self.range.bytes } else { before + (pos - files[at].start) };
        let share = |total: u64| {
            let part = u128::from(total) * u128::from(bytes) / u128::from(self.range.bytes.max(1));
            u64::try_from(part).unwrap_or(total).min(total)
        };
        let time = time_at(&files[at].path, pos).filter(|t| *t != 0);
        progress(
            Progress {
                transactions: share(self.range.transactions),
                transactions_total: self.range.transactions,
                bytes,
                bytes_total: self.range.bytes,
                reached: time.and_then(|t| DateTime::from_timestamp(i64::from(t), 0)),
                position: Some(format!("{}:{pos}", files[at].name)),
                ..Progress::default()
            }
            .timed(self.began.elapsed()),
        );
    }

    fn stopped(&self, row: Option<&Row>, reason: String) -> Error {
        let (at, pos) = row.map_or((0, self.range.files[0].start), |row| self.place(row));
        // The words may end in the whole statement.
        let reason = words_without_passwords(&reason, b"");
        Error::Applier { after: format!("{}:{pos}", self.range.files[at].name), reason }
    }
}

/// The words of the worker that failed; MySQL's own status row only points to them.
async fn worker_error(session: &mut Session, setup: &Setup<'_>, row: &Row) -> Result<String, Error> {
    if setup.server.flavor == Flavor::MySql {
        let sql = format!(
            "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker \
             WHERE CHANNEL_NAME='{CHANNEL}' AND LAST_ERROR_NUMBER<>0 ORDER BY LAST_ERROR_TIMESTAMP LIMIT 1"
        );
        let message = session.text(&sql).await?;
        if !message.is_empty() {
            return Ok(message);
        }
    }
    let message = column(row, "Last_SQL_Error");
    Ok(if message.is_empty() { "the server gives no reason".into() } else { message })
}
