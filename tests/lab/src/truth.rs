//! What servers held at a moment, and the comparison with what a recovery brought back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use crate::server::{Flavor, Server};
use crate::sql::{Sql, name};
use crate::workload::{ACCOUNTS, SHOP, SUM};

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `CHECKSUM TABLE`: depends on the rows, not on their order.
    pub checksum: String,
    /// Column names and types in order.
    pub columns: String,
}

/// Everything compared of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Tables by quoted `db`.`table`.
    pub tables: BTreeMap<String, Table>,
    /// Routines, triggers, events, views and accounts, one line each.
    pub objects: Vec<String>,
    /// MariaDB: `gtid_binlog_pos` of the master; MySQL: `gtid_executed`.
    pub gtid: String,
    /// Transactions so far: the highest number in the ledger.
    pub transactions: u64,
    /// Sum of all balances; always [`crate::workload::SUM`].
    pub balance: i64,
}

impl State {
    /// One number for all tables, to show: the sum of their checksums.
    pub fn checksum(&self) -> String {
        let sums = self.tables.values().filter_map(|table| table.checksum.parse::<u64>().ok());
        sums.sum::<u64>().to_string()
    }
}

/// A moment and what every group held then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moment {
    /// Local time. A commit whose time is before this second is in; one at or after it is out.
    pub time: NaiveDateTime,
    /// Transactions were committed in the second before and in the second after it.
    pub busy: bool,
    /// By datasource.
    pub groups: BTreeMap<String, State>,
}

/// The consistent point of one backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    /// The backup's name.
    pub backup: String,
    /// Its consistent point, local time, as in `consistent_point_datetime`.
    pub time: NaiveDateTime,
    /// The same with microseconds.
    pub exact: NaiveDateTime,
    /// By datasource: binlog file and position of its master.
    pub binlog: BTreeMap<String, (String, u64)>,
    /// By datasource.
    pub groups: BTreeMap<String, State>,
}

/// What the lab knows about a store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Truth {
    /// The family of the servers.
    pub flavor: Flavor,
    /// The password of an encrypted store.
    pub password: Option<String>,
    /// Options without which no server starts on the data directories.
    #[serde(default)]
    pub layout: Vec<String>,
    /// Server folders that a recovery brings back, by datasource.
    pub folders: BTreeMap<String, String>,
    /// Consistent points, oldest first.
    pub points: Vec<Point>,
    /// Whole seconds with a known state, oldest first.
    pub moments: Vec<Moment>,
}

impl Truth {
    /// Reads a truth file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Writes a truth file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", path.display()))
    }

    /// Moments strictly between the consistent points of two backups (by index).
    pub fn between(&self, from: usize, to: usize, busy: bool) -> Vec<&Moment> {
        let (from, to) = (self.points[from].time, self.points[to].time);
        self.moments.iter().filter(|m| m.time > from && m.time < to && m.busy == busy).collect()
    }

    /// What a server on a recovered data directory holds. The directory is one that nobody needs afterwards:
    /// the server writes to it.
    pub fn state_of(&self, datadir: &Path) -> Result<State> {
        let temp = tempfile::Builder::new().prefix("dbl").tempdir()?;
        let mut options = vec!["--skip-grant-tables", "--event-scheduler=OFF"];
        options.extend(self.layout.iter().map(String::as_str));
        // Only when the recovered server had a binlog of its own does it hold GTIDs that nobody else knows.
        let log_bin = binlog_of(datadir).map(|name| format!("--log-bin={name}"));
        match &log_bin {
            Some(log_bin) => options.extend([log_bin, "--server-id=1"]),
            None if self.flavor == Flavor::MySql => options.push("--skip-log-bin"),
            None => {}
        }
        if self.flavor == Flavor::MySql {
            options.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=1", "--mysqlx=0"]);
        }
        let server = Server::start_on(self.flavor, &temp.path().join("v"), datadir, &options)?;
        let mut sql = server.sql()?;
        let state = state(self.flavor, &mut sql)?;
        drop(sql);
        server.stop()?;
        Ok(state)
    }

    /// Fails with the differences when the server in `datadir` does not hold `expected`.
    pub fn verify(&self, datadir: &Path, expected: &State) -> Result<()> {
        let found = self.state_of(datadir).with_context(|| format!("look at {}", datadir.display()))?;
        let lines = differences(expected, &found);
        ensure!(lines.is_empty(), "{} differs from the truth:\n{}", datadir.display(), lines.join("\n"));
        Ok(())
    }
}

