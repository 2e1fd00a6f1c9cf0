//! Layers that are made of parts, and collecting a part from pieces of any size.

use super::pieces::Scan;
use super::{DecodeError, Format, Sink, Step};

/// A layer whose parts each have a size that is known once the part before was seen.
pub(super) trait Parts: Send {
    const FORMAT: Format;

    /// Bytes of the next part, or `None` behind the end.
    fn next_size(&self) -> Option<usize>;

    /// Takes the next part, which begins at byte `at` of the layer.
    fn part(&mut self, at: u64, part: &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError>;

    /// True where the layer may end.
    fn may_end(&self) -> bool;

    /// True at places where the layer may be cut.
    fn may_cut(&self) -> bool {
        false
    }

    /// At such a place: what can be cut off the front of `input`.
    fn scan(&self, input: &[u8]) -> Scan {
        let _ = input;
        Scan::InOrder
    }

    /// At such a place: the same parts from here to the end of a piece.
    fn fork(&self) -> Self;
}

/// Cuts a layer into its parts.
#[derive(Debug)]
pub(super) struct Cutter<P> {
    parts: P,
    hold: Hold,
    at: u64,
}

impl<P: Parts> Cutter<P> {
    pub(super) fn new(parts: P) -> Self {
        Self { parts, hold: Hold::default(), at: 0 }
    }
}

impl<P: Parts + 'static> Step for Cutter<P> {
    fn push(&mut self, input: &mut &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        loop {
            let Some(size) = self.parts.next_size() else {
                return match input.is_empty() {
                    true => Ok(()),
                    false => Err(DecodeError::TrailingBytes { format: P::FORMAT, at: self.at }),
                };
            };
            match self.hold.take(input, size) {
                Some(part) => self.parts.part(self.at, part, out)?,
                None => return Ok(()),
            }
            self.at += size as u64;
            if self.parts.may_cut() {
                return Ok(());
            }
        }
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        if self.hold.len() == 0 && self.parts.may_end() {
            Ok(())
        } else {
            Err(DecodeError::Truncated { format: P::FORMAT, at: self.at + self.hold.len() as u64 })
        }
    }

    fn scan(&self, input: &[u8]) -> Scan {
        if self.hold.len() == 0 && self.parts.may_cut() { self.parts.scan(input) } else { Scan::InOrder }
    }

    fn split(&mut self, len: usize) -> Result<Box<dyn Step>, DecodeError> {
        let piece = Self { parts: self.parts.fork(), hold: Hold::default(), at: self.at };
        self.at += len as u64;
        Ok(Box::new(piece))
    }
}

/// Bytes of a part that is not complete yet.
#[derive(Debug, Default)]
struct Hold {
    bytes: Vec<u8>,
    /// The part in `bytes` was given out.
    given: bool,
}

impl Hold {
    /// Takes `n` bytes from what is held and from the front of `input`, or holds all of `input` when they are too
    /// few. A part that lies whole in `input` is not copied.
    fn take<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], n: usize) -> Option<&'a [u8]> {
        if self.given {
            self.bytes.clear();
            self.given = false;
        }
        if self.bytes.is_empty() && input.len() >= n {
            let (part, rest) = input.split_at(n);
            *input = rest;
            return Some(part);
        }
        let missing = n.saturating_sub(self.bytes.len()).min(input.len());
        let (piece, rest) = input.split_at(missing);
        self.bytes.extend_from_slice(piece);
        *input = rest;
        if self.bytes.len() < n {
            return None;
        }
        self.given = true;
        Some(&self.bytes)
    }

    /// Bytes held of a part that is not complete.
    fn len(&self) -> usize {
        if self.given { 0 } else { self.bytes.len() }
    }
}
