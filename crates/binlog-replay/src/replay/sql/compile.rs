//! Events to statements: what `mysqlbinlog` would write, packed for the connection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::mem;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::journal;
use super::packet::{Infile, Kind, Packet, Step, Transaction};
use super::rows::{RowGroup, binlog_statement};
use super::settings::{Between, Settings, quote_name};
use super::values::{self, Collations};
use crate::event::{
    Duplicates, EXTRA_ROLLBACK_ALTER, EXTRA_START_ALTER, Event, EventKind, ExecuteLoadQuery, MariaDbGtid,
    Query, RawEvent, XaPrepare,
};
use crate::range::{Range, RangeFile};
use crate::reader::Reader;
use crate::replay::error::Error;
use crate::replay::lay::description;
use crate::unsaid::{Unsaid, unsaid};
use crate::version::{Flavor, ServerVersion};

/// What the statements are made for.
pub(super) struct Target {
    pub(super) server: ServerVersion,
    pub(super) collations: Collations,
    /// Whether the position is kept in a table; see [`journal`].
    pub(super) journal: bool,
    /// Whether the server writes a binlog, so that MariaDB's GTIDs must be set.
    pub(super) binlog: bool,
}

/// Reads the range and sends its statements; ends early when nobody receives them any more.
pub(super) fn compile(range: &Range, target: Target, packets: Sender<Result<Packet, Error>>) {
    let mut compiler = Compiler::new(range, target, packets.clone());
    match compiler.files() {
        Ok(()) | Err(Stop::Closed) => {}
        Err(Stop::Failed(error)) => {
            let _ = packets.blocking_send(Err(error));
        }
    }
}

/// Why compiling ended before the range did.
enum Stop {
    Closed,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<crate::Error> for Stop {
    fn from(error: crate::Error) -> Self {
        Self::Failed(error.into())
    }
}

struct Compiler<'a> {
    range: &'a Range,
    target: Target,
    packets: Sender<Result<Packet, Error>>,
    packet: Packet,
    settings: Settings,
    /// Index of the file in the range.
    file: usize,
    /// `BINLOG` statement with the file's format description, until it was sent.
    description: Option<Vec<u8>>,
    /// Offset of the event at hand.
    pos: u64,
    end: u64,
    transaction: Option<Arc<Transaction>>,
    transactions: u64,
    /// Whether the transaction is one that is left out.
    leaving_out: bool,
    /// Whether the transaction is a half of an `ALTER` in two phases that changes nothing.
    half: bool,
    /// Whether statements are between `BEGIN` and `COMMIT`.
    inside: bool,
    /// Whether the transaction at hand cannot take its place along; see [`journal`].
    unjournalled: bool,
    rows: RowGroup,
    loads: HashMap<u32, tempfile::NamedTempFile>,
}

impl<'a> Compiler<'a> {
    fn new(range: &'a Range, target: Target, packets: Sender<Result<Packet, Error>>) -> Self {
        Self {
            range,
            target,
            packets,
            packet: Packet::default(),
            settings: Settings::default(),
            file: 0,
            description: None,
            pos: 0,
            end: 0,
            transaction: None,
            transactions: 0,
            leaving_out: false,
            half: false,
            inside: false,
            unjournalled: false,
            rows: RowGroup::default(),
            loads: HashMap::new(),
        }
    }

    fn files(&mut self) -> Result<(), Stop> {
        for (at, file) in self.range.files.iter().enumerate() {
            self.file = at;
            self.one_file(file)?;
        }
        self.flush()
    }

