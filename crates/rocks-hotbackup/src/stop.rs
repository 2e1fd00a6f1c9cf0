//! The wish to stop, from a signal or another thread.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::Error;

/// Bytes that are copied at once.
const AT_ONCE: u64 = 16 * 1024 * 1024;

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

    /// Copies what follows in `from`, which is the file `path`, and gives its bytes; a stop ends it between two pieces. From
    /// file to file the kernel copies, or shares the blocks on some file systems.
    pub(crate) fn copy(
        &self,
        from: &mut (impl Read + ?Sized),
        mut to: &File,
        path: &Path,
    ) -> Result<u64, Error> {
        let mut bytes = 0;
        loop {
            self.check()?;
            let piece =
                io::copy(&mut (&mut *from).take(AT_ONCE), &mut to).map_err(Error::io("copy", path))?;
            bytes += piece;
            if piece < AT_ONCE {
                return Ok(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has no end, and asks for a stop when it was read for a while.
    struct Endless<'a>(&'a Stop, u64);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += buffer.len() as u64;
            if self.1 > AT_ONCE {
                self.0.request(2);
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_stop_ends_the_copy_of_a_large_file() {
        let stop = Stop::new();
        let to = tempfile::tempfile().unwrap();
        let result = stop.copy(&mut Endless(&stop, 0), &to, Path::new("large"));
        assert!(matches!(result, Err(Error::Stopped { signal: 2 })), "{result:?}");
        assert_eq!(to.metadata().unwrap().len(), 2 * AT_ONCE);
    }
}
