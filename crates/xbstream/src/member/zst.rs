//! `.zst` members: Zstandard frames one after another, their sizes known or not.
//!
//! Windows are limited to 2^[`MAX_ZSTD_WINDOW_LOG`] bytes, so that a member cannot choose how much memory it takes.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::error::{DecodeError, Format};
use super::{MAX_ZSTD_WINDOW_LOG, Sink, Step};

const FORMAT: Format = Format::Zstd;

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
        let failed = |what| DecodeError::Corrupt { format: FORMAT, at: 0, what };
        let mut context = DCtx::try_create().ok_or_else(|| failed("no memory for the decoder"))?;
        context
            .set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG))
            .map_err(|c| failed(get_error_name(c)))?;
        Ok(Self { context, out: vec![0; PIECE], inside: false, at: 0 })
    }
}

impl Step for Zst {
    fn push(&mut self, input: &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        // Asked with nothing to read, the decoder would say how much it wants of a frame that may never come.
        if input.is_empty() {
            return Ok(());
        }
        let mut source = InBuffer::around(input);
        loop {
            let mut target = OutBuffer::around(&mut self.out[..]);
            let hint = self.context.decompress_stream(&mut target, &mut source).map_err(|code| {
                let at = self.at + source.pos() as u64;
                DecodeError::Corrupt { format: FORMAT, at, what: get_error_name(code) }
            })?;
            let written = target.pos();
            out(&self.out[..written])?;
            // 0 is the end of a frame that was flushed whole; more input begins the next one.
            self.inside = hint != 0;
            // A full buffer may hide more of the frame; behind its end there is no more.
            if source.pos() == input.len() && (!self.inside || written < PIECE) {
                break;
            }
        }
        self.at += input.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        match self.inside {
            false => Ok(()),
            true => Err(DecodeError::Truncated { format: FORMAT, at: self.at }),
        }
    }
}
