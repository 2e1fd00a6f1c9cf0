//! A source: it ran the workload, and remembers what it held after each phase.

use std::collections::BTreeMap;
use std::path::PathBuf;

use binlog_replay::Flavor;
use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::dir::OwnedDir;
use super::workload::Phase;
use super::{Base, Server, contents, copy_datadir};

/// What the source held at one moment.
pub(crate) struct Moment {
    pub(crate) name: &'static str,
    /// `FILE:POS` behind the last transaction.
    pub(crate) position: String,
    /// A time before which everything of it was committed, and nothing after it.
    pub(crate) time: DateTime<Utc>,
    /// GTID state.
    pub(crate) gtids: String,
    /// The first transaction after the moment; empty at the end.
    pub(crate) next: String,
    pub(crate) contents: BTreeMap<String, String>,
}

pub(crate) struct Source {
    pub(crate) base: Base,
    /// Binlogs, copied after the server was stopped.
    pub(crate) binlogs: PathBuf,
    pub(crate) first: String,
    pub(crate) moments: Vec<Moment>,
    template: PathBuf,
    dir: OwnedDir,
}

impl Source {
    /// Runs the workload on a new server.
    pub(crate) async fn make(base: Base, gtids: bool, phases: fn(Flavor, &str) -> Vec<Phase>) -> Source {
        let dir = OwnedDir::new("rp");
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        super::give_to_mysql(dir.path());
        let template = dir.path().join("template");
        base.new_datadir(&template);
        let server = Server::start(&base, &template, &["--skip-log-bin"]);
        server.make_account().await;
        server.make_time_zone().await;
        server.stop().await;

        let datadir = dir.path().join("source");
        copy_datadir(&template, &datadir);
        let infile = dir.path().join("load.csv");
        std::fs::write(&infile, "5001,from a file\n5002,\"quoted\"\n5003,\\N\n").unwrap();
        let mut options = vec![
            "--log-bin=binlog",
            "--server-id=7",
            "--secure-file-priv=",
            "--sync-binlog=0",
            "--max-allowed-packet=1073741824",
            "--innodb-flush-log-at-trx-commit=0",
        ];
        match (base.flavor, gtids) {
            (Flavor::MySql, true) => options.extend(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]),
            (Flavor::MySql, false) => options.push("--gtid-mode=OFF"),
            (Flavor::MariaDb, _) => options.push("--log-bin-compress-min-len=10"),
        }
        let server = Server::start(&base, &datadir, &options);
        let mut conn = server.root().await;
        let mut second = server.root().await;
        let mut moments: Vec<Moment> = Vec::new();
        for phase in phases(base.flavor, &infile.display().to_string()) {
            for sql in &phase.statements {
                if !gtids && sql.contains("AUTOMATIC") {
                    continue;
                }
                let (session, sql) = match sql.strip_prefix("@2 ") {
                    Some(sql) => (&mut second, sql),
                    None => (&mut conn, sql.as_str()),
                };
                session.query_drop(sql).await.unwrap_or_else(|e| panic!("{}: {sql}: {e}", phase.name));
            }
            moments.push(moment(&server, &mut conn, base.flavor, phase.name).await);
        }
        for i in 1..moments.len() {
            moments[i - 1].next = first_new(base.flavor, &moments[i - 1].gtids, &moments[i].gtids);
        }
        drop((conn, second));
        server.stop().await;
        let binlogs = dir.path().join("binlogs");
        std::fs::create_dir(&binlogs).unwrap();
        for entry in std::fs::read_dir(&datadir).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("binlog.0") {
                std::fs::copy(entry.path(), binlogs.join(name)).unwrap();
            }
        }
        Source { base, binlogs, first: "binlog.000001".into(), moments, template, dir }
    }

    /// A data directory as it was before the first binlog.
    pub(crate) fn datadir(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        copy_datadir(&self.template, &to);
        to
    }

    pub(crate) fn moment(&self, name: &str) -> &Moment {
        self.moments.iter().find(|m| m.name == name).unwrap()
    }
}

async fn moment(server: &Server, conn: &mut Conn, flavor: Flavor, name: &'static str) -> Moment {
    let status = if flavor == Flavor::MySql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row: Row = conn.query_first(status).await.unwrap().unwrap();
    let position = format!("{}:{}", row.get::<String, _>(0).unwrap(), row.get::<u64, _>(1).unwrap());
    let variable =
        if flavor == Flavor::MySql { "@@GLOBAL.gtid_executed" } else { "@@GLOBAL.gtid_binlog_pos" };
    let gtids: String = conn.query_first(format!("SELECT {variable}")).await.unwrap().unwrap();
    // MariaDB's commit times are whole seconds: the next transaction must be in another one.
    let time = next_second(conn).await;
    let mut look = server.root().await;
    let contents = contents(&mut look).await;
    Moment { name, position, time, gtids: gtids.replace('\n', ""), next: String::new(), contents }
}

async fn next_second(conn: &mut Conn) -> DateTime<Utc> {
    let now: String = conn.query_first("SELECT UNIX_TIMESTAMP(NOW(6))").await.unwrap().unwrap();
    let next = now.split('.').next().unwrap().parse::<i64>().unwrap() + 1;
    loop {
        let now: i64 = conn.query_first("SELECT FLOOR(UNIX_TIMESTAMP())").await.unwrap().unwrap();
        if now >= next {
            return DateTime::from_timestamp(next, 0).unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The first transaction that is in `after` and not in `before`, of the first source that grew.
fn first_new(flavor: Flavor, before: &str, after: &str) -> String {
    use binlog_replay::GtidSet;
    let set = |text: &str| GtidSet::parse(flavor, text).unwrap();
    let new = set(after).minus(&set(before)).to_string();
    let first = new.split(',').next().unwrap_or_default().trim();
    match flavor {
        // uuid:5-9 -> uuid:5
        Flavor::MySql => first.split('-').take(5).collect::<Vec<_>>().join("-"),
        // 0-7-5..9 -> 0-7-5
        Flavor::MariaDb => first.split("..").next().unwrap_or_default().to_owned(),
    }
}
