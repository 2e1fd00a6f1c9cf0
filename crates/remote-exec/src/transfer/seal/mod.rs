//! A stream that carries its own proof: whoever receives it knows by itself whether it is whole.
//!
//! | bytes | what |
//! | --- | --- |
//! | up to 24 | `DBRsealed3 HOW SUM\n`: `none` or `zstd`, whether the contents are a zstd frame; `crc32c` or `cksum` |
//! | 65 | `CODE\n`: that of the line before it |
//! | any | the contents |
//! | 105 | `@sealed CRC LENGTH CODE\n`: checksum of the contents in 10 digits, their bytes in 20, and the code of the 39 bytes up to there |
//!
//! A sender writes the end only when all that it had to send was read, so a stream without it was cut. The checksum is
//! over what is on the wire: CRC-32C, which processors compute fastest, or that of POSIX `cksum`, with which a host that
//! has nothing but coreutils can seal a stream too.
//!
//! A code is the HMAC-SHA256 of a text without its line end, 64 hexadecimal digits, under the [`Key`] of the attempt. A
//! stream of another attempt, or of somebody who was not given the key, is known before anything of its contents is
//! given out, and what ends a stream is what the sender wrote. The contents themselves have a CRC only: who is between
//! the two can alter them so that it stays the same.

mod file;
mod header;
mod sealer;
mod sum;
mod unsealed;
mod unsent;

pub use file::seal_file;
pub(in crate::transfer) use header::Header;
pub use sealer::{Sealer, seal};
pub use unsealed::{Broken, Unsealed};
pub use unsent::Unsent;

use super::key::CODE;
pub use super::key::{KEY_VARIABLE, Key};

/// The exit status of a receiver whose stream was cut or altered: it is worth sending again. `EX_TEMPFAIL` of sysexits.
pub const BROKEN: u8 = 75;

/// The exit status of a sender whose receiver went away, as a shell shows a death by SIGPIPE.
pub const NO_RECEIVER: u8 = 141;

/// How much is read at once, in bytes. It stays in the processor's cache from the read to the write.
const PIECE: usize = 256 * 1024;

const END: usize = 40 + 1 + CODE;

/// What is done to a stream on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// zstd, level 1, one thread.
    Zstd,
}

/// Makes a pipe as large as this process may, so that both of its ends change places less often. Other descriptors and
/// refusals are nothing to worry about.
pub fn widen(pipe: impl std::os::fd::AsFd) {
    /// The most that Linux gives an ordinary user, in bytes.
    const WIDE: usize = 1 << 20;
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, WIDE);
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::time::{Duration, Instant};

    use super::unsealed::DIRECT;
    use super::*;

    fn key() -> Key {
        Key::new(b"of this attempt")
    }

    fn sealed(contents: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        seal(contents, &mut out, &key(), compression, None).unwrap();
        out
    }

    fn opened(stream: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut reader = Unsealed::new(Pieces(stream, piece), &key())?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok(out)
    }

    /// Reads to the end, so many bytes at once.
    fn drained(reader: &mut impl Read, size: usize) -> io::Result<()> {
        let mut buffer = vec![0; size];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Gives out no more than so many bytes at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.1);
            self.0.read(&mut buffer[..n])
        }
    }

    #[test]
    fn contents_come_back_in_whatever_pieces() {
        let contents: Vec<u8> = (0..200_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(&contents, compression);
            for piece in [1, 7, END - 1, END, END + 1, 1 << 20] {
                assert_eq!(opened(&stream, piece).unwrap(), contents, "{compression:?} {piece}");
            }
            assert_eq!(opened(&sealed(b"", compression), 5).unwrap(), b"");
        }
    }

    #[test]
    fn large_and_small_reads_take_turns() {
        let contents: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
        let stream = sealed(&contents, Compression::None);
        for piece in [1000, 40_000, 1 << 20] {
            let mut reader = Unsealed::new(Pieces(&stream, piece), &key()).unwrap();
            let (mut out, mut buffer) = (Vec::new(), vec![0; 4 * DIRECT]);
            for size in [DIRECT, 7, 4 * DIRECT, 500].into_iter().cycle() {
                match reader.read(&mut buffer[..size]).unwrap() {
                    0 => break,
                    n => out.extend_from_slice(&buffer[..n]),
                }
            }
            assert!(out == contents, "{piece}");
            assert_eq!(reader.finish().unwrap().bytes, contents.len() as u64);
        }
    }

    #[test]
    fn stream_cut_or_altered_anywhere_has_no_end() {
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(b"a backup that is all there", compression);
            for end in 0..stream.len() {
                assert!(opened(&stream[..end], 1000).is_err(), "{compression:?} cut at {end}");
                let mut reader = Unsealed::new(&stream[..end], &key()).unwrap();
                assert!(drained(&mut reader, DIRECT).is_err(), "{compression:?} cut at {end}");
            }
            for at in 0..stream.len() {
                let mut altered = stream.clone();
                altered[at] ^= 0x10;
                for size in [100, DIRECT] {
                    let mut reader = Unsealed::new(altered.as_slice(), &key()).unwrap();
                    assert!(drained(&mut reader, size).is_err(), "{compression:?} altered at {at}");
                    // The decoder may give up before the end was read: the rest tells that the stream is at fault.
                    assert!(reader.finish().is_err() && reader.broken().is_some(), "{compression:?} {at}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_given_out_of_a_stream_with_another_key() {
        for compression in [Compression::None, Compression::Zstd] {
            let stream = sealed(b"a backup of somebody else", compression);
            for other in [&b"of another attempt"[..], b""] {
                let mut reader = Unsealed::new(stream.as_slice(), &Key::new(other)).unwrap();
                assert_eq!(reader.broken(), Some(&Broken::Foreign), "{compression:?}");
                assert!(reader.read(&mut [0; 100]).is_err() && reader.finish().is_err());
            }
        }
    }

    #[test]
    fn contents_of_somebody_else_behind_the_right_header_have_no_end() {
        let (mut stream, mut other) = (sealed(b"what was sent", Compression::None), Vec::new());
        seal(&b"something else"[..], &mut other, &Key::new(b"a guess"), Compression::None, None).unwrap();
        let header = Header::of_program(Compression::None).line().len() + 1 + CODE + 1;
        stream.truncate(header);
        stream.extend_from_slice(&other[header..]);
        let mut reader = Unsealed::new(stream.as_slice(), &key()).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        assert_eq!(reader.broken(), Some(&Broken::Foreign));
    }

    #[test]
    fn banner_in_front_is_shown() {
        let mut stream = b"Welcome to db1, authorised use only\n".to_vec();
        stream.extend(sealed(b"x", Compression::None));
        let error = opened(&stream, 100).unwrap_err().to_string();
        assert!(error.contains("Welcome to db1"), "{error}");
    }

    #[test]
    fn rate_limit_is_held() {
        let begun = Instant::now();
        seal(&[0; 400_000][..], io::sink(), &key(), Compression::None, Some(1_000_000)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(350));
    }
}