/// Reads the state of a running server.
pub fn state(flavor: Flavor, sql: &mut Sql) -> Result<State> {
    // A MariaDB position is what was replicated (slave position) and what was written here (binlog
    // position) together: a recovered server may say it in either.
    let gtid = match flavor {
        Flavor::MariaDb => join_positions(&[
            sql.value("SELECT @@global.gtid_binlog_pos")?,
            sql.value("SELECT @@global.gtid_slave_pos")?,
        ]),
        Flavor::MySql => sql.value("SELECT @@global.gtid_executed")?.replace('\n', ""),
    };
    let mut tables = BTreeMap::new();
    let columns = sql.rows(
        "SELECT c.table_schema, c.table_name, c.column_name, c.column_type, c.is_nullable \
         FROM information_schema.columns c JOIN information_schema.tables t \
         ON t.table_schema = c.table_schema AND t.table_name = c.table_name \
         WHERE t.table_type = 'BASE TABLE' \
         AND c.table_schema NOT IN ('mysql','information_schema','performance_schema','sys') \
         ORDER BY c.table_schema, c.table_name, c.ordinal_position",
    )?;
    let mut layout: BTreeMap<String, String> = BTreeMap::new();
    for row in columns {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap_or_default();
        let table = format!("{}.{}", name(&next()), name(&next()));
        let entry = layout.entry(table).or_default();
        let _ = write!(entry, "{} {} {};", next(), next(), next());
    }
    if !layout.is_empty() {
        let names: Vec<&str> = layout.keys().map(String::as_str).collect();
        let sums = sql.rows(format!("CHECKSUM TABLE {}", names.join(", ")))?;
        ensure!(sums.len() == layout.len(), "CHECKSUM TABLE left tables out");
        for (row, (table, columns)) in sums.into_iter().zip(layout) {
            let checksum = row.into_iter().nth(1).flatten().unwrap_or_else(|| "missing".to_owned());
            tables.insert(table, Table { checksum, columns });
        }
    }
    let accounts = match flavor {
        Flavor::MariaDb => {
            "SELECT CONCAT('account ', user, '@', host, ' ', SHA2(priv, 256)) FROM mysql.global_priv"
        }
        Flavor::MySql => {
            "SELECT CONCAT('account ', user, '@', host, ' ', SHA2(authentication_string, 256)) FROM mysql.user"
        }
    };
    let mut objects = Vec::new();
    for query in [
        accounts,
        "SELECT CONCAT('routine ', routine_schema, '.', routine_name, ' ', SHA2(routine_definition, 256)) \
         FROM information_schema.routines WHERE routine_schema NOT IN ('sys','mysql')",
        "SELECT CONCAT('trigger ', trigger_schema, '.', trigger_name, ' ', SHA2(action_statement, 256)) \
         FROM information_schema.triggers WHERE trigger_schema <> 'sys'",
        "SELECT CONCAT('event ', event_schema, '.', event_name, ' ', SHA2(event_definition, 256)) \
         FROM information_schema.events",
        "SELECT CONCAT('view ', table_schema, '.', table_name, ' ', SHA2(view_definition, 256)) \
         FROM information_schema.views WHERE table_schema NOT IN ('sys','mysql')",
        "SELECT CONCAT('database ', schema_name) FROM information_schema.schemata",
    ] {
        objects.extend(sql.rows(query)?.into_iter().filter_map(|row| row.into_iter().next().flatten()));
    }
    objects.sort();
    let transactions: u64 = sql.value("SELECT MAX(seq) FROM lab.ledger")?.parse().unwrap_or(0);
    let rows: u64 = sql.value("SELECT COUNT(*) FROM lab.ledger")?.parse().unwrap_or(0);
    let balance = format!("SELECT SUM(balance) FROM {}.{}", name(SHOP), name(ACCOUNTS));
    let balance: i64 = sql.value(balance)?.parse().unwrap_or(0);
    // The writers' own invariants: not only "as it was", but a state that can be.
    ensure!(rows == transactions, "the ledger has gaps: {rows} rows up to number {transactions}");
    ensure!(balance == SUM, "the balances add up to {balance}, not {SUM}");
    Ok(State { tables, objects, gtid, transactions, balance })
}

