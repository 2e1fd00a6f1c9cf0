//! Writes small binlogs with any chain, time and GTID: what a real server would need hours or a failover for.

#![allow(dead_code)] // not every test crate uses all of it

use std::io::Write;
use std::path::{Path, PathBuf};

use binlog_replay::{Flavor, Gtid, GtidSet};

/// A binlog in the making.
pub(crate) struct Log {
    bytes: Vec<u8>,
    flavor: Flavor,
    server_id: u32,
    /// Offset behind each transaction.
    pub(crate) ends: Vec<u64>,
}

impl Log {
    /// A file with a format description and, with `before`, what was before it.
    pub(crate) fn new(flavor: Flavor, server_id: u32, before: Option<&str>) -> Self {
        Self::begun(flavor, server_id, before, 0)
    }

    /// The file that a server without GTIDs begins when it is started.
    pub(crate) fn at_start(flavor: Flavor, server_id: u32) -> Self {
        Self::begun(flavor, server_id, None, 1_700_000_000)
    }

    fn begun(flavor: Flavor, server_id: u32, before: Option<&str>, created: u32) -> Self {
        let mut log = Self { bytes: b"\xfebin".to_vec(), flavor, server_id, ends: Vec::new() };
        let mut body = vec![4, 0];
        let version: &[u8] = match flavor {
            Flavor::MySql => b"8.0.36",
            Flavor::MariaDb => b"10.11.6-MariaDB",
        };
        body.extend(version);
        body.resize(52, 0);
        body.extend(created.to_le_bytes());
        body.push(19);
        let mut lengths = vec![0; 171];
        (lengths[1], lengths[14], lengths[18]) = (13, 57, 8);
        body.extend(lengths);
        body.push(1);
        log.event(15, 1, 1_700_000_000, &body);
        let set = before.map(|text| GtidSet::parse(flavor, text).unwrap());
        match set {
            Some(GtidSet::MySql(set)) => {
                let mut body = (set.iter().count() as u64).to_le_bytes().to_vec();
                for (source, intervals) in set.iter() {
                    body.extend(source.uuid.0);
                    body.extend((intervals.as_slice().len() as u64).to_le_bytes());
                    for i in intervals.as_slice() {
                        body.extend(i.start.to_le_bytes());
                        body.extend((i.end + 1).to_le_bytes());
                    }
                }
                log.event(35, 0x80, 1_700_000_000, &body);
            }
            Some(GtidSet::MariaDb(set)) => {
                let gtids: Vec<Gtid> = set.position().collect();
                let mut body = (gtids.len() as u32).to_le_bytes().to_vec();
                for gtid in gtids {
                    let Gtid::MariaDb { domain, server, number } = gtid else { unreachable!() };
                    body.extend(domain.to_le_bytes());
                    body.extend(server.to_le_bytes());
                    body.extend(number.to_le_bytes());
                }
                log.event(163, 0, 1_700_000_000, &body);
            }
            None => {}
        }
        log
    }

