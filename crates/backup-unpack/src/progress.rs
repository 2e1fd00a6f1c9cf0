//! How far it is, for another thread to look at; and the way to stop.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use xbstream::ReadAt;

/// Shared between the one who unpacks and the one who watches.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    members: AtomicU64,
    member: Mutex<String>,
    stop: AtomicBool,
}

impl Progress {
    /// Bytes of the input that were read; of an encrypted one: before decryption.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Members that were begun.
    pub fn members(&self) -> u64 {
        self.members.load(Ordering::Relaxed)
    }

    /// The member that was begun last; empty before the first.
    pub fn member(&self) -> String {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the work with [`Error::Stopped`](crate::Error::Stopped) at the next read. A read that waits for its
    /// input goes on waiting, unless the input looks for this itself.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(crate) fn begin(&self, member: &[u8]) {
        self.members.fetch_add(1, Ordering::Relaxed);
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) =
            String::from_utf8_lossy(member).into_owned();
    }

    /// Counts what is read from `input`, and stops it.
    pub(crate) fn watch<R>(&self, input: R) -> Watched<'_, R> {
        Watched { input, progress: self }
    }

    /// The same for an input that is read at several places.
    pub(crate) fn watch_at<S>(&self, input: S) -> WatchedAt<'_, S> {
        WatchedAt { input, progress: self, counted: AtomicU64::new(0) }
    }
}

/// See [`Progress::watch`].
pub(crate) struct Watched<'a, R> {
    input: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_stopped() {
            return Err(io::Error::other("stopped on request"));
        }
        let read = self.input.read(buffer)?;
        self.progress.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Like [`Watched`], for an input whose payloads are read at their places and whose headers are read ahead.
pub(crate) struct WatchedAt<'a, S> {
    input: S,
    progress: &'a Progress,
    counted: AtomicU64,
}

impl<S> WatchedAt<'_, S> {
    /// All of the input was read, `length` bytes: what was read twice counts once.
    pub(crate) fn settle(self, length: u64) {
        let twice = self.counted.into_inner().saturating_sub(length);
        self.progress.read.fetch_sub(twice, Ordering::Relaxed);
    }
}

impl<S: ReadAt> ReadAt for WatchedAt<'_, S> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if self.progress.is_stopped() {
            return Err(io::Error::other("stopped on request"));
        }
        let read = self.input.read_at(buffer, position)?;
        self.counted.fetch_add(read as u64, Ordering::Relaxed);
        self.progress.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
