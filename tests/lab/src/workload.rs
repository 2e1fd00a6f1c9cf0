//! Writers that keep invariants, and the gate that lets their state be read exactly at whole seconds.
//!
//! Every transaction of the main writer adds one row to `lab.ledger`, numbered without a gap, so any
//! recovered state says which prefix of the history it is; transfers keep the sum of all balances.
//! Shortly before each whole second writers hold back, the state is read, and they go on: commits of
//! either side of the second are apart, so the state is exactly "everything committed before it".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};

use crate::server::{Flavor, Server};
use crate::sql::{Sql, literal, name};
use crate::truth::{State, state};

/// A database whose name needs quoting everywhere.
pub const SHOP: &str = "it's a $shop \"für\" 東京";
/// A table whose name does.
pub const ACCOUNTS: &str = "Konto $1 'x' \"Ä\"";
/// The password of the proxy's account, as awkward as passwords get.
pub const PASSWORD: &str = "p w's \"$HOME\" `x` \\ für=#;東";
/// Sum of all balances, at every moment.
pub const SUM: i64 = 100 * 1000;

/// How long before a whole second writers hold back.
const MARGIN: Duration = Duration::from_millis(40);

/// State at one whole second.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) second: u64,
    pub(crate) busy: bool,
    pub(crate) state: State,
}

#[derive(Debug)]
struct Gate {
    /// Held for reading by a writer during a commit.
    committing: RwLock<()>,
    /// The next whole second to be looked at, in Unix time.
    next: Mutex<u64>,
    advanced: Condvar,
    paused: AtomicBool,
    stop: AtomicBool,
    /// End of the latest commit, microseconds of Unix time.
    last_commit: AtomicU64,
    commits: AtomicU64,
    ticks: Mutex<Vec<Tick>>,
    failure: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

impl Gate {
    /// Runs one commit, or one statement that commits, at a time that is clear of whole seconds.
    fn commit<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let mut next = lock(&self.next);
            let until = Duration::from_secs(*next);
            if !self.paused.load(Ordering::SeqCst) && now() + MARGIN < until {
                break;
            }
            while now() + MARGIN >= Duration::from_secs(*next) || self.paused.load(Ordering::SeqCst) {
                next = self
                    .advanced
                    .wait_timeout(next, Duration::from_millis(50))
                    .expect("no holder of this lock panics")
                    .0;
                if self.stop.load(Ordering::SeqCst) {
                    return Ok(None);
                }
            }
        }
        let _guard = self.committing.read().expect("no holder of this lock panics");
        // Between the look above and here somebody may have asked for a pause.
        if self.paused.load(Ordering::SeqCst) {
            drop(_guard);
            return self.commit(work);
        }
        let result = work()?;
        let end = u64::try_from(now().as_micros()).unwrap_or(u64::MAX);
        self.last_commit.fetch_max(end, Ordering::SeqCst);
        self.commits.fetch_add(1, Ordering::SeqCst);
        Ok(Some(result))
    }

    fn record(&self, flavor: Flavor, mut sql: Sql) -> Result<()> {
        let mut before = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let second = *lock(&self.next);
            while now() < Duration::from_secs(second) {
                std::thread::sleep((Duration::from_secs(second) - now()).min(Duration::from_millis(100)));
                if self.stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
            }
            {
                let _nobody = self.committing.write().expect("no holder of this lock panics");
                let commits = self.commits.load(Ordering::SeqCst);
                let exact = self.last_commit.load(Ordering::SeqCst) < second * 1_000_000;
                if exact {
                    let state = state(flavor, &mut sql)?;
                    lock(&self.ticks).push(Tick { second, busy: commits > before, state });
                }
                before = commits;
            }
            // A look that took long must not let a whole second pass unseen by the writers.
            *lock(&self.next) = (now() + MARGIN * 2).as_secs() + 1;
            self.advanced.notify_all();
        }
        Ok(())
    }
}

/// The writers of one master.
#[derive(Debug)]
pub(crate) struct Workload {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts the writers of a prepared server.
    pub(crate) fn start(server: &Server) -> Result<Self> {
        let gate = Arc::new(Gate {
            committing: RwLock::new(()),
            next: Mutex::new(now().as_secs() + 1),
            advanced: Condvar::new(),
            paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            last_commit: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            ticks: Mutex::new(Vec::new()),
            failure: Mutex::new(None),
        });
        let mut workload = Self { gate, threads: Vec::new() };
        let flavor = server.flavor;
        workload.spawn(server.sql()?, move |gate, sql| gate.record(flavor, sql));
        workload.spawn(server.sql()?, main_writer);
        workload.spawn(server.sql()?, bulk_writer);
        workload.spawn(server.sql()?, slow_writer);
        Ok(workload)
    }

