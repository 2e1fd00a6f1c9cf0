//! Backup stores, made once by real servers and real tools, then kept for every test that wants one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Local, NaiveDateTime, SubsecRound};
use serde::{Deserialize, Serialize};

use crate::backup::{self, Member};
use crate::server::{Config, Flavor, Server};
use crate::tools::{run, tools_dir};
use crate::truth::{Moment, Point, Truth, state};
use crate::workload::{Account, PASSWORD, Tick, Workload, binlog_position, prepare};

/// Which servers of a group are backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `backup-master = 1`: masters, each with its own binlogs.
    Masters,
    /// `backup-master = 0`: one replica per group, with the binlogs of its master.
    Replicas,
}

/// What a store is to be like. Two equal values give the same store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreOptions {
    /// The family of the servers.
    pub flavor: Flavor,
    /// Masters or replicas.
    pub shape: Shape,
    /// Members of the streams are compressed.
    pub compress: bool,
    /// The store is encrypted with this password.
    pub password: Option<String>,
    /// How many chains of one full and two incremental backups; a later chain has one incremental.
    pub chains: usize,
    /// Passwords in `dbscale.conf` are base64.
    pub encode_password: bool,
    /// With [`Shape::Masters`]: a replica of the second group is there and backed up too.
    pub spare_replica: bool,
    /// Servers with another page size, several data files, compressed binlogs in mixed format (MariaDB).
    pub odd: bool,
    /// Rows that the bulk table starts with, for a store of some size.
    pub ballast_mib: u32,
}

/// What servers of an odd store have beside their layout.
const ODD: [&str; 2] = ["log_bin_compress=1", "binlog_format=mixed"];

impl StoreOptions {
    fn layout(&self) -> Vec<String> {
        let odd = ["--innodb-page-size=8k", "--innodb-data-file-path=ibdata1:10M;ibdata2:6M:autoextend"];
        if self.odd { odd.map(str::to_owned).to_vec() } else { Vec::new() }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            flavor: Flavor::MariaDb,
            shape: Shape::Masters,
            compress: false,
            password: None,
            chains: 1,
            encode_password: false,
            spare_replica: false,
            odd: false,
            ballast_mib: 0,
        }
    }
}

/// A finished store. It is shared between tests: read it, or work on a [`Store::copy_to`].
#[derive(Debug, Clone)]
pub struct Store {
    /// The backup base directory.
    pub dir: PathBuf,
    /// What the servers held.
    pub truth: Truth,
}