    fn one_file(&mut self, file: &RangeFile) -> Result<(), Stop> {
        let raw = description(&file.path)?;
        self.description = Some(binlog_statement(&raw));
        let mut reader = Reader::open_at(&file.path, file.start)?;
        while reader.offset() < file.stop {
            let Some(event) = reader.next_event()? else { break };
            (self.pos, self.end) = (event.offset, event.end());
            if self.end > file.start {
                self.event(&event)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, raw: &RawEvent<'_>) -> Result<(), Stop> {
        let kind = raw.header.kind;
        if kind.is_gtid() {
            return self.gtid(raw);
        }
        match kind {
            EventKind::FORMAT_DESCRIPTION
            | EventKind::PREVIOUS_GTIDS
            | EventKind::GTID_LIST
            | EventKind::BINLOG_CHECKPOINT
            | EventKind::ROTATE
            | EventKind::STOP
            | EventKind::HEARTBEAT
            | EventKind::HEARTBEAT_V2
            | EventKind::ROWS_QUERY
            | EventKind::ANNOTATE_ROWS => return Ok(()),
            _ if self.leaving_out => return Ok(()),
            _ => {}
        }
        if self.transaction.is_none() {
            self.begin_transaction(None, raw.header.timestamp)?;
        }
        if kind.is_rows() {
            return self.row_event(raw);
        }
        match self.decode(raw)? {
            Event::TableMap(map) => {
                self.rows.map(raw, &map, self.pos);
                Ok(())
            }
            Event::Xid(_) => self.commit("COMMIT"),
            Event::Query(query) => self.query(&query, raw),
            Event::Intvar(var) => {
                let (name, value) = match var {
                    crate::event::Intvar::LastInsertId(n) => ("LAST_INSERT_ID", n),
                    crate::event::Intvar::InsertId(n) => ("INSERT_ID", n),
                };
                self.session(format!("SET {name}={value};").as_bytes())
            }
            Event::Rand(rand) => {
                let sql =
                    format!("SET @@session.rand_seed1={},@@session.rand_seed2={};", rand.seed1, rand.seed2);
                self.session(sql.as_bytes())
            }
            Event::UserVar(var) => {
                let (mut statements, mut sql) = (Vec::new(), Vec::new());
                values::user_var(&var, &self.target.collations, &mut sql).map_err(|why| self.wrong(why))?;
                self.settings.name(var.name, &mut statements);
                statements.push(sql);
                statements.iter().try_for_each(|sql| self.session(sql))
            }
            Event::BeginLoadQuery(block) => {
                let file = tempfile::NamedTempFile::with_prefix("dbrecover-load-");
                let file = file.map_err(Error::file("creating a file in", std::env::temp_dir()))?;
                self.loads.insert(block.file_id, file);
                self.load_block(block.file_id, block.data)
            }
            Event::AppendBlock(block) => self.load_block(block.file_id, block.data),
            Event::DeleteFile(id) => {
                self.loads.remove(&id);
                Ok(())
            }
            Event::ExecuteLoadQuery(load) => self.load(&load, raw),
            Event::XaPrepare(xa) => self.xa_prepare(&xa),
            Event::TransactionPayload(payload) => {
                let mut events = payload.events(raw.format()).map_err(|e| self.wrong(e.to_string()))?;
                while let Some(event) = events.next_event().map_err(|e| self.wrong(e.to_string()))? {
                    self.event(&event)?;
                }
                Ok(())
            }
            Event::Incident(_) => Err(self.wrong("the server noted that events are missing here").into()),
            Event::Opaque(_) => Ok(()),
            _ => Err(self.wrong(format!("a {kind} event has no place in a transaction")).into()),
        }
    }

    fn decode<'e>(&self, raw: &RawEvent<'e>) -> Result<Event<'e>, Error> {
        raw.decode().map_err(|e| self.wrong(e.to_string()))
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::Event { file: self.range.files[self.file].name.clone(), pos: self.pos, what: what.into() }
    }

    // ---- transactions

