//! An input that ends in an error when the user interrupts, so that what is unfinished is cleaned up.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbrecover_cli::{Exit, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xbstream::ReadAt;

/// How long a waiting read takes to see a signal.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Whether a signal asked this process to end. Installs its handlers when made; a second signal of the same
/// kind ends the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    pub(crate) fn listen() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register_conditional_default(number, Arc::clone(&armed))?;
            signal_hook::flag::register(number, armed)?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Self { signal })
    }

    /// The signal that came, if one did.
    fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.signal().is_some()
    }

    /// What a failure that came after a signal means: the signal.
    pub(crate) fn or(&self, failure: Failure) -> Failure {
        match self.signal() {
            Some(SIGINT) => Failure::new(Exit::Interrupted, anyhow::Error::msg("interrupted")),
            Some(_) => Failure::new(Exit::Terminated, anyhow::Error::msg("ended by a signal")),
            None => failure,
        }
    }

    /// `input`, with an error as soon as a signal came.
    pub(crate) fn guard<R>(&self, input: R) -> Guarded<R> {
        Guarded { input, interrupt: self.clone() }
    }
}

/// See [`Interrupt::guard`].
#[derive(Debug)]
pub(crate) struct Guarded<R> {
    input: R,
    interrupt: Interrupt,
}

impl<R> Guarded<R> {
    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }
}

impl<R: AsFd> AsFd for Guarded<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl<R: Read + AsFd> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupt.signal().is_some() {
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
            match poll(&mut fds, Some(&LOOK_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Regular files are always ready; what cannot be polled is read.
                Ok(_) | Err(_) => return self.input.read(buffer),
            }
        }
    }
}

impl<R: ReadAt> ReadAt for Guarded<R> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if self.interrupt.came() {
            return Err(io::Error::other("interrupted"));
        }
        self.input.read_at(buffer, position)
    }
}
