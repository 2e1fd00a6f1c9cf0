//! Which side of a sealing failed.

use std::io;

/// Why a stream was not sent whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// What was to be sent cannot be read: sending it again does not help.
    #[error("cannot read what is to be sent")]
    Reading(#[source] io::Error),
    /// What was read cannot be written.
    #[error("cannot write to the receiver")]
    Writing(#[source] io::Error),
}

impl Unsent {
    /// Whether a write failed because its reader is not there any more: a pipe's, or that of a connection. A store on a
    /// network file system fails to be *read* with the same kinds of errors.
    pub fn receiver_left(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
            NotConnected, TimedOut,
        };
        match self {
            Self::Reading(_) => false,
            Self::Writing(error) => matches!(
                error.kind(),
                BrokenPipe
                    | ConnectionAborted
                    | ConnectionReset
                    | HostUnreachable
                    | NetworkDown
                    | NetworkUnreachable
                    | NotConnected
                    | TimedOut
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::io::Errno;

    use super::super::{Compression, Key, seal};
    use super::*;

    /// A file or connection that fails after so many bytes.
    struct Fails(usize, Errno);

    impl Fails {
        fn some(&mut self, wanted: usize) -> io::Result<usize> {
            let n = wanted.min(self.0);
            self.0 -= n;
            if n == 0 { Err(self.1.into()) } else { Ok(n) }
        }
    }

    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.some(buffer.len())
        }
    }

    impl Write for Fails {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.some(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a reader that left shows itself by.
    const LEFT: [Errno; 8] = [
        Errno::PIPE,
        Errno::CONNRESET,
        Errno::CONNABORTED,
        Errno::TIMEDOUT,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::NETDOWN,
        Errno::NOTCONN,
    ];

    /// Sending 100 bytes from a reader to a writer that fails after so many: in the header, the contents and the end.
    fn written(after: usize, errno: Errno, compression: Compression) -> Unsent {
        seal(&[7; 100][..], Fails(after, errno), &Key::new(b""), compression, None).unwrap_err()
    }

    #[test]
    fn failed_write_tells_whether_the_receiver_left() {
        for compression in [Compression::None, Compression::Zstd] {
            for after in [0, 81, 85] {
                for errno in LEFT {
                    let error = written(after, errno, compression);
                    assert!(error.receiver_left(), "{compression:?} {after} {error:?}");
                }
                for errno in [Errno::IO, Errno::NOSPC, Errno::FBIG] {
                    let error = written(after, errno, compression);
                    assert!(matches!(error, Unsent::Writing(_)) && !error.receiver_left(), "{error:?}");
                }
            }
        }
        assert!(written(190, Errno::PIPE, Compression::None).receiver_left(), "in its end");
    }

    #[test]
    fn failed_read_is_no_receiver_that_left_whatever_its_kind() {
        for compression in [Compression::None, Compression::Zstd] {
            for errno in LEFT.into_iter().chain([Errno::IO, Errno::STALE]) {
                for after in [0, 1_000_000] {
                    let error = {
                        let key = Key::new(b"");
                        seal(Fails(after, errno), io::sink(), &key, compression, None).unwrap_err()
                    };
                    assert!(matches!(error, Unsent::Reading(_)) && !error.receiver_left(), "{error:?}");
                }
            }
        }
    }
}