    fn gtid(&mut self, raw: &RawEvent<'_>) -> Result<(), Stop> {
        (self.leaving_out, self.half, self.inside, self.unjournalled) = (false, false, false, false);
        self.transaction = None;
        match self.decode(raw)? {
            Event::MySqlGtid(event) => {
                if self.is_left_out(event.gtid.as_ref()) {
                    return Ok(());
                }
                let gtid = event.gtid.as_ref().map(ToString::to_string);
                self.begin_transaction(gtid.clone(), raw.header.timestamp)?;
                if self.target.server.at_least(Flavor::MySql, 8, 0, 14) {
                    let (own, first) = (event.immediate_version, event.original_version);
                    let own = own.unwrap_or(999_999);
                    let sql = self.settings.versions(first.unwrap_or(own), own).unwrap_or_default();
                    self.session(&sql)?;
                }
                let name = gtid.as_deref().unwrap_or("ANONYMOUS");
                self.step(format!("SET @@session.gtid_next='{name}';").as_bytes(), Kind::Name, None)
            }
            Event::MariaDbGtid(event) => {
                if self.is_left_out(Some(&event.gtid)) {
                    return Ok(());
                }
                // A two-phase ALTER is applied where it was committed.
                let extra = event.extra_flags.unwrap_or(0);
                self.half = extra & (EXTRA_START_ALTER | EXTRA_ROLLBACK_ALTER) != 0;
                self.begin_transaction(Some(event.gtid.to_string()), raw.header.timestamp)?;
                if self.half {
                    return Ok(());
                }
                if self.target.binlog {
                    self.name_mariadb(&event)?;
                }
                if event.flags & MariaDbGtid::PREPARED_XA != 0 {
                    let xid =
                        event.xid.as_ref().ok_or_else(|| self.wrong("an XA transaction without its name"))?;
                    let sql = format!("XA START {};", values::xid(xid));
                    self.before_unjournalled()?;
                    self.inside = true;
                    return self.step(sql.as_bytes(), Kind::Data, None);
                }
                if !event.standalone() {
                    return self.begin();
                }
                Ok(())
            }
            _ => Err(self.wrong("not a GTID event").into()),
        }
    }

    fn name_mariadb(&mut self, event: &MariaDbGtid<'_>) -> Result<(), Stop> {
        let crate::Gtid::MariaDb { domain, server, number } = event.gtid else { return Ok(()) };
        let sql = format!(
            "SET @@session.gtid_domain_id={domain},@@session.server_id={server},@@session.gtid_seq_no={number};"
        );
        self.step(sql.as_bytes(), Kind::Name, None)
    }

    fn is_left_out(&mut self, gtid: Option<&crate::Gtid>) -> bool {
        self.leaving_out = gtid.is_some_and(|gtid| self.range.leaves_out(gtid));
        self.leaving_out
    }

    fn begin_transaction(&mut self, gtid: Option<String>, time: u32) -> Result<(), Stop> {
        if self.packet.is_full() {
            self.flush()?;
        }
        let number = self.transactions;
        self.transactions += 1;
        let transaction = Transaction { number, gtid, file: self.file, start: self.pos, time };
        self.transaction = Some(Arc::new(transaction));
        self.describe()
    }

