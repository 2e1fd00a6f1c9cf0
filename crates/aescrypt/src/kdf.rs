//! From the password to the key that opens the key block (in version 0: the body).

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::Error;

/// PBKDF2 iterations of a version 3 stream unless told otherwise; what AES Crypt itself uses.
pub const DEFAULT_ITERATIONS: u32 = 300_000;

/// Most PBKDF2 iterations that are followed, about 1.5 s of one core. The number stands in the stream, before
/// anything in it is authenticated.
pub const MAX_ITERATIONS: u32 = 5_000_000;

/// Longest password that streams are written with, in characters; pyAesCrypt reads none with a longer one.
pub const MAX_PASSWORD_CHARS: usize = 1024;

/// Rounds of SHA-256 in versions 0 to 2.
const ROUNDS: usize = 8192;

/// A 256-bit key, wiped on drop.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The key of versions 0 to 2.
pub(crate) fn stretched(password: &SecretString, iv: &[u8; 16]) -> Key {
    let password = password.expose_secret();
    // The digest, then the password in UTF-16LE. A character of n UTF-8 bytes has at most 2n in UTF-16, so
    // the buffer never moves and leaves no copy behind.
    let mut message = Zeroizing::new(Vec::with_capacity(32 + 2 * password.len()));
    message.extend_from_slice(iv);
    message.extend_from_slice(&[0; 16]);
    for unit in password.encode_utf16() {
        message.extend_from_slice(&unit.to_le_bytes());
    }
    for _ in 0..ROUNDS {
        let digest = Sha256::digest(message.as_slice());
        message[..32].copy_from_slice(&digest);
    }
    let mut key = Key::default();
    key.copy_from_slice(&message[..32]);
    key
}

/// The key of version 3. The iterations are `asked` for by the caller, or a stream has them.
pub(crate) fn pbkdf2(
    password: &SecretString,
    iv: &[u8; 16],
    iterations: u32,
    asked: bool,
) -> Result<Key, Error> {
    if !(1..=MAX_ITERATIONS).contains(&iterations) {
        return Err(Error::Iterations { iterations, max: MAX_ITERATIONS, asked });
    }
    let mut key = Key::default();
    pbkdf2::pbkdf2_hmac::<Sha512>(password.expose_secret().as_bytes(), iv, iterations, key.as_mut_slice());
    Ok(key)
}
