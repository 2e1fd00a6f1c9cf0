//! Query, kind 2, and MariaDB's compressed query, kind 165.
//!
//! Body: thread `u32`, seconds of execution `u32`, length of the database name `u8`, error `u16`, length
//! of the status variables `u16`; status variables; database name and a NUL; the statement to the end.
//! Source: MySQL `statement_events.h` (`Query_event`), MariaDB `log_event.h`.

use std::borrow::Cow;

use super::compressed;
use super::cursor::{Cursor, Malformed};
use crate::version::{Flavor, ServerVersion};

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// Session (connection) of the statement: temporary tables belong to it.
    pub thread: u32,
    /// How long the statement ran, in seconds.
    pub seconds: u32,
    /// Error number with which it ended on its server; 0 if it succeeded.
    pub error: u16,
    /// Status variables, decoded.
    pub status: Status<'a>,
    /// Status variables as they are in the event.
    pub status_bytes: &'a [u8],
    /// Default database; empty if there is none.
    pub database: &'a [u8],
    /// The statement, in the character set that [`Status::charset`] names; decompressed if need be.
    pub text: Cow<'a, [u8]>,
    /// The text as it is in a compressed event.
    compressed: Option<&'a [u8]>,
}

pub(super) struct Head {
    thread: u32,
    seconds: u32,
    error: u16,
    database: u8,
    status: u16,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(body: &'a [u8], compressed: bool) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let head = Self::parse_head(&mut c)?;
        Self::parse_tail(head, c, compressed)
    }

    pub(super) fn parse_head(c: &mut Cursor<'a>) -> Result<Head, Malformed> {
        let (thread, seconds) = (c.u32("thread")?, c.u32("seconds")?);
        let database = c.u8("length of the database name")?;
        let (error, status) = (c.u16("error")?, c.u16("length of the status variables")?);
        Ok(Head { thread, seconds, error, database, status })
    }

    pub(super) fn parse_tail(head: Head, mut c: Cursor<'a>, packed: bool) -> Result<Self, Malformed> {
        let status_bytes = c.bytes(head.status.into(), "status variables")?;
        let database = c.bytes(head.database.into(), "database name")?;
        c.nul("end of the database name")?;
        let rest = c.rest();
        let (text, compressed) = match packed {
            true => (Cow::Owned(compressed::inflate(rest)?), Some(rest)),
            false => (Cow::Borrowed(rest), None),
        };
        let Head { thread, seconds, error, .. } = head;
        let status = Status::parse(status_bytes)?;
        Ok(Self { thread, seconds, error, status, status_bytes, database, text, compressed })
    }

    /// The statement's bytes without decoding anything else: `None` in a body that ends before it. The
    /// text of a compressed event is not decompressed.
    #[inline]
    pub(crate) fn peek_text(body: &'a [u8]) -> Option<&'a [u8]> {
        let database = usize::from(*body.get(8)?);
        let status = usize::from(u16::from_le_bytes([*body.get(11)?, *body.get(12)?]));
        body.get(13 + status + database + 1..)
    }

    pub(super) fn encode_head(&self, out: &mut Vec<u8>) {
        out.extend(self.thread.to_le_bytes());
        out.extend(self.seconds.to_le_bytes());
        out.push(self.database.len() as u8);
        out.extend(self.error.to_le_bytes());
        out.extend((self.status_bytes.len() as u16).to_le_bytes());
    }

    pub(super) fn encode_tail(&self, out: &mut Vec<u8>) {
        self.status.encode(out);
        out.extend(self.database);
        out.push(0);
        out.extend(self.compressed.unwrap_or(&self.text));
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        self.encode_tail(out);
    }
}

/// Character set and collations of a statement's session, as collation numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCharset {
    /// `character_set_client`.
    pub client: u16,
    /// `collation_connection`.
    pub connection: u16,
    /// `collation_server`.
    pub server: u16,
}

