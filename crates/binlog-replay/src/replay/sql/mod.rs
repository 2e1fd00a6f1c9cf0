//! Statements over one connection, made by this crate from the events.
//!
//! A thread reads and compiles ([`compile`]), this side sends. Every statement is known by its place, so that
//! a refusal names file, position, GTID and table.

mod compile;
pub(super) mod journal;
mod packet;
mod rows;
mod settings;
mod values;

use std::time::{Duration, Instant};

use chrono::DateTime;
use futures_util::{StreamExt, stream};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use self::compile::Target;
use self::packet::{Infile, Kind, Packet, Step};
use self::values::Collations;
use super::error::Error;
use super::options::GtidUse;
use super::outcome::{LeftOut, Progress};
use super::request::{Account, OnError};
use super::session::{Session, column};
use super::state::{self, Setup};
use crate::range::Range;
use crate::statement::{without_passwords, words_without_passwords};
use crate::version::Flavor;

/// Packets between the two sides.
const QUEUE: usize = 4;
/// Time between two reports.
const REPORT: Duration = Duration::from_millis(100);
/// Characters of a refused statement in an error.
const SHOWN: usize = 200;

/// Number of the warning that a table without transactions keeps what was rolled back.
const NOT_ROLLED_BACK: &str = "1196";

/// Whether the position has to be kept in a table.
pub(super) fn journals(setup: &Setup<'_>) -> bool {
    setup.server.flavor == Flavor::MariaDb || setup.gtids != GtidUse::All
}

/// Replays `range`; the server's GTID state is set already. Returns the number of applied transactions and
/// those that were left out.
pub(super) async fn replay(
    session: &mut Session,
    setup: &Setup<'_>,
    range: &Range,
    account: &Account,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(u64, Vec<LeftOut>), Error> {
    let journal = journals(setup);
    if journal {
        journal::create(session, &range.start(), journal::State::Done).await?;
    }
    session.run("SET GLOBAL local_infile=1").await?;
    let target = Target {
        server: setup.server.clone(),
        collations: collations(session).await?,
        journal,
        binlog: state::has_binlog(session).await?,
    };
    let (sender, packets) = mpsc::channel(QUEUE);
    let owned = range.clone();
    let compiling = tokio::task::spawn_blocking(move || compile::compile(&owned, target, sender));
    let mut connection = Session::open(account).await?;
    // As an applier: XA transactions leave the session when they are prepared, and rows may follow a CREATE.
    let mode = if setup.server.at_least(Flavor::MySql, 8, 0, 26) { "replica" } else { "slave" };
    connection.run(&format!("SET @@session.pseudo_{mode}_mode=1")).await?;
    let mut sending = Sending {
        connection,
        range,
        on_error: setup.request.on_error,
        applied: 0,
        left_out: Vec::new(),
        leaving: None,
        distributed: None,
        last: None,
        began: Instant::now(),
        reported: None,
    };
    let result = sending.all(packets, progress).await;
    let Sending { connection, applied, left_out, .. } = sending;
    connection.close().await;
    // Its queue is closed, so it ends at the next packet.
    let _ = compiling.await;
    result.map(|()| (applied, left_out))
}

/// Names of the server's collations by number.
async fn collations(session: &mut Session) -> Result<Collations, Error> {
    let failed = session.failed("reading the collations");
    let sql = "SELECT id, character_set_name, collation_name FROM information_schema.collations \
               WHERE id IS NOT NULL AND character_set_name IS NOT NULL";
    let rows: Vec<(u32, String, String)> = session.conn().query(sql).await.map_err(failed)?;
    let mut names: Collations = rows.into_iter().map(|(id, set, name)| (id, (set, name))).collect();
    // MariaDB 10.10 and later list the collations of several character sets here.
    let columns = session
        .text(
            "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='information_schema' \
             AND table_name='COLLATION_CHARACTER_SET_APPLICABILITY' AND column_name='FULL_COLLATION_NAME'",
        )
        .await?;
    if columns == "1" {
        let failed = session.failed("reading the collations");
        let sql = "SELECT id, character_set_name, full_collation_name \
                   FROM information_schema.collation_character_set_applicability WHERE id IS NOT NULL";
        let rows: Vec<(u32, String, String)> = session.conn().query(sql).await.map_err(failed)?;
        names.extend(rows.into_iter().map(|(id, set, name)| (id, (set, name))));
    }
    Ok(names)
}

/// The sending side.
struct Sending<'a> {
    connection: Session,
    range: &'a Range,
    on_error: OnError,
    applied: u64,
    left_out: Vec<LeftOut>,
    /// Number of the transaction whose rest is not to be applied.
    leaving: Option<u64>,
    /// The distributed transaction that has begun and is not prepared.
    distributed: Option<Distributed>,
    /// Place and time of the last transaction.
    last: Option<(usize, u64, u32)>,
    began: Instant,
    reported: Option<Instant>,
}

