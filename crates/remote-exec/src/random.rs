//! Random bytes, and bytes as text.

use std::fmt::Write as _;
use std::io;

use crate::Error;

/// Bytes that nobody can guess, in hexadecimal digits.
pub(crate) fn hexadecimal<const N: usize>() -> Result<String, Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::Here { what: "get random bytes", source: io::Error::other(e.to_string()) })?;
    Ok(as_hexadecimal(&bytes))
}

/// Two digits for each byte.
pub(crate) fn as_hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