/// Session settings of a statement; what is `None` was not in the event and keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status<'a> {
    /// Code 0: `OPTION_*` bits, see the constants.
    pub flags2: Option<u32>,
    /// Code 1: `sql_mode`.
    pub sql_mode: Option<u64>,
    /// Codes 2 and 6: catalogue, always `std`.
    pub catalog: Option<&'a [u8]>,
    /// Code 3: `auto_increment_increment`, `auto_increment_offset`.
    pub auto_increment: Option<(u16, u16)>,
    /// Code 4: character set and collations.
    pub charset: Option<SessionCharset>,
    /// Code 5: `time_zone`.
    pub time_zone: Option<&'a [u8]>,
    /// Code 7: number of `lc_time_names`.
    pub lc_time_names: Option<u16>,
    /// Code 8: collation of the default database.
    pub database_collation: Option<u16>,
    /// Code 9: tables that a multi-table update changes, as bits.
    pub table_map_for_update: Option<u64>,
    /// Code 11: user and host that invoke the statement.
    pub invoker: Option<(&'a [u8], &'a [u8])>,
    /// Code 12: databases that it changes; `None` inside for "too many to list" (254).
    pub updated_databases: Option<Option<Vec<&'a [u8]>>>,
    /// Code 13 (MySQL) or 128 (MariaDB): microseconds of the statement's time.
    pub microseconds: Option<u32>,
    /// Code 16: `explicit_defaults_for_timestamp` (MySQL).
    pub explicit_defaults_for_timestamp: Option<u8>,
    /// Code 17 (MySQL) or 129 (MariaDB): transaction number of a crash-safe DDL statement.
    pub ddl_xid: Option<u64>,
    /// Code 18: `default_collation_for_utf8mb4` (MySQL).
    pub default_collation_for_utf8mb4: Option<u16>,
    /// Code 19: `sql_require_primary_key` (MySQL).
    pub sql_require_primary_key: Option<u8>,
    /// Code 20: `default_table_encryption` (MySQL).
    pub default_table_encryption: Option<u8>,
    /// Code 21: `enable_cascade_triggers` (MySQL 9.7).
    pub enable_cascade_triggers: Option<u8>,
    /// Code 130: extra flags of the GTID event and, for the end of a two-phase `ALTER`, the number of the
    /// transaction that started it (MariaDB 10.8 and later).
    pub gtid_flags: Option<(u8, Option<u64>)>,
    /// Code 131: `character_set_collations` (MariaDB 11.2): pairs of collation numbers, the default that the
    /// character set has in the program and the one that takes its place.
    pub character_set_collations: Option<Vec<(u16, u16)>>,
    /// Codes in the order of the event, with those that are read and have no field (10, 14, 15).
    order: Vec<(u8, &'a [u8])>,
    /// From the first code that is not known to the end: empty for every version up to MySQL 9.7 and
    /// MariaDB 12. Lengths of unknown codes are unknown, so nothing behind one can be read.
    pub unknown: &'a [u8],
}

impl<'a> Status<'a> {
    /// Bit of [`Status::flags2`]: `sql_auto_is_null` is on.
    pub const AUTO_IS_NULL: u32 = 1 << 14;
    /// Bit of [`Status::flags2`]: autocommit is off.
    pub const NOT_AUTOCOMMIT: u32 = 1 << 19;
    /// Bit of [`Status::flags2`]: `foreign_key_checks` is off.
    pub const NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
    /// Bit of [`Status::flags2`]: `unique_checks` is off.
    pub const RELAXED_UNIQUE_CHECKS: u32 = 1 << 27;
    /// Bit of [`Status::flags2`]: `check_constraint_checks` is off (MariaDB).
    pub const NO_CHECK_CONSTRAINT_CHECKS: u32 = 1 << 15;
    /// Bit of [`Status::flags2`]: `explicit_defaults_for_timestamp` is on (MariaDB). Whether a server writes it,
    /// [`Status::writes_explicit_defaults`] says.
    pub const EXPLICIT_DEFAULTS: u32 = 1 << 24;
    /// Bit of [`Status::flags2`]: `IF EXISTS` is implied (MariaDB 10.5.2).
    pub const IF_EXISTS: u32 = 1 << 28;
    /// Bit of [`Status::flags2`]: `system_versioning_insert_history` is on (MariaDB 10.11).
    pub const INSERT_HISTORY: u32 = 1 << 30;

