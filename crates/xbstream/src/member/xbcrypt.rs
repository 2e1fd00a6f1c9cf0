//! `.xbcrypt` members: chunks of AES in counter mode.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `XBCRYP03`; older ones `XBCRYP02`, `XBCRYP01` |
//! | 8 | 8 | reserved |
//! | 16 | 8 | original size (version 3: 32 more than the plain bytes) |
//! | 24 | 8 | encrypted size E, the same: counter mode keeps lengths |
//! | 32 | 4 | CRC-32 of the encrypted bytes |
//! | 36 | 8 | IV length 16 (not in version 1) |
//! | 44 | 16 | IV (not in version 1) |
//! | 60 | E | ciphertext of plain bytes and, in version 3, their SHA-256 |
//!
//! Version 3 counts from its IV; versions 1 and 2 always count from zero, so their IV means nothing, and with a wrong
//! key they decrypt to rubbish unnoticed, unless a compressed format inside notices.
//! Source: published descriptions of XtraBackup's `xbcrypt`; no such program was at hand to check against.

use aes::cipher::{KeyIvInit, StreamCipher};
use sha2::{Digest, Sha256};

use super::error::{DecodeError, Format};
use super::key::{Algorithm, Key};
use super::parts::Parts;
use super::pieces::{Scan, batch};
use super::{MAX_BLOCK, Sink};
use crate::chunk::{le_u32, le_u64};

const FORMAT: Format = Format::Xbcrypt;
const HASH: usize = 32;
const IV: usize = 16;
/// Everything before the IV length.
const HEAD: usize = 36;

pub(super) struct Xbcrypt {
    key: Key,
    expect: Expect,
    /// Beginning of the part that is taken.
    at: u64,
    plain: Vec<u8>,
}

/// The part that comes next.
#[derive(Clone, Copy)]
enum Expect {
    /// The first [`HEAD`] bytes.
    Head,
    IvLength {
        head: Head,
    },
    Iv {
        head: Head,
        len: usize,
    },
    Data {
        head: Head,
        iv: [u8; IV],
    },
}

#[derive(Clone, Copy)]
struct Head {
    version: u8,
    size: usize,
    crc: u32,
}

impl Expect {
    fn size(&self) -> usize {
        match *self {
            Self::Head => HEAD,
            Self::IvLength { .. } => 8,
            Self::Iv { len, .. } => len,
            Self::Data { head, .. } => head.size,
        }
    }
}

impl Xbcrypt {
    pub(super) fn new(key: Key) -> Self {
        Self { key, expect: Expect::Head, at: 0, plain: Vec::new() }
    }

    /// Takes a whole part and tells which one follows.
    fn take(&mut self, part: &[u8], out: &mut Sink<'_>) -> Result<Expect, DecodeError> {
        let corrupt = |what| DecodeError::Corrupt { format: FORMAT, at: self.at, what };
        Ok(match self.expect {
            Expect::Head => {
                let head = Head::parse(self.at, part)?;
                match head.version {
                    1 => Expect::Data { head, iv: [0; IV] },
                    _ => Expect::IvLength { head },
                }
            }
            Expect::IvLength { head } => match head.iv_len(part) {
                Some(len) => Expect::Iv { head, len },
                None => return Err(corrupt("IV length is not 16")),
            },
            Expect::Iv { head, .. } => {
                let mut iv = [0; IV];
                if head.version == 3 {
                    iv.copy_from_slice(part);
                }
                Expect::Data { head, iv }
            }
            Expect::Data { head, iv } => {
                let (expected, actual) = (head.crc, crc32fast::hash(part));
                if expected != actual {
                    return Err(DecodeError::Checksum { format: FORMAT, at: self.at, expected, actual });
                }
                self.plain.clear();
                self.plain.extend_from_slice(part);
                apply(&self.key, &iv, &mut self.plain);
                let mut plain = &self.plain[..];
                if head.version == 3 {
                    let (body, hash) = plain.split_at(plain.len() - HASH);
                    if Sha256::digest(body)[..] != *hash {
                        return Err(DecodeError::WrongKey { at: self.at });
                    }
                    plain = body;
                }
                out(plain)?;
                Expect::Head
            }
        })
    }
}

impl Head {
    fn parse(at: u64, part: &[u8]) -> Result<Self, DecodeError> {
        let format = FORMAT;
        let version = match &part[..8] {
            b"XBCRYP03" => 3,
            b"XBCRYP02" => 2,
            b"XBCRYP01" => 1,
            _ => return Err(DecodeError::Magic { format, at, expected: "XBCRYP03, XBCRYP02 or XBCRYP01" }),
        };
        let (original, size) = (le_u64(&part[16..]), le_u64(&part[24..]));
        let limit = (MAX_BLOCK + HASH) as u64;
        if size > limit {
            return Err(DecodeError::TooLarge { format, at, what: "chunk", size, limit });
        }
        if original != size {
            return Err(DecodeError::Corrupt { format, at, what: "two different sizes" });
        }
        if version == 3 && size < HASH as u64 {
            return Err(DecodeError::Corrupt { format, at, what: "chunk too short for its hash" });
        }
        Ok(Self { version, size: size as usize, crc: le_u32(&part[32..]) })
    }

    /// The length of the IV, from its field.
    fn iv_len(&self, field: &[u8]) -> Option<usize> {
        match le_u64(field) {
            16 => Some(IV),
            // Version 2 never uses it.
            len @ 0..=1024 if self.version == 2 => Some(len as usize),
            _ => None,
        }
    }
}

/// A chunk at the front of `input`.
fn chunk(input: &[u8]) -> Scan {
    let Some(start) = input.get(..HEAD) else { return Scan::Short };
    let Ok(head) = Head::parse(0, start) else { return Scan::InOrder };
    let before = match head.version {
        1 => HEAD,
        _ => {
            let Some(field) = input.get(HEAD..HEAD + 8) else { return Scan::Short };
            let Some(iv) = head.iv_len(field) else { return Scan::InOrder };
            HEAD + 8 + iv
        }
    };
    let len = before + head.size;
    match len <= input.len() {
        true => Scan::Whole { len, plain: head.size },
        false => Scan::Short,
    }
}

impl Parts for Xbcrypt {
    const FORMAT: Format = FORMAT;

    fn next_size(&self) -> Option<usize> {
        Some(self.expect.size())
    }

    fn may_end(&self) -> bool {
        matches!(self.expect, Expect::Head)
    }

    fn may_cut(&self) -> bool {
        self.may_end()
    }

    fn scan(&self, input: &[u8]) -> Scan {
        batch(input, chunk)
    }

    fn fork(&self) -> Self {
        Self::new(self.key.clone())
    }

    fn part(&mut self, at: u64, part: &[u8], out: &mut Sink<'_>) -> Result<(), DecodeError> {
        self.at = at;
        self.expect = self.take(part, out)?;
        Ok(())
    }
}

/// Encrypts or decrypts in place; the counter is all 16 bytes of the IV, big-endian.
fn apply(key: &Key, iv: &[u8; IV], data: &mut [u8]) {
    macro_rules! with {
        ($cipher:ty) => {
            // `Key` has checked the length.
            if let Ok(mut cipher) = ctr::Ctr128BE::<$cipher>::new_from_slices(key.bytes(), iv) {
                cipher.apply_keystream(data);
            }
        };
    }
    match key.algorithm() {
        Algorithm::Aes128 => with!(aes::Aes128),
        Algorithm::Aes192 => with!(aes::Aes192),
        Algorithm::Aes256 => with!(aes::Aes256),
    }
}
