//! A buffered source that knows its position and gives large reads through unbuffered.

use std::io::{self, Read};

use crate::source::{ReadAt, Walk};

/// Bytes read ahead for headers and small payloads.
const BUFFER: usize = 128 * 1024;

/// Bytes read ahead of a header behind a payload that was passed over: most likely another such payload follows.
const HEADER: usize = 4 * 1024;

/// A read of at least this many bytes with nothing buffered goes straight to the source.
const DIRECT: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
    /// Bytes to read ahead the next time.
    ahead: usize,
}

impl<S: ReadAt + ?Sized> Input<Walk<'_, S>> {
    /// Goes on behind the next `n` bytes without reading them.
    pub(crate) fn pass(&mut self, n: u64) {
        let ready = (self.end - self.start).min(usize::try_from(n).unwrap_or(usize::MAX));
        self.start += ready;
        self.position = self.position.saturating_add(n);
        self.inner.pass(n - ready as u64);
        self.ahead = HEADER;
    }
}

impl<R: Read> Input<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER], start: 0, end: 0, position: 0, ahead: BUFFER }
    }

    /// Bytes given out so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// At least one byte, or none at the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            let ahead = std::mem::replace(&mut self.ahead, BUFFER);
            self.end = read_some(&mut self.inner, &mut self.buffer[..ahead])?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start);
        self.start += n;
        self.position += n as u64;
    }

    /// Up to `out.len()` bytes; 0 only at the end of the stream or for an empty `out`.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && out.len() >= DIRECT {
            let n = read_some(&mut self.inner, out)?;
            self.position += n as u64;
            return Ok(n);
        }
        let ready = self.fill()?;
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.consume(n);
        Ok(n)
    }

    /// Fills `out`, or as much of it as the stream has.
    pub(crate) fn read_full(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.read(&mut out[done..])? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// The next `n` bytes without taking them (fewer at the end of the stream). `n` is small.
    pub(crate) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        debug_assert!(n <= BUFFER);
        if self.buffer.len() - self.start < n {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < n {
            match read_some(&mut self.inner, &mut self.buffer[self.end..])? {
                0 => break,
                more => self.end += more,
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + n)])
    }
}

/// One successful read.
fn read_some(inner: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match inner.read(out) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A source that claims more than it was given room for must not become a panic later.
            Ok(n) if n > out.len() => {
                return Err(io::Error::other("the source returned an impossible length"));
            }
            other => return other,
        }
    }
}
