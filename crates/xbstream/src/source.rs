//! An archive that can be read at several places at once.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes at given positions, such as a file has them. Unlike [`Read`], several threads can read at once.
pub trait ReadAt: Sync {
    /// Reads bytes beginning at `position`; 0 only behind the end or for an empty `out`.
    ///
    /// # Errors
    ///
    /// What the system gives.
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, out, position)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        (**self).read_at(out, position)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = usize::try_from(position).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// Reads a source from its beginning to its end, over what others read.
#[derive(Debug)]
pub(crate) struct Walk<'a, S: ?Sized> {
    source: &'a S,
    position: u64,
}

impl<'a, S: ReadAt + ?Sized> Walk<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source, position: 0 }
    }

    /// Goes on `n` bytes further, behind the end of the source if there are fewer.
    pub(crate) fn pass(&mut self, n: u64) {
        self.position = self.position.saturating_add(n);
    }
}

impl<S: ReadAt + ?Sized> Read for Walk<'_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(out, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}
