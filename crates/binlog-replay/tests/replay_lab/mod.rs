//! Real servers for the replay tests: a source that writes binlogs, and temporary servers that get them.

#![allow(dead_code, reason = "each test file uses its own part")]

#[macro_use]
mod both;
mod dir;
#[path = "../common/round_trip.rs"]
pub(crate) mod round_trip;
pub(crate) mod source;
pub(crate) mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use binlog_replay::event::EventKind;
use binlog_replay::replay::{self, Account, Method, OnError, Outcome, Request, StartAt, TargetAt};
use binlog_replay::{Flavor, Position, ServerVersion, Start, Target, choose, scan};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

/// Name and password of the account that replays use; the password has what option files and shells trip
/// over.
pub(crate) const USER: &str = "replayer";
pub(crate) const PASSWORD: &str = r#"a "b" \c $HOME 'd' #e"#;

/// The programs of one flavour.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) flavor: Flavor,
    pub(crate) version: String,
    pub(crate) dir: PathBuf,
    server: PathBuf,
}

impl Base {
    pub(crate) fn mysql() -> Base {
        let tools = std::env::var_os("DBRECOVER_TEST_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
            cache.unwrap_or_else(home).join("dbrecover-test-tools")
        });
        let mut found: Vec<_> = std::fs::read_dir(tools.join("mysql"))
            .expect("the MySQL base directory is installed; run tests/setup.sh")
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.join("bin/mysqld").is_file())
            .collect();
        found.sort();
        let dir = found.pop().expect("a mysql-* base directory");
        Self::at(Flavor::MySql, dir.join("bin/mysqld"), dir)
    }

    pub(crate) fn mariadb() -> Base {
        let server = PathBuf::from("/usr/sbin/mariadbd");
        assert!(server.is_file(), "mariadb-server is installed; run tests/setup.sh");
        Self::at(Flavor::MariaDb, server, "/usr".into())
    }

    fn at(flavor: Flavor, server: PathBuf, dir: PathBuf) -> Base {
        let out = Command::new(&server).arg("--no-defaults").arg("--version").output().expect("--version");
        let version = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        assert_eq!(version.parse::<ServerVersion>().unwrap().flavor, flavor);
        Base { flavor, version, dir, server }
    }

    /// An empty data directory, with the account.
    pub(crate) fn new_datadir(&self, dir: &Path) {
        // Servers remove each other's temporary tables from a directory that they share.
        let temporary = dir.with_extension("tmp");
        for dir in [dir, &temporary] {
            std::fs::create_dir_all(dir).unwrap();
            give_to_mysql(dir);
        }
        let mut command = match self.flavor {
            Flavor::MySql => {
                let mut c = Command::new(&self.server);
                c.args(["--no-defaults", "--initialize-insecure", "--innodb-redo-log-capacity=8M"]);
                c
            }
            Flavor::MariaDb => {
                let mut c = Command::new("mariadb-install-db");
                c.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                c
            }
        };
        if is_root() {
            command.arg("--user=mysql");
        }
        command.arg(format!("--datadir={}", dir.display())).env("TMPDIR", &temporary);
        let out = command.output().expect("a new data directory");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

fn give_to_mysql(dir: &Path) {
    if is_root() {
        let out = Command::new("chown").arg("-R").arg("mysql:mysql").arg(dir).status().unwrap();
        assert!(out.success());
    }
}

/// A copy of a stopped server's data directory.
pub(crate) fn copy_datadir(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
    let _ = std::fs::remove_file(to.join("auto.cnf"));
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) datadir: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Server {
    pub(crate) fn start(base: &Base, datadir: &Path, options: &[impl AsRef<str>]) -> Server {
        // Socket paths are limited to 107 bytes, so it lies beside the data directory under a short name.
        let socket = datadir.with_extension("s");
        let _ = std::fs::remove_file(&socket);
        let log = datadir.with_extension("err");
        let temporary = datadir.with_extension("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        give_to_mysql(&temporary);
        let mut command = Command::new(&base.server);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", datadir.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", datadir.with_extension("pid").display()))
            .arg(format!("--log-error={}", log.display()))
            .arg(format!("--tmpdir={}", temporary.display()))
            .arg(format!("--lc-messages-dir={}", base.dir.join("share").display()))
            .arg("--skip-networking")
            .arg("--default-time-zone=+00:00");
        if is_root() {
            command.arg("--user=mysql");
        }
        if base.flavor == Flavor::MySql {
            command.arg("--mysqlx=OFF");
        } else {
            command.args(["--lc-messages-dir=/usr/share/mysql", "--innodb-buffer-pool-size=64M"]);
        }
        command.args(options.iter().map(AsRef::as_ref));
        let _ = std::fs::remove_file(&log);
        let early = std::fs::File::create(datadir.with_extension("out")).unwrap();
        command.stdout(Stdio::null()).stderr(early).stdin(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        let end = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < end,
                "the server did not start: {} {}",
                std::fs::read_to_string(datadir.with_extension("out")).unwrap_or_default(),
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, datadir: datadir.into(), socket }
    }

    pub(crate) async fn root(&self) -> Conn {
        let socket = Some(self.socket.display().to_string());
        let options =
            OptsBuilder::default().socket(socket).user(Some("root")).max_allowed_packet(Some(1 << 30));
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match Conn::new(options.clone()).await {
                Ok(conn) => return conn,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn make_account(&self) {
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        let mut root = self.root().await;
        root.query_drop(format!("CREATE USER {USER}@localhost IDENTIFIED BY '{password}'")).await.unwrap();
        root.query_drop(format!("GRANT ALL ON *.* TO {USER}@localhost WITH GRANT OPTION")).await.unwrap();
    }

    /// A time zone that has a name, 5:45 hours before UTC.
    pub(crate) async fn make_time_zone(&self) {
        let mut root = self.root().await;
        for sql in [
            "INSERT INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (77, 'N')",
            "INSERT INTO mysql.time_zone_name VALUES ('Test/Zone', 77)",
            "INSERT INTO mysql.time_zone_transition_type VALUES (77, 0, 20700, 0, 'TST')",
        ] {
            root.query_drop(sql).await.unwrap();
        }
    }

    pub(crate) async fn stop(mut self) {
        let mut root = self.root().await;
        let _ = root.query_drop("SHUTDOWN").await;
        drop(root);
        self.child.wait().unwrap();
    }

    /// As a crash of the process does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that users put into a server: definitions and checksums of rows, by name.
pub(crate) async fn contents(conn: &mut Conn) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let version: String = conn.query_first("SELECT VERSION()").await.unwrap().unwrap();
    let flavor = version.parse::<ServerVersion>().unwrap().flavor;
    let system = "('mysql','information_schema','performance_schema','sys')";
    let tables: Vec<(String, String, String)> = conn
        .query(format!(
            "SELECT table_schema,table_name,table_type FROM information_schema.tables \
             WHERE table_schema NOT IN {system}"
        ))
        .await
        .unwrap();
    for (schema, table, kind) in tables {
        let name = format!("`{schema}`.`{table}`");
        let create = row_text(conn, &format!("SHOW CREATE TABLE {name}")).await;
        all.insert(name.clone(), without_next_key(&create));
        if !kind.contains("VIEW") {
            for (i, row) in rows_of(conn, &schema, &table, &kind).await.into_iter().enumerate() {
                all.insert(format!("{name} row {i}"), row);
            }
        }
    }
    if flavor == Flavor::MySql {
        let sql = "SELECT CONCAT_WS('|',schema_name,default_encryption) FROM information_schema.schemata";
        for row in conn.query::<String, _>(sql).await.unwrap() {
            all.insert(format!("encryption {row}"), String::new());
        }
    }
    let prepared: Vec<(i64, i64, i64, Vec<u8>)> = conn.query("XA RECOVER").await.unwrap();
    for name in prepared {
        all.insert(format!("prepared {name:?}"), String::new());
    }
    for (what, sql) in [
        (
            "routine",
            format!(
                "SELECT CONCAT_WS('|',routine_schema,routine_name,HEX(routine_definition),sql_mode,definer,character_set_client) FROM information_schema.routines WHERE routine_schema NOT IN {system}"
            ),
        ),
        (
            "trigger",
            format!(
                "SELECT CONCAT_WS('|',trigger_schema,trigger_name,HEX(action_statement),sql_mode) FROM information_schema.triggers WHERE trigger_schema NOT IN {system}"
            ),
        ),
        (
            "event",
            format!(
                "SELECT CONCAT_WS('|',event_schema,event_name,HEX(event_definition),interval_value,status,event_comment,definer) FROM information_schema.events WHERE event_schema NOT IN {system}"
            ),
        ),
        (
            "schema",
            format!(
                "SELECT CONCAT_WS('|',schema_name,default_collation_name) FROM information_schema.schemata WHERE schema_name NOT IN {system}"
            ),
        ),
        ("user", "SELECT CONCAT_WS('|',user,host,plugin,authentication_string) FROM mysql.user".to_owned()),
        (
            "right",
            "SELECT CONCAT_WS('|',user,host,db,select_priv,insert_priv,update_priv) FROM mysql.db".to_owned(),
        ),
        (
            "role",
            match flavor {
                Flavor::MySql => "SELECT CONCAT_WS('|',from_user,to_user,to_host) FROM mysql.role_edges",
                Flavor::MariaDb => {
                    "SELECT CONCAT_WS('|',role,user,host,admin_option) FROM mysql.roles_mapping"
                }
            }
            .to_owned(),
        ),
    ] {
        let rows: Vec<String> = conn.query(sql).await.unwrap();
        for row in rows {
            all.insert(format!("{what} {row}"), String::new());
        }
    }
    all
}

/// Every row of a table as a checksum and its first 200 characters. `CHECKSUM TABLE` is of no use: on MariaDB
/// it reads virtual columns that nobody computed.
async fn rows_of(conn: &mut Conn, schema: &str, table: &str, kind: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = conn
        .query(format!(
            "SELECT column_name, data_type FROM information_schema.columns \
             WHERE table_schema='{schema}' AND table_name='{table}' ORDER BY ordinal_position"
        ))
        .await
        .unwrap();
    let values = columns.iter().map(|(name, kind)| {
        let name = name.replace('`', "``");
        match kind.as_str() {
            // Character sets do not mix in one text.
            _ if table == "charsets" => format!("COALESCE(HEX(`{name}`),'~')"),
            "point" | "geometry" => format!("ST_AsText(`{name}`)"),
            "varbinary" | "blob" => format!("COALESCE(HEX(`{name}`),'~')"),
            _ => format!("COALESCE(`{name}`,'~')"),
        }
    });
    let mut values: Vec<String> = values.collect();
    let history = if kind.contains("VERSIONED") {
        values.extend(["ROW_START".into(), "ROW_END".into()]);
        "FOR SYSTEM_TIME ALL"
    } else {
        ""
    };
    let row = format!("CONCAT_WS('|',{})", values.join(","));
    let table = table.replace('`', "``");
    let sql = format!(
        "SELECT CONCAT(CRC32({row}),' ',LEFT({row},200)) FROM `{schema}`.`{table}` {history} ORDER BY 1"
    );
    let mut rows: Vec<String> = conn.query(sql).await.unwrap();
    rows.sort();
    rows
}

/// The counter for the next key is no content: a server with another `auto_increment_increment` than the
/// statement's rounds it differently, and replicas of MySQL do so, too.
fn without_next_key(create: &str) -> String {
    match create.split_once(" AUTO_INCREMENT=") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{rest}")
        }
        None => create.to_owned(),
    }
}