    /// Whether a MariaDB server of this version writes [`Status::EXPLICIT_DEFAULTS`]; in the events of an older one
    /// the bit says nothing. Source: MDEV-29078 and the versions that it names.
    pub fn writes_explicit_defaults(source: &ServerVersion) -> bool {
        let first = [(5, 17), (6, 9), (7, 5), (8, 4), (9, 2)];
        let branch = first.iter().find(|(minor, _)| source.major == 10 && source.minor == *minor);
        source.flavor == Flavor::MariaDb
            && match branch {
                Some((_, patch)) => source.patch >= *patch,
                None => source.at_least(Flavor::MariaDb, 10, 10, 0),
            }
    }

    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut s = Self::default();
        let mut c = Cursor::new(bytes);
        while !c.is_empty() {
            let at = c.rest();
            let code = c.u8("status code")?;
            let value = c.rest();
            match code {
                0 => s.flags2 = Some(c.u32("flags2")?),
                1 => s.sql_mode = Some(c.u64("sql_mode")?),
                2 => {
                    s.catalog = Some(c.short_bytes("catalogue")?);
                    c.nul("end of the catalogue")?;
                }
                3 => s.auto_increment = Some((c.u16("auto_increment")?, c.u16("auto_increment")?)),
                4 => {
                    let (client, connection) = (c.u16("charset")?, c.u16("charset")?);
                    s.charset = Some(SessionCharset { client, connection, server: c.u16("charset")? });
                }
                5 => s.time_zone = Some(c.short_bytes("time_zone")?),
                6 => s.catalog = Some(c.short_bytes("catalogue")?),
                7 => s.lc_time_names = Some(c.u16("lc_time_names")?),
                8 => s.database_collation = Some(c.u16("database collation")?),
                9 => s.table_map_for_update = Some(c.u64("table map for update")?),
                10 => {
                    c.u32("bytes written by the source")?;
                }
                11 => s.invoker = Some((c.short_bytes("invoker")?, c.short_bytes("invoker")?)),
                12 => {
                    let n = c.u8("updated databases")?;
                    let mut names = Vec::new();
                    for _ in 0..if n == 254 { 0 } else { n } {
                        names.push(c.until_nul("updated databases")?);
                    }
                    s.updated_databases = Some((n != 254).then_some(names));
                }
                13 | 128 => s.microseconds = Some(c.u24("microseconds")?),
                14 => {
                    c.u64("commit timestamp")?;
                }
                15 => {
                    c.u64("commit timestamp")?;
                    c.u64("commit timestamp")?;
                }
                16 => s.explicit_defaults_for_timestamp = Some(c.u8("explicit_defaults_for_timestamp")?),
                17 | 129 => s.ddl_xid = Some(c.u64("transaction number")?),
                18 => s.default_collation_for_utf8mb4 = Some(c.u16("default_collation_for_utf8mb4")?),
                19 => s.sql_require_primary_key = Some(c.u8("sql_require_primary_key")?),
                20 => s.default_table_encryption = Some(c.u8("default_table_encryption")?),
                21 => s.enable_cascade_triggers = Some(c.u8("enable_cascade_triggers")?),
                130 => {
                    let flags = c.u8("GTID flags")?;
                    let ends_alter = flags
                        & (super::mariadb_gtid::EXTRA_COMMIT_ALTER
                            | super::mariadb_gtid::EXTRA_ROLLBACK_ALTER);
                    let number = if ends_alter != 0 { Some(c.u64("GTID flags")?) } else { None };
                    s.gtid_flags = Some((flags, number));
                }
                131 => {
                    let n = c.u8("character_set_collations")?;
                    let mut pairs = Vec::new();
                    for _ in 0..n {
                        pairs.push((c.u16("character_set_collations")?, c.u16("character_set_collations")?));
                    }
                    s.character_set_collations = Some(pairs);
                }
                _ => {
                    s.unknown = at;
                    break;
                }
            }
            s.order.push((code, &value[..value.len() - c.len()]));
        }
        Ok(s)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (code, value) in &self.order {
            out.push(*code);
            out.extend(*value);
        }
        out.extend(self.unknown);
    }
}
