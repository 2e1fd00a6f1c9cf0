//! An open descriptor as the end of a stream, also one that does not block.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::output::Target;

/// A standard output or another open descriptor.
pub(super) struct Descriptor(pub(super) File);

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(self.0.as_fd(), bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Descriptor {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Writes some of the bytes; waits where the other side asked for a descriptor that does not.
pub(crate) fn write(out: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(out, bytes) {
            Err(Errno::AGAIN) => wait_writable(out)?,
            written => return Ok(written?),
        }
    }
}

/// Waits until a descriptor takes bytes, or a signal comes.
pub(crate) fn wait_writable(out: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(&out, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_pipe_that_does_not_block_takes_everything_all_the_same() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut target = Descriptor(File::from(std::os::fd::OwnedFd::from(writer)));
        let sent: Vec<u8> = (0..1 << 20).map(|i| (i / 3) as u8).collect();
        std::thread::scope(|scope| {
            let received = scope.spawn(move || {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                bytes
            });
            target.write_all(&sent).unwrap();
            drop(target);
            assert!(received.join().unwrap() == sent);
        });
    }
}