async fn row_text(conn: &mut Conn, sql: &str) -> String {
    let row: Option<Row> = conn.query_first(sql).await.unwrap();
    row.map_or_else(String::new, |row| {
        row.unwrap()
            .iter()
            .map(|v| match v {
                Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
                v => v.as_sql(false),
            })
            .collect::<Vec<_>>()
            .join("|")
    })
}

/// What differs, in words; empty if nothing does.
pub(crate) fn differences(
    wanted: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut out = Vec::new();
    for name in wanted.keys().chain(found.keys()) {
        let (a, b) = (wanted.get(name), found.get(name));
        if a != b && !out.iter().any(|line: &String| line.starts_with(name.as_str())) {
            out.push(format!("{name}: source {a:?}, replayed {b:?}"));
        }
    }
    out
}

/// A request for everything from the first binlog on.
pub(crate) fn request(base: &Base, binlogs: &Path, datadir: &Path, first: &str, target: TargetAt) -> Request {
    Request {
        schema_version: replay::SCHEMA_VERSION,
        server_version: base.version.clone(),
        binlogs: vec![binlogs.into()],
        start: StartAt { position: format!("{first}:4"), executed: Some(String::new()) },
        target,
        skip: None,
        method: Method::Auto,
        on_error: OnError::Stop,
        resume: false,
        held: None,
        datadir: datadir.into(),
        base_dir: Some(base.dir.clone()),
        server: Some(Account {
            socket: datadir.with_extension("s"),
            user: USER.into(),
            password: PASSWORD.to_owned().into(),
        }),
        workers: Some(4),
        buffer_pool: Some(128 << 20),
    }
}