    fn spawn(&mut self, sql: Sql, work: impl FnOnce(&Gate, Sql) -> Result<()> + Send + 'static) {
        let gate = Arc::clone(&self.gate);
        self.threads.push(std::thread::spawn(move || {
            if let Err(error) = work(&gate, sql) {
                gate.stop.store(true, Ordering::SeqCst);
                lock(&gate.failure).get_or_insert(format!("{error:#}"));
            }
        }));
    }

    /// No commit is under way when this returns, and none starts until [`Workload::resume`].
    pub(crate) fn pause(&self) {
        self.gate.paused.store(true, Ordering::SeqCst);
        drop(self.gate.committing.write().expect("no holder of this lock panics"));
    }

    /// Lets the writers go on.
    pub(crate) fn resume(&self) {
        self.gate.paused.store(false, Ordering::SeqCst);
        self.gate.advanced.notify_all();
    }

    /// Fails when a writer has.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.gate.failure).clone().map_or(Ok(()), |failure| Err(anyhow!("a writer failed: {failure}")))
    }

    /// Waits until `count` more commits were done.
    pub(crate) fn wait_for_commits(&self, count: u64) -> Result<()> {
        let goal = self.gate.commits.load(Ordering::SeqCst) + count;
        let until = now() + Duration::from_secs(60);
        while self.gate.commits.load(Ordering::SeqCst) < goal {
            self.check()?;
            anyhow::ensure!(now() < until, "writers did not make {count} commits in a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What was seen so far.
    pub(crate) fn ticks(&self) -> Vec<Tick> {
        lock(&self.gate.ticks).clone()
    }

    /// Ends the writers and returns what was seen.
    pub(crate) fn finish(mut self) -> Result<Vec<Tick>> {
        self.halt();
        self.check()?;
        Ok(std::mem::take(&mut *lock(&self.gate.ticks)))
    }

    fn halt(&mut self) {
        self.gate.stop.store(true, Ordering::SeqCst);
        self.gate.advanced.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.halt();
    }
}

/// The account in the proxy's configuration.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Databases, tables, routines and accounts that the writers use.
pub(crate) fn prepare(server: &Server, account: &Account) -> Result<()> {
    let mut sql = server.sql()?;
    let shop = name(SHOP);
    let accounts = format!("{shop}.{}", name(ACCOUNTS));
    for statement in [
        "CREATE DATABASE lab".to_owned(),
        "CREATE TABLE lab.ledger (seq BIGINT PRIMARY KEY, at DATETIME(6) NOT NULL, what VARCHAR(80) NOT NULL)".to_owned(),
        "CREATE TABLE lab.bulk (id BIGINT AUTO_INCREMENT PRIMARY KEY, v BIGINT NOT NULL, KEY (v))".to_owned(),
        "CREATE TABLE lab.slow (id BIGINT AUTO_INCREMENT PRIMARY KEY, step INT NOT NULL)".to_owned(),
        format!("CREATE DATABASE {shop} CHARACTER SET utf8mb4"),
        format!("CREATE TABLE {accounts} (id INT PRIMARY KEY, owner VARCHAR(80) NOT NULL, balance BIGINT NOT NULL)"),
        format!(
            "INSERT INTO {accounts} WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
             SELECT i, CONCAT('Zoë O''Neill \"', i, '\" $'), 1000 FROM n"
        ),
        format!(
            "CREATE TABLE {shop}.items (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL DEFAULT 0, body LONGBLOB, \
             price DECIMAL(20,6), at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), doc JSON, bits BIT(5), \
             kind ENUM('a','b ß','c') NOT NULL DEFAULT 'a', place POINT, latin VARCHAR(20) CHARACTER SET latin1)"
        ),
        format!(
            "CREATE PROCEDURE {shop}.`add it` (IN many INT) BEGIN\r\n  -- two line\r\n  INSERT INTO lab.bulk (v) VALUES (many);\r\nEND"
        ),
        format!("CREATE VIEW {shop}.`rich & famous` AS SELECT id, balance FROM {accounts} WHERE balance > 1000"),
        format!("CREATE USER {user}@'%' IDENTIFIED BY {password}", user = literal(&account.user), password = literal(&account.password)),
        format!("GRANT ALL PRIVILEGES ON *.* TO {}@'%' WITH GRANT OPTION", literal(&account.user)),
        "CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'repl'".to_owned(),
        "GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'".to_owned(),
    ] {
        sql.run(statement)?;
    }
    Ok(())
}

/// Transfers, changes of many rows, odd values, DDL, accounts: one transaction after the other.
fn main_writer(gate: &Gate, mut sql: Sql) -> Result<()> {
    let shop = name(SHOP);
    let accounts = format!("{shop}.{}", name(ACCOUNTS));
    for seq in 1_u64.. {
        let ddl = match seq % 60 {
            7 => Some(format!("CREATE TABLE {shop}.`extra {seq} $` (id INT PRIMARY KEY, what TEXT)")),
            17 => Some(format!(
                "ALTER TABLE {shop}.`extra {} $` ADD COLUMN more VARCHAR(20) DEFAULT 'ü'",
                seq - 10
            )),
            27 => Some(format!("RENAME TABLE {shop}.`extra {0} $` TO {shop}.`moved {0}`", seq - 20)),
            37 => Some(format!("CREATE INDEX by_what ON {shop}.`moved {}` (what(10))", seq - 30)),
            47 if seq > 60 => Some(format!("DROP TABLE {shop}.`moved {}`", seq - 100)),
            57 => Some(format!("TRUNCATE TABLE {shop}.`moved {}`", seq - 50)),
            53 => Some(format!("CREATE USER 'new $ {seq}'@'%' IDENTIFIED BY 'two words'")),
            _ => None,
        };
        if let Some(ddl) = ddl
            && gate.commit(|| sql.run(&ddl))?.is_none()
        {
            return Ok(());
        }
        sql.run("BEGIN")?;
        let what = match seq % 10 {
            0 => {
                sql.run(format!(
                    "UPDATE {shop}.items SET v = v + 1, at = at WHERE id % 3 = {} ORDER BY id DESC LIMIT 12",
                    seq % 3
                ))?;
                "update of many rows"
            }
            1 | 5 => {
                sql.run(format!(
                    "INSERT INTO {shop}.items (v, body, price, doc, bits, kind, place, latin) VALUES \
                     ({seq}, CONCAT(_binary X'000D0A27225C00FF', REPEAT('x', {seq} * 37 % 900)), {seq}.000001, \
                      JSON_OBJECT('k', {seq}, 'naïve \"q\"', '東'), b'10101', 'b ß', ST_GeomFromText('POINT(1 {seq})'), 'Grüße'), \
                     ({seq}, NULL, NULL, NULL, NULL, DEFAULT, NULL, NULL)"
                ))?;
                "rows with odd values"
            }
            9 => {
                sql.run(format!("DELETE FROM {shop}.items WHERE v = {} LIMIT 1", seq.saturating_sub(100)))?;
                "delete"
            }
            8 if seq % 60 == 28 => {
                sql.run(format!("INSERT INTO {shop}.`moved {}` VALUES (1, 'x', 'y')", seq - 21))?;
                "row in a renamed table"
            }
            _ => {
                let (from, to, amount) = (seq % 100 + 1, (seq * 7 + 3) % 100 + 1, seq % 13);
                sql.run(format!("UPDATE {accounts} SET balance = balance - {amount} WHERE id = {from}"))?;
                sql.run(format!("UPDATE {accounts} SET balance = balance + {amount} WHERE id = {to}"))?;
                "transfer"
            }
        };
        sql.run(format!("INSERT INTO lab.ledger VALUES ({seq}, SYSDATE(6), '{what}')"))?;
        if gate.commit(|| sql.run("COMMIT"))?.is_none() {
            return Ok(());
        }
        if seq % 200 == 0 {
            // LOCAL: otherwise the statement itself becomes a transaction.
            sql.run("FLUSH LOCAL BINARY LOGS")?;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

/// Statements of many rows, beside the main writer.
fn bulk_writer(gate: &Gate, mut sql: Sql) -> Result<()> {
    for round in 1_u64.. {
        sql.run("BEGIN")?;
        let rows: Vec<String> = (0..20).map(|i| format!("({})", round * 20 + i)).collect();
        sql.run(format!("INSERT INTO lab.bulk (v) VALUES {}", rows.join(",")))?;
        sql.run(format!("DELETE FROM lab.bulk WHERE v < {} LIMIT 10", (round * 10).saturating_sub(200)))?;
        if gate.commit(|| sql.run("COMMIT"))?.is_none() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(11));
    }
    Ok(())
}

/// Transactions longer than a second: their statements are before a stop time that their commit is after.
fn slow_writer(gate: &Gate, mut sql: Sql) -> Result<()> {
    loop {
        sql.run("BEGIN")?;
        for step in 0..5 {
            sql.run(format!("INSERT INTO lab.slow (step) VALUES ({step})"))?;
            std::thread::sleep(Duration::from_millis(270));
            if gate.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        if gate.commit(|| sql.run("COMMIT"))?.is_none() {
            return Ok(());
        }
    }
}

/// Where a master's binlog is, in statements of its version.
pub(crate) fn binlog_position(flavor: Flavor, sql: &mut Sql) -> Result<(String, u64)> {
    let rows = sql.rows(match flavor {
        Flavor::MariaDb => "SHOW MASTER STATUS",
        Flavor::MySql => "SHOW BINARY LOG STATUS",
    })?;
    let mut row = rows.into_iter().next().context("the server writes no binlog")?.into_iter();
    let file = row.next().flatten().context("no binlog file")?;
    let position = row.next().flatten().context("no binlog position")?.parse()?;
    Ok((file, position))
}
