//! XA prepare, kind 38: a distributed transaction is prepared, or committed in one phase.

use super::cursor::{Cursor, Malformed};

/// The identifier of a distributed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Xid<'a> {
    /// Format number.
    pub format: u32,
    /// Global part, up to 64 bytes.
    pub global: &'a [u8],
    /// Branch qualifier, up to 64 bytes.
    pub branch: &'a [u8],
}

/// One phase `u8`, format `u32`, length of the global part `u32`, length of the branch qualifier `u32`,
/// both parts. Source: MySQL `control_events.h` (`XA_prepare_event`); MariaDB writes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XaPrepare<'a> {
    /// `XA COMMIT … ONE PHASE`: committed at once.
    pub one_phase: bool,
    /// The transaction's identifier.
    pub xid: Xid<'a>,
}

impl<'a> XaPrepare<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(body);
        let one_phase = match c.u8("one phase")? {
            0 => false,
            1 => true,
            other => return Err(Malformed::new("one phase", format!("{other} is neither 0 nor 1"))),
        };
        let format = c.u32("format")?;
        let (global, branch) = (c.u32("length of the global part")?, c.u32("length of the branch")?);
        if global > 64 || branch > 64 {
            return Err(Malformed::new("XA identifier", format!("parts of {global} and {branch} bytes")));
        }
        let xid = Xid {
            format,
            global: c.bytes(global as usize, "global part")?,
            branch: c.bytes(branch as usize, "branch qualifier")?,
        };
        c.end("XA prepare")?;
        Ok(Self { one_phase, xid })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.one_phase.into());
        out.extend(self.xid.format.to_le_bytes());
        out.extend((self.xid.global.len() as u32).to_le_bytes());
        out.extend((self.xid.branch.len() as u32).to_le_bytes());
        out.extend(self.xid.global);
        out.extend(self.xid.branch);
    }
}