/// Starts a server on `request.datadir` as the request needs it.
pub(crate) fn start_for(base: &Base, request: &Request) -> Server {
    let prepared = replay::prepare(request).unwrap_or_else(|e| panic!("prepare: {e}"));
    Server::start(base, &request.datadir, &prepared.server_options)
}

/// Prepares, starts, runs; the server is given back for a look at it.
pub(crate) async fn replay(base: &Base, request: &Request) -> (Server, Result<Outcome, replay::Error>) {
    let server = start_for(base, request);
    let outcome = replay::run(request, &mut |p| {
        assert!(p.bytes <= p.bytes_total && p.transactions <= p.transactions_total, "{p:?}");
    })
    .await;
    (server, outcome)
}

/// One data directory goes through all the moments of the source, each by another kind of target.
pub(crate) async fn every_target(source: &source::Source, method: Method) {
    let target = |i: usize, moment: &source::Moment| match i {
        0 => TargetAt::Position(moment.position.clone()),
        1 => TargetAt::Time(moment.time),
        2 => TargetAt::BeforeGtid(moment.next.clone()),
        3 => TargetAt::UntilGtid(moment.gtids.clone()),
        _ => TargetAt::End,
    };
    every_moment(source, method, target).await;
}

/// One data directory goes through all the moments of the source, each but the first as a continuation of the one
/// before.
pub(crate) async fn every_moment(
    source: &source::Source,
    method: Method,
    target: impl Fn(usize, &source::Moment) -> TargetAt,
) {
    let datadir = source.datadir(method.name());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    request.method = method;
    let server = start_for(&source.base, &request);
    let untouched = files(&source.binlogs);
    for (i, moment) in source.moments.iter().enumerate() {
        request.target = target(i, moment);
        // As a later target of a finished recovery: the state that the last replay proved.
        request.resume = i > 0;
        request.held = (i > 0).then(|| source.moments[i - 1].gtids.clone());
        let outcome = replay::run(&request, &mut |_| {}).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method} to {}: {e}", moment.name));
        assert_eq!(outcome.proof.found, outcome.proof.expected);
        assert_eq!(outcome.proof.found, moment.gtids, "{method} to {}", moment.name);
        let found = contents(&mut server.root().await).await;
        assert_eq!(
            differences(&moment.contents, &found),
            Vec::<String>::new(),
            "{method} to {}",
            moment.name
        );
    }
    server.stop().await;
    assert!(files(&source.binlogs) == untouched, "{method} changed the binlogs");
    replay::clean(&datadir).unwrap();
    let left: Vec<_> = std::fs::read_dir(&datadir).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().contains("dbrecover")), "{left:?}");
}

