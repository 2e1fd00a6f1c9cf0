//! QuickLZ 1.5.0 blocks, level 1, without streaming.
//!
//! Source of the format: the published description of QuickLZ 1.5.0 as seen in blocks that `mariabackup`
//! 10.11 writes; 219 such files decode to the bytes that were backed up.

use crate::chunk::le_u32;

/// Bytes of the longest header.
pub(super) const MAX_HEADER: usize = 9;

/// No compressed block holds more plain bytes than this for each of its own: a match of 255 bytes takes 3.
const MAX_RATIO: usize = 86;

/// Plain bytes at the end of a block that no match reaches.
const TAIL: usize = 4;

/// A position of the table that nothing was entered at.
const NONE: u32 = u32::MAX;

const SLOTS: usize = 4096;

/// The header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) compressed: bool,
    /// Bytes of the header.
    pub(super) len: usize,
    /// Bytes of the block, header included.
    pub(super) block: usize,
    /// Bytes of its contents.
    pub(super) plain: usize,
}

/// Length of the header that begins with this byte.
pub(super) fn header_len(flags: u8) -> usize {
    if flags & 0x02 != 0 { MAX_HEADER } else { 3 }
}

impl Header {
    /// Parses the `header_len` bytes of a header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let flags = bytes[0];
        // Bit 6 is always set, bit 7 never; bits 2 and 3 are the level, 4 and 5 the streaming mode.
        if flags & 0xfc != 0x44 {
            return Err("not a QuickLZ block of level 1");
        }
        let len = header_len(flags);
        let (block, plain) = if len == MAX_HEADER {
            (le_u32(&bytes[1..]) as usize, le_u32(&bytes[5..]) as usize)
        } else {
            (usize::from(bytes[1]), usize::from(bytes[2]))
        };
        let compressed = flags & 0x01 != 0;
        if block < len {
            return Err("QuickLZ block shorter than its header");
        }
        if !compressed && block - len != plain {
            return Err("stored QuickLZ block of another length than its contents");
        }
        if plain / MAX_RATIO > block {
            return Err("QuickLZ block larger than its data can make it");
        }
        Ok(Self { compressed, len, block, plain })
    }
}

/// Decompresses blocks, keeping its tables.
#[derive(Debug)]
pub(super) struct QuickLz {
    table: Box<[u32; SLOTS]>,
    out: Vec<u8>,
}

impl QuickLz {
    pub(super) fn new() -> Self {
        Self { table: Box::new([NONE; SLOTS]), out: Vec::new() }
    }

    /// The contents of a block, from the bytes that follow its header.
    pub(super) fn block<'a>(&'a mut self, header: Header, body: &'a [u8]) -> Result<&'a [u8], &'static str> {
        if !header.compressed {
            return Ok(body);
        }
        // What an earlier block left behind is overwritten before it is given out or matched.
        if self.out.len() < header.plain {
            self.out.resize(header.plain, 0);
        }
        self.table.fill(NONE);
        let out = &mut self.out[..header.plain];
        decompress(body, out, &mut self.table).ok_or("impossible QuickLZ block")?;
        Ok(out)
    }
}

/// Fills `out`, or `None` when `input` is too short or refers to what is not there.
fn decompress(input: &[u8], out: &mut [u8], table: &mut [u32; SLOTS]) -> Option<()> {
    let size = out.len();
    let mut at = 0; // in `input`
    let mut done = 0; // in `out`
    let mut entered = 0; // positions of `out` before this one are in the table, or inside a match
    let mut control = 1_u32; // 31 flags, lowest first, and a marker above them
    while done < size {
        if control == 1 {
            control = le_u32(input.get(at..at + 4)?);
            at += 4;
            if control & 1 << 31 == 0 {
                return None;
            }
        }
        if control & 1 == 0 {
            // All literals up to the next match or the marker at once.
            let run = (control.trailing_zeros() as usize).min(size - done);
            control >>= run;
            copy_literals(input, at, out, done, run)?;
            at += run;
            done += run;
            if done >= 3 {
                enter(out, table, &mut entered, done - 3);
            }
            continue;
        }
        control >>= 1;
        let word = input.get(at..at + 2)?;
        let word = usize::from(u16::from_le_bytes([word[0], word[1]]));
        let len = match word & 15 {
            0 => {
                at += 3;
                usize::from(*input.get(at - 1)?)
            }
            n => {
                at += 2;
                n + 2
            }
        };
        let from = table[word >> 4] as usize;
        // An empty slot is larger than any position, so it fails the comparison of distances.
        if len < 3 || done + len + TAIL > size || from.saturating_add(3) > done {
            return None;
        }
        copy_match(out, from, done, len);
        enter(out, table, &mut entered, done);
        done += len;
        entered = done;
    }
    Some(())
}

/// Enters the positions up to `last` into the table. Three bytes from each of them are there.
#[inline(always)]
fn enter(out: &[u8], table: &mut [u32; SLOTS], entered: &mut usize, last: usize) {
    let Some(bytes) = out.get(*entered..last + 3) else { return };
    for (i, three) in bytes.windows(3).enumerate() {
        let x = u32::from(three[0]) | u32::from(three[1]) << 8 | u32::from(three[2]) << 16;
        table[((x >> 12 ^ x) & 4095) as usize] = (*entered + i) as u32;
    }
    *entered = (*entered).max(last + 1);
}

/// Copies `run` literals, at most 31, with one wide copy where there is room.
#[inline(always)]
fn copy_literals(input: &[u8], at: usize, out: &mut [u8], done: usize, run: usize) -> Option<()> {
    if let (Some(from), Some(to)) = (input.get(at..at + 32), out.get_mut(done..done + 32)) {
        to.copy_from_slice(from);
    } else {
        out.get_mut(done..done + run)?.copy_from_slice(input.get(at..at + run)?);
    }
    Some(())
}

/// Copies an earlier piece of `out`, which may reach into the copy itself.
#[inline(always)]
fn copy_match(out: &mut [u8], from: usize, done: usize, len: usize) {
    if done - from >= len {
        out.copy_within(from..from + len, done);
    } else {
        for i in 0..len {
            out[done + i] = out[from + i];
        }
    }
}