impl Sending<'_> {
    async fn all(
        &mut self,
        mut packets: mpsc::Receiver<Result<Packet, Error>>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        while let Some(packet) = packets.recv().await {
            let packet = packet?;
            self.packet(&packet).await?;
            if self.reported.is_none_or(|at| at.elapsed() > REPORT) {
                self.report(progress);
            }
        }
        self.report(progress);
        Ok(())
    }

    async fn packet(&mut self, packet: &Packet) -> Result<(), Error> {
        let mut next = 0;
        while next < packet.steps.len() {
            if let Some(number) = self.leaving {
                next = self.leave(packet, next, number).await?;
                continue;
            }
            let start = if next == 0 { 0 } else { packet.steps[next - 1].end };
            let (done, failure) = self.send(&packet.sql[start..], packet.infile.clone()).await?;
            let done = match failure {
                // Statements without a result and the last one with rows count alike.
                None => packet.steps.len() - next,
                Some(_) => done.min(packet.steps.len() - next - 1),
            };
            self.ended(&packet.steps[next..next + done]);
            (next..next + done).for_each(|at| Distributed::follow(&mut self.distributed, packet.text(at)));
            if failure.is_none() {
                self.expected(packet, packet.steps.len() - 1)?;
                return Ok(());
            }
            next += done;
            let step = &packet.steps[next];
            let error = failure.map_or_else(String::new, |f| f.to_string());
            if step.expected_error != 0 && error_code(&error) == Some(step.expected_error) {
                self.ended(&packet.steps[next..=next]);
                next += 1;
                continue;
            }
            let refused = self.refused(packet, next, error);
            if self.on_error == OnError::Stop {
                return Err(refused);
            }
            self.left_out(step, &refused);
            self.leaving = Some(step.transaction.number);
        }
        Ok(())
    }

    /// Sends statements; returns how many succeeded, and the error of the next one.
    async fn send(
        &mut self,
        sql: &[u8],
        infile: Option<Infile>,
    ) -> Result<(usize, Option<mysql_async::Error>), Error> {
        let lost = self.connection.failed("sending statements");
        let conn = self.connection.conn();
        if let Some(path) = infile {
            conn.set_infile_handler(contents(path));
        }
        let mut result = match conn.query_iter(sql).await {
            Ok(result) => result,
            Err(error @ mysql_async::Error::Server(_)) => return Ok((0, Some(error))),
            Err(error) => return Err(lost(error)),
        };
        // The client keeps the error of a later statement until its result is asked for.
        let mut asked = 1;
        let ended = loop {
            if result.is_empty() {
                break result.drop_result().await;
            }
            match result.collect::<Row>().await {
                Ok(_) => asked += 1,
                Err(error) => break Err(error),
            }
        };
        match ended {
            Ok(()) => Ok((asked, None)),
            Err(error @ mysql_async::Error::Server(_)) => Ok((asked - 1, Some(error))),
            Err(error) => Err(lost(error)),
        }
    }

    /// Notes the transactions that ended with these steps.
    fn ended(&mut self, steps: &[Step]) {
        for step in steps {
            if let Some(end) = step.ends {
                self.applied += 1;
                self.last = Some((step.transaction.file, end, step.transaction.time));
            }
        }
    }

    /// A statement that failed on its own server must fail here as well.
    fn expected(&self, packet: &Packet, at: usize) -> Result<(), Error> {
        let step = &packet.steps[at];
        if step.expected_error == 0 {
            return Ok(());
        }
        let reason = format!("it succeeded, on its own server it ended with error {}", step.expected_error);
        Err(self.refused(packet, at, reason))
    }

    fn refused(&self, packet: &Packet, at: usize, reason: String) -> Error {
        let step = &packet.steps[at];
        let text = packet.text(at);
        let statement = (!text.starts_with(b"BINLOG '"))
            .then(|| String::from_utf8_lossy(&without_passwords(text)).chars().take(SHOWN).collect());
        Error::Refused {
            file: self.range.files[step.transaction.file].name.clone(),
            pos: step.pos,
            gtid: step.transaction.gtid.clone(),
            table: step.table.as_ref().map(ToString::to_string),
            statement,
            reason: words_without_passwords(&reason, text),
        }
    }

    fn left_out(&mut self, step: &Step, error: &Error) {
        tracing::warn!(%error, "a transaction is left out");
        let file = &self.range.files[step.transaction.file].name;
        self.left_out.push(LeftOut {
            gtid: step.transaction.gtid.clone(),
            start: format!("{file}:{}", step.transaction.start),
            event: format!("{file}:{}", step.pos),
            error: error.to_string(),
        });
    }

    /// Rolls back what the transaction `number` did, keeps its session settings, and gives its GTID to an
    /// empty transaction. Returns the first step behind it, or the end of the packet.
    async fn leave(&mut self, packet: &Packet, from: usize, number: u64) -> Result<usize, Error> {
        let rest = &packet.steps[from..];
        let mine = rest.iter().take_while(|s| s.transaction.number == number).count();
        match self.distributed.take() {
            Some(Distributed { name, ended }) => {
                if !ended {
                    // One that its engine rolled back already is refused here, and ends by the next statement.
                    self.send(&[b"XA END ", &name[..]].concat(), None).await?;
                }
                self.must(&[b"XA ROLLBACK ", &name[..]].concat()).await?;
            }
            None => self.must(b"ROLLBACK").await?,
        }
        let warnings = self.connection.rows("SHOW WARNINGS").await?;
        if let Some(stays) = warnings.iter().find(|row| column(row, "Code") == NOT_ROLLED_BACK) {
            let why = format!("it cannot be left out: {}", column(stays, "Message"));
            return Err(self.refused(packet, from, why));
        }
        for at in from..from + mine {
            if packet.steps[at].kind == Kind::Session {
                self.must(packet.text(at)).await?;
            }
        }
        let ended = rest[..mine].iter().any(|s| s.ends.is_some());
        if ended {
            let last = &rest[mine - 1].transaction;
            match (self.range.flavor, &last.gtid, rest[..mine].iter().find_map(|s| s.ends)) {
                (Flavor::MySql, Some(gtid), _) => {
                    self.must(format!("SET @@session.gtid_next='{gtid}';BEGIN;COMMIT").as_bytes()).await?;
                }
                (_, gtid, Some(end)) => {
                    let file = &self.range.files[last.file].name;
                    let place = journal::update(file, end, gtid.as_deref(), journal::State::Done);
                    self.must(place.as_bytes()).await?;
                }
                _ => {}
            }
            self.leaving = None;
        }
        Ok(from + mine)
    }

    /// Sends statements that have no reason to fail.
    async fn must(&mut self, sql: &[u8]) -> Result<(), Error> {
        let (_, failure) = self.send(sql, None).await?;
        match failure {
            Some(error) => Err(self.connection.failed("leaving out a transaction")(error)),
            None => Ok(()),
        }
    }

    fn report(&mut self, progress: &mut (dyn FnMut(Progress) + Send)) {
        self.reported = Some(Instant::now());
        let files = &self.range.files;
        let (bytes, position, time) = match self.last {
            Some((file, end, time)) => {
                let before: u64 = files[..file].iter().map(|f| f.stop - f.start).sum();
                let bytes = before + end.saturating_sub(files[file].start);
                (bytes, Some(format!("{}:{end}", files[file].name)), Some(time))
            }
            None => (0, None, None),
        };
        progress(
            Progress {
                transactions: self.applied,
                transactions_total: self.range.transactions,
                bytes,
                bytes_total: self.range.bytes,
                reached: time.and_then(|t| DateTime::from_timestamp(i64::from(t), 0)),
                position,
                ..Progress::default()
            }
            .timed(self.began.elapsed()),
        );
    }
}

