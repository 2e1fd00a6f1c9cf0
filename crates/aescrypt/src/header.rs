//! Everything before the body: read, checked against the password, and written.

use std::io::{self, Read};

use ring::hmac;
use secrecy::SecretString;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::blocks::{Opener, Sealer};
use crate::encryptor::Format;
use crate::kdf::{self, Key};
use crate::{Error, Part};

pub(crate) const HMAC_LEN: usize = 32;
/// The body's IV (16) and key (32).
const KEY_BLOCK: usize = 48;
/// Identifier of the extension in which a writer names itself.
const CREATED_BY: &[u8] = b"CREATED_BY";
/// Longest `CREATED_BY` text that is kept, in bytes; the rest of the list is passed over.
const MAX_CREATED_BY: usize = 256;
/// An empty extension, so that a tool can add its own later without moving the body; by convention 128 bytes.
const CONTAINER: usize = 128;

/// `ring` has SHA-256 in assembly also for processors without instructions for it: there it is 1.9 times as fast as
/// that of RustCrypto, which makes pyAesCrypt the faster one. It does not wipe what it derives from the key.
pub(crate) type BodyHmac = hmac::Context;

/// What the header says about the body.
pub(crate) struct Header {
    pub(crate) version: u8,
    pub(crate) created_by: Option<String>,
    /// Bytes before the body.
    pub(crate) length: u64,
    /// Plaintext size modulo 16; known here in version 0 only.
    pub(crate) size_modulo: u8,
    pub(crate) iv: [u8; 16],
    pub(crate) key: Key,
}

impl Header {
    /// Bytes after the body.
    pub(crate) fn trailer(&self) -> usize {
        match self.version {
            1 | 2 => 1 + HMAC_LEN,
            _ => HMAC_LEN,
        }
    }

    pub(crate) fn body_hmac(&self) -> BodyHmac {
        hmac(&self.key)
    }

    /// Reads up to the first byte of the body; no byte more is taken from `reader`.
    pub(crate) fn read(reader: &mut impl Read, password: &SecretString) -> Result<Self, Error> {
        let mut input = Input { reader, offset: 0 };
        let [a, e, s] = input.array(Part::Start)?;
        if [a, e, s] != *b"AES" {
            return Err(Error::NotAesCrypt);
        }
        let [version] = input.array(Part::Start)?;
        if version > 3 {
            return Err(Error::UnsupportedVersion { version });
        }
        let [size_modulo] = input.array(Part::Start)?;
        let created_by = if version >= 2 { input.extensions()? } else { None };
        let iterations = if version == 3 { u32::from_be_bytes(input.array(Part::Iterations)?) } else { 0 };
        let iv = input.array(Part::Iv)?;
        let password_key = match version {
            3 => kdf::pbkdf2(password, &iv, iterations, false)?,
            _ => kdf::stretched(password, &iv),
        };
        let (iv, key) = match version {
            0 => (iv, password_key),
            _ => input.key_block(version, &password_key, &iv)?,
        };
        Ok(Self { version, created_by, length: input.offset, size_modulo, iv, key })
    }

