//! What the tests share.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod fuzz;
pub(crate) mod seal;

use std::io::{self, Read};
use std::path::PathBuf;

use aescrypt::{Decryptor, Error};
use secrecy::SecretString;

/// The plaintext of the vectors.
pub(crate) fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((31 * i + 7) % 251) as u8).collect()
}

pub(crate) fn decrypt(stream: &[u8], password: &str) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    let mut reader = Decryptor::new(stream, &SecretString::from(password))?;
    reader.read_to_end(&mut plain)?;
    assert!(reader.is_verified());
    Ok(plain)
}

/// The name of an outcome, as the manifests write it.
pub(crate) fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "Ok",
        Err(Error::WrongPassword) => "WrongPassword",
        Err(Error::Tampered) => "Tampered",
        Err(Error::Truncated { .. }) => "Truncated",
        Err(Error::NotAesCrypt) => "NotAesCrypt",
        Err(Error::UnsupportedVersion { .. }) => "UnsupportedVersion",
        Err(Error::Iterations { .. }) => "Iterations",
        Err(other) => panic!("an error that no vector has: {other:?}"),
    }
}

pub(crate) fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn vector(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Gives its bytes in pieces of the sizes named, over and over.
pub(crate) struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], sizes: Vec<usize>) -> Self {
        Self { bytes, sizes, turn: 0 }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        let size = size.min(out.len());
        self.bytes.read(&mut out[..size])
    }
}
