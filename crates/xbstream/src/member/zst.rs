//! `.zst` members: Zstandard frames one after another, their sizes known or not.
//!
//! Windows are limited to 2^[`MAX_ZSTD_WINDOW_LOG`] bytes, so that a member cannot choose how much memory it takes.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::error::{DecodeError, Format};
use super::pieces::{MAX_PIECE, Scan, batch, decode_all};
use super::{MAX_ZSTD_WINDOW_LOG, Sink, Step};
use crate::chunk::{le_u32, le_u64};

const FORMAT: Format = Format::Zstd;

const MAGIC: u32 = 0xfd2f_b528;

/// Bytes decoded at a time: the largest block of the format.
const PIECE: usize = 128 * 1024;

pub(super) struct Zst {
    context: DCtx<'static>,
    out: Vec<u8>,
    /// A frame is begun and not ended.
    inside: bool,
    at: u64,
}

impl Zst {
    pub(super) fn new() -> Result<Self, DecodeError> {
        Self::beginning_at(0)
    }

    fn beginning_at(at: u64) -> Result<Self, DecodeError> {
        let failed = |what| DecodeError::Corrupt { format: FORMAT, at, what };
        let mut context = DCtx::try_create().ok_or_else(|| failed("no memory for the decoder"))?;
        context
            .set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG))
            .map_err(|c| failed(get_error_name(c)))?;
        Ok(Self { context, out: Vec::new(), inside: false, at })
    }
}

impl Step for Zst {
    fn push(&mut self, input: &mut &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        // Asked with nothing to read, the decoder would say how much it wants of a frame that may never come.
        if input.is_empty() {
            return Ok(());
        }
        self.out.resize(PIECE, 0);
        let mut source = InBuffer::around(input);
        loop {
            let mut target = OutBuffer::around(&mut self.out[..]);
            let hint = self.context.decompress_stream(&mut target, &mut source).map_err(|code| {
                let at = self.at + source.pos() as u64;
                DecodeError::Corrupt { format: FORMAT, at, what: get_error_name(code) }
            })?;
            let written = target.pos();
            out(&self.out[..written])?;
            // 0 is the end of a frame that was flushed whole; a full buffer may hide more of it.
            self.inside = hint != 0;
            if !self.inside || source.pos() == input.len() && written < PIECE {
                break;
            }
        }
        self.at += source.pos() as u64;
        *input = &input[source.pos()..];
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        match self.inside {
            false => Ok(()),
            true => Err(DecodeError::Truncated { format: FORMAT, at: self.at }),
        }
    }

    fn scan(&self, input: &[u8]) -> Scan {
        if self.inside { Scan::InOrder } else { batch(input, frame) }
    }

    fn split(&mut self, len: usize) -> Result<Box<dyn Step>, DecodeError> {
        let piece = Self::beginning_at(self.at)?;
        self.at += len as u64;
        Ok(Box::new(piece))
    }

    /// Without the copy from the decoder's window that decoding in order needs.
    fn whole(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if self.context.decompress(out, bytes).is_ok() {
            return Ok(());
        }
        // What is wrong, and where, is told by decoding in order.
        out.clear();
        decode_all(self, bytes, &mut |plain| {
            out.extend_from_slice(plain);
            Ok(())
        })
    }
}

/// A frame at the front of `input`. The lengths of its blocks are read, nothing else of it.
fn frame(input: &[u8]) -> Scan {
    let Some(start) = input.get(..5) else { return Scan::Short };
    let descriptor = start[4];
    let (single, checksum) = (descriptor & 0x20 != 0, descriptor & 0x04 != 0);
    // A skippable frame, a reserved bit, a dictionary.
    if le_u32(start) != MAGIC || descriptor & 0x0b != 0 {
        return Scan::InOrder;
    }
    let size_len = match descriptor >> 6 {
        0 => usize::from(single),
        n => 1 << n,
    };
    let mut len = 5 + usize::from(!single) + size_len;
    let Some(header) = input.get(5..len) else { return Scan::Short };
    let window = if single {
        let mut size = [0; 8];
        size[..size_len].copy_from_slice(header);
        // Two bytes count from 256.
        le_u64(&size) + if size_len == 2 { 256 } else { 0 }
    } else {
        let base = 1 << (10 + (header[0] >> 3));
        base + base / 8 * u64::from(header[0] & 7)
    };
    if window > 1 << MAX_ZSTD_WINDOW_LOG {
        return Scan::InOrder;
    }
    // Decoding at once takes larger blocks than decoding in order does, which the format does not have.
    let largest = (window as usize).min(PIECE);
    let mut plain = 0;
    loop {
        let Some(block) = input.get(len..len + 3) else { return Scan::Short };
        let word = le_u32(&[block[0], block[1], block[2], 0]);
        let size = (word >> 3) as usize;
        if size > largest {
            return Scan::InOrder;
        }
        let (bytes, of_it) = match word >> 1 & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, largest),
            _ => return Scan::InOrder,
        };
        len += 3 + bytes;
        plain += of_it;
        if len > MAX_PIECE {
            return Scan::InOrder;
        }
        if word & 1 != 0 {
            break;
        }
    }
    len += if checksum { 4 } else { 0 };
    if len > input.len() { Scan::Short } else { Scan::Whole { len, plain } }
}