impl Store {
    /// The store of these options, made now if no test has made it yet.
    pub fn get(options: &StoreOptions) -> Result<Self> {
        let stores = tools_dir().join("lab-stores");
        fs::create_dir_all(&stores)?;
        let place = stores.join(key(options)?);
        let lock = fs::File::create(place.with_extension("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        if !place.join("truth.json").exists() {
            let partial = place.with_extension("partial");
            let _ = fs::remove_dir_all(&partial);
            Self::make(&partial, options)?;
            fs::rename(&partial, &place)?;
        }
        Self::open(&place)
    }

    /// Masters, with a backed-up replica beside them that is not to be recovered.
    pub fn masters() -> Result<Self> {
        Self::get(&StoreOptions { spare_replica: true, ..StoreOptions::default() })
    }

    /// One replica per group, passwords in base64.
    pub fn replicas() -> Result<Self> {
        Self::get(&StoreOptions { shape: Shape::Replicas, encode_password: true, ..StoreOptions::default() })
    }

    /// Encrypted masters.
    pub fn encrypted() -> Result<Self> {
        let password = Some("correct \"horse\" $1 'ä'".to_owned());
        Self::get(&StoreOptions { password, ..StoreOptions::default() })
    }

    /// Masters with compressed streams.
    pub fn compressed() -> Result<Self> {
        Self::get(&StoreOptions { compress: true, encode_password: true, ..StoreOptions::default() })
    }

    /// Two chains of masters.
    pub fn two_chains() -> Result<Self> {
        Self::get(&StoreOptions { chains: 2, ..StoreOptions::default() })
    }

    /// Masters with another page size, several data files and compressed binlogs.
    pub fn odd() -> Result<Self> {
        Self::get(&StoreOptions { odd: true, ..StoreOptions::default() })
    }

    /// MySQL masters.
    pub fn mysql() -> Result<Self> {
        Self::get(&StoreOptions { flavor: Flavor::MySql, ..StoreOptions::default() })
    }

    /// Makes a store: `place/store` and, beside it, `place/truth.json`.
    pub fn make(place: &Path, options: &StoreOptions) -> Result<Self> {
        fs::create_dir_all(place)?;
        let dir = place.join("store");
        let truth = Cluster::start(options)?.run(&dir)?;
        truth.write(&place.join("truth.json"))?;
        Ok(Self { dir, truth })
    }

    /// A store that [`Store::make`] made.
    pub fn open(place: &Path) -> Result<Self> {
        Ok(Self { dir: place.join("store"), truth: Truth::read(&place.join("truth.json"))? })
    }

    /// A copy to change; large files are linked where that cannot be noticed, so a test that writes *into*
    /// a file of the copy must replace the file instead.
    pub fn copy_to(&self, dir: &Path) -> Result<Self> {
        let linked = Command::new("cp").arg("-al").arg(&self.dir).arg(dir).output()?;
        if !linked.status.success() {
            let _ = fs::remove_dir_all(dir);
            run(Command::new("cp").arg("-a").arg(&self.dir).arg(dir))?;
        }
        Ok(Self { dir: dir.to_owned(), truth: self.truth.clone() })
    }
}

/// Options, the lab's own sources and the server's version: a change of any makes another store.
fn key(options: &StoreOptions) -> Result<String> {
    let mut text = serde_json::to_string(options)?;
    text.push_str(&options.flavor.version()?);
    for source in [
        include_str!("backup.rs"),
        include_str!("basedir.rs"),
        include_str!("server.rs"),
        include_str!("store.rs"),
        include_str!("truth.rs"),
        include_str!("workload.rs"),
    ] {
        text.push_str(source);
    }
    // FNV-1a, 64 bits: no need for more than "has it changed".
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let flavor = match options.flavor {
        Flavor::MariaDb => "mariadb",
        Flavor::MySql => "mysql",
    };
    Ok(format!("{flavor}-{hash:016x}"))
}

/// One replication group of the lab.
#[derive(Debug)]
struct Group {
    datasource: String,
    master: Member,
    replica: Option<Member>,
    workload: Option<Workload>,
}

/// The running cluster a store is made of.
#[derive(Debug)]
struct Cluster {
    options: StoreOptions,
    groups: Vec<Group>,
    account: Account,
    /// Last, so that it goes after the servers in it.
    _temp: tempfile::TempDir,
}

impl Cluster {
    fn start(options: &StoreOptions) -> Result<Self> {
        let temp = tempfile::Builder::new().prefix("dbl").tempdir()?;
        crate::server::give_to_server_user(temp.path())?;
        let account = Account { user: "dbscale".to_owned(), password: PASSWORD.to_owned() };
        let mut groups = Vec::new();
        for (number, (datasource, name)) in
            [("auth", "auth_server"), ("normal_0", "normal_0_0")].iter().enumerate()
        {
            let id = 10 * u32::try_from(number)? + 1;
            let config = |server_id, dir: &str| Config {
                flavor: options.flavor,
                dir: temp.path().join(dir),
                server_id,
                domain: u32::try_from(number).unwrap_or(0),
                layout: options.layout(),
                extra: if options.odd { ODD.map(str::to_owned).to_vec() } else { Vec::new() },
            };
            let master = Member::new(datasource, name, Server::create(&config(id, &format!("m{number}")))?);
            prepare(&master.server, &account)?;
            ballast(&master.server, options.ballast_mib)?;
            let wanted = options.shape == Shape::Replicas || (options.spare_replica && number == 1);
            let replica = if wanted {
                let server = Server::create(&config(id + 1, &format!("r{number}")))?;
                follow(&server, &master.server)?;
                Some(Member::new(datasource, &format!("{name}_slave"), server))
            } else {
                None
            };
            groups.push(Group { datasource: (*datasource).to_owned(), master, replica, workload: None });
        }
        for group in &mut groups {
            group.workload = Some(Workload::start(&group.master.server)?);
        }
        Ok(Self { options: options.clone(), groups, account, _temp: temp })
    }

    fn writers(&self) -> impl Iterator<Item = &Workload> {
        self.groups.iter().filter_map(|group| group.workload.as_ref())
    }

