//! A file whose pages the kernel hands to the receiver: they are read for their checksum, and not copied a second time.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};

use super::sealer::Counted;
use super::{Compression, Key, PIECE, Unsent};
use crate::transfer::Digest;

/// As [`seal`](super::seal) without compression, of the whole of a regular file, with `sendfile` where `output` takes it.
///
/// The receiver may see what is written into the file while it is sent, and finds by the checksum that it is not what was
/// read.
///
/// # Errors
///
/// Whatever reading or writing fails with, and which of the two it was. A file that becomes shorter meanwhile cannot be read.
pub fn seal_file(
    file: &File,
    output: impl Write + AsFd,
    key: &Key,
    rate_limit: Option<u64>,
) -> Result<Digest, Unsent> {
    let mut output = Counted::new(output, key, Compression::None, rate_limit).map_err(Unsent::Writing)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let at = output.sum.bytes;
        match file.read_at(&mut buffer, at) {
            Ok(0) => return output.finish(key).map_err(Unsent::Writing),
            Ok(n) => {
                output.sum.add(&buffer[..n]);
                hand_over(file, at, &buffer[..n], &mut output.output)?;
                output.pace();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Unsent::Reading(e)),
        }
    }
}

/// Writes `piece`, which was read from `file` at `at`.
fn hand_over(file: &File, mut at: u64, piece: &[u8], output: &mut (impl Write + AsFd)) -> Result<(), Unsent> {
    let mut left = piece.len();
    while left > 0 {
        match retry_on_intr(|| sendfile(&*output, file, Some(&mut at), left)) {
            Ok(0) => {
                return Err(Unsent::Reading(io::Error::other("the file became shorter while it was sent")));
            }
            Ok(n) => left -= n,
            // A file that is open for appending, or a kernel's pipe or file system that cannot.
            Err(Errno::INVAL | Errno::NOSYS) => {
                return output.write_all(&piece[piece.len() - left..]).map_err(Unsent::Writing);
            }
            Err(e) => return Err(Unsent::Writing(e.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{PipeReader, PipeWriter, Read, pipe};
    use std::os::unix::net::UnixStream;

    use super::super::{Broken, Unsealed, seal};
    use super::*;

    fn key() -> Key {
        Key::new(b"of this attempt")
    }

    fn file(contents: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents).unwrap();
        file
    }

    /// What a reader sees of what is written to the other end meanwhile.
    fn read_while(mut reader: impl Read + Send, write: impl FnOnce()) -> Vec<u8> {
        std::thread::scope(|scope| {
            let all = scope.spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            });
            write();
            all.join().unwrap()
        })
    }

    #[test]
    fn stream_is_the_one_of_what_was_read_wherever_it_goes() {
        for length in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 5] {
            let contents: Vec<u8> = (0..length).map(|i| (i / 7) as u8).collect();
            let file = file(&contents);
            let mut expected = Vec::new();
            let digest = seal(&contents[..], &mut expected, &key(), Compression::None, None).unwrap();
            let told = |output| assert_eq!(seal_file(&file, output, &key(), None).unwrap(), digest);

            let (reader, writer) = pipe().unwrap();
            assert!(read_while(reader, || told(File::from(std::os::fd::OwnedFd::from(writer)))) == expected);
            let (reader, writer) = UnixStream::pair().unwrap();
            let writer = File::from(std::os::fd::OwnedFd::from(writer));
            assert!(read_while(reader, || told(writer)) == expected, "socket, {length}");
            let dir = tempfile::tempdir().unwrap();
            for append in [false, true] {
                let path = dir.path().join("stream");
                let to = OpenOptions::new().create(true).write(true).append(append).open(&path).unwrap();
                told(to);
                assert!(std::fs::read(&path).unwrap() == expected, "append {append}, {length}");
                std::fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn file_that_is_written_to_while_it_is_sent_does_not_arrive_as_another() {
        let before = vec![b'a'; 16 * 1024];
        let file = file(&before);
        // All of it fits into the pipe.
        let (reader, writer): (PipeReader, PipeWriter) = pipe().unwrap();
        seal_file(&file, writer, &key(), None).unwrap();
        file.write_all_at(b"b", 5000).unwrap();
        let mut stream = Unsealed::new(reader, &key()).unwrap();
        let mut got = Vec::new();
        match stream.read_to_end(&mut got) {
            Ok(_) => assert!(got == before),
            Err(_) => assert!(matches!(stream.broken(), Some(Broken::Altered { .. }))),
        }
    }

    #[test]
    fn receiver_that_left_is_told_from_a_file_that_cannot_be_read() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert!(seal_file(&file(b"x"), writer, &key(), None).unwrap_err().receiver_left());
        let dir = tempfile::tempdir().unwrap();
        let error = seal_file(&File::open(dir.path()).unwrap(), pipe().unwrap().1, &key(), None);
        assert!(matches!(error, Err(Unsent::Reading(_))), "{error:?}");
    }
}
