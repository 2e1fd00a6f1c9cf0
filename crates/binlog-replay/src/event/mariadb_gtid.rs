//! GTID events of MariaDB: 162 (GTID) and 163 (GTID list). Source: MariaDB `sql/log_event.cc`.

use super::cursor::{Cursor, Malformed};
use super::xa::Xid;
use crate::gtid::{Gtid, MariaDbGtidSet};

/// Bit of [`MariaDbGtid::extra_flags`]: engines are counted.
pub const EXTRA_MULTI_ENGINE: u8 = 0x01;
/// Bit of [`MariaDbGtid::extra_flags`]: a two-phase `ALTER` starts.
pub const EXTRA_START_ALTER: u8 = 0x02;
/// Bit of [`MariaDbGtid::extra_flags`]: a two-phase `ALTER` is committed.
pub const EXTRA_COMMIT_ALTER: u8 = 0x04;
/// Bit of [`MariaDbGtid::extra_flags`]: a two-phase `ALTER` is rolled back.
pub const EXTRA_ROLLBACK_ALTER: u8 = 0x08;
/// Bit of [`MariaDbGtid::extra_flags`]: the session is stated (11.5 and later).
pub const EXTRA_THREAD: u8 = 0x10;

/// Start of a transaction (MariaDB), kind 162; the server is in the event's header.
///
/// Number `u64`, domain `u32`, flags `u8`; then as the flags say: group commit `u64`; XA identifier: format
/// `u32`, two lengths `u8`, both parts. Then, if anything is left: extra flags `u8` and what they announce:
/// count of engines − 1 `u8`, number of the `ALTER`'s start `u64`, session `u64`. Zero bytes fill the body
/// up to 19.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MariaDbGtid<'a> {
    /// Its GTID.
    pub gtid: Gtid,
    /// Flags; see the constants.
    pub flags: u8,
    /// Transactions with the same number were committed together.
    pub group_commit: Option<u64>,
    /// XA identifier of a prepared or completed distributed transaction.
    pub xid: Option<Xid<'a>>,
    /// Extra flags (10.5.2 and later).
    pub extra_flags: Option<u8>,
    /// Count of engines less one.
    pub extra_engines: Option<u8>,
    /// Number of the transaction that started the `ALTER` that ends here.
    pub alter_start: Option<u64>,
    /// Session that ran the transaction.
    pub thread: Option<u64>,
    number: u64,
    domain: u32,
    tail: &'a [u8],
}

impl<'a> MariaDbGtid<'a> {
    /// Flag: a single statement without `BEGIN` and `COMMIT` around it, such as DDL.
    pub const STANDALONE: u8 = 0x01;
    /// Flag: the group commit is stated.
    pub const GROUP_COMMIT: u8 = 0x02;
    /// Flag: can be rolled back.
    pub const TRANSACTIONAL: u8 = 0x04;
    /// Flag: `skip_parallel_replication` was off.
    pub const ALLOW_PARALLEL: u8 = 0x08;
    /// Flag: waited for a lock.
    pub const WAITED: u8 = 0x10;
    /// Flag: DDL.
    pub const DDL: u8 = 0x20;
    /// Flag: `XA PREPARE`.
    pub const PREPARED_XA: u8 = 0x40;
    /// Flag: `XA COMMIT` or `XA ROLLBACK` of a prepared one.
    pub const COMPLETED_XA: u8 = 0x80;