    /// Waits until this many further moments of this kind are known of all groups.
    fn wait_for_moments(&self, count: usize, busy: bool) -> Result<()> {
        let start = Local::now().naive_local();
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            self.writers().try_for_each(Workload::check)?;
            let seen: Vec<_> = self.writers().map(|writer| (String::new(), writer.ticks())).collect();
            if moments(&seen).iter().filter(|m| m.time > start && m.busy == busy).count() >= count {
                return Ok(());
            }
            ensure!(Instant::now() < until, "no {count} moments (busy: {busy}) in 90 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn busy(&self, count: usize) -> Result<()> {
        for writer in self.writers() {
            writer.wait_for_commits(30)?;
        }
        self.wait_for_moments(count, true)
    }

    fn quiet(&self, count: usize) -> Result<()> {
        self.writers().for_each(Workload::pause);
        let waited = self.wait_for_moments(count, false);
        self.writers().for_each(Workload::resume);
        waited
    }

    fn run(mut self, store: &Path) -> Result<Truth> {
        for dir in ["encrypted", "trash", "socat_log"] {
            fs::create_dir_all(store.join(dir))?;
        }
        let mut points = Vec::new();
        for chain in 0..self.options.chains {
            let backups = if chain == 0 { 3 } else { 2 };
            for number in 0..backups {
                self.busy(1)?;
                points.push(self.backup(store, number == 0)?);
                if number + 1 < backups {
                    self.busy(2)?;
                    self.quiet(1)?;
                    self.busy(1)?;
                }
            }
        }
        let mut seen = Vec::new();
        for group in &mut self.groups {
            let workload = group.workload.take().context("the writers run until here")?;
            seen.push((group.datasource.clone(), workload.finish()?));
        }
        Ok(Truth {
            flavor: self.options.flavor,
            password: self.options.password.clone(),
            layout: self.options.layout(),
            folders: self
                .groups
                .iter()
                .map(|group| (group.datasource.clone(), self.recovered(group).folder.clone()))
                .collect(),
            points,
            moments: moments(&seen),
        })
    }

    /// The member of a group that a recovery brings back.
    fn recovered<'a>(&self, group: &'a Group) -> &'a Member {
        match (self.options.shape, &group.replica) {
            (Shape::Replicas, Some(replica)) => replica,
            _ => &group.master,
        }
    }