/// A replica's backup says whom it followed, also where nothing is left to replay.
pub(crate) async fn follows_nobody(source: &source::Source) {
    let (change, show) = match source.base.flavor {
        Flavor::MySql => {
            ("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=1", "SHOW REPLICA STATUS")
        }
        Flavor::MariaDb => {
            ("CHANGE MASTER 'old' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1", "SHOW ALL SLAVES STATUS")
        }
    };
    let first = TargetAt::Position(format!("{}:4", source.first));
    let next = TargetAt::Position(source.moments[0].position.clone());
    for (method, target) in
        [(Method::Auto, &first), (Method::Relay, &next), (Method::Sql, &next), (Method::Pipe, &next)]
    {
        let datadir = source.datadir(&format!("follows-{method}"));
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, target.clone());
        request.method = method;
        let server = start_for(&source.base, &request);
        let mut root = server.root().await;
        root.query_drop(change).await.unwrap();
        assert_eq!(root.query::<Row, _>(show).await.unwrap().len(), 1);
        replay::run(&request, &mut |_| {}).await.unwrap_or_else(|e| panic!("{method}: {e}"));
        assert_eq!(root.query::<Row, _>(show).await.unwrap().len(), 0, "{method} to {target:?}");
        drop(root);
        server.stop().await;
    }
}

/// Names and bytes of the files in a folder.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().flatten().filter(|e| e.path().is_file());
    entries.map(|e| (e.path(), std::fs::read(e.path()).unwrap())).collect()
}

/// When a server that is killed has written what it committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// At once, so all of it counts.
    Always,
    /// Up to the thousandth transaction, and a second later: as in a replay that is no test.
    First,
    /// A second later.
    Late,
}

/// Kills the server when some transactions are applied; gives the request with which they were.
async fn crash(source: &source::Source, method: Method, written: Written) -> (Request, u64) {
    let datadir = source.datadir(&format!("crash-{method}-{written:?}"));
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    request.method = method;
    if source.moments.last().unwrap().gtids.is_empty() {
        request.start.executed = None;
    }
    let server = start_for(&source.base, &request);
    if written == Written::First {
        let all = source.moments[0].gtids.strip_suffix("5002").expect("two DDL statements and 5000 others");
        request.target = TargetAt::UntilGtid(format!("{all}1000"));
        let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
        (request.resume, request.held) = (true, Some(outcome.proof.found));
        request.target = TargetAt::End;
    }
    let flush = if written == Written::Always { 2 } else { 0 };
    let sql = format!("SET GLOBAL innodb_flush_log_at_trx_commit={flush}");
    server.root().await.query_drop(sql).await.unwrap();
    let server = std::sync::Mutex::new(Some(server));
    let mut reached = 0;
    let cut_off = replay::run(&request, &mut |p| {
        if p.transactions > 100
            && p.transactions < p.transactions_total
            && let Some(server) = server.lock().unwrap().take()
        {
            server.kill();
            reached = p.transactions;
        }
    })
    .await;
    assert!(cut_off.is_err() && reached > 0, "{method}: the server was not killed in time");
    (request.resume, request.held) = (true, None);
    (request, reached)
}

/// Kills the server when some transactions are applied, starts it again and goes on.
pub(crate) async fn crash_and_resume(source: &source::Source, method: Method) {
    let moment = source.moments.last().unwrap();
    let (request, reached) = crash(source, method, Written::Always).await;
    let (server, outcome) = self::replay(&source.base, &request).await;
    let outcome = outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
    // The relay method's count of transactions is an estimate by bytes.
    assert!(outcome.transactions + reached / 2 < 5003, "{method}: {} after {reached}", outcome.transactions);
    assert!(outcome.proof.found == moment.gtids || moment.gtids.is_empty(), "{:?}", outcome.proof);
    let found = contents(&mut server.root().await).await;
    assert_eq!(differences(&moment.contents, &found), Vec::<String>::new(), "{method}");
    server.stop().await;
}

