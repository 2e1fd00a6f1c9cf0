//! Bytes from pipe to pipe without a look at them: the kernel hands over its pages.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{SpliceFlags, splice};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::seal::widen;

/// The most that is handed over at once, in bytes: what a pipe holds.
const MOST: usize = 1 << 20;

/// Two pipes of this process.
pub(super) struct Splice {
    from: Receiver,
    to: Sender,
}

impl Splice {
    /// Both ends must be non-blocking, as those of the async runtime are.
    pub(super) fn new(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        widen(&from);
        widen(&to);
        Ok(Self { from: Receiver::from_owned_fd(from)?, to: Sender::from_owned_fd(to)? })
    }

    /// Waits until something can be handed over, and hands over no more than `most`. How many bytes; 0 at the end.
    pub(super) async fn some(&self, most: Option<usize>) -> Result<usize, Broken> {
        loop {
            self.from.readable().await.map_err(Broken::Reading)?;
            self.to.writable().await.map_err(Broken::Writing)?;
            match splice(&self.from, None, &self.to, None, most.unwrap_or(MOST), SpliceFlags::NONBLOCK) {
                Ok(n) => return Ok(n),
                // One of the two was not ready after all; which one, each tells itself.
                Err(rustix::io::Errno::AGAIN) => {
                    let _ = self.from.try_io(|| ready(&self.from, PollFlags::IN));
                    let _ = self.to.try_io(|| ready(&self.to, PollFlags::OUT));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error @ rustix::io::Errno::PIPE) => return Err(Broken::Writing(error.into())),
                Err(error) => return Err(Broken::Reading(error.into())),
            }
        }
    }
}

/// Which side ended too early.
pub(super) enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

fn ready(pipe: &impl AsFd, flags: PollFlags) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(pipe, flags)], Some(&now))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
