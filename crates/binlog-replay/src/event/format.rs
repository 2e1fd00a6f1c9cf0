//! Format description, kind 15: the first event of every file (and again in relay logs).
//!
//! Body: version `u16` (4), server version 50 bytes NUL-padded, creation time `u32`, header length `u8`
//! (19), one post-header length per kind, the checksum algorithm `u8`, and always a CRC-32, even where all
//! other events have none. Servers before MySQL 5.6.1 and MariaDB 5.3 wrote neither; their files are not read. Source: MySQL
//! `control_events.h` (`Format_description_event`), MariaDB `log_event.cc`.

use super::cursor::{Cursor, Malformed};
use super::kind::EventKind;
use crate::version::ServerVersion;

/// How events are protected against damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// Not at all (`binlog_checksum=NONE`).
    None,
    /// CRC-32 (IEEE) in the last four bytes, over everything before them.
    Crc32,
}

impl Checksum {
    /// Bytes at the end of each event.
    pub fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
        }
    }

    /// Whether events carry none.
    pub fn is_empty(self) -> bool {
        self == Self::None
    }
}

/// What the first event of a file says about all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatDescription {
    /// The server that wrote the file.
    pub server: ServerVersion,
    /// When the server was started, in seconds since 1970, if this is its first file; else 0.
    pub created: u32,
    /// Checksum of all events but this one, which always has a CRC-32.
    pub checksum: Checksum,
    /// Length of the fixed part of each kind's body, from kind 1 on.
    pub post_header_lengths: Vec<u8>,
    version_field: [u8; Self::VERSION_LEN],
}

impl FormatDescription {
    /// Size of the version field in bytes.
    pub(crate) const VERSION_LEN: usize = 50;
    const FIXED_LEN: usize = 2 + Self::VERSION_LEN + 4 + 1;

    /// Reads the body with everything behind the header, CRC-32 included.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let version = c.u16("binlog version")?;
        if version != 4 {
            return Err(Malformed::new("binlog version", format!("{version}, only 4 is read")));
        }
        let mut version_field = [0; Self::VERSION_LEN];
        version_field.copy_from_slice(c.bytes(Self::VERSION_LEN, "server version")?);
        let text = version_field.split(|b| *b == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| Malformed::new("server version", "is no text"))?;
        let server: ServerVersion =
            text.parse().map_err(|e: crate::ParseError| Malformed::new("server version", e.to_string()))?;
        let created = c.u32("creation time")?;
        let header = c.u8("header length")?;
        if usize::from(header) != super::Header::LEN {
            return Err(Malformed::new("header length", format!("{header}, expected 19")));
        }
        let rest = c.rest();
        let Some((lengths, [algorithm, _, _, _, _])) = rest.split_last_chunk::<5>() else {
            return Err(Malformed::new("post-header lengths", "no room for the checksum behind them"));
        };
        let checksum = match algorithm {
            0 => Checksum::None,
            1 => Checksum::Crc32,
            other => return Err(Malformed::new("checksum algorithm", format!("{other} is unknown"))),
        };
        Ok(Self { server, created, checksum, post_header_lengths: lengths.to_vec(), version_field })
    }

    /// Length of the fixed part of bodies of this kind; `None` where the file does not know the kind.
    pub fn post_header(&self, kind: EventKind) -> Option<usize> {
        let at = usize::from(kind.0).checked_sub(1)?;
        self.post_header_lengths.get(at).copied().map(usize::from)
    }

    /// The body up to, and with, the checksum algorithm; the CRC-32 is not part of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::FIXED_LEN + self.post_header_lengths.len() + 1);
        out.extend(4u16.to_le_bytes());
        out.extend(self.version_field);
        out.extend(self.created.to_le_bytes());
        out.push(super::Header::LEN as u8);
        out.extend(&self.post_header_lengths);
        out.push(match self.checksum {
            Checksum::None => 0,
            Checksum::Crc32 => 1,
        });
        out
    }
}
