//! Cutting a layer into pieces that can be decoded side by side, where its format has such pieces.
//!
//! Only what is whole, small and without surprise is cut off; all else is left to the layer's own decoder, in order,
//! which also finds the words for what is wrong with it.

use super::{DecodeError, Sink, Step};

/// A piece is closed when it has this many bytes, or may have this many plain ones.
const ENOUGH: usize = 256 * 1024;
const ENOUGH_PLAIN: usize = 1024 * 1024;

/// Longest piece, in bytes, and most plain bytes that it may have. What is larger is decoded in order.
pub(super) const MAX_PIECE: usize = 1024 * 1024;
const MAX_PLAIN: usize = 4 * 1024 * 1024;

/// What stands at the front of some bytes, at a place where a layer can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// Something that can be decoded by itself.
    Whole {
        /// Its bytes.
        len: usize,
        /// Plain bytes that it has at most.
        plain: usize,
    },
    /// Perhaps such a thing, but its end is not there yet.
    Short,
    /// Something to be decoded in order; also: this is no place to cut at.
    InOrder,
}

/// As many whole things as make a piece, of those that `one` finds.
pub(super) fn batch(input: &[u8], one: impl Fn(&[u8]) -> Scan) -> Scan {
    let (mut len, mut plain) = (0, 0);
    while len < ENOUGH && plain < ENOUGH_PLAIN {
        match one(&input[len..]) {
            Scan::Whole { len: l, plain: p } if len + l <= MAX_PIECE && plain + p <= MAX_PLAIN => {
                len += l;
                plain += p;
            }
            Scan::Short if len == 0 && input.len() < MAX_PIECE => return Scan::Short,
            _ if len == 0 => return Scan::InOrder,
            _ => break,
        }
    }
    Scan::Whole { len, plain }
}

/// A piece of a member, to be decoded by any thread.
pub(crate) struct Piece {
    step: Box<dyn Step>,
    bytes: Vec<u8>,
    plain: usize,
}

impl Piece {
    /// Memory that it needs at most, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len() + self.plain
    }

    /// Its plain bytes, in the memory of `out`.
    pub(crate) fn decode(mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        out.clear();
        out.reserve(self.plain);
        self.step.whole(&self.bytes, out)
    }
}

/// What a decoder gives out, in the order of the member.
pub(crate) enum Output<'a> {
    /// Plain bytes.
    Plain(&'a [u8]),
    /// Bytes that are still to be decoded.
    Piece(Piece),
}

impl<'a> Output<'a> {
    /// The plain bytes; those of a piece, in the memory of `buffer`.
    pub(crate) fn decode(self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Plain(bytes) => Ok(bytes),
            Self::Piece(piece) => {
                piece.decode(buffer)?;
                Ok(buffer)
            }
        }
    }
}

/// Takes what a layer's `step` and the cutter make of it.
pub(crate) type Outlet<'a> = dyn FnMut(Output<'_>) -> Result<(), DecodeError> + 'a;

/// Stands before a layer and cuts off what can be decoded by others.
#[derive(Default)]
pub(super) struct Splitter {
    /// Beginning of something whose end is not there yet. The layer's decoder has not seen it.
    held: Vec<u8>,
}

impl Splitter {
    pub(super) fn push(
        &mut self,
        step: &mut dyn Step,
        mut input: &[u8],
        out: &mut Outlet<'_>,
    ) -> Result<(), DecodeError> {
        while !input.is_empty() {
            let before = self.held.len();
            let taken = if before > 0 { input.len().min(MAX_PIECE.saturating_sub(before)) } else { 0 };
            self.held.extend_from_slice(&input[..taken]);
            let here = if before > 0 { &self.held[..] } else { input };
            match step.scan(here) {
                Scan::Whole { len, plain } if len > before => {
                    let bytes = here[..len].to_vec();
                    input = &input[len - before..];
                    self.held.clear();
                    out(Output::Piece(Piece { step: step.split(len)?, bytes, plain }))?;
                }
                Scan::Short if before == 0 => {
                    self.held.extend_from_slice(input);
                    return Ok(());
                }
                Scan::Short if self.held.len() < MAX_PIECE => input = &input[taken..],
                _ if before == 0 => step.push(&mut input, &mut plain(out))?,
                _ => {
                    self.flush(step, taken, out)?;
                    // What the step left of them, because it is at a place to cut again, is cut.
                    input = &input[taken - self.held.len()..];
                    self.held.clear();
                }
            }
        }
        Ok(())
    }

    /// Gives the step what is held until no more than `most` bytes are left of it.
    fn flush(&mut self, step: &mut dyn Step, most: usize, out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        let mut rest = &self.held[..];
        loop {
            step.push(&mut rest, &mut plain(out))?;
            if rest.len() <= most {
                break;
            }
        }
        let left = self.held.len() - rest.len();
        self.held.drain(..left);
        Ok(())
    }

    /// The layer has ended.
    pub(super) fn finish(&mut self, step: &mut dyn Step, out: &mut Outlet<'_>) -> Result<(), DecodeError> {
        if !self.held.is_empty() {
            self.flush(step, 0, out)?;
        }
        step.finish()
    }
}

fn plain<'a>(out: &'a mut Outlet<'_>) -> impl FnMut(&[u8]) -> Result<(), DecodeError> + 'a {
    |bytes| out(Output::Plain(bytes))
}

/// Decodes all of `bytes`, which is all there is, with a step that has seen nothing of it.
pub(super) fn decode_all(
    step: &mut (impl Step + ?Sized),
    mut bytes: &[u8],
    out: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        step.push(&mut bytes, out)?;
    }
    step.finish()
}