/// Kills the server when `sql` has applied everything and proved nothing, starts it again and goes on.
pub(crate) async fn killed_before_the_proof(source: &source::Source) {
    let moment = source.moments.last().unwrap();
    let datadir = source.datadir("before-the-proof");
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
    request.method = Method::Sql;
    if moment.gtids.is_empty() {
        request.start.executed = None;
    }
    let server = start_for(&source.base, &request);
    server.root().await.query_drop("SET GLOBAL innodb_flush_log_at_trx_commit=2").await.unwrap();
    let server = std::sync::Mutex::new(Some(server));
    let cut_off = replay::run(&request, &mut |p| {
        if p.transactions == p.transactions_total
            && let Some(server) = server.lock().unwrap().take()
        {
            server.kill();
        }
    })
    .await;
    assert!(cut_off.is_err() && server.lock().unwrap().is_none(), "the server was not killed in time");
    request.resume = true;
    let (server, outcome) = self::replay(&source.base, &request).await;
    let outcome = outcome.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome.transactions, 0);
    assert!(outcome.proof.found == moment.gtids || moment.gtids.is_empty(), "{:?}", outcome.proof);
    let mut root = server.root().await;
    let found = contents(&mut root).await;
    assert_eq!(differences(&moment.contents, &found), Vec::<String>::new());
    let sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_name='dbrecover_replay'";
    let left: u64 = root.query_first(sql).await.unwrap().unwrap();
    assert_eq!(left, 0, "its own table is still there");
    drop(root);
    server.stop().await;
}

/// As [`crash_and_resume`], with what the server had not written yet lost.
pub(crate) async fn lose_a_second_and_resume(source: &source::Source, method: Method) {
    let (request, _) = crash(source, method, Written::First).await;
    let (server, outcome) = self::replay(&source.base, &request).await;
    outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
    let found = contents(&mut server.root().await).await;
    assert_eq!(
        differences(&source.moments.last().unwrap().contents, &found),
        Vec::<String>::new(),
        "{method}"
    );
    server.stop().await;
}

/// Where the only record of GTIDs is a binlog without fsync, no method goes on after a crash.
pub(crate) async fn crash_and_refuse(source: &source::Source, method: Method) {
    let (mut request, _) = crash(source, method, Written::Late).await;
    let error = replay::prepare(&request).unwrap_err();
    assert!(error.to_string().contains("without fsync"), "{error}");
    for other in [Method::Relay, Method::Sql] {
        request.method = other;
        let (server, outcome) = self::replay(&source.base, &request).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, replay::Error::InDoubt { .. }), "{other}: {error}");
        server.stop().await;
    }
}

