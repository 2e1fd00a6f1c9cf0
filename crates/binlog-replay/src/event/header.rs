//! The header of every event: 19 bytes, the same since MySQL 5.0.

use super::kind::EventKind;

/// The common header.
///
/// | bytes | field |
/// | --- | --- |
/// | 0–3 | timestamp, seconds since 1970 |
/// | 4 | kind |
/// | 5–8 | `server_id` of the server where the event was first written |
/// | 9–12 | size of the event with header and checksum |
/// | 13–16 | offset of the next event in the file, modulo 2³² |
/// | 17–18 | flags |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970.
    pub timestamp: u32,
    /// Kind of the event.
    pub kind: EventKind,
    /// `server_id` of the server where the event was first written.
    pub server_id: u32,
    /// Size in bytes with header and checksum.
    pub size: u32,
    /// Offset of the next event in the file where the event was first written, modulo 2³²; 0 in some
    /// events that are no part of a file's own sequence.
    pub next: u32,
    /// Flags; see the constants.
    pub flags: u16,
}

impl Header {
    /// Size of the header in bytes.
    pub const LEN: usize = 19;
    /// The file was not closed (format description only); not covered by the checksum.
    pub const IN_USE: u16 = 0x0001;
    /// A query that needs the session of its thread: temporary tables.
    pub const THREAD_SPECIFIC: u16 = 0x0004;
    /// A query that needs no `USE`.
    pub const SUPPRESS_USE: u16 = 0x0008;
    /// Made by a replica, not read from its source.
    pub const ARTIFICIAL: u16 = 0x0020;
    /// Written to a relay log by a replica.
    pub const RELAY_LOG: u16 = 0x0040;
    /// May be passed over by a reader that does not know the kind.
    pub const IGNORABLE: u16 = 0x0080;
    /// MariaDB: not to be replicated (`skip_replication`).
    pub const SKIP_REPLICATION: u16 = 0x8000;

    /// Reads a header; `None` if there are fewer than [`Header::LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b = bytes.first_chunk::<{ Self::LEN }>()?;
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Some(Self {
            timestamp: word(0),
            kind: EventKind(b[4]),
            server_id: word(5),
            size: word(9),
            next: word(13),
            flags: u16::from_le_bytes([b[17], b[18]]),
        })
    }

    /// The bytes it was read from.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut b = [0; Self::LEN];
        b[0..4].copy_from_slice(&self.timestamp.to_le_bytes());
        b[4] = self.kind.0;
        b[5..9].copy_from_slice(&self.server_id.to_le_bytes());
        b[9..13].copy_from_slice(&self.size.to_le_bytes());
        b[13..17].copy_from_slice(&self.next.to_le_bytes());
        b[17..19].copy_from_slice(&self.flags.to_le_bytes());
        b
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