/// MariaDB positions joined: the highest sequence number of each domain.
fn join_positions(positions: &[String]) -> String {
    let mut domains: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    for gtid in positions.iter().flat_map(|p| p.split(',')) {
        let mut parts = gtid.trim().split('-');
        let (Some(domain), Some(_), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (Ok(domain), Ok(number)) = (domain.parse(), number.parse()) else { continue };
        let best = domains.entry(domain).or_default();
        if number >= best.0 {
            *best = (number, gtid.trim().to_owned());
        }
    }
    domains.into_values().map(|(_, gtid)| gtid).collect::<Vec<_>>().join(",")
}

/// The base name of the binlogs that a data directory has of its own.
fn binlog_of(datadir: &Path) -> Option<String> {
    let names =
        fs::read_dir(datadir).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_suffix(".index").map(str::to_owned))
        .find(|name| !name.contains("relay"))
}

/// The differences between what was expected and what is there, one line each; empty when there are none.
pub fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut lines = Vec::new();
    if expected.transactions != found.transactions {
        lines.push(format!("transactions: expected {}, found {}", expected.transactions, found.transactions));
    }
    if expected.gtid != found.gtid {
        lines.push(format!("GTID: expected {}, found {}", expected.gtid, found.gtid));
    }
    for (table, want) in &expected.tables {
        match found.tables.get(table) {
            None => lines.push(format!("table {table} is missing")),
            Some(have) if have.columns != want.columns => {
                lines.push(format!(
                    "table {table}: expected columns {}, found {}",
                    want.columns, have.columns
                ));
            }
            Some(have) if have.checksum != want.checksum => {
                lines.push(format!(
                    "table {table}: expected checksum {}, found {}",
                    want.checksum, have.checksum
                ));
            }
            Some(_) => {}
        }
    }
    for table in found.tables.keys().filter(|table| !expected.tables.contains_key(*table)) {
        lines.push(format!("table {table} should not be there"));
    }
    for object in expected.objects.iter().filter(|object| !found.objects.contains(object)) {
        lines.push(format!("missing: {object}"));
    }
    for object in found.objects.iter().filter(|object| !expected.objects.contains(object)) {
        lines.push(format!("should not be there: {object}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_join_to_the_highest_number_of_each_domain() {
        let join = |a: &str, b: &str| join_positions(&[a.to_owned(), b.to_owned()]);
        assert_eq!(join("0-1-7,2-1-9", "0-2-8"), "0-2-8,2-1-9");
        assert_eq!(join("", "1-11-5"), "1-11-5");
        assert_eq!(join("", ""), "");
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let table =
            |checksum: &str, columns: &str| Table { checksum: checksum.into(), columns: columns.into() };
        let state = |tables: &[(&str, Table)], objects: &[&str], gtid: &str, transactions| State {
            tables: tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect(),
            objects: objects.iter().map(|object| (*object).to_owned()).collect(),
            gtid: gtid.to_owned(),
            transactions,
            balance: 0,
        };
        let a = state(
            &[("gone", table("1", "x")), ("rows", table("1", "x")), ("columns", table("1", "x"))],
            &["account a", "account b"],
            "0-1-1",
            1,
        );
        let b = state(
            &[("rows", table("2", "x")), ("columns", table("1", "y")), ("new", table("1", "x"))],
            &["account b", "account c"],
            "0-1-2",
            2,
        );
        assert_eq!(differences(&a, &a), Vec::<String>::new());
        assert_eq!(differences(&a, &b).len(), 8, "{:#?}", differences(&a, &b));
    }
}
