//! Ciphertext in, plaintext out.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::Arc;

use secrecy::SecretString;
use subtle::ConstantTimeEq;

use crate::authenticator::Authenticator;
use crate::blocks::{BLOCK, Opener};
use crate::header::{HMAC_LEN, Header, read_full};
use crate::{Error, Part};

/// Bytes that are decrypted at once: they stay in the second-level cache between the read, AES and the HMAC.
const CHUNK: usize = 256 * 1024;
/// Held back until the end is seen: the last block, whose fill is not plaintext, and the longest trailer.
const HELD: usize = BLOCK + 1 + HMAC_LEN;

/// Reads an AES Crypt stream of version 0 to 3 and yields its plaintext.
///
/// **The bytes are provisional until a read returns 0**: only then has the HMAC been compared. Any other end
/// is an error, and a reader that failed stays failed. [`is_verified`](Self::is_verified) tells the two apart
/// where a caller stops reading for a reason of its own.
///
/// The input is read in large pieces, so no `BufReader` is needed below it; [`BufRead`] gives the plaintext
/// out without a copy. The stream must be the last thing in the input: it has no end mark of its own.
pub struct Decryptor<R> {
    reader: R,
    header: Header,
    cipher: Opener,
    authenticator: Authenticator,
    /// Ciphertext bytes that are decrypted at once; a multiple of a block.
    chunk: usize,
    held: Vec<u8>,
    plain: Vec<u8>,
    ready: Range<usize>,
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Verified,
    Failed,
}

impl<R: Read> Decryptor<R> {
    /// Reads the header and checks the password against it.
    ///
    /// # Errors
    ///
    /// [`Error::NotAesCrypt`], [`Error::UnsupportedVersion`], [`Error::WrongPassword`] (never in version 0,
    /// which has no key block: there a wrong password shows as [`Error::Tampered`] at the end),
    /// [`Error::Truncated`], [`Error::Iterations`], [`Error::Read`].
    pub fn new(reader: R, password: &SecretString) -> Result<Self, Error> {
        Self::with_chunk(reader, password, CHUNK)
    }

    pub(crate) fn with_chunk(mut reader: R, password: &SecretString, chunk: usize) -> Result<Self, Error> {
        let header = Header::read(&mut reader, password)?;
        Ok(Self {
            cipher: Opener::new(&header.key, &header.iv),
            authenticator: Authenticator::new(header.body_hmac(), chunk + HELD),
            chunk,
            held: Vec::with_capacity(HELD),
            plain: Vec::new(),
            ready: 0..0,
            offset: header.length,
            state: State::Reading,
            reader,
            header,
        })
    }

    /// The next plaintext, or an empty range at the verified end.
    fn refill(&mut self) -> Result<(), Error> {
        let mut buffer = self.authenticator.buffer();
        // The buffer has one owner here, so this never copies.
        let bytes = Arc::make_mut(&mut buffer);
        let held = self.held.len();
        bytes[..held].copy_from_slice(&self.held);
        let read = read_full(&mut self.reader, &mut bytes[held..]).map_err(Error::Read)?;
        self.offset += read as u64;
        if held + read < bytes.len() {
            return self.finish(&buffer[..held + read]);
        }
        self.authenticator.update(&buffer, self.chunk);
        self.decrypt(&buffer[..self.chunk]);
        self.held.clear();
        self.held.extend_from_slice(&buffer[self.chunk..]);
        self.authenticator.done_with(buffer);
        Ok(())
    }

    fn decrypt(&mut self, ciphertext: &[u8]) {
        self.cipher.open_into(ciphertext, &mut self.plain);
        self.ready = 0..ciphertext.len();
    }

    /// The end of the input: `rest` is the last of the body and the trailer.
    fn finish(&mut self, rest: &[u8]) -> Result<(), Error> {
        let trailer = self.header.trailer();
        let least = if self.header.version == 3 { BLOCK } else { 0 };
        let truncated = Error::Truncated { offset: self.offset, part: Part::Body };
        if rest.len() < least + trailer {
            return Err(truncated);
        }
        // A whole stream has whole blocks. If it is whole without its last bytes, those were added to it;
        // else bytes are missing.
        let excess = (rest.len() - trailer) % BLOCK;
        let (body, tail) = rest[..rest.len() - excess].split_at(rest.len() - excess - trailer);
        let mut mac = self.authenticator.finish();
        mac.update(body);
        let same = bool::from(mac.sign().as_ref().ct_eq(&tail[trailer - HMAC_LEN..]));
        match (same, excess) {
            (true, 0) => {}
            (false, 1..) => return Err(truncated),
            _ => return Err(Error::Tampered),
        }
        self.decrypt(body);
        let fill = match self.header.version {
            0 => unfilled(self.header.size_modulo),
            3 => pkcs7(&self.plain[..body.len()]).ok_or(Error::Tampered)?,
            _ => unfilled(tail[0]),
        };
        // A size byte that says "part of a block" over a body without blocks.
        self.ready.end = body.len().checked_sub(fill).ok_or(Error::Tampered)?;
        self.state = State::Verified;
        Ok(())
    }
}

impl<R> Decryptor<R> {
    /// The version of the stream, 0 to 3.
    pub fn version(&self) -> u8 {
        self.header.version
    }

    /// The program that wrote the stream, as it says itself (`CREATED_BY` extension). Not authenticated, and
    /// for a message to be escaped like any text from outside.
    pub fn created_by(&self) -> Option<&str> {
        self.header.created_by.as_deref()
    }

    /// Whether the end was reached and its HMAC agreed. What was read before is then what was encrypted.
    pub fn is_verified(&self) -> bool {
        self.state == State::Verified
    }

    /// Gives the input back.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

/// Bytes to remove from the last block: the low four bits say how many of its 16 are plaintext, 0 means all.
fn unfilled(size_modulo: u8) -> usize {
    (BLOCK - usize::from(size_modulo & 15)) % BLOCK
}

/// Length of a PKCS #7 fill, if there is a valid one.
fn pkcs7(plain: &[u8]) -> Option<usize> {
    let &last = plain.last()?;
    let fill = usize::from(last);
    let filled = (1..=BLOCK).contains(&fill) && plain[plain.len() - fill..].iter().all(|&b| b == last);
    filled.then_some(fill)
}

impl<R: Read> BufRead for Decryptor<R> {
    /// The next plaintext; empty at the end, and then the HMAC has agreed.
    ///
    /// # Errors
    ///
    /// What the input's `read` gives, as it is; [`Error::Tampered`] and [`Error::Truncated`] inside an
    /// [`io::Error`], from which [`Error::from`] takes them out.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.state {
            State::Failed => return Err(Error::Failed.into()),
            State::Reading if self.ready.is_empty() => {
                if let Err(error) = self.refill() {
                    self.state = State::Failed;
                    self.ready = 0..0;
                    return Err(error.into());
                }
            }
            _ => {}
        }
        Ok(&self.plain[self.ready.clone()])
    }

    fn consume(&mut self, amount: usize) {
        self.ready.start = self.ready.end.min(self.ready.start + amount);
    }
}

impl<R: Read> Read for Decryptor<R> {
    /// See [`fill_buf`](#method.fill_buf) for the errors.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let plain = self.fill_buf()?;
        let amount = plain.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&plain[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

/// Shows no key and no plaintext.
impl<R> fmt::Debug for Decryptor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decryptor")
            .field("version", &self.header.version)
            .field("offset", &self.offset)
            .field("verified", &self.is_verified())
            .finish_non_exhaustive()
    }
}
