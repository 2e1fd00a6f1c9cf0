//! Read and write AES Crypt streams, the format of `.aes` files and of pyAesCrypt.
//!
//! [`Decryptor`] pulls plaintext out of any `Read` that yields a stream of version 0, 1, 2 or 3.
//! [`Encryptor`] pushes a version 2 stream (what pyAesCrypt reads) or a version 3 stream into any `Write`.
//! [`decrypt_file`] and [`encrypt_file`] do a whole file and leave nothing behind when they fail.
//!
//! **Bytes are provisional until the read that returns 0.** The format has one HMAC over the whole
//! ciphertext, and it comes last: a [`Decryptor`] cannot know that the stream is whole and unchanged before
//! it has seen the end. Write what it yields to a name that says "not finished", and rename after the end.
//!
//! # Example
//!
//! ```
//! use std::io::{Read, Write};
//! use aescrypt::{Decryptor, Encryptor};
//! use secrecy::SecretString;
//!
//! let password = SecretString::from("correct horse");
//! let mut writer = Encryptor::new(Vec::new(), &password)?;
//! writer.write_all(b"abc123\n")?;
//! let stream = writer.finish()?;
//!
//! let mut plain = Vec::new();
//! Decryptor::new(&stream[..], &password)?.read_to_end(&mut plain)?;
//! assert_eq!(plain, b"abc123\n");
//!
//! let wrong = Decryptor::new(&stream[..], &SecretString::from("battery staple"));
//! assert!(matches!(wrong, Err(aescrypt::Error::WrongPassword)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Stream format
//!
//! Integers are big-endian; sizes in bytes; a number in a version's column says that the part is there.
//!
//! | part | v0 | v1 | v2 | v3 |
//! | --- | --- | --- | --- | --- |
//! | magic `AES` | 3 | 3 | 3 | 3 |
//! | version | 1 | 1 | 1 | 1 |
//! | plaintext size modulo 16 (v0), reserved zero (v1 to v3) | 1 | 1 | 1 | 1 |
//! | extensions: `u16` length and that many bytes (`NAME`, zero byte, contents), repeated; length 0 ends them | | | ≥ 2 | ≥ 2 |
//! | PBKDF2 iterations, `u32` | | | | 4 |
//! | IV of the key block (v1 to v3), of the body (v0); salt of the password's key | 16 | 16 | 16 | 16 |
//! | key block: body IV and body key, AES-256-CBC under the password's key | | 48 | 48 | 48 |
//! | HMAC-SHA256 of the key block under the password's key; in v3 of the key block and a byte 3 | | 32 | 32 | 32 |
//! | body, AES-256-CBC, whole blocks | 16·n | 16·n | 16·n | 16·n |
//! | plaintext size modulo 16 (low four bits; 0: the last block is full) | | 1 | 1 | |
//! | HMAC-SHA256 of the body's ciphertext under the body key | 32 | 32 | 32 | 32 |
//!
//! The password's key is 8192 rounds of `d = SHA-256(d ‖ password in UTF-16LE)` from the IV and 16 zero bytes
//! (v0 to v2), or PBKDF2-HMAC-SHA512 of the password in UTF-8 (v3). v3 fills its last block as PKCS #7 does.
//!
//! Sources: the format pages of AES Crypt for stream versions 0 to 3; checked against pyAesCrypt 0.4.4 to
//! 6.1.1 in both directions (v2), and against an independent reader of the public test suite (v0 to v3).
//!
//! # Limits
//!
//! * What the format cannot notice: the reserved byte, the extensions and the size byte of v0 to v2 are outside
//!   both HMACs. A changed size byte shortens or lengthens the last block by up to 15 bytes, unseen.
//! * A stream cut between two blocks is [`Error::Tampered`]: the HMAC does not match, and nothing tells a cut
//!   from a change. Every other cut is [`Error::Truncated`].
//! * v3 iterations above [`MAX_ITERATIONS`] are refused: they come from the input and cost time.
//! * Memory: about 2 MiB, whatever the size of the stream. A stream of more than one buffer (256 KiB) starts
//!   one thread, which computes the HMAC while the caller's thread does AES.

#![forbid(unsafe_code)]

mod authenticator; // HMAC of the body, in a second thread when it pays
mod blocks; // AES-CBC
mod copy;
mod decryptor;
mod encryptor;
mod error;
mod file;
mod header; // bytes <-> header, and the password check
mod kdf; // password -> key
#[cfg(test)]
mod pieces; // tests in small pieces

pub use copy::{decrypt, encrypt};
pub use decryptor::Decryptor;
pub use encryptor::{Encryptor, Format};
pub use error::{Class, Error, Part};
pub use file::{decrypt_file, decrypt_to_file, encrypt_file, encrypt_to_file};
pub use kdf::{DEFAULT_ITERATIONS, MAX_ITERATIONS, MAX_PASSWORD_CHARS};
