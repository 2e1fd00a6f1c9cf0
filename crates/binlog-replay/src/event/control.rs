//! Events that tie files together: rotate, binlog checkpoint, start encryption, heartbeat, incident.

use super::cursor::{Cursor, Malformed};

/// Rotate, kind 4: position `u64`, then the next file's name to the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// Where the next file starts: 4.
    pub position: u64,
    /// Name of the next file, without a folder.
    pub next: &'a [u8],
}

impl<'a> Rotate<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        Ok(Self { position: c.u64("position")?, next: c.rest() })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.position.to_le_bytes());
        out.extend(self.next);
    }
}

/// Incident, kind 26: number `u16`, then a message with a length byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incident<'a> {
    /// 1: events were lost.
    pub number: u16,
    /// What the server said.
    pub message: &'a [u8],
}

impl<'a> Incident<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let incident = Self { number: c.u16("incident number")?, message: c.short_bytes("message")? };
        c.end("incident")?;
        Ok(incident)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.number.to_le_bytes());
        out.push(self.message.len() as u8);
        out.extend(self.message);
    }
}

/// Binlog checkpoint, kind 161 (MariaDB): name length `u32`, then the name of a file.
pub(crate) fn parse_checkpoint(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut c = Cursor::new(body);
    let n = c.u32("name length")?;
    let name = c.bytes(n as usize, "file name")?;
    c.end("binlog checkpoint")?;
    Ok(name)
}

/// Start encryption, kind 164 (MariaDB): scheme `u8` (1), key version `u32`, nonce of 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartEncryption {
    /// Encryption scheme; 1 is the only one.
    pub scheme: u8,
    /// Version of the key in the server's key management.
    pub key_version: u32,
    /// Start of the initialisation vector.
    pub nonce: [u8; 12],
}

impl StartEncryption {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let (scheme, key_version) = (c.u8("scheme")?, c.u32("key version")?);
        let mut nonce = [0; 12];
        nonce.copy_from_slice(c.bytes(12, "nonce")?);
        c.end("start encryption")?;
        Ok(Self { scheme, key_version, nonce })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.scheme);
        out.extend(self.key_version.to_le_bytes());
        out.extend(self.nonce);
    }
}
