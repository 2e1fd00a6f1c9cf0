//! Stores for the tests, built in memory or on disk.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::Path;

use backup_catalog::{BackupName, Snapshot};
use chrono::NaiveDateTime;

pub(crate) fn time(text: &str) -> NaiveDateTime {
    let text = if text.len() == 5 { format!("2021-02-05 {text}:00") } else { text.to_owned() };
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").unwrap()
}

pub(crate) fn name(text: &str) -> BackupName {
    text.parse().unwrap()
}

/// One backup to be written: `at` is `HH:MM` of 2021-02-05, for its name and for its consistent point.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) name: String,
    pub(crate) files: Vec<(String, String)>,
}

/// Which servers a fake backup has: masters with their own binlogs, or replicas that follow `MASTER`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Masters,
    Replicas,
}

pub(crate) const GROUPS: [&str; 2] = ["auth", "normal_0"];

impl Fake {
    pub(crate) fn new(at: &str, kind: &str, shape: Shape, binlogs: std::ops::RangeInclusive<u32>) -> Self {
        let name = format!("UTC20210205{}00.000-{kind}", at.replace(':', ""));
        let mut fake = Self { name, files: Vec::new() };
        fake.set("ok", "ok\n");
        fake.set("consistent_point_datetime", &format!("2021-02-05 {at}:00\n"));
        fake.set("calcnode_base/dbscale.conf", "[data-server s]\nuser = u\npassword = S3cret\n");
        if kind == "full" {
            fake.set("datanode_base/mysql-8.0.26.tar.gz", "tarball");
        }
        let master = shape == Shape::Masters;
        fake.set("backup.conf", &format!("[m]\npassword = S3cret\nbackup-master = {}\n", u8::from(master)));
        let (mut lines, mut lists) = (String::new(), String::new());
        let (first, last) = (*binlogs.start(), *binlogs.end());
        for (i, group) in GROUPS.iter().enumerate() {
            let server = if master { format!("{group}_m") } else { format!("{group}_r") };
            let folder = format!("{group}-{server}-10.0.0.{i}-3306");
            let owner = format!("{group}-{group}_m-10.0.0.{i}-{}", if master { 3306 } else { 3307 });
            let start = if master { 724 } else { 4 };
            lines += &format!(
                "10.0.0.{i}:3306\t{server}\tbin.{last:06}\t631\tbelong-to-datasource={group}\txb-to-lsn=1{last}\t\
                 xb-to-binlog-name=bin.{first:06}\txb-to-binlog-pos={start}\n"
            );
            lists += &format!("{group}_m:");
            for n in binlogs.clone() {
                fake.set(&format!("{owner}/bin.{n:06}"), "binlog");
                lists += &format!("bin.{n:06} ");
            }
            lists += "\n";
            fake.set(&format!("{folder}/backup.xbsteam"), "stream");
            fake.set(&format!("{folder}/executed_gtids"), "0-1-7\n");
            fake.set(&format!("{folder}/my.conf"), "[mysqld]\n");
            if !master {
                fake.set(&format!("{folder}/master_dir"), &format!("{owner}\n"));
            }
        }
        fake.set("cluster_consistence_info", &lines);
        fake.set("backuped_binlogs", &lists);
        fake
    }

    pub(crate) fn full(at: &str, binlogs: std::ops::RangeInclusive<u32>) -> Self {
        Self::new(at, "full", Shape::Masters, binlogs)
    }

    pub(crate) fn inc(at: &str, binlogs: std::ops::RangeInclusive<u32>) -> Self {
        Self::new(at, "inc", Shape::Masters, binlogs)
    }

    pub(crate) fn set(&mut self, path: &str, content: &str) -> &mut Self {
        self.files.retain(|(p, _)| p != path);
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// Removes a file, or a folder with everything in it.
    pub(crate) fn without(mut self, path: &str) -> Self {
        self.files.retain(|(p, _)| p != path && !p.starts_with(&format!("{path}/")));
        self
    }

    pub(crate) fn with(mut self, path: &str, content: &str) -> Self {
        self.set(path, content);
        self
    }

    /// The same backup encrypted: only the describing files stay in its folder.
    pub(crate) fn encrypted(mut self) -> Self {
        let clear = ["ok", "consistent_point_datetime", "cluster_consistence_info", "backuped_binlogs"];
        self.files.retain(|(p, _)| clear.contains(&p.as_str()));
        self.set("encrypted_sample", "AES");
        self.files.push((format!("../encrypted/{}.tar.encrypted", self.name), "AES tar".to_owned()));
        self
    }

    fn paths(&self) -> impl Iterator<Item = (String, &str)> {
        self.files.iter().map(|(path, content)| {
            let path = match path.strip_prefix("../") {
                Some(path) => path.to_owned(),
                None => format!("{}/{path}", self.name),
            };
            (path, content.as_str())
        })
    }
}

pub(crate) fn snapshot(backups: &[Fake]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (path, content) in backups.iter().flat_map(Fake::paths) {
        if Snapshot::wants(&path, content.len() as u64) {
            snapshot.content(&path, content.as_bytes());
        } else {
            snapshot.entry(&path, backup_catalog::EntryKind::File, content.len() as u64);
        }
    }
    snapshot
}

pub(crate) fn on_disk(base: &Path, backups: &[Fake]) {
    for (path, content) in backups.iter().flat_map(Fake::paths) {
        let path = base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// A store that fails to read one path.
pub(crate) struct Unreadable<'a, S>(pub(crate) S, pub(crate) &'a str);

impl<S: backup_catalog::Store> backup_catalog::Store for Unreadable<'_, S> {
    fn list(&self, dir: &str) -> std::io::Result<Vec<backup_catalog::Entry>> {
        if dir == self.1 { Err(std::io::ErrorKind::PermissionDenied.into()) } else { self.0.list(dir) }
    }

    fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        if path == self.1 {
            Err(std::io::ErrorKind::PermissionDenied.into())
        } else {
            self.0.read(path, limit)
        }
    }
}
