//! What the fuzz targets do with their input. An ordinary test replays the kept inputs through the same functions.

use std::io::{Read, Write};

use aescrypt::{Decryptor, Encryptor, Error, Format};
use secrecy::SecretString;

use super::{Pieces, outcome, seal};

/// Decrypts `input` to its end; what came before an error, too.
fn run(input: impl Read) -> (Result<(), Error>, Vec<u8>) {
    let mut plain = Vec::new();
    let result = Decryptor::new(input, &SecretString::from("abc")).and_then(|mut reader| {
        let read = reader.read_to_end(&mut plain);
        assert_eq!(read.is_ok(), reader.is_verified());
        read.map(drop).map_err(Error::from)
    });
    (result, plain)
}

/// Iterations that a version 3 stream asks for: more than a few take the time that they are there to take.
fn iterations(data: &[u8]) -> Option<u32> {
    let mut rest = data.strip_prefix(b"AES\x03")?.get(1..)?;
    loop {
        let (length, after) = rest.split_first_chunk()?;
        match u16::from_be_bytes(*length) {
            0 => return Some(u32::from_be_bytes(*after.first_chunk()?)),
            length => rest = after.get(usize::from(length)..)?,
        }
    }
}

/// Any bytes as a stream. Whole and in pieces they end the same way.
pub(crate) fn decryptor(data: &[u8]) {
    if iterations(data).is_some_and(|iterations| iterations > 64) {
        return;
    }
    let (whole, plain) = run(data);
    let (pieces, again) = run(Pieces::new(data, vec![3, 1, 17]));
    assert_eq!(outcome(&whole), outcome(&pieces));
    assert!(plain == again);
    assert!(plain.len() <= data.len());
}

/// Any bytes as a body that is authentic. The first byte chooses the version, the second is the size byte.
pub(crate) fn sealed(data: &[u8]) {
    let Some(([version, size], body)) = data.split_first_chunk() else { return };
    let version = version % 4;
    let (result, plain) = run(&seal::stream(version, *size, body)[..]);
    let blocks = body.len() / 16;
    let last = if version == 3 { 0..16 } else { 0..17 };
    match result {
        // As many bytes as the blocks hold, but for the last one.
        Ok(()) if blocks == 0 => assert!(plain.is_empty() && body.is_empty()),
        Ok(()) => assert!(body.len() % 16 == 0 && last.contains(&(plain.len() + 16 - 16 * blocks))),
        Err(Error::Tampered) => {}
        // No whole number of blocks; version 3 always has one.
        Err(Error::Truncated { .. }) => assert!(body.len() % 16 != 0 || version == 3 && blocks == 0),
        Err(other) => panic!("{other:?}"),
    }
}

/// Any bytes as plaintext, which comes back; with one byte of the stream changed it never comes back as something else.
pub(crate) fn altered(data: &[u8]) {
    let Some(([format, at, high, mask], plain)) = data.split_first_chunk() else { return };
    let format = if format % 2 == 0 { Format::V2 } else { Format::V3 { iterations: 1 } };
    let mut writer =
        Encryptor::with_format(Vec::new(), &SecretString::from("abc"), format).expect("a writer");
    for piece in plain.chunks(usize::from(*at) + 1) {
        writer.write_all(piece).expect("a vector takes everything");
    }
    let mut stream = writer.finish().expect("a whole stream");
    let (result, back) = run(&stream[..]);
    assert!(result.is_ok() && back == plain, "{result:?}");

    let at = usize::from(u16::from_le_bytes([*at, *high])) % stream.len();
    stream[at] ^= mask;
    if iterations(&stream).is_some_and(|iterations| iterations > 64) {
        return;
    }
    let (result, back) = run(&stream[..]);
    let size_byte = format == Format::V2 && at + 33 == stream.len();
    if result.is_ok() {
        let same = back.len().min(plain.len());
        assert!(back[..same] == plain[..same]);
        assert!(back.len() == plain.len() || size_byte && back.len().abs_diff(plain.len()) < 16);
    }
}