/// A distributed transaction of the session: it takes no other end than those by its name.
#[derive(Debug, PartialEq, Eq)]
struct Distributed {
    /// As its statements name it.
    name: Vec<u8>,
    /// Behind `XA END`.
    ended: bool,
}

impl Distributed {
    /// What a statement that succeeded makes of the session's one.
    fn follow(of_session: &mut Option<Self>, sql: &[u8]) {
        let Some(rest) = sql.strip_prefix(b"XA ") else { return };
        let name = |rest: &[u8]| rest.strip_suffix(b";").unwrap_or(rest).to_vec();
        match of_session {
            _ if rest.starts_with(b"START ") => {
                *of_session = Some(Self { name: name(&rest[b"START ".len()..]), ended: false });
            }
            Some(open) if rest.starts_with(b"END ") => open.ended = true,
            _ => *of_session = None,
        }
    }
}

/// The server's error number in a message of the client.
fn error_code(message: &str) -> Option<u16> {
    let at = message.find("ERROR ")?;
    let digits: String = message[at + 6..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// A file in pieces, as the client hands it to the server.
async fn contents(path: Infile) -> Result<mysql_async::InfileData, mysql_async::Error> {
    let file = tokio::fs::File::open(&*path).await?;
    let pieces = stream::try_unfold((file, path), |(mut file, path)| async move {
        let mut piece = vec![0; 64 * 1024];
        let n = file.read(&mut piece).await?;
        piece.truncate(n);
        Ok((n > 0).then(|| (piece.into(), (file, path))))
    });
    Ok(pieces.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distributed_transaction_is_followed_until_it_is_prepared() {
        let mut now = None;
        for (sql, expected) in [
            (&b"XA START X'61',X'',1;"[..], Some(false)),
            (b"INSERT INTO t VALUES (1)", Some(false)),
            (b"XA END X'61',X'',1", Some(true)),
            (b"SET @@session.timestamp=1;", Some(true)),
            (b"XA PREPARE X'61',X'',1;", None),
            (b"XA COMMIT X'61',X'',1", None),
        ] {
            Distributed::follow(&mut now, sql);
            assert_eq!(now.as_ref().map(|open| open.ended), expected, "{}", String::from_utf8_lossy(sql));
            assert!(now.as_ref().is_none_or(|open| open.name == b"X'61',X'',1"));
        }
    }
}