    /// Where the next event starts.
    pub(crate) fn pos(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn event(&mut self, kind: u8, flags: u16, time: u32, body: &[u8]) {
        self.event_of(self.server_id, kind, flags, time, body);
    }

    fn event_of(&mut self, server_id: u32, kind: u8, flags: u16, time: u32, body: &[u8]) {
        let size = (19 + body.len() + 4) as u32;
        let mut event = time.to_le_bytes().to_vec();
        event.push(kind);
        event.extend(server_id.to_le_bytes());
        event.extend(size.to_le_bytes());
        event.extend((self.bytes.len() as u32 + size).to_le_bytes());
        event.extend((if kind == 15 { flags & !1 } else { flags }).to_le_bytes());
        event.extend(body);
        let crc = crc32fast::hash(&event);
        if kind == 15 {
            event[17..19].copy_from_slice(&flags.to_le_bytes());
        }
        self.bytes.extend(event);
        self.bytes.extend(crc.to_le_bytes());
    }

    pub(crate) fn query(&mut self, time: u32, text: &str) {
        let mut body = vec![0; 13];
        body[8] = 4;
        body.extend(b"shop\0");
        body.extend(text.as_bytes());
        self.event(2, 0, time, &body);
    }

    /// A statement as MariaDB compresses it.
    pub(crate) fn compressed_query(&mut self, time: u32, text: &str) {
        let mut body = vec![0; 13];
        body[8] = 4;
        body.extend(b"shop\0");
        let mut packer =
            flate2::write::ZlibEncoder::new(vec![0x81, text.len() as u8], flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        body.extend(packer.finish().unwrap());
        self.event(165, 0, time, &body);
    }

    /// A GTID event.
    pub(crate) fn gtid(&mut self, gtid: &str, time: u32) {
        self.gtid_at(gtid, time, None);
    }

    fn gtid_at(&mut self, gtid: &str, time: u32, micros: Option<u64>) {
        match gtid.parse().unwrap() {
            Gtid::MySql { source, number } => {
                let mut body = vec![0];
                body.extend(source.uuid.0);
                body.extend(number.to_le_bytes());
                body.push(2);
                body.extend([0; 16]);
                if let Some(micros) = micros {
                    body.extend(&micros.to_le_bytes()[..7]);
                    body.push(0);
                }
                self.event(33, 0, time, &body);
            }
            Gtid::MariaDb { domain, server, number } => {
                let mut body = number.to_le_bytes().to_vec();
                body.extend(domain.to_le_bytes());
                body.extend([0; 7]);
                self.event_of(server, 162, 0, time, &body);
            }
        }
    }

    /// One half of a MariaDB `ALTER` in two phases: the first one, or with `started` the one that commits the `ALTER`
    /// that the transaction of this number started.
    pub(crate) fn half_of_alter(&mut self, gtid: &str, time: u32, started: Option<u64>) -> &mut Self {
        let Gtid::MariaDb { domain, server, number } = gtid.parse().unwrap() else { unreachable!() };
        let mut body = number.to_le_bytes().to_vec();
        body.extend(domain.to_le_bytes());
        body.push(0x21);
        match started {
            None => body.extend([2, 0, 0, 0, 0, 0]),
            Some(number) => {
                body.push(4);
                body.extend(number.to_le_bytes());
            }
        }
        self.event_of(server, 162, 0, time, &body);
        self.query(time, "ALTER TABLE t ADD COLUMN a INT");
        self.ends.push(self.pos());
        self
    }

    /// A transaction of `BEGIN`, a statement and an Xid; `micros`: the commit time in a MySQL GTID event.
    pub(crate) fn transaction(&mut self, gtid: Option<&str>, time: u32, micros: Option<u64>) -> &mut Self {
        if let Some(gtid) = gtid {
            self.gtid_at(gtid, time, micros);
        }
        if self.flavor == Flavor::MySql {
            self.query(time, "BEGIN");
        }
        self.query(time, "INSERT INTO t VALUES (1)");
        self.event(16, 0, time, &7u64.to_le_bytes());
        self.ends.push(self.pos());
        self
    }

    pub(crate) fn rotate(&mut self, next: &str) -> &mut Self {
        let mut body = 4u64.to_le_bytes().to_vec();
        body.extend(next.as_bytes());
        self.event(4, 0, 1_700_000_000, &body);
        self
    }

    /// Writes the file as if the server had closed it.
    pub(crate) fn close(&self, folder: &Path, name: &str) -> PathBuf {
        let mut bytes = self.bytes.clone();
        bytes[4 + 17] &= !1;
        self.put(folder, name, &bytes)
    }

    /// Writes the file as a copy taken while it was open, cut `less` bytes before its end.
    pub(crate) fn open(&self, folder: &Path, name: &str, less: usize) -> PathBuf {
        self.put(folder, name, &self.bytes[..self.bytes.len() - less])
    }

    fn put(&self, folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