    pub(crate) fn parse(body: &'a [u8], server: u32) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let (number, domain, flags) = (c.u64("number")?, c.u32("domain")?, c.u8("flags")?);
        if number == 0 {
            return Err(Malformed::new("number", "0 is no sequence number"));
        }
        let mut event = Self {
            gtid: Gtid::MariaDb { domain, server, number },
            flags,
            group_commit: None,
            xid: None,
            extra_flags: None,
            extra_engines: None,
            alter_start: None,
            thread: None,
            number,
            domain,
            tail: &[],
        };
        if flags & Self::GROUP_COMMIT != 0 {
            event.group_commit = Some(c.u64("group commit")?);
        }
        if flags & (Self::PREPARED_XA | Self::COMPLETED_XA) != 0 {
            let format = c.u32("XA format")?;
            let (global, branch) = (c.u8("XA length")?, c.u8("XA length")?);
            let global = c.bytes(global.into(), "XA identifier")?;
            event.xid = Some(Xid { format, global, branch: c.bytes(branch.into(), "XA identifier")? });
        }
        if !c.is_empty() {
            let extra = c.u8("extra flags")?;
            event.extra_flags = Some(extra);
            if extra & EXTRA_MULTI_ENGINE != 0 {
                event.extra_engines = Some(c.u8("engines")?);
            }
            if extra & (EXTRA_COMMIT_ALTER | EXTRA_ROLLBACK_ALTER) != 0 {
                event.alter_start = Some(c.u64("start of the ALTER")?);
            }
            if extra & EXTRA_THREAD != 0 {
                event.thread = Some(c.u64("session")?);
            }
        }
        event.tail = c.rest();
        Ok(event)
    }

    /// Whether it is a single statement without `BEGIN` and `COMMIT` around it.
    pub fn standalone(&self) -> bool {
        self.flags & Self::STANDALONE != 0
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.number.to_le_bytes());
        out.extend(self.domain.to_le_bytes());
        out.push(self.flags);
        out.extend(self.group_commit.into_iter().flat_map(u64::to_le_bytes));
        if let Some(xid) = &self.xid {
            out.extend(xid.format.to_le_bytes());
            out.extend([xid.global.len() as u8, xid.branch.len() as u8]);
            out.extend(xid.global);
            out.extend(xid.branch);
        }
        out.extend(self.extra_flags);
        out.extend(self.extra_engines);
        out.extend(self.alter_start.into_iter().flat_map(u64::to_le_bytes));
        out.extend(self.thread.into_iter().flat_map(u64::to_le_bytes));
        out.extend(self.tail);
    }
}

/// GTID list, kind 163: count `u32` (top 4 bits: flags); each: domain `u32`, server `u32`, number `u64`.
///
/// It is the server's `gtid_binlog_state` where the file starts: the last GTID of every domain and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GtidList {
    /// The GTIDs; of one domain the last one is the newest.
    pub gtids: Vec<Gtid>,
    flags: u32,
    tail: Vec<u8>,
}

impl GtidList {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let word = c.u32("count")?;
        let (flags, count) = (word >> 28, word & 0x0fff_ffff);
        let mut gtids = Vec::new();
        for _ in 0..count {
            let (domain, server) = (c.u32("domain")?, c.u32("server")?);
            gtids.push(Gtid::MariaDb { domain, server, number: c.u64("number")? });
        }
        Ok(Self { gtids, flags, tail: c.rest().to_vec() })
    }

    /// The domains and servers that it names: it has the last GTID of each of them.
    pub(crate) fn writers(&self) -> impl Iterator<Item = (u32, u32)> {
        self.gtids.iter().filter_map(|gtid| match gtid {
            Gtid::MariaDb { domain, server, .. } => Some((*domain, *server)),
            Gtid::MySql { .. } => None,
        })
    }

    /// The position that the list stands for: everything up to the highest number of each domain.
    pub fn position(&self) -> MariaDbGtidSet {
        let mut set = MariaDbGtidSet::default();
        for gtid in &self.gtids {
            if let Gtid::MariaDb { domain, server, number } = gtid {
                set.insert_range(*domain, *server, 1, *number);
            }
        }
        set
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.flags << 28 | self.gtids.len() as u32).to_le_bytes());
        for gtid in &self.gtids {
            if let Gtid::MariaDb { domain, server, number } = gtid {
                out.extend(domain.to_le_bytes());
                out.extend(server.to_le_bytes());
                out.extend(number.to_le_bytes());
            }
        }
        out.extend(&self.tail);
    }
}