    /// Tells the server the format of the events, once for each file.
    fn describe(&mut self) -> Result<(), Stop> {
        if let Some(sql) = self.description.take() {
            if self.range.flavor == Flavor::MySql {
                // The statement would take what the last transaction left, and not give it back.
                self.session(b"SET @@session.gtid_next='AUTOMATIC';")?;
            }
            self.session(&sql)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Begins the transaction that the server knows by its name.
    fn begin(&mut self) -> Result<(), Stop> {
        self.inside = true;
        // In its sql_mode ORACLE, MariaDB takes the short word for a block of statements.
        self.step(b"START TRANSACTION;", Kind::Data, None)
    }

    /// Ends the transaction with `sql`, and its place with it.
    fn commit(&mut self, sql: &str) -> Result<(), Stop> {
        // What is rolled back takes the place along: it is written behind it. A crash between the two is no harm, as
        // nothing goes on after one where there are tables that do not roll back.
        let rolls_back = sql == "ROLLBACK";
        if self.target.journal && !self.unjournalled && !rolls_back {
            let place = self.journal_row(journal::State::Done);
            self.step(place.as_bytes(), Kind::Data, None)?;
        }
        self.inside = false;
        self.step(format!("{sql};").as_bytes(), Kind::Data, Some(self.end))?;
        if self.unjournalled || rolls_back {
            self.after_unjournalled()?;
        }
        self.transaction = None;
        Ok(())
    }

    fn journal_row(&self, state: journal::State) -> String {
        let gtid = self.transaction.as_ref().and_then(|t| t.gtid.as_deref());
        journal::update(&self.range.files[self.file].name, self.end, gtid, state)
    }

    /// Notes that a statement comes that cannot be committed together with its place.
    fn before_unjournalled(&mut self) -> Result<(), Stop> {
        self.unjournalled = true;
        if self.target.journal {
            let place = self.journal_row(journal::State::Running);
            self.step(place.as_bytes(), Kind::Session, None)?;
        }
        Ok(())
    }

    fn after_unjournalled(&mut self) -> Result<(), Stop> {
        self.unjournalled = false;
        if self.target.journal {
            let place = self.journal_row(journal::State::Done);
            self.step(place.as_bytes(), Kind::Session, None)?;
        }
        Ok(())
    }

    // ---- statements

    fn query(&mut self, query: &Query<'_>, raw: &RawEvent<'_>) -> Result<(), Stop> {
        if self.half {
            let place = self.journal_row(journal::State::Done);
            self.step(place.as_bytes(), Kind::Data, Some(self.end))?;
            self.transaction = None;
            return Ok(());
        }
        match &query.text[..] {
            b"BEGIN" if query.error == 0 => return self.begin(),
            b"COMMIT" if query.error == 0 => return self.commit("COMMIT"),
            b"ROLLBACK" if query.error == 0 => return self.commit("ROLLBACK"),
            _ => {}
        }
        let text = said(query).map_err(|why| self.wrong(why))?;
        self.prepare(query, raw)?;
        let alone = !self.inside;
        // CREATE TABLE … SELECT in row format commits what was before it, and only its rows may follow. MySQL writes the
        // statement itself.
        let creates = self.range.flavor == Flavor::MySql
            && query.text.starts_with(b"CREATE TABLE ")
            && query.text.ends_with(b"START TRANSACTION");
        let opens = query.text.starts_with(b"XA START") || creates;
        if alone || creates {
            self.before_unjournalled()?;
        }
        self.alone(&text, query.error, None, alone && !opens)?;
        if opens {
            self.inside = true;
        } else if alone {
            self.after_unjournalled()?;
            self.transaction = None;
        }
        Ok(())
    }

    /// Brings the session to where a statement needs it.
    fn prepare(&mut self, query: &Query<'_>, raw: &RawEvent<'_>) -> Result<(), Stop> {
        if !query.status.unknown.is_empty() {
            return Err(self.wrong("the statement has settings that this program does not know").into());
        }
        let mut statements = Vec::new();
        let between = Between {
            source: &raw.format().server,
            server: &self.target.server,
            collations: &self.target.collations,
        };
        let changed = self.settings.change(query, raw.header, &between, &mut statements);
        changed.map_err(|why| self.wrong(why))?;
        statements.iter().try_for_each(|sql| self.session(sql))
    }

    /// Sends a statement by itself: its bytes may be in any character set and may end in a comment.
    fn alone(&mut self, sql: &[u8], error: u16, infile: Option<Infile>, ends: bool) -> Result<(), Stop> {
        self.flush()?;
        self.packet.infile = infile;
        let ends = ends.then_some(self.end);
        self.push(sql, Kind::Data, ends, None, error)?;
        self.flush()
    }

    fn load_block(&mut self, id: u32, data: &[u8]) -> Result<(), Stop> {
        let path = std::env::temp_dir();
        let Some(file) = self.loads.get_mut(&id) else {
            return Err(self.wrong(format!("a piece of file {id}, whose beginning is missing")).into());
        };
        Ok(file.write_all(data).map_err(Error::file("writing a file in", path))?)
    }

    fn load(&mut self, load: &ExecuteLoadQuery<'_>, raw: &RawEvent<'_>) -> Result<(), Stop> {
        let Some(file) = self.loads.remove(&load.file_id) else {
            return Err(self.wrong(format!("file {} was not in the binlog", load.file_id)).into());
        };
        let (start, end) = (load.name_start as usize, load.name_end as usize);
        let text = &load.query.text;
        let mut sql = text.get(..start).unwrap_or_default().to_vec();
        sql.extend(b" LOCAL INFILE 'dbrecover'");
        sql.extend(match load.duplicates {
            Duplicates::Error => &b""[..],
            Duplicates::Ignore => b" IGNORE",
            Duplicates::Replace => b" REPLACE",
        });
        sql.extend(b" INTO");
        sql.extend(text.get(end..).unwrap_or_default());
        self.prepare(&load.query, raw)?;
        self.alone(&sql, load.query.error, Some(Arc::new(file.into_temp_path())), false)
    }

    fn xa_prepare(&mut self, xa: &XaPrepare<'_>) -> Result<(), Stop> {
        let xid = values::xid(&xa.xid);
        let sql =
            if xa.one_phase { format!("XA COMMIT {xid} ONE PHASE") } else { format!("XA PREPARE {xid}") };
        self.inside = false;
        self.step(format!("{sql};").as_bytes(), Kind::Data, Some(self.end))?;
        self.after_unjournalled()?;
        self.transaction = None;
        Ok(())
    }

    // ---- rows

    fn row_event(&mut self, raw: &RawEvent<'_>) -> Result<(), Stop> {
        let ends = self.rows.rows(raw).map_err(|why| self.wrong(why))?;
        if ends {
            self.row_statement()?;
            self.rows = RowGroup::default();
        } else if self.rows.is_long() {
            let rest = self.rows.end_part(raw);
            self.row_statement()?;
            self.rows = rest;
        }
        Ok(())
    }

    fn row_statement(&mut self) -> Result<(), Stop> {
        let (sql, table) = (self.rows.statement(), self.rows.table());
        let pos = mem::replace(&mut self.pos, self.rows.first_pos());
        let pushed = self.push(&sql, Kind::Data, None, table, 0);
        self.pos = pos;
        pushed?;
        self.settings.after_rows();
        // Applying events clears the flag by which a server announces more results, so nothing may follow.
        self.flush()
    }

    // ---- packets

    fn session(&mut self, sql: &[u8]) -> Result<(), Stop> {
        if sql.is_empty() { Ok(()) } else { self.step(sql, Kind::Session, None) }
    }

    fn step(&mut self, sql: &[u8], kind: Kind, ends: Option<u64>) -> Result<(), Stop> {
        self.push(sql, kind, ends, None, 0)
    }

    fn push(
        &mut self,
        sql: &[u8],
        kind: Kind,
        ends: Option<u64>,
        table: Option<Arc<str>>,
        expected_error: u16,
    ) -> Result<(), Stop> {
        let Some(transaction) = self.transaction.clone() else {
            return Err(self.wrong("a statement outside of every transaction").into());
        };
        self.packet.sql.extend(sql);
        let end = self.packet.sql.len();
        self.packet.steps.push(Step { end, kind, transaction, pos: self.pos, table, expected_error, ends });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.packet.steps.is_empty() {
            return Ok(());
        }
        self.packets.blocking_send(Ok(mem::take(&mut self.packet))).map_err(|_| Stop::Closed)
    }
}

/// The statement with the user that its source says beside it, where a server would take that of the session.
fn said<'q>(query: &'q Query<'_>) -> Result<Cow<'q, [u8]>, String> {
    let invoker = query.status.invoker;
    let gaps = match unsaid(&query.text, invoker.is_some()) {
        Some(Unsaid::User(gaps)) => gaps,
        Some(Unsaid::Unclear) => {
            let why =
                "the statement means the user or the role of its session, and where it does is not clear";
            return Err(why.into());
        }
        Some(Unsaid::Database) | None => return Ok(Cow::Borrowed(&query.text)),
    };
    let Some((user, host)) = invoker.filter(|(user, host)| user.is_ascii() && host.is_ascii()) else {
        let why =
            "the statement means the user of its session, and the binlog does not say who that was in ASCII";
        return Err(why.into());
    };
    let mut account = Vec::new();
    quote_name(user, &mut account);
    // A role has no host.
    if !host.is_empty() {
        account.push(b'@');
        quote_name(host, &mut account);
    }
    let mut text = query.text.to_vec();
    for gap in gaps.into_iter().rev() {
        let said = gap.before.bytes().chain(account.iter().copied());
        text.splice(gap.at, said);
    }
    Ok(Cow::Owned(text))
}
