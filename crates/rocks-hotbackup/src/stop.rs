//! The wish to stop, from a signal or another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::Error;

/// A shared flag that ends a backup, restore or move-back at the next buffer.
///
/// Work that is stopped removes what it made, as after every other error.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicI32>);

impl Stop {
    /// Nobody asked for a stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop because of a signal; safe to be called in a signal handler.
    pub fn request(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// An error once a stop was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Stopped { signal }),
        }
    }
}
