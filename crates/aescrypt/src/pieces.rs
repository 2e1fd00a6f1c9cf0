//! Tests that need a small buffer: round trips in pieces of any size, through both ends.

use std::io::{self, BufRead, Read, Write};

use proptest::prelude::*;
use secrecy::SecretString;

use crate::{Decryptor, Encryptor, Error, Format};

/// A `Read` and `Write` that takes and gives as many bytes as the list says, over and over, and is interrupted
/// at every 0.
struct Pieces<T> {
    inner: T,
    sizes: Vec<usize>,
    next: usize,
}

impl<T> Pieces<T> {
    fn size(&mut self) -> io::Result<usize> {
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        if size == 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(size) }
    }
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.size()?.min(buffer.len());
        self.inner.read(&mut buffer[..size])
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let size = self.size()?.min(buffer.len());
        self.inner.write(&buffer[..size])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..=20_usize, 1..8).prop_map(|mut sizes| {
        sizes.push(1);
        sizes
    })
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::V2), Just(Format::V3 { iterations: 1 })]
}

proptest! {
    #[test]
    fn any_pieces_give_the_plaintext_back(
        plain in prop::collection::vec(any::<u8>(), 0..700),
        format in format(),
        chunk in prop::sample::select(vec![16_usize, 32, 48, 256]),
        sizes in prop::array::uniform4(sizes()),
    ) {
        let password = SecretString::from("pieces");
        let [put, out, input, take] = sizes;
        let out = Pieces { inner: Vec::new(), sizes: out, next: 0 };
        let mut writer = Encryptor::with_chunk(out, &password, format, chunk).unwrap();
        let mut rest = &plain[..];
        for &size in put.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(size.min(rest.len()));
            writer.write_all(piece).unwrap();
            rest = after;
        }
        let stream = writer.finish().unwrap().inner;

        let input = Pieces { inner: &stream[..], sizes: input, next: 0 };
        let mut reader = Decryptor::with_chunk(input, &password, chunk).unwrap();
        let mut back = Vec::new();
        for &size in take.iter().cycle() {
            let mut piece = vec![0; size.max(1)];
            match reader.read(&mut piece).unwrap() {
                0 => break,
                read => back.extend_from_slice(&piece[..read]),
            }
        }
        prop_assert!(reader.is_verified());
        prop_assert_eq!(back, plain);
    }

    #[test]
    fn change_anywhere_in_the_body_is_never_the_end(
        plain in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let password = SecretString::from("pieces");
        let mut writer = Encryptor::new(Vec::new(), &password).unwrap();
        writer.write_all(&plain).unwrap();
        let mut stream = writer.finish().unwrap();
        let blocks = plain.len().next_multiple_of(16);
        let body = stream.len() - 33 - blocks;
        stream[body + at.index(blocks)] ^= 1 << bit;
        let mut reader = Decryptor::with_chunk(&stream[..], &password, 32).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        prop_assert!(matches!(Error::from(error), Error::Tampered));
    }
}

#[test]
fn dropped_reader_and_writer_end_their_threads() {
    let password = SecretString::from("pieces");
    let mut writer = Encryptor::with_chunk(Vec::new(), &password, Format::V2, 16).unwrap();
    writer.write_all(&[1; 400]).unwrap();
    drop(writer);

    let mut writer = Encryptor::new(Vec::new(), &password).unwrap();
    writer.write_all(&[1; 400]).unwrap();
    let stream = writer.finish().unwrap();
    let mut reader = Decryptor::with_chunk(&stream[..], &password, 16).unwrap();
    assert!(!reader.fill_buf().unwrap().is_empty());
    assert!(!reader.is_verified());
}

#[test]
fn writer_that_failed_does_not_finish() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            // Takes the header, which comes in one piece, and no body.
            if buffer.len() > 100 { Ok(buffer.len()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let password = SecretString::from("pieces");
    let mut writer = Encryptor::with_chunk(Full, &password, Format::V2, 16).unwrap();
    let error = writer.write_all(&[1; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(writer.write(&[1]).is_err());
    assert!(writer.finish().is_err());
}
