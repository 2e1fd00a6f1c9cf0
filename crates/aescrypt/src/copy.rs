//! A whole stream from one place to another.

use std::io::{self, BufRead, Read, Write};

use secrecy::SecretString;

use crate::{Decryptor, Encryptor, Error, Format};

/// Bytes that are read at once when encrypting.
const PIECE: usize = 256 * 1024;

/// Decrypts `input` into `output`; the number of plaintext bytes.
///
/// What `output` was given before an error is provisional and must not be used.
///
/// # Errors
///
/// Everything of [`Decryptor`], and [`Error::Write`].
pub fn decrypt(input: impl Read, mut output: impl Write, password: &SecretString) -> Result<u64, Error> {
    let mut reader = Decryptor::new(input, password)?;
    let mut written = 0;
    loop {
        let plain = reader.fill_buf()?;
        if plain.is_empty() {
            output.flush().map_err(Error::Write)?;
            return Ok(written);
        }
        output.write_all(plain).map_err(Error::Write)?;
        let length = plain.len();
        reader.consume(length);
        written += length as u64;
    }
}

/// Encrypts `input` into `output`; the number of plaintext bytes.
///
/// # Errors
///
/// Everything of [`Encryptor`], and [`Error::Read`].
pub fn encrypt(
    mut input: impl Read,
    output: impl Write,
    password: &SecretString,
    format: Format,
) -> Result<u64, Error> {
    let mut writer = Encryptor::with_format(output, password, format)?;
    let mut piece = vec![0; PIECE];
    let mut read = 0;
    loop {
        let length = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Read(error)),
        };
        writer.write_all(&piece[..length]).map_err(Error::Write)?;
        read += length as u64;
    }
    writer.finish().map_err(Error::Write)?;
    Ok(read)
}