/// After a crash nothing tells what a table without transactions holds.
pub(crate) async fn tables_without_transactions_are_in_doubt(source: &source::Source) {
    let datadir = source.datadir("in-doubt");
    let stop = TargetAt::Position(source.moment("statements").position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
    let (server, outcome) = self::replay(&source.base, &request).await;
    request.held = Some(outcome.unwrap().proof.found);
    (request.resume, request.target) = (true, TargetAt::End);
    let crashed = Request { held: None, ..request.clone() };
    let error = replay::run(&crashed, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("shop.plain (MyISAM)"), "{error}");
    replay::run(&request, &mut |_| {}).await.unwrap();
    server.stop().await;
}

/// Kills the server while a statement that commits by itself waits for a lock, starts it again and goes on.
pub(crate) async fn crash_in_ddl(
    source: &source::Source,
    method: Method,
) -> (Server, Result<Outcome, replay::Error>) {
    let datadir = source.datadir(&format!("ddl-{method}"));
    let before = &source.moments[0];
    let stop = TargetAt::Position(before.position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
    request.method = method;
    if before.gtids.is_empty() {
        request.start.executed = None;
    }
    let (server, outcome) = self::replay(&source.base, &request).await;
    let outcome = outcome.unwrap();
    request.target = TargetAt::End;
    match before.gtids.is_empty() {
        true => request.start.position = outcome.range.stop,
        false => (request.resume, request.held) = (true, Some(outcome.proof.found)),
    }
    let mut holder = server.root().await;
    holder.query_drop("LOCK TABLES shop.t READ").await.unwrap();
    let cut_off = async {
        let mut look = server.root().await;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let all: Vec<Row> = look.query("SHOW PROCESSLIST").await.unwrap();
            let state = |row: &Row| row.get::<Option<String>, _>("State").flatten().unwrap_or_default();
            if all.iter().any(|row| state(row).contains("metadata lock")) {
                break;
            }
            assert!(Instant::now() < end, "{method}: no statement waits for the lock");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.kill();
    };
    let progress = &mut |_| {};
    let (outcome, ()) = tokio::join!(replay::run(&request, progress), cut_off);
    outcome.expect_err("the server was killed");
    (request.resume, request.held) = (true, None);
    self::replay(&source.base, &request).await
}

/// What [`crash_in_ddl`] leaves behind is not gone on with, and as it was.
pub(crate) async fn ddl_is_in_doubt(source: &source::Source, method: Method, place: &str) {
    let (server, outcome) = crash_in_ddl(source, method).await;
    let error = outcome.expect_err("nothing says whether the statement was applied");
    assert!(matches!(error, replay::Error::InDoubt { .. }), "{method}: {error}");
    assert!(error.to_string().contains(place), "{method}: {error}");
    let found = contents(&mut server.root().await).await;
    assert_eq!(differences(&source.moments[0].contents, &found), Vec::<String>::new(), "{method}");
    server.stop().await;
}

/// An applier would store events as disabled ones.
pub(crate) async fn events_stay_enabled(base: Base) {
    let source = source::Source::make(base, true, workload::events).await;
    everything_by(&source, &[Method::Auto, Method::Sql]).await;
    is_refused(&source, Method::Relay, TargetAt::End, "event scheduler");
    is_refused(&source, Method::Pipe, TargetAt::End, "of its session");
}

/// A statement that changes an event is known in whatever form it was written.
pub(crate) async fn events_are_known_in_every_form(base: Base) {
    let source = source::Source::make(base, true, workload::enabled_events).await;
    for pair in source.moments.windows(2) {
        let stop = TargetAt::Position(pair[1].position.clone());
        let mut request = request(&source.base, &source.binlogs, Path::new("/nowhere"), &source.first, stop);
        request.start = StartAt { position: pair[0].position.clone(), executed: Some(pair[0].gtids.clone()) };
        for (method, why) in [(Method::Relay, "event scheduler"), (Method::Pipe, "of its session")] {
            request.method = method;
            let plan = replay::prepare(&request);
            let error = plan.err().unwrap_or_else(|| panic!("{method} takes what is {}", pair[1].name));
            assert!(error.to_string().contains(why), "{}: {error}", pair[1].name);
        }
    }
    every_moment(&source, Method::Sql, |_, moment| TargetAt::Position(moment.position.clone())).await;
    let mut forms = 0;
    for file in scan(&[&source.binlogs]).unwrap().files {
        forms += file.ddl.iter().filter(|ddl| ddl.text.contains("ALTER EVENT")).count();
    }
    assert_eq!(forms, source.moments.len() - 1);
}

/// What a statement does not say is its session's, as its source knew it.
pub(crate) async fn statements_mean_their_sessions(base: Base) {
    let source = source::Source::make(base, true, workload::sessions).await;
    for method in [Method::Relay, Method::Sql] {
        every_moment(&source, method, |_, moment| TargetAt::Position(moment.position.clone())).await;
    }
    let first = &source.moments[0];
    let datadir = source.datadir("some-by-pipe");
    let stop = TargetAt::Position(first.position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
    request.method = Method::Pipe;
    let (server, outcome) = self::replay(&source.base, &request).await;
    outcome.unwrap();
    let found = contents(&mut server.root().await).await;
    assert_eq!(differences(&first.contents, &found), Vec::<String>::new());
    server.stop().await;
    is_refused(&source, Method::Pipe, TargetAt::End, "of its session");
    if source.base.flavor == Flavor::MariaDb {
        let variable = TargetAt::Position(source.moments[1].position.clone());
        is_refused(&source, Method::Pipe, variable, "a variable of its session");
    }
}

/// A distributed transaction that is refused is left out, and so is what completes it.
pub(crate) async fn distributed_transaction_is_left_out(base: Base) {
    let source = source::Source::make(base, true, workload::distributed).await;
    let datadir = source.datadir("left-out");
    let stop = TargetAt::Position(source.moments[0].position.clone());
    let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
    request.method = Method::Sql;
    let (server, outcome) = self::replay(&source.base, &request).await;
    let mut root = server.root().await;
    root.query_drop("SET sql_log_bin=0").await.unwrap();
    root.query_drop("INSERT INTO shop.t VALUES (5, 'in the way')").await.unwrap();
    (request.resume, request.held) = (true, Some(outcome.unwrap().proof.found));
    (request.target, request.on_error) = (TargetAt::End, OnError::SkipLogged);
    let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
    assert_eq!(outcome.left_out.len(), 2, "{:?}", outcome.left_out);
    assert!(outcome.left_out[0].error.contains("Duplicate entry"), "{:?}", outcome.left_out);
    let rows: Vec<(u32, String)> = root.query("SELECT id, a FROM shop.t ORDER BY id").await.unwrap();
    assert_eq!(rows, [(5, "in the way".to_owned()), (6, "the end".to_owned())]);
    drop(root);
    server.stop().await;
}

/// What is prepared and neither committed nor rolled back waits for somebody who knows.
pub(crate) async fn prepared_transactions_are_named(base: Base) {
    let source = source::Source::make(base, true, workload::distributed).await;
    for method in [Method::Relay, Method::Sql, Method::Pipe] {
        let datadir = source.datadir(&format!("prepared-{method}"));
        let stop = TargetAt::Position(source.moments[1].position.clone());
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, stop);
        request.method = method;
        let (server, outcome) = self::replay(&source.base, &request).await;
        let json = serde_json::to_value(outcome.unwrap_or_else(|e| panic!("{method}: {e}"))).unwrap();
        let warnings = json["warnings"].to_string();
        assert!(warnings.contains("X'6F6E65',X'62',7"), "{method}: {warnings}");
        (request.resume, request.held) = (true, Some(source.moments[1].gtids.clone()));
        request.target = TargetAt::End;
        let outcome = replay::run(&request, &mut |_| {}).await.unwrap_or_else(|e| panic!("{method}: {e}"));
        let json = serde_json::to_value(outcome).unwrap();
        assert_eq!(json["warnings"], serde_json::json!([]), "{method}");
        server.stop().await;
    }
}

/// A method cannot come to a target.
fn is_refused(source: &source::Source, method: Method, target: TargetAt, why: &str) {
    let mut request = request(&source.base, &source.binlogs, Path::new("/nowhere"), &source.first, target);
    request.method = method;
    let error = replay::prepare(&request).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

/// Replays all of a source by some methods and compares.
pub(crate) async fn everything_by(source: &source::Source, methods: &[Method]) {
    for &method in methods {
        let datadir = source.datadir(&format!("all-{method}"));
        let mut request = request(&source.base, &source.binlogs, &datadir, &source.first, TargetAt::End);
        request.method = method;
        let (server, outcome) = self::replay(&source.base, &request).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method}: {e}"));
        assert!(outcome.transactions > 2, "{method}: {}", outcome.transactions);
        let found = contents(&mut server.root().await).await;
        let wanted = &source.moments.last().unwrap().contents;
        assert_eq!(differences(wanted, &found), Vec::<String>::new(), "{method}");
        server.stop().await;
        std::fs::remove_dir_all(&datadir).unwrap();
    }
}

/// Every event of a source's binlogs encodes to the bytes that it came from.
pub(crate) fn events_round_trip(source: &source::Source, wanted: &[EventKind]) {
    let mut seen = Vec::new();
    for path in files(&source.binlogs).into_keys() {
        seen.extend(round_trip::file(&path).0.into_keys());
    }
    for kind in wanted {
        assert!(seen.contains(kind), "the source wrote no {kind}");
    }
}

/// The stock tool stops where we do, for the same position and, where nothing is committed near it, the same time.
pub(crate) fn stops_where_the_stock_tool_stops(source: &source::Source) {
    let index = scan(&[&source.binlogs]).unwrap();
    let start = Start { position: Position::new(&*source.first, 4), executed: None };
    for moment in &source.moments {
        let (file, position) = moment.position.split_once(':').unwrap();
        let range =
            choose(&index, &start, &Target::Position(moment.position.parse().unwrap()), None).unwrap();
        assert_eq!(range.stop().to_string(), moment.position);
        let path = source.binlogs.join(file);
        let stock = last_event(&source.base, &path, &format!("--stop-position={position}"));
        assert_eq!(stock, range.stop().pos, "{}", moment.name);

        let range = choose(&index, &start, &Target::Time(moment.time), None).unwrap();
        let last = range.last.unwrap().end;
        let time = moment.time.format("--stop-datetime=%Y-%m-%d %H:%M:%S").to_string();
        let stock = last_event(&source.base, &source.binlogs.join(&last.file), &time);
        assert_eq!(stock, last.pos, "{} by time", moment.name);
    }
}

/// Where the last event ends that the stock tool prints of a file, its end marks not counted.
fn last_event(base: &Base, path: &Path, stop: &str) -> u64 {
    let tool = ["mysqlbinlog", "mariadb-binlog"].map(|name| base.dir.join("bin").join(name));
    let tool = tool.iter().rfind(|tool| tool.is_file()).unwrap();
    let loads = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool);
    command.arg("--no-defaults").arg(stop).arg("--local-load").arg(loads.path()).arg(path).env("TZ", "UTC");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let ends = text.lines().filter(|line| line.starts_with('#')).filter_map(|line| {
        let (_, rest) = line.split_once("end_log_pos ")?;
        let marks = ["\tRotate to", "\tStop"];
        (!marks.iter().any(|mark| rest.contains(mark)))
            .then(|| rest.split_whitespace().next()?.parse().ok())?
    });
    ends.max().unwrap_or(0)
}

/// A server that took over: its binlogs begin with what the old master's hold, and go on in a file of their own with
/// `statements`. Gives them, and what it held at the end.
async fn new_master(
    old: &source::Source,
    log: &str,
    statements: &[&str],
) -> (PathBuf, BTreeMap<String, String>) {
    let datadir = old.datadir("new-master");
    let log_bin = format!("--log-bin={log}");
    let mut options = vec![log_bin.as_str(), "--server-id=8", "--sync-binlog=0"];
    match old.base.flavor {
        Flavor::MySql => options.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]),
        Flavor::MariaDb => options.push("--log-slave-updates"),
    }
    let server = Server::start(&old.base, &datadir, &options);
    let (reader, client) = match old.base.flavor {
        Flavor::MySql => ("mysqlbinlog", "mysql"),
        Flavor::MariaDb => ("mariadb-binlog", "mariadb"),
    };
    let mut read = Command::new(old.base.dir.join("bin").join(reader));
    let loads = tempfile::tempdir().unwrap();
    read.arg("--no-defaults")
        .arg("--local-load")
        .arg(loads.path())
        .args(files(&old.binlogs).into_keys())
        .stdout(Stdio::piped());
    let mut read = read.spawn().unwrap();
    let mut apply = Command::new(old.base.dir.join("bin").join(client));
    apply.args(["--no-defaults", "--binary-mode", "--comments", "-uroot", "--max-allowed-packet=1G"]);
    apply.arg("-S").arg(&server.socket).stdin(read.stdout.take().unwrap());
    assert!(apply.status().unwrap().success() && read.wait().unwrap().success());
    let mut conn = server.root().await;
    for sql in ["USE shop", "FLUSH BINARY LOGS"].iter().chain(statements) {
        conn.query_drop(*sql).await.unwrap();
    }
    let wanted = contents(&mut conn).await;
    drop(conn);
    server.stop().await;
    let theirs = datadir.with_extension("binlogs");
    std::fs::create_dir(&theirs).unwrap();
    for (path, bytes) in files(&datadir) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(&format!("{log}.0")) {
            std::fs::write(theirs.join(name), bytes).unwrap();
        }
    }
    (theirs, wanted)
}