    /// A new header for `format` with random IVs and a random key, and its bytes.
    pub(crate) fn create(format: Format, password: &SecretString) -> Result<(Self, Vec<u8>), Error> {
        let version = format.version();
        let created_by = concat!("aescrypt ", env!("CARGO_PKG_VERSION"));
        let mut iv = [0; 16];
        let mut block = Zeroizing::new([0; KEY_BLOCK]);
        getrandom::fill(&mut iv).map_err(Error::Random)?;
        getrandom::fill(block.as_mut_slice()).map_err(Error::Random)?;

        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(b"AES");
        bytes.extend_from_slice(&[version, 0]);
        let length = (CREATED_BY.len() + 1 + created_by.len()) as u16;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(CREATED_BY);
        bytes.push(0);
        bytes.extend_from_slice(created_by.as_bytes());
        bytes.extend_from_slice(&(CONTAINER as u16).to_be_bytes());
        bytes.extend_from_slice(&[0; CONTAINER]);
        bytes.extend_from_slice(&[0, 0]);
        let password_key = match format {
            Format::V2 => kdf::stretched(password, &iv),
            Format::V3 { iterations } => {
                bytes.extend_from_slice(&iterations.to_be_bytes());
                kdf::pbkdf2(password, &iv, iterations, true)?
            }
        };
        bytes.extend_from_slice(&iv);

        let (body_iv, key) = split(&block);
        Sealer::new(&password_key, &iv).seal(block.as_mut_slice());
        bytes.extend_from_slice(block.as_slice());
        bytes.extend_from_slice(key_block_hmac(version, &password_key, &block).sign().as_ref());

        let length = bytes.len() as u64;
        let header =
            Self { version, created_by: Some(created_by.into()), length, size_modulo: 0, iv: body_iv, key };
        Ok((header, bytes))
    }
}

fn hmac(key: &Key) -> BodyHmac {
    hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

fn key_block_hmac(version: u8, password_key: &Key, block: &[u8; KEY_BLOCK]) -> BodyHmac {
    let mut mac = hmac(password_key);
    mac.update(block);
    if version == 3 {
        mac.update(&[3]);
    }
    mac
}

fn split(block: &[u8; KEY_BLOCK]) -> ([u8; 16], Key) {
    let mut iv = [0; 16];
    let mut key = Key::default();
    iv.copy_from_slice(&block[..16]);
    key.copy_from_slice(&block[16..]);
    (iv, key)
}

/// The input and how far it has been read.
struct Input<'a, R> {
    reader: &'a mut R,
    offset: u64,
}

impl<R: Read> Input<'_, R> {
    fn fill(&mut self, buffer: &mut [u8], part: Part) -> Result<(), Error> {
        let read = read_full(self.reader, buffer).map_err(Error::Read)?;
        self.offset += read as u64;
        if read < buffer.len() {
            return Err(Error::Truncated { offset: self.offset, part });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, part: Part) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, part)?;
        Ok(bytes)
    }

    /// Passes over the extensions, however many there are, and keeps who wrote the stream.
    fn extensions(&mut self) -> Result<Option<String>, Error> {
        let mut created_by = None;
        loop {
            let mut left = usize::from(u16::from_be_bytes(self.array(Part::Extensions)?));
            if left == 0 {
                return Ok(created_by);
            }
            let mut piece = [0; 1024];
            let mut first = true;
            while left > 0 {
                let piece = &mut piece[..left.min(1024)];
                self.fill(piece, Part::Extensions)?;
                left -= piece.len();
                if first && created_by.is_none() {
                    created_by = writer(piece);
                }
                first = false;
            }
        }
    }

    fn key_block(
        &mut self,
        version: u8,
        password_key: &Key,
        iv: &[u8; 16],
    ) -> Result<([u8; 16], Key), Error> {
        let mut block: Zeroizing<[u8; KEY_BLOCK]> = Zeroizing::new(self.array(Part::KeyBlock)?);
        let tag: [u8; HMAC_LEN] = self.array(Part::KeyBlockHmac)?;
        let actual = key_block_hmac(version, password_key, &block).sign();
        if !bool::from(actual.as_ref().ct_eq(&tag)) {
            return Err(Error::WrongPassword);
        }
        Opener::new(password_key, iv).open(block.as_mut_slice());
        Ok(split(&block))
    }
}

/// The text of a `CREATED_BY` extension.
fn writer(extension: &[u8]) -> Option<String> {
    let text = extension.strip_prefix(CREATED_BY)?.strip_prefix(&[0])?;
    (text.len() <= MAX_CREATED_BY).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Reads until `buffer` is full or the input ends; the number of bytes read.
pub(crate) fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match reader.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