    fn backup(&mut self, store: &Path, full: bool) -> Result<Point> {
        let start = chrono::Utc::now();
        let name = format!("UTC{}-{}", start.format("%Y%m%d%H%M%S%.3f"), if full { "full" } else { "inc" });
        let dir = store.join(&name);
        let masters = self.options.shape == Shape::Masters;
        for group in &mut self.groups {
            let master_folder = group.master.folder.clone();
            let folder = dir.join(&master_folder);
            fs::create_dir_all(&folder)?;
            if masters {
                group.master.take(&folder, full, self.options.compress, None)?;
                let mut members = format!("127.0.0.1:{}\n", group.master.server.port);
                if let Some(replica) = &group.replica {
                    members.push_str(&format!("127.0.0.1:{}\n", replica.server.port));
                }
                fs::write(folder.join("master_slave"), members)?;
            }
            if let Some(replica) = &mut group.replica {
                let folder = dir.join(&replica.folder);
                fs::create_dir_all(&folder)?;
                replica.take(&folder, full, self.options.compress, Some(&master_folder))?;
            }
        }

        // The cluster-wide consistent point: nobody commits anywhere while it is read.
        self.writers().for_each(Workload::pause);
        let mut point = Point {
            backup: name.clone(),
            time: NaiveDateTime::default(),
            exact: NaiveDateTime::default(),
            binlog: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for group in &self.groups {
            let mut sql = group.master.server.sql()?;
            let position = binlog_position(self.options.flavor, &mut sql)?;
            point.binlog.insert(group.datasource.clone(), position);
            point.groups.insert(group.datasource.clone(), state(self.options.flavor, &mut sql)?);
        }
        point.exact = Local::now().naive_local();
        point.time = point.exact.trunc_subsecs(0);
        self.writers().for_each(Workload::resume);
        self.writers().try_for_each(Workload::check)?;

        let mut consistence = String::new();
        let mut binlogs = String::new();
        for group in &mut self.groups {
            let (file, position) = &point.binlog[&group.datasource];
            // Copied while the server writes, as the backup program does.
            let first = match (&group.replica, masters) {
                (Some(replica), false) => replica.replay_from.0.clone(),
                _ => group.master.replay_from.0.clone(),
            };
            let copied = group.master.copy_binlogs(&dir.join(&group.master.folder), &first, file, full)?;
            binlogs.push_str(&format!("{}:{}\n", group.master.name, copied.join(" ")));
            let backed_up = masters.then_some(&group.master).into_iter().chain(group.replica.as_ref());
            for member in backed_up {
                consistence.push_str(&format!(
                    "127.0.0.1:{}\t{}\t{file}\t{position}\tbelong-to-datasource={}\txb-to-lsn={}\t\
                     xb-to-binlog-name={}\txb-to-binlog-pos={}\n",
                    member.server.port,
                    member.name,
                    group.datasource,
                    member.lsn,
                    member.replay_from.0,
                    member.replay_from.1,
                ));
            }
        }
        fs::write(dir.join("cluster_consistence_info"), consistence)?;
        fs::write(dir.join("backuped_binlogs"), binlogs)?;
        fs::write(
            dir.join("consistent_point_datetime"),
            format!("{}\n", point.time.format("%Y-%m-%d %H:%M:%S")),
        )?;
        let names: Vec<&str> = self
            .groups
            .iter()
            .flat_map(|group| [Some(&group.master), group.replica.as_ref()])
            .flatten()
            .map(|member| member.name.as_str())
            .collect();
        backup::common_files(&dir, &self.options, full, &names, &self.account)?;
        if let Some(password) = &self.options.password {
            backup::encrypt(store, &name, password)?;
        }
        fs::write(dir.join("ok"), "ok\n")?;
        Ok(point)
    }
}

fn follow(replica: &Server, master: &Server) -> Result<()> {
    let mut sql = replica.sql()?;
    match replica.flavor {
        Flavor::MariaDb => {
            sql.run("SET GLOBAL gtid_slave_pos = ''")?;
            sql.run(format!(
                "CHANGE MASTER TO master_host='127.0.0.1', master_port={}, master_user='repl', \
                 master_password='repl', master_use_gtid=slave_pos",
                master.port
            ))?;
            sql.run("START SLAVE")?;
        }
        Flavor::MySql => {
            sql.run(format!(
                "CHANGE REPLICATION SOURCE TO source_host='127.0.0.1', source_port={}, source_user='repl', \
                 source_password='repl', source_auto_position=1, get_source_public_key=1",
                master.port
            ))?;
            sql.run("START REPLICA")?;
        }
    }
    // What `prepare` made arrives in a moment; a backup of a replica that has nothing would be no test.
    let until = Instant::now() + Duration::from_secs(30);
    while sql.value("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'lab'")? != "1" {
        ensure!(Instant::now() < until, "the replica does not follow its master");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Rows that do not compress away, so that a store has the size a benchmark wants.
fn ballast(server: &Server, mib: u32) -> Result<()> {
    if mib == 0 {
        return Ok(());
    }
    let mut sql = server.sql()?;
    sql.run("CREATE TABLE lab.ballast (id INT AUTO_INCREMENT PRIMARY KEY, body VARBINARY(8000) NOT NULL)")?;
    let random = (0..32).map(|_| "SHA2(RAND(), 512)").collect::<Vec<_>>().join(",");
    for _ in 0..mib {
        sql.run(format!(
            "INSERT INTO lab.ballast (body) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 256) \
             SELECT CONCAT({random}) FROM n"
        ))?;
    }
    Ok(())
}

/// The whole seconds whose state is known of every group, but for the last one: it is not known yet whether
/// that is busy.
fn moments(seen: &[(String, Vec<Tick>)]) -> Vec<Moment> {
    let Some(((_, first), _)) = seen.split_first() else { return Vec::new() };
    let mut moments = Vec::new();
    for tick in first {
        let same: Vec<(&String, &Tick)> = seen
            .iter()
            .filter_map(|(group, ticks)| Some((group, ticks.iter().find(|t| t.second == tick.second)?)))
            .collect();
        let after: Vec<&Tick> =
            seen.iter().filter_map(|(_, ticks)| ticks.iter().find(|t| t.second > tick.second)).collect();
        if same.len() != seen.len() || after.len() != seen.len() {
            continue;
        }
        let Some(time) = i64::try_from(tick.second).ok().and_then(|s| DateTime::from_timestamp(s, 0)) else {
            continue;
        };
        moments.push(Moment {
            time: time.with_timezone(&Local).naive_local(),
            busy: same.iter().map(|(_, tick)| *tick).chain(after).any(|tick| tick.busy),
            groups: same.into_iter().map(|(group, tick)| (group.clone(), tick.state.clone())).collect(),
        });
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(seconds: &[(u64, bool)]) -> Vec<Tick> {
        seconds.iter().map(|&(second, busy)| Tick { second, busy, state: Default::default() }).collect()
    }

    #[test]
    fn a_moment_needs_every_group_and_is_quiet_only_without_commits_on_both_sides() {
        let seen = [
            ("a".to_owned(), ticks(&[(1, true), (2, false), (3, false), (4, false), (5, true)])),
            ("b".to_owned(), ticks(&[(1, true), (2, false), (4, false), (5, false), (6, false)])),
        ];
        let kinds: Vec<(i64, bool)> = moments(&seen)
            .iter()
            .map(|m| (m.time.and_local_timezone(Local).unwrap().timestamp(), m.busy))
            .collect();
        assert_eq!(kinds, [(1, true), (2, false), (4, true)]);
    }
}