/// The new master's binlogs begin with what the old one's hold, and go on from there.
pub(crate) async fn failover(old: &source::Source, methods: &[Method]) {
    let statements = ["INSERT INTO t (a) VALUES ('on the new master')", "UPDATE t SET n=n+1 WHERE id<9"];
    let (theirs, wanted) = new_master(old, "other", &statements).await;
    for &method in methods {
        let datadir = old.datadir(&format!("failover-{method}"));
        let mut request = request(&old.base, &old.binlogs, &datadir, &old.first, TargetAt::End);
        request.binlogs.push(theirs.clone());
        request.method = method;
        let (server, outcome) = self::replay(&old.base, &request).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{method}: {e:?}"));
        assert!(outcome.range.files.iter().any(|file| file.starts_with("other.")), "{:?}", outcome.range);
        let found = contents(&mut server.root().await).await;
        assert_eq!(differences(&wanted, &found), Vec::<String>::new(), "{method}");
        server.stop().await;
    }
}

/// Where the replay stopped is a place in the new master's file, and the old one has a file of that name, too.
pub(crate) async fn goes_on_in_the_new_masters_file(old: &source::Source, method: Method) {
    let statements = [
        "INSERT INTO t (a) VALUES ('on the new master')",
        "INSERT INTO t (a) VALUES ('once more')",
        "INSERT INTO t (id, a) VALUES (1000, 'in the way')",
        "INSERT INTO t (a) VALUES ('the last')",
    ];
    let (theirs, wanted) = new_master(old, "binlog", &statements).await;
    let datadir = old.datadir("same-names");
    let mut request = request(&old.base, &old.binlogs, &datadir, &old.first, TargetAt::End);
    request.binlogs.push(theirs);
    request.method = method;
    let server = start_for(&old.base, &request);
    let mut root = server.root().await;
    // All of the old one's, so that there is a table to put a row into.
    let all = Request { target: TargetAt::UntilGtid(old.moments[0].gtids.clone()), ..request.clone() };
    let outcome = replay::run(&all, &mut |_| {}).await.unwrap();
    root.query_drop("INSERT INTO shop.t (id) VALUES (1000)").await.unwrap();
    (request.resume, request.held) = (true, Some(outcome.proof.found));
    let error = replay::run(&request, &mut |_| {}).await.expect_err("the row is there already");
    assert!(matches!(error, replay::Error::Refused { .. }), "{error}");
    root.query_drop("DELETE FROM shop.t WHERE id = 1000").await.unwrap();
    request.held = None;
    let outcome = replay::run(&request, &mut |_| {}).await.unwrap();
    assert_eq!(outcome.transactions, 2);
    assert_eq!(differences(&wanted, &contents(&mut root).await), Vec::<String>::new());
    drop(root);
    server.stop().await;
}
