//! What the two ends of one attempt know and nobody else.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::Error;
use crate::random::{as_hexadecimal, hexadecimal};

/// The environment variable in which both programs of a sealed transfer are given the key of their attempt.
pub const KEY_VARIABLE: &str = "DBRECOVER_TRANSFER_KEY";

/// How many random bytes a key is made of.
const RANDOM: usize = 32;

/// How long a code is, in hexadecimal digits.
pub(super) const CODE: usize = 64;

/// The block of SHA-256, to which HMAC fills up a key, in bytes.
const BLOCK: usize = 64;

/// What a stream is proved with to belong to one attempt of one transfer. It is not in the stream.
///
/// Two programs that were given none have the same one, so that a stream can be sent and received by hand.
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// The key that this program was given in [`KEY_VARIABLE`].
    pub fn given() -> Self {
        Self::new(std::env::var_os(KEY_VARIABLE).unwrap_or_default().as_bytes())
    }

    /// This key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The code of a text: HMAC-SHA256, hexadecimal.
    pub(super) fn code(&self, text: &str) -> String {
        as_hexadecimal(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Whether this is the code of a text, in constant time.
    pub(super) fn proves(&self, text: &str, code: &[u8]) -> bool {
        self.code(text).as_bytes().ct_eq(code).into()
    }
}

/// A key that no attempt had before, as text.
pub(super) fn random() -> Result<SecretString, Error> {
    hexadecimal::<RANDOM>().map(SecretString::from)
}

/// The two keys that HMAC makes of one, as the `printf` of a shell writes them out: that of the inner hash, that of the
/// outer.
pub(super) fn padded(key: &SecretString) -> [SecretString; 2] {
    let mut block = [0; BLOCK];
    for (byte, of_key) in block.iter_mut().zip(key.expose_secret().bytes()) {
        *byte = of_key;
    }
    [0x36_u8, 0x5c].map(|pad| {
        let mut text = String::with_capacity(4 * BLOCK);
        for byte in block {
            let _ = write!(text, "\\{:03o}", byte ^ pad);
        }
        text.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_that_of_rfc_4231() {
        // Test case 2.
        let code = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let key = Key::new(b"Jefe");
        assert_eq!(key.code("what do ya want for nothing?"), code);
        assert!(key.proves("what do ya want for nothing?", code.as_bytes()));
        assert!(!key.proves("what do ya want for nothing?", &code.as_bytes()[1..]));
        assert!(!Key::new(b"jefe").proves("what do ya want for nothing?", code.as_bytes()));
    }
}
